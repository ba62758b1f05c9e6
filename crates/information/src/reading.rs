use lawvere_observe::Observation;
use serde::Serialize;

use crate::InformationError;
use crate::pass::{FromMean, HeadPass, block_error, entropy, weighted_mean};

/// What one layer's states say about the next token, read out through the final norm and head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerReading {
    /// The layer.
    pub layer: usize,
    /// I(S;W), W drawn from the layer's own reading: exact for these rows with their weights, at
    /// most `ceiling`, biased low for the population of contexts. Nats.
    pub information: f64,
    /// Its standard error: to first order that of the mean of `KL(q_j || mean law)`, blocks of documents
    /// taken as independent. `None` where documents are not told apart.
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
/// *Source:* arXiv 2507.19247, state-prediction information; Bickel, Doksum, *Mathematical Statistics* (2015),
/// the delta method; the readout of earlier layers:
/// nostalgebraist, *interpreting GPT: the logit lens* (2020).
///
/// # Errors
/// An Observation without a model, or with earlier layers but no norm to read them through.
pub fn layer_readings(
    observation: &Observation,
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
        let pass = HeadPass::run(observation, head.view(), &states)?;
        let cross_entropy = pass.cross_entropy(observation, &observation.laws());
        let divergences = FromMean::of(observation, head.view(), &states, &pass)?;
        readings.push(LayerReading {
            layer,
            information: pass.information(&observation.weights).max(0.0),
            information_error: block_error(observation, &divergences.mean),
            leave_one_out: weighted_mean(&divergences.others, &observation.weights),
            ceiling: entropy(&observation.weights),
            head_entropy: weighted_mean(&pass.entropies, &observation.weights),
            cross_entropy,
        });
        on_layer(layer);
    }
    Ok(readings)
}
