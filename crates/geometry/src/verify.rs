use lawvere_core::linalg::LinalgError;
use lawvere_core::{RowMatrix, sum};
use serde::Serialize;

use crate::{GeometryError, Supports};

/// Where rounding may hide so much of a margin nothing is proved.
const LOST: f64 = 1e-6;

/// How far a claimed max-margin solution is from what it claims, with what it proves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Verification {
    /// Whether the logits satisfy every constraint, and the dual point, if there is one, its own, up
    /// to [`Verification::TOLERANCE`].
    pub valid: bool,
    /// The nuclear norm of the logits.
    pub value: f64,
    /// The largest difference between two logits of one support.
    pub equality_violation: f64,
    /// The most that a margin, which should be at least 1, falls short of it.
    pub margin_violation: f64,
    /// `<G,S>`, divided by the operator norm of G if that is more than 1. `None` without a dual point.
    pub lower_bound: Option<f64>,
    /// `(value - lower_bound) / value`; 0 for value 0, `None` where that has a positive bound, as logits
    /// that violate the constraints may have.
    pub relative_gap: Option<f64>,
    /// The operator norm of G; it should be at most 1.
    pub dual_norm: Option<f64>,
    /// The largest `|1^T G|` of a column; it should be 0.
    pub dual_column_sum: Option<f64>,
    /// The largest entry of G off the supports; it should not be positive.
    pub dual_sign_violation: Option<f64>,
}

impl Verification {
    /// Constraints count as satisfied within this: relative to the margin of 1, and to entries of G, which
    /// are at most 1.
    pub const TOLERANCE: f64 = 1e-9;
}

/// Checks logits (V x m) and a dual point (V x m) against the definition of the max-margin problem.
///
/// It shares nothing with the solver: no reduction, no weighted coordinates, singular values of the
/// whole matrices. Cost: singular values of V x m matrices.
///
/// # Errors
/// Matrices of another shape than the supports'; NaN or infinite entries.
pub fn verify(
    supports: &Supports,
    logits: &RowMatrix<f64>,
    dual: Option<&RowMatrix<f64>>,
) -> Result<Verification, GeometryError> {
    check("logits", supports, logits)?;
    let (mut equality, mut margin) = (0.0f64, 0.0f64);
    for context in 0..supports.contexts() {
        let (mut low, mut high, mut off) = (f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY);
        for token in 0..supports.vocabulary() {
            let logit = logits.get(token, context);
            if supports.allows(token, context) {
                low = low.min(logit);
                high = high.max(logit);
            } else {
                off = off.max(logit);
            }
        }
        equality = equality.max(high - low);
        margin = margin.max(1.0 - (low - off));
    }
    let value = sum(singular_values(logits)?);
    let largest = logits.data().iter().fold(0.0f64, |a, x| a.max(x.abs()));
    // Differences of large logits have lost as much to rounding.
    let tolerance = Verification::TOLERANCE + 4.0 * f64::EPSILON * largest;
    let mut out = Verification {
        valid: equality <= tolerance && margin <= tolerance && tolerance < LOST,
        value,
        equality_violation: equality,
        margin_violation: margin,
        lower_bound: None,
        relative_gap: None,
        dual_norm: None,
        dual_column_sum: None,
        dual_sign_violation: None,
    };
    if let Some(dual) = dual {
        check("dual point", supports, dual)?;
        add_dual(&mut out, supports, dual)?;
    }
    Ok(out)
}

fn add_dual(
    out: &mut Verification,
    supports: &Supports,
    dual: &RowMatrix<f64>,
) -> Result<(), GeometryError> {
    let (mut column_sum, mut sign, mut inner) = (0.0f64, 0.0f64, Vec::new());
    for context in 0..supports.contexts() {
        let column = (0..supports.vocabulary()).map(|token| dual.get(token, context));
        column_sum = column_sum.max(sum(column).abs());
        for token in 0..supports.vocabulary() {
            let entry = dual.get(token, context);
            if supports.allows(token, context) {
                inner.push(entry);
            } else {
                sign = sign.max(entry);
            }
        }
    }
    let norm = singular_values(dual)?.into_iter().fold(0.0, f64::max);
    let inner = sum(inner);
    let lower = if norm > 0.0 {
        inner / norm.max(1.0)
    } else {
        0.0
    };
    let tolerance = Verification::TOLERANCE;
    out.valid &= norm <= 1.0 + tolerance && column_sum <= tolerance && sign <= tolerance;
    out.lower_bound = Some(lower);
    out.relative_gap = match out.value > 0.0 {
        true => Some((out.value - lower) / out.value),
        false => (lower <= 0.0).then_some(0.0),
    };
    out.dual_norm = Some(norm);
    out.dual_column_sum = Some(column_sum);
    out.dual_sign_violation = Some(sign);
    Ok(())
}

fn check(
    what: &'static str,
    supports: &Supports,
    matrix: &RowMatrix<f64>,
) -> Result<(), GeometryError> {
    crate::check_shape(what, matrix, supports.vocabulary(), supports.contexts())
}

fn singular_values(matrix: &RowMatrix<f64>) -> Result<Vec<f64>, LinalgError> {
    let all = matrix.view().singular_values();
    all.map_err(|_| LinalgError("singular value decomposition"))
}
