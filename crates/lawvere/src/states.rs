//! What a report says of a model's states: tokens ahead, drafting, alignment, similarity, and the way there
//! along training.

use std::path::Path;

use lawvere_core::stoch::Divergence;
use lawvere_information as lens;
use lawvere_information::{
    HeadOptions, InformationError, SimilarityKernel, SimilarityOptions, Whose,
};
use lawvere_lm::LanguageModel;
use lawvere_observe::{ContextPlan, Layers, Observation, Observer};
use lawvere_report::{DraftPage, ExactAhead, StatesPage, TrainingPoint};
use lawvere_text::{Language, TextSpace};

use crate::experiment::watch::measured_steps;
use crate::information::{BoundOptions, DraftOptions, block_information, draft_with};
use crate::observe::make;
use crate::{Event, RunError, checkpoint_folder, truth};

/// Tokens after the next that heads are fitted for.
const AHEAD: [usize; 3] = [1, 2, 4];
/// The longest block of the bounds.
const BLOCK: usize = 4;
/// Layers that heads are fitted on.
const HEAD_LAYERS: usize = 3;
const BOUNDS: BoundOptions = BoundOptions {
    contexts: 48,
    groups: 2,
};
const HEADS: HeadOptions = HeadOptions {
    outcomes: 1024,
    batch: 256,
    learning_rate: 0.5,
    epochs: 200,
    validation: 0.1,
    test: 0.25,
    seed: 0,
};
const DRAFTED: usize = 3;
const PREFIXES: usize = 200;
const PREFIX_TOKENS: (usize, usize) = (6, 24);
const DEALS: usize = 5;
const SIMILAR: usize = 2048;
const MAP: usize = 48;

/// Kept checkpoints of a training run of these many steps: the first few change little, and step 0 stands at 1
/// on the figure's logarithmic axis.
pub(crate) fn checkpoint_steps(steps: u64) -> Vec<u64> {
    let mut kept = measured_steps(steps);
    kept.retain(|&step| step == 0 || step >= 5 || step == steps);
    kept
}

/// What the page of the states is made of.
pub(crate) struct StatesMaterial<'a> {
    pub model: &'a LanguageModel,
    pub space: &'a TextSpace,
    /// Contexts, with the plan that they were made by.
    pub contexts: &'a Observation,
    pub plan: &'a ContextPlan,
    pub positions: &'a Observation,
    pub language: Option<&'a Language>,
    /// The folder of what was trained for the report, with its checkpoints' steps.
    pub trained: Option<(&'a Path, &'a [u64])>,
    pub layers: &'a Layers,
    pub seed: u64,
    /// The report's folder.
    pub out: &'a Path,
}

impl StatesMaterial<'_> {
    /// Everything that can be said; what cannot is left out, and its reason noted.
    pub fn page(&self, on_event: &mut dyn FnMut(Event)) -> Result<StatesPage, RunError> {
        let mut notes = Vec::new();
        let seed = self.seed;
        let heads = HeadOptions { seed, ..HEADS };
        on_event(Event::Part("tokens ahead".into()));
        let layers = spread(self.positions, HEAD_LAYERS);
        let usable = lens::usable_surplus(
            self.positions,
            &layers,
            &AHEAD,
            &heads,
            &mut |done, total| on_event(Event::Progress { done, total }),
        );
        let usable = kept(usable.map_err(RunError::from), "usable surplus", &mut notes)?;
        let bounds = block_information(self.model, self.positions, BOUNDS, BLOCK, seed, on_event);
        let bounds = kept(bounds, "bounds of block information", &mut notes)?;
        let options = DraftOptions {
            length: DRAFTED,
            layer: None,
            prefixes: PREFIXES,
            prefix_tokens: PREFIX_TOKENS,
            drafts: 4,
            rounds: 4,
            cost: None,
            heads,
        };
        let draft = draft_with(self.model, self.positions, &options, seed, on_event);
        let draft = kept(draft, "drafting", &mut notes)?;
        on_event(Event::Part("alignment and similarity".into()));
        let untrained = self.untrained(on_event)?;
        let alignment =
            lens::spectral_alignment(self.contexts, untrained.as_ref(), DEALS, seed, &mut |_| {})?;
        let exact = match self.language {
            Some(language) => Some(truth::contexts(language, self.contexts)?),
            None => None,
        };
        let stochasticity = |o: &Observation| lens::stochasticity(o, &lens::STOCHASTICITY, None);
        // Where the laws are known, counts of them are not what contexts are compared by.
        let judged = exact.as_ref().unwrap_or(self.contexts);
        let similar = |whose| {
            let options = SimilarityOptions {
                kernel: SimilarityKernel::Bhattacharyya,
                contexts: SIMILAR,
                seed,
                ..SimilarityOptions::default()
            };
            lens::similarity(judged, whose, &options)
        };
        Ok(StatesPage {
            usable,
            bounds: bounds.map(|b| b.bounds),
            exact_ahead: match self.language {
                Some(language) => Some(ExactAhead {
                    block: language.block_information(BLOCK)?,
                    single: language.token_information(BLOCK),
                }),
                None => None,
            },
            draft: draft.map(|d| DraftPage {
                layer: d.layer,
                length: d.length,
                drafted_tokens: d.drafted_tokens,
                model: d.model_prefixes,
                corpus: d.corpus_prefixes,
                decoding: d.decoding,
            }),
            stochasticity: stochasticity(self.contexts)?,
            exact_stochasticity: exact.as_ref().map(stochasticity).transpose()?,
            similarity: vec![similar(Whose::Model)?, similar(Whose::Data)?],
            map: lens::similarity_map(judged, SimilarityKernel::Bhattacharyya, MAP)?,
            along: self.along(on_event)?,
            alignment,
            notes,
        })
    }

    /// The same contexts read by the network untrained; kept in the report's folder.
    fn untrained(&self, on_event: &mut dyn FnMut(Event)) -> Result<Option<Observation>, RunError> {
        let untrained = LanguageModel::untrained(self.model.path(), self.seed)?;
        let observer = Observer::new(self.space, Some(&untrained), self.layers)?;
        let plan = observer.contexts(self.plan)?;
        let folder = self.out.join("untrained");
        Ok(Some(make(
            &observer,
            &plan,
            &folder,
            "reading contexts, untrained",
            0.0,
            on_event,
        )?))
    }

    /// Every checkpoint on the same contexts.
    fn along(&self, on_event: &mut dyn FnMut(Event)) -> Result<Vec<TrainingPoint>, RunError> {
        let (Some((folder, steps)), Some(language)) = (self.trained, self.language) else {
            return Ok(Vec::new());
        };
        on_event(Event::Part("along training".into()));
        let mut points = Vec::with_capacity(steps.len());
        for &step in steps {
            let model = LanguageModel::open(&checkpoint_folder(folder, step))?;
            let observer = Observer::new(self.space, Some(&model), &Layers::Last)?;
            let plan = observer.contexts(self.plan)?;
            let place = self.out.join("along").join(format!("step-{step}"));
            std::fs::create_dir_all(self.out.join("along")).map_err(|source| RunError::Io {
                path: place.clone(),
                source,
            })?;
            let observation = make(
                &observer,
                &plan,
                &place,
                "reading contexts",
                0.0,
                &mut |_| {},
            )?;
            let exact = truth::contexts(language, &observation)?;
            // The prototypes are the exact laws' too: nothing is estimated but by the contexts chosen.
            let alignment = lens::spectral_alignment(&exact, None, DEALS, self.seed, &mut |_| {})?;
            let divergences = [Divergence::KullbackLeibler, Divergence::TotalVariation];
            let Some(last) = alignment.layers.last() else {
                continue;
            };
            points.push(TrainingPoint {
                step,
                alignment: last.alignment,
                shuffled: last.shuffled,
                cka: last.cka,
                cka_shuffled: last.cka_shuffled,
                stochasticity: lens::stochasticity(&exact, &divergences, None)?,
                cross_entropy: lens::cross_entropy(&exact)?,
            });
        }
        Ok(points)
    }
}

/// A part, or why there is none: what the data do not allow is noted, what failed fails.
fn kept<T>(
    part: Result<T, RunError>,
    what: &str,
    notes: &mut Vec<String>,
) -> Result<Option<T>, RunError> {
    match part {
        Ok(part) => Ok(Some(part)),
        Err(
            error @ (RunError::Usage(_)
            | RunError::Information(
                InformationError::TooFew { .. } | InformationError::Argument { .. },
            )),
        ) => {
            notes.push(format!("no {what}: {error}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// `count` of the kept layers, evenly spread, the last among them.
pub(crate) fn spread(observation: &Observation, count: usize) -> Vec<usize> {
    let layers = observation.states.iter().flat_map(|s| s.layers());
    let all: Vec<usize> = layers.map(|(layer, _)| layer).collect();
    let (last, count) = (all.len().saturating_sub(1), count.min(all.len()));
    let gaps = count.saturating_sub(1).max(1);
    // Counted from the last, which is there however few there are.
    (0..count)
        .rev()
        .map(|i| all[last - i * last / gaps])
        .collect()
}
