use std::cmp::Ordering;
use std::ops::Range;
use std::sync::OnceLock;

use lawvere_token::Mmap;
use serde::{Deserialize, Serialize};

use rayon::prelude::*;

use crate::lookup::{Lookup, Ranks};
use crate::pages::Pages;

#[cfg(target_endian = "big")]
compile_error!("an index is little-endian and is mapped as it is");

/// One suffix array with its text: what an entry of `shards` in `space.json` says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardInfo {
    /// The file in the index's folder; empty as long as it is only in memory.
    pub file: String,
    /// The number of tokens, document ends not counted.
    pub tokens: u64,
    /// The number of documents.
    pub documents: u64,
    /// The width of a symbol in bits: 16, or 32 beyond 65535 distinct tokens.
    pub symbol_bits: u32,
    /// The BLAKE3 hash of each array of the file, and of its header.
    pub checksums: std::collections::BTreeMap<String, String>,
}

/// A part of the corpus, and what was derived of it.
#[derive(Debug)]
pub(crate) struct Shard {
    pub info: ShardInfo,
    pub storage: Storage,
    /// Made when the first question is asked.
    lookup: OnceLock<Option<Lookup>>,
}

#[derive(Debug)]
pub(crate) enum Storage {
    Owned(Arrays),
    Mapped(MappedArrays),
}

#[derive(Debug)]
pub(crate) enum Symbols {
    Narrow(Pages<u16>),
    Wide(Pages<u32>),
}

impl Symbols {
    pub fn slice(&self) -> SymbolSlice<'_> {
        match self {
            Self::Narrow(s) => SymbolSlice::Narrow(s),
            Self::Wide(s) => SymbolSlice::Wide(s),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Arrays {
    pub symbols: Symbols,
    pub suffix_array: Pages<u32>,
    pub lcp: Pages<u8>,
    pub document_starts: Vec<u32>,
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

/// The largest common prefix that is written down; it stands for itself and everything above.
pub(crate) const LCP_LIMIT: usize = u8::MAX as usize;

/// The arrays of a shard, wherever they lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View<'a> {
    pub symbols: SymbolSlice<'a>,
    pub suffix_array: &'a [u32],
    pub lcp: &'a [u8],
    pub document_starts: &'a [u32],
    pub token_ids: &'a [u32],
}

impl View<'_> {
    /// The number of symbols, document ends included.
    pub fn len(&self) -> usize {
        self.suffix_array.len()
    }

    /// Where the `rank`-th suffix begins.
    #[inline]
    pub fn position(&self, rank: usize) -> usize {
        self.suffix_array.get(rank).map_or(0, |&p| p as usize)
    }

    /// The symbol `depth` places into the `rank`-th suffix.
    #[inline]
    pub fn symbol_at(&self, rank: usize, depth: usize) -> u32 {
        self.symbols.get(self.position(rank) + depth)
    }

    /// Where the run of suffixes ends that have the same symbol at `depth` as suffix `start`,
    /// within `start..end`, whose symbols at `depth` increase. O(log of the run), by galloping.
    pub fn run_end(&self, start: usize, end: usize, depth: usize) -> usize {
        let symbol = self.symbol_at(start, depth);
        let same = |&p: &u32| self.symbols.get(p as usize + depth) == symbol;
        gallop(self.suffix_array, start..end, same)
    }

    /// Visits the runs of equal symbols at `depth` among suffixes that agree up to there, symbols
    /// increasing: with the next symbol, the ranks. Ends of documents are symbol 0, in one run.
    pub fn for_each_run(
        &self,
        Range { start, end }: Range<usize>,
        depth: usize,
        visit: &mut impl FnMut(u32, Range<usize>),
    ) {
        let mut child = start;
        if child < end && self.symbol_at(child, depth) == 0 {
            // Common prefixes end with the document, so that every one of these is a run there.
            let next = self.run_end(child, end, depth);
            visit(0, child..next);
            child = next;
        }
        let Some(boundary) = u8::try_from(depth).ok().filter(|&d| d < u8::MAX) else {
            while child < end {
                let next = self.run_end(child, end, depth);
                visit(self.symbol_at(child, depth), child..next);
                child = next;
            }
            return;
        };
        // A run begins where a suffix has no more than `depth` symbols in common with the one before. All are found
        // before the text is looked at: so many places of it are fetched at once.
        let within = self.lcp.get(child + 1..end).unwrap_or_default();
        let found = memchr::memchr_iter(boundary, within).map(|offset| (child + 1 + offset) as u32);
        let mut starts: Vec<u32> = Vec::with_capacity(16);
        if child < end {
            starts.push(child as u32);
            starts.extend(found);
        }
        let positions = starts.iter().map(|&rank| self.position(rank as usize));
        let places: Vec<usize> = positions.map(|p| p + depth).collect();
        let symbols: Vec<u32> = match self.symbols {
            SymbolSlice::Narrow(s) => {
                let at = places
                    .iter()
                    .map(|&p| s.get(p).map_or(0, |&x| u32::from(x)));
                at.collect()
            }
            SymbolSlice::Wide(s) => places.iter().map(|&p| s.get(p).map_or(0, |&x| x)).collect(),
        };
        let ends = starts.iter().skip(1).map(|&rank| rank as usize);
        let runs = starts.iter().zip(ends.chain([end])).zip(symbols);
        for ((&start, end), symbol) in runs {
            visit(symbol, start as usize..end);
        }
    }

    /// Whether suffix `rank` begins with the same `depth` tokens as the one before it.
    pub fn shares(&self, rank: usize, depth: usize) -> bool {
        let common = self.lcp.get(rank).map_or(0, |&c| usize::from(c));
        if common < LCP_LIMIT {
            return common >= depth;
        }
        (LCP_LIMIT..depth).all(|at| {
            let symbol = self.symbol_at(rank, at);
            symbol != 0 && symbol == self.symbol_at(rank - 1, at)
        })
    }

    /// The suffixes that begin with `tokens`, by a binary search over all. O(len log N).
    pub fn interval(&self, tokens: &[u32]) -> Range<usize> {
        let symbol = |token| self.token_ids.binary_search(token).map(|i| i as u32 + 1);
        let pattern: Result<Vec<u32>, usize> = tokens.iter().map(symbol).collect();
        let Ok(pattern) = pattern else {
            return 0..0;
        };
        let compare = |p: u32| self.symbols.compare(p as usize, &pattern);
        let start = self.suffix_array.partition_point(|&p| compare(p).is_lt());
        let rest = self.suffix_array.get(start..).unwrap_or_default();
        start..start + rest.partition_point(|&p| compare(p).is_eq())
    }

    /// The token of a symbol; `None` for a document end.
    #[inline]
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

    /// The document that a position lies in.
    pub fn document_of(&self, position: u32) -> usize {
        let after = self.document_starts.partition_point(|&s| s <= position);
        after.saturating_sub(1)
    }
}

/// The first rank of `range` for which `same` no longer holds, where it holds for the first one and for
/// a stretch from there.
pub(crate) fn gallop(values: &[u32], range: Range<usize>, same: impl Fn(&u32) -> bool) -> usize {
    let Range { start, end } = range;
    let (mut low, mut step) = (start + 1, 1);
    while low + step <= end && values.get(low + step - 1).is_some_and(&same) {
        low += step;
        step *= 2;
    }
    let high = (low + step - 1).min(end);
    low + values.get(low..high).map_or(0, |s| s.partition_point(same))
}

impl Shard {
    pub fn new(info: ShardInfo, storage: Storage) -> Self {
        Self {
            info,
            storage,
            lookup: OnceLock::new(),
        }
    }

    pub fn view(&self) -> View<'_> {
        match &self.storage {
            Storage::Owned(a) => a.view(),
            Storage::Mapped(m) => m.view(),
        }
    }

    /// The number of documents.
    pub fn documents(&self) -> usize {
        self.info.documents as usize
    }

    pub fn prepare(&self) {
        self.lookup();
    }

    /// None where there is no memory for it.
    fn lookup(&self) -> Option<&Lookup> {
        let made = self.lookup.get_or_init(|| Lookup::new(&self.view()).ok());
        made.as_ref()
    }

    /// The suffixes that begin with `tokens`: one for each occurrence. Those of the empty text are all,
    /// document ends included. None where a token does not occur. A microsecond or so.
    pub fn interval(&self, tokens: &[u32]) -> Range<usize> {
        match self.lookup() {
            Some(lookup) => lookup.interval(&self.view(), tokens),
            None => self.view().interval(tokens),
        }
    }

    /// [`interval`](Self::interval) of many texts, in parallel; those of the empty text are none.
    pub fn intervals<T: AsRef<[u32]> + Sync>(&self, texts: &[T]) -> Vec<Ranks> {
        let view = self.view();
        if let Some(lookup) = self.lookup() {
            return lookup.intervals(&view, texts);
        }
        let texts = texts.par_iter().map(AsRef::as_ref);
        let ranks = texts.map(|text| match text {
            [] => 0..0,
            some => view.interval(some),
        });
        ranks.map(|r| (r.start as u32, r.end as u32)).collect()
    }

    /// How often `tokens` occurs.
    pub fn count(&self, tokens: &[u32]) -> u64 {
        match tokens {
            [] => self.info.tokens,
            some => self.interval(some).len() as u64,
        }
    }

    /// Whether the token occurs.
    pub fn has(&self, token: u32) -> bool {
        self.view().token_ids.binary_search(&token).is_ok()
    }
}

impl Arrays {
    pub fn view(&self) -> View<'_> {
        View {
            symbols: self.symbols.slice(),
            suffix_array: &self.suffix_array,
            lcp: &self.lcp,
            document_starts: &self.document_starts,
            token_ids: &self.token_ids,
        }
    }
}

impl MappedArrays {
    fn slice<T: bytemuck::Pod>(&self, range: &Range<usize>) -> &[T] {
        self.map
            .get(range.clone())
            .and_then(|bytes| bytemuck::try_cast_slice(bytes).ok())
            .unwrap_or_default()
    }

    pub fn view(&self) -> View<'_> {
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
