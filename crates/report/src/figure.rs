//! A figure: what was found, the picture, and what to think of it.

use maud::{Markup, PreEscaped, html};
use serde_json::{Value, json};

use crate::json::script_json;
use crate::number::figure;
use crate::table::Table;

/// A chart for Plotly. Colours are names of the page's palette, `@c1` and so on, which the page's
/// script fills in for its theme (under keys that end in `color` or `colorscale` only).
pub(crate) struct Chart {
    pub data: Value,
    pub layout: Value,
    pub height: u32,
}

/// One finding with its picture.
pub(crate) struct Figure {
    pub id: &'static str,
    /// The finding.
    pub heading: String,
    /// The finding with its numbers.
    pub sentences: Vec<String>,
    /// What the picture shows, for those who cannot see it.
    pub alt: String,
    pub chart: Option<Chart>,
    /// Tables beside the picture.
    pub more: Markup,
    /// What is estimated, and how surely.
    pub estimate: String,
    pub caveat: String,
    pub table: Table,
}

impl Figure {
    pub fn render(&self, number: usize, command: &str) -> Markup {
        let text = self.sentences.join(" ");
        html! {
            section.finding id=(self.id) {
                h3 { (self.heading) }
                p.sentence { (text) }
                @if let Some(chart) = &self.chart {
                    figure data-chart=(self.id) {
                        div.plot role="img" aria-label=(format!("{} {}. {text}", self.alt, self.heading))
                            style=(format!("min-height:{}px", chart.height)) {}
                        figcaption { b { "Figure " (number) "." } " " (self.alt) }
                        script type="application/json" {
                            (PreEscaped(script_json(&json!({ "data": chart.data, "layout": chart.layout, "height": chart.height }))))
                        }
                    }
                }
                (self.more)
                div.notes {
                    p { b { "What it estimates. " } (self.estimate) }
                    p { b { "Caveat. " } (self.caveat) }
                    div.links {
                        a href=(self.table.data_uri()) download=(self.table.name) {
                            "data (CSV)"
                        }
                        details {
                            summary { "reproduce" }
                            pre { code { (command) } }
                        }
                    }
                }
            }
        }
    }
}

/// How sure a number is, said where there is no standard error too.
pub(crate) fn surety(error: Option<f64>) -> &'static str {
    match error {
        Some(_) => "± is one standard error, by the bootstrap over blocks of documents.",
        None => {
            "No standard error is given: the corpus has too few separate documents to resample, or \
             it was too costly to compute."
        }
    }
}

/// A line through points.
pub(crate) fn line(name: &str, x: &[f64], y: &[f64], color: &str, dash: &str) -> Value {
    json!({
        "type": "scatter", "mode": "lines+markers", "name": name, "x": x, "y": y,
        "line": {"color": color, "width": 2, "dash": dash}, "marker": {"color": color, "size": 6},
    })
}

/// A straight line between two points, without hover.
pub(crate) fn rule(name: &str, x: [f64; 2], y: [f64; 2], color: &str, dash: &str) -> Value {
    json!({
        "type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "hoverinfo": "skip",
        "line": {"color": color, "width": 1.5, "dash": dash},
    })
}

/// The colour of all that is exact, on the whole page; with it go dashes and open diamonds.
pub(crate) const EXACT: &str = "@exact";

/// Exact values as a line through points.
pub(crate) fn exact_line(name: &str, x: &[f64], y: &[f64]) -> Value {
    let mut trace = line(name, x, y, EXACT, "dash");
    trace["marker"] = exact_marker(7.0);
    trace
}

/// The marker of an exact value.
pub(crate) fn exact_marker(size: f64) -> Value {
    json!({"color": EXACT, "size": size, "symbol": "diamond-open"})
}

/// One exact value as a horizontal line over the range of `x`.
pub(crate) fn exact_level(name: &str, x: &[f64], y: f64) -> Value {
    let (low, high) = x
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &x| {
            (a.min(x), b.max(x))
        });
    rule(name, [low, high], [y, y], EXACT, "dash")
}

/// The traces that there are.
pub(crate) fn traces(all: impl IntoIterator<Item = Option<Value>>) -> Value {
    Value::Array(all.into_iter().flatten().collect())
}

/// An axis with a title.
pub(crate) fn axis(title: &str) -> Value {
    json!({"title": {"text": title}, "automargin": true})
}

/// A logarithmic axis with a title and about as many ticks as `values` need.
pub(crate) fn log_axis(title: &str, values: &[f64]) -> Value {
    let (low, high) = values
        .iter()
        .filter(|x| **x > 0.0 && x.is_finite())
        .fold((f64::INFINITY, 0.0f64), |(low, high), &x| {
            (low.min(x), high.max(x))
        });
    let decades = if high > 0.0 {
        (high / low).log10()
    } else {
        0.0
    };
    if decades < 2.0 {
        // Plotly abbreviates ticks between powers of ten to one digit; these are written out.
        let ticks: Vec<f64> = (-12..=12)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)))
            .filter(|tick| (low * 0.5..=high * 2.0).contains(tick))
            .collect();
        let names: Vec<String> = ticks.iter().map(|&tick| figure(tick)).collect();
        return json!({
            "title": {"text": title}, "automargin": true, "type": "log", "tickvals": ticks, "ticktext": names,
        });
    }
    let format = if high < 1e6 && low >= 1e-3 {
        "none"
    } else {
        "power"
    };
    json!({
        "title": {"text": title}, "automargin": true, "type": "log", "dtick": (decades / 6.0).ceil(),
        "exponentformat": format,
    })
}

/// The `q` quantile of sorted values, 0 if there are none.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted
        .get((q * last).round() as usize)
        .copied()
        .unwrap_or(0.0)
}
