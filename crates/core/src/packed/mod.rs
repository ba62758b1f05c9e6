//! Products with a matrix that stays the same: laid out once as the kernel reads it, multiplied often.
//!
//! A general product copies both factors into the kernel's order every time. A model's weights never
//! change, so here they are copied once; and since every value of a result is summed in one order,
//! whatever the threads and the number of rows, a row multiplied alone or among others is the same.
//!
//! Weights may be held in bfloat16 ([`Format`]): half the memory, multiplied by the instructions that the machine has for it.
//!
//! *Source:* Goto, van de Geijn, *Anatomy of high-performance matrix multiplication* (2008), with the
//! roles of the factors exchanged.

#[cfg(target_arch = "x86_64")]
mod amx;
mod bf16;
mod limits;

use std::ops::Range;

pub use bf16::Bf16Kernel;
pub use limits::{instruction_rate, read_rate};

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

/// How the values of a [`PackedMatrix`] are held. Sums are in float32 whatever the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// In float32.
    #[default]
    F32,
    /// In bfloat16, rounded to nearest, multiplied as the machine does it best.
    Bf16(Bf16Kernel),
}

impl Format {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        4 / self.values_a_word()
    }

    /// The width of a panel.
    fn width(self) -> usize {
        match self {
            Self::Bf16(Bf16Kernel::Avx512) => bf16::WIDTH,
            Self::Bf16(Bf16Kernel::Amx) => bf16::TILES_WIDTH,
            _ => widths().0,
        }
    }

    /// The length of a sum, zeros at its end included.
    fn depth(self, inputs: usize) -> usize {
        match self {
            Self::F32 => inputs,
            Self::Bf16(_) => inputs.next_multiple_of(bf16::STEP),
        }
    }

    /// How many values of a panel share a word.
    fn values_a_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16(_) => 2,
        }
    }

    /// The most rows of a block, and whether rows are rounded to bfloat16 too.
    fn rows(self) -> (usize, bool) {
        match self {
            Self::Bf16(Bf16Kernel::Avx512) => (MOST_ROWS, true),
            Self::Bf16(Bf16Kernel::Amx) => (bf16::TILES_ROWS, true),
            _ => (widths().1, false),
        }
    }
}

/// A matrix `W`, outputs x inputs, laid out for products `X W^T`.
#[derive(Debug)]
pub struct PackedMatrix {
    outputs: usize,
    inputs: usize,
    format: Format,
    width: usize,
    /// Panels of `width` outputs; in each, input after input, the outputs' values side by side,
    /// zeros beyond the last output. In bfloat16 a word holds the values of two inputs, zeros beyond the last.
    data: Buffer,
}

impl PackedMatrix {
    /// Lays out `weight`, outputs x inputs, in float32. Memory: as much as the matrix itself.
    pub fn new(weight: MatRef<'_, f32>) -> Self {
        Self::in_format(weight, Format::F32)
    }

    /// Lays out `weight`, outputs x inputs. Memory: in float32 as much as the matrix itself, in bfloat16 half.
    pub fn in_format(weight: MatRef<'_, f32>, format: Format) -> Self {
        let (outputs, inputs) = (weight.nrows(), weight.ncols());
        let width = format.width();
        let words = format.depth(inputs) / format.values_a_word();
        let mut data = Buffer::zeros(outputs.div_ceil(width) * width * words);
        data.par_chunks_mut((width * words).max(1))
            .enumerate()
            .for_each(|(panel, data)| {
                let first = panel * width;
                for (lane, output) in (first..outputs.min(first + width)).enumerate() {
                    let mut row = weight.row(output).iter().copied();
                    for values in data.chunks_exact_mut(width) {
                        values[lane] = match format {
                            Format::F32 => row.next().unwrap_or(0.0),
                            Format::Bf16(_) => {
                                bf16::pair([(); 2].map(|()| row.next().unwrap_or(0.0)))
                            }
                        };
                    }
                }
            });
        Self {
            outputs,
            inputs,
            format,
            width,
            data,
        }
    }

    /// How the values are held.
    pub fn format(&self) -> Format {
        self.format
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
        assert_eq!(rows.format, self.format, "formats of the factors");
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
        // With few rows the weights' way from memory is what takes time.
        let weights = outputs * self.inputs * self.format.bytes();
        let worth = rows.count * outputs * self.inputs >= 1 << 20 || weights >= 1 << 19;
        let threads = rayon::current_num_threads();
        let parts = if threads == 1 || !worth {
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
        let product = Product {
            matrix: self,
            rows,
            blocks,
            panels,
            out,
            add,
        };
        match self.format {
            #[cfg(target_arch = "x86_64")]
            Format::Bf16(Bf16Kernel::Avx512) => bf16::by_avx512(product),
            #[cfg(target_arch = "x86_64")]
            Format::Bf16(Bf16Kernel::Amx) => amx::multiply(product),
            _ => Arch::new().dispatch(product),
        }
    }
}

/// Rows to be multiplied, rows x inputs, laid out for the kernel. The buffers are kept from one use
/// to the next.
#[derive(Debug, Default)]
pub struct PackedRows {
    count: usize,
    inputs: usize,
    /// Of the matrices they are multiplied with.
    format: Format,
    /// Blocks of rows; in each, input after input, the rows' values side by side. Where rows are rounded: row
    /// after row, the values of two inputs in a word, zeros beyond the last; and room for a last whole block.
    data: Buffer,
    blocks: Vec<Range<usize>>,
}

impl PackedRows {
    /// No rows, for matrices in float32.
    pub fn new() -> Self {
        Self::default()
    }

    /// No rows, for matrices in `format`.
    pub fn in_format(format: Format) -> Self {
        Self {
            format,
            ..Self::default()
        }
    }

    /// Takes in `count` rows of `inputs` values: `write` is given the index of a row and where its
    /// values go, so that what is multiplied may be computed on the way.
    pub fn fill(&mut self, count: usize, inputs: usize, write: impl Fn(usize, &mut [f32]) + Sync) {
        self.count = count;
        self.inputs = inputs;
        // Blocks as equal as possible: none so small that the kernel waits for its own sums.
        let (most, rounded) = self.format.rows();
        let blocks = count.div_ceil(most);
        self.blocks.clear();
        if rounded {
            // Tiles are full but for the last.
            let block = |b| b * most..count.min((b + 1) * most);
            self.blocks.extend((0..blocks).map(block));
            return self.fill_rounded(write);
        }
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

    fn fill_rounded(&mut self, write: impl Fn(usize, &mut [f32]) + Sync) {
        let (count, inputs) = (self.count, self.inputs);
        let words = self.format.depth(inputs) / 2;
        self.data
            .fit(count.next_multiple_of(bf16::TILES_ROWS) * words);
        let pack = |values: &mut Vec<f32>, (row, out): (usize, &mut [f32])| {
            values.resize(2 * words, 0.0);
            write(row, &mut values[..inputs]);
            bf16::round(values, out);
        };
        let rows = self.data[..count * words].par_chunks_mut(words.max(1));
        rows.enumerate()
            .with_min_len((1 << 14) / words.max(1) + 1)
            .for_each_init(Vec::new, pack);
    }

    /// The words of a row that was rounded.
    fn rounded(&self, row: usize) -> &[f32] {
        let words = self.format.depth(self.inputs) / 2;
        &self.data[row * words..(row + 1) * words]
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
        let (matrix, rows, first_row) = (self.matrix, self.rows, self.first_row());
        let inputs = matrix.inputs;
        for step in self.steps() {
            let depth = step.depth.len().min(inputs - step.depth.start);
            let weights = matrix.stretch(&step);
            for block in &rows.blocks[step.blocks] {
                let from = block.start * inputs + step.depth.start * block.len();
                let values = &rows.data[from..from + depth * block.len()];
                let out = &mut self.out[block.start - first_row..block.end - first_row];
                let place = (step.column, self.add || step.depth.start > 0);
                match matrix.format {
                    Format::F32 => block_product::<S, false>(simd, weights, values, out, place),
                    Format::Bf16(_) => block_product::<S, true>(simd, weights, values, out, place),
                }
            }
        }
    }
}

/// A stretch of a panel, and the blocks of rows it is multiplied with before the next.
struct Step {
    panel: usize,
    /// The place of the panel's first output among those asked for.
    column: usize,
    depth: Range<usize>,
    blocks: Range<usize>,
}

impl<'a> Product<'a, '_> {
    /// The first of the rows asked for.
    fn first_row(&self) -> usize {
        self.rows.blocks[self.blocks.start].start
    }

    /// The order of a product: some hundred rows with one panel before the next, as deep as [`DEPTH`].
    fn steps(&self) -> impl Iterator<Item = Step> + use<'a> {
        let (rows, blocks, panels) = (self.rows, self.blocks.clone(), self.panels.clone());
        let (width, inputs) = (
            self.matrix.width,
            self.matrix.format.depth(self.matrix.inputs),
        );
        let mut start = blocks.start;
        let stretches = std::iter::from_fn(move || {
            let limit = rows.blocks.get(start)?.start + ROWS_AT_ONCE;
            let first = start;
            start = (first + 1..blocks.end)
                .find(|&b| rows.blocks[b].end > limit)
                .unwrap_or(blocks.end);
            (first < blocks.end).then_some(first..start)
        });
        stretches.flat_map(move |blocks| {
            let panels = panels.clone();
            let first = panels.start;
            panels.flat_map(move |panel| {
                let blocks = blocks.clone();
                (0..inputs).step_by(DEPTH).map(move |k| Step {
                    panel,
                    column: (panel - first) * width,
                    depth: k..inputs.min(k + DEPTH),
                    blocks: blocks.clone(),
                })
            })
        })
    }
}

impl PackedMatrix {
    /// The words of a stretch of a panel.
    fn stretch(&self, step: &Step) -> &[f32] {
        let each = self.format.values_a_word();
        let words = self.format.depth(self.inputs) / each;
        let at = |k: usize| (step.panel * words + k / each) * self.width;
        &self.data[at(step.depth.start)..at(step.depth.end)]
    }
}

/// One block of rows times one panel, whose words hold two values each with `PAIRS`: writes or adds to `out[i][column ..]`, as
/// far as it goes.
#[inline(always)]
fn block_product<S: Simd, const PAIRS: bool>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    out: &mut [&mut [f32]],
    place: (usize, bool),
) {
    macro_rules! of_rows {
        ($($rows:literal)*) => {
            match out.len() {
                $($rows => kernel::<S, $rows, PAIRS>(simd, weights, values, out, place),)*
                _ => {}
            }
        };
    }
    of_rows!(1 2 3 4 5 6 7 8);
}

#[inline(always)]
fn kernel<S: Simd, const ROWS: usize, const PAIRS: bool>(
    simd: S,
    weights: &[f32],
    values: &[f32],
    out: &mut [&mut [f32]],
    (column, add): (usize, bool),
) {
    let (weights, _) = S::as_simd_f32s(weights);
    let (weights, _) = weights.as_chunks::<VECTORS>();
    let (values, _) = values.as_chunks::<ROWS>();
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    // Not closures and `map`, which are compiled without the vectors of `S`.
    macro_rules! add_input {
        ($w:expr, $x:expr) => {
            for i in 0..ROWS {
                let x = simd.splat_f32s($x[i]);
                for j in 0..VECTORS {
                    sums[i][j] = simd.mul_add_e_f32s($w[j], x, sums[i][j]);
                }
            }
        };
    }
    if PAIRS {
        let (half, upper) = (simd.splat_u32s(16), simd.splat_u32s(0xffff_0000));
        let mut values = values.iter();
        for words in weights {
            let [mut low, mut high] = [[simd.splat_f32s(0.0); VECTORS]; 2];
            for j in 0..VECTORS {
                let word = simd.transmute_u32s_f32s(words[j]);
                low[j] = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(word, half));
                high[j] = simd.transmute_f32s_u32s(simd.and_u32s(word, upper));
            }
            let Some(x) = values.next() else {
                break;
            };
            add_input!(low, x);
            // Of an odd number of inputs the last has no second.
            let Some(x) = values.next() else {
                break;
            };
            add_input!(high, x);
        }
    } else {
        for (w, x) in weights.iter().zip(values) {
            add_input!(w, x);
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
mod tests;
