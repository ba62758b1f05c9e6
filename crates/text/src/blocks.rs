use std::ops::Range;

use serde::Serialize;

use crate::TextSpace;

/// How the counts of a [`ContextTable`](crate::ContextTable) are spread over blocks of documents:
/// what a bootstrap over documents needs to reweigh them without the corpus.
///
/// Entry k of the table's counts is the sum of `counts[indptr[k]..indptr[k + 1]]`, block by block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockCounts {
    /// Block b holds the documents `document_bounds[b]..document_bounds[b + 1]`.
    pub document_bounds: Vec<usize>,
    /// The number of tokens in each block.
    pub tokens: Vec<u64>,
    /// Where each entry's blocks stand in the two arrays below, entries + 1 of them.
    pub indptr: Vec<u64>,
    /// Blocks, increasing within an entry.
    pub blocks: Vec<u16>,
    /// How many of the entry's occurrences are in the block; positive.
    pub counts: Vec<u32>,
}

impl BlockCounts {
    /// The number of blocks.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The blocks and counts of entry `k`.
    pub fn entry(&self, k: usize) -> (&[u16], &[u32]) {
        let range = self.indptr[k] as usize..self.indptr[k + 1] as usize;
        (&self.blocks[range.clone()], &self.counts[range])
    }
}

/// Documents dealt to blocks, in order.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// Shard by shard, the first symbol of each block in it; the first is 0.
    starts: Vec<Vec<(u32, u16)>>,
    pub document_bounds: Vec<usize>,
    pub tokens: Vec<u64>,
}

impl Blocks {
    /// At most `wanted` runs of documents with about as many tokens each: a document goes where
    /// its middle falls, and a block that gets none does not exist.
    pub fn deal(space: &TextSpace, wanted: u16) -> Self {
        let n = space.tokens() + space.documents() as u64;
        let mut out = Self {
            starts: Vec::new(),
            document_bounds: Vec::new(),
            tokens: Vec::new(),
        };
        let (mut current, mut document, mut before) = (None, 0, 0);
        for shard in &space.shards {
            let view = shard.view();
            let mut starts: Vec<(u32, u16)> = Vec::new();
            for Range { start, end } in (0..shard.documents()).filter_map(|i| view.document(i)) {
                let middle = 2 * before + (start + end) as u64;
                let block = middle * u64::from(wanted) / (2 * n.max(1));
                if current != Some(block) {
                    current = Some(block);
                    out.document_bounds.push(document);
                    out.tokens.push(0);
                }
                let number = (out.tokens.len() - 1) as u16;
                if starts.last().is_none_or(|last| last.1 != number) {
                    starts.push((start as u32, number));
                }
                if let Some(tokens) = out.tokens.last_mut() {
                    *tokens += (end - start) as u64;
                }
                document += 1;
            }
            before += view.len() as u64;
            out.starts.push(starts);
        }
        out.document_bounds.push(document);
        out
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The block of a symbol's position in a shard.
    pub fn of(&self, shard: usize, position: u32) -> usize {
        let starts = &self.starts[shard];
        let after = starts.partition_point(|start| start.0 <= position);
        usize::from(starts[after.saturating_sub(1)].1)
    }
}
