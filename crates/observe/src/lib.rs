//! The Observation: everything the lenses need to know of a corpus and a model, in one folder.
//!
//! An [`Observation`] holds rows (contexts), sparse counts of the tokens that followed each, and,
//! where a model was read, hidden states of chosen layers and the head. Logits are not stored: they
//! are recomputed in blocks. There are two kinds:
//!
//! - [`Kind::Contexts`]: the distinct contexts of one order with their soft labels; the model read
//!   exactly those tokens.
//! - [`Kind::Positions`]: positions in running text with their full prefix up to the window, and
//!   the one token that really followed each.
//!
//! The folder opens in Python in a line a file, and ten lines of numpy write one
//! (`examples/write_observation.py`):
//!
//! | file | holds |
//! | --- | --- |
//! | `observation.json` | schema, kind, vocabulary size, checksums, where everything came from |
//! | `contexts.safetensors` | the rows and their counts |
//! | `states*.safetensors` | `layer.<l>`, rows x d, float32; several files are consecutive rows |
//! | `head.safetensors` | `weight` (V x d), optional `bias` (V), `norm.weight` and `norm.bias` (d) |
//! | `tokenizer.json` | optional: names the tokens |
//!
//! The arrays of `contexts.safetensors`, integers of any type:
//!
//! | array | shape | holds |
//! | --- | --- | --- |
//! | `counts.indptr`, `counts.tokens`, `counts.values` | m + 1, entries, entries | CSR of next-token counts; token V is the end of a document |
//! | `weights` | m | optional: the weight of each row (else its share of the counts) |
//! | `blocks.indptr`, `blocks.block`, `blocks.count` | entries + 1, parts, parts | optional: the counts by block of documents, for standard errors |
//! | `contexts` | m x order | contexts: token ids |
//! | `tokens`, `window_offsets` | T, windows + 1 | positions: the windows of running text |
//! | `position.window`, `.prefix_length`, `.document`, `.next` | m | positions: where each is, how many tokens of the window come before, its document, the token that followed |
//!
//! The largest `l` among the layers is the head's input; 0 is the embeddings. `observation.json`
//! needs `schema`, `kind` (`contexts` or `positions`), `vocab_size`, `document_end` (`outcome` or
//! `dropped`) and `files`: every file's SHA-256, or null for one that is not to be checked. With a
//! norm it needs `norm_eps`, and `norm_centred` (true) if it is a layer norm; `soft_cap` is the head's, where it has one, and `document_end_token` the
//! model's own token for the end of a document, where it was trained with one (that end is then this
//! outcome rather than V).
//!
//! ```no_run
//! let observation = lawvere_observe::Observation::open("observation".as_ref())?;
//! println!("{} rows", observation.rows());
//! # Ok::<(), lawvere_observe::ObserveError>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod arrays;
mod bootstrap;
mod error;
mod make;
mod observation;
mod positions;
mod read;
mod write;

pub use bootstrap::{REPLICATES, Replicate};
pub use error::ObserveError;
pub use make::{ContextPlan, Cost, Draft, Layers, Observer, PositionPlan, Progress};
pub use observation::{
    BlockSplit, Head, Info, Kind, NORM_FREE_READOUT, Observation, Provenance, Rows, States,
    frequencies,
};
pub use positions::Positions;
