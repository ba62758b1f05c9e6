//! A training run: steps, their losses, and the state that takes an interrupted run up again.

use std::path::Path;

use lawvere_core::RowMatrix;
use lawvere_token::sha256_hex;
use serde::{Deserialize, Serialize};

use crate::LmError;
use crate::train::Architecture;
use crate::train::checkpoint;
use crate::train::learner::{Batch, Learner, Loss, Rule};
use crate::train::loss::Targets;
use crate::train::network::Input;
use crate::train::optimizer::{Optimizer, StepSize};
use crate::train::task::{Draw, Task};

/// How a network is trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Updates in all.
    pub steps: u64,
    /// How gradients become steps.
    pub optimizer: Optimizer,
    /// The learning rate after the warm-up.
    pub learning_rate: f64,
    /// Steps over which the rate grows linearly to it.
    pub warmup: u64,
    /// The fraction of the rate that is left at the end, reached along half a cosine; 1 keeps it.
    pub final_rate: f64,
    /// Decoupled weight decay, on matrices only.
    pub weight_decay: f64,
    /// Factor of `|parameters|^2 / 2` in the loss.
    pub ridge: f64,
    /// Longer gradients are shortened to this Euclidean norm.
    pub clip: Option<f64>,
    /// What initial weights and batches are drawn from.
    pub seed: u64,
}

impl Training {
    /// The learning rate of step `step`, from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.learning_rate * (step + 1) as f64 / self.warmup as f64;
        }
        let span = self.steps.saturating_sub(self.warmup).max(1) as f64;
        let done = ((step - self.warmup) as f64 / span).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        self.learning_rate * (self.final_rate + (1.0 - self.final_rate) * cosine)
    }

    pub(crate) fn rule(&self, step: u64) -> Rule {
        Rule {
            optimizer: self.optimizer,
            size: StepSize {
                rate: self.rate(step),
                weight_decay: self.weight_decay,
                step: step + 1,
            },
            ridge: self.ridge,
            clip: self.clip,
        }
    }

    fn problem(&self) -> Option<String> {
        let numbers = [
            ("the learning rate", self.learning_rate),
            ("the final rate", self.final_rate),
            ("the weight decay", self.weight_decay),
            ("the ridge", self.ridge),
            ("the clip", self.clip.unwrap_or(1.0)),
        ];
        let bad = numbers.iter().find(|(_, x)| !(x.is_finite() && *x >= 0.0));
        if let Some((what, x)) = bad {
            return Some(format!(
                "{what} is {x:e}; it should be a number of at least 0"
            ));
        }
        if self.final_rate > 1.0 {
            let rate = self.final_rate;
            return Some(format!(
                "the final rate is {rate:e}; it is a fraction, at most 1"
            ));
        }
        if let Optimizer::Sgd { momentum } = self.optimizer
            && !(0.0..1.0).contains(&momentum)
        {
            return Some(format!(
                "the momentum is {momentum}; it should be at least 0 and less than 1"
            ));
        }
        (self.steps == 0).then(|| "there should be at least one step".into())
    }
}

/// A loss so many times its beginning does not come back.
const DIVERGED: f64 = 1e3;

/// A network being trained.
pub struct Trainer {
    architecture: Architecture,
    training: Training,
    task: Task,
    identity: String,
    learner: Learner<f32>,
    draw: Draw,
    losses: Vec<f64>,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("architecture", &self.architecture)
            .field("training", &self.training)
            .field("steps_done", &self.losses.len())
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// Whether a network can be trained so on a task.
    ///
    /// # Errors
    /// What cannot be, in words.
    pub fn check(
        architecture: &Architecture,
        training: &Training,
        task: &Task,
    ) -> Result<(), LmError> {
        let features = matches!(architecture, Architecture::Features(_));
        if let Some(problem) = architecture.untrainable().or(training.problem()) {
            return Err(LmError::Training(problem));
        }
        if let Some(error) = task.problem(architecture.vocab_size(), features) {
            return Err(error);
        }
        match (architecture, task) {
            (Architecture::Decoder(c), Task::Text { window, .. }) if *window > c.context_length => {
                return Err(LmError::Training(format!(
                    "windows of {window} tokens are longer than the decoder's context of {}",
                    c.context_length
                )));
            }
            (Architecture::Features(c), Task::Contexts { labels, .. })
                if labels.weights.len() != c.contexts =>
            {
                return Err(LmError::Training(format!(
                    "{} contexts for features of {}",
                    labels.weights.len(),
                    c.contexts
                )));
            }
            _ => {}
        }
        Ok(())
    }

    /// A network with its initial weights, drawn from the seed: matrices are normal with variance
    /// 1/inputs (an LSTM's 1/hidden, 2/inputs before rectified units), divided by twice the number of
    /// blocks where outputs add up along a residual stream; a head of its own and unconstrained
    /// features have a tenth of that deviation, so that the first laws are nearly uniform; embeddings
    /// of LSTMs and perceptrons have deviation 1; biases are 0, norms 1.
    ///
    /// # Errors
    /// A shape, a setting or a task that cannot be trained.
    pub fn new(
        architecture: Architecture,
        training: Training,
        task: Task,
    ) -> Result<Self, LmError> {
        Self::check(&architecture, &training, &task)?;
        let moments = training.optimizer.moments();
        let learner = Learner::new(architecture.network(), moments, training.seed);
        Ok(Self {
            identity: identity(&architecture, &training, &task),
            architecture,
            training,
            task,
            learner,
            draw: Draw::new(),
            losses: Vec::new(),
        })
    }

    /// What is trained.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// How it is trained.
    pub fn training(&self) -> &Training {
        &self.training
    }

    /// The SHA-256 of architecture, settings and data: runs with the same one are the same run.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The loss before each step made so far: cross-entropy plus ridge penalty, nats.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// Whether all steps are made.
    pub fn is_finished(&self) -> bool {
        self.losses.len() as u64 >= self.training.steps
    }

    /// Tokens that a step reads.
    pub fn tokens_a_step(&self) -> usize {
        self.task.tokens_a_step()
    }

    /// Floating-point operations of a step's matrix products, attention scores left out.
    pub fn operations_a_step(&self) -> f64 {
        let parameters = self.architecture.parameters() as f64;
        let rows = match (&self.architecture, &self.task) {
            (Architecture::Features(c), _) => {
                return 6.0 * (c.contexts * c.vocab_size * c.dim) as f64;
            }
            _ => self.task.tokens_a_step() as f64,
        };
        6.0 * parameters * rows
    }

    /// Bytes that a step holds, about: parameters, gradient and moments, what the forward pass leaves
    /// for the backward pass, and a block of logits.
    pub fn memory(architecture: &Architecture, training: &Training, task: &Task) -> f64 {
        // What cannot be at all is refused by `new`, with the reason.
        if architecture.problem().is_some() {
            return 0.0;
        }
        let copies = 2 + training.optimizer.moments();
        let floats_a_token = match architecture {
            Architecture::Decoder(c) => {
                let qkv = (c.heads + 2 * c.kv_heads) * c.head_dim;
                let block =
                    4 * c.hidden_size + qkv + c.heads * (c.head_dim + 1) + 3 * c.feed_forward_size;
                (c.layers + 2) * block
            }
            Architecture::Lstm(c) => (8 * c.layers + 6) * c.hidden_size,
            Architecture::Mlp(c) => {
                3 * (c.order * c.embedding_size + c.hidden_sizes.iter().sum::<usize>())
            }
            Architecture::Features(c) => 3 * c.dim,
        };
        let rows = match architecture {
            Architecture::Features(c) => c.contexts,
            _ => task.tokens_a_step(),
        };
        // In f64: sizes that nobody can train should come out as large numbers.
        let logits = rows.min(1024) as f64 * architecture.vocab_size() as f64;
        let weights = copies as f64 * architecture.weights();
        4.0 * (weights + rows as f64 * floats_a_token as f64 + logits)
    }

    /// Makes one step and returns the loss before it; `None` once all steps are made.
    ///
    /// # Errors
    /// A loss that is not finite, or a thousand times what it began with: the run has diverged.
    pub fn step(&mut self) -> Result<Option<f64>, LmError> {
        if self.is_finished() {
            return Ok(None);
        }
        let step = self.losses.len() as u64;
        let features = matches!(self.architecture, Architecture::Features(_));
        self.task
            .draw(self.training.seed, step, features, &mut self.draw);
        let rule = self.training.rule(step);
        let (learner, draw) = (&mut self.learner, &self.draw);
        // On a thread of the pool: from outside each of a step's many parallel loops would have to
        // be handed in and waited for.
        let Loss {
            cross_entropy,
            penalty,
        } = rayon::scope(|_| learner.step(draw.batch(), rule));
        let loss = cross_entropy + penalty;
        let began = self.losses.first().copied().unwrap_or(f64::INFINITY);
        if !loss.is_finite() || loss > DIVERGED * (1.0 + began) {
            return Err(LmError::Diverged {
                loss,
                step: self.losses.len() + 1,
                rate: self.training.learning_rate,
            });
        }
        self.losses.push(loss);
        Ok(Some(loss))
    }

    /// The head's matrix, vocabulary x d.
    pub fn head(&self) -> &RowMatrix<f32> {
        &self.learner.parameters.0[self.learner.network.head()].values
    }

    #[cfg(test)]
    pub(crate) fn learner_parameters(&self) -> &crate::train::parameters::Parameters<f32> {
        &self.learner.parameters
    }

    /// The states of all contexts at the head's input, contexts x d; `None` where running text is
    /// learned.
    pub fn context_states(&mut self) -> Option<RowMatrix<f32>> {
        let Task::Contexts { labels, .. } = &self.task else {
            return None;
        };
        let features = matches!(self.architecture, Architecture::Features(_));
        let all = Task::Contexts {
            labels: labels.clone(),
            batch: None,
        };
        let mut draw = Draw::new();
        all.draw(0, 0, features, &mut draw);
        Some(self.learner.kept_states(draw.batch()))
    }

    /// The loss of whole documents, nats: the sum over all tokens after each document's first, every
    /// one predicted from those before it in windows of `window` tokens that do not overlap.
    ///
    /// # Errors
    /// Unconstrained features, which read no text; a token outside the vocabulary.
    pub fn document_losses(
        &mut self,
        documents: &[Vec<u32>],
        window: usize,
    ) -> Result<Vec<f64>, LmError> {
        const WINDOWS_AT_ONCE: usize = 32;
        if matches!(self.architecture, Architecture::Features(_)) {
            return Err(LmError::Training(
                "unconstrained features read no text".into(),
            ));
        }
        let vocab_size = self.architecture.vocab_size();
        if let Some(t) = documents
            .iter()
            .flatten()
            .find(|&&t| t as usize >= vocab_size)
        {
            return Err(LmError::Training(format!(
                "a document holds token {t}, outside the network's vocabulary of {vocab_size}"
            )));
        }
        let pieces: Vec<(usize, &[u32])> = documents
            .iter()
            .enumerate()
            .flat_map(|(number, tokens)| {
                let last = tokens.len().saturating_sub(1);
                let starts = (0..last).step_by(window.max(1));
                starts.map(move |s| (number, &tokens[s..=(s + window.max(1)).min(last)]))
            })
            .collect();
        let mut losses = vec![0.0; documents.len()];
        for pieces in pieces.chunks(WINDOWS_AT_ONCE) {
            let (mut tokens, mut next, mut windows) = (Vec::new(), Vec::new(), Vec::new());
            for (_, piece) in pieces {
                tokens.extend(&piece[..piece.len() - 1]);
                next.extend(&piece[1..]);
                windows.push(piece.len() - 1);
            }
            let rows = self.learner.cross_entropy(Batch {
                input: Input {
                    tokens: &tokens,
                    windows: &windows,
                },
                kept: None,
                targets: Targets::Tokens(&next),
            });
            let mut rows = rows.iter();
            for ((number, _), &length) in pieces.iter().zip(&windows) {
                let loss: f64 = rows.by_ref().take(length).sum();
                losses[*number] += loss * next.len() as f64;
            }
        }
        Ok(losses)
    }

    /// Writes the state of the run into one file, beside and renamed.
    ///
    /// # Errors
    /// What writing meets.
    pub fn save(&self, path: &Path) -> Result<(), LmError> {
        checkpoint::write_state(path, &self.identity, &self.learner, &self.losses)
    }

    /// Takes the run up from a state that [`save`](Self::save) wrote; the steps that follow are bit
    /// for bit those of a run that was never interrupted. Says whether the file was a state of this
    /// very run; if not, nothing changes.
    ///
    /// # Errors
    /// A file that is there but damaged.
    pub fn restore(&mut self, path: &Path) -> Result<bool, LmError> {
        if !path.exists() {
            return Ok(false);
        }
        let Some(losses) = checkpoint::read_state(path, &self.identity, &mut self.learner)? else {
            return Ok(false);
        };
        self.losses = losses;
        Ok(true)
    }

    /// Writes the network's weights (`model.safetensors`) and shape (`config.json`) into a folder
    /// that [`LanguageModel::open`](crate::LanguageModel::open) reads; a decoder's is a Hugging Face
    /// checkpoint of kind `llama`. `document_end` is the token that stands for the end of a document.
    ///
    /// # Errors
    /// What writing meets; unconstrained features are no language model.
    pub fn write_model(&self, folder: &Path, document_end: Option<u32>) -> Result<(), LmError> {
        checkpoint::write_model(
            folder,
            &self.architecture,
            &self.learner.parameters,
            document_end,
        )
    }
}

fn identity(architecture: &Architecture, training: &Training, task: &Task) -> String {
    // Another version may begin or step differently.
    let plan = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "architecture": architecture,
        "training": training,
        "task": match task {
            Task::Text { batch, window, .. } => serde_json::json!({"batch": batch, "window": window}),
            Task::Contexts { labels, batch } => serde_json::json!({"batch": batch, "order": labels.order}),
        },
    });
    let mut bytes = plan.to_string().into_bytes();
    let mut words = |words: &[u32]| words.iter().for_each(|w| bytes.extend(w.to_le_bytes()));
    match task {
        Task::Text { stream, .. } => words(stream),
        Task::Contexts { labels, .. } => {
            words(&labels.tokens);
            words(labels.laws.indices());
            let numbers = labels.weights.iter().chain(labels.laws.values());
            numbers.for_each(|x| bytes.extend(x.to_le_bytes()));
            let pointers = labels.laws.indptr();
            pointers.iter().for_each(|p| bytes.extend(p.to_le_bytes()));
        }
    }
    sha256_hex(&bytes)
}
