use lawvere_metric::{Boltzmann, Estimate};
use serde::Serialize;

/// Small spaces of texts of the corpus, drawn whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SpacesPage {
    /// The frequent texts that begin alike; none where no text goes on.
    pub tree: Option<TextTree>,
    /// A frequent text and all that stands within it; none where every text is a single token.
    pub within: Option<TextsWithin>,
    /// Beginnings of documents by how the model goes on; none where there are not two.
    pub beginnings: Option<Beginnings>,
}

/// Texts that begin with the same token, in the order of prefixes, and how a token is reached from them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextTree {
    /// The texts, each after its prefixes; the first is the root.
    pub texts: Vec<TreeText>,
    /// The token that is reached, and its label.
    pub target: (u32, String),
    /// The canonical decomposition of the chances to reach it, larger sets first.
    pub parts: Vec<TreePart>,
}

/// A text of a tree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TreeText {
    /// The whole text.
    pub text: String,
    /// Its last token.
    pub last: String,
    /// Occurrences in the corpus.
    pub count: u64,
    /// Its longest proper prefix in the tree.
    pub parent: Option<usize>,
    /// d(root, text) in the corpus, nats.
    pub corpus: f64,
    /// The same in the model.
    pub model: f64,
    /// The share of its occurrences that the target follows at once.
    pub at_once: f64,
    /// The best chance of the target after going on to some text of the tree: the greatest point of P(L) below -log of the
    /// former, as a probability.
    pub reached: f64,
}

/// A part of a canonical decomposition.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TreePart {
    /// Its weight: a probability from the root.
    pub weight: f64,
    /// The texts of its connected lower set, increasing.
    pub texts: Vec<usize>,
}

/// All texts within a text, in the order of subtexts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextsWithin {
    /// The texts, shorter ones first; the last is the whole.
    pub texts: Vec<String>,
    /// Their occurrences in the corpus.
    pub counts: Vec<u64>,
    /// d(i, j), nats; infinite where i does not stand within j.
    pub distances: Vec<Vec<f64>>,
    /// The texts of one token.
    pub words: Vec<usize>,
    /// The whole out of its words, by temperature.
    pub temperatures: Vec<Boltzmann>,
}

/// Beginnings of documents, compared by their continuations under the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Beginnings {
    /// The texts.
    pub texts: Vec<String>,
    /// Continuations drawn after each.
    pub samples: usize,
    /// The most tokens of one.
    pub tokens: usize,
    /// Every two of them.
    pub pairs: Vec<BeginningPair>,
}

/// Two beginnings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BeginningPair {
    /// The first, u.
    pub first: usize,
    /// The second, v.
    pub second: usize,
    /// `D_1(p_u || p_v)`, nats.
    pub forward: Estimate,
    /// `D_1(p_v || p_u)`.
    pub back: Estimate,
    /// Their difference.
    pub direction: Estimate,
    /// Liu's distance.
    pub trajectory: Estimate,
}
