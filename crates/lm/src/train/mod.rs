//! Training of small networks: decoders, LSTMs, multilayer perceptrons, unconstrained features.
//!
//! A [`Trainer`] makes steps; what it does depends on its settings, its data and its seed alone,
//! not on the number of threads, and a run taken up from a saved state goes on bit for bit.
//! Gradients are written by hand, forward and backward side by side in a file, over `f32` and
//! `f64` alike: in `f64` every parameter's is held against finite differences.

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
pub use optimizer::Optimizer;
pub use task::{SoftLabels, Task};
pub use trainer::{Trainer, Training};

pub(crate) use checkpoint::{LSTM_TYPE, MLP_TYPE};
pub(crate) use network::Input;
pub(crate) use parameters::Parameters;
