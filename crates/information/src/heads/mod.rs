//! Heads for the tokens after the next, fitted on the states of running text.

mod data;
mod fit;

use lawvere_core::vector::{exp_shifted, maximum};
use lawvere_core::{RowMatrix, ratio_of_sums, sum};
use lawvere_observe::Observation;
use serde::Serialize;

use crate::InformationError;
use crate::layers::raw_states;
use data::{Data, Example, Inputs, Part};
use fit::Head;

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
    /// Passes over the positions at most. The rate falls to 0 in every four of them, or in as many as make 300
    /// steps, a third of all at most; fitting ends when that lowers the validation loss by less than 0.002 nats, and the best head of
    /// any pass is kept.
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
            epochs: 120,
            validation: 0.1,
            test: 0.25,
            seed: 0,
        }
    }
}

impl HeadOptions {
    /// Whether they can be fitted by.
    ///
    /// # Errors
    /// Shares that are not between 0 and a half, a learning rate that is no number above 0, counts of 0.
    pub fn check(&self) -> Result<(), InformationError> {
        let shares = [("validation", self.validation), ("test", self.test)];
        for (name, share) in shares {
            if !(share > 0.0 && share < 0.5) {
                return Err(InformationError::argument(
                    name,
                    format!("{share}: it must be more than 0 and less than a half"),
                ));
            }
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(InformationError::argument(
                "learning-rate",
                format!("{}: it must be a number above 0", self.learning_rate),
            ));
        }
        for (name, count) in [
            ("outcomes", self.outcomes),
            ("batch", self.batch),
            ("epochs", self.epochs),
        ] {
            if count == 0 {
                return Err(InformationError::argument(name, "it must be at least 1"));
            }
        }
        Ok(())
    }
}

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
    /// Positions that heads are fitted on.
    pub fitted_on: usize,
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

fn furthest(ahead: &[usize]) -> Result<usize, InformationError> {
    match (ahead.iter().min(), ahead.iter().max()) {
        (None, _) => Err(InformationError::argument("ahead", "none is given")),
        (Some(0), _) => Err(InformationError::argument(
            "ahead",
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
/// fitted by Adam and stopped by the loss on documents set apart, in the same way and from the same start, a
/// first fit of the baseline, so that a state that tells nothing gains exactly nothing. Since the
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
/// few documents, options out of range, a learning rate at which losses only rise.
pub fn usable_surplus(
    observation: &Observation,
    layers: &[usize],
    ahead: &[usize],
    options: &HeadOptions,
    on_head: &mut dyn FnMut(usize, usize),
) -> Result<UsableSurpluses, InformationError> {
    let furthest = furthest(ahead)?;
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
    let data = Data::new(observation, furthest, "ahead", options)?;
    let total = ahead.len() * (layers.len() + 1);
    let mut done = 0;
    let mut readings = Vec::new();
    let mut others = (0, 0);
    for &k in ahead {
        let [fitted, validation, test] = data.split(k)?;
        let other = data.tokens.len() as u32;
        others.0 += test.iter().filter(|e| e.outcome == other).count();
        others.1 += test.len();
        let inputs = data.inputs(None, &fitted)?;
        let start = data.baseline(&inputs, &fitted, &validation)?;
        let baseline = data.fit(&inputs, None, start.clone(), &fitted, &validation)?;
        let baseline_losses = data.losses(&inputs, None, &baseline.head, &test);
        done += 1;
        on_head(done, total);
        for &layer in &layers {
            let (_, states) = raw_states(observation, Some(layer))?;
            let inputs = data.inputs(Some(layer), &fitted)?;
            let start = start.widened(states.ncols());
            let fit = data.fit(&inputs, Some(states), start, &fitted, &validation)?;
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
                fitted_on: fitted.len(),
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
        test_documents: data.documents_of(Part::HeldOut).len(),
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
    if length == 0 {
        return Err(InformationError::argument(
            "length",
            "it must be at least 1",
        ));
    }
    let (layer, states) = raw_states(observation, layer)?;
    let data = Data::new(observation, length, "length", options)?;
    let [first, _, _] = data.split(1)?;
    let inputs = data.inputs(Some(layer), &first)?;
    let mut heads = Vec::with_capacity(length);
    for k in 1..=length {
        let [fitted, validation, _] = data.split(k)?;
        let alone = data.inputs(None, &fitted)?;
        let start = data.baseline(&alone, &fitted, &validation)?;
        let start = start.widened(states.ncols());
        let fit = data.fit(&inputs, Some(states), start, &fitted, &validation)?;
        heads.push(fit.head);
        on_head(k, length);
    }
    Ok(DraftHeads {
        layer,
        tokens: data.tokens.clone(),
        held_out: data.documents_of(Part::HeldOut),
        inputs,
        outputs: data.outputs.clone(),
        heads,
    })
}
