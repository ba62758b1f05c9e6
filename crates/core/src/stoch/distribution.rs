//! Probability distributions on finite sets.

use super::{StochError, entropy};
use crate::sum::sum;

/// A probability distribution on `0..n`.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution(Vec<f64>);

impl Distribution {
    /// How far from 1 a total may be before it is an error rather than rounding.
    pub const TOLERANCE: f64 = 1e-9;

    /// The distribution with these probabilities, renormalised in f64.
    ///
    /// # Errors
    /// A negative or non-finite probability, a total further than [`TOLERANCE`](Self::TOLERANCE) from 1.
    pub fn new(probabilities: Vec<f64>) -> Result<Self, StochError> {
        Self::within(probabilities, Self::TOLERANCE)
    }

    /// The same with a tolerance of one's own, for probabilities that were stored with fewer digits.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn within(probabilities: Vec<f64>, tolerance: f64) -> Result<Self, StochError> {
        if let Some((index, value)) = improper(&probabilities) {
            return Err(StochError::Probability { index, value });
        }
        let total = sum(probabilities.iter().copied());
        if (total - 1.0).abs() > tolerance {
            return Err(StochError::Total { total, tolerance });
        }
        Ok(Self::scaled(probabilities))
    }

    /// The distribution proportional to weights known to have a positive total.
    pub(super) fn scaled(mut weights: Vec<f64>) -> Self {
        scale(&mut weights);
        Self(weights)
    }

    /// The probabilities.
    pub fn probabilities(&self) -> &[f64] {
        &self.0
    }

    /// Shannon entropy, in nats.
    pub fn entropy(&self) -> f64 {
        entropy(self.0.iter().copied())
    }
}

/// The first of `values` that cannot be a probability, with its place.
pub(super) fn improper(values: &[f64]) -> Option<(usize, f64)> {
    let mut places = values.iter().copied().enumerate();
    places.find(|(_, p)| !(p.is_finite() && *p >= 0.0))
}

/// Divides weights by their total, or makes them uniform where the total is 0.
pub(super) fn scale(weights: &mut [f64]) {
    let total = sum(weights.iter().copied());
    if total > 0.0 {
        weights.iter_mut().for_each(|p| *p /= total);
    } else {
        let share = 1.0 / weights.len() as f64;
        weights.fill(share);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{Distribution, Divergence, StochError};

    #[test]
    fn numbers_that_are_no_distribution_are_refused() {
        assert!(matches!(
            Distribution::new(vec![0.5, 0.6]),
            Err(StochError::Total { .. })
        ));
        assert!(matches!(
            Distribution::new(vec![1.5, -0.5]),
            Err(StochError::Probability { index: 1, .. })
        ));
        assert!(Distribution::new(vec![f64::NAN]).is_err());
        assert!(Distribution::new(vec![]).is_err());
        let (p, q) = (normalised(&[1]), normalised(&[1, 1]));
        assert!(Divergence::Hellinger.between(&p, &q).is_err());
        assert_eq!(
            Divergence::Renyi(-1.0).between(&p, &p),
            Err(StochError::Order(-1.0))
        );
    }
}
