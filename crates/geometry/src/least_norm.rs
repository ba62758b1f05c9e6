//! Least-norm weights under conditions on the logits that they give, with a proved lower bound.

use lawvere_core::{RowMatrix, sum};

use crate::multipliers::method_of_multipliers;
use crate::splitting::alternate;

/// Closed convex conditions on the logits `x = A w` of weights w, one group of logits a context.
///
/// Logits are flat vectors in an order of the implementor's.
pub(crate) trait Constraints {
    /// Shape of the weights.
    fn shape(&self) -> (usize, usize);
    /// An upper bound of the operator norm of A.
    fn size(&self) -> f64;
    /// `A w`.
    fn logits(&self, weights: &RowMatrix<f64>) -> Vec<f64>;
    /// `A^T y`.
    fn adjoint(&self, y: &[f64]) -> RowMatrix<f64>;
    /// Replaces x by `x - nearest(x)`, and keeps where that map is differentiated next.
    fn residual(&mut self, x: &mut [f64]);
    /// Replaces y by `D y`, D the derivative of the residual where it was last taken: an orthogonal
    /// projection.
    fn derivative(&self, y: &mut [f64]);
    /// Replaces y by what D would leave of it if only conditions that are always active were: equations.
    fn equations(&self, y: &mut [f64]);
    /// The eigenvalues of `A^T A` along the columns of the weights, where it is diagonal if every logit
    /// counts.
    fn spectrum(&self) -> Vec<f64>;
    /// The diagonal of `A^T D A`.
    fn diagonal(&self) -> RowMatrix<f64>;
    /// Makes g a multiplier, i.e. such that the least `<g,x>` over all allowed x is finite, and returns
    /// that least value.
    fn multiplier(&self, g: &mut [f64]) -> f64;
    /// The factor that would bring these logits closest to being allowed, and how far from it they
    /// then are; `None` if no factor helps.
    fn nearness(&self, x: &[f64]) -> Option<Nearness>;
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Nearness {
    pub factor: f64,
    pub violation: f64,
}

/// When [`least_norm`] stops.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The relative gap between the norm of allowed weights and a proved lower bound of it.
    pub tolerance: f64,
    /// The violation up to which weights count as allowed.
    pub violation: f64,
    /// A lower bound of the norm at which no weights count as allowed.
    pub norm: f64,
    /// Products with the operator at most.
    pub iterations: usize,
}

/// What [`least_norm`] found.
#[derive(Debug, Clone)]
pub(crate) struct LeastNorm {
    /// The weights of least norm known that are allowed; where there are none, those of the last step.
    pub weights: RowMatrix<f64>,
    /// Their norm, if they are allowed.
    pub value: Option<f64>,
    /// No allowed weights have a smaller norm than this.
    pub lower_bound: f64,
    /// The violation of `weights`, if they are allowed.
    pub violation: f64,
    /// `x - nearest(x)` of the last step's logits as the method sees it: where no weights are allowed,
    /// it tends to the shortest way from logits of weights to allowed ones.
    pub displacement: f64,
    pub iterations: usize,
    pub converged: bool,
    /// Repairs cost many products: the iteration before which none is tried.
    next_repair: usize,
}

/// What a product with the operator may be off by, relative to norms.
pub(crate) const ROUNDING: f64 = 4.0 * f64::EPSILON;

/// Minimises `|w|` over weights whose logits are allowed: first by the alternating direction method,
/// which is fast where that is easy, then from there by the method of multipliers.
///
/// Each step of the latter minimises `|w|^2/2 + rho/2 dist^2(A w + u)` by a semismooth Newton method,
/// whose linear systems `(I + rho A^T D A) p = -g` conjugate gradients solve, and takes the residual as
/// the next u. Any multiplier g proves that allowed weights have a norm of at least
/// `min <g,x> / |A^T g|`; if no weights are allowed, changes of u are multipliers that make this bound grow
/// without limit (Farkas). Embeddings should have norms near 1.
pub(crate) fn least_norm(
    constraints: &mut dyn Constraints,
    limits: &Limits,
    on_progress: &mut dyn FnMut(&LeastNorm),
) -> LeastNorm {
    let mut out = LeastNorm::new(constraints.shape());
    let easy = Limits {
        iterations: limits.iterations / 5,
        ..*limits
    };
    let reached = alternate(constraints, &easy, &mut out, on_progress);
    if !out.converged {
        method_of_multipliers(constraints, limits, reached, &mut out, on_progress);
    }
    out
}

impl LeastNorm {
    pub fn new(shape: (usize, usize)) -> Self {
        Self {
            weights: RowMatrix::zeros(shape.0, shape.1),
            value: None,
            lower_bound: 0.0,
            violation: f64::INFINITY,
            displacement: 0.0,
            iterations: 0,
            converged: false,
            next_repair: 0,
        }
    }

    /// What minus u, or a change of it, proves as a multiplier.
    pub fn bound(&mut self, constraints: &dyn Constraints, u: &[f64]) {
        let mut g: Vec<f64> = u.iter().map(|x| -x).collect();
        let least = constraints.multiplier(&mut g);
        let rounding = ROUNDING * constraints.size() * norm(&g);
        let pull = norm(constraints.adjoint(&g).data()) + rounding;
        if least > 0.0 {
            self.lower_bound = self.lower_bound.max(least / pull);
        }
    }

    /// Takes weights over if, brought to where the equations hold, they are allowed and of smaller norm.
    pub fn repair(
        &mut self,
        constraints: &dyn Constraints,
        limits: &Limits,
        weights: &RowMatrix<f64>,
        logits: &[f64],
    ) {
        let Some(near) = constraints.nearness(logits) else {
            return;
        };
        let value = near.factor * norm(weights.data());
        // Weights that are not allowed may have a smaller norm than any that are.
        let close = (value - self.lower_bound).abs() <= 2.0 * limits.tolerance * value;
        let first = self.value.is_none() && near.violation <= 1e-3;
        if !(close || first) || self.iterations < self.next_repair {
            return;
        }
        self.next_repair = self.iterations + self.iterations / 5;
        let (mut weights, mut near) = (weights.clone(), near);
        if near.violation > limits.violation {
            let mut rest = logits.to_vec();
            constraints.equations(&mut rest);
            let accuracy = 0.1 * limits.violation / near.violation;
            let (change, steps) = least_change(
                constraints,
                &rest,
                accuracy,
                limits.iterations - self.iterations,
            );
            self.iterations += steps;
            axpy(weights.data_mut(), -1.0, change.data());
            match constraints.nearness(&constraints.logits(&weights)) {
                Some(repaired) => near = repaired,
                None => return,
            }
        }
        let value = near.factor * norm(weights.data());
        if near.violation <= limits.violation && self.value.is_none_or(|best| value < best) {
            let scaled = weights.data_mut().iter_mut();
            scaled.for_each(|w| *w *= near.factor);
            self.weights = weights;
            self.value = Some(value);
            self.violation = near.violation;
        }
    }

    /// Whether nothing is left to find.
    pub fn judge(&mut self, limits: &Limits) -> bool {
        self.converged = match self.value {
            Some(value) => value - self.lower_bound <= limits.tolerance * value,
            None => self.lower_bound >= limits.norm,
        };
        self.converged
    }

    pub fn weights_if_none(&mut self, weights: &RowMatrix<f64>) {
        if self.value.is_none() {
            self.weights = weights.clone();
        }
    }
}

/// The least weights whose logits break the equations by `rest`, to a relative accuracy, and the number
/// of products: conjugate gradients on `E A A^T E y = rest`.
fn least_change(
    constraints: &dyn Constraints,
    rest: &[f64],
    accuracy: f64,
    limit: usize,
) -> (RowMatrix<f64>, usize) {
    let (rows, columns) = constraints.shape();
    let mut out = RowMatrix::zeros(rows, columns);
    let mut rest = rest.to_vec();
    let mut direction = rest.clone();
    let mut energy = dot(&rest, &rest);
    let target = energy.sqrt() * accuracy;
    for step in 0..limit {
        if energy.sqrt() <= target {
            return (out, step);
        }
        let pulled = constraints.adjoint(&direction);
        let curvature = dot(pulled.data(), pulled.data());
        if curvature.is_nan() || curvature <= 0.0 {
            return (out, step);
        }
        let t = energy / curvature;
        axpy(out.data_mut(), t, pulled.data());
        let mut image = constraints.logits(&pulled);
        constraints.equations(&mut image);
        axpy(&mut rest, -t, &image);
        let next = dot(&rest, &rest);
        let terms = direction.iter_mut().zip(&rest);
        terms.for_each(|(d, r)| *d = r + next / energy * *d);
        energy = next;
    }
    (out, limit)
}

pub(crate) fn axpy(y: &mut [f64], a: f64, x: &[f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x);
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    lawvere_core::vector::vectorised(|| lawvere_core::vector::dot(a, b))
}

pub(crate) fn distance(x: &[f64], y: &[f64]) -> f64 {
    sum(x.iter().zip(y).map(|(x, y)| (x - y) * (x - y))).sqrt()
}

pub(crate) fn norm(x: &[f64]) -> f64 {
    sum(x.chunks(512).map(|part| dot(part, part))).sqrt()
}
