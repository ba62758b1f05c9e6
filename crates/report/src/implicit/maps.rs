//! Pictures of matrices: supports, predicted logits and Gram matrices, their spectrum and concepts.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::data::{ImplicitReport, Map};
use crate::ReportError;
use crate::figure::{Chart, Figure, axis, line, log_axis};
use crate::number::{figure, percent, plural, size};
use crate::table::{Table, cell};
use crate::text::{label, plotly_text};

/// Pictures show so many rows and columns of a matrix at most; beyond, every so many-th.
const SHOWN: usize = 220;

/// Places of `order`, thinned evenly.
pub(crate) fn thinned(order: &[usize]) -> Vec<usize> {
    let every = order.len().div_ceil(SHOWN).max(1);
    order.iter().copied().step_by(every).collect()
}

/// Some labels of an axis, so that they can be read.
fn ticks(
    order: &[usize],
    names: &[String],
    most: usize,
    length: usize,
) -> (Vec<usize>, Vec<String>) {
    let every = order.len().div_ceil(most).max(1);
    (0..order.len())
        .step_by(every)
        .map(|place| (place, plotly_text(&names[order[place]], length)))
        .unzip()
}

/// A matrix in a picture: which rows and columns, and what they are called.
pub(crate) struct Sides<'a> {
    pub rows: Vec<usize>,
    pub columns: Vec<usize>,
    pub row_names: &'a [String],
    pub column_names: &'a [String],
    pub row_title: &'static str,
    pub column_title: &'static str,
}

impl<'a> Sides<'a> {
    /// Tokens by contexts.
    pub fn logits(report: &'a ImplicitReport) -> Self {
        Self {
            rows: thinned(&report.token_order),
            columns: thinned(&report.context_order),
            row_names: &report.tokens,
            column_names: &report.contexts,
            row_title: "next tokens",
            column_title: "contexts, equal supports together",
        }
    }

    /// Contexts by contexts.
    pub fn contexts(report: &'a ImplicitReport) -> Self {
        let order = thinned(&report.context_order);
        Self {
            rows: order.clone(),
            columns: order,
            row_names: &report.contexts,
            column_names: &report.contexts,
            row_title: "contexts",
            column_title: "contexts, equal supports together",
        }
    }

    /// Tokens by tokens.
    pub fn tokens(report: &'a ImplicitReport) -> Self {
        let order = thinned(&report.token_order);
        Self {
            rows: order.clone(),
            columns: order,
            row_names: &report.tokens,
            column_names: &report.tokens,
            row_title: "next tokens",
            column_title: "next tokens",
        }
    }

    fn values(&self, map: &Map, f: impl Fn(f64) -> Option<f64>) -> Vec<Vec<Option<f64>>> {
        let entry = |i: usize, j: usize| f64::from(map.values[i * map.columns + j]);
        // Four digits are more than an eye sees.
        let short = |x: f64| (x * 1e4).round() / 1e4;
        let row = |&i: &usize| {
            self.columns
                .iter()
                .map(|&j| f(entry(i, j)).map(short))
                .collect()
        };
        self.rows.iter().map(row).collect()
    }

    /// One or more maps of these sides under one another, each on its own scale.
    pub fn chart(&self, maps: &[(&str, &Map, Scale)]) -> Chart {
        let (x_places, x_names) = ticks(&self.columns, self.column_names, 30, 18);
        let (y_places, y_names) = ticks(&self.rows, self.row_names, 34, 14);
        let count = maps.len();
        let mut layout = json!({});
        let mut data = Vec::new();
        let gap = 0.06;
        let height = (1.0 - gap * (count.saturating_sub(1)) as f64) / count as f64;
        for (k, (name, map, scale)) in maps.iter().enumerate() {
            let suffix = if k == 0 {
                String::new()
            } else {
                (k + 1).to_string()
            };
            let top = 1.0 - k as f64 * (height + gap);
            let values = self.values(map, |x| scale.of(x));
            let largest = values
                .iter()
                .flatten()
                .flatten()
                .fold(0.0f64, |a, x| a.max(x.abs()));
            let mut trace = json!({
                "type": "heatmap", "z": values, "name": name, "hoverongaps": false,
                "colorscale": scale.colours(), "xaxis": format!("x{suffix}"), "yaxis": format!("y{suffix}"),
                "hovertemplate": "row %{y}, column %{x}: %{z}<extra></extra>",
                "colorbar": {"title": {"text": plotly_text(name, 30), "side": "top"}, "thickness": 12, "outlinewidth": 0,
                             "len": height * 0.9, "y": top - height / 2.0},
            });
            if let Scale::Diverging = scale {
                trace["zmin"] = json!(-largest);
                trace["zmax"] = json!(largest);
            }
            data.push(trace);
            let last = k + 1 == count;
            layout[format!("xaxis{suffix}")] = json!({
                "title": {"text": if last { self.column_title } else { "" }}, "tickvals": x_places, "ticktext": x_names,
                "showticklabels": last, "tickangle": -60, "tickfont": {"size": 10}, "automargin": true, "showgrid": false,
                "zeroline": false, "anchor": format!("y{suffix}"),
            });
            layout[format!("yaxis{suffix}")] = json!({
                "title": {"text": self.row_title}, "tickvals": y_places, "ticktext": y_names, "autorange": "reversed",
                "tickfont": {"size": 9}, "automargin": true, "showgrid": false, "zeroline": false,
                "domain": [(top - height).max(0.0), top], "anchor": format!("x{suffix}"),
            });
        }
        Chart {
            data: Value::Array(data),
            layout,
            height: 120 + 420 * count as u32,
        }
    }

    fn table(
        &self,
        name: &'static str,
        maps: &[(&'static str, &Map)],
    ) -> Result<Table, ReportError> {
        let mut header = vec!["row", "row_text", "column", "column_text"];
        header.extend(maps.iter().map(|(name, _)| *name));
        let rows = self.rows.iter().flat_map(|&i| {
            self.columns.iter().map(move |&j| {
                let mut row = vec![
                    i.to_string(),
                    self.row_names[i].clone(),
                    j.to_string(),
                    self.column_names[j].clone(),
                ];
                let values = maps.iter().map(|(_, map)| map.values[i * map.columns + j]);
                row.extend(values.map(|x| cell(f64::from(x))));
                row
            })
        });
        Table::new(name, &header, rows)
    }
}

/// How a matrix's entries become colours.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scale {
    /// The logarithm to base 10; nothing where it is 0.
    Logarithm,
    /// As they are, both signs.
    Diverging,
}

impl Scale {
    fn of(self, x: f64) -> Option<f64> {
        match self {
            Self::Logarithm => (x > 0.0).then(|| x.log10()),
            Self::Diverging => Some(x),
        }
    }

    fn colours(self) -> &'static str {
        match self {
            Self::Logarithm => "@seq",
            Self::Diverging => "@div",
        }
    }
}

fn shown(sides: &Sides<'_>) -> String {
    format!(
        "{} of {} rows and {} of {} columns",
        size(sides.rows.len()),
        size(sides.row_names.len()),
        size(sides.columns.len()),
        size(sides.column_names.len())
    )
}

pub(crate) fn pattern(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let sides = Sides::logits(report);
    let f = &report.facts;
    Ok(Figure {
        id: "pattern",
        heading: format!(
            "{} of the pairs of context and token occur, in {} patterns",
            percent(f.entries as f64, f.contexts as f64 * f.vocabulary as f64),
            size(f.classes)
        ),
        sentences: vec![format!(
            "S has {} ones. {} share their support with another context: the theory gives each such group one direction.",
            size(f.entries),
            plural(f.sharing, "context"),
        )],
        alt: format!(
            "Heat map of log₁₀ p, blank off the supports; {}.",
            shown(&sides)
        ),
        chart: Some(sides.chart(&[("log₁₀ p", &report.probabilities, Scale::Logarithm)])),
        more: html! {},
        estimate: "The support matrix S, with the next-token probabilities P in it.".into(),
        caveat: "Observed supports: a larger corpus fills more cells.".into(),
        table: sides.table("pattern.csv", &[("p", &report.probabilities)])?,
    })
}

pub(crate) fn finite(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let sides = Sides::logits(report);
    Ok(Figure {
        id: "finite",
        heading: "Within a support, logits stay finite: they become the log-odds of the corpus"
            .into(),
        sentences: vec![format!(
            "L^in holds log p less its mean over each support; its norm is {}.",
            figure(report.finite_norm)
        )],
        alt: format!(
            "Heat map of the finite part L^in, 0 off the supports; {}.",
            shown(&sides)
        ),
        chart: Some(sides.chart(&[("L^in, nats", &report.finite, Scale::Diverging)])),
        more: html! {},
        estimate: "The minimum-norm solution of the in-support equations, exactly.".into(),
        caveat: "A context with one next token has nothing finite: its entries are 0.".into(),
        table: sides.table("finite.csv", &[("l_in", &report.finite)])?,
    })
}

pub(crate) fn max_margin(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let sides = Sides::logits(report);
    let solved = &report.max_margin;
    let proxy = match solved.proxy_optimal {
        lawvere_geometry::Answer::Yes => "The proxy S̃ is the solution.".to_string(),
        lawvere_geometry::Answer::No => format!(
            "The proxy S̃ is not the solution: its nuclear norm is {}, {} more, and the two directions are {} apart.",
            figure(solved.proxy_value),
            percent(solved.proxy_value - solved.value, solved.value),
            figure(report.proxy_distance)
        ),
        lawvere_geometry::Answer::Undecided => format!(
            "Whether the proxy S̃, of nuclear norm {}, is also a solution is not decided.",
            figure(solved.proxy_value)
        ),
    };
    Ok(Figure {
        id: "max-margin",
        heading: format!(
            "Across supports, logits grow in one direction, of nuclear norm {} and rank {}",
            figure(solved.value),
            size(solved.rank)
        ),
        sentences: vec![
            format!(
                "The max-margin logits lie between {} and {} in nuclear norm: {} iterations on {} distinct tokens and {} distinct contexts.",
                figure(solved.lower_bound),
                figure(solved.value),
                size(solved.iterations),
                size(solved.reduced_tokens),
                size(solved.reduced_contexts)
            ),
            proxy,
        ],
        alt: format!("Heat maps of L^mm (above) and of the proxy S̃ (below); {}.", shown(&sides)),
        chart: Some(sides.chart(&[
            ("L^mm", &report.max_margin_logits, Scale::Diverging),
            ("S̃", &report.proxy, Scale::Diverging),
        ])),
        more: html! {},
        estimate: "The logits of least nuclear norm that are equal on each support and at least 1 less off it; the lower \
                   bound is proved by a dual point."
            .into(),
        caveat: "It depends on the supports alone, not on probabilities.".into(),
        table: sides.table(
            "max_margin.csv",
            &[("l_mm", &report.max_margin_logits), ("proxy", &report.proxy)],
        )?,
    })
}

pub(crate) fn spectrum(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let values = &report.max_margin.singular_values;
    let largest = values.first().copied().unwrap_or(0.0);
    let kept: Vec<f64> = values
        .iter()
        .copied()
        .filter(|s| *s > 1e-7 * largest)
        .collect();
    let places: Vec<f64> = (1..=kept.len()).map(|k| k as f64).collect();
    let half: f64 = kept.iter().sum::<f64>() / 2.0;
    let mut so_far = 0.0;
    let leading = kept
        .iter()
        .take_while(|s| {
            let before = so_far < half;
            so_far += **s;
            before
        })
        .count();
    Ok(Figure {
        id: "spectrum",
        heading: format!(
            "{} carry half of the nuclear norm",
            plural(leading, "singular direction")
        ),
        sentences: vec![format!(
            "The largest singular value of L^mm is {}, the {} that are not negligible add up to {}.",
            figure(largest),
            size(kept.len()),
            figure(2.0 * half)
        )],
        alt: "Singular values of L^mm, decreasing.".into(),
        chart: Some(Chart {
            data: json!([line("L^mm", &places, &kept, "@c1", "solid")]),
            layout: json!({"xaxis": axis("rank"), "yaxis": log_axis("singular value", &kept)}),
            height: 320,
        }),
        more: html! {},
        estimate: "Singular values of the certified feasible logits.".into(),
        caveat: "Small ones are known to the certified gap only.".into(),
        table: Table::new(
            "spectrum.csv",
            &["rank", "singular_value"],
            kept.iter()
                .enumerate()
                .map(|(k, s)| vec![(k + 1).to_string(), cell(*s)]),
        )?,
    })
}

pub(crate) fn predicted_grams(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let sides = Sides::contexts(report);
    Ok(Figure {
        id: "predicted-grams",
        heading: "Contexts with equal supports are predicted to point one way".into(),
        sentences: vec![
            "With L^mm = U Σ Vᵀ, words are predicted at U Σ Uᵀ and contexts at V Σ Vᵀ, up to scale.".into(),
        ],
        alt: format!("Heat map of the predicted Gram matrix of contexts; {}.", shown(&sides)),
        chart: Some(sides.chart(&[("V Σ Vᵀ", &report.predicted_contexts, Scale::Diverging)])),
        more: html! {},
        estimate: "Gram matrices of the balanced factors of the max-margin logits.".into(),
        caveat: "A direction only: the scale grows without bound as the penalty vanishes.".into(),
        table: Sides::tokens(report).table("predicted_words.csv", &[("gram", &report.predicted_words)])?,
    })
}

pub(crate) fn concepts(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let token = |v: u32| report.tokens.get(v as usize).cloned().unwrap_or_default();
    let context = |j: usize| report.contexts.get(j).cloned().unwrap_or_default();
    let rows = report.concepts.iter().enumerate().flat_map(|(k, c)| {
        let named = |kind: &str, text: String, x: f64| {
            vec![
                (k + 1).to_string(),
                cell(c.singular_value),
                kind.into(),
                text,
                cell(x),
            ]
        };
        let tokens = c.tokens.iter().chain(&c.opposite_tokens);
        let contexts = c.contexts.iter().chain(&c.opposite_contexts);
        let tokens = tokens.map(move |&(v, x)| named("token", token(v), x));
        let contexts = contexts.map(move |&(j, x)| named("context", context(j), x));
        tokens.chain(contexts).collect::<Vec<_>>()
    });
    let first = report.concepts.first().map(|c| {
        let names: Vec<String> = c
            .tokens
            .iter()
            .take(4)
            .map(|(v, _)| label(&token(*v), 16))
            .collect();
        format!("The first is led by {}.", names.join(", "))
    });
    Ok(Figure {
        id: "concepts",
        heading: "The leading directions are the concepts of the pattern".into(),
        sentences: first.into_iter().collect(),
        alt: String::new(),
        chart: None,
        more: concept_table(report),
        estimate: "Singular vectors of the centred support matrix S̃: tokens that follow the same contexts.".into(),
        caveat: "A singular vector has no sign of its own; its largest token is made positive.".into(),
        table: Table::new("concepts.csv", &["rank", "singular_value", "kind", "text", "coordinate"], rows)?,
    })
}

fn concept_table(report: &ImplicitReport) -> Markup {
    let tokens = |ends: &[(u32, f64)]| {
        let names = ends
            .iter()
            .take(6)
            .filter_map(|(v, _)| report.tokens.get(*v as usize));
        names.map(|n| label(n, 16)).collect::<Vec<_>>().join(", ")
    };
    let contexts = |ends: &[(usize, f64)]| {
        let names = ends
            .iter()
            .take(4)
            .filter_map(|(j, _)| report.contexts.get(*j));
        names.map(|n| label(n, 28)).collect::<Vec<_>>().join(" · ")
    };
    html! {
        div.wide tabindex="0" role="region" aria-label="Leading concepts" {
            table {
                thead { tr { th { "σ" } th { "tokens" } th { "against" } th { "contexts" } } }
                tbody { @for c in &report.concepts {
                    tr {
                        td { (figure(c.singular_value)) }
                        td { (tokens(&c.tokens)) }
                        td { (tokens(&c.opposite_tokens)) }
                        td { (contexts(&c.contexts)) }
                    }
                } }
            }
        }
    }
}
