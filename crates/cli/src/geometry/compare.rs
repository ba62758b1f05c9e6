use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use lawvere::RunError;
use lawvere::geometry::{
    Claim, CompareOptions, Contrast, ContrastOptions, MaxMarginOptions, Space, Verdict, Vocabulary,
    contrast,
};
use serde_json::json;

use super::as_json;
use super::source::VocabularyArg;
use crate::args::{Global, positive};
use crate::output::Screen;

/// Hold a model against the geometry that its corpus predicts: every prediction, layer by layer, beside
/// controls
///
/// The observation is of kind contexts and made with a --model. Controls: states dealt to contexts at
/// random, the same among contexts with one last token, and the same network untrained (an observation
/// made with --untrained).
#[derive(Args)]
pub struct CompareArgs {
    /// The folder of the model's observation
    #[arg(long, value_name = "FOLDER")]
    observation: PathBuf,
    /// The folder of an observation of the same contexts by the same network untrained
    #[arg(long, value_name = "FOLDER")]
    untrained: Option<PathBuf>,
    /// Which tokens are rows of the matrices
    #[arg(long, value_enum, default_value = "occurring")]
    vocabulary: VocabularyArg,
    /// How many singular triplets of the proxy are the prediction
    #[arg(long, default_value_t = CompareOptions::default().rank, value_parser = positive, conflicts_with = "exact")]
    rank: usize,
    /// Solve for the max-margin logits, and predict by them rather than by the proxy
    #[arg(long)]
    exact: bool,
    /// With --exact: the most entries, distinct tokens times distinct contexts, that are solved for
    /// [default: 30000000]
    #[arg(long, value_parser = positive, requires = "exact")]
    size_limit: Option<usize>,
    /// How many times states are dealt to contexts for each control
    #[arg(long, default_value_t = CompareOptions::default().deals, value_parser = two)]
    deals: usize,
    /// How many layers, spread evenly, the last among them [default: all that the observation holds]
    #[arg(long, value_parser = positive)]
    layers: Option<usize>,
}

fn two(text: &str) -> Result<usize, String> {
    match positive(text)? {
        1 => Err("it must be at least 2, to have a deviation".into()),
        number if number > 10_000 => Err("it must be at most 10000".into()),
        number => Ok(number),
    }
}

impl CompareArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let limit = MaxMarginOptions::default().size_limit;
        let options = ContrastOptions {
            observation: self.observation.clone(),
            untrained: self.untrained.clone(),
            vocabulary: Vocabulary::from(self.vocabulary),
            rank: self.rank,
            exact: self.exact.then(|| MaxMarginOptions {
                size_limit: self.size_limit.unwrap_or(limit),
                ..MaxMarginOptions::default()
            }),
            deals: self.deals,
            layers: self.layers,
            seed: global.seed,
        };
        let found = contrast(&options, &mut |event| screen.show(event))?;
        if global.json {
            return Ok(as_json(&found, json!({}), global, start));
        }
        Ok(told(&found))
    }
}

fn told(found: &Contrast) -> String {
    let c = &found.comparison;
    let mut lines = vec![format!(
        "{} contexts, {} next tokens, H = {:.4} nats; predicted by {} singular triplets of the {} ({:.1} % of its energy)",
        c.contexts,
        c.vocabulary,
        c.entropy,
        c.singular_values.len(),
        match found.prediction {
            "proxy" => "proxy",
            _ => "max-margin logits",
        },
        100.0 * c.captured
    )];
    if let Some(loss) = &c.loss {
        let untrained = loss.untrained_excess.map_or(String::new(), |excess| {
            format!(", {excess:.4} above it untrained")
        });
        lines.push(format!(
            "cross-entropy over these tokens {:.4} nats, {:.4} above H{untrained}",
            loss.cross_entropy, loss.excess
        ));
    }
    lines.push("\nat the head's input (words: the head)".into());
    for verdict in &c.verdicts {
        let strongest = verdict.strongest.filter(|_| c.layers.len() > 1);
        let strongest = strongest.map_or(String::new(), |(layer, space)| {
            let space = match space {
                Space::Raw => "",
                Space::Readout => ", read out",
            };
            format!("; most unexplained in layer {layer}{space}")
        });
        lines.push(format!("- {}{strongest}", verdict.sentence));
    }
    lines.push(
        "\nlayer by layer: the share of the way from dealt states to the prediction, in percent; * visible, a explained by the architecture, t by the last token, ? within chance".into(),
    );
    lines.extend(table(found));
    lines.extend(c.notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

/// A row a prediction, a column a layer; states as the head would read them where they can be.
fn table(found: &Contrast) -> Vec<String> {
    let readings = &found.comparison.readings;
    let mut layers: Vec<usize> = readings.iter().filter_map(|r| r.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    let head: String = layers.iter().map(|layer| format!("{layer:>7}")).collect();
    let mut lines = vec![format!("{:24}{head}", "layer")];
    for claim in Claim::ALL {
        let of = |layer: usize| {
            let mut readings = readings.iter();
            readings.rfind(|r| r.claim == claim && r.layer == Some(layer))
        };
        let cells: Vec<String> = layers
            .iter()
            .map(|&layer| match of(layer) {
                None => format!("{:>7}", "-"),
                Some(reading) => {
                    let sign = match reading.verdict {
                        Verdict::Visible => "*",
                        Verdict::ExplainedByLastToken => "t",
                        Verdict::ExplainedByArchitecture => "a",
                        Verdict::WithinChance => "?",
                        Verdict::NotVisible => " ",
                    };
                    format!("{:>6.1}{sign}", 100.0 * reading.effect)
                }
            })
            .collect();
        if cells.iter().any(|cell| cell.trim() != "-") {
            let name = json!(claim);
            let name = name.as_str().unwrap_or_default().replace('-', " ");
            lines.push(format!("{name:24}{}", cells.concat()));
        }
    }
    lines
}
