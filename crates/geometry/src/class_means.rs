//! Classes of contexts, their mean states and how far the states of a class lie apart.

use std::collections::HashMap;

use lawvere_core::vector::{dot, vectorised};
use lawvere_core::{RowMatrix, sum};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ContextLaws;
use crate::embeddings::Centred;

/// What makes contexts a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Classes {
    /// A class is a next token. A context belongs to every token of its support, and counts
    /// `pi_j p_jz` in that of z: a sample is an occurrence of a context with its next token.
    #[default]
    NextTokens,
    /// A class is a support: contexts followed by the same tokens, each counting `pi_j`. These are
    /// what the theory lets collapse.
    EqualSupports,
}

/// The contexts of every class with their shares, which sum to 1.
pub(crate) struct ClassTable {
    pub kind: Classes,
    ends: Vec<usize>,
    contexts: Vec<u32>,
    shares: Vec<f64>,
    /// The row of each class among the words.
    pub tokens: Vec<u32>,
}

/// The mean states of classes, and the mean squared distance to them.
pub(crate) struct ClassMeans {
    /// Classes x columns.
    pub means: RowMatrix<f64>,
    pub variances: Vec<f64>,
}

impl ClassTable {
    pub fn new(laws: &ContextLaws, kind: Classes) -> Self {
        let supports = &laws.supports;
        let entries = laws.laws.rows().enumerate();
        let mut table = Self {
            kind,
            ends: Vec::new(),
            contexts: Vec::new(),
            shares: Vec::new(),
            tokens: Vec::new(),
        };
        match kind {
            Classes::NextTokens => {
                let mut members: Vec<Vec<(u32, f64)>> = vec![Vec::new(); supports.vocabulary()];
                for (j, (tokens, law)) in entries {
                    for (&token, p) in tokens.iter().zip(law) {
                        members[token as usize].push((j as u32, laws.weights[j] * p));
                    }
                }
                for (token, members) in members.iter().enumerate() {
                    // A token of the vocabulary that follows no context is no class.
                    if !members.is_empty() {
                        table.tokens.push(token as u32);
                        table.push(members);
                    }
                }
            }
            Classes::EqualSupports => {
                let mut members: Vec<Vec<(u32, f64)>> = vec![Vec::new(); supports.classes];
                for (j, &class) in supports.class.iter().enumerate() {
                    members[class].push((j as u32, laws.weights[j]));
                }
                members.iter().for_each(|members| table.push(members));
            }
        }
        table
    }

    fn push(&mut self, members: &[(u32, f64)]) {
        let total = sum(members.iter().map(|m| m.1));
        self.contexts.extend(members.iter().map(|m| m.0));
        self.shares.extend(members.iter().map(|m| m.1 / total));
        self.ends.push(self.contexts.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    fn range(&self, class: usize) -> std::ops::Range<usize> {
        let start = if class == 0 { 0 } else { self.ends[class - 1] };
        start..self.ends[class]
    }

    /// Whether a class has two contexts, without which its states cannot differ.
    pub fn varies(&self, class: usize) -> bool {
        self.range(class).len() > 1
    }

    /// Means and variances where row `order[j]` of the states is dealt to context j. O(entries d).
    pub fn means(&self, states: &Centred, order: &[usize]) -> ClassMeans {
        let columns = states.rows.ncols();
        let mut means = RowMatrix::zeros(self.len(), columns);
        let variances = means
            .data_mut()
            .par_chunks_mut(columns)
            .enumerate()
            .map(|(class, mean)| {
                vectorised(
                    #[inline(always)]
                    || self.mean(class, mean, states, order),
                )
            })
            .collect();
        ClassMeans { means, variances }
    }

    /// Writes the mean of a class and returns its variance.
    #[inline(always)]
    fn mean(&self, class: usize, mean: &mut [f64], states: &Centred, order: &[usize]) -> f64 {
        let range = self.range(class);
        let members = || {
            let rows = self.contexts[range.clone()].iter();
            let rows = rows.map(|&j| states.rows.row(order[j as usize]));
            rows.zip(&self.shares[range.clone()])
        };
        let mut square = 0.0;
        for (row, share) in members() {
            square += share * dot(row, row);
            mean.iter_mut().zip(row).for_each(|(m, x)| *m += share * x);
        }
        if !self.varies(class) {
            return 0.0;
        }
        let variance = square - dot(mean, mean);
        if variance > CANCELLED * square {
            return variance;
        }
        let mut apart = vec![0.0; mean.len()];
        let mut variance = 0.0;
        for (row, share) in members() {
            let entries = apart.iter_mut().zip(row).zip(&*mean);
            entries.for_each(|((a, x), m)| *a = x - m);
            variance += share * dot(&apart, &apart);
        }
        variance
    }
}

/// Below this share of the mean square a variance taken from it has lost too many digits.
const CANCELLED: f64 = 1e-3;

/// Contexts that share a key, in groups; every context is in one.
pub(crate) fn groups<K: Eq + std::hash::Hash>(keys: &[K]) -> Vec<Vec<usize>> {
    let mut index: HashMap<&K, usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        let g = *index.entry(key).or_insert(groups.len());
        if g == groups.len() {
            groups.push(Vec::new());
        }
        groups[g].push(i);
    }
    groups
}
