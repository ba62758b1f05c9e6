//! What the theory of training predicts, and what the model shows of it.

use lawvere_geometry::{Claim, Reading, Space, Verdict};
use maud::{Markup, html};
use serde_json::json;

use crate::ReportError;
use crate::data::{Predictions, Report};
use crate::figure::{Chart, Figure, axis};
use crate::number::{fixed, percent, plural};
use crate::table::{Table, cell, optional};

/// A few words for an axis.
fn short(claim: Claim) -> &'static str {
    match claim {
        Claim::SubspaceCollapse => "equal supports, one direction",
        Claim::SupportVariability => "equal supports, close together",
        Claim::ContextGram => "Gram matrix of contexts",
        Claim::WordGram => "Gram matrix of words",
        Claim::Logits => "logits along S\u{303}",
        Claim::ConceptStrengths => "order of concepts",
        Claim::InSupportLogOdds => "log-odds in supports",
        Claim::WithinClassVariability => "NC1: equal next tokens, close",
        Claim::Equiangularity => "NC2: equal angles",
        Claim::Uniformity => "GNC2: spread over the sphere",
        Claim::Duality => "NC3: words along class means",
        Claim::Agreement => "NC4: nearest class mean",
    }
}

/// The reading of a claim in a layer as the head would take it, or else as it is; of words the only one.
fn reading(readings: &[Reading], claim: Claim, layer: usize) -> Option<&Reading> {
    let of = |space| {
        let mut readings = readings.iter();
        readings.find(|r| r.claim == claim && r.layer == Some(layer) && r.space == Some(space))
    };
    of(Space::Readout).or_else(|| of(Space::Raw))
}

fn layers(readings: &[Reading]) -> Vec<usize> {
    let mut layers: Vec<usize> = readings.iter().filter_map(|r| r.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    layers
}

/// Every claim where the head reads.
fn at_the_head(readings: &[Reading]) -> Vec<&Reading> {
    let Some(&last) = layers(readings).last() else {
        return Vec::new();
    };
    let of = |claim| {
        let mut readings_ = readings.iter();
        reading(readings, claim, last)
            .or_else(|| readings_.find(|r| r.claim == claim && r.layer.is_none()))
    };
    Claim::ALL.into_iter().filter_map(of).collect()
}

pub(crate) fn predictions(report: &Report) -> Result<Option<Figure>, ReportError> {
    let Some(found) = &report.geometry.predictions else {
        return Ok(None);
    };
    let head = at_the_head(&found.readings);
    if head.is_empty() {
        return Ok(None);
    }
    let count = |verdict: Verdict| head.iter().filter(|r| r.verdict == verdict).count();
    let visible = count(Verdict::Visible);
    let last = count(Verdict::ExplainedByLastToken);
    let heading = format!(
        "Of {} of the theory, {visible} {} visible where the head reads",
        plural(head.len(), "prediction"),
        if visible == 1 { "is" } else { "are" }
    );
    let within = count(Verdict::WithinChance);
    let of = |n: usize, what: &str| (n > 0).then(|| format!("{n} {what}"));
    let others: Vec<String> = [
        of(last, "explained by shared last tokens"),
        of(
            within,
            "nearer than states dealt to contexts at random, but within chance",
        ),
        of(count(Verdict::NotVisible), "not nearer than those"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut sentences = Vec::new();
    if !others.is_empty() {
        sentences.push(format!("Of the others, {}.", others.join("; ")));
    }
    let strongest = head
        .iter()
        .filter(|r| r.verdict == Verdict::Visible)
        .max_by(|a, b| a.effect.total_cmp(&b.effect));
    if let Some(reading) = strongest {
        sentences.push(format!(
            "The clearest: {} ({}; dealt at random {}; ideally {}).",
            reading.claim.statement(),
            fixed(reading.value, 3),
            fixed(reading.shuffled.mean, 3),
            fixed(reading.ideal, 3),
        ));
    }
    sentences.extend(found.notes.iter().map(|note| format!("Note: {note}.")));
    let rows = found.readings.iter().map(|r| {
        let space = r.space.map(|space| match space {
            Space::Raw => "raw",
            Space::Readout => "readout",
        });
        vec![
            json!(r.claim).as_str().unwrap_or_default().to_owned(),
            r.layer.map(|layer| layer.to_string()).unwrap_or_default(),
            space.unwrap_or_default().to_owned(),
            cell(r.value),
            cell(r.ideal),
            cell(r.shuffled.mean),
            cell(r.shuffled.deviation),
            optional(r.same_last.map(|c| c.mean)),
            optional(r.same_last.map(|c| c.deviation)),
            cell(r.effect),
            r.verdict.phrase().to_owned(),
        ]
    });
    let header = [
        "prediction",
        "layer",
        "states",
        "value",
        "ideal",
        "dealt_mean",
        "dealt_deviation",
        "same_last_token_mean",
        "same_last_token_deviation",
        "effect",
        "verdict",
    ];
    Ok(Some(Figure {
        id: "predictions",
        heading,
        sentences,
        alt: "How far of the way from states dealt at random to the prediction the model is, in percent, by \
              prediction and layer (states as the head would read them where they can be). A t marks what \
              shared last tokens explain, a question mark what is within chance, a dot what is not nearer than that."
            .into(),
        chart: chart(found),
        more: table(&head),
        estimate: format!(
            "Each prediction is a number that training is to bring to its ideal in the limit (arXiv 2408.15417; neural \
             collapse as arXiv 2405.17767 measures it). The predicted geometry is that of the {} leading singular \
             triplets of S\u{303}, which have {} of its energy. ± is the standard deviation over {} deals of states to \
             contexts, not a standard error over corpora. “Visible” takes 2 % of the way, five deviations beyond \
             the control, and less than four fifths of it left when states are dealt among contexts with the same last \
             token.",
            found.rank,
            percent(found.captured, 1.0),
            found.deals,
        ),
        caveat: "The predictions are of networks trained on these contexts to the end; a checkpoint trained on other text \
                 is not bound by them. What an untrained network of the same architecture would show is not subtracted here: \
                 `lawvere geometry compare --untrained` does that."
            .into(),
        table: Table::new("predictions.csv", &header, rows)?,
    }))
}

fn chart(found: &Predictions) -> Option<Chart> {
    let layers = layers(&found.readings);
    if layers.len() < 2 {
        return None;
    }
    let claims: Vec<Claim> = Claim::ALL
        .into_iter()
        .rev()
        .filter(|&claim| {
            layers
                .iter()
                .any(|&l| reading(&found.readings, claim, l).is_some())
        })
        .collect();
    let of = |f: &dyn Fn(&Reading) -> String| -> Vec<Vec<String>> {
        let row = |&claim: &Claim| {
            let cell =
                |&layer: &usize| reading(&found.readings, claim, layer).map_or(String::new(), f);
            layers.iter().map(cell).collect()
        };
        claims.iter().map(row).collect()
    };
    let shown = of(&|r| {
        let mark = match r.verdict {
            Verdict::ExplainedByLastToken => " t",
            Verdict::ExplainedByArchitecture => " a",
            Verdict::WithinChance => " ?",
            Verdict::NotVisible => " ·",
            Verdict::Visible => "",
        };
        format!("{:.0}{mark}", 100.0 * r.effect)
    });
    let hover = of(&|r| {
        format!(
            "{}<br>{}: {}, ideally {}<br>dealt at random {}",
            r.claim.statement(),
            r.verdict.phrase(),
            fixed(r.value, 3),
            fixed(r.ideal, 3),
            fixed(r.shuffled.mean, 3)
        )
    });
    // Beyond a whole way off nothing is told by the colour.
    let colour = |&claim: &Claim| -> Vec<Option<f64>> {
        let effect = |&layer: &usize| reading(&found.readings, claim, layer).map(|r| r.effect);
        layers
            .iter()
            .map(|l| effect(l).map(|x| 100.0 * x.clamp(-1.0, 1.0)))
            .collect()
    };
    let values: Vec<_> = claims.iter().map(colour).collect();
    let columns: Vec<String> = layers.iter().map(usize::to_string).collect();
    let names: Vec<&str> = claims.iter().map(|&claim| short(claim)).collect();
    let mut across = axis("layer");
    across["type"] = json!("category");
    Some(Chart {
        data: json!([{
            "type": "heatmap", "x": columns, "y": names, "z": values, "text": shown, "customdata": hover,
            "texttemplate": "%{text}", "hovertemplate": "%{customdata}<extra></extra>", "colorscale": "@div",
            "zmin": -100, "zmax": 100, "xgap": 1, "ygap": 1,
            "colorbar": {"title": {"text": "% of the way", "side": "right"}, "thickness": 12},
        }]),
        layout: json!({"xaxis": across, "yaxis": {"automargin": true}}),
        height: 80 + 34 * claims.len() as u32,
    })
}

fn table(head: &[&Reading]) -> Markup {
    let control =
        |c: &lawvere_geometry::Control| format!("{} ± {}", fixed(c.mean, 3), fixed(c.deviation, 3));
    html! {
        div.wide tabindex="0" role="region" aria-label="Predictions where the head reads" {
            table {
                caption { "The predictions where the head reads" }
                thead { tr {
                    th scope="col" { "what is predicted" }
                    th.n scope="col" { "model" }
                    th.n scope="col" { "ideal" }
                    th.n scope="col" { "dealt at random" }
                    th.n scope="col" { "same last token" }
                    th scope="col" { "verdict" }
                } }
                tbody { @for reading in head {
                    tr {
                        td { (reading.claim.statement()) }
                        td.n { (fixed(reading.value, 3)) }
                        td.n { (fixed(reading.ideal, 3)) }
                        td.n { (control(&reading.shuffled)) }
                        td.n { (reading.same_last.as_ref().map_or("–".into(), control)) }
                        td { (reading.verdict.phrase()) }
                    }
                } }
            }
        }
    }
}
