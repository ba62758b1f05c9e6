use lawvere_core::stoch::{Divergence, StochError};
use lawvere_core::{SparseRows, sum};
use lawvere_observe::Observation;
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
    let data: Vec<DataEntropies<'_>> = divergences
        .iter()
        .map(|d| DataEntropies::of(observation, *d))
        .collect::<Result<_, _>>()?;
    let weights = &observation.weights;
    // Exact laws have no blocks, so that every replicate is one of counts.
    let errors = observation.jackknife_errors(|replicate| {
        let weights = replicate_weights(observation, &replicate.counts);
        let mut out = Vec::with_capacity(3 * divergences.len());
        for (model, data) in model.iter().zip(&data) {
            let values = data.corrected_of(&replicate.counts).ok()?;
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
            let model = weighted_mean(&model[k], weights);
            let data_corrected = weighted_mean(&data[k].corrected, weights);
            Stochasticity {
                divergence: divergence.to_string(),
                model,
                data: weighted_mean(&data[k].plain, weights),
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

/// Categorical entropies of the data's laws by one divergence.
pub(crate) struct DataEntropies<'a> {
    counts: &'a SparseRows<u64>,
    divergence: Divergence,
    /// Of the frequencies, or of the exact laws.
    plain: Vec<f64>,
    /// With the first-order bias of counts taken away; exact laws have none.
    corrected: Vec<f64>,
}

impl<'a> DataEntropies<'a> {
    pub fn of(observation: &'a Observation, divergence: Divergence) -> Result<Self, StochError> {
        let counts = &observation.counts;
        let (plain, corrected) = if observation.is_exact() {
            let laws = observation.laws();
            let of = |(_, law): (_, &[f64])| divergence.categorical_entropy(law);
            let plain: Vec<f64> = laws.rows().map(of).collect::<Result<_, _>>()?;
            (plain.clone(), plain)
        } else {
            let rows = (0..counts.nrows()).into_par_iter();
            let of = |row| jackknife(counts.row(row).1, divergence);
            let both: Vec<(f64, f64)> = rows.map(of).collect::<Result<_, _>>()?;
            both.into_iter().unzip()
        };
        Ok(Self {
            counts,
            divergence,
            plain,
            corrected,
        })
    }

    /// The corrected ones of other counts in the same places. Rows with the same counts are not computed
    /// again: leaving a few documents out leaves most as they are.
    pub fn corrected_of(&self, others: &[u64]) -> Result<Vec<f64>, StochError> {
        (0..self.counts.nrows())
            .into_par_iter()
            .map(|row| match &others[self.counts.range(row)] {
                same if same == self.counts.row(row).1 => Ok(self.corrected[row]),
                other => Ok(jackknife(other, self.divergence)?.1),
            })
            .collect()
    }
}

/// The entropy H of the frequencies of one row of counts, and `n H - (n - 1) mean H without one occurrence`;
/// the same twice of a row seen once, zeros of one that a replicate does not draw.
fn jackknife(counts: &[u64], divergence: Divergence) -> Result<(f64, f64), StochError> {
    let total = counts.iter().sum::<u64>();
    if total == 0 {
        return Ok((0.0, 0.0));
    }
    let n = total as f64;
    let law: Vec<f64> = counts.iter().map(|&v| v as f64 / n).collect();
    let plain = divergence.categorical_entropy(&law)?;
    if total == 1 {
        return Ok((plain, plain));
    }
    // Leaving out any of the tokens with one count leaves the same entropy.
    let mut distinct: Vec<u64> = counts.iter().copied().filter(|&v| v > 0).collect();
    distinct.sort_unstable();
    let mut without = Vec::new();
    for same in distinct.chunk_by(|a, b| a == b) {
        let position = counts.iter().position(|v| *v == same[0]).unwrap_or(0);
        let law: Vec<f64> = counts
            .iter()
            .enumerate()
            .map(|(k, &v)| (v - u64::from(k == position)) as f64 / (n - 1.0))
            .collect();
        let weight = same[0] as f64 * same.len() as f64 / n;
        without.push(weight * divergence.categorical_entropy(&law)?);
    }
    Ok((plain, n * plain - (n - 1.0) * sum(without)))
}

/// The mean Shannon entropy of an Observation's frequencies with the first-order bias taken away by the
/// jackknife over the occurrences of each context, nats.
///
/// *Source:* Zahl, *Jackknifing an index of diversity* (1977).
///
/// # Errors
/// None for counts.
pub fn corrected_entropy(observation: &Observation) -> Result<f64, InformationError> {
    let entropies = DataEntropies::of(observation, SHANNON)?;
    Ok(weighted_mean(&entropies.corrected, &observation.weights))
}

/// The divergence whose categorical entropy is Shannon's.
pub(crate) const SHANNON: Divergence = Divergence::KullbackLeibler;
