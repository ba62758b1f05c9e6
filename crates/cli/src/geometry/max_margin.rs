use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use lawvere::RunError;
use lawvere::geometry::{
    Answer, MaxMargin, MaxMarginFiles, MaxMarginOptions, solve_max_margin, verify_files,
};
use serde_json::json;

use super::source::SupportSourceArgs;
use super::{as_json, tolerance, two_columns, written};
use crate::args::{Global, positive};
use crate::output::Screen;

/// Solve for the max-margin logits L^mm of a support matrix, the direction that training drives
/// logits to, with a proved gap
#[derive(Args)]
pub struct MaxMarginArgs {
    #[command(flatten)]
    source: SupportSourceArgs,
    /// The relative gap between value and lower bound at which it stops
    #[arg(long, visible_alias = "tolerance", default_value_t = 1e-7, value_parser = tolerance, allow_negative_numbers = true)]
    tol: f64,
    /// Iterations at most; the gap reached by then is told, and is proved too
    #[arg(long, default_value_t = MaxMarginOptions::default().max_iterations, value_parser = positive)]
    max_iterations: usize,
    /// The most entries, distinct tokens times distinct contexts, that are solved for; memory and time
    /// grow with it
    #[arg(long, default_value_t = MaxMarginOptions::default().size_limit, value_parser = positive)]
    size_limit: usize,
    /// Write L^mm, tokens x contexts: .npy or .safetensors
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the dual certificate G, tokens x contexts, likewise
    #[arg(long, value_name = "FILE")]
    dual: Option<PathBuf>,
}

impl MaxMarginArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let options = MaxMarginOptions {
            tolerance: self.tol,
            max_iterations: self.max_iterations,
            size_limit: self.size_limit,
        };
        let files = MaxMarginFiles {
            logits: self.out.clone(),
            dual: self.dual.clone(),
        };
        let source = self.source.source()?;
        let found = solve_max_margin(&source, &options, &files, &mut |e| screen.show(e))?;
        if global.json {
            let files = json!({"logits": self.out, "dual": self.dual});
            return Ok(as_json(&found, files, global, start));
        }
        let mut rows = figures(&found.solution);
        written(
            &mut rows,
            &[("L^mm written to", &self.out), ("G written to", &self.dual)],
        );
        Ok(two_columns(&rows))
    }
}

fn figures(s: &MaxMargin) -> Vec<(&'static str, String)> {
    let optimal = match s.proxy_optimal {
        Answer::Yes => "optimal",
        Answer::No => "not optimal",
        Answer::Undecided => "not known to be optimal or not",
    };
    let gap = match s.converged {
        true => format!("{:.2e}", s.relative_gap),
        false => format!("{:.2e}, not as small as asked", s.relative_gap),
    };
    vec![
        ("nuclear norm |L^mm|_*", format!("{:.9}", s.value)),
        ("proved lower bound", format!("{:.9}", s.lower_bound)),
        ("relative gap", gap),
        ("rank", s.rank.to_string()),
        ("proxy S~", format!("{:.9}, {optimal}", s.proxy_value)),
        (
            "solved",
            format!(
                "{} tokens x {} contexts, reduced to {} x {}; {} iterations in {:.3} s",
                s.vocabulary,
                s.contexts,
                s.reduced_tokens,
                s.reduced_contexts,
                s.iterations,
                s.seconds
            ),
        ),
    ]
}

/// Check max-margin logits, and a dual certificate, against the definition of the problem, sharing
/// nothing with the solver
#[derive(Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    source: SupportSourceArgs,
    /// The logits to check, tokens x contexts
    #[arg(long, value_name = "FILE")]
    logits: PathBuf,
    /// The dual certificate to check, tokens x contexts
    #[arg(long, value_name = "FILE")]
    dual: Option<PathBuf>,
}

impl VerifyArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let source = self.source.source()?;
        let dual = self.dual.as_deref();
        let found = verify_files(&source, &self.logits, dual, &mut |e| screen.show(e))?;
        let v = &found.verification;
        if global.json {
            let files = json!({"logits": self.logits, "dual": self.dual});
            return Ok(as_json(&found, files, global, start));
        }
        let verdict = match (v.valid, &self.dual) {
            (true, Some(_)) => "logits and dual certificate satisfy every constraint",
            (true, None) => "the logits satisfy every constraint",
            (false, _) => "a constraint is violated",
        };
        let mut rows = vec![
            ("verdict", verdict.to_owned()),
            ("nuclear norm", format!("{:.9}", v.value)),
            (
                "equal on supports",
                format!("within {:.2e}", v.equality_violation),
            ),
            (
                "margin of 1",
                format!("short of it by {:.2e} at most", v.margin_violation.max(0.0)),
            ),
        ];
        if let (Some(bound), Some(norm), Some(sum), Some(sign)) = (
            v.lower_bound,
            v.dual_norm,
            v.dual_column_sum,
            v.dual_sign_violation,
        ) {
            let gap = v
                .relative_gap
                .map_or("-".into(), |gap| format!("{gap:.2e}"));
            rows.extend([
                ("proved lower bound", format!("{bound:.9}")),
                ("relative gap", gap),
                (
                    "dual certificate",
                    format!(
                        "operator norm {norm:.12}, column sums within {sum:.2e}, off the supports at most {sign:.2e}"
                    ),
                ),
            ]);
        }
        Ok(two_columns(&rows))
    }
}
