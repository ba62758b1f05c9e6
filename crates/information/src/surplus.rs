use std::collections::{BTreeMap, BTreeSet};

use lawvere_core::{RowMatrix, ShapeError, stoch, sum};
use lawvere_observe::{Observation, Rows};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;

use crate::InformationError;
use crate::distances::drawn;

/// Exact information of a state about blocks of the tokens that follow it, nats.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExactSurplus {
    /// `I(S; W_1..W_k)` for k = 1, 2, ...
    pub block: Vec<f64>,
    /// `I(S; W_2..W_k | W_1)` by its own definition: the surplus, 0 for k = 1. With `block[0]` it adds up
    /// to `block`.
    pub surplus: Vec<f64>,
    /// `I(S; W_{1+k} | W_1)` for k = 1, 2, ...: what the state adds about one token when the first is
    /// known. Their sum is neither bound of the surplus.
    pub single: Vec<f64>,
}

/// A joint law of the tokens that follow: sequences of one length with their probabilities.
pub type Future = Vec<(Vec<u32>, f64)>;
/// Joint laws, one a state.
pub type Futures = [Future];

/// Information of a finite state about the tokens that follow it, from the joint laws themselves.
///
/// Cost: O(k sequences log sequences) for all states' sequences together.
///
/// *Source:* arXiv 2507.19247, information surplus; Cover, Thomas, *Elements of Information Theory*
/// (2006), chain rule, theorem 2.5.2.
///
/// # Errors
/// Weights that are no distribution or not as many as states; sequences of several lengths or of none,
/// probabilities that do not sum to 1 within 1e-9.
pub fn exact_surplus(weights: &[f64], futures: &Futures) -> Result<ExactSurplus, InformationError> {
    if weights.len() != futures.len() || weights.is_empty() {
        return Err(ShapeError::new("states' weights", futures.len(), weights.len()).into());
    }
    stoch::Distribution::new(weights.to_vec())?;
    let lengths = futures.iter().flatten().map(|(tokens, _)| tokens.len());
    let length = lengths.clone().next().unwrap_or(0);
    if let Some(other) = lengths.clone().find(|&l| l != length || l == 0) {
        return Err(
            ShapeError::new("tokens of a future", format!("{length}, at least 1"), other).into(),
        );
    }
    for future in futures {
        stoch::Distribution::new(future.iter().map(|f| f.1).collect())?;
    }
    let joint = |from: usize, to: usize| Joint::new(weights, futures, |tokens| &tokens[from..to]);
    // I(S; what `part` shows | W_1), and with nothing given where `given` is 0.
    let block: Vec<f64> = (1..=length).map(|k| joint(0, k).information()).collect();
    let given_first = |part: &dyn Fn(&[u32]) -> Vec<u32>| {
        let mut groups: BTreeMap<u32, Vec<Future>> = BTreeMap::new();
        for (state, future) in futures.iter().enumerate() {
            for (tokens, p) in future {
                let group = groups
                    .entry(tokens[0])
                    .or_insert_with(|| vec![Vec::new(); futures.len()]);
                group[state].push((part(tokens), weights[state] * p));
            }
        }
        sum(groups.values().map(|group| {
            let mass = |f: &[(Vec<u32>, f64)]| sum(f.iter().map(|x| x.1));
            let masses: Vec<f64> = group.iter().map(|f| mass(f)).collect();
            let total = sum(masses.iter().copied());
            if total == 0.0 {
                return 0.0;
            }
            let weights: Vec<f64> = masses.iter().map(|m| m / total).collect();
            let conditional: Vec<Future> = group
                .iter()
                .zip(&masses)
                .map(|(f, m)| {
                    f.iter()
                        .map(|(t, p)| (t.clone(), p / m.max(f64::MIN_POSITIVE)))
                        .collect()
                })
                .collect();
            total * Joint::new(&weights, &conditional, |tokens| tokens).information()
        }))
    };
    Ok(ExactSurplus {
        surplus: (1..=length)
            .map(|k| given_first(&|tokens| tokens[1..k].to_vec()))
            .collect(),
        single: (1..length)
            .map(|k| given_first(&|tokens| vec![tokens[k]]))
            .collect(),
        block,
    })
}

/// The joint law of a state and part of what follows.
struct Joint {
    /// Weight and entropy of every state's law.
    conditional: f64,
    marginal: f64,
}

impl Joint {
    fn new<'a>(
        weights: &[f64],
        futures: &'a Futures,
        part: impl Fn(&'a [u32]) -> &'a [u32],
    ) -> Self {
        let mut marginal: BTreeMap<&[u32], f64> = BTreeMap::new();
        let mut conditional = Vec::with_capacity(futures.len());
        for (weight, future) in weights.iter().zip(futures) {
            let mut law: BTreeMap<&[u32], f64> = BTreeMap::new();
            for (tokens, p) in future {
                *law.entry(part(tokens)).or_default() += p;
            }
            for (tokens, p) in &law {
                *marginal.entry(tokens).or_default() += weight * p;
            }
            conditional.push(weight * stoch::entropy(law.into_values()));
        }
        Self {
            conditional: sum(conditional),
            marginal: stoch::entropy(marginal.into_values()),
        }
    }

    fn information(&self) -> f64 {
        self.marginal - self.conditional
    }
}

/// Up to `count` rows for [`surplus_bounds`], in random order: of contexts drawn independently by their weights;
/// of positions at random, but at most one of a document, so that none depend on one another (long documents are
/// the likelier for it while there are more documents than rows). Fewer where there are fewer documents.
pub fn independent_rows(observation: &Observation, count: usize, seed: u64) -> Vec<usize> {
    let Rows::Positions(positions) = &observation.contexts else {
        return drawn(&observation.weights, count, seed);
    };
    let mut rows: Vec<usize> = (0..observation.rows()).collect();
    rows.shuffle(&mut StdRng::seed_from_u64(seed));
    let mut seen = BTreeSet::new();
    rows.retain(|&row| seen.insert(positions.document[row]));
    rows.truncate(count);
    rows
}

/// What contexts' models say of one another's continuations: for every block length k the matrix
/// `log p(w^i_1..w^i_k | x_j)`, i rows and j columns, w^i drawn by the model after x_i.
#[derive(Debug, Clone, PartialEq)]
pub struct PairScores {
    blocks: Vec<RowMatrix<f64>>,
}

impl PairScores {
    /// From the log-probability of every token: `tokens[i][j]` those of continuation i after context j, all
    /// of one length.
    ///
    /// # Errors
    /// Fewer than 3 contexts, tables that are not square, continuations of several lengths or of none,
    /// NaN.
    pub fn new(tokens: &[Vec<Vec<f64>>]) -> Result<Self, InformationError> {
        let n = tokens.len();
        if n < 3 {
            return Err(InformationError::TooFew {
                what: "a bound of block information",
                of: "contexts",
                needed: 3,
                found: n,
            });
        }
        let length = tokens[0].first().map_or(0, Vec::len);
        for row in tokens {
            if row.len() != n {
                return Err(ShapeError::new("contexts of a continuation", n, row.len()).into());
            }
            if let Some(other) = row.iter().find(|t| t.len() != length || length == 0) {
                let expected = format!("{length}, at least 1");
                return Err(
                    ShapeError::new("tokens of a continuation", expected, other.len()).into(),
                );
            }
            if row.iter().flatten().any(|x| x.is_nan()) {
                return Err(ShapeError::new("a log-probability", "a number", "NaN").into());
            }
        }
        let blocks = (1..=length)
            .map(|k| RowMatrix::from_fn(n, n, |i, j| sum(tokens[i][j][..k].iter().copied())))
            .collect();
        Ok(Self { blocks })
    }

    /// The number N of contexts.
    pub fn contexts(&self) -> usize {
        self.blocks[0].nrows()
    }

    /// The length of the longest block.
    pub fn length(&self) -> usize {
        self.blocks.len()
    }
}

/// Bounds of the information about one block of tokens, nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BlockBounds {
    /// k: tokens of the block.
    pub tokens: usize,
    /// L_k: at most I(X; W_1..W_k) in expectation, and at most `ceiling`.
    pub lower: f64,
    /// Its standard error.
    pub lower_error: f64,
    /// U_k: at least I(X; W_1..W_k) in expectation.
    pub upper: f64,
    /// Its standard error.
    pub upper_error: f64,
    /// `L_k - L_1`: at most the surplus in expectation.
    pub surplus_lower: f64,
    /// Its standard error.
    pub surplus_lower_error: f64,
    /// `U_k - U_1`: at least the surplus in expectation.
    pub surplus_upper: f64,
    /// Its standard error.
    pub surplus_upper_error: f64,
    /// Whether the lower bound is within a tenth of its ceiling: more contexts would raise it, and it says
    /// no more than that the information is large.
    pub saturated: bool,
}

/// Two-sided bounds of the information that a context carries about the block of tokens after it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SurplusBounds {
    /// N: contexts contrasted with one another.
    pub contexts: usize,
    /// Independent groups of N contexts.
    pub groups: usize,
    /// `log N`: no lower bound exceeds it.
    pub ceiling: f64,
    /// One entry a block length, from 1 on.
    pub blocks: Vec<BlockBounds>,
}

/// Bounds `I(X; W_1..W_k)` and the surplus `I(X; W_2..W_k | W_1)`, X the context and W drawn by the model, from
/// contexts drawn independently ([`independent_rows`]).
///
/// L_k contrasts every continuation's own context with all N of its group, U_k with the N - 1 others. Both
/// gaps grow with k in expectation, so that the differences bound the surplus; single estimates may cross, or
/// a lower one be below 0, by their errors. If different contexts have different states, X may be read as the
/// state. Standard errors by the jackknife over contexts within groups.
///
/// Cost: O(k N^2) a group.
///
/// *Source:* van den Oord, Li, Vinyals, *Representation learning with contrastive predictive coding* (2018);
/// Poole et al., *On variational bounds of mutual information* (2019), equations 10 and 12 with the true
/// conditional as critic.
///
/// # Errors
/// No group, groups of different sizes.
pub fn surplus_bounds(groups: &[PairScores]) -> Result<SurplusBounds, InformationError> {
    let Some(first) = groups.first() else {
        return Err(InformationError::TooFew {
            what: "a bound of block information",
            of: "groups of contexts",
            needed: 1,
            found: 0,
        });
    };
    let (n, length) = (first.contexts(), first.length());
    let shape = |g: &PairScores| format!("{} contexts, {} tokens", g.contexts(), g.length());
    if let Some(other) = groups.iter().find(|g| shape(g) != shape(first)) {
        return Err(ShapeError::new("groups of contexts", shape(first), shape(other)).into());
    }
    let jackknifed: Vec<Jackknife> = groups.iter().map(Jackknife::new).collect();
    let ceiling = (n as f64).ln();
    let combined = |of: &dyn Fn(&Values) -> f64| {
        let groups = jackknifed.iter().map(|g| g.estimate(of));
        let count = jackknifed.len() as f64;
        let mean = sum(groups.clone().map(|g| g.0)) / count;
        (mean, sum(groups.map(|g| g.1)).sqrt() / count)
    };
    let blocks = (0..length).map(|k| {
        let (lower, lower_error) = combined(&|v| v.lower[k]);
        let (upper, upper_error) = combined(&|v| v.upper[k]);
        let (surplus_lower, surplus_lower_error) = combined(&|v| v.lower[k] - v.lower[0]);
        let (surplus_upper, surplus_upper_error) = combined(&|v| v.upper[k] - v.upper[0]);
        BlockBounds {
            tokens: k + 1,
            lower,
            lower_error,
            upper,
            upper_error,
            surplus_lower,
            surplus_lower_error,
            surplus_upper,
            surplus_upper_error,
            saturated: lower > 0.9 * ceiling,
        }
    });
    Ok(SurplusBounds {
        contexts: n,
        groups: groups.len(),
        ceiling,
        blocks: blocks.collect(),
    })
}

/// Both bounds at every block length.
struct Values {
    lower: Vec<f64>,
    upper: Vec<f64>,
}

/// The bounds of a group, and of the group without each of its contexts.
struct Jackknife {
    all: Values,
    without: Vec<Values>,
}

impl Jackknife {
    fn new(scores: &PairScores) -> Self {
        let n = scores.contexts();
        let mut all = Values {
            lower: Vec::new(),
            upper: Vec::new(),
        };
        let empty = || Values {
            lower: Vec::new(),
            upper: Vec::new(),
        };
        let mut without: Vec<Values> = (0..n).map(|_| empty()).collect();
        for block in &scores.blocks {
            // Log-likelihood ratios of every context against the own one, whose is 0. The sum over others, and
            // over others but one, is kept in logarithms: what one of them has alone is not lost.
            let ratio = |i: usize, j: usize| block.get(i, j) - block.get(i, i);
            let rest_of = |i: usize, left_out: Option<usize>| {
                let others = || (0..n).filter(|&j| j != i && Some(j) != left_out);
                let largest = others()
                    .map(|j| ratio(i, j))
                    .fold(f64::NEG_INFINITY, f64::max);
                match largest > f64::NEG_INFINITY {
                    true => largest + sum(others().map(|j| (ratio(i, j) - largest).exp())).ln(),
                    false => f64::NEG_INFINITY,
                }
            };
            let whole: Vec<f64> = (0..n).map(|i| rest_of(i, None)).collect();
            // Without one context, its share is taken away where that loses nothing, else all are added again.
            let rest = |i: usize, left_out: Option<usize>| match left_out {
                None => whole[i],
                Some(j) => {
                    let share = (ratio(i, j) - whole[i]).exp();
                    match share < 0.5 {
                        true => whole[i] + (-share).ln_1p(),
                        false => rest_of(i, Some(j)),
                    }
                }
            };
            let bounds = |left_out: Option<usize>| {
                let count = (n - usize::from(left_out.is_some())) as f64;
                let rows = || (0..n).filter(|i| Some(*i) != left_out);
                let lower = rows().map(|i| count.ln() - log_of_one_and(rest(i, left_out)));
                let upper = rows().map(|i| (count - 1.0).ln() - rest(i, left_out));
                (sum(lower) / count, sum(upper) / count)
            };
            let (lower, upper) = bounds(None);
            all.lower.push(lower);
            all.upper.push(upper);
            for (j, values) in without.iter_mut().enumerate() {
                let (lower, upper) = bounds(Some(j));
                values.lower.push(lower);
                values.upper.push(upper);
            }
        }
        Self { all, without }
    }

    /// A statistic and its variance. An upper bound is infinite where a continuation is impossible after
    /// all other contexts, and its variance where leaving a single context out makes it so.
    fn estimate(&self, of: &dyn Fn(&Values) -> f64) -> (f64, f64) {
        let value = of(&self.all);
        if !value.is_finite() {
            return (f64::INFINITY, f64::INFINITY);
        }
        let n = self.without.len() as f64;
        let values: Vec<f64> = self.without.iter().map(of).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return (value, f64::INFINITY);
        }
        let mean = sum(values.iter().copied()) / n;
        let squares = sum(values.iter().map(|v| (v - mean).powi(2)));
        (value, (n - 1.0) / n * squares)
    }
}

/// `log(1 + e^x)`, for any x.
fn log_of_one_and(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    /// Log-probabilities of single tokens after contexts: `tokens[i][j]` of continuation i after context j.
    fn table(n: usize, peaked: f64) -> Vec<Vec<Vec<f64>>> {
        let mut rng = StdRng::seed_from_u64(5);
        (0..n)
            .map(|i| {
                (0..n)
                    .map(|j| {
                        let off = if i == j { 0.0 } else { peaked };
                        // One other context has almost all of what others say of the last continuation.
                        let alone = if i == n - 1 && j == 0 {
                            peaked - 0.1
                        } else {
                            0.0
                        };
                        (0..2).map(|_| -rng.random::<f64>() - off + alone).collect()
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn the_jackknife_in_logarithms_is_that_of_tables_with_one_context_left_out() {
        for (n, peaked) in [(3, 0.5), (7, 1.0), (7, 30.0), (6, 800.0)] {
            let tokens = table(n, peaked);
            let bounds = |tokens: &[Vec<Vec<f64>>]| {
                surplus_bounds(&[PairScores::new(tokens).unwrap()])
                    .unwrap()
                    .blocks
            };
            let without = |left_out: usize| {
                let kept = || (0..n).filter(move |i| *i != left_out);
                let rows: Vec<Vec<Vec<f64>>> = kept()
                    .map(|i| kept().map(|j| tokens[i][j].clone()).collect())
                    .collect();
                rows
            };
            let found = bounds(&tokens);
            if n < 4 {
                // Two contexts are too few for bounds of their own.
                assert!(found[1].lower_error.is_finite());
                continue;
            }
            let left: Vec<Vec<BlockBounds>> = (0..n).map(|j| bounds(&without(j))).collect();
            for k in 0..2 {
                for (error, of) in [
                    (
                        found[k].lower_error,
                        (|b: &BlockBounds| b.lower) as fn(&BlockBounds) -> f64,
                    ),
                    (found[k].upper_error, |b| b.upper),
                    (found[k].surplus_upper_error, |b| b.surplus_upper),
                ] {
                    let values: Vec<f64> = left.iter().map(|b| of(&b[k])).collect();
                    let mean = sum(values.iter().copied()) / n as f64;
                    let squares = sum(values.iter().map(|v| (v - mean).powi(2)));
                    let expected = ((n - 1) as f64 / n as f64 * squares).sqrt();
                    assert!(
                        (error - expected).abs() < 1e-9 * expected.max(1.0),
                        "{n} {peaked} {k}: {error} {expected}"
                    );
                }
            }
        }
    }
}
