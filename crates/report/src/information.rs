//! Lens 3: likelihood, entropies, and what a state says about the next token.

use lawvere_information::{Direction, LayerReading, LengthLoss};
use maud::{Markup, html};
use serde_json::{Value, json};

use crate::ReportError;
use crate::data::Report;
use crate::figure::{Chart, Figure, axis, line, log_axis, rule, surety};
use crate::number::{
    bits, count, figure, fixed, nats_and_bits, percent, plural, signed, size, with_error,
};
use crate::table::{Table, cell, optional};
use crate::text::{label, plotly_text, visible};

/// The most points of the scatter of entropies.
const POINTS: usize = 3000;

pub(crate) fn figures(report: &Report) -> Result<Vec<Figure>, ReportError> {
    Ok(vec![
        identity(report)?,
        entropies(report)?,
        layers(report)?,
        fisher(report)?,
        lengths(report)?,
    ])
}

/// The finding of this lens in one sentence, for the summary.
pub(crate) fn highlight(report: &Report) -> String {
    let l = &report.information.likelihood;
    format!(
        "Reading {}, the model loses {} nats a token, of which {} ({}) are the corpus's own entropy, and {} the \
         model's distance from the corpus; {}.",
        plural(report.order, "token"),
        figure(l.cross_entropy),
        figure(l.entropy),
        percent(l.entropy, l.cross_entropy),
        figure(l.divergence),
        match confidence(report) {
            Confidence::Less => "its predictions are less certain than the corpus's",
            Confidence::More => "its predictions are more certain than the corpus's",
            Confidence::Equal => "its predictions are as certain as the corpus's",
        },
    )
}

fn identity(report: &Report) -> Result<Figure, ReportError> {
    let l = &report.information.likelihood;
    let running = &report.information.running;
    let r = &running.likelihood;
    let heading = if l.divergence > l.entropy {
        format!(
            "Most of the loss is the model's: KL {} of {} nats",
            figure(l.divergence),
            figure(l.cross_entropy)
        )
    } else {
        format!(
            "{} of the loss is the corpus's own entropy",
            percent(l.entropy, l.cross_entropy)
        )
    };
    let exact = if l.identity_defect <= 1e-9 {
        format!(
            "The identity CE = KL + H holds for the three separate sums to {} nats.",
            figure(l.identity_defect)
        )
    } else {
        format!(
            "The identity CE = KL + H fails by {} nats, more than rounding: these numbers should not be relied on.",
            figure(l.identity_defect)
        )
    };
    let compare = r.cross_entropy - l.cross_entropy;
    let with_prefix = match compare {
        x if x.abs() < 0.02 => "about the same".to_string(),
        x if x < 0.0 => format!("{} nats lower", figure(-x)),
        x => format!("{} nats higher", figure(x)),
    };
    let sentences = vec![
        format!(
            "On contexts of {} the cross-entropy is {}: the corpus's conditional entropy H is {}, and the divergence KL \
             of the model from the corpus {}.",
            plural(report.order, "token"),
            nats_and_bits(l.cross_entropy, l.cross_entropy_error),
            nats_and_bits(l.entropy, l.entropy_error),
            nats_and_bits(l.divergence, l.divergence_error),
        ),
        exact,
        format!(
            "On running text, with the whole prefix, the loss over {} in {} is {}, {with_prefix}.",
            plural(running.positions, "position"),
            plural(running.documents, "document"),
            nats_and_bits(r.cross_entropy, r.cross_entropy_error),
        ),
    ];
    let rows = ["running text", "contexts"];
    let bar = |name: &str, values: [f64; 2], color: &str| {
        let text: Vec<String> = values
            .iter()
            .map(|&v| {
                if v > 0.0 {
                    format!("{name}<br>{} nats · {} bits", figure(v), figure(bits(v)))
                } else {
                    String::new()
                }
            })
            .collect();
        json!({
            "type": "bar", "orientation": "h", "name": name, "y": rows, "x": values, "text": text,
            "textposition": "inside", "insidetextanchor": "middle", "constraintext": "none",
            "textfont": {"color": "@onfill"}, "hovertemplate": "%{text}<extra></extra>",
            "marker": {"color": color},
        })
    };
    let chart = Chart {
        data: json!([
            bar("H, the corpus's entropy", [0.0, l.entropy], "@c3"),
            bar("KL, corpus to model", [0.0, l.divergence], "@c2"),
            bar("loss", [r.cross_entropy, 0.0], "@c1"),
        ]),
        layout: json!({
            "barmode": "stack", "xaxis": axis("nats a token"), "yaxis": {"automargin": true}, "showlegend": false,
            "bargap": 0.35,
        }),
        height: 260,
    };
    let table = [
        (
            "contexts",
            "cross_entropy",
            l.cross_entropy,
            l.cross_entropy_error,
        ),
        ("contexts", "divergence", l.divergence, l.divergence_error),
        ("contexts", "entropy", l.entropy, l.entropy_error),
        (
            "contexts",
            "head_entropy",
            l.head_entropy,
            l.head_entropy_error,
        ),
        (
            "running text",
            "cross_entropy",
            r.cross_entropy,
            r.cross_entropy_error,
        ),
        (
            "running text",
            "head_entropy",
            r.head_entropy,
            r.head_entropy_error,
        ),
    ];
    let csv = table
        .iter()
        .map(|(on, what, x, e)| vec![on.to_string(), what.to_string(), cell(*x), optional(*e)]);
    Ok(Figure {
        id: "likelihood",
        heading,
        sentences,
        alt: "Stacked bar of the cross-entropy on contexts as entropy plus divergence, beside the loss on running text."
            .into(),
        chart: Some(chart),
        more: html! {},
        estimate: format!(
            "CE = −Σ π p log q, KL(corpus‖model) and H as three separate sums over contexts weighted by frequency. {}",
            surety(l.cross_entropy_error)
        ),
        caveat: "H is a plug-in estimate and biased low, so KL is biased high by the same amount; the sum is not. \
                 Contexts are the corpus's most frequent and the model reads nothing before them; running text takes \
                 tokens as they come: the two losses are over different tokens."
            .into(),
        table: Table::new("likelihood.csv", &["on", "quantity", "nats", "standard_error"], csv)?,
    })
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Confidence {
    Less,
    More,
    Equal,
}

/// Whether the model's entropy is above or below the data's by more than two standard errors, or
/// 0.02 nats where there are none.
pub(crate) fn confidence(report: &Report) -> Confidence {
    let l = &report.information.likelihood;
    let noise = match (l.head_entropy_error, l.entropy_error) {
        (Some(a), Some(b)) => 2.0 * a.hypot(b),
        _ => 0.02,
    };
    match l.head_entropy - l.entropy {
        x if x > noise => Confidence::Less,
        x if x < -noise => Confidence::More,
        _ => Confidence::Equal,
    }
}

fn entropies(report: &Report) -> Result<Figure, ReportError> {
    let l = &report.information.likelihood;
    let gap = l.head_entropy - l.entropy;
    let (heading, verdict) = match confidence(report) {
        Confidence::Less => (
            "The model is less certain than the corpus: underconfident",
            format!(
                "it is underconfident by {} nats. Part of that may be the bias of the corpus's entropies, which are too \
                 low where few occurrences were seen",
                figure(gap)
            ),
        ),
        Confidence::More => (
            "The model is more certain than the corpus: overconfident",
            format!(
                "it is overconfident by {} nats, and the true figure is likely larger, since the corpus's entropies are \
                 biased low",
                figure(-gap)
            ),
        ),
        Confidence::Equal => (
            "The model is as certain as the corpus",
            "the difference is within the noise; since the corpus's entropies are biased low, slight overconfidence \
             cannot be excluded"
                .to_string(),
        ),
    };
    let above = l.rows.iter().filter(|r| r.model > r.data).count();
    let rows_say = if l.rows.is_empty() {
        String::new()
    } else {
        format!(
            "The model's law has the higher entropy in {} of {}.",
            percent(above as f64, l.rows.len() as f64),
            plural(l.rows.len(), "context")
        )
    };
    let sentences = vec![
        format!(
            "Weighted by frequency, the entropy of the model's predictions is {} nats, that of the corpus {} nats: {verdict}.",
            with_error(l.head_entropy, l.head_entropy_error),
            with_error(l.entropy, l.entropy_error),
        ),
        rows_say,
    ];
    let step = l.rows.len().div_ceil(POINTS).max(1);
    let drawn: Vec<(usize, _)> = l.rows.iter().enumerate().step_by(step).collect();
    let x: Vec<f64> = drawn.iter().map(|(_, r)| r.data).collect();
    let y: Vec<f64> = drawn.iter().map(|(_, r)| r.model).collect();
    let sizes: Vec<f64> = drawn
        .iter()
        .map(|(_, r)| (2.0 + 2.2 * (r.samples.max(1) as f64).log10()).min(14.0))
        .collect();
    let hover: Vec<Value> = drawn
        .iter()
        .map(|(row, r)| {
            json!([
                plotly_text(&report.context(*row), 60),
                count(r.samples),
                figure(r.data),
                figure(r.model),
                figure(r.cross_entropy)
            ])
        })
        .collect();
    let top = x.iter().chain(&y).fold(0.0f64, |a, &b| a.max(b)) * 1.03;
    let chart = (!drawn.is_empty()).then(|| Chart {
        data: json!([
            {
                "type": "scatter", "mode": "markers", "name": "contexts", "x": x, "y": y, "customdata": hover,
                "hovertemplate": "<b>%{customdata[0]}</b><br>%{customdata[1]} occurrences<br>entropy in the corpus \
                    %{customdata[2]}, in the model %{customdata[3]} nats<br>cross-entropy %{customdata[4]} \
                    nats<extra></extra>",
                "marker": {"color": "@c1", "size": sizes, "opacity": 0.35, "line": {"width": 0}},
            },
            rule("equal", [0.0, top], [0.0, top], "@muted", "dash"),
        ]),
        layout: json!({
            "xaxis": axis("entropy of the corpus's next token, nats"),
            "yaxis": axis("entropy of the model's, nats"), "showlegend": false,
        }),
        height: 520,
    });
    let rows = l.rows.iter().enumerate().map(|(row, r)| {
        vec![
            report.context(row),
            r.samples.to_string(),
            cell(r.data),
            cell(r.model),
            cell(r.cross_entropy),
        ]
    });
    let thinned = if step > 1 {
        format!(
            " One in {step} of {} is drawn; the CSV has all.",
            plural(l.rows.len(), "context")
        )
    } else {
        String::new()
    };
    Ok(Figure {
        id: "entropies",
        heading: heading.into(),
        sentences,
        alt: "Scatter of each context's next-token entropy in the corpus (across) and in the model (up); bigger points \
              were seen more often; the dashed line is equality."
            .into(),
        chart,
        more: html! {},
        estimate: format!(
            "Shannon entropy of the next token given the context, the head's against the data's. {}{thinned}",
            surety(l.head_entropy_error)
        ),
        caveat: "From k occurrences no entropy above log k can be seen: small points lie too far left, whatever the \
                 model. Judge calibration by the large ones."
            .into(),
        table: Table::new(
            "entropies.csv",
            &["context", "samples", "data_entropy_nats", "model_entropy_nats", "cross_entropy_nats"],
            rows,
        )?,
    })
}

fn layers(report: &Report) -> Result<Figure, ReportError> {
    let readings = &report.information.readings;
    let (heading, sentences) = layer_prose(readings);
    let x: Vec<f64> = readings.iter().map(|r| r.layer as f64).collect();
    let of = |f: fn(&LayerReading) -> f64| readings.iter().map(f).collect::<Vec<f64>>();
    let mut loo = line(
        "leave-one-out partner (biased high)",
        &x,
        &of(|r| r.leave_one_out),
        "@c1",
        "dot",
    );
    loo["fill"] = json!("tonexty");
    loo["fillcolor"] = json!("@band");
    let second = |mut trace: Value| {
        trace["yaxis"] = json!("y2");
        trace
    };
    let mut low = line(
        "I(S;W) (biased low)",
        &x,
        &of(|r| r.information),
        "@c1",
        "solid",
    );
    if readings.iter().any(|r| r.information_error.is_some()) {
        let errors: Vec<f64> = readings
            .iter()
            .map(|r| r.information_error.unwrap_or(0.0))
            .collect();
        low["error_y"] =
            json!({"type": "data", "array": errors, "color": "@c1", "thickness": 1, "width": 3});
    }
    let ends: Vec<f64> = x.first().into_iter().chain(x.last()).copied().collect();
    let ceiling = readings.first().map_or(0.0, |r| r.ceiling);
    let chart = (!readings.is_empty()).then(|| Chart {
        data: json!([
            low,
            loo,
            {"type": "scatter", "mode": "lines", "name": "ceiling", "x": ends, "y": [ceiling, ceiling], "hoverinfo": "skip",
             "line": {"color": "@muted", "width": 1.5, "dash": "dash"}},
            second(line("entropy of the reading", &x, &of(|r| r.head_entropy), "@c3", "solid")),
            second(line("cross-entropy of the data", &x, &of(|r| r.cross_entropy), "@c2", "solid")),
        ]),
        layout: json!({
            "grid": {"rows": 2, "columns": 1},
            "xaxis": {"anchor": "y2", "title": {"text": "layer (0 is the embedding)"}, "automargin": true},
            "yaxis": {"title": {"text": "information, nats"}, "domain": [0.54, 1], "automargin": true, "rangemode": "tozero"},
            "yaxis2": {"title": {"text": "nats a token"}, "domain": [0, 0.46], "automargin": true, "rangemode": "tozero"},
            "legend": {"orientation": "h", "y": -0.14, "traceorder": "normal"}, "hovermode": "x unified",
        }),
        height: 560,
    });
    let rows = readings.iter().map(|r| {
        vec![
            r.layer.to_string(),
            cell(r.information),
            optional(r.information_error),
            cell(r.leave_one_out),
            cell(r.ceiling),
            cell(r.head_entropy),
            cell(r.cross_entropy),
        ]
    });
    Ok(Figure {
        id: "layers",
        heading,
        sentences,
        alt: "By layer: state-prediction information between its two estimates (above), and entropy of the layer's reading \
              and cross-entropy of the data (below)."
            .into(),
        chart,
        more: html! {},
        estimate: format!(
            "I(S;W) with W drawn from the layer's own reading through the final norm and head (the logit lens). The lower \
             line is exact for these contexts with their weights and biased low for the population, its leave-one-out \
             partner is biased high. {}",
            surety(readings.first().and_then(|r| r.information_error))
        ),
        caveat: "Information about W is not information about the corpus's next token: an early layer may predict with \
                 confidence and be wrong, which the cross-entropy shows. The head was trained for the last layer only, so \
                 earlier layers may know more than it can read."
            .into(),
        table: Table::new(
            "layers.csv",
            &[
                "layer", "information_nats", "information_error", "leave_one_out_nats", "ceiling_nats",
                "head_entropy_nats", "cross_entropy_nats",
            ],
            rows,
        )?,
    })
}

fn layer_prose(readings: &[LayerReading]) -> (String, Vec<String>) {
    let (Some(first), Some(last)) = (readings.first(), readings.last()) else {
        return ("No layer was read out".into(), Vec::new());
    };
    let range = |r: &LayerReading| {
        format!(
            "between {} and {}",
            with_error(r.information, r.information_error),
            figure(r.leave_one_out)
        )
    };
    let at_last = format!(
        "At the last layer, {}, a state carries {} nats about the next token that the model would draw; the ceiling set \
         by the number and weights of the contexts is {} nats.",
        last.layer,
        range(last),
        figure(last.ceiling)
    );
    if readings.len() == 1 {
        return (
            format!(
                "A state carries about {} nats about the model's next token",
                figure(last.information)
            ),
            vec![at_last],
        );
    }
    let peak = readings
        .iter()
        .max_by(|a, b| a.information.total_cmp(&b.information))
        .unwrap_or(last);
    let sharpest = readings
        .iter()
        .min_by(|a, b| a.cross_entropy.total_cmp(&b.cross_entropy))
        .unwrap_or(last);
    let heading = if last.information <= first.information {
        format!(
            "A layer's reading tells states apart less at the end ({} nats) than at layer {} ({} nats)",
            figure(last.information),
            first.layer,
            figure(first.information)
        )
    } else if peak.layer == last.layer {
        format!(
            "What a state says about the next token grows from {} to {} nats through the layers",
            figure(first.information),
            figure(last.information)
        )
    } else {
        format!(
            "What a state says about the next token peaks at layer {}, at {} nats",
            peak.layer,
            figure(peak.information)
        )
    };
    let losses = format!(
        "Read through the final norm and head, the data's cross-entropy is {} nats at layer {} and {} at the last{}.",
        figure(first.cross_entropy),
        first.layer,
        figure(last.cross_entropy),
        if sharpest.layer == last.layer {
            ", the lowest of all".to_string()
        } else {
            format!(
                "; it is lowest at layer {}, {}",
                sharpest.layer,
                figure(sharpest.cross_entropy)
            )
        }
    );
    let impossible = readings
        .iter()
        .filter(|r| r.cross_entropy.is_infinite())
        .count();
    let infinite = match impossible {
        0 => String::new(),
        n => format!(
            "At {} it is infinite, because a token that occurs has probability 0 there; the line has a gap.",
            plural(n, "layer")
        ),
    };
    (heading, vec![at_last, losses, infinite])
}

fn fisher(report: &Report) -> Result<Figure, ReportError> {
    let f = &report.information.fisher;
    let d = f.eigenvalues.len();
    let leading = f
        .eigenvalues
        .iter()
        .take(10)
        .map(|l| l.max(0.0))
        .sum::<f64>();
    let heading = if f.effective_rank < 0.5 * d as f64 {
        format!(
            "Of {} directions of a state, about {} matter to predictions",
            size(d),
            fixed(f.effective_rank, usize::from(f.effective_rank < 10.0))
        )
    } else {
        format!(
            "Most of the {} directions of a state matter to predictions (effective rank {})",
            size(d),
            figure(f.effective_rank)
        )
    };
    let sentence = format!(
        "The mean Fisher–Rao metric at the last layer has an effective rank of {} of {}; the leading direction holds {} of \
         its trace (anisotropy), the first {} hold {}.",
        figure(f.effective_rank),
        size(d),
        percent(f.anisotropy, 1.0),
        d.min(10),
        percent(leading, f.trace),
    );
    let (mut x, mut y) = (Vec::new(), Vec::new());
    // Below rounding there is nothing to see on a logarithmic axis.
    let least = f.eigenvalues.first().copied().unwrap_or(0.0) * 1e-12;
    for (k, &l) in f.eigenvalues.iter().enumerate() {
        if l > least && l.is_finite() {
            x.push((k + 1) as f64);
            y.push(l);
        }
    }
    let hidden = d - x.len();
    let mut trace = line("eigenvalue", &x, &y, "@c1", "solid");
    trace["mode"] = json!("lines");
    let chart = (!x.is_empty()).then(|| Chart {
        data: json!([
            trace,
            rule(
                &format!("effective rank {}", figure(f.effective_rank)),
                [f.effective_rank; 2],
                [y[y.len() - 1], y[0]],
                "@c2",
                "dash"
            ),
        ]),
        layout: json!({
            "xaxis": axis("rank"), "yaxis": log_axis("eigenvalue", &y),
            "legend": {"orientation": "h", "y": 1.12},
        }),
        height: 340,
    });
    let rows = f
        .eigenvalues
        .iter()
        .enumerate()
        .map(|(k, l)| vec![(k + 1).to_string(), cell(*l)]);
    let zeros = match hidden {
        0 => String::new(),
        n => format!(
            " {} at rounding level are not drawn.",
            plural(n, "eigenvalue")
        ),
    };
    Ok(Figure {
        id: "fisher-rao",
        heading,
        sentences: if d == 0 { Vec::new() } else { vec![sentence] },
        alt: "Eigenvalues of the mean Fisher–Rao metric in decreasing order, logarithmic.".into(),
        chart,
        more: direction_table(report, &f.directions),
        estimate: format!(
            "g = Uᵀ(diag p − p pᵀ)U averaged over contexts, U the head: a step of length ε along a unit eigenvector changes \
             the prediction by a KL of about ε²/2 times the eigenvalue. Effective rank is exp of the entropy of the \
             normalised eigenvalues. Computed for these contexts; no standard error is given.{zeros}"
        ),
        caveat: "The metric depends on the scale of each coordinate of the state, and states do not fill all directions: a \
                 sensitive direction need not be one along which states vary."
            .into(),
        table: Table::new("fisher-rao.csv", &["rank", "eigenvalue"], rows)?,
    })
}

/// The rows of `directions.csv`.
pub(crate) fn direction_rows(report: &Report) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (k, d) in report.information.fisher.directions.iter().enumerate() {
        for (kind, list) in [("raised", &d.raised), ("lowered", &d.lowered)] {
            for &(t, x) in list {
                rows.push(vec![
                    (k + 1).to_string(),
                    cell(d.eigenvalue),
                    kind.into(),
                    t.to_string(),
                    report.token(t),
                    cell(x),
                ]);
            }
        }
    }
    rows
}

fn direction_table(report: &Report, directions: &[Direction]) -> Markup {
    let tokens = |list: &[(u32, f64)]| -> Markup {
        html! {
            @for (t, x) in list {
                code title=(format!("logit change {}", signed(*x))) { (label(&report.token(*t), 24)) } " "
            }
            @if list.is_empty() { "–" }
        }
    };
    html! {
        @if !directions.is_empty() {
            div.wide tabindex="0" role="region" aria-label="Leading directions" {
                table.leading {
                    caption { "The leading directions: what a step along each does to predictions" }
                    thead { tr {
                        th.n scope="col" { "eigenvalue" }
                        th scope="col" { "tokens made likelier" }
                        th scope="col" { "tokens made less likely" }
                    } }
                    tbody { @for d in directions {
                        tr {
                            td.n { (figure(d.eigenvalue)) }
                            td { (tokens(&d.raised)) }
                            td { (tokens(&d.lowered)) }
                        }
                    } }
                }
            }
        }
    }
}

fn range_name(l: &LengthLoss) -> String {
    if l.from == l.to {
        l.from.to_string()
    } else {
        format!("{}–{}", l.from, l.to)
    }
}

fn range_tokens(l: &LengthLoss) -> String {
    format!(
        "{} token{}",
        range_name(l),
        if l.to == 1 { "" } else { "s" }
    )
}

fn lengths(report: &Report) -> Result<Figure, ReportError> {
    let running = &report.information.running;
    let by_length = &running.by_length;
    let (heading, sentences) = length_prose(report);
    let x: Vec<f64> = by_length
        .iter()
        .map(|l| (f64::from(l.from) * f64::from(l.to)).sqrt())
        .collect();
    let y: Vec<f64> = by_length.iter().map(|l| l.loss).collect();
    let errors: Vec<f64> = by_length.iter().map(|l| l.error).collect();
    let names: Vec<String> = by_length.iter().map(range_name).collect();
    let mut trace = line("loss on running text", &x, &y, "@c1", "solid");
    trace["error_y"] =
        json!({"type": "data", "array": errors, "color": "@c1", "thickness": 1.5, "width": 4});
    trace["customdata"] = json!(
        by_length
            .iter()
            .map(|l| json!([
                range_name(l),
                size(l.positions),
                with_error(l.loss, Some(l.error))
            ]))
            .collect::<Vec<_>>()
    );
    trace["hovertemplate"] = json!(
        "prefixes of %{customdata[0]} tokens<br>%{customdata[1]} positions<br>%{customdata[2]} nats<extra></extra>"
    );
    let ce = report.information.likelihood.cross_entropy;
    let ends: Vec<f64> = x.first().into_iter().chain(x.last()).copied().collect();
    let chart = (!by_length.is_empty()).then(|| Chart {
        data: json!([
            trace,
            {"type": "scatter", "mode": "lines", "name": format!("contexts of {}", plural(report.order, "token")),
             "x": ends, "y": vec![ce; ends.len()], "hoverinfo": "skip",
             "line": {"color": "@c2", "width": 1.5, "dash": "dash"}},
        ]),
        layout: json!({
            "xaxis": {"title": {"text": "tokens of prefix read"}, "type": "log", "tickvals": x, "ticktext": names, "automargin": true},
            "yaxis": {"title": {"text": "loss, nats a token"}, "automargin": true},
            "legend": {"orientation": "h", "y": 1.1},
        }),
        height: 400,
    });
    let rows = by_length.iter().map(|l| {
        vec![
            l.from.to_string(),
            l.to.to_string(),
            l.positions.to_string(),
            cell(l.loss),
            cell(l.error),
        ]
    });
    Ok(Figure {
        id: "prefix-length",
        heading,
        sentences,
        alt: "Mean loss on running text by the number of tokens of prefix read, with one standard error, and the \
              cross-entropy on the corpus's short contexts."
            .into(),
        chart,
        more: html! {},
        estimate: format!(
            "Mean −log q(next | prefix) over {} of running text ({}). Bars are one standard error, documents taken as \
             independent.",
            plural(running.positions, "position"),
            visible(running.choice.trim_end_matches('.'))
        ),
        caveat: "Prefix length and place in the document go together: openings of documents may be easier or harder by \
                 nature, and long prefixes come from long documents only. The dashed line is over the corpus's most \
                 frequent contexts, not over all of its text."
            .into(),
        table: Table::new("prefix-length.csv", &["from", "to", "positions", "loss_nats", "standard_error"], rows)?,
    })
}

fn length_prose(report: &Report) -> (String, Vec<String>) {
    let by_length = &report.information.running.by_length;
    let (Some(first), Some(last)) = (by_length.first(), by_length.last()) else {
        return ("No loss by prefix length was measured".into(), Vec::new());
    };
    let nats = |l: &LengthLoss| with_error(l.loss, Some(l.error));
    let noise = 2.0 * first.error.hypot(last.error);
    let fall = first.loss - last.loss;
    let heading = if fall > noise {
        format!(
            "More context helps: the loss falls from {} to {} nats",
            figure(first.loss),
            figure(last.loss)
        )
    } else if fall < -noise {
        format!(
            "More context does not help: the loss rises from {} to {} nats",
            figure(first.loss),
            figure(last.loss)
        )
    } else {
        "The loss does not depend on the length of the prefix, within its errors".to_string()
    };
    let mut sentences = vec![format!(
        "With a prefix of {} the loss is {} nats, with one of {} it is {}.",
        range_tokens(first),
        nats(first),
        range_tokens(last),
        nats(last)
    )];
    let order = u32::try_from(report.order).unwrap_or(u32::MAX);
    let ce = report.information.likelihood.cross_entropy;
    if let Some(same) = by_length.iter().find(|l| (l.from..=l.to).contains(&order)) {
        let error = report
            .information
            .likelihood
            .cross_entropy_error
            .unwrap_or(0.0);
        let noise = 2.0 * same.error.hypot(error);
        let why = if same.loss > ce + noise {
            "the chosen contexts are easier than the openings of texts"
        } else if same.loss < ce - noise {
            "the openings of texts are easier than the chosen contexts"
        } else {
            "the two agree within their errors"
        };
        sentences.push(format!(
            "With a prefix of {} it is {} nats, against {} on the corpus's contexts of {}: {why}.",
            range_tokens(same),
            nats(same),
            with_error(ce, report.information.likelihood.cross_entropy_error),
            plural(report.order, "token"),
        ));
    }
    (heading, sentences)
}
