//! Heads for tokens ahead on texts whose information is known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lawvere_core::{RowMatrix, SparseRows, stoch};
use lawvere_information::{HeadOptions, UsableSurplus, draft_heads, usable_surplus};
use lawvere_observe::{Head, Info, Kind, Observation, Positions, Rows, States};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

const V: usize = 8;
const D: usize = 6;
const DOCUMENTS: usize = 120;
const LENGTH: usize = 40;

/// What the state of a position is.
#[derive(Clone, Copy, PartialEq)]
enum Shown {
    /// Which half of the vocabulary the document keeps to, and noise.
    Half,
    /// The same for every position.
    Nothing,
    /// Another position's.
    Dealt,
}

/// The law of a token in documents of a half: 7 in half of all cases, else one of three tokens of the half
/// (nine of ten times) or of the other.
fn law(half: usize) -> [f64; V] {
    let mut law = [0.0; V];
    law[7] = 0.5;
    for (token, p) in law.iter_mut().enumerate().take(6) {
        *p = if token / 3 == half {
            0.45 / 3.0
        } else {
            0.05 / 3.0
        };
    }
    law
}

/// Documents draw every token anew from the law of their half.
fn observation(shown: Shown, seed: u64) -> Observation {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut positions = Positions {
        window_offsets: vec![0],
        ..Positions::default()
    };
    let mut halves = Vec::new();
    for document in 0..DOCUMENTS {
        let half = usize::from(rng.random::<bool>());
        let token = |rng: &mut StdRng| {
            let mut left: f64 = rng.random();
            let found = law(half).iter().position(|p| {
                left -= p;
                left < 0.0
            });
            found.unwrap_or(7) as u32
        };
        let tokens: Vec<u32> = (0..LENGTH).map(|_| token(&mut rng)).collect();
        for (at, &next) in tokens.iter().enumerate().skip(1) {
            positions.window.push(document as u32);
            positions.document.push(document as u32);
            positions.prefix_length.push(at as u32);
            positions.next.push(next);
            halves.push(half as u32);
        }
        positions.tokens.extend(&tokens[..LENGTH - 1]);
        positions.window_offsets.push(positions.tokens.len() as u64);
    }
    let rows = halves.len();
    if shown == Shown::Dealt {
        halves.shuffle(&mut rng);
    }
    let states = RowMatrix::from_fn(rows, D, |row, k| match (shown, k) {
        (Shown::Nothing, _) => 1.0,
        (_, 0) => halves[row] as f32 * 2.0 - 1.0,
        _ => rng.random::<f32>() - 0.5,
    });
    let weight = RowMatrix::from_fn(V, D, |_, _| rng.random::<f32>() - 0.5);
    let mut counts = SparseRows::new(V + 1);
    for &next in &positions.next {
        counts.push_row([(next, 1)]).unwrap();
    }
    let info = serde_json::json!({
        "schema": Info::SCHEMA, "kind": "positions", "vocab_size": V, "document_end": "dropped", "files": {},
    });
    let mut observation = Observation::open(
        &std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fixtures/information/observation"),
    )
    .unwrap();
    observation.info = serde_json::from_value(info).unwrap();
    assert_eq!(observation.info.kind, Kind::Positions);
    observation.contexts = Rows::Positions(positions);
    observation.counts = counts;
    observation.weights = vec![1.0 / rows as f64; rows];
    observation.blocks = None;
    observation.states = Some(States::new(vec![(0, states)]).unwrap());
    observation.head = Some(Head {
        weight,
        bias: None,
        soft_cap: None,
        norm: None,
    });
    observation
}

fn entropy(law: [f64; V]) -> f64 {
    stoch::entropy(law)
}

fn options(seed: u64) -> HeadOptions {
    HeadOptions {
        outcomes: V,
        batch: 64,
        seed,
        ..HeadOptions::default()
    }
}

fn gains(shown: Shown, seed: u64) -> Vec<UsableSurplus> {
    let observation = observation(shown, seed);
    usable_surplus(&observation, &[], &[1, 2], &options(seed), &mut |_, _| {})
        .unwrap()
        .readings
}

/// I(half; W_{t+k} | W_t) = H(W_{t+k} | W_t) - H(W_{t+k} | half), by enumeration.
fn exact() -> f64 {
    let laws = [law(0), law(1)];
    let given_half = (entropy(laws[0]) + entropy(laws[1])) / 2.0;
    let given_token = (0..V).map(|w| {
        let weights = [laws[0][w] / 2.0, laws[1][w] / 2.0];
        let p = weights[0] + weights[1];
        let mixed = |t: usize| (weights[0] * laws[0][t] + weights[1] * laws[1][t]) / p;
        match p > 0.0 {
            true => p * entropy(std::array::from_fn(mixed)),
            false => 0.0,
        }
    });
    given_token.sum::<f64>() - given_half
}

#[test]
fn a_state_that_tells_nothing_gains_exactly_nothing() {
    for reading in gains(Shown::Nothing, 1) {
        assert_eq!(reading.gain, 0.0, "{reading:?}");
    }
}

#[test]
fn states_dealt_at_random_gain_nothing_beyond_chance() {
    for seed in 0..6 {
        for reading in gains(Shown::Dealt, seed) {
            assert!(reading.gain <= 3.0 * reading.error + 1e-3, "{reading:?}");
        }
    }
}

#[test]
fn gains_come_near_the_exact_information_and_never_above_it_over_ten_seeds() {
    let mut total = 0.0;
    for seed in 0..10 {
        for reading in gains(Shown::Half, seed) {
            assert!(reading.converged, "{reading:?}");
            assert!(reading.gain <= exact() + 3.0 * reading.error, "{reading:?}");
            assert!(reading.gain >= 0.6 * exact(), "{reading:?} {}", exact());
            total += reading.gain / 20.0;
        }
    }
    // What a head does not learn from so few documents is missing.
    assert!(
        total > 0.8 * exact() && total < 1.05 * exact(),
        "{total} {}",
        exact()
    );
}

#[test]
fn draft_heads_give_laws_over_the_tokens_they_tell_apart() {
    let observation = observation(Shown::Half, 3);
    let heads = draft_heads(&observation, None, 2, &options(3), &mut |_, _| {}).unwrap();
    assert_eq!(heads.length(), 2);
    let (_, states) = observation.states.as_ref().unwrap().last();
    let few = RowMatrix::from_fn(5, D, |i, k| states.get(i, k));
    let laws = heads.laws(&few, &[7, 7, 0, 1, 2]).unwrap();
    for law in &laws {
        assert_eq!((law.nrows(), law.ncols()), (5, heads.tokens.len()));
        for row in law.rows() {
            let total: f32 = row.iter().sum();
            assert!((total - 1.0).abs() < 1e-5 && row.iter().all(|p| *p >= 0.0));
        }
    }
    // Half of all tokens are 7.
    let seven = heads.tokens.iter().position(|&t| t == 7).unwrap();
    assert!((laws[0].get(0, seven) - 0.5).abs() < 0.1);
    let held: std::collections::BTreeSet<u32> = heads.held_out.iter().copied().collect();
    assert_eq!(held.len(), 30);
    assert!(heads.laws(&few, &[7, 7, 0, 1]).is_err());
    assert!(heads.laws(&few, &[7, 7, 0, 1, 99]).is_err());
}

#[test]
fn a_learning_rate_at_which_losses_only_rise_is_an_error_and_no_gain_of_nothing() {
    let observation = observation(Shown::Half, 1);
    let wild = HeadOptions {
        learning_rate: 1e9,
        ..options(1)
    };
    let found = usable_surplus(&observation, &[], &[1], &wild, &mut |_, _| {});
    let error = found.unwrap_err().to_string();
    assert!(
        error.contains("learning-rate: 1000000000") && error.contains("rises"),
        "{error}"
    );
}
