//! Whether the states of contexts that share a support point the same way.

use lawvere_geometry::LayerCollapse;
use maud::html;
use serde_json::{Value, json};

use crate::ReportError;
use crate::data::Report;
use crate::figure::{Chart, Figure, axis, exact_line, line};
use crate::number::{cosine, fixed, plural};
use crate::table::{Table, cell, optional};

/// What the collapse curves say. `Partly` and `Beyond` carry the mean cosines of pairs with equal
/// and with different supports, both among pairs with different last tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict<'a> {
    NoStates,
    TooFewPairs(&'a LayerCollapse),
    NotVisible(&'a LayerCollapse),
    LastTokenUntested(&'a LayerCollapse),
    LastToken(&'a LayerCollapse),
    Partly(&'a LayerCollapse, f64, f64),
    Beyond(&'a LayerCollapse, f64, f64),
}

/// Collapse is visible where `within` exceeds both `between` and the shuffled control by three
/// standard deviations; it is more than shared last tokens where that gap stays without them.
pub(crate) fn verdict(layers: &[LayerCollapse]) -> Verdict<'_> {
    let visible = |l: &LayerCollapse| {
        let control = l.shuffled.max(l.between);
        l.within > control + 3.0 * l.shuffled_deviation
    };
    let gap = |l: &LayerCollapse| l.within - l.between;
    let others = |l: &LayerCollapse| Some((l.within_other_last?, l.between_other_last?));
    let other_gap = |l: &LayerCollapse| others(l).map_or(f64::NEG_INFINITY, |(a, b)| a - b);
    let Some(last) = layers.last() else {
        return Verdict::NoStates;
    };
    if last.within_pairs < FEWEST_PAIRS {
        return Verdict::TooFewPairs(last);
    }
    let seen: Vec<&LayerCollapse> = layers.iter().filter(|l| visible(l)).collect();
    let widest = |f: &dyn Fn(&LayerCollapse) -> f64| {
        seen.iter().copied().max_by(|a, b| f(a).total_cmp(&f(b)))
    };
    let Some(best) = widest(&gap) else {
        return Verdict::NotVisible(last);
    };
    let Some(best_other) = widest(&other_gap).filter(|l| others(l).is_some()) else {
        return Verdict::LastTokenUntested(best);
    };
    // Fewer pairs scatter more.
    let fewer = best_other.within_pairs as f64 / best_other.within_other_last_pairs.max(1) as f64;
    let noise = 3.0 * best_other.shuffled_deviation * fewer.max(1.0).sqrt();
    match others(best_other) {
        Some((a, b)) if a - b <= noise => Verdict::LastToken(best),
        Some((a, b)) if a - b < 0.5 * gap(best_other) => Verdict::Partly(best_other, a, b),
        Some((a, b)) => Verdict::Beyond(best_other, a, b),
        None => Verdict::LastTokenUntested(best),
    }
}

/// With fewer pairs of equal supports a mean cosine says nothing either way.
const FEWEST_PAIRS: u64 = 30;

/// A difference of mean cosines below which an effect, however certain, is called faint.
const FAINT: f64 = 0.05;

fn control(l: &LayerCollapse) -> String {
    format!(
        "the shuffled control is {} ± {}",
        fixed(l.shuffled, 3),
        fixed(l.shuffled_deviation, 3)
    )
}

fn collapse_prose(layers: &[LayerCollapse]) -> (String, Vec<String>) {
    let against = |l: &LayerCollapse| {
        format!(
            "mean cosine {} for pairs of contexts with equal supports against {} for other pairs, at layer {}; {}",
            cosine(l.within),
            cosine(l.between),
            l.layer,
            control(l)
        )
    };
    let (heading, mut sentences) = match verdict(layers) {
        Verdict::NoStates => {
            return (
                "No hidden states were kept, so collapse was not measured".into(),
                Vec::new(),
            );
        }
        Verdict::TooFewPairs(l) => {
            return (
                "Too few contexts share a support to tell whether their states collapse".into(),
                vec![format!(
                    "{} of contexts have equal supports; a mean cosine needs at least {FEWEST_PAIRS} to say anything.",
                    plural(l.within_pairs as usize, "pair")
                )],
            );
        }
        Verdict::NotVisible(l) => (
            "Collapse is not visible: equal supports do not align states",
            vec![format!(
                "At no layer do equal supports align states beyond chance: {}.",
                against(l)
            )],
        ),
        Verdict::LastTokenUntested(l) => (
            "States of contexts that share a support point the same way, as do those that share a last token",
            vec![
                format!("There is alignment: {}.", against(l)),
                "But all pairs with equal supports also end in the same token, so the two causes cannot be told apart."
                    .into(),
            ],
        ),
        Verdict::LastToken(l) => (
            "Alignment of contexts that share a support is explained by their last tokens",
            vec![
                format!("There is alignment: {}.", against(l)),
                format!(
                    "But among pairs that end in different tokens it vanishes: {} with equal supports against {} with \
                     different ones.",
                    cosine(l.within_other_last.unwrap_or(f64::NAN)),
                    cosine(l.between_other_last.unwrap_or(f64::NAN)),
                ),
            ],
        ),
        Verdict::Partly(l, a, b) => (
            "States of contexts that share a support point the same way, mostly because they share a last token",
            vec![
                format!("There is alignment: {}.", against(l)),
                format!(
                    "Among pairs that end in different tokens the difference is smaller but remains: {} against {} \
                     ({} such pairs with equal supports).",
                    cosine(a),
                    cosine(b),
                    crate::number::count(l.within_other_last_pairs),
                ),
            ],
        ),
        Verdict::Beyond(l, a, b) => (
            "States of contexts that share a support point the same way",
            vec![
                format!("There is alignment: {}.", against(l)),
                format!(
                    "Sharing a last token does not explain it: among pairs that end in different tokens it is {} \
                     against {} ({} such pairs with equal supports).",
                    cosine(a),
                    cosine(b),
                    crate::number::count(l.within_other_last_pairs),
                ),
            ],
        ),
    };
    let strength = match verdict(layers) {
        Verdict::NoStates | Verdict::TooFewPairs(_) | Verdict::NotVisible(_) => None,
        Verdict::LastTokenUntested(l)
        | Verdict::LastToken(l)
        | Verdict::Partly(l, ..)
        | Verdict::Beyond(l, ..) => Some(l.within - l.between),
    };
    let heading = match strength {
        Some(x) if x < FAINT => format!(
            "A faint effect: {}{}",
            heading[..1].to_lowercase(),
            &heading[1..]
        ),
        _ => heading.to_string(),
    };
    if let (Some(last), true) = (layers.last(), layers.len() > 1) {
        let same = last.between_same_last.map_or_else(String::new, |x| {
            format!(
                "; pairs that share only the last token are at {}",
                cosine(x)
            )
        });
        sentences.push(format!(
            "At the last layer, {}, where the theory places collapse, it is {} against {}{same}.",
            last.layer,
            cosine(last.within),
            cosine(last.between)
        ));
    }
    (heading, sentences)
}

/// Collapse by exact supports beside that by observed ones, in words.
fn exact_prose(observed: &[LayerCollapse], exact: &[LayerCollapse]) -> Vec<String> {
    let (Some(o), Some(e)) = (observed.last(), exact.last()) else {
        return Vec::new();
    };
    if e.within_pairs < FEWEST_PAIRS {
        return vec![format!(
            "By exact supports only {} of contexts {} equal ones, too few to compare.",
            plural(e.within_pairs as usize, "pair"),
            if e.within_pairs == 1 { "has" } else { "have" },
        )];
    }
    let change = (e.within - e.between) - (o.within - o.between);
    let says = if change.abs() < 0.02 {
        "as observed ones do"
    } else if change > 0.0 {
        "more than observed ones do"
    } else {
        "less than observed ones do"
    };
    let mut sentences = vec![format!(
        "By exact supports ({} with equal ones, {} by observed) the mean cosine at layer {} is {} against {}: exact \
         supports part the states {says}.",
        plural(e.within_pairs as usize, "pair"),
        crate::number::count(o.within_pairs),
        e.layer,
        cosine(e.within),
        cosine(e.between),
    )];
    let (by_observed, by_exact) = (verdict(observed), verdict(exact));
    if std::mem::discriminant(&by_observed) != std::mem::discriminant(&by_exact) {
        sentences.push(format!(
            "By exact supports the finding would be “{}”.",
            collapse_prose(exact).0
        ));
    }
    sentences
}

pub(crate) fn collapse(report: &Report) -> Result<Figure, ReportError> {
    let layers = &report.geometry.collapse;
    let (heading, mut sentences) = collapse_prose(layers);
    let exact = report
        .truth
        .as_ref()
        .map_or(&[][..], |t| &t.geometry.collapse);
    sentences.extend(exact_prose(layers, exact));
    let x: Vec<f64> = layers.iter().map(|l| l.layer as f64).collect();
    let of = |f: fn(&LayerCollapse) -> f64| layers.iter().map(f).collect::<Vec<f64>>();
    let maybe = |name: &str,
                 f: fn(&LayerCollapse) -> Option<f64>,
                 color: &str,
                 dash: &str|
     -> Option<Value> {
        let y: Vec<Option<f64>> = layers.iter().map(f).collect();
        y.iter().any(Option::is_some).then(|| {
            let mut trace = line(name, &x, &[], color, dash);
            trace["y"] = json!(y);
            trace
        })
    };
    let band = |name: &str, y: Vec<f64>, fill: Option<&str>| {
        json!({
            "type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": {"width": 0, "color": "@muted"},
            "fill": fill, "fillcolor": "@band", "showlegend": fill.is_some(), "hoverinfo": "skip",
        })
    };
    let mut data = vec![
        band(
            "lower",
            of(|l| l.shuffled - 3.0 * l.shuffled_deviation),
            None,
        ),
        band(
            "shuffled ± 3 sd",
            of(|l| l.shuffled + 3.0 * l.shuffled_deviation),
            Some("tonexty"),
        ),
        line("equal supports", &x, &of(|l| l.within), "@c1", "solid"),
        line("different supports", &x, &of(|l| l.between), "@c2", "solid"),
    ];
    data.extend(maybe(
        "equal supports, other last token",
        |l| l.within_other_last,
        "@c1",
        "dot",
    ));
    data.extend(maybe(
        "different supports, other last token",
        |l| l.between_other_last,
        "@c2",
        "dot",
    ));
    data.extend(maybe(
        "different supports, same last token",
        |l| l.between_same_last,
        "@c3",
        "dash",
    ));
    if !exact.is_empty() {
        let x: Vec<f64> = exact.iter().map(|l| l.layer as f64).collect();
        let of = |f: fn(&LayerCollapse) -> f64| exact.iter().map(f).collect::<Vec<f64>>();
        data.push(exact_line("equal supports, exact", &x, &of(|l| l.within)));
        let mut others = exact_line("different supports, exact", &x, &of(|l| l.between));
        others["opacity"] = json!(0.55);
        data.push(others);
    }
    let chart = (!layers.is_empty()).then(|| Chart {
        data: json!(data),
        layout: json!({
            "xaxis": axis("layer (0 is the embedding)"), "yaxis": axis("mean cosine"),
            "legend": {"orientation": "h", "y": -0.2, "traceorder": "normal"}, "hovermode": "x unified",
        }),
        height: 460,
    });
    let rows = layers.iter().map(|l| {
        let e = exact.iter().find(|e| e.layer == l.layer);
        vec![
            l.layer.to_string(),
            cell(l.within),
            cell(l.between),
            cell(l.shuffled),
            cell(l.shuffled_deviation),
            optional(l.within_other_last),
            optional(l.between_other_last),
            optional(l.between_same_last),
            l.within_pairs.to_string(),
            l.within_other_last_pairs.to_string(),
            optional(e.map(|e| e.within)),
            optional(e.map(|e| e.between)),
            optional(e.map(|e| e.shuffled)),
            optional(e.and_then(|e| e.within_other_last)),
            optional(e.and_then(|e| e.between_other_last)),
            e.map_or_else(String::new, |e| e.within_pairs.to_string()),
        ]
    });
    Ok(Figure {
        id: "collapse",
        heading,
        sentences,
        alt: format!(
            "Mean cosine of centred states by layer, for pairs of contexts with equal and with different supports, \
             with and without pairs that share their last token, and for shuffled supports{}.",
            if exact.is_empty() { "" } else { "; dashed with diamonds, by exact supports" }
        ),
        chart,
        more: html! {},
        estimate: "Subspace collapse: in the limit of training without regularisation, contexts with equal supports \
                   have states in one direction. Cosines are exact over all pairs, states centred on their mean. The \
                   band is the shuffled control, mean ± 3 standard deviations over shuffles; there is no standard error \
                   over corpora."
            .into(),
        caveat: "States late in a transformer resemble those of contexts with the same last token for many reasons; the \
                 dotted lines leave such pairs out. Equal observed supports are mostly small ones, often of a single \
                 token. The control deals supports at random, so it keeps their sizes but not their last tokens."
            .into(),
        table: Table::with_exact(
            "collapse.csv",
            &[
                "layer", "within", "between", "shuffled", "shuffled_deviation", "within_other_last",
                "between_other_last", "between_same_last", "within_pairs", "within_other_last_pairs",
            ],
            &[
                "exact_within", "exact_between", "exact_shuffled", "exact_within_other_last",
                "exact_between_other_last", "exact_within_pairs",
            ],
            report.truth.is_some(),
            rows,
        )?,
    })
}
