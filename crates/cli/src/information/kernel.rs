use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use lawvere::RunError;
use lawvere::core::stoch::Divergence;
use lawvere::information::kernel_entropies;

use super::{answer, tables};
use crate::args::Global;

/// Categorical entropies of a row-stochastic matrix, and the mutual information of input and outcome
#[derive(Args)]
pub struct KernelArgs {
    /// A matrix whose rows are laws (inputs x outcomes): .npy, .npz or .safetensors
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// The law of the inputs: .npy or .safetensors [default: uniform]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// kl, reverse-kl, tv, hellinger, chi2, js or renyi:A with A in [0, inf]
    #[arg(long, default_value = "kl")]
    divergence: Divergence,
}

impl KernelArgs {
    pub fn run(&self, global: &Global) -> Result<String, RunError> {
        let start = Instant::now();
        let found = kernel_entropies(&self.kernel, self.state.as_deref(), self.divergence)?;
        answer(&found, global, start, tables::kernel)
    }
}
