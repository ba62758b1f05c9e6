//! The traits at which every part of Lawvere meets: Markov kernels from contexts to next tokens.

use thiserror::Error;

use crate::head::HeadRef;
use crate::matrix::{RowMatrix, ShapeError};
use crate::sparse::SparseRows;

/// Why a kernel cannot answer.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum KernelError {
    #[error("window {window}: token id {token} is outside the vocabulary of {vocab_size} tokens")]
    TokenOutOfRange {
        window: usize,
        token: u32,
        vocab_size: usize,
    },
    #[error("window {window} holds {length} tokens, more than the {limit} this kernel reads")]
    WindowExceeded {
        window: usize,
        length: usize,
        limit: usize,
    },
    #[error("window {window}: a position asks for the first {position} tokens of {length}")]
    Position {
        window: usize,
        position: usize,
        length: usize,
    },
    #[error(
        "window {window}: this kernel has no law for the empty context (its checkpoint names no beginning-of-text token)"
    )]
    EmptyContext { window: usize },
    #[error(
        "the context {context} does not occur in the corpus; the infinity-gram back-off mode answers by its longest suffix that does"
    )]
    UnseenContext { context: String },
    #[error(
        "layer {layer} does not exist: this model has layers 0 (embeddings) to {last} (the head's input)"
    )]
    UnknownLayer { layer: usize, last: usize },
    #[error("the model's law is not finite: its weights overflow float32")]
    NotFinite,
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// A stretch of tokens and the positions in it whose next-token law is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window<'a> {
    /// The tokens a kernel may read.
    pub tokens: &'a [u32],
    /// Increasing prefix lengths: `n` asks for the law of the token that follows `tokens[..n]`.
    pub positions: &'a [u32],
}

/// Contexts for a kernel: windows of tokens and the positions read in them.
///
/// Row `i` of an answer belongs to the `i`-th position, windows in order. A context on its own is
/// a window with one position at its end; running text is a window with a position at every token,
/// which costs one forward pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContextBatch {
    tokens: Vec<u32>,
    token_ends: Vec<usize>,
    positions: Vec<u32>,
    position_ends: Vec<usize>,
}

impl ContextBatch {
    /// No windows.
    pub fn new() -> Self {
        Self::default()
    }

    /// One window for each context, read at its end.
    pub fn of_contexts<'a>(contexts: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut batch = Self::new();
        for tokens in contexts {
            batch.tokens.extend_from_slice(tokens);
            batch.token_ends.push(batch.tokens.len());
            batch.positions.push(tokens.len() as u32);
            batch.position_ends.push(batch.positions.len());
        }
        batch
    }

    /// Appends a window; `positions` are prefix lengths, strictly increasing, at most `tokens.len()`.
    ///
    /// # Errors
    /// [`KernelError::Position`] for the first position that is too long or out of order.
    pub fn push(&mut self, tokens: &[u32], positions: &[u32]) -> Result<(), KernelError> {
        let out_of_order = positions.windows(2).find(|p| p[1] <= p[0]).map(|p| p[1]);
        let bad = out_of_order.or(positions
            .last()
            .copied()
            .filter(|&p| p as usize > tokens.len()));
        if let Some(position) = bad {
            return Err(KernelError::Position {
                window: self.token_ends.len(),
                position: position as usize,
                length: tokens.len(),
            });
        }
        self.tokens.extend_from_slice(tokens);
        self.token_ends.push(self.tokens.len());
        self.positions.extend_from_slice(positions);
        self.position_ends.push(self.positions.len());
        Ok(())
    }

    /// The number of windows.
    pub fn len(&self) -> usize {
        self.token_ends.len()
    }

    /// Whether there is no window.
    pub fn is_empty(&self) -> bool {
        self.token_ends.is_empty()
    }

    /// The number of positions: the number of rows of an answer.
    pub fn rows(&self) -> usize {
        self.positions.len()
    }

    /// The number of tokens in all windows: what a forward pass costs.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Window `i`.
    pub fn window(&self, i: usize) -> Window<'_> {
        let start = |ends: &[usize]| if i == 0 { 0 } else { ends[i - 1] };
        Window {
            tokens: &self.tokens[start(&self.token_ends)..self.token_ends[i]],
            positions: &self.positions[start(&self.position_ends)..self.position_ends[i]],
        }
    }

    /// Windows in order.
    pub fn windows(&self) -> impl Iterator<Item = Window<'_>> {
        (0..self.len()).map(|i| self.window(i))
    }
}

/// A block of consecutive rows of `log k(.|context)`, in nats.
#[derive(Debug, Clone, PartialEq)]
pub enum LogProbs {
    /// Every token's log-probability: rows x vocabulary.
    Dense(RowMatrix<f32>),
    /// Only the tokens with positive probability; the others have log-probability `-inf`.
    Sparse(SparseRows<f32>),
}

/// A Markov kernel from token contexts to the next token, `k : V* -> V`.
///
/// *Source:* Lawvere, *The category of probabilistic mappings* (1962).
pub trait NextToken {
    /// The number of outcomes.
    fn vocab_size(&self) -> usize;

    /// Hands `log k(.|context)` for the batch's rows, in order and in blocks, to `visit`, which is
    /// also told the first row's index. Natural logarithm, rows normalised to 1e-6.
    ///
    /// # Errors
    /// A context this kernel has no law for; whatever `visit` returns.
    fn log_probs(
        &self,
        contexts: &ContextBatch,
        visit: &mut dyn FnMut(usize, LogProbs) -> Result<(), KernelError>,
    ) -> Result<(), KernelError>;
}

/// A layer of a model: 0 is the embeddings, the last one the head's input (after the final norm).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layer(pub usize);

/// A kernel that factors through a representation space, `k = head . encoder`, with a
/// linear-softmax head.
pub trait Factored: NextToken {
    /// The number of the last layer, whose states the head reads.
    fn last_layer(&self) -> Layer;

    /// The states of the layers asked for, rows x d each, from one forward pass.
    ///
    /// # Errors
    /// A context this kernel cannot read, an unknown layer.
    fn encode(
        &self,
        contexts: &ContextBatch,
        layers: &[Layer],
    ) -> Result<Vec<RowMatrix<f32>>, KernelError>;

    /// The head that turns states of the last layer into logits.
    fn head(&self) -> HeadRef<'_>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_its_windows() {
        let mut batch = ContextBatch::of_contexts([&[1u32, 2][..], &[3]]);
        batch.push(&[4, 5, 6], &[0, 1, 3]).unwrap();
        assert_eq!((batch.len(), batch.rows(), batch.tokens()), (3, 5, 6));
        assert_eq!(
            batch.window(1),
            Window {
                tokens: &[3],
                positions: &[1]
            }
        );
        assert_eq!(batch.window(2).positions, &[0, 1, 3]);
    }

    #[test]
    fn positions_beyond_the_window_or_out_of_order_are_refused() {
        let mut batch = ContextBatch::new();
        assert!(batch.push(&[1], &[2]).is_err());
        assert!(batch.push(&[1, 2], &[2, 1]).is_err());
        assert!(batch.is_empty());
    }
}
