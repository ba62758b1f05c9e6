//! Distances between vectors.

use lawvere_core::tropical::{hom, plus};

/// The Funk distance `D(x, y) = max_i hom(x_i, y_i)`: how much must be added to x, at least, to be above y. It may be
/// negative, and is `-inf` from the vector of `+inf`. Nats; O(n). Entries beyond the shorter vector are not looked at.
///
/// On positive vectors `exp(-x)` it is Funk's distance of projective geometry, `log max_i exp(-x_i) / exp(-y_i)`.
///
/// ```
/// use lawvere_metric::funk_distance;
///
/// assert_eq!(funk_distance(&[0.0, 1.0], &[2.0, 1.5]), 2.0);
/// assert_eq!(funk_distance(&[2.0, 1.5], &[0.0, 1.0]), -0.5);
/// ```
///
/// *Source:* Gaubert, Vlassopoulos (arXiv 2405.12264), section 3.
pub fn funk_distance(x: &[f64], y: &[f64]) -> f64 {
    let homs = x.iter().zip(y).map(|(&x, &y)| hom(x, y));
    homs.fold(f64::NEG_INFINITY, f64::max)
}

/// Hilbert's distance `D(x, y) + D(y, x)`: symmetric, and 0 between vectors that differ by a constant. `+inf` where one
/// is infinite and the other is not. Nats; O(n).
pub fn hilbert_distance(x: &[f64], y: &[f64]) -> f64 {
    plus(funk_distance(x, y), funk_distance(y, x))
}
