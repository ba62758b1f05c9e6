//! The lenses once more, with the exact kernel of the language in the place of the corpus's counts.

use lawvere_core::SparseRows;
use lawvere_geometry::{Supports, collapse, log_odds, spectrum};
use lawvere_information::{
    Likelihood, context_information, difference_errors, layer_readings, likelihood,
    loss_by_prefix_length, mean_over_documents, sampling_divergence,
};
use lawvere_metric::{PrefixForest, compare};
use lawvere_observe::Observation;
use lawvere_report::{LanguageFacts, TrueGeometry, TrueInformation, TrueMetric};
use lawvere_text::{Language, Reading};

use crate::{PrefixTexts, RunError};

pub(crate) fn facts(language: &Language) -> LanguageFacts {
    LanguageFacts {
        name: "built-in stories".into(),
        words: language.vocab_size(),
        states: language.state_count(),
        transitions: language.transition_count(),
        entropy_rate: language.entropy_rate(),
        symbols_per_document: language.symbols_per_story(),
        identity: language.identity().into(),
    }
}

/// Exact distances: a text may stand anywhere in a story, as in the corpus's counts.
pub(crate) fn metric(
    language: &Language,
    texts: &PrefixTexts,
    corpus: &PrefixForest,
    model: &PrefixForest,
) -> Result<TrueMetric, RunError> {
    let exact = texts.model_forest(&language.kernel(Reading::LastTokens))?;
    Ok(TrueMetric {
        distances: (0..exact.len()).map(|i| exact.edge_distance(i)).collect(),
        corpus: compare(corpus, &exact, &texts.counts)?,
        model: compare(&exact, model, &texts.counts)?,
    })
}

/// The contexts of an Observation with their exact laws: what follows these tokens, whatever stands
/// before them.
pub(crate) fn contexts(
    language: &Language,
    observation: &Observation,
) -> Result<Observation, RunError> {
    let laws = language
        .kernel(Reading::LastTokens)
        .laws(&observation.context_batch()?)?;
    Ok(observation.with_laws(widen(laws, observation.counts.ncols())?)?)
}

/// The same rows over the outcomes of an Observation, which may have more.
fn widen(laws: SparseRows<f64>, columns: usize) -> Result<SparseRows<f64>, RunError> {
    SparseRows::from_parts(
        columns,
        laws.indptr().to_vec(),
        laws.indices().to_vec(),
        laws.values().to_vec(),
    )
    .map_err(|e| RunError::Report(format!("the exact laws do not fit the observation: {e}")))
}

pub(crate) fn geometry(
    observation: &Observation,
    exact: &Observation,
    (rank, concepts): (usize, usize),
    seed: u64,
) -> Result<TrueGeometry, RunError> {
    let supports = Supports::new(exact)?;
    Ok(TrueGeometry {
        summary: supports.summary(exact, seed),
        seen: observation.counts.nnz(),
        unseen_mass: Supports::new(observation)?.missing_mass(exact),
        spectrum: spectrum(&supports, rank, concepts, seed)?,
        collapse: collapse(exact, &supports, seed)?,
        log_odds: log_odds(exact, seed)?,
    })
}

pub(crate) fn information(
    language: &Language,
    observation: &Observation,
    exact: &Observation,
    positions: &Observation,
    running: &Likelihood,
    seed: u64,
) -> Result<TrueInformation, RunError> {
    let readings = layer_readings(exact, &mut |_| {})?;
    // A position has one next token. A window that begins with a boundary begins a story, which the
    // reading of last tokens knows; one that begins in a story's middle is read as the model reads it.
    let next: Vec<u32> = positions.counts.rows().map(|r| r.0[0]).collect();
    let losses = language
        .kernel(Reading::LastTokens)
        .losses(&positions.context_batch()?, &next)?;
    let gaps: Vec<f64> = running
        .rows
        .iter()
        .zip(&losses)
        .map(|(model, exact)| model.cross_entropy - exact)
        .collect();
    let (running_loss, running_loss_error) = mean_over_documents(positions, &losses)?;
    let (gap, gap_error) = mean_over_documents(positions, &gaps)?;
    let exact_likelihood = likelihood(exact, seed)?;
    Ok(TrueInformation {
        difference_errors: difference_errors(observation, &exact_likelihood, seed)?,
        likelihood: exact_likelihood,
        sampling_divergence: sampling_divergence(observation, exact),
        information: context_information(exact),
        readings: readings.iter().map(|r| r.cross_entropy).collect(),
        running_loss,
        running_loss_error,
        gap,
        gap_error,
        by_length: loss_by_prefix_length(positions, &losses)?,
        gap_by_length: loss_by_prefix_length(positions, &gaps)?,
    })
}
