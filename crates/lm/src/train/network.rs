//! What every network that is trained here offers: states forward, gradients backward.

use lawvere_core::RowMatrix;
use lawvere_core::vector::Real;

use crate::train::parameters::{Parameters, Spec};

/// What a network reads: windows of tokens, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    /// All windows' tokens.
    pub tokens: &'a [u32],
    /// The length of each window.
    pub windows: &'a [usize],
}

impl Input<'_> {
    /// The position of every token in its window, from 0.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        self.windows.iter().flat_map(|&length| 0..length)
    }
}

/// A network up to its head: it turns every token, with what stands before it in its window, into
/// a state. What a forward pass leaves for the backward pass is kept inside.
pub(crate) trait Network<T: Real>: Send {
    /// The network's tensors, the head's included.
    fn specs(&self) -> Vec<Spec>;

    /// Which tensor is the head's matrix, vocabulary x d.
    fn head(&self) -> usize;

    /// The states of every token, rows x d, after each layer: 0 is the embeddings, the last one the
    /// head's input.
    fn layers(&self) -> usize;

    /// Computes the states of every token; [`states`](Self::states) shows them.
    fn forward(&mut self, parameters: &Parameters<T>, input: Input<'_>);

    /// The states after a layer of the last [`forward`](Self::forward) with these parameters, rows x d.
    fn states<'a>(&'a self, parameters: &'a Parameters<T>, layer: usize) -> &'a RowMatrix<T>;

    /// Writes the derivative by every tensor but the head, given that by the head's input
    /// (`d_states`, which is used up; its shape stays). A tensor that is also the head has the head's part in it
    /// already, and is added to.
    fn backward(
        &mut self,
        parameters: &Parameters<T>,
        input: Input<'_>,
        d_states: &mut RowMatrix<T>,
        gradient: &mut Parameters<T>,
    );
}
