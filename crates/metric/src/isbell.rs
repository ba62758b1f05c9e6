//! Isbell's conjugates and the completion that they make.

use std::collections::HashSet;

use lawvere_core::tropical::hom;
use serde::Serialize;

use crate::{MetricError, Space};

/// A point of P(L) and the least statement about texts above it, and back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Isbell {
    /// `O(x)_j = max_i hom(x_i, d_ij)`, a point of P^(L).
    #[serde(serialize_with = "crate::extended::list")]
    pub conjugate: Vec<f64>,
    /// `Spec O x`, the greatest point below x of the completion I(L).
    #[serde(serialize_with = "crate::extended::list")]
    pub completion: Vec<f64>,
}

impl Space {
    /// Isbell's conjugate of a vector over texts below, `O(x)_j = max_i hom(x_i, d_ij)`. It is finite at j only if a_j
    /// extends all of x's support. O(n^2).
    ///
    /// # Errors
    /// A vector of another length or with NaN.
    ///
    /// *Source:* Gaubert, Vlassopoulos (arXiv 2405.12264), on Isbell duality; Willerton (2013).
    pub fn conjugate(&self, x: &[f64]) -> Result<Vec<f64>, MetricError> {
        self.require_vector("the vector", x)?;
        let at = |j: usize| {
            let terms = x.iter().enumerate().map(|(i, &x)| hom(x, self.d(i, j)));
            terms.fold(f64::NEG_INFINITY, f64::max)
        };
        Ok((0..self.len()).map(at).collect())
    }

    /// The conjugate of a vector over texts above, `Spec(y)_i = max_j hom(y_j, d_ij)`: with
    /// [`conjugate`](Self::conjugate) a Galois connection, `y >= O(x)` if and only if `x >= Spec(y)`. O(n^2).
    ///
    /// # Errors
    /// As there.
    pub fn spectrum(&self, y: &[f64]) -> Result<Vec<f64>, MetricError> {
        self.require_vector("the vector", y)?;
        let at = |i: usize| {
            let terms = y
                .iter()
                .zip(self.distances().row(i))
                .map(|(&y, &d)| hom(y, d));
            terms.fold(f64::NEG_INFINITY, f64::max)
        };
        Ok((0..self.len()).map(at).collect())
    }

    /// The conjugate of x and its completion `Spec O x <= x`, the greatest point below x of
    /// `I(L) = {x = Spec O x}`, the (max, +) span of the Yoneda images. O(n^2).
    ///
    /// A finite x is completed to a multiple of the image of the greatest text, and to `-inf` everywhere if there is
    /// none.
    ///
    /// # Errors
    /// A vector of another length or with NaN.
    pub fn complete(&self, x: &[f64]) -> Result<Isbell, MetricError> {
        let conjugate = self.conjugate(x)?;
        let completion = self.spectrum(&conjugate)?;
        Ok(Isbell {
            conjugate,
            completion,
        })
    }

    /// [`complete`](Self::complete) with a potential f: the completion is `c - f` on a cut of the order, the texts below
    /// all texts above x's support, and `+inf` off it, so that I(L) is the line times the cuts of Dedekind and MacNeille.
    /// O(n support) instead of O(n^2), after the potential.
    ///
    /// # Errors
    /// As [`complete`](Self::complete); an entry of `-inf`; no potential.
    pub fn complete_by_cuts(&self, x: &[f64], potential: &[f64]) -> Result<Isbell, MetricError> {
        self.require_vector("the vector", x)?;
        self.require_vector("the potential", potential)?;
        if let Some(text) = x.iter().position(|&x| x == f64::NEG_INFINITY) {
            return Err(MetricError::VectorEntry {
                what: "the vector",
                text: self.names()[text].clone(),
                value: x[text],
                wanted: "more than -inf for the way by cuts",
            });
        }
        let n = self.len();
        let support: Vec<usize> = (0..n).filter(|&i| x[i] < f64::INFINITY).collect();
        let below = |i: usize, j: usize| self.d(i, j) < f64::INFINITY;
        let upper: Vec<usize> = (0..n)
            .filter(|&j| support.iter().all(|&i| below(i, j)))
            .collect();
        let level = support
            .iter()
            .map(|&i| -potential[i] - x[i])
            .fold(f64::NEG_INFINITY, f64::max);
        let mut conjugate = vec![f64::INFINITY; n];
        for &j in &upper {
            conjugate[j] = potential[j] + level;
        }
        let completion = (0..n).map(|i| match upper.iter().all(|&j| below(i, j)) {
            _ if upper.is_empty() => f64::NEG_INFINITY,
            true => -potential[i] - level + 0.0,
            false => f64::INFINITY,
        });
        Ok(Isbell {
            completion: completion.collect(),
            conjugate,
        })
    }

    /// The cuts of Dedekind and MacNeille that have texts both below and above: each the set of all texts below
    /// everything that is above it. With a potential f the points of I(L) of more than infinities are `c - f` on them.
    ///
    /// At most `most`, found from the principal ones by intersection.
    ///
    /// # Errors
    /// More cuts than `most`.
    pub fn cuts(&self, most: usize) -> Result<Vec<Vec<usize>>, MetricError> {
        let n = self.len();
        // Sets as bits.
        let principal: Vec<Vec<u64>> = (0..n)
            .map(|j| {
                let mut set = vec![0u64; n.div_ceil(64)];
                for i in (0..n).filter(|&i| self.d(i, j) < f64::INFINITY) {
                    set[i / 64] |= 1 << (i % 64);
                }
                set
            })
            .collect();
        let mut seen: HashSet<Vec<u64>> = principal.iter().cloned().collect();
        let mut found: Vec<Vec<u64>> = seen.iter().cloned().collect();
        let mut next = 0;
        while next < found.len() && found.len() <= most {
            let cut = found[next].clone();
            next += 1;
            for other in &principal {
                let common: Vec<u64> = cut.iter().zip(other).map(|(a, b)| a & b).collect();
                if common.iter().any(|&bits| bits != 0) && seen.insert(common.clone()) {
                    found.push(common);
                }
            }
        }
        if found.len() > most {
            return Err(MetricError::Cuts { limit: most });
        }
        let texts = |set: &Vec<u64>| {
            let held = |&i: &usize| set[i / 64] >> (i % 64) & 1 == 1;
            (0..n).filter(held).collect()
        };
        let mut cuts: Vec<Vec<usize>> = found.iter().map(texts).collect();
        cuts.sort();
        Ok(cuts)
    }
}
