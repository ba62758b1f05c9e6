use lawvere_core::linalg::{
    CentredKernel, ColumnSpace, cross, matmul, singular_values, symmetric_eigenvalues,
};
use lawvere_core::{RowMatrix, sum};
use lawvere_observe::Observation;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;

use crate::InformationError;
use crate::layers::{head, need_contexts, raw_states};
use crate::pass::mean_and_deviation;

/// How well one layer's states line up with what the data say follows their contexts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerAlignment {
    /// The layer.
    pub layer: usize,
    /// r: dimensions that the layer's centred states fill.
    pub rank: usize,
    /// `tr(S~^T K~ S~) / sum_{i<=r} lambda_i(K~)`, in [0, 1].
    pub alignment: f64,
    /// Its mean over `deals` random assignments of states to contexts.
    pub shuffled: f64,
    /// The standard deviation of that over assignments.
    pub shuffled_deviation: f64,
    /// What `shuffled` is expected to be: `sum pi_x h_x / (1 - sum pi_x^2)`, h_x the squared length of row x
    /// of the orthonormal columns, over the share of `K~` that r eigenvalues can have. With equal weights
    /// and r = d it is `d / (m - 1)`; with others a close approximation.
    pub shuffled_expected: f64,
    /// The alignment of the same network untrained, if it is given.
    pub untrained: Option<f64>,
    /// Correlations of the best linear read-outs of states and of prototypes (both whitened), decreasing.
    pub canonical_correlations: Vec<f64>,
    /// Their mean square over the smaller of the two ranks.
    pub cca: f64,
    /// Principal angles between the two column spaces, radians, increasing.
    pub principal_angles: Vec<f64>,
    /// With the states whitened alone: singular values of `S^T G~` over the norm of the prototypes
    /// `G~`, decreasing. Their squares add up to the share of the prototypes' variance that the states
    /// explain, `r_squared`.
    pub states_whitened: Vec<f64>,
    /// R^2 of the regression of prototypes on states.
    pub r_squared: f64,
    /// With the prototypes whitened alone: singular values of `S~^T G` over the norm of the states.
    pub prototypes_whitened: Vec<f64>,
    /// Linear centred kernel alignment of states and prototypes, nothing whitened.
    pub cka: f64,
    /// Its mean over `deals` random assignments.
    pub cka_shuffled: f64,
    /// CKA of the same network untrained.
    pub cka_untrained: Option<f64>,
}

/// Spectral alignment of every layer, and the contrastive bound on the loss.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alignment {
    /// m: contexts.
    pub contexts: usize,
    /// Random assignments behind every shuffled control.
    pub deals: usize,
    /// The eigenvalues of K~, the similarity of prototypes, decreasing.
    pub similarity_spectrum: Vec<f64>,
    /// Every layer.
    pub layers: Vec<LayerAlignment>,
    /// The bound at the head's input; `None` of a head with a logit soft-cap, for which it does not hold, and
    /// where an outcome that occurs is impossible.
    pub surrogate: Option<Surrogate>,
}

/// The loss, and what a quadratic contrastive objective bounds it by.
///
/// With prototypes `g_x = E_{w ~ data} u_w` of the head's own rows, `g_0 = E_{softmax(b)} u_w` and kappa a
/// quarter of the squared diameter of the head's rows,
/// `NLL <= -E<g_x - g_0, s_x> + kappa/2 E|s_x|^2 + log sum exp b - E b_w`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Surrogate {
    /// kappa.
    pub kappa: f64,
    /// `-E<g_x - g_0, s_x>`.
    pub alignment_term: f64,
    /// `kappa/2 E|s_x|^2`.
    pub norm_term: f64,
    /// `log sum exp b - E b_w`; `log V` without a bias.
    pub constant: f64,
    /// Their sum, nats.
    pub bound: f64,
    /// The cross-entropy that it bounds, nats.
    pub cross_entropy: f64,
}

/// Singular values below this share of the largest are float32's noise.
const NOTHING: f64 = 1e-6;

/// Aligns every layer's states with the prototypes `g_x = E_{w ~ data(.|x)} u_w / |u_w|` of their contexts.
///
/// `S~` are the states centred and scaled by the square root of the contexts' weights, with orthonormal
/// columns (null directions dropped, rank r), `K~` the Gram matrix of the prototypes centred and scaled
/// alike: the trace is at most the sum of the r largest eigenvalues (Ky Fan). States are taken as they are:
/// any invertible linear readout gives the same. `untrained` is an Observation of the same contexts by the
/// same network before training.
///
/// The shuffled control deals the prototypes to the contexts at random; states keep their weights.
///
/// Cost: a singular value decomposition of m x d a layer, one more for the untrained network; a product
/// m x d x d a deal and layer.
///
/// *Source:* arXiv 2507.19247, spectral alignment; Fan, *On a theorem of Weyl concerning eigenvalues of
/// linear transformations* (1949); Hoeffding's lemma for the bound.
///
/// # Errors
/// An Observation of positions, without a model, with fewer than 2 contexts; an untrained one of other
/// contexts or layers.
pub fn spectral_alignment(
    observation: &Observation,
    untrained: Option<&Observation>,
    deals: usize,
    seed: u64,
    on_layer: &mut dyn FnMut(usize),
) -> Result<Alignment, InformationError> {
    need_contexts(observation, "spectral alignment")?;
    let weight = &head(observation)?.weight;
    let m = observation.rows();
    if m < 2 {
        return Err(InformationError::TooFew {
            what: "an alignment",
            of: "contexts",
            needed: 2,
            found: m,
        });
    }
    if let Some(untrained) = untrained {
        check_same(observation, untrained)?;
    }
    let target = Target::new(observation, &unit_rows(weight), deals, seed)?;
    let numbers: Vec<usize> = observation
        .states
        .iter()
        .flat_map(|s| s.layers().map(|(l, _)| l))
        .collect();
    let mut layers = Vec::with_capacity(numbers.len());
    for layer in numbers {
        let states = CentredKernel::new(centred_states(observation, layer)?);
        let space = ColumnSpace::of(states.rows(), NOTHING)?;
        let alone = match untrained {
            Some(other) => {
                let states = CentredKernel::new(centred_states(other, layer)?);
                let space = ColumnSpace::of(states.rows(), NOTHING)?;
                Some((target.alignment(&space), states.alignment(&target.rows)))
            }
            None => None,
        };
        layers.push(align(observation, layer, &states, &space, &target, alone)?);
        on_layer(layer);
    }
    Ok(Alignment {
        contexts: m,
        deals,
        similarity_spectrum: target.space.singular_values.iter().map(|s| s * s).collect(),
        layers,
        surrogate: surrogate(observation)?.filter(|s| s.cross_entropy.is_finite()),
    })
}

/// The centred, scaled prototypes, and the same dealt out to the contexts at random.
struct Target {
    rows: CentredKernel,
    space: ColumnSpace,
    /// The trace of K~.
    energy: f64,
    dealt: Vec<Dealt>,
}

impl Target {
    fn new(
        observation: &Observation,
        vectors: &RowMatrix<f64>,
        deals: usize,
        seed: u64,
    ) -> Result<Self, InformationError> {
        let prototypes = prototypes(observation, vectors);
        let rows = centred(&prototypes, &observation.weights);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..prototypes.nrows()).collect();
        let dealt = (0..deals)
            .map(|_| {
                order.shuffle(&mut rng);
                let dealt = RowMatrix::from_fn(prototypes.nrows(), prototypes.ncols(), |i, k| {
                    prototypes.get(order[i], k)
                });
                Dealt::new(centred(&dealt, &observation.weights))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            space: ColumnSpace::of(&rows, NOTHING)?,
            energy: sum(rows.data().iter().map(|x| x * x)),
            rows: CentredKernel::new(rows),
            dealt,
        })
    }

    /// The sum of the `rank` largest eigenvalues of K~.
    fn leading(&self, rank: usize) -> f64 {
        sum(self.space.singular_values.iter().take(rank).map(|s| s * s))
    }

    fn alignment(&self, states: &ColumnSpace) -> f64 {
        ratio(
            captured(&states.basis, self.rows.rows()),
            self.leading(states.rank()),
        )
    }
}

/// Prototypes dealt to other contexts than their own.
struct Dealt {
    rows: CentredKernel,
    /// Eigenvalues of their Gram matrix, decreasing.
    spectrum: Vec<f64>,
}

impl Dealt {
    fn new(rows: RowMatrix<f64>) -> Result<Self, InformationError> {
        let spectrum = symmetric_eigenvalues(cross(&rows, &rows).view())?;
        Ok(Self {
            rows: CentredKernel::new(rows),
            spectrum,
        })
    }

    fn alignment(&self, states: &ColumnSpace) -> f64 {
        let leading = sum(self.spectrum.iter().take(states.rank()).copied());
        ratio(captured(&states.basis, self.rows.rows()), leading)
    }
}

/// The share of a random assignment's variance that lies in a space, on average.
fn expected_share(basis: &RowMatrix<f64>, weights: &[f64]) -> f64 {
    let rows = basis.rows().zip(weights);
    let leverage = sum(rows.map(|(row, w)| w * sum(row.iter().map(|x| x * x))));
    leverage / (1.0 - sum(weights.iter().map(|w| w * w)))
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// `|basis^T rows|_F^2`.
fn captured(basis: &RowMatrix<f64>, rows: &RowMatrix<f64>) -> f64 {
    sum(cross(basis, rows).data().iter().map(|x| x * x))
}

#[allow(clippy::too_many_arguments)]
fn align(
    observation: &Observation,
    layer: usize,
    states: &CentredKernel,
    space: &ColumnSpace,
    target: &Target,
    untrained: Option<(f64, f64)>,
) -> Result<LayerAlignment, InformationError> {
    let (mut dealt, mut dealt_cka) = (Vec::new(), Vec::new());
    for other in &target.dealt {
        dealt.push(other.alignment(space));
        dealt_cka.push(states.alignment(&other.rows));
    }
    let (shuffled, shuffled_deviation) = mean_and_deviation(&dealt);
    let cosines = space.cosines(&target.space)?;
    let smaller = space.rank().min(target.space.rank()).max(1) as f64;
    let share = ratio(target.energy, target.leading(space.rank()));
    Ok(LayerAlignment {
        layer,
        rank: space.rank(),
        alignment: target.alignment(space),
        shuffled,
        shuffled_deviation,
        shuffled_expected: share * expected_share(&space.basis, &observation.weights),
        untrained: untrained.map(|u| u.0),
        cca: sum(cosines.iter().map(|c| c * c)) / smaller,
        principal_angles: cosines.iter().map(|c| c.acos()).collect(),
        canonical_correlations: cosines,
        states_whitened: one_sided(space, target.rows.rows())?,
        r_squared: ratio(captured(&space.basis, target.rows.rows()), target.energy),
        prototypes_whitened: one_sided(&target.space, states.rows())?,
        cka: states.alignment(&target.rows),
        cka_shuffled: mean_and_deviation(&dealt_cka).0,
        cka_untrained: untrained.map(|u| u.1),
    })
}

fn check_same(observation: &Observation, untrained: &Observation) -> Result<(), InformationError> {
    if observation.contexts != untrained.contexts {
        return Err(InformationError::argument(
            "untrained",
            "its contexts are not those of the observation",
        ));
    }
    let layers = |o: &Observation| -> Vec<usize> {
        o.states
            .iter()
            .flat_map(|s| s.layers().map(|l| l.0))
            .collect()
    };
    let (here, there) = (layers(observation), layers(untrained));
    match here == there {
        true if observation.states == untrained.states => Err(InformationError::argument(
            "untrained",
            "its states are those of the observation: give one made by the untrained network",
        )),
        true => Ok(()),
        false => Err(InformationError::argument(
            "untrained",
            format!("it has layers {there:?}, the observation {here:?}"),
        )),
    }
}

/// Rows less their weighted mean, times the square root of their weights.
pub(crate) fn centred(rows: &RowMatrix<f64>, weights: &[f64]) -> RowMatrix<f64> {
    let mut mean = vec![0.0; rows.ncols()];
    for (row, w) in rows.rows().zip(weights) {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += w * x);
    }
    RowMatrix::from_fn(rows.nrows(), rows.ncols(), |i, k| {
        weights[i].sqrt() * (rows.get(i, k) - mean[k])
    })
}

/// The states of a layer as they are, centred and scaled by the roots of their weights.
pub(crate) fn centred_states(
    observation: &Observation,
    layer: usize,
) -> Result<RowMatrix<f64>, InformationError> {
    let (_, states) = raw_states(observation, Some(layer))?;
    Ok(centred(&states.map(f64::from), &observation.weights))
}

fn unit_rows(weight: &RowMatrix<f32>) -> RowMatrix<f64> {
    let mut unit = weight.map(f64::from);
    for w in 0..unit.nrows() {
        let row = unit.row_mut(w);
        let norm = sum(row.iter().map(|x| x * x)).sqrt();
        if norm > 0.0 {
            row.iter_mut().for_each(|x| *x /= norm);
        }
    }
    unit
}

/// `E_{w ~ data(.|x)} g_w` of every row; an end of document that the head does not know adds nothing.
fn prototypes(observation: &Observation, vectors: &RowMatrix<f64>) -> RowMatrix<f64> {
    let laws = observation.laws();
    let mut out = RowMatrix::zeros(laws.nrows(), vectors.ncols());
    for (row, (tokens, law)) in laws.rows().enumerate() {
        let out = out.row_mut(row);
        for (&token, p) in tokens.iter().zip(law) {
            if (token as usize) < vectors.nrows() {
                let vector = vectors.row(token as usize);
                out.iter_mut().zip(vector).for_each(|(o, g)| *o += p * g);
            }
        }
    }
    out
}

fn surrogate(observation: &Observation) -> Result<Option<Surrogate>, InformationError> {
    let head = head(observation)?;
    if head.soft_cap.is_some() {
        return Ok(None);
    }
    let (_, states) = raw_states(observation, None)?;
    let vectors = head.weight.map(f64::from);
    let bias: Vec<f64> = match &head.bias {
        Some(bias) => bias.iter().map(|&b| f64::from(b)).collect(),
        None => vec![0.0; vectors.nrows()],
    };
    let largest = bias.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = sum(bias.iter().map(|b| (b - largest).exp()));
    let log_total = largest + total.ln();
    let mut base = vec![0.0; vectors.ncols()];
    for (row, b) in vectors.rows().zip(&bias) {
        let p = (b - log_total).exp();
        base.iter_mut().zip(row).for_each(|(g, u)| *g += p * u);
    }
    let laws = observation.laws();
    let prototypes = prototypes(observation, &vectors);
    let weights = &observation.weights;
    let rows = 0..observation.rows();
    let inner = |row: usize, with_base: f64| {
        let pairs = prototypes.row(row).iter().zip(&base).zip(states.row(row));
        sum(pairs.map(|((g, g0), &s)| (g - with_base * g0) * f64::from(s)))
    };
    let alignment_term = -sum(rows.clone().map(|row| weights[row] * inner(row, 1.0)));
    let squares = rows.clone().map(|row| {
        let state = states.row(row).iter();
        weights[row] * sum(state.map(|&x| f64::from(x).powi(2)))
    });
    let mean_bias = sum(rows.map(|row| {
        let (tokens, law) = laws.row(row);
        let terms = tokens.iter().zip(law);
        let known = terms.filter_map(|(&t, p)| bias.get(t as usize).map(|b| p * b));
        weights[row] * sum(known)
    }));
    let kappa = diameter_squared(&vectors) / 4.0;
    let norm_term = 0.5 * kappa * sum(squares);
    let constant = log_total - mean_bias;
    Ok(Some(Surrogate {
        kappa,
        alignment_term,
        norm_term,
        constant,
        bound: alignment_term + norm_term + constant,
        cross_entropy: crate::likelihood::cross_entropy(observation)?,
    }))
}

/// The largest squared distance of two rows.
///
/// Rows are taken by decreasing distance from their mean; two rows whose distances from it add up to less
/// than the best pair so far cannot be further apart, so that usually few pairs are looked at.
fn diameter_squared(rows: &RowMatrix<f64>) -> f64 {
    let n = rows.nrows() as f64;
    let mut mean = vec![0.0; rows.ncols()];
    for row in rows.rows() {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += x / n);
    }
    let distance = |a: &[f64], b: &[f64]| sum(a.iter().zip(b).map(|(x, y)| (x - y).powi(2)));
    let mut order: Vec<(f64, usize)> = rows
        .rows()
        .enumerate()
        .map(|(i, row)| (distance(row, &mean).sqrt(), i))
        .collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    // Blocks of rows by products; the squared distance of a pair found is taken again exactly.
    const BLOCK: usize = 512;
    let blocks: Vec<&[(f64, usize)]> = order.chunks(BLOCK).collect();
    let gathered = |block: &[(f64, usize)]| {
        RowMatrix::from_fn(block.len(), rows.ncols(), |a, k| {
            rows.get(block[a].1, k) - mean[k]
        })
    };
    let mut best = 0.0f64;
    for (k, left) in blocks.iter().enumerate() {
        if (2.0 * left[0].0).powi(2) <= best {
            break;
        }
        let here = gathered(left);
        for right in &blocks[k..] {
            if (left[0].0 + right[0].0).powi(2) <= best {
                break;
            }
            let there = gathered(right);
            let mut inner = RowMatrix::<f64>::zeros(here.nrows(), there.nrows());
            matmul(inner.view_mut(), here.view(), there.view().transpose());
            for (a, &(radius, i)) in left.iter().enumerate() {
                for (b, &(other, j)) in right.iter().enumerate() {
                    let squared = radius * radius + other * other - 2.0 * inner.get(a, b);
                    if squared > best * (1.0 + 1e-12) {
                        best = best.max(distance(rows.row(i), rows.row(j)));
                    }
                }
            }
        }
    }
    best
}

/// Singular values of `whitened^T other`, as shares of the norm of `other`.
fn one_sided(whitened: &ColumnSpace, other: &RowMatrix<f64>) -> Result<Vec<f64>, InformationError> {
    let norm = sum(other.data().iter().map(|x| x * x)).sqrt();
    let mut values = singular_values(&cross(&whitened.basis, other))?;
    values.iter_mut().for_each(|s| *s = ratio(*s, norm));
    Ok(values)
}
