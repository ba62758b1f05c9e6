use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use lawvere_lm::LanguageModel;
use lawvere_metric::Space;
use lawvere_text::{CorpusOptions, TextSpace};

use super::{Order, TextSet};
use crate::RunError;
use crate::index::{Query, TokenizerChoice};
use crate::model::{ModelSource, Passage, Place, check_length, open_model, tell_scoring, tokens};
use crate::origin::Origin;
use crate::{Event, index};

/// Where the counts of a corpus come from.
#[derive(Debug, Clone)]
pub enum CountSource {
    /// The folder of an index.
    Index(PathBuf),
    /// A corpus, indexed in memory for this question alone.
    Corpus(CorpusOptions, TokenizerChoice),
}

/// Which texts a space of a corpus or of a model is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextChoice {
    /// The lines of a file, as text or, with `ids`, as token ids.
    Lines {
        /// The file.
        file: PathBuf,
        /// Whether its lines are token ids.
        ids: bool,
    },
    /// Texts that an argument gives.
    Given {
        /// The texts.
        texts: Vec<String>,
        /// Whether all that they hold is meant, what stands within them or, in the order of prefixes, what they begin with;
        /// otherwise they alone.
        within: bool,
        /// The argument, which errors name.
        argument: String,
    },
}

impl TextChoice {
    fn place(&self) -> Place {
        match self {
            Self::Lines { file, .. } => Place::File(file.clone()),
            Self::Given { argument, .. } => Place::Argument(argument.clone()),
        }
    }

    /// Where text `i` was given.
    fn place_of(&self, i: usize) -> Place {
        match self {
            Self::Lines { file, .. } => Place::Line(file.clone(), i + 1),
            Self::Given { .. } => self.place(),
        }
    }

    fn file(&self) -> Option<&Path> {
        match self {
            Self::Lines { file, .. } => Some(file),
            Self::Given { .. } => None,
        }
    }
}

/// Texts that were given, with all that they hold if that is meant: no text twice, shorter ones first, and the names that
/// the given ones came by; others are called what `decode` reads in them.
fn texts_of(
    given: Vec<(String, Vec<u32>)>,
    within: bool,
    order: Order,
    place: &Place,
    decode: impl Fn(&[u32]) -> Result<String, RunError>,
) -> Result<(Vec<String>, Vec<Vec<u32>>), RunError> {
    let whole: Vec<Vec<u32>> = given.iter().map(|(_, tokens)| tokens.clone()).collect();
    let texts = match within {
        true => held(&whole, order),
        false => {
            let mut seen = HashSet::new();
            let new = |text: &Vec<u32>| seen.insert(text.clone());
            Some(whole.into_iter().filter(new).collect())
        }
    };
    let Some(texts) = texts else {
        return Err(place.error(format!(
            "more than {} texts stand within it, the most that are held against one another: that is one of about 127 tokens",
            Space::LIMIT
        )));
    };
    let own: HashMap<Vec<u32>, String> =
        given.into_iter().map(|(name, text)| (text, name)).collect();
    let mut names = Vec::with_capacity(texts.len());
    for text in &texts {
        names.push(match own.get(text) {
            Some(name) => name.clone(),
            None => decode(text)?,
        });
    }
    tell_apart(&mut names, &texts, &own);
    Ok((names, texts))
}

/// All different texts within `texts`, or with the order of prefixes those that they begin with; shorter ones first. None if
/// they are more than a space of subtexts holds.
pub(super) fn held(texts: &[Vec<u32>], order: Order) -> Option<Vec<Vec<u32>>> {
    let mut seen: HashSet<&[u32]> = HashSet::new();
    let mut out = Vec::new();
    let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
    for length in 1..=longest {
        for text in texts.iter().filter(|t| t.len() >= length) {
            let windows = text.windows(length).take(match order {
                Order::Prefix => 1,
                _ => usize::MAX,
            });
            for window in windows.filter(|w| seen.insert(w)) {
                if order != Order::Prefix && out.len() == Space::LIMIT {
                    return None;
                }
                out.push(window.to_vec());
            }
        }
    }
    Some(out)
}

/// Covering pairs `(i, j)` and how far the counts of a corpus put them apart, nats.
pub(super) fn counted_steps(covers: &[Vec<usize>], counts: &[u64]) -> Vec<(usize, usize, f64)> {
    let far = |i: usize, j: usize| (counts[i] as f64 / counts[j] as f64).ln();
    pairs(covers).map(|(i, j)| (i, j, far(i, j))).collect()
}

/// The space of some texts of a corpus, `Pr(b|a) = count(b) / count(a)`.
///
/// # Errors
/// What opening the index, reading the corpus or the file of the texts meets; a text that does not occur, or comes twice.
pub fn space_of_corpus(
    from: &CountSource,
    choice: &TextChoice,
    order: Order,
    on_event: &mut dyn FnMut(Event),
) -> Result<TextSet, RunError> {
    let (space, mut source) = match from {
        CountSource::Index(folder) => {
            let mut source = Origin::files("index", &[&folder.join("space.json")])?;
            source.paths = vec![folder.clone()];
            (TextSpace::open(folder)?, source)
        }
        CountSource::Corpus(options, tokenizer) => {
            let space = index::space(options, tokenizer, on_event)?;
            let mut source = Origin::files("corpus", &[])?;
            source.paths.clone_from(&options.paths);
            (space, source)
        }
    };
    if let Some(file) = choice.file() {
        source.with_texts(file)?;
    }
    source.corpus_sha256 = Some(space.info().corpus_identity.clone());
    source.tokenizer_sha256 = Some(space.info().tokenizer_identity.clone());
    let asked = match choice {
        TextChoice::Lines { file, ids } => index::queries_of(&space, file, *ids)?,
        TextChoice::Given { texts, .. } => {
            let read = |text: &String| {
                let found = index::queries(&space, std::slice::from_ref(text), false);
                found.map_err(|e| choice.place().error(format!("{text:?}: {e}")))
            };
            let read = texts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
            read.concat()
        }
    };
    let mut counts = check_present(&space, &asked, choice)?;
    let mut texts: Vec<(String, Vec<u32>)> =
        asked.into_iter().map(|q| (q.text, q.tokens)).collect();
    if let TextChoice::Given { within, .. } = choice {
        let decode = |tokens: &[u32]| Ok(space.tokenizer().decode(tokens)?);
        let (names, tokens) = texts_of(texts, *within, order, &choice.place(), decode)?;
        counts = space.count_batch(&tokens);
        texts = names.into_iter().zip(tokens).collect();
    }
    let (names, tokens): (Vec<String>, Vec<Vec<u32>>) = texts.into_iter().unzip();
    let wrong = |what: String| choice.place().error(what);
    let covers = order.covers(&tokens).ok_or_else(|| {
        wrong("its texts are too many to be held against one another; take --order prefix".into())
    })?;
    let steps = counted_steps(&covers, &counts);
    TextSet::new(names, &tokens, order, &steps, source).map_err(|e| wrong(e.to_string()))
}

/// The counts of texts, all of which occur.
fn check_present(
    space: &TextSpace,
    asked: &[Query],
    choice: &TextChoice,
) -> Result<Vec<u64>, RunError> {
    let tokens: Vec<&[u32]> = asked.iter().map(|q| q.tokens.as_slice()).collect();
    let counts = space.count_batch(&tokens);
    match counts.iter().zip(asked).position(|(&c, _)| c == 0) {
        None => Ok(counts),
        Some(i) => {
            let text = &asked[i].text;
            // Within a line many tokenizers begin a word with its blank.
            let spaced = format!(" {text}");
            let found = space.tokenizer().encode(&spaced);
            let hint = match found.is_ok_and(|tokens| space.count(&tokens) > 0) {
                true => format!("; {spaced:?}, with a blank before it, does"),
                false => String::new(),
            };
            Err(choice.place_of(i).error(format!(
                "{text:?} does not occur in the corpus, and a space of a corpus holds texts that do{hint}"
            )))
        }
    }
}

/// The space of texts in the order of prefixes with a model's probabilities of going on. Each distinct prefix is read
/// once.
///
/// # Errors
/// What opening the model or reading the file of the texts meets; texts that come twice, or are longer than the model
/// reads.
pub fn space_of_model(
    model: &ModelSource,
    choice: &TextChoice,
    on_event: &mut dyn FnMut(Event),
) -> Result<TextSet, RunError> {
    let passages = match choice {
        TextChoice::Lines { file, .. } => Passage::lines(file)?,
        TextChoice::Given {
            texts, argument, ..
        } => {
            let passage = |text: &String| Passage::argument(argument, text.as_str());
            texts.iter().map(passage).collect()
        }
    };
    let model = open_model(model, on_event)?;
    let mut found = tokens(&model, &passages.iter().collect::<Vec<_>>())?;
    for (text, passage) in found.iter().zip(&passages) {
        check_length(&model, text.len().saturating_sub(1), &passage.place)?;
    }
    let name = |p: &Passage| p.text().unwrap_or_default().to_owned();
    let mut names: Vec<String> = passages.iter().map(name).collect();
    if let TextChoice::Given { within, .. } = choice {
        let decode = |tokens: &[u32]| match model.tokenizer() {
            Some(tokenizer) => Ok(tokenizer.decode(tokens)?),
            None => Err(no_tokenizer(&model)),
        };
        let given = names.into_iter().zip(found).collect();
        (names, found) = texts_of(given, *within, Order::Prefix, &choice.place(), decode)?;
    }
    let covers = Order::Prefix.covers(&found).unwrap_or_default();
    let edges: Vec<(usize, usize)> = pairs(&covers).collect();
    let questions: Vec<(&[u32], &[u32])> = edges
        .iter()
        .map(|&(i, j)| (&found[i][..], &found[j][found[i].len()..]))
        .collect();
    on_event(Event::Part(format!("scoring: {} steps", questions.len())));
    tell_scoring(&model, &questions, on_event);
    let scored = model.score(&questions)?;
    let steps: Vec<(usize, usize, f64)> = edges
        .iter()
        .zip(scored.scores)
        .map(|(&(i, j), score)| (i, j, (-score.total).max(0.0)))
        .collect();
    let mut source = Origin::files("model", &[])?;
    source.paths.push(model.path().to_owned());
    if let Some(file) = choice.file() {
        source.with_texts(file)?;
    }
    source.model_sha256 = Some(model.identity().to_owned());
    let set = TextSet::new(names, &found, Order::Prefix, &steps, source);
    let mut set = set.map_err(|e| choice.place().error(e))?;
    set.forwarded = Some(scored.forwarded);
    Ok(set)
}

/// Names of different texts that read alike, as those do that end within a character, get their tokens added; but for the
/// texts that were given by their names.
fn tell_apart(names: &mut [String], texts: &[Vec<u32>], given: &HashMap<Vec<u32>, String>) {
    let mut times: HashMap<String, usize> = HashMap::new();
    for name in names.iter() {
        *times.entry(name.clone()).or_default() += 1;
    }
    for (name, text) in names.iter_mut().zip(texts) {
        if times.get(name).is_some_and(|&n| n > 1) && !given.contains_key(text) {
            let ids: Vec<String> = text.iter().map(u32::to_string).collect();
            *name = format!("{name} (tokens {})", ids.join(" "));
        }
    }
}

fn no_tokenizer(model: &LanguageModel) -> RunError {
    RunError::NoTokenizer {
        path: model.path().to_owned(),
    }
}

fn pairs(covers: &[Vec<usize>]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let all = covers.iter().enumerate();
    all.flat_map(|(j, below)| below.iter().map(move |&i| (i, j)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_read_alike_are_told_apart() {
        let mut names = ["a", "b", "a", "a"].map(String::from).to_vec();
        let given = HashMap::from([(vec![5], "a".to_owned())]);
        let texts = [vec![1], vec![2], vec![3, 4], vec![5]];
        tell_apart(&mut names, &texts, &given);
        assert_eq!(names, ["a (tokens 1)", "b", "a (tokens 3 4)", "a"]);
    }

    #[test]
    fn texts_that_hold_too_much_are_refused_before_they_are_cut() {
        let long: Vec<u32> = (0..200_000).collect();
        assert_eq!(held(std::slice::from_ref(&long), Order::Subtext), None);
        let begun = held(&[(0..300).collect()], Order::Prefix);
        assert_eq!(begun.map(|b| b.len()), Some(300));
    }

    #[test]
    fn what_texts_hold_comes_once_and_shorter_first() {
        let texts = [vec![1, 2, 1], vec![2, 1, 2]];
        let within = held(&texts, Order::Subtext).unwrap();
        let wanted: [&[u32]; 6] = [&[1], &[2], &[1, 2], &[2, 1], &[1, 2, 1], &[2, 1, 2]];
        assert_eq!(within, wanted);
        let begun = held(&texts, Order::Prefix).unwrap();
        let wanted: [&[u32]; 6] = [&[1], &[2], &[1, 2], &[2, 1], &[1, 2, 1], &[2, 1, 2]];
        assert_eq!(begun, wanted);
        assert_eq!(
            held(&[vec![1, 2, 3]], Order::Prefix).unwrap(),
            [vec![1], vec![1, 2], vec![1, 2, 3]]
        );
    }
}
