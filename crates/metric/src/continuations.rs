//! Two texts compared by how they go on: texts that do not extend one another have distances to the same
//! continuations.

use lawvere_core::sum;
use serde::Serialize;

use crate::MetricError;

/// Continuations of two texts u and v, drawn from their own laws, with their log-probabilities after either.
///
/// `c_u(t) = d(u, u t) = -log Pr(t | u)` is the *continuation vector* of u: its co-Yoneda image on the texts `u t`, pulled back
/// along `t -> u t`, so that it can be held against that of a text that u is no part of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Continuations {
    /// Drawn after u.
    pub of_first: Vec<Continuation>,
    /// Drawn after v.
    pub of_second: Vec<Continuation>,
}

/// A continuation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Continuation {
    /// Its tokens.
    pub length: usize,
    /// `log Pr(t | u)`, nats.
    pub after_first: f64,
    /// `log Pr(t | v)`.
    pub after_second: f64,
}

/// An estimate with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The estimate.
    #[serde(serialize_with = "crate::extended::one")]
    pub value: f64,
    /// Its standard error; none of a bound.
    pub error: Option<f64>,
}

impl Continuations {
    /// The Rényi divergence `D_α(p_u || p_v)` of the laws of continuations, α in (0, inf].
    ///
    /// For finite α it is estimated from all continuations as draws of the mixture `m = (p_u + p_v) / 2`, half from either side,
    /// where no weight `p / m` is above 2: `log E_m[(p_u/m)^α (p_v/m)^(1-α)] / (α - 1)`, at 1 its limit, the Kullback-Leibler
    /// divergence. The mean of `α p_u/m + (1-α) p_v/m` is known to be 1, and only what differs from it is estimated: no
    /// estimate is below 0, and those of near orders are near. The standard error is that of the two halves, by the delta
    /// method at other orders than 1; orders much above 1 rest on few continuations, and so does their error.
    ///
    /// For `α = inf` the value is the largest `log p_u(t) / p_v(t)` seen, the Funk distance `D(c_u, c_v)` over those continuations: a
    /// lower bound, which has no standard error.
    ///
    /// # Errors
    /// Another α; fewer than two continuations of either text; log-probabilities above 0 or NaN.
    ///
    /// *Source:* Rényi (1961); Owen, Zhou, *Safe and effective importance sampling* (2000), for the mixture.
    pub fn renyi(&self, alpha: f64) -> Result<Estimate, MetricError> {
        if alpha.is_nan() || alpha <= 0.0 {
            return Err(MetricError::Argument {
                argument: "the order of a Renyi divergence",
                value: alpha,
                wanted: "more than 0, or infinite",
            });
        }
        self.check()?;
        let log_ratio = |t: &Continuation| t.after_first - t.after_second;
        if alpha == f64::INFINITY {
            let ratios = self.of_first.iter().chain(&self.of_second).map(log_ratio);
            return Ok(Estimate {
                value: ratios.fold(f64::NEG_INFINITY, f64::max),
                error: None,
            });
        }
        if alpha == 1.0 {
            return Ok(self.mean(|t| {
                let (p, q) = relative(t);
                let term = if p > 0.0 { p * log_ratio(t) } else { 0.0 };
                term - p + q
            }));
        }
        let power = |t: &Continuation| {
            let (p, q) = log_relative(t);
            alpha * p + (1.0 - alpha) * q
        };
        let all = || self.of_first.iter().chain(&self.of_second);
        // The largest term is 1 at most, as high powers may be beyond floats.
        let shift = all().map(power).fold(0.0, f64::max);
        if shift == f64::INFINITY {
            return Ok(Estimate {
                value: f64::INFINITY,
                error: None,
            });
        }
        let one = (-shift).exp();
        let rest = self.mean(|t| {
            let (p, q) = relative(t);
            (power(t) - shift).exp() - (alpha * p + (1.0 - alpha) * q) * one
        });
        let mean = one + rest.value;
        let log = match shift {
            0.0 => rest.value.ln_1p(),
            _ => shift + mean.ln(),
        };
        Ok(Estimate {
            value: log / (alpha - 1.0),
            error: rest.error.map(|e| e / (mean * (alpha - 1.0).abs())),
        })
    }

    /// `(D_α(p_u || p_v) + D_α(p_v || p_u)) / 2`. Both rest on the same continuations, so that their errors do not
    /// average out: the error is the mean of theirs, at least as large as that of the mean.
    ///
    /// # Errors
    /// As [`renyi`](Self::renyi).
    pub fn symmetric_renyi(&self, alpha: f64) -> Result<Estimate, MetricError> {
        let (a, b) = (self.renyi(alpha)?, self.turned().renyi(alpha)?);
        let error = a.error.zip(b.error).map(|(a, b)| (a + b) / 2.0);
        Ok(Estimate {
            value: (a.value + b.value) / 2.0,
            error,
        })
    }

    /// `D_1(p_u || p_v) - D_1(p_v || p_u)`: positive where v is the more likely to follow from u than u from v, the rule of Liu
    /// and others for entailment of sentences (u entails v if positive).
    ///
    /// # Errors
    /// As [`renyi`](Self::renyi).
    pub fn direction(&self) -> Result<Estimate, MetricError> {
        self.check()?;
        // E_m[(p_u + p_v)/m log p_u/p_v], where p_u + p_v is twice m: in one sum, what they share cannot count twice. The
        // mean of p_u/m - p_v/m is 0, and it varies with the ratio.
        Ok(self.mean(|t| {
            let (p, q) = relative(t);
            2.0 * (t.after_first - t.after_second - p + q)
        }))
    }

    /// Liu's distance: the mean over all continuations of `|log M_u(t) - log M_v(t)|`, M the geometric mean of a
    /// continuation's token probabilities. Both halves weigh alike.
    ///
    /// # Errors
    /// As [`renyi`](Self::renyi); a continuation without tokens.
    ///
    /// *Source:* Liu, Xu, Wu, Trager, Achille, Soatto, *Meaning representations from trajectories in autoregressive models*
    /// (arXiv 2310.18348).
    pub fn trajectory_distance(&self) -> Result<Estimate, MetricError> {
        self.check()?;
        let all = self.of_first.iter().chain(&self.of_second);
        if all.into_iter().any(|t| t.length == 0) {
            return Err(MetricError::Argument {
                argument: "the length of a continuation",
                value: 0.0,
                wanted: "at least 1",
            });
        }
        Ok(self.mean(|t| ((t.after_first - t.after_second) / t.length as f64).abs()))
    }

    /// The same with the texts in the other order.
    pub fn turned(&self) -> Self {
        let turned = |t: &Continuation| Continuation {
            length: t.length,
            after_first: t.after_second,
            after_second: t.after_first,
        };
        Self {
            of_first: self.of_second.iter().map(turned).collect(),
            of_second: self.of_first.iter().map(turned).collect(),
        }
    }

    /// The mean over both halves, each weighed one half, and its standard error.
    fn mean(&self, f: impl Fn(&Continuation) -> f64) -> Estimate {
        let half = |part: &[Continuation]| {
            let values: Vec<f64> = part.iter().map(&f).collect();
            let n = values.len() as f64;
            let mean = sum(values.iter().copied()) / n;
            let squares = sum(values.iter().map(|x| (x - mean) * (x - mean)));
            (mean, squares / (n * (n - 1.0)))
        };
        let ((a, va), (b, vb)) = (half(&self.of_first), half(&self.of_second));
        Estimate {
            value: (a + b) / 2.0,
            error: Some((va + vb).sqrt() / 2.0),
        }
    }

    fn check(&self) -> Result<(), MetricError> {
        for part in [&self.of_first, &self.of_second] {
            if part.len() < 2 {
                return Err(MetricError::Argument {
                    argument: "the number of continuations of a text",
                    value: part.len() as f64,
                    wanted: "at least 2, for a standard error",
                });
            }
            let logs = part.iter().flat_map(|t| [t.after_first, t.after_second]);
            if let Some(value) = logs.into_iter().find(|x| x.is_nan() || *x > 1e-3) {
                return Err(MetricError::Argument {
                    argument: "the log-probability of a continuation",
                    value,
                    wanted: "at most 0",
                });
            }
        }
        Ok(())
    }
}

/// The logarithms of [`relative`], which are finite where those are 0 in floats.
fn log_relative(t: &Continuation) -> (f64, f64) {
    let difference = t.after_second - t.after_first;
    // log(2 / (1 + e^x))
    let log = |x: f64| std::f64::consts::LN_2 - x.max(0.0) - (-x.abs()).exp().ln_1p();
    (log(difference), log(-difference))
}

/// `p_u / m` and `p_v / m` for the mixture m; both are at most 2, and add up to it.
fn relative(t: &Continuation) -> (f64, f64) {
    let difference = t.after_second - t.after_first;
    (
        2.0 / (1.0 + difference.exp()),
        2.0 / (1.0 + (-difference).exp()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    const P: [f64; 4] = [0.5, 0.25, 0.2, 0.05];
    const Q: [f64; 4] = [0.1, 0.3, 0.2, 0.4];

    fn drawn(rng: &mut StdRng, n: usize) -> Continuations {
        let mut from = |law: [f64; 4]| {
            let mut one = || {
                let mut x = rng.random::<f64>();
                let mut at = 0;
                while at < 3 && x >= law[at] {
                    x -= law[at];
                    at += 1;
                }
                Continuation {
                    length: 1 + at,
                    after_first: P[at].ln(),
                    after_second: Q[at].ln(),
                }
            };
            (0..n).map(|_| one()).collect()
        };
        Continuations {
            of_first: from(P),
            of_second: from(Q),
        }
    }

    /// Estimates against exact divergences of small laws: on average right, and within their errors as often as they say.
    #[test]
    fn estimates_cover_the_exact_divergences() {
        let mut rng = StdRng::seed_from_u64(1);
        let exact = |alpha: f64| {
            let pairs = P.iter().zip(&Q);
            if alpha == 1.0 {
                return pairs.map(|(p, q)| p * (p / q).ln()).sum::<f64>();
            }
            let sum: f64 = pairs
                .map(|(p, q)| p.powf(alpha) * q.powf(1.0 - alpha))
                .sum();
            sum.ln() / (alpha - 1.0)
        };
        for alpha in [0.3, 0.5, 1.0, 2.0, 4.0] {
            let (mut within, mut total) = (0, 0.0);
            for _ in 0..200 {
                let found = drawn(&mut rng, 400).renyi(alpha).unwrap();
                total += found.value;
                let error = found.error.unwrap();
                within += usize::from((found.value - exact(alpha)).abs() <= 1.96 * error);
            }
            assert!(
                (total / 200.0 - exact(alpha)).abs() < 0.02 * (1.0 + exact(alpha)),
                "{alpha}"
            );
            assert!(
                (180..=199).contains(&within),
                "order {alpha}: {within} of 200"
            );
        }
        let found = drawn(&mut rng, 400);
        let bound = found.renyi(f64::INFINITY).unwrap();
        assert!((bound.value - 5f64.ln()).abs() < 1e-12 && bound.error.is_none());
        let (forward, back) = (
            found.renyi(1.0).unwrap(),
            found.turned().renyi(1.0).unwrap(),
        );
        let symmetric = found.symmetric_renyi(1.0).unwrap().value;
        assert!((symmetric - (forward.value + back.value) / 2.0).abs() < 1e-12);
        let both = forward.value - back.value;
        let direction = found.direction().unwrap();
        assert!((direction.value - both).abs() < 1e-12);
        let by_hand: Vec<f64> = found
            .of_first
            .iter()
            .chain(&found.of_second)
            .map(|t| ((t.after_first - t.after_second) / t.length as f64).abs())
            .collect();
        let mean = by_hand.iter().sum::<f64>() / by_hand.len() as f64;
        assert!((found.trajectory_distance().unwrap().value - mean).abs() < 1e-12);
    }

    #[test]
    fn near_orders_are_near_and_high_ones_finite() {
        let mut rng = StdRng::seed_from_u64(5);
        let mut half = |sign: f64| -> Vec<Continuation> {
            let mut one = || {
                let a = -10.0 - 20.0 * rng.random_range(0.0..1.0f64);
                Continuation {
                    length: 4,
                    after_first: a,
                    after_second: a - sign * rng.random_range(-1.0..9.0f64),
                }
            };
            (0..20).map(|_| one()).collect()
        };
        let found = Continuations {
            of_first: half(1.0),
            of_second: half(-1.0),
        };
        let at = |alpha: f64| found.renyi(alpha).unwrap();
        let one = at(1.0);
        for alpha in [1.0 - 1e-9, 1.0 + 1e-9, 0.999, 1.001] {
            let near = at(alpha);
            assert!(
                (near.value - one.value).abs() < 0.02 * one.value,
                "{alpha}: {near:?}"
            );
            assert!((near.error.unwrap() - one.error.unwrap()).abs() < 0.02 * one.value);
        }
        let mut last = 0.0;
        for alpha in [1e-6, 0.1, 0.5, 0.9, 1.0, 1.5, 3.0, 50.0, 1e3, 1e6] {
            let here = at(alpha);
            assert!(
                here.value.is_finite() && here.error.unwrap().is_finite(),
                "{alpha}: {here:?}"
            );
            // A divergence grows with its order, and so do these estimates of one sample.
            assert!(here.value >= last - 1e-9, "{alpha}: {here:?} after {last}");
            last = here.value;
        }
        // The largest ratio is the limit.
        assert!((at(1e6).value - at(f64::INFINITY).value).abs() < 1e-3 * last);
    }

    #[test]
    fn equal_laws_are_at_distance_0_and_bad_ones_are_refused() {
        let t = Continuation {
            length: 3,
            after_first: -4.0,
            after_second: -4.0,
        };
        let same = Continuations {
            of_first: vec![t; 3],
            of_second: vec![t; 3],
        };
        for alpha in [0.5, 1.0, 2.0, f64::INFINITY] {
            assert!(same.symmetric_renyi(alpha).unwrap().value.abs() < 1e-12);
        }
        assert_eq!(same.trajectory_distance().unwrap().value, 0.0);
        for alpha in [0.0, -1.0, f64::NAN] {
            assert!(same.renyi(alpha).is_err());
        }
        let mut few = same.clone();
        few.of_first.truncate(1);
        assert!(few.renyi(1.0).is_err());
        let mut wrong = same.clone();
        wrong.of_second[0].after_first = 1.0;
        assert!(wrong.renyi(1.0).is_err());
        wrong.of_second[0].after_first = -1.0;
        wrong.of_second[0].length = 0;
        assert!(wrong.trajectory_distance().is_err());
    }
}
