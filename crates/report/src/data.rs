//! What a report is made from: results and the names to show them under.

use std::collections::BTreeMap;

use lawvere_geometry::{Heatmap, LayerCollapse, LogOdds, Spectrum, SupportSummary};
use lawvere_information::{FisherRao, LayerReading, LengthLoss, Likelihood};
use lawvere_metric::{Comparison, Isometry};
use serde::Serialize;

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
    pub context_length: usize,
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
