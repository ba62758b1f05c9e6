//! Divergences given by a convex function.

use super::entropy::complements;
use super::{Distribution, StochError};
use crate::sum::sum;

/// The f-divergence `D_f(p || q) = sum q f(p/q) + f'(inf) p(q = 0)` of a convex function f on
/// `(0, inf)` with `f(1) = 0`.
///
/// The two limits cannot be found by evaluating f, and laws with zeros need them. Convexity is the
/// caller's promise: without it the data processing inequality fails.
///
/// ```
/// use lawvere_core::stoch::{Distribution, FDivergence};
/// // The triangular discrimination, sum (p - q)^2 / (p + q).
/// let triangular = FDivergence {
///     f: |t: f64| (t - 1.0).powi(2) / (t + 1.0),
///     at_zero: 1.0,
///     slope_at_infinity: 1.0,
/// };
/// let p = Distribution::new(vec![1.0, 0.0])?;
/// let q = Distribution::new(vec![0.0, 1.0])?;
/// assert_eq!(triangular.between(&p, &q)?, 2.0);
/// # Ok::<(), lawvere_core::stoch::StochError>(())
/// ```
///
/// *Source:* Csiszar, *Information-type measures of difference of probability distributions and
/// indirect observations* (1967); Csiszar and Shields, *Information theory and statistics: a
/// tutorial* (2004), section 4.
#[derive(Debug, Clone, Copy)]
pub struct FDivergence<F: Fn(f64) -> f64> {
    /// The function on `(0, inf)`.
    pub f: F,
    /// Its limit at 0; may be `+inf`.
    pub at_zero: f64,
    /// Its slope at infinity, the limit of `f(t) / t`; may be `+inf`.
    pub slope_at_infinity: f64,
}

impl<F: Fn(f64) -> f64> FDivergence<F> {
    /// `D_f(p || q)`; nats if f is in nats. O(n).
    ///
    /// A ratio `p/q` too large for an f64 counts as `q = 0`.
    ///
    /// # Errors
    /// Different numbers of outcomes, values of f whose sum is not a number.
    pub fn between(&self, p: &Distribution, q: &Distribution) -> Result<f64, StochError> {
        self.between_slices(p.probabilities(), q.probabilities())
    }

    /// [`between`](Self::between) for probabilities known to be laws, which is not checked. O(n),
    /// without allocation.
    ///
    /// # Errors
    /// Different numbers of outcomes, values of f whose sum is not a number.
    pub fn between_slices(&self, p: &[f64], q: &[f64]) -> Result<f64, StochError> {
        if p.len() != q.len() {
            return Err(StochError::Outcomes {
                left: p.len(),
                right: q.len(),
            });
        }
        number(sum(p.iter().zip(q).map(|(&p, &q)| match (p, q) {
            (0.0, 0.0) => 0.0,
            (0.0, _) => q * self.at_zero,
            _ => self.term(p, q, p / q),
        })))
    }

    /// The categorical entropy `D_f(copy of p || p ⊗ p) = sum p^2 f(1/p) + f(0) (1 - sum p^2)` of a
    /// law, which is not checked to be one. O(n).
    ///
    /// # Errors
    /// Values of f whose sum is not a number.
    ///
    /// *Source:* Perrone, *Markov categories and entropy* (2023).
    pub fn categorical_entropy(&self, law: &[f64]) -> Result<f64, StochError> {
        let on_diagonal = sum(complements(law).map(|(p, _)| p * self.term(1.0, p, 1.0 / p)));
        let beside = sum(complements(law).map(|(p, rest)| p * rest));
        // 0 f(0) = 0 even where f(0) = inf: a point mass has nothing beside the diagonal.
        let outside = if beside > 0.0 {
            beside * self.at_zero
        } else {
            0.0
        };
        number(on_diagonal + outside)
    }

    /// `q f(p/q)` for `p > 0`, also where q is 0 or next to it.
    fn term(&self, p: f64, q: f64, ratio: f64) -> f64 {
        if ratio.is_finite() {
            q * (self.f)(ratio)
        } else {
            p * self.slope_at_infinity
        }
    }
}

fn number(value: f64) -> Result<f64, StochError> {
    if value.is_nan() {
        Err(StochError::Generator)
    } else {
        // Turns the negative zero of equal laws into zero.
        Ok(value + 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{Divergence, StochError};
    use super::*;
    use proptest::prelude::*;
    use std::f64::consts::LN_2;

    type Generator = FDivergence<fn(f64) -> f64>;

    fn named() -> [(Divergence, Generator); 6] {
        let inf = f64::INFINITY;
        let from = |f: fn(f64) -> f64, at_zero, slope_at_infinity| FDivergence {
            f,
            at_zero,
            slope_at_infinity,
        };
        [
            (Divergence::KullbackLeibler, from(|t| t * t.ln(), 0.0, inf)),
            (
                Divergence::ReverseKullbackLeibler,
                from(|t| -t.ln(), inf, 0.0),
            ),
            (
                Divergence::TotalVariation,
                from(|t| 0.5 * (t - 1.0).abs(), 0.5, 0.5),
            ),
            (
                Divergence::Hellinger,
                from(|t| 0.5 * (t.sqrt() - 1.0).powi(2), 0.5, 0.5),
            ),
            (
                Divergence::ChiSquared,
                from(|t| (t - 1.0).powi(2), 1.0, inf),
            ),
            (
                Divergence::JensenShannon,
                from(
                    |t| 0.5 * (t * t.ln() - (t + 1.0) * (0.5 * (t + 1.0)).ln()),
                    0.5 * LN_2,
                    0.5 * LN_2,
                ),
            ),
        ]
    }

    /// What the generator gives where the named divergence is `value`.
    fn generated(divergence: Divergence, value: f64) -> f64 {
        match divergence {
            // The generator is that of the squared distance.
            Divergence::Hellinger => value * value,
            _ => value,
        }
    }

    fn agree(a: f64, b: f64) -> bool {
        a == b || (a - b).abs() <= 1e-12 * b.abs().max(1.0)
    }

    proptest! {
        #[test]
        fn a_generator_gives_its_named_divergence_on_laws_with_zeros(a in weights(5), b in weights(5)) {
            let (p, q) = (normalised(&a), normalised(&b));
            for (divergence, f) in named() {
                let (found, wanted) = (f.between(&p, &q).unwrap(), divergence.between(&p, &q).unwrap());
                prop_assert!(agree(found, generated(divergence, wanted)), "{divergence}: {found} {wanted}");
            }
        }

        #[test]
        fn a_generator_gives_its_named_categorical_entropy(a in weights(5)) {
            let law = normalised(&a);
            for (divergence, f) in named() {
                let found = f.categorical_entropy(law.probabilities()).unwrap();
                let wanted = divergence.categorical_entropy(law.probabilities()).unwrap();
                prop_assert!(agree(found, generated(divergence, wanted)), "{divergence}: {found} {wanted}");
            }
        }
    }

    #[test]
    fn no_infinite_limit_meets_a_zero_mass() {
        let tiny = f64::from_bits(1);
        for (divergence, f) in named() {
            for law in [[1.0, 0.0], [0.5, 0.5], [1.0, tiny]] {
                assert_eq!(f.between_slices(&law, &law), Ok(0.0), "{divergence}");
                assert!(f.categorical_entropy(&law).is_ok(), "{divergence}");
            }
            assert_eq!(f.categorical_entropy(&[1.0, 0.0]), Ok(0.0), "{divergence}");
            assert!(f.between_slices(&[1.0, tiny], &[tiny, 1.0]).is_ok());
        }
    }

    #[test]
    fn a_generator_that_is_no_function_is_an_error_and_not_nan() {
        let bad = FDivergence {
            f: |t: f64| (t - 2.0).sqrt(),
            at_zero: 0.0,
            slope_at_infinity: 0.0,
        };
        assert_eq!(
            bad.between_slices(&[0.5, 0.5], &[0.25, 0.75]),
            Err(StochError::Generator)
        );
        assert!(bad.between_slices(&[1.0], &[0.5, 0.5]).is_err());
    }
}
