//! The page in a real browser: every figure is drawn, nothing goes wrong, and no text of the
//! corpus becomes anything but text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::Command;

const FIGURES: usize = 23;
/// With the curve of training.
const FIGURES_WITH_TRUTH: usize = 25;

/// The page's elements after its scripts have run, and what the browser's console said.
fn open(page: &Path, theme: &str) -> (String, String) {
    let browser = std::env::var("LAWVERE_CHROMIUM").unwrap_or_else(|_| "chromium".into());
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(&browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,900",
            "--virtual-time-budget=20000",
            "--enable-logging=stderr",
            "--v=0",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}#{theme}", page.display()))
        .output()
        .unwrap_or_else(|e| {
            panic!(
                "the browser `{browser}` cannot be run ({e}): install Chromium or name one in LAWVERE_CHROMIUM; \
                 scripts/test.sh checks for it"
            )
        });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_browser_draws_every_figure_and_runs_nothing_from_the_corpus() {
    draws(&common::report(), FIGURES, "LAWVERE_KEEP_PAGE");
}

#[test]
fn a_browser_draws_every_figure_beside_the_truth() {
    draws(
        &common::report_with_truth(),
        FIGURES_WITH_TRUTH,
        "LAWVERE_KEEP_TRUTH_PAGE",
    );
}

fn draws(report: &lawvere_report::Report, figures: usize, keep: &str) {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let html = lawvere_report::render(report).unwrap().html;
    std::fs::write(&page, &html).unwrap();
    if let Ok(keep) = std::env::var(keep) {
        std::fs::write(keep, &html).unwrap();
    }
    for theme in ["light", "dark"] {
        let (dom, console) = open(&page, theme);
        assert!(
            dom.contains(&format!("data-theme=\"{theme}\"")),
            "no page came: {console}"
        );
        assert_eq!(
            dom.matches("data-drawn=\"true\"").count(),
            figures,
            "{console}"
        );
        assert!(
            dom.contains("<pre id=\"page-errors\" hidden=\"\"></pre>"),
            "{}",
            errors(&dom)
        );
        let said: Vec<&str> = console.lines().filter(|l| l.contains("CONSOLE")).collect();
        assert!(said.is_empty(), "{said:#?}");
        assert!(
            !dom.contains("<script>alert"),
            "a script of the corpus is on the page"
        );
        // What came from the corpus is text: outside the page's own scripts there is no such element.
        let drawn = without_scripts(&dom);
        for element in [
            "<img src=\"x\"",
            "<img src=x",
            "href=\"javascript:",
            "<b>bold",
            "</a><b>",
        ] {
            assert!(
                !drawn.contains(element),
                "{element} became part of the page"
            );
        }
        for text in [
            "&lt;/script&gt;&lt;script&gt;aler",
            "&lt;img src=x onerror=alert(2)&gt;",
            "%{x} %{customdata[0]}",
            "&amp;lt;b&amp;gt;",
            "⟨U+202E⟩",
        ] {
            assert!(drawn.contains(text), "{text} is not to be seen");
        }
        // Plotly itself writes zero-width spaces, but nothing that turns the reading direction.
        assert!(!drawn.contains(['\u{202e}', '\u{2066}']));
    }
}

fn errors(dom: &str) -> &str {
    let start = dom.find("<pre id=\"page-errors\"").unwrap_or(0);
    &dom[start..(start + 2000).min(dom.len())]
}

fn without_scripts(dom: &str) -> String {
    let mut out = String::new();
    let mut rest = dom;
    while let Some(start) = rest.find("<script") {
        out.push_str(&rest[..start]);
        let end = rest[start..]
            .find("</script>")
            .map_or(rest.len(), |e| start + e + 9);
        rest = &rest[end..];
    }
    out + rest
}

#[test]
fn the_page_needs_no_network_and_no_other_file() {
    let html = lawvere_report::render(&common::report()).unwrap().html;
    assert!(html.contains("default-src 'none'"));
    for foreign in [
        "<script src",
        "MathJax-",
        "cdn.jsdelivr",
        "cdn.plot.ly/plotly",
        "@import",
        "url(",
    ] {
        assert!(!without_scripts(&html).contains(foreign), "{foreign}");
    }
    assert_eq!(html.matches("plotly.js v").count(), 1);
    assert!(!html.contains("tex-svg"));
}
