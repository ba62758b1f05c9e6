//! The page around the figures.

use maud::{Markup, html};

use super::data::ImplicitReport;
use crate::number::{bytes, count, duration, figure, percent, size};
use crate::page::{Chapter, chapter_sections, references, rows, shell};
use crate::text::visible;

pub(crate) fn page(report: &ImplicitReport, chapters: &[Chapter]) -> String {
    let title = format!("Predicted geometry of {}", visible(&report.source));
    let mut links = vec![("summary", "Summary"), ("facts", "Facts")];
    links.extend(chapters.iter().map(|c| (c.id, c.title)));
    links.push(("made", "How it was made"));
    let command = &report.provenance.command;
    let body = html! {
        (facts(report))
        (chapter_sections(chapters, command))
        (made(report))
        (caveats())
        (references())
    };
    let lead = html! { (lead(report)) };
    shell(
        &title,
        &report.provenance.tool_version,
        &links,
        &lead,
        &body,
    )
}

fn lead(report: &ImplicitReport) -> String {
    let solved = &report.max_margin;
    let mut text = format!(
        "{} contexts with {} distinct supports predict logits of nuclear norm {}, proved to a relative gap of {:.0e}, of rank {}.",
        size(report.facts.contexts),
        size(report.facts.classes),
        figure(solved.value),
        solved.relative_gap.max(1e-16),
        size(solved.rank),
    );
    let finals = report
        .networks
        .iter()
        .filter_map(|n| Some((n, n.curve.last()?)));
    for (network, last) in finals {
        text += &format!(
            " {}: logits at cosine {} with them, {} by chance.",
            visible(&network.name),
            figure(last.measures.prediction.raw),
            figure(network.shuffled.prediction.raw),
        );
    }
    text
}

fn facts(report: &ImplicitReport) -> Markup {
    let f = &report.facts;
    html! {
        section id="facts" {
            h2 { "Contexts" }
            (rows(&[
                ("Corpus", visible(&report.source)),
                ("Contexts", format!("{}: m = {}, n = {} occurrences", visible(&report.choice), size(f.contexts), count(f.samples))),
                ("Tokens", format!("V = {}, of which {} follow some context", size(f.vocabulary), size(f.occurring))),
                ("Entropy", format!("H = {} nats", figure(f.entropy))),
                ("Supports", format!("{} entries ({}), {} on average; {} distinct, {} contexts share theirs",
                    size(f.entries), percent(f.entries as f64, f.contexts as f64 * f.vocabulary as f64),
                    figure(f.mean_support), size(f.classes), size(f.sharing))),
            ]))
        }
    }
}

fn made(report: &ImplicitReport) -> Markup {
    let p = &report.provenance;
    let memory = p
        .peak_memory
        .map_or_else(|| "not told by the system".into(), bytes);
    html! {
        section id="made" {
            h2 { "How this was made" }
            pre.command { code { (visible(&p.command)) } }
            (rows(&[
                ("Lawvere", p.tool_version.clone()),
                ("Seed", p.seed.to_string()),
                ("Threads", p.threads.to_string()),
                ("Wall time", duration(p.wall_seconds)),
                ("Peak memory", memory),
                ("Laws", format!("SHA-256 {}", p.laws_sha256)),
                ("Schema", report.schema.clone()),
            ]))
        }
    }
}

fn caveats() -> Markup {
    html! {
        section id="caveats" {
            h2 { "Caveats" }
            ul {
                li { "Supports are those observed in a finite corpus; in a larger one they could only grow, and what they predict would change." }
                li { "The predicted direction is a limit for vanishing penalty and unbounded training. It is approached like one over a logarithm, so that a trained network is compared with the regularised solution of like loss too." }
                li { "Every figure is of one training run from one seed." }
            }
        }
    }
}
