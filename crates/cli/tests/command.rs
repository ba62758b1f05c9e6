//! The command as a user meets it: what it makes, and what it says to bad input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{fail, folder_with, succeed};
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn model() -> String {
    let path = root().join("sample/smollm2-135m-instruct-q4_1.gguf");
    assert!(
        path.exists(),
        "the sample model is missing; run scripts/fetch-sample.sh"
    );
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_corpus_that_cannot_be_read_is_named_with_the_place() {
    let folder = folder_with(&[
        ("empty.txt", b""),
        ("blank.txt", b"\n \n\n"),
        ("latin1.txt", b"fine\ncaf\xe9\n"),
        ("binary.txt", b"abc\x00def"),
        ("good.txt", b"the cat sat\nthe cat ran\n"),
    ]);
    let at = folder.path();
    let index = |corpus: &'static str| ["index", "build", "--corpus", corpus, "--out", "ix"];
    fail(at, &index("missing.txt"), 1, &["missing.txt"], &["ix"]);
    fail(at, &index("empty.txt"), 1, &["empty.txt"], &["ix"]);
    fail(at, &index("blank.txt"), 1, &["blank.txt"], &["ix"]);
    fail(
        at,
        &index("latin1.txt"),
        1,
        &["latin1.txt", "byte 8", "UTF-8"],
        &["ix"],
    );
    fail(at, &index("binary.txt"), 1, &["binary.txt", "3"], &["ix"]);
    succeed(
        at,
        &[
            "index",
            "build",
            "--corpus",
            "latin1.txt",
            "--lossy",
            "--out",
            "lossy",
        ],
    );
    std::fs::create_dir(at.join("mine")).unwrap();
    std::fs::write(at.join("mine/thesis.txt"), "do not touch").unwrap();
    fail(
        at,
        &["index", "build", "--corpus", "good.txt", "--out", "mine"],
        2,
        &["mine"],
        &[],
    );
    assert!(at.join("mine/thesis.txt").exists());
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_would_be_right() {
    let folder = folder_with(&[("good.txt", b"the cat sat\n")]);
    let at = folder.path();
    fail(at, &[], 2, &["Usage"], &[]);
    fail(
        at,
        &["index", "build", "--corpus", "good.txt"],
        2,
        &["--out"],
        &[],
    );
    let report = [
        "report", "--model", "m.gguf", "--corpus", "good.txt", "--out", "r",
    ];
    fail(
        at,
        &[&report[..], &["--order", "0"]].concat(),
        2,
        &["--order", "at least 1"],
        &["r"],
    );
    fail(
        at,
        &[&report[..], &["--contexts", "many"]].concat(),
        2,
        &["whole number"],
        &["r"],
    );
    fail(
        at,
        &[&report[..], &["--layers", "first"]].concat(),
        2,
        &["spread"],
        &["r"],
    );
}

#[test]
fn a_damaged_index_is_refused_and_a_rerun_mends_it() {
    let folder = folder_with(&[("good.txt", b"the cat sat\nthe cat ran\nthe dog sat\n")]);
    let at = folder.path();
    let index = ["index", "build", "--corpus", "good.txt", "--out", "ix"];
    let observe = ["observe", "--index", "ix", "--order", "1", "--out", "obs"];
    fail(at, &observe, 1, &["ix"], &["obs"]);
    succeed(at, &index);
    let arrays = at.join("ix/shard-00000.safetensors");
    let whole = std::fs::read(&arrays).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() - 1], &[]] {
        std::fs::write(&arrays, damaged).unwrap();
        fail(
            at,
            &observe,
            1,
            &["shard-00000.safetensors", "lawvere index"],
            &["obs"],
        );
    }
    succeed(at, &index);
    let result: Value =
        serde_json::from_str(&succeed(at, &[&observe[..], &["--json"]].concat())).unwrap();
    assert_eq!(result["info"]["document_end"], "outcome");
    // "the" 3 times, "cat" and "sat" twice; "ran" and "dog" occur once, fewer than the least count.
    assert_eq!(result["samples"], 7);
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused_before_anything_is_made() {
    let folder = folder_with(&[
        ("good.txt", b"the cat sat\nthe cat ran\nthe dog sat\n"),
        (
            "bad.gguf",
            b"GGUF\x03\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00",
        ),
    ]);
    let at = folder.path();
    let report = |model: &str| {
        [
            "report", "--model", model, "--corpus", "good.txt", "--out", "r",
        ]
        .map(str::to_owned)
    };
    let run = |model: &str, wanted: &[&str]| {
        let args = report(model);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        fail(at, &args, 1, wanted, &["r/report.html"]);
    };
    run("missing.gguf", &["missing.gguf"]);
    run("bad.gguf", &["bad.gguf", "tensors"]);
    let tiny = root().join("fixtures/llama-tiny/untied");
    run(tiny.to_str().unwrap(), &["no tokenizer.json"]);
    // An index of words does not belong to the sample model.
    succeed(
        at,
        &["index", "build", "--corpus", "good.txt", "--out", "words"],
    );
    let model = model();
    let observe = [
        "observe", "--index", "words", "--model", &model, "--out", "obs",
    ];
    fail(at, &observe, 1, &["tokenizer"], &["obs"]);
    let bpe = [
        "index",
        "build",
        "--corpus",
        "good.txt",
        "--tokenizer",
        &model,
        "--out",
        "bpe",
    ];
    succeed(at, &bpe);
    let observe = [
        "observe", "--index", "bpe", "--model", &model, "--out", "obs",
    ];
    fail(
        at,
        &[&observe[..], &["--layers", "31"]].concat(),
        2,
        &["layer 31", "30"],
        &["obs"],
    );
    fail(
        at,
        &[&observe[..], &["--order", "9000"]].concat(),
        2,
        &["order 9000", "8192"],
        &["obs"],
    );
    let windowed = [&observe[..], &["--kind", "positions", "--window", "9000"]].concat();
    fail(at, &windowed, 2, &["window of 9000"], &["obs"]);
    fail(
        at,
        &[&observe[..], &["--min-count", "50"]].concat(),
        1,
        &["50"],
        &["obs"],
    );
}

#[test]
fn what_a_hostile_tester_found_stays_mended() {
    let same = "the cat sat\n".repeat(40);
    let folder = folder_with(&[
        ("same.txt", same.as_bytes()),
        ("one.txt", b"In the beginning\n"),
    ]);
    let at = folder.path();
    let index = ["index", "build", "--corpus", "same.txt", "--out", "ix"];
    fail(
        at,
        &[&index[..], &["--tokenizer", "wrods"]].concat(),
        2,
        &["wrods", "words"],
        &["ix"],
    );
    fail(
        at,
        &[&index[..], &["--threads", "100000"]].concat(),
        2,
        &["--threads", "512"],
        &["ix"],
    );
    succeed(at, &index);
    let layers = [
        "observe", "--index", "ix", "--layers", "0,99", "--out", "obs",
    ];
    fail(at, &layers, 2, &["--layers", "--model"], &["obs"]);
    let untrained = ["observe", "--index", "ix", "--untrained", "--out", "obs"];
    fail(at, &untrained, 2, &["--untrained", "--model"], &["obs"]);

    // Contexts that say nothing are refused before the model reads anything.
    let model = model();
    for corpus in ["same.txt", "one.txt"] {
        let report = [
            "report", "--model", &model, "--corpus", corpus, "--out", "r", "--order", "1",
        ];
        let least = ["--min-count", "1"];
        fail(
            at,
            &[&report[..], &least].concat(),
            1,
            &[corpus, "--order"],
            &["r/observation"],
        );
    }

    if Path::new("/dev/full").exists() {
        let output = Command::new(env!("CARGO_BIN_EXE_lawvere"))
            .current_dir(at)
            .args([&index[..], &["--quiet"]].concat())
            .stdout(
                std::fs::OpenOptions::new()
                    .write(true)
                    .open("/dev/full")
                    .unwrap(),
            )
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: standard output"));
    }
}

/// Strings that try to leave the places a page puts them in, often enough to be contexts.
const HOSTILE: &str = "</script><script>document.title='owned'</script> x\n<!-- <img src=x onerror=document.title='owned'> %{x} &lt;b&gt; \"q\" \\ '\n";

/// Opens a page and returns its title and document after scripts have run.
fn open_in_chromium(page: &Path) -> String {
    let browser = std::env::var("LAWVERE_CHROMIUM").unwrap_or_else(|_| "chromium".into());
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(&browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args([
            "--virtual-time-budget=60000",
            "--enable-logging=stderr",
            "--dump-dom",
        ])
        .arg(format!("file://{}", page.canonicalize().unwrap().display()))
        .output()
        .unwrap_or_else(|e| panic!("{browser}: {e}; scripts/test.sh installs what the tests need"));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!log.contains("CONSOLE"), "console messages: {log}");
    String::from_utf8(output.stdout).unwrap()
}

/// Where two JSON values differ first.
fn difference(a: &Value, b: &Value, path: &str) -> Option<String> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) if x.len() == y.len() => x
            .iter()
            .find_map(|(key, value)| difference(value, &y[key], &format!("{path}.{key}"))),
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            (0..x.len()).find_map(|i| difference(&x[i], &y[i], &format!("{path}[{i}]")))
        }
        _ => (a != b).then(|| format!("{path}: {a} {b}")),
    }
}

#[test]
fn a_report_on_the_sample_model_draws_every_chart_and_does_not_depend_on_threads() {
    let bible = std::fs::read_to_string(root().join("sample/king-james.txt"))
        .expect("the sample text is missing; run scripts/fetch-sample.sh");
    let verses: String = bible.lines().take(400).flat_map(|l| [l, "\n"]).collect();
    let corpus = format!("{verses}{}", HOSTILE.repeat(40));
    let folder = folder_with(&[("corpus.txt", corpus.as_bytes())]);
    let at = folder.path();
    let model = model();
    let run = |threads: &str, out: &str| {
        let args = [
            "report",
            "--model",
            &model,
            "--corpus",
            "corpus.txt",
            "--out",
            out,
            "--contexts",
            "300",
            "--order",
            "2",
            "--layers",
            "0,15",
            "--positions",
            "600",
            "--threads",
            threads,
            "--json",
        ];
        let summary: Value = serde_json::from_str(&succeed(at, &args)).unwrap();
        assert_eq!(summary["contexts"], 300);
        let text = std::fs::read_to_string(at.join(out).join("report.json")).unwrap();
        let mut report: Value = serde_json::from_str(&text).unwrap();
        report["provenance"] = Value::Null;
        report
    };
    let one = run("1", "one");
    if let Some(path) = difference(&one, &run("2", "two"), "report") {
        panic!("{path} depends on the number of threads");
    }

    let information = &one["information"]["likelihood"];
    assert!(information["identity_defect"].as_f64().unwrap() < 1e-9);
    assert!(
        one["metric"]["corpus_isometry"]["yoneda_defect"]
            .as_f64()
            .unwrap()
            < 1e-9
    );
    assert!(
        one["metric"]["model_isometry"]["yoneda_defect"]
            .as_f64()
            .unwrap()
            < 1e-9
    );

    let dom = open_in_chromium(&at.join("one/report.html"));
    let charts = dom.matches("data-chart=").count();
    assert!(charts >= 10, "{charts} charts");
    assert_eq!(dom.matches("data-drawn=\"true\"").count(), charts);
    assert!(
        dom.contains("<title>") && !dom.contains("<title>owned"),
        "a corpus string was executed"
    );
    let tables = std::fs::read_dir(at.join("one/data")).unwrap().count();
    assert!(tables >= charts, "{tables} CSV files for {charts} charts");
}

#[test]
fn a_run_that_is_killed_leaves_no_page_and_its_rerun_succeeds() {
    let line = "in the beginning was the word and the word was with them in the beginning\n";
    let folder = folder_with(&[("corpus.txt", line.repeat(30).as_bytes())]);
    let at = folder.path();
    let model = model();
    let args = [
        "report",
        "--model",
        &model,
        "--corpus",
        "corpus.txt",
        "--out",
        "r",
        "--contexts",
        "20",
        "--order",
        "2",
        "--layers",
        "last",
        "--positions",
        "100",
        "--texts",
        "20",
    ];
    let mut child = Command::new(env!("CARGO_BIN_EXE_lawvere"))
        .current_dir(at)
        .args(args)
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Killed somewhere in the middle: as soon as the index is there.
    let start = std::time::Instant::now();
    while !at.join("r/index/space.json").exists() && start.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(at.join("r/index/space.json").exists() && !at.join("r/report.html").exists());
    succeed(at, &args);
    assert!(at.join("r/report.html").exists() && !at.join("r/observation.partial").exists());
}
