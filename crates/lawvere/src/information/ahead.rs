use lawvere_information as lens;
use lawvere_information::{HeadOptions, PairScores, SurplusBounds, UsableSurpluses};
use lawvere_lm::{Generation, LanguageModel, Sampling};
use lawvere_observe::{Kind, Observation};
use serde::Serialize;

use super::source::{InformationSource, Measured, flagged};
use crate::states::spread;
use crate::{Event, RunError};

/// Layers that heads are fitted on unless some are named.
const HEAD_LAYERS: usize = 5;

/// What [`information_ahead`] looks at.
#[derive(Debug, Clone)]
pub struct AheadOptions {
    /// K: the longest block, and the furthest token ahead of the next.
    pub furthest: usize,
    /// Tokens ahead that heads are fitted for; none: powers of two up to K, and K.
    pub ahead: Vec<usize>,
    /// Layers that heads are fitted on; none: five, spread evenly, the last among them.
    pub layers: Vec<usize>,
    /// How heads are fitted.
    pub heads: HeadOptions,
    /// Bounds with continuations that the model draws; `None` leaves them out.
    pub bounds: Option<BoundOptions>,
    /// Whether too few documents for the bounds are an error, rather than a reason for fewer groups or none.
    pub bounds_needed: bool,
}

/// How the bounds are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundOptions {
    /// N: contexts contrasted with one another.
    pub contexts: usize,
    /// Independent groups of them.
    pub groups: usize,
}

/// How much states know beyond the next token; the two readings are different quantities.
#[derive(Debug, Clone, Serialize)]
pub struct AheadReport {
    /// What fitted heads can use, held out; `None` of contexts, which no tokens ahead are known of.
    pub usable: Option<UsableSurpluses>,
    /// Bounds of the block information of the context under the model itself.
    pub bounds: Option<BlockInformation>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

/// The bounds and what they were made of.
#[derive(Debug, Clone, Serialize)]
pub struct BlockInformation {
    /// The bounds.
    #[serde(flatten)]
    pub bounds: SurplusBounds,
    /// The number of different contexts.
    pub distinct_contexts: usize,
    /// The number of their different states: if there are as many as contexts, the information of the context
    /// is that of the state.
    pub distinct_states: usize,
    /// Tokens taken through the network.
    pub forwarded: usize,
}

/// Information surplus of a model's states: what a linear head can use of the tokens after the next, and
/// bounds of what the context tells about whole blocks ([`layers`](super::layers) has I(S;W_t) itself).
///
/// # Errors
/// What opening the source meets; K = 0; bounds without a model or with fewer documents than contexts;
/// [`lens::usable_surplus`].
pub fn information_ahead(
    source: &InformationSource,
    options: &AheadOptions,
    seed: u64,
    on_event: &mut dyn FnMut(Event),
) -> Result<Measured<AheadReport>, RunError> {
    if options.furthest == 0 {
        return Err(RunError::Usage(
            "--k 0: give 1 or more, tokens after the next".into(),
        ));
    }
    if options.ahead.contains(&0) {
        return Err(RunError::Usage(
            "--ahead 0: that is the next token itself; give 1 or more, tokens after the next"
                .into(),
        ));
    }
    options.heads.check().map_err(flagged)?;
    let opened = source.open(on_event)?;
    let observation = &opened.observation;
    let mut notes = Vec::new();
    let bounds = match options.bounds {
        Some(bounds) => {
            opened.need_model("a bound of block information")?;
            allowed(observation, bounds, options.bounds_needed, &mut notes)?
        }
        None => None,
    };
    if observation.info.kind == Kind::Contexts && bounds.is_none() {
        return Err(opened.error(lens::InformationError::NeedsPositions));
    }
    let usable = match observation.info.kind {
        Kind::Contexts => {
            notes.push(
                "no usable surplus: it needs an observation of kind positions, where the tokens ahead are known".into(),
            );
            None
        }
        Kind::Positions => {
            let layers = match options.layers.is_empty() {
                true => spread(observation, HEAD_LAYERS),
                false => distinct(&options.layers),
            };
            let ahead = match options.ahead.is_empty() {
                true => powers(options.furthest),
                false => distinct(&options.ahead),
            };
            on_event(Event::Part(format!(
                "fitting {} heads on {} positions",
                ahead.len() * (layers.len() + 1),
                observation.rows()
            )));
            let found = lens::usable_surplus(
                observation,
                &layers,
                &ahead,
                &options.heads,
                &mut |done, total| on_event(Event::Progress { done, total }),
            );
            Some(found.map_err(|e| opened.error(e))?)
        }
    };
    let bounds = match bounds {
        Some(bounds) => {
            let model = opened.need_model("a bound of block information")?;
            let length = options.furthest;
            let found = block_information(model, observation, bounds, length, seed, on_event);
            Some(found.map_err(|e| opened.located(e))?)
        }
        None => None,
    };
    let result = AheadReport {
        usable,
        bounds,
        notes,
    };
    Ok(opened.measured(result))
}

/// The bounds that the observation has documents for.
fn allowed(
    observation: &Observation,
    bounds: BoundOptions,
    needed: bool,
    notes: &mut Vec<String>,
) -> Result<Option<BoundOptions>, RunError> {
    let BoundOptions { contexts, groups } = bounds;
    let there = lens::independent_rows(observation, contexts.saturating_mul(groups), 0).len();
    let possible = groups.min(there / contexts.max(1));
    let what = format!(
        "bounds of {groups} groups of {contexts} contexts need {} from distinct documents, and the observation has {there}",
        contexts.saturating_mul(groups)
    );
    if contexts < 3 || (possible < groups && needed) {
        return Err(RunError::Usage(format!(
            "{what}: take other --bound-contexts (3 at least) or --bound-groups, or observe more positions"
        )));
    }
    if possible < groups {
        notes.push(match possible {
            0 => format!("no bounds: {what}"),
            some => format!("{some} instead of {groups} groups: {what}"),
        });
    }
    Ok((possible > 0).then_some(BoundOptions {
        contexts,
        groups: possible,
    }))
}

/// 1, 2, 4, ... up to `furthest`, and `furthest`.
fn powers(furthest: usize) -> Vec<usize> {
    let mut ahead: Vec<usize> = (0..usize::BITS)
        .map(|shift| 1 << shift)
        .take_while(|&k| k <= furthest)
        .collect();
    if ahead.last() != Some(&furthest) {
        ahead.push(furthest);
    }
    ahead
}

fn distinct(numbers: &[usize]) -> Vec<usize> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Bounds of what independent contexts tell of the `length` tokens that the model draws after them.
pub(crate) fn block_information(
    model: &LanguageModel,
    observation: &Observation,
    options: BoundOptions,
    length: usize,
    seed: u64,
    on_event: &mut dyn FnMut(Event),
) -> Result<BlockInformation, RunError> {
    let BoundOptions { contexts, groups } = options;
    let needed = contexts.saturating_mul(groups);
    let rows = lens::independent_rows(observation, needed, seed);
    if contexts < 3 || rows.len() < needed || groups == 0 {
        return Err(RunError::Usage(format!(
            "bounds of {groups} groups of {contexts} contexts need {needed} contexts from distinct documents, 3 a group at least; the observation has {}",
            rows.len()
        )));
    }
    let batch = observation.context_batch()?;
    let prefixes = prefixes(&batch, &rows, model, length)?;
    let states = observation.states.as_ref().map(|s| s.last().1);
    let mut bits: Vec<Vec<u32>> = states.map_or(Vec::new(), |states| {
        let bits = |&row: &usize| states.row(row).iter().map(|x| x.to_bits()).collect();
        rows.iter().map(bits).collect()
    });
    bits.sort_unstable();
    bits.dedup();
    let generation = Generation {
        sampling: Sampling::default(),
        samples: 1,
        most: length,
        stop: Vec::new(),
        seed,
    };
    on_event(Event::Part(format!(
        "bounds: {needed} continuations of {length} tokens, each after {contexts} contexts"
    )));
    let mut scores = Vec::with_capacity(groups);
    let mut forwarded = 0;
    for (done, group) in prefixes.chunks(contexts).enumerate() {
        let group: Vec<&[u32]> = group.iter().map(Vec::as_slice).collect();
        let drawn = model.generate(&group, &generation)?;
        let questions: Vec<(&[u32], &[u32])> = drawn
            .iter()
            .flat_map(|text| group.iter().map(|prefix| (*prefix, text.tokens.as_slice())))
            .collect();
        let found = model.score(&questions)?;
        forwarded += found.forwarded;
        let mut answers = found.scores.into_iter();
        let tokens: Vec<Vec<Vec<f64>>> = (0..contexts)
            .map(|_| {
                let row = answers.by_ref().take(contexts);
                row.map(|s| s.tokens.iter().map(|&x| f64::from(x)).collect())
                    .collect()
            })
            .collect();
        scores.push(PairScores::new(&tokens)?);
        on_event(Event::Progress {
            done: done + 1,
            total: groups,
        });
    }
    Ok(BlockInformation {
        bounds: lens::surplus_bounds(&scores)?,
        distinct_contexts: distinct(&rows).len(),
        distinct_states: bits.len(),
        forwarded,
    })
}

/// The last tokens that the model read at each row, as many as leave room for `length` more.
fn prefixes(
    batch: &lawvere_core::ContextBatch,
    rows: &[usize],
    model: &LanguageModel,
    length: usize,
) -> Result<Vec<Vec<u32>>, RunError> {
    let room = model.context_length() - usize::from(model.bos().is_some());
    if length >= room {
        return Err(RunError::Usage(format!(
            "--k {length}: this model reads {room} tokens at once"
        )));
    }
    let all: Vec<Vec<u32>> = batch
        .windows()
        .flat_map(|w| {
            w.positions
                .iter()
                .map(move |&p| w.tokens[..p as usize].to_vec())
        })
        .collect();
    Ok(rows
        .iter()
        .map(|&row| {
            let prefix = &all[row];
            prefix[prefix.len().saturating_sub(room - length)..].to_vec()
        })
        .collect())
}
