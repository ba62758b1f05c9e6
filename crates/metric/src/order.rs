//! Orders of texts as sequences of tokens: which text covers which.

use std::collections::HashMap;
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
/// that does. O(n x total length²) at worst.
pub fn subtext_covers<T: Eq + Hash>(texts: &[Vec<T>]) -> Vec<Vec<usize>> {
    let place: HashMap<&[T], usize> = texts.iter().map(Vec::as_slice).zip(0..).collect();
    let within: Vec<Vec<usize>> = texts
        .iter()
        .enumerate()
        .map(|(own, text)| {
            let parts = (0..=text.len())
                .flat_map(|from| (from..=text.len()).map(move |to| &text[from..to]));
            let mut found: Vec<usize> = parts.filter_map(|part| place.get(part).copied()).collect();
            found.retain(|&i| i != own);
            found.sort_unstable();
            found.dedup();
            found
        })
        .collect();
    let covered = |below: &Vec<usize>| {
        let hidden = |i: &usize| below.iter().any(|&k| within[k].binary_search(i).is_ok());
        below.iter().copied().filter(|i| !hidden(i)).collect()
    };
    within.iter().map(covered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(all: &[&str]) -> Vec<Vec<String>> {
        let words = |text: &&str| text.split_whitespace().map(ToOwned::to_owned).collect();
        all.iter().map(words).collect()
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
