//! Factors of a limited dimension: against the convex optimum, the definition, and what can be said by
//! hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lawvere_core::{RowMatrix, SparseRows};
use lawvere_geometry::{
    GeometryError, RankLimited, RankLimitedOptions, Start, Supports, rank_limited, verify,
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

fn random(rng: &mut StdRng, vocabulary: usize, contexts: usize, density: f64) -> Supports {
    let support = |rng: &mut StdRng| -> Vec<u32> {
        let one = rng.random_range(0..vocabulary as u32);
        let tokens = 0..vocabulary as u32;
        tokens
            .filter(|&v| v == one || rng.random::<f64>() < density)
            .collect()
    };
    let all: Vec<Vec<u32>> = (0..contexts).map(|_| support(rng)).collect();
    supports(vocabulary, &all)
}

fn solve(supports: &Supports, dimension: usize) -> RankLimited {
    let options = RankLimitedOptions::default();
    let found = rank_limited(supports, dimension, &options, &mut |_| {}).unwrap();
    println!("{}", serde_json::to_string(&found).unwrap());
    found
}

fn logits(found: &RankLimited) -> RowMatrix<f64> {
    let (words, contexts) = (found.words(), found.contexts());
    RowMatrix::from_fn(words.nrows(), contexts.nrows(), |v, j| {
        let pairs = words.row(v).iter().zip(contexts.row(j));
        pairs.map(|(w, h)| w * h).sum()
    })
}

fn squares(x: &RowMatrix<f64>) -> f64 {
    x.data().iter().map(|x| x * x).sum()
}

/// The claims of a result, from the definition.
fn check(supports: &Supports, found: &RankLimited) {
    let logits = logits(found);
    let checked = verify(supports, &logits, None).unwrap();
    let missed = checked.equality_violation.max(checked.margin_violation);
    if let Some(value) = found.value {
        assert!(found.feasible && missed <= 2e-7, "{checked:?}");
        assert!((checked.value - value).abs() <= 1e-6 * value);
        let half = 0.5 * (squares(found.words()) + squares(found.contexts()));
        assert!((half - value).abs() <= 1e-9 * value);
        assert!(value >= found.convex_lower_bound * (1.0 - 1e-9));
    } else {
        assert!(!found.feasible && found.violation > 1e-7);
        let told = (missed - found.violation).abs() <= 1e-6;
        assert!(told || found.violation == 1.0, "{checked:?} {found:?}");
    }
}

#[test]
fn from_the_rank_of_the_convex_solution_on_the_limit_costs_nothing() {
    let mut rng = StdRng::seed_from_u64(11);
    for (v, m, density) in [(5, 6, 0.3), (8, 10, 0.3), (12, 9, 0.2)] {
        let supports = random(&mut rng, v, m, density);
        let convex = solve(&supports, v.min(m));
        for dimension in [convex.convex_rank, convex.convex_rank + 1, v + m] {
            let found = solve(&supports, dimension);
            check(&supports, &found);
            let value = found.value.unwrap();
            assert!(
                (value - found.convex_value).abs() <= 1e-5 * value,
                "{found:?}"
            );
            assert_eq!(found.words().ncols(), dimension);
        }
    }
}

#[test]
fn fewer_dimensions_never_cost_less() {
    let mut rng = StdRng::seed_from_u64(12);
    let supports = random(&mut rng, 9, 12, 0.15);
    let mut last = 0.0;
    let rank = solve(&supports, 20).convex_rank;
    let mut feasible = 0;
    for dimension in (1..=rank).rev() {
        let found = solve(&supports, dimension);
        check(&supports, &found);
        if let Some(value) = found.value {
            feasible += 1;
            // Local searches may miss the optimum, but not below the bound.
            assert!(
                value >= last * (1.0 - 0.05),
                "{dimension}: {value} after {last}"
            );
            last = value;
        }
    }
    assert!(feasible >= 2);
}

#[test]
fn single_next_tokens_fit_into_two_dimensions_at_the_norm_of_a_regular_polygon() {
    // w_v and h_v on circles: r^2 (1 - cos(2 pi / V)) = 1 and the value is V r^2.
    let n = 6;
    let supports = supports(n, &(0..n as u32).map(|v| vec![v]).collect::<Vec<_>>());
    let found = solve(&supports, 2);
    check(&supports, &found);
    let wanted = n as f64 / (1.0 - (std::f64::consts::TAU / n as f64).cos());
    let value = found.value.unwrap();
    assert!(value <= wanted * (1.0 + 1e-6), "{value} {wanted}");
    assert!(found.convex_value < 0.9 * value);
}

#[test]
fn one_dimension_tells_two_tokens_apart_and_no_more() {
    let two = supports(2, &[vec![0], vec![1], vec![1]]);
    let found = solve(&two, 1);
    check(&two, &found);
    // L = (1, -1)/2 h^T with |h_j| = 1.
    assert!((found.value.unwrap() - (3.0f64 / 2.0).sqrt()).abs() < 1e-6);
    let three = supports(3, &[vec![0], vec![1], vec![2]]);
    let found = solve(&three, 1);
    assert!(!found.feasible && found.value.is_none() && found.relative_gap.is_none());
    check(&three, &found);
    // One of the three is in the middle for good: it tops nothing, at best 5 of 6 pairs are in order.
    assert_eq!(found.violation, 1.0);
    assert!(found.confused >= 1.0 / 6.0 - 1e-12 && found.confused < 1.0);
    assert_eq!(found.attempts.len(), 5);
    assert_eq!(found.attempts[0].start, Start::Convex);
}

#[test]
fn merged_tokens_and_contexts_change_nothing() {
    let mut rng = StdRng::seed_from_u64(13);
    let few = random(&mut rng, 6, 7, 0.2);
    let dense = RowMatrix::from_fn(12, 21, |v, j| f64::from(few.allows(v % 6, j % 7)));
    let many = Supports::from_dense(&dense).unwrap();
    let (a, b) = (solve(&few, 4), solve(&many, 4));
    check(&many, &b);
    let (a, b) = (a.value.unwrap(), b.value.unwrap());
    assert!((a * 6.0f64.sqrt() - b).abs() <= 0.02 * b, "{a} {b}");
}

#[test]
fn full_supports_need_nothing() {
    let all = supports(3, &[vec![0, 1, 2], vec![0, 1, 2]]);
    let found = solve(&all, 2);
    assert_eq!((found.value, found.relative_gap), (Some(0.0), Some(0.0)));
    assert_eq!((found.words().nrows(), found.contexts().nrows()), (3, 2));
}

#[test]
fn the_same_seed_gives_the_same_factors() {
    let mut rng = StdRng::seed_from_u64(14);
    let supports = random(&mut rng, 7, 8, 0.2);
    let (a, b) = (solve(&supports, 3), solve(&supports, 3));
    assert_eq!(a.words(), b.words());
}

#[test]
fn options_out_of_range_are_refused() {
    let two = supports(2, &[vec![0], vec![1]]);
    let options = RankLimitedOptions::default();
    let ask = |dimension, options| {
        rank_limited(&two, dimension, &options, &mut |_| {}).map(|found| found.feasible)
    };
    assert!(matches!(
        ask(0, options),
        Err(GeometryError::Argument {
            what: "dimension",
            ..
        })
    ));
    for tolerance in [0.0, 1.0, f64::NAN] {
        let options = RankLimitedOptions {
            tolerance,
            ..options
        };
        assert!(matches!(
            ask(1, options),
            Err(GeometryError::Argument {
                what: "tolerance",
                ..
            })
        ));
    }
    let one = supports(1, &[vec![0]]);
    assert!(rank_limited(&one, 1, &options, &mut |_| {}).is_err());
}
