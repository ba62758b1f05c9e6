//! The contexts of an experiment, with their names.

use std::cmp::Reverse;

use lawvere_core::SparseRows;
use lawvere_geometry::{Concept, ContextLaws, spectrum};
use lawvere_lm::train::SoftLabels;
use lawvere_report::PatternFacts;
use lawvere_token::{Tokenizer, sha256_hex};

use super::ExperimentOptions;
use super::watch::laws_of;
use crate::train::{Labels, Material};
use crate::{Event, RunError};

/// Contexts with soft labels, chosen for an experiment.
pub(crate) struct Contexts {
    pub source: String,
    pub choice: String,
    pub labels: SoftLabels,
    pub laws: ContextLaws,
    samples: u64,
    tokenizer: Tokenizer,
}

impl Contexts {
    pub fn read(
        options: &ExperimentOptions,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Self, RunError> {
        let mut plan = options.plan.clone();
        // The most frequent of those with a wide enough support are wanted, so all are looked at.
        if options.min_support > 1 {
            plan.top = None;
        }
        let labels = Labels::Contexts { plan, batch: None };
        let material = Material::read(&options.source, &labels, options.seed, on_event)?;
        let (labels, counts) = material.soft_labels()?;
        let kept: Vec<usize> = (0..labels.laws.nrows())
            .filter(|&j| labels.laws.row(j).0.len() >= options.min_support)
            .take(options.plan.top.unwrap_or(usize::MAX))
            .collect();
        if kept.is_empty() {
            return Err(RunError::Usage(format!(
                "no context of order {} with at least {} occurrences is followed by {} different tokens: take a smaller --min-support or --min-count, or more text",
                options.plan.order, options.plan.min_count, options.min_support
            )));
        }
        let choice = match options.min_support {
            0 | 1 => material.choice(),
            wide => format!(
                "the {} most frequent contexts of order {} that at least {wide} different tokens follow, of {} with at least {} occurrences",
                kept.len(),
                options.plan.order,
                labels.laws.nrows(),
                options.plan.min_count
            ),
        };
        let samples = |&j: &usize| -> u64 { counts.row(j).1.iter().sum() };
        let samples = kept.iter().map(samples).sum();
        let labels = select(&labels, &kept);
        Ok(Self {
            source: material.name.clone(),
            choice,
            laws: laws_of(&labels)?,
            labels,
            samples,
            tokenizer: material.tokenizer.clone(),
        })
    }

    pub fn identity(&self) -> String {
        let mut bytes = Vec::new();
        let words = self.labels.tokens.iter().chain(self.labels.laws.indices());
        words.for_each(|w| bytes.extend(w.to_le_bytes()));
        let numbers = self.labels.weights.iter().chain(self.labels.laws.values());
        numbers.for_each(|x| bytes.extend(x.to_le_bytes()));
        sha256_hex(&bytes)
    }

    fn label(&self, token: u32) -> String {
        match self.tokenizer.decode(&[token]) {
            Ok(text) if (token as usize) < self.tokenizer.vocab_size() => text.trim().to_owned(),
            _ => "⟨end⟩".into(),
        }
    }

    pub fn token_labels(&self) -> Vec<String> {
        let all = 0..self.laws.supports.vocabulary() as u32;
        all.map(|token| self.label(token)).collect()
    }

    pub fn context_labels(&self) -> Vec<String> {
        let contexts = self.labels.tokens.chunks(self.labels.order.max(1));
        let label = |tokens: &[u32]| tokens.iter().map(|&t| self.label(t)).collect::<Vec<_>>();
        contexts.map(|tokens| label(tokens).join(" ")).collect()
    }

    pub fn facts(&self) -> PatternFacts {
        let supports = &self.laws.supports;
        let widths = self.laws.supports.token_widths();
        let entries = supports.rows.nnz();
        PatternFacts {
            contexts: supports.contexts(),
            samples: self.samples,
            vocabulary: supports.vocabulary(),
            occurring: widths.iter().filter(|&&w| w > 0).count(),
            entropy: self.laws.entropy(),
            entries,
            mean_support: entries as f64 / supports.contexts() as f64,
            classes: supports.classes,
            sharing: supports.class_sizes().iter().filter(|&&s| s > 1).sum(),
        }
    }

    /// How many contexts each token follows.
    /// Tokens that follow some context, the most widely supported first.
    pub fn token_order(&self) -> Vec<usize> {
        let widths = self.laws.supports.token_widths();
        let mut order: Vec<usize> = (0..widths.len()).filter(|&v| widths[v] > 0).collect();
        order.sort_by_key(|&v| (Reverse(widths[v]), v));
        order
    }

    /// Contexts sorted by their supports, written with the most widely supported tokens first.
    pub fn context_order(&self) -> Vec<usize> {
        let mut place = vec![0; self.laws.supports.vocabulary()];
        for (at, v) in self.token_order().into_iter().enumerate() {
            place[v] = at;
        }
        let pattern = |j: usize| {
            let support = self.laws.supports.rows.row(j).0;
            let mut places: Vec<usize> = support.iter().map(|&v| place[v as usize]).collect();
            places.sort_unstable();
            places
        };
        let mut order: Vec<usize> = (0..self.laws.supports.contexts()).collect();
        order.sort_by_cached_key(|&j| (pattern(j), j));
        order
    }

    pub fn concepts(&self, count: usize, seed: u64) -> Result<Vec<Concept>, RunError> {
        Ok(spectrum(&self.laws.supports, count, count, seed)?.concepts)
    }
}

fn select(labels: &SoftLabels, kept: &[usize]) -> SoftLabels {
    let mut laws = SparseRows::new(labels.laws.ncols());
    let mut tokens = Vec::with_capacity(kept.len() * labels.order);
    for &j in kept {
        let (next, law) = labels.laws.row(j);
        let pushed = laws.push_row(next.iter().copied().zip(law.iter().copied()));
        debug_assert!(pushed.is_ok());
        tokens.extend(&labels.tokens[j * labels.order..(j + 1) * labels.order]);
    }
    let total: f64 = kept.iter().map(|&j| labels.weights[j]).sum();
    SoftLabels {
        order: labels.order,
        tokens,
        weights: kept.iter().map(|&j| labels.weights[j] / total).collect(),
        laws,
    }
}
