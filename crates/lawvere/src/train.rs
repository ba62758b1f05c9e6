use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lawvere_core::{ContextBatch, ratio_of_sums, sum};
use lawvere_lm::DecoderConfig;
use lawvere_lm::train::{
    Architecture, FeaturesConfig, LstmConfig, MlpConfig, SoftLabels, Task, Trainer, Training,
    is_state,
};
use lawvere_observe::{ContextPlan, Draft, Head, Layers, Observation, Observer, States};
use lawvere_text::{Language, Reading, TextSpace};
use lawvere_token::disk::{publish_folder, resolve, write_file};
use lawvere_token::{Tokenizer, sha256_of_file};
use serde::{Deserialize, Serialize};

use crate::cost::{available_memory, operations_per_second, peak_memory};
use crate::{Event, IndexOptions, RunError, TokenizerChoice};

/// What a network learns from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Stories of the built-in language.
    Stories {
        /// The language's number of words.
        words: usize,
        /// How many stories.
        stories: usize,
    },
    /// A corpus.
    Corpus {
        /// Where it is.
        corpus: IndexOptions,
        /// How it becomes tokens.
        tokenizer: TokenizerChoice,
    },
    /// The folder of an index.
    Index(PathBuf),
}

/// A network's kind and sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkChoice {
    /// A decoder of the Llama family with its own head.
    Decoder {
        /// Blocks.
        layers: usize,
        /// Dimension of a state.
        width: usize,
        /// Attention heads.
        heads: usize,
        /// Units of the gated feed-forward layer.
        feed_forward: usize,
    },
    /// A long short-term memory.
    Lstm {
        /// Layers.
        layers: usize,
        /// Dimension of embeddings and states.
        width: usize,
    },
    /// A multilayer perceptron over the last `order` tokens.
    Mlp {
        /// Hidden layers.
        layers: usize,
        /// Dimension of embeddings and states.
        width: usize,
        /// Tokens read.
        order: usize,
    },
    /// A free vector for every context.
    Features {
        /// Dimension of a state.
        width: usize,
    },
}

/// What a step works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// Running text.
    Text {
        /// Windows a step.
        batch: usize,
        /// Tokens of a window.
        window: usize,
    },
    /// The corpus's contexts of one order with their soft labels.
    Contexts {
        /// Which contexts.
        plan: ContextPlan,
        /// Contexts a step; `None` for all.
        batch: Option<usize>,
    },
}

/// What [`train`](fn@train) does.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// What is learned from.
    pub source: Source,
    /// What is trained.
    pub network: NetworkChoice,
    /// What a step works on.
    pub labels: Labels,
    /// How.
    pub training: Training,
    /// Threads, for the record.
    pub threads: usize,
    /// The command that reproduces the run.
    pub command: String,
}

/// `training.json`: how a network came to be, and how good it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// [`SCHEMA`](Self::SCHEMA).
    pub schema: String,
    /// The version of Lawvere.
    pub tool_version: String,
    /// The command that reproduces the run.
    pub command: String,
    /// What random choices started from.
    pub seed: u64,
    /// Threads; the weights do not depend on them.
    pub threads: usize,
    /// The SHA-256 of architecture, settings and data.
    pub run_sha256: String,
    /// The SHA-256 of the tokenizer.
    pub tokenizer_sha256: String,
    /// The SHA-256 of every file beside this one; of unconstrained features there are none, their
    /// observation has its own.
    pub files: BTreeMap<String, String>,
    /// What was learned from, in words.
    pub source: String,
    /// The network, in words.
    pub network: String,
    /// Its weights.
    pub parameters: usize,
    /// How it was trained, in words.
    pub settings: String,
    /// All settings of the training.
    pub training: Training,
    /// Tokens read in all steps (contexts' tokens for soft labels).
    pub tokens: u64,
    /// The loss before each step, nats: cross-entropy and ridge penalty.
    pub losses: Vec<f64>,
    /// Seconds of all steps, those before an interruption left out.
    pub seconds: f64,
    /// The largest resident memory of the process, bytes, where the system tells.
    pub peak_memory: Option<u64>,
    /// The network on documents it did not learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOut>,
}

impl TrainingRecord {
    /// The version of the format.
    pub const SCHEMA: &str = "lawvere-training/1";

    /// The record in a checkpoint's folder, if the checkpoint was trained here.
    pub fn beside(model: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(model.join(RECORD)).ok()?;
        let record: Self = serde_json::from_str(&text).ok()?;
        (record.schema == Self::SCHEMA).then_some(record)
    }
}

/// A network on documents it did not learn from, read from their boundaries on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Documents.
    pub documents: usize,
    /// Symbols predicted: tokens and ends of documents.
    pub symbols: usize,
    /// Cross-entropy, nats a symbol.
    pub loss: f64,
    /// Its standard error, documents taken as independent.
    pub loss_error: f64,
    /// The same of k_true, where the language is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<ExactLoss>,
}

/// What the exact kernel of a language makes of the same documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExactLoss {
    /// The entropy rate of the language: no kernel has a smaller cross-entropy. Nats a symbol.
    pub entropy_rate: f64,
    /// k_true's cross-entropy on these documents, given the whole prefix.
    pub loss: f64,
    /// The network's cross-entropy minus k_true's: an estimate of KL(k_true || k_model) a symbol.
    pub gap: f64,
    /// Its standard error, documents taken as independent.
    pub gap_error: f64,
}

/// What is left after training.
#[derive(Debug)]
pub struct Trained {
    /// The contents of `training.json`.
    pub record: TrainingRecord,
    /// Whether it was found finished rather than trained now.
    pub found: bool,
}

const RECORD: &str = "training.json";
const STATE: &str = "state.safetensors";
const OBSERVATION: &str = "observation";
/// Files of a trained model's folder.
const FILES: [&str; 7] = [
    RECORD,
    STATE,
    OBSERVATION,
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
];
/// How often the state is written, unless writing takes more than a twentieth of that.
const SAVE_EVERY: Duration = Duration::from_secs(2);
/// Hidden layers of a perceptron.
const MOST_LAYERS: usize = 1024;
/// One document in so many is kept from training, 500 at most.
const HELD_OUT_SHARE: usize = 20;
const HELD_OUT_MOST: usize = 500;

/// Trains a network and leaves it in the folder `out`: a checkpoint that
/// [`LanguageModel::open`](lawvere_lm::LanguageModel::open) reads, or, of unconstrained features, an
/// Observation in `out/observation`; beside it `training.json`.
///
/// While it goes on, its state is in `out.partial`, written every other second; the same run begun
/// again goes on from there, bit for bit.
///
/// # Errors
/// What reading the source, training or writing meets; a destination that holds something else.
pub fn train(
    options: &TrainOptions,
    out: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<Trained, RunError> {
    check_destination(out)?;
    if let (NetworkChoice::Features { .. }, Labels::Text { .. }) =
        (&options.network, &options.labels)
    {
        return Err(RunError::Usage(
            "unconstrained features are one vector a context and read no text; train them on soft labels".into(),
        ));
    }
    let material = Material::read(options, on_event)?;
    let (task, held_out) = material.task(options)?;
    let architecture = options.network.architecture(&material, &task)?;
    let needed = Trainer::memory(&architecture, &options.training, &task);
    if let Some(available) = available_memory().filter(|&a| needed > a as f64) {
        return Err(RunError::Usage(format!(
            "training {} needs about {:.1} GB of memory, and {:.1} GB are available: take a smaller network, batch or window",
            options.network,
            needed / 1e9,
            available as f64 / 1e9
        )));
    }
    let mut trainer = Trainer::new(architecture, options.training, task)?;
    let tokenizer = material.tokenizer.identity().to_owned();
    if let Some(record) = finished(out, trainer.identity(), &tokenizer) {
        on_event(Event::Part(format!("using the model in {}", out.display())));
        return Ok(Trained {
            record,
            found: true,
        });
    }
    let out = &resolve(out);
    let partial = partial_folder(out);
    check_destination(&partial)?;
    let io = |path: &Path, source| RunError::Io {
        path: path.to_owned(),
        source,
    };
    std::fs::create_dir_all(&partial).map_err(|e| io(&partial, e))?;
    let state = partial.join(STATE);
    if trainer.restore(&state)? {
        let done = trainer.losses().len();
        on_event(Event::Part(format!("going on after step {done}")));
    } else {
        // What is there is of another run of ours.
        clear(&partial).map_err(|e| io(&partial, e))?;
    }
    let seconds = run_steps(&mut trainer, &state, needed, on_event).inspect_err(|_| {
        // If nothing was saved yet, nothing is left; a folder that holds something stays.
        let _ = std::fs::remove_dir(&partial);
    })?;
    let held_out = match &held_out {
        Some(documents) => Some(material.judge(&mut trainer, documents)?),
        None => None,
    };
    material.write(&mut trainer, &partial)?;
    let record = TrainingRecord {
        files: hashes(&partial)?,
        schema: TrainingRecord::SCHEMA.into(),
        tool_version: env!("CARGO_PKG_VERSION").into(),
        command: options.command.clone(),
        seed: options.training.seed,
        threads: options.threads,
        run_sha256: trainer.identity().into(),
        tokenizer_sha256: tokenizer,
        source: material.name.clone(),
        network: options.network.to_string(),
        parameters: trainer.architecture().parameters(),
        settings: settings(options),
        training: options.training,
        tokens: (trainer.tokens_a_step() as u64).saturating_mul(options.training.steps),
        losses: trainer.losses().to_vec(),
        seconds,
        peak_memory: peak_memory(),
        held_out,
    };
    let path = partial.join(RECORD);
    let text = serde_json::to_string_pretty(&record).map_err(|e| io(&path, e.into()))?;
    write_file(&path, |file| writeln!(file, "{text}")).map_err(|e| io(&path, e))?;
    if state.exists() {
        std::fs::remove_file(&state).map_err(|e| io(&state, e))?;
    }
    publish_folder(&partial, out).map_err(|e| io(out, e))?;
    Ok(Trained {
        record,
        found: false,
    })
}

fn run_steps(
    trainer: &mut Trainer,
    state: &Path,
    memory: f64,
    on_event: &mut dyn FnMut(Event),
) -> Result<f64, RunError> {
    let total = trainer.training().steps as usize;
    let left = total.saturating_sub(trainer.losses().len());
    let weights = 4 * trainer.architecture().parameters() as u64;
    if left > 0 {
        // About a third of the peak is reached by products of these shapes and what lies between.
        let operations = left as f64 * trainer.operations_a_step();
        on_event(Event::Estimate {
            tokens: left.saturating_mul(trainer.tokens_a_step()),
            seconds: operations / (0.35 * operations_per_second()),
            memory: memory as u64,
            disk: 4 * weights,
        });
        on_event(Event::Part(format!("training: {left} steps")));
    }
    let start = Instant::now();
    let (mut saved, mut pause) = (start, SAVE_EVERY);
    while trainer.step()?.is_some() {
        on_event(Event::Progress {
            done: trainer.losses().len(),
            total,
        });
        if saved.elapsed() > pause {
            let writing = Instant::now();
            trainer.save(state)?;
            saved = Instant::now();
            pause = SAVE_EVERY.max(20 * writing.elapsed());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    // Judging and writing come after; an interruption there must not cost the training.
    trainer.save(state)?;
    Ok(seconds)
}

/// The tokens of each document.
type Documents = Vec<Vec<u32>>;

/// What training reads, in memory.
struct Material {
    name: String,
    tokenizer: Tokenizer,
    documents: Documents,
    /// Documents of the same language that are not among them, and the language.
    language: Option<(Language, Documents)>,
    /// Contexts with soft labels, and the index they are of.
    contexts: Option<(Draft, TextSpace)>,
}

impl Material {
    fn read(options: &TrainOptions, on_event: &mut dyn FnMut(Event)) -> Result<Self, RunError> {
        let mut language = None;
        let (name, space) = match &options.source {
            Source::Stories { words, stories } => {
                on_event(Event::Part(format!("telling {stories} stories")));
                let spoken = Language::stories(*words)?;
                let seed = options.training.seed;
                let documents = spoken.documents(seed, *stories);
                let count = held_out_count(documents.len());
                let fresh = spoken.documents(fresh_seed(seed), count);
                let name = format!("{stories} stories of the built-in language of {words} words");
                if let Labels::Text { .. } = options.labels {
                    return Ok(Self {
                        name,
                        tokenizer: spoken.tokenizer()?,
                        documents,
                        language: Some((spoken, fresh)),
                        contexts: None,
                    });
                }
                let texts: Vec<String> = documents.iter().map(|d| spoken.text(d)).collect();
                let corpus =
                    lawvere_text::Corpus::from_documents(texts.iter().map(String::as_str))?;
                let tokenizer = spoken.tokenizer()?;
                language = Some((spoken, fresh));
                (name, TextSpace::build(&corpus, &tokenizer, &mut |_| {})?)
            }
            Source::Index(path) => (path.display().to_string(), TextSpace::open(path)?),
            Source::Corpus { corpus, tokenizer } => {
                let paths = corpus.corpus.iter().map(|p| p.display().to_string());
                let name = paths.collect::<Vec<_>>().join(", ");
                (name, crate::index::space(corpus, tokenizer, on_event)?)
            }
        };
        let tokenizer = space.tokenizer().clone();
        Ok(match &options.labels {
            Labels::Text { .. } => Self {
                name,
                tokenizer,
                documents: (0..space.documents())
                    .filter_map(|d| space.document_tokens(d))
                    .collect(),
                language,
                contexts: None,
            },
            Labels::Contexts { plan, .. } => {
                let draft = Observer::new(&space, None, &Layers::Last)?.contexts(plan)?;
                Self {
                    name,
                    tokenizer,
                    documents: Vec::new(),
                    language,
                    contexts: Some((draft, space)),
                }
            }
        })
    }

    /// The token that stands for the end of a document.
    fn end(&self) -> u32 {
        self.tokenizer.vocab_size() as u32
    }

    /// A document between two boundaries.
    fn bounded(&self, tokens: &[u32]) -> Vec<u32> {
        let end = [self.end()];
        [&end, tokens, &end].concat()
    }

    /// The task, and the documents that are kept from it.
    fn task(&self, options: &TrainOptions) -> Result<(Task, Option<Documents>), RunError> {
        match (&options.labels, &self.contexts) {
            (Labels::Contexts { batch, .. }, Some((draft, _))) => {
                let labels = soft_labels(draft);
                let batch = *batch;
                Ok((Task::Contexts { labels, batch }, None))
            }
            (Labels::Text { batch, window }, _) => {
                let (learned, held_out): (Vec<&[u32]>, Documents) = match &self.language {
                    Some((_, fresh)) => (
                        self.documents.iter().map(Vec::as_slice).collect(),
                        fresh.clone(),
                    ),
                    None => {
                        // Evenly spread, the last of each stretch.
                        let count = held_out_count(self.documents.len());
                        let stride = self
                            .documents
                            .len()
                            .checked_div(count)
                            .unwrap_or(usize::MAX);
                        let (out, learned): (Vec<_>, Vec<_>) = self
                            .documents
                            .iter()
                            .enumerate()
                            .partition(|(i, _)| (i + 1).is_multiple_of(stride));
                        (
                            learned.iter().map(|(_, d)| d.as_slice()).collect(),
                            out.into_iter().map(|(_, d)| d.clone()).collect(),
                        )
                    }
                };
                let mut stream = vec![self.end()];
                for document in learned {
                    stream.extend(document);
                    stream.push(self.end());
                }
                let task = Task::Text {
                    stream,
                    batch: *batch,
                    window: *window,
                };
                Ok((task, Some(held_out).filter(|h| !h.is_empty())))
            }
            (Labels::Contexts { .. }, None) => Err(RunError::Usage(
                "soft labels need an index to take contexts from".into(),
            )),
        }
    }

    fn judge(&self, trainer: &mut Trainer, documents: &[Vec<u32>]) -> Result<HeldOut, RunError> {
        // A decoder reads as far as it was made for, the others whole documents.
        let longest = documents.iter().map(|d| d.len() + 1).max().unwrap_or(1);
        let window = match trainer.architecture() {
            Architecture::Decoder(config) => config.context_length,
            _ => longest,
        };
        let bounded: Vec<Vec<u32>> = documents.iter().map(|d| self.bounded(d)).collect();
        let losses = trainer.document_losses(&bounded, window)?;
        let symbols: Vec<usize> = documents.iter().map(|d| d.len() + 1).collect();
        let mean = |losses: &[f64]| {
            let documents = losses.iter().copied().zip(symbols.iter().copied());
            ratio_of_sums(documents)
        };
        let (loss, loss_error) = mean(&losses);
        let exact = match &self.language {
            None => None,
            Some((language, _)) => {
                let exact = exact_losses(language, &bounded)?;
                let gaps: Vec<f64> = losses.iter().zip(&exact).map(|(l, e)| l - e).collect();
                let (gap, gap_error) = mean(&gaps);
                Some(ExactLoss {
                    entropy_rate: language.entropy_rate(),
                    loss: mean(&exact).0,
                    gap,
                    gap_error,
                })
            }
        };
        Ok(HeldOut {
            documents: documents.len(),
            symbols: symbols.iter().sum(),
            loss,
            loss_error,
            exact,
        })
    }

    fn write(&self, trainer: &mut Trainer, folder: &Path) -> Result<(), RunError> {
        if matches!(trainer.architecture(), Architecture::Features(_)) {
            return self.write_observation(trainer, folder);
        }
        trainer.write_model(folder, Some(self.end()))?;
        let own = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": false,
        });
        for (name, text) in [
            ("tokenizer.json", self.tokenizer.to_json()?),
            ("tokenizer_config.json", format!("{own:#}\n")),
        ] {
            let path = folder.join(name);
            write_file(&path, |file| file.write_all(text.as_bytes()))
                .map_err(|source| RunError::Io { path, source })?;
        }
        Ok(())
    }

    /// Unconstrained features know their contexts only: what is left of them is an Observation.
    fn write_observation(&self, trainer: &mut Trainer, folder: &Path) -> Result<(), RunError> {
        let (Some((draft, space)), Some(states)) = (&self.contexts, trainer.context_states())
        else {
            return Err(RunError::Usage("features need contexts".into()));
        };
        let head = Head {
            weight: trainer.head().clone(),
            bias: None,
            soft_cap: None,
            norm: None,
        };
        let states = States::new(vec![(0, states)])?;
        let observation = Observation::of_draft(draft, space, states, head)?;
        Ok(observation.save(&folder.join(OBSERVATION))?)
    }
}

/// The sum of k_true's losses over each document between its boundaries, given its whole prefix.
fn exact_losses(language: &Language, bounded: &[Vec<u32>]) -> Result<Vec<f64>, RunError> {
    let mut batch = ContextBatch::new();
    for tokens in bounded {
        let positions: Vec<u32> = (1..tokens.len() as u32).collect();
        batch.push(&tokens[..tokens.len() - 1], &positions)?;
    }
    let next: Vec<u32> = bounded.iter().flat_map(|d| &d[1..]).copied().collect();
    let losses = language.kernel(Reading::FullPrefix).losses(&batch, &next)?;
    let mut losses = losses.into_iter();
    let document = |d: &Vec<u32>| sum(losses.by_ref().take(d.len() - 1));
    Ok(bounded.iter().map(document).collect())
}

/// The seed of stories that are not among those of `seed`: users' seeds are small, this one is not.
pub(crate) fn fresh_seed(seed: u64) -> u64 {
    !seed
}

fn held_out_count(documents: usize) -> usize {
    (documents / HELD_OUT_SHARE).min(HELD_OUT_MOST)
}

fn soft_labels(draft: &Draft) -> SoftLabels {
    let (order, tokens) = draft.contexts();
    SoftLabels {
        order,
        tokens: tokens.to_vec(),
        weights: draft.weights().to_vec(),
        laws: draft.laws(),
    }
}

impl NetworkChoice {
    fn architecture(&self, material: &Material, task: &Task) -> Result<Architecture, RunError> {
        if let Self::Mlp { layers, .. } = self
            && *layers > MOST_LAYERS
        {
            return Err(RunError::Usage(format!(
                "{layers} layers; a perceptron has at most {MOST_LAYERS}"
            )));
        }
        // The end of a document comes after the tokenizer's tokens.
        let vocab_size = material.end() as usize + 1;
        Ok(match *self {
            Self::Decoder {
                layers,
                width,
                heads,
                feed_forward,
            } => Architecture::Decoder(DecoderConfig {
                vocab_size,
                hidden_size: width,
                layers,
                heads,
                kv_heads: heads,
                head_dim: width.checked_div(heads).unwrap_or(0),
                feed_forward_size: feed_forward,
                rope_theta: 10_000.0,
                norm_eps: 1e-5,
                // Room beyond the windows learned from, for documents that are longer; how well the
                // network reads there is what its losses by prefix length show.
                context_length: match task {
                    Task::Text { window, .. } => window.saturating_mul(4),
                    Task::Contexts { labels, .. } => labels.order.saturating_mul(4),
                },
                tied_head: false,
                bos: None,
            }),
            Self::Lstm { layers, width } => Architecture::Lstm(LstmConfig {
                vocab_size,
                embedding_size: width,
                hidden_size: width,
                layers,
            }),
            Self::Mlp {
                layers,
                width,
                order,
            } => Architecture::Mlp(MlpConfig {
                vocab_size,
                order,
                embedding_size: width,
                hidden_sizes: vec![width; layers],
            }),
            Self::Features { width } => Architecture::Features(FeaturesConfig {
                vocab_size,
                contexts: match task {
                    Task::Contexts { labels, .. } => labels.weights.len(),
                    Task::Text { .. } => 0,
                },
                dim: width,
            }),
        })
    }
}

impl std::fmt::Display for NetworkChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Decoder {
                layers,
                width,
                heads,
                feed_forward,
            } => write!(
                f,
                "decoder-only transformer, {layers} blocks of width {width}, {heads} heads, {feed_forward} feed-forward units"
            ),
            Self::Lstm { layers, width } => {
                write!(f, "long short-term memory, {layers} layers of {width}")
            }
            Self::Mlp {
                layers,
                width,
                order,
            } => write!(
                f,
                "multilayer perceptron over {order} tokens, {layers} layers of {width}"
            ),
            Self::Features { width } => write!(f, "unconstrained features of dimension {width}"),
        }
    }
}

/// The settings in words.
fn settings(options: &TrainOptions) -> String {
    use lawvere_lm::train::Optimizer;
    let t = &options.training;
    let optimizer = match t.optimizer {
        Optimizer::AdamW { .. } => "AdamW".to_owned(),
        Optimizer::Sgd { momentum: 0.0 } => "gradient descent".to_owned(),
        Optimizer::Sgd { momentum } => format!("SGD with momentum {momentum}"),
    };
    let work = match &options.labels {
        Labels::Text { batch, window } => format!("{batch} windows of {window} tokens a step"),
        Labels::Contexts { batch: None, .. } => "all contexts a step, soft labels".to_owned(),
        Labels::Contexts {
            batch: Some(batch), ..
        } => format!("{batch} contexts a step, soft labels"),
    };
    let mut text = format!("{optimizer}, learning rate {}, {work}", t.learning_rate);
    if t.weight_decay > 0.0 {
        text += &format!(", weight decay {}", t.weight_decay);
    }
    if t.ridge > 0.0 {
        text += &format!(", ridge {}", t.ridge);
    }
    text
}

fn partial_folder(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    out.with_file_name(name)
}

/// Refuses a folder that holds anything but a trained model.
fn check_destination(out: &Path) -> Result<(), RunError> {
    let refused = |what: String| {
        Err(RunError::Usage(format!(
            "{}: {what}; choose another place for the model",
            out.display()
        )))
    };
    if !out.exists() {
        return Ok(());
    }
    if !out.is_dir() {
        return refused("a file of that name is there".into());
    }
    let entries = std::fs::read_dir(out).map_err(|source| RunError::Io {
        path: out.to_owned(),
        source,
    })?;
    let names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| !n.starts_with(".lawvere-"))
        .collect();
    if let Some(name) = names.iter().find(|n| !FILES.contains(&n.as_str())) {
        return refused(format!(
            "the folder holds {name}, which is not part of a trained model, and is not replaced"
        ));
    }
    // A checkpoint from elsewhere has files of the same names.
    let ours = TrainingRecord::beside(out).is_some() || is_state(&out.join(STATE));
    if !names.is_empty() && !ours {
        return refused(format!(
            "the folder holds {}, but no {RECORD} or {STATE} of ours: it was not trained here, and is not replaced",
            names.join(", ")
        ));
    }
    let observation = out.join(OBSERVATION);
    if observation.exists() {
        Observation::check_destination(&observation)?;
    }
    Ok(())
}

/// Empties a folder that [`check_destination`] found to be ours.
fn clear(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The hashes of a checkpoint's files in a folder.
fn hashes(folder: &Path) -> Result<BTreeMap<String, String>, RunError> {
    let files = FILES
        .iter()
        .filter(|name| ![RECORD, STATE, OBSERVATION].contains(*name));
    files
        .map(|name| (name, folder.join(name)))
        .filter(|(_, path)| path.exists())
        .map(|(name, path)| match sha256_of_file(&path) {
            Ok(hash) => Ok(((*name).to_owned(), hash)),
            Err(source) => Err(RunError::Io { path, source }),
        })
        .collect()
}

/// The record of a finished run with this identity and tokenizer, whose files are as they were left.
fn finished(out: &Path, run: &str, tokenizer: &str) -> Option<TrainingRecord> {
    let record = TrainingRecord::beside(out)?;
    let observation = out.join(OBSERVATION);
    let whole = match observation.exists() {
        true => Observation::open(&observation).is_ok(),
        false => !record.files.is_empty() && hashes(out).ok()? == record.files,
    };
    let same = record.run_sha256 == run && record.tokenizer_sha256 == tokenizer;
    (whole && same).then_some(record)
}
