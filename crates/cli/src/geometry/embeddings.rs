use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use lawvere::RunError;
use lawvere::geometry::{
    Answer, FactorFiles, MaxMarginOptions, RankLimitedOptions, Separability, SeparabilityFiles,
    SeparabilityOptions, Start, StateSource, limit_rank, separate,
};
use serde_json::json;

use super::source::{LawSourceArgs, SupportSourceArgs};
use super::{as_json, tolerance, two_columns, written};
use crate::args::{Global, positive};
use crate::output::Screen;

/// Ask what a linear head can do with given context embeddings: reach the laws, and tell supports from
/// the rest; both with certificates
///
/// Embeddings are --states, or a layer of the --observation that the laws are taken from.
#[derive(Args)]
pub struct SeparabilityArgs {
    #[command(flatten)]
    source: LawSourceArgs,
    /// The embeddings, contexts x dimensions: .npy or .safetensors (FILE.safetensors:NAME)
    #[arg(long, value_name = "FILE")]
    states: Option<PathBuf>,
    /// With --observation: whose layer's states are the embeddings [default: the head's input]
    #[arg(long, conflicts_with = "states")]
    layer: Option<usize>,
    /// The relative gap between the norm and its lower bound at which it stops
    #[arg(long, visible_alias = "tolerance", default_value_t = SeparabilityOptions::default().tolerance, value_parser = tolerance, allow_negative_numbers = true)]
    tol: f64,
    /// Products with the embeddings at most, for each of the two questions
    #[arg(long, default_value_t = SeparabilityOptions::default().max_iterations, value_parser = positive)]
    max_iterations: usize,
    /// The most entries, distinct tokens times contexts, that are solved for
    #[arg(long, default_value_t = SeparabilityOptions::default().size_limit, value_parser = positive)]
    size_limit: usize,
    /// Weights of a larger norm, times the typical (root mean square) norm of the embeddings, are not looked
    /// for
    #[arg(long, default_value_t = SeparabilityOptions::default().norm_limit, value_parser = norm)]
    norm_limit: f64,
    /// Write W^mm, tokens x dimensions: .npy or .safetensors
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write W^in, tokens x dimensions, likewise
    #[arg(long, value_name = "FILE")]
    finite: Option<PathBuf>,
}

fn norm(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 1e15 => Ok(number),
        Ok(_) => Err("it must be more than 0 and at most 1e15".into()),
        Err(_) => Err("it must be a number".into()),
    }
}

impl SeparabilityArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let options = SeparabilityOptions {
            tolerance: self.tol,
            max_iterations: self.max_iterations,
            size_limit: self.size_limit,
            norm_limit: self.norm_limit,
        };
        let states = match &self.states {
            Some(path) => StateSource::Matrix(path.clone()),
            None => StateSource::Layer(self.layer),
        };
        let files = SeparabilityFiles {
            margin: self.out.clone(),
            finite: self.finite.clone(),
        };
        let source = self.source.source()?;
        let found = separate(&source, &states, &options, &files, &mut |e| screen.show(e))?;
        let s = &found.separability;
        // Without weights that separate there is nothing to write.
        let out = self.out.clone().filter(|_| s.value.is_some());
        if global.json {
            let files = json!({"margin": out, "finite": self.finite});
            return Ok(as_json(&found, files, global, start));
        }
        let mut rows = figures(s);
        if let Some(layer) = found.layer {
            rows.insert(0, ("layer", layer.to_string()));
        }
        written(
            &mut rows,
            &[("W^mm written to", &out), ("W^in written to", &self.finite)],
        );
        Ok(two_columns(&rows))
    }
}

fn figures(s: &Separability) -> Vec<(&'static str, String)> {
    let answer = |answer: Answer, yes: &str, no: &str| match answer {
        Answer::Yes => yes.to_owned(),
        Answer::No => no.to_owned(),
        Answer::Undecided => "undecided".to_owned(),
    };
    let mut rows = vec![
        (
            "embeddings",
            format!(
                "{} contexts in {} dimensions, rank {}; {} tokens, {} of them distinct",
                s.contexts, s.dimension, s.rank, s.vocabulary, s.reduced_tokens
            ),
        ),
        (
            "reaches the laws",
            answer(
                s.compatible,
                "yes, some W gives every in-support log-odds",
                "no",
            ) + &format!("; missed: {:.2e} of them", s.residual),
        ),
        ("norm |W^in|_F", format!("{:.6}", s.finite_norm)),
        (
            "separates supports",
            answer(
                s.separable,
                "yes",
                &format!(
                    "no weights of norm up to {:.1e} do, as a certificate proves",
                    s.norm_limit
                ),
            ),
        ),
    ];
    if let (Some(value), Some(gap)) = (s.value, s.relative_gap) {
        rows.push((
            "norm |W^mm|_F",
            format!(
                "{value:.9}, lower bound {:.9}, relative gap {gap:.2e}",
                s.lower_bound
            ),
        ));
    } else {
        rows.push((
            "norm |W^mm|_F",
            format!("above {:.3e}, if any", s.lower_bound),
        ));
    }
    if let Some(margin) = s.margin {
        rows.push(("margin", format!("{margin:.6e} for weights of norm 1")));
    }
    rows.push((
        "solved",
        format!("{} products in {:.3} s", s.iterations, s.seconds),
    ));
    rows
}

/// Look for max-margin logits of a limited rank: words and contexts of few dimensions. Not convex: what
/// is found is the best of several starts, beside a proved lower bound
#[derive(Args)]
pub struct RankLimitedArgs {
    #[command(flatten)]
    source: SupportSourceArgs,
    /// The dimension d of words and contexts
    #[arg(long, value_name = "D", value_parser = positive)]
    dim: usize,
    /// Random starts, besides the one from the solution without a limit
    #[arg(long, default_value_t = RankLimitedOptions::default().random_starts)]
    starts: usize,
    /// The violation, relative to the margin, up to which logits count as allowed
    #[arg(long, visible_alias = "tolerance", default_value_t = RankLimitedOptions::default().tolerance, value_parser = tolerance, allow_negative_numbers = true)]
    tol: f64,
    /// Products with the factors at most, for each start
    #[arg(long, default_value_t = RankLimitedOptions::default().max_iterations, value_parser = positive)]
    max_iterations: usize,
    /// The most entries, distinct tokens times distinct contexts, that are solved for
    #[arg(long, default_value_t = MaxMarginOptions::default().size_limit, value_parser = positive)]
    size_limit: usize,
    /// Write the words W, tokens x d: .npy or .safetensors
    #[arg(long, value_name = "FILE")]
    out_words: Option<PathBuf>,
    /// Write the contexts H, contexts x d, likewise; logits are W H^T
    #[arg(long, value_name = "FILE")]
    out_contexts: Option<PathBuf>,
}

impl RankLimitedArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let options = RankLimitedOptions {
            random_starts: self.starts,
            seed: global.seed,
            tolerance: self.tol,
            max_iterations: self.max_iterations,
            convex: MaxMarginOptions {
                size_limit: self.size_limit,
                ..MaxMarginOptions::default()
            },
        };
        let files = FactorFiles {
            words: self.out_words.clone(),
            contexts: self.out_contexts.clone(),
        };
        let source = self.source.source()?;
        let found = limit_rank(&source, self.dim, &options, &files, &mut |e| screen.show(e))?;
        if global.json {
            let files = json!({"words": self.out_words, "contexts": self.out_contexts});
            return Ok(as_json(&found, files, global, start));
        }
        let r = &found.found;
        let value = r.value.map_or_else(
            || "none found (no proof that there is none)".to_owned(),
            |value| format!("{value:.9}, the best found: the problem is not convex"),
        );
        let starts = r.attempts.iter().map(|attempt| {
            let from = match attempt.start {
                Start::Convex => "from the convex solution",
                Start::Random => "from random factors",
            };
            match attempt.value {
                Some(value) => format!("{from} {value:.6}"),
                None => format!("{from} none"),
            }
        });
        let mut rows = vec![
            ("dimension", r.dimension.to_string()),
            ("nuclear norm", value),
            (
                "without a limit",
                format!(
                    "{:.9}, rank {}; lower bound {:.9}",
                    r.convex_value, r.convex_rank, r.convex_lower_bound
                ),
            ),
        ];
        match r.relative_gap {
            Some(gap) => rows.push(("the limit costs", format!("at most {:.4} %", 100.0 * gap))),
            None => rows.push((
                "nearest",
                format!(
                    "constraints violated by {:.3e}; {:.3} % of the pairs out of order",
                    r.violation,
                    100.0 * r.confused
                ),
            )),
        }
        rows.push(("starts", starts.collect::<Vec<_>>().join("; ")));
        rows.push(("solved", format!("in {:.3} s", r.seconds)));
        written(
            &mut rows,
            &[
                ("W written to", &self.out_words),
                ("H written to", &self.out_contexts),
            ],
        );
        Ok(two_columns(&rows))
    }
}
