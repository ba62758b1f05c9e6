//! The tokenizer inside a GGUF against llama.cpp, and GGUF files that lie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::PathBuf;

use common::{Draft, field, header, string, tensor};
use lawvere_token::gguf::Gguf;
use lawvere_token::{TokenError, Tokenizer, gguf_bos};

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
            header(1, 0, &tensor("t", &[1 << 40, 1 << 40], 0, 0)),
            "absurd shape",
        ),
        (
            "many dimensions",
            header(1, 0, &tensor("t", &[1; 9], 0, 0)),
            "dimensions",
        ),
        (
            "data beyond the end",
            header(1, 0, &tensor("t", &[4], 0, 1 << 40)),
            "beyond the end",
        ),
        (
            "a tensor twice",
            header(
                2,
                0,
                &[tensor("t", &[1], 0, 0), tensor("t", &[1], 0, 0)].concat(),
            ),
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

struct Ids(serde_json::Value);

impl Ids {
    fn open() -> Self {
        let path = root().join("fixtures/gguf/tokenizers/ids.json");
        Self(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    fn texts(&self) -> Vec<&str> {
        let texts = self.0["texts"].as_array().unwrap();
        texts.iter().map(|t| t.as_str().unwrap()).collect()
    }

    /// What llama.cpp made of the texts with each vocabulary.
    fn kinds(&self) -> impl Iterator<Item = (&String, &serde_json::Value)> {
        self.0["tokenizers"].as_object().unwrap().iter()
    }
}

fn file(kind: &str) -> PathBuf {
    root().join(format!("fixtures/gguf/tokenizers/{kind}.gguf"))
}

fn numbers<T: TryFrom<u64>>(value: &serde_json::Value) -> Vec<T> {
    let numbers = value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_u64().unwrap());
    numbers.map(|x| T::try_from(x).ok().unwrap()).collect()
}

#[test]
fn every_kind_of_tokenizer_gives_the_ids_of_llama_cpp_and_the_texts_back() {
    let (ids, mut wrong) = (Ids::open(), Vec::new());
    let texts = ids.texts();
    assert!(texts.len() > 500 && ids.kinds().count() == 9);
    for (kind, wanted) in ids.kinds() {
        let tokenizer = Tokenizer::open(&file(kind)).unwrap();
        let changed: Vec<usize> = numbers(&wanted["changed"]);
        let rows = wanted["ids"].as_array().unwrap();
        assert_eq!(rows.len(), texts.len());
        for (at, (text, row)) in texts.iter().zip(rows).enumerate() {
            let (ours, row) = (tokenizer.encode(text).unwrap(), numbers::<u32>(row));
            if ours != row {
                wrong.push(format!("{kind}: {text:?}: {ours:?}, llama.cpp {row:?}"));
            }
            let back = tokenizer.decode(&row).unwrap();
            if back != *text && !changed.contains(&at) {
                wrong.push(format!("{kind}: {text:?} comes back as {back:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_kind_of_tokenizer_survives_being_written_as_json() {
    for (kind, _) in Ids::open().kinds() {
        let tokenizer = Tokenizer::open(&file(kind)).unwrap();
        let again = Tokenizer::from_json(&tokenizer.to_json().unwrap()).unwrap();
        assert_eq!(tokenizer.identity(), again.identity(), "{kind}");
        let text = " It's 1234<tool> \n\n été";
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(again.encode(text).unwrap(), ids, "{kind}");
        assert_eq!(tokenizer.vocab_size(), again.vocab_size(), "{kind}");
    }
}

#[test]
fn the_other_names_of_a_pre_tokenizer_mean_the_same() {
    let ids = Ids::open();
    let aliases = ids.0["aliases"].as_object().unwrap();
    for (kind, aliases) in aliases {
        let bytes = std::fs::read(file(kind)).unwrap();
        let whole = Tokenizer::open(&file(kind)).unwrap();
        let [old, new] =
            [kind, "default"].map(|name| field("tokenizer.ggml.pre", 8, &string(name)));
        let at = bytes.windows(old.len()).position(|w| w == old).unwrap();
        let renamed = |new: &[u8]| [&bytes[..at], new, &bytes[at + old.len()..]].concat();
        for alias in aliases.as_array().unwrap() {
            let new = field("tokenizer.ggml.pre", 8, &string(alias.as_str().unwrap()));
            let other = Tokenizer::from_gguf(&open(&renamed(&new)).unwrap()).unwrap();
            assert_eq!(other.identity(), whole.identity(), "{alias}");
        }
        let other = Tokenizer::from_gguf(&open(&renamed(&new)).unwrap()).unwrap();
        assert_eq!(other.identity() == whole.identity(), kind == "default");
    }
}

#[test]
fn a_text_begins_with_a_special_token_where_llama_cpp_puts_one() {
    for (kind, wanted) in Ids::open().kinds() {
        let bos = gguf_bos(&Gguf::open(&file(kind)).unwrap());
        match (wanted["adds_bos"].as_bool().unwrap(), kind.as_str()) {
            (false, _) => assert_eq!(bos.unwrap(), None, "{kind}"),
            (true, "llama" | "llama-no-prefix") => assert_eq!(bos.unwrap(), Some(1), "{kind}"),
            (true, _) => assert!(bos.unwrap_err().to_string().contains("bos_token_id")),
        }
    }
    let mut draft = byte_level();
    let bos = |draft: &Draft| gguf_bos(&open(&draft.bytes()).unwrap());
    draft.number("tokenizer.ggml.bos_token_id", 2);
    assert_eq!(bos(&draft).unwrap(), None);
    draft.text("tokenizer.ggml.pre", "llama-bpe");
    assert_eq!(bos(&draft).unwrap(), Some(2));
    draft.set("tokenizer.ggml.add_bos_token", common::BOOL, &[0]);
    assert_eq!(bos(&draft).unwrap(), None);
    draft.text("tokenizer.ggml.pre", "gpt-2");
    draft.set("tokenizer.ggml.add_bos_token", common::BOOL, &[1]);
    assert_eq!(bos(&draft).unwrap(), Some(2));
    draft.set("tokenizer.ggml.bos_token_id", 10, &u64::MAX.to_le_bytes());
    assert!(bos(&draft).unwrap_err().to_string().contains("no token id"));
}

/// A byte-level vocabulary of four tokens.
fn byte_level() -> Draft {
    let mut draft = Draft::default();
    draft.text("tokenizer.ggml.model", "gpt2");
    draft.text("tokenizer.ggml.pre", "gpt-2");
    draft.texts("tokenizer.ggml.tokens", &["a", "b", "ab", "abab"]);
    draft.texts("tokenizer.ggml.merges", &["a b"]);
    draft
}

/// The 256 bytes and three pieces, scored as SentencePiece does.
fn sentence_piece() -> Draft {
    let mut draft = Draft::default();
    let mut tokens: Vec<String> = (0..=255).map(|b| format!("<0x{b:02X}>")).collect();
    tokens.extend(["ab", "a", "b"].map(String::from));
    let mut scores = vec![0.0; 256];
    scores.extend([0.0, -1.0, -2.0]);
    draft.text("tokenizer.ggml.model", "llama");
    draft.texts("tokenizer.ggml.tokens", &tokens);
    draft.floats("tokenizer.ggml.scores", &scores);
    draft
}

#[test]
fn a_tokenizer_that_does_not_fit_together_is_one_clear_line() {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    const MERGES: &str = "tokenizer.ggml.merges";
    const SCORES: &str = "tokenizer.ggml.scores";
    type Case = (fn() -> Draft, fn(&mut Draft), &'static str);
    let cases: [Case; 20] = [
        (
            byte_level,
            |d| d.text("tokenizer.ggml.model", "bert"),
            "tokenizer.ggml.model = bert",
        ),
        (
            byte_level,
            |d| d.text("tokenizer.ggml.pre", "poro-chat"),
            "pre = poro-chat, which is not supported; supported: ",
        ),
        (
            byte_level,
            |d| d.number("tokenizer.ggml.pre", 3),
            "`tokenizer.ggml.pre` is 3; it should be a string",
        ),
        (
            byte_level,
            |d| d.remove("tokenizer.ggml.model"),
            "`tokenizer.ggml.model` is missing",
        ),
        (
            byte_level,
            |d| d.remove(TOKENS),
            "`tokenizer.ggml.tokens` is missing",
        ),
        (
            byte_level,
            |d| d.floats(TOKENS, &[1.0]),
            "is an array of numbers; it should be an array of strings",
        ),
        (byte_level, |d| d.texts(TOKENS, &[""; 0]), "tokens is empty"),
        (
            byte_level,
            |d| d.texts(TOKENS, &["a", "b", "a"]),
            "names a token twice: \"a\" has the ids 0 and 2",
        ),
        (
            byte_level,
            |d| d.remove(MERGES),
            "`tokenizer.ggml.merges` is missing",
        ),
        (
            byte_level,
            |d| d.texts(MERGES, &["ab"]),
            "\"ab\", which is not two tokens",
        ),
        (
            byte_level,
            |d| d.texts(MERGES, &["a c"]),
            "the merge \"a c\" needs the token \"c\"",
        ),
        (
            byte_level,
            |d| d.texts(MERGES, &["abab abab"]),
            "needs the token \"abababab\"",
        ),
        (
            byte_level,
            |d| d.floats("tokenizer.ggml.token_type", &[1.0]),
            "holds 1 numbers for 4 tokens",
        ),
        (
            sentence_piece,
            |d| d.remove(SCORES),
            "`tokenizer.ggml.scores` is missing",
        ),
        (
            sentence_piece,
            |d| d.floats(SCORES, &[0.0; 258]),
            "holds 258 numbers for 259 tokens",
        ),
        (
            sentence_piece,
            |d| d.floats(SCORES, &[f32::NAN; 259]),
            "the token 0 the score NaN",
        ),
        (
            sentence_piece,
            |d| d.texts(SCORES, &["0"; 259]),
            "is an array of strings; it should be an array of numbers",
        ),
        (
            sentence_piece,
            |d| d.texts(TOKENS, &["a", "b"]),
            "lacks the byte token <0x00>",
        ),
        (
            sentence_piece,
            |d| d.number("tokenizer.ggml.add_space_prefix", 1),
            "is 1; it should be true or false",
        ),
        (
            sentence_piece,
            |d| {
                let mut tokens: Vec<String> = (0..=255).map(|b| format!("<0x{b:02X}>")).collect();
                tokens.push("a".repeat(2_000_000));
                d.texts(TOKENS, &tokens);
                d.floats(SCORES, &[0.0; 257]);
            },
            "the token 256 has 2000000 bytes",
        ),
    ];
    for (base, change, wanted) in cases {
        let mut draft = base();
        Tokenizer::from_gguf(&open(&draft.bytes()).unwrap()).unwrap();
        change(&mut draft);
        let gguf = open(&draft.bytes()).unwrap();
        let error = Tokenizer::from_gguf(&gguf).expect_err(wanted).to_string();
        assert!(
            error.contains("hostile.gguf") && error.contains(wanted),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn odd_but_lawful_vocabularies_are_read_as_llama_cpp_reads_them() {
    let encode = |draft: &Draft, text| {
        let gguf = open(&draft.bytes()).unwrap();
        Tokenizer::from_gguf(&gguf).unwrap().encode(text).unwrap()
    };
    assert_eq!(
        encode(&byte_level(), "abac"),
        [2, 0],
        "a byte without a token vanishes"
    );
    let mut draft = byte_level();
    draft.texts(
        "tokenizer.ggml.tokens",
        &["a", "b", "ab", "abab", "", "aba"],
    );
    draft.texts("tokenizer.ggml.merges", &["ab a", "a b", "ab ab", "ab a"]);
    assert_eq!(encode(&draft, "aba"), [5]);
    assert_eq!(
        encode(&draft, "abab"),
        [5, 1],
        "of equal merges the first counts"
    );
    let mut draft = sentence_piece();
    draft.set("tokenizer.ggml.add_space_prefix", common::BOOL, &[0]);
    assert_eq!(encode(&draft, "abc\u{e9}"), [256, 0x63, 0xc3, 0xa9]);
}
