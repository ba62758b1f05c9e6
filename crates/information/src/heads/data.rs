//! Positions with the tokens ahead of them, and what heads see of them.

use std::sync::Arc;

use lawvere_core::{RowMatrix, sum};
use lawvere_observe::Observation;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::HeadOptions;
use super::fit::Head;
use crate::InformationError;
use crate::ahead::{positions, tokens_ahead};
use crate::layers::{head, raw_states};

/// One position whose token ahead is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Example {
    pub row: usize,
    pub token: u32,
    pub outcome: u32,
    pub document: u32,
}

/// Features of states and tokens: each dimension centred and scaled to one variance on the positions fitted
/// on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Inputs {
    state: Scaling,
    /// Scaled head rows: what stands for a token.
    tokens: Arc<RowMatrix<f32>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scaling {
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
    pub fn check(&self, states: &RowMatrix<f32>, tokens: &[u32]) -> Result<(), InformationError> {
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
    pub fn gather(
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

/// What the positions of a document are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Fitted,
    Validation,
    HeldOut,
}

/// Positions with their tokens ahead, split by documents.
pub(super) struct Data<'a> {
    pub observation: &'a Observation,
    pub options: &'a HeadOptions,
    /// The argument that says how far ahead is looked.
    argument: &'static str,
    /// What every position shows ahead, its own next token first.
    ahead: Vec<Vec<u32>>,
    /// All documents, in order.
    documents: Vec<u32>,
    /// What each of them is for.
    part: Vec<Part>,
    outcome_of: Vec<u32>,
    pub tokens: Vec<u32>,
    pub outputs: RowMatrix<f32>,
    token_features: Arc<RowMatrix<f32>>,
}

impl<'a> Data<'a> {
    pub fn new(
        observation: &'a Observation,
        furthest: usize,
        argument: &'static str,
        options: &'a HeadOptions,
    ) -> Result<Self, InformationError> {
        options.check()?;
        let positions = positions(observation)?;
        let weight = &head(observation)?.weight;
        let mut documents = positions.document.clone();
        documents.sort_unstable();
        documents.dedup();
        let part_size = |share: f64| (documents.len() as f64 * share).round() as usize;
        // One document held out would have no error.
        let (validation, test) = (
            part_size(options.validation).max(1),
            part_size(options.test).max(2),
        );
        if documents.len() < validation + test + 1 || documents.len() < 8 {
            return Err(InformationError::TooFew {
                what: "a fitted head, with documents to stop by and documents held out,",
                of: "documents",
                needed: 8,
                found: documents.len(),
            });
        }
        let mut order: Vec<usize> = (0..documents.len()).collect();
        order.shuffle(&mut StdRng::seed_from_u64(options.seed));
        let mut part = vec![Part::Fitted; documents.len()];
        for (at, &document) in order.iter().enumerate().take(test + validation) {
            part[document] = if at < test {
                Part::HeldOut
            } else {
                Part::Validation
            };
        }
        let part_of = |document| {
            let place = documents.binary_search(&document);
            place.map_or(Part::Fitted, |i| part[i])
        };
        let ahead = tokens_ahead(positions, furthest + 1);
        let vocab = weight.nrows();
        let mut frequency = vec![0u64; vocab];
        for (row, ahead) in ahead.iter().enumerate() {
            let fitted = part_of(positions.document[row]) == Part::Fitted;
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
            argument,
            ahead,
            part,
            documents,
            outputs: output_rows(weight, &tokens),
            outcome_of,
            tokens,
            token_features: Arc::new(token_features),
        })
    }

    /// The documents of one part, in order.
    pub fn documents_of(&self, part: Part) -> Vec<u32> {
        let pairs = self.documents.iter().zip(&self.part);
        pairs
            .filter(|(_, p)| **p == part)
            .map(|(d, _)| *d)
            .collect()
    }

    /// Positions of one part that show the token `ahead`.
    fn examples(&self, ahead: usize, part: Part) -> Result<Vec<Example>, InformationError> {
        let positions = positions(self.observation)?;
        let (vocab, wanted) = (self.outcome_of.len(), self.documents_of(part));
        Ok((0..self.ahead.len())
            .filter(|&row| wanted.binary_search(&positions.document[row]).is_ok())
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

    /// Positions that show the token `ahead`: to fit on, to stop by, held out.
    pub fn split(&self, ahead: usize) -> Result<[Vec<Example>; 3], InformationError> {
        let parts = [
            self.examples(ahead, Part::Fitted)?,
            self.examples(ahead, Part::Validation)?,
            self.examples(ahead, Part::HeldOut)?,
        ];
        if let Some(few) = parts.iter().find(|p| p.len() < 2) {
            return Err(InformationError::argument(
                self.argument,
                format!(
                    "{ahead}: too few windows reach a token {ahead} after the next ({} positions in one part of the documents); look less far ahead, or take longer documents or longer windows",
                    few.len()
                ),
            ));
        }
        Ok(parts)
    }

    pub fn inputs(
        &self,
        layer: Option<usize>,
        fitted: &[Example],
    ) -> Result<Inputs, InformationError> {
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
    pub fn unigram(&self, fitted: &[Example]) -> Head {
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
}

pub(super) fn gather(
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
