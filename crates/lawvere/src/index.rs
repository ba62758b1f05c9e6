use std::path::{Path, PathBuf};

use lawvere_text::{Corpus, DocumentUnit, TextSpace};
use lawvere_token::Tokenizer;

use crate::{Event, RunError};

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenizerChoice {
    /// White-space words, the vocabulary taken from the corpus.
    Words,
    /// Bytes.
    Bytes,
    /// A GGUF checkpoint, a `tokenizer.json`, or a folder that holds one.
    File(PathBuf),
}

impl std::str::FromStr for TokenizerChoice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "words" => Self::Words,
            "bytes" => Self::Bytes,
            path => Self::File(path.into()),
        })
    }
}

/// What [`index`](fn@index) reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexOptions {
    /// Text files, or folders of `.txt` files.
    pub corpus: Vec<PathBuf>,
    /// What a document is.
    pub documents: DocumentUnit,
    /// Replace bytes that are not UTF-8 rather than refuse them.
    pub lossy: bool,
}

/// Indexes a corpus into the folder `out`; an index of the same corpus and tokenizer that is
/// already there is opened instead.
///
/// # Errors
/// What reading the corpus, the tokenizer or the destination meets.
pub fn index(
    options: &IndexOptions,
    tokenizer: &TokenizerChoice,
    out: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<TextSpace, RunError> {
    let tokenizer = tokenizer.open()?;
    index_with(options, tokenizer.as_ref(), out, on_event)
}

impl TokenizerChoice {
    /// The tokenizer; `None` for the corpus's words.
    fn open(&self) -> Result<Option<Tokenizer>, RunError> {
        Ok(match self {
            Self::Words => None,
            Self::Bytes => Some(Tokenizer::bytes()?),
            Self::File(path) if !path.exists() => {
                return Err(RunError::Usage(format!(
                    "the tokenizer {} is neither `words`, `bytes` nor a file or folder",
                    path.display()
                )));
            }
            Self::File(path) => Some(Tokenizer::open(path)?),
        })
    }
}

/// The index of a corpus, in memory only.
pub(crate) fn space(
    options: &IndexOptions,
    tokenizer: &TokenizerChoice,
    on_event: &mut dyn FnMut(Event),
) -> Result<TextSpace, RunError> {
    let tokenizer = tokenizer.open()?;
    on_event(Event::Part("reading the corpus".into()));
    let corpus = Corpus::read(&options.corpus, options.documents, options.lossy)?;
    let tokenizer = match tokenizer {
        Some(tokenizer) => tokenizer,
        None => Tokenizer::words(corpus.documents())?,
    };
    let mut on_stage = |stage: &str| on_event(Event::Part(stage.to_owned()));
    Ok(TextSpace::build(&corpus, &tokenizer, &mut on_stage)?)
}

/// [`index`](fn@index) with a tokenizer at hand; `None` takes the corpus's words.
pub(crate) fn index_with(
    options: &IndexOptions,
    tokenizer: Option<&Tokenizer>,
    out: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<TextSpace, RunError> {
    TextSpace::check_destination(out)?;
    on_event(Event::Part("reading the corpus".into()));
    let corpus = Corpus::read(&options.corpus, options.documents, options.lossy)?;
    let words;
    let tokenizer = match tokenizer {
        Some(tokenizer) => tokenizer,
        None => {
            words = Tokenizer::words(corpus.documents())?;
            &words
        }
    };
    if let Some(space) = existing(out, &corpus, tokenizer) {
        on_event(Event::Part(format!("using the index in {}", out.display())));
        return Ok(space);
    }
    let mut on_stage = |stage: &str| on_event(Event::Part(stage.to_owned()));
    TextSpace::build(&corpus, tokenizer, &mut on_stage)?.save(out)?;
    on_event(Event::Part(format!("index written to {}", out.display())));
    Ok(TextSpace::open(out)?)
}

fn existing(out: &Path, corpus: &Corpus, tokenizer: &Tokenizer) -> Option<TextSpace> {
    let space = TextSpace::open(out).ok()?;
    let info = space.info();
    let same = info.corpus_identity == corpus.identity()
        && info.tokenizer_identity == tokenizer.identity()
        && info.document_unit == corpus.unit()
        && info.lossy == corpus.lossy()
        && info.corpus_paths == corpus.paths()
        && info.tool_version == env!("CARGO_PKG_VERSION");
    same.then_some(space)
}
