use lawvere_core::TropicalError;
use thiserror::Error;

/// Why texts do not form a directed metric space.
#[derive(Debug, Clone, PartialEq, Error)]
#[allow(missing_docs)]
pub enum MetricError {
    #[error("{texts} texts do not match {probabilities} log-probabilities")]
    Lengths { texts: usize, probabilities: usize },
    #[error("text {text} names text {parent} as its prefix; a prefix comes before its extensions")]
    Parent { text: usize, parent: usize },
    #[error("text {text} extends its prefix with log-probability {value}; it should be at most 0")]
    LogProbability { text: usize, value: f64 },
    #[error("the two spaces do not hold the same texts in the same order")]
    DifferentTexts,
    #[error(transparent)]
    Tropical(#[from] TropicalError),
}
