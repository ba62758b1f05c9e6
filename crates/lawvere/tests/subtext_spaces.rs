//! The order of subtexts of a real corpus: a language model with the logarithm of counts as its potential.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use lawvere::core::linalg::spearman;
use lawvere::metric::{Space, subtext_covers, yoneda_isometry};
use lawvere::text::{ContextOptions, Corpus, TextSpace};
use lawvere::token::Tokenizer;

/// The most frequent texts of up to four words of the King James Bible.
fn cut() -> (Space, Vec<u64>, Vec<Vec<u32>>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sample/king-james.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let corpus = Corpus::from_documents(text.lines().take(12_000)).unwrap();
    let words = Tokenizer::words(corpus.documents()).unwrap();
    let space = TextSpace::build(&corpus, &words, &mut |_| {}).unwrap();
    let options = ContextOptions {
        top: Some(75),
        blocks: None,
        ..ContextOptions::default()
    };
    let mut texts: Vec<Vec<u32>> = Vec::new();
    for order in 1..=4 {
        let table = space.contexts(order, 1, &options).unwrap();
        texts.extend((0..table.len()).map(|i| table.context(i).to_vec()));
    }
    let counts = space.count_batch(&texts);
    let names = texts.iter().map(|t| words.decode(t).unwrap()).collect();
    let covers = subtext_covers(&texts);
    let steps = covers.iter().enumerate().flat_map(|(j, below)| {
        let step = |&i: &usize| (i, j, (counts[i] as f64 / counts[j] as f64).ln());
        below.iter().map(step).collect::<Vec<_>>()
    });
    let steps: Vec<_> = steps.collect();
    // Distances are those that the index itself gives.
    for &(i, j, distance) in &steps {
        let wanted = space.distance(&texts[i], &texts[j]).unwrap();
        assert!((distance - wanted).abs() < 1e-12);
    }
    (Space::from_steps(names, &steps).unwrap(), counts, texts)
}

#[test]
fn the_texts_of_a_corpus_are_a_language_model_whose_potential_is_their_counts() {
    let (space, counts, texts) = cut();
    let n = space.len();
    assert_eq!(n, 300);
    assert!(space.breach().is_none());
    assert!(space.covers().count() > 200);
    assert!(yoneda_isometry(space.distances()).unwrap().holds(1e-9));
    for i in 0..n {
        for j in 0..n {
            let part = i == j || texts[j].windows(texts[i].len()).any(|w| w == texts[i]);
            let wanted = match part {
                true => (counts[i] as f64 / counts[j] as f64).ln(),
                false => f64::INFINITY,
            };
            let d = space.d(i, j);
            assert!(
                d == wanted || (d - wanted).abs() < 1e-9,
                "{i} {j}: {d} {wanted}"
            );
        }
    }
    let potential = space.potential("the test").unwrap();
    for (i, j) in space.covers() {
        let wanted = (counts[i] as f64 / counts[j] as f64).ln();
        assert!((potential[j] - potential[i] - wanted).abs() < 1e-9);
    }
    let by_covers = space.yoneda_from_covers().unwrap();
    let pairs = by_covers
        .entries()
        .data()
        .iter()
        .zip(space.distances().entries().data());
    assert!(
        pairs
            .into_iter()
            .all(|(a, b)| a == b || (a - b).abs() < 1e-9)
    );

    // A text out of its parts: weights fall with the distance.
    let long = (0..n)
        .filter(|&i| texts[i].len() == 4)
        .max_by_key(|&i| counts[i])
        .unwrap();
    let parts: Vec<usize> = (0..n).filter(|&i| space.extends(i, long)).collect();
    assert!(parts.len() >= 4);
    let soft = space.boltzmann(long, &parts, 1.0).unwrap();
    let distances: Vec<f64> = parts.iter().map(|&i| space.d(i, long)).collect();
    assert!((spearman(&soft.weights, &distances) + 1.0).abs() < 1e-9);

    // The completion by the definition and by cuts, of what two texts have in common.
    for (a, b) in [(0, 1), (long, parts[0]), (long, 5)] {
        let mut x = vec![f64::INFINITY; n];
        (x[a], x[b]) = (0.0, 1.0);
        let slow = space.complete(&x).unwrap();
        let fast = space.complete_by_cuts(&x, &potential).unwrap();
        let pairs = slow.completion.iter().zip(&fast.completion);
        assert!(
            pairs
                .into_iter()
                .all(|(a, b)| a == b || (a - b).abs() < 1e-9)
        );
    }
    let z: Vec<f64> = space
        .project(&vec![0.0; n])
        .unwrap()
        .below
        .iter()
        .map(|x| (-x).exp())
        .collect();
    let found = space.decompose(&z).unwrap();
    assert!(found.parts.len() <= n);
    assert!(
        found
            .point()
            .iter()
            .zip(&z)
            .all(|(a, b)| (a - b).abs() < 1e-9)
    );
}
