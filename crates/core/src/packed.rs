//! Products with a matrix that stays the same: laid out once as the kernel reads it, multiplied often.
//!
//! A general product copies both factors into the kernel's order every time. A model's weights never
//! change, so here they are copied once; and since every value of a result is summed in one order,
//! whatever the threads and the number of rows, a row multiplied alone or among others is the same.
//!
//! *Source:* Goto, van de Geijn, *Anatomy of high-performance matrix multiplication* (2008), with the
//! roles of the factors exchanged.

use std::ops::Range;

use faer::MatRef;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::vector::vectorised;

/// Vectors in the width of a panel of columns.
const VECTORS: usize = 3;
/// Rows of the left factor that the kernel takes at once, at most: with three vectors a row their sums
/// fill most of the 32 vector registers of AVX-512 and Arm; machines with 16 take fewer rows.
const MOST_ROWS: usize = 8;
const FEW_ROWS: usize = 4;
/// The widest panel: three vectors of 16.
const WIDEST: usize = VECTORS * 16;
/// Inputs summed before a sum is written out.
const DEPTH: usize = 576;
/// Rows gone through with one panel before the next: their packed values stay in the second-level
/// cache.
const ROWS_AT_ONCE: usize = 256;

struct Widths;

impl WithSimd for Widths {
    type Output = (usize, usize);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        let rows = if S::REGISTER_COUNT >= 32 {
            MOST_ROWS
        } else {
            FEW_ROWS
        };
        ((VECTORS * S::F32_LANES).min(WIDEST), rows)
    }
}

/// The width of a panel and the most rows of a block on this machine.
fn widths() -> (usize, usize) {
    Arch::new().dispatch(Widths)
}

/// A matrix `W`, outputs x inputs, laid out for products `X W^T`.
#[derive(Debug)]
pub struct PackedMatrix {
    outputs: usize,
    inputs: usize,
    width: usize,
    /// Panels of `width` outputs; in each, input after input, the outputs' values side by side,
    /// zeros beyond the last output.
    data: Buffer,
}

impl PackedMatrix {
    /// Lays out `weight`, outputs x inputs. Memory: as much as the matrix itself.
    pub fn new(weight: MatRef<'_, f32>) -> Self {
        let (outputs, inputs) = (weight.nrows(), weight.ncols());
        let (width, _) = widths();
        let mut data = Buffer::zeros(outputs.div_ceil(width) * width * inputs);
        data.par_chunks_mut((width * inputs).max(1))
            .enumerate()
            .for_each(|(panel, data)| {
                let first = panel * width;
                for (lane, output) in (first..outputs.min(first + width)).enumerate() {
                    let row = weight.row(output);
                    for (values, &x) in data.chunks_exact_mut(width).zip(row.iter()) {
                        values[lane] = x;
                    }
                }
            });
        Self {
            outputs,
            inputs,
            width,
            data,
        }
    }

    /// The number of rows of `W`.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The number of columns of `W`.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The number of panels; [`columns`](Self::columns) says which outputs are in which.
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(self.width)
    }

    /// The number of panels that the first `outputs` outputs are in.
    pub(crate) fn panels_of(&self, outputs: usize) -> usize {
        outputs.min(self.outputs).div_ceil(self.width)
    }

    /// The outputs in `panels`.
    pub fn columns(&self, panels: &Range<usize>) -> Range<usize> {
        let end = (panels.end * self.width).min(self.outputs);
        (panels.start * self.width).min(end)..end
    }

    /// Panels in groups of about `outputs` outputs.
    pub fn groups(&self, outputs: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (panels, each) = (self.panels(), (outputs / self.width).max(1));
        (0..panels)
            .step_by(each)
            .map(move |first| first..panels.min(first + each))
    }

    /// `out = X W^T`, on the threads of the current pool. `out` is rows x outputs, row by row.
    ///
    /// # Panics
    /// If shapes do not agree: that is a mistake of the caller, never of the data.
    pub fn multiply(&self, rows: &PackedRows, out: &mut [f32]) {
        self.product(rows, 0..self.panels(), out, false);
    }

    /// As [`multiply`](Self::multiply) with the outputs of `panels` alone: `out` is rows x their number.
    ///
    /// # Panics
    /// If shapes do not agree.
    pub fn multiply_columns(&self, rows: &PackedRows, panels: Range<usize>, out: &mut [f32]) {
        self.product(rows, panels, out, false);
    }

    /// `out += X W^T`; otherwise as [`multiply`](Self::multiply).
    ///
    /// # Panics
    /// If shapes do not agree.
    pub fn multiply_add(&self, rows: &PackedRows, out: &mut [f32]) {
        self.product(rows, 0..self.panels(), out, true);
    }

    fn product(&self, rows: &PackedRows, panels: Range<usize>, out: &mut [f32], add: bool) {
        assert_eq!(rows.inputs, self.inputs, "inputs of the factors");
        let outputs = self.columns(&panels).len();
        assert_eq!(out.len(), rows.count * outputs, "size of the product");
        if rows.count == 0 || outputs == 0 {
            return;
        }
        if self.inputs == 0 {
            // Sums of nothing.
            return if !add {
                out.fill(0.0)
            };
        }
        // Enough parts that idle threads find one, as many as there are panels at most.
        let work = rows.count * outputs * self.inputs;
        let threads = rayon::current_num_threads();
        let parts = if threads == 1 || work < 1 << 20 {
            1
        } else {
            panels.len().min(4 * threads)
        };
        let bound = |i: usize| panels.start + i * panels.len() / parts;
        let groups: Vec<Range<usize>> = (0..parts).map(|i| bound(i)..bound(i + 1)).collect();
        let mut tiles: Vec<Vec<&mut [f32]>> = groups
            .iter()
            .map(|_| Vec::with_capacity(rows.count))
            .collect();
        for row in out.chunks_exact_mut(outputs) {
            let mut left = row;
            for (group, tile) in groups.iter().zip(&mut tiles) {
                let (part, rest) = left.split_at_mut(self.columns(group).len());
                tile.push(part);
                left = rest;
            }
        }
        let compute = |(group, mut tile): (Range<usize>, Vec<&mut [f32]>)| {
            self.multiply_panels(rows, 0..rows.blocks.len(), group, &mut tile, add);
        };
        if parts == 1 {
            groups.into_iter().zip(tiles).for_each(compute);
        } else {
            groups.into_par_iter().zip(tiles).for_each(compute);
        }
    }

    /// The product of the rows in `blocks` (indices of [`PackedRows::blocks`]) with `panels`, on this
    /// thread. `out` has a slice for every such row, of the panels' outputs.
    pub(crate) fn multiply_panels(
        &self,
        rows: &PackedRows,
        blocks: Range<usize>,
        panels: Range<usize>,
        out: &mut [&mut [f32]],
        add: bool,
    ) {
        Arch::new().dispatch(Product {
            matrix: self,
            rows,
            blocks,
            panels,
            out,
            add,
        });
    }
}

/// Rows to be multiplied, rows x inputs, laid out for the kernel. The buffers are kept from one use
/// to the next.
#[derive(Debug, Default)]
pub struct PackedRows {
    count: usize,
    inputs: usize,
    /// Blocks of rows; in each, input after input, the rows' values side by side.
    data: Buffer,
    blocks: Vec<Range<usize>>,
}

impl PackedRows {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in `count` rows of `inputs` values: `write` is given the index of a row and where its
    /// values go, so that what is multiplied may be computed on the way.
    pub fn fill(&mut self, count: usize, inputs: usize, write: impl Fn(usize, &mut [f32]) + Sync) {
        self.count = count;
        self.inputs = inputs;
        // Blocks as equal as possible: none so small that the kernel waits for its own sums.
        let (_, most) = widths();
        let blocks = count.div_ceil(most);
        self.blocks.clear();
        self.blocks
            .extend((0..blocks).map(|b| b * count / blocks..(b + 1) * count / blocks));
        self.data.fit(count * inputs);
        let mut parts = Vec::with_capacity(blocks);
        let mut left = &mut self.data[..];
        for block in &self.blocks {
            let (part, rest) = left.split_at_mut(block.len() * inputs);
            parts.push((block.clone(), part));
            left = rest;
        }
        let pack = |buffer: &mut Vec<f32>, (block, part): (Range<usize>, &mut [f32])| {
            buffer.resize(block.len() * inputs, 0.0);
            for (row, values) in block.clone().zip(buffer.chunks_exact_mut(inputs.max(1))) {
                write(row, values);
            }
            interleave(buffer, block.len(), part);
        };
        if count * inputs < 1 << 14 {
            let mut buffer = Vec::new();
            parts.into_iter().for_each(|part| pack(&mut buffer, part));
        } else {
            parts
                .into_par_iter()
                .with_min_len(4)
                .for_each_init(Vec::new, pack);
        }
    }

    /// Takes in a matrix's values, row by row.
    pub fn copy(&mut self, count: usize, inputs: usize, rows: &[f32]) {
        self.fill(count, inputs, |i, row| {
            row.copy_from_slice(&rows[i * inputs..(i + 1) * inputs]);
        });
    }

    /// The number of rows.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The rows' blocks, in order: the kernel takes a block at once.
    pub(crate) fn blocks(&self) -> &[Range<usize>] {
        &self.blocks
    }
}

/// Turns `rows` rows, one after the other, into their values side by side.
fn interleave(values: &[f32], rows: usize, out: &mut [f32]) {
    #[inline(always)]
    fn fixed<const ROWS: usize>(values: &[f32], out: &mut [f32]) {
        let inputs = values.len() / ROWS;
        let sources: [&[f32]; ROWS] =
            std::array::from_fn(|i| &values[i * inputs..(i + 1) * inputs]);
        for (k, out) in out.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
            *out = std::array::from_fn(|i| sources[i].get(k).copied().unwrap_or(0.0));
        }
    }
    vectorised(
        #[inline(always)]
        || match rows {
            1 => out.copy_from_slice(values),
            2 => fixed::<2>(values, out),
            3 => fixed::<3>(values, out),
            4 => fixed::<4>(values, out),
            5 => fixed::<5>(values, out),
            6 => fixed::<6>(values, out),
            7 => fixed::<7>(values, out),
            8 => fixed::<8>(values, out),
            _ => {}
        },
    );
}

struct Product<'a, 'b> {
    matrix: &'a PackedMatrix,
    rows: &'a PackedRows,
    blocks: Range<usize>,
    panels: Range<usize>,
    out: &'a mut [&'b mut [f32]],
    add: bool,
}

impl WithSimd for Product<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Product {
            matrix,
            rows,
            blocks,
            panels,
            out,
            add,
        } = self;
        let (inputs, width) = (matrix.inputs, matrix.width);
        let first_row = rows.blocks[blocks.start].start;
        let mut start = blocks.start;
        while start < blocks.end {
            let limit = rows.blocks[start].start + ROWS_AT_ONCE;
            let end = (start + 1..blocks.end)
                .find(|&b| rows.blocks[b].end > limit)
                .unwrap_or(blocks.end);
            for panel in panels.clone() {
                let column = (panel - panels.start) * width;
                for k in (0..inputs).step_by(DEPTH) {
                    let depth = DEPTH.min(inputs - k);
                    let from = (panel * inputs + k) * width;
                    let weights = &matrix.data[from..from + depth * width];
                    for block in &rows.blocks[start..end] {
                        let from = block.start * inputs + k * block.len();
                        let values = &rows.data[from..from + depth * block.len()];
                        let out = &mut out[block.start - first_row..block.end - first_row];
                        block_product(simd, weights, values, out, column, add || k > 0);
                    }
                }
            }
            start = end;
        }
    }
}

/// One block of rows times one panel: writes or adds to `out[i][column ..]`, as far as it goes.
#[inline(always)]
fn block_product<S: Simd>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    out: &mut [&mut [f32]],
    column: usize,
    add: bool,
) {
    macro_rules! of_rows {
        ($($rows:literal)*) => {
            match out.len() {
                $($rows => kernel::<S, $rows>(simd, weights, values, out, column, add),)*
                _ => {}
            }
        };
    }
    of_rows!(1 2 3 4 5 6 7 8);
}

#[inline(always)]
fn kernel<S: Simd, const ROWS: usize>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    out: &mut [&mut [f32]],
    column: usize,
    add: bool,
) {
    let (weights, _) = S::as_simd_f32s(weights);
    let (weights, _) = weights.as_chunks::<VECTORS>();
    let (values, _) = values.as_chunks::<ROWS>();
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (w, x) in weights.iter().zip(values) {
        for i in 0..ROWS {
            let x = simd.splat_f32s(x[i]);
            for j in 0..VECTORS {
                sums[i][j] = simd.mul_add_e_f32s(w[j], x, sums[i][j]);
            }
        }
    }
    let width = VECTORS * S::F32_LANES;
    for (out, sums) in out.iter_mut().zip(sums) {
        let end = out.len().min(column + width);
        let target = &mut out[column..end];
        if target.len() == width {
            let (target, _) = S::as_mut_simd_f32s(target);
            for (t, sum) in target.iter_mut().zip(sums) {
                *t = if add { simd.add_f32s(*t, sum) } else { sum };
            }
        } else {
            let mut whole = [0.0; WIDEST];
            let (vectors, _) = S::as_mut_simd_f32s(&mut whole);
            vectors.iter_mut().zip(sums).for_each(|(v, sum)| *v = sum);
            for (t, sum) in target.iter_mut().zip(whole) {
                *t = if add { *t + sum } else { sum };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::RowMatrix;

    fn matrix(rows: usize, columns: usize, seed: usize) -> RowMatrix<f32> {
        RowMatrix::from_fn(rows, columns, |i, j| {
            ((i * 31 + j * 17 + seed * 7) % 101) as f32 / 50.0 - 1.0
        })
    }

    fn exact(x: &RowMatrix<f32>, w: &RowMatrix<f32>, i: usize, j: usize) -> f64 {
        let products = x.row(i).iter().zip(w.row(j));
        products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    #[test]
    fn products_of_every_shape_are_the_sums_they_should_be() {
        for (rows, outputs, inputs) in [
            (1, 1, 1),
            (3, 5, 0),
            (1, 100, 7),
            (5, 33, 193),
            (13, 31, 384),
            (15, 64, 200),
            (29, 70, 1),
            (300, 95, 577),
            (9, 100, 1200),
        ] {
            let (x, w) = (matrix(rows, inputs, 1), matrix(outputs, inputs, 2));
            let mut packed = PackedRows::new();
            packed.copy(x.nrows(), x.ncols(), x.data());
            let matrix = PackedMatrix::new(w.view());
            let mut out = RowMatrix::from_fn(rows, outputs, |_, _| f32::NAN);
            matrix.multiply(&packed, out.data_mut());
            let once = out.clone();
            let tolerance = 1e-6 * (1.0 + inputs as f64);
            matrix.multiply_add(&packed, out.data_mut());
            for i in 0..rows {
                for j in 0..outputs {
                    let exact = exact(&x, &w, i, j);
                    assert!((f64::from(once.get(i, j)) - exact).abs() < tolerance);
                    assert!((f64::from(out.get(i, j)) - 2.0 * exact).abs() < 2.0 * tolerance);
                }
            }
        }
    }

    #[test]
    fn a_row_multiplied_alone_or_among_others_on_any_threads_is_the_same() {
        let (x, w) = (matrix(100, 300, 1), matrix(90, 300, 2));
        let packed_w = PackedMatrix::new(w.view());
        let product = |x: &RowMatrix<f32>, threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut out = RowMatrix::zeros(x.nrows(), 90);
            pool.install(|| {
                let mut rows = PackedRows::new();
                rows.copy(x.nrows(), x.ncols(), x.data());
                packed_w.multiply(&rows, out.data_mut());
            });
            out
        };
        let together = product(&x, 3);
        assert_eq!(together.data(), product(&x, 1).data());
        for i in [0, 13, 99] {
            let alone = RowMatrix::from_fn(1, 300, |_, k| x.get(i, k));
            assert_eq!(product(&alone, 2).row(0), together.row(i));
        }
    }
}
