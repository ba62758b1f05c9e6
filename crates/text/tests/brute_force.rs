//! Every answer of the index against counting by hand, on small random corpora.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use lawvere_text::{
    BuildOptions, ContextOptions, Corpus, DataKernel, DocumentEnd, Position, SampleOptions, Side,
    TextError, TextSpace, Tokenizer, Unseen,
};
use proptest::prelude::*;

const WORDS: [&str; 3] = ["x", "y", "z"];

/// For each outcome the documents it occurs in, one entry an occurrence.
type Outcomes<T> = BTreeMap<T, Vec<usize>>;

struct Example {
    space: TextSpace,
    /// The same corpus, cut into as many shards as it can be.
    shards: TextSpace,
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
    let documents: Vec<Vec<Option<u32>>> = corpus.documents().map(ends).collect();
    let longest = documents.iter().map(Vec::len).max().unwrap();
    let options = BuildOptions {
        shard_symbols: longest.max(2),
    };
    Example {
        space: TextSpace::build(&corpus, &words, &mut |_| {}).unwrap(),
        shards: TextSpace::build_with(&corpus, &words, &options, &mut |_| {}).unwrap(),
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

impl Example {
    fn places(&self, text: &[u32]) -> Vec<Position> {
        let mut out = Vec::new();
        for document in 0..self.documents.len() {
            let tokens = self.tokens(document);
            for (token, window) in tokens.windows(text.len().max(1)).enumerate() {
                if window == text {
                    out.push(Position {
                        document: document as u64,
                        token: token as u64,
                    });
                }
            }
        }
        out
    }

    /// How often a document begins with `text`, and which tokens come before it.
    fn before(&self, text: &[u32]) -> (u64, Vec<(u32, u64)>) {
        let (mut began, mut before) = (0, BTreeMap::new());
        for document in 0..self.documents.len() {
            let tokens = self.tokens(document);
            for at in 0..=tokens.len() {
                if !tokens[at..].starts_with(text) {
                    continue;
                }
                match at.checked_sub(1) {
                    None => began += 1,
                    Some(at) => *before.entry(tokens[at]).or_default() += 1,
                }
            }
        }
        (began, before.into_iter().collect())
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
        cut in any::<bool>(),
    ) {
        let example = example(&documents);
        let space = if cut { &example.shards } else { &example.space };
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
        let places = example.places(&text);
        prop_assert_eq!(&space.positions(&text, usize::MAX), &places);
        prop_assert_eq!(&space.positions(&text, 2), &places[..places.len().min(2)]);
        let (began, before) = example.before(&text);
        let previous = space.previous_tokens(&text);
        prop_assert_eq!(previous.began, began);
        prop_assert_eq!(previous.counts, before);
        prop_assert_eq!(space.count_batch(&[&text[..], &[]]), [space.count(&text), space.tokens()]);
        prop_assert_eq!(space.next_tokens_batch(&[&text]), [space.next_tokens(&text)]);
    }

    #[test]
    fn shards_answer_as_the_one_index_does(
        documents in documents(),
        order in 0usize..4,
        top in proptest::option::of(1usize..6),
    ) {
        let example = example(&documents);
        let (one, many) = (&example.space, &example.shards);
        prop_assert_eq!(one.token_ids(), many.token_ids());
        prop_assert_eq!(one.longest_document(), many.longest_document());
        for blocks in [None, Some(3)] {
            for document_end in [DocumentEnd::Outcome, DocumentEnd::Dropped] {
                let options = ContextOptions { document_end, top, blocks };
                prop_assert_eq!(
                    one.contexts(order, 1, &options).ok(),
                    many.contexts(order, 1, &options).ok()
                );
            }
        }
    }

    #[test]
    fn distances_and_neighbours_are_ratios_of_counts(
        documents in documents(),
        a in proptest::collection::vec(0u32..3, 0..3),
        b in proptest::collection::vec(0u32..3, 0..4),
    ) {
        let example = example(&documents);
        let space = &example.shards;
        let (of_a, of_b) = (example.count(&a) as f64, example.count(&b) as f64);
        let part = a.is_empty() || b.windows(a.len()).any(|w| w == a);
        let distance = match (of_a > 0.0, part && of_b > 0.0) {
            (false, _) => None,
            (true, false) => Some(f64::INFINITY),
            (true, true) => Some((of_a / of_b).ln()),
        };
        prop_assert_eq!(space.distance(&a, &b), distance);
        prop_assert_eq!(space.distance_batch(&[(&a, &b), (&b, &b)])[0], distance);
        let neighbours = space.neighbours(&a, usize::MAX);
        prop_assert!(neighbours.is_sorted_by(|x, y| x.distance <= y.distance));
        for n in &neighbours {
            prop_assert_eq!(n.count, example.count(&n.tokens));
            let (short, long) = if n.tokens.len() > a.len() { (&a, &n.tokens) } else { (&n.tokens, &a) };
            prop_assert_eq!(space.distance(short, long), Some(n.distance));
        }
        let right: u64 = neighbours.iter().filter(|n| n.side == Side::Right).map(|n| n.count).sum();
        let next = space.next_tokens(&a);
        prop_assert_eq!(right, if of_a > 0.0 { next.total() - next.ended } else { 0 });
    }

    #[test]
    fn what_is_sampled_follows_somewhere(
        documents in documents(),
        context in proptest::collection::vec(0u32..3, 0..3),
        order in proptest::option::of(0usize..4),
        seed in any::<u64>(),
    ) {
        use rand::SeedableRng;
        let example = example(&documents);
        let space = &example.shards;
        let options = SampleOptions { length: 6, order, unseen: Unseen::BackOff };
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let sample = space.sample(&context, &options, &mut rng).unwrap();
        prop_assert!(sample.ended || sample.tokens.len() == 6);
        prop_assert_eq!(sample.used_lengths.len(), sample.tokens.len() + usize::from(sample.ended));
        let mut text = context.clone();
        for (k, &used) in sample.used_lengths.iter().enumerate() {
            prop_assert!(order.is_none_or(|order| used <= order));
            let most = order.unwrap_or(text.len()).min(text.len());
            prop_assert_eq!(used, space.longest_suffix(&text[text.len() - most..]));
            let last = &text[text.len() - used..];
            match sample.tokens.get(k) {
                Some(&token) => {
                    prop_assert!(example.count(&[last, &[token]].concat()) > 0);
                    text.push(token);
                }
                None => prop_assert!(space.next_tokens(last).ended > 0),
            }
        }
        let strict = SampleOptions { unseen: Unseen::Strict, ..options };
        let found = space.sample(&context, &strict, &mut rng);
        let most = order.unwrap_or(context.len()).min(context.len());
        let occurs = most == 0 || example.count(&context[context.len() - most..]) > 0;
        prop_assert_eq!(found.is_ok(), occurs);
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
        let space = if order % 2 == 0 { &example.space } else { &example.shards };
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
        let table = match space.contexts(order, min_count, &options) {
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

#[test]
fn common_prefixes_longer_than_are_written_down_are_told_from_the_text() {
    // Three documents that are alike for 300 tokens, and one that leaves them after 299.
    let text = |last: &str| {
        let mut words: Vec<String> = (0..299).map(|i| format!("w{}", i % 7)).collect();
        words.push(last.into());
        words.join(" ")
    };
    let documents = [text("x"), text("x"), text("x"), text("y"), "x y x".into()];
    let corpus = Corpus::from_documents(&documents).unwrap();
    let words = Tokenizer::words(corpus.documents()).unwrap();
    let options = BuildOptions { shard_symbols: 310 };
    let shards = TextSpace::build_with(&corpus, &words, &options, &mut |_| {}).unwrap();
    assert_eq!(shards.info().shards.len(), 4);
    let one = TextSpace::build(&corpus, &words, &mut |_| {}).unwrap();
    for space in [&one, &shards] {
        for order in [254, 255, 256, 298, 299, 300] {
            let table = space
                .contexts(order, 1, &ContextOptions::default())
                .unwrap();
            let mut by_hand: BTreeMap<Vec<u32>, BTreeMap<u32, u64>> = BTreeMap::new();
            for document in corpus.documents() {
                let mut tokens = words.encode(document).unwrap();
                tokens.push(words.vocab_size() as u32);
                for window in tokens.windows(order + 1) {
                    let outcomes = by_hand.entry(window[..order].to_vec()).or_default();
                    *outcomes.entry(window[order]).or_default() += 1;
                }
            }
            assert_eq!(table.len(), by_hand.len(), "order {order}");
            for i in 0..table.len() {
                let (outcomes, counts) = table.counts.row(i);
                let wanted = &by_hand[table.context(i)];
                assert!(outcomes.iter().zip(counts).eq(wanted), "order {order}");
                let next = space.next_tokens(table.context(i));
                let ended = wanted
                    .get(&(words.vocab_size() as u32))
                    .copied()
                    .unwrap_or(0);
                assert_eq!((next.total(), next.ended), (wanted.values().sum(), ended));
            }
        }
    }
}
