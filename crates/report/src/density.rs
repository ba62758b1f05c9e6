//! Many points as a two-dimensional histogram.

use serde_json::{Value, json};

use crate::figure::quantile;
use crate::number::{percent, size};
use crate::table::cell;

const BINS: usize = 56;
/// The share of points, on either side of either axis, that may lie outside the picture.
const CUT: f64 = 0.002;

/// Weighted points in square bins.
pub(crate) struct Density {
    /// The ends of both axes.
    pub range: (f64, f64),
    /// Weight and number of points, row after row from below.
    bins: Vec<(f64, usize)>,
    total: f64,
    /// Points outside the range, or not finite.
    pub outside: usize,
}

impl Density {
    /// Bins `(x, y, weight)`; `None` without a finite point.
    pub fn new(points: &[(f64, f64, f64)]) -> Option<Self> {
        let sorted = |f: fn(&(f64, f64, f64)) -> f64| {
            let mut all: Vec<f64> = points.iter().map(f).filter(|x| x.is_finite()).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let (x, y) = (sorted(|p| p.0), sorted(|p| p.1));
        if x.is_empty() || y.is_empty() {
            return None;
        }
        let low = quantile(&x, CUT).min(quantile(&y, CUT));
        let high = quantile(&x, 1.0 - CUT).max(quantile(&y, 1.0 - CUT));
        let pad = (0.02 * (high - low)).max(1e-3);
        let (low, high) = (low - pad, high + pad);
        let place = |v: f64| {
            let k = ((v - low) / (high - low) * BINS as f64).floor();
            (k >= 0.0 && k < BINS as f64).then_some(k as usize)
        };
        let mut bins = vec![(0.0, 0); BINS * BINS];
        let (mut outside, mut total) = (0, 0.0);
        for &(x, y, weight) in points {
            total += weight;
            match (place(x), place(y)) {
                (Some(i), Some(j)) => {
                    let bin = &mut bins[j * BINS + i];
                    *bin = (bin.0 + weight, bin.1 + 1);
                }
                _ => outside += 1,
            }
        }
        Some(Self {
            range: (low, high),
            bins,
            total,
            outside,
        })
    }

    fn edge(&self, k: usize) -> f64 {
        self.range.0 + (self.range.1 - self.range.0) * k as f64 / BINS as f64
    }

    /// The histogram, coloured by the logarithm of the share of weight.
    pub fn heatmap(&self, title: &str) -> Value {
        let centres: Vec<f64> = (0..BINS)
            .map(|k| (self.edge(k) + self.edge(k + 1)) / 2.0)
            .collect();
        let share = |weight: f64| weight / self.total.max(f64::MIN_POSITIVE);
        let z: Vec<Vec<Option<f64>>> = self
            .bins
            .chunks(BINS)
            .map(|row| {
                row.iter()
                    .map(|b| (b.0 > 0.0).then(|| share(b.0).log10()))
                    .collect()
            })
            .collect();
        let text: Vec<Vec<String>> = self
            .bins
            .chunks(BINS)
            .map(|row| {
                row.iter()
                    .map(|b| {
                        if b.1 == 0 {
                            String::new()
                        } else {
                            format!(
                                "{} of the weight, {} points",
                                percent(b.0, self.total),
                                size(b.1)
                            )
                        }
                    })
                    .collect()
            })
            .collect();
        json!({
            "type": "heatmap", "x": centres, "y": centres, "z": z, "text": text, "colorscale": "@seq",
            "hoverongaps": false, "hovertemplate": "%{text}<extra></extra>",
            "colorbar": {
                "title": {"text": title, "side": "top"}, "thickness": 12, "len": 0.6, "outlinewidth": 0,
                "tickvals": [-7, -6, -5, -4, -3, -2, -1, 0],
                "ticktext": ["10⁻⁵%", "10⁻⁴%", "0.001%", "0.01%", "0.1%", "1%", "10%", "100%"],
            },
        })
    }

    /// log10 of the smallest and the largest share of weight in a bin.
    pub fn shares(&self) -> (f64, f64) {
        self.bins
            .iter()
            .filter(|b| b.0 > 0.0)
            .map(|b| (b.0 / self.total.max(f64::MIN_POSITIVE)).log10())
            .fold((0.0, f64::NEG_INFINITY), |(low, high), x| {
                (x.min(low), x.max(high))
            })
    }

    /// The filled bins, for CSV.
    pub fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        self.bins
            .iter()
            .enumerate()
            .filter(|(_, b)| b.1 > 0)
            .map(|(k, b)| {
                let (j, i) = (k / BINS, k % BINS);
                vec![
                    cell(self.edge(i)),
                    cell(self.edge(i + 1)),
                    cell(self.edge(j)),
                    cell(self.edge(j + 1)),
                    cell(b.0),
                    b.1.to_string(),
                ]
            })
    }
}
