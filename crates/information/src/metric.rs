use faer::Mat;
use lawvere_core::linalg::{symmetric_eigenvalues, symmetric_product};
use lawvere_core::{HeadRef, ReadoutNorm, RowMatrix, ShapeError, sum};
use lawvere_observe::Observation;
use rayon::prelude::*;
use serde::Serialize;

use crate::InformationError;
use crate::distances::drawn;
use crate::fisher::{Shape, nonnegative};
use crate::layers::{head, raw_states};
use crate::pass::view;

/// The Fisher-Rao metric of one layer, context by context.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerMetric {
    /// The layer. The last is the head's input; any other is read out through the final norm, whose
    /// derivative is in the metric.
    pub layer: usize,
    /// Contexts looked at.
    pub contexts: usize,
    /// Whether these are all contexts with their weights, rather than drawn by their weights.
    pub all: bool,
    /// Eigenvalues of the mean metric over these contexts, decreasing.
    pub mean_eigenvalues: Vec<f64>,
    /// Effective rank of the mean metric.
    pub mean_effective_rank: f64,
    /// Its largest eigenvalue over its trace.
    pub mean_anisotropy: f64,
    /// Every context's own spectrum.
    pub spectra: Vec<ContextSpectrum>,
    /// Mean effective rank of single contexts, by their weights, and its standard deviation over contexts.
    pub effective_rank: (f64, f64),
    /// Mean anisotropy of single contexts, and its standard deviation over contexts.
    pub anisotropy: (f64, f64),
}

/// The spectrum of the metric at one context.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ContextSpectrum {
    /// The Observation's row.
    pub row: usize,
    /// Eigenvalues, decreasing: `KL(p_{s + e v} || p_s) ~ e^2/2` times the eigenvalue.
    pub eigenvalues: Vec<f64>,
    /// `exp` of the entropy of the normalised eigenvalues.
    pub effective_rank: f64,
    /// The largest eigenvalue over their sum.
    pub anisotropy: f64,
    /// Their sum: the variance of head rows under the law.
    pub trace: f64,
}

/// The law at a state, and the derivative of its logits in that state.
struct Local {
    /// Natural parameters' law, V.
    law: Vec<f64>,
    /// `d capped logit / d logit` at every token; none without a soft-cap.
    slope: Option<Vec<f64>>,
    /// `1 / sigma` of the norm and the state, centred where the norm centres it, for a state read out through the norm.
    norm: Option<(f64, Vec<f64>)>,
}

impl Local {
    /// At `state`, which `norm` makes ready for the head.
    fn at(
        head: HeadRef<'_>,
        norm: Option<&ReadoutNorm>,
        state: &[f32],
    ) -> Result<Self, InformationError> {
        let mut read = RowMatrix::from_vec(state.to_vec(), 1, state.len())?;
        if let Some(norm) = norm {
            norm.apply(&mut read)?;
        }
        let logits = logits(head, read.row(0));
        let slope = head.soft_cap.map(|c| {
            let c = f64::from(c);
            logits.iter().map(|l| 1.0 - (l / c).powi(2)).collect()
        });
        let norm = norm.map(|norm| {
            let mut x: Vec<f64> = state.iter().map(|&x| f64::from(x)).collect();
            if norm.centred {
                let mean = sum(x.iter().copied()) / x.len() as f64;
                x.iter_mut().for_each(|x| *x -= mean);
            }
            let square = sum(x.iter().map(|x| x * x)) / x.len() as f64;
            (1.0 / (square + f64::from(norm.eps)).sqrt(), x)
        });
        Ok(Self {
            law: softmax(&logits),
            slope,
            norm,
        })
    }

    /// The metric, lower half: the Gram matrix of centred rows scaled by the roots of their
    /// probabilities. Tokens whose rows together add less than 1e-10 of the trace are left out, those
    /// that add less than a thousandth are multiplied in f32: both are errors of about 1e-10 of it.
    fn metric(&self, head: HeadRef<'_>, norm: Option<&ReadoutNorm>) -> Mat<f64> {
        const NEGLIGIBLE: f64 = 1e-10;
        const SMALL: f64 = 1e-3;
        /// Rows that are scaled at once.
        const ROWS: usize = 4096;
        let d = head.dim();
        let row = |w: usize| {
            let slope = self.slope.as_ref().map_or(1.0, |s| s[w]);
            let row = head.weight.row(w);
            (0..d).map(move |k| slope * f64::from(row[k]))
        };
        let mut order: Vec<usize> = (0..self.law.len()).collect();
        order.sort_unstable_by(|&a, &b| self.law[b].total_cmp(&self.law[a]).then(a.cmp(&b)));
        let mut mean = vec![0.0; d];
        for &w in &order {
            let p = self.law[w];
            mean.iter_mut().zip(row(w)).for_each(|(m, u)| *m += p * u);
        }
        let terms: Vec<f64> = order
            .iter()
            .map(|&w| self.law[w] * sum(row(w).zip(&mean).map(|(u, m)| (u - m).powi(2))))
            .collect();
        let trace = sum(terms.iter().copied());
        // How many tokens are left without the last ones that add at most this share of the trace.
        let without = |share: f64| {
            let (mut kept, mut rest) = (order.len(), 0.0);
            while kept > 0 && rest + terms[kept - 1] <= share * trace {
                kept -= 1;
                rest += terms[kept];
            }
            kept
        };
        let (large, kept) = (without(SMALL), without(NEGLIGIBLE));
        let mut metric = Mat::<f64>::zeros(d, d);
        let mut gram = Mat::<f64>::zeros(d, d);
        let mut small = Mat::<f32>::zeros(d, d);
        let mut scaled: Vec<f64> = Vec::with_capacity(ROWS * d);
        let parts = order[..large].chunks(ROWS).map(|tokens| (tokens, false));
        let rest = order[large..kept].chunks(ROWS).map(|tokens| (tokens, true));
        for (tokens, is_small) in parts.chain(rest) {
            scaled.clear();
            for &w in tokens {
                let root = self.law[w].sqrt();
                let first = scaled.len();
                scaled.extend(row(w).zip(&mean).map(|(u, m)| root * (u - m)));
                if let (Some((inverse, x)), Some(norm)) = (&self.norm, norm) {
                    pull_back(&mut scaled[first..], *inverse, x, norm);
                }
            }
            if is_small {
                let rounded: Vec<f32> = scaled.iter().map(|&x| x as f32).collect();
                symmetric_product(small.as_mut(), view(&rounded, tokens.len(), d).transpose());
                for j in 0..d {
                    for i in j..d {
                        metric[(i, j)] += f64::from(small[(i, j)]);
                    }
                }
            } else {
                symmetric_product(gram.as_mut(), view(&scaled, tokens.len(), d).transpose());
                metric += &gram;
            }
        }
        metric
    }
}

/// `r J` for a row r and the derivative `J = diag(w) / sigma (I - x x^T / (d sigma^2))` of the norm at x, with `- 1 1^T / d` in it
/// where the norm centres, whose x is centred already.
fn pull_back(row: &mut [f64], inverse: f64, x: &[f64], norm: &ReadoutNorm) {
    let scaled = row.iter_mut().zip(&norm.weight);
    scaled.for_each(|(r, &w)| *r *= f64::from(w) * inverse);
    let n = x.len() as f64;
    let along = sum(row.iter().zip(x).map(|(r, x)| r * x)) * inverse * inverse / n;
    let mean = match norm.centred {
        true => sum(row.iter().copied()) / n,
        false => 0.0,
    };
    row.iter_mut()
        .zip(x)
        .for_each(|(r, x)| *r -= along * x + mean);
}

/// Logits in f64, as the head makes them.
fn logits(head: HeadRef<'_>, state: &[f32]) -> Vec<f64> {
    (0..head.vocab_size())
        .map(|w| {
            let row = head.weight.row(w);
            let product: f64 = row
                .iter()
                .zip(state)
                .map(|(&u, &s)| f64::from(u) * f64::from(s))
                .sum();
            let logit = product + head.bias.map_or(0.0, |b| f64::from(b[w]));
            match head.soft_cap {
                Some(c) => f64::from(c) * (logit / f64::from(c)).tanh(),
                None => logit,
            }
        })
        .collect()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut law: Vec<f64> = logits.iter().map(|l| (l - largest).exp()).collect();
    let total = sum(law.iter().copied());
    law.iter_mut().for_each(|p| *p /= total);
    law
}

/// The metric `g*(s) = U^T (diag p - p p^T) U` at a state of the head's input, or with a norm at a state of
/// an earlier layer, `J^T g* J` with J the norm's derivative; a soft-cap's derivative is in it too. d x d,
/// symmetric. O(V d^2), less where few tokens have all the probability.
///
/// *Source:* Amari, *Information Geometry and Its Applications* (2016), section 2.1; arXiv 2507.19247.
///
/// # Errors
/// Shapes that do not fit.
pub fn metric_at(
    head: HeadRef<'_>,
    norm: Option<&ReadoutNorm>,
    state: &[f32],
) -> Result<RowMatrix<f64>, InformationError> {
    if state.len() != head.dim() {
        return Err(ShapeError::new("state for the head", head.dim(), state.len()).into());
    }
    let metric = Local::at(head, norm, state)?.metric(head, norm);
    let d = head.dim();
    Ok(RowMatrix::from_fn(d, d, |i, j| {
        metric[(i.max(j), i.min(j))]
    }))
}

/// The second and third central moments of `<u_w, v>` under the law at a state of the head's input:
/// `KL(p_{s + e v} || p_s) = e^2/2 m_2 + e^3/3 m_3 + O(e^4)`, and m_2 is `g*(v, v)`. O(V d).
///
/// *Source:* cumulants of an exponential family: Amari (2016), section 2.1.
///
/// # Errors
/// Shapes that do not fit; a head with a logit soft-cap, whose laws are no exponential family of the state.
pub fn step_moments(
    head: HeadRef<'_>,
    state: &[f32],
    direction: &[f64],
) -> Result<(f64, f64), InformationError> {
    if head.soft_cap.is_some() {
        return Err(InformationError::SoftCap("the third-order term"));
    }
    if (state.len(), direction.len()) != (head.dim(), head.dim()) {
        let found = format!("{} and {}", state.len(), direction.len());
        return Err(ShapeError::new("state and direction", head.dim(), found).into());
    }
    let law = softmax(&logits(head, state));
    let change: Vec<f64> = (0..law.len())
        .map(|w| {
            let row = head.weight.row(w);
            row.iter()
                .zip(direction)
                .map(|(&u, v)| f64::from(u) * v)
                .sum()
        })
        .collect();
    let mean = sum(law.iter().zip(&change).map(|(p, c)| p * c));
    let moment = |order: i32| {
        sum(law
            .iter()
            .zip(&change)
            .map(|(p, c)| p * (c - mean).powi(order)))
    };
    Ok((moment(2), moment(3)))
}

/// Fisher-Rao distance of two laws, `4 arcsin(|sqrt p - sqrt q| / 2)`: the length of the shortest path
/// between them among all laws, in the metric whose square is `sum dp^2 / p`. In [0, pi]. O(V).
///
/// *Source:* Rao, *Information and the accuracy attainable in the estimation of statistical parameters*
/// (1945); Amari (2016), section 3.5.
///
/// # Errors
/// Laws of different lengths.
pub fn fisher_rao_distance(p: &[f64], q: &[f64]) -> Result<f64, InformationError> {
    if p.len() != q.len() {
        return Err(ShapeError::new("laws", p.len(), q.len()).into());
    }
    let squares = p.iter().zip(q).map(|(p, q)| (p.sqrt() - q.sqrt()).powi(2));
    Ok(4.0 * (0.5 * sum(squares).sqrt()).min(1.0).asin())
}

/// Mean lengths over pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MeanLengths {
    /// Of the Fisher-Rao distances.
    pub distance: f64,
    /// Of the straight lines.
    pub straight: f64,
    /// Of their bounds.
    pub bound: f64,
}

impl MeanLengths {
    /// `None` of no pairs.
    pub fn of(paths: &[PathLengths]) -> Option<Self> {
        let mean = |f: fn(&PathLengths) -> f64| sum(paths.iter().map(f)) / paths.len() as f64;
        (!paths.is_empty()).then(|| Self {
            distance: mean(|p| p.distance),
            straight: mean(|p| p.straight),
            bound: mean(|p| p.bound),
        })
    }
}

/// Three lengths between the laws at two states.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PathLengths {
    /// The Observation's rows.
    pub rows: [usize; 2],
    /// Fisher-Rao distance of the laws: no path is shorter.
    pub distance: f64,
    /// The length of the straight line between the states, in the head's metric.
    pub straight: f64,
    /// `sqrt(KL(p||q) + KL(q||p))`: no straight line is longer.
    pub bound: f64,
}

impl PathLengths {
    /// Whether no length is shorter than theory allows, beyond rounding.
    pub fn in_order(&self) -> bool {
        let slack = 1e-7 * self.bound.max(1e-3);
        self.distance <= self.straight + slack && self.straight <= self.bound + slack
    }
}

/// The lengths between the laws of two rows of logits.
///
/// Along the line the logits are mixed linearly and the speed is the standard deviation of their difference;
/// its integral is by Gauss's rule of 8 points on twice as many stretches until it changes by less than
/// 1e-10 of itself. A law may go over from one token to another within 1 over the range of the difference, and
/// no stretch is much longer than that.
fn path_lengths(
    rows: [usize; 2],
    from: &[f64],
    to: &[f64],
) -> Result<PathLengths, InformationError> {
    let (p, q) = (softmax(from), softmax(to));
    let change: Vec<f64> = from.iter().zip(to).map(|(a, b)| b - a).collect();
    let speed = |t: f64| {
        let logits: Vec<f64> = from.iter().zip(&change).map(|(a, c)| a + t * c).collect();
        let law = softmax(&logits);
        let mean = sum(law.iter().zip(&change).map(|(p, c)| p * c));
        sum(law.iter().zip(&change).map(|(p, c)| p * (c - mean).powi(2))).sqrt()
    };
    let least = change.iter().copied().fold(f64::INFINITY, f64::min);
    let range = change.iter().copied().fold(0.0, f64::max) - least.min(0.0);
    let mut stretches = ((range / 4.0).clamp(1.0, 4096.0) as usize).next_power_of_two();
    let most = 256.max(4 * stretches);
    let mut straight = gauss(&speed, stretches);
    stretches *= 2;
    loop {
        let finer = gauss(&speed, stretches);
        let settled = (finer - straight).abs() <= 1e-10 * finer;
        straight = finer;
        if settled || stretches >= most {
            break;
        }
        stretches *= 2;
    }
    // KL(p||q) + KL(q||p) = sum (p - q)(log p - log q), and constants of the logits drop out.
    let jeffreys = sum(p.iter().zip(&q).zip(&change).map(|((p, q), c)| (q - p) * c));
    Ok(PathLengths {
        rows,
        distance: fisher_rao_distance(&p, &q)?,
        straight,
        bound: jeffreys.max(0.0).sqrt(),
    })
}

/// The integral over [0, 1] by Gauss's rule of 8 points on each of `stretches`.
fn gauss(f: &dyn Fn(f64) -> f64, stretches: usize) -> f64 {
    const NODES: [(f64, f64); 4] = [
        (0.183_434_642_495_649_8, 0.362_683_783_378_362),
        (0.525_532_409_916_329, 0.313_706_645_877_887_3),
        (0.796_666_477_413_626_7, 0.222_381_034_453_374_47),
        (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
    ];
    let half = 0.5 / stretches as f64;
    let parts = (0..stretches).flat_map(|k| {
        let middle = (2 * k + 1) as f64 * half;
        NODES
            .iter()
            .flat_map(move |(x, w)| [(middle - half * x, w), (middle + half * x, w)])
    });
    half * sum(parts.map(|(t, w)| w * f(t)))
}

/// The lengths between `pairs` pairs of contexts drawn by their weights, at the head's input; fewer where the same
/// context is drawn too often.
///
/// Cost: some hundreds of softmaxes a pair, more where logits differ by hundreds.
///
/// *Source:* arXiv 2507.19247, information geometry of the head. The bound is Cauchy's inequality for the
/// squared speed, whose integral along a line of natural parameters is the symmetrised divergence.
///
/// # Errors
/// An Observation without a model, a head with a logit soft-cap, fewer than 2 rows.
pub fn paths(
    observation: &Observation,
    pairs: usize,
    seed: u64,
) -> Result<Vec<PathLengths>, InformationError> {
    let head = head(observation)?;
    if head.soft_cap.is_some() {
        return Err(InformationError::SoftCap("the straight path's length"));
    }
    if observation.rows() < 2 {
        return Err(InformationError::TooFew {
            what: "a path between contexts",
            of: "contexts",
            needed: 2,
            found: observation.rows(),
        });
    }
    let (_, states) = raw_states(observation, None)?;
    // A context is no path away from itself.
    let ends: Vec<[usize; 2]> = drawn(&observation.weights, 8 * pairs, seed)
        .chunks_exact(2)
        .map(|pair| [pair[0], pair[1]])
        .filter(|[a, b]| a != b)
        .take(pairs)
        .collect();
    ends.into_par_iter()
        .map(|rows| {
            let [from, to] = rows.map(|row| logits(head.view(), states.row(row)));
            path_lengths(rows, &from, &to)
        })
        .collect()
}

/// The metric of a layer at `sample` contexts drawn by their weights, or at all if there are no more:
/// every context's spectrum and that of their mean.
///
/// Cost: V d^2 a context, less where few tokens have all the probability, and a spectrum of d x d;
/// memory: a metric a thread.
///
/// *Source:* as [`metric_at`].
///
/// # Errors
/// An Observation without a model, an unknown layer, one that cannot be read out, no sample.
pub fn layer_metric(
    observation: &Observation,
    layer: Option<usize>,
    sample: usize,
    seed: u64,
) -> Result<LayerMetric, InformationError> {
    if sample == 0 {
        return Err(InformationError::argument(
            "spectra",
            "it must be at least 1",
        ));
    }
    let head = head(observation)?;
    let (layer, states) = raw_states(observation, layer)?;
    let is_last = raw_states(observation, None)?.0 == layer;
    let norm = match (is_last, &head.norm) {
        (true, _) => None,
        (false, Some(norm)) => Some(norm),
        (false, None) => {
            return Err(
                ShapeError::new(lawvere_observe::NORM_FREE_READOUT, "norm.weight", "none").into(),
            );
        }
    };
    let all = observation.rows() <= sample;
    let chosen: Vec<(usize, f64)> = match all {
        true => observation.weights.iter().copied().enumerate().collect(),
        false => drawn(&observation.weights, sample, seed)
            .into_iter()
            .map(|row| (row, 1.0 / sample as f64))
            .collect(),
    };
    let d = head.weight.ncols();
    let mut mean = Mat::<f64>::zeros(d, d);
    let mut spectra = Vec::with_capacity(chosen.len());
    // As many metrics at once as there are threads, added up in the order of the contexts.
    for part in chosen.chunks(rayon::current_num_threads().max(1)) {
        let found: Vec<(Mat<f64>, Vec<f64>)> = part
            .par_iter()
            .map(|&(row, _)| {
                let metric =
                    Local::at(head.view(), norm, states.row(row))?.metric(head.view(), norm);
                let eigenvalues = nonnegative(symmetric_eigenvalues(metric.as_ref())?);
                Ok((metric, eigenvalues))
            })
            .collect::<Result<_, InformationError>>()?;
        for (&(row, weight), (metric, eigenvalues)) in part.iter().zip(found) {
            for j in 0..d {
                for i in j..d {
                    mean[(i, j)] += weight * metric[(i, j)];
                }
            }
            let shape = Shape::of(&eigenvalues);
            spectra.push(ContextSpectrum {
                row,
                eigenvalues,
                effective_rank: shape.effective_rank,
                anisotropy: shape.anisotropy,
                trace: shape.trace,
            });
        }
    }
    let mean_eigenvalues = nonnegative(symmetric_eigenvalues(mean.as_ref())?);
    let shape = Shape::of(&mean_eigenvalues);
    let over = |f: fn(&ContextSpectrum) -> f64| {
        let weighted = || chosen.iter().map(|c| c.1).zip(spectra.iter().map(f));
        let mean = sum(weighted().map(|(w, x)| w * x));
        let variance = sum(weighted().map(|(w, x)| w * (x - mean).powi(2)));
        (mean, variance.sqrt())
    };
    Ok(LayerMetric {
        layer,
        contexts: spectra.len(),
        all,
        mean_eigenvalues,
        mean_effective_rank: shape.effective_rank,
        mean_anisotropy: shape.anisotropy,
        effective_rank: over(|s| s.effective_rank),
        anisotropy: over(|s| s.anisotropy),
        spectra,
    })
}
