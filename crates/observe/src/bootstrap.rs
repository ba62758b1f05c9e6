//! Standard errors by the bootstrap over blocks of documents.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::Observation;

/// How often each block of documents was drawn in one replicate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicate {
    /// One multiplicity a block.
    pub draws: Vec<u32>,
    /// The counts of the Observation (entry by entry) under these multiplicities.
    pub counts: Vec<u64>,
}

/// How many replicates give a standard error here: its own relative error is then about 5 %.
pub const REPLICATES: usize = 200;

impl Observation {
    /// Standard errors of `statistics` under resampling of document blocks with replacement.
    ///
    /// `statistics` gets a replicate and returns as many numbers each time; a replicate for which
    /// it returns `None` is left out. `None` if the Observation has fewer than two blocks: documents
    /// are then not told apart and no error can be estimated.
    ///
    /// Cost: [`REPLICATES`] times one pass over the parts of the counts, plus the statistics.
    ///
    /// *Source:* Efron, Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 8 (blocks).
    pub fn standard_errors(
        &self,
        seed: u64,
        mut statistics: impl FnMut(&Replicate) -> Option<Vec<f64>>,
    ) -> Option<Vec<f64>> {
        let split = self.blocks.as_ref()?;
        let blocks = split.blocks();
        if blocks < 2 {
            return None;
        }
        let mut rng = StdRng::seed_from_u64(seed);
        let mut values: Vec<Vec<f64>> = Vec::new();
        for _ in 0..REPLICATES {
            let mut draws = vec![0u32; blocks];
            (0..blocks).for_each(|_| draws[rng.random_range(0..blocks)] += 1);
            let counts = split
                .indptr
                .windows(2)
                .map(|w| {
                    let parts = w[0] as usize..w[1] as usize;
                    let pairs = split.blocks[parts.clone()].iter().zip(&split.counts[parts]);
                    pairs
                        .map(|(&b, &c)| u64::from(draws[b as usize]) * u64::from(c))
                        .sum()
                })
                .collect();
            values.extend(statistics(&Replicate { draws, counts }));
        }
        let (n, width) = (values.len() as f64, values.first()?.len());
        if values.len() < 2 {
            return None;
        }
        let error = |k: usize| {
            let mean = values.iter().map(|v| v[k]).sum::<f64>() / n;
            let squares = values.iter().map(|v| (v[k] - mean).powi(2)).sum::<f64>();
            let error = (squares / (n - 1.0)).sqrt();
            // Documents that are all alike leave nothing but rounding.
            if error > 1e-12 * mean.abs() {
                error
            } else {
                0.0
            }
        };
        Some((0..width).map(error).collect())
    }
}
