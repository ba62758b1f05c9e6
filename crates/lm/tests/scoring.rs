//! Scores with shared prefixes, texts sampled with kept keys and values, attention maps: each against
//! the same model asked in the plainest way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lawvere_core::{ContextBatch, KernelError, LogProbs, NextToken};
use lawvere_lm::{Dice, Finish, Generated, Generation, LanguageModel, LmError, Sampling, Windows};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

const VOCAB: u32 = 131;
/// As far as the tiny model reads.
const LIMIT: usize = 256;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn tiny() -> LanguageModel {
    LanguageModel::open(&fixtures().join("llama-tiny/untied")).unwrap()
}

/// The same checkpoint with a beginning-of-text token.
fn tiny_with_bos() -> LanguageModel {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        let from = fixtures().join("llama-tiny/untied").join(name);
        std::fs::copy(from, folder.path().join(name)).unwrap();
    }
    let own = folder.path().join("tokenizer_config.json");
    std::fs::write(own, r#"{"add_bos_token": true}"#).unwrap();
    let model = LanguageModel::open(folder.path()).unwrap();
    assert_eq!(model.bos(), Some(1));
    model
}

type Questions = Vec<(Vec<u32>, Vec<u32>)>;

fn borrowed(questions: &Questions) -> Vec<(&[u32], &[u32])> {
    questions
        .iter()
        .map(|(p, c)| (p.as_slice(), c.as_slice()))
        .collect()
}

fn random_tokens(rng: &mut StdRng, length: usize, alphabet: u32) -> Vec<u32> {
    (0..length).map(|_| rng.random_range(0..alphabet)).collect()
}

/// Questions over few tokens, so that many begin alike.
fn alike(seed: u64, least_prefix: usize) -> Questions {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..200)
        .map(|_| {
            let prefix = rng.random_range(least_prefix..8);
            let continuation = rng.random_range(1..6);
            (
                random_tokens(&mut rng, prefix, 3),
                random_tokens(&mut rng, continuation, 3),
            )
        })
        .collect()
}

/// Some long texts, gone on with from many places: some thousand prefixes, whose ways cross every
/// border of a stretch.
fn branching(seed: u64) -> Questions {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut questions = Vec::new();
    for _ in 0..3 {
        let trunk = random_tokens(&mut rng, 200, VOCAB);
        for _ in 0..30 {
            let length = rng.random_range(1..200);
            let prefix = trunk[..length].to_vec();
            let more = rng.random_range(1..LIMIT - 200);
            questions.push((prefix, random_tokens(&mut rng, more, VOCAB)));
        }
        for cut in [1, 50, 199] {
            questions.push((trunk[..cut].to_vec(), trunk[cut..].to_vec()));
        }
    }
    questions
}

/// The distinct prefixes that have to be read, counted in a set.
fn distinct_prefixes(questions: &Questions, bos: Option<u32>) -> usize {
    let mut prefixes = BTreeSet::new();
    for (prefix, continuation) in questions {
        let text: Vec<u32> = bos.into_iter().chain(prefix.iter().copied()).collect();
        let read = [&text, &continuation[..continuation.len() - 1]].concat();
        for length in 1..=read.len() {
            prefixes.insert(read[..length].to_vec());
        }
    }
    prefixes.len()
}

fn check_sharing(model: &LanguageModel, questions: &Questions) {
    let together = model.score(&borrowed(questions)).unwrap();
    let expected = distinct_prefixes(questions, model.bos());
    assert_eq!(together.forwarded, expected);
    let bos = usize::from(model.bos().is_some());
    let separately: usize = questions
        .iter()
        .map(|(p, c)| p.len() + c.len() - 1 + bos)
        .sum();
    assert_eq!(together.separately, separately);
    for (question, score) in questions.iter().zip(&together.scores) {
        let alone = model.score(&[(&question.0, &question.1)]).unwrap();
        assert_eq!(alone.forwarded, alone.separately);
        let alone = &alone.scores[0];
        assert_eq!(score.tokens.len(), question.1.len());
        for (a, b) in score.tokens.iter().zip(&alone.tokens) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        let sum: f64 = score.tokens.iter().map(|&x| f64::from(x)).sum();
        assert!((score.total - sum).abs() < 1e-9);
    }
}

#[test]
fn shared_prefixes_give_the_scores_of_single_questions_and_are_read_once() {
    check_sharing(&tiny(), &alike(1, 1));
    let with_bos = tiny_with_bos();
    check_sharing(&with_bos, &alike(2, 0));
    // Everything begins with the beginning of text alone.
    let empty: Questions = (0..VOCAB).map(|t| (vec![], vec![t])).collect();
    check_sharing(&with_bos, &empty);
    let law = with_bos.score(&borrowed(&empty)).unwrap().scores;
    let total: f64 = law.iter().map(|s| s.total.exp()).sum();
    assert!((total - 1.0).abs() < 1e-5);
}

#[test]
fn prefixes_are_remembered_across_stretches() {
    for (model, seed) in [(tiny(), 3), (tiny_with_bos(), 4)] {
        let questions = branching(seed);
        let count = distinct_prefixes(&questions, model.bos());
        assert!(count > 2048, "{count} prefixes lie in few stretches");
        check_sharing(&model, &questions);
    }
}

#[test]
fn scores_do_not_depend_on_the_order_of_the_questions() {
    let model = tiny();
    let questions = [alike(5, 1), branching(6)].concat();
    let scores = model.score(&borrowed(&questions)).unwrap();
    let mut order: Vec<usize> = (0..questions.len()).collect();
    order.shuffle(&mut StdRng::seed_from_u64(7));
    let shuffled: Questions = order.iter().map(|&i| questions[i].clone()).collect();
    let again = model.score(&borrowed(&shuffled)).unwrap();
    assert_eq!(again.forwarded, scores.forwarded);
    for (place, &i) in order.iter().enumerate() {
        assert_eq!(again.scores[place], scores.scores[i]);
    }
}

#[test]
fn a_document_is_scored_as_its_windows_are() {
    for model in [tiny(), tiny_with_bos()] {
        let document = random_tokens(&mut StdRng::seed_from_u64(8), 700, VOCAB);
        let bos = model.bos().is_some();
        for (length, overlap) in [(100, 0), (100, 99), (64, 13), (255, 128)] {
            let reading = model.read(&document, Windows { length, overlap }).unwrap();
            let step = length - overlap;
            let mut total = 0.0;
            for (i, found) in reading.tokens.iter().enumerate() {
                // Windows after the first begin at multiples of the step; each token is scored in the
                // first window that holds it.
                let window = if i < length {
                    0
                } else {
                    (i - length) / step + 1
                };
                let before = &document[window * step..i];
                assert_eq!(found.is_some(), bos || !before.is_empty());
                // A sample is enough: each costs a pass.
                if let Some(found) = found
                    && i % 23 == 0
                {
                    let alone = model.score(&[(before, &document[i..=i])]).unwrap();
                    assert!((alone.scores[0].tokens[0] - found).abs() < 1e-5);
                }
                total -= f64::from(found.unwrap_or(0.0));
            }
            assert_eq!(reading.scored, reading.tokens.iter().flatten().count());
            assert!((reading.cross_entropy - total / reading.scored as f64).abs() < 1e-9);
            assert!((reading.perplexity.ln() - reading.cross_entropy).abs() < 1e-9);
        }
    }
}

/// The model's law after `context`, in log-probabilities, by the kernel's own pass.
fn law(model: &LanguageModel, context: &[u32]) -> Vec<f32> {
    let mut out = Vec::new();
    model
        .log_probs(&ContextBatch::of_contexts([context]), &mut |_, block| {
            let LogProbs::Dense(block) = block else {
                panic!("a model's laws are dense")
            };
            out = block.row(0).to_vec();
            Ok(())
        })
        .unwrap();
    out
}

fn generation(sampling: Sampling, samples: usize, most: usize) -> Generation {
    Generation {
        sampling,
        samples,
        most,
        stop: Vec::new(),
        seed: 11,
    }
}

const GREEDY: Sampling = Sampling {
    temperature: 0.0,
    top_k: None,
    top_p: None,
};

fn slices(prompts: &[Vec<u32>]) -> Vec<&[u32]> {
    prompts.iter().map(Vec::as_slice).collect()
}

/// More prompts than are read together, and a few long ones among them.
fn prompts(least: usize) -> Vec<Vec<u32>> {
    let mut rng = StdRng::seed_from_u64(12);
    (0..90)
        .map(|i| {
            let length = if i % 9 == 0 {
                200
            } else {
                rng.random_range(least..30)
            };
            random_tokens(&mut rng, length, VOCAB)
        })
        .collect()
}

/// The log-probabilities that come with texts are the scores of these texts.
fn check_log_probs(model: &LanguageModel, prompts: &[Vec<u32>], texts: &[Generated]) {
    let questions: Questions = texts
        .iter()
        .map(|t| (prompts[t.prompt].clone(), t.tokens.clone()))
        .collect();
    let scores = model.score(&borrowed(&questions)).unwrap().scores;
    for (text, score) in texts.iter().zip(scores) {
        assert_eq!(text.log_probs.len(), score.tokens.len());
        for (a, b) in text.log_probs.iter().zip(score.tokens) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
}

#[test]
fn at_temperature_zero_every_token_is_the_likeliest_after_reading_all_again() {
    for (model, least) in [(tiny(), 1), (tiny_with_bos(), 0)] {
        let prompts = prompts(least);
        let texts = model
            .generate(&slices(&prompts), &generation(GREEDY, 1, 12))
            .unwrap();
        assert_eq!(texts.len(), prompts.len());
        for text in texts.iter().step_by(3) {
            assert_eq!((text.tokens.len(), text.finish), (12, Finish::Length));
            for n in 0..text.tokens.len() {
                let context = [&prompts[text.prompt], &text.tokens[..n]].concat();
                let law = law(&model, &context);
                let largest = law.iter().copied().fold(f32::MIN, f32::max);
                let taken = law[text.tokens[n] as usize];
                assert!(largest - taken < 1e-5, "{taken} is less than {largest}");
            }
        }
        check_log_probs(&model, &prompts, &texts);
    }
}

#[test]
fn keeping_one_token_is_taking_the_likeliest() {
    let model = tiny();
    let prompts = prompts(1);
    let greedy = model
        .generate(&slices(&prompts), &generation(GREEDY, 1, 6))
        .unwrap();
    let one = Sampling {
        top_k: Some(1),
        ..Sampling::default()
    };
    let kept = model
        .generate(&slices(&prompts), &generation(one, 1, 6))
        .unwrap();
    assert_eq!(greedy, kept);
}

#[test]
fn the_log_probabilities_of_sampled_tokens_are_the_models_own() {
    let hot = Sampling {
        temperature: 1.7,
        top_k: Some(40),
        top_p: Some(0.95),
    };
    for (model, least) in [(tiny(), 1), (tiny_with_bos(), 0)] {
        let prompts = prompts(least);
        let texts = model
            .generate(&slices(&prompts), &generation(hot, 3, 20))
            .unwrap();
        check_log_probs(&model, &prompts, &texts);
    }
}

/// Pearson's statistic and its degrees of freedom, outcomes with less than ten expected taken as one.
fn chi_square(counts: &BTreeMap<u32, usize>, law: &[(u32, f64)]) -> (f64, f64) {
    let n = counts.values().sum::<usize>() as f64;
    let known: BTreeSet<u32> = law.iter().map(|l| l.0).collect();
    assert!(counts.keys().all(|token| known.contains(token)));
    let (mut statistic, mut cells) = (0.0, 0.0);
    let (mut rare, mut rare_expected) = (0.0, 0.0);
    for &(token, p) in law {
        let count = counts.get(&token).copied().unwrap_or(0) as f64;
        if n * p < 10.0 {
            rare += count;
            rare_expected += n * p;
        } else {
            statistic += (count - n * p).powi(2) / (n * p);
            cells += 1.0;
        }
    }
    if rare_expected > 0.0 {
        statistic += (rare - rare_expected).powi(2) / rare_expected;
        cells += 1.0;
    }
    (statistic, cells - 1.0)
}

/// Four standard deviations above the mean of a chi-square: about one case in ten thousand.
fn check_chi_square((statistic, freedom): (f64, f64)) {
    assert!(freedom > 5.0);
    let limit = freedom + 4.0 * (2.0 * freedom).sqrt();
    assert!(statistic < limit, "{statistic} with {freedom} degrees");
}

fn count(tokens: impl Iterator<Item = u32>) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    tokens.for_each(|t| *counts.entry(t).or_default() += 1);
    counts
}

#[test]
fn first_and_second_tokens_come_as_often_as_the_law_says() {
    let model = tiny_with_bos();
    let prompt = vec![5, 77, 3];
    for sampling in [
        Sampling::default(),
        Sampling {
            temperature: 0.7,
            top_k: Some(12),
            top_p: None,
        },
    ] {
        let texts = model
            .generate(&[&prompt], &generation(sampling, 20_000, 2))
            .unwrap();
        let first = sampling.law(&law(&model, &prompt));
        check_chi_square(chi_square(
            &count(texts.iter().map(|t| t.tokens[0])),
            &first,
        ));
        // The second token, over all first ones, and given each of them.
        let mut second: BTreeMap<u32, f64> = BTreeMap::new();
        let (mut statistic, mut freedom) = (0.0, 0.0);
        for &(token, p) in &first {
            let given = sampling.law(&law(&model, &[&prompt[..], &[token]].concat()));
            for &(next, q) in &given {
                *second.entry(next).or_default() += p * q;
            }
            let after = texts.iter().filter(|t| t.tokens[0] == token);
            let counts = count(after.map(|t| t.tokens[1]));
            if counts.values().sum::<usize>() >= 100 {
                let (s, f) = chi_square(&counts, &given);
                statistic += s;
                freedom += f;
            }
        }
        check_chi_square((statistic, freedom));
        let second: Vec<(u32, f64)> = second.into_iter().collect();
        check_chi_square(chi_square(
            &count(texts.iter().map(|t| t.tokens[1])),
            &second,
        ));
    }
}

#[test]
fn a_text_is_the_same_whatever_is_generated_beside_it() {
    let model = tiny();
    let prompts = prompts(1);
    let sampling = Sampling::default();
    let all = model
        .generate(&slices(&prompts), &generation(sampling, 3, 15))
        .unwrap();
    let order: Vec<(usize, usize)> = all.iter().map(|t| (t.prompt, t.sample)).collect();
    let wanted: Vec<(usize, usize)> = (0..90).flat_map(|p| (0..3).map(move |s| (p, s))).collect();
    assert_eq!(order, wanted);
    let same = |a: &Generated, b: &Generated| {
        assert_eq!((a.prompt, a.sample), (b.prompt, b.sample));
        assert_eq!(a.tokens, b.tokens);
    };
    let alone = model
        .generate(&slices(&prompts[..1]), &generation(sampling, 1, 15))
        .unwrap();
    same(&alone[0], &all[0]);
    let more = model
        .generate(&slices(&prompts[..2]), &generation(sampling, 70, 15))
        .unwrap();
    for sample in 0..3 {
        same(&more[sample], &all[sample]);
        same(&more[70 + sample], &all[3 + sample]);
    }
    // Different samples differ, and so do seeds.
    assert_ne!(all[0].tokens, all[1].tokens);
    let other = Generation {
        seed: 12,
        ..generation(sampling, 1, 15)
    };
    assert_ne!(
        model.generate(&slices(&prompts[..1]), &other).unwrap()[0].tokens,
        all[0].tokens
    );
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let one = threads.install(|| model.generate(&slices(&prompts), &generation(sampling, 3, 15)));
    assert_eq!(one.unwrap(), all);
}

#[test]
fn texts_end_at_the_window_at_a_stop_or_at_their_longest() {
    for model in [tiny(), tiny_with_bos()] {
        let bos = usize::from(model.bos().is_some());
        let prompt = random_tokens(&mut StdRng::seed_from_u64(13), 250, VOCAB);
        let texts = model
            .generate(
                &[&prompt[..], &prompt[..3]],
                &generation(Sampling::default(), 2, 60),
            )
            .unwrap();
        for text in &texts[..2] {
            // The last token is drawn from the law of a full window, and not read any more.
            assert_eq!(text.finish, Finish::Window);
            assert_eq!(text.tokens.len(), LIMIT - bos - 250 + 1);
        }
        assert!(
            texts[2..]
                .iter()
                .all(|t| t.finish == Finish::Length && t.tokens.len() == 60)
        );
        check_log_probs(&model, &[prompt.clone(), prompt[..3].to_vec()], &texts);
        let stopping = Generation {
            stop: vec![texts[2].tokens[4], 9],
            ..generation(Sampling::default(), 2, 60)
        };
        let stopped = model
            .generate(&[&prompt[..], &prompt[..3]], &stopping)
            .unwrap();
        for (text, whole) in stopped.iter().zip(&texts) {
            let end = whole.tokens.iter().position(|t| stopping.stop.contains(t));
            let end = end.map_or(whole.tokens.len(), |end| end + 1);
            assert_eq!(text.tokens, whole.tokens[..end]);
            let is_stop = text
                .tokens
                .last()
                .is_some_and(|t| stopping.stop.contains(t));
            assert_eq!(text.finish == Finish::Stop, is_stop);
        }
        assert_eq!(stopped[2].finish, Finish::Stop);
    }
}

#[test]
fn what_cannot_be_scored_or_gone_on_with_is_refused() {
    let model = tiny();
    let long = vec![1; 257];
    let questions: [(&[u32], &[u32]); 4] = [
        (&[], &[1]),
        (&[1], &[VOCAB]),
        (&[VOCAB], &[1]),
        (&long, &[1]),
    ];
    for (i, question) in questions.into_iter().enumerate() {
        let found = model.score(&[(&[1], &[2]), question]);
        let Err(LmError::Kernel(error)) = found else {
            panic!("question {i}: {found:?}")
        };
        let (KernelError::EmptyContext { window }
        | KernelError::TokenOutOfRange { window, .. }
        | KernelError::WindowExceeded { window, .. }) = error
        else {
            panic!("question {i}: {error}")
        };
        assert_eq!(window, 1);
    }
    // The last token of a text is not read.
    assert!(model.score(&[(&long[..256], &[1])]).is_ok());
    assert!(model.score(&[(&long[..255], &[1, 2])]).is_ok());
    assert!(model.score(&[(&long[..255], &[1, 2, 3])]).is_err());
    assert!(model.score(&[]).unwrap().scores.is_empty());

    let plain = generation(Sampling::default(), 1, 3);
    for prompt in [&[][..], &[VOCAB], &long] {
        assert!(model.generate(&[&[1], prompt], &plain).is_err());
    }
    assert!(model.generate(&[], &plain).unwrap().is_empty());
    assert!(
        model
            .generate(&[&[1]], &generation(GREEDY, 0, 3))
            .unwrap()
            .is_empty()
    );
    let nothing = model.generate(&[&[1]], &generation(GREEDY, 1, 0)).unwrap();
    assert!(nothing[0].tokens.is_empty());
    let stop = Generation {
        stop: vec![VOCAB],
        ..plain.clone()
    };
    let choice = Generation {
        sampling: Sampling {
            top_k: Some(0),
            ..Sampling::default()
        },
        ..plain
    };
    for (wrong, word) in [(stop, "131"), (choice, "top-k")] {
        let error = model.generate(&[&[1]], &wrong).unwrap_err();
        assert!(matches!(error, LmError::Argument(_)) && error.to_string().contains(word));
    }
    for (length, overlap) in [(1, 0), (257, 0), (10, 10)] {
        let error = model.read(&[1, 2, 3], Windows { length, overlap });
        assert!(matches!(error, Err(LmError::Argument(_))));
    }
    let one = Windows {
        length: 10,
        overlap: 0,
    };
    assert!(matches!(model.read(&[1], one), Err(LmError::Argument(_))));
    assert!(model.read(&[1, VOCAB], one).is_err());
    assert_eq!(tiny_with_bos().read(&[1], one).unwrap().scored, 1);
}

#[test]
fn attention_maps_are_laws_over_what_came_before_and_do_not_depend_on_what_follows() {
    for model in [tiny(), tiny_with_bos()] {
        let tokens = random_tokens(&mut StdRng::seed_from_u64(14), 120, VOCAB);
        let count = tokens.len() + usize::from(model.bos().is_some());
        let maps = model.attention(&tokens, &[3, 1]).unwrap();
        let shorter = model.attention(&tokens[..40], &[3, 1]).unwrap();
        for (map, shorter) in maps.iter().zip(&shorter) {
            assert_eq!((map.nrows(), map.ncols()), (4 * count, count));
            let less = shorter.ncols();
            for (row, law) in map.rows().enumerate() {
                let (head, token) = (row / count, row % count);
                assert!((law.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                assert!(law[..=token].iter().all(|&w| w > 0.0));
                assert!(law[token + 1..].iter().all(|&w| w == 0.0));
                if token < less {
                    let same = shorter.row(head * less + token);
                    let off = law.iter().zip(same).map(|(a, b)| (a - b).abs());
                    assert!(off.fold(0.0, f32::max) < 1e-5);
                }
            }
        }
    }
    let model = tiny();
    assert!(matches!(
        model.attention(&[1], &[0]),
        Err(LmError::Argument(_))
    ));
    assert!(model.attention(&[1], &[4]).is_err());
    assert!(model.attention(&[], &[1]).is_err());
    assert!(model.attention(&[VOCAB], &[1]).is_err());
}

#[test]
fn dice_of_one_text_say_nothing_of_anothers() {
    let law = [0.5f32.ln(); 2];
    let draws = |sequence| -> Vec<u32> {
        let mut dice = Dice::new(1, sequence);
        (0..64)
            .map(|_| Sampling::default().draw(&law, &mut dice))
            .collect()
    };
    let equal = draws(0)
        .iter()
        .zip(draws(1))
        .filter(|(a, b)| **a == *b)
        .count();
    assert!((16..=48).contains(&equal), "{equal} of 64 draws are equal");
}

#[test]
fn the_tokens_that_end_a_text_come_from_the_checkpoints_configuration() {
    assert_eq!(tiny().eos(), [2]);
    let folder = tempfile::tempdir().unwrap();
    let from = fixtures().join("llama-tiny/untied");
    std::fs::copy(
        from.join("model.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    let config = std::fs::read_to_string(from.join("config.json")).unwrap();
    let open = |own: &str, generation: &str| {
        let config = config.replace("\"eos_token_id\": 2", &format!("\"eos_token_id\": {own}"));
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        std::fs::write(folder.path().join("generation_config.json"), generation).unwrap();
        LanguageModel::open(folder.path())
    };
    assert_eq!(open("null", "{}").unwrap().eos(), [0u32; 0]);
    assert_eq!(
        open("[4, 2]", r#"{"eos_token_id": [2, 7]}"#).unwrap().eos(),
        [4, 2, 7]
    );
    // Tokens that can never be drawn end nothing.
    assert_eq!(
        open("-1", r#"{"eos_token_id": 131}"#).unwrap().eos(),
        [0u32; 0]
    );
    let error = open("\"</s>\"", "{}").unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
}
