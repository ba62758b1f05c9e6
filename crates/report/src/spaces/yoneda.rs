use maud::html;
use serde_json::json;

use super::data::TextsWithin;
use crate::ReportError;
use crate::figure::{Chart, Figure};
use crate::number::{count, figure, plural};
use crate::table::{Table, cell};
use crate::text::{plotly_text, quoted};

fn times(count: Option<&u64>) -> String {
    plural(count.map_or(0, |&n| n as usize), "time")
}

/// Yoneda vectors of all that stands within a text, side by side.
pub(super) fn yoneda(within: &TextsWithin) -> Result<Figure, ReportError> {
    let texts = &within.texts;
    let n = texts.len();
    let whole = n - 1;
    let labels: Vec<String> = texts.iter().map(|t| plotly_text(t, 30)).collect();
    let places: Vec<usize> = (0..n).collect();
    let value = |i: usize, j: usize| {
        let row = within.distances.get(i);
        row.and_then(|row| row.get(j))
            .copied()
            .unwrap_or(f64::INFINITY)
    };
    // null, and so blank, where a distance is infinite.
    let shown = |i: usize, j: usize| Some(value(i, j)).filter(|d| d.is_finite());
    let z: Vec<Vec<Option<f64>>> = places
        .iter()
        .map(|&i| places.iter().map(|&j| shown(i, j)).collect())
        .collect();
    let hover: Vec<Vec<String>> = places
        .iter()
        .map(|&i| {
            let cells = places.iter();
            cells
                .map(|&j| {
                    format!(
                        "from {}<br>to {}<br>{} nats",
                        labels[i],
                        labels[j],
                        figure(value(i, j))
                    )
                })
                .collect()
        })
        .collect();
    let ticks = |title: &str, angle: i32| {
        json!({
            "title": {"text": title, "standoff": 16}, "automargin": true, "tickvals": places, "ticktext": labels, "tickangle": angle,
            "tickfont": {"size": 10}, "showgrid": false, "zeroline": false,
        })
    };
    let mut y = ticks("from", 0);
    y["autorange"] = json!("reversed");
    let chart = Chart {
        data: json!([{
            "type": "heatmap", "z": z, "x": places, "y": places, "text": hover, "hovertemplate": "%{text}<extra></extra>",
            "colorscale": "@seq", "showscale": true, "hoverongaps": false, "xgap": 1, "ygap": 1,
            "colorbar": {"title": {"text": "nats", "side": "top"}, "thickness": 10, "len": 0.6, "outlinewidth": 0},
        }]),
        layout: json!({"xaxis": ticks("a: its column is Y(a)", -50), "yaxis": y, "margin": {"l": 12, "r": 12, "t": 12, "b": 12}}),
        height: (15 * n + 260) as u32,
    };
    let finite = (0..n)
        .flat_map(|i| (0..n).map(move |j| (i, j)))
        .filter(|&(i, j)| i != j && value(i, j).is_finite())
        .count();
    let nearest = within
        .words
        .iter()
        .copied()
        .min_by(|&a, &b| value(a, whole).total_cmp(&value(b, whole)));
    let mut sentences = vec![format!(
        "{} occurs {}, and {} within it; {} of the {} distances between two of them are finite.",
        quoted(&texts[whole]),
        times(within.counts.get(whole)),
        plural(n - 1, "text"),
        count(finite as u64),
        count((n * (n - 1)) as u64),
    )];
    if let Some(word) = nearest {
        sentences.push(format!(
            "Of its tokens {} is nearest to it, {} nats away: it occurs {}, {} times as often.",
            quoted(&texts[word]),
            figure(value(word, whole)),
            times(within.counts.get(word)),
            figure(value(word, whole).exp()),
        ));
    }
    let table = (0..n).flat_map(|i| {
        let cells = (0..n).filter(move |&j| value(i, j).is_finite());
        cells.map(move |j| vec![texts[i].clone(), texts[j].clone(), cell(value(i, j))])
    });
    Ok(Figure {
        id: "yoneda",
        heading: format!("All that stands within {}, as vectors of distances", quoted(&texts[whole])),
        sentences,
        alt: "A heat map of distances among all texts within one text, shorter ones first. A column is the Yoneda vector of \
              its text, a row the co-Yoneda vector; where one does not stand within the other it is blank."
            .into(),
        chart: Some(chart),
        more: html! {},
        estimate: "d(a, b) = log count(a) − log count(b) for a text a that stands anywhere within b. The Yoneda embedding \
                   a ↦ d(−, a) keeps all distances: the Funk distance of two columns, max (y − x), is that of their texts."
            .into(),
        caveat: "Of the 200 most frequent texts of its length the first without a repeated token was taken, or the most \
                 frequent of all where each has one. Shares are of counts, without errors."
            .into(),
        table: Table::new("yoneda.csv", &["from", "to", "distance_nats"], table)?,
    })
}
