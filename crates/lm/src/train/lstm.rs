//! A long short-term memory, several layers, zero states before every window.
//!
//! *Source:* Hochreiter, Schmidhuber (1997), with the forget gate of Gers, Schmidhuber, Cummins
//! (2000); tensors are named and laid out as in PyTorch (gates in the order input, forget, cell,
//! output).

use faer::{MatMut, MatRef};
use lawvere_core::RowMatrix;
use lawvere_core::linalg::matmul;
use lawvere_core::vector::{Real, vectorised};

use crate::train::LstmConfig;
use crate::train::layers::{
    column_sums, embed, embed_gradient, linear, linear_input_gradient, linear_weight_gradient,
    reshape, sigmoid,
};
use crate::train::network::{Input, Network};
use crate::train::parameters::{Parameters, Spec, Start};

/// Tensors of a layer, from its first one on.
const INPUT_WEIGHT: usize = 0;
const RECURRENT_WEIGHT: usize = 1;
const INPUT_BIAS: usize = 2;
const RECURRENT_BIAS: usize = 3;
const LAYER_TENSORS: usize = 4;

pub(crate) struct Lstm<T> {
    config: LstmConfig,
    embedded: RowMatrix<T>,
    layers: Vec<LayerTape<T>>,
}

/// What a layer's forward pass leaves: a row a token.
struct LayerTape<T> {
    /// Input, forget, cell and output gates, after their nonlinearities.
    gates: RowMatrix<T>,
    cells: RowMatrix<T>,
    outputs: RowMatrix<T>,
    /// Each token's predecessor's outputs, zero at the beginning of a window.
    previous: RowMatrix<T>,
}

impl<T: Real> Lstm<T> {
    pub fn new(config: LstmConfig) -> Self {
        let empty = || RowMatrix::zeros(0, 0);
        let layer = |_| LayerTape {
            gates: empty(),
            cells: empty(),
            outputs: empty(),
            previous: empty(),
        };
        Self {
            layers: (0..config.layers).map(layer).collect(),
            embedded: empty(),
            config,
        }
    }

    fn tensor(layer: usize, k: usize) -> usize {
        1 + layer * LAYER_TENSORS + k
    }
}

/// The tokens at which a time step finds each window that is long enough, and where windows begin.
struct Steps {
    starts: Vec<usize>,
    lengths: Vec<usize>,
    longest: usize,
}

impl Steps {
    fn new(windows: &[usize]) -> Self {
        let starts = windows
            .iter()
            .scan(0, |at, &length| {
                *at += length;
                Some(*at - length)
            })
            .collect();
        let longest = windows.iter().copied().max().unwrap_or(0);
        Self {
            starts,
            lengths: windows.to_vec(),
            longest,
        }
    }

    /// Rows of step `t`.
    fn rows(&self, t: usize) -> Vec<usize> {
        let long = self.lengths.iter().zip(&self.starts);
        long.filter(|(length, _)| **length > t)
            .map(|(_, start)| start + t)
            .collect()
    }
}

/// `out = rows w^T` for the given rows of `x`, gathered.
fn gathered_product<T: Real>(
    x: &RowMatrix<T>,
    rows: &[usize],
    weight: MatRef<'_, T>,
    gathered: &mut Vec<T>,
    out: &mut Vec<T>,
) {
    let width = x.ncols();
    gathered.clear();
    rows.iter()
        .for_each(|&row| gathered.extend_from_slice(x.row(row)));
    out.resize(rows.len() * weight.ncols(), T::default());
    matmul(
        MatMut::from_row_major_slice_mut(out, rows.len(), weight.ncols()),
        MatRef::from_row_major_slice(gathered, rows.len(), width),
        weight,
    );
}

impl<T: Real> Network<T> for Lstm<T> {
    fn specs(&self) -> Vec<Spec> {
        let c = &self.config;
        let h = c.hidden_size;
        let start = Start::Normal(1.0 / (h as f64).sqrt());
        let embedding = Start::Normal(1.0);
        let mut specs = vec![Spec::matrix(
            "embedding.weight",
            c.vocab_size,
            c.embedding_size,
            embedding,
        )];
        for l in 0..c.layers {
            let inputs = if l == 0 { c.embedding_size } else { h };
            specs.push(Spec::matrix(
                format!("lstm.weight_ih_l{l}"),
                4 * h,
                inputs,
                start,
            ));
            specs.push(Spec::matrix(
                format!("lstm.weight_hh_l{l}"),
                4 * h,
                h,
                start,
            ));
            for bias in ["ih", "hh"] {
                let name = format!("lstm.bias_{bias}_l{l}");
                specs.push(Spec::vector(name, 4 * h, Start::Zeros));
            }
        }
        let head = Start::Normal(0.1 / (h as f64).sqrt());
        specs.push(Spec::matrix("head.weight", c.vocab_size, h, head));
        specs
    }

    fn head(&self) -> usize {
        Self::tensor(self.config.layers, 0)
    }

    fn layers(&self) -> usize {
        self.config.layers
    }

    fn forward(&mut self, parameters: &Parameters<T>, input: Input<'_>) {
        let (rows, h) = (input.tokens.len(), self.config.hidden_size);
        let tensor = |l, k| &parameters.0[Self::tensor(l, k)].values;
        reshape(&mut self.embedded, rows, self.config.embedding_size);
        embed(&mut self.embedded, &parameters.0[0].values, input.tokens);
        let steps = Steps::new(input.windows);
        let (mut gathered, mut recurrent) = (Vec::new(), Vec::new());
        for l in 0..self.config.layers {
            let (before, rest) = self.layers.split_at_mut(l);
            let tape = &mut rest[0];
            let x = before.last().map_or(&self.embedded, |below| &below.outputs);
            reshape(&mut tape.gates, rows, 4 * h);
            for matrix in [&mut tape.cells, &mut tape.outputs, &mut tape.previous] {
                reshape(matrix, rows, h);
            }
            linear(&mut tape.gates, x, tensor(l, INPUT_WEIGHT));
            let biases = [INPUT_BIAS, RECURRENT_BIAS].map(|k| tensor(l, k).data());
            let weight = tensor(l, RECURRENT_WEIGHT).view().transpose();
            for t in 0..steps.longest {
                let at = steps.rows(t);
                recurrent.clear();
                recurrent.resize(at.len() * 4 * h, T::default());
                if t > 0 {
                    let earlier: Vec<usize> = at.iter().map(|&row| row - 1).collect();
                    let outputs = &tape.outputs;
                    gathered_product(outputs, &earlier, weight, &mut gathered, &mut recurrent);
                }
                for (&row, recurrent) in at.iter().zip(recurrent.chunks_exact(4 * h)) {
                    if t == 0 {
                        tape.previous.row_mut(row).fill(T::default());
                    } else {
                        let outputs = tape.outputs.row(row - 1);
                        tape.previous.row_mut(row).copy_from_slice(outputs);
                    }
                    let cells = tape.cells.data_mut();
                    let (earlier, cell) = cells.split_at_mut(row * h);
                    let earlier = (t > 0).then(|| &earlier[(row - 1) * h..]);
                    step(
                        tape.gates.row_mut(row),
                        recurrent,
                        biases,
                        earlier,
                        &mut cell[..h],
                        tape.outputs.row_mut(row),
                    );
                }
            }
        }
    }

    fn states<'a>(&'a self, _: &'a Parameters<T>, layer: usize) -> &'a RowMatrix<T> {
        match layer {
            0 => &self.embedded,
            l => &self.layers[l - 1].outputs,
        }
    }

    fn backward(
        &mut self,
        parameters: &Parameters<T>,
        input: Input<'_>,
        d_states: &mut RowMatrix<T>,
        gradient: &mut Parameters<T>,
    ) {
        let (rows, h) = (input.tokens.len(), self.config.hidden_size);
        let steps = Steps::new(input.windows);
        let (mut gathered, mut carried) = (Vec::new(), Vec::new());
        let mut d_gates = RowMatrix::zeros(rows, 4 * h);
        let mut d_cells: RowMatrix<T> = RowMatrix::zeros(rows, h);
        for l in (0..self.config.layers).rev() {
            let tape = &self.layers[l];
            let weight = parameters.0[Self::tensor(l, RECURRENT_WEIGHT)]
                .values
                .view();
            d_cells.data_mut().fill(T::default());
            for t in (0..steps.longest).rev() {
                let at = steps.rows(t);
                for &row in &at {
                    let earlier = (t > 0).then(|| tape.cells.row(row - 1));
                    let (before, current) = d_cells.data_mut().split_at_mut(row * h);
                    let d_earlier = (t > 0).then(|| &mut before[(row - 1) * h..]);
                    step_gradient(
                        d_gates.row_mut(row),
                        tape.gates.row(row),
                        (earlier, tape.cells.row(row)),
                        d_states.row(row),
                        &current[..h],
                        d_earlier,
                    );
                }
                if t > 0 {
                    gathered_product(&d_gates, &at, weight, &mut gathered, &mut carried);
                    for (&row, carried) in at.iter().zip(carried.chunks_exact(h)) {
                        let target = d_states.row_mut(row - 1);
                        target.iter_mut().zip(carried).for_each(|(d, &c)| *d += c);
                    }
                }
            }
            let x = if l == 0 {
                &self.embedded
            } else {
                &self.layers[l - 1].outputs
            };
            let [input_weight, recurrent_weight, input_bias, recurrent_bias] =
                &mut gradient.0[Self::tensor(l, 0)..Self::tensor(l + 1, 0)]
            else {
                unreachable!("a layer has {LAYER_TENSORS} tensors");
            };
            linear_weight_gradient(&mut input_weight.values, &d_gates, x);
            linear_weight_gradient(&mut recurrent_weight.values, &d_gates, &tape.previous);
            column_sums(input_bias.values.data_mut(), &d_gates);
            let sums = input_bias.values.data();
            recurrent_bias.values.data_mut().copy_from_slice(sums);
            let weight = &parameters.0[Self::tensor(l, INPUT_WEIGHT)].values;
            if l == 0 {
                let mut d_embedded = RowMatrix::zeros(rows, self.config.embedding_size);
                linear_input_gradient(&mut d_embedded, &d_gates, weight);
                let embedding = &mut gradient.0[0].values;
                embedding.data_mut().fill(T::default());
                embed_gradient(embedding, &d_embedded, input.tokens);
            } else {
                linear_input_gradient(d_states, &d_gates, weight);
            }
        }
    }
}

/// One token through one layer; `gates` holds the inputs' part before and the gates after.
fn step<T: Real>(
    gates: &mut [T],
    recurrent: &[T],
    biases: [&[T]; 2],
    earlier: Option<&[T]>,
    cell: &mut [T],
    output: &mut [T],
) {
    let h = cell.len();
    vectorised(
        #[inline(always)]
        || {
            for (k, gate) in gates.iter_mut().enumerate() {
                *gate += recurrent[k] + biases[0][k] + biases[1][k];
            }
            let (input_forget, cell_output) = gates.split_at_mut(2 * h);
            let (candidates, outputs) = cell_output.split_at_mut(h);
            input_forget.iter_mut().for_each(|x| *x = sigmoid(*x));
            candidates.iter_mut().for_each(|x| *x = x.tanh());
            outputs.iter_mut().for_each(|x| *x = sigmoid(*x));
            let (inputs, forgets) = input_forget.split_at(h);
            for k in 0..h {
                let kept = earlier.map_or(T::default(), |e| forgets[k] * e[k]);
                cell[k] = kept + inputs[k] * candidates[k];
                output[k] = outputs[k] * cell[k].tanh();
            }
        },
    );
}

/// The derivative of [`step`] by what entered its nonlinearities, and by the earlier cell.
fn step_gradient<T: Real>(
    d_gates: &mut [T],
    gates: &[T],
    (earlier, cell): (Option<&[T]>, &[T]),
    d_output: &[T],
    d_cell: &[T],
    mut d_earlier: Option<&mut [T]>,
) {
    let h = cell.len();
    let one = T::of(1.0);
    vectorised(
        #[inline(always)]
        || {
            for k in 0..h {
                let [i, f, g, o] = [gates[k], gates[h + k], gates[2 * h + k], gates[3 * h + k]];
                let squashed = cell[k].tanh();
                let d_cell = d_cell[k] + d_output[k] * o * (one - squashed * squashed);
                let before = earlier.map_or(T::default(), |e| e[k]);
                d_gates[k] = d_cell * g * i * (one - i);
                d_gates[h + k] = d_cell * before * f * (one - f);
                d_gates[2 * h + k] = d_cell * i * (one - g * g);
                d_gates[3 * h + k] = d_output[k] * squashed * o * (one - o);
                if let Some(d_earlier) = &mut d_earlier {
                    d_earlier[k] = d_cell * f;
                }
            }
        },
    );
}
