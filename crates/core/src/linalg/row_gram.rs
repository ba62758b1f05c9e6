use rayon::prelude::*;

use crate::matrix::{RowMatrix, ShapeError};
use crate::packed::{PackedMatrix, PackedRows};

/// Blocks of rows, as the kernel takes them, that one thread multiplies.
const BLOCKS: usize = 32;
/// Columns multiplied at once: as many as the kernel sums before it writes, so that a thread's rows stay in its
/// second-level cache.
const COLUMNS: usize = 576;

/// The Gram matrix `A A^T` of a matrix of many columns, of which a few are at hand at a time.
///
/// Sums are kept in f32: entries are exact to about 1e-6 of the product of the rows' lengths.
#[derive(Debug)]
pub struct RowGram {
    sums: RowMatrix<f32>,
}

impl RowGram {
    /// Of `rows` rows and no column yet. Memory: rows^2 f32.
    pub fn new(rows: usize) -> Self {
        Self {
            sums: RowMatrix::zeros(rows, rows),
        }
    }

    /// Takes in more columns, all rows of them; on the threads of the current pool, with a result that does not
    /// depend on their number. Cost: half of rows^2 x columns multiply-adds; memory: 576 columns twice.
    ///
    /// # Errors
    /// As many rows as the matrix has not.
    pub fn add(&mut self, columns: &RowMatrix<f32>) -> Result<(), ShapeError> {
        let n = self.sums.nrows();
        if columns.nrows() != n {
            return Err(ShapeError::new("rows of columns", n, columns.nrows()));
        }
        if n == 0 || columns.ncols() == 0 {
            return Ok(());
        }
        let mut rows = PackedRows::new();
        for first in (0..columns.ncols()).step_by(COLUMNS) {
            let here = first..(first + COLUMNS).min(columns.ncols());
            let matrix = PackedMatrix::new(columns.view().subcols(first, here.len()));
            rows.fill(n, here.len(), |i, row| {
                row.copy_from_slice(&columns.row(i)[here.clone()]);
            });
            self.add_packed(&matrix, &rows);
        }
        Ok(())
    }

    fn add_packed(&mut self, matrix: &PackedMatrix, rows: &PackedRows) {
        let n = self.sums.nrows();
        let mut parts = Vec::new();
        let mut left = self.sums.data_mut();
        for (first, blocks) in (0..).step_by(BLOCKS).zip(rows.blocks().chunks(BLOCKS)) {
            let count = blocks.iter().map(|b| b.len()).sum::<usize>();
            let end = blocks.last().map_or(0, |b| b.end);
            let (part, rest) = left.split_at_mut(count * n);
            parts.push((first..first + blocks.len(), end, part));
            left = rest;
        }
        // Columns as far as the part's last row; the longest parts first.
        parts
            .into_par_iter()
            .rev()
            .with_max_len(1)
            .for_each(|(blocks, end, part)| {
                let panels = 0..matrix.panels_of(end);
                let mut out: Vec<&mut [f32]> = part.chunks_exact_mut(n).collect();
                matrix.multiply_panels(rows, blocks, panels, &mut out, true);
            });
    }

    /// The sums; those above the diagonal are not all taken in.
    pub fn lower(&self) -> &RowMatrix<f32> {
        &self.sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_in_parts_make_the_gram_matrix_on_any_number_of_threads() {
        for n in [1, 7, 48, 300, 613] {
            let a = RowMatrix::from_fn(n, 1300, |i, j| ((i * 31 + j * 17) % 101) as f32 / 50.0);
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let mut gram = RowGram::new(n);
                pool.install(|| {
                    for columns in [0..400, 400..401, 401..1300] {
                        let part = RowMatrix::from_fn(n, columns.len(), |i, j| {
                            a.get(i, columns.start + j)
                        });
                        gram.add(&part).unwrap();
                    }
                });
                gram
            };
            let (one, three) = (on(1), on(3));
            for i in 0..n {
                for j in 0..=i {
                    let exact: f64 = (0..1300)
                        .map(|k| f64::from(a.get(i, k)) * f64::from(a.get(j, k)))
                        .sum();
                    let found = one.lower().get(i, j);
                    assert!((f64::from(found) - exact).abs() < 1e-5 * exact);
                    assert_eq!(found, three.lower().get(i, j));
                }
            }
            assert!(RowGram::new(n).add(&RowMatrix::zeros(n + 1, 3)).is_err());
        }
    }
}
