//! The regularisation path and its rates.

use lawvere_geometry::PathPoint;
use maud::html;
use serde_json::json;

use super::data::ImplicitReport;
use crate::ReportError;
use crate::figure::{Chart, Figure, axis, exact_level, line, log_axis};
use crate::number::{cosine, figure, percent, size};
use crate::table::{Table, cell, optional};

pub(crate) fn figures(report: &ImplicitReport) -> Result<Vec<Figure>, ReportError> {
    Ok(vec![loss(report)?, rates(report)?, directions(report)?])
}

/// The points below lambda_max, and their penalties as fractions of it.
fn points(report: &ImplicitReport) -> (Vec<&PathPoint>, Vec<f64>) {
    let points: Vec<&PathPoint> = report
        .path
        .points
        .iter()
        .filter(|p| p.nuclear_norm > 0.0)
        .collect();
    let x = points.iter().map(|p| p.relative_lambda).collect();
    (points, x)
}

/// From large penalties on the left to small ones.
fn penalty_axis(x: &[f64]) -> serde_json::Value {
    let mut out = log_axis("λ / λ_max", x);
    out["autorange"] = json!("reversed");
    out
}

fn loss(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let (points, x) = points(report);
    let excess: Vec<f64> = points.iter().map(|p| p.excess).collect();
    let largest = points.iter().map(|p| p.relative_gap).fold(0.0, f64::max);
    let converged = points.iter().filter(|p| p.converged).count();
    let last = points.last();
    Ok(Figure {
        id: "path-loss",
        heading: "The loss falls to the entropy as the penalty goes".into(),
        sentences: vec![format!(
            "{} of {} solutions reached the duality gap asked for; the largest is {:.0e} of λ|L|. At the smallest penalty CE − H is {:.1e} nats.",
            size(converged),
            size(points.len()),
            largest,
            last.map_or(f64::NAN, |p| p.excess)
        )],
        alt: "CE − H against the penalty, both axes logarithmic.".into(),
        chart: Some(Chart {
            data: json!([line("CE − H", &x, &excess, "@c1", "solid")]),
            layout: json!({"xaxis": penalty_axis(&x), "yaxis": log_axis("CE − H, nats", &excess)}),
            height: 340,
        }),
        more: html! {},
        estimate: "Minimisers of CE + λ |L|_*, each with an exact duality gap.".into(),
        caveat: "With words and contexts of enough dimensions this is what training with ridge λ tends to.".into(),
        table: Table::new(
            "path.csv",
            &[
                "lambda", "relative_lambda", "excess", "nuclear_norm", "relative_gap", "dual_bound", "rank",
                "finite_distance", "cosine", "slope_cosine", "excess_rate", "norm_slope", "iterations",
            ],
            report.path.points.iter().map(|p| {
                vec![
                    cell(p.lambda),
                    cell(p.relative_lambda),
                    cell(p.excess),
                    cell(p.nuclear_norm),
                    cell(p.relative_gap),
                    cell(p.dual_bound),
                    p.rank.to_string(),
                    cell(p.finite_distance),
                    optional(p.cosine),
                    optional(p.slope_cosine),
                    cell(p.excess_rate),
                    optional(p.norm_slope),
                    p.iterations.to_string(),
                ]
            }),
        )?,
    })
}

fn rates(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let (points, x) = points(report);
    let n = report.path.max_margin_value.unwrap_or(1.0);
    let of = |f: &dyn Fn(&PathPoint) -> f64| points.iter().map(|p| f(p) / n).collect::<Vec<f64>>();
    let rate = of(&|p| p.excess_rate);
    let bound = of(&|p| p.dual_bound);
    let slope = of(&|p| p.norm_slope.unwrap_or(f64::NAN));
    let ends = points.last().map(|p| {
        format!(
            "At λ = {:.0e} λ_max, (CE − H)/λ is {} of N = {}, the dual bound {}, the growth of |L|_* a unit of log(1/λ) {}.",
            p.relative_lambda,
            percent(p.excess_rate, n),
            figure(n),
            percent(p.dual_bound, n),
            percent(p.norm_slope.unwrap_or(f64::NAN), n)
        )
    });
    // Points before the first step have no slope.
    let sloped: Vec<(f64, f64)> = x
        .iter()
        .copied()
        .zip(slope)
        .filter(|p| p.1.is_finite())
        .collect();
    let (slope_x, slope): (Vec<f64>, Vec<f64>) = sloped.into_iter().unzip();
    Ok(Figure {
        id: "path-rates",
        heading: points.last().map_or_else(
            || "No rates".into(),
            |p| format!("(CE − H)/λ comes to {} of the max-margin value", percent(p.excess_rate, n)),
        ),
        sentences: ends.into_iter().collect(),
        alt: "(CE − H)/λ, the dual bound and the growth of the nuclear norm, as fractions of N, against the penalty; \
              dashed at 1."
            .into(),
        chart: Some(Chart {
            data: json!([
                line("(CE − H)/λ", &x, &rate, "@c1", "solid"),
                line("⟨G, S⟩", &x, &bound, "@c2", "solid"),
                line("Δ|L|/Δlog(1/λ)", &slope_x, &slope, "@c3", "solid"),
                exact_level("N", &x, 1.0),
            ]),
            layout: json!({
                "xaxis": penalty_axis(&x), "yaxis": axis("fraction of N"), "legend": {"orientation": "h", "y": 1.14},
            }),
            height: 360,
        }),
        more: html! {},
        estimate: "What the theory says of λ → 0; the dual bound never exceeds N.".into(),
        caveat: "Rates are those of exact minimisers, not of gradient descent.".into(),
        table: Table::new(
            "path_rates.csv",
            &["relative_lambda", "excess_rate_of_n", "dual_bound_of_n"],
            x.iter()
                .zip(rate.iter().zip(&bound))
                .map(|(x, (r, b))| vec![cell(*x), cell(*r), cell(*b)]),
        )?,
    })
}

fn directions(report: &ImplicitReport) -> Result<Figure, ReportError> {
    let (points, x) = points(report);
    let direction: Vec<f64> = points
        .iter()
        .map(|p| p.cosine.unwrap_or(f64::NAN))
        .collect();
    let slope: Vec<f64> = points
        .iter()
        .map(|p| p.slope_cosine.unwrap_or(f64::NAN))
        .collect();
    let last = points.last().map(|p| {
        format!(
            "At the smallest penalty the solution stands at cosine {} with L^mm, the last step towards it at {}.",
            cosine(p.cosine.unwrap_or(f64::NAN)),
            cosine(p.slope_cosine.unwrap_or(f64::NAN))
        )
    });
    Ok(Figure {
        id: "path-directions",
        heading: points.last().map_or_else(
            || "No directions".into(),
            |p| {
                format!(
                    "The solution comes to cosine {} with the max-margin logits, its growth to {}",
                    cosine(p.cosine.unwrap_or(f64::NAN)),
                    cosine(p.slope_cosine.unwrap_or(f64::NAN))
                )
            },
        ),
        sentences: last.into_iter().collect(),
        alt: "Cosines with the max-margin logits of the solution and of its last step, against the penalty.".into(),
        chart: Some(Chart {
            data: json!([
                line("L_λ", &x, &direction, "@c1", "solid"),
                line("L_λ − the one before", &x, &slope, "@c2", "solid"),
            ]),
            layout: json!({
                "xaxis": penalty_axis(&x), "yaxis": axis("cosine with L^mm"), "legend": {"orientation": "h", "y": 1.14},
            }),
            height: 340,
        }),
        more: html! {},
        estimate: "Frobenius cosines.".into(),
        caveat: "log(1/λ) times the sine of the angle stays bounded, so a cosine of 0.99 can need penalties that no \
                 training reaches."
            .into(),
        table: Table::new(
            "path_directions.csv",
            &["relative_lambda", "cosine", "slope_cosine"],
            x.iter()
                .zip(direction.iter().zip(&slope))
                .map(|(x, (a, b))| vec![cell(*x), cell(*a), cell(*b)]),
        )?,
    })
}
