use std::collections::HashSet;

use lawvere_core::{stoch, sum};
use lawvere_observe::Observation;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand_distr::{Binomial, Distribution};
use serde::Serialize;

use crate::{GeometryError, require_contexts};

/// How [`growth`] takes parts of the occurrences.
#[derive(Debug, Clone, PartialEq)]
pub struct GrowthOptions {
    /// Fractions of the occurrences, more than 0 and at most 1.
    pub fractions: Vec<f64>,
    /// How many parts of each size are drawn; the whole is taken once.
    pub draws: usize,
    /// What the draws start from.
    pub seed: u64,
}

impl Default for GrowthOptions {
    /// Sixteenths doubled up to the whole, eight draws.
    fn default() -> Self {
        Self {
            fractions: vec![0.0625, 0.125, 0.25, 0.5, 1.0],
            draws: 8,
            seed: 0,
        }
    }
}

/// What is drawn to make a part of the occurrences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GrowthUnit {
    /// Blocks of documents, without replacement.
    Blocks,
    /// Single occurrences, each kept with the probability of the fraction: where documents are not
    /// told apart, or there are too few blocks of them.
    Occurrences,
}

/// How the supports of the same contexts grow with the occurrences they are read from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Growth {
    /// What was drawn.
    pub unit: GrowthUnit,
    /// How many of them there are in all.
    pub units: u64,
    /// Fractions increasing.
    pub points: Vec<GrowthPoint>,
}

/// The supports that a fraction of the occurrences shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GrowthPoint {
    /// The fraction asked for.
    pub fraction: f64,
    /// How many parts of that size were drawn.
    pub draws: usize,
    /// n: occurrences.
    pub samples: Estimate,
    /// Contexts that occur.
    pub contexts: Estimate,
    /// V: tokens that follow some context.
    pub vocabulary: Estimate,
    /// Ones in the support matrix.
    pub entries: Estimate,
    /// Mean size of the supports of contexts that occur.
    pub mean_support: Estimate,
    /// H: empirical conditional entropy, nats.
    pub entropy: Estimate,
    /// Distinct supports.
    pub classes: Estimate,
}

/// A mean over draws.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The standard deviation of one draw.
    pub deviation: f64,
}

/// Fewer blocks than this are not told apart finely enough.
const FEWEST_BLOCKS: usize = 16;

/// What an Observation's supports would have been with fewer occurrences of the same contexts:
/// supports of a finite corpus are observed supports, and a figure that still rises at the whole has
/// not been seen to its end.
///
/// Of each draw the smaller parts lie within the larger ones. Which contexts are looked at was
/// decided by the whole corpus. O(draws x fractions x (entries + parts of entries)).
///
/// *Source:* rarefaction; Good, Toulmin, *The number of new species, and the increase in population
/// coverage, when a sample is increased* (1956).
///
/// # Errors
/// An Observation of positions; no draws; a fraction that is not more than 0 and at most 1.
pub fn growth(observation: &Observation, options: &GrowthOptions) -> Result<Growth, GeometryError> {
    require_contexts(observation)?;
    let argument = |what, problem: String| GeometryError::Argument { what, problem };
    if options.draws == 0 {
        return Err(argument("draws", "at least one is needed".into()));
    }
    let mut fractions = options.fractions.clone();
    if let Some(bad) = fractions.iter().find(|f| !(**f > 0.0 && **f <= 1.0)) {
        let problem = format!("{bad} is no fraction; it should be more than 0 and at most 1");
        return Err(argument("fractions", problem));
    }
    fractions.sort_by(f64::total_cmp);
    fractions.dedup();
    let blocks = observation.blocks.as_ref().map_or(0, |b| b.blocks());
    let unit = match blocks >= FEWEST_BLOCKS {
        true => GrowthUnit::Blocks,
        false => GrowthUnit::Occurrences,
    };
    let units = match unit {
        GrowthUnit::Blocks => blocks as u64,
        GrowthUnit::Occurrences => observation.samples(),
    };
    let mut found: Vec<Vec<Figures>> = vec![Vec::new(); fractions.len()];
    let mut rng = StdRng::seed_from_u64(options.seed);
    for draw in 0..options.draws {
        let mut part = Part::whole(observation, unit, &mut rng);
        for (fraction, figures) in fractions.iter().zip(&mut found).rev() {
            if *fraction == 1.0 && draw > 0 {
                continue;
            }
            part.shrink(observation, *fraction, &mut rng)?;
            figures.push(Figures::of(observation, &part.counts));
        }
    }
    let points = fractions.iter().zip(&found);
    let points = points.map(|(&fraction, figures)| point(fraction, figures));
    Ok(Growth {
        unit,
        units,
        points: points.collect(),
    })
}

/// Some of the occurrences, in the pattern of all.
struct Part {
    fraction: f64,
    counts: Vec<u64>,
    /// Blocks in the order in which they are taken; none where occurrences are drawn.
    order: Option<Vec<u32>>,
}

impl Part {
    fn whole(observation: &Observation, unit: GrowthUnit, rng: &mut StdRng) -> Self {
        let order = (unit == GrowthUnit::Blocks).then(|| {
            let blocks = observation.blocks.as_ref().map_or(0, |b| b.blocks());
            let mut order: Vec<u32> = (0..blocks as u32).collect();
            order.shuffle(rng);
            order
        });
        Self {
            fraction: 1.0,
            counts: observation.counts.values().to_vec(),
            order,
        }
    }

    /// Down to a fraction of the whole.
    fn shrink(
        &mut self,
        observation: &Observation,
        fraction: f64,
        rng: &mut StdRng,
    ) -> Result<(), GeometryError> {
        let kept = fraction / self.fraction;
        self.fraction = fraction;
        if kept >= 1.0 {
            return Ok(());
        }
        if let (Some(order), Some(split)) = (&self.order, &observation.blocks) {
            let taken = ((fraction * order.len() as f64).round() as usize).max(1);
            let mut is_taken = vec![false; order.len()];
            order[..taken]
                .iter()
                .for_each(|&b| is_taken[b as usize] = true);
            for (count, pair) in self.counts.iter_mut().zip(split.indptr.windows(2)) {
                let parts = pair[0] as usize..pair[1] as usize;
                let parts = split.blocks[parts.clone()].iter().zip(&split.counts[parts]);
                let taken = parts.filter(|(block, _)| is_taken[**block as usize]);
                *count = taken.map(|(_, &count)| u64::from(count)).sum();
            }
            return Ok(());
        }
        for count in self.counts.iter_mut().filter(|count| **count > 0) {
            let law = Binomial::new(*count, kept).map_err(|e| GeometryError::Argument {
                what: "fractions",
                problem: format!("{fraction}: {e}"),
            })?;
            *count = law.sample(rng);
        }
        Ok(())
    }
}

/// samples, contexts, vocabulary, entries, mean support, entropy, classes.
#[derive(Debug, Clone, Copy)]
struct Figures([f64; 7]);

impl Figures {
    fn of(observation: &Observation, values: &[u64]) -> Self {
        let counts = &observation.counts;
        let total = values.iter().sum::<u64>();
        let mut seen = vec![false; counts.ncols()];
        let mut supports: HashSet<Vec<u32>> = HashSet::new();
        let mut entropies = Vec::with_capacity(counts.nrows());
        let (mut contexts, mut entries) = (0u64, 0u64);
        for row in 0..counts.nrows() {
            let own = &values[counts.range(row)];
            let n = own.iter().sum::<u64>();
            if n == 0 {
                continue;
            }
            let tokens = counts.row(row).0.iter().zip(own);
            let support: Vec<u32> = tokens.filter(|(_, c)| **c > 0).map(|(&t, _)| t).collect();
            support.iter().for_each(|&t| seen[t as usize] = true);
            contexts += 1;
            entries += support.len() as u64;
            supports.insert(support);
            let law = own.iter().filter(|c| **c > 0).map(|&c| c as f64 / n as f64);
            entropies.push(n as f64 / total as f64 * stoch::entropy(law));
        }
        Self([
            total as f64,
            contexts as f64,
            seen.iter().filter(|s| **s).count() as f64,
            entries as f64,
            entries as f64 / contexts.max(1) as f64,
            sum(entropies),
            supports.len() as f64,
        ])
    }
}

fn point(fraction: f64, figures: &[Figures]) -> GrowthPoint {
    let n = figures.len() as f64;
    let estimate = |k: usize| {
        let mean = sum(figures.iter().map(|f| f.0[k])) / n;
        let square = sum(figures.iter().map(|f| (f.0[k] - mean).powi(2)));
        Estimate {
            mean,
            deviation: (square / (n - 1.0).max(1.0)).sqrt(),
        }
    };
    GrowthPoint {
        fraction,
        draws: figures.len(),
        samples: estimate(0),
        contexts: estimate(1),
        vocabulary: estimate(2),
        entries: estimate(3),
        mean_support: estimate(4),
        entropy: estimate(5),
        classes: estimate(6),
    }
}
