//! Least-norm weights by the alternating direction method: many cheap steps.

use lawvere_core::RowMatrix;

use crate::least_norm::{Constraints, LeastNorm, Limits, distance, norm};

/// Steps between certificates.
const CERTIFY_EVERY: usize = 10;
const OVER_RELAXATION: f64 = 1.8;
/// How much smaller the relative violation should be than the relative change: with the two alike,
/// problems of a hundred tokens take several times as many steps.
const BALANCE: f64 = 20.0;

/// Minimises `|w|` over weights whose logits are allowed: `min |w|^2/2 + [z allowed]` with `A w = z`.
/// In the coordinates of the embeddings the step in w is a division, at any penalty.
pub(crate) fn alternate(
    constraints: &mut dyn Constraints,
    limits: &Limits,
    out: &mut LeastNorm,
    on_progress: &mut dyn FnMut(&LeastNorm),
) -> (Vec<f64>, f64) {
    let (rows, columns) = constraints.shape();
    let spectrum = constraints.spectrum();
    let mut weights = RowMatrix::zeros(rows, columns);
    let mut z = constraints.logits(&weights);
    constraints.residual(&mut z);
    z.iter_mut().for_each(|z| *z = -*z);
    let mut u = vec![0.0; z.len()];
    let mut marked = u.clone();
    let mut rho: f64 = 1.0;
    let mut next_change = CERTIFY_EVERY;
    while out.iterations < limits.iterations {
        out.iterations += 1;
        let y: Vec<f64> = z.iter().zip(&u).map(|(z, u)| z - u).collect();
        weights = constraints.adjoint(&y);
        for row in weights.data_mut().chunks_mut(columns.max(1)) {
            let terms = row.iter_mut().zip(&spectrum);
            terms.for_each(|(w, s)| *w *= rho / (1.0 + rho * s));
        }
        let logits = constraints.logits(&weights);
        let old = z.clone();
        let terms = u.iter_mut().zip(&logits).zip(&old);
        terms.for_each(|((u, l), z)| *u += OVER_RELAXATION * l + (1.0 - OVER_RELAXATION) * z);
        z.copy_from_slice(&u);
        constraints.residual(&mut u);
        z.iter_mut().zip(&u).for_each(|(z, u)| *z -= u);
        if !out.iterations.is_multiple_of(CERTIFY_EVERY) {
            continue;
        }
        let moved: Vec<f64> = u.iter().zip(&marked).map(|(u, m)| u - m).collect();
        out.bound(constraints, &u);
        out.bound(constraints, &moved);
        marked.copy_from_slice(&u);
        out.displacement = norm(&moved) / CERTIFY_EVERY as f64;
        out.repair(constraints, limits, &weights, &logits);
        on_progress(out);
        if out.judge(limits) {
            break;
        }
        if out.iterations >= next_change {
            let change: Vec<f64> = z.iter().zip(&old).map(|(z, o)| z - o).collect();
            let primal = distance(&logits, &z) / norm(&z).max(norm(&logits));
            let dual = rho * norm(constraints.adjoint(&change).data()) / norm(weights.data());
            let factor = (BALANCE * primal / dual).sqrt();
            if factor.is_finite() && !(0.4..=2.5).contains(&factor) {
                let factor = factor.clamp(0.1, 10.0);
                rho *= factor;
                u.iter_mut().chain(&mut marked).for_each(|u| *u /= factor);
            }
            // Ever rarer, so that the method's proof of convergence holds between changes.
            next_change = out.iterations + (out.iterations / 4).max(CERTIFY_EVERY);
        }
    }
    out.weights_if_none(&weights);
    (u, rho)
}
