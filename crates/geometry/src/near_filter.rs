//! The filter that thresholds singular values, of a Gram matrix near one whose eigenvectors are known:
//! a few products, which use all threads, instead of an eigendecomposition, which does not.

use lawvere_core::RowMatrix;
use lawvere_core::linalg::{lower_product, matmul};

/// Uses of the same eigenvectors.
const USES: usize = 4;
/// Calls for which nothing is tried after a matrix that was not near.
const PAUSE: usize = 3;
/// The norm of the couplings up to which a matrix is near. The filter's relative error is some tenth
/// of its square, so that it vanishes as an iteration converges.
const NEAR: f64 = 0.05;

#[derive(Default)]
pub(crate) struct NearFilter {
    /// Row after row, the eigenvectors of a Gram matrix before.
    vectors: Option<RowMatrix<f64>>,
    uses: usize,
    pause: usize,
}

impl NearFilter {
    /// Takes the eigenvectors of a Gram matrix, as rows.
    pub fn learn(&mut self, vectors: &RowMatrix<f64>) {
        self.vectors = Some(vectors.clone());
        self.uses = USES;
    }

    /// `max(1 - threshold / sqrt(G), 0)` as a function of the symmetric matrix G, and the number of its
    /// eigenvalues that are not 0; nothing where that should come from an eigendecomposition.
    ///
    /// In the known eigenvectors G is `diag(d) + E`, and a function f of it, to first order in E, has
    /// the entries `f(d_i)` and `E_ij (f(d_i) - f(d_j)) / (d_i - d_j)`.
    pub fn filter(
        &mut self,
        gram: &RowMatrix<f64>,
        threshold: f64,
    ) -> Option<(RowMatrix<f64>, usize)> {
        let side = gram.nrows();
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        let vectors = self.vectors.as_ref()?.view();
        if self.uses == 0 || vectors.nrows() != side {
            return None;
        }
        let mut product = RowMatrix::zeros(side, side);
        matmul(product.view_mut(), vectors, gram.view());
        let mut inner = RowMatrix::zeros(side, side);
        lower_product(inner.view_mut(), product.view(), vectors.transpose());
        let diagonal: Vec<f64> = (0..side).map(|i| inner.get(i, i)).collect();
        let floor = threshold * threshold;
        let far = couplings(&inner, &diagonal, floor);
        if far.is_nan() || far > NEAR {
            self.pause = PAUSE;
            return None;
        }
        self.uses -= 1;
        let values: Vec<f64> = diagonal
            .iter()
            .map(|&d| f64::max(1.0 - threshold / d.max(floor).sqrt(), 0.0))
            .collect();
        for i in 0..side {
            let (d, value) = (diagonal[i], values[i]);
            let row = inner.row_mut(i);
            for j in 0..i {
                let step = d - diagonal[j];
                let slope = if step.abs() > 1e-9 * d.abs() {
                    (value - values[j]) / step
                } else if d > floor {
                    0.5 * threshold / (d * d.sqrt())
                } else {
                    0.0
                };
                row[j] *= slope;
            }
            row[i] = value;
        }
        mirror(&mut inner);
        matmul(product.view_mut(), inner.view(), vectors);
        let mut filter = inner;
        lower_product(filter.view_mut(), vectors.transpose(), product.view());
        mirror(&mut filter);
        let rank = values.iter().filter(|&&value| value > 0.0).count();
        Some((filter, rank))
    }
}

/// The norm of what lies below the diagonal, each entry relative to its two diagonal entries.
fn couplings(inner: &RowMatrix<f64>, diagonal: &[f64], floor: f64) -> f64 {
    let scale: Vec<f64> = diagonal.iter().map(|d| 1.0 / d.max(floor)).collect();
    let rows = inner.rows().enumerate().map(|(i, row)| {
        let terms = row[..i].iter().zip(&scale);
        scale[i] * terms.map(|(e, s)| e * e * s).sum::<f64>()
    });
    rows.sum::<f64>().sqrt()
}

/// Copies what is below the diagonal above it.
pub(crate) fn mirror(matrix: &mut RowMatrix<f64>) {
    const BLOCK: usize = 32;
    let side = matrix.nrows();
    for rows in (0..side).step_by(BLOCK) {
        for columns in (0..=rows).step_by(BLOCK) {
            for i in rows..(rows + BLOCK).min(side) {
                for j in columns..(columns + BLOCK).min(i) {
                    matrix.row_mut(j)[i] = matrix.get(i, j);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lawvere_core::linalg::symmetric_eigen;

    use super::*;

    /// A Gram matrix with eigenvalues on both sides of 1, moved by `shift`.
    fn gram(side: usize, shift: f64) -> RowMatrix<f64> {
        let x = RowMatrix::from_fn(2 * side, side, |i, j| {
            ((i * 37 + j * 53 + i * j) % 101) as f64 / 101.0 - 0.5
                + shift * ((i + 2 * j) % 7) as f64
        });
        let mut gram = RowMatrix::zeros(side, side);
        matmul(gram.view_mut(), x.view().transpose(), x.view());
        gram
    }

    fn exact(gram: &RowMatrix<f64>, threshold: f64) -> (RowMatrix<f64>, usize) {
        let eigen = symmetric_eigen(gram.view()).unwrap();
        let f = |v: f64| f64::max(1.0 - threshold / v.max(1e-300).sqrt(), 0.0);
        let side = gram.nrows();
        let filter = RowMatrix::from_fn(side, side, |i, j| {
            let terms = eigen.values.iter().enumerate();
            terms
                .map(|(k, &v)| f(v) * eigen.vectors.get(k, i) * eigen.vectors.get(k, j))
                .sum()
        });
        (filter, eigen.values.iter().filter(|v| f(**v) > 0.0).count())
    }

    #[test]
    fn filters_of_near_matrices_are_right_to_second_order_and_far_ones_are_refused() {
        let mut near = NearFilter::default();
        assert!(near.filter(&gram(45, 0.0), 1.0).is_none());
        near.learn(&symmetric_eigen(gram(45, 0.0).view()).unwrap().vectors);
        let error = |near: &mut NearFilter, shift: f64| {
            let moved = gram(45, shift);
            let (filter, rank) = near.filter(&moved, 1.0).unwrap();
            let (expected, expected_rank) = exact(&moved, 1.0);
            assert_eq!(rank, expected_rank);
            let terms = filter.data().iter().zip(expected.data());
            terms.map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
        };
        assert!(error(&mut near, 0.0) < 1e-12);
        let (large, small) = (error(&mut near, 1e-4), error(&mut near, 1e-5));
        assert!(large < 1e-4 && small < 0.02 * large, "{large:e} {small:e}");
        assert!(near.filter(&gram(45, 0.5), 1.0).is_none());
        for _ in 0..PAUSE {
            assert!(near.filter(&gram(45, 0.0), 1.0).is_none());
        }
        assert!(near.filter(&gram(45, 0.0), 1.0).is_some());
        assert!(near.filter(&gram(45, 0.0), 1.0).is_none());
    }
}
