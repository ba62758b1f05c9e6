use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use lawvere::RunError;
use lawvere::geometry::finite_part_of;
use serde_json::json;

use super::source::LawSourceArgs;
use super::{as_json, two_columns, written};
use crate::args::Global;
use crate::output::Screen;

/// Work out L^in, the part of the logits that stays finite in training: centred log-probabilities on
/// the supports
#[derive(Args)]
pub struct FiniteArgs {
    #[command(flatten)]
    source: LawSourceArgs,
    /// Write L^in, tokens x contexts: .npy or .safetensors
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl FiniteArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let source = self.source.source()?;
        let found = finite_part_of(&source, self.out.as_deref(), &mut |e| screen.show(e))?;
        if global.json {
            return Ok(as_json(&found, json!({"logits": self.out}), global, start));
        }
        let mut rows = vec![
            (
                "size",
                format!("{} tokens x {} contexts", found.vocabulary, found.contexts),
            ),
            (
                "conditional entropy H",
                format!("{:.6} nats", found.entropy),
            ),
            ("norm |L^in|", format!("{:.6} nats", found.norm)),
            (
                "entries",
                format!("{:.4} to {:.4} nats", found.smallest, found.largest),
            ),
        ];
        written(&mut rows, &[("L^in written to", &self.out)]);
        Ok(two_columns(&rows))
    }
}
