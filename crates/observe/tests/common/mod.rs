//! What the tests of this crate share.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};

use lawvere_lm::LanguageModel;
use lawvere_observe::{Info, Observation};
use lawvere_text::{Corpus, TextSpace, Tokenizer};

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

/// 131 tokens, states of 48 numbers, layers 0 to 3, no beginning-of-text token, 256 positions.
pub fn tiny_model() -> LanguageModel {
    LanguageModel::open(&fixture("llama-tiny/untied")).unwrap()
}

/// Documents of `lengths` words drawn from `words` different ones, always the same.
pub fn random_space(lengths: &[usize], words: u64) -> TextSpace {
    let mut state = 20_240_229u64;
    let mut word = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // The product of two draws makes some words frequent and many rare.
        format!(
            "w{}",
            ((state >> 33) % words) * ((state >> 45) % words) / words
        )
    };
    let documents: Vec<String> = lengths
        .iter()
        .map(|&n| (0..n).map(|_| word()).collect::<Vec<_>>().join(" "))
        .collect();
    space_of(&documents)
}

pub fn space_of<T: AsRef<str>>(documents: &[T]) -> TextSpace {
    let tokenizer = Tokenizer::words(documents.iter().map(AsRef::as_ref)).unwrap();
    let corpus = Corpus::from_documents(documents).unwrap();
    TextSpace::build(&corpus, &tokenizer, &mut |_| {}).unwrap()
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// Everything but how it is cut into files.
pub fn assert_same(a: &Observation, b: &Observation) {
    let about = |o: &Observation| Info {
        files: Default::default(),
        ..o.info.clone()
    };
    assert_eq!(about(a), about(b));
    assert_eq!(a.contexts, b.contexts);
    assert_eq!(a.counts, b.counts);
    assert_eq!(a.blocks, b.blocks);
    assert_eq!(a.weights.len(), b.weights.len());
    for (x, y) in a.weights.iter().zip(&b.weights) {
        assert!((x - y).abs() <= 1e-15, "{x} {y}");
    }
    assert_eq!(a.states, b.states);
    assert_eq!(a.head, b.head);
    let identity = |o: &Observation| o.tokenizer.as_ref().map(|t| t.identity().to_owned());
    assert_eq!(identity(a), identity(b));
}

pub fn assert_close(what: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (k, (x, y)) in a.iter().zip(b).enumerate() {
        let close = (x - y).abs() <= tolerance * (1.0 + y.abs());
        assert!(close, "{what}, number {k}: {x} is not {y}");
    }
}

/// The error, one line that begins with the path it is about.
pub fn refused<T>(result: Result<T, impl std::fmt::Display>, about: &Path) -> String {
    let error = match result {
        Ok(_) => panic!("{}: was not refused", about.display()),
        Err(error) => error.to_string(),
    };
    assert!(!error.contains('\n'), "{error}");
    let begins = format!("{}: ", about.display());
    assert!(
        error.starts_with(&begins),
        "{error:?} is not about {begins:?}"
    );
    error
}
