use std::path::PathBuf;

use lawvere_core::{KernelError, ShapeError};
use lawvere_geometry::GeometryError;
use lawvere_information::InformationError;
use lawvere_lm::LmError;
use lawvere_metric::MetricError;
use lawvere_observe::ObserveError;
use lawvere_text::TextError;
use lawvere_token::TokenError;
use thiserror::Error;

/// Why a run failed.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum RunError {
    #[error("{path}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{0}")]
    Usage(String),
    #[error("{path}: {what}", path = path.display())]
    Input { path: PathBuf, what: String },
    #[error("{path}: the checkpoint folder has no tokenizer.json, so texts cannot be read; put the model's tokenizer beside its weights", path = path.display())]
    NoTokenizer { path: PathBuf },
    #[error("{path}: it gives {contexts} contexts of order {order}, {open} of them followed by different tokens; a report needs two contexts, one of them with two possible next tokens: take a smaller --order or --min-count, or more text", path = path.display())]
    Contexts {
        path: PathBuf,
        contexts: usize,
        order: usize,
        open: usize,
    },
    #[error("{0}")]
    Report(String),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Lm(#[from] LmError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Metric(#[from] MetricError),
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    #[error(transparent)]
    Information(#[from] InformationError),
}

impl RunError {
    /// Whether the arguments were wrong, rather than the run's inputs.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Usage(_)
                | Self::Observe(ObserveError::Option(_) | ObserveError::Destination { .. })
                | Self::Text(
                    TextError::Option { .. }
                        | TextError::Destination { .. }
                        | TextError::LanguageSize { .. }
                )
                | Self::Lm(LmError::Training(_) | LmError::Argument(_))
                | Self::Metric(
                    MetricError::Argument { .. }
                        | MetricError::NoText { .. }
                        | MetricError::Repeated(_)
                        | MetricError::NotBelow { .. }
                )
                | Self::Geometry(GeometryError::Argument { .. })
                | Self::Information(
                    InformationError::Argument { .. } | InformationError::UnknownLayer { .. }
                )
        )
    }
}
