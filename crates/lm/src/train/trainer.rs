//! A training run: steps, their losses, and the state that takes an interrupted run up again.

use std::path::Path;

use lawvere_core::RowMatrix;
use lawvere_token::sha256_hex;
use serde::{Deserialize, Serialize};

use crate::LmError;
use crate::train::Architecture;
use crate::train::checkpoint;
use crate::train::learner::{Learner, Loss, Rule};
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
            return Some(format!("{what} is {x}; it should be at least 0"));
        }
        (self.steps == 0).then(|| "there should be at least one step".into())
    }
}

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
    /// A network with its initial weights. They are drawn from the seed: normal with variance
    /// 1/inputs (2/inputs before rectified units), divided by twice the number of blocks where
    /// outputs add up along a residual stream; the head's a tenth of that deviation, so that the
    /// first laws are nearly uniform; biases 0, norms 1.
    ///
    /// # Errors
    /// A shape, a setting or a task that cannot be trained.
    pub fn new(
        architecture: Architecture,
        training: Training,
        task: Task,
    ) -> Result<Self, LmError> {
        let features = matches!(architecture, Architecture::Features(_));
        if let Some(problem) = architecture.problem().or(training.problem()) {
            return Err(LmError::Training(problem));
        }
        if let Some(error) = task.problem(architecture.vocab_size(), features) {
            return Err(error);
        }
        match (&architecture, &task) {
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

    /// Makes one step and returns the loss before it; `None` once all steps are made.
    ///
    /// # Errors
    /// A loss that is not finite: the run has diverged.
    pub fn step(&mut self) -> Result<Option<f64>, LmError> {
        if self.is_finished() {
            return Ok(None);
        }
        let step = self.losses.len() as u64;
        let features = matches!(self.architecture, Architecture::Features(_));
        self.task
            .draw(self.training.seed, step, features, &mut self.draw);
        let rule = self.training.rule(step);
        let Loss {
            cross_entropy,
            penalty,
        } = self.learner.step(self.draw.batch(), rule);
        let loss = cross_entropy + penalty;
        if !loss.is_finite() {
            return Err(LmError::Training(format!(
                "the loss is {loss} at step {}: the run has diverged; take a smaller learning rate than {}, or a shorter gradient",
                step + 1,
                self.training.learning_rate
            )));
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
    let plan = serde_json::json!({"architecture": architecture, "training": training});
    let mut bytes = plan.to_string().into_bytes();
    let mut words = |words: &[u32]| words.iter().for_each(|w| bytes.extend(w.to_le_bytes()));
    match task {
        Task::Text {
            stream,
            batch,
            window,
        } => {
            words(stream);
            words(&[*batch as u32, *window as u32]);
        }
        Task::Contexts { labels, batch } => {
            words(&labels.tokens);
            words(&[labels.order as u32, batch.unwrap_or(0) as u32]);
            words(labels.laws.indices());
            let numbers = labels.weights.iter().chain(labels.laws.values());
            numbers.for_each(|x| bytes.extend(x.to_le_bytes()));
            let pointers = labels.laws.indptr();
            pointers.iter().for_each(|p| bytes.extend(p.to_le_bytes()));
        }
    }
    sha256_hex(&bytes)
}
