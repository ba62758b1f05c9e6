//! Lens 3: the Markov-categorical account of a language model.
//!
//! A model is a composite of kernels, `head . backbone . embedding`. This crate measures how far
//! the composite is from the corpus's kernel, how stochastic its head is, how much a state tells
//! about the next token, and which directions of the state matter.
//!
//! All quantities are in nats. Each measure is a function from an [`Observation`](lawvere_observe::Observation)
//! to what it found, with its error where it is an estimate:
//!
//! ```no_run
//! use lawvere_core::stoch::Divergence;
//! use lawvere_information::{likelihood, spectral_alignment, stochasticity};
//! use lawvere_observe::Observation;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let observation = Observation::open("observation".as_ref())?;
//! let loss = likelihood(&observation, 0)?;
//! println!("{} = {} + {}", loss.cross_entropy, loss.divergence, loss.entropy);
//! for entropy in stochasticity(&observation, &[Divergence::KullbackLeibler], None)? {
//!     println!("{}: the model is {} above the data", entropy.divergence, entropy.gap);
//! }
//! for layer in spectral_alignment(&observation, None, 5, 0, &mut |_| {})?.layers {
//!     println!("layer {}: {} (shuffled {})", layer.layer, layer.alignment, layer.shuffled);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! *Source:* Zhang, *A Markov Categorical Framework for Language Modeling* (arXiv 2507.19247);
//! Perrone, *Markov categories and entropy* (2023).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod ahead;
mod alignment;
mod coherence;
mod distances;
mod divergence;
mod draft;
mod error;
mod fisher;
mod heads;
mod layers;
mod likelihood;
mod metric;
mod pass;
mod reading;
mod similarity;
mod stochasticity;
mod surplus;

pub use alignment::{Alignment, LayerAlignment, Surrogate, spectral_alignment};
pub use coherence::{Coherence, coherence};
pub use distances::{DistanceBounds, PredictiveDistances, predictive_distances};
pub use divergence::{
    RepresentationDivergence, SET_DIVERGENCES, SetDivergence, representation_divergence,
};
pub use draft::{
    Decoding, Draft, DraftReport, Forecast, PrefixDrafts, Round, decoding, draft_report,
};
pub use error::InformationError;
pub use fisher::{Direction, FisherRao, fisher_rao};
pub use heads::{
    DraftHeads, HeadOptions, UsableSurplus, UsableSurpluses, draft_heads, usable_surplus,
};
pub use layers::check_layer;
pub use likelihood::{
    DifferenceErrors, LengthLoss, Likelihood, RowEntropies, context_information, cross_entropy,
    difference_errors, likelihood, loss_by_prefix_length, mean_outcome, mean_over_documents,
    sampling_divergence,
};
pub use metric::{
    ContextSpectrum, LayerMetric, MeanLengths, PathLengths, fisher_rao_distance, layer_metric,
    metric_at, paths, step_moments,
};
pub use reading::{LayerReading, layer_readings};
pub use similarity::{
    LayerEnergy, Similarity, SimilarityKernel, SimilarityMap, SimilarityOperator,
    SimilarityOptions, SimilaritySpectrum, Whose, similarity, similarity_map,
};
pub use stochasticity::{STOCHASTICITY, Stochasticity, corrected_entropy, stochasticity};
pub use surplus::{
    BlockBounds, ExactSurplus, Future, Futures, PairScores, SurplusBounds, exact_surplus,
    independent_rows, surplus_bounds,
};
