//! Mean and deviation of many numbers, independent of how the work is shared.

use lawvere_core::vector::{dot, total};
use serde::Serialize;

/// The mean and the spread of a quantity over classes, or over pairs of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation (n - 1 in the denominator; 0 of a single number).
    pub deviation: f64,
    /// The coefficient of variation, deviation over |mean|; `None` where the mean is 0.
    pub variation: Option<f64>,
}

/// What parts of many numbers tell of all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moments {
    pub count: u64,
    mean: f64,
    squares: f64,
}

impl Moments {
    pub fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        let mean = total(values) / values.len() as f64;
        let apart: Vec<f64> = values.iter().map(|x| x - mean).collect();
        Self {
            count: values.len() as u64,
            mean,
            squares: dot(&apart, &apart),
        }
    }

    /// The moments of both parts together.
    ///
    /// *Source:* Chan, Golub, LeVeque, *Updating formulae and a pairwise algorithm for computing sample
    /// variances* (1979).
    pub fn with(self, other: Self) -> Self {
        let count = self.count + other.count;
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other } else { self };
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let apart = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + apart * b / (a + b),
            squares: self.squares + other.squares + apart * apart * a * b / (a + b),
        }
    }

    /// The mean; 0 of no numbers.
    pub fn mean(self) -> f64 {
        self.mean
    }

    /// The root of the mean square of `x - centre`; `None` of no numbers.
    pub fn root_mean_square_about(self, centre: f64) -> Option<f64> {
        let variance = self.squares / self.count as f64;
        (self.count > 0).then(|| (variance + (self.mean - centre).powi(2)).sqrt())
    }

    /// `None` of no numbers.
    pub fn spread(self) -> Option<Spread> {
        let free = self.count.checked_sub(1)?;
        let deviation = (self.squares / free.max(1) as f64).sqrt();
        Some(Spread {
            mean: self.mean,
            deviation,
            variation: (self.mean != 0.0).then(|| deviation / self.mean.abs()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_together_have_the_moments_of_the_whole() {
        let values: Vec<f64> = (0..17).map(|i| 1e6 + f64::from(i * i)).collect();
        let whole = Moments::of(&values).spread().unwrap();
        let parts = values.chunks(5).map(Moments::of);
        let merged = parts.fold(Moments::default(), Moments::with).spread();
        let merged = merged.unwrap();
        assert!((whole.mean - merged.mean).abs() < 1e-9);
        assert!((whole.deviation - merged.deviation).abs() < 1e-9);
        assert!(Moments::of(&[]).spread().is_none());
        assert_eq!(Moments::of(&[3.0]).spread().unwrap().deviation, 0.0);
    }
}
