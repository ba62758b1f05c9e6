//! Laws on a product of two finite sets.

use super::kernel::proper;
use super::{Distribution, Divergence, FiniteKernel, StochError};
use crate::matrix::RowMatrix;
use crate::sum::{CompensatedSum, sum};

/// A law on `X x Y`, as the matrix of its probabilities with a row for each x.
#[derive(Debug, Clone, PartialEq)]
pub struct JointState {
    law: RowMatrix<f64>,
    rows: Distribution,
    columns: Distribution,
}

impl JointState {
    /// The joint law with these probabilities, renormalised in f64.
    ///
    /// # Errors
    /// An entry that is negative or not finite, a total further than [`Distribution::TOLERANCE`]
    /// from 1.
    pub fn new(mut law: RowMatrix<f64>) -> Result<Self, StochError> {
        proper(&law)?;
        let total = sum(law.data().iter().copied());
        if (total - 1.0).abs() > Distribution::TOLERANCE {
            return Err(StochError::Total {
                total,
                tolerance: Distribution::TOLERANCE,
            });
        }
        law.data_mut().iter_mut().for_each(|p| *p /= total);
        Ok(Self::proper(law))
    }

    /// The joint law of probabilities known to be one.
    pub(super) fn proper(law: RowMatrix<f64>) -> Self {
        let mut columns = vec![CompensatedSum::default(); law.ncols()];
        for row in law.rows() {
            for (total, &p) in columns.iter_mut().zip(row) {
                total.add(p);
            }
        }
        let rows = law.rows().map(|row| sum(row.iter().copied())).collect();
        Self {
            rows: Distribution::scaled(rows),
            columns: Distribution::scaled(columns.into_iter().map(|c| c.value()).collect()),
            law,
        }
    }

    /// The probabilities, a row for each x.
    pub fn matrix(&self) -> &RowMatrix<f64> {
        &self.law
    }

    /// The laws of x and of y.
    pub fn marginals(&self) -> (&Distribution, &Distribution) {
        (&self.rows, &self.columns)
    }

    /// The law of y given x, as a kernel `X -> Y`; uniform where x has probability 0. O(n m).
    ///
    /// Any two conditionals are almost surely equal under the law of x, and each gives back this law as
    /// its [`joint`](FiniteKernel::joint).
    ///
    /// *Source:* Fritz (2020), section 11.
    pub fn conditional(&self) -> FiniteKernel {
        FiniteKernel::scaled(self.law.clone())
    }

    /// The same law on `Y x X`. O(n m).
    pub fn swapped(&self) -> Self {
        let law = RowMatrix::from_fn(self.law.ncols(), self.law.nrows(), |y, x| {
            self.law.get(x, y)
        });
        Self {
            law,
            rows: self.columns.clone(),
            columns: self.rows.clone(),
        }
    }

    /// The mutual information `D(p_XY || p_X ⊗ p_Y)`; nats where a logarithm is taken. O(n m),
    /// without forming the product.
    ///
    /// Processing x or y by a kernel never increases it. A product of probabilities below 1e-308
    /// counts as 1e-308.
    ///
    /// # Errors
    /// A Renyi order that is negative or NaN.
    ///
    /// *Source:* Perrone, *Markov categories and entropy* (2023).
    pub fn mutual_information(&self, divergence: Divergence) -> Result<f64, StochError> {
        let columns = self.columns.probabilities();
        let rows = self.rows.probabilities().iter().enumerate();
        divergence.of_pairs(rows.flat_map(|(i, &x)| {
            let pairs = self.law.row(i).iter().zip(columns);
            pairs.map(move |(&p, &y)| (p, product(x, y)))
        }))
    }
}

/// The probability of an independent pair, which has mass wherever both do: an underflow to 0 would
/// make a divergence infinite.
fn product(x: f64, y: f64) -> f64 {
    if x > 0.0 && y > 0.0 {
        (x * y).max(f64::MIN_POSITIVE)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use proptest::prelude::*;

    fn joint(weights: &[u8], columns: usize) -> JointState {
        let law = normalised(weights).probabilities().to_vec();
        JointState::new(RowMatrix::from_vec(law, weights.len() / columns, columns).unwrap())
            .unwrap()
    }

    proptest! {
        #[test]
        fn mutual_information_is_the_divergence_from_the_product(a in weights(12)) {
            let joint = joint(&a, 4);
            let (x, y) = joint.marginals();
            let product = FiniteKernel::state(x).tensor(&FiniteKernel::state(y));
            for divergence in ALL {
                let found = joint.mutual_information(divergence).unwrap();
                let law = joint.matrix().data();
                let wanted = divergence.between_slices(law, product.row(0)).unwrap();
                prop_assert!(found == wanted || (found - wanted).abs() < 1e-12, "{divergence}");
                let swapped = joint.swapped().mutual_information(divergence).unwrap();
                prop_assert!(found == swapped || (found - swapped).abs() < 1e-12, "{divergence}");
            }
        }

        #[test]
        fn shannon_information_is_the_entropy_that_the_pair_does_not_have(a in weights(12)) {
            let joint = joint(&a, 3);
            let (x, y) = joint.marginals();
            let pair = super::super::entropy(joint.matrix().data().iter().copied());
            let found = joint.mutual_information(Divergence::KullbackLeibler).unwrap();
            prop_assert!((found - (x.entropy() + y.entropy() - pair)).abs() < 1e-12);
        }
    }

    #[test]
    fn a_joint_law_that_is_none_is_refused() {
        let refused = |rows| JointState::new(RowMatrix::from_array_rows(rows)).unwrap_err();
        assert!(matches!(
            refused(vec![[0.5, 0.5], [-0.5, 0.5]]),
            StochError::Entry {
                row: 1,
                column: 0,
                ..
            }
        ));
        assert!(matches!(
            refused(vec![[0.5, 0.25]]),
            StochError::Total { .. }
        ));
        assert!(JointState::new(RowMatrix::zeros(0, 0)).is_err());
    }

    #[test]
    fn rare_pairs_do_not_make_the_information_infinite() {
        let law = RowMatrix::from_array_rows(vec![[1.0, 0.0], [0.0, 1e-200]]);
        let joint = JointState::new(law).unwrap();
        let found = joint
            .mutual_information(Divergence::KullbackLeibler)
            .unwrap();
        assert!(found < 1e-190);
    }
}
