use lawvere_core::stoch::{self, Divergence, StochError};
use lawvere_core::{SparseRows, sum};
use lawvere_observe::{Observation, frequencies};
use rayon::prelude::*;
use serde::Serialize;

use crate::InformationError;
use crate::layers::{Readout, need_contexts};
use crate::pass::{replicate_weights, weighted_mean};

/// Mean categorical entropies of one divergence: how stochastic the model's head and the data are on the
/// same contexts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stochasticity {
    /// The divergence by its name.
    pub divergence: String,
    /// The model's mean.
    pub model: f64,
    /// The data's: of the observed frequencies, biased low.
    pub data: f64,
    /// The data's by the jackknife over the occurrences of each context, which takes the first-order part
    /// of that bias away; the same as `data` of exact laws.
    pub data_corrected: f64,
    /// `model - data_corrected`: the gap that training should close.
    pub gap: f64,
    /// Standard errors (jackknife over document blocks); `None` where documents are not told apart.
    pub model_error: Option<f64>,
    /// See `model_error`; of `data_corrected`.
    pub data_error: Option<f64>,
    /// See `model_error`; of `gap`.
    pub gap_error: Option<f64>,
}

/// The divergences that [`stochasticity`] is asked for unless something else is.
pub const STOCHASTICITY: [Divergence; 7] = [
    Divergence::KullbackLeibler,
    Divergence::TotalVariation,
    Divergence::JensenShannon,
    Divergence::Hellinger,
    Divergence::Renyi(0.0),
    Divergence::Renyi(0.5),
    Divergence::Renyi(1.5),
];

/// Mean categorical entropies `H_D(k)(x) = D(copy k || (k x k) copy)` of a layer's laws (the last one's
/// without a number) and of the data, weighted as the contexts are.
///
/// Cost: one pass through the head, and for every divergence a power or logarithm an entry; the errors take
/// all of the data's once a block of documents.
///
/// *Source:* Perrone, *Markov categories and entropy* (2023); arXiv 2507.19247, the stochasticity of the
/// head; jackknife: Zahl, *Jackknifing an index of diversity* (1977).
///
/// # Errors
/// An Observation of positions or without a model; an unknown layer; reverse KL, chi-squared and Renyi of
/// order 2 or more, which tell a softmax head's nothing but the size of its vocabulary (or infinity).
pub fn stochasticity(
    observation: &Observation,
    divergences: &[Divergence],
    layer: Option<usize>,
) -> Result<Vec<Stochasticity>, InformationError> {
    need_contexts(observation, "the stochasticity of the head")?;
    check(divergences)?;
    let readout = Readout::of(observation, layer)?;
    let rows = observation.rows();
    // Divergence by divergence, row by row.
    let mut model = vec![vec![0.0; rows]; divergences.len()];
    readout
        .head
        .for_each_log_prob_block::<InformationError>(&readout.states, |block| {
            let entropies: Result<Vec<Vec<f64>>, StochError> = block
                .probs
                .data()
                .par_chunks(block.probs.ncols())
                .map_init(Vec::new, |law: &mut Vec<f64>, probs| {
                    law.clear();
                    law.extend(probs.iter().map(|&p| f64::from(p)));
                    divergences
                        .iter()
                        .map(|d| d.categorical_entropy(law))
                        .collect()
                })
                .collect();
            for (row, of_row) in entropies?.into_iter().enumerate() {
                for (model, value) in model.iter_mut().zip(of_row) {
                    model[block.first_row + row] = value;
                }
            }
            Ok(())
        })?;
    let exact = observation.is_exact();
    let plug_in = data_entropies(&observation.laws(), divergences)?;
    let corrected: Vec<Vec<f64>> = match exact {
        true => plug_in.clone(),
        false => divergences
            .iter()
            .zip(&plug_in)
            .map(|(d, plain)| jackknife(&observation.counts, *d, plain))
            .collect::<Result<_, _>>()?,
    };
    let weights = &observation.weights;
    let errors = observation.jackknife_errors(|replicate| {
        let counts = observation.counts.map(|k, _| replicate.counts[k]);
        let laws = frequencies(&counts);
        let weights = replicate_weights(observation, &replicate.counts);
        let mut out = Vec::with_capacity(3 * divergences.len());
        let plain = data_entropies(&laws, divergences).ok()?;
        for ((model, divergence), plain) in model.iter().zip(divergences).zip(plain) {
            let values = match exact {
                true => plain,
                false => jackknife(&counts, *divergence, &plain).ok()?,
            };
            let (model, data) = (
                weighted_mean(model, &weights),
                weighted_mean(&values, &weights),
            );
            out.extend([model, data, model - data]);
        }
        Some(out)
    });
    Ok(divergences
        .iter()
        .enumerate()
        .map(|(k, divergence)| {
            let error = |part: usize| errors.as_ref().map(|e| e[3 * k + part]);
            let (model, data) = (
                weighted_mean(&model[k], weights),
                weighted_mean(&plug_in[k], weights),
            );
            let data_corrected = weighted_mean(&corrected[k], weights);
            Stochasticity {
                divergence: divergence.to_string(),
                model,
                data,
                data_corrected,
                gap: model - data_corrected,
                model_error: error(0),
                data_error: error(1),
                gap_error: error(2),
            }
        })
        .collect())
}

fn check(divergences: &[Divergence]) -> Result<(), InformationError> {
    if divergences.is_empty() {
        return Err(InformationError::argument("divergence", "none is given"));
    }
    for divergence in divergences {
        let why = match divergence {
            Divergence::ReverseKullbackLeibler => "is infinite for every law but a certain one",
            Divergence::ChiSquared => {
                "is the size of the support less one: of a softmax head V - 1, whatever it has learned"
            }
            Divergence::Renyi(order) if *order >= 2.0 => {
                "of order 2 or more is decided by the least probable tokens alone; take an order below 2"
            }
            _ => continue,
        };
        return Err(InformationError::argument(
            "divergence",
            format!("the categorical entropy of {divergence} {why}"),
        ));
    }
    Ok(())
}

/// Divergence by divergence, the categorical entropy of every row.
fn data_entropies(
    laws: &SparseRows<f64>,
    divergences: &[Divergence],
) -> Result<Vec<Vec<f64>>, StochError> {
    divergences
        .iter()
        .map(|d| {
            let rows = laws.rows();
            rows.map(|(_, law)| match law.iter().sum::<f64>() > 0.0 {
                true => d.categorical_entropy(law),
                // A context that a replicate does not draw has weight 0.
                false => Ok(0.0),
            })
            .collect()
        })
        .collect()
}

/// `n H - (n - 1) mean H without one occurrence` of every row; rows seen once stay as they are.
fn jackknife(
    counts: &SparseRows<u64>,
    divergence: Divergence,
    plain: &[f64],
) -> Result<Vec<f64>, StochError> {
    (0..counts.nrows())
        .into_par_iter()
        .map(|row| {
            let values = counts.row(row).1;
            let total = values.iter().sum::<u64>();
            if total < 2 {
                return Ok(plain[row]);
            }
            let n = total as f64;
            // Leaving out any of the tokens with one count leaves the same entropy.
            let mut distinct: Vec<u64> = values.iter().copied().filter(|&v| v > 0).collect();
            distinct.sort_unstable();
            let mut without = Vec::new();
            for same in distinct.chunk_by(|a, b| a == b) {
                let position = values.iter().position(|v| *v == same[0]).unwrap_or(0);
                let law: Vec<f64> = values
                    .iter()
                    .enumerate()
                    .map(|(k, &v)| (v - u64::from(k == position)) as f64 / (n - 1.0))
                    .collect();
                let weight = same[0] as f64 * same.len() as f64 / n;
                without.push(weight * divergence.categorical_entropy(&law)?);
            }
            Ok(n * plain[row] - (n - 1.0) * sum(without))
        })
        .collect()
}

/// The mean Shannon entropy of an Observation's frequencies with the first-order bias taken away by the
/// jackknife over the occurrences of each context, nats.
///
/// *Source:* Zahl, *Jackknifing an index of diversity* (1977).
///
/// # Errors
/// None for counts.
pub fn corrected_entropy(observation: &Observation) -> Result<f64, InformationError> {
    match observation.is_exact() {
        true => {
            let laws = observation.laws();
            let rows = laws
                .rows()
                .map(|(_, law)| stoch::entropy(law.iter().copied()));
            let plain: Vec<f64> = rows.collect();
            Ok(weighted_mean(&plain, &observation.weights))
        }
        false => jackknifed(&observation.counts, &observation.weights),
    }
}

/// The same of counts with weights of their rows.
pub(crate) fn jackknifed(
    counts: &SparseRows<u64>,
    weights: &[f64],
) -> Result<f64, InformationError> {
    let shannon = Divergence::KullbackLeibler;
    let plain = data_entropies(&frequencies(counts), &[shannon])?.remove(0);
    Ok(weighted_mean(&jackknife(counts, shannon, &plain)?, weights))
}
