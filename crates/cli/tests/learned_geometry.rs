//! Concepts by their names, and what networks come to along their training beside what is predicted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{fail, folder_with, lawvere, succeed};
use lawvere::arrays::{MatrixFile, write_columns, write_dense};
use lawvere::core::{RowMatrix, SparseRows};
use lawvere::geometry::{ContextLaws, PathOptions, Penalties, Vocabulary, path};
use lawvere::observation::Observation;
use serde_json::Value;

const SENTENCES: &[u8] = include_bytes!("../../../examples/twenty-sentences.txt");
const ORDER_ONE: [&str; 4] = ["--order", "1", "--min-count", "1"];

fn json(folder: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&succeed(folder, &[args, &["--json", "--quiet"]].concat())).unwrap()
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn labels(some: &Value) -> BTreeSet<String> {
    let some = some.as_array().unwrap().iter();
    some.map(|x| x["label"].as_str().unwrap().to_owned())
        .collect()
}

fn named(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn dense(path: &Path) -> RowMatrix<f64> {
    let file = MatrixFile::read(path).unwrap();
    file.matrix.into_dense(path).unwrap()
}

/// Trains unconstrained features on the contexts of the sentences.
fn train(at: &Path, more: &[&str], out: &str) -> Value {
    let corpus = ["train", "--corpus", "sentences.txt", "--kind", "ufm"];
    let args = [&corpus[..], &ORDER_ONE, more, &["--out", out]].concat();
    json(at, &args)["training"].clone()
}

#[test]
fn concepts_are_told_by_name_and_are_those_of_the_dense_matrix() {
    let folder = folder_with(&[("sentences.txt", SENTENCES)]);
    let at = folder.path();
    let source = ["--corpus", "sentences.txt"];
    let source = [&source[..], &ORDER_ONE].concat();
    let written = ["--out", "S.npz"];
    succeed(
        at,
        &[&["geometry", "supports"], &source[..], &written].concat(),
    );
    let files = ["--out-words", "U.npy", "--out-contexts", "V.npy"];
    let command = ["geometry", "concepts", "--rank", "30"];
    let found = json(at, &[&command[..], &source, &files].concat());

    let s = dense(&at.join("S.npz"));
    let (tokens, contexts) = (s.nrows(), s.ncols());
    let mean = |j: usize| (0..tokens).map(|v| s.get(v, j)).sum::<f64>() / tokens as f64;
    let centred = RowMatrix::from_fn(tokens, contexts, |v, j| s.get(v, j) - mean(j));
    let values = centred.view().singular_values().unwrap();
    let told = found["singular_values"].as_array().unwrap();
    assert_eq!(told.len(), tokens.min(contexts));
    for (told, value) in told.iter().zip(&values) {
        assert!((number(told) - value).abs() < 1e-7, "{told} {value}");
    }
    assert!((number(&found["captured"]) - 1.0).abs() < 1e-9);
    // U^T S~ V is diagonal, with the singular values.
    let (u, v) = (dense(&at.join("U.npy")), dense(&at.join("V.npy")));
    let core = u.view().transpose() * centred.view() * v.view();
    for a in 0..told.len() {
        for b in 0..told.len() {
            let wanted = if a == b { values[a] } else { 0.0 };
            assert!((core[(a, b)] - wanted).abs() < 1e-7, "{a} {b}");
        }
    }

    // Verbs and the end follow nouns; nouns follow the article.
    let first = &found["concepts"][0];
    let verbs = labels(&first["tokens"]);
    for verb in ["sat", "slept", "sang", "ran"] {
        assert!(verbs.contains(verb), "{verbs:?}");
    }
    assert!(labels(&first["contexts"]).contains("dog"));
    assert!(labels(&first["opposite_contexts"]).contains("the"));
    for (group, count) in [("orthants", 27), ("clusters", 8)] {
        for (what, n) in [("words", tokens), ("contexts", contexts)] {
            let groups = found[group][what].as_array().unwrap();
            let sizes = groups.iter().map(|g| number(&g["size"]) as usize);
            assert_eq!(sizes.sum::<usize>(), n);
            assert!(groups.len() <= count);
        }
    }

    // As the tutorial tells.
    let few = ["--rank", "6", "--clusters", "4"];
    let told = json(at, &[&["geometry", "concepts"], &source[..], &few].concat());
    let words = told["clusters"]["words"].as_array().unwrap();
    assert!(labels(&words[0]["members"]).is_superset(&named(&["cat", "dog", "garden", "boy"])));
    assert_eq!(
        labels(&words[1]["members"]),
        named(&["the", "in", "on", "to"])
    );
    let second = &told["concepts"][1];
    assert!(labels(&second["tokens"]).is_superset(&named(&["in", "on", "to"])));
    assert!(labels(&second["opposite_tokens"]).is_superset(&named(&["cat", "boy"])));

    // A matrix has numbers for names; the file holds what the corpus does.
    let of_matrix = json(at, &[&command[..], &["--support", "S.npz"]].concat());
    assert_eq!(of_matrix["singular_values"], found["singular_values"]);
    let id = |found: &Value| found["concepts"][0]["contexts"][0]["id"].clone();
    assert_eq!(id(&of_matrix), id(&found));
    let label = format!("column {}", id(&found));
    assert_eq!(of_matrix["concepts"][0]["contexts"][0]["label"], label);
    let text = succeed(
        at,
        &[
            &command[..],
            &source,
            &["--orthants", "0", "--clusters", "0"],
        ]
        .concat(),
    );
    assert!(
        text.contains("\u{201c}slept\u{201d}") && !text.contains("clusters"),
        "{text}"
    );
}

#[test]
fn a_network_that_has_learned_has_the_concepts() {
    let folder = folder_with(&[("sentences.txt", SENTENCES)]);
    let at = folder.path();
    for (steps, out) in [("1", "fresh"), ("1500", "trained")] {
        let record = train(at, &["--width", "24", "--steps", steps], out);
        let observation = format!("{out}/observation");
        let command = ["geometry", "concepts", "--rank", "4", "--observation"];
        let found = json(at, &[&command[..], &[observation.as_str()]].concat());
        let layers = found["alignment"].as_array().unwrap();
        assert_eq!((layers.len(), &layers[0]["layer"]), (1, &0.into()));
        for concept in layers[0]["concepts"].as_array().unwrap() {
            let [strength, matched, proxy] = ["strength", "strength_matched", "proxy_strength"]
                .map(|name| number(&concept[name]));
            match out {
                "fresh" => assert!(strength.abs() < 0.5 * proxy, "{concept}"),
                _ => assert!(
                    strength > 0.6 * proxy && strength > 2.0 * matched,
                    "{concept}"
                ),
            }
        }
        let cosine = number(&record["along"]["logits_cosine"]);
        assert!((cosine > 0.8) == (out == "trained"), "{cosine}");
        let text = succeed(at, &[&command[..], &[observation.as_str()]].concat());
        assert!(text.contains("by concept, at the head's input"), "{text}");
    }
}

#[test]
fn a_training_with_ridge_ends_at_the_solution_of_the_path() {
    let folder = folder_with(&[("sentences.txt", SENTENCES)]);
    let at = folder.path();
    let ridge = 2e-3;
    let settings = ["--width", "24", "--steps", "30000", "--ridge", "2e-3"];
    let descent = ["--optimizer", "gd", "--learning-rate", "4", "--clip", "0"];
    let record = train(at, &[&settings[..], &descent].concat(), "out");

    let observation = Observation::open(&at.join("out/observation")).unwrap();
    let laws = ContextLaws::of(&observation, Vocabulary::Full).unwrap();
    let options = PathOptions {
        penalties: Penalties::These(vec![1e-2, ridge]),
        ..PathOptions::default()
    };
    let solved = path(&laws, None, &options, &mut |_| {}).unwrap();
    let point = &solved.points[1];
    let along = &record["along"];
    let excess = number(&along["excess"]);
    assert!(
        (excess / point.excess - 1.0).abs() < 1e-3,
        "{excess} {}",
        point.excess
    );
    // min CE + ridge (|W|^2 + |H|^2) / 2 = min CE + ridge |L|_*.
    let losses = record["losses"].as_array().unwrap();
    let least = laws.entropy() + point.excess + ridge * point.nuclear_norm;
    let last = number(losses.last().unwrap());
    assert!((last - least).abs() < 1e-5, "{last} {least}");

    let wanted = solved.logits(1).unwrap();
    let head = &observation.head.as_ref().unwrap().weight;
    let (_, states) = observation.states.as_ref().unwrap().last();
    let mut off = 0.0;
    let mut size = 0.0;
    for j in 0..states.nrows() {
        let logit = |v: usize| -> f64 {
            let pairs = head.row(v).iter().zip(states.row(j));
            pairs.map(|(w, h)| f64::from(*w) * f64::from(*h)).sum()
        };
        let mean = (0..head.nrows()).map(logit).sum::<f64>() / head.nrows() as f64;
        for v in 0..head.nrows() {
            off += (logit(v) - mean - wanted.get(v, j)).powi(2);
            size += wanted.get(v, j).powi(2);
        }
    }
    assert!((off / size).sqrt() < 2e-3, "{}", (off / size).sqrt());
}

#[test]
fn every_network_leaves_its_measures_step_by_step() {
    let folder = folder_with(&[("sentences.txt", SENTENCES)]);
    let at = folder.path();
    for kind in ["ufm", "mlp", "lstm", "transformer"] {
        let sizes = ["--width", "16", "--layers", "1", "--heads", "2"];
        let corpus = ["train", "--corpus", "sentences.txt", "--kind", kind];
        let rest = [
            "--labels", "soft", "--steps", "70", "--warmup", "5", "--out", kind,
        ];
        let args = [&corpus[..], &ORDER_ONE, &sizes, &rest].concat();
        let record = json(at, &args)["training"].clone();
        let along = &record["along"];
        assert_eq!(along["prediction"], "max-margin");
        assert!(number(&along["relative_gap"]) <= 1e-6);
        let text = std::fs::read_to_string(at.join(kind).join("measures.jsonl")).unwrap();
        let points: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let steps: Vec<&Value> = points.iter().map(|p| &p["step"]).collect();
        assert_eq!(steps, [0, 1, 2, 5, 10, 20, 50, 70], "{kind}");
        for (k, point) in points.iter().enumerate() {
            let measures = &point["measures"];
            assert_eq!(measures["entropy"], along["entropy"]);
            if k < 7 {
                // The loss before a step is the cross-entropy after those made, up to f32.
                let loss = number(&record["losses"][number(&point["step"]) as usize]);
                let off = (number(&measures["cross_entropy"]) - loss).abs();
                assert!(off < 1e-5, "{kind} {point} {loss}");
            }
        }
        let end = &points[7]["measures"];
        assert_eq!(end["excess"], along["excess"]);
        assert_eq!(end["prediction"]["raw"], along["logits_cosine"]);
        assert!(number(&end["excess"]) < number(&points[0]["measures"]["excess"]));
    }
    // The same run is found; measures of another kind are asked for with another folder.
    let found = succeed(
        at,
        &[
            &[
                "train",
                "--corpus",
                "sentences.txt",
                "--kind",
                "ufm",
                "--steps",
                "9",
            ][..],
            &ORDER_ONE,
            &["--measures", "none", "--out", "none"],
        ]
        .concat(),
    );
    assert!(!found.contains("measures"), "{found}");
    assert!(!at.join("none/measures.jsonl").exists());
    let proxy = train(at, &["--steps", "9", "--measures", "proxy"], "proxy");
    assert_eq!(proxy["along"]["prediction"], "proxy");
    assert_eq!(proxy["along"]["relative_gap"], Value::Null);
}

#[test]
fn questions_without_an_answer_are_refused() {
    let folder = folder_with(&[("sentences.txt", SENTENCES)]);
    let at = folder.path();
    let full = RowMatrix::from_fn(3, 4, |_, _| 1.0);
    write_dense(&at.join("full.npy"), "matrix", &full).unwrap();
    let mut hole = full.clone();
    (0..3).for_each(|v| hole.row_mut(v)[1] = 0.0);
    write_dense(&at.join("hole.npy"), "matrix", &hole).unwrap();
    let command = ["geometry", "concepts", "--corpus", "sentences.txt"];
    let with = |more: &[&'static str]| [&command[..], &ORDER_ONE, more].concat();
    let left = ["U.npy"];
    fail(at, &with(&["--rank", "0"]), 2, &["--rank"], &left);
    fail(
        at,
        &with(&["--small", "1"]),
        2,
        &["--small", "below 1"],
        &left,
    );
    fail(
        at,
        &with(&["--out-words", "U.txt"]),
        2,
        &["U.txt", ".npy"],
        &left,
    );
    fail(at, &["geometry", "concepts"], 2, &["--support"], &left);
    let of = |file: &'static str| {
        [
            "geometry",
            "concepts",
            "--out-words",
            "U.npy",
            "--support",
            file,
        ]
    };
    fail(at, &of("hole.npy"), 1, &["hole.npy", "context 1"], &left);
    fail(at, &of("none.npy"), 1, &["none.npy"], &left);
    let same = ["--out-words", "U.npy", "--out-contexts", "./U.npy"];
    fail(at, &with(&same), 2, &["U.npy", "another name"], &left);
    let wide = SparseRows::from_parts(
        200_000,
        (0..=200_000).collect(),
        (0..200_000).collect(),
        vec![1.0; 200_000],
    );
    write_columns(&at.join("wide.npz"), "support", &wide.unwrap(), &[]).unwrap();
    let many = [
        "geometry",
        "concepts",
        "--rank",
        "150000",
        "--support",
        "wide.npz",
    ];
    fail(at, &many, 2, &["150000 concepts", "--rank"], &left);
    // Where every token follows every context there are concepts of strength 0, and no training is held
    // against anything.
    let found = json(at, &["geometry", "concepts", "--support", "full.npy"]);
    assert!(number(&found["singular_values"][0]) < 1e-9);
    let text = [
        "train",
        "--corpus",
        "sentences.txt",
        "--measures",
        "auto",
        "--out",
        "U.npy",
    ];
    fail(at, &text, 2, &["--measures", "--labels soft"], &left);
    std::fs::write(at.join("one.txt"), "a a\na a\n").unwrap();
    let train = [
        "train", "--corpus", "one.txt", "--kind", "ufm", "--steps", "2", "--out", "one",
    ];
    let told = lawvere(at, &[&train[..], &ORDER_ONE].concat());
    assert!(told.status.success());
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(told.contains("no measures: "), "{told}");
}
