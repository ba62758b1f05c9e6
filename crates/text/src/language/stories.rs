use std::collections::BTreeSet;

use super::{Grammar, Language};
use crate::TextError;

/// The grammar of the stories, in the notation of [`Grammar`].
const STORIES: &str = include_str!("stories.txt");

/// The fewest words: those of the grammar's unmarked lines, and some names.
const LEAST: usize = 100;
/// The most words, so that the machine stays small.
const MOST: usize = 10_000;

impl Language {
    /// The number of words of the whole built-in grammar, without invented ones.
    pub const DEFAULT_WORDS: usize = 400;

    /// The built-in language with exactly `words` different words, from 100 to 10,000.
    ///
    /// Up to [`DEFAULT_WORDS`](Self::DEFAULT_WORDS) it is a part of the whole grammar: as many
    /// lines as fit, and invented names for the words that are missing. Beyond, there are invented
    /// names of heroes and, for every third word, of villages; they come last in their classes,
    /// where words are rare.
    ///
    /// # Errors
    /// [`TextError::LanguageSize`] for a number of words out of range.
    pub fn stories(words: usize) -> Result<Self, TextError> {
        Self::from_grammar(&story_grammar(words)?)
    }
}

pub(crate) fn story_grammar(words: usize) -> Result<Grammar, TextError> {
    if !(LEAST..=MOST).contains(&words) {
        return Err(TextError::LanguageSize {
            words,
            least: LEAST,
            most: MOST,
        });
    }
    let whole = Grammar::parse(STORIES)?;
    // The number of words grows with the lines, so the largest part that fits can be bisected for.
    let (mut fits, mut beyond) = (0, whole.optional_lines() + 1);
    while beyond - fits > 1 {
        let middle = fits + (beyond - fits) / 2;
        match whole.cut(middle).words().len() <= words {
            true => fits = middle,
            false => beyond = middle,
        }
    }
    let mut grammar = whole.cut(fits);
    let known: BTreeSet<String> = whole.words().into_iter().map(str::to_owned).collect();
    let missing = words.saturating_sub(grammar.words().len());
    let invented = Invented::default().filter(|name| !known.contains(name));
    for (i, name) in invented.take(missing).enumerate() {
        if i % 3 == 2 {
            grammar.append("village", vec![vec![name]])?;
        } else {
            let gender = ["she her her girl daughter", "he him his boy son"][i % 3];
            let forms = gender.split(' ').map(|form| vec![form.to_owned()]);
            grammar.append("hero", std::iter::once(vec![name]).chain(forms).collect())?;
        }
    }
    Ok(grammar)
}

/// Pronounceable names, all different: syllables counted through like digits.
#[derive(Default)]
struct Invented {
    next: usize,
}

const HEADS: [&str; 14] = [
    "B", "D", "F", "G", "J", "K", "L", "M", "N", "P", "R", "S", "T", "V",
];
const VOWELS: [&str; 5] = ["a", "e", "i", "o", "u"];
const MIDDLES: [&str; 9] = ["l", "m", "n", "r", "d", "v", "b", "s", "t"];
const TAILS: [&str; 7] = ["o", "a", "in", "el", "us", "ik", "en"];

impl Iterator for Invented {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let all = HEADS.len() * VOWELS.len() * MIDDLES.len() * TAILS.len();
        // A stride without a common factor goes through all of them, neighbours looking different.
        let mut code = self.next * 1237 % all;
        let rounds = self.next / all;
        self.next += 1;
        let mut digit = |list: &[&'static str]| {
            let chosen = list[code % list.len()];
            code /= list.len();
            chosen
        };
        let name = [
            digit(&HEADS),
            digit(&VOWELS),
            digit(&MIDDLES),
            digit(&TAILS),
        ]
        .concat();
        Some(name + &"ro".repeat(rounds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_language_is_the_whole_grammar() {
        let whole = Grammar::parse(STORIES).unwrap();
        assert_eq!(whole.words().len(), Language::DEFAULT_WORDS);
        assert_eq!(
            story_grammar(Language::DEFAULT_WORDS).unwrap(),
            whole.cut(usize::MAX)
        );
        assert!(whole.cut(0).words().len() <= LEAST);
    }

    #[test]
    fn invented_names_are_all_different() {
        let names: BTreeSet<String> = Invented::default().take(MOST).collect();
        assert_eq!(names.len(), MOST);
    }
}
