//! Lens 2: the pattern of supports, and whether the model has taken its shape.

use lawvere_geometry::{Concept, LayerCollapse};
use maud::{Markup, html};
use serde_json::{Value, json};

use crate::ReportError;
use crate::data::Report;
use crate::density::Density;
use crate::figure::{Chart, Figure, axis, line, log_axis, rule, surety};
use crate::number::{figure, fixed, nats_and_bits, percent, plural, signed, size, with_error};
use crate::table::{Table, cell, optional};
use crate::text::{label, plotly_text};

pub(crate) fn figures(report: &Report) -> Result<Vec<Figure>, ReportError> {
    Ok(vec![
        supports(report)?,
        support_sizes(report)?,
        concepts(report)?,
        collapse(report)?,
        log_odds(report)?,
    ])
}

/// The figure that [`highlight`] speaks of.
pub(crate) fn highlighted(report: &Report) -> &'static str {
    match verdict(&report.geometry.collapse) {
        Verdict::NoStates | Verdict::TooFewPairs(_) => "log-odds",
        _ => "collapse",
    }
}

/// The finding of this lens in one sentence, for the summary.
pub(crate) fn highlight(report: &Report) -> String {
    let page = &report.geometry;
    let odds = &page.log_odds;
    let log_odds = format!(
        "Where the corpus allows several tokens, the model's log-odds among them correlate with the corpus's at {}.",
        with_error(odds.correlation, odds.correlation_error)
    );
    match verdict(&page.collapse) {
        Verdict::NoStates | Verdict::TooFewPairs(_) => log_odds,
        Verdict::NotVisible(l) => format!(
            "Contexts with the same set of possible next tokens do not share a direction in the model's states \
             (mean cosine {} against {} for other pairs at layer {}).",
            cosine(l.within),
            cosine(l.between),
            l.layer,
        ),
        Verdict::LastToken(l) | Verdict::LastTokenUntested(l) => format!(
            "Contexts with the same set of possible next tokens share a direction at layer {} (mean cosine {} \
             against {}), but this {}.",
            l.layer,
            cosine(l.within),
            cosine(l.between),
            if l.within_other_last.is_some() {
                "is explained by their sharing a last token"
            } else {
                "cannot be told from their sharing a last token"
            },
        ),
        Verdict::Partly(l, other, rest) | Verdict::Beyond(l, other, rest) => format!(
            "Contexts with the same set of possible next tokens share a direction in the model's states: at layer \
             {} their mean cosine is {} against {} for other pairs, and {} against {} where the last tokens differ.",
            l.layer,
            cosine(l.within),
            cosine(l.between),
            cosine(other),
            cosine(rest),
        ),
    }
}

fn supports(report: &Report) -> Result<Figure, ReportError> {
    let map = &report.geometry.heatmap;
    let summary = &report.geometry.summary;
    let cells = summary.contexts as f64 * summary.vocabulary as f64;
    let shown = map.tokens.len() * map.contexts.len();
    let filled: usize = map
        .log10_probs
        .iter()
        .map(|r| r.iter().flatten().count())
        .sum();
    let heading = format!(
        "Of all pairs of context and token, {} occur",
        percent(summary.entries as f64, cells)
    );
    let sentence = format!(
        "{} contexts and {} tokens make {} possible pairs; the corpus has {} of them. Among the most frequent \
         contexts and the most widely supported tokens, shown here, {} are filled.",
        size(summary.contexts),
        size(summary.vocabulary),
        size(summary.contexts * summary.vocabulary),
        size(summary.entries),
        percent(filled as f64, shown as f64),
    );
    let token = |i: usize| report.token(map.tokens[i]);
    let context = |j: usize| report.context(map.contexts[j]);
    let every = |n: usize, most: usize| n.div_ceil(most).max(1);
    let ticks = |n: usize, most: usize, text: &dyn Fn(usize) -> String| {
        let places: Vec<usize> = (0..n).step_by(every(n, most)).collect();
        let labels: Vec<String> = places.iter().map(|&i| text(i)).collect();
        (places, labels)
    };
    let (y_places, y_labels) = ticks(map.tokens.len(), 42, &|i| plotly_text(&token(i), 14));
    let (x_places, x_labels) = ticks(map.contexts.len(), 30, &|j| plotly_text(&context(j), 20));
    let columns: Vec<String> = (0..map.contexts.len())
        .map(|j| plotly_text(&context(j), 60))
        .collect();
    let text: Vec<Vec<String>> = map
        .log10_probs
        .iter()
        .enumerate()
        .map(|(i, row)| {
            let token = plotly_text(&token(i), 30);
            row.iter()
                .zip(&columns)
                .map(|(p, context)| match p {
                    Some(p) => format!(
                        "{context} → <b>{token}</b><br>p = {}",
                        figure(10f64.powf(*p))
                    ),
                    None => String::new(),
                })
                .collect()
        })
        .collect();
    let chart = (shown > 0).then(|| Chart {
        data: json!([{
            "type": "heatmap", "z": map.log10_probs, "text": text, "hoverongaps": false,
            "hovertemplate": "%{text}<extra></extra>", "colorscale": "@seq", "xgap": 0.5, "ygap": 0.5,
            "colorbar": {"title": {"text": "log₁₀ p", "side": "top"}, "thickness": 12, "len": 0.6, "outlinewidth": 0},
        }]),
        layout: json!({
            "xaxis": {"title": {"text": "contexts, like supports together"}, "tickvals": x_places, "ticktext": x_labels,
                      "tickangle": -60, "tickfont": {"size": 10}, "automargin": true, "showgrid": false, "zeroline": false},
            "yaxis": {"title": {"text": "next tokens"}, "tickvals": y_places, "ticktext": y_labels, "autorange": "reversed",
                      "tickfont": {"size": 10}, "automargin": true, "showgrid": false, "zeroline": false},
        }),
        height: 640,
    });
    let rows = map.log10_probs.iter().enumerate().flat_map(|(i, row)| {
        row.iter().enumerate().filter_map(move |(j, p)| {
            p.map(|p| {
                vec![
                    map.tokens[i].to_string(),
                    token(i),
                    map.contexts[j].to_string(),
                    context(j),
                    cell(p),
                ]
            })
        })
    });
    Ok(Figure {
        id: "supports",
        heading,
        sentences: vec![sentence],
        alt: format!(
            "Heat map of log₁₀ next-token probability in the corpus, {} tokens by {} contexts; blank where the token \
             never follows the context.",
            size(map.tokens.len()),
            size(map.contexts.len())
        ),
        chart,
        more: html! {},
        estimate: "The support matrix S with the corpus's next-token probabilities in it. Probabilities are relative \
                   frequencies; no standard error is given for single cells."
            .into(),
        caveat: "These are observed supports: a larger corpus fills more cells, and never empties one. Ticks name only \
                 some rows and columns; hover names the rest."
            .into(),
        table: Table::new("supports.csv", &["token_id", "token", "context_row", "context", "log10_p"], rows)?,
    })
}

fn support_sizes(report: &Report) -> Result<Figure, ReportError> {
    let s = &report.geometry.summary;
    let share = s.deterministic as f64 / s.contexts.max(1) as f64;
    let heading = if share > 0.5 {
        format!(
            "Most contexts ({}) are followed by one token only",
            percent(share, 1.0)
        )
    } else if s.deterministic == 0 {
        format!(
            "Every context is followed by several tokens, {} at the median",
            size(s.median_support)
        )
    } else {
        format!(
            "At the median a context is followed by {}",
            plural(s.median_support, "different token")
        )
    };
    let shared = if s.sharing == 0 {
        "no two contexts have the same support".to_string()
    } else {
        format!(
            "{} contexts ({}) share their support with another",
            size(s.sharing),
            percent(s.sharing as f64, s.contexts as f64)
        )
    };
    let sentences = vec![
        format!(
            "m = {} contexts with n = {} occurrences and V = {} next tokens have a conditional entropy H of {}.",
            size(s.contexts),
            crate::number::count(s.samples),
            size(s.vocabulary),
            nats_and_bits(s.entropy, s.entropy_error),
        ),
        format!(
            "A support holds {} tokens on average, {} at the median and {} at most; {} contexts are deterministic, {} \
             every token in the support. There are {} distinct supports: {shared}.",
            figure(s.mean_support),
            size(s.median_support),
            size(s.largest_support),
            size(s.deterministic),
            if s.full == 0 {
                "none has".to_string()
            } else {
                format!("{} have", size(s.full))
            },
            size(s.classes),
        ),
    ];
    let x: Vec<f64> = s.sizes.iter().map(|p| p.0 as f64).collect();
    let y: Vec<f64> = s.sizes.iter().map(|p| p.1 as f64).collect();
    let chart = (!x.is_empty()).then(|| Chart {
        data: json!([{
            "type": "scatter", "mode": "markers", "x": x, "y": y, "showlegend": false,
            "marker": {"color": "@c1", "size": 6, "opacity": 0.7},
            "hovertemplate": "%{y} contexts with %{x} next tokens<extra></extra>",
        }]),
        layout: json!({"xaxis": log_axis("tokens in the support", &x), "yaxis": log_axis("contexts", &y)}),
        height: 340,
    });
    let rows = s
        .sizes
        .iter()
        .map(|(size, n)| vec![size.to_string(), n.to_string()]);
    Ok(Figure {
        id: "support-sizes",
        heading,
        sentences,
        alt: "How many contexts have a support of each size, both axes logarithmic.".into(),
        chart,
        more: html! {},
        estimate: format!(
            "Sizes of observed supports, and the empirical conditional entropy of the next token given the context. {}",
            surety(s.entropy_error)
        ),
        caveat: "The entropy is the plug-in estimate, biased low where a context was seen few times; that bias is not in \
                 its standard error. Supports grow with the corpus."
            .into(),
        table: Table::new("support-sizes.csv", &["support_size", "contexts"], rows)?,
    })
}

fn concepts(report: &Report) -> Result<Figure, ReportError> {
    let s = &report.geometry.spectrum;
    let values = &s.singular_values;
    let energy = |k: usize| values.iter().take(k).map(|v| v * v).sum::<f64>();
    let ten = values.len().min(10);
    let share = energy(ten) / s.energy.max(f64::MIN_POSITIVE);
    let heading = match (ten, share) {
        (0, _) => "The support pattern has no direction of its own".to_string(),
        (_, x) if x >= 0.5 => {
            format!(
                "{} hold {} of the support pattern",
                plural(ten, "direction"),
                percent(x, 1.0)
            )
        }
        (_, x) => format!(
            "The support pattern is spread out: {} hold {} of it",
            plural(ten, "direction"),
            percent(x, 1.0)
        ),
    };
    let sentence = format!(
        "Of the energy of the centred support matrix (the sum of its squared singular values, {}), the first direction \
         holds {}, the first {} hold {}, and the {} computed hold {}.",
        figure(s.energy),
        percent(energy(1), s.energy),
        ten,
        percent(energy(ten), s.energy),
        size(values.len()),
        percent(energy(values.len()), s.energy),
    );
    let x: Vec<f64> = (1..=values.len()).map(|k| k as f64).collect();
    let chart = (!values.is_empty()).then(|| Chart {
        data: json!([line("singular value", &x, values, "@c1", "solid")]),
        layout: json!({"xaxis": log_axis("rank", &x), "yaxis": log_axis("singular value", values), "showlegend": false}),
        height: 340,
    });
    let rows = values.iter().enumerate().map(|(k, v)| {
        vec![
            (k + 1).to_string(),
            cell(*v),
            cell(v * v / s.energy.max(f64::MIN_POSITIVE)),
        ]
    });
    Ok(Figure {
        id: "concepts",
        heading,
        sentences: if values.is_empty() { Vec::new() } else { vec![sentence] },
        alt: "The leading singular values of the centred support matrix, both axes logarithmic.".into(),
        chart,
        more: concept_table(report, &s.concepts),
        estimate: format!(
            "Singular values and vectors of S̃ = (I − 11ᵀ/V) S, the proxy of the max-margin logits; its leading \
             directions are the theory's “concepts”. Computed, not sampled: the largest residual |S̃v − σu| is {}. No \
             standard error is given.",
            figure(s.residual)
        ),
        caveat: "S̃ counts every context once, however rare, and is exactly the max-margin solution only under \
                 conditions that real corpora need not meet. Directions with near-equal singular values may mix. The \
                 sign of a direction is arbitrary: its largest token is put on the “along” side."
            .into(),
        table: Table::new("spectrum.csv", &["rank", "singular_value", "energy_share"], rows)?,
    })
}

/// The rows of `concepts.csv`.
pub(crate) fn concept_rows(report: &Report) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (k, c) in report.geometry.spectrum.concepts.iter().enumerate() {
        let mut push = |kind: &str, id: String, name: String, x: f64| {
            rows.push(vec![
                (k + 1).to_string(),
                cell(c.singular_value),
                kind.into(),
                id,
                name,
                cell(x),
            ]);
        };
        for &(t, x) in c.tokens.iter().chain(&c.opposite_tokens) {
            push("token", t.to_string(), report.token(t), x);
        }
        for &(j, x) in c.contexts.iter().chain(&c.opposite_contexts) {
            push("context", j.to_string(), report.context(j), x);
        }
    }
    rows
}

fn concept_table(report: &Report, concepts: &[Concept]) -> Markup {
    let tokens = |list: &[(u32, f64)]| -> Markup {
        html! { @for (t, _) in list { code { (label(&report.token(*t), 24)) } " " } @if list.is_empty() { "–" } }
    };
    let contexts = |list: &[(usize, f64)]| -> Markup {
        html! { @for (j, _) in list.iter().take(4) { code { (label(&report.context(*j), 32)) } " " } }
    };
    html! {
        @if !concepts.is_empty() {
            div.wide tabindex="0" role="region" aria-label="Leading concepts" {
                table.leading {
                    caption { "The leading concepts: tokens that follow the same contexts, and the contexts they follow" }
                    thead { tr {
                        th.n scope="col" { "σ" }
                        th scope="col" { "tokens along" }
                        th scope="col" { "tokens against" }
                        th scope="col" { "contexts along" }
                    } }
                    tbody { @for c in concepts {
                        tr {
                            td.n { (figure(c.singular_value)) }
                            td { (tokens(&c.tokens)) }
                            td { (tokens(&c.opposite_tokens)) }
                            td { (contexts(&c.contexts)) }
                        }
                    } }
                }
            }
        }
    }
}

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

/// A cosine, to two decimals.
fn cosine(x: f64) -> String {
    fixed(x, 2)
}

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

fn collapse(report: &Report) -> Result<Figure, ReportError> {
    let layers = &report.geometry.collapse;
    let (heading, sentences) = collapse_prose(layers);
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
    let chart = (!layers.is_empty()).then(|| Chart {
        data: json!(data),
        layout: json!({
            "xaxis": axis("layer (0 is the embedding)"), "yaxis": axis("mean cosine"),
            "legend": {"orientation": "h", "y": -0.2, "traceorder": "normal"}, "hovermode": "x unified",
        }),
        height: 460,
    });
    let rows = layers.iter().map(|l| {
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
        ]
    });
    Ok(Figure {
        id: "collapse",
        heading,
        sentences,
        alt: "Mean cosine of centred states by layer, for pairs of contexts with equal and with different supports, \
              with and without pairs that share their last token, and for shuffled supports."
            .into(),
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
        table: Table::new(
            "collapse.csv",
            &[
                "layer", "within", "between", "shuffled", "shuffled_deviation", "within_other_last",
                "between_other_last", "between_same_last", "within_pairs", "within_other_last_pairs",
            ],
            rows,
        )?,
    })
}

fn log_odds(report: &Report) -> Result<Figure, ReportError> {
    let o = &report.geometry.log_odds;
    let noise = 3.0 * o.correlation_error.unwrap_or(0.0);
    let follows = o.correlation > o.shuffled_correlation + noise.max(0.05);
    let slope_is = match o.slope_error {
        Some(e) if (o.slope - 1.0).abs() <= 2.0 * e => "which is 1 within two standard errors",
        _ if o.slope < 1.0 => "flatter than the corpus's",
        _ if o.slope > 1.0 => "steeper than the corpus's",
        _ => "exactly that of the corpus",
    };
    let heading = match (follows, o.correlation) {
        (false, _) => {
            "Among possible tokens, the model's odds do not follow the corpus's".to_string()
        }
        (true, r) if r >= 0.8 => {
            "Among possible tokens, the model's odds follow the corpus's closely".to_string()
        }
        (true, r) if r >= 0.5 => {
            "Among possible tokens, the model's odds follow the corpus's".to_string()
        }
        (true, _) => {
            "Among possible tokens, the model's odds follow the corpus's only loosely".to_string()
        }
    };
    let sentence = format!(
        "Over {} pairs of context and token, in {} contexts with at least two possible tokens, the model's centred \
         logits correlate with Lⁱⁿ at {}; with the corpus's odds dealt at random within each context the correlation is \
         {}. The slope through the origin is {}, {slope_is}.",
        size(o.entries),
        size(o.contexts),
        with_error(o.correlation, o.correlation_error),
        cosine(o.shuffled_correlation),
        with_error(o.slope, o.slope_error),
    );
    let points: Vec<(f64, f64, f64)> = o
        .points
        .iter()
        .map(|p| (p.corpus, p.model, p.weight))
        .collect();
    let density = Density::new(&points);
    let chart = density.as_ref().map(|d| {
        let (low, high) = d.range;
        let fitted = |x: f64| o.slope * x;
        // Both lines stay inside the square.
        let end = |edge: f64| {
            if o.slope.abs() > 1.0 {
                edge / o.slope.abs()
            } else {
                edge
            }
        };
        Chart {
            data: json!([
                d.heatmap("share of weight"),
                rule("slope 1", [low, high], [low, high], "@ink", "dash"),
                rule(
                    &format!("fitted slope {}", figure(o.slope)),
                    [end(low), end(high)],
                    [fitted(end(low)), fitted(end(high))],
                    "@c2",
                    "solid"
                ),
            ]),
            layout: json!({
                "xaxis": axis("Lⁱⁿ: the corpus's log-odds in the support, nats"),
                "yaxis": axis("the model's log-odds, nats"),
                "legend": {"orientation": "h", "y": 1.08},
            }),
            height: 540,
        }
    });
    let outside = density.as_ref().map_or(0, |d| d.outside);
    let left_out = match outside {
        0 => String::new(),
        n => format!(" {} of them lie outside the picture.", size(n)),
    };
    Ok(Figure {
        id: "log-odds",
        heading,
        sentences: vec![sentence],
        alt: format!(
            "Density of the model's log-odds (up) against the corpus's Lⁱⁿ (across) with the line of slope 1 and the \
             fitted slope {}.",
            signed(o.slope)
        ),
        chart,
        more: html! {},
        estimate: format!(
            "Lⁱⁿ is log p minus its mean over the support: the finite part of the logits that training drives to. \
             Contexts weigh by frequency, the tokens of a support equally. {}{left_out}",
            surety(o.correlation_error)
        ),
        caveat: "Rare tokens make Lⁱⁿ noisy, and noise across flattens a slope: even a perfect model would show a slope \
                 below 1 and a correlation below 1 on a finite corpus."
            .into(),
        table: Table::new(
            "log-odds.csv",
            &["corpus_from", "corpus_to", "model_from", "model_to", "weight", "entries"],
            density.iter().flat_map(Density::rows),
        )?,
    })
}

/// The rows of `log-odds-entries.csv`.
pub(crate) fn log_odds_rows(report: &Report) -> impl Iterator<Item = Vec<String>> {
    report.geometry.log_odds.points.iter().map(|p| {
        vec![
            p.context.to_string(),
            report.context(p.context),
            p.token.to_string(),
            report.token(p.token),
            cell(p.corpus),
            cell(p.model),
            cell(p.weight),
        ]
    })
}
