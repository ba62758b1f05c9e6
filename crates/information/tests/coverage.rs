//! Whether errors are as large as they say: intervals of two standard errors over fifty seeds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use lawvere_core::{RowMatrix, SparseRows, stoch::Divergence};
use lawvere_information::{layer_readings, representation_divergence, stochasticity};
use lawvere_observe::{BlockSplit, Observation, Positions, Rows, States};
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

/// Whether estimates are within two of their errors of the truth often enough, and errors on average what the
/// estimates scatter by.
#[derive(Default)]
struct Coverage {
    found: Vec<(f64, f64)>,
    covered: usize,
}

impl Coverage {
    fn see(&mut self, value: f64, error: Option<f64>, truth: f64) {
        let error = error.unwrap();
        self.found.push((value, error));
        self.covered += usize::from((value - truth).abs() <= 2.0 * error);
    }

    fn holds(&self, what: &str) {
        let n = self.found.len() as f64;
        let mean = |f: &dyn Fn(&(f64, f64)) -> f64| self.found.iter().map(f).sum::<f64>() / n;
        let centre = mean(&|x| x.0);
        let scatter = (mean(&|x| (x.0 - centre).powi(2)) * n / (n - 1.0)).sqrt();
        let ratio = mean(&|x| x.1) / scatter;
        assert!(
            self.covered as f64 >= 0.84 * n && ratio > 0.75 && ratio < 1.3,
            "{what}: {} of {n} covered, errors {ratio} of the scatter",
            self.covered
        );
    }
}

#[test]
fn intervals_for_the_information_of_states_cover_it() {
    let whole = fixture();
    let truth = layer_readings(&population(&whole), &mut |_| {}).unwrap();
    let mut layers: Vec<Coverage> = truth.iter().map(|_| Coverage::default()).collect();
    for seed in 0..50 {
        let found = layer_readings(&sampled(&whole, 80, seed), &mut |_| {}).unwrap();
        for ((coverage, found), truth) in layers.iter_mut().zip(&found).zip(&truth) {
            coverage.see(
                found.information,
                found.information_error,
                truth.information,
            );
        }
    }
    layers.iter().for_each(|c| c.holds("I(S;W)"));
}

#[test]
fn intervals_for_corrected_entropies_and_the_gap_cover_them() {
    let whole = fixture();
    let divergences = [Divergence::KullbackLeibler, Divergence::TotalVariation];
    let truth = stochasticity(&population(&whole), &divergences, None).unwrap();
    // Many occurrences of every context, and few.
    for documents in [80, 12] {
        let mut seen = [(); 2].map(|()| (Coverage::default(), Coverage::default()));
        for seed in 0..50 {
            let observation = sampled(&whole, documents, seed);
            let found = stochasticity(&observation, &divergences, None).unwrap();
            for ((data, gap), (found, truth)) in seen.iter_mut().zip(found.iter().zip(&truth)) {
                data.see(found.data_corrected, found.data_error, truth.data);
                gap.see(found.gap, found.gap_error, truth.gap);
            }
        }
        for ((data, gap), divergence) in seen.iter().zip(&divergences) {
            data.holds(&format!("{divergence} of data, {documents} documents"));
            gap.holds(&format!("{divergence} gap, {documents} documents"));
        }
    }
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
    let mut seen = [Coverage::default(), Coverage::default()];
    for seed in 0..50 {
        let found = measured(&sample(EACH, seed), EACH, seed);
        for ((coverage, found), truth) in seen.iter_mut().zip(&found).zip(&truth) {
            coverage.see(found.model, found.model_error, truth.model);
        }
    }
    seen.iter().for_each(|c| c.holds("divergence of sets"));
}

/// Positions of `documents` documents, ten each: states move with their document, and the second half of every
/// document is shifted.
fn running(documents: usize, seed: u64) -> Observation {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut observation = fixture();
    let (_, states) = observation.states.as_ref().unwrap().last();
    let rows = 10 * documents;
    let mut moved = RowMatrix::zeros(rows, states.ncols());
    let mut positions = Positions {
        window_offsets: vec![0],
        ..Positions::default()
    };
    let mut counts = SparseRows::new(observation.counts.ncols());
    for document in 0..documents {
        let own: Vec<f32> = (0..states.ncols())
            .map(|_| 4.0 * (rng.random::<f32>() - 0.5))
            .collect();
        for at in 0..10 {
            let from = rng.random_range(0..states.nrows());
            let shift = if at < 5 { 0.6 } else { -0.6 };
            let out = moved.row_mut(10 * document + at).iter_mut();
            for ((out, x), own) in out.zip(states.row(from)).zip(&own) {
                *out = x + own + shift;
            }
            positions.window.push(document as u32);
            positions.document.push(document as u32);
            positions.prefix_length.push(at as u32 + 1);
            positions.next.push(0);
            counts.push_row([(0, 1)]).unwrap();
        }
        positions.tokens.extend([0; 10]);
        positions.window_offsets.push(positions.tokens.len() as u64);
    }
    observation.contexts = Rows::Positions(positions);
    observation.counts = counts;
    observation.weights = vec![1.0 / rows as f64; rows];
    observation.blocks = None;
    observation.states = Some(States::new(vec![(2, moved)]).unwrap());
    observation
}

#[test]
fn intervals_for_the_divergence_of_positions_know_that_documents_are_in_both_sets() {
    const DOCUMENTS: usize = 60;
    let measured = |observation: &Observation, seed: u64| {
        let (a, b): (Vec<usize>, Vec<usize>) =
            (0..observation.rows()).partition(|row| row % 10 < 5);
        representation_divergence(
            observation,
            &a,
            &b,
            &[Divergence::TotalVariation],
            None,
            seed,
        )
        .unwrap()
        .divergences
        .remove(0)
    };
    let truth = measured(&running(6000, 999), 0);
    let mut seen = Coverage::default();
    for seed in 0..50 {
        let found = measured(&running(DOCUMENTS, seed), seed);
        // What chance gives is far below what the shift does.
        assert!(found.by_chance + 3.0 * found.by_chance_deviation < found.model);
        seen.see(found.model, found.model_error, truth.model);
    }
    seen.holds("divergence of positions");
    // A set within one document has no error that resampling could tell.
    let one = running(5, 1);
    let alone = representation_divergence(
        &one,
        &[0, 1, 2],
        &[20, 21, 35],
        &[Divergence::TotalVariation],
        None,
        0,
    );
    assert_eq!(alone.unwrap().divergences[0].model_error, None);
}
