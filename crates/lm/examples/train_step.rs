//! Times training steps, for `benchmarks/train_step.sh`: milliseconds a step as JSON.
//!
//! `cargo run --release --workspace --example train_step -- [ufm|decoder] [steps] [blocks]`

use std::time::Instant;

use lawvere_core::SparseRows;
use lawvere_lm::DecoderConfig;
use lawvere_lm::train::{
    Architecture, FeaturesConfig, Optimizer, SoftLabels, Task, Trainer, Training,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let what = arguments.first().map_or("ufm", String::as_str);
    let given = |i: usize| arguments.get(i).filter(|a| !a.is_empty());
    let number = |i: usize, default: u64| given(i).map_or(Ok(default), |a| a.parse());
    let threads = std::thread::available_parallelism()?.get().min(2);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    let plain = Optimizer::Sgd { momentum: 0.0 };
    let (steps, blocks) = (
        number(1, if what == "ufm" { 500 } else { 10 })?,
        number(2, 7)?,
    );
    for (name, optimizer) in [("gd", plain), ("adamw", Optimizer::ADAMW)] {
        if what == "decoder" && name == "gd" {
            continue;
        }
        let mut trainer = if what == "ufm" {
            features(optimizer)?
        } else {
            decoder(optimizer)?
        };
        for _ in 0..steps.div_ceil(5) {
            trainer.step()?;
        }
        let mut times = Vec::new();
        for _ in 0..blocks {
            let start = Instant::now();
            for _ in 0..steps {
                trainer.step()?;
            }
            times.push(start.elapsed().as_secs_f64() * 1e3 / steps as f64);
        }
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        println!(
            "{{\"job\": \"{what}\", \"optimizer\": \"{name}\", \"threads\": {threads}, \"median_ms\": {median:.4}, \"mean_ms\": {mean:.4}, \"least_ms\": {:.4}, \"loss\": {:.4}}}",
            times[0],
            trainer.losses().last().copied().unwrap_or(f64::NAN)
        );
    }
    Ok(())
}

fn training(optimizer: Optimizer, learning_rate: f64) -> Training {
    Training {
        steps: u64::MAX,
        optimizer,
        learning_rate,
        warmup: 0,
        final_rate: 1.0,
        weight_decay: 0.0,
        ridge: 0.0,
        clip: None,
        seed: 0,
    }
}

/// Unconstrained features of the size of the published run: (V, m, d) = (104, 403, 128).
fn features(optimizer: Optimizer) -> Result<Trainer, Box<dyn std::error::Error>> {
    let (vocab, contexts, dim) = (104u32, 403usize, 128);
    let mut laws = SparseRows::new(vocab as usize);
    for j in 0..contexts as u32 {
        let mut support: Vec<u32> = (0..5).map(|k| (j * 17 + k * k * 13 + k) % vocab).collect();
        support.sort_unstable();
        support.dedup();
        let p = 1.0 / support.len() as f64;
        laws.push_row(support.into_iter().map(|z| (z, p)))?;
    }
    let labels = SoftLabels {
        order: 0,
        tokens: Vec::new(),
        weights: vec![1.0 / contexts as f64; contexts],
        laws,
    };
    let architecture = Architecture::Features(FeaturesConfig {
        vocab_size: vocab as usize,
        contexts,
        dim,
    });
    let task = Task::Contexts {
        labels,
        batch: None,
    };
    let settings = Training {
        ridge: 1e-5,
        ..training(optimizer, 0.01)
    };
    Ok(Trainer::new(architecture, settings, task)?)
}

/// A small decoder: 3 blocks of width 96 over 401 tokens, 32 windows of 64 tokens a step.
fn decoder(optimizer: Optimizer) -> Result<Trainer, Box<dyn std::error::Error>> {
    let architecture = Architecture::Decoder(DecoderConfig {
        vocab_size: 401,
        hidden_size: 96,
        layers: 3,
        heads: 4,
        kv_heads: 4,
        head_dim: 24,
        feed_forward_size: 256,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        context_length: 64,
        tied_head: false,
        bos: None,
        style: lawvere_lm::DecoderStyle::default(),
    });
    let task = Task::Text {
        stream: (0..100_000u32)
            .map(|i| (i / 7 + i % 1000 * (i % 1000) % 311) % 401)
            .collect(),
        batch: 32,
        window: 64,
    };
    let settings = Training {
        clip: Some(1.0),
        weight_decay: 0.1,
        ..training(optimizer, 1e-3)
    };
    Ok(Trainer::new(architecture, settings, task)?)
}
