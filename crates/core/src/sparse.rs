//! Compressed sparse rows.

use serde::Serialize;
use thiserror::Error;

/// What can be wrong with the three arrays of a [`SparseRows`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum SparseError {
    #[error(
        "row pointers must begin with 0, never decrease, and end with the number of entries ({entries}); the pointer of row {row} is {pointer}"
    )]
    Pointers {
        row: usize,
        pointer: u64,
        entries: usize,
    },
    #[error("{indices} indices do not match {values} values")]
    Lengths { indices: usize, values: usize },
    #[error("row {row}: index {index} is not below the number of columns, {ncols}")]
    Index {
        row: usize,
        index: u32,
        ncols: usize,
    },
    #[error("row {row}: indices must increase strictly; {index} follows {previous}")]
    Order {
        row: usize,
        index: u32,
        previous: u32,
    },
}

/// Sparse rows (CSR): row `i` holds the entries `indptr[i]..indptr[i + 1]`, indices increasing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SparseRows<T> {
    ncols: usize,
    indptr: Vec<u64>,
    indices: Vec<u32>,
    values: Vec<T>,
}

impl<T> SparseRows<T> {
    /// No rows yet, `ncols` columns.
    pub fn new(ncols: usize) -> Self {
        Self {
            ncols,
            indptr: vec![0],
            indices: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Rows from their three arrays, every one of them checked. O(entries).
    ///
    /// # Errors
    /// Pointers that decrease or miss the ends, indices out of range or not strictly increasing.
    pub fn from_parts(
        ncols: usize,
        indptr: Vec<u64>,
        indices: Vec<u32>,
        values: Vec<T>,
    ) -> Result<Self, SparseError> {
        let entries = indices.len();
        if values.len() != entries {
            return Err(SparseError::Lengths {
                indices: entries,
                values: values.len(),
            });
        }
        let bad = |row: usize, pointer| SparseError::Pointers {
            row,
            pointer,
            entries,
        };
        match (indptr.first(), indptr.last()) {
            (Some(0), Some(&last)) if last == entries as u64 => {}
            (Some(0), Some(&last)) => return Err(bad(indptr.len() - 1, last)),
            (Some(&first), _) => return Err(bad(0, first)),
            (None, _) => return Err(bad(0, 0)),
        }
        for (row, pair) in indptr.windows(2).enumerate() {
            if pair[1] < pair[0] || pair[1] > entries as u64 {
                return Err(bad(row + 1, pair[1]));
            }
            let mut previous = None;
            for &index in &indices[pair[0] as usize..pair[1] as usize] {
                if index as usize >= ncols {
                    return Err(SparseError::Index { row, index, ncols });
                }
                if let Some(previous) = previous.filter(|&p| p >= index) {
                    return Err(SparseError::Order {
                        row,
                        index,
                        previous,
                    });
                }
                previous = Some(index);
            }
        }
        Ok(Self {
            ncols,
            indptr,
            indices,
            values,
        })
    }

    /// Appends a row; `entries` must come with strictly increasing indices below `ncols`.
    ///
    /// # Errors
    /// An index out of range or out of order; the rows are then as before.
    pub fn push_row(
        &mut self,
        entries: impl IntoIterator<Item = (u32, T)>,
    ) -> Result<(), SparseError> {
        let row = self.nrows();
        let start = self.indices.len();
        for (index, value) in entries {
            let previous = self.indices[start..].last().copied();
            let error = if index as usize >= self.ncols {
                Some(SparseError::Index {
                    row,
                    index,
                    ncols: self.ncols,
                })
            } else {
                previous
                    .filter(|&p| p >= index)
                    .map(|previous| SparseError::Order {
                        row,
                        index,
                        previous,
                    })
            };
            if let Some(error) = error {
                self.indices.truncate(start);
                self.values.truncate(start);
                return Err(error);
            }
            self.indices.push(index);
            self.values.push(value);
        }
        self.indptr.push(self.indices.len() as u64);
        Ok(())
    }

    /// The number of rows.
    pub fn nrows(&self) -> usize {
        self.indptr.len() - 1
    }

    /// The number of columns.
    pub fn ncols(&self) -> usize {
        self.ncols
    }

    /// The number of stored entries.
    pub fn nnz(&self) -> usize {
        self.indices.len()
    }

    /// Where the entries of `row` stand in [`indices`](Self::indices) and [`values`](Self::values).
    pub fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.indptr[row] as usize..self.indptr[row + 1] as usize
    }

    /// The indices and values of one row.
    pub fn row(&self, row: usize) -> (&[u32], &[T]) {
        let range = self.range(row);
        (&self.indices[range.clone()], &self.values[range])
    }

    /// All rows in order.
    pub fn rows(&self) -> impl Iterator<Item = (&[u32], &[T])> {
        (0..self.nrows()).map(|i| self.row(i))
    }

    /// The row pointers, `nrows + 1` of them.
    pub fn indptr(&self) -> &[u64] {
        &self.indptr
    }

    /// The column indices of all entries, row by row.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The values of all entries, row by row.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The same pattern with other values: `values[k]` becomes `f(k, &values[k])`.
    pub fn map<U>(&self, mut f: impl FnMut(usize, &T) -> U) -> SparseRows<U> {
        SparseRows {
            ncols: self.ncols,
            indptr: self.indptr.clone(),
            indices: self.indices.clone(),
            values: self
                .values
                .iter()
                .enumerate()
                .map(|(k, v)| f(k, v))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_arrays_are_named_errors() {
        let from = |p: &[u64], i: &[u32]| {
            SparseRows::from_parts(4, p.to_vec(), i.to_vec(), vec![1u8; i.len()])
        };
        assert!(from(&[0, 2, 3], &[0, 3, 1]).is_ok());
        assert!(matches!(from(&[], &[]), Err(SparseError::Pointers { .. })));
        assert!(matches!(
            from(&[1, 1], &[0]),
            Err(SparseError::Pointers { row: 0, .. })
        ));
        assert!(matches!(
            from(&[0, 9, 1], &[0]),
            Err(SparseError::Pointers { row: 1, .. })
        ));
        assert!(matches!(
            from(&[0, 1], &[4]),
            Err(SparseError::Index { index: 4, .. })
        ));
        assert!(matches!(
            from(&[0, 2], &[1, 1]),
            Err(SparseError::Order { .. })
        ));
    }

    #[test]
    fn a_refused_row_leaves_nothing_behind() {
        let mut rows = SparseRows::new(3);
        rows.push_row([(0, 1.0), (2, 2.0)]).unwrap();
        assert!(rows.push_row([(1, 1.0), (3, 1.0)]).is_err());
        assert_eq!((rows.nrows(), rows.nnz()), (1, 2));
    }
}
