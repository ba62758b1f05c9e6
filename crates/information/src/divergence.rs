use std::collections::BTreeMap;

use lawvere_core::linalg::matmul;
use lawvere_core::stoch::{Distribution, Divergence};
use lawvere_core::{RowMatrix, ShapeError, sum};
use lawvere_observe::{Observation, Rows};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;
use serde::Serialize;

use crate::InformationError;
use crate::layers::Readout;
use crate::pass::mean_and_deviation;

/// How far apart two sets of contexts are in what is predicted after them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RepresentationDivergence {
    /// The layer read out.
    pub layer: usize,
    /// Rows of the sets.
    pub rows: [usize; 2],
    /// One entry a divergence.
    pub divergences: Vec<SetDivergence>,
}

/// One divergence between two sets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetDivergence {
    /// The divergence by its name.
    pub divergence: String,
    /// Between the model's mean laws over a and over b.
    pub model: f64,
    /// Its standard error: bootstrap over the rows of contexts, or over the documents of positions (those with
    /// rows in both sets drawn for both). Infinite where a replicate is; `None` if a set has fewer than two.
    pub model_error: Option<f64>,
    /// The mean between two sets of as many rows (or documents) drawn from both together, at random: what
    /// chance alone gives.
    pub by_chance: f64,
    /// The standard deviation of that over draws.
    pub by_chance_deviation: f64,
    /// Between the data's mean laws over a and over b; of finitely many occurrences, biased high.
    pub data: f64,
}

/// Divergences that are measured unless others are asked for.
pub const SET_DIVERGENCES: [Divergence; 8] = [
    Divergence::KullbackLeibler,
    Divergence::ReverseKullbackLeibler,
    Divergence::TotalVariation,
    Divergence::Hellinger,
    Divergence::ChiSquared,
    Divergence::JensenShannon,
    Divergence::Renyi(0.5),
    Divergence::Renyi(2.0),
];

/// Bootstrap replicates of either set, and random sets for the chance level.
const REPLICATES: usize = 48;

/// The divergence between the mean predictive laws of two sets of rows, weighted as the rows are, read out
/// of a layer (the last without a number). By data processing it is a lower bound for that between the
/// laws of the states themselves.
///
/// Rows are taken as independent, those of contexts; of positions, documents are.
///
/// Cost: one pass through the head for the rows of the sets; memory some 200 laws in f64.
///
/// *Source:* arXiv 2507.19247, representation divergence.
///
/// # Errors
/// An Observation without a model; an unknown layer; a set that is empty, names rows that do not exist, or
/// overlaps the other.
pub fn representation_divergence(
    observation: &Observation,
    a: &[usize],
    b: &[usize],
    divergences: &[Divergence],
    layer: Option<usize>,
    seed: u64,
) -> Result<RepresentationDivergence, InformationError> {
    let a = checked(observation, a, "a")?;
    let b = checked(observation, b, "b")?;
    if let Some(&row) = a.iter().find(|row| b.binary_search(row).is_ok()) {
        return Err(InformationError::argument(
            "b",
            format!("it shares row {row} with a; sets that are compared may not overlap"),
        ));
    }
    let readout = Readout::of(observation, layer)?;
    let rows: Vec<usize> = a.iter().chain(&b).copied().collect();
    let states = RowMatrix::from_fn(rows.len(), readout.states.ncols(), |i, k| {
        readout.states.get(rows[i], k)
    });
    let units = Units::of(observation, &rows, a.len());
    let enough = units.enough();
    let weights = mixtures(observation, &rows, a.len(), &units, seed);
    let vocab = readout.head.vocab_size();
    let mut laws = RowMatrix::<f64>::zeros(weights.nrows(), vocab);
    readout
        .head
        .for_each_log_prob_block::<ShapeError>(&states, |block| {
            let first = block.first_row;
            let part = RowMatrix::from_fn(weights.nrows(), block.probs.nrows(), |m, i| {
                weights.get(m, first + i) as f32
            });
            let mut mixed = RowMatrix::<f32>::zeros(weights.nrows(), vocab);
            matmul(mixed.view_mut(), part.view(), block.probs.view());
            laws.data_mut()
                .par_iter_mut()
                .zip(mixed.data().par_iter())
                .for_each(|(sum, &x)| *sum += f64::from(x));
            Ok(())
        })?;
    let law = |m: usize| -> Result<Distribution, InformationError> {
        let row = laws.row(m);
        let total = sum(row.iter().copied());
        Ok(Distribution::new(row.iter().map(|p| p / total).collect())?)
    };
    let data = data_laws(observation, &a, &b)?;
    let mut found = Vec::with_capacity(divergences.len());
    for divergence in divergences {
        let between = |m: usize| -> Result<f64, InformationError> {
            Ok(divergence.between(&law(2 * m)?, &law(2 * m + 1)?)?)
        };
        let many = |from: usize| -> Result<(f64, f64), InformationError> {
            let values: Result<Vec<f64>, _> = (from..from + REPLICATES)
                .into_par_iter()
                .map(between)
                .collect();
            Ok(mean_and_deviation(&values?))
        };
        let (by_chance, by_chance_deviation) = many(1 + REPLICATES)?;
        found.push(SetDivergence {
            divergence: divergence.to_string(),
            model: between(0)?,
            model_error: enough.then_some(many(1)?.1),
            by_chance,
            by_chance_deviation,
            data: divergence.between(&data[0], &data[1])?,
        });
    }
    Ok(RepresentationDivergence {
        layer: readout.layer,
        rows: [a.len(), b.len()],
        divergences: found,
    })
}

fn checked(
    observation: &Observation,
    rows: &[usize],
    name: &'static str,
) -> Result<Vec<usize>, InformationError> {
    let mut rows = rows.to_vec();
    rows.sort_unstable();
    rows.dedup();
    match rows.last() {
        None => Err(InformationError::argument(name, "the set is empty")),
        Some(&row) if row >= observation.rows() => Err(InformationError::argument(
            name,
            format!(
                "row {row} does not exist: the observation has rows 0 to {}",
                observation.rows() - 1
            ),
        )),
        Some(_) => Ok(rows),
    }
}

/// Pairs of mixtures over `rows`, of which the first `split` are a's: a and b themselves, both of resampled
/// units, all units dealt to two sets at random.
fn mixtures(
    observation: &Observation,
    rows: &[usize],
    split: usize,
    units: &Units,
    seed: u64,
) -> RowMatrix<f64> {
    let n = rows.len();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut times: Vec<Vec<f64>> = Vec::with_capacity(2 + 4 * REPLICATES);
    let whole = |a: bool| (0..n).map(|i| f64::from((i < split) == a)).collect();
    times.extend([whole(true), whole(false)]);
    for _ in 0..REPLICATES {
        let drawn = units.resampled(n, &mut rng);
        for set in [0..split, split..n] {
            let inside = |(i, x): (usize, &f64)| if set.contains(&i) { *x } else { 0.0 };
            times.push(drawn.iter().enumerate().map(inside).collect());
        }
    }
    for _ in 0..REPLICATES {
        let in_a = units.dealt(n, &mut rng);
        for a in [true, false] {
            times.push(in_a.iter().map(|&x| f64::from(x == a)).collect());
        }
    }
    let mut mixtures = RowMatrix::from_fn(times.len(), n, |m, i| {
        times[m][i] * observation.weights[rows[i]]
    });
    for m in 0..mixtures.nrows() {
        let row = mixtures.row_mut(m);
        let total = sum(row.iter().copied());
        row.iter_mut().for_each(|w| *w /= total);
    }
    mixtures
}

/// What is drawn as one: rows of contexts one by one, all rows of a document of positions. Every unit has the
/// places of its rows in a, and in b.
struct Units {
    /// Units with rows in a alone, in b alone, in both.
    strata: [Vec<[Vec<usize>; 2]>; 3],
}

impl Units {
    fn of(observation: &Observation, rows: &[usize], split: usize) -> Self {
        let mut units: BTreeMap<usize, [Vec<usize>; 2]> = BTreeMap::new();
        for (i, &row) in rows.iter().enumerate() {
            let unit = match &observation.contexts {
                Rows::Positions(positions) => positions.document[row] as usize,
                Rows::Contexts { .. } => row,
            };
            units.entry(unit).or_default()[usize::from(i >= split)].push(i);
        }
        let mut strata = [const { Vec::new() }; 3];
        for unit in units.into_values() {
            let stratum = match (unit[0].is_empty(), unit[1].is_empty()) {
                (false, true) => 0,
                (true, _) => 1,
                (false, false) => 2,
            };
            strata[stratum].push(unit);
        }
        Self { strata }
    }

    /// Whether resampling can say anything of both sets: units of a stratum are drawn among themselves.
    fn enough(&self) -> bool {
        let [a, b, both] = self.strata.each_ref().map(|units| units.len() >= 2);
        both || a && b
    }

    /// How often every place is drawn when units are, with replacement; those of both sets together.
    fn resampled(&self, places: usize, rng: &mut StdRng) -> Vec<f64> {
        let mut drawn = vec![0.0; places];
        for units in &self.strata {
            for _ in 0..units.len() {
                let unit = &units[rng.random_range(0..units.len())];
                unit.iter().flatten().for_each(|&i| drawn[i] += 1.0);
            }
        }
        drawn
    }

    /// Whether every place is in the first of two sets dealt at random: units of one set change hands, units
    /// of both may exchange their parts.
    fn dealt(&self, places: usize, rng: &mut StdRng) -> Vec<bool> {
        let mut first = vec![false; places];
        let [a, b, both] = &self.strata;
        let mut alone: Vec<&[Vec<usize>; 2]> = a.iter().chain(b).collect();
        alone.shuffle(rng);
        for unit in &alone[..a.len()] {
            unit.iter().flatten().for_each(|&i| first[i] = true);
        }
        for unit in both {
            let part = usize::from(rng.random::<bool>());
            unit[part].iter().for_each(|&i| first[i] = true);
        }
        first
    }
}

fn data_laws(
    observation: &Observation,
    a: &[usize],
    b: &[usize],
) -> Result<[Distribution; 2], InformationError> {
    let laws = observation.laws();
    let mean = |rows: &[usize]| -> Result<Distribution, InformationError> {
        let mut mean = vec![0.0; laws.ncols()];
        for &row in rows {
            let (tokens, law) = laws.row(row);
            for (&token, p) in tokens.iter().zip(law) {
                mean[token as usize] += observation.weights[row] * p;
            }
        }
        let total = sum(mean.iter().copied());
        mean.iter_mut().for_each(|p| *p /= total);
        Ok(Distribution::new(mean)?)
    };
    Ok([mean(a)?, mean(b)?])
}
