use std::path::PathBuf;

use lawvere_geometry::{
    Concepts, KMeansOptions, LayerConcepts, Orthant, Supports, align_layers, concepts,
};
use lawvere_observe::Observation;
use serde::Serialize;

use super::source::{Given, SupportSource};
use crate::arrays::{check_matrix_destinations, write_dense};
use crate::cost::available_memory;
use crate::origin::Origin;
use crate::{Event, RunError};

/// What [`name_concepts`] looks for.
#[derive(Debug, Clone, PartialEq)]
pub struct ConceptOptions {
    /// How many concepts.
    pub rank: usize,
    /// How many tokens and contexts stand for an end of a concept, an orthant or a cluster.
    pub shown: usize,
    /// How many leading concepts have their signs combined to orthants; 0 for none.
    pub orthant_concepts: usize,
    /// The share of its norm up to which a coordinate has no sign.
    pub small: f64,
    /// How many clusters of words, and of contexts; 0 for none.
    pub clusters: usize,
    /// What the decomposition and the clusters start from.
    pub seed: u64,
}

impl Default for ConceptOptions {
    fn default() -> Self {
        Self {
            rank: 20,
            shown: 8,
            orthant_concepts: 3,
            small: 0.1,
            clusters: 8,
            seed: 0,
        }
    }
}

/// Where singular vectors are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConceptFiles {
    /// The words' U, V x k.
    pub words: Option<PathBuf>,
    /// The contexts' V, m x k.
    pub contexts: Option<PathBuf>,
}

/// A token or a context, and how far it lies along something.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Named {
    /// The token's id, or the row of the context.
    pub id: usize,
    /// Its text; a number where there is none.
    pub label: String,
    /// Its coordinate in the unit singular vector; in groups the norm of its coordinates.
    pub coordinate: f64,
}

/// A concept by the tokens and contexts at its ends.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedConcept {
    /// The concept, counted from 0.
    pub concept: usize,
    /// Its singular value.
    pub singular_value: f64,
    /// Its share of `|S~|_F^2`.
    pub share: f64,
    /// Tokens furthest along it.
    pub tokens: Vec<Named>,
    /// Tokens furthest against it.
    pub opposite_tokens: Vec<Named>,
    /// Contexts furthest along it.
    pub contexts: Vec<Named>,
    /// Contexts furthest against it.
    pub opposite_contexts: Vec<Named>,
}

/// Words, or contexts, that belong together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedGroup {
    /// Of an orthant: for every concept 1, -1, or 0 where a member has no sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signs: Option<Vec<i8>>,
    /// How many there are.
    pub size: usize,
    /// Those with the longest coordinates: the most typical ones.
    pub members: Vec<Named>,
}

/// Groups of words and of contexts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Groups {
    /// Words, the largest groups first.
    pub words: Vec<NamedGroup>,
    /// Contexts, the largest groups first.
    pub contexts: Vec<NamedGroup>,
}

/// The concepts of a support pattern by the names of their tokens and contexts.
#[derive(Debug, Clone, Serialize)]
pub struct NamedConcepts {
    /// V.
    pub vocabulary: usize,
    /// m.
    pub contexts: usize,
    /// Singular values, decreasing.
    pub singular_values: Vec<f64>,
    /// `|S~|_F^2`.
    pub energy: f64,
    /// The share of it that the concepts have together.
    pub captured: f64,
    /// The largest residual of a triplet.
    pub residual: f64,
    /// Whether that is at most 1e-6 of the largest singular value.
    pub converged: bool,
    /// The concepts, the strongest first.
    pub concepts: Vec<NamedConcept>,
    /// Words and contexts on the same sides of the leading concepts.
    pub orthants: Groups,
    /// Words and contexts in like directions of all concepts: [`Concepts::word_clusters`].
    pub clusters: Groups,
    /// The concepts in each layer of the model, if the contexts are an observation of one.
    pub alignment: Vec<LayerConcepts>,
    /// What it rests on.
    pub source: Origin,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

/// Finds the leading concepts of a support pattern and names them by their tokens and contexts, groups
/// words and contexts by them, and looks for them in the model, if one was observed.
///
/// # Errors
/// What reading the source, [`concepts`], [`k_means`](lawvere_geometry::k_means()) or writing meets. More clusters than words or
/// contexts count as as many.
pub fn name_concepts(
    source: &SupportSource,
    options: &ConceptOptions,
    files: &ConceptFiles,
    on_event: &mut dyn FnMut(Event),
) -> Result<NamedConcepts, RunError> {
    let both = [&files.words, &files.contexts];
    check_matrix_destinations(&both, &source.files(), false)?;
    let (supports, observation, origin) = match source {
        SupportSource::Matrix(_) => {
            let Given { what, origin } = source.read(on_event)?;
            (what, None, origin)
        }
        SupportSource::Contexts(contexts) => {
            let Given { what, origin } = contexts.read(on_event)?;
            let supports = Supports::over(&what, contexts.vocabulary);
            let supports = supports.map_err(|e| origin.error(e))?;
            (supports, Some(what), origin)
        }
    };
    on_event(Event::Part(format!(
        "{} concepts of {} tokens x {} contexts",
        options.rank,
        supports.vocabulary(),
        supports.contexts()
    )));
    check_memory(&supports, options)?;
    let named = named(&supports, observation.as_ref(), options, origin.clone());
    let (found, named) = named.map_err(|e| origin.error(e))?;
    if !named.converged {
        on_event(Event::Warning(format!(
            "the decomposition has not converged: residual {:.1e} with the largest singular value {:.1e}",
            named.residual,
            named.singular_values.first().copied().unwrap_or(0.0)
        )));
    }
    if let Some(path) = &files.words {
        write_dense(path, "words", &found.words)?;
    }
    if let Some(path) = &files.contexts {
        write_dense(path, "contexts", &found.contexts)?;
    }
    Ok(named)
}

/// Refuses what would not fit: the decomposition's basis on the smaller side, and singular vectors of
/// either side, scaled and for the clusters as well.
fn check_memory(supports: &Supports, options: &ConceptOptions) -> Result<(), RunError> {
    let (tokens, contexts) = (supports.vocabulary() as f64, supports.contexts() as f64);
    let rank = (options.rank as f64).min(tokens).min(contexts);
    let basis = tokens.min(contexts) * (6.0 * rank + 64.0);
    let bytes = 8.0 * (basis + (tokens + contexts) * (4.0 * rank + 16.0));
    match available_memory().filter(|&available| bytes > available as f64) {
        None => Ok(()),
        Some(available) => Err(RunError::Usage(format!(
            "{} concepts of {tokens} tokens x {contexts} contexts need about {:.1} GB of memory, and {:.1} GB are available: take a smaller --rank",
            options.rank,
            bytes / 1e9,
            available as f64 / 1e9
        ))),
    }
}

/// The texts of tokens and contexts; of a matrix its numbers.
struct Names<'a>(Option<&'a Observation>);

impl Names<'_> {
    fn token(&self, (id, coordinate): (u32, f64)) -> Named {
        let label = match self.0 {
            Some(observation) => observation.token_label(id),
            None => format!("row {id}"),
        };
        let id = id as usize;
        Named {
            id,
            label,
            coordinate,
        }
    }

    fn context(&self, (id, coordinate): (usize, f64)) -> Named {
        let label = match self.0 {
            Some(observation) => observation.row_label(id),
            None => format!("column {id}"),
        };
        Named {
            id,
            label,
            coordinate,
        }
    }
}

pub(crate) fn named(
    supports: &Supports,
    observation: Option<&Observation>,
    options: &ConceptOptions,
    source: Origin,
) -> Result<(Concepts, NamedConcepts), lawvere_geometry::GeometryError> {
    let found = concepts(supports, options.rank, options.seed)?;
    let names = Names(observation);
    let mut all = Vec::with_capacity(found.len());
    for k in 0..found.len() {
        let concept = found.concept(k, options.shown)?;
        let tokens = |end: Vec<(u32, f64)>| end.into_iter().map(|x| names.token(x)).collect();
        let contexts = |end: Vec<(usize, f64)>| end.into_iter().map(|x| names.context(x)).collect();
        all.push(NamedConcept {
            concept: k,
            singular_value: concept.singular_value,
            share: share(concept.singular_value.powi(2), found.energy),
            tokens: tokens(concept.tokens),
            opposite_tokens: tokens(concept.opposite_tokens),
            contexts: contexts(concept.contexts),
            opposite_contexts: contexts(concept.opposite_contexts),
        });
    }
    let word = |(v, norm): (usize, f64)| names.token((found.tokens[v], norm));
    let context = |x: (usize, f64)| names.context(x);
    let leading: Vec<usize> = (0..options.orthant_concepts.min(found.len())).collect();
    let mut orthants = Groups {
        words: Vec::new(),
        contexts: Vec::new(),
    };
    if !leading.is_empty() {
        let group = |orthants: Vec<Orthant>, name: &dyn Fn((usize, f64)) -> Named| {
            let one = |orthant: Orthant| NamedGroup {
                signs: Some(orthant.signs),
                size: orthant.members.len(),
                members: first(orthant.members, options.shown, name),
            };
            orthants.into_iter().map(one).collect()
        };
        orthants.words = group(found.word_orthants(&leading, options.small)?, &word);
        orthants.contexts = group(found.context_orthants(&leading, options.small)?, &context);
    }
    let mut clusters = Groups {
        words: Vec::new(),
        contexts: Vec::new(),
    };
    if options.clusters > 0 {
        let search = KMeansOptions {
            seed: options.seed,
            ..KMeansOptions::default()
        };
        let group = |groups: Vec<Vec<(usize, f64)>>, name: &dyn Fn((usize, f64)) -> Named| {
            let one = |members: Vec<(usize, f64)>| NamedGroup {
                signs: None,
                size: members.len(),
                members: first(members, options.shown, name),
            };
            groups.into_iter().map(one).collect()
        };
        clusters.words = group(found.word_clusters(options.clusters, &search)?, &word);
        clusters.contexts = group(found.context_clusters(options.clusters, &search)?, &context);
    }
    let mut notes = Vec::new();
    let alignment = match observation {
        Some(observation) => align_layers(&found, observation, &mut notes)?,
        None => Vec::new(),
    };
    let named = NamedConcepts {
        vocabulary: supports.vocabulary(),
        contexts: supports.contexts(),
        captured: all.iter().map(|c| c.share).sum(),
        singular_values: found.singular_values.clone(),
        energy: found.energy,
        residual: found.residual,
        converged: found.converged,
        concepts: all,
        orthants,
        clusters,
        alignment,
        source,
        notes,
    };
    Ok((found, named))
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn first(
    members: Vec<(usize, f64)>,
    shown: usize,
    name: &dyn Fn((usize, f64)) -> Named,
) -> Vec<Named> {
    members.into_iter().take(shown).map(name).collect()
}
