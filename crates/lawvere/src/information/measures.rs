use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use lawvere_core::stoch::Divergence;
use lawvere_information as lens;
use lawvere_information::{
    Alignment, Coherence, FisherRao, InformationError, LayerMetric, LayerReading, Likelihood,
    MeanLengths, PathLengths, PredictiveDistances, RepresentationDivergence, Similarity,
    SimilarityKernel, SimilarityOperator, SimilarityOptions, Stochasticity, Whose,
};
use lawvere_observe::Observation;
use serde::Serialize;

use super::sets::ContextSet;
use super::source::{InformationSource, Measured, Opened};
use crate::{Event, RunError};

/// The identity of the likelihood, in nats and bits.
#[derive(Debug, Clone, Serialize)]
pub struct Likelihoods {
    /// Cross-entropy, divergence and entropy, nats a token.
    #[serde(flatten)]
    pub likelihood: Likelihood,
    /// The data's entropy with the first-order bias of few occurrences taken away; 0 on positions.
    pub entropy_corrected: f64,
    /// The cross-entropy in bits a token.
    pub bits_per_token: f64,
    /// The mean length of a next token in bytes; `None` without a tokenizer.
    pub bytes_per_token: Option<f64>,
    /// The cross-entropy in bits a byte of text.
    pub bits_per_byte: Option<f64>,
    /// Occurrences.
    pub samples: u64,
    /// Every context's figures, if they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contexts: Option<Vec<ContextLikelihood>>,
}

/// One context's part of the identity, nats.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct ContextLikelihood {
    pub context: String,
    pub weight: f64,
    pub cross_entropy: f64,
    pub divergence: f64,
    pub entropy: f64,
    pub model_entropy: f64,
    pub occurrences: u64,
}

/// Runs a measure of the lens on an opened source.
fn measure<T>(
    source: &InformationSource,
    on_event: &mut dyn FnMut(Event),
    what: &str,
    of: impl FnOnce(&Observation, &mut dyn FnMut(Event)) -> Result<T, InformationError>,
) -> Result<Measured<T>, RunError> {
    let opened = source.open(on_event)?;
    on_event(Event::Part(what.into()));
    match of(&opened.observation, on_event) {
        Ok(result) => Ok(opened.measured(result)),
        Err(error) => Err(opened.error(error)),
    }
}

/// `CE = KL + H` at the head's input, in total and, with `per_context`, context by context.
///
/// # Errors
/// What opening the source meets; [`lens::likelihood`].
pub fn likelihoods(
    source: &InformationSource,
    per_context: bool,
    seed: u64,
    on_event: &mut dyn FnMut(Event),
) -> Result<Measured<Likelihoods>, RunError> {
    let opened = source.open(on_event)?;
    on_event(Event::Part("cross-entropy".into()));
    let observation = &opened.observation;
    let found = lens::likelihood(observation, seed)
        .and_then(|l| Ok((lens::corrected_entropy(observation)?, l)));
    let (entropy_corrected, likelihood) = found.map_err(|e| opened.error(e))?;
    let bytes_per_token = mean_bytes(&opened)?;
    let bits_per_token = likelihood.cross_entropy / 2f64.ln();
    let contexts = per_context.then(|| {
        let rows = likelihood.rows.iter().enumerate();
        rows.map(|(row, r)| ContextLikelihood {
            context: observation.row_label(row),
            weight: observation.weights[row],
            cross_entropy: r.cross_entropy,
            divergence: r.divergence,
            entropy: r.data,
            model_entropy: r.model,
            occurrences: r.samples,
        })
        .collect()
    });
    let result = Likelihoods {
        entropy_corrected,
        bits_per_token,
        bits_per_byte: bytes_per_token.map(|b| bits_per_token / b),
        bytes_per_token,
        samples: observation.samples(),
        contexts,
        likelihood,
    };
    Ok(opened.measured(result))
}

/// Bytes of the tokens that followed, on average; an end of document has none.
fn mean_bytes(opened: &Opened) -> Result<Option<f64>, RunError> {
    let observation = &opened.observation;
    let Some(tokenizer) = &observation.tokenizer else {
        return Ok(None);
    };
    let mut bytes: BTreeMap<u32, usize> = BTreeMap::new();
    let end = observation.info.document_end_token;
    for &token in observation.counts.indices() {
        let text = (token as usize) < tokenizer.vocab_size() && Some(token) != end;
        if text && !bytes.contains_key(&token) {
            bytes.insert(token, tokenizer.text_bytes(token)?);
        }
    }
    Ok(Some(lens::mean_outcome(observation, |token| {
        bytes.get(&token).copied().unwrap_or(0) as f64
    })))
}

/// Mean categorical entropies of model and data.
///
/// # Errors
/// What opening the source meets; [`lens::stochasticity`].
pub fn stochasticities(
    source: &InformationSource,
    divergences: &[Divergence],
    layer: Option<usize>,
    on_event: &mut dyn FnMut(Event),
) -> Result<Measured<Stochasticities>, RunError> {
    measure(source, on_event, "categorical entropies", |o, _| {
        let divergences = lens::stochasticity(o, divergences, layer)?;
        Ok(Stochasticities { divergences })
    })
}

/// One entry a divergence.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct Stochasticities {
    pub divergences: Vec<Stochasticity>,
}

/// What layers' states tell about the next token, and how coherent they are.
#[derive(Debug, Clone, Serialize)]
pub struct LayerReport {
    /// I(S;W) layer by layer.
    pub layers: Vec<LayerReading>,
    /// Coherence of successive layers and, on positions, of successive positions.
    pub coherence: Vec<Coherence>,
}

/// State-prediction information and coherence, layer by layer. `deals` are the shuffles of the control.
///
/// # Errors
/// What opening the source meets; [`lens::layer_readings`], [`lens::coherence`].
pub fn layers(
    source: &InformationSource,
    deals: usize,
    seed: u64,
    on_event: &mut dyn FnMut(Event),
) -> Result<Measured<LayerReport>, RunError> {
    measure(source, on_event, "information of states", |o, on_event| {
        let total = o.states.as_ref().map_or(0, |s| s.layers().len());
        let mut done = 0;
        let layers = lens::layer_readings(o, &mut |_| {
            done += 1;
            on_event(Event::Progress { done, total });
        })?;
        Ok(LayerReport {
            layers,
            coherence: lens::coherence(o, deals, seed)?,
        })
    })
}

/// What [`fisher`] looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct FisherOptions {
    /// Named directions of the mean metric.
    pub directions: usize,
    /// Contexts whose own spectrum is taken.
    pub spectra: usize,
    /// Pairs of contexts whose path lengths are compared.
    pub pairs: usize,
    /// Layers besides the last that are looked at through the final norm.
    pub layers: Vec<usize>,
    /// Random choices start from it.
    pub seed: u64,
}

/// The information geometry of the head.
#[derive(Debug, Clone, Serialize)]
pub struct FisherReport {
    /// The mean metric over all contexts, at the head's input; `None` of a head with a logit soft-cap.
    pub mean: Option<FisherRao>,
    /// Seconds that the mean metric took.
    pub mean_seconds: f64,
    /// The texts of the tokens in `mean`'s directions.
    pub tokens: BTreeMap<u32, String>,
    /// Spectra of single contexts, layer by layer, the head's input last.
    pub layers: Vec<LayerMetric>,
    /// Path lengths; none of a head with a logit soft-cap or of a single context.
    pub paths: Vec<PathLengths>,
    /// Their means; `None` without pairs.
    pub mean_lengths: Option<MeanLengths>,
    /// Pairs whose three lengths are not in the order that theory demands, beyond rounding.
    pub violations: usize,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

/// The Fisher-Rao metric: its mean, single contexts, and lengths of paths.
///
/// # Errors
/// What opening the source meets; [`lens::layer_metric`].
pub fn fisher(
    source: &InformationSource,
    options: &FisherOptions,
    on_event: &mut dyn FnMut(Event),
) -> Result<Measured<FisherReport>, RunError> {
    measure(source, on_event, "Fisher-Rao metric", |o, on_event| {
        let mut notes = Vec::new();
        let unless_possible = |notes: &mut Vec<String>, error| match error {
            InformationError::SoftCap(_) | InformationError::TooFew { .. } => {
                notes.push(InformationError::to_string(&error));
                Ok(())
            }
            error => Err(error),
        };
        for layer in &options.layers {
            lens::check_layer(o, *layer)?;
        }
        let start = Instant::now();
        let mean = match lens::fisher_rao(o, options.directions) {
            Ok(mean) => Some(mean),
            Err(error) => unless_possible(&mut notes, error).map(|()| None)?,
        };
        let mean_seconds = start.elapsed().as_secs_f64();
        let mut layers = Vec::new();
        for layer in options.layers.iter().map(|l| Some(*l)).chain([None]) {
            on_event(Event::Part(match layer {
                Some(layer) => format!("spectra of single contexts, layer {layer}"),
                None => "spectra of single contexts, the head's input".into(),
            }));
            layers.push(lens::layer_metric(o, layer, options.spectra, options.seed)?);
        }
        let paths = match lens::paths(o, options.pairs, options.seed) {
            Ok(paths) => paths,
            Err(error) => unless_possible(&mut notes, error).map(|()| Vec::new())?,
        };
        let named = mean.iter().flat_map(|m| &m.directions);
        let named = named.flat_map(|d| d.raised.iter().chain(&d.lowered));
        Ok(FisherReport {
            tokens: named.map(|(t, _)| (*t, o.token_label(*t))).collect(),
            mean_lengths: MeanLengths::of(&paths),
            violations: paths.iter().filter(|p| !p.in_order()).count(),
            mean,
            mean_seconds,
            layers,
            paths,
            notes,
        })
    })
}

/// Predictive distances and their bounds.
///
/// # Errors
/// What opening the source meets; [`lens::predictive_distances`].
pub fn distances(
    source: &InformationSource,
    sample: usize,
    seed: u64,
    on_event: &mut dyn FnMut(Event),
) -> Result<Measured<PredictiveDistances>, RunError> {
    measure(source, on_event, "distances of laws", |o, _| {
        lens::predictive_distances(o, sample, seed)
    })
}

/// Similarity operators, model and data.
#[derive(Debug, Clone, Serialize)]
pub struct SimilarityReport {
    /// Kernel by kernel, the model's and the data's.
    pub operators: Vec<Similarity>,
    /// Seconds that each spectrum took, the operator made and energies left out.
    pub seconds: Vec<f64>,
}

/// Leading spectra and Dirichlet energies of `kernels`, for the data and, where there is a model, for it.
///
/// # Errors
/// What opening the source meets; [`SimilarityOperator::new`].
pub fn similarities(
    source: &InformationSource,
    kernels: &[SimilarityKernel],
    options: &SimilarityOptions,
    on_event: &mut dyn FnMut(Event),
) -> Result<Measured<SimilarityReport>, RunError> {
    measure(source, on_event, "predictive similarity", |o, on_event| {
        let of_whom = match o.states.is_some() {
            true => vec![Whose::Model, Whose::Data],
            false => vec![Whose::Data],
        };
        let total = kernels.len() * of_whom.len();
        let mut operators = Vec::with_capacity(total);
        let mut seconds = Vec::with_capacity(total);
        for kernel in kernels {
            for whose in &of_whom {
                let options = SimilarityOptions {
                    kernel: *kernel,
                    ..options.clone()
                };
                let start = Instant::now();
                let operator = SimilarityOperator::new(o, *whose, &options)?;
                let spectrum = operator.spectrum(options.rank, options.seed)?;
                seconds.push(start.elapsed().as_secs_f64());
                operators.push(Similarity {
                    spectrum,
                    energies: operator.energies(o, options.seed)?,
                    rows: operator.into_rows(),
                });
                on_event(Event::Progress {
                    done: operators.len(),
                    total,
                });
            }
        }
        Ok(SimilarityReport { operators, seconds })
    })
}

/// Spectral alignment, layer by layer, with controls; `untrained` is the folder of an observation of the
/// same contexts by the same network untrained.
///
/// # Errors
/// What opening the sources meets; [`lens::spectral_alignment`].
pub fn alignments(
    source: &InformationSource,
    untrained: Option<&PathBuf>,
    deals: usize,
    seed: u64,
    on_event: &mut dyn FnMut(Event),
) -> Result<Measured<Alignment>, RunError> {
    let untrained = match untrained {
        Some(path) => Some(Observation::open(path)?),
        None => None,
    };
    measure(source, on_event, "spectral alignment", |o, on_event| {
        let total = o.states.as_ref().map_or(0, |s| s.layers().len());
        let mut done = 0;
        lens::spectral_alignment(o, untrained.as_ref(), deals, seed, &mut |_| {
            done += 1;
            on_event(Event::Progress { done, total });
        })
    })
}

/// The divergence between the mean predictive laws of two sets of contexts.
///
/// # Errors
/// What opening the source or reading the sets meets; [`lens::representation_divergence`].
pub fn divergences(
    source: &InformationSource,
    (a, b): (&ContextSet, &ContextSet),
    divergences: &[Divergence],
    layer: Option<usize>,
    seed: u64,
    on_event: &mut dyn FnMut(Event),
) -> Result<Measured<RepresentationDivergence>, RunError> {
    let opened = source.open(on_event)?;
    let rows = [a.rows(&opened.observation)?, b.rows(&opened.observation)?];
    on_event(Event::Part("divergence of sets".into()));
    let found = lens::representation_divergence(
        &opened.observation,
        &rows[0],
        &rows[1],
        divergences,
        layer,
        seed,
    );
    match found {
        Ok(result) => Ok(opened.measured(result)),
        Err(error) => Err(opened.error(error)),
    }
}
