use lawvere_core::ShapeError;
use lawvere_core::linalg::LinalgError;
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
        "the cross-entropy is infinite: after `{context}` the corpus has `{token}`, which the model gives probability 0"
    )]
    NotAbsolutelyContinuous { context: String, token: String },
    #[error("the Fisher-Rao metric of a head with a logit soft-cap is not supported")]
    SoftCap,
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Linalg(#[from] LinalgError),
}
