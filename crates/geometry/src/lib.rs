//! Lens 2: the implicit geometry of next-token prediction.
//!
//! Which token may follow which context, and how often, fixes the shape that training drives word
//! and context embeddings towards. This crate measures the pattern of supports, its spectrum, and
//! whether a model's states and logits have taken the shape.
//!
//! Predictions are made from [`Supports`] or [`ContextLaws`], which come from matrices or from an
//! [`Observation`] of kind *contexts*; a model is held against them as an Observation.
//!
//! *Source:* Zhao, Behnia, Vakilian, Thrampoulidis, *Implicit Geometry of Next-token Prediction*
//! (arXiv 2408.15417); Thrampoulidis (arXiv 2402.18551); on concepts, arXiv 2505.08348.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod active;
mod alignment;
mod answer;
mod claims;
mod class_means;
mod collapse;
mod compare;
mod concepts;
mod embedded;
mod embeddings;
mod entropy_prox;
mod equations;
mod error;
mod factors;
mod finite;
mod fit;
mod growth;
mod k_means;
mod laws;
mod least_norm;
mod log_odds;
mod margin;
mod max_margin;
mod measures;
mod multipliers;
mod near_filter;
mod neural_collapse;
mod orthants;
mod pairs;
mod path;
mod prediction;
mod rank_limited;
mod reduction;
mod scene;
mod separability;
mod spectrum;
mod splitting;
mod spread;
mod support;
mod verify;

pub use alignment::{Captured, ConceptAlignment, LayerConcepts, align, align_layers};
pub use answer::Answer;
pub use claims::{Claim, Control, DEVIATIONS, LEAST_EFFECT, Reading, Space, Verdict};
pub use class_means::Classes;
pub use collapse::{LayerCollapse, collapse};
pub use compare::{
    ClaimVerdict, CompareOptions, Comparison, HeadFigures, LayerFigures, Loss, compare,
};
pub use concepts::{Concept, Concepts, concepts};
pub use embeddings::{Embeddings, Ranks};
pub use error::GeometryError;
pub use finite::{finite_logits, finite_part, proxy};
pub use fit::{Cosine, FiniteFit};
pub use growth::{Estimate, Growth, GrowthOptions, GrowthPoint, GrowthUnit, growth};
pub use k_means::{KMeans, KMeansOptions, k_means};
pub use laws::ContextLaws;
pub use log_odds::{LogOdds, LogOddsPoint, log_odds};
pub use max_margin::{MaxMargin, MaxMarginOptions, MaxMarginProgress, max_margin};
pub use measures::{GeometryMeasures, logits_cosine, measure};
pub use neural_collapse::{NeuralCollapse, NeuralCollapseOptions, neural_collapse};
pub use orthants::{Orthant, orthants};
pub use path::{Path, PathOptions, PathPoint, PathProgress, Penalties, path};
pub use prediction::Prediction;
pub use rank_limited::{
    Attempt, RankLimited, RankLimitedOptions, RankLimitedProgress, Start, rank_limited,
};
pub use separability::{Separability, SeparabilityOptions, SeparabilityProgress, separability};
pub use spectrum::{Spectrum, spectrum};
pub use spread::Spread;
pub use support::{Heatmap, SupportSummary, Supports, Vocabulary};
pub use verify::{Verification, verify};

use lawvere_core::{RowMatrix, ShapeError};
use lawvere_observe::{Kind, Observation};

fn require_contexts(observation: &Observation) -> Result<(), GeometryError> {
    match observation.info.kind {
        Kind::Contexts => Ok(()),
        Kind::Positions => Err(GeometryError::NeedsContexts),
    }
}

/// A matrix of this shape, all of whose entries are finite.
fn check_shape(
    what: &'static str,
    matrix: &RowMatrix<f64>,
    rows: usize,
    columns: usize,
) -> Result<(), GeometryError> {
    if (matrix.nrows(), matrix.ncols()) != (rows, columns) {
        let found = format!("{} x {}", matrix.nrows(), matrix.ncols());
        return Err(ShapeError::new(what, format!("{rows} x {columns}"), found).into());
    }
    match matrix.data().iter().position(|x| !x.is_finite()) {
        Some(k) => Err(GeometryError::NotFinite {
            what,
            row: k / columns,
            column: k % columns,
            value: matrix.data()[k],
        }),
        None => Ok(()),
    }
}
