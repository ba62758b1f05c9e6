//! `lawvere information`: what it answers, held against closed forms, exact values of the built-in
//! language and the fixture, and what it says to bad input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};

use common::{fail, folder_with, succeed};
use lawvere::arrays::{write_dense, write_vector};
use lawvere::core::RowMatrix;
use lawvere::text::Language;
use serde_json::Value;

fn fixture() -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = root.join("fixtures/information/observation");
    folder.to_str().unwrap().to_owned()
}

fn json(folder: &Path, args: &[&str]) -> Value {
    let args = [&["information"], args, &["--json", "--quiet"]].concat();
    let printed = succeed(folder, &args);
    assert!(
        !printed.contains("null") && !printed.contains("NaN"),
        "{printed}"
    );
    serde_json::from_str(&printed).unwrap()
}

fn refused(folder: &Path, args: &[&str], status: i32, wanted: &[&str]) {
    let args = [&["information"], args].concat();
    fail(folder, &args, status, wanted, &[]);
}

#[track_caller]
fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn put(folder: &Path, name: &str, rows: &[&[f64]]) {
    let matrix = RowMatrix::from_vec(rows.concat(), rows.len(), rows[0].len()).unwrap();
    write_dense(&folder.join(name), "kernel", &matrix).unwrap();
}

#[test]
fn a_kernel_has_its_closed_forms() {
    let folder = folder_with(&[]);
    let at = folder.path();
    put(at, "k.npy", &[&[0.5, 0.5, 0.0], &[1.0, 0.0, 0.0]]);
    write_vector(&at.join("p.npy"), "state", &[0.25, 0.75]).unwrap();
    let found = json(at, &["kernel", "--kernel", "k.npy", "--state", "p.npy"]);
    let log2 = 2f64.ln();
    assert!((number(&found["per_row"][0]) - log2).abs() < 1e-12);
    assert_eq!(number(&found["per_row"][1]), 0.0);
    assert!((number(&found["mean"]) - log2 / 4.0).abs() < 1e-12);
    // H(Y) - H(Y|X) with Y = (7/8, 1/8).
    let marginal = -(0.875 * 0.875f64.ln() + 0.125 * 0.125f64.ln());
    let information = number(&found["mutual_information"]);
    assert!((information - (marginal - log2 / 4.0)).abs() < 1e-12);
    // Uniform without a state; infinities by their name.
    let reverse = json(
        at,
        &["kernel", "--kernel", "k.npy", "--divergence", "reverse-kl"],
    );
    assert_eq!(reverse["per_row"], serde_json::json!(["inf", 0.0]));
    assert_eq!(reverse["mean"], "inf");
    let renyi = json(
        at,
        &["kernel", "--kernel", "k.npy", "--divergence", "renyi:inf"],
    );
    assert!((number(&renyi["mean"]) - log2 / 2.0).abs() < 1e-12);
}

#[test]
fn kernels_that_are_none_are_refused() {
    let folder = folder_with(&[("text.npy", b"no array")]);
    let at = folder.path();
    put(at, "long.npy", &[&[0.5, 0.5], &[0.5, 0.6]]);
    put(at, "negative.npy", &[&[1.5, -0.5]]);
    put(at, "nan.npy", &[&[f64::NAN, 1.0]]);
    put(at, "k.npy", &[&[0.5, 0.5]]);
    write_vector(&at.join("p.npy"), "state", &[0.5, 0.5]).unwrap();
    let kernel = |name: &'static str| ["kernel", "--kernel", name];
    refused(
        at,
        &kernel("long.npy"),
        1,
        &["long.npy", "row 1 sums to 1.1"],
    );
    refused(at, &kernel("negative.npy"), 1, &["row 0, column 1", "-0.5"]);
    refused(at, &kernel("nan.npy"), 1, &["row 0, column 0", "NaN"]);
    refused(at, &kernel("text.npy"), 1, &["text.npy"]);
    refused(at, &kernel("none.npy"), 1, &["none.npy"]);
    let state = ["kernel", "--kernel", "k.npy", "--state", "p.npy"];
    refused(at, &state, 1, &["p.npy", "2 probabilities", "1 rows"]);
    let unknown = ["kernel", "--kernel", "k.npy", "--divergence", "euclid"];
    refused(at, &unknown, 2, &["euclid", "reverse-kl", "renyi"]);
}

#[test]
fn every_measure_of_contexts_answers_in_words_and_in_json() {
    let folder = folder_with(&[]);
    let at = folder.path();
    let observation = fixture();
    let commands: [(&[&str], &str); 7] = [
        (&["nll", "--per-context"], "cross_entropy"),
        (&["stochasticity"], "divergences"),
        (&["layers"], "coherence"),
        (
            &["fisher", "--spectra", "5", "--pairs", "5", "--layers", "1"],
            "paths",
        ),
        (&["distances"], "total_variation"),
        (&["alignment"], "layers"),
        (
            &["divergence", "--a", "rows:0-9", "--b", "rows:20-34"],
            "divergences",
        ),
    ];
    for (command, key) in commands {
        let args = [command, &["--observation", &observation]].concat();
        let told = succeed(at, &[&["information"], &args[..], &["--quiet"]].concat());
        assert!(told.lines().count() > 1, "{told}");
        let printed = succeed(
            at,
            &[&["information"], &args[..], &["--json", "--quiet"]].concat(),
        );
        assert!(!printed.contains("NaN"), "{printed}");
        let found: Value = serde_json::from_str(&printed).unwrap();
        assert!(!found[key].is_null(), "{command:?}: {printed}");
        assert_eq!(found["rows"], 40);
        assert_eq!(found["provenance"]["schema"], "lawvere-information/1");
        assert!(found["source"]["sha256"][0].is_string());
        // The same whatever the threads.
        let one = [
            &["information"],
            &args[..],
            &["--json", "--quiet", "--threads", "1"],
        ]
        .concat();
        let mut one: Value = serde_json::from_str(&succeed(at, &one)).unwrap();
        let mut found = found;
        for result in [&mut one, &mut found] {
            let of = result.as_object_mut().unwrap();
            of.retain(|key, _| key != "provenance" && !key.ends_with("seconds"));
        }
        assert_eq!(one, found, "{command:?}");
    }
    let kernels = ["bhattacharyya", "hellinger:2", "exp-jensen-shannon"];
    let args = [
        &["similarity", "--observation", &observation, "--similarity"],
        &kernels[..],
    ]
    .concat();
    let found = json_allowing_null(at, &args);
    assert_eq!(found["operators"].as_array().unwrap().len(), 6);
}

/// Exact operators have no landmarks.
fn json_allowing_null(folder: &Path, args: &[&str]) -> Value {
    let args = [&["information"], args, &["--json", "--quiet"]].concat();
    serde_json::from_str(&succeed(folder, &args)).unwrap()
}

#[test]
fn questions_that_cannot_be_asked_are_refused() {
    let folder = folder_with(&[("text.txt", b"a b c\n"), ("rows.txt", b"1\ntwo\n")]);
    let at = folder.path();
    let observation = fixture();
    let of = |command: &[&'static str]| -> Vec<String> {
        let args = command.iter().map(|a| (*a).to_owned());
        args.chain(["--observation".into(), observation.clone()])
            .collect()
    };
    let cases: [(&[&str], i32, &[&str]); 18] = [
        (&["surplus"], 1, &["kind positions"]),
        (
            &["layers", "--deals", "18446744073709551615"],
            2,
            &["--deals", "at most"],
        ),
        (
            &["fisher", "--pairs", "18446744073709551615"],
            2,
            &["--pairs", "at most"],
        ),
        (
            &["draft", "--length", "18446744073709551615"],
            2,
            &["--length", "at most"],
        ),
        (
            &["stochasticity", "--layer", "9"],
            2,
            &["layer 9", "0, 1, 2"],
        ),
        (
            &["stochasticity", "--divergence", "chi2"],
            2,
            &["chi2", "V - 1"],
        ),
        (
            &["divergence", "--a", "rows:0-5", "--b", "rows:5-9"],
            2,
            &["b:", "row 5"],
        ),
        (
            &[
                "divergence",
                "--a",
                "text:nothing like this",
                "--b",
                "rows:0",
            ],
            2,
            &["a:", "empty"],
        ),
        (
            &["divergence", "--a", "rows:0-900", "--b", "rows:0"],
            2,
            &["row 900", "0 to 39"],
        ),
        (
            &["divergence", "--a", "file:rows.txt", "--b", "rows:0"],
            1,
            &["rows.txt", "line 2", "two"],
        ),
        (
            &["divergence", "--a", "some", "--b", "rows:0"],
            2,
            &["rows:FIRST-LAST"],
        ),
        (&["surplus", "--k", "0"], 2, &["--k", "at least 1"]),
        (&["surplus", "--bound-contexts", "8"], 2, &["--model"]),
        (&["draft"], 2, &["--model"]),
        (&["distances", "--sample", "1"], 1, &["at least 2 contexts"]),
        (
            &["similarity", "--similarity", "cosine"],
            2,
            &["cosine", "bhattacharyya"],
        ),
        (&["nll", "--order", "2"], 2, &["--order", "--corpus"]),
        (&["alignment", "--untrained", "nowhere"], 1, &["nowhere"]),
    ];
    for (command, status, wanted) in cases {
        let args = of(command);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refused(at, &args, status, wanted);
    }
    refused(at, &["nll"], 2, &["--observation", "--corpus"]);
    refused(at, &["nll", "--corpus", "text.txt"], 2, &["--model"]);
    refused(at, &["nll", "--observation", "nowhere"], 1, &["nowhere"]);
}

#[test]
fn on_the_built_in_language_heads_gain_no_more_than_there_is_and_drafts_go_as_forecast() {
    let folder = folder_with(&[]);
    let at = folder.path();
    let stories = ["stories", "--words", "100", "--quiet"];
    succeed(
        at,
        &[
            &stories[..],
            &["--stories", "1200", "--seed", "9", "--out", "fresh.txt"],
        ]
        .concat(),
    );
    let train = [
        "train",
        "--words",
        "100",
        "--stories",
        "3000",
        "--steps",
        "300",
        "--layers",
        "2",
        "--width",
        "48",
        "--checkpoints",
        "0,100",
        "--out",
        "model",
        "--quiet",
    ];
    succeed(at, &train);
    for checkpoint in [
        "model",
        "model/checkpoints/step-0",
        "model/checkpoints/step-100",
    ] {
        let info = ["model", "info", "--model", checkpoint, "--json", "--quiet"];
        let found: Value = serde_json::from_str(&succeed(at, &info)).unwrap();
        assert_eq!(
            found["architecture"]["vocab_size"], 101,
            "{checkpoint}: {found}"
        );
    }
    let source = ["--model", "model", "--corpus", "fresh.txt"];
    let surplus = [
        "surplus",
        "--positions",
        "12000",
        "--k",
        "3",
        "--ahead",
        "1,3",
        "--outcomes",
        "100",
        "--bound-contexts",
        "32",
        "--bound-groups",
        "3",
    ];
    let printed = [
        &["information"],
        &surplus[..],
        &source,
        &["--json", "--quiet"],
    ]
    .concat();
    let found: Value = serde_json::from_str(&succeed(at, &printed)).unwrap();
    let exact = Language::stories(100).unwrap();
    let single = exact.token_information(3);
    let usable = found["usable"]["readings"].as_array().unwrap();
    assert_eq!(usable.len(), 6);
    let mut last = Vec::new();
    for reading in usable {
        let (gain, error) = (number(&reading["gain"]), number(&reading["error"]));
        let k = reading["ahead"].as_u64().unwrap() as usize;
        // No state of a network knows more than the language's own.
        assert!(gain <= single[k - 1] + 3.0 * error, "{reading} {single:?}");
        if reading["layer"] == 2 {
            last.push((gain, error));
        }
    }
    assert!(
        last.iter().all(|(gain, error)| *gain > 3.0 * error),
        "{last:?}"
    );
    let blocks = found["bounds"]["blocks"].as_array().unwrap();
    for block in blocks {
        let [low, high] = ["surplus_lower", "surplus_upper"].map(|k| number(&block[k]));
        assert!(low <= high + 1e-9, "{block}");
    }
    let draft = [
        "draft",
        "--positions",
        "12000",
        "--length",
        "2",
        "--outcomes",
        "100",
        "--prefixes",
        "150",
        "--prefix-tokens",
        "6,20",
    ];
    // One run of chance alone may be beyond two standard errors: three have to agree together.
    let mut deviations = [0.0; 3];
    for seed in ["0", "1", "2"] {
        let printed = [
            &["information"],
            &draft[..],
            &source,
            &["--json", "--quiet", "--seed", seed],
        ]
        .concat();
        let found: Value = serde_json::from_str(&succeed(at, &printed)).unwrap();
        let tokens = number(&found["decoding"]["tokens_per_pass"]);
        assert!(tokens > 1.2 && tokens < 3.0, "{found}");
        deviations[2] += number(&found["decoding"]["deviations"]);
        for (prefixes, sum) in ["model_prefixes", "corpus_prefixes"]
            .into_iter()
            .zip(&mut deviations)
        {
            let report = &found[prefixes];
            *sum += number(&report["deviations"]);
            let accepted = number(&report["measured"]);
            assert!(accepted > 0.3 && accepted < 2.0, "{report}");
            let values = |name: &str| report[name].as_array().unwrap().clone();
            for (bound, overlap) in values("pinsker").iter().zip(values("overlaps")) {
                assert!(number(bound) <= number(&overlap));
            }
        }
    }
    for sum in deviations {
        assert!((sum / 3f64.sqrt()).abs() <= 2.0, "{deviations:?}");
    }
}

#[test]
fn checkpoints_that_a_run_does_not_reach_are_refused() {
    let folder = folder_with(&[]);
    let train = [
        "train",
        "--words",
        "100",
        "--stories",
        "50",
        "--steps",
        "5",
        "--out",
        "model",
    ];
    let beyond = [&train[..], &["--checkpoints", "2,9"]].concat();
    fail(
        folder.path(),
        &beyond,
        2,
        &["--checkpoints 9", "5 steps"],
        &["model"],
    );
}
