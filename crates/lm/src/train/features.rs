//! Unconstrained features: a free vector for every context, instead of a network.
//!
//! *Source:* Mixon, Parshall, Pi, *Neural collapse with unconstrained features* (2022); for next
//! tokens, Zhao, Behnia, Vakilian, Thrampoulidis (arXiv 2408.15417), section 3.

use lawvere_core::RowMatrix;
use lawvere_core::vector::Real;

use crate::train::FeaturesConfig;
use crate::train::network::{Input, Network};
use crate::train::parameters::{Parameters, Spec, Start};

/// The features are a tensor, contexts x d; an [`Input`] is ignored, every step reads all contexts.
pub(crate) struct Features<T> {
    config: FeaturesConfig,
    states: RowMatrix<T>,
}

const FEATURES: usize = 1;

pub(crate) fn specs(config: &FeaturesConfig) -> Vec<Spec> {
    let start = Start::Normal(0.1 / (config.dim as f64).sqrt());
    vec![
        Spec::matrix("head.weight", config.vocab_size, config.dim, start),
        Spec::matrix("features.weight", config.contexts, config.dim, start),
    ]
}

impl<T: Real> Features<T> {
    pub fn new(config: FeaturesConfig) -> Self {
        let states = RowMatrix::zeros(config.contexts, config.dim);
        Self { config, states }
    }
}

impl<T: Real> Network<T> for Features<T> {
    fn specs(&self) -> Vec<Spec> {
        specs(&self.config)
    }

    fn head(&self) -> usize {
        0
    }

    fn layers(&self) -> usize {
        0
    }

    fn forward(&mut self, parameters: &Parameters<T>, _: Input<'_>) {
        let features = parameters.0[FEATURES].values.data();
        self.states.data_mut().copy_from_slice(features);
    }

    fn states(&self, _: usize) -> &RowMatrix<T> {
        &self.states
    }

    fn backward(
        &mut self,
        _: &Parameters<T>,
        _: Input<'_>,
        d_states: &mut RowMatrix<T>,
        gradient: &mut Parameters<T>,
    ) {
        let target = gradient.0[FEATURES].values.data_mut();
        target.copy_from_slice(d_states.data());
    }
}
