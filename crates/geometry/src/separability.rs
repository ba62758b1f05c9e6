use std::time::Instant;

use lawvere_core::RowMatrix;
use serde::Serialize;

use crate::embedded::{EmbeddedMargins, Embeddings};
use crate::equations::Equations;
use crate::least_norm::{LeastNorm, Limits, least_norm, norm};
use crate::reduction::Reduction;
use crate::{Answer, ContextLaws, GeometryError, check_shape};

/// How [`separability`] solves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeparabilityOptions {
    /// The certified relative gap at which it stops.
    pub tolerance: f64,
    /// Products with the embeddings at most, for each of the two problems.
    pub max_iterations: usize,
    /// Weights whose norm, times the root mean square norm of the embeddings, is above this are not looked
    /// for: where it is proved that there are no others, the answer is no.
    pub norm_limit: f64,
    /// The most logits, distinct tokens times contexts, that are solved for.
    pub size_limit: usize,
}

impl Default for SeparabilityOptions {
    fn default() -> Self {
        Self {
            tolerance: 1e-7,
            max_iterations: 50_000,
            norm_limit: 1e9,
            size_limit: 30_000_000,
        }
    }
}

/// What [`separability`] tells on its way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeparabilityProgress {
    /// Whether it is at the margins; before them it is at the in-support equations.
    pub margins: bool,
    /// Products made.
    pub iteration: usize,
    /// A lower bound of the norm, proved so far.
    pub lower_bound: f64,
    /// The norm of the best weights known.
    pub value: Option<f64>,
}

/// What word weights W, V x d, can do with given context embeddings h_j: logits are `W h_j`.
#[derive(Debug, Clone, Serialize)]
pub struct Separability {
    /// Whether some W gives every in-support log-odds: `(e_z - e_z')^T W h_j = log p_jz / p_jz'`.
    pub compatible: Answer,
    /// The norm of what the best W misses of the in-support log-odds `L^in`, relative to their norm.
    pub residual: f64,
    /// `|W^in|_F`, the least norm of a W that gives them; of a best one if none does.
    pub finite_norm: f64,
    /// No W that gives them has a smaller norm.
    pub finite_lower_bound: f64,
    /// Whether some W separates: logits equal on every support, and at least 1 less off it.
    pub separable: Answer,
    /// `|W^mm|_F`, the least norm of a W that separates: an upper bound by weights that do.
    pub value: Option<f64>,
    /// No W that separates has a smaller norm, whatever `separable` says.
    pub lower_bound: f64,
    /// The norm up to which weights were looked for: no means none up to it.
    pub norm_limit: f64,
    /// `(value - lower_bound) / value`; 0 for value 0.
    pub relative_gap: Option<f64>,
    /// `1 / value`: the margin of weights of norm 1. `None` too where every support is full.
    pub margin: Option<f64>,
    /// The largest difference of two logits of one support under [`Separability::weights`], whose
    /// smallest margin is 1.
    pub equality_violation: Option<f64>,
    /// Both answers are certified to the tolerance asked for.
    pub converged: bool,
    /// The rank of the embeddings.
    pub rank: usize,
    /// d.
    pub dimension: usize,
    /// V.
    pub vocabulary: usize,
    /// m.
    pub contexts: usize,
    /// Tokens that follow different contexts.
    pub reduced_tokens: usize,
    /// Products made with the embeddings.
    pub iterations: usize,
    /// Wall time.
    pub seconds: f64,
    #[serde(skip)]
    embeddings: Embeddings,
    #[serde(skip)]
    reduction: Reduction,
    #[serde(skip)]
    finite: RowMatrix<f64>,
    #[serde(skip)]
    separating: Option<RowMatrix<f64>>,
}

impl Separability {
    /// `W^mm`, V x d: weights that separate, of norm [`value`](Self::value). `None` if none are known.
    pub fn weights(&self) -> Option<RowMatrix<f64>> {
        let merged = self.embeddings.expand(self.separating.as_ref()?);
        let (token, root) = (&self.reduction.token, &self.reduction.token_root);
        Some(RowMatrix::from_fn(token.len(), merged.ncols(), |v, c| {
            merged.get(token[v], c) / root[token[v]]
        }))
    }

    /// `W^in`, V x d: weights of least norm that give the in-support log-odds, or come closest to them.
    pub fn finite_weights(&self) -> RowMatrix<f64> {
        self.embeddings.expand(&self.finite)
    }
}

/// The largest entry of states lies between these, so that squares neither vanish nor overflow.
const SMALLEST: f64 = 1e-140;
const LARGEST: f64 = 1e140;

/// The largest violation, relative to the margin or to the log-odds, with which weights count as
/// meeting their conditions: what rounding leaves.
const VIOLATION: f64 = 1e-9;

/// Whether fixed context embeddings, m x d, let a linear head reach the laws (*compatibility*) and tell
/// supports from the rest (*separability*), with the least-norm weights of either.
///
/// With both, gradient descent on the head alone drives the cross-entropy to the entropy: in the
/// subspace F spanned by `(e_z - e_z') h_j^T` the weights tend to `W^in`, and beyond it they grow in
/// the direction of `W^mm = argmin |W|_F` subject to the max-margin constraints on `W h_j`, with
/// `(CE - H) eta k -> |W^mm|_F^2` after k steps of size eta.
///
/// Both problems are solved in the span of the embeddings, the equations by conjugate gradients, the
/// margins by the alternating direction method and, where that is slow, the method of multipliers. A
/// yes comes with weights that do it. Any dual point G (columns summing to 0, at most 0 off the
/// supports) proves that weights that separate have a norm of at least `<G,S> / |G H|_F`, and if that
/// bound exceeds the norm limit the answer is no; `G H = 0` with `<G,S> > 0`, a Farkas certificate, would
/// prove it for weights of any norm, but rounding leaves some `G H`. Memory: some ten matrices V' x m, V' the distinct tokens; two products
/// `V' m rank` an iteration.
///
/// *Source:* Thrampoulidis (arXiv 2402.18551): NTP-compatibility, NTP-separability, and gradient descent's
/// implicit bias; Boyd, Parikh, Chu, Peleato, Eckstein (2011) for the alternating direction method, Banjac,
/// Goulart, Stellato, Boyd (2019) for what it proves where there is no solution; Rockafellar (1976) for
/// the method of multipliers, Li, Sun, Toh (2018) for its Newton steps.
///
/// # Errors
/// States of another number of rows than there are contexts, without columns, or with NaN or infinite
/// entries; a vocabulary of one token; more logits than the limit; options out of range.
pub fn separability(
    laws: &ContextLaws,
    states: &RowMatrix<f64>,
    options: &SeparabilityOptions,
    on_progress: &mut dyn FnMut(SeparabilityProgress),
) -> Result<Separability, GeometryError> {
    let start = Instant::now();
    let supports = &laws.supports;
    check(laws, states, options)?;
    let reduction = Reduction::of_tokens(supports, options.size_limit)?;
    let embeddings = Embeddings::new(states)?;
    let scale = embeddings.scale;
    let limits = Limits {
        tolerance: options.tolerance,
        violation: VIOLATION,
        norm: options.norm_limit,
        iterations: options.max_iterations,
    };
    let mut tell = |margins: bool, step: &LeastNorm| {
        on_progress(SeparabilityProgress {
            margins,
            iteration: step.iterations,
            lower_bound: step.lower_bound / scale,
            value: step.value.map(|v| v / scale),
        });
    };
    let equations = Equations::new(&laws.laws.map(|_, p| p.ln()), &embeddings.rows);
    let finite = equations.solve(&limits, &mut |step| tell(false, step));
    let mut margins = EmbeddedMargins::new(&reduction, &embeddings.rows);
    let separating = least_norm(&mut margins, &limits, &mut |step| tell(true, step));
    let answer = |found: &LeastNorm| match found.value {
        Some(_) => Answer::Yes,
        None if found.lower_bound >= options.norm_limit => Answer::No,
        None => Answer::Undecided,
    };
    let size = equations.target_norm();
    let value = separating.value.map(|v| v / scale);
    let lower_bound = separating.lower_bound / scale;
    Ok(Separability {
        compatible: answer(&finite),
        residual: match size > 0.0 {
            true => finite.displacement / size,
            false => 0.0,
        },
        finite_norm: norm(finite.weights.data()) / scale,
        finite_lower_bound: finite.lower_bound / scale,
        separable: answer(&separating),
        value,
        lower_bound,
        norm_limit: options.norm_limit / scale,
        relative_gap: value.map(|v| match v > 0.0 {
            true => ((v - lower_bound) / v).max(0.0),
            false => 0.0,
        }),
        margin: value.filter(|v| *v > 0.0).map(|v| 1.0 / v),
        equality_violation: value.map(|_| separating.violation),
        converged: finite.converged && separating.converged,
        rank: embeddings.rank(),
        dimension: states.ncols(),
        vocabulary: supports.vocabulary(),
        contexts: supports.contexts(),
        reduced_tokens: reduction.tokens(),
        iterations: finite.iterations + separating.iterations,
        seconds: start.elapsed().as_secs_f64(),
        finite: finite.weights,
        separating: separating.value.map(|_| separating.weights),
        embeddings,
        reduction,
    })
}

fn check(
    laws: &ContextLaws,
    states: &RowMatrix<f64>,
    options: &SeparabilityOptions,
) -> Result<(), GeometryError> {
    let problem = |what, problem| Err(GeometryError::Argument { what, problem });
    if states.ncols() == 0 {
        return problem(
            "states",
            "they have no columns; embeddings have at least one dimension".into(),
        );
    }
    check_shape("states", states, laws.supports.contexts(), states.ncols())?;
    let largest = states.data().iter().fold(0.0, |a: f64, x| a.max(x.abs()));
    if largest > 0.0 && !(SMALLEST..=LARGEST).contains(&largest) {
        return problem(
            "states",
            format!(
                "their largest entry is {largest:e}, whose square is lost in float64; scale them to between {SMALLEST:e} and {LARGEST:e}"
            ),
        );
    }
    if laws.supports.vocabulary() < 2 {
        return problem(
            "the laws",
            "they have one token only, from which nothing can be told apart; at least two are needed".into(),
        );
    }
    if !(options.tolerance > 0.0 && options.tolerance < 1.0) {
        let found = options.tolerance;
        return problem(
            "tolerance",
            format!("it is {found}; a relative gap is more than 0 and less than 1"),
        );
    }
    if options.norm_limit.is_nan() || options.norm_limit <= 0.0 {
        let found = options.norm_limit;
        return problem(
            "norm limit",
            format!("it is {found}; a norm is more than 0"),
        );
    }
    Ok(())
}
