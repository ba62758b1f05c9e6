use lawvere_core::stoch::unseen_mass;
use lawvere_geometry::{Growth, GrowthOptions};
use lawvere_observe::{ContextPlan, Layers, Observation, Observer};
use lawvere_text::TextSpace;
use serde::Serialize;

use crate::RunError;

/// How what follows the contexts of one order grows with the corpus: what is unseen is not impossible.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SupportGrowth {
    /// Tokens of a context.
    pub order: usize,
    /// Contexts, pairs of contexts and outcomes, and supports in parts of the corpus.
    pub growth: Growth,
    /// The [`unseen_mass`] of pairs: about the probability that the next occurrence of a context is followed by what
    /// has not followed it yet.
    pub unseen_outcome: f64,
    /// The same of contexts: about the probability that the next context is a new one.
    pub unseen_context: f64,
}

/// Support growth over all contexts of `order` tokens.
///
/// # Errors
/// No context of that order.
pub fn growth(space: &TextSpace, order: usize, seed: u64) -> Result<SupportGrowth, RunError> {
    let plan = ContextPlan {
        order,
        min_count: 1,
        top: None,
        document_end: None,
    };
    let draft = Observer::new(space, None, &Layers::Last)?.contexts(&plan)?;
    let observation = Observation::of_corpus(&draft, space);
    let options = GrowthOptions {
        seed,
        ..GrowthOptions::default()
    };
    let counts = &observation.counts;
    let contexts = counts.rows().map(|(_, row)| row.iter().sum());
    Ok(SupportGrowth {
        order,
        growth: lawvere_geometry::growth(&observation, &options)?,
        unseen_outcome: unseen_mass(counts.values().iter().copied()),
        unseen_context: unseen_mass(contexts),
    })
}
