#![no_main]

#[allow(dead_code)]
mod common;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    common::folder(&[("config.json", include_bytes!("../../fixtures/llama-tiny/tied/config.json"))])
});

fuzz_target!(|data: &[u8]| {
    common::put(&FOLDER, "model.safetensors", data);
    common::open(FOLDER.path());
});
