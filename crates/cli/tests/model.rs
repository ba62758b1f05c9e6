//! `lawvere model`: what it answers, held against the library, and what it says to bad input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{fail, folder_with, lawvere, succeed};
use lawvere::core::{ContextBatch, Factored, Layer};
use lawvere::lm::{LanguageModel, Windows};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn fixture(name: &str) -> String {
    let path = root().join("fixtures").join(name).canonicalize().unwrap();
    path.to_str().unwrap().to_owned()
}

/// A decoder with random weights; its folder has no tokenizer.
fn tiny() -> String {
    fixture("llama-tiny/untied")
}

/// A decoder of 110 words that reads 96 tokens; token 110 ends its documents.
fn small() -> String {
    fixture("trained/model")
}

fn sample() -> String {
    let path = root().join("sample/smollm2-135m-instruct-q4_1.gguf");
    assert!(
        path.exists(),
        "the sample model is missing; run scripts/fetch-sample.sh"
    );
    path.to_str().unwrap().to_owned()
}

fn open(path: &str) -> LanguageModel {
    LanguageModel::open(Path::new(path)).unwrap()
}

/// The tiny model with a beginning-of-text token.
fn tiny_with_bos(at: &Path) -> String {
    let folder = at.join("bos");
    std::fs::create_dir(&folder).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(Path::new(&tiny()).join(name), folder.join(name)).unwrap();
    }
    let own = folder.join("tokenizer_config.json");
    std::fs::write(own, r#"{"add_bos_token": true}"#).unwrap();
    folder.to_str().unwrap().to_owned()
}

fn json(folder: &Path, args: &[&str]) -> Value {
    let printed = succeed(folder, &[&["model"], args, &["--json", "--quiet"]].concat());
    serde_json::from_str(&printed).unwrap()
}

fn text(folder: &Path, args: &[&str]) -> String {
    succeed(folder, &[&["model"], args, &["--quiet"]].concat())
}

fn refused(folder: &Path, args: &[&str], status: i32, wanted: &[&str]) {
    fail(
        folder,
        &[&["model"], args].concat(),
        status,
        wanted,
        &["out"],
    );
}

fn floats(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|x| x.as_f64().unwrap()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    let values = value.as_array().unwrap().iter();
    values.map(|x| x.as_u64().unwrap() as u32).collect()
}

#[test]
fn info_tells_what_a_checkpoint_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let info = json(at, &["info", "--model", &tiny()]);
    let model = open(&tiny());
    assert_eq!(info["identity"], model.identity());
    assert_eq!(info["architecture"]["architecture"], "decoder");
    assert_eq!(info["architecture"]["kv_heads"], 2);
    assert_eq!(info["parameters"], model.architecture().parameters());
    assert_eq!(info["context_length"], 256);
    assert_eq!(info["bos"], Value::Null);
    assert_eq!(info["eos"][0]["id"], 2);
    assert_eq!(info["tokenizer"], Value::Null);
    let bos = tiny_with_bos(at);
    assert_eq!(json(at, &["info", "--model", &bos])["bos"]["id"], 1);
    let info = json(at, &["info", "--model", &small()]);
    assert_eq!(info["document_end"], 110);
    assert_eq!(info["tokenizer"]["kind"], "WordLevel");
    assert_eq!(info["tokenizer"]["vocab_size"], 110);
    let told = text(at, &["info", "--model", &small()]);
    for line in ["parameters          7984", "ends a document     110"] {
        assert!(told.contains(line), "{told}");
    }
    refused(
        at,
        &["info", "--model", "missing.gguf"],
        1,
        &["missing.gguf"],
    );
    refused(at, &["info", "--model", "."], 1, &["config.json"]);
    refused(at, &["info"], 2, &["--model"]);
}

#[test]
fn tokenize_reads_no_weights() {
    let folder = folder_with(&[("text.txt", b"the day"), ("latin1.txt", b"caf\xe9")]);
    let at = folder.path();
    // A folder with a tokenizer and nothing else will do.
    let from = Path::new(&small()).join("tokenizer.json");
    std::fs::copy(from, at.join("tokenizer.json")).unwrap();
    let tokenizer = lawvere::token::Tokenizer::open(Path::new(&small())).unwrap();
    for whose in [["--model", "."], ["--tokenizer", "tokenizer.json"]] {
        let args = [&["tokenize"], &whose[..], &["once there was", "the  day"]].concat();
        let found = json(at, &args);
        assert_eq!(found["tokenizer"]["identity"], tokenizer.identity());
        let first = &found["texts"][0];
        assert_eq!(
            ids(&first["ids"]),
            tokenizer.encode("once there was").unwrap()
        );
        assert_eq!(first["tokens"], serde_json::json!(["once", "there", "was"]));
        assert_eq!(first["count"], 3);
        assert_eq!(first["round_trip"], true);
        assert_eq!(found["texts"][1]["round_trip"], false);
    }
    let from_file = json(at, &["tokenize", "--model", ".", "--file", "text.txt"]);
    assert_eq!(
        from_file["texts"][0]["tokens"],
        serde_json::json!(["the", "day"])
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_lawvere"))
        .current_dir(at)
        .args(["model", "tokenize", "--model", "."])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"the day").unwrap();
    let told = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert!(
        told.contains("day") && told.ends_with("2 tokens\n"),
        "{told}"
    );

    let tokenize = |more: &[&'static str]| [&["tokenize", "--model", "."], more].concat();
    refused(at, &tokenize(&["zebra"]), 2, &["TEXT", "vocabulary"]);
    refused(
        at,
        &tokenize(&["--file", "latin1.txt"]),
        1,
        &["latin1.txt", "byte 3", "UTF-8"],
    );
    refused(
        at,
        &tokenize(&["--file", "missing.txt"]),
        1,
        &["missing.txt"],
    );
    refused(at, &tokenize(&["a", "--file", "text.txt"]), 2, &["--file"]);
    refused(
        at,
        &tokenize(&["a", "--tokenizer", "x"]),
        2,
        &["--tokenizer"],
    );
    refused(at, &["tokenize", "a"], 2, &["--model", "--tokenizer"]);
    let without = ["tokenize", "--model", &tiny(), "a"].map(str::to_owned);
    let without: Vec<&str> = without.iter().map(String::as_str).collect();
    refused(at, &without, 1, &["tokenizer.json"]);
}

const IDS: &str = r#"{"prefix": [1, 2, 3], "continuation": [4]}
{"prefix": [1, 2, 3], "continuation": [5, 6], "label": "other fields are ignored"}

{"prefix": [7], "continuation": [8, 9]}
{"prefix": [1, 2], "continuation": [3, 4]}
"#;

#[test]
fn questions_are_answered_in_order_and_shared_prefixes_are_read_once() {
    let folder = folder_with(&[("ids.jsonl", IDS.as_bytes())]);
    let at = folder.path();
    let args = ["score", "--model", &tiny(), "--questions", "ids.jsonl"].map(str::to_owned);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let shared = json(at, &args)["result"].clone();
    let apart = json(at, &[&args[..], &["--separately"]].concat())["result"].clone();
    let questions: [(&[u32], &[u32]); 4] = [
        (&[1, 2, 3], &[4]),
        (&[1, 2, 3], &[5, 6]),
        (&[7], &[8, 9]),
        (&[1, 2], &[3, 4]),
    ];
    let expected = open(&tiny()).score(&questions).unwrap();
    // 1, 12, 123, 1235, 7, 78.
    assert_eq!(shared["forwarded"], 6);
    assert_eq!(apart["forwarded"], 12);
    assert_eq!(shared["separately"], 12);
    assert_eq!(shared["sharing_factor"], 2.0);
    for found in [&shared, &apart] {
        assert!(found["seconds"].as_f64().unwrap() > 0.0);
        assert!(found["tokens_per_second"].as_f64().unwrap() > 0.0);
        let answers = found["answers"].as_array().unwrap();
        assert_eq!(answers.len(), 4);
        for ((answer, score), question) in answers.iter().zip(&expected.scores).zip(questions) {
            assert_eq!(ids(&answer["prefix"]), question.0);
            assert_eq!(ids(&answer["continuation"]), question.1);
            assert!((answer["total"].as_f64().unwrap() - score.total).abs() < 1e-5);
            let tokens = floats(&answer["log_probs"]);
            assert_eq!(tokens.len(), score.tokens.len());
            for (a, &b) in tokens.iter().zip(&score.tokens) {
                assert!((a - f64::from(b)).abs() < 1e-5);
            }
        }
    }
    let told = text(at, &args);
    assert_eq!(told.lines().count(), 5);
    let last = told.lines().last().unwrap();
    for word in ["6 tokens forwarded", "12 if", "factor of 2.00", "tokens/s"] {
        assert!(last.contains(word), "{last}");
    }
}

#[test]
fn texts_are_scored_as_their_tokens_are() {
    let lines = "{\"prefix\": \"once there was\", \"continuation\": \"a day\"}\n{\"prefix\": [0], \"continuation\": \"the\"}\n";
    let folder = folder_with(&[("mixed.jsonl", lines.as_bytes())]);
    let at = folder.path();
    let model = open(&small());
    let encode = |text: &str| model.tokenizer().unwrap().encode(text).unwrap();
    let total = |prefix: &[u32], continuation: &[u32]| {
        model.score(&[(prefix, continuation)]).unwrap().scores[0].total
    };
    let path = small();
    let mixed = json(
        at,
        &["score", "--model", &path, "--questions", "mixed.jsonl"],
    );
    let expected = [
        total(&encode("once there was"), &encode("a day")),
        total(&[0], &encode("the")),
    ];
    for (i, expected) in expected.into_iter().enumerate() {
        let found = mixed["result"]["answers"][i]["total"].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-5);
    }
    let args = [
        "score",
        "--model",
        &path,
        "--prefix",
        "once there was",
        "--continuation",
        "a day",
        "--continuation",
        "the day",
    ];
    let flags = json(at, &args);
    assert_eq!(flags["result"]["answers"].as_array().unwrap().len(), 2);
    let found = flags["result"]["answers"][0]["total"].as_f64().unwrap();
    assert!((found - expected[0]).abs() < 1e-5);
    // With a beginning-of-text token nothing need stand before.
    let bos = tiny_with_bos(at);
    std::fs::write(
        at.join("empty.jsonl"),
        r#"{"prefix": [], "continuation": [3]}"#,
    )
    .unwrap();
    let empty = json(
        at,
        &["score", "--model", &bos, "--questions", "empty.jsonl"],
    );
    assert_eq!(empty["result"]["forwarded"], 1);
}

#[test]
fn a_document_of_any_length_is_read_in_windows() {
    let document = "once there was a day . the day was a day .\n".repeat(30);
    let folder = folder_with(&[("text.txt", document.as_bytes())]);
    let at = folder.path();
    let path = small();
    let model = open(&path);
    let tokens = model.tokenizer().unwrap().encode(&document).unwrap();
    let score = |more: &[&str]| {
        let args = [&["score", "--model", &path, "--file", "text.txt"], more].concat();
        json(at, &args)
    };
    for (more, length, overlap) in [
        (&[][..], 96, 48),
        (&["--window", "20"], 20, 10),
        (&["--window", "20", "--overlap", "0"], 20, 0),
        (&["--overlap", "95"], 96, 95),
    ] {
        let found = score(more);
        let windows = Windows { length, overlap };
        let expected = model.read(&tokens, windows).unwrap();
        assert_eq!(found["window"], length);
        assert_eq!(found["overlap"], overlap);
        assert_eq!(found["windows"], windows.cut(tokens.len()).count());
        assert_eq!(found["scored"], expected.scored);
        assert_eq!(found["tokens"], tokens.len());
        let off = found["cross_entropy"].as_f64().unwrap() - expected.cross_entropy;
        assert!(off.abs() < 1e-6);
        let off = found["perplexity"].as_f64().unwrap() / expected.perplexity - 1.0;
        assert!(off.abs() < 1e-6);
        assert!(found.get("log_probs").is_none());
    }
    let found = score(&["--tokens", "--window", "20", "--overlap", "0"]);
    assert_eq!(ids(&found["ids"]), tokens);
    let log_probs = found["log_probs"].as_array().unwrap();
    assert!(log_probs[0].is_null() && log_probs[20].is_null() && log_probs[1].is_f64());
    let told = text(at, &["score", "--model", &path, "--file", "text.txt"]);
    assert!(
        told.contains("perplexity") && told.contains("tokens/s"),
        "{told}"
    );
}

#[test]
fn bad_questions_and_documents_are_named_with_the_place() {
    let many = format!("{{\"prefix\": {:?}, \"continuation\": [1]}}", vec![1; 257]);
    let folder = folder_with(&[
        ("good.jsonl", IDS.as_bytes()),
        ("json.jsonl", b"{\"prefix\": [1], \"continuation\": [2]}\n{\"prefix\": [1]\n"),
        ("missing.jsonl", b"\n{\"prefix\": [1], \"continuations\": [2]}\n"),
        ("kind.jsonl", b"{\"prefix\": [1, -2], \"continuation\": [2]}\n"),
        ("scalar.jsonl", b"7\n"),
        ("blank.jsonl", b"\n\n"),
        ("nothing.jsonl", b"{\"prefix\": [1], \"continuation\": []}\n"),
        ("start.jsonl", b"{\"prefix\": [], \"continuation\": [1]}\n"),
        ("outside.jsonl", b"{\"prefix\": [1], \"continuation\": [2]}\n{\"prefix\": [131], \"continuation\": [2]}\n"),
        ("long.jsonl", many.as_bytes()),
        ("text.jsonl", b"{\"prefix\": \"a\", \"continuation\": [2]}\n"),
        ("latin1.jsonl", b"{\"prefix\": \"caf\xe9\"}\n"),
        ("word.jsonl", b"{\"prefix\": \"a\", \"continuation\": \"the\"}\n{\"prefix\": \"a\", \"continuation\": \"zebra\"}\n"),
        ("text.txt", b"once there was a day\n"),
        ("one.txt", b"day"),
        ("latin1.txt", b"caf\xe9"),
    ]);
    let at = folder.path();
    let (tiny, small) = (tiny(), small());
    let questions = |model: &str, file: &str, wanted: &[&str]| {
        refused(
            at,
            &["score", "--model", model, "--questions", file],
            1,
            wanted,
        );
    };
    questions(&tiny, "absent.jsonl", &["absent.jsonl"]);
    questions(
        &tiny,
        "json.jsonl",
        &["json.jsonl: line 2", "not JSON", "continuation"],
    );
    questions(
        &tiny,
        "missing.jsonl",
        &["missing.jsonl: line 2", "`continuation` is missing"],
    );
    questions(&tiny, "kind.jsonl", &["line 1", "`prefix`", "token ids"]);
    questions(&tiny, "scalar.jsonl", &["line 1", "`prefix` is missing"]);
    questions(&tiny, "blank.jsonl", &["blank.jsonl", "no question"]);
    questions(&tiny, "nothing.jsonl", &["line 1", "continuation is empty"]);
    questions(
        &tiny,
        "start.jsonl",
        &["line 1", "prefix is empty", "beginning-of-text"],
    );
    questions(&tiny, "outside.jsonl", &["outside.jsonl: line 2", "131"]);
    questions(&tiny, "long.jsonl", &["line 1", "257 tokens", "256"]);
    questions(&tiny, "text.jsonl", &[&tiny, "no tokenizer.json"]);
    questions(&tiny, "latin1.jsonl", &["latin1.jsonl", "byte 15", "UTF-8"]);
    questions(&small, "word.jsonl", &["word.jsonl: line 2", "vocabulary"]);
    questions("absent", "good.jsonl", &["absent"]);

    let score = |more: &[&str], status: i32, wanted: &[&str]| {
        refused(
            at,
            &[&["score", "--model", &small], more].concat(),
            status,
            wanted,
        );
    };
    let a = ["--prefix", "a", "--continuation", "day"];
    score(
        &["--prefix", "a", "--continuation", ""],
        2,
        &["--continuation", "empty"],
    );
    score(
        &["--prefix", "", "--continuation", "a"],
        2,
        &["--prefix", "empty"],
    );
    score(&["--prefix", "a"], 2, &["--continuation"]);
    score(&["--continuation", "a"], 2, &["--prefix"]);
    score(&[], 2, &["--prefix", "--questions", "--file"]);
    score(
        &["--questions", "good.jsonl", "--file", "text.txt"],
        2,
        &["--file"],
    );
    score(
        &[&a[..], &["--questions", "good.jsonl"]].concat(),
        2,
        &["--questions"],
    );
    score(
        &[&a[..], &["--window", "9"]].concat(),
        2,
        &["--window", "--prefix"],
    );
    score(
        &[&a[..], &["--overlap", "9"]].concat(),
        2,
        &["--overlap", "--prefix"],
    );
    score(
        &[&a[..], &["--tokens"]].concat(),
        2,
        &["--tokens", "--prefix"],
    );
    let long = "a ".repeat(97);
    score(
        &["--prefix", &long, "--continuation", "a"],
        2,
        &["97 tokens", "96"],
    );

    let file = |more: &[&str], status: i32, wanted: &[&str]| {
        score(&[&["--file", "text.txt"], more].concat(), status, wanted);
    };
    file(&["--separately"], 2, &["--separately"]);
    file(&["--continuation", "a"], 2, &["--continuation", "--file"]);
    score(
        &["--questions", "word.jsonl", "--continuation", "a"],
        2,
        &["--continuation", "--questions"],
    );
    file(&["--tokens"], 2, &["--tokens", "--json"]);
    file(&["--window", "97"], 2, &["--window 97", "2 to 96"]);
    file(&["--window", "1"], 2, &["--window 1", "2 to 96"]);
    file(
        &["--window", "8", "--overlap", "8"],
        2,
        &["--overlap 8", "less"],
    );
    file(&["--window", "-3"], 2, &["--window"]);
    score(&["--file", "absent.txt"], 1, &["absent.txt"]);
    score(
        &["--file", "latin1.txt"],
        1,
        &["latin1.txt", "byte 3", "UTF-8"],
    );
    score(&["--file", "one.txt"], 1, &["one.txt", "single token"]);
    refused(
        at,
        &["score", "--model", &tiny, "--file", "text.txt"],
        1,
        &[&tiny, "no tokenizer.json"],
    );
}

/// The matrices of a states file.
fn matrix(file: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = file.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::F32);
    let values = tensor.data().as_chunks().0;
    let values = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (tensor.shape().to_vec(), values)
}

#[test]
fn a_states_file_holds_what_the_model_computes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // With a beginning-of-text token, and the words of the other fixture.
    let bos = tiny_with_bos(at);
    let words = Path::new(&small()).join("tokenizer.json");
    std::fs::copy(words, Path::new(&bos).join("tokenizer.json")).unwrap();
    for (path, count) in [(small(), 6), (bos, 7)] {
        let model = open(&path);
        let text = "once there was a day .";
        let tokens = model.tokenizer().unwrap().encode(text).unwrap();
        let last = model.last_layer().0;
        let list = format!("0,{last}");
        let args = [
            "states",
            "--model",
            &path,
            "--text",
            text,
            "--layers",
            &list,
            "--attention",
            "all",
            "--out",
            "s.safetensors",
        ];
        let told = json(at, &args);
        assert_eq!(told["tokens"], count);
        let bytes = std::fs::read(at.join("s.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), 1 + 2 + last);
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata: Value =
            serde_json::from_str(&header.metadata().as_ref().unwrap()["lawvere"]).unwrap();
        assert_eq!(metadata["model_sha256"], model.identity());
        assert_eq!(metadata["tool_version"], env!("CARGO_PKG_VERSION"));
        assert!(
            metadata["command"]
                .as_str()
                .unwrap()
                .contains("model states")
        );

        let stored = file.tensor("tokens").unwrap();
        assert_eq!((stored.dtype(), stored.shape()), (Dtype::U32, &[count][..]));
        let stored = stored.data().as_chunks().0;
        let stored: Vec<u32> = stored.iter().map(|b| u32::from_le_bytes(*b)).collect();
        let read: Vec<u32> = model.bos().into_iter().chain(tokens.clone()).collect();
        assert_eq!(stored, read);

        let first = 1 - usize::from(model.bos().is_some());
        let positions: Vec<u32> = (first as u32..=tokens.len() as u32).collect();
        let mut context = ContextBatch::new();
        context.push(&tokens, &positions).unwrap();
        let layers = [0, last];
        let expected = model.encode(&context, &layers.map(Layer)).unwrap();
        for (layer, expected) in layers.iter().zip(&expected) {
            let (shape, values) = matrix(&file, &format!("states.{layer}"));
            assert_eq!(shape, [count, model.hidden_size()]);
            assert_eq!(values, expected.data());
        }
        let all: Vec<usize> = (1..=last).collect();
        let maps = model.attention(&tokens, &all).unwrap();
        for (layer, expected) in all.iter().zip(&maps) {
            let (shape, values) = matrix(&file, &format!("attention.{layer}"));
            assert_eq!(shape, [expected.nrows() / count, count, count]);
            assert_eq!(values, expected.data());
        }
        // The same command gives the same bytes.
        json(at, &args);
        assert_eq!(std::fs::read(at.join("s.safetensors")).unwrap(), bytes);
    }
}

#[test]
fn states_that_cannot_be_had_leave_nothing_and_replace_nothing() {
    let long = "a ".repeat(97);
    let folder = folder_with(&[
        ("text.txt", b"a day"),
        ("long.txt", long.as_bytes()),
        ("latin1.txt", b"caf\xe9"),
        ("mine.txt", b"do not touch"),
        ("zebra.txt", b"zebra"),
    ]);
    let at = folder.path();
    let small = small();
    let states = |more: &[&str], status: i32, wanted: &[&str]| {
        let out = ["states", "--model", &small, "--out", "out"];
        refused(at, &[&out[..], more].concat(), status, wanted);
    };
    states(&["--text", &long], 2, &["--text", "97 tokens", "96"]);
    states(&["--file", "long.txt"], 1, &["long.txt", "97 tokens", "96"]);
    states(&["--text", ""], 2, &["--text", "empty"]);
    states(&["--text", "zebra"], 2, &["--text", "vocabulary"]);
    states(&["--file", "zebra.txt"], 1, &["zebra.txt", "vocabulary"]);
    states(&["--file", "latin1.txt"], 1, &["latin1.txt", "UTF-8"]);
    states(&["--file", "absent.txt"], 1, &["absent.txt"]);
    states(&["--text", "a", "--file", "text.txt"], 2, &["--file"]);
    states(&[], 2, &["--text", "--file"]);
    states(
        &["--text", "a", "--layers", "3"],
        2,
        &["--layers", "layer 3", "2"],
    );
    states(
        &["--text", "a", "--layers", "first"],
        2,
        &["--layers", "spread"],
    );
    states(
        &["--text", "a", "--attention", "0,1"],
        2,
        &["--attention", "layer 0"],
    );
    states(
        &["--text", "a", "--attention", "3"],
        2,
        &["--attention", "layer 3"],
    );
    let tiny = tiny();
    let elsewhere = |model: &str, out: &str, status: i32, wanted: &[&str]| {
        let args = ["states", "--model", model, "--text", "a day", "--out", out];
        refused(at, &args, status, wanted);
    };
    elsewhere(&tiny, "out", 1, &["no tokenizer.json"]);
    elsewhere(&small, "mine.txt", 2, &["mine.txt", "not replaced"]);
    elsewhere(&small, ".", 2, &["folder"]);
    elsewhere(
        &small,
        "absent/s.safetensors",
        2,
        &["absent/s.safetensors", "does not exist"],
    );
    assert_eq!(std::fs::read(at.join("mine.txt")).unwrap(), b"do not touch");

    // A run that fails leaves the states of the one before.
    let good = ["states", "--model", &small, "--text", "a day", "--out", "s"];
    json(at, &good);
    let before = std::fs::read(at.join("s")).unwrap();
    let bad = [
        "states", "--model", &small, "--file", "long.txt", "--out", "s",
    ];
    refused(at, &bad, 1, &["long.txt"]);
    assert_eq!(std::fs::read(at.join("s")).unwrap(), before);
    let other = [
        "states", "--model", &small, "--text", "the day", "--out", "s",
    ];
    json(at, &other);
    assert_ne!(std::fs::read(at.join("s")).unwrap(), before);
    assert_eq!(std::fs::read_dir(at).unwrap().count(), 6);
}

#[test]
fn generated_texts_depend_on_the_seed_and_not_on_threads() {
    let folder = folder_with(&[("prompts.txt", b"once there was\r\n\nthe day\n")]);
    let at = folder.path();
    let path = small();
    let generate = |more: &[&str]| {
        let mut found = json(at, &[&["generate", "--model", &path], more].concat());
        for measured in ["seconds", "tokens_per_second"] {
            assert!(found[measured].as_f64().unwrap() > 0.0);
            found[measured] = Value::Null;
        }
        found["provenance"] = Value::Null;
        found
    };
    let prompts = [
        "--prompts",
        "prompts.txt",
        "--samples",
        "3",
        "--tokens",
        "12",
    ];
    let one = generate(&[&prompts[..], &["--threads", "1"]].concat());
    assert_eq!(one, generate(&[&prompts[..], &["--threads", "2"]].concat()));
    assert_ne!(
        one["texts"],
        generate(&[&prompts[..], &["--seed", "5"]].concat())["texts"]
    );
    let texts = one["texts"].as_array().unwrap();
    assert_eq!(texts.len(), 6);
    let model = open(&path);
    let tokenizer = model.tokenizer().unwrap();
    let mut generated = 0;
    for text in texts {
        let prompt = text["prompt_text"].as_str().unwrap();
        let tokens = ids(&text["tokens"]);
        generated += tokens.len();
        let score = model
            .score(&[(&tokenizer.encode(prompt).unwrap(), &tokens)])
            .unwrap();
        for (a, &b) in floats(&text["log_probs"])
            .iter()
            .zip(&score.scores[0].tokens)
        {
            assert!((a - f64::from(b)).abs() < 1e-4);
        }
        let ended = tokens.last() == Some(&110);
        assert_eq!(text["finish"], if ended { "stop" } else { "length" });
        assert!(tokens.len() == 12 || ended);
        let words: Vec<&str> = text["text"].as_str().unwrap().split_whitespace().collect();
        assert_eq!(words.len(), tokens.len() - usize::from(ended));
    }
    assert_eq!(one["generated"], generated);
    assert_eq!(texts[0]["prompt_text"], "once there was");
    assert_eq!(texts[5]["prompt_text"], "the day");

    let greedy = [
        "--prompt",
        "once there was",
        "--temperature",
        "0",
        "--tokens",
        "5",
    ];
    let likeliest = generate(&greedy)["texts"][0]["tokens"].clone();
    let one = [
        "--prompt",
        "once there was",
        "--top-k",
        "1",
        "--tokens",
        "5",
        "--seed",
        "9",
    ];
    assert_eq!(generate(&one)["texts"][0]["tokens"], likeliest);
    let told = text(at, &[&["generate", "--model", &path], &greedy[..]].concat());
    assert!(
        told.starts_with("once there was ") && told.lines().count() == 1,
        "{told}"
    );

    // "." is likely enough to come, and ends the text where it does.
    let stop = [
        "--prompt",
        "once there was",
        "--stop",
        ".",
        "--samples",
        "9",
        "--tokens",
        "90",
    ];
    let stopped = generate(&stop);
    let point = tokenizer.id(".").unwrap();
    for text in stopped["texts"].as_array().unwrap() {
        let tokens = ids(&text["tokens"]);
        let first = tokens.iter().position(|&t| t == point);
        assert_eq!(text["finish"] == "stop", first.is_some());
        assert!(first.is_none_or(|first| first == tokens.len() - 1));
        assert!(!text["text"].as_str().unwrap().contains('.'));
    }
    let on = [
        "--prompt",
        "once there was",
        "--no-stop",
        "--samples",
        "9",
        "--tokens",
        "500",
    ];
    for text in generate(&on)["texts"].as_array().unwrap() {
        assert_eq!(text["finish"], "window");
        assert_eq!(ids(&text["tokens"]).len(), 96 - 3 + 1);
    }
}

#[test]
fn choices_that_make_no_text_are_refused() {
    let long = "a ".repeat(97);
    let folder = folder_with(&[
        ("long.txt", format!("a day\n{long}\n").as_bytes()),
        ("blank.txt", b"\n\n"),
        ("latin1.txt", b"caf\xe9"),
        ("zebra.txt", b"a\nzebra\n"),
    ]);
    let at = folder.path();
    let small = small();
    let generate = |more: &[&str], status: i32, wanted: &[&str]| {
        refused(
            at,
            &[&["generate", "--model", &small], more].concat(),
            status,
            wanted,
        );
    };
    let with = |more: &[&str], wanted: &[&str]| {
        generate(&[&["--prompt", "a day"], more].concat(), 2, wanted);
    };
    for temperature in ["-1", "NaN", "inf", "-inf", "hot"] {
        let both = format!("--temperature={temperature}");
        with(&[&both], &["temperature"]);
    }
    with(&["--temperature", "-0.5"], &["temperature of -0.5"]);
    with(&["--top-k", "0"], &["top-k"]);
    for count in ["--top-k", "--samples", "--tokens"] {
        with(&[count, "-2"], &[count]);
    }
    for top_p in ["0", "1.5", "-0.1", "nan"] {
        with(&["--top-p", top_p], &["top-p"]);
    }
    with(&["--samples", "0"], &["--samples", "at least 1"]);
    with(&["--samples", "9000000"], &["--samples", "1000000"]);
    with(&["--tokens", "0"], &["--tokens", "at least 1"]);
    with(
        &["--temperature", "0", "--top-k", "3"],
        &["--top-k", "no effect"],
    );
    with(
        &["--temperature", "0", "--top-p", "0.5"],
        &["--top-p", "no effect"],
    );
    with(
        &["--temperature", "0", "--samples", "2"],
        &["--samples", "no effect"],
    );
    with(&["--stop", "a day"], &["--stop", "exactly one token"]);
    with(&["--stop", ""], &["--stop", "exactly one token"]);
    with(&["--stop", "zebra"], &["--stop", "zebra"]);
    with(&["--stop", ".", "--no-stop"], &["--no-stop"]);
    with(&["--prompts", "long.txt"], &["--prompts"]);
    generate(&[], 2, &["--prompt", "--prompts"]);
    generate(
        &["--prompt", ""],
        2,
        &["--prompt", "empty", "beginning-of-text"],
    );
    generate(&["--prompt", &long], 2, &["--prompt", "97 tokens", "96"]);
    generate(&["--prompt", "zebra"], 2, &["--prompt", "vocabulary"]);
    generate(
        &["--prompts", "long.txt"],
        1,
        &["long.txt: line 2", "97 tokens"],
    );
    generate(
        &["--prompts", "zebra.txt"],
        1,
        &["zebra.txt: line 2", "vocabulary"],
    );
    generate(&["--prompts", "blank.txt"], 1, &["blank.txt", "no line"]);
    generate(&["--prompts", "latin1.txt"], 1, &["latin1.txt", "UTF-8"]);
    generate(&["--prompts", "absent.txt"], 1, &["absent.txt"]);
    let tiny = tiny();
    let on_tiny = ["generate", "--model", &tiny, "--prompt", "a"];
    refused(at, &on_tiny, 1, &[&tiny, "no tokenizer.json"]);
    fail(at, &["model"], 2, &["Usage"], &[]);
    assert_eq!(lawvere(at, &["model", "--help"]).status.code(), Some(0));
}

#[test]
fn networks_trained_here_answer_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for network in ["lstm", "mlp"] {
        let train = [
            "train",
            "--words",
            "100",
            "--stories",
            "50",
            "--steps",
            "3",
            "--network",
            network,
            "--width",
            "16",
            "--layers",
            "1",
            "--out",
            network,
            "--quiet",
        ];
        succeed(at, &train);
        let info = json(at, &["info", "--model", network]);
        assert_eq!(info["architecture"]["architecture"], network);
        assert_eq!(info["context_length"], Value::Null);
        let end = info["document_end"].as_u64().unwrap();
        assert_eq!(info["eos"][0]["id"], end);
        let generate = [
            "generate", "--model", network, "--prompt", "the", "--tokens", "4",
        ];
        let texts = json(at, &generate)["texts"].clone();
        assert!(!ids(&texts[0]["tokens"]).is_empty());
        let score = [
            "score",
            "--model",
            network,
            "--prefix",
            "the",
            "--continuation",
            "the",
        ];
        let scored = json(at, &score);
        assert!(scored["result"]["answers"][0]["total"].as_f64().unwrap() < 0.0);
        let states = ["states", "--model", network, "--text", "the", "--out", "s"];
        assert_eq!(json(at, &states)["layers"], serde_json::json!([0]));
        let maps = ["--attention", "all"];
        refused(
            at,
            &[&states[..], &maps].concat(),
            2,
            &["--attention", "no attention"],
        );
        std::fs::write(at.join("text.txt"), "the the the the the").unwrap();
        let read = json(at, &["score", "--model", network, "--file", "text.txt"]);
        assert_eq!(read["scored"], 4);
        let rounded = ["info", "--model", network, "--precision", "bf16"];
        refused(at, &rounded, 1, &["in f32 on the cpu only"]);
    }
}

#[test]
fn the_sample_model_answers() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let path = sample();
    let tokens = json(
        at,
        &[
            "tokenize",
            "--model",
            &path,
            "The capital of France is",
            " Paris",
        ],
    );
    assert_eq!(ids(&tokens["texts"][0]["ids"]), [504, 3575, 282, 4649, 314]);
    assert_eq!(tokens["texts"][1]["tokens"], serde_json::json!(["ĠParis"]));
    let args = [
        "score",
        "--model",
        &path,
        "--prefix",
        "The capital of France is",
        "--continuation",
        " Rome",
        "--continuation",
        " Paris, a city",
        "--continuation",
        " Paris",
    ];
    let result = json(at, &args)["result"].clone();
    let total = |i: usize| result["answers"][i]["total"].as_f64().unwrap();
    assert!(total(2) > total(0) + 3.0 && total(2) > total(1));
    assert_eq!(result["forwarded"], 8);
    assert_eq!(result["separately"], 18);
    let info = json(at, &["info", "--model", &path]);
    assert_eq!(
        info["eos"],
        serde_json::json!([{"id": 2, "token": "<|im_end|>"}])
    );
    assert_eq!(info["chat_template"], true);
    let generate = [
        "generate",
        "--model",
        &path,
        "--prompt",
        "The capital of France is",
        "--temperature",
        "0",
        "--tokens",
        "3",
        "--stop",
        "<|im_end|>",
    ];
    let found = json(at, &generate);
    assert!(
        found["texts"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with(" Paris"),
        "{found}"
    );
}

#[test]
fn a_model_is_computed_in_the_precision_that_is_asked_for() {
    let folder = folder_with(&[(
        "ask.jsonl",
        b"{\"prefix\": [3, 1], \"continuation\": [5, 8, 2]}\n",
    )]);
    let (at, model) = (folder.path(), tiny());
    let score = |more: &[&str]| {
        let args = ["score", "--model", &model, "--questions", "ask.jsonl"];
        let found = json(at, &[&args, more].concat());
        found["result"]["answers"][0]["total"].as_f64().unwrap()
    };
    let exact = score(&[]);
    assert_eq!(score(&["--precision", "f32", "--device", "cpu"]), exact);
    let near = score(&["--precision", "bf16"]);
    assert!(
        near != exact && (near - exact).abs() < 0.1,
        "{near} {exact}"
    );
    let [f32, bf16] = ["f32", "bf16"]
        .map(|precision| json(at, &["info", "--model", &model, "--precision", precision]));
    assert_ne!(f32["identity"], bf16["identity"]);
    assert!(bf16["precision"].as_str().unwrap().starts_with("bf16-"));
    assert!(bf16["weight_bytes"].as_u64() < f32["weight_bytes"].as_u64());
    let info = ["info", "--model", &model];
    let with = |more: &[&'static str]| -> Vec<String> {
        info.iter().chain(more).map(|x| (*x).to_owned()).collect()
    };
    for (more, status, wanted) in [
        (&["--precision", "f16"][..], 2, "f32, bf16 and"),
        (&["--device", "gpu"], 2, "cpu, cuda"),
        (&["--device", "cuda", "--precision", "bf16"], 1, "take f32"),
    ] {
        let args = with(more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refused(at, &args, status, &[wanted]);
    }
    if cfg!(not(feature = "cuda")) {
        let args = with(&["--device", "cuda:1"]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refused(at, &args, 1, &["cuda:1", "without the feature `cuda`"]);
    }
}

#[test]
fn a_model_is_timed_beside_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let model = small();
    let args = [
        "bench",
        "--model",
        &model,
        "--shapes",
        "2x8,1x16",
        "--repeats",
        "2",
    ];
    let report = json(folder.path(), &args);
    let peak = report["peak_gflops"].as_f64().unwrap();
    assert!(peak > 0.0);
    let products = report["products"].as_array().unwrap();
    assert_eq!(
        (&products[0]["precision"], &products[0]["used"]),
        (&"f32".into(), &true.into())
    );
    assert!(products.len() > 1 && products[1]["precision"] == "bf16-float32");
    for product in products {
        let number = |key: &str| product[key].as_f64().unwrap();
        assert!(number("limit_gflops") > 0.0);
        let fraction = number("gflops") / number("limit_gflops");
        assert!((number("fraction_of_limit") - fraction).abs() < 1e-9);
    }
    let steps = |key: &str| report["steps"][key].as_f64().unwrap();
    assert_eq!(floats(&report["steps"]["seconds"]).len(), 2);
    assert!((steps("tokens_per_second") * steps("median") - steps("tokens")).abs() < 1e-6);
    let rate = steps("bytes_per_token") * steps("tokens_per_second") / 1e9;
    assert!((steps("gigabytes_per_second") - rate).abs() < 1e-9);
    // Every weight of a decoder with a head of its own, but for the embedding's rows and norms.
    let info = json(folder.path(), &["info", "--model", &model]);
    let parameters = info["parameters"].as_f64().unwrap();
    let taken = steps("bytes_per_token") / 4.0;
    assert!(taken <= parameters && taken > 0.5 * parameters);
    let shapes = report["shapes"].as_array().unwrap();
    assert_eq!(shapes.len(), 2);
    assert_eq!(shapes[0]["shape"], "2x8");
    for shape in shapes {
        for what in ["states", "logits", "score"] {
            let times = &shape[what];
            let number = |key: &str| times[key].as_f64().unwrap();
            let seconds = floats(&times["seconds"]);
            assert_eq!(seconds.len(), 2);
            assert!((number("median") - (seconds[0] + seconds[1]) / 2.0).abs() < 1e-12);
            assert!((number("fraction_of_peak") - number("gflops") / peak).abs() < 1e-9);
            // 16 tokens a shape; scores are of all but the first of each sequence.
            let tokens = number("tokens_per_second") * number("median");
            let batch = shape["batch"].as_f64().unwrap();
            let expected = if what == "score" { 16.0 - batch } else { 16.0 };
            assert!((tokens - expected).abs() < 1e-6);
        }
    }
    for (shapes, wanted) in [
        ("1x97", "96 tokens"),
        ("0x4", "not a shape"),
        ("3", "not a shape"),
        ("1x1", "not a shape"),
        ("200x8", "at most 111"),
        ("1x99999999999999999999", "not a shape"),
    ] {
        let args = ["bench", "--model", &model, "--shapes", shapes];
        refused(folder.path(), &args, 2, &[wanted]);
    }
    let args = ["bench", "--model", &model, "--repeats", "0"];
    refused(folder.path(), &args, 2, &["--repeats"]);
}
