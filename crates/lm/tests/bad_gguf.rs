//! GGUF checkpoints that are incomplete, inconsistent or hostile: one clear line each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../token/tests/common/mod.rs"]
mod common;

use common::{ARRAY, BOOL, Draft, I32, Tensor, U8};
use lawvere_lm::{LanguageModel, LmError};

/// A model of one block: hidden 8, two heads of 4, one key-value head, feed-forward 16, and the 256
/// bytes and three pieces of a SentencePiece vocabulary.
fn model() -> Draft {
    let mut draft = Draft::default();
    let mut tokens: Vec<String> = (0..=255).map(|b| format!("<0x{b:02X}>")).collect();
    tokens.extend(["a", "b", "ab"].map(String::from));
    draft.text("general.architecture", "llama");
    let numbers = [
        ("block_count", 1),
        ("embedding_length", 8),
        ("feed_forward_length", 16),
        ("context_length", 32),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
    ];
    for (key, value) in numbers {
        draft.number(&format!("llama.{key}"), value);
    }
    draft.text("tokenizer.ggml.model", "llama");
    draft.texts("tokenizer.ggml.tokens", &tokens);
    draft.floats("tokenizer.ggml.scores", &vec![0.0; tokens.len()]);
    let tensors: [(&str, &[u64]); 11] = [
        ("token_embd", &[8, 259]),
        ("output_norm", &[8]),
        ("blk.0.attn_norm", &[8]),
        ("blk.0.attn_q", &[8, 8]),
        ("blk.0.attn_k", &[8, 4]),
        ("blk.0.attn_v", &[8, 4]),
        ("blk.0.attn_output", &[8, 8]),
        ("blk.0.ffn_norm", &[8]),
        ("blk.0.ffn_gate", &[8, 16]),
        ("blk.0.ffn_up", &[8, 16]),
        ("blk.0.ffn_down", &[16, 8]),
    ];
    for (name, dims) in tensors {
        add(&mut draft, &format!("{name}.weight"), dims);
    }
    draft
}

fn add(draft: &mut Draft, name: &str, dims: &[u64]) {
    draft.tensors.push(Tensor {
        name: name.into(),
        dims: dims.into(),
        dtype: 0,
        data: 0.1f32
            .to_le_bytes()
            .repeat(dims.iter().product::<u64>() as usize),
    });
}

/// A change and what the error should say.
type Case = (fn(&mut Draft), &'static str);

fn open(bytes: &[u8]) -> Result<LanguageModel, LmError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    std::fs::write(&path, bytes).unwrap();
    LanguageModel::open(&path)
}

#[test]
fn a_model_with_a_sentence_piece_vocabulary_loads() {
    let model = open(&model().bytes()).unwrap();
    assert_eq!(model.hidden_size(), 8);
    assert_eq!(
        model.bos(),
        Some(1),
        "what llama.cpp does if the file is silent"
    );
    assert_eq!(model.tokenizer().unwrap().vocab_size(), 259);
}

fn number(draft: &mut Draft, key: &str, value: u32) {
    draft.number(&format!("llama.{key}"), value);
}

#[test]
fn absurd_metadata_is_named() {
    let cases: [Case; 24] = [
        (
            |d| d.remove("general.architecture"),
            "`general.architecture` is missing",
        ),
        (
            |d| d.text("general.architecture", "mamba"),
            "`mamba` is not supported",
        ),
        (
            |d| number(d, "block_count", 0),
            "the number of layers is 0; it should be from 1 to 16777216",
        ),
        (
            |d| number(d, "block_count", u32::MAX),
            "the number of layers is 4294967295",
        ),
        (
            |d| number(d, "block_count", 1 << 20),
            "`blk.1.attn_norm.weight` is missing",
        ),
        (
            |d| number(d, "attention.head_count", 0),
            "the number of heads is 0",
        ),
        (
            |d| number(d, "attention.head_count", 3),
            "the hidden size 8 cannot be shared among 3 heads",
        ),
        (
            |d| number(d, "attention.head_count_kv", 0),
            "the number of key-value heads is 0",
        ),
        (
            |d| number(d, "attention.head_count_kv", 3),
            "2 heads cannot share 3",
        ),
        (
            |d| number(d, "attention.key_length", 3),
            "the head dimension 3 is odd",
        ),
        (|d| number(d, "rope.dimension_count", 2), "rotates"),
        (|d| number(d, "embedding_length", 1 << 23), "[259, 8388608]"),
        (
            |d| number(d, "feed_forward_length", 1 << 23),
            "[8388608, 8]",
        ),
        (
            |d| d.remove("llama.context_length"),
            "`llama.context_length` is missing",
        ),
        (
            |d| d.set("llama.block_count", I32, &(-1i32).to_le_bytes()),
            "`llama.block_count` is -1; it should be a whole number",
        ),
        (
            |d| d.set("llama.block_count", 6, &1f32.to_le_bytes()),
            "`llama.block_count` is 1.0; it should be a whole number",
        ),
        (
            |d| d.text("llama.embedding_length", "8"),
            "`llama.embedding_length` is a string",
        ),
        (
            |d| d.floats("llama.attention.head_count", &[2.0]),
            "`llama.attention.head_count` is an array of numbers",
        ),
        (
            |d| d.set("llama.rope.freq_base", 6, &f32::NAN.to_le_bytes()),
            "the rotary base is NaN",
        ),
        (
            |d| {
                d.set(
                    "llama.attention.layer_norm_rms_epsilon",
                    6,
                    &(-1f32).to_le_bytes(),
                )
            },
            "the norm's epsilon is -1",
        ),
        (
            |d| d.text("llama.rope.scaling.type", "longrope"),
            "scales its rotary positions",
        ),
        (
            |d| d.number("tokenizer.ggml.bos_token_id", 259),
            "the beginning-of-text token 259 is outside",
        ),
        (
            |d| d.set("tokenizer.ggml.add_bos_token", U8, &[1]),
            "`tokenizer.ggml.add_bos_token` is 1; it should be true or false",
        ),
        (
            |d| d.texts("tokenizer.ggml.tokens", &["a", "b"]),
            "lacks the byte token <0x00>",
        ),
    ];
    for (change, wanted) in cases {
        refused(change, wanted);
    }
}

fn refused(change: fn(&mut Draft), wanted: &str) {
    let mut draft = model();
    change(&mut draft);
    let error = open(&draft.bytes()).expect_err(wanted).to_string();
    assert!(
        error.contains("tiny.gguf") && error.contains(wanted),
        "{wanted}: {error}"
    );
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn tensors_that_do_not_fit_the_metadata_are_named() {
    let cases: [Case; 12] = [
        (
            |d| d.tensors.retain(|t| t.name != "blk.0.ffn_up.weight"),
            "`blk.0.ffn_up.weight` is missing",
        ),
        (
            |d| add(d, "blk.0.attn_q.bias", &[8]),
            "`blk.0.attn_k.bias` is missing",
        ),
        (
            |d| add(d, "blk.1.attn_q.weight", &[8, 8]),
            "`blk.1.attn_q.weight`, which a model of this kind has no use for",
        ),
        (
            |d| add(d, "rope_freqs.weight", &[3]),
            "`rope_freqs.weight` should hold 2 values in F32",
        ),
        (
            |d| add(d, "output.weight", &[8, 258]),
            "`output.weight` has shape [258, 8]; the metadata ask for [259, 8]",
        ),
        (
            |d| d.tensor("blk.0.ffn_down.weight").dims = vec![8, 16],
            "`blk.0.ffn_down.weight` has shape [16, 8]; the metadata ask for [8, 16]",
        ),
        (
            |d| d.tensor("output_norm.weight").dims = vec![8, 1],
            "`output_norm.weight` has shape [1, 8]; the metadata ask for [8]",
        ),
        (
            |d| d.tensor("blk.0.attn_v.weight").dtype = 9,
            "`blk.0.attn_v.weight` has the ggml type 9, which is not supported; supported: F32, F16, BF16, Q4_0",
        ),
        (
            |d| d.tensor("blk.0.attn_v.weight").dtype = 15,
            "the ggml type 15, which is not supported",
        ),
        (
            |d| d.tensor("blk.0.attn_v.weight").dtype = u32::MAX,
            "the ggml type 4294967295, which is not supported",
        ),
        (
            |d| d.tensor("blk.0.attn_v.weight").dtype = 12,
            "the rows of `blk.0.attn_v.weight` hold 8 values, not a multiple of Q4_K's block of 256",
        ),
        (
            |d| d.tensor("blk.0.attn_v.weight").data[..4].copy_from_slice(&f32::NAN.to_le_bytes()),
            "`blk.0.attn_v.weight` holds the value NaN",
        ),
    ];
    for (change, wanted) in cases {
        refused(change, wanted);
    }
}

#[test]
fn a_head_of_its_own_is_used() {
    let mut draft = model();
    add(&mut draft, "output.weight", &[8, 259]);
    assert!(open(&draft.bytes()).is_ok());
}

#[test]
fn counts_and_lengths_beyond_the_file_allocate_nothing() {
    let array = |kind: u32, length: u64| [&kind.to_le_bytes()[..], &length.to_le_bytes()].concat();
    for (kind, value) in [
        (8, u64::MAX.to_le_bytes().to_vec()),
        (8, (1u64 << 40).to_le_bytes().to_vec()),
        (ARRAY, array(8, u64::MAX)),
        (ARRAY, array(8, 1 << 40)),
        (ARRAY, array(6, 1 << 60)),
        (ARRAY, array(0, u64::MAX)),
        (ARRAY, array(9, 1 << 50)),
        (ARRAY, array(77, 1)),
    ] {
        let mut draft = model();
        draft.set("some.field", kind, &value);
        let error = open(&draft.bytes()).unwrap_err().to_string();
        assert!(
            error.contains("tiny.gguf") && error.contains("some.field"),
            "{error}"
        );
    }
    let mut draft = model();
    draft.tensor("token_embd.weight").dims = vec![1 << 40, 1 << 40];
    let error = open(&draft.bytes()).unwrap_err().to_string();
    assert!(
        error.contains("`token_embd.weight` has the absurd shape"),
        "{error}"
    );
    let mut draft = model();
    draft.set("llama.rope.freq_base", BOOL, &[2]);
    let error = open(&draft.bytes()).unwrap_err().to_string();
    assert!(error.contains("boolean with value 2"), "{error}");
}

#[test]
fn a_file_cut_or_altered_anywhere_never_panics() {
    let whole = model().bytes();
    for length in (0..whole.len()).step_by(97) {
        assert!(open(&whole[..length]).is_err(), "cut to {length} bytes");
    }
    let header = whole.len() - 4 * (259 * 8 + 600);
    for at in (0..header).step_by(13) {
        for value in [0, 0x7f, 0xff] {
            let mut altered = whole.clone();
            altered[at] = value;
            let _ = open(&altered);
        }
    }
}

#[test]
fn a_model_of_very_many_heads_answers() {
    let mut draft = model();
    number(&mut draft, "attention.head_count", 256);
    number(&mut draft, "attention.key_length", 2);
    for (name, dims) in [
        ("attn_q", [8, 512]),
        ("attn_k", [8, 2]),
        ("attn_v", [8, 2]),
        ("attn_output", [512, 8]),
    ] {
        let name = format!("blk.0.{name}.weight");
        draft.tensors.retain(|t| t.name != name);
        add(&mut draft, &name, &dims);
    }
    let model = open(&draft.bytes()).unwrap();
    let scores = model.score(&[(&[5, 6], &[7, 8])]).unwrap();
    assert!(scores.scores[0].total.is_finite());
}

#[test]
fn a_model_whose_weights_overflow_says_so_instead_of_answering() {
    let mut draft = model();
    let norm = draft.tensors.iter_mut();
    let norm = norm.filter(|t| t.name == "output_norm.weight");
    norm.for_each(|t| t.data = 3e38f32.to_le_bytes().repeat(8));
    let embedding = draft.tensors.iter_mut();
    let embedding = embedding.filter(|t| t.name == "token_embd.weight");
    embedding.for_each(|t| t.data = 10f32.to_le_bytes().repeat(8 * 259));
    let model = open(&draft.bytes()).unwrap();
    let error = model.score(&[(&[5], &[7])]).unwrap_err().to_string();
    assert!(error.contains("not finite"), "{error}");
    for temperature in [0.0, 1.0] {
        let generation = lawvere_lm::Generation {
            sampling: lawvere_lm::Sampling {
                temperature,
                ..lawvere_lm::Sampling::default()
            },
            samples: 1,
            most: 2,
            stop: Vec::new(),
            seed: 0,
        };
        let error = model.generate(&[&[5]], &generation).unwrap_err();
        assert!(error.to_string().contains("not finite"), "{error}");
    }
}
