//! A checkpoint's network as it was before training.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use lawvere_core::{ContextBatch, Factored, Layer, RowMatrix};
use lawvere_lm::LanguageModel;
use lawvere_lm::train::{Architecture, LstmConfig, Optimizer, Task, Trainer, Training};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

fn weight(model: &LanguageModel) -> Vec<f32> {
    let weight = model.head().weight;
    let rows = 0..weight.nrows();
    rows.flat_map(|i| (0..weight.ncols()).map(move |j| weight[(i, j)]))
        .collect()
}

fn states(model: &LanguageModel) -> Vec<RowMatrix<f32>> {
    let contexts = ContextBatch::of_contexts([&[1u32, 2, 3][..], &[4, 1], &[5]]);
    let layers: Vec<Layer> = (0..=model.last_layer().0).map(Layer).collect();
    model.encode(&contexts, &layers).unwrap()
}

fn deviation(values: &[f32]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let squares = values.iter().map(|&x| (f64::from(x) - mean).powi(2));
    (mean, (squares.sum::<f64>() / n).sqrt())
}

#[test]
fn weights_are_normal_values_of_the_stated_deviation_and_norms_are_one() {
    let path = fixture("llama-tiny/untied");
    let (own, drawn) = (
        LanguageModel::open(&path).unwrap(),
        LanguageModel::untrained(&path, 5).unwrap(),
    );
    assert_eq!(drawn.architecture(), own.architecture());
    assert_eq!(drawn.readout_norm().unwrap().weight, vec![1.0; 48]);
    assert_eq!(
        drawn.readout_norm().unwrap().eps,
        own.readout_norm().unwrap().eps
    );
    // 131 x 48 values of deviation 0.02: the mean within 4 of its deviations, theirs likewise.
    let (mean, spread) = deviation(&weight(&drawn));
    assert!(mean.abs() < 4.0 * 0.02 / (131.0f64 * 48.0).sqrt(), "{mean}");
    assert!(
        (spread / 0.02 - 1.0).abs() < 4.0 / (2.0 * 131.0f64 * 48.0).sqrt(),
        "{spread}"
    );
    assert_ne!(weight(&drawn), weight(&own));
    for layer in states(&drawn) {
        assert!(layer.data().iter().all(|x| x.is_finite()));
    }
}

#[test]
fn the_same_seed_draws_the_same_network_on_any_threads_and_another_seed_another() {
    let path = fixture("llama-tiny/tied");
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let model = LanguageModel::untrained(&path, 1).unwrap();
            (weight(&model), states(&model), model.identity().to_owned())
        })
    };
    assert_eq!(on(1), on(3));
    let other = LanguageModel::untrained(&path, 2).unwrap();
    assert_ne!(on(1).0, weight(&other));
}

#[test]
fn an_untrained_network_is_never_taken_for_the_checkpoint() {
    let path = fixture("llama-tiny/tied");
    let own = LanguageModel::open(&path).unwrap();
    let drawn = |seed| LanguageModel::untrained(&path, seed).unwrap();
    assert_ne!(own.identity(), drawn(0).identity());
    assert_ne!(drawn(0).identity(), drawn(1).identity());
    assert_eq!(drawn(7).origin().name, "tied (untrained, seed 7)");
    assert!(drawn(7).origin().storage.is_empty());
    assert_eq!(own.label(), path.display().to_string());
    assert_eq!(
        drawn(7).label(),
        format!("{} (untrained, seed 7)", path.display())
    );
    assert_eq!(drawn(7).path(), own.path());
}

#[test]
fn a_gguf_file_of_any_storage_gives_one_network_with_the_files_tokenizer() {
    let of =
        |name: &str| LanguageModel::untrained(&fixture(&format!("gguf/models/{name}.gguf")), 3);
    let (plain, packed) = (of("plain").unwrap(), of("q4_k").unwrap());
    assert_eq!(plain.architecture(), packed.architecture());
    assert_eq!(weight(&plain), weight(&packed));
    assert_eq!(states(&plain), states(&packed));
    assert_ne!(plain.identity(), packed.identity());
    let own = LanguageModel::open(&fixture("gguf/models/plain.gguf")).unwrap();
    let identity = |model: &LanguageModel| model.tokenizer().map(|t| t.identity().to_owned());
    assert_eq!(identity(&plain), identity(&own));
    assert!(identity(&plain).is_some());
}

#[test]
fn the_deviation_is_the_configurations_own() {
    let folder = tempfile::tempdir().unwrap();
    let from = fixture("llama-tiny/tied");
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    let rewrite = |range: &str| {
        let text = std::fs::read_to_string(from.join("config.json")).unwrap();
        let text = text.replace("\"initializer_range\": 0.02", range);
        std::fs::write(folder.path().join("config.json"), text).unwrap();
    };
    let spread = || {
        deviation(&weight(
            &LanguageModel::untrained(folder.path(), 0).unwrap(),
        ))
        .1
    };
    rewrite("\"initializer_range\": 0.2");
    let wide = spread();
    rewrite("\"hidden_dropout\": 0.0");
    let stated_nowhere = spread();
    assert!((wide / stated_nowhere - 10.0).abs() < 1e-5);
    rewrite("\"initializer_range\": -1.0");
    let error = LanguageModel::untrained(folder.path(), 0)
        .unwrap_err()
        .to_string();
    assert!(error.contains("the initializer_range is -1"), "{error}");
    assert!(
        LanguageModel::open(folder.path()).is_ok(),
        "it is read for this alone"
    );
}

#[test]
fn networks_of_other_kinds_begin_as_training_begins_them() {
    let folder = tempfile::tempdir().unwrap();
    let architecture = Architecture::Lstm(LstmConfig {
        vocab_size: 12,
        embedding_size: 6,
        hidden_size: 10,
        layers: 2,
    });
    let training = Training {
        steps: 2,
        optimizer: Optimizer::ADAMW,
        learning_rate: 0.01,
        warmup: 0,
        final_rate: 1.0,
        weight_decay: 0.0,
        ridge: 0.0,
        clip: None,
        seed: 2,
    };
    let task = Task::Text {
        stream: (0..200).map(|i| i % 11).collect(),
        batch: 4,
        window: 8,
    };
    let mut trainer = Trainer::new(architecture, training, task).unwrap();
    trainer.write_model(folder.path(), None).unwrap();
    let begun = LanguageModel::open(folder.path()).unwrap();
    while trainer.step().unwrap().is_some() {}
    trainer.write_model(folder.path(), None).unwrap();
    let trained = LanguageModel::open(folder.path()).unwrap();
    // The seed of the training: the same beginning.
    let drawn = LanguageModel::untrained(folder.path(), 2).unwrap();
    assert_eq!(weight(&drawn), weight(&begun));
    assert_eq!(states(&drawn), states(&begun));
    assert_ne!(weight(&drawn), weight(&trained));
}

#[test]
fn what_is_no_checkpoint_is_refused_as_ever() {
    let folder = tempfile::tempdir().unwrap();
    assert!(LanguageModel::untrained(folder.path(), 0).is_err());
    assert!(LanguageModel::untrained(&folder.path().join("none.gguf"), 0).is_err());
}
