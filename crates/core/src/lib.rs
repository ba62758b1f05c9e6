//! The mathematics under Lawvere: no files, no network, no tokens' text.
//!
//! Everything here is about one object, a *Markov kernel* from contexts to next tokens, and the
//! three ways of looking at it: as a directed metric (extended reals and min-plus matrices), as a
//! matrix of logits (sparse rows and truncated spectra), as an arrow of a Markov category (finite
//! distributions and divergences).
//!
//! ```
//! use lawvere_core::{EReal, TropicalMatrix};
//!
//! // Three texts a <= b <= c with Pr(b|a) = 1/2 and Pr(c|b) = 1/4, as distances -log Pr.
//! let inf = f64::INFINITY;
//! let d = TropicalMatrix::from_rows(&[
//!     &[0.0, 2f64.ln(), inf],
//!     &[inf, 0.0, 4f64.ln()],
//!     &[inf, inf, 0.0],
//! ]).unwrap();
//! let star = d.kleene_star().unwrap();
//! assert!((star.get(0, 2) - 8f64.ln()).abs() < 1e-12);
//! // Differences that IEEE arithmetic turns into NaN have one meaning here.
//! assert_eq!(EReal::INFINITY.hom(EReal::INFINITY), EReal::NEG_INFINITY);
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod buffer;
mod ereal;
mod head;
mod interval;
mod kernel;
pub mod linalg;
mod matrix;
mod omega;
mod packed;
mod sparse;
pub mod stoch;
mod sum;
pub mod tropical;
pub mod vector;

pub use buffer::Buffer;
pub use ereal::EReal;
pub use head::{HeadRef, LogProbBlock, ReadoutNorm};
pub use interval::{bootstrap_interval, wilson_interval};
pub use kernel::{ContextBatch, Factored, KernelError, Layer, LogProbs, NextToken, Window};
pub use matrix::{RowMatrix, ShapeError};
pub use omega::wright_omega;
pub use packed::{Bf16Kernel, Format, PackedMatrix, PackedRows, instruction_rate, read_rate};
pub use sparse::{SparseError, SparseRows};
pub use sum::{CompensatedSum, ratio_of_sums, sum};
pub use tropical::{TropicalError, TropicalMatrix};
