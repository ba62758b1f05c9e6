//! Which directions of a state matter to predictions.

use lawvere_information::Direction;
use maud::{Markup, html};
use serde_json::json;

use crate::ReportError;
use crate::data::Report;
use crate::figure::{Chart, Figure, axis, line, log_axis, rule};
use crate::number::{figure, fixed, percent, plural, signed, size};
use crate::table::{Table, cell};
use crate::text::label;

pub(crate) fn fisher(report: &Report) -> Result<Figure, ReportError> {
    let f = &report.information.fisher;
    let d = f.eigenvalues.len();
    let leading = f
        .eigenvalues
        .iter()
        .take(10)
        .map(|l| l.max(0.0))
        .sum::<f64>();
    let heading = if f.effective_rank < 0.5 * d as f64 {
        format!(
            "Of {} directions of a state, about {} matter to predictions",
            size(d),
            fixed(f.effective_rank, usize::from(f.effective_rank < 10.0))
        )
    } else {
        format!(
            "Most of the {} directions of a state matter to predictions (effective rank {})",
            size(d),
            figure(f.effective_rank)
        )
    };
    let sentence = format!(
        "The mean Fisher–Rao metric at the last layer has an effective rank of {} of {}; the leading direction holds {} of \
         its trace (anisotropy), the first {} hold {}.",
        figure(f.effective_rank),
        size(d),
        percent(f.anisotropy, 1.0),
        d.min(10),
        percent(leading, f.trace),
    );
    let (mut x, mut y) = (Vec::new(), Vec::new());
    // Below rounding there is nothing to see on a logarithmic axis.
    let least = f.eigenvalues.first().copied().unwrap_or(0.0) * 1e-12;
    for (k, &l) in f.eigenvalues.iter().enumerate() {
        if l > least && l.is_finite() {
            x.push((k + 1) as f64);
            y.push(l);
        }
    }
    let hidden = d - x.len();
    let mut trace = line("eigenvalue", &x, &y, "@c1", "solid");
    trace["mode"] = json!("lines");
    let chart = (!x.is_empty()).then(|| Chart {
        data: json!([
            trace,
            rule(
                &format!("effective rank {}", figure(f.effective_rank)),
                [f.effective_rank; 2],
                [y[y.len() - 1], y[0]],
                "@c2",
                "dash"
            ),
        ]),
        layout: json!({
            "xaxis": axis("rank"), "yaxis": log_axis("eigenvalue", &y),
            "legend": {"orientation": "h", "y": 1.12},
        }),
        height: 340,
    });
    let rows = f
        .eigenvalues
        .iter()
        .enumerate()
        .map(|(k, l)| vec![(k + 1).to_string(), cell(*l)]);
    let zeros = match hidden {
        0 => String::new(),
        n => format!(
            " {} at rounding level are not drawn.",
            plural(n, "eigenvalue")
        ),
    };
    Ok(Figure {
        id: "fisher-rao",
        heading,
        sentences: if d == 0 { Vec::new() } else { vec![sentence] },
        alt: "Eigenvalues of the mean Fisher–Rao metric in decreasing order, logarithmic.".into(),
        chart,
        more: direction_table(report, &f.directions),
        estimate: format!(
            "g = Uᵀ(diag p − p pᵀ)U averaged over contexts, U the head: a step of length ε along a unit eigenvector changes \
             the prediction by a KL of about ε²/2 times the eigenvalue. Effective rank is exp of the entropy of the \
             normalised eigenvalues. Computed for these contexts; no standard error is given.{zeros}"
        ),
        caveat: "The metric depends on the scale of each coordinate of the state, and states do not fill all directions: a \
                 sensitive direction need not be one along which states vary."
            .into(),
        table: Table::new("fisher-rao.csv", &["rank", "eigenvalue"], rows)?,
    })
}

/// The rows of `directions.csv`.
pub(crate) fn direction_rows(report: &Report) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (k, d) in report.information.fisher.directions.iter().enumerate() {
        for (kind, list) in [("raised", &d.raised), ("lowered", &d.lowered)] {
            for &(t, x) in list {
                rows.push(vec![
                    (k + 1).to_string(),
                    cell(d.eigenvalue),
                    kind.into(),
                    t.to_string(),
                    report.token(t),
                    cell(x),
                ]);
            }
        }
    }
    rows
}

fn direction_table(report: &Report, directions: &[Direction]) -> Markup {
    let tokens = |list: &[(u32, f64)]| -> Markup {
        html! {
            @for (t, x) in list {
                code title=(format!("logit change {}", signed(*x))) { (label(&report.token(*t), 24)) } " "
            }
            @if list.is_empty() { "–" }
        }
    };
    html! {
        @if !directions.is_empty() {
            div.wide tabindex="0" role="region" aria-label="Leading directions" {
                table.leading {
                    caption { "The leading directions: what a step along each does to predictions" }
                    thead { tr {
                        th.n scope="col" { "eigenvalue" }
                        th scope="col" { "tokens made likelier" }
                        th scope="col" { "tokens made less likely" }
                    } }
                    tbody { @for d in directions {
                        tr {
                            td.n { (figure(d.eigenvalue)) }
                            td { (tokens(&d.raised)) }
                            td { (tokens(&d.lowered)) }
                        }
                    } }
                }
            }
        }
    }
}
