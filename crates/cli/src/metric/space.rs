//! What is asked of a space.

use std::fmt::Write;
use std::time::Instant;

use clap::{ArgGroup, Args};
use lawvere::metric::{self, read_extended};
use lawvere::{Event, RunError};
use serde_json::json;

use super::texts::{Asked, SpaceArgs, VectorArgs, answer, named, number, table};
use crate::args::Global;
use crate::output::Screen;

/// Texts whose triples take seconds to look at.
const MANY: usize = 2000;

/// Say what a space is: a language model or a directed metric, with a potential or without, and how exactly its
/// Yoneda embeddings keep distances
#[derive(Args)]
pub struct CheckArgs {
    #[command(flatten)]
    space: SpaceArgs,
}

impl CheckArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let set = self.space.open(Asked::Nothing, screen)?;
        if set.space.is_some() && set.names.len() >= MANY {
            screen.show(Event::Part(format!(
                "holding {} texts against one another, three at a time",
                set.names.len()
            )));
        }
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
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let set = self.space.open(Asked::Pair(&self.a, &self.b), screen)?;
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
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let set = self.space.open(Asked::Within(&self.text), screen)?;
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
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let (set, x) = self.given.open(screen)?;
        let found = self.given.named(metric::project(&set, &x))?;
        answer(&found, &set, global, start, |found| {
            let columns = [
                ("below", &found.below[..]),
                ("given", &x),
                ("above", &found.above),
            ];
            format!(
                "{} nats from P(L)\n{}",
                number(found.distance),
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
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let (set, x) = self.given.open(screen)?;
        let found = self.given.named(metric::span(&set, &x))?;
        answer(&found, &set, global, start, |found| match &found.missed {
            Some(missed) => format!(
                "not in P(L): x at {:?} is {} nats more than x at {:?} and their distance",
                set.names[missed.from],
                number(missed.by),
                set.names[missed.to]
            ),
            None => {
                let line = |c: &metric::Coordinate| {
                    let value = c.value.map_or("none".into(), |v| number(v.get()));
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
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let set = self.space.open(Asked::Nothing, screen)?;
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
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let (set, z) = self.given.open(screen)?;
        let found = self.given.named(metric::decompose(&set, &z))?;
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
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let (set, x) = self.given.open(screen)?;
        let found = self.given.named(metric::extend(&set, &self.on, &x))?;
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
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let set = self.space.open(Asked::Within(&self.text), screen)?;
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
                    number(at.temperature),
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

/// Give Isbell's conjugate of a vector and its completion, the greatest point of the Isbell completion below it; or list
/// the points of the completion
#[derive(Args)]
#[command(group(ArgGroup::new("point").required(true).args(["vector", "cuts"])))]
pub struct IsbellArgs {
    #[command(flatten)]
    space: SpaceArgs,
    /// A number for every text: a JSON array ("inf" and "-inf" are infinite), or the name of a .json, .npy or .safetensors
    #[arg(long, value_name = "VECTOR", allow_hyphen_values = true)]
    vector: Option<String>,
    /// With a potential, list all points of the completion up to constants: the Dedekind-MacNeille cuts of the order
    #[arg(long)]
    cuts: bool,
}

impl IsbellArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let set = self.space.open(Asked::Nothing, screen)?;
        let Some(vector) = &self.vector else {
            let found = metric::completion(&set)?;
            return answer(&found, &set, global, start, |found| {
                let mut out = format!(
                    "{} cuts; a point is c - f on a cut and infinite off it, f the potential\n{}",
                    found.cuts.len(),
                    table(&set.names, &[("potential", &found.potential)])
                );
                for cut in &found.cuts {
                    let names: Vec<String> = cut.names.iter().map(|n| format!("{n:?}")).collect();
                    let _ = write!(out, "\n  {}", names.join(", "));
                    if let Some(k) = cut.principal {
                        let _ = write!(out, " (the image of {:?})", set.names[k]);
                    }
                }
                out
            });
        };
        let x = read_extended(vector)?;
        let found = named(vector, metric::isbell(&set, &x))?;
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
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let (set, x) = self.given.open(screen)?;
        let found = self.given.named(metric::dualise(&set, &x))?;
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
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let set = self.space.open(Asked::Nothing, screen)?;
        let found = metric::magnitude(&set, &self.t)?;
        answer(&json!({"magnitudes": found}), &set, global, start, |_| {
            let line =
                |m: &metric::Magnitude| format!("t = {}: {}", number(m.t), number(m.magnitude));
            found.iter().map(line).collect::<Vec<_>>().join("\n")
        })
    }
}
