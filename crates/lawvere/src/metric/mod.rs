//! The metric lens on spaces from files, corpora and models.

mod ask;
mod space_file;
mod vector;

pub use self::ask::*;
pub use self::space_file::{Order, read_space};
pub use self::vector::read_extended;
pub use lawvere_metric::*;

use crate::RunError;

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
}

impl TextSet {
    /// The space of all distances.
    ///
    /// # Errors
    /// Too many texts for it.
    pub fn explicit(&self) -> Result<&Space, RunError> {
        let large = MetricError::TooLarge {
            texts: self.names.len(),
            limit: Space::LIMIT,
        };
        self.space.as_ref().ok_or_else(|| large.into())
    }

    /// The number of a text by its name, or by `#` and its number.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, text: &str) -> Result<usize, RunError> {
        let spaced = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let name = space_file::quoted(&spaced);
        let named = self.names.iter().position(|n| *n == name);
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
