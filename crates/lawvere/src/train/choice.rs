//! What is trained, on what, and how.

use std::path::PathBuf;

use lawvere_lm::DecoderConfig;
use lawvere_lm::train::{
    Architecture, FeaturesConfig, LstmConfig, MlpConfig, Optimizer, Task, Training,
};
use lawvere_observe::ContextPlan;
use lawvere_text::CorpusOptions;

use crate::{RunError, TokenizerChoice};

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
        corpus: CorpusOptions,
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

/// What a network that learns contexts is held against along its training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Measures {
    /// The max-margin logits where they take less than a second, else the proxy.
    #[default]
    Auto,
    /// The max-margin logits.
    Exact,
    /// The leading singular triplets of the proxy.
    Proxy,
    /// Nothing.
    None,
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
    /// With soft labels, what it is held against on the way.
    pub measures: Measures,
    /// Steps after which a checkpoint is kept; 0 is before the first.
    pub checkpoints: Vec<u64>,
    /// Threads, for the record.
    pub threads: usize,
    /// The command that reproduces the run.
    pub command: String,
}

/// Hidden layers of a perceptron.
const MOST_LAYERS: usize = 1024;

impl NetworkChoice {
    /// The network's full shape, for a task over `vocab_size` outcomes.
    pub(crate) fn architecture(
        &self,
        vocab_size: usize,
        task: &Task,
    ) -> Result<Architecture, RunError> {
        if let Self::Mlp { layers, .. } = self
            && *layers > MOST_LAYERS
        {
            return Err(RunError::Usage(format!(
                "{layers} layers; a perceptron has at most {MOST_LAYERS}"
            )));
        }
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
                style: lawvere_lm::DecoderStyle::default(),
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
pub(crate) fn settings(options: &TrainOptions) -> String {
    let work = match &options.labels {
        Labels::Text { batch, window } => format!("{batch} windows of {window} tokens a step"),
        Labels::Contexts { batch: None, .. } => ALL_CONTEXTS.to_owned(),
        Labels::Contexts {
            batch: Some(batch), ..
        } => format!("{batch} contexts a step, soft labels"),
    };
    describe(&options.training, &work)
}

/// What a step works on where nothing is drawn, in words.
pub(crate) const ALL_CONTEXTS: &str = "all contexts a step, soft labels";

/// A training in words; `work` says what a step works on.
pub(crate) fn describe(training: &Training, work: &str) -> String {
    let optimizer = match training.optimizer {
        Optimizer::AdamW { .. } => "AdamW".to_owned(),
        Optimizer::Sgd { momentum: 0.0 } => "gradient descent".to_owned(),
        Optimizer::Sgd { momentum } => format!("SGD with momentum {momentum}"),
    };
    let mut text = format!(
        "{optimizer}, learning rate {}, {work}",
        training.learning_rate
    );
    if training.weight_decay > 0.0 {
        text += &format!(", weight decay {}", training.weight_decay);
    }
    if training.ridge > 0.0 {
        text += &format!(", ridge {}", training.ridge);
    }
    text
}
