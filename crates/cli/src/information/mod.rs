//! Flags of the information lens.

mod ahead;
mod kernel;
mod measures;
mod source;
mod tables;

use std::time::Instant;

use clap::Subcommand;
use lawvere::RunError;
use serde::Serialize;

use self::ahead::{DraftArgs, SurplusArgs};
use self::kernel::KernelArgs;
use self::measures::{
    AlignmentArgs, DistancesArgs, DivergenceArgs, FisherArgs, LayersArgs, NllArgs, SimilarityArgs,
    StochasticityArgs,
};
use crate::args::{Global, told_with};
use crate::output::Screen;

#[derive(Subcommand)]
pub enum InformationCommand {
    Kernel(KernelArgs),
    Nll(NllArgs),
    Stochasticity(StochasticityArgs),
    Layers(LayersArgs),
    Surplus(SurplusArgs),
    Draft(DraftArgs),
    Fisher(FisherArgs),
    Distances(DistancesArgs),
    Similarity(SimilarityArgs),
    Alignment(AlignmentArgs),
    Divergence(DivergenceArgs),
}

impl InformationCommand {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        match self {
            Self::Kernel(args) => args.run(global),
            Self::Nll(args) => args.run(global, screen),
            Self::Stochasticity(args) => args.run(global, screen),
            Self::Layers(args) => args.run(global, screen),
            Self::Surplus(args) => args.run(global, screen),
            Self::Draft(args) => args.run(global, screen),
            Self::Fisher(args) => args.run(global, screen),
            Self::Distances(args) => args.run(global, screen),
            Self::Similarity(args) => args.run(global, screen),
            Self::Alignment(args) => args.run(global, screen),
            Self::Divergence(args) => args.run(global, screen),
        }
    }
}

/// The version of the form of the results.
const SCHEMA: &str = "lawvere-information/1";

/// A result as JSON, or as `told` tells it.
fn answer<T: Serialize>(
    result: &T,
    global: &Global,
    start: Instant,
    told: impl FnOnce(&T) -> String,
) -> Result<String, RunError> {
    told_with(SCHEMA, result, global, start, told)
}
