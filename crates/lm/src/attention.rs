//! Causal attention with grouped heads, a tile of scores at a time.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Where the parts of a row of the joint query-key-value matrix lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLayout {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl HeadLayout {
    /// The length of a row `[q_1 .. q_heads | k_1 .. k_kv | v_1 .. v_kv]`.
    pub fn row(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
}

/// Rows of queries and of keys in a tile. A tile of scores is all that is ever held of the T x T
/// matrix: 64 x 128 values a thread.
const QUERY_ROWS: usize = 64;
const KEY_ROWS: usize = 128;

/// Attends within every window. `qkv` holds a row a token (see [`HeadLayout`]), rotated already,
/// windows one after the other with lengths `windows`; `out` gets heads x head_dim values a token.
///
/// The softmax is accumulated over tiles of keys with a running maximum.
/// *Source:* Milakov, Gimelshein, *Online normalizer calculation for softmax* (2018); Dao et al.,
/// *FlashAttention* (2022). Cost: 2 T^2 heads head_dim multiply-adds a window, half of them masked
/// away by skipping tiles above the diagonal.
pub(crate) fn attend(qkv: &[f32], windows: &[usize], layout: HeadLayout, out: &mut [f32]) {
    let out_row = layout.heads * layout.head_dim;
    let mut tasks = Vec::new();
    let (mut qkv_left, mut out_left) = (qkv, out);
    for &length in windows {
        let (window, rest) = qkv_left.split_at(length * layout.row());
        qkv_left = rest;
        for first in (0..length).step_by(QUERY_ROWS) {
            let rows = QUERY_ROWS.min(length - first);
            let (target, rest) = std::mem::take(&mut out_left).split_at_mut(rows * out_row);
            out_left = rest;
            tasks.push((window, first, target));
        }
    }
    tasks.into_par_iter().for_each_init(
        || vec![0.0f32; QUERY_ROWS * KEY_ROWS],
        |scores, (window, first, target)| {
            for head in 0..layout.heads {
                attend_rows(window, first, head, layout, scores, target);
            }
        },
    );
}

fn attend_rows(
    window: &[f32],
    first: usize,
    head: usize,
    layout: HeadLayout,
    scores: &mut [f32],
    target: &mut [f32],
) {
    let HeadLayout {
        heads,
        kv_heads,
        head_dim,
    } = layout;
    let (row, out_row) = (layout.row(), heads * head_dim);
    let rows = target.len() / out_row;
    let kv_head = head / (heads / kv_heads);
    let part = |column: usize, first: usize, rows: usize| {
        let start = first * row + column * head_dim;
        let end = (first + rows - 1) * row + (column + 1) * head_dim;
        MatRef::from_row_major_slice_with_stride(&window[start..end], rows, head_dim, row)
    };
    let queries = part(head, first, rows);
    let scale = 1.0 / (head_dim as f32).sqrt();
    let mut maxima = [f32::NEG_INFINITY; QUERY_ROWS];
    let mut totals = [0.0f32; QUERY_ROWS];
    let start = head * head_dim;
    let end = (rows - 1) * out_row + (head + 1) * head_dim;
    let target = &mut target[start..end];
    for i in 0..rows {
        target[i * out_row..i * out_row + head_dim].fill(0.0);
    }
    let last = first + rows;
    for key in (0..last).step_by(KEY_ROWS) {
        let keys = KEY_ROWS.min(last - key);
        let tile = &mut scores[..rows * keys];
        matmul(
            MatMut::from_row_major_slice_mut(tile, rows, keys),
            Accum::Replace,
            queries,
            part(heads + kv_head, key, keys).transpose(),
            scale,
            Par::Seq,
        );
        for (i, tile_row) in tile.chunks_exact_mut(keys).enumerate() {
            let seen = (first + i + 1).saturating_sub(key).min(keys);
            let (seen, hidden) = tile_row.split_at_mut(seen);
            hidden.fill(0.0);
            let max = seen.iter().copied().fold(maxima[i], f32::max);
            if max == f32::NEG_INFINITY {
                continue;
            }
            let shrink = (maxima[i] - max).exp();
            maxima[i] = max;
            let mut total = 0.0;
            for x in seen {
                *x = (*x - max).exp();
                total += *x;
            }
            totals[i] = totals[i] * shrink + total;
            let accumulated = &mut target[i * out_row..i * out_row + head_dim];
            accumulated.iter_mut().for_each(|x| *x *= shrink);
        }
        matmul(
            // faer 0.24's from_row_major_slice_with_stride_mut swaps the strides and writes out of
            // bounds; the transposed column-major view is the same matrix.
            MatMut::from_column_major_slice_with_stride_mut(target, head_dim, rows, out_row)
                .transpose_mut(),
            Accum::Add,
            MatRef::from_row_major_slice(tile, rows, keys),
            part(heads + kv_heads + kv_head, key, keys),
            1.0,
            Par::Seq,
        );
    }
    for (i, total) in totals.iter().enumerate().take(rows) {
        let accumulated = &mut target[i * out_row..i * out_row + head_dim];
        accumulated.iter_mut().for_each(|x| *x /= total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in f64, one query at a time.
    fn reference(qkv: &[f32], windows: &[usize], layout: HeadLayout) -> Vec<f64> {
        let HeadLayout {
            heads,
            kv_heads,
            head_dim,
        } = layout;
        let row = layout.row();
        let mut out = Vec::new();
        let mut base = 0;
        for &length in windows {
            for i in 0..length {
                for head in 0..heads {
                    let kv = head / (heads / kv_heads);
                    let at = |t: usize, column: usize, c: usize| {
                        f64::from(qkv[(base + t) * row + column * head_dim + c])
                    };
                    let score = |j: usize| {
                        (0..head_dim)
                            .map(|c| at(i, head, c) * at(j, heads + kv, c))
                            .sum::<f64>()
                            / (head_dim as f64).sqrt()
                    };
                    let weights: Vec<f64> = (0..=i).map(|j| score(j).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    out.extend((0..head_dim).map(|c| {
                        let terms = weights.iter().enumerate();
                        terms
                            .map(|(j, w)| w / total * at(j, heads + kv_heads + kv, c))
                            .sum::<f64>()
                    }));
                }
            }
            base += length;
        }
        out
    }

    #[test]
    fn tiles_give_what_the_definition_gives() {
        let layout = HeadLayout {
            heads: 4,
            kv_heads: 2,
            head_dim: 8,
        };
        let windows = [1, 3, 64, 65, 200, 300];
        let tokens: usize = windows.iter().sum();
        let mut state = 7u32;
        let qkv: Vec<f32> = (0..tokens * layout.row())
            .map(|_| {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                (state >> 8) as f32 / (1 << 22) as f32 - 2.0
            })
            .collect();
        let mut out = vec![f32::NAN; tokens * layout.heads * layout.head_dim];
        attend(&qkv, &windows, layout, &mut out);
        for (a, b) in out.iter().zip(reference(&qkv, &windows, layout)) {
            assert!((f64::from(*a) - b).abs() < 2e-5, "{a} {b}");
        }
    }
}
