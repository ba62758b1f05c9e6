//! The decoder of `decoder.rs`, as it is trained: the same function, and its gradient.

use lawvere_core::RowMatrix;
use lawvere_core::vector::{Real, vectorised};
use rayon::prelude::*;

use crate::attention::{
    Attended, HeadLayout, Past, Sight, attend, attend_gradient, ends_of_windows,
};
use crate::config::DecoderConfig;
use crate::safetensors::name;
use crate::train::layers::{
    TASK_ROWS, add, embed, embed_gradient, gate, gate_gradient, linear, linear_input_gradient,
    linear_weight_gradient, reshape, rms_norm, rms_norm_gradient,
};
use crate::train::network::{Input, Network};
use crate::train::parameters::{Parameters, Spec, Start};
use crate::weights::Role;

/// Tensors of a block, from its first one on.
const ATTENTION_NORM: usize = 0;
const QKV: usize = 1;
const ATTENTION_OUTPUT: usize = 2;
const FEED_FORWARD_NORM: usize = 3;
const GATE_UP: usize = 4;
const DOWN: usize = 5;
const BLOCK_TENSORS: usize = 6;

pub(crate) struct TrainedDecoder<T> {
    config: DecoderConfig,
    blocks: Vec<BlockTape<T>>,
    /// After the last block, before the final norm.
    last: RowMatrix<T>,
    states: RowMatrix<T>,
    scratch: Scratch<T>,
}

/// What a block's forward pass leaves for its backward pass.
struct BlockTape<T> {
    input: RowMatrix<T>,
    normed: RowMatrix<T>,
    qkv: RowMatrix<T>,
    log_totals: RowMatrix<T>,
    attended: RowMatrix<T>,
    middle: RowMatrix<T>,
    middle_normed: RowMatrix<T>,
    gate_up: RowMatrix<T>,
    gated: RowMatrix<T>,
}

#[derive(Default)]
struct Scratch<T> {
    rotations: Vec<(T, T)>,
    narrow: Option<RowMatrix<T>>,
    d_gated: Option<RowMatrix<T>>,
    d_gate_up: Option<RowMatrix<T>>,
    d_attended: Option<RowMatrix<T>>,
    d_qkv: Option<RowMatrix<T>>,
}

fn empty<T: Real>() -> RowMatrix<T> {
    RowMatrix::zeros(0, 0)
}

/// A matrix kept between steps, in the shape asked for.
fn kept<T: Real>(
    matrix: &mut Option<RowMatrix<T>>,
    rows: usize,
    columns: usize,
) -> &mut RowMatrix<T> {
    let matrix = matrix.get_or_insert_with(empty);
    reshape(matrix, rows, columns);
    matrix
}

impl<T: Real> TrainedDecoder<T> {
    pub fn new(config: DecoderConfig) -> Self {
        let block = || BlockTape {
            input: empty(),
            normed: empty(),
            qkv: empty(),
            log_totals: empty(),
            attended: empty(),
            middle: empty(),
            middle_normed: empty(),
            gate_up: empty(),
            gated: empty(),
        };
        Self {
            blocks: (0..config.layers).map(|_| block()).collect(),
            last: empty(),
            states: empty(),
            scratch: Scratch {
                rotations: Vec::new(),
                narrow: None,
                d_gated: None,
                d_gate_up: None,
                d_attended: None,
                d_qkv: None,
            },
            config,
        }
    }

    fn layout(&self) -> HeadLayout {
        HeadLayout::new(
            self.config.heads,
            self.config.kv_heads,
            self.config.head_dim,
        )
    }

    fn final_norm(&self) -> usize {
        1 + self.config.layers * BLOCK_TENSORS
    }

    fn eps(&self) -> T {
        T::of(f64::from(self.config.norm_eps))
    }

    /// Cosine and sine of every position below `length` at every frequency.
    fn rotations(&self, length: usize) -> Vec<(T, T)> {
        let (half, d) = (self.config.head_dim / 2, self.config.head_dim as f64);
        let theta = f64::from(self.config.rope_theta);
        (0..length * half)
            .map(|k| {
                let angle = (k / half) as f64 * theta.powf(-((2 * (k % half)) as f64) / d);
                (T::of(angle.cos()), T::of(angle.sin()))
            })
            .collect()
    }
}

/// Turns queries and keys by their positions; backwards with `sign` -1.
fn rotate<T: Real>(
    qkv: &mut RowMatrix<T>,
    positions: &[usize],
    rotations: &[(T, T)],
    layout: HeadLayout,
    sign: T,
) {
    let (row, half) = (layout.row(), layout.head_dim / 2);
    let rotated = (layout.heads + layout.kv_heads) * layout.head_dim;
    qkv.data_mut()
        .par_chunks_mut(TASK_ROWS * row)
        .zip(positions.par_chunks(TASK_ROWS))
        .for_each(|(rows, positions)| {
            vectorised(
                #[inline(always)]
                || {
                    for (row, &position) in rows.chunks_exact_mut(row).zip(positions) {
                        let angles = &rotations[position * half..(position + 1) * half];
                        for head in row[..rotated].chunks_exact_mut(layout.head_dim) {
                            let (first, second) = head.split_at_mut(half);
                            for ((a, b), &(cos, sin)) in first.iter_mut().zip(second).zip(angles) {
                                let sin = sign * sin;
                                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                            }
                        }
                    }
                },
            );
        });
}

impl<T: Real> Network<T> for TrainedDecoder<T> {
    fn specs(&self) -> Vec<Spec> {
        let c = &self.config;
        let d = c.hidden_size;
        let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let wide = |inputs: usize| Start::Normal(1.0 / (inputs as f64).sqrt());
        // Sub-layers' outputs add up along the residual stream, two a block.
        let residual =
            |inputs: usize| Start::Normal((inputs as f64 * 2.0 * c.layers as f64).sqrt().recip());
        let mut specs = vec![Spec::matrix(
            name(Role::Embedding),
            c.vocab_size,
            d,
            Start::Normal(1.0 / (d as f64).sqrt()),
        )];
        for i in 0..c.layers {
            let qkv = [
                (name(Role::Query(i)), q),
                (name(Role::Key(i)), kv),
                (name(Role::Value(i)), kv),
            ];
            let gate_up = [
                (name(Role::Gate(i)), c.feed_forward_size),
                (name(Role::Up(i)), c.feed_forward_size),
            ];
            specs.push(Spec::vector(name(Role::AttentionNorm(i)), d, Start::Ones));
            specs.push(Spec::stacked(&qkv, d, wide(d)));
            let role = Role::AttentionOutput(i);
            specs.push(Spec::matrix(name(role), d, q, residual(q)));
            specs.push(Spec::vector(name(Role::FeedForwardNorm(i)), d, Start::Ones));
            specs.push(Spec::stacked(&gate_up, d, wide(d)));
            let ff = c.feed_forward_size;
            specs.push(Spec::matrix(name(Role::Down(i)), d, ff, residual(ff)));
        }
        specs.push(Spec::vector(name(Role::FinalNorm), d, Start::Ones));
        if !c.tied_head {
            // Small, so that the first laws are nearly uniform.
            let start = Start::Normal(0.1 / (d as f64).sqrt());
            specs.push(Spec::matrix(name(Role::Head), c.vocab_size, d, start));
        }
        specs
    }

    fn head(&self) -> usize {
        if self.config.tied_head {
            0
        } else {
            self.final_norm() + 1
        }
    }

    fn layers(&self) -> usize {
        self.config.layers
    }

    fn forward(&mut self, parameters: &Parameters<T>, input: Input<'_>) {
        let (rows, layout, eps) = (input.tokens.len(), self.layout(), self.eps());
        let (d, ff) = (self.config.hidden_size, self.config.feed_forward_size);
        let tensor = |i: usize| &parameters.0[i].values;
        let positions: Vec<usize> = input.positions().collect();
        let longest = input.windows.iter().copied().max().unwrap_or(0);
        if self.scratch.rotations.len() < longest * self.config.head_dim / 2 {
            self.scratch.rotations = self.rotations(longest);
        }
        let ends = ends_of_windows(input.windows);
        reshape(&mut self.last, rows, d);
        embed(&mut self.last, tensor(0), input.tokens);
        let projected = kept(&mut self.scratch.narrow, rows, d);
        for (i, tape) in self.blocks.iter_mut().enumerate() {
            let tensor = |k: usize| tensor(1 + i * BLOCK_TENSORS + k);
            for (matrix, columns) in [
                (&mut tape.input, d),
                (&mut tape.normed, d),
                (&mut tape.qkv, layout.row()),
                (&mut tape.log_totals, layout.heads),
                (&mut tape.attended, layout.heads * layout.head_dim),
                (&mut tape.middle, d),
                (&mut tape.middle_normed, d),
                (&mut tape.gate_up, 2 * ff),
                (&mut tape.gated, ff),
            ] {
                reshape(matrix, rows, columns);
            }
            tape.input.data_mut().copy_from_slice(self.last.data());
            let norm = tensor(ATTENTION_NORM).data();
            rms_norm(&mut tape.normed, &tape.input, norm, eps);
            linear(&mut tape.qkv, &tape.normed, tensor(QKV));
            let rotations = &self.scratch.rotations;
            rotate(&mut tape.qkv, &positions, rotations, layout, T::of(1.0));
            attend(
                tape.qkv.data(),
                &ends,
                Past::NONE,
                layout,
                Sight::FULL,
                tape.attended.data_mut(),
                Some(tape.log_totals.data_mut()),
            );
            linear(projected, &tape.attended, tensor(ATTENTION_OUTPUT));
            add(&mut self.last, projected);
            tape.middle.data_mut().copy_from_slice(self.last.data());
            let norm = tensor(FEED_FORWARD_NORM).data();
            rms_norm(&mut tape.middle_normed, &tape.middle, norm, eps);
            linear(&mut tape.gate_up, &tape.middle_normed, tensor(GATE_UP));
            gate(&mut tape.gated, &tape.gate_up);
            linear(projected, &tape.gated, tensor(DOWN));
            add(&mut self.last, projected);
        }
        reshape(&mut self.states, rows, d);
        let norm = 1 + self.config.layers * BLOCK_TENSORS;
        rms_norm(&mut self.states, &self.last, tensor(norm).data(), eps);
    }

    fn states<'a>(&'a self, _: &'a Parameters<T>, layer: usize) -> &'a RowMatrix<T> {
        match self.blocks.get(layer) {
            Some(block) => &block.input,
            None => &self.states,
        }
    }

    fn backward(
        &mut self,
        parameters: &Parameters<T>,
        input: Input<'_>,
        d_states: &mut RowMatrix<T>,
        gradient: &mut Parameters<T>,
    ) {
        let (rows, layout, eps) = (input.tokens.len(), self.layout(), self.eps());
        let (d, ff) = (self.config.hidden_size, self.config.feed_forward_size);
        let positions: Vec<usize> = input.positions().collect();
        let final_norm = self.final_norm();
        let scratch = &mut self.scratch;
        let narrow = kept(&mut scratch.narrow, rows, d);
        let d_gated = kept(&mut scratch.d_gated, rows, ff);
        let d_gate_up = kept(&mut scratch.d_gate_up, rows, 2 * ff);
        let attended = layout.heads * layout.head_dim;
        let d_attended = kept(&mut scratch.d_attended, rows, attended);
        let d_qkv = kept(&mut scratch.d_qkv, rows, layout.row());
        let mut d_x = RowMatrix::zeros(rows, d);
        rms_norm_gradient(
            &mut d_x,
            gradient.0[final_norm].values.data_mut(),
            d_states,
            &self.last,
            parameters.0[final_norm].values.data(),
            eps,
        );
        for (i, tape) in self.blocks.iter().enumerate().rev() {
            let first = 1 + i * BLOCK_TENSORS;
            let tensor = |k: usize| &parameters.0[first + k].values;
            let mut of = |k: usize, d_out: &RowMatrix<T>, x: &RowMatrix<T>| {
                linear_weight_gradient(&mut gradient.0[first + k].values, d_out, x);
            };
            of(DOWN, &d_x, &tape.gated);
            linear_input_gradient(d_gated, &d_x, tensor(DOWN));
            gate_gradient(d_gate_up, d_gated, &tape.gate_up);
            of(GATE_UP, d_gate_up, &tape.middle_normed);
            linear_input_gradient(narrow, d_gate_up, tensor(GATE_UP));
            rms_norm_gradient(
                &mut d_x,
                gradient.0[first + FEED_FORWARD_NORM].values.data_mut(),
                narrow,
                &tape.middle,
                tensor(FEED_FORWARD_NORM).data(),
                eps,
            );
            let mut of = |k: usize, d_out: &RowMatrix<T>, x: &RowMatrix<T>| {
                linear_weight_gradient(&mut gradient.0[first + k].values, d_out, x);
            };
            of(ATTENTION_OUTPUT, &d_x, &tape.attended);
            linear_input_gradient(d_attended, &d_x, tensor(ATTENTION_OUTPUT));
            let window = Attended {
                qkv: tape.qkv.data(),
                out: tape.attended.data(),
                log_totals: tape.log_totals.data(),
                d_out: d_attended.data(),
            };
            attend_gradient(window, input.windows, layout, d_qkv.data_mut());
            rotate(d_qkv, &positions, &scratch.rotations, layout, T::of(-1.0));
            of(QKV, d_qkv, &tape.normed);
            linear_input_gradient(narrow, d_qkv, tensor(QKV));
            rms_norm_gradient(
                &mut d_x,
                gradient.0[first + ATTENTION_NORM].values.data_mut(),
                narrow,
                &tape.input,
                tensor(ATTENTION_NORM).data(),
                eps,
            );
        }
        let embedding = &mut gradient.0[0].values;
        if !self.config.tied_head {
            embedding.data_mut().fill(T::default());
        }
        embed_gradient(embedding, &d_x, input.tokens);
    }
}
