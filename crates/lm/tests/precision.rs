//! Products in bfloat16, by every way that the machine has, beside float32.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_core::{Bf16Kernel, ContextBatch, Factored};
use lawvere_lm::{LanguageModel, Precision};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sample() -> PathBuf {
    let path = root().join("sample/smollm2-135m-instruct-q4_1.gguf");
    assert!(path.exists(), "run scripts/fetch-sample.sh");
    path
}

fn ways() -> impl Iterator<Item = Precision> {
    Bf16Kernel::available().into_iter().map(Precision::Bf16)
}

#[test]
fn log_probabilities_of_the_sample_model_stay_within_two_hundredths_of_a_nat() {
    let text = std::fs::read_to_string(root().join("sample/king-james.txt")).unwrap();
    let exact = LanguageModel::open(&sample()).unwrap();
    let tokens = exact.tokenizer().unwrap().encode(&text[..8000]).unwrap();
    let (long, short) = tokens.split_at(768);
    let rows: Vec<&[u32]> = std::iter::once(long).chain(short.chunks(64)).collect();
    let questions: Vec<(&[u32], &[u32])> = rows.iter().map(|row| row.split_at(1)).collect();
    let scores = |model: &LanguageModel| -> Vec<f64> {
        let scores = model.score(&questions).unwrap();
        let each = scores.scores.iter().flat_map(|s| s.tokens.iter());
        each.map(|x| f64::from(*x)).collect()
    };
    let expected = scores(&exact);
    assert!(expected.len() > 1000);
    for precision in ways() {
        let model = LanguageModel::open_in(&sample(), precision).unwrap();
        assert_ne!(model.identity(), exact.identity());
        assert!(model.bytes() < exact.bytes() * 2 / 3);
        let off = scores(&model)
            .into_iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs());
        let (mean, most) = off.fold((0.0, 0.0f64), |(sum, most), x| (sum + x, most.max(x)));
        let mean = mean / expected.len() as f64;
        println!("{precision}: {mean:.5} nats on average, {most:.3} at most");
        assert!(mean < 0.02 && mean > 1e-5, "{precision}: {mean} nats");
    }
}

#[test]
fn every_family_comes_near_its_float32() {
    let families = root().join("fixtures/families");
    let mut seen = 0;
    for entry in std::fs::read_dir(families).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.join("config.json").exists() {
            continue;
        }
        seen += 1;
        let logits = |precision| {
            let model = LanguageModel::open_in(&folder, precision).unwrap();
            let tokens: Vec<u32> = (1..25).collect();
            let mut contexts = ContextBatch::new();
            contexts.push(&tokens, &[1, 8, 24]).unwrap();
            let states = model.encode(&contexts, &[model.last_layer()]).unwrap();
            model.head().logits(&states[0]).unwrap()
        };
        let exact = logits(Precision::F32);
        let most = exact.data().iter().fold(0.0f32, |m, x| m.max(x.abs()));
        for precision in ways() {
            let near = logits(precision);
            let off = exact.data().iter().zip(near.data());
            let off = off.fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            // Weights that are stored in bfloat16 lose nothing where rows are not rounded.
            let stored = folder.ends_with("mistral-bf16");
            let nothing = stored && precision == Precision::Bf16(Bf16Kernel::Float32);
            assert_eq!(off == 0.0, nothing, "{folder:?} {precision}");
            assert!(off < 0.05 * most, "{folder:?} {precision}: {off} of {most}");
        }
    }
    assert_eq!(seen, 18);
}

#[test]
fn a_way_is_named_and_a_wrong_one_refused() {
    assert_eq!("f32".parse(), Ok(Precision::F32));
    assert_eq!("bf16".parse(), Ok(Precision::bf16()));
    for precision in ways() {
        assert_eq!(precision.to_string().parse(), Ok(precision));
    }
    let told = "f16".parse::<Precision>().unwrap_err();
    assert!(
        told.contains("`f16` is no precision") && told.contains("bf16-float32"),
        "{told}"
    );
    let small = root().join("fixtures/trained/model");
    let opened = LanguageModel::open_in(&small, Precision::bf16());
    let decoder = LanguageModel::open(&small)
        .unwrap()
        .readout_norm()
        .is_some();
    assert_eq!(opened.is_ok(), decoder);
}
