use std::sync::Arc;

use lawvere_core::linalg::{matmul, matmul_add};
use lawvere_core::vector::{exp_shifted, maximum};
use lawvere_core::{RowMatrix, ratio_of_sums, sum};
use lawvere_observe::Observation;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::Serialize;

use crate::InformationError;
use crate::ahead::{positions, tokens_ahead};
use crate::layers::{head, raw_states};

/// How heads for tokens ahead are fitted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadOptions {
    /// Outcomes told apart: the most frequent tokens at the positions that heads are fitted on. All others
    /// are one outcome more.
    pub outcomes: usize,
    /// Positions of a step.
    pub batch: usize,
    /// The learning rate of the first step times the dimension of a state; it falls to 0. A fifth of it is
    /// tried too, which overfits less where little can be learned. (A step of Adam moves a logit by about the
    /// rate times the dimension, whatever the model.)
    pub learning_rate: f64,
    /// Passes over the positions at most. The rate falls to 0 in every four of them; fitting ends with four
    /// that lower the validation loss by less than 0.002 nats, and the best head of any pass is kept.
    pub epochs: usize,
    /// The share of documents whose loss says which head is best.
    pub validation: f64,
    /// The share of documents that results are of.
    pub test: f64,
    /// Random choices start from it.
    pub seed: u64,
}

impl Default for HeadOptions {
    fn default() -> Self {
        Self {
            outcomes: 2048,
            batch: 256,
            learning_rate: 0.5,
            epochs: 40,
            validation: 0.1,
            test: 0.25,
            seed: 0,
        }
    }
}

/// Shares of the learning rate that are tried.
const RATES: [f64; 2] = [1.0, 0.2];
/// Passes over the positions in which the rate falls to 0 once.
const CYCLE: usize = 4;
/// A fit ends with a cycle that lowers the validation loss by less than this, nats.
const TOLERANCE: f64 = 0.002;

/// The usable surplus of one layer about one token ahead.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UsableSurplus {
    /// The layer whose state a head sees.
    pub layer: usize,
    /// k: the token is `W_{t+k}`, and `W_t` is known.
    pub ahead: usize,
    /// The fall of the held-out loss from the head that sees `w_t` to the one that sees `(s_t, w_t)`, nats a
    /// token.
    pub gain: f64,
    /// Its standard error, documents taken as independent.
    pub error: f64,
    /// The held-out loss of the head that sees `w_t` alone, nats.
    pub baseline: f64,
    /// The held-out loss of the head that sees both, nats.
    pub loss: f64,
    /// Held-out positions.
    pub positions: usize,
    /// Passes over the positions, after the baseline's own.
    pub epochs: usize,
    /// Whether the last of them lowered the validation loss no more.
    pub converged: bool,
}

/// Usable surpluses, and what they rest on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UsableSurpluses {
    /// Layer by layer, token by token.
    pub readings: Vec<UsableSurplus>,
    /// Outcomes told apart, the one for all other tokens counted.
    pub outcomes: usize,
    /// The share of held-out tokens that are the outcome for all others.
    pub other_share: f64,
    /// Positions that heads are fitted on, at the first k.
    pub fitted_on: usize,
    /// Documents held out.
    pub test_documents: usize,
}

/// Heads that tell tokens ahead from a state and the token after it, of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct DraftHeads {
    /// The layer.
    pub layer: usize,
    /// The tokens that are told apart: outcome i is token `tokens[i]`.
    pub tokens: Vec<u32>,
    /// The documents that the heads were not fitted on and not stopped by, in order.
    pub held_out: Vec<u32>,
    inputs: Inputs,
    outputs: RowMatrix<f32>,
    heads: Vec<Head>,
}

impl DraftHeads {
    /// The number of tokens ahead that there are heads for.
    pub fn length(&self) -> usize {
        self.heads.len()
    }

    /// Multiply-adds of one head for one state.
    pub fn multiply_adds(&self) -> usize {
        let d = self.outputs.ncols();
        d * (2 * d + self.outputs.nrows())
    }

    /// For every k the laws of `W_{t+k}` over [`tokens`](Self::tokens) given states of the layer and the
    /// tokens `w_t` after them, rows x tokens: the fitted heads', restricted to these tokens.
    ///
    /// # Errors
    /// States of another dimension, not as many tokens as states, a token that is not in the head.
    pub fn laws(
        &self,
        states: &RowMatrix<f32>,
        tokens: &[u32],
    ) -> Result<Vec<RowMatrix<f32>>, InformationError> {
        self.inputs.check(states, tokens)?;
        let rows: Vec<usize> = (0..tokens.len()).collect();
        let inputs = self.inputs.gather(Some(states), &rows, tokens);
        self.heads
            .iter()
            .map(|head| {
                let mut logits = head.logits(&inputs, &self.outputs);
                let told_apart = self.tokens.len();
                let mut laws = RowMatrix::zeros(logits.nrows(), told_apart);
                for i in 0..logits.nrows() {
                    let row = &mut logits.row_mut(i)[..told_apart];
                    let largest = maximum(row);
                    let total = exp_shifted(row, largest);
                    let out = laws.row_mut(i).iter_mut().zip(row.iter());
                    out.for_each(|(o, x)| *o = x / total);
                }
                Ok(laws)
            })
            .collect()
    }
}

/// One position whose token ahead is known.
#[derive(Debug, Clone, Copy)]
struct Example {
    row: usize,
    token: u32,
    outcome: u32,
    document: u32,
}

/// Features of states and tokens: each dimension centred and scaled to one variance on the positions fitted
/// on.
#[derive(Debug, Clone, PartialEq)]
struct Inputs {
    state: Scaling,
    /// Scaled head rows: what stands for a token.
    tokens: Arc<RowMatrix<f32>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Scaling {
    mean: Vec<f32>,
    inverse: Vec<f32>,
}

impl Scaling {
    fn of<'a>(rows: impl Iterator<Item = &'a [f32]> + Clone, width: usize) -> Self {
        let count = rows.clone().count().max(1) as f64;
        let mut mean = vec![0.0f64; width];
        for row in rows.clone() {
            mean.iter_mut()
                .zip(row)
                .for_each(|(m, &x)| *m += f64::from(x) / count);
        }
        let mut square = vec![0.0f64; width];
        for row in rows {
            for ((s, &x), m) in square.iter_mut().zip(row).zip(&mean) {
                *s += (f64::from(x) - m).powi(2) / count;
            }
        }
        Self {
            inverse: square
                .iter()
                .map(|&s| {
                    if s > 0.0 {
                        (1.0 / s.sqrt()) as f32
                    } else {
                        0.0
                    }
                })
                .collect(),
            mean: mean.iter().map(|&m| m as f32).collect(),
        }
    }

    fn write(&self, row: &[f32], out: &mut [f32]) {
        let scaled = row.iter().zip(&self.mean).zip(&self.inverse);
        out.iter_mut()
            .zip(scaled)
            .for_each(|(o, ((x, m), s))| *o = (x - m) * s);
    }
}

impl Inputs {
    fn check(&self, states: &RowMatrix<f32>, tokens: &[u32]) -> Result<(), InformationError> {
        use lawvere_core::ShapeError;
        let width = self.state.mean.len();
        if (states.nrows(), states.ncols()) != (tokens.len(), width) {
            let expected = format!("{} x {width}", tokens.len());
            let found = format!("{} x {}", states.nrows(), states.ncols());
            return Err(ShapeError::new("states to draft from", expected, found).into());
        }
        let known = self.tokens.nrows();
        match tokens.iter().find(|&&t| t as usize >= known) {
            Some(token) => Err(ShapeError::new("a token", format!("below {known}"), token).into()),
            None => Ok(()),
        }
    }

    /// Rows of `(state, token)` features, or of token features where no state is seen.
    fn gather(
        &self,
        states: Option<&RowMatrix<f32>>,
        rows: &[usize],
        tokens: &[u32],
    ) -> RowMatrix<f32> {
        let d = self.tokens.ncols();
        let width = d + states.map_or(0, RowMatrix::ncols);
        let mut out = RowMatrix::zeros(rows.len(), width);
        out.data_mut()
            .par_chunks_mut(width)
            .zip(rows.par_iter().zip(tokens))
            .for_each(|(out, (&row, &token))| {
                out[..d].copy_from_slice(self.tokens.row(token as usize));
                if let Some(states) = states {
                    self.state.write(states.row(row), &mut out[d..]);
                }
            });
        out
    }
}

/// `logits = U (M x) + b`, M the maps of token and state features one above the other.
#[derive(Debug, Clone, PartialEq)]
struct Head {
    /// Features x d: B^T, and below it A^T where states are seen.
    map: RowMatrix<f32>,
    /// One value an outcome.
    bias: Vec<f32>,
}

impl Head {
    fn logits(&self, inputs: &RowMatrix<f32>, outputs: &RowMatrix<f32>) -> RowMatrix<f32> {
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
    fn widened(&self, by: usize) -> Self {
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
struct Fit {
    head: Head,
    /// The validation loss, nats.
    loss: f64,
    epochs: usize,
    converged: bool,
}

/// Positions with their tokens ahead, split by documents.
struct Data<'a> {
    observation: &'a Observation,
    options: &'a HeadOptions,
    /// What every position shows ahead, its own next token first.
    ahead: Vec<Vec<u32>>,
    /// 0: fitted on, 1: validation, 2: held out; by document.
    part: Vec<u8>,
    outcome_of: Vec<u32>,
    tokens: Vec<u32>,
    outputs: RowMatrix<f32>,
    token_features: Arc<RowMatrix<f32>>,
}

impl<'a> Data<'a> {
    fn new(
        observation: &'a Observation,
        furthest: usize,
        options: &'a HeadOptions,
    ) -> Result<Self, InformationError> {
        check(options)?;
        let positions = positions(observation)?;
        let weight = &head(observation)?.weight;
        let mut documents = positions.document.clone();
        documents.sort_unstable();
        documents.dedup();
        let part_sizes = |share: f64| ((documents.len() as f64 * share).round() as usize).max(1);
        let (validation, test) = (part_sizes(options.validation), part_sizes(options.test));
        if documents.len() < validation + test + 1 || documents.len() < 8 {
            return Err(InformationError::TooFew {
                what: "a fitted head, with documents to stop by and documents held out,",
                of: "documents",
                needed: 8,
                found: documents.len(),
            });
        }
        let mut order = documents.clone();
        order.shuffle(&mut StdRng::seed_from_u64(options.seed));
        let last = documents.last().map_or(0, |&d| d as usize);
        let mut part = vec![0u8; last + 1];
        order[..test].iter().for_each(|&d| part[d as usize] = 2);
        order[test..test + validation]
            .iter()
            .for_each(|&d| part[d as usize] = 1);
        let ahead = tokens_ahead(positions, furthest + 1);
        let vocab = weight.nrows();
        let mut frequency = vec![0u64; vocab];
        for (row, ahead) in ahead.iter().enumerate() {
            let fitted = part[positions.document[row] as usize] == 0;
            if let Some(&token) = ahead.first().filter(|&&t| fitted && (t as usize) < vocab) {
                frequency[token as usize] += 1;
            }
        }
        let mut tokens: Vec<u32> = (0..vocab as u32)
            .filter(|&t| frequency[t as usize] > 0)
            .collect();
        tokens.sort_by_key(|&t| (std::cmp::Reverse(frequency[t as usize]), t));
        tokens.truncate(options.outcomes);
        let mut outcome_of = vec![tokens.len() as u32; vocab];
        (0..)
            .zip(&tokens)
            .for_each(|(i, &t)| outcome_of[t as usize] = i);
        // A token's features are its head row; each dimension scaled over the tokens told apart.
        let scaling = Scaling::of(
            tokens.iter().map(|&t| weight.row(t as usize)),
            weight.ncols(),
        );
        let mut token_features = RowMatrix::zeros(vocab, weight.ncols());
        for t in 0..vocab {
            scaling.write(weight.row(t), token_features.row_mut(t));
        }
        Ok(Self {
            observation,
            options,
            ahead,
            part,
            outputs: output_rows(weight, &tokens),
            outcome_of,
            tokens,
            token_features: Arc::new(token_features),
        })
    }

    /// Positions of one part that show the token `ahead`.
    fn examples(&self, ahead: usize, part: u8) -> Result<Vec<Example>, InformationError> {
        let positions = positions(self.observation)?;
        let vocab = self.outcome_of.len();
        Ok((0..self.ahead.len())
            .filter(|&row| self.part[positions.document[row] as usize] == part)
            .filter_map(|row| {
                let (&token, &target) = (self.ahead[row].first()?, self.ahead[row].get(ahead)?);
                let outcome = *self.outcome_of.get(target as usize)?;
                ((token as usize) < vocab).then_some(Example {
                    row,
                    token,
                    outcome,
                    document: positions.document[row],
                })
            })
            .collect())
    }

    fn split(&self, ahead: usize) -> Result<[Vec<Example>; 3], InformationError> {
        let parts = [
            self.examples(ahead, 0)?,
            self.examples(ahead, 1)?,
            self.examples(ahead, 2)?,
        ];
        if let Some(few) = parts.iter().find(|p| p.len() < 2) {
            return Err(InformationError::argument(
                "k",
                format!(
                    "{ahead}: too few windows reach a token {ahead} after the next ({} positions in one part of the documents); take a smaller k, longer documents or longer windows",
                    few.len()
                ),
            ));
        }
        Ok(parts)
    }

    fn inputs(&self, layer: Option<usize>, fitted: &[Example]) -> Result<Inputs, InformationError> {
        let state = match layer {
            None => Scaling {
                mean: Vec::new(),
                inverse: Vec::new(),
            },
            Some(layer) => {
                let (_, states) = raw_states(self.observation, Some(layer))?;
                let rows = fitted.iter().map(|e| states.row(e.row));
                Scaling::of(rows, states.ncols())
            }
        };
        Ok(Inputs {
            state,
            tokens: self.token_features.clone(),
        })
    }

    /// The bias that gives every outcome its frequency.
    fn unigram(&self, fitted: &[Example]) -> Head {
        let count = self.outputs.nrows();
        // Half an occurrence more, so that none is impossible.
        let mut frequency = vec![0.5; count];
        fitted
            .iter()
            .for_each(|e| frequency[e.outcome as usize] += 1.0);
        let total = sum(frequency.iter().copied());
        Head {
            map: RowMatrix::zeros(self.token_features.ncols(), self.outputs.ncols()),
            bias: frequency.iter().map(|f| (f / total).ln() as f32).collect(),
        }
    }

    /// A first fit of the head that sees the next token alone: where both heads start.
    fn baseline(&self, inputs: &Inputs, fitted: &[Example], validation: &[Example]) -> Head {
        self.fit(inputs, None, self.unigram(fitted), fitted, validation)
            .head
    }

    fn fit(
        &self,
        inputs: &Inputs,
        states: Option<&RowMatrix<f32>>,
        start: Head,
        fitted: &[Example],
        validation: &[Example],
    ) -> Fit {
        let mean_loss = |head: &Head| {
            let losses = self.losses(inputs, states, head, validation);
            sum(losses.iter().copied()) / losses.len() as f64
        };
        let mut rng = StdRng::seed_from_u64(self.options.seed);
        let mut fit = Fit {
            loss: mean_loss(&start),
            head: start,
            epochs: 0,
            converged: false,
        };
        let mut cycle = |fit: &mut Fit, from: &Head, share: f64| {
            let before = fit.loss;
            let mut fitting = Fitting::new(from.clone());
            let left = self.options.epochs.saturating_sub(fit.epochs);
            for _ in 0..CYCLE.min(left) {
                self.epoch(&mut fitting, inputs, states, fitted, share, &mut rng);
                fit.epochs += 1;
                let loss = mean_loss(&fitting.head);
                if loss < fit.loss {
                    fit.loss = loss;
                    fit.head = fitting.head.clone();
                }
            }
            before - fit.loss
        };
        // Both rates from the same start; then on with the better one.
        let start = fit.head.clone();
        let [first, second] = RATES;
        cycle(&mut fit, &start, first);
        let gained = cycle(&mut fit, &start, second);
        let share = if gained > 0.0 { second } else { first };
        while fit.epochs + CYCLE <= self.options.epochs {
            let from = fit.head.clone();
            if cycle(&mut fit, &from, share) < TOLERANCE {
                fit.converged = true;
                break;
            }
        }
        fit
    }

    /// One pass over the positions; the rate falls to 0 along a half period of the cosine over a cycle.
    fn epoch(
        &self,
        fitting: &mut Fitting,
        inputs: &Inputs,
        states: Option<&RowMatrix<f32>>,
        fitted: &[Example],
        share: f64,
        rng: &mut StdRng,
    ) {
        let options = self.options;
        let mut order: Vec<usize> = (0..fitted.len()).collect();
        order.shuffle(rng);
        let highest = share * options.learning_rate / self.outputs.ncols() as f64;
        let steps = (CYCLE * fitted.len().div_ceil(options.batch)) as f64;
        for batch in order.chunks(options.batch) {
            let batch: Vec<Example> = batch.iter().map(|&i| fitted[i]).collect();
            let way = f64::from(fitting.step) / steps;
            let rate = 0.5 * highest * (1.0 + (std::f64::consts::PI * way).cos());
            fitting.step(self, inputs, states, &batch, rate);
        }
    }

    /// The loss of every example, nats.
    fn losses(
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
                    let largest = maximum(row);
                    let own = f64::from(row[example.outcome as usize] - largest);
                    f64::from(exp_shifted(row, largest)).ln() - own
                })
                .collect();
            losses.extend(found);
        }
        losses
    }
}

fn gather(
    inputs: &Inputs,
    states: Option<&RowMatrix<f32>>,
    examples: &[Example],
) -> RowMatrix<f32> {
    let rows: Vec<usize> = examples.iter().map(|e| e.row).collect();
    let tokens: Vec<u32> = examples.iter().map(|e| e.token).collect();
    inputs.gather(states, &rows, &tokens)
}

/// Head rows of the tokens told apart and, last, the mean of all others; centred and of mean square length 1,
/// which a linear map before them takes back.
fn output_rows(weight: &RowMatrix<f32>, tokens: &[u32]) -> RowMatrix<f32> {
    let d = weight.ncols();
    let mut chosen = vec![false; weight.nrows()];
    tokens.iter().for_each(|&t| chosen[t as usize] = true);
    let others = weight.nrows() - tokens.len();
    let mut rest = vec![0.0f64; d];
    for (row, _) in weight.rows().zip(&chosen).filter(|(_, c)| !**c) {
        rest.iter_mut()
            .zip(row)
            .for_each(|(r, &u)| *r += f64::from(u) / others as f64);
    }
    let count = tokens.len() + 1;
    let value = |i: usize, k: usize| match tokens.get(i) {
        Some(&t) => f64::from(weight.get(t as usize, k)),
        None => rest[k],
    };
    let mean: Vec<f64> = (0..d)
        .map(|k| sum((0..count).map(|i| value(i, k))) / count as f64)
        .collect();
    let square = sum((0..count * d).map(|j| (value(j / d, j % d) - mean[j % d]).powi(2)));
    let scale = match square > 0.0 {
        true => (count as f64 / square).sqrt(),
        false => 1.0,
    };
    RowMatrix::from_fn(count, d, |i, k| (scale * (value(i, k) - mean[k])) as f32)
}

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
                let largest = maximum(row);
                let factor = scale / exp_shifted(row, largest);
                row.iter_mut().for_each(|q| *q *= factor);
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
            for (((x, &g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
                *m = BETA.0 * *m + (1.0 - BETA.0) * g;
                *v = BETA.1 * *v + (1.0 - BETA.1) * g * g;
                *x -= rate * *m / (v.sqrt() + 1e-8);
            }
        });
}

fn check(options: &HeadOptions) -> Result<(), InformationError> {
    let shares = [("validation", options.validation), ("test", options.test)];
    for (name, share) in shares {
        if !(share > 0.0 && share < 0.5) {
            return Err(InformationError::argument(
                name,
                format!("{share}: it must be more than 0 and less than a half"),
            ));
        }
    }
    if !(options.learning_rate > 0.0 && options.learning_rate.is_finite()) {
        return Err(InformationError::argument(
            "learning-rate",
            format!("{}: it must be a number above 0", options.learning_rate),
        ));
    }
    for (name, count) in [
        ("outcomes", options.outcomes),
        ("batch", options.batch),
        ("epochs", options.epochs),
    ] {
        if count == 0 {
            return Err(InformationError::argument(name, "it must be at least 1"));
        }
    }
    Ok(())
}

fn check_ahead(ahead: &[usize]) -> Result<usize, InformationError> {
    match (ahead.iter().min(), ahead.iter().max()) {
        (None, _) => Err(InformationError::argument("k", "none is given")),
        (Some(0), _) => Err(InformationError::argument(
            "k",
            "0 is the next token itself; give 1 or more, tokens after the next",
        )),
        (_, Some(&furthest)) => Ok(furthest),
        (_, None) => Ok(0),
    }
}

/// The usable surplus of `layers` (all that are kept, if none is named) about the tokens `ahead` of the
/// next: how much a linear head on `(s_t, w_t)` knows about `W_{t+k}` that the nested head on `w_t` alone
/// does not, on held-out documents.
///
/// Heads are `softmax(U (A s_t + B e(w_t)) + b)`: U the model's own head rows for the most frequent tokens
/// and their mean for all others (one outcome), e(w) the head row of w, baseline A = 0. Both are
/// fits by Adam, stopped by the loss on documents of their own. Both are fitted in the same way from the same
/// start, a first fit of the baseline, so that a state that tells nothing gains exactly nothing. Since the
/// baseline is restricted too, the gain bounds no mutual information; and what a better fit or more positions
/// would use is not in it. The sum over k is neither a lower nor an upper bound of the block surplus.
///
/// Cost: six times positions x outcomes x d multiply-adds a pass and head.
///
/// *Source:* Xu et al., *A theory of usable information under computational constraints* (2020); heads for
/// tokens ahead: Cai et al., *Medusa* (2024); arXiv 2507.19247, information surplus.
///
/// # Errors
/// An Observation of contexts or without a model, an unknown layer, k = 0 or beyond what windows show, too
/// few documents, options out of range.
pub fn usable_surplus(
    observation: &Observation,
    layers: &[usize],
    ahead: &[usize],
    options: &HeadOptions,
    on_head: &mut dyn FnMut(usize, usize),
) -> Result<UsableSurpluses, InformationError> {
    let furthest = check_ahead(ahead)?;
    let layers = match layers {
        [] => {
            let states = observation.states.as_ref();
            let states = states.ok_or(InformationError::NeedsModel)?;
            states.layers().map(|(l, _)| l).collect()
        }
        some => some.to_vec(),
    };
    for &layer in &layers {
        raw_states(observation, Some(layer))?;
    }
    let data = Data::new(observation, furthest, options)?;
    let total = ahead.len() * (layers.len() + 1);
    let mut done = 0;
    let mut readings = Vec::new();
    let (mut fitted_on, mut others) = (0, (0, 0));
    for &k in ahead {
        let [fitted, validation, test] = data.split(k)?;
        if fitted_on == 0 {
            fitted_on = fitted.len();
        }
        let other = data.tokens.len() as u32;
        others.0 += test.iter().filter(|e| e.outcome == other).count();
        others.1 += test.len();
        let inputs = data.inputs(None, &fitted)?;
        let start = data.baseline(&inputs, &fitted, &validation);
        let baseline = data.fit(&inputs, None, start.clone(), &fitted, &validation);
        let baseline_losses = data.losses(&inputs, None, &baseline.head, &test);
        done += 1;
        on_head(done, total);
        for &layer in &layers {
            let (_, states) = raw_states(observation, Some(layer))?;
            let inputs = data.inputs(Some(layer), &fitted)?;
            let start = start.widened(states.ncols());
            let fit = data.fit(&inputs, Some(states), start, &fitted, &validation);
            let losses = data.losses(&inputs, Some(states), &fit.head, &test);
            let (gain, error) = gain(&test, &baseline_losses, &losses);
            let mean = |values: &[f64]| sum(values.iter().copied()) / values.len() as f64;
            readings.push(UsableSurplus {
                layer,
                ahead: k,
                gain,
                error,
                baseline: mean(&baseline_losses),
                loss: mean(&losses),
                positions: test.len(),
                epochs: fit.epochs,
                converged: fit.converged && baseline.converged,
            });
            done += 1;
            on_head(done, total);
        }
    }
    readings.sort_by_key(|r| (r.layer, r.ahead));
    Ok(UsableSurpluses {
        readings,
        outcomes: data.outputs.nrows(),
        other_share: others.0 as f64 / others.1.max(1) as f64,
        fitted_on,
        test_documents: data.part.iter().filter(|&&p| p == 2).count(),
    })
}

/// The mean fall of the loss and its standard error, documents taken as independent.
fn gain(examples: &[Example], before: &[f64], after: &[f64]) -> (f64, f64) {
    let mut documents: std::collections::BTreeMap<u32, (f64, usize)> = Default::default();
    for (example, (before, after)) in examples.iter().zip(before.iter().zip(after)) {
        let entry = documents.entry(example.document).or_default();
        entry.0 += before - after;
        entry.1 += 1;
    }
    ratio_of_sums(documents.values().copied())
}

/// Heads for the tokens 1 to `length` ahead of the next, on the states of one layer (the last without a
/// number): what a drafter samples from.
///
/// Fitted as [`usable_surplus`] fits them; documents held out there are held out here too.
///
/// # Errors
/// As [`usable_surplus`].
pub fn draft_heads(
    observation: &Observation,
    layer: Option<usize>,
    length: usize,
    options: &HeadOptions,
    on_head: &mut dyn FnMut(usize, usize),
) -> Result<DraftHeads, InformationError> {
    let ahead: Vec<usize> = (1..=length).collect();
    let furthest = check_ahead(&ahead)?;
    let (layer, states) = raw_states(observation, layer)?;
    let data = Data::new(observation, furthest, options)?;
    let [first, _, _] = data.split(1)?;
    let inputs = data.inputs(Some(layer), &first)?;
    let mut heads = Vec::with_capacity(length);
    for k in ahead {
        let [fitted, validation, _] = data.split(k)?;
        let alone = data.inputs(None, &fitted)?;
        let start = data.baseline(&alone, &fitted, &validation);
        let start = start.widened(states.ncols());
        let fit = data.fit(&inputs, Some(states), start, &fitted, &validation);
        heads.push(fit.head);
        on_head(k, length);
    }
    Ok(DraftHeads {
        layer,
        tokens: data.tokens.clone(),
        held_out: (0..)
            .zip(&data.part)
            .filter(|(_, p)| **p == 2)
            .map(|(d, _)| d)
            .collect(),
        inputs,
        outputs: data.outputs.clone(),
        heads,
    })
}
