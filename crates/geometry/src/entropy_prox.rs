use lawvere_core::{RowMatrix, sum, wright_omega};

use crate::margin::for_rows;
use crate::reduction::Reduction;

/// Newton steps on a column's level, which from any start end quadratically.
const LEVEL_STEPS: usize = 60;

/// The cross-entropy of logits in weighted coordinates, `sum_j pi_j CE_j`, by its proximal points.
pub(crate) struct CrossEntropy<'a> {
    reduction: &'a Reduction,
    /// c x r, 0 off the supports.
    probabilities: &'a RowMatrix<f64>,
    weights: &'a [f64],
    columns: Vec<Column>,
    /// `log s - log p` on the supports and `s` off them, s the softmax of the last proximal point:
    /// what cancels nowhere, however small the penalty.
    ratios: RowMatrix<f64>,
}

/// What is known of a column after its last proximal point.
#[derive(Clone, Default)]
struct Column {
    level: f64,
    /// Places and probabilities of the support.
    on: Vec<(usize, f64)>,
    /// Places off the support.
    off: Vec<usize>,
    room: Vec<f64>,
    ratio: Vec<f64>,
}

impl<'a> CrossEntropy<'a> {
    pub fn new(
        reduction: &'a Reduction,
        probabilities: &'a RowMatrix<f64>,
        weights: &'a [f64],
    ) -> Self {
        let columns = (0..reduction.contexts())
            .map(|j| {
                let row = probabilities.row(j);
                Column {
                    on: (0..row.len())
                        .filter(|&i| row[i] > 0.0)
                        .map(|i| (i, row[i]))
                        .collect(),
                    off: (0..row.len()).filter(|&i| row[i] == 0.0).collect(),
                    ..Column::default()
                }
            })
            .collect();
        Self {
            reduction,
            probabilities,
            weights,
            columns,
            ratios: RowMatrix::zeros(reduction.contexts(), reduction.tokens()),
        }
    }

    /// Replaces every column of `x` by the minimiser of `pi_j CE_j(l) / lambda + rho |l - x|^2 / 2`.
    ///
    /// With `c = pi_j / (lambda rho)` and logits normalised by the column's level kappa, entries of
    /// the support solve `delta + c p expm1(delta) = t - log p - kappa` and others
    /// `y + c e^y = t - kappa`, where kappa makes the probabilities `p e^delta` and `e^y` sum to 1.
    /// The condition on kappa is a decreasing convex equation, so Newton's method cannot get lost.
    pub fn proximal(&mut self, x: &mut RowMatrix<f64>, penalty: f64) {
        let reduction = self.reduction;
        let weights = self.weights;
        for_rows(x, &mut self.columns, |j, row, column| {
            let scale = reduction.context_root[j];
            for (t, root) in row.iter_mut().zip(&reduction.token_root) {
                *t /= root * scale;
            }
            column.solve(row, &reduction.token_count, weights[j] / penalty);
            for (l, root) in row.iter_mut().zip(&reduction.token_root) {
                *l *= root * scale;
            }
        });
        for (j, column) in self.columns.iter().enumerate() {
            let row = self.ratios.row_mut(j);
            for (&(i, _), delta) in column.on.iter().zip(&column.ratio) {
                row[i] = *delta;
            }
            for (&i, s) in column.off.iter().zip(&column.room) {
                row[i] = *s;
            }
        }
    }

    /// `CE - H = sum_j pi_j KL(p_j || s_j)` at the last proximal point, every term positive.
    pub fn excess(&self) -> f64 {
        self.columns_sum(|r, p, ratio| match p > 0.0 {
            true => r * p * (ratio.exp_m1() - ratio),
            false => r * ratio,
        })
    }

    /// `sum_j pi_j KL((1-t) p_j + t s_j || s_j)` at the last proximal point.
    pub fn mixture_divergence(&self, t: f64) -> f64 {
        // With x = q/s - 1 a term is s ((1 + x) log(1 + x) - x).
        let term = |x: f64| (1.0 + x) * x.ln_1p() - x;
        self.columns_sum(|r, p, ratio| match p > 0.0 {
            true => r * p * ratio.exp() * term((1.0 - t) * (-ratio).exp_m1()),
            false if t > 0.0 => r * ratio * term(t - 1.0),
            false => r * ratio,
        })
    }

    /// `|P_F(L) - L^in|_F` at the last proximal point.
    pub fn finite_distance(&self) -> f64 {
        let counts = &self.reduction.token_count;
        let column = |j: usize| {
            let (ratios, on) = (self.ratios.row(j), &self.columns[j].on);
            let weight = sum(on.iter().map(|&(i, _)| counts[i]));
            let mean = sum(on.iter().map(|&(i, _)| counts[i] * ratios[i])) / weight;
            let terms = on
                .iter()
                .map(|&(i, _)| counts[i] * (ratios[i] - mean).powi(2));
            self.reduction.context_count[j] * sum(terms)
        };
        sum((0..self.columns.len()).map(column)).sqrt()
    }

    /// `sum_j c_j pi_j sum_i f(r_i, p_ij, ratio_ij)`.
    fn columns_sum(&self, f: impl Fn(f64, f64, f64) -> f64) -> f64 {
        let counts = &self.reduction.token_count;
        sum((0..self.columns.len()).map(|j| {
            let entries = self.probabilities.row(j).iter().zip(self.ratios.row(j));
            let terms = counts.iter().zip(entries).map(|(&r, (&p, &x))| f(r, p, x));
            self.reduction.context_count[j] * self.weights[j] * sum(terms)
        }))
    }
}

impl Column {
    /// Replaces targets by logits; `ratio` becomes delta on the support, `room` the probabilities off
    /// it.
    fn solve(&mut self, row: &mut [f64], counts: &[f64], c: f64) {
        let log_c = c.ln();
        self.ratio.resize(self.on.len(), 0.0);
        self.room.resize(self.off.len(), 0.0);
        let mut level = self.level;
        for step in 0..LEVEL_STEPS {
            // c times the excess of total probability over 1, and c times its slope.
            let (mut excess, mut slope) = (0.0, 0.0);
            for (&(i, p), delta) in self.on.iter().zip(&mut self.ratio) {
                *delta = tilt(row[i] - p.ln() - level, c * p, *delta);
                let grown = c * p * delta.exp();
                excess += counts[i] * c * p * delta.exp_m1();
                slope -= counts[i] * grown / (1.0 + grown);
            }
            for (slot, &i) in self.room.iter_mut().zip(&self.off) {
                *slot = row[i] - level + log_c;
            }
            wright_omega(&mut self.room);
            for (w, &i) in self.room.iter().zip(&self.off) {
                excess += counts[i] * w;
                slope -= counts[i] * w / (1.0 + w);
            }
            let change = excess / slope;
            let settled = change.abs() <= 1e-14 * level.abs().max(1.0);
            if settled || step + 1 == LEVEL_STEPS || !change.is_finite() {
                break;
            }
            level -= change;
        }
        self.level = level;
        for (&(i, p), delta) in self.on.iter().zip(&self.ratio) {
            row[i] = p.ln() + level + delta;
        }
        // l = y + kappa = t - c e^y.
        for (w, &i) in self.room.iter_mut().zip(&self.off) {
            row[i] -= *w;
            *w /= c;
        }
    }
}

/// The solution of `delta + a expm1(delta) = b`, by Newton from `start`.
fn tilt(b: f64, a: f64, start: f64) -> f64 {
    // An increasing convex equation: from the right of the root the way is monotone. The root lies
    // between 0 and b, and for positive b below log(1 + b/a).
    let high = if b > 0.0 { b.min((b / a).ln_1p()) } else { 0.0 };
    let mut delta = start.clamp(b.min(0.0), high);
    for _ in 0..100 {
        let step = (delta + a * delta.exp_m1() - b) / (1.0 + a * delta.exp());
        let next = (delta - step).clamp(b.min(0.0), high);
        let moved = (next - delta).abs();
        delta = next;
        if moved <= 1e-16 + 4e-16 * delta.abs() {
            break;
        }
    }
    delta
}
