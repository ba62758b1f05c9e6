//! Least-norm weights by the method of multipliers: few steps, each a nonlinear problem.

use lawvere_core::RowMatrix;

use crate::least_norm::{Constraints, LeastNorm, Limits, ROUNDING, axpy, distance, dot, norm};

/// The penalty may grow to this many times its first value.
const LARGEST_PENALTY: f64 = 1e12;
const NEWTON_STEPS: usize = 60;
const OUTER_STEPS: usize = 200;

/// Improves what is known from shifts and a penalty that another method reached.
pub(crate) fn method_of_multipliers(
    constraints: &mut dyn Constraints,
    limits: &Limits,
    start: (Vec<f64>, f64),
    out: &mut LeastNorm,
    on_progress: &mut dyn FnMut(&LeastNorm),
) {
    let (shift, rho) = start;
    let mut state = State {
        logits: constraints.logits(&out.weights),
        weights: out.weights.clone(),
        shift,
        rho,
        iterations: out.iterations,
        limit: limits.iterations,
    };
    let (largest, mut accuracy, mut before) = (rho * LARGEST_PENALTY, 1e-4, f64::INFINITY);
    let mut last = state.weights.data().to_vec();
    for _ in 0..OUTER_STEPS {
        state.minimise(constraints, accuracy);
        let mut next = state.shifted(0.0, &[]);
        constraints.residual(&mut next);
        let change: Vec<f64> = next.iter().zip(&state.shift).map(|(n, u)| n - u).collect();
        state.shift = next;
        out.displacement = norm(&change);
        out.iterations = state.iterations;
        out.bound(constraints, &state.shift);
        out.bound(constraints, &change);
        out.repair(constraints, limits, &state.weights, &state.logits);
        state.iterations = out.iterations;
        on_progress(out);
        if out.judge(limits) || state.iterations >= limits.iterations {
            break;
        }
        // The weights settle whether or not any are allowed; then a larger penalty is of no use.
        let settling = distance(state.weights.data(), &last);
        if settling > 0.1 * before && state.rho < largest {
            state.rho *= 10.0;
            state.shift.iter_mut().for_each(|u| *u /= 10.0);
        }
        before = settling;
        last.copy_from_slice(state.weights.data());
        accuracy = (accuracy * 0.1).max(1e-13);
    }
    out.weights_if_none(&state.weights);
}

struct State {
    weights: RowMatrix<f64>,
    /// `A weights`.
    logits: Vec<f64>,
    /// u, minus the multiplier over rho.
    shift: Vec<f64>,
    rho: f64,
    iterations: usize,
    limit: usize,
}

impl State {
    /// `A w + t step + u`.
    fn shifted(&self, t: f64, step: &[f64]) -> Vec<f64> {
        let mut out: Vec<f64> = self.logits.clone();
        out.iter_mut().zip(&self.shift).for_each(|(x, u)| *x += u);
        out.iter_mut().zip(step).for_each(|(x, s)| *x += t * s);
        out
    }

    /// Until the gradient is below `accuracy` relative to the weights.
    fn minimise(&mut self, constraints: &mut dyn Constraints, accuracy: f64) {
        self.logits = constraints.logits(&self.weights);
        let mut residual = self.shifted(0.0, &[]);
        constraints.residual(&mut residual);
        for _ in 0..NEWTON_STEPS {
            let mut gradient = constraints.adjoint(&residual);
            let terms = gradient.data_mut().iter_mut().zip(self.weights.data());
            terms.for_each(|(g, w)| *g = *w + self.rho * *g);
            let size = norm(gradient.data());
            let scale = norm(self.weights.data()).max(1.0);
            let rounding = ROUNDING * constraints.size() * self.rho * norm(&residual);
            if size <= accuracy * scale + rounding || self.iterations >= self.limit {
                return;
            }
            let forcing = (size / scale).sqrt().clamp(1e-8, 0.1);
            let step = self.solve(
                constraints,
                &gradient,
                forcing.max(0.1 * accuracy * scale / size),
            );
            let change = constraints.logits(&step);
            let slope = dot(gradient.data(), step.data());
            let old = self.objective(self.weights.data(), &residual);
            let mut t = 1.0;
            loop {
                let mut weights = self.weights.clone();
                let terms = weights.data_mut().iter_mut().zip(step.data());
                terms.for_each(|(w, p)| *w += t * p);
                let mut trial = self.shifted(t, &change);
                constraints.residual(&mut trial);
                let new = self.objective(weights.data(), &trial);
                // Near the minimum the decrease drowns in rounding, and the full step is the best known.
                if new <= old + 1e-4 * t * slope + 1e-14 * old.abs() || t < 1e-10 {
                    self.weights = weights;
                    self.logits
                        .iter_mut()
                        .zip(&change)
                        .for_each(|(x, c)| *x += t * c);
                    residual = trial;
                    break;
                }
                t *= 0.5;
            }
        }
    }

    fn objective(&self, weights: &[f64], residual: &[f64]) -> f64 {
        0.5 * (dot(weights, weights) + self.rho * dot(residual, residual))
    }

    /// `-(I + rho A^T D A)^-1 gradient` to a relative accuracy, by conjugate gradients preconditioned
    /// with the diagonal.
    fn solve(
        &mut self,
        constraints: &dyn Constraints,
        gradient: &RowMatrix<f64>,
        accuracy: f64,
    ) -> RowMatrix<f64> {
        let (rows, columns) = constraints.shape();
        let rho = self.rho;
        let mut scale = constraints.diagonal();
        scale
            .data_mut()
            .iter_mut()
            .for_each(|d| *d = 1.0 / (1.0 + rho * *d));
        let mut solution = RowMatrix::zeros(rows, columns);
        let mut rest: Vec<f64> = gradient.data().iter().map(|g| -g).collect();
        let scaled = |rest: &[f64]| -> Vec<f64> {
            rest.iter().zip(scale.data()).map(|(r, s)| r * s).collect()
        };
        let mut direction = RowMatrix::zeros(rows, columns);
        let mut z = scaled(&rest);
        direction.data_mut().copy_from_slice(&z);
        let mut energy = dot(&rest, &z);
        let target = accuracy * norm(&rest);
        while self.iterations < self.limit {
            self.iterations += 1;
            let mut y = constraints.logits(&direction);
            constraints.derivative(&mut y);
            let mut image = constraints.adjoint(&y);
            let terms = image.data_mut().iter_mut().zip(direction.data());
            terms.for_each(|(i, d)| *i = *d + rho * *i);
            let curvature = dot(direction.data(), image.data());
            if curvature.is_nan() || curvature <= 0.0 {
                break;
            }
            let t = energy / curvature;
            axpy(solution.data_mut(), t, direction.data());
            axpy(&mut rest, -t, image.data());
            if norm(&rest) <= target {
                break;
            }
            z = scaled(&rest);
            let next = dot(&rest, &z);
            let beta = next / energy;
            energy = next;
            let terms = direction.data_mut().iter_mut().zip(&z);
            terms.for_each(|(d, z)| *d = z + beta * *d);
        }
        solution
    }
}
