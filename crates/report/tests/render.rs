//! What a report says: its sentences, its JSON, its tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use lawvere_geometry::Verdict;
use lawvere_report::{Report, render};

fn html(change: impl FnOnce(&mut Report)) -> String {
    let mut report = common::report();
    change(&mut report);
    render(&report).unwrap().html
}

#[test]
fn infinite_numbers_reach_the_json_as_strings() {
    let json: serde_json::Value =
        serde_json::from_str(&render(&common::report()).unwrap().json).unwrap();
    assert_eq!(json["information"]["readings"][0]["cross_entropy"], "inf");
    assert_eq!(json["schema"], "lawvere-report/1");
    let distances: Vec<_> = json["metric"]["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["model_distance"])
        .collect();
    assert!(distances.iter().any(|d| *d == "inf"));
    assert!(distances.iter().all(|d| !d.is_null()));
    assert!(
        json["token_labels"]["100"]
            .as_str()
            .unwrap()
            .contains("</script>")
    );
}

#[test]
fn every_figure_has_a_table_that_reads_back() {
    let report = common::report();
    let rendered = render(&report).unwrap();
    assert_eq!(rendered.tables.len(), 26);
    for (name, text) in &rendered.tables {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let rows = reader
            .records()
            .collect::<Result<Vec<_>, _>>()
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!rows.is_empty(), "{name}");
    }
    let table = |name: &str| {
        let text = &rendered.tables.iter().find(|t| t.0 == name).unwrap().1;
        let rows: Vec<csv::StringRecord> = csv::Reader::from_reader(text.as_bytes())
            .records()
            .map(Result::unwrap)
            .collect();
        rows
    };
    assert_eq!(table("forest.csv").len(), report.metric.texts.len());
    assert_eq!(
        table("distances.csv").len(),
        report.metric.comparison.pairs.len()
    );
    assert_eq!(table("collapse.csv").len(), 7);
    // Eleven predictions in seven layers, and that of words.
    assert_eq!(table("predictions.csv").len(), 78);
    assert_eq!(table("log-odds-entries.csv").len(), 60_000);
    assert_eq!(table("entropies.csv").len(), 5000);
    assert_eq!(&table("layers.csv")[0][6], "inf");
    // Text is kept as it is, hostile or not.
    assert_eq!(&table("entropies.csv")[0][0], common::HOSTILE[0]);
    assert_eq!(&table("entropies.csv")[8][0], common::HOSTILE[8]);
}

#[test]
fn no_undefined_number_is_shown() {
    let rendered = render(&common::report()).unwrap();
    let start = rendered.html.find("<body>").unwrap();
    let end = rendered
        .html
        .find("<script type=\"text/javascript\">")
        .unwrap();
    assert!(!rendered.html[start..end].contains("NaN"));
    assert!(!rendered.json.contains("NaN"));
}

#[test]
fn predictions_are_counted_by_their_verdicts_and_left_out_where_there_are_none() {
    let seen = html(|_| {});
    assert!(seen.contains("Of 12 predictions of the theory, 4 are visible where the head reads"));
    assert!(seen.contains("4 explained by shared last tokens; 4 not nearer than those"));
    let one = html(|r| {
        let predictions = r.geometry.predictions.as_mut().unwrap();
        let readings = predictions.readings.iter_mut();
        readings.for_each(|reading| reading.verdict = Verdict::WithinChance);
    });
    assert!(one.contains("Of 12 predictions of the theory, 0 are visible"));
    assert!(one.contains("12 nearer than states dealt to contexts at random, but within chance"));
    let none = html(|r| r.geometry.predictions = None);
    assert!(!none.contains("predictions of the theory"));
}

#[test]
fn collapse_is_claimed_only_where_it_shows() {
    let seen = html(|_| {});
    assert!(seen.contains("Sharing a last token does not explain it"));
    let absent = html(|r| {
        r.geometry
            .collapse
            .iter_mut()
            .for_each(|l| l.within = l.shuffled + 2.0 * l.shuffled_deviation)
    });
    assert!(absent.contains("Collapse is not visible"));
    assert!(!absent.contains("point the same way"));
    let by_last_token = html(|r| {
        r.geometry
            .collapse
            .iter_mut()
            .for_each(|l| l.within_other_last = l.between_other_last)
    });
    assert!(by_last_token.contains("is explained by their last tokens"));
    let untested = html(|r| {
        r.geometry
            .collapse
            .iter_mut()
            .for_each(|l| (l.within_other_last, l.between_other_last) = (None, None));
    });
    assert!(untested.contains("cannot be told apart"));
    let partly = html(|r| {
        r.geometry
            .collapse
            .iter_mut()
            .for_each(|l| l.within_other_last = Some(0.05))
    });
    assert!(partly.contains("mostly because they share a last token"));
    let none = html(|r| r.geometry.collapse.clear());
    assert!(none.contains("No hidden states were kept"));
}

#[test]
fn certainty_is_judged_against_its_error() {
    assert!(html(|_| {}).contains("underconfident by 0.500 nats"));
    assert!(
        html(|r| r.information.likelihood.head_entropy = 1.9)
            .contains("overconfident by 0.331 nats")
    );
    assert!(
        html(|r| r.information.likelihood.head_entropy = 2.232)
            .contains("as certain as the corpus")
    );
}

#[test]
fn an_isometry_that_fails_is_called_so() {
    assert!(html(|_| {}).contains("Yoneda embeddings are isometries"));
    let broken = html(|r| r.metric.model_isometry.yoneda_defect = 0.1);
    assert!(broken.contains("fails here: in the corpus it holds"));
    assert!(broken.contains("in the model it does not hold"));
}

#[test]
fn the_direction_of_a_difference_is_said_right() {
    assert!(html(|_| {}).contains("less likely than it is"));
    assert!(html(|r| r.metric.comparison.mean_excess = -0.3).contains("more likely than it is"));
    let rising = html(|r| r.information.running.by_length.reverse());
    assert!(rising.contains("More context does not help"));
    let flat = html(|r| {
        r.information
            .running
            .by_length
            .iter_mut()
            .for_each(|l| l.loss = 3.0)
    });
    assert!(flat.contains("does not depend on the length"));
    assert!(html(|r| r.geometry.log_odds.correlation = 0.01).contains("do not follow the corpus"));
}

#[test]
fn absent_errors_are_said_to_be_absent() {
    let without = html(|r| r.geometry.log_odds.correlation_error = None);
    assert!(without.contains("No standard error is given: the corpus has too few"));
}

#[test]
fn empty_results_make_a_page_all_the_same() {
    let page = html(|r| {
        r.metric.texts.clear();
        r.metric.comparison.pairs.clear();
        r.metric.comparison.edges = 0;
        r.metric.spaces = lawvere_report::SpacesPage::default();
        r.geometry.collapse.clear();
        r.geometry.log_odds.points.clear();
        r.geometry.spectrum.singular_values.clear();
        r.geometry.spectrum.concepts.clear();
        r.geometry.summary.sizes.clear();
        r.geometry.heatmap.tokens.clear();
        r.geometry.heatmap.contexts.clear();
        r.geometry.heatmap.log10_probs.clear();
        r.information.likelihood.rows.clear();
        r.information.readings.clear();
        r.information.fisher.eigenvalues.clear();
        r.information.fisher.directions.clear();
        r.information.running.by_length.clear();
    });
    assert!(page.contains("no edges") && !page.contains("NaN<"));
}

#[test]
fn a_certain_but_small_effect_is_called_faint() {
    let faint = html(|r| {
        r.geometry.collapse.iter_mut().for_each(|l| {
            l.within = l.between + 0.02;
            l.within_other_last = l.between_other_last.map(|x| x + 0.015);
        });
    });
    assert!(faint.contains("A faint effect: states of contexts"));
}

/// The heading of a figure.
fn heading(report: &lawvere_report::Report, id: &str) -> String {
    let html = render(report).unwrap().html;
    let from = html
        .find(&format!("<section class=\"finding\" id=\"{id}\">"))
        .unwrap();
    let heading = &html[from..];
    let start = heading.find("<h3>").unwrap() + 4;
    heading[start..heading.find("</h3>").unwrap()].to_string()
}

#[test]
fn headings_on_states_say_what_came() {
    let mut report = common::report();
    assert!(heading(&report, "ahead").contains("4 after the next, the furthest looked at"));
    let usable = report.states.usable.as_mut().unwrap();
    let short = usable.readings.iter_mut().filter(|r| r.ahead > 1);
    short.for_each(|r| r.gain = 0.01);
    assert!(heading(&report, "ahead").contains("tokens up to 1 after"));
    let usable = report.states.usable.as_mut().unwrap();
    usable.readings.iter_mut().for_each(|r| r.gain = -0.01);
    assert!(heading(&report, "ahead").contains("finds nothing"));

    assert!(heading(&report, "alignment").contains("more at the end"));
    report.states.alignment.layers.reverse();
    let numbers = [0, 5, 10, 15, 20, 25, 30];
    for (layer, number) in report.states.alignment.layers.iter_mut().zip(numbers) {
        layer.layer = number;
    }
    assert!(heading(&report, "alignment").contains("less at the end"));

    assert!(heading(&report, "stochasticity").contains("By every measure"));
    report.states.stochasticity[1].model = 2.0;
    report.states.stochasticity[1].gap = -0.3;
    assert!(heading(&report, "stochasticity").contains("Of 3 measures 2 say"));
    for s in &mut report.states.stochasticity {
        s.model = s.data_corrected;
    }
    assert!(heading(&report, "stochasticity").contains("as far as can be told"));

    assert!(heading(&report, "draft").contains("gives 1.71 tokens a pass"));
    report.states.draft.as_mut().unwrap().model.deviations = 3.1;
    let html = render(&report).unwrap().html;
    assert!(html.contains("more than chance explains"));
}

#[test]
fn what_happens_along_training_is_said_both_ways() {
    let mut report = common::report_with_truth();
    assert_eq!(
        heading(&report, "along"),
        "Along training alignment rises and the entropy gap closes"
    );
    report.states.along.reverse();
    assert_eq!(
        heading(&report, "along"),
        "Along training alignment falls and the entropy gap widens"
    );
    report.states.along.truncate(1);
    assert!(!render(&report).unwrap().html.contains("id=\"along\""));
}

#[test]
fn parts_on_states_that_could_not_be_made_are_left_out() {
    let mut report = common::report();
    report.states.usable = None;
    report.states.bounds = None;
    report.states.draft = None;
    let rendered = render(&report).unwrap();
    for id in ["ahead", "draft"] {
        assert!(!rendered.html.contains(&format!("id=\"{id}\"")), "{id}");
        assert!(rendered.tables.iter().all(|t| t.0 != format!("{id}.csv")));
    }
}
