//! Where supports and laws come from.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use lawvere::geometry::{ContextPlace, ContextSource, LawSource, SupportSource, Vocabulary};
use lawvere::observation::ContextPlan;
use lawvere::{RunError, TokenizerChoice};

use crate::args::{CorpusArgs, DocumentEndArg, positive};

/// Which tokens are rows.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VocabularyArg {
    /// Those that follow some context
    Occurring,
    /// All that the tokenizer or the model knows
    Full,
}

impl From<VocabularyArg> for Vocabulary {
    fn from(vocabulary: VocabularyArg) -> Self {
        match vocabulary {
            VocabularyArg::Occurring => Self::Occurring,
            VocabularyArg::Full => Self::Full,
        }
    }
}

/// Contexts of a corpus, an index or an observation.
#[derive(Args)]
pub struct ContextArgs {
    /// The folder of an observation of kind contexts
    #[arg(long, value_name = "FOLDER")]
    observation: Option<PathBuf>,
    /// The folder of an index
    #[arg(long, value_name = "FOLDER")]
    index: Option<PathBuf>,
    /// Text files in UTF-8, or folders of .txt files; indexed in memory
    #[arg(long, num_args = 1.., value_name = "PATH")]
    corpus: Vec<PathBuf>,
    #[command(flatten)]
    reading: CorpusArgs,
    /// With --corpus: `words`, `bytes`, or the path of a GGUF checkpoint, a tokenizer.json or a
    /// checkpoint folder [default: words]
    #[arg(long, value_name = "WHAT")]
    tokenizer: Option<TokenizerChoice>,
    /// Tokens of a context, in an index or corpus [default: 3]
    #[arg(long)]
    order: Option<usize>,
    /// The fewest occurrences of a context, in an index or corpus [default: 2]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    min_count: Option<u64>,
    /// How many contexts of an index or corpus, the most frequent first [default: 5000]
    #[arg(long, visible_alias = "top", value_parser = positive)]
    contexts: Option<usize>,
    /// What the end of a document is, in an index or corpus [default: outcome]
    #[arg(long, value_enum)]
    document_end: Option<DocumentEndArg>,
    /// Which tokens are rows of the matrices [default: occurring]
    #[arg(long, value_enum)]
    vocabulary: Option<VocabularyArg>,
}

impl ContextArgs {
    /// The contexts, if any are asked for.
    fn source(&self) -> Result<Option<ContextSource>, RunError> {
        let plan = ContextPlan {
            order: self.order.unwrap_or(3),
            min_count: self.min_count.unwrap_or(2),
            top: Some(self.contexts.unwrap_or(5000)),
            document_end: self.document_end.map(Into::into),
        };
        let choosing = [
            ("--order", self.order.is_some()),
            ("--min-count", self.min_count.is_some()),
            ("--contexts", self.contexts.is_some()),
            ("--document-end", self.document_end.is_some()),
        ];
        let choosing = choosing.iter().find(|(_, given)| *given);
        if self.tokenizer.is_some() && self.corpus.is_empty() {
            return Err(RunError::Usage(
                "--tokenizer is for a --corpus; whatever else is given has its own".into(),
            ));
        }
        let place = match (&self.observation, &self.index, self.corpus.is_empty()) {
            (Some(path), _, _) => {
                if let Some((flag, _)) = choosing {
                    return Err(RunError::Usage(format!(
                        "{flag} chooses contexts of an index or corpus; an observation's contexts are chosen"
                    )));
                }
                ContextPlace::Observation(path.clone())
            }
            (None, Some(path), _) => ContextPlace::Index(path.clone(), plan),
            (None, None, false) => ContextPlace::Corpus {
                corpus: self.reading.options(&self.corpus),
                tokenizer: self.tokenizer.clone().unwrap_or(TokenizerChoice::Words),
                plan,
            },
            (None, None, true) => {
                let vocabulary = ("--vocabulary", self.vocabulary.is_some());
                let stray = choosing.or(Some(&vocabulary).filter(|v| v.1));
                return match stray {
                    Some((flag, _)) => Err(RunError::Usage(format!(
                        "{flag} is for contexts of an index, a corpus or an observation; a matrix is taken as it is"
                    ))),
                    None => Ok(None),
                };
            }
        };
        let vocabulary = self.vocabulary.map_or(Vocabulary::Occurring, Into::into);
        Ok(Some(ContextSource { place, vocabulary }))
    }
}

fn nothing(flags: &str) -> RunError {
    RunError::Usage(format!("one of {flags} is needed"))
}

/// Contexts and nothing else.
#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).args(["observation", "index", "corpus"])))]
pub struct ContextSourceArgs {
    #[command(flatten)]
    contexts: ContextArgs,
}

impl ContextSourceArgs {
    pub fn source(&self) -> Result<ContextSource, RunError> {
        let source = self.contexts.source()?;
        source.ok_or_else(|| nothing("--observation, --index and --corpus"))
    }
}

/// A support matrix, or contexts.
#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).args(["support", "observation", "index", "corpus"])))]
pub struct SupportSourceArgs {
    /// A matrix of zeros and ones, tokens x contexts: .npy, .npz (scipy or numpy) or .safetensors
    /// (FILE.safetensors:NAME chooses a tensor)
    #[arg(long, value_name = "FILE")]
    support: Option<PathBuf>,
    #[command(flatten)]
    contexts: ContextArgs,
}

impl SupportSourceArgs {
    pub fn source(&self) -> Result<SupportSource, RunError> {
        match (self.contexts.source()?, &self.support) {
            (Some(contexts), _) => Ok(SupportSource::Contexts(contexts)),
            (None, Some(path)) => Ok(SupportSource::Matrix(path.clone())),
            (None, None) => Err(nothing("--support, --observation, --index and --corpus")),
        }
    }
}

/// Next-token laws with weights, or contexts.
#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).args(["probabilities", "observation", "index", "corpus"])))]
pub struct LawSourceArgs {
    /// A matrix of next-token probabilities, tokens x contexts; every column sums to 1. .npy, .npz
    /// (scipy or numpy) or .safetensors (FILE.safetensors:NAME chooses a tensor)
    #[arg(long, value_name = "FILE")]
    probabilities: Option<PathBuf>,
    /// With --probabilities: the contexts' weights, which sum to 1, .npy or .safetensors [default: the
    /// array `weights` of an .npz made by `supports --laws`, else all the same]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    contexts: ContextArgs,
}

impl LawSourceArgs {
    pub fn source(&self) -> Result<LawSource, RunError> {
        if self.weights.is_some() && self.probabilities.is_none() {
            return Err(RunError::Usage(
                "--weights is for --probabilities; contexts of a corpus have their own".into(),
            ));
        }
        match (self.contexts.source()?, &self.probabilities) {
            (Some(contexts), _) => Ok(LawSource::Contexts(contexts)),
            (None, Some(path)) => Ok(LawSource::Matrix(path.clone(), self.weights.clone())),
            (None, None) => Err(nothing(
                "--probabilities, --observation, --index and --corpus",
            )),
        }
    }
}
