//! Texts by how a model goes on with them.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::{ArgGroup, Args};
use lawvere::RunError;
use lawvere::metric::{self, ContinuationPlan, WordPlan};

use super::SCHEMA;
use super::texts::number;
use crate::args::{Global, ModelArgs, positive, told_with};
use crate::output::Screen;

/// How continuations are drawn.
#[derive(Args)]
struct ContinuationArgs {
    /// Continuations drawn after each text [default: 20]
    #[arg(long, value_parser = positive, value_name = "N")]
    continuations: Option<usize>,
    /// The most tokens of a continuation [default: 10]
    #[arg(long, value_parser = positive, value_name = "N")]
    tokens: Option<usize>,
}

impl ContinuationArgs {
    fn plan(&self, global: &Global) -> ContinuationPlan {
        ContinuationPlan {
            samples: self.continuations.unwrap_or(20),
            tokens: self.tokens.unwrap_or(10),
            seed: global.seed,
        }
    }
}

/// Compare texts by how a model goes on with them: Renyi divergences of the laws of continuations, with errors, the
/// direction of entailment, and Liu's distance
#[derive(Args)]
pub struct CompareArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The texts, two or more; every two are compared
    #[arg(required = true, num_args = 2.., value_name = "TEXT")]
    texts: Vec<String>,
    #[command(flatten)]
    drawn: ContinuationArgs,
    /// Orders of Renyi divergences; inf is a lower bound without an error
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0.5,1,inf",
        value_name = "A"
    )]
    orders: Vec<f64>,
}

impl CompareArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let plan = self.drawn.plan(global);
        let on_event = &mut |event| screen.show(event);
        let found = metric::compare_texts(
            &self.model.source(),
            &self.texts,
            &self.orders,
            &plan,
            on_event,
        )?;
        told_with(SCHEMA, &found, global, start, |found| {
            let pair = |pair: &metric::ComparedTexts| {
                let mut out = format!("{:?}, {:?}", pair.first, pair.second);
                for d in &pair.divergences {
                    let _ = write!(
                        out,
                        "\n  order {}: there {}, back {}, both {}",
                        number(d.order),
                        estimate(&d.forward),
                        estimate(&d.back),
                        estimate(&d.symmetric)
                    );
                }
                let _ = write!(
                    out,
                    "\n  direction {} (positive: the first entails the second)\n  trajectories {}",
                    estimate(&pair.direction),
                    estimate(&pair.trajectory)
                );
                out
            };
            let pairs: Vec<String> = found.pairs.iter().map(pair).collect();
            format!("{}\n{} tokens forwarded", pairs.join("\n"), found.forwarded)
        })
    }
}

/// Find the texts of a file that a model goes on with most as it does with one: by the symmetric Kullback-Leibler
/// divergence of the laws of continuations
#[derive(Args)]
pub struct NearestArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The texts to look among, one a line
    #[arg(long, value_name = "FILE")]
    texts: PathBuf,
    /// The text that others should be near to
    text: String,
    /// How many are told
    #[arg(long, default_value_t = 10, value_parser = positive, value_name = "N")]
    most: usize,
    #[command(flatten)]
    drawn: ContinuationArgs,
}

impl NearestArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let plan = self.drawn.plan(global);
        let on_event = &mut |event| screen.show(event);
        let (model, texts) = (&self.model.source(), &self.texts);
        let found = metric::nearest_texts(model, &self.text, texts, self.most, &plan, on_event)?;
        told_with(SCHEMA, &found, global, start, |found| {
            let mut out = format!("  divergence         direction  text, of {}", found.texts);
            for near in &found.nearest {
                let _ = write!(
                    out,
                    "\n{:>18}  {:>16}  {:?}",
                    estimate(&near.divergence),
                    estimate(&near.direction),
                    near.text
                );
            }
            let _ = write!(
                out,
                "\n{} tokens forwarded; direction is positive where {:?} entails the text",
                found.forwarded, found.text
            );
            out
        })
    }
}

fn estimate(e: &metric::Estimate) -> String {
    // What rounds to nothing has no sign.
    let value = if e.value.abs() < 5e-4 { 0.0 } else { e.value };
    match e.error {
        Some(error) => format!("{value:.3} ± {error:.3}"),
        None => format!("at least {value:.3}"),
    }
}

/// Hold distances between sentences against human judgements of their likeness, or the direction between words against pairs
/// of hyponym and hypernym
#[derive(Args)]
#[command(group(ArgGroup::new("judgements").required(true).args(["sts", "hyponyms"])))]
pub struct EvaluateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Judgements: a CSV of two sentences and a score a line, without a header
    #[arg(long, value_name = "FILE.csv")]
    sts: Option<PathBuf>,
    /// Pairs of words, hyponym and hypernym with a tab between them
    #[arg(long, value_name = "FILE.tsv", requires = "index")]
    hyponyms: Option<PathBuf>,
    /// With --hyponyms, the corpus whose contexts words are put into: an index made with the model's tokenizer
    #[arg(long, value_name = "FOLDER", conflicts_with = "sts")]
    index: Option<PathBuf>,
    /// With --hyponyms, places of each word that are taken as contexts
    #[arg(long, default_value_t = 8, value_parser = positive, value_name = "N", conflicts_with = "sts")]
    contexts: usize,
    /// Only the first N pairs; of words the first that can be judged
    #[arg(long, value_name = "N", value_parser = positive)]
    limit: Option<usize>,
    #[command(flatten)]
    drawn: ContinuationArgs,
}

impl EvaluateArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let on_event = &mut |event| screen.show(event);
        if let (Some(pairs), Some(index)) = (&self.hyponyms, &self.index) {
            if self.drawn.continuations.or(self.drawn.tokens).is_some() {
                return Err(RunError::Usage(
                    "--continuations and --tokens go with --sts: no continuations are drawn for --hyponyms".into(),
                ));
            }
            let plan = WordPlan {
                contexts: self.contexts,
                seed: global.seed,
                ..WordPlan::default()
            };
            let (model, limit) = (&self.model.source(), self.limit);
            let found = metric::evaluate_hyponyms(model, index, pairs, limit, &plan, on_event)?;
            return told_with(SCHEMA, &found, global, start, |found| {
                format!(
                    "{} pairs ({} left out): the hyponym is told in {:.1} % ({:.1} to {:.1}), by totals in {:.1} % ({:.1} to {:.1}); the rarer word is it in {:.1} %\n{} tokens forwarded",
                    found.pairs,
                    found.left_out,
                    100.0 * found.accuracy,
                    100.0 * found.interval[0],
                    100.0 * found.interval[1],
                    100.0 * found.by_total,
                    100.0 * found.by_total_interval[0],
                    100.0 * found.by_total_interval[1],
                    100.0 * found.by_frequency,
                    found.forwarded
                )
            });
        }
        let plan = self.drawn.plan(global);
        let sts = self.sts.clone().unwrap_or_default();
        let found =
            metric::evaluate_likeness(&self.model.source(), &sts, self.limit, &plan, on_event)?;
        told_with(SCHEMA, &found, global, start, |found| {
            let mut out = format!(
                "{} pairs; Spearman's correlation with the judgements",
                found.pairs
            );
            for m in &found.measures {
                let _ = write!(
                    out,
                    "\n{:.3} ({:.3} to {:.3})  {:20}  {} x {} tokens, {} forwarded",
                    m.correlation,
                    m.interval[0],
                    m.interval[1],
                    m.name,
                    m.plan.samples,
                    m.plan.tokens,
                    m.forwarded
                );
            }
            out
        })
    }
}
