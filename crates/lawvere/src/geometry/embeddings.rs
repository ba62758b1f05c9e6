use std::path::{Path, PathBuf};

use lawvere_core::RowMatrix;
use lawvere_geometry::{
    ContextLaws, GeometryError, RankLimited, RankLimitedOptions, RankLimitedProgress, Separability,
    SeparabilityOptions, SeparabilityProgress, rank_limited, separability,
};
use serde::Serialize;

use super::source::{ContextPlace, ContextSource, Given, LawSource, SupportSource};
use crate::arrays::{MatrixFile, check_matrix_destinations, write_dense};
use crate::origin::Origin;
use crate::{Event, RunError};

/// Whose embeddings [`separate`] takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateSource {
    /// A file of them, m x d.
    Matrix(PathBuf),
    /// A layer of the observation that the laws are of; `None` for the head's input.
    Layer(Option<usize>),
}

/// Where the matrices of [`separate`] are written; both are V x d.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeparabilityFiles {
    /// W^mm.
    pub margin: Option<PathBuf>,
    /// W^in.
    pub finite: Option<PathBuf>,
}

/// [`Separability`] with what it rests on.
#[derive(Debug, Clone, Serialize)]
pub struct Separated {
    /// What was found.
    #[serde(flatten)]
    pub separability: Separability,
    /// The layer whose states they are.
    pub layer: Option<usize>,
    /// The laws.
    pub source: Origin,
    /// The embeddings, if they came from a file.
    pub states: Option<Origin>,
}

/// Asks what a head can do with given context embeddings, and writes its weights.
///
/// # Errors
/// What reading meets; a layer that the observation does not hold, embeddings of another number of rows
/// than there are contexts; what [`separability`] refuses.
pub fn separate(
    laws: &LawSource,
    states: &StateSource,
    options: &SeparabilityOptions,
    files: &SeparabilityFiles,
    on_event: &mut dyn FnMut(Event),
) -> Result<Separated, RunError> {
    let mut inputs = laws.files();
    if let StateSource::Matrix(path) = states {
        inputs.push(path);
    }
    check_matrix_destinations(&[&files.margin, &files.finite], &inputs, false)?;
    let (given, matrix, layer, from) = match states {
        StateSource::Matrix(path) => {
            let given = laws.read(on_event)?;
            let matrix = MatrixFile::read(path)?.matrix.into_dense(path)?;
            let contexts = given.what.supports.contexts();
            if matrix.nrows() != contexts {
                return Err(RunError::Input {
                    path: path.clone(),
                    what: format!(
                        "{} rows; embeddings have one for each of the {contexts} contexts",
                        matrix.nrows()
                    ),
                });
            }
            let from = Origin::files("matrix", &[path])?;
            (given, matrix, None, Some(from))
        }
        StateSource::Layer(layer) => {
            let LawSource::Contexts(source) = laws else {
                return Err(no_states());
            };
            let ContextPlace::Observation(path) = &source.place else {
                return Err(no_states());
            };
            let (given, matrix, layer) = of_layer(source, path, *layer, on_event)?;
            (given, matrix, Some(layer), None)
        }
    };
    let Given { what: laws, origin } = given;
    on_event(Event::Part(format!(
        "heads over {} embeddings of {} dimensions",
        matrix.nrows(),
        matrix.ncols()
    )));
    let mut on_progress = |p: SeparabilityProgress| {
        on_event(Event::Progress {
            done: p.iteration.min(options.max_iterations)
                + if p.margins { options.max_iterations } else { 0 },
            total: 2 * options.max_iterations,
        });
    };
    let found = separability(&laws, &matrix, options, &mut on_progress);
    let found = found.map_err(|error| match (&error, &from) {
        (
            GeometryError::Argument {
                what: "the laws", ..
            },
            _,
        )
        | (_, None) => origin.error(error),
        (_, Some(states)) => states.error(error),
    })?;
    if !found.converged {
        on_event(Event::Warning(format!(
            "{} products did not suffice for certificates to {:.1e}; what is told is proved all the same, or undecided",
            options.max_iterations, options.tolerance
        )));
    }
    if let (Some(path), Some(weights)) = (&files.margin, found.weights()) {
        write_dense(path, "weights", &weights)?;
    }
    if let Some(path) = &files.finite {
        write_dense(path, "weights", &found.finite_weights())?;
    }
    Ok(Separated {
        separability: found,
        layer,
        source: origin,
        states: from,
    })
}

fn no_states() -> RunError {
    RunError::Usage(
        "--states or an --observation of a model is needed: whose embeddings are they?".into(),
    )
}

/// The laws of an observation and the states of one of its layers.
fn of_layer(
    source: &ContextSource,
    path: &Path,
    layer: Option<usize>,
    on_event: &mut dyn FnMut(Event),
) -> Result<(Given<ContextLaws>, RowMatrix<f64>, usize), RunError> {
    let input = |what: String| RunError::Input {
        path: path.to_owned(),
        what,
    };
    let Given {
        what: observation,
        origin,
    } = source.read(on_event)?;
    let laws = ContextLaws::of(&observation, source.vocabulary).map_err(|e| origin.error(e))?;
    let states = observation.states.as_ref().ok_or_else(|| {
        input("it has no states; it was made from a corpus alone: give --states, or observe a --model".into())
    })?;
    let chosen = layer.unwrap_or_else(|| states.last().0);
    let found = states.layers().find(|(l, _)| *l == chosen);
    let (_, found) = found.ok_or_else(|| {
        let kept: Vec<String> = states.layers().map(|(l, _)| l.to_string()).collect();
        input(format!(
            "it holds no states of layer {chosen}; it holds those of {}",
            kept.join(", ")
        ))
    })?;
    let matrix = found.map(f64::from);
    Ok((Given { what: laws, origin }, matrix, chosen))
}

/// Where the factors of [`limit_rank`] are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FactorFiles {
    /// W, V x d.
    pub words: Option<PathBuf>,
    /// H, m x d.
    pub contexts: Option<PathBuf>,
}

/// [`RankLimited`] with what it rests on.
#[derive(Debug, Clone, Serialize)]
pub struct LimitedRank {
    /// What was found.
    #[serde(flatten)]
    pub found: RankLimited,
    /// What it rests on.
    pub source: Origin,
}

/// Looks for max-margin factors of a limited dimension, and writes them.
///
/// # Errors
/// What reading the source, the search ([`rank_limited`]) or writing meets.
pub fn limit_rank(
    source: &SupportSource,
    dimension: usize,
    options: &RankLimitedOptions,
    files: &FactorFiles,
    on_event: &mut dyn FnMut(Event),
) -> Result<LimitedRank, RunError> {
    let both = [&files.words, &files.contexts];
    check_matrix_destinations(&both, &source.files(), false)?;
    let Given {
        what: supports,
        origin,
    } = source.read(on_event)?;
    on_event(Event::Part(format!(
        "factors of {dimension} dimensions for {} tokens x {} contexts",
        supports.vocabulary(),
        supports.contexts()
    )));
    let starts = options.random_starts + 1;
    let mut on_progress = |p: RankLimitedProgress| {
        on_event(Event::Progress {
            done: p.start * options.max_iterations + p.iteration.min(options.max_iterations),
            total: starts * options.max_iterations,
        });
    };
    let found = rank_limited(&supports, dimension, options, &mut on_progress);
    let found = found.map_err(|e| origin.error(e))?;
    if !found.feasible {
        on_event(Event::Warning(format!(
            "none of {starts} starts came to allowed logits in {dimension} dimensions; that is no proof that there are none"
        )));
    }
    if let Some(path) = &files.words {
        write_dense(path, "words", found.words())?;
    }
    if let Some(path) = &files.contexts {
        write_dense(path, "contexts", found.contexts())?;
    }
    Ok(LimitedRank {
        found,
        source: origin,
    })
}
