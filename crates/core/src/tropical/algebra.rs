//! Matrices over any semiring.

use rayon::prelude::*;

use super::{Residuated, Semiring, TropicalError};
use crate::matrix::{RowMatrix, ShapeError};

/// `(A ⊗ B)_ij`, the sum over k of `A_ik ⊗ B_kj`. O(n m p), rows in parallel; for floats over min and +,
/// [`min_plus_product`](super::min_plus_product) is faster.
///
/// # Errors
/// Inner sizes that differ.
pub fn product<S: Semiring>(
    semiring: &S,
    a: &RowMatrix<S::Element>,
    b: &RowMatrix<S::Element>,
) -> Result<RowMatrix<S::Element>, TropicalError> {
    inner("product", a.ncols(), b.nrows())?;
    let mut out = filled(a.nrows(), b.ncols(), semiring.zero());
    for_each_row(&mut out, |i, row| {
        for (&x, others) in a.row(i).iter().zip(b.rows()) {
            for (slot, &y) in row.iter_mut().zip(others) {
                *slot = semiring.add(*slot, semiring.multiply(x, y));
            }
        }
    });
    Ok(out)
}

/// The greatest X with `A ⊗ X <= B` in the order of the semiring, `X_ij = ∧_k residual(A_ki, B_kj)`. O(n m p), rows
/// in parallel.
///
/// # Errors
/// Numbers of rows that differ.
pub fn residual<S: Residuated>(
    semiring: &S,
    a: &RowMatrix<S::Element>,
    b: &RowMatrix<S::Element>,
) -> Result<RowMatrix<S::Element>, TropicalError> {
    inner("residual", a.nrows(), b.nrows())?;
    let mut out = filled(a.ncols(), b.ncols(), semiring.top());
    for_each_row(&mut out, |i, row| {
        for (from, to) in a.rows().zip(b.rows()) {
            for (slot, &y) in row.iter_mut().zip(to) {
                *slot = semiring.meet(*slot, semiring.residual(from[i], y));
            }
        }
    });
    Ok(out)
}

/// The Kleene star `I ⊕ A ⊕ A ⊗ A ⊕ ...`: the sum over all ways. O(n^3) by elimination, rows in parallel.
///
/// # Errors
/// A matrix that is not square; a way around a node whose repetitions have no sum.
///
/// *Source:* Lehmann, *Algebraic structures for transitive closure* (1977).
pub fn star<S: Semiring>(
    semiring: &S,
    a: &RowMatrix<S::Element>,
) -> Result<RowMatrix<S::Element>, TropicalError> {
    let n = a.nrows();
    if a.ncols() != n {
        let found = format!("{n} x {}", a.ncols());
        return Err(ShapeError::new("Kleene star", "a square matrix", found).into());
    }
    let mut out = a.clone();
    for k in 0..n {
        let around = semiring.star(out.get(k, k));
        let around = around.ok_or(TropicalError::Diverges { node: k })?;
        let through: Vec<_> = out
            .row(k)
            .iter()
            .map(|&x| semiring.multiply(around, x))
            .collect();
        for_each_row(&mut out, |i, row| {
            if i == k {
                row.copy_from_slice(&through);
                return;
            }
            let to = row[k];
            for (j, slot) in row.iter_mut().enumerate() {
                *slot = match j == k {
                    true => semiring.multiply(to, around),
                    false => semiring.add(*slot, semiring.multiply(to, through[j])),
                };
            }
        });
    }
    for i in 0..n {
        let diagonal = &mut out.row_mut(i)[i];
        *diagonal = semiring.add(*diagonal, semiring.one());
    }
    Ok(out)
}

pub(super) fn inner(what: &'static str, columns: usize, rows: usize) -> Result<(), ShapeError> {
    match columns == rows {
        true => Ok(()),
        false => Err(ShapeError::new(what, format!("{columns} rows"), rows)),
    }
}

pub(super) fn filled<T: Copy + Default>(nrows: usize, ncols: usize, value: T) -> RowMatrix<T> {
    RowMatrix::from_fn(nrows, ncols, |_, _| value)
}

pub(super) fn for_each_row<T: Copy + Default + Send>(
    matrix: &mut RowMatrix<T>,
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    let columns = matrix.ncols().max(1);
    let rows = matrix.data_mut().par_chunks_mut(columns).enumerate();
    rows.for_each(|(i, row)| f(i, row));
}
