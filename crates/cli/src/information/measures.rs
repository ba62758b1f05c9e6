use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use lawvere::RunError;
use lawvere::core::stoch::Divergence;
use lawvere::information::{
    ContextSet, FisherOptions, SET_DIVERGENCES, STOCHASTICITY, SimilarityKernel, SimilarityOptions,
    alignments, distances, divergences, fisher, layers, likelihoods, similarities, stochasticities,
};

use super::source::{ContextsArgs, PositionsArgs};
use super::{answer, tables};
use crate::args::{Global, up_to};
use crate::output::Screen;

/// The cross-entropy as divergence plus entropy, in nats, bits a token and bits a byte
#[derive(Args)]
pub struct NllArgs {
    #[command(flatten)]
    source: ContextsArgs,
    /// Every context's own figures, too
    #[arg(long)]
    per_context: bool,
}

impl NllArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let source = self.source.source()?;
        let found = likelihoods(&source, self.per_context, global.seed, &mut |e| {
            screen.show(e)
        })?;
        answer(&found, global, start, tables::nll)
    }
}

/// How stochastic the head is beside the data: mean categorical entropies of both on the same contexts
#[derive(Args)]
pub struct StochasticityArgs {
    #[command(flatten)]
    source: ContextsArgs,
    /// Divergences [default: kl tv js hellinger renyi:0 renyi:0.5 renyi:1.5]
    #[arg(long, num_args = 1..)]
    divergence: Vec<Divergence>,
    /// The layer read out [default: the last]
    #[arg(long)]
    layer: Option<usize>,
}

impl StochasticityArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let chosen = chosen(&self.divergence, &STOCHASTICITY);
        let source = self.source.source()?;
        let mut on_event = |e| screen.show(e);
        let found = stochasticities(&source, &chosen, self.layer, &mut on_event)?;
        answer(&found, global, start, tables::stochasticity)
    }
}

fn chosen(given: &[Divergence], otherwise: &[Divergence]) -> Vec<Divergence> {
    match given {
        [] => otherwise.to_vec(),
        some => some.to_vec(),
    }
}

/// What each layer's states tell about the next token, and how coherent successive states are
#[derive(Args)]
pub struct LayersArgs {
    #[command(flatten)]
    source: PositionsArgs,
    /// How many times states are dealt at random for the controls of coherence
    #[arg(long, default_value_t = 5, value_parser = up_to::<1000>)]
    deals: usize,
}

impl LayersArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let source = self.source.source(global.seed)?;
        let found = layers(&source, self.deals, global.seed, &mut |e| screen.show(e))?;
        answer(&found, global, start, tables::layers)
    }
}

/// The Fisher-Rao metric of the head: which directions of a state matter, by the tokens they change
#[derive(Args)]
pub struct FisherArgs {
    #[command(flatten)]
    source: ContextsArgs,
    /// Leading directions of the mean metric, named by tokens
    #[arg(long, default_value_t = 8)]
    directions: usize,
    /// Contexts whose own spectrum is taken
    #[arg(long, default_value_t = 200, value_parser = up_to::<1_000_000>)]
    spectra: usize,
    /// Pairs of contexts whose path lengths are compared
    #[arg(long, default_value_t = 100, value_parser = up_to::<100_000>)]
    pairs: usize,
    /// Layers besides the last, read out through the final norm, whose derivative is taken along
    #[arg(long, value_delimiter = ',')]
    layers: Vec<usize>,
}

impl FisherArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let options = FisherOptions {
            directions: self.directions,
            spectra: self.spectra,
            pairs: self.pairs,
            layers: self.layers.clone(),
            seed: global.seed,
        };
        let found = fisher(&self.source.source()?, &options, &mut |e| screen.show(e))?;
        answer(&found, global, start, tables::fisher)
    }
}

/// Distances between the laws of model and data, and how the model distorts distances between contexts,
/// beside what its loss allows
#[derive(Args)]
pub struct DistancesArgs {
    #[command(flatten)]
    source: ContextsArgs,
    /// Contexts, drawn by their weights, whose pairs are compared
    #[arg(long, default_value_t = 512, value_parser = up_to::<16_384>)]
    sample: usize,
}

impl DistancesArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let source = self.source.source()?;
        let found = distances(&source, self.sample, global.seed, &mut |e| screen.show(e))?;
        answer(&found, global, start, tables::distances)
    }
}

/// Similarity operators of what is predicted after contexts: spectra, and Dirichlet energies of states
#[derive(Args)]
pub struct SimilarityArgs {
    #[command(flatten)]
    source: ContextsArgs,
    /// Kernels: bhattacharyya, hellinger[:BETA], expected-likelihood, jensen-shannon,
    /// exp-jensen-shannon[:BETA]
    #[arg(long, num_args = 1.., default_values = ["bhattacharyya", "expected-likelihood", "exp-jensen-shannon"])]
    similarity: Vec<SimilarityKernel>,
    /// Leading eigenvalues
    #[arg(long, default_value_t = SimilarityOptions::default().rank, value_parser = up_to::<4096>)]
    rank: usize,
    /// Of more contexts, so many are drawn
    #[arg(long, default_value_t = SimilarityOptions::default().contexts, value_parser = up_to::<32_768>)]
    at_most: usize,
    /// Landmarks of the approximation of kernels made of Jensen-Shannon divergences
    #[arg(long, default_value_t = SimilarityOptions::default().landmarks, value_parser = up_to::<8192>)]
    landmarks: usize,
}

impl SimilarityArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let options = SimilarityOptions {
            rank: self.rank,
            contexts: self.at_most,
            landmarks: self.landmarks,
            seed: global.seed,
            ..SimilarityOptions::default()
        };
        let source = self.source.source()?;
        let found = similarities(&source, &self.similarity, &options, &mut |e| screen.show(e))?;
        answer(&found, global, start, tables::similarity)
    }
}

/// How far every layer's states line up with what the data say follows, beside shuffled and untrained
/// controls, and the contrastive bound of the loss
#[derive(Args)]
pub struct AlignmentArgs {
    #[command(flatten)]
    source: ContextsArgs,
    /// The folder of an observation of the same contexts by the same network untrained
    #[arg(long, value_name = "FOLDER")]
    untrained: Option<PathBuf>,
    /// How many times prototypes are dealt to contexts at random for the controls
    #[arg(long, default_value_t = 5, value_parser = up_to::<1000>)]
    deals: usize,
}

impl AlignmentArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let found = alignments(
            &self.source.source()?,
            self.untrained.as_ref(),
            self.deals,
            global.seed,
            &mut |e| screen.show(e),
        )?;
        answer(&found, global, start, tables::alignment)
    }
}

/// How far apart two sets of contexts are in what is predicted after them
///
/// A set is rows:FIRST-LAST, text:WORDS (contexts that hold the words), last:TOKEN (contexts that end in
/// the token) or file:PATH (row numbers, one a line).
#[derive(Args)]
pub struct DivergenceArgs {
    #[command(flatten)]
    source: ContextsArgs,
    /// One set of contexts
    #[arg(long, value_name = "SET")]
    a: ContextSet,
    /// The other, without common contexts
    #[arg(long, value_name = "SET")]
    b: ContextSet,
    /// Divergences [default: kl reverse-kl tv hellinger chi2 js renyi:0.5 renyi:2]
    #[arg(long, num_args = 1..)]
    divergence: Vec<Divergence>,
    /// The layer read out [default: the last]
    #[arg(long)]
    layer: Option<usize>,
}

impl DivergenceArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let found = divergences(
            &self.source.source()?,
            (&self.a, &self.b),
            &chosen(&self.divergence, &SET_DIVERGENCES),
            self.layer,
            global.seed,
            &mut |e| screen.show(e),
        )?;
        answer(&found, global, start, tables::divergence)
    }
}
