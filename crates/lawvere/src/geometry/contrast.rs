use std::path::PathBuf;

use lawvere_geometry::{
    CompareOptions, Comparison, GeometryError, MaxMarginOptions, Prediction, Supports, Vocabulary,
    compare, max_margin,
};
use serde::Serialize;

use super::solve::check_room;
use super::source::{ContextPlace, ContextSource, Given};
use crate::origin::Origin;
use crate::{Event, RunError};

/// What [`contrast`] compares.
#[derive(Debug, Clone, PartialEq)]
pub struct ContrastOptions {
    /// The folder of an observation of a model.
    pub observation: PathBuf,
    /// The folder of one of the same contexts, read by the same network untrained.
    pub untrained: Option<PathBuf>,
    /// The tokens that are rows of S.
    pub vocabulary: Vocabulary,
    /// How many leading singular triplets of the proxy are the prediction.
    pub rank: usize,
    /// Solve for the max-margin logits and take them as the prediction instead of the proxy.
    pub exact: Option<MaxMarginOptions>,
    /// How many times states are dealt to contexts for each control.
    pub deals: usize,
    /// At most so many layers, spread evenly, the last among them.
    pub layers: Option<usize>,
    /// What deals and samples start from.
    pub seed: u64,
}

/// [`Comparison`] with what it rests on.
#[derive(Debug, Clone, Serialize)]
pub struct Contrast {
    /// What was found.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// `proxy` or `max-margin`: what the prediction is of.
    pub prediction: &'static str,
    /// How exact the max-margin logits are, if they are it.
    pub relative_gap: Option<f64>,
    /// What it rests on.
    pub source: Origin,
    /// The untrained network.
    pub untrained: Option<Origin>,
}

/// Holds a model against the geometry that its corpus predicts, layer by layer, with controls.
///
/// # Errors
/// What opening the observations meets; what [`compare`] or, for an exact prediction, [`max_margin`]
/// refuses.
pub fn contrast(
    options: &ContrastOptions,
    on_event: &mut dyn FnMut(Event),
) -> Result<Contrast, RunError> {
    let mut open = |path: &PathBuf| {
        let source = ContextSource {
            place: ContextPlace::Observation(path.clone()),
            vocabulary: options.vocabulary,
        };
        source.read(on_event)
    };
    let Given {
        what: observation,
        origin,
    } = open(&options.observation)?;
    let untrained = options.untrained.as_ref().map(open).transpose()?;
    let mut compared = CompareOptions {
        vocabulary: options.vocabulary,
        rank: options.rank,
        deals: options.deals,
        layers: options.layers,
        ..CompareOptions::default()
    };
    let mut relative_gap = None;
    if let Some(exact) = &options.exact {
        on_event(Event::Part("max-margin logits".into()));
        let supports = Supports::over(&observation, options.vocabulary);
        let supports = supports.map_err(|e| origin.error(e))?;
        check_room(
            &options.observation,
            supports.vocabulary(),
            supports.contexts(),
        )?;
        let solved = max_margin(&supports, exact, &mut |_| {}).map_err(|e| origin.error(e))?;
        let prediction = Prediction::from_logits(&solved.logits());
        compared.prediction = Some(prediction.map_err(|e| origin.error(e))?);
        relative_gap = Some(solved.relative_gap);
    }
    on_event(Event::Part(format!(
        "comparing {} contexts",
        observation.rows()
    )));
    let (before, untrained) = match untrained {
        Some(Given { what, origin }) => (Some(what), Some(origin)),
        None => (None, None),
    };
    let comparison = compare(&observation, before.as_ref(), &compared, options.seed);
    let blamed = |error: GeometryError| match (&error, &untrained) {
        (GeometryError::Argument { what, .. }, Some(other)) if what.contains("untrained") => {
            other.error(error)
        }
        _ => origin.error(error),
    };
    Ok(Contrast {
        comparison: comparison.map_err(blamed)?,
        prediction: match options.exact {
            Some(_) => "max-margin",
            None => "proxy",
        },
        relative_gap,
        source: origin,
        untrained,
    })
}
