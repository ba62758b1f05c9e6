//! The page around the figures.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotly::Plot;

use crate::data::Report;
use crate::figure::Figure;
use crate::number::{bytes, count, duration, figure, nats_and_bits, percent, plural, size};
use crate::table::Table;
use crate::text::visible;
use crate::{geometry, information, metric, truth as known};

const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      img-src data: blob:; base-uri 'none'; form-action 'none'";

/// One lens and its figures.
pub(crate) struct Chapter {
    pub id: &'static str,
    pub title: &'static str,
    pub question: &'static str,
    pub figures: Vec<Figure>,
}

/// plotly.js alone, from the first of the crate's offline scripts: the second is MathJax, two
/// megabytes that would also read `$...$` in corpus text as formulas.
fn plotly_script() -> String {
    const END: &str = "</script>";
    let mut scripts = Plot::offline_js_sources();
    if let Some(end) = scripts.find(END) {
        scripts.truncate(end + END.len());
    }
    scripts
}

pub(crate) fn page(report: &Report, chapters: &[Chapter], truth: Option<&Table>) -> String {
    let title = format!(
        "{} on {}",
        visible(&report.model.name),
        visible(&report.corpus.name)
    );
    let command = &report.provenance.command;
    let highlights = [
        (metric::highlight(report), "distances"),
        (geometry::highlight(report), geometry::highlighted(report)),
        (information::highlight(report), "likelihood"),
    ];
    let number_of = |id: &str| {
        1 + chapters
            .iter()
            .flat_map(|c| &c.figures)
            .take_while(|f| f.id != id)
            .count()
    };
    let truth = truth.and_then(|table| known::section(report, table));
    let links: Vec<(&str, &str)> = [("summary", "Summary")]
        .into_iter()
        .chain(truth.as_ref().map(|_| ("truth", "Truth")))
        .chain([("facts", "Facts")])
        .chain(chapters.iter().map(|c| (c.id, c.title)))
        .chain([("made", "How it was made")])
        .collect();
    let lead = html! {
        @for (text, figure) in highlights {
            (text.trim_end_matches('.'))
            " (" a href=(format!("#{figure}")) { "Figure\u{a0}" (number_of(figure)) } "). "
        }
    };
    let body = html! {
        @if let Some(truth) = truth { (truth) }
        (facts(report))
        (chapter_sections(chapters, command))
        (made(report))
        (caveats(report))
        (references())
    };
    shell(
        &title,
        &report.provenance.tool_version,
        &links,
        &lead,
        &body,
    )
}

/// The chapters with their figures, numbered through.
pub(crate) fn chapter_sections(chapters: &[Chapter], command: &str) -> Markup {
    let mut number = 0;
    html! {
        @for chapter in chapters {
            section.chapter id=(chapter.id) {
                h2 { (chapter.title) }
                p.question { (chapter.question) }
                @for figure in &chapter.figures {
                    ({ number += 1; figure.render(number, command) })
                }
            }
        }
    }
}

/// A whole self-contained page: its head with styles, navigation to `links`, `lead` under the title,
/// `body`, and the scripts that draw the figures.
pub(crate) fn shell(
    title: &str,
    tool_version: &str,
    links: &[(&str, &str)],
    lead: &Markup,
    body: &Markup,
) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content=(format!("lawvere {tool_version}"));
                link rel="icon" href="data:,";
                title { (title) " · Lawvere" }
                style { (PreEscaped(include_str!("style.css"))) }
                script { (PreEscaped(include_str!("errors.js"))) }
            }
            body {
                a.skip href="#summary" { "Skip to the summary" }
                nav aria-label="Contents" {
                    div {
                        @for (id, name) in links { a href=(format!("#{id}")) { (name) } }
                        button type="button" id="theme" aria-label="Switch between light and dark" { "◐" }
                    }
                }
                main {
                    header id="summary" {
                        p.kicker { "The geometry of next-token prediction" }
                        h1 { (title) }
                        p.lead { (lead) }
                    }
                    noscript { p { "The figures need JavaScript. Their findings, tables and data do not." } }
                    (body)
                }
                pre id="page-errors" hidden {}
                (PreEscaped(plotly_script()))
                script { (PreEscaped(include_str!("page.js"))) }
            }
        }
    }
    .into_string()
}

pub(crate) fn rows(pairs: &[(&str, String)]) -> Markup {
    html! {
        table.facts { tbody { @for (name, value) in pairs {
            tr { th scope="row" { (name) } td { (value) } }
        } } }
    }
}

fn facts(report: &Report) -> Markup {
    let (c, m, s) = (&report.corpus, &report.model, &report.geometry.summary);
    let dropped = if c.dropped_ends == 0 {
        String::new()
    } else {
        format!(
            "; {} left out because the document ends there",
            plural_count(c.dropped_ends, "occurrence")
        )
    };
    let contexts = format!(
        "{}, {} of those: {} occurrences{dropped}",
        visible(&report.choice),
        percent(s.contexts as f64, c.qualified as f64),
        count(s.samples),
    );
    let running = &report.information.running;
    let language = report.truth.as_ref().map(|t| &t.language).map(|l| {
        (
            "Language",
            format!(
                "{}: {} and the end of a document, {}, {}; entropy rate {} a symbol, {} symbols a document on average",
                visible(&l.name),
                plural(l.words, "word"),
                plural(l.states, "hidden state"),
                plural(l.transitions, "transition"),
                nats_and_bits(l.entropy_rate, None),
                figure(l.symbols_per_document),
            ),
        )
    });
    let training = m.training.as_ref().map(|t| {
        (
            "Training",
            format!(
                "{}, {} in {}: {}",
                plural_count(t.steps, "step"),
                plural_count(t.tokens, "token"),
                duration(t.seconds),
                visible(&t.settings),
            ),
        )
    });
    let pairs: Vec<(&str, String)> = language
        .into_iter()
        .chain([
            (
                "Corpus",
                format!(
                    "{}: {} in {} (a document is a {}), {}, {} of them distinct",
                    visible(&c.name),
                    bytes(c.bytes),
                    plural_count(c.documents, "document"),
                    visible(&c.document_unit),
                    plural_count(c.tokens, "token"),
                    size(c.distinct_tokens),
                ),
            ),
            (
                "Model",
                format!(
                    "{}: {} parameters, {} layers, hidden size {}, vocabulary {}, context length {}",
                    visible(&m.name),
                    size(m.parameters),
                    size(m.layers),
                    size(m.hidden_size),
                    size(m.vocab_size),
                    m.context_length.map_or("without limit".into(), size),
                ),
            ),
        ])
        .chain(training)
        .chain([
            ("Contexts", contexts),
            ("Running text", visible(&running.choice)),
        ])
        .collect();
    html! {
        section id="facts" {
            h2 { @if report.truth.is_some() { "Language, corpus, model, contexts" } @else { "Corpus, model, contexts" } }
            (rows(&pairs))
        }
    }
}

fn plural_count(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

fn made(report: &Report) -> Markup {
    let p = &report.provenance;
    let parts: Vec<String> = p
        .parts
        .iter()
        .map(|(name, s)| format!("{name} {}", duration(*s)))
        .collect();
    let language = report.truth.as_ref().map(|t| {
        (
            "Language",
            format!("SHA-256 {}", visible(&t.language.identity)),
        )
    });
    html! {
        section id="made" {
            h2 { "How this was made" }
            pre.command { code { (visible(&p.command)) } }
            (rows(&[
                ("Lawvere", p.tool_version.clone()),
                ("Seed", p.seed.to_string()),
                ("Threads", p.threads.to_string()),
                ("Wall time", if parts.is_empty() { duration(p.wall_seconds) } else { format!("{}: {}", duration(p.wall_seconds), parts.join(", ")) }),
                ("Peak memory", p.peak_memory.map_or_else(|| "not told by the system".into(), bytes)),
                ("Corpus", format!("{} · SHA-256 {}", report.corpus.paths.iter().map(|p| visible(p)).collect::<Vec<_>>().join(", "), p.corpus_sha256)),
                ("Tokenizer", format!("SHA-256 {}", p.tokenizer_sha256)),
                ("Model", format!("{} · SHA-256 {}", visible(&report.model.path), p.model_sha256)),
                ("Observation", visible(&p.observation)),
                ("Index", visible(&p.index)),
                ("Schema", report.schema.clone()),
            ].into_iter().chain(language).collect::<Vec<_>>()))
        }
    }
}

fn caveats(report: &Report) -> Markup {
    html! {
        section id="caveats" {
            h2 { "Caveats" }
            ul {
                @for caveat in &report.caveats { li { (visible(caveat)) } }
                li {
                    "Supports, counts and entropies are those observed in a finite corpus; in a larger one supports could \
                     only grow, and entropies would as a rule be higher."
                }
                li {
                    "Standard errors come from resampling documents of this corpus: they say how the numbers would vary \
                     over corpora like it, not over other kinds of text or other models."
                }
            }
        }
    }
}

pub(crate) fn references() -> Markup {
    let papers = [
        (
            "S. Gaubert, Y. Vlassopoulos",
            "Directed Metric Structures arising in Large Language Models",
            "2405.12264",
        ),
        (
            "Y. Zhao, T. Behnia, V. Vakilian, C. Thrampoulidis",
            "Implicit Geometry of Next-token Prediction: From Language Sparsity Patterns to Model Representations",
            "2408.15417",
        ),
        (
            "Y. Zhang",
            "A Markov Categorical Framework for Language Modeling",
            "2507.19247",
        ),
    ];
    html! {
        section id="references" {
            h2 { "References" }
            ol {
                @for (authors, title, id) in papers {
                    li { (authors) ": " i { (title) } ". " a href=(format!("https://arxiv.org/abs/{id}")) rel="noreferrer" { "arXiv " (id) } "." }
                }
            }
        }
    }
}
