//! Corpora indexed, and what an index is asked.

mod ask;
mod growth;

use std::path::{Path, PathBuf};

use lawvere_text::{BuildOptions, Corpus, CorpusOptions, CorpusReader, TextSpace, words_of};
use lawvere_token::Tokenizer;

pub use self::ask::{
    Contexts, Count, Counts, Distance, Distances, Found, FoundContext, Law, Laws, Neighbour,
    Neighbours, Occurrence, Occurrences, Outcome, Pair, Query, Sampled, Samples, contexts, counts,
    distances, laws, lines_of, neighbours, positions, queries, queries_of, samples,
};
pub use self::growth::{SupportGrowth, growth};
use crate::model::fetch_model;
use crate::{Event, RunError};

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenizerChoice {
    /// White-space words, the vocabulary taken from the corpus.
    Words,
    /// Bytes.
    Bytes,
    /// Token ids below a number: no text, but files of tokens can be indexed.
    Ids(usize),
    /// A GGUF checkpoint, a `tokenizer.json`, or a folder that holds one.
    File(PathBuf),
}

impl std::str::FromStr for TokenizerChoice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "words" => Self::Words,
            "bytes" => Self::Bytes,
            ids if ids
                .strip_prefix("ids:")
                .is_some_and(|n| n.parse::<u32>().is_ok()) =>
            {
                Self::Ids(ids[4..].parse().unwrap_or(0))
            }
            path => Self::File(path.into()),
        })
    }
}

/// Indexes a corpus into the folder `out`; an index of the same corpus and tokenizer that is
/// already there is opened instead.
///
/// # Errors
/// What reading the corpus, the tokenizer or the destination meets.
pub fn index(
    options: &CorpusOptions,
    tokenizer: &TokenizerChoice,
    build: &BuildOptions,
    out: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<TextSpace, RunError> {
    let tokenizer = tokenizer.open(on_event)?;
    index_with(options, tokenizer.as_ref(), build, out, on_event)
}

/// Adds a corpus to the index in `folder`; with a tokenizer, only if it is the index's.
///
/// # Errors
/// What reading the corpus or the index meets, another tokenizer.
pub fn append(
    folder: &Path,
    options: &CorpusOptions,
    tokenizer: Option<&TokenizerChoice>,
    build: &BuildOptions,
    on_event: &mut dyn FnMut(Event),
) -> Result<TextSpace, RunError> {
    let wanted = match tokenizer {
        Some(TokenizerChoice::Words) | None => None,
        Some(choice) => choice.open(on_event)?,
    };
    if let Some(wanted) = wanted {
        let found = TextSpace::describe(folder)?.tokenizer_identity;
        if found != wanted.identity() {
            return Err(RunError::Usage(format!(
                "{}: the index was made with tokenizer {found}, not with {}; what is appended is read with the index's own",
                folder.display(),
                wanted.identity()
            )));
        }
    }
    let reader = CorpusReader::open(options.clone())?;
    let mut on_stage = |stage: &str| on_event(Event::Part(stage.to_owned()));
    Ok(TextSpace::append(folder, &reader, build, &mut on_stage)?)
}

impl TokenizerChoice {
    /// The tokenizer; `None` for the corpus's words.
    fn open(&self, on_event: &mut dyn FnMut(Event)) -> Result<Option<Tokenizer>, RunError> {
        if let Self::File(path) = self {
            fetch_model(path, on_event)?;
        }
        Ok(match self {
            Self::Words => None,
            Self::Bytes => Some(Tokenizer::bytes()?),
            Self::Ids(size) => {
                let numbers: Vec<String> = (0..*size).map(|id| id.to_string()).collect();
                Some(Tokenizer::of_words(&numbers)?)
            }
            Self::File(path) if !lawvere_token::resolve(path)?.exists() => {
                return Err(RunError::Usage(format!(
                    "the tokenizer {} is neither `words`, `bytes`, `ids:N` nor a file or folder",
                    path.display()
                )));
            }
            Self::File(path) => Some(Tokenizer::open(path)?),
        })
    }
}

/// The index of a corpus, in memory only.
pub(crate) fn space(
    options: &CorpusOptions,
    tokenizer: &TokenizerChoice,
    on_event: &mut dyn FnMut(Event),
) -> Result<TextSpace, RunError> {
    let tokenizer = tokenizer.open(on_event)?;
    on_event(Event::Part("reading the corpus".into()));
    let corpus = Corpus::read(options)?;
    in_memory(&corpus, tokenizer.as_ref(), on_event)
}

/// A corpus in memory, indexed with a tokenizer or with its own words.
fn in_memory(
    corpus: &Corpus,
    tokenizer: Option<&Tokenizer>,
    on_event: &mut dyn FnMut(Event),
) -> Result<TextSpace, RunError> {
    let words;
    let tokenizer = match tokenizer {
        Some(tokenizer) => tokenizer,
        None => {
            words = Tokenizer::words(corpus.documents())?;
            &words
        }
    };
    let mut on_stage = |stage: &str| on_event(Event::Part(stage.to_owned()));
    Ok(TextSpace::build(corpus, tokenizer, &mut on_stage)?)
}

/// [`index`](fn@index) with a tokenizer at hand; `None` takes the corpus's words.
pub(crate) fn index_with(
    options: &CorpusOptions,
    tokenizer: Option<&Tokenizer>,
    build: &BuildOptions,
    out: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<TextSpace, RunError> {
    TextSpace::check_destination(out)?;
    let reader = CorpusReader::open(options.clone())?;
    let words;
    let tokenizer = match tokenizer {
        Some(tokenizer) => tokenizer,
        None if options.reads_standard_input() => {
            // It can be read only once, and its words have to be known first.
            on_event(Event::Part("reading the corpus".into()));
            let corpus = Corpus::read(options)?;
            let space = in_memory(&corpus, None, on_event)?;
            space.save(out)?;
            on_event(Event::Part(format!("index written to {}", out.display())));
            return Ok(space);
        }
        None => {
            on_event(Event::Part("counting words".into()));
            words = words_of(&reader)?;
            &words
        }
    };
    if let Some(space) = existing(out, &reader, tokenizer, build)? {
        on_event(Event::Part(format!("using the index in {}", out.display())));
        return Ok(space);
    }
    let mut on_stage = |stage: &str| on_event(Event::Part(stage.to_owned()));
    let space = TextSpace::build_at(out, &reader, tokenizer, build, &mut on_stage)?;
    on_event(Event::Part(format!("index written to {}", out.display())));
    Ok(space)
}

/// The index that is there already, if it is of this corpus, read in this way.
fn existing(
    out: &Path,
    reader: &CorpusReader,
    tokenizer: &Tokenizer,
    build: &BuildOptions,
) -> Result<Option<TextSpace>, RunError> {
    let Ok(info) = TextSpace::describe(out) else {
        return Ok(None);
    };
    let options = reader.options();
    let mut same = info.tokenizer_identity == tokenizer.identity()
        && info.reading.as_ref() == Some(&options.reading())
        && info.corpus_paths == options.paths
        && info.tool_version == env!("CARGO_PKG_VERSION")
        && info
            .shards
            .iter()
            .all(|s| s.tokens + s.documents <= build.shard_symbols as u64);
    same = same && reader.identity()?.as_ref() == Some(&info.corpus_identity);
    Ok(if same {
        TextSpace::open(out).ok()
    } else {
        None
    })
}
