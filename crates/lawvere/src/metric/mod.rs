//! The metric lens on spaces from files, corpora and models.

mod ask;
mod between;
mod hyponyms;
mod page;
mod sources;
mod space_file;
mod vector;

use std::collections::HashSet;
use std::hash::Hash;

pub use self::ask::*;
pub use self::between::*;
pub use self::hyponyms::*;
pub(crate) use self::page::spaces_page;
pub use self::sources::{CountSource, TextChoice, space_of_corpus, space_of_model};
pub use self::space_file::{Order, read_space};
pub use self::vector::read_extended;
pub use lawvere_metric::*;

use crate::RunError;
pub use crate::origin::Origin;

/// Texts with their distances: as a matrix where there are few, as a forest of prefixes where they are one.
#[derive(Debug, Clone)]
pub struct TextSet {
    /// What the texts are called, in the order in which they were given.
    pub names: Vec<String>,
    /// How they are ordered.
    pub order: Order,
    /// All distances; none beyond [`Space::LIMIT`] texts.
    pub space: Option<Space>,
    /// In the order of prefixes, the forest, and for each of its texts which one it is of those given.
    pub forest: Option<(PrefixForest, Vec<usize>)>,
    /// What it rests on.
    pub source: Origin,
    /// Tokens that were taken through a model for it.
    pub forwarded: Option<usize>,
}

impl TextSet {
    /// Texts as sequences of tokens, and the distances of covering pairs, `(from, to, nats)`.
    pub(crate) fn new<T: Eq + Hash>(
        names: Vec<String>,
        texts: &[Vec<T>],
        order: Order,
        steps: &[(usize, usize, f64)],
        source: Origin,
    ) -> Result<Self, MetricError> {
        let mut seen = HashSet::with_capacity(texts.len());
        if let Some(again) = texts.iter().position(|text| !seen.insert(text)) {
            return Err(MetricError::Twice(quoted(&names[again])));
        }
        let forest = match order {
            Order::Prefix => Some(forest_of(texts, steps)?),
            _ => None,
        };
        let space = match forest.is_some() && texts.len() > Space::LIMIT {
            true => None,
            false => Some(Space::from_steps(
                names.iter().map(|n| quoted(n)).collect(),
                steps,
            )?),
        };
        Ok(Self {
            names,
            order,
            space,
            forest,
            source,
            forwarded: None,
        })
    }

    /// The space of all distances.
    ///
    /// # Errors
    /// Too many texts for it.
    pub fn explicit(&self) -> Result<&Space, RunError> {
        self.space.as_ref().ok_or_else(|| RunError::Input {
            path: self.source.paths.first().cloned().unwrap_or_default(),
            what: format!(
                "{} texts are too many for a matrix of all distances (at most {}), which this question needs; of larger forests `check`, `project`, `decompose`, `rays --count` and `magnitude` can be asked",
                self.names.len(),
                Space::LIMIT
            ),
        })
    }

    /// The number of a text by its name, or by `#` and its number.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, text: &str) -> Result<usize, RunError> {
        let spaced = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let named = |wanted: &str| self.names.iter().position(|n| n == wanted);
        // The texts of a corpus may have blanks around them; one that is meant without is found if there is no other.
        let loose = || {
            let mut near = (0..self.names.len()).filter(|&i| self.names[i].trim() == text.trim());
            near.next().filter(|_| near.next().is_none())
        };
        // A text may differ from another by its blanks alone: as it is written goes first.
        let named = named(text).or_else(|| named(&spaced)).or_else(loose);
        let name = quoted(text);
        let numbered = text.strip_prefix('#').and_then(|n| n.parse().ok());
        named
            .or(numbered.filter(|&n: &usize| n < self.names.len()))
            .ok_or_else(|| {
                let n = self.names.len();
                RunError::Usage(format!(
                    "there is no text {name}; a text is named by its tokens, or as #0 to #{} of the {n}",
                    n.saturating_sub(1)
                ))
            })
    }

    /// A vector of the texts given as one of the forest's, and back.
    fn to_forest(order: &[usize], x: &[f64]) -> Vec<f64> {
        order.iter().filter_map(|&i| x.get(i).copied()).collect()
    }

    fn of_forest(order: &[usize], x: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; x.len()];
        for (&i, &x) in order.iter().zip(x) {
            if let Some(slot) = out.get_mut(i) {
                *slot = x;
            }
        }
        out
    }
}

/// A text between quotation marks, as messages name it; what a terminal would obey is escaped.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// The forest of prefixes, its texts in the order of their lengths: with each text its number among those given.
fn forest_of<T>(
    texts: &[Vec<T>],
    steps: &[(usize, usize, f64)],
) -> Result<(PrefixForest, Vec<usize>), MetricError> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&i| (texts[i].len(), i));
    let mut place = vec![0; texts.len()];
    order.iter().enumerate().for_each(|(k, &i)| place[i] = k);
    let (mut parents, mut logs) = (vec![None; texts.len()], vec![0.0; texts.len()]);
    for &(from, to, distance) in steps {
        parents[place[to]] = Some(place[from]);
        logs[place[to]] = -distance;
    }
    Ok((PrefixForest::new(parents, logs)?, order))
}
