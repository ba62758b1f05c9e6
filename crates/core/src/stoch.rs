//! Finite distributions: entropies and divergences, in nats.

use thiserror::Error;

use crate::sum::{CompensatedSum, sum};

/// Why numbers are not a probability distribution.
#[derive(Debug, Clone, PartialEq, Error)]
#[allow(missing_docs)]
pub enum StochError {
    #[error("probability {index} is {value}; probabilities are finite and not negative")]
    Probability { index: usize, value: f64 },
    #[error("the probabilities sum to {total}; they must sum to 1 within {tolerance:e}")]
    Total { total: f64, tolerance: f64 },
    #[error("distributions over {left} and {right} outcomes cannot be compared")]
    Outcomes { left: usize, right: usize },
    #[error("the Renyi order must be in [0, inf], found {0}")]
    Order(f64),
}

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
    pub fn new(mut probabilities: Vec<f64>) -> Result<Self, StochError> {
        if let Some(index) = probabilities
            .iter()
            .position(|&p| !(p.is_finite() && p >= 0.0))
        {
            return Err(StochError::Probability {
                index,
                value: probabilities[index],
            });
        }
        let total = sum(probabilities.iter().copied());
        if (total - 1.0).abs() > Self::TOLERANCE {
            return Err(StochError::Total {
                total,
                tolerance: Self::TOLERANCE,
            });
        }
        probabilities.iter_mut().for_each(|p| *p /= total);
        Ok(Self(probabilities))
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

/// Shannon entropy `-sum p log p` in nats of probabilities that sum to 1; zeros add nothing.
pub fn entropy(probabilities: impl IntoIterator<Item = f64>) -> f64 {
    // `+ 0.0` turns the negative zero of a point mass into zero.
    -sum(probabilities
        .into_iter()
        .filter(|&p| p > 0.0)
        .map(|p| p * p.ln()))
        + 0.0
}

/// A divergence `D(p || q)` between distributions on the same outcomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Divergence {
    /// Kullback-Leibler, `sum p log(p/q)`; `+inf` unless p is absolutely continuous with respect to q.
    KullbackLeibler,
    /// Jensen-Shannon with equal weights; at most log 2.
    JensenShannon,
    /// Total variation, half the L1 distance.
    TotalVariation,
    /// Hellinger distance, `sqrt(1 - sum sqrt(p q))`.
    Hellinger,
    /// Chi-squared, `sum (p - q)^2 / q`.
    ChiSquared,
    /// Renyi of an order in `[0, inf]`; order 1 is Kullback-Leibler.
    Renyi(f64),
}

impl Divergence {
    /// `D(p || q)`; nats where a logarithm is taken. O(n).
    ///
    /// # Errors
    /// Different numbers of outcomes, a Renyi order that is negative or NaN.
    pub fn between(self, p: &Distribution, q: &Distribution) -> Result<f64, StochError> {
        let (p, q) = (p.probabilities(), q.probabilities());
        if p.len() != q.len() {
            return Err(StochError::Outcomes {
                left: p.len(),
                right: q.len(),
            });
        }
        let over = |f: fn(f64, f64) -> f64| sum(p.iter().zip(q).map(|(&p, &q)| f(p, q)));
        Ok(match self {
            Self::KullbackLeibler => over(kl_term).max(0.0),
            Self::JensenShannon => {
                let half = |p: f64, q: f64| kl_term(p, 0.5 * (p + q));
                let terms = p.iter().zip(q).map(|(&p, &q)| half(p, q) + half(q, p));
                (0.5 * sum(terms)).max(0.0)
            }
            Self::TotalVariation => 0.5 * over(|p, q| (p - q).abs()),
            // 1 - sum sqrt(pq) = sum (sqrt p - sqrt q)^2 / 2, which keeps small distances.
            Self::Hellinger => (0.5 * over(|p, q| (p.sqrt() - q.sqrt()).powi(2))).sqrt(),
            Self::ChiSquared => over(|p, q| match (p, q) {
                (0.0, 0.0) => 0.0,
                (_, 0.0) => f64::INFINITY,
                _ => (p - q).powi(2) / q,
            }),
            Self::Renyi(order) => renyi(order, p, q)?,
        })
    }
}

/// One term of a Kullback-Leibler divergence, `p log(p/q)` with `0 log(0/q) = 0` and `p log(p/0) = +inf`.
pub fn kl_term(p: f64, q: f64) -> f64 {
    if p == 0.0 {
        0.0
    } else if q == 0.0 {
        f64::INFINITY
    } else {
        p * (p / q).ln()
    }
}

fn renyi(order: f64, p: &[f64], q: &[f64]) -> Result<f64, StochError> {
    if order.is_nan() || order < 0.0 {
        return Err(StochError::Order(order));
    }
    let on_support = || {
        p.iter()
            .zip(q)
            .filter(|(p, _)| **p > 0.0)
            .map(|(&p, &q)| (p, q))
    };
    let value = if order == 0.0 {
        -sum(on_support().map(|(_, q)| q)).ln()
    } else if order == 1.0 {
        sum(on_support().map(|(p, q)| kl_term(p, q)))
    } else if order == f64::INFINITY {
        on_support()
            .map(|(p, q)| (p / q).ln())
            .fold(f64::NEG_INFINITY, f64::max)
    } else {
        let mut total = CompensatedSum::default();
        for (p, q) in on_support() {
            if q > 0.0 {
                total.add(q * (order * (p / q).ln()).exp());
            } else if order > 1.0 {
                return Ok(f64::INFINITY);
            }
        }
        total.value().ln() / (order - 1.0)
    };
    Ok(value.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Divergence; 9] = [
        Divergence::KullbackLeibler,
        Divergence::JensenShannon,
        Divergence::TotalVariation,
        Divergence::Hellinger,
        Divergence::ChiSquared,
        Divergence::Renyi(0.0),
        Divergence::Renyi(0.5),
        Divergence::Renyi(2.0),
        Divergence::Renyi(f64::INFINITY),
    ];

    fn normalised(weights: &[u8]) -> Distribution {
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        Distribution::new(weights.iter().map(|&w| f64::from(w) / total).collect()).unwrap()
    }

    fn weights(n: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..6, n).prop_filter("some mass", |w| w.iter().any(|&x| x > 0))
    }

    fn merge(p: &Distribution) -> Distribution {
        let p = p.probabilities();
        Distribution::new(vec![p[0] + p[3], p[1] + p[2], p[4]]).unwrap()
    }

    proptest! {
        #[test]
        fn merging_outcomes_never_increases_a_divergence(a in weights(5), b in weights(5)) {
            let (p, q) = (normalised(&a), normalised(&b));
            for divergence in ALL {
                let fine = divergence.between(&p, &q).unwrap();
                let coarse = divergence.between(&merge(&p), &merge(&q)).unwrap();
                prop_assert!(coarse <= fine + 1e-12, "{divergence:?}: {coarse} > {fine}");
            }
        }

        #[test]
        fn a_divergence_vanishes_on_equal_laws_only(a in weights(4), b in weights(4)) {
            let (p, q) = (normalised(&a), normalised(&b));
            for divergence in ALL {
                prop_assert!(divergence.between(&p, &p).unwrap().abs() < 1e-12);
                // Renyi of order 0 sees supports only.
                if p != q && divergence != Divergence::Renyi(0.0) {
                    let apart = Divergence::TotalVariation.between(&p, &q).unwrap() > 1e-12;
                    prop_assert!(!apart || divergence.between(&p, &q).unwrap() > 0.0);
                }
            }
        }

        #[test]
        fn renyi_of_order_near_one_is_near_kullback_leibler(a in weights(4), b in weights(4)) {
            let b: Vec<u8> = b.iter().map(|w| w + 1).collect();
            let (p, q) = (normalised(&a), normalised(&b));
            let kl = Divergence::KullbackLeibler.between(&p, &q).unwrap();
            let near = Divergence::Renyi(1.0 + 1e-6).between(&p, &q).unwrap();
            prop_assert!((kl - near).abs() < 1e-4);
        }
    }

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
        let (p, q) = (normalised(&[1]), normalised(&[1, 1]));
        assert!(Divergence::Hellinger.between(&p, &q).is_err());
        assert_eq!(
            Divergence::Renyi(-1.0).between(&p, &p),
            Err(StochError::Order(-1.0))
        );
    }
}
