//! Flags of an index: building it, asking it, looking after it.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use lawvere::index::{self, Query};
use lawvere::text::{BuildOptions, SampleOptions, TextSpace, Unseen, Verification};
use lawvere::{Event, RunError, TokenizerChoice};
use serde::Serialize;
use serde_json::json;

use crate::args::{CorpusArgs, Global, positive, told_with};
use crate::output::Screen;

#[derive(Subcommand)]
pub enum IndexCommand {
    Build(BuildArgs),
    Append(AppendArgs),
    Info(InfoArgs),
    Count(CountArgs),
    Next(NextArgs),
    Positions(PositionsArgs),
    Distance(DistanceArgs),
    Neighbours(NeighboursArgs),
    Contexts(ContextsArgs),
    Growth(GrowthArgs),
    Sample(SampleArgs),
    Verify(VerifyArgs),
    Repair(RepairArgs),
}

impl IndexCommand {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        match self {
            Self::Build(args) => args.run(global, screen),
            Self::Append(args) => args.run(global, screen),
            Self::Info(args) => args.run(global),
            Self::Count(args) => args.run(global),
            Self::Next(args) => args.run(global),
            Self::Positions(args) => args.run(global),
            Self::Distance(args) => args.run(global),
            Self::Neighbours(args) => args.run(global),
            Self::Contexts(args) => args.run(global),
            Self::Growth(args) => args.run(global),
            Self::Sample(args) => args.run(global),
            Self::Verify(args) => args.run(global, screen),
            Self::Repair(args) => args.run(global, screen),
        }
    }
}

/// The version of the form of the results.
const SCHEMA: &str = "lawvere-index/1";

fn answer<T: Serialize>(
    result: &T,
    global: &Global,
    start: Instant,
    told: impl FnOnce(&T) -> String,
) -> Result<String, RunError> {
    told_with(SCHEMA, result, global, start, told)
}

/// How an index is cut into shards.
#[derive(Args)]
struct ShardArgs {
    /// The most tokens and document ends of a shard; building takes 10 bytes of memory for each
    #[arg(long, value_name = "N", default_value_t = BuildOptions::default().shard_symbols,
        value_parser = positive)]
    shard_tokens: usize,
}

impl ShardArgs {
    fn options(&self) -> BuildOptions {
        BuildOptions {
            shard_symbols: self.shard_tokens,
        }
    }
}

/// Index a corpus: tokenize it and build the suffix array that answers every count.
#[derive(Args)]
pub struct BuildArgs {
    /// Files (plain text, JSON Lines, CSV, TSV, Parquet; plain, gzip or zstd; or token ids), folders of them, patterns
    /// in quotes, or `-` for standard input
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    corpus: Vec<PathBuf>,
    #[command(flatten)]
    reading: CorpusArgs,
    /// `words`, `bytes`, `ids:N` (token ids below N), or the path of a GGUF checkpoint, a tokenizer.json or a checkpoint
    /// folder. To observe a model later, take the model's own
    #[arg(long, default_value = "words", value_name = "WHAT")]
    tokenizer: TokenizerChoice,
    #[command(flatten)]
    shards: ShardArgs,
    /// The folder to make; an index there is replaced
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

impl BuildArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let space = index::index(
            &self.reading.options(&self.corpus),
            &self.tokenizer,
            &self.shards.options(),
            &self.out,
            &mut |event| screen.show(event),
        )?;
        built(&self.out, &space, global, start)
    }
}

/// Add a corpus to an index: as shards behind those it has, which are not built again.
#[derive(Args)]
pub struct AppendArgs {
    /// The index
    #[arg(long, value_name = "FOLDER")]
    index: PathBuf,
    /// What is added; as for `build`
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    corpus: Vec<PathBuf>,
    #[command(flatten)]
    reading: CorpusArgs,
    /// Refuse an index of another tokenizer than this
    #[arg(long, value_name = "WHAT")]
    tokenizer: Option<TokenizerChoice>,
    #[command(flatten)]
    shards: ShardArgs,
}

impl AppendArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let space = index::append(
            &self.index,
            &self.reading.options(&self.corpus),
            self.tokenizer.as_ref(),
            &self.shards.options(),
            &mut |event| screen.show(event),
        )?;
        built(&self.index, &space, global, start)
    }
}

fn built(
    folder: &std::path::Path,
    space: &TextSpace,
    global: &Global,
    start: Instant,
) -> Result<String, RunError> {
    let info = space.info();
    let result =
        json!({"index": folder, "space": info, "distinct_tokens": space.token_ids().len()});
    answer(&result, global, start, |_| {
        let shards = match info.shards.len() {
            1 => String::new(),
            n => format!(", {n} shards"),
        };
        format!(
            "{}: {} tokens ({} distinct) in {} documents{shards}",
            folder.display(),
            info.tokens,
            space.token_ids().len(),
            info.documents
        )
    })
}

/// Say what an index rests on.
#[derive(Args)]
pub struct InfoArgs {
    /// The index
    #[arg(value_name = "INDEX")]
    index: PathBuf,
}

impl InfoArgs {
    fn run(&self, global: &Global) -> Result<String, RunError> {
        let start = Instant::now();
        let info = TextSpace::describe(&self.index)?;
        answer(&info, global, start, |info| {
            let mut out = format!(
                "{}: {} tokens in {} documents, {} bytes of corpus, {} shards\n",
                self.index.display(),
                info.tokens,
                info.documents,
                info.bytes,
                info.shards.len()
            );
            let _ = writeln!(
                out,
                "tokenizer {} ({} tokens), corpus {}",
                info.tokenizer_identity, info.vocab_size, info.corpus_identity
            );
            for source in &info.sources {
                let _ = writeln!(out, "  {}  {} bytes", source.path.display(), source.bytes);
            }
            for shard in &info.shards {
                let _ = writeln!(
                    out,
                    "  {}  {} tokens in {} documents, symbols of {} bits",
                    shard.file, shard.tokens, shard.documents, shard.symbol_bits
                );
            }
            out.trim_end().to_owned()
        })
    }
}

/// The texts that are asked about.
#[derive(Args)]
#[command(group(ArgGroup::new("asked").required(true).multiple(true).args(["texts", "queries"])))]
struct Asked {
    /// The index
    #[arg(long, value_name = "FOLDER")]
    index: PathBuf,
    /// Texts; most tokenizers tell ` word` from `word`
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// A file of texts, one a line
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// Texts are token ids, separated by spaces or commas
    #[arg(long)]
    ids: bool,
}

impl Asked {
    fn open(&self) -> Result<(TextSpace, Vec<Query>), RunError> {
        let space = TextSpace::open(&self.index)?;
        let mut queries = index::queries(&space, &self.texts, self.ids)?;
        if let Some(path) = &self.queries {
            queries.extend(index::queries_of(&space, path, self.ids)?);
        }
        Ok((space, queries))
    }
}

/// Count how often texts occur.
#[derive(Args)]
pub struct CountArgs {
    #[command(flatten)]
    asked: Asked,
}

impl CountArgs {
    fn run(&self, global: &Global) -> Result<String, RunError> {
        let start = Instant::now();
        let (space, queries) = self.asked.open()?;
        answer(&index::counts(&space, queries), global, start, |found| {
            lines(
                found
                    .counts
                    .iter()
                    .map(|c| format!("{:>10}  {}", c.count, shown(&c.query))),
            )
        })
    }
}

/// What is said of contexts that do not occur.
#[derive(Clone, Copy, ValueEnum)]
enum UnseenChoice {
    /// The law of the longest suffix that occurs.
    Backoff,
    /// Nothing: it is an error.
    Strict,
    /// That nothing follows.
    Empty,
}

/// Say what follows contexts, how often, and how much of each context the answer rests on.
#[derive(Args)]
pub struct NextArgs {
    #[command(flatten)]
    asked: Asked,
    /// What is said of contexts that do not occur
    #[arg(long, value_enum, default_value = "backoff")]
    unseen: UnseenChoice,
    /// How many of the most frequent tokens are listed
    #[arg(long, default_value_t = 20, value_name = "N")]
    top: usize,
}

impl NextArgs {
    fn run(&self, global: &Global) -> Result<String, RunError> {
        let start = Instant::now();
        let (space, queries) = self.asked.open()?;
        let unseen = match self.unseen {
            UnseenChoice::Backoff => Some(Unseen::BackOff),
            UnseenChoice::Strict => Some(Unseen::Strict),
            UnseenChoice::Empty => None,
        };
        let laws = index::laws(&space, queries, unseen, self.top)?;
        answer(&laws, global, start, |found| {
            let law = |law: &index::Law| {
                let mut out = format!("{}: {} times", shown(&law.query), law.total);
                if law.used_length < law.query.tokens.len() {
                    let _ = write!(out, " (its last {} tokens)", law.used_length);
                }
                let _ = write!(out, ", {} different tokens follow", law.distinct);
                if law.ended > 0 {
                    let _ = write!(out, ", {} documents end", law.ended);
                }
                for o in &law.outcomes {
                    let _ = write!(
                        out,
                        "\n{:>10}  {:>8.4}  {:?}",
                        o.count, o.probability, o.text
                    );
                }
                out
            };
            lines(found.laws.iter().map(law))
        })
    }
}

/// Say where texts occur.
#[derive(Args)]
pub struct PositionsArgs {
    #[command(flatten)]
    asked: Asked,
    /// How many places are listed, the first of the corpus
    #[arg(long, default_value_t = 10, value_name = "N")]
    top: usize,
    /// Tokens that are shown on either side
    #[arg(long, default_value_t = 8, value_name = "N")]
    around: usize,
}

impl PositionsArgs {
    fn run(&self, global: &Global) -> Result<String, RunError> {
        let start = Instant::now();
        let (space, queries) = self.asked.open()?;
        let found = index::positions(&space, queries, self.top, self.around);
        answer(&found, global, start, |found| {
            let of = |text: &index::Found| {
                let places = text.positions.iter().map(|o| {
                    let (document, token) = (o.position.document, o.position.token);
                    format!("\n  document {document}, token {token}: {:?}", o.around)
                });
                let places: String = places.collect();
                format!("{}: {} times{places}", shown(&text.query), text.count)
            };
            lines(found.texts.iter().map(of))
        })
    }
}

/// Measure the directed distance d(a, b) = -ln Pr(b|a) of a text to one that it is a part of.
#[derive(Args)]
#[command(group(ArgGroup::new("pairs").required(true).args(["a", "queries"])))]
pub struct DistanceArgs {
    /// The index
    #[arg(long, value_name = "FOLDER")]
    index: PathBuf,
    /// From this text
    #[arg(long, value_name = "TEXT", requires = "b", conflicts_with = "queries")]
    a: Option<String>,
    /// To this text
    #[arg(long, value_name = "TEXT", requires = "a")]
    b: Option<String>,
    /// A file of pairs, one a line, the two texts separated by a tab
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// Texts are token ids, separated by spaces or commas
    #[arg(long)]
    ids: bool,
}

impl DistanceArgs {
    fn run(&self, global: &Global) -> Result<String, RunError> {
        let start = Instant::now();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        first.extend(self.a.clone());
        second.extend(self.b.clone());
        if let Some(path) = &self.queries {
            for (line, number) in index::lines_of(path)?.iter().zip(1..) {
                let Some((a, b)) = line.split_once('\t') else {
                    return Err(RunError::Input {
                        path: path.clone(),
                        what: format!(
                            "line {number}: no tab; a pair is two texts with a tab between them"
                        ),
                    });
                };
                first.push(a.to_owned());
                second.push(b.to_owned());
            }
        }
        let space = TextSpace::open(&self.index)?;
        let first = index::queries(&space, &first, self.ids)?;
        let second = index::queries(&space, &second, self.ids)?;
        let pairs = first.into_iter().zip(second).collect();
        answer(&index::distances(&space, pairs), global, start, |found| {
            lines(found.pairs.iter().map(|pair| {
                let distance = &pair.distance;
                let nats = match distance.distance {
                    None => format!("none: {} does not occur", shown(&pair.a)),
                    Some(nats) => format!("{nats} nats"),
                };
                format!(
                    "{} ({}) -> {} ({}): {nats}",
                    shown(&pair.a),
                    distance.count_a,
                    shown(&pair.b),
                    distance.count_b
                )
            }))
        })
    }
}

/// List the texts next to a text: with one token more on either side, nearest first, and with one less.
#[derive(Args)]
pub struct NeighboursArgs {
    #[command(flatten)]
    asked: Asked,
    /// How many longer texts are listed on each side
    #[arg(long, default_value_t = 10, value_name = "N")]
    top: usize,
}

impl NeighboursArgs {
    fn run(&self, global: &Global) -> Result<String, RunError> {
        let start = Instant::now();
        let (space, queries) = self.asked.open()?;
        let found = index::neighbours(&space, queries, self.top);
        answer(&json!({"texts": found}), global, start, |_| {
            let of = |text: &index::Neighbours| {
                let (began, ended) = (text.began, text.ended);
                let mut out = format!(
                    "{}: {} times, {began} at a document's beginning, {ended} at its end",
                    shown(&text.query),
                    text.count
                );
                for n in &text.neighbours {
                    let _ = write!(out, "\n{:>10}  {:>8.4}  {:?}", n.count, n.distance, n.text);
                }
                out
            };
            lines(found.iter().map(of))
        })
    }
}

/// List all contexts up to an order that occur often enough.
#[derive(Args)]
pub struct ContextsArgs {
    /// The index
    #[arg(long, value_name = "FOLDER")]
    index: PathBuf,
    /// The most tokens of a context
    #[arg(long, default_value_t = 3, value_parser = positive, value_name = "N")]
    order: usize,
    /// The fewest occurrences
    #[arg(long, default_value_t = 2, value_name = "N")]
    min_count: u64,
    /// How many contexts of each order are listed, the most frequent first
    #[arg(long, default_value_t = 20, value_parser = positive, value_name = "N")]
    top: usize,
}

impl ContextsArgs {
    fn run(&self, global: &Global) -> Result<String, RunError> {
        let start = Instant::now();
        let space = TextSpace::open(&self.index)?;
        let found = index::contexts(&space, self.order, self.min_count, self.top)?;
        answer(&json!({"orders": found}), global, start, |_| {
            let of = |order: &index::Contexts| {
                let mut out = format!("order {}: {} contexts", order.order, order.contexts);
                out.push_str("\n   count   support   entropy  context");
                for c in &order.shown {
                    let _ = write!(
                        out,
                        "\n{:>8}  {:>8}  {:>8.4}  {:?}",
                        c.count, c.support, c.entropy, c.query.text
                    );
                }
                out
            };
            lines(found.iter().map(of))
        })
    }
}

/// Show how supports grow with the corpus: what is unseen is not impossible.
#[derive(Args)]
pub struct GrowthArgs {
    /// The index
    #[arg(long, value_name = "FOLDER")]
    index: PathBuf,
    /// Tokens of a context
    #[arg(long, default_value_t = 2, value_parser = positive, value_name = "N")]
    order: usize,
}

impl GrowthArgs {
    fn run(&self, global: &Global) -> Result<String, RunError> {
        let start = Instant::now();
        let space = TextSpace::open(&self.index)?;
        let found = index::growth(&space, self.order, global.seed)?;
        answer(&found, global, start, |found| {
            let mut out = format!(
                "contexts of {} tokens\n  corpus     contexts        pairs  mean support",
                found.order
            );
            for p in &found.growth.points {
                let _ = write!(
                    out,
                    "\n{:>7.1}%  {:>11.0}  {:>11.0}  {:>12.3}",
                    100.0 * p.fraction,
                    p.contexts.mean,
                    p.entries.mean,
                    p.mean_support.mean
                );
            }
            let _ = write!(
                out,
                "\nabout {:.1}% of what follows next will be new after its context, {:.1}% of contexts will be new",
                100.0 * found.unseen_outcome,
                100.0 * found.unseen_context
            );
            out
        })
    }
}

/// Draw text from the corpus's own laws.
#[derive(Args)]
pub struct SampleArgs {
    /// The index
    #[arg(long, value_name = "FOLDER")]
    index: PathBuf,
    /// What is gone on with; nothing without it
    #[arg(long, default_value = "", value_name = "TEXT")]
    text: String,
    /// The text is token ids, separated by spaces or commas
    #[arg(long)]
    ids: bool,
    /// The most tokens of a text
    #[arg(long, default_value_t = 64, value_parser = positive, value_name = "N")]
    length: usize,
    /// The most tokens of context; 0 takes as many as occur, which soon quotes the corpus
    #[arg(long, default_value_t = 3, value_name = "N")]
    order: usize,
    /// How many texts
    #[arg(long, default_value_t = 1, value_parser = positive, value_name = "N")]
    count: usize,
    /// Refuse a context that does not occur, rather than go on with its longest suffix that does
    #[arg(long)]
    strict: bool,
}

impl SampleArgs {
    fn run(&self, global: &Global) -> Result<String, RunError> {
        let start = Instant::now();
        let space = TextSpace::open(&self.index)?;
        let mut queries = index::queries(&space, std::slice::from_ref(&self.text), self.ids)?;
        let query = queries.pop().unwrap_or_else(|| Query {
            text: String::new(),
            tokens: Vec::new(),
        });
        let options = SampleOptions {
            length: self.length,
            order: (self.order > 0).then_some(self.order),
            unseen: match self.strict {
                true => Unseen::Strict,
                false => Unseen::BackOff,
            },
        };
        let found = index::samples(&space, query, &options, self.count, global.seed)?;
        answer(&found, global, start, |found| {
            lines(found.samples.iter().map(|s| s.text.clone()))
        })
    }
}

/// Check an index from the ground up: checksums, and suffix arrays against the text sorted again. Exit status 1 if
/// anything is wrong.
#[derive(Args)]
pub struct VerifyArgs {
    /// The index
    #[arg(value_name = "INDEX")]
    index: PathBuf,
}

impl VerifyArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let mut on_stage = |stage: &str| screen.show(Event::Part(stage.to_owned()));
        let found = TextSpace::verify(&self.index, &mut on_stage)?;
        if found.sound || global.json {
            let told = answer(&found, global, start, |_| {
                format!("{}: sound", self.index.display())
            })?;
            if found.sound {
                return Ok(told);
            }
            println!("{told}");
        }
        Err(RunError::Input {
            path: self.index.clone(),
            what: format!(
                "{} (`lawvere index repair` mends what can be)",
                problems(&found)
            ),
        })
    }
}

/// Mend an index: sort again what is damaged and derived from sound text, remove what killed runs left.
#[derive(Args)]
pub struct RepairArgs {
    /// The index
    #[arg(value_name = "INDEX")]
    index: PathBuf,
}

impl RepairArgs {
    fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let mut on_stage = |stage: &str| screen.show(Event::Part(stage.to_owned()));
        let found = TextSpace::repair(&self.index, &mut on_stage)?;
        answer(&found, global, start, |found| match found.sound {
            true => format!("{}: sound; nothing to do", self.index.display()),
            false => format!("{}: mended ({})", self.index.display(), problems(found)),
        })
    }
}

fn problems(found: &Verification) -> String {
    let shards = found.shards.iter();
    let shards = shards.filter_map(|s| Some(format!("{}: {}", s.file, s.problem.as_ref()?)));
    let left = found
        .left_over
        .iter()
        .map(|f| format!("{f} is left of a killed run"));
    shards.chain(left).collect::<Vec<_>>().join("; ")
}

fn lines(all: impl Iterator<Item = String>) -> String {
    all.collect::<Vec<_>>().join("\n")
}

fn shown(query: &Query) -> String {
    format!("{:?}", query.text)
}
