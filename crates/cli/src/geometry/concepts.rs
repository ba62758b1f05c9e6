use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use lawvere::RunError;
use lawvere::geometry::{
    ConceptFiles, ConceptOptions, Groups, Named, NamedConcepts, NamedGroup, name_concepts,
};
use serde_json::json;

use super::source::SupportSourceArgs;
use super::{as_json, two_columns, written};
use crate::args::{Global, positive};
use crate::output::Screen;

/// Name the concepts of a corpus by their tokens and contexts: the directions that next-token training is
/// predicted to give words and contexts, groups of them, and how far a model has them
///
/// Concepts are the leading singular triplets of the centred support matrix, which is never formed. Of
/// an --observation of a model every layer is searched for them.
#[derive(Args)]
pub struct ConceptsArgs {
    #[command(flatten)]
    source: SupportSourceArgs,
    /// How many concepts
    #[arg(long, default_value_t = ConceptOptions::default().rank, value_parser = positive)]
    rank: usize,
    /// How many tokens and contexts are told of each end of a concept and of each group
    #[arg(long, default_value_t = ConceptOptions::default().shown, value_parser = positive)]
    shown: usize,
    /// How many leading concepts group words and contexts by their signs; 0 for no such groups
    #[arg(long, default_value_t = ConceptOptions::default().orthant_concepts)]
    orthants: usize,
    /// The share of its norm up to which a coordinate has no sign, from 0 to below 1
    #[arg(long, default_value_t = ConceptOptions::default().small, value_parser = share, allow_negative_numbers = true)]
    small: f64,
    /// How many clusters of words and of contexts; 0 for none
    #[arg(long, default_value_t = ConceptOptions::default().clusters)]
    clusters: usize,
    /// Write the words' vectors U, tokens x concepts: .npy or .safetensors
    #[arg(long, value_name = "FILE")]
    out_words: Option<PathBuf>,
    /// Write the contexts' vectors V, contexts x concepts, likewise
    #[arg(long, value_name = "FILE")]
    out_contexts: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..1.0).contains(&number) => Ok(number),
        Ok(_) => Err("it must be from 0 to below 1".into()),
        Err(_) => Err("it must be a number".into()),
    }
}

impl ConceptsArgs {
    pub fn run(&self, global: &Global, screen: &mut Screen) -> Result<String, RunError> {
        let start = Instant::now();
        let options = ConceptOptions {
            rank: self.rank,
            shown: self.shown,
            orthant_concepts: self.orthants,
            small: self.small,
            clusters: self.clusters,
            seed: global.seed,
        };
        let files = ConceptFiles {
            words: self.out_words.clone(),
            contexts: self.out_contexts.clone(),
        };
        let source = self.source.source()?;
        let found = name_concepts(&source, &options, &files, &mut |e| screen.show(e))?;
        if global.json {
            let files = json!({"words": self.out_words, "contexts": self.out_contexts});
            return Ok(as_json(&found, files, global, start));
        }
        let mut parts = vec![figures(&found), concepts(&found)];
        if !found.orthants.words.is_empty() {
            let leading = self.orthants.min(found.concepts.len());
            parts.push(groups(
                &format!("by the signs of concepts 1 to {leading}"),
                &found.orthants,
            ));
        }
        if !found.clusters.words.is_empty() {
            parts.push(groups("clusters", &found.clusters));
        }
        if !found.alignment.is_empty() {
            parts.push(alignment(&found));
        }
        parts.extend(found.notes.iter().map(|note| format!("note: {note}")));
        let mut rows = Vec::new();
        written(
            &mut rows,
            &[
                ("U written to", &self.out_words),
                ("V written to", &self.out_contexts),
            ],
        );
        if !rows.is_empty() {
            parts.push(two_columns(&rows));
        }
        Ok(parts.join("\n\n"))
    }
}

fn figures(found: &NamedConcepts) -> String {
    format!(
        "{} tokens x {} contexts; {} concepts have {:.1} % of the centred support matrix's energy {:.1}",
        found.vocabulary,
        found.contexts,
        found.concepts.len(),
        100.0 * found.captured,
        found.energy
    )
}

/// Names between quotation marks, for a token may begin or end with a space.
fn names(some: &[Named]) -> String {
    let quoted: Vec<String> = some
        .iter()
        .map(|n| format!("\u{201c}{}\u{201d}", n.label))
        .collect();
    if quoted.is_empty() {
        "-".into()
    } else {
        quoted.join(" ")
    }
}

fn concepts(found: &NamedConcepts) -> String {
    let mut lines = Vec::new();
    for concept in &found.concepts {
        lines.push(format!(
            "concept {}: singular value {:.3}, {:.1} %",
            concept.concept + 1,
            concept.singular_value,
            100.0 * concept.share
        ));
        lines.push(format!("  + tokens    {}", names(&concept.tokens)));
        lines.push(format!("    contexts  {}", names(&concept.contexts)));
        lines.push(format!("  - tokens    {}", names(&concept.opposite_tokens)));
        lines.push(format!(
            "    contexts  {}",
            names(&concept.opposite_contexts)
        ));
    }
    lines.join("\n")
}

fn groups(title: &str, groups: &Groups) -> String {
    let mut lines = Vec::new();
    for (what, groups) in [("words", &groups.words), ("contexts", &groups.contexts)] {
        lines.push(format!("{what}, {title}"));
        lines.extend(groups.iter().map(group));
    }
    lines.join("\n")
}

fn group(group: &NamedGroup) -> String {
    let sign = |sign: &i8| match sign {
        1 => '+',
        -1 => '-',
        _ => '0',
    };
    let signs = group.signs.as_ref().map_or(String::new(), |signs| {
        signs.iter().map(sign).collect::<String>() + " "
    });
    format!("  {signs}{:>6}  {}", group.size, names(&group.members))
}

/// A row a layer, the mean over concepts; then the head's input concept by concept.
fn alignment(found: &NamedConcepts) -> String {
    let head = format!(
        "{:>8} {:>17} {:>17} {:>17} {:>9}",
        "", "words", "contexts", "logits", "proxy"
    );
    let cells = |w: [f64; 2], c: [f64; 2], l: [f64; 2], proxy: f64| {
        let pair = |[value, matched]: [f64; 2]| format!("{value:>8.3} ({matched:.3})");
        format!(
            "{:>17} {:>17} {:>17} {proxy:>9.3}",
            pair(w),
            pair(c),
            pair(l)
        )
    };
    let mut lines = vec![
        "how far the model has them: cosine of each concept with the words' and the contexts' leading directions, and with the logits; in brackets with the concept's entries dealt among tokens or contexts of like support size".to_owned(),
        format!("mean over concepts, by layer\n{head}"),
    ];
    for layer in &found.alignment {
        let mean = |f: &dyn Fn(&lawvere::geometry::ConceptAlignment) -> f64| {
            layer.concepts.iter().map(f).sum::<f64>() / layer.concepts.len().max(1) as f64
        };
        let row = cells(
            [
                mean(&|c| c.words.leading),
                mean(&|c| c.words.leading_matched),
            ],
            [
                mean(&|c| c.contexts.leading),
                mean(&|c| c.contexts.leading_matched),
            ],
            [mean(&|c| c.strength), mean(&|c| c.strength_matched)],
            mean(&|c| c.proxy_strength),
        );
        lines.push(format!("{:>8} {row}", layer.layer));
    }
    if let Some(last) = found.alignment.last() {
        lines.push(format!("by concept, at the head's input\n{head}"));
        for c in &last.concepts {
            let row = cells(
                [c.words.leading, c.words.leading_matched],
                [c.contexts.leading, c.contexts.leading_matched],
                [c.strength, c.strength_matched],
                c.proxy_strength,
            );
            lines.push(format!("{:>8} {row}", c.concept + 1));
        }
    }
    lines.join("\n")
}
