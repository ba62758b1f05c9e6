use std::path::{Path, PathBuf};

use lawvere_core::{KernelError, ShapeError};
use lawvere_text::TextError;
use lawvere_token::TokenError;
use thiserror::Error;

/// Why an Observation cannot be made, written or read.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum ObserveError {
    #[error("{path}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: {what}", path = path.display())]
    Malformed { path: PathBuf, what: String },
    #[error("{path}: its checksum does not match observation.json: the file was damaged or changed; make the observation again", path = path.display())]
    Checksum { path: PathBuf },
    #[error("{path}: {what}; choose another destination", path = path.display())]
    Destination { path: PathBuf, what: String },
    #[error(
        "the index was made with the tokenizer {index}, the model reads {model}: index the corpus with the model's tokenizer (lawvere index build --tokenizer MODEL)"
    )]
    TokenizerMismatch { index: String, model: String },
    #[error("{0}")]
    Option(String),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

impl ObserveError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn malformed(path: &Path, what: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            what: what.into(),
        }
    }
}
