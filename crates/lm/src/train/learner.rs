//! One step of training: loss, gradient, update.

use lawvere_core::vector::Real;
use lawvere_core::{RowMatrix, sum};

use crate::train::loss::{HeadGradient, Targets, cross_entropy};
use crate::train::network::{Input, Network};
use crate::train::optimizer::{Optimizer, StepSize, add_ridge, norm, scale, update};
use crate::train::parameters::Parameters;

/// A network with its parameters and the state of its optimiser.
pub(crate) struct Learner<T> {
    pub network: Box<dyn Network<T>>,
    pub parameters: Parameters<T>,
    pub moments: Vec<Parameters<T>>,
    gradient: Parameters<T>,
    d_kept: RowMatrix<T>,
    d_states: RowMatrix<T>,
    logits: Vec<T>,
}

/// What a step works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub input: Input<'a>,
    /// The rows whose states the head reads; `None` for all of them.
    pub kept: Option<&'a [usize]>,
    pub targets: Targets<'a>,
}

/// How a step is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub optimizer: Optimizer,
    pub size: StepSize,
    /// Factor of `|parameters|^2 / 2` in the loss.
    pub ridge: f64,
    /// Longer gradients are shortened to this.
    pub clip: Option<f64>,
}

/// The loss of a batch, nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Loss {
    pub cross_entropy: f64,
    /// `ridge / 2 |parameters|^2`.
    pub penalty: f64,
}

impl<T: Real> Learner<T> {
    pub fn new(network: Box<dyn Network<T>>, moments: usize, seed: u64) -> Self {
        let parameters = Parameters::begin(&network.specs(), seed);
        Self {
            moments: (0..moments).map(|_| parameters.zeros_like()).collect(),
            gradient: parameters.zeros_like(),
            parameters,
            network,
            d_kept: RowMatrix::zeros(0, 0),
            d_states: RowMatrix::zeros(0, 0),
            logits: Vec::new(),
        }
    }

    /// The states that the head reads of a batch, rows x d.
    pub fn kept_states(&mut self, batch: Batch<'_>) -> RowMatrix<T> {
        self.network.forward(&self.parameters, batch.input);
        let states = self.network.states(&self.parameters, self.network.layers());
        match batch.kept {
            Some(rows) => gather(states, rows),
            None => states.clone(),
        }
    }

    /// The cross-entropy of a batch, nothing learned from it: each row's part.
    pub fn cross_entropy(&mut self, batch: Batch<'_>) -> Vec<f64> {
        let states = self.kept_states(batch);
        let head = &self.parameters.0[self.network.head()].values;
        cross_entropy(head, &states, batch.targets, None, &mut self.logits)
    }

    /// The cross-entropy of a batch; its gradient is kept.
    pub fn differentiate(&mut self, batch: Batch<'_>) -> f64 {
        self.network.forward(&self.parameters, batch.input);
        let states = self.network.states(&self.parameters, self.network.layers());
        let (rows, d) = (states.nrows(), states.ncols());
        let kept = batch.kept.map(|rows| gather(states, rows));
        let read = kept.as_ref().unwrap_or(states);
        let head = self.network.head();
        if (self.d_kept.nrows(), self.d_kept.ncols()) != (read.nrows(), d) {
            self.d_kept = RowMatrix::zeros(read.nrows(), d);
        }
        let loss = cross_entropy(
            &self.parameters.0[head].values,
            read,
            batch.targets,
            Some(HeadGradient {
                head: &mut self.gradient.0[head].values,
                states: &mut self.d_kept,
            }),
            &mut self.logits,
        );
        let d_states = match batch.kept {
            None => &mut self.d_kept,
            Some(kept) => {
                self.d_states = RowMatrix::zeros(rows, d);
                for (i, &row) in kept.iter().enumerate() {
                    let target = self.d_states.row_mut(row).iter_mut();
                    target.zip(self.d_kept.row(i)).for_each(|(t, &d)| *t += d);
                }
                &mut self.d_states
            }
        };
        let network = &mut self.network;
        network.backward(&self.parameters, batch.input, d_states, &mut self.gradient);
        sum(loss)
    }

    /// The gradient of the last [`differentiate`](Self::differentiate).
    #[cfg(test)]
    pub fn gradient(&mut self) -> &mut Parameters<T> {
        &mut self.gradient
    }

    /// One step down the gradient; the loss is that before it.
    pub fn step(&mut self, batch: Batch<'_>, rule: Rule) -> Loss {
        let cross_entropy = self.differentiate(batch);
        let mut penalty = 0.0;
        if rule.ridge > 0.0 {
            penalty = add_ridge(&mut self.gradient, rule.ridge, &self.parameters);
        }
        if let Some(limit) = rule.clip {
            let length = norm(&self.gradient);
            if length > limit {
                scale(&mut self.gradient, limit / length);
            }
        }
        update(
            rule.optimizer,
            rule.size,
            &mut self.parameters,
            &self.gradient,
            &mut self.moments,
        );
        Loss {
            cross_entropy,
            penalty,
        }
    }
}

fn gather<T: Real>(states: &RowMatrix<T>, rows: &[usize]) -> RowMatrix<T> {
    let mut out = RowMatrix::zeros(rows.len(), states.ncols());
    for (i, &row) in rows.iter().enumerate() {
        out.row_mut(i).copy_from_slice(states.row(row));
    }
    out
}
