//! Flags of the metric lens.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use lawvere::metric::{
    self, ContinuationPlan, CountSource, Order, Origin, TextSet, WordPlan, read_extended,
};
use lawvere::{RunError, TokenizerChoice};
use serde::Serialize;
use serde_json::json;

use crate::args::{CorpusArgs, Global, positive, told_with};
use crate::output::Screen;

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
            Self::Evaluate(args) => args.run(global, screen),
        }
    }
}

/// The version of the form of the results.
const SCHEMA: &str = "lawvere-metric/1";

/// A result and what it rests on.
#[derive(Serialize)]
struct Sourced<'a, T> {
    #[serde(flatten)]
    result: &'a T,
    source: &'a Origin,
}

fn answer<T: Serialize>(
    result: &T,
    set: &TextSet,
    global: &Global,
    start: Instant,
    told: impl FnOnce(&T) -> String,
) -> Result<String, RunError> {
    let source = &set.source;
    let sourced = Sourced { result, source };
    told_with(SCHEMA, &sourced, global, start, |_| told(result))
}

/// Where the space comes from.
#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).args(["space", "index", "corpus", "model"])))]
struct SpaceArgs {
    /// The space: JSON with `texts`, `order` (prefix, subtext, given) and `edges` [[i, j, Pr(j|i)], ...] of covering pairs
    #[arg(long, value_name = "SPACE.json")]
    space: Option<PathBuf>,
    /// The space of texts of a corpus, by its index: Pr(b|a) = count(b) / count(a)
    #[arg(long, value_name = "FOLDER", requires = "texts")]
    index: Option<PathBuf>,
    /// The same of a corpus that is indexed for this question alone: files, folders, patterns
    #[arg(long, num_args = 1.., value_name = "PATH", requires = "texts")]
    corpus: Vec<PathBuf>,
    /// With --corpus: `words`, `bytes`, or the path of a GGUF checkpoint, a tokenizer.json or a folder that holds one
    #[arg(long, default_value = "words", value_name = "TOKENIZER")]
    tokenizer: TokenizerChoice,
    #[command(flatten)]
    reading: CorpusArgs,
    /// The space of texts by how a model goes on with them, in the order of prefixes: a GGUF file or a folder
    #[arg(long, value_name = "MODEL", requires = "texts")]
    model: Option<PathBuf>,
    /// The texts of --index, --corpus or --model, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "space")]
    texts: Option<PathBuf>,
    /// With --index or --corpus, texts are token ids, separated by spaces or commas
    #[arg(long)]
    ids: bool,
    /// With --index or --corpus, how texts are ordered
    #[arg(long, value_enum, default_value = "subtext")]
    order: OrderChoice,
}

/// A text extends what stands within it, or its prefixes.
#[derive(Clone, Copy, ValueEnum)]
enum OrderChoice {
    Subtext,
    Prefix,
}

impl SpaceArgs {
    fn open(&self, screen: &mut Screen) -> Result<TextSet, RunError> {
        let order = match self.order {
            OrderChoice::Subtext => Order::Subtext,
            OrderChoice::Prefix => Order::Prefix,
        };
        let on_event = &mut |event| screen.show(event);
        let texts = match (&self.space, &self.texts) {
            (Some(space), _) => return metric::read_space(space),
            (None, Some(texts)) => texts,
            (None, None) => {
                return Err(RunError::Usage(
                    "--texts names the file of the texts".into(),
                ));
            }
        };
        let from = match (&self.index, &self.model) {
            (Some(index), _) => CountSource::Index(index.clone()),
            (None, Some(model)) => return metric::space_of_model(model, texts, on_event),
            (None, None) => {
                let options = self.reading.options(&self.corpus);
                CountSource::Corpus(options, self.tokenizer.clone())
            }
        };
        metric::space_of_corpus(&from, texts, self.ids, order, on_event)
    }
}

/// A space and a vector on it.
#[derive(Args)]
struct VectorArgs {
    #[command(flatten)]
    space: SpaceArgs,
    /// A number for every text: a JSON array ("inf" and "-inf" are infinite), or the name of a .json, .npy or .safetensors
    #[arg(long, value_name = "VECTOR", allow_hyphen_values = true)]
    vector: String,
}

impl VectorArgs {
    fn open(&self, screen: &mut Screen) -> Result<(TextSet, Vec<f64>), RunError> {
        Ok((self.space.open(screen)?, read_extended(&self.vector)?))
    }
}

/// Vectors side by side, a line a text.
fn table(names: &[String], columns: &[(&str, &[f64])]) -> String {
    let mut out = String::new();
    for (title, _) in columns {
        let _ = write!(out, "{title:>12}  ");
    }
    out.push_str("text");
    for (i, name) in names.iter().enumerate() {
        out.push('\n');
        for (_, values) in columns {
            let value = values.get(i).copied().unwrap_or(f64::NAN);
            let _ = match value.abs() {
                small if small > 0.0 && small < 1e-4 => write!(out, "{value:>12.4e}  "),
                large if large >= 1e9 && large.is_finite() => write!(out, "{value:>12.4e}  "),
                _ => write!(out, "{value:>12.6}  "),
            };
        }
        let _ = write!(out, "{name:?}");
    }
    out
}

/// Say what a space is: a language model or a directed metric, with a potential or without, and how exactly its
/// Yoneda embeddings keep distances
#[derive(Args)]
pub struct CheckArgs {
    #[command(flatten)]
    space: SpaceArgs,
}

impl CheckArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let set = self.space.open(screen)?;
        let found = metric::check(&set)?;
        answer(&found, &set, global, start, |found| {
            let mut out = format!(
                "a {} of {} texts, {} covering pairs",
                found.level, found.texts, found.covers
            );
            if let Some(breach) = &found.breach {
                let _ = write!(out, "\nno language model: {breach}");
            }
            out.push_str(match &found.no_potential {
                None => "\nwith a potential: rays are connected lower sets",
                Some(_) => "\nwithout a potential",
            });
            if let Some(isometry) = &found.isometry {
                let _ = write!(
                    out,
                    "\nYoneda embeddings keep all {} distances to {:e} nats",
                    isometry.pairs,
                    isometry.yoneda_defect.max(isometry.co_yoneda_defect)
                );
            }
            out
        })
    }
}

/// Measure the distance from one text to another, and back
#[derive(Args)]
pub struct DistanceArgs {
    #[command(flatten)]
    space: SpaceArgs,
    /// From this text
    a: String,
    /// To this text
    b: String,
}

impl DistanceArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let set = self.space.open(screen)?;
        let found = metric::distance(&set, &self.a, &self.b)?;
        answer(&found, &set, global, start, |found| {
            let nats =
                |x: &Option<lawvere::core::EReal>| x.map_or("none".into(), |x| x.to_string());
            let [a, b] = &found.texts;
            format!(
                "{a:?} -> {b:?}: {} nats, Pr {}\n{b:?} -> {a:?}: {} nats",
                nats(&found.distance),
                found.probability,
                nats(&found.back)
            )
        })
    }
}

/// Give the Yoneda image d(-, a) and the co-Yoneda image d(a, -) of a text
#[derive(Args)]
pub struct EmbedArgs {
    #[command(flatten)]
    space: SpaceArgs,
    /// The text, by its tokens or as #NUMBER
    text: String,
}

impl EmbedArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let set = self.space.open(screen)?;
        let found = metric::embed(&set, &self.text)?;
        answer(&found, &set, global, start, |found| {
            let columns = [
                ("Yoneda", &found.yoneda[..]),
                ("co-Yoneda", &found.co_yoneda),
            ];
            table(&set.names, &columns)
        })
    }
}

/// Find the nearest points of P(L) to a vector: the greatest below it, the least above it
#[derive(Args)]
pub struct ProjectArgs {
    #[command(flatten)]
    given: VectorArgs,
}

impl ProjectArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let (set, x) = self.given.open(screen)?;
        let found = metric::project(&set, &x)?;
        answer(&found, &set, global, start, |found| {
            let columns = [
                ("below", &found.below[..]),
                ("given", &x),
                ("above", &found.above),
            ];
            format!(
                "{} nats from P(L)\n{}",
                found.distance,
                table(&set.names, &columns)
            )
        })
    }
}

/// Say whether a vector is in P(L), and which texts' images span it
#[derive(Args)]
pub struct SpanArgs {
    #[command(flatten)]
    given: VectorArgs,
}

impl SpanArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let (set, x) = self.given.open(screen)?;
        let found = metric::span(&set, &x)?;
        answer(&found, &set, global, start, |found| match &found.missed {
            Some(missed) => format!(
                "not in P(L): x at {:?} is {} nats more than x at {:?} and their distance",
                set.names[missed.from], missed.by, set.names[missed.to]
            ),
            None => {
                let line = |c: &metric::Coordinate| {
                    let value = c.value.map_or("none".into(), |v| v.to_string());
                    format!("\n{value:>12}  {:?}", c.text)
                };
                let lines: String = found.generators.iter().map(line).collect();
                format!("in P(L), spanned by the images of{lines}")
            }
        })
    }
}

/// List or count the extremal rays of Q(L)
#[derive(Args)]
pub struct RaysArgs {
    #[command(flatten)]
    space: SpaceArgs,
    /// Only count them: exactly, for forests of prefixes of any size and for up to 20 texts with a potential
    #[arg(long)]
    count: bool,
}

impl RaysArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let set = self.space.open(screen)?;
        if self.count {
            let found = metric::count_rays(&set)?;
            return answer(&found, &set, global, start, |found| {
                format!(
                    "{} extremal rays, {} of them principal",
                    found.count, found.principal
                )
            });
        }
        let found = metric::rays(&set)?;
        answer(&json!({"rays": found}), &set, global, start, |_| {
            let mut out = format!("{} extremal rays, z = exp of", found.len());
            for ray in &found {
                let on = ray
                    .log
                    .iter()
                    .zip(&set.names)
                    .filter(|(x, _)| x.is_finite());
                let on: Vec<String> = on.map(|(x, name)| format!("{x:.4} at {name:?}")).collect();
                let _ = write!(out, "\n  {}", on.join(", "));
                if let Some(k) = ray.principal {
                    let _ = write!(out, " (the image of {:?})", set.names[k]);
                }
            }
            out
        })
    }
}

/// Decompose a point z of the cone Q(L) into extremal rays: its level sets, split where they are not connected
#[derive(Args)]
pub struct DecomposeArgs {
    #[command(flatten)]
    given: VectorArgs,
}

impl DecomposeArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let (set, z) = self.given.open(screen)?;
        let found = metric::decompose(&set, &z)?;
        answer(&found, &set, global, start, |found| {
            let lines = found.parts.iter().map(|part| {
                let shown = part.names.iter().take(12).map(|name| format!("{name:?}"));
                let shown: Vec<String> = shown.collect();
                let more = match part.names.len() - shown.len() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("{:>14.6e}  {}{more}", part.weight, shown.join(", "))
            });
            let lines: Vec<String> = lines.collect();
            format!("        weight  on the texts\n{}", lines.join("\n"))
        })
    }
}

/// Extend a vector from some texts to all: the greatest and the least way (Kan extensions)
#[derive(Args)]
pub struct ExtendArgs {
    #[command(flatten)]
    given: VectorArgs,
    /// The texts that the vector is given on
    #[arg(required = true, value_name = "TEXT")]
    on: Vec<String>,
}

impl ExtendArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let (set, x) = self.given.open(screen)?;
        let found = metric::extend(&set, &self.on, &x)?;
        answer(&found, &set, global, start, |found| {
            let columns = [("greatest", &found.greatest[..]), ("least", &found.least)];
            table(&set.names, &columns)
        })
    }
}

/// Approximate a text's image by those of parts, as attention weighs them, at one or more temperatures
#[derive(Args)]
pub struct BoltzmannArgs {
    #[command(flatten)]
    space: SpaceArgs,
    /// The text
    text: String,
    /// Its parts [default: all texts below it]
    #[arg(value_name = "PART")]
    parts: Vec<String>,
    /// Temperatures, nats; 0 is the tropical approximation
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0,0.5,1,2",
        value_name = "T"
    )]
    temperature: Vec<f64>,
}

impl BoltzmannArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let set = self.space.open(screen)?;
        let found = metric::boltzmann(&set, &self.text, &self.parts, &self.temperature)?;
        answer(&found, &set, global, start, |found| {
            let mut out = format!("{:?} by", found.text);
            for (i, part) in found.parts.iter().enumerate() {
                let _ = write!(out, "\n{part:?}: weights");
                for at in &found.temperatures {
                    let _ = write!(out, "  {:.4}", at.weights[i]);
                }
            }
            for at in &found.temperatures {
                let _ = write!(
                    out,
                    "\nT = {}: errors up to {:.4} nats, {:.4} on average, over {} texts; {} texts are below {:?} only",
                    at.temperature,
                    at.largest_error,
                    at.mean_error,
                    at.finite,
                    at.only_in_image,
                    found.text
                );
            }
            out
        })
    }
}

/// Give Isbell's conjugate of a vector and its completion, the greatest point of the Isbell completion below it
#[derive(Args)]
pub struct IsbellArgs {
    #[command(flatten)]
    given: VectorArgs,
}

impl IsbellArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let (set, x) = self.given.open(screen)?;
        let found = metric::isbell(&set, &x)?;
        answer(&found, &set, global, start, |found| {
            let columns = [
                ("given", &x[..]),
                ("conjugate", &found.conjugate),
                ("completion", &found.completion),
            ];
            table(&set.names, &columns)
        })
    }
}

/// Give the dual -x of a vector, and say whether both are in the polyhedra they belong to
#[derive(Args)]
pub struct DualArgs {
    #[command(flatten)]
    given: VectorArgs,
}

impl DualArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let (set, x) = self.given.open(screen)?;
        let found = metric::dualise(&set, &x)?;
        answer(&found, &set, global, start, |found| {
            let place = match found.member && found.dual_member {
                true => "x is in P(L), -x in P^(L)",
                false => "x is not in P(L)",
            };
            format!("{place}\n{}", table(&set.names, &[("dual", &found.dual)]))
        })
    }
}

/// Give the magnitude of t d, an effective number of texts
#[derive(Args)]
pub struct MagnitudeArgs {
    #[command(flatten)]
    space: SpaceArgs,
    /// Scales t
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0.5,1,2",
        value_name = "T"
    )]
    t: Vec<f64>,
}

impl MagnitudeArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let set = self.space.open(screen)?;
        let found = metric::magnitude(&set, &self.t)?;
        answer(&json!({"magnitudes": found}), &set, global, start, |_| {
            let line = |m: &metric::Magnitude| format!("t = {}: {}", m.t, m.magnitude);
            found.iter().map(line).collect::<Vec<_>>().join("\n")
        })
    }
}

/// How continuations are drawn.
#[derive(Args)]
struct ContinuationArgs {
    /// Continuations drawn after each text
    #[arg(long, default_value_t = 20, value_parser = positive, value_name = "N")]
    continuations: usize,
    /// The most tokens of a continuation
    #[arg(long, default_value_t = 10, value_parser = positive, value_name = "N")]
    tokens: usize,
}

impl ContinuationArgs {
    fn plan(&self, global: &Global) -> ContinuationPlan {
        ContinuationPlan {
            samples: self.continuations,
            tokens: self.tokens,
            seed: global.seed,
        }
    }
}

/// Compare texts by how a model goes on with them: Renyi divergences of the laws of continuations, with errors, the
/// direction of entailment, and Liu's distance
#[derive(Args)]
pub struct CompareArgs {
    /// The model: a GGUF file or a folder
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
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
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let plan = self.drawn.plan(global);
        let on_event = &mut |event| screen.show(event);
        let found = metric::compare_texts(&self.model, &self.texts, &self.orders, &plan, on_event)?;
        told_with(SCHEMA, &found, global, start, |found| {
            let estimate = |e: &metric::Estimate| match e.error {
                Some(error) => format!("{:.3} ± {error:.3}", e.value),
                None => format!("at least {:.3}", e.value),
            };
            let pair = |pair: &metric::ComparedTexts| {
                let mut out = format!("{:?}, {:?}", pair.first, pair.second);
                for d in &pair.divergences {
                    let _ = write!(
                        out,
                        "\n  order {}: there {}, back {}, both {}",
                        d.order,
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

/// Hold distances between sentences against human judgements of their likeness, or the direction between words against pairs
/// of hyponym and hypernym
#[derive(Args)]
#[command(group(ArgGroup::new("judgements").required(true).args(["sts", "hyponyms"])))]
pub struct EvaluateArgs {
    /// The model: a GGUF file or a folder
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Judgements: a CSV of two sentences and a score a line, without a header
    #[arg(long, value_name = "FILE.csv")]
    sts: Option<PathBuf>,
    /// Pairs of words, hyponym and hypernym with a tab between them
    #[arg(long, value_name = "FILE.tsv", requires = "index")]
    hyponyms: Option<PathBuf>,
    /// With --hyponyms, the corpus whose contexts words are put into: an index made with the model's tokenizer
    #[arg(long, value_name = "FOLDER")]
    index: Option<PathBuf>,
    /// With --hyponyms, places of each word that are taken as contexts
    #[arg(long, default_value_t = 8, value_parser = positive, value_name = "N")]
    contexts: usize,
    /// Only the first N pairs
    #[arg(long, value_name = "N", value_parser = positive)]
    limit: Option<usize>,
    #[command(flatten)]
    drawn: ContinuationArgs,
}

impl EvaluateArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let on_event = &mut |event| screen.show(event);
        if let (Some(pairs), Some(index)) = (&self.hyponyms, &self.index) {
            let plan = WordPlan {
                contexts: self.contexts,
                seed: global.seed,
                ..WordPlan::default()
            };
            let (model, limit) = (&self.model, self.limit);
            let found = metric::evaluate_hyponyms(model, index, pairs, limit, &plan, on_event)?;
            return told_with(SCHEMA, &found, global, start, |found| {
                format!(
                    "{} pairs ({} left out): the hyponym is told in {:.1} % ({:.1} to {:.1}); the rarer word is it in {:.1} %\n{} tokens forwarded",
                    found.pairs,
                    found.left_out,
                    100.0 * found.accuracy,
                    100.0 * found.interval[0],
                    100.0 * found.interval[1],
                    100.0 * found.by_frequency,
                    found.forwarded
                )
            });
        }
        let plan = self.drawn.plan(global);
        let sts = self.sts.clone().unwrap_or_default();
        let found = metric::evaluate_likeness(&self.model, &sts, self.limit, &plan, on_event)?;
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
