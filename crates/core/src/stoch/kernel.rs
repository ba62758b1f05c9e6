//! Kernels between finite sets: the arrows of the category.

use super::distribution::{improper, scale};
use super::{Distribution, JointState, StochError};
use crate::matrix::{RowMatrix, ShapeError};
use crate::sum::{CompensatedSum, sum};

/// A Markov kernel from `0..n` to `0..m`: n laws on m outcomes, the rows of a stochastic matrix.
///
/// The pair `(x, y)` of a product `n x m` is the element `x * m + y`. A matrix read from data must
/// have rows and columns; the empty set occurs only as the size 0 of a structural kernel.
///
/// *Source:* Fritz, *A synthetic approach to Markov kernels, conditional independence and theorems
/// on sufficient statistics* (2020), example 2.5.
#[derive(Debug, Clone, PartialEq)]
pub struct FiniteKernel(RowMatrix<f64>);

impl FiniteKernel {
    /// The kernel with these rows, each renormalised in f64.
    ///
    /// # Errors
    /// No rows or no columns, an entry that is negative or not finite, a row whose sum is further than
    /// [`Distribution::TOLERANCE`] from 1.
    pub fn new(rows: RowMatrix<f64>) -> Result<Self, StochError> {
        Self::within(rows, Distribution::TOLERANCE)
    }

    /// The same with a tolerance of one's own, for rows that were stored with fewer digits.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn within(mut rows: RowMatrix<f64>, tolerance: f64) -> Result<Self, StochError> {
        nonempty(rows.nrows(), rows.ncols())?;
        proper(&rows)?;
        for row in 0..rows.nrows() {
            let law = rows.row_mut(row);
            let total = sum(law.iter().copied());
            if (total - 1.0).abs() > tolerance {
                return Err(StochError::Row {
                    row,
                    total,
                    tolerance,
                });
            }
            scale(law);
        }
        Ok(Self(rows))
    }

    /// The kernel whose rows are proportional to weights known to be proper; a row of zeros becomes
    /// uniform.
    pub(super) fn scaled(mut weights: RowMatrix<f64>) -> Self {
        (0..weights.nrows()).for_each(|x| scale(weights.row_mut(x)));
        Self(weights)
    }

    /// The identity of `0..n`. O(n^2) memory.
    pub fn identity(n: usize) -> Self {
        Self::of_map(n, n, |x| x)
    }

    /// The function that sends x to `map[x]`, as a kernel to `0..outcomes`.
    ///
    /// # Errors
    /// An empty map, a value that is not below `outcomes`.
    pub fn deterministic(map: &[usize], outcomes: usize) -> Result<Self, StochError> {
        nonempty(map.len(), outcomes)?;
        let mut rows = RowMatrix::zeros(map.len(), outcomes);
        for (input, &image) in map.iter().enumerate() {
            *rows
                .row_mut(input)
                .get_mut(image)
                .ok_or(StochError::Image {
                    input,
                    image,
                    outcomes,
                })? = 1.0;
        }
        Ok(Self(rows))
    }

    /// Copying, `n -> n x n`. O(n^3) memory.
    pub fn copy(n: usize) -> Self {
        Self::of_map(n, n * n, |x| x * n + x)
    }

    /// Discarding, `n -> 1`.
    pub fn discard(n: usize) -> Self {
        Self::of_map(n, 1, |_| 0)
    }

    /// The exchange of factors, `n x m -> m x n`. O(n^2 m^2) memory.
    pub fn swap(n: usize, m: usize) -> Self {
        Self::of_map(n * m, m * n, |pair| (pair % m) * n + pair / m)
    }

    /// A law as a kernel `1 -> n`.
    pub fn state(law: &Distribution) -> Self {
        let law = law.probabilities();
        Self(RowMatrix::from_fn(1, law.len(), |_, y| law[y]))
    }

    fn of_map(inputs: usize, outcomes: usize, map: impl Fn(usize) -> usize) -> Self {
        Self(RowMatrix::from_fn(inputs, outcomes, |x, y| {
            f64::from(map(x) == y)
        }))
    }

    /// This kernel, then the other: the composite in the order of the diagram. O(n m l).
    ///
    /// # Errors
    /// Another number of inputs there than of outcomes here.
    pub fn then(&self, other: &Self) -> Result<Self, StochError> {
        if self.outcomes() != other.inputs() {
            return Err(ShapeError::new(
                "second kernel",
                format!("{} inputs", self.outcomes()),
                format!("{} inputs", other.inputs()),
            )
            .into());
        }
        let mut composite = RowMatrix::zeros(self.inputs(), other.outcomes());
        for (x, law) in self.0.rows().enumerate() {
            let mut totals = vec![CompensatedSum::default(); other.outcomes()];
            for (&p, next) in law.iter().zip(other.0.rows()).filter(|(p, _)| **p > 0.0) {
                for (total, q) in totals.iter_mut().zip(next) {
                    total.add(p * q);
                }
            }
            for (value, total) in composite.row_mut(x).iter_mut().zip(totals) {
                *value = total.value();
            }
        }
        // Rounding must not accumulate along a chain.
        Ok(Self::scaled(composite))
    }

    /// Both kernels independently, `X x X' -> Y x Y'`: the Kronecker product. O(n m n' m').
    pub fn tensor(&self, other: &Self) -> Self {
        let (n, m) = (other.inputs(), other.outcomes());
        let mut product = RowMatrix::zeros(self.inputs() * n, self.outcomes() * m);
        for (x, left) in self.0.rows().enumerate() {
            for (y, right) in other.0.rows().enumerate() {
                let pairs = left.iter().flat_map(|p| right.iter().map(move |q| p * q));
                for (value, pair) in product.row_mut(x * n + y).iter_mut().zip(pairs) {
                    *value = pair;
                }
            }
        }
        Self(product)
    }

    /// The law of the outcome under a law of the input. O(n m).
    ///
    /// # Errors
    /// A law on another number of inputs.
    pub fn push(&self, law: &Distribution) -> Result<Distribution, StochError> {
        self.accepts(law)?;
        let pushed = Self::state(law).then(self)?;
        Ok(Distribution::scaled(pushed.0.into_data()))
    }

    /// The law of input and outcome together, under a law of the input. O(n m).
    ///
    /// # Errors
    /// A law on another number of inputs.
    pub fn joint(&self, law: &Distribution) -> Result<JointState, StochError> {
        self.accepts(law)?;
        let mut joint = self.0.clone();
        for (x, weight) in law.probabilities().iter().enumerate() {
            joint.row_mut(x).iter_mut().for_each(|p| *p *= weight);
        }
        Ok(JointState::proper(joint))
    }

    /// Whether every row is within `tolerance` of a point mass in total variation.
    ///
    /// At tolerance 0 these are the kernels that commute with copying.
    pub fn is_deterministic(&self, tolerance: f64) -> bool {
        self.0
            .rows()
            .all(|law| law.iter().any(|p| 1.0 - p <= tolerance))
    }

    /// Whether both kernels agree, within `tolerance` in total variation, at each input of positive
    /// probability. O(n m).
    ///
    /// # Errors
    /// Kernels of different shapes, a law on another number of inputs.
    ///
    /// *Source:* Fritz (2020), section 13.
    pub fn almost_surely_equal(
        &self,
        other: &Self,
        state: &Distribution,
        tolerance: f64,
    ) -> Result<bool, StochError> {
        self.accepts(state)?;
        if (self.inputs(), self.outcomes()) != (other.inputs(), other.outcomes()) {
            return Err(ShapeError::new(
                "kernel to compare",
                format!("{} x {}", self.inputs(), self.outcomes()),
                format!("{} x {}", other.inputs(), other.outcomes()),
            )
            .into());
        }
        let mut rows = state
            .probabilities()
            .iter()
            .zip(self.0.rows().zip(other.0.rows()));
        Ok(rows.all(|(weight, (p, q))| {
            *weight == 0.0 || 0.5 * sum(p.iter().zip(q).map(|(p, q)| (p - q).abs())) <= tolerance
        }))
    }

    /// The Bayesian inverse `Y -> X` under a law of the input: the law of the input given the
    /// outcome, uniform where the outcome has probability 0. O(n m).
    ///
    /// # Errors
    /// A law on another number of inputs.
    ///
    /// *Source:* Cho and Jacobs, *Disintegration and Bayesian inversion via string diagrams* (2019).
    pub fn bayesian_inverse(&self, state: &Distribution) -> Result<Self, StochError> {
        Ok(self.joint(state)?.swapped().conditional())
    }

    /// The law at input `x`.
    ///
    /// # Panics
    /// If `x` is not below [`inputs`](Self::inputs), as for a slice.
    pub fn row(&self, x: usize) -> &[f64] {
        self.0.row(x)
    }

    /// The laws as rows of a matrix.
    pub fn matrix(&self) -> &RowMatrix<f64> {
        &self.0
    }

    /// The number of inputs.
    pub fn inputs(&self) -> usize {
        self.0.nrows()
    }

    /// The number of outcomes.
    pub fn outcomes(&self) -> usize {
        self.0.ncols()
    }

    pub(super) fn accepts(&self, law: &Distribution) -> Result<(), StochError> {
        let found = law.probabilities().len();
        if found == self.inputs() {
            return Ok(());
        }
        Err(ShapeError::new(
            "law on the inputs",
            format!("{} outcomes", self.inputs()),
            format!("{found} outcomes"),
        )
        .into())
    }
}

fn nonempty(inputs: usize, outcomes: usize) -> Result<(), StochError> {
    if inputs == 0 || outcomes == 0 {
        return Err(StochError::Empty { inputs, outcomes });
    }
    Ok(())
}

/// Refuses entries that are no probabilities.
pub(super) fn proper(matrix: &RowMatrix<f64>) -> Result<(), StochError> {
    for (row, values) in matrix.rows().enumerate() {
        if let Some((column, value)) = improper(values) {
            return Err(StochError::Entry { row, column, value });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_that_is_no_kernel_is_refused_with_its_place() {
        let refused = |rows| FiniteKernel::new(RowMatrix::from_array_rows(rows)).unwrap_err();
        assert_eq!(
            refused(vec![[1.0, 0.0], [1.5, -0.5]]),
            StochError::Entry {
                row: 1,
                column: 1,
                value: -0.5
            }
        );
        let message = refused(vec![[1.0, 0.0], [0.5, 0.75]]).to_string();
        assert!(message.contains("row 1 sums to 1.25"), "{message}");
        assert!(matches!(
            refused(vec![[0.5, f64::NAN]]),
            StochError::Entry { .. }
        ));
        for (n, m) in [(0, 0), (0, 2), (2, 0)] {
            assert!(FiniteKernel::new(RowMatrix::zeros(n, m)).is_err());
        }
        assert!(FiniteKernel::deterministic(&[], 2).is_err());
        assert_eq!(
            FiniteKernel::deterministic(&[0, 2], 2),
            Err(StochError::Image {
                input: 1,
                image: 2,
                outcomes: 2
            })
        );
    }

    #[test]
    fn sizes_that_do_not_fit_are_errors() {
        let (two, three) = (FiniteKernel::identity(2), FiniteKernel::identity(3));
        let law = Distribution::new(vec![1.0]).unwrap();
        let message = two.then(&three).unwrap_err().to_string();
        assert_eq!(message, "second kernel: expected 2 inputs, found 3 inputs");
        assert!(two.push(&law).is_err());
        assert!(two.joint(&law).is_err());
        assert!(two.bayesian_inverse(&law).is_err());
        let law = Distribution::new(vec![0.5, 0.5]).unwrap();
        assert!(two.almost_surely_equal(&three, &law, 1.0).is_err());
    }

    #[test]
    fn rows_within_the_tolerance_are_renormalised() {
        let rows = RowMatrix::from_array_rows(vec![[0.5, 0.5 + 5e-10]]);
        let kernel = FiniteKernel::new(rows).unwrap();
        assert!((kernel.row(0).iter().sum::<f64>() - 1.0).abs() < 1e-15);
        assert!(!kernel.is_deterministic(0.4) && kernel.is_deterministic(0.5));
    }
}
