//! Factors of least norm under the max-margin constraints: a local search that is not convex.

use lawvere_core::RowMatrix;
use lawvere_core::linalg::matmul;

use crate::active::Margins;
use crate::least_norm::dot;

/// W and H in weighted coordinates: reduced tokens x d, and reduced contexts x d.
#[derive(Debug, Clone)]
pub(crate) struct Factors {
    pub words: RowMatrix<f64>,
    pub contexts: RowMatrix<f64>,
}

impl Factors {
    pub fn zeros(r: usize, c: usize, d: usize) -> Self {
        Self {
            words: RowMatrix::zeros(r, d),
            contexts: RowMatrix::zeros(c, d),
        }
    }

    fn like(&self) -> Self {
        let d = self.words.ncols();
        Self::zeros(self.words.nrows(), self.contexts.nrows(), d)
    }

    /// Flat, context after context: `H W^T`.
    fn logits(&self) -> Vec<f64> {
        product(&self.contexts, &self.words)
    }

    /// The change of the logits along `step`.
    fn change(&self, step: &Self) -> Vec<f64> {
        let mut out = product(&self.contexts, &step.words);
        let other = product(&step.contexts, &self.words);
        out.iter_mut().zip(other).for_each(|(a, b)| *a += b);
        out
    }

    /// `(y^T H, y W)`: what logits y pull the factors by.
    fn pull(&self, y: &RowMatrix<f64>) -> Self {
        let mut out = self.like();
        let transposed = y.view().transpose();
        matmul(out.words.view_mut(), transposed, self.contexts.view());
        matmul(out.contexts.view_mut(), y.view(), self.words.view());
        out
    }

    fn add(&mut self, scale: f64, other: &Self) {
        for (x, y) in self.parts_mut().into_iter().zip(other.parts()) {
            x.iter_mut().zip(y).for_each(|(x, y)| *x += scale * y);
        }
    }

    fn scale(&mut self, factor: f64) {
        for part in self.parts_mut() {
            part.iter_mut().for_each(|x| *x *= factor);
        }
    }

    fn dot(&self, other: &Self) -> f64 {
        let parts = self.parts().into_iter().zip(other.parts());
        parts.map(|(a, b)| dot(a, b)).sum()
    }

    fn parts(&self) -> [&[f64]; 2] {
        [self.words.data(), self.contexts.data()]
    }

    fn parts_mut(&mut self) -> [&mut [f64]; 2] {
        [self.words.data_mut(), self.contexts.data_mut()]
    }
}

fn product(a: &RowMatrix<f64>, b: &RowMatrix<f64>) -> Vec<f64> {
    let mut out = RowMatrix::zeros(a.nrows(), b.nrows());
    matmul(out.view_mut(), a.view(), b.view().transpose());
    out.into_data()
}

/// What [`least_factors`] came to.
pub(crate) struct LeastFactors {
    pub factors: Factors,
    /// `(|W|^2 + |H|^2) / 2`, if they are allowed.
    pub value: Option<f64>,
    /// See [`RankLimited`](crate::RankLimited).
    pub violation: f64,
    pub confused: f64,
    pub iterations: usize,
}

const OUTER_STEPS: usize = 60;
const NEWTON_STEPS: usize = 80;
const LARGEST_PENALTY: f64 = 1e9;
/// Steps without a smaller violation at the largest penalty before the search is given up.
const PATIENCE: usize = 4;

/// A local minimum of `(|W|^2 + |H|^2) / 2` subject to the margins, from given factors.
///
/// Method of multipliers, each step by truncated Newton with the exact curvature, which may be
/// negative: then the step taken is the last along which it was not.
pub(crate) fn least_factors(
    margins: &mut Margins<'_>,
    start: Factors,
    tolerance: f64,
    limit: usize,
    on_progress: &mut dyn FnMut(usize),
) -> LeastFactors {
    let logits = start.logits();
    let mut search = Search {
        shift: vec![0.0; logits.len()],
        rho: first_penalty(margins, logits.len()),
        factors: start,
        iterations: 0,
        limit,
    };
    let mut best = LeastFactors {
        factors: search.factors.clone(),
        value: None,
        violation: 1.0,
        confused: 1.0,
        iterations: 0,
    };
    let (mut accuracy, mut before, mut idle) = (1e-2, f64::INFINITY, 0);
    for _ in 0..OUTER_STEPS {
        search.minimise(margins, accuracy);
        let logits = search.factors.logits();
        let mut next = logits.clone();
        next.iter_mut()
            .zip(&search.shift)
            .for_each(|(x, u)| *x += u);
        margins.residual(&mut next);
        let moved = next.iter().zip(&search.shift);
        let moved = moved.map(|(n, u)| (n - u) * (n - u)).sum::<f64>().sqrt();
        search.shift = next;
        let old = best.violation;
        let settled = take(&mut best, margins, &search.factors, &logits, tolerance);
        best.iterations = search.iterations;
        on_progress(search.iterations);
        // Allowed and, at this accuracy, stationary: nothing more to gain here.
        let done = settled && accuracy <= 1e-9;
        if done || search.iterations >= limit {
            break;
        }
        if moved > 0.25 * before {
            if search.rho >= LARGEST_PENALTY {
                idle += usize::from(best.violation >= 0.9 * old);
                if idle >= PATIENCE {
                    break;
                }
            } else {
                search.rho *= 4.0;
                search.shift.iter_mut().for_each(|u| *u /= 4.0);
            }
        }
        before = moved;
        accuracy = (accuracy * 0.2).max(1e-11);
    }
    best
}

/// A penalty at which factors of 0, where the gradient is 0 too, are no local minimum.
fn first_penalty(margins: &mut Margins<'_>, logits: usize) -> f64 {
    let mut nearest = vec![0.0; logits];
    margins.residual(&mut nearest);
    let singular = margins.matrix(&nearest).view().singular_values();
    match singular.ok().and_then(|s| s.first().copied()) {
        Some(largest) if largest > 0.0 => 2.0 / largest,
        _ => 1.0,
    }
}

/// Keeps the better of what is known and these factors, and says whether these are allowed.
fn take(
    best: &mut LeastFactors,
    margins: &Margins<'_>,
    factors: &Factors,
    logits: &[f64],
    tolerance: f64,
) -> bool {
    let confused = margins.confused(logits);
    let Some(near) = margins.nearness(logits) else {
        if best.violation == 1.0 && confused < best.confused {
            best.factors = factors.clone();
            best.confused = confused;
        }
        return false;
    };
    let allowed = near.violation <= tolerance;
    // Where logits of a support differ, the scale that makes that and the missing margin equal.
    let (factor, violation) = match allowed {
        true => (near.factor, near.violation),
        false => {
            let shrink = 1.0 / (1.0 + near.violation);
            (near.factor * shrink, near.violation * shrink)
        }
    };
    let value = 0.5 * factor * factors.dot(factors);
    let better = match (allowed, best.value) {
        (true, Some(old)) => value < old,
        (false, None) => violation < best.violation,
        (allowed, _) => allowed,
    };
    if better {
        best.factors = factors.clone();
        best.factors.scale(factor.sqrt());
        best.value = allowed.then_some(value);
        best.violation = violation;
        best.confused = confused;
    }
    allowed
}

struct Search {
    factors: Factors,
    shift: Vec<f64>,
    rho: f64,
    iterations: usize,
    limit: usize,
}

impl Search {
    fn residual(&self, margins: &mut Margins<'_>, factors: &Factors) -> Vec<f64> {
        let mut x = factors.logits();
        x.iter_mut().zip(&self.shift).for_each(|(x, u)| *x += u);
        margins.residual(&mut x);
        x
    }

    fn objective(&self, factors: &Factors, residual: &[f64]) -> f64 {
        0.5 * (factors.dot(factors) + self.rho * dot(residual, residual))
    }

    fn minimise(&mut self, margins: &mut Margins<'_>, accuracy: f64) {
        let mut residual = self.residual(margins, &self.factors);
        for _ in 0..NEWTON_STEPS {
            let mut scaled = margins.matrix(&residual);
            scaled.data_mut().iter_mut().for_each(|r| *r *= self.rho);
            let mut gradient = self.factors.pull(&scaled);
            gradient.add(1.0, &self.factors);
            let size = gradient.dot(&gradient).sqrt();
            let scale = self.factors.dot(&self.factors).sqrt().max(1.0);
            if size <= accuracy * scale || self.iterations >= self.limit {
                return;
            }
            let forcing = (size / scale).sqrt().clamp(1e-6, 0.1);
            let step = self.solve(margins, &scaled, &gradient, forcing);
            let slope = gradient.dot(&step);
            let old = self.objective(&self.factors, &residual);
            let mut t = 1.0;
            loop {
                let mut factors = self.factors.clone();
                factors.add(t, &step);
                let trial = self.residual(margins, &factors);
                let new = self.objective(&factors, &trial);
                if new <= old + 1e-4 * t * slope + 1e-14 * old {
                    self.factors = factors;
                    residual = trial;
                    break;
                }
                t *= 0.5;
                if t < 1e-12 {
                    return;
                }
            }
        }
    }

    /// A direction of descent: conjugate gradients on the Newton equations until they are solved to a
    /// relative accuracy or the curvature is not positive.
    fn solve(
        &mut self,
        margins: &Margins<'_>,
        scaled: &RowMatrix<f64>,
        gradient: &Factors,
        accuracy: f64,
    ) -> Factors {
        let mut solution = self.factors.like();
        let mut rest = self.factors.like();
        rest.add(-1.0, gradient);
        let mut direction = rest.clone();
        let mut energy = rest.dot(&rest);
        let target = accuracy * energy.sqrt();
        let most = 10 * (self.factors.words.data().len() + self.factors.contexts.data().len());
        for step in 0..most {
            if self.iterations >= self.limit {
                break;
            }
            self.iterations += 1;
            let image = self.curvature(margins, scaled, &direction);
            let curvature = direction.dot(&image);
            if curvature.is_nan() || curvature <= 1e-14 * direction.dot(&direction) {
                if step == 0 {
                    return rest;
                }
                break;
            }
            let t = energy / curvature;
            solution.add(t, &direction);
            rest.add(-t, &image);
            let next = rest.dot(&rest);
            if next.sqrt() <= target {
                break;
            }
            direction.scale(next / energy);
            direction.add(1.0, &rest);
            energy = next;
        }
        solution
    }

    /// The second derivative along `direction`.
    fn curvature(
        &self,
        margins: &Margins<'_>,
        scaled: &RowMatrix<f64>,
        direction: &Factors,
    ) -> Factors {
        let mut y = self.factors.change(direction);
        margins.derivative(&mut y);
        y.iter_mut().for_each(|y| *y *= self.rho);
        let mut out = self.factors.pull(&margins.matrix(&y));
        out.add(1.0, &direction.pull(scaled));
        out.add(1.0, direction);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::least_norm::norm;

    #[test]
    fn norms_of_factors_are_those_of_their_parts() {
        let factors = Factors {
            words: RowMatrix::from_fn(3, 2, |i, k| (i + k) as f64),
            contexts: RowMatrix::from_fn(4, 2, |i, k| i as f64 - k as f64),
        };
        let whole = norm(factors.words.data()).hypot(norm(factors.contexts.data()));
        assert!((factors.dot(&factors).sqrt() - whole).abs() < 1e-12);
    }
}
