//! The decoder's weights and how they are taken out of a checkpoint, whatever its format.

use lawvere_core::{KernelError, ReadoutNorm, RowMatrix};

use crate::config::{DecoderConfig, NormPlaces, QueryKeyNorm};
use crate::error::LmError;
use crate::product::{Matrix, Products, Rows};

/// A checkpoint's tensors under Lawvere's names, in float32, each matrix outputs x inputs.
pub(crate) trait TensorSource {
    /// The values of a tensor that must be there, of this shape, and of finite values.
    fn take(&mut self, role: Role, part: Part, shape: &[usize]) -> Result<Vec<f32>, LmError>;
    /// An error if the checkpoint holds tensors that nobody took.
    fn finish(self) -> Result<(), LmError>;
}

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Embedding,
    PositionEmbedding,
    FinalNorm,
    Head,
    AttentionNorm(usize),
    Query(usize),
    Key(usize),
    Value(usize),
    QueryNorm(usize),
    KeyNorm(usize),
    AttentionOutput(usize),
    AfterAttention(usize),
    FeedForwardNorm(usize),
    Gate(usize),
    Up(usize),
    Down(usize),
    AfterFeedForward(usize),
}

impl Role {
    pub fn is_norm(self) -> bool {
        matches!(
            self,
            Self::FinalNorm
                | Self::AttentionNorm(_)
                | Self::QueryNorm(_)
                | Self::KeyNorm(_)
                | Self::AfterAttention(_)
                | Self::FeedForwardNorm(_)
                | Self::AfterFeedForward(_)
        )
    }
}

/// Which of a role's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Weight,
    Bias,
}

/// A matrix laid out for its product, and what is added to it.
#[derive(Debug)]
pub(crate) struct Linear {
    pub matrix: Matrix,
    pub bias: Option<Vec<f32>>,
}

impl Linear {
    /// `out = X W^T + b`.
    pub fn multiply(&self, rows: &Rows, out: &mut [f32]) -> Result<(), KernelError> {
        self.matrix.multiply(rows, out, false)?;
        self.add_bias(out);
        Ok(())
    }

    /// `out += X W^T + b`.
    pub fn multiply_add(&self, rows: &Rows, out: &mut [f32]) -> Result<(), KernelError> {
        self.matrix.multiply(rows, out, true)?;
        self.add_bias(out);
        Ok(())
    }

    fn add_bias(&self, out: &mut [f32]) {
        if let Some(bias) = &self.bias {
            for row in out.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
        }
    }
}

/// One block: query, key and value in one matrix, gate and up in one, so that each is one product;
/// all laid out for it.
#[derive(Debug)]
pub(crate) struct Block {
    pub attention_norm: Option<ReadoutNorm>,
    pub qkv: Linear,
    /// Of a head each, or of all heads together.
    pub query_key_norms: Option<[ReadoutNorm; 2]>,
    pub attention_output: Linear,
    pub after_attention: Option<ReadoutNorm>,
    pub feed_forward_norm: Option<ReadoutNorm>,
    /// Gate and up one below the other, or up alone.
    pub up: Linear,
    pub down: Linear,
    pub after_feed_forward: Option<ReadoutNorm>,
}

#[derive(Debug)]
pub(crate) struct Weights {
    pub embedding: RowMatrix<f32>,
    pub positions: Option<RowMatrix<f32>>,
    pub blocks: Vec<Block>,
    pub final_norm: ReadoutNorm,
    /// `None` if the head is the embedding.
    pub head: Option<RowMatrix<f32>>,
}

impl Weights {
    pub fn load(
        config: &DecoderConfig,
        products: &Products,
        source: impl TensorSource,
    ) -> Result<Self, LmError> {
        let mut loading = Loading {
            config,
            products,
            source,
        };
        let d = config.hidden_size;
        let embedding = loading.matrix(&[Role::Embedding], &[config.vocab_size], d)?;
        let positions = match config.style.learned_positions {
            true => {
                Some(loading.matrix(&[Role::PositionEmbedding], &[config.context_length], d)?)
            }
            false => None,
        };
        let blocks = (0..config.layers)
            .map(|i| loading.block(i))
            .collect::<Result<_, LmError>>()?;
        let final_norm = loading.norm(Role::FinalNorm, d)?;
        let head = match config.tied_head {
            true => None,
            false => Some(loading.matrix(&[Role::Head], &[config.vocab_size], d)?),
        };
        loading.source.finish()?;
        Ok(Self {
            embedding,
            positions,
            blocks,
            final_norm,
            head,
        })
    }
}

struct Loading<'a, S> {
    config: &'a DecoderConfig,
    products: &'a Products,
    source: S,
}

impl<S: TensorSource> Loading<'_, S> {
    fn block(&mut self, i: usize) -> Result<Block, LmError> {
        let config = self.config;
        let (style, d) = (&config.style, config.hidden_size);
        let (q, kv) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        let ff = config.feed_forward_size;
        let before = style.norms != NormPlaces::After;
        let after = style.norms != NormPlaces::Before;
        let norm =
            |this: &mut Self, role, there: bool| there.then(|| this.norm(role, d)).transpose();
        let biases = style.biases;
        let attention_norm = norm(self, Role::AttentionNorm(i), before)?;
        let parts = [Role::Query(i), Role::Key(i), Role::Value(i)];
        let qkv = self.linear(&parts, &[q, kv, kv], d, biases.query_key_value)?;
        let widths = match style.query_key_norm {
            QueryKeyNorm::None => None,
            QueryKeyNorm::Head => Some([config.head_dim; 2]),
            QueryKeyNorm::Whole => Some([q, kv]),
        };
        let query_key_norms = match widths {
            None => None,
            Some([q, kv]) => Some([
                self.norm(Role::QueryNorm(i), q)?,
                self.norm(Role::KeyNorm(i), kv)?,
            ]),
        };
        let output = [Role::AttentionOutput(i)];
        let attention_output = self.linear(&output, &[d], q, biases.attention_output)?;
        let after_attention = norm(self, Role::AfterAttention(i), after)?;
        let feed_forward_norm = norm(self, Role::FeedForwardNorm(i), before)?;
        let up = match style.plain_feed_forward {
            true => self.linear(&[Role::Up(i)], &[ff], d, biases.feed_forward)?,
            false => {
                let parts = [Role::Gate(i), Role::Up(i)];
                self.linear(&parts, &[ff, ff], d, biases.feed_forward)?
            }
        };
        Ok(Block {
            attention_norm,
            qkv,
            query_key_norms,
            attention_output,
            after_attention,
            feed_forward_norm,
            up,
            down: self.linear(&[Role::Down(i)], &[d], ff, biases.feed_forward)?,
            after_feed_forward: norm(self, Role::AfterFeedForward(i), after)?,
        })
    }

    fn norm(&mut self, role: Role, width: usize) -> Result<ReadoutNorm, LmError> {
        let layer_norm = self.config.style.layer_norm;
        let bias = layer_norm.then(|| self.source.take(role, Part::Bias, &[width]));
        Ok(ReadoutNorm {
            weight: self.source.take(role, Part::Weight, &[width])?,
            bias: bias.transpose()?,
            centred: layer_norm,
            eps: self.config.norm_eps,
        })
    }

    fn linear(
        &mut self,
        roles: &[Role],
        rows: &[usize],
        columns: usize,
        biased: bool,
    ) -> Result<Linear, LmError> {
        let matrix = self.matrix(roles, rows, columns)?;
        let mut bias = Vec::new();
        for (&role, &rows) in roles.iter().zip(rows).filter(|_| biased) {
            bias.extend(self.source.take(role, Part::Bias, &[rows])?);
        }
        Ok(Linear {
            matrix: self.products.matrix(matrix.view())?,
            bias: biased.then_some(bias),
        })
    }

    /// The tensors of `roles` one below the other.
    fn matrix(
        &mut self,
        roles: &[Role],
        rows: &[usize],
        columns: usize,
    ) -> Result<RowMatrix<f32>, LmError> {
        let mut data = Vec::new();
        for (&role, &rows) in roles.iter().zip(rows) {
            let part = self.source.take(role, Part::Weight, &[rows, columns])?;
            if data.is_empty() {
                data = part
            } else {
                data.extend(part)
            }
        }
        let total = rows.iter().sum();
        RowMatrix::from_vec(data, total, columns)
            .map_err(|e| LmError::checkpoint(std::path::Path::new("checkpoint"), e.to_string()))
    }
}
