use faer::linalg::matmul::matmul as faer_matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::reborrow::ReborrowMut;
use faer::{Accum, MatMut, MatRef, Par};

use super::Scalar;

/// The largest tile of a product that one thread computes: big enough to amortise packing, small
/// enough that threads share the work evenly.
const TILE_ENTRIES: usize = 1 << 18;
/// Smaller products are cut too, into eight tiles at most, as long as a tile has this many
/// multiply-adds and rows or columns left.
const TILE_WORK: usize = 1 << 22;
const TILE_SIDE: usize = 64;
const TILE_LEVELS: usize = 3;

/// Symmetric products go through the inner dimension in steps of this length: its panels stay in the
/// second-level cache.
const DEPTH: usize = 128;
/// The largest triangle of a symmetric product that one thread computes.
const TRIANGLE: usize = 256;

/// `dst = a b` on the threads of the current pool.
///
/// Shapes must agree: `dst` is `a.nrows() x b.ncols()`. The product is cut into tiles whose bounds
/// depend on the shapes alone, so that the result does not depend on the number of threads; idle
/// threads steal tiles, which on a busy machine is faster than faer's own threads, which wait for
/// one another at barriers.
pub fn matmul<T: Scalar>(dst: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    product(dst, Accum::Replace, a, b, 0);
}

/// `dst += a b`; otherwise as [`matmul`].
pub fn matmul_add<T: Scalar>(dst: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    product(dst, Accum::Add, a, b, 0);
}

fn product<T: Scalar>(
    mut dst: MatMut<'_, T>,
    accum: Accum,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    level: usize,
) {
    let (m, n) = (dst.nrows(), dst.ncols());
    let work = m * n * a.ncols();
    let worth = level < TILE_LEVELS && work > TILE_WORK && m.max(n) >= 2 * TILE_SIDE;
    if m * n <= TILE_ENTRIES && !worth {
        return faer_matmul(dst, accum, a, b, T::ONE, Par::Seq);
    }
    // Bounds at multiples of the kernels' own blocks: 96 rows, or 16 lanes where little is left.
    let half = |side: usize| {
        let block = if side >= 768 { 96 } else { 16 };
        (side / 2).next_multiple_of(block)
    };
    if m >= n {
        let half = half(m);
        let (above, below) = dst.rb_mut().split_at_row_mut(half);
        let (a_above, a_below) = a.split_at_row(half);
        rayon::join(
            || product(above, accum, a_above, b, level + 1),
            || product(below, accum, a_below, b, level + 1),
        );
    } else {
        let half = half(n);
        let (left, right) = dst.rb_mut().split_at_col_mut(half);
        let (b_left, b_right) = b.split_at_col(half);
        rayon::join(
            || product(left, accum, a, b_left, level + 1),
            || product(right, accum, a, b_right, level + 1),
        );
    }
}

/// The lower half of `dst = a a^T`; what is above the diagonal stays as it is. On the threads of the
/// current pool, with a result that does not depend on their number.
pub fn symmetric_product<T: Scalar>(dst: MatMut<'_, T>, a: MatRef<'_, T>) {
    lower_product(dst, a, a.transpose());
}

/// The lower half of `dst = a b`, which is symmetric, say; otherwise as [`symmetric_product`].
pub fn lower_product<T: Scalar>(mut dst: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    let n = a.nrows();
    if n <= TRIANGLE {
        let mut accum = Accum::Replace;
        for depth in steps(a.ncols()) {
            triangular::matmul(
                dst.rb_mut(),
                BlockStructure::TriangularLower,
                accum,
                a.subcols(depth.start, depth.len()),
                BlockStructure::Rectangular,
                b.subrows(depth.start, depth.len()),
                BlockStructure::Rectangular,
                T::ONE,
                Par::Seq,
            );
            accum = Accum::Add;
        }
        return;
    }
    let half = (n / 2).next_multiple_of(16);
    let (above, below) = a.split_at_row(half);
    let (left, right) = b.split_at_col(half);
    let (first, _, corner, second) = dst.split_at_mut(half, half);
    rayon::join(
        || deep_product(corner, below, left),
        || {
            rayon::join(
                || lower_product(first, above, left),
                || lower_product(second, below, right),
            )
        },
    );
}

/// `dst = a b` for an inner dimension much longer than the others.
fn deep_product<T: Scalar>(mut dst: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    let (m, n) = (dst.nrows(), dst.ncols());
    if m.max(n) > TRIANGLE {
        let half = (m.max(n) / 2).next_multiple_of(16);
        if m >= n {
            let (above, below) = dst.split_at_row_mut(half);
            let (a_above, a_below) = a.split_at_row(half);
            rayon::join(
                || deep_product(above, a_above, b),
                || deep_product(below, a_below, b),
            );
        } else {
            let (left, right) = dst.split_at_col_mut(half);
            let (b_left, b_right) = b.split_at_col(half);
            rayon::join(
                || deep_product(left, a, b_left),
                || deep_product(right, a, b_right),
            );
        }
        return;
    }
    let mut accum = Accum::Replace;
    for depth in steps(a.ncols()) {
        let a = a.subcols(depth.start, depth.len());
        let b = b.subrows(depth.start, depth.len());
        faer_matmul(dst.rb_mut(), accum, a, b, T::ONE, Par::Seq);
        accum = Accum::Add;
    }
}

/// `0..length` in steps of DEPTH, at least one.
fn steps(length: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let starts = (0..length.max(1)).step_by(DEPTH);
    starts.map(move |start| start..(start + DEPTH).min(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RowMatrix;

    #[test]
    fn products_do_not_depend_on_the_number_of_threads() {
        let a = RowMatrix::from_fn(257, 576, |i, j| {
            ((i * 31 + j * 17) % 101) as f32 / 50.0 - 1.0
        });
        let b = RowMatrix::from_fn(1536, 576, |i, j| {
            ((i * 13 + j * 7) % 97) as f32 / 48.0 - 1.0
        });
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut out = RowMatrix::zeros(257, 1536);
            pool.install(|| matmul(out.view_mut(), a.view(), b.view().transpose()));
            out
        };
        assert_eq!(on(1).data(), on(2).data());
        assert_eq!(on(1).data(), on(7).data());
    }

    #[test]
    fn symmetric_products_are_products_on_any_number_of_threads() {
        for (n, depth) in [(1, 1), (3, 0), (70, 300), (301, 129), (700, 500)] {
            let a = RowMatrix::from_fn(n, depth, |i, j| ((i * 31 + j * 17) % 101) as f64 / 50.0);
            let mut all = RowMatrix::zeros(n, n);
            matmul(all.view_mut(), a.view(), a.view().transpose());
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let mut out = RowMatrix::from_fn(n, n, |_, _| 7.0);
                pool.install(|| symmetric_product(out.view_mut(), a.view()));
                out
            };
            let (one, three) = (on(1), on(3));
            assert_eq!(one.data(), three.data());
            for i in 0..n {
                for j in 0..=i {
                    assert!((one.get(i, j) - all.get(i, j)).abs() < 1e-9 * (1 + depth) as f64);
                }
                assert!(one.row(i)[i + 1..].iter().all(|x| *x == 7.0));
            }
        }
    }
}
