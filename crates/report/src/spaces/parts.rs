use maud::html;
use serde_json::{Value, json};

use super::data::TextsWithin;
use crate::ReportError;
use crate::figure::{Chart, Figure, axis, log_axis};
use crate::number::{figure, percent, plural};
use crate::table::{Table, cell};
use crate::text::{plotly_text, quoted};

/// The Boltzmann weights of a text's tokens across temperatures.
pub(super) fn parts(within: &TextsWithin) -> Result<Option<Figure>, ReportError> {
    let texts = &within.texts;
    let whole = &texts[texts.len() - 1];
    let name = |k: usize| within.words.get(k).and_then(|&w| texts.get(w));
    let at = |t: f64| {
        let near = within.temperatures.iter();
        near.min_by(|a, b| {
            (a.temperature - t)
                .abs()
                .total_cmp(&(b.temperature - t).abs())
        })
    };
    let (Some(one), Some(cold), Some(hot)) = (
        at(1.0),
        within.temperatures.first(),
        within.temperatures.last(),
    ) else {
        return Ok(None);
    };
    let x: Vec<f64> = within.temperatures.iter().map(|b| b.temperature).collect();
    let colors = ["@c1", "@c2", "@c3", "@c4", "@c5", "@muted", "@ink"];
    let dashes = ["solid", "dash", "dot", "dashdot"];
    let lines: Vec<Value> = (0..within.words.len())
        .map(|k| {
            let y: Vec<f64> = within
                .temperatures
                .iter()
                .map(|b| b.weights.get(k).copied().unwrap_or(f64::NAN))
                .collect();
            let label = plotly_text(name(k).map_or("", String::as_str), 24);
            json!({
                "type": "scatter", "mode": "lines", "name": label, "x": x, "y": y,
                "line": {"color": colors[k % colors.len()], "width": 2, "dash": dashes[k / colors.len() % dashes.len()]},
                "hovertemplate": "T = %{x:.3g}: weight %{y:.3f}",
            })
        })
        .collect();
    let mut y = axis("weight");
    y["range"] = json!([-0.02, 1.02]);
    let chart = Chart {
        data: Value::Array(lines),
        layout: json!({
            "xaxis": log_axis("temperature T, nats", &x), "yaxis": y, "hovermode": "x",
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        }),
        height: 420,
    };
    let heaviest = |weights: &[f64]| {
        let all = weights.iter().enumerate();
        all.max_by(|a, b| a.1.total_cmp(b.1)).map(|(k, w)| (k, *w))
    };
    let effective = |weights: &[f64]| {
        let terms = weights.iter().filter(|w| **w > 0.0).map(|w| -w * w.ln());
        terms.sum::<f64>().exp()
    };
    let mut sentences = Vec::new();
    if let Some((k, weight)) = heaviest(&one.weights) {
        sentences.push(format!(
            "At T = {} the weight of a token is in inverse proportion to its count: {} has {}, and the {} weigh like {}.",
            figure(one.temperature),
            quoted(name(k).map_or("", String::as_str)),
            percent(weight, 1.0),
            plural(within.words.len(), "token"),
            figure(effective(&one.weights)),
        ));
    }
    if let Some((_, weight)) = heaviest(&cold.weights) {
        sentences.push(format!(
            "At T = {} it has {}; at T = {} they weigh like {} equal ones.",
            figure(cold.temperature),
            percent(weight, 1.0),
            figure(hot.temperature),
            figure(effective(&hot.weights)),
        ));
    }
    let rows = within.temperatures.iter().flat_map(|b| {
        let weights = b.weights.iter().enumerate();
        weights.map(|(k, w)| {
            vec![
                cell(b.temperature),
                name(k).cloned().unwrap_or_default(),
                cell(*w),
            ]
        })
    });
    Ok(Some(Figure {
        id: "boltzmann",
        heading: format!("{} as attention over its tokens", quoted(whole)),
        sentences,
        alt: "Lines, one a token of the text: its Boltzmann weight over the temperature.".into(),
        chart: Some(chart),
        more: html! {},
        estimate: "A text's Yoneda vector is approximated by those of its parts: the soft minimum \
                   −T log Σ exp(−(d(w, a) + Y(w)) / T), whose weights exp(−d(w, a) / T), normalised, are drawn. As T goes to 0 \
                   it becomes the least of d(w, a) + Y(w), the greatest extension of what Y(a) is on the parts."
            .into(),
        caveat: "Distances are of counts, so that the weights know how often tokens occur and not what they mean; the \
                 analogy to attention is of form."
            .into(),
        table: Table::new("boltzmann.csv", &["temperature", "token", "weight"], rows)?,
    }))
}
