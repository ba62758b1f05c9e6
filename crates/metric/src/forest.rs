use lawvere_core::{RowMatrix, TropicalMatrix};

use crate::MetricError;

/// Texts ordered by "is a prefix of": a forest, with the log-probability of every extension.
///
/// By the chain rule a next-token law makes it a probabilistic language model in the sense of
/// Gaubert and Vlassopoulos: `Pr(c|a) = Pr(c|b) Pr(b|a)` along every branch.
#[derive(Debug, Clone, PartialEq)]
pub struct PrefixForest {
    parents: Vec<Option<usize>>,
    log_probs: Vec<f64>,
}

impl PrefixForest {
    /// A forest. `parents[i]`, the longest proper prefix of text i in the forest, comes before i;
    /// `log_probs[i]` is `log Pr(i | parents[i])` in nats, and is ignored for a root.
    ///
    /// # Errors
    /// A prefix that does not come first; a log-probability above 0 (by more than rounding) or NaN.
    pub fn new(parents: Vec<Option<usize>>, mut log_probs: Vec<f64>) -> Result<Self, MetricError> {
        if parents.len() != log_probs.len() {
            let (texts, probabilities) = (parents.len(), log_probs.len());
            return Err(MetricError::Lengths {
                texts,
                probabilities,
            });
        }
        for (text, (parent, value)) in parents.iter().zip(&mut log_probs).enumerate() {
            match *parent {
                None => *value = 0.0,
                Some(parent) if parent >= text => return Err(MetricError::Parent { text, parent }),
                // A float32 model rounds a probability of 1 to a little above.
                Some(_) if value.is_nan() || *value > 1e-6 => {
                    return Err(MetricError::LogProbability {
                        text,
                        value: *value,
                    });
                }
                Some(_) => *value = value.min(0.0),
            }
        }
        Ok(Self { parents, log_probs })
    }

    /// The number of texts.
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// The longest proper prefix of `text` in the forest.
    pub fn parent(&self, text: usize) -> Option<usize> {
        self.parents[text]
    }

    /// The texts that `text` extends, nearest first.
    pub fn prefixes(&self, text: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(self.parents[text], |&t| self.parents[t])
    }

    /// `d(parent, text)` in nats; 0 for a root.
    pub fn edge_distance(&self, text: usize) -> f64 {
        // `+ 0.0` turns the negative zero of a certain extension into zero.
        -self.log_probs[text] + 0.0
    }

    /// All distances `d(a, b) = -log Pr(b|a)` in nats, `+inf` unless a is a prefix of b: n x n,
    /// column k is the Yoneda image of text k. O(n^2) memory; for a few thousand texts.
    pub fn distances(&self) -> TropicalMatrix {
        let n = self.len();
        let mut entries = RowMatrix::zeros(n, n);
        entries.data_mut().fill(f64::INFINITY);
        for text in 0..n {
            let mut distance = 0.0;
            entries.row_mut(text)[text] = distance;
            let mut below = text;
            for prefix in self.prefixes(text) {
                distance += self.edge_distance(below);
                entries.row_mut(prefix)[text] = distance;
                below = prefix;
            }
        }
        // No entry is NaN: every log-probability was checked.
        TropicalMatrix::new(entries).unwrap_or_else(|_| TropicalMatrix::infinite(n, n))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Random forests with some impossible extensions.
    pub fn forests(n: usize) -> impl Strategy<Value = PrefixForest> {
        let edge = (any::<prop::sample::Index>(), 0u8..8);
        proptest::collection::vec(edge, n).prop_map(|edges| {
            let parents = edges
                .iter()
                .enumerate()
                .map(|(i, (pick, _))| Some(pick.index(i + 1)).filter(|&p| p < i))
                .collect();
            let log = |w: u8| {
                if w == 0 {
                    f64::NEG_INFINITY
                } else {
                    (f64::from(w) / 7.0).ln()
                }
            };
            let log_probs = edges.iter().map(|(_, w)| log(*w)).collect();
            PrefixForest::new(parents, log_probs).unwrap()
        })
    }

    proptest! {
        #[test]
        fn distances_add_along_every_branch(forest in forests(12)) {
            let d = forest.distances();
            for text in 0..12 {
                for prefix in forest.prefixes(text) {
                    let below: Vec<usize> = std::iter::once(text)
                        .chain(forest.prefixes(text))
                        .take_while(|&t| t != prefix)
                        .collect();
                    let sum: f64 = below.iter().map(|&t| forest.edge_distance(t)).sum();
                    prop_assert!(d.get(prefix, text) == sum || (d.get(prefix, text) - sum).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn what_is_no_forest_is_refused() {
        assert!(PrefixForest::new(vec![Some(0)], vec![0.0]).is_err());
        assert!(PrefixForest::new(vec![None, Some(0)], vec![0.0, 0.1]).is_err());
        assert!(PrefixForest::new(vec![None, Some(0)], vec![0.0, f64::NAN]).is_err());
        assert!(PrefixForest::new(vec![None], vec![]).is_err());
    }
}
