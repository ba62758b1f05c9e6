use std::path::Path;

use lawvere_core::wilson_interval;
use lawvere_metric::{Hyponymy, hyponymy};
use lawvere_text::TextSpace;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;

use crate::index::lines_of;
use crate::model::{ModelSource, Place, open_model, tell_scoring};
use crate::{Event, RunError};

/// How words are compared in the contexts of a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WordPlan {
    /// Places of each word that are taken as contexts of both.
    pub contexts: usize,
    /// Tokens before a word.
    pub before: usize,
    /// Tokens after it.
    pub after: usize,
    /// Where chance comes from.
    pub seed: u64,
}

impl Default for WordPlan {
    /// 8 places of each word, 16 tokens before and 8 after.
    fn default() -> Self {
        Self {
            contexts: 8,
            before: 16,
            after: 8,
            seed: 0,
        }
    }
}

/// How often the special one of two words is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HyponymReport {
    /// Pairs that were judged.
    pub pairs: usize,
    /// The share of them in which the first word, the hyponym, was told.
    pub accuracy: f64,
    /// Its 95 % interval (Wilson's).
    pub interval: [f64; 2],
    /// The same rule on log-probabilities of whole texts in the place of their means a token, which favour words of several
    /// tokens.
    pub by_total: f64,
    /// Its interval.
    pub by_total_interval: [f64; 2],
    /// The share that the rule "the rarer word is the hyponym" tells.
    pub by_frequency: f64,
    /// Pairs left out, because a word does not stand often enough after other text.
    pub left_out: usize,
    /// Every pair.
    pub judged: Vec<JudgedPair>,
    /// How words were compared.
    pub plan: WordPlan,
    /// Tokens taken through the network.
    pub forwarded: usize,
    /// The hash of the model.
    pub model_sha256: String,
    /// The hash of the corpus.
    pub corpus_sha256: String,
}

/// A pair of words and what was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JudgedPair {
    /// The hyponym.
    pub hyponym: String,
    /// The hypernym.
    pub hypernym: String,
    /// Their occurrences in the corpus.
    pub counts: [u64; 2],
    /// The comparison, the hypernym first: right where the second is told to be the hyponym.
    pub found: Hyponymy,
    /// The comparison by totals.
    pub totals: Hyponymy,
}

/// Asks a model which word of a pair is the hyponym: pairs are lines of a file, hyponym and hypernym with a tab between them;
/// contexts are places of a corpus where either stands, written as it is within a line, after a blank.
///
/// # Errors
/// What opening the model, the index or the file meets; an index of another tokenizer; no pair whose words both occur
/// often enough.
pub fn evaluate_hyponyms(
    model: &ModelSource,
    index: &Path,
    file: &Path,
    limit: Option<usize>,
    plan: &WordPlan,
    on_event: &mut dyn FnMut(Event),
) -> Result<HyponymReport, RunError> {
    let mut pairs = Vec::new();
    for (line, number) in lines_of(file)?.iter().zip(1..) {
        match line.split('\t').collect::<Vec<_>>()[..] {
            [hyponym, hypernym] if !hyponym.trim().is_empty() && !hypernym.trim().is_empty() => {
                pairs.push((hyponym.trim().to_owned(), hypernym.trim().to_owned()));
            }
            _ => {
                return Err(Place::Line(file.to_owned(), number).error(
                    "it should be two words with a tab between them, hyponym and hypernym",
                ));
            }
        }
    }
    let space = TextSpace::open(index)?;
    let model = open_model(model, on_event)?;
    let tokenizer = space.tokenizer();
    if model
        .tokenizer()
        .is_none_or(|t| t.identity() != tokenizer.identity())
    {
        return Err(RunError::Usage(format!(
            "{}: the index was not made with the model's tokenizer; build it with --tokenizer {}",
            index.display(),
            model.path().display()
        )));
    }
    on_event(Event::Part(format!(
        "looking for {} pairs of words",
        pairs.len()
    )));
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let (mut taken, mut left_out) = (Vec::new(), 0);
    for (hyponym, hypernym) in pairs {
        if limit.is_some_and(|limit| taken.len() == limit) {
            break;
        }
        let words = [&hypernym, &hyponym].map(|word| tokenizer.encode(&format!(" {word}")));
        let [u, v] = words;
        let (u, v) = (u?, v?);
        let mut contexts = Vec::new();
        for word in [&u, &v] {
            contexts.extend(places(&space, word, plan, &mut rng));
        }
        if contexts.len() < 2 * plan.contexts {
            left_out += 1;
            continue;
        }
        taken.push((hyponym, hypernym, u, v, contexts));
    }
    if taken.is_empty() {
        return Err(RunError::Input {
            path: file.to_owned(),
            what: format!(
                "of no pair do both words occur in {} places of the corpus with text around them",
                plan.contexts
            ),
        });
    }
    // All tokens but the first of `s w t`, given those before.
    let mut texts: Vec<Vec<u32>> = Vec::new();
    for (.., u, v, contexts) in &taken {
        for (s, t) in contexts {
            texts.extend([u, v].map(|w| [&s[..], w, t].concat()));
        }
    }
    on_event(Event::Part(format!("scoring: {} texts", texts.len())));
    let questions: Vec<(&[u32], &[u32])> = texts.iter().map(|t| t.split_at(1)).collect();
    tell_scoring(&model, &questions, on_event);
    let scored = model.score(&questions)?;
    let total = |k: usize| scored.scores[k].total;
    let mean = |k: usize| total(k) / (texts[k].len() - 1) as f64;
    let mut next = 0;
    let mut judged = Vec::with_capacity(taken.len());
    let mut rarer = 0;
    for (hyponym, hypernym, u, v, contexts) in taken {
        let of = |value: &dyn Fn(usize) -> f64| -> Vec<[f64; 2]> {
            let places = (0..contexts.len()).map(|k| next + 2 * k);
            places.map(|k| [value(k), value(k + 1)]).collect()
        };
        let (means, totals) = (of(&mean), of(&total));
        next += 2 * contexts.len();
        let counts = [space.count(&v), space.count(&u)];
        rarer += usize::from(counts[0] < counts[1]);
        judged.push(JudgedPair {
            hyponym,
            hypernym,
            counts,
            found: hyponymy(&means)?,
            totals: hyponymy(&totals)?,
        });
    }
    let n = judged.len();
    let right = |of: fn(&JudgedPair) -> &Hyponymy| {
        let judged = judged.iter().filter(|j| of(j).second_is_hyponym);
        judged.count()
    };
    let (by_means, by_total) = (right(|j| &j.found), right(|j| &j.totals));
    Ok(HyponymReport {
        pairs: n,
        accuracy: by_means as f64 / n as f64,
        interval: wilson_interval(by_means, n),
        by_total: by_total as f64 / n as f64,
        by_total_interval: wilson_interval(by_total, n),
        by_frequency: rarer as f64 / n as f64,
        left_out,
        judged,
        plan: *plan,
        forwarded: scored.forwarded,
        model_sha256: model.identity().to_owned(),
        corpus_sha256: space.info().corpus_identity.clone(),
    })
}

/// What stands before and after places of a word, drawn among those with something before it.
fn places(
    space: &TextSpace,
    word: &[u32],
    plan: &WordPlan,
    rng: &mut StdRng,
) -> Vec<(Vec<u32>, Vec<u32>)> {
    let mut all = space.positions(word, usize::MAX);
    all.retain(|place| place.token > 0);
    all.shuffle(rng);
    let around = all.iter().filter_map(|place| {
        let document = space.document_tokens(place.document as usize)?;
        let at = place.token as usize;
        let after = at + word.len();
        // " cat" is not " catalog".
        let next = document.get(after..).and_then(|rest| rest.first());
        let next = next.map(|&token| space.tokenizer().decode(&[token]));
        if matches!(next, Some(Ok(text)) if text.starts_with(char::is_alphanumeric)) {
            return None;
        }
        let before = document.get(at.saturating_sub(plan.before)..at)?.to_vec();
        let end = document.len().min(after + plan.after);
        Some((before, document.get(after..end)?.to_vec()))
    });
    around.take(plan.contexts).collect()
}
