//! Running the command and holding it to what it promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

use std::path::Path;
use std::process::{Command, Output};

pub fn lawvere(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lawvere"))
        .current_dir(folder)
        .args(args)
        .output()
        .unwrap()
}

pub fn succeed(folder: &Path, args: &[&str]) -> String {
    let output = lawvere(folder, args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail with `status` and one line on standard error that names everything
/// in `wanted`; nothing may be left under the names in `absent`.
pub fn fail(folder: &Path, args: &[&str], status: i32, wanted: &[&str], absent: &[&str]) {
    let output = lawvere(folder, &[args, &["--quiet"]].concat());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {errors}");
    if status == 1 {
        assert_eq!(errors.trim_end().lines().count(), 1, "{args:?}: {errors}");
    }
    for word in wanted {
        assert!(
            errors.contains(word),
            "{args:?}: `{word}` is not in: {errors}"
        );
    }
    assert!(
        output.stdout.is_empty(),
        "{args:?}: a failed run printed a result"
    );
    for name in absent {
        assert!(
            !folder.join(name).exists(),
            "{args:?}: {name} was left behind"
        );
    }
}

pub fn folder_with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}
