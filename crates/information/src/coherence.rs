use lawvere_core::RowMatrix;
use lawvere_core::linalg::CentredKernel;
use lawvere_observe::Observation;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;

use crate::InformationError;
use crate::alignment::centred;
use crate::layers::raw_states;
use crate::pass::mean_and_deviation;

/// Linear centred kernel alignment of states that follow one another, whose control deals the second ones
/// out at random.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Coherence {
    /// The layers compared; one layer, if positions are.
    pub layers: [usize; 2],
    /// Pairs of states.
    pub pairs: usize,
    /// CKA.
    pub cka: f64,
    /// Its mean with the second states dealt out at random.
    pub shuffled: f64,
}

/// Coherence between successive states: of each kept layer with the next on the same rows, and of an
/// Observation of positions also, in the last layer, of each position with the one after it.
///
/// *Source:* arXiv 2507.19247, coherence of successive representations; linear CKA stands for a mutual
/// information that cannot be computed between continuous states.
///
/// # Errors
/// An Observation without a model.
pub fn coherence(
    observation: &Observation,
    deals: usize,
    seed: u64,
) -> Result<Vec<Coherence>, InformationError> {
    let states = observation
        .states
        .as_ref()
        .ok_or(InformationError::NeedsModel)?;
    let numbers: Vec<usize> = states.layers().map(|(l, _)| l).collect();
    let weights = &observation.weights;
    let mut found = Vec::new();
    for pair in numbers.windows(2) {
        let (first, second) = (
            raw_states(observation, Some(pair[0]))?.1,
            raw_states(observation, Some(pair[1]))?.1,
        );
        let all: Vec<usize> = (0..observation.rows()).collect();
        found.push(cohere(
            [pair[0], pair[1]],
            (first, &all),
            (second, &all),
            weights,
            (deals, seed),
        ));
    }
    let successors = crate::ahead::successors(observation);
    if successors.len() > 1 {
        let (layer, states) = states.last();
        let (here, next): (Vec<usize>, Vec<usize>) = successors.into_iter().unzip();
        let weights = vec![1.0 / here.len() as f64; here.len()];
        found.push(cohere(
            [layer, layer],
            (states, &here),
            (states, &next),
            &weights,
            (deals, seed),
        ));
    }
    Ok(found)
}

fn cohere(
    layers: [usize; 2],
    (first, first_rows): (&RowMatrix<f32>, &[usize]),
    (second, second_rows): (&RowMatrix<f32>, &[usize]),
    weights: &[f64],
    (deals, seed): (usize, u64),
) -> Coherence {
    let take = |states: &RowMatrix<f32>, rows: &[usize]| {
        let rows = RowMatrix::from_fn(rows.len(), states.ncols(), |i, k| {
            f64::from(states.get(rows[i], k))
        });
        CentredKernel::new(centred(&rows, weights))
    };
    let a = take(first, first_rows);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut order = second_rows.to_vec();
    let cka = a.alignment(&take(second, &order));
    let dealt: Vec<f64> = (0..deals)
        .map(|_| {
            order.shuffle(&mut rng);
            a.alignment(&take(second, &order))
        })
        .collect();
    Coherence {
        layers,
        pairs: weights.len(),
        cka,
        shuffled: mean_and_deviation(&dealt).0,
    }
}
