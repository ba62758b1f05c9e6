//! Flags of the geometry lens.

mod compare;
mod concepts;
mod embeddings;
mod experiment;
mod finite;
mod max_margin;
mod path;
mod source;
mod supports;

use std::time::Instant;

use clap::Subcommand;
use lawvere::RunError;
use serde::Serialize;
use serde_json::{Value, json};

use self::compare::CompareArgs;
use self::concepts::ConceptsArgs;
use self::embeddings::{RankLimitedArgs, SeparabilityArgs};
use self::experiment::ExperimentArgs;
use self::finite::FiniteArgs;
use self::max_margin::{MaxMarginArgs, VerifyArgs};
use self::path::PathArgs;
use self::supports::SupportsArgs;
use crate::args::{Global, pretty, provenance};
use crate::output::Screen;

#[derive(Subcommand)]
pub enum GeometryCommand {
    Supports(SupportsArgs),
    MaxMargin(MaxMarginArgs),
    Verify(VerifyArgs),
    Finite(FiniteArgs),
    Path(PathArgs),
    Separability(SeparabilityArgs),
    RankLimited(RankLimitedArgs),
    Compare(CompareArgs),
    Concepts(ConceptsArgs),
    Experiment(Box<ExperimentArgs>),
}

impl GeometryCommand {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        match self {
            Self::Supports(args) => args.run(global, screen),
            Self::MaxMargin(args) => args.run(global, screen),
            Self::Verify(args) => args.run(global, screen),
            Self::Finite(args) => args.run(global, screen),
            Self::Path(args) => args.run(global, screen),
            Self::Separability(args) => args.run(global, screen),
            Self::RankLimited(args) => args.run(global, screen),
            Self::Compare(args) => args.run(global, screen),
            Self::Concepts(args) => args.run(global, screen),
            Self::Experiment(args) => args.run(global, screen),
        }
    }
}

/// The version of the form of the results.
const SCHEMA: &str = "lawvere-geometry/1";

/// A result as JSON, with where its files are and what made it.
fn as_json(result: &impl Serialize, files: Value, global: &Global, start: Instant) -> String {
    let mut value = json!(result);
    value["files"] = files;
    value["provenance"] = provenance(SCHEMA, global, start);
    pretty(&value)
}

/// A tolerance: more than 0 and less than 1.
fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number < 1.0 => Ok(number),
        Ok(_) => Err("it must be more than 0 and less than 1".into()),
        Err(_) => Err("it must be a number".into()),
    }
}

/// Names beside values, in two columns.
pub fn two_columns(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count());
    let width = width.max().unwrap_or(0);
    let lines = rows
        .iter()
        .map(|(name, value)| format!("{name:width$}  {value}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn written(rows: &mut Vec<(&str, String)>, files: &[(&'static str, &Option<std::path::PathBuf>)]) {
    for (what, path) in files {
        if let Some(path) = path {
            rows.push((what, path.display().to_string()));
        }
    }
}
