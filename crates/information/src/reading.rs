use lawvere_observe::Observation;
use serde::Serialize;

use crate::InformationError;
use crate::pass::{HeadPass, entropy, leave_one_out, replicate_weights, weighted_mean};

/// What one layer's states say about the next token, read out through the final norm and head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerReading {
    /// The layer.
    pub layer: usize,
    /// I(S;W), W drawn from the layer's own reading: exact for these rows with their weights, at
    /// most `ceiling`, biased low for the population of contexts. Nats.
    pub information: f64,
    /// Its standard error (bootstrap over document blocks); `None` where documents are not told
    /// apart or are too many to keep a mean law each.
    pub information_error: Option<f64>,
    /// `sum_j pi_j KL(q_j || mean of the others)`: the leave-one-out partner, biased high.
    pub leave_one_out: f64,
    /// The entropy of the rows' weights: I(S;W) cannot exceed it.
    pub ceiling: f64,
    /// Mean entropy of the layer's laws, nats.
    pub head_entropy: f64,
    /// Cross-entropy of the data under the layer's laws, nats; infinite if some outcome is impossible.
    pub cross_entropy: f64,
}

/// Reads every kept layer out through the final norm and head.
///
/// Cost: two passes through the head a layer.
///
/// *Source:* arXiv 2507.19247, state-prediction information; the readout of earlier layers:
/// nostalgebraist, *interpreting GPT: the logit lens* (2020).
///
/// # Errors
/// An Observation without a model, or with earlier layers but no norm to read them through.
pub fn layer_readings(
    observation: &Observation,
    seed: u64,
    on_layer: &mut dyn FnMut(usize),
) -> Result<Vec<LayerReading>, InformationError> {
    let head = observation
        .head
        .as_ref()
        .ok_or(InformationError::NeedsModel)?;
    let states = observation
        .states
        .as_ref()
        .ok_or(InformationError::NeedsModel)?;
    let mut readings = Vec::new();
    for (layer, states) in states.layers() {
        let states = observation.readout(layer, states)?;
        let pass = HeadPass::with_block_laws(observation, head.view(), &states)?;
        let cross_entropy = pass.cross_entropy(observation, &observation.laws());
        let errors = pass.block_laws.as_ref().and_then(|block_laws| {
            observation.standard_errors(seed, |replicate| {
                let total = replicate.counts.iter().sum::<u64>() as f64;
                let mut mean = vec![0.0; block_laws.ncols()];
                for (law, &draws) in block_laws.rows().zip(&replicate.draws) {
                    if draws > 0 {
                        let share = f64::from(draws) / total;
                        mean.iter_mut().zip(law).for_each(|(m, x)| *m += share * x);
                    }
                }
                let weights = replicate_weights(observation, &replicate.counts);
                Some(vec![
                    entropy(&mean) - weighted_mean(&pass.entropies, &weights),
                ])
            })
        });
        readings.push(LayerReading {
            layer,
            information: pass.information(&observation.weights).max(0.0),
            information_error: errors.map(|e| e[0]),
            leave_one_out: leave_one_out(observation, head.view(), &states, &pass)?,
            ceiling: entropy(&observation.weights),
            head_entropy: weighted_mean(&pass.entropies, &observation.weights),
            cross_entropy,
        });
        on_layer(layer);
    }
    Ok(readings)
}
