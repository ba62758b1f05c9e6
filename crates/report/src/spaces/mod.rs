//! Lens 1: small spaces of texts of the corpus, drawn whole.

mod beginnings;
mod data;
mod parts;
mod rays;
mod tree;
mod yoneda;

pub use data::{BeginningPair, Beginnings, SpacesPage, TextTree, TextsWithin, TreePart, TreeText};

use crate::ReportError;
use crate::data::Report;
use crate::figure::Figure;

pub(crate) fn figures(report: &Report) -> Result<Vec<Figure>, ReportError> {
    let page = &report.metric.spaces;
    let mut figures = Vec::new();
    if let Some(found) = page.tree.as_ref().filter(|t| t.texts.len() > 1) {
        figures.push(tree::tree(found)?);
        figures.push(rays::rays(found)?);
    }
    if let Some(found) = page.within.as_ref().filter(|w| !w.texts.is_empty()) {
        figures.push(yoneda::yoneda(found)?);
        figures.extend(parts::parts(found)?);
    }
    if let Some(found) = page.beginnings.as_ref().filter(|b| !b.pairs.is_empty()) {
        figures.push(beginnings::beginnings(found)?);
    }
    Ok(figures)
}
