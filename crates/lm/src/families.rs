//! The families of Hugging Face checkpoints: what their configurations say, and where their tensors are.

use std::path::Path;

use serde_json::Value;

use crate::config::{Activation, Biases, DecoderConfig, DecoderStyle, Family, NormPlaces};
use crate::error::LmError;
use crate::rope::RopeScaling;
use crate::weights::{Part, Role};

/// Families by the `model_type` of their `config.json`.
pub(crate) const MODEL_TYPES: [(&str, Family); 10] = [
    ("gpt2", Family::Gpt2),
    ("gpt_neox", Family::GptNeox),
    ("llama", Family::Llama),
    ("mistral", Family::Mistral),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("olmo2", Family::Olmo2),
    ("gemma2", Family::Gemma2),
    ("gemma3_text", Family::Gemma3),
    ("phi3", Family::Phi3),
];

/// A `config.json`, with errors that name it and its fields.
#[derive(Clone, Copy)]
struct Fields<'a> {
    path: &'a Path,
    values: &'a Value,
}

impl<'a> Fields<'a> {
    fn error(&self, what: impl Into<String>) -> LmError {
        LmError::checkpoint(self.path, what.into())
    }

    fn unsupported(&self, what: impl std::fmt::Display) -> LmError {
        self.error(format!("{what}, which is not supported"))
    }

    /// A field that is there and not null.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.values.get(key).filter(|v| !v.is_null())
    }

    fn wrong(&self, key: &str, value: &Value, wanted: &str) -> LmError {
        self.error(format!(
            "the field `{key}` is {value}; it should be {wanted}"
        ))
    }

    fn size(&self, key: &str) -> Result<Option<usize>, LmError> {
        self.get(key)
            .map(|value| {
                let size = value.as_u64().and_then(|n| usize::try_from(n).ok());
                size.ok_or_else(|| self.wrong(key, value, "a whole number"))
            })
            .transpose()
    }

    /// A size that must be there, under the first of `keys`, by which it is named.
    fn required(&self, keys: &[&str]) -> Result<usize, LmError> {
        for key in keys {
            if let Some(size) = self.size(key)? {
                return Ok(size);
            }
        }
        Err(self.error(format!("the field `{}` is missing", keys[0])))
    }

    fn number(&self, key: &str) -> Result<Option<f32>, LmError> {
        self.get(key)
            .map(|value| {
                let number = value.as_f64().map(|x| x as f32);
                number.ok_or_else(|| self.wrong(key, value, "a number"))
            })
            .transpose()
    }

    fn flag(&self, key: &str, otherwise: bool) -> Result<bool, LmError> {
        self.get(key).map_or(Ok(otherwise), |value| {
            let flag = value.as_bool();
            flag.ok_or_else(|| self.wrong(key, value, "true or false"))
        })
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, LmError> {
        self.get(key)
            .map(|value| {
                value
                    .as_str()
                    .ok_or_else(|| self.wrong(key, value, "a text"))
            })
            .transpose()
    }

    /// An object within this one.
    fn within(&self, key: &str) -> Option<Fields<'a>> {
        let values = self.get(key).filter(|v| v.is_object())?;
        Some(Fields {
            path: self.path,
            values,
        })
    }
}

/// The decoder's shape as a configuration of a family has it, without its beginning-of-text token.
pub(crate) fn decoder_config(
    path: &Path,
    values: &Value,
    family: Family,
) -> Result<DecoderConfig, LmError> {
    let fields = Fields { path, values };
    let hidden_size = fields.required(&["hidden_size", "n_embd"])?;
    let heads = fields.required(&["num_attention_heads", "n_head"])?;
    let layers = fields.required(&["num_hidden_layers", "n_layer"])?;
    let head_dim = match fields.size("head_dim")? {
        Some(dim) => dim,
        None if matches!(family, Family::Gemma2 | Family::Gemma3) => 256,
        None if heads > 0 && !hidden_size.is_multiple_of(heads) => {
            return Err(fields.error(format!(
                "the hidden size {hidden_size} cannot be shared among {heads} heads"
            )));
        }
        None => hidden_size.checked_div(heads).unwrap_or(0),
    };
    let feed_forward_size = match family {
        Family::Gpt2 => fields
            .size("n_inner")?
            .unwrap_or(hidden_size.saturating_mul(4)),
        _ => fields.required(&["intermediate_size"])?,
    };
    let gemma = matches!(family, Family::Gemma2 | Family::Gemma3);
    let rotary = rotary(&fields, family, head_dim)?;
    let context_length = fields.required(&["max_position_embeddings", "n_positions"])?;
    let mut epsilon = None;
    for key in ["rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps"] {
        epsilon = epsilon.or(fields.number(key)?);
    }
    let default_epsilon = match family {
        Family::Gpt2 | Family::GptNeox | Family::Phi3 | Family::Olmo2 => 1e-5,
        _ => 1e-6,
    };
    let style = DecoderStyle {
        rotated: rotary.rotated,
        scaling: rotary.scaling,
        local_theta: rotary.local_theta,
        windows: windows(&fields, family, layers)?,
        ..style(&fields, family, hidden_size)?
    };
    Ok(DecoderConfig {
        vocab_size: fields.required(&["vocab_size"])?,
        hidden_size,
        layers,
        heads,
        kv_heads: fields.size("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        feed_forward_size,
        rope_theta: rotary.theta,
        norm_eps: epsilon.unwrap_or(default_epsilon),
        context_length: rotary.length.unwrap_or(usize::MAX).min(context_length),
        tied_head: fields.flag("tie_word_embeddings", gemma || family == Family::Gpt2)?,
        bos: None,
        style,
    })
}

/// What sets a family apart, but for its positions.
fn style(fields: &Fields<'_>, family: Family, hidden_size: usize) -> Result<DecoderStyle, LmError> {
    for (key, what) in [
        ("add_cross_attention", "it attends to another sequence"),
        (
            "scale_attn_by_inverse_layer_idx",
            "it scales attention by layers",
        ),
        ("use_bidirectional_attention", "it sees what comes later"),
    ] {
        if fields.flag(key, false)? {
            return Err(fields.unsupported(what));
        }
    }
    let own = fields.flag("attention_bias", family == Family::GptNeox)?;
    let style = family.style(hidden_size);
    let style = DecoderStyle {
        activation: activation(fields, family)?.unwrap_or(style.activation),
        biases: Biases {
            query_key_value: own || matches!(family, Family::Gpt2 | Family::Qwen2),
            attention_output: own || family == Family::Gpt2,
            feed_forward: matches!(family, Family::Gpt2 | Family::GptNeox)
                || fields.flag("mlp_bias", false)?,
        },
        ..style
    };
    // What transformers takes where a file does not say; null is none.
    let cap = |key: &str, otherwise: Option<f32>| match fields.values.get(key) {
        None => Ok(otherwise),
        Some(_) => fields.number(key),
    };
    let second = family == Family::Gemma2;
    Ok(match family {
        Family::Gpt2 => DecoderStyle {
            attention_scale: (!fields.flag("scale_attn_weights", true)?).then_some(1.0),
            ..style
        },
        Family::GptNeox => DecoderStyle {
            parallel: fields.flag("use_parallel_residual", true)?,
            ..style
        },
        Family::Gemma2 | Family::Gemma3 => {
            let scalar = fields.number("query_pre_attn_scalar")?.unwrap_or(256.0);
            DecoderStyle {
                attention_scale: Some(1.0 / scalar.sqrt()),
                attention_soft_cap: cap("attn_logit_softcapping", second.then_some(50.0))?,
                logit_soft_cap: cap("final_logit_softcapping", second.then_some(30.0))?,
                ..style
            }
        }
        _ => style,
    })
}

/// The activation that is named, if one is.
fn activation(fields: &Fields<'_>, family: Family) -> Result<Option<Activation>, LmError> {
    let key = match family {
        Family::Gpt2 => "activation_function",
        // Old files have both names, and this one says what is computed.
        Family::Gemma2 | Family::Gemma3 => "hidden_activation",
        _ => "hidden_act",
    };
    Ok(Some(match fields.text(key)? {
        None => return Ok(None),
        Some("silu" | "swish") => Activation::Silu,
        Some("gelu") => Activation::Gelu,
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Activation::GeluTanh,
        Some(other) => {
            return Err(fields.unsupported(format!(
                "its activation `{key}` is `{other}`, not silu or a gelu"
            )));
        }
    }))
}

/// What is said of rotary positions.
struct Rotary {
    theta: f32,
    local_theta: Option<f32>,
    rotated: Option<usize>,
    scaling: RopeScaling,
    /// The longest text that the scaling is for, where it names one.
    length: Option<usize>,
}

/// Reads rotary positions in the form of transformers 5 (`rope_parameters`, by kind of layer where there are two), or in the
/// older one (`rope_theta`, `rope_scaling` and the families' own names).
fn rotary(fields: &Fields<'_>, family: Family, head_dim: usize) -> Result<Rotary, LmError> {
    // The older name goes first where a file has both, as in transformers.
    let parameters = fields.within("rope_parameters");
    let older = fields.within("rope_scaling");
    let (full, local) = match &parameters {
        Some(all) => (
            all.within("full_attention"),
            all.within("sliding_attention"),
        ),
        None => (None, None),
    };
    let global = older.or(full).or(parameters);
    let of = |key: &str| -> Result<Option<f32>, LmError> {
        match global
            .as_ref()
            .map(|g| g.number(key))
            .transpose()?
            .flatten()
        {
            Some(x) => Ok(Some(x)),
            None => match fields.number(key)? {
                Some(x) => Ok(Some(x)),
                None => Ok(parameters.map(|p| p.number(key)).transpose()?.flatten()),
            },
        }
    };
    let gemma3 = family == Family::Gemma3;
    let theta = of("rope_theta")?.or(fields.number("rotary_emb_base")?);
    let local_theta = match &local {
        Some(local) => {
            let kind = local.text("rope_type")?.unwrap_or("default");
            if kind != "default" {
                return Err(fields.unsupported(format!(
                    "its layers with a window scale their rotary positions by `{kind}`"
                )));
            }
            local.number("rope_theta")?
        }
        None if gemma3 => Some(fields.number("rope_local_base_freq")?.unwrap_or(10_000.0)),
        None => None,
    };
    let share = match of("partial_rotary_factor")?.or(fields.number("rotary_pct")?) {
        None if family == Family::GptNeox => Some(0.25),
        share => share,
    };
    let rotated = share
        .map(|share| (head_dim as f32 * share) as usize)
        .filter(|&rotated| rotated != head_dim);
    let pairs = rotated.unwrap_or(head_dim) / 2;
    let (scaling, length) = match &global {
        Some(global) => scaling(fields, global, pairs)?,
        None => (RopeScaling::None, None),
    };
    Ok(Rotary {
        theta: theta.unwrap_or(if gemma3 { 1e6 } else { 1e4 }),
        local_theta,
        rotated,
        scaling,
        length,
    })
}

fn scaling(
    fields: &Fields<'_>,
    global: &Fields<'_>,
    pairs: usize,
) -> Result<(RopeScaling, Option<usize>), LmError> {
    let kind = match global.text("rope_type")? {
        Some(kind) => kind,
        None => global.text("type")?.unwrap_or("default"),
    };
    let named = |key: &str| -> Result<f32, LmError> {
        let value = global.number(key)?;
        value.ok_or_else(|| {
            fields.error(format!(
                "its rotary positions are scaled by `{kind}`, but the field `{key}` is missing"
            ))
        })
    };
    let original = match global.size("original_max_position_embeddings")? {
        Some(length) => Some(length),
        None => fields.size("original_max_position_embeddings")?,
    };
    Ok(match kind {
        // Dynamic scaling begins beyond the length that the configuration names.
        "default" | "dynamic" => (RopeScaling::None, None),
        "linear" => {
            let factor = named("factor")?;
            (RopeScaling::Linear { factor }, None)
        }
        "llama3" => (
            RopeScaling::Llama3 {
                factor: named("factor")?,
                low_turns: named("low_freq_factor")?,
                high_turns: named("high_freq_factor")?,
                original_length: original.unwrap_or(0),
            },
            None,
        ),
        "yarn" => {
            let length = original.unwrap_or(0);
            let longest = fields.size("max_position_embeddings")?.unwrap_or(length);
            let factor = match global.number("factor")? {
                Some(factor) => factor,
                None => longest as f32 / length as f32,
            };
            let given = |key: &str, otherwise: f32| -> Result<f32, LmError> {
                Ok(global
                    .number(key)?
                    .filter(|x| *x != 0.0)
                    .unwrap_or(otherwise))
            };
            let grown = |by: f32| RopeScaling::yarn_magnitude(factor, by);
            let (one, all) = (given("mscale", 0.0)?, given("mscale_all_dim", 0.0)?);
            let scaling = RopeScaling::Yarn {
                factor,
                slow_turns: given("beta_slow", 1.0)?,
                fast_turns: given("beta_fast", 32.0)?,
                original_length: length,
                whole: global
                    .get("truncate")
                    .and_then(Value::as_bool)
                    .unwrap_or(true),
                magnitude: match global.number("attention_factor")? {
                    Some(magnitude) => magnitude,
                    None if one != 0.0 && all != 0.0 => grown(one) / grown(all),
                    None => grown(1.0),
                },
            };
            (scaling, None)
        }
        "longrope" | "su" => {
            let Some(length) = original.filter(|&l| l > 1) else {
                return Err(fields.error(
                    "its rotary positions are scaled by factors, but the field `original_max_position_embeddings` is missing",
                ));
            };
            let factors = global.get("short_factor").and_then(Value::as_array);
            let factors: Option<Vec<f32>> = factors
                .filter(|f| f.len() <= pairs.max(1) * 2)
                .map(|f| f.iter().map(|x| x.as_f64().unwrap_or(0.0) as f32).collect());
            let Some(factors) = factors else {
                return Err(fields.error(format!(
                    "`short_factor` of its rotary positions should be {pairs} numbers"
                )));
            };
            let longest = fields.size("max_position_embeddings")?.unwrap_or(length);
            let factor = match global.number("factor")? {
                Some(factor) => factor,
                None => longest as f32 / length as f32,
            };
            let grown = (1.0 + factor.ln() / (length as f32).ln()).sqrt();
            let magnitude = match global.number("attention_factor")? {
                Some(magnitude) => magnitude,
                None if factor <= 1.0 => 1.0,
                None => grown,
            };
            (RopeScaling::Factors { factors, magnitude }, Some(length))
        }
        other => {
            return Err(fields.unsupported(format!(
                "it scales its rotary positions by `{other}`, not linear, llama3, dynamic, yarn or longrope"
            )));
        }
    })
}

/// How far each layer sees, where some have a window.
fn windows(
    fields: &Fields<'_>,
    family: Family,
    layers: usize,
) -> Result<Vec<Option<usize>>, LmError> {
    let used = match family {
        Family::Llama | Family::Gpt2 | Family::GptNeox | Family::Olmo2 => false,
        Family::Qwen2 | Family::Qwen3 => fields.flag("use_sliding_window", false)?,
        _ => true,
    };
    let Some(window) = fields.size("sliding_window")?.filter(|_| used) else {
        return Ok(Vec::new());
    };
    if let Some(kinds) = fields.get("layer_types") {
        let kinds = kinds.as_array().map_or(&[][..], Vec::as_slice);
        let of = |kind: &Value| match kind.as_str() {
            Some("full_attention") => Ok(None),
            Some("sliding_attention") => Ok(Some(window)),
            _ => Err(fields.unsupported(format!("a layer's attention is {kind}"))),
        };
        return kinds.iter().map(of).collect();
    }
    // Beyond what a shape may have is refused where shapes are.
    let layers = layers.min(1 << 16);
    let slides: Box<dyn Fn(usize) -> bool> = match family {
        Family::Qwen2 | Family::Qwen3 => {
            let full = fields.size("max_window_layers")?.unwrap_or(28);
            Box::new(move |layer| layer >= full)
        }
        Family::Gemma2 | Family::Gemma3 => {
            let own = fields
                .size("sliding_window_pattern")?
                .filter(|_| family == Family::Gemma3);
            let pattern = own.unwrap_or(gemma_pattern(family)).max(1);
            Box::new(move |layer| !(layer + 1).is_multiple_of(pattern))
        }
        _ => Box::new(|_| true),
    };
    Ok((0..layers).map(|l| slides(l).then_some(window)).collect())
}

/// Of so many layers of a Gemma the last sees all, the others have a window.
pub(crate) fn gemma_pattern(family: Family) -> usize {
    if family == Family::Gemma2 { 2 } else { 6 }
}

/// Where a tensor is in a checkpoint of a family.
pub(crate) struct Stored {
    pub name: String,
    /// Some checkpoints leave this beginning of all names out.
    pub prefix: &'static str,
    /// Which rows of what is stored.
    pub rows: Rows,
    /// Inputs x outputs rather than outputs x inputs.
    pub transposed: bool,
}

/// Rows of a matrix that holds several, or entries of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    All,
    /// From `first` on, of `of` in all.
    From {
        first: usize,
        of: usize,
    },
    /// Query (0), key (1) or value (2) of heads that have all three side by side.
    OfHeads {
        which: usize,
        head_dim: usize,
        of: usize,
    },
}

impl Rows {
    /// Which stored row row `r` is.
    pub fn at(self, r: usize) -> usize {
        match self {
            Self::All => r,
            Self::From { first, .. } => first + r,
            Self::OfHeads {
                which, head_dim, ..
            } => (r / head_dim * 3 + which) * head_dim + r % head_dim,
        }
    }

    /// How many rows are stored, where `own` are asked for.
    pub fn stored(self, own: usize) -> usize {
        match self {
            Self::All => own,
            Self::From { of, .. } | Self::OfHeads { of, .. } => of,
        }
    }
}

/// Where the tensor of a role is.
pub(crate) fn stored(config: &DecoderConfig, role: Role, part: Part) -> Stored {
    let end = match part {
        Part::Weight => "weight",
        Part::Bias => "bias",
    };
    let (q, kv) = (
        config.heads * config.head_dim,
        config.kv_heads * config.head_dim,
    );
    let all = q + 2 * kv;
    let own = |name: String, prefix: &'static str| Stored {
        name,
        prefix,
        rows: Rows::All,
        transposed: false,
    };
    let third = match role {
        Role::Key(_) => Some((1, q)),
        Role::Value(_) => Some((2, q + kv)),
        Role::Query(_) => Some((0, 0)),
        _ => None,
    };
    match config.style.family {
        Family::Gpt2 => {
            let (name, transposed) = gpt2_name(role);
            let mut stored = own(format!("transformer.{name}.{end}"), "transformer.");
            stored.transposed = transposed && part == Part::Weight;
            if let Some((_, first)) = third {
                stored.rows = Rows::From { first, of: all };
            }
            stored
        }
        Family::GptNeox => {
            let mut stored = own(format!("{}.{end}", neox_name(role)), "gpt_neox.");
            if let Some((which, _)) = third {
                stored.rows = Rows::OfHeads {
                    which,
                    head_dim: config.head_dim,
                    of: all,
                };
            }
            stored
        }
        Family::Phi3 => {
            let joined = |i: usize, name: &str| format!("model.layers.{i}.{name}.{end}");
            let ff = config.feed_forward_size;
            let (name, rows) = match (role, third) {
                (Role::Query(i) | Role::Key(i) | Role::Value(i), Some((_, first))) => (
                    joined(i, "self_attn.qkv_proj"),
                    Rows::From { first, of: all },
                ),
                (Role::Gate(i), _) => (
                    joined(i, "mlp.gate_up_proj"),
                    Rows::From {
                        first: 0,
                        of: 2 * ff,
                    },
                ),
                (Role::Up(i), _) => (
                    joined(i, "mlp.gate_up_proj"),
                    Rows::From {
                        first: ff,
                        of: 2 * ff,
                    },
                ),
                _ => (
                    format!("{}.{end}", name(role, config.style.norms)),
                    Rows::All,
                ),
            };
            Stored {
                rows,
                ..own(name, "")
            }
        }
        _ => own(format!("{}.{end}", name(role, config.style.norms)), ""),
    }
}

/// The name of a role in checkpoints like Llama's, without `.weight`.
pub(crate) fn name(role: Role, norms: NormPlaces) -> String {
    let layer = |i: usize, name: &str| format!("model.layers.{i}.{name}");
    match role {
        Role::Embedding => "model.embed_tokens".into(),
        Role::PositionEmbedding => "model.embed_positions".into(),
        Role::FinalNorm => "model.norm".into(),
        Role::Head => "lm_head".into(),
        Role::AttentionNorm(i) => layer(i, "input_layernorm"),
        Role::Query(i) => layer(i, "self_attn.q_proj"),
        Role::Key(i) => layer(i, "self_attn.k_proj"),
        Role::Value(i) => layer(i, "self_attn.v_proj"),
        Role::QueryNorm(i) => layer(i, "self_attn.q_norm"),
        Role::KeyNorm(i) => layer(i, "self_attn.k_norm"),
        Role::AttentionOutput(i) => layer(i, "self_attn.o_proj"),
        Role::AfterAttention(i) => layer(i, "post_attention_layernorm"),
        Role::FeedForwardNorm(i) => match norms {
            NormPlaces::Both => layer(i, "pre_feedforward_layernorm"),
            _ => layer(i, "post_attention_layernorm"),
        },
        Role::Gate(i) => layer(i, "mlp.gate_proj"),
        Role::Up(i) => layer(i, "mlp.up_proj"),
        Role::Down(i) => layer(i, "mlp.down_proj"),
        Role::AfterFeedForward(i) => layer(i, "post_feedforward_layernorm"),
    }
}

/// The name in a GPT-2 checkpoint, and whether it is kept as inputs x outputs.
fn gpt2_name(role: Role) -> (String, bool) {
    let layer = |i: usize, name: &str| format!("h.{i}.{name}");
    match role {
        Role::Embedding => ("wte".into(), false),
        Role::PositionEmbedding => ("wpe".into(), false),
        Role::FinalNorm => ("ln_f".into(), false),
        Role::AttentionNorm(i) => (layer(i, "ln_1"), false),
        Role::Query(i) | Role::Key(i) | Role::Value(i) => (layer(i, "attn.c_attn"), true),
        Role::AttentionOutput(i) => (layer(i, "attn.c_proj"), true),
        Role::FeedForwardNorm(i) => (layer(i, "ln_2"), false),
        Role::Up(i) => (layer(i, "mlp.c_fc"), true),
        Role::Down(i) => (layer(i, "mlp.c_proj"), true),
        other => (name(other, NormPlaces::Before), false),
    }
}

fn neox_name(role: Role) -> String {
    let layer = |i: usize, name: &str| format!("gpt_neox.layers.{i}.{name}");
    match role {
        Role::Embedding => "gpt_neox.embed_in".into(),
        Role::FinalNorm => "gpt_neox.final_layer_norm".into(),
        Role::Head => "embed_out".into(),
        Role::AttentionNorm(i) => layer(i, "input_layernorm"),
        Role::Query(i) | Role::Key(i) | Role::Value(i) => layer(i, "attention.query_key_value"),
        Role::AttentionOutput(i) => layer(i, "attention.dense"),
        Role::FeedForwardNorm(i) => layer(i, "post_attention_layernorm"),
        Role::Up(i) => layer(i, "mlp.dense_h_to_4h"),
        Role::Down(i) => layer(i, "mlp.dense_4h_to_h"),
        other => name(other, NormPlaces::Before),
    }
}

/// What is added to a tensor as it is stored: Gemma keeps norms less 1.
pub(crate) fn offset(family: Family, role: Role) -> f32 {
    let gemma = matches!(family, Family::Gemma2 | Family::Gemma3);
    match gemma && role.is_norm() {
        true => 1.0,
        false => 0.0,
    }
}

/// Whether a tensor that nobody takes is no more than a table or a second copy.
pub(crate) fn is_left_over(name: &str) -> bool {
    ["lm_head.weight", "embed_out.weight"].contains(&name)
        || [
            "rotary_emb.inv_freq",
            // Masks of old GPT-2 and GPT-NeoX files.
            ".attn.bias",
            ".attn.masked_bias",
            ".attention.bias",
            ".attention.masked_bias",
        ]
        .iter()
        .any(|end| name.ends_with(end))
}
