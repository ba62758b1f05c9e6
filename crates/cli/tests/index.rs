//! An index built, asked, added to, damaged and mended from the command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{fail, folder_with, lawvere, succeed};
use serde_json::Value;

const TEXT: &[u8] = b"the cat sat\nthe cat ran\nthe dog sat\na cat\n";

fn json(folder: &Path, args: &[&str]) -> Value {
    let answer = succeed(folder, &[args, &["--json", "--quiet"]].concat());
    serde_json::from_str(&answer).unwrap()
}

fn built() -> tempfile::TempDir {
    let folder = folder_with(&[("a.txt", TEXT)]);
    succeed(
        folder.path(),
        &["index", "build", "--corpus", "a.txt", "--out", "ix"],
    );
    folder
}

#[test]
fn questions_are_answered_in_words_and_in_json() {
    let folder = built();
    let at = folder.path();
    fs::write(at.join("texts"), "the\nthe cat\ncat the\n").unwrap();
    let counts = json(
        at,
        &["index", "count", "--index", "ix", "--queries", "texts"],
    );
    let counts: Vec<u64> = counts["counts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["count"].as_u64().unwrap())
        .collect();
    assert_eq!(counts, [3, 2, 0]);
    let told = succeed(at, &["index", "count", "--index", "ix", "the", "the cat"]);
    assert_eq!(
        told.trim_end(),
        "         3  \"the\"\n         2  \"the cat\""
    );

    let next = json(
        at,
        &["index", "next", "--index", "ix", "dog the cat", "cat"],
    );
    let laws = &next["laws"];
    assert_eq!(
        (&laws[0]["used_length"], &laws[0]["total"]),
        (&2.into(), &2.into())
    );
    assert_eq!(
        (&laws[1]["total"], &laws[1]["ended"]),
        (&3.into(), &1.into())
    );
    assert_eq!(laws[1]["outcomes"][0]["probability"], 1.0 / 3.0);
    let empty = [
        "index",
        "next",
        "--index",
        "ix",
        "dog the cat",
        "--unseen",
        "empty",
    ];
    assert_eq!(json(at, &empty)["laws"][0]["total"], 0);
    let strict = [
        "index",
        "next",
        "--index",
        "ix",
        "dog the cat",
        "--unseen",
        "strict",
    ];
    fail(at, &strict, 1, &["dog the cat", "does not occur"], &[]);

    let places = json(at, &["index", "positions", "--index", "ix", "cat"]);
    let places = &places["texts"][0]["positions"];
    assert_eq!(
        (&places[1]["document"], &places[1]["token"]),
        (&1.into(), &1.into())
    );
    assert_eq!(places[2]["around"], "a cat");

    let pair = [
        "index", "distance", "--index", "ix", "--a", "cat", "--b", "the cat",
    ];
    assert_eq!(json(at, &pair)["pairs"][0]["distance"], 1.5f64.ln());
    fs::write(at.join("pairs"), "the\tthe dog\ndog\tcat\n").unwrap();
    let pairs = json(
        at,
        &["index", "distance", "--index", "ix", "--queries", "pairs"],
    );
    assert_eq!(pairs["pairs"][0]["distance"], 3f64.ln());
    assert_eq!(pairs["pairs"][1]["distance"], "inf");

    let found = json(at, &["index", "neighbours", "--index", "ix", "cat"]);
    let text = &found["texts"][0];
    assert_eq!((&text["count"], &text["ended"]), (&3.into(), &1.into()));
    assert_eq!(text["neighbours"][0]["text"], "the cat");
    let contexts = json(at, &["index", "contexts", "--index", "ix", "--order", "2"]);
    // Equally frequent ones by their ids, which are alphabetical then: cat before the.
    assert_eq!(contexts["orders"][0]["shown"][0]["support"], 3);
    assert_eq!(contexts["orders"][1]["contexts"], 1);
    let growth = json(at, &["index", "growth", "--index", "ix", "--order", "1"]);
    let points = growth["growth"]["points"].as_array().unwrap();
    // the: cat, dog; cat: sat, ran, the end; sat, ran, dog, a: one each.
    assert_eq!(points.last().unwrap()["entries"]["mean"], 9.0);
    let sample = |seed| {
        let args = [
            "index", "sample", "--index", "ix", "--count", "5", "--seed", seed,
        ];
        json(at, &args)["samples"].clone()
    };
    assert_eq!(sample("1"), sample("1"));
    assert_ne!(sample("1"), sample("2"));
    let info = json(at, &["index", "info", "ix"]);
    assert_eq!(
        (&info["tokens"], &info["documents"]),
        (&11.into(), &4.into())
    );

    // Ids are the words by their frequency: the, cat, sat, ...
    let ids = ["index", "count", "--index", "ix", "--ids", "0 1", "0,1"];
    assert_eq!(
        json(at, &ids)["counts"][1]["count"],
        json(at, &ids)["counts"][0]["count"]
    );
    fail(
        at,
        &["index", "count", "--index", "ix", "--ids", "99"],
        2,
        &["token 99"],
        &[],
    );
    fail(
        at,
        &["index", "count", "--index", "ix", "--ids", "x"],
        2,
        &["`x`"],
        &[],
    );
    fail(at, &["index", "count", "--index", "ix"], 2, &["TEXT"], &[]);
    fail(
        at,
        &["index", "count", "--index", "none", "the"],
        1,
        &["none"],
        &[],
    );
    let untabbed = ["index", "distance", "--index", "ix", "--queries", "texts"];
    fail(at, &untabbed, 1, &["texts: line 1: no tab"], &[]);
}

#[test]
fn standard_input_is_a_corpus_and_can_be_appended() {
    let folder = folder_with(&[("a.txt", TEXT)]);
    let at = folder.path();
    let fed = |args: &[&str], input: &[u8]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lawvere"))
            .current_dir(at)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
    };
    let args = ["index", "build", "--corpus", "-", "--out", "ix", "--quiet"];
    fed(&args, TEXT);
    let append = [
        "index", "append", "--index", "ix", "--corpus", "-", "--format", "jsonl",
    ];
    fed(&append, b"{\"text\": \"the dog ran\"}\n");
    let info = json(at, &["index", "info", "ix"]);
    assert_eq!(
        (&info["tokens"], &info["documents"]),
        (&14.into(), &5.into())
    );
    assert_eq!(info["shards"].as_array().unwrap().len(), 2);
    assert_eq!(info["sources"][1]["path"], "standard input");
    let counts = json(at, &["index", "count", "--index", "ix", "the dog", "ran"]);
    assert_eq!(counts["counts"][0]["count"], 2);
    assert_eq!(counts["counts"][1]["count"], 2);
    let other = [
        "index",
        "append",
        "--index",
        "ix",
        "--corpus",
        "a.txt",
        "--tokenizer",
        "bytes",
    ];
    fail(at, &other, 2, &["tokenizer"], &[]);
    assert_eq!(json(at, &["index", "info", "ix"])["tokens"], 14);
}

#[test]
fn what_is_derived_is_mended_and_what_is_not_is_said() {
    let folder = built();
    let at = folder.path();
    let shard = at.join("ix/shard-00000.safetensors");
    let whole = fs::read(&shard).unwrap();
    let verify = ["index", "verify", "ix"];
    assert!(succeed(at, &verify).contains("sound"));
    // The last array is that of common prefixes.
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&shard, &damaged).unwrap();
    fs::write(at.join("ix/.lawvere-left"), "of a killed run").unwrap();
    let count = ["index", "count", "--index", "ix", "the"];
    fail(
        at,
        &count,
        1,
        &["shard-00000.safetensors: damaged: the checksum of lcp"],
        &[],
    );
    fail(at, &verify, 1, &["lcp", ".lawvere-left", "repair"], &[]);
    assert!(succeed(at, &["index", "repair", "ix"]).contains("mended"));
    assert_eq!(fs::read(&shard).unwrap(), whole);
    assert!(!at.join("ix/.lawvere-left").exists());
    assert!(succeed(at, &verify).contains("sound"));
    // Damage to the text itself is another matter.
    let tensors = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let symbols = tensors.tensor("symbols").unwrap().data().as_ptr() as usize;
    let mut damaged = whole.clone();
    damaged[symbols - whole.as_ptr() as usize] ^= 1;
    fs::write(&shard, &damaged).unwrap();
    let output = lawvere(at, &["index", "repair", "ix"]);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("symbols") && errors.contains("lawvere index build"),
        "{errors}"
    );
    let state = lawvere(at, &["index", "verify", "ix", "--json"]);
    assert_eq!(state.status.code(), Some(1));
    let state: Value = serde_json::from_slice(&state.stdout).unwrap();
    assert_eq!(
        (&state["sound"], &state["shards"][0]["repairable"]),
        (&false.into(), &false.into())
    );
}
