use std::path::{Path, PathBuf};

use lawvere_text::{CorpusOptions, TextSpace};

use super::{Order, TextSet};
use crate::RunError;
use crate::index::{Query, TokenizerChoice};
use crate::model::{Passage, open_model, tokens};
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

/// The space of some texts of a corpus, `Pr(b|a) = count(b) / count(a)`: a line of the file `texts` each, as text or, with
/// `ids`, as token ids.
///
/// # Errors
/// What opening the index, reading the corpus or the file meets; a text that does not occur, or comes twice.
pub fn space_of_corpus(
    from: &CountSource,
    texts: &Path,
    ids: bool,
    order: Order,
    on_event: &mut dyn FnMut(Event),
) -> Result<TextSet, RunError> {
    let (space, kind, paths, files) = match from {
        CountSource::Index(folder) => {
            let files = vec![folder.join("space.json"), texts.to_owned()];
            (
                TextSpace::open(folder)?,
                "index",
                vec![folder.clone()],
                files,
            )
        }
        CountSource::Corpus(options, tokenizer) => {
            let space = index::space(options, tokenizer, on_event)?;
            (
                space,
                "corpus",
                options.paths.clone(),
                vec![texts.to_owned()],
            )
        }
    };
    let asked = index::queries_of(&space, texts, ids)?;
    let wrong = |what: String| RunError::Input {
        path: texts.to_owned(),
        what,
    };
    let tokens: Vec<Vec<u32>> = asked.iter().map(|q| q.tokens.clone()).collect();
    let counts = space.count_batch(&tokens);
    if let Some(line) = counts.iter().position(|&c| c == 0) {
        let name = asked.get(line).map_or("", |q: &Query| &q.text);
        return Err(wrong(format!(
            "line {}: {name:?} does not occur in the corpus; a space of a corpus holds texts that do",
            line + 1
        )));
    }
    let names = asked.iter().map(|q| q.text.clone()).collect();
    let covers = order.covers(&tokens).ok_or_else(|| {
        wrong("its texts are too many to be held against one another; take --order prefix".into())
    })?;
    let step = |i: usize, j: usize| (i, j, (counts[i] as f64 / counts[j] as f64).ln());
    let steps: Vec<_> = pairs(&covers).map(|(i, j)| step(i, j)).collect();
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let mut source = Origin::files(kind, &files)?;
    source.paths = paths;
    source.paths.push(texts.to_owned());
    source.corpus_sha256 = Some(space.info().corpus_identity.clone());
    source.tokenizer_sha256 = Some(space.info().tokenizer_identity.clone());
    TextSet::new(names, &tokens, order, &steps, source).map_err(|e| wrong(e.to_string()))
}

/// The space of texts, a line of the file `texts` each, in the order of prefixes with a model's probabilities of going
/// on. Each distinct prefix is read once.
///
/// # Errors
/// What opening the model or reading the file meets; texts that come twice, or are longer than the model reads.
pub fn space_of_model(
    model: &Path,
    texts: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<TextSet, RunError> {
    let passages = Passage::lines(texts)?;
    let model = open_model(model, on_event)?;
    let found = tokens(&model, &passages.iter().collect::<Vec<_>>())?;
    for (text, passage) in found.iter().zip(&passages) {
        crate::model::check_length(&model, text.len().saturating_sub(1), &passage.place)?;
    }
    let names = passages
        .iter()
        .map(|p| p.text().unwrap_or_default().to_owned());
    let covers = Order::Prefix.covers(&found).unwrap_or_default();
    let edges: Vec<(usize, usize)> = pairs(&covers).collect();
    let questions: Vec<(&[u32], &[u32])> = edges
        .iter()
        .map(|&(i, j)| (&found[i][..], &found[j][found[i].len()..]))
        .collect();
    on_event(Event::Part(format!("scoring: {} steps", questions.len())));
    let scores = model.score(&questions)?.scores;
    let steps: Vec<(usize, usize, f64)> = edges
        .iter()
        .zip(scores)
        .map(|(&(i, j), score)| (i, j, (-score.total).max(0.0)))
        .collect();
    let mut source = Origin::files("model", &[texts])?;
    source.paths.insert(0, model.path().to_owned());
    source.model_sha256 = Some(model.identity().to_owned());
    TextSet::new(names.collect(), &found, Order::Prefix, &steps, source).map_err(|e| {
        RunError::Input {
            path: texts.to_owned(),
            what: e.to_string(),
        }
    })
}

fn pairs(covers: &[Vec<usize>]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let all = covers.iter().enumerate();
    all.flat_map(|(j, below)| below.iter().map(move |&i| (i, j)))
}
