//! The quantities against numpy, scipy and dit on a small Observation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_core::{RowMatrix, ShapeError};
use lawvere_information::{InformationError, fisher_rao, layer_readings, likelihood};
use lawvere_observe::{BlockSplit, Observation};
use serde_json::Value;

fn fixture() -> (Observation, Value) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/measures");
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let observation = Observation::open(&folder.join("observation")).unwrap();
    (observation, serde_json::from_str(&expected).unwrap())
}

/// States and head are float32, so 1e-5 is what can be asked.
fn close(value: f64, expected: &Value) {
    let expected = expected.as_f64().unwrap();
    assert!(
        (value - expected).abs() <= 1e-5 * expected.abs().max(1.0),
        "{value} {expected}"
    );
}

#[test]
fn cross_entropy_divergence_and_entropy_are_those_of_dit_and_add_up() {
    let (observation, expected) = fixture();
    let result = likelihood(&observation, 0).unwrap();
    close(result.cross_entropy, &expected["cross_entropy"]);
    close(result.divergence, &expected["kl"]);
    close(result.entropy, &expected["entropy"]);
    close(result.head_entropy, &expected["mean_head_entropy"]);
    assert!(result.identity_defect < 1e-9);
    assert_eq!(result.cross_entropy_error, None);
}

#[test]
fn state_prediction_information_and_its_partner_are_those_of_numpy() {
    let (observation, expected) = fixture();
    let mut seen = Vec::new();
    let readings = layer_readings(&observation, &mut |l| seen.push(l)).unwrap();
    assert_eq!(seen, [0, 3]);
    close(readings[1].information, &expected["i_sw"]);
    close(readings[1].leave_one_out, &expected["loo"]);
    close(readings[1].cross_entropy, &expected["cross_entropy"]);
    for reading in &readings {
        assert!(reading.information <= reading.leave_one_out);
        assert!(reading.information <= reading.ceiling);
    }
}

#[test]
fn the_fisher_rao_spectrum_is_that_of_numpy() {
    let (observation, expected) = fixture();
    let fisher = fisher_rao(&observation, 3).unwrap();
    let wanted = expected["fisher_rao"]["eigenvalues"].as_array().unwrap();
    assert_eq!(fisher.eigenvalues.len(), wanted.len());
    fisher
        .eigenvalues
        .iter()
        .zip(wanted)
        .for_each(|(value, wanted)| close(*value, wanted));
    close(
        fisher.effective_rank,
        &expected["fisher_rao"]["effective_rank"],
    );
    close(fisher.anisotropy, &expected["fisher_rao"]["anisotropy"]);
    assert_eq!(fisher.directions.len(), 3);
}

/// The mean over rows of `KL(p_{s+v} || p_s)`.
fn divergence_of_step(observation: &Observation, step: &[f64]) -> f64 {
    let head = observation.head.as_ref().unwrap();
    let (_, states) = observation.states.as_ref().unwrap().last();
    let moved = RowMatrix::from_fn(states.nrows(), states.ncols(), |i, k| {
        states.get(i, k) + step[k] as f32
    });
    let laws = |states: &RowMatrix<f32>| {
        let logits = head.view().logits(states).unwrap();
        let rows = logits.rows().map(|row| {
            let exp: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
            let total: f64 = exp.iter().sum();
            exp.into_iter().map(|x| x / total).collect::<Vec<_>>()
        });
        rows.collect::<Vec<_>>()
    };
    let (p, q) = (laws(&moved), laws(states));
    let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
    p.iter()
        .zip(&q)
        .zip(&observation.weights)
        .map(|((p, q), w)| w * kl(p, q))
        .sum()
}

#[test]
fn a_small_step_diverges_as_half_the_metric() {
    let (observation, _) = fixture();
    let fisher = fisher_rao(&observation, 0).unwrap();
    // Summed over an orthonormal basis, the quadratic form is the trace, whatever the basis.
    let d = fisher.eigenvalues.len();
    let epsilon = 0.02;
    let total: f64 = (0..d)
        .map(|k| {
            let step = |sign: f64| {
                (0..d)
                    .map(|i| sign * epsilon * f64::from(i == k))
                    .collect::<Vec<_>>()
            };
            // The mean over both signs cancels the cubic term.
            (divergence_of_step(&observation, &step(1.0))
                + divergence_of_step(&observation, &step(-1.0)))
                / 2.0
        })
        .sum();
    let predicted = epsilon * epsilon / 2.0 * fisher.trace;
    assert!(
        (total / predicted - 1.0).abs() < 1e-2,
        "{total} {predicted}"
    );
}

#[test]
fn documents_give_standard_errors_that_shrink_to_nothing_when_all_are_alike() {
    let (mut observation, _) = fixture();
    let entries = observation.counts.nnz();
    let split = |shares: &dyn Fn(u64, usize) -> u64| {
        let mut split = BlockSplit {
            indptr: vec![0],
            blocks: vec![],
            counts: vec![],
        };
        for (k, &count) in observation.counts.values().iter().enumerate() {
            let first = shares(count, k);
            for (block, part) in [(0, first), (1, count - first)] {
                if part > 0 {
                    split.blocks.push(block);
                    split.counts.push(part as u32);
                }
            }
            split.indptr.push(split.blocks.len() as u64);
        }
        split
    };
    let uneven = split(&|count, k| if k < entries / 2 { count } else { 0 });
    observation.counts = observation.counts.map(|_, c| c * 2);
    let even = BlockSplit {
        indptr: (0..=entries as u64).map(|k| 2 * k).collect(),
        blocks: [0, 1].repeat(entries),
        counts: observation
            .counts
            .values()
            .iter()
            .flat_map(|&c| [c as u32 / 2; 2])
            .collect(),
    };
    observation.blocks = Some(even);
    let alike = likelihood(&observation, 1).unwrap();
    assert!(alike.cross_entropy_error.unwrap() < 1e-12);
    let information = layer_readings(&observation, &mut |_| {}).unwrap();
    assert!(information[1].information_error.unwrap() < 1e-6);
    observation.counts = observation.counts.map(|_, c| c / 2);
    observation.blocks = Some(uneven);
    assert!(
        likelihood(&observation, 1)
            .unwrap()
            .cross_entropy_error
            .unwrap()
            > 0.01
    );
}

#[test]
fn an_outcome_the_model_does_not_have_is_named() {
    let (mut observation, _) = fixture();
    let vocab = observation.info.vocab_size as u32;
    let mut counts = lawvere_core::SparseRows::new(vocab as usize + 1);
    counts.push_row([(3, 1), (vocab, 2)]).unwrap();
    for (tokens, values) in observation.counts.rows().skip(1) {
        counts
            .push_row(tokens.iter().copied().zip(values.iter().copied()))
            .unwrap();
    }
    observation.counts = counts;
    let error = likelihood(&observation, 0).unwrap_err();
    assert!(matches!(
        error,
        InformationError::NotAbsolutelyContinuous { .. }
    ));
    let said = error.to_string();
    let context = observation.row_label(0);
    assert!(
        said.contains("end of document") && said.contains(&format!("`{context}`")),
        "{error}"
    );
}

#[test]
fn what_an_observation_does_not_hold_is_named() {
    let (mut observation, _) = fixture();
    observation.head.as_mut().unwrap().norm = None;
    let unread = layer_readings(&observation, &mut |_| {}).unwrap_err();
    assert!(matches!(unread, InformationError::Shape(ShapeError { .. })));
    observation.head.as_mut().unwrap().soft_cap = Some(30.0);
    let capped = fisher_rao(&observation, 0);
    assert!(matches!(capped, Err(InformationError::SoftCap(_))));
    observation.states = None;
    assert_eq!(
        fisher_rao(&observation, 0),
        Err(InformationError::NeedsModel)
    );
}
