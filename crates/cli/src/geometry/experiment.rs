//! Flags of the experiment: predicted geometry beside trained networks.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use lawvere::observation::ContextPlan;
use lawvere::{ExperimentOptions, NetworkKind, NetworkPlan, NetworkSizes, RunError};
use serde_json::json;

use crate::args::{Global, command_line, positive, pretty};
use crate::output::Screen;
use crate::train::SourceArgs;

/// A network and, after a colon, its number of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    network: NetworkKind,
    steps: Option<u64>,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, steps) = match text.split_once(':') {
            Some((name, steps)) => (name, Some(steps)),
            None => (text, None),
        };
        let network = name.parse()?;
        let steps = match steps.map(str::parse::<u64>) {
            None => None,
            Some(Ok(steps)) if steps > 0 => Some(steps),
            Some(_) => {
                return Err(format!(
                    "the steps of `{text}` must be a whole number from 1"
                ));
            }
        };
        Ok(Self { network, steps })
    }
}

/// Predict the geometry of a corpus's contexts and train networks on them beside it: one page
///
/// Without a corpus or an index, on the built-in language. The page has the support matrix, the
/// max-margin logits with their certificate, the regularisation path, and every network's losses,
/// norms, cosines and collapse along training.
#[derive(Args)]
pub struct ExperimentArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Tokens of a context
    #[arg(long, default_value_t = 3, value_parser = positive)]
    order: usize,
    /// The fewest occurrences of a context
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    min_count: u64,
    /// Only contexts that so many different tokens follow
    #[arg(long, default_value_t = 1, value_parser = positive)]
    min_support: usize,
    /// How many contexts, the most frequent first
    #[arg(long, default_value_t = 403, value_parser = positive)]
    contexts: usize,
    /// Networks: ufm, transformer, mlp, lstm, with steps after a colon [default: the four, with 1000
    /// steps, ufm 20000]
    #[arg(long, value_delimiter = ',', value_name = "KIND[:STEPS]")]
    kinds: Vec<Kind>,
    /// Dimension of states
    #[arg(long, default_value_t = 128, value_parser = positive)]
    width: usize,
    /// Blocks of the transformer; the other networks have 2 layers
    #[arg(long, default_value_t = 4, value_parser = positive)]
    blocks: usize,
    /// AdamW's learning rate of networks; that of the ufm is ten times as much
    #[arg(long, default_value_t = 0.001, value_parser = rate, allow_negative_numbers = true)]
    learning_rate: f64,
    /// Factor of |weights|^2 / 2 in the loss
    #[arg(long, default_value_t = 0.0, value_parser = penalty, allow_negative_numbers = true)]
    ridge: f64,
    /// Points of the regularisation path, from lambda_max down
    #[arg(long, default_value_t = 17, value_parser = clap::value_parser!(u64).range(2..=10_000))]
    points: u64,
    /// The smallest penalty of the path, as a fraction of lambda_max
    #[arg(long, default_value_t = 1e-8)]
    to: f64,
    /// The certified relative gap of the max-margin logits
    #[arg(long, default_value_t = 1e-7, value_parser = super::tolerance)]
    tol: f64,
    /// The folder to fill: report.html, report.json, data/
    #[arg(long, value_name = "FOLDER", default_value = "geometry")]
    out: PathBuf,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 1e3 => Ok(number),
        Ok(_) => Err("it must be more than 0 and at most 1000".into()),
        Err(_) => Err("it must be a number".into()),
    }
}

fn penalty(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1e3).contains(&number) => Ok(number),
        Ok(_) => Err("it must be from 0 to 1000".into()),
        Err(_) => Err("it must be a number".into()),
    }
}

impl ExperimentArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let options = ExperimentOptions {
            source: self.source.source(),
            plan: ContextPlan {
                order: self.order,
                min_count: self.min_count,
                top: Some(self.contexts),
                document_end: None,
            },
            min_support: self.min_support,
            networks: self.networks(global.seed)?,
            points: self.points as usize,
            smallest: self.to,
            tolerance: self.tol,
            seed: global.seed,
            threads: rayon::current_num_threads(),
            command: command_line(),
        };
        let report = lawvere::experiment(&options, &self.out, &mut |event| screen.show(event))?;
        let facts = &report.facts;
        let page = self.out.join("report.html");
        let finals: Vec<_> = report
            .networks
            .iter()
            .filter_map(|n| n.curve.last().map(|last| (n, &last.measures)))
            .collect();
        if global.json {
            let networks: Vec<_> = finals
                .iter()
                .map(|(n, m)| json!({"name": n.name, "steps": n.losses.len(), "measures": m}))
                .collect();
            return Ok(pretty(&json!({
                "page": page,
                "json": self.out.join("report.json"),
                "facts": facts,
                "max_margin": report.max_margin,
                "proxy_distance": report.proxy_distance,
                "finite_norm": report.finite_norm,
                "networks": networks,
            })));
        }
        let mut lines = vec![format!(
            "{}: {} contexts, {} tokens, entropy {:.4} nats; max-margin logits of nuclear norm {:.3} (gap {:.1e}), rank {}",
            page.display(),
            facts.contexts,
            facts.vocabulary,
            facts.entropy,
            report.max_margin.value,
            report.max_margin.relative_gap,
            report.max_margin.rank
        )];
        for (network, measures) in finals {
            lines.push(format!(
                "{}: {:.4} nats above the entropy after {} steps; cosine with the max-margin logits {:.3}, with the proxy {:.3}",
                network.name,
                measures.excess,
                network.losses.len(),
                measures.prediction.raw,
                measures.proxy.raw
            ));
        }
        Ok(lines.join("\n"))
    }

    fn networks(&self, seed: u64) -> Result<Vec<NetworkPlan>, RunError> {
        let sizes = NetworkSizes {
            width: self.width,
            blocks: self.blocks,
            order: self.order,
            learning_rate: self.learning_rate,
            ridge: self.ridge,
            seed,
        };
        let kinds: Vec<Kind> = match self.kinds.is_empty() {
            true => NetworkKind::ALL
                .map(|network| Kind {
                    network,
                    steps: None,
                })
                .to_vec(),
            false => self.kinds.clone(),
        };
        let plan = |kind: &Kind| NetworkPlan::new(kind.network, kind.steps, &sizes);
        kinds.iter().map(plan).collect()
    }
}
