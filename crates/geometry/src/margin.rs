//! The max-margin constraints in weighted coordinates: a projection onto them, and a dual point out
//! of their normal cone.

use lawvere_core::{RowMatrix, sum};
use rayon::prelude::*;

use crate::reduction::Reduction;

/// The matrices whose every column is constant on its support and at least 1 less off it:
/// `l_zj = l_z'j` and `l_zj - l_vj >= 1`.
pub(crate) struct MarginSet<'a> {
    reduction: &'a Reduction,
    /// The level of each column in its last projection: where the next search starts.
    levels: Vec<f64>,
}

/// Below this many entries one thread is faster than two.
const PARALLEL: usize = 1 << 17;

/// Calls `f(context, row)` for every row of a context-major matrix, on all threads if that is worth it.
pub(crate) fn for_rows<T: Send>(
    matrix: &mut RowMatrix<f64>,
    extra: &mut [T],
    f: impl Fn(usize, &mut [f64], &mut T) + Sync,
) {
    let (rows, columns) = (matrix.nrows(), matrix.ncols());
    if rows == 0 || columns == 0 {
        return;
    }
    if rows * columns < PARALLEL {
        let rows = matrix.data_mut().chunks_mut(columns).zip(extra);
        rows.enumerate()
            .for_each(|(j, (row, extra))| f(j, row, extra));
    } else {
        let rows = matrix.data_mut().par_chunks_mut(columns).zip(extra);
        rows.enumerate()
            .for_each(|(j, (row, extra))| f(j, row, extra));
    }
}

impl<'a> MarginSet<'a> {
    pub fn new(reduction: &'a Reduction) -> Self {
        Self {
            reduction,
            levels: vec![0.0; reduction.contexts()],
        }
    }

    /// The nearest point of the set, in place.
    ///
    /// Column by column: entries of the support become the level `a`, others `min(t, a - 1)`, where
    /// `a = (sum_in r t + sum_active r (t + 1)) / (sum_in r + sum_active r)` over the active entries
    /// `t + 1 > a`. The condition on `a` is an increasing, concave, piecewise linear equation, on
    /// which Newton's method ends after finitely many steps.
    pub fn project(&mut self, x: &mut RowMatrix<f64>) {
        let reduction = self.reduction;
        let counts = &reduction.token_count;
        for_rows(x, &mut self.levels, |j, row, level| {
            let inside = reduction.inside.row(j);
            let scale = reduction.context_root[j];
            let (mut base, mut weight) = (0.0, 0.0);
            for (i, t) in row.iter_mut().enumerate() {
                *t /= reduction.token_root[i] * scale;
                if inside[i] {
                    base += counts[i] * *t;
                    weight += counts[i];
                }
            }
            let mut a = *level;
            // The first step may come from either side; from then on the level only grows.
            for _ in 0..=row.len() + 1 {
                let (mut total, mut active) = (base, weight);
                for ((&t, &r), &inside) in row.iter().zip(counts).zip(inside) {
                    let is_active = !inside && t + 1.0 > a;
                    total += if is_active { r * (t + 1.0) } else { 0.0 };
                    active += if is_active { r } else { 0.0 };
                }
                let next = total / active;
                let settled = (next - a).abs() <= 1e-15 * a.abs().max(1.0);
                a = next;
                if settled {
                    break;
                }
            }
            *level = a;
            for (i, t) in row.iter_mut().enumerate() {
                let l = if inside[i] { a } else { t.min(a - 1.0) };
                *t = l * reduction.token_root[i] * scale;
            }
        });
    }

    /// Takes the mean of every column off: still in the set, and of no larger nuclear norm.
    pub fn centre(&self, x: &mut RowMatrix<f64>) {
        let roots = &self.reduction.token_root;
        let total = sum(self.reduction.token_count.iter().copied());
        let mut none = vec![(); x.nrows()];
        for_rows(x, &mut none, |_, row, ()| {
            let mean = sum(row.iter().zip(roots).map(|(x, r)| x * r)) / total;
            row.iter_mut().zip(roots).for_each(|(x, r)| *x -= mean * r);
        });
    }

    /// Turns `y` into a point of the dual feasible set up to its operator norm: entries off the
    /// supports at most 0, column sums 0. Returns the value `<G,S>` that it proves once divided by
    /// that norm.
    pub fn dual(&self, y: &mut RowMatrix<f64>) -> f64 {
        let reduction = self.reduction;
        let roots = &reduction.token_root;
        let mut values = vec![0.0; y.nrows()];
        for_rows(y, &mut values, |j, row, value| {
            let inside = reduction.inside.row(j);
            let (mut total, mut weight) = (0.0, 0.0);
            for (i, y) in row.iter_mut().enumerate() {
                if inside[i] {
                    weight += reduction.token_count[i];
                } else {
                    *y = y.min(0.0);
                }
                total += *y * roots[i];
            }
            let shift = total / weight;
            *value = 0.0;
            for (i, y) in row.iter_mut().enumerate() {
                if inside[i] {
                    *y -= shift * roots[i];
                    *value += *y * roots[i];
                }
            }
            *value *= reduction.context_root[j];
        });
        sum(values)
    }
}
