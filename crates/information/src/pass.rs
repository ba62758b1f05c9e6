//! One pass of a layer's states through the head: everything that needs each row's whole law.

use faer::MatRef;
use lawvere_core::{HeadRef, RowMatrix, ShapeError, SparseRows, sum};
use lawvere_observe::Observation;
use rayon::prelude::*;

use crate::InformationError;

/// What a pass collects.
pub(crate) struct HeadPass {
    /// `log q(z|row)` at every entry of the counts; `-inf` where the model has no such outcome.
    pub entry_log_probs: Vec<f64>,
    /// The entropy of each row's law.
    pub entropies: Vec<f64>,
    /// `p_bar = sum_j w_j q_j`.
    pub mean_law: Vec<f64>,
}

impl HeadPass {
    /// Takes `states`, already as the head reads them, through the head.
    pub fn run(
        observation: &Observation,
        head: HeadRef<'_>,
        states: &RowMatrix<f32>,
    ) -> Result<Self, InformationError> {
        let counts = &observation.counts;
        let vocab = head.vocab_size();
        let mut entry_log_probs = vec![f64::NEG_INFINITY; counts.nnz()];
        let mut entropies = vec![0.0; states.nrows()];
        let mut mean_law = vec![0.0f64; vocab];
        head.for_each_log_prob_block::<ShapeError>(states, |block| {
            let rows = block.first_row..block.first_row + block.probs.nrows();
            for (row, log_probs) in rows.clone().zip(block.log_probs.rows()) {
                let (tokens, _) = counts.row(row);
                for (slot, &token) in entry_log_probs[counts.range(row)].iter_mut().zip(tokens) {
                    if let Some(&log) = log_probs.get(token as usize) {
                        *slot = f64::from(log);
                    }
                }
            }
            let laws = block
                .probs
                .data()
                .par_chunks(vocab)
                .zip(block.log_probs.data().par_chunks(vocab));
            entropies[rows.clone()]
                .par_iter_mut()
                .zip(laws)
                .for_each(|(h, (p, log_p))| {
                    // A token that cannot follow adds nothing.
                    let possible = p.iter().zip(log_p).filter(|(p, _)| **p > 0.0);
                    *h = possible.map(|(&p, &l)| f64::from(p) * -f64::from(l)).sum();
                });
            add_weighted(
                &mut mean_law,
                &observation.weights[rows.clone()],
                block.probs,
            );
            Ok(())
        })?;
        Ok(Self {
            entry_log_probs,
            entropies,
            mean_law,
        })
    }

    /// `-sum_j w_j sum_z p_jz log q_jz`, nats; infinite if some outcome is impossible.
    pub fn cross_entropy(&self, observation: &Observation, laws: &SparseRows<f64>) -> f64 {
        lawvere_core::sum((0..laws.nrows()).flat_map(|row| {
            let weight = observation.weights[row];
            let logs = &self.entry_log_probs[laws.range(row)];
            let terms = laws.row(row).1.iter().zip(logs);
            terms.map(move |(p, log_q)| -weight * p * log_q)
        }))
    }

    /// `H(p_bar) - mean H(q_j)`: the mutual information of state and token.
    pub fn information(&self, weights: &[f64]) -> f64 {
        entropy(&self.mean_law) - weighted_mean(&self.entropies, weights)
    }
}

/// Fails if some token follows a context although the model gives it probability 0.
pub(crate) fn check_continuous(
    observation: &Observation,
    pass: &HeadPass,
) -> Result<(), InformationError> {
    let counts = &observation.counts;
    for row in 0..observation.rows() {
        let impossible = |k: &usize| pass.entry_log_probs[*k] == f64::NEG_INFINITY;
        if let Some(entry) = counts.range(row).find(impossible) {
            return Err(InformationError::NotAbsolutelyContinuous {
                context: observation.row_label(row),
                token: observation.token_label(counts.indices()[entry]),
            });
        }
    }
    Ok(())
}

/// `KL(data || model)` in nats over all rows.
pub(crate) fn divergence_of(
    observation: &Observation,
    laws: &SparseRows<f64>,
    pass: &HeadPass,
) -> f64 {
    let rows = observation.weights.iter().enumerate();
    lawvere_core::sum(rows.map(|(row, weight)| {
        let terms = laws
            .row(row)
            .1
            .iter()
            .zip(&pass.entry_log_probs[laws.range(row)]);
        weight * lawvere_core::sum(terms.map(|(&p, log_q)| p * (p.ln() - log_q)))
    }))
}

/// Divergences of every row's law, nats.
pub(crate) struct FromMean {
    /// `KL(q_j || mean law)`: their weighted mean is the information.
    pub mean: Vec<f64>,
    /// `KL(q_j || mean of the others)`; infinite of a single row. A token that one row alone gives any
    /// probability counts 36 nats, where it should count as many as the others' f32 laws cannot tell.
    pub others: Vec<f64>,
}

impl FromMean {
    /// Every row against the mean law with it and without.
    ///
    /// With the mean law m, the others' is `(m - w q) / (1 - w)`, so that
    /// `KL = -H(q) - sum q log m - sum q log(1 - w q/m) + log(1 - w)`: one logarithm a token for all
    /// rows, and a short series wherever a row is a small part of the mean.
    pub fn of(
        observation: &Observation,
        head: HeadRef<'_>,
        states: &RowMatrix<f32>,
        pass: &HeadPass,
    ) -> Result<Self, InformationError> {
        let vocab = head.vocab_size();
        // A token that underflows to probability 0 everywhere adds nothing.
        let of_mean = |f: fn(f64) -> f64| -> Vec<f64> {
            let values = pass.mean_law.iter();
            values.map(|&m| if m > 0.0 { f(m) } else { 0.0 }).collect()
        };
        let (log_mean, inverse) = (of_mean(f64::ln), of_mean(f64::recip));
        let mut found = Self {
            mean: Vec::with_capacity(states.nrows()),
            others: Vec::with_capacity(states.nrows()),
        };
        head.for_each_log_prob_block::<ShapeError>(states, |block| {
            let rows = block.first_row..block.first_row + block.probs.nrows();
            let known = observation.weights[rows.clone()]
                .par_iter()
                .zip(&pass.entropies[rows]);
            let divergences: Vec<(f64, f64)> = block
                .probs
                .data()
                .par_chunks(vocab)
                .zip(known)
                .map(|(law, (&w, &entropy))| {
                    let (mut from_mean, mut without) = (0.0, 0.0);
                    for ((&q, log_m), inverse_m) in law.iter().zip(&log_mean).zip(&inverse) {
                        let q = f64::from(q);
                        let share = w * q * inverse_m;
                        let log_rest = if share < 1e-3 {
                            -share * (1.0 + share * (0.5 + share * (1.0 / 3.0 + share * 0.25)))
                        } else {
                            // Rounding can leave a row alone with its token: the share is then 1.
                            (-share.min(1.0 - f64::EPSILON)).ln_1p()
                        };
                        from_mean -= q * log_m;
                        without -= q * log_rest;
                    }
                    let from_mean = from_mean - entropy;
                    let others = match w < 1.0 {
                        true => from_mean + without + (-w).ln_1p(),
                        false => f64::INFINITY,
                    };
                    (from_mean, others)
                })
                .collect();
            found.mean.extend(divergences.iter().map(|d| d.0));
            found.others.extend(divergences.iter().map(|d| d.1));
            Ok(())
        })?;
        Ok(found)
    }
}

/// The standard error of the weighted mean of a value a row, a row's weight spread over its occurrences and blocks
/// of documents taken as independent; `None` where fewer than two are told apart.
pub(crate) fn block_error(observation: &Observation, values: &[f64]) -> Option<f64> {
    let split = observation.blocks.as_ref()?;
    let mean = weighted_mean(values, &observation.weights);
    let mut blocks = vec![None; split.blocks()];
    for (row, value) in values.iter().enumerate() {
        let occurrences = observation.counts.row(row).1.iter().sum::<u64>() as f64;
        let off = observation.weights[row] / occurrences * (value - mean);
        for entry in observation.counts.range(row) {
            for part in split.indptr[entry] as usize..split.indptr[entry + 1] as usize {
                let block = blocks[split.blocks[part] as usize].get_or_insert(0.0);
                *block += f64::from(split.counts[part]) * off;
            }
        }
    }
    let n = blocks.iter().flatten().count() as f64;
    let squares = sum(blocks.iter().flatten().map(|x| x * x));
    (n >= 2.0).then(|| (n / (n - 1.0) * squares).sqrt())
}

/// `law += sum_i weights[i] probs[i]`, each token's terms in the order of the rows.
pub(crate) fn add_weighted(law: &mut [f64], weights: &[f64], probs: &RowMatrix<f32>) {
    const COLUMNS: usize = 512;
    law.par_chunks_mut(COLUMNS)
        .enumerate()
        .for_each(|(chunk, slots)| {
            for (row, &w) in probs.rows().zip(weights) {
                let part = &row[chunk * COLUMNS..chunk * COLUMNS + slots.len()];
                slots
                    .iter_mut()
                    .zip(part)
                    .for_each(|(slot, &p)| *slot += w * f64::from(p));
            }
        });
}

pub(crate) fn weighted_mean(values: &[f64], weights: &[f64]) -> f64 {
    lawvere_core::sum(values.iter().zip(weights).map(|(v, w)| v * w))
}

/// The mean of values and their standard deviation, 0 of one value; infinite values have an infinite mean
/// and an infinite deviation.
pub(crate) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = lawvere_core::sum(values.iter().copied()) / n;
    if !mean.is_finite() {
        return (mean, f64::INFINITY);
    }
    let squares = lawvere_core::sum(values.iter().map(|v| (v - mean).powi(2)));
    (mean, (squares / (n - 1.0).max(1.0)).sqrt())
}

pub(crate) fn entropy(law: &[f64]) -> f64 {
    lawvere_core::stoch::entropy(law.iter().copied())
}

/// The weights of `rows` under replicate counts, summing to 1.
pub(crate) fn replicate_weights(observation: &Observation, counts: &[u64]) -> Vec<f64> {
    let total = counts.iter().sum::<u64>() as f64;
    (0..observation.rows())
        .map(|row| counts[observation.counts.range(row)].iter().sum::<u64>() as f64 / total)
        .collect()
}

/// Rows one after the other as a view of a matrix.
pub(crate) fn view<T>(data: &[T], rows: usize, columns: usize) -> MatRef<'_, T> {
    MatRef::from_row_major_slice(data, rows, columns)
}
