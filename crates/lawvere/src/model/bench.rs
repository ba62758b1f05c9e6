//! How fast a model is on this machine, and how near to what the machine can do.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use lawvere_core::{
    Bf16Kernel, ContextBatch, Factored, NextToken, ShapeError, instruction_rate, read_rate,
};
use lawvere_lm::train::Architecture;
use lawvere_lm::{Device, Generation, LanguageModel, Precision, Sampling};
use serde::Serialize;

use crate::cost::{available_memory, product_rate};
use crate::model::{ModelSource, open_model};
use crate::{Event, RunError, peak_memory};

/// What to time.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// The checkpoint.
    pub model: ModelSource,
    /// Sequences, and the tokens of each.
    pub shapes: Vec<BenchShape>,
    /// How often each shape is timed, after a round that is not; 1 at least.
    pub repeats: usize,
}

/// Sequences x tokens, written `1x256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct BenchShape {
    pub batch: usize,
    pub tokens: usize,
}

impl FromStr for BenchShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes = text.split_once('x');
        let sizes = sizes.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match sizes {
            Some((batch, tokens)) if batch > 0 && tokens > 1 && batch < 1 << 20 => {
                Ok(Self { batch, tokens })
            }
            _ => Err(format!(
                "`{text}` is not a shape: sequences x tokens, with 2 tokens at least, such as 1x256"
            )),
        }
    }
}

impl fmt::Display for BenchShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.batch, self.tokens)
    }
}

/// Times of one kind of work.
#[derive(Debug, Clone, Serialize)]
pub struct BenchTimes {
    /// Seconds of each repeat.
    pub seconds: Vec<f64>,
    /// Their median.
    pub median: f64,
    /// Tokens a second, by the median.
    pub tokens_per_second: f64,
    /// Floating-point operations a second, in 10^9, those of the attention counted where a token sees
    /// another.
    pub gflops: f64,
    /// That over [`BenchReport::peak_gflops`].
    pub fraction_of_peak: f64,
}

/// The speed of one way to multiply matrices.
#[derive(Debug, Clone, Serialize)]
pub struct BenchProduct {
    /// What it is computed in, and how.
    pub precision: Precision,
    /// Whether this model is computed so.
    pub used: bool,
    /// In 10^9 operations a second: the best of half a second of products of 1024 x 1536 x 3072.
    pub gflops: f64,
    /// What the same instructions do with everything in registers, in 10^9 operations a second.
    pub limit_gflops: f64,
    /// The one over the other.
    pub fraction_of_limit: f64,
}

/// Texts that go on by one token after the other, which is bound by memory: every token takes all weights.
#[derive(Debug, Clone, Serialize)]
pub struct BenchSteps {
    /// Tokens of a text.
    pub tokens: usize,
    /// Seconds of each repeat.
    pub seconds: Vec<f64>,
    /// Their median.
    pub median: f64,
    /// Tokens a second, by the median.
    pub tokens_per_second: f64,
    /// Bytes of weights that a token takes, the head's with them.
    pub bytes_per_token: u64,
    /// 10^9 bytes of weights a second.
    pub gigabytes_per_second: f64,
    /// 10^9 bytes a second at which as many bytes of memory, 2^30 at most, are read straight through.
    pub limit_gigabytes_per_second: f64,
    /// The one over the other.
    pub fraction_of_limit: f64,
}

/// What was measured at one shape.
#[derive(Debug, Clone, Serialize)]
pub struct BenchResult {
    /// As it was asked for, `1x256`.
    pub shape: String,
    /// The number of sequences.
    pub batch: usize,
    /// Tokens of each.
    pub tokens: usize,
    /// The states of every token.
    pub states: BenchTimes,
    /// States and every logit.
    pub logits: BenchTimes,
    /// The log-probability of each next token, which takes every logit.
    pub score: BenchTimes,
}

/// Times of a model.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// The checkpoint.
    pub model: PathBuf,
    /// The SHA-256 of its file, or of its files' hashes.
    pub identity: String,
    /// What products were computed in.
    pub precision: Precision,
    /// And where.
    pub device: Device,
    /// Threads that were computed on.
    pub threads: usize,
    /// What matrix products reach here, in float32 and in bfloat16 by every way that the machine has.
    pub products: Vec<BenchProduct>,
    /// That of the product which this model is computed by.
    pub peak_gflops: f64,
    /// One a shape.
    pub shapes: Vec<BenchResult>,
    /// One text, token by token; of decoders on the processor only.
    pub steps: Option<BenchSteps>,
    /// The process's largest memory up to the last shape, in bytes.
    pub peak_memory: Option<u64>,
}

/// Tokens of the text that is made token by token.
const STEPS: usize = 32;
/// Memory read to know its speed, at most.
const MOST_READ: u64 = 1 << 30;

/// Times a model on arbitrary tokens: states, all logits, scores of the next tokens, and a text made token by token.
///
/// # Errors
/// A checkpoint that does not load, a shape without tokens or longer than the model reads.
pub fn bench(
    options: &BenchOptions,
    on_event: &mut dyn FnMut(Event),
) -> Result<BenchReport, RunError> {
    let model = open_model(&options.model, on_event)?;
    let bos = usize::from(model.bos().is_some());
    let limit = model.context_length() - bos;
    if let Some(shape) = options.shapes.iter().find(|s| s.tokens > limit) {
        return Err(RunError::Usage(format!(
            "--shapes {shape}: this model reads {limit} tokens at once"
        )));
    }
    let vocab = model.head().vocab_size();
    let room = available_memory().unwrap_or(1 << 34);
    for shape in &options.shapes {
        if shape.batch > vocab {
            return Err(RunError::Usage(format!(
                "--shapes {shape}: at most {vocab} sequences begin with different tokens here, and others would share their beginning"
            )));
        }
        let each = (16 + 8 * model.hidden_size()) as u64;
        let needed = (shape.batch as u64)
            .saturating_mul(shape.tokens as u64)
            .saturating_mul(each);
        if needed > room {
            return Err(RunError::Usage(format!(
                "--shapes {shape}: its tokens and states take {needed} bytes, and {room} can be had"
            )));
        }
    }
    on_event(Event::Part("timing the matrix product".into()));
    let kernels = Bf16Kernel::available().into_iter();
    let products: Vec<BenchProduct> = [Precision::F32]
        .into_iter()
        .chain(kernels.map(Precision::Bf16))
        .map(|precision| {
            let format = precision.format();
            let gflops = product_rate((1024, 1536, 3072), format, 0.5).1 / 1e9;
            let limit_gflops = instruction_rate(format, 0.3) / 1e9;
            BenchProduct {
                precision,
                used: precision == model.precision(),
                gflops,
                limit_gflops,
                fraction_of_limit: gflops / limit_gflops,
            }
        })
        .collect();
    let used = products.iter().find(|product| product.used);
    let peak_gflops = used.map_or(f64::NAN, |product| product.gflops);
    let mut shapes = Vec::new();
    for &shape in &options.shapes {
        on_event(Event::Part(format!("timing {shape}")));
        shapes.push(time_shape(&model, shape, options, peak_gflops)?);
    }
    // Memory that is read to know its speed is none of the model's.
    let peak_memory = peak_memory();
    let steps = time_steps(&model, options, on_event)?;
    Ok(BenchReport {
        model: options.model.path.clone(),
        precision: options.model.precision,
        device: options.model.device,
        identity: model.identity().to_owned(),
        threads: rayon::current_num_threads(),
        products,
        peak_gflops,
        shapes,
        steps,
        peak_memory,
    })
}

fn time_steps(
    model: &LanguageModel,
    options: &BenchOptions,
    on_event: &mut dyn FnMut(Event),
) -> Result<Option<BenchSteps>, RunError> {
    if !matches!(model.architecture(), Architecture::Decoder(_))
        || options.model.device != Device::Cpu
    {
        return Ok(None);
    }
    on_event(Event::Part("timing a text, token by token".into()));
    let weights = model.multiply_adds_per_token() + model.vocab_size() * model.hidden_size();
    let bytes_per_token = (weights * model.precision().format().bytes()) as u64;
    let read = bytes_per_token
        .min(MOST_READ)
        .min(available_memory().unwrap_or(MOST_READ) / 2);
    let limit = read_rate(read as usize, 0.5) / 1e9;
    let bos = usize::from(model.bos().is_some());
    let tokens = STEPS.min(model.context_length() - bos - 1);
    let generation = Generation {
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        samples: 1,
        most: tokens,
        stop: Vec::new(),
        seed: 0,
    };
    let (seconds, median) = timed(options.repeats, || {
        model.generate(&[&[0]], &generation)?;
        Ok(())
    })?;
    let tokens_per_second = tokens as f64 / median;
    let gigabytes_per_second = tokens_per_second * bytes_per_token as f64 / 1e9;
    Ok(Some(BenchSteps {
        tokens,
        seconds,
        median,
        tokens_per_second,
        bytes_per_token,
        gigabytes_per_second,
        limit_gigabytes_per_second: limit,
        fraction_of_limit: gigabytes_per_second / limit,
    }))
}

/// Seconds of each of `repeats` runs, after one that is not timed, and their median.
fn timed(
    repeats: usize,
    mut run: impl FnMut() -> Result<(), RunError>,
) -> Result<(Vec<f64>, f64), RunError> {
    run()?;
    let mut seconds = Vec::new();
    for _ in 0..repeats.max(1) {
        let start = Instant::now();
        run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let mut sorted = seconds.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
    Ok((seconds, median))
}

fn time_shape(
    model: &LanguageModel,
    shape: BenchShape,
    options: &BenchOptions,
    peak_gflops: f64,
) -> Result<BenchResult, RunError> {
    let BenchShape { batch, tokens } = shape;
    let vocab = model.head().vocab_size();
    // Any tokens do; sequences begin with different ones, so that nothing is shared.
    let sequences: Vec<Vec<u32>> = (0..batch)
        .map(|i| {
            (0..tokens)
                .map(|t| ((i + t * 7919) % vocab) as u32)
                .collect()
        })
        .collect();
    let mut contexts = ContextBatch::new();
    let positions: Vec<u32> = (1..=tokens as u32).collect();
    for sequence in &sequences {
        contexts.push(sequence, &positions)?;
    }
    let questions: Vec<(&[u32], &[u32])> = sequences.iter().map(|s| s.split_at(1)).collect();
    let count = (batch * tokens) as f64;
    let body = 2.0 * model.multiply_adds_per_token() as f64
        + model.attention_multiply_adds(tokens) as f64 * 2.0;
    let head = 2.0 * (vocab * model.head().dim()) as f64;
    let times = |operations: f64, tokens: f64, run: &mut dyn FnMut() -> Result<(), RunError>| {
        let (seconds, median) = timed(options.repeats, run)?;
        let gflops = operations * tokens / median / 1e9;
        Ok::<_, RunError>(BenchTimes {
            seconds,
            median,
            tokens_per_second: tokens / median,
            gflops,
            fraction_of_peak: gflops / peak_gflops,
        })
    };
    let last = [model.last_layer()];
    let states = times(body, count, &mut || {
        model.encode(&contexts, &last)?;
        Ok(())
    })?;
    let logits = times(body + head, count, &mut || {
        let states = model.encode(&contexts, &last)?.remove(0);
        let mut seen = 0;
        model
            .head()
            .for_each_logit_block::<ShapeError>(&states, |_, logits| {
                seen += logits.nrows();
                Ok(())
            })?;
        debug_assert_eq!(seen, states.nrows());
        Ok(())
    })?;
    let scored = count - batch as f64;
    let score = times(body + head, scored, &mut || {
        model.score(&questions)?;
        Ok(())
    })?;
    Ok(BenchResult {
        shape: shape.to_string(),
        batch,
        tokens,
        states,
        logits,
        score,
    })
}
