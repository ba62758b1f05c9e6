use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;

use lawvere_token::{Mmap, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::corpus::DocumentUnit;
use crate::query::NextCounts;

#[cfg(target_endian = "big")]
compile_error!("an index is little-endian and is mapped as it is");

/// The schema of `space.json`.
pub const SPACE_SCHEMA: &str = "lawvere-text-space/1";

/// What an index rests on: the contents of `space.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceInfo {
    /// [`SPACE_SCHEMA`].
    pub schema: String,
    /// The version of Lawvere that built it.
    pub tool_version: String,
    /// The number of tokens, document ends not counted.
    pub tokens: u64,
    /// The number of documents.
    pub documents: u64,
    /// The number of bytes of the corpus.
    pub bytes: u64,
    /// The tokenizer's number of tokens.
    pub vocab_size: u64,
    /// The tokenizer's identity.
    pub tokenizer_identity: String,
    /// The paths of the corpus, as they were given.
    pub corpus_paths: Vec<PathBuf>,
    /// The identity of the corpus.
    pub corpus_identity: String,
    /// What counted as a document; `None` for texts from memory.
    pub document_unit: Option<DocumentUnit>,
    /// Whether bytes that are not UTF-8 were to be replaced.
    pub lossy: bool,
    /// The width of a symbol in bits: 16, or 32 beyond 65535 distinct tokens.
    pub symbol_bits: u32,
    /// The SHA-256 of every other file of the index; empty as long as it is only in memory.
    pub files: BTreeMap<String, String>,
}

/// The index of a corpus: the suffix array of its tokens, with which every count of a text and
/// every next-token law of the data, k_data, is a few binary searches.
///
/// Token ids that occur are numbered from 1 in increasing order (*symbols*), and symbol 0 follows
/// every document. With N symbols in all it holds the symbols, the suffix array and the lengths of
/// common prefixes, clipped at document ends: 10 or 12 bytes a symbol, in memory after
/// [`build`](Self::build), mapped from a file after [`open`](Self::open).
///
/// *Source:* Nong, Zhang, Chan, *Two efficient algorithms for linear time suffix array
/// construction* (2011), in Grebnov's `libsais`; Karkkainen, Manzini, Puglisi, *Permuted
/// longest-common-prefix array* (2009).
#[derive(Debug)]
pub struct TextSpace {
    pub(crate) info: SpaceInfo,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) storage: Storage,
    /// What follows the empty text: asked for often, and long.
    pub(crate) unigrams: OnceLock<NextCounts>,
}

#[derive(Debug)]
pub(crate) enum Storage {
    Owned(Arrays),
    Mapped(MappedArrays),
}

#[derive(Debug)]
pub(crate) enum Symbols {
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

#[derive(Debug)]
pub(crate) struct Arrays {
    pub symbols: Symbols,
    pub suffix_array: Vec<u32>,
    pub lcp: Vec<u32>,
    pub document_starts: Vec<u64>,
    pub token_ids: Vec<u32>,
}

/// Byte ranges of a mapped file; lengths and alignments were checked when it was opened.
#[derive(Debug)]
pub(crate) struct MappedArrays {
    pub map: Mmap,
    pub wide: bool,
    pub symbols: Range<usize>,
    pub suffix_array: Range<usize>,
    pub lcp: Range<usize>,
    pub document_starts: Range<usize>,
    pub token_ids: Range<usize>,
}

/// Symbols of either width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum SymbolSlice<'a> {
    Narrow(&'a [u16]),
    Wide(&'a [u32]),
}

impl SymbolSlice<'_> {
    /// The symbol at `position`; beyond the end a document end, 0.
    #[inline]
    pub fn get(self, position: usize) -> u32 {
        match self {
            Self::Narrow(s) => s.get(position).map_or(0, |&x| u32::from(x)),
            Self::Wide(s) => s.get(position).copied().unwrap_or(0),
        }
    }

    /// How the symbols from `position` on compare with `pattern`; equal if they begin with it.
    #[inline]
    pub fn compare(self, position: usize, pattern: &[u32]) -> Ordering {
        pattern
            .iter()
            .zip(position..)
            .map(|(wanted, at)| self.get(at).cmp(wanted))
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

/// The arrays of an index, wherever they lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View<'a> {
    pub symbols: SymbolSlice<'a>,
    pub suffix_array: &'a [u32],
    pub lcp: &'a [u32],
    pub document_starts: &'a [u64],
    pub token_ids: &'a [u32],
}

impl View<'_> {
    /// The number of symbols, document ends included.
    pub fn len(&self) -> usize {
        self.suffix_array.len()
    }

    /// The symbol `depth` places into the `rank`-th suffix.
    #[inline]
    pub fn symbol_at(&self, rank: usize, depth: usize) -> u32 {
        self.suffix_array
            .get(rank)
            .map_or(0, |&p| self.symbols.get(p as usize + depth))
    }

    /// Where the run of suffixes ends that have the same symbol at `depth` as suffix `start`,
    /// within `start..end`, whose symbols at `depth` increase. O(log of the run), by galloping.
    pub fn run_end(&self, start: usize, end: usize, depth: usize) -> usize {
        let symbol = self.symbol_at(start, depth);
        let (mut low, mut step) = (start + 1, 1);
        while low + step <= end && self.symbol_at(low + step - 1, depth) == symbol {
            low += step;
            step *= 2;
        }
        let high = (low + step - 1).min(end);
        let same = |&p: &u32| self.symbols.get(p as usize + depth) == symbol;
        low + self
            .suffix_array
            .get(low..high)
            .map_or(0, |s| s.partition_point(same))
    }

    /// The suffixes that begin with `pattern`, whose symbols are not 0. O(len log N).
    pub fn interval(&self, pattern: &[u32]) -> Range<usize> {
        if pattern.is_empty() {
            return 0..self.len();
        }
        let compare = |p: u32| self.symbols.compare(p as usize, pattern);
        let start = self.suffix_array.partition_point(|&p| compare(p).is_lt());
        let rest = &self.suffix_array[start..];
        start..start + rest.partition_point(|&p| compare(p).is_eq())
    }

    /// The symbol of a token; `None` for one that does not occur.
    pub fn symbol_of(&self, token: u32) -> Option<u32> {
        self.token_ids
            .binary_search(&token)
            .ok()
            .map(|i| i as u32 + 1)
    }

    /// The token of a symbol; `None` for a document end.
    pub fn token_of(&self, symbol: u32) -> Option<u32> {
        self.token_ids.get(symbol.checked_sub(1)? as usize).copied()
    }

    /// The positions of document `i`'s symbols, its end not included.
    pub fn document(&self, i: usize) -> Option<Range<usize>> {
        let start = *self.document_starts.get(i)? as usize;
        let next = self
            .document_starts
            .get(i + 1)
            .map_or(self.len(), |&p| p as usize);
        Some(start..next.saturating_sub(1).max(start))
    }
}

impl TextSpace {
    pub(crate) fn view(&self) -> View<'_> {
        match &self.storage {
            Storage::Owned(a) => View {
                symbols: match &a.symbols {
                    Symbols::Narrow(s) => SymbolSlice::Narrow(s),
                    Symbols::Wide(s) => SymbolSlice::Wide(s),
                },
                suffix_array: &a.suffix_array,
                lcp: &a.lcp,
                document_starts: &a.document_starts,
                token_ids: &a.token_ids,
            },
            Storage::Mapped(m) => m.view(),
        }
    }

    /// What the index rests on.
    pub fn info(&self) -> &SpaceInfo {
        &self.info
    }

    /// The tokenizer of the corpus.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokenizer's number of tokens; the end of a document is the outcome with this index.
    pub fn vocab_size(&self) -> usize {
        self.info.vocab_size as usize
    }

    /// The number of tokens, document ends not counted.
    pub fn tokens(&self) -> u64 {
        self.info.tokens
    }

    /// The number of documents.
    pub fn documents(&self) -> usize {
        self.info.documents as usize
    }

    /// The tokens that occur, increasing.
    pub fn token_ids(&self) -> &[u32] {
        self.view().token_ids
    }

    /// The tokens of document `i`; `None` beyond the last. O(its length).
    pub fn document_tokens(&self, i: usize) -> Option<Vec<u32>> {
        let view = self.view();
        let tokens = view
            .document(i)?
            .filter_map(|p| view.token_of(view.symbols.get(p)));
        Some(tokens.collect())
    }

    /// The number of tokens of the longest document. O(documents).
    pub fn longest_document(&self) -> usize {
        let view = self.view();
        (0..self.documents())
            .filter_map(|i| view.document(i))
            .map(|d| d.len())
            .max()
            .unwrap_or(0)
    }
}

impl MappedArrays {
    fn slice<T: bytemuck::Pod>(&self, range: &Range<usize>) -> &[T] {
        self.map
            .get(range.clone())
            .and_then(|bytes| bytemuck::try_cast_slice(bytes).ok())
            .unwrap_or_default()
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            symbols: if self.wide {
                SymbolSlice::Wide(self.slice(&self.symbols))
            } else {
                SymbolSlice::Narrow(self.slice(&self.symbols))
            },
            suffix_array: self.slice(&self.suffix_array),
            lcp: self.slice(&self.lcp),
            document_starts: self.slice(&self.document_starts),
            token_ids: self.slice(&self.token_ids),
        }
    }
}
