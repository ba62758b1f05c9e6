use lawvere_core::linalg::ColumnSpace;
use lawvere_core::linalg::{LinearOperator, symmetric_eigen, symmetric_product, truncated_svd};
use lawvere_core::{RowMatrix, sum};
use lawvere_observe::Observation;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::kernel::check_beta;
use super::laws::{Laws, against, overlaps};
use super::{LayerEnergy, SimilarityKernel, SimilarityOptions, SimilaritySpectrum, Whose};
use crate::InformationError;
use crate::alignment::centred;
use crate::layers::{Readout, need_contexts};
use crate::pass::mean_and_deviation;

/// Squared singular values of states below this share of the largest are float32's noise.
const NOTHING: f64 = 1e-12;
/// Times states are dealt to contexts for the control.
const DEALS: usize = 5;
/// Whitened directions of a deal whose energy is taken, drawn at random.
const DIRECTIONS: usize = 64;
/// How exact leading eigenvalues are asked to be.
const TOLERANCE: f64 = 1e-8;

/// `Pi^{1/2} K Pi^{1/2}`: the similarity K of what is predicted after contexts, Pi their weights.
#[derive(Debug)]
pub struct SimilarityOperator {
    kernel: SimilarityKernel,
    whose: Whose,
    rows: Vec<usize>,
    weights: Vec<f64>,
    form: Form,
}

/// The operator, or a factor F of its approximation `F F^T`.
#[derive(Debug)]
enum Form {
    Exact(RowMatrix<f64>),
    Factor {
        factor: RowMatrix<f64>,
        /// `sum pi_x K(x, x)`, of the kernel itself.
        trace: f64,
        landmarks: usize,
    },
}

impl SimilarityOperator {
    /// The operator of the data's or the model's laws.
    ///
    /// Overlaps (the first three kernels) are exact Gram matrices of laws or their roots, made stretch of the
    /// vocabulary by stretch: contexts x vocabulary is never formed. Jensen-Shannon kernels are approximated
    /// by Nystrom's method with landmarks drawn without replacement.
    ///
    /// Cost: overlaps of a model take half of contexts^2 x vocabulary multiply-adds and the head's
    /// product (twice for expected likelihoods); landmarks x contexts x vocabulary logarithms for the others. Memory: contexts^2 numbers in
    /// f32 and twice in f64, and contexts x 2304 laws three times; landmarks x vocabulary for the others.
    ///
    /// *Source:* arXiv 2507.19247, predictive similarity; Jebara, Kondor, Howard, *Probability product
    /// kernels* (2004); Williams, Seeger, *Using the Nystrom method to speed up kernel machines* (2001);
    /// positive definiteness: Fuglede, Topsoe, *Jensen-Shannon divergence and Hilbert space embedding*
    /// (2004).
    ///
    /// # Errors
    /// An Observation of positions, or without a model where the model's laws are asked for; fewer than 2
    /// contexts; a beta that is not positive, no rank, no landmarks.
    pub fn new(
        observation: &Observation,
        whose: Whose,
        options: &SimilarityOptions,
    ) -> Result<Self, InformationError> {
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
        let form = match options.kernel.needs_divergence() {
            false => Form::Exact(overlaps(&source, options.kernel, &weights)?),
            true => nystrom(&source, options, &weights)?,
        };
        Ok(Self {
            kernel: options.kernel,
            whose,
            rows,
            weights,
            form,
        })
    }

    /// The Observation's rows that it is of.
    pub fn into_rows(self) -> Vec<usize> {
        self.rows
    }

    /// Leading eigenvalues and eigenvectors, `rank` of them or as many as there are.
    ///
    /// Cost: some tens of products with a block of vectors.
    ///
    /// # Errors
    /// An eigensolver that does not converge.
    pub fn spectrum(&self, rank: usize, seed: u64) -> Result<SimilaritySpectrum, InformationError> {
        let found = SimilaritySpectrum {
            kernel: self.kernel,
            whose: self.whose,
            contexts: self.rows.len(),
            landmarks: None,
            eigenvalues: Vec::new(),
            trace: 0.0,
            captured: 1.0,
            residual: None,
            eigenvectors: RowMatrix::zeros(0, 0),
        };
        match &self.form {
            Form::Exact(k) => {
                let svd = truncated_svd(k, rank, TOLERANCE, seed)?;
                let largest = svd.singular_values.first().copied().unwrap_or(1.0);
                Ok(SimilaritySpectrum {
                    trace: sum((0..k.nrows()).map(|i| k.get(i, i))),
                    residual: Some(svd.residual / largest),
                    eigenvalues: svd.singular_values,
                    eigenvectors: svd.u,
                    ..found
                })
            }
            Form::Factor {
                factor,
                trace,
                landmarks,
            } => {
                let space = ColumnSpace::of(factor, 0.0)?;
                let rank = rank.min(space.rank());
                let squares = space.singular_values[..rank].iter().map(|s| s * s);
                Ok(SimilaritySpectrum {
                    landmarks: Some(*landmarks),
                    trace: *trace,
                    captured: sum(factor.data().iter().map(|x| x * x)) / trace,
                    eigenvalues: squares.collect(),
                    eigenvectors: RowMatrix::from_fn(factor.nrows(), rank, |i, k| {
                        space.basis.get(i, k)
                    }),
                    ..found
                })
            }
        }
    }

    fn apply(&self, x: &RowMatrix<f64>) -> RowMatrix<f64> {
        match &self.form {
            Form::Exact(k) => k.apply(x),
            Form::Factor { factor, .. } => factor.apply(&factor.apply_transpose(x)),
        }
    }

    /// Dirichlet energies of every kept layer's states against this operator; none without a model. The
    /// control deals states to contexts at random, which keep their weights, and takes at most 64 directions.
    ///
    /// Cost: a layer the product of the operator with contexts x (d + 320), and six times two of contexts x d x d
    /// and a spectrum of d x d.
    ///
    /// # Errors
    /// NaN or infinite states.
    pub fn energies(
        &self,
        observation: &Observation,
        seed: u64,
    ) -> Result<Vec<LayerEnergy>, InformationError> {
        let Some(states) = &observation.states else {
            return Ok(Vec::new());
        };
        let (n, weights) = (self.rows.len(), &self.weights);
        // K Pi 1, as the operator has it: degrees d(x) = sum_x' pi_x' K(x, x').
        let roots = RowMatrix::from_fn(n, 1, |i, _| weights[i].sqrt());
        let degrees = self.apply(&roots);
        let mut rng = StdRng::seed_from_u64(seed);
        let orders: Vec<Vec<usize>> = (0..DEALS)
            .map(|_| {
                let mut order: Vec<usize> = (0..n).collect();
                order.shuffle(&mut rng);
                order
            })
            .collect();
        let mut found = Vec::new();
        for (layer, raw) in states.layers() {
            // Of every whitened direction, or of some of a deal's.
            let of = |order: &dyn Fn(usize) -> usize, some: Option<&mut StdRng>| {
                let dealt = RowMatrix::from_fn(n, raw.ncols(), |i, k| {
                    f64::from(raw.get(self.rows[order(i)], k))
                });
                let mut basis = whitened(&centred(&dealt, weights))?;
                if let Some(rng) = some {
                    let mut columns: Vec<usize> = (0..basis.ncols()).collect();
                    columns.shuffle(rng);
                    columns.truncate(DIRECTIONS);
                    basis = RowMatrix::from_fn(n, columns.len(), |i, k| basis.get(i, columns[k]));
                }
                let images = self.apply(&basis);
                let energy = |k: usize| {
                    sum((0..n).map(|i| {
                        let f = basis.get(i, k);
                        let degree = degrees.get(i, 0) / weights[i].sqrt();
                        f * (degree * f - images.get(i, k))
                    }))
                };
                Ok::<Vec<f64>, InformationError>((0..basis.ncols()).map(energy).collect())
            };
            let energies = of(&|i| i, None)?;
            let mean = |v: &[f64]| sum(v.iter().copied()) / v.len().max(1) as f64;
            let dealt: Vec<f64> = orders
                .iter()
                .map(|order| Ok(mean(&of(&|i| order[i], Some(&mut rng))?)))
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
}

/// Orthonormal columns with the same span, by decreasing variance; directions of no variance left out.
fn whitened(rows: &RowMatrix<f64>) -> Result<RowMatrix<f64>, InformationError> {
    let d = rows.ncols();
    let mut gram = RowMatrix::zeros(d, d);
    symmetric_product(gram.view_mut(), rows.view().transpose());
    let eigen = symmetric_eigen(gram.view())?;
    let least = NOTHING * eigen.values.first().copied().unwrap_or(0.0);
    let kept = eigen.values.iter().take_while(|&&l| l > least).count();
    let scaled = RowMatrix::from_fn(d, kept, |i, k| {
        eigen.vectors.get(k, i) / eigen.values[k].sqrt()
    });
    Ok(rows.apply(&scaled))
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

/// Nystrom's approximation: `K ~ C W^+ C^T`, C the kernel against landmarks and W among them.
fn nystrom(
    laws: &Laws<'_>,
    options: &SimilarityOptions,
    weights: &[f64],
) -> Result<Form, InformationError> {
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
    Ok(Form::Factor {
        factor,
        trace: kernel.of(0.0),
        landmarks: landmarks.len(),
    })
}
