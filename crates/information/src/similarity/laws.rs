use lawvere_core::linalg::RowGram;
use lawvere_core::vector::{exp_shifted, maximum, vectorised};
use lawvere_core::{RowMatrix, ShapeError, SparseRows};
use rayon::prelude::*;

use super::SimilarityKernel;
use crate::InformationError;
use crate::distances::compare_sparse;
use crate::layers::Readout;

/// Laws of chosen rows.
pub(super) enum Laws<'a> {
    Data(&'a SparseRows<f64>, &'a [usize]),
    Model(&'a Readout<'a>, &'a [usize]),
}

impl Laws<'_> {
    pub fn len(&self) -> usize {
        match self {
            Self::Data(_, rows) | Self::Model(_, rows) => rows.len(),
        }
    }
}

/// The states of some rows, as the head reads them.
fn chosen(readout: &Readout<'_>, rows: &[usize]) -> RowMatrix<f32> {
    RowMatrix::from_fn(rows.len(), readout.states.ncols(), |i, k| {
        readout.states.get(rows[i], k)
    })
}

/// `Pi^{1/2} K Pi^{1/2}` of an overlap kernel.
pub(super) fn overlaps(
    laws: &Laws<'_>,
    kernel: SimilarityKernel,
    weights: &[f64],
) -> Result<RowMatrix<f64>, InformationError> {
    let n = laws.len();
    let root = kernel != SimilarityKernel::ExpectedLikelihood;
    let mut overlap = RowMatrix::<f64>::zeros(n, n);
    match laws {
        Laws::Data(laws, rows) => {
            let values: Vec<Vec<f64>> = (0..n)
                .into_par_iter()
                .map(|i| {
                    let left = laws.row(rows[i]);
                    (0..=i)
                        .map(|j| {
                            let right = laws.row(rows[j]);
                            match root {
                                true => compare_sparse(left, right).1,
                                false => product_sparse(left, right),
                            }
                        })
                        .collect()
                })
                .collect();
            for (i, row) in values.iter().enumerate() {
                overlap.row_mut(i)[..=i].copy_from_slice(row);
            }
        }
        Laws::Model(readout, rows) => {
            let states = chosen(readout, rows);
            overlap = match root {
                true => root_gram(readout, &states)?,
                false => {
                    let mut gram = RowGram::new(n);
                    readout
                        .head
                        .for_each_prob_stretch::<ShapeError>(&states, |_, probs| gram.add(probs))?;
                    gram
                }
            }
            .lower()
            .map(f64::from);
        }
    }
    // Of roots every row has a scale of its own, which divides out.
    let length = |i: usize| if root { overlap.get(i, i).sqrt() } else { 1.0 };
    let scales: Vec<(f64, f64)> = (0..n).map(|i| (length(i), weights[i].sqrt())).collect();
    let mut out = RowMatrix::zeros(n, n);
    out.data_mut()
        .par_chunks_mut(n.max(1))
        .enumerate()
        .for_each(|(i, row)| {
            for (j, x) in row.iter_mut().enumerate() {
                let overlap = overlap.get(i.max(j), i.min(j)) / (scales[i].0 * scales[j].0);
                *x = scales[i].1 * scales[j].1 * kernel.of(overlap);
            }
        });
    Ok(out)
}

/// Logits of a row may be above the largest of the first stretch by this much before their sums of exponentials
/// come near the end of f32.
const ROOM: f32 = 40.0;

/// The Gram matrix of roots of laws, every row to a scale of its own: the softmax's denominators are not needed, only
/// a shift near the largest logit. That of the first tokens serves, but where it does not all is looked at.
fn root_gram(readout: &Readout<'_>, states: &RowMatrix<f32>) -> Result<RowGram, InformationError> {
    match root_gram_from(readout, states, None)? {
        Some(gram) => Ok(gram),
        None => {
            let totals = readout.head.softmax_totals(states)?;
            let largest = totals.iter().map(|t| t.0).collect();
            let gram = root_gram_from(readout, states, Some(largest))?;
            gram.ok_or_else(|| ShapeError::new("logits", "finite numbers", "others").into())
        }
    }
}

/// `None` if some logit is too far above the shift of its row, or a shift is no number.
fn root_gram_from(
    readout: &Readout<'_>,
    states: &RowMatrix<f32>,
    shifts: Option<Vec<f32>>,
) -> Result<Option<RowGram>, ShapeError> {
    let mut gram = RowGram::new(states.nrows());
    let (mut shifts, mut fits) = (shifts, true);
    readout
        .head
        .for_each_logit_stretch::<ShapeError>(states, |tokens, logits| {
            if !fits {
                return Ok(());
            }
            let width = tokens.len().max(1);
            let shifts = shifts.get_or_insert_with(|| {
                let rows = logits.data().par_chunks(width);
                rows.map(maximum).collect()
            });
            fits = logits
                .data_mut()
                .par_chunks_mut(width)
                .zip(&*shifts)
                .map(|(row, &shift)| {
                    vectorised(
                        #[inline(always)]
                        || {
                            let fits = shift.is_finite() && maximum(row) <= shift + ROOM;
                            row.iter_mut().for_each(|x| *x *= 0.5);
                            exp_shifted(row, 0.5 * shift);
                            fits
                        },
                    )
                })
                .reduce(|| true, |a, b| a && b);
            match fits {
                true => gram.add(logits),
                false => Ok(()),
            }
        })?;
    Ok(fits.then_some(gram))
}

fn product_sparse(a: (&[u32], &[f64]), b: (&[u32], &[f64])) -> f64 {
    let (mut i, mut j, mut total) = (0, 0, 0.0);
    while i < a.0.len() && j < b.0.len() {
        match a.0[i].cmp(&b.0[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                total += a.1[i] * b.1[j];
                (i, j) = (i + 1, j + 1);
            }
        }
    }
    total
}

/// Jensen-Shannon divergences of every law with every landmark, n x landmarks.
pub(super) fn against(
    laws: &Laws<'_>,
    landmarks: &[usize],
) -> Result<RowMatrix<f64>, InformationError> {
    let n = laws.len();
    let mut out = RowMatrix::zeros(n, landmarks.len());
    match laws {
        Laws::Data(laws, rows) => {
            out.data_mut()
                .par_chunks_mut(landmarks.len())
                .enumerate()
                .for_each(|(i, out)| {
                    for (out, &l) in out.iter_mut().zip(landmarks) {
                        *out = jensen_shannon_sparse(laws.row(rows[i]), laws.row(rows[l]));
                    }
                });
        }
        Laws::Model(readout, rows) => {
            let vocab = readout.head.vocab_size();
            let marks: Vec<usize> = landmarks.iter().map(|&l| rows[l]).collect();
            let mut held = RowMatrix::<f32>::zeros(marks.len(), vocab);
            let head = readout.head;
            head.for_each_log_prob_block::<ShapeError>(&chosen(readout, &marks), |block| {
                for (i, row) in block.probs.rows().enumerate() {
                    held.row_mut(block.first_row + i).copy_from_slice(row);
                }
                Ok(())
            })?;
            let own: Vec<f64> = held.rows().map(negative_entropy).collect();
            head.for_each_log_prob_block::<ShapeError>(&chosen(readout, rows), |block| {
                let width = landmarks.len();
                let here = block.first_row..block.first_row + block.probs.nrows();
                let parts = out.row_range_mut(here);
                parts
                    .par_chunks_mut(width)
                    .enumerate()
                    .for_each(|(i, out)| {
                        let law = block.probs.row(i);
                        let here = negative_entropy(law);
                        for ((out, other), there) in out.iter_mut().zip(held.rows()).zip(&own) {
                            let middle = negative_entropy_of_mean(law, other);
                            *out = (0.5 * (here + there) - middle).max(0.0);
                        }
                    });
                Ok(())
            })?;
        }
    }
    Ok(out)
}

fn jensen_shannon_sparse(a: (&[u32], &[f64]), b: (&[u32], &[f64])) -> f64 {
    let half = |p: f64, q: f64| lawvere_core::stoch::kl_term(p, 0.5 * (p + q));
    let (mut i, mut j, mut total) = (0, 0, 0.0);
    while i < a.0.len() || j < b.0.len() {
        let (left, right) = (a.0.get(i), b.0.get(j));
        let (p, q) = match (left, right) {
            (Some(x), Some(y)) if x == y => (a.1[i], b.1[j]),
            (Some(x), y) if y.is_none_or(|y| x < y) => (a.1[i], 0.0),
            _ => (0.0, b.1[j]),
        };
        total += half(p, q) + half(q, p);
        i += usize::from(p > 0.0);
        j += usize::from(q > 0.0);
    }
    (0.5 * total).max(0.0)
}

/// `x log x` by a polynomial for the logarithm's mantissa, f32 in and out, exact to 2e-7 relative of the
/// logarithm: what the vector unit can do without calling a library for each number.
#[inline(always)]
fn x_log_x(x: f32) -> f32 {
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    // The mantissa in [sqrt(1/2), sqrt(2)).
    let shifted = bits.wrapping_sub(0x3f35_04f3);
    let exponent = (shifted as i32 >> 23) as f32;
    let m = f32::from_bits((shifted & 0x007f_ffff) + 0x3f35_04f3) - 1.0;
    let s = m / (2.0 + m);
    let z = s * s;
    // log(1 + m) = 2 atanh(s), |s| < 0.1716.
    let series = 2.0 * s * (1.0 + z * (1.0 / 3.0 + z * (0.2 + z * (1.0 / 7.0 + z / 9.0))));
    x * (exponent * std::f32::consts::LN_2 + series)
}

/// `sum f(i)` of f32 terms in stretches of 512 over sixteen lanes.
#[inline(always)]
fn summed(n: usize, term: impl Fn(usize) -> f32) -> f64 {
    let mut total = 0.0;
    for first in (0..n).step_by(512) {
        let end = (first + 512).min(n);
        let whole = first + (end - first) / 16 * 16;
        let mut lanes = [0.0f32; 16];
        for i in (first..whole).step_by(16) {
            for (k, lane) in lanes.iter_mut().enumerate() {
                *lane += term(i + k);
            }
        }
        total += lanes.iter().map(|&l| f64::from(l)).sum::<f64>();
        total += (whole..end).map(|i| f64::from(term(i))).sum::<f64>();
    }
    total
}

fn negative_entropy(law: &[f32]) -> f64 {
    vectorised(
        #[inline(always)]
        || summed(law.len(), |i| x_log_x(law[i])),
    )
}

fn negative_entropy_of_mean(a: &[f32], b: &[f32]) -> f64 {
    let b = &b[..a.len()];
    vectorised(
        #[inline(always)]
        || summed(a.len(), |i| x_log_x(0.5 * (a[i] + b[i]))),
    )
}
