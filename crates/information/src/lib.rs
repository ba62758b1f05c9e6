//! Lens 3: the Markov-categorical account of a language model.
//!
//! A model is a composite of kernels, `head . backbone . embedding`. This crate measures how far
//! the composite is from the corpus's kernel, how stochastic its head is, how much a state tells
//! about the next token, and which directions of the state matter.
//!
//! All quantities are in nats.
//!
//! *Source:* Zhang, *A Markov Categorical Framework for Language Modeling* (arXiv 2507.19247);
//! Perrone, *Markov categories and entropy* (2023).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod error;
mod fisher;
mod likelihood;
mod pass;
mod reading;

pub use error::InformationError;
pub use fisher::{Direction, FisherRao, fisher_rao};
pub use likelihood::{
    DifferenceErrors, LengthLoss, Likelihood, RowEntropies, context_information, difference_errors,
    likelihood, loss_by_prefix_length, mean_over_documents, sampling_divergence,
};
pub use reading::{LayerReading, layer_readings};
