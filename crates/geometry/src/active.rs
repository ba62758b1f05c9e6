//! The max-margin constraints as a penalty method sees them: the way to the nearest allowed logits, and
//! the derivative of that way.

use lawvere_core::RowMatrix;

use crate::least_norm::Nearness;
use crate::margin::{MarginSet, for_rows};
use crate::reduction::Reduction;

/// The max-margin constraints in the weighted coordinates of a [`Reduction`]; logits are flat,
/// context after context.
pub(crate) struct Margins<'a> {
    reduction: &'a Reduction,
    set: MarginSet<'a>,
    /// Context-major: the entries that a context's level is taken over, where the residual was last
    /// taken.
    active: RowMatrix<bool>,
}

impl<'a> Margins<'a> {
    pub fn new(reduction: &'a Reduction) -> Self {
        Self {
            reduction,
            set: MarginSet::new(reduction),
            active: reduction.inside.clone(),
        }
    }

    pub fn tokens(&self) -> usize {
        self.reduction.tokens()
    }

    /// Contexts x tokens.
    pub fn matrix(&self, x: &[f64]) -> RowMatrix<f64> {
        let mut out = RowMatrix::zeros(self.active.nrows(), self.active.ncols());
        out.data_mut().copy_from_slice(x);
        out
    }

    /// Replaces x by what it differs from the nearest allowed logits.
    pub fn residual(&mut self, x: &mut [f64]) {
        let mut nearest = self.matrix(x);
        self.set.project(&mut nearest);
        x.iter_mut().zip(nearest.data()).for_each(|(x, n)| *x -= n);
        let entries = self.active.data_mut().iter_mut().zip(x);
        let inside = self.reduction.inside.data();
        entries
            .zip(inside)
            .for_each(|((active, x), &inside)| *active = inside || *x > 0.0);
    }

    /// Replaces y by the derivative of the residual along y: centred on the active entries of each context,
    /// 0 elsewhere.
    pub fn derivative(&self, y: &mut [f64]) {
        self.centre(y, &self.active);
    }

    /// Replaces y by its entries on the supports, centred on them: the part that breaks equality.
    pub fn equations(&self, y: &mut [f64]) {
        self.centre(y, &self.reduction.inside);
    }

    fn centre(&self, y: &mut [f64], on: &RowMatrix<bool>) {
        let (roots, counts) = (&self.reduction.token_root, &self.reduction.token_count);
        let mut matrix = self.matrix(y);
        let mut none = vec![(); matrix.nrows()];
        for_rows(&mut matrix, &mut none, |j, row, ()| {
            let on = on.row(j);
            let (mut total, mut weight) = (0.0, 0.0);
            for (i, y) in row.iter_mut().enumerate() {
                if on[i] {
                    total += roots[i] * *y;
                    weight += counts[i];
                } else {
                    *y = 0.0;
                }
            }
            let mean = total / weight;
            for (i, y) in row.iter_mut().enumerate() {
                if on[i] {
                    *y -= mean * roots[i];
                }
            }
        });
        y.copy_from_slice(matrix.data());
    }

    /// The diagonal of the derivative.
    pub fn shares(&self) -> RowMatrix<f64> {
        let counts = &self.reduction.token_count;
        let mut share = RowMatrix::zeros(self.active.nrows(), self.active.ncols());
        let mut none = vec![(); share.nrows()];
        for_rows(&mut share, &mut none, |j, row, ()| {
            let active = self.active.row(j);
            let counted = counts.iter().zip(active).filter(|(_, active)| **active);
            let weight: f64 = counted.map(|(count, _)| count).sum();
            for (i, x) in row.iter_mut().enumerate() {
                if active[i] {
                    *x = 1.0 - counts[i] / weight;
                }
            }
        });
        share
    }

    /// Makes g dual feasible up to its operator norm, and returns `<G,S>`.
    pub fn multiplier(&self, g: &mut [f64]) -> f64 {
        let mut matrix = self.matrix(g);
        let value = self.set.dual(&mut matrix);
        g.copy_from_slice(matrix.data());
        value
    }

    /// Scaled so that the smallest margin is 1: how far logits of one support then are apart.
    pub fn nearness(&self, x: &[f64]) -> Option<Nearness> {
        let reduction = self.reduction;
        let (mut margin, mut spread) = (f64::INFINITY, 0.0f64);
        let rows = x.chunks(reduction.tokens().max(1));
        for ((row, inside), scale) in rows
            .zip(reduction.inside.rows())
            .zip(&reduction.context_root)
        {
            let (mut low, mut high, mut off) =
                (f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY);
            for ((x, root), &inside) in row.iter().zip(&reduction.token_root).zip(inside) {
                let logit = x / (root * scale);
                if inside {
                    low = low.min(logit);
                    high = high.max(logit);
                } else {
                    off = off.max(logit);
                }
            }
            spread = spread.max(high - low);
            margin = margin.min(low - off);
        }
        match margin {
            // Nothing is to be told apart: weights of 0 do.
            f64::INFINITY => Some(Nearness {
                factor: 0.0,
                violation: 0.0,
            }),
            margin if margin > 0.0 => Some(Nearness {
                factor: 1.0 / margin,
                violation: spread / margin,
            }),
            _ => None,
        }
    }

    /// The share of the pairs of a context and a token off its support whose logit is not below every
    /// logit of the support, pairs counted before merging; 0 of none.
    pub fn confused(&self, x: &[f64]) -> f64 {
        let reduction = self.reduction;
        let (mut pairs, mut wrong) = (0.0, 0.0);
        let rows = x.chunks(reduction.tokens().max(1));
        for ((row, inside), repeats) in rows
            .zip(reduction.inside.rows())
            .zip(&reduction.context_count)
        {
            let logit = |i: usize| row[i] / reduction.token_root[i];
            let on = (0..row.len()).filter(|&i| inside[i]);
            let low = on.map(logit).fold(f64::INFINITY, f64::min);
            for i in (0..row.len()).filter(|&i| !inside[i]) {
                let count = repeats * reduction.token_count[i];
                pairs += count;
                wrong += if logit(i) < low { 0.0 } else { count };
            }
        }
        if pairs > 0.0 { wrong / pairs } else { 0.0 }
    }
}
