//! Dense matrices over the min-plus semiring `(R u {+inf}, min, +)`.

use rayon::prelude::*;
use thiserror::Error;

use crate::ereal::{hom, plus};
use crate::matrix::{RowMatrix, ShapeError};

/// Why a min-plus matrix cannot be made or closed.
#[derive(Debug, Clone, PartialEq, Error)]
#[allow(missing_docs)]
pub enum TropicalError {
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error("entry ({row}, {column}) is NaN")]
    NotANumber { row: usize, column: usize },
    #[error(
        "the matrix has a cycle of negative weight through node {node}: its Kleene star does not exist"
    )]
    NegativeCycle { node: usize },
}

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
        let mut entries = RowMatrix::zeros(nrows, ncols);
        entries.data_mut().fill(f64::INFINITY);
        Self { entries }
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

    /// The min-plus product, `(A B)_ij = min_k (A_ik + B_kj)`; `+inf` absorbs. O(n m p), rows in parallel.
    ///
    /// # Errors
    /// Inner sizes that differ.
    pub fn product(&self, other: &Self) -> Result<Self, TropicalError> {
        if self.ncols() != other.nrows() {
            let expected = format!("{} rows", self.ncols());
            return Err(ShapeError::new("min-plus product", expected, other.nrows()).into());
        }
        let mut out = Self::infinite(self.nrows(), other.ncols());
        let width = other.ncols().max(1);
        out.entries
            .data_mut()
            .par_chunks_mut(width)
            .enumerate()
            .for_each(|(i, row)| {
                for (k, &a) in self
                    .row(i)
                    .iter()
                    .enumerate()
                    .filter(|(_, a)| **a < f64::INFINITY)
                {
                    for (slot, &b) in row.iter_mut().zip(other.row(k)) {
                        *slot = slot.min(plus(a, b));
                    }
                }
            });
        Ok(out)
    }

    /// All residuals between columns, `R_ij = max_k hom(A_ki, A_kj)`: the Funk distance from
    /// column `i` to column `j`. O(n^2 m), rows in parallel.
    pub fn residuals_of_columns(&self) -> Self {
        let columns = self.transpose();
        let n = self.ncols();
        let mut out = Self::infinite(n, n);
        out.entries
            .data_mut()
            .par_chunks_mut(n.max(1))
            .enumerate()
            .for_each(|(i, row)| {
                for (j, slot) in row.iter_mut().enumerate() {
                    let pairs = columns.row(i).iter().zip(columns.row(j));
                    *slot = pairs
                        .map(|(&x, &y)| hom(x, y))
                        .fold(f64::NEG_INFINITY, f64::max);
                }
            });
        out
    }

    /// The Kleene star `I + A + A^2 + ...`: lengths of shortest paths. O(n^3), rows in parallel.
    ///
    /// # Errors
    /// A matrix that is not square, or a cycle of negative weight.
    pub fn kleene_star(&self) -> Result<Self, TropicalError> {
        let n = self.nrows();
        if n != self.ncols() {
            let found = format!("{n} x {}", self.ncols());
            return Err(ShapeError::new("Kleene star", "a square matrix", found).into());
        }
        let mut star = self.clone();
        for i in 0..n {
            let diagonal = &mut star.entries.row_mut(i)[i];
            *diagonal = diagonal.min(0.0);
        }
        for k in 0..n {
            let through = star.row(k).to_vec();
            star.entries.data_mut().par_chunks_mut(n).for_each(|row| {
                let to = row[k];
                if to < f64::INFINITY {
                    for (slot, &from) in row.iter_mut().zip(&through) {
                        *slot = slot.min(plus(to, from));
                    }
                }
            });
        }
        match (0..n).find(|&i| star.get(i, i) < 0.0) {
            Some(node) => Err(TropicalError::NegativeCycle { node }),
            None => Ok(star),
        }
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
            prop_assert_eq!(star.residuals_of_columns(), star);
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
