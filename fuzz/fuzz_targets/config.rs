#![no_main]

#[allow(dead_code)]
mod common;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    common::folder(&[("model.safetensors", include_bytes!("../../fixtures/llama-tiny/tied/model.safetensors"))])
});

fuzz_target!(|data: &[u8]| {
    common::put(&FOLDER, "config.json", data);
    common::open(FOLDER.path());
});
