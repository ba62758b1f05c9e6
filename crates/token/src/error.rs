use std::path::PathBuf;

use thiserror::Error;

/// Why a tokenizer cannot be read or used.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum TokenError {
    #[error("{path}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: not a usable GGUF file: {what}", path = path.display())]
    Gguf { path: PathBuf, what: String },
    #[error("{path}: not a tokenizer.json: {what}", path = path.display())]
    Json { path: PathBuf, what: String },
    #[error("{path}: the tokenizer inside is {found}, which is not supported; supported: {supported}", path = path.display())]
    UnsupportedTokenizer {
        path: PathBuf,
        found: String,
        supported: &'static str,
    },
    #[error("hf:{name}: {what}")]
    Hub { name: String, what: String },
    #[error("the text cannot be tokenized: {0}")]
    Encode(String),
    #[error("token ids cannot be turned into text: {0}")]
    Decode(String),
    #[error("a word vocabulary needs at least one word")]
    NoWords,
    #[error(
        "`{word}` cannot be a word of a vocabulary: words are different, and without white space"
    )]
    Word { word: String },
}

impl TokenError {
    pub(crate) fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
