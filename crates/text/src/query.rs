use std::ops::Range;

use crate::TextSpace;

/// What follows a text in the corpus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NextCounts {
    /// The tokens that follow and how often each does, token ids increasing, counts positive.
    pub counts: Vec<(u32, u64)>,
    /// How often a document ends there.
    pub ended: u64,
}

impl NextCounts {
    /// The number of occurrences, those at a document's end included.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum::<u64>() + self.ended
    }
}

impl TextSpace {
    /// How often `tokens` occurs in the corpus: overlapping occurrences, none of them across the
    /// end of a document. The empty text counts the tokens; a token that does not occur, or is
    /// outside the vocabulary, makes the count 0. O(len log N).
    ///
    /// ```
    /// # use lawvere_text::{Corpus, TextSpace, Tokenizer};
    /// let documents = ["a a a", "a"];
    /// # let words = Tokenizer::words(documents.into_iter()).unwrap();
    /// # let corpus = Corpus::from_documents(documents).unwrap();
    /// # let space = TextSpace::build(&corpus, &words, &mut |_| {}).unwrap();
    /// let a = words.encode("a").unwrap();
    /// assert_eq!(space.count(&a), 4);
    /// assert_eq!(space.count(&[a[0], a[0]]), 2);
    /// assert_eq!(space.count(&[]), 4);
    /// ```
    pub fn count(&self, tokens: &[u32]) -> u64 {
        self.range(tokens).len() as u64
    }

    /// The ranks, in the suffix array, of the suffixes that begin with `tokens`: one for each
    /// occurrence. A longer text's range lies within those of its prefixes. O(len log N).
    pub fn range(&self, tokens: &[u32]) -> Range<usize> {
        if tokens.is_empty() {
            // Suffixes that begin with a document's end come first.
            return self.documents().min(self.view().len())..self.view().len();
        }
        self.symbols_of(tokens)
            .map_or(0..0, |symbols| self.view().interval(&symbols))
    }

    /// Which tokens follow `context` how often, and how often a document ends there; all zero for
    /// a context that does not occur. After the empty context every token and every document end
    /// counts once. O(len log N + outcomes log N): the suffixes themselves are not visited
    /// (and the empty context is worked out only once).
    pub fn next_tokens(&self, context: &[u32]) -> NextCounts {
        if context.is_empty() {
            return self.unigrams.get_or_init(|| self.outcomes(&[])).clone();
        }
        self.symbols_of(context)
            .map_or_else(NextCounts::default, |s| self.outcomes(&s))
    }

    fn outcomes(&self, context: &[u32]) -> NextCounts {
        let mut out = NextCounts::default();
        let view = self.view();
        let Range { start, end } = view.interval(context);
        let mut child = start;
        while child < end {
            let next = view.run_end(child, end, context.len());
            let count = (next - child) as u64;
            match view.token_of(view.symbol_at(child, context.len())) {
                Some(token) => out.counts.push((token, count)),
                None => out.ended += count,
            }
            child = next;
        }
        out
    }

    /// The length of the longest suffix of `context` that occurs in the corpus; 0 if its last
    /// token does not. Such a suffix always has an outcome: a token, or the end of a document.
    /// O(l log l log N) for the length l found.
    pub fn longest_suffix(&self, context: &[u32]) -> usize {
        let view = self.view();
        let known = context.iter().rev().map_while(|&t| view.symbol_of(t));
        let mut symbols: Vec<u32> = known.collect();
        symbols.reverse();
        let all = symbols.len();
        let occurs = |length: usize| !view.interval(&symbols[all - length..]).is_empty();
        // Occurring is inherited by shorter suffixes, so the lengths are sorted.
        let (mut found, mut step) = (0, 1);
        while found + step <= all && occurs(found + step) {
            found += step;
            step *= 2;
        }
        let mut beyond = (found + step).min(all + 1);
        while found + 1 < beyond {
            let middle = found + (beyond - found) / 2;
            if occurs(middle) {
                found = middle;
            } else {
                beyond = middle;
            }
        }
        found
    }

    /// The symbols of `tokens`; `None` if one of them does not occur.
    fn symbols_of(&self, tokens: &[u32]) -> Option<Vec<u32>> {
        let view = self.view();
        tokens.iter().map(|&t| view.symbol_of(t)).collect()
    }
}
