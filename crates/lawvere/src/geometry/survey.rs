use std::path::PathBuf;

use lawvere_geometry::{ContextLaws, Growth, GrowthOptions, SupportSummary, Supports, growth};
use lawvere_observe::{Observation, Rows};
use serde::Serialize;

use super::source::{ContextSource, Given};
use crate::arrays::{Extra, ExtraNumbers, check_matrix_destinations, write_columns};
use crate::origin::Origin;
use crate::{Event, RunError};

/// What [`survey`] makes beside its figures.
#[derive(Debug, Clone, PartialEq)]
pub struct SurveyOptions {
    /// How the growth of the supports is looked at.
    pub growth: GrowthOptions,
    /// Where the support matrix S is written, V x m: an .npz for scipy, or dense.
    pub support: Option<PathBuf>,
    /// Where the laws P are written, V x m. In an .npz stand beside them `weights` (m), `tokens` (V
    /// token ids) and `contexts` (m x order token ids).
    pub laws: Option<PathBuf>,
}

/// The size and sparsity of a corpus's next-token pattern, how it grows, and what its rows and columns
/// are.
#[derive(Debug, Clone, Serialize)]
pub struct Survey {
    /// m, n, V, H, sizes of supports, classes.
    #[serde(flatten)]
    pub summary: SupportSummary,
    /// The same with fewer occurrences.
    pub growth: Growth,
    /// The number of contexts of each class of equal supports, the largest classes first.
    pub class_sizes: Vec<usize>,
    /// The token ids of the rows of S and P.
    pub tokens: Vec<u32>,
    /// The tokens' texts.
    pub token_labels: Vec<String>,
    /// The texts of the contexts, columns of S and P.
    pub context_labels: Vec<String>,
    /// pi: the weight of each context.
    pub weights: Vec<f64>,
    /// The class of each context; contexts with equal supports share one.
    pub class: Vec<usize>,
    /// What it rests on.
    pub source: Origin,
}

/// Tells how large and how sparse the next-token pattern of contexts is, and writes its matrices.
///
/// # Errors
/// What reading the source or writing meets.
pub fn survey(
    source: &ContextSource,
    options: &SurveyOptions,
    on_event: &mut dyn FnMut(Event),
) -> Result<Survey, RunError> {
    check_matrix_destinations(&[&options.support, &options.laws], &[], true)?;
    let Given {
        what: observation,
        origin,
    } = source.read(on_event)?;
    let laws = ContextLaws::of(&observation, source.vocabulary).map_err(|e| origin.error(e))?;
    let supports = &laws.supports;
    on_event(Event::Part(format!(
        "supports of {} contexts",
        supports.contexts()
    )));
    let summary = supports.summary(&observation, options.growth.seed);
    let growth = growth(&observation, &options.growth).map_err(|e| origin.error(e))?;
    let extras = extras(&observation, &laws);
    if let Some(path) = &options.support {
        write_columns(path, "support", &supports.rows, &extras)?;
    }
    if let Some(path) = &options.laws {
        write_columns(path, "probabilities", &laws.laws, &extras)?;
    }
    let labels = |tokens: &[u32]| tokens.iter().map(|&t| observation.token_label(t)).collect();
    Ok(Survey {
        summary,
        growth,
        class_sizes: class_sizes(supports),
        token_labels: labels(&supports.tokens),
        context_labels: (0..observation.rows())
            .map(|row| observation.row_label(row))
            .collect(),
        tokens: supports.tokens.clone(),
        class: supports.class.clone(),
        weights: laws.weights,
        source: origin,
    })
}

fn class_sizes(supports: &Supports) -> Vec<usize> {
    let mut sizes = supports.class_sizes();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes
}

fn extras<'a>(observation: &'a Observation, laws: &'a ContextLaws) -> Vec<Extra<'a>> {
    let tokens = &laws.supports.tokens;
    let mut extras = vec![
        Extra {
            name: "weights",
            shape: vec![laws.weights.len()],
            numbers: ExtraNumbers::F64(&laws.weights),
        },
        Extra {
            name: "tokens",
            shape: vec![tokens.len()],
            numbers: ExtraNumbers::U32(tokens),
        },
    ];
    if let Rows::Contexts { order, tokens } = &observation.contexts {
        extras.push(Extra {
            name: "contexts",
            shape: vec![observation.rows(), *order],
            numbers: ExtraNumbers::U32(tokens),
        });
    }
    extras
}
