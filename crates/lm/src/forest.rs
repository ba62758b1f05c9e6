//! The distinct prefixes of many windows, each to be computed once.

use std::ops::Range;

use lawvere_core::ContextBatch;

use crate::attention::{HeadLayout, Past, Sight, attend};
use crate::decoder::Memory;

/// The prefixes of a batch's windows as a forest, in depth-first order: a prefix comes before its
/// extensions, and what lies between a prefix and its last extension extends it.
///
/// In this order a stretch of prefixes of any length can be computed together, and all that has to be
/// remembered of what came before is the one way from a root to its first prefix: memory is bounded
/// by the longest window, however many there are.
#[derive(Debug, Default)]
pub(crate) struct PrefixForest {
    /// The last token of each prefix.
    pub tokens: Vec<u32>,
    /// Its place in its window.
    pub positions: Vec<u32>,
    /// Prefix `i` begins the prefixes `i .. ends[i]`.
    pub ends: Vec<u32>,
    /// For each row asked for, its prefix.
    pub rows: Vec<u32>,
}

impl PrefixForest {
    /// The forest of `windows` (indices into `contexts`), each read as far as its last position, with
    /// `bos` in front. Cost: a sort of the windows.
    pub fn new(contexts: &ContextBatch, windows: Range<usize>, bos: Option<u32>) -> Self {
        let read = |i: usize| {
            let window = contexts.window(i);
            let length = window.positions.last().map_or(0, |&p| p as usize);
            &window.tokens[..length]
        };
        let mut first_row = 0;
        let mut order: Vec<(usize, usize)> = Vec::with_capacity(windows.len());
        for i in windows {
            let rows = contexts.window(i).positions.len();
            if rows > 0 {
                order.push((i, first_row));
            }
            first_row += rows;
        }
        order.sort_unstable_by(|a, b| read(a.0).cmp(read(b.0)));
        let mut forest = Self {
            rows: vec![0; first_row],
            ..Self::default()
        };
        if let Some(bos) = bos.filter(|_| !order.is_empty()) {
            forest.tokens.push(bos);
            forest.positions.push(0);
            forest.ends.push(0);
        }
        let offset = forest.tokens.len() as u32;
        let mut path: Vec<u32> = (0..offset).collect();
        let mut last: &[u32] = &[];
        for (window, row) in order {
            let tokens = read(window);
            let shared = last.iter().zip(tokens).take_while(|(a, b)| a == b).count();
            forest.close(&mut path, shared + offset as usize);
            for &token in &tokens[shared..] {
                path.push(forest.tokens.len() as u32);
                forest.positions.push(path.len() as u32 - 1);
                forest.tokens.push(token);
                forest.ends.push(0);
            }
            for (k, &position) in contexts.window(window).positions.iter().enumerate() {
                forest.rows[row + k] = path[(position + offset) as usize - 1];
            }
            last = tokens;
        }
        forest.close(&mut path, 0);
        forest
    }

    fn close(&mut self, path: &mut Vec<u32>, length: usize) {
        let end = self.tokens.len() as u32;
        for node in path.drain(length.min(path.len())..) {
            self.ends[node as usize] = end;
        }
    }

    /// The number of distinct prefixes.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }
}

/// What attention remembers while a forest is gone through, stretch after stretch: the keys and values
/// of the way to the next prefix, layer by layer.
#[derive(Debug)]
pub(crate) struct WayMemory {
    layout: HeadLayout,
    /// Counted from the stretch's first prefix.
    past_ends: Vec<u32>,
    past: Vec<Vec<f32>>,
    ends: Vec<u32>,
}

impl WayMemory {
    pub fn new(layers: usize, layout: HeadLayout) -> Self {
        Self {
            layout,
            past_ends: Vec::new(),
            past: vec![Vec::new(); layers],
            ends: Vec::new(),
        }
    }

    /// Goes on to the stretch `nodes` of the forest.
    pub fn advance(&mut self, forest: &PrefixForest, nodes: &Range<usize>) {
        let done = self.ends.len() as u32;
        let open = |end: &&u32| **end > done;
        let kept = self.past_ends.iter().chain(&self.ends).filter(open);
        self.past_ends = kept.map(|end| end - done).collect();
        let start = nodes.start as u32;
        self.ends.clear();
        self.ends
            .extend(forest.ends[nodes.clone()].iter().map(|end| end - start));
    }
}

impl Memory for WayMemory {
    fn attend(&mut self, layer: usize, sight: Sight<'_>, qkv: &[f32], out: &mut [f32]) {
        let past = Past {
            rows: &self.past[layer],
            ends: &self.past_ends,
        };
        attend(qkv, &self.ends, past, self.layout, sight, out, None);
        // On the way down ends do not increase: what stays open of the past is its beginning.
        let done = self.ends.len() as u32;
        let open = self.past_ends.partition_point(|&end| end > done);
        let past = &mut self.past[layer];
        past.truncate(open * self.layout.past_row());
        for (row, &end) in qkv.chunks_exact(self.layout.row()).zip(&self.ends) {
            if end > done {
                past.extend_from_slice(&row[self.layout.heads * self.layout.head_dim..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn check(windows: &[(&[u32], &[u32])], bos: Option<u32>) {
        let mut contexts = ContextBatch::new();
        for (tokens, positions) in windows {
            contexts.push(tokens, positions).unwrap();
        }
        let forest = PrefixForest::new(&contexts, 0..windows.len(), bos);
        // Every node's text, read off its ancestors.
        let text = |node: usize| -> Vec<u32> {
            let ancestors = (0..=node).filter(|&j| forest.ends[j] as usize > node);
            ancestors.map(|j| forest.tokens[j]).collect()
        };
        let mut expected = BTreeSet::new();
        let mut rows = Vec::new();
        for (tokens, positions) in windows {
            let with_bos: Vec<u32> = bos.into_iter().chain(tokens.iter().copied()).collect();
            let offset = usize::from(bos.is_some());
            let read = positions.last().map_or(0, |&p| p as usize);
            for n in 1..=read + offset {
                expected.insert(with_bos[..n].to_vec());
            }
            for &p in *positions {
                rows.push(with_bos[..p as usize + offset].to_vec());
            }
        }
        let found: Vec<Vec<u32>> = (0..forest.len()).map(text).collect();
        assert_eq!(found.len(), expected.len(), "each prefix once");
        assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), expected);
        for (node, text) in found.iter().enumerate() {
            assert_eq!(forest.positions[node] as usize + 1, text.len());
        }
        let answered: Vec<Vec<u32>> = forest.rows.iter().map(|&n| text(n as usize)).collect();
        assert_eq!(answered, rows);
    }

    #[test]
    fn every_prefix_is_there_once_and_every_row_finds_its_own() {
        let windows: &[(&[u32], &[u32])] = &[
            (&[1, 2, 3, 4], &[1, 4]),
            (&[1, 2, 5], &[2, 3]),
            (&[7], &[1]),
            (&[1, 2, 3, 4], &[3]),
            (&[1, 2, 3], &[3]),
            (&[1, 2, 3, 4, 9, 9], &[5]),
        ];
        check(windows, None);
        check(windows, Some(0));
        check(&[(&[5, 6], &[0, 2]), (&[5], &[0])], Some(1));
        check(&[], Some(1));
    }
}
