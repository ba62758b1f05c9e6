//! The geometry of a network while it learns contexts with soft labels.

use std::io::Write;
use std::path::{Path, PathBuf};

use lawvere_geometry::{
    ContextLaws, GeometryError, MaxMarginOptions, Prediction, Supports, max_margin,
};
use lawvere_lm::train::Trainer;
use lawvere_token::disk::write_file;
use serde::{Deserialize, Serialize};

use super::choice::Measures;
use super::material::Material;
use super::record::MEASURES;
use crate::experiment::watch::{Target, laws_of, measured_steps};
use crate::{Event, RunError};

/// Up to this many outcomes times contexts the prediction is solved for unless another is asked for:
/// there it takes less than a second.
const SMALL: usize = 50_000;
/// Singular triplets of the proxy, where that is the prediction.
const TRIPLETS: usize = 64;
/// The certified gap of a prediction that is solved for.
const TOLERANCE: f64 = 1e-6;

/// What a network was held against along its training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Along {
    /// `max-margin` or `proxy`.
    pub prediction: String,
    /// The certified relative gap of the max-margin logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_gap: Option<f64>,
    /// How many singular triplets of it are known, and the share of its energy that they have.
    pub rank: usize,
    /// See [`rank`](Self::rank).
    pub captured: f64,
    /// H, nats: the least that the cross-entropy can be.
    pub entropy: f64,
    /// CE - H after the last step, nats.
    pub excess: f64,
    /// The cosine of the logits with the prediction's after the last step.
    pub logits_cosine: f64,
    /// The file of all measures, a line of JSON for each step measured.
    pub file: String,
}

/// Measures a network after 0, 1, 2, 5, 10, 20, 50, ... steps and the last.
pub(super) struct Watch {
    laws: ContextLaws,
    prediction: Prediction,
    kind: &'static str,
    relative_gap: Option<f64>,
    /// Steps not yet measured, the next one last.
    due: Vec<u64>,
    /// What was measured: the step, its line.
    lines: Vec<(u64, String)>,
    excess: f64,
    cosine: f64,
    path: PathBuf,
}

impl Watch {
    /// What training is held against, unless nothing is asked for or predicted. Lines that are already
    /// in `folder` up to the step reached stay as they are.
    pub fn new(
        measures: Measures,
        material: &Material,
        trainer: &Trainer,
        folder: &Path,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Option<Self>, RunError> {
        if measures == Measures::None || !material.has_contexts() {
            return Ok(None);
        }
        let laws = laws_of(&material.soft_labels()?.0)?;
        if laws.supports.vocabulary() < 2 {
            return Ok(None);
        }
        let predicted = predict(&laws.supports, measures, trainer.training().seed, on_event);
        let (prediction, kind, relative_gap) = match predicted {
            Ok(predicted) => predicted,
            // Whatever is asked for, there is none.
            Err(GeometryError::Argument {
                what: "prediction",
                problem,
            }) => {
                on_event(Event::Warning(format!("no measures: {problem}")));
                return Ok(None);
            }
            Err(error @ GeometryError::TooLarge { .. }) => {
                return Err(RunError::Usage(format!(
                    "--measures exact: {error} (--measures proxy)"
                )));
            }
            Err(error) => return Err(error.into()),
        };
        let path = folder.join(MEASURES);
        let reached = trainer.losses().len() as u64;
        let lines = lines_before(&path, reached);
        let last = lines.last().map(|(step, _)| *step);
        let mut due = measured_steps(trainer.training().steps);
        due.retain(|step| last.is_none_or(|last| *step > last) && *step >= reached);
        due.reverse();
        Ok(Some(Self {
            laws,
            prediction,
            kind,
            relative_gap,
            due,
            lines,
            excess: f64::NAN,
            cosine: f64::NAN,
            path,
        }))
    }

    /// Measures if the step reached is one of those to measure.
    pub fn look(&mut self, trainer: &mut Trainer) -> Result<(), RunError> {
        let step = trainer.losses().len() as u64;
        if self.due.last() != Some(&step) {
            return Ok(());
        }
        self.due.pop();
        self.measure(step, trainer)
    }

    fn measure(&mut self, step: u64, trainer: &mut Trainer) -> Result<(), RunError> {
        let target = Target {
            laws: &self.laws,
            prediction: &self.prediction,
            path: None,
        };
        let point = target.look(trainer)?;
        self.excess = point.measures.excess;
        self.cosine = point.measures.prediction.raw;
        let io = |source: std::io::Error| RunError::Io {
            path: self.path.clone(),
            source,
        };
        let line = serde_json::to_string(&point).map_err(|e| io(e.into()))?;
        self.lines.push((step, line));
        Ok(())
    }

    /// Writes what was measured.
    pub fn save(&self) -> Result<(), RunError> {
        let lines = || self.lines.iter().map(|(_, line)| line);
        let written = write_file(&self.path, |file| {
            lines().try_for_each(|line| writeln!(file, "{line}"))
        });
        written.map_err(|source| RunError::Io {
            path: self.path.clone(),
            source,
        })
    }

    /// What it was held against; the network as it is in the end is measured, if it has not been.
    pub fn finish(mut self, trainer: &mut Trainer) -> Result<Along, RunError> {
        if self.excess.is_nan() {
            let step = trainer.losses().len() as u64;
            self.lines.retain(|(other, _)| *other < step);
            self.measure(step, trainer)?;
        }
        self.save()?;
        Ok(Along {
            prediction: self.kind.into(),
            relative_gap: self.relative_gap,
            rank: self.prediction.rank(),
            captured: self.prediction.captured(),
            entropy: self.laws.entropy(),
            excess: self.excess,
            logits_cosine: self.cosine,
            file: MEASURES.into(),
        })
    }
}

type Predicted = (Prediction, &'static str, Option<f64>);

fn predict(
    supports: &Supports,
    measures: Measures,
    seed: u64,
    on_event: &mut dyn FnMut(Event),
) -> Result<Predicted, GeometryError> {
    let size = supports.vocabulary() * supports.contexts();
    let exact = measures == Measures::Exact || (measures == Measures::Auto && size <= SMALL);
    if !exact {
        let prediction = Prediction::from_proxy(supports, TRIPLETS, seed)?;
        return Ok((prediction, "proxy", None));
    }
    on_event(Event::Part("solving for the max-margin logits".into()));
    let options = MaxMarginOptions {
        tolerance: TOLERANCE,
        ..MaxMarginOptions::default()
    };
    let solved = max_margin(supports, &options, &mut |_| {})?;
    let prediction = Prediction::from_logits(&solved.logits())?;
    Ok((prediction, "max-margin", Some(solved.relative_gap)))
}

/// The lines of a file that are of steps up to `reached`.
fn lines_before(path: &Path, reached: u64) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let step = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        value["step"].as_u64()
    };
    let lines = text
        .lines()
        .map_while(|line| Some((step(line)?, line.to_owned())));
    lines.take_while(|(step, _)| *step <= reached).collect()
}
