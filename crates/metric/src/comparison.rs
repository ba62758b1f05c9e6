use serde::Serialize;

use crate::{MetricError, PrefixForest};

/// Two texts, one a prefix of the other, and their distance in both spaces.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pair {
    /// The prefix.
    pub from: usize,
    /// Its extension.
    pub to: usize,
    /// `-log Pr(to|from)` in the first space (the corpus), nats.
    pub corpus: f64,
    /// The same in the second space (the model), nats.
    pub model: f64,
    /// The standard error of `corpus` from its counts.
    pub corpus_error: f64,
}

/// How two directed metrics on the same texts differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// All pairs of a text and a proper prefix of it.
    pub pairs: Vec<Pair>,
    /// Mean of model minus corpus over one-step pairs, nats: positive where the model finds the
    /// corpus's continuations less likely than they are.
    pub mean_excess: f64,
    /// Mean of the absolute difference over one-step pairs, nats.
    pub mean_absolute: f64,
    /// Spearman's rank correlation of the two distances over one-step pairs.
    pub rank_correlation: f64,
    /// One-step pairs.
    pub edges: usize,
    /// One-step pairs whose corpus distance has an error: the corpus showed more than one way on.
    pub uncertain: usize,
    /// How many of those have a model distance within two standard errors of the corpus's.
    pub within_two_errors: usize,
}

/// Compares corpus and model distances on the same forest; `counts[i]` is how often text i occurs
/// in the corpus, from which the corpus's standard errors come: that of `-log(k/n)` is
/// `sqrt((1 - k/n)/k)` (delta method, occurrences taken as independent).
///
/// # Errors
/// Forests that differ in shape.
pub fn compare(
    corpus: &PrefixForest,
    model: &PrefixForest,
    counts: &[u64],
) -> Result<Comparison, MetricError> {
    let n = corpus.len();
    let same = model.len() == n
        && counts.len() == n
        && (0..n).all(|t| corpus.parent(t) == model.parent(t));
    if !same {
        return Err(MetricError::DifferentTexts);
    }
    let mut pairs = Vec::new();
    let mut edges = Vec::new();
    for to in 0..n {
        let (mut in_corpus, mut in_model, mut below) = (0.0, 0.0, to);
        for from in corpus.prefixes(to) {
            in_corpus += corpus.edge_distance(below);
            in_model += model.edge_distance(below);
            below = from;
            let (k, total) = (counts[to] as f64, counts[from] as f64);
            let corpus_error = ((1.0 - k / total).max(0.0) / k).sqrt();
            let pair = Pair {
                from,
                to,
                corpus: in_corpus,
                model: in_model,
                corpus_error,
            };
            if Some(from) == corpus.parent(to) {
                edges.push(pair);
            }
            pairs.push(pair);
        }
    }
    let mean = |f: fn(&Pair) -> f64| {
        if edges.is_empty() {
            0.0
        } else {
            edges.iter().map(f).sum::<f64>() / edges.len() as f64
        }
    };
    let x: Vec<f64> = edges.iter().map(|p| p.corpus).collect();
    let y: Vec<f64> = edges.iter().map(|p| p.model).collect();
    let uncertain: Vec<&Pair> = edges.iter().filter(|p| p.corpus_error > 0.0).collect();
    let near = |p: &&&Pair| (p.model - p.corpus).abs() <= 2.0 * p.corpus_error;
    Ok(Comparison {
        mean_excess: mean(|p| p.model - p.corpus),
        mean_absolute: mean(|p| (p.model - p.corpus).abs()),
        rank_correlation: lawvere_core::linalg::spearman(&x, &y),
        edges: edges.len(),
        within_two_errors: uncertain.iter().filter(near).count(),
        uncertain: uncertain.len(),
        pairs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_compared_with_itself_agrees_and_another_order_is_refused() {
        let logs = vec![0.0, 0.5f64.ln(), 0.25f64.ln(), 0.125f64.ln()];
        let parents = vec![None, Some(0), Some(0), Some(1)];
        let forest = PrefixForest::new(parents, logs.clone()).unwrap();
        let counts = [64, 32, 16, 4];
        let same = compare(&forest, &forest, &counts).unwrap();
        assert_eq!(
            (same.pairs.len(), same.edges, same.within_two_errors),
            (4, 3, 3)
        );
        assert_eq!(same.mean_absolute, 0.0);
        assert!((same.rank_correlation - 1.0).abs() < 1e-12);
        assert!((same.pairs[0].corpus_error - (0.5f64 / 32.0).sqrt()).abs() < 1e-12);
        let other = PrefixForest::new(vec![None, Some(0), Some(1), Some(1)], logs).unwrap();
        assert_eq!(
            compare(&forest, &other, &counts),
            Err(MetricError::DifferentTexts)
        );
    }
}
