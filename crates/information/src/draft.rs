use lawvere_core::{ratio_of_sums, sum};
use rand::RngExt;
use rand::rngs::StdRng;
use serde::Serialize;

use crate::InformationError;
use crate::pass::mean_and_deviation;

/// One block of drafted tokens at one prefix: what they were drawn from, and what the model says of them.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The tokens, as outcomes of the drafter's laws.
    pub path: Vec<usize>,
    /// For each the drafter's law, over its outcomes.
    pub drafter: Vec<Vec<f64>>,
    /// For each the model's probabilities of these outcomes, given the tokens drafted before; they add up
    /// to less than 1 where the model has other tokens too.
    pub model: Vec<Vec<f64>>,
}

/// What a draft says in expectation.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// For each token the overlap `sum min(p, q) = 1 - TV(p, q)` given the tokens drafted before: the
    /// probability that it is accepted if they are.
    pub overlaps: Vec<f64>,
    /// For each token the probability, given the path, that all before it are accepted.
    pub reached: Vec<f64>,
    /// For each k an unbiased estimate of the probability that the first k tokens are all accepted: the
    /// product of the two.
    pub survival: Vec<f64>,
    /// For each token `KL(q || p)`, nats: `1 - sqrt(KL / 2)` is at most the overlap.
    pub divergences: Vec<f64>,
}

impl Draft {
    /// Draws an outcome of a law.
    pub fn draw(law: &[f64], rng: &mut StdRng) -> usize {
        let mut left: f64 = rng.random::<f64>() * sum(law.iter().copied());
        for (i, &p) in law.iter().enumerate() {
            left -= p;
            if left < 0.0 {
                return i;
            }
        }
        law.iter().rposition(|&p| p > 0.0).unwrap_or(0)
    }

    fn ratio(&self, i: usize) -> f64 {
        let outcome = self.path[i];
        (self.model[i][outcome] / self.drafter[i][outcome]).min(1.0)
    }

    /// Overlaps along the path, and the expected number of accepted tokens.
    ///
    /// The path is drawn from the drafter, so that prefixes are weighted by the probability
    /// `min(1, p/q)` that they are accepted: `P(k accepted) = E prod_{i<k} min(1, p_i/q_i)(w_i) overlap_k`.
    /// A product of overlaps along drafted paths would be too large, a product of mean overlaps too.
    ///
    /// *Source:* Leviathan, Kalman, Matias, *Fast inference from transformers via speculative decoding* (2023),
    /// theorem 3.5 and corollary 3.6; Chen et al., *Accelerating large language model decoding with
    /// speculative sampling* (2023).
    pub fn forecast(&self) -> Forecast {
        let mut reached = 1.0;
        let (mut overlaps, mut survival, mut divergences) = (Vec::new(), Vec::new(), Vec::new());
        let mut along = Vec::new();
        for i in 0..self.path.len() {
            let pairs = || self.model[i].iter().zip(&self.drafter[i]);
            let overlap = sum(pairs().map(|(p, q)| p.min(*q)));
            overlaps.push(overlap);
            along.push(reached);
            survival.push(reached * overlap);
            divergences.push(sum(
                pairs().map(|(&p, &q)| lawvere_core::stoch::kl_term(q, p))
            ));
            reached *= self.ratio(i);
        }
        Forecast {
            overlaps,
            reached: along,
            survival,
            divergences,
        }
    }

    /// Runs the draft: tokens are accepted one after the other with probability `min(1, p/q)` until one is
    /// not. How many were.
    ///
    /// *Source:* as [`forecast`](Self::forecast).
    pub fn run(&self, rng: &mut StdRng) -> usize {
        (0..self.path.len())
            .find(|&i| rng.random::<f64>() >= self.ratio(i))
            .unwrap_or(self.path.len())
    }

    /// What takes the place of token `at`, which was not accepted: drawn from `(p - q)_+`, normalised,
    /// so that texts follow the model's law whatever the drafter. `full` are the model's probabilities of
    /// all tokens, of which outcome i is `tokens[i]`.
    pub fn replacement(&self, at: usize, tokens: &[u32], full: &[f64], rng: &mut StdRng) -> usize {
        let mut rest = full.to_vec();
        for (&token, q) in tokens.iter().zip(&self.drafter[at]) {
            let p = &mut rest[token as usize];
            *p = (*p - q).max(0.0);
        }
        Self::draw(&rest, rng)
    }
}

/// Drafting, forecast and measured on the same prefixes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DraftReport {
    /// Prefixes.
    pub prefixes: usize,
    /// For each token ahead the mean overlap where all before were accepted: along drafted paths, weighted by
    /// the probability of that.
    pub overlaps: Vec<f64>,
    /// For each token ahead the mean of `1 - sqrt(KL(q || p) / 2)` at the same places: a lower bound of the
    /// mean overlap (Pinsker), often a useless one.
    pub pinsker: Vec<f64>,
    /// For each k the forecast probability that the first k tokens are accepted.
    pub survival: Vec<f64>,
    /// For each k the share of runs in which they were.
    pub survived: Vec<f64>,
    /// E[accepted], forecast: the sum of `survival`.
    pub forecast: f64,
    /// Its standard error over prefixes.
    pub forecast_error: f64,
    /// The mean number of tokens accepted when drafting was run.
    pub measured: f64,
    /// Its standard error over prefixes.
    pub measured_error: f64,
    /// `measured - forecast` in standard errors of that difference, prefixes paired; the error is at least
    /// what the forecast implies for so many runs.
    pub deviations: f64,
    /// `1 + E[accepted]`: tokens for a pass of the model at such a prefix, forecast.
    pub tokens_per_verification: f64,
    /// The cost of one head in passes of the model.
    pub cost: f64,
    /// `(1 + E) / (1 + gamma c)` at such a prefix: heads one after the other.
    pub speedup_sequential: f64,
    /// `(1 + E) / (1 + c)` at such a prefix: heads side by side.
    pub speedup_parallel: f64,
}

/// A round of decoding with drafts: one pass of the model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Round {
    /// Drafted tokens that were accepted.
    pub accepted: usize,
    /// What another draft at the same place forecast.
    pub forecast: f64,
}

/// Decoding with drafts: rounds that begin where the one before stopped.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decoding {
    /// Texts.
    pub texts: usize,
    /// Rounds of each.
    pub rounds: usize,
    /// Tokens a pass of the model: accepted ones and the one that every pass gives.
    pub tokens_per_pass: f64,
    /// Its standard error, texts taken as independent.
    pub tokens_per_pass_error: f64,
    /// What is forecast at the same places.
    pub forecast: f64,
    /// Its standard error.
    pub forecast_error: f64,
    /// The difference of the two in standard errors, round by round.
    pub deviations: f64,
    /// `tokens_per_pass / (1 + gamma c)`: heads one after the other.
    pub speedup_sequential: f64,
    /// `tokens_per_pass / (1 + c)`: heads side by side.
    pub speedup_parallel: f64,
}

/// Joins the rounds of all texts. Drafts of `length` tokens; `cost` is that of one head, in passes of the model.
///
/// Rounds begin more often in hard places than tokens stand there, since an easy stretch is gone through in
/// few: tokens a pass are fewer than after prefixes that end anywhere alike ([`draft_report`]).
///
/// # Errors
/// Fewer than 2 texts, a text without rounds, a cost that is negative or no number.
pub fn decoding(
    texts: &[Vec<Round>],
    length: usize,
    cost: f64,
) -> Result<Decoding, InformationError> {
    if texts.len() < 2 || texts.iter().any(Vec::is_empty) {
        return Err(InformationError::TooFew {
            what: "decoding with drafts",
            of: "texts with rounds",
            needed: 2,
            found: texts.iter().filter(|t| !t.is_empty()).count(),
        });
    }
    check_cost(cost)?;
    let over = |of: &dyn Fn(&Round) -> f64| {
        let clusters: Vec<(f64, usize)> = texts
            .iter()
            .map(|rounds| (sum(rounds.iter().map(of)), rounds.len()))
            .collect();
        ratio_of_sums(clusters.into_iter())
    };
    let (tokens_per_pass, tokens_per_pass_error) = over(&|r| 1.0 + r.accepted as f64);
    let (forecast, forecast_error) = over(&|r| 1.0 + r.forecast);
    let (difference, error) = over(&|r| r.accepted as f64 - r.forecast);
    Ok(Decoding {
        texts: texts.len(),
        rounds: texts.iter().map(Vec::len).max().unwrap_or(0),
        tokens_per_pass,
        tokens_per_pass_error,
        forecast,
        forecast_error,
        deviations: if error > 0.0 { difference / error } else { 0.0 },
        speedup_sequential: tokens_per_pass / (1.0 + length as f64 * cost),
        speedup_parallel: tokens_per_pass / (1.0 + cost),
    })
}

fn check_cost(cost: f64) -> Result<(), InformationError> {
    match cost >= 0.0 && cost.is_finite() {
        true => Ok(()),
        false => Err(InformationError::argument(
            "cost",
            format!("{cost}: it must be 0 or more"),
        )),
    }
}

/// Forecasts and runs of one prefix, several drafts each.
#[derive(Debug, Clone, Default)]
pub struct PrefixDrafts {
    /// Forecasts of drafts.
    pub forecasts: Vec<Forecast>,
    /// Tokens accepted in runs of other drafts.
    pub accepted: Vec<usize>,
}

/// 0 where nothing got so far.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Joins the drafts of all prefixes, which are taken as independent. `cost` is that of one head, in passes
/// of the model.
///
/// # Errors
/// Fewer than 2 prefixes, a prefix without forecast or run, a cost that is negative or no number.
pub fn draft_report(prefixes: &[PrefixDrafts], cost: f64) -> Result<DraftReport, InformationError> {
    if prefixes.len() < 2 {
        return Err(InformationError::TooFew {
            what: "a comparison of drafts",
            of: "prefixes",
            needed: 2,
            found: prefixes.len(),
        });
    }
    check_cost(cost)?;
    let empty = |p: &PrefixDrafts| p.forecasts.is_empty() || p.accepted.is_empty();
    if prefixes.iter().any(empty) {
        return Err(InformationError::argument("drafts", "a prefix has none"));
    }
    let n = prefixes.len() as f64;
    let length = prefixes[0].forecasts[0].survival.len();
    let of_prefix = |p: &PrefixDrafts, of: &dyn Fn(&Forecast) -> f64| {
        sum(p.forecasts.iter().map(of)) / p.forecasts.len() as f64
    };
    let over = |of: &dyn Fn(&Forecast) -> f64| sum(prefixes.iter().map(|p| of_prefix(p, of))) / n;
    let survival: Vec<f64> = (0..length).map(|k| over(&|f| f.survival[k])).collect();
    let pinsker = (0..length)
        .map(|k| {
            let bound = |f: &Forecast| f.reached[k] * (1.0 - (f.divergences[k] / 2.0).sqrt());
            ratio(over(&bound), over(&|f| f.reached[k]))
        })
        .collect();
    let overlaps = (0..length)
        .map(|k| ratio(survival[k], over(&|f| f.reached[k])))
        .collect();
    let forecasts: Vec<f64> = prefixes
        .iter()
        .map(|p| of_prefix(p, &|f| sum(f.survival.iter().copied())))
        .collect();
    let runs: Vec<f64> = prefixes
        .iter()
        .map(|p| p.accepted.iter().sum::<usize>() as f64 / p.accepted.len() as f64)
        .collect();
    let differences: Vec<f64> = runs.iter().zip(&forecasts).map(|(a, b)| a - b).collect();
    let estimate = |values: &[f64]| {
        let (mean, deviation) = mean_and_deviation(values);
        (mean, deviation / n.sqrt())
    };
    let (forecast, forecast_error) = estimate(&forecasts);
    let (measured, measured_error) = estimate(&runs);
    let (difference, spread) = estimate(&differences);
    let all: Vec<usize> = prefixes.iter().flat_map(|p| p.accepted.clone()).collect();
    // Runs that all end alike show no variance, though the forecast says that they have one.
    let moments = survival.iter().enumerate();
    let square = sum(moments.map(|(k, s)| (2 * k + 1) as f64 * s.min(1.0)));
    let implied = (square - forecast.powi(2)).max(0.0) / all.len() as f64;
    let error = spread.max(implied.sqrt());
    let share = |k: usize| all.iter().filter(|&&a| a > k).count() as f64 / all.len() as f64;
    Ok(DraftReport {
        prefixes: prefixes.len(),
        overlaps,
        pinsker,
        survival,
        survived: (0..length).map(share).collect(),
        forecast,
        forecast_error,
        measured,
        measured_error,
        deviations: if error > 0.0 { difference / error } else { 0.0 },
        tokens_per_verification: 1.0 + forecast,
        cost,
        speedup_sequential: (1.0 + forecast) / (1.0 + length as f64 * cost),
        speedup_parallel: (1.0 + forecast) / (1.0 + cost),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// Laws of two tokens out of three, the second given the first; the drafter knows the first two tokens
    /// and does not look at its own first one.
    const DRAFTER: [[f64; 2]; 2] = [[0.7, 0.3], [0.4, 0.6]];
    const FIRST: [f64; 3] = [0.5, 0.3, 0.2];
    const SECOND: [[f64; 3]; 2] = [[0.1, 0.8, 0.1], [0.6, 0.0, 0.4]];

    fn draft(path: [usize; 2]) -> Draft {
        Draft {
            path: path.to_vec(),
            drafter: DRAFTER.map(|q| q.to_vec()).to_vec(),
            model: vec![FIRST[..2].to_vec(), SECOND[path[0]][..2].to_vec()],
        }
    }

    fn paths() -> impl Iterator<Item = ([usize; 2], f64)> {
        let pairs = [[0, 0], [0, 1], [1, 0], [1, 1]].into_iter();
        pairs.map(|path| (path, DRAFTER[0][path[0]] * DRAFTER[1][path[1]]))
    }

    /// P(first accepted), P(both accepted): sums of the smaller of both laws over all paths.
    fn exact() -> [f64; 2] {
        let first = (0..2).map(|i| FIRST[i].min(DRAFTER[0][i]));
        let both = (0..2).map(|i| {
            let second: f64 = (0..2).map(|j| SECOND[i][j].min(DRAFTER[1][j])).sum();
            FIRST[i].min(DRAFTER[0][i]) * second
        });
        [first.sum(), both.sum()]
    }

    #[test]
    fn forecasts_over_all_drafted_paths_are_the_probabilities_of_acceptance() {
        let mut survival = [0.0; 2];
        for (path, p) in paths() {
            let forecast = draft(path).forecast();
            (0..2).for_each(|k| survival[k] += p * forecast.survival[k]);
            for (overlap, divergence) in forecast.overlaps.iter().zip(&forecast.divergences) {
                assert!(1.0 - (divergence / 2.0).sqrt() <= *overlap);
            }
        }
        let exact = exact();
        assert!((0..2).all(|k| (survival[k] - exact[k]).abs() < 1e-12));
        // A product of overlaps along the same paths is not that.
        let product =
            paths().map(|(path, p)| p * draft(path).forecast().overlaps.iter().product::<f64>());
        assert!(product.sum::<f64>() > exact[1] + 0.01);
    }

    #[test]
    fn runs_accept_as_often_as_is_forecast_and_texts_follow_the_model() {
        const RUNS: usize = 40_000;
        let mut rng = StdRng::seed_from_u64(3);
        let (mut reached, mut firsts) = ([0usize; 2], [0usize; 3]);
        for _ in 0..RUNS {
            let path = [0, 1].map(|k| Draft::draw(&DRAFTER[k], &mut rng));
            let draft = draft(path);
            let accepted = draft.run(&mut rng);
            (0..accepted).for_each(|k| reached[k] += 1);
            let first = match accepted {
                0 => draft.replacement(0, &[0, 1], &FIRST, &mut rng),
                _ => path[0],
            };
            firsts[first] += 1;
        }
        let share = |count: usize| count as f64 / RUNS as f64;
        let near = |count: usize, p: f64| {
            let error = (p * (1.0 - p) / RUNS as f64).sqrt();
            assert!(
                (share(count) - p).abs() < 4.0 * error,
                "{} {p}",
                share(count)
            );
        };
        (0..2).for_each(|k| near(reached[k], exact()[k]));
        (0..3).for_each(|k| near(firsts[k], FIRST[k]));
    }

    #[test]
    fn a_report_joins_prefixes_and_says_how_far_run_and_forecast_are_apart() {
        let mut rng = StdRng::seed_from_u64(4);
        let mut some = || {
            let path = [0, 1].map(|k| Draft::draw(&DRAFTER[k], &mut rng));
            let draft = draft(path);
            (draft.forecast(), draft.run(&mut rng))
        };
        let prefixes: Vec<PrefixDrafts> = (0..4000)
            .map(|_| PrefixDrafts {
                forecasts: vec![some().0, some().0],
                accepted: vec![some().1, some().1],
            })
            .collect();
        let report = draft_report(&prefixes, 0.1).unwrap();
        let exact = exact();
        assert!((report.forecast - exact[0] - exact[1]).abs() < 4.0 * report.forecast_error);
        assert!((report.measured - exact[0] - exact[1]).abs() < 4.0 * report.measured_error);
        assert!(report.deviations.abs() < 4.0);
        assert!((report.overlaps[0] - exact[0]).abs() < 1e-9);
        assert!((report.overlaps[1] - exact[1] / exact[0]).abs() < 0.01);
        assert!((report.speedup_parallel - (1.0 + report.forecast) / 1.1).abs() < 1e-12);
        assert!((report.speedup_sequential - (1.0 + report.forecast) / 1.2).abs() < 1e-12);
        assert!(
            report
                .pinsker
                .iter()
                .zip(&report.overlaps)
                .all(|(b, o)| b <= o)
        );
        assert!(draft_report(&prefixes[..1], 0.1).is_err());
        assert!(draft_report(&prefixes, f64::NAN).is_err());
    }

    #[test]
    fn rounds_of_decoding_count_the_token_that_every_pass_gives() {
        let round = |accepted: usize, forecast: f64| Round { accepted, forecast };
        let texts = vec![
            vec![round(2, 1.5), round(0, 0.5)],
            vec![round(1, 1.0), round(1, 1.0)],
            vec![round(0, 0.5), round(0, 0.5)],
        ];
        let found = decoding(&texts, 2, 0.25).unwrap();
        assert!((found.tokens_per_pass - (1.0 + 4.0 / 6.0)).abs() < 1e-12);
        assert!((found.forecast - (1.0 + 5.0 / 6.0)).abs() < 1e-12);
        assert!((found.speedup_parallel - found.tokens_per_pass / 1.25).abs() < 1e-12);
        assert!((found.speedup_sequential - found.tokens_per_pass / 1.5).abs() < 1e-12);
        assert!(found.deviations < 0.0 && found.tokens_per_pass_error > 0.0);
        assert!(decoding(&texts[..1], 2, 0.1).is_err());
        assert!(decoding(&texts, 2, -1.0).is_err());
    }
}
