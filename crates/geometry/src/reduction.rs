use std::collections::HashMap;

use lawvere_core::{RowMatrix, sum};

use crate::Supports;

/// The support matrix with equal rows and equal columns merged and full columns dropped.
///
/// Every max-margin optimum is constant on equal rows and on equal columns, and 0 on full columns,
/// so the problem of V x m logits is one of r x c logits l with multiplicities r_i and c_j. In the
/// *weighted* coordinates `x_ij = sqrt(r_i c_j) l_ij` nuclear, operator and Frobenius norms are those
/// of the whole matrix.
///
/// Matrices of these coordinates are stored context-major: c x r, one row a reduced context.
#[derive(Debug, Clone)]
pub(crate) struct Reduction {
    /// The reduced token of every token.
    pub token: Vec<usize>,
    /// The reduced context of every context; `None` for one that every token may follow.
    pub context: Vec<Option<usize>>,
    /// r_i: tokens merged.
    pub token_count: Vec<f64>,
    /// c_j: contexts merged.
    pub context_count: Vec<f64>,
    /// The square roots of `token_count` and `context_count`.
    pub token_root: Vec<f64>,
    pub context_root: Vec<f64>,
    /// For each reduced context, whether each reduced token may follow it: c x r.
    pub inside: RowMatrix<bool>,
}

impl Reduction {
    /// O(entries).
    pub fn new(supports: &Supports) -> Self {
        let vocabulary = supports.vocabulary();
        let mut number = vec![usize::MAX; supports.classes];
        let mut members: Vec<&[u32]> = Vec::new();
        let mut context_count: Vec<f64> = Vec::new();
        let context: Vec<Option<usize>> = (0..supports.contexts())
            .map(|j| {
                let (support, _) = supports.rows.row(j);
                if support.len() == vocabulary {
                    return None;
                }
                let slot = &mut number[supports.class[j]];
                if *slot == usize::MAX {
                    *slot = members.len();
                    members.push(support);
                    context_count.push(0.0);
                }
                context_count[*slot] += 1.0;
                Some(*slot)
            })
            .collect();
        let mut followed: Vec<Vec<u32>> = vec![Vec::new(); vocabulary];
        for (j, support) in members.iter().enumerate() {
            support
                .iter()
                .for_each(|&v| followed[v as usize].push(j as u32));
        }
        let mut seen: HashMap<&[u32], usize> = HashMap::new();
        let mut token_count: Vec<f64> = Vec::new();
        let mut first: Vec<usize> = Vec::new();
        let token: Vec<usize> = followed
            .iter()
            .enumerate()
            .map(|(v, contexts)| {
                let i = *seen.entry(contexts).or_insert(token_count.len());
                if i == token_count.len() {
                    token_count.push(0.0);
                    first.push(v);
                }
                token_count[i] += 1.0;
                i
            })
            .collect();
        let mut inside = RowMatrix::from_fn(members.len(), token_count.len(), |_, _| false);
        for (i, &v) in first.iter().enumerate() {
            for &j in &followed[v] {
                inside.row_mut(j as usize)[i] = true;
            }
        }
        let roots = |counts: &[f64]| counts.iter().map(|c| c.sqrt()).collect();
        Self {
            token,
            context,
            token_root: roots(&token_count),
            context_root: roots(&context_count),
            token_count,
            context_count,
            inside,
        }
    }

    /// r: distinct tokens.
    pub fn tokens(&self) -> usize {
        self.token_count.len()
    }

    /// c: distinct contexts that are not full.
    pub fn contexts(&self) -> usize {
        self.context_count.len()
    }

    /// The proxy S~ in weighted coordinates.
    pub fn proxy(&self) -> RowMatrix<f64> {
        let mut out = RowMatrix::zeros(self.contexts(), self.tokens());
        for j in 0..self.contexts() {
            let inside = self.inside.row(j);
            let weighted = inside.iter().zip(&self.token_count);
            let size = sum(weighted.filter(|(inside, _)| **inside).map(|(_, r)| *r));
            let mean = size / sum(self.token_count.iter().copied());
            let row = out.row_mut(j);
            for (i, x) in row.iter_mut().enumerate() {
                let entry = f64::from(inside[i]) - mean;
                *x = entry * self.token_root[i] * self.context_root[j];
            }
        }
        out
    }

    /// A matrix in weighted coordinates as V x m logits (`dual` false) or as the V x m dual variable
    /// whose entries are shared out over the merged rows and columns: the same division.
    pub fn expand(&self, weighted: &RowMatrix<f64>) -> RowMatrix<f64> {
        RowMatrix::from_fn(self.token.len(), self.context.len(), |v, j| {
            self.context[j].map_or(0.0, |j| {
                let i = self.token[v];
                weighted.get(j, i) / (self.token_root[i] * self.context_root[j])
            })
        })
    }
}
