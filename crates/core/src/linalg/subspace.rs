use super::{LinalgError, matmul};
use crate::matrix::RowMatrix;
use crate::sum::sum;

/// The column space of a matrix: an orthonormal basis of it and the singular values.
#[derive(Debug, Clone)]
pub struct ColumnSpace {
    /// Orthonormal columns, nrows x rank: left singular vectors by decreasing singular value.
    pub basis: RowMatrix<f64>,
    /// The rank's singular values, decreasing.
    pub singular_values: Vec<f64>,
}

impl ColumnSpace {
    /// The column space of `a` (n x d), directions below `tolerance` times the largest singular value
    /// dropped. O(n d min(n, d)).
    ///
    /// # Errors
    /// NaN or infinite entries.
    pub fn of(a: &RowMatrix<f64>, tolerance: f64) -> Result<Self, LinalgError> {
        const WHAT: LinalgError = LinalgError("singular value decomposition");
        if a.data().iter().any(|x| !x.is_finite()) {
            return Err(WHAT);
        }
        let svd = a.view().thin_svd().map_err(|_| WHAT)?;
        let all: Vec<f64> = svd.S().column_vector().iter().copied().collect();
        let least = tolerance * all.first().copied().unwrap_or(0.0);
        let rank = all.iter().take_while(|&&s| s > least && s > 0.0).count();
        Ok(Self {
            basis: RowMatrix::from_fn(a.nrows(), rank, |i, k| svd.U()[(i, k)]),
            singular_values: all[..rank].to_vec(),
        })
    }

    /// The dimension of the space.
    pub fn rank(&self) -> usize {
        self.singular_values.len()
    }

    /// Cosines of the principal angles with another space of columns of the same length, decreasing: the
    /// canonical correlations, if the columns are centred variables. O(n r s).
    ///
    /// *Source:* Bjorck, Golub, *Numerical methods for computing angles between linear subspaces* (1973).
    ///
    /// # Errors
    /// None for finite bases.
    pub fn cosines(&self, other: &Self) -> Result<Vec<f64>, LinalgError> {
        let mut cosines = singular_values(&cross(&self.basis, &other.basis))?;
        cosines.iter_mut().for_each(|c| *c = c.min(1.0));
        Ok(cosines)
    }
}

/// `a^T b` for matrices of as many rows. O(n d e).
pub fn cross(a: &RowMatrix<f64>, b: &RowMatrix<f64>) -> RowMatrix<f64> {
    let mut out = RowMatrix::zeros(a.ncols(), b.ncols());
    matmul(out.view_mut(), a.view().transpose(), b.view());
    out
}

/// The singular values of a matrix, decreasing. O(n d min(n, d)).
///
/// # Errors
/// NaN or infinite entries.
pub fn singular_values(a: &RowMatrix<f64>) -> Result<Vec<f64>, LinalgError> {
    const WHAT: LinalgError = LinalgError("singular values");
    let values = a.view().singular_values().map_err(|_| WHAT)?;
    match values.iter().all(|x| x.is_finite()) {
        true => Ok(values),
        false => Err(WHAT),
    }
}

/// A matrix with centred columns and the norm of its Gram matrix, for alignments with many others.
#[derive(Debug, Clone)]
pub struct CentredKernel {
    rows: RowMatrix<f64>,
    norm: f64,
}

impl CentredKernel {
    /// Of a matrix whose columns are centred. O(n d^2).
    pub fn new(rows: RowMatrix<f64>) -> Self {
        let norm = sum(cross(&rows, &rows).data().iter().map(|x| x * x)).sqrt();
        Self { rows, norm }
    }

    /// The matrix.
    pub fn rows(&self) -> &RowMatrix<f64> {
        &self.rows
    }

    /// Linear centred kernel alignment `|A^T B|_F^2 / (|A^T A|_F |B^T B|_F)` with another matrix of as many
    /// rows; 0 where one of them is 0. In [0, 1]. O(n d e).
    ///
    /// *Source:* Kornblith et al., *Similarity of neural network representations revisited* (2019).
    pub fn alignment(&self, other: &Self) -> f64 {
        let both = sum(cross(&self.rows, &other.rows).data().iter().map(|x| x * x));
        let scale = self.norm * other.norm;
        if scale > 0.0 {
            (both / scale).min(1.0)
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(n: usize, d: usize, seed: usize) -> RowMatrix<f64> {
        RowMatrix::from_fn(n, d, |i, j| {
            ((i * 31 + j * 17 + seed * (i + 3) * (j + 1)) % 101) as f64 / 50.0 - 1.0
        })
    }

    #[test]
    fn a_space_has_cosine_one_with_itself_however_its_columns_are_mixed() {
        let a = example(20, 4, 1);
        let mixed = RowMatrix::from_fn(20, 5, |i, j| {
            (0..4).map(|k| a.get(i, k) * ((j + 2 * k) % 3) as f64).sum()
        });
        let (a, mixed) = (
            ColumnSpace::of(&a, 1e-10).unwrap(),
            ColumnSpace::of(&mixed, 1e-10).unwrap(),
        );
        assert!(mixed.rank() < 5);
        let cosines = a.cosines(&mixed).unwrap();
        assert!(cosines.iter().all(|c| (c - 1.0).abs() < 1e-12));
    }

    #[test]
    fn alignment_of_kernels_is_one_under_rotation_and_scale_only() {
        let a = example(30, 2, 5);
        let turned = RowMatrix::from_fn(30, 2, |i, j| match j {
            0 => 3.0 * (0.6 * a.get(i, 0) - 0.8 * a.get(i, 1)),
            _ => 3.0 * (0.8 * a.get(i, 0) + 0.6 * a.get(i, 1)),
        });
        let [a, turned, other, nothing] =
            [a, turned, example(30, 2, 8), RowMatrix::zeros(30, 2)].map(CentredKernel::new);
        assert!((a.alignment(&turned) - 1.0).abs() < 1e-12);
        assert!(a.alignment(&other) < 0.9);
        assert_eq!(a.alignment(&nothing), 0.0);
    }

    #[test]
    fn nan_is_an_error() {
        let nan = RowMatrix::from_fn(3, 2, |_, _| f64::NAN);
        assert!(ColumnSpace::of(&nan, 1e-10).is_err());
    }
}
