use std::sync::atomic::{AtomicUsize, Ordering};

use lawvere_core::{CompensatedSum, stoch, sum};
use rayon::prelude::*;

use super::Language;
use super::belief::Belief;
use super::kernel::{Reading, TrueKernel};
use super::machine::Machine;
use crate::TextError;

/// Sequences of tokens beyond which a joint law is refused.
const MAX_FUTURES: usize = 1_000_000;
/// Beliefs that may have to be gone through for an entropy.
const MAX_BELIEFS: usize = 4_000_000;

impl TrueKernel<'_> {
    /// The joint law of the `k` tokens after `context`: sequences in the order of their tokens,
    /// and their probabilities. Beyond the end of a story the next one begins.
    ///
    /// O(sequences x states that stay possible).
    ///
    /// # Errors
    /// As [`law`](Self::law); [`TextError::TooMany`] for more than a million sequences.
    pub fn future(&self, context: &[u32], k: usize) -> Result<Vec<(Vec<u32>, f64)>, TextError> {
        let belief = self.belief(context)?;
        let mut futures = Vec::new();
        let mut tokens = Vec::with_capacity(k);
        extend(
            &self.language.machine,
            &belief,
            k,
            1.0,
            &mut tokens,
            &mut futures,
        )?;
        Ok(futures)
    }

    /// The entropy in nats of the `k` tokens after `context`, `H(W_1..W_k | context)`.
    ///
    /// Where the state is certain it is the recursion `H_k(q) = H(q) + sum p H_(k-1)(q')`, in
    /// O(k x transitions); otherwise, until it is, one belief for each sequence of tokens.
    ///
    /// # Errors
    /// As [`law`](Self::law); [`TextError::TooMany`] for more than four million beliefs.
    pub fn future_entropy(&self, context: &[u32], k: usize) -> Result<f64, TextError> {
        Ok(sum(self.future_entropies(context, k)?))
    }

    /// `H(W_j | context, W_1..W_(j-1))` in nats for `j = 1..=k`: what each token adds to
    /// [`future_entropy`](Self::future_entropy), at the same cost.
    ///
    /// # Errors
    /// As [`future_entropy`](Self::future_entropy).
    pub fn future_entropies(&self, context: &[u32], k: usize) -> Result<Vec<f64>, TextError> {
        let belief = self.belief(context)?;
        self.language.entropies_ahead(&belief, k)
    }
}

impl Language {
    /// `H(W_(n+1) | W_1..W_n)` in nats for `n = 0..=order` under the stationary law, ends of
    /// stories being symbols: the entropy of the next token given the last `n`, which falls to
    /// the entropy rate.
    ///
    /// One belief for each sequence of `order` symbols that leaves more than one state possible.
    ///
    /// # Errors
    /// [`TextError::TooMany`] for more than four million beliefs.
    ///
    /// *Source:* Shannon, *Prediction and entropy of printed English* (1951), equation 1.
    pub fn conditional_entropies(&self, order: usize) -> Result<Vec<f64>, TextError> {
        self.kernel(Reading::LastTokens)
            .future_entropies(&[], order + 1)
    }

    /// The expected entropies of the `k` tokens ahead, each given those before it.
    fn entropies_ahead(&self, belief: &[(u32, f64)], k: usize) -> Result<Vec<f64>, TextError> {
        let mut certain: Vec<Vec<f64>> = Vec::with_capacity(k);
        for j in 0..k {
            let next = match j {
                0 => self.entropies.clone(),
                _ => self.machine.ahead(&certain[j - 1]),
            };
            certain.push(next);
        }
        let ahead = Ahead {
            machine: &self.machine,
            certain: &certain,
            beliefs: AtomicUsize::new(0),
        };
        if k == 0 {
            return Ok(Vec::new());
        }
        let branches = ahead.branches(belief)?;
        let mut sums = vec![CompensatedSum::default(); k];
        sums[0].add(stoch::entropy(branches.iter().map(|b| b.1)));
        let of_branches: Vec<Result<Vec<CompensatedSum>, TextError>> = branches
            .par_iter()
            .map(|(_, probability, next)| {
                let mut sums = vec![CompensatedSum::default(); k];
                ahead.add(next, 1, *probability, &mut sums)?;
                Ok(sums)
            })
            .collect();
        for of_branch in of_branches {
            let parts = of_branch?;
            sums.iter_mut()
                .zip(parts)
                .for_each(|(sum, part)| sum.add(part.value()));
        }
        Ok(sums.into_iter().map(CompensatedSum::value).collect())
    }
}

struct Ahead<'a> {
    machine: &'a Machine,
    /// For every number of tokens ahead the expected entropy of that token, by state.
    certain: &'a [Vec<f64>],
    beliefs: AtomicUsize,
}

impl Ahead<'_> {
    fn branches(&self, belief: &[(u32, f64)]) -> Result<Vec<(u32, f64, Belief)>, TextError> {
        if self.beliefs.fetch_add(1, Ordering::Relaxed) >= MAX_BELIEFS {
            return Err(TextError::TooMany {
                what: "beliefs behind this entropy",
                limit: MAX_BELIEFS,
                remedy: "ask for fewer tokens, or for a longer context",
            });
        }
        Ok(self.machine.branches(belief))
    }

    /// Adds the expected entropies of the tokens from the `at`-th on, times `weight`.
    fn add(
        &self,
        belief: &[(u32, f64)],
        at: usize,
        weight: f64,
        sums: &mut [CompensatedSum],
    ) -> Result<(), TextError> {
        if at == sums.len() {
            return Ok(());
        }
        if let [(state, _)] = *belief {
            for (sum, certain) in sums[at..].iter_mut().zip(self.certain) {
                sum.add(weight * certain[state as usize]);
            }
            return Ok(());
        }
        let branches = self.branches(belief)?;
        sums[at].add(weight * stoch::entropy(branches.iter().map(|b| b.1)));
        for (_, probability, next) in &branches {
            self.add(next, at + 1, weight * probability, sums)?;
        }
        Ok(())
    }
}

fn extend(
    machine: &Machine,
    belief: &[(u32, f64)],
    k: usize,
    probability: f64,
    tokens: &mut Vec<u32>,
    out: &mut Vec<(Vec<u32>, f64)>,
) -> Result<(), TextError> {
    if tokens.len() == k {
        if out.len() == MAX_FUTURES {
            return Err(TextError::TooMany {
                what: "sequences in this joint law",
                limit: MAX_FUTURES,
                remedy: "ask for fewer tokens",
            });
        }
        out.push((tokens.clone(), probability));
        return Ok(());
    }
    for (token, p, next) in machine.branches(belief) {
        tokens.push(token);
        extend(machine, &next, k, probability * p, tokens, out)?;
        tokens.pop();
    }
    Ok(())
}
