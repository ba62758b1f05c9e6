//! Extremal rays are those that pycddlib finds, exactly, by double description.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_core::{RowMatrix, TropicalMatrix};
use lawvere_metric::{MetricError, Space};
use serde_json::Value;

fn fraction(value: &Value) -> f64 {
    let (p, q) = value.as_str().unwrap().split_once('/').unwrap();
    p.parse::<f64>().unwrap() / q.parse::<f64>().unwrap()
}

#[test]
fn extremal_rays_are_those_of_double_description() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/rays/rays.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = all["cases"].as_array().unwrap();
    assert!(cases.len() > 50);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let n = case["n"].as_u64().unwrap() as usize;
        let mut d = RowMatrix::from_fn(n, n, |i, j| if i == j { 0.0 } else { f64::INFINITY });
        for entry in case["pr"].as_array().unwrap() {
            let place = |k: usize| entry[k].as_u64().unwrap() as usize;
            d.row_mut(place(0))[place(1)] = -fraction(&entry[2]).ln() + 0.0;
        }
        let names = (0..n).map(|i| i.to_string()).collect();
        let space = Space::from_distances(names, TropicalMatrix::new(d).unwrap()).unwrap();
        let potential = space.potential("the test");
        assert_eq!(potential.is_ok(), case["potential"] == true, "{name}");
        assert!(potential.is_ok() || matches!(potential, Err(MetricError::NoPotential { .. })));
        let wanted: Vec<Vec<f64>> = case["rays"]
            .as_array()
            .unwrap()
            .iter()
            .map(|ray| ray.as_array().unwrap().iter().map(fraction).collect())
            .collect();
        let rays = space.extremal_rays().unwrap();
        assert_eq!(rays.len(), wanted.len(), "{name}");
        for ray in &rays {
            let z: Vec<f64> = ray.log.iter().map(|x| x.exp()).collect();
            let same = |w: &Vec<f64>| w.iter().zip(&z).all(|(w, z)| (w - z).abs() < 1e-9);
            assert_eq!(
                wanted.iter().filter(|w| same(w)).count(),
                1,
                "{name}: {z:?}"
            );
        }
    }
}
