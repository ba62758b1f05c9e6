//! Lens 3: likelihood, entropies, and what a state says about the next token.

use lawvere_information::LayerReading;
use maud::html;
use serde_json::{Value, json};

use crate::ReportError;
use crate::data::{Report, TrueInformation};
use crate::figure::{
    Chart, EXACT, Figure, axis, exact_level, exact_line, exact_marker, line, rule, surety, traces,
};
use crate::fisher::fisher;
use crate::number::{bits, count, figure, nats_and_bits, percent, plural, with_error};
use crate::running::{lengths, training};
use crate::table::{Table, cell, optional};
use crate::text::plotly_text;
use crate::truth::off;

/// The most points of the scatter of entropies, and the most exact ones among them.
const POINTS: usize = 3000;
const EXACT_POINTS: usize = 800;

pub(crate) fn figures(report: &Report) -> Result<Vec<Figure>, ReportError> {
    let mut figures = vec![
        identity(report)?,
        entropies(report)?,
        layers(report)?,
        fisher(report)?,
        lengths(report)?,
    ];
    figures.extend(training(report)?);
    Ok(figures)
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

/// The exact decomposition beside the estimated one, in words.
fn exact_likelihood(report: &Report, t: &TrueInformation) -> [String; 2] {
    let (l, e) = (&report.information.likelihood, &t.likelihood);
    let noise = if t.sampling_divergence >= l.divergence {
        format!(
            "k_true itself is {} nats from the corpus's counts, no less than the model: on these contexts the corpus \
             cannot tell the two apart.",
            figure(t.sampling_divergence)
        )
    } else {
        format!(
            "k_true itself is {} nats from the corpus's counts: {} of the model's distance from the corpus is no \
             more than a perfect model would show.",
            figure(t.sampling_divergence),
            percent(t.sampling_divergence, l.divergence)
        )
    };
    [
        format!(
            "Exactly, CE is {} nats, H {} and KL from k_true {}; the estimate of KL is {}.",
            figure(e.cross_entropy),
            figure(e.entropy),
            figure(e.divergence),
            off(l.divergence, l.divergence_error, e.divergence),
        ),
        noise,
    ]
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
    let truth = report.truth.as_ref().map(|t| &t.information);
    let mut sentences = vec![
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
    if let Some(t) = truth {
        sentences.extend(exact_likelihood(report, t));
    }
    // From below; exact bars stand beside those they belong to.
    let places = match truth {
        None => vec!["running text", "contexts"],
        Some(_) => vec![
            "k_true on running text",
            "running text",
            "contexts, exact",
            "contexts",
        ],
    };
    let at = |place: &str, x: f64| -> Vec<f64> {
        places
            .iter()
            .map(|p| if *p == place { x } else { 0.0 })
            .collect()
    };
    let longest = truth
        .map_or(0.0, |t| t.likelihood.cross_entropy.max(t.running_loss))
        .max(l.cross_entropy)
        .max(r.cross_entropy);
    // A name does not fit into a short piece: it is written after it.
    let short = |x: f64| x > 0.0 && x < 0.18 * longest;
    let bar = |name: &str, values: Vec<f64>, color: &str| {
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
        let outside = values.iter().any(|&x| short(x));
        json!({
            "type": "bar", "orientation": "h", "name": name, "y": places, "x": values, "text": text,
            "textposition": if outside { "outside" } else { "inside" }, "insidetextanchor": "middle",
            "constraintext": "none", "textfont": {"color": if outside { "@ink" } else { "@onfill" }},
            "cliponaxis": !outside, "hovertemplate": "%{text}<extra></extra>",
            "marker": {"color": color},
        })
    };
    let exact = |name: &str, values: Vec<f64>, opacity: f64| {
        let mut trace = bar(name, values, EXACT);
        trace["marker"]["opacity"] = json!(opacity);
        trace
    };
    let mut xaxis = axis("nats a token");
    if short(l.divergence) || truth.is_some_and(|t| short(t.likelihood.divergence)) {
        xaxis["range"] = json!([0.0, 1.3 * longest]);
    }
    let chart = Chart {
        data: traces([
            Some(bar(
                "H, the corpus's entropy",
                at("contexts", l.entropy),
                "@c3",
            )),
            Some(bar(
                "KL, corpus to model",
                at("contexts", l.divergence),
                "@c2",
            )),
            Some(bar("loss", at("running text", r.cross_entropy), "@c1")),
            truth.map(|t| exact("H, exact", at("contexts, exact", t.likelihood.entropy), 1.0)),
            truth.map(|t| {
                exact(
                    "KL, exact",
                    at("contexts, exact", t.likelihood.divergence),
                    0.6,
                )
            }),
            truth.map(|t| {
                exact(
                    "loss of k_true",
                    at("k_true on running text", t.running_loss),
                    1.0,
                )
            }),
        ]),
        layout: json!({
            "barmode": "stack", "xaxis": xaxis, "yaxis": {"automargin": true}, "showlegend": false,
            "bargap": 0.35,
        }),
        height: if truth.is_some() { 400 } else { 260 },
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
    let csv = table.iter().map(|(on, what, x, e)| {
        let exact = truth.and_then(|t| match (*on, *what) {
            ("contexts", "cross_entropy") => Some(t.likelihood.cross_entropy),
            ("contexts", "divergence") => Some(t.likelihood.divergence),
            ("contexts", "entropy") => Some(t.likelihood.entropy),
            // The loss of k_true on the same positions.
            ("running text", "cross_entropy") => Some(t.running_loss),
            _ => None,
        });
        vec![
            on.to_string(),
            what.to_string(),
            cell(*x),
            optional(*e),
            optional(exact),
        ]
    });
    Ok(Figure {
        id: "likelihood",
        heading,
        sentences,
        alt: format!(
            "Stacked bar of the cross-entropy on contexts as entropy plus divergence, beside the loss on running text{}.",
            if truth.is_some() { ", each with its exact counterpart below it" } else { "" }
        ),
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
        table: Table::with_exact(
            "likelihood.csv",
            &["on", "quantity", "nats", "standard_error"],
            &["exact_nats"],
            truth.is_some(),
            csv,
        )?,
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

/// The model's certainty against the exact entropies, in words.
fn exact_confidence(report: &Report) -> Option<String> {
    let exact = report.truth.as_ref()?.information.likelihood.entropy;
    let l = &report.information.likelihood;
    let noise = l.head_entropy_error.map_or(0.02, |e| 2.0 * e);
    let says = match l.head_entropy - exact {
        x if x > noise => format!("the model is underconfident by {} nats", figure(x)),
        x if x < -noise => format!("the model is overconfident by {} nats", figure(-x)),
        _ => "the model is as certain as it should be, within the noise".into(),
    };
    Some(format!(
        "The exact entropy of the same contexts is {} nats, free of that bias: against it {says}.",
        figure(exact)
    ))
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
    let sentences = [
        format!(
            "Weighted by frequency, the entropy of the model's predictions is {} nats, that of the corpus {} nats: {verdict}.",
            with_error(l.head_entropy, l.head_entropy_error),
            with_error(l.entropy, l.entropy_error),
        ),
        rows_say,
    ]
    .into_iter()
    .chain(exact_confidence(report))
    .collect();
    let exact = report
        .truth
        .as_ref()
        .map(|t| &t.information.likelihood.rows);
    let exact = |row: usize| exact.and_then(|rows| rows.get(row));
    let known = report.truth.is_some();
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
                figure(r.cross_entropy),
                exact(*row).map_or_else(String::new, |e| figure(e.data)),
            ])
        })
        .collect();
    let sparse = drawn.len().div_ceil(EXACT_POINTS).max(1);
    let exact_x: Vec<Option<f64>> = drawn
        .iter()
        .step_by(sparse)
        .map(|(row, _)| exact(*row).map(|e| e.data))
        .collect();
    let exact_y: Vec<f64> = y.iter().copied().step_by(sparse).collect();
    let exact_hover: Vec<&Value> = hover.iter().step_by(sparse).collect();
    let top = x
        .iter()
        .chain(exact_x.iter().flatten())
        .chain(&y)
        .fold(0.0f64, |a, &b| a.max(b))
        * 1.03;
    let chart = (!drawn.is_empty()).then(|| Chart {
        data: traces([
            Some(json!({
                "type": "scatter", "mode": "markers", "name": if known { "in the corpus" } else { "contexts" },
                "x": x, "y": y, "customdata": hover,
                "hovertemplate": "<b>%{customdata[0]}</b><br>%{customdata[1]} occurrences<br>entropy in the corpus \
                    %{customdata[2]}, in the model %{customdata[3]} nats<br>cross-entropy %{customdata[4]} \
                    nats<extra></extra>",
                "marker": {"color": "@c1", "size": sizes, "opacity": 0.35, "line": {"width": 0}},
            })),
            known.then(|| json!({
                "type": "scatter", "mode": "markers", "name": "exact", "x": exact_x, "y": exact_y, "customdata": exact_hover,
                "hovertemplate": "<b>%{customdata[0]}</b><br>%{customdata[1]} occurrences<br>exact entropy \
                    %{customdata[5]}, in the corpus %{customdata[2]}, in the model %{customdata[3]} nats<extra></extra>",
                "marker": exact_marker(6.0), "opacity": 0.75,
            })),
            Some(rule("equal", [0.0, top], [0.0, top], "@muted", "dash")),
        ]),
        layout: json!({
            "xaxis": axis(if known { "entropy of the next token, in the corpus and exact, nats" }
                else { "entropy of the corpus's next token, nats" }),
            "yaxis": axis("entropy of the model's, nats"), "showlegend": known,
            "legend": {"orientation": "h", "y": 1.08},
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
            optional(exact(row).map(|e| e.data)),
            optional(exact(row).map(|e| e.cross_entropy)),
        ]
    });
    let mut thinned = if step > 1 {
        format!(
            " One in {step} of {} is drawn; the CSV has all.",
            plural(l.rows.len(), "context")
        )
    } else {
        String::new()
    };
    if known && sparse > 1 {
        thinned.push_str(&format!(
            " Of the exact ones one in {} is drawn.",
            step * sparse
        ));
    }
    Ok(Figure {
        id: "entropies",
        heading: heading.into(),
        sentences,
        alt: format!(
            "Scatter of each context's next-token entropy in the corpus (across) and in the model (up); bigger points \
             were seen more often; the dashed line is equality.{}",
            if known { " Diamonds put the exact entropy in the place of the corpus's." } else { "" }
        ),
        chart,
        more: html! {},
        estimate: format!(
            "Shannon entropy of the next token given the context, the head's against the data's. {}{thinned}",
            surety(l.head_entropy_error)
        ),
        caveat: "From k occurrences no entropy above log k can be seen: small points lie too far left, whatever the \
                 model. Judge calibration by the large ones."
            .into(),
        table: Table::with_exact(
            "entropies.csv",
            &["context", "samples", "data_entropy_nats", "model_entropy_nats", "cross_entropy_nats"],
            &["exact_entropy_nats", "exact_cross_entropy_nats"],
            known,
            rows,
        )?,
    })
}

/// What the layers' readings are against the exact laws, in words.
fn exact_layers(readings: &[LayerReading], t: &TrueInformation) -> Option<String> {
    let last = readings.last()?;
    let tail = t.readings.get(readings.len() - 1).map_or_else(String::new, |&exact| {
        format!(
            "; against the exact laws its cross-entropy is {} nats, and the corpus's estimate {}",
            figure(exact),
            off(last.cross_entropy, None, exact)
        )
    });
    Some(format!(
        "Under the exact laws these contexts carry I(X;W) = {} nats about the next token: I(S;W) at the last layer is \
         {}{tail}.",
        figure(t.information),
        off(last.information, last.information_error, t.information),
    ))
}

fn layers(report: &Report) -> Result<Figure, ReportError> {
    let readings = &report.information.readings;
    let (heading, mut sentences) = layer_prose(readings);
    let truth = report.truth.as_ref().map(|t| &t.information);
    sentences.extend(truth.and_then(|t| exact_layers(readings, t)));
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
        data: traces([
            Some(low),
            Some(loo),
            Some(json!({
                "type": "scatter", "mode": "lines", "name": "ceiling", "x": ends, "y": [ceiling, ceiling],
                "hoverinfo": "skip", "line": {"color": "@muted", "width": 1.5, "dash": "dash"},
            })),
            truth.map(|t| exact_level("exact I(X;W)", &x, t.information)),
            Some(second(line("entropy of the reading", &x, &of(|r| r.head_entropy), "@c3", "solid"))),
            Some(second(line("cross-entropy of the data", &x, &of(|r| r.cross_entropy), "@c2", "solid"))),
            truth.map(|t| second(exact_line("exact cross-entropy", &x, &t.readings))),
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
    let rows = readings.iter().enumerate().map(|(k, r)| {
        vec![
            r.layer.to_string(),
            cell(r.information),
            optional(r.information_error),
            cell(r.leave_one_out),
            cell(r.ceiling),
            cell(r.head_entropy),
            cell(r.cross_entropy),
            optional(truth.map(|t| t.information)),
            optional(truth.and_then(|t| t.readings.get(k).copied())),
        ]
    });
    Ok(Figure {
        id: "layers",
        heading,
        sentences,
        alt: format!(
            "By layer: state-prediction information between its two estimates (above), and entropy of the layer's reading \
             and cross-entropy of the data (below).{}",
            if truth.is_some() {
                " Dashed: the exact information of the contexts (above) and the exact cross-entropy (below)."
            } else {
                ""
            }
        ),
        chart,
        more: html! {},
        estimate: format!(
            "I(S;W) with W drawn from the layer's own reading through the final norm and head (the logit lens). The lower \
             line is exact for these contexts with their weights and biased low for the population, its leave-one-out \
             partner is biased high. {}",
            match readings.first().and_then(|r| r.information_error) {
                Some(_) => {
                    "± is one standard error to first order, blocks of documents taken as independent."
                }
                none => surety(none),
            }
        ),
        caveat: "Information about W is not information about the corpus's next token: an early layer may predict with \
                 confidence and be wrong, which the cross-entropy shows. The head was trained for the last layer only, so \
                 earlier layers may know more than it can read."
            .into(),
        table: Table::with_exact(
            "layers.csv",
            &[
                "layer", "information_nats", "information_error", "leave_one_out_nats", "ceiling_nats",
                "head_entropy_nats", "cross_entropy_nats",
            ],
            &["exact_context_information_nats", "exact_cross_entropy_nats"],
            truth.is_some(),
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
