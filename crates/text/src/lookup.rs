//! What makes finding a text fast: the first symbols of every so many suffixes, side by side.

use std::io;
use std::ops::Range;

use rayon::prelude::*;

use crate::pages::Pages;
use crate::shard::{SymbolSlice, View};

/// Suffixes from one key to the next. What is left between two keys is read from the text all at once, which takes
/// little longer than one place of it.
const EVERY: usize = 16;

/// Keys from one that is also kept apart to the next.
const COARSE: usize = 64;

/// What questions to a shard read most, in memory only and in huge pages: keys of its suffixes, 8 bytes for every 16.
///
/// A binary search over the suffix array itself waits for the text at two random places a step. Here all steps but
/// the last four read keys, and those four are one.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// The first symbols of suffixes 0, 16, 32, ..., the first one highest: four of 16 bits, or two of 32.
    keys: Pages<u64>,
    /// Every 64th key: few enough to stay in a near cache.
    coarse: Vec<u64>,
    /// By symbol, the first key that is not before it; one more at the end.
    first_keys: Vec<u32>,
    /// By token id; 0 for those that do not occur.
    symbols: Vec<u32>,
}

/// The suffixes that begin with some text, `start..end`.
pub(crate) type Ranks = (u32, u32);

/// A text of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    /// Its first symbols, nothing in the place of those that it lacks.
    key: u64,
    length: u32,
    index: u32,
}

/// Texts of a batch that one thread answers one after the other, at least.
const GRAIN: usize = 512;

impl Lookup {
    /// O(N), in parallel.
    ///
    /// # Errors
    /// There is no memory for the keys.
    pub fn new(view: &View<'_>) -> io::Result<Self> {
        let mut keys = Pages::<u64>::zeroed(view.len().div_ceil(EVERY))?;
        let stretches = view.suffix_array.par_chunks(EVERY);
        keys.par_iter_mut()
            .zip(stretches)
            .for_each(|(slot, stretch)| {
                *slot = key(view, stretch.first().map_or(0, |&p| p as usize));
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
            first_keys,
            symbols,
        })
    }

    /// The symbol of a token; 0 for one that does not occur.
    #[inline]
    fn symbol_of(&self, token: u32) -> u32 {
        self.symbols.get(token as usize).copied().unwrap_or(0)
    }

    /// The suffixes that begin with `tokens`.
    pub fn interval(&self, view: &View<'_>, tokens: &[u32]) -> Range<usize> {
        let Some((least, most)) = self.bounds(view, tokens, 0) else {
            return 0..0;
        };
        if tokens.is_empty() {
            return 0..view.len();
        }
        let from = self.first_key(view, least);
        let found = self.agreeing(view, from, least, most);
        self.narrowed(view, found, tokens)
    }

    /// The suffixes that begin with each of `texts`; none of an empty one.
    ///
    /// Texts are looked for in the order of their first symbols, so that neighbours read what is still in the
    /// cache, and equal ones are looked for once.
    pub fn intervals<T: AsRef<[u32]> + Sync>(&self, view: &View<'_>, texts: &[T]) -> Vec<Ranks> {
        let width = width(view);
        let asked = |(text, index): (&T, u32)| {
            let text = text.as_ref();
            let known = !text.is_empty() && text.iter().all(|&t| self.symbol_of(t) != 0);
            known.then(|| Asked {
                key: pack(width, |k| text.get(k).map_or(0, |&t| self.symbol_of(t))),
                length: text.len() as u32,
                index,
            })
        };
        let numbered = texts.par_iter().zip(0..texts.len() as u32);
        let mut order: Vec<Asked> = numbered.filter_map(asked).collect();
        order.par_sort_unstable();
        let share = order.len().div_ceil(4 * rayon::current_num_threads());
        let parts = order.par_chunks(share.max(GRAIN));
        let found: Vec<Vec<Ranks>> = parts.map(|part| self.in_order(view, part, texts)).collect();
        let mut out = vec![(0, 0); texts.len()];
        for (asked, found) in order.iter().zip(found.into_iter().flatten()) {
            out[asked.index as usize] = found;
        }
        out
    }

    fn in_order<T: AsRef<[u32]>>(
        &self,
        view: &View<'_>,
        order: &[Asked],
        texts: &[T],
    ) -> Vec<Ranks> {
        let width = width(view);
        let bits = 64 / width as u32;
        let first = order.first().map_or(0, |a| self.first_key(view, a.key));
        // The key before which nothing is left to be found, and what was found last.
        let (mut from, mut last) = (first, None);
        let mut found = 0..0;
        let answer = |asked: &Asked| {
            let known = width.min(asked.length as usize) as u32;
            // Everything that begins with the symbols there are lies up to here.
            let most = match known * bits {
                64 => asked.key,
                below => asked.key | (u64::MAX >> below),
            };
            if last != Some((asked.key, known)) {
                last = Some((asked.key, known));
                from += up_to(self.keys.get(from..).unwrap_or_default(), |k| k < asked.key);
                found = self.agreeing(view, from, asked.key, most);
            }
            let mut ranks = found.clone();
            if asked.length as usize > width {
                let text = texts.get(asked.index as usize);
                ranks = self.narrowed(view, ranks, text.map_or(&[], AsRef::as_ref));
            }
            (ranks.start as u32, ranks.end as u32)
        };
        order.iter().map(answer).collect()
    }

    /// The smallest and the largest key of what goes on with `tokens` from `depth` on; none if a token
    /// there does not occur.
    #[inline]
    fn bounds(&self, view: &View<'_>, tokens: &[u32], depth: usize) -> Option<(u64, u64)> {
        let width = width(view);
        let rest = tokens.get(depth..).unwrap_or_default();
        let mut known = true;
        let least = pack(width, |k| {
            rest.get(k).map_or(0, |&token| {
                let symbol = self.symbol_of(token);
                known &= symbol != 0;
                symbol
            })
        });
        let bits = 64 / width as u32;
        let most = match rest.len().min(width) as u32 * bits {
            64 => least,
            below => least | (u64::MAX >> below),
        };
        known.then_some((least, most))
    }

    /// The first key that is not below `least`.
    fn first_key(&self, view: &View<'_>, least: u64) -> usize {
        let below = |&key: &u64| key < least;
        let symbol = (least >> (64 - 64 / width(view) as u32)) as usize;
        let of = |symbol: usize| self.first_keys.get(symbol).map_or(0, |&k| k as usize);
        let (start, end) = (of(symbol), of(symbol + 1));
        let (from, to) = (start.div_ceil(COARSE), end.div_ceil(COARSE));
        let coarse = self.coarse.get(from..to).unwrap_or_default();
        let found = from + coarse.partition_point(below);
        let low = (found.saturating_sub(1) * COARSE).max(start);
        let high = (found * COARSE).clamp(low, end.max(low));
        let keys = self.keys.get(low..high).unwrap_or_default();
        low + keys.partition_point(below)
    }

    /// The suffixes with keys from `least` to `most`, `first` being the first key that is not below `least`.
    fn agreeing(&self, view: &View<'_>, first: usize, least: u64, most: u64) -> Range<usize> {
        let rest = self.keys.get(first..).unwrap_or_default();
        let past = first + up_to(rest, |key| key <= most);
        // They start after suffix `first - 1` of the keys' and end before suffix `past`.
        let stretch = |key: usize| {
            let start = (key.saturating_sub(1) * EVERY).min(view.len());
            start..(key * EVERY).min(view.len())
        };
        let (lower, upper) = (stretch(first), stretch(past));
        if past == first {
            return within(view, lower, 0, least, most);
        }
        let start = within(view, lower, 0, least, u64::MAX).start;
        start..within(view, upper, 0, 0, most).end
    }

    /// Of suffixes that agree with `tokens` as far as a key goes, those that begin with all of them.
    fn narrowed(&self, view: &View<'_>, ranks: Range<usize>, tokens: &[u32]) -> Range<usize> {
        let width = width(view);
        let (mut ranks, mut depth) = (ranks, width);
        while depth < tokens.len() && !ranks.is_empty() {
            let Some((least, most)) = self.bounds(view, tokens, depth) else {
                return 0..0;
            };
            let rank_of = |ranks: Range<usize>, before: &dyn Fn(u64) -> bool| {
                let (mut low, mut high) = (ranks.start, ranks.end);
                while high - low > EVERY {
                    let middle = low + (high - low) / 2;
                    match before(key(view, view.position(middle) + depth)) {
                        true => low = middle + 1,
                        false => high = middle,
                    }
                }
                low..high
            };
            ranks = if ranks.len() <= 2 * EVERY {
                within(view, ranks, depth, least, most)
            } else {
                let near = rank_of(ranks.clone(), &|key| key < least);
                let start = within(view, near, depth, least, u64::MAX).start;
                let near = rank_of(start..ranks.end, &|key| key <= most);
                start..within(view, near, depth, 0, most).end
            };
            depth += width;
        }
        ranks
    }
}

/// Of suffixes whose keys at `depth` increase, those with keys from `least` to `most`: all are read at once.
#[inline]
fn within(
    view: &View<'_>,
    ranks: Range<usize>,
    depth: usize,
    least: u64,
    most: u64,
) -> Range<usize> {
    let (mut below, mut not_above) = (0, 0);
    for &position in view.suffix_array.get(ranks.clone()).unwrap_or_default() {
        let key = key(view, position as usize + depth);
        below += usize::from(key < least);
        not_above += usize::from(key <= most);
    }
    ranks.start + below..ranks.start + not_above.max(below)
}

/// How many keys there are for which `before` holds, where few are expected.
#[inline]
fn up_to(keys: &[u64], before: impl Fn(u64) -> bool) -> usize {
    let mut step = 1;
    while keys.get(step - 1).is_some_and(|&key| before(key)) {
        step *= 2;
    }
    let (low, high) = (step / 2, (step - 1).min(keys.len()));
    let between = keys.get(low..high).unwrap_or_default();
    low + between.partition_point(|&key| before(key))
}

/// Symbols that a key holds.
#[inline]
fn width(view: &View<'_>) -> usize {
    match view.symbols {
        SymbolSlice::Narrow(_) => 4,
        SymbolSlice::Wide(_) => 2,
    }
}

/// The key of what stands at a position.
#[inline]
fn key(view: &View<'_>, position: usize) -> u64 {
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

/// The first `width` symbols as one number.
#[inline]
fn pack(width: usize, mut symbol: impl FnMut(usize) -> u32) -> u64 {
    let bits = 64 / width as u32;
    (0..width).fold(0, |key, k| (key << bits) | u64::from(symbol(k)))
}
