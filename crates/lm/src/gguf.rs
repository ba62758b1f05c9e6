//! GGUF checkpoints.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use lawvere_token::gguf::Gguf;
use lawvere_token::gguf_bos;

use crate::config::{DecoderConfig, DecoderStyle};
use crate::error::{LmError, supported};
use crate::weights::{Part, Role, TensorSource};

/// The decoder's shape, from the file's metadata.
pub(crate) fn config(gguf: &Gguf) -> Result<DecoderConfig, LmError> {
    let architecture = gguf.string("general.architecture")?;
    if architecture != "llama" {
        return Err(LmError::Architecture {
            path: gguf.path().to_owned(),
            found: architecture.to_owned(),
            supported: supported(),
        });
    }
    let scaling = gguf.string("llama.rope.scaling.type").unwrap_or("none");
    if scaling != "none" || gguf.tensors().contains_key("rope_freqs.weight") {
        return Err(LmError::checkpoint(
            gguf.path(),
            "it scales its rotary positions, which is not supported yet",
        ));
    }
    let required = |key: &str| -> Result<usize, LmError> {
        let value = gguf.integer(key)?;
        let value = value.ok_or_else(|| gguf.error(format!("the field `{key}` is missing")))?;
        Ok(value as usize)
    };
    let hidden_size = required("llama.embedding_length")?;
    let heads = required("llama.attention.head_count")?;
    let head_dim = match gguf.integer("llama.attention.key_length")? {
        Some(length) => length as usize,
        None if heads > 0 && !hidden_size.is_multiple_of(heads) => {
            return Err(LmError::checkpoint(
                gguf.path(),
                format!("the hidden size {hidden_size} cannot be shared among {heads} heads"),
            ));
        }
        None => hidden_size.checked_div(heads).unwrap_or(0),
    };
    let rotated = gguf.integer("llama.rope.dimension_count")?;
    if let Some(rotated) = rotated.filter(|&r| r as usize != head_dim) {
        return Err(LmError::checkpoint(
            gguf.path(),
            format!(
                "it rotates {rotated} of {head_dim} dimensions of a head; only all are supported"
            ),
        ));
    }
    let kv_heads = gguf.integer("llama.attention.head_count_kv")?;
    let config = DecoderConfig {
        vocab_size: gguf.strings("tokenizer.ggml.tokens")?.len(),
        hidden_size,
        layers: required("llama.block_count")?,
        heads,
        kv_heads: kv_heads.map_or(heads, |k| k as usize),
        head_dim,
        feed_forward_size: required("llama.feed_forward_length")?,
        rope_theta: gguf.float("llama.rope.freq_base")?.unwrap_or(10_000.0) as f32,
        norm_eps: gguf
            .float("llama.attention.layer_norm_rms_epsilon")?
            .unwrap_or(1e-5) as f32,
        context_length: required("llama.context_length")?,
        tied_head: !gguf.tensors().contains_key("output.weight"),
        bos: gguf_bos(gguf)?,
        style: DecoderStyle::default(),
    };
    match config.problem() {
        Some(problem) => Err(LmError::checkpoint(gguf.path(), problem)),
        None => Ok(config),
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
    head_dim: usize,
    left: BTreeSet<&'a str>,
    bytes_taken: usize,
}

impl<'a> GgufTensors<'a> {
    pub fn new(gguf: &'a Gguf, config: &DecoderConfig) -> Self {
        let left = gguf.tensors().keys().map(String::as_str).collect();
        Self {
            gguf,
            head_dim: config.head_dim,
            left,
            bytes_taken: 0,
        }
    }

    fn error(&self, what: String) -> LmError {
        LmError::checkpoint(self.gguf.path(), what)
    }
}

impl TensorSource for GgufTensors<'_> {
    fn take(&mut self, role: Role, part: Part, shape: &[usize]) -> Result<Vec<f32>, LmError> {
        let name = name(role, part);
        let Some(info) = self.gguf.tensors().get(&name) else {
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
        let bytes = self.gguf.data(&name, info, length)?;
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
        self.left.remove(name.as_str());
        Ok(match role {
            Role::Query(_) | Role::Key(_) => unpermute(&dequantised, self.head_dim, shape[1]),
            _ => dequantised,
        })
    }

    fn finish(self) -> Result<(), LmError> {
        match self.left.first() {
            Some(name) => Err(self.error(format!(
                "it holds the tensor `{name}`, which a llama model has no use for"
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

fn name(role: Role, part: Part) -> String {
    let layer = |i: usize, name: &str| format!("blk.{i}.{name}");
    let name = match role {
        Role::Embedding => "token_embd".into(),
        Role::PositionEmbedding => "position_embd".into(),
        Role::FinalNorm => "output_norm".into(),
        Role::Head => "output".into(),
        Role::AttentionNorm(i) => layer(i, "attn_norm"),
        Role::Query(i) => layer(i, "attn_q"),
        Role::Key(i) => layer(i, "attn_k"),
        Role::Value(i) => layer(i, "attn_v"),
        Role::QueryNorm(i) => layer(i, "attn_q_norm"),
        Role::KeyNorm(i) => layer(i, "attn_k_norm"),
        Role::AttentionOutput(i) => layer(i, "attn_output"),
        Role::AfterAttention(i) => layer(i, "post_attention_norm"),
        Role::FeedForwardNorm(i) => layer(i, "ffn_norm"),
        Role::Gate(i) => layer(i, "ffn_gate"),
        Role::Up(i) => layer(i, "ffn_up"),
        Role::Down(i) => layer(i, "ffn_down"),
        Role::AfterFeedForward(i) => layer(i, "post_ffw_norm"),
    };
    match part {
        Part::Weight => format!("{name}.weight"),
        Part::Bias => format!("{name}.bias"),
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
