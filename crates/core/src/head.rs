//! The softmax head and the block-wise pass through it: a contexts x vocabulary matrix never exists.

use faer::MatRef;
use rayon::prelude::*;

use crate::linalg::matmul;
use crate::matrix::{RowMatrix, ShapeError};

/// The root-mean-square norm that a decoder applies before its head: `x / sqrt(mean x^2 + eps) * weight`.
///
/// With it a layer other than the last can be read out through the head.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadoutNorm {
    /// One factor a dimension.
    pub weight: Vec<f32>,
    /// Added to the mean square.
    pub eps: f32,
}

impl ReadoutNorm {
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
                let square: f32 = row.iter().map(|x| x * x).sum();
                let scale = 1.0 / (square / width as f32 + self.eps).sqrt();
                row.iter_mut()
                    .zip(&self.weight)
                    .for_each(|(x, w)| *x *= scale * w);
            });
        Ok(())
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

    fn logits_into(&self, states: MatRef<'_, f32>, out: &mut RowMatrix<f32>) {
        let vocab = self.vocab_size();
        matmul(out.view_mut(), states, self.weight.transpose());
        if self.bias.is_none() && self.soft_cap.is_none() {
            return;
        }
        out.data_mut().par_chunks_mut(vocab.max(1)).for_each(|row| {
            if let Some(bias) = self.bias {
                row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
            if let Some(cap) = self.soft_cap {
                row.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
            }
        });
    }

    /// Logits of a few states, rows x vocabulary. For many rows use
    /// [`for_each_log_prob_block`](Self::for_each_log_prob_block).
    ///
    /// # Errors
    /// States of another dimension than the head's.
    pub fn logits(&self, states: &RowMatrix<f32>) -> Result<RowMatrix<f32>, ShapeError> {
        self.check(states)?;
        let mut out = RowMatrix::zeros(states.nrows(), self.vocab_size());
        self.logits_into(states.view(), &mut out);
        Ok(out)
    }

    /// Hands the next-token laws of `states` (rows x d) to `visit`, block after block, in order.
    ///
    /// Cost: one product of rows x d x vocabulary and an exponential an entry; memory: two blocks
    /// of 256 rows.
    ///
    /// # Errors
    /// Shapes that do not fit; whatever `visit` returns.
    pub fn for_each_log_prob_block<E: From<ShapeError>>(
        &self,
        states: &RowMatrix<f32>,
        mut visit: impl FnMut(LogProbBlock<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.check(states)?;
        let vocab = self.vocab_size();
        let mut first_row = 0;
        let mut log_probs = RowMatrix::zeros(0, 0);
        let mut probs = RowMatrix::zeros(0, 0);
        while first_row < states.nrows() {
            let rows = BLOCK_ROWS.min(states.nrows() - first_row);
            if log_probs.nrows() != rows {
                log_probs = RowMatrix::zeros(rows, vocab);
                probs = RowMatrix::zeros(rows, vocab);
            }
            let block = states.row_range(first_row..first_row + rows);
            let block = MatRef::from_row_major_slice(block, rows, self.dim());
            self.logits_into(block, &mut log_probs);
            log_probs
                .data_mut()
                .par_chunks_mut(vocab.max(1))
                .zip(probs.data_mut().par_chunks_mut(vocab.max(1)))
                .for_each(|(logits, probs)| log_softmax(logits, probs));
            visit(LogProbBlock {
                first_row,
                log_probs: &log_probs,
                probs: &probs,
            })?;
            first_row += rows;
        }
        Ok(())
    }
}

/// Turns logits into log-probabilities in place and writes their exponentials.
fn log_softmax(logits: &mut [f32], probs: &mut [f32]) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0f64;
    for (p, x) in probs.iter_mut().zip(logits.iter_mut()) {
        *x -= max;
        *p = x.exp();
        total += f64::from(*p);
    }
    let log_total = total.ln() as f32;
    let scale = (1.0 / total) as f32;
    logits.iter_mut().for_each(|x| *x -= log_total);
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
    fn states_of_another_dimension_are_refused() {
        let (weight, _, _) = example();
        let head = HeadRef {
            weight: weight.view(),
            bias: None,
            soft_cap: None,
        };
        assert!(head.logits(&RowMatrix::zeros(2, 4)).is_err());
    }
}
