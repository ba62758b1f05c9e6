//! Dense matrices over the min-plus semiring `(R u {+inf}, min, +)`.

use rayon::prelude::*;

use super::algebra::{filled, inner};
use super::{TropicalError, min_plus_product, min_plus_star};
use crate::ereal::plus;
use crate::matrix::RowMatrix;

/// A matrix of extended reals with min as sum and + as product.
///
/// *Source:* Gaubert, Vlassopoulos, *Directed Metric Structures arising in Large Language Models*
/// (arXiv 2405.12264), section 2.
#[derive(Debug, Clone, PartialEq)]
pub struct TropicalMatrix {
    entries: RowMatrix<f64>,
}

impl TropicalMatrix {
    /// The matrix of `+inf`, the zero of the semiring.
    pub fn infinite(nrows: usize, ncols: usize) -> Self {
        Self {
            entries: filled(nrows, ncols, f64::INFINITY),
        }
    }

    /// A matrix of these entries.
    ///
    /// # Errors
    /// NaN.
    pub fn new(entries: RowMatrix<f64>) -> Result<Self, TropicalError> {
        match entries.data().iter().position(|x| x.is_nan()) {
            Some(k) => Err(TropicalError::NotANumber {
                row: k / entries.ncols(),
                column: k % entries.ncols(),
            }),
            None => Ok(Self { entries }),
        }
    }

    /// A matrix of these rows.
    ///
    /// # Errors
    /// Rows of different lengths, NaN.
    pub fn from_rows(rows: &[&[f64]]) -> Result<Self, TropicalError> {
        let ncols = rows.first().map_or(0, |r| r.len());
        Self::new(RowMatrix::from_vec(rows.concat(), rows.len(), ncols)?)
    }

    /// The number of rows.
    pub fn nrows(&self) -> usize {
        self.entries.nrows()
    }

    /// The number of columns.
    pub fn ncols(&self) -> usize {
        self.entries.ncols()
    }

    /// The entry at row `i`, column `j`.
    pub fn get(&self, i: usize, j: usize) -> f64 {
        self.entries.get(i, j)
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &[f64] {
        self.entries.row(i)
    }

    /// The transposed matrix.
    pub fn transpose(&self) -> Self {
        Self {
            entries: RowMatrix::from_fn(self.ncols(), self.nrows(), |i, j| self.get(j, i)),
        }
    }

    /// The entries.
    pub fn entries(&self) -> &RowMatrix<f64> {
        &self.entries
    }

    /// The min-plus product, as [`min_plus_product`]. O(n m p).
    ///
    /// # Errors
    /// Inner sizes that differ.
    pub fn product(&self, other: &Self) -> Result<Self, TropicalError> {
        let entries = min_plus_product(&self.entries, &other.entries)?;
        Ok(Self { entries })
    }

    /// `min_k (A_ik + x_k)`, where `+inf` absorbs. O(n m), rows in parallel.
    ///
    /// # Errors
    /// A vector of another length than there are columns.
    pub fn times(&self, x: &[f64]) -> Result<Vec<f64>, TropicalError> {
        inner("min-plus product with a vector", self.ncols(), x.len())?;
        let row = |i: usize| {
            let terms = self.row(i).iter().zip(x).map(|(&a, &x)| plus(a, x));
            terms.fold(f64::INFINITY, f64::min)
        };
        Ok((0..self.nrows()).into_par_iter().map(row).collect())
    }

    /// The residual `R_ij = max_k hom(A_ki, B_kj)`: the least R with `A R >= B`, entry by entry, and the Funk distance from
    /// column i of A to column j of B. O(n m p): a product with signs turned, `-(A^T (-B))`.
    ///
    /// # Errors
    /// Numbers of rows that differ.
    pub fn residual(&self, other: &Self) -> Result<Self, TropicalError> {
        let turned = other.entries.map(|x| -x);
        let found = min_plus_product(&self.transpose().entries, &turned)?;
        // `+ 0.0` turns negative zeros into zeros.
        let entries = found.map(|x| -x + 0.0);
        Ok(Self { entries })
    }

    /// The Kleene star, as [`min_plus_star`]. O(n^3).
    ///
    /// # Errors
    /// A matrix that is not square, or a cycle of negative weight.
    pub fn kleene_star(&self) -> Result<Self, TropicalError> {
        let entries = min_plus_star(&self.entries)?;
        Ok(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weights(n: usize) -> impl Strategy<Value = TropicalMatrix> {
        let entry = prop_oneof![Just(f64::INFINITY), (0u8..20).prop_map(f64::from)];
        proptest::collection::vec(entry, n * n).prop_map(move |data| {
            TropicalMatrix::new(RowMatrix::from_vec(data, n, n).unwrap()).unwrap()
        })
    }

    proptest! {
        #[test]
        fn the_star_is_idempotent_and_below_the_matrix(a in weights(7)) {
            let star = a.kleene_star().unwrap();
            prop_assert_eq!(&star.product(&star).unwrap(), &star);
            prop_assert!((0..7).all(|i| (0..7).all(|j| star.get(i, j) <= a.get(i, j))));
        }

        #[test]
        fn residuals_of_the_columns_of_a_star_are_the_star(a in weights(6)) {
            // The Yoneda embedding is an isometry: D(Y(i), Y(j)) = d(i, j).
            let star = a.kleene_star().unwrap();
            prop_assert_eq!(star.residual(&star).unwrap(), star);
        }

        #[test]
        fn products_associate(a in weights(5), b in weights(5), c in weights(5)) {
            let left = a.product(&b).unwrap().product(&c).unwrap();
            let right = a.product(&b.product(&c).unwrap()).unwrap();
            prop_assert_eq!(left, right);
        }
    }

    #[test]
    fn a_negative_cycle_and_nan_are_refused() {
        let cycle = TropicalMatrix::from_rows(&[&[0.0, -2.0], &[1.0, 0.0]]).unwrap();
        assert!(matches!(
            cycle.kleene_star(),
            Err(TropicalError::NegativeCycle { .. })
        ));
        assert!(TropicalMatrix::from_rows(&[&[f64::NAN]]).is_err());
        assert!(TropicalMatrix::from_rows(&[&[0.0, 1.0], &[1.0]]).is_err());
    }
}
