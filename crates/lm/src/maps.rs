//! Attention maps: how much each token looks at each earlier one.

use lawvere_core::vector::{Real, dot, vectorised};
use lawvere_core::{ContextBatch, KernelError, RowMatrix};
use rayon::prelude::*;

use crate::attention::{HeadLayout, Past, Sight, attend, ends_of_windows};
use crate::decoder::{Memory, Tokens};
use crate::error::LmError;
use crate::model::LanguageModel;

impl LanguageModel {
    /// The attention of `tokens` (a beginning-of-text token in front, where the model has one) in the
    /// blocks that make `layers` (1 to the last): for each a matrix of heads * T rows and T columns, in
    /// which row `h T + i` is head `h`'s law of where token `i` looks. Memory: heads T^2 values a layer.
    ///
    /// # Errors
    /// A model without attention, an unknown layer, tokens the model cannot read.
    pub fn attention(
        &self,
        tokens: &[u32],
        layers: &[usize],
    ) -> Result<Vec<RowMatrix<f32>>, LmError> {
        let Some(decoder) = self.decoder() else {
            return Err(LmError::Argument(
                "attention maps: this network has no attention".into(),
            ));
        };
        let last = decoder.config.layers;
        if let Some(&layer) = layers.iter().find(|&&l| l > last) {
            return Err(KernelError::UnknownLayer { layer, last }.into());
        }
        if layers.contains(&0) {
            return Err(LmError::Argument(
                "attention maps of layer 0: the embeddings are made without attention; layers count from 1 here".into(),
            ));
        }
        self.check(&ContextBatch::of_contexts([tokens]), 0..1)?;
        let tokens: Vec<u32> = self
            .bos()
            .into_iter()
            .chain(tokens.iter().copied())
            .collect();
        let positions: Vec<u32> = (0..tokens.len() as u32).collect();
        let mut memory = MapMemory {
            layout: decoder.layout(),
            ends: ends_of_windows(&[tokens.len()]),
            maps: layers
                .iter()
                .map(|&l| (l, RowMatrix::zeros(0, 0)))
                .collect(),
        };
        let pass = Tokens {
            tokens: &tokens,
            positions: &positions,
            keep: &[],
        };
        let needed = layers.iter().copied().max().unwrap_or(0);
        let mut workspace = decoder.workspace();
        decoder.forward(&mut workspace, &pass, &mut memory, &[needed], |_, _| {})?;
        Ok(memory.maps.into_iter().map(|(_, map)| map).collect())
    }
}

struct MapMemory {
    layout: HeadLayout,
    ends: Vec<u32>,
    maps: Vec<(usize, RowMatrix<f32>)>,
}

impl Memory for MapMemory {
    fn attend(&mut self, layer: usize, sight: Sight<'_>, qkv: &[f32], out: &mut [f32]) {
        let HeadLayout {
            heads,
            kv_heads,
            head_dim,
            scale,
            ..
        } = self.layout;
        let count = self.ends.len();
        let mut log_totals = vec![0.0; count * heads];
        let totals = Some(log_totals.as_mut_slice());
        let layout = self.layout;
        attend(qkv, &self.ends, Past::NONE, layout, sight, out, totals);
        let part = |token: usize, column: usize| {
            let start = token * self.layout.row() + column * head_dim;
            &qkv[start..start + head_dim]
        };
        let scale = scale as f32;
        for (_, map) in self.maps.iter_mut().filter(|(l, _)| *l == layer + 1) {
            *map = RowMatrix::zeros(heads * count, count);
            let rows = map.data_mut().par_chunks_exact_mut(count).enumerate();
            rows.for_each(|(row, weights)| {
                let (head, token) = (row / count, row % count);
                let key = heads + head / (heads / kv_heads);
                let log_total = log_totals[token * heads + head];
                vectorised(
                    #[inline(always)]
                    || {
                        let first = (token + 1).saturating_sub(sight.window as usize);
                        let seen = &mut weights[first..=token];
                        for (j, weight) in seen.iter_mut().enumerate() {
                            *weight = dot(part(token, head), part(first + j, key)) * scale;
                        }
                        layout.cap(seen);
                        seen.iter_mut().for_each(|x| *x = Real::exp(*x - log_total));
                    },
                );
            });
        }
    }
}
