//! Lens 3, and its runs: where observations and kernels come from.
//!
//! The measures themselves are [`lawvere_information`]'s, re-exported here.

mod ahead;
mod draft;
mod kernel;
mod measures;
mod sets;
mod source;

pub use lawvere_information::*;

pub(crate) use self::ahead::block_information;
pub(crate) use self::draft::draft_with;

pub use self::ahead::{
    AheadOptions, AheadReport, BlockInformation, BoundOptions, information_ahead,
};
pub use self::draft::{DraftOptions, DraftRun, draft};
pub use self::kernel::{KernelReport, kernel_entropies};
pub use self::measures::{
    ContextLikelihood, FisherOptions, FisherReport, LayerReport, Likelihoods, SimilarityReport,
    Stochasticities, alignments, distances, divergences, fisher, layers, likelihoods, similarities,
    stochasticities,
};
pub use self::sets::ContextSet;
pub use self::source::{InformationSource, Measured, ObservationPlace};
