//! The softmax head and the block-wise pass through it: a contexts x vocabulary matrix never exists.

use std::ops::Range;

use faer::MatRef;
use rayon::prelude::*;

use crate::linalg::matmul;
use crate::matrix::{RowMatrix, ShapeError};
use crate::packed::{PackedMatrix, PackedRows};
use crate::vector::{exp_shifted, maximum, sum_of_squares, vectorised};

/// The norm that a decoder applies before its head: by the root mean square, `x / sqrt(mean x^2 + eps) * weight`, or centred
/// first (layer norm), `(x - mean x) / sqrt(var x + eps) * weight + bias`.
///
/// With it a layer other than the last can be read out through the head.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadoutNorm {
    /// One factor a dimension.
    pub weight: Vec<f32>,
    /// Added at the end, where the norm has one.
    pub bias: Option<Vec<f32>>,
    /// Whether the mean is taken off first.
    pub centred: bool,
    /// Added to the mean square.
    pub eps: f32,
}

impl ReadoutNorm {
    /// A norm by the root mean square.
    pub fn root_mean_square(weight: Vec<f32>, eps: f32) -> Self {
        Self {
            weight,
            bias: None,
            centred: false,
            eps,
        }
    }

    /// Normalises every row in place.
    ///
    /// # Errors
    /// Rows of another length than the norm's weights.
    pub fn apply(&self, states: &mut RowMatrix<f32>) -> Result<(), ShapeError> {
        let width = states.ncols();
        if width != self.weight.len() {
            return Err(ShapeError::new(
                "states to normalise",
                self.weight.len(),
                width,
            ));
        }
        states
            .data_mut()
            .par_chunks_mut(width.max(1))
            .for_each(|row| {
                let (mean, scale) = self.place(row);
                row.iter_mut()
                    .zip(&self.weight)
                    .for_each(|(x, w)| *x = (*x - mean) * (scale * w));
                self.add_bias(row);
            });
        Ok(())
    }

    /// Writes the normalised `row` to `out`; all three of the norm's length.
    pub fn normalise(&self, row: &[f32], out: &mut [f32]) {
        vectorised(
            #[inline(always)]
            || {
                let (mean, scale) = self.place(row);
                for ((out, x), w) in out.iter_mut().zip(row).zip(&self.weight) {
                    *out = (x - mean) * (scale * w);
                }
                self.add_bias(out);
            },
        );
    }

    #[inline(always)]
    fn add_bias(&self, row: &mut [f32]) {
        for (x, b) in row.iter_mut().zip(self.bias.iter().flatten()) {
            *x += b;
        }
    }

    /// What is taken off a row (0 if nothing is) and what the rest is multiplied with.
    #[inline(always)]
    fn place(&self, row: &[f32]) -> (f32, f32) {
        let n = row.len() as f64;
        let square = sum_of_squares(row) / n;
        if !self.centred {
            return (0.0, 1.0 / (square as f32 + self.eps).sqrt());
        }
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = (square - mean * mean).max(0.0);
        (mean as f32, 1.0 / (variance as f32 + self.eps).sqrt())
    }
}

/// A linear-softmax head: logits are `soft_cap(weight s + bias)`.
#[derive(Debug, Clone, Copy)]
pub struct HeadRef<'a> {
    /// Vocabulary x d.
    pub weight: MatRef<'a, f32>,
    /// One value a token, where the model has one.
    pub bias: Option<&'a [f32]>,
    /// `c` in `c tanh(logit / c)`, where the model has one.
    pub soft_cap: Option<f32>,
    /// The weight laid out for products, where its owner keeps it so; without it a pass through the
    /// head begins by making it.
    pub packed: Option<&'a PackedMatrix>,
}

/// Consecutive rows of a model's next-token laws.
#[derive(Debug)]
pub struct LogProbBlock<'a> {
    /// The index of the first row.
    pub first_row: usize,
    /// Log-probabilities in nats, rows x vocabulary.
    pub log_probs: &'a RowMatrix<f32>,
    /// Their exponentials.
    pub probs: &'a RowMatrix<f32>,
}

/// How many rows are taken through a head at once: a compromise between the speed of the matrix
/// product and the memory of a block (two matrices of this many rows and a column a token).
const BLOCK_ROWS: usize = 256;

impl<'a> HeadRef<'a> {
    /// The number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.weight.nrows()
    }

    /// The dimension of a state.
    pub fn dim(&self) -> usize {
        self.weight.ncols()
    }

    fn check(&self, states: &RowMatrix<f32>) -> Result<(), ShapeError> {
        if states.ncols() != self.dim() {
            return Err(ShapeError::new(
                "states for the head",
                self.dim(),
                states.ncols(),
            ));
        }
        match self.bias {
            Some(bias) if bias.len() != self.vocab_size() => Err(ShapeError::new(
                "bias of the head",
                self.vocab_size(),
                bias.len(),
            )),
            _ => Ok(()),
        }
    }

    /// Runs `f` with the weight laid out for products.
    fn with_packed<R>(&self, f: impl FnOnce(&PackedMatrix) -> R) -> R {
        match self.packed {
            Some(packed) => f(packed),
            None => f(&PackedMatrix::new(self.weight)),
        }
    }

    /// What comes after the product, for the logits of `tokens`.
    fn finish(&self, logits: &mut [f32], tokens: Range<usize>) {
        if let Some(bias) = self.bias {
            logits
                .iter_mut()
                .zip(&bias[tokens])
                .for_each(|(x, b)| *x += b);
        }
        if let Some(cap) = self.soft_cap {
            logits.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
        }
    }

    /// Logits of a few states, rows x vocabulary. For many rows use
    /// [`for_each_log_prob_block`](Self::for_each_log_prob_block).
    ///
    /// # Errors
    /// States of another dimension than the head's.
    pub fn logits(&self, states: &RowMatrix<f32>) -> Result<RowMatrix<f32>, ShapeError> {
        self.check(states)?;
        let vocab = self.vocab_size();
        let mut out = RowMatrix::zeros(states.nrows(), vocab);
        if let Some(packed) = self.packed {
            let mut rows = PackedRows::in_format(packed.format());
            rows.copy(states.nrows(), states.ncols(), states.data());
            packed.multiply(&rows, out.data_mut());
        } else {
            matmul(out.view_mut(), states.view(), self.weight.transpose());
        }
        out.data_mut()
            .par_chunks_mut(vocab.max(1))
            .for_each(|row| self.finish(row, 0..vocab));
        Ok(out)
    }

    /// Hands the logits of `states` (rows x d) to `visit`, block after block, in order: the index of
    /// the first row, and the logits, rows x vocabulary, which `visit` may change.
    ///
    /// Cost: one product of rows x d x vocabulary; memory: a block of 256 rows, and where
    /// [`packed`](Self::packed) is `None` a copy of the weight.
    ///
    /// # Errors
    /// Shapes that do not fit; whatever `visit` returns.
    pub fn for_each_logit_block<E: From<ShapeError>>(
        &self,
        states: &RowMatrix<f32>,
        mut visit: impl FnMut(usize, &mut RowMatrix<f32>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.check(states)?;
        self.with_packed(|packed| {
            let vocab = self.vocab_size();
            let mut logits = RowMatrix::zeros(0, 0);
            let mut rows = PackedRows::in_format(packed.format());
            for first_row in (0..states.nrows()).step_by(BLOCK_ROWS) {
                let count = BLOCK_ROWS.min(states.nrows() - first_row);
                if logits.nrows() != count {
                    logits = RowMatrix::zeros(count, vocab);
                }
                rows.fill(count, self.dim(), |i, row| {
                    row.copy_from_slice(states.row(first_row + i));
                });
                packed.multiply(&rows, logits.data_mut());
                if self.bias.is_some() || self.soft_cap.is_some() {
                    logits
                        .data_mut()
                        .par_chunks_mut(vocab.max(1))
                        .for_each(|row| self.finish(row, 0..vocab));
                }
                visit(first_row, &mut logits)?;
            }
            Ok(())
        })
    }

    /// Hands the next-token laws of `states` (rows x d) to `visit`, block after block, in order.
    ///
    /// Cost: one product of rows x d x vocabulary and an exponential an entry; memory: two blocks
    /// of 256 rows, and where [`packed`](Self::packed) is `None` a copy of the weight.
    ///
    /// # Errors
    /// Shapes that do not fit; whatever `visit` returns.
    pub fn for_each_log_prob_block<E: From<ShapeError>>(
        &self,
        states: &RowMatrix<f32>,
        mut visit: impl FnMut(LogProbBlock<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let vocab = self.vocab_size();
        let mut probs = RowMatrix::zeros(0, 0);
        self.for_each_logit_block(states, |first_row, logits| {
            if probs.nrows() != logits.nrows() {
                probs = RowMatrix::zeros(logits.nrows(), vocab);
            }
            logits
                .data_mut()
                .par_chunks_mut(vocab.max(1))
                .zip(probs.data_mut().par_chunks_mut(vocab.max(1)))
                .for_each(|(logits, probs)| log_softmax(logits, probs));
            visit(LogProbBlock {
                first_row,
                log_probs: logits,
                probs: &probs,
            })
        })
    }

    /// Hands the logits of all `states` (rows x d) to `visit`, stretch of the vocabulary after stretch: the
    /// stretch's tokens, and their logits, rows x tokens, which `visit` may change.
    ///
    /// For what adds up over tokens, where [`for_each_logit_block`](Self::for_each_logit_block) is for what needs
    /// one whole law at a time. Cost: one product of rows x d x vocabulary; memory: rows x 2304 numbers, and
    /// where [`packed`](Self::packed) is `None` a copy of the weight.
    ///
    /// # Errors
    /// Shapes that do not fit; whatever `visit` returns.
    pub fn for_each_logit_stretch<E: From<ShapeError>>(
        &self,
        states: &RowMatrix<f32>,
        mut visit: impl FnMut(Range<usize>, &mut RowMatrix<f32>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.check(states)?;
        self.with_packed(|packed| {
            let mut rows = PackedRows::in_format(packed.format());
            rows.copy(states.nrows(), states.ncols(), states.data());
            let mut logits = RowMatrix::zeros(0, 0);
            for panels in packed.groups(TOKENS_AT_ONCE) {
                let tokens = packed.columns(&panels);
                if logits.ncols() != tokens.len() {
                    logits = RowMatrix::zeros(states.nrows(), tokens.len());
                }
                packed.multiply_columns(&rows, panels, logits.data_mut());
                if self.bias.is_some() || self.soft_cap.is_some() {
                    logits
                        .data_mut()
                        .par_chunks_mut(tokens.len().max(1))
                        .for_each(|row| self.finish(row, tokens.clone()));
                }
                visit(tokens, &mut logits)?;
            }
            Ok(())
        })
    }

    /// Every row's largest logit and the sum of `exp(logit - largest)`: the softmax's denominators.
    ///
    /// Cost: one product of rows x d x vocabulary and an exponential an entry; memory as
    /// [`log_probs_of`](Self::log_probs_of).
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn softmax_totals(&self, states: &RowMatrix<f32>) -> Result<Vec<(f32, f64)>, ShapeError> {
        self.check(states)?;
        let mut totals = Vec::with_capacity(states.nrows());
        self.with_packed(|packed| {
            let mut rows = PackedRows::in_format(packed.format());
            for first in (0..states.nrows()).step_by(BLOCK_ROWS) {
                let count = BLOCK_ROWS.min(states.nrows() - first);
                let here = states.row_range(first..first + count);
                rows.copy(count, self.dim(), here);
                let stretches = self.stretches(packed, &rows, &vec![&[][..]; count], &[]);
                totals.extend((0..count).map(|row| total_of(&stretches, row)));
            }
        });
        Ok(totals)
    }

    /// Hands the next-token laws of all `states` (rows x d) to `visit`, as
    /// [`for_each_logit_stretch`](Self::for_each_logit_stretch) does logits.
    ///
    /// Cost: two products of rows x d x vocabulary, the first for the softmax's denominators, and two
    /// exponentials an entry; memory as there.
    ///
    /// # Errors
    /// Shapes that do not fit; whatever `visit` returns.
    pub fn for_each_prob_stretch<E: From<ShapeError>>(
        &self,
        states: &RowMatrix<f32>,
        mut visit: impl FnMut(Range<usize>, &mut RowMatrix<f32>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.with_packed(|packed| {
            let head = HeadRef {
                weight: self.weight,
                bias: self.bias,
                soft_cap: self.soft_cap,
                packed: Some(packed),
            };
            let totals = head.softmax_totals(states)?;
            head.for_each_logit_stretch(states, |tokens, probs| {
                probs
                    .data_mut()
                    .par_chunks_mut(tokens.len().max(1))
                    .zip(&totals)
                    .for_each(|(row, &(largest, total))| {
                        let scale = (1.0 / total) as f32;
                        vectorised(
                            #[inline(always)]
                            || {
                                exp_shifted(row, largest);
                                row.iter_mut().for_each(|p| *p *= scale);
                            },
                        );
                    });
                visit(tokens, probs)
            })
        })
    }

    /// The log-probabilities, in nats, that `states` (rows x d) give to single tokens: one value for
    /// every pair of a row and a token in `wanted`.
    ///
    /// Every logit is computed and none is kept: the softmax's denominator is added up over stretches
    /// of the vocabulary. Cost: one product of rows x d x vocabulary and an exponential an entry;
    /// memory: 256 x 768 logits a thread, and where [`packed`](Self::packed) is `None` a copy of the
    /// weight.
    ///
    /// # Errors
    /// Shapes that do not fit, a row or a token that does not exist.
    pub fn log_probs_of(
        &self,
        states: &RowMatrix<f32>,
        wanted: &[(usize, u32)],
    ) -> Result<Vec<f32>, ShapeError> {
        self.check(states)?;
        let (count, vocab) = (states.nrows(), self.vocab_size());
        if let Some(&(row, token)) = wanted
            .iter()
            .find(|&&(row, token)| row >= count || token as usize >= vocab)
        {
            return Err(ShapeError::new(
                "row and token of a log-probability",
                format!("row < {count}, token < {vocab}"),
                format!("row {row}, token {token}"),
            ));
        }
        // By row, then by token: a stretch of the vocabulary finds its own at once.
        let mut order: Vec<usize> = (0..wanted.len()).collect();
        order.sort_unstable_by_key(|&i| wanted[i]);
        let mut out = vec![0.0; wanted.len()];
        self.with_packed(|packed| {
            let mut rows = PackedRows::in_format(packed.format());
            let mut left = order.as_slice();
            for first in (0..count).step_by(BLOCK_ROWS) {
                let rows_here = BLOCK_ROWS.min(count - first);
                let here = left.partition_point(|&i| wanted[i].0 < first + rows_here);
                let (order, rest) = left.split_at(here);
                left = rest;
                rows.fill(rows_here, self.dim(), |i, row| {
                    row.copy_from_slice(states.row(first + i));
                });
                let by_row: Vec<&[usize]> = (first..first + rows_here)
                    .map(|row| {
                        let of = |row| order.partition_point(|&i| wanted[i].0 < row);
                        &order[of(row)..of(row + 1)]
                    })
                    .collect();
                let stretches = self.stretches(packed, &rows, &by_row, wanted);
                for row in 0..rows_here {
                    let (largest, total) = total_of(&stretches, row);
                    let log_total = f64::from(largest) + total.ln();
                    for (i, logit) in stretches.iter().flat_map(|s| s.logits_of(row)) {
                        out[i] = (f64::from(logit) - log_total) as f32;
                    }
                }
            }
        });
        Ok(out)
    }

    fn stretches(
        &self,
        packed: &PackedMatrix,
        rows: &PackedRows,
        by_row: &[&[usize]],
        wanted: &[(usize, u32)],
    ) -> Vec<Stretch> {
        let groups: Vec<Range<usize>> = packed.groups(STRETCH).collect();
        let count = rows.count();
        groups
            .into_par_iter()
            .map_init(Vec::new, |tile: &mut Vec<f32>, panels| {
                let tokens = packed.columns(&panels);
                tile.resize(count * tokens.len(), 0.0);
                let mut parts: Vec<&mut [f32]> = tile.chunks_exact_mut(tokens.len()).collect();
                let blocks = 0..rows.blocks().len();
                packed.multiply_panels(rows, blocks, panels, &mut parts, false);
                let mut stretch = Stretch::default();
                for (row, (logits, indices)) in parts.iter_mut().zip(by_row).enumerate() {
                    self.finish(logits, tokens.clone());
                    let before = |i: &usize| (wanted[*i].1 as usize) < tokens.start;
                    let from = indices.partition_point(before);
                    for &i in &indices[from..] {
                        let token = wanted[i].1 as usize;
                        if token >= tokens.end {
                            break;
                        }
                        stretch.logits.push((row, i, logits[token - tokens.start]));
                    }
                    stretch.rows.push(exponentials(logits));
                }
                stretch
            })
            .collect()
    }
}

/// Tokens of the vocabulary taken at once: with a block of rows their logits fit in the second-level
/// cache.
const STRETCH: usize = 768;
/// Tokens taken at once where all rows are: enough that products over them are deep.
const TOKENS_AT_ONCE: usize = 2304;

/// What a stretch of the vocabulary says of a block of rows.
#[derive(Debug, Default)]
struct Stretch {
    /// For every row the largest logit and the sum of `exp(logit - largest)`.
    rows: Vec<(f32, f64)>,
    /// Row, index of the pair asked for, logit; rows increase.
    logits: Vec<(usize, usize, f32)>,
}

impl Stretch {
    fn logits_of(&self, row: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let from = self.logits.partition_point(|l| l.0 < row);
        let of_row = self.logits[from..].iter().take_while(move |l| l.0 == row);
        of_row.map(|&(_, i, logit)| (i, logit))
    }
}

/// A row's largest logit and the sum of `exp(logit - largest)` over all stretches.
fn total_of(stretches: &[Stretch], row: usize) -> (f32, f64) {
    let parts = || stretches.iter().map(|s| s.rows[row]);
    let largest = parts().fold(f32::NEG_INFINITY, |m, (l, _)| m.max(l));
    // A stretch in which no token is possible adds nothing.
    let possible = parts().filter(|(l, _)| *l > f32::NEG_INFINITY);
    let total = possible.map(|(l, total)| total * f64::from(l - largest).exp());
    (largest, total.sum())
}

/// Replaces every entry by `exp(entry - largest)`; the largest entry and the sum of the results, in
/// f32 over stretches short enough to keep seven digits.
fn exponentials(values: &mut [f32]) -> (f32, f64) {
    vectorised(
        #[inline(always)]
        || {
            let largest = maximum(values);
            let mut total = 0.0;
            for stretch in values.chunks_mut(512) {
                total += f64::from(exp_shifted(stretch, largest));
            }
            (largest, total)
        },
    )
}

/// Turns logits into log-probabilities in place and writes their exponentials.
fn log_softmax(logits: &mut [f32], probs: &mut [f32]) {
    probs.copy_from_slice(logits);
    let (largest, total) = exponentials(probs);
    let log_total = total.ln() as f32;
    let scale = (1.0 / total) as f32;
    // One after the other: their sum would round the logits' common offset into every value.
    logits
        .iter_mut()
        .for_each(|x| *x = (*x - largest) - log_total);
    probs.iter_mut().for_each(|p| *p *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (RowMatrix<f32>, RowMatrix<f32>, Vec<f32>) {
        let weight = RowMatrix::from_fn(11, 3, |i, j| ((i * 7 + j * 5) % 13) as f32 - 6.0);
        let states = RowMatrix::from_fn(600, 3, |i, j| ((i * 3 + j) % 7) as f32 / 3.0 - 1.0);
        let bias = (0..11).map(|i| i as f32 / 10.0).collect();
        (weight, states, bias)
    }

    #[test]
    fn blocks_cover_every_row_once_and_are_laws() {
        let (weight, states, bias) = example();
        let head = HeadRef {
            weight: weight.view(),
            bias: Some(&bias),
            soft_cap: Some(5.0),
            packed: None,
        };
        let logits = head.logits(&states).unwrap();
        let mut seen = 0;
        head.for_each_log_prob_block::<ShapeError>(&states, |block| {
            assert_eq!(block.first_row, seen);
            for (i, row) in block.probs.rows().enumerate() {
                let total: f64 = row.iter().map(|&p| f64::from(p)).sum();
                assert!((total - 1.0).abs() < 1e-6);
                let raw = logits.row(seen + i);
                assert!(raw.iter().all(|x| x.abs() < 5.0), "soft-capped");
                let lse = raw.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
                for (x, &l) in raw.iter().zip(block.log_probs.row(i)) {
                    assert!((f64::from(*x) - lse - f64::from(l)).abs() < 1e-5);
                }
            }
            seen += block.probs.nrows();
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, 600);
    }

    #[test]
    fn stretches_of_the_vocabulary_make_up_whole_laws() {
        let weight = RowMatrix::from_fn(5000, 3, |i, j| ((i * 7 + j * 5) % 13) as f32 - 6.0);
        let (_, states, _) = example();
        // A stretch of 768 tokens that are all impossible is among them.
        let bias: Vec<f32> = (0..5000)
            .map(|i| match i {
                1500..3100 => f32::NEG_INFINITY,
                _ => (i % 17) as f32 / 10.0,
            })
            .collect();
        let packed = PackedMatrix::new(weight.view());
        for packed in [None, Some(&packed)] {
            let head = HeadRef {
                weight: weight.view(),
                bias: Some(&bias),
                soft_cap: None,
                packed,
            };
            let mut laws = RowMatrix::zeros(600, 5000);
            let mut seen = 0;
            head.for_each_prob_stretch::<ShapeError>(&states, |tokens, probs| {
                assert_eq!(tokens.start, seen);
                for i in 0..600 {
                    laws.row_mut(i)[tokens.clone()].copy_from_slice(probs.row(i));
                }
                seen = tokens.end;
                Ok(())
            })
            .unwrap();
            assert_eq!(seen, 5000);
            head.for_each_log_prob_block::<ShapeError>(&states, |block| {
                for (i, row) in block.probs.rows().enumerate() {
                    let same = row.iter().zip(laws.row(block.first_row + i));
                    assert!(same.into_iter().all(|(a, b)| (a - b).abs() <= 2e-6 * a));
                }
                Ok(())
            })
            .unwrap();
            assert!(
                head.for_each_prob_stretch::<ShapeError>(&RowMatrix::zeros(2, 4), |_, _| Ok(()))
                    .is_err()
            );
        }
    }

    #[test]
    fn single_log_probabilities_are_those_of_the_whole_law() {
        let weight = RowMatrix::from_fn(2000, 3, |i, j| ((i * 7 + j * 5) % 13) as f32 - 6.0);
        let (_, states, _) = example();
        let bias: Vec<f32> = (0..2000).map(|i| (i % 17) as f32 / 10.0).collect();
        let packed = PackedMatrix::new(weight.view());
        for packed in [None, Some(&packed)] {
            let head = HeadRef {
                weight: weight.view(),
                bias: Some(&bias),
                soft_cap: Some(5.0),
                packed,
            };
            let wanted: Vec<(usize, u32)> = (0..900)
                .map(|i| ((i * 37) % 300 + 299, (i * 7919 % 2000) as u32))
                .chain([(400, 1999), (400, 1999), (400, 0)])
                .collect();
            let found = head.log_probs_of(&states, &wanted).unwrap();
            head.for_each_log_prob_block::<ShapeError>(&states, |block| {
                let rows = block.first_row..block.first_row + block.log_probs.nrows();
                for (&(row, token), x) in wanted.iter().zip(&found) {
                    if rows.contains(&row) {
                        let whole = block.log_probs.get(row - rows.start, token as usize);
                        assert!((x - whole).abs() < 1e-5);
                    }
                }
                Ok(())
            })
            .unwrap();
            assert!(head.log_probs_of(&states, &[(600, 0)]).is_err());
            assert!(head.log_probs_of(&states, &[(0, 2000)]).is_err());
        }
    }

    #[test]
    fn states_of_another_dimension_are_refused() {
        let (weight, _, _) = example();
        let head = HeadRef {
            weight: weight.view(),
            bias: None,
            soft_cap: None,
            packed: None,
        };
        assert!(head.logits(&RowMatrix::zeros(2, 4)).is_err());
    }
}
