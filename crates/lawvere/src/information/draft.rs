use lawvere_core::{ContextBatch, Factored, KernelError, Layer, LogProbs, NextToken, RowMatrix};
use lawvere_information as lens;
use lawvere_information::{
    Decoding, Draft, DraftHeads, DraftReport, HeadOptions, PrefixDrafts, Round,
};
use lawvere_lm::{Generation, LanguageModel, Sampling};
use lawvere_observe::{Observation, Rows};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use super::source::{InformationSource, Measured, flagged};
use crate::{Event, RunError};

/// What [`draft`] does.
#[derive(Debug, Clone)]
pub struct DraftOptions {
    /// gamma: tokens drafted at once, after the next.
    pub length: usize,
    /// The layer that heads draft from; the last without a number.
    pub layer: Option<usize>,
    /// Prefixes of either kind, at most: each begins as a held-out document of its own.
    pub prefixes: usize,
    /// The shortest and longest prefix, in tokens.
    pub prefix_tokens: (usize, usize),
    /// Drafts a prefix for the forecast, and as many for the run.
    pub drafts: usize,
    /// Rounds of decoding after each of at most 100 prefixes.
    pub rounds: usize,
    /// The cost of a head in passes of the model; `None`: by counting multiplications.
    pub cost: Option<f64>,
    /// How heads are fitted.
    pub heads: HeadOptions,
}

/// Drafting with fitted heads, forecast and run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DraftRun {
    /// The layer that heads draft from.
    pub layer: usize,
    /// gamma.
    pub length: usize,
    /// Tokens that a drafter can propose.
    pub drafted_tokens: usize,
    /// On prefixes that the model drew itself: the law that decoding meets.
    pub model_prefixes: DraftReport,
    /// On prefixes of held-out documents.
    pub corpus_prefixes: DraftReport,
    /// Decoding: the model's own prefixes gone on with drafts, round after round.
    pub decoding: Decoding,
}

/// Where the first tokens of a drawn prefix come from: so many of a held-out document.
const SEED_TOKENS: usize = 4;
/// Prefixes without which errors mean nothing.
const FEWEST: usize = 8;
/// Prefixes that are decoded on from.
const DECODED: usize = 100;
/// Prefixes whose laws are held together.
const AT_ONCE: usize = 32;

/// Fits heads for the tokens after the next and drafts with them: the expected number of accepted tokens
/// from overlaps, and the number that really are when drafts are accepted token by token.
///
/// # Errors
/// What opening the source meets; no model; prefixes longer than the model reads; fewer held-out
/// documents than prefixes; [`lens::draft_heads`].
pub fn draft(
    source: &InformationSource,
    options: &DraftOptions,
    seed: u64,
    on_event: &mut dyn FnMut(Event),
) -> Result<Measured<DraftRun>, RunError> {
    options.heads.check().map_err(flagged)?;
    if let Some(cost) = options.cost.filter(|c| !(*c >= 0.0 && c.is_finite())) {
        return Err(RunError::Usage(format!(
            "--cost {cost}: it must be 0 or more"
        )));
    }
    let opened = source.open(on_event)?;
    let model = opened.need_model("drafting")?;
    match draft_with(model, &opened.observation, options, seed, on_event) {
        Ok(result) => Ok(opened.measured(result)),
        Err(error) => Err(opened.located(error)),
    }
}

/// [`draft`] with model and observation at hand.
pub(crate) fn draft_with(
    model: &LanguageModel,
    observation: &Observation,
    options: &DraftOptions,
    seed: u64,
    on_event: &mut dyn FnMut(Event),
) -> Result<DraftRun, RunError> {
    let room = model.context_length() - usize::from(model.bos().is_some());
    let (shortest, longest) = options.prefix_tokens;
    // A round gives at most as many tokens as are drafted and one.
    let reach = (options.length + 1) * options.rounds.max(1);
    if shortest <= SEED_TOKENS || longest < shortest || longest.saturating_add(reach) > room {
        return Err(RunError::Usage(format!(
            "--prefix-tokens {shortest},{longest}: the shortest must have more than {SEED_TOKENS} tokens, the longest no fewer, and with {reach} more of --rounds and --length at most the {room} that this model reads at once"
        )));
    }
    on_event(Event::Part(format!(
        "fitting {} draft heads on {} positions",
        options.length,
        observation.rows()
    )));
    let heads = lens::draft_heads(
        observation,
        options.layer,
        options.length,
        &options.heads,
        &mut |done, total| on_event(Event::Progress { done, total }),
    )?;
    let documents = held_out(observation, &heads, seed)?;
    let mut rng = StdRng::seed_from_u64(seed);
    let enough = |tokens: &&[u32]| tokens.len() >= shortest;
    let usable: Vec<&[u32]> = documents.iter().copied().filter(enough).collect();
    let count = options.prefixes.min(usable.len());
    if count < FEWEST {
        return Err(lens::InformationError::TooFew {
            what: "drafting",
            of: "held-out documents as long as the shortest prefix",
            needed: FEWEST,
            found: count,
        }
        .into());
    }
    if count < options.prefixes {
        on_event(Event::Warning(format!(
            "{count} prefixes instead of {}: no more held-out documents have {shortest} tokens",
            options.prefixes
        )));
    }
    let mut corpus = Vec::with_capacity(count);
    let mut drawn = Vec::with_capacity(count);
    on_event(Event::Part(format!("drawing {count} prefixes")));
    for tokens in &usable[..count] {
        let length = rng.random_range(shortest..=longest.min(tokens.len()));
        corpus.push(tokens[..length].to_vec());
        drawn.push((tokens[..SEED_TOKENS].to_vec(), length));
    }
    let drawn = own_prefixes(model, &drawn, seed)?;
    let cost = options.cost.unwrap_or_else(|| {
        let pass = model.multiply_adds_per_token() + model.vocab_size() * model.hidden_size();
        heads.multiply_adds() as f64 / pass as f64
    });
    let mut report = |name: &str, prefixes: &[Vec<u32>], seed: u64| {
        on_event(Event::Part(format!("drafting after {name} prefixes")));
        let drafts = run(model, &heads, prefixes, options, seed, on_event)?;
        Ok::<DraftReport, RunError>(lens::draft_report(&drafts, cost)?)
    };
    Ok(DraftRun {
        layer: heads.layer,
        length: options.length,
        drafted_tokens: heads.tokens.len(),
        model_prefixes: report("the model's own", &drawn, seed.wrapping_add(1))?,
        corpus_prefixes: report("the corpus's", &corpus, seed.wrapping_add(2))?,
        decoding: {
            let texts = &drawn[..drawn.len().min(DECODED)];
            on_event(Event::Part(format!(
                "decoding {} texts with drafts, {} rounds",
                texts.len(),
                options.rounds
            )));
            let rounds = decode(
                model,
                &heads,
                texts,
                options,
                seed.wrapping_add(3),
                on_event,
            )?;
            lens::decoding(&rounds, options.length, cost)?
        },
    })
}

/// The beginnings of documents that heads were not fitted on, one window each, in random order.
fn held_out<'a>(
    observation: &'a Observation,
    heads: &DraftHeads,
    seed: u64,
) -> Result<Vec<&'a [u32]>, RunError> {
    let Rows::Positions(positions) = &observation.contexts else {
        return Err(lens::InformationError::NeedsPositions.into());
    };
    let mut seen = std::collections::BTreeSet::new();
    let mut found = Vec::new();
    for (row, &document) in positions.document.iter().enumerate() {
        if heads.held_out.binary_search(&document).is_ok() && seen.insert(document) {
            let window = positions.window[row] as usize;
            let bounds = &positions.window_offsets[window..window + 2];
            found.push(&positions.tokens[bounds[0] as usize..bounds[1] as usize]);
        }
    }
    found.shuffle(&mut StdRng::seed_from_u64(seed));
    Ok(found)
}

/// Prefixes that the model goes on to the lengths asked for.
fn own_prefixes(
    model: &LanguageModel,
    beginnings: &[(Vec<u32>, usize)],
    seed: u64,
) -> Result<Vec<Vec<u32>>, RunError> {
    let most = beginnings
        .iter()
        .map(|(b, n)| n - b.len())
        .max()
        .unwrap_or(0);
    let prompts: Vec<&[u32]> = beginnings.iter().map(|(b, _)| b.as_slice()).collect();
    let texts = model.generate(&prompts, &sampling(most, seed))?;
    let pairs = beginnings.iter().zip(texts);
    Ok(pairs
        .map(|((beginning, length), text)| {
            let more = &text.tokens[..length - beginning.len()];
            [beginning, more].concat()
        })
        .collect())
}

fn sampling(most: usize, seed: u64) -> Generation {
    Generation {
        sampling: Sampling::default(),
        samples: 1,
        most,
        stop: Vec::new(),
        seed,
    }
}

/// The drafter's laws after prefix `i`, token by token.
fn laws_of(laws: &[RowMatrix<f32>], i: usize) -> Vec<Vec<f64>> {
    let law = |law: &RowMatrix<f32>| law.row(i).iter().map(|&p| f64::from(p)).collect();
    laws.iter().map(law).collect()
}

/// Forecasts and runs after every prefix.
fn run(
    model: &LanguageModel,
    heads: &DraftHeads,
    prefixes: &[Vec<u32>],
    options: &DraftOptions,
    seed: u64,
    on_event: &mut dyn FnMut(Event),
) -> Result<Vec<PrefixDrafts>, RunError> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut found = Vec::with_capacity(prefixes.len());
    for part in prefixes.chunks(AT_ONCE) {
        let slices: Vec<&[u32]> = part.iter().map(Vec::as_slice).collect();
        let batch = ContextBatch::of_contexts(slices.iter().copied());
        let states = model.encode(&batch, &[Layer(heads.layer)])?.remove(0);
        // The next token itself is the model's own, whether or not anything was drafted.
        let next: Vec<u32> = model
            .generate(&slices, &sampling(1, rng.random()))?
            .iter()
            .flat_map(|text| text.tokens.first().copied())
            .collect();
        let laws = heads.laws(&states, &next)?;
        let mut drafts = Vec::with_capacity(2 * options.drafts * part.len());
        let mut windows = ContextBatch::new();
        for (i, prefix) in part.iter().enumerate() {
            let drafter = laws_of(&laws, i);
            for _ in 0..2 * options.drafts {
                let path: Vec<usize> = drafter.iter().map(|q| Draft::draw(q, &mut rng)).collect();
                let mut tokens = prefix.clone();
                tokens.push(next[i]);
                let drafted = path[..options.length - 1].iter();
                tokens.extend(drafted.map(|&outcome| heads.tokens[outcome]));
                let from = prefix.len() as u32 + 1;
                let positions: Vec<u32> = (from..from + options.length as u32).collect();
                windows.push(&tokens, &positions)?;
                drafts.push(Draft {
                    path,
                    drafter: drafter.clone(),
                    model: Vec::with_capacity(options.length),
                });
            }
        }
        model.log_probs(&windows, &mut |first, block| {
            let LogProbs::Dense(block) = block else {
                return Err(KernelError::NotFinite);
            };
            for (row, log_probs) in block.rows().enumerate() {
                let told = heads
                    .tokens
                    .iter()
                    .map(|&t| f64::from(log_probs[t as usize]).exp());
                drafts[(first + row) / options.length]
                    .model
                    .push(told.collect());
            }
            Ok(())
        })?;
        for drafts in drafts.chunks(2 * options.drafts) {
            let (forecast, run) = drafts.split_at(options.drafts);
            found.push(PrefixDrafts {
                forecasts: forecast.iter().map(Draft::forecast).collect(),
                accepted: run.iter().map(|draft| draft.run(&mut rng)).collect(),
            });
        }
        on_event(Event::Progress {
            done: found.len(),
            total: prefixes.len(),
        });
    }
    Ok(found)
}

/// Goes on every text round by round: a draft is verified, accepted tokens and the one that the pass gives
/// are added, and the next round begins there. In every round another draft says what is forecast.
fn decode(
    model: &LanguageModel,
    heads: &DraftHeads,
    prefixes: &[Vec<u32>],
    options: &DraftOptions,
    seed: u64,
    on_event: &mut dyn FnMut(Event),
) -> Result<Vec<Vec<Round>>, RunError> {
    let mut rng = StdRng::seed_from_u64(seed);
    let length = options.length;
    let mut found = Vec::with_capacity(prefixes.len());
    for part in prefixes.chunks(AT_ONCE) {
        let mut texts = part.to_vec();
        let slices: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let first = model.generate(&slices, &sampling(1, rng.random()))?;
        let mut next: Vec<u32> = first
            .iter()
            .flat_map(|t| t.tokens.first().copied())
            .collect();
        let mut rounds = vec![Vec::with_capacity(options.rounds); texts.len()];
        for _ in 0..options.rounds {
            let batch = ContextBatch::of_contexts(texts.iter().map(Vec::as_slice));
            let states = model.encode(&batch, &[Layer(heads.layer)])?.remove(0);
            let laws = heads.laws(&states, &next)?;
            // Two drafts a text: the first is run, the second forecasts.
            let mut drafts = Vec::with_capacity(2 * texts.len());
            let mut windows = ContextBatch::new();
            for (i, text) in texts.iter().enumerate() {
                let drafter = laws_of(&laws, i);
                for _ in 0..2 {
                    let path: Vec<usize> =
                        drafter.iter().map(|q| Draft::draw(q, &mut rng)).collect();
                    let drafted = path.iter().map(|&outcome| heads.tokens[outcome]);
                    let tokens: Vec<u32> = text
                        .iter()
                        .copied()
                        .chain([next[i]])
                        .chain(drafted)
                        .collect();
                    let from = text.len() as u32 + 1;
                    // One more than is drafted: what follows if all are accepted.
                    let positions: Vec<u32> = (from..=from + length as u32).collect();
                    windows.push(&tokens, &positions)?;
                    drafts.push(Draft {
                        path,
                        drafter: drafter.clone(),
                        model: Vec::with_capacity(length),
                    });
                }
            }
            // The whole laws along the drafts that are run.
            let mut full = vec![Vec::with_capacity(length + 1); texts.len()];
            model.log_probs(&windows, &mut |first, block| {
                let LogProbs::Dense(block) = block else {
                    return Err(KernelError::NotFinite);
                };
                for (row, log_probs) in block.rows().enumerate() {
                    let (window, at) = ((first + row) / (length + 1), (first + row) % (length + 1));
                    if at < length {
                        let told = heads.tokens.iter();
                        let told = told.map(|&t| f64::from(log_probs[t as usize]).exp());
                        drafts[window].model.push(told.collect());
                    }
                    if window % 2 == 0 {
                        let law: Vec<f64> = log_probs.iter().map(|&l| f64::from(l).exp()).collect();
                        full[window / 2].push(law);
                    }
                }
                Ok(())
            })?;
            for (i, pair) in drafts.chunks(2).enumerate() {
                let accepted = pair[0].run(&mut rng);
                rounds[i].push(Round {
                    accepted,
                    forecast: pair[1].forecast().survival.iter().sum(),
                });
                texts[i].push(next[i]);
                let taken = pair[0].path[..accepted].iter();
                texts[i].extend(taken.map(|&outcome| heads.tokens[outcome]));
                next[i] = match accepted < length {
                    true => {
                        pair[0].replacement(accepted, &heads.tokens, &full[i][accepted], &mut rng)
                    }
                    false => Draft::draw(&full[i][length], &mut rng),
                } as u32;
            }
        }
        found.append(&mut rounds);
        on_event(Event::Progress {
            done: found.len(),
            total: prefixes.len(),
        });
    }
    Ok(found)
}
