//! Intervals that an estimate is likely within.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Draws of a bootstrap.
const DRAWS: usize = 2000;
/// The normal distribution's quantile at 0.975.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % interval of a share, `successes` of `trials`; from 0 to 1 where there were no trials.
///
/// *Source:* Wilson, *Probable inference, the law of succession, and statistical inference* (1927).
///
/// ```
/// let [low, high] = lawvere_core::wilson_interval(8, 10);
/// assert!((low - 0.490_16).abs() < 1e-5 && (high - 0.943_31).abs() < 1e-5);
/// ```
pub fn wilson_interval(successes: usize, trials: usize) -> [f64; 2] {
    if trials == 0 {
        return [0.0, 1.0];
    }
    let n = trials as f64;
    let p = successes as f64 / n;
    let middle = p + Z * Z / (2.0 * n);
    let width = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [
        ((middle - width) / scale).max(0.0),
        ((middle + width) / scale).min(1.0),
    ]
}

/// The 95 % interval of a statistic of `n` items by the bootstrap's percentiles: `statistic` is asked about the items that
/// were drawn, by their numbers, 2,000 times. A draw of NaN is left out; where there is no other, or no item, both ends
/// are NaN.
///
/// *Source:* Efron, *Bootstrap methods: another look at the jackknife* (1979).
pub fn bootstrap_interval(
    n: usize,
    seed: u64,
    mut statistic: impl FnMut(&[usize]) -> f64,
) -> [f64; 2] {
    if n == 0 {
        return [f64::NAN; 2];
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let mut chosen = vec![0; n];
    let mut drawn: Vec<f64> = (0..DRAWS)
        .map(|_| {
            chosen.iter_mut().for_each(|i| *i = rng.random_range(0..n));
            statistic(&chosen)
        })
        .collect();
    drawn.retain(|x| !x.is_nan());
    drawn.sort_by(f64::total_cmp);
    let cut = drawn.len() / 40;
    let at = |i: Option<usize>| i.and_then(|i| drawn.get(i)).copied().unwrap_or(f64::NAN);
    [at(Some(cut)), at(drawn.len().checked_sub(1 + cut))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_between_0_and_1() {
        assert_eq!(wilson_interval(0, 0), [0.0, 1.0]);
        assert_eq!(wilson_interval(0, 5)[0], 0.0);
        assert_eq!(wilson_interval(5, 5)[1], 1.0);
    }

    #[test]
    fn the_bootstrap_of_a_mean_is_near_its_normal_interval() {
        let mut rng = StdRng::seed_from_u64(1);
        let items: Vec<f64> = (0..400).map(|_| rng.random_range(0.0..1.0)).collect();
        let mean = items.iter().sum::<f64>() / 400.0;
        let of = |chosen: &[usize]| chosen.iter().map(|&i| items[i]).sum::<f64>() / 400.0;
        let [low, high] = bootstrap_interval(400, 0, of);
        // Uniform draws: a standard deviation of 1/sqrt(12).
        let width = Z / 12f64.sqrt() / 20.0;
        assert!((mean - width - low).abs() < 0.005 && (mean + width - high).abs() < 0.005);
        assert_eq!(bootstrap_interval(400, 0, of), [low, high]);
        assert!(bootstrap_interval(0, 0, of).iter().all(|x| x.is_nan()));
        let odd = |chosen: &[usize]| {
            if chosen[0].is_multiple_of(2) {
                -f64::NAN
            } else {
                1.0
            }
        };
        assert_eq!(bootstrap_interval(9, 0, odd), [1.0, 1.0]);
    }
}
