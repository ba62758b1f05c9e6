use std::time::Instant;

use clap::Args;
use lawvere::RunError;
use lawvere::information::{
    AheadOptions, BoundOptions, DraftOptions, HeadOptions, draft, information_ahead,
};

use super::source::PositionsArgs;
use super::{answer, tables};
use crate::args::{Global, positive, up_to};
use crate::output::Screen;

/// How heads for tokens ahead are fitted.
#[derive(Args)]
struct HeadArgs {
    /// Tokens that heads tell apart, the most frequent ones; all others are one outcome
    #[arg(long, default_value_t = HeadOptions::default().outcomes, value_parser = positive)]
    outcomes: usize,
    /// Passes over the positions
    #[arg(long, default_value_t = HeadOptions::default().epochs, value_parser = up_to::<10_000>)]
    epochs: usize,
    /// The learning rate of the first step times the dimension of a state; it falls to 0
    #[arg(long, default_value_t = HeadOptions::default().learning_rate)]
    learning_rate: f64,
    /// The share of documents held out
    #[arg(long, default_value_t = HeadOptions::default().test)]
    test: f64,
}

impl HeadArgs {
    fn options(&self, seed: u64) -> HeadOptions {
        HeadOptions {
            outcomes: self.outcomes,
            epochs: self.epochs,
            learning_rate: self.learning_rate,
            test: self.test,
            seed,
            ..HeadOptions::default()
        }
    }
}

/// How many tokens ahead states know: what fitted heads can use of the tokens after the next, and bounds for
/// whole blocks (`layers` has what states tell of the next token itself)
#[derive(Args)]
pub struct SurplusArgs {
    #[command(flatten)]
    source: PositionsArgs,
    /// The furthest token after the next, and the longest block of the bounds
    #[arg(long, default_value_t = 8, value_parser = up_to::<1024>)]
    k: usize,
    /// Tokens ahead that heads are fitted for [default: powers of two up to --k, and --k]
    #[arg(long, value_delimiter = ',')]
    ahead: Vec<usize>,
    /// Layers that heads are fitted on [default: five, spread evenly, the last among them]
    #[arg(long, value_delimiter = ',')]
    layers: Vec<usize>,
    #[command(flatten)]
    heads: HeadArgs,
    /// Bounds: contexts contrasted with one another; log of it is the highest lower bound. 0 leaves the
    /// bounds out [default: 64 with --model, else 0]
    #[arg(long, value_parser = clap::value_parser!(u16).range(..=4096))]
    bound_contexts: Option<u16>,
    /// Bounds: independent groups of contexts
    #[arg(long, default_value_t = 4, value_parser = up_to::<1024>)]
    bound_groups: usize,
}

impl SurplusArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let source = self.source.source(global.seed)?;
        let otherwise = if source.model.is_some() { 64 } else { 0 };
        let contexts = self.bound_contexts.map_or(otherwise, usize::from);
        let options = AheadOptions {
            furthest: self.k,
            ahead: self.ahead.clone(),
            layers: self.layers.clone(),
            heads: self.heads.options(global.seed),
            bounds: (contexts > 0).then_some(BoundOptions {
                contexts,
                groups: self.bound_groups,
            }),
            bounds_needed: self.bound_contexts.is_some(),
        };
        let found = information_ahead(&source, &options, global.seed, &mut |e| screen.show(e))?;
        answer(&found, global, start, tables::surplus)
    }
}

/// Draft tokens with heads fitted on states: how many would be accepted, forecast and run
#[derive(Args)]
pub struct DraftArgs {
    #[command(flatten)]
    source: PositionsArgs,
    /// Tokens drafted at once, after the next
    #[arg(long, default_value_t = 4, value_parser = up_to::<64>)]
    length: usize,
    /// The layer that heads draft from [default: the last]
    #[arg(long)]
    layer: Option<usize>,
    /// Prefixes of either kind at most: drawn by the model, and of held-out documents, each of its own
    #[arg(long, default_value_t = 400, value_parser = up_to::<100_000>)]
    prefixes: usize,
    /// The shortest and longest prefix, in tokens
    #[arg(long, value_delimiter = ',', num_args = 1..=2, default_values_t = [8, 32], value_parser = up_to::<1_000_000>, value_name = "SHORTEST,LONGEST")]
    prefix_tokens: Vec<usize>,
    /// Drafts a prefix for the forecast, and as many for the run
    #[arg(long, default_value_t = 4, value_parser = up_to::<256>)]
    drafts: usize,
    /// Rounds of decoding after each of at most 100 prefixes, every round beginning where the last one stopped
    #[arg(long, default_value_t = 4, value_parser = up_to::<256>)]
    rounds: usize,
    /// The cost of one head in passes of the model [default: by counting multiplications]
    #[arg(long)]
    cost: Option<f64>,
    #[command(flatten)]
    heads: HeadArgs,
}

impl DraftArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let first = self.prefix_tokens.first().copied().unwrap_or(8);
        let options = DraftOptions {
            length: self.length,
            layer: self.layer,
            prefixes: self.prefixes,
            prefix_tokens: (first, self.prefix_tokens.get(1).copied().unwrap_or(first)),
            drafts: self.drafts,
            rounds: self.rounds,
            cost: self.cost,
            heads: self.heads.options(global.seed),
        };
        let source = self.source.source(global.seed)?;
        let found = draft(&source, &options, global.seed, &mut |e| screen.show(e))?;
        answer(&found, global, start, tables::draft)
    }
}
