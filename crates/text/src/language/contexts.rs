use std::sync::atomic::{AtomicUsize, Ordering};

use lawvere_core::{SparseRows, sum};
use rayon::prelude::*;
use serde::Serialize;

use super::Language;
use super::belief::Mixer;
use super::kernel::within_story;
use crate::TextError;

/// All contexts of one order inside a story, most probable first, with their exact next-token
/// laws: the support matrix of the language.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExactContexts {
    /// The number n of tokens of every context.
    pub order: usize,
    /// The contexts' tokens, m x n, row after row.
    pub tokens: Vec<u32>,
    /// The probability that a stretch of n symbols of the stationary process is the context.
    /// Stretches that hold the end of a story have the rest of the probability.
    pub probabilities: Vec<f64>,
    /// The law after each context, preceded by anything: m rows over V + 1 outcomes.
    pub laws: SparseRows<f64>,
}

/// A context with its probability and law.
type Found = (Vec<u32>, f64, Vec<(u32, f64)>);

impl ExactContexts {
    /// The number m of contexts.
    pub fn len(&self) -> usize {
        self.probabilities.len()
    }

    /// Whether there is no context: stories are all shorter.
    pub fn is_empty(&self) -> bool {
        self.probabilities.is_empty()
    }

    /// The tokens of context `i`.
    pub fn context(&self, i: usize) -> &[u32] {
        &self.tokens[i * self.order..(i + 1) * self.order]
    }

    /// The contexts with the end of a story left out of the outcomes: their occurrences inside a
    /// story that goes on, and the laws given that it does. Contexts that only end stories go.
    /// What [`DocumentEnd::Dropped`](crate::DocumentEnd::Dropped) makes of a corpus.
    ///
    /// # Errors
    /// None for a table that [`Language::contexts`] made: laws are checked as they are put
    /// together.
    pub fn without_ends(&self) -> Result<Self, TextError> {
        let end = self.laws.ncols() as u32 - 1;
        let mut found = Vec::with_capacity(self.len());
        for (i, (outcomes, law)) in self.laws.rows().enumerate() {
            let law: Vec<_> = outcomes.iter().copied().zip(law.iter().copied()).collect();
            let goes_on = sum(law.iter().filter(|l| l.0 != end).map(|l| l.1));
            if let Some(law) = within_story(law, end) {
                found.push((
                    self.context(i).to_vec(),
                    self.probabilities[i] * goes_on,
                    law,
                ));
            }
        }
        Self::of(self.order, self.laws.ncols(), found)
    }

    fn of(order: usize, outcomes: usize, mut found: Vec<Found>) -> Result<Self, TextError> {
        found.par_sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let mut contexts = Self {
            order,
            tokens: Vec::with_capacity(found.len() * order),
            probabilities: Vec::with_capacity(found.len()),
            laws: SparseRows::new(outcomes),
        };
        for (tokens, probability, law) in found {
            contexts.laws.push_row(law)?;
            contexts.tokens.extend(tokens);
            contexts.probabilities.push(probability);
        }
        Ok(contexts)
    }
}

impl Language {
    /// All contexts of `order` words that stand inside one story with positive probability.
    ///
    /// One belief for each context of an order below, O(its states x ways on); parallel over first
    /// tokens, independent of threads.
    ///
    /// # Errors
    /// [`TextError::TooMany`] if there are more than `limit`.
    pub fn contexts(&self, order: usize, limit: usize) -> Result<ExactContexts, TextError> {
        let count = AtomicUsize::new(0);
        let outcomes = self.vocab_size() + 1;
        let after = self.after_symbol();
        if order == 0 {
            let law = (0..).zip(after.probabilities.iter().copied()).collect();
            return ExactContexts::of(0, outcomes, vec![(Vec::new(), 1.0, law)]);
        }
        let search = Search {
            language: self,
            order,
            limit,
            count: &count,
        };
        let found: Vec<Result<Vec<Found>, TextError>> = (0..self.vocab_size())
            .into_par_iter()
            .map(|first| {
                let mut found = Vec::new();
                let mut mixer = Mixer::new(&self.machine);
                let mut tokens = vec![first as u32];
                let probability = after.probabilities[first];
                let belief = &after.beliefs[first];
                search.extend(belief, probability, &mut tokens, &mut mixer, &mut found)?;
                Ok(found)
            })
            .collect();
        let mut all = Vec::new();
        for part in found {
            all.extend(part?);
        }
        ExactContexts::of(order, outcomes, all)
    }
}

struct Search<'a> {
    language: &'a Language,
    order: usize,
    limit: usize,
    count: &'a AtomicUsize,
}

impl Search<'_> {
    fn extend(
        &self,
        belief: &[(u32, f64)],
        probability: f64,
        tokens: &mut Vec<u32>,
        mixer: &mut Mixer,
        found: &mut Vec<Found>,
    ) -> Result<(), TextError> {
        let machine = &self.language.machine;
        if tokens.len() == self.order {
            if self.count.fetch_add(1, Ordering::Relaxed) >= self.limit {
                return Err(TextError::TooMany {
                    what: "contexts of this order",
                    limit: self.limit,
                    remedy: "ask for a lower order, a smaller language or a higher limit",
                });
            }
            found.push((tokens.clone(), probability, mixer.law(machine, belief)));
            return Ok(());
        }
        for (token, p, next) in machine.branches(belief) {
            if token != machine.end {
                tokens.push(token);
                self.extend(&next, probability * p, tokens, mixer, found)?;
                tokens.pop();
            }
        }
        Ok(())
    }
}
