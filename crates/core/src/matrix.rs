//! Dense row-major matrices.

use faer::{MatMut, MatRef};
use thiserror::Error;

/// A shape that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: expected {expected}, found {found}")]
pub struct ShapeError {
    /// What was given.
    pub what: &'static str,
    /// The shape that would be right.
    pub expected: String,
    /// The shape found.
    pub found: String,
}

impl ShapeError {
    /// An error about `what`.
    pub fn new(
        what: &'static str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Self {
        Self {
            what,
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

/// A dense matrix stored row after row, as numpy and safetensors store it.
#[derive(Debug, Clone, PartialEq)]
pub struct RowMatrix<T> {
    data: Vec<T>,
    nrows: usize,
    ncols: usize,
}

impl<T: Copy + Default> RowMatrix<T> {
    /// A matrix of `T::default()`.
    pub fn zeros(nrows: usize, ncols: usize) -> Self {
        Self {
            data: vec![T::default(); nrows * ncols],
            nrows,
            ncols,
        }
    }

    /// A matrix over `data`, `nrows * ncols` values row by row.
    ///
    /// # Errors
    /// A number of values other than `nrows * ncols`.
    pub fn from_vec(data: Vec<T>, nrows: usize, ncols: usize) -> Result<Self, ShapeError> {
        if nrows.checked_mul(ncols) != Some(data.len()) {
            return Err(ShapeError::new(
                "matrix",
                format!("{nrows} x {ncols} values"),
                format!("{} values", data.len()),
            ));
        }
        Ok(Self { data, nrows, ncols })
    }

    /// The matrix with entry `f(i, j)` at row `i`, column `j`.
    pub fn from_fn(nrows: usize, ncols: usize, mut f: impl FnMut(usize, usize) -> T) -> Self {
        let data = (0..nrows * ncols)
            .map(|k| f(k / ncols, k % ncols))
            .collect();
        Self { data, nrows, ncols }
    }

    /// The number of rows.
    pub fn nrows(&self) -> usize {
        self.nrows
    }

    /// The number of columns.
    pub fn ncols(&self) -> usize {
        self.ncols
    }

    /// Row `i`.
    #[inline]
    pub fn row(&self, i: usize) -> &[T] {
        &self.data[i * self.ncols..(i + 1) * self.ncols]
    }

    /// Row `i`, to write.
    #[inline]
    pub fn row_mut(&mut self, i: usize) -> &mut [T] {
        &mut self.data[i * self.ncols..(i + 1) * self.ncols]
    }

    /// Rows in order.
    pub fn rows(&self) -> impl Iterator<Item = &[T]> {
        (0..self.nrows).map(|i| self.row(i))
    }

    /// Rows `range`, contiguous.
    pub fn row_range(&self, range: std::ops::Range<usize>) -> &[T] {
        &self.data[range.start * self.ncols..range.end * self.ncols]
    }

    /// Rows `range`, contiguous, to write.
    pub fn row_range_mut(&mut self, range: std::ops::Range<usize>) -> &mut [T] {
        &mut self.data[range.start * self.ncols..range.end * self.ncols]
    }

    /// All values, row by row.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// All values, to write.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The values, row by row.
    pub fn into_data(self) -> Vec<T> {
        self.data
    }

    /// The entry at row `i`, column `j`.
    #[inline]
    pub fn get(&self, i: usize, j: usize) -> T {
        self.row(i)[j]
    }

    /// The same shape with `f` of every value.
    pub fn map<U>(&self, f: impl FnMut(T) -> U) -> RowMatrix<U> {
        RowMatrix {
            data: self.data.iter().copied().map(f).collect(),
            nrows: self.nrows,
            ncols: self.ncols,
        }
    }

    /// A matrix of these rows.
    pub fn from_array_rows<const N: usize>(rows: Vec<[T; N]>) -> Self {
        let nrows = rows.len();
        Self {
            data: rows.into_flattened(),
            nrows,
            ncols: N,
        }
    }

    /// The rows as arrays; none if there are not `N` columns.
    #[inline]
    pub fn array_rows<const N: usize>(&self) -> &[[T; N]] {
        if self.ncols == N {
            self.data.as_chunks().0
        } else {
            &[]
        }
    }

    /// The rows as arrays, to write; none if there are not `N` columns.
    #[inline]
    pub fn array_rows_mut<const N: usize>(&mut self) -> &mut [[T; N]] {
        if self.ncols == N {
            self.data.as_chunks_mut().0
        } else {
            &mut []
        }
    }

    /// A view for `faer`.
    pub fn view(&self) -> MatRef<'_, T> {
        MatRef::from_row_major_slice(&self.data, self.nrows, self.ncols)
    }

    /// A writable view for `faer`.
    pub fn view_mut(&mut self) -> MatMut<'_, T> {
        MatMut::from_row_major_slice_mut(&mut self.data, self.nrows, self.ncols)
    }
}
