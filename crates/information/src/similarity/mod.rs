//! Similarity of what is predicted after contexts: kernels of laws, their operators, and the states against
//! them.

mod kernel;
mod laws;
mod operator;

pub use kernel::SimilarityKernel;
pub use operator::SimilarityOperator;

use lawvere_core::RowMatrix;
use lawvere_core::linalg::symmetric_eigen;
use lawvere_observe::Observation;
use serde::Serialize;

use crate::InformationError;
use crate::layers::{Readout, need_contexts};
use laws::{Laws, overlaps};

/// What [`similarity`] looks at.
#[derive(Debug, Clone)]
pub struct SimilarityOptions {
    /// The kernel.
    pub kernel: SimilarityKernel,
    /// Leading eigenvalues.
    pub rank: usize,
    /// At most so many contexts; of more, so many are drawn without replacement and keep their weights.
    pub contexts: usize,
    /// Landmarks of the Nystrom approximation, for the kernels made of Jensen-Shannon divergences.
    pub landmarks: usize,
    /// Random choices start from it.
    pub seed: u64,
}

impl Default for SimilarityOptions {
    fn default() -> Self {
        Self {
            kernel: SimilarityKernel::Bhattacharyya,
            rank: 32,
            contexts: 8192,
            landmarks: 128,
            seed: 0,
        }
    }
}

/// Whose laws are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// The corpus's (or the exact ones).
    Data,
    /// The model's, read out of the head's input.
    Model,
}

/// The spectrum of one kernel's operator, and how rough the states are against it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Similarity {
    /// The spectrum.
    #[serde(flatten)]
    pub spectrum: SimilaritySpectrum,
    /// Dirichlet energies of the states, layer by layer.
    pub energies: Vec<LayerEnergy>,
    /// The Observation's rows that the operator is of.
    #[serde(skip)]
    pub rows: Vec<usize>,
}

/// The leading eigenvalues of `Pi^{1/2} K Pi^{1/2}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimilaritySpectrum {
    /// The kernel.
    pub kernel: SimilarityKernel,
    /// Whose laws.
    pub whose: Whose,
    /// Contexts that the operator is of.
    pub contexts: usize,
    /// Landmarks, where it is approximated by Nystrom's method; `None` where it is exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub landmarks: Option<usize>,
    /// Leading eigenvalues, decreasing.
    pub eigenvalues: Vec<f64>,
    /// The trace: `sum pi_x K(x, x)`.
    pub trace: f64,
    /// The share of the trace that the operator has as it was made: 1 where it is exact, less by what
    /// landmarks miss.
    pub captured: f64,
    /// The eigenvalue equation's largest residual over the largest eigenvalue; `None` of an approximation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residual: Option<f64>,
    /// Leading eigenvectors, contexts x rank, orthonormal: functions of contexts times the roots of their
    /// weights.
    #[serde(skip)]
    pub eigenvectors: RowMatrix<f64>,
}

/// Dirichlet energies `1/2 sum pi_x pi_x' K(x, x') (f(x) - f(x'))^2` of a layer's states.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerEnergy {
    /// The layer.
    pub layer: usize,
    /// Of every whitened direction f of the states (variance 1), by decreasing variance in the layer.
    pub energies: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// The mean with states dealt to contexts at random, over five deals and at most 64 directions of each, drawn
    /// at random.
    pub shuffled: f64,
    /// The standard deviation of that over deals, the choice of directions in it.
    pub shuffled_deviation: f64,
}

/// The leading spectrum of a [`SimilarityOperator`] and the Dirichlet energies of every kept layer's states.
///
/// Cost and memory: [`SimilarityOperator::new`], [`SimilarityOperator::spectrum`],
/// [`SimilarityOperator::energies`].
///
/// # Errors
/// Those of the three.
pub fn similarity(
    observation: &Observation,
    whose: Whose,
    options: &SimilarityOptions,
) -> Result<Similarity, InformationError> {
    let operator = SimilarityOperator::new(observation, whose, options)?;
    Ok(Similarity {
        spectrum: operator.spectrum(options.rank, options.seed)?,
        energies: operator.energies(observation, options.seed)?,
        rows: operator.into_rows(),
    })
}

/// Similarities of some contexts, for a picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimilarityMap {
    /// The kernel.
    pub kernel: SimilarityKernel,
    /// The Observation's rows, similar ones beside each other.
    pub rows: Vec<usize>,
    /// K(x, x') of the model's laws, in the order of `rows`.
    pub model: Vec<Vec<f64>>,
    /// The same of the data's.
    pub data: Vec<Vec<f64>>,
}

/// The similarities of the `contexts` heaviest contexts under an overlap kernel, model beside data, ordered by
/// the second eigenvector of the model's.
///
/// Cost: a pass through the head for these contexts, and contexts^2 times the vocabulary.
///
/// # Errors
/// An Observation of positions or without a model; a kernel made of Jensen-Shannon divergences; fewer than
/// 2 contexts.
pub fn similarity_map(
    observation: &Observation,
    kernel: SimilarityKernel,
    contexts: usize,
) -> Result<SimilarityMap, InformationError> {
    need_contexts(observation, "predictive similarity")?;
    if kernel.needs_divergence() {
        return Err(InformationError::argument(
            "similarity",
            format!("a map of {kernel} is not made; take an overlap kernel"),
        ));
    }
    let mut rows: Vec<usize> = (0..observation.rows()).collect();
    rows.sort_by(|&a, &b| {
        let (a_weight, b_weight) = (observation.weights[a], observation.weights[b]);
        b_weight.total_cmp(&a_weight).then(a.cmp(&b))
    });
    rows.truncate(contexts);
    if rows.len() < 2 {
        return Err(InformationError::TooFew {
            what: "a similarity of contexts",
            of: "contexts",
            needed: 2,
            found: rows.len(),
        });
    }
    let ones = vec![1.0; rows.len()];
    let readout = Readout::of(observation, None)?;
    let by_model = overlaps(&Laws::Model(&readout, &rows), kernel, &ones)?;
    let eigen = symmetric_eigen(by_model.view())?;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let place = |i: usize| eigen.vectors.get(1, i);
    order.sort_by(|&a, &b| place(a).total_cmp(&place(b)).then(a.cmp(&b)));
    let laws = observation.laws();
    let by_data = overlaps(&Laws::Data(&laws, &rows), kernel, &ones)?;
    let ordered = |matrix: &RowMatrix<f64>| -> Vec<Vec<f64>> {
        let row = |&i: &usize| order.iter().map(|&j| matrix.get(i, j)).collect();
        order.iter().map(row).collect()
    };
    Ok(SimilarityMap {
        kernel,
        model: ordered(&by_model),
        data: ordered(&by_data),
        rows: order.iter().map(|&i| rows[i]).collect(),
    })
}
