//! Divergences against `dit` and scipy on random laws of full support.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_core::stoch::{Distribution, Divergence};

#[test]
fn divergences_are_those_of_dit_and_scipy() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/measures/expected.json");
    let expected: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = expected["divergences"].as_array().unwrap();
    assert!(cases.len() >= 6);
    for case in cases {
        let law = |key: &str| {
            let values = case[key].as_array().unwrap();
            Distribution::new(values.iter().map(|v| v.as_f64().unwrap()).collect()).unwrap()
        };
        let (p, q) = (law("p"), law("q"));
        for (divergence, key) in [
            (Divergence::KullbackLeibler, "kl"),
            (Divergence::JensenShannon, "js"),
            (Divergence::TotalVariation, "tv"),
            (Divergence::Hellinger, "hellinger"),
            (Divergence::ChiSquared, "chi2"),
            (Divergence::Renyi(0.5), "renyi_0.5"),
            (Divergence::Renyi(2.0), "renyi_2"),
        ] {
            let (value, wanted) = (
                divergence.between(&p, &q).unwrap(),
                case[key].as_f64().unwrap(),
            );
            assert!(
                (value - wanted).abs() <= 1e-9 * wanted.max(1.0),
                "{key}: {value} {wanted}"
            );
        }
    }
}
