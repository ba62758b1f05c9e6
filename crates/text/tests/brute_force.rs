//! Every answer of the index against counting by hand, on small random corpora.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use lawvere_text::{
    ContextOptions, Corpus, DataKernel, DocumentEnd, TextError, TextSpace, Tokenizer, Unseen,
};
use proptest::prelude::*;

const WORDS: [&str; 3] = ["x", "y", "z"];

/// For each outcome the documents it occurs in, one entry an occurrence.
type Outcomes<T> = BTreeMap<T, Vec<usize>>;

struct Example {
    space: TextSpace,
    /// The documents' tokens; `None` is the end.
    documents: Vec<Vec<Option<u32>>>,
}

fn example(documents: &[Vec<usize>]) -> Example {
    let texts: Vec<String> = documents
        .iter()
        .map(|d| d.iter().map(|&w| WORDS[w]).collect::<Vec<_>>().join(" "))
        .collect();
    let corpus = Corpus::from_documents(&texts).unwrap();
    let words = Tokenizer::words(corpus.documents()).unwrap();
    let ends = |text| {
        words
            .encode(text)
            .unwrap()
            .into_iter()
            .map(Some)
            .chain([None])
            .collect()
    };
    let documents = corpus.documents().map(ends).collect();
    Example {
        space: TextSpace::build(&corpus, &words, &mut |_| {}).unwrap(),
        documents,
    }
}

impl Example {
    fn tokens(&self, i: usize) -> Vec<u32> {
        self.documents[i].iter().flatten().copied().collect()
    }

    /// The contexts of this order and what follows them; `None` is the end.
    fn contexts(&self, order: usize) -> BTreeMap<Vec<u32>, Outcomes<Option<u32>>> {
        let mut out: BTreeMap<_, Outcomes<_>> = BTreeMap::new();
        for (i, document) in self.documents.iter().enumerate() {
            for window in document.windows(order + 1) {
                let context: Vec<u32> = window[..order].iter().map(|t| t.unwrap()).collect();
                out.entry(context)
                    .or_default()
                    .entry(window[order])
                    .or_default()
                    .push(i);
            }
        }
        out
    }

    fn count(&self, text: &[u32]) -> u64 {
        let here = |i| {
            let tokens = self.tokens(i);
            match text.len() {
                0 => tokens.len(),
                n => tokens.windows(n).filter(|w| *w == text).count(),
            }
        };
        (0..self.documents.len()).map(|i| here(i) as u64).sum()
    }
}

fn documents() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let document = proptest::collection::vec(0..WORDS.len(), 0..9);
    proptest::collection::vec(document, 1..9)
        .prop_filter("some text", |d| d.iter().any(|d| !d.is_empty()))
}

proptest! {
    #[test]
    fn counts_and_next_tokens_are_those_of_counting_by_hand(
        documents in documents(),
        text in proptest::collection::vec(0u32..5, 0..5),
    ) {
        let example = example(&documents);
        let space = &example.space;
        prop_assert_eq!(space.count(&text), example.count(&text));
        let next = space.next_tokens(&text);
        let by_hand = example.contexts(text.len()).remove(&text).unwrap_or_default();
        let length = |of: &Option<u32>| by_hand.get(of).map_or(0, |d| d.len() as u64);
        prop_assert_eq!(next.ended, length(&None));
        let counts: Vec<(u32, u64)> =
            by_hand.keys().filter_map(|t| t.map(|t| (t, length(&Some(t))))).collect();
        prop_assert_eq!(&next.counts, &counts);
        let longest = (0..=text.len()).rev()
            .find(|n| example.count(&text[text.len() - n..]) > 0).unwrap();
        prop_assert_eq!(space.longest_suffix(&text), longest);
        if text.iter().all(|&t| (t as usize) < space.vocab_size()) {
            let law = DataKernel::new(space, Unseen::BackOff).law(&text).unwrap();
            prop_assert_eq!(law.used_length, longest);
            let strict = DataKernel::new(space, Unseen::Strict).law(&text);
            prop_assert_eq!(strict.is_ok(), longest == text.len());
        }
        for i in 0..space.documents() {
            prop_assert_eq!(space.document_tokens(i), Some(example.tokens(i)));
        }
        prop_assert_eq!(space.document_tokens(space.documents()), None);
    }

    #[test]
    fn tables_of_contexts_are_those_of_counting_by_hand(
        documents in documents(),
        order in 0usize..5,
        min_count in 0u64..4,
        drop in any::<bool>(),
        top in proptest::option::of(1usize..6),
        blocks in proptest::option::of(1u16..5),
    ) {
        let example = example(&documents);
        let document_end = if drop { DocumentEnd::Dropped } else { DocumentEnd::Outcome };
        let options = ContextOptions { document_end, top, blocks };
        let mut by_hand: Vec<(u64, Vec<u32>, u64, Outcomes<u32>)> = Vec::new();
        let mut ends = 0;
        for (context, mut outcomes) in example.contexts(order) {
            let ended = outcomes.get(&None).map_or(0, |d| d.len() as u64);
            ends += ended;
            if drop {
                outcomes.remove(&None);
            }
            let end = example.space.vocab_size() as u32;
            let outcomes: Outcomes<u32> =
                outcomes.into_iter().map(|(t, d)| (t.unwrap_or(end), d)).collect();
            let count: u64 = outcomes.values().map(|d| d.len() as u64).sum();
            if count >= min_count.max(1) {
                by_hand.push((count, context, ended, outcomes));
            }
        }
        by_hand.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let total = by_hand.len();
        by_hand.truncate(top.unwrap_or(usize::MAX));
        let table = match example.space.contexts(order, min_count, &options) {
            Ok(table) => table,
            Err(TextError::NoContexts { order: o, .. }) => {
                prop_assert!(by_hand.is_empty() && o == order);
                return Ok(());
            }
            Err(e) => return Err(TestCaseError::fail(e.to_string())),
        };
        prop_assert_eq!(table.total_contexts, total);
        prop_assert_eq!(table.len(), by_hand.len());
        prop_assert_eq!(table.dropped_ends, if drop { ends } else { 0 });
        prop_assert!((table.weights().iter().sum::<f64>() - 1.0).abs() < 1e-12);
        prop_assert_eq!(table.blocks.is_some(), blocks.is_some());
        for (i, (count, context, ended, outcomes)) in by_hand.iter().enumerate() {
            prop_assert_eq!(table.context(i), &context[..]);
            prop_assert_eq!((table.occurrences[i], table.ended[i]), (*count, *ended));
            let (indices, values) = table.counts.row(i);
            prop_assert!(indices.iter().eq(outcomes.keys()));
            prop_assert!(values.iter().copied().eq(outcomes.values().map(|d| d.len() as u64)));
            let Some(blocks) = &table.blocks else { continue };
            for (k, documents) in table.counts.range(i).zip(outcomes.values()) {
                let mut by_block: BTreeMap<u16, u32> = BTreeMap::new();
                for d in documents {
                    let block = blocks.document_bounds.partition_point(|b| b <= d) - 1;
                    *by_block.entry(block as u16).or_default() += 1;
                }
                let (ids, counts) = blocks.entry(k);
                prop_assert!(ids.iter().zip(counts).eq(by_block.iter()));
                prop_assert_eq!(counts.iter().map(|&c| u64::from(c)).sum::<u64>(),
                    table.counts.values()[k]);
            }
        }
        if let Some(found) = &table.blocks {
            prop_assert!(found.len() <= usize::from(blocks.unwrap()) && !found.is_empty());
            prop_assert_eq!(found.tokens.iter().sum::<u64>(), example.space.tokens());
            prop_assert_eq!(found.document_bounds.len(), found.len() + 1);
            prop_assert_eq!(found.document_bounds.last(), Some(&example.space.documents()));
        }
    }

    #[test]
    fn no_text_that_crosses_a_document_end_is_counted(documents in documents()) {
        let example = example(&documents);
        let inside: BTreeSet<Vec<u32>> = example.contexts(2).into_keys().collect();
        for i in 1..example.documents.len() {
            let (before, after) = (example.tokens(i - 1), example.tokens(i));
            let across = vec![*before.last().unwrap(), after[0]];
            prop_assert_eq!(example.space.count(&across) > 0, inside.contains(&across));
        }
    }

    #[test]
    fn an_index_that_was_saved_and_opened_gives_the_same_answers(
        documents in documents(),
        text in proptest::collection::vec(0u32..4, 0..4),
    ) {
        let space = example(&documents).space;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        space.save(&path).unwrap();
        let opened = TextSpace::open(&path).unwrap();
        prop_assert_eq!(opened.count(&text), space.count(&text));
        prop_assert_eq!(opened.next_tokens(&text), space.next_tokens(&text));
        let options = ContextOptions::default();
        prop_assert_eq!(opened.contexts(1, 1, &options).ok(), space.contexts(1, 1, &options).ok());
        prop_assert_eq!(opened.token_ids(), space.token_ids());
        prop_assert_eq!(opened.info().tokens, space.info().tokens);
        prop_assert!((0..space.documents())
            .all(|i| opened.document_tokens(i) == space.document_tokens(i)));
    }
}

#[test]
fn blocks_hold_about_as_many_tokens_each() {
    let documents: Vec<Vec<usize>> = (0..500).map(|i| vec![i % 3; 1 + i % 7]).collect();
    let example = example(&documents);
    let table = example
        .space
        .contexts(1, 1, &ContextOptions::default())
        .unwrap();
    let blocks = table.blocks.unwrap();
    assert_eq!(blocks.len(), 64);
    let fair = example.space.tokens() as f64 / 64.0;
    assert!(
        blocks.tokens.iter().all(|&t| (t as f64 - fair).abs() < 8.0),
        "{:?}",
        blocks.tokens
    );
}

#[test]
fn an_order_beyond_the_documents_is_an_error_that_says_so() {
    let space = example(&[vec![0, 1, 2], vec![0]]).space;
    for order in [4, 5, usize::MAX] {
        let error = space
            .contexts(order, 2, &ContextOptions::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("no context of {order} tokens")),
            "{error}"
        );
        assert!(
            error.contains("at least 2 times") && error.contains("has 3 tokens"),
            "{error}"
        );
    }
    let none = ContextOptions {
        top: Some(0),
        ..ContextOptions::default()
    };
    assert!(
        space
            .contexts(1, 1, &none)
            .unwrap_err()
            .to_string()
            .contains("top")
    );
    let none = ContextOptions {
        blocks: Some(0),
        ..ContextOptions::default()
    };
    assert!(
        space
            .contexts(1, 1, &none)
            .unwrap_err()
            .to_string()
            .contains("blocks")
    );
}
