#![no_main]

#[allow(dead_code)]
mod common;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    common::folder(&[])
});

fuzz_target!(|data: &[u8]| {
    common::open(&common::put(&FOLDER, "model.gguf", data));
});
