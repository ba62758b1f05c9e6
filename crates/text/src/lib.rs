//! Corpora: readers, the suffix-array index of a corpus, and the kernel of the data; and a
//! built-in [`Language`] whose kernel, k_true, is known exactly.
//!
//! A [`Corpus`] is text cut into documents. A [`TextSpace`] is its index: with it every
//! count of a text, every next-token law of the data and every table of contexts is read off
//! without the corpus being gone through again. [`DataKernel`] is the same index seen as a Markov
//! kernel from contexts to next tokens, k_data.
//!
//! Nothing here crosses the end of a document. That end is itself an outcome: index `vocab_size`,
//! one beyond the last token.
//!
//! ```
//! use lawvere_text::{ContextOptions, Corpus, DataKernel, TextSpace, Tokenizer, Unseen};
//!
//! let documents = ["the cat sat", "the cat ran away", "the dog sat"];
//! let corpus = Corpus::from_documents(documents).unwrap();
//! let words = Tokenizer::words(corpus.documents()).unwrap();
//! let space = TextSpace::build(&corpus, &words, &mut |_stage| {}).unwrap();
//!
//! // Counting texts: Pr(the cat | the) = count(the cat) / count(the).
//! let ids = |text| words.encode(text).unwrap();
//! assert_eq!((space.count(&ids("the")), space.count(&ids("the cat"))), (3, 2));
//!
//! // What follows a text: tokens, or the end of a document.
//! let next = space.next_tokens(&ids("sat"));
//! assert_eq!((next.counts.len(), next.ended), (0, 2));
//!
//! // All contexts of one token, the most frequent first, with their next-token counts.
//! let table = space.contexts(1, 2, &ContextOptions::default()).unwrap();
//! assert_eq!(table.context(0), ids("the"));
//! assert_eq!(table.occurrences, [3, 2, 2]); // the, cat, sat
//! assert_eq!(table.counts.row(0).1, [2, 1]); // cat, dog
//!
//! // The kernel of the data, backing off to the longest suffix that occurs.
//! let law = DataKernel::new(&space, Unseen::BackOff).law(&ids("away the cat")).unwrap();
//! assert_eq!((law.used_length, law.next.total()), (2, 2));
//!
//! // On disk an index is a folder, written whole or not at all.
//! let folder = tempfile::tempdir().unwrap();
//! space.save(&folder.path().join("index")).unwrap();
//! let opened = TextSpace::open(&folder.path().join("index")).unwrap();
//! assert_eq!(opened.next_tokens(&ids("the")), space.next_tokens(&ids("the")));
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod blocks;
mod build;
mod contexts;
mod corpus;
mod distance;
mod error;
mod kernel;
mod language;
mod lookup;
mod open;
mod pages;
mod query;
mod sample;
mod shard;
mod space;
mod store;
mod verify;

pub use blocks::BlockCounts;
pub use build::{BuildOptions, words_of};
pub use contexts::{ContextOptions, ContextTable, DocumentEnd};
pub use corpus::{
    Corpus, CorpusOptions, CorpusReader, DocumentUnit, Format, ReadingInfo, SourceFile,
};
pub use distance::{Neighbour, Side};
pub use error::TextError;
pub use kernel::{DataKernel, Law, Unseen};
pub use language::{ExactContexts, Grammar, Language, Reading, TrueKernel};
/// The tokenizer that texts are read with, for convenience.
pub use lawvere_token::Tokenizer;
pub use query::{NextCounts, Position, PreviousCounts};
pub use sample::{Sample, SampleOptions};
pub use shard::ShardInfo;
pub use space::{SPACE_SCHEMA, SpaceInfo, TextSpace};
pub use verify::{ShardState, Verification};
