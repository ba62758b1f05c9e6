//! The parts that networks are made of, forward and backward. Matrices have a row a token.

use lawvere_core::RowMatrix;
use lawvere_core::linalg::matmul;
use lawvere_core::vector::{Real, dot, vectorised};
use rayon::prelude::*;

/// Rows that one task works on; partial sums over rows are taken by task, so that they do not
/// depend on the number of threads.
pub(crate) const TASK_ROWS: usize = 64;

/// `out = x w^T` for weights outputs x inputs.
pub(crate) fn linear<T: Real>(out: &mut RowMatrix<T>, x: &RowMatrix<T>, weight: &RowMatrix<T>) {
    matmul(out.view_mut(), x.view(), weight.view().transpose());
}

/// The derivative by the weights of a [`linear`] layer, overwritten.
pub(crate) fn linear_weight_gradient<T: Real>(
    gradient: &mut RowMatrix<T>,
    d_out: &RowMatrix<T>,
    x: &RowMatrix<T>,
) {
    matmul(gradient.view_mut(), d_out.view().transpose(), x.view());
}

/// The derivative by the inputs of a [`linear`] layer, overwritten.
pub(crate) fn linear_input_gradient<T: Real>(
    d_x: &mut RowMatrix<T>,
    d_out: &RowMatrix<T>,
    weight: &RowMatrix<T>,
) {
    matmul(d_x.view_mut(), d_out.view(), weight.view());
}

/// `out = x / sqrt(mean x^2 + eps) * weight`, row by row.
pub(crate) fn rms_norm<T: Real>(out: &mut RowMatrix<T>, x: &RowMatrix<T>, weight: &[T], eps: T) {
    let width = x.ncols();
    let chunks = out.data_mut().par_chunks_mut(TASK_ROWS * width);
    chunks
        .zip(x.data().par_chunks(TASK_ROWS * width))
        .for_each(|(out, x)| {
            vectorised(
                #[inline(always)]
                || {
                    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                        let scale = inverse_root_mean_square(x, eps);
                        for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
                            *out = x * scale * w;
                        }
                    }
                },
            );
        });
}

#[inline(always)]
fn inverse_root_mean_square<T: Real>(x: &[T], eps: T) -> T {
    T::of(1.0) / (dot(x, x) / T::of(x.len() as f64) + eps).sqrt()
}

/// Adds the derivative of [`rms_norm`] by its input to `d_x`, and writes that by its weights.
pub(crate) fn rms_norm_gradient<T: Real>(
    d_x: &mut RowMatrix<T>,
    d_weight: &mut [T],
    d_out: &RowMatrix<T>,
    x: &RowMatrix<T>,
    weight: &[T],
    eps: T,
) {
    let width = x.ncols();
    let chunk = TASK_ROWS * width;
    let partial: Vec<Vec<T>> = d_x
        .data_mut()
        .par_chunks_mut(chunk)
        .zip(d_out.data().par_chunks(chunk))
        .zip(x.data().par_chunks(chunk))
        .map(|((d_x, d_out), x)| {
            let mut d_weight = vec![T::default(); width];
            let mut scaled = vec![T::default(); width];
            let rows = d_x.chunks_exact_mut(width).zip(d_out.chunks_exact(width));
            vectorised(
                #[inline(always)]
                || {
                    for ((d_x, d_out), x) in rows.zip(x.chunks_exact(width)) {
                        let scale = inverse_root_mean_square(x, eps);
                        for (k, s) in scaled.iter_mut().enumerate() {
                            *s = d_out[k] * weight[k];
                            d_weight[k] += d_out[k] * x[k] * scale;
                        }
                        let along = dot(&scaled, x) * scale * scale / T::of(width as f64);
                        for ((d, &s), &x) in d_x.iter_mut().zip(&scaled).zip(x) {
                            *d += scale * (s - along * x);
                        }
                    }
                },
            );
            d_weight
        })
        .collect();
    sum_partial(d_weight, &partial);
}

/// Writes the sums of `d_out`'s columns: the derivative by a bias.
pub(crate) fn column_sums<T: Real>(d_bias: &mut [T], d_out: &RowMatrix<T>) {
    let width = d_out.ncols();
    let partial: Vec<Vec<T>> = d_out
        .data()
        .par_chunks(TASK_ROWS * width)
        .map(|rows| {
            let mut sums = vec![T::default(); width];
            for row in rows.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(s, &x)| *s += x);
            }
            sums
        })
        .collect();
    sum_partial(d_bias, &partial);
}

fn sum_partial<T: Real>(out: &mut [T], partial: &[Vec<T>]) {
    out.fill(T::default());
    for part in partial {
        out.iter_mut().zip(part).for_each(|(o, &p)| *o += p);
    }
}

#[inline(always)]
pub(crate) fn sigmoid<T: Real>(x: T) -> T {
    T::of(1.0) / (T::of(1.0) + (-x).exp())
}

/// `gated = silu(gate) up`, both halves of a row of `gate_up`.
pub(crate) fn gate<T: Real>(gated: &mut RowMatrix<T>, gate_up: &RowMatrix<T>) {
    let width = gated.ncols();
    let chunks = gated.data_mut().par_chunks_mut(TASK_ROWS * width);
    let inputs = gate_up.data().par_chunks(2 * TASK_ROWS * width);
    chunks.zip(inputs).for_each(|(out, both)| {
        vectorised(
            #[inline(always)]
            || {
                let rows = out
                    .chunks_exact_mut(width)
                    .zip(both.chunks_exact(2 * width));
                for (out, both) in rows {
                    let (gate, up) = both.split_at(width);
                    for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
                        *out = g * sigmoid(g) * u;
                    }
                }
            },
        );
    });
}

/// Writes the derivative of [`gate`] by its input.
pub(crate) fn gate_gradient<T: Real>(
    d_gate_up: &mut RowMatrix<T>,
    d_gated: &RowMatrix<T>,
    gate_up: &RowMatrix<T>,
) {
    let width = d_gated.ncols();
    let both = 2 * TASK_ROWS * width;
    d_gate_up
        .data_mut()
        .par_chunks_mut(both)
        .zip(gate_up.data().par_chunks(both))
        .zip(d_gated.data().par_chunks(TASK_ROWS * width))
        .for_each(|((d_both, both), d_gated)| {
            vectorised(
                #[inline(always)]
                || {
                    let rows = d_both
                        .chunks_exact_mut(2 * width)
                        .zip(both.chunks_exact(2 * width))
                        .zip(d_gated.chunks_exact(width));
                    for ((d_both, both), d_gated) in rows {
                        let (d_gate, d_up) = d_both.split_at_mut(width);
                        let (gate, up) = both.split_at(width);
                        for k in 0..width {
                            let (g, d) = (gate[k], d_gated[k]);
                            let s = sigmoid(g);
                            d_up[k] = d * g * s;
                            d_gate[k] = d * up[k] * s * (T::of(1.0) + g * (T::of(1.0) - s));
                        }
                    }
                },
            );
        });
}

/// Rows of an embedding matrix, one a token.
pub(crate) fn embed<T: Real>(out: &mut RowMatrix<T>, embedding: &RowMatrix<T>, tokens: &[u32]) {
    let width = embedding.ncols();
    let rows = out.data_mut().chunks_exact_mut(width);
    for (row, &token) in rows.zip(tokens) {
        row.copy_from_slice(embedding.row(token as usize));
    }
}

/// Adds the derivative of [`embed`] by the embedding matrix.
pub(crate) fn embed_gradient<T: Real>(
    d_embedding: &mut RowMatrix<T>,
    d_out: &RowMatrix<T>,
    tokens: &[u32],
) {
    for (&token, row) in tokens.iter().zip(d_out.rows()) {
        let target = d_embedding.row_mut(token as usize);
        target.iter_mut().zip(row).for_each(|(t, &d)| *t += d);
    }
}

/// `x += delta`.
pub(crate) fn add<T: Real>(x: &mut RowMatrix<T>, delta: &RowMatrix<T>) {
    let values = x.data_mut().iter_mut().zip(delta.data());
    values.for_each(|(x, &d)| *x += d);
}

/// A matrix of this shape, the old one if it has it; its values are to be overwritten.
pub(crate) fn reshape<T: Real>(matrix: &mut RowMatrix<T>, rows: usize, columns: usize) {
    if (matrix.nrows(), matrix.ncols()) != (rows, columns) {
        *matrix = RowMatrix::zeros(rows, columns);
    }
}
