//! The regularisation path against its definition and against what the theory says of its limit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lawvere_core::{RowMatrix, SparseRows};
use lawvere_geometry::{
    ContextLaws, GeometryError, MaxMarginOptions, Path, PathOptions, Penalties, finite_logits,
    finite_part, max_margin, path, verify,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Laws with popular and rare tokens, as in text.
fn laws(vocabulary: usize, contexts: usize, seed: u64) -> ContextLaws {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut rows = SparseRows::new(vocabulary);
    let mut weights = Vec::new();
    for _ in 0..contexts {
        let size = 1 + (rng.random::<f64>().powi(2) * 12.0) as usize;
        let popular = |rng: &mut StdRng| ((vocabulary as f64).powf(rng.random()) - 1.0) as u32;
        let mut support: Vec<u32> = (0..size).map(|_| popular(&mut rng)).collect();
        support.sort_unstable();
        support.dedup();
        let counts: Vec<f64> = support
            .iter()
            .map(|_| f64::from(rng.random_range(1..9u8)))
            .collect();
        let total: f64 = counts.iter().sum();
        let law = support.into_iter().zip(counts.iter().map(|c| c / total));
        rows.push_row(law).unwrap();
        weights.push(total);
    }
    let total: f64 = weights.iter().sum();
    ContextLaws::new(rows, weights.iter().map(|w| w / total).collect()).unwrap()
}

fn down_to(to: f64, points: usize) -> PathOptions {
    PathOptions {
        penalties: Penalties::Spread {
            points,
            from: 1.0,
            to,
        },
        ..PathOptions::default()
    }
}

fn nuclear(matrix: &RowMatrix<f64>) -> f64 {
    matrix.view().singular_values().unwrap().iter().sum()
}

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs(), "{a} {b}");
}

/// Cross-entropy and softmax laws from the definition.
fn judge(laws: &ContextLaws, logits: &RowMatrix<f64>) -> (f64, RowMatrix<f64>) {
    let (v, m) = (logits.nrows(), logits.ncols());
    let mut softmax = RowMatrix::zeros(v, m);
    let mut loss = 0.0;
    for j in 0..m {
        let total: f64 = (0..v).map(|i| logits.get(i, j).exp()).sum();
        for i in 0..v {
            softmax.row_mut(i)[j] = logits.get(i, j).exp() / total;
        }
        let (tokens, law) = laws.laws.row(j);
        for (&i, p) in tokens.iter().zip(law) {
            loss += laws.weights[j] * p * (total.ln() - logits.get(i as usize, j));
        }
    }
    (loss, softmax)
}

#[test]
fn every_gap_is_that_of_the_definition() {
    let laws = laws(20, 16, 3);
    let out = path(&laws, None, &down_to(1e-4, 9), &mut |_| {}).unwrap();
    assert_eq!(out.points.len(), 9);
    close(out.entropy, laws.entropy(), 1e-12);
    for (k, point) in out.points.iter().enumerate().skip(1) {
        let logits = out.logits(k).unwrap();
        let (loss, softmax) = judge(&laws, &logits);
        close(point.excess, loss - laws.entropy(), 1e-6);
        close(point.nuclear_norm, nuclear(&logits), 1e-9);
        // G = -gradient / lambda, scaled into the dual feasible set, and the dual's value there.
        let mut gradient = RowMatrix::from_fn(20, 16, |i, j| {
            laws.weights[j] * softmax.get(i, j) / point.lambda
        });
        for (j, (tokens, law)) in laws.laws.rows().enumerate() {
            for (&i, p) in tokens.iter().zip(law) {
                gradient.row_mut(i as usize)[j] -= laws.weights[j] * p / point.lambda;
            }
        }
        let norm = gradient.view().singular_values().unwrap()[0];
        let t = (1.0 / norm).min(1.0);
        let mut dual = 0.0;
        for j in 0..16 {
            let (tokens, law) = laws.laws.row(j);
            let mut q: Vec<f64> = (0..20).map(|i| t * softmax.get(i, j)).collect();
            tokens
                .iter()
                .zip(law)
                .for_each(|(&i, p)| q[i as usize] += (1.0 - t) * p);
            dual -= laws.weights[j] * q.iter().map(|q| q * q.ln()).sum::<f64>();
        }
        let gap =
            (loss + point.lambda * point.nuclear_norm - dual) / (point.lambda * point.nuclear_norm);
        assert!(point.converged && point.relative_gap <= 1e-6);
        assert!(
            (gap - point.relative_gap).abs() < 2e-9 * point.relative_lambda.recip(),
            "{gap:e} {:e}",
            point.relative_gap
        );
        // Columns of the solution sum to 0 up to the accuracy asked for.
        for j in 0..16 {
            let total: f64 = (0..20).map(|i| logits.get(i, j)).sum();
            assert!(total.abs() < 1e-2 * point.nuclear_norm / 16.0, "{total}");
        }
        let mut finite = finite_part(&laws.supports, &logits).unwrap();
        let target = finite_logits(&laws);
        finite
            .data_mut()
            .iter_mut()
            .zip(target.data())
            .for_each(|(x, y)| *x -= y);
        let distance = finite.data().iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((distance - point.finite_distance).abs() < 1e-9 * (1.0 + distance));
    }
}

#[test]
fn at_lambda_max_and_above_the_solution_is_zero_and_below_it_is_not() {
    let laws = laws(12, 9, 5);
    let max = path(&laws, None, &down_to(0.5, 2), &mut |_| {})
        .unwrap()
        .lambda_max;
    let options = PathOptions {
        penalties: Penalties::These(vec![2.0 * max, max, 0.98 * max]),
        ..PathOptions::default()
    };
    let out = path(&laws, None, &options, &mut |_| {}).unwrap();
    let norms: Vec<f64> = out.points.iter().map(|p| p.nuclear_norm).collect();
    assert_eq!(norms[..2], [0.0, 0.0]);
    assert!(
        norms[2] > 1e-3 && out.points[2].rank == 1,
        "{:?}",
        out.points[2]
    );
    let uniform = judge(&laws, &RowMatrix::zeros(12, 9)).0;
    close(out.points[0].excess, uniform - laws.entropy(), 1e-10);
}

fn solved(vocabulary: usize, contexts: usize, to: f64, points: usize) -> (Path, f64) {
    let laws = laws(vocabulary, contexts, 1);
    let limit = max_margin(&laws.supports, &MaxMarginOptions::default(), &mut |_| {}).unwrap();
    let out = path(&laws, Some(&limit), &down_to(to, points), &mut |_| {}).unwrap();
    (out, limit.value)
}

/// The rates of the theory, on one shape: relative lambda below which each holds.
fn rates(vocabulary: usize, contexts: usize, slope_at: f64) {
    let (out, n) = solved(vocabulary, contexts, 1e-7, 15);
    let mut seen = 0;
    for point in &out.points[1..] {
        assert!(point.converged && point.relative_gap <= 1e-6, "{point:?}");
        assert!(point.dual_bound <= n * (1.0 + 1e-6), "{point:?}");
        if point.relative_lambda <= 1.001e-3 {
            seen += 1;
            assert!((point.excess_rate / n - 1.0).abs() < 0.05, "{point:?} {n}");
            assert!(
                (point.norm_slope.unwrap() / n - 1.0).abs() < 0.05,
                "{point:?} {n}"
            );
        }
        if point.relative_lambda <= slope_at {
            assert!(point.slope_cosine.unwrap() > 0.99, "{point:?}");
        }
    }
    assert!(seen >= 8);
    // The lower bound rises to N, the finite part comes in as lambda, the direction as 1/log(1/lambda).
    let last = out.points.last().unwrap();
    assert!(last.dual_bound > 0.98 * n);
    let late: Vec<_> = out
        .points
        .iter()
        .filter(|p| p.relative_lambda < 1e-3)
        .collect();
    let finite: Vec<f64> = late.iter().map(|p| p.finite_distance / p.lambda).collect();
    let sine = |p: &lawvere_geometry::PathPoint| (1.0 - p.cosine.unwrap().powi(2)).sqrt();
    let angle: Vec<f64> = late
        .iter()
        .map(|p| -p.relative_lambda.ln() * sine(p))
        .collect();
    for bounded in [&finite, &angle] {
        // Both still grow, but by less and less.
        let half = bounded.len() / 2;
        let (first, middle, last) = (bounded[0], bounded[half], bounded[bounded.len() - 1]);
        assert!(
            last - middle < 0.8 * (middle - first).max(0.0) + 0.02 * first,
            "{bounded:?}"
        );
        assert!(last < 1.6 * first, "{bounded:?}");
    }
    assert!(
        out.points
            .windows(2)
            .skip(1)
            .all(|p| p[1].cosine > p[0].cosine)
    );
}

#[test]
fn the_rates_of_the_theory_hold_on_20_tokens_and_16_contexts() {
    rates(20, 16, 1.1e-3);
}

#[test]
fn the_rates_of_the_theory_hold_on_60_tokens_and_100_contexts() {
    rates(60, 100, 1.1e-4);
}

#[test]
fn the_rates_of_the_theory_hold_on_104_tokens_and_403_contexts() {
    rates(104, 403, 1.1e-5);
}

#[test]
fn a_path_goes_down_to_the_smallest_penalties() {
    let laws = laws(20, 16, 2);
    let options = down_to(1e-20, 21);
    let out = path(&laws, None, &options, &mut |_| {}).unwrap();
    assert!(out.points.iter().all(|p| p.converged), "{:?}", out.points);
    let last = out.points.last().unwrap();
    close(last.excess_rate, last.dual_bound, 1e-3);
}

#[test]
fn merged_contexts_change_nothing() {
    let few = laws(10, 6, 9);
    let mut rows = SparseRows::new(20);
    for k in 0..12 {
        // Every token becomes two that share its probability, every context two of half its weight.
        let (tokens, law) = few.laws.row(k % 6);
        let doubled = tokens
            .iter()
            .zip(law)
            .flat_map(|(&t, &p)| [(2 * t, p / 2.0), (2 * t + 1, p / 2.0)]);
        rows.push_row(doubled).unwrap();
    }
    let weights = (0..12).map(|k| few.weights[k % 6] / 2.0).collect();
    let many = ContextLaws::new(rows, weights).unwrap();
    let a = path(&few, None, &down_to(1e-3, 7), &mut |_| {}).unwrap();
    let b = path(&many, None, &down_to(1e-3, 7), &mut |_| {}).unwrap();
    assert_eq!(
        (a.reduced_tokens, a.reduced_contexts),
        (b.reduced_tokens, b.reduced_contexts)
    );
    // |x|_* of a doubled matrix is 2 |x|_*, so the same logits solve it at half the penalty.
    close(b.lambda_max, a.lambda_max / 2.0, 1e-10);
    for (a, b) in a.points.iter().zip(&b.points).skip(1) {
        close(b.nuclear_norm, 2.0 * a.nuclear_norm, 1e-4);
    }
}

#[test]
fn laws_that_are_none_and_penalties_that_do_not_fall_are_refused() {
    let dense = |p: &[f64], w: &[f64]| {
        let m = w.len();
        let matrix = RowMatrix::from_vec(p.to_vec(), p.len() / m, m).unwrap();
        ContextLaws::from_dense(&matrix, w.to_vec())
    };
    assert!(matches!(
        dense(&[0.5, 0.6], &[1.0]),
        Err(GeometryError::Law { context: 0, .. })
    ));
    assert!(matches!(
        dense(&[1.5, -0.5], &[1.0]),
        Err(GeometryError::Probability { token: 0, .. })
    ));
    assert!(matches!(
        dense(&[f64::NAN, 1.0], &[1.0]),
        Err(GeometryError::Probability { .. })
    ));
    assert!(matches!(
        dense(&[0.0, 0.0], &[1.0]),
        Err(GeometryError::EmptySupport { .. })
    ));
    assert!(matches!(
        dense(&[1.0, 0.5, 0.0, 0.5], &[0.5, 0.6]),
        Err(GeometryError::Weights(_))
    ));
    assert!(matches!(
        dense(&[1.0, 0.5, 0.0, 0.5], &[1.0, 0.0]),
        Err(GeometryError::Weight { context: 1, .. })
    ));
    let rows = dense(&[1.0, 0.5, 0.0, 0.5], &[0.5, 0.5]).unwrap();
    assert!(ContextLaws::new(rows.laws.clone(), vec![1.0]).is_err());
    for bad in [vec![], vec![0.1, 0.1], vec![0.1, -1.0], vec![f64::INFINITY]] {
        let options = PathOptions {
            penalties: Penalties::These(bad),
            ..PathOptions::default()
        };
        assert!(matches!(
            path(&rows, None, &options, &mut |_| {}),
            Err(GeometryError::Argument { .. })
        ));
    }
    // A certificate of other supports.
    let other = laws(4, 3, 1);
    let limit = max_margin(&other.supports, &MaxMarginOptions::default(), &mut |_| {}).unwrap();
    assert!(path(&rows, Some(&limit), &PathOptions::default(), &mut |_| {}).is_err());
    assert!(verify(&rows.supports, &limit.logits(), None).is_err());
}
