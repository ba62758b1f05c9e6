//! Vocabularies and rows that are gone through in several parts, beside the formulas written out in f64.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use lawvere_core::linalg::symmetric_eigenvalues;
use lawvere_core::{RowMatrix, SparseRows};
use lawvere_information::{
    SimilarityKernel, SimilarityOptions, Whose, fisher_rao, predictive_distances, similarity,
};
use lawvere_observe::{Head, Observation, States};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const D: usize = 4;

/// `rows` contexts of random weights and states, each followed by one token, under a random head.
fn observation(rows: usize, vocab: usize) -> Observation {
    let mut rng = StdRng::seed_from_u64(7);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut observation =
        Observation::open(&folder.join("../../fixtures/information/observation")).unwrap();
    let mut counts = SparseRows::new(vocab + 1);
    for row in 0..rows {
        counts.push_row([((row * 37 % vocab) as u32, 3)]).unwrap();
    }
    let raw: Vec<f64> = (0..rows).map(|_| 0.1 + rng.random::<f64>()).collect();
    let total: f64 = raw.iter().sum();
    observation.weights = raw.iter().map(|w| w / total).collect();
    observation.counts = counts;
    observation.blocks = None;
    let mut random =
        |n: usize, scale: f32| RowMatrix::from_fn(n, D, |_, _| scale * (rng.random::<f32>() - 0.3));
    let states = random(rows, 3.0);
    observation.states = Some(States::new(vec![(0, states)]).unwrap());
    let weight = random(vocab, 2.0);
    observation.head = Some(Head {
        weight,
        bias: None,
        soft_cap: None,
        norm: None,
    });
    observation
}

/// Every law, in f64.
fn laws(observation: &Observation) -> Vec<Vec<f64>> {
    let weight = &observation.head.as_ref().unwrap().weight;
    let states = observation.states.as_ref().unwrap().last().1;
    let law = |state: &[f32]| {
        let logit = |row: &[f32]| -> f64 {
            let pairs = row.iter().zip(state);
            pairs.map(|(u, s)| f64::from(*u) * f64::from(*s)).sum()
        };
        let logits: Vec<f64> = weight.rows().map(logit).collect();
        let total: f64 = logits.iter().map(|l| l.exp()).sum();
        logits.iter().map(|l| l.exp() / total).collect()
    };
    states.rows().map(law).collect()
}

fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert!(!found.is_empty());
    for (k, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() < tolerance, "{k}: {a} {b}");
    }
}

#[test]
fn the_mean_metric_over_many_rows_and_tokens_is_its_formula() {
    for (rows, vocab) in [(90, 5000), (4200, 60)] {
        let observation = observation(rows, vocab);
        let weight = &observation.head.as_ref().unwrap().weight;
        let mut metric = RowMatrix::<f64>::zeros(D, D);
        let mut mean_law = vec![0.0; vocab];
        for (law, &w) in laws(&observation).iter().zip(&observation.weights) {
            let mut mean = [0.0; D];
            for (u, p) in weight.rows().zip(law) {
                (0..D).for_each(|k| mean[k] += p * f64::from(u[k]));
            }
            for (token, (u, p)) in weight.rows().zip(law).enumerate() {
                let off: [f64; D] = std::array::from_fn(|k| f64::from(u[k]) - mean[k]);
                for i in 0..D {
                    (0..D).for_each(|j| metric.row_mut(i)[j] += w * p * off[i] * off[j]);
                }
                mean_law[token] += w * p;
            }
        }
        let found = fisher_rao(&observation, D).unwrap();
        let expected = symmetric_eigenvalues(metric.view()).unwrap();
        close(&found.eigenvalues, &expected, 2e-6 * expected[0]);
        // The tokens of a direction: what the formula says changes most, up from the first down.
        let mut centre = [0.0; D];
        for (u, p) in weight.rows().zip(&mean_law) {
            (0..D).for_each(|k| centre[k] += p * f64::from(u[k]));
        }
        let eigen = lawvere_core::linalg::symmetric_eigen(metric.view()).unwrap();
        for (k, direction) in found.directions.iter().enumerate() {
            let v = eigen.vectors.row(k);
            let logit = |token: usize| -> f64 {
                let u = weight.row(token);
                (0..D).map(|i| (f64::from(u[i]) - centre[i]) * v[i]).sum()
            };
            let change = |token: usize| mean_law[token] * logit(token);
            let largest = (0..vocab)
                .map(change)
                .fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
            let sign = largest.signum();
            let mut order: Vec<usize> = (0..vocab).collect();
            order.sort_by(|&a, &b| (sign * change(b)).total_cmp(&(sign * change(a))));
            assert!(direction.raised.len() == 8 && direction.lowered.len() == 8);
            for (ours, &token) in direction.raised.iter().zip(&order) {
                assert!((mean_law[ours.0 as usize] * ours.1 - sign * change(token)).abs() < 1e-6);
                assert!((ours.1 - sign * logit(ours.0 as usize)).abs() < 1e-4);
            }
            for (ours, &token) in direction.lowered.iter().zip(order.iter().rev()) {
                assert!((mean_law[ours.0 as usize] * ours.1 - sign * change(token)).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn overlaps_and_distances_over_many_tokens_are_their_formulas() {
    let observation = observation(300, 5000);
    let (laws, weights) = (laws(&observation), &observation.weights);
    let spectrum = |overlap: &dyn Fn(f64, f64) -> f64| {
        let entry = |i: usize, j: usize| {
            let pairs = laws[i].iter().zip(&laws[j]);
            let value: f64 = pairs.map(|(p, q)| overlap(*p, *q)).sum();
            (weights[i] * weights[j]).sqrt() * value
        };
        symmetric_eigenvalues(RowMatrix::from_fn(300, 300, entry).view()).unwrap()
    };
    for (kernel, expected) in [
        (
            SimilarityKernel::Bhattacharyya,
            spectrum(&|p, q| (p * q).sqrt()),
        ),
        (
            SimilarityKernel::ExpectedLikelihood,
            spectrum(&|p, q| p * q),
        ),
    ] {
        let options = SimilarityOptions {
            kernel,
            rank: 8,
            ..SimilarityOptions::default()
        };
        let found = similarity(&observation, Whose::Model, &options).unwrap();
        close(&found.spectrum.eigenvalues, &expected, 2e-6 * expected[0]);
    }
    let found = predictive_distances(&observation, 300, 0).unwrap();
    let next: Vec<u32> = observation.counts.rows().map(|r| r.0[0]).collect();
    let mut distortion = 0.0;
    for i in 0..300 {
        for j in 0..300 {
            let pairs = laws[i].iter().zip(&laws[j]);
            let tv: f64 = pairs.map(|(p, q)| 0.5 * (p - q).abs()).sum();
            let data = f64::from(u8::from(next[i] != next[j]));
            distortion += weights[i] * weights[j] * (data - tv).powi(2);
        }
    }
    close(&[found.total_variation.distortion], &[distortion], 1e-6);
}
