//! The texts of a space, and vectors on them.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::{ArgGroup, Args, ValueEnum};
use lawvere::metric::{
    self, CountSource, MetricError, Order, Origin, TextChoice, TextSet, read_extended,
};
use lawvere::{RunError, TokenizerChoice};
use serde::Serialize;

use super::SCHEMA;
use crate::args::{ComputeArgs, CorpusArgs, Global, told_with};
use crate::output::Screen;

/// A result and what it rests on.
#[derive(Serialize)]
struct Sourced<'a, T> {
    #[serde(flatten)]
    result: &'a T,
    source: &'a Origin,
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarded: Option<usize>,
}

pub fn answer<T: Serialize>(
    result: &T,
    set: &TextSet,
    global: &Global,
    start: Instant,
    told: impl FnOnce(&T) -> String,
) -> Result<String, RunError> {
    let sourced = Sourced {
        result,
        source: &set.source,
        forwarded: set.forwarded,
    };
    told_with(SCHEMA, &sourced, global, start, |_| told(result))
}

/// Where the space comes from.
#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).args(["space", "index", "corpus", "model"])))]
#[command(group(ArgGroup::new("chosen").args(["texts", "within"])))]
pub struct SpaceArgs {
    /// The space: JSON with `texts`, `order` (prefix, subtext, given) and `edges` [[i, j, Pr(j|i)], ...] of covering pairs
    #[arg(long, value_name = "SPACE.json")]
    space: Option<PathBuf>,
    /// The space of texts of a corpus, by its index: Pr(b|a) = count(b) / count(a)
    #[arg(long, value_name = "FOLDER")]
    index: Option<PathBuf>,
    /// The same of a corpus that is indexed for this question alone: files, folders, patterns
    #[arg(long, num_args = 1.., value_name = "PATH")]
    corpus: Vec<PathBuf>,
    /// With --corpus: `words`, `bytes`, or the path of a GGUF checkpoint, a tokenizer.json or a folder that holds one
    #[arg(long, default_value = "words", value_name = "TOKENIZER", conflicts_with_all = ["space", "index", "model"])]
    tokenizer: TokenizerChoice,
    #[command(flatten)]
    reading: CorpusArgs,
    /// The space of texts by how a model goes on with them, in the order of prefixes: a GGUF file or a folder
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    #[command(flatten)]
    compute: ComputeArgs,
    /// The texts of --index, --corpus or --model, one a line; a blank line is left out with --model and the empty text
    /// otherwise, which is within all others
    #[arg(long, value_name = "FILE", conflicts_with = "space")]
    texts: Option<PathBuf>,
    /// In their place all texts within this one (with --model or --order prefix all that it begins with); may be given again
    /// [default: the texts asked about, where there are some]
    #[arg(long, value_name = "TEXT", conflicts_with = "space")]
    within: Vec<String>,
    /// The lines of --texts are token ids, separated by spaces or commas
    #[arg(long, requires = "texts", conflicts_with_all = ["space", "model", "within"])]
    ids: bool,
    /// With --index or --corpus, how texts are ordered
    #[arg(long, value_enum, default_value = "subtext", conflicts_with_all = ["space", "model"])]
    order: OrderChoice,
}

/// A text extends what stands within it, or its prefixes.
#[derive(Clone, Copy, ValueEnum)]
enum OrderChoice {
    Subtext,
    Prefix,
}

/// What a question is about, which is a space where none is named.
pub enum Asked<'a> {
    /// A whole space.
    Nothing,
    /// Two texts, of which no other is needed.
    Pair(&'a str, &'a str),
    /// A text and all within it.
    Within(&'a str),
}

impl SpaceArgs {
    /// The space; where neither --texts nor --within says which texts, that of `asked`.
    pub fn open(&self, asked: Asked<'_>, screen: &mut Screen) -> Result<TextSet, RunError> {
        if self.corpus.is_empty() {
            self.reading.without_corpus()?;
        }
        if let Some(space) = &self.space {
            return metric::read_space(space);
        }
        let given = |texts: Vec<String>, within, argument: &str| TextChoice::Given {
            texts,
            within,
            argument: argument.into(),
        };
        let choice = match (&self.texts, &self.within[..], asked) {
            (Some(file), ..) => TextChoice::Lines {
                file: file.clone(),
                ids: self.ids,
            },
            (None, [], Asked::Nothing) => {
                return Err(RunError::Usage(
                    "say which texts the space is of: --texts FILE with one a line, or --within TEXT".into(),
                ));
            }
            (None, [], Asked::Pair(a, b)) => {
                given(vec![a.to_owned(), b.to_owned()], false, "the text")
            }
            (None, [], Asked::Within(text)) => given(vec![text.to_owned()], true, "the text"),
            (None, some, _) => given(some.to_vec(), true, "--within"),
        };
        let on_event = &mut |event| screen.show(event);
        let from = match (&self.index, &self.model) {
            (Some(index), _) => CountSource::Index(index.clone()),
            (None, Some(model)) => {
                return metric::space_of_model(&self.compute.of(model), &choice, on_event);
            }
            (None, None) => {
                let options = self.reading.options(&self.corpus);
                CountSource::Corpus(options, self.tokenizer.clone())
            }
        };
        let order = match self.order {
            OrderChoice::Subtext => Order::Subtext,
            OrderChoice::Prefix => Order::Prefix,
        };
        metric::space_of_corpus(&from, &choice, order, on_event)
    }
}

/// A space and a vector on it.
#[derive(Args)]
pub struct VectorArgs {
    #[command(flatten)]
    space: SpaceArgs,
    /// A number for every text: a JSON array ("inf" and "-inf" are infinite), or the name of a .json, .npy or .safetensors
    #[arg(long, value_name = "VECTOR", allow_hyphen_values = true)]
    vector: String,
}

impl VectorArgs {
    pub fn open(&self, screen: &mut Screen) -> Result<(TextSet, Vec<f64>), RunError> {
        Ok((
            self.space.open(Asked::Nothing, screen)?,
            read_extended(&self.vector)?,
        ))
    }

    pub fn named<T>(&self, result: Result<T, RunError>) -> Result<T, RunError> {
        named(&self.vector, result)
    }
}

/// What is wrong with a vector, with the name of its file.
pub fn named<T>(vector: &str, result: Result<T, RunError>) -> Result<T, RunError> {
    let of_vector = |error: &MetricError| {
        let what = match error {
            MetricError::VectorLength { what, .. }
            | MetricError::VectorEntry { what, .. }
            | MetricError::Outside { what, .. } => *what,
            _ => return false,
        };
        what.starts_with("the vector")
    };
    result.map_err(|error| match error {
        RunError::Metric(error) if of_vector(&error) => {
            match vector.trim_start().starts_with('[') {
                true => RunError::Usage(format!("--vector: {error}")),
                false => RunError::Input {
                    path: PathBuf::from(vector),
                    what: error.to_string(),
                },
            }
        }
        other => other,
    })
}

/// A number in twelve columns at most: very large and very small ones with a power of ten.
pub fn number(x: f64) -> String {
    match x.abs() {
        large if large >= 1e9 && large.is_finite() => format!("{x:.4e}"),
        small if small > 0.0 && small < 1e-4 => format!("{x:.4e}"),
        _ => {
            let fixed = format!("{x:.6}");
            match fixed.contains('.') {
                true => fixed.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => fixed,
            }
        }
    }
}

/// Vectors side by side, a line a text.
pub fn table(names: &[String], columns: &[(&str, &[f64])]) -> String {
    let mut out = String::new();
    for (title, _) in columns {
        let _ = write!(out, "{title:>12}  ");
    }
    out.push_str("text");
    for (i, name) in names.iter().enumerate() {
        out.push('\n');
        for (_, values) in columns {
            let value = values.get(i).copied().unwrap_or(f64::NAN);
            let _ = match value.abs() {
                0.0 | 1e-4..1e9 => write!(out, "{value:>12.6}  "),
                _ => write!(out, "{:>12}  ", number(value)),
            };
        }
        let _ = write!(out, "{name:?}");
    }
    out
}
