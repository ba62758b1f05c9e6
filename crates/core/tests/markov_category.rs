//! The laws of the Markov category of finite kernels, and what divergences must do in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lawvere_core::RowMatrix;
use lawvere_core::stoch::{Distribution, Divergence, FDivergence, FiniteKernel};
use proptest::collection::vec;
use proptest::prelude::*;

const EVERY: [Divergence; 12] = [
    Divergence::KullbackLeibler,
    Divergence::ReverseKullbackLeibler,
    Divergence::JensenShannon,
    Divergence::TotalVariation,
    Divergence::Hellinger,
    Divergence::ChiSquared,
    Divergence::Renyi(0.0),
    Divergence::Renyi(0.5),
    Divergence::Renyi(1.0),
    Divergence::Renyi(2.0),
    Divergence::Renyi(5.0),
    Divergence::Renyi(f64::INFINITY),
];

/// A convex function with a kink, infinite nowhere: a mixture of a hockey stick and a triangle.
fn mixed() -> FDivergence<impl Fn(f64) -> f64> {
    FDivergence {
        f: |t: f64| (t - 2.0).max(0.0) + (t - 1.0).powi(2) / (t + 1.0),
        at_zero: 1.0,
        slope_at_infinity: 2.0,
    }
}

fn kernel(inputs: usize, outcomes: usize) -> impl Strategy<Value = FiniteKernel> {
    vec(law(outcomes), inputs).prop_map(move |rows| {
        let data = rows.iter().flat_map(|r| r.probabilities().to_vec());
        FiniteKernel::new(RowMatrix::from_vec(data.collect(), inputs, outcomes).unwrap()).unwrap()
    })
}

/// A law, often with zeros.
fn law(outcomes: usize) -> impl Strategy<Value = Distribution> {
    let weights = vec(0u8..6, outcomes).prop_filter("some mass", |w| w.iter().any(|&x| x > 0));
    weights.prop_map(|w| {
        let total: f64 = w.iter().map(|&x| f64::from(x)).sum();
        Distribution::new(w.iter().map(|&x| f64::from(x) / total).collect()).unwrap()
    })
}

fn map(inputs: usize, outcomes: usize) -> impl Strategy<Value = FiniteKernel> {
    vec(0..outcomes, inputs).prop_map(move |m| FiniteKernel::deterministic(&m, outcomes).unwrap())
}

fn id(n: usize) -> FiniteKernel {
    FiniteKernel::identity(n)
}

/// The composite of a path.
fn path<const N: usize>(kernels: [&FiniteKernel; N]) -> FiniteKernel {
    let mut kernels = kernels.into_iter();
    let first = kernels.next().unwrap().clone();
    kernels.fold(first, |k, next| k.then(next).unwrap())
}

fn gap(a: &FiniteKernel, b: &FiniteKernel) -> f64 {
    assert_eq!((a.inputs(), a.outcomes()), (b.inputs(), b.outcomes()));
    let pairs = a.matrix().data().iter().zip(b.matrix().data());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn equal(a: &FiniteKernel, b: &FiniteKernel) -> bool {
    gap(a, b) < 1e-13
}

fn at_most(low: f64, high: f64) -> bool {
    low <= high + 1e-11 * high.max(1.0)
}

proptest! {
    #[test]
    fn composition_is_associative_and_has_units(f in kernel(3, 4), g in kernel(4, 2), h in kernel(2, 5)) {
        let left = f.then(&g).unwrap().then(&h).unwrap();
        let right = f.then(&g.then(&h).unwrap()).unwrap();
        prop_assert!(equal(&left, &right));
        prop_assert!(equal(&path([&id(3), &f]), &f));
        prop_assert!(equal(&path([&f, &id(4)]), &f));
    }

    #[test]
    fn the_tensor_is_functorial_and_associative(
        f in kernel(2, 3), g in kernel(3, 2), k in kernel(3, 2), l in kernel(2, 4)
    ) {
        let together = path([&f.tensor(&k), &g.tensor(&l)]);
        prop_assert!(equal(&together, &path([&f, &g]).tensor(&path([&k, &l]))));
        prop_assert!(equal(&f.tensor(&k).tensor(&g), &f.tensor(&k.tensor(&g))));
        prop_assert!(equal(&f.tensor(&id(1)), &f) && equal(&id(1).tensor(&f), &f));
    }

    #[test]
    fn swapping_is_natural(f in kernel(2, 3), g in kernel(4, 2)) {
        let after = path([&f.tensor(&g), &FiniteKernel::swap(3, 2)]);
        let before = path([&FiniteKernel::swap(2, 4), &g.tensor(&f)]);
        prop_assert!(equal(&after, &before));
    }

    #[test]
    fn discarding_is_natural_for_every_kernel(f in kernel(4, 3)) {
        prop_assert!(equal(&path([&f, &FiniteKernel::discard(3)]), &FiniteKernel::discard(4)));
    }

    #[test]
    fn copying_is_natural_for_deterministic_kernels_only(f in kernel(2, 3), d in map(3, 4)) {
        let defect = |f: &FiniteKernel| {
            let after = path([f, &FiniteKernel::copy(f.outcomes())]);
            gap(&after, &path([&FiniteKernel::copy(f.inputs()), &f.tensor(f)]))
        };
        prop_assert_eq!(defect(&d), 0.0);
        prop_assert!(d.is_deterministic(0.0));
        // The weights are fifths at the finest, so that a random row is far from copying.
        prop_assert_eq!(defect(&f) > 1e-3, !f.is_deterministic(0.0));
    }

    #[test]
    fn a_conditional_and_a_marginal_reproduce_the_joint_law(f in kernel(4, 3), p in law(4)) {
        for joint in [f.joint(&p).unwrap(), f.joint(&p).unwrap().swapped()] {
            let (x, _) = joint.marginals();
            let again = joint.conditional().joint(x).unwrap();
            for (a, b) in joint.matrix().data().iter().zip(again.matrix().data()) {
                prop_assert!((a - b).abs() < 1e-14);
            }
        }
        let joint = f.joint(&p).unwrap();
        let (x, y) = joint.marginals();
        let pushed = f.push(&p).unwrap();
        for (a, b) in [(x, &p), (y, &pushed)] {
            prop_assert!(Divergence::TotalVariation.between(a, b).unwrap() < 1e-14);
        }
        prop_assert!(joint.conditional().almost_surely_equal(&f, &p, 1e-13).unwrap());
    }

    #[test]
    fn inverting_twice_gives_back_the_kernel_almost_surely(f in kernel(4, 3), p in law(4)) {
        let inverse = f.bayesian_inverse(&p).unwrap();
        let pushed = f.push(&p).unwrap();
        let back = inverse.push(&pushed).unwrap();
        prop_assert!(Divergence::TotalVariation.between(&back, &p).unwrap() < 1e-13);
        let twice = inverse.bayesian_inverse(&pushed).unwrap();
        prop_assert!(twice.almost_surely_equal(&f, &p, 1e-12).unwrap());
    }

    #[test]
    fn no_kernel_increases_a_divergence(k in kernel(4, 3), p in law(4), q in law(4)) {
        let (kp, kq) = (k.push(&p).unwrap(), k.push(&q).unwrap());
        for divergence in EVERY {
            let before = divergence.between(&p, &q).unwrap();
            let after = divergence.between(&kp, &kq).unwrap();
            prop_assert!(at_most(after, before), "{divergence}: {after} > {before}");
        }
        prop_assert!(at_most(mixed().between(&kp, &kq).unwrap(), mixed().between(&p, &q).unwrap()));
    }

    #[test]
    fn categorical_entropy_is_the_failure_to_copy(k in kernel(2, 4), p in law(2)) {
        let copied = path([&k, &FiniteKernel::copy(4)]);
        let independent = path([&FiniteKernel::copy(2), &k.tensor(&k)]);
        for divergence in EVERY {
            let found = k.categorical_entropy(divergence, &p).unwrap();
            let mut mean = 0.0;
            for x in 0..2 {
                let wanted = divergence.between_slices(copied.row(x), independent.row(x)).unwrap();
                let closed = found.per_row[x];
                prop_assert!(
                    closed == wanted || (closed - wanted).abs() < 2e-13 * wanted.max(1.0)
                        // A distance is a root, which magnifies the rounding of its square.
                        || (closed.powi(2) - wanted.powi(2)).abs() < 1e-14,
                    "{divergence}: {closed} {wanted}"
                );
                if p.probabilities()[x] > 0.0 {
                    mean += p.probabilities()[x] * closed;
                }
            }
            prop_assert!(mean == found.mean || (mean - found.mean).abs() < 1e-13);
        }
        let wanted = mixed().between_slices(copied.row(0), independent.row(0)).unwrap();
        prop_assert!((mixed().categorical_entropy(k.row(0)).unwrap() - wanted).abs() < 1e-13);
    }

    #[test]
    fn a_function_of_the_outcome_has_no_more_categorical_entropy(
        k in kernel(3, 4), f in map(4, 3), p in law(3)
    ) {
        let after = k.then(&f).unwrap();
        for divergence in EVERY {
            let fine = k.categorical_entropy(divergence, &p).unwrap();
            let coarse = after.categorical_entropy(divergence, &p).unwrap();
            for (coarse, fine) in coarse.per_row.iter().zip(&fine.per_row) {
                prop_assert!(at_most(*coarse, *fine), "{divergence}: {coarse} > {fine}");
            }
            prop_assert!(at_most(coarse.mean, fine.mean));
        }
    }

    #[test]
    fn no_kernel_on_either_side_increases_mutual_information(
        k in kernel(3, 4), after in kernel(4, 2), before in kernel(3, 2), p in law(3)
    ) {
        let joint = k.joint(&p).unwrap();
        let outcome_processed = k.then(&after).unwrap().joint(&p).unwrap();
        let inverse = k.bayesian_inverse(&p).unwrap();
        let input_processed = inverse.then(&before).unwrap().joint(&k.push(&p).unwrap()).unwrap();
        for divergence in EVERY {
            let whole = joint.mutual_information(divergence).unwrap();
            for processed in [&outcome_processed, &input_processed] {
                let left = processed.mutual_information(divergence).unwrap();
                prop_assert!(at_most(left, whole), "{divergence}: {left} > {whole}");
            }
        }
    }

    #[test]
    fn what_a_law_shares_with_its_copy_is_its_categorical_entropy(p in law(5)) {
        let joint = id(5).joint(&p).unwrap();
        for divergence in EVERY {
            let shared = joint.mutual_information(divergence).unwrap();
            let own = divergence.categorical_entropy(p.probabilities()).unwrap();
            prop_assert!(shared == own || (shared.powi(2) - own.powi(2)).abs() < 1e-12, "{divergence}");
        }
    }
}

#[test]
fn copying_and_discarding_form_a_commutative_comonoid() {
    for n in 1..5 {
        let (copy, discard) = (FiniteKernel::copy(n), FiniteKernel::discard(n));
        let left = path([&copy, &copy.tensor(&id(n))]);
        assert_eq!(left, path([&copy, &id(n).tensor(&copy)]));
        assert_eq!(path([&copy, &discard.tensor(&id(n))]), id(n));
        assert_eq!(path([&copy, &id(n).tensor(&discard)]), id(n));
        assert_eq!(path([&copy, &FiniteKernel::swap(n, n)]), copy);
    }
}

#[test]
fn copying_and_discarding_a_pair_is_doing_so_to_each_part() {
    for (n, m) in [(1, 3), (2, 3), (3, 2)] {
        let middle = id(n).tensor(&FiniteKernel::swap(n, m)).tensor(&id(m));
        let apart = FiniteKernel::copy(n).tensor(&FiniteKernel::copy(m));
        assert_eq!(path([&apart, &middle]), FiniteKernel::copy(n * m));
        let discards = FiniteKernel::discard(n).tensor(&FiniteKernel::discard(m));
        assert_eq!(discards, FiniteKernel::discard(n * m));
        assert_eq!(id(n).tensor(&id(m)), id(n * m));
    }
}

#[test]
fn swapping_twice_is_the_identity_and_swapping_past_a_pair_goes_one_by_one() {
    let swap = FiniteKernel::swap;
    assert_eq!(path([&swap(2, 3), &swap(3, 2)]), id(6));
    let one_by_one = path([&swap(2, 3).tensor(&id(4)), &id(3).tensor(&swap(2, 4))]);
    assert_eq!(one_by_one, swap(2, 12));
}

#[test]
fn the_empty_set_has_its_structure_too() {
    let nothing = id(0);
    assert_eq!(FiniteKernel::copy(0), nothing);
    assert_eq!(nothing.tensor(&id(3)), nothing);
    assert_eq!(FiniteKernel::swap(0, 2), nothing);
    assert_eq!(path([&nothing, &FiniteKernel::discard(0)]).outcomes(), 1);
}

#[test]
fn a_fair_coin_does_not_copy() {
    let coin = FiniteKernel::state(&Distribution::new(vec![0.5, 0.5]).unwrap());
    let copied = path([&coin, &FiniteKernel::copy(2)]);
    let tossed_twice = path([&FiniteKernel::copy(1), &coin.tensor(&coin)]);
    assert_eq!(copied.row(0), [0.5, 0.0, 0.0, 0.5]);
    assert_eq!(tossed_twice.row(0), [0.25; 4]);
    assert!(!coin.is_deterministic(0.0));
}

/// `H_D(f ∘ k) <= H_D(k)` needs f deterministic: a coin tossed after a certain event has entropy.
#[test]
fn a_noisy_function_of_the_outcome_can_have_more_categorical_entropy() {
    let certain = FiniteKernel::deterministic(&[0], 2).unwrap();
    let noise = RowMatrix::from_array_rows(vec![[0.5, 0.5], [0.5, 0.5]]);
    let tossed = certain.then(&FiniteKernel::new(noise).unwrap()).unwrap();
    let state = Distribution::new(vec![1.0]).unwrap();
    for divergence in EVERY {
        let of = |k: &FiniteKernel| k.categorical_entropy(divergence, &state).unwrap().mean;
        assert_eq!(of(&certain), 0.0, "{divergence}");
        assert!(of(&tossed) > 0.2, "{divergence}");
    }
}

#[test]
fn an_outcome_that_never_occurs_says_nothing_about_the_input() {
    let kernel = FiniteKernel::deterministic(&[0, 0, 0], 2).unwrap();
    let state = Distribution::new(vec![0.5, 0.5, 0.0]).unwrap();
    let inverse = kernel.bayesian_inverse(&state).unwrap();
    assert_eq!(inverse.row(0), [0.5, 0.5, 0.0]);
    assert_eq!(inverse.row(1), [1.0 / 3.0; 3]);
    let conditional = kernel.joint(&state).unwrap().conditional();
    assert_eq!(conditional.row(2), [0.5, 0.5]);
    assert!(
        conditional
            .almost_surely_equal(&kernel, &state, 0.0)
            .unwrap()
    );
}
