#![no_main]

#[allow(dead_code)]
mod common;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    common::folder(&[("config.json", include_bytes!("../../fixtures/llama-tiny/sharded/config.json")),
        ("model-00001-of-00003.safetensors", include_bytes!("../../fixtures/llama-tiny/sharded/model-00001-of-00003.safetensors")),
        ("model-00002-of-00003.safetensors", include_bytes!("../../fixtures/llama-tiny/sharded/model-00002-of-00003.safetensors")),
        ("model-00003-of-00003.safetensors", include_bytes!("../../fixtures/llama-tiny/sharded/model-00003-of-00003.safetensors")),])
});

fuzz_target!(|data: &[u8]| {
    common::put(&FOLDER, "model.safetensors.index.json", data);
    common::open(FOLDER.path());
});
