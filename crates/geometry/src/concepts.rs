use lawvere_core::RowMatrix;
use lawvere_core::linalg::{RowCentered, truncated_svd};
use serde::Serialize;

use crate::prediction::proxy_energy;
use crate::{GeometryError, Supports};

/// The leading concepts of a support pattern: singular triplets of the centred support matrix
/// `S~ = (I - 11^T/V) S`, V x m.
///
/// A concept is a direction among words (its left vector) that goes with one among contexts (its right
/// vector); its singular value says how much of the pattern it explains. `S~` is the proxy of the
/// max-margin logits, so that these are the directions that training is predicted to give words and
/// contexts.
#[derive(Debug, Clone, Serialize)]
pub struct Concepts {
    /// Row v belongs to this token.
    pub tokens: Vec<u32>,
    /// Singular values, decreasing.
    pub singular_values: Vec<f64>,
    /// The sum of the squares of all singular values, `|S~|_F^2`.
    pub energy: f64,
    /// The largest of the triplets' residuals, `|S~ v - s u|`.
    pub residual: f64,
    /// Whether that is at most 1e-6 of the largest singular value.
    pub converged: bool,
    /// Left vectors u, V x k, unit columns. A pair has no sign of its own: of each word vector the
    /// entry largest in absolute value is positive.
    #[serde(skip)]
    pub words: RowMatrix<f64>,
    /// Right vectors v, m x k, unit columns.
    #[serde(skip)]
    pub contexts: RowMatrix<f64>,
    /// How many contexts every token follows.
    #[serde(skip)]
    pub token_widths: Vec<usize>,
    /// The size of every context's support.
    #[serde(skip)]
    pub context_widths: Vec<usize>,
}

/// One singular direction of the centred support matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Concept {
    /// Its singular value.
    pub singular_value: f64,
    /// Tokens furthest along it, with their coordinates in the unit singular vector.
    pub tokens: Vec<(u32, f64)>,
    /// Tokens furthest against it.
    pub opposite_tokens: Vec<(u32, f64)>,
    /// Contexts furthest along it.
    pub contexts: Vec<(usize, f64)>,
    /// Contexts furthest against it.
    pub opposite_contexts: Vec<(usize, f64)>,
}

const TOLERANCE: f64 = 1e-6;

/// The `rank` leading concepts, fewer where V or m is smaller. `S` stays sparse and the centring
/// implicit, so that neither V x m nor a square matrix is ever formed.
///
/// Cost: that of [`truncated_svd`] with a tolerance of 1e-6.
///
/// *Source:* Zhao, Thrampoulidis, *Geometry of Semantics in Next-Token Prediction* (arXiv 2505.08348);
/// for the proxy, arXiv 2408.15417, section 4.
///
/// # Errors
/// A decomposition that does not come out. One that has not converged says so in its fields.
pub fn concepts(supports: &Supports, rank: usize, seed: u64) -> Result<Concepts, GeometryError> {
    let svd = truncated_svd(&RowCentered::new(&supports.rows), rank, TOLERANCE, seed)?;
    let (mut words, mut contexts) = (svd.v, svd.u);
    let mut largest = vec![0.0f64; words.ncols()];
    for row in words.rows() {
        for (largest, &x) in largest.iter_mut().zip(row) {
            if x.abs() > largest.abs() {
                *largest = x;
            }
        }
    }
    for matrix in [&mut words, &mut contexts] {
        for i in 0..matrix.nrows() {
            let row = matrix.row_mut(i).iter_mut();
            row.zip(&largest)
                .for_each(|(x, largest)| *x *= largest.signum());
        }
    }
    let context_widths: Vec<usize> = supports.rows.rows().map(|(s, _)| s.len()).collect();
    Ok(Concepts {
        tokens: supports.tokens.clone(),
        singular_values: svd.singular_values,
        energy: proxy_energy(supports),
        residual: svd.residual,
        converged: svd.converged,
        words,
        contexts,
        token_widths: supports.token_widths(),
        context_widths,
    })
}

impl Concepts {
    /// The number of concepts.
    pub fn len(&self) -> usize {
        self.singular_values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.singular_values.is_empty()
    }

    /// Concept `k` by at most `shown` tokens and contexts at either end.
    ///
    /// # Errors
    /// No such concept.
    pub fn concept(&self, k: usize, shown: usize) -> Result<Concept, GeometryError> {
        if k >= self.len() {
            return Err(GeometryError::Argument {
                what: "concept",
                problem: format!("there are {} (counted from 0), not {k}", self.len()),
            });
        }
        let column = |m: &RowMatrix<f64>| m.rows().map(|row| row[k]).collect::<Vec<_>>();
        let (tokens, opposite_tokens) = ends(&column(&self.words), shown);
        let (contexts, opposite_contexts) = ends(&column(&self.contexts), shown);
        let name = |(v, x): (usize, f64)| (self.tokens[v], x);
        Ok(Concept {
            singular_value: self.singular_values[k],
            tokens: tokens.into_iter().map(name).collect(),
            opposite_tokens: opposite_tokens.into_iter().map(name).collect(),
            contexts,
            opposite_contexts,
        })
    }

    /// The words' analysis vectors scaled as embeddings are predicted to be: rows of `U S^(1/2)`, V x k.
    pub fn word_coordinates(&self) -> RowMatrix<f64> {
        self.scaled(&self.words)
    }

    /// The contexts': rows of `V S^(1/2)`, m x k.
    pub fn context_coordinates(&self) -> RowMatrix<f64> {
        self.scaled(&self.contexts)
    }

    fn scaled(&self, vectors: &RowMatrix<f64>) -> RowMatrix<f64> {
        let roots: Vec<f64> = self.singular_values.iter().map(|s| s.sqrt()).collect();
        RowMatrix::from_fn(vectors.nrows(), vectors.ncols(), |i, k| {
            vectors.get(i, k) * roots[k]
        })
    }
}

type End = Vec<(usize, f64)>;

/// The largest positive and the smallest negative coordinates, at most `shown` each, from the ends
/// inwards.
fn ends(vector: &[f64], shown: usize) -> (End, End) {
    let end = |sign: f64| {
        let mut some: End = vector
            .iter()
            .copied()
            .enumerate()
            .filter(|x| x.1 * sign > 0.0)
            .collect();
        let order = |a: &(usize, f64), b: &(usize, f64)| {
            (b.1 * sign).total_cmp(&(a.1 * sign)).then(a.0.cmp(&b.0))
        };
        if some.len() > shown {
            if shown > 0 {
                some.select_nth_unstable_by(shown - 1, order);
            }
            some.truncate(shown);
        }
        some.sort_by(order);
        some
    };
    (end(1.0), end(-1.0))
}
