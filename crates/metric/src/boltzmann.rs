//! A text out of its parts: the best tropical combination of their images, and its soft version, which weighs them as
//! attention does.

use lawvere_core::tropical::{LogSumExp, plus};
use serde::Serialize;

use crate::{MetricError, Space};

/// How well the images of parts give the image of a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Boltzmann {
    /// T, nats; 0 for the tropical approximation.
    pub temperature: f64,
    /// `exp(-d(w_j, a) / T)`, normalised to sum to 1 over the parts: the least distant ones alone at T = 0.
    pub weights: Vec<f64>,
    /// `-T log Σ_j exp(-(d(w_j, a) + Y(w_j)) / T)`, an entry a text; at T = 0 the least term. In P(L).
    #[serde(serialize_with = "crate::extended::list")]
    pub vector: Vec<f64>,
    /// The largest `|vector - Y(a)|` where both are finite, nats.
    pub largest_error: f64,
    /// Its mean there, nats.
    pub mean_error: f64,
    /// Where both are finite.
    pub finite: usize,
    /// Where Y(a) alone is: below a, but below none of the parts.
    pub only_in_image: usize,
}

impl Space {
    /// Approximates `Y(a)` by `w_1, ..., w_m` below a, at a temperature of at least 0.
    ///
    /// At 0 it is `i_! r Y(a) = min_j (d(w_j, a) + Y(w_j))`, the greatest extension of what Y(a) is on the parts, and at
    /// least Y(a). At T it is below that by at most `T log m_k`, m_k finite terms at text k. O(n m).
    ///
    /// # Errors
    /// Parts that there are not, that come twice, or that are not below a; no part; a temperature below 0 or infinite.
    ///
    /// *Source:* Gaubert, Vlassopoulos (arXiv 2405.12264), on the Boltzmann approximation.
    pub fn boltzmann(
        &self,
        text: usize,
        parts: &[usize],
        temperature: f64,
    ) -> Result<Boltzmann, MetricError> {
        self.require_texts(&[text])?;
        self.require_texts(parts)?;
        if let Some(&part) = parts.iter().find(|&&w| self.d(w, text) == f64::INFINITY) {
            return Err(MetricError::NotBelow {
                word: self.names()[part].clone(),
                text: self.names()[text].clone(),
            });
        }
        if parts.is_empty() {
            return Err(MetricError::NoTexts);
        }
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return Err(MetricError::Argument {
                argument: "the temperature",
                value: temperature,
                wanted: "at least 0, and finite",
            });
        }
        let soft = LogSumExp::new(temperature).ok();
        let at = |k: usize| {
            let terms = parts.iter().map(|&w| plus(self.d(w, text), self.d(k, w)));
            match soft {
                Some(soft) => soft.sum(terms),
                None => terms.fold(f64::INFINITY, f64::min),
            }
        };
        let vector: Vec<f64> = (0..self.len()).map(at).collect();
        let steps: Vec<f64> = parts.iter().map(|&w| self.d(w, text)).collect();
        let least = steps.iter().copied().fold(f64::INFINITY, f64::min);
        let weight = |d: &f64| match temperature > 0.0 {
            true => (-(d - least) / temperature).exp(),
            false => f64::from(u8::from(*d <= least)),
        };
        let weights: Vec<f64> = steps.iter().map(weight).collect();
        let total = lawvere_core::sum(weights.iter().copied());
        let image = self.yoneda(text);
        let both = |(x, y): &(&f64, &f64)| x.is_finite() && y.is_finite();
        let errors: Vec<f64> = vector
            .iter()
            .zip(&image)
            .filter(both)
            .map(|(x, y)| (x - y).abs())
            .collect();
        let finite_images = image.iter().filter(|y| y.is_finite()).count();
        Ok(Boltzmann {
            temperature,
            weights: weights.iter().map(|w| w / total).collect(),
            largest_error: errors.iter().copied().fold(0.0, f64::max),
            mean_error: lawvere_core::sum(errors.iter().copied()) / errors.len().max(1) as f64,
            finite: errors.len(),
            only_in_image: finite_images - errors.len(),
            vector,
        })
    }
}
