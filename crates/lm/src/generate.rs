//! Sampling texts, many at once, with the keys and values of what was read kept.

use std::ops::Range;

use lawvere_core::vector::{dot, exp_shifted, maximum, vectorised};
use lawvere_core::{ContextBatch, Factored, KernelError, RowMatrix};
use rayon::prelude::*;
use serde::Serialize;

use crate::attention::{HeadLayout, Past, Sight, attend, ends_of_windows};
use crate::decoder::{Decoder, Memory, Tokens, Workspace};
use crate::error::LmError;
use crate::model::{LanguageModel, check_finite};
use crate::sampling::{Dice, Sampling};

/// What to generate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generation {
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Texts that go on each prompt.
    pub samples: usize,
    /// The most tokens of a text.
    pub most: usize,
    /// Tokens that end a text; they are its last.
    pub stop: Vec<u32>,
    /// Where chance comes from: a text depends on the seed, its prompt, the prompt's place among the
    /// prompts and its number, and to rounding not on the others.
    pub seed: u64,
}

/// Why a text ends where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// With one of the tokens that end a text.
    Stop,
    /// It has as many tokens as asked for.
    Length,
    /// The model reads no further.
    Window,
}

/// A text that goes on a prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generated {
    /// The index of its prompt.
    pub prompt: usize,
    /// Its number among those of its prompt.
    pub sample: usize,
    /// Its tokens, the prompt's not among them.
    pub tokens: Vec<u32>,
    /// The model's log-probability of each, in nats, before temperature and cuts.
    pub log_probs: Vec<f32>,
    /// Why it ends.
    pub finish: Finish,
}

/// Texts generated side by side, at most: their keys and values are held until the last of them ends.
const TEXTS_AT_ONCE: usize = 64;
/// Bytes that these keys and values may take; a single text takes what it needs.
const BYTES_AT_ONCE: usize = 1 << 30;
/// Tokens of prompts read together, unless one prompt is longer.
const PROMPT_TOKENS: usize = 1024;

/// A text on its way.
struct Text {
    prompt: usize,
    sample: usize,
    tokens: Vec<u32>,
    log_probs: Vec<f32>,
    dice: Dice,
    finish: Option<Finish>,
}

impl LanguageModel {
    /// Goes on every prompt, `samples` times each; texts come prompt by prompt. A decoder reads each
    /// prompt once for up to 64 texts and then one token a step, these texts side by side; the other
    /// networks read each text again at every step. Memory beyond the model's: the keys and values of
    /// those texts, of which there are fewer if they would take more than 1 GiB.
    ///
    /// # Errors
    /// An empty prompt where the model has no beginning-of-text token, a prompt longer than the model
    /// reads, a token outside the vocabulary, [`Sampling::check`].
    pub fn generate(
        &self,
        prompts: &[&[u32]],
        generation: &Generation,
    ) -> Result<Vec<Generated>, LmError> {
        generation.sampling.check()?;
        let vocab_size = self.architecture().vocab_size();
        if let Some(token) = generation.stop.iter().find(|&&t| t as usize >= vocab_size) {
            return Err(LmError::Argument(format!(
                "the stop token {token} is outside the vocabulary of {vocab_size} tokens"
            )));
        }
        let contexts = ContextBatch::of_contexts(prompts.iter().copied());
        self.check(&contexts, 0..contexts.len())?;
        let mut texts: Vec<Text> = (0..prompts.len())
            .flat_map(|prompt| (0..generation.samples).map(move |sample| (prompt, sample)))
            .map(|(prompt, sample)| Text {
                prompt,
                sample,
                tokens: Vec::new(),
                log_probs: Vec::new(),
                dice: Dice::new(generation.seed, (prompt as u64) << 32 | sample as u64),
                finish: (generation.most == 0).then_some(Finish::Length),
            })
            .collect();
        if generation.most > 0 {
            let at_once = self.texts_at_once(prompts, generation);
            for texts in texts.chunks_mut(at_once) {
                // On a thread of the pool: a step has hundreds of small products, and each would be handed over to it.
                rayon::scope(|_| match self.decoder() {
                    Some(decoder) => self.go_on(decoder, prompts, texts, generation),
                    None => self.read_again(prompts, texts, generation),
                })?;
            }
        }
        let done = texts.into_iter().map(|text| Generated {
            prompt: text.prompt,
            sample: text.sample,
            tokens: text.tokens,
            log_probs: text.log_probs,
            finish: text.finish.unwrap_or(Finish::Length),
        });
        Ok(done.collect())
    }

    /// How many texts are generated side by side.
    fn texts_at_once(&self, prompts: &[&[u32]], generation: &Generation) -> usize {
        let Some(decoder) = self.decoder() else {
            return TEXTS_AT_ONCE;
        };
        let longest = prompts.iter().map(|p| p.len()).max().unwrap_or(0);
        let tokens = longest.saturating_add(generation.most);
        let tokens = tokens.min(self.context_length());
        let each = tokens * decoder.config.layers * decoder.layout().past_row() * size_of::<f32>();
        (BYTES_AT_ONCE / each.max(1)).clamp(1, TEXTS_AT_ONCE)
    }

    fn go_on(
        &self,
        decoder: &Decoder,
        prompts: &[&[u32]],
        texts: &mut [Text],
        generation: &Generation,
    ) -> Result<(), LmError> {
        let bos = self.bos();
        let offset = usize::from(bos.is_some());
        let used = texts[0].prompt..texts[texts.len() - 1].prompt + 1;
        let prompts = &prompts[used.clone()];
        let mut workspace = decoder.workspace();
        let (prompt_memory, first) = PromptMemory::read(decoder, &mut workspace, prompts, bos)?;
        // Every text of a prompt draws its first token from the prompt's own law.
        let d = first.ncols();
        let mut states = RowMatrix::zeros(texts.len(), d);
        for (i, text) in texts.iter().enumerate() {
            states
                .row_mut(i)
                .copy_from_slice(first.row(text.prompt - used.start));
        }
        let mut pasts: Vec<TextPast> = texts
            .iter()
            .map(|text| TextPast {
                prompt: text.prompt - used.start,
                own: vec![Vec::new(); decoder.config.layers],
            })
            .collect();
        let mut going: Vec<usize> = (0..texts.len()).collect();
        loop {
            self.draw_all(&states, texts, &going, prompts, used.start, generation)?;
            let still = |&i: &usize| texts[i].finish.is_none();
            going.retain(still);
            if going.is_empty() {
                return Ok(());
            }
            let tokens: Vec<u32> = going
                .iter()
                .filter_map(|&i| texts[i].tokens.last().copied())
                .collect();
            let positions: Vec<u32> = going
                .iter()
                .map(|&i| {
                    let read = prompts[texts[i].prompt - used.start].len();
                    (offset + read + texts[i].tokens.len() - 1) as u32
                })
                .collect();
            let keep: Vec<usize> = (0..going.len()).collect();
            let mut wanted = going.iter().copied().peekable();
            let pasts = pasts.iter_mut().enumerate();
            let pasts = pasts.filter(|(i, _)| wanted.next_if_eq(i).is_some());
            let mut memory = StepMemory {
                layout: decoder.layout(),
                prompts: &prompt_memory,
                pasts: pasts.map(|(_, past)| past).collect(),
            };
            let tokens = Tokens {
                tokens: &tokens,
                positions: &positions,
                keep: &keep,
            };
            let last = [decoder.config.layers];
            decoder.forward(&mut workspace, &tokens, &mut memory, &last, |_, kept| {
                states = kept;
            })?;
        }
    }

    fn read_again(
        &self,
        prompts: &[&[u32]],
        texts: &mut [Text],
        generation: &Generation,
    ) -> Result<(), LmError> {
        let mut going: Vec<usize> = (0..texts.len()).collect();
        while !going.is_empty() {
            let contexts: Vec<Vec<u32>> = going
                .iter()
                .map(|&i| [prompts[texts[i].prompt], &texts[i].tokens].concat())
                .collect();
            let contexts = ContextBatch::of_contexts(contexts.iter().map(Vec::as_slice));
            let states = self.encode(&contexts, &[self.last_layer()])?.remove(0);
            self.draw_all(&states, texts, &going, prompts, 0, generation)?;
            going.retain(|&i| texts[i].finish.is_none());
        }
        Ok(())
    }

    /// Draws the next token of every text in `going`; row `i` of `states` is that of `going[i]`.
    fn draw_all(
        &self,
        states: &RowMatrix<f32>,
        texts: &mut [Text],
        going: &[usize],
        prompts: &[&[u32]],
        first_prompt: usize,
        generation: &Generation,
    ) -> Result<(), KernelError> {
        let limit = self.context_length() - usize::from(self.bos().is_some());
        self.head()
            .for_each_log_prob_block::<KernelError>(states, |block| {
                let going = &going[block.first_row..];
                let mut wanted = going[..block.log_probs.nrows()].iter().copied().peekable();
                let drawing: Vec<&mut Text> = texts
                    .iter_mut()
                    .enumerate()
                    .filter(|(i, _)| wanted.next_if_eq(i).is_some())
                    .map(|(_, text)| text)
                    .collect();
                check_finite(block.log_probs)?;
                let rows = drawing.into_par_iter().enumerate();
                rows.for_each(|(row, text)| {
                    let law = block.log_probs.row(row);
                    let token = generation.sampling.draw(law, &mut text.dice);
                    text.tokens.push(token);
                    text.log_probs.push(law[token as usize]);
                    let read = prompts[text.prompt - first_prompt].len() + text.tokens.len();
                    text.finish = if generation.stop.contains(&token) {
                        Some(Finish::Stop)
                    } else if text.tokens.len() >= generation.most {
                        Some(Finish::Length)
                    } else if read > limit {
                        Some(Finish::Window)
                    } else {
                        None
                    };
                });
                Ok(())
            })
    }
}

/// Keys and values of prompts, layer by layer.
struct PromptMemory {
    layout: HeadLayout,
    layers: Vec<Vec<f32>>,
    /// Where each prompt's tokens are in them.
    ranges: Vec<Range<usize>>,
    /// Of the pass that is going on.
    ends: Vec<u32>,
}

impl PromptMemory {
    /// Reads prompts; their keys and values, and their last states.
    fn read(
        decoder: &Decoder,
        workspace: &mut Workspace,
        prompts: &[&[u32]],
        bos: Option<u32>,
    ) -> Result<(Self, RowMatrix<f32>), KernelError> {
        let mut memory = Self {
            layout: decoder.layout(),
            layers: vec![Vec::new(); decoder.config.layers],
            ranges: Vec::new(),
            ends: Vec::new(),
        };
        let mut states = RowMatrix::zeros(prompts.len(), decoder.config.hidden_size);
        let mut first = 0;
        while first < prompts.len() {
            let (mut tokens, mut positions) = (Vec::new(), Vec::new());
            let (mut windows, mut keep) = (Vec::new(), Vec::new());
            let mut next = first;
            let offset = memory.ranges.last().map_or(0, |r| r.end);
            while next < prompts.len()
                && (next == first || tokens.len() + prompts[next].len() < PROMPT_TOKENS)
            {
                let start = tokens.len();
                tokens.extend(bos.iter().chain(prompts[next]));
                positions.extend(0..(tokens.len() - start) as u32);
                windows.push(tokens.len() - start);
                keep.push(tokens.len() - 1);
                memory.ranges.push(offset + start..offset + tokens.len());
                next += 1;
            }
            memory.ends = ends_of_windows(&windows);
            let tokens = Tokens {
                tokens: &tokens,
                positions: &positions,
                keep: &keep,
            };
            let last = [decoder.config.layers];
            decoder.forward(workspace, &tokens, &mut memory, &last, |_, kept| {
                for (i, row) in kept.rows().enumerate() {
                    states.row_mut(first + i).copy_from_slice(row);
                }
            })?;
            first = next;
        }
        Ok((memory, states))
    }
}

impl Memory for PromptMemory {
    fn attend(&mut self, layer: usize, sight: Sight<'_>, qkv: &[f32], out: &mut [f32]) {
        attend(qkv, &self.ends, Past::NONE, self.layout, sight, out, None);
        for row in qkv.chunks_exact(self.layout.row()) {
            let keys = self.layout.heads * self.layout.head_dim;
            self.layers[layer].extend_from_slice(&row[keys..]);
        }
    }
}

/// Keys and values of the tokens a text has so far, layer by layer.
struct TextPast {
    prompt: usize,
    own: Vec<Vec<f32>>,
}

/// One more token of each of many texts.
struct StepMemory<'a> {
    layout: HeadLayout,
    prompts: &'a PromptMemory,
    pasts: Vec<&'a mut TextPast>,
}

impl Memory for StepMemory<'_> {
    fn attend(&mut self, layer: usize, sight: Sight<'_>, qkv: &[f32], out: &mut [f32]) {
        let layout = self.layout;
        let queries = layout.heads * layout.head_dim;
        let prompts = self.prompts;
        self.pasts
            .par_iter_mut()
            .zip(qkv.par_chunks_exact(layout.row()))
            .zip(out.par_chunks_exact_mut(queries))
            .for_each_init(Vec::new, |scores, ((past, row), out)| {
                past.own[layer].extend_from_slice(&row[queries..]);
                let range = &prompts.ranges[past.prompt];
                let width = layout.past_row();
                let prompt = &prompts.layers[layer][range.start * width..range.end * width];
                let own = &past.own[layer][..];
                // What is too far back to be seen.
                let all = (prompt.len() + own.len()) / width;
                let hidden = all.saturating_sub(sight.window as usize) * width;
                let in_prompt = hidden.min(prompt.len());
                attend_one(
                    &row[..queries],
                    [&prompt[in_prompt..], &own[hidden - in_prompt..]],
                    layout,
                    scores,
                    out,
                );
            });
    }
}

/// One token's attention to all rows of `parts`.
fn attend_one(
    queries: &[f32],
    parts: [&[f32]; 2],
    layout: HeadLayout,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let HeadLayout {
        heads,
        kv_heads,
        head_dim,
        scale,
        ..
    } = layout;
    let width = layout.past_row();
    let scale = scale as f32;
    let count = (parts[0].len() + parts[1].len()) / width;
    scores.resize(count, 0.0);
    let heads_of = queries
        .chunks_exact(head_dim)
        .zip(out.chunks_exact_mut(head_dim));
    for (head, (query, out)) in heads_of.enumerate() {
        let key_at = head / (heads / kv_heads) * head_dim;
        let value_at = key_at + kv_heads * head_dim;
        vectorised(
            #[inline(always)]
            || {
                let rows = parts.iter().flat_map(|part| part.chunks_exact(width));
                for (score, row) in scores.iter_mut().zip(rows) {
                    *score = dot(query, &row[key_at..key_at + head_dim]) * scale;
                }
                layout.cap(scores);
                let largest = maximum(scores);
                let total = exp_shifted(scores, largest);
                out.fill(0.0);
                let rows = parts.iter().flat_map(|part| part.chunks_exact(width));
                for (weight, row) in scores.iter().zip(rows) {
                    let weight = weight / total;
                    let values = &row[value_at..value_at + head_dim];
                    out.iter_mut()
                        .zip(values)
                        .for_each(|(o, v)| *o += weight * v);
                }
            },
        );
    }
}
