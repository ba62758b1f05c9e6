//! Checkpoints that are incomplete, inconsistent or hostile: one clear line each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use lawvere_lm::LanguageModel;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A copy of the tiny checkpoint, changed.
fn changed(change: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        let from = root().join("fixtures/llama-tiny/untied").join(name);
        std::fs::write(folder.path().join(name), std::fs::read(from).unwrap()).unwrap();
    }
    change(folder.path());
    let error = LanguageModel::open(folder.path())
        .expect_err("should be refused")
        .to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

fn edit_config(folder: &Path, key: &str, value: serde_json::Value) {
    let path = folder.join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config[key] = value;
    std::fs::write(path, config.to_string()).unwrap();
}

#[test]
fn a_wrong_config_is_named() {
    let error = changed(|f| edit_config(f, "model_type", "mamba".into()));
    assert!(
        error.contains("`mamba`")
            && error.contains("supported: Hugging Face folders of model_type gpt2"),
        "{error}"
    );
    let error = changed(|f| edit_config(f, "hidden_size", 1_000_000_000_000u64.into()));
    assert!(error.contains("hidden size"), "{error}");
    let error = changed(|f| edit_config(f, "num_attention_heads", 0.into()));
    assert!(error.contains("number of heads"), "{error}");
    let error = changed(|f| edit_config(f, "num_key_value_heads", 3.into()));
    assert!(error.contains("cannot share"), "{error}");
    let error = changed(|f| {
        edit_config(
            f,
            "rope_scaling",
            serde_json::json!({"rope_type": "proportional"}),
        )
    });
    assert!(error.contains("rotary"), "{error}");
    let error = changed(|f| edit_config(f, "attention_bias", true.into()));
    assert!(error.contains("q_proj.bias` is missing"), "{error}");
    let error = changed(|f| edit_config(f, "vocab_size", 130.into()));
    assert!(
        error.contains("embed_tokens") && error.contains("[131, 48]"),
        "{error}"
    );
    let error = changed(|f| edit_config(f, "num_hidden_layers", 2.into()));
    assert!(error.contains("no use for"), "{error}");
    let error = changed(|f| edit_config(f, "num_hidden_layers", 4.into()));
    assert!(error.contains("is missing"), "{error}");
    let error = changed(|f| std::fs::write(f.join("config.json"), "{").unwrap());
    assert!(error.contains("JSON"), "{error}");
}

#[test]
fn damaged_tensor_files_are_named() {
    let file = |f: &Path| f.join("model.safetensors");
    let error = changed(|f| std::fs::remove_file(file(f)).unwrap());
    assert!(error.contains("neither"), "{error}");
    for length in [0, 7, 100, 5_000, 100_000] {
        let error = changed(|f| {
            let bytes = std::fs::read(file(f)).unwrap();
            std::fs::write(file(f), &bytes[..length]).unwrap();
        });
        assert!(error.contains("model.safetensors"), "{length}: {error}");
    }
    let hostile = [
        (u64::MAX, "{}".to_string()),
        (2, "{}".to_string()),
        (0, String::new()),
        (
            90,
            format!(
                "{:90}",
                r#"{"a":{"dtype":"F32","shape":[4611686018427387904,16],"data_offsets":[0,4]}}"#
            ),
        ),
        (
            90,
            format!(
                "{:90}",
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#
            ),
        ),
    ];
    for (length, header) in hostile {
        let error = changed(|f| {
            let bytes = [&length.to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
            std::fs::write(file(f), bytes).unwrap();
        });
        assert!(
            error.contains("model.safetensors") || error.contains("missing"),
            "{error}"
        );
    }
}

#[test]
fn an_index_that_points_elsewhere_is_refused() {
    let error = changed(|f| {
        std::fs::remove_file(f.join("model.safetensors")).unwrap();
        let index = serde_json::json!({"weight_map": {"x": "../../etc/passwd"}});
        std::fs::write(f.join("model.safetensors.index.json"), index.to_string()).unwrap();
    });
    assert!(
        error.contains("not the name of a file beside it"),
        "{error}"
    );
}

#[test]
fn a_truncated_gguf_is_refused_wherever_it_is_cut() {
    let whole = std::fs::read(root().join("sample/smollm2-135m-instruct-q4_1.gguf"))
        .expect("the sample model is missing; run scripts/fetch-sample.sh");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.gguf");
    for length in [10, 1_000_000, 1_785_664, 30_000_000, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = LanguageModel::open(&path)
            .expect_err("should be refused")
            .to_string();
        assert!(
            error.contains("cut.gguf") && error.contains("truncated"),
            "{length}: {error}"
        );
    }
}

#[test]
fn a_gguf_of_another_architecture_is_named() {
    let string = |s: &str| [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat();
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend([0u64.to_le_bytes(), 1u64.to_le_bytes()].concat());
    bytes.extend(string("general.architecture"));
    bytes.extend(8u32.to_le_bytes());
    bytes.extend(string("mamba"));
    bytes.extend([0; 64]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.gguf");
    std::fs::write(&path, bytes).unwrap();
    let error = LanguageModel::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("other.gguf") && error.contains("`mamba`"),
        "{error}"
    );
    assert!(
        error.contains("GGUF files of general.architecture gpt2"),
        "{error}"
    );
}

#[test]
fn a_missing_checkpoint_is_named() {
    let error = LanguageModel::open(Path::new("no/such/model.gguf"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("no/such/model.gguf"), "{error}");
}
