use std::collections::BTreeMap;

use lawvere_core::{CompensatedSum, SparseRows, ratio_of_sums, stoch, sum};
use lawvere_observe::{Kind, Observation, Rows};
use serde::Serialize;

use crate::InformationError;
use crate::layers::Readout;
use crate::pass::{HeadPass, check_continuous, replicate_weights, weighted_mean};
use crate::stochasticity::{DataEntropies, SHANNON};

/// Cross-entropy, divergence and entropy of an Observation: three independent sums.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Likelihood {
    /// CE: `-sum_j pi_j sum_z p_jz log q_jz`, nats a token.
    pub cross_entropy: f64,
    /// KL(k_data || k_model): `sum_j pi_j sum_z p_jz log(p_jz / q_jz)`.
    pub divergence: f64,
    /// H(W|context) of the data: `-sum_j pi_j sum_z p_jz log p_jz`. 0 on positions.
    pub entropy: f64,
    /// `|CE - (KL + H)|`: rounding only.
    pub identity_defect: f64,
    /// Mean entropy of the model's laws on the same rows.
    pub head_entropy: f64,
    /// Standard errors of the four (bootstrap over document blocks).
    pub cross_entropy_error: Option<f64>,
    /// See `cross_entropy_error`.
    pub divergence_error: Option<f64>,
    /// See `cross_entropy_error`; the plug-in bias is not in it.
    pub entropy_error: Option<f64>,
    /// See `cross_entropy_error`.
    pub head_entropy_error: Option<f64>,
    /// Both entropies of every row.
    #[serde(skip)]
    pub rows: Vec<RowEntropies>,
}

/// One row's entropies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RowEntropies {
    /// Of the corpus's law, nats (biased low where few occurrences were seen).
    pub data: f64,
    /// Of the model's law, nats.
    pub model: f64,
    /// The row's cross-entropy, nats.
    pub cross_entropy: f64,
    /// `KL(data || model)` of the row, a sum of its own, nats.
    pub divergence: f64,
    /// How often the row occurs.
    pub samples: u64,
}

/// The NLL identity `CE = KL + H` and the head's entropy beside the data's, at the last layer.
///
/// *Source:* arXiv 2507.19247, the NLL as the average KL divergence plus the entropy of the data.
///
/// # Errors
/// An Observation without a model; a token that follows a context although the model gives it
/// probability 0 (the end of a document, if it is an outcome).
pub fn likelihood(observation: &Observation, seed: u64) -> Result<Likelihood, InformationError> {
    let head = observation
        .head
        .as_ref()
        .ok_or(InformationError::NeedsModel)?;
    let (_, states) = observation
        .states
        .as_ref()
        .ok_or(InformationError::NeedsModel)?
        .last();
    let pass = HeadPass::run(observation, head.view(), states)?;
    let counts = &observation.counts;
    check_continuous(observation, &pass)?;
    let laws = observation.laws();
    let per_row = |term: &dyn Fn(f64, f64) -> f64, row: usize| {
        let terms = laws
            .row(row)
            .1
            .iter()
            .zip(&pass.entry_log_probs[counts.range(row)]);
        sum(terms.map(|(&p, &log_q)| term(p, log_q)))
    };
    let total = |term: &dyn Fn(f64, f64) -> f64| {
        let rows = observation.weights.iter().enumerate();
        sum(rows.map(|(row, w)| w * per_row(term, row)))
    };
    let cross = |p: f64, log_q: f64| -p * log_q;
    let cross_entropy = total(&cross);
    let divergence = total(&|p, log_q| p * (p.ln() - log_q));
    let entropy = total(&|p, _| -p * p.ln()) + 0.0;
    let rows = (0..observation.rows())
        .map(|row| RowEntropies {
            data: stoch::entropy(laws.row(row).1.iter().copied()),
            model: pass.entropies[row],
            cross_entropy: per_row(&cross, row),
            divergence: per_row(&|p, log_q| p * (p.ln() - log_q), row),
            samples: counts.row(row).1.iter().sum(),
        })
        .collect();
    let errors = observation.standard_errors(seed, |replicate| {
        let weights = replicate_weights(observation, &replicate.counts);
        let (ce, h) = resampled(counts, &replicate.counts, &pass.entry_log_probs);
        Some(vec![
            ce,
            ce - h,
            h,
            weighted_mean(&pass.entropies, &weights),
        ])
    });
    let error = |k: usize| errors.as_ref().map(|e| e[k]);
    Ok(Likelihood {
        cross_entropy,
        divergence,
        entropy,
        identity_defect: (cross_entropy - (divergence + entropy)).abs(),
        head_entropy: weighted_mean(&pass.entropies, &observation.weights),
        cross_entropy_error: error(0),
        divergence_error: error(1),
        entropy_error: error(2),
        head_entropy_error: error(3),
        rows,
    })
}

/// The cross-entropy of the data under the law of the head's input, nats; infinite if some outcome is
/// impossible.
///
/// # Errors
/// An Observation without a model.
pub fn cross_entropy(observation: &Observation) -> Result<f64, InformationError> {
    let readout = Readout::of(observation, None)?;
    let pass = HeadPass::run(observation, readout.head, &readout.states)?;
    Ok(pass.cross_entropy(observation, &observation.laws()))
}

/// Standard errors of the differences between an Observation's likelihood and the same judged by
/// exact laws: smaller than those of the likelihood itself, because both weigh the contexts alike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct DifferenceErrors {
    pub cross_entropy: f64,
    pub divergence: f64,
    pub entropy: f64,
    /// Of the entropy with its first-order bias taken away; by the jackknife over blocks.
    pub entropy_corrected: f64,
}

/// The errors of `likelihood(observation) - exact` by the bootstrap over document blocks, where each
/// replicate weighs the exact values of the contexts by its own counts. `None` where documents are
/// not told apart.
///
/// # Errors
/// An Observation without a model.
pub fn difference_errors(
    observation: &Observation,
    exact: &Likelihood,
    seed: u64,
) -> Result<Option<DifferenceErrors>, InformationError> {
    let (Some(head), Some(states)) = (&observation.head, &observation.states) else {
        return Err(InformationError::NeedsModel);
    };
    let pass = HeadPass::run(observation, head.view(), states.last().1)?;
    let counts = &observation.counts;
    let errors = observation.standard_errors(seed, |replicate| {
        let (ce, h) = resampled(counts, &replicate.counts, &pass.entry_log_probs);
        let weights = replicate_weights(observation, &replicate.counts);
        let (mut exact_ce, mut exact_h) = (0.0, 0.0);
        for (weight, row) in weights.iter().zip(&exact.rows) {
            exact_ce += weight * row.cross_entropy;
            exact_h += weight * row.data;
        }
        let (ce, h) = (ce - exact_ce, h - exact_h);
        Some(vec![ce, ce - h, h])
    });
    let entropies = DataEntropies::of(observation, SHANNON)?;
    let corrected = observation.jackknife_errors(|replicate| {
        let weights = replicate_weights(observation, &replicate.counts);
        let rows = weights.iter().zip(&exact.rows);
        let known = sum(rows.map(|(weight, row)| weight * row.data));
        let corrected = entropies.corrected_of(&replicate.counts).ok()?;
        Some(vec![weighted_mean(&corrected, &weights) - known])
    });
    let pairs = errors.zip(corrected);
    Ok(pairs.map(|(e, corrected)| DifferenceErrors {
        cross_entropy: e[0],
        divergence: e[1],
        entropy: e[2],
        entropy_corrected: corrected[0],
    }))
}

/// Information that a context carries about the token after it under known laws,
/// `I(X;W) = H(mean law) - mean H(law)` in nats: with exact laws, what I(S;W) of a model is held
/// against.
pub fn context_information(observation: &Observation) -> f64 {
    let laws = observation.laws();
    let mut mean = vec![CompensatedSum::default(); laws.ncols()];
    let mut conditional = CompensatedSum::default();
    for ((tokens, law), weight) in laws.rows().zip(&observation.weights) {
        for (&token, p) in tokens.iter().zip(law) {
            mean[token as usize].add(weight * p);
        }
        conditional.add(weight * stoch::entropy(law.iter().copied()));
    }
    stoch::entropy(mean.iter().map(|m| m.value())) - conditional.value()
}

/// The mean over all rows of a value of the token that follows, under the data's laws.
pub fn mean_outcome(observation: &Observation, value: impl Fn(u32) -> f64) -> f64 {
    let laws = observation.laws();
    sum((0..laws.nrows()).map(|row| {
        let (tokens, law) = laws.row(row);
        let terms = tokens.iter().zip(law);
        observation.weights[row] * sum(terms.map(|(&token, p)| p * value(token)))
    }))
}

/// The mean of a value a position, with its standard error, documents taken as independent.
///
/// # Errors
/// An Observation of contexts.
pub fn mean_over_documents(
    observation: &Observation,
    values: &[f64],
) -> Result<(f64, f64), InformationError> {
    let Rows::Positions(positions) = &observation.contexts else {
        return Err(InformationError::NeedsPositions);
    };
    let mut documents: BTreeMap<u32, (f64, usize)> = BTreeMap::new();
    for (&document, value) in positions.document.iter().zip(values) {
        let entry = documents.entry(document).or_default();
        entry.0 += value;
        entry.1 += 1;
    }
    Ok(ratio_of_sums(documents.values().copied()))
}

/// The weighted mean of `KL(sampled law || exact law)` over the contexts of an Observation and of the
/// same judged by exact laws ([`Observation::with_laws`]): how far counts are from the laws they were
/// drawn from, nats. A perfect model is as far from the counts; with n_j occurrences it is about
/// `(support - 1) / 2 n_j` of each context.
pub fn sampling_divergence(sampled: &Observation, exact: &Observation) -> f64 {
    let (counts, laws) = (sampled.laws(), exact.laws());
    sum((0..counts.nrows()).map(|row| {
        let (tokens, law) = laws.row(row);
        let (seen, shares) = counts.row(row);
        let terms = seen.iter().zip(shares).map(|(token, &p)| {
            let found = tokens.binary_search(token);
            stoch::kl_term(p, found.map_or(0.0, |k| law[k]))
        });
        sampled.weights[row] * sum(terms)
    }))
}

/// Cross-entropy and conditional entropy of one replicate's counts.
fn resampled(pattern: &SparseRows<u64>, values: &[u64], entry_log_probs: &[f64]) -> (f64, f64) {
    let total = values.iter().sum::<u64>() as f64;
    let (mut ce, mut h) = (0.0, 0.0);
    for row in 0..pattern.nrows() {
        let range = pattern.range(row);
        let values = &values[range.clone()];
        let n = values.iter().sum::<u64>() as f64;
        for (&c, &log_q) in values.iter().zip(&entry_log_probs[range]) {
            if c > 0 {
                ce -= c as f64 / total * log_q;
                h -= c as f64 / total * (c as f64 / n).ln();
            }
        }
    }
    (ce, h)
}

/// Mean loss at prefixes of one range of lengths.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LengthLoss {
    /// The shortest prefix of the range, in tokens.
    pub from: u32,
    /// The longest.
    pub to: u32,
    /// Positions.
    pub positions: usize,
    /// Mean `-log q(next|prefix)`, nats.
    pub loss: f64,
    /// Its standard error, documents taken as independent.
    pub error: f64,
}

/// A loss on running text, one value a position, by the length of the prefix read, in ranges 1, 2,
/// 3-4, 5-8, ...
///
/// # Errors
/// An Observation of contexts.
pub fn loss_by_prefix_length(
    observation: &Observation,
    losses: &[f64],
) -> Result<Vec<LengthLoss>, InformationError> {
    let Rows::Positions(positions) = &observation.contexts else {
        return Err(InformationError::NeedsPositions);
    };
    debug_assert_eq!(observation.info.kind, Kind::Positions);
    // Range r holds the lengths whose predecessor has r binary digits.
    let range_of = |length: u32| u32::BITS - length.saturating_sub(1).leading_zeros();
    let mut ranges: BTreeMap<u32, BTreeMap<u32, (f64, usize)>> = BTreeMap::new();
    for (row, &loss) in losses.iter().enumerate() {
        let range = ranges
            .entry(range_of(positions.prefix_length[row]))
            .or_default();
        let document = range.entry(positions.document[row]).or_default();
        document.0 += loss;
        document.1 += 1;
    }
    Ok(ranges
        .into_iter()
        .map(|(r, documents)| {
            let (loss, error) = ratio_of_sums(documents.values().copied());
            let count = documents.values().map(|d| d.1).sum();
            let from = if r == 0 { 1 } else { (1 << (r - 1)) + 1 };
            LengthLoss {
                from,
                to: 1 << r,
                positions: count,
                loss,
                error,
            }
        })
        .collect())
}
