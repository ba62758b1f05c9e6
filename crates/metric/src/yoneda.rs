use lawvere_core::TropicalMatrix;
use serde::Serialize;

use crate::MetricError;

/// How exactly the Yoneda and co-Yoneda embeddings keep distances.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Isometry {
    /// The number of ordered pairs of texts.
    pub pairs: usize,
    /// Pairs at a finite distance.
    pub finite_pairs: usize,
    /// The largest `|D(Y(a), Y(b)) - d(a, b)|` over pairs at a finite distance, in nats.
    pub yoneda_defect: f64,
    /// The largest `|D(Y^(a), Y^(b)) - d(b, a)|` over pairs at a finite distance, in nats.
    pub co_yoneda_defect: f64,
    /// Pairs where one side is infinite and the other is not.
    pub mismatched_infinities: usize,
    /// The largest `|d ⊗ d - d|`, in nats: 0 for a directed metric.
    pub triangle_defect: f64,
}

impl Isometry {
    /// Whether both embeddings are isometries of a directed metric up to `tolerance` nats of rounding.
    pub fn holds(&self, tolerance: f64) -> bool {
        self.mismatched_infinities == 0
            && self.yoneda_defect <= tolerance
            && self.co_yoneda_defect <= tolerance
            && self.triangle_defect <= tolerance
    }
}

/// The largest finite difference of two matrices and the number of entries infinite in one only.
fn difference(a: &TropicalMatrix, b: &TropicalMatrix) -> (f64, usize) {
    let (mut largest, mut mismatched) = (0.0f64, 0);
    for i in 0..a.nrows() {
        for (&x, &y) in a.row(i).iter().zip(b.row(i)) {
            if x.is_finite() && y.is_finite() {
                largest = largest.max((x - y).abs());
            } else if x != y {
                mismatched += 1;
            }
        }
    }
    (largest, mismatched)
}

/// Measures whether `D(Y(a), Y(b)) = d(a, b)` and `D(Y^(a), Y^(b)) = d(b, a)` for all pairs of
/// texts, D the Funk distance `max_i hom(x_i, y_i)`, Y the columns and Y^ the rows of d. O(n^3).
///
/// *Source:* Gaubert, Vlassopoulos (arXiv 2405.12264): the Yoneda embedding is an isometry. It holds
/// for every directed metric, so a defect beyond rounding means that d is none.
///
/// # Errors
/// A matrix that is not square.
pub fn yoneda_isometry(d: &TropicalMatrix) -> Result<Isometry, MetricError> {
    let squared = d.product(d)?;
    let (triangle_defect, broken) = difference(&squared, d);
    let transposed = d.transpose();
    let (yoneda_defect, columns) = difference(&d.residual(d)?, d);
    let (co_yoneda_defect, rows) = difference(&transposed.residual(&transposed)?, &transposed);
    let finite = |i: usize| d.row(i).iter().filter(|x| x.is_finite()).count();
    Ok(Isometry {
        pairs: d.nrows() * d.nrows(),
        finite_pairs: (0..d.nrows()).map(finite).sum(),
        yoneda_defect,
        co_yoneda_defect,
        mismatched_infinities: broken + columns + rows,
        triangle_defect,
    })
}

/// Whether `d_ii = 0` and `d ⊗ d = d` up to `tolerance` nats.
///
/// # Errors
/// A matrix that is not square.
pub fn is_directed_metric(d: &TropicalMatrix, tolerance: f64) -> Result<bool, MetricError> {
    let (defect, mismatched) = difference(&d.product(d)?, d);
    let zero = (0..d.nrows()).all(|i| d.get(i, i) == 0.0);
    Ok(zero && mismatched == 0 && defect <= tolerance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forest::tests::forests;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_embeddings_of_a_forest_are_isometries(forest in forests(10)) {
            let d = forest.distances();
            prop_assert!(is_directed_metric(&d, 1e-12).unwrap());
            let isometry = yoneda_isometry(&d).unwrap();
            prop_assert!(isometry.holds(1e-12), "{isometry:?}");
        }
    }

    #[test]
    fn a_matrix_that_is_no_directed_metric_is_found_out() {
        let d = TropicalMatrix::from_rows(&[
            &[0.0, 1.0, 5.0],
            &[f64::INFINITY, 0.0, 1.0],
            &[f64::INFINITY, f64::INFINITY, 0.0],
        ])
        .unwrap();
        assert!(!is_directed_metric(&d, 1e-12).unwrap());
        let isometry = yoneda_isometry(&d).unwrap();
        assert!(!isometry.holds(1e-12));
        assert_eq!(isometry.triangle_defect, 3.0);
    }
}
