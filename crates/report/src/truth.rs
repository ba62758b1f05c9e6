//! What is exactly true, beside what was estimated: the table at the top of the page.

use lawvere_information::DifferenceErrors;
use maud::{Markup, html};

use crate::ReportError;
use crate::data::{Report, Truth};
use crate::figure::surety;
use crate::number::{as_sure, count, figure, fixed, percent, plural, size, with_error};
use crate::table::{Table, cell, optional};
use crate::text::visible;

/// The share of intervals of two standard errors that cover the truth, where errors are normal.
const COVERED: f64 = 0.9545;
/// How far a share may be from [`COVERED`] however many intervals there are.
const SLACK: f64 = 0.02;

/// How a row's numbers are written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Number,
    Count,
    Share,
}

/// One quantity, estimated and exact.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    quantity: String,
    /// Where the estimate comes from, and which way it is biased.
    source: String,
    estimate: f64,
    error: Option<f64>,
    /// The standard error of estimate minus exact value.
    difference_error: Option<f64>,
    exact: f64,
    kind: Kind,
    /// Whether the estimate, its bias aside, is one of the exact value: only then may errors cover it.
    judged: bool,
    /// What to say of the difference, where it is not the errors that judge it.
    remark: Option<String>,
}

impl Row {
    fn new(quantity: &str, source: &str, estimate: f64, error: Option<f64>, exact: f64) -> Self {
        Self {
            quantity: quantity.into(),
            source: source.into(),
            estimate,
            error,
            difference_error: error,
            exact,
            kind: Kind::Number,
            judged: true,
            remark: None,
        }
    }

    fn of(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    fn judged_by(mut self, error: Option<f64>) -> Self {
        self.difference_error = error;
        self
    }

    /// A row in which estimate and exact value differ by more than chance.
    fn apart(mut self) -> Self {
        self.judged = false;
        self
    }

    fn saying(mut self, remark: impl Into<String>) -> Self {
        self.remark = Some(remark.into());
        self
    }

    fn difference(&self) -> f64 {
        if self.estimate == self.exact {
            0.0
        } else {
            self.estimate - self.exact
        }
    }

    fn covered(&self) -> Option<bool> {
        let off = errors_off(self.estimate, self.difference_error, self.exact)?;
        self.judged.then_some(off.abs() <= 2.0)
    }

    fn show(&self, x: f64) -> String {
        match self.kind {
            Kind::Number if x == 0.0 => "0".into(),
            Kind::Number => as_sure(x, self.error),
            Kind::Count if x >= 0.0 && x.is_finite() => size(x.round() as usize),
            Kind::Count => figure(x),
            Kind::Share => percent(x, 1.0),
        }
    }

    fn show_difference(&self) -> String {
        let d = self.difference();
        let sign = if d > 0.0 { "+" } else { "" };
        match self.kind {
            Kind::Number => format!("{sign}{}", as_sure(d, self.difference_error)),
            Kind::Count => format!("{sign}{}", figure(d)),
            Kind::Share => format!("{sign}{} points", fixed(100.0 * d, 1)),
        }
    }

    fn verdict(&self) -> String {
        if let Some(remark) = &self.remark {
            return remark.clone();
        }
        match errors_off(self.estimate, self.difference_error, self.exact) {
            Some(off) if off.abs() <= 2.0 => "within 2 standard errors".into(),
            Some(off) => format!(
                "{} standard errors {}",
                multiple(off),
                if off > 0.0 { "above" } else { "below" }
            ),
            None if self.difference_error == Some(0.0) && self.difference() == 0.0 => {
                "equal".into()
            }
            None => "–".into(),
        }
    }
}

/// By how many of its standard errors an estimate is above the exact value; none without an error.
fn errors_off(estimate: f64, error: Option<f64>, exact: f64) -> Option<f64> {
    let error = error.filter(|e| *e > 0.0 && e.is_finite())?;
    let off = (estimate - exact) / error;
    off.is_finite().then_some(off)
}

/// A number of standard errors, two or more.
fn multiple(off: f64) -> String {
    let size = off.abs();
    match size {
        // To one decimal this would be the two that it is over.
        x if x > 2.0 && x < 2.05 => "just over 2".into(),
        x if x < 10.0 => fixed(x, 1),
        x => count(x.round().min(1e15) as u64),
    }
}

/// Where an estimate is, seen from the exact value: `within two standard errors of it`,
/// `0.120 below it, 3.4 standard errors`.
pub(crate) fn off(estimate: f64, error: Option<f64>, exact: f64) -> String {
    if estimate == exact {
        return "equal to it".into();
    }
    let side = if estimate > exact { "above" } else { "below" };
    let by = as_sure((estimate - exact).abs(), error);
    match errors_off(estimate, error, exact) {
        Some(off) if off.abs() <= 2.0 => format!("{by} {side} it, within two standard errors"),
        Some(off) => format!("{by} {side} it, {} standard errors", multiple(off)),
        None => format!("{by} {side} it"),
    }
}

/// Whether a share of intervals of two standard errors is what it should be.
pub(crate) fn coverage(within: usize, of: usize) -> &'static str {
    let share = within as f64 / of.max(1) as f64;
    let noise = 2.0 * (COVERED * (1.0 - COVERED) / of.max(1) as f64).sqrt();
    if (share - COVERED).abs() <= noise.max(SLACK) {
        "about the 95% that errors of the right size give"
    } else if share < COVERED {
        "fewer than the 95% that errors of the right size give"
    } else {
        "more than the 95% that errors of the right size give: the errors are too large"
    }
}

/// The rows of the table, lens by lens.
fn rows(report: &Report, truth: &Truth) -> [(&'static str, Vec<Row>); 3] {
    [
        ("Distances", metric_rows(report, truth)),
        ("Geometry", geometry_rows(report, truth)),
        ("Information", information_rows(report, truth)),
    ]
}

fn metric_rows(report: &Report, truth: &Truth) -> Vec<Row> {
    let (c, t) = (&report.metric.comparison, &truth.metric);
    if c.edges == 0 || t.corpus.uncertain == 0 {
        return Vec::new();
    }
    let within = t.corpus.within_two_errors as f64 / t.corpus.uncertain as f64;
    vec![
        Row::new(
            "Corpus distances within two standard errors of the exact ones",
            "corpus; the nominal share is the exact one for normal errors",
            within,
            None,
            COVERED,
        )
        .of(Kind::Share)
        .apart()
        .saying(coverage(t.corpus.within_two_errors, t.corpus.uncertain)),
        Row::new(
            "Mean absolute difference of the model's distances, nats",
            "from the corpus's; exact: from the exact ones",
            c.mean_absolute,
            None,
            t.model.mean_absolute,
        )
        .apart()
        .saying(nearer(c.mean_absolute, t.model.mean_absolute)),
        Row::new(
            "Rank correlation of the model's distances",
            "with the corpus's; exact: with the exact ones",
            c.rank_correlation,
            None,
            t.model.rank_correlation,
        )
        .apart(),
    ]
}

fn nearer(corpus: f64, exact: f64) -> &'static str {
    if exact < 0.95 * corpus {
        "the model is nearer the language than the corpus"
    } else if exact > 1.05 * corpus {
        "the model is nearer the corpus than the language"
    } else {
        "about as near both"
    }
}

fn geometry_rows(report: &Report, truth: &Truth) -> Vec<Row> {
    let (page, t) = (&report.geometry, &truth.geometry);
    let entries = t.summary.entries.max(1) as f64;
    let unseen = if t.unseen_mass > 0.0 {
        format!(
            "unseen next tokens have probability {}",
            figure(t.unseen_mass)
        )
    } else {
        "none is unseen".into()
    };
    let mut rows = vec![
        Row::new(
            "Mean size of a support, tokens",
            "corpus; supports grow with it",
            page.summary.mean_support,
            None,
            t.summary.mean_support,
        )
        .apart(),
        Row::new(
            "Entries of all supports",
            "corpus",
            page.summary.entries as f64,
            None,
            t.summary.entries as f64,
        )
        .of(Kind::Count)
        .apart()
        .saying(format!(
            "{} of the exact ones seen; {unseen}",
            percent(t.seen as f64, entries)
        )),
    ];
    if let (Some(&estimate), Some(&exact)) = (
        page.spectrum.singular_values.first(),
        t.spectrum.singular_values.first(),
    ) {
        rows.push(
            Row::new(
                "Leading singular value of the centred supports",
                "corpus",
                estimate,
                None,
                exact,
            )
            .apart(),
        );
    }
    if let (Some(observed), Some(exact)) = (page.collapse.last(), t.collapse.last()) {
        rows.push(
            Row::new(
                "Collapse: mean cosine of contexts with equal supports less that of others",
                &format!(
                    "model, layer {}, by observed supports; exact: by exact ones",
                    observed.layer
                ),
                observed.within - observed.between,
                None,
                exact.within - exact.between,
            )
            .apart(),
        );
    }
    let (o, e) = (&page.log_odds, &t.log_odds);
    let against = "model, against the corpus's log-odds; exact: against the exact ones";
    rows.push(
        Row::new(
            "Log-odds: correlation",
            against,
            o.correlation,
            o.correlation_error,
            e.correlation,
        )
        .apart(),
    );
    rows.push(Row::new("Log-odds: slope", against, o.slope, o.slope_error, e.slope).apart());
    rows
}

fn information_rows(report: &Report, truth: &Truth) -> Vec<Row> {
    let (page, t) = (&report.information, &truth.information);
    let (l, e) = (&page.likelihood, &t.likelihood);
    let running = &page.running.likelihood;
    let rate = truth.language.entropy_rate;
    let paired = |error: fn(&DifferenceErrors) -> f64| t.difference_errors.as_ref().map(error);
    let mut rows = vec![
        Row::new(
            "Conditional entropy H of the contexts, nats",
            "corpus, plug-in: biased low",
            l.entropy,
            l.entropy_error,
            e.entropy,
        )
        .judged_by(paired(|d| d.entropy))
        .apart(),
        Row::new(
            "The model's cross-entropy on them, nats",
            match report.model.training {
                Some(_) => "corpus and model, which was trained on it: biased low",
                None => "corpus and model",
            },
            l.cross_entropy,
            l.cross_entropy_error,
            e.cross_entropy,
        )
        .judged_by(paired(|d| d.cross_entropy)),
        Row::new(
            "KL of the model from the next token's law, nats",
            "from the corpus's law, plug-in: biased high; exact: from k_true",
            l.divergence,
            l.divergence_error,
            e.divergence,
        )
        .judged_by(paired(|d| d.divergence))
        .apart(),
    ];
    if let Some(last) = page.readings.last() {
        rows.push(
            Row::new(
                "Information about the next token, nats",
                &format!(
                    "I(S;W) of the model's states at layer {}; exact: I(X;W) of the contexts under k_true",
                    last.layer
                ),
                last.information,
                last.information_error,
                t.information,
            )
            .apart(),
        );
    }
    rows.extend([
        Row::new(
            "Entropy rate, nats a symbol",
            "the loss of k_true itself on running text",
            t.running_loss,
            Some(t.running_loss_error),
            rate,
        ),
        Row::new(
            "Entropy rate, nats a symbol",
            "the model's loss there: biased high by its gap",
            running.cross_entropy,
            running.cross_entropy_error,
            rate,
        )
        .apart(),
        Row::new(
            "The model's gap to k_true on running text, nats a symbol",
            "same positions; exact: the least possible in expectation",
            t.gap,
            Some(t.gap_error),
            0.0,
        )
        .apart()
        .saying(match errors_off(t.gap, Some(t.gap_error), 0.0) {
            Some(z) if z > 2.0 => format!("{} standard errors above", multiple(z)),
            Some(z) if z < -2.0 => format!(
                "{} standard errors below: chance, or text it has seen",
                multiple(z)
            ),
            Some(_) => "no gap to be seen within 2 standard errors".into(),
            None => "–".into(),
        }),
    ]);
    rows
}

/// How far above k_true the model's loss is, in words.
fn gap(report: &Report, truth: &Truth) -> String {
    let t = &truth.information;
    let loss = &report.information.running.likelihood;
    let amount = with_error(t.gap.abs(), Some(t.gap_error));
    let verdict = match errors_off(t.gap, Some(t.gap_error), 0.0) {
        Some(z) if z > 2.0 => format!("{amount} more than k_true itself"),
        Some(z) if z < -2.0 => format!(
            "{amount} less than k_true itself, which only chance or text it was trained on allows"
        ),
        Some(_) => format!(
            "as much as k_true itself within two standard errors (difference {})",
            with_error(t.gap, Some(t.gap_error))
        ),
        None => format!(
            "{} {} than k_true itself",
            figure(t.gap.abs()),
            if t.gap < 0.0 { "less" } else { "more" }
        ),
    };
    format!(
        "On running text the model loses {} nats a symbol, {verdict} on the same positions; the entropy rate of the \
         language, the least that any model can lose in expectation, is {}.",
        with_error(loss.cross_entropy, loss.cross_entropy_error),
        figure(truth.language.entropy_rate),
    )
}

/// The table of all estimates that have an exact value.
pub(crate) fn section(report: &Report, table: &Table) -> Option<Markup> {
    let truth = report.truth.as_ref()?;
    let lenses = rows(report, truth);
    let judged: Vec<(&Row, bool)> = lenses
        .iter()
        .flat_map(|l| &l.1)
        .filter_map(|row| Some((row, row.covered()?)))
        .collect();
    let further: Vec<String> = judged
        .iter()
        .filter(|(_, covered)| !covered)
        .map(|(row, _)| format!("{} ({})", row.quantity, row.source))
        .collect();
    let covered = judged.len() - further.len();
    let errors = match (judged.len(), covered) {
        (0, _) => "No estimate has a standard error to judge it by.".to_string(),
        (n, k) if n == k => format!(
            "The {} below that have a standard error and estimate their exact value are all within two of it.",
            plural(n, "number")
        ),
        (n, k) => format!(
            "Of the {} below that have a standard error and estimate their exact value, {} within two of it; further \
             off: {}.",
            plural(n, "number"),
            match k {
                0 => "none is".to_string(),
                1 => "1 is".to_string(),
                k => format!("{} are", size(k)),
            },
            further.join("; "),
        ),
    };
    Some(html! {
        section id="truth" {
            h2 { "Against the truth" }
            p.sentence {
                "The corpus was drawn from " (visible(&truth.language.name)) ", a language whose law of the next token, \
                 k_true, is known exactly: every estimate can be held against its exact value. "
                (gap(report, truth)) " " (errors)
            }
            div.wide tabindex="0" role="region" aria-label="Against the truth" {
                table.truth {
                    thead { tr {
                        th scope="col" { "quantity" }
                        th.n scope="col" { "estimate" }
                        th.n.exact scope="col" { "exact" }
                        th.n scope="col" { "difference" }
                        th scope="col" { "the estimate is" }
                    } }
                    @for (lens, rows) in &lenses {
                        @if !rows.is_empty() {
                            tbody {
                                tr { th colspan="5" scope="rowgroup" { (lens) } }
                                @for row in rows { tr {
                                    td { (row.quantity) span { (row.source) } }
                                    td.n { (shown(row)) }
                                    td.n.exact { (row.show(row.exact)) }
                                    td.n { (row.show_difference()) }
                                    td { (row.verdict()) }
                                } }
                            }
                        }
                    }
                }
            }
            div.notes {
                p { b { "How to read it. " } "Exact values are computed from the language's transitions for the same contexts \
                    and weights, with nothing sampled. " (surety(report.information.likelihood.entropy_error)) " For running \
                    text it takes documents as independent. A bias is not in the error. In figures, what is exact has one \
                    colour, dashes and open diamonds." }
                div.links { a href=(table.data_uri()) download=(table.name) { "data (CSV)" } }
            }
        }
    })
}

fn shown(row: &Row) -> String {
    match row.kind {
        Kind::Number => with_error(row.estimate, row.error),
        _ => row.show(row.estimate),
    }
}

/// `truth.csv`, where the language is known.
pub(crate) fn table(report: &Report) -> Result<Option<Table>, ReportError> {
    let Some(truth) = &report.truth else {
        return Ok(None);
    };
    let lenses = rows(report, truth);
    let rows = lenses.iter().flat_map(|(lens, rows)| {
        rows.iter().map(|row| {
            vec![
                lens.to_string(),
                row.quantity.clone(),
                row.source.clone(),
                cell(row.estimate),
                optional(row.error),
                cell(row.exact),
                cell(row.difference()),
                row.verdict(),
            ]
        })
    });
    Table::new(
        "truth.csv",
        &[
            "lens",
            "quantity",
            "source",
            "estimate",
            "standard_error",
            "exact",
            "difference",
            "verdict",
        ],
        rows,
    )
    .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_judged_by_its_own_error() {
        let row = Row::new("H", "corpus", 2.231, Some(0.0123), 2.25);
        assert_eq!(row.covered(), Some(true));
        assert_eq!(row.verdict(), "within 2 standard errors");
        assert_eq!(row.show_difference(), "−0.019");
        let far = Row::new("H", "corpus", 2.231, Some(0.0123), 2.2557);
        assert_eq!(far.covered(), Some(false));
        assert_eq!(far.verdict(), "just over 2 standard errors below");
        assert_eq!(far.apart().covered(), None);
        assert_eq!(Row::new("σ", "corpus", 2.0, None, 1.0).verdict(), "–");
    }

    #[test]
    fn what_is_not_finite_is_not_judged() {
        let row = Row::new("CE", "model", f64::INFINITY, Some(0.1), f64::INFINITY);
        assert_eq!((row.covered(), row.difference()), (None, 0.0));
        assert_eq!(off(f64::INFINITY, None, 1.0), "∞ above it");
    }

    #[test]
    fn coverage_allows_for_few_intervals() {
        assert!(coverage(18, 20).starts_with("about"));
        assert!(coverage(850, 1000).starts_with("fewer"));
        assert!(coverage(1000, 1000).starts_with("more"));
        assert!(coverage(955, 1000).starts_with("about"));
    }
}
