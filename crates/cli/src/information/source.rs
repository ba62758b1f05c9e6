//! What a measure is taken of.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use lawvere::information::{InformationSource, ObservationPlace};
use lawvere::observation::{ContextPlan, Layers, PositionPlan};
use lawvere::{RowChoice, RunError};

use crate::args::{ComputeArgs, CorpusArgs, positive};

/// An observation, or a model and a corpus.
#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).args(["observation", "corpus"])))]
pub struct SourceArgs {
    /// The folder of an observation
    #[arg(long, value_name = "FOLDER")]
    observation: Option<PathBuf>,
    /// A GGUF checkpoint or a checkpoint folder: with --corpus it reads it; beside --observation it is
    /// asked where a measure needs the model itself
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Text files in UTF-8, or folders of .txt files, observed for this command alone (`lawvere observe`
    /// keeps the observation for others)
    #[arg(long, num_args = 1.., value_name = "PATH", requires = "model")]
    corpus: Vec<PathBuf>,
    #[command(flatten)]
    reading: CorpusArgs,
    /// With --corpus: layers whose states are kept: spread (seven), all, last, or a list like 0,15,30
    #[arg(long, requires = "corpus")]
    keep_layers: Option<Layers>,
}

impl SourceArgs {
    fn source(&self, rows: RowChoice) -> InformationSource {
        InformationSource {
            place: match &self.observation {
                Some(folder) => ObservationPlace::Folder(folder.clone()),
                None => ObservationPlace::Made {
                    corpus: self.reading.options(&self.corpus),
                    rows,
                    layers: self.keep_layers.clone().unwrap_or(Layers::Spread),
                },
            },
            model: self.model.as_ref().map(|m| self.compute.of(m)),
        }
    }

    fn only_for_corpus(&self, flags: &[(&str, bool)]) -> Result<(), RunError> {
        match flags
            .iter()
            .find(|(_, given)| *given && self.observation.is_some())
        {
            Some((flag, _)) => Err(RunError::Usage(format!(
                "{flag} chooses rows of a --corpus; an observation's rows are chosen"
            ))),
            None => Ok(()),
        }
    }
}

/// A source whose rows are contexts, unless the observation says otherwise.
#[derive(Args)]
pub struct ContextsArgs {
    #[command(flatten)]
    of: SourceArgs,
    /// With --corpus: tokens of a context [default: 3]
    #[arg(long)]
    order: Option<usize>,
    /// With --corpus: the fewest occurrences of a context [default: 2]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    min_count: Option<u64>,
    /// With --corpus: how many contexts at most, the most frequent first [default: 5000]
    #[arg(long, value_parser = positive)]
    contexts: Option<usize>,
}

impl ContextsArgs {
    pub fn source(&self) -> Result<InformationSource, RunError> {
        self.of.only_for_corpus(&[
            ("--order", self.order.is_some()),
            ("--min-count", self.min_count.is_some()),
            ("--contexts", self.contexts.is_some()),
        ])?;
        Ok(self.of.source(RowChoice::Contexts(ContextPlan {
            order: self.order.unwrap_or(3),
            min_count: self.min_count.unwrap_or(2),
            top: Some(self.contexts.unwrap_or(5000)),
            document_end: None,
        })))
    }
}

/// A source whose rows are positions in running text, unless the observation says otherwise.
#[derive(Args)]
pub struct PositionsArgs {
    #[command(flatten)]
    of: SourceArgs,
    /// With --corpus: positions of running text, documents read whole [default: 20000]
    #[arg(long, value_parser = positive)]
    positions: Option<usize>,
    /// With --corpus: the longest prefix read, in tokens [default: 512, or as far as the model reads]
    #[arg(long)]
    window: Option<usize>,
}

impl PositionsArgs {
    pub fn source(&self, seed: u64) -> Result<InformationSource, RunError> {
        self.of.only_for_corpus(&[
            ("--positions", self.positions.is_some()),
            ("--window", self.window.is_some()),
        ])?;
        Ok(self.of.source(RowChoice::Positions(PositionPlan {
            positions: self.positions.unwrap_or(20_000),
            window: self.window,
            seed,
        })))
    }
}
