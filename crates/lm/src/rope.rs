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
    /// Each by a factor of its own (Phi-3's, up to the length that the model was first trained on).
    Factors {
        /// One a pair of dimensions.
        factors: Vec<f32>,
        /// What rotated queries and keys are multiplied with.
        magnitude: f32,
    },
}

impl RopeScaling {
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
            Self::Factors { factors, magnitude } => {
                let each = plain.zip(factors).map(|(f, factor)| f / factor);
                (each.collect(), *magnitude)
            }
        }
    }
}
