//! The truncated singular value decomposition against dense ones and closed forms.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use faer::Mat;
use lawvere_core::linalg::{LinearOperator, RowCentered, TruncatedSvd, truncated_svd};
use lawvere_core::{RowMatrix, SparseRows};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A pattern in which low columns are frequent, as tokens are.
fn supports(nrows: usize, ncols: usize, seed: u64) -> SparseRows<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut out = SparseRows::new(ncols);
    for _ in 0..nrows {
        let mut row: Vec<u32> = (0..rng.random_range(1..12))
            .map(|_| (ncols as f64 * rng.random::<f64>().powi(3)) as u32)
            .collect();
        row.sort_unstable();
        row.dedup();
        out.push_row(row.into_iter().map(|j| (j, 1.0))).unwrap();
    }
    out
}

fn dense(rows: &SparseRows<f64>) -> RowMatrix<f64> {
    let n = rows.ncols();
    let mut out = RowMatrix::zeros(rows.nrows(), n);
    for (i, (indices, values)) in rows.rows().enumerate() {
        let mean = values.iter().sum::<f64>() / n as f64;
        out.row_mut(i).fill(-mean);
        for (&j, v) in indices.iter().zip(values) {
            out.row_mut(i)[j as usize] += v;
        }
    }
    out
}

fn exact(a: &RowMatrix<f64>) -> Vec<f64> {
    a.view().singular_values().unwrap()
}

/// Everything that makes it a truncated decomposition: the values, orthonormal vectors, both equations.
fn check(a: &RowMatrix<f64>, svd: &TruncatedSvd, values: &[f64], tolerance: f64) {
    let k = svd.singular_values.len();
    let scale = values.first().copied().unwrap_or(0.0).max(1e-300);
    assert_eq!((svd.u.nrows(), svd.u.ncols()), (a.nrows(), k));
    assert_eq!((svd.v.nrows(), svd.v.ncols()), (a.ncols(), k));
    for (found, wanted) in svd.singular_values.iter().zip(values) {
        assert!(
            (found - wanted).abs() <= tolerance * scale,
            "{found} {wanted}"
        );
    }
    assert!(svd.singular_values.is_sorted_by(|x, y| x >= y));
    for vectors in [&svd.u, &svd.v] {
        let gram = vectors.view().transpose() * vectors.view();
        for i in 0..k {
            for j in 0..k {
                let error = (gram[(i, j)] - f64::from(i == j)).abs();
                assert!(error < 1e-9, "{i} {j} {error}");
            }
        }
    }
    let s = Mat::from_fn(
        k,
        k,
        |i, j| if i == j { svd.singular_values[i] } else { 0.0 },
    );
    let there = a.view() * svd.v.view() - svd.u.view() * &s;
    let back = a.view().transpose() * svd.u.view() - svd.v.view() * &s;
    for j in 0..k {
        let worst = there.col(j).norm_l2().max(back.col(j).norm_l2());
        assert!(worst <= 10.0 * tolerance * scale, "{j} {worst}");
        assert!(
            worst <= svd.residual + 1e-12 * scale,
            "{worst} {}",
            svd.residual
        );
    }
}

#[test]
fn tall_and_wide_patterns_have_the_spectrum_of_the_dense_matrix() {
    for (nrows, ncols, rank) in [
        (3000, 150, 12),
        (150, 3000, 12),
        (400, 399, 20),
        (2500, 130, 1),
    ] {
        let rows = supports(nrows, ncols, 1);
        let a = dense(&rows);
        let values = exact(&a);
        for tolerance in [1e-6, 1e-12] {
            let svd = truncated_svd(&RowCentered::new(&rows), rank, tolerance, 7).unwrap();
            assert!(svd.converged && svd.singular_values.len() == rank);
            check(&a, &svd, &values, tolerance);
            // At the rounding of doubles the smallest ones restart.
            assert!(tolerance < 1e-6 || svd.products < ncols.min(nrows));
        }
    }
}

#[test]
fn a_rank_beyond_the_matrix_gives_the_whole_spectrum() {
    let rows = supports(6, 9, 3);
    let a = dense(&rows);
    let svd = truncated_svd(&RowCentered::new(&rows), 50, 1e-10, 1).unwrap();
    assert_eq!(svd.singular_values.len(), 6);
    check(&a, &svd, &exact(&a), 1e-12);
}

#[test]
fn the_whole_spectrum_of_a_matrix_too_large_for_a_dense_one_ends_in_its_zeros() {
    // 60 distinct rows, again and again: rank 59 or 60 of 100.
    let distinct = supports(60, 100, 5);
    let mut rows = SparseRows::new(100);
    let mut times = [0usize; 60];
    for i in 0..45_000 {
        let k = (i * i + 3 * i) % 60;
        times[k] += 1;
        rows.push_row(distinct.row(k).0.iter().map(|&j| (j, 1.0)))
            .unwrap();
    }
    let mut weighted = dense(&distinct);
    for (k, n) in times.iter().enumerate() {
        weighted
            .row_mut(k)
            .iter_mut()
            .for_each(|x| *x *= (*n as f64).sqrt());
    }
    let mut values = exact(&weighted);
    values.resize(100, 0.0);
    for rank in [30, 100, 1000] {
        let svd = truncated_svd(&RowCentered::new(&rows), rank, 1e-10, 1).unwrap();
        assert_eq!(svd.singular_values.len(), rank.min(100));
        check(&dense(&rows), &svd, &values, 1e-12);
        assert!(svd.converged);
    }
}

/// A dense matrix with the singular values given.
fn with_spectrum(nrows: usize, ncols: usize, values: &[f64]) -> RowMatrix<f64> {
    let mut rng = StdRng::seed_from_u64(11);
    let mut frame = |n: usize| {
        let random = Mat::from_fn(n, values.len(), |_, _| rng.random::<f64>() - 0.5);
        random.qr().compute_thin_Q()
    };
    let (u, v) = (frame(nrows), frame(ncols));
    let scaled = Mat::from_fn(nrows, values.len(), |i, j| u[(i, j)] * values[j]);
    let a = scaled * v.transpose();
    RowMatrix::from_fn(nrows, ncols, |i, j| a[(i, j)])
}

#[test]
fn more_equal_singular_values_than_a_block_is_wide_are_all_found() {
    let mut values = vec![10.0; 20];
    values.extend((0..200).map(|k| 8.0 * 0.96f64.powi(k)));
    let a = with_spectrum(300, 260, &values);
    let svd = truncated_svd(&a, 24, 1e-8, 1).unwrap();
    check(&a, &svd, &values, 1e-8);
    // The same cluster with a width of its own, and one below it.
    for (k, x) in values[..20].iter_mut().enumerate() {
        *x -= 1e-6 * k as f64;
    }
    values[20..35].fill(7.0);
    values.sort_by(|x, y| y.total_cmp(x));
    let a = with_spectrum(300, 260, &values);
    let svd = truncated_svd(&a, 36, 1e-8, 1).unwrap();
    check(&a, &svd, &values, 1e-8);
}

#[test]
fn every_pair_of_tokens_as_a_support_has_its_closed_form() {
    // V - 1 singular values sqrt(C(V - 2, 1)).
    let mut rows = SparseRows::new(100);
    for a in 0..100u32 {
        for b in a + 1..100 {
            rows.push_row([(a, 1.0), (b, 1.0)]).unwrap();
        }
    }
    let values = vec![98f64.sqrt(); 99];
    for rank in [3, 8, 99] {
        let svd = truncated_svd(&RowCentered::new(&rows), rank, 1e-10, 1).unwrap();
        check(&dense(&rows), &svd, &values, 1e-12);
    }
}

#[test]
fn disjoint_copies_of_one_pattern_keep_their_multiplicity() {
    let block = supports(40, 12, 9);
    let mut rows = SparseRows::new(12 * 20);
    for copy in 0..20 {
        for (row, _) in block.rows() {
            rows.push_row(row.iter().map(|&j| (j + 12 * copy, 1.0)))
                .unwrap();
        }
    }
    let a = dense(&rows);
    let svd = truncated_svd(&RowCentered::new(&rows), 43, 1e-9, 1).unwrap();
    check(&a, &svd, &exact(&a), 1e-9);
}

#[test]
fn small_singular_values_keep_orthonormal_vectors() {
    let values: Vec<f64> = (0..90).map(|k| 0.7f64.powi(k)).collect();
    let a = with_spectrum(2000, 100, &values);
    let svd = truncated_svd(&a, 45, 1e-12, 1).unwrap();
    for (k, (found, wanted)) in svd.singular_values.iter().zip(&values).enumerate() {
        assert!(
            (found - wanted).abs() < 1e-13 + 1e-6 * wanted,
            "{k} {found} {wanted}"
        );
    }
    for vectors in [&svd.u, &svd.v] {
        let gram = vectors.view().transpose() * vectors.view();
        let error = (0..45).flat_map(|i| (0..45).map(move |j| (i, j)));
        let error = error.map(|(i, j)| (gram[(i, j)] - f64::from(i == j)).abs());
        assert!(error.fold(0.0, f64::max) < 1e-9);
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let rows = supports(9000, 700, 2);
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| truncated_svd(&RowCentered::new(&rows), 15, 1e-8, 4).unwrap())
    };
    let one = on(1);
    for threads in [2, 7] {
        let many = on(threads);
        assert_eq!(one.singular_values, many.singular_values);
        assert_eq!(one.u, many.u);
        assert_eq!(one.v, many.v);
        assert_eq!(one.residual, many.residual);
    }
}

#[test]
fn what_cannot_be_reached_is_said() {
    let rows = supports(3000, 150, 1);
    let svd = truncated_svd(&RowCentered::new(&rows), 10, 0.0, 1).unwrap();
    assert!(!svd.converged);
    assert!(svd.residual > 0.0 && svd.residual < 1e-12 * svd.singular_values[0]);
}

#[test]
fn nothing_and_nonsense_have_answers() {
    let of = |rows: &SparseRows<f64>, rank| truncated_svd(&RowCentered::new(rows), rank, 1e-8, 1);
    let rows = supports(30, 20, 1);
    let none = of(&rows, 0).unwrap();
    assert_eq!(
        (none.u.nrows(), none.u.ncols(), none.v.nrows()),
        (30, 0, 20)
    );
    for empty in [SparseRows::new(5), SparseRows::new(0)] {
        assert!(of(&empty, 3).unwrap().singular_values.is_empty());
    }
    // Full supports are 0 when centred; a small matrix and one that is not decomposed directly.
    for nrows in [40, 50_000] {
        let mut full = SparseRows::new(100);
        for _ in 0..nrows {
            full.push_row((0..100).map(|j| (j, 1.0))).unwrap();
        }
        let zero = of(&full, 5).unwrap();
        assert!(
            zero.singular_values.iter().all(|&s| s < 1e-10),
            "{:?}",
            zero.singular_values
        );
        let gram = zero.v.view().transpose() * zero.v.view();
        assert!((0..5).all(|i| (gram[(i, i)] - 1.0).abs() < 1e-9));
    }
    for nrows in [30, 3000] {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut values = supports(nrows, 150, 1).map(|_, x| *x);
            values = values.map(|k, x| if k == 17 { bad } else { *x });
            assert!(of(&values, 4).is_err());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn centred_products_are_those_of_the_dense_matrix(
        nrows in 1usize..3500, ncols in 1usize..60, width in 1usize..14, seed in 0u64..1000, ones: bool,
    ) {
        let mut rows = supports(nrows, ncols, seed);
        if !ones {
            rows = rows.map(|k, _| (k % 7) as f64 - 2.5);
        }
        let (a, centred) = (dense(&rows), RowCentered::new(&rows));
        let x = RowMatrix::from_fn(ncols, width, |i, j| ((i * 31 + j * 17) % 23) as f64 / 11.0 - 1.0);
        let y = RowMatrix::from_fn(nrows, width, |i, j| ((i * 13 + j * 29) % 19) as f64 / 9.0 - 1.0);
        let close = |found: &RowMatrix<f64>, wanted: &RowMatrix<f64>| {
            let scale = wanted.data().iter().fold(1.0, |m: f64, x| m.max(x.abs()));
            found.data().iter().zip(wanted.data()).all(|(x, y)| (x - y).abs() < 1e-11 * scale)
        };
        prop_assert!(close(&centred.apply(&x), &a.apply(&x)));
        prop_assert!(close(&centred.apply_transpose(&y), &a.apply_transpose(&y)));
        prop_assert!(close(&centred.apply_gram(&x), &a.apply_gram(&x)));
    }
}
