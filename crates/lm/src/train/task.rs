//! What a network learns from: running text, or contexts with soft labels.

use lawvere_core::SparseRows;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::LmError;
use crate::train::learner::Batch;
use crate::train::loss::Targets;
use crate::train::network::Input;

/// Contexts of one order with the laws of what follows them.
#[derive(Debug, Clone, PartialEq)]
pub struct SoftLabels {
    /// The number of tokens of each context.
    pub order: usize,
    /// Contexts x order token ids, row after row.
    pub tokens: Vec<u32>,
    /// The weight of each context; they sum to 1.
    pub weights: Vec<f64>,
    /// The next-token law of each context, a column an outcome.
    pub laws: SparseRows<f64>,
}

/// What a network learns from.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Running text: windows of `window` + 1 tokens drawn at random places of `stream`, `batch` of
    /// them a step; every token is predicted from those before it in the window.
    Text {
        /// The tokens, documents one after the other.
        stream: Vec<u32>,
        /// Windows a step.
        batch: usize,
        /// Tokens read in a window.
        window: usize,
    },
    /// Contexts with soft labels: all of them a step, or `batch` of them drawn by their weights.
    Contexts {
        /// The contexts.
        labels: SoftLabels,
        /// Contexts a step; `None` for all.
        batch: Option<usize>,
    },
}

/// Tokens that a step may read: every one leaves some thousand numbers for the backward pass.
const MOST_TOKENS: usize = 1 << 24;

impl Task {
    /// What keeps a network over `vocab_size` outcomes from learning this.
    pub(crate) fn problem(&self, vocab_size: usize, features: bool) -> Option<LmError> {
        let training = |what: String| Some(LmError::Training(what));
        match self {
            Self::Text { .. } if features => training(
                "unconstrained features have no network that reads text: train them on contexts with soft labels".into(),
            ),
            Self::Text { batch, window, .. } if *batch == 0 || *window == 0 => {
                training("a step needs at least one window of at least one token".into())
            }
            Self::Text { batch, window, .. }
                if batch.checked_mul(*window).is_none_or(|t| t > MOST_TOKENS) =>
            {
                training(format!(
                    "{batch} windows of {window} tokens are too many for a step; at most {MOST_TOKENS} tokens fit"
                ))
            }
            Self::Text { stream, window, .. } if stream.len() <= *window => training(format!(
                "the text has {} tokens; windows of {window} need more",
                stream.len()
            )),
            Self::Text { stream, .. } => stream
                .iter()
                .find(|&&t| t as usize >= vocab_size)
                .and_then(|t| {
                    training(format!(
                        "the text holds token {t}, outside the network's vocabulary of {vocab_size}"
                    ))
                }),
            Self::Contexts { labels, batch } => {
                let m = labels.weights.len();
                if m == 0 || *batch == Some(0) {
                    return training("a step needs at least one context".into());
                }
                if labels.laws.nrows() != m || labels.tokens.len() != m * labels.order {
                    return training(format!(
                        "{m} weights, {} laws and {} tokens of contexts of {} do not fit together",
                        labels.laws.nrows(),
                        labels.tokens.len(),
                        labels.order
                    ));
                }
                let read = batch.unwrap_or(m).checked_mul(labels.order.max(1));
                if read.is_none_or(|t| t > MOST_TOKENS) {
                    return training(format!(
                        "a step of {} contexts of {} tokens is too large; at most {MOST_TOKENS} tokens fit",
                        batch.unwrap_or(m),
                        labels.order
                    ));
                }
                if labels.order == 0 && !features {
                    return training("a context needs at least one token".into());
                }
                let all = labels.tokens.iter().chain(labels.laws.indices());
                all.into_iter()
                    .find(|&&t| t as usize >= vocab_size)
                    .and_then(|t| {
                        training(format!(
                            "the contexts hold token {t}, outside the network's vocabulary of {vocab_size}"
                        ))
                    })
            }
        }
    }

    /// Tokens that a step reads.
    pub(crate) fn tokens_a_step(&self) -> usize {
        match self {
            Self::Text { batch, window, .. } => batch.saturating_mul(*window),
            Self::Contexts { labels, batch } => {
                let contexts = batch.unwrap_or(labels.weights.len());
                contexts.saturating_mul(labels.order)
            }
        }
    }

    /// Fills `draw` with the batch of step `step`: it depends on `seed` and `step` alone, so that a
    /// run can be taken up at any step.
    pub(crate) fn draw(&self, seed: u64, step: u64, features: bool, draw: &mut Draw) {
        // Odd multiples spread seeds and steps over all 64 bits.
        let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ (step + 1).wrapping_mul(0xD1B5_4A32_D192_ED03);
        let mut rng = StdRng::seed_from_u64(mixed);
        match self {
            Self::Text {
                stream,
                batch,
                window,
            } => {
                draw.windows = vec![*window; *batch];
                draw.tokens.clear();
                draw.next.clear();
                for _ in 0..*batch {
                    let start = rng.random_range(0..stream.len() - window);
                    draw.tokens.extend(&stream[start..start + window]);
                    draw.next.extend(&stream[start + 1..=start + window]);
                }
            }
            Self::Contexts { labels, batch } => {
                let m = labels.weights.len();
                let unchanged = batch.is_none() && draw.weights.len() == m;
                if unchanged {
                    return;
                }
                let chosen: Vec<usize> = match batch {
                    None => (0..m).collect(),
                    Some(batch) => {
                        let ends: Vec<f64> = labels
                            .weights
                            .iter()
                            .scan(0.0, |total, w| {
                                *total += w;
                                Some(*total)
                            })
                            .collect();
                        let total = ends[m - 1];
                        (0..*batch)
                            .map(|_| {
                                let x = rng.random::<f64>() * total;
                                ends.partition_point(|&end| end <= x).min(m - 1)
                            })
                            .collect()
                    }
                };
                let order = labels.order;
                draw.weights = match batch {
                    None => labels.weights.clone(),
                    Some(batch) => vec![1.0 / *batch as f64; *batch],
                };
                draw.laws = SparseRows::new(labels.laws.ncols());
                draw.tokens.clear();
                for &context in &chosen {
                    let (tokens, probs) = labels.laws.row(context);
                    let row = tokens.iter().copied().zip(probs.iter().copied());
                    // Its tokens increase, as in the row it is a copy of.
                    let pushed = draw.laws.push_row(row);
                    debug_assert!(pushed.is_ok());
                    let tokens = &labels.tokens[context * order..(context + 1) * order];
                    draw.tokens.extend(tokens);
                }
                if features {
                    draw.windows.clear();
                    draw.kept = batch.map(|_| chosen);
                } else {
                    draw.windows = vec![order; chosen.len()];
                    draw.kept = Some((1..=chosen.len()).map(|i| i * order - 1).collect());
                }
            }
        }
    }
}

/// One step's batch.
pub(crate) struct Draw {
    tokens: Vec<u32>,
    windows: Vec<usize>,
    kept: Option<Vec<usize>>,
    next: Vec<u32>,
    weights: Vec<f64>,
    laws: SparseRows<f64>,
}

impl Draw {
    pub fn new() -> Self {
        Self {
            tokens: Vec::new(),
            windows: Vec::new(),
            kept: None,
            next: Vec::new(),
            weights: Vec::new(),
            laws: SparseRows::new(0),
        }
    }

    pub fn batch(&self) -> Batch<'_> {
        Batch {
            input: Input {
                tokens: &self.tokens,
                windows: &self.windows,
            },
            kept: self.kept.as_deref(),
            targets: if self.next.is_empty() {
                Targets::Laws {
                    weights: &self.weights,
                    laws: &self.laws,
                }
            } else {
                Targets::Tokens(&self.next)
            },
        }
    }
}
