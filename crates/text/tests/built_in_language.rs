//! The built-in language against counting by hand on a tiny one, and against its own samples.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::OnceLock;

use lawvere_core::{ContextBatch, LogProbs, NextToken, SparseRows};
use lawvere_text::{Grammar, Language, Reading, TextError};
use proptest::prelude::*;

/// A loop, words in several roles (saw, walk, dog), a class that is remembered and one that is not.
const TINY: &str = "
class pet: kind home he
  cat | red basket | she
  dog | kennel | he
rule story:
  3 a <p=pet.kind> <walk*0.01> <p.he> saw the <p.home>
  2 the <=pet.kind> saw a saw
  1 a dog walk
rule walk:
  2 ran
  1 saw a saw
";

/// All stories of the tiny grammar with at most 9 rounds of its loop (the others have 1e-20), written out by hand: the words with their probabilities.
struct Tiny {
    stories: BTreeMap<Vec<&'static str>, f64>,
    /// The expected number of symbols of a story.
    length: f64,
    /// How often a story continues in each way from any of its places, and from its beginning: its
    /// next symbols as far as a test may ask, "" being the end.
    everywhere: BTreeMap<Vec<&'static str>, f64>,
    beginning: BTreeMap<Vec<&'static str>, f64>,
}

/// More symbols than any test asks about.
const SIGHT: usize = 9;

impl Tiny {
    fn new() -> Self {
        let weights = [1.0 / 8.0, 1.0 / 9.0];
        let pets = [
            ("cat", vec!["red", "basket"], "she"),
            ("dog", vec!["kennel"], "he"),
        ];
        let mut stories: BTreeMap<Vec<&str>, f64> = BTreeMap::new();
        let mut add = |story: Vec<&'static str>, p: f64| *stories.entry(story).or_default() += p;
        add(vec!["a", "dog", "walk"], 1.0 / 6.0);
        for ((kind, home, he), weight) in pets.into_iter().zip(weights) {
            let p = weight / (weights[0] + weights[1]);
            add(vec!["the", kind, "saw", "a", "saw"], p * 2.0 / 6.0);
            let mut walks: Vec<(Vec<&str>, f64)> = vec![(vec!["a", kind], p * 3.0 / 6.0)];
            for _ in 0..=9 {
                let mut longer = Vec::new();
                for (walk, p) in walks {
                    let mut story = walk.clone();
                    story.extend([he, "saw", "the"]);
                    story.extend(&home);
                    add(story, p * 0.99);
                    longer.push(([&walk[..], &["ran"]].concat(), p * 0.01 * 2.0 / 3.0));
                    longer.push(([&walk[..], &["saw", "a", "saw"]].concat(), p * 0.01 / 3.0));
                }
                walks = longer;
            }
        }
        let length = stories.iter().map(|(s, p)| p * (s.len() + 1) as f64).sum();
        let (mut everywhere, mut beginning) = (BTreeMap::new(), BTreeMap::new());
        for (story, p) in &stories {
            let symbols = [&story[..], &[""]].concat();
            for at in 0..symbols.len() {
                let ahead = symbols[at..symbols.len().min(at + SIGHT)].to_vec();
                if at == 0 {
                    *beginning.entry(ahead.clone()).or_insert(0.0) += p;
                }
                *everywhere.entry(ahead).or_insert(0.0) += p;
            }
        }
        Self {
            stories,
            length,
            everywhere,
            beginning,
        }
    }

    /// The probability that stories, one after the other, begin with these symbols.
    fn begins(&self, symbols: &[&str]) -> f64 {
        self.continues(&self.beginning, symbols)
    }

    /// The stationary probability of these symbols.
    fn stretch(&self, symbols: &[&str]) -> f64 {
        self.continues(&self.everywhere, symbols) / self.length
    }

    fn continues(&self, from: &BTreeMap<Vec<&'static str>, f64>, symbols: &[&str]) -> f64 {
        assert!(symbols.len() < SIGHT);
        let one = |ahead: &[&str]| {
            let common = ahead.len().min(symbols.len());
            match ahead[..common] == symbols[..common] {
                false => 0.0,
                true if common == symbols.len() => 1.0,
                // All of the story is said: the rest begins the next one.
                true => self.begins(&symbols[common..]),
            }
        };
        from.iter().map(|(ahead, p)| p * one(ahead)).sum()
    }

    fn probability(&self, reading: Reading, symbols: &[&str]) -> f64 {
        match reading {
            Reading::FullPrefix => self.begins(symbols),
            Reading::LastTokens => self.stretch(symbols),
        }
    }
}

const WORDS: [&str; 12] = [
    "a", "basket", "cat", "dog", "he", "kennel", "ran", "red", "saw", "she", "the", "walk",
];

fn tiny() -> Language {
    Language::from_grammar(&Grammar::parse(TINY).unwrap()).unwrap()
}

/// Words by id, and "" for the end.
fn symbols(language: &Language, tokens: &[u32]) -> Vec<&'static str> {
    let word = |&t: &u32| {
        let word = language.words().get(t as usize);
        word.map_or("", |w| WORDS.into_iter().find(|x| x == w).unwrap())
    };
    tokens.iter().map(word).collect()
}

fn near(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() < 1e-10, "{what}: {a} is not {b}");
}

fn all_sequences(outcomes: u32, length: usize) -> Vec<Vec<u32>> {
    (0..length).fold(vec![Vec::new()], |all, _| {
        let longer = |s: Vec<u32>| (0..outcomes).map(move |t| [&s[..], &[t]].concat());
        all.into_iter().flat_map(longer).collect()
    })
}

#[test]
fn the_tiny_language_has_the_words_and_stories_of_its_grammar() {
    let (language, by_hand) = (tiny(), Tiny::new());
    let words: BTreeSet<&str> = language.words().iter().map(String::as_str).collect();
    assert_eq!(words, BTreeSet::from(WORDS));
    for (story, p) in &by_hand.stories {
        let id = |w: &&str| language.words().iter().position(|x| x == w).unwrap() as u32;
        let mut tokens: Vec<u32> = story.iter().map(id).collect();
        tokens.push(language.vocab_size() as u32);
        let probability = language
            .kernel(Reading::FullPrefix)
            .context_probability(&tokens);
        near(probability, *p, &story.join(" "));
    }
    let total: f64 = by_hand.stories.values().sum();
    near(total, 1.0, "all stories");
    let frequency = |w: &str| by_hand.stretch(&[WORDS.into_iter().find(|x| *x == w).unwrap()]);
    assert!(
        language
            .words()
            .windows(2)
            .all(|w| frequency(&w[0]) > frequency(&w[1]) - 1e-12)
    );
}

#[test]
fn every_law_of_the_tiny_language_is_that_of_counting_by_hand() {
    let (language, by_hand) = (tiny(), Tiny::new());
    let outcomes = language.vocab_size() as u32 + 1;
    for reading in [Reading::FullPrefix, Reading::LastTokens] {
        let kernel = language.kernel(reading);
        let mut possible = 0;
        for context in (0..=3).flat_map(|n| all_sequences(outcomes, n)) {
            if reading == Reading::FullPrefix && context.first() == Some(&(outcomes - 1)) {
                continue;
            }
            let words = symbols(&language, &context);
            let probability = by_hand.probability(reading, &words);
            near(
                kernel.context_probability(&context),
                probability,
                &words.join(" "),
            );
            let law = match kernel.law(&context) {
                Ok(law) => BTreeMap::from_iter(law),
                Err(TextError::ImpossibleContext { .. }) => {
                    assert_eq!(probability, 0.0, "{words:?}");
                    continue;
                }
                Err(e) => panic!("{e}"),
            };
            possible += 1;
            for token in 0..outcomes {
                let longer = symbols(&language, &[&context[..], &[token]].concat());
                let expected = by_hand.probability(reading, &longer) / probability;
                let found = law.get(&token).copied().unwrap_or(0.0);
                near(found, expected, &longer.join(" "));
                assert_eq!(law.contains_key(&token), expected > 0.0, "{longer:?}");
            }
        }
        assert!(possible > 15, "{possible}");
    }
}

#[test]
fn the_tiny_languages_state_law_and_entropy_rate_are_those_of_its_stories() {
    let (language, by_hand) = (tiny(), Tiny::new());
    let story_entropy: f64 = by_hand.stories.values().map(|p| -p * p.ln()).sum();
    near(
        language.story_entropy(),
        story_entropy,
        "entropy of a story",
    );
    near(language.symbols_per_story(), by_hand.length, "length");
    near(
        language.entropy_rate(),
        story_entropy / by_hand.length,
        "entropy rate",
    );
    let mut visits = vec![0.0; language.state_count()];
    let mut prefixes = BTreeMap::new();
    for (story, p) in &by_hand.stories {
        for n in 0..=story.len() {
            *prefixes.entry(&story[..n]).or_insert(0.0) += p;
        }
    }
    for (prefix, p) in prefixes {
        let state = prefix.iter().fold(0, |state, word| {
            let (tokens, _, targets) = language.law_of_state(state).unwrap();
            let is = |t: &u32| language.words().get(*t as usize).is_some_and(|w| w == word);
            targets[tokens.iter().position(is).unwrap()] as usize
        });
        visits[state] += p / by_hand.length;
    }
    for (state, (found, expected)) in language.stationary().iter().zip(visits).enumerate() {
        near(*found, expected, &format!("state {state}"));
    }
}

#[test]
fn joint_laws_of_tokens_to_come_are_those_of_counting_by_hand() {
    let (language, by_hand) = (tiny(), Tiny::new());
    let id = |w: &str| language.words().iter().position(|x| x == w).unwrap() as u32;
    let end = language.vocab_size() as u32;
    for (reading, context) in [
        (Reading::FullPrefix, vec![]),
        (Reading::FullPrefix, vec![id("a"), id("dog")]),
        (Reading::LastTokens, vec![]),
        (Reading::LastTokens, vec![id("saw")]),
        (Reading::LastTokens, vec![end, id("a")]),
    ] {
        let kernel = language.kernel(reading);
        let before = symbols(&language, &context);
        let mut entropies = vec![0.0];
        for k in 0..5 {
            let future = kernel.future(&context, k).unwrap();
            assert!(future.windows(2).all(|w| w[0].0 < w[1].0));
            for (tokens, p) in &future {
                let after = [&before[..], &symbols(&language, tokens)].concat();
                let ratio =
                    by_hand.probability(reading, &after) / by_hand.probability(reading, &before);
                near(*p, ratio, &after.join(" "));
            }
            near(future.iter().map(|f| f.1).sum(), 1.0, "joint law");
            let entropy: f64 = future.iter().map(|(_, p)| -p * p.ln()).sum();
            near(
                kernel.future_entropy(&context, k).unwrap(),
                entropy,
                "joint entropy",
            );
            entropies.push(entropy);
        }
        let steps = kernel.future_entropies(&context, 4).unwrap();
        for (k, step) in steps.iter().enumerate() {
            near(
                *step,
                entropies[k + 2] - entropies[k + 1],
                "conditional entropy",
            );
        }
    }
}

#[test]
fn tables_of_exact_contexts_are_those_of_counting_by_hand() {
    let (language, by_hand) = (tiny(), Tiny::new());
    let end = language.vocab_size() as u32;
    for order in 0..5 {
        let table = language.contexts(order, 10_000).unwrap();
        let mut windows: BTreeSet<Vec<&str>> = BTreeSet::new();
        for story in by_hand.stories.keys() {
            windows.extend((order..=story.len()).map(|n| story[n - order..n].to_vec()));
        }
        let listed = (0..table.len()).map(|i| symbols(&language, table.context(i)));
        assert_eq!(listed.collect::<BTreeSet<_>>(), windows);
        assert!(table.probabilities.windows(2).all(|p| p[0] >= p[1]));
        for i in 0..table.len() {
            let context = table.context(i);
            let words = symbols(&language, context);
            let p = by_hand.stretch(&words);
            near(table.probabilities[i], p, &words.join(" "));
            let (outcomes, law) = table.laws.row(i);
            near(law.iter().sum(), 1.0, "a law");
            for (outcome, q) in outcomes.iter().zip(law) {
                let longer = symbols(&language, &[context, &[*outcome]].concat());
                near(*q, by_hand.stretch(&longer) / p, &longer.join(" "));
            }
        }
        let inside = table.without_ends().unwrap();
        for i in 0..inside.len() {
            let context = inside.context(i);
            let law = language
                .kernel(Reading::LastTokens)
                .law_within_story(context)
                .unwrap();
            let (outcomes, row) = inside.laws.row(i);
            assert_eq!(
                law,
                outcomes
                    .iter()
                    .copied()
                    .zip(row.iter().copied())
                    .collect::<Vec<_>>()
            );
            let ends = symbols(&language, &[context, &[end]].concat());
            let p = by_hand.stretch(&symbols(&language, context)) - by_hand.stretch(&ends);
            near(inside.probabilities[i], p, "a context that goes on");
        }
        let only_ends = |i: &usize| table.laws.row(*i).0 == [end];
        assert_eq!(
            inside.len() + (0..table.len()).filter(only_ends).count(),
            table.len()
        );
    }
    let few = language.contexts(3, 5).unwrap_err();
    assert!(matches!(few, TextError::TooMany { limit: 5, .. }));
}

fn stories() -> &'static Language {
    static LANGUAGE: OnceLock<Language> = OnceLock::new();
    LANGUAGE.get_or_init(|| Language::stories(Language::DEFAULT_WORDS).unwrap())
}

#[test]
fn the_machine_is_unifilar_its_laws_are_normalised_and_its_stationary_law_is_invariant() {
    let language = stories();
    let mut after = vec![0.0; language.state_count()];
    for (state, mass) in language.stationary().iter().enumerate() {
        let (tokens, law, targets) = language.law_of_state(state).unwrap();
        assert!(
            tokens.windows(2).all(|t| t[0] < t[1]),
            "a token with two targets"
        );
        assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(law.iter().all(|&p| p > 0.0));
        for ((token, p), target) in tokens.iter().zip(law).zip(targets) {
            after[*target as usize] += mass * p;
            assert!(*token as usize != language.vocab_size() || *target == 0);
        }
    }
    for (after, before) in after.iter().zip(language.stationary()) {
        assert!((after - before).abs() < 1e-12);
    }
    assert!((language.stationary().iter().sum::<f64>() - 1.0).abs() < 1e-12);
    assert!(language.law_of_state(language.state_count()).is_none());
}

#[test]
fn the_entropy_rate_is_the_same_on_two_ways_and_the_limit_of_conditional_entropies() {
    let language = stories();
    let per_symbol = language.story_entropy() / language.symbols_per_story();
    assert!((language.entropy_rate() - per_symbol).abs() < 1e-9);
    let conditional = language.conditional_entropies(3).unwrap();
    assert!(conditional.windows(2).all(|h| h[0] > h[1]));
    assert!(conditional[3] > language.entropy_rate());
}

#[test]
fn every_size_has_exactly_the_words_promised() {
    let mut previous = 0;
    for words in [100, 101, 237, Language::DEFAULT_WORDS, 2000, 4000] {
        let language = Language::stories(words).unwrap();
        let distinct: BTreeSet<&String> = language.words().iter().collect();
        assert_eq!((language.vocab_size(), distinct.len()), (words, words));
        // Every word is reached: the machine says it in some state.
        let mut said = vec![false; words + 1];
        for state in 0..language.state_count() {
            let (tokens, _, _) = language.law_of_state(state).unwrap();
            tokens.iter().for_each(|&t| said[t as usize] = true);
        }
        assert!(said.into_iter().all(|s| s));
        assert!(language.state_count() > previous);
        previous = language.state_count();
        assert!(language.transition_count() < 1_000_000);
        if words <= Language::DEFAULT_WORDS {
            assert!(language.state_count() < 60_000 && language.transition_count() < 600_000);
        }
    }
    for words in [0, 99, 1_000_000] {
        let error = Language::stories(words).unwrap_err();
        assert!(
            matches!(error, TextError::LanguageSize { least: 100, .. }),
            "{error}"
        );
    }
}

#[test]
fn seeds_and_sizes_make_texts_and_identities() {
    let language = stories();
    let text = |seed| language.documents(seed, 20);
    assert_eq!(text(1), text(1));
    assert_eq!(text(1)[..5], language.documents(1, 5));
    assert_ne!(text(1), text(2));
    let again = Language::stories(Language::DEFAULT_WORDS).unwrap();
    assert_eq!(again.identity(), language.identity());
    assert_ne!(
        Language::stories(399).unwrap().identity(),
        language.identity()
    );
    assert_eq!(language.identity().len(), 64);
}

#[test]
fn a_story_tokenizes_to_its_own_ids() {
    let language = stories();
    let tokenizer = language.tokenizer().unwrap();
    for story in language.documents(7, 200) {
        assert_eq!(tokenizer.encode(&language.text(&story)).unwrap(), story);
    }
}

/// The pronouns of each gender, and whether a name is of a friend, not of a hero.
const PRONOUNS: [[&str; 3]; 2] = [["he", "him", "his"], ["she", "her", "her"]];
const FRIENDS: [&str; 6] = ["Kim", "Bob", "Amy", "Dan", "Grace", "Will"];

fn words_of<'a>(language: &'a Language, story: &[u32]) -> Vec<&'a str> {
    story
        .iter()
        .map(|&t| language.words()[t as usize].as_str())
        .collect()
}

#[test]
fn what_a_story_begins_with_decides_how_it_ends() {
    let language = stories();
    let homes: HashMap<&str, &str> = [
        ("fox", "den"),
        ("rabbit", "burrow"),
        ("bear", "cave"),
        ("mouse", "hole"),
        ("bird", "nest"),
        ("dog", "kennel"),
        ("hen", "coop"),
        ("frog", "pond"),
    ]
    .into();
    let uses = [
        ("ball", "kicked"),
        ("cake", "ate"),
        ("kite", "flew"),
        ("hat", "wore"),
        ("drum", "beat"),
        ("ring", "wore"),
        ("bell", "rang"),
        ("boat", "sailed"),
        ("pear", "ate"),
        ("book", "read"),
    ];
    let mut seen = BTreeSet::new();
    let mut gender: HashMap<&str, usize> = HashMap::new();
    let mut far = 0;
    for story in language.documents(3, 5000) {
        let words = words_of(language, &story);
        if words.iter().any(|w| FRIENDS.contains(w)) {
            continue;
        }
        let said: BTreeSet<usize> = (0..2)
            .filter(|&g| words.iter().any(|w| PRONOUNS[g].contains(w)))
            .collect();
        assert_eq!(said.len(), 1, "{}", words.join(" "));
        let is_name = |w: &&&str| w.starts_with(char::is_uppercase);
        let name = words.iter().rfind(is_name).unwrap();
        let known = *gender.entry(*name).or_insert(*said.first().unwrap());
        assert!(said.contains(&known), "{}", words.join(" "));
        let named = words.iter().position(|w| *w == "named").unwrap();
        if let Some(home) = homes.get(words[named - 1]) {
            let at = words
                .iter()
                .rposition(|w| w == home)
                .expect("no home at the end");
            far = far.max(at - named);
            seen.insert(*home);
        }
        // What was wanted before the middle of the story is found, and used as such a thing is.
        let used = words
            .windows(2)
            .rposition(|w| w[1] == "it" && uses.iter().any(|u| u.1 == w[0]));
        let used = used.expect("nothing is used");
        let wanted = |t: &str| words[..used].iter().filter(|w| **w == t).count() >= 2;
        let found = uses.iter().any(|(t, u)| *u == words[used] && wanted(t));
        assert!(found, "{}", words.join(" "));
    }
    assert_eq!(seen.len(), homes.len());
    assert!(far > 40, "{far}");
    assert!(gender.len() >= 30);
}

#[test]
fn the_whole_prefix_decides_the_pronoun_and_the_last_three_tokens_do_not() {
    let language = stories();
    let id = |w: &str| language.words().iter().position(|x| x == w).unwrap() as u32;
    let pronouns = [id("he"), id("she")];
    let said = |law: &[(u32, f64)]| pronouns.map(|p| law.iter().any(|l| l.0 == p));
    let (full, last) = (
        language.kernel(Reading::FullPrefix),
        language.kernel(Reading::LastTokens),
    );
    let (mut open, mut all) = (0, 0);
    for story in language.documents(11, 300) {
        if words_of(language, &story)
            .iter()
            .any(|w| FRIENDS.contains(w))
        {
            continue;
        }
        for n in (20..story.len()).filter(|&n| pronouns.contains(&story[n])) {
            let truth = said(&full.law(&story[..n]).unwrap());
            assert_eq!(truth, pronouns.map(|p| p == story[n]));
            all += 1;
            open += usize::from(said(&last.law(&story[n - 3..n]).unwrap()) == [true, true]);
        }
    }
    assert!(all > 300 && open * 10 > all * 8, "{open} of {all}");
}

#[test]
fn supports_have_many_sizes() {
    let language = stories();
    let of_states: BTreeSet<usize> = (0..language.state_count())
        .map(|q| language.law_of_state(q).unwrap().0.len())
        .collect();
    assert!(
        [1, 2, 3, 4, 5, 10, 16, 30]
            .iter()
            .all(|n| of_states.contains(n)),
        "{of_states:?}"
    );
    let table = language.contexts(2, 100_000).unwrap();
    let of_contexts: BTreeSet<usize> = table
        .laws
        .rows()
        .map(|(outcomes, _)| outcomes.len())
        .collect();
    assert!(
        of_contexts.len() > 30 && of_contexts.contains(&1),
        "{of_contexts:?}"
    );
}

#[test]
fn ten_million_tokens_agree_with_what_is_computed() {
    let language = stories();
    let symbols = language.vocab_size() + 1;
    let table = language.contexts(2, 100_000).unwrap();
    // The laws of the most probable contexts, by their tokens.
    let watched: HashMap<[u32; 2], usize> = (0..40)
        .map(|i| ([table.context(i)[0], table.context(i)[1]], i))
        .collect();
    // Numbers to estimate: words, then pairs of a watched context and an outcome. The truth of each
    // is a ratio of expectations over one story; so is its estimate, and stories are independent.
    let mut ratio = Ratios::new(symbols + watched.len() * symbols);
    let (mut loss, mut per_story) = (0.0, Vec::new());
    let mut length = 0;
    for story in language.documents(20, 174_000) {
        let mut state = 0;
        let mut of_story = 0.0;
        let mut counted: Vec<usize> = Vec::with_capacity(2 * story.len());
        let end = [language.vocab_size() as u32];
        for (i, &token) in story.iter().chain(&end).enumerate() {
            let (tokens, law, targets) = language.law_of_state(state).unwrap();
            let at = tokens.binary_search(&token).unwrap();
            of_story -= law[at].ln();
            state = targets[at] as usize;
            counted.push(token as usize);
            let before = i.checked_sub(2).map(|j| [story[j], story[j + 1]]);
            if let Some(&c) = before.and_then(|b| watched.get(&b)) {
                counted.push(symbols * (1 + c) + token as usize);
            }
        }
        length += story.len() + 1;
        loss += of_story;
        per_story.push((of_story, (story.len() + 1) as f64));
        ratio.add(&mut counted, (story.len() + 1) as f64);
    }
    assert!(length >= 10_000_000, "{length}");
    let rate = loss / length as f64;
    let error = per_story
        .iter()
        .map(|(l, n)| (l - rate * n).powi(2))
        .sum::<f64>()
        .sqrt();
    let off = (rate - language.entropy_rate()) / (error / length as f64);
    assert!(
        off.abs() < 4.0,
        "the mean loss is {off} standard errors off"
    );

    let law = language.kernel(Reading::LastTokens).law(&[]).unwrap();
    assert_eq!(law.len(), symbols);
    for (token, p) in law {
        ratio.check(token as usize, p, language.text(&[token]));
    }
    let mut checked = 0;
    for i in 0..watched.len() {
        let (outcomes, law) = table.laws.row(i);
        for (&outcome, p) in outcomes.iter().zip(law).filter(|(_, p)| **p > 0.01) {
            let joint = table.probabilities[i] * p;
            let text = language.text(&[table.context(i), &[outcome]].concat());
            ratio.check(symbols * (1 + i) + outcome as usize, joint, text);
            checked += 1;
        }
    }
    assert!(checked > 100);
}

/// Estimates of `E count / E length`, with standard errors over stories.
struct Ratios {
    count: Vec<f64>,
    squares: Vec<f64>,
    with_length: Vec<f64>,
    length: f64,
    length_squares: f64,
}

impl Ratios {
    fn new(n: usize) -> Self {
        let zero = || vec![0.0; n];
        Self {
            count: zero(),
            squares: zero(),
            with_length: zero(),
            length: 0.0,
            length_squares: 0.0,
        }
    }

    fn add(&mut self, counted: &mut [usize], length: f64) {
        counted.sort_unstable();
        for same in counted.chunk_by(|a, b| a == b) {
            let (i, count) = (same[0], same.len() as f64);
            self.count[i] += count;
            self.squares[i] += count * count;
            self.with_length[i] += count * length;
        }
        self.length += length;
        self.length_squares += length * length;
    }

    /// Fails if the truth is 4 standard errors or more from the estimate.
    fn check(&self, i: usize, truth: f64, what: String) {
        let deviation = self.squares[i] - 2.0 * truth * self.with_length[i]
            + truth * truth * self.length_squares;
        let off = (self.count[i] - truth * self.length) / deviation.sqrt();
        assert!(off.abs() < 4.0, "{what}: {off} standard errors off");
    }
}

#[test]
fn the_page_about_the_language_has_its_exact_figures() {
    let page = include_str!("../../../docs/built-in-language.md");
    let language = stories();
    let row = |what: &str, figure: String| format!("| {what} | {figure} |");
    let bits = |nats: f64| nats / std::f64::consts::LN_2;
    let rate = language.entropy_rate();
    let mut rows = vec![
        row("words, V", language.vocab_size().to_string()),
        row("states", language.state_count().to_string()),
        row("transitions", language.transition_count().to_string()),
        row("entropy rate, nats per symbol", format!("{rate:.6}")),
        row(
            "entropy rate, bits per symbol",
            format!("{:.6}", bits(rate)),
        ),
        row(
            "entropy of a story, nats",
            format!("{:.4}", language.story_entropy()),
        ),
        row(
            "symbols per story, its end counted",
            format!("{:.4}", language.symbols_per_story()),
        ),
    ];
    let conditional = language.conditional_entropies(5).unwrap();
    for (n, entropy) in conditional.iter().enumerate() {
        let (mut contexts, mut largest) = ("".to_owned(), "".to_owned());
        if (1..=3).contains(&n) {
            let table = language.contexts(n, 100_000).unwrap();
            let sizes = table.laws.rows().map(|(outcomes, _)| outcomes.len());
            contexts = table.len().to_string();
            largest = sizes.max().unwrap().to_string();
        }
        rows.push(format!("| {n} | {entropy:.6} | {contexts} | {largest} |"));
    }
    let mut shares = BTreeMap::new();
    for (state, mass) in language.stationary().iter().enumerate() {
        let size = language.law_of_state(state).unwrap().0.len();
        let class = [1, 2, 3, 5, 10, 20, 50]
            .into_iter()
            .find(|&n| size <= n)
            .unwrap_or(999);
        *shares.entry(class).or_insert(0.0) += mass;
    }
    let mut from = 1;
    for (to, share) in shares {
        let sizes = if from == to {
            from.to_string()
        } else {
            format!("{from} to {to}")
        };
        rows.push(row(&sizes, format!("{:.2} %", 100.0 * share)));
        from = to + 1;
    }
    for line in ["A story:", "Another:"] {
        let at = page.find(line).expect("no example story");
        let story = page[at..]
            .lines()
            .find_map(|l| l.strip_prefix("> "))
            .unwrap();
        let tokens = language.tokenizer().unwrap().encode(story).unwrap();
        let end = [language.vocab_size() as u32];
        let kernel = language.kernel(Reading::FullPrefix);
        assert!(
            kernel.context_probability(&[&tokens[..], &end].concat()) > 0.0,
            "{story}"
        );
    }
    let missing: Vec<&String> = rows.iter().filter(|r| !page.contains(*r)).collect();
    assert!(
        missing.is_empty(),
        "the page should have these rows:\n{rows:#?}"
    );
}

fn log_prob_rows(kernel: &impl NextToken, batch: &ContextBatch) -> SparseRows<f32> {
    let mut all = SparseRows::new(kernel.vocab_size());
    kernel
        .log_probs(batch, &mut |first, block| {
            assert_eq!(first, all.nrows());
            let LogProbs::Sparse(block) = block else {
                panic!("dense")
            };
            for (tokens, logs) in block.rows() {
                all.push_row(tokens.iter().copied().zip(logs.iter().copied()))
                    .unwrap();
            }
            Ok(())
        })
        .unwrap();
    all
}

/// Running text, whole and in pieces, and short contexts in no order.
fn batch(language: &Language) -> ContextBatch {
    let mut batch = ContextBatch::new();
    let end = language.vocab_size() as u32;
    for (i, story) in language.documents(5, 60).into_iter().enumerate() {
        let every: Vec<u32> = (0..=story.len() as u32).collect();
        batch.push(&story, &every).unwrap();
        batch
            .push(&[&[end], &story[..]].concat(), &every[i % 7 + 1..])
            .unwrap();
        batch.push(&story[..20], &[i as u32 % 20]).unwrap();
    }
    batch
}

#[test]
fn a_batch_has_the_laws_of_its_positions_one_by_one() {
    let language = stories();
    let batch = batch(language);
    for reading in [Reading::FullPrefix, Reading::LastTokens] {
        let kernel = language.kernel(reading);
        let laws = kernel.laws(&batch).unwrap();
        let logs = log_prob_rows(&kernel, &batch);
        assert_eq!((laws.nrows(), logs.nrows()), (batch.rows(), batch.rows()));
        let positions = batch
            .windows()
            .flat_map(|w| w.positions.iter().map(move |&p| &w.tokens[..p as usize]));
        for (row, context) in positions.enumerate() {
            let law = kernel.law(context).unwrap();
            let (tokens, probabilities) = laws.row(row);
            assert!(tokens.iter().copied().eq(law.iter().map(|l| l.0)));
            let (_, logs) = logs.row(row);
            for ((p, q), log) in probabilities.iter().zip(&law).zip(logs) {
                assert!(*p == q.1 && (f64::from(*log) - p.ln()).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn answers_do_not_depend_on_the_number_of_threads() {
    let language = stories();
    let batch = batch(language);
    let all = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            (
                language.kernel(Reading::LastTokens).laws(&batch).unwrap(),
                language.contexts(2, 100_000).unwrap(),
                language.conditional_entropies(2).unwrap(),
            )
        })
    };
    assert_eq!(all(1), all(3));
}

#[test]
fn filtered_beliefs_give_the_laws_of_the_table_of_contexts() {
    let language = stories();
    let kernel = language.kernel(Reading::LastTokens);
    for order in [1, 2] {
        let table = language.contexts(order, 100_000).unwrap();
        let contexts = (0..table.len()).map(|i| table.context(i));
        let laws = kernel.laws(&ContextBatch::of_contexts(contexts)).unwrap();
        assert_eq!(laws.indices(), table.laws.indices());
        let pairs = laws.values().iter().zip(table.laws.values());
        assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-12));
        let i = table.len() / 2;
        let p = kernel.context_probability(table.context(i));
        assert!((p / table.probabilities[i] - 1.0).abs() < 1e-12);
    }
}

#[test]
fn what_has_no_law_is_refused_and_named() {
    let language = stories();
    let id = |w: &str| language.words().iter().position(|x| x == w).unwrap() as u32;
    let kernel = language.kernel(Reading::LastTokens);
    let context = [id("the"), id("den"), id("the")];
    let error = kernel.law(&context).unwrap_err();
    assert!(matches!(error, TextError::ImpossibleContext { .. }));
    assert!(error.to_string().contains("the den the"), "{error}");
    assert_eq!(kernel.context_probability(&context), 0.0);
    // Windows of a batch are refused in their order, whatever the order they are gone through.
    let batch = ContextBatch::of_contexts([&[id("den"), id("a")][..], &[id("a"), id("a")]]);
    let error = kernel.laws(&batch).unwrap_err().to_string();
    assert!(error.contains("den a"), "{error}");
    let beyond = language.vocab_size() as u32 + 1;
    assert!(matches!(
        kernel.law(&[beyond]),
        Err(TextError::NotInLanguage { .. })
    ));
    let batch = ContextBatch::of_contexts([&[0u32][..], &[beyond]]);
    let refused = kernel.log_probs(&batch, &mut |_, _| Ok(())).unwrap_err();
    assert!(matches!(
        refused,
        lawvere_core::KernelError::TokenOutOfRange { window: 1, .. }
    ));
}

#[test]
fn a_grammar_that_makes_no_language_is_refused_with_its_line() {
    for (text, problem) in [
        ("rule story:\n 1 a <b>", "no rule `b`"),
        ("rule story:\n 1 a <story>", "leads back to itself"),
        ("rule story:\n 1 a <x.f>", "never chosen"),
        ("rule story:\n 1 a <x=c.f>", "no class `c`"),
        ("class c: f\n b\nrule story:\n 1 a <x=c.g>", "no form `g`"),
        (
            "class c: f\n b\nrule story:\n 1 a <x.f> <x=c.f>",
            "before it is chosen",
        ),
        (
            "class c: f\n b\nrule story:\n 1 <r*0.5> <x.f>\nrule r:\n 1 <x=c.f>",
            "before it is chosen",
        ),
        (
            "class c: f\n b\nclass d: f\n b\nrule story:\n 1 <x=c.f> <x=d.f>",
            "two classes",
        ),
        (
            "rule story:\n 1 a <r*0.5>\nrule r:\n 1 -\n 1 b",
            "may be empty",
        ),
        ("rule story:\n 1 <r>\nrule r:\n 1 -\n 1 b", "may be empty"),
    ] {
        let error = Language::from_grammar(&Grammar::parse(text).unwrap()).unwrap_err();
        assert!(matches!(error, TextError::Grammar { .. }), "{error}");
        assert!(error.to_string().contains(problem), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_law_is_the_mean_of_those_of_the_contexts_one_longer(
        seed in 0u64..1000, from in 1usize..25, length in 1usize..4,
    ) {
        let language = stories();
        let story = language.documents(seed, 1).remove(0);
        prop_assume!(from + length <= story.len());
        let context = &story[from..from + length];
        let kernel = language.kernel(Reading::LastTokens);
        let probability = kernel.context_probability(context);
        let mut mixed = vec![0.0; kernel.vocab_size()];
        for before in 0..kernel.vocab_size() as u32 {
            let longer = [&[before], context].concat();
            let weight = kernel.context_probability(&longer) / probability;
            if weight > 0.0 {
                let law = kernel.law(&longer).unwrap();
                law.iter().for_each(|(token, p)| mixed[*token as usize] += weight * p);
            }
        }
        for (token, p) in kernel.law(context).unwrap() {
            prop_assert!((mixed[token as usize] - p).abs() < 1e-12);
        }
    }
}
