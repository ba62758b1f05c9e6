//! The max-margin constraints in weighted coordinates: a projection onto them, and a dual point out
//! of their normal cone.

use lawvere_core::{RowMatrix, sum};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::reduction::Reduction;

/// The matrices whose every column is constant on its support and at least 1 less off it:
/// `l_zj = l_z'j` and `l_zj - l_vj >= 1`.
pub(crate) struct MarginSet<'a> {
    reduction: &'a Reduction,
    /// The inverses of the roots of the token counts.
    inverse_root: Vec<f64>,
    /// The tokens of each column's support, with their multiplicities.
    support: Vec<f64>,
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
        let counts = &reduction.token_count;
        let size = |inside: &[bool]| -> f64 {
            let counts = inside.iter().zip(counts);
            counts.filter(|(inside, _)| **inside).map(|(_, r)| r).sum()
        };
        Self {
            reduction,
            inverse_root: reduction.token_root.iter().map(|r| 1.0 / r).collect(),
            support: reduction.inside.rows().map(size).collect(),
            levels: vec![0.0; reduction.contexts()],
        }
    }

    /// The nearest point of the set, in place.
    pub fn project(&mut self, x: &mut RowMatrix<f64>) {
        let mut rest = x.clone();
        let rows: Vec<_> = rest.data_mut().chunks_mut(x.ncols()).collect();
        self.split(x, rows, |_, u| u);
    }

    /// One step of the alternating direction method: with `x = relaxation low + (1 - relaxation) z + u`,
    /// `z` becomes the nearest point of the set to x and `u` the rest of x.
    pub fn step(
        &mut self,
        z: &mut RowMatrix<f64>,
        u: &mut RowMatrix<f64>,
        low: &RowMatrix<f64>,
        relaxation: f64,
    ) {
        let rows = u.data_mut().chunks_mut(z.ncols()).zip(low.rows());
        self.split(z, rows.collect(), |z, (u, low)| {
            for ((u, z), l) in u.iter_mut().zip(z).zip(*low) {
                *u += relaxation * l + (1.0 - relaxation) * z;
            }
            u
        });
    }

    /// Splits the rows x that `place` makes of those of `z` and `rows` into the nearest point of the
    /// set, in `z`, and the rest, where they were.
    ///
    /// Column by column: entries of the support become the level `a`, others `min(t, a - 1)`, where
    /// `a = (sum_in r t + sum_active r (t + 1)) / (sum_in r + sum_active r)` over the active entries
    /// `t + 1 > a`. The condition on `a` is an increasing, concave, piecewise linear equation, on
    /// which Newton's method ends after finitely many steps.
    fn split<T: Send>(
        &mut self,
        z: &mut RowMatrix<f64>,
        rows: Vec<T>,
        place: impl for<'r> Fn(&[f64], &'r mut T) -> &'r mut [f64] + Sync,
    ) {
        let (reduction, inverse_root, support) =
            (self.reduction, &self.inverse_root, &self.support);
        let mut rows: Vec<_> = rows.into_iter().zip(&mut self.levels).collect();
        let arch = Arch::new();
        for_rows(z, &mut rows, |j, z, (row, level)| {
            let x = place(z, row);
            **level = arch.dispatch(Split {
                x,
                nearest: z,
                inside: reduction.inside.row(j),
                counts: &reduction.token_count,
                root: &reduction.token_root,
                inverse_root,
                support: support[j],
                scale: reduction.context_root[j],
                level: **level,
            });
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
    ///
    /// Columns that sum to 0 have the entries of their support weigh as much as the others, and the value is
    /// taken from the others: they are of one sign, so that nothing cancels. A sum over the support would leave
    /// rounding of the size of `y` in a value that may be far smaller.
    pub fn dual(&self, y: &mut RowMatrix<f64>) -> f64 {
        let reduction = self.reduction;
        let roots = &reduction.token_root;
        let mut values = vec![0.0; y.nrows()];
        for_rows(y, &mut values, |j, row, value| {
            let inside = reduction.inside.row(j);
            let (mut on, mut off, mut weight) = (0.0, 0.0, 0.0);
            for (i, y) in row.iter_mut().enumerate() {
                if inside[i] {
                    weight += reduction.token_count[i];
                    on += *y * roots[i];
                } else {
                    *y = y.min(0.0);
                    off += *y * roots[i];
                }
            }
            let shift = (on + off) / weight;
            for (i, y) in row.iter_mut().enumerate() {
                if inside[i] {
                    *y -= shift * roots[i];
                }
            }
            *value = -off * reduction.context_root[j];
        });
        sum(values)
    }
}

/// Splits one column; gives its level.
struct Split<'a> {
    x: &'a mut [f64],
    nearest: &'a mut [f64],
    inside: &'a [bool],
    counts: &'a [f64],
    root: &'a [f64],
    inverse_root: &'a [f64],
    support: f64,
    scale: f64,
    level: f64,
}

impl WithSimd for Split<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        let n = self.x.len();
        let (x, nearest, inside) = (self.x, &mut self.nearest[..n], &self.inside[..n]);
        let (root, inverse_root) = (&self.root[..n], &self.inverse_root[..n]);
        let inverse_scale = 1.0 / self.scale;
        // Until the level is known, in `nearest` stands the one below which the entry is active.
        for i in 0..n {
            nearest[i] = if inside[i] {
                f64::NEG_INFINITY
            } else {
                x[i] * inverse_root[i] * inverse_scale + 1.0
            };
        }
        let base = support_sum(inside, x, root) * inverse_scale;
        let mut a = self.level;
        // The first step may come from either side; from then on the level only grows.
        for _ in 0..=n + 1 {
            let (total, active) = active_sums(nearest, self.counts, a);
            let next = (base + total) / (self.support + active);
            let settled = (next - a).abs() <= 1e-15 * a.abs().max(1.0);
            a = next;
            if settled {
                break;
            }
        }
        let (on, off) = (a * self.scale, (a - 1.0) * self.scale);
        for i in 0..n {
            let active = if nearest[i] > a { off * root[i] } else { x[i] };
            nearest[i] = if inside[i] { on * root[i] } else { active };
            x[i] -= nearest[i];
        }
        a
    }
}

/// Sums are made in so many parts.
const LANES: usize = 16;

#[inline(always)]
fn support_sum(inside: &[bool], x: &[f64], root: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let rows = inside.chunks(LANES).zip(x.chunks(LANES));
    for ((inside, x), root) in rows.zip(root.chunks(LANES)) {
        for (((sum, inside), x), root) in sums.iter_mut().zip(inside).zip(x).zip(root) {
            *sum += if *inside { x * root } else { 0.0 };
        }
    }
    sums.iter().sum()
}

/// The sums of `counts * x` and of `counts` where `x > a`.
#[inline(always)]
fn active_sums(x: &[f64], counts: &[f64], a: f64) -> (f64, f64) {
    let (mut totals, mut weights) = ([0.0; LANES], [0.0; LANES]);
    let add = |k: usize, x: f64, r: f64, totals: &mut [f64; LANES], weights: &mut [f64; LANES]| {
        totals[k] += if x > a { r * x } else { 0.0 };
        weights[k] += if x > a { r } else { 0.0 };
    };
    let (blocks, rest) = x.as_chunks::<LANES>();
    let (count_blocks, count_rest) = counts.as_chunks::<LANES>();
    for (x, r) in blocks.iter().zip(count_blocks) {
        for k in 0..LANES {
            add(k, x[k], r[k], &mut totals, &mut weights);
        }
    }
    for (k, (x, r)) in rest.iter().zip(count_rest).enumerate() {
        add(k, *x, *r, &mut totals, &mut weights);
    }
    (totals.iter().sum(), weights.iter().sum())
}
