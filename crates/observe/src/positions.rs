//! Positions in running text.

use lawvere_core::{ContextBatch, KernelError};

/// Windows of running text, and positions in them whose next token is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Positions {
    /// The windows' tokens, one after the other.
    pub tokens: Vec<u32>,
    /// Where the windows begin, and where the last one ends.
    pub window_offsets: Vec<u64>,
    /// The window of each position.
    pub window: Vec<u32>,
    /// How many of the window's tokens come before what is predicted.
    pub prefix_length: Vec<u32>,
    /// The document of each position.
    pub document: Vec<u32>,
    /// The token that followed each position.
    pub next: Vec<u32>,
}

impl Positions {
    /// What the model read at position `row`.
    pub fn prefix(&self, row: usize) -> &[u32] {
        let start = self.window_offsets[self.window[row] as usize] as usize;
        &self.tokens[start..start + self.prefix_length[row] as usize]
    }

    /// The last token read at each position.
    pub(crate) fn last_tokens(&self) -> Vec<Option<u32>> {
        (0..self.next.len())
            .map(|row| self.prefix(row).last().copied())
            .collect()
    }

    /// Rows `range` as contexts, each window once.
    pub(crate) fn batch(&self, range: std::ops::Range<usize>) -> Result<ContextBatch, KernelError> {
        let mut batch = ContextBatch::new();
        let mut row = range.start;
        while row < range.end {
            let window = self.window[row];
            let same = self.window[row..range.end]
                .iter()
                .take_while(|&&w| w == window)
                .count();
            let offsets = &self.window_offsets[window as usize..];
            let tokens = &self.tokens[offsets[0] as usize..offsets[1] as usize];
            batch.push(tokens, &self.prefix_length[row..row + same])?;
            row += same;
        }
        Ok(batch)
    }

    /// What is inconsistent, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let rows = self.next.len();
        if [
            self.window.len(),
            self.prefix_length.len(),
            self.document.len(),
        ] != [rows; 3]
        {
            return Some("position arrays have different lengths".into());
        }
        let (first, last) = (self.window_offsets.first(), self.window_offsets.last());
        let increasing = self.window_offsets.windows(2).all(|w| w[0] <= w[1]);
        if first != Some(&0) || last != Some(&(self.tokens.len() as u64)) || !increasing {
            return Some("window_offsets do not cut `tokens` into windows".into());
        }
        for row in 0..rows {
            let window = self.window[row] as usize;
            let Some(bounds) = self.window_offsets.get(window..window + 2) else {
                return Some(format!(
                    "position {row} is in window {window}, which does not exist"
                ));
            };
            if u64::from(self.prefix_length[row]) > bounds[1] - bounds[0] {
                return Some(format!("position {row} is beyond the end of its window"));
            }
            let after = row > 0 && self.window[row] == self.window[row - 1];
            if after && self.prefix_length[row] <= self.prefix_length[row - 1] {
                return Some(format!(
                    "position {row} is not after the one before it in its window"
                ));
            }
        }
        None
    }
}
