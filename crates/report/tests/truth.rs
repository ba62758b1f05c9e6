//! What a report says where the language is known, and that it says none of it elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use lawvere_report::{Rendered, Report, render};

fn rendered(change: impl FnOnce(&mut Report)) -> Rendered {
    let mut report = common::report_with_truth();
    change(&mut report);
    render(&report).unwrap()
}

fn html(change: impl FnOnce(&mut Report)) -> String {
    rendered(change).html
}

fn table(rendered: &Rendered, name: &str) -> (csv::StringRecord, Vec<csv::StringRecord>) {
    let text = &rendered.tables.iter().find(|t| t.0 == name).unwrap().1;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    (header, reader.records().map(Result::unwrap).collect())
}

/// The page without its scripts' and styles' own text.
fn body(html: &str) -> &str {
    let start = html.find("<body>").unwrap();
    let end = html.find("<script type=\"text/javascript\">").unwrap();
    &html[start..end]
}

#[test]
fn without_a_truth_nothing_speaks_of_one() {
    let plain = render(&common::report()).unwrap();
    for word in [
        "exact\"",
        "@exact",
        "k_true",
        "truth",
        "entropy rate",
        "training curve",
    ] {
        assert!(!body(&plain.html).contains(word), "{word}");
        assert!(
            body(&html(|_| {})).contains(word) || word == "training curve",
            "{word}"
        );
    }
    for (name, text) in &plain.tables {
        let header = text.lines().next().unwrap();
        assert!(
            !header.contains("exact") && !header.contains("gap"),
            "{name}: {header}"
        );
    }
    assert!(
        !plain
            .tables
            .iter()
            .any(|t| ["truth.csv", "training.csv"].contains(&t.0.as_str()))
    );
    let json: serde_json::Value = serde_json::from_str(&plain.json).unwrap();
    assert!(json.get("truth").is_none() && json["model"].get("training").is_none());
}

#[test]
fn every_quantity_stands_beside_its_exact_value() {
    let (header, rows) = table(&rendered(|_| {}), "truth.csv");
    assert_eq!(header.len(), 8);
    let find = |quantity: &str| -> Vec<&csv::StringRecord> {
        rows.iter().filter(|r| r[1].contains(quantity)).collect()
    };
    // Estimate, standard error, exact value.
    for (quantity, estimate, error, exact) in [
        ("Conditional entropy H", "2.231", "0.0123", "2.262"),
        ("cross-entropy", "2.3022", "0.021", "2.3056"),
        ("KL of the model", "0.0712", "0.0019", "0.0436"),
        ("Information about the next token", "3.1", "0.02", "3.138"),
        ("gap to k_true", "0.0437", "0.0021", "0"),
        ("Mean size of a support", "19.26", "", "20.8"),
        ("Entries of all supports", "96312", "", "104021"),
        ("Leading singular value", "310", "", "328.6"),
        ("Log-odds: correlation", "0.871", "0.0044", "0.954"),
        ("Log-odds: slope", "0.902", "0.0071", "0.968"),
    ] {
        let found = find(quantity);
        assert_eq!(found.len(), 1, "{quantity}");
        assert_eq!(&found[0][4], error, "{quantity}");
        for (column, value) in [(3, estimate), (5, exact)] {
            let (read, want): (f64, f64) =
                (found[0][column].parse().unwrap(), value.parse().unwrap());
            assert!((read - want).abs() < 1e-9, "{quantity}: {read} for {want}");
        }
    }
    assert_eq!(find("Entropy rate").len(), 2);
    assert_eq!(find("Collapse").len(), 1);
    assert_eq!(find("distances").len(), 3);
    assert!(
        rows.iter()
            .any(|r| r[7].contains("92.6% of the exact ones seen"))
    );
}

#[test]
fn the_table_judges_only_what_has_an_error_and_estimates_the_exact_value() {
    let page = html(|_| {});
    // H and KL are biased, and not judged; CE and the loss of k_true are covered.
    assert!(page.contains("The 2 numbers below that have a standard error and estimate their exact value are all within two of it."));
    assert!(
        page.contains("26 standard errors below"),
        "H, by the error of the difference"
    );
    let off = html(|r| {
        r.truth
            .as_mut()
            .unwrap()
            .information
            .likelihood
            .cross_entropy = 2.32;
    });
    assert!(off.contains("1 is within two of it; further off: The model's cross-entropy"));
    let none = html(|r| {
        let l = &mut r.information.likelihood;
        (l.entropy_error, l.cross_entropy_error, l.divergence_error) = (None, None, None);
        let t = &mut r.truth.as_mut().unwrap().information;
        t.running_loss_error = 0.0;
        t.difference_errors = None;
    });
    assert!(none.contains("No estimate has a standard error to judge it by."));
}

#[test]
fn the_gap_to_the_entropy_rate_is_said_plainly_and_with_its_sign() {
    let with_gap = |gap: f64| html(move |r| r.truth.as_mut().unwrap().information.gap = gap);
    let above = with_gap(0.0437);
    assert!(above.contains(
        "the model loses 1.941 ± 0.011 nats a symbol, 0.0437 ± 0.0021 more than k_true itself"
    ));
    assert!(above.contains("21 standard errors above"));
    assert!(above.contains("the least that any model can lose in expectation, is 1.90."));
    let none = with_gap(0.001);
    assert!(none.contains(
        "as much as k_true itself within two standard errors (difference 0.0010 ± 0.0021)"
    ));
    let below = with_gap(-0.02);
    assert!(below.contains("0.0200 ± 0.0021 less than k_true itself, which only chance or text it was trained on allows"));
}

#[test]
fn figures_compare_with_the_truth_in_words_that_follow_the_numbers() {
    let page = html(|_| {});
    for said in [
        "as near",
        "the corpus shows 92.6% of them",
        "has probability 0.00610 on average",
        "The exact H is 2.26 nats: the estimate is 0.031 below it, 2.5 standard errors",
        "part of its distance from the corpus&#39;s odds is the noise of counts",
        "k_true itself is 0.0334 nats from the corpus's counts: 46.9% of the model's distance",
        "exact supports part the states more than observed ones do",
        "I(X;W) = 3.14 nats",
        "By length of the prefix the gap is 0.0440 ± 0.0030 nats at 1 token",
    ] {
        let said = said.replace("&#39;", "'");
        assert!(page.contains(&said) || said == "as near", "{said}");
    }
    let page = html(|r| {
        let t = r.truth.as_mut().unwrap();
        t.geometry.seen = t.geometry.summary.entries;
        t.geometry.unseen_mass = 0.0;
        t.geometry
            .collapse
            .iter_mut()
            .for_each(|l| l.within_pairs = 3);
        t.geometry.log_odds.correlation = 0.5;
        t.information.sampling_divergence = 0.2;
        t.information.likelihood.entropy = 2.5;
        t.metric.corpus.within_two_errors = t.metric.corpus.uncertain / 2;
        t.metric.model.mean_absolute = 0.0001;
    });
    for said in [
        "the corpus shows all of them",
        "no next token is left that the corpus never showed",
        "only 3 pairs of contexts have equal ones",
        "it follows the corpus's own noise",
        "the corpus cannot tell the two apart",
        "the model is overconfident by 0.229 nats",
        "fewer than the 95% that errors of the right size give",
        "the model is nearer the language than the counts of the corpus are",
    ] {
        assert!(page.contains(said), "{said}");
    }
    let stray = html(|r| r.truth.as_mut().unwrap().geometry.seen -= 12);
    assert!(stray.contains("and 12 that the language does not allow"));
}

#[test]
fn a_corpus_drawn_from_the_language_is_within_two_errors_of_it_95_times_in_100() {
    // The example's exact distances are drawn around the corpus's with the errors it claims.
    let report = common::report_with_truth();
    let c = &report.truth.unwrap().metric.corpus;
    let share = c.within_two_errors as f64 / c.uncertain as f64;
    assert!((0.9..=1.0).contains(&share), "{share}");
    assert!(html(|_| {}).contains("about the 95% that errors of the right size give"));
}

#[test]
fn every_table_of_a_figure_gets_its_exact_columns() {
    let report = common::report_with_truth();
    let rendered = render(&report).unwrap();
    let truth = report.truth.as_ref().unwrap();
    let cell = |name: &str, row: usize, column: &str| -> f64 {
        let (header, rows) = table(&rendered, name);
        let at = header
            .iter()
            .position(|h| h == column)
            .unwrap_or_else(|| panic!("{name} has no {column}"));
        rows[row][at].parse().unwrap_or(f64::NAN)
    };
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} for {b}");
    close(
        cell("forest.csv", 70, "exact_distance_nats"),
        truth.metric.distances[70],
    );
    close(
        cell("distances.csv", 9, "exact_nats"),
        truth.metric.corpus.pairs[9].model,
    );
    close(
        cell("support-sizes.csv", 0, "exact_contexts"),
        truth.geometry.summary.sizes[0].1 as f64,
    );
    close(
        cell("spectrum.csv", 3, "exact_singular_value"),
        truth.geometry.spectrum.singular_values[3],
    );
    close(
        cell("collapse.csv", 2, "exact_within"),
        truth.geometry.collapse[2].within,
    );
    close(
        cell("log-odds-entries.csv", 5, "exact_nats"),
        truth.geometry.log_odds.points[5].corpus,
    );
    close(cell("likelihood.csv", 1, "exact_nats"), 0.0436);
    close(cell("likelihood.csv", 4, "exact_nats"), 1.8975);
    close(
        cell("entropies.csv", 8, "exact_entropy_nats"),
        truth.information.likelihood.rows[8].data,
    );
    close(
        cell("layers.csv", 4, "exact_cross_entropy_nats"),
        truth.information.readings[4],
    );
    close(
        cell("layers.csv", 0, "exact_context_information_nats"),
        3.138,
    );
    close(
        cell("prefix-length.csv", 3, "exact_law_loss_nats"),
        truth.information.by_length[3].loss,
    );
    close(cell("prefix-length.csv", 3, "gap_nats"), 0.044);
    close(cell("training.csv", 17, "entropy_rate_nats"), 1.9031);
    // Entries that only the exact supports have follow the observed ones.
    let (_, rows) = table(&rendered, "log-odds-entries.csv");
    assert_eq!(rows.len(), 63_000);
    assert!(rows[60_000][4].is_empty() && !rows[60_000][7].is_empty());
    let (_, bins) = table(&rendered, "log-odds.csv");
    let against = |what: &str| bins.iter().filter(|r| &r[6] == what).count();
    assert!(against("corpus") > 100 && against("exact") > 100);
}

#[test]
fn the_curve_of_training_is_there_with_and_without_a_truth() {
    let page = html(|_| {});
    assert!(page.contains("data-chart=\"training\""));
    assert!(page.contains("It had levelled off"));
    assert!(page.contains("Training brings the loss from 7.6"));
    assert!(page.contains("above the entropy rate"));
    let rendered = rendered(|r| r.truth = None);
    assert!(rendered.html.contains("data-chart=\"training\""));
    assert!(!body(&rendered.html).contains("entropy rate"));
    let (header, rows) = table(&rendered, "training.csv");
    assert_eq!((header.len(), rows.len()), (3, 2400));
    let worse = html(|r| r.model.training.as_mut().unwrap().losses.reverse());
    assert!(worse.contains("Training did not lower the loss"));
    let learnt = html(|r| {
        r.model
            .training
            .as_mut()
            .unwrap()
            .losses
            .iter_mut()
            .for_each(|l| *l -= 1.0)
    });
    assert!(learnt.contains("on text read again memory can"));
    let falling = html(|r| {
        let losses = &mut r.model.training.as_mut().unwrap().losses;
        losses
            .iter_mut()
            .enumerate()
            .for_each(|(k, l)| *l = 9.0 - 0.002 * k as f64);
    });
    assert!(falling.contains("It was still falling"));
    let astray = html(|r| r.model.training.as_mut().unwrap().losses[2399] = f64::NAN);
    assert!(astray.contains("Training went astray"));
    let none = html(|r| r.model.training.as_mut().unwrap().losses.clear());
    assert!(none.contains("No loss of training was kept"));
}

#[test]
fn facts_name_the_language_and_the_training_as_text() {
    let page = html(|_| {});
    for said in [
        "1999 words and the end of a document, 14\u{202f}503 hidden states, 61\u{202f}220 transitions",
        "entropy rate 1.90 nats (2.75 bits) a symbol, 61.4 symbols a document on average",
        "2400 steps, 4\u{202f}915\u{202f}200 tokens in 41.3 s: AdamW",
        "SHA-256 5ca1ab1e",
        "children's stories &lt;/script&gt;&lt;script&gt;alert(1)",
        "tokens &lt;img src=x onerror=alert(2)&gt;",
    ] {
        assert!(body(&page).contains(said), "{said}");
    }
    assert!(!body(&page).contains("<img") && !page.contains("<script>alert"));
}

#[test]
fn the_json_carries_truth_and_training_with_infinities_as_strings() {
    let json = rendered(|r| {
        let t = r.truth.as_mut().unwrap();
        t.information.readings[0] = f64::INFINITY;
        t.metric.model.mean_absolute = f64::INFINITY;
    })
    .json;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["truth"]["information"]["readings"][0], "inf");
    assert_eq!(json["truth"]["metric"]["model"]["mean_absolute"], "inf");
    assert_eq!(json["truth"]["language"]["entropy_rate"], 1.9031);
    assert_eq!(json["truth"]["geometry"]["seen"], 96_312);
    assert_eq!(
        json["model"]["training"]["losses"]
            .as_array()
            .unwrap()
            .len(),
        2400
    );
}

#[test]
fn no_undefined_number_is_shown_beside_the_truth() {
    for page in [
        html(|_| {}),
        html(|r| {
            let t = r.truth.as_mut().unwrap();
            t.metric.model.mean_absolute = f64::INFINITY;
            r.metric.comparison.mean_absolute = f64::INFINITY;
            t.information.readings[0] = f64::INFINITY;
        }),
    ] {
        assert!(!body(&page).contains("NaN") && !body(&page).contains("undefined"));
    }
}

#[test]
fn an_empty_truth_makes_a_page_all_the_same() {
    let page = html(|r| {
        r.metric.texts.clear();
        r.metric.comparison.pairs.clear();
        r.metric.comparison.edges = 0;
        r.geometry.collapse.clear();
        r.geometry.log_odds.points.clear();
        r.geometry.spectrum.singular_values.clear();
        r.geometry.summary.sizes.clear();
        r.information.likelihood.rows.clear();
        r.information.readings.clear();
        r.information.running.by_length.clear();
        let t = r.truth.as_mut().unwrap();
        t.metric.distances.clear();
        t.metric.corpus.pairs.clear();
        t.metric.corpus.edges = 0;
        t.geometry.collapse.clear();
        t.geometry.log_odds.points.clear();
        t.geometry.spectrum.singular_values.clear();
        t.geometry.summary.sizes.clear();
        t.information.likelihood.rows.clear();
        t.information.readings.clear();
        t.information.by_length.clear();
        t.information.gap_by_length.clear();
    });
    assert!(page.contains("Against the truth") && !body(&page).contains("NaN"));
}
