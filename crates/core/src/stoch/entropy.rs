//! Entropies: how far a law or a kernel is from one that copies.

use serde::{Serialize, Serializer};

use super::divergence::{exponential_mean, jensen_shannon_term, renyi_order};
use super::{Distribution, Divergence, FiniteKernel, StochError};
use crate::ereal::EReal;
use crate::sum::sum;

/// Shannon entropy `-sum p log p` in nats of probabilities that sum to 1; zeros add nothing.
pub fn entropy(probabilities: impl IntoIterator<Item = f64>) -> f64 {
    // `+ 0.0` turns the negative zero of a point mass into zero.
    -sum(probabilities
        .into_iter()
        .filter(|&p| p > 0.0)
        .map(|p| p * p.ln()))
        + 0.0
}

/// About the probability that the next draw is of a kind not drawn yet: the share of draws whose kind came up once.
/// `counts` say how often each kind was drawn; 0 of no draws.
///
/// ```
/// // Five draws of three kinds, two of which came up once.
/// assert_eq!(lawvere_core::stoch::unseen_mass([3, 1, 1]), 0.4);
/// ```
///
/// *Source:* Good, *The population frequencies of species and the estimation of population parameters* (1953).
pub fn unseen_mass(counts: impl IntoIterator<Item = u64>) -> f64 {
    let (mut once, mut all) = (0u64, 0u64);
    for count in counts {
        once += u64::from(count == 1);
        all += count;
    }
    once as f64 / all.max(1) as f64
}

/// The Renyi entropy `log(sum p^β) / (1 - β)` in nats of a law, over its support.
///
/// Every real order is meant, negative ones too: order 1 is Shannon's, order 0 the logarithm of
/// the size of the support, `inf` and `-inf` are `-log max p` and `-log min p`. The law is not
/// checked to be one. O(n), without allocation.
///
/// # Errors
/// An order that is NaN.
///
/// *Source:* Renyi, *On measures of entropy and information* (1961).
pub fn renyi_entropy(order: f64, law: &[f64]) -> Result<f64, StochError> {
    if order.is_nan() {
        return Err(StochError::EntropyOrder(order));
    }
    Ok(exponential_surprisal(1.0 - order, law))
}

/// The exponential mean of `-log p`, a Renyi entropy of order `1 - s`.
fn exponential_surprisal(s: f64, law: &[f64]) -> f64 {
    let support = law.iter().copied().filter(|&p| p > 0.0);
    // At s = -inf and a point mass, the surprisal is a negative zero.
    exponential_mean(s, support.map(|p| (p, -p.ln()))).max(0.0) + 0.0
}

impl Divergence {
    /// The categorical entropy `D(copy of p || p ⊗ p)` of a law: 0 for a point mass only, since
    /// only those copy. O(n), in closed form.
    ///
    /// Kullback-Leibler gives Shannon's entropy, total variation `1 - sum p^2`, Hellinger
    /// `sqrt(1 - sum p^(3/2))`, chi-squared one less than the size of the support, Renyi of order α the
    /// Renyi entropy of order `2 - α`. Reverse Kullback-Leibler is `+inf` off point masses. The
    /// law is not checked to be one.
    ///
    /// # Errors
    /// A Renyi order that is negative or NaN.
    ///
    /// *Source:* Perrone, *Markov categories and entropy* (2023).
    pub fn categorical_entropy(self, law: &[f64]) -> Result<f64, StochError> {
        let over = |f: fn(f64, f64) -> f64| sum(complements(law).map(|(p, rest)| f(p, rest)));
        let others = || law.iter().filter(|&&p| p > 0.0).count().saturating_sub(1);
        Ok(match self {
            Self::KullbackLeibler => entropy(law.iter().copied()).max(0.0),
            Self::ReverseKullbackLeibler if others() == 0 => 0.0,
            Self::ReverseKullbackLeibler => f64::INFINITY,
            // On the diagonal p against p^2, whose contrast is (1 - p) / (1 + p); beside it 0 against
            // a mass of 1 - sum p^2, where the term is linear.
            Self::JensenShannon => over(|p, rest| {
                jensen_shannon_term(p * (1.0 + p), rest / (1.0 + p))
                    + jensen_shannon_term(p * rest, 1.0)
            }),
            Self::TotalVariation => over(|p, rest| p * rest),
            Self::Hellinger => over(|p, rest| p * rest / (1.0 + p.sqrt())).sqrt(),
            Self::ChiSquared => others() as f64,
            Self::Renyi(order) => exponential_surprisal(renyi_order(order)? - 1.0, law),
        })
    }
}

/// The probabilities `p > 0` of a law with `1 - p`; a p next to 1 keeps the digits of the rest.
pub(super) fn complements(law: &[f64]) -> impl Iterator<Item = (f64, f64)> + Clone {
    let places = law.iter().copied().enumerate();
    places.clone().filter(|(_, p)| *p > 0.0).map(move |(i, p)| {
        // At most one probability is above a half, so that this stays linear.
        let rest = if p > 0.5 {
            sum(places.clone().filter(|(j, _)| *j != i).map(|(_, q)| q))
        } else {
            1.0 - p
        };
        (p, rest)
    })
}

/// The categorical entropy of a kernel, row by row; nats where a logarithm is taken.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CategoricalEntropy {
    /// The entropy of each row; may be `+inf`.
    #[serde(serialize_with = "extended_all")]
    pub per_row: Vec<f64>,
    /// Their mean under the state; rows of weight 0 do not count.
    #[serde(serialize_with = "extended")]
    pub mean: f64,
}

fn extended<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    EReal::new(*value).serialize(serializer)
}

fn extended_all<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(|&v| EReal::new(v)))
}

impl FiniteKernel {
    /// The categorical entropy `D(copy ∘ k || (k ⊗ k) ∘ copy)` of this kernel at each input, and
    /// its mean under a state on the inputs. It is 0 on every row exactly for deterministic kernels.
    /// O(inputs · outcomes).
    ///
    /// # Errors
    /// A state on another number of inputs, a Renyi order that is negative or NaN.
    ///
    /// *Source:* Perrone, *Markov categories and entropy* (2023).
    pub fn categorical_entropy(
        &self,
        divergence: Divergence,
        state: &Distribution,
    ) -> Result<CategoricalEntropy, StochError> {
        self.accepts(state)?;
        let rows = self.matrix().rows();
        let per_row = rows
            .map(|row| divergence.categorical_entropy(row))
            .collect::<Result<Vec<f64>, _>>()?;
        let weighted = state.probabilities().iter().zip(&per_row);
        let mean = sum(weighted.filter(|(w, _)| **w > 0.0).map(|(w, h)| w * h));
        Ok(CategoricalEntropy { per_row, mean })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::matrix::RowMatrix;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn renyi_entropies_do_not_increase_with_the_order(
            a in weights(5), low in -40.0..3.0f64, step in 0.0..60.0f64
        ) {
            let law = normalised(&a);
            let at = |order| renyi_entropy(order, law.probabilities()).unwrap();
            let orders = [f64::NEG_INFINITY, -1e300, low, low + step, 1e300, f64::INFINITY];
            for pair in orders.windows(2) {
                prop_assert!(at(pair[0]) >= at(pair[1]) - 1e-12, "{pair:?}");
            }
        }

        #[test]
        fn renyi_entropy_is_the_sum_of_powers(a in weights(5), order in -3.0..4.0f64) {
            let law = normalised(&a);
            let support = law.probabilities().iter().filter(|p| **p > 0.0);
            let powers: f64 = support.map(|p| p.powf(order)).sum();
            let found = renyi_entropy(order, law.probabilities()).unwrap();
            prop_assert!((found * (1.0 - order) - powers.ln()).abs() < 1e-11);
        }

        #[test]
        fn an_entropy_is_zero_for_point_masses_only(a in weights(4)) {
            let law = normalised(&a);
            let point = a.iter().filter(|w| **w > 0).count() == 1;
            for divergence in ALL {
                let found = divergence.categorical_entropy(law.probabilities()).unwrap();
                prop_assert!(if point { found.to_bits() == 0 } else { found > 0.0 }, "{divergence}: {found}");
            }
        }
    }

    #[test]
    fn orders_with_a_name_have_their_values() {
        let law = [0.5, 0.25, 0.125, 0.125, 0.0];
        let close = |order, wanted: f64| {
            let found = renyi_entropy(order, &law).unwrap();
            assert!((found - wanted).abs() < 1e-14, "{order}: {found} {wanted}");
        };
        close(1.0, 1.75 * 2f64.ln());
        close(0.0, 4f64.ln());
        close(2.0, -(0.34375f64.ln()));
        close(f64::INFINITY, 2f64.ln());
        close(f64::NEG_INFINITY, 8f64.ln());
        close(-1.0, 0.5 * 22f64.ln());
        assert!(matches!(
            renyi_entropy(f64::NAN, &law),
            Err(StochError::EntropyOrder(_))
        ));
        assert_eq!(
            Divergence::Renyi(-0.5).categorical_entropy(&law),
            Err(StochError::Order(-0.5))
        );
    }

    #[test]
    fn a_law_next_to_a_point_mass_keeps_the_digits_of_its_entropy() {
        let e = 1e-30;
        let law = [1.0, e];
        let close = |divergence: Divergence, wanted: f64| {
            let found = divergence.categorical_entropy(&law).unwrap();
            assert!(
                (found / wanted - 1.0).abs() < 1e-12,
                "{divergence}: {found}"
            );
        };
        close(Divergence::TotalVariation, 2.0 * e);
        close(Divergence::Hellinger, (1.5 * e).sqrt());
        // A mass of 2e beside the diagonal and one of e on it, each times (log 2) / 2.
        close(Divergence::JensenShannon, 1.5 * e * 2f64.ln());
        for divergence in ALL {
            for law in [[1.0, f64::from_bits(1)], [1.0, 1e-200]] {
                assert!(
                    divergence.categorical_entropy(&law).unwrap() >= 0.0,
                    "{divergence}"
                );
            }
        }
    }

    #[test]
    fn a_row_of_weight_zero_adds_nothing_to_the_mean_even_if_infinite() {
        let rows = RowMatrix::from_array_rows(vec![[1.0, 0.0], [0.5, 0.5]]);
        let kernel = FiniteKernel::new(rows).unwrap();
        let state = normalised(&[1, 0]);
        let reverse = Divergence::ReverseKullbackLeibler;
        let found = kernel.categorical_entropy(reverse, &state).unwrap();
        assert_eq!((found.mean, found.per_row[1]), (0.0, f64::INFINITY));
        assert_eq!(
            serde_json::to_string(&found).unwrap(),
            r#"{"per_row":[0.0,"inf"],"mean":0.0}"#
        );
    }
}
