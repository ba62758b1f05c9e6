//! Thin layers over `faer`: products, truncated singular value decomposition, spectra.

use faer::linalg::matmul::matmul as faer_matmul;
use faer::reborrow::ReborrowMut;
use faer::{Accum, Mat, MatMut, MatRef, Par, Side};
use rand::SeedableRng;
use rand_distr::{Distribution as _, StandardNormal};
use thiserror::Error;

use crate::matrix::RowMatrix;
use crate::sparse::SparseRows;

/// A decomposition that did not come out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the {0} did not converge; the matrix may hold NaN or infinite entries")]
pub struct LinalgError(pub &'static str);

/// A real scalar that `faer` multiplies.
pub trait Scalar: faer::traits::ComplexField {
    /// 1.
    const ONE: Self;
}

impl Scalar for f32 {
    const ONE: Self = 1.0;
}

impl Scalar for f64 {
    const ONE: Self = 1.0;
}

/// The largest tile of a product that one thread computes: big enough to amortise packing, small
/// enough that threads share the work evenly.
const TILE_ENTRIES: usize = 1 << 18;
/// Smaller products are cut too, into eight tiles at most, as long as a tile has this many
/// multiply-adds and rows or columns left.
const TILE_WORK: usize = 1 << 22;
const TILE_SIDE: usize = 64;
const TILE_LEVELS: usize = 3;

/// `dst = a b` on the threads of the current pool.
///
/// Shapes must agree: `dst` is `a.nrows() x b.ncols()`. The product is cut into tiles whose bounds
/// depend on the shapes alone, so that the result does not depend on the number of threads; idle
/// threads steal tiles, which on a busy machine is faster than faer's own threads, which wait for
/// one another at barriers.
pub fn matmul<T: Scalar>(dst: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    product(dst, Accum::Replace, a, b, 0);
}

/// `dst += a b`; otherwise as [`matmul`].
pub fn matmul_add<T: Scalar>(dst: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    product(dst, Accum::Add, a, b, 0);
}

fn product<T: Scalar>(
    mut dst: MatMut<'_, T>,
    accum: Accum,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    level: usize,
) {
    let (m, n) = (dst.nrows(), dst.ncols());
    let work = m * n * a.ncols();
    let worth = level < TILE_LEVELS && work > TILE_WORK && m.max(n) >= 2 * TILE_SIDE;
    if m * n <= TILE_ENTRIES && !worth {
        return faer_matmul(dst, accum, a, b, T::ONE, Par::Seq);
    }
    // Bounds at multiples of the kernels' own blocks: 96 rows, or 16 lanes where little is left.
    let half = |side: usize| {
        let block = if side >= 768 { 96 } else { 16 };
        (side / 2).next_multiple_of(block)
    };
    if m >= n {
        let half = half(m);
        let (above, below) = dst.rb_mut().split_at_row_mut(half);
        let (a_above, a_below) = a.split_at_row(half);
        rayon::join(
            || product(above, accum, a_above, b, level + 1),
            || product(below, accum, a_below, b, level + 1),
        );
    } else {
        let half = half(n);
        let (left, right) = dst.rb_mut().split_at_col_mut(half);
        let (b_left, b_right) = b.split_at_col(half);
        rayon::join(
            || product(left, accum, a, b_left, level + 1),
            || product(right, accum, a, b_right, level + 1),
        );
    }
}

/// A matrix known by its products only.
pub trait LinearOperator {
    /// The number of rows.
    fn nrows(&self) -> usize;
    /// The number of columns.
    fn ncols(&self) -> usize;
    /// `A x` for a block `x` of ncols x k.
    fn apply(&self, x: MatRef<'_, f64>) -> Mat<f64>;
    /// `A^T y` for a block `y` of nrows x k.
    fn apply_transpose(&self, y: MatRef<'_, f64>) -> Mat<f64>;
}

/// Sparse rows with the mean of every row taken off, implicitly: `A - (A 1 / n) 1^T`.
///
/// For the transposed support matrix (contexts x tokens) this is the transpose of the centred
/// support matrix of the implicit-geometry lens; the dense matrix is never formed.
#[derive(Debug)]
pub struct RowCentered<'a> {
    rows: &'a SparseRows<f64>,
    means: Vec<f64>,
}

impl<'a> RowCentered<'a> {
    /// Centres `rows`.
    pub fn new(rows: &'a SparseRows<f64>) -> Self {
        let n = rows.ncols().max(1) as f64;
        let means = rows
            .rows()
            .map(|(_, values)| values.iter().sum::<f64>() / n)
            .collect();
        Self { rows, means }
    }
}

impl LinearOperator for RowCentered<'_> {
    fn nrows(&self) -> usize {
        self.rows.nrows()
    }

    fn ncols(&self) -> usize {
        self.rows.ncols()
    }

    fn apply(&self, x: MatRef<'_, f64>) -> Mat<f64> {
        let mut out = Mat::zeros(self.nrows(), x.ncols());
        for c in 0..x.ncols() {
            let column = x.col(c);
            let total: f64 = column.iter().sum();
            for (i, (indices, values)) in self.rows.rows().enumerate() {
                let dot: f64 = indices
                    .iter()
                    .zip(values)
                    .map(|(&j, v)| v * column[j as usize])
                    .sum();
                out[(i, c)] = dot - self.means[i] * total;
            }
        }
        out
    }

    fn apply_transpose(&self, y: MatRef<'_, f64>) -> Mat<f64> {
        let mut out = Mat::zeros(self.ncols(), y.ncols());
        for c in 0..y.ncols() {
            let column = y.col(c);
            let offset: f64 = self
                .means
                .iter()
                .zip(column.iter())
                .map(|(m, y)| m * y)
                .sum();
            for j in 0..self.ncols() {
                out[(j, c)] = -offset;
            }
            for (i, (indices, values)) in self.rows.rows().enumerate() {
                for (&j, v) in indices.iter().zip(values) {
                    out[(j as usize, c)] += v * column[i];
                }
            }
        }
        out
    }
}

/// The leading part of a singular value decomposition, `A ~ U diag(s) V^T`.
#[derive(Debug, Clone)]
pub struct TruncatedSvd {
    /// Left singular vectors, nrows x k.
    pub u: Mat<f64>,
    /// Singular values, decreasing.
    pub singular_values: Vec<f64>,
    /// Right singular vectors, ncols x k.
    pub v: Mat<f64>,
    /// The largest `|A^T u - s v|` among the triplets: how far the decomposition is from exact.
    pub residual: f64,
}

/// The `rank` leading singular triplets of `a` by randomized subspace iteration.
///
/// Iterates until every residual is below `tolerance` times the largest singular value, 200 times
/// at most; the residual reached is returned. A `rank` beyond the smaller dimension is cut to it.
/// Cost: two products with `a` and a QR of `rank + 16` columns an iteration.
///
/// *Source:* Halko, Martinsson, Tropp, *Finding structure with randomness* (2011), algorithm 4.4.
///
/// # Errors
/// A matrix with NaN or infinite entries.
pub fn truncated_svd(
    a: &dyn LinearOperator,
    rank: usize,
    tolerance: f64,
    seed: u64,
) -> Result<TruncatedSvd, LinalgError> {
    const OVERSAMPLING: usize = 16;
    const ITERATIONS: usize = 200;
    let smaller = a.nrows().min(a.ncols());
    let rank = rank.min(smaller);
    if rank == 0 {
        return Ok(TruncatedSvd {
            u: Mat::zeros(a.nrows(), 0),
            singular_values: Vec::new(),
            v: Mat::zeros(a.ncols(), 0),
            residual: 0.0,
        });
    }
    let width = (rank + OVERSAMPLING).min(smaller);
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    let start = Mat::from_fn(a.ncols(), width, |_, _| StandardNormal.sample(&mut rng));
    let mut basis = orthonormal(&a.apply(start.as_ref()));
    let mut iteration = 0;
    loop {
        // B^T = A^T Q; its decomposition gives that of Q Q^T A.
        let projected = a.apply_transpose(basis.as_ref());
        let svd = projected
            .thin_svd()
            .map_err(|_| LinalgError("singular value decomposition"))?;
        let u = &basis * svd.V();
        let v = svd.U();
        let s: Vec<f64> = svd.S().column_vector().iter().copied().collect();
        // A^T u = s v holds by construction; what is left of A v outside s u is the error.
        let image = a.apply(v);
        let residual = (0..rank)
            .map(|k| {
                let squares = (0..a.nrows()).map(|i| (image[(i, k)] - s[k] * u[(i, k)]).powi(2));
                squares.sum::<f64>().sqrt()
            })
            .fold(0.0, f64::max);
        iteration += 1;
        if residual.is_nan() {
            return Err(LinalgError("truncated singular value decomposition"));
        }
        if residual <= tolerance * s[0] || iteration == ITERATIONS {
            return Ok(TruncatedSvd {
                u: u.subcols(0, rank).to_owned(),
                singular_values: s[..rank].to_vec(),
                v: v.subcols(0, rank).to_owned(),
                residual,
            });
        }
        basis = orthonormal(&image);
    }
}

fn orthonormal(a: &Mat<f64>) -> Mat<f64> {
    a.qr().compute_thin_Q()
}

/// Weighted Pearson correlation; 0 where one side does not vary.
pub fn pearson(x: &[f64], y: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let mean = |v: &[f64]| v.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>() / total;
    let (mx, my) = (mean(x), mean(y));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for ((x, y), w) in x.iter().zip(y).zip(weights) {
        xx += w * (x - mx) * (x - mx);
        yy += w * (y - my) * (y - my);
        xy += w * (x - mx) * (y - my);
    }
    if xx > 0.0 && yy > 0.0 {
        xy / (xx * yy).sqrt()
    } else {
        0.0
    }
}

/// Spearman's rank correlation, ties sharing their mean rank; 0 where one side does not vary.
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    pearson(&ranks(x), &ranks(y), &vec![1.0; x.len()])
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for ties in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let mean = first as f64 + (ties.len() - 1) as f64 / 2.0;
        ties.iter().for_each(|&i| ranks[i] = mean);
        first += ties.len();
    }
    ranks
}

/// Eigenvalues (decreasing) and eigenvectors (columns, in the same order) of a symmetric matrix.
#[derive(Debug, Clone)]
pub struct SymmetricEigen {
    /// Eigenvalues, decreasing.
    pub values: Vec<f64>,
    /// Row `k` is the unit eigenvector of `values[k]`.
    pub vectors: RowMatrix<f64>,
}

/// The spectrum of a symmetric matrix, of which the lower half is read. O(n^3).
///
/// # Errors
/// NaN or infinite entries.
pub fn symmetric_eigen(a: MatRef<'_, f64>) -> Result<SymmetricEigen, LinalgError> {
    const WHAT: LinalgError = LinalgError("symmetric eigendecomposition");
    let eigen = a.self_adjoint_eigen(Side::Lower).map_err(|_| WHAT)?;
    let (n, ascending) = (a.nrows(), eigen.S().column_vector());
    if ascending.iter().any(|x| !x.is_finite()) {
        return Err(WHAT);
    }
    Ok(SymmetricEigen {
        values: (0..n).rev().map(|k| ascending[k]).collect(),
        vectors: RowMatrix::from_fn(n, n, |k, i| eigen.U()[(i, n - 1 - k)]),
    })
}

/// The eigenvalues alone of a symmetric matrix, decreasing; its lower half is read. O(n^3), several
/// times less than [`symmetric_eigen`].
///
/// # Errors
/// NaN or infinite entries.
pub fn symmetric_eigenvalues(a: MatRef<'_, f64>) -> Result<Vec<f64>, LinalgError> {
    const WHAT: LinalgError = LinalgError("symmetric eigendecomposition");
    let mut values = a.self_adjoint_eigenvalues(Side::Lower).map_err(|_| WHAT)?;
    values.reverse();
    match values.iter().all(|x| x.is_finite()) {
        true => Ok(values),
        false => Err(WHAT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supports(rows: usize, cols: usize) -> SparseRows<f64> {
        let mut out = SparseRows::new(cols);
        let mut state = 1u64;
        for _ in 0..rows {
            let mut row = Vec::new();
            for j in 0..cols {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                if state >> 60 < 4 {
                    row.push((j as u32, 1.0));
                }
            }
            out.push_row(row).unwrap();
        }
        out
    }

    fn dense(rows: &SparseRows<f64>) -> Mat<f64> {
        let n = rows.ncols();
        let mut out = Mat::zeros(rows.nrows(), n);
        for (i, (indices, values)) in rows.rows().enumerate() {
            let mean = values.iter().sum::<f64>() / n as f64;
            for j in 0..n {
                out[(i, j)] = -mean;
            }
            for (&j, v) in indices.iter().zip(values) {
                out[(i, j as usize)] += v;
            }
        }
        out
    }

    #[test]
    fn the_truncated_spectrum_of_a_centred_support_matrix_is_the_dense_one() {
        let rows = supports(120, 70);
        let exact: Vec<f64> = dense(&rows).singular_values().unwrap();
        let svd = truncated_svd(&RowCentered::new(&rows), 10, 1e-10, 1).unwrap();
        for (a, b) in svd.singular_values.iter().zip(&exact) {
            assert!((a - b).abs() < 1e-9 * exact[0], "{a} {b}");
        }
        assert!(svd.residual <= 1e-10 * exact[0]);
        let gram = svd.u.transpose() * &svd.u;
        assert!((0..10).all(|i| (0..10).all(|j| (gram[(i, j)] - f64::from(i == j)).abs() < 1e-10)));
    }

    #[test]
    fn a_rank_beyond_the_matrix_gives_the_whole_spectrum() {
        let rows = supports(6, 9);
        let svd = truncated_svd(&RowCentered::new(&rows), 50, 1e-10, 1).unwrap();
        let exact = dense(&rows).singular_values().unwrap();
        assert_eq!(svd.singular_values.len(), 6);
        assert!(
            svd.singular_values
                .iter()
                .zip(&exact)
                .all(|(a, b)| (a - b).abs() < 1e-10)
        );
    }

    #[test]
    fn products_do_not_depend_on_the_number_of_threads() {
        let a = RowMatrix::from_fn(257, 576, |i, j| {
            ((i * 31 + j * 17) % 101) as f32 / 50.0 - 1.0
        });
        let b = RowMatrix::from_fn(1536, 576, |i, j| {
            ((i * 13 + j * 7) % 97) as f32 / 48.0 - 1.0
        });
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut out = RowMatrix::zeros(257, 1536);
            pool.install(|| matmul(out.view_mut(), a.view(), b.view().transpose()));
            out
        };
        assert_eq!(on(1).data(), on(2).data());
        assert_eq!(on(1).data(), on(7).data());
    }

    #[test]
    fn rank_correlation_sees_order_only_and_shares_ties() {
        let x = [1.0, 2.0, 2.0, 50.0];
        assert!((spearman(&x, &[0.1, 0.2, 0.2, 0.3]) - 1.0).abs() < 1e-12);
        assert!((spearman(&x, &[4.0, 3.0, 2.0, 1.0]) + 0.9486832980505138).abs() < 1e-12);
        assert_eq!(spearman(&x, &[1.0; 4]), 0.0);
    }

    #[test]
    fn symmetric_eigenvalues_come_in_decreasing_order_with_their_vectors() {
        let a = RowMatrix::from_vec(vec![2.0, 1.0, 1.0, 2.0], 2, 2).unwrap();
        let eigen = symmetric_eigen(a.view()).unwrap();
        assert!((eigen.values[0] - 3.0).abs() < 1e-12 && (eigen.values[1] - 1.0).abs() < 1e-12);
        let v = eigen.vectors.row(0);
        assert!((v[0] - v[1]).abs() < 1e-12);
        let alone = symmetric_eigenvalues(a.view()).unwrap();
        assert!((alone[0] - 3.0).abs() < 1e-12 && (alone[1] - 1.0).abs() < 1e-12);
        let nan = RowMatrix::from_vec(vec![f64::NAN], 1, 1).unwrap();
        assert!(symmetric_eigen(nan.view()).is_err());
        assert!(symmetric_eigenvalues(nan.view()).is_err());
    }
}
