//! How widely the head spreads its predictions.

use maud::html;
use serde_json::json;

use crate::ReportError;
use crate::data::Report;
use crate::figure::{Chart, EXACT, Figure, axis, traces};
use crate::number::{figure, with_error};
use crate::table::{Table, cell, optional};

pub(super) fn stochasticity(report: &Report) -> Result<Figure, ReportError> {
    let found = &report.states.stochasticity;
    let exact = report.states.exact_stochasticity.as_ref();
    let exact_of = |k: usize| exact.and_then(|e| e.get(k)).map(|e| e.data);
    // Against the exact entropies where they are known.
    let gap = |k: usize| found[k].model - exact_of(k).unwrap_or(found[k].data_corrected);
    // Beyond two standard errors and, of counts, beyond the bias that was taken away: some may be left.
    let noise = |k: usize| {
        let s = &found[k];
        match exact_of(k) {
            Some(_) => 2.0 * s.model_error.unwrap_or(0.0),
            None => 2.0 * s.gap_error.unwrap_or(0.0) + (s.data_corrected - s.data).abs(),
        }
    };
    let above = (0..found.len()).filter(|&k| gap(k) > noise(k)).count();
    let below = (0..found.len()).filter(|&k| gap(k) < -noise(k)).count();
    let heading = match (above, below, found.len()) {
        (a, 0, n) if a == n => {
            "By every measure the head spreads its predictions wider than the data".to_string()
        }
        (0, b, n) if b == n => {
            "By every measure the head spreads its predictions less than the data".to_string()
        }
        (0, 0, _) => {
            "The head spreads its predictions as the data do, as far as can be told".to_string()
        }
        (a, b, n) => format!(
            "Of {n} measures {a} say that the head spreads its predictions wider than the data, {b} less"
        ),
    };
    let sentences = found
        .iter()
        .enumerate()
        .filter(|(_, s)| ["kl", "tv"].contains(&s.divergence.as_str()))
        .map(|(k, s)| {
            format!(
                "{} {} in the model, {} in the corpus ({} before it is corrected for few occurrences){}.",
                match s.divergence.as_str() {
                    "kl" => "Shannon's entropy",
                    _ => "The probability that two draws differ:",
                },
                with_error(s.model, s.model_error),
                with_error(s.data_corrected, s.data_error),
                figure(s.data),
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
            exact.map(|e| bar("exact", e.iter().map(|s| s.data).collect(), EXACT)),
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
            cell(s.data_corrected),
            optional(s.data_error),
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
                   standard error, by the jackknife over blocks of documents."
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
                "corpus_corrected",
                "corpus_corrected_error",
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
