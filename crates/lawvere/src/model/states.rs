use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lawvere_core::{ContextBatch, Factored, Layer};
use lawvere_lm::LanguageModel;
use lawvere_lm::train::Architecture;
use lawvere_observe::Layers;
use lawvere_token::disk::{parent, write_file};
use lawvere_token::map_file;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;
use serde_json::json;

use super::given::{check_beginning, check_length, tokens};
use super::{Passage, last_layer, tell_cost};
use crate::cost::available_memory;
use crate::{Event, RunError};

/// The version of the format of a states file.
pub const STATES_SCHEMA: &str = "lawvere-states/1";
/// The one key of its metadata, a JSON object: several keys would come in any order.
const METADATA: &str = "lawvere";

/// What [`write_states`] writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatesOptions {
    /// Layers whose states are written; a list is taken as it is.
    pub layers: Layers,
    /// Layers (from 1 on) whose attention is written.
    pub attention: Option<Layers>,
    /// The command that reproduces the file.
    pub command: String,
}

/// What a states file holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatesSummary {
    /// The file.
    pub out: PathBuf,
    /// Tokens, a beginning-of-text token counted: rows of every matrix.
    pub tokens: usize,
    /// The dimension of a state.
    pub hidden_size: usize,
    /// Layers with states.
    pub layers: Vec<usize>,
    /// Layers with attention.
    pub attention: Vec<usize>,
    /// Seconds of the forward pass.
    pub seconds: f64,
}

/// Refuses a place for a states file that holds anything else.
///
/// # Errors
/// A folder, a file that is not a states file, a folder to write in that does not exist.
pub fn check_states_file(out: &Path) -> Result<(), RunError> {
    let refused = |what: &str| Err(RunError::Usage(format!("{}: {what}", out.display())));
    if out.is_dir() {
        return refused("a folder is there; choose the name of a file");
    }
    if !parent(out).is_dir() {
        return refused("the folder it is to be written in does not exist");
    }
    let ours = || {
        let map = map_file(out).ok()?;
        let (_, metadata) = SafeTensors::read_metadata(&map).ok()?;
        let text = metadata.metadata().as_ref()?.get(METADATA)?;
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        Some(value["schema"] == STATES_SCHEMA)
    };
    if out.exists() && ours() != Some(true) {
        return refused(
            "a file is there that holds no states of ours, and is not replaced; choose another name",
        );
    }
    Ok(())
}

/// Writes the states of every token of `text`, and its attention maps, into one safetensors file:
/// `tokens` (T), `states.LAYER` (T x d), `attention.LAYER` (heads x T x T). A beginning-of-text token,
/// where the model puts one before texts, is the first row.
///
/// # Errors
/// [`check_states_file`], layers that the model does not have, attention of a network without it, an
/// empty text, one longer than the model reads at once, what writing meets.
pub fn write_states(
    model: &LanguageModel,
    text: &Passage,
    options: &StatesOptions,
    out: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<StatesSummary, RunError> {
    check_states_file(out)?;
    let layers = chosen(&options.layers, last_layer(model), "--layers")?;
    let attention = match &options.attention {
        None => Vec::new(),
        Some(layers) => attention_layers(model, layers)?,
    };
    let own = tokens(model, &[text])?.remove(0);
    check_beginning(model, &own, &text.place, "text")?;
    check_length(model, own.len(), &text.place)?;
    let read: Vec<u32> = model.bos().into_iter().chain(own.iter().copied()).collect();
    let count = read.len();
    let heads = match model.architecture() {
        Architecture::Decoder(config) => config.heads,
        _ => 0,
    };
    let bytes = size_of::<f32>() as f64
        * count as f64
        * ((layers.len() * model.hidden_size()) as f64
            + attention.len() as f64 * heads as f64 * count as f64);
    // The file is put together in memory.
    if let Some(available) = available_memory().filter(|&a| 2.0 * bytes > a as f64) {
        return Err(RunError::Usage(format!(
            "these states and maps need {:.1} GB of memory, and {:.1} GB are available: take fewer layers or a shorter text",
            2.0 * bytes / 1e9,
            available as f64 / 1e9
        )));
    }
    let passes = 1 + usize::from(options.attention.is_some());
    tell_cost(model, (passes * count, count), 0, bytes as u64, on_event);
    on_event(Event::Part(format!("reading: {count} tokens")));
    let start = Instant::now();
    let bos = count - own.len();
    let positions: Vec<u32> = (0..count).map(|i| (i + 1 - bos) as u32).collect();
    let mut context = ContextBatch::new();
    context.push(&own, &positions)?;
    let wanted: Vec<Layer> = layers.iter().copied().map(Layer).collect();
    let states = model.encode(&context, &wanted)?;
    let maps = match attention.is_empty() {
        true => Vec::new(),
        false => model.attention(&own, &attention)?,
    };
    let seconds = start.elapsed().as_secs_f64();
    let metadata = json!({
        "schema": STATES_SCHEMA,
        "tool_version": env!("CARGO_PKG_VERSION"),
        "command": options.command,
        "model": model.origin().name,
        "model_sha256": model.identity(),
        "tokenizer_sha256": model.tokenizer().map(|t| t.identity()),
        "layers": layers,
        "attention": attention,
    });
    let mut arrays: Vec<(String, Vec<usize>, Dtype, &[u8])> = vec![(
        "tokens".into(),
        vec![count],
        Dtype::U32,
        bytemuck::cast_slice(&read),
    )];
    for (layer, matrix) in layers.iter().zip(&states) {
        let name = format!("states.{layer}");
        let bytes = bytemuck::cast_slice(matrix.data());
        arrays.push((name, vec![count, matrix.ncols()], Dtype::F32, bytes));
    }
    for (layer, matrix) in attention.iter().zip(&maps) {
        let name = format!("attention.{layer}");
        let bytes = bytemuck::cast_slice(matrix.data());
        arrays.push((name, vec![heads, count, count], Dtype::F32, bytes));
    }
    let io = |source| RunError::Io {
        path: out.to_owned(),
        source,
    };
    let other = |e: safetensors::SafeTensorError| io(std::io::Error::other(e));
    let views = arrays
        .into_iter()
        .map(|(name, shape, dtype, bytes)| Ok((name, TensorView::new(dtype, shape, bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(other)?;
    let metadata = HashMap::from([(METADATA.to_owned(), metadata.to_string())]);
    let file = safetensors::serialize(views, Some(metadata)).map_err(other)?;
    write_file(out, |writer| writer.write_all(&file)).map_err(io)?;
    Ok(StatesSummary {
        out: out.to_owned(),
        tokens: count,
        hidden_size: model.hidden_size(),
        layers,
        attention,
        seconds,
    })
}

/// The layers of a choice; a list as it is, in order.
fn chosen(layers: &Layers, last: usize, argument: &str) -> Result<Vec<usize>, RunError> {
    let resolved = layers.resolve(last);
    let mut resolved = resolved.map_err(|e| RunError::Usage(format!("{argument}: {e}")))?;
    if let Layers::These(these) = layers {
        resolved.retain(|layer| these.contains(layer));
    }
    Ok(resolved)
}

fn attention_layers(model: &LanguageModel, layers: &Layers) -> Result<Vec<usize>, RunError> {
    let usage = |what: &str| Err(RunError::Usage(format!("--attention: {what}")));
    if !matches!(model.architecture(), Architecture::Decoder(_)) {
        return usage("this network has no attention");
    }
    let mut chosen = chosen(layers, last_layer(model), "--attention")?;
    match layers {
        Layers::These(these) if these.contains(&0) => {
            return usage(
                "layer 0, the embeddings, is made without attention; layers count from 1",
            );
        }
        _ => chosen.retain(|&layer| layer > 0),
    }
    Ok(chosen)
}
