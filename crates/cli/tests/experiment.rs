//! The experiment from the command line: the predicted geometry of sixteen contexts, and networks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn lawvere(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lawvere"))
        .args(arguments)
        .output()
        .unwrap()
}

fn corpus() -> String {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/sixteen-contexts.txt");
    path.display().to_string()
}

fn experiment(out: &Path, more: &[&str]) -> Output {
    let corpus = corpus();
    let out = out.display().to_string();
    let mut arguments = vec![
        "geometry",
        "experiment",
        "--quiet",
        "--corpus",
        &corpus,
        "--order",
        "5",
        "--min-count",
        "1",
        "--contexts",
        "16",
        "--out",
        &out,
    ];
    arguments.extend(more);
    lawvere(&arguments)
}

fn report(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("report.json")).unwrap()).unwrap()
}

#[test]
fn sixteen_contexts_are_predicted_and_learned() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("page");
    let kinds = [
        "--kinds",
        "ufm:3000,transformer:300,mlp:300,lstm:500",
        "--json",
    ];
    let run = experiment(&out, &kinds);
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let summary: Value = serde_json::from_slice(&run.stdout).unwrap();
    let facts = &summary["facts"];
    assert_eq!(
        (facts["contexts"].as_u64(), facts["samples"].as_u64()),
        (Some(16), Some(96))
    );
    assert_eq!(
        (facts["classes"].as_u64(), facts["occurring"].as_u64()),
        (Some(9), Some(15))
    );
    // Fifteen contexts with counts 3, 2, 1 and one with 2, 2, 2.
    let h = |counts: [f64; 3]| -counts.iter().map(|c| c / 6.0 * (c / 6.0).ln()).sum::<f64>();
    let entropy = (15.0 * h([3.0, 2.0, 1.0]) + h([2.0; 3])) / 16.0;
    assert!((facts["entropy"].as_f64().unwrap() - entropy).abs() < 1e-12);
    assert!(summary["max_margin"]["relative_gap"].as_f64().unwrap() <= 1e-7);

    let report = report(&out);
    let networks = report["networks"].as_array().unwrap();
    assert_eq!(networks.len(), 4);
    for network in networks {
        let name = network["name"].as_str().unwrap();
        let curve = network["curve"].as_array().unwrap();
        let at = |point: &Value, measure: &str| point["measures"][measure].as_f64().unwrap();
        let cosine = |point: &Value| point["measures"]["prediction"]["raw"].as_f64().unwrap();
        let (first, last) = (&curve[0], &curve[curve.len() - 1]);
        assert_eq!(first["step"].as_u64(), Some(0));
        assert!(at(first, "excess") > 2.0, "{name}");
        assert!(
            (0.0..0.05).contains(&at(last, "excess")),
            "{name}: {}",
            at(last, "excess")
        );
        // Untrained logits know nothing of the prediction, trained ones more than chance gives.
        let chance = network["shuffled"]["prediction"]["raw"].as_f64().unwrap();
        assert!(cosine(first).abs() < 0.2, "{name}");
        assert!(
            cosine(last) > chance + 0.2,
            "{name}: {} {chance}",
            cosine(last)
        );
        assert!(at(last, "within") > at(last, "between") + 0.5, "{name}");
        // The loss is what is measured, up to the tokens' rounding in single precision.
        let losses = network["losses"].as_array().unwrap();
        let loss = losses[0].as_f64().unwrap() - entropy;
        assert!((loss - at(first, "excess")).abs() < 1e-4, "{name}: {loss}");
    }
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(
        page.contains("examples/sixteen-contexts.txt") && page.contains("id=\"learned-logits\"")
    );
    // Headings say what came, whichever way it went.
    assert!(page.contains("nats, in all 4 networks"));
    assert!(page.contains("and than by chance, in all 4 networks"));
    let tables = std::fs::read_dir(out.join("data")).unwrap().count();
    assert_eq!(tables, 17);

    // The same folder is filled again; one with another's report is not.
    assert!(experiment(&out, &["--kinds", "mlp:2"]).status.success());
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("nats, in 0 of 1 network"));
    let foreign = folder.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("report.html"), "mine").unwrap();
    let refused = experiment(&foreign, &["--kinds", "mlp:2"]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(
        std::fs::read_to_string(foreign.join("report.html")).unwrap(),
        "mine"
    );
}

#[test]
fn what_cannot_be_run_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("page");
    for (more, code, reason) in [
        (
            vec!["--kinds", "rnn"],
            2,
            "none of ufm, transformer, mlp and lstm",
        ),
        (vec!["--kinds", "ufm:0"], 2, "whole number from 1"),
        (vec!["--min-support", "9"], 2, "--min-support"),
        (
            vec!["--kinds", "transformer:2", "--width", "20"],
            2,
            "multiple of 8",
        ),
        (vec!["--to", "2"], 2, "penalties"),
    ] {
        let run = experiment(&out, &more);
        let error = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(code), "{more:?}: {error}");
        assert!(error.contains(reason), "{more:?}: {error}");
        assert!(!out.join("report.html").exists());
    }
}

#[test]
fn the_tutorials_figures_are_those_of_its_commands() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/predicted-geometry.md")).unwrap();
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let corpus = root
        .join("examples/twenty-sentences.txt")
        .display()
        .to_string();
    let ask = |command: &str, more: &[&str]| -> Value {
        let mut arguments = vec![
            "geometry",
            command,
            "--quiet",
            "--json",
            "--corpus",
            &corpus,
            "--order",
            "2",
            "--min-count",
            "2",
        ];
        arguments.extend(more);
        let run = lawvere(&arguments);
        assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
        serde_json::from_slice(&run.stdout).unwrap()
    };
    let says = |text: String| assert!(page.contains(&text), "the tutorial does not say `{text}`");
    let solved = ask("max-margin", &[]);
    let number = |value: &Value, field: &str| {
        value[field]
            .as_f64()
            .unwrap_or_else(|| panic!("{field}: {value}"))
    };
    says(format!(
        "The nuclear norm is {:.6}",
        number(&solved, "value")
    ));
    says(format!(
        "has nuclear norm {:.3}: close",
        number(&solved, "proxy_value")
    ));
    says(format!(
        "left {} x {} of",
        solved["reduced_tokens"], solved["reduced_contexts"]
    ));
    says(format!(
        "{} x {}. The *proxy*",
        solved["vocabulary"], solved["contexts"]
    ));
    assert_eq!(solved["proxy_optimal"], Value::Bool(false));
    assert!(number(&solved, "relative_gap") <= 1e-7);
    let supports = ask("supports", &[]);
    says(format!(
        "m = {} of them, with V = {} next tokens",
        supports["contexts"], supports["vocabulary"]
    ));
    says(format!("n = {} occurrences", supports["samples"]));
    says(format!("of which {} entries", supports["entries"]));
    says(format!(
        "Only {} of the {} supports are different",
        supports["classes"], supports["contexts"]
    ));
    let growth = supports["growth"]["points"].as_array().unwrap();
    let mean = |fraction: f64| {
        let mut points = growth.iter();
        let point = points.find(|p| number(p, "fraction") == fraction);
        number(&point.unwrap()["mean_support"], "mean")
    };
    says(format!(
        "a support holds {:.1} tokens on average, with all of them {:.1}",
        mean(0.5),
        mean(1.0)
    ));
    let finite = ask("finite", &[]);
    says(format!(
        "its norm here is {:.4} nats",
        number(&finite, "norm")
    ));
    let path = ask("path", &["--points", "9"]);
    says(format!("H = {:.4} nats", number(&path, "entropy")));
    let at = |relative: f64| {
        let points = path["points"].as_array().unwrap();
        let near = |p: &&Value| (number(p, "relative_lambda") / relative - 1.0).abs() < 1e-6;
        points.iter().find(near).unwrap()
    };
    says(format!(
        "({:.2} at λ = 10⁻³ λ_max)",
        number(at(1e-3), "excess_rate")
    ));
    says(format!(
        "cosine {:.3} with L^mm at λ = 10⁻³ λ_max, {:.3} at 10⁻⁸",
        number(at(1e-3), "cosine"),
        number(at(1e-8), "cosine")
    ));
    says(format!(
        "at L^in to {:.0e}",
        number(at(1e-8), "finite_distance")
    ));
}
