use maud::html;
use serde_json::{Value, json};

use super::data::{TextTree, TreeText};
use crate::ReportError;
use crate::figure::{Chart, Figure, axis};
use crate::number::{count, figure, plural, size};
use crate::table::{Table, cell};
use crate::text::{plotly_text, quoted};

/// Pixels of a row.
pub(super) const ROW: usize = 17;

/// The row of each text: below its prefix, the more frequent first.
pub(super) fn rows(tree: &TextTree) -> Vec<usize> {
    let n = tree.texts.len();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); n];
    let mut stack = Vec::new();
    for (i, text) in tree.texts.iter().enumerate() {
        match text.parent.filter(|&p| p < i) {
            Some(p) => children[p].push(i),
            None => stack.push(i),
        }
    }
    stack.reverse();
    let mut rows = vec![0; n];
    let mut next = 0;
    while let Some(i) = stack.pop() {
        rows[i] = next;
        next += 1;
        let mut below = std::mem::take(&mut children[i]);
        below.sort_by_key(|&k| (tree.texts[k].count, std::cmp::Reverse(k)));
        stack.extend(below);
    }
    rows
}

/// An axis of rows, the first above.
pub(super) fn row_axis(rows: usize) -> Value {
    json!({"range": [rows as f64 - 0.4, -0.6], "showgrid": false, "zeroline": false, "fixedrange": true})
}

/// The space as a directed tree with lengths.
pub(super) fn tree(tree: &TextTree) -> Result<Figure, ReportError> {
    let texts = &tree.texts;
    let rows = rows(tree);
    let root = &texts[0];
    let (mut lines_x, mut lines_y): (Vec<Option<f64>>, Vec<Option<usize>>) =
        (Vec::new(), Vec::new());
    for (i, text) in texts.iter().enumerate() {
        let Some(p) = text.parent.filter(|&p| p < i) else {
            continue;
        };
        let from = texts[p].corpus;
        lines_x.extend([Some(from), Some(from), Some(text.corpus), None]);
        lines_y.extend([Some(rows[p]), Some(rows[i]), Some(rows[i]), None]);
    }
    let hover = |t: &TreeText| {
        json!([
            plotly_text(&t.text, 80),
            count(t.count),
            figure(t.corpus),
            figure(t.model)
        ])
    };
    let template = "<b>%{customdata[0]}</b><br>%{customdata[1]} occurrences<br>from the root: corpus %{customdata[2]}, model %{customdata[3]} nats<extra></extra>";
    let custom: Vec<Value> = texts.iter().map(hover).collect();
    let label = |(i, t): (usize, &TreeText)| {
        let own = if i == 0 { &t.text } else { &t.last };
        format!("  {}", plotly_text(own, 24))
    };
    let labels: Vec<String> = texts.iter().enumerate().map(label).collect();
    let corpus: Vec<f64> = texts.iter().map(|t| t.corpus).collect();
    let model: Vec<Option<f64>> = texts
        .iter()
        .map(|t| Some(t.model).filter(|x| x.is_finite()))
        .collect();
    let between = corpus.iter().zip(&model).zip(&rows);
    let (apart_x, apart_y): (Vec<Option<f64>>, Vec<usize>) = between
        .flat_map(|((&c, &m), &row)| [(Some(c), row), (m, row), (None, row)])
        .unzip();
    // Right of both marks.
    let ends: Vec<f64> = corpus
        .iter()
        .zip(&model)
        .map(|(c, m)| m.map_or(*c, |m| m.max(*c)))
        .collect();
    let farthest = ends.iter().fold(0.1f64, |a, &b| a.max(b));
    let mut x = axis("distance from the root, −log Pr(text | root), nats");
    x["range"] = json!([-0.02 * farthest, farthest * 1.15]);
    x["zeroline"] = json!(false);
    let mut y = row_axis(texts.len());
    y["showticklabels"] = json!(false);
    y["ticks"] = json!("");
    let chart = Chart {
        data: json!([
            {
                "type": "scatter", "mode": "lines", "x": lines_x, "y": lines_y, "hoverinfo": "skip", "showlegend": false,
                "line": {"color": "@grid", "width": 1.5},
            },
            {
                "type": "scatter", "mode": "lines", "x": apart_x, "y": apart_y, "hoverinfo": "skip", "showlegend": false,
                "line": {"color": "@c2", "width": 1, "dash": "dot"},
            },
            {
                "type": "scatter", "mode": "markers", "name": "model", "x": model, "y": rows, "customdata": custom,
                "hovertemplate": template,
                "marker": {"color": "@c2", "size": 8, "symbol": "circle-open", "line": {"width": 1.5}},
            },
            {
                "type": "scatter", "mode": "markers", "name": "corpus", "x": corpus, "y": rows, "customdata": custom,
                "hovertemplate": template, "marker": {"color": "@c1", "size": 6},
            },
            {
                "type": "scatter", "mode": "text", "x": ends, "y": rows, "text": labels, "textposition": "middle right",
                "textfont": {"size": 11, "color": "@ink"}, "cliponaxis": false, "hoverinfo": "skip", "showlegend": false,
            },
        ]),
        layout: json!({
            "xaxis": x, "yaxis": y, "margin": {"l": 12, "r": 16, "t": 36, "b": 48},
            "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom"},
        }),
        height: (ROW * texts.len() + 110) as u32,
    };
    let all = texts.iter().skip(1).map(|t| t.model - t.corpus);
    let apart: Vec<f64> = all.filter(|x| !x.is_nan()).collect();
    let further = apart.iter().filter(|x| **x > 0.0).count();
    let nearest = texts[1..]
        .iter()
        .min_by(|a, b| a.corpus.total_cmp(&b.corpus));
    let finite: Vec<f64> = apart.iter().copied().filter(|x| x.is_finite()).collect();
    let mean = finite.iter().map(|x| x.abs()).sum::<f64>() / finite.len().max(1) as f64;
    let never = match apart.len() - finite.len() {
        0 => String::new(),
        n => format!(" (of those {} it never reaches)", size(n)),
    };
    let mut sentences = vec![format!(
        "{} after {}, as a tree whose horizontal lengths are distances: a branch of one nat is taken once in e ≈ 2.7 times.",
        plural(texts.len() - 1, "frequent text"),
        quoted(&root.text),
    )];
    if let Some(t) = nearest {
        sentences.push(format!(
            "The nearest is {}, at {} nats.",
            quoted(&t.text),
            figure(t.corpus)
        ));
    }
    if !apart.is_empty() {
        sentences.push(format!(
            "The model has {} of {} farther from the root than the corpus has them{never}; where it reaches them it is {} nats \
             off on average.",
            size(further),
            size(apart.len()),
            figure(mean)
        ));
    }
    let table = texts.iter().map(|t| {
        let parent = t.parent.and_then(|p| texts.get(p));
        vec![
            t.text.clone(),
            parent.map_or(String::new(), |p| p.text.clone()),
            t.count.to_string(),
            cell(t.corpus),
            cell(t.model),
        ]
    });
    Ok(Figure {
        id: "tree",
        heading: format!("The space of texts after {} is a tree with lengths", quoted(&root.text)),
        sentences,
        alt: "A tree of texts, each on its own row under its prefix, labelled with its last token. Horizontal place: the \
              distance from the root, in the corpus (dots) and in the model (circles)."
            .into(),
        chart: Some(chart),
        more: html! {},
        estimate: "d(a, b) = −log Pr(b | a) adds up along a branch, and is infinite between texts of which neither begins \
                   with the other: those are only comparable through what they extend, or by how they go on."
            .into(),
        caveat: "The first token with the most texts after it was taken, and of those the most frequent; rarer ones are not \
                 drawn."
            .into(),
        table: Table::new(
            "tree.csv",
            &["text", "parent", "count", "corpus_distance_from_root_nats", "model_distance_from_root_nats"],
            table,
        )?,
    })
}
