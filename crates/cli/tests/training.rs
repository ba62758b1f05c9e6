//! Training, the built-in language, and the report that needs nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{fail, folder_with, lawvere, succeed};
use serde_json::Value;

fn json(folder: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&succeed(folder, &[args, &["--json", "--quiet"]].concat())).unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// A short run: enough to be wrong in, quick.
const SMALL: [&str; 6] = ["--words", "120", "--stories", "600", "--steps", "60"];

#[test]
fn a_report_without_arguments_puts_the_truth_beside_its_estimates() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let sizes = [
        "--contexts",
        "400",
        "--texts",
        "80",
        "--positions",
        "2000",
        "--order",
        "2",
    ];
    let command = [&["report"][..], &SMALL, &sizes].concat();
    let printed = json(at, &command);
    for name in [
        "report.html",
        "report.json",
        "stories.txt",
        "model",
        "index",
    ] {
        assert!(at.join("report").join(name).exists(), "{name}");
    }
    let report = read(&at.join("report/report.json"));
    let truth = &report["truth"];
    let language: Value = json(at, &["stories", "--words", "120"]);
    assert_eq!(truth["language"]["words"], 120);
    assert_eq!(truth["language"]["identity"], language["identity"]);
    assert_eq!(truth["language"]["entropy_rate"], language["entropy_rate"]);

    let exact = &truth["information"]["likelihood"];
    let [ce, kl, h] = ["cross_entropy", "divergence", "entropy"].map(|k| number(&exact[k]));
    assert!((ce - kl - h).abs() < 1e-9 && kl > 0.0);
    let found = &report["information"]["likelihood"];
    // The plug-in entropy is biased low; both cross-entropies are of the same model and contexts.
    assert!(number(&found["entropy"]) < h);
    let error = number(&found["cross_entropy_error"]);
    assert!(
        (number(&found["cross_entropy"]) - ce).abs() < 6.0 * error,
        "{found} {exact}"
    );
    // Sixty steps are not enough, and nothing is better than the truth.
    let gap = number(&printed["truth"]["gap"]);
    assert!(
        gap > 4.0 * number(&printed["truth"]["gap_error"]),
        "{printed}"
    );
    let loss = number(&printed["truth"]["loss"]);
    assert!((loss - number(&printed["truth"]["exact_loss"]) - gap).abs() < 1e-6);

    // Supports seen are part of the exact ones, and most of the text is in them.
    let geometry = &truth["geometry"];
    assert!(number(&geometry["seen"]) < number(&geometry["summary"]["entries"]));
    let unseen = number(&geometry["unseen_mass"]);
    assert!(unseen > 0.0 && unseen < 0.1, "{unseen}");
    let metric = &truth["metric"]["corpus"];
    let share = number(&metric["within_two_errors"]) / number(&metric["uncertain"]);
    assert!(share > 0.85, "{metric}");
    let texts = report["metric"]["texts"].as_array().unwrap();
    assert_eq!(
        truth["metric"]["distances"].as_array().unwrap().len(),
        texts.len()
    );
    assert_eq!(
        report["model"]["training"]["losses"]
            .as_array()
            .unwrap()
            .len(),
        60
    );

    // A second run takes up everything and finds the same.
    let again = lawvere(at, &[&command[..], &["--json"]].concat());
    let told = String::from_utf8(again.stderr).unwrap();
    assert!(told.contains("using the model in"), "{told}");
    assert!(told.contains("using the observation in"), "{told}");
    let mut second = read(&at.join("report/report.json"));
    let mut first = report;
    for report in [&mut first, &mut second] {
        report.as_object_mut().unwrap().remove("provenance");
    }
    assert!(first == second);
}

#[test]
fn the_cross_entropy_approaches_the_entropy_rate_from_above() {
    let folder = tempfile::tempdir().unwrap();
    let gap = |steps: &str| {
        let trained = json(
            folder.path(),
            &[
                "train",
                "--words",
                "120",
                "--stories",
                "4000",
                "--width",
                "32",
                "--layers",
                "2",
                "--steps",
                steps,
                "--out",
                steps,
            ],
        );
        let exact = &trained["training"]["held_out"]["exact"];
        assert!(
            number(&exact["gap"]) > 4.0 * number(&exact["gap_error"]),
            "{exact}"
        );
        number(&exact["gap"])
    };
    let gaps = [gap("40"), gap("160"), gap("800")];
    assert!(
        gaps[1] < 0.5 * gaps[0] && gaps[2] < 0.5 * gaps[1],
        "{gaps:?}"
    );
    assert!(gaps[2] < 0.1, "{gaps:?}");
}

#[test]
fn running_text_in_short_windows_is_judged_by_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let sizes = [
        "--contexts",
        "100",
        "--texts",
        "40",
        "--positions",
        "1500",
        "--window",
        "12",
    ];
    let printed = json(at, &[&["report"][..], &SMALL, &sizes].concat());
    // Windows of twelve tokens begin in the middle of stories, and no kernel knows what was before.
    let gap = number(&printed["truth"]["gap"]);
    assert!(gap > 0.0, "{printed}");
    let exact = number(&printed["truth"]["exact_loss"]);
    assert!(
        exact > number(&printed["truth"]["entropy_rate"]),
        "{printed}"
    );
}

#[test]
fn what_is_trained_does_not_depend_on_threads_and_does_on_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let weights = |out: &str, extra: &[&str]| {
        let args = [
            &["train", "--out", out, "--steps", "8", "--stories", "200"],
            extra,
        ]
        .concat();
        json(at, &args);
        std::fs::read(at.join(out).join("model.safetensors")).unwrap()
    };
    let one = weights("one", &["--threads", "1"]);
    assert!(one == weights("three", &["--threads", "3"]));
    assert!(one != weights("seed", &["--seed", "1"]));
}

#[test]
fn a_killed_training_is_taken_up_again_and_ends_as_if_it_had_not_been_killed() {
    let text = ["--network", "lstm", "--layers", "1", "--steps", "900"];
    killed_and_taken_up_again(&text, &["model.safetensors"]);
}

#[test]
fn measures_along_a_killed_training_are_those_of_a_whole_one() {
    let contexts = ["--network", "features", "--order", "2", "--contexts", "300"];
    let files = ["measures.jsonl", "observation/states-00000.safetensors"];
    killed_and_taken_up_again(&[&contexts[..], &["--steps", "12000"]].concat(), &files);
}

#[cfg(unix)]
#[test]
fn two_runs_do_not_train_in_one_place() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let partial = at.join("model.partial");
    std::fs::create_dir(&partial).unwrap();
    let held = std::fs::File::open(&partial).unwrap();
    held.try_lock().unwrap();
    let args = [
        "train",
        "--stories",
        "300",
        "--steps",
        "3",
        "--out",
        "model",
    ];
    fail(at, &args, 2, &["model.partial", "another run"], &["model"]);
    drop(held);
    succeed(at, &args);
}

fn killed_and_taken_up_again(training: &[&'static str], files: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let args = |out: &'static str| {
        let rest = ["--width", "32", "--stories", "300", "--out", out];
        [&["train"], training, &rest].concat()
    };
    let mut running = Command::new(env!("CARGO_BIN_EXE_lawvere"))
        .current_dir(at)
        .args(args("killed"))
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let state = at.join("killed.partial/state.safetensors");
    let start = Instant::now();
    while !state.exists() && running.try_wait().unwrap().is_none() {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "no state is saved"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    let finished = at.join("killed").exists();
    let told = String::from_utf8(lawvere(at, &args("killed")).stderr).unwrap();
    let expected = if finished {
        "using the model"
    } else {
        "going on after step"
    };
    assert!(told.contains(expected), "{told}");
    assert!(!at.join("killed.partial").exists());
    succeed(at, &args("whole"));
    for file in files {
        let of = |out: &str| std::fs::read(at.join(out).join(file)).unwrap();
        assert!(of("killed") == of("whole"), "{file}");
    }
    let losses = |out: &str| read(&at.join(out).join("training.json"))["losses"].clone();
    assert_eq!(losses("killed"), losses("whole"));
}

#[test]
fn a_run_stopped_before_its_first_state_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let args = [
        "train",
        "--width",
        "16",
        "--stories",
        "50",
        "--steps",
        "3",
        "--out",
        "model",
    ];
    std::fs::create_dir_all(at.join("model.partial/checkpoints/step-0")).unwrap();
    std::fs::write(at.join("model.partial/measures.jsonl"), "{}").unwrap();
    succeed(at, &args);
    assert!(!at.join("model/measures.jsonl").exists());
    // The same names in a folder of a result are nobody's.
    std::fs::create_dir(at.join("other")).unwrap();
    std::fs::write(at.join("other/measures.jsonl"), "{}").unwrap();
    let other = [&args[..8], &["other"]].concat();
    fail(at, &other, 2, &["other", "measures.jsonl"], &[]);
}

#[test]
fn every_network_learns_from_a_corpus_and_can_be_observed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    succeed(
        at,
        &[
            "stories",
            "--words",
            "110",
            "--stories",
            "400",
            "--out",
            "text.txt",
        ],
    );
    succeed(
        at,
        &["index", "build", "--corpus", "text.txt", "--out", "index"],
    );
    for network in ["decoder", "lstm", "mlp"] {
        let trained = json(
            at,
            &[
                "train",
                "--corpus",
                "text.txt",
                "--network",
                network,
                "--width",
                "32",
                "--layers",
                "1",
                "--steps",
                "80",
                "--out",
                network,
            ],
        );
        let record = &trained["training"];
        let losses = record["losses"].as_array().unwrap();
        assert!(number(&losses[79]) < 0.9 * number(&losses[0]), "{network}");
        let held_out = &record["held_out"];
        assert!(number(&held_out["loss"]) < number(&losses[0]), "{network}");
        assert_eq!(held_out["documents"], 20);
        assert!(held_out["exact"].is_null(), "nothing is known of a corpus");
        let observed = json(
            at,
            &[
                "observe",
                "--index",
                "index",
                "--model",
                network,
                "--order",
                "2",
                "--contexts",
                "100",
                "--out",
                &format!("{network}-contexts"),
            ],
        );
        assert_eq!(observed["info"]["document_end"], "outcome", "{network}");
        let running = json(
            at,
            &[
                "observe",
                "--index",
                "index",
                "--model",
                network,
                "--kind",
                "positions",
                "--positions",
                "300",
                "--window",
                "60",
                "--out",
                &format!("{network}-running"),
            ],
        );
        // Every symbol of a document is predicted, its end too.
        assert_eq!(running["info"]["provenance"]["dropped_ends"], 0);
    }
    let features = json(
        at,
        &[
            "train",
            "--index",
            "index",
            "--network",
            "features",
            "--width",
            "24",
            "--contexts",
            "50",
            "--order",
            "2",
            "--learning-rate",
            "0.05",
            "--steps",
            "300",
            "--ridge",
            "0.0001",
            "--out",
            "features",
        ],
    );
    let losses = features["training"]["losses"].as_array().unwrap();
    assert!(number(&losses[299]) < 0.8 * number(&losses[0]));
    assert!(at.join("features/observation/head.safetensors").exists());
    // A report of a model that was trained here tells how.
    succeed(
        at,
        &[
            "report",
            "--corpus",
            "text.txt",
            "--model",
            "lstm",
            "--contexts",
            "100",
            "--positions",
            "500",
            "--order",
            "2",
            "--out",
            "page",
        ],
    );
    let report = read(&at.join("page/report.json"));
    assert_eq!(report["model"]["training"]["steps"], 80);
    assert!(report["truth"].is_null());
}

#[test]
fn stories_are_the_same_for_a_seed_and_tell_their_exact_figures() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let tell = |out: &str, seed: &str| {
        let figures = json(
            at,
            &["stories", "--stories", "50", "--out", out, "--seed", seed],
        );
        (figures, std::fs::read_to_string(at.join(out)).unwrap())
    };
    let (figures, text) = tell("a.txt", "3");
    assert_eq!(text, tell("b.txt", "3").1);
    assert_ne!(text, tell("c.txt", "4").1);
    assert_eq!(text.lines().count(), 50);
    assert_eq!(figures["example"].as_str(), text.lines().next());
    let rate = number(&figures["entropy_rate"]);
    let given = figures["conditional_entropies"].as_array().unwrap();
    let given: Vec<f64> = given.iter().map(number).collect();
    assert!(given.windows(2).all(|w| w[0] > w[1]) && given[3] > rate);
}

#[test]
fn what_cannot_be_trained_is_refused_before_anything_is_written() {
    let folder = folder_with(&[("good.txt", b"the cat sat\nthe cat ran\nthe dog sat\n")]);
    let at = folder.path();
    let train = |extra: &[&'static str]| [&["train", "--out", "m"], extra].concat();
    let absent = ["m", "m.partial"];
    let text = ["--network", "features", "--labels", "text"];
    fail(at, &train(&text), 2, &["features"], &absent);
    fail(
        at,
        &train(&["--width", "65"]),
        2,
        &["--width", "multiple"],
        &absent,
    );
    fail(at, &train(&["--words", "7"]), 2, &["100"], &absent);
    let deep = ["--layers", "1000000000"];
    fail(at, &train(&deep), 2, &["layers"], &absent);
    fail(
        at,
        &train(&["--batch", "100000000"]),
        2,
        &["memory"],
        &absent,
    );
    fail(at, &train(&["--steps", "0"]), 2, &["--steps"], &absent);
    fail(
        at,
        &train(&["--learning-rate", "nan"]),
        2,
        &["learning rate"],
        &absent,
    );
    fail(
        at,
        &train(&["--corpus", "none.txt"]),
        1,
        &["none.txt"],
        &absent,
    );
    fail(
        at,
        &train(&["--corpus", "good.txt"]),
        2,
        &["windows of 64"],
        &absent,
    );
    fail(at, &train(&["--index", "none"]), 1, &["none"], &absent);
    fail(
        at,
        &["report", "--model", "x"],
        2,
        &["--corpus"],
        &["report"],
    );
    fail(
        at,
        &["report", "--corpus", "good.txt"],
        2,
        &["--model"],
        &["report"],
    );
    std::fs::create_dir(at.join("mine")).unwrap();
    std::fs::write(at.join("mine/thesis.txt"), "do not touch").unwrap();
    // A checkpoint from elsewhere has files of the same names.
    std::fs::create_dir(at.join("theirs")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::write(at.join("theirs").join(name), "weights of months").unwrap();
    }
    let steps = ["--steps", "2", "--stories", "100"];
    let theirs = [&["train", "--out", "theirs"], &steps[..]].concat();
    fail(
        at,
        &theirs,
        2,
        &["theirs", "not trained here"],
        &["theirs.partial"],
    );
    assert!(at.join("theirs/model.safetensors").exists());
    let mine = [&["train", "--out", "mine"], &steps[..]].concat();
    fail(at, &mine, 2, &["thesis.txt"], &["mine.partial"]);
    let wild = [
        "--stories",
        "100",
        "--optimizer",
        "gd",
        "--learning-rate",
        "1e30",
        "--clip",
        "0",
    ];
    fail(at, &train(&wild), 1, &["diverged", "learning rate"], &["m"]);
}
