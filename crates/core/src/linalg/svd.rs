use faer::MatRef;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rayon::prelude::*;

use super::basis::{Basis, WIDTH};
use super::lanczos::Lanczos;
use super::{LinalgError, LinearOperator, matmul};
use crate::matrix::RowMatrix;
use crate::sum::sum;

/// The leading part of a singular value decomposition, `A ~ U diag(s) V^T`.
#[derive(Debug, Clone)]
pub struct TruncatedSvd {
    /// Left singular vectors, nrows x k.
    pub u: RowMatrix<f64>,
    /// Singular values, decreasing.
    pub singular_values: Vec<f64>,
    /// Right singular vectors, ncols x k.
    pub v: RowMatrix<f64>,
    /// The largest `|A^T u - s v|` among the triplets (where `A` has more columns than rows, `|A v - s u|`),
    /// as measured: how far the decomposition is from exact. The other side's are rounding.
    pub residual: f64,
    /// Whether that is within the tolerance asked for.
    pub converged: bool,
    /// Columns that were multiplied by `A^T A` (or `A A^T`, if that is smaller).
    pub products: usize,
}

pub(super) const WHAT: LinalgError = LinalgError("truncated singular value decomposition");
/// Dense matrices up to this many entries are decomposed directly where that asks for no larger basis.
const DENSE: usize = 1 << 22;
/// The `rank` leading singular triplets of `a`, by a thick-restart block Lanczos method on `A^T A` or
/// `A A^T`, whichever is smaller, with every block kept orthogonal to all before; small matrices
/// directly.
///
/// Iterates until every residual is below `tolerance` times the largest singular value, 100 restarts
/// at most; the residual reached is returned. Singular values below some 1e-8 of the largest are lost in rounding (the method
/// works with their squares) and come out as what `|A v|` then is. A `rank` beyond the smaller
/// dimension n is cut to it. The result depends on `seed` and not on the number of threads.
///
/// Cost: usually products with some 4 to 6 `rank` columns, two passes over the basis for every block of
/// 8; memory n x (5 `rank` + 64) beside the result.
///
/// *Source:* Golub, Underwood, *The block Lanczos method for computing eigenvalues* (1977); Wu,
/// Simon, *Thick-restart Lanczos method for large symmetric eigenvalue problems* (2000).
///
/// # Errors
/// A matrix with NaN or infinite entries.
pub fn truncated_svd(
    a: &dyn LinearOperator,
    rank: usize,
    tolerance: f64,
    seed: u64,
) -> Result<TruncatedSvd, LinalgError> {
    let sides = Sides::new(a);
    let rank = rank.min(sides.smaller);
    if rank == 0 {
        return Ok(TruncatedSvd {
            u: RowMatrix::zeros(a.nrows(), 0),
            singular_values: Vec::new(),
            v: RowMatrix::zeros(a.ncols(), 0),
            residual: 0.0,
            converged: true,
            products: 0,
        });
    }
    let most = (5 * rank + 64).next_multiple_of(WIDTH);
    if sides.smaller <= most && a.nrows().saturating_mul(a.ncols()) <= DENSE {
        let identity = RowMatrix::from_fn(sides.smaller, sides.smaller, |i, j| f64::from(i == j));
        let columns = sides.to_larger(&identity);
        let (large, mut values, small) = thin_svd(columns.view())?;
        values.truncate(rank);
        let (large, small) = (leading(&large, rank), leading(&small, rank));
        return sides.measured(large, values, small, tolerance, sides.smaller);
    }
    let (small, products) = Lanczos::new(&sides, rank, most, tolerance, seed).run()?;
    let (large, values, small) = sides.partners(small, seed)?;
    sides.measured(large, values, small, tolerance, products)
}

/// An operator and its transpose, told apart by their sizes.
pub(super) struct Sides<'a> {
    a: &'a dyn LinearOperator,
    columns_smaller: bool,
    pub smaller: usize,
}

impl<'a> Sides<'a> {
    fn new(a: &'a dyn LinearOperator) -> Self {
        let columns_smaller = a.ncols() <= a.nrows();
        Self {
            a,
            columns_smaller,
            smaller: a.ncols().min(a.nrows()),
        }
    }

    fn to_larger(&self, x: &RowMatrix<f64>) -> RowMatrix<f64> {
        if self.columns_smaller {
            self.a.apply(x)
        } else {
            self.a.apply_transpose(x)
        }
    }

    fn to_smaller(&self, y: &RowMatrix<f64>) -> RowMatrix<f64> {
        if self.columns_smaller {
            self.a.apply_transpose(y)
        } else {
            self.a.apply(y)
        }
    }

    /// The product with the Gram matrix of the smaller side.
    pub fn gram(&self, x: &RowMatrix<f64>) -> RowMatrix<f64> {
        if self.columns_smaller {
            self.a.apply_gram(x)
        } else {
            self.to_smaller(&self.to_larger(x))
        }
    }

    /// The larger side's singular vectors, the singular values, and the smaller side's vectors, which
    /// change where small values are to be told apart.
    fn partners(&self, small: RowMatrix<f64>, seed: u64) -> Result<Triplets, LinalgError> {
        /// Images are orthogonal up to rounding times the square of their largest ratio.
        const LEVEL: f64 = 1e-3;
        let mut images = self.to_larger(&small);
        let sizes = column_norms(&images);
        let largest = sizes.iter().copied().fold(0.0, f64::max);
        if sizes.iter().all(|&size| size > LEVEL * largest) {
            let inverse: Vec<f64> = sizes.iter().map(|size| 1.0 / size).collect();
            each_row(&mut images, |row| {
                row.iter_mut().zip(&inverse).for_each(|(x, f)| *x *= f);
            });
            return Ok((images, sizes, small));
        }
        // A Z = Q R, and the decomposition of the small R gives that of A Z.
        let (q, r) = self.triangular(&images, largest, seed);
        let (left, values, right) = thin_svd(r.view())?;
        let mut rotated = RowMatrix::zeros(small.nrows(), small.ncols());
        matmul(rotated.view_mut(), small.view(), right.view());
        Ok((q.combine(&left), values, rotated))
    }

    fn triangular(
        &self,
        images: &RowMatrix<f64>,
        scale: f64,
        seed: u64,
    ) -> (Basis, RowMatrix<f64>) {
        let k = images.ncols();
        let mut rng = StdRng::seed_from_u64(seed);
        let mut basis = Basis::new(images.nrows());
        let wide = k.next_multiple_of(WIDTH);
        let mut r = RowMatrix::zeros(wide, k);
        for first in (0..k).step_by(WIDTH) {
            let mut block = RowMatrix::zeros(images.nrows(), WIDTH);
            let width = (k - first).min(WIDTH);
            for (i, row) in images.rows().enumerate() {
                block.row_mut(i)[..width].copy_from_slice(&row[first..first + width]);
            }
            let mut put = |from: usize, rows: &[[f64; WIDTH]]| {
                for (a, row) in rows.iter().enumerate() {
                    for (c, x) in row[..width].iter().enumerate() {
                        r.row_mut(from + a)[first + c] += x;
                    }
                }
            };
            for _ in 0..2 {
                put(0, &basis.project(0, &mut block));
            }
            let new = basis.orthonormalise(block, scale, &mut rng);
            put(first, &new.factor);
            basis.push(new);
        }
        (basis, r)
    }

    /// Measures how far the triplets are from exact, and puts them in order.
    fn measured(
        &self,
        large: RowMatrix<f64>,
        values: Vec<f64>,
        small: RowMatrix<f64>,
        tolerance: f64,
        products: usize,
    ) -> Result<TruncatedSvd, LinalgError> {
        let k = values.len();
        let mut back = self.to_smaller(&large);
        let rows = back.data_mut().par_chunks_mut(k);
        rows.zip(small.data().par_chunks(k))
            .for_each(|(back, row)| {
                for ((x, s), v) in back.iter_mut().zip(&values).zip(row) {
                    *x -= s * v;
                }
            });
        let residuals = column_norms(&back);
        if residuals.iter().chain(&values).any(|x| !x.is_finite()) {
            return Err(WHAT);
        }
        let residual = residuals.into_iter().fold(0.0, f64::max);
        let mut order: Vec<usize> = (0..k).collect();
        order.sort_by(|&i, &j| values[j].total_cmp(&values[i]));
        let ordered = |mut m: RowMatrix<f64>| {
            if !order.is_sorted() {
                each_row(&mut m, |row| {
                    let old = row.to_vec();
                    row.iter_mut().zip(&order).for_each(|(x, &c)| *x = old[c]);
                });
            }
            m
        };
        let (large, small) = (ordered(large), ordered(small));
        let (u, v) = if self.columns_smaller {
            (large, small)
        } else {
            (small, large)
        };
        let singular_values: Vec<f64> = order.iter().map(|&c| values[c]).collect();
        Ok(TruncatedSvd {
            u,
            v,
            converged: residual <= tolerance * singular_values[0],
            singular_values,
            residual,
            products,
        })
    }
}

/// The larger side's vectors, the values, the smaller side's vectors.
type Triplets = (RowMatrix<f64>, Vec<f64>, RowMatrix<f64>);

fn thin_svd(a: MatRef<'_, f64>) -> Result<Triplets, LinalgError> {
    let svd = a.thin_svd().map_err(|_| WHAT)?;
    let values: Vec<f64> = svd.S().column_vector().iter().copied().collect();
    let copy = |m: MatRef<'_, f64>| RowMatrix::from_fn(m.nrows(), m.ncols(), |i, j| m[(i, j)]);
    Ok((copy(svd.U()), values, copy(svd.V())))
}

fn leading(a: &RowMatrix<f64>, columns: usize) -> RowMatrix<f64> {
    RowMatrix::from_fn(a.nrows(), columns, |i, j| a.get(i, j))
}

const ROWS: usize = 1024;

fn each_row(a: &mut RowMatrix<f64>, f: impl Fn(&mut [f64]) + Sync) {
    let k = a.ncols().max(1);
    a.data_mut()
        .par_chunks_mut(k * ROWS)
        .for_each(|rows| rows.chunks_mut(k).for_each(&f));
}

/// In a fixed order.
fn column_norms(a: &RowMatrix<f64>) -> Vec<f64> {
    let k = a.ncols();
    let part = |rows: &[f64]| {
        let mut squares = vec![0.0; k];
        for row in rows.chunks_exact(k) {
            squares.iter_mut().zip(row).for_each(|(s, x)| *s += x * x);
        }
        squares
    };
    let parts: Vec<_> = a.data().par_chunks(k * ROWS).map(part).collect();
    let square = |c: usize| sum(parts.iter().map(|part| part[c]));
    (0..k).map(|c| square(c).sqrt()).collect()
}
