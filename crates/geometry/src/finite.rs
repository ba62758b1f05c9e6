//! The parts of logits that the theory tells apart: what stays finite in training, and the proxy of
//! what grows.

use lawvere_core::{RowMatrix, sum};

use crate::{ContextLaws, GeometryError, Supports};

/// `L^in`, V x m: on the support of a context the logarithms of its probabilities, centred on their
/// mean over the support; 0 off it. Nats.
///
/// The minimum-norm solution of the in-support equations `L_zj - L_z'j = log p_jz / p_jz'`, to which
/// the finite part of trained logits tends. O(V m).
///
/// *Source:* arXiv 2408.15417, section 3; arXiv 2402.18551, section 3.
pub fn finite_logits(laws: &ContextLaws) -> RowMatrix<f64> {
    let logs = laws.laws.map(|_, p| p.ln());
    let mut out = RowMatrix::zeros(laws.supports.vocabulary(), laws.supports.contexts());
    for (context, (tokens, logs)) in logs.rows().enumerate() {
        let mean = sum(logs.iter().copied()) / logs.len() as f64;
        for (&token, log) in tokens.iter().zip(logs) {
            out.row_mut(token as usize)[context] = log - mean;
        }
    }
    out
}

/// `P_F(L)`, V x m: the entries of logits on each support, centred on their mean over it; 0 off it.
/// O(V m).
///
/// # Errors
/// Logits of another shape than the supports'; NaN or infinite entries.
pub fn finite_part(
    supports: &Supports,
    logits: &RowMatrix<f64>,
) -> Result<RowMatrix<f64>, GeometryError> {
    let (vocabulary, contexts) = (supports.vocabulary(), supports.contexts());
    crate::check_shape("logits", logits, vocabulary, contexts)?;
    let mut out = RowMatrix::zeros(vocabulary, contexts);
    for (context, (tokens, _)) in supports.rows.rows().enumerate() {
        let on = || {
            tokens
                .iter()
                .map(|&token| logits.get(token as usize, context))
        };
        let mean = sum(on()) / tokens.len() as f64;
        for (&token, logit) in tokens.iter().zip(on()) {
            out.row_mut(token as usize)[context] = logit - mean;
        }
    }
    Ok(out)
}

/// The proxy `S~ = (I - 11^T/V) S` of the max-margin logits as a dense matrix, V x m: 1 - |S_j|/V on
/// the supports, -|S_j|/V off them. Full columns are 0. O(V m).
///
/// *Source:* arXiv 2408.15417, section 4.
pub fn proxy(supports: &Supports) -> RowMatrix<f64> {
    let vocabulary = supports.vocabulary();
    let share = |support: &[u32]| support.len() as f64 / vocabulary as f64;
    let shares: Vec<f64> = supports.rows.rows().map(|(s, _)| share(s)).collect();
    let mut out = RowMatrix::from_fn(vocabulary, supports.contexts(), |_, j| 0.0 - shares[j]);
    for (context, (tokens, _)) in supports.rows.rows().enumerate() {
        for &token in tokens {
            out.row_mut(token as usize)[context] = 1.0 - shares[context];
        }
    }
    out
}
