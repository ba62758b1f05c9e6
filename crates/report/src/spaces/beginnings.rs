use maud::{Markup, html};
use serde_json::json;

use lawvere_metric::Estimate;

use super::data::{BeginningPair, Beginnings};
use crate::ReportError;
use crate::figure::{Chart, Figure};
use crate::number::{figure, plural, size, with_error};
use crate::table::{Table, cell, optional};
use crate::text::{label, quoted};

/// The name of a text in the picture: A, B, and so on.
fn letter(i: usize) -> String {
    match u8::try_from(i).ok().filter(|i| *i < 26) {
        Some(i) => char::from(b'A' + i).to_string(),
        None => format!("#{i}"),
    }
}

fn told(e: Estimate) -> String {
    with_error(e.value, e.error)
}

/// Beginnings of documents by how the model goes on.
pub(super) fn beginnings(found: &Beginnings) -> Result<Figure, ReportError> {
    let n = found.texts.len();
    let mut z: Vec<Vec<Option<f64>>> = vec![vec![None; n]; n];
    let mut shown = vec![vec![String::new(); n]; n];
    let pairs = found.pairs.iter().filter(|p| p.first < n && p.second < n);
    for pair in pairs {
        for (i, j, e) in [
            (pair.first, pair.second, pair.forward),
            (pair.second, pair.first, pair.back),
        ] {
            z[i][j] = Some(e.value).filter(|x| x.is_finite());
            shown[i][j] = told(e);
        }
    }
    let letters: Vec<String> = (0..n).map(letter).collect();
    let ticks = |title: &str| json!({"title": {"text": title}, "automargin": true, "showgrid": false, "type": "category"});
    let mut y = ticks("u");
    y["autorange"] = json!("reversed");
    let chart = Chart {
        data: json!([{
            "type": "heatmap", "z": z, "x": letters, "y": letters, "text": shown, "texttemplate": "%{text}",
            "hovertemplate": "D(%{y} ‖ %{x}) = %{text} nats<extra></extra>", "hoverongaps": false, "xgap": 2, "ygap": 2,
            "colorscale": "@div", "showscale": true,
            "colorbar": {"title": {"text": "nats", "side": "top"}, "thickness": 10, "len": 0.7, "outlinewidth": 0},
        }]),
        layout: json!({"xaxis": ticks("v"), "yaxis": y, "margin": {"l": 48, "r": 12, "t": 12, "b": 48}}),
        height: (56 * n + 110) as u32,
    };
    let symmetric = |p: &BeginningPair| (p.forward.value + p.back.value) / 2.0;
    let known = |p: &&BeginningPair| p.first < n && p.second < n && symmetric(p).is_finite();
    let ordered = || found.pairs.iter().filter(known);
    let near = ordered().min_by(|a, b| symmetric(a).total_cmp(&symmetric(b)));
    let far = ordered().max_by(|a, b| symmetric(a).total_cmp(&symmetric(b)));
    let between = |p: &BeginningPair| {
        format!(
            "{} ({}) and {} ({})",
            letter(p.first),
            quoted(&found.texts[p.first]),
            letter(p.second),
            quoted(&found.texts[p.second])
        )
    };
    let mut sentences = Vec::new();
    if let (Some(near), Some(far)) = (near, far) {
        sentences.push(format!(
            "Of {} the model goes on most alike after {}: {} nats from one to the other on average.",
            plural(n, "beginning"),
            between(near),
            figure(symmetric(near))
        ));
        if found.pairs.len() > 1 {
            sentences.push(format!(
                "It parts them most at {} and {}, with {}.",
                letter(far.first),
                letter(far.second),
                figure(symmetric(far))
            ));
        }
    }
    let sure = |e: &Estimate| e.error.is_some_and(|s| e.value.abs() > 2.0 * s);
    let directed = found.pairs.iter().filter(|p| sure(&p.direction)).count();
    sentences.push(format!(
        "In {} of {} the two directions differ by more than two standard errors; a text that the other diverges less from \
         is, by Liu's rule, the one that entails.",
        size(directed),
        plural(found.pairs.len(), "pair")
    ));
    let table = found.pairs.iter().map(|p| {
        let text = |i: usize| found.texts.get(i).cloned().unwrap_or_default();
        let mut row = vec![text(p.first), text(p.second)];
        for e in [p.forward, p.back, p.direction, p.trajectory] {
            row.extend([cell(e.value), optional(e.error)]);
        }
        row
    });
    Ok(Figure {
        id: "beginnings",
        heading: match near.is_some() {
            true => "Texts that do not extend one another, compared by how the model goes on".into(),
            false => "The beginnings could not be compared".into(),
        },
        sentences,
        alt: "A heat map of Kullback-Leibler divergences between the model's laws of continuations after beginnings of \
              documents, rows u, columns v."
            .into(),
        chart: Some(chart),
        more: legend(found),
        estimate: format!(
            "D(u ‖ v) = E log p(t | u) / p(t | v) over continuations t of at most {} tokens, estimated from {} drawn after \
             each text, as draws of the mixture of both laws. ± is one standard error over continuations.",
            found.tokens, found.samples
        ),
        caveat: "Beginnings were cut at a number of tokens, wherever that fell. A large divergence rests on few continuations \
                 that one text hardly allows: its error is then itself uncertain."
            .into(),
        table: Table::new(
            "beginnings.csv",
            &[
                "u", "v", "divergence_nats", "divergence_error", "divergence_back_nats", "divergence_back_error",
                "direction_nats", "direction_error", "liu_distance", "liu_distance_error",
            ],
            table,
        )?,
    })
}

fn legend(found: &Beginnings) -> Markup {
    html! {
        table.facts { tbody { @for (i, text) in found.texts.iter().enumerate() {
            tr { th scope="row" { (letter(i)) } td { (label(text, 90)) } }
        } } }
    }
}
