use maud::html;
use serde_json::{Value, json};

use super::data::{TextTree, TreeText};
use super::tree::{ROW, row_axis, rows};
use crate::ReportError;
use crate::figure::{Chart, Figure, axis};
use crate::number::{figure, percent, plural};
use crate::table::{Table, cell};
use crate::text::{plotly_text, quoted, visible};

/// A point of Q(L) as a sum of extremal rays: what is left, text by text, of the best chance to reach a token.
pub(super) fn rays(tree: &TextTree) -> Result<Figure, ReportError> {
    let texts = &tree.texts;
    let rows = rows(tree);
    let target = &tree.target.1;
    let root = &texts[0];
    let mut ends = vec![0.0; texts.len()];
    let (mut x, mut base) = (Vec::new(), Vec::new());
    let (mut y, mut tint) = (Vec::new(), Vec::new());
    let mut hover: Vec<Value> = Vec::new();
    for (k, part) in tree.parts.iter().enumerate() {
        for &i in part.texts.iter().filter(|&&i| i < texts.len()) {
            x.push(part.weight);
            base.push(ends[i]);
            y.push(rows[i]);
            tint.push(k);
            hover.push(json!([
                plotly_text(&texts[i].text, 60),
                figure(part.weight),
                plural(part.texts.len(), "text"),
                k + 1,
            ]));
            ends[i] += part.weight;
        }
    }
    let mut labels = vec![String::new(); texts.len()];
    for (text, &row) in texts.iter().zip(&rows) {
        labels[row] = plotly_text(&text.text, 30);
    }
    let mut y_axis = row_axis(texts.len());
    y_axis["tickvals"] = json!((0..texts.len()).collect::<Vec<_>>());
    y_axis["ticktext"] = json!(labels);
    y_axis["automargin"] = json!(true);
    y_axis["tickfont"] = json!({"size": 11});
    let chart = Chart {
        data: json!([{
            "type": "bar", "orientation": "h", "x": x, "base": base, "y": y, "width": 0.82, "customdata": hover,
            "hovertemplate": "<b>%{customdata[0]}</b><br>ray %{customdata[3]}, on %{customdata[2]}: weight %{customdata[1]}<extra></extra>",
            "marker": {
                "color": tint, "colorscale": "@seq", "cmin": 0, "cmax": tree.parts.len().max(2) - 1, "showscale": false,
                "line": {"color": "@page", "width": 0.5},
            },
        }]),
        layout: json!({
            "xaxis": axis("best chance, from the root, to get there and on to the token"), "yaxis": y_axis, "barmode": "overlay",
            "showlegend": false, "margin": {"l": 12, "r": 16, "t": 12, "b": 48},
        }),
        height: (ROW * texts.len() + 90) as u32,
    };
    let (now, best) = (root.at_once, root.reached);
    // The text to go on to first for the best chance.
    let chance = |t: &TreeText| (-t.corpus).exp() * t.at_once;
    let way = texts.iter().max_by(|a, b| chance(a).total_cmp(&chance(b)));
    let way = way.filter(|t| chance(t) > chance(root)).map(|t| &t.text);
    let begun = format!(
        "After {} the token {} comes at once with probability {}",
        quoted(&root.text),
        quoted(target),
        figure(now)
    );
    let mut sentences = vec![match way {
        Some(way) => format!(
            "{begun}; going on first to {}, and there to the token, has {}.",
            quoted(way),
            figure(best)
        ),
        None => format!("{begun}, and no other text shown brings it nearer."),
    }];
    let heaviest = tree
        .parts
        .iter()
        .max_by(|a, b| a.weight.total_cmp(&b.weight));
    if let Some(part) = heaviest {
        let on = match part.texts.len() == texts.len() {
            true => "all texts".to_string(),
            false => format!("{} of {}", part.texts.len(), plural(texts.len(), "text")),
        };
        let sum = match tree.parts.len() {
            1 => "The chances are one extremal ray: all of it,".to_string(),
            n => format!(
                "The chances are the sum of {n} extremal rays, one inside the other here; the heaviest,"
            ),
        };
        sentences.push(format!(
            "{sum} {} of the root's, is on {on}.",
            percent(part.weight, best),
        ));
    }
    let table = tree.parts.iter().enumerate().flat_map(|(k, part)| {
        let line = move |&i: &usize| {
            vec![
                (k + 1).to_string(),
                cell(part.weight),
                texts.get(i).map_or(String::new(), |t| t.text.clone()),
                texts.get(i).map_or(String::new(), |t| cell(t.at_once)),
                texts.get(i).map_or(String::new(), |t| cell(t.reached)),
            ]
        };
        part.texts.iter().map(line)
    });
    Ok(Figure {
        id: "rays",
        heading: format!("How {} is reached, as a sum of extremal rays", quoted(target)),
        sentences,
        alt: "Bars, a row a text. A bar's length is the best chance, from the root, to come to the text and on to the token; \
              its colours are the rays that it is the sum of, the widest at the left."
            .into(),
        chart: Some(chart),
        more: html! {},
        estimate: format!(
            "From −log of the share of times that {} follows, the greatest point of P(L) below it is taken: the least \
             cost of going on to some text and from there to the token. As z = exp(−x) it is in the cone Q(L), and its \
             level sets, split into connected parts, are its canonical decomposition.",
            visible(target)
        ),
        caveat: "Shares are of the corpus's counts, without errors; a text that is not drawn cannot be gone through. The \
                 token is the one whose chances fall into the most rays."
            .into(),
        table: Table::new(
            "rays.csv",
            &["ray", "weight", "text", "share_at_once", "best_chance"],
            table,
        )?,
    })
}
