//! The model on running text, and how training brought it there.

use lawvere_information::LengthLoss;
use maud::html;
use serde_json::json;

use crate::ReportError;
use crate::data::{Report, TrainingFacts, Truth};
use crate::figure::{Chart, Figure, exact_level, exact_line, line, log_axis, traces};
use crate::number::{count, duration, figure, plural, size, with_error};
use crate::table::{Table, cell, optional};
use crate::text::visible;
use crate::truth::off;

/// The most points of the training curve.
const POINTS: usize = 1500;
/// A step's smoothed loss is the mean over the steps of this share of its number, before and after.
const SMOOTH: f64 = 0.05;
/// The last part of training, whose mean loss stands for the end, as a share of all steps.
const END: f64 = 0.1;

fn range_name(l: &LengthLoss) -> String {
    if l.from == l.to {
        l.from.to_string()
    } else {
        format!("{}–{}", l.from, l.to)
    }
}

/// Where a range stands on a logarithmic axis.
fn middle(l: &LengthLoss) -> f64 {
    (f64::from(l.from) * f64::from(l.to)).sqrt()
}

fn range_tokens(l: &LengthLoss) -> String {
    format!(
        "{} token{}",
        range_name(l),
        if l.to == 1 { "" } else { "s" }
    )
}

/// The loss of k_true on the same positions, in words.
fn exact_lengths(truth: &Truth) -> Vec<String> {
    let t = &truth.information;
    let k_true = format!(
        "On the same positions k_true loses {} nats, where the entropy rate is {} (the sample's loss is {}); the \
         model's gap to k_true is {} nats.",
        with_error(t.running_loss, Some(t.running_loss_error)),
        figure(truth.language.entropy_rate),
        off(
            t.running_loss,
            Some(t.running_loss_error),
            truth.language.entropy_rate
        ),
        with_error(t.gap, Some(t.gap_error)),
    );
    let by_length = match (t.gap_by_length.first(), t.gap_by_length.last()) {
        (Some(a), Some(b)) if t.gap_by_length.len() > 1 => {
            let noise = 2.0 * a.error.hypot(b.error);
            let says = match b.loss - a.loss {
                x if x > noise => "it grows with the prefix",
                x if x < -noise => "it shrinks with the prefix",
                _ => "the two are alike within their errors",
            };
            Some(format!(
                "By length of the prefix the gap is {} nats at {} and {} at {}: {says}.",
                with_error(a.loss, Some(a.error)),
                range_tokens(a),
                with_error(b.loss, Some(b.error)),
                range_tokens(b),
            ))
        }
        _ => None,
    };
    [k_true].into_iter().chain(by_length).collect()
}

pub(crate) fn lengths(report: &Report) -> Result<Figure, ReportError> {
    let running = &report.information.running;
    let by_length = &running.by_length;
    let (heading, mut sentences) = length_prose(report);
    let truth = report.truth.as_ref();
    if let (Some(truth), false) = (truth, by_length.is_empty()) {
        sentences.extend(exact_lengths(truth));
    }
    let x: Vec<f64> = by_length.iter().map(middle).collect();
    let y: Vec<f64> = by_length.iter().map(|l| l.loss).collect();
    let errors: Vec<f64> = by_length.iter().map(|l| l.error).collect();
    let names: Vec<String> = by_length.iter().map(range_name).collect();
    let mut trace = line("loss on running text", &x, &y, "@c1", "solid");
    trace["error_y"] =
        json!({"type": "data", "array": errors, "color": "@c1", "thickness": 1.5, "width": 4});
    trace["customdata"] = json!(
        by_length
            .iter()
            .map(|l| json!([
                range_name(l),
                size(l.positions),
                with_error(l.loss, Some(l.error))
            ]))
            .collect::<Vec<_>>()
    );
    trace["hovertemplate"] = json!(
        "prefixes of %{customdata[0]} tokens<br>%{customdata[1]} positions<br>%{customdata[2]} nats<extra></extra>"
    );
    let ce = report.information.likelihood.cross_entropy;
    let ends: Vec<f64> = x.first().into_iter().chain(x.last()).copied().collect();
    let k_true = truth.map(|t| {
        let exact = &t.information.by_length;
        let x: Vec<f64> = exact.iter().map(middle).collect();
        let y: Vec<f64> = exact.iter().map(|l| l.loss).collect();
        let mut trace = exact_line("exact: k_true", &x, &y);
        trace["customdata"] = json!(
            exact
                .iter()
                .map(|l| json!([range_name(l), with_error(l.loss, Some(l.error))]))
                .collect::<Vec<_>>()
        );
        trace["hovertemplate"] = json!(
            "prefixes of %{customdata[0]} tokens<br>k_true %{customdata[1]} nats<extra></extra>"
        );
        trace
    });
    let chart = (!by_length.is_empty()).then(|| Chart {
        data: traces([
            Some(trace),
            Some(json!({
                "type": "scatter", "mode": "lines", "name": format!("contexts of {}", plural(report.order, "token")),
                "x": ends, "y": vec![ce; ends.len()], "hoverinfo": "skip",
                "line": {"color": "@c2", "width": 1.5, "dash": "dash"},
            })),
            k_true,
            truth.map(|t| exact_level("exact: entropy rate", &x, t.language.entropy_rate)),
        ]),
        layout: json!({
            "xaxis": {"title": {"text": "tokens of prefix read"}, "type": "log", "tickvals": x, "ticktext": names, "automargin": true},
            "yaxis": {"title": {"text": "loss, nats a token"}, "automargin": true},
            "legend": {"orientation": "h", "y": 1.1},
        }),
        height: 400,
    });
    let rows = by_length.iter().map(|l| {
        let same = |list: &[LengthLoss]| {
            list.iter()
                .find(|e| (e.from, e.to) == (l.from, l.to))
                .map(|e| (e.loss, e.error))
        };
        let exact = truth.and_then(|t| same(&t.information.by_length));
        let gap = truth.and_then(|t| same(&t.information.gap_by_length));
        vec![
            l.from.to_string(),
            l.to.to_string(),
            l.positions.to_string(),
            cell(l.loss),
            cell(l.error),
            optional(exact.map(|e| e.0)),
            optional(exact.map(|e| e.1)),
            optional(gap.map(|g| g.0)),
            optional(gap.map(|g| g.1)),
        ]
    });
    Ok(Figure {
        id: "prefix-length",
        heading,
        sentences,
        alt: format!(
            "Mean loss on running text by the number of tokens of prefix read, with one standard error, and the \
             cross-entropy on the corpus's short contexts{}.",
            if truth.is_some() {
                "; dashed, the loss of k_true on the same positions and the entropy rate"
            } else {
                ""
            }
        ),
        chart,
        more: html! {},
        estimate: format!(
            "Mean −log q(next | prefix) over {} of running text ({}). Bars are one standard error, documents taken as \
             independent.",
            plural(running.positions, "position"),
            visible(running.choice.trim_end_matches('.'))
        ),
        caveat: format!(
            "Prefix length and place in the document go together: openings of documents may be easier or harder by \
             nature, and long prefixes come from long documents only. The {} is over the corpus's most frequent \
             contexts, not over all of its text.",
            if truth.is_some() {
                "level of contexts"
            } else {
                "dashed line"
            }
        ),
        table: Table::with_exact(
            "prefix-length.csv",
            &["from", "to", "positions", "loss_nats", "standard_error"],
            &[
                "exact_law_loss_nats",
                "exact_law_error",
                "gap_nats",
                "gap_error",
            ],
            truth.is_some(),
            rows,
        )?,
    })
}

fn length_prose(report: &Report) -> (String, Vec<String>) {
    let by_length = &report.information.running.by_length;
    let (Some(first), Some(last)) = (by_length.first(), by_length.last()) else {
        return ("No loss by prefix length was measured".into(), Vec::new());
    };
    let nats = |l: &LengthLoss| with_error(l.loss, Some(l.error));
    let noise = 2.0 * first.error.hypot(last.error);
    let fall = first.loss - last.loss;
    let heading = if fall > noise {
        format!(
            "More context helps: the loss falls from {} to {} nats",
            figure(first.loss),
            figure(last.loss)
        )
    } else if fall < -noise {
        format!(
            "More context does not help: the loss rises from {} to {} nats",
            figure(first.loss),
            figure(last.loss)
        )
    } else {
        "The loss does not depend on the length of the prefix, within its errors".to_string()
    };
    let mut sentences = vec![format!(
        "With a prefix of {} the loss is {} nats, with one of {} it is {}.",
        range_tokens(first),
        nats(first),
        range_tokens(last),
        nats(last)
    )];
    let order = u32::try_from(report.order).unwrap_or(u32::MAX);
    let ce = report.information.likelihood.cross_entropy;
    if let Some(same) = by_length.iter().find(|l| (l.from..=l.to).contains(&order)) {
        let error = report
            .information
            .likelihood
            .cross_entropy_error
            .unwrap_or(0.0);
        let noise = 2.0 * same.error.hypot(error);
        let why = if same.loss > ce + noise {
            "the chosen contexts are easier than the openings of texts"
        } else if same.loss < ce - noise {
            "the openings of texts are easier than the chosen contexts"
        } else {
            "the two agree within their errors"
        };
        sentences.push(format!(
            "With a prefix of {} it is {} nats, against {} on the corpus's contexts of {}: {why}.",
            range_tokens(same),
            nats(same),
            with_error(ce, report.information.likelihood.cross_entropy_error),
            plural(report.order, "token"),
        ));
    }
    (heading, sentences)
}

/// Mean and standard error of losses, batches taken as independent.
fn mean(losses: &[f64]) -> (f64, Option<f64>) {
    let n = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = losses.iter().map(|x| (x - mean).powi(2)).sum();
    let error = (losses.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt());
    (mean, error)
}

/// The loss at each step averaged over steps near it: more of them the later, as a logarithmic
/// axis shows fewer of them apart.
fn smoothed(losses: &[f64]) -> Vec<f64> {
    let mut sums = Vec::with_capacity(losses.len() + 1);
    sums.push(0.0);
    for loss in losses {
        sums.push(sums.last().copied().unwrap_or(0.0) + loss);
    }
    (0..losses.len())
        .map(|k| {
            let reach = (SMOOTH * (k + 1) as f64) as usize;
            let reach = reach.min(losses.len() - 1 - k);
            let (from, to) = (k - reach.min(k), k + reach + 1);
            (sums[to] - sums[from]) / (to - from) as f64
        })
        .collect()
}

/// Steps spread evenly over a logarithmic axis, at most [`POINTS`] or so.
fn drawn(steps: usize) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..=POINTS)
        .map(|k| (steps as f64).powf(k as f64 / POINTS as f64) as usize)
        .map(|step| step.clamp(1, steps.max(1)) - 1)
        .collect();
    kept.dedup();
    if steps == 0 { Vec::new() } else { kept }
}

fn training_prose(t: &TrainingFacts, truth: Option<&Truth>) -> (String, Vec<String>) {
    let losses = &t.losses;
    let (Some(&first), n) = (losses.first(), losses.len()) else {
        return ("No loss of training was kept".into(), Vec::new());
    };
    let end = ((END * n as f64).ceil() as usize).clamp(1, n);
    let (last, error) = mean(&losses[n - end..]);
    let rate = truth.map(|t| t.language.entropy_rate);
    let fell = first - last > 2.0 * error.unwrap_or(0.0);
    let heading = match rate {
        _ if !last.is_finite() => "Training went astray: its loss is no finite number".to_string(),
        _ if !fell => format!(
            "Training did not lower the loss: {} nats at first, {} at the end",
            figure(first),
            figure(last)
        ),
        Some(rate) if last >= rate => format!(
            "Training brings the loss from {} to {} nats, {} above the entropy rate",
            figure(first),
            figure(last),
            figure(last - rate)
        ),
        _ => format!(
            "Training brings the loss from {} to {} nats a token",
            figure(first),
            figure(last)
        ),
    };
    let mut sentences = vec![format!(
        "In {} over {} ({}) the loss of a batch went from {} to {} nats, the mean over the last {}.",
        plural(t.steps as usize, "step"),
        plural(t.tokens as usize, "token"),
        duration(t.seconds),
        figure(first),
        with_error(last, error),
        plural(end, "step"),
    )];
    if n >= 4 * end {
        let (before, before_error) = mean(&losses[n - 2 * end..n - end]);
        let noise = 2.0 * error.unwrap_or(0.0).hypot(before_error.unwrap_or(0.0));
        sentences.push(match before - last {
            x if x > noise => format!(
                "It was still falling: over as many steps before those it was {}.",
                with_error(before, before_error)
            ),
            x if x < -noise => format!(
                "It was rising: over as many steps before those it was {}.",
                with_error(before, before_error)
            ),
            _ => format!(
                "It had levelled off: over as many steps before those it was {}, the same within two standard errors.",
                with_error(before, before_error)
            ),
        });
    }
    if let Some(rate) = rate {
        let below = if last + 2.0 * error.unwrap_or(0.0) < rate {
            " On new text no model can stay below it; on text read again memory can"
        } else {
            " No model can go below it in expectation on new text"
        };
        sentences.push(format!(
            "The entropy rate of the language is {} nats, and the loss at the end is {}.{below}.",
            figure(rate),
            off(last, error, rate),
        ));
    }
    (heading, sentences)
}

/// The loss by step, where the model was trained here.
pub(crate) fn training(report: &Report) -> Result<Option<Figure>, ReportError> {
    let Some(t) = &report.model.training else {
        return Ok(None);
    };
    let truth = report.truth.as_ref();
    let (heading, sentences) = training_prose(t, truth);
    let smooth = smoothed(&t.losses);
    let shown = drawn(t.losses.len());
    let x: Vec<f64> = shown.iter().map(|&k| (k + 1) as f64).collect();
    let at = |values: &[f64]| -> Vec<f64> { shown.iter().map(|&k| values[k]).collect() };
    let curve = |name: &str, y: Vec<f64>, width: f64, opacity: f64| {
        json!({
            "type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "opacity": opacity,
            "line": {"color": "@c1", "width": width},
            "hovertemplate": "step %{x}<br>%{y:.3f} nats<extra></extra>",
        })
    };
    let chart = (!shown.is_empty()).then(|| Chart {
        data: traces([
            Some(curve("each batch", at(&t.losses), 1.0, 0.35)),
            Some(curve("smoothed", at(&smooth), 2.5, 1.0)),
            truth.map(|t| exact_level("exact: entropy rate", &x, t.language.entropy_rate)),
        ]),
        layout: json!({
            "xaxis": log_axis("step of training", &x),
            "yaxis": {"title": {"text": "loss, nats a token"}, "automargin": true},
            "legend": {"orientation": "h", "y": 1.1},
        }),
        height: 400,
    });
    let rows = t
        .losses
        .iter()
        .zip(&smooth)
        .enumerate()
        .map(|(k, (loss, smooth))| {
            vec![
                (k + 1).to_string(),
                cell(*loss),
                cell(*smooth),
                optional(truth.map(|t| t.language.entropy_rate)),
            ]
        });
    let thinned = if shown.len() < t.losses.len() {
        format!(
            " Of {} steps {} are drawn, spread evenly over the logarithmic axis; the CSV has all.",
            size(t.losses.len()),
            size(shown.len())
        )
    } else {
        String::new()
    };
    Ok(Some(Figure {
        id: "training",
        heading,
        sentences,
        alt: format!(
            "Loss of each batch before its step, and smoothed, by step of training on a logarithmic axis{}.",
            if truth.is_some() {
                "; the dashed line is the entropy rate"
            } else {
                ""
            }
        ),
        chart,
        more: html! {},
        estimate: format!(
            "Mean −log q(next | prefix) of the batch that the step learns from, before it does ({}). The ± is over the \
             steps averaged, batches taken as independent.{thinned}",
            visible(t.settings.trim_end_matches('.'))
        ),
        caveat: format!(
            "These are losses on the training text, {} tokens in all: text read more than once can be known by heart, and the smoothed line rounds off quick changes. The figure before this one is the loss on running text \
             after training.",
            count(t.tokens)
        ),
        table: Table::with_exact(
            "training.csv",
            &["step", "loss_nats", "smoothed_nats"],
            &["entropy_rate_nats"],
            truth.is_some(),
            rows,
        )?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_a_constant_and_the_first_and_last_steps() {
        let flat = smoothed(&[2.5; 300]);
        assert!(flat.iter().all(|x| (x - 2.5).abs() < 1e-12));
        let losses: Vec<f64> = (0..300).map(|k| f64::from(k * k)).collect();
        let smooth = smoothed(&losses);
        assert_eq!((smooth[0], smooth[299]), (losses[0], losses[299]));
        // Step 100 is the mean of steps 95 to 105.
        let mean = losses[94..105].iter().sum::<f64>() / 11.0;
        assert!((smooth[99] - mean).abs() < 1e-9);
        assert!(smoothed(&[]).is_empty());
    }

    #[test]
    fn drawn_steps_begin_and_end_with_training() {
        for steps in [1, 2, 900, 100_000] {
            let kept = drawn(steps);
            assert_eq!((kept[0], kept[kept.len() - 1]), (0, steps - 1), "{steps}");
            assert!(kept.windows(2).all(|w| w[0] < w[1]) && kept.len() <= POINTS + 1);
        }
        assert!(drawn(0).is_empty());
    }
}
