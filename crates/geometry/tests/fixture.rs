//! The measures against numpy and scikit-learn on a small Observation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_geometry::{GeometryError, Supports, collapse, log_odds, spectrum};
use lawvere_observe::{Kind, Observation};
use serde_json::Value;

fn fixture() -> (Observation, Value) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/measures");
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let observation = Observation::open(&folder.join("observation")).unwrap();
    (observation, serde_json::from_str(&expected).unwrap())
}

fn close(value: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().unwrap();
    assert!(
        (value - expected).abs() <= tolerance * expected.abs().max(1.0),
        "{value} {expected}"
    );
}

#[test]
fn sizes_and_entropy_are_those_of_numpy() {
    let (observation, expected) = fixture();
    let supports = Supports::new(&observation).unwrap();
    let summary = supports.summary(&observation, 0);
    assert_eq!(summary.contexts as u64, expected["m"].as_u64().unwrap());
    assert_eq!(summary.samples, expected["n_samples"].as_u64().unwrap());
    assert_eq!(
        summary.vocabulary as u64,
        expected["v_lens"].as_u64().unwrap()
    );
    assert_eq!(
        summary.classes as u64,
        expected["support"]["classes"].as_u64().unwrap()
    );
    close(summary.entropy, &expected["entropy"], 1e-12);
    assert_eq!(
        summary.sizes.iter().map(|(_, n)| n).sum::<usize>(),
        summary.contexts
    );
    assert_eq!(
        summary.entropy_error, None,
        "the fixture does not tell documents apart"
    );
}

#[test]
fn the_spectrum_of_the_centred_support_matrix_is_that_of_scikit_learn() {
    let (observation, expected) = fixture();
    let supports = Supports::new(&observation).unwrap();
    let spectrum = spectrum(&supports, 10, 2, 0).unwrap();
    let wanted = expected["support"]["singular_values"].as_array().unwrap();
    assert_eq!(spectrum.singular_values.len(), wanted.len());
    for (value, wanted) in spectrum.singular_values.iter().zip(wanted) {
        close(*value, wanted, 1e-9);
    }
    let leading: f64 = spectrum.singular_values.iter().map(|s| s * s).sum();
    assert!(leading <= spectrum.energy && spectrum.energy < 1.5 * leading);
    assert!(spectrum.concepts[0].tokens[0].1 > 0.0);
}

#[test]
fn collapse_is_that_of_scikit_learn_at_every_layer() {
    let (observation, expected) = fixture();
    let supports = Supports::new(&observation).unwrap();
    let layers = collapse(&observation, &supports, 0).unwrap();
    assert_eq!(layers.iter().map(|l| l.layer).collect::<Vec<_>>(), [0, 3]);
    for layer in &layers {
        let wanted = &expected["collapse"][layer.layer.to_string()];
        close(layer.within, &wanted["within"], 1e-9);
        close(layer.between, &wanted["between"], 1e-9);
        close(
            layer.within_other_last.unwrap(),
            &wanted["within_other_last"],
            1e-9,
        );
        close(
            layer.between_other_last.unwrap(),
            &wanted["between_other_last"],
            1e-9,
        );
        let pairs = &expected["collapse"]["pairs"];
        assert_eq!(layer.within_pairs, pairs["within"].as_u64().unwrap());
        assert_eq!(
            layer.within_other_last_pairs,
            pairs["within_other_last"].as_u64().unwrap()
        );
        assert!((layer.shuffled + 1.0 / 47.0).abs() < 4.0 * layer.shuffled_deviation + 0.05);
    }
}

#[test]
fn in_support_log_odds_are_those_of_numpy() {
    let (observation, expected) = fixture();
    let odds = log_odds(&observation, 0).unwrap();
    close(odds.correlation, &expected["l_in"]["correlation"], 1e-5);
    close(odds.slope, &expected["l_in"]["slope"], 1e-5);
    assert!(odds.shuffled_correlation.abs() < odds.correlation / 2.0);
}

#[test]
fn a_heatmap_shows_the_laws_where_they_are() {
    let (observation, _) = fixture();
    let supports = Supports::new(&observation).unwrap();
    let heatmap = supports.heatmap(&observation, 20, 30);
    assert_eq!((heatmap.tokens.len(), heatmap.contexts.len()), (20, 30));
    let laws = observation.laws();
    for (row, token) in heatmap.log10_probs.iter().zip(&heatmap.tokens) {
        for (cell, &context) in row.iter().zip(&heatmap.contexts) {
            let (tokens, law) = laws.row(context);
            let p = tokens.binary_search(token).ok().map(|k| law[k].log10());
            assert_eq!(*cell, p);
        }
    }
}

#[test]
fn what_an_observation_does_not_hold_is_named() {
    let (mut observation, _) = fixture();
    let supports = Supports::new(&observation).unwrap();
    observation.states = None;
    assert_eq!(
        collapse(&observation, &supports, 0),
        Err(GeometryError::NeedsStates)
    );
    observation.info.kind = Kind::Positions;
    assert_eq!(
        Supports::new(&observation),
        Err(GeometryError::NeedsContexts)
    );
}
