//! Lens 1: the directed metric space of texts.
//!
//! A language is a poset of texts with probabilities of extension; `d(a, b) = -log Pr(b|a)` makes
//! it a metric space in which distances have a direction. A [`Space`] holds all of them, checked on two levels; a
//! [`PrefixForest`] only steps, for millions of texts. `docs/five-texts.md` goes from five texts to their Isbell
//! completion.
//!
//! The statements of the theory are functions here: the Yoneda embeddings ([`yoneda_isometry`], [`funk_distance`]),
//! polyhedra with their projections and generators ([`Space::project`], [`Space::generators`]), linear equations
//! ([`Space::yoneda_from_covers`]), extremal rays ([`Space::extremal_rays`], [`Space::decompose`]), extensions
//! ([`Space::greatest_extension`]), the Boltzmann approximation ([`Space::boltzmann`]), duality ([`dual`]), Isbell's
//! completion ([`Space::complete`]) and magnitude ([`Space::magnitude`]).
//!
//! ```
//! use lawvere_metric::{Edge, Space, yoneda_isometry};
//!
//! // "the" -> "the cat", "the dog"; half of the time, a quarter of the time.
//! let names = ["the", "the cat", "the dog"].map(String::from).to_vec();
//! let edge = |to, probability| Edge { from: 0, to, probability };
//! let space = Space::from_edges(names, &[edge(1, 0.5), edge(2, 0.25)])?;
//! assert!((space.d(0, 2) - 4f64.ln()).abs() < 1e-12);
//! assert_eq!(space.d(1, 2), f64::INFINITY);
//! assert!(yoneda_isometry(space.distances())?.holds(1e-12));
//! assert_eq!(space.extremal_rays()?.len(), 4);
//! # Ok::<(), lawvere_metric::MetricError>(())
//! ```
//!
//! *Source:* Gaubert, Vlassopoulos, *Directed Metric Structures arising in Large Language Models*
//! (arXiv 2405.12264); Lawvere, *Metric spaces, generalized logic, and closed categories* (1973);
//! Willerton, *Tight spans, Isbell completions and semi-tropical modules* (2013).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod boltzmann;
mod comparison;
mod continuations;
mod decomposition;
mod duality;
mod equations;
mod error;
pub mod extended;
mod extension;
mod forest;
mod funk;
mod hyponymy;
mod isbell;
mod magnitude;
mod order;
mod polyhedra;
mod potential;
mod rays;
mod space;
mod sweeps;
mod yoneda;

pub use boltzmann::Boltzmann;
pub use comparison::{Comparison, Pair, compare};
pub use continuations::{Continuation, Continuations, Estimate};
pub use decomposition::{Decomposition, Part};
pub use duality::dual;
pub use error::MetricError;
pub use forest::PrefixForest;
pub use funk::{funk_distance, hilbert_distance};
pub use hyponymy::{Hyponymy, hyponymy};
pub use isbell::Isbell;
pub use num_bigint::BigUint;
pub use order::{prefix_covers, subtext_covers};
pub use polyhedra::{Missed, Polyhedron, Projection};
pub use rays::{MOST_TEXTS, MOST_WITHOUT_POTENTIAL, Ray};
pub use space::{Breach, Edge, Space, TOLERANCE};
pub use yoneda::{Isometry, is_directed_metric, yoneda_isometry};

/// The tutorial, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/five-texts.md")]
mod tutorial {}
