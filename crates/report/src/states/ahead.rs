//! What states and contexts tell of the tokens after the next.

use lawvere_information::UsableSurpluses;
use maud::html;
use serde_json::{Value, json};

use super::{on_second, panels, with_bars};
use crate::ReportError;
use crate::data::{ExactAhead, Report, StatesPage};
use crate::figure::{Chart, Figure, axis, exact_line, line};
use crate::number::{figure, percent, plural, size, with_error};
use crate::table::{Table, cell, optional};

const COLORS: [&str; 5] = ["@c1", "@c2", "@c3", "@c4", "@c5"];

fn layers_of(usable: &UsableSurpluses) -> Vec<usize> {
    let mut layers: Vec<usize> = usable.readings.iter().map(|r| r.layer).collect();
    layers.dedup();
    layers
}

/// How far ahead the last layer's gain is above three standard errors.
fn reach(usable: &UsableSurpluses) -> Option<usize> {
    let last = layers_of(usable).last().copied()?;
    let of_last = usable.readings.iter().filter(|r| r.layer == last);
    of_last
        .filter(|r| r.gain > 3.0 * r.error)
        .map(|r| r.ahead)
        .max()
}

pub(super) fn ahead(report: &Report) -> Result<Option<Figure>, ReportError> {
    let StatesPage {
        usable,
        bounds,
        exact_ahead,
        ..
    } = &report.states;
    if usable.is_none() && bounds.is_none() {
        return Ok(None);
    }
    let mut sentences = Vec::new();
    let mut heading = "What the context tells of the tokens that follow".to_string();
    if let Some(usable) = usable {
        let furthest = usable.readings.iter().map(|r| r.ahead).max().unwrap_or(0);
        heading = match reach(usable) {
            Some(k) if k == furthest => format!(
                "The last layer's state tells of tokens {k} after the next, the furthest looked at"
            ),
            Some(k) => format!("The last layer's state tells of tokens up to {k} after the next"),
            None => {
                "A head finds nothing in the last layer's state about the tokens after the next"
                    .into()
            }
        };
        let last = layers_of(usable).last().copied().unwrap_or(0);
        let gains: Vec<String> = usable
            .readings
            .iter()
            .filter(|r| r.layer == last)
            .map(|r| {
                format!(
                    "{} nats at k = {}",
                    with_error(r.gain, Some(r.error)),
                    r.ahead
                )
            })
            .collect();
        sentences.push(format!(
            "Knowing the next token, a linear head that also sees the state of layer {last} gains {} over one that \
             does not, on documents that neither was fitted on.",
            gains.join(", ")
        ));
    }
    if let Some(bounds) = bounds
        && let Some(last) = bounds.blocks.last()
    {
        sentences.push(format!(
            "Of the {} tokens that the model itself draws, the context tells at least {} and at most {} nats beyond \
             the first{}.",
            last.tokens,
            with_error(last.surplus_lower, Some(last.surplus_lower_error)),
            with_error(last.surplus_upper, Some(last.surplus_upper_error)),
            if last.saturated {
                format!(
                    "; the lower bound is at its ceiling, log {} = {} nats, and says no more than that",
                    bounds.contexts,
                    figure(bounds.ceiling)
                )
            } else {
                String::new()
            }
        ));
    }
    if let Some(exact) = exact_ahead
        && let (Some(block), Some(first)) = (exact.block.last(), exact.block.first())
    {
        sentences.push(format!(
            "Exactly, the language's hidden state tells {} nats of the next token and {} more of the {} after it.",
            figure(*first),
            figure(block - first),
            plural(exact.block.len() - 1, "token")
        ));
    }
    let chart = Chart {
        data: Value::Array(ahead_traces(report)),
        layout: panels(
            [
                json!({"title": {"text": "tokens of the block"}, "dtick": 1, "automargin": true}),
                axis("beyond the next token, nats"),
            ],
            [
                json!({"title": {"text": "k, tokens after the next"}, "dtick": 1, "automargin": true}),
                axis("held-out gain, nats a token"),
            ],
        ),
        height: 420,
    };
    Ok(Some(Figure {
        id: "ahead",
        heading,
        sentences,
        alt: "Left: bounds of what the context tells of a block beyond its first token, by the block's length. Right: \
              the held-out gain of a head that sees the state, by tokens ahead and layer"
            .to_string()
            + if exact_ahead.is_some() { ", with exact values." } else { "." },
        chart: Some(chart),
        more: html! {},
        estimate: estimate_ahead(report),
        caveat: "Three different quantities: bounds are of the model's own continuations; the gain is of real text and \
                 of what a linear head can use, from a restricted vocabulary, and its sum over k bounds no block; exact \
                 values are of the language's hidden state in an endless text, where a story may end in between, as it \
                 may not at the positions that gains are of. Lower bounds cannot exceed the log of the number of contexts."
            .into(),
        table: ahead_table(report)?,
    }))
}

fn estimate_ahead(report: &Report) -> String {
    let mut parts = Vec::new();
    if let Some(b) = &report.states.bounds {
        parts.push(format!(
            "Bounds: {} of {} contexts from distinct documents; each continuation is contrasted with all of its group \
             (at least) and with all others (at most). ± is one standard error, by the jackknife over contexts.",
            plural(b.groups, "group"),
            b.contexts
        ));
    }
    if let Some(u) = &report.states.usable {
        parts.push(format!(
            "Gains: softmax(U(As + Be(w)) + b) against A = 0, over {} outcomes ({} of held-out tokens are the one for \
             all others), fitted on {}, judged on {}. ± is one standard error, documents taken as independent.{}",
            size(u.outcomes),
            percent(u.other_share, 1.0),
            plural(u.readings.iter().map(|r| r.fitted_on).max().unwrap_or(0), "position"),
            plural(u.test_documents, "document"),
            match u.readings.iter().filter(|r| !r.converged).count() {
                0 => String::new(),
                some => format!(
                    " {some} of {} had not converged after all passes; their gains may still change, either way.",
                    plural(u.readings.len(), "fit")
                ),
            }
        ));
    }
    parts.join(" ")
}

fn ahead_traces(report: &Report) -> Vec<Value> {
    let mut data = Vec::new();
    if let Some(bounds) = &report.states.bounds {
        let x: Vec<f64> = bounds.blocks.iter().map(|b| b.tokens as f64).collect();
        let of = |name: &str, f: &dyn Fn(usize) -> (f64, f64), color: &str, dash: &str| {
            let (y, errors): (Vec<f64>, Vec<f64>) = (0..x.len())
                .map(f)
                .take_while(|(v, e)| v.is_finite() && e.is_finite())
                .unzip();
            with_bars(line(name, &x[..y.len()], &y, color, dash), &errors, color)
        };
        let b = &bounds.blocks;
        data.push(of(
            "at most",
            &|k| (b[k].surplus_upper, b[k].surplus_upper_error),
            "@c1",
            "dot",
        ));
        data.push(of(
            "at least",
            &|k| (b[k].surplus_lower, b[k].surplus_lower_error),
            "@c1",
            "solid",
        ));
    }
    if let Some(exact) = &report.states.exact_ahead {
        let x: Vec<f64> = (1..=exact.block.len()).map(|k| k as f64).collect();
        let y: Vec<f64> = exact.block.iter().map(|b| b - exact.block[0]).collect();
        data.push(exact_line("exact, of the language", &x, &y));
    }
    if let Some(usable) = &report.states.usable {
        for (layer, color) in layers_of(usable).iter().zip(COLORS[1..].iter().cycle()) {
            let of: Vec<_> = usable
                .readings
                .iter()
                .filter(|r| r.layer == *layer)
                .collect();
            let x: Vec<f64> = of.iter().map(|r| r.ahead as f64).collect();
            let y: Vec<f64> = of.iter().map(|r| r.gain).collect();
            let errors: Vec<f64> = of.iter().map(|r| r.error).collect();
            let trace = line(&format!("layer {layer}"), &x, &y, color, "solid");
            data.push(on_second(with_bars(trace, &errors, color)));
        }
    }
    if let Some(exact) = &report.states.exact_ahead {
        let x: Vec<f64> = (1..=exact.single.len()).map(|k| k as f64).collect();
        let mut trace = on_second(exact_line("exact", &x, &exact.single));
        trace["showlegend"] = json!(false);
        data.push(trace);
    }
    data
}

fn ahead_table(report: &Report) -> Result<Table, ReportError> {
    let exact = |of: &dyn Fn(&ExactAhead) -> Option<f64>| {
        optional(report.states.exact_ahead.as_ref().and_then(of))
    };
    let row = |quantity: &str, layer: Option<usize>, k: usize, x: f64, e: f64, exact: String| {
        vec![
            quantity.to_string(),
            layer.map(|l| l.to_string()).unwrap_or_default(),
            k.to_string(),
            cell(x),
            cell(e),
            exact,
        ]
    };
    let mut rows = Vec::new();
    for b in report.states.bounds.iter().flat_map(|b| &b.blocks) {
        let k = b.tokens;
        let block = exact(&|e| e.block.get(k - 1).copied());
        let surplus = exact(&|e| e.block.get(k - 1).map(|x| x - e.block[0]));
        rows.push(row(
            "information_at_least",
            None,
            k,
            b.lower,
            b.lower_error,
            block.clone(),
        ));
        rows.push(row(
            "information_at_most",
            None,
            k,
            b.upper,
            b.upper_error,
            block,
        ));
        rows.push(row(
            "surplus_at_least",
            None,
            k,
            b.surplus_lower,
            b.surplus_lower_error,
            surplus.clone(),
        ));
        rows.push(row(
            "surplus_at_most",
            None,
            k,
            b.surplus_upper,
            b.surplus_upper_error,
            surplus,
        ));
    }
    for r in report.states.usable.iter().flat_map(|u| &u.readings) {
        let single = exact(&|e| e.single.get(r.ahead - 1).copied());
        rows.push(row(
            "usable_gain",
            Some(r.layer),
            r.ahead,
            r.gain,
            r.error,
            single,
        ));
    }
    Table::with_exact(
        "ahead.csv",
        &["quantity", "layer", "k", "nats", "standard_error"],
        &["exact_nats"],
        report.states.exact_ahead.is_some(),
        rows,
    )
}
