//! Supports under fewer occurrences, against what is to be expected exactly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_geometry::{
    Estimate, GeometryError, Growth, GrowthOptions, GrowthUnit, Supports, growth,
};
use lawvere_observe::{ContextPlan, Layers, Observation, Observer};
use lawvere_text::{Corpus, Language, TextSpace};

/// Contexts of stories: documents in blocks.
fn stories(count: usize) -> Observation {
    let language = Language::stories(120).unwrap();
    let documents = language.documents(1, count);
    let texts: Vec<String> = documents.iter().map(|d| language.text(d)).collect();
    let corpus = Corpus::from_documents(texts.iter().map(String::as_str)).unwrap();
    let space = TextSpace::build(&corpus, &language.tokenizer().unwrap(), &mut |_| {}).unwrap();
    let plan = ContextPlan {
        order: 2,
        min_count: 1,
        top: Some(80),
        document_end: None,
    };
    let observer = Observer::new(&space, None, &Layers::Last).unwrap();
    Observation::of_corpus(&observer.contexts(&plan).unwrap(), &space)
}

/// Contexts without documents.
fn fixture() -> Observation {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/measures");
    Observation::open(&folder.join("observation")).unwrap()
}

fn grown(observation: &Observation, draws: usize) -> Growth {
    let options = GrowthOptions {
        draws,
        seed: 3,
        ..GrowthOptions::default()
    };
    growth(observation, &options).unwrap()
}

/// Within four standard errors of the mean of the draws.
fn expect(found: Estimate, expected: f64, draws: usize) {
    let error = found.deviation / (draws as f64).sqrt();
    assert!(
        (found.mean - expected).abs() <= 4.0 * error + 1e-9,
        "{found:?} should be {expected}"
    );
}

#[test]
fn the_whole_is_the_observation_itself() {
    for observation in [stories(300), fixture()] {
        let supports = Supports::new(&observation).unwrap();
        let summary = supports.summary(&observation, 0);
        let growth = grown(&observation, 2);
        let whole = growth.points.last().unwrap();
        assert_eq!((whole.fraction, whole.draws), (1.0, 1));
        let figures = [
            (whole.samples, summary.samples as f64),
            (whole.contexts, summary.contexts as f64),
            (whole.vocabulary, summary.vocabulary as f64),
            (whole.entries, summary.entries as f64),
            (whole.mean_support, summary.mean_support),
            (whole.classes, summary.classes as f64),
        ];
        for (found, expected) in figures {
            assert_eq!((found.mean, found.deviation), (expected, 0.0));
        }
        assert!((whole.entropy.mean - summary.entropy).abs() < 1e-12);
    }
}

#[test]
fn more_occurrences_show_more() {
    for observation in [stories(300), fixture()] {
        let growth = grown(&observation, 4);
        for pair in growth.points.windows(2) {
            for of in [
                |p: &lawvere_geometry::GrowthPoint| p.samples.mean,
                |p| p.contexts.mean,
                |p| p.vocabulary.mean,
                |p| p.entries.mean,
            ] {
                assert!(of(&pair[0]) <= of(&pair[1]), "{pair:?}");
            }
            assert!(pair[0].entries.mean < pair[1].entries.mean);
        }
    }
}

#[test]
fn thinned_occurrences_show_as_many_entries_as_they_should() {
    let observation = fixture();
    let draws = 400;
    let growth = grown(&observation, draws);
    assert_eq!(growth.unit, GrowthUnit::Occurrences);
    assert_eq!(growth.units, observation.samples());
    for point in growth.points.iter().filter(|p| p.fraction < 1.0) {
        let seen = |n: u64| 1.0 - (1.0 - point.fraction).powi(n as i32);
        let entries = observation.counts.values().iter().map(|&n| seen(n)).sum();
        expect(point.entries, entries, draws);
        let rows = observation.counts.rows();
        let contexts = rows.map(|(_, own)| seen(own.iter().sum())).sum();
        expect(point.contexts, contexts, draws);
        let samples = point.fraction * observation.samples() as f64;
        expect(point.samples, samples, draws);
    }
}

#[test]
fn drawn_blocks_show_as_many_entries_as_they_should() {
    let observation = stories(300);
    let split = observation.blocks.as_ref().unwrap();
    let draws = 400;
    let growth = grown(&observation, draws);
    assert_eq!(growth.unit, GrowthUnit::Blocks);
    assert_eq!(growth.units, split.blocks() as u64);
    for point in growth.points.iter().filter(|p| p.fraction < 1.0) {
        let all = split.blocks();
        let taken = (point.fraction * all as f64).round() as usize;
        // An entry stays unseen if every block drawn is one without it.
        let unseen = |with: usize| -> f64 {
            let without = all - with;
            (0..taken)
                .map(|i| without.saturating_sub(i) as f64 / (all - i) as f64)
                .product()
        };
        let parts = split.indptr.windows(2).map(|w| (w[1] - w[0]) as usize);
        expect(point.entries, parts.map(|n| 1.0 - unseen(n)).sum(), draws);
    }
}

#[test]
fn the_seed_decides_what_is_drawn() {
    let observation = stories(300);
    assert_eq!(grown(&observation, 3), grown(&observation, 3));
    let other = GrowthOptions {
        draws: 3,
        seed: 4,
        ..GrowthOptions::default()
    };
    assert_ne!(
        grown(&observation, 3),
        growth(&observation, &other).unwrap()
    );
}

#[test]
fn what_is_no_fraction_is_refused() {
    let observation = fixture();
    for bad in [0.0, -0.5, 1.5, f64::NAN] {
        let options = GrowthOptions {
            fractions: vec![0.5, bad],
            ..GrowthOptions::default()
        };
        let error = growth(&observation, &options).unwrap_err();
        assert!(matches!(
            error,
            GeometryError::Argument {
                what: "fractions",
                ..
            }
        ));
    }
    let options = GrowthOptions {
        draws: 0,
        ..GrowthOptions::default()
    };
    let error = growth(&observation, &options).unwrap_err();
    assert!(matches!(
        error,
        GeometryError::Argument { what: "draws", .. }
    ));
}
