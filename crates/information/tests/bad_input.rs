//! What cannot be computed says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_core::stoch::Divergence;
use lawvere_information::{
    HeadOptions, PairScores, SimilarityKernel, SimilarityOptions, Whose, draft_heads, fisher_rao,
    layer_metric, paths, predictive_distances, representation_divergence, similarity,
    spectral_alignment, step_moments, stochasticity, surplus_bounds, usable_surplus,
};
use lawvere_observe::{Kind, Observation, Positions, Rows};

fn observation() -> Observation {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/information");
    Observation::open(&folder.join("observation")).unwrap()
}

/// The same rows as positions: windows of two tokens, five rows a document.
fn positions() -> Observation {
    let mut observation = observation();
    let Rows::Contexts { tokens, order } = observation.contexts.clone() else {
        panic!("contexts");
    };
    let rows = observation.rows();
    observation.info.kind = Kind::Positions;
    observation.contexts = Rows::Positions(Positions {
        tokens,
        window_offsets: (0..=rows).map(|row| (row * order) as u64).collect(),
        window: (0..rows as u32).collect(),
        prefix_length: vec![order as u32; rows],
        document: (0..rows as u32).map(|row| row / 5).collect(),
        next: observation.counts.rows().map(|r| r.0[0]).collect(),
    });
    observation
}

#[track_caller]
fn says<T, E: std::fmt::Display>(result: Result<T, E>, words: &[&str]) {
    let Err(error) = result else {
        panic!("no error");
    };
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{text}: no `{word}`");
    }
}

const KL: [Divergence; 1] = [Divergence::KullbackLeibler];

#[test]
fn measures_of_the_datas_law_refuse_positions() {
    let positions = positions();
    says(stochasticity(&positions, &KL, None), &["kind contexts"]);
    says(predictive_distances(&positions, 10, 0), &["kind contexts"]);
    let options = SimilarityOptions::default();
    says(
        similarity(&positions, Whose::Data, &options),
        &["kind contexts"],
    );
    let none = &mut |_| {};
    says(
        spectral_alignment(&positions, None, 2, 0, none),
        &["kind contexts"],
    );
}

#[test]
fn heads_for_tokens_ahead_refuse_contexts_and_what_windows_do_not_show() {
    let options = HeadOptions::default();
    let fit = |o: &Observation, layers: &[usize], ahead: &[usize], options: &HeadOptions| {
        usable_surplus(o, layers, ahead, options, &mut |_, _| {}).map(|_| ())
    };
    says(
        fit(&observation(), &[], &[1], &options),
        &["kind positions"],
    );
    let positions = positions();
    says(
        fit(&positions, &[], &[0], &options),
        &["ahead: 0 is the next token"],
    );
    says(fit(&positions, &[], &[], &options), &["ahead: none"]);
    // Windows end with the token that is predicted.
    says(
        fit(&positions, &[], &[1], &options),
        &["ahead: 1", "too few windows", "0 positions"],
    );
    says(
        fit(&positions, &[7], &[1], &options),
        &["layer 7", "0, 1, 2"],
    );
    let all = HeadOptions {
        test: 0.9,
        ..options.clone()
    };
    says(fit(&positions, &[], &[1], &all), &["test: 0.9"]);
    let still = HeadOptions {
        learning_rate: f64::NAN,
        ..options.clone()
    };
    says(fit(&positions, &[], &[1], &still), &["learning-rate: NaN"]);
    says(
        draft_heads(&positions, None, 0, &options, &mut |_, _| {}),
        &["length: it must be at least 1"],
    );
}

#[test]
fn too_few_documents_or_contexts_say_how_many() {
    let mut few = positions();
    if let Rows::Positions(positions) = &mut few.contexts {
        positions.document.iter_mut().for_each(|d| *d /= 3);
    }
    let options = HeadOptions::default();
    says(
        usable_surplus(&few, &[], &[1], &options, &mut |_, _| {}),
        &["at least 8 documents", "there are 3"],
    );
    says(
        PairScores::new(&vec![vec![vec![-1.0]; 2]; 2]),
        &["at least 3 contexts", "there are 2"],
    );
    says(surplus_bounds(&[]), &["at least 1 groups"]);
    says(
        predictive_distances(&observation(), 1, 0),
        &["at least 2 contexts", "there are 1"],
    );
}

#[test]
fn scores_that_are_not_square_or_no_numbers_are_refused() {
    let table = |tokens: Vec<f64>| vec![vec![tokens; 3]; 3];
    assert!(PairScores::new(&table(vec![-1.0, -2.0])).is_ok());
    says(
        PairScores::new(&table(vec![])),
        &["tokens of a continuation"],
    );
    says(PairScores::new(&table(vec![f64::NAN])), &["NaN"]);
    let mut uneven = table(vec![-1.0]);
    uneven[1].pop();
    says(PairScores::new(&uneven), &["contexts of a continuation"]);
}

#[test]
fn divergences_that_tell_nothing_of_a_softmax_head_are_refused() {
    for (name, words) in [
        ("chi2", "V - 1"),
        ("reverse-kl", "infinite"),
        ("renyi:2", "below 2"),
        ("renyi:inf", "below 2"),
    ] {
        let divergence: Divergence = name.parse().unwrap();
        says(
            stochasticity(&observation(), &[divergence], None),
            &[name, words],
        );
    }
    says(stochasticity(&observation(), &[], None), &["none is given"]);
    says(
        "bregman".parse::<Divergence>(),
        &["bregman", "reverse-kl", "hellinger"],
    );
}

#[test]
fn sets_that_are_empty_overlap_or_do_not_exist_are_refused() {
    let observation = observation();
    let compare = |a: &[usize], b: &[usize]| {
        representation_divergence(&observation, a, b, &KL, None, 0).map(|_| ())
    };
    says(compare(&[], &[1]), &["a: the set is empty"]);
    says(compare(&[1], &[]), &["b: the set is empty"]);
    says(compare(&[0, 1, 2], &[4, 2]), &["shares row 2"]);
    says(compare(&[0], &[40]), &["row 40 does not exist", "0 to 39"]);
    says(
        representation_divergence(&observation, &[0], &[1], &KL, Some(9), 0),
        &["layer 9", "0, 1, 2"],
    );
}

#[test]
fn a_soft_cap_is_refused_where_a_formula_needs_a_linear_head() {
    let mut capped = observation();
    capped.head.as_mut().unwrap().soft_cap = Some(30.0);
    says(
        fisher_rao(&capped, 3),
        &["soft-cap", "mean Fisher-Rao metric"],
    );
    says(paths(&capped, 3, 0), &["soft-cap", "straight path"]);
    let head = capped.head.as_ref().unwrap().view();
    says(
        step_moments(head, &[0.0; 5], &[1.0; 5]),
        &["soft-cap", "third-order"],
    );
    // The bound is left out, the rest is not.
    let found = spectral_alignment(&capped, None, 2, 0, &mut |_| {}).unwrap();
    assert_eq!(found.surrogate, None);
    assert!(layer_metric(&capped, None, 5, 0).is_ok());
}

#[test]
fn layers_that_cannot_be_read_out_and_samples_of_nothing_are_refused() {
    let mut bare = observation();
    bare.head.as_mut().unwrap().norm = None;
    says(layer_metric(&bare, Some(1), 5, 0), &["needs the norm"]);
    says(layer_metric(&bare, Some(5), 5, 0), &["layer 5"]);
    says(layer_metric(&bare, None, 0, 0), &["spectra", "at least 1"]);
    let mut corpus = observation();
    corpus.states = None;
    says(layer_metric(&corpus, None, 5, 0), &["needs a model"]);
    says(stochasticity(&corpus, &KL, None), &["needs a model"]);
}

#[test]
fn kernels_of_similarity_are_known_by_name_and_need_a_beta_above_zero() {
    says(
        "cosine".parse::<SimilarityKernel>(),
        &["cosine", "bhattacharyya", "exp-jensen-shannon"],
    );
    says("hellinger:0".parse::<SimilarityKernel>(), &["beta: 0"]);
    says(
        "bhattacharyya:2".parse::<SimilarityKernel>(),
        &["not known"],
    );
    assert_eq!(
        "hellinger:2.5".parse::<SimilarityKernel>().unwrap(),
        SimilarityKernel::Hellinger(2.5)
    );
    let options = SimilarityOptions {
        rank: 0,
        ..SimilarityOptions::default()
    };
    says(
        similarity(&observation(), Whose::Data, &options),
        &["rank", "at least 1"],
    );
}

#[test]
fn an_untrained_observation_of_other_contexts_is_refused() {
    let (here, mut other) = (observation(), observation());
    if let Rows::Contexts { tokens, .. } = &mut other.contexts {
        tokens.swap(0, 1);
    }
    says(
        spectral_alignment(&here, Some(&other), 2, 0, &mut |_| {}),
        &["untrained", "contexts"],
    );
}

#[test]
fn an_outcome_that_the_model_makes_impossible_is_named() {
    let mut impossible = observation();
    let head = impossible.head.as_mut().unwrap();
    head.bias = Some(vec![0.0; 24]);
    head.bias.as_mut().unwrap()[impossible.counts.indices()[0] as usize] = f32::NEG_INFINITY;
    says(
        predictive_distances(&impossible, 10, 0),
        &["infinite", "probability 0"],
    );
}

#[test]
fn two_contexts_are_enough_for_similarity_and_alignment() {
    let mut few = observation();
    let rows = [0usize, 1];
    if let Rows::Contexts { tokens, .. } = &mut few.contexts {
        tokens.truncate(4);
    }
    let mut counts = lawvere_core::SparseRows::new(few.counts.ncols());
    for row in rows {
        let (tokens, values) = few.counts.row(row);
        counts
            .push_row(tokens.iter().copied().zip(values.iter().copied()))
            .unwrap();
    }
    few.counts = counts;
    few.weights = vec![0.5; 2];
    few.blocks = None;
    let states = few.states.as_ref().unwrap();
    let cut = states.layers().map(|(layer, m)| {
        let first = lawvere_core::RowMatrix::from_fn(2, m.ncols(), |i, k| m.get(i, k));
        (layer, first)
    });
    few.states = Some(lawvere_observe::States::new(cut.collect()).unwrap());
    for whose in [Whose::Data, Whose::Model] {
        let found = similarity(&few, whose, &SimilarityOptions::default()).unwrap();
        assert_eq!(found.spectrum.contexts, 2);
        let (values, trace) = (&found.spectrum.eigenvalues, found.spectrum.trace);
        assert!((values.iter().sum::<f64>() - trace).abs() < 1e-9);
    }
    // One direction of states and one of prototypes: they can only be the same.
    let found = spectral_alignment(&few, None, 3, 0, &mut |_| {}).unwrap();
    for layer in &found.layers {
        assert!(
            (layer.alignment - 1.0).abs() < 1e-9 && layer.rank == 1,
            "{layer:?}"
        );
        assert!(layer.shuffled.is_finite() && layer.shuffled_expected.is_finite());
    }
}
