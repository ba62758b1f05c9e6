//! Flags and what they mean; every command becomes one call of the library.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lawvere::lm::{Device, Precision};
use lawvere::model::ModelSource;
use lawvere::observation::{ContextPlan, Layers, Observation, PositionPlan};
use lawvere::text::{CorpusOptions, DocumentEnd, DocumentUnit, Format};
use lawvere::{ObserveOptions, ReportOptions, RowChoice, RunError, Subject};
use serde::Serialize;
use serde_json::{Value, json};

use crate::geometry::GeometryCommand;
use crate::index::IndexCommand;
use crate::information::InformationCommand;
use crate::metric::MetricCommand;
use crate::model::ModelCommand;
use crate::output::Screen;
use crate::train::{StoriesArgs, StoryArgs, TrainArgs};

/// Measures the geometry of next-token prediction, for any corpus and any language model.
#[derive(Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: Global,
}

/// Flags of every command.
#[derive(Args)]
pub struct Global {
    /// Print the result as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// What random choices start from; the same seed gives the same results
    #[arg(long, global = true, default_value_t = 0)]
    pub seed: u64,
    /// Threads to compute on; 0 takes all cores. Results do not depend on it
    #[arg(long, global = true, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=512))]
    pub threads: u16,
    /// Say nothing on standard error but errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Index a corpus, and ask the index: counts, what follows, distances, contexts, samples
    #[command(subcommand)]
    Index(Box<IndexCommand>),
    Observe(ObserveArgs),
    Train(Box<TrainArgs>),
    Stories(StoriesArgs),
    Report(Box<ReportArgs>),
    /// Ask a language model alone: what it is, how it tokenizes, scores, represents and goes on
    #[command(subcommand)]
    Model(Box<ModelCommand>),
    /// The directed metric space of texts: distances, embeddings, projections, rays, completions
    #[command(subcommand)]
    Metric(Box<MetricCommand>),
    /// The implicit geometry of next-token prediction: what supports predict, solved and measured
    #[command(subcommand)]
    Geometry(Box<GeometryCommand>),
    /// The Markov-categorical account of a model: what its states know, how its head spreads, which
    /// directions matter, and what drafting ahead would gain
    #[command(subcommand)]
    Information(Box<InformationCommand>),
}

/// A document is a line, or a whole file.
#[derive(Clone, Copy, ValueEnum)]
enum Documents {
    Line,
    File,
}

/// How a corpus is read.
#[derive(Args)]
pub struct CorpusArgs {
    /// What a document of plain text is; counts never cross its ends
    #[arg(long, value_enum, default_value = "line")]
    documents: Documents,
    /// What the files are, whatever their names say: text, jsonl, csv, tsv, parquet, or token ids as u16, u32 or
    /// safetensors
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// The field of JSON Lines, the column, or the tensor that holds the documents [default: text]
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Replace bytes that are not UTF-8 by U+FFFD rather than refuse them
    #[arg(long)]
    lossy: bool,
    /// The most bytes of a document or a line; it bounds the memory that reading takes
    #[arg(long, value_name = "BYTES", default_value_t = CorpusOptions::LONGEST_DOCUMENT,
        value_parser = positive)]
    longest_document: usize,
    /// In files of token ids, the one that ends a document; without it a file is one document
    #[arg(long, value_name = "ID")]
    end_token: Option<u32>,
}

impl CorpusArgs {
    /// Refuses what says how a corpus is read where none is given.
    pub fn without_corpus(&self) -> Result<(), RunError> {
        let changed = [
            ("--documents", !matches!(self.documents, Documents::Line)),
            ("--format", self.format.is_some()),
            ("--field", self.field.is_some()),
            ("--lossy", self.lossy),
            (
                "--longest-document",
                self.longest_document != CorpusOptions::LONGEST_DOCUMENT,
            ),
            ("--end-token", self.end_token.is_some()),
        ];
        match changed.iter().find(|(_, changed)| *changed) {
            None => Ok(()),
            Some((flag, _)) => Err(RunError::Usage(format!(
                "{flag} says how a --corpus is read, and none is given"
            ))),
        }
    }

    pub fn options(&self, corpus: &[PathBuf]) -> CorpusOptions {
        CorpusOptions {
            paths: corpus.to_vec(),
            format: self.format,
            field: self.field.clone(),
            documents: match self.documents {
                Documents::Line => DocumentUnit::Line,
                Documents::File => DocumentUnit::File,
            },
            lossy: self.lossy,
            longest_document: self.longest_document,
            end_token: self.end_token,
        }
    }
}

/// Which rows an observation has.
#[derive(Clone, Copy, ValueEnum)]
enum KindArg {
    /// Distinct contexts of one order with their soft labels; the model reads exactly those tokens
    Contexts,
    /// Positions in running text with their whole prefix, and the token that followed
    Positions,
}

/// What the end of a document is.
#[derive(Clone, Copy, ValueEnum)]
pub enum DocumentEndArg {
    /// An outcome like any token (with a model only if it was trained with it)
    Outcome,
    /// Left out of the counts
    Dropped,
}

impl From<DocumentEndArg> for DocumentEnd {
    fn from(end: DocumentEndArg) -> Self {
        match end {
            DocumentEndArg::Outcome => Self::Outcome,
            DocumentEndArg::Dropped => Self::Dropped,
        }
    }
}

/// The model that is asked.
#[derive(Args)]
pub struct ModelArgs {
    /// A GGUF checkpoint, a checkpoint folder (Hugging Face, or made by `lawvere train`), or hf:ORG/NAME[@REVISION]
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    #[command(flatten)]
    compute: ComputeArgs,
}

impl ModelArgs {
    pub fn source(&self) -> ModelSource {
        self.compute.of(&self.model)
    }
}

/// How a model's products are computed.
#[derive(Args)]
pub struct ComputeArgs {
    /// What products with the model's weights are computed in: f32, or bf16 for half the memory (bf16-float32, bf16-avx512 or
    /// bf16-amx for one way to do it)
    #[arg(
        long,
        default_value = "f32",
        value_name = "PRECISION",
        requires = "model"
    )]
    precision: Precision,
    /// Where they are computed, but for those with the head: cpu; cuda, cuda:NUMBER or metal where the program was built so
    #[arg(long, default_value = "cpu", value_name = "DEVICE", requires = "model")]
    device: Device,
}

impl ComputeArgs {
    pub fn of(&self, model: &Path) -> ModelSource {
        ModelSource {
            path: model.to_owned(),
            precision: self.precision,
            device: self.device,
        }
    }
}

/// Put contexts, counts, hidden states and head into one folder that every lens reads.
#[derive(Args)]
pub struct ObserveArgs {
    /// The folder of an index
    #[arg(long, value_name = "FOLDER")]
    index: PathBuf,
    /// A GGUF checkpoint or a Hugging Face checkpoint folder; without one only the corpus is observed
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Draw all weights of the model anew (with --seed), as before training: the control against which
    /// `geometry compare` sees what training made
    #[arg(long, requires = "model", conflicts_with_all = ["precision", "device"])]
    untrained: bool,
    /// The folder to make; an interrupted run is taken up again from its finished parts
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// What the rows are
    #[arg(long, value_enum, default_value = "contexts")]
    kind: KindArg,
    /// Contexts: how many tokens
    #[arg(long, default_value_t = 3)]
    order: usize,
    /// Contexts: the fewest occurrences
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    min_count: u64,
    /// Contexts: how many at most, the most frequent first
    #[arg(long, default_value_t = 5000, value_parser = positive)]
    contexts: usize,
    /// Contexts: what the end of a document is [default: dropped with a model that has no such
    /// outcome, else an outcome]
    #[arg(long, value_enum)]
    document_end: Option<DocumentEndArg>,
    /// Positions: how many at least (documents are read whole)
    #[arg(long, default_value_t = 8192, value_parser = positive)]
    positions: usize,
    /// Positions: the longest prefix read, in tokens [default: 512, or as far as the model reads]
    #[arg(long)]
    window: Option<usize>,
    /// Layers whose states are kept: spread (seven), all, last, or a list like 0,15,30
    #[arg(long, default_value = "spread")]
    layers: Layers,
}

impl ObserveArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        if self.model.is_none() && self.layers != Layers::Spread {
            return Err(RunError::Usage(
                "--layers needs a --model whose states are kept".into(),
            ));
        }
        let rows = match self.kind {
            KindArg::Contexts => RowChoice::Contexts(ContextPlan {
                order: self.order,
                min_count: self.min_count,
                top: Some(self.contexts),
                document_end: self.document_end.map(Into::into),
            }),
            KindArg::Positions => RowChoice::Positions(PositionPlan {
                positions: self.positions,
                window: self.window,
                seed: global.seed,
            }),
        };
        let options = ObserveOptions {
            index: self.index.clone(),
            model: self.model.as_ref().map(|m| self.compute.of(m)),
            untrained: self.untrained.then_some(global.seed),
            rows,
            layers: self.layers.clone(),
        };
        let observation = lawvere::observe(&options, &self.out, &mut |event| screen.show(event))?;
        let layers: Vec<usize> = observation
            .states
            .iter()
            .flat_map(|s| s.layers().map(|(layer, _)| layer))
            .collect();
        Ok(if global.json {
            pretty(&json!({
                "observation": self.out,
                "rows": observation.rows(),
                "samples": observation.samples(),
                "layers": layers,
                "info": observation.info,
            }))
        } else {
            self.summary(&observation, &layers)
        })
    }

    fn summary(&self, observation: &Observation, layers: &[usize]) -> String {
        let mut text = format!(
            "{}: {} rows, {} occurrences",
            self.out.display(),
            observation.rows(),
            observation.samples()
        );
        if let Some(choice) = observation.info.provenance.as_ref().map(|p| &p.choice) {
            text += &format!(" ({choice})");
        }
        if !layers.is_empty() {
            let layers: Vec<String> = layers.iter().map(usize::to_string).collect();
            text += &format!("; states of layers {}", layers.join(", "));
        }
        text
    }
}

/// Measure a model on a corpus with all three lenses: one HTML page, its data as JSON and CSV.
///
/// Without a corpus and a model it tells stories of the built-in language, trains a small decoder on
/// them, and puts the exact values beside every estimate.
#[derive(Args)]
pub struct ReportArgs {
    /// Text files in UTF-8, or folders of .txt files
    #[arg(long, num_args = 1.., value_name = "PATH", requires = "model")]
    corpus: Vec<PathBuf>,
    #[command(flatten)]
    reading: CorpusArgs,
    /// A GGUF checkpoint or a checkpoint folder (Hugging Face, or made by `lawvere train`)
    #[arg(long, value_name = "PATH", requires = "corpus")]
    model: Option<PathBuf>,
    #[command(flatten)]
    story: StoryArgs,
    /// Built-in language: updates of the decoder [default: 1500]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "corpus")]
    steps: Option<u64>,
    /// The folder to fill: report.html, report.json, data/*.csv, and the index, the observations and
    /// what was trained, which a rerun uses again
    #[arg(long, value_name = "FOLDER", default_value = "report")]
    out: PathBuf,
    /// How many contexts, the most frequent first
    #[arg(long, default_value_t = 5000, value_parser = positive)]
    contexts: usize,
    /// Tokens of a context
    #[arg(long, default_value_t = 3, value_parser = positive)]
    order: usize,
    /// The fewest occurrences of a context
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    min_count: u64,
    /// Layers whose states are kept: spread (seven), all, last, or a list like 0,15,30
    #[arg(long, default_value = "spread")]
    layers: Layers,
    /// Positions of running text (documents are read whole)
    #[arg(long, default_value_t = 8192, value_parser = positive)]
    positions: usize,
    /// The longest prefix read in running text, in tokens
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(2..))]
    window: u64,
    /// Texts in the prefix forest of the metric lens
    #[arg(long, default_value_t = 400, value_parser = positive)]
    texts: usize,
}

impl ReportArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let subject = match &self.model {
            Some(model) => Subject::Given {
                corpus: self.reading.options(&self.corpus),
                model: model.clone(),
            },
            None => Subject::built_in(
                self.story.words,
                self.story.stories,
                self.steps,
                global.seed,
            ),
        };
        let options = ReportOptions {
            subject,
            contexts: self.contexts,
            order: self.order,
            min_count: self.min_count,
            layers: self.layers.clone(),
            positions: self.positions,
            window: self.window as usize,
            texts: self.texts,
            seed: global.seed,
            threads: rayon::current_num_threads(),
            command: command_line(),
        };
        let report = lawvere::report(&options, &self.out, &mut |event| screen.show(event))?;
        let page = self.out.join("report.html");
        let geometry = &report.geometry.summary;
        let information = &report.information.likelihood;
        Ok(if global.json {
            pretty(&json!({
                "page": page,
                "json": self.out.join("report.json"),
                "contexts": geometry.contexts,
                "vocabulary": geometry.vocabulary,
                "samples": geometry.samples,
                "entropy": information.entropy,
                "cross_entropy": information.cross_entropy,
                "divergence": information.divergence,
                "truth": report.truth.as_ref().map(|t| json!({
                    "entropy_rate": t.language.entropy_rate,
                    "loss": report.information.running.likelihood.cross_entropy,
                    "exact_loss": t.information.running_loss,
                    "gap": t.information.gap,
                    "gap_error": t.information.gap_error,
                })),
                "wall_seconds": report.provenance.wall_seconds,
                "peak_memory": report.provenance.peak_memory,
            }))
        } else {
            let known = report.truth.as_ref().map_or(String::new(), |t| {
                format!(
                    "; on running text {:.4} nats a symbol, {:.4} ± {:.4} above the exact kernel (entropy rate {:.4})",
                    report.information.running.likelihood.cross_entropy,
                    t.information.gap,
                    t.information.gap_error,
                    t.language.entropy_rate,
                )
            });
            format!(
                "{}: {} contexts; cross-entropy {:.3} = divergence {:.3} + entropy {:.3} nats{known}; {:.0} s",
                page.display(),
                geometry.contexts,
                information.cross_entropy,
                information.divergence,
                information.entropy,
                report.provenance.wall_seconds
            )
        })
    }
}

/// A whole number from 1 to `MOST`.
pub fn up_to<const MOST: usize>(text: &str) -> Result<usize, String> {
    match positive(text)? {
        number if number > MOST => Err(format!("it must be at most {MOST}")),
        number => Ok(number),
    }
}

pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("it must be a whole number".into()),
    }
}

pub fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// A result beside what made it.
#[derive(Serialize)]
struct Told<'a, T> {
    #[serde(flatten)]
    result: &'a T,
    provenance: Value,
}

/// A result as JSON in a form of this version, or as `told` tells it.
pub fn told_with<T: Serialize>(
    schema: &str,
    result: &T,
    global: &Global,
    start: Instant,
    told: impl FnOnce(&T) -> String,
) -> Result<String, RunError> {
    if !global.json {
        return Ok(told(result));
    }
    let provenance = provenance(schema, global, start);
    lawvere::page::to_json(&Told { result, provenance })
        .map_err(|e| RunError::Report(e.to_string()))
}

/// What made a result: the form of the result, the tool, the command, seed, threads, time and memory.
pub fn provenance(schema: &str, global: &Global, start: Instant) -> Value {
    json!({
        "schema": schema,
        "tool_version": env!("CARGO_PKG_VERSION"),
        "command": command_line(),
        "seed": global.seed,
        "threads": rayon::current_num_threads(),
        "wall_seconds": start.elapsed().as_secs_f64(),
        "peak_memory": lawvere::peak_memory(),
    })
}

/// The command as it can be typed again: arguments with other than plain characters in quotes.
pub fn command_line() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    let quoted = std::env::args_os().skip(1).map(|arg| {
        let arg = arg.to_string_lossy().into_owned();
        let safe = !arg.is_empty() && arg.chars().all(plain);
        if safe {
            arg
        } else {
            format!("'{}'", arg.replace('\'', r"'\''"))
        }
    });
    std::iter::once("lawvere".to_owned())
        .chain(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}
