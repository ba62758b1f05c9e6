//! Whether errors are as large as they say: intervals of two standard errors over fifty seeds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use lawvere_core::{RowMatrix, SparseRows, stoch::Divergence};
use lawvere_information::{layer_readings, representation_divergence, stochasticity};
use lawvere_observe::{BlockSplit, Observation, States};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn fixture() -> Observation {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    Observation::open(&folder.join("../../fixtures/information/observation")).unwrap()
}

fn draw(weights: &[f64], rng: &mut StdRng) -> usize {
    let mut left: f64 = rng.random();
    let found = weights.iter().position(|w| {
        left -= w;
        left < 0.0
    });
    found.unwrap_or(weights.len() - 1)
}

/// Two kinds of documents, by the shares of contexts in them.
fn kinds(rows: usize) -> [Vec<f64>; 2] {
    [0.25, 4.0].map(|power: f64| {
        let weights: Vec<f64> = (0..rows)
            .map(|i| ((i % 7 + 1) as f64).powf(power.log2()))
            .collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    })
}

/// What documents would hold of the whole if there were no end of them: contexts by their mean shares,
/// followed by the fixture's laws.
fn population(whole: &Observation) -> Observation {
    let [a, b] = kinds(whole.rows());
    let mut all = whole.with_laws(whole.laws()).unwrap();
    all.weights = a.iter().zip(&b).map(|(a, b)| 0.5 * (a + b)).collect();
    all
}

/// The same seen through `documents` documents of 120 tokens.
fn sampled(whole: &Observation, documents: usize, seed: u64) -> Observation {
    let mut rng = StdRng::seed_from_u64(seed);
    let (kinds, laws) = (kinds(whole.rows()), whole.laws());
    let mut seen: Vec<BTreeMap<u32, BTreeMap<u32, u32>>> = vec![BTreeMap::new(); whole.rows()];
    for document in 0..documents {
        let kind = &kinds[usize::from(rng.random::<bool>())];
        for _ in 0..120 {
            let row = draw(kind, &mut rng);
            let (tokens, law) = laws.row(row);
            let token = tokens[draw(law, &mut rng)];
            let blocks = seen[row].entry(token).or_default();
            *blocks.entry(document as u32).or_default() += 1;
        }
    }
    let mut counts = SparseRows::new(whole.counts.ncols());
    let mut split = BlockSplit {
        indptr: vec![0],
        blocks: vec![],
        counts: vec![],
    };
    for row in &seen {
        assert!(!row.is_empty(), "a context that no document has");
        let total = |blocks: &BTreeMap<u32, u32>| blocks.values().map(|&c| u64::from(c)).sum();
        counts
            .push_row(row.iter().map(|(t, blocks)| (*t, total(blocks))))
            .unwrap();
        for blocks in row.values() {
            split.blocks.extend(blocks.keys());
            split.counts.extend(blocks.values());
            split.indptr.push(split.blocks.len() as u64);
        }
    }
    let all = f64::from(120 * documents as u32);
    let mut observation = fixture();
    observation.weights = counts
        .rows()
        .map(|(_, c)| c.iter().sum::<u64>() as f64 / all)
        .collect();
    observation.counts = counts;
    observation.blocks = Some(split);
    observation
}

#[test]
fn intervals_for_the_information_of_states_cover_it() {
    let whole = fixture();
    let truth = layer_readings(&population(&whole), &mut |_| {}).unwrap();
    let mut covered = vec![0; truth.len()];
    for seed in 0..50 {
        let found = layer_readings(&sampled(&whole, 80, seed), &mut |_| {}).unwrap();
        for ((covered, found), truth) in covered.iter_mut().zip(&found).zip(&truth) {
            let error = found.information_error.unwrap();
            *covered += usize::from((found.information - truth.information).abs() <= 2.0 * error);
        }
    }
    assert!(
        covered.iter().all(|c| (43..=50).contains(c)),
        "{covered:?} of 50"
    );
}

#[test]
fn intervals_for_corrected_entropies_and_the_gap_cover_them() {
    let whole = fixture();
    let divergences = [Divergence::KullbackLeibler, Divergence::TotalVariation];
    let truth = stochasticity(&population(&whole), &divergences, None, 0).unwrap();
    let (mut data, mut gap) = ([0; 2], [0; 2]);
    for seed in 0..50 {
        let found = stochasticity(&sampled(&whole, 80, seed), &divergences, None, seed).unwrap();
        for (k, (found, truth)) in found.iter().zip(&truth).enumerate() {
            let within = |x: f64, error: Option<f64>| usize::from(x.abs() <= 2.0 * error.unwrap());
            data[k] += within(found.data_corrected - truth.data, found.data_error);
            gap[k] += within(found.gap - truth.gap, found.gap_error);
        }
    }
    let enough = |covered: [usize; 2]| covered.iter().all(|c| (42..=50).contains(c));
    assert!(enough(data) && enough(gap), "{data:?} {gap:?} of 50");
}

#[test]
fn intervals_for_the_divergence_of_sets_cover_it() {
    // Two populations of contexts by their states, far enough apart that chance adds little.
    const EACH: usize = 150;
    let whole = fixture();
    let (_, states) = whole.states.as_ref().unwrap().last();
    let sample = |each: usize, seed: u64| {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut observation = fixture();
        let rows = 2 * each;
        let mut drawn = RowMatrix::zeros(rows, states.ncols());
        for row in 0..rows {
            let from = rng.random_range(0..20) + if row < each { 0 } else { 20 };
            let shift = if row < each { 0.5 } else { -0.5 };
            for (out, x) in drawn.row_mut(row).iter_mut().zip(states.row(from)) {
                *out = x + shift;
            }
        }
        let mut counts = SparseRows::new(whole.counts.ncols());
        (0..rows).for_each(|_| counts.push_row([(0, 1)]).unwrap());
        observation.counts = counts;
        observation.weights = vec![1.0 / rows as f64; rows];
        observation.blocks = None;
        observation.states = Some(States::new(vec![(2, drawn)]).unwrap());
        observation
    };
    let measured = |observation: &Observation, each: usize, seed: u64| {
        let (a, b): (Vec<usize>, Vec<usize>) = ((0..each).collect(), (each..2 * each).collect());
        let divergences = [Divergence::TotalVariation, Divergence::JensenShannon];
        representation_divergence(observation, &a, &b, &divergences, None, seed)
            .unwrap()
            .divergences
    };
    let truth = measured(&sample(40_000, 1000), 40_000, 0);
    let mut covered = [0; 2];
    for seed in 0..50 {
        let found = measured(&sample(EACH, seed), EACH, seed);
        for ((covered, found), truth) in covered.iter_mut().zip(&found).zip(&truth) {
            let apart = (found.model - truth.model).abs();
            *covered += usize::from(apart <= 2.0 * found.model_error);
        }
    }
    assert!(
        covered.iter().all(|c| (43..=50).contains(c)),
        "{covered:?} of 50"
    );
}
