use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use lawvere_core::{SparseRows, sum};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::blocks::{BlockCounts, Blocks};
use crate::shard::{Shard, View};
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
/// then by tokens, which is the order they are found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    negated_count: i64,
    rank: u64,
    /// Where it stands first: the shard, and the suffix's rank there.
    shard: u32,
    start: u32,
}

/// An outcome of a context.
struct Outcome {
    outcome: u32,
    count: u64,
    blocks: Vec<(u16, u32)>,
}

struct Row {
    tokens: Vec<u32>,
    ended: u64,
    outcomes: Vec<Outcome>,
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
    /// One pass over the common prefixes, O(N), then O(occurrences / 32 + outcomes) for each context listed, in
    /// parallel (with blocks also O(occurrences)); memory: the table, and while it is searched 24
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
        let dropped = options.document_end == DocumentEnd::Dropped;
        let views: Vec<View<'_>> = self.shards.iter().map(Shard::view).collect();
        let (found, total_contexts) = find(&views, order, min_count.max(1), dropped, options.top);
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
                .map(|f| self.row(&views, order, f, outcome, blocks.as_ref()))
                .collect::<Result<_, _>>()?;
            for row in rows {
                table.push(row)?;
            }
        }
        Ok(table)
    }

    /// The number of documents with at least `order` tokens: each ends with one context.
    fn documents_of(&self, order: usize) -> u64 {
        self.document_lengths().filter(|&n| n >= order).count() as u64
    }

    /// The outcomes of one context; the end of a document is counted as `end_outcome`, if that is one.
    fn row(
        &self,
        views: &[View<'_>],
        order: usize,
        found: &Found,
        end_outcome: Option<u32>,
        blocks: Option<&Blocks>,
    ) -> Result<Row, TextError> {
        let at = views.get(found.shard as usize);
        let token = |depth| at?.token_of(at?.symbol_at(found.start as usize, depth));
        let tokens: Option<Vec<u32>> = (0..order).map(token).collect();
        let tokens = tokens.ok_or_else(|| TextError::Inconsistent {
            problem: "a context holds a document end".into(),
        })?;
        let mut outcomes: Vec<Outcome> = Vec::new();
        let mut ended = 0;
        let mut tally = vec![0u32; blocks.map_or(0, Blocks::len)];
        for (shard, (view, ranks)) in views.iter().zip(self.intervals(&tokens)).enumerate() {
            view.for_each_run(ranks, order, &mut |symbol, run| {
                let token = view.token_of(symbol);
                if token.is_none() {
                    ended += run.len() as u64;
                }
                let Some(outcome) = token.or(end_outcome) else {
                    return;
                };
                let count = run.len() as u64;
                let mut in_blocks = Vec::new();
                if let Some(blocks) = blocks {
                    for &position in view.suffix_array.get(run).unwrap_or_default() {
                        tally[blocks.of(shard, position)] += 1;
                    }
                    let hit = tally.iter_mut().zip(0..).filter(|(count, _)| **count > 0);
                    in_blocks.extend(hit.map(|(count, block)| (block, std::mem::take(count))));
                }
                outcomes.push(Outcome {
                    outcome,
                    count,
                    blocks: in_blocks,
                });
            });
        }
        // Within a shard the ends come first, and after that shard those of the next.
        outcomes.sort_by_key(|o| o.outcome);
        outcomes.dedup_by(|later, first| {
            let same = later.outcome == first.outcome;
            if same {
                first.count += later.count;
                first.blocks = merged(&first.blocks, &later.blocks);
            }
            same
        });
        Ok(Row {
            tokens,
            ended,
            outcomes,
        })
    }
}

/// The sum of counts by block.
fn merged(a: &[(u16, u32)], b: &[(u16, u32)]) -> Vec<(u16, u32)> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    all.dedup_by(|later, first| {
        let same = later.0 == first.0;
        if same {
            first.1 += later.1;
        }
        same
    });
    all
}

impl ContextTable {
    fn push(&mut self, row: Row) -> Result<(), TextError> {
        self.tokens.extend(row.tokens);
        self.ended.push(row.ended);
        self.counts
            .push_row(row.outcomes.iter().map(|o| (o.outcome, o.count)))?;
        if let Some(out) = &mut self.blocks {
            for outcome in row.outcomes {
                let (blocks, counts): (Vec<u16>, Vec<u32>) = outcome.blocks.into_iter().unzip();
                out.blocks.extend(blocks);
                out.counts.extend(counts);
                out.indptr.push(out.blocks.len() as u64);
            }
        }
        Ok(())
    }
}

/// The contexts of one order in a shard, by their tokens: the ranks of the suffixes that begin with each.
struct Groups<'a> {
    view: View<'a>,
    order: usize,
    next: usize,
}

impl Iterator for Groups<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        while self.next < self.view.len() {
            let start = self.next;
            let mut end = start + 1;
            while end < self.view.len() && self.view.shares(end, self.order) {
                end += 1;
            }
            self.next = end;
            // Neighbours with a common prefix of `order` tokens have that many; a lone suffix may not.
            if end - start > 1 || is_context(&self.view, start, self.order) {
                return Some(start..end);
            }
        }
        None
    }
}

/// Visits the contexts of one order by their tokens: for each the shards that have it, with the ranks.
fn for_each_context(
    views: &[View<'_>],
    order: usize,
    visit: &mut impl FnMut(&[(usize, Range<usize>)]),
) {
    let mut groups: Vec<_> = views
        .iter()
        .map(|&view| {
            let groups = Groups {
                view,
                order,
                next: 0,
            };
            groups.peekable()
        })
        .collect();
    let compare = |a: &(usize, Range<usize>), b: &(usize, Range<usize>)| {
        let token = |(shard, ranks): &(usize, Range<usize>), depth| {
            let view = &views[*shard];
            view.token_of(view.symbol_at(ranks.start, depth))
        };
        let mut orders = (0..order).map(|depth| token(a, depth).cmp(&token(b, depth)));
        orders.find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    };
    let mut here: Vec<(usize, Range<usize>)> = Vec::with_capacity(views.len());
    loop {
        here.clear();
        for (shard, group) in groups.iter_mut().enumerate() {
            let Some(ranks) = group.peek() else { continue };
            let head = (shard, ranks.clone());
            match here.first().map(|least| compare(&head, least)) {
                Some(Ordering::Greater) => continue,
                Some(Ordering::Less) => here.clear(),
                _ => {}
            }
            here.push(head);
        }
        if here.is_empty() {
            return;
        }
        visit(&here);
        for (shard, _) in &here {
            groups[*shard].next();
        }
    }
}

/// The contexts that qualify, in the table's order and at most `top`, and how many there are.
fn find(
    views: &[View<'_>],
    order: usize,
    min_count: u64,
    dropped: bool,
    top: Option<usize>,
) -> (Vec<Found>, usize) {
    let mut kept: BinaryHeap<Found> = BinaryHeap::new();
    let mut all = Vec::new();
    let mut total = 0;
    for_each_context(views, order, &mut |places| {
        let occurrences: u64 = places.iter().map(|(_, ranks)| ranks.len() as u64).sum();
        if occurrences < min_count {
            return;
        }
        let ended: u64 = match dropped {
            true => places
                .iter()
                .map(|(shard, ranks)| ends(&views[*shard], ranks.clone(), order))
                .sum(),
            false => 0,
        };
        let count = occurrences - ended;
        if count < min_count {
            return;
        }
        let found = Found {
            negated_count: -(count as i64),
            rank: total as u64,
            shard: places[0].0 as u32,
            start: places[0].1.start as u32,
        };
        total += 1;
        match top {
            None => all.push(found),
            Some(top) if kept.len() < top => kept.push(found),
            Some(_) => {
                if let Some(mut last) = kept.peek_mut().filter(|last| **last > found) {
                    *last = found;
                }
            }
        }
    });
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
