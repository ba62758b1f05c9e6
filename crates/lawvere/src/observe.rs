use std::path::{Path, PathBuf};

use lawvere_lm::LanguageModel;
use lawvere_observe::{ContextPlan, Draft, Layers, Observation, Observer, PositionPlan};
use lawvere_text::TextSpace;

use crate::cost::operations_per_second;
use crate::model::{ModelSource, fetch_model};
use crate::{Event, RunError, TrainingRecord};

/// Which rows are observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChoice {
    /// Distinct contexts of one order.
    Contexts(ContextPlan),
    /// Positions in running text.
    Positions(PositionPlan),
}

/// What [`observe`](fn@observe) makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObserveOptions {
    /// The folder of an index.
    pub index: PathBuf,
    /// A checkpoint; without one only the corpus is observed.
    pub model: Option<ModelSource>,
    /// The seed of other weights than the checkpoint's own, as before training: a control.
    pub untrained: Option<u64>,
    /// Which rows.
    pub rows: RowChoice,
    /// Which layers' states are kept.
    pub layers: Layers,
}

/// Makes an Observation in the folder `out`.
///
/// # Errors
/// What opening the index and the model, choosing rows, reading them or writing meets.
pub fn observe(
    options: &ObserveOptions,
    out: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<Observation, RunError> {
    let space = TextSpace::open(&options.index)?;
    let model = match &options.model {
        None => None,
        Some(source) => {
            let path = &source.path;
            fetch_model(path, on_event)?;
            on_event(Event::Part(format!("loading {}", path.display())));
            let trained = TrainingRecord::beside(path);
            let own = space.tokenizer().identity();
            if trained.is_some_and(|t| t.tokenizer_sha256 != own) {
                return Err(RunError::Usage(format!(
                    "{}: it was trained with another tokenizer than the index has; index the corpus with --tokenizer {}",
                    path.display(),
                    path.display()
                )));
            }
            Some(match options.untrained {
                None => source.open()?,
                Some(seed) => LanguageModel::untrained(path, seed)?,
            })
        }
    };
    let observer = Observer::new(&space, model.as_ref(), &options.layers)?;
    let draft = match &options.rows {
        RowChoice::Contexts(plan) => observer.contexts(plan)?,
        RowChoice::Positions(plan) => observer.positions(plan)?,
    };
    make(&observer, &draft, out, "reading", 0.0, on_event)
}

/// Makes a draft, telling its cost first. `further` is the number of floating-point operations
/// that the run will spend on the Observation afterwards.
pub(crate) fn make(
    observer: &Observer<'_>,
    draft: &Draft,
    out: &Path,
    what: &str,
    further: f64,
    on_event: &mut dyn FnMut(Event),
) -> Result<Observation, RunError> {
    if let Some(finished) = observer.finished(draft, out) {
        on_event(Event::Part(format!(
            "using the observation in {}",
            out.display()
        )));
        return Ok(finished);
    }
    if let Some(cost) = observer.cost(draft)? {
        // About half of the peak is reached once norms, attention and exponentials are counted.
        let seconds = (cost.operations + further) / (0.5 * operations_per_second());
        // While an Observation is made, states are held once more by the file being read back.
        let memory = (cost.weight_bytes + 2 * cost.state_bytes) as u64;
        on_event(Event::Estimate {
            tokens: cost.tokens,
            seconds,
            memory,
            disk: (cost.state_bytes + cost.weight_bytes) as u64,
        });
    }
    on_event(Event::Part(format!("{what}: {} rows", draft.rows())));
    let mut on_progress = |p: lawvere_observe::Progress| {
        on_event(Event::Progress {
            done: p.done,
            total: p.total,
        });
    };
    Ok(observer.make(draft, out, &mut on_progress)?)
}
