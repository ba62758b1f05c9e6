use lawvere_metric::{Boltzmann, Estimate};
use lawvere_report::{
    BeginningPair, Beginnings, SpacesPage, TextTree, TextsWithin, TreePart, TreeText,
};

use super::{HOSTILE, Noise, WORDS};

/// Small spaces, some texts of which no corpus should hold.
pub fn spaces(noise: &mut Noise) -> SpacesPage {
    SpacesPage {
        tree: Some(tree(noise)),
        within: Some(within()),
        beginnings: Some(beginnings(noise)),
    }
}

fn name(k: usize) -> String {
    match k {
        0..10 => WORDS[k].into(),
        _ => HOSTILE[k % HOSTILE.len()].into(),
    }
}

fn tree(noise: &mut Noise) -> TextTree {
    let mut texts: Vec<TreeText> = vec![TreeText {
        text: "the".into(),
        last: "the".into(),
        count: 10_000,
        parent: None,
        corpus: 0.0,
        model: 0.0,
        at_once: 0.01,
        reached: 0.08,
    }];
    for k in 1..24 {
        let parent = (k - 1) / 3;
        let above = texts[parent].clone();
        let count = (above.count / 4).max(1) + k as u64;
        let corpus = above.corpus + (above.count as f64 / count as f64).ln();
        texts.push(TreeText {
            text: format!("{} {}", above.text, name(k)),
            last: name(k),
            count,
            parent: Some(parent),
            corpus,
            model: match k {
                22 => f64::INFINITY,
                _ => (corpus + 0.4 * noise.bell()).max(0.01),
            },
            at_once: 0.2,
            reached: 0.25,
        });
    }
    // One part in the other, the smallest along one branch.
    let parts = [(0.01, 24), (0.02, 13), (0.05, 2)].map(|(weight, size)| TreePart {
        weight,
        texts: (0..size).collect(),
    });
    TextTree {
        texts,
        target: (7, HOSTILE[0].into()),
        parts: parts.into(),
    }
}

/// All within four tokens that occur 800, 400, 200 and 100 times.
fn within() -> TextsWithin {
    let words = ["once", HOSTILE[2], HOSTILE[3], "time"];
    let counts = [800, 400, 200, 100];
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for size in 1..=4 {
        spans.extend((0..=4 - size).map(|from| (from, from + size)));
    }
    let count = |&(from, to): &(usize, usize)| counts[to - 1] / (to - from) as u64;
    let distance = |a: &(usize, usize), b: &(usize, usize)| match b.0 <= a.0 && a.1 <= b.1 {
        true => (count(a) as f64 / count(b) as f64).ln().max(0.0),
        false => f64::INFINITY,
    };
    let boltzmann = |t: f64| {
        let weights = counts.map(|c| (c as f64).powf(-1.0 / t));
        let total: f64 = weights.iter().sum();
        Boltzmann {
            temperature: t,
            weights: weights.iter().map(|w| w / total).collect(),
            vector: vec![0.0; spans.len()],
            largest_error: 0.0,
            mean_error: 0.0,
            finite: 4,
            only_in_image: 6,
        }
    };
    TextsWithin {
        texts: spans.iter().map(|&(a, b)| words[a..b].join(" ")).collect(),
        counts: spans.iter().map(count).collect(),
        distances: spans
            .iter()
            .map(|a| spans.iter().map(|b| distance(a, b)).collect())
            .collect(),
        words: (0..4).collect(),
        temperatures: [0.25, 1.0, 16.0].map(boltzmann).into(),
    }
}

fn beginnings(noise: &mut Noise) -> Beginnings {
    let texts: Vec<String> = (0..5)
        .map(|k| format!("and {} went", name(k * 3)))
        .collect();
    let estimate = |value: f64, error: f64| Estimate {
        value,
        error: Some(error),
    };
    let mut pairs = Vec::new();
    for first in 0..texts.len() {
        for second in first + 1..texts.len() {
            let value = if (first, second) == (1, 3) {
                0.5
            } else {
                2.0 + noise.next()
            };
            pairs.push(BeginningPair {
                first,
                second,
                forward: estimate(value, 0.1),
                back: estimate(value + 0.4, 0.2),
                direction: estimate(-0.4, if first == 0 { 0.1 } else { 0.3 }),
                trajectory: estimate(0.3, 0.02),
            });
        }
    }
    Beginnings {
        texts,
        samples: 32,
        tokens: 12,
        pairs,
    }
}
