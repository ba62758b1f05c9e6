use faer::Mat;
use lawvere_core::linalg::{matmul, symmetric_eigen, symmetric_product};
use lawvere_core::{HeadRef, PackedMatrix, PackedRows, RowMatrix, ShapeError};
use lawvere_observe::Observation;
use serde::Serialize;

use crate::InformationError;
use crate::layers::{head, raw_states};
use crate::pass::{add_weighted, view};

/// The mean Fisher-Rao metric of the head at the states of an Observation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FisherRao {
    /// Eigenvalues of the mean metric, decreasing: KL(p_{s + e v} || p_s) ~ e^2/2 times the
    /// eigenvalue, v the unit eigenvector.
    pub eigenvalues: Vec<f64>,
    /// `exp` of the entropy of the normalised eigenvalues: how many directions matter.
    pub effective_rank: f64,
    /// The largest eigenvalue over their sum.
    pub anisotropy: f64,
    /// The sum of the eigenvalues.
    pub trace: f64,
    /// The leading eigenvectors by what they do to predictions; none of eigenvalue 0.
    pub directions: Vec<Direction>,
}

/// What a unit step along an eigenvector of the metric does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Direction {
    /// Its eigenvalue.
    pub eigenvalue: f64,
    /// Tokens whose mean probability the step raises most, with their centred logit change.
    pub raised: Vec<(u32, f64)>,
    /// Tokens whose mean probability it lowers most.
    pub lowered: Vec<(u32, f64)>,
}

const SHOWN_TOKENS: usize = 8;
/// Rows of the head taken to f64 at once.
const HEAD_ROWS: usize = 4096;
/// Rows of states taken through the head at once.
const STATES: usize = 4096;
/// Laws that say about where the mean of the head's rows is.
const FEW: usize = 64;

/// The mean over rows of `g*(s) = U^T (diag p - p p^T) U`, U the head, at the head's input.
///
/// Computed as one weighted Gram matrix less another, `U^T diag(p_bar) U - sum_j w_j e_j e_j^T` with
/// `e_j = E_{q_j} u`, U centred first on its mean under a few of the laws (the metric does not see a shift of
/// U, and the nearer the shift is to the mean, the less cancels). Never a vocabulary x vocabulary matrix.
/// Cost: three products of rows x vocabulary x d, half of one of vocabulary x d x d in f64; memory: 4096 rows x
/// 2304 laws twice, and the head in f32 twice more.
///
/// A direction's tokens are those that a step along it changes most if every context had the mean law:
/// `p_bar_w <u_w - u_bar, v>`, u_bar the mean of U under it; the sign of v is chosen so that the largest change
/// is a rise. (Contexts with laws of their own change otherwise.)
///
/// *Source:* Amari, *Information Geometry and Its Applications* (2016); arXiv 2507.19247.
///
/// # Errors
/// An Observation without a model; a head with a logit soft-cap.
pub fn fisher_rao(
    observation: &Observation,
    directions: usize,
) -> Result<FisherRao, InformationError> {
    let head = head(observation)?;
    let (_, states) = raw_states(observation, None)?;
    if head.soft_cap.is_some() {
        return Err(InformationError::SoftCap("the mean Fisher-Rao metric"));
    }
    let d = head.weight.ncols();
    let shift = near_mean(head.view(), states)?;
    let centred = RowMatrix::from_fn(head.weight.nrows(), d, |w, k| {
        (f64::from(head.weight.get(w, k)) - shift[k]) as f32
    });
    let mut metric = Mat::<f64>::zeros(d, d);
    let mut gram = Mat::<f64>::zeros(d, d);
    let mut mean_law = vec![0.0; head.weight.nrows()];
    let mut laws = PackedRows::new();
    for first in (0..states.nrows()).step_by(STATES) {
        let rows = first..(first + STATES).min(states.nrows());
        let weights = &observation.weights[rows.clone()];
        let part = RowMatrix::from_vec(states.row_range(rows.clone()).to_vec(), rows.len(), d)?;
        let mut expected = RowMatrix::<f32>::zeros(rows.len(), d);
        head.view()
            .for_each_prob_stretch::<ShapeError>(&part, |tokens, probs| {
                add_weighted(&mut mean_law[tokens.clone()], weights, probs);
                laws.copy(probs.nrows(), probs.ncols(), probs.data());
                let vectors = centred.view().subrows(tokens.start, tokens.len());
                PackedMatrix::new(vectors.transpose()).multiply_add(&laws, expected.data_mut());
                Ok(())
            })?;
        let scaled: Vec<f64> = expected
            .rows()
            .zip(weights)
            .flat_map(|(row, w)| {
                let scale = w.sqrt();
                row.iter().map(move |&e| scale * f64::from(e))
            })
            .collect();
        symmetric_product(gram.as_mut(), view(&scaled, rows.len(), d).transpose());
        metric -= &gram;
    }
    for first in (0..centred.nrows()).step_by(HEAD_ROWS) {
        let rows = first..(first + HEAD_ROWS).min(centred.nrows());
        let scaled: Vec<f64> = rows
            .clone()
            .flat_map(|w| {
                let scale = mean_law[w].sqrt();
                centred.row(w).iter().map(move |&u| scale * f64::from(u))
            })
            .collect();
        symmetric_product(gram.as_mut(), view(&scaled, rows.len(), d).transpose());
        metric += &gram;
    }
    let eigen = symmetric_eigen(metric.as_ref())?;
    let eigenvalues = nonnegative(eigen.values);
    let Shape {
        trace,
        effective_rank,
        anisotropy,
    } = Shape::of(&eigenvalues);
    // What is left of the mean row after centring on one near it.
    let mut mean_row = vec![0.0; d];
    for (row, &p) in centred.rows().zip(&mean_law) {
        let sums = mean_row.iter_mut().zip(row);
        sums.for_each(|(m, &u)| *m += p * f64::from(u));
    }
    let directions = (0..directions.min(d))
        .take_while(|&k| eigenvalues[k] > 0.0)
        .map(|k| {
            let vector = eigen.vectors.row(k);
            direction(&centred, &mean_law, &mean_row, vector, eigenvalues[k])
        })
        .collect();
    Ok(FisherRao {
        effective_rank,
        anisotropy,
        trace,
        eigenvalues,
        directions,
    })
}

/// The mean of the head's rows under the laws of a few states, evenly spread.
fn near_mean(head: HeadRef<'_>, states: &RowMatrix<f32>) -> Result<Vec<f64>, ShapeError> {
    let few = FEW.min(states.nrows());
    let spread = RowMatrix::from_fn(few, states.ncols(), |i, k| {
        states.get(i * states.nrows() / few, k)
    });
    let mut mean = vec![0.0; head.dim()];
    head.for_each_log_prob_block::<ShapeError>(&spread, |block| {
        let mut rows = RowMatrix::<f32>::zeros(block.probs.nrows(), head.dim());
        matmul(rows.view_mut(), block.probs.view(), head.weight);
        for row in rows.rows() {
            mean.iter_mut()
                .zip(row)
                .for_each(|(m, &x)| *m += f64::from(x) / few as f64);
        }
        Ok(())
    })?;
    Ok(mean)
}

/// Decreasing eigenvalues of a positive semidefinite matrix without what rounding left of those that are 0.
pub(crate) fn nonnegative(mut eigenvalues: Vec<f64>) -> Vec<f64> {
    let least = 1e-15 * eigenvalues.first().copied().unwrap_or(0.0).max(0.0);
    eigenvalues
        .iter_mut()
        .filter(|l| **l <= least)
        .for_each(|l| *l = 0.0);
    eigenvalues
}

/// What a spectrum looks like.
pub(crate) struct Shape {
    pub trace: f64,
    pub effective_rank: f64,
    pub anisotropy: f64,
}

impl Shape {
    /// Of decreasing eigenvalues.
    pub fn of(eigenvalues: &[f64]) -> Self {
        let trace: f64 = eigenvalues.iter().sum();
        if trace == 0.0 {
            return Self {
                trace,
                effective_rank: 0.0,
                anisotropy: 0.0,
            };
        }
        Self {
            trace,
            effective_rank: lawvere_core::stoch::entropy(eigenvalues.iter().map(|l| l / trace))
                .exp(),
            anisotropy: eigenvalues[0] / trace,
        }
    }
}

fn direction(
    centred: &RowMatrix<f32>,
    mean_law: &[f64],
    mean_row: &[f64],
    vector: &[f64],
    eigenvalue: f64,
) -> Direction {
    let offset: f64 = mean_row.iter().zip(vector).map(|(m, v)| m * v).sum();
    let mut change: Vec<(u32, f64, f64)> = (0..centred.nrows())
        .map(|w| {
            let products = centred.row(w).iter().zip(vector);
            let logit = products.map(|(&u, v)| f64::from(u) * v).sum::<f64>() - offset;
            (w as u32, logit, mean_law[w] * logit)
        })
        .collect();
    let largest = change
        .iter()
        .map(|c| c.2)
        .fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
    if largest < 0.0 {
        change.iter_mut().for_each(|c| *c = (c.0, -c.1, -c.2));
    }
    change.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
    let name = |c: &(u32, f64, f64)| (c.0, c.1);
    Direction {
        eigenvalue,
        raised: change
            .iter()
            .take(SHOWN_TOKENS)
            .filter(|c| c.2 > 0.0)
            .map(name)
            .collect(),
        lowered: change
            .iter()
            .rev()
            .take(SHOWN_TOKENS)
            .filter(|c| c.2 < 0.0)
            .map(name)
            .collect(),
    }
}
