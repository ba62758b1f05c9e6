//! What is trained unless something else is asked for: on the built-in language a decoder that takes
//! about half a minute on two cores.

/// Stories of the built-in language.
pub const STORIES: usize = 20_000;
/// Updates.
pub const STEPS: u64 = 1500;
/// Windows a step.
pub const BATCH: usize = 16;
/// Tokens of a window.
pub const WINDOW: usize = 64;
/// Layers.
pub const LAYERS: usize = 3;
/// Dimension of a state.
pub const WIDTH: usize = 64;
/// Attention heads.
pub const HEADS: usize = 4;
/// AdamW's learning rate.
pub const RATE: f64 = 0.006;
/// Steps over which it grows to that.
pub const WARMUP: u64 = 20;
/// The fraction of it that is left at the end.
pub const FINAL_RATE: f64 = 0.05;
/// The longest gradient.
pub const CLIP: f64 = 1.0;
