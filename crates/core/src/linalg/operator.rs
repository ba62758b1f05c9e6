use super::matmul;
use crate::matrix::RowMatrix;

/// A matrix known by its products with blocks of a few columns, each block row-major. Shapes must
/// agree.
pub trait LinearOperator: Sync {
    /// The number of rows.
    fn nrows(&self) -> usize;
    /// The number of columns.
    fn ncols(&self) -> usize;
    /// `A x` for a block `x` of ncols x k.
    fn apply(&self, x: &RowMatrix<f64>) -> RowMatrix<f64>;
    /// `A^T y` for a block `y` of nrows x k.
    fn apply_transpose(&self, y: &RowMatrix<f64>) -> RowMatrix<f64>;
    /// `A^T A x` for a block `x` of ncols x k.
    fn apply_gram(&self, x: &RowMatrix<f64>) -> RowMatrix<f64> {
        self.apply_transpose(&self.apply(x))
    }
}

impl LinearOperator for RowMatrix<f64> {
    fn nrows(&self) -> usize {
        self.nrows()
    }

    fn ncols(&self) -> usize {
        self.ncols()
    }

    fn apply(&self, x: &RowMatrix<f64>) -> RowMatrix<f64> {
        let mut out = RowMatrix::zeros(self.nrows(), x.ncols());
        matmul(out.view_mut(), self.view(), x.view());
        out
    }

    fn apply_transpose(&self, y: &RowMatrix<f64>) -> RowMatrix<f64> {
        let mut out = RowMatrix::zeros(self.ncols(), y.ncols());
        matmul(out.view_mut(), self.view().transpose(), y.view());
        out
    }
}
