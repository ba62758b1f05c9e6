//! Networks that were trained here, opened again as language models.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use lawvere_core::{ContextBatch, Factored, KernelError, Layer, LogProbs, NextToken};
use lawvere_lm::train::{Architecture, LstmConfig, MlpConfig, Optimizer, Task, Trainer, Training};
use lawvere_lm::{DecoderConfig, Finish, Generation, LanguageModel, Sampling};

const VOCAB: usize = 12;
const END: u32 = 11;

fn architectures() -> [Architecture; 3] {
    [
        Architecture::Decoder(DecoderConfig {
            vocab_size: VOCAB,
            hidden_size: 16,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 4,
            feed_forward_size: 24,
            rope_theta: 500.0,
            norm_eps: 1e-5,
            context_length: 40,
            tied_head: false,
            bos: None,
            style: lawvere_lm::DecoderStyle::default(),
        }),
        Architecture::Lstm(LstmConfig {
            vocab_size: VOCAB,
            embedding_size: 6,
            hidden_size: 10,
            layers: 2,
        }),
        Architecture::Mlp(MlpConfig {
            vocab_size: VOCAB,
            order: 3,
            embedding_size: 5,
            hidden_sizes: vec![14, 9],
        }),
    ]
}

/// Documents that count up by one or two, between ends.
fn documents() -> Vec<Vec<u32>> {
    let document = |i: u32| {
        let mut tokens = vec![END];
        tokens.extend((0..6 + i % 5).map(|k| (i + k * (1 + i % 2)) % END));
        tokens.push(END);
        tokens
    };
    (0..60).map(document).collect()
}

fn trained(architecture: Architecture, folder: &Path) -> Trainer {
    let task = Task::Text {
        stream: documents().iter().flat_map(|d| d[1..].to_vec()).collect(),
        batch: 8,
        window: 10,
    };
    let training = Training {
        steps: 60,
        optimizer: Optimizer::ADAMW,
        learning_rate: 0.01,
        warmup: 5,
        final_rate: 0.2,
        weight_decay: 0.01,
        ridge: 0.0,
        clip: Some(1.0),
        seed: 2,
    };
    let mut trainer = Trainer::new(architecture, training, task).unwrap();
    while trainer.step().unwrap().is_some() {}
    trainer.write_model(folder, Some(END)).unwrap();
    trainer
}

/// The sum over `tokens` after the first of `-log q`, read through the kernel.
fn loss(model: &LanguageModel, tokens: &[u32]) -> f64 {
    let mut batch = ContextBatch::new();
    let positions: Vec<u32> = (1..tokens.len() as u32).collect();
    batch.push(&tokens[..tokens.len() - 1], &positions).unwrap();
    let mut loss = 0.0;
    model
        .log_probs(&batch, &mut |first, block| {
            let LogProbs::Dense(rows) = block else {
                panic!("a network's laws are dense")
            };
            for (i, row) in rows.rows().enumerate() {
                let total: f64 = row.iter().map(|&l| f64::from(l).exp()).sum();
                assert!((total - 1.0).abs() < 1e-5);
                loss -= f64::from(row[tokens[first + i + 1] as usize]);
            }
            Ok(())
        })
        .unwrap();
    loss
}

#[test]
fn an_opened_network_computes_what_the_trained_one_did() {
    for architecture in architectures() {
        let folder = tempfile::tempdir().unwrap();
        let mut trainer = trained(architecture.clone(), folder.path());
        let losses = trainer.losses();
        assert!(losses[59] < 0.9 * losses[0], "{losses:?}");
        let model = LanguageModel::open(folder.path()).unwrap();
        assert_eq!(model.architecture(), &architecture);
        assert_eq!(model.document_end(), Some(END));
        assert_eq!(model.vocab_size(), VOCAB);
        let documents = &documents()[..9];
        let expected = trainer.document_losses(documents, 40).unwrap();
        for (document, expected) in documents.iter().zip(expected) {
            let found = loss(&model, document);
            assert!(
                (found - expected).abs() < 1e-4 * expected,
                "{found} {expected}"
            );
        }
        let last = model.last_layer();
        let states = model
            .encode(&ContextBatch::of_contexts([&[1u32, 2][..]]), &[last])
            .unwrap();
        assert_eq!(states[0].ncols(), model.hidden_size());
        let beyond = [Layer(last.0 + 1)];
        let batch = ContextBatch::of_contexts([&[1u32][..]]);
        assert!(matches!(
            model.encode(&batch, &beyond),
            Err(KernelError::UnknownLayer { .. })
        ));
    }
}

#[test]
fn a_perceptron_reads_its_last_tokens_only_and_an_lstm_all() {
    let [_, lstm, mlp] = architectures();
    let far = |architecture: Architecture| {
        let folder = tempfile::tempdir().unwrap();
        trained(architecture, folder.path());
        let model = LanguageModel::open(folder.path()).unwrap();
        let contexts = [&[1u32, 4, 5, 6][..], &[9, 4, 5, 6]];
        let states = model
            .encode(&ContextBatch::of_contexts(contexts), &[Layer(0)])
            .unwrap();
        states[0].row(0) != states[0].row(1)
    };
    assert!(far(lstm));
    assert!(!far(mlp));
}

#[test]
fn an_opened_network_goes_on_from_prompts_as_its_laws_say() {
    for architecture in architectures() {
        let folder = tempfile::tempdir().unwrap();
        trained(architecture.clone(), folder.path());
        let model = LanguageModel::open(folder.path()).unwrap();
        assert_eq!(model.eos(), [END]);
        let prompts: [&[u32]; 3] = [&[END], &[END, 3, 4], &[END, 1, 3, 5, 7]];
        let generation = Generation {
            sampling: Sampling::default(),
            samples: 30,
            most: 12,
            stop: model.eos().to_vec(),
            seed: 1,
        };
        let texts = model.generate(&prompts, &generation).unwrap();
        assert_eq!(texts.len(), 90);
        assert!(texts.iter().any(|t| t.finish == Finish::Stop));
        for text in &texts {
            let ends = text.tokens.iter().position(|&t| t == END);
            assert_eq!(
                text.finish == Finish::Stop,
                ends == Some(text.tokens.len() - 1)
            );
            let question = (prompts[text.prompt], text.tokens.as_slice());
            let score = model.score(&[question]).unwrap().scores.remove(0);
            for (a, b) in text.log_probs.iter().zip(&score.tokens) {
                assert!((a - b).abs() < 1e-4, "{architecture:?}: {a} {b}");
            }
        }
    }
}

#[test]
fn a_damaged_model_folder_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let [_, lstm, _] = architectures();
    trained(lstm, folder.path());
    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let refused = |text: &str, what: &str| {
        std::fs::write(&config, text).unwrap();
        let error = LanguageModel::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains(what) && error.contains("config.json")
                || error.contains("safetensors") && error.contains(what),
            "{error}"
        );
    };
    refused(
        &text.replace(
            "\"document_end_token_id\": 11",
            "\"document_end_token_id\": 12",
        ),
        "end-of-document token 12",
    );
    refused(
        &text.replace("\"hidden_size\": 10", "\"hidden_size\": 11"),
        "shape",
    );
    refused(
        &text.replace("\"hidden_size\": 10", "\"hidden_size\": 0"),
        "size is 0",
    );
    refused(&text.replace("lawvere-lstm", "lawvere-gru"), "lawvere-gru");
    refused(
        &text.replace("\"layers\": 2", "\"layers\": 1"),
        "no use for",
    );
    refused(&text[..text.len() / 2], "JSON");
    std::fs::write(&config, &text).unwrap();
    assert!(LanguageModel::open(folder.path()).is_ok());
}

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/trained")
        .join(name)
}

#[test]
fn transformers_reads_a_trained_decoder_as_it_is_read_here() {
    let model = LanguageModel::open(&fixture("model")).unwrap();
    let bytes = std::fs::read(fixture("reference.safetensors")).unwrap();
    let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let data = |name: String| reference.tensor(&name).unwrap().data().to_vec();
    for i in 0..2 {
        let text = String::from_utf8(data(format!("text.{i}"))).unwrap();
        let ids: Vec<u32> = data(format!("ids.{i}"))
            .as_chunks()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b) as u32)
            .collect();
        assert_eq!(model.tokenizer().unwrap().encode(&text).unwrap(), ids);
        let expected: Vec<f32> = data(format!("logits.{i}"))
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        let mut batch = ContextBatch::new();
        let positions: Vec<u32> = (1..=ids.len() as u32).collect();
        batch.push(&ids, &positions).unwrap();
        let states = model.encode(&batch, &[model.last_layer()]).unwrap();
        let logits = model.head().logits(&states[0]).unwrap();
        assert_eq!(logits.data().len(), expected.len());
        let spread = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        for (a, b) in logits.data().iter().zip(&expected) {
            assert!((a - b).abs() < 1e-5 * spread, "{a} {b}");
        }
    }
}

#[test]
fn a_decoder_is_written_in_the_form_that_transformers_read() {
    let theirs: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("model/config.json")).unwrap())
            .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [decoder, ..] = architectures();
    trained(decoder, folder.path());
    let text = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    let ours: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&ours), keys(&theirs));
    for key in ["architectures", "model_type", "hidden_act", "torch_dtype"] {
        assert_eq!(ours[key], theirs[key]);
    }
    let names = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut names: Vec<String> = file.names().into_iter().map(str::to_owned).collect();
        names.sort();
        names
    };
    let file = "model.safetensors";
    assert_eq!(
        names(&folder.path().join(file)),
        names(&fixture("model").join(file))
    );
}
