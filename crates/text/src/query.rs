use std::collections::HashMap;
use std::ops::Range;

use rayon::prelude::*;
use serde::Serialize;

use crate::TextSpace;
use crate::lookup::Ranks;
use crate::shard::Shard;

/// What follows a text in the corpus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
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

/// What comes before a text in the corpus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PreviousCounts {
    /// The tokens that come before and how often each does, token ids increasing, counts positive.
    pub counts: Vec<(u32, u64)>,
    /// How often a document begins there.
    pub began: u64,
}

/// Where a text occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The document, from 0.
    pub document: u64,
    /// The token of the document that the text begins at, from 0.
    pub token: u64,
}

/// Texts that are answered together by one thread.
pub(crate) const BATCH: usize = 64;

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
        self.shards.iter().map(|s| s.count(tokens)).sum()
    }

    /// Makes what the first question would make: the first symbols of every 16th suffix, side by side in memory.
    /// O(N), in parallel; once.
    pub fn prepare(&self) {
        self.shards.iter().for_each(Shard::prepare);
    }

    /// [`count`](Self::count) of many texts, in parallel: they are looked for in the order of their first tokens,
    /// and equal ones up to four tokens long once.
    pub fn count_batch<T: AsRef<[u32]> + Sync>(&self, texts: &[T]) -> Vec<u64> {
        let of = |text: &T| match text.as_ref() {
            [] => self.tokens(),
            _ => 0,
        };
        let mut counts: Vec<u64> = texts.iter().map(of).collect();
        for shard in &self.shards {
            let found = shard.intervals(texts);
            for (count, (start, end)) in counts.iter_mut().zip(found) {
                *count += u64::from(end - start);
            }
        }
        counts
    }

    /// Which tokens follow `context` how often, and how often a document ends there; all zero for
    /// a context that does not occur. After the empty context every token and every document end
    /// counts once. O(len log N + occurrences / 32 + outcomes): a byte is looked at for each occurrence, the
    /// text only for each outcome (and the empty context is worked out only once).
    pub fn next_tokens(&self, context: &[u32]) -> NextCounts {
        let outcomes = || self.outcomes(context.len(), self.intervals(context).into_iter());
        match context {
            [] => self.unigrams.get_or_init(outcomes).clone(),
            _ => outcomes(),
        }
    }

    /// [`next_tokens`](Self::next_tokens) of many contexts, in parallel; equal ones are worked out once.
    pub fn next_tokens_batch<T: AsRef<[u32]> + Sync>(&self, contexts: &[T]) -> Vec<NextCounts> {
        let found: Vec<Vec<Ranks>> = self.shards.iter().map(|s| s.intervals(contexts)).collect();
        let (first, same) = first_equal(contexts);
        let laws: Vec<NextCounts> = first
            .par_iter()
            .with_min_len(BATCH)
            .map(|&i| {
                let context = contexts.get(i).map_or(&[][..], AsRef::as_ref);
                if context.is_empty() {
                    return self.next_tokens(context);
                }
                let ranks = found.iter().map(|f| f.get(i).copied().unwrap_or_default());
                let ranks = ranks.map(|(start, end)| start as usize..end as usize);
                self.outcomes(context.len(), ranks)
            })
            .collect();
        let law = |&i: &usize| laws.get(i).cloned().unwrap_or_default();
        same.iter().map(law).collect()
    }

    /// What follows suffixes of the shards that agree in `depth` tokens.
    fn outcomes(&self, depth: usize, ranks: impl Iterator<Item = Range<usize>>) -> NextCounts {
        let mut parts = self.shards.iter().zip(ranks).map(|(shard, ranks)| {
            let (view, mut part) = (shard.view(), NextCounts::default());
            view.for_each_run(
                ranks,
                depth,
                &mut |symbol, run| match view.token_of(symbol) {
                    Some(token) => part.counts.push((token, run.len() as u64)),
                    None => part.ended += run.len() as u64,
                },
            );
            part
        });
        let mut all = parts.next().unwrap_or_default();
        for part in parts {
            all.ended += part.ended;
            all.counts = added(&all.counts, &part.counts);
        }
        all
    }

    /// Which tokens come before `tokens` how often, and how often a document begins there. The empty text
    /// stands before every token and before every document's end.
    ///
    /// O(len log N + occurrences): every occurrence is visited, in parallel.
    pub fn previous_tokens(&self, tokens: &[u32]) -> PreviousCounts {
        let mut all = PreviousCounts::default();
        for shard in &self.shards {
            let view = shard.view();
            let ranks = shard.interval(tokens);
            let positions = view.suffix_array.get(ranks).unwrap_or_default();
            let before = |&p: &u32| p.checked_sub(1).map_or(0, |p| view.symbols.get(p as usize));
            let mut symbols: Vec<u32> = positions.par_iter().map(before).collect();
            symbols.par_sort_unstable();
            let mut part = Vec::new();
            for run in symbols.chunk_by(|a, b| a == b) {
                match view.token_of(run[0]) {
                    Some(token) => part.push((token, run.len() as u64)),
                    None => all.began += run.len() as u64,
                }
            }
            all.counts = added(&all.counts, &part);
        }
        all
    }

    /// Where `tokens` occurs: the first `most` places in the order of the corpus. The empty text stands
    /// nowhere. O(len log N + occurrences).
    pub fn positions(&self, tokens: &[u32], most: usize) -> Vec<Position> {
        let mut out = Vec::new();
        let mut documents_before = 0;
        for shard in &self.shards {
            if out.len() == most || tokens.is_empty() {
                break;
            }
            let view = shard.view();
            let ranks = shard.interval(tokens);
            let mut found = view.suffix_array.get(ranks).unwrap_or_default().to_vec();
            let wanted = most - out.len();
            if wanted < found.len() {
                found.select_nth_unstable(wanted);
                found.truncate(wanted);
            }
            found.par_sort_unstable();
            out.extend(found.into_iter().map(|position| {
                let document = view.document_of(position);
                let start = view.document_starts.get(document).copied().unwrap_or(0);
                Position {
                    document: documents_before + document as u64,
                    token: u64::from(position - start),
                }
            }));
            documents_before += shard.info.documents;
        }
        out
    }

    /// The length of the longest suffix of `context` that occurs in the corpus; 0 if its last
    /// token does not. Such a suffix always has an outcome: a token, or the end of a document.
    /// O(l log l log N) for the length l found.
    pub fn longest_suffix(&self, context: &[u32]) -> usize {
        let occurs = |length: usize| {
            let suffix = &context[context.len() - length..];
            self.shards.iter().any(|s| !s.interval(suffix).is_empty())
        };
        let occurring = |token: &u32| self.shards.iter().any(|s| s.has(*token));
        let all = context.iter().rev().take_while(|t| occurring(t)).count();
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

    /// The suffixes of each shard that begin with `tokens`.
    pub(crate) fn intervals(&self, tokens: &[u32]) -> Vec<Range<usize>> {
        self.shards.iter().map(|s| s.interval(tokens)).collect()
    }
}

/// Where each distinct text stands first, and for every text which of the distinct ones it is.
fn first_equal<T: AsRef<[u32]>>(texts: &[T]) -> (Vec<usize>, Vec<usize>) {
    let mut numbers: HashMap<&[u32], usize, ahash::RandomState> = HashMap::default();
    let mut first = Vec::new();
    let mut number = |(i, text)| {
        *numbers.entry(text).or_insert_with(|| {
            first.push(i);
            first.len() - 1
        })
    };
    let same = texts.iter().map(AsRef::as_ref).enumerate();
    let same = same.map(&mut number).collect();
    (first, same)
}

/// The sum of counts by token, both in the order of the tokens.
fn added(a: &[(u32, u64)], b: &[(u32, u64)]) -> Vec<(u32, u64)> {
    if a.is_empty() || b.is_empty() {
        return [a, b].concat();
    }
    let mut out: Vec<(u32, u64)> = Vec::with_capacity(a.len() + b.len());
    let (mut left, mut right) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let from_left = match (left.peek(), right.peek()) {
            (Some(l), Some(r)) => l.0 <= r.0,
            (left, right) if left.is_none() && right.is_none() => return out,
            (left, _) => left.is_some(),
        };
        let next = if from_left { left.next() } else { right.next() };
        let Some(&(token, count)) = next else {
            return out;
        };
        match out.last_mut() {
            Some(last) if last.0 == token => last.1 += count,
            _ => out.push((token, count)),
        }
    }
}
