//! Lens 1: distances between texts.

use std::collections::HashMap;

use lawvere_metric::{Isometry, Pair};
use maud::{Markup, html};
use serde_json::json;

use crate::ReportError;
use crate::data::{Report, Text};
use crate::figure::{Chart, Figure, axis, exact_marker, quantile, rule, traces};
use crate::number::{factor, figure, percent, plural, signed, size};
use crate::table::{Table, cell, optional};
use crate::text::{label, plotly_text, quoted};
use crate::truth::coverage;

/// How many first texts, and texts in all, the forest's picture shows.
const ROOTS: usize = 16;
const SHOWN: usize = 150;
/// The most points of the scatter.
const POINTS: usize = 3000;
/// With fewer one-step extensions a rank correlation is no finding.
const FEWEST_EDGES: usize = 10;
/// Rounding that an isometry may show, nats.
const ROUNDING: f64 = 1e-9;

pub(crate) fn figures(report: &Report) -> Result<Vec<Figure>, ReportError> {
    let mut figures = vec![forest(report)?, distances(report)?];
    figures.extend(crate::spaces::figures(report)?);
    Ok(figures)
}

/// The finding of this lens in one sentence, for the summary.
pub(crate) fn highlight(report: &Report) -> String {
    let c = &report.metric.comparison;
    if c.edges == 0 {
        return "The corpus gave no text that extends another, so there were no distances to compare.".into();
    }
    format!(
        "Over {} one-token extensions of the corpus's most frequent texts, the model's directed \
         distances −log Pr differ from the corpus's by {} nats on average (rank correlation {}); {} of \
         them agree within two standard errors.",
        size(c.edges),
        figure(c.mean_absolute),
        figure(c.rank_correlation),
        percent(c.within_two_errors as f64, c.uncertain.max(1) as f64),
    )
}

/// Model minus corpus on the edge into `text`.
fn excess(text: &Text) -> f64 {
    if text.parent.is_none() || text.model_distance == text.corpus_distance {
        return 0.0;
    }
    text.model_distance - text.corpus_distance
}

/// The most frequent roots and their most frequent extensions, prefixes first.
fn chosen(texts: &[Text]) -> Vec<usize> {
    let mut roots: Vec<usize> = (0..texts.len())
        .filter(|&i| texts[i].parent.is_none())
        .collect();
    roots.sort_by_key(|&i| (std::cmp::Reverse(texts[i].count), i));
    roots.truncate(ROOTS);
    let mut kept = vec![false; texts.len()];
    roots.iter().for_each(|&i| kept[i] = true);
    let mut under = kept.clone();
    for (i, text) in texts.iter().enumerate() {
        under[i] |= text.parent.is_some_and(|p| p < i && under[p]);
    }
    let mut candidates: Vec<usize> = (0..texts.len()).filter(|&i| under[i] && !kept[i]).collect();
    candidates.sort_by_key(|&i| (std::cmp::Reverse(texts[i].count), i));
    let mut left = SHOWN.saturating_sub(roots.len());
    for i in candidates {
        // A text is shown below its prefix only; counts never grow along a branch.
        if left > 0 && texts[i].parent.is_some_and(|p| kept[p]) {
            kept[i] = true;
            left -= 1;
        }
    }
    (0..texts.len()).filter(|&i| kept[i]).collect()
}

fn forest(report: &Report) -> Result<Figure, ReportError> {
    let texts = &report.metric.texts;
    let shown = chosen(texts);
    let edges: Vec<usize> = shown
        .iter()
        .copied()
        .filter(|&i| texts[i].parent.is_some())
        .collect();
    let mut sizes: Vec<f64> = edges
        .iter()
        .map(|&i| excess(&texts[i]).abs())
        .filter(|x| x.is_finite())
        .collect();
    sizes.sort_by(f64::total_cmp);
    let limit = quantile(&sizes, 0.95).max(0.5);

    let widest = edges
        .iter()
        .copied()
        .filter(|&i| !excess(&texts[i]).is_nan())
        .max_by(|&a, &b| excess(&texts[a]).abs().total_cmp(&excess(&texts[b]).abs()));
    let less = edges.iter().filter(|&&i| excess(&texts[i]) > 0.5).count();
    let more = edges.iter().filter(|&&i| excess(&texts[i]) < -0.5).count();
    let spread = format!(
        "Of the {} shown, the model finds {} less likely than the corpus by more than half a nat, and \
         {} more likely.",
        plural(edges.len(), "extension"),
        size(less),
        size(more),
    );
    let exact = |i: usize| Some(*report.truth.as_ref()?.metric.distances.get(i)?);
    let (heading, mut sentences) = match widest.map(|i| &texts[i]) {
        None => (
            "No text of the corpus extends another".to_string(),
            vec!["The prefix forest has no edges, so there is nothing to compare.".to_string()],
        ),
        Some(t) if excess(t).abs() < 0.1 => (
            "The model reproduces the corpus's most frequent texts".to_string(),
            vec![
                format!(
                    "Among the most frequent texts no extension differs by more than {} nats, and that \
                     one is {}.",
                    figure(excess(t).abs()),
                    quoted(&t.text),
                ),
                spread,
            ],
        ),
        Some(t) => {
            let more_likely = excess(t) < 0.0;
            let times = if excess(t).is_finite() {
                format!(
                    "{} times {}",
                    factor(excess(t).abs()),
                    if more_likely { "likelier" } else { "rarer" }
                )
            } else {
                "impossible".to_string()
            };
            (
                format!("Corpus and model part most at {}", quoted(&t.text)),
                vec![
                    format!(
                        "There the last token is {times} in the model than in the corpus ({} against \
                         {} nats; it occurs {} times).",
                        figure(t.model_distance),
                        figure(t.corpus_distance),
                        crate::number::count(t.count),
                    )
                    .replace("is impossible in the model than in the corpus", "is impossible in the model"),
                    spread,
                ],
            )
        }
    };

    if let Some((truth, t)) = widest.and_then(|i| Some((exact(i)?, &texts[i]))) {
        sentences.push(nearest(truth, t));
    }

    let mut area: Vec<u64> = texts.iter().map(|t| t.count).collect();
    let mut below = vec![0u64; texts.len()];
    for &i in shown.iter().rev() {
        area[i] = area[i].max(below[i]);
        if let Some(p) = texts[i].parent {
            below[p] += area[i];
        }
    }
    let root_area: u64 = shown
        .iter()
        .filter(|&&i| texts[i].parent.is_none())
        .map(|&i| area[i])
        .sum();
    let id = |i: usize| format!("t{i}");
    let mut ids = vec!["all".to_string()];
    let mut parents = vec![String::new()];
    let mut labels = vec!["the corpus".to_string()];
    let mut values = vec![root_area];
    let mut colors = vec![0.0];
    let mut hover = vec![json!(["first tokens shown", "", ""])];
    for &i in &shown {
        let t = &texts[i];
        ids.push(id(i));
        parents.push(t.parent.map_or_else(|| "all".to_string(), id));
        labels.push(plotly_text(
            if t.parent.is_some() { &t.last } else { &t.text },
            24,
        ));
        values.push(area[i]);
        colors.push(excess(t).clamp(-limit, limit));
        let edge = if t.parent.is_some() {
            format!(
                "d corpus {} · d model {} · difference {} nats{}",
                figure(t.corpus_distance),
                figure(t.model_distance),
                signed(excess(t)),
                exact(i).map_or_else(String::new, |d| format!(" · d exact {}", figure(d))),
            )
        } else {
            "a first token: no distance".to_string()
        };
        let occurs = format!("{} occurrences", crate::number::count(t.count));
        hover.push(json!([plotly_text(&t.text, 80), occurs, edge]));
    }
    let chart = (!shown.is_empty()).then(|| Chart {
        data: json!([{
            "type": "treemap", "ids": ids, "parents": parents, "labels": labels, "values": values,
            "branchvalues": "total", "customdata": hover, "sort": true,
            "hovertemplate": "<b>%{customdata[0]}</b><br>%{customdata[1]}<br>%{customdata[2]}<extra></extra>",
            "tiling": {"pad": 2},
            "pathbar": {"visible": true, "thickness": 22},
            "textposition": "top left", "textfont": {"size": 12, "color": "@ink"},
            "root": {"color": "@faint"},
            "marker": {
                "colors": colors, "colorscale": "@div", "cmin": -limit, "cmax": limit, "cmid": 0,
                "showscale": true, "line": {"width": 0.5, "color": "@page"}, "pad": {"t": 18, "l": 2, "r": 2, "b": 2}, "cornerradius": 2,
                "colorbar": {"title": {"text": "nats", "side": "top"}, "thickness": 12, "len": 0.6, "outlinewidth": 0},
            },
        }]),
        layout: json!({"margin": {"l": 4, "r": 4, "t": 30, "b": 4}, "uniformtext": {"minsize": 10, "mode": "hide"}}),
        height: 620,
    });
    let rows = texts.iter().enumerate().map(|(i, t)| {
        vec![
            t.text.clone(),
            t.length.to_string(),
            t.count.to_string(),
            t.parent
                .map(|p| texts.get(p).map_or("", |t| &t.text))
                .unwrap_or_default()
                .to_string(),
            cell(t.corpus_distance),
            cell(t.model_distance),
            optional(exact(i)),
        ]
    });
    Ok(Figure {
        id: "forest",
        heading,
        sentences,
        alt: format!(
            "Prefix forest of {} of {} texts: each tile is a token that continues the text of the tile \
             around it, its area is how often the text occurs, its colour the model's distance minus the corpus's on that \
             step (orange: less likely in the model, blue: more likely).",
            size(shown.len()),
            size(texts.len()),
        ),
        chart,
        more: html! {},
        estimate: "d(a, b) = −log Pr(b | a) for a text a and its extension b, once with Pr from the corpus's \
                   counts, once from the model. A click on a tile enlarges it. Standard errors of the corpus's \
                   distances are in the next figure."
            .into(),
        caveat: format!(
            "The model reads a text with nothing before it: on a step from a one-token text it sees that token \
             alone, where the corpus averages over all that came before. Only the most frequent texts are \
             shown; colours saturate at ±{} nats.",
            figure(limit)
        ),
        table: Table::with_exact(
            "forest.csv",
            &["text", "length", "count", "parent", "corpus_distance_nats", "model_distance_nats"],
            &["exact_distance_nats"],
            report.truth.is_some(),
            rows,
        )?,
    })
}

/// Whether corpus or model is nearer the exact distance into a text.
fn nearest(exact: f64, t: &Text) -> String {
    let corpus = (t.corpus_distance - exact).abs();
    let model = (t.model_distance - exact).abs();
    let verdict = if corpus < model {
        "the corpus is nearer"
    } else if model < corpus {
        "the model is nearer"
    } else {
        "corpus and model are equally near"
    };
    format!(
        "The exact distance at {} is {} nats: {verdict}.",
        quoted(&t.text),
        figure(exact)
    )
}

/// Corpus and model distances against the exact ones, in words.
fn against_truth(report: &Report) -> Option<String> {
    let truth = &report.truth.as_ref()?.metric;
    let (corpus, model) = (&truth.corpus, &truth.model);
    if corpus.edges == 0 {
        return None;
    }
    let nearer = if model.mean_absolute < 0.95 * corpus.mean_absolute {
        "the model is nearer the language than the counts of the corpus are"
    } else if model.mean_absolute > 1.05 * corpus.mean_absolute {
        "the counts of the corpus are nearer the language than the model is"
    } else {
        "corpus and model are about as near the language"
    };
    Some(format!(
        "Of the corpus's distances {} are within two standard errors of the exact ones, {}. They are {} nats from \
         the exact ones on average, the model's {}: {nearer}.",
        percent(
            corpus.within_two_errors as f64,
            corpus.uncertain.max(1) as f64
        ),
        coverage(corpus.within_two_errors, corpus.uncertain),
        figure(corpus.mean_absolute),
        figure(model.mean_absolute),
    ))
}

fn distances(report: &Report) -> Result<Figure, ReportError> {
    let page = &report.metric;
    let c = &page.comparison;
    let texts = &page.texts;
    let edges: Vec<&Pair> = c
        .pairs
        .iter()
        .filter(|p| texts.get(p.to).is_some_and(|t| t.parent == Some(p.from)))
        .collect();
    let finite: Vec<&Pair> = edges
        .iter()
        .copied()
        .filter(|p| p.corpus.is_finite() && p.model.is_finite())
        .collect();
    let missing = edges.len() - finite.len();
    let difference = |p: &Pair| p.model - p.corpus;
    let mut ordered = finite.clone();
    ordered.sort_by(|a, b| difference(b).total_cmp(&difference(a)));
    let less: Vec<&Pair> = ordered
        .iter()
        .copied()
        .take(8)
        .filter(|p| difference(p) > 0.0)
        .collect();
    let more: Vec<&Pair> = ordered
        .iter()
        .rev()
        .copied()
        .take(8)
        .filter(|p| difference(p) < 0.0)
        .collect();
    let name = |p: &Pair| texts.get(p.to).map_or("", |t| t.text.as_str());

    let r = c.rank_correlation;
    let order = match r {
        r if r >= 0.9 => "almost alike",
        r if r >= 0.7 => "largely alike",
        r if r >= 0.3 => "only partly alike",
        r if r > -0.3 => "differently",
        _ => "in opposite ways",
    };
    let heading = if edges.is_empty() {
        "There are no one-step distances to compare".to_string()
    } else if edges.len() < FEWEST_EDGES {
        format!(
            "{} {} too few to compare how model and corpus order continuations",
            plural(edges.len(), "extension"),
            if edges.len() == 1 { "is" } else { "are" }
        )
    } else {
        format!("Model and corpus order continuations {order}")
    };
    let direction = match c.mean_excess {
        x if x.abs() < 0.05 => "on average neither longer nor shorter".to_string(),
        x if x > 0.0 => format!(
            "on average {} nats longer: it finds what the corpus says less likely than it is",
            figure(x)
        ),
        x => format!(
            "on average {} nats shorter: it finds what the corpus says more likely than it is",
            figure(-x)
        ),
    };
    let comparison = format!(
        "Over {}, Spearman's rank correlation of −log Pr in corpus and model is {}; the mean absolute \
         difference is {} nats, and the model's distance is {direction}. Of them {} ({}) are within two \
         standard errors of the corpus's.",
        plural(edges.len(), "one-step extension"),
        figure(r),
        figure(c.mean_absolute),
        size(c.within_two_errors),
        percent(c.within_two_errors as f64, c.uncertain.max(1) as f64),
    );
    let sentences: Vec<String> = (!edges.is_empty())
        .then_some(comparison)
        .into_iter()
        .chain(against_truth(report))
        .chain([isometry(report)])
        .collect();
    let exact: HashMap<(usize, usize), f64> = report
        .truth
        .iter()
        .flat_map(|t| &t.metric.corpus.pairs)
        // The exact distance stands in the place of the model's.
        .map(|p| ((p.from, p.to), p.model))
        .collect();
    let exact = |p: &Pair| exact.get(&(p.from, p.to)).copied();

    let step = finite.len().div_ceil(POINTS).max(1);
    let drawn: Vec<&Pair> = finite.iter().copied().step_by(step).collect();
    let labelled: Vec<&Pair> = less
        .iter()
        .take(6)
        .chain(more.iter().take(6))
        .copied()
        .collect();
    let hover = |pairs: &[&Pair]| -> Vec<serde_json::Value> {
        pairs
            .iter()
            .map(|p| {
                json!([
                    plotly_text(name(p), 80),
                    format!("{} ± {}", figure(p.corpus), figure(p.corpus_error)),
                    figure(p.model),
                    signed(difference(p)),
                    exact(p).map_or_else(String::new, figure),
                ])
            })
            .collect()
    };
    let known = report.truth.is_some();
    let template = format!(
        "<b>%{{customdata[0]}}</b><br>corpus %{{customdata[1]}} nats<br>model %{{customdata[2]}} nats\
         <br>difference %{{customdata[3]}}{}<extra></extra>",
        if known {
            "<br>exact %{customdata[4]} nats"
        } else {
            ""
        }
    );
    let top = finite
        .iter()
        .fold(0.0f64, |a, p| a.max(p.corpus).max(p.model))
        * 1.05;
    let x = |pairs: &[&Pair]| pairs.iter().map(|p| p.corpus).collect::<Vec<f64>>();
    let y = |pairs: &[&Pair]| pairs.iter().map(|p| p.model).collect::<Vec<f64>>();
    let place = |p: &&Pair| match (difference(p) > 0.0, p.corpus > 0.6 * top) {
        (true, false) => "top right",
        (true, true) => "top left",
        (false, false) => "bottom right",
        (false, true) => "bottom left",
    };
    // A name that would run into one already written is left to the hover and the table.
    let mut written: Vec<(f64, f64)> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for p in &labelled {
        let (x, y) = (p.corpus / top, p.model / top);
        let free = written
            .iter()
            .all(|&(a, b)| (x - a).abs() > 0.25 || (y - b).abs() > 0.05);
        names.push(if free {
            plotly_text(name(p), 26)
        } else {
            String::new()
        });
        if free {
            written.push((x, y));
        }
    }
    let known_pairs: Vec<&Pair> = drawn
        .iter()
        .copied()
        .filter(|p| exact(p).is_some_and(f64::is_finite))
        .collect();
    let truth = (!known_pairs.is_empty()).then(|| {
        json!({
            "type": "scatter", "mode": "markers", "name": "exact", "x": x(&known_pairs),
            "y": known_pairs.iter().map(|p| exact(p)).collect::<Vec<_>>(),
            "customdata": hover(&known_pairs), "hovertemplate": template, "marker": exact_marker(6.0), "opacity": 0.75,
        })
    });
    let chart = (!finite.is_empty()).then(|| Chart {
        data: traces([
            Some(rule("equal", [0.0, top], [0.0, top], "@muted", "dash")),
            Some(json!({
                "type": "scatter", "mode": "markers", "name": if known { "model" } else { "extensions" }, "x": x(&drawn), "y": y(&drawn),
                "customdata": hover(&drawn), "hovertemplate": template,
                "marker": {"color": "@c1", "size": 5, "opacity": 0.45},
            })),
            truth,
            Some(json!({
                "type": "scatter", "mode": "markers+text", "name": "largest differences",
                "x": x(&labelled), "y": y(&labelled),
                "text": names,
                "textposition": labelled.iter().map(place).collect::<Vec<_>>(),
                "textfont": {"size": 11}, "cliponaxis": false,
                "error_x": {
                    "type": "data", "array": labelled.iter().map(|p| p.corpus_error).collect::<Vec<_>>(),
                    "color": "@c2", "thickness": 1, "width": 3,
                },
                "customdata": hover(&labelled), "hovertemplate": template,
                "marker": {"color": "@c2", "size": 7},
            })),
        ]),
        layout: json!({
            "xaxis": axis("distance in the corpus, nats"),
            "yaxis": axis(if known { "distance in the model, and exact, nats" } else { "distance in the model, nats" }),
            "legend": {"orientation": "h", "y": 1.08},
        }),
        height: 560,
    });
    let rows = c.pairs.iter().map(|p| {
        let text = |i: usize| texts.get(i).map_or_else(String::new, |t| t.text.clone());
        let one_step = texts.get(p.to).is_some_and(|t| t.parent == Some(p.from));
        vec![
            text(p.from),
            text(p.to),
            one_step.to_string(),
            cell(p.corpus),
            cell(p.corpus_error),
            cell(p.model),
            optional(exact(p)),
        ]
    });
    let listed = |title: &str, pairs: &[&Pair]| -> Markup {
        html! {
            div {
                table {
                    caption { (title) }
                    thead { tr { th scope="col" { "text" } th.n scope="col" { "corpus" } th.n scope="col" { "model" } th.n scope="col" { "difference" } @if known { th.n scope="col" { "exact" } } } }
                    tbody {
                        @for p in pairs {
                            tr {
                                td { code { (label(name(p), 40)) } }
                                td.n { (figure(p.corpus)) }
                                td.n { (figure(p.model)) }
                                td.n { (signed(difference(p))) }
                                @if known { td.n { (exact(p).map_or_else(String::new, figure)) } }
                            }
                        }
                        @if pairs.is_empty() { tr { td colspan=(if known { "5" } else { "4" }) { "none" } } }
                    }
                }
            }
        }
    };
    let left_out = match missing {
        0 => String::new(),
        n => format!(
            " {} with an infinite distance cannot be drawn.",
            plural(n, "extension")
        ),
    };
    let thinned = if step > 1 {
        format!(" One in {step} extensions is drawn.")
    } else {
        String::new()
    };
    Ok(Figure {
        id: "distances",
        heading,
        sentences,
        alt: format!(
            "Scatter of one-step distances in the corpus (across) and in the model (up), with the line of \
             equality; above it the model finds a continuation less likely than the corpus has it.{}",
            if known { " Diamonds put the exact distance in the place of the model's: how far they lie from the line \
                        is the noise of the corpus's counts." } else { "" }
        ),
        chart,
        more: html! {
            @if !edges.is_empty() {
                div.pair {
                    (listed("Much less likely in the model (nats)", &less))
                    (listed("Much more likely in the model (nats)", &more))
                }
            }
        },
        estimate: format!(
            "−log Pr(b | a) for texts that extend another by one token. The bars and the ± in hover are one \
             standard error of the corpus's distance, √((1 − p)/k) from its k occurrences taken as independent; \
             the model's distance is computed, not estimated. No standard error is given for the correlation \
             and the means.{left_out}{thinned}"
        ),
        caveat: "Occurrences inside one document are not independent, so the errors are somewhat too small; and \
                 the pairs are chosen for being frequent in the corpus, which favours short corpus distances."
            .into(),
        table: Table::with_exact(
            "distances.csv",
            &["from", "to", "one_step", "corpus_nats", "corpus_error_nats", "model_nats"],
            &["exact_nats"],
            known,
            rows,
        )?,
    })
}

/// Whether the Yoneda embeddings keep distances, in words.
fn isometry(report: &Report) -> String {
    let (corpus, model) = (
        &report.metric.corpus_isometry,
        &report.metric.model_isometry,
    );
    let worst = |i: &Isometry| {
        i.yoneda_defect
            .max(i.co_yoneda_defect)
            .max(i.triangle_defect)
    };
    let n = (corpus.pairs as f64).sqrt().round() as usize;
    if corpus.holds(ROUNDING) && model.holds(ROUNDING) {
        return format!(
            "Both spaces are directed metric spaces and their Yoneda embeddings are isometries, as the theory \
             says: verified on {} texts ({} ordered pairs, {} of them at a finite distance), with a largest \
             defect of {} nats in the corpus and {} nats in the model.",
            size(n),
            size(corpus.pairs),
            size(corpus.finite_pairs),
            figure(worst(corpus)),
            figure(worst(model)),
        );
    }
    let fails = |name: &str, i: &Isometry| {
        let verdict = if i.holds(ROUNDING) {
            "holds"
        } else {
            "does not hold"
        };
        format!(
            "in the {name} it {verdict} (largest defect {} nats, {} infinite on one side only)",
            figure(worst(i)),
            plural(i.mismatched_infinities, "distance"),
        )
    };
    format!(
        "The Yoneda isometry, which must hold in every directed metric space, fails here: {}; {}. One of these \
         is then no directed metric, and the distances should not be relied on.",
        fails("corpus", corpus),
        fails("model", model),
    )
}
