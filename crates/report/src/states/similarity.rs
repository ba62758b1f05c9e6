//! Which contexts are followed by similar predictions.

use lawvere_information::Whose;
use maud::html;
use serde_json::json;

use super::{on_second, panels};
use crate::ReportError;
use crate::data::Report;
use crate::figure::{Chart, Figure, axis, line, log_axis, traces};
use crate::number::{figure, percent, plural};
use crate::table::{Table, cell};
use crate::text::plotly_text;

pub(super) fn similarity(report: &Report) -> Result<Figure, ReportError> {
    let map = &report.states.map;
    let pairs = || {
        let n = map.rows.len();
        (0..n).flat_map(move |i| (0..i).map(move |j| (i, j)))
    };
    let mean = |values: &[Vec<f64>]| {
        pairs().map(|(i, j)| values[i][j]).sum::<f64>() / pairs().count().max(1) as f64
    };
    let (model, data) = (mean(&map.model), mean(&map.data));
    // Overlaps of counts are too low by an amount that is not known: only exact laws can be judged by.
    let known = report.truth.is_some();
    let heading = match model - data {
        _ if !known => "How alike predictions are after frequent contexts",
        x if x > 0.02 => "The model tells contexts apart less than the language does",
        x if x < -0.02 => "The model tells contexts apart more than the language does",
        _ => "The model tells contexts apart as the language does",
    };
    let other = if known { "language" } else { "corpus" };
    let mut sentences = vec![format!(
        "Between {} the mean overlap of predictions is {} in the model and {} in the {other}.",
        plural(map.rows.len(), "frequent context"),
        figure(model),
        figure(data)
    )];
    for s in &report.states.similarity {
        let whose = name(s.spectrum.whose, known);
        let last = s.energies.last();
        sentences.push(format!(
            "In the {whose} the leading eigenvalue holds {} of the trace{}.",
            percent(
                s.spectrum.eigenvalues.first().copied().unwrap_or(0.0),
                s.spectrum.trace
            ),
            last.map_or(String::new(), |e| format!(
                "; the last layer's states have a Dirichlet energy of {}, shuffled {}",
                figure(e.mean),
                figure(e.shuffled)
            ))
        ));
    }
    let labels: Vec<String> = map
        .rows
        .iter()
        .map(|&row| plotly_text(&report.context(row), 24))
        .collect();
    let places: Vec<usize> = (0..map.rows.len()).collect();
    // The model's above the diagonal, the corpus's below it.
    let shown: Vec<Vec<f64>> = places
        .iter()
        .map(|&i| {
            let row = places.iter();
            row.map(|&j| {
                if j >= i {
                    map.model[i][j]
                } else {
                    map.data[i][j]
                }
            })
            .collect()
        })
        .collect();
    let hover: Vec<Vec<String>> = places
        .iter()
        .map(|&i| {
            let row = places.iter();
            row.map(|&j| {
                format!(
                    "{}<br>{}<br>model {} · {other} {}",
                    labels[i],
                    labels[j],
                    figure(map.model[i][j]),
                    figure(map.data[i][j])
                )
            })
            .collect()
        })
        .collect();
    let heatmap = json!({
        "type": "heatmap", "z": shown, "x": places, "y": places, "text": hover, "hovertemplate": "%{text}<extra></extra>",
        "zmin": 0.0, "zmax": 1.0, "colorscale": "@seq", "showscale": true,
        "colorbar": {"thickness": 8, "len": 0.9, "x": 0.445, "tickvals": [0.0, 0.5, 1.0]},
    });
    let spectra = report
        .states
        .similarity
        .iter()
        .zip(["@c1", "@c2"])
        .map(|(s, color)| {
            let values: Vec<f64> = s
                .spectrum
                .eigenvalues
                .iter()
                .copied()
                .filter(|l| *l > 0.0)
                .collect();
            let x: Vec<f64> = (1..=values.len()).map(|k| k as f64).collect();
            let whose = name(s.spectrum.whose, known);
            on_second(line(whose, &x, &values, color, "solid"))
        });
    let all: Vec<f64> = report
        .states
        .similarity
        .iter()
        .flat_map(|s| s.spectrum.eigenvalues.clone())
        .collect();
    let ticks = json!({"showticklabels": false, "ticks": "", "title": {"text": "contexts"}});
    let mut y = ticks.clone();
    y["autorange"] = json!("reversed");
    let chart = Chart {
        data: traces([heatmap].into_iter().chain(spectra).map(Some)),
        layout: panels([ticks, y], [axis("rank"), log_axis("eigenvalue", &all)]),
        height: 440,
    };
    let rows = report.states.similarity.iter().flat_map(|s| {
        let whose = name(s.spectrum.whose, known);
        let values = s.spectrum.eigenvalues.iter().enumerate();
        values.map(move |(k, l)| vec![whose.to_string(), (k + 1).to_string(), cell(*l)])
    });
    Ok(Figure {
        id: "similarity",
        heading: heading.into(),
        sentences,
        alt: "Left: a heat map of overlaps of predictions between frequent contexts, the model's above the diagonal and \
              the other's below. Right: the leading eigenvalues of both similarity operators."
            .into(),
        chart: Some(chart),
        more: html! {},
        estimate: format!(
            "Overlap is Bhattacharyya's, Σ√(p q): 1 for equal laws, 0 for laws without a common token. The spectra are \
             of the operator weighted by frequency, over {}; Dirichlet energies are of states whitened to variance 1, \
             low where similar predictions have similar states.",
            plural(report.states.similarity.first().map_or(0, |s| s.spectrum.contexts), "context")
        ),
        caveat: if known {
            "The other side is the language's exact laws, not the corpus's counts.".into()
        } else {
            "Overlaps of observed frequencies are too low where few occurrences were seen: two samples of one law \
             overlap by less than 1, so that corpus and model cannot be compared by them."
                .into()
        },
        table: Table::new("similarity.csv", &["whose", "rank", "eigenvalue"], rows)?,
    })
}

fn name(whose: Whose, known: bool) -> &'static str {
    match whose {
        Whose::Model => "model",
        Whose::Data if known => "language",
        Whose::Data => "corpus",
    }
}
