use serde::Serialize;

use crate::{Concept, GeometryError, Supports, concepts};

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

const SHOWN: usize = 8;

/// The `rank` leading singular values of `S~ = (I - 11^T/V) S`, and the `shown` leading directions by
/// their ends: a summary of [`concepts`].
///
/// *Source:* arXiv 2408.15417, section 4; on concepts, arXiv 2505.08348.
///
/// # Errors
/// A decomposition that does not come out.
pub fn spectrum(
    supports: &Supports,
    rank: usize,
    shown: usize,
    seed: u64,
) -> Result<Spectrum, GeometryError> {
    let all = concepts(supports, rank, seed)?;
    let shown = (0..shown.min(all.len())).map(|k| all.concept(k, SHOWN));
    Ok(Spectrum {
        concepts: shown.collect::<Result<_, _>>()?,
        singular_values: all.singular_values,
        energy: all.energy,
        residual: all.residual,
    })
}
