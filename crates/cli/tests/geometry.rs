//! `lawvere geometry`: what it answers, held against counting by hand, closed forms and the library,
//! and what it says to bad input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{fail, folder_with, lawvere, succeed};
use lawvere::arrays::{Matrix, MatrixFile, write_columns, write_dense, write_vector};
use lawvere::core::{RowMatrix, SparseRows};
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn json(folder: &Path, args: &[&str]) -> Value {
    let printed = succeed(
        folder,
        &[&["geometry"], args, &["--json", "--quiet"]].concat(),
    );
    serde_json::from_str(&printed).unwrap()
}

fn text(folder: &Path, args: &[&str]) -> String {
    succeed(folder, &[&["geometry"], args, &["--quiet"]].concat())
}

fn refused(folder: &Path, args: &[&str], status: i32, wanted: &[&str]) {
    let args = [&["geometry"], args].concat();
    fail(folder, &args, status, wanted, &["out.npy", "out.npz"]);
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn close(value: &Value, expected: f64, tolerance: f64) {
    let value = number(value);
    let off = (value - expected).abs();
    assert!(
        off <= tolerance * expected.abs().max(1.0),
        "{value} {expected}"
    );
}

/// A matrix by its rows.
fn matrix(rows: &[&[f64]]) -> RowMatrix<f64> {
    let columns = rows.first().map_or(0, |row| row.len());
    RowMatrix::from_vec(rows.concat(), rows.len(), columns).unwrap()
}

fn put(folder: &Path, name: &str, rows: &[&[f64]]) {
    write_dense(&folder.join(name), "matrix", &matrix(rows)).unwrap();
}

fn read(folder: &Path, name: &str) -> RowMatrix<f64> {
    let path = folder.join(name);
    let file = MatrixFile::read(&path).unwrap();
    file.matrix.into_dense(&path).unwrap()
}

/// Every pair of four tokens once.
const PAIRS: [&[f64]; 4] = [
    &[1.0, 1.0, 1.0, 0.0, 0.0, 0.0],
    &[1.0, 0.0, 0.0, 1.0, 1.0, 0.0],
    &[0.0, 1.0, 0.0, 1.0, 0.0, 1.0],
    &[0.0, 0.0, 1.0, 0.0, 1.0, 1.0],
];

/// Supports whose proxy is not optimal.
const HARDER: [&[f64]; 6] = [
    &[0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    &[0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0],
    &[1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0],
    &[0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0],
    &[1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0],
    &[0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0],
];

const SENTENCES: &[u8] = b"the cat sat on the mat
the cat ran to the dog
the dog sat on the cat
a dog ran on the mat
the dog ran to a cat
a cat sat on a mat
the mat sat on a dog
a cat ran to a dog
";

/// What follows each word how often, a line's end included.
fn counted() -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut out: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for line in std::str::from_utf8(SENTENCES).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').chain(["END"]).collect();
        for pair in words.windows(2) {
            let counts = out.entry(pair[0].into()).or_default();
            *counts.entry(pair[1].into()).or_default() += 1;
        }
    }
    out
}

const ORDER_ONE: [&str; 4] = ["--order", "1", "--min-count", "1"];

#[test]
fn supports_are_those_counted_by_hand() {
    let folder = folder_with(&[("sentences.txt", SENTENCES)]);
    let at = folder.path();
    let files = ["--out", "S.npz", "--laws", "P.npz"];
    let corpus = ["supports", "--corpus", "sentences.txt"];
    let found = json(at, &[&corpus[..], &ORDER_ONE, &files].concat());

    let counted = counted();
    let outcomes: BTreeSet<&String> = counted.values().flat_map(|c| c.keys()).collect();
    let supports: BTreeSet<Vec<&String>> = counted.values().map(|c| c.keys().collect()).collect();
    let total: u64 = counted.values().flat_map(|c| c.values()).sum();
    let entropy: f64 = counted
        .values()
        .flat_map(|counts| {
            let n: u64 = counts.values().sum();
            counts
                .values()
                .map(move |&c| -(c as f64) / total as f64 * (c as f64 / n as f64).ln())
        })
        .sum();
    assert_eq!(found["contexts"], counted.len());
    assert_eq!(found["samples"], total);
    assert_eq!(found["vocabulary"], outcomes.len());
    assert_eq!(found["classes"], supports.len());
    let entries: usize = counted.values().map(BTreeMap::len).sum();
    assert_eq!(found["entries"], entries);
    close(&found["entropy"], entropy, 1e-12);
    let whole = found["growth"]["points"]
        .as_array()
        .unwrap()
        .last()
        .unwrap();
    assert_eq!(number(&whole["fraction"]), 1.0);
    assert_eq!(number(&whole["entries"]["mean"]), entries as f64);

    // Rows and columns bear their names.
    let (s, p) = (read(at, "S.npz"), read(at, "P.npz"));
    let labels = |key: &str| -> Vec<String> {
        let labels = found[key].as_array().unwrap().iter();
        let label = |l: &Value| match l.as_str().unwrap() {
            l if l.contains("end of document") => "END".to_owned(),
            l => l.to_owned(),
        };
        labels.map(label).collect()
    };
    let (tokens, contexts) = (labels("token_labels"), labels("context_labels"));
    assert_eq!((s.nrows(), s.ncols()), (tokens.len(), contexts.len()));
    for (j, context) in contexts.iter().enumerate() {
        let counts = &counted[context];
        let n: u64 = counts.values().sum();
        close(&found["weights"][j], n as f64 / total as f64, 1e-12);
        for (v, token) in tokens.iter().enumerate() {
            let c = counts.get(token).copied().unwrap_or(0);
            assert_eq!(s.get(v, j), f64::from(u8::from(c > 0)), "{context} {token}");
            assert!((p.get(v, j) - c as f64 / n as f64).abs() < 1e-15);
        }
    }
    assert_eq!(found["files"]["support"], "S.npz");
    assert_eq!(found["source"]["kind"], "corpus");
    assert!(
        found["provenance"]["command"]
            .as_str()
            .unwrap()
            .contains("--min-count 1")
    );
    let told = text(at, &[&corpus[..], &ORDER_ONE].concat());
    for line in [
        format!("next tokens V          {}", outcomes.len()),
        format!("conditional entropy H  {entropy:.4}"),
        "thinned".to_owned(),
    ] {
        assert!(told.contains(&line), "{line} is not in {told}");
    }
}

/// All of a result but when and by whom.
fn without_making(mut value: Value) -> Value {
    for key in ["provenance", "source", "files", "seconds"] {
        value.as_object_mut().unwrap().remove(key);
    }
    value
}

#[test]
fn an_index_an_observation_and_any_number_of_threads_say_the_same() {
    let folder = folder_with(&[("sentences.txt", SENTENCES)]);
    let at = folder.path();
    succeed(
        at,
        &["index", "build", "--corpus", "sentences.txt", "--out", "ix"],
    );
    let observe = ["observe", "--index", "ix", "--out", "obs"];
    succeed(at, &[&observe[..], &ORDER_ONE].concat());
    for command in ["supports", "finite", "max-margin"] {
        let corpus = [command, "--corpus", "sentences.txt"];
        let index = [command, "--index", "ix"];
        let first = without_making(json(at, &[&corpus[..], &ORDER_ONE].concat()));
        let threads = ["--threads", "1"];
        for again in [
            [&index[..], &ORDER_ONE].concat(),
            vec![command, "--observation", "obs"],
            [&index[..], &ORDER_ONE, &threads].concat(),
        ] {
            assert_eq!(without_making(json(at, &again)), first, "{again:?}");
        }
    }
    let full = json(
        at,
        &["supports", "--observation", "obs", "--vocabulary", "full"],
    );
    let occurring = json(at, &["supports", "--observation", "obs"]);
    assert!(number(&full["vocabulary"]) >= number(&occurring["vocabulary"]));
    assert_eq!(full["entries"], occurring["entries"]);
    let top = json(
        at,
        &["supports", "--index", "ix", "--order", "1", "--top", "3"],
    );
    assert_eq!(top["contexts"], 3);
    let dropped = ["supports", "--index", "ix", "--document-end", "dropped"];
    let dropped = json(at, &[&dropped[..], &ORDER_ONE].concat());
    assert!(number(&dropped["samples"]) < number(&occurring["samples"]));
}

#[test]
fn max_margin_of_all_pairs_is_the_closed_form() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    put(at, "S.npy", &PAIRS);
    let out = ["--out", "L.npy", "--dual", "G.npy"];
    let found = json(
        at,
        &[&["max-margin", "--support", "S.npy"], &out[..]].concat(),
    );
    // V - 1 times the square root of C(V - 2, k - 1).
    let value = 3.0 * 2.0f64.sqrt();
    close(&found["value"], value, 1e-9);
    close(&found["lower_bound"], value, 1e-7);
    close(&found["proxy_value"], value, 1e-9);
    assert!(number(&found["relative_gap"]) <= 1e-7);
    assert_eq!(found["proxy_optimal"], true);
    assert_eq!(
        (&found["rank"], &found["converged"]),
        (&3.into(), &true.into())
    );
    for key in [
        "iterations",
        "seconds",
        "reduced_tokens",
        "reduced_contexts",
    ] {
        assert!(found[key].is_number(), "{key}");
    }
    assert_eq!(found["source"]["sha256"][0].as_str().unwrap().len(), 64);
    let (logits, proxy) = (read(at, "L.npy"), |x: f64| x - 0.5);
    for (v, row) in PAIRS.iter().enumerate() {
        for (j, &s) in row.iter().enumerate() {
            assert!((logits.get(v, j) - proxy(s)).abs() < 1e-9);
        }
    }

    let checked = ["--logits", "L.npy", "--dual", "G.npy"];
    let verified = json(
        at,
        &[&["verify", "--support", "S.npy"], &checked[..]].concat(),
    );
    assert_eq!(verified["valid"], true);
    close(&verified["value"], value, 1e-9);
    assert!(number(&verified["relative_gap"]) <= 1e-7);

    // The same in every form.
    let columns = Matrix::Dense(matrix(&PAIRS)).into_columns();
    write_columns(&at.join("S.npz"), "S", &columns, &[]).unwrap();
    write_columns(&at.join("S.safetensors"), "S", &columns, &[]).unwrap();
    for file in ["S.npz", "S.safetensors", "S.safetensors:S"] {
        let again = json(at, &["max-margin", "--support", file]);
        assert_eq!(
            without_making(again),
            without_making(found.clone()),
            "{file}"
        );
    }
    let told = text(at, &["max-margin", "--support", "S.npz"]);
    for line in [
        "nuclear norm |L^mm|_*",
        "4.242640687",
        "optimal",
        "4 tokens x 6 contexts",
    ] {
        assert!(told.contains(line), "{told}");
    }
}

#[test]
fn iterations_that_do_not_suffice_are_told_with_what_is_proved() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    put(at, "S.npy", &HARDER);
    let command = ["geometry", "max-margin", "--support", "S.npy"];
    let few = ["--max-iterations", "3", "--json"];
    let output = lawvere(at, &[&command[..], &few].concat());
    assert_eq!(output.status.code(), Some(0));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["converged"], false);
    assert_eq!(found["iterations"], 3);
    let [value, lower] = ["value", "lower_bound"].map(|k| number(&found[k]));
    assert!(lower > 0.0 && lower < value);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("warning: the relative gap is"), "{said}");
    let best = json(at, &command[1..]);
    assert_eq!(
        (&best["converged"], &best["proxy_optimal"]),
        (&true.into(), &false.into())
    );
    assert!(number(&best["value"]) < number(&best["proxy_value"]));
    assert!(lower <= number(&best["value"]) && number(&best["lower_bound"]) <= value);
}

#[test]
fn supports_without_a_margin_have_value_zero_and_one_context_is_solved() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    put(at, "full.npy", &[&[1.0, 1.0], &[1.0, 1.0], &[1.0, 1.0]]);
    let found = json(
        at,
        &["max-margin", "--support", "full.npy", "--out", "L.npy"],
    );
    for key in ["value", "lower_bound", "relative_gap", "proxy_value"] {
        assert_eq!(number(&found[key]), 0.0, "{key}");
    }
    assert_eq!(
        (&found["rank"], &found["converged"]),
        (&0.into(), &true.into())
    );
    assert_eq!(read(at, "L.npy"), RowMatrix::zeros(3, 2));

    put(at, "one.npy", &[&[1.0], &[0.0], &[0.0]]);
    let found = json(at, &["max-margin", "--support", "one.npy"]);
    // L^mm = S~, of norm sqrt(1 - 1/3).
    close(&found["value"], (2.0f64 / 3.0).sqrt(), 1e-7);
}

#[test]
fn verify_finds_what_is_violated() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    put(at, "S.npy", &[&[1.0, 0.0], &[1.0, 1.0], &[0.0, 1.0]]);
    let verify = |logits: &[&[f64]]| {
        put(at, "L.npy", logits);
        json(at, &["verify", "--support", "S.npy", "--logits", "L.npy"])
    };
    let good = verify(&[&[1.0, 0.0], &[1.0, 1.0], &[0.0, 1.0]]);
    assert_eq!(good["valid"], true);
    assert_eq!(good["lower_bound"], Value::Null);
    let unequal = verify(&[&[1.5, 0.0], &[1.0, 1.0], &[0.0, 1.0]]);
    assert_eq!(unequal["valid"], false);
    close(&unequal["equality_violation"], 0.5, 1e-12);
    let close_by = verify(&[&[1.0, 0.0], &[1.0, 1.0], &[0.75, 1.0]]);
    assert_eq!(close_by["valid"], false);
    close(&close_by["margin_violation"], 0.75, 1e-12);
    let told = text(at, &["verify", "--support", "S.npy", "--logits", "L.npy"]);
    assert!(told.contains("a constraint is violated"), "{told}");
}

#[test]
fn the_finite_part_is_that_of_the_logarithms() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    put(at, "P.npy", &[&[0.8, 0.0], &[0.2, 0.5], &[0.0, 0.5]]);
    write_vector(&at.join("pi.npy"), "pi", &[0.25, 0.75]).unwrap();
    let found = json(
        at,
        &[
            "finite",
            "--probabilities",
            "P.npy",
            "--weights",
            "pi.npy",
            "--out",
            "L.npy",
        ],
    );
    let half = 0.5 * 4.0f64.ln();
    let expected = matrix(&[&[half, 0.0], &[-half, 0.0], &[0.0, 0.0]]);
    let logits = read(at, "L.npy");
    for (x, y) in logits.data().iter().zip(expected.data()) {
        assert!((x - y).abs() < 1e-12);
    }
    close(&found["norm"], half * 2.0f64.sqrt(), 1e-12);
    let entropy = 0.25 * -(0.8 * 0.8f64.ln() + 0.2 * 0.2f64.ln()) + 0.75 * 2.0f64.ln();
    close(&found["entropy"], entropy, 1e-12);
    assert_eq!(
        found["source"]["paths"],
        serde_json::json!(["P.npy", "pi.npy"])
    );

    // Without weights all contexts weigh the same; laws written by `supports` bring theirs.
    let uniform = json(at, &["finite", "--probabilities", "P.npy"]);
    assert_ne!(uniform["entropy"], found["entropy"]);
    std::fs::write(at.join("sentences.txt"), SENTENCES).unwrap();
    let corpus = ["--corpus", "sentences.txt"];
    let laws = ["--laws", "P.npz"];
    let supports = json(
        at,
        &[&["supports"], &corpus[..], &ORDER_ONE, &laws].concat(),
    );
    let direct = json(at, &[&["finite"], &corpus[..], &ORDER_ONE].concat());
    let through = json(at, &["finite", "--probabilities", "P.npz"]);
    close(&through["entropy"], number(&supports["entropy"]), 1e-12);
    close(&through["norm"], number(&direct["norm"]), 1e-12);
}

#[test]
fn probabilities_in_single_precision_are_laws_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // A third in float32: the column sums to 1 + 3e-8.
    let third = (1.0f32 / 3.0).to_le_bytes().repeat(3);
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1), }\n";
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.as_bytes());
    npy.extend(&third);
    std::fs::write(at.join("third.npy"), npy).unwrap();
    let found = json(at, &["finite", "--probabilities", "third.npy"]);
    close(&found["entropy"], 3.0f64.ln(), 1e-12);
    let off = f64::from(1.0f32 / 3.0);
    put(at, "double.npy", &[&[off], &[off], &[off]]);
    let args = ["finite", "--probabilities", "double.npy"];
    refused(at, &args, 1, &["double.npy", "sum to 1.0000000298", "1e-9"]);
}

/// A file's name, its rows, and what is said to it.
type Bad = (
    &'static str,
    &'static [&'static [f64]],
    &'static [&'static str],
);

#[test]
fn matrices_that_are_no_supports_are_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let bad: [Bad; 6] = [
        (
            "empty.npy",
            &[&[1.0, 0.0], &[1.0, 0.0]],
            &["context 1", "no next token"],
        ),
        (
            "two.npy",
            &[&[1.0, 0.0], &[0.0, 2.0]],
            &["is 2 at token 1, context 1", "0 or 1"],
        ),
        (
            "nan.npy",
            &[&[1.0, 1.0], &[f64::NAN, 0.0]],
            &["is NaN at token 1, context 0"],
        ),
        ("no-contexts.npy", &[&[], &[]], &["2 tokens, 0 contexts"]),
        ("nothing.npy", &[], &["0 tokens, 0 contexts"]),
        ("one-token.npy", &[&[1.0, 1.0]], &["at least two"]),
    ];
    for (name, rows, wanted) in bad {
        put(at, name, rows);
        let args = ["max-margin", "--support", name, "--out", "out.npy"];
        refused(at, &args, 1, &[&[name], wanted].concat());
    }
    let laws: [Bad; 5] = [
        (
            "sum.npy",
            &[&[0.5, 0.5], &[0.5, 0.4]],
            &["context 1", "sum to 0.9"],
        ),
        (
            "minus.npy",
            &[&[1.5, 1.0], &[-0.5, 0.0]],
            &["token 0 after context 0", "1.5"],
        ),
        (
            "nan.npy",
            &[&[f64::NAN, 1.0], &[0.0, 0.0]],
            &["token 0 after context 0", "NaN"],
        ),
        ("zero.npy", &[&[0.0, 1.0], &[0.0, 0.0]], &["no next token"]),
        ("none.npy", &[], &["0 tokens"]),
    ];
    for (name, rows, wanted) in laws {
        put(at, name, rows);
        let args = ["finite", "--probabilities", name, "--out", "out.npy"];
        refused(at, &args, 1, &[&[name], wanted].concat());
    }
    put(at, "P.npy", &[&[0.5, 1.0], &[0.5, 0.0]]);
    let weights: [(&str, &[f64], &str); 4] = [
        (
            "three.npy",
            &[0.5, 0.25, 0.25],
            "3 weights; the probabilities have 2 contexts",
        ),
        ("half.npy", &[0.25, 0.25], "sum to 0.5"),
        ("negative.npy", &[1.5, -0.5], "context 1"),
        ("nan-weight.npy", &[f64::NAN, 1.0], "context 0"),
    ];
    for (name, values, wanted) in weights {
        write_vector(&at.join(name), "pi", values).unwrap();
        let args = ["finite", "--probabilities", "P.npy", "--weights", name];
        refused(at, &args, 1, &[name, wanted]);
    }
}

#[test]
fn shapes_that_disagree_and_files_that_are_something_else_are_refused() {
    let folder = folder_with(&[("csv.npy", b"1,0\n0,1\n"), ("sentences.txt", SENTENCES)]);
    let at = folder.path();
    put(at, "S.npy", &PAIRS);
    put(at, "short.npy", &PAIRS[..3]);
    let verify = ["verify", "--support", "S.npy", "--logits"];
    let with = |file: &'static str| [&verify[..], &[file]].concat();
    refused(
        at,
        &with("short.npy"),
        1,
        &["short.npy", "3 x 6", "4 tokens x 6 contexts"],
    );
    let transposed = RowMatrix::from_fn(6, 4, |j, v| PAIRS[v][j]);
    write_dense(&at.join("T.npy"), "T", &transposed).unwrap();
    refused(at, &with("T.npy"), 1, &["T.npy", "save matrix.T"]);
    let mut infinite = matrix(&PAIRS);
    infinite.row_mut(2)[1] = f64::INFINITY;
    write_dense(&at.join("inf.npy"), "L", &infinite).unwrap();
    refused(at, &with("inf.npy"), 1, &["row 2, column 1", "inf"]);
    let dual = [&with("S.npy")[..], &["--dual", "short.npy"]].concat();
    refused(at, &dual, 1, &["short.npy", "3 x 6"]);

    let support = |file: &'static str| ["max-margin", "--support", file];
    refused(at, &support("csv.npy"), 1, &["csv.npy", "not a .npy file"]);
    refused(at, &support("missing.npy"), 1, &["missing.npy"]);
    refused(
        at,
        &support("sentences.txt"),
        1,
        &["sentences.txt", ".npy, .npz"],
    );
    let pickle = root().join("fixtures/arrays/bad/objects.npy");
    std::fs::copy(pickle, at.join("objects.npy")).unwrap();
    refused(at, &support("objects.npy"), 1, &["objects.npy", "pickle"]);
}

#[test]
fn a_problem_that_is_too_large_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    put(at, "S.npy", &PAIRS);
    let limited = ["max-margin", "--support", "S.npy", "--size-limit", "23"];
    let wanted = [
        "S.npy",
        "4 distinct tokens x 6 distinct contexts",
        "--size-limit",
        "concepts",
    ];
    refused(at, &limited, 1, &wanted);
    json(
        at,
        &["max-margin", "--support", "S.npy", "--size-limit", "24"],
    );

    // A small file of a matrix that, dense, would take 720 GB.
    let many = 300_000;
    let mut columns = SparseRows::new(many);
    (0..many as u32).for_each(|j| columns.push_row([(j, 1.0)]).unwrap());
    write_columns(&at.join("wide.npz"), "S", &columns, &[]).unwrap();
    let size = "300000 distinct tokens x 300000 distinct contexts";
    let wanted = ["wide.npz", size, "--size-limit"];
    refused(at, &["max-margin", "--support", "wide.npz"], 1, &wanted);
    let path = ["path", "--probabilities", "wide.npz", "--no-max-margin"];
    refused(at, &path, 1, &wanted);
    let finite = ["finite", "--probabilities", "wide.npz"];
    refused(at, &finite, 1, &["wide.npz", "GB of memory"]);
}

#[test]
fn wrong_arguments_exit_with_two() {
    let folder = folder_with(&[("sentences.txt", SENTENCES)]);
    let at = folder.path();
    put(at, "S.npy", &PAIRS);
    let max_margin = ["max-margin", "--support", "S.npy"];
    let with = |more: &[&'static str]| [&max_margin[..], more].concat();
    refused(at, &["max-margin"], 2, &["--support"]);
    refused(at, &["supports"], 2, &["--corpus"]);
    refused(at, &with(&["--corpus", "sentences.txt"]), 2, &["--corpus"]);
    refused(at, &with(&["--order", "2"]), 2, &["--order", "matrix"]);
    refused(at, &with(&["--vocabulary", "full"]), 2, &["--vocabulary"]);
    for tolerance in ["0", "1", "-0.001", "nan", "tight"] {
        refused(at, &with(&["--tol", tolerance]), 2, &["--tol"]);
    }
    refused(
        at,
        &with(&["--max-iterations", "0"]),
        2,
        &["--max-iterations"],
    );
    refused(at, &with(&["--out", "out.csv"]), 2, &["out.csv", ".npy"]);
    refused(
        at,
        &with(&["--out", "none/out.npy"]),
        2,
        &["none", "does not exist"],
    );
    refused(
        at,
        &with(&["--out", "out.npz"]),
        2,
        &["out.npz", ".npy or .safetensors"],
    );
    std::fs::write(at.join("mine.npy"), "thesis").unwrap();
    refused(
        at,
        &with(&["--out", "mine.npy"]),
        2,
        &["mine.npy", "not replaced"],
    );
    assert_eq!(std::fs::read(at.join("mine.npy")).unwrap(), b"thesis");
    let observation = ["supports", "--observation", "obs", "--order", "2"];
    refused(at, &observation, 2, &["--order", "observation"]);
    let draws = ["supports", "--corpus", "sentences.txt", "--draws", "0"];
    refused(at, &draws, 2, &["--draws"]);
    let weights = ["finite", "--corpus", "sentences.txt", "--weights", "pi.npy"];
    refused(at, &weights, 2, &["--weights"]);
    let tokenizer = ["supports", "--index", "ix", "--tokenizer", "bytes"];
    refused(at, &tokenizer, 2, &["--tokenizer"]);
}

#[test]
fn contexts_that_do_not_exist_are_named() {
    let folder = folder_with(&[("sentences.txt", SENTENCES)]);
    let at = folder.path();
    let corpus = ["supports", "--corpus", "sentences.txt", "--out", "out.npz"];
    let many = [&corpus[..], &["--min-count", "1000"]].concat();
    refused(at, &many, 1, &["1000"]);
    refused(at, &["supports", "--index", "none"], 1, &["none"]);
    refused(at, &["supports", "--observation", "none"], 1, &["none"]);
    succeed(
        at,
        &["index", "build", "--corpus", "sentences.txt", "--out", "ix"],
    );
    let positions = [
        "observe",
        "--index",
        "ix",
        "--kind",
        "positions",
        "--out",
        "pos",
    ];
    succeed(at, &positions);
    refused(
        at,
        &["supports", "--observation", "pos"],
        1,
        &["pos", "kind contexts"],
    );
}

const READ: &str = "
import json, sys
import numpy, safetensors.numpy, scipy.sparse
with numpy.load('P.npz') as laws:
    weights, tokens, contexts = laws['weights'], laws['tokens'], laws['contexts']
S, P = scipy.sparse.load_npz('S.npz'), scipy.sparse.load_npz('P.npz')
assert S.shape == P.shape == (len(tokens), len(weights)) and len(contexts) == len(weights)
assert numpy.array_equal(S.toarray(), P.toarray() > 0)
assert numpy.array_equal(S.toarray(), numpy.load('S.npy'))
assert numpy.allclose(P.sum(0), 1) and numpy.isclose(weights.sum(), 1)
L = numpy.load('L.npy')
G = safetensors.numpy.load_file('G.safetensors')['dual']
S = S.toarray()
value, bound = numpy.linalg.norm(L, 'nuc'), (G * S).sum()
assert numpy.linalg.norm(G, 2) <= 1 + 1e-9 and abs(G.sum(0)).max() <= 1e-9
assert (G[S == 0] <= 1e-9).all()
for logits, support in zip(L.T, S.T):
    on, off = logits[support == 1], logits[support == 0]
    assert numpy.ptp(on) <= 1e-9 and (len(off) == 0 or on.min() - off.max() >= 1 - 1e-9)
numpy.save('transformed.npy', numpy.asfortranarray(S.astype(bool)))
scipy.sparse.save_npz('transformed.npz', scipy.sparse.csr_array(S.astype('int8')))
json.dump({'value': value, 'bound': bound}, sys.stdout)
";

#[test]
fn numpy_and_scipy_open_what_is_written_and_write_what_is_read() {
    let folder = folder_with(&[("sentences.txt", SENTENCES)]);
    let at = folder.path();
    let corpus = ["--corpus", "sentences.txt"];
    for files in [
        ["--out", "S.npz", "--laws", "P.npz"],
        ["--out", "S.npy", "--laws", "P.npy"],
    ] {
        json(
            at,
            &[&["supports"], &corpus[..], &ORDER_ONE, &files].concat(),
        );
    }
    let out = ["--out", "L.npy", "--dual", "G.safetensors"];
    let found = json(
        at,
        &[&["max-margin", "--support", "S.npz"], &out[..]].concat(),
    );

    let python = std::env::var("LAWVERE_PYTHON").unwrap_or_else(|_| "python3".into());
    let help = "this test needs Python with numpy, scipy and safetensors: run scripts/test.sh, \
                which installs them, or set LAWVERE_PYTHON to a Python that has them";
    let run = Command::new(&python)
        .current_dir(at)
        .args(["-c", READ])
        .output();
    let run = run.unwrap_or_else(|e| panic!("{python} cannot be started ({e}); {help}"));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(
        !said.contains("ModuleNotFoundError"),
        "{python} lacks a module; {help}\n{said}"
    );
    assert!(run.status.success(), "{said}");
    let theirs: Value = serde_json::from_slice(&run.stdout).unwrap();
    close(&theirs["value"], number(&found["value"]), 1e-9);
    close(&theirs["bound"], number(&found["lower_bound"]), 1e-9);

    for file in ["transformed.npy", "transformed.npz"] {
        let again = json(at, &["max-margin", "--support", file]);
        assert_eq!(
            without_making(again),
            without_making(found.clone()),
            "{file}"
        );
    }
}

#[test]
fn a_network_is_also_called_by_what_the_paper_calls_it() {
    let folder = folder_with(&[("sentences.txt", SENTENCES)]);
    let at = folder.path();
    let train = |kind: &'static str, out: &'static str| {
        let corpus = [
            "train",
            "--corpus",
            "sentences.txt",
            "--steps",
            "2",
            "--width",
            "8",
        ];
        let rest = [
            "--order",
            "1",
            "--min-count",
            "1",
            "--labels",
            "soft",
            "--json",
            "--quiet",
        ];
        let kind = [
            "--kind", kind, "--heads", "2", "--layers", "1", "--out", out,
        ];
        let printed = succeed(at, &[&corpus[..], &rest, &kind].concat());
        let value: Value = serde_json::from_str(&printed).unwrap();
        value["training"]["network"].as_str().unwrap().to_owned()
    };
    assert!(train("ufm", "ufm").contains("unconstrained features"));
    assert!(train("transformer", "transformer").contains("decoder-only transformer"));
}

#[test]
fn a_path_goes_from_zero_to_the_rates_of_the_theory() {
    let folder = folder_with(&[("sentences.txt", SENTENCES)]);
    let at = folder.path();
    let corpus = ["--corpus", "sentences.txt"];
    let out = ["--points", "9", "--out", "path"];
    let found = json(at, &[&["path"], &corpus[..], &ORDER_ONE, &out].concat());
    let points = found["points"].as_array().unwrap();
    assert_eq!(points.len(), 9);
    let (first, last) = (&points[0], &points[8]);
    assert_eq!(number(&first["nuclear_norm"]), 0.0);
    close(&first["relative_lambda"], 1.0, 1e-12);
    close(&last["relative_lambda"], 1e-8, 1e-12);
    for point in points {
        assert!(number(&point["relative_gap"]) <= 1e-6, "{point}");
        assert_eq!(point["converged"], true);
    }
    let solved = json(at, &[&["max-margin"], &corpus[..], &ORDER_ONE].concat());
    close(&found["max_margin_value"], number(&solved["value"]), 1e-12);
    let value = number(&solved["value"]);
    for rate in ["excess_rate", "dual_bound", "norm_slope"] {
        let off = number(&last[rate]) / value - 1.0;
        assert!(off.abs() < 0.01, "{rate}: {off}");
    }
    assert!(number(&last["slope_cosine"]) > 0.99);

    let finite = json(
        at,
        &[&["finite"], &corpus[..], &ORDER_ONE, &["--out", "L.npy"]].concat(),
    );
    close(&found["entropy"], number(&finite["entropy"]), 1e-12);
    assert_eq!(read(at, "path/finite.npy"), read(at, "L.npy"));
    let logits = read(at, "path/logits-08.npy");
    let finite_part = read(at, "L.npy");
    let norm = logits.data().iter().map(|x| x * x).sum::<f64>().sqrt();
    assert!(
        norm > 1.0
            && (logits.nrows(), logits.ncols()) == (finite_part.nrows(), finite_part.ncols())
    );
    let margin = read(at, "path/max-margin.npy");
    let inner: f64 = logits
        .data()
        .iter()
        .zip(margin.data())
        .map(|(x, y)| x * y)
        .sum();
    let length = margin.data().iter().map(|x| x * x).sum::<f64>().sqrt();
    close(&last["cosine"], inner / norm / length, 1e-9);
    let record = std::fs::read_to_string(at.join("path/path.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(
        (&record["schema"], &record["points"]),
        (&"lawvere-path/1".into(), &found["points"])
    );

    // Again over itself; penalties of one's own; without the max-margin logits.
    json(at, &[&["path"], &corpus[..], &ORDER_ONE, &out].concat());
    let own = ["--lambda", "1e-2,1e-3", "--no-max-margin"];
    let own = json(at, &[&["path"], &corpus[..], &ORDER_ONE, &own].concat());
    let lambdas: Vec<f64> = own["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| number(&p["lambda"]))
        .collect();
    assert_eq!(lambdas, [1e-2, 1e-3]);
    assert_eq!(own["points"][1]["cosine"], Value::Null);
    let told = text(at, &[&["path"], &corpus[..], &ORDER_ONE].concat());
    let table = told.lines().skip_while(|l| !l.contains("lambda/max"));
    assert_eq!(table.count(), 1 + 17, "{told}");
}

#[test]
fn a_path_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    put(at, "uniform.npy", &[&[0.5, 0.5], &[0.5, 0.5]]);
    put(at, "certain.npy", &[&[1.0, 1.0]]);
    for file in ["uniform.npy", "certain.npy"] {
        refused(
            at,
            &["path", "--probabilities", file],
            1,
            &[file, "there is no path"],
        );
    }
    put(at, "P.npy", &[&[0.5, 1.0], &[0.5, 0.0]]);
    let path = ["path", "--probabilities", "P.npy"];
    let with = |more: &[&'static str]| [&path[..], more].concat();
    refused(at, &with(&["--lambda", "1e-3,1e-2"]), 2, &["decrease"]);
    refused(
        at,
        &with(&["--lambda", "0"]),
        2,
        &["--lambda", "more than 0"],
    );
    refused(at, &with(&["--from", "1e-9"]), 2, &["from more to less"]);
    refused(at, &with(&["--points", "1"]), 2, &["--points"]);
    refused(
        at,
        &with(&["--points", "3", "--lambda", "1"]),
        2,
        &["--lambda"],
    );
    refused(
        at,
        &with(&["--size-limit", "1"]),
        1,
        &["P.npy", "--size-limit"],
    );
    std::fs::create_dir(at.join("mine")).unwrap();
    std::fs::write(at.join("mine/thesis.txt"), "do not touch").unwrap();
    refused(at, &with(&["--out", "mine"]), 2, &["mine", "holds no path"]);
    refused(at, &with(&["--out", "P.npy"]), 2, &["P.npy", "a file"]);
    refused(at, &with(&["--out", "none/path"]), 2, &["does not exist"]);
    assert!(at.join("mine/thesis.txt").exists());
    let points = ["--points", "3", "--out", "made"];
    text(at, &with(&points));
    text(at, &with(&points));
    std::fs::write(at.join("made/thesis.txt"), "do not touch").unwrap();
    refused(at, &with(&points), 2, &["made", "thesis.txt"]);
    assert!(at.join("made/thesis.txt").exists());
    let over = [&["finite", "--out", "P.npy"], &path[1..]].concat();
    refused(at, &over, 2, &["P.npy", "another name"]);
    // Full supports with laws that are not uniform have a path, which stays finite.
    put(at, "full.npy", &[&[0.5, 0.9], &[0.5, 0.1]]);
    let found = json(
        at,
        &["path", "--probabilities", "full.npy", "--points", "5"],
    );
    let last = &found["points"][4];
    assert!(number(&last["finite_distance"]) < 1e-4, "{last}");
    assert_eq!(number(&found["max_margin_value"]), 0.0);
}

/// Laws that are uniform on supports.
fn uniform(supports: &[&[f64]]) -> RowMatrix<f64> {
    let size = |j: usize| supports.iter().map(|row| row[j]).sum::<f64>();
    RowMatrix::from_fn(supports.len(), supports[0].len(), |v, j| {
        supports[v][j] / size(j)
    })
}

#[test]
fn a_head_over_independent_embeddings_does_all_that_can_be_done() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_dense(&at.join("P.npy"), "P", &uniform(&PAIRS)).unwrap();
    let axes = RowMatrix::from_fn(6, 6, |i, j| f64::from(u8::from(i == j)));
    write_dense(&at.join("H.npy"), "H", &axes).unwrap();
    let command = [
        "separability",
        "--probabilities",
        "P.npy",
        "--states",
        "H.npy",
    ];
    let out = ["--out", "W.npy", "--finite", "F.npy"];
    let found = json(at, &[&command[..], &out].concat());
    assert_eq!(
        (&found["separable"], &found["compatible"]),
        (&true.into(), &true.into())
    );
    // Each context has its own column of W, of least norm sqrt(s (V - s) / V) = 1.
    close(&found["value"], 6.0f64.sqrt(), 1e-6);
    close(&found["lower_bound"], 6.0f64.sqrt(), 1e-6);
    close(&found["margin"], 1.0 / 6.0f64.sqrt(), 1e-6);
    assert!(number(&found["finite_norm"]) < 1e-9);
    let weights = read(at, "W.npy");
    for (v, row) in PAIRS.iter().enumerate() {
        for (j, s) in row.iter().enumerate() {
            assert!((weights.get(v, j) - (s - 0.5)).abs() < 1e-5);
        }
    }
    assert_eq!(read(at, "F.npy").nrows(), 4);
    let told = text(at, &command);
    assert!(told.contains("separates supports  yes"), "{told}");

    // One embedding for two supports that exclude each other.
    put(at, "two.npy", &[&[1.0, 0.0], &[0.0, 1.0]]);
    put(at, "same.npy", &[&[1.0, 2.0], &[1.0, 2.0]]);
    let same = [
        "separability",
        "--probabilities",
        "two.npy",
        "--states",
        "same.npy",
    ];
    let found = json(at, &[&same[..], &["--out", "none.npy"]].concat());
    assert_eq!(
        (&found["separable"], &found["value"]),
        (&false.into(), &Value::Null)
    );
    assert_eq!(found["files"]["margin"], Value::Null);
    assert!(!at.join("none.npy").exists());
    assert!(text(at, &same).contains("do, as a certificate proves"));
}

#[test]
fn factors_of_enough_dimensions_lose_nothing_and_of_one_are_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    put(at, "S.npy", &PAIRS);
    let limited = ["rank-limited", "--support", "S.npy", "--dim"];
    let with = |dim: &'static str| [&limited[..], &[dim]].concat();
    let out = ["--out-words", "W.npy", "--out-contexts", "H.npy"];
    let found = json(at, &[&with("3")[..], &out].concat());
    assert_eq!(found["feasible"], true);
    close(&found["value"], 3.0 * 2.0f64.sqrt(), 1e-5);
    close(&found["convex_lower_bound"], 3.0 * 2.0f64.sqrt(), 1e-6);
    assert_eq!(found["attempts"].as_array().unwrap().len(), 5);
    let (words, contexts) = (read(at, "W.npy"), read(at, "H.npy"));
    assert_eq!((words.nrows(), words.ncols()), (4, 3));
    assert_eq!((contexts.nrows(), contexts.ncols()), (6, 3));
    let product = RowMatrix::from_fn(4, 6, |v, j| {
        (0..3).map(|k| words.get(v, k) * contexts.get(j, k)).sum()
    });
    write_dense(&at.join("L.npy"), "L", &product).unwrap();
    let checked = json(at, &["verify", "--support", "S.npy", "--logits", "L.npy"]);
    for violation in ["equality_violation", "margin_violation"] {
        assert!(number(&checked[violation]) < 1e-5, "{checked}");
    }
    // Six directions of pairs do not lie on a line.
    let found = json(at, &with("1"));
    assert_eq!(
        (&found["feasible"], &found["value"]),
        (&false.into(), &Value::Null)
    );
    assert!(text(at, &with("1")).contains("no proof that there is none"));
    refused(at, &with("0"), 2, &["--dim"]);
    refused(at, &limited[..3], 2, &["--dim"]);
    let small = [&with("2")[..], &["--size-limit", "3"]].concat();
    refused(at, &small, 1, &["S.npy", "--size-limit"]);
}

#[test]
fn a_trained_model_is_held_against_the_prediction() {
    let folder = folder_with(&[("sentences.txt", SENTENCES)]);
    let at = folder.path();
    let train = |steps: &'static str, out: &'static str| {
        let corpus = [
            "train",
            "--corpus",
            "sentences.txt",
            "--kind",
            "ufm",
            "--width",
            "16",
        ];
        let rest = ["--steps", steps, "--out", out, "--ridge", "1e-4", "--quiet"];
        succeed(at, &[&corpus[..], &ORDER_ONE, &rest].concat());
    };
    train("400", "trained");
    train("1", "fresh");
    let compare = ["compare", "--observation", "trained/observation"];
    let found = json(
        at,
        &[&compare[..], &["--untrained", "fresh/observation"]].concat(),
    );
    let laws = json(at, &["finite", "--observation", "trained/observation"]);
    close(&found["entropy"], number(&laws["entropy"]), 1e-12);
    let loss = &found["loss"];
    assert!(
        number(&loss["excess"]) < number(&loss["untrained_excess"]) / 10.0,
        "{loss}"
    );
    assert_eq!(found["prediction"], "proxy");
    let verdicts = found["verdicts"].as_array().unwrap();
    let of = |claim: &str| verdicts.iter().find(|v| v["claim"] == claim).unwrap();
    assert_eq!(of("context-gram")["verdict"], "visible");
    let readings = found["readings"].as_array().unwrap();
    let proxy = readings.iter().find(|r| r["claim"] == "logits").unwrap();
    assert!(number(&proxy["value"]) > 0.9, "{proxy}");
    let exact = json(at, &[&compare[..], &["--exact"]].concat());
    assert_eq!(exact["prediction"], "max-margin");
    assert!(number(&exact["relative_gap"]) <= 1e-7);
    let told = text(at, &compare);
    for line in [
        "nats",
        "- logits point in the",
        "concept strengths",
        "visible",
    ] {
        assert!(told.contains(line), "{told}");
    }

    // The same states are embeddings for a head.
    let head = ["separability", "--observation", "trained/observation"];
    let found = json(at, &head);
    assert_eq!(
        (&found["separable"], &found["layer"]),
        (&true.into(), &0.into())
    );
    assert!(number(&found["relative_gap"]) <= 1e-7);
    let layer = [&head[..], &["--layer", "3"]].concat();
    refused(
        at,
        &layer,
        1,
        &["trained/observation", "layer 3", "those of 0"],
    );
    let corpus = ["observe", "--index", "ix", "--out", "obs"];
    succeed(
        at,
        &["index", "build", "--corpus", "sentences.txt", "--out", "ix"],
    );
    succeed(at, &[&corpus[..], &ORDER_ONE].concat());
    refused(
        at,
        &["separability", "--observation", "obs"],
        1,
        &["obs", "no states"],
    );
    refused(
        at,
        &["compare", "--observation", "obs"],
        1,
        &["obs", "states"],
    );
    let other = [&compare[..], &["--untrained", "obs"]].concat();
    refused(at, &other, 1, &["untrained observation", "its contexts"]);
    refused(
        at,
        &[&compare[..], &["--deals", "1"]].concat(),
        2,
        &["--deals"],
    );
    refused(at, &["compare"], 2, &["--observation"]);
}

#[test]
fn embeddings_that_do_not_belong_are_refused() {
    let folder = folder_with(&[("sentences.txt", SENTENCES)]);
    let at = folder.path();
    put(at, "P.npy", &[&[0.5, 1.0], &[0.5, 0.0]]);
    let command = ["separability", "--probabilities", "P.npy"];
    let with = |more: &[&'static str]| [&command[..], more].concat();
    refused(at, &command, 2, &["--states"]);
    refused(at, &with(&["--layer", "1"]), 2, &["--states"]);
    put(at, "three.npy", &[&[1.0], &[2.0], &[3.0]]);
    let three = with(&["--states", "three.npy"]);
    refused(at, &three, 1, &["three.npy", "3 rows", "2 contexts"]);
    put(at, "nan.npy", &[&[1.0, 0.0], &[f64::NAN, 1.0]]);
    refused(
        at,
        &with(&["--states", "nan.npy"]),
        1,
        &["nan.npy", "row 1, column 0"],
    );
    put(at, "narrow.npy", &[&[], &[]]);
    refused(
        at,
        &with(&["--states", "narrow.npy"]),
        1,
        &["narrow.npy", "no columns"],
    );
    let corpus = ["separability", "--corpus", "sentences.txt"];
    refused(at, &[&corpus[..], &ORDER_ONE].concat(), 2, &["--states"]);
}
