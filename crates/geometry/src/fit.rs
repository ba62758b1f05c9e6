//! How far contexts, words and logits have the predicted geometry. Nothing m x m, V x V or V x m is
//! formed: every figure is made of products with the singular vectors and of d x d Gram matrices.

use lawvere_core::linalg::{matmul, pearson};
use lawvere_core::vector::{dot, vectorised};
use lawvere_core::{RowMatrix, sum};
use rayon::prelude::*;
use serde::Serialize;

use crate::embeddings::Centred;
use crate::prediction::proxy_energy;
use crate::{ContextLaws, Prediction};

/// The cosine of two matrices, as they are and centred.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cosine {
    /// As they are; logits are centred over tokens in any case, to which a softmax is blind. 0 where
    /// one of the two vanishes.
    pub raw: f64,
    /// After the mean over contexts (of words: over tokens) is taken off both.
    pub centred: f64,
}

/// The finite part `P_F(L)` of logits, which training is to bring to `L^in`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FiniteFit {
    /// `|P_F(L) - L^in|_F`, nats.
    pub distance: f64,
    /// The cosine of the two; 0 where one vanishes.
    pub cosine: f64,
    /// Their correlation over the supports of two tokens or more: contexts weigh as pi, the tokens of a
    /// support equally. 0 where one does not vary.
    pub correlation: f64,
    /// The slope of `P_F(L)` on `L^in` through the origin, with the same weights.
    pub slope: f64,
}

fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator > 0.0 {
        numerator / denominator
    } else {
        0.0
    }
}

/// What contexts are compared with.
pub(crate) struct ContextReference<'a> {
    pub prediction: &'a Prediction,
    /// `V^T 1`.
    sums: Vec<f64>,
    gram_norm: f64,
    centred_gram_norm: f64,
}

/// States of contexts on the predicted directions: `V^T H`, raw and centred, k x columns.
pub(crate) struct Projected {
    pub raw: RowMatrix<f64>,
    pub centred: RowMatrix<f64>,
}

impl<'a> ContextReference<'a> {
    pub fn new(prediction: &'a Prediction) -> Self {
        let (k, m) = (prediction.rank(), prediction.contexts.nrows() as f64);
        let mut sums = vec![0.0; k];
        for row in prediction.contexts.rows() {
            sums.iter_mut().zip(row).for_each(|(s, x)| *s += x);
        }
        let values = prediction.singular_values.iter().zip(&sums);
        let squares = sum(values.clone().map(|(v, _)| v * v));
        // |P M P|^2 for M = V diag(s) V^T and P = I - 11^T/m.
        let once = sum(values.clone().map(|(v, s)| v * s * s)) / m;
        let twice = sum(values.map(|(v, s)| (v * s).powi(2))) / m;
        Self {
            prediction,
            sums,
            gram_norm: squares.sqrt(),
            centred_gram_norm: (squares - 2.0 * twice + once * once).max(0.0).sqrt(),
        }
    }

    /// The strengths `u_k^T L v_k` of the predicted logits themselves, centred over contexts.
    pub fn centred_strengths(&self) -> Vec<f64> {
        let m = self.prediction.contexts.nrows() as f64;
        let values = self.prediction.singular_values.iter().zip(&self.sums);
        values.map(|(v, s)| v * (1.0 - s * s / m)).collect()
    }

    /// `V^T H` where row `order[j]` of the states is dealt to context j.
    pub fn project(&self, states: &Centred, order: &[usize]) -> Projected {
        let (k, columns) = (self.prediction.rank(), states.rows.ncols());
        let mut dealt = RowMatrix::zeros(states.rows.nrows(), k);
        for (row, directions) in order.iter().zip(self.prediction.contexts.rows()) {
            dealt.row_mut(*row).copy_from_slice(directions);
        }
        let mut centred = RowMatrix::zeros(k, columns);
        matmul(
            centred.view_mut(),
            dealt.view().transpose(),
            states.rows.view(),
        );
        let raw = RowMatrix::from_fn(k, columns, |i, c| {
            centred.get(i, c) + self.sums[i] * states.mean[c]
        });
        Projected { raw, centred }
    }

    /// The cosine of the contexts' Gram matrix with `V diag(s) V^T`.
    pub fn gram(&self, states: &Centred, projected: &Projected) -> Cosine {
        let values = &self.prediction.singular_values;
        let (raw_norm, centred_norm) = states.gram_norms();
        Cosine {
            raw: ratio(
                weighted_squares(values, &projected.raw, states.dim),
                raw_norm * self.gram_norm,
            ),
            centred: ratio(
                weighted_squares(values, &projected.centred, states.dim),
                centred_norm * self.centred_gram_norm,
            ),
        }
    }
}

/// `sum_k s_k |row_k|^2` over the first `dim` columns.
fn weighted_squares(values: &[f64], rows: &RowMatrix<f64>, dim: usize) -> f64 {
    let square = |row: &[f64]| sum(row[..dim].iter().map(|x| x * x));
    sum(values
        .iter()
        .zip(rows.rows())
        .map(|(v, row)| v * square(row)))
}

/// What words and logits are compared with.
pub(crate) struct LogitReference<'a> {
    laws: &'a ContextLaws,
    contexts: &'a ContextReference<'a>,
    pub words: &'a Centred,
    /// `U^T W`, k x columns.
    along: RowMatrix<f64>,
    /// `S^T W`, m x columns: with W centred, `S~^T W`.
    of_context: RowMatrix<f64>,
    proxy_norm: f64,
    centred_proxy_norm: f64,
    centred_values_norm: f64,
    /// The entries of `L^in`, in the order of the laws.
    finite: Vec<f64>,
}

/// What logits share with the prediction.
#[derive(Debug, Clone)]
pub(crate) struct LogitFit {
    /// With `U diag(s) V^T`.
    pub prediction: Cosine,
    /// With `S~`.
    pub proxy: Cosine,
    /// `u_k^T L v_k`, raw and centred over contexts.
    pub strengths: Vec<f64>,
    pub centred_strengths: Vec<f64>,
}

impl<'a> LogitReference<'a> {
    pub fn new(
        laws: &'a ContextLaws,
        contexts: &'a ContextReference<'a>,
        words: &'a Centred,
    ) -> Self {
        let prediction = contexts.prediction;
        let (m, columns) = (laws.supports.contexts(), words.rows.ncols());
        let mut along = RowMatrix::zeros(prediction.rank(), columns);
        let directions = prediction.words.view().transpose();
        matmul(along.view_mut(), directions, words.rows.view());
        let mut of_context = RowMatrix::zeros(m, columns);
        for (j, (support, _)) in laws.supports.rows.rows().enumerate() {
            let out = of_context.row_mut(j);
            for &v in support {
                let word = words.rows.row(v as usize);
                out.iter_mut().zip(word).for_each(|(o, x)| *o += x);
            }
        }
        let energy = proxy_energy(&laws.supports);
        let values = prediction.singular_values.iter().zip(&contexts.sums);
        let count = m as f64;
        Self {
            laws,
            contexts,
            words,
            along,
            of_context,
            proxy_norm: energy.sqrt(),
            centred_proxy_norm: (energy - mean_column_energy(laws)).max(0.0).sqrt(),
            centred_values_norm: sum(values.map(|(v, s)| v * v * (1.0 - s * s / count)))
                .max(0.0)
                .sqrt(),
            finite: centred_on_supports(laws, laws.laws.values().iter().map(|p| p.ln()).collect()),
        }
    }

    /// The cosine of the words' Gram matrix with `U diag(s) U^T`, to which row v of the words is
    /// compared as row `order[v]` of the prediction.
    pub fn word_gram(&self, order: Option<&[usize]>) -> Cosine {
        let prediction = self.contexts.prediction;
        let values = &prediction.singular_values;
        let shared = match order {
            None => weighted_squares(values, &self.along, self.words.dim),
            Some(order) => {
                let (v, k) = (prediction.words.nrows(), values.len());
                let dealt = RowMatrix::from_fn(v, k, |i, c| prediction.words.get(order[i], c));
                let mut along = RowMatrix::zeros(k, self.words.rows.ncols());
                let directions = dealt.view().transpose();
                matmul(along.view_mut(), directions, self.words.rows.view());
                weighted_squares(values, &along, self.words.dim)
            }
        };
        // The singular vectors sum to 0, so what is shared is the same before and after centring.
        let (raw_norm, centred_norm) = self.words.gram_norms();
        Cosine {
            raw: ratio(shared, raw_norm * self.contexts.gram_norm),
            centred: ratio(shared, centred_norm * self.contexts.gram_norm),
        }
    }

    /// Logits of these words and of states dealt to contexts in this order; `energies` are those of
    /// [`Centred::logit_energies`], which no order changes.
    pub fn logits(
        &self,
        states: &Centred,
        order: &[usize],
        projected: &Projected,
        energies: (f64, f64),
    ) -> LogitFit {
        let values = &self.contexts.prediction.singular_values;
        let (norm, centred_norm) = (energies.0.sqrt(), energies.1.sqrt());
        let centred_proxy = sum(order
            .iter()
            .zip(self.of_context.rows())
            .map(|(&row, word)| {
                vectorised(
                    #[inline(always)]
                    || dot(word, states.rows.row(row)),
                )
            }));
        let mut total = vec![0.0; states.mean.len()];
        for word in self.of_context.rows() {
            total.iter_mut().zip(word).for_each(|(t, x)| *t += x);
        }
        let proxy = centred_proxy + dot(&total, &states.mean);
        let strengths = |rows: &RowMatrix<f64>| -> Vec<f64> {
            let pairs = self.along.rows().zip(rows.rows());
            pairs.map(|(word, state)| dot(word, state)).collect()
        };
        let (raw, centred) = (strengths(&projected.raw), strengths(&projected.centred));
        let along = |strengths: &[f64]| sum(values.iter().zip(strengths).map(|(v, p)| v * p));
        LogitFit {
            prediction: Cosine {
                raw: ratio(along(&raw), norm * self.contexts.gram_norm),
                centred: ratio(along(&centred), centred_norm * self.centred_values_norm),
            },
            proxy: Cosine {
                raw: ratio(proxy, norm * self.proxy_norm),
                centred: ratio(centred_proxy, centred_norm * self.centred_proxy_norm),
            },
            strengths: raw,
            centred_strengths: centred,
        }
    }

    /// `P_F(L)` against `L^in`, states dealt to contexts in this order.
    pub fn finite(&self, states: &Centred, order: &[usize]) -> FiniteFit {
        let found = centred_on_supports(self.laws, self.in_support(states, order));
        let (mut weights, mut weighted) = (Vec::with_capacity(found.len()), (0.0, 0.0));
        for (j, weight) in self.laws.weights.iter().enumerate() {
            let range = self.laws.laws.range(j);
            // A support of one token says nothing: its entry is 0 on both sides.
            let weight = if range.len() > 1 {
                weight / range.len() as f64
            } else {
                0.0
            };
            for k in range {
                weighted.0 += weight * self.finite[k] * found[k];
                weighted.1 += weight * self.finite[k] * self.finite[k];
                weights.push(weight);
            }
        }
        let pairs = || found.iter().zip(&self.finite);
        let square = |x: &[f64]| sum(x.iter().map(|x| x * x));
        FiniteFit {
            distance: sum(pairs().map(|(a, b)| (a - b).powi(2))).sqrt(),
            cosine: ratio(
                sum(pairs().map(|(a, b)| a * b)),
                (square(&found) * square(&self.finite)).sqrt(),
            ),
            correlation: match weights.iter().any(|w| *w > 0.0) {
                true => pearson(&self.finite, &found, &weights),
                false => 0.0,
            },
            slope: ratio(weighted.0, weighted.1),
        }
    }

    /// The logits of the tokens on each context's support, in the order of the laws.
    fn in_support(&self, states: &Centred, order: &[usize]) -> Vec<f64> {
        let m = self.laws.supports.contexts();
        let by_context: Vec<Vec<f64>> = (0..m)
            .into_par_iter()
            .map(|j| {
                let state = raw_row(states, order[j]);
                let (support, _) = self.laws.supports.rows.row(j);
                vectorised(
                    #[inline(always)]
                    || {
                        let logit = |&v: &u32| dot(self.words.rows.row(v as usize), &state);
                        support.iter().map(logit).collect()
                    },
                )
            })
            .collect();
        by_context.concat()
    }
}

fn raw_row(states: &Centred, row: usize) -> Vec<f64> {
    let pairs = states.rows.row(row).iter().zip(&states.mean);
    pairs.map(|(x, m)| x + m).collect()
}

/// Values in the order of the laws, less their mean over each support.
fn centred_on_supports(laws: &ContextLaws, mut values: Vec<f64>) -> Vec<f64> {
    for j in 0..laws.supports.contexts() {
        let support = &mut values[laws.laws.range(j)];
        let mean = sum(support.iter().copied()) / support.len() as f64;
        support.iter_mut().for_each(|x| *x -= mean);
    }
    values
}

/// `m |s|^2` for the mean s of the columns of `S~`.
fn mean_column_energy(laws: &ContextLaws) -> f64 {
    let supports = &laws.supports;
    let widths = supports.token_widths();
    let squares = sum(widths.iter().map(|&w| (w as f64).powi(2)));
    let total = supports.rows.nnz() as f64;
    (squares - total * total / widths.len() as f64) / supports.contexts() as f64
}

/// Rows of logits computed together.
const BLOCK: usize = 256;

/// `sum_j pi_j KL(p_j || softmax(L_j))`, the excess of the cross-entropy over H, nats. O(m V d), a
/// block of contexts at a time.
pub(crate) fn excess(laws: &ContextLaws, words: &Centred, states: &Centred) -> f64 {
    let (m, vocabulary) = (laws.supports.contexts(), laws.supports.vocabulary());
    let mut terms = Vec::with_capacity(m);
    for first in (0..m).step_by(BLOCK) {
        let count = BLOCK.min(m - first);
        let mut block = RowMatrix::zeros(count, states.rows.ncols());
        for i in 0..count {
            let row = raw_row(states, first + i);
            block.row_mut(i).copy_from_slice(&row);
        }
        let mut logits = RowMatrix::zeros(count, vocabulary);
        matmul(
            logits.view_mut(),
            block.view(),
            words.rows.view().transpose(),
        );
        let divergence = |(i, row): (usize, &[f64])| {
            let largest = row.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let log_total = sum(row.iter().map(|x| (x - largest).exp())).ln();
            let (support, law) = laws.laws.row(first + i);
            let on = support
                .iter()
                .zip(law)
                .map(|(&v, &p)| p * (p.ln() - (row[v as usize] - largest) + log_total));
            laws.weights[first + i] * sum(on).max(0.0)
        };
        let here: Vec<f64> = logits
            .data()
            .par_chunks(vocabulary)
            .enumerate()
            .map(divergence)
            .collect();
        terms.extend(here);
    }
    sum(terms)
}
