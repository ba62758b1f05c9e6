use std::fmt;
use std::str::FromStr;

use lawvere_core::linalg::{ColumnSpace, LinearOperator, matmul, symmetric_eigen, truncated_svd};
use lawvere_core::vector::vectorised;
use lawvere_core::{RowMatrix, ShapeError, SparseRows, sum};
use lawvere_observe::Observation;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Serialize, Serializer};

use crate::InformationError;
use crate::alignment::centred;
use crate::distances::compare_sparse;
use crate::layers::{Readout, need_contexts, raw_states};
use crate::pass::mean_and_deviation;

/// A positive semidefinite similarity of laws.
///
/// `exp(-beta TV^2)` is not among them: it is not positive semidefinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SimilarityKernel {
    /// `sum sqrt(p q)`.
    Bhattacharyya,
    /// `exp(-beta H^2)`, H the Hellinger distance.
    Hellinger(f64),
    /// `sum p q`.
    ExpectedLikelihood,
    /// `log 2 - JS`, nats.
    JensenShannon,
    /// `exp(-beta JS)`.
    ExpJensenShannon(f64),
}

impl SimilarityKernel {
    /// All of them, with this beta.
    pub fn all(beta: f64) -> [Self; 5] {
        [
            Self::Bhattacharyya,
            Self::Hellinger(beta),
            Self::ExpectedLikelihood,
            Self::JensenShannon,
            Self::ExpJensenShannon(beta),
        ]
    }

    fn needs_divergence(self) -> bool {
        matches!(self, Self::JensenShannon | Self::ExpJensenShannon(_))
    }

    /// The kernel, from the overlap `sum sqrt(pq)` (or `sum pq`) or the Jensen-Shannon divergence.
    fn of(self, value: f64) -> f64 {
        match self {
            Self::Bhattacharyya | Self::ExpectedLikelihood => value,
            Self::Hellinger(beta) => (-beta * (1.0 - value).max(0.0)).exp(),
            Self::JensenShannon => (2f64.ln() - value).max(0.0),
            Self::ExpJensenShannon(beta) => (-beta * value).exp(),
        }
    }
}

impl FromStr for SimilarityKernel {
    type Err = InformationError;

    /// `bhattacharyya`, `hellinger`, `expected-likelihood`, `jensen-shannon`, `exp-jensen-shannon`; beta,
    /// 1 unless it is named, after a colon.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || {
            InformationError::argument(
                "similarity",
                format!(
                    "`{text}` is not known; known are bhattacharyya, hellinger[:BETA], expected-likelihood, jensen-shannon and exp-jensen-shannon[:BETA]"
                ),
            )
        };
        let (name, beta) = match text.split_once(':') {
            Some((name, beta)) => (name, Some(beta.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        let kernel = match (name, beta) {
            ("bhattacharyya", None) => Self::Bhattacharyya,
            ("hellinger", beta) => Self::Hellinger(beta.unwrap_or(1.0)),
            ("expected-likelihood", None) => Self::ExpectedLikelihood,
            ("jensen-shannon", None) => Self::JensenShannon,
            ("exp-jensen-shannon", beta) => Self::ExpJensenShannon(beta.unwrap_or(1.0)),
            _ => return Err(unknown()),
        };
        check_beta(kernel)?;
        Ok(kernel)
    }
}

fn check_beta(kernel: SimilarityKernel) -> Result<(), InformationError> {
    match kernel {
        SimilarityKernel::Hellinger(beta) | SimilarityKernel::ExpJensenShannon(beta)
            if !(beta > 0.0 && beta.is_finite()) =>
        {
            Err(InformationError::argument(
                "beta",
                format!("{beta}: it must be a number above 0"),
            ))
        }
        _ => Ok(()),
    }
}

impl fmt::Display for SimilarityKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bhattacharyya => f.write_str("bhattacharyya"),
            Self::Hellinger(beta) => write!(f, "hellinger (beta {beta})"),
            Self::ExpectedLikelihood => f.write_str("expected likelihood"),
            Self::JensenShannon => f.write_str("jensen-shannon"),
            Self::ExpJensenShannon(beta) => write!(f, "exp jensen-shannon (beta {beta})"),
        }
    }
}

impl Serialize for SimilarityKernel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

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

/// The operator `Pi^{1/2} K Pi^{1/2}` of one kernel, and how rough the states are against it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Similarity {
    /// The kernel.
    pub kernel: SimilarityKernel,
    /// Whose laws.
    pub whose: Whose,
    /// Contexts that the operator is of.
    pub contexts: usize,
    /// The Observation's rows that they are.
    #[serde(skip)]
    pub rows: Vec<usize>,
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
    /// Dirichlet energies of the states, layer by layer.
    pub energies: Vec<LayerEnergy>,
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
    /// The mean with states dealt to contexts at random, over five deals.
    pub shuffled: f64,
    /// The standard deviation of that over deals.
    pub shuffled_deviation: f64,
}

/// Memory that a stretch of laws may take, in numbers.
const STRETCH: usize = 1 << 25;
/// Singular values of states below this share of the largest are float32's noise.
const NOTHING: f64 = 1e-6;
/// Times states are dealt to contexts for the control.
const DEALS: usize = 5;
/// How exact leading eigenvalues are asked to be.
const TOLERANCE: f64 = 1e-8;

/// Similarity of what is predicted after contexts: the leading spectrum of `Pi^{1/2} K Pi^{1/2}` and the
/// Dirichlet energies of every kept layer's states.
///
/// Overlaps (the first three kernels) are exact Gram matrices of laws or their roots, made stretch by
/// stretch: contexts x vocabulary is never formed. Jensen-Shannon kernels are approximated by Nystrom's
/// method with landmarks drawn without replacement.
///
/// Cost: overlaps of a model take contexts^2 x vocabulary products and the head's pass several times
/// over; landmarks x contexts x vocabulary logarithms for the others. Memory: contexts^2 numbers and a
/// stretch of laws of 128 MiB.
///
/// *Source:* arXiv 2507.19247, predictive similarity; Jebara, Kondor, Howard, *Probability product kernels*
/// (2004); Williams, Seeger, *Using the Nystrom method to speed up kernel machines* (2001); positive
/// definiteness: Fuglede, Topsoe, *Jensen-Shannon divergence and Hilbert space embedding* (2004).
///
/// # Errors
/// An Observation of positions, or without a model where the model's laws are asked for; fewer than 2
/// contexts; a beta that is not positive, no rank, no landmarks.
pub fn similarity(
    observation: &Observation,
    whose: Whose,
    options: &SimilarityOptions,
) -> Result<Similarity, InformationError> {
    need_contexts(observation, "predictive similarity")?;
    check(observation, options)?;
    let rows = chosen(observation, options);
    let mut weights: Vec<f64> = rows.iter().map(|&r| observation.weights[r]).collect();
    let total = sum(weights.iter().copied());
    weights.iter_mut().for_each(|w| *w /= total);
    let readout = match whose {
        Whose::Model => Some(Readout::of(observation, None)?),
        Whose::Data => None,
    };
    let laws = observation.laws();
    let source = match &readout {
        Some(readout) => Laws::Model(readout, &rows),
        None => Laws::Data(&laws, &rows),
    };
    let operator = match options.kernel.needs_divergence() {
        false => Operator::Exact(gram(&source, options.kernel, &weights)?),
        true => nystrom(&source, options, &weights)?,
    };
    let spectrum = operator.spectrum(options)?;
    Ok(Similarity {
        kernel: options.kernel,
        whose,
        contexts: rows.len(),
        landmarks: match &operator {
            Operator::Exact(_) => None,
            Operator::Factor { landmarks, .. } => Some(*landmarks),
        },
        energies: energies(observation, &operator, &rows, &weights, options.seed)?,
        eigenvalues: spectrum.values,
        trace: operator.trace(),
        captured: operator.captured(),
        residual: spectrum.residual,
        eigenvectors: spectrum.vectors,
        rows,
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
    let by_model = gram(&Laws::Model(&readout, &rows), kernel, &ones)?;
    let eigen = symmetric_eigen(by_model.view())?;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let place = |i: usize| eigen.vectors.get(1, i);
    order.sort_by(|&a, &b| place(a).total_cmp(&place(b)).then(a.cmp(&b)));
    let laws = observation.laws();
    let by_data = gram(&Laws::Data(&laws, &rows), kernel, &ones)?;
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

fn check(observation: &Observation, options: &SimilarityOptions) -> Result<(), InformationError> {
    let contexts = observation.rows().min(options.contexts);
    if contexts < 2 {
        return Err(InformationError::TooFew {
            what: "a similarity of contexts",
            of: "contexts",
            needed: 2,
            found: contexts,
        });
    }
    check_beta(options.kernel)?;
    for (name, value) in [("rank", options.rank), ("landmarks", options.landmarks)] {
        if value == 0 {
            return Err(InformationError::argument(name, "it must be at least 1"));
        }
    }
    Ok(())
}

/// All rows, or so many drawn without replacement, in order.
fn chosen(observation: &Observation, options: &SimilarityOptions) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..observation.rows()).collect();
    rows.retain(|&row| observation.weights[row] > 0.0);
    if rows.len() > options.contexts {
        rows.shuffle(&mut StdRng::seed_from_u64(options.seed));
        rows.truncate(options.contexts);
        rows.sort_unstable();
    }
    rows
}

/// Laws of chosen rows.
enum Laws<'a> {
    Data(&'a SparseRows<f64>, &'a [usize]),
    Model(&'a Readout<'a>, &'a [usize]),
}

impl Laws<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Data(_, rows) | Self::Model(_, rows) => rows.len(),
        }
    }
}

/// The dense laws of rows of a model, or what `root` makes of them.
fn dense(
    readout: &Readout<'_>,
    rows: &[usize],
    root: bool,
    mut visit: impl FnMut(usize, &RowMatrix<f32>),
) -> Result<(), InformationError> {
    let states = RowMatrix::from_fn(rows.len(), readout.states.ncols(), |i, k| {
        readout.states.get(rows[i], k)
    });
    let mut roots = RowMatrix::zeros(0, 0);
    readout
        .head
        .for_each_log_prob_block::<ShapeError>(&states, |block| {
            if !root {
                visit(block.first_row, block.probs);
                return Ok(());
            }
            if roots.nrows() != block.probs.nrows() {
                roots = RowMatrix::zeros(block.probs.nrows(), block.probs.ncols());
            }
            roots
                .data_mut()
                .par_chunks_mut(4096)
                .zip(block.probs.data().par_chunks(4096))
                .for_each(|(out, p)| out.iter_mut().zip(p).for_each(|(o, p)| *o = p.sqrt()));
            visit(block.first_row, &roots);
            Ok(())
        })?;
    Ok(())
}

/// `Pi^{1/2} K Pi^{1/2}` of an overlap kernel.
fn gram(
    laws: &Laws<'_>,
    kernel: SimilarityKernel,
    weights: &[f64],
) -> Result<RowMatrix<f64>, InformationError> {
    let n = laws.len();
    let root = kernel != SimilarityKernel::ExpectedLikelihood;
    let mut overlap = RowMatrix::<f64>::zeros(n, n);
    match laws {
        Laws::Data(laws, rows) => {
            let values: Vec<Vec<f64>> = (0..n)
                .into_par_iter()
                .map(|i| {
                    let left = laws.row(rows[i]);
                    (0..=i)
                        .map(|j| {
                            let right = laws.row(rows[j]);
                            match root {
                                true => compare_sparse(left, right).1,
                                false => product_sparse(left, right),
                            }
                        })
                        .collect()
                })
                .collect();
            for (i, row) in values.iter().enumerate() {
                overlap.row_mut(i)[..=i].copy_from_slice(row);
            }
        }
        Laws::Model(readout, rows) => {
            let vocab = readout.head.vocab_size();
            let stretch = (STRETCH / vocab.max(1)).max(16).min(n);
            for first in (0..n).step_by(stretch) {
                let here = &rows[first..(first + stretch).min(n)];
                let mut held = RowMatrix::<f32>::zeros(here.len(), vocab);
                dense(readout, here, root, |at, block| {
                    for (i, row) in block.rows().enumerate() {
                        held.row_mut(at + i).copy_from_slice(row);
                    }
                })?;
                // The rows of this stretch and those after it: each pair once.
                dense(readout, &rows[first..], root, |at, block| {
                    let mut part = RowMatrix::<f32>::zeros(block.nrows(), held.nrows());
                    matmul(part.view_mut(), block.view(), held.view().transpose());
                    for (i, row) in part.rows().enumerate() {
                        let out = &mut overlap.row_mut(first + at + i)[first..first + here.len()];
                        out.iter_mut()
                            .zip(row)
                            .for_each(|(o, &x)| *o = f64::from(x));
                    }
                })?;
            }
        }
    }
    let diagonal: Vec<f64> = (0..n).map(|i| overlap.get(i, i)).collect();
    let entry = |i: usize, j: usize| {
        let value = overlap.get(i.max(j), i.min(j));
        // Roots of float32 laws have length 1 to rounding.
        let value = match root {
            true => value / (diagonal[i] * diagonal[j]).sqrt(),
            false => value,
        };
        (weights[i] * weights[j]).sqrt() * kernel.of(value)
    };
    Ok(RowMatrix::from_fn(n, n, entry))
}

fn product_sparse(a: (&[u32], &[f64]), b: (&[u32], &[f64])) -> f64 {
    let (mut i, mut j, mut total) = (0, 0, 0.0);
    while i < a.0.len() && j < b.0.len() {
        match a.0[i].cmp(&b.0[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                total += a.1[i] * b.1[j];
                (i, j) = (i + 1, j + 1);
            }
        }
    }
    total
}

/// `Pi^{1/2} K Pi^{1/2}`, or a factor F of its approximation `F F^T`.
enum Operator {
    Exact(RowMatrix<f64>),
    Factor {
        factor: RowMatrix<f64>,
        /// `sum pi_x K(x, x)`, of the kernel itself.
        trace: f64,
        landmarks: usize,
    },
}

struct Spectrum {
    values: Vec<f64>,
    vectors: RowMatrix<f64>,
    residual: Option<f64>,
}

impl Operator {
    fn trace(&self) -> f64 {
        match self {
            Self::Exact(k) => sum((0..k.nrows()).map(|i| k.get(i, i))),
            Self::Factor { trace, .. } => *trace,
        }
    }

    fn captured(&self) -> f64 {
        match self {
            Self::Exact(_) => 1.0,
            Self::Factor { factor, trace, .. } => sum(factor.data().iter().map(|x| x * x)) / trace,
        }
    }

    fn spectrum(&self, options: &SimilarityOptions) -> Result<Spectrum, InformationError> {
        match self {
            Self::Exact(k) => {
                let svd = truncated_svd(k, options.rank, TOLERANCE, options.seed)?;
                let largest = svd.singular_values.first().copied().unwrap_or(1.0);
                Ok(Spectrum {
                    residual: Some(svd.residual / largest),
                    values: svd.singular_values,
                    vectors: svd.u,
                })
            }
            Self::Factor { factor, .. } => {
                let space = ColumnSpace::of(factor, 0.0)?;
                let rank = options.rank.min(space.rank());
                Ok(Spectrum {
                    values: space.singular_values[..rank]
                        .iter()
                        .map(|s| s * s)
                        .collect(),
                    vectors: RowMatrix::from_fn(factor.nrows(), rank, |i, k| space.basis.get(i, k)),
                    residual: None,
                })
            }
        }
    }

    fn apply(&self, x: &RowMatrix<f64>) -> RowMatrix<f64> {
        match self {
            Self::Exact(k) => k.apply(x),
            Self::Factor { factor, .. } => factor.apply(&factor.apply_transpose(x)),
        }
    }
}

/// Nystrom's approximation: `K ~ C W^+ C^T`, C the kernel against landmarks and W among them.
fn nystrom(
    laws: &Laws<'_>,
    options: &SimilarityOptions,
    weights: &[f64],
) -> Result<Operator, InformationError> {
    let n = laws.len();
    let mut landmarks: Vec<usize> = match n <= options.landmarks {
        true => (0..n).collect(),
        false => {
            let mut all: Vec<usize> = (0..n).collect();
            all.shuffle(&mut StdRng::seed_from_u64(options.seed));
            all.truncate(options.landmarks);
            all
        }
    };
    landmarks.sort_unstable();
    let divergences = against(laws, &landmarks)?;
    let kernel = options.kernel;
    let columns = divergences.map(|js| kernel.of(js));
    let among = RowMatrix::from_fn(landmarks.len(), landmarks.len(), |a, b| {
        columns.get(landmarks[a], b)
    });
    let eigen = symmetric_eigen(among.view())?;
    let least = 1e-9 * eigen.values.first().copied().unwrap_or(0.0);
    let kept = eigen.values.iter().take_while(|&&l| l > least).count();
    let inverse_root = RowMatrix::from_fn(landmarks.len(), kept, |a, k| {
        eigen.vectors.get(k, a) / eigen.values[k].sqrt()
    });
    let mut factor = columns.apply(&inverse_root);
    for (i, w) in weights.iter().enumerate() {
        factor.row_mut(i).iter_mut().for_each(|x| *x *= w.sqrt());
    }
    Ok(Operator::Factor {
        factor,
        trace: kernel.of(0.0),
        landmarks: landmarks.len(),
    })
}

/// Jensen-Shannon divergences of every law with every landmark, n x landmarks.
fn against(laws: &Laws<'_>, landmarks: &[usize]) -> Result<RowMatrix<f64>, InformationError> {
    let n = laws.len();
    let mut out = RowMatrix::zeros(n, landmarks.len());
    match laws {
        Laws::Data(laws, rows) => {
            out.data_mut()
                .par_chunks_mut(landmarks.len())
                .enumerate()
                .for_each(|(i, out)| {
                    for (out, &l) in out.iter_mut().zip(landmarks) {
                        *out = jensen_shannon_sparse(laws.row(rows[i]), laws.row(rows[l]));
                    }
                });
        }
        Laws::Model(readout, rows) => {
            let vocab = readout.head.vocab_size();
            let chosen: Vec<usize> = landmarks.iter().map(|&l| rows[l]).collect();
            let mut held = RowMatrix::<f32>::zeros(chosen.len(), vocab);
            dense(readout, &chosen, false, |at, block| {
                for (i, row) in block.rows().enumerate() {
                    held.row_mut(at + i).copy_from_slice(row);
                }
            })?;
            let own: Vec<f64> = held.rows().map(negative_entropy).collect();
            dense(readout, rows, false, |at, block| {
                let width = landmarks.len();
                let parts = out.row_range_mut(at..at + block.nrows());
                parts
                    .par_chunks_mut(width)
                    .enumerate()
                    .for_each(|(i, out)| {
                        let law = block.row(i);
                        let here = negative_entropy(law);
                        for ((out, other), there) in out.iter_mut().zip(held.rows()).zip(&own) {
                            let middle = negative_entropy_of_mean(law, other);
                            *out = (0.5 * (here + there) - middle).max(0.0);
                        }
                    });
            })?;
        }
    }
    Ok(out)
}

fn jensen_shannon_sparse(a: (&[u32], &[f64]), b: (&[u32], &[f64])) -> f64 {
    let half = |p: f64, q: f64| lawvere_core::stoch::kl_term(p, 0.5 * (p + q));
    let (mut i, mut j, mut total) = (0, 0, 0.0);
    while i < a.0.len() || j < b.0.len() {
        let (left, right) = (a.0.get(i), b.0.get(j));
        let (p, q) = match (left, right) {
            (Some(x), Some(y)) if x == y => (a.1[i], b.1[j]),
            (Some(x), y) if y.is_none_or(|y| x < y) => (a.1[i], 0.0),
            _ => (0.0, b.1[j]),
        };
        total += half(p, q) + half(q, p);
        i += usize::from(p > 0.0);
        j += usize::from(q > 0.0);
    }
    (0.5 * total).max(0.0)
}

/// `x log x` by a polynomial for the logarithm's mantissa, f32 in and out, exact to 2e-7 relative of the
/// logarithm: what the vector unit can do without calling a library for each number.
#[inline(always)]
fn x_log_x(x: f32) -> f32 {
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    // The mantissa in [sqrt(1/2), sqrt(2)).
    let shifted = bits.wrapping_sub(0x3f35_04f3);
    let exponent = (shifted as i32 >> 23) as f32;
    let m = f32::from_bits((shifted & 0x007f_ffff) + 0x3f35_04f3) - 1.0;
    let s = m / (2.0 + m);
    let z = s * s;
    // log(1 + m) = 2 atanh(s), |s| < 0.1716.
    let series = 2.0 * s * (1.0 + z * (1.0 / 3.0 + z * (0.2 + z * (1.0 / 7.0 + z / 9.0))));
    x * (exponent * std::f32::consts::LN_2 + series)
}

/// `sum f(i)` of f32 terms in stretches of 512 over sixteen lanes.
#[inline(always)]
fn summed(n: usize, term: impl Fn(usize) -> f32) -> f64 {
    let mut total = 0.0;
    for first in (0..n).step_by(512) {
        let end = (first + 512).min(n);
        let whole = first + (end - first) / 16 * 16;
        let mut lanes = [0.0f32; 16];
        for i in (first..whole).step_by(16) {
            for (k, lane) in lanes.iter_mut().enumerate() {
                *lane += term(i + k);
            }
        }
        total += lanes.iter().map(|&l| f64::from(l)).sum::<f64>();
        total += (whole..end).map(|i| f64::from(term(i))).sum::<f64>();
    }
    total
}

fn negative_entropy(law: &[f32]) -> f64 {
    vectorised(
        #[inline(always)]
        || summed(law.len(), |i| x_log_x(law[i])),
    )
}

fn negative_entropy_of_mean(a: &[f32], b: &[f32]) -> f64 {
    let b = &b[..a.len()];
    vectorised(
        #[inline(always)]
        || summed(a.len(), |i| x_log_x(0.5 * (a[i] + b[i]))),
    )
}

/// Energies of all layers' whitened states; none without a model.
fn energies(
    observation: &Observation,
    operator: &Operator,
    rows: &[usize],
    weights: &[f64],
    seed: u64,
) -> Result<Vec<LayerEnergy>, InformationError> {
    let Some(states) = &observation.states else {
        return Ok(Vec::new());
    };
    let n = rows.len();
    // K Pi 1, as the operator has it: degrees d(x) = sum_x' pi_x' K(x, x').
    let roots = RowMatrix::from_fn(n, 1, |i, _| weights[i].sqrt());
    let degrees = operator.apply(&roots);
    let mut rng = StdRng::seed_from_u64(seed);
    let orders: Vec<Vec<usize>> = (0..DEALS)
        .map(|_| {
            let mut order: Vec<usize> = (0..n).collect();
            order.shuffle(&mut rng);
            order
        })
        .collect();
    let mut found = Vec::new();
    for layer in states.layers().map(|(l, _)| l) {
        let (_, raw) = raw_states(observation, Some(layer))?;
        let of = |order: &dyn Fn(usize) -> usize| -> Result<Vec<f64>, InformationError> {
            let dealt =
                RowMatrix::from_fn(n, raw.ncols(), |i, k| f64::from(raw.get(rows[order(i)], k)));
            let space = ColumnSpace::of(&centred(&dealt, weights), NOTHING)?;
            let images = operator.apply(&space.basis);
            Ok((0..space.rank())
                .map(|k| {
                    sum((0..n).map(|i| {
                        let f = space.basis.get(i, k);
                        let degree = degrees.get(i, 0) / weights[i].sqrt();
                        f * (degree * f - images.get(i, k))
                    }))
                })
                .collect())
        };
        let energies = of(&|i| i)?;
        let mean = |v: &[f64]| sum(v.iter().copied()) / v.len().max(1) as f64;
        let dealt: Vec<f64> = orders
            .iter()
            .map(|order| Ok(mean(&of(&|i| order[i])?)))
            .collect::<Result<_, InformationError>>()?;
        let (shuffled, shuffled_deviation) = mean_and_deviation(&dealt);
        found.push(LayerEnergy {
            layer,
            mean: mean(&energies),
            shuffled,
            shuffled_deviation,
            energies,
        });
    }
    Ok(found)
}
