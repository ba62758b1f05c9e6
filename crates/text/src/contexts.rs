use std::collections::BinaryHeap;
use std::ops::Range;

use lawvere_core::{SparseRows, sum};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::blocks::{BlockCounts, Blocks};
use crate::space::View;
use crate::{TextError, TextSpace};

/// What the end of a document is in a table of contexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DocumentEnd {
    /// An outcome like any token, with the index `vocab_size`.
    #[default]
    Outcome,
    /// No outcome: a context's occurrences at the end of a document are left out.
    Dropped,
}

/// What [`TextSpace::contexts`] lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextOptions {
    /// What the end of a document is.
    pub document_end: DocumentEnd,
    /// Only this many of the most frequent contexts; equally frequent ones in the order of their
    /// token ids.
    pub top: Option<usize>,
    /// Break the counts down by this many blocks of documents, for the bootstrap.
    pub blocks: Option<u16>,
}

impl Default for ContextOptions {
    /// Document ends are outcomes, all contexts, 64 blocks.
    fn default() -> Self {
        Self {
            document_end: DocumentEnd::Outcome,
            top: None,
            blocks: Some(64),
        }
    }
}

/// The distinct contexts of one order, most frequent first, with what follows them: the sparse
/// count matrix of next-token prediction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ContextTable {
    /// The number n of tokens of every context.
    pub order: usize,
    /// The contexts' tokens, m x n, row after row.
    pub tokens: Vec<u32>,
    /// How often each context is followed by each outcome: m rows, `vocab_size + 1` columns. The
    /// last column is the end of a document, empty if those are dropped.
    pub counts: SparseRows<u64>,
    /// The number of occurrences of each context: the sums of the rows of `counts`.
    pub occurrences: Vec<u64>,
    /// How often each context ends a document, whether or not that is an outcome.
    pub ended: Vec<u64>,
    /// How many occurrences of contexts of this order were left out because the document ends
    /// there, in the whole corpus (whatever `min_count` and `top`); 0 if ends are outcomes.
    pub dropped_ends: u64,
    /// How many contexts occur at least `min_count` times, before `top` chose among them.
    pub total_contexts: usize,
    /// The counts by block of documents, if asked for.
    pub blocks: Option<BlockCounts>,
}

impl ContextTable {
    /// The number m of contexts; never 0.
    pub fn len(&self) -> usize {
        self.occurrences.len()
    }

    /// Whether there is no context.
    pub fn is_empty(&self) -> bool {
        self.occurrences.is_empty()
    }

    /// The tokens of context `i`.
    pub fn context(&self, i: usize) -> &[u32] {
        &self.tokens[i * self.order..(i + 1) * self.order]
    }

    /// The weight pi of each context: its share of the table's occurrences. They sum to 1.
    pub fn weights(&self) -> Vec<f64> {
        let total = sum(self.occurrences.iter().map(|&c| c as f64));
        self.occurrences.iter().map(|&c| c as f64 / total).collect()
    }
}

/// A context before its outcomes are looked up. The order is the table's: by decreasing count,
/// then by tokens, which is by rank in the suffix array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    negated_count: i64,
    start: u32,
    end: u32,
}

struct Row {
    counts: Vec<(u32, u64)>,
    ended: u64,
    /// For each count, its blocks.
    blocks: Vec<Vec<(u16, u32)>>,
}

/// Contexts whose rows are held twice, once by the threads and once in the table.
const CHUNK: usize = 1 << 14;

impl TextSpace {
    /// The distinct contexts of `order` tokens that occur at least `min_count` times, with the
    /// counts of what follows them. Order 0 is one context, the empty text.
    ///
    /// A context occurs where `order` tokens of one document stand; what follows is a token or the
    /// document's end. Every context occurs, so a `min_count` of 0 means 1.
    ///
    /// One pass over the common prefixes, O(N), then O(outcomes log N) for each context listed, in
    /// parallel (with blocks also O(occurrences)); memory: the table, and while it is searched 16
    /// bytes for each context that qualifies, or with `top` for each kept.
    ///
    /// # Errors
    /// No context qualifies; a `top` or a number of blocks of 0.
    pub fn contexts(
        &self,
        order: usize,
        min_count: u64,
        options: &ContextOptions,
    ) -> Result<ContextTable, TextError> {
        for (option, zero) in [
            ("top", options.top == Some(0)),
            ("blocks", options.blocks == Some(0)),
        ] {
            if zero {
                return Err(TextError::Option {
                    option,
                    problem: "must be at least 1".into(),
                });
            }
        }
        let longest_document = self.longest_document();
        let none = TextError::NoContexts {
            order,
            min_count,
            longest_document,
        };
        if order > longest_document {
            return Err(none);
        }
        let view = self.view();
        let dropped = options.document_end == DocumentEnd::Dropped;
        let (found, total_contexts) = find(&view, order, min_count.max(1), dropped, options.top);
        if found.is_empty() {
            return Err(none);
        }

        let blocks = options.blocks.map(|wanted| Blocks::deal(self, wanted));
        let end_of_document = self.vocab_size() as u32;
        let outcome = (!dropped).then_some(end_of_document);
        let mut table = ContextTable {
            order,
            tokens: Vec::with_capacity(found.len() * order),
            counts: SparseRows::new(self.vocab_size() + 1),
            occurrences: found.iter().map(|f| -f.negated_count as u64).collect(),
            ended: Vec::with_capacity(found.len()),
            dropped_ends: if dropped { self.documents_of(order) } else { 0 },
            total_contexts,
            blocks: blocks.as_ref().map(|blocks| BlockCounts {
                document_bounds: blocks.document_bounds.clone(),
                tokens: blocks.tokens.clone(),
                indptr: vec![0],
                blocks: Vec::new(),
                counts: Vec::new(),
            }),
        };
        for chunk in found.chunks(CHUNK) {
            let rows: Vec<Row> = chunk
                .par_iter()
                .map(|f| row(&view, order, f, outcome, blocks.as_ref()))
                .collect();
            for (found, row) in chunk.iter().zip(rows) {
                table.push(&view, found, row)?;
            }
        }
        Ok(table)
    }

    /// The number of documents with at least `order` tokens: each ends with one context.
    fn documents_of(&self, order: usize) -> u64 {
        let view = self.view();
        let long_enough = |i: &usize| view.document(*i).is_some_and(|d| d.len() >= order);
        (0..self.documents()).filter(long_enough).count() as u64
    }
}

impl ContextTable {
    fn push(&mut self, view: &View<'_>, found: &Found, row: Row) -> Result<(), TextError> {
        let inconsistent = |problem: String| TextError::Inconsistent { problem };
        for depth in 0..self.order {
            let token = view.token_of(view.symbol_at(found.start as usize, depth));
            self.tokens
                .push(token.ok_or_else(|| inconsistent("a context holds a document end".into()))?);
        }
        self.ended.push(row.ended);
        self.counts
            .push_row(row.counts)
            .map_err(|e| inconsistent(e.to_string()))?;
        if let Some(out) = &mut self.blocks {
            for (block, count) in row.blocks.iter().map(|entry| entry.iter().copied().unzip()) {
                let (block, count): (Vec<u16>, Vec<u32>) = (block, count);
                out.blocks.extend(block);
                out.counts.extend(count);
                out.indptr.push(out.blocks.len() as u64);
            }
        }
        Ok(())
    }
}

/// The contexts that qualify, in the table's order and at most `top`, and how many there are.
fn find(
    view: &View<'_>,
    order: usize,
    min_count: u64,
    dropped: bool,
    top: Option<usize>,
) -> (Vec<Found>, usize) {
    let mut kept: BinaryHeap<Found> = BinaryHeap::new();
    let mut all = Vec::new();
    let mut total = 0;
    let mut visit = |Range { start, end }: Range<usize>| {
        let occurrences = (end - start) as u64;
        // Neighbours with a common prefix of `order` tokens have that many; a lone suffix may not.
        if occurrences < min_count || (end - start == 1 && !is_context(view, start, order)) {
            return;
        }
        let ended = if dropped {
            ends(view, start..end, order)
        } else {
            0
        };
        let count = occurrences - ended;
        if count < min_count {
            return;
        }
        total += 1;
        let found = Found {
            negated_count: -(count as i64),
            start: start as u32,
            end: end as u32,
        };
        match top {
            None => all.push(found),
            Some(top) if kept.len() < top => kept.push(found),
            Some(_) => {
                if let Some(mut last) = kept.peek_mut().filter(|last| **last > found) {
                    *last = found;
                }
            }
        }
    };
    let mut start = 0;
    for (end, &common) in view.lcp.iter().enumerate().skip(1) {
        if (common as usize) < order {
            visit(start..end);
            start = end;
        }
    }
    visit(start..view.len());
    all.extend(kept);
    all.par_sort_unstable();
    (all, total)
}

/// Whether the first `order` symbols of a suffix are tokens.
fn is_context(view: &View<'_>, rank: usize, order: usize) -> bool {
    (0..order).all(|depth| view.symbol_at(rank, depth) != 0)
}

/// How many of the suffixes are at a document's end after `order` tokens; those come first.
fn ends(view: &View<'_>, Range { start, end }: Range<usize>, order: usize) -> u64 {
    match view.symbol_at(start, order) {
        0 => (view.run_end(start, end, order) - start) as u64,
        _ => 0,
    }
}

/// The outcomes of one context; the end of a document is counted as `end_outcome`, if that is one.
fn row(
    view: &View<'_>,
    order: usize,
    found: &Found,
    end_outcome: Option<u32>,
    blocks: Option<&Blocks>,
) -> Row {
    let mut out = Row {
        counts: Vec::new(),
        ended: 0,
        blocks: Vec::new(),
    };
    let end = found.end as usize;
    let mut tally = vec![0u32; blocks.map_or(0, Blocks::len)];
    let mut add = |out: &mut Row, outcome: u32, run: Range<usize>| {
        out.counts.push((outcome, run.len() as u64));
        let Some(blocks) = blocks else { return };
        for &position in &view.suffix_array[run] {
            tally[blocks.of(position)] += 1;
        }
        let hit = tally.iter_mut().zip(0..).filter(|(count, _)| **count > 0);
        out.blocks.push(
            hit.map(|(count, block)| (block, std::mem::take(count)))
                .collect(),
        );
    };
    let first = found.start as usize;
    let ended = ends(view, first..end, order);
    out.ended = ended;
    let mut child = first + ended as usize;
    while child < end {
        let next = view.run_end(child, end, order);
        // Symbols increase with token ids, so the outcomes come in order.
        if let Some(token) = view.token_of(view.symbol_at(child, order)) {
            add(&mut out, token, child..next);
        }
        child = next;
    }
    if let Some(outcome) = end_outcome.filter(|_| ended > 0) {
        add(&mut out, outcome, first..first + ended as usize);
    }
    out
}
