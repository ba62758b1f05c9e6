//! The tokenizer inside a GGUF against llama.cpp, and GGUF files that lie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_token::gguf::Gguf;
use lawvere_token::{TokenError, Tokenizer};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sample() -> PathBuf {
    let path = root().join("sample/smollm2-135m-instruct-q4_1.gguf");
    assert!(
        path.exists(),
        "the sample model is missing; run scripts/fetch-sample.sh"
    );
    path
}

#[test]
fn odd_strings_get_the_ids_that_llama_cpp_gives_them() {
    let fixture = std::fs::read_to_string(root().join("fixtures/tokens/odd-strings.json")).unwrap();
    let fixture: serde_json::Value = serde_json::from_str(&fixture).unwrap();
    let tokenizer = Tokenizer::open(&sample()).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() > 300);
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let text = case["text"].as_str().unwrap();
            let ids: Vec<u32> = case["ids"]
                .as_array()
                .unwrap()
                .iter()
                .map(|i| i.as_u64().unwrap() as u32)
                .collect();
            let ours = tokenizer.encode(text).unwrap();
            (ours != ids).then(|| format!("{text:?}: {ours:?}, llama.cpp {ids:?}"))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn the_rebuilt_tokenizer_survives_being_written_as_json() {
    let tokenizer = Tokenizer::open(&sample()).unwrap();
    let again = Tokenizer::from_json(&tokenizer.to_json().unwrap()).unwrap();
    assert_eq!(tokenizer.identity(), again.identity());
    let text = "In the beginning<|im_end|> 1234 été";
    let ids = again.encode(text).unwrap();
    assert_eq!(ids, tokenizer.encode(text).unwrap());
    assert_eq!(again.decode(&ids).unwrap(), text);
    assert_eq!(again.vocab_size(), 49152);
}

/// A GGUF header: version, tensors, fields, then whatever follows.
fn header(tensors: u64, fields: u64, rest: &[u8]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend(tensors.to_le_bytes());
    out.extend(fields.to_le_bytes());
    out.extend(rest);
    out
}

fn string(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat()
}

fn field(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&string(key)[..], &kind.to_le_bytes(), value].concat()
}

fn tensor(name: &str, dims: &[u64], offset: u64) -> Vec<u8> {
    let mut out = string(name);
    out.extend((dims.len() as u32).to_le_bytes());
    dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
    out.extend(0u32.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

fn open(bytes: &[u8]) -> Result<Gguf, TokenError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.gguf");
    std::fs::write(&path, bytes).unwrap();
    Gguf::open(&path)
}

#[test]
fn hostile_headers_are_one_clear_line_each() {
    let nested = {
        let mut value = Vec::new();
        for _ in 0..100 {
            value.extend(9u32.to_le_bytes());
            value.extend(1u64.to_le_bytes());
        }
        value
    };
    let alignment = |a: u32| field("general.alignment", 4, &a.to_le_bytes());
    let cases: [(&str, Vec<u8>, &str); 14] = [
        ("empty", vec![], "truncated"),
        (
            "not GGUF",
            b"PK\x03\x04 something else".to_vec(),
            "letters GGUF",
        ),
        (
            "old version",
            [&b"GGUF"[..], &1u32.to_le_bytes(), &[0; 16]].concat(),
            "version",
        ),
        (
            "absurd tensor count",
            header(u64::MAX, 0, &[]),
            "number of tensors",
        ),
        (
            "absurd field count",
            header(0, 1 << 60, &[]),
            "number of metadata fields",
        ),
        (
            "absurd string",
            header(0, 1, &[&u64::MAX.to_le_bytes()[..], &[0; 60]].concat()),
            "metadata key",
        ),
        (
            "zero alignment",
            header(0, 1, &alignment(0)),
            "general.alignment",
        ),
        (
            "odd alignment",
            header(0, 1, &alignment(24)),
            "general.alignment",
        ),
        (
            "unknown type",
            header(0, 1, &field("k", 77, &[0; 32])),
            "unknown type",
        ),
        (
            "deep arrays",
            header(0, 1, &field("k", 9, &nested)),
            "nests",
        ),
        (
            "overflowing shape",
            header(1, 0, &tensor("t", &[1 << 40, 1 << 40], 0)),
            "absurd shape",
        ),
        (
            "many dimensions",
            header(1, 0, &tensor("t", &[1; 9], 0)),
            "dimensions",
        ),
        (
            "data beyond the end",
            header(1, 0, &tensor("t", &[4], 1 << 40)),
            "beyond the end",
        ),
        (
            "a tensor twice",
            header(2, 0, &[tensor("t", &[1], 0), tensor("t", &[1], 0)].concat()),
            "twice",
        ),
    ];
    for (name, bytes, wanted) in cases {
        let error = open(&bytes).expect_err(name).to_string();
        assert!(
            error.contains(wanted) && error.contains("hostile.gguf"),
            "{name}: {error}"
        );
        assert!(!error.contains('\n'), "{name}: {error}");
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error_not_a_panic() {
    let whole = std::fs::read(sample()).unwrap();
    for length in [0, 3, 4, 23, 24, 100, 5_000, 500_000, 1_700_000] {
        assert!(open(&whole[..length]).is_err(), "cut to {length} bytes");
    }
}

#[test]
fn another_kind_of_tokenizer_is_named() {
    let fields = [
        field("tokenizer.ggml.model", 8, &string("llama")),
        field("tokenizer.ggml.pre", 8, &string("default")),
    ];
    let gguf = open(&header(0, 2, &[fields.concat(), vec![0; 64]].concat())).unwrap();
    let error = Tokenizer::from_gguf(&gguf).unwrap_err().to_string();
    assert!(
        error.contains("tokenizer.ggml.model = llama") && error.contains("smollm"),
        "{error}"
    );
}
