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
//! | `head.safetensors` | `weight` (V x d), optional `bias` (V) and `norm.weight` (d) |
//! | `tokenizer.json` | optional: names the tokens |
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
};
pub use positions::Positions;
