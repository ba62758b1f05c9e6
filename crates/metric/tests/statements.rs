//! The statements of the theory on random spaces: language models with and without potentials, directed metrics that are
//! no language models, and probabilities of zero.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lawvere_core::tropical::{hom, plus};
use lawvere_core::{RowMatrix, TropicalMatrix};
use lawvere_metric::{
    Edge, MetricError, Polyhedron, PrefixForest, Space, dual, funk_distance, hilbert_distance,
    yoneda_isometry,
};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const INF: f64 = f64::INFINITY;

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("t{i}")).collect()
}

fn edge(from: usize, to: usize, probability: f64) -> Edge {
    Edge {
        from,
        to,
        probability,
    }
}

/// Random spaces of up to `most` texts, of every kind.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A forest of prefixes, some steps impossible.
    Forest,
    /// A poset whose probabilities are differences of a potential.
    Potential,
    /// At most one chain between two texts: a language model, as a rule without a potential.
    Crown,
    /// Shortest ways of arbitrary lengths.
    Metric,
}

const KINDS: [Kind; 4] = [Kind::Forest, Kind::Potential, Kind::Crown, Kind::Metric];

fn space(kind: Kind, n: usize, rng: &mut StdRng) -> Space {
    let level = |rng: &mut StdRng| -f64::from(rng.random_range(1..64u8)) / 16.0;
    let edges: Vec<Edge> = match kind {
        Kind::Forest => (1..n)
            .filter_map(|j| {
                let from = rng.random_range(0..=j);
                let p = rng.random_range(0..8u8);
                (from < j).then(|| edge(from, j, f64::from(p) / 7.0))
            })
            .collect(),
        Kind::Potential => {
            let mut f: Vec<f64> = (0..n).map(|_| level(rng)).collect();
            f.sort_by(|a, b| b.total_cmp(a));
            let mut edges = Vec::new();
            for j in 1..n {
                for _ in 0..rng.random_range(0..3u8) {
                    let i = rng.random_range(0..j);
                    if edges.iter().all(|e: &Edge| (e.from, e.to) != (i, j)) {
                        edges.push(edge(i, j, (f[j] - f[i]).exp()));
                    }
                }
            }
            edges
        }
        Kind::Crown => {
            let half = n.div_ceil(2);
            let mut edges = Vec::new();
            for i in 0..half {
                for j in half..n {
                    if rng.random_range(0..2u8) == 0 {
                        edges.push(edge(i, j, f64::from(rng.random_range(0..8u8)) / 7.0));
                    }
                }
            }
            edges
        }
        Kind::Metric => {
            let d = RowMatrix::from_fn(n, n, |i, j| match i.cmp(&j) {
                std::cmp::Ordering::Equal => 0.0,
                std::cmp::Ordering::Less if rng.random_range(0..3u8) > 0 => -level(rng),
                _ => INF,
            });
            return Space::closure(names(n), &TropicalMatrix::new(d).unwrap()).unwrap();
        }
    };
    let space = Space::from_edges(names(n), &edges).unwrap();
    assert!(
        space.breach().is_none(),
        "{kind:?}: {}",
        space.breach().unwrap()
    );
    space
}

fn extended(rng: &mut StdRng, n: usize) -> Vec<f64> {
    let entry = |_| match rng.random_range(0..8u8) {
        0 => INF,
        1 => -INF,
        _ => rng.random_range(-8.0..8.0),
    };
    (0..n).map(entry).collect()
}

fn finite(rng: &mut StdRng, n: usize) -> Vec<f64> {
    (0..n).map(|_| rng.random_range(-8.0..8.0)).collect()
}

fn near(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= 1e-9
}

fn all_near(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(*a, *b))
}

fn below(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| *a <= *b + 1e-9)
}

fn matrices_near(a: &TropicalMatrix, b: &TropicalMatrix) -> bool {
    all_near(a.entries().data(), b.entries().data())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn one_the_yoneda_embeddings_are_isometries(seed in any::<u64>(), n in 1usize..30) {
        let mut rng = StdRng::seed_from_u64(seed);
        for kind in KINDS {
            let space = space(kind, n, &mut rng);
            for i in 0..n {
                for j in 0..n {
                    let d = space.d(i, j);
                    prop_assert!(near(funk_distance(&space.yoneda(i), &space.yoneda(j)), d));
                    prop_assert!(near(funk_distance(&space.co_yoneda(j), &space.co_yoneda(i)), d));
                }
            }
        }
    }

    #[test]
    fn two_projections_are_the_nearest_points_from_either_side(seed in any::<u64>(), n in 1usize..30) {
        let mut rng = StdRng::seed_from_u64(seed);
        for kind in KINDS {
            let space = space(kind, n, &mut rng);
            let x = extended(&mut rng, n);
            let found = space.project(&x).unwrap();
            prop_assert!(below(&found.below, &x) && below(&x, &found.above));
            for point in [&found.below, &found.above] {
                prop_assert_eq!(space.missed(Polyhedron::P, point, 1e-9).unwrap(), None);
                // Every point is spanned by the images, with itself as coordinates.
                let spanned: Vec<f64> = (0..n)
                    .map(|i| (0..n).map(|k| plus(point[k], space.d(i, k))).fold(INF, f64::min))
                    .collect();
                prop_assert!(all_near(&spanned, point));
                let generators = space.generators(point).unwrap();
                let by_few = |k: &[usize]| -> Vec<f64> {
                    (0..n)
                        .map(|i| k.iter().map(|&k| plus(point[k], space.d(i, k))).fold(INF, f64::min))
                        .collect()
                };
                // Of texts at distance 0 either serves; with one way only, the set is unique.
                prop_assert!(all_near(&by_few(&generators), point) || degenerate(&space));
                for leave in 0..generators.len() {
                    let mut fewer = generators.clone();
                    fewer.remove(leave);
                    prop_assert!(!all_near(&by_few(&fewer), point));
                }
            }
            // In between lie no other points of P(L), and finite x are as far from both.
            let other = space.project(&extended(&mut rng, n)).unwrap().below;
            let meet: Vec<f64> = other.iter().zip(&x).map(|(a, b)| a.min(*b)).collect();
            if space.missed(Polyhedron::P, &meet, 1e-9).unwrap().is_none() {
                prop_assert!(below(&meet, &found.below));
            }
            let x = finite(&mut rng, n);
            let found = space.project(&x).unwrap();
            let mut distance = -INF;
            for i in 0..n {
                for j in 0..n {
                    distance = f64::max(distance, x[i] - x[j] - space.d(i, j));
                }
            }
            prop_assert!(near(found.distance, distance));
            prop_assert!(near(funk_distance(&x, &found.above), distance));
            prop_assert!(near(hilbert_distance(&x, &found.below), distance));
            prop_assert!(near(hilbert_distance(&x, &found.above), distance));
            for _ in 0..5 {
                let other = space.project(&finite(&mut rng, n)).unwrap().below;
                prop_assert!(hilbert_distance(&x, &other) >= distance - 1e-9);
            }
        }
    }

    #[test]
    fn three_images_solve_the_linear_equations(seed in any::<u64>(), n in 1usize..40) {
        let mut rng = StdRng::seed_from_u64(seed);
        for kind in KINDS {
            let space = space(kind, n, &mut rng);
            prop_assert!(matrices_near(&space.yoneda_from_covers().unwrap(), space.distances()));
            prop_assert!(matrices_near(&space.co_yoneda_from_covers().unwrap(), space.distances()));
            // Covering pairs are few: without any one of them an image is missed, unless another way is as short.
            for (i, j) in space.covers() {
                let between = (0..n).filter(|&k| k != i && k != j);
                let other = between.map(|k| space.d(i, k) + space.d(k, j)).fold(INF, f64::min);
                prop_assert!(other > space.d(i, j));
            }
        }
    }

    #[test]
    fn four_rays_are_extremal_and_principal_ones_are_images(seed in any::<u64>(), n in 1usize..9) {
        let mut rng = StdRng::seed_from_u64(seed);
        for kind in KINDS {
            let space = space(kind, n, &mut rng);
            let rays = space.extremal_rays().unwrap();
            prop_assert_eq!(rays.len() as u64, space.count_rays().unwrap());
            for ray in &rays {
                prop_assert!(space.is_extremal(&ray.log, 1e-9).unwrap());
            }
            for principal in space.principal_rays() {
                prop_assert!(space.is_extremal(&principal.log, 1e-9).unwrap());
                prop_assert!(rays.iter().any(|r| all_near(&r.log, &principal.log)));
            }
            // A sum of two different rays is none.
            if let [a, .., b] = &rays[..] {
                let sum: Vec<f64> = a.log.iter().zip(&b.log).map(|(a, b)| (a.exp() + b.exp()).ln()).collect();
                prop_assert!(!space.is_extremal(&sum, 1e-9).unwrap());
            }
        }
    }

    #[test]
    fn four_points_of_the_cone_are_sums_of_few_rays(seed in any::<u64>(), n in 1usize..60) {
        let mut rng = StdRng::seed_from_u64(seed);
        for kind in [Kind::Forest, Kind::Potential] {
            let space = space(kind, n, &mut rng);
            let x = space.project(&extended(&mut rng, n)).unwrap().below;
            let z: Vec<f64> = x.iter().map(|x| if *x == -INF { 1e3 } else { (-x).exp() }).collect();
            let z: Vec<f64> = space
                .project(&z.iter().map(|z| -z.ln()).collect::<Vec<_>>())
                .unwrap()
                .below
                .iter()
                .map(|x| (-x).exp())
                .collect();
            let found = space.decompose(&z).unwrap();
            prop_assert!(found.parts.len() <= n);
            let again = found.point();
            for (a, b) in again.iter().zip(&z) {
                prop_assert!((a - b).abs() <= 1e-9 * (1.0 + b));
            }
            let mut sets: Vec<Vec<usize>> = Vec::new();
            for part in 0..found.parts.len() {
                prop_assert!(found.parts[part].weight > 0.0);
                let set = found.members(part);
                let log: Vec<f64> = (0..n)
                    .map(|i| match set.binary_search(&i) {
                        Ok(_) => found.potential[i],
                        Err(_) => -INF,
                    })
                    .collect();
                prop_assert!(space.is_extremal(&log, 1e-9).unwrap());
                for other in &sets {
                    let common = other.iter().filter(|i| set.binary_search(i).is_ok()).count();
                    prop_assert!(common == 0 || common == other.len());
                }
                sets.push(set);
            }
            sets.sort();
            sets.dedup();
            prop_assert_eq!(sets.len(), found.parts.len());
        }
    }

    /// A single cost comes from below its text alone: one ray, whatever rounding does on the way.
    #[test]
    fn four_a_projected_point_is_the_ray_of_its_text(seed in any::<u64>(), n in 2usize..60) {
        let mut rng = StdRng::seed_from_u64(seed);
        for kind in [Kind::Forest, Kind::Potential] {
            let space = space(kind, n, &mut rng);
            let text = rng.random_range(0..n);
            let mut cost = vec![f64::INFINITY; n];
            cost[text] = rng.random_range(0.0..30.0);
            let below = space.project(&cost).unwrap().below;
            let point: Vec<f64> = below.iter().map(|x| (-x).exp()).collect();
            let parts = space.decompose(&point).unwrap();
            prop_assert_eq!(parts.parts.len(), 1, "{:?}: {:?}", kind, parts.parts);
            let under: Vec<usize> = (0..n).filter(|&i| space.d(i, text) < f64::INFINITY).collect();
            prop_assert_eq!(parts.members(0), under);
        }
    }

    #[test]
    fn five_extensions_lie_between_the_two_and_restrict_to_what_was_given(
        seed in any::<u64>(), n in 1usize..30,
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        for kind in KINDS {
            let space = space(kind, n, &mut rng);
            let texts: Vec<usize> = (0..n).filter(|_| rng.random_range(0..2u8) == 0).collect();
            if texts.is_empty() {
                continue;
            }
            let part = space.restricted(&texts).unwrap();
            let (x, y) = (
                part.project(&extended(&mut rng, texts.len())).unwrap().below,
                part.project(&extended(&mut rng, texts.len())).unwrap().below,
            );
            let restrict = |v: &[f64]| -> Vec<f64> { texts.iter().map(|&i| v[i]).collect() };
            let great = |x: &[f64]| space.greatest_extension(&texts, x).unwrap();
            let least = |x: &[f64]| space.least_extension(&texts, x).unwrap();
            for extended in [great(&x), least(&x)] {
                prop_assert_eq!(space.missed(Polyhedron::P, &extended, 1e-9).unwrap(), None);
                prop_assert!(all_near(&restrict(&extended), &x));
            }
            let wanted = funk_distance(&x, &y);
            prop_assert!(near(funk_distance(&great(&x), &great(&y)), wanted));
            prop_assert!(near(funk_distance(&least(&x), &least(&y)), wanted));
            let any = space.project(&extended(&mut rng, n)).unwrap().below;
            let given = restrict(&any);
            prop_assert!(below(&least(&given), &any) && below(&any, &great(&given)));
        }
    }

    #[test]
    fn six_the_soft_approximation_is_near_the_tropical_one(
        seed in any::<u64>(), n in 1usize..30, temperature in 0.01f64..4.0,
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        for kind in KINDS {
            let space = space(kind, n, &mut rng);
            let text = rng.random_range(0..n);
            let lower: Vec<usize> = (0..n).filter(|&i| space.d(i, text) < INF).collect();
            let parts: Vec<usize> = lower.iter().copied().filter(|_| rng.random_range(0..2u8) == 0).collect();
            if parts.is_empty() {
                continue;
            }
            let cold = space.boltzmann(text, &parts, 0.0).unwrap();
            let soft = space.boltzmann(text, &parts, temperature).unwrap();
            let image: Vec<f64> = parts.iter().map(|&w| space.d(w, text)).collect();
            prop_assert!(all_near(&cold.vector, &space.greatest_extension(&parts, &image).unwrap()));
            prop_assert!(below(&space.yoneda(text), &cold.vector));
            prop_assert_eq!(space.missed(Polyhedron::P, &soft.vector, 1e-9).unwrap(), None);
            for k in 0..n {
                let terms = parts.iter().filter(|&&w| space.d(k, w) < INF).count() as f64;
                prop_assert_eq!(cold.vector[k] == INF, soft.vector[k] == INF);
                if cold.vector[k] < INF {
                    let gap = cold.vector[k] - soft.vector[k];
                    prop_assert!(gap >= -1e-9 && gap <= temperature * terms.ln() + 1e-9);
                }
                // In exp(-x/T) it is a linear combination.
                let sum: f64 = parts
                    .iter()
                    .map(|&w| ((-space.d(w, text) - space.d(k, w)) / temperature).exp())
                    .sum();
                prop_assert!((sum - (-soft.vector[k] / temperature).exp()).abs() <= 1e-9);
            }
            let total: f64 = soft.weights.iter().sum();
            prop_assert!((total - 1.0).abs() < 1e-12);
            prop_assert_eq!(soft.finite + soft.only_in_image, lower.len());
        }
    }

    #[test]
    fn seven_turning_signs_is_an_isometry_onto_the_other_side(seed in any::<u64>(), n in 1usize..30) {
        let mut rng = StdRng::seed_from_u64(seed);
        for kind in KINDS {
            let space = space(kind, n, &mut rng);
            let points: Vec<Vec<f64>> = (0..2)
                .map(|_| space.project(&extended(&mut rng, n)).unwrap().below)
                .collect();
            let (x, y) = (&points[0], &points[1]);
            prop_assert_eq!(space.missed(Polyhedron::CoP, &dual(x), 1e-9).unwrap(), None);
            prop_assert!(near(funk_distance(x, y), funk_distance(&dual(y), &dual(x))));
            prop_assert_eq!(&dual(&dual(x)), &x.iter().map(|x| x + 0.0).collect::<Vec<_>>());
        }
    }

    #[test]
    fn eight_completions_are_the_greatest_below_and_spanned_by_images(
        seed in any::<u64>(), n in 1usize..20,
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        for kind in KINDS {
            let space = space(kind, n, &mut rng);
            let (x, y) = (extended(&mut rng, n), extended(&mut rng, n));
            // Adjoint: y >= O(x) if and only if x >= Spec(y).
            let (o, spec) = (space.conjugate(&x).unwrap(), space.spectrum(&y).unwrap());
            let above = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| a >= b);
            prop_assert_eq!(above(&y, &o), above(&x, &spec));
            let found = space.complete(&x).unwrap();
            prop_assert!(below(&found.completion, &x));
            prop_assert!(all_near(&space.complete(&found.completion).unwrap().completion, &found.completion));
            prop_assert_eq!(space.missed(Polyhedron::P, &found.completion, 1e-9).unwrap(), None);
            // A (max, +) combination of images, -inf absorbing, below x: none is above the completion.
            let spanned: Vec<f64> = (0..n)
                .map(|i| {
                    let terms = (0..n).map(|k| -plus(found.conjugate[k], -space.d(i, k)));
                    terms.fold(-INF, f64::max)
                })
                .collect();
            prop_assert!(all_near(&spanned, &found.completion));
            for i in 0..n {
                // Images of texts are complete.
                let image = space.yoneda(i);
                prop_assert!(all_near(&space.complete(&image).unwrap().completion, &image));
            }
            if let Ok(potential) = space.potential("the test") {
                let mut x = x;
                x.iter_mut().filter(|x| **x == -INF).for_each(|x| *x = 1.0);
                let (slow, fast) = (
                    space.complete(&x).unwrap(),
                    space.complete_by_cuts(&x, &potential).unwrap(),
                );
                prop_assert!(all_near(&slow.completion, &fast.completion));
                prop_assert!(all_near(&slow.conjugate, &fast.conjugate));
                let cut: Vec<usize> = (0..n).filter(|&i| fast.completion[i].is_finite()).collect();
                if let Ok(cuts) = space.cuts(10_000) {
                    prop_assert!(cut.is_empty() || cuts.contains(&cut));
                }
            }
            let x = finite(&mut rng, n);
            let top = (0..n).find(|&j| (0..n).all(|i| space.d(i, j) < INF));
            let completion = space.complete(&x).unwrap().completion;
            match top {
                None => prop_assert!(completion.iter().all(|x| *x == -INF)),
                Some(top) => {
                    let by = completion[top];
                    let image: Vec<f64> = space.yoneda(top).iter().map(|d| d + by).collect();
                    prop_assert!(all_near(&completion, &image));
                }
            }
        }
    }

    #[test]
    fn nine_magnitudes_agree_by_inverse_by_moebius_and_along_forests(
        seed in any::<u64>(), n in 1usize..25, t in 0.2f64..3.0,
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        for kind in KINDS {
            let space = space(kind, n, &mut rng);
            let weights = space.weighting(t).unwrap();
            for i in 0..n {
                let total: f64 = (0..n).map(|j| (-t * space.d(i, j)).exp() * weights[j]).sum();
                prop_assert!((total - 1.0).abs() < 1e-9);
            }
            if space.breach().is_none() {
                let moebius = space.moebius();
                let mut total = 0.0;
                for i in 0..n {
                    for j in 0..n {
                        let product: f64 = (0..n)
                            .map(|k| {
                                (-t * space.d(i, k)).exp() * moebius.get(k, j) * (-t * space.d(k, j)).exp()
                            })
                            .sum();
                        prop_assert!((product - f64::from(u8::from(i == j))).abs() < 1e-9);
                        total += moebius.get(i, j) * (-t * space.d(i, j)).exp();
                    }
                }
                prop_assert!((total - space.magnitude(t).unwrap()).abs() < 1e-8);
            }
        }
    }

    #[test]
    fn forests_of_any_size_answer_as_matrices_do(seed in any::<u64>(), n in 1usize..18) {
        let mut rng = StdRng::seed_from_u64(seed);
        let space = space(Kind::Forest, n, &mut rng);
        let parents: Vec<Option<usize>> = (0..n).map(|j| space.covered_by(j).first().copied()).collect();
        let steps = parents.iter().enumerate().map(|(j, p)| p.map_or(0.0, |p| -space.d(p, j)));
        let forest = PrefixForest::new(parents.clone(), steps.collect()).unwrap();
        prop_assert!(matrices_near(&forest.distances(), space.distances()));
        let x = extended(&mut rng, n);
        let found = space.project(&x).unwrap();
        prop_assert!(all_near(&forest.project_below(&x).unwrap(), &found.below));
        prop_assert!(all_near(&forest.project_above(&x).unwrap(), &found.above));
        prop_assert_eq!(forest.count_rays().to_string(), space.count_rays().unwrap().to_string());
        prop_assert!((forest.magnitude(0.7).unwrap() - space.magnitude(0.7).unwrap()).abs() < 1e-9);
        let z: Vec<f64> = space
            .project(&finite(&mut rng, n))
            .unwrap()
            .below
            .iter()
            .map(|x| (-x).exp())
            .collect();
        let (a, b) = (forest.decompose(&z).unwrap(), space.decompose(&z).unwrap());
        prop_assert_eq!(a.parts.len(), b.parts.len());
        for (x, y) in a.point().iter().zip(&z) {
            prop_assert!((x - y).abs() <= 1e-9 * (1.0 + y));
        }
    }
}

/// Whether two texts are at distance 0: then either may stand for the other in a span.
fn degenerate(space: &Space) -> bool {
    let n = space.len();
    (0..n).any(|i| (0..n).any(|j| i != j && space.d(i, j) == 0.0))
}

#[test]
fn magnitude_is_the_entropies_of_the_steps_where_all_children_are_there() {
    // a -> b, c with 1/4, 3/4; b -> d, e with 1/2, 1/2.
    let edges = [
        edge(0, 1, 0.25),
        edge(0, 2, 0.75),
        edge(1, 3, 0.5),
        edge(1, 4, 0.5),
    ];
    let space = Space::from_edges(names(5), &edges).unwrap();
    for t in [0.5, 2.0, 3.0] {
        let entropy = |p: &[f64]| (1.0 - p.iter().map(|p| p.powf(t)).sum::<f64>()) / (t - 1.0);
        let wanted = (t - 1.0) * (entropy(&[0.25, 0.75]) + entropy(&[0.5, 0.5])) + 3.0;
        assert!((space.magnitude(t).unwrap() - wanted).abs() < 1e-12);
    }
    assert!((space.magnitude(1.0).unwrap() - 3.0).abs() < 1e-12);
    assert!(matches!(
        space.magnitude(0.0),
        Err(MetricError::Argument { .. })
    ));
}

/// Willerton, *Tight spans, Isbell completions and semi-tropical modules* (2013): the directed tight span of two points at
/// distances r and s is a segment; of a space with one point, the line.
#[test]
fn tight_spans_of_one_text_and_of_a_chain_are_those_worked_out_by_hand() {
    let one = Space::from_edges(names(1), &[]).unwrap();
    for c in [-2.0, 0.0, 3.5] {
        assert_eq!(one.complete(&[c]).unwrap().completion, [c]);
    }
    // a < b with Pr(b|a) = e^-r. A pair (x_a, x_b) is complete where it is a combination max(s + Y(a), t + Y(b)):
    // Y(a) = (0, inf) and Y(b) = (r, 0), so that finite ones are multiples of Y(b), as are those below them.
    let r: f64 = 1.5;
    let chain = Space::from_edges(names(2), &[edge(0, 1, (-r).exp())]).unwrap();
    for (x, wanted) in [
        ([0.0, 0.0], [0.0, -r]),
        ([r + 2.0, 2.0], [r + 2.0, 2.0]),
        ([9.0, 1.0], [r + 1.0, 1.0]),
        ([3.0, INF], [3.0, INF]),
        ([INF, 3.0], [r + 3.0, 3.0]),
        ([-INF, 3.0], [-INF, -INF]),
        ([INF, INF], [INF, INF]),
    ] {
        let found = chain.complete(&x).unwrap().completion;
        assert!(all_near(&found, &wanted), "{x:?}: {found:?}");
    }
}

#[test]
fn points_of_the_cone_are_decomposed_at_any_scale_and_others_refused_at_any() {
    let edges = [edge(0, 1, 0.5), edge(0, 2, 0.25), edge(1, 3, 1e-300)];
    let space = Space::from_edges(names(4), &edges).unwrap();
    for z in [
        [1.0, 1.0, 1.0, 1.0],
        [1e300, 1e-300, 1e-300, 0.0],
        [1e-300, 1e-300, 1e-310, 1e-10],
        [1e-20, 1e-20, 0.0, 1e200],
    ] {
        let found = space.decompose(&z).unwrap();
        for (a, b) in found.point().iter().zip(&z) {
            assert!((a - b).abs() <= 1e-9 * b, "{z:?}: {:?}", found.point());
        }
        for part in &found.parts {
            assert!(part.weight == part.log_weight.exp());
        }
    }
    for z in [
        [1e-20, 1e-19, 0.0, 0.0],
        [0.0, 1e-12, 0.0, 0.0],
        [1e20, 3e20, 0.0, 0.0],
    ] {
        assert!(
            matches!(space.decompose(&z), Err(MetricError::Outside { .. })),
            "{z:?}"
        );
    }
    // Large vectors are in P(L) up to their own rounding.
    let far: Vec<f64> = space.yoneda(2).iter().map(|x| x + 1e8).collect();
    assert_eq!(space.missed(Polyhedron::P, &far, 1e-9).unwrap(), None);
    assert_eq!(space.project(&[INF; 4]).unwrap().distance, 0.0);
}

#[test]
fn a_crown_has_a_ray_more_than_connected_lower_sets() {
    let edges = [
        edge(0, 2, 0.5),
        edge(0, 3, 0.5),
        edge(1, 2, 0.5),
        edge(1, 3, 0.25),
    ];
    let space = Space::from_edges(names(4), &edges).unwrap();
    assert_eq!(space.extremal_rays().unwrap().len(), 6);
    let error = space.decompose(&[1.0; 4]).unwrap_err().to_string();
    assert!(
        error.contains("needs a potential") && error.contains("t1"),
        "{error}"
    );
    let two = space.extremal_rays().unwrap();
    assert_eq!(two.iter().filter(|r| r.principal.is_some()).count(), 4);
}

#[test]
fn a_forest_of_a_million_texts_is_projected_decomposed_and_counted() {
    let n = 1_000_000;
    let mut rng = StdRng::seed_from_u64(0);
    let parents: Vec<Option<usize>> = (0..n)
        .map(|i| (i > 0).then(|| rng.random_range(0..i)))
        .collect();
    let logs = (0..n)
        .map(|_| f64::from(rng.random_range(1..100u8)).recip().ln())
        .collect();
    let forest = PrefixForest::new(parents, logs).unwrap();
    let x: Vec<f64> = (0..n).map(|_| rng.random_range(0.0..50.0)).collect();
    let low = forest.project_below(&x).unwrap();
    assert_eq!(forest.project_below(&low).unwrap(), low);
    let high = forest.project_above(&x).unwrap();
    assert_eq!(forest.project_above(&high).unwrap(), high);
    assert!(
        low.iter()
            .zip(&x)
            .zip(&high)
            .all(|((l, x), h)| l <= x && x <= h)
    );
    let z: Vec<f64> = low.iter().map(|x| (-x).exp()).collect();
    let found = forest.decompose(&z).unwrap();
    assert!(found.parts.len() <= n);
    for (a, b) in found.point().iter().zip(&z) {
        assert!((a - b).abs() <= 1e-9 * (1.0 + b));
    }
}

#[test]
fn what_is_no_space_says_why() {
    let error = |edges: &[Edge]| Space::from_edges(names(3), edges).unwrap_err().to_string();
    for (edges, wanted) in [
        (
            vec![edge(0, 1, 1.5)],
            "Pr(t1 | t0) is 1.5; a probability is from 0 to 1",
        ),
        (vec![edge(0, 1, f64::NAN)], "is NaN"),
        (
            vec![edge(0, 1, 0.5), edge(0, 1, 0.5)],
            "the pair t0, t1 is given twice",
        ),
        (vec![edge(0, 7, 0.5)], "it names text 7, but there are 3"),
        (vec![edge(1, 1, 0.5)], "from t1 to itself"),
        (
            vec![edge(0, 1, 0.5), edge(1, 2, 0.5), edge(2, 0, 0.5)],
            "in a circle",
        ),
    ] {
        let error = error(&edges);
        assert!(error.contains(wanted), "{error}");
    }
    let twice = Space::from_edges(vec!["a".into(), "a".into()], &[]).unwrap_err();
    assert!(twice.to_string().contains("text a is there twice"));
    assert_eq!(
        Space::from_edges(Vec::new(), &[]),
        Err(MetricError::NoTexts)
    );
    let large = Space::from_edges(names(Space::LIMIT + 1), &[]).unwrap_err();
    assert!(large.to_string().contains("order \"prefix\""));

    let matrix = |rows: &[&[f64]]| TropicalMatrix::from_rows(rows).unwrap();
    let broken = matrix(&[&[0.0, 1.0, 5.0], &[INF, 0.0, 1.0], &[INF, INF, 0.0]]);
    let error = Space::from_distances(names(3), broken.clone())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("d(t0, t2) = 5 is more than 2, the way by t1"),
        "{error}"
    );
    let mended = Space::closure(names(3), &broken).unwrap();
    assert_eq!((mended.d(0, 2), mended.breach()), (2.0, None));
    // The closure mends triangles, and makes no model of what is none.
    let short = matrix(&[&[0.0, 1.0, 1.5], &[INF, 0.0, 1.0], &[INF, INF, 0.0]]);
    let kept = Space::closure(names(3), &short).unwrap();
    assert_eq!(kept.distances(), &short);
    let breach = kept.breach().unwrap().to_string();
    assert!(
        breach.contains("Pr(t2 | t0)") && breach.contains("by way of t1"),
        "{breach}"
    );
    for (rows, wanted) in [
        ([[0.0, 1.0], [1.0, 0.0]], "in a circle: t0 -> t1"),
        (
            [[0.0, -1.0], [INF, 0.0]],
            "the distance from t0 to t1 is -1",
        ),
        (
            [[0.5, 1.0], [INF, 0.0]],
            "distance of text 0 to itself is 0.5",
        ),
    ] {
        let rows = matrix(&[&rows[0], &rows[1]]);
        let error = Space::from_distances(names(2), rows)
            .unwrap_err()
            .to_string();
        assert!(error.contains(wanted), "{error}");
    }
    // Two ways round a square that disagree.
    let square = [
        edge(0, 1, 0.5),
        edge(0, 2, 0.5),
        edge(1, 3, 0.5),
        edge(2, 3, 0.25),
    ];
    let space = Space::from_edges(names(4), &square).unwrap();
    let breach = space.breach().unwrap();
    assert!(near(breach.direct, 0.25) && near(breach.steps, 0.125));
    assert!(near(space.d(0, 3), 4f64.ln()));

    let chain = Space::from_edges(names(2), &[edge(0, 1, 0.5)]).unwrap();
    assert!(matches!(
        chain.project(&[0.0]),
        Err(MetricError::VectorLength { .. })
    ));
    assert!(matches!(
        chain.project(&[0.0, f64::NAN]),
        Err(MetricError::VectorEntry { .. })
    ));
    assert!(matches!(
        chain.decompose(&[0.1, 1.0]),
        Err(MetricError::Outside { .. })
    ));
    assert!(matches!(
        chain.decompose(&[1.0, -1.0]),
        Err(MetricError::VectorEntry { .. })
    ));
    assert!(matches!(
        chain.boltzmann(0, &[1], 1.0),
        Err(MetricError::NotBelow { .. })
    ));
    assert!(matches!(
        chain.boltzmann(1, &[0], -1.0),
        Err(MetricError::Argument { .. })
    ));
    assert!(matches!(
        chain.is_extremal(&[-INF; 2], 1e-9),
        Err(MetricError::VectorEntry { .. })
    ));
    assert!(matches!(
        chain.restricted(&[0, 0]),
        Err(MetricError::Repeated(_))
    ));
    assert!(matches!(
        chain.restricted(&[5]),
        Err(MetricError::NoText { .. })
    ));
    let many = Space::from_edges(names(21), &[]).unwrap();
    let error = many.extremal_rays().unwrap_err().to_string();
    assert!(
        error.contains("up to 20 texts") && error.contains("forest"),
        "{error}"
    );
    assert_eq!(hom(INF, INF), -INF);
}

/// All statements but the enumeration of rays, once, where matrices of distances are large.
#[test]
fn the_statements_hold_at_300_texts() {
    let n = 300;
    let mut rng = StdRng::seed_from_u64(7);
    for kind in KINDS {
        let space = space(kind, n, &mut rng);
        let isometry = yoneda_isometry(space.distances()).unwrap();
        assert!(isometry.holds(1e-9), "{kind:?}: {isometry:?}");
        let x = extended(&mut rng, n);
        let found = space.project(&x).unwrap();
        assert!(below(&found.below, &x) && below(&x, &found.above));
        let again = space.project(&found.below).unwrap();
        assert!(all_near(&again.below, &found.below) && all_near(&again.above, &found.below));
        assert!(all_near(
            &space.project(&found.above).unwrap().below,
            &found.above
        ));
        assert!(matrices_near(
            &space.yoneda_from_covers().unwrap(),
            space.distances()
        ));
        assert!(matrices_near(
            &space.co_yoneda_from_covers().unwrap(),
            space.distances()
        ));
        for ray in space.principal_rays() {
            assert!(space.is_extremal(&ray.log, 1e-9).unwrap());
        }
        if matches!(kind, Kind::Forest | Kind::Potential) {
            let z: Vec<f64> = space
                .project(&finite(&mut rng, n))
                .unwrap()
                .below
                .iter()
                .map(|x| (-x).exp())
                .collect();
            let parts = space.decompose(&z).unwrap();
            assert!(parts.parts.len() <= n);
            let point = parts.point();
            assert!(
                point
                    .iter()
                    .zip(&z)
                    .all(|(a, b)| (a - b).abs() <= 1e-9 * (1.0 + b))
            );
        }
        let texts: Vec<usize> = (0..n).step_by(3).collect();
        let given: Vec<f64> = texts.iter().map(|&i| found.below[i]).collect();
        let (least, greatest) = (
            space.least_extension(&texts, &given).unwrap(),
            space.greatest_extension(&texts, &given).unwrap(),
        );
        assert!(below(&least, &found.below) && below(&found.below, &greatest));
        assert!(
            texts
                .iter()
                .zip(&given)
                .all(|(&i, g)| near(least[i], *g) && near(greatest[i], *g))
        );
        let text = n - 1;
        let parts: Vec<usize> = (0..n).filter(|&i| space.extends(i, text)).collect();
        if !parts.is_empty() {
            let cold = space.boltzmann(text, &parts, 0.0).unwrap();
            let soft = space.boltzmann(text, &parts, 0.5).unwrap();
            assert!(below(&space.yoneda(text), &cold.vector) && below(&soft.vector, &cold.vector));
            assert_eq!(
                space.missed(Polyhedron::P, &soft.vector, 1e-9).unwrap(),
                None
            );
        }
        assert_eq!(
            space
                .missed(Polyhedron::CoP, &dual(&found.below), 1e-9)
                .unwrap(),
            None
        );
        let completed = space.complete(&x).unwrap().completion;
        assert!(below(&completed, &x));
        assert!(all_near(
            &space.complete(&completed).unwrap().completion,
            &completed
        ));
        let weights = space.weighting(1.3).unwrap();
        for i in 0..n {
            let total: f64 = (0..n)
                .map(|j| (-1.3 * space.d(i, j)).exp() * weights[j])
                .sum();
            assert!((total - 1.0).abs() < 1e-9);
        }
    }
}
