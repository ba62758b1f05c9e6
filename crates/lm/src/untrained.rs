//! Weights as they are before training.

use lawvere_token::sha256_hex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

use crate::error::LmError;
use crate::safetensors::name;
use crate::weights::{Part, Role, TensorSource};

/// The deviation of the Llama family's matrices where nothing else is stated.
const DEVIATION: f64 = 0.02;

/// What tells weights drawn from `seed` from a checkpoint's own, in names for people.
pub(crate) fn note(seed: u64) -> String {
    format!(" (untrained, seed {seed})")
}

/// The identity of a checkpoint's network with weights drawn from `seed`.
pub(crate) fn identity(checkpoint: &str, seed: u64) -> String {
    sha256_hex(format!("untrained {seed} {checkpoint}").as_bytes())
}

/// A decoder's tensors before training: norms of 1, biases of 0, matrices of independent normal values.
pub(crate) struct Redrawn {
    seed: u64,
    deviation: f64,
}

impl Redrawn {
    /// Weights drawn from `seed` with this deviation, or the family's.
    pub fn new(seed: u64, deviation: Option<f64>) -> Self {
        let deviation = deviation.unwrap_or(DEVIATION);
        Self { seed, deviation }
    }
}

impl TensorSource for Redrawn {
    fn take(&mut self, role: Role, part: Part, shape: &[usize]) -> Result<Vec<f32>, LmError> {
        let length: usize = shape.iter().product();
        Ok(match role {
            _ if part == Part::Bias => vec![0.0; length],
            norm if norm.is_norm() => vec![1.0; length],
            // Each tensor has a sequence of its own, so that the order of loading does not matter.
            matrix => {
                let hash = sha256_hex(format!("{} {}", self.seed, name(matrix)).as_bytes());
                let mut start = [0; 32];
                start.copy_from_slice(&hash.as_bytes()[..32]);
                let mut rng = StdRng::from_seed(start);
                let normal = StandardNormal.sample_iter(&mut rng).take(length);
                normal.map(|x: f64| (self.deviation * x) as f32).collect()
            }
        })
    }

    fn finish(self) -> Result<(), LmError> {
        Ok(())
    }
}
