//! How far embeddings have the predicted geometry: against numpy, and where the answer is known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_core::{RowMatrix, SparseRows};
use lawvere_geometry::{
    Classes, ContextLaws, Cosine, Embeddings, GeometryError, MaxMarginOptions,
    NeuralCollapseOptions, Prediction, Vocabulary, finite_logits, logits_cosine, max_margin,
    measure, neural_collapse, proxy,
};
use lawvere_observe::Observation;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

fn options() -> NeuralCollapseOptions {
    NeuralCollapseOptions::default()
}

/// Every number of `expected` is in `found`, under the same names.
fn assert_agree(path: &str, found: &Value, expected: &Value, tolerance: f64) {
    match expected {
        Value::Object(fields) => {
            for (name, value) in fields {
                assert_agree(&format!("{path}.{name}"), &found[name], value, tolerance);
            }
        }
        _ => {
            let (found, expected) = (found.as_f64(), expected.as_f64().unwrap());
            let found = found.unwrap_or_else(|| panic!("{path} is missing"));
            let room = tolerance * expected.abs().max(1.0);
            assert!(
                (found - expected).abs() <= room,
                "{path}: {found} {expected}"
            );
        }
    }
}

#[test]
fn every_measure_is_that_of_numpy() {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let observation = Observation::open(&fixtures.join("measures/observation")).unwrap();
    let text = std::fs::read_to_string(fixtures.join("neural-collapse/expected.json")).unwrap();
    let mut expected: Value = serde_json::from_str(&text).unwrap();
    let laws = ContextLaws::of(&observation, Vocabulary::Occurring).unwrap();
    let whole = Prediction::from_proxy(&laws.supports, usize::MAX, 0).unwrap();
    let dense = Prediction::from_logits(&proxy(&laws.supports)).unwrap();
    let head = observation.head.as_ref().unwrap();
    let tokens = &laws.supports.tokens;
    let words = RowMatrix::from_fn(tokens.len(), head.weight.ncols(), |v, k| {
        head.weight.get(tokens[v] as usize, k)
    });
    let bias = head.bias.as_ref().unwrap();
    let bias: Vec<f32> = tokens.iter().map(|&t| bias[t as usize]).collect();
    for (layer, states) in observation.states.as_ref().unwrap().layers() {
        let embeddings = Embeddings {
            words: &words,
            bias: Some(&bias),
            states,
        };
        let mut expected = expected[layer.to_string()].take();
        let prediction = expected.as_object_mut().unwrap().remove("prediction");
        let prediction = prediction.unwrap();
        // From the sparse supports and from the dense matrix: the same prediction.
        for found in [&whole, &dense] {
            assert_eq!(found.rank() as u64, prediction["rank"].as_u64().unwrap());
            assert!((found.captured() - 1.0).abs() < 1e-12);
            let values = prediction["singular_values"].as_array().unwrap();
            for (value, wanted) in found.singular_values.iter().zip(values) {
                assert!((value - wanted.as_f64().unwrap()).abs() < 1e-9);
            }
            let measures = measure(&laws, found, &embeddings, &options()).unwrap();
            // Of a whole decomposition the prediction's logits are the proxy.
            assert!((measures.prediction.raw - measures.proxy.raw).abs() < 1e-12);
            assert!((measures.prediction.centred - measures.proxy.centred).abs() < 1e-12);
            let cosine = logits_cosine(&embeddings, &proxy(&laws.supports)).unwrap();
            assert!((cosine - measures.proxy.raw).abs() < 1e-12);
            let measures = serde_json::to_value(measures).unwrap();
            assert_agree(&layer.to_string(), &measures, &expected, 1e-9);
        }
    }
}

fn laws(vocabulary: usize, contexts: &[Vec<(u32, f64)>], weights: Vec<f64>) -> ContextLaws {
    let mut rows = SparseRows::new(vocabulary);
    for context in contexts {
        let total: f64 = context.iter().map(|c| c.1).sum();
        rows.push_row(context.iter().map(|&(v, x)| (v, x / total)))
            .unwrap();
    }
    let total: f64 = weights.iter().sum();
    ContextLaws::new(rows, weights.iter().map(|w| w / total).collect()).unwrap()
}

/// Words and states with these logits: `W = U sqrt(s)`, `H = V sqrt(s)`.
fn factors(logits: &RowMatrix<f64>) -> (RowMatrix<f32>, RowMatrix<f32>) {
    let svd = Prediction::from_logits(logits).unwrap();
    let roots: Vec<f64> = svd.singular_values.iter().map(|s| s.sqrt()).collect();
    let scaled = |vectors: &RowMatrix<f64>| {
        RowMatrix::from_fn(vectors.nrows(), roots.len(), |i, k| {
            (vectors.get(i, k) * roots[k]) as f32
        })
    };
    (scaled(&svd.words), scaled(&svd.contexts))
}

fn embeddings<'a>(words: &'a RowMatrix<f32>, states: &'a RowMatrix<f32>) -> Embeddings<'a> {
    Embeddings {
        words,
        bias: None,
        states,
    }
}

fn near(found: f64, wanted: f64, room: f64) {
    assert!((found - wanted).abs() <= room, "{found} {wanted}");
}

/// The overlap of two supports of k tokens among V, as the cosine of their contexts.
fn overlap_cosine(t: f64, k: f64, v: f64) -> f64 {
    (t - k * k / v) / (k - k * k / v)
}

#[test]
fn at_the_predicted_geometry_of_all_subsets_every_measure_is_ideal() {
    let v = 6u32;
    let single = (0..v).map(|a| vec![(a, 1.0)]).collect();
    let pairs = (0..v).flat_map(|a| (a + 1..v).map(move |b| vec![(a, 0.5), (b, 0.5)]));
    let subsets: [Vec<Vec<(u32, f64)>>; 2] = [single, pairs.collect()];
    for (k, subsets) in (1..).zip(subsets) {
        let contexts: Vec<_> = subsets.iter().chain(&subsets).cloned().collect();
        let laws = laws(6, &contexts, vec![1.0; contexts.len()]);
        let logits = proxy(&laws.supports);
        let (words, states) = factors(&logits);
        let prediction = Prediction::from_logits(&logits).unwrap();
        assert_eq!(prediction.rank(), 5);
        let embeddings = embeddings(&words, &states);
        let found = measure(&laws, &prediction, &embeddings, &options()).unwrap();
        for Cosine { raw, centred } in [
            found.context_gram,
            found.word_gram,
            found.prediction,
            found.proxy,
        ] {
            near(raw, 1.0, 1e-12);
            near(centred, 1.0, 1e-12);
        }
        for rank in [found.words_rank, found.states_rank] {
            assert_eq!(rank.numerical, 5);
            near(rank.stable, 5.0, 1e-5);
            near(rank.effective, 5.0, 1e-5);
        }
        near(found.finite.distance, 0.0, 1e-5);
        // Equal laws on every support: L^in is 0, and nothing is along it.
        assert_eq!(found.finite.cosine, 0.0);
        for (strength, value) in found.concepts.iter().zip(&prediction.singular_values) {
            near(*strength, *value, 1e-5);
        }
        near(found.logits_norm, prediction.energy.sqrt(), 1e-5);
        near(found.within.unwrap(), 1.0, 1e-12);
        // Beside one pair of tokens stand 8 that share one of them and 6 that share none.
        let (k, one, none) = match k {
            1 => (1.0, 0.0, 5.0),
            _ => (2.0, 8.0, 6.0),
        };
        let between = one * overlap_cosine(1.0, k, 6.0) + none * overlap_cosine(0.0, k, 6.0);
        near(found.between.unwrap(), between / (one + none), 1e-6);

        let supports = &found.support_collapse;
        let classes = contexts.len() / 2;
        assert_eq!(
            (supports.kind, supports.classes),
            (Classes::EqualSupports, classes)
        );
        assert_eq!(
            (supports.varying_classes, supports.duality),
            (classes, None)
        );
        near(supports.typical_cdnv.unwrap(), 0.0, 1.1e-6);
        let tokens = &found.neural_collapse;
        assert_eq!((tokens.classes, tokens.pairs), (6, 15));
        assert_eq!((tokens.coinciding_pairs, tokens.variance_pairs), (0, 15));
        assert_eq!(tokens.agreement_contexts, contexts.len());
        let is = |spread: Option<lawvere_geometry::Spread>, mean: f64| {
            near(spread.unwrap().mean, mean, 1e-6);
            near(spread.unwrap().deviation, 0.0, 1e-6);
        };
        near(tokens.log_norms.unwrap().deviation, 0.0, 1e-6);
        is(tokens.cosines, -0.2);
        near(tokens.equiangularity.unwrap(), 0.0, 1e-6);
        is(tokens.log_inverse_distances, -0.5 * (12.0f64 / 5.0).ln());
        is(tokens.duality, 1.0);
        is(tokens.centred_duality, 1.0);
        if k == 1.0 {
            near(tokens.cdnv.unwrap().mean, 0.0, 1e-12);
            near(tokens.agreement.unwrap(), 1.0, 1e-12);
        } else {
            // Contexts e_a + e_b less their mean have the square 4/3, the mean of those with token z is
            // 0.8 e_z up to a shift: squares 8/15, distances 1.28, variances 4/3 - 8/15.
            near(tokens.cdnv.unwrap().mean, 0.8 / 1.28, 1e-6);
            near(tokens.cdnv.unwrap().deviation, 0.0, 1e-6);
        }
    }
}

fn random_laws(rng: &mut StdRng, vocabulary: usize, contexts: usize) -> ContextLaws {
    let rows: Vec<Vec<(u32, f64)>> = (0..contexts)
        .map(|_| {
            let keep = |_: &u32| rng.random::<f64>() < 0.3;
            let mut tokens: Vec<u32> = (0..vocabulary as u32).filter(keep).collect();
            if tokens.is_empty() {
                tokens.push(rng.random_range(0..vocabulary as u32));
            }
            let share = |v| (v, rng.random_range(0.1..1.0));
            tokens.into_iter().map(share).collect()
        })
        .collect();
    let weights = (0..contexts).map(|_| rng.random_range(0.1..1.0)).collect();
    laws(vocabulary, &rows, weights)
}

fn random(rng: &mut StdRng, rows: usize, columns: usize) -> RowMatrix<f32> {
    RowMatrix::from_fn(rows, columns, |_, _| rng.random_range(-1.0..1.0))
}

#[test]
fn logits_far_along_the_max_margin_direction_approach_the_entropy_and_keep_the_finite_part() {
    let mut rng = StdRng::seed_from_u64(3);
    let laws = random_laws(&mut rng, 9, 20);
    let margin = max_margin(&laws.supports, &MaxMarginOptions::default(), &mut |_| {}).unwrap();
    let (direction, finite) = (margin.logits(), finite_logits(&laws));
    let prediction = Prediction::from_logits(&direction).unwrap();
    let mut last = f64::INFINITY;
    for length in [2.0, 5.0, 15.0, 40.0] {
        let logits = RowMatrix::from_fn(9, 20, |v, j| {
            length * direction.get(v, j) + finite.get(v, j)
        });
        let (words, states) = factors(&logits);
        let embeddings = embeddings(&words, &states);
        let found = measure(&laws, &prediction, &embeddings, &options()).unwrap();
        assert!(found.excess < last && found.excess >= 0.0);
        last = found.excess;
        near(found.cross_entropy - found.entropy, found.excess, 1e-12);
        near(found.finite.distance, 0.0, 1e-4);
        near(found.finite.correlation, 1.0, 1e-5);
        near(found.finite.slope, 1.0, 1e-5);
        near(logits_cosine(&embeddings, &logits).unwrap(), 1.0, 1e-10);
        if length == 40.0 {
            assert!(found.excess < 1e-9, "{}", found.excess);
            assert!(found.prediction.raw > 0.999);
            assert!(found.context_gram.raw > 0.999 && found.word_gram.raw > 0.999);
        }
    }
}

#[test]
fn a_sample_of_classes_and_contexts_is_near_the_whole_and_says_how_large_it_is() {
    let mut rng = StdRng::seed_from_u64(1);
    let laws = random_laws(&mut rng, 120, 300);
    let (words, states) = (random(&mut rng, 120, 8), random(&mut rng, 300, 8));
    let embeddings = embeddings(&words, &states);
    let whole = neural_collapse(&laws, &embeddings, &options()).unwrap();
    let limited = NeuralCollapseOptions {
        pair_classes: 60,
        agreement_contexts: 100,
        ..options()
    };
    let part = neural_collapse(&laws, &embeddings, &limited).unwrap();
    assert_eq!((whole.pairs, part.pairs), (120 * 119 / 2, 60 * 59 / 2));
    assert_eq!(
        (whole.agreement_contexts, part.agreement_contexts),
        (300, 100)
    );
    assert_eq!((part.classes, part.varying_classes), (120, 120));
    assert_eq!(part.variance_pairs, 60 * 59 / 2);
    let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 0.2, "{a} {b}");
    close(part.cdnv.unwrap().mean, whole.cdnv.unwrap().mean);
    close(part.typical_cdnv.unwrap(), whole.typical_cdnv.unwrap());
    close(part.equiangularity.unwrap(), whole.equiangularity.unwrap());
    assert_eq!(part.duality, whole.duality);
    assert_eq!(part, neural_collapse(&laws, &embeddings, &limited).unwrap());
    let other = NeuralCollapseOptions { seed: 1, ..limited };
    assert_ne!(part, neural_collapse(&laws, &embeddings, &other).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn cosines_do_not_see_scale_rotation_or_a_vector_added_to_all_words(seed in 0u64..1000) {
        let mut rng = StdRng::seed_from_u64(seed);
        let laws = random_laws(&mut rng, 7, 12);
        let prediction = Prediction::from_proxy(&laws.supports, 7, 0).unwrap();
        let (words, states) = (random(&mut rng, 7, 4), random(&mut rng, 12, 4));
        let found = measure(&laws, &prediction, &embeddings(&words, &states), &options()).unwrap();
        // Swapped and negated coordinates, halved words, doubled states, and a shift of all words.
        let turn = |m: &RowMatrix<f32>, scale: f32, shift: [f32; 4]| {
            RowMatrix::from_fn(m.nrows(), 4, |i, k| {
                let sign = if k == 2 { -1.0 } else { 1.0 };
                scale * sign * m.get(i, (k + 1) % 4) + shift[k]
            })
        };
        let shift = [0.5, -1.0, 0.25, 2.0];
        let (turned_words, turned_states) = (turn(&words, 0.5, shift), turn(&states, 2.0, [0.0; 4]));
        let turned = embeddings(&turned_words, &turned_states);
        let turned = measure(&laws, &prediction, &turned, &options()).unwrap();
        let pairs = [
            (found.excess, turned.excess),
            (found.context_gram.raw, turned.context_gram.raw),
            (found.context_gram.centred, turned.context_gram.centred),
            (found.word_gram.centred, turned.word_gram.centred),
            (found.prediction.raw, turned.prediction.raw),
            (found.proxy.centred, turned.proxy.centred),
            (found.finite.distance, turned.finite.distance),
            (found.within.unwrap_or(0.0), turned.within.unwrap_or(0.0)),
            (found.states_rank.effective, turned.states_rank.effective),
        ];
        for (a, b) in pairs {
            prop_assert!((a - b).abs() < 1e-5, "{} {}", a, b);
        }
        let (a, b) = (&found.neural_collapse, &turned.neural_collapse);
        prop_assert!((a.cdnv.unwrap().mean - b.cdnv.unwrap().mean).abs() < 1e-5 * a.cdnv.unwrap().mean.max(1.0));
        let duality = |n: &lawvere_geometry::NeuralCollapse| n.centred_duality.unwrap().mean;
        prop_assert!((duality(a) - duality(b)).abs() < 1e-5);
        prop_assert_eq!(a.agreement.is_some(), b.agreement.is_some());
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let mut rng = StdRng::seed_from_u64(0);
    let laws = random_laws(&mut rng, 5, 6);
    let prediction = Prediction::from_proxy(&laws.supports, 3, 0).unwrap();
    let (words, states) = (random(&mut rng, 5, 3), random(&mut rng, 6, 3));
    let message = |found: Result<_, GeometryError>| -> String {
        let found: Result<lawvere_geometry::GeometryMeasures, _> = found;
        found.unwrap_err().to_string()
    };
    let of =
        |embeddings: Embeddings<'_>| message(measure(&laws, &prediction, &embeddings, &options()));
    let short = random(&mut rng, 5, 2);
    assert!(of(embeddings(&short, &states)).contains("words: expected 5 x 3, found 5 x 2"));
    assert!(of(embeddings(&words, &words)).contains("states: expected 6 x d"));
    let biased = Embeddings {
        bias: Some(&[0.0; 4]),
        ..embeddings(&words, &states)
    };
    assert!(of(biased).contains("bias: expected 5, found 4"));
    let mut broken = states.clone();
    broken.row_mut(2)[1] = f32::NAN;
    assert!(of(embeddings(&words, &broken)).contains("states: the entry at row 2, column 1"));
    let other = random_laws(&mut rng, 5, 7);
    let other = Prediction::from_proxy(&other.supports, 3, 0).unwrap();
    let found = measure(&laws, &other, &embeddings(&words, &states), &options());
    assert!(message(found).contains("predicted contexts"));
    let bad = NeuralCollapseOptions {
        pair_classes: 1,
        ..options()
    };
    let found = measure(&laws, &prediction, &embeddings(&words, &states), &bad);
    assert!(message(found).contains("pair_classes: it is 1"));

    assert!(Prediction::from_proxy(&laws.supports, 0, 0).is_err());
    let full = self::laws(2, &[vec![(0, 0.5), (1, 0.5)]], vec![1.0]);
    let nothing = Prediction::from_proxy(&full.supports, 2, 0).unwrap_err();
    assert!(nothing.to_string().contains("no geometry to compare with"));
    assert!(Prediction::from_logits(&RowMatrix::from_fn(2, 3, |_, j| j as f64)).is_err());
    let nan = RowMatrix::from_fn(2, 3, |_, _| f64::NAN);
    assert!(matches!(
        Prediction::from_logits(&nan),
        Err(GeometryError::NotFinite { .. })
    ));
}

#[test]
fn one_class_or_one_context_leaves_pairs_unmeasured_rather_than_wrong() {
    let laws = laws(3, &[vec![(1, 1.0)]], vec![1.0]);
    let prediction = Prediction::from_proxy(&laws.supports, 3, 0).unwrap();
    let mut rng = StdRng::seed_from_u64(0);
    let (words, states) = (random(&mut rng, 3, 2), random(&mut rng, 1, 2));
    let found = measure(&laws, &prediction, &embeddings(&words, &states), &options()).unwrap();
    assert_eq!((found.within, found.between), (None, None));
    let collapse = &found.neural_collapse;
    assert_eq!(
        (collapse.classes, collapse.cdnv, collapse.cosines),
        (1, None, None)
    );
    assert_eq!(
        (collapse.equiangularity, collapse.typical_cdnv),
        (None, None)
    );
    let text = serde_json::to_string(&found).unwrap();
    assert!(!text.contains("null,\"centred\""), "{text}");
    near(found.context_gram.raw, 1.0, 1e-12);
}
