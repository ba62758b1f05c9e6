//! Heads and how they are fitted.

use lawvere_core::linalg::{matmul, matmul_add};
use lawvere_core::vector::{exp_shifted, maximum, vectorised};
use lawvere_core::{RowMatrix, sum};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::data::{Data, Example, Inputs, gather};
use crate::InformationError;

/// Shares of the learning rate that are tried.
const RATES: [f64; 2] = [1.0, 0.2];
/// Passes over the positions in which the rate falls to 0 once, if they make as many steps as that takes.
const CYCLE: usize = 4;
const CYCLE_STEPS: usize = 300;
/// A cycle ends early when its last `CYCLE` passes have all been worse than the least loss before them and the last
/// one by more than this, nats: few positions are learned by heart long before the rate has fallen.
const WORSE: f64 = 0.01;
/// A fit ends with a cycle that lowers the validation loss by less than this, nats.
const TOLERANCE: f64 = 0.002;

/// `logits = U (M x) + b`, M the maps of token and state features one above the other.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Head {
    /// Features x d: B^T, and below it A^T where states are seen.
    pub map: RowMatrix<f32>,
    /// One value an outcome.
    pub bias: Vec<f32>,
}

impl Head {
    pub fn logits(&self, inputs: &RowMatrix<f32>, outputs: &RowMatrix<f32>) -> RowMatrix<f32> {
        let mut hidden = RowMatrix::zeros(inputs.nrows(), self.map.ncols());
        matmul(hidden.view_mut(), inputs.view(), self.map.view());
        let mut logits = RowMatrix::zeros(hidden.nrows(), outputs.nrows());
        for i in 0..hidden.nrows() {
            logits.row_mut(i).copy_from_slice(&self.bias);
        }
        matmul_add(logits.view_mut(), hidden.view(), outputs.view().transpose());
        logits
    }

    /// With room for state features, of which nothing is made yet.
    pub fn widened(&self, by: usize) -> Self {
        let (rows, d) = (self.map.nrows(), self.map.ncols());
        Self {
            map: RowMatrix::from_fn(rows + by, d, |i, j| {
                if i < rows { self.map.get(i, j) } else { 0.0 }
            }),
            bias: self.bias.clone(),
        }
    }
}

/// A head as it was fitted.
pub(super) struct Fit {
    pub head: Head,
    /// The validation loss, nats.
    loss: f64,
    pub epochs: usize,
    pub converged: bool,
}

impl Data<'_> {
    /// A first fit of the head that sees the next token alone: where both heads start.
    pub fn baseline(
        &self,
        inputs: &Inputs,
        fitted: &[Example],
        validation: &[Example],
    ) -> Result<Head, InformationError> {
        let fit = self.fit(inputs, None, self.unigram(fitted), fitted, validation)?;
        Ok(fit.head)
    }

    pub fn fit(
        &self,
        inputs: &Inputs,
        states: Option<&RowMatrix<f32>>,
        start: Head,
        fitted: &[Example],
        validation: &[Example],
    ) -> Result<Fit, InformationError> {
        let mean_loss = |head: &Head| {
            let losses = self.losses(inputs, states, head, validation);
            sum(losses.iter().copied()) / losses.len() as f64
        };
        let mut rng = StdRng::seed_from_u64(self.options.seed);
        let steps = fitted.len().div_ceil(self.options.batch).max(1);
        // Both rates are tried, and there is one more cycle, however few passes are asked for.
        let most = (self.options.epochs / 3).max(1);
        let passes = CYCLE.max(CYCLE_STEPS.div_ceil(steps)).min(most);
        let first_loss = mean_loss(&start);
        let mut fit = Fit {
            loss: first_loss,
            head: start,
            epochs: 0,
            converged: false,
        };
        // The fall of the least loss so far, and the least loss of the cycle.
        let mut cycle = |fit: &mut Fit, from: &Head, share: f64| {
            let (before, mut least, mut since) = (fit.loss, f64::INFINITY, 0);
            let mut fitting = Fitting::new(from.clone());
            let left = self.options.epochs.saturating_sub(fit.epochs);
            for _ in 0..passes.min(left) {
                let pace = (share, passes * steps);
                self.epoch(&mut fitting, inputs, states, fitted, pace, &mut rng);
                fit.epochs += 1;
                let loss = mean_loss(&fitting.head);
                since = if loss < least { 0 } else { since + 1 };
                least = least.min(loss);
                if loss < fit.loss {
                    fit.loss = loss;
                    fit.head = fitting.head.clone();
                }
                if since >= CYCLE && loss > least + WORSE {
                    break;
                }
            }
            (before - fit.loss, least)
        };
        // Both rates from the same start; then on with the better one.
        let start = fit.head.clone();
        let [first, second] = RATES;
        let (_, least) = cycle(&mut fit, &start, first);
        let (gained, other) = cycle(&mut fit, &start, second);
        if least.min(other) > first_loss + FAR {
            return Err(InformationError::argument(
                "learning-rate",
                format!(
                    "{}: the loss rises from {first_loss:.3} to {:.3} nats and more; take a smaller one",
                    self.options.learning_rate,
                    least.min(other)
                ),
            ));
        }
        let share = if gained > 0.0 { second } else { first };
        while fit.epochs + passes <= self.options.epochs {
            let from = fit.head.clone();
            if cycle(&mut fit, &from, share).0 < TOLERANCE {
                fit.converged = true;
                break;
            }
        }
        Ok(fit)
    }

    /// One pass over the positions; the rate falls to 0 along a half period of the cosine over the `steps` of a cycle.
    fn epoch(
        &self,
        fitting: &mut Fitting,
        inputs: &Inputs,
        states: Option<&RowMatrix<f32>>,
        fitted: &[Example],
        (share, steps): (f64, usize),
        rng: &mut StdRng,
    ) {
        let options = self.options;
        let mut order: Vec<usize> = (0..fitted.len()).collect();
        order.shuffle(rng);
        let highest = share * options.learning_rate / self.outputs.ncols() as f64;
        for batch in order.chunks(options.batch) {
            let batch: Vec<Example> = batch.iter().map(|&i| fitted[i]).collect();
            let way = f64::from(fitting.step) / steps as f64;
            let rate = 0.5 * highest * (1.0 + (std::f64::consts::PI * way).cos());
            fitting.step(self, inputs, states, &batch, rate);
        }
    }

    /// The loss of every example, nats.
    pub fn losses(
        &self,
        inputs: &Inputs,
        states: Option<&RowMatrix<f32>>,
        head: &Head,
        examples: &[Example],
    ) -> Vec<f64> {
        const ROWS: usize = 1024;
        let mut losses = Vec::with_capacity(examples.len());
        for part in examples.chunks(ROWS) {
            let x = gather(inputs, states, part);
            let mut logits = head.logits(&x, &self.outputs);
            let width = logits.ncols();
            let found: Vec<f64> = logits
                .data_mut()
                .par_chunks_mut(width)
                .zip(part)
                .map(|(row, example)| {
                    let own = row[example.outcome as usize];
                    let (largest, total) = vectorised(
                        #[inline(always)]
                        || {
                            let largest = maximum(row);
                            (largest, exp_shifted(row, largest))
                        },
                    );
                    f64::from(total).ln() - f64::from(own - largest)
                })
                .collect();
            losses.extend(found);
        }
        losses
    }
}

/// A fit whose every pass is worse than its start by more than this, nats, does not work.
const FAR: f64 = 1.0;

/// A head on its way, with the moments of its gradients (Adam).
struct Fitting {
    head: Head,
    map: [RowMatrix<f32>; 2],
    bias: [Vec<f32>; 2],
    step: i32,
}

impl Fitting {
    fn new(head: Head) -> Self {
        let zeros = || RowMatrix::zeros(head.map.nrows(), head.map.ncols());
        let nothing = || vec![0.0; head.bias.len()];
        Self {
            map: [zeros(), zeros()],
            bias: [nothing(), nothing()],
            step: 0,
            head,
        }
    }

    fn step(
        &mut self,
        data: &Data<'_>,
        inputs: &Inputs,
        states: Option<&RowMatrix<f32>>,
        batch: &[Example],
        rate: f64,
    ) {
        let x = gather(inputs, states, batch);
        // The gradient of the mean loss in the logits: the law less the outcome.
        let mut gradient = self.head.logits(&x, &data.outputs);
        let scale = 1.0 / batch.len() as f32;
        let width = gradient.ncols();
        gradient
            .data_mut()
            .par_chunks_mut(width)
            .zip(batch)
            .for_each(|(row, example)| {
                vectorised(
                    #[inline(always)]
                    || {
                        let largest = maximum(row);
                        let factor = scale / exp_shifted(row, largest);
                        row.iter_mut().for_each(|q| *q *= factor);
                    },
                );
                row[example.outcome as usize] -= scale;
            });
        let mut hidden = RowMatrix::<f32>::zeros(batch.len(), data.outputs.ncols());
        matmul(hidden.view_mut(), gradient.view(), data.outputs.view());
        let mut map = RowMatrix::<f32>::zeros(x.ncols(), hidden.ncols());
        matmul(map.view_mut(), x.view().transpose(), hidden.view());
        let mut bias = vec![0.0f32; width];
        for row in gradient.rows() {
            bias.iter_mut().zip(row).for_each(|(b, g)| *b += g);
        }
        self.step += 1;
        let [first, second] = &mut self.map;
        let size = (rate, self.step);
        adam(
            self.head.map.data_mut(),
            map.data(),
            first.data_mut(),
            second.data_mut(),
            size,
        );
        let [first, second] = &mut self.bias;
        adam(&mut self.head.bias, &bias, first, second, size);
    }
}

/// A step of Adam. *Source:* Kingma, Ba, *Adam* (2015).
fn adam(
    values: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    (rate, step): (f64, i32),
) {
    const BETA: (f32, f32) = (0.9, 0.99);
    const PART: usize = 1 << 14;
    let corrected =
        (1.0 - f64::from(BETA.1).powi(step)).sqrt() / (1.0 - f64::from(BETA.0).powi(step));
    let rate = (rate * corrected) as f32;
    values
        .par_chunks_mut(PART)
        .zip(gradient.par_chunks(PART))
        .zip(first.par_chunks_mut(PART))
        .zip(second.par_chunks_mut(PART))
        .for_each(|(((values, gradient), first), second)| {
            vectorised(
                #[inline(always)]
                || {
                    let moments = first.iter_mut().zip(second);
                    for ((x, &g), (m, v)) in values.iter_mut().zip(gradient).zip(moments) {
                        *m = BETA.0 * *m + (1.0 - BETA.0) * g;
                        *v = BETA.1 * *v + (1.0 - BETA.1) * g * g;
                        *x -= rate * *m / (v.sqrt() + 1e-8);
                    }
                },
            );
        });
}
