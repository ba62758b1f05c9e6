//! Min-plus products and closures of dense matrices, in tiles that stay in registers.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::TropicalError;
use crate::matrix::{RowMatrix, ShapeError};

/// Floats that min-plus matrices are made of: `f32` or `f64`.
pub trait MinPlusFloat: Lanes {}

impl MinPlusFloat for f32 {}
impl MinPlusFloat for f64 {}

/// A float and the vectors of it that a processor has.
pub trait Lanes:
    Copy + Default + PartialOrd + Send + Sync + std::ops::Add<Output = Self> + 'static
{
    /// As many values as fit into a register.
    type Vector<S: Simd>: Copy;
    /// `+inf`, the zero of the semiring.
    const INFINITY: Self;
    /// 0, its unit.
    const ZERO: Self;

    /// The values as vectors, as far as they fill them.
    fn vectors<S: Simd>(values: &[Self]) -> &[Self::Vector<S>];
    /// As [`vectors`](Self::vectors), to write.
    fn vectors_mut<S: Simd>(values: &mut [Self]) -> &mut [Self::Vector<S>];
    /// A vector of one value.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;
    /// The lesser of `a + b` and `least`; the latter where the sum is none, `(+inf) + (-inf)`: that is `+inf` here.
    fn relax<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        least: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// Whether it is NaN.
    fn is_nan(self) -> bool;
}

macro_rules! lanes {
    ($float:ident, $vector:ident, $as_simd:ident, $as_mut_simd:ident, $splat:ident, $add:ident, $less:ident, $select:ident) => {
        impl Lanes for $float {
            type Vector<S: Simd> = S::$vector;
            const INFINITY: Self = $float::INFINITY;
            const ZERO: Self = 0.0;

            #[inline(always)]
            fn vectors<S: Simd>(values: &[Self]) -> &[S::$vector] {
                S::$as_simd(values).0
            }

            #[inline(always)]
            fn vectors_mut<S: Simd>(values: &mut [Self]) -> &mut [S::$vector] {
                S::$as_mut_simd(values).0
            }

            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> S::$vector {
                simd.$splat(value)
            }

            #[inline(always)]
            fn relax<S: Simd>(
                simd: S,
                a: S::$vector,
                b: S::$vector,
                least: S::$vector,
            ) -> S::$vector {
                let sum = simd.$add(a, b);
                simd.$select(simd.$less(sum, least), sum, least)
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                $float::is_nan(self)
            }
        }
    };
}

lanes!(
    f32,
    f32s,
    as_simd_f32s,
    as_mut_simd_f32s,
    splat_f32s,
    add_f32s,
    less_than_f32s,
    select_f32s
);
lanes!(
    f64,
    f64s,
    as_simd_f64s,
    as_mut_simd_f64s,
    splat_f64s,
    add_f64s,
    less_than_f64s,
    select_f64s
);

/// Rows of a tile.
const ROWS: usize = 6;
/// Vectors of a row of a tile: with the rows as many sums as registers hold, room left for what is added.
const VECTORS: usize = 4;
/// Terms that are gone through before the tile is put back: a panel of so many stays in the nearest cache.
const DEPTH: usize = 128;
/// Rows and columns that a closure takes at once.
const BLOCK: usize = 128;

/// The min-plus product `(A B)_ij = min_k (A_ik + B_kj)`, where `(+inf) + (-inf) = +inf`. O(n m p): an addition and a
/// comparison a term, in vectors and on all threads; memory for a copy of either factor.
///
/// # Errors
/// Inner sizes that differ.
pub fn min_plus_product<T: MinPlusFloat>(
    a: &RowMatrix<T>,
    b: &RowMatrix<T>,
) -> Result<RowMatrix<T>, TropicalError> {
    if a.ncols() != b.nrows() {
        let expected = format!("{} rows", a.ncols());
        return Err(ShapeError::new("min-plus product", expected, b.nrows()).into());
    }
    let mut out = infinite(a.nrows(), b.ncols());
    let left = Rows::new(a, 0..a.nrows(), 0..a.ncols());
    let right = Panels::new(b, 0..b.nrows());
    update(&mut out, &left, &right, 0..0);
    Ok(out)
}

/// The Kleene star `I + A + A^2 + ...` of a square matrix, lengths of shortest paths, by blocks: O(n^3), as much as
/// one product.
///
/// # Errors
/// A matrix that is not square, or a cycle of negative weight.
///
/// *Source:* Floyd (1962), Warshall (1962); Venkataraman, Sahni, Mukhopadhyaya, *A blocked all-pairs shortest-paths
/// algorithm* (2003).
pub fn min_plus_star<T: MinPlusFloat>(a: &RowMatrix<T>) -> Result<RowMatrix<T>, TropicalError> {
    let n = a.nrows();
    if n != a.ncols() {
        let found = format!("{n} x {}", a.ncols());
        return Err(ShapeError::new("Kleene star", "a square matrix", found).into());
    }
    let mut star = a.clone();
    for i in 0..n {
        let diagonal = &mut star.row_mut(i)[i];
        if T::ZERO < *diagonal {
            *diagonal = T::ZERO;
        }
    }
    for first in (0..n).step_by(BLOCK) {
        let block = first..n.min(first + BLOCK);
        close(&mut star, &block)?;
        // All paths that begin with one within the block.
        let inner = Rows::new(&star, block.clone(), block.clone());
        let mut panel = RowMatrix::from_fn(block.len(), n, |i, j| star.get(first + i, j));
        update(&mut panel, &inner, &Panels::new(&star, block.clone()), 0..0);
        for (i, row) in block.clone().zip(panel.rows()) {
            star.row_mut(i).copy_from_slice(row);
        }
        // And all that come to it first.
        let left = Rows::new(&star, 0..n, block.clone());
        update(
            &mut star,
            &left,
            &Panels::new(&panel, 0..panel.nrows()),
            block,
        );
    }
    match (0..n).find(|&i| star.get(i, i) < T::ZERO) {
        Some(node) => Err(TropicalError::NegativeCycle { node }),
        None => Ok(star),
    }
}

/// The closure of a block on the diagonal, within itself.
fn close<T: Lanes>(star: &mut RowMatrix<T>, block: &Range<usize>) -> Result<(), TropicalError> {
    for k in block.clone() {
        if star.get(k, k) < T::ZERO {
            return Err(TropicalError::NegativeCycle { node: k });
        }
        let through = star.row(k)[block.clone()].to_vec();
        for i in block.clone() {
            let to = star.get(i, k);
            let row = &mut star.row_mut(i)[block.clone()];
            for (slot, &from) in row.iter_mut().zip(&through) {
                let sum = to + from;
                *slot = if sum < *slot { sum } else { *slot };
            }
        }
    }
    Ok(())
}

fn infinite<T: Lanes>(nrows: usize, ncols: usize) -> RowMatrix<T> {
    let mut out = RowMatrix::zeros(nrows, ncols);
    out.data_mut().fill(T::INFINITY);
    out
}

/// A left factor: blocks of [`ROWS`] rows, in each term after term the rows' values side by side.
struct Rows<T> {
    data: Vec<T>,
    terms: usize,
}

impl<T: Lanes> Rows<T> {
    fn new(a: &RowMatrix<T>, rows: Range<usize>, terms: Range<usize>) -> Self {
        let blocks = rows.len().div_ceil(ROWS);
        let mut data = vec![T::INFINITY; blocks * ROWS * terms.len()];
        data.par_chunks_mut((ROWS * terms.len()).max(1))
            .enumerate()
            .for_each(|(block, data)| {
                let first = rows.start + block * ROWS;
                for (lane, i) in (first..rows.end.min(first + ROWS)).enumerate() {
                    let row = &a.row(i)[terms.clone()];
                    for (values, &x) in data.chunks_exact_mut(ROWS).zip(row) {
                        values[lane] = x;
                    }
                }
            });
        Self {
            data,
            terms: terms.len(),
        }
    }
}

/// A right factor: panels of as many columns as a tile has, term after term.
struct Panels<T> {
    data: Vec<T>,
    terms: usize,
    width: usize,
    columns: usize,
}

struct Width<T>(std::marker::PhantomData<T>);

impl<T: Lanes> WithSimd for Width<T> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        VECTORS * size_of::<T::Vector<S>>() / size_of::<T>()
    }
}

impl<T: Lanes> Panels<T> {
    fn new(b: &RowMatrix<T>, terms: Range<usize>) -> Self {
        let width = Arch::new().dispatch(Width::<T>(std::marker::PhantomData));
        let columns = b.ncols();
        let mut data = vec![T::INFINITY; columns.div_ceil(width) * width * terms.len()];
        data.par_chunks_mut((width * terms.len()).max(1))
            .enumerate()
            .for_each(|(panel, data)| {
                let columns = panel * width..columns.min((panel + 1) * width);
                for (values, k) in data.chunks_exact_mut(width).zip(terms.clone()) {
                    let row = &b.row(k)[columns.clone()];
                    values[..row.len()].copy_from_slice(row);
                }
            });
        Self {
            data,
            terms: terms.len(),
            width,
            columns,
        }
    }
}

/// `out = min(out, left right)`, but for the rows `left_out`.
fn update<T: Lanes>(
    out: &mut RowMatrix<T>,
    left: &Rows<T>,
    right: &Panels<T>,
    left_out: Range<usize>,
) {
    let (rows, columns) = (out.nrows(), out.ncols());
    if columns == 0 || left.terms == 0 {
        return;
    }
    debug_assert_eq!((left.terms, columns), (right.terms, right.columns));
    let share = rows.div_ceil(4 * rayon::current_num_threads());
    let share = share.next_multiple_of(ROWS).clamp(ROWS, 16 * ROWS);
    let arch = Arch::new();
    out.data_mut()
        .par_chunks_mut(share * columns)
        .enumerate()
        .for_each(|(part, out)| {
            arch.dispatch(Update {
                out,
                first: part * share,
                left,
                right,
                left_out: &left_out,
            });
        });
}

struct Update<'a, T> {
    out: &'a mut [T],
    first: usize,
    left: &'a Rows<T>,
    right: &'a Panels<T>,
    left_out: &'a Range<usize>,
}

impl<T: Lanes> WithSimd for Update<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Update {
            out,
            first,
            left,
            right,
            left_out,
        } = self;
        let (terms, width, columns) = (left.terms, right.width, right.columns);
        for start in (0..terms).step_by(DEPTH) {
            let depth = DEPTH.min(terms - start);
            for (panel, column) in (0..columns).step_by(width).enumerate() {
                let from = (panel * terms + start) * width;
                let values = &right.data[from..from + depth * width];
                for (block, out) in out.chunks_mut(ROWS * columns).enumerate() {
                    let row = first + block * ROWS;
                    let from = (row / ROWS * terms + start) * ROWS;
                    let weights = &left.data[from..from + depth * ROWS];
                    let rows = row..row + out.len() / columns;
                    tile(simd, out, columns, column, weights, values, &|i| {
                        left_out.contains(&(rows.start + i))
                    });
                }
            }
        }
    }
}

#[inline(always)]
fn tile<S: Simd, T: Lanes>(
    simd: S,
    out: &mut [T],
    columns: usize,
    column: usize,
    weights: &[T],
    values: &[T],
    left_out: &impl Fn(usize) -> bool,
) {
    let (weights, _) = weights.as_chunks::<ROWS>();
    let (values, _) = T::vectors::<S>(values).as_chunks::<VECTORS>();
    let mut least = [[T::splat(simd, T::INFINITY); VECTORS]; ROWS];
    for (w, v) in weights.iter().zip(values) {
        for i in 0..ROWS {
            let w = T::splat(simd, w[i]);
            for j in 0..VECTORS {
                least[i][j] = T::relax(simd, w, v[j], least[i][j]);
            }
        }
    }
    let zero = T::splat(simd, T::ZERO);
    for (i, row) in out.chunks_mut(columns).enumerate() {
        if left_out(i) {
            continue;
        }
        let Some(found) = least.get(i) else { return };
        let end = columns.min(column + VECTORS * size_of::<T::Vector<S>>() / size_of::<T>());
        let target = &mut row[column..end];
        let whole = target.len() / (size_of::<T::Vector<S>>() / size_of::<T>());
        for (t, found) in T::vectors_mut::<S>(target).iter_mut().zip(found) {
            *t = T::relax(simd, *found, zero, *t);
        }
        let lanes = size_of::<T::Vector<S>>() / size_of::<T>();
        if whole * lanes < target.len() {
            let mut last = [T::INFINITY; WIDEST];
            if let (Some(slot), Some(found)) =
                (T::vectors_mut::<S>(&mut last).first_mut(), found.get(whole))
            {
                *slot = *found;
            }
            for (t, &found) in target[whole * lanes..].iter_mut().zip(&last) {
                *t = if found < *t { found } else { *t };
            }
        }
    }
}

/// No register holds more values.
const WIDEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ereal::plus;
    use proptest::prelude::*;

    fn extended() -> impl Strategy<Value = f64> {
        prop_oneof![
            3 => Just(f64::INFINITY),
            1 => Just(f64::NEG_INFINITY),
            12 => (-20i32..40).prop_map(f64::from),
        ]
    }

    fn matrix(n: usize, m: usize) -> impl Strategy<Value = RowMatrix<f64>> {
        proptest::collection::vec(extended(), n * m)
            .prop_map(move |data| RowMatrix::from_vec(data, n, m).unwrap())
    }

    fn by_hand(a: &RowMatrix<f64>, b: &RowMatrix<f64>) -> RowMatrix<f64> {
        RowMatrix::from_fn(a.nrows(), b.ncols(), |i, j| {
            let terms = (0..a.ncols()).map(|k| plus(a.get(i, k), b.get(k, j)));
            terms.fold(f64::INFINITY, f64::min)
        })
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_definition_infinities_too(
            (a, b) in (1usize..40, 1usize..12, 1usize..150)
                .prop_flat_map(|(n, k, m)| (matrix(n, k), matrix(k, m)))
        ) {
            let wanted = by_hand(&a, &b);
            prop_assert_eq!(&min_plus_product(&a, &b).unwrap(), &wanted);
            // Small whole numbers have no rounding in f32 either.
            let narrow = |x: &RowMatrix<f64>| x.map(|x| x as f32);
            let found = min_plus_product(&narrow(&a), &narrow(&b)).unwrap();
            prop_assert_eq!(found, narrow(&wanted));
        }
    }

    fn large(n: usize) -> RowMatrix<f64> {
        let mut state = 1u64;
        RowMatrix::from_fn(n, n, |_, _| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            match state >> 62 {
                0 => (state >> 40 & 0xFFF) as f64 + 1.0,
                _ => f64::INFINITY,
            }
        })
    }

    #[test]
    fn a_product_of_many_terms_is_that_of_the_definition() {
        let a = large(300);
        assert_eq!(min_plus_product(&a, &a).unwrap(), by_hand(&a, &a));
    }

    #[test]
    fn a_star_over_several_blocks_is_that_of_the_plain_algorithm() {
        for n in [1, 5, 127, 128, 129, 300] {
            let a = large(n);
            let mut plain = a.clone();
            (0..n).for_each(|i| plain.row_mut(i)[i] = 0.0);
            for k in 0..n {
                for i in 0..n {
                    for j in 0..n {
                        let through = plain.get(i, k) + plain.get(k, j);
                        plain.row_mut(i)[j] = plain.get(i, j).min(through);
                    }
                }
            }
            assert_eq!(min_plus_star(&a).unwrap(), plain, "n = {n}");
        }
        assert!(min_plus_star(&RowMatrix::<f64>::zeros(0, 0)).is_ok());
        let mut cycle = large(200);
        cycle.row_mut(150)[199] = -3000.0;
        cycle.row_mut(199)[150] = -3000.0;
        assert!(matches!(
            min_plus_star(&cycle),
            Err(TropicalError::NegativeCycle { .. })
        ));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (a, b) = (RowMatrix::<f32>::zeros(2, 3), RowMatrix::<f32>::zeros(2, 3));
        assert!(min_plus_product(&a, &b).is_err());
        assert!(min_plus_star(&a).is_err());
        let none = RowMatrix::<f32>::zeros(2, 0);
        let empty = RowMatrix::<f32>::zeros(0, 4);
        let found = min_plus_product(&none, &empty).unwrap();
        assert!(found.data().iter().all(|x| *x == f32::INFINITY) && found.ncols() == 4);
    }
}
