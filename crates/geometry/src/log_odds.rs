use lawvere_core::linalg::pearson;
use lawvere_core::{ShapeError, SparseRows};
use lawvere_observe::Observation;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;

use crate::{GeometryError, require_contexts};

/// A model's log-odds among tokens that do follow a context, against the corpus's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogOdds {
    /// Weighted Pearson correlation of the model's centred in-support logits with L^in.
    pub correlation: f64,
    /// Its standard error (bootstrap over document blocks).
    pub correlation_error: Option<f64>,
    /// Weighted slope of the model's on L^in through the origin; 1 where the finite part of the
    /// logits has been learned.
    pub slope: f64,
    /// Its standard error.
    pub slope_error: Option<f64>,
    /// The correlation when, in every context, the corpus's log-odds are dealt to the tokens of the
    /// support at random.
    pub shuffled_correlation: f64,
    /// Contexts with a support of at least two tokens.
    pub contexts: usize,
    /// Entries compared.
    pub entries: usize,
    /// All entries.
    #[serde(skip)]
    pub points: Vec<LogOddsPoint>,
}

/// One token of one context's support.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LogOddsPoint {
    /// The context.
    pub context: usize,
    /// The token.
    pub token: u32,
    /// `log p_jz` minus its mean over the support: the entry of L^in, nats.
    pub corpus: f64,
    /// The model's `log q_jz` minus its mean over the support, nats.
    pub model: f64,
    /// `pi_j / |S_j|`.
    pub weight: f64,
}

/// Compares `L^in_zj = log p_jz - mean_{S_j} log p_j`, the finite part of the logits that training
/// drives to, with the model's logits centred on the same support (the log-partition cancels).
/// Contexts weigh as pi, the tokens of a support equally.
///
/// *Source:* arXiv 2408.15417: minimum-norm solution of the in-support equations.
///
/// # Errors
/// An Observation of positions, without a model, or without a support of two tokens; an outcome
/// that the model does not have.
pub fn log_odds(observation: &Observation, seed: u64) -> Result<LogOdds, GeometryError> {
    require_contexts(observation)?;
    let (_, states) = observation
        .states
        .as_ref()
        .ok_or(GeometryError::NeedsStates)?
        .last();
    let head = observation.head.as_ref().ok_or(GeometryError::NeedsHead)?;
    let counts = &observation.counts;
    require_outcomes(observation)?;
    let mut model = vec![0.0; counts.nnz()];
    head.view()
        .for_each_log_prob_block::<ShapeError>(states, |block| {
            for (i, log_probs) in block.log_probs.rows().enumerate() {
                let row = block.first_row + i;
                let (tokens, _) = counts.row(row);
                for (slot, &token) in model[counts.range(row)].iter_mut().zip(tokens) {
                    *slot = f64::from(log_probs[token as usize]);
                }
            }
            Ok(())
        })?;
    let laws = observation.laws();
    // Shares of all occurrences, entry by entry.
    let weighted: Vec<f64> = laws
        .rows()
        .zip(&observation.weights)
        .flat_map(|((_, law), weight)| law.iter().map(move |p| weight * p))
        .collect();
    let points = points(counts, &weighted, &model);
    if points.is_empty() {
        return Err(GeometryError::NoLogOdds);
    }
    let (correlation, slope) = fit(&points);
    let errors = observation.standard_errors(seed, |replicate| {
        let drawn: Vec<f64> = replicate.counts.iter().map(|&c| c as f64).collect();
        let points = self::points(counts, &drawn, &model);
        (!points.is_empty()).then(|| {
            let (correlation, slope) = fit(&points);
            vec![correlation, slope]
        })
    });
    let mut shuffled = points.clone();
    let mut rng = StdRng::seed_from_u64(seed);
    for group in shuffled.chunk_by_mut(|a, b| a.context == b.context) {
        let mut values: Vec<f64> = group.iter().map(|p| p.corpus).collect();
        values.shuffle(&mut rng);
        group.iter_mut().zip(values).for_each(|(p, v)| p.corpus = v);
    }
    Ok(LogOdds {
        correlation,
        correlation_error: errors.as_ref().map(|e| e[0]),
        slope,
        slope_error: errors.as_ref().map(|e| e[1]),
        shuffled_correlation: fit(&shuffled).0,
        contexts: points.chunk_by(|a, b| a.context == b.context).count(),
        entries: points.len(),
        points,
    })
}

/// Whether the model has an outcome for all that follows the contexts.
pub(crate) fn require_outcomes(observation: &Observation) -> Result<(), GeometryError> {
    let end = observation.info.vocab_size as u32;
    let mut rows = observation.counts.rows();
    match rows.position(|(tokens, _)| tokens.last() == Some(&end)) {
        Some(row) => Err(GeometryError::DocumentEnd {
            context: observation.row_label(row),
        }),
        None => Ok(()),
    }
}

/// Centred log-odds of the entries with a positive value, in contexts that have at least two.
fn points(pattern: &SparseRows<u64>, values: &[f64], model: &[f64]) -> Vec<LogOddsPoint> {
    let total: f64 = values.iter().sum();
    let mut out = Vec::new();
    for context in 0..pattern.nrows() {
        let range = pattern.range(context);
        let tokens = &pattern.indices()[range.clone()];
        let (shares, logits) = (&values[range.clone()], &model[range]);
        let seen: Vec<usize> = (0..shares.len()).filter(|&k| shares[k] > 0.0).collect();
        if seen.len() < 2 {
            continue;
        }
        let size = seen.len() as f64;
        let n: f64 = shares.iter().sum();
        let log = |k: usize| shares[k].ln();
        let corpus_mean = seen.iter().map(|&k| log(k)).sum::<f64>() / size;
        let model_mean = seen.iter().map(|&k| logits[k]).sum::<f64>() / size;
        out.extend(seen.into_iter().map(|k| LogOddsPoint {
            context,
            token: tokens[k],
            corpus: log(k) - corpus_mean,
            model: logits[k] - model_mean,
            weight: n / total / size,
        }));
    }
    out
}

fn fit(points: &[LogOddsPoint]) -> (f64, f64) {
    let x: Vec<f64> = points.iter().map(|p| p.corpus).collect();
    let y: Vec<f64> = points.iter().map(|p| p.model).collect();
    let w: Vec<f64> = points.iter().map(|p| p.weight).collect();
    let (mut xx, mut xy) = (0.0, 0.0);
    for p in points {
        xx += p.weight * p.corpus * p.corpus;
        xy += p.weight * p.corpus * p.model;
    }
    (pearson(&x, &y, &w), if xx > 0.0 { xy / xx } else { 0.0 })
}
