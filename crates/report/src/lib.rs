//! Figures and HTML out of Lawvere's results: one page that explains what was found.
//!
//! [`render`] turns a [`Report`] into a self-contained HTML page, a JSON file and one CSV file a
//! figure. It computes no result; it only says and draws what the numbers are. Corpus text is
//! hostile to it: nothing a corpus holds becomes markup, script or formula.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod collapse;
mod data;
mod density;
mod figure;
mod fisher;
mod geometry;
mod implicit;
mod information;
mod json;
mod log_odds;
mod metric;
mod number;
mod page;
mod predictions;
mod running;
mod spaces;
mod states;
mod table;
mod text;
mod truth;

pub use data::{
    CorpusFacts, DraftPage, ExactAhead, GeometryPage, InformationPage, LanguageFacts, MetricPage,
    ModelFacts, Predictions, Provenance, Report, RunningText, StatesPage, Text, TrainingFacts,
    TrainingPoint, TrueGeometry, TrueInformation, TrueMetric, Truth,
};
pub use implicit::{
    CurvePoint, ImplicitProvenance, ImplicitReport, Map, NetworkRun, PathMatch, PatternFacts,
    render_implicit,
};
pub use json::to_json;
pub use spaces::{
    BeginningPair, Beginnings, SpacesPage, TextTree, TextsWithin, TreePart, TreeText,
};

use page::Chapter;
use table::Table;

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A result that is no JSON.
    #[error("the report's JSON could not be written: {0}")]
    Json(#[from] serde_json::Error),
    /// A table that is no CSV.
    #[error("a table of the report could not be written: {0}")]
    Csv(#[from] csv::Error),
}

/// A report as files, not yet written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// One self-contained page: it needs no network and no other file.
    pub html: String,
    /// The [`Report`] as indented JSON; infinities are the strings `"inf"` and `"-inf"`.
    pub json: String,
    /// Names and contents of CSV files: the data of every figure (also linked from the page), and
    /// what is too long for the page.
    pub tables: Vec<(String, String)>,
}

/// Writes a report as a page, JSON and tables. Cost: linear in the report.
///
/// # Errors
/// [`ReportError`], if a result cannot be serialised.
pub fn render(report: &Report) -> Result<Rendered, ReportError> {
    let chapters = [
        Chapter {
            id: "metric",
            title: "Distances",
            question: "How far is one text from another, when distance is −log of the probability of getting there, and \
                       does the model place texts where the corpus does?",
            figures: metric::figures(report)?,
        },
        Chapter {
            id: "geometry",
            title: "Geometry",
            question: "Which token may follow which context forces a shape on what training learns. What shape is it, and \
                       has this model taken it?",
            figures: geometry::figures(report)?,
        },
        Chapter {
            id: "information",
            title: "Information",
            question: "How far are the model's predictions from the corpus, how sure are they, and what does a hidden \
                       state say about the next token?",
            figures: information::figures(report)?,
        },
        Chapter {
            id: "states",
            title: "States",
            question: "What does a hidden state know beyond the next token, does it line up with what the data say \
                       follows, and what would drafting from it gain?",
            figures: states::figures(report)?,
        },
    ];
    let figures = chapters.iter().flat_map(|c| &c.figures);
    let mut tables: Vec<Table> = figures.map(|f| f.table.clone()).collect();
    tables.push(Table::new(
        "concepts.csv",
        &["rank", "singular_value", "kind", "id", "text", "coordinate"],
        geometry::concept_rows(report),
    )?);
    tables.push(log_odds::log_odds_entries(report)?);
    tables.push(Table::new(
        "directions.csv",
        &[
            "rank",
            "eigenvalue",
            "effect",
            "token_id",
            "token",
            "logit_change",
        ],
        fisher::direction_rows(report),
    )?);
    let truth = truth::table(report)?;
    tables.extend(truth.clone());
    Ok(Rendered {
        html: page::page(report, &chapters, truth.as_ref()),
        json: to_json(report)?,
        tables: tables
            .into_iter()
            .map(|t| (t.name.to_string(), t.text))
            .collect(),
    })
}

impl Report {
    /// The text of a token.
    fn token(&self, id: u32) -> String {
        self.token_labels
            .get(&id)
            .cloned()
            .unwrap_or_else(|| format!("#{id}"))
    }

    /// The text of a context.
    fn context(&self, row: usize) -> String {
        self.context_labels
            .get(row)
            .cloned()
            .unwrap_or_else(|| format!("context {row}"))
    }
}
