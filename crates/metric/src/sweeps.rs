//! What is asked of forests of any size: one pass up or down, and no matrix of distances.

use lawvere_core::tropical::{hom, plus};
use num_bigint::BigUint;

use crate::{MetricError, PrefixForest, TOLERANCE};

impl PrefixForest {
    /// The longest proper prefix that the text extends with a probability that is not 0.
    pub fn effective_parent(&self, text: usize) -> Option<usize> {
        self.parent(text)
            .filter(|_| self.edge_distance(text) < f64::INFINITY)
    }

    /// f with `d(a, b) = f(b) - f(a)` in the effective order: the distance from the shortest prefix. O(n).
    pub fn potential(&self) -> Vec<f64> {
        let mut out: Vec<f64> = Vec::with_capacity(self.len());
        for text in 0..self.len() {
            let below = self.effective_parent(text).and_then(|p| out.get(p));
            out.push(below.map_or(0.0, |f| f + self.edge_distance(text)));
        }
        out
    }

    /// `d ⊗ x`, the greatest point of P(L) below x: every text takes the least of what its extensions offer. O(n).
    ///
    /// # Errors
    /// A vector of another length or with NaN.
    pub fn project_below(&self, x: &[f64]) -> Result<Vec<f64>, MetricError> {
        self.require_vector(x)?;
        let mut out = x.to_vec();
        for text in (0..self.len()).rev() {
            if let Some(prefix) = self.parent(text) {
                out[prefix] = out[prefix].min(plus(self.edge_distance(text), out[text]));
            }
        }
        Ok(out)
    }

    /// The least point of P(L) above x: every text is at least what its prefixes ask. O(n).
    ///
    /// # Errors
    /// A vector of another length or with NaN.
    pub fn project_above(&self, x: &[f64]) -> Result<Vec<f64>, MetricError> {
        self.require_vector(x)?;
        let mut out = x.to_vec();
        for text in 0..self.len() {
            if let Some(prefix) = self.parent(text) {
                out[text] = out[text].max(hom(self.edge_distance(text), out[prefix]));
            }
        }
        Ok(out)
    }

    /// The Yoneda image `Y(a_k) = d(-, a_k)` where it is finite: the text and its prefixes, nearest first. O(length).
    pub fn yoneda(&self, text: usize) -> Vec<(usize, f64)> {
        let mut out = vec![(text, 0.0)];
        let (mut at, mut distance) = (text, 0.0);
        while let Some(prefix) = self.effective_parent(at) {
            distance += self.edge_distance(at);
            out.push((prefix, distance));
            at = prefix;
        }
        out
    }

    /// How many extremal rays Q(L) has: connected lower sets are trees from a root on, so that
    /// `c(v) = Π (1 + c(child))` over the extensions of v by one step, summed over roots, edges of probability 0 cut. Exact, of any size.
    ///
    /// O(n) products of large numbers, the smaller ones first.
    ///
    /// *Source:* Gaubert, Vlassopoulos (arXiv 2405.12264), on extremal rays, for the sets.
    pub fn count_rays(&self) -> BigUint {
        let mut factors: Vec<Vec<BigUint>> = vec![Vec::new(); self.len()];
        let mut total = BigUint::ZERO;
        for text in (0..self.len()).rev() {
            let count = multiplied(std::mem::take(&mut factors[text]));
            match self.effective_parent(text) {
                Some(prefix) => factors[prefix].push(count + 1u32),
                None => total += count,
            }
        }
        total
    }

    fn require_vector(&self, x: &[f64]) -> Result<(), MetricError> {
        if x.len() != self.len() {
            return Err(MetricError::VectorLength {
                what: "the vector",
                expected: self.len(),
                found: x.len(),
            });
        }
        match x.iter().position(|x| x.is_nan()) {
            None => Ok(()),
            Some(place) => Err(self.entry(x, place, "a number, or infinite")),
        }
    }

    /// Whether z is in Q(L).
    pub(crate) fn require_cone(&self, z: &[f64]) -> Result<(), MetricError> {
        self.require_vector(z)?;
        if let Some(place) = z.iter().position(|z| !(z.is_finite() && *z >= 0.0)) {
            return Err(self.entry(z, place, "finite and at least 0 in Q"));
        }
        for to in 0..self.len() {
            let Some(from) = self.effective_parent(to) else {
                continue;
            };
            let asked = (-self.edge_distance(to)).exp() * z[to];
            let by = asked - z[from];
            if by > TOLERANCE * asked {
                return Err(MetricError::Outside {
                    what: "the vector",
                    polyhedron: "Q",
                    from: format!("text {from}"),
                    to: format!("text {to}"),
                    by,
                });
            }
        }
        Ok(())
    }

    fn entry(&self, x: &[f64], place: usize, wanted: &'static str) -> MetricError {
        MetricError::VectorEntry {
            what: "the vector",
            text: format!("text {place}"),
            value: x[place],
            wanted,
        }
    }
}

/// The product, halves by halves, so that numbers of like sizes meet.
fn multiplied(mut factors: Vec<BigUint>) -> BigUint {
    while factors.len() > 1 {
        let pairs = factors.chunks(2);
        let next = pairs.map(|pair| pair.iter().product()).collect();
        factors = next;
    }
    factors.pop().unwrap_or_else(|| BigUint::from(1u32))
}
