//! The Markov category of finite sets and row-stochastic kernels, and what divergences make of it.
//!
//! Objects are the sets `0..n`, arrows are [`FiniteKernel`]s, composed in the order of the diagram
//! by [`then`](FiniteKernel::then). A [`Divergence`] says how far the two sides of an equation
//! between kernels are apart; one that asks whether a kernel copies is its *categorical entropy*.
//! Everything is in nats.
//!
//! ```
//! use lawvere_core::RowMatrix;
//! use lawvere_core::stoch::{Distribution, Divergence, FiniteKernel};
//!
//! // A fair coin, seen through a channel that errs once in four.
//! let coin = Distribution::new(vec![0.5, 0.5])?;
//! let channel = FiniteKernel::new(RowMatrix::from_array_rows(vec![[0.75, 0.25], [0.25, 0.75]]))?;
//! let joint = channel.joint(&coin)?;
//!
//! // I(X; Y) = H(Y) - H(Y|X), where H(Y|X) is the mean categorical entropy of the channel.
//! let kl = Divergence::KullbackLeibler;
//! let noise = channel.categorical_entropy(kl, &coin)?.mean;
//! let information = joint.mutual_information(kl)?;
//! assert!((information - (channel.push(&coin)?.entropy() - noise)).abs() < 1e-12);
//!
//! // A second use of the channel can only lose some of it.
//! let twice = channel.then(&channel)?.joint(&coin)?;
//! assert!(twice.mutual_information(kl)? < information);
//! # Ok::<(), lawvere_core::stoch::StochError>(())
//! ```
//!
//! *Source:* Fritz, *A synthetic approach to Markov kernels, conditional independence and theorems
//! on sufficient statistics* (2020); Perrone, *Markov categories and entropy* (2023).

mod distribution;
mod divergence;
mod entropy;
mod f_divergence;
mod joint;
mod kernel;

use thiserror::Error;

pub use distribution::Distribution;
pub use divergence::{Divergence, kl_term};
pub use entropy::{CategoricalEntropy, entropy, renyi_entropy, unseen_mass};
pub use f_divergence::FDivergence;
pub use joint::JointState;
pub use kernel::FiniteKernel;

use crate::matrix::ShapeError;

/// Why numbers are not a distribution or a kernel, or do not fit the operation asked of them.
#[derive(Debug, Clone, PartialEq, Error)]
#[allow(missing_docs)]
pub enum StochError {
    #[error("probability {index} is {value}; probabilities are finite and not negative")]
    Probability { index: usize, value: f64 },
    #[error("the probabilities sum to {total}; they must sum to 1 within {tolerance:e}")]
    Total { total: f64, tolerance: f64 },
    #[error("distributions over {left} and {right} outcomes cannot be compared")]
    Outcomes { left: usize, right: usize },
    #[error("the Renyi order must be in [0, inf], found {0}")]
    Order(f64),
    #[error("the order of a Renyi entropy must be a number, found {0}")]
    EntropyOrder(f64),
    #[error("no divergence is called '{0}'; the names are {names}", names = Divergence::NAMES)]
    Name(String),
    #[error("the generator of the f-divergence gives no number on these laws")]
    Generator,
    #[error(
        "the probability at row {row}, column {column} is {value}; probabilities are finite and not negative"
    )]
    Entry {
        row: usize,
        column: usize,
        value: f64,
    },
    #[error(
        "row {row} sums to {total}; the rows of a kernel (its inputs) sum to 1 within {tolerance:e}"
    )]
    Row {
        row: usize,
        total: f64,
        tolerance: f64,
    },
    #[error("input {input} is sent to {image}, which is not one of the {outcomes} outcomes")]
    Image {
        input: usize,
        image: usize,
        outcomes: usize,
    },
    #[error("a kernel needs an input and an outcome, found {inputs} x {outcomes}")]
    Empty { inputs: usize, outcomes: usize },
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use proptest::prelude::*;

    /// Every named divergence, orders of every kind.
    pub const ALL: [Divergence; 14] = [
        Divergence::KullbackLeibler,
        Divergence::ReverseKullbackLeibler,
        Divergence::JensenShannon,
        Divergence::TotalVariation,
        Divergence::Hellinger,
        Divergence::ChiSquared,
        Divergence::Renyi(0.0),
        Divergence::Renyi(0.5),
        Divergence::Renyi(1.0),
        Divergence::Renyi(1.5),
        Divergence::Renyi(2.0),
        Divergence::Renyi(5.0),
        Divergence::Renyi(1e300),
        Divergence::Renyi(f64::INFINITY),
    ];

    /// The law with these weights.
    pub fn normalised(weights: &[u8]) -> Distribution {
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        Distribution::new(weights.iter().map(|&w| f64::from(w) / total).collect()).unwrap()
    }

    /// Weights of a law, often with zeros.
    pub fn weights(n: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..6, n).prop_filter("some mass", |w| w.iter().any(|&x| x > 0))
    }
}
