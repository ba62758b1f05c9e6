use std::cmp::Reverse;
use std::collections::HashMap;

use lawvere_core::{ContextBatch, LogProbs, NextToken};
use lawvere_metric::PrefixForest;
use lawvere_text::{ContextOptions, DocumentEnd, TextSpace};

use crate::RunError;

/// The most frequent texts of a corpus as a forest of prefixes.
#[derive(Debug, Clone, PartialEq)]
pub struct PrefixTexts {
    /// Token ids of each text; a prefix comes before its extensions.
    pub texts: Vec<Vec<u32>>,
    /// The longest proper prefix of each text.
    pub parents: Vec<Option<usize>>,
    /// Occurrences of each text in the corpus.
    pub counts: Vec<u64>,
}

/// The `size` most frequent texts of 1 to `length` tokens. A prefix is at least as frequent as its
/// extensions and goes first among equals, so the texts are closed under taking prefixes.
///
/// # Errors
/// A corpus without tokens.
pub fn prefix_texts(
    space: &TextSpace,
    length: usize,
    size: usize,
) -> Result<PrefixTexts, RunError> {
    let options = ContextOptions {
        document_end: DocumentEnd::Outcome,
        top: Some(size),
        blocks: None,
    };
    let mut all: Vec<(u64, Vec<u32>)> = Vec::new();
    for order in 1..=length.min(space.longest_document()) {
        let table = space.contexts(order, 1, &options)?;
        all.extend((0..table.len()).map(|i| (table.occurrences[i], table.context(i).to_vec())));
    }
    all.sort_unstable_by(|a, b| {
        (Reverse(a.0), a.1.len(), &a.1).cmp(&(Reverse(b.0), b.1.len(), &b.1))
    });
    all.truncate(size);
    let mut place: HashMap<&[u32], usize> = HashMap::new();
    let mut parents = Vec::with_capacity(all.len());
    for (i, (_, text)) in all.iter().enumerate() {
        parents.push(place.get(&text[..text.len() - 1]).copied());
        place.insert(text, i);
    }
    let (counts, texts) = all.into_iter().unzip();
    Ok(PrefixTexts {
        texts,
        parents,
        counts,
    })
}

impl PrefixTexts {
    /// The forest with the corpus's probabilities, `Pr(b|a) = count(b) / count(a)`.
    ///
    /// # Errors
    /// None for the texts of a corpus.
    pub fn corpus_forest(&self) -> Result<PrefixForest, RunError> {
        let log_prob = |(i, parent): (usize, &Option<usize>)| match parent {
            Some(parent) => (self.counts[i] as f64 / self.counts[*parent] as f64).ln(),
            None => 0.0,
        };
        let log_probs = self.parents.iter().enumerate().map(log_prob).collect();
        Ok(PrefixForest::new(self.parents.clone(), log_probs)?)
    }

    /// The forest with a kernel's next-token probabilities, each text read on its own.
    ///
    /// # Errors
    /// A text that the kernel cannot read.
    pub fn model_forest(&self, kernel: &dyn NextToken) -> Result<PrefixForest, RunError> {
        let mut inner: Vec<usize> = self.parents.iter().flatten().copied().collect();
        inner.sort_unstable();
        inner.dedup();
        let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
        for (i, parent) in self.parents.iter().enumerate() {
            parent
                .iter()
                .for_each(|&p| children.entry(p).or_default().push(i));
        }
        let batch = ContextBatch::of_contexts(inner.iter().map(|&i| self.texts[i].as_slice()));
        let mut log_probs = vec![0.0; self.texts.len()];
        kernel.log_probs(&batch, &mut |first, block| {
            let rows = match &block {
                LogProbs::Dense(m) => m.nrows(),
                LogProbs::Sparse(m) => m.nrows(),
            };
            for row in 0..rows {
                for &child in children.get(&inner[first + row]).into_iter().flatten() {
                    let token = self.texts[child][self.texts[child].len() - 1];
                    log_probs[child] = f64::from(match &block {
                        LogProbs::Dense(m) => m.get(row, token as usize),
                        LogProbs::Sparse(m) => {
                            let (tokens, values) = m.row(row);
                            let found = tokens.binary_search(&token);
                            found.map_or(f32::NEG_INFINITY, |k| values[k])
                        }
                    });
                }
            }
            Ok(())
        })?;
        Ok(PrefixForest::new(self.parents.clone(), log_probs)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lawvere_text::{Corpus, DataKernel, Tokenizer, Unseen};

    #[test]
    fn the_data_kernel_and_the_counts_give_the_same_forest() {
        let documents = ["a b c a b", "a b d", "b c a", "d a b c"];
        let corpus = Corpus::from_documents(documents).unwrap();
        let words = Tokenizer::words(corpus.documents()).unwrap();
        let space = TextSpace::build(&corpus, &words, &mut |_| {}).unwrap();
        let texts = prefix_texts(&space, 3, 12).unwrap();
        assert_eq!(texts.texts.len(), 12);
        for (i, parent) in texts.parents.iter().enumerate() {
            let text = &texts.texts[i];
            match parent {
                Some(p) => assert_eq!(texts.texts[*p], text[..text.len() - 1]),
                None => assert_eq!(text.len(), 1),
            }
        }
        let kernel = DataKernel::new(&space, Unseen::Strict);
        let (counted, read) = (
            texts.corpus_forest().unwrap(),
            texts.model_forest(&kernel).unwrap(),
        );
        for i in 0..12 {
            assert!((counted.edge_distance(i) - read.edge_distance(i)).abs() < 1e-6);
        }
    }
}
