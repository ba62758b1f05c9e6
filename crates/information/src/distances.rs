use lawvere_core::linalg::symmetric_product;
use lawvere_core::vector::vectorised;
use lawvere_core::{RowMatrix, ShapeError, SparseRows, sum};
use lawvere_observe::Observation;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;
use serde::Serialize;

use crate::InformationError;
use crate::layers::{Readout, need_contexts};
use crate::pass::{HeadPass, check_continuous, divergence_of, replicate_weights, weighted_mean};

/// How far a model's predictive distances are from the data's, beside what its loss allows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PredictiveDistances {
    /// `CE - H = KL(data || model)`, nats: what both bounds are made of.
    pub divergence: f64,
    /// Of total variation.
    pub total_variation: DistanceBounds,
    /// Of Hellinger distance.
    pub hellinger: DistanceBounds,
    /// Contexts whose pairs the distortion is of.
    pub contexts: usize,
    /// Whether these are all contexts with their weights, rather than drawn by their weights.
    pub all: bool,
}

/// A distance's errors and their bounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DistanceBounds {
    /// `E d(p_x, q_x)^2`, p the data's law and q the model's.
    pub mean_square: f64,
    /// Its standard error (bootstrap over document blocks).
    pub mean_square_error: Option<f64>,
    /// `(CE - H) / 2`: at least `mean_square`.
    pub bound: f64,
    /// `E (d(p_x, p_x') - d(q_x, q_x'))^2` over independent contexts x, x'.
    pub distortion: f64,
    /// Its standard error by the jackknife over contexts; `None` of all contexts.
    pub distortion_error: Option<f64>,
    /// `2 (CE - H)`: at least the distortion of all contexts.
    pub distortion_bound: f64,
}

/// Total variation and Hellinger distance between data and model, and how far the model distorts the
/// distances between contexts.
///
/// `E d^2 <= (CE - H) / 2` by Pinsker's inequality for total variation and by `H^2 <= KL / 2` for
/// Hellinger distance; by the triangle inequality `(d(p, p') - d(q, q'))^2 <= 2 d(p, q)^2 + 2 d(p', q')^2`,
/// so that the distortion is at most `2 (CE - H)`. With more than `sample` contexts, the distortion is
/// that of so many drawn by their weights.
///
/// Cost: one pass through the head and `sample^2 / 2` times the vocabulary; memory some times `sample^2`
/// numbers in f64, and `sample` x 2304 of them.
///
/// *Source:* arXiv 2507.19247; Tsybakov, *Introduction to nonparametric estimation* (2009), section 2.4.
///
/// # Errors
/// An Observation of positions or without a model; a token of the data that the model makes impossible; a
/// sample of fewer than 2 contexts.
pub fn predictive_distances(
    observation: &Observation,
    sample: usize,
    seed: u64,
) -> Result<PredictiveDistances, InformationError> {
    need_contexts(observation, "the distance of laws")?;
    let rows = observation.rows();
    if rows.min(sample) < 2 {
        return Err(InformationError::TooFew {
            what: "a distance between contexts",
            of: "contexts",
            needed: 2,
            found: rows.min(sample),
        });
    }
    let readout = Readout::of(observation, None)?;
    let pass = HeadPass::run(observation, readout.head, &readout.states)?;
    check_continuous(observation, &pass)?;
    let laws = observation.laws();
    let divergence = divergence_of(observation, &laws, &pass);
    let squares = |counts: &SparseRows<f64>| -> [Vec<f64>; 2] {
        let of = |f: &dyn Fn(&[f64], &[f64]) -> f64| {
            let rows = 0..counts.nrows();
            rows.map(|row| f(counts.row(row).1, &pass.entry_log_probs[counts.range(row)]))
                .collect()
        };
        [of(&total_variation_squared), of(&hellinger_squared)]
    };
    let weights = &observation.weights;
    let mean_squares = squares(&laws).map(|values| weighted_mean(&values, weights));
    let errors = observation.standard_errors(seed, |replicate| {
        let weights = replicate_weights(observation, &replicate.counts);
        let counts = observation.counts.map(|k, _| replicate.counts[k]);
        let laws = lawvere_observe::frequencies(&counts);
        Some(squares(&laws).map(|v| weighted_mean(&v, &weights)).to_vec())
    });
    let all = rows <= sample;
    let chosen = match all {
        true => (0..rows).collect(),
        false => drawn(weights, sample, seed),
    };
    let distortions = distortions(&readout, &laws, &chosen)?;
    let bounds = |k: usize| {
        let (distortion, distortion_error) = match all {
            true => (weighted_pairs(&distortions[k], weights), None),
            false => {
                let (mean, error) = pair_mean(&distortions[k]);
                (mean, Some(error))
            }
        };
        DistanceBounds {
            mean_square: mean_squares[k],
            mean_square_error: errors.as_ref().map(|e| e[k]),
            bound: 0.5 * divergence,
            distortion,
            distortion_error,
            distortion_bound: 2.0 * divergence,
        }
    };
    Ok(PredictiveDistances {
        divergence,
        total_variation: bounds(0),
        hellinger: bounds(1),
        contexts: chosen.len(),
        all,
    })
}

/// Rows drawn independently with probabilities `weights`.
pub(crate) fn drawn(weights: &[f64], count: usize, seed: u64) -> Vec<usize> {
    let mut rng = StdRng::seed_from_u64(seed);
    let cumulative: Vec<f64> = weights
        .iter()
        .scan(0.0, |total, w| {
            *total += w;
            Some(*total)
        })
        .collect();
    let whole = cumulative.last().copied().unwrap_or(0.0);
    (0..count)
        .map(|_| {
            let x = rng.random::<f64>() * whole;
            let row = cumulative.partition_point(|&c| c <= x);
            row.min(weights.len().saturating_sub(1))
        })
        .collect()
}

fn total_variation_squared(law: &[f64], log_q: &[f64]) -> f64 {
    let inside = sum(law.iter().zip(log_q).map(|(p, l)| (p - l.exp()).abs()));
    let outside = (1.0 - sum(log_q.iter().map(|l| l.exp()))).max(0.0);
    (0.5 * (inside + outside)).powi(2)
}

fn hellinger_squared(law: &[f64], log_q: &[f64]) -> f64 {
    let roots = law
        .iter()
        .zip(log_q)
        .map(|(p, l)| p.sqrt() - (0.5 * l).exp());
    let outside = (1.0 - sum(log_q.iter().map(|l| l.exp()))).max(0.0);
    0.5 * (sum(roots.map(|x| x * x)) + outside)
}

/// `(d(p_i, p_j) - d(q_i, q_j))^2` of all pairs of chosen rows, for total variation and Hellinger
/// distance.
fn distortions(
    readout: &Readout<'_>,
    laws: &SparseRows<f64>,
    chosen: &[usize],
) -> Result<[RowMatrix<f64>; 2], InformationError> {
    let n = chosen.len();
    let states = RowMatrix::from_fn(n, readout.states.ncols(), |i, k| {
        readout.states.get(chosen[i], k)
    });
    // Both sums over tokens, stretch of the vocabulary by stretch; of f32 laws, in f64.
    let mut overlap = RowMatrix::<f64>::zeros(n, n);
    let mut apart: Vec<Vec<f64>> = (0..n).map(|i| vec![0.0; i]).collect();
    let mut part = RowMatrix::<f64>::zeros(n, n);
    readout
        .head
        .for_each_prob_stretch::<ShapeError>(&states, |_, probs| {
            let roots = RowMatrix::from_vec(
                probs.data().iter().map(|&p| f64::from(p).sqrt()).collect(),
                n,
                probs.ncols(),
            )?;
            symmetric_product(part.view_mut(), roots.view());
            let sums = overlap.data_mut().iter_mut().zip(part.data());
            sums.for_each(|(sum, x)| *sum += x);
            apart.par_iter_mut().enumerate().for_each(|(i, row)| {
                for (j, sum) in row.iter_mut().enumerate() {
                    *sum += difference(probs.row(i), probs.row(j));
                }
            });
            Ok(())
        })?;
    let pairs: Vec<Vec<[f64; 2]>> = (0..n)
        .into_par_iter()
        .map(|i| {
            let left = laws.row(chosen[i]);
            (0..i)
                .map(|j| {
                    let (data_tv, data_overlap) = compare_sparse(left, laws.row(chosen[j]));
                    let tv = 0.5 * apart[i][j];
                    // Rows of float32 laws overlap by 1 to their own rounding.
                    let scale = (overlap.get(i, i) * overlap.get(j, j)).sqrt();
                    let h = (1.0 - overlap.get(i, j) / scale).max(0.0).sqrt();
                    let data_h = (1.0 - data_overlap).max(0.0).sqrt();
                    [(data_tv - tv).powi(2), (data_h - h).powi(2)]
                })
                .collect()
        })
        .collect();
    let matrix = |k: usize| {
        RowMatrix::from_fn(n, n, |i, j| match i.cmp(&j) {
            std::cmp::Ordering::Equal => 0.0,
            std::cmp::Ordering::Greater => pairs[i][j][k],
            std::cmp::Ordering::Less => pairs[j][i][k],
        })
    };
    Ok([matrix(0), matrix(1)])
}

/// `sum |a - b|`, stretches of 512 in f32.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    vectorised(
        #[inline(always)]
        || {
            let mut total = 0.0;
            for (a, b) in a.chunks(512).zip(b.chunks(512)) {
                let mut lanes = [0.0f32; 16];
                let (a, b) = (a.chunks_exact(16), b.chunks_exact(16));
                for (x, y) in a.remainder().iter().zip(b.remainder()) {
                    total += f64::from((x - y).abs());
                }
                for (a, b) in a.zip(b) {
                    for (lane, (x, y)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                        *lane += (x - y).abs();
                    }
                }
                total += lanes.iter().map(|&l| f64::from(l)).sum::<f64>();
            }
            total
        },
    )
}

/// Total variation and `sum sqrt(p p')` of two sparse laws.
pub(crate) fn compare_sparse(a: (&[u32], &[f64]), b: (&[u32], &[f64])) -> (f64, f64) {
    let (mut i, mut j) = (0, 0);
    let (mut common, mut overlap) = (0.0, 0.0);
    while i < a.0.len() && j < b.0.len() {
        match a.0[i].cmp(&b.0[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                common += a.1[i].min(b.1[j]);
                overlap += (a.1[i] * b.1[j]).sqrt();
                (i, j) = (i + 1, j + 1);
            }
        }
    }
    (1.0 - common, overlap)
}

fn weighted_pairs(values: &RowMatrix<f64>, weights: &[f64]) -> f64 {
    let rows = values.rows().zip(weights);
    sum(rows.map(|(row, w)| w * weighted_mean(row, weights)))
}

/// The mean over pairs i < j and its standard error by the jackknife over rows (a U-statistic's).
fn pair_mean(values: &RowMatrix<f64>) -> (f64, f64) {
    let n = values.nrows() as f64;
    let rows: Vec<f64> = values.rows().map(|r| sum(r.iter().copied())).collect();
    let total = sum(rows.iter().copied());
    let mean = total / (n * (n - 1.0));
    if n < 3.0 {
        return (mean, f64::INFINITY);
    }
    let without: Vec<f64> = rows
        .iter()
        .map(|r| (total - 2.0 * r) / ((n - 1.0) * (n - 2.0)))
        .collect();
    let centre = sum(without.iter().copied()) / n;
    let squares = sum(without.iter().map(|x| (x - centre).powi(2)));
    (mean, ((n - 1.0) / n * squares).sqrt())
}
