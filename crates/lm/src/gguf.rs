//! GGUF checkpoints.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use lawvere_token::gguf::Gguf;
use lawvere_token::gguf_bos;

use crate::config::{Biases, DecoderConfig, DecoderStyle, Family};
use crate::error::{LmError, supported};
use crate::families::gemma_pattern;
use crate::rope::RopeScaling;
use crate::weights::{Part, Role, TensorSource};

/// Families by `general.architecture`; Mistral's files call themselves llama.
pub(crate) const ARCHITECTURES: [(&str, Family); 9] = [
    ("gpt2", Family::Gpt2),
    ("gptneox", Family::GptNeox),
    ("llama", Family::Llama),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("olmo2", Family::Olmo2),
    ("gemma2", Family::Gemma2),
    ("gemma3", Family::Gemma3),
    ("phi3", Family::Phi3),
];

/// Factors of rotary angles, one a pair of dimensions: Llama 3's, and Phi-3's up to its original length.
const FACTORS: [&str; 2] = ["rope_freqs.weight", "rope_factors_short.weight"];
/// Phi-3's beyond that length.
const LONG_FACTORS: &str = "rope_factors_long.weight";

/// The decoder's shape, from the file's metadata.
pub(crate) fn config(gguf: &Gguf) -> Result<DecoderConfig, LmError> {
    let architecture = gguf.string("general.architecture")?;
    let known = ARCHITECTURES.iter().find(|(name, _)| *name == architecture);
    let Some(&(_, family)) = known else {
        return Err(LmError::Architecture {
            path: gguf.path().to_owned(),
            found: architecture.to_owned(),
            supported: supported(),
        });
    };
    let key = |name: &str| format!("{architecture}.{name}");
    let integer = |name: &str| -> Result<Option<usize>, LmError> {
        Ok(gguf.integer(&key(name))?.map(|n| n as usize))
    };
    let float = |name: &str| -> Result<Option<f32>, LmError> {
        Ok(gguf.float(&key(name))?.map(|x| x as f32))
    };
    let required = |name: &str| -> Result<usize, LmError> {
        let missing = || gguf.error(format!("the field `{}` is missing", key(name)));
        Ok(integer(name)?.ok_or_else(missing)?)
    };
    let wrong = |what: String| Err(LmError::checkpoint(gguf.path(), what));
    let hidden_size = required("embedding_length")?;
    let heads = required("attention.head_count")?;
    let head_dim = match integer("attention.key_length")? {
        Some(length) => length,
        None if heads > 0 && !hidden_size.is_multiple_of(heads) => {
            return wrong(format!(
                "the hidden size {hidden_size} cannot be shared among {heads} heads"
            ));
        }
        None => hidden_size.checked_div(heads).unwrap_or(0),
    };
    let rotated = integer("rope.dimension_count")?.filter(|&r| r != head_dim);
    if let (Some(rotated), Family::Llama) = (rotated, family) {
        return wrong(format!(
            "it rotates {rotated} of {head_dim} dimensions of a head; only all are supported"
        ));
    }
    let layers = required("block_count")?;
    let mut context_length = required("context_length")?;
    let (scaling, length) = scaling(gguf, architecture, rotated.unwrap_or(head_dim) / 2)?;
    context_length = length.map_or(context_length, |length| context_length.min(length));
    let gemma = matches!(family, Family::Gemma2 | Family::Gemma3);
    let second = family == Family::Gemma2;
    // The largest of both families divides by the hidden size's share, which no field says.
    let largest = layers == if second { 46 } else { 62 };
    let share = if largest {
        hidden_size.checked_div(heads).unwrap_or(1)
    } else {
        head_dim
    };
    let scale = match float("attention.scale")? {
        None if gemma => Some(1.0 / (share as f32).sqrt()),
        scale => scale,
    };
    let there = |name: &str| gguf.tensors().contains_key(name);
    let fused = matches!(family, Family::Gpt2 | Family::GptNeox | Family::Phi3);
    let style = family.style(hidden_size);
    let style = DecoderStyle {
        rotated,
        scaling,
        local_theta: match family {
            Family::Gemma3 => Some(float("rope.freq_base_swa")?.unwrap_or(10_000.0)),
            _ => None,
        },
        parallel: gguf
            .bool(&key("use_parallel_residual"))?
            .unwrap_or(style.parallel),
        biases: Biases {
            query_key_value: there(if fused {
                "blk.0.attn_qkv.bias"
            } else {
                "blk.0.attn_q.bias"
            }),
            attention_output: there("blk.0.attn_output.bias"),
            feed_forward: there("blk.0.ffn_down.bias"),
        },
        attention_scale: scale,
        attention_soft_cap: float("attn_logit_softcapping")?.or(second.then_some(50.0)),
        logit_soft_cap: float("final_logit_softcapping")?.or(second.then_some(30.0)),
        windows: match integer("attention.sliding_window")?.filter(|&w| w > 0) {
            None => Vec::new(),
            Some(window) => (0..layers.min(1 << 16))
                .map(|layer| {
                    let full = gemma && (layer + 1).is_multiple_of(gemma_pattern(family));
                    (!full).then_some(window)
                })
                .collect(),
        },
        ..style
    };
    let epsilon = match float("attention.layer_norm_rms_epsilon")? {
        Some(epsilon) => Some(epsilon),
        None => float("attention.layer_norm_epsilon")?,
    };
    let config = DecoderConfig {
        vocab_size: gguf.strings("tokenizer.ggml.tokens")?.len(),
        hidden_size,
        layers,
        heads,
        kv_heads: integer("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        feed_forward_size: required("feed_forward_length")?,
        rope_theta: float("rope.freq_base")?.unwrap_or(10_000.0),
        norm_eps: epsilon.unwrap_or(1e-5),
        context_length,
        tied_head: !there("output.weight"),
        bos: gguf_bos(gguf)?,
        style,
    };
    match config.problem() {
        Some(problem) => wrong(problem),
        None => Ok(config),
    }
}

/// How rotary positions are scaled, and the length up to which, where there is one.
fn scaling(
    gguf: &Gguf,
    architecture: &str,
    pairs: usize,
) -> Result<(RopeScaling, Option<usize>), LmError> {
    let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
    for name in FACTORS {
        let Some(info) = gguf.tensors().get(name) else {
            continue;
        };
        if info.shape != [pairs] || info.dtype != 0 {
            return Err(LmError::checkpoint(
                gguf.path(),
                format!(
                    "the tensor `{name}` should hold {pairs} values in F32, one a pair of dimensions"
                ),
            ));
        }
        let bytes = gguf.data(name, info, 4 * pairs)?;
        let factors = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
        let magnitude = gguf.float(&key("attn_factor"))?.unwrap_or(1.0) as f32;
        let length = gguf.integer(&key("original_context_length"))?;
        let length = length.filter(|_| name == FACTORS[1]).map(|l| l as usize);
        let factors = factors.collect();
        return Ok((RopeScaling::Factors { factors, magnitude }, length));
    }
    match gguf.string(&key("type")).unwrap_or("none") {
        "none" => Ok((RopeScaling::None, None)),
        "linear" => {
            let factor = gguf.float(&key("factor"))?.unwrap_or(1.0) as f32;
            Ok((RopeScaling::Linear { factor }, None))
        }
        "yarn" => {
            let number = |name: &str| gguf.float(&key(name)).map(|x| x.map(|x| x as f32));
            let factor = number("factor")?.unwrap_or(1.0);
            let length = match gguf.integer(&key("original_context_length"))? {
                Some(length) => length,
                None => gguf
                    .integer(&format!("{architecture}.context_length"))?
                    .unwrap_or(0),
            };
            let given = match number("yarn_attn_factor")? {
                Some(given) => given,
                None => number("attn_factor")?.unwrap_or(1.0),
            };
            let scaling = RopeScaling::Yarn {
                factor,
                slow_turns: number("yarn_beta_slow")?.unwrap_or(1.0),
                fast_turns: number("yarn_beta_fast")?.unwrap_or(32.0),
                original_length: length as usize,
                whole: true,
                magnitude: given * RopeScaling::yarn_magnitude(factor, 1.0),
            };
            Ok((scaling, None))
        }
        other => Err(LmError::checkpoint(
            gguf.path(),
            format!("it scales its rotary positions by `{other}`, which is not supported"),
        )),
    }
}

/// The tokens that end a text or a turn of it; an id outside the vocabulary is never drawn and left out.
pub(crate) fn eos(gguf: &Gguf) -> Result<Vec<u32>, LmError> {
    let vocab_size = gguf.strings("tokenizer.ggml.tokens")?.len();
    let mut tokens = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
        let token = gguf.integer(key)?.filter(|&t| t < vocab_size as u64);
        tokens.extend(token.map(|t| t as u32).filter(|t| !tokens.contains(t)));
    }
    Ok(tokens)
}

/// How many tensors are stored in each ggml type.
pub(crate) fn storage(gguf: &Gguf) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for info in gguf.tensors().values() {
        let name = dtype(info.dtype).map_or_else(|| info.dtype.to_string(), |t| t.0.to_owned());
        *out.entry(name).or_default() += 1;
    }
    out
}

/// The tensors of a GGUF file, dequantised.
pub(crate) struct GgufTensors<'a> {
    gguf: &'a Gguf,
    config: &'a DecoderConfig,
    left: BTreeSet<&'a str>,
    bytes_taken: usize,
    /// The tensor of several roles that was read last.
    whole: (String, Vec<f32>),
}

impl<'a> GgufTensors<'a> {
    pub fn new(gguf: &'a Gguf, config: &'a DecoderConfig) -> Self {
        let known = [FACTORS[0], FACTORS[1], LONG_FACTORS];
        let names = gguf.tensors().keys().map(String::as_str);
        Self {
            gguf,
            config,
            left: names.filter(|name| !known.contains(name)).collect(),
            bytes_taken: 0,
            whole: Default::default(),
        }
    }

    fn error(&self, what: String) -> LmError {
        LmError::checkpoint(self.gguf.path(), what)
    }

    /// The values of a tensor of this shape.
    fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LmError> {
        let Some(info) = self.gguf.tensors().get(name) else {
            return Err(self.error(format!("the tensor `{name}` is missing")));
        };
        if info.shape != shape {
            return Err(self.error(format!(
                "the tensor `{name}` has shape {:?}; the metadata ask for {shape:?}",
                info.shape
            )));
        }
        let (type_name, dtype) = dtype(info.dtype).ok_or_else(|| {
            let supported = TYPES.map(|(name, ..)| name).join(", ");
            self.error(format!(
                "the tensor `{name}` has the ggml type {}, which is not supported; supported: {supported}",
                info.dtype
            ))
        })?;
        let elements: usize = shape.iter().product();
        let row = shape.last().copied().unwrap_or(1);
        if row % dtype.block_size() != 0 {
            return Err(self.error(format!(
                "the rows of `{name}` hold {row} values, not a multiple of {type_name}'s block of {}",
                dtype.block_size()
            )));
        }
        let length = elements / dtype.block_size() * dtype.type_size();
        let bytes = self.gguf.data(name, info, length)?;
        self.bytes_taken = self.bytes_taken.saturating_add(length);
        if self.bytes_taken > self.gguf.size() {
            return Err(self.error(
                "its tensors overlap: together they need more bytes than the file has".into(),
            ));
        }
        let dequantised = qtensor_from_ggml(dtype, bytes, shape.to_vec(), &Device::Cpu)
            .and_then(|q| q.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>())
            .map_err(|e| self.error(format!("the tensor `{name}` cannot be dequantised: {e}")))?;
        if let Some(bad) = dequantised.iter().find(|x| !x.is_finite()) {
            return Err(self.error(format!("the tensor `{name}` holds the value {bad}")));
        }
        self.left.remove(name);
        Ok(dequantised)
    }
}

impl TensorSource for GgufTensors<'_> {
    fn take(&mut self, role: Role, part: Part, shape: &[usize]) -> Result<Vec<f32>, LmError> {
        let (name, rows) = place(self.config, role, part);
        let (head_dim, columns) = (self.config.head_dim, shape.get(1).copied().unwrap_or(1));
        let Some((first, of)) = rows else {
            let values = self.read(&name, shape)?;
            let turned = self.config.style.family == Family::Llama;
            return Ok(match role {
                Role::Query(_) | Role::Key(_) if turned => unpermute(&values, head_dim, columns),
                _ => values,
            });
        };
        if self.whole.0 != name {
            let mut all = shape.to_vec();
            all[0] = of;
            self.whole = (name.clone(), self.read(&name, &all)?);
        }
        Ok(self.whole.1[first * columns..(first + shape[0]) * columns].to_vec())
    }

    fn finish(self) -> Result<(), LmError> {
        match self.left.first() {
            Some(name) => Err(self.error(format!(
                "it holds the tensor `{name}`, which a model of this kind has no use for"
            ))),
            None => Ok(()),
        }
    }
}

/// GGUF interleaves the two halves of every head of Q and K; this takes them apart again.
fn unpermute(data: &[f32], head_dim: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(data.len());
    for head in data.chunks_exact(head_dim * columns) {
        for half in 0..2 {
            for row in head.chunks_exact(2 * columns) {
                out.extend_from_slice(&row[half * columns..(half + 1) * columns]);
            }
        }
    }
    out
}

/// The name of the tensor of a role and, where it holds several, the first row and the number of all.
fn place(config: &DecoderConfig, role: Role, part: Part) -> (String, Option<(usize, usize)>) {
    let layer = |i: usize, name: &str| format!("blk.{i}.{name}");
    let (q, kv) = (
        config.heads * config.head_dim,
        config.kv_heads * config.head_dim,
    );
    let (ff, all) = (config.feed_forward_size, q + 2 * kv);
    let phi3 = config.style.family == Family::Phi3;
    let fused = phi3 || matches!(config.style.family, Family::Gpt2 | Family::GptNeox);
    let (name, rows) = match role {
        Role::Query(i) if fused => (layer(i, "attn_qkv"), Some((0, all))),
        Role::Key(i) if fused => (layer(i, "attn_qkv"), Some((q, all))),
        Role::Value(i) if fused => (layer(i, "attn_qkv"), Some((q + kv, all))),
        Role::Gate(i) if phi3 => (layer(i, "ffn_up"), Some((0, 2 * ff))),
        Role::Up(i) if phi3 => (layer(i, "ffn_up"), Some((ff, 2 * ff))),
        Role::Embedding => ("token_embd".into(), None),
        Role::PositionEmbedding => ("position_embd".into(), None),
        Role::FinalNorm => ("output_norm".into(), None),
        Role::Head => ("output".into(), None),
        Role::AttentionNorm(i) => (layer(i, "attn_norm"), None),
        Role::Query(i) => (layer(i, "attn_q"), None),
        Role::Key(i) => (layer(i, "attn_k"), None),
        Role::Value(i) => (layer(i, "attn_v"), None),
        Role::QueryNorm(i) => (layer(i, "attn_q_norm"), None),
        Role::KeyNorm(i) => (layer(i, "attn_k_norm"), None),
        Role::AttentionOutput(i) => (layer(i, "attn_output"), None),
        Role::AfterAttention(i) => (layer(i, "post_attention_norm"), None),
        Role::FeedForwardNorm(i) => (layer(i, "ffn_norm"), None),
        Role::Gate(i) => (layer(i, "ffn_gate"), None),
        Role::Up(i) => (layer(i, "ffn_up"), None),
        Role::Down(i) => (layer(i, "ffn_down"), None),
        Role::AfterFeedForward(i) => (layer(i, "post_ffw_norm"), None),
    };
    match part {
        Part::Weight => (format!("{name}.weight"), rows),
        Part::Bias => (format!("{name}.bias"), rows),
    }
}

/// The ggml types that candle dequantises, by their names and numbers in the format. Q8_1 and Q8_K, in
/// which llama.cpp keeps activations, it can name but not dequantise.
const TYPES: [(&str, u32, GgmlDType); 13] = [
    ("F32", 0, GgmlDType::F32),
    ("F16", 1, GgmlDType::F16),
    ("BF16", 30, GgmlDType::BF16),
    ("Q4_0", 2, GgmlDType::Q4_0),
    ("Q4_1", 3, GgmlDType::Q4_1),
    ("Q5_0", 6, GgmlDType::Q5_0),
    ("Q5_1", 7, GgmlDType::Q5_1),
    ("Q8_0", 8, GgmlDType::Q8_0),
    ("Q2_K", 10, GgmlDType::Q2K),
    ("Q3_K", 11, GgmlDType::Q3K),
    ("Q4_K", 12, GgmlDType::Q4K),
    ("Q5_K", 13, GgmlDType::Q5K),
    ("Q6_K", 14, GgmlDType::Q6K),
];

fn dtype(number: u32) -> Option<(&'static str, GgmlDType)> {
    let found = TYPES.iter().find(|(_, n, _)| *n == number);
    found.map(|&(name, _, dtype)| (name, dtype))
}
