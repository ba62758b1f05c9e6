use std::borrow::Cow;

use lawvere_core::{HeadRef, RowMatrix};
use lawvere_observe::{Head, Kind, Observation};

use crate::InformationError;

/// A model's head, or an error that says that there is none.
pub(crate) fn head(observation: &Observation) -> Result<&Head, InformationError> {
    observation
        .head
        .as_ref()
        .ok_or(InformationError::NeedsModel)
}

/// Whether a layer's states were kept.
///
/// # Errors
/// An Observation without a model; a layer that was not kept: the error lists those that were.
pub fn check_layer(observation: &Observation, layer: usize) -> Result<(), InformationError> {
    raw_states(observation, Some(layer)).map(|_| ())
}

/// The states of a layer as they are; of the last one without a number.
pub(crate) fn raw_states(
    observation: &Observation,
    layer: Option<usize>,
) -> Result<(usize, &RowMatrix<f32>), InformationError> {
    let states = observation
        .states
        .as_ref()
        .ok_or(InformationError::NeedsModel)?;
    let Some(layer) = layer else {
        return Ok(states.last());
    };
    let found = states.layers().find(|(l, _)| *l == layer);
    found.ok_or_else(|| InformationError::UnknownLayer {
        layer,
        known: states.layers().map(|(l, _)| l).collect(),
    })
}

/// The states of a layer as the head reads them, with the head.
pub(crate) struct Readout<'a> {
    pub layer: usize,
    pub head: HeadRef<'a>,
    pub states: Cow<'a, RowMatrix<f32>>,
}

impl<'a> Readout<'a> {
    pub fn of(
        observation: &'a Observation,
        layer: Option<usize>,
    ) -> Result<Self, InformationError> {
        let head = head(observation)?.view();
        let (layer, states) = raw_states(observation, layer)?;
        let is_last = raw_states(observation, None)?.0 == layer;
        let states = match is_last {
            true => Cow::Borrowed(states),
            false => Cow::Owned(observation.readout(layer, states)?),
        };
        Ok(Self {
            layer,
            head,
            states,
        })
    }
}

/// Fails on positions, where the data's law is a single token.
pub(crate) fn need_contexts(
    observation: &Observation,
    what: &'static str,
) -> Result<(), InformationError> {
    match observation.info.kind {
        Kind::Contexts => Ok(()),
        Kind::Positions => Err(InformationError::NeedsContexts(what)),
    }
}
