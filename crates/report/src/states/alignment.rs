//! How far states line up with what follows, layer by layer.

use lawvere_information::LayerAlignment;
use maud::html;
use serde_json::{Value, json};

use super::{on_second, panels};
use crate::ReportError;
use crate::data::Report;
use crate::figure::{Chart, Figure, axis, line, traces};
use crate::number::{figure, percent, plural, size};
use crate::table::{Table, cell, optional};

pub(super) fn alignment(report: &Report) -> Result<Figure, ReportError> {
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
                x if x > 0.02 => {
                    format!("States line up with what follows more at the end: {after}, {before}")
                }
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
                 that the model uses it. The level of chance rises with the dimension of states. An untrained network's \
                 states are held against the trained head's prototypes, and keep the identity of the last token, which \
                 tells much of what follows."
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
