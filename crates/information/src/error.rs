use lawvere_core::ShapeError;
use lawvere_core::linalg::LinalgError;
use lawvere_core::stoch::StochError;
use thiserror::Error;

/// Why a quantity cannot be computed.
#[derive(Debug, Clone, PartialEq, Error)]
#[allow(missing_docs)]
pub enum InformationError {
    #[error(
        "this measure needs a model's states and head; the observation was made from a corpus alone"
    )]
    NeedsModel,
    #[error("this measure needs an observation of kind positions")]
    NeedsPositions,
    #[error(
        "{0} needs an observation of kind contexts: at positions of running text the data's law is the one token that followed"
    )]
    NeedsContexts(&'static str),
    #[error(
        "the cross-entropy is infinite: after `{context}` the corpus has `{token}`, which the model gives probability 0"
    )]
    NotAbsolutelyContinuous { context: String, token: String },
    #[error(
        "{0} of a head with a logit soft-cap is not supported: its formula is that of a linear head"
    )]
    SoftCap(&'static str),
    #[error("layer {layer} is not in the observation, which has layers {}", list(.known))]
    UnknownLayer { layer: usize, known: Vec<usize> },
    #[error("{argument}: {what}")]
    Argument {
        argument: &'static str,
        what: String,
    },
    #[error("{what} needs at least {needed} {of}; there are {found}")]
    TooFew {
        what: &'static str,
        of: &'static str,
        needed: usize,
        found: usize,
    },
    #[error(transparent)]
    Stoch(#[from] StochError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Linalg(#[from] LinalgError),
}

impl InformationError {
    /// An error about an argument.
    pub(crate) fn argument(argument: &'static str, what: impl Into<String>) -> Self {
        Self::Argument {
            argument,
            what: what.into(),
        }
    }
}

fn list(numbers: &[usize]) -> String {
    let words: Vec<String> = numbers.iter().map(usize::to_string).collect();
    words.join(", ")
}
