//! The metric lens on spaces from files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;

use common::{fail, folder_with, succeed};
use serde_json::{Value, json};

const FIVE: &[u8] = include_bytes!("../../../examples/five-texts.json");

fn ask(folder: &Path, question: &str, rest: &[&str]) -> Value {
    let args = ["metric", question, "--space", "five.json", "--json"];
    let answer = succeed(folder, &[&args[..], rest].concat());
    let value: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(value["provenance"]["schema"], "lawvere-metric/1");
    value
}

fn near(value: &Value, wanted: f64) -> bool {
    (value.as_f64().unwrap() - wanted).abs() < 1e-12
}

#[test]
fn every_question_is_answered_in_json_and_in_words() {
    let folder = folder_with(&[("five.json", FIVE)]);
    let at = folder.path();
    let checked = ask(at, "check", &[]);
    assert_eq!(
        (
            &checked["texts"],
            &checked["covers"],
            &checked["level"],
            &checked["potential"]
        ),
        (&json!(5), &json!(4), &json!("language model"), &json!(true))
    );
    assert!(checked["isometry"]["yoneda_defect"].as_f64().unwrap() < 1e-12);
    let distance = ask(at, "distance", &["the", "the cat sat"]);
    assert!(near(&distance["distance"], 4f64.ln()) && near(&distance["probability"], 0.25));
    assert_eq!(distance["back"], "inf");
    let same = ask(at, "distance", &["#0", "#3"]);
    assert_eq!(same["distance"], distance["distance"]);
    let embedded = ask(at, "embed", &["the cat"]);
    assert!(near(&embedded["yoneda"][0], 2f64.ln()));
    assert_eq!(
        (&embedded["yoneda"][3], &embedded["co_yoneda"][0]),
        (&json!("inf"), &json!("inf"))
    );
    let projected = ask(at, "project", &["--vector", "[2, 0, 1, 0, 0]"]);
    assert!(near(&projected["distance"], 2.0 - 2f64.ln()));
    assert!(near(&projected["below"][0], 2f64.ln()));
    let span = ask(at, "span", &["--vector", "[2, 0, 1, 0, 0]"]);
    assert_eq!(
        (&span["member"], &span["missed"]["from"]),
        (&json!(false), &json!(0))
    );
    let below = projected["below"].to_string();
    let span = ask(at, "span", &["--vector", &below]);
    assert_eq!(
        (
            &span["member"],
            span["generators"].as_array().unwrap().len()
        ),
        (&json!(true), 4)
    );
    let count = ask(at, "rays", &["--count"]);
    assert_eq!(
        (&count["count"], &count["principal"]),
        (&json!("10"), &json!("5"))
    );
    let rays = ask(at, "rays", &[]);
    assert_eq!(rays["rays"].as_array().unwrap().len(), 10);
    let parts = ask(at, "decompose", &["--vector", "[1, 0.5, 0.5, 0.25, 0]"]);
    let weights = parts["parts"].as_array().unwrap();
    assert!(!weights.is_empty() && weights.iter().all(|p| p["weight"].as_f64().unwrap() > 0.0));
    let extended = ask(at, "extend", &["the", "the cat", "--vector", "[0.5, 0]"]);
    assert_eq!(
        (&extended["greatest"][3], &extended["least"][4]),
        (&json!("inf"), &json!(-4f64.ln()))
    );
    let soft = ask(
        at,
        "boltzmann",
        &["the cat sat", "the", "the cat", "--temperature", "0,1"],
    );
    assert_eq!(soft["temperatures"][0]["weights"], json!([0.0, 1.0]));
    assert!(near(&soft["temperatures"][1]["weights"][0], 1.0 / 3.0));
    let vector = "[\"inf\", 0, \"inf\", \"inf\", \"inf\"]";
    let complete = ask(at, "isbell", &["--vector", vector]);
    assert!(near(&complete["completion"][0], 2f64.ln()));
    assert_eq!(complete["completion"][4], "inf");
    let cuts = ask(at, "isbell", &["--cuts"]);
    let principal = |cut: &Value| cut["principal"].as_u64();
    let images: Vec<Option<u64>> = cuts["cuts"]
        .as_array()
        .unwrap()
        .iter()
        .map(principal)
        .collect();
    assert_eq!(images, [0, 1, 3, 4, 2].map(Some));
    let dual = ask(at, "dual", &["--vector", &below]);
    assert_eq!(
        (&dual["member"], &dual["dual_member"]),
        (&json!(true), &json!(true))
    );
    let magnitude = ask(at, "magnitude", &["--t", "1"]);
    assert!(near(&magnitude["magnitudes"][0]["magnitude"], 3.5));

    let tell =
        |args: &[&str]| succeed(at, &[&["metric"], args, &["--space", "five.json"]].concat());
    assert!(tell(&["check"]).contains("a language model of 5 texts, 4 covering pairs"));
    assert!(tell(&["distance", "the", "the dog"]).contains("1.386"));
    assert!(tell(&["embed", "the"]).contains("co-Yoneda"));
    assert!(tell(&["rays", "--count"]).contains("10 extremal rays, 5 of them principal"));
    assert!(tell(&["rays"]).contains("(the image of \"the dog\")"));
    assert!(tell(&["span", "--vector", "[2, 0, 1, 0, 0]"]).contains("not in P(L)"));
    assert!(tell(&["span", "--vector", &below]).contains("spanned by the images of"));
    assert!(tell(&["decompose", "--vector", "[1, 0.5, 0.5, 0.25, 0]"]).contains("\"the dog\""));
    assert!(tell(&["boltzmann", "the cat sat"]).contains("weights"));
    assert!(tell(&["isbell", "--vector", vector]).contains("completion"));
    assert!(tell(&["dual", "--vector", &below]).contains("-x in P^(L)"));
    assert!(tell(&["magnitude"]).contains("t = 1: 3.5"));
    assert!(tell(&["magnitude", "--t", "1e300"]).contains("t = 1.0000e300: 5"));
    assert!(tell(&["isbell", "--cuts"]).contains("5 cuts"));
    let mut marked = "\u{feff}".as_bytes().to_vec();
    marked.extend(FIVE);
    fs::write(at.join("five.json"), marked).unwrap();
    assert!(tell(&["check"]).contains("5 texts"));
    assert!(tell(&["project", "--vector", vector]).contains("below"));
    assert!(tell(&["extend", "the", "--vector", "[1]"]).contains("greatest"));
}

#[test]
fn vectors_come_from_files_of_numpy_and_json_too() {
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    let mut header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (5,), }".to_vec();
    header.resize(117, b' ');
    header.push(b'\n');
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(&header);
    npy.extend(
        [2.0f64, 0.0, f64::INFINITY, 0.0, 0.0]
            .iter()
            .flat_map(|x| x.to_le_bytes()),
    );
    let folder = folder_with(&[
        ("five.json", FIVE),
        ("x.npy", &npy),
        ("x.json", b"[2, 0, \"inf\", 0, 0]"),
    ]);
    let at = folder.path();
    let by_file = ask(at, "project", &["--vector", "x.npy"]);
    let by_json = ask(at, "project", &["--vector", "x.json"]);
    assert_eq!(by_file["below"], by_json["below"]);
    assert_eq!(by_file["above"], by_json["above"]);
    assert_eq!(by_file["above"][2], "inf");
}

#[test]
fn large_forests_are_asked_without_a_matrix() {
    // Two long chains from one root, and a leaf at every step.
    let n = 30_001;
    let text = |i: usize| match (i, i % 3) {
        (0, _) => json!(["r"]),
        (_, k) => {
            let mut tokens = vec!["r"];
            let depth = (i - 1) / 3;
            tokens.extend(vec!["a"; depth % 100]);
            let last = format!("{k}.{}", depth / 100);
            let mut tokens: Vec<String> = tokens.into_iter().map(String::from).collect();
            tokens.insert(1, last);
            json!(tokens)
        }
    };
    let texts: Vec<Value> = (0..n).map(text).collect();
    let mut place = std::collections::HashMap::new();
    texts.iter().enumerate().for_each(|(i, t)| {
        place.insert(t.to_string(), i);
    });
    let edges: Vec<Value> = texts
        .iter()
        .enumerate()
        .skip(1)
        .map(|(i, t)| {
            let tokens = t.as_array().unwrap();
            let prefix = (1..tokens.len())
                .rev()
                .find_map(|l| place.get(&json!(tokens[..l]).to_string()));
            json!([prefix.unwrap(), i, 0.5])
        })
        .collect();
    let space = json!({"texts": texts, "order": "prefix", "edges": edges}).to_string();
    let folder = folder_with(&[("five.json", space.as_bytes())]);
    let at = folder.path();
    let checked = ask(at, "check", &[]);
    assert_eq!(
        (&checked["texts"], &checked["covers"]),
        (&json!(n), &json!(n - 1))
    );
    // 300 chains of 100 texts from the root: each may be followed to 101 places.
    let count = ask(at, "rays", &["--count"])["count"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut wanted = vec![1u32];
    for _ in 0..300 {
        let mut carry = 0;
        for digit in &mut wanted {
            carry += *digit * 101;
            *digit = carry % 10;
            carry /= 10;
        }
        while carry > 0 {
            wanted.push(carry % 10);
            carry /= 10;
        }
    }
    let wanted: String = wanted.iter().rev().map(ToString::to_string).collect();
    assert_eq!(count, wanted);
    let magnitude = ask(at, "magnitude", &["--t", "1"]);
    assert!(near(
        &magnitude["magnitudes"][0]["magnitude"],
        1.0 + 15_000.0
    ));
    let zeros = format!("[{}]", vec!["0"; n].join(","));
    fs::write(at.join("x.json"), zeros).unwrap();
    let projected = ask(at, "project", &["--vector", "x.json"]);
    assert!(
        projected["below"]
            .as_array()
            .unwrap()
            .iter()
            .all(|x| x == 0.0)
    );
    let many = ["metric", "distance", "--space", "five.json", "#0", "#1"];
    fail(
        at,
        &many,
        1,
        &["five.json", "too many for a matrix", "rays --count"],
        &[],
    );
}

#[test]
fn what_is_wrong_with_a_space_or_a_vector_is_said() {
    let with = |texts: &str, order: &str, edges: &str| {
        format!("{{\"texts\": {texts}, \"order\": \"{order}\", \"edges\": {edges}}}").into_bytes()
    };
    let cases: [(Vec<u8>, &str); 17] = [
        (b"[]".to_vec(), "an object with texts, order and edges"),
        (
            with("[{}]", "given", "[]"),
            "a text is a string, or a list of tokens",
        ),
        (
            with("[\"a\", \"a b\"]", "prefix", "[[0, 1]]"),
            "an edge [i, j, p]",
        ),
        (b"{".to_vec(), "EOF"),
        (
            with("[\"a\"]", "sideways", "[]"),
            "unknown variant `sideways`",
        ),
        (with("[]", "given", "[]"), "there is no text"),
        (
            with("[\"a\", \"a b\"]", "prefix", "[[0, 5, 0.5]]"),
            "edge 0 names text 5, but there are 2",
        ),
        (
            with("[\"a\", \"a b\"]", "prefix", "[[0, 1, 1.5]]"),
            "Pr(\"a b\" | \"a\") is 1.5",
        ),
        (
            with("[\"a\", \"a b\"]", "prefix", "[[0, 1, -0.5]]"),
            "is -0.5; a probability",
        ),
        (
            with("[\"a\", \"a b\"]", "prefix", "[[0, 1, null]]"),
            "invalid type: null",
        ),
        (
            with("[\"a\", \"a b\"]", "prefix", "[]"),
            "no edge [0, 1, p] says Pr(\"a b\" | \"a\")",
        ),
        (
            with("[\"a\", \"ab\"]", "prefix", "[[0, 1, 0.5]]"),
            "is of no covering pair",
        ),
        (
            with(
                "[\"a\", \"a b\", \"a b c\"]",
                "prefix",
                "[[0, 1, 0.5], [1, 2, 0.5], [0, 2, 0.25]]",
            ),
            "edge [0, 2, ...] is of no covering pair",
        ),
        (
            with("[\"a\", \"a  \"]", "given", "[]"),
            "text \"a\" is there twice",
        ),
        (
            with("[\"a\", \"b\"]", "given", "[[0, 1, 0.5], [0, 1, 0.5]]"),
            "is given twice",
        ),
        (
            with("[\"a\", \"b\"]", "given", "[[0, 1, 0.5], [1, 0, 0.5]]"),
            "in a circle",
        ),
        (
            with("[\"b\", \"c\", \"b c\"]", "subtext", "[[0, 2, 0.5]]"),
            "no edge [1, 2, p] says Pr(\"b c\" | \"c\")",
        ),
    ];
    for (file, wanted) in cases {
        let folder = folder_with(&[("bad.json", &file)]);
        let check = ["metric", "check", "--space", "bad.json"];
        fail(folder.path(), &check, 1, &["bad.json", wanted], &[]);
    }
    let square = with(
        "[\"a\", \"b\", \"c\", \"d\"]",
        "given",
        "[[0, 2, 0.5], [0, 3, 0.5], [1, 2, 0.5], [1, 3, 0.25]]",
    );
    let folder = folder_with(&[("five.json", FIVE), ("crown.json", &square)]);
    let at = folder.path();
    let with_space = |question: &str, space: &str, rest: &[&str]| {
        let args = ["metric", question, "--space", space].map(String::from);
        args.into_iter()
            .chain(rest.iter().map(ToString::to_string))
            .collect::<Vec<_>>()
    };
    let refused = |args: Vec<String>, status: i32, wanted: &[&str]| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        fail(at, &args, status, wanted, &[]);
    };
    refused(with_space("check", "none.json", &[]), 1, &["none.json"]);
    refused(
        with_space("distance", "five.json", &["the", "then"]),
        2,
        &["no text \"then\"", "#0 to #4"],
    );
    refused(
        with_space("project", "five.json", &["--vector", "[1, 2]"]),
        2,
        &["2 entries", "5"],
    );
    refused(
        with_space("project", "five.json", &["--vector", "[1, \"far\"]"]),
        2,
        &["\"inf\""],
    );
    refused(
        with_space("project", "five.json", &["--vector", "none.npy"]),
        1,
        &["none.npy"],
    );
    refused(
        with_space("decompose", "crown.json", &["--vector", "[1, 1, 1, 1]"]),
        1,
        &["needs a potential", "ways around disagree"],
    );
    refused(
        with_space("decompose", "five.json", &["--vector", "[0, 1, 0, 0, 0]"]),
        2,
        &["not in Q", "\"the\"", "\"the cat\""],
    );
    refused(
        with_space("decompose", "five.json", &["--vector", "[1, -1, 0, 0, 0]"]),
        2,
        &["is -1 at"],
    );
    refused(
        with_space("boltzmann", "five.json", &["the cat", "the dog"]),
        2,
        &["\"the dog\" is not below \"the cat\"", "only prefixes"],
    );
    refused(
        with_space("boltzmann", "five.json", &["the cat", "--temperature=-1"]),
        2,
        &["temperature is -1"],
    );
    refused(
        with_space("magnitude", "five.json", &["--t", "0"]),
        2,
        &["t is 0", "positive"],
    );
    refused(
        with_space(
            "extend",
            "five.json",
            &["the", "the cat", "--vector", "[9, 0]"],
        ),
        2,
        &["P of the chosen texts"],
    );
    fs::write(at.join("short.json"), "[1, 2]").unwrap();
    refused(
        with_space("project", "five.json", &["--vector", "short.json"]),
        1,
        &["short.json: the vector has 2 entries"],
    );
    fs::write(at.join("odd.json"), "{}").unwrap();
    refused(
        with_space("isbell", "five.json", &["--vector", "odd.json"]),
        1,
        &["odd.json:", "an array of numbers"],
    );
    refused(
        with_space("check", "five.json", &["--order", "prefix"]),
        2,
        &["--order"],
    );
    refused(
        with_space("check", "five.json", &["--within", "the"]),
        2,
        &["--within"],
    );
    refused(
        with_space("isbell", "crown.json", &["--cuts"]),
        1,
        &["needs a potential"],
    );
    refused(with_space("isbell", "five.json", &[]), 2, &["--cuts"]);
    refused(
        with_space("isbell", "five.json", &["--vector", ""]),
        2,
        &["vector is empty"],
    );
    let crown: Value = serde_json::from_str(&succeed(
        at,
        &[
            "metric",
            "rays",
            "--count",
            "--space",
            "crown.json",
            "--json",
        ],
    ))
    .unwrap();
    assert_eq!(crown["count"], "6");
}

#[test]
fn a_corpus_and_a_model_make_spaces_of_texts() {
    let corpus = b"the cat sat\nthe cat ran\nthe dog sat\na cat\n";
    let folder = folder_with(&[
        ("a.txt", corpus),
        ("texts", b"the\nthe cat\ncat\nthe cat sat\n"),
        ("absent", b"the\ncat the\n"),
        ("twice", b"the\nthe \n"),
    ]);
    let at = folder.path();
    succeed(
        at,
        &[
            "index", "build", "--corpus", "a.txt", "--out", "ix", "--quiet",
        ],
    );
    let json = |args: &[&str]| -> Value {
        let answer = succeed(at, &[&["metric"], args, &["--json", "--quiet"]].concat());
        serde_json::from_str(&answer).unwrap()
    };
    let index = ["--index", "ix", "--texts", "texts"];
    let checked = json(&[&["check"], &index[..]].concat());
    // "the cat sat" covers "the cat", which covers "the" and "cat".
    assert_eq!(
        (&checked["covers"], &checked["level"], &checked["potential"]),
        (&json!(3), &json!("language model"), &json!(true))
    );
    assert_eq!(checked["source"]["kind"], "index");
    let distance = json(&[&["distance"], &index[..], &["cat", "the cat sat"]].concat());
    assert!(near(&distance["distance"], 3f64.ln()));
    let corpus = ["--corpus", "a.txt", "--texts", "texts"];
    let same = json(&[&["distance"], &corpus[..], &["cat", "the cat sat"]].concat());
    assert_eq!(
        (&same["distance"], &same["source"]["kind"]),
        (&distance["distance"], &json!("corpus"))
    );
    let letters = [
        "metric",
        "check",
        "--corpus",
        "a.txt",
        "--tokenizer",
        "bytes",
        "--texts",
        "absent",
    ];
    fail(at, &letters, 1, &["absent: line 2"], &[]);
    let prefix = json(&[&["check"], &index[..], &["--order", "prefix"]].concat());
    assert_eq!(prefix["covers"], json!(2));
    let absent = ["metric", "check", "--index", "ix", "--texts", "absent"];
    fail(
        at,
        &absent,
        1,
        &["absent: line 2", "\"cat the\" does not occur"],
        &[],
    );
    fs::write(at.join("unknown"), "the\nnope thing\n").unwrap();
    let unknown = ["metric", "check", "--index", "ix", "--texts", "unknown"];
    fail(at, &unknown, 1, &["unknown: line 2: \"nope thing\""], &[]);
    let queries = ["index", "count", "--index", "ix", "--queries", "unknown"];
    fail(at, &queries, 1, &["unknown: line 2"], &[]);
    let twice = ["metric", "check", "--index", "ix", "--texts", "twice"];
    fail(at, &twice, 1, &["is there twice"], &[]);
    fail(
        at,
        &["metric", "check", "--index", "ix"],
        2,
        &["--texts"],
        &[],
    );
    fail(at, &["metric", "check"], 2, &["--space"], &[]);

    // All within a text, named or asked about.
    let within = json(&["check", "--index", "ix", "--within", "the cat sat"]);
    assert_eq!(
        (&within["texts"], &within["covers"]),
        (&json!(6), &json!(6))
    );
    let two = [
        "check", "--index", "ix", "--within", "the cat", "--within", "a cat",
    ];
    assert_eq!(json(&two)["texts"], json!(5));
    let begun = [
        "check",
        "--index",
        "ix",
        "--order",
        "prefix",
        "--within",
        "the cat sat",
    ];
    assert_eq!(json(&begun)["texts"], json!(3));
    let asked = json(&["distance", "--index", "ix", "cat", "the cat sat"]);
    assert!(near(&asked["distance"], 3f64.ln()));
    let soft = json(&[
        "boltzmann",
        "--index",
        "ix",
        "the cat sat",
        "the",
        "cat",
        "sat",
    ]);
    // 1/3, 1/3, 1/2: of three "the", three "cat" and two "sat" one is within it.
    assert!(near(&soft["temperatures"][2]["weights"][2], 3.0 / 7.0));
    // Blanks tell texts apart: in bytes, "e" and " e" are different texts.
    let letters = ["distance", "--corpus", "a.txt", "--tokenizer", "bytes"];
    let blank = json(&[&letters[..], &["c", " c"]].concat());
    assert_eq!(blank["texts"], json!(["c", " c"]));
    // Every "c" of the corpus stands after a blank.
    assert!(near(&blank["distance"], 0.0) && blank["back"] == "inf");
    for (flag, value) in [
        ("--documents", "file"),
        ("--field", "x"),
        ("--end-token", "3"),
    ] {
        let index = [
            "metric", "check", "--index", "ix", "--within", "cat", flag, value,
        ];
        fail(at, &index, 2, &[flag, "--corpus"], &[]);
    }
    let absent = ["metric", "distance", "--index", "ix", "cat", "cat the"];
    fail(
        at,
        &absent,
        2,
        &["the text: \"cat the\" does not occur"],
        &[],
    );
    let unknown = ["metric", "check", "--index", "ix", "--within", "the zebra"];
    fail(at, &unknown, 2, &["--within: \"the zebra\""], &[]);
    let ids = [
        "metric", "check", "--index", "ix", "--within", "the cat", "--ids",
    ];
    fail(at, &ids, 2, &["--ids"], &[]);
    fs::write(at.join("marked"), "\u{feff}the\nthe cat\n").unwrap();
    assert_eq!(
        json(&["check", "--index", "ix", "--texts", "marked"])["texts"],
        json!(2)
    );
    let absent = ["metric", "embed", "--index", "ix", "cat the"];
    fail(
        at,
        &absent,
        2,
        &["the text", "\"cat the\" does not occur"],
        &[],
    );

    let model = sample_model();
    let model = model.as_str();
    // Words within a line have their blank: it is said where a text is missing for one.
    let blank = [
        "metric",
        "embed",
        "--corpus",
        "a.txt",
        "--tokenizer",
        model,
        "cat sat",
    ];
    fail(
        at,
        &blank,
        2,
        &["\"cat sat\" does not occur", "\" cat sat\", with a blank"],
        &[],
    );
    fs::write(
        at.join("texts"),
        "The capital\nThe capital of France\nThe capital of France is Paris\n",
    )
    .unwrap();
    let given = ["--model", model, "--texts", "texts"];
    let checked = json(&[&["check"], &given[..]].concat());
    assert_eq!(
        (&checked["covers"], &checked["level"]),
        (&json!(2), &json!("language model"))
    );
    // Every distinct prefix of the three is read once, but for the last token of each.
    let ids = ["model", "tokenize", "--json", "--quiet", "--model", model];
    let ids = succeed(
        at,
        &[&ids[..], &["The capital of France is Paris"]].concat(),
    );
    let ids: Value = serde_json::from_str(&ids).unwrap();
    let tokens = ids["texts"][0]["ids"].as_array().unwrap().len();
    assert_eq!(checked["forwarded"], json!(tokens - 1));
    let long = "The capital of France is Paris";
    let begun = json(&["check", "--model", model, "--within", long]);
    assert_eq!(
        (&begun["texts"], &begun["forwarded"]),
        (&json!(tokens), &json!(tokens - 1))
    );
    // Characters of several tokens: prefixes that end within one read alike.
    let dog = json(&[
        "embed",
        "--model",
        model,
        "The dog \u{1f415}\u{200d}\u{1f9ba} ran",
    ]);
    assert!(dog["yoneda"].as_array().unwrap().len() > 5);
    let distance = json(&[&["distance"], &given[..], &["#1", "#2"]].concat());
    let scored = succeed(
        at,
        &[
            "model",
            "score",
            "--quiet",
            "--json",
            "--model",
            model,
            "--prefix",
            "The capital of France",
            "--continuation",
            " is Paris",
        ],
    );
    let scored: Value = serde_json::from_str(&scored).unwrap();
    let total = scored["result"]["answers"][0]["total"].as_f64().unwrap();
    assert!(
        (distance["distance"].as_f64().unwrap() + total).abs() < 1e-5,
        "{total}"
    );
    let back = json(&[&["distance"], &given[..], &["#2", "#1"]].concat());
    assert_eq!(back["distance"], "inf");
}

fn sample_model() -> String {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sample/smollm2-135m-instruct-q4_1.gguf");
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn texts_are_compared_by_their_continuations() {
    let model = sample_model();
    let folder = folder_with(&[]);
    let at = folder.path();
    let given = [
        "metric",
        "compare",
        "--model",
        &model,
        "--continuations",
        "8",
        "--tokens",
        "6",
    ];
    let texts = [
        "A man plays the guitar.",
        "A man is playing the guitar.",
        "The bank raised its rates.",
    ];
    let answer = succeed(at, &[&given[..], &texts, &["--json", "--quiet"]].concat());
    let found: Value = serde_json::from_str(&answer).unwrap();
    let pairs = found["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 3);
    let value = |pair: usize, order: usize, what: &str| {
        pairs[pair]["divergences"][order][what]["value"]
            .as_f64()
            .unwrap()
    };
    // The first two are alike, the third is not like either.
    for order in 0..2 {
        assert!(value(0, order, "symmetric") < value(1, order, "symmetric"));
        assert!(value(0, order, "symmetric") < value(2, order, "symmetric"));
    }
    for (pair, compared) in pairs.iter().enumerate() {
        // Order 1/2 is symmetric, and a divergence grows with its order.
        assert!((value(pair, 0, "forward") - value(pair, 0, "back")).abs() < 1e-9);
        assert!(compared["divergences"][2]["forward"]["error"].is_null());
        let direction = compared["direction"]["value"].as_f64().unwrap();
        assert!((direction - (value(pair, 1, "forward") - value(pair, 1, "back"))).abs() < 1e-9);
        assert!(compared["trajectory"]["value"].as_f64().unwrap() > 0.0);
    }
    // At the least every text was read once with each of its own continuations.
    assert!(found["forwarded"].as_u64().unwrap() >= 3 * 8 * 5);
    let again = succeed(
        at,
        &[&given[..], &texts, &["--json", "--quiet", "--threads", "1"]].concat(),
    );
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["pairs"], found["pairs"]);
    let told = succeed(at, &[&given[..], &texts[..2], &["--quiet"]].concat());
    assert!(told.contains("order inf") && told.contains("at least") && told.contains("direction"));

    let refused = |args: &[&str], status: i32, wanted: &[&str]| {
        fail(
            at,
            &[&["metric", "compare", "--model", &model], args].concat(),
            status,
            wanted,
            &[],
        );
    };
    refused(&["one text"], 2, &["TEXT"]);
    refused(&["a text", ""], 2, &["no token to go on from"]);
    refused(
        &["a text", "another", "--orders", "0"],
        2,
        &["order of a Renyi divergence is 0", "or inf"],
    );
    refused(
        &[
            "a text",
            "another",
            "--continuations",
            "18446744073709551615",
        ],
        2,
        &["at most 100000"],
    );
    refused(
        &["a text", "another", "--tokens", "18446744073709551615"],
        2,
        &["text 1"],
    );
    refused(
        &["a text", "another", "--continuations", "1"],
        2,
        &["at least 2"],
    );
    fs::write(
        at.join("texts.txt"),
        format!("{}\n\n{}\n", texts[2], texts[1]),
    )
    .unwrap();
    let nearest = [
        "metric",
        "nearest",
        "--model",
        &model,
        "--texts",
        "texts.txt",
    ];
    let nearest = [&nearest[..], &given[4..], &[texts[0]]].concat();
    let found: Value = serde_json::from_str(&succeed(
        at,
        &[&nearest[..], &["--json", "--quiet"]].concat(),
    ))
    .unwrap();
    let near = found["nearest"].as_array().unwrap();
    assert_eq!(
        (near.len(), &near[0]["text"], &near[0]["line"]),
        (2, &json!(texts[1]), &json!(3))
    );
    let value = |k: usize| near[k]["divergence"]["value"].as_f64().unwrap();
    assert!(value(0) < value(1));
    let told = succeed(at, &[&nearest[..], &["--most", "1", "--quiet"]].concat());
    assert!(told.contains(texts[1]) && !told.contains(texts[2]) && told.contains("of 2"));
    let none = ["metric", "compare", "--model", "none.gguf", "a", "b"];
    fail(at, &none, 1, &["none.gguf"], &[]);
}

#[test]
fn distances_are_held_against_judgements() {
    let model = sample_model();
    let judged = "A man sleeps.,A man is asleep.,5.0\n\"A dog, brown, runs.\",A cat sits.,1.5\nIt rains.,Stocks fell.,0.0\n";
    let folder = folder_with(&[
        ("sts.csv", judged.as_bytes()),
        ("two.csv", b"a,b\n"),
        ("words.csv", b"a b,c d,high\n"),
        ("few.csv", b"a b,c d,1\n"),
    ]);
    let at = folder.path();
    let given = [
        "metric",
        "evaluate",
        "--model",
        &model,
        "--continuations",
        "4",
        "--tokens",
        "4",
        "--quiet",
    ];
    let answer = succeed(at, &[&given[..], &["--sts", "sts.csv", "--json"]].concat());
    let found: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(found["pairs"], 3);
    let measures = found["measures"].as_array().unwrap();
    assert_eq!(measures[0]["name"], "liu");
    assert_eq!(measures[0]["plan"]["tokens"], 20);
    for measure in measures {
        let correlation = measure["correlation"].as_f64().unwrap();
        let interval = &measure["interval"];
        assert!((-1.0..=1.0).contains(&correlation));
        assert!(interval[0].as_f64().unwrap() <= correlation + 1e-9);
        assert!(interval[1].as_f64().unwrap() >= correlation - 1e-9);
    }
    let ours = measures[1]["forwarded"].as_u64().unwrap();
    assert!(2 * ours < measures[0]["forwarded"].as_u64().unwrap());
    let told = succeed(at, &[&given[..], &["--sts", "sts.csv"]].concat());
    assert!(told.contains("Spearman") && told.contains("liu"));
    let refused = |file: &str, wanted: &[&str]| {
        fail(
            at,
            &["metric", "evaluate", "--model", &model, "--sts", file],
            1,
            wanted,
            &[],
        );
    };
    refused("none.csv", &["none.csv"]);
    refused(
        "two.csv",
        &["two.csv: line 1: 2 columns; there should be two sentences and a score"],
    );
    refused("words.csv", &["words.csv: line 1: the score is `high`"]);
    refused("few.csv", &["few.csv: 1 pairs"]);
    fs::write(at.join("same.csv"), "a,b,1\nc,d,1\ne,f,1\n").unwrap();
    refused("same.csv", &["same.csv: all scores are 1"]);
    let judged = ["metric", "evaluate", "--model", &model, "--sts", "sts.csv"];
    let long = [&judged[..], &["--tokens", "9000"]].concat();
    fail(at, &long, 1, &["sts.csv: line 1"], &[]);
    let mixed = [&judged[..], &["--contexts", "3"]].concat();
    fail(at, &mixed, 2, &["--contexts"], &[]);
}

#[test]
fn the_special_word_of_two_is_asked_of_a_model() {
    let model = sample_model();
    let corpus = "we saw a dog in the yard\nwe saw an animal in the yard\nit is a dog, not a cat\n\
        some animal was here last night\na dog barks at night\nno animal was ever so tame\n";
    let folder = folder_with(&[
        ("a.txt", corpus.as_bytes()),
        ("pairs.tsv", b"dog\tanimal\nunicorn\tanimal\n"),
        ("bad.tsv", b"dog animal\n"),
        ("none.tsv", b"unicorn\tanimal\n"),
    ]);
    let at = folder.path();
    let build = ["index", "build", "--quiet", "--corpus", "a.txt"];
    succeed(
        at,
        &[&build[..], &["--tokenizer", &model, "--out", "ix"]].concat(),
    );
    succeed(at, &[&build[..], &["--out", "words"]].concat());
    let given = [
        "metric",
        "evaluate",
        "--model",
        &model,
        "--contexts",
        "3",
        "--index",
    ];
    let answer = succeed(
        at,
        &[
            &given[..],
            &["ix", "--hyponyms", "pairs.tsv", "--json", "--quiet"],
        ]
        .concat(),
    );
    let found: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (&found["pairs"], &found["left_out"]),
        (&json!(1), &json!(1))
    );
    let judged = &found["judged"][0];
    assert_eq!(
        (&judged["hyponym"], &judged["counts"]),
        (&json!("dog"), &json!([3, 3]))
    );
    let better = |what: &str| judged["found"][what]["value"].as_f64().unwrap();
    let told = better("second_better") < better("first_better");
    assert_eq!(judged["found"]["second_is_hyponym"], json!(told));
    assert_eq!(found["accuracy"], json!(f64::from(u8::from(told))));
    assert!(found["forwarded"].as_u64().unwrap() > 0);
    let told = succeed(
        at,
        &[&given[..], &["ix", "--hyponyms", "pairs.tsv"]].concat(),
    );
    assert!(told.contains("1 pairs (1 left out)"));
    let refused = |args: &[&str], status: i32, wanted: &[&str]| {
        fail(at, &[&given[..], args].concat(), status, wanted, &[]);
    };
    refused(
        &["ix", "--hyponyms", "bad.tsv"],
        1,
        &["bad.tsv: line 1: it should be two words"],
    );
    refused(
        &["ix", "--hyponyms", "none.tsv"],
        1,
        &["none.tsv: of no pair"],
    );
    refused(&["words", "--hyponyms", "pairs.tsv"], 2, &["tokenizer"]);
    refused(&["ix"], 2, &["--hyponyms"]);
}
