//! Observations that other programs wrote, and those written again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{
    assert_close, assert_same, copy_folder, fixture, names, random_space, refused, tiny_model,
};
use lawvere_observe::{
    ContextPlan, Info, Kind, Layers, Observation, Observer, PositionPlan, Progress, Rows,
};
use lawvere_text::DocumentEnd;

fn fixture_observation() -> Observation {
    Observation::open(&fixture("measures/observation")).unwrap()
}

/// Runs the example with Python, or fails with how to get what it needs.
fn run_example(out: &Path) {
    let python = std::env::var("LAWVERE_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/write_observation.py");
    let run = Command::new(&python).arg(script).arg(out).output();
    let help = "this test needs Python with numpy and safetensors: run scripts/test.sh, which \
                installs them, or set LAWVERE_PYTHON to a Python that has them";
    let run = run.unwrap_or_else(|e| panic!("{python} cannot be started ({e}); {help}"));
    let said = String::from_utf8_lossy(&run.stderr);
    let missing = said.contains("ModuleNotFoundError");
    assert!(!missing, "{python} lacks a module; {help}\n{said}");
    assert!(run.status.success(), "{said}");
}

#[test]
fn what_the_python_example_writes_opens_and_is_the_fixture() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("written/by/python");
    run_example(&out);
    let python = Observation::open(&out).unwrap();

    assert_eq!((python.info.kind, python.rows()), (Kind::Contexts, 48));
    assert_eq!(python.info.vocab_size, 60);
    assert_eq!(python.counts.ncols(), 61);
    assert_eq!(python.info.document_end, DocumentEnd::Dropped);
    let states = python.states.as_ref().unwrap();
    let shapes: Vec<_> = states
        .layers()
        .map(|(l, m)| (l, m.nrows(), m.ncols()))
        .collect();
    assert_eq!(shapes, [(0, 48, 8), (3, 48, 8)]);
    let head = python.head.as_ref().unwrap();
    assert_eq!((head.weight.nrows(), head.weight.ncols()), (60, 8));
    assert_eq!(head.bias.as_ref().unwrap().len(), 60);
    let norm = head.norm.as_ref().unwrap();
    assert_eq!((norm.weight.len(), norm.eps), (8, 1e-5));
    assert!(python.blocks.is_none() && python.tokenizer.is_none());
    // Without weights in the file a row weighs its share of the occurrences.
    let occurrences: u64 = python.counts.row(5).1.iter().sum();
    let share = occurrences as f64 / python.samples() as f64;
    assert!((python.weights[5] - share).abs() < 1e-15);

    let fixture = fixture_observation();
    let about = |o: &Observation| Info {
        files: Default::default(),
        ..o.info.clone()
    };
    assert_eq!(about(&python), about(&fixture));
    assert_eq!(python.contexts, fixture.contexts);
    assert_eq!(python.counts, fixture.counts);
    assert_eq!(python.weights, fixture.weights);
    let expected = fixture.states.as_ref().unwrap();
    for ((_, ours), (layer, theirs)) in states.layers().zip(expected.layers()) {
        let what = format!("layer {layer}");
        assert_close(&what, ours.data(), theirs.data(), 1e-5);
    }
    let expected = fixture.head.as_ref().unwrap();
    assert_close("head", head.weight.data(), expected.weight.data(), 1e-5);
    let biases = (&head.bias, &expected.bias);
    assert_close(
        "bias",
        biases.0.as_ref().unwrap(),
        biases.1.as_ref().unwrap(),
        1e-5,
    );
    let weight = &expected.norm.as_ref().unwrap().weight;
    assert_close("norm", &norm.weight, weight, 1e-5);
}

#[test]
fn an_observation_that_was_saved_opens_with_the_same_contents() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("new/saved");
    let first = fixture_observation();
    first.save(&saved).unwrap();
    let second = Observation::open(&saved).unwrap();
    assert_same(&first, &second);
    assert!(second.info.files.values().all(Option::is_some));
    assert_eq!(names(saved.parent().unwrap()), ["saved"]);
    // Again, over itself.
    second.save(&saved).unwrap();
    assert_same(&first, &Observation::open(&saved).unwrap());
    assert_eq!(names(saved.parent().unwrap()), ["saved"]);
}

#[test]
fn every_kind_of_observation_is_the_same_after_it_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let space = random_space(&[40, 1, 7, 90, 12], 30);
    let model = tiny_model();
    let alone = Observer::new(&space, None, &Layers::Last).unwrap();
    let with_model = Observer::new(&space, Some(&model), &Layers::Spread).unwrap();
    let contexts = |order, document_end| ContextPlan {
        order,
        min_count: 1,
        top: Some(20),
        document_end: Some(document_end),
    };
    let positions = PositionPlan {
        positions: 100,
        window: Some(16),
        seed: 1,
    };
    let drafts = [
        (
            &alone,
            alone.contexts(&contexts(0, DocumentEnd::Outcome)).unwrap(),
        ),
        (
            &alone,
            alone.contexts(&contexts(2, DocumentEnd::Outcome)).unwrap(),
        ),
        (&alone, alone.positions(&positions).unwrap()),
        (
            &with_model,
            with_model
                .contexts(&contexts(1, DocumentEnd::Dropped))
                .unwrap(),
        ),
        (&with_model, with_model.positions(&positions).unwrap()),
    ];
    let mut ignore = |_: Progress| {};
    for (observer, draft) in drafts {
        let (made, saved) = (folder.path().join("made"), folder.path().join("saved"));
        let first = observer.make(&draft, &made, &mut ignore).unwrap();
        first.save(&saved).unwrap();
        assert_same(&first, &Observation::open(&saved).unwrap());
        assert!(first.tokenizer.is_some() && first.blocks.is_some());
        if let Rows::Contexts { order, tokens } = &first.contexts {
            assert_eq!(tokens.len(), order * first.rows());
        }
    }
}

#[test]
fn an_observation_and_an_empty_folder_are_replaced_and_anything_else_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let observation = fixture_observation();
    let place = folder.path().join("place");
    fs::create_dir(&place).unwrap();
    observation.save(&place).unwrap();
    observation.save(&place).unwrap();

    fs::write(place.join("notes.md"), "mine").unwrap();
    let error = refused(observation.save(&place), &place);
    assert!(error.contains("notes.md"), "{error}");
    assert_eq!(fs::read(place.join("notes.md")).unwrap(), b"mine");
    assert!(Observation::open(&place).is_ok());

    let file = place.join("notes.md");
    let error = refused(observation.save(&file), &file);
    assert!(error.contains("a file of that name is there"), "{error}");

    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("tokenizer.json"), "{}").unwrap();
    let error = refused(observation.save(&other), &other);
    assert!(error.contains("is not an observation"), "{error}");
    assert_eq!(names(folder.path()), ["other", "place"]);
}

#[cfg(unix)]
#[test]
fn a_link_to_an_observation_stays_a_link_when_it_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    copy_folder(&fixture("measures/observation"), &target);
    std::os::unix::fs::symlink(&target, &link).unwrap();
    fixture_observation().save(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    // What was written here names its first file of states so.
    assert!(target.join("states-00000.safetensors").exists());
}
