//! Sparse matrices over any semiring: what is not there is its zero.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::algebra::inner;
use super::{Semiring, TropicalError};
use crate::sparse::SparseRows;

/// `A ⊗ B` of sparse matrices, rows in parallel. O(products + outcomes log outcomes); sums go by increasing k, so that
/// they do not depend on the number of threads.
///
/// # Errors
/// Inner sizes that differ.
pub fn sparse_product<S: Semiring>(
    semiring: &S,
    a: &SparseRows<S::Element>,
    b: &SparseRows<S::Element>,
) -> Result<SparseRows<S::Element>, TropicalError> {
    inner("sparse product", a.ncols(), b.nrows())?;
    let row = |i: usize| {
        let mut sums: BTreeMap<u32, S::Element> = BTreeMap::new();
        let (through, weights) = a.row(i);
        for (&k, &x) in through.iter().zip(weights) {
            let (columns, values) = b.row(k as usize);
            for (&j, &y) in columns.iter().zip(values) {
                let term = semiring.multiply(x, y);
                let slot = sums.entry(j).or_insert(semiring.zero());
                *slot = semiring.add(*slot, term);
            }
        }
        sums
    };
    let rows: Vec<BTreeMap<u32, S::Element>> = (0..a.nrows()).into_par_iter().map(row).collect();
    let mut out = SparseRows::new(b.ncols());
    for row in rows {
        let row = row.into_iter().filter(|(_, x)| *x != semiring.zero());
        out.push_row(row)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::{
        Boolean, LogSumExp, MaxPlus, MinPlus, Probability, product, residual, star,
    };
    use super::*;
    use crate::matrix::RowMatrix;
    use proptest::prelude::*;

    fn sparse<T: Copy + Default + PartialEq>(matrix: &RowMatrix<T>, zero: T) -> SparseRows<T> {
        let mut out = SparseRows::new(matrix.ncols());
        for row in matrix.rows() {
            let present = row.iter().zip(0u32..).filter(|(x, _)| **x != zero);
            out.push_row(present.map(|(x, j)| (j, *x))).unwrap();
        }
        out
    }

    fn entries(n: usize) -> impl Strategy<Value = RowMatrix<f64>> {
        let entry = prop_oneof![Just(0.0), (1u8..8).prop_map(|x| f64::from(x) / 64.0)];
        proptest::collection::vec(entry, n * n)
            .prop_map(move |data| RowMatrix::from_vec(data, n, n).unwrap())
    }

    /// Sparse and dense products agree, and the star is the fixed point `I + A A*`.
    fn agree<S: Semiring>(
        s: &S,
        a: &RowMatrix<S::Element>,
        b: &RowMatrix<S::Element>,
        near: impl Fn(S::Element, S::Element) -> bool,
    ) -> bool {
        let dense = product(s, a, b).unwrap();
        let thin = sparse_product(s, &sparse(a, s.zero()), &sparse(b, s.zero())).unwrap();
        let closed = star(s, a).unwrap();
        let mut again = product(s, a, &closed).unwrap();
        for i in 0..a.nrows() {
            let x = again.get(i, i);
            again.row_mut(i)[i] = s.add(x, s.one());
        }
        let fixed = closed
            .data()
            .iter()
            .zip(again.data())
            .all(|(x, y)| near(*x, *y));
        thin == sparse(&dense, s.zero()) && fixed
    }

    proptest! {
        #[test]
        fn products_and_stars_agree_in_every_semiring(a in entries(6), b in entries(6)) {
            let near = |x: f64, y: f64| x == y || (x - y).abs() < 1e-9 * (1.0 + y.abs());
            prop_assert!(agree(&Probability, &a, &b, near));
            prop_assert!(agree(&Boolean, &a.map(|p| p > 0.0), &b.map(|p| p > 0.0), |x, y| x == y));
            let (d, e) = (a.map(|p| -p.ln()), b.map(|p| -p.ln()));
            prop_assert!(agree(&MinPlus, &d, &e, near));
            prop_assert!(agree(&MaxPlus, &d.map(|x| -x), &e.map(|x| -x), near));
            let soft = LogSumExp::new(1.0).unwrap();
            prop_assert!(agree(&soft, &d, &e, near));
            // At temperature 1 it is the star of probabilities, through -log.
            let (hot, all) = (star(&soft, &d).unwrap(), star(&Probability, &a).unwrap());
            for (x, p) in hot.data().iter().zip(all.data()) {
                prop_assert!(near((-x).exp(), *p));
            }
        }

        #[test]
        fn a_residual_is_the_greatest_solution(a in entries(5), b in entries(5)) {
            let (d, e) = (a.map(|p| -p.ln()), b.map(|p| -p.ln()));
            let x = residual(&MinPlus, &d, &e).unwrap();
            let back = product(&MinPlus, &d, &x).unwrap();
            // In the order of min-plus, below is greater as a number.
            for (x, y) in back.data().iter().zip(e.data()) {
                prop_assert!(*x >= *y - 1e-12);
            }
            // It is no smaller than any solution: B itself is one of A X <= A B.
            let other = residual(&MinPlus, &d, &product(&MinPlus, &d, &e).unwrap()).unwrap();
            for (x, y) in other.data().iter().zip(e.data()) {
                prop_assert!(*x <= *y + 1e-12);
            }
        }
    }

    #[test]
    fn a_way_around_that_has_no_sum_is_refused() {
        let a = RowMatrix::from_array_rows(vec![[0.5, 0.5], [0.5, 0.5]]);
        assert_eq!(
            star(&Probability, &a),
            Err(TropicalError::Diverges { node: 1 })
        );
        assert!(star(&Probability, &RowMatrix::zeros(1, 2)).is_err());
    }
}
