use std::collections::BTreeMap;
use std::ops::Range;

use lawvere_core::{
    ContextBatch, HeadRef, KernelError, ReadoutNorm, RowMatrix, ShapeError, SparseRows, sum,
};
use lawvere_text::DocumentEnd;
use lawvere_token::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::positions::Positions;

/// What the rows of an Observation are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Distinct contexts of one order, with soft labels.
    Contexts,
    /// Positions in running text, each with the one token that followed.
    Positions,
}

/// `observation.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// Always [`SCHEMA`](Info::SCHEMA).
    pub schema: String,
    /// What the rows are.
    pub kind: Kind,
    /// The number V of tokens; the outcome V is the end of a document.
    pub vocab_size: usize,
    /// Whether the end of a document is an outcome.
    pub document_end: DocumentEnd,
    /// The model's own token for the end of a document, if it has one: then that end is this
    /// outcome rather than V.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_end_token: Option<u32>,
    /// The epsilon of the norm in `head.safetensors`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_eps: Option<f32>,
    /// Whether that norm takes the mean off first (layer norm).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub norm_centred: bool,
    /// The head's logit soft-cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_cap: Option<f32>,
    /// The files and their SHA-256; a file without one is not checked.
    pub files: BTreeMap<String, Option<String>>,
    /// Where it came from, if Lawvere made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

impl Info {
    /// The version of the format.
    pub const SCHEMA: &str = "lawvere-observation/1";
}

/// Where an Observation came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The version of Lawvere.
    pub tool_version: String,
    /// The corpus's files.
    pub corpus: Vec<String>,
    /// The corpus's hash.
    pub corpus_sha256: String,
    /// The tokenizer's hash.
    pub tokenizer_sha256: String,
    /// The checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The checkpoint's hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_sha256: Option<String>,
    /// How the rows were chosen, in words.
    pub choice: String,
    /// Occurrences left out because the document ended there.
    pub dropped_ends: u64,
    /// How many rows qualified before the choice.
    pub qualified: usize,
    /// The SHA-256 of the rows, layers and model: two runs with the same one make the same thing.
    pub plan_sha256: String,
}

/// The rows of an Observation: what the model read.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// m x order token ids, and how often each context ended a document.
    Contexts {
        /// The number of tokens of each context.
        order: usize,
        /// Row after row.
        tokens: Vec<u32>,
    },
    /// Windows of running text and the positions read in them.
    Positions(Positions),
}

/// How the counts are spread over blocks of documents, for the bootstrap.
///
/// Entry k of the counts is the sum of `counts[indptr[k]..indptr[k + 1]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSplit {
    /// Entries + 1 pointers.
    pub indptr: Vec<u64>,
    /// The block of each part.
    pub blocks: Vec<u32>,
    /// How many of the entry's occurrences are in the block.
    pub counts: Vec<u32>,
}

impl BlockSplit {
    /// The number of blocks that occur.
    pub fn blocks(&self) -> usize {
        self.blocks.iter().max().map_or(0, |&b| b as usize + 1)
    }
}

/// Hidden states, rows x d for each kept layer.
#[derive(Debug, Clone, PartialEq)]
pub struct States {
    layers: Vec<(usize, RowMatrix<f32>)>,
}

impl States {
    /// States by layer; the largest layer is the head's input. All of one shape.
    ///
    /// # Errors
    /// No layer, or layers of different shapes.
    pub fn new(mut layers: Vec<(usize, RowMatrix<f32>)>) -> Result<Self, ShapeError> {
        layers.sort_by_key(|(l, _)| *l);
        let shape = |m: &RowMatrix<f32>| (m.nrows(), m.ncols());
        let Some(first) = layers.first().map(|(_, m)| shape(m)) else {
            return Err(ShapeError::new("states", "at least one layer", "none"));
        };
        match layers.iter().find(|(_, m)| shape(m) != first) {
            Some((_, m)) => Err(ShapeError::new(
                "states",
                format!("{first:?}"),
                format!("{:?}", shape(m)),
            )),
            None => Ok(Self { layers }),
        }
    }

    /// Layers in increasing order with their states.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = (usize, &RowMatrix<f32>)> {
        self.layers.iter().map(|(l, m)| (*l, m))
    }

    /// The head's input and its layer.
    pub fn last(&self) -> (usize, &RowMatrix<f32>) {
        let (layer, states) = &self.layers[self.layers.len() - 1];
        (*layer, states)
    }
}

/// The head of the model that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// V x d.
    pub weight: RowMatrix<f32>,
    /// V values.
    pub bias: Option<Vec<f32>>,
    /// The logit soft-cap.
    pub soft_cap: Option<f32>,
    /// The norm before the head, with which layers other than the last are read out.
    pub norm: Option<ReadoutNorm>,
}

impl Head {
    /// A view that computes.
    pub fn view(&self) -> HeadRef<'_> {
        HeadRef {
            weight: self.weight.view(),
            bias: self.bias.as_deref(),
            soft_cap: self.soft_cap,
            packed: None,
        }
    }
}

/// Why a layer other than the last cannot be read out through the head.
pub const NORM_FREE_READOUT: &str =
    "reading a layer other than the last out through the head needs the norm before the head";

/// A corpus and a model on the same rows.
#[derive(Debug, Clone)]
pub struct Observation {
    /// What `observation.json` says.
    pub info: Info,
    /// What was read.
    pub contexts: Rows,
    /// How often each token followed each row: `vocab_size + 1` columns.
    pub counts: SparseRows<u64>,
    /// The weight of each row; they sum to 1.
    pub weights: Vec<f64>,
    /// The counts by block of documents.
    pub blocks: Option<BlockSplit>,
    /// The model's states.
    pub states: Option<States>,
    /// The model's head.
    pub head: Option<Head>,
    /// The tokenizer, to name tokens.
    pub tokenizer: Option<Tokenizer>,
    /// See [`with_laws`](Self::with_laws).
    pub(crate) exact: Option<SparseRows<f64>>,
}

impl Observation {
    /// The number m of rows.
    pub fn rows(&self) -> usize {
        self.counts.nrows()
    }

    /// The number of occurrences counted; of [`with_laws`](Self::with_laws) that of the laws' entries.
    pub fn samples(&self) -> u64 {
        self.counts.values().iter().sum()
    }

    /// The same rows, weights and model, judged by other laws than the corpus's: the exact ones,
    /// where the language is known. The counts become ones on the laws' supports; as nothing was
    /// sampled, there are no blocks and so no standard errors. It cannot be saved.
    ///
    /// # Errors
    /// Laws of another number of rows or outcomes; an entry that is not positive; a row that does not
    /// sum to 1 within 1e-9.
    pub fn with_laws(&self, laws: SparseRows<f64>) -> Result<Self, ShapeError> {
        let shape = |rows: usize, columns: usize| format!("{rows} x {columns}");
        let expected = shape(self.rows(), self.counts.ncols());
        let found = shape(laws.nrows(), laws.ncols());
        if expected != found {
            return Err(ShapeError::new("laws", expected, found));
        }
        if let Some(bad) = laws.values().iter().find(|p| p.is_nan() || **p <= 0.0) {
            return Err(ShapeError::new("a law's entry", "more than 0", bad));
        }
        let total = |values: &[f64]| sum(values.iter().copied());
        let off = |t: &f64| (t - 1.0).abs() > 1e-9;
        if let Some(bad) = laws.rows().map(|r| total(r.1)).find(off) {
            return Err(ShapeError::new("a law's sum", 1, bad));
        }
        Ok(Self {
            counts: laws.map(|_, _| 1),
            blocks: None,
            exact: Some(laws),
            ..self.clone()
        })
    }

    /// The next-token laws, the same pattern as the counts: the empirical ones,
    /// `p_j(z) = count(j, z) / count(j)`, or those of [`with_laws`](Self::with_laws).
    pub fn laws(&self) -> SparseRows<f64> {
        if let Some(exact) = &self.exact {
            return exact.clone();
        }
        frequencies(&self.counts)
    }

    /// Whether its laws are exact ones, given to [`with_laws`](Self::with_laws).
    pub fn is_exact(&self) -> bool {
        self.exact.is_some()
    }

    /// What the model read: one row an Observation's row, in order.
    ///
    /// # Errors
    /// Positions that do not fit their windows.
    pub fn context_batch(&self) -> Result<ContextBatch, KernelError> {
        batch(&self.contexts, 0..self.rows())
    }

    /// The states of a layer as the head would read them: the last layer as it is, any other
    /// through the final norm.
    ///
    /// # Errors
    /// A layer other than the last where the Observation has no norm.
    pub fn readout(
        &self,
        layer: usize,
        states: &RowMatrix<f32>,
    ) -> Result<RowMatrix<f32>, ShapeError> {
        let mut out = states.clone();
        let is_last = self.states.as_ref().is_some_and(|s| s.last().0 == layer);
        if !is_last {
            let norm = self.head.as_ref().and_then(|h| h.norm.as_ref());
            let norm =
                norm.ok_or_else(|| ShapeError::new(NORM_FREE_READOUT, "norm.weight", "none"))?;
            norm.apply(&mut out)?;
        }
        Ok(out)
    }

    /// The last token of each row's prefix; `None` for an empty one.
    pub fn last_tokens(&self) -> Vec<Option<u32>> {
        match &self.contexts {
            Rows::Contexts { order: 0, .. } => vec![None; self.rows()],
            Rows::Contexts { order, tokens } => {
                tokens.chunks(*order).map(|c| c.last().copied()).collect()
            }
            Rows::Positions(p) => p.last_tokens(),
        }
    }

    fn is_end(&self, token: u32) -> bool {
        self.info.document_end_token == Some(token) || token as usize == self.info.vocab_size
    }

    /// A token's text for people, with visible spaces and line ends; its number without a tokenizer.
    pub fn token_label(&self, token: u32) -> String {
        if self.is_end(token) {
            return "⟨end of document⟩".into();
        }
        match self.tokenizer.as_ref().map(|t| t.decode(&[token])) {
            Some(Ok(text)) => visible(&text),
            _ => format!("#{token}"),
        }
    }

    /// The text of context `row`, with visible line ends.
    pub fn row_label(&self, row: usize) -> String {
        let tokens: Vec<u32> = match &self.contexts {
            Rows::Contexts { order, tokens } => tokens[row * order..(row + 1) * order].to_vec(),
            Rows::Positions(p) => p.prefix(row).to_vec(),
        };
        let whole = self.tokenizer.as_ref().map(|t| t.decode(&tokens));
        match whole {
            Some(Ok(text)) if !tokens.iter().any(|&t| self.is_end(t)) => visible(&text),
            Some(_) => tokens
                .iter()
                .map(|&t| self.token_label(t))
                .collect::<Vec<_>>()
                .join(" "),
            None => tokens
                .iter()
                .map(|t| format!("#{t}"))
                .collect::<Vec<_>>()
                .join(" "),
        }
    }
}

/// Rows `range` as contexts for a kernel.
pub(crate) fn batch(rows: &Rows, range: Range<usize>) -> Result<ContextBatch, KernelError> {
    match rows {
        Rows::Contexts { order, tokens } => {
            let row = |i: usize| &tokens[i * order..(i + 1) * order];
            Ok(ContextBatch::of_contexts(range.map(row)))
        }
        Rows::Positions(p) => p.batch(range),
    }
}

/// Counts as relative frequencies, row by row; a row without occurrences stays 0.
pub fn frequencies(counts: &SparseRows<u64>) -> SparseRows<f64> {
    let mut totals = Vec::with_capacity(counts.nnz());
    for (_, values) in counts.rows() {
        let total = sum(values.iter().map(|&c| c as f64)).max(1.0);
        totals.resize(totals.len() + values.len(), total);
    }
    counts.map(|k, &count| count as f64 / totals[k])
}

/// Text on one line: line ends and tabs shown as signs, other control characters as their code points.
fn visible(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' => out.push('⏎'),
            '\t' => out.push('⇥'),
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}
