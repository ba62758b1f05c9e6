use std::collections::HashMap;
use std::fmt::Display;
use std::sync::mpsc::sync_channel;

use bytemuck::Pod;
use lawvere_token::Tokenizer;
use libsais::SuffixArrayConstruction;
use rayon::prelude::*;

use crate::corpus::{Batch, Summary, bytes_of_hex, documents, identity};
use crate::pages::Pages;
use crate::shard::{Arrays, LCP_LIMIT, Shard, ShardInfo, Storage, Symbols};
use crate::space::{Checksums, SPACE_SCHEMA, SpaceInfo};
use crate::{Corpus, CorpusReader, TextError, TextSpace};

/// Documents in memory are handed to the tokenizer in batches of about this many bytes.
const BATCH_BYTES: usize = 8 << 20;
/// Batches that are read ahead of the tokenizer.
const AHEAD: usize = 2;

/// How an index is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildOptions {
    /// The most symbols (tokens and document ends) of a shard; what is built takes 10 bytes of memory for each
    /// of them (12 beyond 65535 distinct tokens).
    pub shard_symbols: usize,
}

impl BuildOptions {
    /// The most a shard can hold: 2^31 - 1.
    pub const LARGEST_SHARD: usize = i32::MAX as usize;
}

impl Default for BuildOptions {
    /// Shards of 2^29 symbols, 6 GB to build.
    fn default() -> Self {
        Self {
            shard_symbols: 1 << 29,
        }
    }
}

impl TextSpace {
    /// Builds the index of a corpus in memory; `on_stage` is told what begins.
    ///
    /// O(N) in the number N of tokens and documents; at its peak 11 bytes for each of them (13
    /// beyond 65535 distinct tokens) beside the corpus. The suffix array is built on one thread.
    ///
    /// # Errors
    /// Text that the tokenizer refuses, a corpus without a token, a document of 2^29 tokens or more.
    pub fn build(
        corpus: &Corpus,
        tokenizer: &Tokenizer,
        on_stage: &mut dyn FnMut(&str),
    ) -> Result<Self, TextError> {
        Self::build_with(corpus, tokenizer, &BuildOptions::default(), on_stage)
    }

    /// [`build`](Self::build) with other shards.
    ///
    /// # Errors
    /// As there; a document that no shard holds.
    pub fn build_with(
        corpus: &Corpus,
        tokenizer: &Tokenizer,
        options: &BuildOptions,
        on_stage: &mut dyn FnMut(&str),
    ) -> Result<Self, TextError> {
        on_stage("tokenizing");
        let mut shards = Vec::new();
        let mut keep = |info, mut arrays: Arrays| {
            arrays.lcp = Pages::copied(&arrays.lcp).map_err(no_memory)?;
            shards.push(Shard::new(info, Storage::Owned(arrays)));
            Ok(())
        };
        let mut builder = Builder::new(tokenizer, options, on_stage, &mut keep)?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for document in corpus.documents() {
            batch.push(document);
            bytes += document.len();
            if bytes >= BATCH_BYTES {
                builder.add_texts(&batch)?;
                (bytes, batch) = (0, Vec::new());
            }
        }
        builder.add_texts(&batch)?;
        let (tokens, documents) = builder.finish()?;
        let given = corpus.options();
        let info = SpaceInfo {
            schema: SPACE_SCHEMA.into(),
            tool_version: env!("CARGO_PKG_VERSION").into(),
            tokens,
            documents,
            bytes: corpus.bytes(),
            vocab_size: tokenizer.vocab_size() as u64,
            tokenizer_identity: tokenizer.identity().into(),
            corpus_paths: given.map_or(Vec::new(), |g| g.paths.clone()),
            corpus_identity: corpus.identity().into(),
            reading: given.map(|g| g.reading()),
            sources: corpus.sources().to_vec(),
            shards: shards.iter().map(|s: &Shard| s.info.clone()).collect(),
            tokenizer_checksum: String::new(),
            checksum: String::new(),
        };
        Ok(Self::new(info, tokenizer.clone(), shards))
    }
}

/// What reading, tokenizing and sorting a corpus left beside its shards.
pub(crate) struct Built {
    pub summary: Summary,
    pub tokens: u64,
    pub documents: u64,
}

/// Reads and tokenizes a corpus, and hands on shards as they are finished. Reading runs ahead of the tokenizer by a
/// few batches; batches are tokenized on all threads.
pub(crate) fn build_shards(
    reader: &CorpusReader,
    tokenizer: &Tokenizer,
    options: &BuildOptions,
    on_stage: &mut dyn FnMut(&str),
    keep: &mut dyn FnMut(ShardInfo, Arrays) -> Result<(), TextError>,
) -> Result<Built, TextError> {
    on_stage("reading and tokenizing");
    let mut builder = Builder::new(tokenizer, options, on_stage, keep)?;
    let vocab_size = tokenizer.vocab_size();
    let (sender, batches) = sync_channel::<Batch>(AHEAD);
    let (summary, finished) = std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut emit = |batch| sender.send(batch).map_err(|_| TextError::NoDocuments);
            reader.read(vocab_size, &mut emit)
        });
        let mut add = |batch| match batch {
            Batch::Texts { text, ends } => {
                let texts: Vec<&str> = documents(&text, &ends).collect();
                builder.add_texts(&texts)
            }
            Batch::Tokens(ids) => builder.add_tokens(&ids),
            Batch::EndOfDocument => builder.end_document(),
            Batch::End => Ok(()),
        };
        // Files may still be hashed while the last shard is sorted, so that the end is not waited for.
        let mut whole = false;
        let mut added = Ok(());
        for batch in &batches {
            whole = matches!(batch, Batch::End);
            added = add(batch);
            if whole || added.is_err() {
                break;
            }
        }
        drop(batches);
        let finished = added.and_then(|()| whole.then(|| builder.finish()).transpose());
        let summary = reading.join().unwrap_or_else(|_| {
            Err(TextError::Inconsistent {
                problem: "the reader of the corpus stopped".into(),
            })
        });
        (summary, finished)
    });
    // A reader that nobody listens to any more fails for that; the builder's error is the one that counts.
    let finished = finished?;
    let (summary, (tokens, documents)) = (summary?, finished.unwrap_or_default());
    Ok(Built {
        summary,
        tokens,
        documents,
    })
}

/// Tokens of a shard that is being filled, as one more than their ids; 0 stands where a document ends.
enum Filling {
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

impl Filling {
    fn len(&self) -> usize {
        match self {
            Self::Narrow(s) => s.len(),
            Self::Wide(s) => s.len(),
        }
    }

    /// The symbols from `from` on, taken out.
    fn split_off(&mut self, from: usize) -> Self {
        match self {
            Self::Narrow(s) => Self::Narrow(s.split_off(from)),
            Self::Wide(s) => Self::Wide(s.split_off(from)),
        }
    }
}

struct Builder<'a> {
    tokenizer: &'a Tokenizer,
    vocab_size: usize,
    shard_symbols: usize,
    filling: Filling,
    /// Where documents begin; the last one may still be open.
    starts: Vec<u32>,
    open: bool,
    finished: usize,
    tokens: u64,
    documents: u64,
    on_stage: &'a mut dyn FnMut(&str),
    keep: &'a mut dyn FnMut(ShardInfo, Arrays) -> Result<(), TextError>,
}

impl<'a> Builder<'a> {
    fn new(
        tokenizer: &'a Tokenizer,
        options: &BuildOptions,
        on_stage: &'a mut dyn FnMut(&str),
        keep: &'a mut dyn FnMut(ShardInfo, Arrays) -> Result<(), TextError>,
    ) -> Result<Self, TextError> {
        let most = BuildOptions::LARGEST_SHARD;
        if !(2..=most).contains(&options.shard_symbols) {
            return Err(TextError::Option {
                option: "shard-tokens",
                problem: format!("must be from 2 to {most}"),
            });
        }
        let vocab_size = tokenizer.vocab_size();
        Ok(Self {
            tokenizer,
            vocab_size,
            shard_symbols: options.shard_symbols,
            filling: empty(vocab_size),
            starts: Vec::new(),
            open: false,
            finished: 0,
            tokens: 0,
            documents: 0,
            on_stage,
            keep,
        })
    }

    fn add_texts(&mut self, texts: &[&str]) -> Result<(), TextError> {
        for ids in self.tokenizer.encode_batch(texts)? {
            self.begin_document();
            self.add_tokens(&ids)?;
            self.end_document()?;
        }
        Ok(())
    }

    fn begin_document(&mut self) {
        if !self.open {
            self.open = true;
            self.starts.push(self.filling.len() as u32);
        }
    }

    fn add_tokens(&mut self, ids: &[u32]) -> Result<(), TextError> {
        self.begin_document();
        if let Some(&token) = ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            return Err(TextError::TokenOutOfRange {
                token,
                vocab_size: self.vocab_size,
            });
        }
        // A document that does not fit any more begins the next shard.
        let begun = self.starts.last().map_or(0, |&s| s as usize);
        let (limit, room) = (self.shard_symbols, ids.len() + 1);
        if self.filling.len() + room > limit {
            let tokens = self.filling.len() - begun + ids.len();
            if tokens >= limit {
                return Err(TextError::TooLarge { tokens, limit });
            }
            if begun > 0 {
                let rest = self.filling.split_off(begun);
                self.starts.pop();
                self.finish_shard()?;
                self.filling = rest;
                self.starts.push(0);
            }
        }
        match &mut self.filling {
            Filling::Narrow(s) => s.extend(ids.iter().map(|&id| id as u16 + 1)),
            Filling::Wide(s) => s.extend(ids.iter().map(|&id| id + 1)),
        }
        self.tokens += ids.len() as u64;
        Ok(())
    }

    fn end_document(&mut self) -> Result<(), TextError> {
        match &mut self.filling {
            Filling::Narrow(s) => s.push(0),
            Filling::Wide(s) => s.push(0),
        }
        self.open = false;
        self.documents += 1;
        Ok(())
    }

    /// Sorts what is left; the numbers of tokens and documents.
    fn finish(mut self) -> Result<(u64, u64), TextError> {
        if self.tokens == 0 {
            return Err(TextError::NoTokens);
        }
        if !self.starts.is_empty() {
            self.finish_shard()?;
        }
        Ok((self.tokens, self.documents))
    }

    fn finish_shard(&mut self) -> Result<(), TextError> {
        let filled = std::mem::replace(&mut self.filling, empty(self.vocab_size));
        let starts = std::mem::take(&mut self.starts);
        let (symbols, token_ids) = numbered(filled, self.vocab_size)?;
        let mut prefix = String::new();
        if self.finished > 0 {
            prefix = format!("shard {}: ", self.finished + 1);
        }
        let symbols_in_all = symbols.len();
        let symbol_bits = symbols.bits();
        let on_stage = &mut *self.on_stage;
        let arrays = sorted(symbols, starts, token_ids, &mut |stage| {
            on_stage(&format!("{prefix}{stage}"));
        })?;
        self.finished += 1;
        let documents = arrays.document_starts.len();
        let info = ShardInfo {
            file: String::new(),
            tokens: (symbols_in_all - documents) as u64,
            documents: documents as u64,
            symbol_bits,
            checksums: Checksums::new(),
        };
        (self.keep)(info, arrays)
    }
}

fn empty(vocab_size: usize) -> Filling {
    match vocab_size <= usize::from(u16::MAX) {
        true => Filling::Narrow(Vec::new()),
        false => Filling::Wide(Vec::new()),
    }
}

/// Ids that occur numbered from 1 in increasing order, and the ids by number. As many numbers as 16 bits hold are of
/// 16 bits.
fn numbered(filled: Filling, vocab_size: usize) -> Result<(Symbols, Vec<u32>), TextError> {
    let mut seen = vec![false; vocab_size + 1];
    match &filled {
        Filling::Narrow(s) => s.iter().for_each(|&x| seen[usize::from(x)] = true),
        Filling::Wide(s) => s.iter().for_each(|&x| seen[x as usize] = true),
    }
    seen[0] = false;
    let occurring = seen.iter().zip(0u32..).filter(|(seen, _)| **seen);
    let token_ids: Vec<u32> = occurring.map(|(_, place)| place - 1).collect();
    let mut number = vec![0u32; vocab_size + 1];
    for (&id, symbol) in token_ids.iter().zip(1..) {
        number[id as usize + 1] = symbol;
    }
    let symbols = match filled {
        Filling::Narrow(s) => Symbols::Narrow(mapped(&s, |x| number[usize::from(x)] as u16)?),
        Filling::Wide(s) if token_ids.len() <= usize::from(u16::MAX) => {
            Symbols::Narrow(mapped(&s, |x| number[x as usize] as u16)?)
        }
        Filling::Wide(s) => Symbols::Wide(mapped(&s, |x| number[x as usize])?),
    };
    Ok((symbols, token_ids))
}

fn mapped<A: Pod + Sync, B: Pod + Send + Sync>(
    values: &[A],
    of: impl Fn(A) -> B + Sync,
) -> Result<Pages<B>, TextError> {
    let mut out = Pages::zeroed(values.len()).map_err(no_memory)?;
    let pairs = out.par_iter_mut().zip(values);
    pairs.for_each(|(out, &value)| *out = of(value));
    Ok(out)
}

pub(crate) fn no_memory(error: std::io::Error) -> TextError {
    TextError::SuffixArray(error.to_string())
}

impl Symbols {
    fn len(&self) -> usize {
        match self {
            Self::Narrow(s) => s.len(),
            Self::Wide(s) => s.len(),
        }
    }

    pub(crate) fn bits(&self) -> u32 {
        match self {
            Self::Narrow(_) => 16,
            Self::Wide(_) => 32,
        }
    }
}

/// A shard's suffix array and common prefixes.
pub(crate) fn sorted(
    symbols: Symbols,
    document_starts: Vec<u32>,
    token_ids: Vec<u32>,
    on_stage: &mut dyn FnMut(&str),
) -> Result<Arrays, TextError> {
    on_stage("sorting suffixes");
    let mut symbols = symbols;
    let n = symbols.len();
    let mut suffix_array = Pages::<u32>::zeroed(n).map_err(no_memory)?;
    let mut prefixes = Pages::<u32>::zeroed(n).map_err(no_memory)?;
    suffix_array.lay_out();
    let sa: &mut [i32] = bytemuck::cast_slice_mut(&mut suffix_array);
    match &mut symbols {
        Symbols::Narrow(symbols) => {
            let sorting = SuffixArrayConstruction::for_text(symbols).in_borrowed_buffer(sa);
            let sorted = meanwhile(&mut prefixes, || sorting.single_threaded().run());
            let measured = sorted.map_err(failed)?.plcp_construction();
            on_stage("measuring common prefixes");
            let plcp: &mut [i32] = bytemuck::cast_slice_mut(&mut prefixes);
            let measured = measured.in_borrowed_buffer(plcp).single_threaded();
            measured.run().map_err(failed)?;
        }
        Symbols::Wide(symbols) => {
            let symbols: &mut [i32] = bytemuck::cast_slice_mut(symbols);
            let sorting = SuffixArrayConstruction::for_text_mut(symbols).in_borrowed_buffer(sa);
            let sorted = meanwhile(&mut prefixes, || sorting.single_threaded().run());
            let measured = sorted.map_err(failed)?.plcp_construction();
            on_stage("measuring common prefixes");
            let plcp: &mut [i32] = bytemuck::cast_slice_mut(&mut prefixes);
            let measured = measured.in_borrowed_buffer(plcp).single_threaded();
            measured.run().map_err(failed)?;
        }
    }
    match &symbols {
        Symbols::Narrow(symbols) => clip(&mut prefixes, symbols),
        Symbols::Wide(symbols) => clip(&mut prefixes, symbols),
    }
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut prefixes);
    for p in 0..n {
        // Every number is a byte now, the first of its four.
        bytes[p] = bytes[size_of::<u32>() * p];
    }
    // In the order of suffixes they go into what has become free.
    let (clipped, free) = bytes.split_at_mut(n);
    let sorted = free.par_iter_mut().zip(&*suffix_array);
    sorted.for_each(|(slot, &p)| *slot = clipped[p as usize]);
    Ok(Arrays {
        symbols,
        suffix_array,
        lcp: prefixes.into_bytes(n..2 * n),
        document_starts,
        token_ids,
    })
}

/// Sorts on this thread while others have the memory laid out that is written to next.
fn meanwhile<T>(next: &mut Pages<u32>, sort: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        scope.spawn(|| next.lay_out());
        sort()
    })
}

/// Cuts the lengths of common prefixes, in the order of the text, at 255 and at the end of the document.
///
/// A common prefix that is longer than what one suffix has left of its document holds that
/// document's end, hence the other suffix has just as much left: clipping at either is clipping at
/// both, and is one backward pass.
fn clip<S: Pod + Eq>(prefixes: &mut [u32], symbols: &[S]) {
    let (end, mut left) = (S::zeroed(), 0);
    for (common, symbol) in prefixes.iter_mut().zip(symbols).rev() {
        left = match *symbol == end {
            true => 0,
            false => (left + 1).min(LCP_LIMIT as u32),
        };
        *common = left.min(*common);
    }
}

fn failed(e: impl Display) -> TextError {
    TextError::SuffixArray(e.to_string())
}

/// The white-space words of a corpus that is too large for memory, by decreasing frequency.
///
/// # Errors
/// As reading the corpus; files of token ids.
pub fn words_of(reader: &CorpusReader) -> Result<Tokenizer, TextError> {
    if reader.holds_tokens() {
        return Err(TextError::TokensNeedTokenizer);
    }
    let mut counts: HashMap<String, u64> = HashMap::new();
    reader.read(0, &mut |batch| {
        if let Batch::Texts { text, ends } = batch {
            for word in documents(&text, &ends).flat_map(str::split_whitespace) {
                match counts.get_mut(word) {
                    Some(count) => *count += 1,
                    None => {
                        counts.insert(word.to_owned(), 1);
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(Tokenizer::by_frequency(counts)?)
}

impl SpaceInfo {
    /// Of an index without a shard.
    pub(crate) fn empty(tokenizer: &Tokenizer) -> Self {
        Self {
            schema: SPACE_SCHEMA.into(),
            tool_version: env!("CARGO_PKG_VERSION").into(),
            tokens: 0,
            documents: 0,
            bytes: 0,
            vocab_size: tokenizer.vocab_size() as u64,
            tokenizer_identity: tokenizer.identity().into(),
            corpus_paths: Vec::new(),
            corpus_identity: String::new(),
            reading: None,
            sources: Vec::new(),
            shards: Vec::new(),
            tokenizer_checksum: String::new(),
            checksum: String::new(),
        }
    }

    /// Takes in what was built and where it came from; not its shards.
    pub(crate) fn add(&mut self, built: &Built, reader: &CorpusReader) {
        let (first, given) = (self.documents == 0, &reader.options);
        let reading = Some(given.reading());
        self.tool_version = env!("CARGO_PKG_VERSION").into();
        if first || self.reading == reading {
            self.reading = reading;
        } else {
            self.reading = None;
        }
        self.tokens += built.tokens;
        self.documents += built.documents;
        self.bytes += built.summary.bytes();
        // Texts from memory are known by one digest of them all.
        let known = !self.sources.is_empty() || first;
        let old = bytes_of_hex(&self.corpus_identity).filter(|_| !known);
        self.sources.extend(built.summary.sources.iter().cloned());
        let digests = self.sources.iter().filter_map(|s| s.digest());
        self.corpus_identity = identity(old.into_iter().chain(digests));
        self.corpus_paths.extend(given.paths.iter().cloned());
    }
}
