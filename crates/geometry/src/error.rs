use lawvere_core::ShapeError;
use lawvere_core::linalg::LinalgError;
use thiserror::Error;

/// Why the geometry of an Observation cannot be measured.
#[derive(Debug, Clone, PartialEq, Error)]
#[allow(missing_docs)]
pub enum GeometryError {
    #[error(
        "this measure needs an observation of kind contexts; on positions every law is a single token"
    )]
    NeedsContexts,
    #[error("this measure needs a model's states; the observation was made from a corpus alone")]
    NeedsStates,
    #[error("this measure needs a model's head; the observation has none")]
    NeedsHead,
    #[error(
        "the context `{context}` is followed by the end of its document, for which the model has no outcome; drop document ends"
    )]
    DocumentEnd { context: String },
    #[error("no context is followed by two different tokens, so there are no log-odds to compare")]
    NoLogOdds,
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Linalg(#[from] LinalgError),
}
