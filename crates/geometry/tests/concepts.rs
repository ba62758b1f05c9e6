//! Concepts against numpy and scikit-learn on a small pattern with planted groups.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_core::{RowMatrix, SparseRows};
use lawvere_geometry::{
    Captured, Concepts, GeometryError, KMeansOptions, Orthant, Supports, align, concepts, k_means,
};
use proptest::prelude::*;
use serde_json::Value;

fn expected() -> Value {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/concepts/expected.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

fn matrix(value: &Value) -> RowMatrix<f64> {
    let rows: Vec<Vec<f64>> = value.as_array().unwrap().iter().map(numbers).collect();
    RowMatrix::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
}

fn embeddings(value: &Value) -> RowMatrix<f32> {
    let wide = matrix(value);
    let narrow = RowMatrix::from_fn(wide.nrows(), wide.ncols(), |i, j| wide.get(i, j) as f32);
    assert!(
        narrow
            .data()
            .iter()
            .zip(wide.data())
            .all(|(&x, &y)| f64::from(x) == y)
    );
    narrow
}

fn supports(value: &Value) -> Supports {
    let mut rows = SparseRows::new(40);
    for context in value.as_array().unwrap() {
        let tokens = numbers(context).into_iter().map(|v| (v as u32, 1.0));
        rows.push_row(tokens).unwrap();
    }
    Supports::from_rows(rows).unwrap()
}

fn close(found: f64, wanted: &Value, tolerance: f64) {
    let wanted = wanted.as_f64().unwrap();
    assert!((found - wanted).abs() <= tolerance, "{found} {wanted}");
}

fn found() -> (Concepts, Value) {
    let expected = expected();
    (
        concepts(&supports(&expected["supports"]), 5, 0).unwrap(),
        expected,
    )
}

#[test]
fn the_triplets_are_those_of_numpy_signs_included() {
    let (concepts, expected) = found();
    assert!(concepts.converged && concepts.len() == 5);
    close(concepts.energy, &expected["energy"], 1e-9);
    for (k, (s, wanted)) in concepts
        .singular_values
        .iter()
        .zip(numbers(&expected["singular_values"]))
        .enumerate()
    {
        assert!((s - wanted).abs() < 1e-9, "{k} {s} {wanted}");
    }
    for (vectors, name) in [(&concepts.words, "words"), (&concepts.contexts, "contexts")] {
        for (x, y) in vectors.data().iter().zip(matrix(&expected[name]).data()) {
            assert!((x - y).abs() < 1e-8, "{name} {x} {y}");
        }
    }
}

#[test]
fn the_ends_of_a_concept_are_its_largest_coordinates_either_way() {
    let (concepts, expected) = found();
    let all = matrix(&expected["words"]);
    for k in 0..5 {
        let concept = concepts.concept(k, 4).unwrap();
        let mut order: Vec<(u32, f64)> = (0..40).map(|v| (v as u32, all.get(v, k))).collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        let tokens: Vec<u32> = concept.tokens.iter().map(|t| t.0).collect();
        assert_eq!(tokens, order[..4].iter().map(|t| t.0).collect::<Vec<_>>());
        let opposite = concept.opposite_tokens[0];
        assert_eq!(opposite.0, order[39].0);
        assert!(opposite.1 < 0.0 && concept.contexts.len() == 4);
    }
    assert!(concepts.concept(5, 4).is_err());
}

#[test]
fn orthants_hold_the_rows_that_numpy_puts_there() {
    let (concepts, expected) = found();
    let wanted = &expected["orthants"];
    let small = wanted["small"].as_f64().unwrap();
    let check = |found: Vec<Orthant>, wanted: &Value| {
        let wanted = wanted.as_array().unwrap();
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(wanted) {
            let signs: Vec<f64> = found.signs.iter().map(|&s| f64::from(s)).collect();
            assert_eq!(signs, numbers(&wanted["signs"]));
            for ((i, norm), wanted) in found
                .members
                .iter()
                .zip(wanted["members"].as_array().unwrap())
            {
                assert_eq!(*i as u64, wanted[0].as_u64().unwrap());
                close(*norm, &wanted[1], 1e-8);
            }
        }
    };
    check(
        concepts.word_orthants(&[0, 1, 2], small).unwrap(),
        &wanted["words"],
    );
    check(
        concepts.context_orthants(&[0, 1, 2], small).unwrap(),
        &wanted["contexts"],
    );
}

#[test]
fn clusters_are_those_of_scikit_learn_up_to_their_names() {
    let (concepts, expected) = found();
    for (coordinates, name) in [
        (concepts.word_coordinates(), "words"),
        (concepts.context_coordinates(), "contexts"),
    ] {
        let three = RowMatrix::from_fn(coordinates.nrows(), 3, |i, k| coordinates.get(i, k));
        let wanted = &expected["clusters"][name];
        let labels = numbers(&wanted["labels"]);
        for seed in 0..5 {
            let options = KMeansOptions {
                seed,
                ..Default::default()
            };
            let found = k_means(&three, 4, &options).unwrap();
            close(found.inertia, &wanted["inertia"], 1e-7);
            for i in 0..labels.len() {
                for j in 0..i {
                    assert_eq!(found.labels[i] == found.labels[j], labels[i] == labels[j]);
                }
            }
        }
    }
}

#[test]
fn alignments_and_their_controls_are_those_of_the_definitions() {
    let (concepts, expected) = found();
    let words = embeddings(&expected["word_embeddings"]);
    let states = embeddings(&expected["states"]);
    let alignment = align(&concepts, &words, &states).unwrap();
    let check = |found: &Captured, wanted: &Value| {
        close(found.leading, &wanted["leading"], 1e-7);
        close(found.leading_shuffled, &wanted["leading_shuffled"], 1e-7);
        close(found.leading_matched, &wanted["leading_matched"], 1e-7);
        close(found.any, &wanted["any"], 1e-7);
        close(found.any_shuffled, &wanted["any_shuffled"], 1e-7);
    };
    for (found, wanted) in alignment
        .iter()
        .zip(expected["alignment"].as_array().unwrap())
    {
        check(&found.words, &wanted["words"]);
        check(&found.contexts, &wanted["contexts"]);
        close(found.strength, &wanted["strength"], 1e-9);
        close(found.proxy_strength, &wanted["proxy_strength"], 1e-9);
        close(found.strength_shuffled, &wanted["strength_shuffled"], 1e-9);
        close(found.strength_matched, &wanted["strength_matched"], 1e-9);
    }
}

#[test]
fn embeddings_that_are_the_factors_hold_every_concept_as_the_proxy_does() {
    let (concepts, expected) = found();
    let all = self::concepts(&supports(&expected["supports"]), 40, 0).unwrap();
    let narrow =
        |m: RowMatrix<f64>| RowMatrix::from_fn(m.nrows(), m.ncols(), |i, j| m.get(i, j) as f32);
    let (words, states) = (
        narrow(all.word_coordinates()),
        narrow(all.context_coordinates()),
    );
    for concept in align(&concepts, &words, &states).unwrap() {
        assert!(concept.words.leading > 1.0 - 1e-5 && concept.contexts.leading > 1.0 - 1e-5);
        assert!((concept.strength - concept.proxy_strength).abs() < 1e-5);
    }
}

#[test]
fn embeddings_that_do_not_fit_are_named() {
    let (concepts, expected) = found();
    let words = embeddings(&expected["word_embeddings"]);
    let states = embeddings(&expected["states"]);
    let fewer = RowMatrix::from_fn(39, 7, |i, j| words.get(i, j));
    let narrower = RowMatrix::from_fn(90, 6, |i, j| states.get(i, j));
    let message =
        |w: &RowMatrix<f32>, h: &RowMatrix<f32>| align(&concepts, w, h).unwrap_err().to_string();
    assert!(message(&fewer, &states).contains("words"));
    assert!(message(&words, &narrower).contains("states"));
    let mut bad = states.clone();
    bad.row_mut(3)[2] = f32::NAN;
    assert!(matches!(
        align(&concepts, &words, &bad),
        Err(GeometryError::NotFinite {
            what: "states",
            row: 3,
            column: 2,
            ..
        })
    ));
    // Nothing but zeros holds nothing.
    let none = align(&concepts, &RowMatrix::zeros(40, 7), &states).unwrap();
    assert!(
        none.iter()
            .all(|c| c.strength == 0.0 && c.words.leading == 0.0 && c.words.any == 0.0)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_aligned_does_not_depend_on_the_basis_of_the_embeddings(angle in 0.1f64..3.0, scale in 0.5f32..8.0) {
        let (concepts, expected) = found();
        let words = embeddings(&expected["word_embeddings"]);
        let states = embeddings(&expected["states"]);
        let (sin, cos) = (angle.sin() as f32, angle.cos() as f32);
        let turned = |m: &RowMatrix<f32>, scale: f32| RowMatrix::from_fn(m.nrows(), 7, |i, j| scale * match j {
            0 => cos * m.get(i, 0) - sin * m.get(i, 1),
            1 => sin * m.get(i, 0) + cos * m.get(i, 1),
            _ => m.get(i, j),
        });
        let one = align(&concepts, &words, &states).unwrap();
        let other = align(&concepts, &turned(&words, scale), &turned(&states, 1.0)).unwrap();
        for (a, b) in one.iter().zip(&other) {
            prop_assert!((a.strength - b.strength).abs() < 1e-5);
            prop_assert!((a.words.leading - b.words.leading).abs() < 1e-4);
            prop_assert!((a.contexts.any - b.contexts.any).abs() < 1e-4);
            prop_assert!((a.strength_matched - b.strength_matched).abs() < 1e-4);
        }
    }
}
