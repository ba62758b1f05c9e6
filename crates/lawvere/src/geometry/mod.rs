//! Lens 2, and its runs: where supports and laws come from, and what is written.
//!
//! The measures themselves are [`lawvere_geometry`]'s, re-exported here.

mod concepts;
mod contrast;
mod embeddings;
mod path;
mod solve;
mod source;
mod survey;

pub use lawvere_geometry::*;

pub use self::concepts::{
    ConceptFiles, ConceptOptions, Groups, Named, NamedConcept, NamedConcepts, NamedGroup,
    name_concepts,
};
pub use self::contrast::{Contrast, ContrastOptions, contrast};
pub use self::embeddings::{
    FactorFiles, LimitedRank, SeparabilityFiles, Separated, StateSource, limit_rank, separate,
};
pub use self::path::{SolvedPath, solve_path};
pub use self::solve::{
    FinitePart, MaxMarginFiles, SolvedMaxMargin, VerifiedFiles, finite_part_of, solve_max_margin,
    verify_files,
};
pub use self::source::{ContextPlace, ContextSource, Given, LawSource, SupportSource};
pub use self::survey::{Survey, SurveyOptions, survey};
pub use crate::origin::Origin;
