//! Lens 2: the pattern of supports, and whether the model has taken its shape.

use std::collections::BTreeMap;

use lawvere_geometry::Concept;
use maud::{Markup, html};
use serde_json::json;

use crate::ReportError;
use crate::collapse::{Verdict, collapse, verdict};
use crate::data::{Report, TrueGeometry};
use crate::figure::{Chart, Figure, exact_line, exact_marker, line, log_axis, surety, traces};
use crate::log_odds::log_odds;
use crate::number::{cosine, figure, nats_and_bits, percent, plural, size, with_error};
use crate::predictions::predictions;
use crate::table::{Table, cell, optional};
use crate::text::{label, plotly_text};
use crate::truth::off;

pub(crate) fn figures(report: &Report) -> Result<Vec<Figure>, ReportError> {
    let mut figures = vec![
        supports(report)?,
        support_sizes(report)?,
        concepts(report)?,
        collapse(report)?,
        log_odds(report)?,
    ];
    figures.extend(predictions(report)?);
    Ok(figures)
}

/// The figure that [`highlight`] speaks of.
pub(crate) fn highlighted(report: &Report) -> &'static str {
    match verdict(&report.geometry.collapse) {
        Verdict::NoStates | Verdict::TooFewPairs(_) => "log-odds",
        _ => "collapse",
    }
}

/// The finding of this lens in one sentence, for the summary.
pub(crate) fn highlight(report: &Report) -> String {
    let page = &report.geometry;
    let odds = &page.log_odds;
    let log_odds = format!(
        "Where the corpus allows several tokens, the model's log-odds among them correlate with the corpus's at {}.",
        with_error(odds.correlation, odds.correlation_error)
    );
    match verdict(&page.collapse) {
        Verdict::NoStates | Verdict::TooFewPairs(_) => log_odds,
        Verdict::NotVisible(l) => format!(
            "Contexts with the same set of possible next tokens do not share a direction in the model's states \
             (mean cosine {} against {} for other pairs at layer {}).",
            cosine(l.within),
            cosine(l.between),
            l.layer,
        ),
        Verdict::LastToken(l) | Verdict::LastTokenUntested(l) => format!(
            "Contexts with the same set of possible next tokens share a direction at layer {} (mean cosine {} \
             against {}), but this {}.",
            l.layer,
            cosine(l.within),
            cosine(l.between),
            if l.within_other_last.is_some() {
                "is explained by their sharing a last token"
            } else {
                "cannot be told from their sharing a last token"
            },
        ),
        Verdict::Partly(l, other, rest) | Verdict::Beyond(l, other, rest) => format!(
            "Contexts with the same set of possible next tokens share a direction in the model's states: at layer \
             {} their mean cosine is {} against {} for other pairs, and {} against {} where the last tokens differ.",
            l.layer,
            cosine(l.within),
            cosine(l.between),
            cosine(other),
            cosine(rest),
        ),
    }
}

fn supports(report: &Report) -> Result<Figure, ReportError> {
    let map = &report.geometry.heatmap;
    let summary = &report.geometry.summary;
    let cells = summary.contexts as f64 * summary.vocabulary as f64;
    let shown = map.tokens.len() * map.contexts.len();
    let filled: usize = map
        .log10_probs
        .iter()
        .map(|r| r.iter().flatten().count())
        .sum();
    let heading = format!(
        "Of all pairs of context and token, {} occur",
        percent(summary.entries as f64, cells)
    );
    let sentence = format!(
        "{} contexts and {} tokens make {} possible pairs; the corpus has {} of them. Among the most frequent \
         contexts and the most widely supported tokens, shown here, {} are filled.",
        size(summary.contexts),
        size(summary.vocabulary),
        size(summary.contexts * summary.vocabulary),
        size(summary.entries),
        percent(filled as f64, shown as f64),
    );
    let truth = report.truth.as_ref().map(|t| {
        format!(
            "The language allows {} pairs in these contexts: {}.",
            size(t.geometry.summary.entries),
            seen(&t.geometry, summary.entries)
        )
    });
    let token = |i: usize| report.token(map.tokens[i]);
    let context = |j: usize| report.context(map.contexts[j]);
    let every = |n: usize, most: usize| n.div_ceil(most).max(1);
    let ticks = |n: usize, most: usize, text: &dyn Fn(usize) -> String| {
        let places: Vec<usize> = (0..n).step_by(every(n, most)).collect();
        let labels: Vec<String> = places.iter().map(|&i| text(i)).collect();
        (places, labels)
    };
    let (y_places, y_labels) = ticks(map.tokens.len(), 42, &|i| plotly_text(&token(i), 14));
    let (x_places, x_labels) = ticks(map.contexts.len(), 30, &|j| plotly_text(&context(j), 20));
    let columns: Vec<String> = (0..map.contexts.len())
        .map(|j| plotly_text(&context(j), 60))
        .collect();
    let text: Vec<Vec<String>> = map
        .log10_probs
        .iter()
        .enumerate()
        .map(|(i, row)| {
            let token = plotly_text(&token(i), 30);
            row.iter()
                .zip(&columns)
                .map(|(p, context)| match p {
                    Some(p) => format!(
                        "{context} → <b>{token}</b><br>p = {}",
                        figure(10f64.powf(*p))
                    ),
                    None => String::new(),
                })
                .collect()
        })
        .collect();
    let chart = (shown > 0).then(|| Chart {
        data: json!([{
            "type": "heatmap", "z": map.log10_probs, "text": text, "hoverongaps": false,
            "hovertemplate": "%{text}<extra></extra>", "colorscale": "@seq", "xgap": 0.5, "ygap": 0.5,
            "colorbar": {"title": {"text": "log₁₀ p", "side": "top"}, "thickness": 12, "len": 0.6, "outlinewidth": 0},
        }]),
        layout: json!({
            "xaxis": {"title": {"text": "contexts, like supports together"}, "tickvals": x_places, "ticktext": x_labels,
                      "tickangle": -60, "tickfont": {"size": 10}, "automargin": true, "showgrid": false, "zeroline": false},
            "yaxis": {"title": {"text": "next tokens"}, "tickvals": y_places, "ticktext": y_labels, "autorange": "reversed",
                      "tickfont": {"size": 10}, "automargin": true, "showgrid": false, "zeroline": false},
        }),
        height: 640,
    });
    let rows = map.log10_probs.iter().enumerate().flat_map(|(i, row)| {
        row.iter().enumerate().filter_map(move |(j, p)| {
            p.map(|p| {
                vec![
                    map.tokens[i].to_string(),
                    token(i),
                    map.contexts[j].to_string(),
                    context(j),
                    cell(p),
                ]
            })
        })
    });
    Ok(Figure {
        id: "supports",
        heading,
        sentences: [sentence].into_iter().chain(truth).collect(),
        alt: format!(
            "Heat map of log₁₀ next-token probability in the corpus, {} tokens by {} contexts; blank where the token \
             never follows the context.",
            size(map.tokens.len()),
            size(map.contexts.len())
        ),
        chart,
        more: html! {},
        estimate: "The support matrix S with the corpus's next-token probabilities in it. Probabilities are relative \
                   frequencies; no standard error is given for single cells."
            .into(),
        caveat: "These are observed supports: a larger corpus fills more cells, and never empties one. Ticks name only \
                 some rows and columns; hover names the rest."
            .into(),
        table: Table::new("supports.csv", &["token_id", "token", "context_row", "context", "log10_p"], rows)?,
    })
}

/// How much of the exact supports the corpus showed in its `observed` entries.
fn seen(truth: &TrueGeometry, observed: usize) -> String {
    let shown = if truth.seen == truth.summary.entries {
        "the corpus shows all of them".to_string()
    } else {
        format!(
            "the corpus shows {} of them",
            percent(truth.seen as f64, truth.summary.entries as f64)
        )
    };
    match observed.saturating_sub(truth.seen) {
        0 => shown,
        n => format!(
            "{shown}, and {} that the language does not allow: the corpus is not from this language alone",
            size(n)
        ),
    }
}

/// Exact supports and entropy beside the observed ones, in words.
fn exact_supports(report: &Report) -> Option<Vec<String>> {
    let (s, truth) = (&report.geometry.summary, &report.truth.as_ref()?.geometry);
    let t = &truth.summary;
    let unseen = if truth.unseen_mass > 0.0 {
        format!(
            "a next token that the corpus never showed after its context has probability {} on average",
            figure(truth.unseen_mass)
        )
    } else {
        "no next token is left that the corpus never showed".to_string()
    };
    Some(vec![
        format!(
            "Exactly, a support holds {} tokens on average, {} at the median and {} at most, and {} contexts are \
             deterministic; {unseen}.",
            figure(t.mean_support),
            size(t.median_support),
            size(t.largest_support),
            size(t.deterministic),
        ),
        format!(
            "The exact H is {} nats: the estimate is {}.",
            figure(t.entropy),
            off(s.entropy, s.entropy_error, t.entropy)
        ),
    ])
}

fn support_sizes(report: &Report) -> Result<Figure, ReportError> {
    let s = &report.geometry.summary;
    let share = s.deterministic as f64 / s.contexts.max(1) as f64;
    let heading = if share > 0.5 {
        format!(
            "Most contexts ({}) are followed by one token only",
            percent(share, 1.0)
        )
    } else if s.deterministic == 0 {
        format!(
            "Every context is followed by several tokens, {} at the median",
            size(s.median_support)
        )
    } else {
        format!(
            "At the median a context is followed by {}",
            plural(s.median_support, "different token")
        )
    };
    let shared = if s.sharing == 0 {
        "no two contexts have the same support".to_string()
    } else {
        format!(
            "{} contexts ({}) share their support with another",
            size(s.sharing),
            percent(s.sharing as f64, s.contexts as f64)
        )
    };
    let mut sentences = vec![
        format!(
            "m = {} contexts with n = {} occurrences and V = {} next tokens have a conditional entropy H of {}.",
            size(s.contexts),
            crate::number::count(s.samples),
            size(s.vocabulary),
            nats_and_bits(s.entropy, s.entropy_error),
        ),
        format!(
            "A support holds {} tokens on average, {} at the median and {} at most; {} contexts are deterministic, {} \
             every token in the support. There are {} distinct supports: {shared}.",
            figure(s.mean_support),
            size(s.median_support),
            size(s.largest_support),
            size(s.deterministic),
            if s.full == 0 {
                "none has".to_string()
            } else {
                format!("{} have", size(s.full))
            },
            size(s.classes),
        ),
    ];
    sentences.extend(exact_supports(report).into_iter().flatten());
    let exact = report.truth.as_ref().map(|t| &t.geometry.summary.sizes);
    let coordinates = |sizes: &[(usize, usize)]| -> (Vec<f64>, Vec<f64>) {
        sizes.iter().map(|p| (p.0 as f64, p.1 as f64)).unzip()
    };
    let (x, y) = coordinates(&s.sizes);
    let (exact_x, exact_y) = exact.map_or_else(Default::default, |sizes| coordinates(sizes));
    let chart = (!x.is_empty()).then(|| Chart {
        data: traces([
            Some(json!({
                "type": "scatter", "mode": "markers", "name": "observed", "x": x, "y": y, "showlegend": exact.is_some(),
                "marker": {"color": "@c1", "size": 6, "opacity": 0.7},
                "hovertemplate": "%{y} contexts with %{x} next tokens<extra></extra>",
            })),
            exact.map(|_| json!({
                "type": "scatter", "mode": "markers", "name": "exact", "x": exact_x, "y": exact_y,
                "marker": exact_marker(9.0),
                "hovertemplate": "exactly %{y} contexts with %{x} next tokens<extra></extra>",
            })),
        ]),
        layout: json!({
            "xaxis": log_axis("tokens in the support", &[x.as_slice(), &exact_x].concat()),
            "yaxis": log_axis("contexts", &[y.as_slice(), &exact_y].concat()),
            "legend": {"orientation": "h", "y": 1.12},
        }),
        height: 340,
    });
    let mut counts: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for &(size, n) in &s.sizes {
        counts.entry(size).or_default().0 += n;
    }
    for &(size, n) in exact.into_iter().flatten() {
        counts.entry(size).or_default().1 += n;
    }
    let rows = counts
        .iter()
        .map(|(size, (n, exact))| vec![size.to_string(), n.to_string(), exact.to_string()]);
    Ok(Figure {
        id: "support-sizes",
        heading,
        sentences,
        alt: format!(
            "How many contexts have a support of each size, both axes logarithmic.{}",
            if exact.is_some() { " Diamonds count the exact supports of the same contexts." } else { "" }
        ),
        chart,
        more: html! {},
        estimate: format!(
            "Sizes of observed supports, and the empirical conditional entropy of the next token given the context. {}",
            surety(s.entropy_error)
        ),
        caveat: "The entropy is the plug-in estimate, biased low where a context was seen few times; that bias is not in \
                 its standard error. Supports grow with the corpus."
            .into(),
        table: Table::with_exact(
            "support-sizes.csv",
            &["support_size", "contexts"],
            &["exact_contexts"],
            exact.is_some(),
            rows,
        )?,
    })
}

fn concepts(report: &Report) -> Result<Figure, ReportError> {
    let s = &report.geometry.spectrum;
    let values = &s.singular_values;
    let energy = |k: usize| values.iter().take(k).map(|v| v * v).sum::<f64>();
    let ten = values.len().min(10);
    let held = energy(ten) / s.energy.max(f64::MIN_POSITIVE);
    let heading = match (ten, held) {
        (0, _) => "The support pattern has no direction of its own".to_string(),
        (_, x) if x >= 0.5 => {
            format!(
                "{} hold {} of the support pattern",
                plural(ten, "direction"),
                percent(x, 1.0)
            )
        }
        (_, x) => format!(
            "The support pattern is spread out: {} hold {} of it",
            plural(ten, "direction"),
            percent(x, 1.0)
        ),
    };
    let sentence = format!(
        "Of the energy of the centred support matrix (the sum of its squared singular values, {}), the first direction \
         holds {}, the first {} hold {}, and the {} computed hold {}.",
        figure(s.energy),
        percent(energy(1), s.energy),
        ten,
        percent(energy(ten), s.energy),
        size(values.len()),
        percent(energy(values.len()), s.energy),
    );
    let exact = report.truth.as_ref().map(|t| &t.geometry.spectrum);
    let exact_values = exact.map_or(&[][..], |t| &t.singular_values);
    let truth = exact.and_then(|t| {
        let (observed, exact) = (*values.first()?, *t.singular_values.first()?);
        Some(format!(
            "The pattern of exact supports has a leading singular value of {} and an energy of {}: the observed leading \
             value is {}.",
            figure(exact),
            figure(t.energy),
            off(observed, None, exact),
        ))
    });
    let ranks = |n: usize| -> Vec<f64> { (1..=n).map(|k| k as f64).collect() };
    let x = ranks(values.len().max(exact_values.len()));
    let chart = (!values.is_empty()).then(|| Chart {
        data: traces([
            Some(line(
                if exact.is_some() {
                    "observed"
                } else {
                    "singular value"
                },
                &ranks(values.len()),
                values,
                "@c1",
                "solid",
            )),
            exact.map(|_| exact_line("exact", &ranks(exact_values.len()), exact_values)),
        ]),
        layout: json!({
            "xaxis": log_axis("rank", &x),
            "yaxis": log_axis("singular value", &[values.as_slice(), exact_values].concat()),
            "showlegend": exact.is_some(), "legend": {"orientation": "h", "y": 1.12},
        }),
        height: 340,
    });
    let share = |v: f64, energy: f64| v * v / energy.max(f64::MIN_POSITIVE);
    let rows = (0..x.len()).map(|k| {
        let (v, e) = (values.get(k).copied(), exact_values.get(k).copied());
        vec![
            (k + 1).to_string(),
            optional(v),
            optional(v.map(|v| share(v, s.energy))),
            optional(e),
            optional(e.zip(exact).map(|(e, t)| share(e, t.energy))),
        ]
    });
    Ok(Figure {
        id: "concepts",
        heading,
        sentences: if values.is_empty() { Vec::new() } else { [sentence].into_iter().chain(truth).collect() },
        alt: format!(
            "The leading singular values of the centred support matrix, both axes logarithmic.{}",
            if exact.is_some() { " The dashed line is that of the exact supports." } else { "" }
        ),
        chart,
        more: concept_table(report, &s.concepts),
        estimate: format!(
            "Singular values and vectors of S̃ = (I − 11ᵀ/V) S, the proxy of the max-margin logits; its leading \
             directions are the theory's “concepts”. Computed, not sampled: the largest residual |S̃v − σu| is {}. No \
             standard error is given.",
            figure(s.residual)
        ),
        caveat: "S̃ counts every context once, however rare, and is exactly the max-margin solution only under \
                 conditions that real corpora need not meet. Directions with near-equal singular values may mix. The \
                 sign of a direction is arbitrary: its largest token is put on the “along” side."
            .into(),
        table: Table::with_exact(
            "spectrum.csv",
            &["rank", "singular_value", "energy_share"],
            &["exact_singular_value", "exact_energy_share"],
            exact.is_some(),
            rows,
        )?,
    })
}

/// The rows of `concepts.csv`.
pub(crate) fn concept_rows(report: &Report) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (k, c) in report.geometry.spectrum.concepts.iter().enumerate() {
        let mut push = |kind: &str, id: String, name: String, x: f64| {
            rows.push(vec![
                (k + 1).to_string(),
                cell(c.singular_value),
                kind.into(),
                id,
                name,
                cell(x),
            ]);
        };
        for &(t, x) in c.tokens.iter().chain(&c.opposite_tokens) {
            push("token", t.to_string(), report.token(t), x);
        }
        for &(j, x) in c.contexts.iter().chain(&c.opposite_contexts) {
            push("context", j.to_string(), report.context(j), x);
        }
    }
    rows
}

fn concept_table(report: &Report, concepts: &[Concept]) -> Markup {
    let tokens = |list: &[(u32, f64)]| -> Markup {
        html! { @for (t, _) in list { code { (label(&report.token(*t), 24)) } " " } @if list.is_empty() { "–" } }
    };
    let contexts = |list: &[(usize, f64)]| -> Markup {
        html! { @for (j, _) in list.iter().take(4) { code { (label(&report.context(*j), 32)) } " " } }
    };
    html! {
        @if !concepts.is_empty() {
            div.wide tabindex="0" role="region" aria-label="Leading concepts" {
                table.leading {
                    caption { "The leading concepts: tokens that follow the same contexts, and the contexts they follow" }
                    thead { tr {
                        th.n scope="col" { "σ" }
                        th scope="col" { "tokens along" }
                        th scope="col" { "tokens against" }
                        th scope="col" { "contexts along" }
                    } }
                    tbody { @for c in concepts {
                        tr {
                            td.n { (figure(c.singular_value)) }
                            td { (tokens(&c.tokens)) }
                            td { (tokens(&c.opposite_tokens)) }
                            td { (contexts(&c.contexts)) }
                        }
                    } }
                }
            }
        }
    }
}
