//! The max-margin solver against closed forms and its own independent check.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lawvere_core::{RowMatrix, SparseRows};
use lawvere_geometry::{
    Answer, GeometryError, MaxMarginOptions, Supports, max_margin, proxy, verify,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn supports(vocabulary: usize, contexts: &[Vec<u32>]) -> Supports {
    let mut rows = SparseRows::new(vocabulary);
    for context in contexts {
        rows.push_row(context.iter().map(|&v| (v, 1.0))).unwrap();
    }
    Supports::from_rows(rows).unwrap()
}

fn solve(supports: &Supports, tolerance: f64) -> lawvere_geometry::MaxMargin {
    let options = MaxMarginOptions {
        tolerance,
        ..MaxMarginOptions::default()
    };
    max_margin(supports, &options, &mut |_| {}).unwrap()
}

fn random(rng: &mut StdRng, vocabulary: usize, contexts: usize, density: f64) -> Supports {
    let contexts: Vec<Vec<u32>> = (0..contexts)
        .map(|_| {
            let mut support: Vec<u32> = (0..vocabulary as u32)
                .filter(|_| rng.random::<f64>() < density)
                .collect();
            if support.is_empty() {
                support.push(rng.random_range(0..vocabulary as u32));
            }
            support
        })
        .collect();
    supports(vocabulary, &contexts)
}

fn subsets(vocabulary: u32, k: usize) -> Vec<Vec<u32>> {
    (0..1u32 << vocabulary)
        .filter(|mask| mask.count_ones() as usize == k)
        .map(|mask| (0..vocabulary).filter(|v| mask >> v & 1 == 1).collect())
        .collect()
}

fn binomial(n: usize, k: usize) -> f64 {
    (0..k).fold(1.0, |b, i| b * (n - i) as f64 / (i + 1) as f64)
}

#[test]
fn certificates_of_random_problems_hold_under_the_independent_check() {
    let mut rng = StdRng::seed_from_u64(5);
    for instance in 0..220 {
        let (v, m) = (rng.random_range(2..24), rng.random_range(1..32));
        let density = rng.random_range(0.05..0.9);
        let supports = random(&mut rng, v, m, density);
        let solved = solve(&supports, 1e-6);
        assert!(
            solved.converged && solved.relative_gap <= 1e-6,
            "instance {instance}: gap {}",
            solved.relative_gap
        );
        let check = verify(&supports, &solved.logits(), Some(&solved.dual())).unwrap();
        assert!(check.valid, "instance {instance}: {check:?}");
        assert!((check.value - solved.value).abs() <= 1e-9 * solved.value.max(1.0));
        assert!(
            (check.lower_bound.unwrap() - solved.lower_bound).abs() <= 1e-9 * solved.value.max(1.0)
        );
        assert!(check.relative_gap.unwrap() <= 1e-6 + 1e-9);
        assert!(solved.value <= solved.proxy_value * (1.0 + 1e-12));
    }
}

#[test]
fn when_every_subset_of_one_size_is_a_support_the_proxy_is_the_solution() {
    for (v, k, copies) in [(4, 1, 1), (5, 2, 1), (6, 3, 2), (7, 2, 3), (8, 7, 1)] {
        let mut contexts = Vec::new();
        for _ in 0..copies {
            contexts.extend(subsets(v, k));
        }
        let supports = supports(v as usize, &contexts);
        let solved = solve(&supports, 1e-9);
        let sigma = (copies as f64 * binomial(v as usize - 2, k - 1)).sqrt();
        let value = (v - 1) as f64 * sigma;
        assert!((solved.value - value).abs() < 1e-9 * value, "{solved:?}");
        assert_eq!(solved.proxy_optimal, Answer::Yes);
        assert_eq!(solved.rank, v as usize - 1);
        assert!(
            solved.singular_values[..v as usize - 1]
                .iter()
                .all(|s| (s - sigma).abs() < 1e-9 * sigma)
        );
        let (logits, proxy) = (solved.logits(), proxy(&supports));
        let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
        assert!(logits.data().iter().zip(proxy.data()).all(close));
    }
}

#[test]
fn a_proxy_can_be_optimal_although_its_certificate_fails() {
    let contexts = [
        vec![5],
        vec![3, 4, 5],
        vec![2, 3, 4, 5],
        vec![1, 2, 4, 5],
        vec![0, 1, 2, 3, 4],
    ];
    let supports = supports(6, &contexts);
    let solved = solve(&supports, 1e-8);
    assert!(solved.converged);
    assert!((solved.value - solved.proxy_value).abs() < 1e-7 * solved.value);
    assert_eq!(solved.proxy_optimal, Answer::Undecided);
}

#[test]
fn a_proxy_that_is_beaten_is_told_so() {
    let mut rng = StdRng::seed_from_u64(1);
    let seen: Vec<Answer> = (0..60)
        .map(|_| {
            let supports = random(&mut rng, 9, 14, 0.4);
            let solved = solve(&supports, 1e-7);
            let beaten = solved.value < solved.proxy_value * (1.0 - 1e-6);
            assert!(!beaten || solved.proxy_optimal == Answer::No);
            solved.proxy_optimal
        })
        .collect();
    assert!(seen.contains(&Answer::No));
}

#[test]
fn merged_tokens_and_contexts_change_nothing() {
    let mut rng = StdRng::seed_from_u64(3);
    let few = random(&mut rng, 7, 9, 0.4);
    // Tokens and contexts repeated, as a dense matrix.
    let dense = RowMatrix::from_fn(14, 27, |v, j| f64::from(few.allows(v % 7, j % 9)));
    let many = Supports::from_dense(&dense).unwrap();
    let (a, b) = (solve(&few, 1e-9), solve(&many, 1e-9));
    assert_eq!(
        (a.reduced_tokens, a.reduced_contexts),
        (b.reduced_tokens, b.reduced_contexts)
    );
    // Every multiplicity is the same, so the norm is multiplied by the root of both.
    assert!((a.value * (2.0f64 * 3.0).sqrt() - b.value).abs() < 1e-8 * b.value);
    let (a, b) = (a.logits(), b.logits());
    for v in 0..14 {
        for j in 0..27 {
            assert!((a.get(v % 7, j % 9) - b.get(v, j)).abs() < 1e-4);
        }
    }
}

#[test]
fn full_supports_ask_for_nothing() {
    let all = supports(3, &[vec![0, 1, 2], vec![0, 1, 2]]);
    let solved = solve(&all, 1e-7);
    assert_eq!(
        (solved.value, solved.relative_gap, solved.rank),
        (0.0, 0.0, 0)
    );
    assert!(solved.logits().data().iter().all(|x| *x == 0.0));
    let check = verify(&all, &solved.logits(), Some(&solved.dual())).unwrap();
    assert!(check.valid && check.relative_gap == Some(0.0));
    let some = supports(3, &[vec![0, 1, 2], vec![1]]);
    let solved = solve(&some, 1e-7);
    assert!((solved.value - (2.0f64 / 3.0).sqrt()).abs() < 1e-9);
    assert!(solved.logits().rows().all(|row| row[0] == 0.0));
}

#[test]
fn what_is_no_support_matrix_is_refused() {
    let dense = |values: &[f64], v, m| {
        Supports::from_dense(&RowMatrix::from_vec(values.to_vec(), v, m).unwrap())
    };
    assert!(matches!(
        dense(&[1.0, 0.0, 0.0, 0.0], 2, 2),
        Err(GeometryError::EmptySupport { context: 1 })
    ));
    assert!(matches!(
        dense(&[1.0, 2.0], 2, 1),
        Err(GeometryError::NotBinary { token: 1, .. })
    ));
    assert!(matches!(
        dense(&[1.0, f64::NAN], 2, 1),
        Err(GeometryError::NotBinary { token: 1, .. })
    ));
    assert!(matches!(dense(&[], 0, 0), Err(GeometryError::Empty { .. })));
    assert!(matches!(dense(&[], 3, 0), Err(GeometryError::Empty { .. })));
    let one = dense(&[1.0, 1.0], 1, 2).unwrap();
    let options = MaxMarginOptions::default();
    assert!(max_margin(&one, &options, &mut |_| {}).is_err());
    let small = MaxMarginOptions {
        size_limit: 3,
        ..options
    };
    let two = dense(&[1.0, 0.0, 0.0, 1.0], 2, 2).unwrap();
    assert!(matches!(
        max_margin(&two, &small, &mut |_| {}),
        Err(GeometryError::TooLarge { .. })
    ));
    let none = MaxMarginOptions {
        tolerance: 0.0,
        ..options
    };
    assert!(max_margin(&two, &none, &mut |_| {}).is_err());
}

#[test]
fn a_problem_that_reuses_eigenvectors_is_certified_too_on_any_number_of_threads() {
    let mut rng = StdRng::seed_from_u64(12);
    // Some tokens follow many contexts, most a few.
    let contexts: Vec<Vec<u32>> = (0..520)
        .map(|_| {
            let mut support: Vec<u32> = (0..rng.random_range(1..9))
                .map(|_| (290.0 * rng.random::<f64>().powi(3)) as u32)
                .collect();
            support.sort_unstable();
            support.dedup();
            support
        })
        .collect();
    let supports = supports(290, &contexts);
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| solve(&supports, 1e-5))
    };
    let solved = on(2);
    assert!(solved.reduced_tokens > 256 && solved.reduced_contexts > 256);
    assert!(solved.converged && solved.relative_gap <= 1e-5);
    let check = verify(&supports, &solved.logits(), Some(&solved.dual())).unwrap();
    assert!(
        check.valid && check.relative_gap.unwrap() <= 1e-5 + 1e-9,
        "{check:?}"
    );
    let one = on(1);
    assert_eq!(
        (one.value, one.lower_bound),
        (solved.value, solved.lower_bound)
    );
}

#[test]
fn a_wrong_solution_is_found_out() {
    let mut rng = StdRng::seed_from_u64(8);
    let supports = random(&mut rng, 6, 8, 0.4);
    let solved = solve(&supports, 1e-7);
    let mut logits = solved.logits();
    logits.data_mut().iter_mut().for_each(|l| *l *= 0.999);
    let check = verify(&supports, &logits, None).unwrap();
    assert!(!check.valid && check.margin_violation > 5e-4);
    // A constant added to a column hides no violation.
    let mut high = logits.clone();
    high.data_mut().iter_mut().for_each(|l| *l += 1e7);
    assert!(!verify(&supports, &high, None).unwrap().valid);
    high.data_mut().fill(1e9);
    assert!(!verify(&supports, &high, None).unwrap().valid);
    let mut dual = solved.dual();
    dual.data_mut()[3] += 1e-3;
    assert!(
        !verify(&supports, &solved.logits(), Some(&dual))
            .unwrap()
            .valid
    );
    assert!(verify(&supports, &RowMatrix::zeros(6, 7), None).is_err());
    logits.data_mut()[0] = f64::NAN;
    assert!(verify(&supports, &logits, None).is_err());
}
