//! The page on the geometry that contexts predict, and on networks trained on them.

mod data;
mod maps;
mod page;
mod path;
mod training;

pub use data::{
    CurvePoint, ImplicitProvenance, ImplicitReport, Map, NetworkRun, PathMatch, PatternFacts,
};

use crate::page::Chapter;
use crate::table::Table;
use crate::{Rendered, ReportError, to_json};

/// Writes the page, its JSON and its tables. Cost: linear in the report.
///
/// # Errors
/// [`ReportError`], if a result cannot be serialised.
pub fn render_implicit(report: &ImplicitReport) -> Result<Rendered, ReportError> {
    let mut chapters = vec![
        Chapter {
            id: "predicted",
            title: "Predicted",
            question: "Which token may follow which context: what logits, words and contexts does that pattern alone \
                       make training tend to?",
            figures: vec![
                maps::pattern(report)?,
                maps::finite(report)?,
                maps::max_margin(report)?,
                maps::spectrum(report)?,
                maps::predicted_grams(report)?,
                maps::concepts(report)?,
            ],
        },
        Chapter {
            id: "path",
            title: "Path",
            question: "With a penalty on words and contexts there is one solution; where does it go as the penalty goes?",
            figures: path::figures(report)?,
        },
    ];
    if !report.networks.is_empty() {
        chapters.push(Chapter {
            id: "networks",
            title: "Networks",
            question: "Do networks trained on these contexts take the predicted shape, and how far beyond chance?",
            figures: training::figures(report)?,
        });
    }
    let figures = chapters.iter().flat_map(|c| &c.figures);
    let tables: Vec<Table> = figures.map(|f| f.table.clone()).collect();
    Ok(Rendered {
        html: page::page(report, &chapters),
        json: to_json(report)?,
        tables: tables
            .into_iter()
            .map(|t| (t.name.to_string(), t.text))
            .collect(),
    })
}
