use lawvere_core::linalg::matmul;
use lawvere_core::{RowMatrix, sum};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;
use serde::Serialize;

use crate::{Concepts, GeometryError};

/// How [`k_means`] searches.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeansOptions {
    /// Starts, of which the best is kept.
    pub starts: usize,
    /// Rounds of one start, at most.
    pub max_iterations: usize,
    /// What the starts are drawn from.
    pub seed: u64,
}

impl Default for KMeansOptions {
    fn default() -> Self {
        Self {
            starts: 10,
            max_iterations: 300,
            seed: 0,
        }
    }
}

/// Points in clusters, each nearest to the mean of its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KMeans {
    /// The cluster of every point; clusters come by their size, the largest first.
    pub labels: Vec<usize>,
    /// The number of points of every cluster.
    pub sizes: Vec<usize>,
    /// The sum of the points' squared distances from their cluster's mean.
    pub inertia: f64,
    /// Rounds that the best start took.
    pub iterations: usize,
    /// Whether it ended because no point changed its cluster.
    pub converged: bool,
    /// The means, clusters x dimensions.
    #[serde(skip)]
    pub means: RowMatrix<f64>,
}

/// Points that one thread takes at once.
const ROWS: usize = 1024;

/// The rows of `points` (n x p) in `clusters` clusters with a small sum of squared distances from their
/// means: Lloyd's rounds from starts drawn by k-means++, the best of several.
///
/// The result depends on the seed and not on the number of threads. It is a local minimum: how good,
/// several starts tell. With fewer distinct points than clusters some clusters stay empty. Cost of a
/// round: O(n p clusters).
///
/// *Source:* Lloyd, *Least squares quantization in PCM* (1982); Arthur, Vassilvitskii, *k-means++: the
/// advantages of careful seeding* (2007), with the best of several candidates at each draw.
///
/// # Errors
/// No clusters or more than points, no starts or rounds, NaN or infinite coordinates.
pub fn k_means(
    points: &RowMatrix<f64>,
    clusters: usize,
    options: &KMeansOptions,
) -> Result<KMeans, GeometryError> {
    let argument = |what, problem| Err(GeometryError::Argument { what, problem });
    if clusters == 0 || clusters > points.nrows() {
        let n = points.nrows();
        return argument(
            "clusters",
            format!("1 to the number of points, {n}, not {clusters}"),
        );
    }
    if options.starts == 0 || options.max_iterations == 0 {
        return argument("options", "at least one start and one round".into());
    }
    if let Some(i) = points
        .rows()
        .position(|row| row.iter().any(|x| !x.is_finite()))
    {
        return argument("points", format!("row {i} is not finite"));
    }
    let mut rng = StdRng::seed_from_u64(options.seed);
    let mut best: Option<KMeans> = None;
    for _ in 0..options.starts {
        let start = plus_plus(points, clusters, &mut rng);
        let found = lloyd(points, start, options.max_iterations);
        if best
            .as_ref()
            .is_none_or(|best| found.inertia < best.inertia)
        {
            best = Some(found);
        }
    }
    match best {
        Some(best) => Ok(largest_first(best)),
        None => argument("options", "at least one start".into()),
    }
}

/// Means drawn one after the other among the points, with probabilities in proportion to the squared
/// distance from those drawn; of some candidates the one that leaves the smallest sum of these.
fn plus_plus(points: &RowMatrix<f64>, clusters: usize, rng: &mut StdRng) -> RowMatrix<f64> {
    let n = points.nrows();
    let candidates = 2 + (clusters as f64).ln() as usize;
    let distances = |to: usize, before: &[f64]| -> Vec<f64> {
        let to = points.row(to);
        let row = |i: usize| before[i].min(squared_distance(points.row(i), to));
        (0..n).into_par_iter().with_min_len(ROWS).map(row).collect()
    };
    let mut chosen = vec![rng.random_range(0..n)];
    let mut nearest = distances(chosen[0], &vec![f64::INFINITY; n]);
    while chosen.len() < clusters {
        let total = sum(nearest.iter().copied());
        let draws = (0..candidates).map(|_| draw(&nearest, total * rng.random::<f64>()));
        let tried = draws.collect::<Vec<_>>().into_iter().map(|i| {
            let after = distances(i, &nearest);
            (sum(after.iter().copied()), i, after)
        });
        let Some((_, i, after)) = tried.min_by(|a, b| a.0.total_cmp(&b.0)) else {
            break;
        };
        chosen.push(i);
        nearest = after;
    }
    RowMatrix::from_fn(chosen.len(), points.ncols(), |c, j| {
        points.get(chosen[c], j)
    })
}

/// The first entry at which the running sum passes `at`; the last that is not 0 if none does.
fn draw(weights: &[f64], at: f64) -> usize {
    let mut before = 0.0;
    for (i, weight) in weights.iter().enumerate() {
        before += weight;
        if before > at {
            return i;
        }
    }
    weights.iter().rposition(|&w| w > 0.0).unwrap_or(0)
}

fn lloyd(points: &RowMatrix<f64>, mut means: RowMatrix<f64>, max_iterations: usize) -> KMeans {
    let (n, p, k) = (points.nrows(), points.ncols(), means.nrows());
    let mut labels = vec![usize::MAX; n];
    let mut iterations = 0;
    let (mut distances, mut sizes, mut converged);
    loop {
        let (new, at) = nearest(points, &means);
        distances = at;
        converged = new == labels;
        labels = new;
        sizes = vec![0usize; k];
        labels.iter().for_each(|&c| sizes[c] += 1);
        if converged || iterations == max_iterations {
            break;
        }
        iterations += 1;
        // An empty cluster takes the point that is worst served.
        for c in 0..k {
            let worst = (0..n).filter(|&i| distances[i] > 0.0 && sizes[labels[i]] > 1);
            if sizes[c] == 0
                && let Some(i) =
                    worst.max_by(|&i, &j| distances[i].total_cmp(&distances[j]).then(j.cmp(&i)))
            {
                sizes[labels[i]] -= 1;
                (labels[i], sizes[c], distances[i]) = (c, 1, 0.0);
            }
        }
        let mut sums = RowMatrix::<f64>::zeros(k, p);
        for (row, &c) in points.rows().zip(&labels) {
            sums.row_mut(c)
                .iter_mut()
                .zip(row)
                .for_each(|(s, x)| *s += x);
        }
        for c in (0..k).filter(|&c| sizes[c] > 0) {
            let row = means.row_mut(c).iter_mut().zip(sums.row(c));
            row.for_each(|(mean, sum)| *mean = sum / sizes[c] as f64);
        }
    }
    KMeans {
        labels,
        sizes,
        inertia: sum(distances),
        iterations,
        converged,
        means,
    }
}

/// The nearest mean of every point, and its squared distance.
fn nearest(points: &RowMatrix<f64>, means: &RowMatrix<f64>) -> (Vec<usize>, Vec<f64>) {
    let k = means.nrows();
    let halves: Vec<f64> = means.rows().map(|m| squared_norm(m) / 2.0).collect();
    let mut products = RowMatrix::zeros(points.nrows(), k);
    matmul(products.view_mut(), points.view(), means.view().transpose());
    let one = |i: usize| {
        let mut best = (0, f64::INFINITY);
        for (c, (half, product)) in halves.iter().zip(products.row(i)).enumerate() {
            if half - product < best.1 {
                best = (c, half - product);
            }
        }
        (best.0, squared_distance(points.row(i), means.row(best.0)))
    };
    (0..points.nrows())
        .into_par_iter()
        .with_min_len(ROWS)
        .map(one)
        .unzip()
}

fn largest_first(found: KMeans) -> KMeans {
    let k = found.sizes.len();
    let mut first = vec![usize::MAX; k];
    for (i, &c) in found.labels.iter().enumerate().rev() {
        first[c] = i;
    }
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by_key(|&c| (std::cmp::Reverse(found.sizes[c]), first[c]));
    let mut place = vec![0; k];
    order
        .iter()
        .enumerate()
        .for_each(|(to, &from)| place[from] = to);
    KMeans {
        labels: found.labels.iter().map(|&c| place[c]).collect(),
        sizes: order.iter().map(|&c| found.sizes[c]).collect(),
        means: RowMatrix::from_fn(k, found.means.ncols(), |c, j| found.means.get(order[c], j)),
        ..found
    }
}

fn squared_norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum()
}

fn squared_distance(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum()
}

impl Concepts {
    /// The words (rows of `tokens`) in like directions of all concepts: k-means of their scaled vectors
    /// brought to length 1; those of length 0 stay 0. More clusters than words count as as many. Groups come
    /// by their size, members with the lengths of their scaled vectors, the longest (the most typical)
    /// first.
    ///
    /// *Source:* Ng, Jordan, Weiss, *On spectral clustering* (2001).
    ///
    /// # Errors
    /// As [`k_means`].
    pub fn word_clusters(
        &self,
        clusters: usize,
        options: &KMeansOptions,
    ) -> Result<Vec<Vec<(usize, f64)>>, GeometryError> {
        by_direction(&self.word_coordinates(), clusters, options)
    }

    /// The contexts likewise.
    ///
    /// # Errors
    /// As [`k_means`].
    pub fn context_clusters(
        &self,
        clusters: usize,
        options: &KMeansOptions,
    ) -> Result<Vec<Vec<(usize, f64)>>, GeometryError> {
        by_direction(&self.context_coordinates(), clusters, options)
    }
}

fn by_direction(
    coordinates: &RowMatrix<f64>,
    clusters: usize,
    options: &KMeansOptions,
) -> Result<Vec<Vec<(usize, f64)>>, GeometryError> {
    let norms: Vec<f64> = coordinates
        .rows()
        .map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt())
        .collect();
    let unit = RowMatrix::from_fn(coordinates.nrows(), coordinates.ncols(), |i, k| {
        if norms[i] > 0.0 {
            coordinates.get(i, k) / norms[i]
        } else {
            0.0
        }
    });
    let clusters = clusters.min(unit.nrows());
    let found = k_means(&unit, clusters, options)?;
    let mut groups = vec![Vec::new(); clusters];
    for (i, &cluster) in found.labels.iter().enumerate() {
        groups[cluster].push((i, norms[i]));
    }
    groups.retain(|group| !group.is_empty());
    for group in &mut groups {
        group.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blobs(n: usize, p: usize, groups: usize, seed: u64) -> (RowMatrix<f64>, Vec<usize>) {
        let mut rng = StdRng::seed_from_u64(seed);
        let group: Vec<usize> = (0..n)
            .map(|i| {
                if i < groups {
                    i
                } else {
                    rng.random_range(0..groups)
                }
            })
            .collect();
        let points = RowMatrix::from_fn(n, p, |i, j| {
            let at = ((group[i] * 7 + j * 3) % 11) as f64 * 10.0 + group[i] as f64 * 200.0;
            at + rng.random::<f64>()
        });
        (points, group)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn separated_groups_are_found_whatever_the_seed(
            n in 20usize..300, p in 1usize..5, groups in 1usize..8, seed in 0u64..1000,
        ) {
            let (points, group) = blobs(n, p, groups, seed);
            let options = KMeansOptions { seed, ..Default::default() };
            let found = k_means(&points, groups, &options).unwrap();
            prop_assert!(found.converged);
            for i in 0..n {
                for j in 0..i {
                    prop_assert_eq!(found.labels[i] == found.labels[j], group[i] == group[j]);
                }
            }
            prop_assert!(found.sizes.is_sorted_by(|a, b| a >= b));
            prop_assert!(found.inertia <= (n * p) as f64 / 4.0);
        }

        #[test]
        fn every_point_is_nearest_to_the_mean_of_its_own_cluster(
            n in 5usize..80, clusters in 1usize..6, seed in 0u64..1000,
        ) {
            let mut rng = StdRng::seed_from_u64(seed);
            let points = RowMatrix::from_fn(n, 2, |_, _| rng.random::<f64>());
            let options = KMeansOptions { seed, ..Default::default() };
            let found = k_means(&points, clusters, &options).unwrap();
            let mut inertia = 0.0;
            for i in 0..n {
                let at = |c: usize| squared_distance(points.row(i), found.means.row(c));
                let own = at(found.labels[i]);
                prop_assert!((0..clusters).all(|c| own <= at(c) + 1e-12));
                inertia += own;
            }
            prop_assert!((inertia - found.inertia).abs() < 1e-9);
            for c in 0..clusters {
                for j in 0..2 {
                    let members = (0..n).filter(|&i| found.labels[i] == c);
                    let mean = members.map(|i| points.get(i, j)).sum::<f64>() / found.sizes[c] as f64;
                    prop_assert!((mean - found.means.get(c, j)).abs() < 1e-9);
                }
            }
        }
    }

    #[test]
    fn clusters_do_not_depend_on_the_number_of_threads() {
        let mut rng = StdRng::seed_from_u64(3);
        let points = RowMatrix::from_fn(5000, 6, |_, _| rng.random::<f64>());
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let options = KMeansOptions {
                starts: 2,
                ..Default::default()
            };
            pool.install(|| k_means(&points, 9, &options).unwrap())
        };
        assert_eq!(on(1), on(2));
        assert_eq!(on(1), on(5));
    }

    #[test]
    fn repeated_points_and_as_many_clusters_as_points_have_inertia_0() {
        let repeated = RowMatrix::from_fn(12, 2, |i, _| (i % 3) as f64);
        let found = k_means(&repeated, 5, &KMeansOptions::default()).unwrap();
        assert_eq!((found.inertia, &found.sizes[3..]), (0.0, &[0, 0][..]));
        let points = RowMatrix::from_fn(7, 1, |i, _| (i * i) as f64);
        assert_eq!(
            k_means(&points, 7, &KMeansOptions::default())
                .unwrap()
                .inertia,
            0.0
        );
    }

    #[test]
    fn impossible_questions_are_refused() {
        let points = RowMatrix::from_fn(4, 1, |i, _| if i == 2 { f64::NAN } else { 0.0 });
        let options = KMeansOptions::default();
        assert!(k_means(&points, 2, &options).is_err());
        let points = RowMatrix::from_fn(4, 1, |i, _| i as f64);
        assert!(k_means(&points, 0, &options).is_err());
        assert!(k_means(&points, 5, &options).is_err());
        assert!(
            k_means(
                &points,
                2,
                &KMeansOptions {
                    starts: 0,
                    ..options
                }
            )
            .is_err()
        );
    }
}
