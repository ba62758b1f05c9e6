//! Causal attention with grouped heads, a tile of scores at a time.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use lawvere_core::vector::{Real, dot, exp_shifted, maximum, vectorised};
use rayon::prelude::*;

/// Where the parts of a row of the joint query-key-value matrix lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLayout {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// What scores are multiplied with.
    pub scale: f64,
    /// `c` in `c tanh(score / c)`.
    pub soft_cap: Option<f64>,
}

impl HeadLayout {
    /// Scores divided by the root of the head's dimension.
    pub fn new(heads: usize, kv_heads: usize, head_dim: usize) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f64).sqrt(),
            soft_cap: None,
        }
    }

    /// Scores as the softmax sees them.
    #[inline(always)]
    pub fn cap<T: Real>(&self, scores: &mut [T]) {
        if let Some(cap) = self.soft_cap {
            let (cap, inverse) = (T::of(cap), T::of(1.0 / cap));
            scores
                .iter_mut()
                .for_each(|x| *x = cap * (*x * inverse).tanh());
        }
    }

    /// The length of a row `[q_1 .. q_heads | k_1 .. k_kv | v_1 .. v_kv]`.
    pub fn row(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Queries in a tile: with those of all heads of a group some 128 rows.
    fn query_rows(&self) -> usize {
        let group = (self.heads / self.kv_heads).max(1);
        (2 * QUERY_ROWS / group)
            .next_multiple_of(16)
            .clamp(16, QUERY_ROWS)
    }

    /// The length of a row `[k_1 .. k_kv | v_1 .. v_kv]`.
    pub fn past_row(&self) -> usize {
        2 * self.kv_heads * self.head_dim
    }
}

/// Rows of queries, at most, and of keys in a tile. A tile of scores is all that is ever held of the
/// T x T matrix: some 128 x 128 values a thread.
const QUERY_ROWS: usize = 64;
const KEY_ROWS: usize = 128;

/// Keys and values of tokens read earlier, a row `[k_1 .. k_kv | v_1 .. v_kv]` each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past<'a, T> {
    pub rows: &'a [T],
    /// As in [`attend`], counted from the first row of `qkv`.
    pub ends: &'a [u32],
}

impl<T> Past<'_, T> {
    pub const NONE: Self = Self {
        rows: &[],
        ends: &[],
    };
}

/// How far tokens see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight<'a> {
    /// How many tokens one sees of those before it, itself counted.
    pub window: u32,
    /// The place of every token of `qkv` in its text; what comes before them are the places from 0 on. Not looked at without
    /// a window.
    pub positions: &'a [u32],
}

impl Sight<'_> {
    pub const FULL: Self = Self {
        window: u32::MAX,
        positions: &[],
    };

    fn is_full(&self) -> bool {
        self.window == u32::MAX
    }
}

/// The `ends` of sequences of these lengths, one after the other.
pub(crate) fn ends_of_windows(windows: &[usize]) -> Vec<u32> {
    let mut end = 0;
    let of_window = windows.iter().flat_map(|&length| {
        end += length as u32;
        std::iter::repeat_n(end, length)
    });
    of_window.collect()
}

/// Attends in a forest of prefixes in depth-first order: token `i` sees token `j` if
/// `j <= i < ends[j]`, that is, if `j` lies on the way from a root to `i`. A sequence is a tree that
/// does not branch.
///
/// `qkv` holds a row a token (see [`HeadLayout`]), rotated already; `past` what comes before the first
/// of them; `out` gets heads x head_dim values a token, and `log_totals`, if there, one value a token
/// and head: the logarithm of the softmax's denominator, which [`attend_gradient`] asks for.
///
/// With a window in `sight`, it sees only those of them that are near.
///
/// The softmax is accumulated over tiles of keys with a running maximum; tiles of which nothing is
/// seen are left out.
/// *Source:* Milakov, Gimelshein, *Online normalizer calculation for softmax* (2018); Dao et al.,
/// *FlashAttention* (2022). Cost: 2 T^2 heads head_dim multiply-adds for a sequence, half of them
/// above the diagonal and left out.
pub(crate) fn attend<T: Real>(
    qkv: &[T],
    ends: &[u32],
    past: Past<'_, T>,
    layout: HeadLayout,
    sight: Sight<'_>,
    out: &mut [T],
    log_totals: Option<&mut [T]>,
) {
    let out_row = layout.heads * layout.head_dim;
    let query_rows = layout.query_rows();
    let mut tasks = Vec::new();
    let (mut out_left, mut totals_left) = (out, log_totals);
    let mut root = 0;
    for first in (0..ends.len()).step_by(query_rows) {
        let rows = query_rows.min(ends.len() - first);
        while ends[root] as usize <= first {
            root = ends[root] as usize;
        }
        let (target, rest) = std::mem::take(&mut out_left).split_at_mut(rows * out_row);
        out_left = rest;
        let totals = totals_left.take().map(|left| {
            let (totals, rest) = left.split_at_mut(rows * layout.heads);
            totals_left = Some(rest);
            totals
        });
        tasks.push((root, first, target, totals));
    }
    // Later queries see more: the longest tasks go first.
    tasks.reverse();
    let attention = Attention {
        qkv,
        ends,
        past,
        layout,
        sight,
    };
    tasks.into_par_iter().with_max_len(1).for_each_init(
        Scratch::default,
        |tile, (root, first, target, mut totals)| {
            let keys = attention.tiles(root, first, target.len() / out_row);
            for kv_head in 0..layout.kv_heads {
                attention.attend_group(&keys, first, kv_head, tile, target, totals.as_deref_mut());
            }
        },
    );
}

/// What a task computes in: rows are the queries of all heads of a group, head after head.
#[derive(Default)]
struct Scratch<T> {
    /// Rows x head_dim, divided by the square root of the head's dimension already.
    queries: Vec<T>,
    /// Rows x keys.
    weights: Vec<T>,
    /// Rows x head_dim, not yet divided by the totals.
    sums: Vec<T>,
    maxima: Vec<T>,
    totals: Vec<T>,
}

/// Columns `column * head_dim ..` of `rows` rows from `first` on.
fn part<T: Real>(
    window: &[T],
    layout: HeadLayout,
    column: usize,
    first: usize,
    rows: usize,
) -> MatRef<'_, T> {
    columns(window, layout.row(), layout.head_dim, column, first, rows)
}

fn columns<T: Real>(
    data: &[T],
    row: usize,
    head_dim: usize,
    column: usize,
    first: usize,
    rows: usize,
) -> MatRef<'_, T> {
    let start = first * row + column * head_dim;
    let end = (first + rows - 1) * row + (column + 1) * head_dim;
    MatRef::from_row_major_slice_with_stride(&data[start..end], rows, head_dim, row)
}

fn columns_mut<T: Real>(
    data: &mut [T],
    row: usize,
    head_dim: usize,
    column: usize,
    first: usize,
    rows: usize,
) -> MatMut<'_, T> {
    let start = first * row + column * head_dim;
    let end = (first + rows - 1) * row + (column + 1) * head_dim;
    // faer 0.24's from_row_major_slice_with_stride_mut swaps the strides and writes out of
    // bounds; the transposed column-major view is the same matrix.
    MatMut::from_column_major_slice_with_stride_mut(&mut data[start..end], head_dim, rows, row)
        .transpose_mut()
}

#[derive(Clone, Copy)]
struct Attention<'a, T> {
    qkv: &'a [T],
    ends: &'a [u32],
    past: Past<'a, T>,
    layout: HeadLayout,
    sight: Sight<'a>,
}

/// Keys that a tile of queries is held against.
struct KeyTile<'a, T> {
    /// Whole rows, and where in them the keys and the values begin.
    rows: &'a [T],
    row: usize,
    keys_at: usize,
    values_at: usize,
    /// The place of the first key among the queries; `None` before them.
    first: Option<usize>,
    ends: &'a [u32],
    /// Whether some query is past the end of some key's tree.
    masked: bool,
    /// With a window, the places of the keys.
    places: Vec<u32>,
}

impl<T: Real> KeyTile<'_, T> {
    fn part(&self, at: usize, head_dim: usize) -> MatRef<'_, T> {
        let end = (self.ends.len() - 1) * self.row + at + head_dim;
        MatRef::from_row_major_slice_with_stride(
            &self.rows[at..end],
            self.ends.len(),
            head_dim,
            self.row,
        )
    }
}

impl<'a, T: Real> Attention<'a, T> {
    /// The keys that some of the `rows` queries from `first` on see; those of their own batch lie in
    /// trees from `root` on.
    fn tiles(&self, root: usize, first: usize, rows: usize) -> Vec<KeyTile<'a, T>> {
        let HeadLayout {
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.layout;
        let last = first + rows;
        let full = self.sight.is_full();
        // The place from which on some query sees a key.
        let nearest = match full {
            true => 0,
            false => {
                let places = self.sight.positions[first..last].iter();
                let least = places.min().copied().unwrap_or(0);
                (least + 1).saturating_sub(self.sight.window)
            }
        };
        let in_sight = |tile: &KeyTile<'a, T>| full || tile.places.iter().any(|&p| p >= nearest);
        let seen = |ends: &[u32]| ends.iter().any(|&end| end as usize > first);
        let masked = |ends: &[u32]| ends.iter().any(|&end| (end as usize) < last);
        let past_row = self.layout.past_row();
        let past = self.past.ends.chunks(KEY_ROWS).enumerate();
        let past = past.filter(|(_, ends)| seen(ends));
        let past = past.map(|(i, ends)| KeyTile {
            rows: &self.past.rows[i * KEY_ROWS * past_row..],
            row: past_row,
            keys_at: 0,
            values_at: kv_heads * head_dim,
            first: None,
            ends,
            masked: masked(ends),
            places: match full {
                true => Vec::new(),
                false => (0..ends.len()).map(|k| (i * KEY_ROWS + k) as u32).collect(),
            },
        });
        let row = self.layout.row();
        let own = self.ends[root..last].chunks(KEY_ROWS).enumerate();
        let own = own.filter(|(_, ends)| seen(ends));
        let own = own.map(|(i, ends)| KeyTile {
            rows: &self.qkv[(root + i * KEY_ROWS) * row..],
            row,
            keys_at: heads * head_dim,
            values_at: (heads + kv_heads) * head_dim,
            first: Some(root + i * KEY_ROWS),
            ends,
            masked: masked(ends),
            places: match full {
                true => Vec::new(),
                false => {
                    let from = root + i * KEY_ROWS;
                    self.sight.positions[from..from + ends.len()].to_vec()
                }
            },
        });
        past.chain(own).filter(in_sight).collect()
    }

    /// The heads that share one head of keys and values, for a tile of queries.
    fn attend_group(
        &self,
        tiles: &[KeyTile<'_, T>],
        first: usize,
        kv_head: usize,
        tile: &mut Scratch<T>,
        target: &mut [T],
        log_totals: Option<&mut [T]>,
    ) {
        let HeadLayout {
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.layout;
        let (group, out_row) = (heads / kv_heads, heads * head_dim);
        let queries = target.len() / out_row;
        let rows = group * queries;
        let scale = T::of(self.layout.scale);
        let hidden = T::of(f64::NEG_INFINITY);
        tile.queries.clear();
        for head in kv_head * group..(kv_head + 1) * group {
            for query in first..first + queries {
                let start = query * self.layout.row() + head * head_dim;
                let values = self.qkv[start..start + head_dim].iter();
                tile.queries.extend(values.map(|&x| x * scale));
            }
        }
        for (values, len, value) in [
            (&mut tile.sums, rows * head_dim, T::default()),
            (&mut tile.maxima, rows, hidden),
            (&mut tile.totals, rows, T::default()),
        ] {
            values.clear();
            values.resize(len, value);
        }
        for key_tile in tiles {
            let keys = key_tile.ends.len();
            tile.weights.resize(rows * keys, T::default());
            matmul(
                MatMut::from_row_major_slice_mut(&mut tile.weights, rows, keys),
                Accum::Replace,
                MatRef::from_row_major_slice(&tile.queries, rows, head_dim),
                key_tile
                    .part(key_tile.keys_at + kv_head * head_dim, head_dim)
                    .transpose(),
                T::of(1.0),
                Par::Seq,
            );
            vectorised(
                #[inline(always)]
                || {
                    let rows = tile.weights.chunks_exact_mut(keys);
                    let rows = rows.zip(tile.sums.chunks_exact_mut(head_dim)).enumerate();
                    for (row, (weights, sums)) in rows {
                        let query = first + row % queries;
                        let before = key_tile
                            .first
                            .map_or(keys, |key| (query + 1).saturating_sub(key).min(keys));
                        let (seen, after) = weights.split_at_mut(before);
                        after.fill(T::default());
                        self.layout.cap(seen);
                        if !key_tile.places.is_empty() {
                            let place = self.sight.positions[query];
                            for (x, &key) in seen.iter_mut().zip(&key_tile.places) {
                                let near = place.saturating_sub(key) < self.sight.window;
                                *x = if near { *x } else { hidden };
                            }
                        }
                        if key_tile.masked {
                            for (x, &end) in seen.iter_mut().zip(key_tile.ends) {
                                *x = if end > query as u32 { *x } else { hidden };
                            }
                        }
                        let (old, max) = (tile.maxima[row], maximum(seen));
                        let max = if old > max { old } else { max };
                        if max == hidden {
                            seen.fill(T::default());
                            continue;
                        }
                        let shrink = (old - max).exp();
                        tile.maxima[row] = max;
                        tile.totals[row] = tile.totals[row] * shrink + exp_shifted(seen, max);
                        sums.iter_mut().for_each(|x| *x *= shrink);
                    }
                },
            );
            matmul(
                MatMut::from_row_major_slice_mut(&mut tile.sums, rows, head_dim),
                Accum::Add,
                MatRef::from_row_major_slice(&tile.weights, rows, keys),
                key_tile.part(key_tile.values_at + kv_head * head_dim, head_dim),
                T::of(1.0),
                Par::Seq,
            );
        }
        for (row, sums) in tile.sums.chunks_exact(head_dim).enumerate() {
            let (head, query) = (kv_head * group + row / queries, row % queries);
            let start = query * out_row + head * head_dim;
            let out = &mut target[start..start + head_dim];
            let total = tile.totals[row];
            out.iter_mut().zip(sums).for_each(|(o, &x)| *o = x / total);
        }
        if let Some(log_totals) = log_totals {
            for (row, (&max, total)) in tile.maxima.iter().zip(&tile.totals).enumerate() {
                let (head, query) = (kv_head * group + row / queries, row % queries);
                log_totals[query * heads + head] = max + T::of(total.to_f64().ln());
            }
        }
    }
}

/// What the forward pass left and what comes from behind: a row a token each.
#[derive(Clone, Copy)]
pub(crate) struct Attended<'a, T> {
    pub qkv: &'a [T],
    pub out: &'a [T],
    pub log_totals: &'a [T],
    pub d_out: &'a [T],
}

/// Writes the derivative of [`attend`] by `qkv` into `d_qkv`. Scores are computed again, a tile at
/// a time. Cost: five products of the size of the forward pass's two.
pub(crate) fn attend_gradient<T: Real>(
    attended: Attended<'_, T>,
    windows: &[usize],
    layout: HeadLayout,
    d_qkv: &mut [T],
) {
    let out_row = layout.heads * layout.head_dim;
    let mut tasks = Vec::new();
    let (mut left, mut d_left) = (attended, d_qkv);
    for &length in windows {
        let (qkv, qkv_rest) = left.qkv.split_at(length * layout.row());
        let (out, out_rest) = left.out.split_at(length * out_row);
        let (log_totals, totals_rest) = left.log_totals.split_at(length * layout.heads);
        let (d_out, d_out_rest) = left.d_out.split_at(length * out_row);
        left = Attended {
            qkv: qkv_rest,
            out: out_rest,
            log_totals: totals_rest,
            d_out: d_out_rest,
        };
        let (target, rest) = std::mem::take(&mut d_left).split_at_mut(length * layout.row());
        d_left = rest;
        let window = Attended {
            qkv,
            out,
            log_totals,
            d_out,
        };
        tasks.push((window, length, target));
    }
    tasks.into_par_iter().for_each_init(
        || [(); 2].map(|()| vec![T::default(); QUERY_ROWS * KEY_ROWS]),
        |[weights, d_scores], (window, length, target)| {
            target.fill(T::default());
            for head in 0..layout.heads {
                for first in (0..length).step_by(QUERY_ROWS) {
                    let rows = QUERY_ROWS.min(length - first);
                    for key in (0..first + rows).step_by(KEY_ROWS) {
                        let tile = Tile {
                            head,
                            first,
                            rows,
                            key,
                            keys: KEY_ROWS.min(first + rows - key),
                        };
                        tile_gradient(window, tile, layout, weights, d_scores, target);
                    }
                }
            }
        },
    );
}

#[derive(Clone, Copy)]
struct Tile {
    head: usize,
    first: usize,
    rows: usize,
    key: usize,
    keys: usize,
}

fn tile_gradient<T: Real>(
    window: Attended<'_, T>,
    tile: Tile,
    layout: HeadLayout,
    weights: &mut [T],
    d_scores: &mut [T],
    target: &mut [T],
) {
    let HeadLayout {
        heads,
        kv_heads,
        head_dim,
        ..
    } = layout;
    let Tile {
        head,
        first,
        rows,
        key,
        keys,
    } = tile;
    let (row, out_row) = (layout.row(), heads * head_dim);
    let kv_head = head / (heads / kv_heads);
    let (key_column, value_column) = (heads + kv_head, heads + kv_heads + kv_head);
    let scale = T::of(layout.scale);
    let one = T::of(1.0);
    let queries = part(window.qkv, layout, head, first, rows);
    let tile_keys = part(window.qkv, layout, key_column, key, keys);
    let tile_values = part(window.qkv, layout, value_column, key, keys);
    let d_out = columns(window.d_out, out_row, head_dim, head, first, rows);
    let weights = &mut weights[..rows * keys];
    let d_scores = &mut d_scores[..rows * keys];
    matmul(
        MatMut::from_row_major_slice_mut(weights, rows, keys),
        Accum::Replace,
        queries,
        tile_keys.transpose(),
        scale,
        Par::Seq,
    );
    matmul(
        MatMut::from_row_major_slice_mut(d_scores, rows, keys),
        Accum::Replace,
        d_out,
        tile_values.transpose(),
        one,
        Par::Seq,
    );
    vectorised(
        #[inline(always)]
        || {
            let tile_rows = weights
                .chunks_exact_mut(keys)
                .zip(d_scores.chunks_exact_mut(keys));
            for (i, (weights, d_scores)) in tile_rows.enumerate() {
                let query = first + i;
                let seen = (query + 1).saturating_sub(key).min(keys);
                let of_head =
                    query * out_row + head * head_dim..query * out_row + (head + 1) * head_dim;
                // Sum_j weight_j d_weight_j, read off the output.
                let mean = dot(&window.out[of_head.clone()], &window.d_out[of_head]);
                let log_total = window.log_totals[query * heads + head];
                for (w, d) in weights[..seen].iter_mut().zip(&mut d_scores[..seen]) {
                    *w = (*w - log_total).exp();
                    *d = *w * (*d - mean) * scale;
                }
                weights[seen..].fill(T::default());
                d_scores[seen..].fill(T::default());
            }
        },
    );
    let weights = MatRef::from_row_major_slice(weights, rows, keys);
    let d_scores = MatRef::from_row_major_slice(d_scores, rows, keys);
    let mut add = |column, first, rows, a, b| {
        let target = columns_mut(target, row, head_dim, column, first, rows);
        matmul(target, Accum::Add, a, b, one, Par::Seq);
    };
    add(value_column, key, keys, weights.transpose(), d_out);
    add(head, first, rows, d_scores, tile_keys);
    add(key_column, key, keys, d_scores.transpose(), queries);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in f64, one query at a time.
    fn reference(qkv: &[f32], windows: &[usize], layout: HeadLayout, sees: usize) -> Vec<f64> {
        let HeadLayout {
            heads,
            kv_heads,
            head_dim,
            ..
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
                            * layout.scale
                    };
                    let capped = |x: f64| layout.soft_cap.map_or(x, |c| c * (x / c).tanh());
                    let weight = |j: usize| match i - j < sees {
                        true => capped(score(j)).exp(),
                        false => 0.0,
                    };
                    let weights: Vec<f64> = (0..=i).map(weight).collect();
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
        let windows = [1, 3, 64, 65, 200, 300];
        let tokens: usize = windows.iter().sum();
        let positions: Vec<u32> = windows.iter().flat_map(|&n| 0..n as u32).collect();
        let ends = ends_of_windows(&windows);
        let plain = HeadLayout::new(4, 2, 8);
        let capped = HeadLayout {
            scale: 0.5,
            soft_cap: Some(1.5),
            ..plain
        };
        let mut state = 7u32;
        let qkv: Vec<f32> = (0..tokens * plain.row())
            .map(|_| {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                (state >> 8) as f32 / (1 << 22) as f32 - 2.0
            })
            .collect();
        for (layout, sees) in [
            (plain, usize::MAX),
            (capped, usize::MAX),
            (plain, 1),
            (capped, 100),
            (plain, 130),
        ] {
            let sight = match sees {
                usize::MAX => Sight::FULL,
                sees => Sight {
                    window: sees as u32,
                    positions: &positions,
                },
            };
            let mut out = vec![f32::NAN; tokens * layout.heads * layout.head_dim];
            attend(&qkv, &ends, Past::NONE, layout, sight, &mut out, None);
            for (a, b) in out.iter().zip(reference(&qkv, &windows, layout, sees)) {
                assert!((f64::from(*a) - b).abs() < 2e-5, "{a} {b}");
            }
        }
    }
}
