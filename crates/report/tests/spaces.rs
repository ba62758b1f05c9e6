//! The pictures of small spaces say what their data say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use lawvere_report::{Report, SpacesPage, render};
use serde_json::Value;

/// The section of a figure, and the data of its chart.
fn figure(report: &Report, id: &str) -> (String, Value) {
    let html = render(report).unwrap().html;
    let from = html
        .find(&format!("<section class=\"finding\" id=\"{id}\">"))
        .unwrap();
    let section = &html[from..from + html[from..].find("</section>").unwrap()];
    let json = section.split("<script type=\"application/json\">").nth(1);
    let json = json.unwrap().split("</script>").next().unwrap();
    (section.into(), serde_json::from_str(json).unwrap())
}

#[test]
fn a_tree_has_a_row_for_each_text_and_lines_no_shorter_than_nothing() {
    let report = common::report();
    let (section, chart) = figure(&report, "tree");
    assert!(
        section.contains("23 frequent texts after “the”"),
        "{section}"
    );
    let (lines, dots) = (&chart["data"][0], &chart["data"][3]);
    let mut rows: Vec<i64> = dots["y"]
        .as_array()
        .unwrap()
        .iter()
        .map(|y| y.as_i64().unwrap())
        .collect();
    rows.sort_unstable();
    assert_eq!(rows, (0..24).collect::<Vec<i64>>());
    let x = lines["x"].as_array().unwrap();
    for branch in x.chunks(4) {
        assert!(branch[3].is_null() && branch[1].as_f64() <= branch[2].as_f64());
    }
    // What the model finds impossible has no circle.
    assert_eq!(
        chart["data"][2]["x"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|x| x.is_null())
            .count(),
        1
    );
}

#[test]
fn bars_of_a_text_add_up_to_the_weights_of_the_rays_it_is_in() {
    let report = common::report();
    let (section, chart) = figure(&report, "rays");
    let bars = &chart["data"][0];
    let numbers = |key: &str| -> Vec<f64> {
        bars[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_f64().unwrap())
            .collect()
    };
    let (x, base, y) = (numbers("x"), numbers("base"), numbers("y"));
    let mut ends = [0.0f64; 24];
    for ((x, base), y) in x.iter().zip(&base).zip(&y) {
        // Bars are given from the left on, without gaps.
        assert!((ends[*y as usize] - base).abs() < 1e-12);
        ends[*y as usize] = base + x;
    }
    let full = ends.iter().filter(|e| (**e - 0.08).abs() < 1e-12).count();
    let least = ends.iter().filter(|e| (**e - 0.01).abs() < 1e-12).count();
    assert_eq!((full, least), (2, 11));
    assert!(section.contains("the sum of 3 extremal rays"), "{section}");
    assert!(section.contains("62.5% of the root's, is on 2 of 24 texts"));
}

#[test]
fn yoneda_vectors_are_blank_where_distances_are_infinite() {
    let (_, chart) = figure(&common::report(), "yoneda");
    let z = chart["data"][0]["z"].as_array().unwrap();
    // Four tokens: 10 texts, a text of k tokens has k(k+1)/2 within it: 4 + 3*3 + 2*6 + 10.
    let finite = z
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .filter(|x| !x.is_null());
    assert_eq!(finite.count(), 35);
}

#[test]
fn weights_over_temperatures_and_the_rarest_token_are_told() {
    let (section, chart) = figure(&common::report(), "boltzmann");
    assert_eq!(chart["data"].as_array().unwrap().len(), 4);
    // 1/800, 1/400, 1/200, 1/100: the last has 8 of 15.
    assert!(section.contains("“time” has 53.3%"), "{section}");
}

#[test]
fn beginnings_are_compared_both_ways() {
    let report = common::report();
    let (section, chart) = figure(&report, "beginnings");
    let z = &chart["data"][0]["z"];
    assert_eq!((z[1][3].as_f64(), z[3][1].as_f64()), (Some(0.5), Some(0.9)));
    assert!(z[2][2].is_null());
    assert!(
        section.contains("most alike after B (") && section.contains("In 4 of 10 pairs"),
        "{section}"
    );
}

#[test]
fn what_a_corpus_does_not_give_is_left_out() {
    let mut report = common::report();
    let all = render(&report).unwrap();
    report.metric.spaces = SpacesPage::default();
    let none = render(&report).unwrap();
    assert_eq!(all.tables.len() - none.tables.len(), 5);
    assert!(!none.html.contains("id=\"tree\"") && !none.html.contains("id=\"yoneda\""));
}
