use faer::{MatRef, Side};

use super::LinalgError;
use crate::RowMatrix;

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
