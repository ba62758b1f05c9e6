//! What makes finding a text fast: the first symbols of every so many suffixes, side by side.

use std::io;
use std::ops::Range;

use rayon::prelude::*;

use crate::pages::Pages;
use crate::shard::{SymbolSlice, Symbols, View, gallop};

/// Suffixes from one key to the next. What is left between two keys is read from the text all at once, which takes
/// little longer than one place of it.
const EVERY: usize = 16;

/// Keys from one that is also kept apart to the next.
const COARSE: usize = 64;

/// Texts up to this many bytes are held in memory for questions.
const MOST_COPIED: usize = 1 << 30;

/// What questions to a shard read most, in memory only and in huge pages: keys of its suffixes, 8 bytes for every 16,
/// and, of a mapped file, its text. (An address in the small pages of a mapped file is looked up as long as what
/// stands there takes to come.)
///
/// A binary search over the suffix array itself waits for the text at two random places a step. Here all steps but
/// the last four read keys, and those four are one.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// The first symbols of suffixes 0, 16, 32, ..., the first one highest: four of 16 bits, or two of 32.
    keys: Pages<u64>,
    /// Every 64th key: few enough to stay in a near cache.
    coarse: Vec<u64>,
    /// The text; none where it lies in memory anyway, is too large, or there is no memory for it.
    pub text: Option<Symbols>,
    /// By symbol, the first key that is not before it; one more at the end.
    first_keys: Vec<u32>,
    /// By token id; 0 for those that do not occur.
    symbols: Vec<u32>,
}

impl Lookup {
    /// O(N), in parallel.
    ///
    /// # Errors
    /// There is no memory for the keys.
    pub fn new(view: &View<'_>, mapped: bool) -> io::Result<Self> {
        let text = match view.symbols {
            _ if !mapped => None,
            SymbolSlice::Narrow(s) if size_of_val(s) <= MOST_COPIED => {
                Pages::copied(s).ok().map(Symbols::Narrow)
            }
            SymbolSlice::Wide(s) if size_of_val(s) <= MOST_COPIED => {
                Pages::copied(s).ok().map(Symbols::Wide)
            }
            _ => None,
        };
        let view = &match &text {
            Some(text) => View {
                symbols: text.slice(),
                ..*view
            },
            None => *view,
        };
        let mut keys = Pages::<u64>::zeroed(view.len().div_ceil(EVERY))?;
        let stretches = view.suffix_array.par_chunks(EVERY);
        keys.par_iter_mut()
            .zip(stretches)
            .for_each(|(slot, stretch)| {
                *slot = key(view, stretch.first().copied().unwrap_or(0));
            });
        let coarse: Vec<u64> = keys.iter().step_by(COARSE).copied().collect();
        let width = width(view);
        let symbols = view.token_ids.len() as u32 + 1;
        let first = |symbol: u32| {
            let least = pack(width, |k| if k == 0 { symbol } else { 0 });
            keys.partition_point(|&key| key < least) as u32
        };
        let mut first_keys: Vec<u32> = (0..symbols).into_par_iter().map(first).collect();
        first_keys.push(keys.len() as u32);
        let most = view.token_ids.last().map_or(0, |&id| id as usize + 1);
        let mut symbols = vec![0; most];
        for (&id, symbol) in view.token_ids.iter().zip(1..) {
            if let Some(slot) = symbols.get_mut(id as usize) {
                *slot = symbol;
            }
        }
        Ok(Self {
            keys,
            coarse,
            text,
            first_keys,
            symbols,
        })
    }

    /// The symbol of a token; `None` for one that does not occur.
    #[inline]
    pub fn symbol_of(&self, token: u32) -> Option<u32> {
        let symbol = self.symbols.get(token as usize).copied();
        symbol.filter(|&s| s != 0)
    }

    /// The suffixes that begin with `tokens`.
    pub fn interval(&self, view: &View<'_>, tokens: &[u32]) -> Range<usize> {
        // Patterns are short as a rule, and are then translated without a detour through the heap.
        const SHORT: usize = 16;
        let mut short = [0u32; SHORT];
        let long: Vec<u32>;
        let pattern: &[u32] = if tokens.len() <= SHORT {
            for (slot, &token) in short.iter_mut().zip(tokens) {
                match self.symbol_of(token) {
                    Some(symbol) => *slot = symbol,
                    None => return 0..0,
                }
            }
            &short[..tokens.len()]
        } else {
            match tokens.iter().map(|&t| self.symbol_of(t)).collect() {
                Some(symbols) => {
                    long = symbols;
                    &long
                }
                None => return 0..0,
            }
        };
        self.find(view, pattern)
    }

    fn find(&self, view: &View<'_>, pattern: &[u32]) -> Range<usize> {
        let (n, width) = (view.len(), width(view));
        let Some(&symbol) = pattern.first() else {
            return 0..n;
        };
        let padded = |filler: u32| pack(width, |k| pattern.get(k).copied().unwrap_or(filler));
        let (least, most) = (padded(0), padded(u32::MAX));
        // The keys of the first symbol, and of them those from `least` to `most`.
        let of = |symbol: u32| {
            self.first_keys
                .get(symbol as usize)
                .map_or(0, |&k| k as usize)
        };
        let (from, to) = (of(symbol), of(symbol + 1));
        let first = self.lower(from..to, least);
        let past = first + up_to(self.keys.get(first..to).unwrap_or_default(), most);
        // What the pattern's first symbols begin with starts after suffix `first - 1` of the keys' and ends before
        // suffix `past`.
        let stretch = |key: usize| {
            let start = (key.saturating_sub(1) * EVERY).min(n);
            let end = (key * EVERY).min(n);
            (start, view.suffix_array.get(start..end).unwrap_or_default())
        };
        let (start, positions) = stretch(first);
        let (mut below, mut not_above) = (0, 0);
        for &position in positions {
            let key = key(view, position);
            below += usize::from(key < least);
            not_above += usize::from(key <= most);
        }
        let lower = start + below;
        let upper = if past == first {
            start + not_above
        } else {
            let (start, positions) = stretch(past);
            let not_above = positions.iter().map(|&p| usize::from(key(view, p) <= most));
            start + not_above.sum::<usize>()
        };
        if pattern.len() <= width || lower >= upper {
            return lower..upper.max(lower);
        }
        // These agree with it as far as keys go.
        let rest = &pattern[width..];
        let compare = |&p: &u32| view.symbols.compare(p as usize + width, rest);
        let sa = view.suffix_array.get(lower..upper).unwrap_or_default();
        let before = sa.partition_point(|p| compare(p).is_lt());
        let start = lower + before;
        if !sa.get(before).is_some_and(|p| compare(p).is_eq()) {
            return start..start;
        }
        start..gallop(view.suffix_array, start..upper, |p| compare(p).is_eq())
    }
}

impl Lookup {
    /// The first key of a range that is not below `least`.
    fn lower(&self, Range { start, end }: Range<usize>, least: u64) -> usize {
        let below = |&key: &u64| key < least;
        let (from, to) = (start.div_ceil(COARSE), end.div_ceil(COARSE));
        let coarse = self.coarse.get(from..to).unwrap_or_default();
        let found = from + coarse.partition_point(below);
        let low = (found.saturating_sub(1) * COARSE).max(start);
        let high = (found * COARSE).clamp(low, end.max(low));
        low + self
            .keys
            .get(low..high)
            .map_or(0, |keys| keys.partition_point(below))
    }
}

/// How many keys there are up to `most`, where few are expected.
fn up_to(keys: &[u64], most: u64) -> usize {
    let mut step = 1;
    while keys.get(step - 1).is_some_and(|&key| key <= most) {
        step *= 2;
    }
    let (low, high) = (step / 2, (step - 1).min(keys.len()));
    let between = keys.get(low..high).unwrap_or_default();
    low + between.partition_point(|&key| key <= most)
}

/// Symbols that a key holds.
fn width(view: &View<'_>) -> usize {
    match view.symbols {
        SymbolSlice::Narrow(_) => 4,
        SymbolSlice::Wide(_) => 2,
    }
}

/// The key of the suffix at a position.
#[inline]
fn key(view: &View<'_>, position: u32) -> u64 {
    let position = position as usize;
    match view.symbols {
        SymbolSlice::Narrow(symbols) => match symbols.get(position..position + 4) {
            Some(&[a, b, c, d]) => {
                (u64::from(a) << 48) | (u64::from(b) << 32) | (u64::from(c) << 16) | u64::from(d)
            }
            _ => pack(4, |depth| view.symbols.get(position + depth)),
        },
        SymbolSlice::Wide(symbols) => match symbols.get(position..position + 2) {
            Some(&[a, b]) => (u64::from(a) << 32) | u64::from(b),
            _ => pack(2, |depth| view.symbols.get(position + depth)),
        },
    }
}

/// The first `width` symbols as one number; fillers are cut to their share of the bits.
#[inline]
fn pack(width: usize, symbol: impl Fn(usize) -> u32) -> u64 {
    let bits = 64 / width as u32;
    let mask = (1u64 << bits) - 1;
    (0..width).fold(0, |key, k| (key << bits) | (u64::from(symbol(k)) & mask))
}
