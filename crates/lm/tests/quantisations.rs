//! Every ggml type that loads, against transformers with the weights as the Python package `gguf`
//! dequantises them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use lawvere_core::{ContextBatch, Factored, Layer};
use lawvere_lm::LanguageModel;
use safetensors::SafeTensors;

const FILES: [(&str, &str); 11] = [
    ("plain", "F32"),
    ("q4_0", "Q4_0"),
    ("q4_1", "Q4_1"),
    ("q5_0", "Q5_0"),
    ("q5_1", "Q5_1"),
    ("q8_0", "Q8_0"),
    ("q2_k", "Q2_K"),
    ("q3_k", "Q3_K"),
    ("q4_k", "Q4_K"),
    ("q5_k", "Q5_K"),
    ("q6_k", "Q6_K"),
];

#[test]
fn every_quantisation_gives_the_states_and_logits_of_transformers() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gguf/models");
    let bytes = std::fs::read(folder.join("reference.safetensors")).unwrap();
    let reference = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: String| -> Vec<f32> {
        let data = reference.tensor(&name).unwrap().data().to_vec();
        let chunks = data.as_chunks().0.iter();
        chunks.map(|b| f32::from_le_bytes(*b)).collect()
    };
    let ids = reference.tensor("input_ids").unwrap().data().to_vec();
    let ids: Vec<u32> = ids
        .as_chunks()
        .0
        .iter()
        .map(|b| i64::from_le_bytes(*b) as u32)
        .collect();
    let mut batch = ContextBatch::new();
    let positions: Vec<u32> = (1..=ids.len() as u32).collect();
    batch.push(&ids, &positions).unwrap();

    for (name, kind) in FILES {
        let model = LanguageModel::open(&folder.join(format!("{name}.gguf"))).unwrap();
        let stored = &model.origin().storage;
        assert_eq!(
            stored.len(),
            if name == "plain" { 3 } else { 2 },
            "{stored:?}"
        );
        assert!(stored.contains_key(kind), "{stored:?}");
        let states = model.encode(&batch, &[Layer(0), Layer(1)]).unwrap();
        let logits = model.head().logits(&states[1]).unwrap();
        let found = [states[0].data(), states[1].data(), logits.data()];
        let names = ["hidden.0", "hidden.1", "logits"];
        for (what, (found, limit)) in names.iter().zip(found.iter().zip([0.0, 2e-6, 2e-6])) {
            let wanted = floats(format!("{name}.{what}"));
            assert_eq!(found.len(), wanted.len());
            let (low, high) = wanted
                .iter()
                .fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
            let pairs = found.iter().zip(&wanted);
            let off = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / (high - low);
            assert!(off <= limit, "{name} {what}: off by {off} of the spread");
        }
    }
}
