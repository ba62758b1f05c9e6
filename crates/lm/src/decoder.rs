//! The forward pass: all layers' states of the positions asked for, in one go.

use lawvere_core::vector::{Real, vectorised};
use lawvere_core::{Buffer, PackedMatrix, PackedRows, RowMatrix};
use rayon::prelude::*;

use crate::attention::HeadLayout;
use crate::config::DecoderConfig;
use crate::weights::{Block, Weights};

#[derive(Debug)]
pub(crate) struct Decoder {
    pub config: DecoderConfig,
    pub weights: Weights,
    /// The head laid out for products.
    pub head: PackedMatrix,
    /// The angle of each half-dimension at position 1.
    inverse_frequencies: Vec<f32>,
}

/// What attention has in mind: which earlier tokens each token sees.
pub(crate) trait Memory {
    /// Writes to `out` (heads x head_dim values a token) what the tokens attend to, and keeps of their
    /// keys and values what later tokens will ask for. `qkv` has a row a token, rotated already (see
    /// [`HeadLayout`]).
    fn attend(&mut self, layer: usize, qkv: &[f32], out: &mut [f32]);
}

/// Tokens to take through the decoder together.
pub(crate) struct Tokens<'a> {
    pub tokens: &'a [u32],
    /// Their places in their texts.
    pub positions: &'a [u32],
    /// Increasing indices of those whose states are wanted.
    pub keep: &'a [usize],
}

/// The matrices that a pass fills, a row a token; kept from one pass to the next.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    x: Buffer,
    rows: PackedRows,
    qkv: Buffer,
    attended: Buffer,
    gate_up: Buffer,
    /// For each token the cosines, then the sines, of its angles.
    rotations: Buffer,
}

impl Workspace {
    fn fit(&mut self, count: usize, config: &DecoderConfig, layout: HeadLayout) {
        self.x.fit(count * config.hidden_size);
        self.qkv.fit(count * layout.row());
        self.attended.fit(count * config.heads * config.head_dim);
        self.gate_up.fit(count * 2 * config.feed_forward_size);
        self.rotations.fit(count * config.head_dim);
    }
}

impl Decoder {
    pub fn new(config: DecoderConfig, weights: Weights) -> Self {
        let d = config.head_dim;
        let inverse_frequencies = (0..d / 2)
            .map(|i| 1.0 / config.rope_theta.powf((2 * i) as f32 / d as f32))
            .collect();
        let head = weights.head.as_ref().unwrap_or(&weights.embedding);
        let head = PackedMatrix::new(head.view());
        Self {
            config,
            weights,
            head,
            inverse_frequencies,
        }
    }

    pub fn head(&self) -> &RowMatrix<f32> {
        self.weights
            .head
            .as_ref()
            .unwrap_or(&self.weights.embedding)
    }

    pub fn layout(&self) -> HeadLayout {
        HeadLayout {
            heads: self.config.heads,
            kv_heads: self.config.kv_heads,
            head_dim: self.config.head_dim,
        }
    }

    /// Hands the kept rows of every layer in `wanted` (increasing; 0 embeddings, `layers` the
    /// head's input) to `take`, in that order. Blocks after the last wanted one are not computed.
    pub fn forward(
        &self,
        workspace: &mut Workspace,
        tokens: &Tokens<'_>,
        memory: &mut dyn Memory,
        wanted: &[usize],
        mut take: impl FnMut(usize, RowMatrix<f32>),
    ) {
        let (config, layout) = (&self.config, self.layout());
        workspace.fit(tokens.tokens.len(), config, layout);
        let d = config.hidden_size;
        for (x, &token) in workspace.x.chunks_exact_mut(d).zip(tokens.tokens) {
            x.copy_from_slice(self.weights.embedding.row(token as usize));
        }
        self.rotations(tokens.positions, &mut workspace.rotations);
        let mut done = 0;
        for &layer in wanted {
            for (index, block) in self.weights.blocks.iter().enumerate() {
                if (done..layer).contains(&index) {
                    block.forward(layout, workspace, |qkv, out| memory.attend(index, qkv, out));
                }
            }
            done = layer;
            let mut kept = RowMatrix::zeros(tokens.keep.len(), d);
            for (i, &row) in tokens.keep.iter().enumerate() {
                let state = &workspace.x[row * d..(row + 1) * d];
                if layer == config.layers {
                    self.weights.final_norm.normalise(state, kept.row_mut(i));
                } else {
                    kept.row_mut(i).copy_from_slice(state);
                }
            }
            take(layer, kept);
        }
    }

    fn rotations(&self, positions: &[u32], rotations: &mut [f32]) {
        let half = self.inverse_frequencies.len();
        for (row, &position) in rotations.chunks_exact_mut(2 * half).zip(positions) {
            let (cosines, sines) = row.split_at_mut(half);
            let angles = self.inverse_frequencies.iter().map(|f| position as f32 * f);
            for ((c, s), angle) in cosines.iter_mut().zip(sines).zip(angles) {
                (*s, *c) = angle.sin_cos();
            }
        }
    }
}

impl Block {
    fn forward(
        &self,
        layout: HeadLayout,
        workspace: &mut Workspace,
        attend: impl FnOnce(&[f32], &mut [f32]),
    ) {
        let Workspace {
            x,
            rows,
            qkv,
            attended,
            gate_up,
            rotations,
        } = workspace;
        let d = self.qkv.inputs();
        let count = x.len() / d;
        rows.fill(count, d, |i, out| {
            self.attention_norm.normalise(row(x, i, d), out);
        });
        self.qkv.multiply(rows, qkv);
        qkv.par_chunks_mut(layout.row())
            .with_min_len(64)
            .enumerate()
            .for_each(|(i, tokens)| rotate(tokens, row(rotations, i, layout.head_dim), layout));
        attend(qkv, attended);
        rows.copy(count, self.attention_output.inputs(), attended);
        self.attention_output.multiply_add(rows, x);
        rows.fill(count, d, |i, out| {
            self.feed_forward_norm.normalise(row(x, i, d), out);
        });
        self.gate_up.multiply(rows, gate_up);
        let width = self.down.inputs();
        rows.fill(count, width, |i, out| {
            let (gate, up) = row(gate_up, i, 2 * width).split_at(width);
            gated(gate, up, out);
        });
        self.down.multiply_add(rows, x);
    }
}

fn row(values: &[f32], i: usize, width: usize) -> &[f32] {
    &values[i * width..(i + 1) * width]
}

/// Turns the queries and keys of a row by its token's angles.
fn rotate(row: &mut [f32], rotation: &[f32], layout: HeadLayout) {
    let half = layout.head_dim / 2;
    let rotated = (layout.heads + layout.kv_heads) * layout.head_dim;
    let (cosines, sines) = rotation.split_at(half);
    vectorised(
        #[inline(always)]
        || {
            for head in row[..rotated].chunks_exact_mut(2 * half) {
                let (first, second) = head.split_at_mut(half);
                for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        },
    );
}

/// `silu(gate) * up`.
fn gated(gate: &[f32], up: &[f32], out: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for ((out, &g), u) in out.iter_mut().zip(gate).zip(up) {
                *out = g / (1.0 + Real::exp(-g)) * u;
            }
        },
    );
}
