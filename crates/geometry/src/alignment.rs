use lawvere_core::linalg::{SymmetricEigen, matmul, matmul_add, symmetric_eigen};
use lawvere_core::{RowMatrix, ShapeError, sum};
use lawvere_observe::Observation;
use serde::Serialize;

use crate::scene::head_rows;
use crate::{Concepts, GeometryError};

/// How far one concept is present in a model's words, contexts and logits.
///
/// The words are centred on their mean over the tokens, which no softmax sees; so are the concepts'
/// word vectors. States are taken as they are, because the concepts' context vectors are not centred
/// either. A bias of the head is left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConceptAlignment {
    /// The concept, counted from 0.
    pub concept: usize,
    /// Its singular value.
    pub singular_value: f64,
    /// The concept's word vector u in the word embeddings.
    pub words: Captured,
    /// The concept's context vector v in the states.
    pub contexts: Captured,
    /// `u^T L v / |L|_F` with the logits L = W H^T: the cosine between the concept and the logits, between
    /// -1 and 1.
    pub strength: f64,
    /// `s / |S~|_F`: its strength were L in the direction of `S~`.
    pub proxy_strength: f64,
    /// Root mean square of `strength` over all ways to deal u's entries to the tokens.
    pub strength_shuffled: f64,
    /// The same where they are dealt only among tokens that about as many contexts allow.
    pub strength_matched: f64,
}

/// How much of a unit vector lies in the span of some embeddings: cosines of the angle between them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Captured {
    /// With the span of as many leading singular directions of the embeddings as there are concepts.
    pub leading: f64,
    /// Root mean square of `leading` when the vector's entries are dealt out at random.
    pub leading_shuffled: f64,
    /// The same where they are dealt only among tokens (contexts) whose support is of about the same size:
    /// what is left of `leading` when nothing but frequency is known.
    pub leading_matched: f64,
    /// With the span of all directions of the embeddings: the correlation that the best linear read-out
    /// has. It is 1 by mere counting where there are as many directions as tokens (contexts).
    pub any: f64,
    /// Root mean square of `any` when the vector's entries are dealt out at random.
    pub any_shuffled: f64,
}

/// Eigenvalues of a Gram matrix below this share of the largest count as none: a direction a millionth
/// as long as the longest is what float32 leaves.
const NOTHING: f64 = 1e-12;
/// Rows turned to f64 at once.
const BLOCK: usize = 2048;
/// The fewest tokens among which entries are dealt in the matched control.
const FEWEST: usize = 16;

/// `u_k^T L v_k` of every concept k in the logits L = W H^T, and `|L|_F`; nothing V x m is formed.
fn strengths(words: &Moments, states: &Moments) -> (Vec<f64>, f64) {
    let (d, k) = (words.cross.nrows(), words.cross.ncols());
    let along = |c: usize| sum((0..d).map(|j| words.cross.get(j, c) * states.cross.get(j, c)));
    let squares = words.gram.data().iter().zip(states.gram.data());
    let norm = sum(squares.map(|(x, y)| x * y)).max(0.0).sqrt();
    ((0..k).map(along).collect(), norm)
}

/// Every concept in the embeddings and logits of a model: `words` W (V x d, rows as `concepts.tokens`; the
/// head's weights) and `states` H (m x d) of one layer.
///
/// The controls are exact: for unit vectors p and u, the mean square of `p . u` over all permutations
/// of u's entries within groups is `(sum_g n_g mean_g(p) mean_g(u))^2 + sum_g var_g(p) var_g(u) / (n_g - 1)`
/// with sums of squares for var. Matched groups are runs of 16, 16, 32, 64, ... tokens (contexts) by the size
/// of their support, the largest first. Cost: O((V + m) d (d + k) + d^3).
///
/// *Source:* arXiv 2505.08348: words and contexts converge to the factors of `S~`.
///
/// # Errors
/// Shapes that do not fit the concepts or each other, NaN or infinite entries.
pub fn align(
    concepts: &Concepts,
    words: &RowMatrix<f32>,
    states: &RowMatrix<f32>,
) -> Result<Vec<ConceptAlignment>, GeometryError> {
    check(concepts, words, states)?;
    let word_moments = Moments::of(words, true, &concepts.words);
    let state_moments = Moments::of(states, false, &concepts.contexts);
    let (strengths, logit_norm) = strengths(&word_moments, &state_moments);
    let word_groups = matched(&concepts.token_widths);
    let context_groups = matched(&concepts.context_widths);
    let in_words = captured(words, &word_moments, &concepts.words, &word_groups)?;
    let in_states = captured(states, &state_moments, &concepts.contexts, &context_groups)?;
    // Column k is L v_k, a vector over tokens.
    let images = rows_times(words, &word_moments.mean, &state_moments.cross);
    let share = |x: f64| {
        if logit_norm > 0.0 {
            x / logit_norm
        } else {
            0.0
        }
    };
    let energy = concepts.energy.sqrt();
    let all = vec![(0..words.nrows()).collect()];
    let all = Shuffled::new(&images, &concepts.words, &all);
    let matched = Shuffled::new(&images, &concepts.words, &word_groups);
    Ok(in_words
        .into_iter()
        .zip(in_states)
        .enumerate()
        .map(|(k, (words, contexts))| ConceptAlignment {
            concept: k,
            singular_value: concepts.singular_values[k],
            words,
            contexts,
            strength: share(strengths[k]),
            proxy_strength: if energy > 0.0 {
                concepts.singular_values[k] / energy
            } else {
                0.0
            },
            strength_shuffled: share(all.mean_square(k, k).sqrt()),
            strength_matched: share(matched.mean_square(k, k).sqrt()),
        })
        .collect())
}

/// The concepts in one layer of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerConcepts {
    /// The layer.
    pub layer: usize,
    /// Every concept, in their order.
    pub concepts: Vec<ConceptAlignment>,
}

/// [`align`] of an Observation's head with each of its layers as the head would read them: the last
/// as it is, others through the final norm, and where there is none the last alone. `concepts` are those of
/// the same contexts. What cannot be measured is left out, and `notes` say why.
///
/// # Errors
/// As [`align`]; concepts of other contexts.
pub fn align_layers(
    concepts: &Concepts,
    observation: &Observation,
    notes: &mut Vec<String>,
) -> Result<Vec<LayerConcepts>, GeometryError> {
    let Some(states) = &observation.states else {
        return Ok(Vec::new());
    };
    let Some(words) = head_rows(observation, &concepts.tokens, notes)? else {
        return Ok(Vec::new());
    };
    let norm = observation.head.as_ref().and_then(|h| h.norm.as_ref());
    let last = states.last().0;
    let readable = states
        .layers()
        .filter(|(layer, _)| norm.is_some() || *layer == last);
    readable
        .map(|(layer, states)| {
            let states = observation.readout(layer, states)?;
            let concepts = align(concepts, &words, &states)?;
            Ok(LayerConcepts { layer, concepts })
        })
        .collect()
}

fn check(
    concepts: &Concepts,
    words: &RowMatrix<f32>,
    states: &RowMatrix<f32>,
) -> Result<(), GeometryError> {
    let (tokens, contexts) = (concepts.words.nrows(), concepts.contexts.nrows());
    let shape = |what, rows: usize, matrix: &RowMatrix<f32>, columns: usize| {
        let found = (matrix.nrows(), matrix.ncols());
        (found != (rows, columns))
            .then(|| {
                ShapeError::new(
                    what,
                    format!("{rows} x {columns}"),
                    format!("{} x {}", found.0, found.1),
                )
            })
            .map_or(Ok(()), Err)
    };
    shape("words", tokens, words, words.ncols())?;
    shape("states", contexts, states, words.ncols())?;
    for (what, matrix) in [("words", words), ("states", states)] {
        if let Some(k) = matrix.data().iter().position(|x| !x.is_finite()) {
            return Err(GeometryError::NotFinite {
                what,
                row: k / matrix.ncols(),
                column: k % matrix.ncols(),
                value: f64::from(matrix.data()[k]),
            });
        }
    }
    Ok(())
}

/// What is needed of embeddings X (n x d, perhaps centred) beside vectors Z (n x k).
struct Moments {
    /// What is taken off every row: the mean or zeros.
    mean: Vec<f64>,
    /// The mean of the rows that are left.
    rest: Vec<f64>,
    /// X^T X.
    gram: RowMatrix<f64>,
    /// X^T Z, d x k.
    cross: RowMatrix<f64>,
}

impl Moments {
    fn of(embeddings: &RowMatrix<f32>, centred: bool, vectors: &RowMatrix<f64>) -> Self {
        let (n, d, k) = (embeddings.nrows(), embeddings.ncols(), vectors.ncols());
        let mut mean = vec![0.0f64; d];
        for row in embeddings.rows() {
            mean.iter_mut()
                .zip(row)
                .for_each(|(m, &x)| *m += f64::from(x));
        }
        mean.iter_mut().for_each(|m| *m /= n.max(1) as f64);
        let zeros = vec![0.0; d];
        let (mean, rest) = if centred {
            (mean, zeros)
        } else {
            (zeros, mean)
        };
        let mut gram = RowMatrix::zeros(d, d);
        let mut cross = RowMatrix::zeros(d, k);
        for first in (0..n).step_by(BLOCK) {
            let block = block(embeddings, first, &mean);
            matmul_add(gram.view_mut(), block.view().transpose(), block.view());
            let vectors = vectors.view().subrows(first, block.nrows());
            matmul_add(cross.view_mut(), block.view().transpose(), vectors);
        }
        Self {
            mean,
            rest,
            gram,
            cross,
        }
    }
}

fn block(embeddings: &RowMatrix<f32>, first: usize, mean: &[f64]) -> RowMatrix<f64> {
    let rows = BLOCK.min(embeddings.nrows() - first);
    RowMatrix::from_fn(rows, embeddings.ncols(), |i, j| {
        f64::from(embeddings.get(first + i, j)) - mean[j]
    })
}

/// `(X - 1 mean^T) y` for `y` of d x k.
fn rows_times(embeddings: &RowMatrix<f32>, mean: &[f64], y: &RowMatrix<f64>) -> RowMatrix<f64> {
    let mut out = RowMatrix::zeros(embeddings.nrows(), y.ncols());
    for first in (0..embeddings.nrows()).step_by(BLOCK) {
        let block = block(embeddings, first, mean);
        let rows = out.view_mut().subrows_mut(first, block.nrows());
        matmul(rows, block.view(), y.view());
    }
    out
}

fn captured(
    embeddings: &RowMatrix<f32>,
    moments: &Moments,
    vectors: &RowMatrix<f64>,
    groups: &[Vec<usize>],
) -> Result<Vec<Captured>, GeometryError> {
    let (n, k) = (vectors.nrows(), vectors.ncols());
    let SymmetricEigen {
        values,
        vectors: axes,
    } = symmetric_eigen(moments.gram.view())?;
    let largest = values.first().copied().unwrap_or(0.0);
    let directions = values
        .iter()
        .take_while(|&&x| x > NOTHING * largest && x > 0.0)
        .count();
    // Row j times X^T is the j-th left singular vector of X.
    let d = axes.ncols();
    let axes = RowMatrix::from_fn(directions, d, |j, i| axes.get(j, i) / values[j].sqrt());
    let mut along = RowMatrix::zeros(directions, k);
    matmul(along.view_mut(), axes.view(), moments.cross.view());
    let length = |c: usize, some: usize| {
        sum((0..some).map(|j| along.get(j, c).powi(2)))
            .sqrt()
            .min(1.0)
    };
    let leading = k.min(directions);
    let first = RowMatrix::from_fn(d, leading, |i, j| axes.get(j, i));
    let basis = rows_times(embeddings, &moments.mean, &first);
    let matched = Shuffled::new(&basis, vectors, groups);
    // Over all permutations only the means of the unit vectors matter.
    let mean_of = |row: &[f64]| sum(row.iter().zip(&moments.rest).map(|(x, y)| x * y));
    let means: Vec<f64> = axes.rows().map(mean_of).collect();
    let n = n as f64;
    Ok((0..k)
        .map(|c| {
            let total = sum(vectors.rows().map(|row| row[c]));
            let square = sum(vectors.rows().map(|row| row[c] * row[c]));
            let varying = (square - total * total / n).max(0.0);
            let shuffled = |some: usize| {
                let one = |mean: &f64| {
                    let rest = (1.0 - n * mean * mean).max(0.0) * varying / (n - 1.0).max(1.0);
                    (mean * total).powi(2) + rest
                };
                sum(means[..some].iter().map(one)).sqrt().min(1.0)
            };
            let matched = sum((0..leading).map(|j| matched.mean_square(j, c)));
            Captured {
                leading: length(c, leading),
                leading_shuffled: shuffled(leading),
                leading_matched: matched.sqrt().min(1.0),
                any: length(c, directions),
                any_shuffled: shuffled(directions),
            }
        })
        .collect())
}

/// The rows in runs of 16, 16, 32, 64, ..., the widest first; what is left over joins the last.
pub(crate) fn matched(widths: &[usize]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..widths.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(widths[i]), i));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let (mut rest, mut size) = (&order[..], FEWEST);
    while !rest.is_empty() {
        let next = if rest.len() < 2 * size {
            rest.len()
        } else {
            size
        };
        let (group, after) = rest.split_at(next);
        groups.push(group.to_vec());
        (rest, size) = (after, order.len() - after.len());
    }
    groups
}

/// Means and sums of squares within groups of the columns of two matrices.
struct Shuffled {
    left: Vec<Vec<(f64, f64)>>,
    right: Vec<Vec<(f64, f64)>>,
    sizes: Vec<f64>,
}

impl Shuffled {
    fn new(left: &RowMatrix<f64>, right: &RowMatrix<f64>, groups: &[Vec<usize>]) -> Self {
        let of = |matrix: &RowMatrix<f64>| {
            let one = |group: &Vec<usize>| {
                let n = group.len() as f64;
                let mut means = vec![0.0; matrix.ncols()];
                for &i in group {
                    means
                        .iter_mut()
                        .zip(matrix.row(i))
                        .for_each(|(m, x)| *m += x / n);
                }
                let mut squares = vec![0.0; matrix.ncols()];
                for &i in group {
                    let row = matrix.row(i).iter().zip(&means);
                    squares
                        .iter_mut()
                        .zip(row)
                        .for_each(|(s, (x, m))| *s += (x - m).powi(2));
                }
                means.into_iter().zip(squares).collect()
            };
            groups.iter().map(one).collect()
        };
        Self {
            left: of(left),
            right: of(right),
            sizes: groups.iter().map(|group| group.len() as f64).collect(),
        }
    }

    /// Of the inner product of column `j` left and column `k` right, the latter's entries dealt out
    /// within the groups.
    fn mean_square(&self, j: usize, k: usize) -> f64 {
        let groups = || self.left.iter().zip(&self.right).zip(&self.sizes);
        let mean = sum(groups().map(|((l, r), n)| n * l[j].0 * r[k].0));
        let variance = groups().map(|((l, r), n)| l[j].1 * r[k].1 / (n - 1.0).max(1.0));
        mean * mean + sum(variance)
    }
}
