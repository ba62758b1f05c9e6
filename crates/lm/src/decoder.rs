//! The forward pass: all layers' states of the positions asked for, in one go.

use lawvere_core::linalg::matmul;
use lawvere_core::{RowMatrix, ShapeError};
use rayon::prelude::*;

use crate::attention::{HeadLayout, attend};
use crate::config::DecoderConfig;
use crate::weights::{Block, Weights};

#[derive(Debug)]
pub(crate) struct Decoder {
    pub config: DecoderConfig,
    pub weights: Weights,
    /// Cosines and sines of every position and half-dimension, made once for the longest window read.
    inverse_frequencies: Vec<f32>,
}

/// Token sequences taken through the decoder side by side, and the rows of them to keep.
pub(crate) struct Batch {
    pub tokens: Vec<u32>,
    /// Lengths of the sequences.
    pub windows: Vec<usize>,
    /// Increasing indices into `tokens`.
    pub keep: Vec<usize>,
}

impl Decoder {
    pub fn new(config: DecoderConfig, weights: Weights) -> Self {
        let d = config.head_dim;
        let inverse_frequencies = (0..d / 2)
            .map(|i| 1.0 / config.rope_theta.powf((2 * i) as f32 / d as f32))
            .collect();
        Self {
            config,
            weights,
            inverse_frequencies,
        }
    }

    pub fn head(&self) -> &RowMatrix<f32> {
        self.weights
            .head
            .as_ref()
            .unwrap_or(&self.weights.embedding)
    }

    /// Hands the kept rows of every layer in `wanted` (increasing; 0 embeddings, `layers` the
    /// head's input) to `take`, in that order. Blocks after the last wanted one are not computed.
    pub fn forward(
        &self,
        batch: &Batch,
        wanted: &[usize],
        mut take: impl FnMut(usize, RowMatrix<f32>),
    ) -> Result<(), ShapeError> {
        let config = &self.config;
        let (count, d) = (batch.tokens.len(), config.hidden_size);
        let mut x = RowMatrix::zeros(count, d);
        for (i, &token) in batch.tokens.iter().enumerate() {
            x.row_mut(i)
                .copy_from_slice(self.weights.embedding.row(token as usize));
        }
        let layout = HeadLayout {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        };
        let longest = batch.windows.iter().copied().max().unwrap_or(0);
        let rotations = self.rotations(longest);
        let positions: Vec<usize> = batch.windows.iter().flat_map(|&length| 0..length).collect();
        let mut scratch = Scratch {
            normed: RowMatrix::zeros(count, d),
            qkv: RowMatrix::zeros(count, layout.row()),
            attended: RowMatrix::zeros(count, config.heads * config.head_dim),
            gate_up: RowMatrix::zeros(count, 2 * config.feed_forward_size),
            gated: RowMatrix::zeros(count, config.feed_forward_size),
        };
        for &layer in wanted {
            let done = wanted
                .iter()
                .take_while(|&&l| l < layer)
                .last()
                .copied()
                .unwrap_or(0);
            for block in &self.weights.blocks[done..layer] {
                self.block(
                    block,
                    layout,
                    batch,
                    &positions,
                    &rotations,
                    &mut x,
                    &mut scratch,
                )?;
            }
            let mut kept = RowMatrix::zeros(batch.keep.len(), d);
            for (i, &row) in batch.keep.iter().enumerate() {
                kept.row_mut(i).copy_from_slice(x.row(row));
            }
            if layer == config.layers {
                self.weights.final_norm.apply(&mut kept)?;
            }
            take(layer, kept);
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn block(
        &self,
        block: &Block,
        layout: HeadLayout,
        batch: &Batch,
        positions: &[usize],
        rotations: &[(f32, f32)],
        x: &mut RowMatrix<f32>,
        scratch: &mut Scratch,
    ) -> Result<(), ShapeError> {
        let Scratch {
            normed,
            qkv,
            attended,
            gate_up,
            gated,
        } = scratch;
        normed.data_mut().copy_from_slice(x.data());
        block.attention_norm.apply(normed)?;
        matmul(qkv.view_mut(), normed.view(), block.qkv.view().transpose());
        let half = layout.head_dim / 2;
        qkv.data_mut()
            .par_chunks_mut(layout.row())
            .zip(positions)
            .for_each(|(row, &position)| {
                let angles = &rotations[position * half..(position + 1) * half];
                let rotated = (layout.heads + layout.kv_heads) * layout.head_dim;
                for head in row[..rotated].chunks_exact_mut(layout.head_dim) {
                    let (first, second) = head.split_at_mut(half);
                    for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(angles) {
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
            });
        attend(
            qkv.data(),
            &batch.windows,
            layout,
            attended.data_mut(),
            None,
        );
        matmul(
            normed.view_mut(),
            attended.view(),
            block.attention_output.view().transpose(),
        );
        add(x, normed);
        normed.data_mut().copy_from_slice(x.data());
        block.feed_forward_norm.apply(normed)?;
        matmul(
            gate_up.view_mut(),
            normed.view(),
            block.gate_up.view().transpose(),
        );
        let width = gated.ncols();
        gated
            .data_mut()
            .par_chunks_mut(width)
            .zip(gate_up.data().par_chunks(2 * width))
            .for_each(|(out, both)| {
                let (gate, up) = both.split_at(width);
                for ((out, g), u) in out.iter_mut().zip(gate).zip(up) {
                    *out = g / (1.0 + (-g).exp()) * u;
                }
            });
        matmul(
            normed.view_mut(),
            gated.view(),
            block.down.view().transpose(),
        );
        add(x, normed);
        Ok(())
    }

    /// Cosine and sine of every position below `length` at every frequency.
    fn rotations(&self, length: usize) -> Vec<(f32, f32)> {
        (0..length)
            .flat_map(|position| {
                self.inverse_frequencies.iter().map(move |f| {
                    let angle = position as f32 * f;
                    (angle.cos(), angle.sin())
                })
            })
            .collect()
    }
}

struct Scratch {
    normed: RowMatrix<f32>,
    qkv: RowMatrix<f32>,
    attended: RowMatrix<f32>,
    gate_up: RowMatrix<f32>,
    gated: RowMatrix<f32>,
}

fn add(x: &mut RowMatrix<f32>, delta: &RowMatrix<f32>) {
    x.data_mut()
        .iter_mut()
        .zip(delta.data())
        .for_each(|(x, d)| *x += d);
}
