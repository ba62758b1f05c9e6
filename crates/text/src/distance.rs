use rayon::prelude::*;
use serde::Serialize;

use crate::TextSpace;
use crate::query::BATCH;

/// Which way a text is longer or shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// One token more at the end.
    Right,
    /// One token more at the beginning.
    Left,
    /// Its last token left out.
    WithoutLast,
    /// Its first token left out.
    WithoutFirst,
}

/// A text next to another in the order of subtexts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Neighbour {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// How it comes from the text.
    pub side: Side,
    /// How often it occurs.
    pub count: u64,
    /// From the text to it where it is longer, from it to the text where it is shorter; nats.
    pub distance: f64,
}

impl TextSpace {
    /// The directed distance `d(a, b) = -ln Pr(b|a) = ln count(a) - ln count(b)` of a text to one that it is a part of,
    /// in nats; `+inf` to any other, and to one that does not occur. `None` if a does not occur.
    /// A microsecond or two.
    ///
    /// *Source:* Gaubert, Vlassopoulos, arXiv 2405.12264, for the order of subtexts.
    ///
    /// ```
    /// # use lawvere_text::{Corpus, TextSpace, Tokenizer};
    /// let documents = ["a b", "a c", "a b a"];
    /// # let words = Tokenizer::words(documents.into_iter()).unwrap();
    /// # let corpus = Corpus::from_documents(documents).unwrap();
    /// # let space = TextSpace::build(&corpus, &words, &mut |_| {}).unwrap();
    /// let ids = |text| words.encode(text).unwrap();
    /// assert_eq!(space.distance(&ids("a"), &ids("a b")), Some(2f64.ln())); // 4 and 2 occurrences
    /// assert_eq!(space.distance(&ids("b"), &ids("a c")), Some(f64::INFINITY));
    /// assert_eq!(space.distance(&ids("c b"), &ids("a c b")), None);
    /// ```
    pub fn distance(&self, a: &[u32], b: &[u32]) -> Option<f64> {
        let part = is_part(a, b);
        let to = if part { self.count(b) } else { 0 };
        distance_of(self.count(a), to, part)
    }

    /// [`distance`](Self::distance) of many pairs, in parallel, as [`count_batch`](Self::count_batch) counts.
    pub fn distance_batch<T: AsRef<[u32]> + Sync>(&self, pairs: &[(T, T)]) -> Vec<Option<f64>> {
        let mut out = Vec::with_capacity(pairs.len());
        for pairs in pairs.chunks(PAIRS) {
            let part = |(a, b): &(T, T)| is_part(a.as_ref(), b.as_ref());
            let parts: Vec<bool> = pairs.par_iter().with_min_len(BATCH).map(part).collect();
            let mut texts: Vec<&[u32]> = Vec::with_capacity(2 * pairs.len());
            for ((a, b), &part) in pairs.iter().zip(&parts) {
                texts.extend([a.as_ref(), if part { b.as_ref() } else { &[] }]);
            }
            let counts = self.count_batch(&texts);
            let (counts, _) = counts.as_chunks::<2>();
            let of = |([from, to], part): (&[u64; 2], bool)| distance_of(*from, *to, part);
            out.extend(counts.iter().zip(parts).map(of));
        }
        out
    }

    /// The texts next to a text, the nearest first and equally near ones by their tokens: those with a token more at
    /// either end, the `most` nearest of each, and those with one less. None of a text that does not occur.
    ///
    /// What comes after a text is told by a token that follows it, as what comes before; neither is the end of a
    /// document, so that their probabilities sum to at most 1 on each side.
    ///
    /// Cost: as [`next_tokens`](Self::next_tokens) and [`previous_tokens`](Self::previous_tokens).
    pub fn neighbours(&self, text: &[u32], most: usize) -> Vec<Neighbour> {
        let own = self.count(text);
        if own == 0 {
            return Vec::new();
        }
        let longer = |(token, count): (u32, u64), side| Neighbour {
            tokens: match side {
                Side::Left => [&[token], text].concat(),
                _ => [text, &[token]].concat(),
            },
            side,
            count,
            distance: (own as f64 / count as f64).ln(),
        };
        let nearest = |mut counts: Vec<(u32, u64)>| {
            counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
            counts.truncate(most);
            counts
        };
        let right = nearest(self.next_tokens(text).counts);
        let mut out: Vec<Neighbour> = right.into_iter().map(|c| longer(c, Side::Right)).collect();
        // Next to the empty text a token is the same on either side, and nothing is shorter.
        if !text.is_empty() {
            let left = nearest(self.previous_tokens(text).counts);
            out.extend(left.into_iter().map(|c| longer(c, Side::Left)));
            let shorter = |tokens: &[u32], side| {
                let count = self.count(tokens);
                Neighbour {
                    tokens: tokens.to_vec(),
                    side,
                    count,
                    distance: (count as f64 / own as f64).ln(),
                }
            };
            let (without_last, without_first) = (&text[..text.len() - 1], &text[1..]);
            out.push(shorter(without_last, Side::WithoutLast));
            if without_first != without_last {
                out.push(shorter(without_first, Side::WithoutFirst));
            }
        }
        out.sort_by(|a, b| {
            let by_distance = a.distance.total_cmp(&b.distance);
            by_distance.then_with(|| (a.side, &a.tokens).cmp(&(b.side, &b.tokens)))
        });
        out
    }
}

/// Pairs whose counts are looked for together.
const PAIRS: usize = 1 << 20;

fn is_part(a: &[u32], b: &[u32]) -> bool {
    a.is_empty() || b.windows(a.len()).any(|w| w == a)
}

/// By how often a and b occur, and whether a is a part of b.
fn distance_of(from: u64, to: u64, part: bool) -> Option<f64> {
    match (from, to) {
        (0, _) => None,
        (_, to) if part && to > 0 => Some((from as f64 / to as f64).ln()),
        _ => Some(f64::INFINITY),
    }
}
