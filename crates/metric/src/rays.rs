//! The extremal rays of Q(L): what every point of the cone is a sum of.

use std::collections::HashSet;

use serde::Serialize;

use crate::{MetricError, Space, TOLERANCE};

/// Texts up to which rays are enumerated.
pub const MOST_TEXTS: usize = 20;
/// Texts up to which they are enumerated without a potential.
pub const MOST_WITHOUT_POTENTIAL: usize = 12;

/// An extremal ray of Q(L), as the logarithm of one of its points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ray {
    /// `log z`, the largest entry 0; `-inf` off the support.
    #[serde(serialize_with = "crate::extended::list")]
    pub log: Vec<f64>,
    /// The text whose Yoneda image it is; none if it is no one's.
    pub principal: Option<usize>,
}

impl Space {
    /// Whether z = exp(log) lies on an extremal ray of Q(L): if and only if the pairs with `z_i = Pr(a_j|a_i) z_j > 0`
    /// connect its support. O(n^2) with union-find; equality is up to `tolerance` in the logarithm.
    ///
    /// # Errors
    /// A vector of another length, with NaN or `+inf`, or outside of Q(L); the zero vector, which spans no ray.
    ///
    /// *Source:* Gaubert, Vlassopoulos (arXiv 2405.12264) with a potential; the graph of tight pairs serves any
    /// directed metric.
    pub fn is_extremal(&self, log: &[f64], tolerance: f64) -> Result<bool, MetricError> {
        const WHAT: &str = "the logarithm of the vector";
        self.require_vector(WHAT, log)?;
        if let Some(text) = log.iter().position(|&x| x == f64::INFINITY) {
            return Err(MetricError::VectorEntry {
                what: WHAT,
                text: self.names()[text].clone(),
                value: log[text],
                wanted: "finite, or -inf for zero",
            });
        }
        let x: Vec<f64> = log.iter().map(|x| -x).collect();
        self.require_in(crate::Polyhedron::P, WHAT, &x)?;
        let support: Vec<usize> = (0..self.len())
            .filter(|&i| log[i] > f64::NEG_INFINITY)
            .collect();
        if support.is_empty() {
            return Err(MetricError::VectorEntry {
                what: WHAT,
                text: self.names()[0].clone(),
                value: f64::NEG_INFINITY,
                wanted: "finite somewhere: the zero vector spans no ray",
            });
        }
        let mut sets = Sets::new(self.len());
        for &i in &support {
            for &j in &support {
                if self.extends(i, j) && (log[i] + self.d(i, j) - log[j]).abs() <= tolerance {
                    sets.join(i, j);
                }
            }
        }
        let root = sets.root(support[0]);
        Ok(support.iter().all(|&i| sets.root(i) == root))
    }

    /// The rays of the Yoneda images, one a text: `z = Pr(a_k | -)`.
    pub fn principal_rays(&self) -> Vec<Ray> {
        let ray = |k: usize| Ray {
            log: (0..self.len()).map(|i| -self.d(i, k) + 0.0).collect(),
            principal: Some(k),
        };
        (0..self.len()).map(ray).collect()
    }

    /// All extremal rays, each once, ordered by their logarithms; at most `most`.
    ///
    /// With a [`potential`](Self::potential) they are the indicators, times exp f, of the non-empty *connected lower
    /// sets* of the effective order, found one from the next: memory and time are those of the sets, which may be
    /// 2^n. Without one they are grown from single texts along tight pairs, which is complete but may visit far more
    /// than there are rays.
    ///
    /// # Errors
    /// More than 20 texts, without a potential more than 12.
    ///
    /// *Source:* Gaubert, Vlassopoulos (arXiv 2405.12264), on extremal rays.
    pub fn extremal_rays(&self) -> Result<Vec<Ray>, MetricError> {
        const WHAT: &str = "listing the extremal rays";
        let n = self.len();
        let mut rays: Vec<Vec<f64>> = match self.potential(WHAT) {
            Ok(potential) => {
                self.require_few(WHAT, MOST_TEXTS)?;
                let of = |set: u32| {
                    let log = (0..n).map(|i| match set >> i & 1 {
                        1 => potential[i],
                        _ => f64::NEG_INFINITY,
                    });
                    scaled(log.collect())
                };
                self.connected_lower_sets().into_iter().map(of).collect()
            }
            Err(MetricError::NoPotential { .. }) => {
                self.require_few(
                    "listing the extremal rays without a potential",
                    MOST_WITHOUT_POTENTIAL,
                )?;
                self.grown()
            }
            Err(error) => return Err(error),
        };
        rays.sort_by(|a, b| {
            let mut pairs = a.iter().zip(b).map(|(x, y)| x.total_cmp(y));
            pairs
                .find(|o| o.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        let ray = |log: Vec<f64>| {
            let image = |&k: &usize| {
                (0..n).all(|i| {
                    let wanted = -self.d(i, k);
                    log[i] == wanted || (log[i] - wanted).abs() <= TOLERANCE
                })
            };
            Ray {
                principal: (0..n).find(image),
                log,
            }
        };
        Ok(rays.into_iter().map(ray).collect())
    }

    /// How many extremal rays there are: with a potential the number of non-empty connected lower sets.
    ///
    /// # Errors
    /// As [`extremal_rays`](Self::extremal_rays); for forests of any size see
    /// [`PrefixForest::count_rays`](crate::PrefixForest::count_rays).
    pub fn count_rays(&self) -> Result<u64, MetricError> {
        const WHAT: &str = "counting the extremal rays";
        match self.potential(WHAT) {
            Ok(_) => {
                self.require_few(WHAT, MOST_TEXTS)?;
                Ok(self.connected_lower_sets().len() as u64)
            }
            Err(MetricError::NoPotential { .. }) => {
                self.require_few(
                    "counting the extremal rays without a potential",
                    MOST_WITHOUT_POTENTIAL,
                )?;
                Ok(self.grown().len() as u64)
            }
            Err(error) => Err(error),
        }
    }

    fn require_few(&self, what: &'static str, limit: usize) -> Result<(), MetricError> {
        match self.len() <= limit {
            true => Ok(()),
            false => Err(MetricError::TooMany {
                what,
                texts: self.len(),
                limit,
                instead: "those of a forest of prefixes are counted at any size",
            }),
        }
    }

    /// The non-empty lower sets of the effective order that its covering pairs connect, as bits.
    ///
    /// Each is reached from a smaller one by adding all that lies below a text next to it. O(sets x n).
    fn connected_lower_sets(&self) -> Vec<u32> {
        let n = self.len();
        let closed = |j: usize| {
            let below = (0..n).filter(|&i| self.d(i, j) < f64::INFINITY);
            below.fold(0u32, |set, i| set | 1 << i)
        };
        let lower: Vec<u32> = (0..n).map(closed).collect();
        let mut seen: HashSet<u32> = lower.iter().copied().collect();
        let mut sets: Vec<u32> = seen.iter().copied().collect();
        let mut next = 0;
        while let Some(&set) = sets.get(next) {
            next += 1;
            for below in lower.iter().filter(|&below| below & set != 0) {
                let larger = set | below;
                if seen.insert(larger) {
                    sets.push(larger);
                }
            }
        }
        sets
    }

    /// Extremal rays by growth: every one grows from a text, a neighbour at a time, each value forced by a tight pair,
    /// with no condition broken among the texts reached; and what has so grown is one when zero elsewhere breaks
    /// none.
    fn grown(&self) -> Vec<Vec<f64>> {
        let n = self.len();
        let fits = |log: &[f64], j: usize, value: f64| {
            (0..n).filter(|&i| log[i].is_finite() && i != j).all(|i| {
                log[i] + self.d(i, j) >= value - TOLERANCE
                    && value + self.d(j, i) >= log[i] - TOLERANCE
            })
        };
        let start = |i: usize| {
            let mut log = vec![f64::NEG_INFINITY; n];
            log[i] = 0.0;
            log
        };
        let mut reached: Vec<Vec<f64>> = (0..n).map(start).collect();
        let mut seen: HashSet<Vec<i64>> = reached.iter().map(|log| rounded(log)).collect();
        let mut next = 0;
        while next < reached.len() {
            let log = reached[next].clone();
            next += 1;
            for j in (0..n).filter(|&j| !log[j].is_finite()) {
                let mut forced: Vec<f64> = Vec::new();
                for i in (0..n).filter(|&i| log[i].is_finite()) {
                    if self.extends(i, j) {
                        forced.push(log[i] + self.d(i, j));
                    }
                    if self.extends(j, i) {
                        forced.push(log[i] - self.d(j, i));
                    }
                }
                for value in forced.into_iter().filter(|&value| fits(&log, j, value)) {
                    let mut larger = log.clone();
                    larger[j] = value;
                    let larger = scaled(larger);
                    if seen.insert(rounded(&larger)) {
                        reached.push(larger);
                    }
                }
            }
        }
        let whole = |log: &Vec<f64>| {
            (0..n)
                .filter(|&j| log[j].is_finite())
                .all(|j| (0..n).all(|i| !self.extends(i, j) || log[i].is_finite()))
        };
        reached.retain(whole);
        reached
    }
}

/// With 0 as the largest entry.
fn scaled(mut log: Vec<f64>) -> Vec<f64> {
    let top = log.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    log.iter_mut().for_each(|x| *x -= top);
    log
}

/// Vectors that differ by rounding alone, the same as a rule.
fn rounded(log: &[f64]) -> Vec<i64> {
    let round = |x: &f64| match x.is_finite() {
        true => (x / (100.0 * TOLERANCE)).round() as i64,
        false => i64::MIN,
    };
    log.iter().map(round).collect()
}

/// Union-find.
pub(crate) struct Sets {
    parent: Vec<usize>,
}

impl Sets {
    pub fn new(n: usize) -> Self {
        Self {
            parent: (0..n).collect(),
        }
    }

    pub fn root(&mut self, mut i: usize) -> usize {
        while self.parent[i] != i {
            self.parent[i] = self.parent[self.parent[i]];
            i = self.parent[i];
        }
        i
    }

    /// The root of both from now on, which is that of `into`.
    pub fn join(&mut self, from: usize, into: usize) -> usize {
        let (from, into) = (self.root(from), self.root(into));
        self.parent[from] = into;
        into
    }
}
