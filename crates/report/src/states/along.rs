//! Alignment and entropy along training.

use maud::html;
use serde_json::json;

use super::{on_second, panels};
use crate::ReportError;
use crate::data::{Report, TrainingPoint};
use crate::figure::{Chart, Figure, axis, line};
use crate::number::figure;
use crate::table::{Table, cell, optional};

pub(super) fn along(report: &Report) -> Result<Option<Figure>, ReportError> {
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
    let of = |f: fn(&TrainingPoint) -> f64| points.iter().map(f).collect::<Vec<f64>>();
    let steps = || {
        // From the last on, as many as have room.
        let mut room = f64::INFINITY;
        let mut names: Vec<String> = Vec::with_capacity(points.len());
        for (p, x) in points.iter().zip(&x).rev() {
            let shown = x * 1.9 < room;
            names.push(if shown {
                p.step.to_string()
            } else {
                String::new()
            });
            room = if shown { *x } else { room };
        }
        names.reverse();
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
