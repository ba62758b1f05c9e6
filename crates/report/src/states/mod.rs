//! Lens 3: what states know beyond the next token, and whether they line up with what follows.

mod ahead;
mod alignment;
mod along;
mod draft;
mod similarity;
mod stochasticity;

use serde_json::{Value, json};

use self::ahead::ahead;
use self::alignment::alignment;
use self::along::along;
use self::draft::draft;
use self::similarity::similarity;
use self::stochasticity::stochasticity;
use crate::ReportError;
use crate::data::Report;
use crate::figure::Figure;

pub(crate) fn figures(report: &Report) -> Result<Vec<Figure>, ReportError> {
    let mut figures = Vec::new();
    figures.extend(ahead(report)?);
    figures.extend(draft(report)?);
    figures.push(alignment(report)?);
    figures.push(stochasticity(report)?);
    figures.push(similarity(report)?);
    figures.extend(along(report)?);
    Ok(figures)
}

/// Error bars for a trace.
fn with_bars(mut trace: Value, errors: &[f64], color: &str) -> Value {
    let bars =
        json!({"type": "data", "array": errors, "color": color, "thickness": 1.5, "width": 4});
    trace["error_y"] = bars;
    trace
}

fn on_second(mut trace: Value) -> Value {
    trace["xaxis"] = json!("x2");
    trace["yaxis"] = json!("y2");
    trace
}

/// Two panels side by side.
fn panels(left: [Value; 2], right: [Value; 2]) -> Value {
    let [mut x, y] = left;
    let [mut x2, mut y2] = right;
    x["domain"] = json!([0.0, 0.43]);
    x2["domain"] = json!([0.58, 1.0]);
    x2["anchor"] = json!("y2");
    y2["anchor"] = json!("x2");
    json!({
        "xaxis": x, "yaxis": y, "xaxis2": x2, "yaxis2": y2, "legend": {"orientation": "h", "y": 1.18},
    })
}
