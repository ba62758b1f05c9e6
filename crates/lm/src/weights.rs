//! The decoder's weights and how they are taken out of a checkpoint, whatever its format.

use lawvere_core::{PackedMatrix, ReadoutNorm, RowMatrix};

use crate::config::DecoderConfig;
use crate::error::LmError;

/// A checkpoint's tensors under Lawvere's names, in float32 and in the layout of Hugging Face's
/// Llama (each matrix outputs x inputs).
pub(crate) trait TensorSource {
    /// The values of a tensor that must be there, of this shape, and of finite values.
    fn take(&mut self, role: Role, shape: &[usize]) -> Result<Vec<f32>, LmError>;
    /// An error if the checkpoint holds tensors that nobody took.
    fn finish(self) -> Result<(), LmError>;
}

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Embedding,
    FinalNorm,
    Head,
    AttentionNorm(usize),
    Query(usize),
    Key(usize),
    Value(usize),
    AttentionOutput(usize),
    FeedForwardNorm(usize),
    Gate(usize),
    Up(usize),
    Down(usize),
}

/// One block: query, key and value in one matrix, gate and up in one, so that each is one product;
/// all laid out for it.
#[derive(Debug)]
pub(crate) struct Block {
    pub attention_norm: ReadoutNorm,
    pub qkv: PackedMatrix,
    pub attention_output: PackedMatrix,
    pub feed_forward_norm: ReadoutNorm,
    pub gate_up: PackedMatrix,
    pub down: PackedMatrix,
}

#[derive(Debug)]
pub(crate) struct Weights {
    pub embedding: RowMatrix<f32>,
    pub blocks: Vec<Block>,
    pub final_norm: ReadoutNorm,
    /// `None` if the head is the embedding.
    pub head: Option<RowMatrix<f32>>,
}

impl Weights {
    pub fn load(config: &DecoderConfig, mut source: impl TensorSource) -> Result<Self, LmError> {
        let d = config.hidden_size;
        let (q, kv) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        let ff = config.feed_forward_size;
        let embedding = matrix(&mut source, &[Role::Embedding], &[config.vocab_size], d)?;
        let blocks = (0..config.layers)
            .map(|i| {
                let parts = [Role::Query(i), Role::Key(i), Role::Value(i)];
                Ok(Block {
                    attention_norm: norm(&mut source, Role::AttentionNorm(i), config)?,
                    qkv: packed(&mut source, &parts, &[q, kv, kv], d)?,
                    attention_output: packed(&mut source, &[Role::AttentionOutput(i)], &[d], q)?,
                    feed_forward_norm: norm(&mut source, Role::FeedForwardNorm(i), config)?,
                    gate_up: packed(&mut source, &[Role::Gate(i), Role::Up(i)], &[ff, ff], d)?,
                    down: packed(&mut source, &[Role::Down(i)], &[d], ff)?,
                })
            })
            .collect::<Result<_, LmError>>()?;
        let final_norm = norm(&mut source, Role::FinalNorm, config)?;
        let head = if config.tied_head {
            None
        } else {
            Some(matrix(&mut source, &[Role::Head], &[config.vocab_size], d)?)
        };
        source.finish()?;
        Ok(Self {
            embedding,
            blocks,
            final_norm,
            head,
        })
    }
}

fn norm(
    source: &mut impl TensorSource,
    role: Role,
    config: &DecoderConfig,
) -> Result<ReadoutNorm, LmError> {
    let weight = source.take(role, &[config.hidden_size])?;
    Ok(ReadoutNorm {
        weight,
        eps: config.norm_eps,
    })
}

fn packed(
    source: &mut impl TensorSource,
    roles: &[Role],
    rows: &[usize],
    columns: usize,
) -> Result<PackedMatrix, LmError> {
    let matrix = matrix(source, roles, rows, columns)?;
    Ok(PackedMatrix::new(matrix.view()))
}

/// The tensors of `roles` one below the other.
fn matrix(
    source: &mut impl TensorSource,
    roles: &[Role],
    rows: &[usize],
    columns: usize,
) -> Result<RowMatrix<f32>, LmError> {
    let mut data = Vec::new();
    for (&role, &rows) in roles.iter().zip(rows) {
        let part = source.take(role, &[rows, columns])?;
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
