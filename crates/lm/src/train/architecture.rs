//! The networks that are trained here, by their shapes.

use lawvere_core::vector::Real;
use serde::{Deserialize, Serialize};

use crate::config::{DecoderConfig, DecoderStyle};
use crate::train::decoder::TrainedDecoder;
use crate::train::features::Features;
use crate::train::lstm::Lstm;
use crate::train::mlp::Mlp;
use crate::train::network::Network;
use crate::train::parameters::Spec;

/// A long short-term memory with a softmax head, without bias, over its last layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LstmConfig {
    pub vocab_size: usize,
    pub embedding_size: usize,
    pub hidden_size: usize,
    pub layers: usize,
}

/// A multilayer perceptron over the embeddings of the last `order` tokens (zeros where there are
/// fewer), with rectified units and a softmax head, without bias, over its last layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct MlpConfig {
    pub vocab_size: usize,
    pub order: usize,
    pub embedding_size: usize,
    /// Units of each layer.
    pub hidden_sizes: Vec<usize>,
}

/// Unconstrained features: logits `W h_j`, `W` vocabulary x dim, and a free `h_j` for each context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct FeaturesConfig {
    pub vocab_size: usize,
    pub contexts: usize,
    pub dim: usize,
}

const MOST_ENTRIES: usize = 1 << 24;
const MOST_LAYERS: usize = 4096;
/// With a gradient and two moments, 16 bytes a weight.
const MOST_WEIGHTS: f64 = 1e9;

/// What is trained.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "architecture")]
pub enum Architecture {
    /// A decoder-only transformer.
    Decoder(DecoderConfig),
    /// A long short-term memory.
    Lstm(LstmConfig),
    /// A multilayer perceptron over the last tokens.
    Mlp(MlpConfig),
    /// Unconstrained features, one a context: soft labels only.
    Features(FeaturesConfig),
}

impl Architecture {
    /// The number of outcomes of its laws.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Decoder(c) => c.vocab_size,
            Self::Lstm(c) => c.vocab_size,
            Self::Mlp(c) => c.vocab_size,
            Self::Features(c) => c.vocab_size,
        }
    }

    /// The number of weights.
    pub fn parameters(&self) -> usize {
        if let Self::Decoder(config) = self {
            return config.parameters();
        }
        let size = |shape: &[usize]| shape.iter().product::<usize>();
        let specs = self.specs();
        let parts = specs.iter().flat_map(|spec| &spec.parts);
        parts.map(|part| size(&part.shape)).sum()
    }

    /// What is wrong with this shape, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let sizes = match self {
            Self::Decoder(c) => return c.problem().or_else(|| self.too_deep()),
            Self::Lstm(c) => vec![c.vocab_size, c.embedding_size, c.hidden_size, c.layers],
            Self::Mlp(c) => {
                if c.hidden_sizes.is_empty() {
                    return Some("there is no hidden layer".into());
                }
                let mut sizes = vec![c.vocab_size, c.embedding_size, c.order];
                sizes.extend(&c.hidden_sizes);
                sizes
            }
            Self::Features(c) => vec![c.vocab_size, c.contexts, c.dim],
        };
        if let Some(bad) = sizes.iter().find(|&&s| s == 0 || s > MOST_ENTRIES) {
            return Some(format!("a size is {bad}; sizes are from 1 to 2^24"));
        }
        self.too_deep()
    }

    fn too_deep(&self) -> Option<String> {
        let layers = match self {
            Self::Decoder(c) => c.layers,
            Self::Lstm(c) => c.layers,
            Self::Mlp(c) => c.hidden_sizes.len(),
            Self::Features(_) => 0,
        };
        (layers > MOST_LAYERS)
            .then(|| format!("there are {layers} layers; at most {MOST_LAYERS} are computed"))
    }

    /// What keeps a network of this shape from being trained, if anything.
    pub(crate) fn untrainable(&self) -> Option<String> {
        if let Some(problem) = self.problem() {
            return Some(problem);
        }
        if let Self::Decoder(config) = self
            && config.style != DecoderStyle::default()
        {
            return Some("decoders are trained here in Llama's style alone".into());
        }
        let weights = self.weights();
        (weights > MOST_WEIGHTS).then(|| {
            format!(
                "the network has {weights:.3e} weights; small networks are trained here, of at most {MOST_WEIGHTS:.1e}"
            )
        })
    }

    /// The number of weights, in f64: a product of sizes may be beyond any integer.
    pub(crate) fn weights(&self) -> f64 {
        let size = |shape: &[usize]| shape.iter().map(|&s| s as f64).product::<f64>();
        let specs = self.specs();
        let parts = specs.iter().flat_map(|s| &s.parts);
        parts.map(|p| size(&p.shape)).sum()
    }

    /// The network's tensors; nothing of their size is allocated.
    pub(crate) fn specs(&self) -> Vec<Spec> {
        self.network::<f32>().specs()
    }

    pub(crate) fn network<T: Real>(&self) -> Box<dyn Network<T>> {
        match self.clone() {
            Self::Decoder(c) => Box::new(TrainedDecoder::new(c)),
            Self::Lstm(c) => Box::new(Lstm::new(c)),
            Self::Mlp(c) => Box::new(Mlp::new(c)),
            Self::Features(c) => Box::new(Features::new(c)),
        }
    }
}
