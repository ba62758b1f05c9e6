use lawvere_core::linalg::{RowCentered, truncated_svd};
use serde::Serialize;

use crate::{GeometryError, Supports};

/// The leading spectrum of the centred support matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spectrum {
    /// Singular values, decreasing.
    pub singular_values: Vec<f64>,
    /// The sum of the squares of all singular values.
    pub energy: f64,
    /// How far the largest of the triplets is from exact: `|A v - s u|`.
    pub residual: f64,
    /// The leading directions by the tokens and contexts that lie furthest along them.
    pub concepts: Vec<Concept>,
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

/// The `rank` leading singular values of `S~ = (I - 11^T/V) S`, and the `concepts` leading
/// directions. S~ is the proxy of the max-margin logits; its singular vectors are what the theory
/// calls concepts. S stays sparse, the centring implicit.
///
/// *Source:* arXiv 2408.15417, section 4; on concepts, arXiv 2505.08348.
///
/// # Errors
/// A decomposition that does not come out.
pub fn spectrum(
    supports: &Supports,
    rank: usize,
    concepts: usize,
    seed: u64,
) -> Result<Spectrum, GeometryError> {
    let svd = truncated_svd(&RowCentered::new(&supports.rows), rank, 1e-6, seed)?;
    let vocabulary = supports.tokens.len() as f64;
    let energy = supports
        .rows
        .rows()
        .map(|(s, _)| s.len() as f64 * (1.0 - s.len() as f64 / vocabulary))
        .sum();
    let concepts = (0..concepts.min(svd.singular_values.len()))
        .map(|k| {
            let context: Vec<f64> = (0..svd.u.nrows()).map(|i| svd.u[(i, k)]).collect();
            let token: Vec<f64> = (0..svd.v.nrows()).map(|v| svd.v[(v, k)]).collect();
            // A singular pair has no sign of its own: let its largest token be positive.
            let largest = token
                .iter()
                .copied()
                .fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
            let sign = largest.signum();
            let (tokens, opposite_tokens) = ends(&token, sign);
            let (contexts, opposite_contexts) = ends(&context, sign);
            let name = |(v, x): (usize, f64)| (supports.tokens[v], x);
            Concept {
                singular_value: svd.singular_values[k],
                tokens: tokens.into_iter().map(name).collect(),
                opposite_tokens: opposite_tokens.into_iter().map(name).collect(),
                contexts,
                opposite_contexts,
            }
        })
        .collect();
    Ok(Spectrum {
        singular_values: svd.singular_values,
        energy,
        residual: svd.residual,
        concepts,
    })
}

const SHOWN: usize = 8;

type End = Vec<(usize, f64)>;

/// The largest and the smallest coordinates.
fn ends(vector: &[f64], sign: f64) -> (End, End) {
    let mut all: End = vector.iter().map(|x| x * sign).enumerate().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let top = all
        .iter()
        .take(SHOWN)
        .filter(|x| x.1 > 0.0)
        .copied()
        .collect();
    let bottom = all
        .iter()
        .rev()
        .take(SHOWN)
        .filter(|x| x.1 < 0.0)
        .copied()
        .collect();
    (top, bottom)
}
