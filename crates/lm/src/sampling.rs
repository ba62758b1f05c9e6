//! How the next token is drawn from a model's law.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use crate::error::LmError;

/// How tokens are drawn: temperature, then the `top_k` likeliest, then the least set of likeliest tokens
/// with `top_p` of what is left.
///
/// *Source:* Holtzman et al., *The curious case of neural text degeneration* (2020) for `top_p`; Fan et
/// al., *Hierarchical neural story generation* (2018) for `top_k`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sampling {
    /// Laws are raised to the power `1 / temperature`; 0 takes the likeliest token, the first of equals.
    pub temperature: f64,
    /// Keep that many of the likeliest tokens; of equals the first.
    pub top_k: Option<usize>,
    /// Keep the fewest likeliest tokens that have this probability together.
    pub top_p: Option<f64>,
}

impl Default for Sampling {
    /// The law as it is.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: None,
        }
    }
}

impl Sampling {
    /// # Errors
    /// A temperature that is negative or not finite, `top_k` of 0, `top_p` outside (0, 1].
    pub fn check(&self) -> Result<(), LmError> {
        let wrong = |what: String| Err(LmError::Argument(what));
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return wrong(format!(
                "a temperature of {}: it must be 0 (the likeliest token) or a positive number",
                self.temperature
            ));
        }
        if self.top_k == Some(0) {
            return wrong("top-k of 0: at least one token must be kept".into());
        }
        match self.top_p {
            Some(p) if !(p > 0.0 && p <= 1.0) => {
                wrong(format!("top-p of {p}: it must be above 0 and at most 1"))
            }
            _ => Ok(()),
        }
    }

    /// The law that tokens are drawn from, given log-probabilities: tokens and their probabilities, the
    /// likeliest first where some are left out.
    pub fn law(&self, log_probs: &[f32]) -> Vec<(u32, f64)> {
        let by_rank = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let mut law: Vec<(u32, f64)> = (0..).zip(log_probs.iter().map(|&x| f64::from(x))).collect();
        if self.temperature == 0.0 {
            let first = law.iter().copied().min_by(by_rank);
            return first.map(|(token, _)| (token, 1.0)).into_iter().collect();
        }
        law.retain(|(_, x)| *x > f64::NEG_INFINITY);
        let largest = law.iter().fold(f64::NEG_INFINITY, |m, l| m.max(l.1));
        law.iter_mut()
            .for_each(|l| l.1 = ((l.1 - largest) / self.temperature).exp());
        if let Some(k) = self.top_k.filter(|&k| k < law.len()) {
            law.select_nth_unstable_by(k - 1, by_rank);
            law.truncate(k);
        }
        if let Some(p) = self.top_p {
            keep_mass(&mut law, p, by_rank);
        } else if self.top_k.is_some() {
            law.sort_unstable_by(by_rank);
        }
        let total: f64 = law.iter().map(|l| l.1).sum();
        law.iter_mut().for_each(|l| l.1 /= total);
        law
    }

    /// A token drawn from [`law`](Self::law) of log-probabilities that are not all minus infinity.
    pub fn draw(&self, log_probs: &[f32], dice: &mut Dice) -> u32 {
        let law = self.law(log_probs);
        let mut left: f64 = dice.0.random();
        for &(token, p) in &law {
            left -= p;
            if left < 0.0 {
                return token;
            }
        }
        // What rounding left over falls to the last outcome that there is.
        let possible = law.iter().rev().find(|l| l.1 > 0.0);
        possible.map_or(0, |l| l.0)
    }
}

/// Sorts the likeliest outcomes and cuts after the first that completes `p` of the total. Few are
/// needed as a rule, so they are sorted in growing numbers.
fn keep_mass(
    law: &mut Vec<(u32, f64)>,
    p: f64,
    by_rank: impl Fn(&(u32, f64), &(u32, f64)) -> std::cmp::Ordering + Copy,
) {
    let goal = p * law.iter().map(|l| l.1).sum::<f64>();
    let mut sorted = 0;
    let mut mass = 0.0;
    while sorted < law.len() {
        let end = law.len().min((4 * sorted).max(64));
        if end < law.len() {
            law[sorted..].select_nth_unstable_by(end - sorted - 1, by_rank);
        }
        law[sorted..end].sort_unstable_by(by_rank);
        for i in sorted..end {
            mass += law[i].1;
            if mass >= goal {
                law.truncate(i + 1);
                return;
            }
        }
        sorted = end;
    }
}

/// Where the chance in one sequence comes from: sequences of one seed are independent, and none
/// depends on how many others there are.
#[derive(Debug)]
pub struct Dice(StdRng);

impl Dice {
    /// For sequence number `sequence` of a run with this seed.
    pub fn new(seed: u64, sequence: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
        Self(StdRng::from_seed(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(p: &[f64]) -> Vec<f32> {
        p.iter().map(|x| x.ln() as f32).collect()
    }

    fn close(law: &[(u32, f64)], expected: &[(u32, f64)]) {
        assert_eq!(law.len(), expected.len(), "{law:?}");
        for (a, b) in law.iter().zip(expected) {
            assert!(
                a.0 == b.0 && (a.1 - b.1).abs() < 1e-6,
                "{law:?} {expected:?}"
            );
        }
    }

    #[test]
    fn temperature_then_k_then_p() {
        let law = logs(&[0.1, 0.4, 0.2, 0.3]);
        let sampling = |temperature, top_k, top_p| Sampling {
            temperature,
            top_k,
            top_p,
        };
        close(&sampling(0.0, None, None).law(&law), &[(1, 1.0)]);
        close(
            &sampling(0.5, None, None).law(&law),
            &[
                (0, 1.0 / 30.0),
                (1, 16.0 / 30.0),
                (2, 4.0 / 30.0),
                (3, 9.0 / 30.0),
            ],
        );
        close(
            &sampling(1.0, Some(2), None).law(&law),
            &[(1, 4.0 / 7.0), (3, 3.0 / 7.0)],
        );
        close(
            &sampling(1.0, None, Some(0.75)).law(&law),
            &[(1, 4.0 / 9.0), (3, 3.0 / 9.0), (2, 2.0 / 9.0)],
        );
        // Of the two kept by k the first has 16/25 > 0.6.
        close(&sampling(0.5, Some(2), Some(0.6)).law(&law), &[(1, 1.0)]);
        close(
            &sampling(1.0, Some(9), Some(1.0)).law(&logs(&[0.5, 0.0, 0.5])),
            &[(0, 0.5), (2, 0.5)],
        );
    }

    #[test]
    fn a_set_of_given_mass_is_the_same_when_many_are_needed() {
        let weights: Vec<f64> = (0..5000)
            .map(|i| 1.0 / f64::from(1 + (i * 37) % 5000))
            .collect();
        let total: f64 = weights.iter().sum();
        let law = logs(&weights.iter().map(|w| w / total).collect::<Vec<_>>());
        let kept = Sampling {
            top_p: Some(0.9),
            ..Sampling::default()
        }
        .law(&law);
        assert!(kept.windows(2).all(|w| w[0].1 >= w[1].1));
        let mut sorted: Vec<f64> = law.iter().map(|&x| f64::from(x).exp()).collect();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let mut mass = 0.0;
        let needed = sorted.iter().take_while(|p| {
            mass += **p;
            mass < 0.9
        });
        assert_eq!(kept.len(), needed.count() + 1);
    }

    /// The statistic is chi-square with 7 degrees of freedom: above 24.3 in one case of a thousand.
    #[test]
    fn frequencies_match_the_law_over_seeds() {
        let p = [0.3, 0.2, 0.15, 0.12, 0.1, 0.06, 0.04, 0.03];
        let law = logs(&p);
        let sampling = Sampling::default();
        for by_seed in [true, false] {
            let mut counts = [0.0; 8];
            let n = 20_000;
            for i in 0..n {
                let mut dice = if by_seed {
                    Dice::new(i, 0)
                } else {
                    Dice::new(5, i)
                };
                counts[sampling.draw(&law, &mut dice) as usize] += 1.0;
            }
            let statistic: f64 = counts
                .iter()
                .zip(p)
                .map(|(c, p)| (c - n as f64 * p).powi(2) / (n as f64 * p))
                .sum();
            assert!(statistic < 24.3, "{statistic}");
        }
    }

    #[test]
    fn choices_that_mean_nothing_are_refused() {
        let with = |temperature, top_k, top_p| {
            Sampling {
                temperature,
                top_k,
                top_p,
            }
            .check()
        };
        assert!(with(1.0, Some(1), Some(1.0)).is_ok());
        for (bad, word) in [
            (with(f64::NAN, None, None), "temperature"),
            (with(f64::INFINITY, None, None), "temperature"),
            (with(-1.0, None, None), "temperature"),
            (with(1.0, Some(0), None), "top-k"),
            (with(1.0, None, Some(0.0)), "top-p"),
            (with(1.0, None, Some(1.5)), "top-p"),
            (with(1.0, None, Some(f64::NAN)), "top-p"),
        ] {
            assert!(bad.unwrap_err().to_string().contains(word));
        }
    }
}
