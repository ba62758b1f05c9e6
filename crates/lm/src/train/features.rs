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
pub(crate) struct Features {
    config: FeaturesConfig,
}

const FEATURES: usize = 1;

impl Features {
    pub fn new(config: FeaturesConfig) -> Self {
        Self { config }
    }
}

impl<T: Real> Network<T> for Features {
    fn specs(&self) -> Vec<Spec> {
        let c = &self.config;
        let start = Start::Normal(0.1 / (c.dim as f64).sqrt());
        vec![
            Spec::matrix("head.weight", c.vocab_size, c.dim, start),
            Spec::matrix("features.weight", c.contexts, c.dim, start),
        ]
    }

    fn head(&self) -> usize {
        0
    }

    fn layers(&self) -> usize {
        0
    }

    fn forward(&mut self, _: &Parameters<T>, _: Input<'_>) {}

    fn states<'a>(&'a self, parameters: &'a Parameters<T>, _: usize) -> &'a RowMatrix<T> {
        &parameters.0[FEATURES].values
    }

    fn backward(
        &mut self,
        _: &Parameters<T>,
        _: Input<'_>,
        d_states: &mut RowMatrix<T>,
        gradient: &mut Parameters<T>,
    ) {
        std::mem::swap(&mut gradient.0[FEATURES].values, d_states);
    }
}
