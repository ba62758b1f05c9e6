//! Rotary positions: angles a position, and how they are stretched for texts longer than those of the training.

use serde::Serialize;

/// How the angles of rotary positions are stretched.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum RopeScaling {
    /// Not.
    #[default]
    None,
    /// All by a factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// Slow ones by a factor, fast ones not, those between in between (Llama 3).
    Llama3 {
        /// The factor of slow ones.
        factor: f32,
        /// Turns over the original length at which an angle is slow.
        low_turns: f32,
        /// Turns at which it is fast.
        high_turns: f32,
        /// The length that the model was first trained on, tokens.
        original_length: usize,
    },
    /// As Llama 3's, the pairs between by their number, and rotated vectors made longer.
    /// *Source:* Peng et al., *YaRN: efficient context window extension of large language models* (2023).
    Yarn {
        /// The factor of slow ones.
        factor: f32,
        /// Turns over the original length at which an angle is slow.
        slow_turns: f32,
        /// Turns at which it is fast.
        fast_turns: f32,
        /// The length that the model was first trained on, tokens.
        original_length: usize,
        /// Whether the borders are whole numbers of pairs.
        whole: bool,
        /// What rotated queries and keys are multiplied with.
        magnitude: f32,
    },
    /// Each by a factor of its own (Phi-3's, up to the length that the model was first trained on).
    Factors {
        /// One a pair of dimensions.
        factors: Vec<f32>,
        /// What rotated queries and keys are multiplied with.
        magnitude: f32,
    },
}

impl RopeScaling {
    /// How much longer YaRN makes rotated vectors, by default.
    pub(crate) fn yarn_magnitude(factor: f32, by: f32) -> f32 {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * by * factor.ln() + 1.0
        }
    }

    /// What is wrong with it for so many pairs of dimensions, if anything.
    pub(crate) fn problem(&self, pairs: usize) -> Option<String> {
        let positive = |x: &f32| x.is_finite() && *x > 0.0;
        match self {
            Self::None => None,
            Self::Linear { factor } => (!positive(factor))
                .then(|| format!("the factor of its rotary positions is {factor}")),
            Self::Llama3 {
                factor,
                low_turns,
                high_turns,
                original_length,
            } => {
                let fine = [factor, low_turns, high_turns].into_iter().all(positive)
                    && high_turns > low_turns
                    && *original_length > 0;
                (!fine).then(|| "the scaling of its rotary positions needs positive factors, and the high frequency's above the low one's".into())
            }
            Self::Yarn {
                factor,
                slow_turns,
                fast_turns,
                original_length,
                magnitude,
                ..
            } => {
                let numbers = [factor, slow_turns, fast_turns, magnitude];
                let fine = numbers.into_iter().all(positive)
                    && fast_turns > slow_turns
                    && *original_length > 0;
                (!fine).then(|| "the scaling of its rotary positions needs positive factors, `beta_fast` above `beta_slow`, and an original length".into())
            }
            Self::Factors { factors, magnitude } => {
                let fine =
                    factors.len() == pairs && factors.iter().chain([magnitude]).all(positive);
                (!fine).then(|| {
                    format!(
                        "its rotary positions have {} factors; {pairs} positive ones are needed, one a pair of dimensions",
                        factors.len()
                    )
                })
            }
        }
    }

    /// The angles of the pairs of `rotated` dimensions at position 1, and what cosines and sines are multiplied with.
    pub(crate) fn angles(&self, theta: f32, rotated: usize) -> (Vec<f32>, f32) {
        let plain = (0..rotated / 2).map(|i| 1.0 / theta.powf((2 * i) as f32 / rotated as f32));
        match self {
            Self::None => (plain.collect(), 1.0),
            Self::Linear { factor } => (plain.map(|f| f / factor).collect(), 1.0),
            Self::Llama3 {
                factor,
                low_turns,
                high_turns,
                original_length,
            } => {
                let stretched = plain.map(|f| {
                    let turns = *original_length as f32 * f / std::f32::consts::TAU;
                    let fast = ((turns - low_turns) / (high_turns - low_turns)).clamp(0.0, 1.0);
                    fast * f + (1.0 - fast) * f / factor
                });
                (stretched.collect(), 1.0)
            }
            Self::Yarn {
                factor,
                slow_turns,
                fast_turns,
                original_length,
                whole,
                magnitude,
            } => {
                // The number of the dimension, of which a pair has two, that makes so many turns.
                let dimension = |turns: f32| {
                    let length =
                        *original_length as f64 / (f64::from(turns) * std::f64::consts::TAU);
                    rotated as f64 * length.ln() / (2.0 * f64::from(theta).ln())
                };
                let (mut low, mut high) = (dimension(*fast_turns), dimension(*slow_turns));
                if *whole {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, high) = (low.max(0.0), high.min(rotated as f64 - 1.0));
                let width = if low == high { 0.001 } else { high - low };
                let stretched = plain.enumerate().map(|(pair, f)| {
                    let slow = ((pair as f64 - low) / width).clamp(0.0, 1.0) as f32;
                    (1.0 - slow) * f + slow * f / factor
                });
                (stretched.collect(), *magnitude)
            }
            Self::Factors { factors, magnitude } => {
                let each = plain.zip(factors).map(|(f, factor)| f / factor);
                (each.collect(), *magnitude)
            }
        }
    }
}
