//! What the page on predicted geometry is made from.

use lawvere_geometry::{Concept, GeometryMeasures, MaxMargin, Path};
use serde::Serialize;

/// Everything the page on the predicted geometry of a corpus, and on networks trained on it, shows.
#[derive(Debug, Clone, Serialize)]
pub struct ImplicitReport {
    /// The schema of the JSON file: `lawvere-implicit-geometry/1`.
    pub schema: String,
    /// How it was made.
    pub provenance: ImplicitProvenance,
    /// The corpus, in words.
    pub source: String,
    /// How the contexts were chosen, in words.
    pub choice: String,
    /// Tokens of a context.
    pub order: usize,
    /// The text of every token, a row of the V x m matrices each.
    pub tokens: Vec<String>,
    /// The text of every context, a column of the V x m matrices each.
    pub contexts: Vec<String>,
    /// Sizes and entropies.
    pub facts: PatternFacts,
    /// Tokens that follow some context, in the order in which pictures show them: the most widely
    /// supported first.
    pub token_order: Vec<usize>,
    /// Contexts in the order in which pictures show them: equal supports stand together.
    pub context_order: Vec<usize>,
    /// The class of every context; contexts with equal supports share one.
    pub classes: Vec<usize>,
    /// The max-margin solution with its certificate.
    pub max_margin: MaxMargin,
    /// `|L^mm/|L^mm| - S~/|S~||_F`.
    pub proxy_distance: f64,
    /// `|L^in|_F`, nats.
    pub finite_norm: f64,
    /// The regularisation path.
    pub path: Path,
    /// P, V x m; 0 off the supports.
    #[serde(skip)]
    pub probabilities: Map,
    /// `L^in`, V x m.
    #[serde(skip)]
    pub finite: Map,
    /// `L^mm`, V x m.
    #[serde(skip)]
    pub max_margin_logits: Map,
    /// The proxy `S~`, V x m.
    #[serde(skip)]
    pub proxy: Map,
    /// Predicted Gram matrices of words (V x V) and contexts (m x m), in the order of the tokens and
    /// contexts above: `U Sigma U^T` and `V Sigma V^T` of the max-margin logits.
    #[serde(skip)]
    pub predicted_words: Map,
    /// See [`predicted_words`](Self::predicted_words).
    #[serde(skip)]
    pub predicted_contexts: Map,
    /// The leading concepts: singular directions of the proxy, whose ends are places in `tokens` and
    /// `contexts`.
    pub concepts: Vec<Concept>,
    /// Networks trained on the contexts, in the order asked for.
    pub networks: Vec<NetworkRun>,
}

/// How a page was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct ImplicitProvenance {
    pub tool_version: String,
    /// The command that reproduces the page.
    pub command: String,
    pub seed: u64,
    pub threads: usize,
    /// The SHA-256 of the contexts, their weights and laws.
    pub laws_sha256: String,
    /// Wall time of the whole run, seconds.
    pub wall_seconds: f64,
    /// The largest resident memory of the process, bytes, where the system tells.
    pub peak_memory: Option<u64>,
}

/// The pattern's sizes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PatternFacts {
    /// m: distinct contexts.
    pub contexts: usize,
    /// n: occurrences.
    pub samples: u64,
    /// V: outcomes of the laws, those that follow no context included.
    pub vocabulary: usize,
    /// Tokens that follow some context.
    pub occurring: usize,
    /// H, nats.
    pub entropy: f64,
    /// Ones in S.
    pub entries: usize,
    /// Mean size of a support.
    pub mean_support: f64,
    /// Distinct supports.
    pub classes: usize,
    /// Contexts whose support another one shares.
    pub sharing: usize,
}

/// A matrix for the eye: single precision, row after row.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Map {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f32>,
}

/// One network trained on the contexts.
#[derive(Debug, Clone, Serialize)]
pub struct NetworkRun {
    /// A short name: UFM, transformer, LSTM, MLP.
    pub name: String,
    /// The network in words.
    pub network: String,
    /// How it was trained, in words.
    pub settings: String,
    /// Its weights.
    pub parameters: usize,
    /// Seconds of all steps, measurements included.
    pub seconds: f64,
    /// The loss before each step, nats, ridge penalty included.
    pub losses: Vec<f64>,
    /// Measured along training; the first is the untrained network, the last the finished one.
    pub curve: Vec<CurvePoint>,
    /// The finished network's measures when its states are dealt to contexts at random: what chance
    /// gives.
    pub shuffled: GeometryMeasures,
    /// Logits of the finished network, centred over tokens, V x m.
    #[serde(skip)]
    pub logits: Map,
    /// The finished network's Gram matrices of words (centred over tokens) and contexts.
    #[serde(skip)]
    pub words: Map,
    /// See [`words`](Self::words).
    #[serde(skip)]
    pub context_gram: Map,
}

/// A network at a step of its training.
#[derive(Debug, Clone, Serialize)]
pub struct CurvePoint {
    /// Steps made.
    pub step: u64,
    /// All measures.
    pub measures: GeometryMeasures,
    /// The point of the path whose CE - H is nearest, and the cosine of the network's logits with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
}

/// Logits beside the regularised solution of like loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PathMatch {
    /// `lambda / lambda_max` of the solution.
    pub relative_lambda: f64,
    /// The cosine of the logits with it.
    pub cosine: f64,
}
