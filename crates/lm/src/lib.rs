//! Language models: checkpoints, one configurable decoder, the states of all layers in one pass.
//!
//! A [`LanguageModel`] is opened from a GGUF file or a Hugging Face checkpoint folder and is a
//! Markov kernel that factors as `head . encoder` ([`lawvere_core::Factored`]). Weights are
//! computed with in float32, whatever they are stored in, or in bfloat16 ([`Precision`]).
//!
//! Loaded now, from Hugging Face folders: GPT-2, GPT-NeoX (Pythia), Llama 2 and 3, Mistral, SmolLM2, TinyLlama, Qwen 2,
//! 2.5 and 3, OLMo 2, Gemma 2 and 3 (text) and Phi-3, by one [decoder](DecoderConfig) with a [style](DecoderStyle); from GGUF
//! files the same; and the networks that [`train`] makes.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod attention;
mod config;
mod decoder;
mod error;
mod families;
mod forest;
mod generate;
mod gguf;
mod maps;
mod model;
mod precision;
mod product;
mod rope;
mod safetensors;
mod sampling;
mod score;
pub mod train;
mod untrained;
mod weights;

pub use config::{
    Activation, Biases, DecoderConfig, DecoderStyle, Family, NormPlaces, QueryKeyNorm,
};
pub use error::LmError;
pub use generate::{Finish, Generated, Generation};
pub use model::{LanguageModel, Origin};
pub use precision::Precision;
pub use product::Device;
pub use rope::RopeScaling;
pub use sampling::{Dice, Sampling};
pub use score::{Reading, Score, Scores, Windows};
