//! Which of two words is the more special one, by the contexts that either suits.

use lawvere_core::sum;
use serde::Serialize;

use crate::{Estimate, MetricError};

/// How well two words stand in for one another in contexts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Hyponymy {
    /// The mean of `(log M_v - log M_u)^+`: how much better v suits contexts than u, where it does.
    pub second_better: Estimate,
    /// The mean of `(log M_u - log M_v)^+`.
    pub first_better: Estimate,
    /// Whether v is the hyponym: it suits fewer contexts better, `second_better < first_better`.
    pub second_is_hyponym: bool,
}

/// Compares words u and v over contexts (s, t): `means` are `[log M(s u t), log M(s v t)]`, M the geometric mean probability
/// of the tokens. The more general word suits the contexts of the special one, the special word those of the
/// general one less.
///
/// # Errors
/// Fewer than two contexts; a mean that is NaN, infinite or above 0.
///
/// *Source:* Liu, Xu, Wu, Trager, Achille, Soatto (arXiv 2310.18348), on hyponymy.
pub fn hyponymy(means: &[[f64; 2]]) -> Result<Hyponymy, MetricError> {
    if means.len() < 2 {
        return Err(MetricError::Argument {
            argument: "the number of contexts of a pair of words",
            value: means.len() as f64,
            wanted: "at least 2",
        });
    }
    let bad = |x: &&f64| !x.is_finite() || **x > 1e-3;
    if let Some(&value) = means.iter().flatten().find(bad) {
        return Err(MetricError::Argument {
            argument: "the mean log-probability of a text",
            value,
            wanted: "finite and at most 0",
        });
    }
    let estimate = |f: &dyn Fn(&[f64; 2]) -> f64| {
        let values: Vec<f64> = means.iter().map(f).collect();
        let n = values.len() as f64;
        let value = sum(values.iter().copied()) / n;
        let squares = sum(values.iter().map(|x| (x - value) * (x - value)));
        Estimate {
            value,
            error: Some((squares / (n * (n - 1.0))).sqrt()),
        }
    };
    let second_better = estimate(&|[u, v]| (v - u).max(0.0));
    let first_better = estimate(&|[u, v]| (u - v).max(0.0));
    Ok(Hyponymy {
        second_is_hyponym: second_better.value < first_better.value,
        second_better,
        first_better,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_suits_fewer_contexts_is_the_special_one() {
        // "animal" suits where "dog" stands nearly as well; "dog" does not suit where "animal" stands.
        let found = hyponymy(&[[-2.0, -1.9], [-2.0, -4.0], [-3.0, -3.5]]).unwrap();
        assert!(found.second_is_hyponym);
        assert!((found.second_better.value - 0.1 / 3.0).abs() < 1e-12);
        assert!((found.first_better.value - 2.5 / 3.0).abs() < 1e-12);
        let turned = hyponymy(&[[-1.9, -2.0], [-4.0, -2.0], [-3.5, -3.0]]).unwrap();
        assert!(!turned.second_is_hyponym);
        assert_eq!(turned.first_better, found.second_better);
        assert!(hyponymy(&[[-1.0, -1.0]]).is_err());
        assert!(hyponymy(&[[-1.0, f64::NAN], [0.0, 0.0]]).is_err());
    }
}
