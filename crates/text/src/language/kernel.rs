use lawvere_core::{ContextBatch, KernelError, LogProbs, NextToken, SparseRows, Window};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Language;
use super::belief::{Belief, Mixer};
use crate::TextError;

/// What stands before the tokens of a context. The two readings are different kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// Nothing: they are a story from its beginning, which determines the state. A first token V
    /// (the end of the story before) may stand for the beginning.
    #[default]
    FullPrefix,
    /// Anything: they are the last symbols of the stationary process, and the law is the mixture
    /// of the laws of all states they can have led to.
    LastTokens,
}

/// The language as a Markov kernel from contexts to next tokens, k_true. Outcomes are the V words
/// and the end of a story, V; contexts may hold V where one story ends and the next begins.
///
/// *Source:* the law given the last tokens is the forward recursion of a hidden Markov model,
/// Ephraim and Merhav, *Hidden Markov processes* (2002), section V-A.
#[derive(Debug, Clone, Copy)]
pub struct TrueKernel<'a> {
    /// The language.
    pub language: &'a Language,
    /// What stands before a context.
    pub reading: Reading,
}

/// Windows that share the sorting and the filtering of their beginnings.
const BLOCK_WINDOWS: usize = 8192;
/// Rows of log-probabilities that are handed out at once.
const BLOCK_ROWS: usize = 1024;
/// How much of a context an error message shows.
const SHOWN_TOKENS: usize = 24;

/// What is known of the state: nothing, or a belief.
#[derive(Debug, Clone)]
enum Known {
    Nothing,
    State(Belief),
}

impl<'a> TrueKernel<'a> {
    /// The law after `context`: tokens, increasing, and their probabilities, in f64.
    ///
    /// O(states that the context leaves possible x outcomes) for each of its tokens.
    ///
    /// # Errors
    /// [`TextError::TokenOutOfRange`]; [`TextError::ImpossibleContext`] for a context of
    /// probability 0.
    pub fn law(&self, context: &[u32]) -> Result<Vec<(u32, f64)>, TextError> {
        let (_, known) = self.read(context)?;
        Ok(self.law_of(&known, &mut Mixer::new(&self.language.machine)))
    }

    /// The law after `context` given that the story does not end there: the law that
    /// [`DocumentEnd::Dropped`](crate::DocumentEnd::Dropped) leaves.
    ///
    /// # Errors
    /// As [`law`](Self::law); [`TextError::ImpossibleContext`] also for a context after which
    /// stories always end.
    pub fn law_within_story(&self, context: &[u32]) -> Result<Vec<(u32, f64)>, TextError> {
        let law = self.law(context)?;
        within_story(law, self.language.machine.end).ok_or_else(|| self.impossible(context))
    }

    /// The laws at all positions of a batch, one row each over V + 1 outcomes, in f64.
    ///
    /// A window is filtered once, whatever the number of its positions, and windows with the same
    /// beginning share its filtering. Parallel over windows; independent of threads.
    ///
    /// # Errors
    /// As [`law`](Self::law), for the first position (windows in order) that has no law.
    pub fn laws(&self, batch: &ContextBatch) -> Result<SparseRows<f64>, TextError> {
        let mut rows = SparseRows::new(self.vocab_size());
        self.for_each_law(batch, |_, law| rows.push_row(law).map_err(TextError::from))?;
        Ok(rows)
    }

    /// `-log p(next | context)` at all positions of a batch, nats: infinite for a token that cannot
    /// follow. At the cost of [`laws`](Self::laws), without keeping them.
    ///
    /// # Errors
    /// As [`laws`](Self::laws). Positions beyond the tokens given are left out.
    pub fn losses(&self, batch: &ContextBatch, next: &[u32]) -> Result<Vec<f64>, TextError> {
        let mut losses = Vec::with_capacity(next.len());
        self.for_each_law::<TextError>(batch, |row, law| {
            if let Some(token) = next.get(row) {
                let p = law.iter().find(|(outcome, _)| outcome == token);
                losses.push(-p.map_or(0.0, |(_, p)| *p).ln());
            }
            Ok(())
        })?;
        Ok(losses)
    }

    /// The probability of the context's tokens: in the reading [`Reading::LastTokens`] that of
    /// meeting them at a stretch of the stationary process, in [`Reading::FullPrefix`] that of a
    /// story (and those after it, if it holds ends) beginning with them. 0 for tokens that cannot
    /// follow each other.
    pub fn context_probability(&self, context: &[u32]) -> f64 {
        self.read(context)
            .map_or(0.0, |(probability, _)| probability)
    }

    /// What is known after all tokens of a context, with the context's probability.
    fn read(&self, context: &[u32]) -> Result<(f64, Known), TextError> {
        self.check(context)?;
        let mut probability = 1.0;
        let mut known = self.nothing();
        for (i, &token) in context.iter().enumerate() {
            let (p, next) = self
                .step(&known, token, i == 0)
                .ok_or_else(|| self.impossible(&context[..=i]))?;
            probability *= p;
            known = next;
        }
        Ok((probability, known))
    }

    /// The belief after a context; after the empty one in the reading of last tokens, the
    /// stationary law.
    pub(super) fn belief(&self, context: &[u32]) -> Result<Belief, TextError> {
        Ok(match self.read(context)?.1 {
            Known::State(belief) => belief,
            Known::Nothing => (0..)
                .zip(self.language.stationary.iter().copied())
                .collect(),
        })
    }

    fn nothing(&self) -> Known {
        match self.reading {
            Reading::FullPrefix => Known::State(vec![(0, 1.0)]),
            Reading::LastTokens => Known::Nothing,
        }
    }

    fn step(&self, known: &Known, token: u32, first: bool) -> Option<(f64, Known)> {
        let machine = &self.language.machine;
        let (probability, belief) = match known {
            Known::Nothing => {
                let after = self.language.after_symbol();
                let belief = after.beliefs.get(token as usize)?;
                (after.probabilities[token as usize], belief.clone())
            }
            // The end of the story before: the beginning it stands for is certain.
            Known::State(belief)
                if first && token == machine.end && self.reading == Reading::FullPrefix =>
            {
                (1.0, belief.clone())
            }
            Known::State(belief) => machine.filter(belief, token)?,
        };
        Some((probability, Known::State(belief)))
    }

    fn law_of(&self, known: &Known, mixer: &mut Mixer) -> Vec<(u32, f64)> {
        match known {
            Known::State(belief) => mixer.law(&self.language.machine, belief),
            Known::Nothing => {
                let after = self.language.after_symbol();
                (0..).zip(after.probabilities.iter().copied()).collect()
            }
        }
    }

    fn check(&self, tokens: &[u32]) -> Result<(), TextError> {
        let vocab_size = self.language.vocab_size();
        match tokens.iter().find(|&&t| t as usize > vocab_size) {
            Some(&token) => Err(TextError::NotInLanguage { token, vocab_size }),
            None => Ok(()),
        }
    }

    fn impossible(&self, context: &[u32]) -> TextError {
        let shown = &context[context.len().saturating_sub(SHOWN_TOKENS)..];
        let more = if shown.len() < context.len() {
            "... "
        } else {
            ""
        };
        let reading = match self.reading {
            Reading::FullPrefix => "no story begins with",
            Reading::LastTokens => "no stories hold",
        };
        TextError::ImpossibleContext {
            reading,
            context: format!("{more}{}", self.language.text(shown)),
        }
    }

    fn for_each_law<E: From<TextError>>(
        &self,
        batch: &ContextBatch,
        mut visit: impl FnMut(usize, Law) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut row = 0;
        let mut start = 0;
        while start < batch.len() {
            let windows: Vec<Window<'_>> = (start..batch.len().min(start + BLOCK_WINDOWS))
                .map(|i| batch.window(i))
                .collect();
            start += windows.len();
            for laws in self.laws_of_windows(&windows) {
                for law in laws? {
                    visit(row, law)?;
                    row += 1;
                }
            }
        }
        Ok(())
    }

    /// The laws of every window. They are gone through in the order of their tokens, so that what
    /// is known after a common beginning is found out once in each part.
    fn laws_of_windows(&self, windows: &[Window<'_>]) -> Vec<Result<Vec<Law>, TextError>> {
        let mut order: Vec<usize> = (0..windows.len()).collect();
        order.par_sort_by_key(|&i| windows[i].tokens);
        let part = windows
            .len()
            .div_ceil(4 * rayon::current_num_threads())
            .max(1);
        let done: Vec<Vec<_>> = order
            .par_chunks(part)
            .map(|part| {
                let mut path = Path {
                    kernel: *self,
                    tokens: &[],
                    known: vec![self.nothing()],
                };
                let mut mixer = Mixer::new(&self.language.machine);
                part.iter()
                    .map(|&i| (i, path.laws(windows[i], &mut mixer)))
                    .collect()
            })
            .collect();
        let mut laws: Vec<_> = windows.iter().map(|_| Ok(Vec::new())).collect();
        for (i, of_window) in done.into_iter().flatten() {
            laws[i] = of_window;
        }
        laws
    }
}

type Law = Vec<(u32, f64)>;

/// What is known after every beginning of some tokens, kept for the next window.
struct Path<'a> {
    kernel: TrueKernel<'a>,
    tokens: &'a [u32],
    known: Vec<Known>,
}

impl<'w> Path<'w> {
    fn laws(&mut self, window: Window<'w>, mixer: &mut Mixer) -> Result<Vec<Law>, TextError> {
        self.kernel.check(window.tokens)?;
        let pairs = self.tokens.iter().zip(window.tokens);
        let common = pairs.take_while(|(a, b)| a == b).count();
        self.known.truncate(common + 1);
        self.tokens = window.tokens;
        let mut laws = Vec::with_capacity(window.positions.len());
        for &position in window.positions {
            let position = position as usize;
            while self.known.len() <= position {
                let at = self.known.len() - 1;
                let step = self
                    .kernel
                    .step(&self.known[at], window.tokens[at], at == 0);
                let (_, next) = step.ok_or_else(|| {
                    // Only as many tokens may be compared with the next window's as were read.
                    self.tokens = &window.tokens[..at];
                    self.kernel.impossible(&window.tokens[..=at])
                })?;
                self.known.push(next);
            }
            laws.push(self.kernel.law_of(&self.known[position], mixer));
        }
        self.tokens = &window.tokens[..self.known.len() - 1];
        Ok(laws)
    }
}

/// A law given that the outcome is not `end`; nothing if it always is.
pub(super) fn within_story(mut law: Law, end: u32) -> Option<Law> {
    law.retain(|l| l.0 != end);
    let total = lawvere_core::sum(law.iter().map(|l| l.1));
    law.iter_mut().for_each(|l| l.1 /= total);
    (!law.is_empty()).then_some(law)
}

impl NextToken for TrueKernel<'_> {
    /// The words and the end of a story.
    fn vocab_size(&self) -> usize {
        self.language.vocab_size() + 1
    }

    /// Sparse rows, 1024 at a time.
    fn log_probs(
        &self,
        contexts: &ContextBatch,
        visit: &mut dyn FnMut(usize, LogProbs) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        for (window, tokens) in contexts.windows().map(|w| w.tokens).enumerate() {
            if let Some(&token) = tokens.iter().find(|&&t| t as usize >= self.vocab_size()) {
                let vocab_size = self.vocab_size();
                return Err(KernelError::TokenOutOfRange {
                    window,
                    token,
                    vocab_size,
                });
            }
        }
        let mut rows = SparseRows::new(self.vocab_size());
        let mut first_row = 0;
        self.for_each_law(contexts, |row, law| {
            let logs = law.into_iter().map(|(token, p)| (token, p.ln() as f32));
            rows.push_row(logs).map_err(TextError::from)?;
            if rows.nrows() < BLOCK_ROWS {
                return Ok(());
            }
            let block = std::mem::replace(&mut rows, SparseRows::new(self.vocab_size()));
            visit(
                std::mem::replace(&mut first_row, row + 1),
                LogProbs::Sparse(block),
            )
        })?;
        match rows.nrows() {
            0 => Ok(()),
            _ => visit(first_row, LogProbs::Sparse(rows)),
        }
    }
}
