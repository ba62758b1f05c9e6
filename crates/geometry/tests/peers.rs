//! Max-margin values and logits against cvxpy with Clarabel and SCS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_core::SparseRows;
use lawvere_geometry::{MaxMarginOptions, Supports, max_margin, proxy};
use serde_json::Value;

fn fixture() -> Vec<Value> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/max-margin/margin.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    all["cases"].as_array().unwrap().clone()
}

fn supports(case: &Value) -> Supports {
    let mut rows = SparseRows::new(case["vocabulary"].as_u64().unwrap() as usize);
    for support in case["supports"].as_array().unwrap() {
        let tokens = support.as_array().unwrap().iter();
        rows.push_row(tokens.map(|v| (v.as_u64().unwrap() as u32, 1.0)))
            .unwrap();
    }
    Supports::from_rows(rows).unwrap()
}

#[test]
fn max_margin_values_and_logits_are_those_of_clarabel_and_scs() {
    let (mut small, mut large, mut compared) = (0, 0, 0);
    for case in fixture() {
        let name = case["name"].as_str().unwrap();
        let supports = supports(&case);
        let options = MaxMarginOptions::default();
        let found = max_margin(&supports, &options, &mut |_| {}).unwrap();
        assert!(found.converged, "{name}: {}", found.relative_gap);
        let value = case["value"].as_f64().unwrap();
        let lower = case["lower_bound"].as_f64().unwrap();
        let error = (found.value - value).abs() / value.max(1.0);
        let entries = supports.vocabulary() * supports.contexts();
        let tolerance = match entries <= 1600 {
            true => 1e-6,
            false => 1e-5,
        };
        assert!(error <= tolerance, "{name}: {} {value}", found.value);
        // The two brackets of the optimum overlap.
        let slack = 1e-9 * value;
        assert!(found.lower_bound <= value + slack && lower <= found.value + slack);
        small += usize::from(entries <= 1600);
        large += usize::from(entries > 1600);
        let Some(wanted) = case["logits"].as_array() else {
            continue;
        };
        let logits = found.logits();
        let proxy = proxy(&supports);
        let (mut off, mut apart) = (0.0f64, 0.0f64);
        for (v, row) in wanted.iter().enumerate() {
            for (j, wanted) in row.as_array().unwrap().iter().enumerate() {
                off = off.max((logits.get(v, j) - wanted.as_f64().unwrap()).abs());
                apart = apart.max((proxy.get(v, j) - wanted.as_f64().unwrap()).abs());
            }
        }
        assert!(off <= 2e-3, "{name}: {off}");
        compared += usize::from(apart > 0.02);
    }
    assert_eq!((small, large), (14, 3));
    assert!(
        compared >= 4,
        "the proxy would do as well in all but {compared}"
    );
}
