//! Orthonormal columns, kept in blocks of a few, and what a Krylov method does with them. Every sum
//! has one order, whatever the number of threads.

use pulp::{Arch, Simd, WithSimd};
use rand::rngs::StdRng;
use rand_distr::{Distribution as _, StandardNormal};
use rayon::prelude::*;

use super::band::{add, add_times};
use crate::matrix::RowMatrix;

/// Columns of a block.
pub(super) const WIDTH: usize = 8;

type Square = [[f64; WIDTH]; WIDTH];

/// Rows that one thread takes at once, and rows of them that stay in the first-level cache.
const ROWS: usize = 2048;
const PANEL: usize = 128;

/// A column whose norm falls below this share of what it was is made orthogonal with more care.
const WEAK: f64 = 1e-4;
/// What is smaller than this share of the operator's norm is rounding.
const ROUNDING: f64 = 1e-13;

/// Blocks of orthonormal columns. A column that is not `live` is 0: there was no direction left.
#[derive(Debug)]
pub(super) struct Basis {
    nrows: usize,
    blocks: Vec<RowMatrix<f64>>,
    live: Vec<bool>,
}

/// A block made orthonormal: `old = new factor`, up to the basis.
#[derive(Debug)]
pub(super) struct Block {
    pub columns: RowMatrix<f64>,
    pub factor: Square,
    pub live: [bool; WIDTH],
}

impl Basis {
    pub fn new(nrows: usize) -> Self {
        Self {
            nrows,
            blocks: Vec::new(),
            live: Vec::new(),
        }
    }

    /// The number of columns, live or not.
    pub fn width(&self) -> usize {
        self.live.len()
    }

    pub fn live(&self) -> &[bool] {
        &self.live
    }

    pub fn last(&self) -> Option<&RowMatrix<f64>> {
        self.blocks.last()
    }

    pub fn push(&mut self, block: Block) {
        self.blocks.push(block.columns);
        self.live.extend(block.live);
    }

    /// A block of independent normal numbers.
    pub fn random(&self, rng: &mut StdRng) -> RowMatrix<f64> {
        RowMatrix::from_fn(self.nrows, WIDTH, |_, _| StandardNormal.sample(rng))
    }

    /// Takes off `w` its components along the columns from block `first` on, and returns them: one row
    /// of WIDTH coefficients a column.
    pub fn project(&self, first: usize, w: &mut RowMatrix<f64>) -> Vec<[f64; WIDTH]> {
        let blocks: Vec<&[[f64; WIDTH]]> = self.blocks[first..]
            .iter()
            .map(RowMatrix::array_rows)
            .collect();
        let coefficients = inner(&blocks, w.array_rows());
        let less: Vec<Square> = coefficients
            .iter()
            .map(|c| c.map(|r| r.map(|x| -x)))
            .collect();
        w.array_rows_mut()
            .par_chunks_mut(ROWS)
            .enumerate()
            .for_each(|(k, w)| {
                Arch::new().dispatch(Combine {
                    blocks: &blocks,
                    from: k * ROWS,
                    coefficients: &less,
                    w,
                });
            });
        coefficients.into_flattened()
    }

    /// Makes a block orthonormal that is already orthogonal to the basis; `scale` is the norm of the
    /// operator. A column that depends on those before it is replaced by a random one, which its factor
    /// leaves out.
    pub fn orthonormalise(&self, mut w: RowMatrix<f64>, scale: f64, rng: &mut StdRng) -> Block {
        let room = self.live.iter().filter(|&&live| live).count() + WIDTH <= self.nrows;
        let factor = (room).then(|| cholesky(&mut w, ROUNDING * scale)).flatten();
        if let Some(first) = factor {
            // The first pass leaves columns that are orthogonal up to the square of their condition.
            if let Some(second) = cholesky(&mut w, 0.0) {
                return Block {
                    columns: w,
                    factor: product(&second, &first),
                    live: [true; WIDTH],
                };
            }
        }
        self.one_by_one(w, factor, scale, rng)
    }

    fn one_by_one(
        &self,
        w: RowMatrix<f64>,
        before: Option<Square>,
        scale: f64,
        rng: &mut StdRng,
    ) -> Block {
        let mut live_columns = self.live.iter().filter(|&&live| live).count();
        let mut out = RowMatrix::zeros(self.nrows, WIDTH);
        let mut factor = [[0.0; WIDTH]; WIDTH];
        let mut live = [false; WIDTH];
        for c in 0..WIDTH {
            let mut column = RowMatrix::zeros(self.nrows, WIDTH);
            for (i, row) in w.rows().enumerate() {
                column.row_mut(i)[0] = row[c];
            }
            let original = norm(&column);
            let mut coefficients = [0.0; WIDTH];
            for _ in 0..2 {
                self.clean(&mut column, &out, &mut coefficients);
            }
            (0..WIDTH).for_each(|a| factor[a][c] = coefficients[a]);
            let mut size = norm(&column);
            let floor = (ROUNDING * scale).max(1e-10 * original);
            if live_columns >= self.nrows {
                continue;
            }
            if size > floor {
                factor[c][c] = size;
            } else {
                for row in column.array_rows_mut::<WIDTH>() {
                    row[0] = StandardNormal.sample(rng);
                }
                size = norm(&column);
            }
            for _ in 0..3 {
                scale_by(&mut column, 1.0 / size);
                self.clean(&mut column, &out, &mut [0.0; WIDTH]);
                size = norm(&column);
            }
            if size > 0.5 {
                scale_by(&mut column, 1.0 / size);
                live[c] = true;
                live_columns += 1;
                let rows = out.array_rows_mut::<WIDTH>().iter_mut();
                rows.zip(column.array_rows::<WIDTH>())
                    .for_each(|(to, from)| to[c] = from[0]);
            }
        }
        Block {
            columns: out,
            factor: before.map_or(factor, |before| product(&factor, &before)),
            live,
        }
    }

    /// Takes off the single column of a block its components along the basis and along `others`.
    fn clean(
        &self,
        column: &mut RowMatrix<f64>,
        others: &RowMatrix<f64>,
        coefficients: &mut [f64; WIDTH],
    ) {
        self.project(0, column);
        let along = inner(&[others.array_rows()], column.array_rows());
        let along: [f64; WIDTH] = std::array::from_fn(|a| along[0][a][0]);
        add(coefficients, &along);
        let rows = column.array_rows_mut::<WIDTH>().iter_mut();
        for (to, other) in rows.zip(others.array_rows::<WIDTH>()) {
            to[0] -= other.iter().zip(&along).map(|(x, y)| x * y).sum::<f64>();
        }
    }

    /// The columns combined: `Q z` for `z` of width x k.
    pub fn combine(&self, z: &RowMatrix<f64>) -> RowMatrix<f64> {
        let k = z.ncols();
        let mut out = RowMatrix::zeros(self.nrows, k);
        if k == 0 {
            return out;
        }
        // Eight columns of the result at a time, so that their sums stay in registers.
        let groups: Vec<Vec<[f64; WIDTH]>> = (0..k)
            .step_by(WIDTH)
            .map(|first| {
                let entry = |row: &[f64], c: usize| row.get(first + c).copied().unwrap_or(0.0);
                z.rows()
                    .map(|row| std::array::from_fn(|c| entry(row, c)))
                    .collect()
            })
            .collect();
        let blocks: Vec<&[[f64; WIDTH]]> = self.blocks.iter().map(RowMatrix::array_rows).collect();
        out.data_mut()
            .par_chunks_mut(PANEL * k)
            .enumerate()
            .for_each(|(panel, out)| {
                for (g, group) in groups.iter().enumerate() {
                    let mut sums = vec![[0.0; WIDTH]; out.len() / k];
                    Arch::new().dispatch(Combine {
                        blocks: &blocks,
                        from: panel * PANEL,
                        coefficients: group.as_chunks().0,
                        w: &mut sums,
                    });
                    let (first, width) = (g * WIDTH, (k - g * WIDTH).min(WIDTH));
                    for (row, sum) in out.chunks_exact_mut(k).zip(&sums) {
                        row[first..first + width].copy_from_slice(&sum[..width]);
                    }
                }
            });
        out
    }
}

/// The inner products of the columns of every block with those of `w`.
fn inner(blocks: &[&[[f64; WIDTH]]], w: &[[f64; WIDTH]]) -> Vec<Square> {
    let parts: Vec<Vec<Square>> = w
        .par_chunks(ROWS)
        .enumerate()
        .map(|(k, w)| {
            Arch::new().dispatch(Inner {
                blocks,
                from: k * ROWS,
                w,
            })
        })
        .collect();
    let mut out = vec![[[0.0; WIDTH]; WIDTH]; blocks.len()];
    for part in &parts {
        for (square, other) in out.iter_mut().zip(part) {
            square.iter_mut().zip(other).for_each(|(x, y)| add(x, y));
        }
    }
    out
}

/// Divides `w` by the Cholesky factor of its Gram matrix, unless a column is at most `floor` long or
/// nearly depends on those before.
fn cholesky(w: &mut RowMatrix<f64>, floor: f64) -> Option<Square> {
    let gram = inner(&[w.array_rows()], w.array_rows())[0];
    let mut factor = [[0.0; WIDTH]; WIDTH];
    for c in 0..WIDTH {
        for a in 0..=c {
            let less = factor[..a].iter().map(|row| row[a] * row[c]);
            let x = less.fold(gram[a][c], |x, y| x - y);
            if a < c {
                factor[a][c] = x / factor[a][a];
            } else if x > WEAK * WEAK * gram[c][c] && gram[c][c] > floor * floor {
                factor[c][c] = x.sqrt();
            } else {
                return None;
            }
        }
    }
    let mut inverse = [[0.0; WIDTH]; WIDTH];
    for c in 0..WIDTH {
        inverse[c][c] = 1.0 / factor[c][c];
        for a in (0..c).rev() {
            let sum: f64 = (a + 1..=c).map(|b| factor[a][b] * inverse[b][c]).sum();
            inverse[a][c] = -sum / factor[a][a];
        }
    }
    w.array_rows_mut::<WIDTH>()
        .par_chunks_mut(ROWS)
        .for_each(|rows| Arch::new().dispatch(Times { rows, inverse }));
    Some(factor)
}

fn product(a: &Square, b: &Square) -> Square {
    let mut out = [[0.0; WIDTH]; WIDTH];
    for (out, a) in out.iter_mut().zip(a) {
        for (x, b) in a.iter().zip(b) {
            add_times(out, *x, b);
        }
    }
    out
}

/// The norm of the first column of a block.
fn norm(column: &RowMatrix<f64>) -> f64 {
    let rows = column.array_rows::<WIDTH>();
    rows.iter().map(|row| row[0] * row[0]).sum::<f64>().sqrt()
}

fn scale_by(column: &mut RowMatrix<f64>, factor: f64) {
    for row in column.array_rows_mut::<WIDTH>() {
        row[0] *= factor;
    }
}

struct Inner<'a> {
    blocks: &'a [&'a [[f64; WIDTH]]],
    from: usize,
    w: &'a [[f64; WIDTH]],
}

impl WithSimd for Inner<'_> {
    type Output = Vec<Square>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<Square> {
        let mut out = vec![[[0.0; WIDTH]; WIDTH]; self.blocks.len()];
        for (k, w) in self.w.chunks(PANEL).enumerate() {
            let from = self.from + k * PANEL;
            for (out, block) in out.iter_mut().zip(self.blocks) {
                let mut sums = *out;
                for (q, w) in block[from..].iter().zip(w) {
                    for (sum, &q) in sums.iter_mut().zip(q) {
                        add_times(sum, q, w);
                    }
                }
                *out = sums;
            }
        }
        out
    }
}

/// `w += sum_l block_l coefficients_l`, on rows from `from` on.
struct Combine<'a> {
    blocks: &'a [&'a [[f64; WIDTH]]],
    from: usize,
    coefficients: &'a [Square],
    w: &'a mut [[f64; WIDTH]],
}

impl WithSimd for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (k, w) in self.w.chunks_mut(PANEL).enumerate() {
            let from = self.from + k * PANEL;
            for (square, block) in self.coefficients.iter().zip(self.blocks) {
                let square = *square;
                for (w, q) in w.iter_mut().zip(&block[from..]) {
                    let mut sum = *w;
                    for (row, &q) in square.iter().zip(q) {
                        add_times(&mut sum, q, row);
                    }
                    *w = sum;
                }
            }
        }
    }
}

struct Times<'a> {
    rows: &'a mut [[f64; WIDTH]],
    inverse: Square,
}

impl WithSimd for Times<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.rows {
            let mut sum = [0.0; WIDTH];
            for (x, inverse) in row.iter().zip(&self.inverse) {
                add_times(&mut sum, *x, inverse);
            }
            *row = sum;
        }
    }
}
