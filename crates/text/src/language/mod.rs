//! The built-in language: children's stories from a grammar whose next-token law is known exactly.

mod belief;
mod contexts;
mod determinise;
mod future;
mod grammar;
mod kernel;
mod machine;
mod phrase;
mod sample;
mod stories;

use std::sync::OnceLock;

pub use contexts::ExactContexts;
pub use grammar::Grammar;
pub use kernel::{Reading, TrueKernel};
use lawvere_core::sum;
use lawvere_token::{Tokenizer, sha256_hex};

use crate::TextError;
use belief::AfterSymbol;
use machine::Machine;
use phrase::Phrases;

/// A language whose every quantity is computed, none estimated: the stories of a [`Grammar`], one
/// after the other, as a stationary source.
///
/// There are V words, token ids `0..V` by decreasing frequency, and the end of a story, outcome V.
/// Behind them is a *unifilar* hidden Markov model (a state and a symbol determine the next state;
/// the end leads back to the state that begins a story), so that the beginning of a story
/// determines the state, and the entropy rate is the states' mean entropy.
///
/// ```
/// use lawvere_text::{Language, Reading};
///
/// let language = Language::stories(Language::DEFAULT_WORDS).unwrap();
/// let story = language.documents(1, 1).remove(0);
/// let law = language.kernel(Reading::FullPrefix).law(&story[..5]).unwrap();
/// assert!(law.iter().any(|&(token, p)| token == story[5] && p > 0.0));
/// // The entropy rate by Shannon's formula, and as the entropy of a story over its length.
/// let per_story = language.story_entropy() / language.symbols_per_story();
/// assert!((language.entropy_rate() - per_story).abs() < 1e-9);
/// ```
///
/// *Source:* Ephraim and Merhav, *Hidden Markov processes* (2002), section II; unifilar models and
/// their causal states: Shalizi and Crutchfield, *Computational mechanics* (2001).
#[derive(Debug, Clone)]
pub struct Language {
    words: Vec<String>,
    machine: Machine,
    stationary: Vec<f64>,
    entropies: Vec<f64>,
    identity: String,
    after: OnceLock<AfterSymbol>,
}

impl Language {
    /// The version of the built-in grammar and of what is made of it. Texts and figures of
    /// different versions differ.
    pub const VERSION: u32 = 1;

    /// The language of a grammar. O(states x ways on), the states being what the beginnings of
    /// stories can lead to.
    ///
    /// # Errors
    /// [`TextError::Grammar`]: a name that nothing declares, a variable said before it is chosen
    /// or chosen from two classes, a rule that leads back to itself, a repetition of what may be
    /// empty, a story that may be empty. [`TextError::TooMany`]: more than two million states.
    pub fn from_grammar(grammar: &Grammar) -> Result<Self, TextError> {
        let phrases = Phrases::new(grammar)?;
        let mut machine = determinise::determinise(&phrases)?;
        let stationary = stationary(&machine);
        let words = by_frequency(phrases.words, &mut machine, &stationary);
        let entropies = machine.entropies();
        let identity = identity(&words, &machine);
        Ok(Self {
            words,
            machine,
            stationary,
            entropies,
            identity,
            after: OnceLock::new(),
        })
    }

    /// The words by token id: by decreasing expected frequency, ties alphabetically.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The number V of words. The end of a story is the outcome V.
    pub fn vocab_size(&self) -> usize {
        self.words.len()
    }

    /// White-space-separated words with the ids of [`words`](Self::words).
    ///
    /// # Errors
    /// What the tokenizer's construction refuses; none for a language.
    pub fn tokenizer(&self) -> Result<Tokenizer, TextError> {
        Ok(Tokenizer::of_words(&self.words)?)
    }

    /// The SHA-256 of the version, the words and the machine.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The number of states of the unifilar machine.
    pub fn state_count(&self) -> usize {
        self.machine.states()
    }

    /// The number of transitions of the unifilar machine: of pairs of a state and a symbol that
    /// can follow.
    pub fn transition_count(&self) -> usize {
        self.machine.transitions()
    }

    /// The stationary law of the states, over symbol positions (the end of a story is one).
    /// State 0 begins a story.
    pub fn stationary(&self) -> &[f64] {
        &self.stationary
    }

    /// What follows in a state: tokens, increasing, their probabilities, and the states they lead
    /// to. `None` for a state that does not exist.
    pub fn law_of_state(&self, state: usize) -> Option<(&[u32], &[f64], &[u32])> {
        if state >= self.state_count() {
            return None;
        }
        let row = self.machine.row(state as u32);
        Some((row.symbols, row.probabilities, row.targets))
    }

    /// The entropy of the next token in each state, in nats.
    pub fn state_entropies(&self) -> &[f64] {
        &self.entropies
    }

    /// The entropy rate in nats per symbol, ends of stories counted: the mean over the stationary
    /// law of the states' entropies. O(states).
    ///
    /// *Source:* Shannon, *A mathematical theory of communication* (1948), theorem 5.
    pub fn entropy_rate(&self) -> f64 {
        sum(self
            .stationary
            .iter()
            .zip(&self.entropies)
            .map(|(p, h)| p * h))
    }

    /// The entropy of a whole story in nats, by recursion from the end. O(transitions), times
    /// some tens for loops.
    pub fn story_entropy(&self) -> f64 {
        self.machine.until_end(&self.entropies)[0]
    }

    /// The expected number of symbols of a story, its end counted, by recursion from the end.
    /// O(transitions), times some tens for loops.
    pub fn symbols_per_story(&self) -> f64 {
        self.machine.until_end(&vec![1.0; self.state_count()])[0]
    }

    /// The language as a kernel from contexts to next tokens, k_true.
    pub fn kernel(&self, reading: Reading) -> TrueKernel<'_> {
        TrueKernel {
            language: self,
            reading,
        }
    }

    /// Tokens as one line of text: words with a space between; the end of a story is `<end>`.
    pub fn text(&self, tokens: &[u32]) -> String {
        let word = |&t: &u32| self.words.get(t as usize).map_or("<end>", String::as_str);
        tokens.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    fn after_symbol(&self) -> &AfterSymbol {
        self.after
            .get_or_init(|| AfterSymbol::new(&self.machine, &self.stationary))
    }
}

fn stationary(machine: &Machine) -> Vec<f64> {
    let visits = machine.visits();
    let total = sum(visits.iter().copied());
    visits.into_iter().map(|v| v / total).collect()
}

/// Sorts the words by frequency and renumbers the machine's symbols alike.
fn by_frequency(words: Vec<String>, machine: &mut Machine, stationary: &[f64]) -> Vec<String> {
    let mut frequency = vec![0.0; words.len() + 1];
    for (row, mass) in machine.rows().zip(stationary) {
        row.iter()
            .for_each(|(s, p, _)| frequency[s as usize] += mass * p);
    }
    let mut order: Vec<usize> = (0..words.len()).collect();
    // The words come sorted, and the sort is stable.
    order.sort_by(|&a, &b| frequency[b].total_cmp(&frequency[a]));
    let mut number = vec![0; words.len()];
    (0..).zip(&order).for_each(|(new, &old)| number[old] = new);
    machine.renumber(&number);
    let mut words: Vec<Option<String>> = words.into_iter().map(Some).collect();
    order
        .into_iter()
        .filter_map(|old| words[old].take())
        .collect()
}

fn identity(words: &[String], machine: &Machine) -> String {
    let mut bytes = Language::VERSION.to_le_bytes().to_vec();
    for word in words {
        bytes.extend(word.as_bytes());
        bytes.push(b'\n');
    }
    for row in machine.rows() {
        bytes.extend((row.symbols.len() as u32).to_le_bytes());
        for (symbol, probability, target) in row.iter() {
            bytes.extend(symbol.to_le_bytes());
            bytes.extend(probability.to_bits().to_le_bytes());
            bytes.extend(target.to_le_bytes());
        }
    }
    sha256_hex(&bytes)
}
