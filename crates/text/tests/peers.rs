//! Counts as tokengrams has them (`fixtures/index`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use lawvere_text::{BuildOptions, CorpusOptions, CorpusReader, TextSpace, Tokenizer};
use safetensors::SafeTensors;

fn numbers(tensors: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    let tensor = tensors.tensor(name).unwrap();
    match tensor.dtype() {
        safetensors::Dtype::U16 => {
            let (pairs, _) = tensor.data().as_chunks();
            pairs
                .iter()
                .map(|&b| u16::from_le_bytes(b).into())
                .collect()
        }
        _ => {
            let (fours, _) = tensor.data().as_chunks();
            fours.iter().map(|&b| u32::from_le_bytes(b)).collect()
        }
    }
}

#[test]
fn ten_thousand_counts_are_tokengrams() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/index");
    let bytes = std::fs::read(fixture.join("counts.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let [queries, starts, counts, different] =
        ["queries", "starts", "counts", "different_next"].map(|name| numbers(&tensors, name));
    let texts: Vec<&[u32]> = starts
        .windows(2)
        .map(|w| &queries[w[0] as usize..w[1] as usize])
        .collect();
    assert_eq!(texts.len(), 10_000);

    let ids: Vec<String> = (0..500).map(|id| id.to_string()).collect();
    let tokenizer = Tokenizer::of_words(&ids).unwrap();
    let reader = CorpusReader::open(CorpusOptions::new([fixture.join("tokens.bin")])).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index");
    let build = BuildOptions::default();
    TextSpace::build_at(&index, &reader, &tokenizer, &build, &mut |_| {}).unwrap();
    let space = TextSpace::open(&index).unwrap();
    let found = space.count_batch(&texts);
    assert!(found.iter().zip(&counts).all(|(&a, &b)| a == u64::from(b)));
    let next = space.next_tokens_batch(&texts);
    assert!(
        next.iter()
            .zip(&different)
            .all(|(law, &n)| law.counts.len() == n as usize)
    );
    assert!(
        next.iter()
            .zip(&found)
            .all(|(law, &count)| law.total() == count)
    );
}
