use std::collections::HashMap;
use std::hash::Hash;

use lawvere_core::RowMatrix;
use lawvere_observe::Observation;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::Serialize;

use crate::embeddings::Centred;
use crate::{GeometryError, Supports};

/// How far one layer's states of contexts with equal supports point the same way.
///
/// All cosines are of states centred on their mean over contexts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerCollapse {
    /// The layer.
    pub layer: usize,
    /// Mean cosine over pairs of contexts with equal supports.
    pub within: f64,
    /// Mean cosine over pairs with different supports.
    pub between: f64,
    /// Mean of `within` when supports are dealt to contexts at random.
    pub shuffled: f64,
    /// Its standard deviation over shuffles.
    pub shuffled_deviation: f64,
    /// Mean cosine over pairs with equal supports and different last tokens: equal supports without
    /// the help of an equal last word. `None` if there is no such pair.
    pub within_other_last: Option<f64>,
    /// Mean cosine over pairs with different supports and different last tokens.
    pub between_other_last: Option<f64>,
    /// Mean cosine over pairs with different supports and the same last token.
    pub between_same_last: Option<f64>,
    /// Pairs with equal supports.
    pub within_pairs: u64,
    /// Pairs with equal supports and different last tokens.
    pub within_other_last_pairs: u64,
}

const SHUFFLES: usize = 20;

/// Subspace collapse at every kept layer: in the limit of training, contexts with equal supports
/// have states in one direction.
///
/// Exact over all pairs in O(m d) a layer, from the sums of the unit states of every class.
///
/// *Source:* arXiv 2408.15417, theorem on the geometry of contexts ("subspace collapse").
///
/// # Errors
/// An Observation of positions or without states; NaN or infinite states.
pub fn collapse(
    observation: &Observation,
    supports: &Supports,
    seed: u64,
) -> Result<Vec<LayerCollapse>, GeometryError> {
    let states = observation
        .states
        .as_ref()
        .ok_or(GeometryError::NeedsStates)?;
    let last = observation.last_tokens();
    let all = vec![(); supports.class.len()];
    let both: Vec<_> = supports
        .class
        .iter()
        .copied()
        .zip(last.iter().copied())
        .collect();
    let layers: Vec<_> = states.layers().collect();
    layers
        .into_par_iter()
        .map(|(layer, states)| {
            let unit = Centred::states(states, false)?.unit_rows();
            let every = Pairs::grouped(&unit, &all);
            let same_support = Pairs::grouped(&unit, &supports.class);
            let same_last = Pairs::grouped(&unit, &last);
            let same_both = Pairs::grouped(&unit, &both);
            let mut rng = StdRng::seed_from_u64(seed);
            let shuffled: Vec<f64> = (0..SHUFFLES)
                .filter_map(|_| {
                    let mut classes = supports.class.clone();
                    classes.shuffle(&mut rng);
                    Pairs::grouped(&unit, &classes).mean()
                })
                .collect();
            let (shuffled, shuffled_deviation) = mean_and_deviation(&shuffled);
            let within_other_last = same_support.minus(same_both);
            let between = every.minus(same_support);
            let between_same_last = same_last.minus(same_both);
            Ok(LayerCollapse {
                layer,
                within: same_support.mean().unwrap_or(0.0),
                between: between.mean().unwrap_or(0.0),
                shuffled,
                shuffled_deviation,
                within_other_last: within_other_last.mean(),
                between_other_last: between.minus(between_same_last).mean(),
                between_same_last: between_same_last.mean(),
                within_pairs: same_support.pairs,
                within_other_last_pairs: within_other_last.pairs,
            })
        })
        .collect()
}

/// The sum of cosines over a set of pairs, and their number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pairs {
    cosines: f64,
    pub pairs: u64,
}

impl Pairs {
    /// Pairs of rows with equal keys. Unit rows u of one group have `sum_{i<j} u_i.u_j =
    /// (|sum u|^2 - sum |u|^2) / 2`.
    pub fn grouped<K: Eq + Hash>(unit: &RowMatrix<f64>, keys: &[K]) -> Self {
        struct Group {
            sum: Vec<f64>,
            squares: f64,
            size: u64,
        }
        let mut index: HashMap<&K, usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        for (row, key) in unit.rows().zip(keys) {
            let g = *index.entry(key).or_insert(groups.len());
            if g == groups.len() {
                groups.push(Group {
                    sum: vec![0.0; unit.ncols()],
                    squares: 0.0,
                    size: 0,
                });
            }
            let group = &mut groups[g];
            group.sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
            group.squares += row.iter().map(|x| x * x).sum::<f64>();
            group.size += 1;
        }
        let mut out = Self {
            cosines: 0.0,
            pairs: 0,
        };
        for group in groups {
            let square: f64 = group.sum.iter().map(|x| x * x).sum();
            out.cosines += (square - group.squares) / 2.0;
            out.pairs += group.size * (group.size - 1) / 2;
        }
        out
    }

    pub fn minus(self, other: Self) -> Self {
        Self {
            cosines: self.cosines - other.cosines,
            pairs: self.pairs - other.pairs,
        }
    }

    pub fn mean(self) -> Option<f64> {
        (self.pairs > 0).then(|| self.cosines / self.pairs as f64)
    }
}

pub(crate) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, square.sqrt())
}
