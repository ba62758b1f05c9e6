//! What an index is asked, as results that can be printed or written.

use std::path::Path;
use std::time::Instant;

use lawvere_core::EReal;
use lawvere_text::{
    ContextOptions, DataKernel, DocumentEnd, Position, SampleOptions, Side, TextSpace, Unseen,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rayon::prelude::*;
use serde::Serialize;

use crate::RunError;

/// A text that an index is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Query {
    /// As it was given, or as its tokens read.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
}

/// Texts, or token ids separated by white space or commas with `ids`, as an index's tokenizer reads them.
///
/// # Errors
/// A text that the tokenizer refuses, ids that are no numbers, or outside the vocabulary.
pub fn queries(space: &TextSpace, texts: &[String], ids: bool) -> Result<Vec<Query>, RunError> {
    let tokenizer = space.tokenizer();
    let vocab_size = space.vocab_size();
    let number = |part: &str| match part.parse::<u32>() {
        Ok(id) if (id as usize) < vocab_size => Ok(id),
        Ok(id) => Err(RunError::Usage(format!(
            "token {id} is outside the index's vocabulary of {vocab_size}"
        ))),
        Err(_) => Err(RunError::Usage(format!(
            "`{part}` is no token id; give whole numbers, or leave --ids out to ask about text"
        ))),
    };
    texts
        .par_iter()
        .map(|text| {
            let tokens = if ids {
                let parts = text.split(|c: char| c.is_whitespace() || c == ',');
                let parts = parts.filter(|part| !part.is_empty());
                parts.map(number).collect::<Result<_, _>>()?
            } else {
                tokenizer.encode(text)?
            };
            let text = match ids {
                true => tokenizer.decode(&tokens)?,
                false => text.clone(),
            };
            Ok(Query { text, tokens })
        })
        .collect()
}

/// The queries of a file, a line each.
///
/// # Errors
/// As [`lines_of`]; as [`queries`], with the line.
pub fn queries_of(space: &TextSpace, path: &Path, ids: bool) -> Result<Vec<Query>, RunError> {
    let lines = lines_of(path)?;
    queries(space, &lines, ids).map_err(|error| {
        // One by one, to name the first that is wrong.
        let single = |line: &String| queries(space, std::slice::from_ref(line), ids).err();
        let found = lines
            .iter()
            .zip(1..)
            .find_map(|(line, number)| Some((number, line, single(line)?)));
        match found {
            Some((number, line, error)) => RunError::Input {
                path: path.to_owned(),
                what: format!("line {number}: {line:?}: {error}"),
            },
            None => error,
        }
    })
}

fn read(space: &TextSpace, tokens: &[u32]) -> String {
    space.tokenizer().decode(tokens).unwrap_or_default()
}

/// How often texts occur.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Counts {
    /// In the order asked.
    pub counts: Vec<Count>,
    /// Wall time of the answers alone.
    pub seconds: f64,
}

/// How often a text occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// The text.
    #[serde(flatten)]
    pub query: Query,
    /// Occurrences.
    pub count: u64,
}

/// How often each text occurs.
pub fn counts(space: &TextSpace, queries: Vec<Query>) -> Counts {
    let texts: Vec<&[u32]> = queries.iter().map(|q| &q.tokens[..]).collect();
    space.prepare();
    let start = Instant::now();
    let counts = space.count_batch(&texts);
    let seconds = start.elapsed().as_secs_f64();
    let pairs = queries.into_iter().zip(counts);
    Counts {
        counts: pairs.map(|(query, count)| Count { query, count }).collect(),
        seconds,
    }
}

/// What follows contexts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Laws {
    /// In the order asked.
    pub laws: Vec<Law>,
    /// Wall time of the answers alone.
    pub seconds: f64,
}

/// What follows a context.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Law {
    /// The context.
    #[serde(flatten)]
    pub query: Query,
    /// How many of its last tokens the law rests on: all but with back-off.
    pub used_length: usize,
    /// Occurrences of those.
    pub total: u64,
    /// Different tokens that follow.
    pub distinct: usize,
    /// Occurrences that end a document.
    pub ended: u64,
    /// The most frequent tokens, the most frequent first, and equally frequent ones by their ids.
    pub outcomes: Vec<Outcome>,
}

/// A token that follows, or comes before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Its id.
    pub token: u32,
    /// Its text.
    pub text: String,
    /// How often.
    pub count: u64,
    /// The share of all occurrences.
    pub probability: f64,
}

/// What follows each context, and of that the `most` most frequent tokens. Without a word about unseen contexts,
/// nothing follows those.
///
/// # Errors
/// With [`Unseen::Strict`], a context that does not occur.
pub fn laws(
    space: &TextSpace,
    queries: Vec<Query>,
    unseen: Option<Unseen>,
    most: usize,
) -> Result<Laws, RunError> {
    let contexts: Vec<&[u32]> = queries.iter().map(|q| &q.tokens[..]).collect();
    space.prepare();
    let start = Instant::now();
    let found = match unseen {
        Some(unseen) => DataKernel::new(space, unseen).law_batch(&contexts)?,
        None => {
            let laws = space
                .next_tokens_batch(&contexts)
                .into_iter()
                .zip(&contexts);
            let law = |(next, context): (_, &&[u32])| lawvere_text::Law {
                next,
                used_length: context.len(),
            };
            laws.map(law).collect()
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let laws = queries.into_iter().zip(found).map(|(query, law)| {
        let total = law.next.total();
        let mut counts = law.next.counts;
        let distinct = counts.len();
        counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let outcome = |&(token, count): &(u32, u64)| Outcome {
            token,
            text: read(space, &[token]),
            count,
            probability: count as f64 / total as f64,
        };
        Law {
            query,
            used_length: law.used_length,
            total,
            distinct,
            ended: law.next.ended,
            outcomes: counts.iter().take(most).map(outcome).collect(),
        }
    });
    Ok(Laws {
        laws: laws.collect(),
        seconds,
    })
}

/// Where texts occur.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Occurrences {
    /// In the order asked.
    pub texts: Vec<Found>,
}

/// Where a text occurs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// The text.
    #[serde(flatten)]
    pub query: Query,
    /// Occurrences in all.
    pub count: u64,
    /// The first of them.
    pub positions: Vec<Occurrence>,
}

/// A place where a text occurs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Occurrence {
    /// The document, and the token of it.
    #[serde(flatten)]
    pub position: Position,
    /// Text around it.
    pub around: String,
}

/// The first `most` places where each text occurs, with `around` tokens on either side.
pub fn positions(
    space: &TextSpace,
    queries: Vec<Query>,
    most: usize,
    around: usize,
) -> Occurrences {
    let found = queries.into_iter().map(|query| {
        let places = space.positions(&query.tokens, most).into_iter();
        let positions = places.map(|position| {
            let document = space.document_tokens(position.document as usize);
            let document = document.unwrap_or_default();
            let at = position.token as usize;
            let from = at.saturating_sub(around);
            let to = (at + query.tokens.len() + around).min(document.len());
            Occurrence {
                position,
                around: read(space, document.get(from..to).unwrap_or_default()),
            }
        });
        Found {
            positions: positions.collect(),
            count: space.count(&query.tokens),
            query,
        }
    });
    Occurrences {
        texts: found.collect(),
    }
}

/// Directed distances of pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Distances {
    /// In the order asked.
    pub pairs: Vec<Pair>,
    /// Wall time of the answers alone.
    pub seconds: f64,
}

/// Two texts and the distance from one to the other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// From this one.
    pub a: Query,
    /// To this one.
    pub b: Query,
    /// `-ln Pr(b|a)`, nats; none if a does not occur.
    #[serde(flatten)]
    pub distance: Distance,
}

/// A distance and the counts it is made of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Distance {
    /// Nats; `inf` where a is no part of b.
    pub distance: Option<EReal>,
    /// How often a occurs.
    pub count_a: u64,
    /// How often b occurs.
    pub count_b: u64,
}

/// The distance of every first text to its second one.
pub fn distances(space: &TextSpace, pairs: Vec<(Query, Query)>) -> Distances {
    let texts: Vec<(&[u32], &[u32])> = pairs
        .iter()
        .map(|(a, b)| (&a.tokens[..], &b.tokens[..]))
        .collect();
    space.prepare();
    let start = Instant::now();
    let found = space.distance_batch(&texts);
    let seconds = start.elapsed().as_secs_f64();
    let (first, second): (Vec<&[u32]>, Vec<&[u32]>) = texts.into_iter().unzip();
    let (count_a, count_b) = (space.count_batch(&first), space.count_batch(&second));
    let counts = count_a.into_iter().zip(count_b);
    let pairs = pairs.into_iter().zip(found).zip(counts);
    let pair = |(((a, b), distance), (count_a, count_b))| Pair {
        distance: Distance {
            distance: Option::and_then(distance, EReal::new),
            count_a,
            count_b,
        },
        a,
        b,
    };
    Distances {
        pairs: pairs.map(pair).collect(),
        seconds,
    }
}

/// The texts next to a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Neighbours {
    /// The text.
    #[serde(flatten)]
    pub query: Query,
    /// How often it occurs.
    pub count: u64,
    /// How often it begins a document.
    pub began: u64,
    /// How often it ends one.
    pub ended: u64,
    /// The nearest first.
    pub neighbours: Vec<Neighbour>,
}

/// A text next to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Neighbour {
    /// As it reads.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Where it is longer or shorter.
    pub side: Side,
    /// How often it occurs.
    pub count: u64,
    /// From the shorter of the two to the longer, nats.
    pub distance: f64,
}

/// The texts with one token more or less than each, of the longer ones the `most` nearest on each side.
pub fn neighbours(space: &TextSpace, queries: Vec<Query>, most: usize) -> Vec<Neighbours> {
    let of = |query: Query| {
        let found = space.neighbours(&query.tokens, most).into_iter();
        let neighbours = found.map(|n| Neighbour {
            text: read(space, &n.tokens),
            tokens: n.tokens,
            side: n.side,
            count: n.count,
            distance: n.distance,
        });
        Neighbours {
            neighbours: neighbours.collect(),
            count: space.count(&query.tokens),
            began: space.previous_tokens(&query.tokens).began,
            ended: space.next_tokens(&query.tokens).ended,
            query,
        }
    };
    queries.into_iter().map(of).collect()
}

/// The contexts of one order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contexts {
    /// Tokens of a context.
    pub order: usize,
    /// Contexts that occur often enough.
    pub contexts: usize,
    /// The most frequent of them.
    pub shown: Vec<FoundContext>,
}

/// A context and what follows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FoundContext {
    /// The context.
    #[serde(flatten)]
    pub query: Query,
    /// Occurrences.
    pub count: u64,
    /// Occurrences that end a document.
    pub ended: u64,
    /// Different outcomes, the end of a document one of them.
    pub support: usize,
    /// The entropy of what follows, nats; of frequencies, and so as a rule too low.
    pub entropy: f64,
}

/// The contexts of every order from 1 to `order` that occur at least `min_count` times, the `most` most frequent of each.
///
/// # Errors
/// No context of the first order.
pub fn contexts(
    space: &TextSpace,
    order: usize,
    min_count: u64,
    most: usize,
) -> Result<Vec<Contexts>, RunError> {
    let options = ContextOptions {
        document_end: DocumentEnd::Outcome,
        top: Some(most),
        blocks: None,
    };
    let mut all = Vec::new();
    for order in 1..=order {
        let table = match space.contexts(order, min_count, &options) {
            Ok(table) => table,
            // Longer ones occur no more often.
            Err(lawvere_text::TextError::NoContexts { .. }) if !all.is_empty() => break,
            Err(error) => return Err(error.into()),
        };
        let shown = (0..table.len()).map(|i| {
            let counts = table.counts.row(i).1;
            let total = table.occurrences[i] as f64;
            let shares = counts.iter().map(|&c| c as f64 / total);
            FoundContext {
                query: Query {
                    text: read(space, table.context(i)),
                    tokens: table.context(i).to_vec(),
                },
                count: table.occurrences[i],
                ended: table.ended[i],
                support: counts.len(),
                entropy: lawvere_core::stoch::entropy(shares),
            }
        });
        all.push(Contexts {
            order,
            contexts: table.total_contexts,
            shown: shown.collect(),
        });
    }
    Ok(all)
}

/// Text drawn from a corpus's laws.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Samples {
    /// What was gone on with.
    #[serde(flatten)]
    pub query: Query,
    /// The draws.
    pub samples: Vec<Sampled>,
}

/// One draw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sampled {
    /// As it reads, without what it goes on with.
    pub text: String,
    /// Tokens, lengths of context, whether the document ended.
    #[serde(flatten)]
    pub sample: lawvere_text::Sample,
}

/// `count` texts that go on with a context.
///
/// # Errors
/// As [`TextSpace::sample`].
pub fn samples(
    space: &TextSpace,
    query: Query,
    options: &SampleOptions,
    count: usize,
    seed: u64,
) -> Result<Samples, RunError> {
    let mut rng = StdRng::seed_from_u64(seed);
    let samples = (0..count).map(|_| {
        let sample = space.sample(&query.tokens, options, &mut rng)?;
        Ok(Sampled {
            text: read(space, &sample.tokens),
            sample,
        })
    });
    Ok(Samples {
        samples: samples.collect::<Result<_, RunError>>()?,
        query,
    })
}

/// The lines of a file of queries; blank ones too, which are the empty text.
///
/// # Errors
/// A file that cannot be read, is not UTF-8, or holds NUL.
pub fn lines_of(path: &Path) -> Result<Vec<String>, RunError> {
    let text = crate::model::read_text(path)?;
    Ok(text.lines().map(ToOwned::to_owned).collect())
}
