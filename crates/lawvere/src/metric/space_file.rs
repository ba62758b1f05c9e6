//! Spaces in files: SPACE.json.

use std::collections::HashSet;
use std::path::Path;

use lawvere_metric::{Space, prefix_covers, subtext_covers};
use serde::Deserialize;

use super::{TextSet, quoted};
use crate::RunError;
use crate::model::read_text;
use crate::origin::Origin;

/// What a file of a space holds: texts, their order, and the probabilities of covering pairs.
#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with texts, order and edges"
)]
struct SpaceFile {
    texts: Vec<Text>,
    order: Order,
    edges: Vec<Edge>,
}

/// A covering pair, and the probability of the second after the first.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an edge [i, j, p]: two numbers of texts and a probability")]
struct Edge(usize, usize, f64);

/// A text as it is written: split at white space, or token by token.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a text is a string, or a list of tokens (strings or ids)"
)]
enum Text {
    Whole(String),
    Tokens(Vec<Token>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Token {
    Word(String),
    Id(u32),
}

/// How texts are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// A text extends its prefixes.
    Prefix,
    /// A text extends what stands within it, uninterrupted.
    Subtext,
    /// As the edges say.
    Given,
}

impl Text {
    fn tokens(&self) -> Vec<String> {
        match self {
            Self::Whole(text) => text.split_whitespace().map(ToOwned::to_owned).collect(),
            Self::Tokens(tokens) => {
                let token = |token: &Token| match token {
                    Token::Word(word) => word.clone(),
                    Token::Id(id) => id.to_string(),
                };
                tokens.iter().map(token).collect()
            }
        }
    }
}

/// The texts of a space and what is known of their distances.
///
/// # Errors
/// A file that cannot be read or is of another form; edges of pairs that the order does not cover, or none for one
/// that it does; what keeps texts from being a space.
pub fn read_space(path: &Path) -> Result<TextSet, RunError> {
    let wrong = |what: String| RunError::Input {
        path: path.to_owned(),
        what,
    };
    let text = read_text(path)?;
    let file: SpaceFile = serde_json::from_str(&text).map_err(|e| {
        wrong(format!(
            "{e}; a space is {{\"texts\": [...], \"order\": \"prefix\"|\"subtext\"|\"given\", \"edges\": [[i, j, p], ...]}}"
        ))
    })?;
    let texts: Vec<Vec<String>> = file.texts.iter().map(Text::tokens).collect();
    let plain: Vec<String> = texts.iter().map(|t| t.join(" ")).collect();
    let names: Vec<String> = plain.iter().map(|t| quoted(t)).collect();
    let mut seen: HashSet<(usize, usize)> = HashSet::with_capacity(file.edges.len());
    for (place, &Edge(from, to, p)) in file.edges.iter().enumerate() {
        if let Some(i) = [from, to].into_iter().find(|&i| i >= texts.len()) {
            let n = texts.len();
            return Err(wrong(format!(
                "edge {place} names text {i}, but there are {n} (from 0 on)"
            )));
        }
        let (a, b) = (&names[from], &names[to]);
        if !(0.0..=1.0).contains(&p) {
            return Err(wrong(format!(
                "edge {place}: Pr({b} | {a}) is {p}; a probability is from 0 to 1"
            )));
        }
        if !seen.insert((from, to)) {
            return Err(wrong(format!(
                "edge {place}: the pair {a}, {b} is given twice"
            )));
        }
    }
    let covers = file.order.covers(&texts);
    if let Some(covers) = &covers {
        let pairs = covers.iter().enumerate();
        let mut wanted = pairs.flat_map(|(j, below)| below.iter().map(move |&i| (i, j)));
        if let Some((i, j)) = wanted.find(|pair| !seen.contains(pair)) {
            let (a, b) = (&names[i], &names[j]);
            return Err(wrong(format!(
                "no edge [{i}, {j}, p] says Pr({b} | {a}), though {b} covers {a} in the order of the texts"
            )));
        }
        let covered = |&&Edge(i, j, _): &&Edge| covers[j].contains(&i);
        if let Some(Edge(i, j, _)) = file.edges.iter().find(|edge| !covered(edge)) {
            let (a, b) = (&names[*i], &names[*j]);
            return Err(wrong(format!(
                "edge [{i}, {j}, ...] is of no covering pair: in this order {b} does not cover {a}"
            )));
        }
    }
    let step = |&Edge(i, j, p): &Edge| (i, j, -p.ln() + 0.0);
    let steps: Vec<(usize, usize, f64)> = file.edges.iter().map(step).collect();
    let source = Origin::files("space", &[path])?;
    TextSet::new(plain, &texts, file.order, &steps, source).map_err(|e| wrong(e.to_string()))
}

impl Order {
    /// The texts that each covers; none where only the edges say, or where texts are too many to be held against one
    /// another.
    pub(super) fn covers<T: Eq + std::hash::Hash>(
        self,
        texts: &[Vec<T>],
    ) -> Option<Vec<Vec<usize>>> {
        match self {
            Self::Prefix => {
                let parents = prefix_covers(texts).into_iter();
                Some(parents.map(|p| p.into_iter().collect()).collect())
            }
            Self::Subtext if texts.len() <= Space::LIMIT => Some(subtext_covers(texts)),
            _ => None,
        }
    }
}
