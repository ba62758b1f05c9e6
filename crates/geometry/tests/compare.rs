//! Verdicts on models whose geometry is known, with controls that must and must not explain it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_core::{ReadoutNorm, RowMatrix, SparseRows};
use lawvere_geometry::{
    Claim, CompareOptions, Comparison, GeometryError, Prediction, Reading, Space, Supports,
    Verdict, compare, log_odds, proxy,
};
use lawvere_observe::{Head, Kind, Observation, Rows, States};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const V: usize = 12;
const M: usize = 120;
/// Contexts of one last token.
const LAST: usize = 10;

fn fixture() -> Observation {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/measures");
    Observation::open(&folder.join("observation")).unwrap()
}

/// Contexts of two tokens: the support of context j is `support(j)`, its last token `last(j)`.
fn observed(support: impl Fn(usize) -> Vec<u32>, last: impl Fn(usize) -> u32) -> Observation {
    let mut observation = fixture();
    let mut counts = SparseRows::new(V + 1);
    for j in 0..M {
        let count = |v: u32| (v, 1 + u64::from(v) * (j as u64 % 5 + 1) % 7);
        counts.push_row(support(j).into_iter().map(count)).unwrap();
    }
    observation.info.vocab_size = V;
    observation.contexts = Rows::Contexts {
        order: 2,
        tokens: (0..M).flat_map(|j| [j as u32, last(j)]).collect(),
    };
    let total: u64 = counts.values().iter().sum();
    let weight = |(_, counts): (&[u32], &[u64])| counts.iter().sum::<u64>() as f64 / total as f64;
    observation.weights = counts.rows().map(weight).collect();
    observation.counts = counts;
    observation.blocks = None;
    observation.tokenizer = None;
    observation
}

/// 40 supports, each of three contexts with different last tokens.
fn shared_supports() -> Observation {
    let mut rng = StdRng::seed_from_u64(4);
    let supports: Vec<Vec<u32>> = (0..M / 3)
        .map(|_| {
            let mut support: Vec<u32> = (0..4).map(|_| rng.random_range(0..V as u32)).collect();
            support.sort_unstable();
            support.dedup();
            support
        })
        .collect();
    observed(|j| supports[j % (M / 3)].clone(), |j| (j / 12) as u32)
}

fn normal(rng: &mut StdRng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

fn random(rows: usize, columns: usize, seed: u64) -> RowMatrix<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    RowMatrix::from_fn(rows, columns, |_, _| normal(&mut rng) as f32)
}

fn with_model(
    mut observation: Observation,
    words: RowMatrix<f32>,
    states: Vec<RowMatrix<f32>>,
) -> Observation {
    observation.head = Some(Head {
        weight: words,
        bias: None,
        soft_cap: None,
        norm: None,
    });
    observation.states = Some(States::new(states.into_iter().enumerate().collect()).unwrap());
    observation
}

/// A model whose words and contexts are the factors of S~.
fn ideal(observation: Observation) -> Observation {
    let supports = Supports::new(&observation).unwrap();
    assert_eq!(supports.vocabulary(), V);
    let svd = Prediction::from_logits(&proxy(&supports)).unwrap();
    let scaled = |vectors: &RowMatrix<f64>| {
        RowMatrix::from_fn(vectors.nrows(), svd.rank(), |i, k| {
            (vectors.get(i, k) * svd.singular_values[k].sqrt()) as f32
        })
    };
    let (words, states) = (scaled(&svd.words), scaled(&svd.contexts));
    with_model(observation, words, vec![states])
}

fn run(observation: &Observation, untrained: Option<&Observation>) -> Comparison {
    let options = CompareOptions {
        rank: V,
        ..CompareOptions::default()
    };
    compare(observation, untrained, &options, 7).unwrap()
}

fn reading(comparison: &Comparison, claim: Claim) -> Reading {
    let mut of_claim = comparison.readings.iter().filter(|r| r.claim == claim);
    of_claim.next().unwrap().clone()
}

const OF_THE_THEORY: [Claim; 5] = [
    Claim::SubspaceCollapse,
    Claim::SupportVariability,
    Claim::ContextGram,
    Claim::WordGram,
    Claim::Logits,
];

#[test]
fn at_the_predicted_geometry_its_predictions_are_visible_and_dealt_states_are_near_nothing() {
    let observation = ideal(shared_supports());
    let untrained = with_model(shared_supports(), random(V, 11, 1), vec![random(M, 11, 2)]);
    let found = run(&observation, Some(&untrained));
    assert!((found.captured - 1.0).abs() < 1e-9);
    for claim in OF_THE_THEORY {
        let reading = reading(&found, claim);
        assert_eq!(reading.verdict, Verdict::Visible, "{}", reading.sentence());
        assert!((reading.value - reading.ideal).abs() < 1e-6, "{reading:?}");
        assert!((reading.effect - 1.0).abs() < 1e-6);
        assert!(reading.unexplained > 0.5, "{reading:?}");
    }
    let collapse = reading(&found, Claim::SubspaceCollapse);
    assert!(collapse.shuffled.mean.abs() < 4.0 * collapse.shuffled.deviation + 0.05);
    assert!(collapse.same_last.unwrap().mean.abs() < 0.2);
    assert!(collapse.untrained.unwrap().abs() < 0.2);
    let logits = reading(&found, Claim::Logits);
    assert!(logits.shuffled.mean.abs() < 0.1 && logits.shuffled.deviation > 0.0);
    assert!((found.sharing_last_token - 1.0).abs() < 1e-12);
    assert!(found.notes.is_empty(), "{:?}", found.notes);
    let loss = found.loss.unwrap();
    assert!((loss.cross_entropy - found.entropy - loss.excess).abs() < 1e-12);
    assert!(loss.untrained_excess.unwrap() > loss.excess);
    assert_eq!(found.verdicts.len(), found.readings.len());
    let text = serde_json::to_value(&found).unwrap();
    assert_eq!(text["verdicts"][0]["claim"], "subspace-collapse");
    assert_eq!(text["verdicts"][0]["verdict"], "visible");
}

#[test]
fn random_states_show_nothing() {
    let observation = with_model(shared_supports(), random(V, 11, 1), vec![random(M, 11, 2)]);
    let found = run(&observation, None);
    for claim in OF_THE_THEORY {
        let reading = reading(&found, claim);
        let nothing = [Verdict::NotVisible, Verdict::WithinChance];
        assert!(nothing.contains(&reading.verdict), "{}", reading.sentence());
        assert_eq!(reading.untrained, None);
    }
}

#[test]
fn what_the_last_token_decides_is_explained_by_it() {
    // Supports and states are the last token's, but for a little noise.
    let support = |j: usize| vec![(j % LAST) as u32, (j % LAST) as u32 + 2];
    let observation = observed(support, |j| (j % LAST) as u32);
    let (by_last, noise) = (random(LAST, 8, 3), random(M, 8, 4));
    let states = RowMatrix::from_fn(M, 8, |j, k| {
        by_last.get(j % LAST, k) + 0.3 * noise.get(j, k)
    });
    let observation = with_model(observation, random(V, 8, 5), vec![states]);
    let found = run(&observation, None);
    for claim in [Claim::SubspaceCollapse, Claim::SupportVariability] {
        let reading = reading(&found, claim);
        let sentence = reading.sentence();
        assert_eq!(reading.verdict, Verdict::ExplainedByLastToken, "{sentence}");
        assert!(
            reading.effect > 0.3 && reading.unexplained < 0.05,
            "{sentence}"
        );
    }
}

#[test]
fn what_the_untrained_network_shows_too_is_explained_by_the_architecture() {
    let observation = ideal(shared_supports());
    let found = run(&observation, Some(&observation));
    for claim in OF_THE_THEORY {
        let reading = reading(&found, claim);
        assert_eq!(reading.verdict, Verdict::ExplainedByArchitecture);
        assert_eq!(reading.untrained, Some(reading.value));
    }
}

#[test]
fn layers_are_taken_as_they_are_and_through_the_final_norm() {
    let observation = fixture();
    let found = run(&observation, None);
    let places: Vec<(usize, Space)> = found.layers.iter().map(|l| (l.layer, l.space)).collect();
    let expected = [(0, Space::Raw), (0, Space::Readout), (3, Space::Readout)];
    assert_eq!(places, expected);
    assert!(found.layers[0].head.is_none());
    let collapse = |layer, space| {
        let mut readings = found.readings.iter();
        let is = |r: &&Reading| {
            let place = (r.layer, r.space) == (Some(layer), Some(space));
            place && r.claim == Claim::SubspaceCollapse
        };
        readings.find(is).unwrap().value
    };
    assert!((collapse(0, Space::Raw) - found.collapse[0].within).abs() < 1e-12);
    assert!((collapse(3, Space::Readout) - found.collapse[1].within).abs() < 1e-12);
    assert_ne!(collapse(0, Space::Raw), collapse(0, Space::Readout));
    // The head's own bias is in its logits: the log-odds are those of the whole head.
    let odds = log_odds(&observation, 0).unwrap();
    let finite = found.layers[2].head.as_ref().unwrap().finite;
    assert!((finite.correlation - odds.correlation).abs() < 1e-5);
    assert!((finite.slope - odds.slope).abs() < 1e-5);

    let mut without = observation.clone();
    without.head.as_mut().unwrap().norm = None;
    let found = run(&without, None);
    assert_eq!(found.layers.len(), 2);
    assert!(
        found.notes[0].contains("no final norm"),
        "{:?}",
        found.notes
    );
}

#[test]
fn a_head_that_is_missing_or_caps_its_logits_leaves_the_contexts() {
    let mut observation = fixture();
    observation.head.as_mut().unwrap().soft_cap = Some(30.0);
    let capped = run(&observation, None);
    assert!(
        capped.notes[0].contains("caps its logits"),
        "{:?}",
        capped.notes
    );
    assert_eq!((capped.loss, capped.words_rank), (None, None));
    observation.head = None;
    let found = run(&observation, None);
    assert!(found.notes[0].contains("no head"), "{:?}", found.notes);
    let claims: Vec<Claim> = found.verdicts.iter().map(|v| v.claim).collect();
    let of_contexts = [
        Claim::SubspaceCollapse,
        Claim::SupportVariability,
        Claim::ContextGram,
    ];
    assert_eq!(claims, of_contexts);
    assert!(found.layers.iter().all(|l| l.head.is_none()));
}

#[test]
fn too_few_shared_last_tokens_make_no_control() {
    let mut observation = ideal(shared_supports());
    observation.contexts = Rows::Contexts {
        order: 1,
        tokens: (0..M as u32).collect(),
    };
    let found = run(&observation, None);
    assert!(found.readings.iter().all(|r| r.same_last.is_none()));
    assert!(
        found.notes[0].contains("only 0 % of the contexts"),
        "{:?}",
        found.notes
    );
}

#[test]
fn results_are_those_of_the_seed_and_not_of_the_threads() {
    let observation = fixture();
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let found = pool.install(|| run(&observation, None));
        serde_json::to_string(&found).unwrap()
    };
    assert_eq!(on(1), on(3));
    let other = compare(&observation, None, &CompareOptions::default(), 8).unwrap();
    assert_ne!(on(1), serde_json::to_string(&other).unwrap());
}

#[test]
fn what_cannot_be_compared_is_named() {
    let observation = fixture();
    let fails = |observation: &Observation, untrained, options: &CompareOptions| {
        let found = compare(observation, untrained, options, 0);
        found.unwrap_err()
    };
    let options = CompareOptions::default();
    let mut other = fixture();
    other.counts = other.counts.map(|_, c| c + 1);
    let error = fails(&observation, Some(&other), &options).to_string();
    assert!(
        error.contains("its contexts or their counts are not those"),
        "{error}"
    );
    let once = CompareOptions {
        deals: 1,
        ..options.clone()
    };
    let error = fails(&observation, None, &once).to_string();
    assert!(error.contains("deals: it is 1"), "{error}");
    let wrong = CompareOptions {
        prediction: Some(
            Prediction::from_logits(&RowMatrix::from_fn(3, 4, |i, j| (i * j) as f64)).unwrap(),
        ),
        ..options.clone()
    };
    assert!(matches!(
        fails(&observation, None, &wrong),
        GeometryError::Shape(_)
    ));
    let mut nan = fixture();
    let mut states = nan
        .states
        .take()
        .unwrap()
        .layers()
        .map(|(l, s)| (l, s.clone()))
        .collect::<Vec<_>>();
    states[0].1.row_mut(5)[0] = f32::INFINITY;
    nan.states = Some(States::new(states).unwrap());
    assert!(matches!(
        fails(&nan, None, &options),
        GeometryError::NotFinite { row: 5, .. }
    ));
    let mut positions = fixture();
    positions.info.kind = Kind::Positions;
    assert_eq!(
        fails(&positions, None, &options),
        GeometryError::NeedsContexts
    );
    let mut corpus = fixture();
    corpus.states = None;
    assert_eq!(fails(&corpus, None, &options), GeometryError::NeedsStates);
}

#[test]
fn the_norm_of_a_readout_is_the_observations_own() {
    let mut observation = fixture();
    let head = observation.head.as_mut().unwrap();
    let d = head.weight.ncols();
    head.norm = Some(ReadoutNorm::root_mean_square(vec![1.0; d], 0.0));
    let found = run(&observation, None);
    // Rows of mean square 1.
    let readout = &found.layers[1];
    assert_eq!(readout.space, Space::Readout);
    let expected = ((observation.rows() * d) as f64).sqrt();
    assert!((readout.states_norm - expected).abs() < 1e-4 * expected);
}
