use lawvere_core::ShapeError;
use lawvere_core::linalg::LinalgError;
use lawvere_core::stoch::StochError;
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
    #[error(
        "there is nothing to measure: {tokens} tokens, {contexts} contexts; at least one of each is needed"
    )]
    Empty { tokens: usize, contexts: usize },
    #[error(
        "the support matrix is {value} at token {token}, context {context} (counted from 0); its entries are 0 or 1"
    )]
    NotBinary {
        token: usize,
        context: usize,
        value: f64,
    },
    #[error(
        "context {context} (counted from 0) has no next token: an empty support is no law; leave the context out"
    )]
    EmptySupport { context: usize },
    #[error("{what}, context {context} (counted from 0): {source}")]
    Law {
        what: &'static str,
        context: usize,
        source: StochError,
    },
    #[error(
        "the probability of token {token} after context {context} (both counted from 0) is {value}; probabilities are more than 0 and at most 1"
    )]
    Probability {
        token: usize,
        context: usize,
        value: f64,
    },
    #[error(
        "the reduced problem has {tokens} distinct tokens x {contexts} distinct contexts, more than the limit of {limit} entries that are solved exactly: take fewer contexts, or look at the proxy, which never forms that matrix"
    )]
    TooLarge {
        tokens: usize,
        contexts: usize,
        limit: usize,
    },
    #[error(
        "{what}: the entry at row {row}, column {column} (counted from 0) is {value}; it should be a finite number"
    )]
    NotFinite {
        what: &'static str,
        row: usize,
        column: usize,
        value: f64,
    },
    #[error("{what}: {problem}")]
    Argument { what: &'static str, problem: String },
    #[error("the weight of context {context} (counted from 0) is {value}; weights are more than 0")]
    Weight { context: usize, value: f64 },
    #[error("the contexts' weights: {0}")]
    Weights(StochError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Linalg(#[from] LinalgError),
}
