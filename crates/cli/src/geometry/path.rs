use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use lawvere::RunError;
use lawvere::geometry::{PathOptions, PathPoint, Penalties, SolvedPath, solve_path};
use serde_json::json;

use super::source::LawSourceArgs;
use super::{as_json, tolerance};
use crate::args::{Global, positive};
use crate::output::Screen;

/// Solve the regularisation path: the best logits under a smaller and smaller penalty on their nuclear
/// norm, with exact gaps, and how fast they tend to what the supports predict
#[derive(Args)]
pub struct PathArgs {
    #[command(flatten)]
    source: LawSourceArgs,
    /// How many penalties, in equal ratios
    #[arg(long, default_value_t = 17, value_parser = clap::value_parser!(u16).range(2..))]
    points: u16,
    /// The largest penalty, as a fraction of the smallest one at which all logits are 0
    #[arg(long, default_value_t = 1.0, value_parser = above_zero)]
    from: f64,
    /// The smallest penalty, as such a fraction
    #[arg(long, default_value_t = 1e-8, value_parser = above_zero)]
    to: f64,
    /// Penalties themselves, decreasing and separated by commas, instead of --points, --from and --to
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = above_zero, conflicts_with_all = ["points", "from", "to"])]
    lambda: Vec<f64>,
    /// The exact duality gap of every point, relative to its penalty times its nuclear norm
    #[arg(long, visible_alias = "tolerance", default_value_t = 1e-6, value_parser = tolerance)]
    tol: f64,
    /// Iterations a point at most; the gap reached by then is told
    #[arg(long, default_value_t = PathOptions::default().max_iterations, value_parser = positive)]
    max_iterations: usize,
    /// The most entries, distinct tokens times distinct contexts, that are solved for
    #[arg(long, default_value_t = PathOptions::default().size_limit, value_parser = positive)]
    size_limit: usize,
    /// Do not solve for the max-margin logits first; cosines with them are then not told
    #[arg(long)]
    no_max_margin: bool,
    /// The folder to make: path.json, logits-00.npy and so on, finite.npy, max-margin.npy
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

fn above_zero(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        Ok(_) => Err("it must be more than 0".into()),
        Err(_) => Err("it must be a number".into()),
    }
}

impl PathArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let penalties = match self.lambda.is_empty() {
            false => Penalties::These(self.lambda.clone()),
            true => Penalties::Spread {
                points: self.points.into(),
                from: self.from,
                to: self.to,
            },
        };
        let options = PathOptions {
            penalties,
            tolerance: self.tol,
            max_iterations: self.max_iterations,
            size_limit: self.size_limit,
        };
        let source = self.source.source()?;
        let found = solve_path(
            &source,
            &options,
            !self.no_max_margin,
            self.out.as_deref(),
            &mut |event| screen.show(event),
        )?;
        if global.json {
            return Ok(as_json(&found, json!({"folder": self.out}), global, start));
        }
        Ok(self.told(&found))
    }

    fn told(&self, found: &SolvedPath) -> String {
        let path = &found.path;
        let mut lines = vec![format!(
            "{} tokens x {} contexts, reduced to {} x {}; H = {:.6} nats, lambda_max = {:.6e}; {:.3} s",
            path.vocabulary,
            path.contexts,
            path.reduced_tokens,
            path.reduced_contexts,
            path.entropy,
            path.lambda_max,
            path.seconds
        )];
        if let (Some(value), Some(gap)) = (path.max_margin_value, found.max_margin_gap) {
            lines.push(format!(
                "N = |L^mm|_* = {value:.6} (relative gap {gap:.1e}), which (CE-H)/lambda, <G,S> and the slope of |L|_* tend to; cosines with L^mm of L, and of its slope"
            ));
        }
        lines.push(format!(
            "\n{:>10} {:>10} {:>10} {:>9} {:>5} {:>13} {:>10} {:>10} {:>8} {:>9} {:>12}",
            "lambda/max",
            "CE-H nats",
            "|L|_*",
            "gap",
            "rank",
            "(CE-H)/lambda",
            "<G,S>",
            "slope",
            "cosine",
            "of slope",
            "|P_F-L^in|"
        ));
        lines.extend(path.points.iter().map(line));
        if let Some(out) = &self.out {
            lines.push(format!("\nwritten to {}", out.display()));
        }
        lines.join("\n")
    }
}

fn line(p: &PathPoint) -> String {
    let some = |x: Option<f64>, digits: usize| {
        x.map_or_else(|| "-".to_owned(), |x| format!("{x:.digits$}"))
    };
    format!(
        "{:>10.3e} {:>10.3e} {:>10.4} {:>9.1e} {:>5} {:>13.6} {:>10.6} {:>10} {:>8} {:>9} {:>12.4e}",
        p.relative_lambda,
        p.excess,
        p.nuclear_norm,
        p.relative_gap,
        p.rank,
        p.excess_rate,
        p.dual_bound,
        some(p.norm_slope, 6),
        some(p.cosine, 5),
        some(p.slope_cosine, 5),
        p.finite_distance
    )
}
