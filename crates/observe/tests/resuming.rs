//! Runs that are cut off: what they leave, and what a rerun makes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{assert_same, names, random_space, refused, tiny_model};
use lawvere_lm::LanguageModel;
use lawvere_observe::{
    ContextPlan, Draft, Layers, Observation, ObserveError, Observer, PositionPlan, Rows,
};
use lawvere_text::{DocumentEnd, TextSpace};

/// The fewest rows of a file of states.
const SHARD_ROWS: usize = 1024;

fn space() -> TextSpace {
    random_space(&[2500; 4], 100)
}

/// Pairs of words: more than three files of states, unless `top` is less.
fn pairs(observer: &Observer<'_>, top: usize) -> Draft {
    let plan = ContextPlan {
        order: 2,
        min_count: 1,
        top: Some(top),
        document_end: Some(DocumentEnd::Dropped),
    };
    observer.contexts(&plan).unwrap()
}

fn partial(destination: &Path) -> PathBuf {
    destination.with_extension("partial")
}

/// Makes `draft` and dies of a panic when `rows` are read.
fn interrupt(observer: &Observer<'_>, draft: &Draft, destination: &Path, rows: usize) {
    let run = || {
        observer.make(draft, destination, &mut |p| {
            assert!(p.done < rows, "interrupted on purpose");
        })
    };
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
    assert!(!destination.exists() && partial(destination).exists());
}

/// What a run that nobody interrupts makes.
fn uninterrupted(observer: &Observer<'_>, draft: &Draft, destination: &Path) -> Observation {
    observer.make(draft, destination, &mut |_| {}).unwrap()
}

fn assert_same_files(a: &Path, b: &Path) {
    assert_eq!(names(a), names(b));
    for name in names(a) {
        let same = fs::read(a.join(&name)).unwrap() == fs::read(b.join(&name)).unwrap();
        assert!(same, "{name} differs");
    }
}

/// Which file this is and when it was written.
fn stamp(path: &Path) -> (u64, std::time::SystemTime) {
    let metadata = fs::metadata(path).unwrap();
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let number = metadata.len();
    (number, metadata.modified().unwrap())
}

/// Where the child of the test below is to make its observation.
const KILLED_CHILD: &str = "LAWVERE_TEST_MAKE_AND_ABORT";

#[test]
fn a_killed_run_leaves_nothing_under_the_final_name_and_a_rerun_keeps_its_parts() {
    let (space, model) = (space(), tiny_model());
    let observer = Observer::new(&space, Some(&model), &Layers::All).unwrap();
    let draft = pairs(&observer, usize::MAX);
    assert!(draft.rows() > 3 * SHARD_ROWS, "{}", draft.rows());
    if let Some(destination) = std::env::var_os(KILLED_CHILD) {
        let abort = &mut |_| std::process::abort();
        let _ = observer.make(&draft, Path::new(&destination), abort);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let destination = folder.path().join("made");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("a_killed_run_leaves_nothing_under_the_final_name_and_a_rerun_keeps_its_parts")
        .env(KILLED_CHILD, &destination)
        .output()
        .unwrap();
    // A child that was killed has no exit code.
    assert_eq!(child.status.code(), None, "{child:?}");

    assert_eq!(names(folder.path()), ["made.partial"]);
    let partial = partial(&destination);
    let left = [
        "contexts.safetensors",
        "plan.sha256",
        "states-00000.safetensors",
        "tokenizer.json",
    ];
    assert_eq!(names(&partial), left);
    refused(
        Observation::open(&partial),
        &partial.join("observation.json"),
    );
    refused(Observation::open(&destination), &destination);
    let kept = stamp(&partial.join("states-00000.safetensors"));
    // A run that is killed while it writes a file leaves it under a name like this.
    fs::write(partial.join(".lawvere-Xy12Zw"), "half").unwrap();

    let mut progress = Vec::new();
    let made = observer
        .make(&draft, &destination, &mut |p| {
            progress.push((p.done, p.total))
        })
        .unwrap();
    let rows = draft.rows();
    assert_eq!(progress[0], (SHARD_ROWS, rows));
    assert_eq!(*progress.last().unwrap(), (rows, rows));
    assert_eq!(progress.len(), rows.div_ceil(SHARD_ROWS));
    assert_eq!(names(folder.path()), ["made"]);
    let found = stamp(&destination.join("states-00000.safetensors"));
    assert_eq!(found, kept, "the part was not kept");

    let whole = folder.path().join("whole");
    assert_same(&made, &uninterrupted(&observer, &draft, &whole));
    assert_same_files(&destination, &whole);
}

#[test]
fn a_changed_plan_begins_anew() {
    let (space, model) = (space(), tiny_model());
    let all = Observer::new(&space, Some(&model), &Layers::All).unwrap();
    let last = Observer::new(&space, Some(&model), &Layers::Last).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (many, few) = (pairs(&all, usize::MAX), pairs(&all, SHARD_ROWS + 1));
    let changed = [(&all, few.clone()), (&last, pairs(&last, SHARD_ROWS + 1))];
    for (number, (observer, draft)) in changed.into_iter().enumerate() {
        let destination = folder.path().join(format!("made{number}"));
        // The old plan has more parts than the new one, and parts of the same names.
        interrupt(&all, &many, &destination, 3 * SHARD_ROWS);
        assert!(
            partial(&destination)
                .join("states-00002.safetensors")
                .exists()
        );
        uninterrupted(observer, &draft, &destination);
        let whole = folder.path().join(format!("whole{number}"));
        uninterrupted(observer, &draft, &whole);
        assert_same_files(&destination, &whole);
        assert!(!partial(&destination).exists());
    }
}

#[test]
fn parts_of_a_checkpoint_with_another_configuration_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("model");
    let destination = folder.path().join("made");
    common::copy_folder(&common::fixture("llama-tiny/untied"), &checkpoint);
    let space = space();
    let make = |destination: &Path, interrupted: bool| {
        let model = LanguageModel::open(&checkpoint).unwrap();
        let observer = Observer::new(&space, Some(&model), &Layers::Last).unwrap();
        let draft = pairs(&observer, SHARD_ROWS + 1);
        if interrupted {
            interrupt(&observer, &draft, destination, SHARD_ROWS);
        } else {
            uninterrupted(&observer, &draft, destination);
        }
    };
    make(&destination, true);
    let config = fs::read_to_string(checkpoint.join("config.json")).unwrap();
    let other = config.replace("\"rope_theta\": 10000.0", "\"rope_theta\": 20000.0");
    assert_ne!(config, other);
    fs::write(checkpoint.join("config.json"), other).unwrap();
    make(&destination, false);
    make(&folder.path().join("whole"), false);
    assert_same_files(&destination, &folder.path().join("whole"));
}

#[test]
fn a_partial_folder_with_files_of_others_is_refused_and_left_alone() {
    let (space, model) = (space(), tiny_model());
    let observer = Observer::new(&space, Some(&model), &Layers::Last).unwrap();
    let draft = pairs(&observer, SHARD_ROWS + 1);
    let folder = tempfile::tempdir().unwrap();
    let check = |destination: &Path, foreign: &str| {
        let partial = partial(destination);
        fs::create_dir_all(&partial).unwrap();
        fs::write(partial.join(foreign), "mine").unwrap();
        let before = names(&partial);
        let result = observer.make(&draft, destination, &mut |_| {});
        assert!(matches!(result, Err(ObserveError::Destination { .. })));
        let error = refused(result, &partial);
        assert!(error.contains("holds something else"), "{error}");
        assert_eq!(names(&partial), before);
        assert_eq!(fs::read(partial.join(foreign)).unwrap(), b"mine");
        assert!(!destination.exists());
    };
    check(&folder.path().join("notes"), "notes.md");
    // Without a plan, files of our names are not known to be ours either.
    check(&folder.path().join("names"), "contexts.safetensors");
    for (name, top) in [("same", SHARD_ROWS + 1), ("other", 2000)] {
        let destination = folder.path().join(name);
        let begun = pairs(&observer, top);
        interrupt(&observer, &begun, &destination, SHARD_ROWS);
        check(&destination, "notes.md");
    }
}

#[test]
fn a_run_killed_while_it_began_is_begun_anew() {
    let (space, model) = (random_space(&[50], 20), tiny_model());
    let observer = Observer::new(&space, Some(&model), &Layers::Last).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let destination = folder.path().join("made");
    fs::create_dir(partial(&destination)).unwrap();
    fs::write(partial(&destination).join(".lawvere-ab12cd"), "4f").unwrap();
    uninterrupted(&observer, &pairs(&observer, 10), &destination);
    assert!(!names(&destination).iter().any(|n| n.starts_with('.')));
}

#[test]
fn a_run_killed_just_before_the_end_leaves_an_observation_that_opens_and_is_replaced() {
    let (space, model) = (random_space(&[50], 20), tiny_model());
    let observer = Observer::new(&space, Some(&model), &Layers::Last).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let destination = folder.path().join("made");
    let made = uninterrupted(&observer, &pairs(&observer, 10), &destination);
    // The plan is removed last.
    let plan = destination.join("plan.sha256");
    assert!(!plan.exists());
    fs::write(&plan, "00").unwrap();
    assert_same(&made, &Observation::open(&destination).unwrap());
    let other = uninterrupted(&observer, &pairs(&observer, 11), &destination);
    assert_eq!(other.rows(), 11);
    assert!(!plan.exists());
}

#[test]
fn what_is_finished_is_not_made_again_unless_it_is_damaged() {
    let (space, model) = (random_space(&[50], 20), tiny_model());
    let observer = Observer::new(&space, Some(&model), &Layers::Last).unwrap();
    let draft = pairs(&observer, 10);
    let folder = tempfile::tempdir().unwrap();
    let destination = folder.path().join("made");
    let first = uninterrupted(&observer, &draft, &destination);
    let states = destination.join("states-00000.safetensors");
    let (before, bytes) = (stamp(&states), fs::read(&states).unwrap());
    let again = observer
        .make(&draft, &destination, &mut |_| panic!("read again"))
        .unwrap();
    assert_same(&first, &again);
    assert_eq!(stamp(&states), before);

    fs::write(&states, &bytes[..bytes.len() - 1]).unwrap();
    assert_same(&first, &uninterrupted(&observer, &draft, &destination));
    assert_eq!(fs::read(&states).unwrap(), bytes);
}

#[test]
fn files_of_states_end_where_windows_end() {
    let (space, model) = (space(), tiny_model());
    let observer = Observer::new(&space, Some(&model), &Layers::Last).unwrap();
    let plan = PositionPlan {
        positions: 4000,
        window: Some(100),
        seed: 3,
    };
    let draft = observer.positions(&plan).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let destination = folder.path().join("made");
    interrupt(&observer, &draft, &destination, 2 * SHARD_ROWS);
    let made = uninterrupted(&observer, &draft, &destination);
    let whole = folder.path().join("whole");
    uninterrupted(&observer, &draft, &whole);
    assert_same_files(&destination, &whole);

    let Rows::Positions(positions) = &made.contexts else {
        panic!("{:?}", made.contexts)
    };
    let mut end = 0;
    let parts = names(&destination);
    for name in parts.iter().filter(|n| n.starts_with("states-")) {
        let bytes = fs::read(destination.join(name)).unwrap();
        let arrays = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let rows = arrays.tensor("layer.3").unwrap().shape()[0];
        end += rows;
        if end < made.rows() {
            assert!((SHARD_ROWS..SHARD_ROWS + 100).contains(&rows), "{rows}");
            assert_ne!(positions.window[end], positions.window[end - 1]);
        }
    }
    assert_eq!(end, made.rows());
}
