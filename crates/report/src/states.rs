//! Lens 3: what states know beyond the next token, and whether they line up with what follows.

use lawvere_information::{LayerAlignment, UsableSurpluses};
use maud::html;
use serde_json::{Value, json};

use crate::ReportError;
use crate::data::{DraftPage, ExactAhead, Report, StatesPage};
use crate::figure::{Chart, Figure, axis, exact_line, line, log_axis, traces};
use crate::number::{figure, fixed, percent, plural, size, with_error};
use crate::table::{Table, cell, optional};
use crate::text::plotly_text;

pub(crate) fn figures(report: &Report) -> Result<Vec<Figure>, ReportError> {
    let mut figures = Vec::new();
    figures.extend(ahead(report)?);
    figures.extend(draft(report)?);
    figures.push(alignment(report)?);
    figures.push(stochasticity(report)?);
    figures.push(similarity(report)?);
    figures.extend(along(report)?);
    Ok(figures)
}

/// Error bars for a trace.
fn with_bars(mut trace: Value, errors: &[f64], color: &str) -> Value {
    let bars =
        json!({"type": "data", "array": errors, "color": color, "thickness": 1.5, "width": 4});
    trace["error_y"] = bars;
    trace
}

fn on_second(mut trace: Value) -> Value {
    trace["xaxis"] = json!("x2");
    trace["yaxis"] = json!("y2");
    trace
}

/// Two panels side by side.
fn panels(left: [Value; 2], right: [Value; 2]) -> Value {
    let [mut x, y] = left;
    let [mut x2, mut y2] = right;
    x["domain"] = json!([0.0, 0.44]);
    x2["domain"] = json!([0.56, 1.0]);
    x2["anchor"] = json!("y2");
    y2["anchor"] = json!("x2");
    json!({
        "xaxis": x, "yaxis": y, "xaxis2": x2, "yaxis2": y2, "legend": {"orientation": "h", "y": 1.18},
    })
}

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

fn ahead(report: &Report) -> Result<Option<Figure>, ReportError> {
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
                 values are of the language's hidden state. Lower bounds cannot exceed the log of the number of contexts."
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
             all others), fitted on {}, judged on {}. ± is one standard error, documents taken as independent.",
            size(u.outcomes),
            percent(u.other_share, 1.0),
            plural(u.fitted_on, "position"),
            plural(u.test_documents, "document"),
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
                .filter(|(v, _)| v.is_finite())
                .map(|(v, e)| (v, if e.is_finite() { e } else { 0.0 }))
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

fn draft(report: &Report) -> Result<Option<Figure>, ReportError> {
    let Some(draft) = &report.states.draft else {
        return Ok(None);
    };
    let own = &draft.model;
    let agree = own.deviations.abs() <= 2.0;
    let heading = format!(
        "Drafting {} from layer {} would give {} tokens a pass of the model",
        plural(draft.length, "token"),
        draft.layer,
        figure(own.tokens_per_verification)
    );
    let sentences = vec![
        format!(
            "After prefixes that the model drew, {} of {} drafted tokens are accepted on average by the forecast from \
             overlaps; when drafts were really run, {}: {} standard errors apart{}.",
            with_error(own.forecast, Some(own.forecast_error)),
            draft.length,
            with_error(own.measured, Some(own.measured_error)),
            fixed(own.deviations.abs(), 1),
            if agree {
                ""
            } else {
                ", more than chance explains"
            },
        ),
        format!(
            "A head costs {} of a pass: {} times as fast with heads side by side, {} one after the other. After \
             prefixes of held-out documents {} are accepted.",
            percent(own.cost, 1.0),
            figure(own.speedup_parallel),
            figure(own.speedup_sequential),
            with_error(draft.corpus.measured, Some(draft.corpus.measured_error)),
        ),
    ];
    let x: Vec<f64> = (1..=draft.length).map(|k| k as f64).collect();
    let bar = |name: &str, y: &[f64], color: &str| json!({"type": "bar", "name": name, "x": x, "y": y, "marker": {"color": color}});
    let chart = Chart {
        data: json!([
            bar("forecast", &own.survival, "@c1"),
            bar("run", &own.survived, "@c2"),
            bar("run, held-out prefixes", &draft.corpus.survived, "@c3"),
        ]),
        layout: json!({
            "barmode": "group", "xaxis": {"title": {"text": "k"}, "dtick": 1, "automargin": true},
            "yaxis": {"title": {"text": "first k tokens accepted"}, "range": [0.0, 1.0], "tickformat": ".0%", "automargin": true},
            "legend": {"orientation": "h", "y": 1.15},
        }),
        height: 340,
    };
    Ok(Some(Figure {
        id: "draft",
        heading,
        sentences,
        alt: "Bars of the share of drafts whose first k tokens are accepted: forecast, run, and run after held-out \
              prefixes."
            .into(),
        chart: Some(chart),
        more: html! {},
        estimate: format!(
            "A token drawn from q is accepted with probability min(1, p/q); the forecast averages the overlap of p and \
             q along drafted paths, each prefix weighted by the probability that it is accepted. {} of either kind, \
             four drafts each for forecast and run. ± is one standard error over prefixes.",
            plural(own.prefixes, "prefix").replace("prefixs", "prefixes")
        ),
        caveat: format!(
            "Heads propose {} tokens of the vocabulary only and were fitted on few positions; costs are counted in \
             multiplications, and reading {} tokens is taken to cost as much as reading one, as it does where memory \
             decides.",
            size(draft.drafted_tokens),
            draft.length + 1
        ),
        table: draft_table(draft)?,
    }))
}

fn draft_table(draft: &DraftPage) -> Result<Table, ReportError> {
    let rows = [
        ("model", &draft.model),
        ("held-out documents", &draft.corpus),
    ];
    let rows = rows.into_iter().flat_map(|(prefixes, d)| {
        (0..draft.length).map(move |k| {
            vec![
                prefixes.to_string(),
                (k + 1).to_string(),
                cell(d.overlaps[k]),
                cell(d.pinsker[k]),
                cell(d.survival[k]),
                cell(d.survived[k]),
            ]
        })
    });
    Table::new(
        "draft.csv",
        &[
            "prefixes",
            "k",
            "overlap",
            "pinsker_bound",
            "forecast",
            "run",
        ],
        rows,
    )
}

fn alignment(report: &Report) -> Result<Figure, ReportError> {
    let a = &report.states.alignment;
    let x: Vec<f64> = a.layers.iter().map(|l| l.layer as f64).collect();
    let of = |f: fn(&LayerAlignment) -> f64| a.layers.iter().map(f).collect::<Vec<f64>>();
    let untrained: Option<Vec<f64>> = a.layers.iter().map(|l| l.untrained).collect();
    let untrained_cka: Option<Vec<f64>> = a.layers.iter().map(|l| l.cka_untrained).collect();
    let (first, last) = (a.layers.first(), a.layers.last());
    let heading = match (first, last) {
        (Some(first), Some(last)) if first.layer != last.layer => {
            let before = format!("{} at layer {}", figure(first.alignment), first.layer);
            let after = format!("{} at layer {}", figure(last.alignment), last.layer);
            match last.alignment - first.alignment {
                x if x > 0.02 => format!(
                    "States line up with what follows more layer by layer: from {before} to {after}"
                ),
                x if x < -0.02 => {
                    format!("States line up with what follows less at the end: {after}, {before}")
                }
                _ => format!(
                    "States line up with what follows as well at the end as at the beginning: {after}, {before}"
                ),
            }
        }
        _ => "How far states line up with what follows".into(),
    };
    let mut sentences = Vec::new();
    if let Some(last) = last {
        sentences.push(format!(
            "At the head's input, the {} directions that states fill hold {} of what so many could hold of the \
             predictive similarity of the contexts (R² {}); with the contexts shuffled {}{}.",
            size(last.rank),
            percent(last.alignment, 1.0),
            figure(last.r_squared),
            percent(last.shuffled, 1.0),
            last.untrained.map_or(String::new(), |u| format!(
                ", and in the same network untrained {}",
                percent(u, 1.0)
            ))
        ));
        sentences.push(format!(
            "Without whitening, linear CKA is {} (shuffled {}{}).",
            figure(last.cka),
            figure(last.cka_shuffled),
            last.cka_untrained
                .map_or(String::new(), |u| format!(", untrained {}", figure(u)))
        ));
    }
    if let Some(s) = &a.surrogate {
        sentences.push(format!(
            "The quadratic contrastive bound of the loss is {} nats, where the loss is {}.",
            figure(s.bound),
            figure(s.cross_entropy)
        ));
    }
    let second = |trace: Option<Value>| {
        trace.map(|t| {
            let mut t = on_second(t);
            t["showlegend"] = json!(false);
            t
        })
    };
    let chart = Chart {
        data: traces([
            Some(line("trained", &x, &of(|l| l.alignment), "@c1", "solid")),
            untrained.map(|y| line("untrained", &x, &y, "@c2", "solid")),
            Some(line("shuffled", &x, &of(|l| l.shuffled), "@c3", "dash")),
            second(Some(line("trained", &x, &of(|l| l.cka), "@c1", "solid"))),
            second(untrained_cka.map(|y| line("untrained", &x, &y, "@c2", "solid"))),
            second(Some(line(
                "shuffled",
                &x,
                &of(|l| l.cka_shuffled),
                "@c3",
                "dash",
            ))),
        ]),
        layout: {
            let y = |title: &str| json!({"title": {"text": title}, "range": [0.0, 1.02], "automargin": true});
            panels(
                [axis("layer"), y("spectral alignment")],
                [axis("layer"), y("linear CKA")],
            )
        },
        height: 400,
    };
    let rows = a.layers.iter().map(|l| {
        vec![
            l.layer.to_string(),
            l.rank.to_string(),
            cell(l.alignment),
            cell(l.shuffled),
            cell(l.shuffled_deviation),
            optional(l.untrained),
            cell(l.cca),
            cell(l.r_squared),
            cell(l.cka),
            cell(l.cka_shuffled),
            optional(l.cka_untrained),
        ]
    });
    Ok(Figure {
        id: "alignment",
        heading,
        sentences,
        alt: "Lines over layers of the spectral alignment (left) and of linear CKA (right) of states with what follows \
              their contexts, beside the untrained network and shuffled contexts."
            .into(),
        chart: Some(chart),
        more: html! {},
        estimate: format!(
            "Prototypes are the mean unit head rows of what follows a context in the corpus. Alignment is the share of \
             their similarity's leading spectrum that lies in the span of the centred, whitened states, over {}; \
             shuffled is the mean of {}.",
            plural(a.contexts, "context"),
            plural(a.deals, "random deal")
        ),
        caveat: "Whitening weighs all directions alike: an alignment close to 1 says that a linear readout exists, not \
                 that the model uses it. The level of chance rises with the dimension of states, and an untrained \
                 network keeps the identity of the last token, which tells much of what follows."
            .into(),
        table: Table::new(
            "alignment.csv",
            &[
                "layer",
                "rank",
                "alignment",
                "shuffled",
                "shuffled_deviation",
                "untrained",
                "cca",
                "r_squared",
                "cka",
                "cka_shuffled",
                "cka_untrained",
            ],
            rows,
        )?,
    })
}

fn stochasticity(report: &Report) -> Result<Figure, ReportError> {
    let found = &report.states.stochasticity;
    let exact = report.states.exact_stochasticity.as_ref();
    let exact_of = |k: usize| exact.and_then(|e| e.get(k)).map(|e| e.data);
    // Against the exact entropies where they are known.
    let gap = |k: usize| found[k].model - exact_of(k).unwrap_or(found[k].data_corrected);
    let above = (0..found.len()).filter(|&k| gap(k) > 0.0).count();
    let heading = match (above, found.len()) {
        (a, n) if a == n => {
            "By every measure the head spreads its predictions wider than the data".to_string()
        }
        (0, _) => {
            "By every measure the head spreads its predictions less than the data".to_string()
        }
        (a, n) => {
            format!("By {a} of {n} measures the head spreads its predictions wider than the data")
        }
    };
    let sentences = found
        .iter()
        .enumerate()
        .filter(|(_, s)| ["kl", "tv"].contains(&s.divergence.as_str()))
        .map(|(k, s)| {
            format!(
                "{}: model {}, corpus {} (corrected for few occurrences {}){}.",
                name(&s.divergence),
                with_error(s.model, s.model_error),
                with_error(s.data, s.data_error),
                figure(s.data_corrected),
                exact_of(k).map_or(String::new(), |e| format!(", exactly {}", figure(e)))
            )
        })
        .collect();
    let x: Vec<String> = found
        .iter()
        .map(|s| name(&s.divergence).to_string())
        .collect();
    let bar = |label: &str, y: Vec<f64>, color: &str| json!({"type": "bar", "name": label, "x": x, "y": y, "marker": {"color": color}});
    let chart = Chart {
        data: traces([
            Some(bar("model", found.iter().map(|s| s.model).collect(), "@c1")),
            Some(bar(
                "corpus, corrected",
                found.iter().map(|s| s.data_corrected).collect(),
                "@c2",
            )),
            exact.map(|e| {
                bar(
                    "exact",
                    e.iter().map(|s| s.data).collect(),
                    crate::figure::EXACT,
                )
            }),
        ]),
        layout: json!({
            "barmode": "group", "xaxis": {"automargin": true}, "yaxis": axis("mean categorical entropy"),
            "legend": {"orientation": "h", "y": 1.15},
        }),
        height: 360,
    };
    let rows = found.iter().enumerate().map(|(k, s)| {
        vec![
            s.divergence.clone(),
            cell(s.model),
            optional(s.model_error),
            cell(s.data),
            optional(s.data_error),
            cell(s.data_corrected),
            optional(exact_of(k)),
        ]
    });
    Ok(Figure {
        id: "stochasticity",
        heading,
        sentences,
        alt: "Bars of the mean categorical entropy of the model and of the corpus, one group a divergence.".into(),
        chart: Some(chart),
        more: html! {},
        estimate: "H_D(x) = D(copying a token drawn once ‖ drawing two tokens), averaged over contexts: Shannon's entropy \
                   for KL, 1 − Σp² for total variation, Rényi's entropy of order 2 − α for Rényi's divergence. ± is one \
                   standard error, by the bootstrap over blocks of documents."
            .into(),
        caveat: "Entropies of observed frequencies are too low where few occurrences were seen; the jackknife takes the \
                 first-order part of that away, and more is left for orders that weigh rare tokens."
            .into(),
        table: Table::with_exact(
            "stochasticity.csv",
            &[
                "divergence",
                "model",
                "model_error",
                "corpus",
                "corpus_error",
                "corpus_corrected",
            ],
            &["exact"],
            exact.is_some(),
            rows,
        )?,
    })
}

fn name(divergence: &str) -> &str {
    match divergence {
        "kl" => "Shannon (KL)",
        "tv" => "total variation",
        "js" => "Jensen–Shannon",
        "hellinger" => "Hellinger",
        "renyi:0" => "Rényi 2",
        "renyi:0.5" => "Rényi 1.5",
        "renyi:1.5" => "Rényi 0.5",
        other => other,
    }
}

fn similarity(report: &Report) -> Result<Figure, ReportError> {
    let map = &report.states.map;
    let pairs = || {
        let n = map.rows.len();
        (0..n).flat_map(move |i| (0..i).map(move |j| (i, j)))
    };
    let mean = |values: &[Vec<f64>]| {
        pairs().map(|(i, j)| values[i][j]).sum::<f64>() / pairs().count().max(1) as f64
    };
    let (model, data) = (mean(&map.model), mean(&map.data));
    let heading = match model - data {
        x if x > 0.02 => "The model tells contexts apart less than the corpus does",
        x if x < -0.02 => "The model tells contexts apart more than the corpus does",
        _ => "The model tells contexts apart as the corpus does",
    };
    let mut sentences = vec![format!(
        "Between {} the mean overlap of predictions is {} in the model and {} in the corpus.",
        plural(map.rows.len(), "frequent context"),
        figure(model),
        figure(data)
    )];
    for s in &report.states.similarity {
        let whose = match s.whose {
            lawvere_information::Whose::Model => "model",
            lawvere_information::Whose::Data => "corpus",
        };
        let last = s.energies.last();
        sentences.push(format!(
            "In the {whose} the leading eigenvalue holds {} of the trace{}.",
            percent(s.eigenvalues.first().copied().unwrap_or(0.0), s.trace),
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
                    "{}<br>{}<br>model {} · corpus {}",
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
        "colorbar": {"thickness": 10, "len": 0.9, "x": 0.45, "title": {"text": "overlap", "side": "right"}},
    });
    let spectra = report
        .states
        .similarity
        .iter()
        .zip(["@c1", "@c2"])
        .map(|(s, color)| {
            let values: Vec<f64> = s.eigenvalues.iter().copied().filter(|l| *l > 0.0).collect();
            let x: Vec<f64> = (1..=values.len()).map(|k| k as f64).collect();
            let whose = match s.whose {
                lawvere_information::Whose::Model => "model",
                lawvere_information::Whose::Data => "corpus",
            };
            on_second(line(whose, &x, &values, color, "solid"))
        });
    let all: Vec<f64> = report
        .states
        .similarity
        .iter()
        .flat_map(|s| s.eigenvalues.clone())
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
        let whose = match s.whose {
            lawvere_information::Whose::Model => "model",
            lawvere_information::Whose::Data => "corpus",
        };
        let values = s.eigenvalues.iter().enumerate();
        values.map(move |(k, l)| vec![whose.to_string(), (k + 1).to_string(), cell(*l)])
    });
    Ok(Figure {
        id: "similarity",
        heading: heading.into(),
        sentences,
        alt: "Left: a heat map of overlaps of predictions between frequent contexts, the model's above the diagonal and \
              the corpus's below. Right: the leading eigenvalues of both similarity operators."
            .into(),
        chart: Some(chart),
        more: html! {},
        estimate: format!(
            "Overlap is Bhattacharyya's, Σ√(p q): 1 for equal laws, 0 for laws without a common token. The spectra are \
             of the operator weighted by frequency, over {}; Dirichlet energies are of states whitened to variance 1, \
             low where similar predictions have similar states.",
            plural(report.states.similarity.first().map_or(0, |s| s.contexts), "context")
        ),
        caveat: "Overlaps of observed frequencies are too low where few occurrences were seen: two samples of one law \
                 overlap by less than 1."
            .into(),
        table: Table::new("similarity.csv", &["whose", "rank", "eigenvalue"], rows)?,
    })
}

fn along(report: &Report) -> Result<Option<Figure>, ReportError> {
    let points = &report.states.along;
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Ok(None);
    };
    if points.len() < 2 {
        return Ok(None);
    }
    let gap = |k: usize| -> Vec<f64> {
        points
            .iter()
            .map(|p| {
                p.stochasticity
                    .get(k)
                    .map_or(f64::NAN, |s| s.model - s.data)
            })
            .collect()
    };
    let entropy_gap = gap(0);
    let (before, after) = (entropy_gap[0], entropy_gap[points.len() - 1]);
    let rises = last.alignment - first.alignment;
    let heading = format!(
        "Along training alignment {} and the entropy gap {}",
        match rises {
            x if x > 0.02 => "rises",
            x if x < -0.02 => "falls",
            _ => "stays",
        },
        match after.abs() {
            x if x < 0.1 * before.abs() => "closes",
            x if x < 0.9 * before.abs() => "narrows",
            x if x > 1.1 * before.abs() => "widens",
            _ => "stays",
        }
    );
    let peak = points
        .iter()
        .max_by(|a, b| a.alignment.total_cmp(&b.alignment))
        .unwrap_or(last);
    let mut sentences = vec![
        format!(
            "From {} to {} steps alignment goes from {} to {} (shuffled {}), CKA from {} to {}.",
            first.step,
            last.step,
            figure(first.alignment),
            figure(last.alignment),
            figure(last.shuffled),
            figure(first.cka),
            figure(last.cka),
        ),
        format!(
            "The head's entropy is {} nats above the language's at the first checkpoint and {} at the last.",
            figure(before),
            figure(after)
        ),
    ];
    if peak.step != last.step && peak.alignment > last.alignment + 0.01 {
        sentences.push(format!(
            "Alignment is highest after {} steps, {}.",
            peak.step,
            figure(peak.alignment)
        ));
    }
    // Step 0 has a place on a logarithmic axis.
    let x: Vec<f64> = points.iter().map(|p| (p.step as f64).max(1.0)).collect();
    let of = |f: fn(&crate::data::TrainingPoint) -> f64| points.iter().map(f).collect::<Vec<f64>>();
    let steps = || {
        let names: Vec<String> = points.iter().map(|p| p.step.to_string()).collect();
        json!({"title": {"text": "steps"}, "type": "log", "tickvals": x, "ticktext": names, "automargin": true})
    };
    let mut tv = on_second(line(
        "entropy gap, total variation",
        &x,
        &gap(1),
        "@c4",
        "dot",
    ));
    tv["line"]["dash"] = json!("dot");
    let chart = Chart {
        data: json!([
            line("alignment", &x, &of(|p| p.alignment), "@c1", "solid"),
            line("shuffled", &x, &of(|p| p.shuffled), "@c3", "dash"),
            line("CKA", &x, &of(|p| p.cka), "@c2", "solid"),
            on_second(line("entropy gap, nats", &x, &entropy_gap, "@c5", "solid")),
            tv,
        ]),
        layout: panels(
            [steps(), axis("alignment")],
            [steps(), axis("model less language")],
        ),
        height: 400,
    };
    let rows = points.iter().map(|p| {
        let of = |k: usize| p.stochasticity.get(k);
        vec![
            p.step.to_string(),
            cell(p.alignment),
            cell(p.shuffled),
            cell(p.cka),
            cell(p.cka_shuffled),
            optional(of(0).map(|s| s.model)),
            optional(of(0).map(|s| s.data)),
            optional(of(1).map(|s| s.model)),
            optional(of(1).map(|s| s.data)),
            cell(p.cross_entropy),
        ]
    });
    Ok(Some(Figure {
        id: "along",
        heading,
        sentences,
        alt: "Left: alignment and CKA of the last layer at checkpoints of the training, beside shuffled contexts. Right: \
              the entropy of the head less that of the language."
            .into(),
        chart: Some(chart),
        more: html! {},
        estimate: "Checkpoints of the one training run, on the same contexts as everywhere on this page and judged by \
                   the exact laws of the language: nothing here is estimated from counts."
            .into(),
        caveat: "Prototypes are made of the checkpoint's own head rows, so that what states are aligned with moves \
                 along with them. One run, one seed. Step 0 stands at 1."
            .into(),
        table: Table::new(
            "along-training.csv",
            &[
                "step",
                "alignment",
                "shuffled",
                "cka",
                "cka_shuffled",
                "head_entropy",
                "exact_entropy",
                "head_tv",
                "exact_tv",
                "cross_entropy",
            ],
            rows,
        )?,
    }))
}
