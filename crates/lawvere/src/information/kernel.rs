use std::path::Path;

use lawvere_core::stoch::{Distribution, Divergence, FiniteKernel};
use serde::Serialize;

use crate::RunError;
use crate::arrays::{MatrixFile, Precision, read_vector};
use crate::origin::Origin;

/// Categorical entropies of a finite kernel, and the mutual information of its input and outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelReport {
    /// The divergence by its name.
    pub divergence: String,
    /// Inputs.
    pub inputs: usize,
    /// Outcomes.
    pub outcomes: usize,
    /// The categorical entropy of every row.
    pub per_row: Vec<f64>,
    /// Their mean under the state.
    pub mean: f64,
    /// `D(p_XY || p_X (x) p_Y)` of the joint state.
    pub mutual_information: f64,
    /// What it rests on.
    pub source: Origin,
}

/// How far from 1 sums may be, and are then made 1: of numbers stored in f32 and in f64.
const TOLERANCE: (f64, f64) = (1e-6, 1e-9);

/// Reads a row-stochastic matrix and a state over its rows (uniform without a file) and computes
/// categorical entropies and mutual information of one divergence, nats.
///
/// # Errors
/// A file that is no matrix of numbers; negative entries, NaN, rows or a state that do not sum to 1, a state
/// of another length than the matrix has rows.
pub fn kernel_entropies(
    kernel: &Path,
    state: Option<&Path>,
    divergence: Divergence,
) -> Result<KernelReport, RunError> {
    let bad = |path: &Path| {
        let path = path.to_path_buf();
        move |error: lawvere_core::stoch::StochError| RunError::Input {
            path: path.clone(),
            what: error.to_string(),
        }
    };
    let file = MatrixFile::read(kernel)?;
    let matrix = file.matrix.into_dense(kernel)?;
    let k = FiniteKernel::within(matrix, tolerance(file.precision)).map_err(bad(kernel))?;
    let mut paths = vec![kernel];
    let state = match state {
        None => {
            Distribution::new(vec![1.0 / k.inputs() as f64; k.inputs()]).map_err(bad(kernel))?
        }
        Some(path) => {
            paths.push(path);
            let (values, precision) = read_vector(path)?;
            if values.len() != k.inputs() {
                return Err(RunError::Input {
                    path: path.to_path_buf(),
                    what: format!(
                        "{} probabilities, but {} has {} rows",
                        values.len(),
                        kernel.display(),
                        k.inputs()
                    ),
                });
            }
            Distribution::within(values, tolerance(precision)).map_err(bad(path))?
        }
    };
    let entropies = k
        .categorical_entropy(divergence, &state)
        .map_err(bad(kernel))?;
    let joint = k.joint(&state).map_err(bad(kernel))?;
    Ok(KernelReport {
        divergence: divergence.to_string(),
        inputs: k.inputs(),
        outcomes: k.outcomes(),
        per_row: entropies.per_row,
        mean: entropies.mean,
        mutual_information: joint.mutual_information(divergence).map_err(bad(kernel))?,
        source: Origin::files("matrix", &paths)?,
    })
}

fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::Single => TOLERANCE.0,
        Precision::Double => TOLERANCE.1,
    }
}
