use std::path::{Path, PathBuf};

use lawvere_core::KernelError;
use lawvere_token::TokenError;
use thiserror::Error;

use crate::families::MODEL_TYPES;
use crate::gguf::ARCHITECTURES;

/// Why a checkpoint cannot be used, or what is asked of a model not be answered.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum LmError {
    #[error("{path}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: {what}", path = path.display())]
    Checkpoint { path: PathBuf, what: String },
    #[error("{path}: the architecture `{found}` is not supported; supported: {supported}", path = path.display())]
    Architecture {
        path: PathBuf,
        found: String,
        supported: String,
    },
    #[error("{path}: the tokenizer has {tokenizer} tokens, the model {model}: they do not belong together", path = path.display())]
    TokenizerMismatch {
        path: PathBuf,
        tokenizer: usize,
        model: usize,
    },
    #[error("{0}")]
    Argument(String),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error("training: {0}")]
    Training(String),
    #[error(
        "the loss is {loss} at step {step}: the run has diverged; take a smaller learning rate than {rate}, or a smaller limit to the gradient's length"
    )]
    Diverged { loss: f64, step: usize, rate: f64 },
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// What loads, for people.
pub(crate) fn supported() -> String {
    let types = MODEL_TYPES.map(|(name, _)| name).join(", ");
    let architectures = ARCHITECTURES.map(|(name, _)| name).join(", ");
    format!(
        "Hugging Face folders of model_type {types}; GGUF files of general.architecture {architectures}; and the networks that `lawvere train` makes"
    )
}

impl LmError {
    pub(crate) fn checkpoint(path: &Path, what: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.to_owned(),
            what: what.into(),
        }
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
