//! Flags of what is asked of a language model alone.

use std::io::Read;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use indicatif::HumanBytes;
use lawvere::lm::train::Architecture;
use lawvere::lm::{Finish, LanguageModel, Sampling};
use lawvere::model::{
    BenchOptions, BenchShape, Continuation, Continuations, GenerateOptions, ModelInfo, NamedToken,
    Passage, Question, StatesOptions, Stop, Tokenized, TokenizerInfo, bench, check_states_file,
    generate, open_model, open_tokenizer, read_document, score, tokenize, write_states,
};
use lawvere::observation::Layers;
use lawvere::{Event, RunError};
use serde_json::{Value, json};

use crate::args::{Global, ModelArgs, command_line, positive, pretty};
use crate::output::Screen;

#[derive(Subcommand)]
pub enum ModelCommand {
    Info(InfoArgs),
    Tokenize(TokenizeArgs),
    Score(ScoreArgs),
    States(StatesArgs),
    Generate(GenerateArgs),
    Bench(BenchArgs),
}

impl ModelCommand {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        match self {
            Self::Info(args) => args.run(global, screen),
            Self::Tokenize(args) => args.run(global, screen),
            Self::Score(args) => args.run(global, screen),
            Self::States(args) => args.run(global, screen),
            Self::Generate(args) => args.run(global, screen),
            Self::Bench(args) => args.run(global, screen),
        }
    }
}

fn open(model: &ModelArgs, screen: &mut Screen) -> Result<LanguageModel, RunError> {
    open_model(&model.source(), &mut |event| screen.show(event))
}

/// Tell what a checkpoint is: its shape, its weights, its tokenizer, its special tokens
#[derive(Args)]
pub struct InfoArgs {
    #[command(flatten)]
    checkpoint: ModelArgs,
}

impl InfoArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let info = ModelInfo::of(&open(&self.checkpoint, screen)?)?;
        if global.json {
            return Ok(pretty(&json!(info)));
        }
        let mut rows = vec![
            ("name", info.name.clone()),
            ("identity", info.identity.clone()),
        ];
        rows.extend(shape(&info.architecture));
        let storage = info.storage.iter();
        let storage: Vec<String> = storage.map(|(kind, n)| format!("{kind} ({n})")).collect();
        let named = |token: &NamedToken| match &token.token {
            Some(text) => format!("{} ({text})", token.id),
            None => token.id.to_string(),
        };
        let eos: Vec<String> = info.eos.iter().map(named).collect();
        let none = || "none".to_owned();
        rows.extend([
            ("parameters", info.parameters.to_string()),
            ("stored as", format!("{} tensors", storage.join(", "))),
            (
                "memory",
                format!(
                    "{} in {}",
                    HumanBytes(info.weight_bytes as u64),
                    info.precision
                ),
            ),
            (
                "reads at once",
                match info.context_length {
                    Some(length) => format!("{length} tokens"),
                    None => "any number of tokens".into(),
                },
            ),
            (
                "before every text",
                info.bos.as_ref().map_or_else(none, named),
            ),
            (
                "ends a text",
                Some(eos.join(", "))
                    .filter(|e| !e.is_empty())
                    .unwrap_or_else(none),
            ),
            (
                "ends a document",
                info.document_end
                    .map_or_else(none, |token| format!("{token}, an outcome of its laws")),
            ),
            (
                "chat template",
                if info.chat_template { "yes" } else { "no" }.into(),
            ),
        ]);
        match &info.tokenizer {
            None => rows.push(("tokenizer", none())),
            Some(tokenizer) => rows.extend([
                (
                    "tokenizer",
                    format!("{}, {} tokens", tokenizer.kind, tokenizer.vocab_size),
                ),
                ("tokenizer identity", tokenizer.identity.clone()),
            ]),
        }
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines = rows.iter().map(|(name, v)| format!("{name:width$}  {v}"));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }
}

/// A network's numbers, a line each.
fn shape(architecture: &Architecture) -> Vec<(&'static str, String)> {
    match architecture {
        Architecture::Decoder(c) => vec![
            ("architecture", "decoder".to_owned()),
            ("family", c.style.family.name().to_owned()),
            ("vocabulary", c.vocab_size.to_string()),
            ("hidden size", c.hidden_size.to_string()),
            ("layers", c.layers.to_string()),
            (
                "heads",
                format!(
                    "{} of {} dimensions, {} for keys and values",
                    c.heads, c.head_dim, c.kv_heads
                ),
            ),
            ("feed-forward size", c.feed_forward_size.to_string()),
            (
                "positions",
                match c.style.learned_positions {
                    true => "learned".to_owned(),
                    false => format!("rotary, base {}", c.rope_theta),
                },
            ),
            (
                "attention window",
                match c.style.windows.iter().flatten().next() {
                    Some(window) => format!(
                        "{window} tokens in {} layers",
                        c.style.windows.iter().flatten().count()
                    ),
                    None => "none".to_owned(),
                },
            ),
            ("norm epsilon", format!("{:e}", c.norm_eps)),
            (
                "head",
                if c.tied_head {
                    "the embedding matrix"
                } else {
                    "a matrix of its own"
                }
                .to_owned(),
            ),
        ],
        Architecture::Lstm(c) => vec![
            ("architecture", "LSTM".to_owned()),
            ("vocabulary", c.vocab_size.to_string()),
            ("embedding size", c.embedding_size.to_string()),
            ("hidden size", c.hidden_size.to_string()),
            ("layers", c.layers.to_string()),
        ],
        Architecture::Mlp(c) => vec![
            ("architecture", "multilayer perceptron".to_owned()),
            ("vocabulary", c.vocab_size.to_string()),
            ("reads the last", format!("{} tokens", c.order)),
            ("embedding size", c.embedding_size.to_string()),
            ("hidden sizes", format!("{:?}", c.hidden_sizes)),
        ],
        Architecture::Features(c) => vec![
            ("architecture", "unconstrained features".to_owned()),
            ("vocabulary", c.vocab_size.to_string()),
            ("contexts", c.contexts.to_string()),
            ("dimension", c.dim.to_string()),
        ],
    }
}

/// Show the tokens of texts, or of standard input
///
/// Nothing is added before or after; names of special tokens in a text are text. Only the tokenizer is
/// read, no weights.
#[derive(Args)]
#[command(group(ArgGroup::new("whose").required(true).args(["model", "tokenizer"])))]
pub struct TokenizeArgs {
    /// A checkpoint whose tokenizer is taken
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// A tokenizer alone: a tokenizer.json, a folder that holds one, a GGUF file
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// Texts, each tokenized on its own
    #[arg(value_name = "TEXT", conflicts_with = "file")]
    texts: Vec<String>,
    /// A file in UTF-8, tokenized as one text
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl TokenizeArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let path = self.model.as_ref().or(self.tokenizer.as_ref());
        let path = path.ok_or_else(|| {
            RunError::Usage("--model or --tokenizer says whose tokens are shown".into())
        })?;
        let tokenizer = open_tokenizer(path, &mut |event| screen.show(event))?;
        let passages = match (&self.file, self.texts.as_slice()) {
            (Some(file), _) => vec![Passage::file(file)?],
            (None, []) => vec![standard_input()?],
            (None, texts) => texts.iter().map(|t| Passage::argument("TEXT", t)).collect(),
        };
        let found = passages
            .iter()
            .map(|passage| tokenize(&tokenizer, passage))
            .collect::<Result<Vec<Tokenized>, _>>()?;
        if global.json {
            return Ok(pretty(&json!({
                "tokenizer": TokenizerInfo::of(&tokenizer)?,
                "texts": found,
            })));
        }
        let blocks = found.iter().map(|text| {
            let rows = text.ids.iter().zip(&text.tokens);
            let mut block: String = rows
                .map(|(id, token)| format!("{id:>8}  {token}\n"))
                .collect();
            block += &match text.count {
                1 => "1 token".to_owned(),
                count => format!("{count} tokens"),
            };
            if !text.round_trip {
                block += "; decoded, they are not the same text";
            }
            block
        });
        Ok(blocks.collect::<Vec<_>>().join("\n\n"))
    }
}

fn standard_input() -> Result<Passage, RunError> {
    let mut text = String::new();
    match std::io::stdin().read_to_string(&mut text) {
        Ok(_) => Ok(Passage::argument("standard input", text)),
        Err(source) => Err(RunError::Io {
            path: "standard input".into(),
            source,
        }),
    }
}

/// Score texts: log-probabilities in nats of continuations given prefixes, or of a document
///
/// A prefix and its continuation are tokenized each on its own and put together, so a continuation
/// usually begins with a space: --prefix "The capital of France is" --continuation " Paris".
/// Questions that share prefixes are read together, each distinct prefix once.
#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).args(["prefix", "questions", "file"])))]
pub struct ScoreArgs {
    #[command(flatten)]
    checkpoint: ModelArgs,
    /// The text that is given
    #[arg(long, value_name = "TEXT", requires = "continuation")]
    prefix: Option<String>,
    /// A text whose probability after the prefix is asked for; may be given several times
    #[arg(long, value_name = "TEXT", requires = "prefix", conflicts_with_all = ["questions", "file"])]
    continuation: Vec<String>,
    /// A file with a question a line: {"prefix": "...", "continuation": "..."}, where a list of token
    /// ids may stand for a text
    #[arg(long, value_name = "FILE")]
    questions: Option<PathBuf>,
    /// Read each question on its own, to see what sharing prefixes saves
    #[arg(long, conflicts_with = "file")]
    separately: bool,
    /// A document in UTF-8, read in windows
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// With --file: tokens of a window [default: 1024, or as far as the model reads]
    #[arg(long, value_name = "N", allow_negative_numbers = true, conflicts_with_all = ["prefix", "questions"])]
    window: Option<usize>,
    /// With --file: tokens that a window reads again from the one before, for context only [default:
    /// half a window]
    #[arg(long, value_name = "N", allow_negative_numbers = true, conflicts_with_all = ["prefix", "questions"])]
    overlap: Option<usize>,
    /// With --file and --json: the document's tokens and the log-probability of each
    #[arg(long, conflicts_with_all = ["prefix", "questions"])]
    tokens: bool,
}

impl ScoreArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        if let Some(file) = &self.file {
            if self.tokens && !global.json {
                return Err(RunError::Usage(
                    "--tokens: single tokens are told with --json only".into(),
                ));
            }
            let document = Passage::file(file)?;
            return self.read(&document, global, screen);
        }
        let questions = match (&self.questions, &self.prefix) {
            (Some(file), _) => Question::read(file)?,
            (None, prefix) => {
                let prefix = Passage::argument("--prefix", prefix.as_deref().unwrap_or_default());
                let continuations = self.continuation.iter().map(|text| Question {
                    prefix: prefix.clone(),
                    continuation: Passage::argument("--continuation", text),
                });
                continuations.collect()
            }
        };
        let model = open(&self.checkpoint, screen)?;
        let mut on_event = |event| screen.show(event);
        let answers = score(&model, &questions, self.separately, &mut on_event)?;
        if global.json {
            return Ok(pretty(&json!({
                "model": model.identity(),
                "provenance": provenance(global),
                "shared": !self.separately,
                "result": answers,
            })));
        }
        let mut lines: Vec<String> = answers
            .answers
            .iter()
            .map(|answer| {
                let tokens = answer.continuation.iter().zip(&answer.log_probs);
                let tokens = tokens.map(|(&id, x)| format!("{} {x:.4}", token(&model, id)));
                format!(
                    "{:.6}  {}",
                    answer.total,
                    tokens.collect::<Vec<_>>().join("  ")
                )
            })
            .collect();
        let how = match self.separately {
            true => "each question on its own".to_owned(),
            false => format!(
                "{} if each question were read on its own (a factor of {:.2})",
                answers.separately, answers.sharing_factor
            ),
        };
        lines.push(format!(
            "{} tokens forwarded, {how}; {}",
            answers.forwarded,
            pace(answers.seconds, answers.tokens_per_second)
        ));
        Ok(lines.join("\n"))
    }

    fn read(
        &self,
        document: &Passage,
        global: &Global,
        screen: &mut Screen,
    ) -> Result<String, RunError> {
        let model = open(&self.checkpoint, screen)?;
        let mut on_event = |event| screen.show(event);
        let found = read_document(&model, document, self.window, self.overlap, &mut on_event)?;
        let reading = &found.reading;
        if !global.json {
            return Ok(format!(
                "cross-entropy {:.6} nats a token, perplexity {:.4}; {} of {} tokens scored in {} windows of {} that overlap by {}\n{} tokens forwarded; {}",
                reading.cross_entropy,
                reading.perplexity,
                reading.scored,
                found.tokens.len(),
                found.count,
                found.windows.length,
                found.windows.overlap,
                reading.forwarded,
                pace(found.seconds, found.tokens_per_second)
            ));
        }
        let mut result = json!({
            "model": model.identity(),
            "provenance": provenance(global),
            "cross_entropy": reading.cross_entropy,
            "perplexity": reading.perplexity,
            "tokens": found.tokens.len(),
            "scored": reading.scored,
            "windows": found.count,
            "window": found.windows.length,
            "overlap": found.windows.overlap,
            "forwarded": reading.forwarded,
            "seconds": found.seconds,
            "tokens_per_second": found.tokens_per_second,
        });
        if self.tokens {
            result["ids"] = json!(found.tokens);
            result["log_probs"] = json!(reading.tokens);
        }
        Ok(pretty(&result))
    }
}

/// What made a result.
fn provenance(global: &Global) -> Value {
    json!({
        "tool_version": env!("CARGO_PKG_VERSION"),
        "command": command_line(),
        "seed": global.seed,
        "threads": rayon::current_num_threads(),
    })
}

fn token(model: &LanguageModel, id: u32) -> String {
    let token = model.tokenizer().and_then(|t| t.token(id));
    token.unwrap_or_else(|| id.to_string())
}

fn pace(seconds: f64, tokens_per_second: f64) -> String {
    format!("{seconds:.3} s, {tokens_per_second:.0} tokens/s")
}

/// Write the hidden states of a text, and attention maps if asked for, into one safetensors file
///
/// The file holds `tokens` (T ids; a beginning-of-text token, where the model puts one, is the first),
/// `states.LAYER` (T x d) for each layer and `attention.LAYER` (heads x T x T).
#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).args(["text", "file"])))]
pub struct StatesArgs {
    #[command(flatten)]
    checkpoint: ModelArgs,
    /// The text
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// The file that holds the text, in UTF-8
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Layers whose states are written: spread (seven), all, last, or a list like 0,15,30
    #[arg(long, default_value = "spread")]
    layers: Layers,
    /// Layers whose attention is written, counted from 1: spread, all, last, or a list
    #[arg(long, value_name = "LAYERS")]
    attention: Option<Layers>,
    /// The file to write; states of another run there are replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl StatesArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        check_states_file(&self.out)?;
        let text = match (&self.file, &self.text) {
            (Some(file), _) => Passage::file(file)?,
            (None, text) => Passage::argument("--text", text.as_deref().unwrap_or_default()),
        };
        let model = open(&self.checkpoint, screen)?;
        let options = StatesOptions {
            layers: self.layers.clone(),
            attention: self.attention.clone(),
            command: command_line(),
        };
        let mut on_event = |event| screen.show(event);
        let written = write_states(&model, &text, &options, &self.out, &mut on_event)?;
        if global.json {
            return Ok(pretty(&json!(written)));
        }
        let list = |layers: &[usize]| {
            let layers: Vec<String> = layers.iter().map(usize::to_string).collect();
            layers.join(", ")
        };
        let mut told = format!(
            "{}: {} tokens, {} dimensions; states of layers {}",
            self.out.display(),
            written.tokens,
            written.hidden_size,
            list(&written.layers)
        );
        if !written.attention.is_empty() {
            told += &format!("; attention of layers {}", list(&written.attention));
        }
        Ok(told)
    }
}

/// Generate texts: go on from prompts by drawing tokens
#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).args(["prompt", "prompts"])))]
pub struct GenerateArgs {
    #[command(flatten)]
    checkpoint: ModelArgs,
    /// A text to go on from; may be given several times
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// A file in UTF-8 with a prompt a line; blank lines are left out
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Texts for each prompt
    #[arg(long, default_value_t = 1, value_parser = positive, allow_negative_numbers = true)]
    samples: usize,
    /// The most tokens of a text
    #[arg(long, default_value_t = 64, value_parser = positive, allow_negative_numbers = true)]
    tokens: usize,
    /// Laws are raised to the power 1 / temperature; 0 takes the likeliest token
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Draw from that many of the likeliest tokens
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    top_k: Option<usize>,
    /// Draw from the fewest likeliest tokens that have this probability together
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// A token that ends a text, as text or by its name in the vocabulary; may be given several times
    /// [default: the model's own]
    #[arg(long, value_name = "TEXT", conflicts_with = "no_stop")]
    stop: Vec<String>,
    /// Go on after tokens that end a text
    #[arg(long)]
    no_stop: bool,
}

impl GenerateArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let sampling = self.sampling()?;
        let prompts = match &self.prompts {
            Some(file) => Passage::lines(file)?,
            None => self
                .prompt
                .iter()
                .map(|text| Passage::argument("--prompt", text))
                .collect(),
        };
        let options = GenerateOptions {
            sampling,
            samples: self.samples,
            most: self.tokens,
            stop: match (self.no_stop, self.stop.is_empty()) {
                (true, _) => Stop::Never,
                (false, true) => Stop::Own,
                (false, false) => Stop::At(self.stop.clone()),
            },
            seed: global.seed,
        };
        let model = open(&self.checkpoint, screen)?;
        let mut on_event = |event: Event| screen.show(event);
        let found = generate(&model, &prompts, &options, &mut on_event)?;
        Ok(match global.json {
            true => json_of(&model, &prompts, &options, &found, global),
            false => shown(&prompts, &found.texts),
        })
    }

    fn sampling(&self) -> Result<Sampling, RunError> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
        };
        sampling.check()?;
        let without_effect = [
            ("--top-k", self.top_k.is_some()),
            ("--top-p", self.top_p.is_some()),
            ("--samples", self.samples > 1),
        ];
        match without_effect.iter().find(|(_, given)| *given) {
            Some((flag, _)) if self.temperature == 0.0 => Err(RunError::Usage(format!(
                "{flag} has no effect at --temperature 0, where only the likeliest token is taken"
            ))),
            _ => Ok(sampling),
        }
    }
}

fn json_of(
    model: &LanguageModel,
    prompts: &[Passage],
    options: &GenerateOptions,
    found: &Continuations,
    global: &Global,
) -> String {
    let texts: Vec<Value> = found
        .texts
        .iter()
        .map(|text| {
            let mut value = json!(text);
            value["prompt_text"] = json!(prompts[text.prompt].text());
            value
        })
        .collect();
    pretty(&json!({
        "model": model.identity(),
        "provenance": provenance(global),
        "sampling": options.sampling,
        "samples": options.samples,
        "most": options.most,
        "texts": texts,
        "generated": found.generated,
        "seconds": found.seconds,
        "tokens_per_second": found.tokens_per_second,
    }))
}

/// Prompts and what follows; of several texts each under a line that tells which it is.
fn shown(prompts: &[Passage], texts: &[Continuation]) -> String {
    let blocks = texts.iter().map(|text| {
        let prompt = prompts[text.prompt].text().unwrap_or_default();
        let whole = format!("{prompt}{}", text.text.as_deref().unwrap_or_default());
        if texts.len() == 1 {
            return whole;
        }
        let end = match text.finish {
            Finish::Stop => "ended",
            Finish::Length => "cut",
            Finish::Window => "as far as the model reads",
        };
        format!(
            "--- prompt {}, text {}: {} tokens, {end}\n{whole}",
            text.prompt + 1,
            text.sample + 1,
            text.tokens.len()
        )
    });
    blocks.collect::<Vec<_>>().join("\n")
}

/// Time the model on this machine, beside what the machine's matrix product reaches
///
/// For each shape: the states of every token, states and every logit, and the log-probabilities of the
/// tokens themselves; medians after a round that is not counted.
#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    checkpoint: ModelArgs,
    /// Sequences x tokens, separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1x256,1x1024,16x64",
        value_name = "SHAPES"
    )]
    shapes: Vec<BenchShape>,
    /// How often each is timed
    #[arg(long, default_value_t = 5, value_parser = positive)]
    repeats: usize,
}

impl BenchArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let options = BenchOptions {
            model: self.checkpoint.source(),
            shapes: self.shapes.clone(),
            repeats: self.repeats,
        };
        let report = bench(&options, &mut |event| screen.show(event))?;
        if global.json {
            let mut value = json!(report);
            value["provenance"] = provenance(global);
            return Ok(pretty(&value));
        }
        let mut lines = vec![format!(
            "{:9} {:7} {:>9} {:>9} {:>9} {:>8}",
            "shape", "what", "seconds", "tokens/s", "GFLOP/s", "of peak"
        )];
        for shape in &report.shapes {
            for (what, times) in [
                ("states", &shape.states),
                ("logits", &shape.logits),
                ("score", &shape.score),
            ] {
                lines.push(format!(
                    "{:9} {what:7} {:9.3} {:9.0} {:9.0} {:7.0}%",
                    shape.shape,
                    times.median,
                    times.tokens_per_second,
                    times.gflops,
                    100.0 * times.fraction_of_peak
                ));
            }
        }
        let memory = report
            .peak_memory
            .map(|bytes| format!("peak memory {}", HumanBytes(bytes)));
        let products = report.products.iter().map(|product| {
            let used = if product.used { " (used)" } else { "" };
            format!(
                "{} {:.0}{used} of {:.0}",
                product.precision, product.gflops, product.limit_gflops
            )
        });
        lines.push(format!(
            "matrix products at their best, of what their instructions do in registers, GFLOP/s on {} threads: {}",
            report.threads,
            products.collect::<Vec<_>>().join(", ")
        ));
        if let Some(steps) = &report.steps {
            lines.push(format!(
                "one text, token by token: {:.1} tokens/s; its weights at {:.1} of the {:.1} GB/s that memory is read at ({:.0}%)",
                steps.tokens_per_second,
                steps.gigabytes_per_second,
                steps.limit_gigabytes_per_second,
                100.0 * steps.fraction_of_limit
            ));
        }
        lines.extend(memory);
        Ok(lines.join("\n"))
    }
}
