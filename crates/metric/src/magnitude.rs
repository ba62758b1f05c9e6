//! Magnitude: an effective number of texts.

use lawvere_core::{RowMatrix, sum};

use crate::{MetricError, PrefixForest, Space};

impl Space {
    /// The magnitude of `t d`: the sum of the entries of the inverse of `ζ_ij = exp(-t d_ij)`. O(n^2), since ζ is triangular
    /// with ones on its diagonal in the order of the texts.
    ///
    /// # Errors
    /// A t that is not positive and finite.
    ///
    /// *Source:* Leinster, *The magnitude of metric spaces* (2013); Bradley, Vigneaux, *The magnitude of categories of
    /// texts enriched by language models* (arXiv 2501.06662).
    pub fn magnitude(&self, t: f64) -> Result<f64, MetricError> {
        Ok(sum(self.weighting(t)?))
    }

    /// The weighting w of `t d`, `Σ_j exp(-t d_ij) w_j = 1` for every i. O(n^2).
    ///
    /// # Errors
    /// As [`magnitude`](Self::magnitude).
    pub fn weighting(&self, t: f64) -> Result<Vec<f64>, MetricError> {
        check(t)?;
        let mut weights = vec![0.0; self.len()];
        for &i in self.sorted().iter().rev() {
            let row = self.distances().row(i).iter().zip(&weights);
            let known = row.filter(|(d, _)| **d < f64::INFINITY);
            weights[i] = 1.0 - sum(known.map(|(d, w)| (-t * d).exp() * w));
        }
        Ok(weights)
    }

    /// The Möbius function of the effective order, n x n: 1 on the diagonal, `-Σ μ(i, k)` over `i <= k < j` elsewhere, 0 where
    /// j does not extend i. On a language model the inverse of ζ is `μ(i, j) Pr(a_j | a_i)^t`. O(n^3).
    ///
    /// *Source:* Rota, *On the foundations of combinatorial theory I* (1964).
    pub fn moebius(&self) -> RowMatrix<f64> {
        let n = self.len();
        let mut out = RowMatrix::zeros(n, n);
        for i in 0..n {
            let row = out.row_mut(i);
            row[i] = 1.0;
            for &j in self.sorted().iter().filter(|&&j| self.extends(i, j)) {
                let between = (0..n).filter(|&k| k != j && self.d(k, j) < f64::INFINITY);
                row[j] = -between.map(|k| row[k]).sum::<f64>();
            }
        }
        out
    }
}

impl PrefixForest {
    /// The magnitude of `t d`, `Σ_a (1 - Σ_c Pr(c | a)^t)` over the extensions c of a by one step. O(n).
    ///
    /// # Errors
    /// A t that is not positive and finite.
    pub fn magnitude(&self, t: f64) -> Result<f64, MetricError> {
        check(t)?;
        let texts = (0..self.len()).map(|text| match self.parent(text) {
            Some(_) => 1.0 - (-t * self.edge_distance(text)).exp(),
            None => 1.0,
        });
        Ok(sum(texts))
    }
}

fn check(t: f64) -> Result<(), MetricError> {
    match t > 0.0 && t.is_finite() {
        true => Ok(()),
        false => Err(MetricError::Argument {
            argument: "t",
            value: t,
            wanted: "positive and finite",
        }),
    }
}
