//! Estimates of the information lens held against exact values of the built-in language.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lawvere::core::{RowMatrix, SparseRows};
use lawvere::information::{
    PairScores, corrected_entropy, cross_entropy, difference_errors, exact_surplus, likelihood,
    surplus_bounds,
};
use lawvere::observation::{ContextPlan, Head, Layers, Observation, Observer, States};
use lawvere::text::{Corpus, Grammar, Language, Reading, TextSpace};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const TINY: &str = "
rule animal:
  3 cat
  1 dog
rule walk:
  1 the <animal> ran away
  2 the <animal> ran home
rule sleep:
  1 the <animal> slept
  2 the <animal> slept well
rule story:
  3 <walk>
  2 <sleep>
  1 <sleep> <walk>
";

fn tiny() -> Language {
    Language::from_grammar(&Grammar::parse(TINY).unwrap()).unwrap()
}

/// The joint laws of `length` symbols from a state on.
fn futures(language: &Language, state: usize, length: usize) -> Vec<(Vec<u32>, f64)> {
    let mut paths = vec![(Vec::new(), 1.0, state)];
    for _ in 0..length {
        let mut longer = Vec::new();
        for (tokens, p, state) in paths {
            let (symbols, probabilities, targets) = language.law_of_state(state).unwrap();
            for ((&symbol, q), &target) in symbols.iter().zip(probabilities).zip(targets) {
                let tokens: Vec<u32> = [&tokens[..], &[symbol]].concat();
                longer.push((tokens, p * q, target as usize));
            }
        }
        paths = longer;
    }
    paths
        .into_iter()
        .map(|(tokens, p, _)| (tokens, p))
        .collect()
}

#[test]
fn information_ahead_by_recursion_is_that_of_enumeration() {
    let language = tiny();
    let all: Vec<_> = (0..language.state_count())
        .map(|state| futures(&language, state, 5))
        .collect();
    let found = exact_surplus(language.stationary(), &all).unwrap();
    let block = language.block_information(5).unwrap();
    let single = language.token_information(4);
    for k in 0..5 {
        assert!((found.block[k] - block[k]).abs() < 1e-9);
        assert!((block[k] - (block[0] + found.surplus[k])).abs() < 1e-9);
    }
    for (a, b) in found.single.iter().zip(&single) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }
}

/// A state of the stationary law.
fn drawn(language: &Language, rng: &mut StdRng) -> usize {
    let mut left: f64 = rng.random();
    let found = language.stationary().iter().position(|p| {
        left -= p;
        left < 0.0
    });
    found.unwrap_or(0)
}

/// Symbols drawn from a state on.
fn told(language: &Language, mut state: usize, length: usize, rng: &mut StdRng) -> Vec<u32> {
    let mut tokens = Vec::new();
    while tokens.len() < length {
        let (symbols, probabilities, targets) = language.law_of_state(state).unwrap();
        let mut left: f64 = rng.random();
        let last = symbols.len() - 1;
        let k = probabilities.iter().position(|p| {
            left -= p;
            left < 0.0
        });
        tokens.push(symbols[k.unwrap_or(last)]);
        state = targets[k.unwrap_or(last)] as usize;
    }
    tokens
}

/// `log p` of every symbol from a state on.
fn scored(language: &Language, mut state: usize, tokens: &[u32]) -> Vec<f64> {
    let mut scores = Vec::new();
    for token in tokens {
        let (symbols, probabilities, targets) = language.law_of_state(state).unwrap();
        let Ok(k) = symbols.binary_search(token) else {
            scores.resize(tokens.len(), f64::NEG_INFINITY);
            break;
        };
        scores.push(probabilities[k].ln());
        state = targets[k] as usize;
    }
    scores
}

fn group(language: &Language, contexts: usize, length: usize, rng: &mut StdRng) -> PairScores {
    let states: Vec<usize> = (0..contexts).map(|_| drawn(language, rng)).collect();
    let table: Vec<Vec<Vec<f64>>> = states
        .iter()
        .map(|&state| {
            let tokens = told(language, state, length, rng);
            states
                .iter()
                .map(|&other| scored(language, other, &tokens))
                .collect()
        })
        .collect();
    PairScores::new(&table).unwrap()
}

#[test]
fn bounds_bracket_the_exact_surplus_over_fifty_seeds() {
    let language = tiny();
    let exact = language.block_information(4).unwrap();
    let (mut low, mut high, mut means) = (0, 0, [0.0; 2]);
    for seed in 0..50 {
        let mut rng = StdRng::seed_from_u64(seed);
        let groups: Vec<PairScores> = (0..2).map(|_| group(&language, 256, 4, &mut rng)).collect();
        let found = surplus_bounds(&groups).unwrap();
        let last = found.blocks[3];
        let surplus = exact[3] - exact[0];
        low += usize::from(last.surplus_lower - 2.0 * last.surplus_lower_error <= surplus);
        high += usize::from(last.surplus_upper + 2.0 * last.surplus_upper_error >= surplus);
        means[0] += last.surplus_lower / 50.0;
        means[1] += last.surplus_upper / 50.0;
        assert!(last.lower <= found.ceiling);
    }
    // One-sided intervals of two standard errors fail in 2.3 of 100.
    assert!(low >= 46 && high >= 46, "{low} {high} of 50");
    let surplus = exact[3] - exact[0];
    assert!(
        means[0] <= surplus + 0.002 && surplus <= means[1] + 0.002,
        "{means:?} {surplus}"
    );
    // They are bounds worth having: on average they say the surplus to a tenth of itself.
    assert!(means[1] - means[0] < 0.1 * surplus, "{means:?} {surplus}");
}

#[test]
fn few_contexts_saturate_and_say_so() {
    let language = Language::stories(100).unwrap();
    let exact = language.block_information(3).unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    let groups: Vec<PairScores> = (0..4).map(|_| group(&language, 16, 3, &mut rng)).collect();
    let found = surplus_bounds(&groups).unwrap();
    for (block, exact) in found.blocks.iter().zip(&exact) {
        assert!(block.lower - 3.0 * block.lower_error <= *exact);
        assert!(block.upper + 3.0 * block.upper_error >= *exact);
    }
    // Three words of a story tell sixteen contexts apart.
    assert!(found.blocks[2].saturated && exact[2] > found.ceiling);
}

fn space(language: &Language, seed: u64, stories: usize) -> TextSpace {
    let documents = language.documents(seed, stories);
    let texts: Vec<String> = documents.iter().map(|d| language.text(d)).collect();
    let corpus = Corpus::from_documents(texts.iter().map(String::as_str)).unwrap();
    TextSpace::build(&corpus, &language.tokenizer().unwrap(), &mut |_| {}).unwrap()
}

#[test]
fn intervals_for_the_loss_of_running_text_cover_the_entropy_rate() {
    let language = Language::stories(100).unwrap();
    let mut covered = 0;
    for seed in 0..50 {
        let clusters: Vec<(f64, usize)> = language
            .documents(seed, 120)
            .into_iter()
            .map(|mut story| {
                story.push(language.vocab_size() as u32);
                let loss: f64 = scored(&language, 0, &story).iter().map(|l| -l).sum();
                (loss, story.len())
            })
            .collect();
        let (mean, error) = lawvere::core::ratio_of_sums(clusters.into_iter());
        covered += usize::from((mean - language.entropy_rate()).abs() <= 2.0 * error);
    }
    assert!((43..=50).contains(&covered), "{covered} of 50");
}

/// Contexts of two tokens with a random model's states and head.
fn modelled(space: &TextSpace, seed: u64) -> Observation {
    const D: usize = 6;
    let plan = ContextPlan {
        order: 2,
        min_count: 5,
        top: Some(150),
        document_end: None,
    };
    let draft = Observer::new(space, None, &Layers::Last).unwrap();
    let draft = draft.contexts(&plan).unwrap();
    let mut observation = Observation::of_corpus(&draft, space);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut normal = |scale: f32| {
        let sum: f32 = (0..6).map(|_| rng.random::<f32>() - 0.5).sum();
        scale * sum
    };
    let outcomes = observation.counts.ncols();
    let weight = RowMatrix::from_fn(outcomes, D, |_, _| normal(0.6));
    observation.head = Some(Head {
        weight,
        bias: None,
        soft_cap: None,
        norm: None,
    });
    let states = RowMatrix::from_fn(observation.rows(), D, |_, _| normal(1.0));
    observation.states = Some(States::new(vec![(1, states)]).unwrap());
    observation
}

fn exact(language: &Language, observation: &Observation) -> Observation {
    let laws = language
        .kernel(Reading::LastTokens)
        .laws(&observation.context_batch().unwrap())
        .unwrap();
    let laws = SparseRows::from_parts(
        observation.counts.ncols(),
        laws.indptr().to_vec(),
        laws.indices().to_vec(),
        laws.values().to_vec(),
    );
    observation.with_laws(laws.unwrap()).unwrap()
}

#[test]
fn intervals_for_contexts_cover_the_exact_values_over_fifty_seeds() {
    let language = Language::stories(100).unwrap();
    let (mut ce, mut corrected, mut plain) = (0, 0, 0);
    for seed in 0..50 {
        let observation = modelled(&space(&language, seed, 400), seed);
        let truth = exact(&language, &observation);
        let found = likelihood(&observation, seed).unwrap();
        let exact = likelihood(&truth, seed).unwrap();
        assert!((exact.cross_entropy - cross_entropy(&truth).unwrap()).abs() < 1e-9);
        let errors = difference_errors(&observation, &exact, seed)
            .unwrap()
            .unwrap();
        let within = |a: f64, b: f64, error: f64| usize::from((a - b).abs() <= 2.0 * error);
        ce += within(
            found.cross_entropy,
            exact.cross_entropy,
            errors.cross_entropy,
        );
        plain += within(found.entropy, exact.entropy, errors.entropy);
        let entropy = corrected_entropy(&observation).unwrap();
        corrected += within(entropy, exact.entropy, errors.entropy_corrected);
        assert!((corrected_entropy(&truth).unwrap() - exact.entropy).abs() < 1e-9);
    }
    assert!((43..=50).contains(&ce), "cross-entropy: {ce} of 50");
    // The plug-in entropy is biased low by more than its error; the jackknife takes that away.
    assert!(
        (43..=50).contains(&corrected),
        "corrected entropy: {corrected} of 50"
    );
    assert!(plain < 25, "plug-in entropy: {plain} of 50");
}
