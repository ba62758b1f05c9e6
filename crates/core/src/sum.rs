//! Sums that decide: losses, entropies and divergences are added up here.

/// A running sum in f64 whose rounding error does not grow with the number of terms.
///
/// Infinite terms are carried as such; `inf + (-inf)` is NaN, as in any sum of reals.
///
/// *Source:* Neumaier, *Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen* (1974).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CompensatedSum {
    total: f64,
    lost: f64,
}

impl CompensatedSum {
    /// Adds one term.
    #[inline]
    pub fn add(&mut self, term: f64) {
        let next = self.total + term;
        if next.is_finite() {
            self.lost += if self.total.abs() >= term.abs() {
                (self.total - next) + term
            } else {
                (term - next) + self.total
            };
        }
        self.total = next;
    }

    /// The sum so far.
    #[inline]
    pub fn value(self) -> f64 {
        if self.total.is_finite() {
            self.total + self.lost
        } else {
            self.total
        }
    }
}

impl Extend<f64> for CompensatedSum {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, terms: I) {
        terms.into_iter().for_each(|t| self.add(t));
    }
}

impl FromIterator<f64> for CompensatedSum {
    fn from_iter<I: IntoIterator<Item = f64>>(terms: I) -> Self {
        let mut sum = Self::default();
        sum.extend(terms);
        sum
    }
}

/// The compensated sum of `terms`; 0 for none.
pub fn sum(terms: impl IntoIterator<Item = f64>) -> f64 {
    terms.into_iter().collect::<CompensatedSum>().value()
}

/// A ratio of sums, `sum values / sum sizes`, over independent clusters of unequal sizes (documents,
/// say), with its standard error by linearisation; the error is 0 of a single cluster.
///
/// *Source:* Cochran, *Sampling techniques* (1977), section 6.4.
pub fn ratio_of_sums(clusters: impl Iterator<Item = (f64, usize)> + Clone) -> (f64, f64) {
    let size: usize = clusters.clone().map(|c| c.1).sum();
    let ratio = sum(clusters.clone().map(|c| c.0)) / size as f64;
    let n = clusters.clone().count() as f64;
    let squares = sum(clusters.map(|(value, size)| (value - ratio * size as f64).powi(2)));
    let error = (squares * n / (n - 1.0).max(1.0)).sqrt() / size as f64;
    (ratio, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_terms_survive_beside_large_ones() {
        assert_eq!(sum([1e16, 1.0, -1e16]), 1.0);
        assert_eq!([1e16, 1.0, -1e16].iter().sum::<f64>(), 0.0);
    }

    #[test]
    fn an_infinite_term_makes_an_infinite_sum_not_nan() {
        assert_eq!(sum([1.0, f64::INFINITY, 2.0]), f64::INFINITY);
    }

    #[test]
    fn a_ratio_over_clusters_of_one_size_has_the_error_of_a_mean() {
        let values = [1.0, 2.0, 4.0, 5.0];
        let (mean, error) = ratio_of_sums(values.iter().map(|&v| (3.0 * v, 3)));
        let variance = values.iter().map(|v| (v - 3.0f64).powi(2)).sum::<f64>() / 3.0;
        assert!((mean - 3.0).abs() < 1e-12);
        assert!((error - (variance / 4.0).sqrt()).abs() < 1e-12);
    }
}
