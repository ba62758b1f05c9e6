use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::OnceLock;

use lawvere_token::Tokenizer;
use libsais::SuffixArrayConstruction;
use rayon::prelude::*;

use crate::space::{Arrays, SPACE_SCHEMA, SpaceInfo, Storage, Symbols};
use crate::{Corpus, TextError, TextSpace};

/// Documents are handed to the tokenizer in batches of about this many bytes.
const BATCH_BYTES: usize = 8 << 20;

impl TextSpace {
    /// Builds the index of a corpus in memory; `on_stage` is told what begins.
    ///
    /// O(N) in the number N of tokens and documents; at its peak 14 bytes for each of them (16
    /// beyond 65535 distinct tokens) beside the corpus. The suffix array is built on one thread.
    ///
    /// # Errors
    /// Text that the tokenizer refuses, a corpus without a token, N of 2^31 or more.
    pub fn build(
        corpus: &Corpus,
        tokenizer: &Tokenizer,
        on_stage: &mut dyn FnMut(&str),
    ) -> Result<Self, TextError> {
        on_stage("tokenizing");
        let tokenized = Tokenized::new(corpus, tokenizer)?;
        let (tokens, documents) = (tokenized.tokens(), tokenized.document_starts.len());
        let token_ids = tokenized.distinct();
        // One symbol more than tokens: the document end.
        let narrow = token_ids.len() <= usize::from(u16::MAX);
        let document_starts = tokenized.document_starts.clone();
        let (symbols, suffix_array, lcp) = if narrow {
            let symbols: Vec<u16> = tokenized.symbols(&token_ids, |s| s as u16);
            on_stage("sorting suffixes");
            let sorted = SuffixArrayConstruction::for_text(&symbols)
                .in_owned_buffer32()
                .single_threaded()
                .run()
                .map_err(failed)?;
            on_stage("measuring common prefixes");
            let (sa, plcp, _) = sorted
                .plcp_construction()
                .single_threaded()
                .run()
                .map_err(failed)?
                .into_parts();
            let lcp = clipped_lcp(&sa, plcp, |p| symbols.get(p).is_none_or(|&s| s == 0));
            (Symbols::Narrow(symbols), sa, lcp)
        } else {
            let mut symbols: Vec<i32> = tokenized.symbols(&token_ids, |s| s as i32);
            on_stage("sorting suffixes");
            let sorted = SuffixArrayConstruction::for_text_mut(&mut symbols)
                .in_owned_buffer32()
                .single_threaded()
                .run()
                .map_err(failed)?;
            on_stage("measuring common prefixes");
            let (sa, plcp, _) = sorted
                .plcp_construction()
                .single_threaded()
                .run()
                .map_err(failed)?
                .into_parts();
            let lcp = clipped_lcp(&sa, plcp, |p| symbols.get(p).is_none_or(|&s| s == 0));
            (Symbols::Wide(unsigned(symbols)), sa, lcp)
        };
        Ok(Self {
            info: SpaceInfo {
                schema: SPACE_SCHEMA.into(),
                tool_version: env!("CARGO_PKG_VERSION").into(),
                tokens,
                documents: documents as u64,
                bytes: corpus.bytes(),
                vocab_size: tokenizer.vocab_size() as u64,
                tokenizer_identity: tokenizer.identity().into(),
                corpus_paths: corpus.paths().to_vec(),
                corpus_identity: corpus.identity().into(),
                document_unit: corpus.unit(),
                lossy: corpus.lossy(),
                symbol_bits: if narrow { 16 } else { 32 },
                files: BTreeMap::new(),
            },
            tokenizer: tokenizer.clone(),
            storage: Storage::Owned(Arrays {
                symbols,
                suffix_array: unsigned(suffix_array),
                lcp,
                document_starts,
                token_ids,
            }),
            unigrams: OnceLock::new(),
        })
    }
}

/// The corpus as token ids, a placeholder standing where a document ends.
struct Tokenized {
    ids: Vec<u32>,
    document_starts: Vec<u64>,
    vocab_size: usize,
}

const DOCUMENT_END: u32 = u32::MAX;

impl Tokenized {
    fn new(corpus: &Corpus, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let vocab_size = tokenizer.vocab_size();
        let mut out = Self {
            ids: Vec::new(),
            document_starts: Vec::new(),
            vocab_size,
        };
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for document in corpus.documents() {
            batch.push(document);
            bytes += document.len();
            if bytes >= BATCH_BYTES {
                out.add(tokenizer.encode_batch(&batch)?)?;
                (bytes, batch) = (0, Vec::new());
            }
        }
        out.add(tokenizer.encode_batch(&batch)?)?;
        if out.tokens() == 0 {
            return Err(TextError::NoTokens);
        }
        Ok(out)
    }

    fn add(&mut self, documents: Vec<Vec<u32>>) -> Result<(), TextError> {
        for ids in documents {
            let outside = |&&id: &&u32| id as usize >= self.vocab_size || id == DOCUMENT_END;
            if let Some(&token) = ids.iter().find(outside) {
                return Err(TextError::TokenOutOfRange {
                    token,
                    vocab_size: self.vocab_size,
                });
            }
            let symbols = self.ids.len() + ids.len() + 1;
            if symbols > i32::MAX as usize {
                return Err(TextError::TooLarge { symbols });
            }
            self.document_starts.push(self.ids.len() as u64);
            self.ids.extend_from_slice(&ids);
            self.ids.push(DOCUMENT_END);
        }
        Ok(())
    }

    fn tokens(&self) -> u64 {
        (self.ids.len() - self.document_starts.len()) as u64
    }

    /// The token ids that occur, increasing.
    fn distinct(&self) -> Vec<u32> {
        let mut seen = vec![false; self.vocab_size];
        for &id in &self.ids {
            if let Some(slot) = seen.get_mut(id as usize) {
                *slot = true;
            }
        }
        seen.iter()
            .zip(0..)
            .filter(|(seen, _)| **seen)
            .map(|(_, id)| id)
            .collect()
    }

    fn symbols<S>(self, token_ids: &[u32], narrow: fn(u32) -> S) -> Vec<S> {
        let mut symbol_of = vec![0; self.vocab_size];
        for (&id, symbol) in token_ids.iter().zip(1..) {
            symbol_of[id as usize] = symbol;
        }
        let symbol = |id: u32| symbol_of.get(id as usize).copied().unwrap_or(0);
        self.ids.iter().map(|&id| narrow(symbol(id))).collect()
    }
}

/// The lengths of common prefixes of neighbours in the suffix array, from those in text order.
///
/// A common prefix that is longer than what one suffix has left of its document holds that
/// document's end, hence the other suffix has just as much left: clipping at either is clipping at
/// both, and is one backward pass in text order.
fn clipped_lcp(sa: &[i32], mut plcp: Vec<i32>, ends: impl Fn(usize) -> bool) -> Vec<u32> {
    let mut left = 0;
    for (p, common) in plcp.iter_mut().enumerate().rev() {
        left = if ends(p) { 0 } else { left + 1 };
        *common = (*common).min(left);
    }
    sa.par_iter().map(|&p| plcp[p as usize] as u32).collect()
}

fn unsigned(values: Vec<i32>) -> Vec<u32> {
    values.into_iter().map(|x| x as u32).collect()
}

fn failed(e: impl Display) -> TextError {
    TextError::SuffixArray(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_prefixes_stop_at_document_ends() {
        let documents = ["a b a b", "a b", "a b"];
        let corpus = Corpus::from_documents(documents).unwrap();
        let words = Tokenizer::words(documents.into_iter()).unwrap();
        let space = TextSpace::build(&corpus, &words, &mut |_| {}).unwrap();
        let view = space.view();
        // 1 2 1 2 0 1 2 0 1 2 0
        assert_eq!(view.suffix_array, [10, 7, 4, 8, 5, 2, 0, 9, 6, 3, 1]);
        assert_eq!(view.lcp, [0, 0, 0, 0, 2, 2, 2, 0, 1, 1, 1]);
        assert_eq!(view.document_starts, [0, 5, 8]);
    }

    #[test]
    fn more_than_65535_distinct_tokens_take_wide_symbols() {
        let document: String = (0..70_000).map(|i| format!("w{i} ")).collect();
        let documents = [document.as_str(), "w1 w2", "w1 w2 w69999"];
        let corpus = Corpus::from_documents(documents).unwrap();
        let words = Tokenizer::words(documents.into_iter()).unwrap();
        let space = TextSpace::build(&corpus, &words, &mut |_| {}).unwrap();
        assert_eq!(space.info().symbol_bits, 32);
        let text = words.encode("w1 w2").unwrap();
        assert_eq!(space.count(&text), 3);
        let next = space.next_tokens(&text);
        assert_eq!((next.counts.len(), next.ended), (2, 1));
        let folder = tempfile::tempdir().unwrap();
        space.save(&folder.path().join("index")).unwrap();
        let opened = TextSpace::open(&folder.path().join("index")).unwrap();
        assert_eq!(opened.view(), space.view());
    }
}
