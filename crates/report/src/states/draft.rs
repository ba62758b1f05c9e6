//! Drafting with fitted heads, forecast and run.

use maud::html;
use serde_json::json;

use crate::ReportError;
use crate::data::{DraftPage, Report};
use crate::figure::{Chart, Figure};
use crate::number::{figure, fixed, percent, plural, size, with_error};
use crate::table::{Table, cell};

pub(super) fn draft(report: &Report) -> Result<Option<Figure>, ReportError> {
    let Some(draft) = &report.states.draft else {
        return Ok(None);
    };
    let own = &draft.model;
    let agree = own.deviations.abs() <= 2.0;
    let heading = format!(
        "Drafting {} from layer {} gives {} tokens a pass of the model",
        plural(draft.length, "token"),
        draft.layer,
        figure(draft.decoding.tokens_per_pass)
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
            "Decoding on with drafts, each round beginning where the one before stopped, {} tokens come a pass (forecast \
             {}). A head costs {} of a pass: {} times as fast with heads side by side, {} one after the other. After \
             prefixes of held-out documents {} drafted tokens are accepted.",
            with_error(
                draft.decoding.tokens_per_pass,
                Some(draft.decoding.tokens_per_pass_error)
            ),
            with_error(draft.decoding.forecast, Some(draft.decoding.forecast_error)),
            percent(own.cost, 1.0),
            figure(draft.decoding.speedup_parallel),
            figure(draft.decoding.speedup_sequential),
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
             q along drafted paths, each prefix weighted by the probability that it is accepted. Other drafts after the same \
             prefixes are run; {} prefixes of either kind. ± is one standard error over prefixes.",
            size(own.prefixes)
        ),
        caveat: format!(
            "The bars are of prefixes that end anywhere alike; rounds of decoding begin more often in hard places. \
             Heads propose {} tokens of the vocabulary only; costs are counted in \
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
