use std::collections::HashMap;
use std::hash::Hash;

use lawvere_core::{RowMatrix, sum};

use crate::{ContextLaws, GeometryError, Supports};

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
    /// Contexts with equal supports and tokens that follow the same contexts merged, full contexts
    /// left out. O(entries).
    ///
    /// # Errors
    /// A reduced matrix of more than `limit` entries, before memory is taken for it.
    pub fn new(supports: &Supports, limit: usize) -> Result<Self, GeometryError> {
        let vocabulary = supports.vocabulary();
        let keys = (0..supports.contexts()).map(|j| {
            let open = supports.rows.row(j).0.len() < vocabulary;
            open.then_some(supports.class[j])
        });
        let (context, first) = numbered(keys);
        let columns: Vec<Vec<(u32, u64)>> = first
            .iter()
            .map(|&j| supports.rows.row(j).0.iter().map(|&v| (v, 1)).collect())
            .collect();
        Ok(Self::merged(vocabulary, context, &columns, limit)?.0)
    }

    /// Tokens merged as in [`new`](Self::new); contexts as they are, full ones too.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_tokens(supports: &Supports, limit: usize) -> Result<Self, GeometryError> {
        let ones = |support: &[u32]| support.iter().map(|&v| (v, 1)).collect();
        let columns: Vec<Vec<(u32, u64)>> = supports.rows.rows().map(|(s, _)| ones(s)).collect();
        let context = (0..supports.contexts()).map(Some).collect();
        Ok(Self::merged(supports.vocabulary(), context, &columns, limit)?.0)
    }

    /// Contexts merged where weights and laws agree, tokens where their probabilities agree in all of
    /// them, with the probabilities (c x r, 0 off the supports) and the weights of the merged
    /// contexts. O(entries).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_laws(
        laws: &ContextLaws,
        limit: usize,
    ) -> Result<(Self, RowMatrix<f64>, Vec<f64>), GeometryError> {
        let column = |j: usize| -> Vec<(u32, u64)> {
            let (tokens, law) = laws.laws.row(j);
            let bits = law.iter().map(|p| p.to_bits());
            tokens.iter().copied().zip(bits).collect()
        };
        let keys = (0..laws.weights.len()).map(|j| Some((laws.weights[j].to_bits(), column(j))));
        let (context, first) = numbered(keys);
        let columns: Vec<_> = first.iter().map(|&j| column(j)).collect();
        let weights = first.iter().map(|&j| laws.weights[j]).collect();
        let (reduction, probabilities) =
            Self::merged(laws.supports.vocabulary(), context, &columns, limit)?;
        Ok((reduction, probabilities.map(f64::from_bits), weights))
    }

    /// Merges equal rows of sparse `columns`, one a reduced context; also the columns as a dense
    /// matrix, c x r, of zeros where they have no entry.
    fn merged(
        vocabulary: usize,
        context: Vec<Option<usize>>,
        columns: &[Vec<(u32, u64)>],
        limit: usize,
    ) -> Result<(Self, RowMatrix<u64>), GeometryError> {
        let mut context_count = vec![0.0; columns.len()];
        context
            .iter()
            .flatten()
            .for_each(|&j| context_count[j] += 1.0);
        let mut rows: Vec<Vec<(u32, u64)>> = vec![Vec::new(); vocabulary];
        for (j, column) in columns.iter().enumerate() {
            column
                .iter()
                .for_each(|&(v, value)| rows[v as usize].push((j as u32, value)));
        }
        let (token, first) = numbered(rows.iter().map(Some));
        let (tokens, contexts) = (first.len(), columns.len());
        if tokens.saturating_mul(contexts) > limit {
            return Err(GeometryError::TooLarge {
                tokens,
                contexts,
                limit,
            });
        }
        let token: Vec<usize> = token.into_iter().flatten().collect();
        let mut token_count = vec![0.0; first.len()];
        token.iter().for_each(|&i| token_count[i] += 1.0);
        let mut values = RowMatrix::zeros(columns.len(), first.len());
        for (i, &v) in first.iter().enumerate() {
            for &(j, value) in &rows[v] {
                values.row_mut(j as usize)[i] = value;
            }
        }
        let roots = |counts: &[f64]| counts.iter().map(|c| c.sqrt()).collect();
        let reduction = Self {
            token,
            context,
            token_root: roots(&token_count),
            context_root: roots(&context_count),
            token_count,
            context_count,
            inside: values.map(|value| value != 0),
        };
        Ok((reduction, values))
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

impl Reduction {
    /// A V x m matrix that is constant on merged rows and columns, in weighted coordinates.
    pub fn contract(&self, matrix: &RowMatrix<f64>) -> RowMatrix<f64> {
        let mut out = RowMatrix::zeros(self.contexts(), self.tokens());
        for (context, reduced) in self.context.iter().enumerate() {
            let Some(j) = *reduced else { continue };
            for (v, &i) in self.token.iter().enumerate() {
                out.row_mut(j)[i] =
                    matrix.get(v, context) * self.token_root[i] * self.context_root[j];
            }
        }
        out
    }
}

/// Numbers keys in the order of their first occurrence; also where that was. `None` has no number.
fn numbered<K: Hash + Eq>(
    keys: impl Iterator<Item = Option<K>>,
) -> (Vec<Option<usize>>, Vec<usize>) {
    let mut seen: HashMap<K, usize> = HashMap::new();
    let mut first = Vec::new();
    let numbers = keys.enumerate().map(|(place, key)| {
        key.map(|key| {
            *seen.entry(key).or_insert_with(|| {
                first.push(place);
                first.len() - 1
            })
        })
    });
    (numbers.collect(), first)
}
