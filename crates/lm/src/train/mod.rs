//! Training of small networks: decoders, LSTMs, multilayer perceptrons, unconstrained features.
//!
//! A [`Trainer`] makes steps; what it does depends on its settings, its data and its seed alone,
//! not on the number of threads, and a run taken up from a saved state goes on bit for bit.
//! Gradients are written by hand, forward and backward side by side in a file, over `f32` and
//! `f64` alike: in `f64` every parameter's is held against finite differences.
//!
//! ```
//! use lawvere_lm::train::{Architecture, MlpConfig, Optimizer, Task, Trainer, Training};
//!
//! // A text that counts to five again and again, and a perceptron that reads one token.
//! let task = Task::Text { stream: (0..200).map(|i| i % 5).collect(), batch: 8, window: 10 };
//! let network = Architecture::Mlp(MlpConfig {
//!     vocab_size: 5,
//!     order: 1,
//!     embedding_size: 8,
//!     hidden_sizes: vec![16],
//! });
//! let training = Training {
//!     steps: 100,
//!     optimizer: Optimizer::ADAMW,
//!     learning_rate: 0.02,
//!     warmup: 5,
//!     final_rate: 0.1,
//!     weight_decay: 0.0,
//!     ridge: 0.0,
//!     clip: Some(1.0),
//!     seed: 0,
//! };
//! let mut trainer = Trainer::new(network, training, task)?;
//! while trainer.step()?.is_some() {}
//! let losses = trainer.losses();
//! assert!(losses[0] > 1.5 && losses[99] < 0.1, "{losses:?}");
//! # Ok::<(), lawvere_lm::LmError>(())
//! ```

mod architecture;
mod checkpoint;
mod decoder;
mod features;
mod layers;
mod learner;
mod loss;
mod lstm;
mod mlp;
mod network;
mod optimizer;
mod parameters;
mod task;
#[cfg(test)]
mod tests;
mod trainer;

pub use architecture::{Architecture, FeaturesConfig, LstmConfig, MlpConfig};
pub use checkpoint::is_state;
pub use optimizer::Optimizer;
pub use task::{SoftLabels, Task};
pub use trainer::{Trainer, Training};

pub(crate) use checkpoint::{LSTM_TYPE, MLP_TYPE};
pub(crate) use network::Input;
pub(crate) use parameters::{Parameters, Spec, Tensor};
