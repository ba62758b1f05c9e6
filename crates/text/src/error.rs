use std::path::{Path, PathBuf};

use lawvere_core::{KernelError, SparseError};
use lawvere_token::TokenError;
use thiserror::Error;

/// Why a corpus cannot be read, indexed or asked, or a language made or asked.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum TextError {
    #[error("no corpus: name at least one text file, or a folder of .txt files")]
    NoPaths,
    #[error("{path}: no such file or folder", path = path.display())]
    Missing { path: PathBuf },
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: the folder holds no .txt file", path = path.display())]
    NoTextFiles { path: PathBuf },
    #[error("{path}: empty: no document with text (blank lines are skipped)", path = path.display())]
    Empty { path: PathBuf },
    #[error("{path}: looks binary: byte {offset} is NUL; a corpus is plain text in UTF-8", path = path.display())]
    Binary { path: PathBuf, offset: usize },
    #[error("{path}: byte {offset} (0x{byte:02X}) is not UTF-8; convert the file, or replace such bytes with --lossy", path = path.display())]
    NotUtf8 {
        path: PathBuf,
        offset: usize,
        byte: u8,
    },
    #[error("the corpus has no document with text")]
    NoDocuments,
    #[error("the tokenizer makes no token out of this corpus")]
    NoTokens,
    #[error(
        "the corpus has {symbols} tokens and document ends or more; an index holds fewer than 2^31 = 2147483648"
    )]
    TooLarge { symbols: usize },
    #[error("the tokenizer gave token id {token}, outside its own vocabulary of {vocab_size}")]
    TokenOutOfRange { token: u32, vocab_size: usize },
    #[error("the suffix array could not be built: {0}")]
    SuffixArray(String),
    #[error("{path}: {problem}; rebuild it with `lawvere index`", path = path.display())]
    Index { path: PathBuf, problem: String },
    #[error("{path}: {problem}; choose another place for the index", path = path.display())]
    Destination { path: PathBuf, problem: String },
    #[error("{path}: cannot be written: {source}", path = path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "no context of {order} tokens occurs at least {min_count} times; the longest document has {longest_document} tokens"
    )]
    NoContexts {
        order: usize,
        min_count: u64,
        longest_document: usize,
    },
    #[error("{option}: {problem}")]
    Option {
        option: &'static str,
        problem: String,
    },
    #[error("the index contradicts itself ({problem}); rebuild it with `lawvere index`")]
    Inconsistent { problem: String },
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("line {line} of the grammar: {problem}")]
    Grammar { line: usize, problem: String },
    #[error(
        "a language of {words} words cannot be made; the built-in one has from {least} to {most}"
    )]
    LanguageSize {
        words: usize,
        least: usize,
        most: usize,
    },
    #[error(
        "token id {token} is outside the language, whose words are the ids below {vocab_size} and whose end of a story is {vocab_size}"
    )]
    NotInLanguage { token: u32, vocab_size: usize },
    #[error("{reading} `{context}`: the context has probability 0, and no law")]
    ImpossibleContext {
        reading: &'static str,
        context: String,
    },
    #[error("there are more than {limit} {what}; {remedy}")]
    TooMany {
        what: &'static str,
        limit: usize,
        remedy: &'static str,
    },
}

impl From<SparseError> for TextError {
    fn from(error: SparseError) -> Self {
        Self::Inconsistent {
            problem: error.to_string(),
        }
    }
}

impl From<TextError> for KernelError {
    fn from(error: TextError) -> Self {
        Self::Other(Box::new(error))
    }
}

impl TextError {
    pub(crate) fn reading(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            std::io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Unreadable { path, source },
        }
    }

    pub(crate) fn writing(path: &Path, source: std::io::Error) -> Self {
        Self::Write {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn index(path: &Path, problem: impl Into<String>) -> Self {
        Self::Index {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
