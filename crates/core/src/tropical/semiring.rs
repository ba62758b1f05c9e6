//! Semirings: two operations, of which the second distributes over the first.

use super::TropicalError;
use crate::ereal::{hom, plus};

/// A semiring. Sums are associative and commutative, products associative, and distribute over sums.
pub trait Semiring: Sync {
    /// What is added and multiplied.
    type Element: Copy + Default + PartialEq + Send + Sync;

    /// The neutral element of sums; products with it are it.
    fn zero(&self) -> Self::Element;
    /// The neutral element of products.
    fn one(&self) -> Self::Element;
    /// `a ⊕ b`.
    fn add(&self, a: Self::Element, b: Self::Element) -> Self::Element;
    /// `a ⊗ b`.
    fn multiply(&self, a: Self::Element, b: Self::Element) -> Self::Element;
    /// `1 ⊕ a ⊕ a ⊗ a ⊕ ...`; none where that has no limit.
    fn star(&self, a: Self::Element) -> Option<Self::Element>;
}

/// A semiring whose sum is a least upper bound in some order, and whose products can be undone as far as that order
/// goes: `a ⊗ t <= b` if and only if `t <= residual(a, b)`.
pub trait Residuated: Semiring {
    /// The greatest `t` with `a ⊗ t <= b`.
    fn residual(&self, a: Self::Element, b: Self::Element) -> Self::Element;
    /// The greatest lower bound of two elements.
    fn meet(&self, a: Self::Element, b: Self::Element) -> Self::Element;
    /// The greatest element, the meet of none.
    fn top(&self) -> Self::Element;
}

/// `([-inf, +inf], min, +)`, where `+inf` absorbs: lengths of shortest ways. Its order as a semiring is the reverse of
/// that of numbers, so that `residual(a, b)` is the least `t` with `a + t >= b`, the [`hom`](crate::EReal::hom).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MinPlus;

/// `([-inf, +inf], max, +)`, where `-inf` absorbs: the mirror image of [`MinPlus`] under `x -> -x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaxPlus;

/// `((-inf, +inf], ⊕, +)` with `a ⊕ b = -T log(exp(-a/T) + exp(-b/T))`: probabilities to the power 1/T, seen through
/// `-T log`. [`MinPlus`] is its limit at temperature 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogSumExp {
    temperature: f64,
}

/// `({false, true}, or, and)`: what may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Boolean;

/// `([0, inf), +, x)`: sums over all ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Probability;

impl LogSumExp {
    /// At temperature T, in the units of the elements (nats for distances).
    ///
    /// # Errors
    /// A temperature that is not positive and finite.
    pub fn new(temperature: f64) -> Result<Self, TropicalError> {
        match temperature > 0.0 && temperature.is_finite() {
            true => Ok(Self { temperature }),
            false => Err(TropicalError::Temperature(temperature)),
        }
    }

    /// T.
    pub fn temperature(self) -> f64 {
        self.temperature
    }

    /// `-T log Σ exp(-x/T)`: `+inf` of nothing, between the least term less `T log` of their number and the least
    /// term.
    pub fn sum(self, terms: impl Iterator<Item = f64> + Clone) -> f64 {
        let least = terms.clone().fold(f64::INFINITY, f64::min);
        if !least.is_finite() {
            return least;
        }
        let t = self.temperature;
        let rest = crate::sum(terms.map(|x| (-(x - least) / t).exp()));
        least - t * rest.ln()
    }
}

impl Semiring for MinPlus {
    type Element = f64;

    fn zero(&self) -> f64 {
        f64::INFINITY
    }

    fn one(&self) -> f64 {
        0.0
    }

    #[inline]
    fn add(&self, a: f64, b: f64) -> f64 {
        a.min(b)
    }

    #[inline]
    fn multiply(&self, a: f64, b: f64) -> f64 {
        plus(a, b)
    }

    fn star(&self, a: f64) -> Option<f64> {
        (a >= 0.0).then_some(0.0)
    }
}

impl Residuated for MinPlus {
    #[inline]
    fn residual(&self, a: f64, b: f64) -> f64 {
        hom(a, b)
    }

    #[inline]
    fn meet(&self, a: f64, b: f64) -> f64 {
        a.max(b)
    }

    fn top(&self) -> f64 {
        f64::NEG_INFINITY
    }
}

impl Semiring for MaxPlus {
    type Element = f64;

    fn zero(&self) -> f64 {
        f64::NEG_INFINITY
    }

    fn one(&self) -> f64 {
        0.0
    }

    #[inline]
    fn add(&self, a: f64, b: f64) -> f64 {
        a.max(b)
    }

    #[inline]
    fn multiply(&self, a: f64, b: f64) -> f64 {
        -plus(-a, -b)
    }

    fn star(&self, a: f64) -> Option<f64> {
        (a <= 0.0).then_some(0.0)
    }
}

impl Residuated for MaxPlus {
    #[inline]
    fn residual(&self, a: f64, b: f64) -> f64 {
        -hom(-a, -b)
    }

    #[inline]
    fn meet(&self, a: f64, b: f64) -> f64 {
        a.min(b)
    }

    fn top(&self) -> f64 {
        f64::INFINITY
    }
}

impl Semiring for LogSumExp {
    type Element = f64;

    fn zero(&self) -> f64 {
        f64::INFINITY
    }

    fn one(&self) -> f64 {
        0.0
    }

    fn add(&self, a: f64, b: f64) -> f64 {
        self.sum([a, b].into_iter())
    }

    #[inline]
    fn multiply(&self, a: f64, b: f64) -> f64 {
        plus(a, b)
    }

    /// `T log(1 - exp(-a/T))`, for positive elements.
    fn star(&self, a: f64) -> Option<f64> {
        let t = self.temperature;
        (a > 0.0).then(|| t * (-(-a / t).exp()).ln_1p() + 0.0)
    }
}

impl Semiring for Boolean {
    type Element = bool;

    fn zero(&self) -> bool {
        false
    }

    fn one(&self) -> bool {
        true
    }

    #[inline]
    fn add(&self, a: bool, b: bool) -> bool {
        a || b
    }

    #[inline]
    fn multiply(&self, a: bool, b: bool) -> bool {
        a && b
    }

    fn star(&self, _: bool) -> Option<bool> {
        Some(true)
    }
}

impl Residuated for Boolean {
    #[inline]
    fn residual(&self, a: bool, b: bool) -> bool {
        !a || b
    }

    #[inline]
    fn meet(&self, a: bool, b: bool) -> bool {
        a && b
    }

    fn top(&self) -> bool {
        true
    }
}

impl Semiring for Probability {
    type Element = f64;

    fn zero(&self) -> f64 {
        0.0
    }

    fn one(&self) -> f64 {
        1.0
    }

    #[inline]
    fn add(&self, a: f64, b: f64) -> f64 {
        a + b
    }

    #[inline]
    fn multiply(&self, a: f64, b: f64) -> f64 {
        a * b
    }

    fn star(&self, a: f64) -> Option<f64> {
        (a < 1.0).then(|| 1.0 / (1.0 - a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extended() -> impl Strategy<Value = f64> {
        prop_oneof![
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            (-8i32..8).prop_map(f64::from),
        ]
    }

    /// The laws of a semiring on three elements, up to `near`.
    fn lawful<S: Semiring>(
        s: &S,
        [a, b, c]: [S::Element; 3],
        near: impl Fn(S::Element, S::Element) -> bool,
    ) -> bool {
        let (add, mul) = (|x, y| s.add(x, y), |x, y| s.multiply(x, y));
        near(add(a, add(b, c)), add(add(a, b), c))
            && near(add(a, b), add(b, a))
            && near(mul(a, mul(b, c)), mul(mul(a, b), c))
            && near(mul(a, add(b, c)), add(mul(a, b), mul(a, c)))
            && near(mul(add(a, b), c), add(mul(a, c), mul(b, c)))
            && near(add(a, s.zero()), a)
            && near(mul(a, s.one()), a)
            && near(mul(s.one(), a), a)
            && near(mul(a, s.zero()), s.zero())
    }

    /// `a ⊗ t <= b` if and only if `t <= residual(a, b)`, where `x <= y` means `x ⊕ y = y`.
    fn residuated<S: Residuated>(s: &S, [a, b, t]: [S::Element; 3]) -> bool {
        let below = |x, y| s.add(x, y) == y;
        below(s.multiply(a, t), b) == below(t, s.residual(a, b)) && below(a, s.top())
    }

    proptest! {
        #[test]
        fn every_semiring_is_one(
            x in [extended(), extended(), extended()],
            p in [0u8..9, 0u8..9, 0u8..9],
            t in 0.1f64..4.0,
        ) {
            prop_assert!(lawful(&MinPlus, x, |a, b| a == b));
            prop_assert!(lawful(&MaxPlus, x, |a, b| a == b));
            prop_assert!(lawful(&Boolean, p.map(|p| p > 4), |a, b| a == b));
            prop_assert!(lawful(&Probability, p.map(f64::from), |a, b| a == b));
            let soft = LogSumExp::new(t).unwrap();
            let finite = x.map(|x| if x == f64::NEG_INFINITY { 0.0 } else { x });
            prop_assert!(lawful(&soft, finite, |a, b| a == b || (a - b).abs() < 1e-12));
            prop_assert!(residuated(&MinPlus, x) && residuated(&MaxPlus, x));
            prop_assert!(residuated(&Boolean, p.map(|p| p > 4)));
        }

        #[test]
        fn soft_sums_are_probabilities_to_a_power_and_tend_to_the_least(
            x in proptest::collection::vec(0.0f64..20.0, 1..6),
        ) {
            let least = x.iter().fold(f64::INFINITY, |a, &b| a.min(b));
            let at_one = LogSumExp::new(1.0).unwrap().sum(x.iter().copied());
            let mass: f64 = x.iter().map(|x| (-x).exp()).sum();
            prop_assert!((at_one + mass.ln()).abs() < 1e-12);
            let cold = LogSumExp::new(1e-6).unwrap().sum(x.iter().copied());
            prop_assert!(cold <= least && cold >= least - 1e-6 * (x.len() as f64).ln() - 1e-15);
        }
    }

    #[test]
    fn temperatures_that_are_none_are_refused() {
        for t in [0.0, -1.0, f64::INFINITY, f64::NAN] {
            assert!(LogSumExp::new(t).is_err());
        }
        assert_eq!(
            LogSumExp::new(1.0).unwrap().sum(std::iter::empty()),
            f64::INFINITY
        );
    }
}
