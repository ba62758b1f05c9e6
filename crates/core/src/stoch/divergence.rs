//! The named divergences between distributions.

use std::f64::consts::LN_2;
use std::fmt;
use std::str::FromStr;

use super::{Distribution, StochError};
use crate::sum::sum;

/// A divergence `D(p || q)` between distributions on the same outcomes.
///
/// Each satisfies the data processing inequality: no kernel applied to both laws increases it.
/// It is read and written as one of [`NAMES`](Self::NAMES).
///
/// *Source:* Csiszar, *Information-type measures of difference of probability distributions and
/// indirect observations* (1967); van Erven and Harremoes, *Renyi divergence and Kullback-Leibler
/// divergence* (2014).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Divergence {
    /// Kullback-Leibler, `sum p log(p/q)`; `+inf` unless p is absolutely continuous with respect to q.
    KullbackLeibler,
    /// Kullback-Leibler of the exchanged laws, `sum q log(q/p)`.
    ReverseKullbackLeibler,
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
    /// What [`FromStr`] reads, for messages and help.
    pub const NAMES: &str =
        "kl, reverse-kl, tv, hellinger, chi2, js and renyi:A with A a number in [0, inf]";

    /// `D(p || q)`; nats where a logarithm is taken. O(n).
    ///
    /// # Errors
    /// Different numbers of outcomes, a Renyi order that is negative or NaN.
    pub fn between(self, p: &Distribution, q: &Distribution) -> Result<f64, StochError> {
        self.between_slices(p.probabilities(), q.probabilities())
    }

    /// [`between`](Self::between) for probabilities known to be laws: finite, not negative and of
    /// total 1, which is not checked. O(n), without allocation.
    ///
    /// # Errors
    /// Different numbers of outcomes, a Renyi order that is negative or NaN.
    pub fn between_slices(self, p: &[f64], q: &[f64]) -> Result<f64, StochError> {
        if p.len() != q.len() {
            return Err(StochError::Outcomes {
                left: p.len(),
                right: q.len(),
            });
        }
        self.of_pairs(p.iter().copied().zip(q.iter().copied()))
    }

    /// `D(p || q)` for the pairs `(p, q)` of each outcome.
    pub(super) fn of_pairs(
        self,
        pairs: impl Iterator<Item = (f64, f64)> + Clone,
    ) -> Result<f64, StochError> {
        let over = |f: fn(f64, f64) -> f64| sum(pairs.clone().map(|(p, q)| f(p, q)));
        Ok(match self {
            Self::KullbackLeibler => over(kl_term).max(0.0),
            Self::ReverseKullbackLeibler => over(|p, q| kl_term(q, p)).max(0.0),
            Self::JensenShannon => over(|p, q| match p + q {
                0.0 => 0.0,
                total => jensen_shannon_term(total, (p - q) / total),
            }),
            Self::TotalVariation => 0.5 * over(|p, q| (p - q).abs()),
            // 1 - sum sqrt(pq) = sum (sqrt p - sqrt q)^2 / 2, which keeps small distances.
            Self::Hellinger => (0.5 * over(|p, q| (p.sqrt() - q.sqrt()).powi(2))).sqrt(),
            Self::ChiSquared => over(|p, q| match (p, q) {
                (0.0, 0.0) => 0.0,
                (_, 0.0) => f64::INFINITY,
                _ => (p - q).powi(2) / q,
            }),
            Self::Renyi(order) => {
                let order = renyi_order(order)?;
                let support = pairs.filter(|(p, _)| *p > 0.0);
                exponential_mean(order - 1.0, support.map(|(p, q)| (p, log_ratio(p, q)))).max(0.0)
            }
        })
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KullbackLeibler => "kl",
            Self::ReverseKullbackLeibler => "reverse-kl",
            Self::JensenShannon => "js",
            Self::TotalVariation => "tv",
            Self::Hellinger => "hellinger",
            Self::ChiSquared => "chi2",
            Self::Renyi(order) => return write!(f, "renyi:{order}"),
        })
    }
}

impl FromStr for Divergence {
    type Err = StochError;

    fn from_str(name: &str) -> Result<Self, StochError> {
        let unknown = || StochError::Name(name.to_owned());
        Ok(match name {
            "kl" => Self::KullbackLeibler,
            "reverse-kl" => Self::ReverseKullbackLeibler,
            "js" => Self::JensenShannon,
            "tv" => Self::TotalVariation,
            "hellinger" => Self::Hellinger,
            "chi2" => Self::ChiSquared,
            _ => {
                let order = name.strip_prefix("renyi:").ok_or_else(unknown)?;
                Self::Renyi(renyi_order(order.parse().map_err(|_| unknown())?)?)
            }
        })
    }
}

/// One term of a Kullback-Leibler divergence, `p log(p/q)` with `0 log(0/q) = 0` and `p log(p/0) = +inf`.
pub fn kl_term(p: f64, q: f64) -> f64 {
    if p == 0.0 { 0.0 } else { p * log_ratio(p, q) }
}

/// The order of a Renyi divergence.
pub(super) fn renyi_order(order: f64) -> Result<f64, StochError> {
    if order >= 0.0 {
        Ok(order.abs())
    } else {
        Err(StochError::Order(order))
    }
}

/// `log(p/q)` for `p > 0`; `+inf` at `q = 0`.
fn log_ratio(p: f64, q: f64) -> f64 {
    let ratio = p / q;
    if ratio.is_finite() {
        ratio.ln()
    } else {
        // The ratio overflows for a tiny q, its logarithm does not.
        p.ln() - q.ln()
    }
}

/// One term of the Jensen-Shannon divergence, `(p log(p/m) + q log(q/m)) / 2` with m the midpoint,
/// given `total = p + q` and `contrast = (p - q) / (p + q)`; the equality of p and q costs no digits.
pub(super) fn jensen_shannon_term(total: f64, contrast: f64) -> f64 {
    let d = contrast.abs();
    // (1+d) log(1+d) + (1-d) log(1-d), whose first orders cancel for a small d.
    let spread = if d < 0.5 {
        (-d * d).ln_1p() + 2.0 * d * d.atanh()
    } else if d < 1.0 {
        (1.0 + d) * d.ln_1p() + (1.0 - d) * (-d).ln_1p()
    } else {
        2.0 * LN_2
    };
    0.25 * total * spread
}

/// The exponential mean `log(sum w exp(s l)) / s` of values `l > -inf` under weights `w > 0` of
/// total 1, with its limits: the mean at `s = 0`, the extremes at `s = -inf` and `s = inf`.
///
/// A Renyi divergence of order α is one of `log p/q` under p at `s = α - 1`, a Renyi entropy of
/// order β one of `-log p` at `s = 1 - β`.
pub(super) fn exponential_mean(s: f64, terms: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    if s == 0.0 {
        return sum(terms.map(|(w, l)| w * l));
    }
    let values = terms.clone().map(|(_, l)| l);
    let extreme = if s > 0.0 {
        values.fold(f64::NEG_INFINITY, f64::max)
    } else {
        values.fold(f64::INFINITY, f64::min)
    };
    if s.is_infinite() || extreme.is_infinite() {
        return extreme;
    }
    // Near 0 the logarithm of the sum would lose what s is about to divide.
    let excess = sum(terms.clone().map(|(w, l)| w * (s * l).exp_m1()));
    if excess.abs() <= 0.5 {
        return excess.ln_1p() / s;
    }
    let tail = sum(terms.map(|(w, l)| w * (s * (l - extreme)).exp()));
    extreme + tail.ln() / s
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use proptest::prelude::*;

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
            for gap in [1e-6, 1e-12] {
                let near = Divergence::Renyi(1.0 + gap).between(&p, &q).unwrap();
                prop_assert!((kl - near).abs() < 1e2 * gap + 1e-14);
            }
        }

        #[test]
        fn renyi_divergences_do_not_decrease_with_the_order(
            a in weights(4), b in weights(4), low in 0.0..3.0f64, step in 0.0..400.0f64
        ) {
            let (p, q) = (normalised(&a), normalised(&b));
            let at = |order| Divergence::Renyi(order).between(&p, &q).unwrap();
            prop_assert!(at(low) <= at(low + step) + 1e-12);
            prop_assert!(at(low + step) <= at(f64::INFINITY) + 1e-12);
        }
    }

    #[test]
    fn a_divergence_is_read_from_the_name_that_it_prints() {
        for divergence in ALL {
            assert_eq!(divergence.to_string().parse(), Ok(divergence));
        }
        assert_eq!("renyi:inf".parse(), Ok(Divergence::Renyi(f64::INFINITY)));
        assert_eq!(
            "renyi:-1".parse::<Divergence>(),
            Err(StochError::Order(-1.0))
        );
        assert!("renyi:nan".parse::<Divergence>().is_err());
        for name in ["", "KL", "renyi", "renyi:", "renyi:x", "wasserstein"] {
            let message = name.parse::<Divergence>().unwrap_err().to_string();
            assert!(
                message.contains("reverse-kl") && message.contains("renyi:A"),
                "{message}"
            );
        }
    }

    #[test]
    fn extreme_laws_give_numbers_and_infinities_only_where_they_are_due() {
        let tiny = f64::from_bits(1);
        let laws = [
            [1.0, 0.0, 0.0],
            [0.0, 1.0, 0.0],
            [1.0, tiny, 0.0],
            [tiny, 1.0, tiny],
            [0.5, 0.5, 1e-200],
        ];
        for p in &laws {
            for q in &laws {
                for divergence in ALL {
                    let value = divergence.between_slices(p, q).unwrap();
                    assert!(value >= 0.0, "{divergence} of {p:?} and {q:?}: {value}");
                }
            }
        }
        let kl = Divergence::KullbackLeibler.between_slices(&[1.0, tiny], &[tiny, 1.0]);
        assert!((kl.unwrap() - -tiny.ln()).abs() < 1e-9);
        let js = Divergence::JensenShannon.between_slices(&laws[0], &laws[1]);
        assert!((js.unwrap() - LN_2).abs() < 1e-15);
        let far = Divergence::Renyi(1000.0).between_slices(&[0.9, 0.1], &[0.1, 0.9]);
        assert!((far.unwrap() - 9f64.ln()).abs() < 1e-2);
    }

    #[test]
    fn close_laws_keep_the_digits_of_their_jensen_shannon_divergence() {
        let (p, q) = ([0.5 + 1e-9, 0.5 - 1e-9], [0.5, 0.5]);
        let js = Divergence::JensenShannon.between_slices(&p, &q).unwrap();
        // To leading order sum (p - q)^2 / (8 m) with m = 1/2.
        let exact = sum(p.iter().zip(q).map(|(p, q)| (p - q).powi(2) / 4.0));
        assert!((js / exact - 1.0).abs() < 1e-8, "{js} {exact}");
    }
}
