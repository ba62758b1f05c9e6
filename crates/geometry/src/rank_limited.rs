use std::time::Instant;

use lawvere_core::RowMatrix;
use lawvere_core::linalg::LinalgError;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use crate::active::Margins;
use crate::factors::{Factors, least_factors};
use crate::reduction::Reduction;
use crate::{GeometryError, MaxMargin, MaxMarginOptions, Supports, max_margin};

/// How [`rank_limited`] searches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankLimitedOptions {
    /// Random starts, besides the one from the truncated convex solution.
    pub random_starts: usize,
    /// Seed of the random starts.
    pub seed: u64,
    /// The violation, relative to the margin, up to which logits count as allowed.
    pub tolerance: f64,
    /// Products with the factors at most, for each start.
    pub max_iterations: usize,
    /// How the convex problem is solved, which gives the lower bound.
    pub convex: MaxMarginOptions,
}

impl Default for RankLimitedOptions {
    fn default() -> Self {
        Self {
            random_starts: 4,
            seed: 0,
            tolerance: 1e-7,
            max_iterations: 20_000,
            convex: MaxMarginOptions::default(),
        }
    }
}

/// Where a search began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The leading singular vectors of the solution without a limit.
    Convex,
    /// Random factors.
    Random,
}

/// What one start of [`rank_limited`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Attempt {
    /// Where it began.
    pub start: Start,
    /// Whether it came to allowed logits.
    pub feasible: bool,
    /// `(|W|_F^2 + |H|_F^2) / 2`, at least the nuclear norm of their logits; the same where the factors are
    /// balanced, as at a minimum.
    pub value: Option<f64>,
    /// As [`RankLimited::violation`].
    pub violation: f64,
    /// As [`RankLimited::confused`].
    pub confused: f64,
    /// Products made.
    pub iterations: usize,
}

/// The best factors of a limited dimension that were found for the max-margin constraints.
///
/// The problem is not convex: `value` is that of the best of several local searches and an upper bound
/// only, and `feasible: false` says that none was found, not that there is none.
#[derive(Debug, Clone, Serialize)]
pub struct RankLimited {
    /// d: the dimension allowed.
    pub dimension: usize,
    /// Whether a start came to allowed logits.
    pub feasible: bool,
    /// `(|W|_F^2 + |H|_F^2) / 2`, of the best allowed ones found: at a minimum the nuclear norm
    /// of their logits, else more.
    pub value: Option<f64>,
    /// How far the best logits are from allowed, once scaled for it: the larger of what logits of one
    /// support differ by and of what the smallest margin lacks of 1. 1 says that some token off a support
    /// is not told apart at all, at any scale.
    pub violation: f64,
    /// The share of all pairs of a context and a token off its support that the best logits do not put
    /// in their order: the token's logit is not below every logit of the support.
    pub confused: f64,
    /// The norm without a limit, a lower bound at any dimension: no factors have a smaller value.
    pub convex_lower_bound: f64,
    /// The value without a limit; with `dimension >= convex_rank` the same can be had.
    pub convex_value: f64,
    /// The rank of the solution without a limit.
    pub convex_rank: usize,
    /// `(value - convex_lower_bound) / value`: what the limit can have cost at most.
    pub relative_gap: Option<f64>,
    /// Every start, in order.
    pub attempts: Vec<Attempt>,
    /// Wall time.
    pub seconds: f64,
    #[serde(skip)]
    words: RowMatrix<f64>,
    #[serde(skip)]
    contexts: RowMatrix<f64>,
}

impl RankLimited {
    /// W, V x d: word embeddings of the best start.
    pub fn words(&self) -> &RowMatrix<f64> {
        &self.words
    }

    /// H, m x d: context embeddings of the best start; logits are `W H^T`, V x m.
    pub fn contexts(&self) -> &RowMatrix<f64> {
        &self.contexts
    }
}

/// What [`rank_limited`] tells on its way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankLimitedProgress {
    /// The start, from 0.
    pub start: usize,
    /// Products made from this start.
    pub iteration: usize,
}

/// Max-margin factors of d dimensions: `min (|W|_F^2 + |H|_F^2) / 2` over W (V x d) and H (m x d)
/// such that logits `W H^T` are equal on every support and at least 1 less off it.
///
/// Where d is at least the rank of the max-margin logits these factor it, and nothing is lost. Below,
/// the problem is *not convex* and may have no solution (one dimension tells two tokens apart at most):
/// the search starts from the truncated convex solution and from random factors, each by a method of
/// multipliers with truncated Newton steps in both factors, and the best is returned beside the convex
/// lower bound. Equal tokens and contexts are merged and full contexts left out, which loses nothing:
/// averages over equal ones have no larger rank or norm. Cost: six products `r c d` an iteration.
///
/// *Source:* arXiv 2408.15417, section 3 (the unconstrained-features model); Burer, Monteiro, *Local
/// minima and convergence in low-rank semidefinite programming* (2005).
///
/// # Errors
/// d of 0 or above V and m, options out of range; what [`max_margin`] refuses.
pub fn rank_limited(
    supports: &Supports,
    dimension: usize,
    options: &RankLimitedOptions,
    on_progress: &mut dyn FnMut(RankLimitedProgress),
) -> Result<RankLimited, GeometryError> {
    let start = Instant::now();
    check(supports, dimension, options)?;
    let convex = max_margin(supports, &options.convex, &mut |_| {})?;
    let reduction = Reduction::new(supports, options.convex.size_limit)?;
    let (r, c) = (reduction.tokens(), reduction.contexts());
    // No allowed logits need more.
    let inner = dimension.min(r).min(c);
    let mut margins = Margins::new(&reduction);
    let mut rng = StdRng::seed_from_u64(options.seed);
    let mut best: Option<(Attempt, Factors)> = None;
    let mut attempts = Vec::new();
    for index in 0..=options.random_starts {
        let from = match index {
            0 => (Start::Convex, truncated(&convex, &reduction, inner)?),
            _ => (Start::Random, random(&mut rng, r, c, inner, convex.value)),
        };
        let found = least_factors(
            &mut margins,
            from.1,
            options.tolerance,
            options.max_iterations,
            &mut |iteration| {
                on_progress(RankLimitedProgress {
                    start: index,
                    iteration,
                })
            },
        );
        let attempt = Attempt {
            start: from.0,
            feasible: found.value.is_some(),
            value: found.value,
            violation: found.violation,
            confused: found.confused,
            iterations: found.iterations,
        };
        attempts.push(attempt);
        let better = best
            .as_ref()
            .is_none_or(|(old, _)| match (attempt.value, old.value) {
                (Some(new), Some(old)) => new < old,
                (None, None) => {
                    (attempt.violation, attempt.confused) < (old.violation, old.confused)
                }
                (new, _) => new.is_some(),
            });
        if better {
            best = Some((attempt, found.factors));
        }
    }
    let (attempt, factors) = best.unwrap_or_else(|| (attempts[0], Factors::zeros(r, c, inner)));
    let value = attempt.value;
    Ok(RankLimited {
        dimension,
        feasible: attempt.feasible,
        value,
        violation: attempt.violation,
        confused: attempt.confused,
        convex_lower_bound: convex.lower_bound,
        convex_value: convex.value,
        convex_rank: convex.rank,
        relative_gap: value.map(|v| match v > 0.0 {
            true => ((v - convex.lower_bound) / v).max(0.0),
            false => 0.0,
        }),
        attempts,
        seconds: start.elapsed().as_secs_f64(),
        words: RowMatrix::from_fn(supports.vocabulary(), dimension, |v, k| {
            let i = reduction.token[v];
            if k < inner {
                factors.words.get(i, k) / reduction.token_root[i]
            } else {
                0.0
            }
        }),
        contexts: RowMatrix::from_fn(supports.contexts(), dimension, |j, k| {
            match reduction.context[j] {
                Some(j) if k < inner => factors.contexts.get(j, k) / reduction.context_root[j],
                _ => 0.0,
            }
        }),
    })
}

fn check(
    supports: &Supports,
    dimension: usize,
    options: &RankLimitedOptions,
) -> Result<(), GeometryError> {
    let problem = |what, problem| Err(GeometryError::Argument { what, problem });
    if dimension == 0 {
        return problem("dimension", "it is 0; factors have at least one".into());
    }
    // In small matrices a few columns of zeros do no harm.
    let most = supports.vocabulary().max(supports.contexts()).max(4096);
    if dimension > most {
        return problem(
            "dimension",
            format!("it is {dimension}; at most {most} is taken here, as more limits nothing"),
        );
    }
    if !(options.tolerance > 0.0 && options.tolerance < 1.0) {
        let found = options.tolerance;
        return problem(
            "tolerance",
            format!("it is {found}; a violation is more than 0 and less than 1"),
        );
    }
    Ok(())
}

/// Balanced factors of the best approximation of the convex solution.
fn truncated(
    convex: &MaxMargin,
    reduction: &Reduction,
    inner: usize,
) -> Result<Factors, GeometryError> {
    let (r, c) = (reduction.tokens(), reduction.contexts());
    let mut out = Factors::zeros(r, c, inner);
    if r * c == 0 {
        return Ok(out);
    }
    let svd = convex.weighted().view().thin_svd();
    let svd = svd.map_err(|_| LinalgError("singular value decomposition"))?;
    let root = |k: usize| svd.S().column_vector()[k].max(0.0).sqrt();
    out.contexts = RowMatrix::from_fn(c, inner, |j, k| svd.U()[(j, k)] * root(k));
    out.words = RowMatrix::from_fn(r, inner, |i, k| svd.V()[(i, k)] * root(k));
    Ok(out)
}

/// Random factors whose squares sum to about what those of the convex solution do.
fn random(rng: &mut StdRng, r: usize, c: usize, inner: usize, value: f64) -> Factors {
    let mut uniform = |rows: usize| {
        let scale = (3.0 * value / (rows * inner).max(1) as f64).sqrt();
        RowMatrix::from_fn(rows, inner, |_, _| scale * rng.random_range(-1.0..1.0))
    };
    Factors {
        words: uniform(r),
        contexts: uniform(c),
    }
}
