//! Gradients against finite differences, loss curves against PyTorch, runs against themselves.

use std::path::{Path, PathBuf};

use lawvere_core::SparseRows;
use lawvere_core::vector::Real;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::learner::{Batch, Learner, Rule};
use super::loss::Targets;
use super::network::Input;
use super::optimizer::StepSize;
use super::*;
use crate::DecoderConfig;

fn decoder(vocab_size: usize, tied_head: bool) -> DecoderConfig {
    DecoderConfig {
        vocab_size,
        hidden_size: 8,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        feed_forward_size: 10,
        rope_theta: 100.0,
        norm_eps: 1e-5,
        context_length: 200,
        tied_head,
        bos: None,
        style: crate::config::DecoderStyle::default(),
    }
}

fn architectures() -> Vec<(&'static str, Architecture)> {
    let lstm = LstmConfig {
        vocab_size: 7,
        embedding_size: 5,
        hidden_size: 6,
        layers: 2,
    };
    let mlp = MlpConfig {
        vocab_size: 7,
        order: 3,
        embedding_size: 4,
        hidden_sizes: vec![9, 6],
    };
    vec![
        ("decoder", Architecture::Decoder(decoder(7, false))),
        ("tied decoder", Architecture::Decoder(decoder(7, true))),
        ("lstm", Architecture::Lstm(lstm)),
        ("mlp", Architecture::Mlp(mlp)),
    ]
}

fn features() -> Architecture {
    Architecture::Features(FeaturesConfig {
        vocab_size: 7,
        contexts: 4,
        dim: 3,
    })
}

/// Soft labels over 7 tokens for contexts of two, supports of sizes 1 to 4.
fn labels() -> SoftLabels {
    let mut laws = SparseRows::new(7);
    for support in [&[(2, 1.0)][..], &[(0, 0.25), (6, 0.75)]] {
        laws.push_row(support.iter().copied()).unwrap();
    }
    laws.push_row([(1, 0.5), (2, 0.3), (3, 0.2)]).unwrap();
    laws.push_row([(0, 0.1), (3, 0.2), (4, 0.3), (5, 0.4)])
        .unwrap();
    SoftLabels {
        order: 2,
        tokens: vec![0, 1, 3, 1, 6, 2, 5, 5],
        weights: vec![0.1, 0.2, 0.3, 0.4],
        laws,
    }
}

/// Every entry's gradient against central differences, in f64. Windows reach past the attention's
/// first tiles of queries and of keys, and their lengths differ where the network allows it.
fn check_gradient(name: &str, architecture: &Architecture, batch: Batch<'_>) {
    let mut learner = Learner::<f64>::new(architecture.network(), 0, 3);
    // Initial biases and norms are constants, at which a wrong gradient may look right.
    for (k, tensor) in learner.parameters.0.iter_mut().enumerate() {
        for (i, x) in tensor.values.data_mut().iter_mut().enumerate() {
            *x += 0.3 * ((i * 7 + k * 3) as f64).sin();
        }
    }
    // What is not written stays NaN.
    for tensor in &mut learner.gradient().0 {
        tensor.values.data_mut().fill(f64::NAN);
    }
    learner.differentiate(batch);
    let gradient = learner.gradient().clone();
    let largest = gradient
        .parts()
        .flat_map(|(_, g)| g)
        .fold(0.0, |m: f64, g| m.max(g.abs()));
    for (k, tensor) in gradient.0.iter().enumerate() {
        let names: Vec<&str> = tensor.parts.iter().map(|p| p.name.as_str()).collect();
        let moved = tensor.values.data().iter().filter(|g| **g != 0.0).count();
        assert!(moved > 0, "{name}: no gradient reaches {names:?}");
        for i in 0..tensor.values.data().len() {
            let mut loss_at = |shift: f64| {
                let entry = &mut learner.parameters.0[k].values.data_mut()[i];
                let old = *entry;
                *entry = old + shift;
                let loss = lawvere_core::sum(learner.cross_entropy(batch));
                learner.parameters.0[k].values.data_mut()[i] = old;
                loss
            };
            let step = 1e-5;
            let difference = (loss_at(step) - loss_at(-step)) / (2.0 * step);
            let analytic = tensor.values.data()[i];
            assert!(
                (difference - analytic).abs() < 1e-7 * largest.max(1e-3),
                "{name}, {names:?}[{i}]: {analytic} against {difference}"
            );
        }
    }
}

#[test]
fn every_gradient_is_the_limit_of_differences_on_running_text() {
    for (name, architecture) in architectures() {
        let windows = [5, 1, 140];
        let tokens: Vec<u32> = (0..146u32).map(|i| (i * i + i / 3) % 7).collect();
        let next: Vec<u32> = (0..146u32).map(|i| (i * 5 + 2) % 7).collect();
        let batch = Batch {
            input: Input {
                tokens: &tokens,
                windows: &windows,
            },
            kept: None,
            targets: Targets::Tokens(&next),
        };
        check_gradient(name, &architecture, batch);
    }
}

#[test]
fn every_gradient_is_the_limit_of_differences_on_soft_labels() {
    let labels = labels();
    let targets = Targets::Laws {
        weights: &labels.weights,
        laws: &labels.laws,
    };
    for (name, architecture) in architectures() {
        let batch = Batch {
            input: Input {
                tokens: &labels.tokens,
                windows: &[2; 4],
            },
            kept: Some(&[1, 3, 5, 7]),
            targets,
        };
        check_gradient(name, &architecture, batch);
    }
    let batch = Batch {
        input: Input {
            tokens: &[],
            windows: &[],
        },
        kept: None,
        targets,
    };
    check_gradient("features", &features(), batch);
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/training")
        .join(name)
}

/// A run of PyTorch: settings, and tensors by name.
struct Run {
    settings: Value,
    bytes: Vec<u8>,
}

impl Run {
    fn open(name: &str) -> Self {
        let text = std::fs::read_to_string(fixture(&format!("{name}.json"))).unwrap();
        Self {
            settings: serde_json::from_str(&text).unwrap(),
            bytes: std::fs::read(fixture(&format!("{name}.safetensors"))).unwrap(),
        }
    }

    fn floats(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = file.tensor(name).unwrap();
        let data = tensor.data();
        match tensor.dtype() {
            Dtype::F32 => data
                .as_chunks()
                .0
                .iter()
                .map(|b| f64::from(f32::from_le_bytes(*b)))
                .collect(),
            Dtype::F64 => data
                .as_chunks()
                .0
                .iter()
                .map(|b| f64::from_le_bytes(*b))
                .collect(),
            other => panic!("{name} is {other:?}"),
        }
    }

    fn integers(&self, name: &str) -> Vec<u32> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::I64);
        let words = tensor.data().as_chunks().0.iter();
        words.map(|b| i64::from_le_bytes(*b) as u32).collect()
    }

    fn size(&self, name: &str) -> usize {
        self.settings["sizes"][name].as_u64().unwrap() as usize
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.settings["optimiser"][name].as_f64()
    }

    fn training(&self) -> Training {
        let optimiser = &self.settings["optimiser"];
        let schedule = &optimiser["schedule"];
        Training {
            steps: self.settings["steps"].as_u64().unwrap(),
            optimizer: match optimiser["name"].as_str().unwrap() {
                "adamw" => Optimizer::AdamW {
                    beta1: optimiser["betas"][0].as_f64().unwrap(),
                    beta2: optimiser["betas"][1].as_f64().unwrap(),
                    eps: self.number("eps").unwrap(),
                },
                "sgd" => Optimizer::Sgd {
                    momentum: self.number("momentum").unwrap_or(0.0),
                },
                other => panic!("{other}"),
            },
            learning_rate: self.number("lr").unwrap(),
            warmup: schedule["warmup"].as_u64().unwrap_or(0),
            final_rate: schedule["floor"].as_f64().unwrap_or(1.0),
            weight_decay: self.number("weight_decay").unwrap_or(0.0),
            ridge: self.settings["sizes"]["ridge"].as_f64().unwrap_or(0.0),
            clip: self.number("clip"),
            seed: 0,
        }
    }

    fn learner<T: Real>(&self, architecture: &Architecture) -> Learner<T> {
        let moments = self.training().optimizer.moments();
        let mut learner = Learner::new(architecture.network(), moments, 0);
        for (part, values) in learner.parameters.parts_mut() {
            let stored = self.floats(&format!("init.{}", part.name));
            assert_eq!(stored.len(), values.len(), "{}", part.name);
            values
                .iter_mut()
                .zip(stored)
                .for_each(|(x, y)| *x = T::of(y));
        }
        learner
    }

    fn labels(&self, vocab: usize) -> (Vec<f64>, SparseRows<f64>) {
        let pointers = self.integers("labels.indptr");
        let (tokens, probs) = (self.integers("labels.tokens"), self.floats("labels.probs"));
        let mut laws = SparseRows::new(vocab);
        for range in pointers.windows(2).map(|w| w[0] as usize..w[1] as usize) {
            let row = tokens[range.clone()].iter().copied();
            laws.push_row(row.zip(probs[range].iter().copied()))
                .unwrap();
        }
        (self.floats("weights"), laws)
    }

    /// Gradients before the first step, and the losses of all of them, against PyTorch's.
    fn compare(&self, architecture: &Architecture, batches: &[Batch<'_>]) {
        let training = self.training();
        let mut learner = self.learner::<f32>(architecture);
        learner.differentiate(batches[0]);
        for (part, values) in learner.gradient().parts() {
            let init = self.floats(&format!("init.{}", part.name));
            let expected = self.floats(&format!("grad.{}", part.name));
            let largest = expected.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            for ((a, x), b) in values.iter().zip(init).zip(&expected) {
                let a = f64::from(*a) + training.ridge * x;
                assert!((a - b).abs() < 2e-5 * largest, "{}: {a} {b}", part.name);
            }
        }
        let expected = self.settings["losses"].as_array().unwrap();
        assert_eq!(expected.len(), 50);
        for (step, expected) in expected.iter().enumerate() {
            let loss = learner.step(batches[step % batches.len()], training.rule(step as u64));
            let loss = loss.cross_entropy + loss.penalty;
            let expected = expected.as_f64().unwrap();
            assert!(
                (loss - expected).abs() < 1e-4,
                "step {step}: {loss} against {expected}"
            );
        }
        let last = lawvere_core::sum(learner.cross_entropy(batches[batches.len() - 1]));
        let rule = Rule {
            size: StepSize {
                rate: 0.0,
                weight_decay: 0.0,
                step: 51,
            },
            ..training.rule(50)
        };
        let penalty = learner.step(batches[batches.len() - 1], rule).penalty;
        let expected = self.settings["final"].as_f64().unwrap();
        assert!(
            (last + penalty - expected).abs() < 1e-4,
            "{last} against {expected}"
        );
    }

    fn compare_on_text(&self, architecture: &Architecture, batch: usize, window: usize) {
        let all = self.integers("tokens");
        let steps: Vec<(Vec<u32>, Vec<u32>)> = all
            .chunks(batch * (window + 1))
            .map(|step| {
                let rows = || step.chunks(window + 1);
                (
                    rows().flat_map(|r| &r[..window]).copied().collect(),
                    rows().flat_map(|r| &r[1..]).copied().collect(),
                )
            })
            .collect();
        let windows = vec![window; batch];
        let batches: Vec<Batch<'_>> = steps
            .iter()
            .map(|(tokens, next)| Batch {
                input: Input {
                    tokens,
                    windows: &windows,
                },
                kept: None,
                targets: Targets::Tokens(next),
            })
            .collect();
        self.compare(architecture, &batches);
    }

    fn decoder(&self) -> Architecture {
        Architecture::Decoder(DecoderConfig {
            vocab_size: self.size("vocab_size"),
            hidden_size: self.size("hidden_size"),
            layers: self.size("num_hidden_layers"),
            heads: self.size("num_attention_heads"),
            kv_heads: self.size("num_key_value_heads"),
            head_dim: self.size("head_dim"),
            feed_forward_size: self.size("intermediate_size"),
            rope_theta: 10_000.0,
            norm_eps: 1e-5,
            context_length: self.size("max_position_embeddings"),
            tied_head: self.settings["sizes"]["tie_word_embeddings"]
                .as_bool()
                .unwrap(),
            bos: None,
            style: crate::config::DecoderStyle::default(),
        })
    }
}

#[test]
fn a_decoder_learns_as_in_pytorch() {
    let run = Run::open("decoder");
    run.compare_on_text(&run.decoder(), 4, 12);
}

#[test]
fn a_decoder_with_a_tied_head_learns_as_in_pytorch() {
    let run = Run::open("decoder-tied");
    run.compare_on_text(&run.decoder(), 4, 12);
}

#[test]
fn an_lstm_learns_as_in_pytorch() {
    let run = Run::open("lstm");
    let config = LstmConfig {
        vocab_size: 19,
        embedding_size: 10,
        hidden_size: 12,
        layers: 2,
    };
    run.compare_on_text(&Architecture::Lstm(config), 5, 10);
}

#[test]
fn a_multilayer_perceptron_learns_as_in_pytorch() {
    let run = Run::open("mlp");
    let config = MlpConfig {
        vocab_size: 21,
        order: 3,
        embedding_size: 6,
        hidden_sizes: vec![20, 14],
    };
    let (weights, laws) = run.labels(21);
    let kept: Vec<usize> = (0..30).map(|i| 3 * i + 2).collect();
    let batch = Batch {
        input: Input {
            tokens: &run.integers("contexts"),
            windows: &[3; 30],
        },
        kept: Some(&kept),
        targets: Targets::Laws {
            weights: &weights,
            laws: &laws,
        },
    };
    run.compare(&Architecture::Mlp(config), &[batch]);
}

#[test]
fn unconstrained_features_learn_as_in_pytorch() {
    for name in ["ufm", "ufm-adamw"] {
        let run = Run::open(name);
        let config = FeaturesConfig {
            vocab_size: 12,
            contexts: 20,
            dim: 8,
        };
        let (weights, laws) = run.labels(12);
        let batch = Batch {
            input: Input {
                tokens: &[],
                windows: &[],
            },
            kept: None,
            targets: Targets::Laws {
                weights: &weights,
                laws: &laws,
            },
        };
        run.compare(&Architecture::Features(config), &[batch]);
    }
}

fn training(optimizer: Optimizer) -> Training {
    Training {
        steps: 12,
        optimizer,
        learning_rate: 0.01,
        warmup: 3,
        final_rate: 0.1,
        weight_decay: 0.1,
        ridge: 0.0,
        clip: Some(1.0),
        seed: 5,
    }
}

fn tasks() -> [Task; 3] {
    [
        Task::Text {
            stream: (0..500u32).map(|i| (i * i / 3 + i) % 7).collect(),
            batch: 4,
            window: 9,
        },
        Task::Contexts {
            labels: labels(),
            batch: None,
        },
        Task::Contexts {
            labels: labels(),
            batch: Some(3),
        },
    ]
}

#[test]
fn a_run_taken_up_again_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    let momentum = Optimizer::Sgd { momentum: 0.9 };
    let mut runs: Vec<(Architecture, Task, Optimizer)> = Vec::new();
    for (_, architecture) in architectures() {
        for task in tasks() {
            runs.push((architecture.clone(), task, Optimizer::ADAMW));
        }
    }
    runs.push((features(), tasks()[1].clone(), momentum));
    runs.push((features(), tasks()[2].clone(), Optimizer::ADAMW));
    for (architecture, task, optimizer) in runs {
        let begin =
            || Trainer::new(architecture.clone(), training(optimizer), task.clone()).unwrap();
        let mut whole = begin();
        while whole.step().unwrap().is_some() {}
        let mut first = begin();
        for _ in 0..7 {
            first.step().unwrap();
        }
        first.save(&state).unwrap();
        let mut second = begin();
        assert!(second.restore(&state).unwrap());
        while second.step().unwrap().is_some() {}
        assert_eq!(whole.losses(), second.losses());
        assert_eq!(whole.learner_parameters(), second.learner_parameters());
        assert!(whole.losses()[11] < whole.losses()[0]);
        let other = Training {
            seed: 6,
            ..training(optimizer)
        };
        let mut other = Trainer::new(architecture, other, task).unwrap();
        assert!(!other.restore(&state).unwrap(), "another run's state");
    }
}

#[test]
fn what_is_learned_does_not_depend_on_the_number_of_threads() {
    let wide = DecoderConfig {
        hidden_size: 96,
        heads: 4,
        kv_heads: 2,
        head_dim: 24,
        feed_forward_size: 192,
        ..decoder(300, false)
    };
    let task = Task::Text {
        stream: (0..5000u32).map(|i| (i * i / 3 + i) % 300).collect(),
        batch: 8,
        window: 80,
    };
    let lstm = LstmConfig {
        vocab_size: 300,
        embedding_size: 96,
        hidden_size: 128,
        layers: 2,
    };
    let mlp = MlpConfig {
        vocab_size: 300,
        order: 4,
        embedding_size: 64,
        hidden_sizes: vec![200, 100],
    };
    let mut laws = SparseRows::new(300);
    for j in 0..700u32 {
        laws.push_row([(j % 150, 0.25), (150 + j % 149, 0.75)])
            .unwrap();
    }
    let soft = Task::Contexts {
        labels: SoftLabels {
            order: 0,
            tokens: Vec::new(),
            weights: vec![1.0 / 700.0; 700],
            laws,
        },
        batch: None,
    };
    let wide_features = FeaturesConfig {
        vocab_size: 300,
        contexts: 700,
        dim: 100,
    };
    let runs = [
        (Architecture::Decoder(wide), &task),
        (Architecture::Lstm(lstm), &task),
        (Architecture::Mlp(mlp), &task),
        (Architecture::Features(wide_features), &soft),
    ];
    for (architecture, task) in runs {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let settings = Training {
                    ridge: 1e-4,
                    ..training(Optimizer::ADAMW)
                };
                let mut trainer =
                    Trainer::new(architecture.clone(), settings, task.clone()).unwrap();
                for _ in 0..4 {
                    trainer.step().unwrap();
                }
                (
                    trainer.losses().to_vec(),
                    trainer.learner_parameters().clone(),
                )
            })
        };
        let one = on(1);
        assert!(one == on(2), "{architecture:?}");
        assert!(one == on(5), "{architecture:?}");
    }
}

#[test]
fn a_damaged_state_is_refused_and_the_run_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    let (_, architecture) = architectures().remove(0);
    let [task, ..] = tasks();
    let begin = || {
        Trainer::new(
            architecture.clone(),
            training(Optimizer::ADAMW),
            task.clone(),
        )
        .unwrap()
    };
    let mut trainer = begin();
    assert!(!trainer.restore(&state).unwrap(), "there is none");
    trainer.step().unwrap();
    trainer.save(&state).unwrap();
    let whole = std::fs::read(&state).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&state, &whole[..length]).unwrap();
        let mut fresh = begin();
        let error = fresh.restore(&state).unwrap_err().to_string();
        assert!(error.contains("state.safetensors"), "{error}");
        assert_eq!(fresh.learner_parameters(), begin().learner_parameters());
    }
}

#[test]
fn what_cannot_be_trained_is_refused_with_the_reason() {
    let [text, contexts, _] = tasks();
    let (_, decoder) = architectures().remove(0);
    let refuse = |architecture: &Architecture, training: Training, task: &Task, what: &str| {
        let error = Trainer::new(architecture.clone(), training, task.clone()).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    };
    let good = training(Optimizer::ADAMW);
    refuse(&features(), good, &text, "unconstrained features");
    refuse(
        &decoder,
        Training { steps: 0, ..good },
        &text,
        "at least one step",
    );
    let rate = Training {
        learning_rate: f64::NAN,
        ..good
    };
    refuse(&decoder, rate, &text, "learning rate");
    let Task::Contexts { labels, .. } = &contexts else {
        unreachable!()
    };
    let mut short = labels.clone();
    short.weights.pop();
    let short = Task::Contexts {
        labels: short,
        batch: None,
    };
    refuse(&decoder, good, &short, "fit together");
    let long = Task::Text {
        stream: vec![0; 500],
        batch: 1,
        window: 300,
    };
    refuse(&decoder, good, &long, "context");
    let huge = Architecture::Lstm(LstmConfig {
        vocab_size: 7,
        embedding_size: 1 << 23,
        hidden_size: 1 << 23,
        layers: 4000,
    });
    refuse(&huge, good, &text, "weights");
    let many = Task::Text {
        stream: vec![0; 500],
        batch: usize::MAX,
        window: 3,
    };
    refuse(&decoder, good, &many, "too many");
    let foreign = Task::Text {
        stream: vec![9; 50],
        batch: 1,
        window: 3,
    };
    refuse(&decoder, good, &foreign, "token 9");
}
