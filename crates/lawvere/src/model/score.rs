use std::time::Instant;

use lawvere_lm::{LanguageModel, Reading, Windows};
use serde::Serialize;

use super::given::{check_beginning, check_length, tokens};
use super::{Passage, Question, tell_cost, tell_scoring};
use crate::{Event, RunError};

/// What a model says of a question, in nats.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The prefix's tokens.
    pub prefix: Vec<u32>,
    /// The continuation's tokens.
    pub continuation: Vec<u32>,
    /// `log k(continuation | prefix)`.
    pub total: f64,
    /// The log-probability of each token of the continuation given all before it.
    pub log_probs: Vec<f32>,
}

/// Answers in the order of the questions, and what they cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answers {
    /// One a question.
    pub answers: Vec<Answer>,
    /// Tokens taken through the network.
    pub forwarded: usize,
    /// Tokens that reading each question on its own takes.
    pub separately: usize,
    /// Their ratio: what sharing prefixes saves.
    pub sharing_factor: f64,
    /// Seconds, loading and tokenizing left out.
    pub seconds: f64,
    /// Forwarded tokens a second.
    pub tokens_per_second: f64,
}

/// Scores continuations of prefixes, each side tokenized on its own. With `apart` every question is
/// read for itself; without it each distinct prefix once.
///
/// # Errors
/// A text for a model without tokenizer, a token outside the vocabulary, an empty continuation, an
/// empty prefix where the model has no beginning-of-text token, more than the model reads at once.
pub fn score(
    model: &LanguageModel,
    questions: &[Question],
    apart: bool,
    on_event: &mut dyn FnMut(Event),
) -> Result<Answers, RunError> {
    let sides: Vec<&Passage> = questions
        .iter()
        .flat_map(|q| [&q.prefix, &q.continuation])
        .collect();
    let mut sides = tokens(model, &sides)?.into_iter();
    let mut asked = Vec::with_capacity(questions.len());
    for question in questions {
        let (Some(prefix), Some(continuation)) = (sides.next(), sides.next()) else {
            break;
        };
        let place = &question.continuation.place;
        if continuation.is_empty() {
            return Err(place.error("the continuation is empty; give at least one token"));
        }
        check_beginning(model, &prefix, &question.prefix.place, "prefix")?;
        // The last token is only predicted.
        check_length(model, prefix.len() + continuation.len() - 1, place)?;
        asked.push((prefix, continuation));
    }
    let pairs: Vec<(&[u32], &[u32])> = asked
        .iter()
        .map(|(p, c)| (p.as_slice(), c.as_slice()))
        .collect();
    tell_scoring(model, &pairs, on_event);
    on_event(Event::Part(format!("scoring: {} questions", pairs.len())));
    let start = Instant::now();
    let (mut scores, mut forwarded, mut separately) = (Vec::new(), 0, 0);
    let at_once = if apart { 1 } else { pairs.len().max(1) };
    for (done, pairs) in pairs.chunks(at_once).enumerate() {
        let found = model.score(pairs)?;
        scores.extend(found.scores);
        forwarded += found.forwarded;
        separately += found.separately;
        if apart {
            on_event(Event::Progress {
                done: done + 1,
                total: asked.len(),
            });
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let answers = asked
        .into_iter()
        .zip(scores)
        .map(|((prefix, continuation), score)| Answer {
            prefix,
            continuation,
            total: score.total,
            log_probs: score.tokens,
        });
    Ok(Answers {
        answers: answers.collect(),
        forwarded,
        separately,
        sharing_factor: separately as f64 / forwarded.max(1) as f64,
        seconds,
        tokens_per_second: forwarded as f64 / seconds,
    })
}

/// A document read in windows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DocumentReading {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// What the model says of them.
    pub reading: Reading,
    /// How it was cut.
    pub windows: Windows,
    /// The number of windows.
    pub count: usize,
    /// Seconds, loading and tokenizing left out.
    pub seconds: f64,
    /// Forwarded tokens a second.
    pub tokens_per_second: f64,
}

/// Tokens of a window, unless something else is asked for or the model reads less.
const WINDOW: usize = 1024;

/// Reads a document of any length in windows of `window` tokens (1024, or as far as the model reads)
/// that overlap by `overlap` (half a window).
///
/// # Errors
/// Windows that do not fit the model or one another, a document too short to be scored,
/// [`score`](fn@score)'s of what was given.
pub fn read_document(
    model: &LanguageModel,
    document: &Passage,
    window: Option<usize>,
    overlap: Option<usize>,
    on_event: &mut dyn FnMut(Event),
) -> Result<DocumentReading, RunError> {
    let bos = usize::from(model.bos().is_some());
    let limit = model.context_length() - bos;
    let length = window.unwrap_or(WINDOW.min(limit));
    let overlap = overlap.unwrap_or(length / 2);
    if length < 2 || length > limit {
        let reads = match limit {
            usize::MAX => "2 tokens or more".to_owned(),
            limit => format!("2 to {limit} tokens"),
        };
        return Err(RunError::Usage(format!(
            "--window {length}: this model reads {reads} at once"
        )));
    }
    if overlap >= length {
        return Err(RunError::Usage(format!(
            "--overlap {overlap}: it must be less than the window of {length} tokens"
        )));
    }
    let document_tokens = tokens(model, &[document])?.remove(0);
    if document_tokens.len() + bos < 2 {
        return Err(document.place.error(match document_tokens.is_empty() {
            true => "no tokens, so nothing can be scored",
            false => "a single token, and nothing stands before it, so nothing can be scored",
        }));
    }
    let windows = Windows { length, overlap };
    let (mut count, mut read) = (0, 0);
    for (window, _) in windows.cut(document_tokens.len()) {
        count += 1;
        read += window.len() - 1 + bos;
    }
    tell_cost(
        model,
        (read, length.min(document_tokens.len())),
        document_tokens.len(),
        0,
        on_event,
    );
    on_event(Event::Part(format!(
        "reading: {} tokens in {count} windows",
        document_tokens.len()
    )));
    let start = Instant::now();
    let reading = model.read(&document_tokens, windows)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(DocumentReading {
        tokens: document_tokens,
        tokens_per_second: reading.forwarded as f64 / seconds,
        reading,
        windows,
        count,
        seconds,
    })
}
