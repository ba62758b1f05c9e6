//! The two sides of a space.

/// `x -> -x`: an isometry of P(L) onto P^(L) with the distance reversed, `D(x, y) = D(-y, -x)`, and its own inverse.
/// Infinities change sign. It does not send Yoneda images to co-Yoneda images. O(n).
///
/// *Source:* Gaubert, Vlassopoulos (arXiv 2405.12264), on duality.
pub fn dual(x: &[f64]) -> Vec<f64> {
    // `+ 0.0` turns negative zeros into zeros.
    x.iter().map(|x| -x + 0.0).collect()
}
