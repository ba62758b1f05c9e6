//! Checkpoints by their names, out of a cache as the hub's own tools fill it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

#[test]
fn a_checkpoint_in_the_cache_is_opened_by_its_name() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("models--tiny--llama");
    let snapshot = folder.join("snapshots/0123abc");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(folder.join("refs")).unwrap();
    std::fs::create_dir_all(folder.join("blobs")).unwrap();
    std::fs::write(folder.join("refs/main"), "0123abc").unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/llama-tiny/tied");
    for name in ["config.json", "model.safetensors"] {
        // As it is there: files are links to blobs.
        std::fs::copy(from.join(name), folder.join("blobs").join(name)).unwrap();
        std::os::unix::fs::symlink(Path::new("../../blobs").join(name), snapshot.join(name))
            .unwrap();
    }
    let run = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lawvere"));
        command.args(["model", "info", "--quiet", "--model", name]);
        command.env("HF_HUB_CACHE", cache.path()).output().unwrap()
    };
    for name in [
        "hf:tiny/llama",
        "hf:tiny/llama@0123abc",
        "hf:tiny/llama@main",
    ] {
        let output = run(name);
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && told.contains("Llama"),
            "{output:?}"
        );
    }
    for (name, wanted) in [
        ("hf:tiny/other", "fetch it with `hf download tiny/other`"),
        (
            "hf:tiny/llama@v2",
            "does not hold its revision v2 (it has: main)",
        ),
        ("hf:tiny", "a checkpoint is named hf:ORGANISATION/NAME"),
    ] {
        let output = run(name);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(
            told.contains(wanted) && told.trim_end().lines().count() == 1,
            "{told}"
        );
    }
}
