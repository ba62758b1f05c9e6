use std::cmp::Reverse;
use std::sync::Mutex;

use rayon::prelude::*;

use super::LinearOperator;
use super::band::{self, Band, Lines, add, add_times};
use crate::matrix::RowMatrix;
use crate::sparse::SparseRows;

/// Runs of columns with about equal numbers of entries, of which threads take some each.
const RUNS: usize = 64;
/// Rows of a block that one thread takes at once.
const ROWS: usize = 1024;

/// Sparse rows with the mean of every row taken off, implicitly: `A - (A 1 / n) 1^T`.
///
/// For the transposed support matrix (contexts x tokens) this is the transpose of the centred
/// support matrix of the implicit-geometry lens; the dense matrix is never formed. Products run on the
/// threads of the current pool and do not depend on their number. Memory: a copy of the pattern, two
/// bytes an entry (ten where the values are not all 1), and a block of nrows x 8.
#[derive(Debug)]
pub struct RowCentered {
    means: Vec<f64>,
    /// Their columns stand by their number of entries: columns of like length follow one another.
    bands: Vec<Band>,
    /// Rows of every band but the last.
    height: usize,
    /// The columns in the bands' order, and where each stands in it.
    order: Vec<u32>,
    place: Vec<u32>,
    /// Where in that order the runs begin.
    runs: Vec<usize>,
    /// Room for a block of either side, kept from one product to the next.
    room: Mutex<Room>,
}

#[derive(Debug, Default)]
struct Room {
    rows: Lines,
    columns: Lines,
}

impl RowCentered {
    /// Centres `rows`. O(entries + columns), in parallel.
    pub fn new(rows: &SparseRows<f64>) -> Self {
        let (nrows, ncols) = (rows.nrows(), rows.ncols());
        let mean = |i: usize| rows.row(i).1.iter().sum::<f64>() / ncols.max(1) as f64;
        let ones = rows.values().par_iter().all(|&x| x == 1.0);
        let height = band::height(nrows);
        let band = |k: usize| k * height..nrows.min((k + 1) * height);
        let bands = nrows.div_ceil(height);
        let counts = (0..bands).into_par_iter().map(|k| {
            let mut counts = vec![0usize; ncols];
            for i in band(k) {
                rows.row(i).0.iter().for_each(|&j| counts[j as usize] += 1);
            }
            counts
        });
        let counts = counts.reduce_with(|mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        });
        let counts = counts.unwrap_or_else(|| vec![0; ncols]);
        let mut order: Vec<u32> = (0..ncols as u32).collect();
        order.sort_by_key(|&j| Reverse(counts[j as usize]));
        let mut place = vec![0u32; ncols];
        order
            .iter()
            .zip(0..)
            .for_each(|(&j, k)| place[j as usize] = k);
        let mut runs = Vec::new();
        let mut before = 0;
        for (k, &j) in order.iter().enumerate() {
            if runs.len() < RUNS && before * RUNS >= runs.len() * rows.nnz() {
                runs.push(k);
            }
            before += counts[j as usize];
        }
        Self {
            means: (0..nrows).into_par_iter().map(mean).collect(),
            bands: (0..bands)
                .into_par_iter()
                .map(|k| Band::new(rows, band(k), &place, ones))
                .collect(),
            height,
            order,
            place,
            runs,
            room: Mutex::default(),
        }
    }

    fn with_room<T>(&self, f: impl FnOnce(&mut Room) -> T) -> T {
        let taken = self.room.lock().map(|mut room| std::mem::take(&mut *room));
        let mut room = taken.unwrap_or_default();
        let result = f(&mut room);
        if let Ok(mut kept) = self.room.lock() {
            *kept = room;
        }
        result
    }

    fn there<const N: usize>(&self, x: &[[f64; N]]) -> Vec<[f64; N]> {
        self.with_room(|room| {
            let block = room.rows.rows_mut(self.nrows());
            self.times(x, room.columns.rows_mut(self.ncols()), block);
            block.par_iter().with_min_len(ROWS).copied().collect()
        })
    }

    fn back<const N: usize>(&self, y: &[[f64; N]]) -> Vec<[f64; N]> {
        self.with_room(|room| {
            let block = room.rows.rows_mut(self.nrows());
            let parts = block.par_chunks_mut(ROWS).zip(y.par_chunks(ROWS));
            parts.for_each(|(block, y)| block.copy_from_slice(y));
            self.transposed_times(block, room.columns.rows_mut(self.ncols()))
        })
    }

    fn there_and_back<const N: usize>(&self, x: &[[f64; N]]) -> Vec<[f64; N]> {
        self.with_room(|room| {
            let block = room.rows.rows_mut(self.nrows());
            let columns = room.columns.rows_mut(self.ncols());
            self.times(x, columns, block);
            self.transposed_times(block, columns)
        })
    }

    /// `y = A x`; `inner` is room for `x` in the bands' order.
    fn times<const N: usize>(&self, x: &[[f64; N]], inner: &mut [[f64; N]], y: &mut [[f64; N]]) {
        let total = sum_over(x, |sum, x, _| add(sum, x));
        let rows = inner.par_iter_mut().zip(&self.order).with_min_len(ROWS);
        rows.for_each(|(to, &j)| *to = x[j as usize]);
        let (bands, inner) = (&self.bands, &*inner);
        let bands = bands.par_iter().zip(y.par_chunks_mut(self.height));
        bands.for_each(|(band, y)| {
            for (row, mean) in y.iter_mut().zip(&self.means[band.rows.clone()]) {
                *row = total.map(|x| -mean * x);
            }
            band.times(inner, y);
        });
    }

    /// `A^T y`; `inner` is room for it in the bands' order. Every row is summed band by band, however the
    /// columns are shared out.
    fn transposed_times<const N: usize>(
        &self,
        y: &[[f64; N]],
        inner: &mut [[f64; N]],
    ) -> Vec<[f64; N]> {
        let offset = sum_over(y, |sum, y, i| add_times(sum, -self.means[i], y));
        let threads = rayon::current_num_threads();
        let some = self.runs.len().div_ceil(threads).max(1);
        let mut parts = Vec::with_capacity(threads);
        let mut rest = &mut *inner;
        for &start in self.runs.iter().step_by(some).rev() {
            let (before, part) = rest.split_at_mut(start);
            parts.push((start, part));
            rest = before;
        }
        parts.into_par_iter().for_each(|(start, part)| {
            part.fill(offset);
            for band in &self.bands {
                band.transposed_times(&y[band.rows.clone()], start, part);
            }
        });
        let row = |&k: &u32| inner[k as usize];
        self.place.par_iter().with_min_len(ROWS).map(row).collect()
    }
}

impl LinearOperator for RowCentered {
    fn nrows(&self) -> usize {
        self.means.len()
    }

    fn ncols(&self) -> usize {
        self.order.len()
    }

    fn apply(&self, x: &RowMatrix<f64>) -> RowMatrix<f64> {
        by_columns(x, self.nrows(), |x| self.there(x), |x| self.there(x))
    }

    fn apply_transpose(&self, y: &RowMatrix<f64>) -> RowMatrix<f64> {
        by_columns(y, self.ncols(), |y| self.back(y), |y| self.back(y))
    }

    fn apply_gram(&self, x: &RowMatrix<f64>) -> RowMatrix<f64> {
        let both = |x: &[[f64; 4]]| self.there_and_back(x);
        by_columns(x, self.ncols(), both, |x| self.there_and_back(x))
    }
}

/// A sum over the rows of a block, given their numbers, in a fixed order.
fn sum_over<const N: usize>(
    x: &[[f64; N]],
    f: impl Fn(&mut [f64; N], &[f64; N], usize) + Sync,
) -> [f64; N] {
    let parts: Vec<_> = x
        .par_chunks(ROWS)
        .enumerate()
        .map(|(k, rows)| {
            let mut part = [0.0; N];
            let rows = rows.iter().enumerate();
            rows.for_each(|(i, row)| f(&mut part, row, k * ROWS + i));
            part
        })
        .collect();
    let mut sum = [0.0; N];
    parts.iter().for_each(|part| add(&mut sum, part));
    sum
}

/// A product column block by column block: of eight, and of four where no more are left.
fn by_columns(
    x: &RowMatrix<f64>,
    nrows: usize,
    four: impl Fn(&[[f64; 4]]) -> Vec<[f64; 4]>,
    eight: impl Fn(&[[f64; 8]]) -> Vec<[f64; 8]>,
) -> RowMatrix<f64> {
    match x.ncols() {
        4 => return RowMatrix::from_array_rows(four(x.array_rows())),
        8 => return RowMatrix::from_array_rows(eight(x.array_rows())),
        _ => {}
    }
    let mut out = RowMatrix::zeros(nrows, x.ncols());
    for first in (0..x.ncols()).step_by(8) {
        let width = (x.ncols() - first).min(8);
        if width <= 4 {
            put(&mut out, first, width, &four(&columns(x, first, width)));
        } else {
            put(&mut out, first, width, &eight(&columns(x, first, width)));
        }
    }
    out
}

/// Columns of `x`, zeros beyond `width`.
fn columns<const N: usize>(x: &RowMatrix<f64>, first: usize, width: usize) -> Vec<[f64; N]> {
    let row = |row: &[f64]| {
        let some = &row[first..first + width];
        std::array::from_fn(|k| some.get(k).copied().unwrap_or(0.0))
    };
    let rows = x.data().par_chunks_exact(x.ncols());
    rows.with_min_len(ROWS).map(row).collect()
}

fn put<const N: usize>(out: &mut RowMatrix<f64>, first: usize, width: usize, block: &[[f64; N]]) {
    let k = out.ncols();
    let rows = out.data_mut().par_chunks_exact_mut(k).zip(block);
    rows.with_min_len(ROWS).for_each(|(out, row)| {
        out[first..first + width].copy_from_slice(&row[..width]);
    });
}
