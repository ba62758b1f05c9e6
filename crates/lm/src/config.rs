//! The shape of a decoder.

use serde::Serialize;

use crate::rope::RopeScaling;

/// The shape of a decoder-only transformer: that of the Llama family, but for its [style](DecoderStyle).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct DecoderConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub feed_forward_size: usize,
    pub rope_theta: f32,
    pub norm_eps: f32,
    /// The longest window the model was made for, in tokens.
    pub context_length: usize,
    /// Whether the head is the embedding matrix.
    pub tied_head: bool,
    /// The token put before every window, if the checkpoint's own configuration adds one.
    pub bos: Option<u32>,
    /// What sets it apart from Llama.
    #[serde(skip_serializing_if = "DecoderStyle::is_llama")]
    pub style: DecoderStyle,
}

/// What sets a decoder apart from Llama: RMS norms before each sub-layer, rotary positions, grouped heads, gated SiLU
/// feed-forward, no biases, which is the default.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct DecoderStyle {
    /// The family, which names its tensors.
    pub family: Family,
    /// Layer norms, with biases, in the place of RMS norms.
    pub layer_norm: bool,
    /// Where a block has norms.
    pub norms: NormPlaces,
    /// Norms of queries and keys.
    pub query_key_norm: QueryKeyNorm,
    /// A learned embedding a position in the place of rotations.
    pub learned_positions: bool,
    /// Dimensions of a head that are rotated, where not all are.
    pub rotated: Option<usize>,
    /// How angles are stretched.
    pub scaling: RopeScaling,
    /// The base of rotations in layers with a window, which are not stretched, where it is another.
    pub local_theta: Option<f32>,
    /// Attention and feed-forward read the same state and are added together.
    pub parallel: bool,
    /// The feed-forward's activation.
    pub activation: Activation,
    /// The feed-forward has no gate.
    pub plain_feed_forward: bool,
    /// Projections with biases.
    pub biases: Biases,
    /// What embeddings are multiplied with.
    pub embedding_scale: Option<f32>,
    /// What scores of attention are multiplied with; one over the root of the head's dimension where none is named.
    pub attention_scale: Option<f32>,
    /// `c` in `c tanh(score / c)`.
    pub attention_soft_cap: Option<f32>,
    /// `c` in `c tanh(logit / c)`.
    pub logit_soft_cap: Option<f32>,
    /// By layer, how many tokens one sees, itself counted; empty where all see all.
    pub windows: Vec<Option<usize>>,
}

impl DecoderStyle {
    fn is_llama(&self) -> bool {
        *self == Self::default()
    }
}

/// A family of checkpoints: how their configuration and tensors are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Family {
    #[default]
    Llama,
    Gpt2,
    GptNeox,
    Mistral,
    Qwen2,
    Qwen3,
    Olmo2,
    Gemma2,
    Gemma3,
    Phi3,
}

impl Family {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "Llama",
            Self::Gpt2 => "GPT-2",
            Self::GptNeox => "GPT-NeoX",
            Self::Mistral => "Mistral",
            Self::Qwen2 => "Qwen 2",
            Self::Qwen3 => "Qwen 3",
            Self::Olmo2 => "OLMo 2",
            Self::Gemma2 => "Gemma 2",
            Self::Gemma3 => "Gemma 3",
            Self::Phi3 => "Phi-3",
        }
    }

    /// What all of the family have, whatever the format of the checkpoint.
    pub(crate) fn style(self, hidden_size: usize) -> DecoderStyle {
        let style = DecoderStyle {
            family: self,
            ..DecoderStyle::default()
        };
        match self {
            Self::Llama | Self::Mistral | Self::Qwen2 | Self::Phi3 => style,
            Self::Gpt2 => DecoderStyle {
                layer_norm: true,
                learned_positions: true,
                plain_feed_forward: true,
                activation: Activation::GeluTanh,
                ..style
            },
            Self::GptNeox => DecoderStyle {
                layer_norm: true,
                plain_feed_forward: true,
                parallel: true,
                activation: Activation::Gelu,
                ..style
            },
            Self::Qwen3 => DecoderStyle {
                query_key_norm: QueryKeyNorm::Head,
                ..style
            },
            Self::Olmo2 => DecoderStyle {
                norms: NormPlaces::After,
                query_key_norm: QueryKeyNorm::Whole,
                ..style
            },
            Self::Gemma2 | Self::Gemma3 => DecoderStyle {
                norms: NormPlaces::Both,
                query_key_norm: match self {
                    Self::Gemma2 => QueryKeyNorm::None,
                    _ => QueryKeyNorm::Head,
                },
                activation: Activation::GeluTanh,
                embedding_scale: Some((hidden_size as f32).sqrt()),
                ..style
            },
        }
    }
}

/// Where a block has norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NormPlaces {
    /// Before attention and feed-forward.
    #[default]
    Before,
    /// After them, before they are added.
    After,
    /// Both.
    Both,
}

/// Norms of queries and keys, before they are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryKeyNorm {
    /// None.
    #[default]
    None,
    /// Of every head.
    Head,
    /// Of all heads together.
    Whole,
}

/// A feed-forward's activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    #[default]
    Silu,
    /// `x Phi(x)`, Phi the normal distribution's.
    Gelu,
    /// The same by a hyperbolic tangent.
    GeluTanh,
}

/// Which projections have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[allow(missing_docs)]
pub struct Biases {
    pub query_key_value: bool,
    pub attention_output: bool,
    pub feed_forward: bool,
}

impl DecoderConfig {
    /// What is wrong with this shape, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let sizes = [
            ("vocabulary size", self.vocab_size),
            ("hidden size", self.hidden_size),
            ("number of layers", self.layers),
            ("number of heads", self.heads),
            ("number of key-value heads", self.kv_heads),
            ("head dimension", self.head_dim),
            ("feed-forward size", self.feed_forward_size),
            ("context length", self.context_length),
        ];
        // Beyond 2^24 no real size lies; below it no product of four sizes' pairs overflows.
        let largest = 1 << 24;
        if let Some((what, size)) = sizes.iter().find(|(_, s)| *s == 0 || *s > largest) {
            return Some(format!(
                "the {what} is {size}; it should be from 1 to {largest}"
            ));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Some(format!(
                "{} heads cannot share {} key-value heads",
                self.heads, self.kv_heads
            ));
        }
        let rotated = self.rotated();
        if !rotated.is_multiple_of(2) || rotated > self.head_dim {
            return Some(match self.style.rotated {
                None => format!("the head dimension {rotated} is odd"),
                Some(_) => format!(
                    "{rotated} of {} dimensions of a head are rotated; it should be an even number of them",
                    self.head_dim
                ),
            });
        }
        let bases = [Some(self.rope_theta), self.style.local_theta];
        if let Some(base) = bases.into_iter().flatten().find(|t| !positive(*t)) {
            return Some(format!("the rotary base is {base}"));
        }
        if let Some(problem) = self.style.scaling.problem(rotated / 2) {
            return Some(problem);
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return Some(format!("the norm's epsilon is {}", self.norm_eps));
        }
        let style = &self.style;
        let factors = [
            ("embeddings' factor", style.embedding_scale),
            ("attention's factor", style.attention_scale),
            ("attention's soft-cap", style.attention_soft_cap),
            ("logits' soft-cap", style.logit_soft_cap),
        ];
        let named = factors.iter().filter_map(|(what, x)| Some((what, (*x)?)));
        if let Some((what, x)) = named.into_iter().find(|(_, x)| !positive(*x)) {
            return Some(format!("the {what} is {x}; it should be more than 0"));
        }
        if style.windows.contains(&Some(0)) {
            return Some("a window of attention is 0 tokens; it should be at least 1".into());
        }
        if !(style.windows.is_empty() || style.windows.len() == self.layers) {
            return Some(format!(
                "{} layers have a kind of attention each, and there are {}",
                style.windows.len(),
                self.layers
            ));
        }
        self.bos
            .filter(|&bos| bos as usize >= self.vocab_size)
            .map(|bos| format!("the beginning-of-text token {bos} is outside the vocabulary"))
    }

    /// Dimensions of a head that are rotated.
    pub(crate) fn rotated(&self) -> usize {
        match self.style.learned_positions {
            true => 0,
            false => self.style.rotated.unwrap_or(self.head_dim),
        }
    }

    /// How many tokens one sees in a layer, itself counted; none where it sees all.
    pub(crate) fn window(&self, layer: usize) -> Option<usize> {
        let window = self.style.windows.get(layer).copied().flatten();
        window.filter(|&w| w < self.context_length)
    }

    /// The number of weights.
    pub fn parameters(&self) -> usize {
        let style = &self.style;
        let d = self.hidden_size;
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let norm = if style.layer_norm { 2 * d } else { d };
        let norms = match style.norms {
            NormPlaces::Both => 4 * norm,
            _ => 2 * norm,
        };
        let query_key = match style.query_key_norm {
            QueryKeyNorm::None => 0,
            QueryKeyNorm::Head => 2 * self.head_dim,
            QueryKeyNorm::Whole => q + kv,
        };
        let attention = d * 2 * (q + kv);
        let up = self.feed_forward_size * if style.plain_feed_forward { 1 } else { 2 };
        let feed_forward = d * (up + self.feed_forward_size);
        let with = |there: bool, size: usize| if there { size } else { 0 };
        let biases = with(style.biases.query_key_value, q + 2 * kv)
            + with(style.biases.attention_output, d)
            + with(style.biases.feed_forward, up + d);
        let block = attention + feed_forward + norms + query_key + biases;
        let embeddings = self.vocab_size * d;
        with(style.learned_positions, self.context_length * d)
            + embeddings
            + self.layers * block
            + norm
            + with(!self.tied_head, embeddings)
    }
}

fn positive(x: f32) -> bool {
    x.is_finite() && x > 0.0
}
