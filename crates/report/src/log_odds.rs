//! The model's log-odds inside supports against the data's.

use std::collections::HashMap;

use lawvere_geometry::LogOdds;
use maud::html;
use serde_json::{Value, json};

use crate::ReportError;
use crate::data::Report;
use crate::density::Density;
use crate::figure::{Chart, EXACT, Figure, axis, rule, surety};
use crate::number::{cosine, figure, signed, size, with_error};
use crate::table::{Table, optional};

fn binned(o: &LogOdds) -> Option<Density> {
    let points: Vec<(f64, f64, f64)> = o
        .points
        .iter()
        .map(|p| (p.corpus, p.model, p.weight))
        .collect();
    Density::new(&points)
}

/// The line of slope 1 and the fitted one, both inside the square.
fn lines(o: &LogOdds, (low, high): (f64, f64), name: &str, color: &str) -> [Value; 2] {
    let fitted = |x: f64| o.slope * x;
    let end = |edge: f64| {
        if o.slope.abs() > 1.0 {
            edge / o.slope.abs()
        } else {
            edge
        }
    };
    let dash = if color == EXACT { "dash" } else { "solid" };
    [
        rule("slope 1", [low, high], [low, high], "@ink", "dash"),
        rule(
            &format!("{name} {}", figure(o.slope)),
            [end(low), end(high)],
            [fitted(end(low)), fitted(end(high))],
            color,
            dash,
        ),
    ]
}

/// The corpus's log-odds alone, or beside the exact ones.
fn chart(o: &LogOdds, exact: Option<(&LogOdds, &Density)>, density: &Density) -> Chart {
    let mut data = vec![density.heatmap("share of weight")];
    let name = if exact.is_some() {
        "fitted to the corpus:"
    } else {
        "fitted slope"
    };
    data.extend(lines(o, density.range, name, "@c2"));
    let mut layout = json!({
        "xaxis": axis("Lⁱⁿ: the corpus's log-odds in the support, nats"),
        "yaxis": axis("the model's log-odds, nats"),
        "legend": {"orientation": "h", "y": 1.08},
    });
    let Some((truth, beside)) = exact else {
        return Chart {
            data: json!(data),
            layout,
            height: 540,
        };
    };
    let mut picture = beside.heatmap("");
    picture["showscale"] = json!(false);
    data.push(picture);
    let [equal, fitted] = lines(truth, beside.range, "exact:", EXACT);
    data.extend([equal, fitted]);
    for trace in &mut data[3..] {
        trace["xaxis"] = json!("x2");
        trace["yaxis"] = json!("y2");
    }
    data[4]["showlegend"] = json!(false);
    // One scale of colours for both.
    let (shares, others) = (density.shares(), beside.shares());
    for at in [0, 3] {
        data[at]["zmin"] = json!(shares.0.min(others.0));
        data[at]["zmax"] = json!(shares.1.max(others.1));
    }
    let range = [
        density.range.0.min(beside.range.0),
        density.range.1.max(beside.range.1),
    ];
    for (key, title, domain) in [
        ("xaxis", "the corpus's log-odds, nats", [0.0, 0.47]),
        ("xaxis2", "exact log-odds, nats", [0.53, 1.0]),
    ] {
        layout[key] =
            json!({"title": {"text": title}, "automargin": true, "domain": domain, "range": range});
    }
    layout["yaxis"]["range"] = json!(range);
    layout["xaxis2"]["anchor"] = json!("y2");
    layout["yaxis2"] = json!({"anchor": "x2", "range": range, "showticklabels": false});
    Chart {
        data: json!(data),
        layout,
        height: 460,
    }
}

/// The model against the exact log-odds, in words.
fn exact_prose(o: &LogOdds, exact: &LogOdds) -> String {
    let noise = 2.0 * o.correlation_error.unwrap_or(0.01);
    let says = match exact.correlation - o.correlation {
        x if x > noise => "part of its distance from the corpus's odds is the noise of counts",
        x if x < -noise => {
            "it follows the corpus's own noise, or misses rare tokens that the corpus does not show"
        }
        _ => "the noise of counts makes no difference that can be told from chance",
    };
    format!(
        "Against the exact log-odds of {} pairs the model's correlation is {} and its slope {}: {says}.",
        size(exact.entries),
        figure(exact.correlation),
        figure(exact.slope),
    )
}

pub(crate) fn log_odds(report: &Report) -> Result<Figure, ReportError> {
    let o = &report.geometry.log_odds;
    let noise = 3.0 * o.correlation_error.unwrap_or(0.0);
    let follows = o.correlation > o.shuffled_correlation + noise.max(0.05);
    let slope_is = match o.slope_error {
        Some(e) if (o.slope - 1.0).abs() <= 2.0 * e => "which is 1 within two standard errors",
        _ if o.slope < 1.0 => "flatter than the corpus's",
        _ if o.slope > 1.0 => "steeper than the corpus's",
        _ => "exactly that of the corpus",
    };
    let heading = match (follows, o.correlation) {
        (false, _) => {
            "Among possible tokens, the model's odds do not follow the corpus's".to_string()
        }
        (true, r) if r >= 0.8 => {
            "Among possible tokens, the model's odds follow the corpus's closely".to_string()
        }
        (true, r) if r >= 0.5 => {
            "Among possible tokens, the model's odds follow the corpus's".to_string()
        }
        (true, _) => {
            "Among possible tokens, the model's odds follow the corpus's only loosely".to_string()
        }
    };
    let sentence = format!(
        "Over {} pairs of context and token, in {} contexts with at least two possible tokens, the model's centred \
         logits correlate with Lⁱⁿ at {}; with the corpus's odds dealt at random within each context the correlation is \
         {}. The slope through the origin is {}, {slope_is}.",
        size(o.entries),
        size(o.contexts),
        with_error(o.correlation, o.correlation_error),
        cosine(o.shuffled_correlation),
        with_error(o.slope, o.slope_error),
    );
    let density = binned(o);
    let exact = report.truth.as_ref().map(|t| &t.geometry.log_odds);
    let exact_density = exact.and_then(binned);
    let chart = density
        .as_ref()
        .map(|d| chart(o, exact.zip(exact_density.as_ref()), d));
    let outside = density.as_ref().map_or(0, |d| d.outside);
    let left_out = match outside {
        0 => String::new(),
        n => format!(" {} of them lie outside the picture.", size(n)),
    };
    Ok(Figure {
        id: "log-odds",
        heading,
        sentences: [sentence].into_iter().chain(exact.map(|e| exact_prose(o, e))).collect(),
        alt: format!(
            "Density of the model's log-odds (up) against the corpus's Lⁱⁿ (across) with the line of slope 1 and the \
             fitted slope {}{}.",
            signed(o.slope),
            exact.map_or_else(String::new, |e| format!(
                "; on the right against the exact log-odds, fitted slope {}",
                signed(e.slope)
            )),
        ),
        chart,
        more: html! {},
        estimate: format!(
            "Lⁱⁿ is log p minus its mean over the support: the finite part of the logits that training drives to. \
             Contexts weigh by frequency, the tokens of a support equally. {}{left_out}",
            surety(o.correlation_error)
        ),
        caveat: "Rare tokens make Lⁱⁿ noisy, and noise across flattens a slope: even a perfect model would show a slope \
                 below 1 and a correlation below 1 on a finite corpus."
            .into(),
        table: density_table(density.as_ref(), exact_density.as_ref())?,
    })
}

/// The bins of the picture, and those against the exact log-odds.
fn density_table(
    observed: Option<&Density>,
    exact: Option<&Density>,
) -> Result<Table, ReportError> {
    let bins = |d: Option<&Density>, against: &'static str| -> Vec<Vec<String>> {
        d.into_iter()
            .flat_map(Density::rows)
            .map(|mut row| {
                row.push(against.into());
                row
            })
            .collect()
    };
    let rows = bins(observed, "corpus")
        .into_iter()
        .chain(bins(exact, "exact"));
    Table::with_exact(
        "log-odds.csv",
        &[
            "corpus_from",
            "corpus_to",
            "model_from",
            "model_to",
            "weight",
            "entries",
        ],
        &["against"],
        exact.is_some(),
        rows,
    )
}

/// `log-odds-entries.csv`: the entries of observed supports, and those that only exact ones have.
pub(crate) fn log_odds_entries(report: &Report) -> Result<Table, ReportError> {
    let exact = report.truth.as_ref().map(|t| &t.geometry.log_odds.points);
    let mut left: HashMap<(usize, u32), _> = exact
        .into_iter()
        .flatten()
        .map(|p| ((p.context, p.token), p))
        .collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut push =
        |context: usize, token: u32, observed: Option<[f64; 3]>, exact: Option<[f64; 3]>| {
            let mut row = vec![
                context.to_string(),
                report.context(context),
                token.to_string(),
                report.token(token),
            ];
            for values in [observed, exact] {
                row.extend((0..3).map(|k| optional(values.map(|v| v[k]))));
            }
            rows.push(row);
        };
    for p in &report.geometry.log_odds.points {
        let beside = left.remove(&(p.context, p.token));
        push(
            p.context,
            p.token,
            Some([p.corpus, p.model, p.weight]),
            beside.map(|e| [e.corpus, e.model, e.weight]),
        );
    }
    for e in exact.into_iter().flatten() {
        if left.contains_key(&(e.context, e.token)) {
            push(
                e.context,
                e.token,
                None,
                Some([e.corpus, e.model, e.weight]),
            );
        }
    }
    Table::with_exact(
        "log-odds-entries.csv",
        &[
            "context_row",
            "context",
            "token_id",
            "token",
            "corpus_nats",
            "model_nats",
            "weight",
        ],
        &["exact_nats", "model_on_exact_support_nats", "exact_weight"],
        exact.is_some(),
        rows,
    )
}
