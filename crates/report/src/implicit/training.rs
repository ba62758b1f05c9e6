//! Networks along their training, beside what was predicted.

use lawvere_geometry::GeometryMeasures;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::data::{CurvePoint, ImplicitReport, NetworkRun};
use super::maps::{Scale, Sides};
use crate::ReportError;
use crate::figure::{Chart, Figure, axis, exact_level, line, log_axis};
use crate::number::{cosine, figure, plural, size};
use crate::table::{Table, cell, optional};

pub(crate) fn figures(report: &ImplicitReport) -> Result<Vec<Figure>, ReportError> {
    Ok(vec![
        finals(report)?,
        loss(report)?,
        directions(report)?,
        norms(report)?,
        collapse(report)?,
        strengths(report)?,
        logits(report)?,
        grams(report)?,
    ])
}

const COLOURS: [&str; 5] = ["@c1", "@c2", "@c3", "@c4", "@c5"];

fn colour(k: usize) -> &'static str {
    COLOURS[k % COLOURS.len()]
}

/// Steps on a logarithmic axis: the untrained network stands at half a step.
fn place(step: u64) -> f64 {
    if step == 0 { 0.5 } else { step as f64 }
}

fn steps_axis(report: &ImplicitReport) -> Value {
    let all = report.networks.iter().flat_map(|n| &n.curve);
    let steps: Vec<f64> = all.map(|p| place(p.step)).collect();
    log_axis("steps (untrained at ½)", &steps)
}

/// One line a network of `f` along training.
fn lines(
    report: &ImplicitReport,
    dash: &str,
    suffix: &str,
    f: impl Fn(&CurvePoint) -> Option<f64>,
) -> Vec<Value> {
    let networks = report.networks.iter().enumerate();
    networks
        .map(|(k, network)| {
            let points = network.curve.iter();
            let seen = points.filter_map(|p| f(p).map(|y| (place(p.step), y)));
            let (x, y): (Vec<f64>, Vec<f64>) = seen.unzip();
            line(
                &format!("{}{suffix}", network.name),
                &x,
                &y,
                colour(k),
                dash,
            )
        })
        .collect()
}

fn last(network: &NetworkRun) -> Option<&GeometryMeasures> {
    network.curve.last().map(|p| &p.measures)
}

/// Curves along training.
fn along(
    report: &ImplicitReport,
    data: &[Value],
    across: Value,
    legend: f64,
    height: u32,
) -> Chart {
    Chart {
        data: json!(data),
        layout: json!({
            "xaxis": steps_axis(report), "yaxis": across, "legend": {"orientation": "h", "y": legend},
        }),
        height,
    }
}

/// `all 4 networks`, or `2 of 4 networks`: those whose course, from the first measures to the last and with
/// dealt states, is as `f` says.
fn so_many(
    report: &ImplicitReport,
    f: impl Fn(&GeometryMeasures, &GeometryMeasures, &GeometryMeasures) -> bool,
) -> String {
    let is_so = |n: &&NetworkRun| match (n.curve.first(), n.curve.last()) {
        (Some(first), Some(last)) => f(&first.measures, &last.measures, &n.shuffled),
        _ => false,
    };
    let (all, some) = (
        report.networks.len(),
        report.networks.iter().filter(is_so).count(),
    );
    match (some, all) {
        (1, 1) => "the network".into(),
        (some, all) if some == all => format!("all {all} networks"),
        (some, all) => format!("{some} of {}", plural(all, "network")),
    }
}

/// All measures along training, for every figure of this chapter.
fn table(report: &ImplicitReport, name: &'static str) -> Result<Table, ReportError> {
    let rows = report.networks.iter().flat_map(|network| {
        network.curve.iter().map(|p| {
            let m = &p.measures;
            vec![
                network.name.clone(),
                p.step.to_string(),
                cell(m.cross_entropy),
                cell(m.excess),
                cell(m.words_norm),
                cell(m.states_norm),
                cell(m.logits_norm),
                cell(m.prediction.raw),
                cell(m.proxy.raw),
                optional(p.path.map(|p| p.cosine)),
                optional(p.path.map(|p| p.relative_lambda)),
                cell(m.word_gram.raw),
                cell(m.context_gram.raw),
                cell(m.finite.distance),
                optional(m.within),
                optional(m.between),
            ]
        })
    });
    Table::new(
        name,
        &[
            "network",
            "step",
            "cross_entropy",
            "excess",
            "words_norm",
            "states_norm",
            "logits_norm",
            "cosine_max_margin",
            "cosine_proxy",
            "cosine_path",
            "relative_lambda",
            "word_gram",
            "context_gram",
            "finite_distance",
            "within",
            "between",
        ],
        rows,
    )
}

/// What the finished networks are, beside chance and the untrained network.
fn finals(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let best = report
        .networks
        .iter()
        .filter_map(|n| last(n).map(|m| (n, m.prediction.raw)))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    Ok(Figure {
        id: "networks",
        heading: match best {
            Some((network, value)) => format!(
                "{} comes nearest to the predicted logits, at cosine {}",
                network.name,
                cosine(value)
            ),
            None => "No network was measured".into(),
        },
        sentences: report
            .networks
            .iter()
            .map(|n| format!("{}: {}; {}.", n.name, n.network, n.settings))
            .collect(),
        alt: String::new(),
        chart: None,
        more: finals_table(report),
        estimate: "Cosines of learned logits, words and contexts with the predicted ones; in brackets the untrained \
                   network, and the trained one with its states dealt to contexts at random."
            .into(),
        caveat: "A cosine above chance can come from token frequencies alone: they are in every row of the logits.".into(),
        table: table(report, "networks.csv")?,
    })
}

fn finals_table(report: &ImplicitReport) -> Markup {
    type Measure = (&'static str, fn(&GeometryMeasures) -> Option<f64>);
    /// Dealing states does not touch it.
    const WORDS: &str = "words' Gram";
    let measures: [Measure; 8] = [
        ("CE − H, nats", |m| Some(m.excess)),
        ("logits with L^mm", |m| Some(m.prediction.raw)),
        ("logits with S̃", |m| Some(m.proxy.raw)),
        (WORDS, |m| Some(m.word_gram.centred)),
        ("contexts' Gram", |m| Some(m.context_gram.raw)),
        ("|P_F(L) − L^in|", |m| Some(m.finite.distance)),
        ("equal supports, mean cosine", |m| m.within),
        ("other supports, mean cosine", |m| m.between),
    ];
    let text = |x: Option<f64>| x.map_or_else(|| "–".into(), figure);
    html! {
        div.wide tabindex="0" role="region" aria-label="Finished networks" {
            table {
                thead { tr { th { "" } @for n in &report.networks { th { (n.name) } } } }
                tbody { @for (name, measure) in measures {
                    tr {
                        th scope="row" { (name) }
                        @for n in &report.networks { td {
                            (text(last(n).and_then(measure)))
                            " (" (text(n.curve.first().and_then(|p| measure(&p.measures))))
                            ", " (text(measure(&n.shuffled).filter(|_| name != WORDS))) ")"
                        } }
                    }
                } }
            }
        }
    }
}

fn loss(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let traces = lines(report, "solid", "", |p| Some(p.measures.excess));
    let all = report.networks.iter().flat_map(|n| &n.curve);
    let values: Vec<f64> = all.map(|p| p.measures.excess).collect();
    let ends = report.networks.iter().filter_map(|n| {
        let m = last(n)?;
        Some(format!(
            "{} ends {} nats above the entropy after {} steps.",
            n.name,
            figure(m.excess),
            size(n.losses.len())
        ))
    });
    Ok(Figure {
        id: "training-loss",
        heading: format!(
            "The loss ends within 0.05 nats of the entropy, {} nats, in {}",
            figure(report.facts.entropy),
            so_many(report, |_, last, _| last.excess < 0.05)
        ),
        sentences: ends.collect(),
        alt: "CE − H of every network along training, both axes logarithmic.".into(),
        chart: Some(along(
            report,
            &traces,
            log_axis("CE − H, nats", &values),
            1.14,
            380,
        )),
        more: html! {},
        estimate: "Cross-entropy over all contexts, less the entropy of their laws.".into(),
        caveat: "All contexts are trained on; nothing here is about contexts that were not seen."
            .into(),
        table: table(report, "training_loss.csv")?,
    })
}

fn directions(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let mut data = lines(report, "solid", ", L^mm", |p| {
        Some(p.measures.prediction.raw)
    });
    data.extend(lines(report, "dot", ", L_λ of like loss", |p| {
        p.path.map(|p| p.cosine)
    }));
    let shuffled: Vec<String> = report
        .networks
        .iter()
        .map(|n| format!("{} {}", n.name, cosine(n.shuffled.prediction.raw)))
        .collect();
    Ok(Figure {
        id: "training-directions",
        heading: format!(
            "Logits come nearer to the prediction, and than by chance, in {}",
            so_many(report, |first, last, dealt| {
                last.prediction.raw > first.prediction.raw.max(dealt.prediction.raw)
            })
        ),
        sentences: vec![format!(
            "With states dealt to contexts at random the cosine with L^mm would be: {}.",
            shuffled.join(", ")
        )],
        alt: "Cosines of learned logits with L^mm (solid) and with the regularised solution of nearest loss (dotted), \
              along training."
            .into(),
        chart: Some(along(report, &data, axis("cosine"), 1.3, 420)),
        more: html! {},
        estimate: "Frobenius cosines of logits centred over tokens.".into(),
        caveat: "The theory speaks of ridge and of its limit; for AdamW and for networks it is a conjecture.".into(),
        table: table(report, "training_directions.csv")?,
    })
}

fn norms(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let mut data = lines(report, "solid", ", |L|", |p| Some(p.measures.logits_norm));
    data.extend(lines(report, "dash", ", |W|", |p| {
        Some(p.measures.words_norm)
    }));
    data.extend(lines(report, "dot", ", |H|", |p| {
        Some(p.measures.states_norm)
    }));
    let values: Vec<f64> = report
        .networks
        .iter()
        .flat_map(|n| &n.curve)
        .flat_map(|p| {
            [
                p.measures.logits_norm,
                p.measures.words_norm,
                p.measures.states_norm,
            ]
        })
        .collect();
    Ok(Figure {
        id: "training-norms",
        heading: format!(
            "Logits grow while their finite part comes nearer to L^in, in {}",
            so_many(report, |first, last, _| {
                last.logits_norm > first.logits_norm && last.finite.distance < first.finite.distance
            })
        ),
        sentences: report
            .networks
            .iter()
            .filter_map(|n| {
                let m = last(n)?;
                Some(format!(
                    "{}: |L| = {}, |P_F(L) − L^in| = {} beside |L^in| = {}.",
                    n.name,
                    figure(m.logits_norm),
                    figure(m.finite.distance),
                    figure(report.finite_norm)
                ))
            })
            .collect(),
        alt: "Frobenius norms of logits (solid), words (dashed) and contexts (dotted) along training.".into(),
        chart: Some(along(report, &data, log_axis("norm", &values), 1.4, 440)),
        more: html! {},
        estimate: "Logits are centred over tokens, to which the loss is blind.".into(),
        caveat: "A network with norms inside bounds its contexts: then words alone grow.".into(),
        table: table(report, "training_norms.csv")?,
    })
}

fn collapse(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let mut data = lines(report, "solid", ", equal supports", |p| p.measures.within);
    data.extend(lines(report, "dot", ", other supports", |p| {
        p.measures.between
    }));
    let steps = report.networks.iter().flat_map(|n| &n.curve);
    let steps: Vec<f64> = steps.map(|p| place(p.step)).collect();
    data.push(exact_level("predicted limit", &steps, 1.0));
    Ok(Figure {
        id: "training-collapse",
        heading: format!(
            "Contexts with equal supports come to a mean cosine above 0.5, others not, in {}",
            so_many(report, |_, last, _| {
                last.within.is_some_and(|x| x > 0.5) && last.between.is_some_and(|x| x < 0.5)
            })
        ),
        sentences: report
            .networks
            .iter()
            .filter_map(|n| {
                let m = last(n)?;
                Some(format!(
                    "{}: mean cosine {} within equal supports, {} between others.",
                    n.name,
                    cosine(m.within?),
                    cosine(m.between?)
                ))
            })
            .collect(),
        alt: "Mean cosine of centred context embeddings, within equal supports (solid) and between (dotted), along \
              training."
            .into(),
        chart: Some(along(report, &data, axis("mean cosine"), 1.4, 440)),
        more: html! {},
        estimate: "Subspace collapse: 1 within equal supports in the limit, up to the finite part.".into(),
        caveat: "Contexts with equal supports and different probabilities keep different finite parts.".into(),
        table: table(report, "training_collapse.csv")?,
    })
}

/// Concepts followed along training.
const FOLLOWED: usize = 5;

fn strengths(report: &ImplicitReport) -> Result<Figure, ReportError> {
    // One network is shown: of several the pictures would cover one another.
    let network = report
        .networks
        .iter()
        .find(|n| n.name == "transformer")
        .or(report.networks.first());
    let concepts = network.map_or(0, |n| last(n).map_or(0, |m| m.concepts.len().min(FOLLOWED)));
    let data: Vec<Value> = (0..concepts)
        .filter_map(|k| {
            let network = network?;
            let end = last(network)?.concepts[k];
            let points = network.curve.iter();
            let seen = points.map(|p| (place(p.step), p.measures.concepts[k] / end));
            let (x, y): (Vec<f64>, Vec<f64>) = seen.unzip();
            Some(line(
                &format!("concept {}", k + 1),
                &x,
                &y,
                colour(k),
                "solid",
            ))
        })
        .collect();
    let name = network.map_or("", |n| n.name.as_str());
    let rows = report.networks.iter().flat_map(|n| {
        n.curve.iter().flat_map(move |p| {
            let strengths = p.measures.concepts.iter().enumerate().take(32);
            strengths.map(move |(k, s)| {
                vec![
                    n.name.clone(),
                    p.step.to_string(),
                    (k + 1).to_string(),
                    cell(*s),
                ]
            })
        })
    });
    Ok(Figure {
        id: "training-concepts",
        heading: "Whether larger concepts are learned earlier".into(),
        sentences: vec![format!(
            "Shown for the {name}: the strength u'Lv of the leading concepts of L^mm, as a fraction of its last value."
        )],
        alt: "Strength of the leading concepts along training, as fractions of their last values."
            .into(),
        chart: Some(along(
            report,
            &data,
            axis("fraction of its last value"),
            1.14,
            380,
        )),
        more: html! {},
        estimate:
            "The claim of arXiv 2505.08348, in the singular directions of the max-margin logits."
                .into(),
        caveat: "Directions with nearby singular values mix.".into(),
        table: Table::new(
            "training_concepts.csv",
            &["network", "step", "concept", "strength"],
            rows,
        )?,
    })
}

fn logits(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let sides = Sides::logits(report);
    let mut maps = vec![("L^mm", &report.max_margin_logits, Scale::Diverging)];
    maps.extend(
        report
            .networks
            .iter()
            .map(|n| (n.name.as_str(), &n.logits, Scale::Diverging)),
    );
    Ok(Figure {
        id: "learned-logits",
        heading: "Learned logits beside the predicted ones".into(),
        sentences: vec!["Each map has its own scale.".into()],
        alt: "Heat maps of the predicted logits (first) and of every network's.".into(),
        chart: Some(sides.chart(&maps)),
        more: html! {},
        estimate: "Logits of the finished networks, centred over tokens.".into(),
        caveat: "Common tokens stand out in every column: their rows are what all contexts share."
            .into(),
        table: table(report, "learned_logits.csv")?,
    })
}

fn grams(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let sides = Sides::contexts(report);
    let mut maps = vec![("predicted", &report.predicted_contexts, Scale::Diverging)];
    maps.extend(
        report
            .networks
            .iter()
            .map(|n| (n.name.as_str(), &n.context_gram, Scale::Diverging)),
    );
    let cosines = report.networks.iter().filter_map(|n| {
        let m = last(n)?;
        Some(format!(
            "{}: contexts at cosine {} with the prediction ({} by chance), words at {}.",
            n.name,
            cosine(m.context_gram.raw),
            cosine(n.shuffled.context_gram.raw),
            cosine(m.word_gram.centred)
        ))
    });
    Ok(Figure {
        id: "learned-grams",
        heading: "Learned context embeddings beside the predicted ones".into(),
        sentences: cosines.collect(),
        alt: "Heat maps of Gram matrices of contexts: predicted (first) and learned.".into(),
        chart: Some(sides.chart(&maps)),
        more: html! {},
        estimate: "H Hᵀ of the contexts, equal supports together.".into(),
        caveat: "Gram matrices are not centred: what all contexts share raises every entry.".into(),
        table: table(report, "learned_grams.csv")?,
    })
}
