//! Flags of training and of the built-in language.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lawvere::defaults::{
    BATCH, CLIP, FINAL_RATE, HEADS, LAYERS, RATE, STEPS, STORIES, WARMUP, WIDTH, WINDOW,
};
use lawvere::lm::train::{Optimizer, Training};
use lawvere::observation::ContextPlan;
use lawvere::text::Language;
use lawvere::{
    Labels, Measures, NetworkChoice, RunError, Source, StoriesOptions, TokenizerChoice,
    TrainOptions,
};
use serde_json::json;

use crate::args::{CorpusArgs, Global, command_line, positive, pretty};
use crate::output::Screen;

/// The built-in language.
#[derive(Args)]
pub struct StoryArgs {
    /// Built-in language: its number of words, 100 to 10000
    #[arg(long, default_value_t = Language::DEFAULT_WORDS, conflicts_with = "corpus")]
    pub words: usize,
    /// Built-in language: how many stories are told
    #[arg(long, default_value_t = STORIES, value_parser = stories, conflicts_with = "corpus")]
    pub stories: usize,
}

/// More stories than anyone reads, and few enough to be held in memory.
fn stories(text: &str) -> Result<usize, String> {
    const MOST: usize = 10_000_000;
    match positive(text)? {
        n if n > MOST => Err(format!("it must be at most {MOST}")),
        n => Ok(n),
    }
}

/// What networks learn from.
#[derive(Args)]
pub struct SourceArgs {
    /// Text files in UTF-8, or folders of .txt files; without it and --index, the built-in language
    #[arg(long, num_args = 1.., value_name = "PATH", conflicts_with = "index")]
    corpus: Vec<PathBuf>,
    #[command(flatten)]
    reading: CorpusArgs,
    /// `words`, `bytes`, or the path of a GGUF checkpoint, a tokenizer.json or a checkpoint folder
    #[arg(long, default_value = "words", value_name = "WHAT")]
    tokenizer: TokenizerChoice,
    /// The folder of an index
    #[arg(long, value_name = "FOLDER")]
    index: Option<PathBuf>,
    #[command(flatten)]
    story: StoryArgs,
}

impl SourceArgs {
    pub fn source(&self) -> Source {
        match (&self.index, self.corpus.is_empty()) {
            (Some(index), _) => Source::Index(index.clone()),
            (None, false) => Source::Corpus {
                corpus: self.reading.options(&self.corpus),
                tokenizer: self.tokenizer.clone(),
            },
            (None, true) => Source::Stories {
                words: self.story.words,
                stories: self.story.stories,
            },
        }
    }
}

/// What is trained.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Network {
    /// A decoder-only transformer of the Llama family
    #[value(alias = "transformer")]
    Decoder,
    /// A long short-term memory
    Lstm,
    /// A multilayer perceptron over the last tokens
    Mlp,
    /// A free vector for every context (soft labels only)
    #[value(alias = "ufm")]
    Features,
}

/// A network's kind and sizes.
#[derive(Args)]
pub struct NetworkArgs {
    /// What is trained
    #[arg(long, visible_alias = "kind", value_enum, default_value = "decoder")]
    network: Network,
    /// Blocks of a decoder, layers of an LSTM or MLP
    #[arg(long, default_value_t = LAYERS, value_parser = positive)]
    layers: usize,
    /// Dimension of a state
    #[arg(long, default_value_t = WIDTH, value_parser = positive)]
    width: usize,
    /// Attention heads of a decoder
    #[arg(long, default_value_t = HEADS, value_parser = positive)]
    heads: usize,
    /// Feed-forward units of a decoder [default: 8/3 of the width]
    #[arg(long, value_parser = positive)]
    feed_forward: Option<usize>,
    /// Tokens that an MLP reads, and of contexts with soft labels
    #[arg(long, default_value_t = 3, value_parser = positive)]
    order: usize,
}

impl NetworkArgs {
    pub fn choice(&self) -> Result<NetworkChoice, RunError> {
        let (layers, width) = (self.layers, self.width);
        Ok(match self.network {
            Network::Decoder => {
                // Rotations turn pairs of a head's dimensions.
                let pairs = self.heads.saturating_mul(2);
                if !width.is_multiple_of(pairs) {
                    return Err(RunError::Usage(format!(
                        "--width {width} cannot be shared by {} heads: it should be a multiple of {pairs}",
                        self.heads
                    )));
                }
                NetworkChoice::Decoder {
                    layers,
                    width,
                    heads: self.heads,
                    feed_forward: self.feed_forward.unwrap_or(width.saturating_mul(8) / 3),
                }
            }
            Network::Lstm => NetworkChoice::Lstm { layers, width },
            Network::Mlp => NetworkChoice::Mlp {
                layers,
                width,
                order: self.order,
            },
            Network::Features => NetworkChoice::Features { width },
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OptimizerArg {
    /// Adam with decoupled weight decay
    Adamw,
    /// Gradient descent with --momentum
    Sgd,
    /// Plain gradient descent
    Gd,
}

/// How a network is trained.
#[derive(Args)]
pub struct TrainingArgs {
    /// Updates in all
    #[arg(long, default_value_t = STEPS, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Windows a step (or, with soft labels, contexts a step) [default: 16; soft labels: all]
    #[arg(long, value_parser = positive)]
    batch: Option<usize>,
    /// Tokens of a window of running text
    #[arg(long, default_value_t = WINDOW, value_parser = positive)]
    window: usize,
    /// How gradients become steps
    #[arg(long, value_enum, default_value = "adamw")]
    optimizer: OptimizerArg,
    /// The learning rate after the warm-up [default: 0.006; sgd and gd: 0.5]
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Momentum of sgd
    #[arg(long, default_value_t = 0.9)]
    momentum: f64,
    /// Steps over which the rate grows to --learning-rate
    #[arg(long, default_value_t = WARMUP)]
    warmup: u64,
    /// The fraction of the rate that is left at the end, reached along half a cosine; 1 keeps it
    #[arg(long, default_value_t = FINAL_RATE)]
    final_rate: f64,
    /// Decoupled weight decay of matrices
    #[arg(long, default_value_t = 0.0)]
    weight_decay: f64,
    /// Factor of |weights|^2 / 2 in the loss
    #[arg(long, default_value_t = 0.0)]
    ridge: f64,
    /// The longest gradient; 0 for no limit
    #[arg(long, default_value_t = CLIP)]
    clip: f64,
}

impl TrainingArgs {
    fn training(&self, seed: u64) -> Training {
        let (optimizer, rate) = match self.optimizer {
            OptimizerArg::Adamw => (Optimizer::ADAMW, RATE),
            OptimizerArg::Sgd => {
                let momentum = self.momentum;
                (Optimizer::Sgd { momentum }, 0.5)
            }
            OptimizerArg::Gd => (Optimizer::Sgd { momentum: 0.0 }, 0.5),
        };
        Training {
            steps: self.steps,
            optimizer,
            learning_rate: self.learning_rate.unwrap_or(rate),
            warmup: self.warmup,
            final_rate: self.final_rate,
            weight_decay: self.weight_decay,
            ridge: self.ridge,
            clip: Some(self.clip).filter(|&c| c != 0.0),
            seed,
        }
    }
}

/// What a step works on.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LabelsArg {
    /// Running text: every token is predicted from those before it
    Text,
    /// Contexts of one order with the laws of what follows them
    Soft,
}

/// What a network is held against along its training.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MeasuresArg {
    /// The max-margin logits where they take less than a second, else the proxy
    Auto,
    /// The max-margin logits
    Exact,
    /// The leading 64 singular triplets of the proxy
    Proxy,
    /// Nothing
    None,
}

impl From<MeasuresArg> for Measures {
    fn from(measures: MeasuresArg) -> Self {
        match measures {
            MeasuresArg::Auto => Self::Auto,
            MeasuresArg::Exact => Self::Exact,
            MeasuresArg::Proxy => Self::Proxy,
            MeasuresArg::None => Self::None,
        }
    }
}

/// Train a small network: on a corpus, an index, or the built-in language
///
/// The result is a folder that `observe` and `report` read as a model; a decoder is a Hugging Face
/// checkpoint. Unconstrained features leave an observation.
#[derive(Args)]
pub struct TrainArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// What a step works on [default: text; features: soft]
    #[arg(long, value_enum)]
    labels: Option<LabelsArg>,
    /// Soft labels: how many contexts, the most frequent first
    #[arg(long, default_value_t = 5000, value_parser = positive)]
    contexts: usize,
    /// Soft labels: the fewest occurrences of a context
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    min_count: u64,
    /// Soft labels: the predicted geometry that the network is held against along its training, in
    /// measures.jsonl [default: auto]
    #[arg(long, value_enum)]
    measures: Option<MeasuresArg>,
    /// Keep a checkpoint after so many steps too, in checkpoints/step-N; 0 is before the first
    #[arg(long, value_delimiter = ',', value_name = "STEP,...")]
    checkpoints: Vec<u64>,
    #[command(flatten)]
    training: TrainingArgs,
    /// The folder to make; an interrupted run is taken up again from its last saved state
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

impl TrainArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let features = self.network.network == Network::Features;
        let labels = self.labels.unwrap_or(match features {
            true => LabelsArg::Soft,
            false => LabelsArg::Text,
        });
        if self.measures.is_some() && labels == LabelsArg::Text {
            return Err(RunError::Usage(
                "--measures is for contexts with soft labels: add --labels soft".into(),
            ));
        }
        let options = TrainOptions {
            source: self.source.source(),
            network: self.network.choice()?,
            labels: match labels {
                LabelsArg::Text => Labels::Text {
                    batch: self.training.batch.unwrap_or(BATCH),
                    window: self.training.window,
                },
                LabelsArg::Soft => Labels::Contexts {
                    plan: ContextPlan {
                        order: self.network.order,
                        min_count: self.min_count,
                        top: Some(self.contexts),
                        document_end: None,
                    },
                    batch: self.training.batch,
                },
            },
            training: self.training.training(global.seed),
            measures: self.measures.map_or(Measures::Auto, Into::into),
            checkpoints: self.checkpoints.clone(),
            threads: rayon::current_num_threads(),
            command: command_line(),
        };
        let trained = lawvere::train(&options, &self.out, &mut |event| screen.show(event))?;
        let record = &trained.record;
        if global.json {
            return Ok(pretty(
                &json!({"model": self.out, "found": trained.found, "training": record}),
            ));
        }
        let last = record.losses.last().copied().unwrap_or(f64::NAN);
        let mut text = format!(
            "{}: {}, {} parameters; loss {:.4} nats after {} steps",
            self.out.display(),
            record.network,
            record.parameters,
            last,
            record.losses.len()
        );
        if let Some(held_out) = &record.held_out {
            text += &format!(
                "; on {} other documents {:.4} ± {:.4} nats a symbol",
                held_out.documents, held_out.loss, held_out.loss_error
            );
            if let Some(exact) = &held_out.exact {
                text += &format!(
                    ", {:.4} ± {:.4} above the exact kernel ({:.4}; entropy rate {:.4})",
                    exact.gap, exact.gap_error, exact.loss, exact.entropy_rate
                );
            }
        }
        if let Some(along) = &record.along {
            let what = match along.prediction.as_str() {
                "proxy" => "proxy",
                _ => "max-margin logits",
            };
            text += &format!(
                "; cross-entropy {:.2e} nats above its least, logits at cosine {:.4} with the {what} ({})",
                along.excess, along.logits_cosine, along.file
            );
        }
        Ok(text)
    }
}

/// Tell stories of the built-in language, and its exact figures
#[derive(Args)]
pub struct StoriesArgs {
    /// The language's number of words, 100 to 10000
    #[arg(long, default_value_t = Language::DEFAULT_WORDS)]
    words: usize,
    /// How many stories are told
    #[arg(long, default_value_t = STORIES, value_parser = stories)]
    stories: usize,
    /// The file to write, one story a line; without it only the figures are told
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl StoriesArgs {
    pub fn run(&self, global: &Global) -> Result<String, RunError> {
        let options = StoriesOptions {
            words: self.words,
            stories: self.stories,
            seed: global.seed,
        };
        let summary = lawvere::stories(&options, self.out.as_deref())?;
        if global.json {
            return Ok(pretty(&json!(summary)));
        }
        let written = self.out.as_ref().map_or(String::new(), |out| {
            format!("{}: {} stories\n", out.display(), self.stories)
        });
        let conditional: Vec<String> = summary
            .conditional_entropies
            .iter()
            .map(|h| format!("{h:.4}"))
            .collect();
        Ok(format!(
            "{written}{} words, {} states, {} transitions; {:.2} symbols a story\nentropy rate {:.6} nats a symbol; given the last 0, 1, 2, 3 symbols {}\n\n{}",
            summary.words,
            summary.states,
            summary.transitions,
            summary.symbols_per_story,
            summary.entropy_rate,
            conditional.join(", "),
            summary.example
        ))
    }
}
