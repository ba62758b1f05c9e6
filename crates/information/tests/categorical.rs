//! The lens against numpy, scipy, scikit-learn, dit and torch on a small Observation
//! (`fixtures/information`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_core::stoch::{Distribution, Divergence, FiniteKernel};
use lawvere_core::{ReadoutNorm, RowMatrix};
use lawvere_information::{
    PairScores, SET_DIVERGENCES, STOCHASTICITY, SimilarityKernel, SimilarityOptions, Whose,
    coherence, exact_surplus, layer_metric, metric_at, predictive_distances,
    representation_divergence, similarity, spectral_alignment, step_moments, stochasticity,
    surplus_bounds,
};
use lawvere_observe::Observation;
use serde_json::Value;

fn fixture() -> (Observation, Value) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/information");
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let observation = Observation::open(&folder.join("observation")).unwrap();
    (observation, serde_json::from_str(&expected).unwrap())
}

fn number(value: &Value) -> f64 {
    match value {
        Value::String(text) if text == "inf" => f64::INFINITY,
        value => value.as_f64().unwrap(),
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

/// Laws of float32 logits are good to 1e-6; what is f64 throughout is asked for 1e-9.
#[track_caller]
fn close(value: f64, expected: &Value, tolerance: f64) {
    let expected = number(expected);
    let equal =
        value == expected || (value - expected).abs() <= tolerance * expected.abs().max(1.0);
    assert!(equal, "{value} {expected}");
}

#[track_caller]
fn all_close(values: &[f64], expected: &Value, tolerance: f64) {
    let expected = expected.as_array().unwrap();
    assert_eq!(values.len(), expected.len());
    for (value, expected) in values.iter().zip(expected) {
        close(*value, expected, tolerance);
    }
}

#[test]
fn categorical_entropies_of_head_and_data_are_those_of_numpy_and_dit() {
    let (observation, expected) = fixture();
    let found = stochasticity(&observation, &STOCHASTICITY, None).unwrap();
    let expected = &expected["stochasticity"];
    for entry in &found {
        close(
            entry.model,
            &expected["model"]["mean"][&entry.divergence],
            1e-5,
        );
        close(
            entry.data,
            &expected["data"]["mean"][&entry.divergence],
            1e-9,
        );
        assert!((entry.gap - (entry.model - entry.data_corrected)).abs() < 1e-12);
    }
}

#[test]
fn distances_and_their_bounds_are_those_of_numpy() {
    let (observation, expected) = fixture();
    let found = predictive_distances(&observation, 512, 0).unwrap();
    assert!(found.all);
    for (name, bounds) in [
        ("tv", found.total_variation),
        ("hellinger", found.hellinger),
    ] {
        let expected = &expected["distances"][name];
        close(bounds.mean_square, &expected["mean_square"], 1e-5);
        close(bounds.bound, &expected["bound"], 1e-5);
        close(bounds.distortion, &expected["distortion"], 1e-5);
        close(bounds.distortion_bound, &expected["distortion_bound"], 1e-5);
        assert!(bounds.mean_square <= bounds.bound && bounds.distortion <= bounds.distortion_bound);
    }
}

#[test]
fn a_sample_of_contexts_estimates_the_distortion_of_all() {
    let (observation, expected) = fixture();
    let exact = number(&expected["distances"]["tv"]["distortion"]);
    let inside = (0..50).filter(|&seed| {
        let found = predictive_distances(&observation, 30, seed).unwrap();
        assert!(!found.all && found.contexts == 30);
        let tv = found.total_variation;
        (tv.distortion - exact).abs() <= 2.0 * tv.distortion_error.unwrap()
    });
    let inside = inside.count();
    assert!((42..=50).contains(&inside), "{inside} of 50");
}

#[test]
fn similarity_operators_and_energies_are_those_of_numpy() {
    let (observation, expected) = fixture();
    for (name, whose) in [("data", Whose::Data), ("model", Whose::Model)] {
        for kernel in SimilarityKernel::all(2.0) {
            let options = SimilarityOptions {
                kernel,
                rank: 40,
                // Every context a landmark: the approximation is then exact.
                landmarks: 64,
                ..SimilarityOptions::default()
            };
            let found = similarity(&observation, whose, &options).unwrap();
            let key = match kernel {
                SimilarityKernel::Bhattacharyya => "bhattacharyya",
                SimilarityKernel::Hellinger(_) => "hellinger",
                SimilarityKernel::ExpectedLikelihood => "expected-likelihood",
                SimilarityKernel::JensenShannon => "jensen-shannon",
                SimilarityKernel::ExpJensenShannon(_) => "exp-jensen-shannon",
            };
            let expected = &expected["similarity"][name][key];
            let eigenvalues = numbers(&expected["eigenvalues"]);
            assert!(
                found.spectrum.eigenvalues.len() >= 35,
                "{}",
                found.spectrum.eigenvalues.len()
            );
            assert_eq!(found.energies.len(), 3);
            for (value, expected) in found.spectrum.eigenvalues.iter().zip(&eigenvalues) {
                assert!(
                    (value - expected).abs() < 2e-6,
                    "{name} {key}: {value} {expected}"
                );
            }
            let total: f64 = eigenvalues.iter().sum();
            assert!((found.spectrum.trace - total).abs() < 2e-6, "{name} {key}");
            for layer in &found.energies {
                let expected = &expected["dirichlet"][layer.layer.to_string()];
                assert_eq!(layer.energies.len(), 5);
                for (value, expected) in layer.energies.iter().zip(numbers(expected)) {
                    assert!(
                        (value - expected).abs() < 1e-5,
                        "{name} {key}: {value} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn few_landmarks_give_no_more_than_the_operator_has() {
    let (observation, expected) = fixture();
    let options = SimilarityOptions {
        kernel: SimilarityKernel::ExpJensenShannon(2.0),
        rank: 3,
        landmarks: 20,
        ..SimilarityOptions::default()
    };
    let found = similarity(&observation, Whose::Data, &options).unwrap();
    let exact = numbers(&expected["similarity"]["data"]["exp-jensen-shannon"]["eigenvalues"]);
    assert!(found.spectrum.landmarks.unwrap() <= 20);
    for (value, exact) in found.spectrum.eigenvalues.iter().zip(&exact) {
        assert!(
            *value <= exact + 1e-9 && *value > 0.7 * exact,
            "{value} {exact}"
        );
    }
}

#[test]
fn alignment_and_correlations_are_those_of_numpy_scipy_and_scikit_learn() {
    let (observation, expected) = fixture();
    let found = spectral_alignment(&observation, None, 200, 0, &mut |_| {}).unwrap();
    for layer in &found.layers {
        let expected = &expected["alignment"][layer.layer.to_string()];
        assert_eq!(layer.rank as u64, expected["rank"].as_u64().unwrap());
        close(layer.alignment, &expected["alignment"], 1e-9);
        close(layer.r_squared, &expected["r_squared"], 1e-9);
        close(layer.cka, &expected["cka"], 1e-9);
        all_close(
            &layer.canonical_correlations,
            &expected["canonical_correlations"],
            1e-9,
        );
        all_close(&layer.principal_angles, &expected["principal_angles"], 1e-7);
        let one_sided = &expected["one_sided"];
        all_close(&layer.states_whitened, &one_sided["states_whitened"], 1e-9);
        all_close(
            &layer.prototypes_whitened,
            &one_sided["targets_whitened"],
            1e-9,
        );
        // The formula is close for unequal weights, and 200 deals have an error.
        let slack = 4.0 * layer.shuffled_deviation / 200f64.sqrt() + 0.002;
        assert!((layer.shuffled - layer.shuffled_expected).abs() < slack);
    }
    let surrogate = found.surrogate.unwrap();
    let expected = &expected["alignment"]["surrogate"];
    close(surrogate.kappa, &expected["kappa"], 1e-9);
    close(surrogate.alignment_term, &expected["alignment_term"], 1e-9);
    close(surrogate.norm_term, &expected["norm_term"], 1e-9);
    close(surrogate.constant, &expected["constant"], 1e-9);
    close(surrogate.bound, &expected["bound"], 1e-9);
    close(surrogate.cross_entropy, &expected["nll"], 1e-5);
    assert!(surrogate.cross_entropy <= surrogate.bound);
}

#[test]
fn coherence_of_layers_is_that_of_numpy() {
    let (observation, expected) = fixture();
    let found = coherence(&observation, 3, 0).unwrap();
    assert_eq!(found.len(), 2);
    for (pair, key) in found.iter().zip(["0-1", "1-2"]) {
        close(pair.cka, &expected["coherence"][key], 1e-9);
        assert!(pair.shuffled < pair.cka);
    }
}

#[test]
fn metrics_are_those_of_automatic_differentiation_through_norm_and_soft_cap() {
    let (mut observation, expected) = fixture();
    for (layer, key) in [(None, "2"), (Some(1), "1")] {
        let found = layer_metric(&observation, layer, 40, 0).unwrap();
        assert!(found.all);
        let expected = &expected["fisher"][key];
        assert!(found.spectra.len() == 40 && found.spectra[0].eigenvalues.len() == 5);
        for (context, wanted) in found
            .spectra
            .iter()
            .zip(expected["eigenvalues"].as_array().unwrap())
        {
            for (value, wanted) in context.eigenvalues.iter().zip(numbers(wanted)) {
                assert!((value - wanted).abs() < 1e-6, "{value} {wanted}");
            }
        }
        let mean = &expected["mean"];
        all_close(&found.mean_eigenvalues, &mean["eigenvalues"], 1e-6);
        close(found.mean_effective_rank, &mean["effective_rank"], 1e-5);
        close(found.mean_anisotropy, &mean["anisotropy"], 1e-6);
    }
    let capped = &expected["fisher"]["soft_cap"];
    observation.head.as_mut().unwrap().soft_cap = Some(capped["cap"].as_f64().unwrap() as f32);
    let found = layer_metric(&observation, None, 40, 0).unwrap();
    for (context, wanted) in found
        .spectra
        .iter()
        .zip(capped["eigenvalues"].as_array().unwrap())
    {
        for (value, wanted) in context.eigenvalues.iter().zip(numbers(wanted)) {
            assert!((value - wanted).abs() < 1e-6, "{value} {wanted}");
        }
    }
}

#[test]
fn a_step_of_the_state_costs_what_metric_and_third_moment_say_to_third_order() {
    let (observation, expected) = fixture();
    let third = &expected["fisher"]["third"];
    let (direction, epsilons) = (numbers(&third["direction"]), numbers(&third["epsilons"]));
    let head = observation.head.as_ref().unwrap().view();
    let (_, states) = observation.states.as_ref().unwrap().last();
    for (row, wanted) in third["rows"].as_array().unwrap().iter().enumerate() {
        let (second, third) = step_moments(head, states.row(row), &direction).unwrap();
        close(second, &wanted["kappa_2"], 1e-7);
        close(third, &wanted["kappa_3"], 1e-7);
        let metric = metric_at(head, None, states.row(row)).unwrap();
        let quadratic: f64 = (0..direction.len())
            .flat_map(|i| (0..direction.len()).map(move |j| (i, j)))
            .map(|(i, j)| direction[i] * metric.get(i, j) * direction[j])
            .sum();
        assert!((quadratic - second).abs() < 1e-9);
        // The divergences are automatic differentiation's program's: what is left beyond the third order falls
        // by sixteen when the step is halved.
        let kl = numbers(&wanted["kl"]);
        let rest: Vec<f64> = epsilons
            .iter()
            .zip(&kl)
            .map(|(e, kl)| kl - e * e / 2.0 * second - e.powi(3) / 3.0 * third)
            .collect();
        for pair in rest.windows(2) {
            let fall = pair[0] / pair[1];
            assert!(
                (8.0..32.0).contains(&fall) || pair[0].abs() < 1e-8,
                "{rest:?}"
            );
        }
    }
}

/// By differences of divergences, worked out here from the norm's definition.
#[test]
fn the_metric_goes_through_norms_of_either_kind() {
    let (observation, _) = fixture();
    let own = observation.head.as_ref().unwrap();
    let (head, weight) = (own.view(), &own.weight);
    let d = weight.ncols();
    let wave = |k: usize| (k as f64 * 1.7).sin();
    for centred in [false, true] {
        let norm = ReadoutNorm {
            weight: (0..d).map(|k| 1.0 + 0.3 * wave(k) as f32).collect(),
            bias: centred.then(|| (0..d).map(|k| 0.2 * wave(k + 3) as f32).collect()),
            centred,
            eps: 1e-5,
        };
        let law = |state: &[f64]| -> Vec<f64> {
            let n = d as f64;
            let mean = if centred {
                state.iter().sum::<f64>() / n
            } else {
                0.0
            };
            let variance = state.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let sigma = (variance + 1e-5).sqrt();
            let read = |k: usize| {
                let bias = norm.bias.as_ref().map_or(0.0, |b| f64::from(b[k]));
                (state[k] - mean) / sigma * f64::from(norm.weight[k]) + bias
            };
            let read: Vec<f64> = (0..d).map(read).collect();
            let logits = weight.rows().map(|row| {
                let terms = row.iter().zip(&read).map(|(u, x)| f64::from(*u) * x);
                terms.sum::<f64>()
            });
            let bias = |w: usize| own.bias.as_ref().map_or(0.0, |b| f64::from(b[w]));
            let odds: Vec<f64> = logits
                .enumerate()
                .map(|(w, l)| (l + bias(w)).exp())
                .collect();
            let total: f64 = odds.iter().sum();
            odds.iter().map(|o| o / total).collect()
        };
        let state: Vec<f32> = (0..d)
            .map(|k| (2.0 * wave(2 * k + 1)) as f32 + 0.5)
            .collect();
        let metric = metric_at(head, Some(&norm), &state).unwrap();
        let here: Vec<f64> = state.iter().map(|&x| f64::from(x)).collect();
        for turn in 0..4 {
            let direction: Vec<f64> = (0..d).map(|k| wave(5 * k + turn)).collect();
            let moved = |e: f64| -> Vec<f64> {
                here.iter()
                    .zip(&direction)
                    .map(|(x, v)| x + e * v)
                    .collect()
            };
            let divergence = |e: f64| -> f64 {
                let (p, q) = (law(&moved(e)), law(&here));
                p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum()
            };
            // Both ways: what is of the third order cancels.
            let wanted = (divergence(1e-3) + divergence(-1e-3)) / 1e-6;
            let found: f64 = (0..d)
                .flat_map(|i| (0..d).map(move |j| (i, j)))
                .map(|(i, j)| direction[i] * metric.get(i, j) * direction[j])
                .sum();
            assert!(
                (found - wanted).abs() < 1e-4 * wanted,
                "{centred}: {found} {wanted}"
            );
        }
    }
}

#[test]
fn divergences_of_sets_are_those_of_numpy_and_dit() {
    let (observation, expected) = fixture();
    let rows = |name: &str| -> Vec<usize> {
        let list = expected["divergence"][name].as_array().unwrap();
        list.iter().map(|v| v.as_u64().unwrap() as usize).collect()
    };
    let found = representation_divergence(
        &observation,
        &rows("a"),
        &rows("b"),
        &SET_DIVERGENCES,
        None,
        0,
    )
    .unwrap();
    assert_eq!(found.divergences.len(), 8);
    for entry in &found.divergences {
        let expected = &expected["divergence"];
        close(entry.model, &expected["model"][&entry.divergence], 1e-5);
        close(entry.data, &expected["data"][&entry.divergence], 1e-9);
    }
}

/// A unifilar machine of the fixture: the joint laws of `length` symbols from each state on.
fn futures(machine: &Value, length: usize) -> Vec<Vec<(Vec<u32>, f64)>> {
    let probabilities: Vec<Vec<f64>> = machine["probabilities"]
        .as_array()
        .unwrap()
        .iter()
        .map(numbers)
        .collect();
    let next: Vec<Vec<f64>> = machine["next"]
        .as_array()
        .unwrap()
        .iter()
        .map(numbers)
        .collect();
    (0..probabilities.len())
        .map(|state| {
            let mut paths = vec![(Vec::new(), 1.0, state)];
            for _ in 0..length {
                let mut longer = Vec::new();
                for (tokens, p, state) in paths {
                    for (symbol, q) in probabilities[state].iter().enumerate() {
                        let mut tokens: Vec<u32> = tokens.clone();
                        tokens.push(symbol as u32);
                        longer.push((tokens, p * q, next[state][symbol] as usize));
                    }
                }
                paths = longer;
            }
            paths
                .into_iter()
                .map(|(tokens, p, _)| (tokens, p))
                .collect()
        })
        .collect()
}

#[test]
fn the_surplus_of_a_machine_is_that_of_enumeration_and_dit_and_adds_up() {
    let (_, expected) = fixture();
    let machine = &expected["surplus"];
    let found = exact_surplus(&numbers(&machine["weights"]), &futures(machine, 4)).unwrap();
    all_close(&found.block, &machine["block"], 1e-9);
    all_close(&found.surplus, &machine["block_given_first"], 1e-9);
    all_close(&found.single, &machine["single_given_first"], 1e-9);
    for (block, surplus) in found.block.iter().zip(&found.surplus) {
        assert!((block - (found.block[0] + surplus)).abs() < 1e-9);
    }
}

#[test]
fn expected_bounds_are_those_of_enumeration() {
    let (_, expected) = fixture();
    let machine = &expected["surplus"];
    let futures = futures(machine, 4);
    let n = futures.len();
    let conditional = |state: usize, tokens: &[u32]| -> Vec<f64> {
        let mass = |k: usize| -> f64 {
            let of = futures[state].iter().filter(|(t, _)| t[..k] == tokens[..k]);
            of.map(|(_, p)| p).sum()
        };
        let masses: Vec<f64> = (0..=4).map(mass).collect();
        (0..4)
            .map(|k| match masses[k] > 0.0 {
                true => (masses[k + 1] / masses[k]).ln(),
                false => f64::NEG_INFINITY,
            })
            .collect()
    };
    // A bound is a mean over contexts of what each one's own continuation adds: its expectation is
    // that of continuations exchanged one context at a time.
    let likeliest = |state: usize| {
        let of = futures[state].iter();
        of.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0.clone()
    };
    let bounds = |exchanged: Option<(usize, &[u32])>| {
        let table: Vec<Vec<Vec<f64>>> = (0..n)
            .map(|i| {
                let own = likeliest(i);
                let tokens = match exchanged {
                    Some((state, tokens)) if state == i => tokens,
                    _ => &own,
                };
                (0..n).map(|j| conditional(j, tokens)).collect()
            })
            .collect();
        surplus_bounds(&[PairScores::new(&table).unwrap()])
            .unwrap()
            .blocks
    };
    let base = bounds(None);
    let mut lower: Vec<f64> = base.iter().map(|b| b.lower).collect();
    let mut upper: Vec<f64> = base.iter().map(|b| b.upper).collect();
    for (state, future) in futures.iter().enumerate() {
        for (tokens, p) in future.iter().filter(|f| f.1 > 0.0) {
            for (k, block) in bounds(Some((state, tokens))).iter().enumerate() {
                lower[k] += p * (block.lower - base[k].lower);
                upper[k] += p * (block.upper - base[k].upper);
            }
        }
    }
    all_close(&lower, &machine["bounds"]["lower"], 1e-9);
    all_close(&upper, &machine["bounds"]["upper"], 1e-9);
}

#[test]
fn finite_kernels_have_the_entropies_and_informations_of_their_definitions() {
    let (_, expected) = fixture();
    for name in ["full", "zeros", "deterministic"] {
        let given = &expected["kernels"][name];
        let rows: Vec<Vec<f64>> = given["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(numbers)
            .collect();
        let matrix = RowMatrix::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j]);
        let kernel = FiniteKernel::new(matrix).unwrap();
        let state = Distribution::new(numbers(&given["state"])).unwrap();
        for divergence in [
            "kl",
            "reverse-kl",
            "tv",
            "hellinger",
            "chi2",
            "js",
            "renyi:0",
            "renyi:0.5",
            "renyi:2",
            "renyi:inf",
        ] {
            let expected = &given[divergence];
            let divergence: Divergence = divergence.parse().unwrap();
            let entropy = kernel.categorical_entropy(divergence, &state).unwrap();
            all_close(&entropy.per_row, &expected["per_row"], 1e-9);
            close(entropy.mean, &expected["mean"], 1e-9);
            let information = kernel.joint(&state).unwrap().mutual_information(divergence);
            close(information.unwrap(), &expected["mutual_information"], 1e-9);
        }
    }
}
