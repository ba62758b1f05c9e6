use std::path::{Path, PathBuf};

use lawvere_text::Language;
use serde::Serialize;

use crate::RunError;
use crate::report::write_stories;

/// What [`stories`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoriesOptions {
    /// The language's number of words.
    pub words: usize,
    /// How many stories.
    pub stories: usize,
    /// What they are drawn from.
    pub seed: u64,
}

/// The built-in language in exact figures, and what was told of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoriesSummary {
    /// Words; the end of a story is one more outcome.
    pub words: usize,
    /// Hidden states.
    pub states: usize,
    /// Transitions between them.
    pub transitions: usize,
    /// Nats a symbol, ends of stories counted as symbols.
    pub entropy_rate: f64,
    /// H(next | last n symbols) for n = 0, 1, 2, 3, nats.
    pub conditional_entropies: Vec<f64>,
    /// Expected symbols of a story, its end counted.
    pub symbols_per_story: f64,
    /// The SHA-256 of the words and the transitions.
    pub identity: String,
    /// Where the stories are, if they were written.
    pub out: Option<PathBuf>,
    /// The first story.
    pub example: String,
}

/// The longest contexts whose conditional entropy is told.
const ORDER: usize = 3;

/// Tells stories of the built-in language, one a line of the file `out`, and its exact figures.
///
/// # Errors
/// A number of words that the language cannot have; what writing meets.
pub fn stories(options: &StoriesOptions, out: Option<&Path>) -> Result<StoriesSummary, RunError> {
    let language = Language::stories(options.words)?;
    if let Some(path) = out {
        write_stories(&language, options.seed, options.stories, path, false)?;
    }
    let first = language.documents(options.seed, 1);
    Ok(StoriesSummary {
        words: language.vocab_size(),
        states: language.state_count(),
        transitions: language.transition_count(),
        entropy_rate: language.entropy_rate(),
        conditional_entropies: language.conditional_entropies(ORDER)?,
        symbols_per_story: language.symbols_per_story(),
        identity: language.identity().into(),
        out: out.map(Path::to_owned),
        example: first.first().map_or(String::new(), |s| language.text(s)),
    })
}
