//! Cross-entropy of a softmax head, and its gradient.

use std::ops::Range;

use faer::MatRef;
use lawvere_core::linalg::{matmul, matmul_add};
use lawvere_core::vector::{Real, exp_shifted, maximum, vectorised};
use lawvere_core::{RowMatrix, SparseRows};
use rayon::prelude::*;

use crate::train::layers::add;

/// What should follow each state.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Targets<'a> {
    /// One token a row; every row weighs the same.
    Tokens(&'a [u32]),
    /// A law a row, and the rows' weights, which sum to 1.
    Laws {
        weights: &'a [f64],
        laws: &'a SparseRows<f64>,
    },
}

impl Targets<'_> {
    fn weight(&self, row: usize) -> f64 {
        match self {
            Self::Tokens(tokens) => 1.0 / tokens.len() as f64,
            Self::Laws { weights, .. } => weights[row],
        }
    }

    fn for_each(&self, row: usize, mut visit: impl FnMut(usize, f64)) {
        match self {
            Self::Tokens(tokens) => visit(tokens[row] as usize, 1.0),
            Self::Laws { laws, .. } => {
                let (tokens, probs) = laws.row(row);
                for (&token, &p) in tokens.iter().zip(probs) {
                    visit(token as usize, p);
                }
            }
        }
    }
}

/// Rows taken through the head at once where the vocabulary is large: the matrix of logits never has
/// more.
const BLOCK_ROWS: usize = 1024;
/// Rows of one task where it is small.
const SHARE_ROWS: usize = 256;
/// Entries that the tasks' own derivatives by the head may have together.
const SHARED_ENTRIES: usize = 1 << 22;
/// Rows that one task of a block works on.
const TASK_ROWS: usize = 32;

/// The states' side of a gradient.
pub(crate) struct HeadGradient<'a, T> {
    /// Vocabulary x d, overwritten.
    pub head: &'a mut RowMatrix<T>,
    /// Rows x d, overwritten.
    pub states: &'a mut RowMatrix<T>,
}

/// The weighted cross-entropy of each row, in nats, of the laws `softmax(head s)` against the
/// targets; with `gradient` also the derivatives of their sum by the head and by the states.
///
/// Cost: one product of rows x d x vocabulary, three with a gradient. Memory: 1,024 rows of logits,
/// and where the vocabulary is small a derivative by the head for every 256 rows.
pub(crate) fn cross_entropy<T: Real>(
    head: &RowMatrix<T>,
    states: &RowMatrix<T>,
    targets: Targets<'_>,
    gradient: Option<HeadGradient<'_, T>>,
    logits: &mut Vec<T>,
) -> Vec<f64> {
    let shares = states.nrows().div_ceil(SHARE_ROWS).max(1);
    match gradient {
        Some(gradient) if shares * head.data().len() <= SHARED_ENTRIES => {
            shared(head, states, targets, gradient, shares)
        }
        gradient => in_blocks(head, states, targets, gradient, logits),
    }
}

/// Each task takes its share of the rows all the way, so that threads meet once; the tasks'
/// derivatives by the head are added in order.
fn shared<T: Real>(
    head: &RowMatrix<T>,
    states: &RowMatrix<T>,
    targets: Targets<'_>,
    gradient: HeadGradient<'_, T>,
    shares: usize,
) -> Vec<f64> {
    let (vocab, d, rows) = (head.nrows(), head.ncols(), states.nrows());
    let share = rows.div_ceil(shares).max(1);
    let mut losses = vec![0.0; rows];
    let parts: Vec<RowMatrix<T>> = losses
        .par_chunks_mut(share)
        .zip(gradient.states.data_mut().par_chunks_mut(share * d))
        .enumerate()
        .map(|(i, (losses, d_states))| {
            let first = i * share;
            let count = losses.len();
            let block = states.row_range(first..first + count);
            let block = MatRef::from_row_major_slice(block, count, d);
            let mut logits = RowMatrix::zeros(count, vocab);
            matmul(logits.view_mut(), block, head.view().transpose());
            let rows = logits.data_mut().chunks_exact_mut(vocab).zip(losses);
            for (i, (row, loss)) in rows.enumerate() {
                *loss = softmax_row(row, first + i, targets, true);
            }
            let d_states = faer::MatMut::from_row_major_slice_mut(d_states, count, d);
            matmul(d_states, logits.view(), head.view());
            let mut d_head = RowMatrix::zeros(vocab, d);
            matmul(d_head.view_mut(), logits.view().transpose(), block);
            d_head
        })
        .collect();
    let mut parts = parts.into_iter();
    match parts.next() {
        Some(first) => *gradient.head = first,
        None => gradient.head.data_mut().fill(T::default()),
    }
    parts.for_each(|part| add(gradient.head, &part));
    losses
}

fn in_blocks<T: Real>(
    head: &RowMatrix<T>,
    states: &RowMatrix<T>,
    targets: Targets<'_>,
    mut gradient: Option<HeadGradient<'_, T>>,
    logits: &mut Vec<T>,
) -> Vec<f64> {
    let (vocab, d, rows) = (head.nrows(), head.ncols(), states.nrows());
    let mut losses = vec![0.0; rows];
    let mut first = 0;
    while first < rows {
        let range = first..(first + BLOCK_ROWS).min(rows);
        let count = range.len();
        logits.resize(count * vocab, T::default());
        let block = MatRef::from_row_major_slice(states.row_range(range.clone()), count, d);
        let logits_view = faer::MatMut::from_row_major_slice_mut(logits, count, vocab);
        matmul(logits_view, block, head.view().transpose());
        softmax_rows(
            logits,
            vocab,
            range.clone(),
            targets,
            &mut losses[range.clone()],
            gradient.is_some(),
        );
        if let Some(gradient) = &mut gradient {
            let differences = MatRef::from_row_major_slice(logits, count, vocab);
            let product = if first == 0 { matmul } else { matmul_add };
            product(gradient.head.view_mut(), differences.transpose(), block);
            let rows = gradient.states.data_mut();
            let rows = &mut rows[range.start * d..range.end * d];
            let target = faer::MatMut::from_row_major_slice_mut(rows, count, d);
            matmul(target, differences, head.view());
        }
        first = range.end;
    }
    losses
}

/// Writes the rows' weighted losses; turns logits into `weight (softmax - law)` if `gradient`.
fn softmax_rows<T: Real>(
    logits: &mut [T],
    vocab: usize,
    range: Range<usize>,
    targets: Targets<'_>,
    losses: &mut [f64],
    gradient: bool,
) {
    let tasks = logits
        .par_chunks_mut(TASK_ROWS * vocab)
        .zip(losses.par_chunks_mut(TASK_ROWS))
        .enumerate();
    tasks.for_each(|(task, (logits, losses))| {
        let first = range.start + task * TASK_ROWS;
        let rows = logits.chunks_exact_mut(vocab).zip(losses).enumerate();
        for (i, (row, loss)) in rows {
            *loss = softmax_row(row, first + i, targets, gradient);
        }
    });
}

/// One row of [`softmax_rows`].
fn softmax_row<T: Real>(row: &mut [T], index: usize, targets: Targets<'_>, gradient: bool) -> f64 {
    let weight = targets.weight(index);
    let (mut expected, mut mass) = (0.0, 0.0);
    targets.for_each(index, |token, p| {
        expected += p * row[token].to_f64();
        mass += p;
    });
    let (max, total) = vectorised(
        #[inline(always)]
        || {
            let max = maximum(row);
            (max, exp_shifted(row, max))
        },
    );
    if gradient {
        let scale = T::of(weight * mass / total.to_f64());
        vectorised(
            #[inline(always)]
            || row.iter_mut().for_each(|x| *x *= scale),
        );
        targets.for_each(index, |token, p| row[token] -= T::of(weight * p));
    }
    weight * (mass * (max.to_f64() + total.to_f64().ln()) - expected)
}
