use std::time::Instant;

use lawvere_core::{RowMatrix, sum};
use serde::Serialize;

use crate::entropy_prox::CrossEntropy;
use crate::max_margin::{
    Threshold, distance, norm, nuclear_norm_estimate, operator_norm, singular_values,
};
use crate::reduction::Reduction;
use crate::{ContextLaws, GeometryError, MaxMargin};

/// The penalties of a path.
#[derive(Debug, Clone, PartialEq)]
pub enum Penalties {
    /// So many, in equal ratios, from the first to the last; both as fractions of lambda_max.
    Spread {
        /// How many, at least 2.
        points: usize,
        /// The largest, as a fraction of lambda_max.
        from: f64,
        /// The smallest, as a fraction of lambda_max.
        to: f64,
    },
    /// These, decreasing.
    These(Vec<f64>),
}

/// How [`path`] solves.
#[derive(Debug, Clone, PartialEq)]
pub struct PathOptions {
    /// Which penalties lambda.
    pub penalties: Penalties,
    /// The duality gap of every point, as a fraction of `lambda |L|_*`.
    pub tolerance: f64,
    /// Iterations a point at most.
    pub max_iterations: usize,
    /// The largest reduced problem, distinct tokens times distinct contexts, that is solved.
    pub size_limit: usize,
}

impl Default for PathOptions {
    fn default() -> Self {
        Self {
            penalties: Penalties::Spread {
                points: 17,
                from: 1.0,
                to: 1e-8,
            },
            tolerance: 1e-6,
            max_iterations: 5_000,
            size_limit: 30_000_000,
        }
    }
}

/// The regularised solutions `L_lambda = argmin CE(L) + lambda |L|_*` along decreasing penalties.
#[derive(Debug, Clone, Serialize)]
pub struct Path {
    /// The smallest penalty at which the solution is 0: the operator norm of the gradient there.
    pub lambda_max: f64,
    /// H: what the cross-entropy tends to, nats.
    pub entropy: f64,
    /// N, the nuclear norm of the max-margin logits, where they were given.
    pub max_margin_value: Option<f64>,
    /// V.
    pub vocabulary: usize,
    /// m.
    pub contexts: usize,
    /// Tokens with different probabilities.
    pub reduced_tokens: usize,
    /// Contexts with different laws or weights.
    pub reduced_contexts: usize,
    /// Wall time.
    pub seconds: f64,
    /// One solution a penalty.
    pub points: Vec<PathPoint>,
    #[serde(skip)]
    reduction: Reduction,
    #[serde(skip)]
    logits: Vec<RowMatrix<f64>>,
}

/// The solution at one penalty.
#[derive(Debug, Clone, Serialize)]
pub struct PathPoint {
    /// lambda.
    pub lambda: f64,
    /// `lambda / lambda_max`.
    pub relative_lambda: f64,
    /// `CE - H`, nats.
    pub excess: f64,
    /// `|L_lambda|_*`.
    pub nuclear_norm: f64,
    /// The duality gap over `lambda |L_lambda|_*`; 0 where the solution is 0.
    pub relative_gap: f64,
    /// Whether the gap asked for was reached.
    pub converged: bool,
    /// `<G,S>` for `G = -grad CE / lambda` scaled into the dual feasible set: a lower bound on N.
    pub dual_bound: f64,
    /// Singular values that are not 0.
    pub rank: usize,
    /// `|P_F(L_lambda) - L^in|_F`.
    pub finite_distance: f64,
    /// The cosine of L_lambda with L^mm, where that was given.
    pub cosine: Option<f64>,
    /// `(CE - H) / lambda`, which tends to N.
    pub excess_rate: f64,
    /// The growth of the nuclear norm over that of `log(1/lambda)` since the point before; tends to N.
    pub norm_slope: Option<f64>,
    /// The cosine of `L_lambda - L_(point before)` with L^mm.
    pub slope_cosine: Option<f64>,
    /// Iterations made.
    pub iterations: usize,
    /// Wall time.
    pub seconds: f64,
}

impl Path {
    /// The logits at a point, V x m.
    pub fn logits(&self, point: usize) -> Option<RowMatrix<f64>> {
        Some(self.reduction.expand(self.logits.get(point)?))
    }
}

/// What [`path`] tells on its way, after every point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathProgress {
    /// Points made.
    pub points: usize,
    /// Points in all.
    pub total: usize,
}

const CERTIFY_EVERY: usize = 5;
const OVER_RELAXATION: f64 = 1.8;
const RHO_CHANGES: usize = 10;

/// The regularisation path of next-token prediction with unconstrained features: as lambda goes to 0,
/// `(CE - H) / lambda`, `<G,S>` and the growth of `|L_lambda|_*` a unit of `log(1/lambda)` tend to N
/// and the direction of growth to that of the max-margin logits.
///
/// Each point minimises `CE(L) / lambda + |L|_*` by the alternating direction method of multipliers
/// with exact proximal steps, from the point before, until an exact duality gap is small. Contexts
/// are merged where law and weight agree. Cost: as an iteration of
/// [`max_margin`](crate::max_margin()), and some ten evaluations of omega an entry. Memory: the reduced logits
/// of every point, and with `max_margin` one matrix V x m.
///
/// *Source:* arXiv 2408.15417, section 4 (regularisation path); `|W|^2 + |H|^2 = 2 |L|_*` at best:
/// Srebro, Rennie, Jaakkola, *Maximum-margin matrix factorization* (2004).
///
/// # Errors
/// Penalties that do not decrease or are not positive; a reduced problem above the limit; max-margin
/// logits of another shape.
pub fn path(
    laws: &ContextLaws,
    max_margin: Option<&MaxMargin>,
    options: &PathOptions,
    on_progress: &mut dyn FnMut(PathProgress),
) -> Result<Path, GeometryError> {
    let start = Instant::now();
    let (reduction, probabilities, weights) = Reduction::of_laws(laws, options.size_limit)?;
    let (r, c) = (reduction.tokens(), reduction.contexts());
    let gradient = gradient_at_zero(&reduction, &probabilities, &weights);
    let lambda_max = operator_norm(&gradient)?;
    // Where every law is uniform over everything, all is learned at 0 and no penalty matters.
    let lambdas = lambdas(options, lambda_max)?;
    let target = match max_margin {
        Some(solved) => Some(target(solved, laws, &reduction)?),
        None => None,
    };
    let mut solver = Solver {
        entropy: CrossEntropy::new(&reduction, &probabilities, &weights),
        reduction: &reduction,
        gradient_at_zero: &gradient,
        z: RowMatrix::zeros(c, r),
        u: RowMatrix::zeros(c, r),
        rho: 0.0,
        threshold: Threshold::default(),
    };
    let mut points: Vec<PathPoint> = Vec::new();
    let mut logits: Vec<RowMatrix<f64>> = Vec::new();
    for &lambda in &lambdas {
        let began = Instant::now();
        let mut point = if lambda >= lambda_max {
            solver.at_zero(lambda)
        } else {
            solver.forecast(lambda, &points, &logits);
            solver.point(lambda, options)?
        };
        point.relative_lambda = lambda / lambda_max;
        point.cosine = target.as_ref().map(|t| cosine(&solver.z, t));
        if let (Some(before), Some(old)) = (points.last(), logits.last()) {
            let span = (before.lambda / lambda).ln();
            point.norm_slope = Some((point.nuclear_norm - before.nuclear_norm) / span);
            let mut step = solver.z.clone();
            step.data_mut()
                .iter_mut()
                .zip(old.data())
                .for_each(|(x, y)| *x -= y);
            point.slope_cosine = target.as_ref().map(|t| cosine(&step, t));
        }
        point.seconds = began.elapsed().as_secs_f64();
        points.push(point);
        logits.push(solver.z.clone());
        on_progress(PathProgress {
            points: points.len(),
            total: lambdas.len(),
        });
    }
    Ok(Path {
        lambda_max,
        entropy: laws.entropy(),
        max_margin_value: max_margin.map(|solved| solved.value),
        vocabulary: laws.supports.vocabulary(),
        contexts: laws.supports.contexts(),
        reduced_tokens: r,
        reduced_contexts: c,
        seconds: start.elapsed().as_secs_f64(),
        points,
        reduction,
        logits,
    })
}

fn lambdas(options: &PathOptions, lambda_max: f64) -> Result<Vec<f64>, GeometryError> {
    let refuse = |what, problem: String| Err(GeometryError::Argument { what, problem });
    if !(options.tolerance > 0.0 && options.tolerance < 1.0) {
        return refuse(
            "tolerance",
            format!(
                "it is {}; a relative gap is more than 0 and less than 1",
                options.tolerance
            ),
        );
    }
    let lambdas = match &options.penalties {
        Penalties::These(these) => these.clone(),
        &Penalties::Spread { points, from, to } => {
            if points < 2 || !(from > to && to > 0.0 && from.is_finite()) {
                return refuse(
                    "penalties",
                    format!(
                        "{points} points from {from} to {to} times lambda_max; there should be at least 2, from more to less, above 0"
                    ),
                );
            }
            let ratio = (to / from).ln() / (points - 1) as f64;
            let spread = |k: usize| lambda_max * from * (ratio * k as f64).exp();
            (0..points).map(spread).collect()
        }
    };
    let bad = lambdas.iter().find(|l| !(l.is_finite() && **l > 0.0));
    if let Some(bad) = bad {
        return refuse("penalties", format!("{bad} is not a positive number"));
    }
    if lambdas.is_empty() || lambdas.windows(2).any(|pair| pair[1] >= pair[0]) {
        return refuse(
            "penalties",
            "there should be at least one, and they should decrease".into(),
        );
    }
    Ok(lambdas)
}

/// `pi_j (1/V - p_j)` in weighted coordinates.
fn gradient_at_zero(
    reduction: &Reduction,
    probabilities: &RowMatrix<f64>,
    weights: &[f64],
) -> RowMatrix<f64> {
    let uniform = 1.0 / sum(reduction.token_count.iter().copied());
    RowMatrix::from_fn(reduction.contexts(), reduction.tokens(), |j, i| {
        let scale = reduction.token_root[i] * reduction.context_root[j];
        scale * weights[j] * (uniform - probabilities.get(j, i))
    })
}

/// The max-margin logits in the weighted coordinates of `reduction`.
fn target(
    solved: &MaxMargin,
    laws: &ContextLaws,
    reduction: &Reduction,
) -> Result<RowMatrix<f64>, GeometryError> {
    let logits = solved.logits();
    let (v, m) = (laws.supports.vocabulary(), laws.supports.contexts());
    crate::check_shape("max-margin logits", &logits, v, m)?;
    Ok(reduction.contract(&logits))
}

fn cosine(x: &RowMatrix<f64>, y: &RowMatrix<f64>) -> f64 {
    let sizes = norm(x) * norm(y);
    let inner = sum(x.data().iter().zip(y.data()).map(|(x, y)| x * y));
    if sizes > 0.0 { inner / sizes } else { 0.0 }
}

struct Solver<'a> {
    reduction: &'a Reduction,
    entropy: CrossEntropy<'a>,
    gradient_at_zero: &'a RowMatrix<f64>,
    z: RowMatrix<f64>,
    u: RowMatrix<f64>,
    rho: f64,
    threshold: Threshold,
}

impl Solver<'_> {
    /// The solution 0 of a penalty of at least lambda_max.
    fn at_zero(&mut self, lambda: f64) -> PathPoint {
        self.u = self.gradient_at_zero.clone();
        self.u.data_mut().iter_mut().for_each(|u| *u /= lambda);
        self.rho = 1.0;
        // With a step of no length the proximal point is the place itself.
        let mut zero = self.z.clone();
        self.entropy.proximal(&mut zero, lambda * 1e30);
        let excess = self.entropy.excess();
        PathPoint {
            lambda,
            relative_lambda: 0.0,
            excess,
            nuclear_norm: 0.0,
            relative_gap: 0.0,
            converged: true,
            dual_bound: self.bound(&self.u, 1.0),
            rank: 0,
            finite_distance: self.entropy.finite_distance(),
            cosine: None,
            excess_rate: excess / lambda,
            norm_slope: None,
            slope_cosine: None,
            iterations: 0,
            seconds: 0.0,
        }
    }

    /// Where the solution should be if it goes on growing with `log(1/lambda)` as it did.
    fn forecast(&mut self, lambda: f64, points: &[PathPoint], logits: &[RowMatrix<f64>]) {
        if let ([.., a, b], [.., x, y]) = (points, logits) {
            let share = (b.lambda / lambda).ln() / (a.lambda / b.lambda).ln();
            let terms = self.z.data_mut().iter_mut().zip(x.data()).zip(y.data());
            terms.for_each(|((z, x), y)| *z = y + share * (y - x));
        }
        if self.rho == 0.0 || points.last().is_none_or(|p| p.nuclear_norm == 0.0) {
            // Nothing is known of the scale yet: that of logits of order 1.
            let old = self.rho;
            self.rho = 1.0 / norm(self.gradient_at_zero).max(f64::MIN_POSITIVE) * lambda;
            let factor = if old > 0.0 { old / self.rho } else { 0.0 };
            self.u.data_mut().iter_mut().for_each(|u| *u *= factor);
        }
    }

    /// `<G,S>` for `G = -scale u`.
    fn bound(&self, u: &RowMatrix<f64>, scale: f64) -> f64 {
        let roots = &self.reduction.token_root;
        -scale
            * sum((0..self.reduction.contexts()).map(|j| {
                let inside = self.reduction.inside.row(j);
                let entries = u.row(j).iter().zip(roots).zip(inside);
                let on = entries
                    .filter(|(_, inside)| **inside)
                    .map(|((u, r), _)| u * r);
                self.reduction.context_root[j] * sum(on)
            }))
    }

    fn point(&mut self, lambda: f64, options: &PathOptions) -> Result<PathPoint, GeometryError> {
        let (mut iterations, mut changes) = (0, 0);
        let mut old = self.z.clone();
        let mut low = self.z.clone();
        loop {
            iterations += 1;
            let (z, u) = (&mut self.z, &mut self.u);
            for ((a, z), u) in low.data_mut().iter_mut().zip(z.data()).zip(u.data()) {
                *a = z - u;
            }
            let rank = self.threshold.apply(&mut low, 1.0 / self.rho)?;
            std::mem::swap(z, &mut old);
            let terms = u.data_mut().iter_mut().zip(low.data()).zip(old.data());
            terms.for_each(|((u, l), z)| *u += OVER_RELAXATION * l + (1.0 - OVER_RELAXATION) * z);
            z.data_mut().copy_from_slice(u.data());
            self.entropy.proximal(z, lambda * self.rho);
            let terms = u.data_mut().iter_mut().zip(z.data());
            terms.for_each(|(u, z)| *u -= z);

            let last = iterations >= options.max_iterations;
            if !iterations.is_multiple_of(CERTIFY_EVERY) && !last {
                continue;
            }
            // u = -G / rho, exactly the gradient at the proximal point.
            let (dual_norm, estimate) =
                rayon::join(|| operator_norm(&self.u), || nuclear_norm_estimate(&self.z));
            let (dual_norm, estimate) = (self.rho * dual_norm?, estimate?);
            let t = if dual_norm > 1.0 {
                1.0 / dual_norm
            } else {
                1.0
            };
            let inner =
                -self.rho * sum(self.u.data().iter().zip(self.z.data()).map(|(u, z)| u * z));
            let divergence = self.entropy.mixture_divergence(t);
            let gap = |nuclear_norm: f64| {
                let gap = lambda * (nuclear_norm - t * inner) + divergence;
                (gap / (lambda * nuclear_norm)).max(0.0)
            };
            let (mut nuclear_norm, mut relative_gap) = (estimate.value, gap(estimate.value));
            let slack = estimate.error / estimate.value.max(f64::MIN_POSITIVE);
            if relative_gap <= options.tolerance + slack || last {
                nuclear_norm = sum(singular_values(&self.z)?);
                relative_gap = gap(nuclear_norm);
            }
            if relative_gap <= options.tolerance || last {
                let excess = self.entropy.excess();
                return Ok(PathPoint {
                    lambda,
                    relative_lambda: 0.0,
                    excess,
                    nuclear_norm,
                    relative_gap,
                    converged: relative_gap <= options.tolerance,
                    dual_bound: self.bound(&self.u, self.rho * t),
                    rank,
                    finite_distance: self.entropy.finite_distance(),
                    cosine: None,
                    excess_rate: excess / lambda,
                    norm_slope: None,
                    slope_cosine: None,
                    iterations,
                    seconds: 0.0,
                });
            }
            let primal = distance(&low, &self.z) / norm(&self.z);
            let dual = distance(&self.z, &old) / norm(&self.u);
            if changes < RHO_CHANGES && (primal > 2.0 * dual || dual > 2.0 * primal) {
                let factor = if primal > dual { 2.0 } else { 0.5 };
                self.rho *= factor;
                self.u.data_mut().iter_mut().for_each(|u| *u /= factor);
                changes += 1;
            }
        }
    }
}
