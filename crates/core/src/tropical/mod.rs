//! Tropical linear algebra: semirings, their matrices, products, closures and residuals.
//!
//! A matrix of distances is one over the min-plus semiring, where a product is a shortest way in two steps and the
//! [Kleene star](TropicalMatrix::kleene_star) one in any number; the same formulas over other [`Semiring`]s say what
//! may be reached (Boolean), with what probability, or how hot or cold a sum is taken (log-sum-exp). What is small
//! or sparse can take any of them; min-plus matrices in floats are multiplied in the processor's vectors.
//!
//! ```
//! use lawvere_core::RowMatrix;
//! use lawvere_core::tropical::{Boolean, Probability, Semiring, product, star};
//!
//! // a -> b and a -> c with 1/2 each, b -> c with 1/4: c is reached from a in two ways.
//! let step = RowMatrix::from_array_rows(vec![[0.0, 0.5, 0.5], [0.0, 0.0, 0.25], [0.0, 0.0, 0.0]]);
//! let ways = star(&Probability, &step)?;
//! assert_eq!(ways.get(0, 2), 0.5 + 0.5 * 0.25);
//! let reachable = star(&Boolean, &step.map(|p| p > 0.0))?;
//! assert!(reachable.get(0, 2) && !reachable.get(2, 0));
//! # Ok::<(), lawvere_core::TropicalError>(())
//! ```
//!
//! *Source:* Gaubert, Vlassopoulos (arXiv 2405.12264), section 2; Baccelli, Cohen, Olsder, Quadrat, *Synchronization and
//! linearity* (1992), for residuation.

mod algebra;
mod matrix;
mod min_plus;
mod semiring;
mod sparse;

use thiserror::Error;

pub use algebra::{product, residual, star};
pub use matrix::TropicalMatrix;
pub use min_plus::{MinPlusFloat, min_plus_product, min_plus_star};
pub use semiring::{Boolean, LogSumExp, MaxPlus, MinPlus, Probability, Residuated, Semiring};
pub use sparse::sparse_product;

pub use crate::ereal::{hom, plus};
use crate::matrix::ShapeError;
use crate::sparse::SparseError;

/// Why a matrix over a semiring cannot be made, multiplied or closed.
#[derive(Debug, Clone, PartialEq, Error)]
#[allow(missing_docs)]
pub enum TropicalError {
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Sparse(#[from] SparseError),
    #[error("entry ({row}, {column}) is NaN")]
    NotANumber { row: usize, column: usize },
    #[error(
        "the matrix has a cycle of negative weight through node {node}: its Kleene star does not exist"
    )]
    NegativeCycle { node: usize },
    #[error(
        "the sum over all ways around node {node} does not converge: the Kleene star does not exist"
    )]
    Diverges { node: usize },
    #[error("the temperature is {0}; it should be positive and finite")]
    Temperature(f64),
}
