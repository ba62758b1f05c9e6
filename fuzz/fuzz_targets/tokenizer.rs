#![no_main]

#[allow(dead_code)]
mod common;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    common::folder(&[])
});

fuzz_target!(|data: &[u8]| {
    let path = common::put(&FOLDER, "tokenizer.json", data);
    let Ok(tokenizer) = lawvere_token::Tokenizer::open(&path) else {
        return;
    };
    for text in ["", "the cat sat", " 12, 3\u{301}\u{1f415}\u{200d}\u{1f9ba}\n\0"] {
        if let Ok(ids) = tokenizer.encode(text) {
            let _ = tokenizer.decode(&ids);
        }
    }
});
