//! Orders of texts as sequences of tokens: which text covers which.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// The longest proper prefix of each text among the others, which it covers in the order of prefixes. O(total length).
///
/// A text is a sequence of tokens: "the" is a prefix of "the cat", not of "then".
pub fn prefix_covers<T: Eq + Hash>(texts: &[Vec<T>]) -> Vec<Option<usize>> {
    let place: HashMap<&[T], usize> = texts.iter().map(Vec::as_slice).zip(0..).collect();
    let longest = |text: &Vec<T>| {
        let shorter = (0..text.len()).rev().map(|length| &text[..length]);
        shorter
            .filter_map(|prefix| place.get(prefix).copied())
            .next()
    };
    texts.iter().map(longest).collect()
}

/// The texts that each covers in the order of subtexts: those that stand within it, uninterrupted, and within no other
/// that does. A text of t tokens is cut at t places into each length that a text has: O(t^3) at worst.
pub fn subtext_covers<T: Eq + Hash>(texts: &[Vec<T>]) -> Vec<Vec<usize>> {
    let place: HashMap<&[T], usize> = texts.iter().map(Vec::as_slice).zip(0..).collect();
    let mut lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    lengths.dedup();
    let covered = |(own, text): (usize, &Vec<T>)| {
        let (mut largest, mut hidden) = (Vec::new(), HashSet::new());
        // The farthest that what began before ends: a place within it is no largest one.
        let mut reached = None;
        for from in 0..=text.len() {
            let ends = lengths.iter().map(|length| from + length);
            let ends = ends.filter(|&to| to <= text.len());
            let parts = ends.filter_map(|to| Some((to, *place.get(&text[from..to])?)));
            let mut parts = parts.filter(|&(_, part)| part != own);
            if let Some((to, part)) = parts.next() {
                if reached.is_some_and(|end| end >= to) {
                    hidden.insert(part);
                } else {
                    largest.push(part);
                    reached = Some(to);
                }
                hidden.extend(parts.map(|(_, part)| part));
            }
        }
        largest.retain(|part| !hidden.contains(part));
        largest.sort_unstable();
        largest.dedup();
        largest
    };
    texts
        .iter()
        .enumerate()
        .map(|(own, text)| covered((own, text)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(all: &[&str]) -> Vec<Vec<String>> {
        let words = |text: &&str| text.split_whitespace().map(ToOwned::to_owned).collect();
        all.iter().map(words).collect()
    }

    /// By the definition: all pairs, held against all others.
    fn by_definition(texts: &[Vec<u8>]) -> Vec<Vec<usize>> {
        let within = |i: usize, j: usize| {
            let (a, b) = (&texts[i], &texts[j]);
            i != j && (a.is_empty() || b.windows(a.len()).any(|w| w == a))
        };
        let n = texts.len();
        let between = |i: usize, j: usize| (0..n).any(|k| within(i, k) && within(k, j));
        let covers = |j: usize| (0..n).filter(|&i| within(i, j) && !between(i, j)).collect();
        (0..n).map(covers).collect()
    }

    proptest! {
        #[test]
        fn subtext_covers_are_those_of_the_definition(
            texts in prop::collection::hash_set(prop::collection::vec(0u8..3, 0..7), 1..25)
        ) {
            let texts: Vec<Vec<u8>> = texts.into_iter().collect();
            prop_assert_eq!(subtext_covers(&texts), by_definition(&texts));
        }
    }

    #[test]
    fn covers_are_the_longest_prefixes_and_the_largest_parts() {
        let all = texts(&[
            "",
            "the",
            "the cat",
            "the cat sat",
            "cat",
            "then",
            "cat sat",
        ]);
        assert_eq!(
            prefix_covers(&all),
            [None, Some(0), Some(1), Some(2), Some(0), Some(0), Some(4)]
        );
        let covers = subtext_covers(&all);
        assert_eq!(covers[3], [2, 6]);
        assert_eq!(covers[2], [1, 4]);
        assert_eq!(covers[5], [0]);
        assert!(covers[0].is_empty());
    }
}
