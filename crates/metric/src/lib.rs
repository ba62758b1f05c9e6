//! Lens 1: the directed metric space of texts.
//!
//! A language is a poset of texts with probabilities of extension; `d(a, b) = -log Pr(b|a)` makes
//! it a metric space in which distances have a direction. Here the poset is a forest of prefixes,
//! once with the corpus's probabilities and once with a model's.
//!
//! ```
//! use lawvere_metric::PrefixForest;
//!
//! // "the" -> "the cat", "the dog"; half of the time, a quarter of the time.
//! let forest = PrefixForest::new(vec![None, Some(0), Some(0)], vec![0.0, 0.5f64.ln(), 0.25f64.ln()])?;
//! let d = forest.distances();
//! assert!((d.get(0, 2) - 4f64.ln()).abs() < 1e-12);
//! assert_eq!(d.get(1, 2), f64::INFINITY);
//! let isometry = lawvere_metric::yoneda_isometry(&d)?;
//! assert!(isometry.holds(1e-12));
//! # Ok::<(), lawvere_metric::MetricError>(())
//! ```
//!
//! *Source:* Gaubert, Vlassopoulos, *Directed Metric Structures arising in Large Language Models*
//! (arXiv 2405.12264); Lawvere, *Metric spaces, generalized logic, and closed categories* (1973);
//! Willerton, *Tight spans, Isbell completions and semi-tropical modules* (2013).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod boltzmann;
mod comparison;
mod decomposition;
mod duality;
mod equations;
mod error;
pub mod extended;
mod extension;
mod forest;
mod funk;
mod isbell;
mod magnitude;
mod polyhedra;
mod potential;
mod rays;
mod space;
mod sweeps;
mod yoneda;

pub use boltzmann::Boltzmann;
pub use comparison::{Comparison, Pair, compare};
pub use decomposition::{Decomposition, Part};
pub use duality::dual;
pub use error::MetricError;
pub use forest::PrefixForest;
pub use funk::{funk_distance, hilbert_distance};
pub use isbell::Isbell;
pub use num_bigint::BigUint;
pub use polyhedra::{Missed, Polyhedron, Projection};
pub use rays::{MOST_TEXTS, MOST_WITHOUT_POTENTIAL, Ray};
pub use space::{Breach, Edge, Space, TOLERANCE};
pub use yoneda::{Isometry, is_directed_metric, yoneda_isometry};
