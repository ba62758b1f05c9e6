use std::collections::HashMap;

use lawvere_core::{CompensatedSum, stoch, sum};
use rayon::prelude::*;

use super::Language;
use super::belief::{Belief, BeliefKey, belief_key};
use super::kernel::{Reading, TrueKernel};
use super::machine::Machine;
use crate::TextError;

/// Sequences of tokens beyond which a joint law is refused.
const MAX_FUTURES: usize = 1_000_000;
/// Different beliefs after sequences of one length beyond which an entropy is refused.
const MAX_BELIEFS: usize = 1_000_000;

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
    /// O(k x transitions); otherwise, until it is, one step for each different belief that a
    /// sequence of tokens leads to (different by more than 1e-12).
    ///
    /// # Errors
    /// As [`law`](Self::law); [`TextError::TooMany`] for more than a million different beliefs.
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
    /// One step for each different belief that `order` symbols or fewer lead to.
    ///
    /// # Errors
    /// [`TextError::TooMany`] for more than a million different beliefs.
    ///
    /// *Source:* Shannon, *Prediction and entropy of printed English* (1951), equation 1.
    pub fn conditional_entropies(&self, order: usize) -> Result<Vec<f64>, TextError> {
        self.kernel(Reading::LastTokens)
            .future_entropies(&[], order + 1)
    }

    /// `I(S; W_1..W_j)` in nats for `j = 1..=k`, S the state of the stationary process: what a full
    /// prefix tells about the block of tokens after it.
    ///
    /// # Errors
    /// As [`conditional_entropies`](Self::conditional_entropies).
    pub fn block_information(&self, k: usize) -> Result<Vec<f64>, TextError> {
        let entropies = self.kernel(Reading::LastTokens).future_entropies(&[], k)?;
        let mut total = CompensatedSum::default();
        let rate = self.entropy_rate();
        Ok(entropies
            .into_iter()
            .map(|h| {
                total.add(h - rate);
                total.value()
            })
            .collect())
    }

    /// `I(S; W_(1+j) | W_1)` in nats for `j = 1..=k`, S the state of the stationary process before W_1:
    /// what a full prefix adds about one token ahead when the next one is known.
    ///
    /// O(k transitions V), memory two laws a state.
    pub fn token_information(&self, k: usize) -> Vec<f64> {
        let outcomes = self.vocab_size() + 1;
        let states = self.state_count();
        // The law of the j-th symbol from each state on, j = 1 first.
        let mut laws = vec![0.0f64; states * outcomes];
        for (state, law) in laws.chunks_mut(outcomes).enumerate() {
            for (symbol, p, _) in self.machine.row(state as u32).iter() {
                law[symbol as usize] = p;
            }
        }
        let after = self.after_symbol();
        let mut information = Vec::with_capacity(k);
        while information.len() < k {
            let of_states: Vec<f64> = laws
                .par_chunks(outcomes)
                .map(|law| stoch::entropy(law.iter().copied()))
                .collect();
            let given_state = self.stationary.iter().zip(&of_states).map(|(p, h)| p * h);
            let given_symbol: Vec<f64> = after
                .beliefs
                .par_iter()
                .map(|belief| {
                    let mut law = vec![0.0; outcomes];
                    for &(state, p) in belief {
                        let of_state = &laws[state as usize * outcomes..][..outcomes];
                        law.iter_mut().zip(of_state).for_each(|(l, q)| *l += p * q);
                    }
                    stoch::entropy(law)
                })
                .collect();
            let marginal = after.probabilities.iter().zip(&given_symbol);
            information.push(sum(marginal.map(|(p, h)| p * h)) - sum(given_state));
            let next: Vec<f64> = (0..states)
                .into_par_iter()
                .flat_map_iter(|state| {
                    let mut law = vec![0.0; outcomes];
                    for (_, p, target) in self.machine.row(state as u32).iter() {
                        let on = &laws[target as usize * outcomes..][..outcomes];
                        law.iter_mut().zip(on).for_each(|(l, q)| *l += p * q);
                    }
                    law
                })
                .collect();
            laws = next;
        }
        information
    }

    /// The expected entropies of the `k` tokens ahead, each given those before it. Sequences of
    /// tokens are gone through by their number of tokens; those that leave the same belief behind
    /// are one from there on.
    fn entropies_ahead(&self, belief: &[(u32, f64)], k: usize) -> Result<Vec<f64>, TextError> {
        let mut level = Level::new(self.state_count());
        level.add(1.0, belief.to_vec());
        let mut entropies = Vec::with_capacity(k);
        while entropies.len() < k {
            let mut next = Level::new(self.state_count());
            let mut entropy = CompensatedSum::default();
            for (state, mass) in (0..).zip(&level.certain).filter(|c| *c.1 > 0.0) {
                entropy.add(mass * self.entropies[state as usize]);
                for (_, probability, target) in self.machine.row(state).iter() {
                    next.certain[target as usize] += mass * probability;
                }
            }
            for chunk in level.uncertain.chunks(CHUNK) {
                let branches: Vec<_> = chunk
                    .par_iter()
                    .map(|(_, belief)| self.machine.branches(belief))
                    .collect();
                for ((weight, _), branches) in chunk.iter().zip(branches) {
                    entropy.add(weight * stoch::entropy(branches.iter().map(|b| b.1)));
                    for (_, probability, belief) in branches {
                        next.add(weight * probability, belief);
                    }
                }
                if next.uncertain.len() > MAX_BELIEFS {
                    return Err(TextError::TooMany {
                        what: "beliefs behind this entropy",
                        limit: MAX_BELIEFS,
                        remedy: "ask for fewer tokens, or for a longer context",
                    });
                }
            }
            entropies.push(entropy.value());
            level = next;
        }
        Ok(entropies)
    }
}

/// Beliefs whose branches are found at once.
const CHUNK: usize = 1024;

/// All beliefs that the sequences of one length lead to.
struct Level {
    /// The probability of being certain of each state.
    certain: Vec<f64>,
    /// The probabilities of other beliefs.
    uncertain: Vec<(f64, Belief)>,
    places: HashMap<BeliefKey, usize>,
}

impl Level {
    fn new(states: usize) -> Self {
        Self {
            certain: vec![0.0; states],
            uncertain: Vec::new(),
            places: HashMap::new(),
        }
    }

    fn add(&mut self, weight: f64, belief: Belief) {
        if let [(state, _)] = belief[..] {
            self.certain[state as usize] += weight;
            return;
        }
        let place = *self
            .places
            .entry(belief_key(&belief))
            .or_insert(self.uncertain.len());
        match self.uncertain.get_mut(place) {
            Some(known) => known.0 += weight,
            None => self.uncertain.push((weight, belief)),
        }
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
