use lawvere_core::{ContextBatch, KernelError, LogProbs, NextToken, SparseRows};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::TextSpace;
use crate::query::{BATCH, NextCounts};

/// What k_data says of a context that does not occur in the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unseen {
    /// Nothing: it is an error that names the context.
    #[default]
    Strict,
    /// The law of its longest suffix that occurs (an infinity-gram).
    BackOff,
}

/// The kernel of the data, k_data: the relative frequencies of what follows a context in the
/// corpus. The end of a document is an outcome, with the tokenizer's number of tokens as index.
///
/// *Source:* back-off as in Liu, Min, Zettlemoyer, Choi, Hajishirzi, *Infini-gram* (arXiv
/// 2401.17377), section 2.
#[derive(Debug, Clone, Copy)]
pub struct DataKernel<'a> {
    /// The index of the corpus.
    pub space: &'a TextSpace,
    /// What is said of contexts that do not occur.
    pub unseen: Unseen,
}

/// What follows a context, and how much of the context that rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Law {
    /// The counts of the outcomes.
    pub next: NextCounts,
    /// The number of the context's last tokens that were used: all of them in strict mode.
    pub used_length: usize,
}

/// Rows of log-probabilities that are handed out at once.
const BLOCK_ROWS: usize = 1024;

impl<'a> DataKernel<'a> {
    /// The kernel of an indexed corpus.
    pub fn new(space: &'a TextSpace, unseen: Unseen) -> Self {
        Self { space, unseen }
    }

    /// The law after `context`, as counts, with the length used. O(len log N + outcomes log N),
    /// times log len for a context that is backed off from.
    ///
    /// # Errors
    /// A token outside the vocabulary; in strict mode a context that does not occur.
    pub fn law(&self, context: &[u32]) -> Result<Law, KernelError> {
        self.check(0, context)?;
        self.law_of(context)
    }

    /// [`law`](Self::law) of many contexts, in parallel.
    ///
    /// # Errors
    /// As [`law`](Self::law), of the first context there is one of.
    pub fn law_batch<T: AsRef<[u32]> + Sync>(
        &self,
        contexts: &[T],
    ) -> Result<Vec<Law>, KernelError> {
        for (i, context) in contexts.iter().enumerate() {
            self.check(i, context.as_ref())?;
        }
        let found = self.space.next_tokens_batch(contexts);
        let laws = found.into_par_iter().zip(contexts).with_min_len(BATCH);
        let laws = laws.map(|(next, context)| self.law_with(context.as_ref(), next));
        // Collected before the first error is looked for, so that it is always the same one.
        let laws: Vec<Result<Law, KernelError>> = laws.collect();
        laws.into_iter().collect()
    }

    fn check(&self, window: usize, tokens: &[u32]) -> Result<(), KernelError> {
        let vocab_size = self.space.vocab_size();
        match tokens.iter().find(|&&t| t as usize >= vocab_size) {
            Some(&token) => Err(KernelError::TokenOutOfRange {
                window,
                token,
                vocab_size,
            }),
            None => Ok(()),
        }
    }

    fn law_of(&self, context: &[u32]) -> Result<Law, KernelError> {
        self.law_with(context, self.space.next_tokens(context))
    }

    /// The law by what follows the whole context.
    fn law_with(&self, context: &[u32], next: NextCounts) -> Result<Law, KernelError> {
        if next.total() > 0 {
            return Ok(Law {
                next,
                used_length: context.len(),
            });
        }
        match self.unseen {
            Unseen::Strict => Err(KernelError::UnseenContext {
                context: self.space.shown(context),
            }),
            Unseen::BackOff => {
                let used_length = self.space.longest_suffix(context);
                let suffix = &context[context.len() - used_length..];
                Ok(Law {
                    next: self.space.next_tokens(suffix),
                    used_length,
                })
            }
        }
    }

    fn log_row(&self, context: &[u32]) -> Result<Vec<(u32, f32)>, KernelError> {
        let next = self.law_of(context)?.next;
        let total = (next.total() as f64).ln();
        let end = (self.space.vocab_size() as u32, next.ended);
        let outcomes = next.counts.into_iter().chain((end.1 > 0).then_some(end));
        Ok(outcomes
            .map(|(token, count)| (token, ((count as f64).ln() - total) as f32))
            .collect())
    }
}

impl NextToken for DataKernel<'_> {
    /// The tokens and the end of a document.
    fn vocab_size(&self) -> usize {
        self.space.vocab_size() + 1
    }

    /// Sparse rows, 1024 at a time; a position reads the whole window before it.
    fn log_probs(
        &self,
        contexts: &ContextBatch,
        visit: &mut dyn FnMut(usize, LogProbs) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        for (i, window) in contexts.windows().enumerate() {
            self.check(i, window.tokens)?;
        }
        let positions = contexts.windows().flat_map(|window| {
            window
                .positions
                .iter()
                .map(move |&p| &window.tokens[..p as usize])
        });
        let mut positions = positions.peekable();
        let mut first_row = 0;
        while positions.peek().is_some() {
            let block: Vec<&[u32]> = positions.by_ref().take(BLOCK_ROWS).collect();
            // Collected before the first error is looked for, so that it is always the same one.
            let laws: Vec<_> = block
                .par_iter()
                .map(|context| self.log_row(context))
                .collect();
            let mut rows = SparseRows::new(self.vocab_size());
            for law in laws {
                rows.push_row(law?)
                    .map_err(|e| KernelError::Other(Box::new(e)))?;
            }
            visit(first_row, LogProbs::Sparse(rows))?;
            first_row += block.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Corpus, Tokenizer};

    fn space() -> TextSpace {
        let documents = ["the cat sat", "the cat ran", "a dog sat", "the cat"];
        let words = Tokenizer::words(documents.into_iter()).unwrap();
        TextSpace::build(
            &Corpus::from_documents(documents).unwrap(),
            &words,
            &mut |_| {},
        )
        .unwrap()
    }

    fn rows(kernel: &DataKernel<'_>, batch: &ContextBatch) -> Result<SparseRows<f32>, KernelError> {
        let mut all = SparseRows::new(kernel.vocab_size());
        kernel.log_probs(batch, &mut |first, block| {
            assert_eq!(first, all.nrows());
            let LogProbs::Sparse(block) = block else {
                panic!("dense")
            };
            for (indices, values) in block.rows() {
                all.push_row(indices.iter().copied().zip(values.iter().copied()))
                    .unwrap();
            }
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn a_document_end_is_the_outcome_after_the_last_token() {
        let space = space();
        let kernel = DataKernel::new(&space, Unseen::Strict);
        let context = space.tokenizer().encode("the cat").unwrap();
        let law = rows(&kernel, &ContextBatch::of_contexts([&context[..]])).unwrap();
        let (outcomes, logs) = law.row(0);
        assert_eq!(outcomes.last(), Some(&(space.vocab_size() as u32)));
        assert!(logs.iter().all(|l| (l + 3f32.ln()).abs() < 1e-6));
        assert_eq!(kernel.vocab_size(), space.vocab_size() + 1);
    }

    #[test]
    fn many_rows_come_in_blocks_and_are_normalised() {
        let space = space();
        let kernel = DataKernel::new(&space, Unseen::BackOff);
        let text = space.tokenizer().encode("dog dog the cat sat a").unwrap();
        let mut batch = ContextBatch::new();
        for _ in 0..500 {
            batch.push(&text, &[0, 1, 2, 3, 4, 5, 6]).unwrap();
        }
        let rows = rows(&kernel, &batch).unwrap();
        assert_eq!(rows.nrows(), 3500);
        for (_, logs) in rows.rows() {
            let total: f64 = logs.iter().map(|&l| f64::from(l).exp()).sum();
            assert!((total - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn an_unseen_context_is_an_error_that_names_it_or_is_backed_off_from() {
        let space = space();
        let context = space.tokenizer().encode("dog the cat").unwrap();
        let strict = DataKernel::new(&space, Unseen::Strict);
        let error = strict.law(&context).unwrap_err();
        assert!(matches!(error, KernelError::UnseenContext { .. }));
        let message = error.to_string();
        assert!(message.contains("dog the cat") && message.contains(&format!("{context:?}")));
        let law = DataKernel::new(&space, Unseen::BackOff)
            .law(&context)
            .unwrap();
        assert_eq!((law.used_length, law.next.ended), (2, 1));
        assert_eq!(law.next, strict.law(&context[1..]).unwrap().next);
    }

    #[test]
    fn a_token_outside_the_vocabulary_is_refused_with_its_window() {
        let space = space();
        let outside = space.vocab_size() as u32;
        let batch = ContextBatch::of_contexts([&[0][..], &[0, outside]]);
        for unseen in [Unseen::Strict, Unseen::BackOff] {
            let error = rows(&DataKernel::new(&space, unseen), &batch).unwrap_err();
            assert!(matches!(
                error,
                KernelError::TokenOutOfRange { window: 1, .. }
            ));
        }
    }
}
