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
    #[error("{path}: {problem}", path = path.display())]
    Pattern { path: PathBuf, problem: String },
    #[error("{path}: the folder holds no file of a corpus (.txt, .jsonl, .csv, .tsv, .parquet)", path = path.display())]
    NoTextFiles { path: PathBuf },
    #[error("{path}: empty: no document with text (blank lines are skipped)", path = path.display())]
    Empty { path: PathBuf },
    #[error("{path}: looks binary: {at} is NUL; a corpus is text in UTF-8, or in one of the formats --format names", path = path.display())]
    Binary { path: PathBuf, at: String },
    #[error("{path}: {at} (0x{byte:02X}) is not UTF-8; convert the file, or replace such bytes with --lossy", path = path.display())]
    NotUtf8 { path: PathBuf, at: String, byte: u8 },
    #[error("{path}: the {packing} data are damaged or cut short: {problem}", path = path.display())]
    Packed {
        path: PathBuf,
        packing: &'static str,
        problem: String,
    },
    #[error("{path}: {what} is longer than {limit} bytes; raise --longest-document, or cut the documents", path = path.display())]
    LongDocument {
        path: PathBuf,
        what: String,
        limit: usize,
    },
    #[error("{path}: line {line}: {problem}", path = path.display())]
    Record {
        path: PathBuf,
        line: u64,
        problem: String,
    },
    #[error("{path}: {at}no {what} `{field}`; there {are} {listed}; choose with --field",
        path = path.display(), at = line.map_or(String::new(), |l| format!("line {l}: ")),
        are = if found.len() == 1 { "is" } else { "are" }, listed = listed(found))]
    NoField {
        path: PathBuf,
        line: Option<u64>,
        what: &'static str,
        field: String,
        found: Vec<String>,
    },
    #[error("{path}: {problem}", path = path.display())]
    Shape { path: PathBuf, problem: String },
    #[error("{path}: token {position} is {token}, outside the tokenizer's vocabulary of {vocab_size}; is it the tokenizer of these tokens, and are they as wide as --format says?", path = path.display())]
    TokenOutsideVocabulary {
        path: PathBuf,
        token: i64,
        position: u64,
        vocab_size: usize,
    },
    #[error(
        "token ids are indexed with the tokenizer that made them, not with words of the corpus; name it"
    )]
    TokensNeedTokenizer,
    #[error("the corpus has no document with text")]
    NoDocuments,
    #[error("the tokenizer makes no token out of this corpus")]
    NoTokens,
    #[error(
        "a document has {tokens} tokens or more; a shard of this index holds fewer than {limit} tokens and document ends"
    )]
    TooLarge { tokens: usize, limit: usize },
    #[error("the tokenizer gave token id {token}, outside its own vocabulary of {vocab_size}")]
    TokenOutOfRange { token: u32, vocab_size: usize },
    #[error("the suffix array could not be built: {0}")]
    SuffixArray(String),
    #[error("{path}: {problem}; rebuild it with `lawvere index build`", path = path.display())]
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
    #[error("the index contradicts itself ({problem}); rebuild it with `lawvere index build`")]
    Inconsistent { problem: String },
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the context {context} does not occur in the corpus; ask with back-off")]
    Unseen { context: String },
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

/// Names for a message, as many as one can read.
fn listed(names: &[String]) -> String {
    const MOST: usize = 20;
    let shown = names.iter().take(MOST).map(|name| format!("`{name}`"));
    let mut shown: Vec<String> = shown.collect();
    match names.len() {
        0 => return "none".into(),
        n if n > MOST => shown.push(format!("{} more", n - MOST)),
        _ => {}
    }
    shown.join(", ")
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
