//! The shape of a decoder.

use serde::Serialize;

/// Architectures that load, for error messages.
pub(crate) const SUPPORTED: &str = "llama (GGUF: general.architecture = llama; Hugging Face: model_type = llama), and the networks that `lawvere train` makes";

/// The shape of a decoder-only transformer of the Llama family: RMS norms before each sub-layer,
/// rotary positions, grouped heads, gated SiLU feed-forward, no biases.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct DecoderConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub feed_forward_size: usize,
    pub rope_theta: f32,
    pub norm_eps: f32,
    /// The longest window the model was made for, in tokens.
    pub context_length: usize,
    /// Whether the head is the embedding matrix.
    pub tied_head: bool,
    /// The token put before every window, if the checkpoint's own configuration adds one.
    pub bos: Option<u32>,
}

impl DecoderConfig {
    /// What is wrong with this shape, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let sizes = [
            ("vocabulary size", self.vocab_size),
            ("hidden size", self.hidden_size),
            ("number of layers", self.layers),
            ("number of heads", self.heads),
            ("number of key-value heads", self.kv_heads),
            ("head dimension", self.head_dim),
            ("feed-forward size", self.feed_forward_size),
            ("context length", self.context_length),
        ];
        // Beyond 2^24 no real size lies; below it no product of four sizes' pairs overflows.
        let largest = 1 << 24;
        if let Some((what, size)) = sizes.iter().find(|(_, s)| *s == 0 || *s > largest) {
            return Some(format!(
                "the {what} is {size}; it should be from 1 to {largest}"
            ));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Some(format!(
                "{} heads cannot share {} key-value heads",
                self.heads, self.kv_heads
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Some(format!("the head dimension {} is odd", self.head_dim));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return Some(format!("the rotary base is {}", self.rope_theta));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return Some(format!("the norm's epsilon is {}", self.norm_eps));
        }
        self.bos
            .filter(|&bos| bos as usize >= self.vocab_size)
            .map(|bos| format!("the beginning-of-text token {bos} is outside the vocabulary"))
    }

    /// The number of weights.
    pub fn parameters(&self) -> usize {
        let attention = self.hidden_size * self.head_dim * 2 * (self.heads + self.kv_heads);
        let feed_forward = 3 * self.hidden_size * self.feed_forward_size;
        let block = attention + feed_forward + 2 * self.hidden_size;
        let embeddings = self.vocab_size * self.hidden_size;
        let head = if self.tied_head { 0 } else { embeddings };
        embeddings + self.layers * block + self.hidden_size + head
    }
}
