//! Lawvere measures the geometry of next-token prediction, for any corpus and any language model.
//!
//! This crate joins the parts into whole runs: [`index`](fn@index) a corpus, [`observe`](fn@observe)
//! a corpus and a model, [`report`](fn@report) on both. The parts are re-exported; each is a
//! library of its own.
//!
//! ```
//! use lawvere::text::{Corpus, DataKernel, TextSpace, Tokenizer, Unseen};
//!
//! let corpus = Corpus::from_documents(["the cat sat", "the dog sat", "the cat ran"])?;
//! let words = Tokenizer::words(corpus.documents())?;
//! let space = TextSpace::build(&corpus, &words, &mut |_| {})?;
//! let law = DataKernel::new(&space, Unseen::Strict).law(&words.encode("the")?)?;
//! assert_eq!(law.next.total(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod arrays;
mod cost;
pub mod defaults;
mod error;
mod event;
mod experiment;
mod forest;
pub mod geometry;
pub mod index;
pub mod information;
pub mod metric;
pub mod model;
mod observe;
mod origin;
mod report;
mod states;
mod stories;
mod train;
mod truth;

pub use cost::peak_memory;
pub use error::RunError;
pub use event::Event;
pub use experiment::{ExperimentOptions, NetworkKind, NetworkPlan, NetworkSizes, experiment};
pub use forest::{PrefixTexts, prefix_texts};
pub use index::TokenizerChoice;
pub use observe::{ObserveOptions, RowChoice, observe};
pub use report::{ReportOptions, Subject, report};
pub use stories::{StoriesOptions, StoriesSummary, stories};
pub use train::{
    Along, ExactLoss, HeldOut, Labels, Measures, NetworkChoice, Source, TrainOptions, Trained,
    TrainingRecord, checkpoint_folder, train,
};

pub use lawvere_core as core;
pub use lawvere_lm as lm;
pub use lawvere_observe as observation;
pub use lawvere_report as page;
pub use lawvere_text as text;
pub use lawvere_token as token;
