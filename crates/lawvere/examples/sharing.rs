//! What sharing prefixes gains on a real workload: 200 beginnings of verses, each continued by the same
//! 20 pieces of other verses, 4,000 texts in all. Beside it the same number of texts of the same lengths
//! of which none begins like another, so that nothing can be shared. See `benchmarks/sharing.sh`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Instant;

use lawvere::lm::LanguageModel;

const PROMPTS: usize = 200;
const CONTINUATIONS: usize = 20;
const PROMPT: usize = 16;
const CONTINUATION: usize = 8;

fn main() {
    let path = Path::new("sample/smollm2-135m-instruct-q4_1.gguf");
    let model = LanguageModel::open(path).expect("run scripts/fetch-sample.sh");
    let tokenizer = model.tokenizer().expect("a GGUF file has one");
    let text = std::fs::read_to_string("sample/king-james.txt").expect("the sample text");
    let verses: Vec<Vec<u32>> = text
        .lines()
        .step_by(60)
        .map(|verse| tokenizer.encode(verse).expect("bytes are tokens"))
        .filter(|ids| ids.len() >= PROMPT + CONTINUATION)
        .collect();
    let prompts = &verses[..PROMPTS];
    let continuations = &verses[PROMPTS..PROMPTS + CONTINUATIONS];
    let mut texts: Vec<(Vec<u32>, &[u32])> = Vec::new();
    for prompt in prompts {
        for continuation in continuations {
            let piece = &continuation[PROMPT..PROMPT + CONTINUATION];
            texts.push((prompt[..PROMPT].to_vec(), piece));
        }
    }
    let run = |name: &str, texts: &[(Vec<u32>, &[u32])]| {
        let questions: Vec<(&[u32], &[u32])> =
            texts.iter().map(|(p, c)| (p.as_slice(), *c)).collect();
        let start = Instant::now();
        let scores = model.score(&questions).expect("the texts are short");
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{name}: {} texts, {} tokens, {} forwarded, {seconds:.1} s",
            texts.len(),
            scores.separately,
            scores.forwarded
        );
        (scores, seconds)
    };
    let (shared, with_sharing) = run("shared", &texts);
    // A first token of its own for every text.
    for (i, (prompt, _)) in texts.iter_mut().enumerate() {
        prompt[0] = i as u32;
    }
    let (_, without) = run("nothing to share", &texts);
    println!(
        "sharing factor {:.2}, gain {:.2}",
        shared.separately as f64 / shared.forwarded as f64,
        without / with_sharing
    );
}
