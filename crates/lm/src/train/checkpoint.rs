//! Networks and runs to files and back.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::Path;

use lawvere_token::disk::write_file;
use lawvere_token::{map_file, sha256_hex};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::LmError;
use crate::train::Architecture;
use crate::train::learner::Learner;
use crate::train::parameters::Parameters;

const SCHEMA: &str = "lawvere-training/1";

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn write_tensors(
    path: &Path,
    tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
    metadata: Option<HashMap<String, String>>,
) -> Result<(), LmError> {
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .iter()
        .map(|(name, kind, shape, bytes)| {
            TensorView::new(*kind, shape.clone(), bytes).map(|view| (name.as_str(), view))
        })
        .collect::<Result<_, _>>()
        .map_err(|e| LmError::checkpoint(path, e.to_string()))?;
    let bytes = safetensors::serialize(views, metadata)
        .map_err(|e| LmError::checkpoint(path, e.to_string()))?;
    write_file(path, |file| file.write_all(&bytes)).map_err(|e| LmError::io(path, e))
}

fn tensors(
    prefix: &str,
    parameters: &Parameters<f32>,
) -> Vec<(String, Dtype, Vec<usize>, Vec<u8>)> {
    let entry = |(part, values): (&crate::train::parameters::Part, &[f32])| {
        let name = format!("{prefix}{}", part.name);
        (name, Dtype::F32, part.shape.clone(), f32_bytes(values))
    };
    parameters.parts().map(entry).collect()
}

/// Whether a file looks like the state of a training run, whole or damaged: so that no other file is
/// taken for one and replaced.
pub fn is_state(path: &Path) -> bool {
    // The header comes first; a file cut off after it is still ours.
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(4096).read_to_end(&mut start));
    read.is_ok() && String::from_utf8_lossy(&start).contains(SCHEMA)
}

/// A hash of tensors by name.
fn checksum<'a>(tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hashes: Vec<String> = tensors
        .map(|(name, bytes)| format!("{name} {}", sha256_hex(bytes)))
        .collect();
    hashes.sort_unstable();
    sha256_hex(hashes.join("\n").as_bytes())
}

pub(crate) fn write_state(
    path: &Path,
    identity: &str,
    learner: &Learner<f32>,
    losses: &[f64],
) -> Result<(), LmError> {
    let mut all = tensors("parameter.", &learner.parameters);
    for (k, moment) in learner.moments.iter().enumerate() {
        all.extend(tensors(&format!("moment.{k}."), moment));
    }
    let bytes = losses.iter().flat_map(|x| x.to_le_bytes()).collect();
    all.push(("losses".into(), Dtype::F64, vec![losses.len()], bytes));
    let metadata = HashMap::from([
        ("schema".to_owned(), SCHEMA.to_owned()),
        ("run".to_owned(), identity.to_owned()),
        (
            "sha256".to_owned(),
            checksum(all.iter().map(|t| (t.0.as_str(), t.3.as_slice()))),
        ),
    ]);
    write_tensors(path, all, Some(metadata))
}

/// The losses of the run so far, with the learner brought to its state; `None` if the file is of
/// another run.
pub(crate) fn read_state(
    path: &Path,
    identity: &str,
    learner: &mut Learner<f32>,
) -> Result<Option<Vec<f64>>, LmError> {
    let wrong = |what: String| {
        LmError::checkpoint(
            path,
            format!("{what}; delete the file to begin the training again"),
        )
    };
    let map = map_file(path).map_err(|e| LmError::io(path, e))?;
    let unreadable = |e| {
        wrong(format!(
            "not a usable safetensors file (is it truncated?): {e}"
        ))
    };
    let (_, header) = SafeTensors::read_metadata(&map).map_err(unreadable)?;
    let run = header.metadata().as_ref().and_then(|m| m.get("run"));
    if run.is_none_or(|run| run != identity) {
        return Ok(None);
    }
    let stored = header.metadata().as_ref().and_then(|m| m.get("sha256"));
    let file = SafeTensors::deserialize(&map).map_err(unreadable)?;
    let tensors = file.tensors();
    let found = checksum(tensors.iter().map(|(name, t)| (name.as_str(), t.data())));
    if stored.is_none_or(|stored| *stored != found) {
        return Err(wrong("its tensors are not those that were written".into()));
    }
    let mut parameters = learner.parameters.clone();
    let mut moments = learner.moments.clone();
    let names = (0..moments.len()).map(|k| format!("moment.{k}."));
    let prefixes: Vec<String> = std::iter::once("parameter.".to_owned())
        .chain(names)
        .collect();
    let all = std::iter::once(&mut parameters).chain(&mut moments);
    for (prefix, tensors) in prefixes.iter().zip(all) {
        for (part, values) in tensors.parts_mut() {
            let name = format!("{prefix}{}", part.name);
            let found = file
                .tensor(&name)
                .map_err(|_| wrong(format!("the tensor `{name}` is missing")))?;
            if found.dtype() != Dtype::F32 || found.shape() != part.shape {
                return Err(wrong(format!(
                    "the tensor `{name}` is {:?} {:?}, not F32 {:?}",
                    found.dtype(),
                    found.shape(),
                    part.shape
                )));
            }
            let stored = found.data().as_chunks().0.iter();
            let pairs = values.iter_mut().zip(stored);
            pairs.for_each(|(x, bytes)| *x = f32::from_le_bytes(*bytes));
        }
    }
    let losses = file
        .tensor("losses")
        .ok()
        .filter(|t| t.dtype() == Dtype::F64)
        .ok_or_else(|| wrong("the losses are missing".into()))?;
    let losses = losses.data().as_chunks().0.iter();
    let losses: Vec<f64> = losses.map(|bytes| f64::from_le_bytes(*bytes)).collect();
    learner.parameters = parameters;
    learner.moments = moments;
    Ok(Some(losses))
}

pub(crate) fn write_model(
    folder: &Path,
    architecture: &Architecture,
    parameters: &Parameters<f32>,
    document_end: Option<u32>,
) -> Result<(), LmError> {
    let mut config = match architecture {
        Architecture::Decoder(c) => json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": c.vocab_size,
            "hidden_size": c.hidden_size,
            "intermediate_size": c.feed_forward_size,
            "num_hidden_layers": c.layers,
            "num_attention_heads": c.heads,
            "num_key_value_heads": c.kv_heads,
            "head_dim": c.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": c.context_length,
            "rms_norm_eps": c.norm_eps,
            "rope_theta": c.rope_theta,
            "tie_word_embeddings": c.tied_head,
            "attention_bias": false,
            "mlp_bias": false,
            "torch_dtype": "float32",
        }),
        Architecture::Lstm(c) => {
            let mut config = json!(c);
            config["model_type"] = json!(LSTM_TYPE);
            config
        }
        Architecture::Mlp(c) => {
            let mut config = json!(c);
            config["model_type"] = json!(MLP_TYPE);
            config
        }
        Architecture::Features(_) => {
            return Err(LmError::Training(
                "unconstrained features read no text: they are no language model".into(),
            ));
        }
    };
    if let Some(token) = document_end {
        config["eos_token_id"] = json!(token);
        config[DOCUMENT_END] = json!(token);
    }
    write_tensors(
        &folder.join("model.safetensors"),
        tensors("", parameters),
        Some(HashMap::from([("format".to_owned(), "pt".to_owned())])),
    )?;
    let path = folder.join("config.json");
    write_file(&path, |file| writeln!(file, "{config:#}")).map_err(|e| LmError::io(&path, e))
}

/// `model_type` of an LSTM's `config.json`.
pub(crate) const LSTM_TYPE: &str = "lawvere-lstm";
/// `model_type` of a multilayer perceptron's `config.json`.
pub(crate) const MLP_TYPE: &str = "lawvere-mlp";
/// The field of `config.json` that names the token which ends every document, where the model was
/// trained with one.
pub(crate) const DOCUMENT_END: &str = "document_end_token_id";
