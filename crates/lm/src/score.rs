//! Log-probabilities of given texts, each distinct prefix computed once.

use std::ops::Range;

use lawvere_core::{ContextBatch, Factored, KernelError, sum};
use serde::Serialize;

use crate::error::LmError;
use crate::model::LanguageModel;

/// What a model says of one continuation, in nats.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// `log k(continuation | prefix)`, the sum of `tokens`.
    pub total: f64,
    /// `log k(t_i | prefix t_1 .. t_{i-1})` for each token of the continuation.
    pub tokens: Vec<f32>,
}

/// Scores in the order they were asked for, and what they cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// One a question.
    pub scores: Vec<Score>,
    /// Tokens taken through the network: the number of distinct prefixes, a beginning-of-text token
    /// counted.
    pub forwarded: usize,
    /// Tokens that reading each question on its own would have taken.
    pub separately: usize,
}

/// How a document longer than the model reads is cut: windows of `length` tokens, of which each but
/// the first begins with the last `overlap` tokens of the one before, read again for context only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Windows {
    /// Tokens in a window.
    pub length: usize,
    /// Tokens that two neighbours share; less than `length`.
    pub overlap: usize,
}

impl Windows {
    /// The windows of a document of `tokens` tokens: where each lies, and from which token on it is
    /// scored.
    pub fn cut(&self, tokens: usize) -> impl Iterator<Item = (Range<usize>, usize)> + use<> {
        let (length, overlap) = (self.length.max(1), self.overlap);
        let step = length.saturating_sub(overlap).max(1);
        let mut next = 0;
        std::iter::from_fn(move || {
            if next >= tokens {
                return None;
            }
            let start = next.saturating_sub(overlap);
            let scored = next;
            let end = (start + length).min(tokens);
            next = if scored == 0 { length } else { next + step };
            Some((start..end, scored))
        })
    }
}

/// A document read in windows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    /// For each token its log-probability in nats given what its window shows before it; `None` for a
    /// token that nothing stands before.
    pub tokens: Vec<Option<f32>>,
    /// The mean over the tokens that have one, negated: the cross-entropy in nats.
    pub cross_entropy: f64,
    /// `exp(cross_entropy)`.
    pub perplexity: f64,
    /// The number of tokens scored.
    pub scored: usize,
    /// Tokens taken through the network.
    pub forwarded: usize,
}

/// Tokens of a document's windows that are scored together.
const TOKENS_AT_ONCE: usize = 1 << 20;

impl LanguageModel {
    /// Scores continuations of prefixes: `questions` are pairs of a prefix and a continuation.
    ///
    /// All texts together form a forest of prefixes and each distinct prefix goes through a decoder
    /// once, whatever the order of the questions; a text's last token is never forwarded. Small
    /// networks that `train` makes share nothing. Scores agree with those of single questions to
    /// rounding (1e-5); an empty continuation has the score 0. Memory beyond the model's: some 16 bytes
    /// for every token of every question, shared or not, and the keys and values of one text.
    ///
    /// # Errors
    /// An empty prefix where the model has no beginning-of-text token, a text longer than the model
    /// reads, a token outside the vocabulary.
    pub fn score(&self, questions: &[(&[u32], &[u32])]) -> Result<Scores, LmError> {
        let mut contexts = ContextBatch::new();
        let mut targets: Vec<u32> = Vec::new();
        let vocab_size = self.architecture().vocab_size();
        for (window, (prefix, continuation)) in questions.iter().enumerate() {
            let outside = continuation.iter().find(|&&t| t as usize >= vocab_size);
            if let Some(&token) = outside {
                return Err(LmError::Kernel(KernelError::TokenOutOfRange {
                    window,
                    token,
                    vocab_size,
                }));
            }
            let read = continuation.len().saturating_sub(1);
            let tokens = [*prefix, &continuation[..read]].concat();
            let positions = (0..continuation.len()).map(|i| (prefix.len() + i) as u32);
            contexts.push(&tokens, &positions.collect::<Vec<_>>())?;
            targets.extend_from_slice(continuation);
        }
        let mut log_probs = vec![0.0f32; targets.len()];
        let last = self.last_layer().0;
        let everything = 0..contexts.len();
        let forwarded =
            self.for_each_stretch(&contexts, everything, &[last], |rows, _, states| {
                let pairs = rows.iter().enumerate();
                let pairs = pairs.flat_map(|(i, rows)| rows.iter().map(move |&row| (i, row)));
                let (wanted, places): (Vec<(usize, u32)>, Vec<usize>) =
                    pairs.map(|(i, row)| ((i, targets[row]), row)).unzip();
                let found = self.head().log_probs_of(&states, &wanted)?;
                if found.iter().any(|x| x.is_nan()) {
                    return Err(KernelError::NotFinite);
                }
                places
                    .iter()
                    .zip(found)
                    .for_each(|(&row, x)| log_probs[row] = x);
                Ok::<(), KernelError>(())
            })?;
        let bos = usize::from(self.bos().is_some());
        let read = contexts.windows().filter(|w| !w.positions.is_empty());
        let separately = read.map(|w| w.tokens.len() + bos).sum();
        let mut left = log_probs.as_slice();
        let scores = questions.iter().map(|(_, continuation)| {
            let (tokens, rest) = left.split_at(continuation.len());
            left = rest;
            Score {
                total: sum(tokens.iter().map(|&x| f64::from(x))),
                tokens: tokens.to_vec(),
            }
        });
        Ok(Scores {
            scores: scores.collect(),
            forwarded,
            separately,
        })
    }

    /// Reads a document of any length in windows. Each token is scored once, but for those that nothing
    /// stands before: without a beginning-of-text token the document's first, and with an overlap of 0
    /// every window's first.
    ///
    /// # Errors
    /// Windows that do not fit the model or one another, a document of which nothing can be scored, a
    /// token outside the vocabulary.
    pub fn read(&self, tokens: &[u32], windows: Windows) -> Result<Reading, LmError> {
        let bos = usize::from(self.bos().is_some());
        let limit = self.context_length();
        if windows.length < 2 || windows.length.saturating_add(bos) > limit {
            return Err(LmError::Argument(format!(
                "windows of {} tokens: this model reads 2 to {} at once",
                windows.length,
                limit - bos
            )));
        }
        if windows.overlap >= windows.length {
            return Err(LmError::Argument(format!(
                "an overlap of {} tokens: it must be less than the windows' {}",
                windows.overlap, windows.length
            )));
        }
        let mut questions: Vec<(&[u32], &[u32])> = Vec::new();
        let mut first = Vec::new();
        for (window, scored) in windows.cut(tokens.len()) {
            let from = scored.max(window.start + 1 - bos);
            if from < window.end {
                questions.push((&tokens[window.start..from], &tokens[from..window.end]));
                first.push(from);
            }
        }
        if questions.is_empty() {
            return Err(LmError::Argument(format!(
                "a document of {} tokens: nothing stands before any of them",
                tokens.len()
            )));
        }
        let mut all = vec![None; tokens.len()];
        let mut forwarded = 0;
        // Windows share next to nothing: in groups, so that few copies of their tokens are held.
        let group = (TOKENS_AT_ONCE / windows.length).max(1);
        for (questions, first) in questions.chunks(group).zip(first.chunks(group)) {
            let scores = self.score(questions)?;
            forwarded += scores.forwarded;
            for (score, &first) in scores.scores.iter().zip(first) {
                for (slot, &x) in all[first..].iter_mut().zip(&score.tokens) {
                    *slot = Some(x);
                }
            }
        }
        let scored = all.iter().flatten().count();
        let total = sum(all.iter().flatten().map(|&x| f64::from(x)));
        let cross_entropy = -total / scored as f64;
        Ok(Reading {
            tokens: all,
            cross_entropy,
            perplexity: cross_entropy.exp(),
            scored,
            forwarded,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_score_every_token_once_with_the_stated_overlap() {
        for (tokens, length, overlap) in [
            (10, 4, 0),
            (10, 4, 2),
            (3, 8, 4),
            (8, 4, 3),
            (9, 4, 2),
            (0, 4, 1),
        ] {
            let cut: Vec<_> = Windows { length, overlap }.cut(tokens).collect();
            let mut next = 0;
            for (i, (window, scored)) in cut.iter().enumerate() {
                assert_eq!(*scored, next, "{tokens} {length} {overlap}");
                assert_eq!(window.start, if i == 0 { 0 } else { scored - overlap });
                assert!(window.len() <= length && window.end > *scored);
                next = window.end;
            }
            assert_eq!(next, tokens);
        }
    }
}
