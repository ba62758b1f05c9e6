use std::path::PathBuf;

use lawvere_information::InformationError;
use lawvere_lm::LanguageModel;
use lawvere_observe::{Layers, Observation, Observer};
use lawvere_text::CorpusOptions;
use serde::Serialize;

use crate::model::{ModelSource, open_model};
use crate::origin::Origin;
use crate::{Event, RowChoice, RunError, TokenizerChoice};

/// Where an observation comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservationPlace {
    /// Its folder.
    Folder(PathBuf),
    /// A corpus, indexed with the model's own tokenizer and observed for this run alone.
    Made {
        /// Where the corpus is.
        corpus: CorpusOptions,
        /// Which rows.
        rows: RowChoice,
        /// Layers whose states are kept.
        layers: Layers,
    },
}

/// What is measured: an observation and, where it is asked itself, its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InformationSource {
    /// The observation.
    pub place: ObservationPlace,
    /// The model's checkpoint; needed to make an observation, and by what asks the model.
    pub model: Option<ModelSource>,
}

/// A result with what it rests on.
#[derive(Debug, Clone, Serialize)]
pub struct Measured<T> {
    /// The result.
    #[serde(flatten)]
    pub result: T,
    /// The kind of the observation's rows.
    pub kind: lawvere_observe::Kind,
    /// The number of rows.
    pub rows: usize,
    /// What it rests on.
    pub source: Origin,
}

/// An opened source.
pub(super) struct Opened {
    pub observation: Observation,
    pub model: Option<LanguageModel>,
    pub origin: Origin,
}

impl InformationSource {
    /// Opens or makes the observation; the model too, where there is one.
    pub(super) fn open(&self, on_event: &mut dyn FnMut(Event)) -> Result<Opened, RunError> {
        match &self.place {
            ObservationPlace::Folder(path) => {
                let observation = Observation::open(path)?;
                let origin = Origin::of_observation(path, &observation)?;
                let model = match &self.model {
                    Some(model) => Some(open_model(model, on_event)?),
                    None => None,
                };
                if let (Some(model), Some(observed)) = (&model, &origin.model_sha256)
                    && model.identity() != observed
                {
                    return Err(RunError::Usage(format!(
                        "--model {}: it is not the model of the observation in {}, or not in its precision",
                        model.path().display(),
                        path.display()
                    )));
                }
                Ok(Opened {
                    observation,
                    model,
                    origin,
                })
            }
            ObservationPlace::Made {
                corpus,
                rows,
                layers,
            } => {
                let Some(path) = &self.model else {
                    return Err(RunError::Usage(
                        "--corpus needs a --model that reads it".into(),
                    ));
                };
                let tokenizer = TokenizerChoice::File(path.path.clone());
                let space = crate::index::space(corpus, &tokenizer, on_event)?;
                let model = open_model(path, on_event)?;
                let observer = Observer::new(&space, Some(&model), layers)?;
                let draft = match rows {
                    RowChoice::Contexts(plan) => observer.contexts(plan)?,
                    RowChoice::Positions(plan) => observer.positions(plan)?,
                };
                let folder = tempfile::tempdir().map_err(|source| RunError::Io {
                    path: std::env::temp_dir(),
                    source,
                })?;
                let out = folder.path().join("observation");
                let observation =
                    crate::observe::make(&observer, &draft, &out, "reading", 0.0, on_event)?;
                let mut origin = Origin::files("corpus", &[])?;
                origin.paths = corpus.paths.clone();
                origin.rests_on(&observation);
                drop(observer);
                Ok(Opened {
                    observation,
                    model: Some(model),
                    origin,
                })
            }
        }
    }
}

/// The error of an argument as that of its flag; any other as it is.
pub(super) fn flagged(error: InformationError) -> RunError {
    match error {
        InformationError::Argument { argument, what } => {
            RunError::Usage(format!("--{argument}: {what}"))
        }
        error => error.into(),
    }
}

impl Opened {
    /// A result of it.
    pub fn measured<T>(self, result: T) -> Measured<T> {
        Measured {
            kind: self.observation.info.kind,
            rows: self.observation.rows(),
            result,
            source: self.origin,
        }
    }

    /// The error of a measure, with the folder or corpus it is about.
    pub fn error(&self, error: InformationError) -> RunError {
        let asked = matches!(
            error,
            InformationError::Argument { .. } | InformationError::UnknownLayer { .. }
        );
        match self.origin.paths.first() {
            Some(path) if !asked => RunError::Input {
                path: path.clone(),
                what: error.to_string(),
            },
            _ => flagged(error),
        }
    }

    /// An error of a run on it: of a measure as [`error`](Self::error) has it, any other as it is.
    pub fn located(&self, error: RunError) -> RunError {
        match error {
            RunError::Information(error) => self.error(error),
            error => error,
        }
    }

    /// The model, or an error that says what for.
    pub fn need_model(&self, what: &str) -> Result<&LanguageModel, RunError> {
        self.model.as_ref().ok_or_else(|| {
            RunError::Usage(format!(
                "{what} asks the model itself: give its checkpoint with --model beside --observation"
            ))
        })
    }
}
