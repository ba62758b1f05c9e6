use std::collections::HashMap;

use lawvere_core::{RowMatrix, SparseRows, stoch, sum};
use lawvere_observe::Observation;
use serde::{Deserialize, Serialize};

use crate::{GeometryError, require_contexts};

/// Which tokens are rows of the support matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vocabulary {
    /// Those that follow some context.
    #[default]
    Occurring,
    /// All that the model or tokenizer knows; those that follow no context have rows of zeros.
    Full,
}

/// Which token follows which context: the support matrix S, one row a context.
#[derive(Debug, Clone, PartialEq)]
pub struct Supports {
    /// The tokens that follow some context, increasing: row v of S belongs to `tokens[v]`.
    pub tokens: Vec<u32>,
    /// The transposed support matrix: contexts x tokens, ones.
    pub rows: SparseRows<f64>,
    /// The class of each context; contexts with equal supports share one.
    pub class: Vec<usize>,
    /// The number of classes.
    pub classes: usize,
}

/// The size and sparsity of a corpus's next-token pattern.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SupportSummary {
    /// m: distinct contexts.
    pub contexts: usize,
    /// n: occurrences.
    pub samples: u64,
    /// V: tokens that follow some context.
    pub vocabulary: usize,
    /// H: empirical conditional entropy, nats.
    pub entropy: f64,
    /// Its standard error (bootstrap over document blocks); the plug-in bias is not in it.
    pub entropy_error: Option<f64>,
    /// Ones in the support matrix.
    pub entries: usize,
    /// Mean size of a support.
    pub mean_support: f64,
    /// Median size of a support.
    pub median_support: usize,
    /// Largest size of a support.
    pub largest_support: usize,
    /// Contexts followed by one token only.
    pub deterministic: usize,
    /// Contexts followed by every token.
    pub full: usize,
    /// Distinct supports.
    pub classes: usize,
    /// Contexts whose support another context shares.
    pub sharing: usize,
    /// How many contexts have a support of each size, sizes increasing.
    pub sizes: Vec<(usize, usize)>,
}

/// A corner of the support matrix for the eye.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Heatmap {
    /// Tokens (rows), the most widely supported first.
    pub tokens: Vec<u32>,
    /// Contexts (columns), grouped by support.
    pub contexts: Vec<usize>,
    /// `log10` of the next-token probability, row after row; `None` off the support.
    pub log10_probs: Vec<Vec<Option<f64>>>,
}

impl Supports {
    /// The support matrix of an Observation of kind *contexts*. O(entries).
    ///
    /// Supports of a finite corpus are *observed* supports: they grow with the corpus.
    ///
    /// # Errors
    /// An Observation of positions; a context without a next token.
    pub fn new(observation: &Observation) -> Result<Self, GeometryError> {
        Self::over(observation, Vocabulary::Occurring)
    }

    /// As [`new`](Self::new), with a choice of the rows of S.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn over(observation: &Observation, vocabulary: Vocabulary) -> Result<Self, GeometryError> {
        require_contexts(observation)?;
        let counts = &observation.counts;
        let mut tokens: Vec<u32> = counts.indices().to_vec();
        if vocabulary == Vocabulary::Full {
            tokens.extend(0..observation.info.vocab_size as u32);
        }
        tokens.sort_unstable();
        tokens.dedup();
        let mut column = vec![0u32; counts.ncols()];
        for (v, &token) in tokens.iter().enumerate() {
            column[token as usize] = v as u32;
        }
        let mut rows = SparseRows::new(tokens.len());
        for (support, _) in counts.rows() {
            // Columns keep the tokens' order, so they increase as the tokens do.
            let pushed = rows.push_row(support.iter().map(|&t| (column[t as usize], 1.0)));
            debug_assert!(pushed.is_ok());
        }
        Self::grouped(tokens, rows)
    }

    /// The support matrix with these rows, contexts x tokens (the transpose of the papers' S); token
    /// v is row v of S. O(entries).
    ///
    /// # Errors
    /// No contexts or no tokens, an entry other than 1, a context without a next token.
    pub fn from_rows(rows: SparseRows<f64>) -> Result<Self, GeometryError> {
        for (context, (support, values)) in rows.rows().enumerate() {
            if let Some(k) = values.iter().position(|&x| x != 1.0) {
                return Err(GeometryError::NotBinary {
                    token: support[k] as usize,
                    context,
                    value: values[k],
                });
            }
        }
        Self::grouped((0..rows.ncols() as u32).collect(), rows)
    }

    /// The support matrix of a dense S of zeros and ones, V x m. O(V m).
    ///
    /// # Errors
    /// As [`from_rows`](Self::from_rows).
    pub fn from_dense(matrix: &RowMatrix<f64>) -> Result<Self, GeometryError> {
        let (tokens, contexts) = (matrix.nrows(), matrix.ncols());
        let mut rows = SparseRows::new(tokens);
        for context in 0..contexts {
            let entries = (0..tokens).map(|v| (v as u32, matrix.get(v, context)));
            // NaN is kept, and refused with the other values that are not 0 or 1.
            let pushed = rows.push_row(entries.filter(|(_, x)| *x != 0.0));
            debug_assert!(pushed.is_ok());
        }
        Self::from_rows(rows)
    }

    fn grouped(tokens: Vec<u32>, rows: SparseRows<f64>) -> Result<Self, GeometryError> {
        if rows.nrows() == 0 || rows.ncols() == 0 {
            return Err(GeometryError::Empty {
                tokens: rows.ncols(),
                contexts: rows.nrows(),
            });
        }
        if let Some(context) = rows.rows().position(|(support, _)| support.is_empty()) {
            return Err(GeometryError::EmptySupport { context });
        }
        let mut seen: HashMap<&[u32], usize> = HashMap::new();
        let mut class = Vec::with_capacity(rows.nrows());
        for (support, _) in rows.rows() {
            let next = seen.len();
            class.push(*seen.entry(support).or_insert(next));
        }
        let classes = seen.len();
        Ok(Self {
            tokens,
            rows,
            class,
            classes,
        })
    }

    /// m: the number of contexts.
    pub fn contexts(&self) -> usize {
        self.rows.nrows()
    }

    /// V: the number of tokens.
    pub fn vocabulary(&self) -> usize {
        self.tokens.len()
    }

    /// How many contexts each token follows.
    pub fn token_widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.vocabulary()];
        let entries = self.rows.indices().iter();
        entries.for_each(|&v| widths[v as usize] += 1);
        widths
    }

    /// Whether token `v` may follow `context`.
    pub fn allows(&self, v: usize, context: usize) -> bool {
        self.rows.row(context).0.binary_search(&(v as u32)).is_ok()
    }

    /// The mean probability, under an Observation's laws, of a next token outside these supports: with
    /// the supports of a corpus and exact laws ([`Observation::with_laws`]) on the same contexts, what
    /// the corpus never showed.
    ///
    /// *Source:* the missing mass of Good, *The population frequencies of species* (1953).
    pub fn missing_mass(&self, exact: &Observation) -> f64 {
        let laws = exact.laws();
        sum((0..laws.nrows().min(self.rows.nrows())).map(|row| {
            let (seen, _) = self.rows.row(row);
            let (tokens, law) = laws.row(row);
            let outside = tokens.iter().zip(law).filter(|(token, _)| {
                let column = self.tokens.binary_search(token);
                column.map_or(true, |v| seen.binary_search(&(v as u32)).is_err())
            });
            exact.weights[row] * sum(outside.map(|(_, &p)| p))
        }))
    }

    /// The number of contexts of each class.
    pub fn class_sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.classes];
        self.class.iter().for_each(|&c| sizes[c] += 1);
        sizes
    }

    /// m, n, V, H and the sizes of supports.
    pub fn summary(&self, observation: &Observation, seed: u64) -> SupportSummary {
        let mut sizes: Vec<usize> = self.rows.rows().map(|(s, _)| s.len()).collect();
        sizes.sort_unstable();
        let m = sizes.len();
        let mut histogram: Vec<(usize, usize)> = Vec::new();
        for &size in &sizes {
            match histogram.last_mut() {
                Some((last, count)) if *last == size => *count += 1,
                _ => histogram.push((size, 1)),
            }
        }
        let laws = observation.laws();
        let entropy = sum(laws
            .rows()
            .zip(&observation.weights)
            .map(|((_, law), weight)| weight * stoch::entropy(law.iter().copied())));
        let errors = observation.standard_errors(seed, |replicate| {
            Some(vec![conditional_entropy(
                &observation.counts,
                &replicate.counts,
            )])
        });
        let class_sizes = self.class_sizes();
        SupportSummary {
            contexts: m,
            samples: observation.samples(),
            vocabulary: self.tokens.len(),
            entropy,
            entropy_error: errors.map(|e| e[0]),
            entries: self.rows.nnz(),
            mean_support: self.rows.nnz() as f64 / m as f64,
            median_support: sizes[m / 2],
            largest_support: sizes[m - 1],
            deterministic: sizes.iter().filter(|&&s| s == 1).count(),
            full: sizes.iter().filter(|&&s| s == self.tokens.len()).count(),
            classes: self.classes,
            sharing: class_sizes.iter().filter(|&&s| s > 1).sum(),
            sizes: histogram,
        }
    }

    /// The part of S with the `tokens` most widely supported tokens and the `contexts` heaviest
    /// contexts, contexts ordered so that like supports stand together.
    pub fn heatmap(&self, observation: &Observation, tokens: usize, contexts: usize) -> Heatmap {
        let mut width = vec![0usize; self.tokens.len()];
        self.rows
            .indices()
            .iter()
            .for_each(|&v| width[v as usize] += 1);
        let mut by_width: Vec<usize> = (0..width.len()).collect();
        by_width.sort_by_key(|&v| (std::cmp::Reverse(width[v]), v));
        by_width.truncate(tokens);
        let mut place = vec![usize::MAX; width.len()];
        by_width
            .iter()
            .enumerate()
            .for_each(|(place_of, &v)| place[v] = place_of);

        let mut chosen: Vec<usize> = (0..self.rows.nrows()).collect();
        chosen.sort_by(|&i, &j| {
            observation.weights[j]
                .total_cmp(&observation.weights[i])
                .then(i.cmp(&j))
        });
        chosen.truncate(contexts);
        let pattern = |context: usize| {
            let mut places: Vec<usize> = self
                .rows
                .row(context)
                .0
                .iter()
                .map(|&v| place[v as usize])
                .collect();
            places.sort_unstable();
            places
        };
        chosen.sort_by_cached_key(|&context| (pattern(context), context));

        let laws = observation.laws();
        let mut log10_probs = vec![vec![None; chosen.len()]; by_width.len()];
        for (column, &context) in chosen.iter().enumerate() {
            let (support, _) = self.rows.row(context);
            for (&v, &p) in support.iter().zip(laws.row(context).1) {
                if let Some(row) = log10_probs.get_mut(place[v as usize]) {
                    row[column] = Some(p.log10());
                }
            }
        }
        let tokens = by_width.iter().map(|&v| self.tokens[v]).collect();
        Heatmap {
            tokens,
            contexts: chosen,
            log10_probs,
        }
    }
}

/// `sum_j n_j/n H(p_j)` of counts with the pattern of `counts` and other values.
fn conditional_entropy(counts: &SparseRows<u64>, values: &[u64]) -> f64 {
    let total = values.iter().sum::<u64>() as f64;
    sum((0..counts.nrows()).map(|row| {
        let row = &values[counts.range(row)];
        let n = row.iter().sum::<u64>() as f64;
        n / total * stoch::entropy(row.iter().map(|&c| c as f64 / n.max(1.0)))
    }))
}
