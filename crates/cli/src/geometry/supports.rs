use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use lawvere::RunError;
use lawvere::geometry::{
    Estimate, Growth, GrowthOptions, GrowthUnit, Survey, SurveyOptions, survey,
};
use serde_json::json;

use super::source::ContextSourceArgs;
use super::{as_json, two_columns, written};
use crate::args::{Global, positive};
use crate::output::Screen;

/// Measure the next-token pattern of contexts: m, n, V, H, sizes of supports, classes of equal
/// supports, and how all of it grows with the corpus
#[derive(Args)]
pub struct SupportsArgs {
    #[command(flatten)]
    source: ContextSourceArgs,
    /// Write the support matrix S, tokens x contexts: .npz for scipy, or dense as .npy or .safetensors
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the next-token laws P, tokens x contexts, likewise; in an .npz stand beside them the
    /// contexts' weights, the rows' token ids and the contexts
    #[arg(long, value_name = "FILE")]
    laws: Option<PathBuf>,
    /// How many parts of the corpus of each size are drawn to see the supports grow
    #[arg(long, default_value_t = 8, value_parser = positive)]
    draws: usize,
}

impl SupportsArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let options = SurveyOptions {
            growth: GrowthOptions {
                draws: self.draws,
                seed: global.seed,
                ..GrowthOptions::default()
            },
            support: self.out.clone(),
            laws: self.laws.clone(),
        };
        let source = self.source.source()?;
        let found = survey(&source, &options, &mut |event| screen.show(event))?;
        if global.json {
            let files = json!({"support": self.out, "laws": self.laws});
            return Ok(as_json(&found, files, global, start));
        }
        Ok(format!(
            "{}\n\n{}",
            self.figures(&found),
            growth(&found.growth)
        ))
    }

    fn figures(&self, found: &Survey) -> String {
        let s = &found.summary;
        let size = s.vocabulary as f64 * s.contexts as f64;
        let error = s
            .entropy_error
            .map_or(String::new(), |e| format!(" ± {e:.4}"));
        let mut rows = vec![
            ("contexts m", s.contexts.to_string()),
            ("occurrences n", s.samples.to_string()),
            ("next tokens V", s.vocabulary.to_string()),
            (
                "conditional entropy H",
                format!("{:.4}{error} nats", s.entropy),
            ),
            (
                "support entries",
                format!(
                    "{} ({:.3} % of V x m)",
                    s.entries,
                    100.0 * s.entries as f64 / size
                ),
            ),
            (
                "support sizes",
                format!(
                    "mean {:.2}, median {}, largest {}",
                    s.mean_support, s.median_support, s.largest_support
                ),
            ),
            (
                "one next token",
                format!("{} contexts; every token: {}", s.deterministic, s.full),
            ),
            (
                "distinct supports",
                format!(
                    "{}; {} contexts share theirs, {} the most common",
                    s.classes,
                    s.sharing,
                    found.class_sizes.first().copied().unwrap_or(0)
                ),
            ),
        ];
        written(
            &mut rows,
            &[("S written to", &self.out), ("P written to", &self.laws)],
        );
        two_columns(&rows)
    }
}

/// A line a fraction.
fn growth(growth: &Growth) -> String {
    let unit = match growth.unit {
        GrowthUnit::Blocks => format!("{} blocks of documents", growth.units),
        GrowthUnit::Occurrences => format!("{} occurrences, thinned", growth.units),
    };
    let draws = growth.points.iter().map(|p| p.draws).max().unwrap_or(0);
    let mut lines = vec![
        format!(
            "the same contexts with a part of the corpus ({unit}; {draws} draws, mean ± deviation)"
        ),
        format!(
            "{:>8} {:>17} {:>15} {:>15} {:>17} {:>14} {:>15}",
            "part", "contexts", "V", "entries", "H (nats)", "mean support", "distinct"
        ),
    ];
    let whole = |e: Estimate| format!("{:.0} ± {:.0}", e.mean, e.deviation);
    for p in &growth.points {
        let fine =
            |e: Estimate, digits: usize| format!("{:.digits$} ± {:.digits$}", e.mean, e.deviation);
        lines.push(format!(
            "{:>8} {:>17} {:>15} {:>15} {:>17} {:>14} {:>15}",
            format!("{:.4}", p.fraction),
            whole(p.contexts),
            whole(p.vocabulary),
            whole(p.entries),
            fine(p.entropy, 4),
            fine(p.mean_support, 2),
            whole(p.classes),
        ));
    }
    lines.join("\n")
}
