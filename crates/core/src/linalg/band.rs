//! A band of a sparse matrix's rows, for products with a few dense columns at once.
//!
//! The entries stand column after column, so that both products go through the long side in order, and
//! only the band's own block, which stays in the second-level cache, is read and written at random.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use pulp::{Arch, Simd, WithSimd};

use crate::sparse::SparseRows;

/// The most rows of a band: eight columns of it are 768 KiB.
const HIGHEST: usize = 12_288;
/// Bands are not made lower than this to have more of them.
const LOWEST: usize = 1024;

/// The rows of a band of a matrix of `nrows`.
pub(super) fn height(nrows: usize) -> usize {
    nrows.div_ceil(16).clamp(LOWEST, HIGHEST)
}

#[derive(Debug)]
pub(super) struct Band {
    pub rows: Range<usize>,
    /// The columns that have entries.
    columns: Vec<u32>,
    /// Where the entries of each of those end.
    ends: Vec<usize>,
    /// The rows of the entries, counted from the band's first.
    places: Vec<u16>,
    /// Their values; empty if all are 1.
    values: Vec<f64>,
}

impl Band {
    /// The rows `range` of a matrix, whose column `j` becomes column `place[j]`; `ones` says that all its
    /// values are 1. O(entries + columns).
    pub fn new(rows: &SparseRows<f64>, range: Range<usize>, place: &[u32], ones: bool) -> Self {
        let mut next = vec![0usize; rows.ncols() + 1];
        for row in range.clone() {
            for &j in rows.row(row).0 {
                next[place[j as usize] as usize + 1] += 1;
            }
        }
        let columns: Vec<u32> = (0..rows.ncols() as u32)
            .filter(|&j| next[j as usize + 1] > 0)
            .collect();
        for j in 0..rows.ncols() {
            next[j + 1] += next[j];
        }
        let entries = next[rows.ncols()];
        let mut places = vec![0; entries];
        let mut values = vec![0.0; if ones { 0 } else { entries }];
        for (i, row) in range.clone().enumerate() {
            let (indices, row_values) = rows.row(row);
            for (&j, &value) in indices.iter().zip(row_values) {
                let slot = &mut next[place[j as usize] as usize];
                places[*slot] = i as u16;
                if !ones {
                    values[*slot] = value;
                }
                *slot += 1;
            }
        }
        // Every column's pointer has moved to its end.
        let ends = columns.iter().map(|&j| next[j as usize]).collect();
        Self {
            rows: range,
            columns,
            ends,
            places,
            values,
        }
    }

    /// `y += A x` for the band's rows of A.
    pub fn times<const N: usize>(&self, x: &[[f64; N]], y: &mut [[f64; N]]) {
        Arch::new().dispatch(Times { band: self, x, y });
    }

    /// `x += A^T y` for the band's rows of A, and of its columns those from `from` on for which there is
    /// a row in `x`.
    pub fn transposed_times<const N: usize>(
        &self,
        y: &[[f64; N]],
        from: usize,
        x: &mut [[f64; N]],
    ) {
        let place = |column: usize| self.columns.partition_point(|&j| (j as usize) < column);
        let (first, last) = (place(from), place(from + x.len()));
        Arch::new().dispatch(TransposedTimes {
            band: self,
            y,
            columns: first..last,
            from,
            x,
        });
    }
}

struct Times<'a, const N: usize> {
    band: &'a Band,
    x: &'a [[f64; N]],
    y: &'a mut [[f64; N]],
}

impl<const N: usize> WithSimd for Times<'_, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (band, y) = (self.band, self.y);
        let mut first = 0;
        for (&j, &end) in band.columns.iter().zip(&band.ends) {
            let x = self.x[j as usize];
            if band.values.is_empty() {
                for &place in &band.places[first..end] {
                    add(&mut y[place as usize], &x);
                }
            } else {
                let values = &band.values[first..end];
                for (&place, &value) in band.places[first..end].iter().zip(values) {
                    add_times(&mut y[place as usize], value, &x);
                }
            }
            first = end;
        }
    }
}

struct TransposedTimes<'a, const N: usize> {
    band: &'a Band,
    y: &'a [[f64; N]],
    columns: Range<usize>,
    from: usize,
    x: &'a mut [[f64; N]],
}

impl<const N: usize> WithSimd for TransposedTimes<'_, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (band, y) = (self.band, self.y);
        let mut first = match self.columns.start {
            0 => 0,
            k => band.ends[k - 1],
        };
        let ends = &band.ends[self.columns.clone()];
        for (&j, &end) in band.columns[self.columns].iter().zip(ends) {
            let places = &band.places[first..end];
            let sum = if band.values.is_empty() {
                // Four sums, so that an addition need not wait for the one before.
                let mut sums = [[0.0; N]; 4];
                let (fours, rest) = places.as_chunks::<4>();
                for four in fours {
                    for (sum, &place) in sums.iter_mut().zip(four) {
                        add(sum, &y[place as usize]);
                    }
                }
                for &place in rest {
                    add(&mut sums[0], &y[place as usize]);
                }
                let [mut a, b, mut c, d] = sums;
                add(&mut a, &b);
                add(&mut c, &d);
                add(&mut a, &c);
                a
            } else {
                let mut sum = [0.0; N];
                for (&place, &value) in places.iter().zip(&band.values[first..end]) {
                    add_times(&mut sum, value, &y[place as usize]);
                }
                sum
            };
            add(&mut self.x[j as usize - self.from], &sum);
            first = end;
        }
    }
}

#[inline(always)]
pub(super) fn add<const N: usize>(x: &mut [f64; N], y: &[f64; N]) {
    for k in 0..N {
        x[k] += y[k];
    }
}

#[inline(always)]
pub(super) fn add_times<const N: usize>(x: &mut [f64; N], factor: f64, y: &[f64; N]) {
    for k in 0..N {
        x[k] += factor * y[k];
    }
}

/// One line of the cache: blocks of four and eight columns aligned to it have no row on two lines.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f64; 8]);

/// Room for a block of four or eight columns.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<Line>);

impl Lines {
    /// `len` rows, with what was there before.
    pub fn rows_mut<const N: usize>(&mut self, len: usize) -> &mut [[f64; N]] {
        let lines = (len * N).div_ceil(8);
        if self.0.len() < lines {
            self.0 = vec![Line([0.0; 8]); lines];
        }
        let values: &mut [f64] = bytemuck::cast_slice_mut(&mut self.0);
        &mut values.as_chunks_mut().0[..len]
    }
}
