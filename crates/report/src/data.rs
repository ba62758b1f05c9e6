//! What a report is made from: results and the names to show them under.

use std::collections::BTreeMap;

use lawvere_geometry::{Heatmap, LayerCollapse, LogOdds, Reading, Spectrum, SupportSummary};
use lawvere_information::{
    Alignment, Decoding, DifferenceErrors, DraftReport, FisherRao, LayerReading, LengthLoss,
    Likelihood, Similarity, SimilarityMap, Stochasticity, SurplusBounds, UsableSurpluses,
};
use lawvere_metric::{Comparison, Isometry};
use serde::Serialize;

use crate::spaces::SpacesPage;

/// Everything a report shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The schema of the JSON file: `lawvere-report/1`.
    pub schema: String,
    /// How it was made.
    pub provenance: Provenance,
    /// The corpus.
    pub corpus: CorpusFacts,
    /// The model.
    pub model: ModelFacts,
    /// How the contexts were chosen, in words.
    pub choice: String,
    /// The number of tokens of each context.
    pub order: usize,
    /// Caveats particular to this model and corpus.
    pub caveats: Vec<String>,
    /// Lens 1.
    pub metric: MetricPage,
    /// Lens 2.
    pub geometry: GeometryPage,
    /// Lens 3.
    pub information: InformationPage,
    /// Lens 3: what states know beyond the next token.
    pub states: StatesPage,
    /// The exact values, where the language is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truth: Option<Truth>,
    /// The text of every token named in the results, with visible spaces and line ends.
    pub token_labels: BTreeMap<u32, String>,
    /// The text of every context, in the order of the observation's rows.
    pub context_labels: Vec<String>,
}

/// How a report was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Provenance {
    pub tool_version: String,
    /// The command that reproduces the report.
    pub command: String,
    pub seed: u64,
    pub threads: usize,
    pub corpus_sha256: String,
    pub tokenizer_sha256: String,
    pub model_sha256: String,
    /// Wall time of the whole run, seconds.
    pub wall_seconds: f64,
    /// Seconds of each part, in order.
    pub parts: Vec<(String, f64)>,
    /// The largest resident memory of the process, bytes, where the system tells.
    pub peak_memory: Option<u64>,
    /// The folder of the observation, relative to the report's.
    pub observation: String,
    /// The folder of the index.
    pub index: String,
}

/// The corpus, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct CorpusFacts {
    pub name: String,
    pub paths: Vec<String>,
    pub bytes: u64,
    pub documents: u64,
    /// What counts as a document: "line" or "file".
    pub document_unit: String,
    pub tokens: u64,
    pub distinct_tokens: usize,
    /// Occurrences of contexts left out because the document ends there.
    pub dropped_ends: u64,
    /// Contexts that qualified before the most frequent were chosen.
    pub qualified: usize,
}

/// The model, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct ModelFacts {
    pub name: String,
    pub path: String,
    pub parameters: usize,
    pub layers: usize,
    pub hidden_size: usize,
    pub vocab_size: usize,
    /// The longest window, in tokens; none for a network without a limit.
    pub context_length: Option<usize>,
    /// How it was trained, where it was trained here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingFacts>,
}

/// How a model was trained, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct TrainingFacts {
    pub steps: u64,
    /// Tokens read in all steps.
    pub tokens: u64,
    /// The loss before each step, nats.
    pub losses: Vec<f64>,
    /// Seconds of all steps.
    pub seconds: f64,
    /// The settings in words: optimiser, rate, batch.
    pub settings: String,
}

/// What is exactly true of the language that the corpus was drawn from, measured by the same
/// lenses on the same rows: k_true in the place of the corpus's counts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Truth {
    /// The language.
    pub language: LanguageFacts,
    /// Lens 1.
    pub metric: TrueMetric,
    /// Lens 2.
    pub geometry: TrueGeometry,
    /// Lens 3.
    pub information: TrueInformation,
}

/// The language, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LanguageFacts {
    /// What it is called.
    pub name: String,
    /// Words; the end of a document is one more outcome.
    pub words: usize,
    /// Hidden states, which the prefix determines.
    pub states: usize,
    /// Transitions between them.
    pub transitions: usize,
    /// Nats a symbol, ends of documents counted as symbols.
    pub entropy_rate: f64,
    /// Expected symbols of a document, its end counted.
    pub symbols_per_document: f64,
    /// The SHA-256 of its words and transitions.
    pub identity: String,
}

/// Exact distances.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrueMetric {
    /// `d(parent, text)` of every text of the forest, nats; 0 for a root.
    pub distances: Vec<f64>,
    /// The corpus's distances against the exact ones: the exact ones stand in the field `model`, and
    /// `within_two_errors` counts corpus distances whose interval covers the truth.
    pub corpus: Comparison,
    /// The model's distances against the exact ones, which stand in the field `corpus`; errors are
    /// those of the corpus's counts.
    pub model: Comparison,
}

/// Exact supports, and the model's states and logits judged by them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrueGeometry {
    /// Sizes of the exact supports, exact conditional entropy; `samples` is the number of entries.
    pub summary: SupportSummary,
    /// Entries of the exact supports that the corpus showed.
    pub seen: usize,
    /// Mean probability, under the exact laws, of a next token that the corpus never showed after
    /// that context.
    pub unseen_mass: f64,
    /// The spectrum of the exact centred support matrix.
    pub spectrum: Spectrum,
    /// Collapse by exact supports.
    pub collapse: Vec<LayerCollapse>,
    /// Log-odds of the model against the exact ones.
    pub log_odds: LogOdds,
}

/// Exact entropies and divergences.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrueInformation {
    /// Exact cross-entropy, KL(k_true || k_model) and H on the same contexts and weights.
    pub likelihood: Likelihood,
    /// Standard errors of the estimates' differences from these.
    pub difference_errors: Option<DifferenceErrors>,
    /// Mean KL(k_data || k_true) of the contexts: how far the corpus's counts are from the laws they
    /// were drawn from, nats.
    pub sampling_divergence: f64,
    /// I(X;W), the information of a context about the next token under the exact laws: what I(S;W)
    /// of each layer is held against.
    pub information: f64,
    /// Exact cross-entropy of each layer's reading, in the order of the readings.
    pub readings: Vec<f64>,
    /// k_true given the whole prefix, on the same positions of running text: its loss, nats.
    pub running_loss: f64,
    /// Its standard error, documents taken as independent.
    pub running_loss_error: f64,
    /// The model's loss minus k_true's on the same positions: an estimate of KL(k_true || k_model)
    /// a symbol.
    pub gap: f64,
    /// Its standard error, documents taken as independent.
    pub gap_error: f64,
    /// The loss of k_true by the length of the prefix.
    pub by_length: Vec<LengthLoss>,
    /// The gap by the length of the prefix.
    pub gap_by_length: Vec<LengthLoss>,
}

/// One text of the prefix forest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Text {
    /// The whole text.
    pub text: String,
    /// Its last token, the label of its edge.
    pub last: String,
    /// Its length in tokens.
    pub length: usize,
    /// Occurrences in the corpus.
    pub count: u64,
    /// Its longest proper prefix in the forest; comes before it.
    pub parent: Option<usize>,
    /// `d(parent, text)` in the corpus, nats; 0 for a root.
    pub corpus_distance: f64,
    /// The same in the model.
    pub model_distance: f64,
}

/// Results of the metric lens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricPage {
    /// The forest, most frequent texts first, every prefix before its extensions.
    pub texts: Vec<Text>,
    /// Corpus against model.
    pub comparison: Comparison,
    /// The Yoneda embedding of the corpus's space.
    pub corpus_isometry: Isometry,
    /// The Yoneda embedding of the model's space.
    pub model_isometry: Isometry,
    /// Small spaces of the corpus, drawn whole.
    pub spaces: SpacesPage,
}

/// Results of the geometry lens.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct GeometryPage {
    pub summary: SupportSummary,
    pub heatmap: Heatmap,
    pub spectrum: Spectrum,
    pub collapse: Vec<LayerCollapse>,
    pub log_odds: LogOdds,
    /// The theory's predictions in some layers, with controls; none where nothing is predicted.
    pub predictions: Option<Predictions>,
}

/// Which of the theory's predictions the model shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Predictions {
    /// Singular triplets of the proxy that were the prediction, and the share of its energy they have.
    pub rank: usize,
    /// See [`rank`](Self::rank).
    pub captured: f64,
    /// How many times states were dealt for each control.
    pub deals: usize,
    /// Every prediction in every layer, taken in every way.
    pub readings: Vec<Reading>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

impl From<lawvere_geometry::Comparison> for Predictions {
    fn from(comparison: lawvere_geometry::Comparison) -> Self {
        Self {
            rank: comparison.singular_values.len(),
            captured: comparison.captured,
            deals: comparison.deals,
            readings: comparison.readings,
            notes: comparison.notes,
        }
    }
}

/// Results of the information lens.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct InformationPage {
    pub likelihood: Likelihood,
    pub readings: Vec<LayerReading>,
    pub fisher: FisherRao,
    /// The same model on running text, with the whole prefix.
    pub running: RunningText,
}

/// The model on running text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct RunningText {
    pub choice: String,
    pub positions: usize,
    pub documents: usize,
    pub likelihood: Likelihood,
    pub by_length: Vec<LengthLoss>,
}

/// What states know beyond the next token, and whether they line up with what follows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatesPage {
    /// What fitted heads can use of the tokens after the next, on running text.
    pub usable: Option<UsableSurpluses>,
    /// Bounds of what contexts tell of blocks that the model draws.
    pub bounds: Option<SurplusBounds>,
    /// The exact values for the language's own states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact_ahead: Option<ExactAhead>,
    /// Drafting with fitted heads, forecast and run.
    pub draft: Option<DraftPage>,
    /// Categorical entropies of model and corpus.
    pub stochasticity: Vec<Stochasticity>,
    /// The same with the exact laws in the place of the corpus's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact_stochasticity: Option<Vec<Stochasticity>>,
    /// Alignment of every layer, with controls.
    pub alignment: Alignment,
    /// Similarity operators, the model's and the corpus's.
    pub similarity: Vec<Similarity>,
    /// Similarities of the heaviest contexts.
    pub map: SimilarityMap,
    /// Checkpoints of the training, judged by the exact laws; none of a given model.
    pub along: Vec<TrainingPoint>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

/// Exact information of the language's hidden state, nats.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExactAhead {
    /// `I(S; W_1..W_k)`, k = 1, 2, ...
    pub block: Vec<f64>,
    /// `I(S; W_(1+k) | W_1)`, k = 1, 2, ...
    pub single: Vec<f64>,
}

/// Drafting with fitted heads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DraftPage {
    /// The layer that heads draft from.
    pub layer: usize,
    /// Tokens drafted at once.
    pub length: usize,
    /// Tokens that a drafter can propose.
    pub drafted_tokens: usize,
    /// After prefixes that the model drew.
    pub model: DraftReport,
    /// After prefixes of documents that heads were not fitted on.
    pub corpus: DraftReport,
    /// Rounds of decoding that begin where the one before stopped.
    pub decoding: Decoding,
}

/// A checkpoint on the way of a training, judged by the exact laws of the language.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainingPoint {
    /// Steps made.
    pub step: u64,
    /// Spectral alignment at the head's input.
    pub alignment: f64,
    /// The same with prototypes dealt to contexts at random.
    pub shuffled: f64,
    /// Linear CKA of states and prototypes.
    pub cka: f64,
    /// The same with prototypes dealt at random.
    pub cka_shuffled: f64,
    /// Categorical entropies of model and language.
    pub stochasticity: Vec<Stochasticity>,
    /// The model's cross-entropy under the exact laws, nats.
    pub cross_entropy: f64,
}
