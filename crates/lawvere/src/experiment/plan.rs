use std::str::FromStr;

use lawvere_lm::train::{Optimizer, Training};

use crate::defaults::{CLIP, FINAL_RATE, WARMUP};
use crate::train::NetworkChoice;
use crate::{RunError, defaults};

/// One network of an [`experiment`](fn@crate::experiment).
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkPlan {
    /// A short name.
    pub name: String,
    /// Its kind and sizes.
    pub network: NetworkChoice,
    /// How it is trained: all contexts a step, soft labels.
    pub training: Training,
}

/// The networks that the paper compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkKind {
    /// Unconstrained features.
    Ufm,
    /// A decoder-only transformer.
    Transformer,
    /// A multilayer perceptron over the context.
    Mlp,
    /// A long short-term memory.
    Lstm,
}

/// Sizes and training that the networks of an experiment share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NetworkSizes {
    /// Dimension of states.
    pub width: usize,
    /// Blocks of the transformer.
    pub blocks: usize,
    /// Tokens of a context.
    pub order: usize,
    /// AdamW's learning rate; unconstrained features take ten times as much.
    pub learning_rate: f64,
    /// Factor of `|weights|^2 / 2` in the loss.
    pub ridge: f64,
    /// What initial weights are drawn from.
    pub seed: u64,
}

/// Layers of a perceptron and of a long short-term memory.
const LAYERS: usize = 2;

impl NetworkKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ufm, Self::Transformer, Self::Mlp, Self::Lstm];

    fn name(self) -> &'static str {
        match self {
            Self::Ufm => "UFM",
            Self::Transformer => "transformer",
            Self::Mlp => "MLP",
            Self::Lstm => "LSTM",
        }
    }
}

impl FromStr for NetworkKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "ufm" => Ok(Self::Ufm),
            "transformer" => Ok(Self::Transformer),
            "mlp" => Ok(Self::Mlp),
            "lstm" => Ok(Self::Lstm),
            _ => Err(format!(
                "`{name}` is none of ufm, transformer, mlp and lstm (with a number of steps: ufm:20000)"
            )),
        }
    }
}

impl NetworkPlan {
    /// A network of an experiment in the paper's manner: AdamW on all contexts, 1,000 steps, or 20,000 of
    /// unconstrained features, unless others are asked for.
    ///
    /// # Errors
    /// A width that the transformer's heads cannot share.
    pub fn new(
        kind: NetworkKind,
        steps: Option<u64>,
        sizes: &NetworkSizes,
    ) -> Result<Self, RunError> {
        const HEADS: usize = defaults::HEADS;
        let (width, layers) = (sizes.width, LAYERS);
        let network = match kind {
            NetworkKind::Ufm => NetworkChoice::Features { width },
            NetworkKind::Transformer => {
                if !width.is_multiple_of(2 * HEADS) {
                    return Err(RunError::Usage(format!(
                        "--width {width} cannot be shared by {HEADS} heads: it should be a multiple of {}",
                        2 * HEADS
                    )));
                }
                NetworkChoice::Decoder {
                    layers: sizes.blocks,
                    width,
                    heads: HEADS,
                    feed_forward: width.saturating_mul(8) / 3,
                }
            }
            NetworkKind::Mlp => NetworkChoice::Mlp {
                layers,
                width,
                order: sizes.order,
            },
            NetworkKind::Lstm => NetworkChoice::Lstm { layers, width },
        };
        let (usual, rate) = match kind {
            NetworkKind::Ufm => (20_000, 10.0),
            _ => (1000, 1.0),
        };
        Ok(Self {
            name: kind.name().into(),
            network,
            training: Training {
                steps: steps.unwrap_or(usual),
                optimizer: Optimizer::ADAMW,
                learning_rate: sizes.learning_rate * rate,
                warmup: WARMUP,
                final_rate: FINAL_RATE,
                weight_decay: 0.0,
                ridge: sizes.ridge,
                clip: Some(CLIP),
                seed: sizes.seed,
            },
        })
    }
}
