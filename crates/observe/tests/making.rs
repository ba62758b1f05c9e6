//! Observations made of a small corpus and a small model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::{assert_close, random_space, space_of, tiny_model};
use lawvere_core::{ContextBatch, Factored, Layer};
use lawvere_lm::LanguageModel;
use lawvere_observe::{
    ContextPlan, Kind, Layers, Observation, ObserveError, Observer, PositionPlan, Positions, Rows,
};
use lawvere_text::{Corpus, DocumentEnd, TextSpace, Tokenizer};

const LENGTHS: [usize; 9] = [30, 2, 1, 8, 9, 61, 17, 3, 24];

fn contexts(order: usize, document_end: DocumentEnd) -> ContextPlan {
    ContextPlan {
        order,
        min_count: 1,
        top: None,
        document_end: Some(document_end),
    }
}

fn make(observer: &Observer<'_>, draft: &lawvere_observe::Draft) -> Observation {
    let folder = tempfile::tempdir().unwrap();
    let mut last = None;
    let made = observer.make(draft, &folder.path().join("made"), &mut |p| last = Some(p));
    // Progress is about the model's reading.
    let seen = last.is_none_or(|p| p.done == p.total && p.total == draft.rows());
    assert!(seen, "{last:?}");
    made.unwrap()
}

/// Every kept state is that of its prefix read alone.
fn assert_states_of_prefixes(
    observation: &Observation,
    model: &LanguageModel,
    prefixes: &[Vec<u32>],
) {
    let states = observation.states.as_ref().unwrap();
    let layers: Vec<usize> = states.layers().map(|(l, _)| l).collect();
    assert_eq!(layers, [0, 1, 2, 3]);
    let layers: Vec<Layer> = layers.into_iter().map(Layer).collect();
    for (row, prefix) in prefixes.iter().enumerate() {
        let alone = ContextBatch::of_contexts([prefix.as_slice()]);
        let expected = model.encode(&alone, &layers).unwrap();
        for ((layer, found), expected) in states.layers().zip(&expected) {
            let what = format!("row {row}, layer {layer}");
            assert_close(&what, found.row(row), expected.row(0), 1e-4);
        }
    }
}

fn assert_blocks_add_up(observation: &Observation) {
    let split = observation.blocks.as_ref().unwrap();
    assert_eq!(split.indptr.len(), observation.counts.nnz() + 1);
    for (k, &count) in observation.counts.values().iter().enumerate() {
        let parts = split.indptr[k] as usize..split.indptr[k + 1] as usize;
        let total: u64 = split.counts[parts].iter().map(|&c| u64::from(c)).sum();
        assert_eq!(total, count, "entry {k}");
    }
}

#[test]
fn contexts_have_the_counts_of_the_corpus_and_the_states_of_the_model() {
    let (space, model) = (random_space(&LENGTHS, 20), tiny_model());
    let observer = Observer::new(&space, Some(&model), &Layers::All).unwrap();
    let plan = ContextPlan {
        top: Some(50),
        ..contexts(2, DocumentEnd::Dropped)
    };
    let draft = observer.contexts(&plan).unwrap();
    let cost = observer.cost(&draft).unwrap().unwrap();
    assert_eq!((cost.tokens, cost.state_bytes), (100, 4 * 50 * 48 * 4));
    let made = make(&observer, &draft);

    assert_eq!((made.info.kind, made.rows()), (Kind::Contexts, 50));
    // The model's vocabulary, not the tokenizer's, and one column more for a document's end.
    assert_eq!((made.info.vocab_size, made.counts.ncols()), (131, 132));
    let Rows::Contexts { order: 2, tokens } = &made.contexts else {
        panic!("{:?}", made.contexts)
    };
    let mut prefixes = Vec::new();
    for (row, context) in tokens.chunks(2).enumerate() {
        let followed = space.next_tokens(context).counts;
        let (next, counts) = made.counts.row(row);
        let found: Vec<(u32, u64)> = next.iter().copied().zip(counts.iter().copied()).collect();
        assert_eq!(found, followed, "{context:?}");
        let total: u64 = counts.iter().sum();
        let weight = total as f64 / made.samples() as f64;
        assert!((made.weights[row] - weight).abs() < 1e-12);
        prefixes.push(context.to_vec());
    }
    let distinct: std::collections::BTreeSet<_> = prefixes.iter().collect();
    assert_eq!(distinct.len(), 50);
    assert_states_of_prefixes(&made, &model, &prefixes);
    assert_blocks_add_up(&made);
    assert!(made.blocks.as_ref().unwrap().blocks() > 1);

    let (head, expected) = (made.head.as_ref().unwrap(), model.head());
    assert_eq!(head.weight.nrows(), 131);
    assert!((0..131).all(|i| (0..48).all(|j| head.weight.get(i, j) == expected.weight[(i, j)])));
    assert_eq!(head.norm.as_ref(), model.readout_norm());
    let provenance = made.info.provenance.as_ref().unwrap();
    let long_enough = LENGTHS.iter().filter(|&&n| n >= 2).count() as u64;
    assert_eq!(provenance.dropped_ends, long_enough);
    assert!(provenance.qualified > 50);
    assert_eq!(provenance.model_sha256.as_deref(), Some(model.identity()));
    let names_tokens = made.tokenizer.as_ref().unwrap();
    assert_eq!(names_tokens.identity(), space.tokenizer().identity());
}

#[test]
fn document_ends_are_an_outcome_of_the_corpus_and_never_of_a_model() {
    let (space, model) = (space_of(&["a b", "a b a", "b"]), tiny_model());
    let id = |word: &str| space.tokenizer().encode(word).unwrap()[0];
    let alone = Observer::new(&space, None, &Layers::Last).unwrap();

    let draft = alone.contexts(&contexts(1, DocumentEnd::Outcome)).unwrap();
    assert_eq!(alone.cost(&draft).unwrap(), None);
    let made = make(&alone, &draft);
    let rows = |o: &Observation| -> BTreeMap<u32, Vec<(u32, u64)>> {
        let Rows::Contexts { tokens, .. } = &o.contexts else {
            panic!("{:?}", o.contexts)
        };
        let pairs = |(next, counts): (&[u32], &[u64])| {
            next.iter().copied().zip(counts.iter().copied()).collect()
        };
        tokens
            .iter()
            .copied()
            .zip(o.counts.rows().map(pairs))
            .collect()
    };
    let (a, b, end) = (id("a"), id("b"), 2);
    let expected = [(a, vec![(b, 2), (end, 1)]), (b, vec![(a, 1), (end, 2)])];
    assert_eq!(rows(&made), expected.into());
    assert!(made.states.is_none() && made.head.is_none());
    assert_blocks_add_up(&made);

    let dropped = make(
        &alone,
        &alone.contexts(&contexts(1, DocumentEnd::Dropped)).unwrap(),
    );
    let expected = [(a, vec![(b, 2)]), (b, vec![(a, 1)])];
    assert_eq!(rows(&dropped), expected.into());
    assert_eq!(dropped.info.provenance.unwrap().dropped_ends, 3);

    let with_model = Observer::new(&space, Some(&model), &Layers::Last).unwrap();
    let error = with_model
        .contexts(&contexts(1, DocumentEnd::Outcome))
        .unwrap_err();
    assert!(matches!(error, ObserveError::Option(_)), "{error}");
    assert!(error.to_string().contains("drop document ends"), "{error}");
}

/// What the positions of each document predict, and from what.
fn by_document(positions: &Positions) -> BTreeMap<u32, Vec<(Vec<u32>, u32)>> {
    let mut out: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for row in 0..positions.next.len() {
        let read = (positions.prefix(row).to_vec(), positions.next[row]);
        out.entry(positions.document[row]).or_default().push(read);
    }
    out
}

#[test]
fn positions_predict_every_token_but_the_first_once_from_its_own_prefix() {
    let (space, model) = (random_space(&LENGTHS, 20), tiny_model());
    let observer = Observer::new(&space, Some(&model), &Layers::All).unwrap();
    for window in [2, 3, 8, 256] {
        let plan = PositionPlan {
            positions: usize::MAX,
            window: Some(window),
            seed: 7,
        };
        let draft = observer.positions(&plan).unwrap();
        let cost = observer.cost(&draft).unwrap().unwrap();
        let made = make(&observer, &draft);
        assert_eq!(made.info.kind, Kind::Positions);
        let Rows::Positions(positions) = &made.contexts else {
            panic!("{:?}", made.contexts)
        };
        assert_eq!(cost.tokens, positions.tokens.len());

        let documents = by_document(positions);
        let with_two: Vec<u32> = (0..9).filter(|&d| LENGTHS[d as usize] > 1).collect();
        assert_eq!(documents.keys().copied().collect::<Vec<_>>(), with_two);
        let mut prefixes = Vec::new();
        for (document, read) in &documents {
            let tokens = space.document_tokens(*document as usize).unwrap();
            assert_eq!(read.len(), tokens.len() - 1);
            for (at, (prefix, next)) in (1..).zip(read) {
                assert_eq!(*next, tokens[at]);
                assert!(tokens[..at].ends_with(prefix), "document {document}, {at}");
                // A window's first prediction reads half of a window, its last one all of it.
                let beyond = at.saturating_sub(window + 1);
                let read = window / 2 + beyond % (window - window / 2 + 1);
                assert_eq!(prefix.len(), if at <= window { at } else { read });
                prefixes.push(prefix.clone());
            }
        }
        let longest = LENGTHS.iter().max().unwrap() - 1;
        assert_eq!(
            positions.window_offsets.len() - 1 > documents.len(),
            window < longest
        );
        assert_states_of_prefixes(&made, &model, &prefixes);
        for (row, next) in positions.next.iter().enumerate() {
            assert_eq!(made.counts.row(row), (&[*next][..], &[1][..]));
            assert_eq!(made.weights[row], 1.0 / made.rows() as f64);
        }
        // A document is a block.
        assert_blocks_add_up(&made);
        let blocks = &made.blocks.as_ref().unwrap().blocks;
        let document = |&b: &u32| with_two[b as usize];
        assert!(
            blocks
                .iter()
                .map(document)
                .eq(positions.document.iter().copied())
        );
    }
}

#[test]
fn documents_are_drawn_whole_until_there_are_enough_positions() {
    let space = random_space(&[20; 40], 20);
    let observer = Observer::new(&space, None, &Layers::Last).unwrap();
    let drawn = |positions: usize, seed: u64| {
        let plan = PositionPlan {
            positions,
            window: Some(8),
            seed,
        };
        let made = make(&observer, &observer.positions(&plan).unwrap());
        let Rows::Positions(positions) = made.contexts else {
            panic!("{:?}", made.contexts)
        };
        by_document(&positions)
    };
    // Each document has 19 positions: 4 hold 76, 5 hold 95.
    let first = drawn(77, 1);
    assert_eq!(first.len(), 5);
    assert!(first.values().all(|read| read.len() == 19));
    assert_eq!(drawn(76, 1).len(), 4);
    assert_eq!(drawn(77, 1), first);
    assert!(drawn(77, 2).keys().ne(first.keys()));
}

#[test]
fn plans_that_cannot_be_read_are_refused_with_what_would_be_right() {
    let (space, model) = (random_space(&LENGTHS, 20), tiny_model());
    let new = |layers: &Layers| Observer::new(&space, Some(&model), layers).map(|_| ());
    let observer = Observer::new(&space, Some(&model), &Layers::Last).unwrap();
    let order = |order| {
        observer
            .contexts(&contexts(order, DocumentEnd::Dropped))
            .map(|_| ())
    };
    let window = |observer: &Observer<'_>, window| {
        let plan = PositionPlan {
            positions: 10,
            window: Some(window),
            seed: 0,
        };
        observer.positions(&plan).map(|_| ())
    };
    let alone = Observer::new(&space, None, &Layers::Last).unwrap();
    let words = space_of(&["a", "b"]);
    let too_short = Observer::new(&words, Some(&model), &Layers::Last).unwrap();
    let cases = [
        (new(&Layers::These(vec![1, 4])), "layer 4 does not exist"),
        (
            order(0),
            "order 0 needs a model with a beginning-of-text token",
        ),
        (order(257), "window of 256 tokens"),
        (order(62), "the longest document has 61 tokens"),
        (window(&observer, 1), "2 to 256"),
        (window(&observer, 257), "2 to 256"),
        (window(&alone, 1), "at least 2"),
        (window(&too_short, 8), "fewer than two tokens"),
    ];
    for (result, wanted) in cases {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains('\n'), "{error:?}");
    }
    assert!(order(61).is_err(), "nothing follows the whole document");
    assert!(order(60).is_ok() && window(&observer, 256).is_ok() && window(&alone, 5000).is_ok());
}

#[test]
fn an_index_with_more_tokens_than_the_model_is_refused() {
    let corpus = Corpus::from_documents(["abc"]).unwrap();
    let space = TextSpace::build(&corpus, &Tokenizer::bytes().unwrap(), &mut |_| {}).unwrap();
    let model = tiny_model();
    let error = Observer::new(&space, Some(&model), &Layers::Last).unwrap_err();
    assert!(matches!(error, ObserveError::TokenizerMismatch { .. }));
    let text = error.to_string();
    assert!(
        text.contains("256 tokens") && text.contains("131 tokens"),
        "{text}"
    );
}

#[test]
fn layers_are_chosen_by_word_or_by_number_and_the_last_is_always_kept() {
    let (space, model) = (random_space(&[50], 20), tiny_model());
    let kept = |text: &str| -> Vec<usize> {
        let observer = Observer::new(&space, Some(&model), &text.parse().unwrap()).unwrap();
        let draft = observer
            .contexts(&contexts(1, DocumentEnd::Dropped))
            .unwrap();
        let made = make(&observer, &draft);
        made.states.unwrap().layers().map(|(l, _)| l).collect()
    };
    assert_eq!(kept("all"), [0, 1, 2, 3]);
    assert_eq!(kept("spread"), [0, 1, 2, 3]);
    assert_eq!(kept("last"), [3]);
    assert_eq!(kept("2, 0,2"), [0, 2, 3]);
    assert!("first".parse::<Layers>().unwrap_err().contains("`first`"));
}

#[test]
fn an_observation_of_the_untrained_network_is_another_with_the_same_rows() {
    let (space, model) = (random_space(&LENGTHS, 20), tiny_model());
    let untrained = LanguageModel::untrained(&common::fixture("llama-tiny/untied"), 3).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let of = |model: &LanguageModel, name: &str| {
        let observer = Observer::new(&space, Some(model), &Layers::Last).unwrap();
        let draft = observer
            .contexts(&contexts(2, DocumentEnd::Dropped))
            .unwrap();
        let folder = folder.path().join(name);
        let made = observer.make(&draft, &folder, &mut |_| {}).unwrap();
        assert!(observer.finished(&draft, &folder).is_some());
        made
    };
    let (own, control) = (of(&model, "own"), of(&untrained, "control"));
    assert_eq!(
        (&own.contexts, &own.counts),
        (&control.contexts, &control.counts)
    );
    assert_ne!(own.states, control.states);
    let (own, control) = (
        own.info.provenance.unwrap(),
        control.info.provenance.unwrap(),
    );
    assert_ne!(own.plan_sha256, control.plan_sha256);
    assert_ne!(own.model_sha256, control.model_sha256);
    let note = " (untrained, seed 3)";
    assert_eq!(control.model.unwrap(), own.model.unwrap() + note);
    // Where the one is, the other is not found.
    let observer = Observer::new(&space, Some(&model), &Layers::Last).unwrap();
    let draft = observer
        .contexts(&contexts(2, DocumentEnd::Dropped))
        .unwrap();
    assert!(
        observer
            .finished(&draft, &folder.path().join("control"))
            .is_none()
    );
}
