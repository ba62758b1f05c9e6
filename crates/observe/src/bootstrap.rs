//! Standard errors over blocks of documents: by the bootstrap and by the jackknife.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::{BlockSplit, Observation};

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
            values.extend(statistics(&split.replicate(draws)));
        }
        deviations(&values, |n| 1.0 / (n - 1.0))
    }

    /// Standard errors of `statistics` by the jackknife: every block of documents left out once.
    ///
    /// For statistics that react to repetition, as those do that correct the bias of few occurrences: a bootstrap
    /// replicate repeats whole documents. Otherwise as [`standard_errors`](Self::standard_errors).
    ///
    /// Cost: as many passes over the parts of the counts as there are blocks, plus the statistics.
    ///
    /// *Source:* Efron, Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 11.
    pub fn jackknife_errors(
        &self,
        mut statistics: impl FnMut(&Replicate) -> Option<Vec<f64>>,
    ) -> Option<Vec<f64>> {
        let split = self.blocks.as_ref()?;
        let blocks = split.blocks();
        if blocks < 2 {
            return None;
        }
        let mut values: Vec<Vec<f64>> = Vec::with_capacity(blocks);
        for left_out in 0..blocks {
            let draws = (0..blocks).map(|b| u32::from(b != left_out)).collect();
            values.extend(statistics(&split.replicate(draws)));
        }
        deviations(&values, |n| (n - 1.0) / n)
    }
}

impl BlockSplit {
    /// The counts under multiplicities of the blocks.
    fn replicate(&self, draws: Vec<u32>) -> Replicate {
        let counts = self.indptr.windows(2).map(|w| {
            let parts = w[0] as usize..w[1] as usize;
            let pairs = self.blocks[parts.clone()].iter().zip(&self.counts[parts]);
            pairs
                .map(|(&b, &c)| u64::from(draws[b as usize]) * u64::from(c))
                .sum()
        });
        Replicate {
            counts: counts.collect(),
            draws,
        }
    }
}

/// The root of `scale(n)` times the squared deviations from the mean, number by number; `None` of fewer than
/// two replicates.
fn deviations(values: &[Vec<f64>], scale: impl Fn(f64) -> f64) -> Option<Vec<f64>> {
    let (n, width) = (values.len() as f64, values.first()?.len());
    if values.len() < 2 {
        return None;
    }
    let error = |k: usize| {
        let mean = values.iter().map(|v| v[k]).sum::<f64>() / n;
        let squares = values.iter().map(|v| (v[k] - mean).powi(2)).sum::<f64>();
        let error = (squares * scale(n)).sqrt();
        // Documents that are all alike leave nothing but rounding.
        if error > 1e-12 * mean.abs() {
            error
        } else {
            0.0
        }
    };
    Some((0..width).map(error).collect())
}
