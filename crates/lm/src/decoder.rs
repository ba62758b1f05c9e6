//! The forward pass: all layers' states of the positions asked for, in one go.

use lawvere_core::vector::{Real, vectorised};
use lawvere_core::{Buffer, KernelError, PackedMatrix, ReadoutNorm, RowMatrix};
use rayon::prelude::*;

use crate::attention::{HeadLayout, Sight};
use crate::config::{Activation, DecoderConfig, DecoderStyle, NormPlaces};
use crate::product::{Products, Rows};
use crate::rope::RopeScaling;
use crate::weights::{Block, Linear, Weights};

#[derive(Debug)]
pub(crate) struct Decoder {
    pub config: DecoderConfig,
    pub weights: Weights,
    /// The head laid out for products, always the processor's.
    pub head: PackedMatrix,
    products: Products,
    /// Angles of layers that see all, and of those with a window where they are others.
    rotations: [Option<Angles>; 2],
}

/// The angle of each pair of rotated dimensions at position 1, and what cosines and sines are multiplied with.
#[derive(Debug)]
struct Angles {
    frequencies: Vec<f32>,
    magnitude: f32,
}

/// What attention has in mind: which earlier tokens each token sees.
pub(crate) trait Memory {
    /// Writes to `out` (heads x head_dim values a token) what the tokens attend to, and keeps of their
    /// keys and values what later tokens will ask for. `qkv` has a row a token, rotated already (see
    /// [`HeadLayout`]), `sight` how far each of them sees.
    fn attend(&mut self, layer: usize, sight: Sight<'_>, qkv: &[f32], out: &mut [f32]);
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
#[derive(Debug)]
pub(crate) struct Workspace {
    x: Buffer,
    rows: Rows,
    qkv: Buffer,
    attended: Buffer,
    gate_up: Buffer,
    /// What a sub-layer adds, where it is normalised first.
    branch: Buffer,
    /// For each token the cosines, then the sines, of its angles.
    rotations: [Buffer; 2],
}

impl Workspace {
    fn new(products: &Products) -> Self {
        Self {
            x: Buffer::default(),
            rows: products.rows(),
            qkv: Buffer::default(),
            attended: Buffer::default(),
            gate_up: Buffer::default(),
            branch: Buffer::default(),
            rotations: Default::default(),
        }
    }

    fn fit(&mut self, count: usize, config: &DecoderConfig, layout: HeadLayout) {
        self.x.fit(count * config.hidden_size);
        self.qkv.fit(count * layout.row());
        self.attended.fit(count * config.heads * config.head_dim);
        let up = if config.style.plain_feed_forward {
            1
        } else {
            2
        };
        self.gate_up.fit(count * up * config.feed_forward_size);
        if config.style.norms != NormPlaces::Before {
            self.branch.fit(count * config.hidden_size);
        }
    }
}

impl Decoder {
    pub fn new(config: DecoderConfig, weights: Weights, products: Products) -> Self {
        let rotated = config.rotated();
        let angles = |scaling: &RopeScaling, theta: f32| {
            let (frequencies, magnitude) = scaling.angles(theta, rotated);
            Angles {
                frequencies,
                magnitude,
            }
        };
        let full = (rotated > 0).then(|| angles(&config.style.scaling, config.rope_theta));
        let local = config.style.local_theta;
        let rotations = [full, local.map(|theta| angles(&RopeScaling::None, theta))];
        let head = weights.head.as_ref().unwrap_or(&weights.embedding);
        let head = PackedMatrix::in_format(head.view(), products.format);
        Self {
            config,
            weights,
            head,
            products,
            rotations,
        }
    }

    pub fn head(&self) -> &RowMatrix<f32> {
        self.weights
            .head
            .as_ref()
            .unwrap_or(&self.weights.embedding)
    }

    /// Room for passes.
    pub fn workspace(&self) -> Workspace {
        Workspace::new(&self.products)
    }

    pub fn layout(&self) -> HeadLayout {
        let (config, style) = (&self.config, &self.config.style);
        let plain = HeadLayout::new(config.heads, config.kv_heads, config.head_dim);
        HeadLayout {
            scale: style.attention_scale.map_or(plain.scale, f64::from),
            soft_cap: style.attention_soft_cap.map(f64::from),
            ..plain
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
    ) -> Result<(), KernelError> {
        let (config, layout) = (&self.config, self.layout());
        workspace.fit(tokens.tokens.len(), config, layout);
        let d = config.hidden_size;
        for (x, &token) in workspace.x.chunks_exact_mut(d).zip(tokens.tokens) {
            x.copy_from_slice(self.weights.embedding.row(token as usize));
        }
        if let Some(scale) = config.style.embedding_scale {
            workspace.x.iter_mut().for_each(|x| *x *= scale);
        }
        if let Some(places) = &self.weights.positions {
            for (x, &position) in workspace.x.chunks_exact_mut(d).zip(tokens.positions) {
                let place = places.row(position as usize).iter();
                x.iter_mut().zip(place).for_each(|(x, p)| *x += p);
            }
        }
        for (angles, rotations) in self.rotations.iter().zip(&mut workspace.rotations) {
            if let Some(angles) = angles {
                angles.turn(tokens.positions, rotations);
            }
        }
        let mut done = 0;
        for &layer in wanted {
            for (index, block) in self.weights.blocks.iter().enumerate() {
                if (done..layer).contains(&index) {
                    let window = config.window(index);
                    let sight = window.map_or(Sight::FULL, |window| Sight {
                        window: window as u32,
                        positions: tokens.positions,
                    });
                    let slides = config.style.windows.get(index).copied().flatten().is_some();
                    let pass = Pass {
                        style: &config.style,
                        layout,
                        rotated: config.rotated(),
                        angles: usize::from(slides && self.rotations[1].is_some()),
                    };
                    let attend =
                        |qkv: &[f32], out: &mut [f32]| memory.attend(index, sight, qkv, out);
                    block.forward(pass, workspace, attend)?;
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
        Ok(())
    }
}

impl Angles {
    fn turn(&self, positions: &[u32], rotations: &mut Buffer) {
        let half = self.frequencies.len();
        rotations.fit(positions.len() * 2 * half);
        for (row, &position) in rotations.chunks_exact_mut(2 * half).zip(positions) {
            let (cosines, sines) = row.split_at_mut(half);
            let angles = self.frequencies.iter().map(|f| position as f32 * f);
            for ((c, s), angle) in cosines.iter_mut().zip(sines).zip(angles) {
                let (sine, cosine) = angle.sin_cos();
                (*s, *c) = (sine * self.magnitude, cosine * self.magnitude);
            }
        }
    }
}

/// What a block is told of the model.
#[derive(Clone, Copy)]
struct Pass<'a> {
    style: &'a DecoderStyle,
    layout: HeadLayout,
    rotated: usize,
    /// Which of the workspace's angles are its.
    angles: usize,
}

impl Block {
    fn forward(
        &self,
        pass: Pass<'_>,
        workspace: &mut Workspace,
        attend: impl FnOnce(&[f32], &mut [f32]),
    ) -> Result<(), KernelError> {
        let Workspace {
            x,
            rows,
            qkv,
            attended,
            gate_up,
            branch,
            rotations,
        } = workspace;
        let (layout, rotations) = (pass.layout, &rotations[pass.angles]);
        let d = self.qkv.matrix.inputs();
        let count = x.len() / d;
        fill_normed(rows, x, d, self.attention_norm.as_ref());
        self.qkv.multiply(rows, qkv)?;
        qkv.par_chunks_mut(layout.row())
            .with_min_len(64)
            .enumerate()
            .for_each(|(i, tokens)| {
                if let Some(norms) = &self.query_key_norms {
                    normalise_heads(tokens, norms, layout);
                }
                if pass.rotated > 0 {
                    let rotation = row(rotations, i, pass.rotated);
                    rotate(tokens, rotation, pass.rotated, layout);
                }
            });
        attend(qkv, attended);
        if pass.style.parallel {
            // Both read the state as it was.
            fill_normed(rows, x, d, self.feed_forward_norm.as_ref());
            self.up.multiply(rows, gate_up)?;
        }
        rows.copy(count, self.attention_output.matrix.inputs(), attended);
        let after = self.after_attention.as_ref();
        add(&self.attention_output, after, rows, x, branch)?;
        if !pass.style.parallel {
            fill_normed(rows, x, d, self.feed_forward_norm.as_ref());
            self.up.multiply(rows, gate_up)?;
        }
        let width = self.down.matrix.inputs();
        let activation = pass.style.activation;
        if pass.style.plain_feed_forward {
            rows.fill(count, width, |i, out| {
                activated(activation, row(gate_up, i, width), out);
            });
        } else {
            rows.fill(count, width, |i, out| {
                let (gate, up) = row(gate_up, i, 2 * width).split_at(width);
                gated(activation, gate, up, out);
            });
        }
        add(
            &self.down,
            self.after_feed_forward.as_ref(),
            rows,
            x,
            branch,
        )
    }
}

/// Rows of `x` for a product, normalised where there is a norm.
fn fill_normed(rows: &mut Rows, x: &[f32], d: usize, norm: Option<&ReadoutNorm>) {
    rows.fill(x.len() / d, d, |i, out| match norm {
        Some(norm) => norm.normalise(row(x, i, d), out),
        None => out.copy_from_slice(row(x, i, d)),
    });
}

/// Adds a product to the states, normalised where there is a norm.
fn add(
    linear: &Linear,
    norm: Option<&ReadoutNorm>,
    rows: &Rows,
    x: &mut [f32],
    branch: &mut [f32],
) -> Result<(), KernelError> {
    let Some(norm) = norm else {
        return linear.multiply_add(rows, x);
    };
    linear.multiply(rows, branch)?;
    let d = norm.weight.len();
    let states = x.par_chunks_exact_mut(d).zip(branch.par_chunks_exact(d));
    states.with_min_len(64).for_each_init(
        || vec![0.0; d],
        |normed, (x, added)| {
            norm.normalise(added, normed);
            x.iter_mut().zip(&*normed).for_each(|(x, y)| *x += y);
        },
    );
    Ok(())
}

fn row(values: &[f32], i: usize, width: usize) -> &[f32] {
    &values[i * width..(i + 1) * width]
}

/// Normalises the queries and the keys of a row, head by head or all together, as wide as the norms are.
fn normalise_heads(row: &mut [f32], norms: &[ReadoutNorm; 2], layout: HeadLayout) {
    let (queries, rest) = row.split_at_mut(layout.heads * layout.head_dim);
    let keys = &mut rest[..layout.kv_heads * layout.head_dim];
    let mut before = Vec::new();
    for (values, norm) in [(queries, &norms[0]), (keys, &norms[1])] {
        for head in values.chunks_exact_mut(norm.weight.len()) {
            before.clear();
            before.extend_from_slice(head);
            norm.normalise(&before, head);
        }
    }
}

/// Turns the first `rotated` dimensions of the queries and keys of a row by its token's angles.
fn rotate(row: &mut [f32], rotation: &[f32], rotated: usize, layout: HeadLayout) {
    let half = rotated / 2;
    let heads = (layout.heads + layout.kv_heads) * layout.head_dim;
    let (cosines, sines) = rotation.split_at(half);
    vectorised(
        #[inline(always)]
        || {
            for head in row[..heads].chunks_exact_mut(layout.head_dim) {
                let (first, second) = head[..rotated].split_at_mut(half);
                for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        },
    );
}

/// The activation of `values`.
fn activated(activation: Activation, values: &[f32], out: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            let both = out.iter_mut().zip(values);
            match activation {
                Activation::Silu => both.for_each(|(out, &x)| *out = silu(x)),
                Activation::Gelu => both.for_each(|(out, &x)| *out = gelu(x)),
                Activation::GeluTanh => both.for_each(|(out, &x)| *out = gelu_tanh(x)),
            }
        },
    );
}

/// The activation of `gate`, times `up`.
fn gated(activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    activated(activation, gate, out);
    vectorised(
        #[inline(always)]
        || out.iter_mut().zip(up).for_each(|(out, u)| *out *= u),
    );
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + Real::exp(-x))
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    /// The root of 2 / pi.
    const ROOT: f32 = 0.797_884_6;
    0.5 * x * (1.0 + Real::tanh(ROOT * (x + 0.044_715 * x * x * x)))
}
