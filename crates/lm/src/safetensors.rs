//! Hugging Face checkpoint folders: `config.json` and `*.safetensors`, in one file or several.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lawvere_token::{Mmap, map_file};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::config::{DecoderConfig, SUPPORTED};
use crate::error::LmError;
use crate::train::{Architecture, LSTM_TYPE, MLP_TYPE, Parameters, Spec, Tensor};
use crate::weights::{Role, TensorSource};
use lawvere_core::RowMatrix;

#[derive(Deserialize)]
struct RawConfig {
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: Option<usize>,
    rope_theta: Option<f32>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<RopeParameters>,
    rms_norm_eps: Option<f32>,
    max_position_embeddings: Option<usize>,
    tie_word_embeddings: Option<bool>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
}

#[derive(Deserialize)]
struct RopeParameters {
    rope_type: Option<String>,
    #[serde(rename = "type")]
    old_type: Option<String>,
    rope_theta: Option<f32>,
}

#[derive(Deserialize)]
struct TokenizerConfig {
    add_bos_token: Option<bool>,
}

/// The fields that `config.json` has whatever the network.
#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
    document_end_token_id: Option<u32>,
}

/// The network's shape, from `config.json`, and the token that ends documents, where the model was
/// trained with one.
pub(crate) fn architecture(folder: &Path) -> Result<(Architecture, Option<u32>), LmError> {
    let path = folder.join("config.json");
    let kind: Kind = read_json(&path)?;
    let found = kind.model_type.unwrap_or_else(|| "unnamed".into());
    let architecture = match found.as_str() {
        "llama" => Architecture::Decoder(config(folder)?),
        LSTM_TYPE => Architecture::Lstm(read_json(&path)?),
        MLP_TYPE => Architecture::Mlp(read_json(&path)?),
        _ => {
            return Err(LmError::Architecture {
                path,
                found,
                supported: SUPPORTED,
            });
        }
    };
    let vocab_size = architecture.vocab_size();
    let outside = kind
        .document_end_token_id
        .filter(|&t| t as usize >= vocab_size)
        .map(|t| format!("the end-of-document token {t} is outside the vocabulary"));
    match architecture.problem().or(outside) {
        Some(problem) => Err(LmError::checkpoint(&path, problem)),
        None => Ok((architecture, kind.document_end_token_id)),
    }
}

/// The decoder's shape, from `config.json`; `bos` from the tokenizer's own configuration.
fn config(folder: &Path) -> Result<DecoderConfig, LmError> {
    let path = folder.join("config.json");
    let raw: RawConfig = read_json(&path)?;
    let unsupported = |what: &str| {
        Err(LmError::checkpoint(
            &path,
            format!("{what}, which is not supported"),
        ))
    };
    let rope = [&raw.rope_parameters, &raw.rope_scaling];
    for parameters in rope.into_iter().flatten() {
        let kind = parameters
            .rope_type
            .as_ref()
            .or(parameters.old_type.as_ref());
        if kind.is_some_and(|k| k != "default") {
            return unsupported("it scales its rotary positions");
        }
    }
    if raw.hidden_act.as_deref().unwrap_or("silu") != "silu" {
        return unsupported("its activation is not silu");
    }
    if raw.attention_bias == Some(true) || raw.mlp_bias == Some(true) {
        return unsupported("its projections have biases");
    }
    let required = |value: Option<usize>, key: &str| {
        value.ok_or_else(|| LmError::checkpoint(&path, format!("the field `{key}` is missing")))
    };
    let hidden_size = required(raw.hidden_size, "hidden_size")?;
    let heads = required(raw.num_attention_heads, "num_attention_heads")?;
    let theta = raw
        .rope_theta
        .or(raw.rope_parameters.and_then(|r| r.rope_theta));
    let mut config = DecoderConfig {
        vocab_size: required(raw.vocab_size, "vocab_size")?,
        hidden_size,
        layers: required(raw.num_hidden_layers, "num_hidden_layers")?,
        heads,
        kv_heads: raw.num_key_value_heads.unwrap_or(heads),
        head_dim: raw
            .head_dim
            .or_else(|| hidden_size.checked_div(heads))
            .unwrap_or(0),
        feed_forward_size: required(raw.intermediate_size, "intermediate_size")?,
        rope_theta: theta.unwrap_or(10_000.0),
        norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
        context_length: required(raw.max_position_embeddings, "max_position_embeddings")?,
        tied_head: raw.tie_word_embeddings.unwrap_or(false),
        bos: None,
    };
    config.bos = bos(folder)?;
    Ok(config)
}

/// The token the checkpoint's configuration puts before a text: only `add_bos_token: true` in
/// `tokenizer_config.json` makes it one.
fn bos(folder: &Path) -> Result<Option<u32>, LmError> {
    let path = folder.join("tokenizer_config.json");
    if !path.exists() {
        return Ok(None);
    }
    let adds = read_json::<TokenizerConfig>(&path)?.add_bos_token == Some(true);
    if !adds {
        return Ok(None);
    }
    #[derive(Deserialize)]
    struct Ids {
        bos_token_id: Option<u32>,
    }
    Ok(read_json::<Ids>(&folder.join("config.json"))?.bos_token_id)
}

/// The tokens that end a text, from `config.json` and `generation_config.json`. Some configurations say
/// -1 for none.
pub(crate) fn eos(folder: &Path) -> Result<Vec<u32>, LmError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Ids {
        One(i64),
        Many(Vec<i64>),
    }
    #[derive(Deserialize)]
    struct Config {
        eos_token_id: Option<Ids>,
    }
    let mut tokens = Vec::new();
    for name in ["config.json", "generation_config.json"] {
        let path = folder.join(name);
        if !path.exists() {
            continue;
        }
        let ids = match read_json::<Config>(&path)?.eos_token_id {
            None => Vec::new(),
            Some(Ids::One(id)) => vec![id],
            Some(Ids::Many(ids)) => ids,
        };
        for token in ids.into_iter().filter_map(|id| u32::try_from(id).ok()) {
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
    }
    Ok(tokens)
}

/// The deviation that a decoder's weights were drawn with before training, where `config.json` says so.
pub(crate) fn initializer_range(folder: &Path) -> Result<Option<f64>, LmError> {
    #[derive(Deserialize)]
    struct Config {
        initializer_range: Option<f64>,
    }
    let path = folder.join("config.json");
    let range = read_json::<Config>(&path)?.initializer_range;
    match range.filter(|range| !(range.is_finite() && *range > 0.0)) {
        Some(range) => Err(LmError::checkpoint(
            &path,
            format!("the initializer_range is {range}; it should be a deviation, more than 0"),
        )),
        None => Ok(range),
    }
}

/// Whether the folder carries a chat template.
pub(crate) fn has_chat_template(folder: &Path) -> bool {
    #[derive(Deserialize)]
    struct Template {
        chat_template: Option<serde_json::Value>,
    }
    folder.join("chat_template.jinja").exists()
        || read_json::<Template>(&folder.join("tokenizer_config.json"))
            .is_ok_and(|t| t.chat_template.is_some())
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, LmError> {
    let text = std::fs::read_to_string(path).map_err(|e| LmError::io(path, e))?;
    serde_json::from_str(&text)
        .map_err(|e| LmError::checkpoint(path, format!("not readable as JSON: {e}")))
}

/// The files that hold the folder's tensors.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, LmError> {
    let single = folder.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index_path = folder.join("model.safetensors.index.json");
    if !index_path.exists() {
        return Err(LmError::checkpoint(
            folder,
            "it holds neither model.safetensors nor model.safetensors.index.json",
        ));
    }
    let names: BTreeSet<String> = read_json::<Index>(&index_path)?
        .weight_map
        .into_values()
        .collect();
    if let Some(name) = names
        .iter()
        .find(|n| Path::new(n).components().count() != 1 || *n == "..")
    {
        return Err(LmError::checkpoint(
            &index_path,
            format!("`{name}` is not the name of a file beside it"),
        ));
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// The tensors of one or several mapped files.
pub(crate) struct SafetensorsFiles<'a> {
    folder: &'a Path,
    parts: Vec<(&'a Path, SafeTensors<'a>)>,
    taken: BTreeSet<String>,
}

impl<'a> SafetensorsFiles<'a> {
    pub fn new(folder: &'a Path, maps: &'a [(PathBuf, Mmap)]) -> Result<Self, LmError> {
        let parts = maps
            .iter()
            .map(|(path, map)| {
                SafeTensors::deserialize(map)
                    .map(|t| (path.as_path(), t))
                    .map_err(|e| {
                        LmError::checkpoint(
                            path,
                            format!("not a usable safetensors file (is it truncated?): {e}"),
                        )
                    })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            folder,
            parts,
            taken: BTreeSet::new(),
        })
    }

    /// How many tensors are stored in each type.
    pub fn storage(&self) -> BTreeMap<String, usize> {
        let mut out = BTreeMap::new();
        for (_, tensor) in self.parts.iter().flat_map(|(_, part)| part.tensors()) {
            *out.entry(format!("{:?}", tensor.dtype())).or_default() += 1;
        }
        out
    }
}

/// Maps every file of a folder.
pub(crate) fn map_all(files: Vec<PathBuf>) -> Result<Vec<(PathBuf, Mmap)>, LmError> {
    files
        .into_iter()
        .map(|path| match map_file(&path) {
            Ok(map) => Ok((path, map)),
            Err(e) => Err(LmError::io(&path, e)),
        })
        .collect()
}

impl SafetensorsFiles<'_> {
    /// A network's parameters; the files may hold no other tensors. Nothing is allocated for a tensor
    /// before the files are known to hold one of its shape.
    pub fn parameters(mut self, specs: &[Spec]) -> Result<Parameters<f32>, LmError> {
        let mut tensors = Vec::new();
        for spec in specs {
            let mut values = Vec::new();
            for part in &spec.parts {
                values.extend(self.named(part.name.clone(), &part.shape)?);
            }
            let (rows, columns) = spec.dimensions();
            let values = RowMatrix::from_vec(values, rows, columns)
                .map_err(|e| LmError::checkpoint(self.folder, e.to_string()))?;
            let parts = spec.parts.clone();
            tensors.push(Tensor { parts, values });
        }
        self.finish()?;
        Ok(Parameters(tensors))
    }

    /// The values of the tensor of this name and shape.
    fn named(&mut self, name: String, shape: &[usize]) -> Result<Vec<f32>, LmError> {
        let found = self
            .parts
            .iter()
            .find_map(|(path, t)| Some((*path, t.tensor(&name).ok()?)));
        let Some((path, tensor)) = found else {
            return Err(LmError::checkpoint(
                self.folder,
                format!("the tensor `{name}` is missing"),
            ));
        };
        if tensor.shape() != shape {
            return Err(LmError::checkpoint(
                path,
                format!(
                    "the tensor `{name}` has shape {:?}; config.json asks for {shape:?}",
                    tensor.shape()
                ),
            ));
        }
        let data = tensor.data();
        let values: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => data
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            Dtype::F16 => data
                .as_chunks()
                .0
                .iter()
                .map(|b| half::f16::from_le_bytes(*b).to_f32())
                .collect(),
            Dtype::BF16 => data
                .as_chunks()
                .0
                .iter()
                .map(|b| half::bf16::from_le_bytes(*b).to_f32())
                .collect(),
            other => {
                return Err(LmError::checkpoint(
                    path,
                    format!(
                        "the tensor `{name}` is stored as {other:?}; F32, F16 and BF16 are supported"
                    ),
                ));
            }
        };
        if let Some(bad) = values.iter().find(|x| !x.is_finite()) {
            return Err(LmError::checkpoint(
                path,
                format!("the tensor `{name}` holds the value {bad}"),
            ));
        }
        self.taken.insert(name);
        Ok(values)
    }
}

impl TensorSource for SafetensorsFiles<'_> {
    fn take(&mut self, role: Role, shape: &[usize]) -> Result<Vec<f32>, LmError> {
        self.named(name(role), shape)
    }

    fn finish(self) -> Result<(), LmError> {
        // A tied head may be stored a second time, and old checkpoints keep rotary tables.
        let known = |name: &str| name == "lm_head.weight" || name.ends_with("rotary_emb.inv_freq");
        for (path, part) in &self.parts {
            for name in part.names() {
                if !self.taken.contains(name) && !known(name) {
                    return Err(LmError::checkpoint(
                        path,
                        format!("it holds the tensor `{name}`, which this model has no use for"),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The name of a tensor in a checkpoint of kind `llama`.
pub(crate) fn name(role: Role) -> String {
    match role {
        Role::Embedding => "model.embed_tokens.weight".into(),
        Role::FinalNorm => "model.norm.weight".into(),
        Role::Head => "lm_head.weight".into(),
        Role::AttentionNorm(i) => format!("model.layers.{i}.input_layernorm.weight"),
        Role::Query(i) => format!("model.layers.{i}.self_attn.q_proj.weight"),
        Role::Key(i) => format!("model.layers.{i}.self_attn.k_proj.weight"),
        Role::Value(i) => format!("model.layers.{i}.self_attn.v_proj.weight"),
        Role::AttentionOutput(i) => format!("model.layers.{i}.self_attn.o_proj.weight"),
        Role::FeedForwardNorm(i) => format!("model.layers.{i}.post_attention_layernorm.weight"),
        Role::Gate(i) => format!("model.layers.{i}.mlp.gate_proj.weight"),
        Role::Up(i) => format!("model.layers.{i}.mlp.up_proj.weight"),
        Role::Down(i) => format!("model.layers.{i}.mlp.down_proj.weight"),
    }
}
