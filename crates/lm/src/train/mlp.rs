//! A multilayer perceptron over the last n tokens' embeddings.
//!
//! *Source:* Bengio, Ducharme, Vincent, Jauvin, *A neural probabilistic language model* (2003),
//! with rectified units and without the direct connections.

use lawvere_core::RowMatrix;
use lawvere_core::vector::Real;
use rayon::prelude::*;

use crate::train::MlpConfig;
use crate::train::layers::{
    TASK_ROWS, column_sums, linear, linear_input_gradient, linear_weight_gradient, reshape,
};
use crate::train::network::{Input, Network};
use crate::train::parameters::{Parameters, Spec, Start};

pub(crate) struct Mlp<T> {
    config: MlpConfig,
    /// The last n tokens' embeddings side by side, the oldest first; zeros where there is none.
    embedded: RowMatrix<T>,
    /// After each layer.
    hidden: Vec<RowMatrix<T>>,
}

impl<T: Real> Mlp<T> {
    pub fn new(config: MlpConfig) -> Self {
        Self {
            embedded: RowMatrix::zeros(0, 0),
            hidden: config
                .hidden_sizes
                .iter()
                .map(|_| RowMatrix::zeros(0, 0))
                .collect(),
            config,
        }
    }

    /// Calls `visit` with every token and the place of its embedding: a row, and a slot in it.
    fn for_each_slot(&self, input: Input<'_>, mut visit: impl FnMut(u32, usize, usize)) {
        let order = self.config.order;
        for (row, position) in input.positions().enumerate() {
            for slot in 0..order {
                let back = order - 1 - slot;
                if back <= position {
                    visit(input.tokens[row - back], row, slot);
                }
            }
        }
    }
}

impl<T: Real> Network<T> for Mlp<T> {
    fn specs(&self) -> Vec<Spec> {
        let c = &self.config;
        let mut specs = vec![Spec::matrix(
            "embedding.weight",
            c.vocab_size,
            c.embedding_size,
            Start::Normal(1.0),
        )];
        let mut inputs = c.order * c.embedding_size;
        for (l, &outputs) in c.hidden_sizes.iter().enumerate() {
            let start = Start::Normal((2.0 / inputs as f64).sqrt());
            let name = |what| format!("layers.{l}.{what}");
            specs.push(Spec::matrix(name("weight"), outputs, inputs, start));
            specs.push(Spec::vector(name("bias"), outputs, Start::Zeros));
            inputs = outputs;
        }
        let head = Start::Normal(0.1 / (inputs as f64).sqrt());
        specs.push(Spec::matrix("head.weight", c.vocab_size, inputs, head));
        specs
    }

    fn head(&self) -> usize {
        1 + 2 * self.config.hidden_sizes.len()
    }

    fn layers(&self) -> usize {
        self.config.hidden_sizes.len()
    }

    fn forward(&mut self, parameters: &Parameters<T>, input: Input<'_>) {
        let (rows, width) = (input.tokens.len(), self.config.embedding_size);
        let mut embedded = std::mem::replace(&mut self.embedded, RowMatrix::zeros(0, 0));
        reshape(&mut embedded, rows, self.config.order * width);
        embedded.data_mut().fill(T::default());
        let embedding = &parameters.0[0].values;
        self.for_each_slot(input, |token, row, slot| {
            let target = &mut embedded.row_mut(row)[slot * width..(slot + 1) * width];
            target.copy_from_slice(embedding.row(token as usize));
        });
        self.embedded = embedded;
        for l in 0..self.hidden.len() {
            let (before, rest) = self.hidden.split_at_mut(l);
            let x = before.last().unwrap_or(&self.embedded);
            let (out, outputs) = (&mut rest[0], self.config.hidden_sizes[l]);
            reshape(out, rows, outputs);
            linear(out, x, &parameters.0[1 + 2 * l].values);
            let bias = parameters.0[2 + 2 * l].values.data();
            let rows = out.data_mut().par_chunks_mut(TASK_ROWS * outputs);
            rows.flat_map_iter(|rows| rows.chunks_exact_mut(outputs))
                .for_each(|row| {
                    for (x, &b) in row.iter_mut().zip(bias) {
                        let sum = *x + b;
                        *x = if sum > T::default() {
                            sum
                        } else {
                            T::default()
                        };
                    }
                });
        }
    }

    fn states<'a>(&'a self, _: &'a Parameters<T>, layer: usize) -> &'a RowMatrix<T> {
        match layer {
            0 => &self.embedded,
            l => &self.hidden[l - 1],
        }
    }

    fn backward(
        &mut self,
        parameters: &Parameters<T>,
        input: Input<'_>,
        d_states: &mut RowMatrix<T>,
        gradient: &mut Parameters<T>,
    ) {
        let mut d_out = d_states.clone();
        for l in (0..self.hidden.len()).rev() {
            let values = d_out.data_mut().iter_mut().zip(self.hidden[l].data());
            for (d, &x) in values {
                if x <= T::default() {
                    *d = T::default();
                }
            }
            let x = if l == 0 {
                &self.embedded
            } else {
                &self.hidden[l - 1]
            };
            linear_weight_gradient(&mut gradient.0[1 + 2 * l].values, &d_out, x);
            column_sums(gradient.0[2 + 2 * l].values.data_mut(), &d_out);
            let mut d_x = RowMatrix::zeros(x.nrows(), x.ncols());
            linear_input_gradient(&mut d_x, &d_out, &parameters.0[1 + 2 * l].values);
            d_out = d_x;
        }
        let width = self.config.embedding_size;
        let embedding = &mut gradient.0[0].values;
        embedding.data_mut().fill(T::default());
        self.for_each_slot(input, |token, row, slot| {
            let d = &d_out.row(row)[slot * width..(slot + 1) * width];
            let target = embedding.row_mut(token as usize).iter_mut();
            target.zip(d).for_each(|(t, &d)| *t += d);
        });
    }
}
