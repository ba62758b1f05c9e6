//! First-order optimisers with their state.

use lawvere_core::vector::{Real, sum_of_squares, vectorised};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::train::parameters::Parameters;

/// How gradients become steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Optimizer {
    /// Adam with decoupled weight decay.
    ///
    /// *Source:* Loshchilov, Hutter, *Decoupled weight decay regularization* (2019).
    AdamW {
        /// Decay of the mean of gradients.
        beta1: f64,
        /// Decay of the mean of squared gradients.
        beta2: f64,
        /// Added to the root of the latter.
        eps: f64,
    },
    /// Stochastic gradient descent with heavy-ball momentum (Polyak 1964): `m <- mu m + g`,
    /// `x <- x - lr m`.
    Sgd {
        /// mu; 0 is plain gradient descent.
        momentum: f64,
    },
}

impl Optimizer {
    /// AdamW as language models are usually trained.
    pub const ADAMW: Self = Self::AdamW {
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
    };

    /// How many tensors of moments it keeps for each parameter tensor.
    pub(crate) fn moments(self) -> usize {
        match self {
            Self::AdamW { .. } => 2,
            Self::Sgd { momentum: 0.0 } => 0,
            Self::Sgd { .. } => 1,
        }
    }
}

/// What a step is made with besides the gradient.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepSize {
    /// The learning rate of this step.
    pub rate: f64,
    /// Decoupled weight decay, on matrices only.
    pub weight_decay: f64,
    /// The number of this step, from 1.
    pub step: u64,
}

/// Entries that one task updates: a small tensor is not worth waking another thread for.
const TASK: usize = 1 << 15;

/// Updates `parameters` in place.
pub(crate) fn update<T: Real>(
    optimizer: Optimizer,
    size: StepSize,
    parameters: &mut Parameters<T>,
    gradient: &Parameters<T>,
    moments: &mut [Parameters<T>],
) {
    for (i, tensor) in parameters.0.iter_mut().enumerate() {
        let is_matrix = tensor.parts[0].shape.len() == 2;
        let decay = if is_matrix { size.weight_decay } else { 0.0 };
        let keep = T::of(1.0 - size.rate * decay);
        let values = tensor.values.data_mut().par_chunks_mut(TASK);
        let gradient = gradient.0[i].values.data().par_chunks(TASK);
        match (optimizer, &mut *moments) {
            (Optimizer::AdamW { beta1, beta2, eps }, [first, second]) => {
                let first = first.0[i].values.data_mut().par_chunks_mut(TASK);
                let second = second.0[i].values.data_mut().par_chunks_mut(TASK);
                let step = size.step.min(i32::MAX as u64) as i32;
                let rate = T::of(size.rate / (1.0 - beta1.powi(step)));
                let root = T::of(1.0 / (1.0 - beta2.powi(step)).sqrt());
                let (b1, b2, eps) = (T::of(beta1), T::of(beta2), T::of(eps));
                let (c1, c2) = (T::of(1.0 - beta1), T::of(1.0 - beta2));
                let chunks = values.zip(gradient).zip(first).zip(second);
                chunks.for_each(|(((x, g), m), v)| {
                    vectorised(
                        #[inline(always)]
                        || {
                            for (((x, &g), m), v) in x.iter_mut().zip(g).zip(m).zip(v) {
                                *m = b1 * *m + c1 * g;
                                *v = b2 * *v + c2 * g * g;
                                *x = *x * keep - rate * *m / (v.sqrt() * root + eps);
                            }
                        },
                    );
                });
            }
            (Optimizer::Sgd { momentum }, [first]) => {
                let first = first.0[i].values.data_mut().par_chunks_mut(TASK);
                let (mu, rate) = (T::of(momentum), T::of(size.rate));
                values.zip(gradient).zip(first).for_each(|((x, g), m)| {
                    vectorised(
                        #[inline(always)]
                        || {
                            for ((x, &g), m) in x.iter_mut().zip(g).zip(m) {
                                *m = mu * *m + g;
                                *x = *x * keep - rate * *m;
                            }
                        },
                    );
                });
            }
            // No moments: plain gradient descent.
            _ => {
                debug_assert_eq!(optimizer.moments(), 0);
                let rate = T::of(size.rate);
                values.zip(gradient).for_each(|(x, g)| {
                    vectorised(
                        #[inline(always)]
                        || {
                            let pairs = x.iter_mut().zip(g);
                            pairs.for_each(|(x, &g)| *x = *x * keep - rate * g);
                        },
                    );
                });
            }
        }
    }
}

/// The Euclidean norm of all entries together, in f64 and in a fixed order.
pub(crate) fn norm<T: Real>(tensors: &Parameters<T>) -> f64 {
    let tensor = |data: &[T]| -> f64 {
        let parts: Vec<f64> = data
            .par_chunks(TASK)
            .map(|chunk| {
                vectorised(
                    #[inline(always)]
                    || sum_of_squares(chunk),
                )
            })
            .collect();
        parts.iter().sum()
    };
    let squares: f64 = tensors.0.iter().map(|t| tensor(t.values.data())).sum();
    squares.sqrt()
}

/// Multiplies every entry by `factor`.
pub(crate) fn scale<T: Real>(tensors: &mut Parameters<T>, factor: f64) {
    let factor = T::of(factor);
    for tensor in &mut tensors.0 {
        let chunks = tensor.values.data_mut().par_chunks_mut(TASK);
        chunks.for_each(|chunk| {
            vectorised(
                #[inline(always)]
                || chunk.iter_mut().for_each(|x| *x *= factor),
            )
        });
    }
}

/// Adds the gradient of the ridge penalty `factor / 2 |parameters|^2` and returns the penalty.
pub(crate) fn add_ridge<T: Real>(
    gradient: &mut Parameters<T>,
    factor: f64,
    parameters: &Parameters<T>,
) -> f64 {
    let slope = T::of(factor);
    let mut squares = 0.0;
    for (gradient, parameters) in gradient.0.iter_mut().zip(&parameters.0) {
        let chunks = gradient.values.data_mut().par_chunks_mut(TASK);
        let parts: Vec<f64> = chunks
            .zip(parameters.values.data().par_chunks(TASK))
            .map(|(g, x)| {
                vectorised(
                    #[inline(always)]
                    || {
                        let pairs = g.iter_mut().zip(x);
                        pairs.for_each(|(g, &x)| *g += slope * x);
                        sum_of_squares(x)
                    },
                )
            })
            .collect();
        squares += parts.iter().sum::<f64>();
    }
    0.5 * factor * squares
}
