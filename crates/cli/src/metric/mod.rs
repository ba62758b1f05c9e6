//! Flags of the metric lens.

mod between;
mod space;
mod texts;

use clap::Subcommand;
use lawvere::RunError;

use self::between::{CompareArgs, EvaluateArgs, NearestArgs};
use self::space::*;
use crate::args::Global;
use crate::output::Screen;

/// The version of the form of the results.
const SCHEMA: &str = "lawvere-metric/1";

#[derive(Subcommand)]
pub enum MetricCommand {
    Check(CheckArgs),
    Distance(DistanceArgs),
    Embed(EmbedArgs),
    Project(ProjectArgs),
    Span(SpanArgs),
    Rays(RaysArgs),
    Decompose(DecomposeArgs),
    Extend(ExtendArgs),
    Boltzmann(BoltzmannArgs),
    Isbell(IsbellArgs),
    Dual(DualArgs),
    Magnitude(MagnitudeArgs),
    Compare(CompareArgs),
    Nearest(NearestArgs),
    Evaluate(EvaluateArgs),
}

impl MetricCommand {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        match self {
            Self::Check(args) => args.run(global, screen),
            Self::Distance(args) => args.run(global, screen),
            Self::Embed(args) => args.run(global, screen),
            Self::Project(args) => args.run(global, screen),
            Self::Span(args) => args.run(global, screen),
            Self::Rays(args) => args.run(global, screen),
            Self::Decompose(args) => args.run(global, screen),
            Self::Extend(args) => args.run(global, screen),
            Self::Boltzmann(args) => args.run(global, screen),
            Self::Isbell(args) => args.run(global, screen),
            Self::Dual(args) => args.run(global, screen),
            Self::Magnitude(args) => args.run(global, screen),
            Self::Compare(args) => args.run(global, screen),
            Self::Nearest(args) => args.run(global, screen),
            Self::Evaluate(args) => args.run(global, screen),
        }
    }
}
