//! Builds that are killed, and disks that are full: never half an index under a final name.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{fail, succeed};
use lawvere::text::TextSpace;

/// Runs are timed, so that they must not disturb one another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Lines of a corpus whose index takes a few tenths of a second, `from` setting two of them apart.
fn corpus(lines: usize, from: u64) -> String {
    let mut state = from;
    let mut word = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        state >> 52
    };
    let line = |_| format!("{} {} {} {}\n", word(), word(), word(), word());
    (0..lines).map(line).collect()
}

/// Starts the command and kills it after `moment`, if it is still there then. Whether it was.
fn killed(folder: &Path, args: &[&str], moment: Duration) -> bool {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lawvere"))
        .current_dir(folder)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    sleep(moment);
    let there = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    there
}

/// What killed runs left in a folder: files and folders of no final name.
fn left_over(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let ours = |p: &std::path::PathBuf| {
        let name = p.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(".lawvere-")
    };
    entries.filter(ours).collect()
}

const BUILD: [&str; 12] = [
    "index",
    "build",
    "--corpus",
    "a.txt",
    "--tokenizer",
    "bytes",
    "--shard-tokens",
    "50000",
    "--out",
    "ix",
    "--threads",
    "2",
];

#[test]
fn a_build_killed_at_any_of_200_moments_leaves_no_index_or_a_whole_one() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.txt"), corpus(40_000, 1)).unwrap();
    let start = Instant::now();
    succeed(at, &BUILD);
    let whole = start.elapsed();
    let index = at.join("ix");
    let tokens = TextSpace::open(&index).unwrap().tokens();
    let (mut interrupted, mut midway) = (0, 0);
    for i in 0..200 {
        let _ = fs::remove_dir_all(&index);
        let moment = whole.mul_f64(f64::from(i) / 160.0);
        interrupted += usize::from(killed(at, &BUILD, moment));
        match TextSpace::open(&index) {
            Ok(space) => {
                assert_eq!(space.tokens(), tokens);
                assert!(space.info().shards.len() > 2);
            }
            Err(error) => assert!(!index.exists(), "moment {i}: {error}"),
        }
        for left in left_over(at) {
            let shards = fs::read_dir(&left).unwrap();
            midway += usize::from(shards.count() > 0);
            fs::remove_dir_all(left).unwrap();
        }
    }
    println!("{interrupted} of 200 were killed, {midway} of them in the middle of writing");
    assert!(interrupted >= 50 && midway >= 5);
    // What a killed run left does not stand in the way of the next.
    killed(at, &BUILD, whole / 2);
    succeed(at, &BUILD);
    assert!(TextSpace::verify(&index, &mut |_| {}).unwrap().sound);
}

#[test]
fn an_addition_killed_at_any_moment_leaves_the_index_as_it_was_or_with_all_of_it() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.txt"), corpus(10_000, 1)).unwrap();
    fs::write(at.join("b.txt"), corpus(30_000, 2)).unwrap();
    succeed(at, &BUILD);
    let index = at.join("ix");
    let before = TextSpace::open(&index).unwrap().tokens();
    let append = [
        "index",
        "append",
        "--index",
        "ix",
        "--corpus",
        "b.txt",
        "--shard-tokens",
        "50000",
    ];
    let start = Instant::now();
    succeed(at, &append);
    let whole = start.elapsed();
    let after = TextSpace::open(&index).unwrap().tokens();
    assert!(after > 3 * before);
    let mut left = 0;
    for i in 0..40 {
        fs::remove_dir_all(&index).unwrap();
        succeed(at, &BUILD);
        killed(at, &append, whole.mul_f64(f64::from(i) / 32.0));
        let tokens = TextSpace::open(&index).unwrap().tokens();
        assert!(tokens == before || tokens == after, "{tokens}");
        let found = TextSpace::repair(&index, &mut |_| {}).unwrap();
        assert!(found.shards.iter().all(|s| s.problem.is_none()));
        left += found.left_over.len();
        assert!(TextSpace::verify(&index, &mut |_| {}).unwrap().sound);
    }
    assert!(left > 0, "no killed addition left a file");
}

/// Runs the command where no file may grow beyond `blocks` of 512 bytes.
fn limited(folder: &Path, blocks: usize, args: &[&str]) -> Output {
    let limit = format!("ulimit -f {blocks}; exec \"$@\"");
    Command::new("sh")
        .args(["-c", &limit, "sh", env!("CARGO_BIN_EXE_lawvere")])
        .current_dir(folder)
        .args(args)
        .arg("--quiet")
        .output()
        .unwrap()
}

#[test]
fn a_full_disk_is_one_line_and_leaves_what_was_there() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.txt"), corpus(2_000, 1)).unwrap();
    fs::write(at.join("b.txt"), corpus(40_000, 2)).unwrap();
    let refused = |args: &[&str], place: &str| {
        let output = limited(at, 1024, args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{}: {errors}", output.status);
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(
            errors.contains(place) && errors.contains("File too large"),
            "{errors}"
        );
        assert!(output.stdout.is_empty());
    };
    let mut large = BUILD;
    (large[3], large[7]) = ("b.txt", "100000000");
    refused(&large, "ix");
    assert!(!at.join("ix").exists() && left_over(at).is_empty());

    succeed(at, &BUILD);
    let index = at.join("ix");
    let before = TextSpace::open(&index).unwrap().tokens();
    let names = || fs::read_dir(&index).unwrap().count();
    let files = names();
    refused(&large, "ix");
    // Two shards that fit and one that does not.
    let small = corpus(5_000, 3);
    fs::write(at.join("c.txt"), &small).unwrap();
    refused(
        &[
            "index",
            "append",
            "--index",
            "ix",
            "--corpus",
            "c.txt",
            "b.txt",
            "--shard-tokens",
            "80000",
        ],
        "ix",
    );
    assert_eq!(TextSpace::open(&index).unwrap().tokens(), before);
    assert_eq!((names(), left_over(at).len()), (files, 0));
    assert!(TextSpace::verify(&index, &mut |_| {}).unwrap().sound);
}

#[cfg(target_os = "linux")]
#[test]
fn a_place_that_cannot_be_written_to_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.txt"), "a b c\n").unwrap();
    // No one may make a folder there, root neither.
    for out in ["/sys/lawvere-index", "/proc/lawvere-index"] {
        let args = ["index", "build", "--corpus", "a.txt", "--out", out];
        fail(at, &args, 1, &[out], &[]);
    }
}
