//! Hugging Face checkpoint folders: `config.json` and `*.safetensors`, in one file or several.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lawvere_token::{Mmap, map_file};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::config::{DecoderConfig, Family, NormPlaces};
use crate::error::{LmError, supported};
use crate::families::{MODEL_TYPES, Rows, Stored, decoder_config, is_left_over, offset, stored};
use crate::train::{Architecture, LSTM_TYPE, MLP_TYPE, Parameters, Spec, Tensor};
use crate::weights::{Part, Role, TensorSource};
use lawvere_core::RowMatrix;

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
    let family = MODEL_TYPES.iter().find(|(name, _)| *name == found);
    let architecture = match (found.as_str(), family) {
        (_, Some(&(_, family))) => Architecture::Decoder(config(folder, family)?),
        (LSTM_TYPE, _) => Architecture::Lstm(read_json(&path)?),
        (MLP_TYPE, _) => Architecture::Mlp(read_json(&path)?),
        _ => {
            return Err(LmError::Architecture {
                path,
                found,
                supported: supported(),
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
fn config(folder: &Path, family: Family) -> Result<DecoderConfig, LmError> {
    let path = folder.join("config.json");
    let mut config = decoder_config(&path, &read_json(&path)?, family)?;
    config.bos = bos(folder)?;
    Ok(config)
}

/// The token the checkpoint's configuration puts before a text: `add_bos_token` in `tokenizer_config.json` says whether
/// there is one, and where it does not, the template of `tokenizer.json`, if it begins with it.
fn bos(folder: &Path) -> Result<Option<u32>, LmError> {
    #[derive(Deserialize)]
    struct Ids {
        bos_token_id: Option<u32>,
    }
    let id = || Ok(read_json::<Ids>(&folder.join("config.json"))?.bos_token_id);
    let path = folder.join("tokenizer_config.json");
    let said = match path.exists() {
        true => read_json::<TokenizerConfig>(&path)?.add_bos_token,
        false => None,
    };
    match said {
        Some(true) => id(),
        Some(false) => Ok(None),
        None => Ok(id()?.filter(|&id| template_begins_with(folder, id))),
    }
}

/// Whether `tokenizer.json` puts this token before every text.
fn template_begins_with(folder: &Path, id: u32) -> bool {
    #[derive(Deserialize)]
    struct File {
        post_processor: Option<serde_json::Value>,
    }
    let Ok(file) = read_json::<File>(&folder.join("tokenizer.json")) else {
        // What is wrong with the file is said where it is opened.
        return false;
    };
    let Some(processor) = file.post_processor else {
        return false;
    };
    let parts = match processor["processors"].as_array() {
        Some(all) => all.clone(),
        None => vec![processor],
    };
    parts.iter().any(|part| {
        let name = &part["single"][0]["SpecialToken"]["id"];
        let ids = name
            .as_str()
            .map(|name| &part["special_tokens"][name]["ids"]);
        ids.is_some_and(|ids| ids[0].as_u64() == Some(u64::from(id)))
    })
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
        let values = {
            let (path, tensor) = self.find(&name, "", shape)?;
            converted(path, &name, tensor.dtype(), tensor.data())?
        };
        self.finite(&name, &values)?;
        self.taken.insert(name);
        Ok(values)
    }

    /// A tensor by its name, with or without a beginning that some files leave out.
    fn find(
        &self,
        name: &str,
        prefix: &str,
        shape: &[usize],
    ) -> Result<(&Path, TensorView<'_>), LmError> {
        let short = name.strip_prefix(prefix).unwrap_or(name);
        let found = [name, short].into_iter().find_map(|name| {
            let mut parts = self.parts.iter();
            parts.find_map(|(path, t)| Some((*path, t.tensor(name).ok()?)))
        });
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
        Ok((path, tensor))
    }

    fn finite(&self, name: &str, values: &[f32]) -> Result<(), LmError> {
        match values.iter().find(|x| !x.is_finite()) {
            None => Ok(()),
            Some(bad) => Err(LmError::checkpoint(
                self.folder,
                format!("the tensor `{name}` holds the value {bad}"),
            )),
        }
    }
}

/// Stored values as float32.
fn converted(path: &Path, name: &str, dtype: Dtype, data: &[u8]) -> Result<Vec<f32>, LmError> {
    let pairs = || data.as_chunks().0.iter();
    Ok(match dtype {
        Dtype::F32 => data
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect(),
        Dtype::F16 => pairs()
            .map(|b| half::f16::from_le_bytes(*b).to_f32())
            .collect(),
        Dtype::BF16 => pairs()
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
    })
}

/// The tensors of a decoder's folder.
pub(crate) struct DecoderTensors<'a> {
    files: SafetensorsFiles<'a>,
    config: &'a DecoderConfig,
}

impl<'a> DecoderTensors<'a> {
    pub fn new(files: SafetensorsFiles<'a>, config: &'a DecoderConfig) -> Self {
        Self { files, config }
    }
}

impl TensorSource for DecoderTensors<'_> {
    fn take(&mut self, role: Role, part: Part, shape: &[usize]) -> Result<Vec<f32>, LmError> {
        let Stored {
            name,
            prefix,
            rows,
            transposed,
        } = stored(self.config, role, part);
        let mut whole = shape.to_vec();
        whole[0] = rows.stored(shape[0]);
        if transposed {
            whole.reverse();
        }
        let (path, tensor) = self.files.find(&name, prefix, &whole)?;
        let (data, dtype) = (tensor.data(), tensor.dtype());
        let columns = shape.get(1).copied().unwrap_or(1);
        let mut values = match (transposed, rows) {
            (false, Rows::All) => converted(path, &name, dtype, data)?,
            (false, rows) => {
                let row = data.len() / whole[0].max(1);
                let mut values = Vec::with_capacity(shape[0] * columns);
                for r in (0..shape[0]).map(|r| rows.at(r)) {
                    let row = &data[r * row..(r + 1) * row];
                    values.extend(converted(path, &name, dtype, row)?);
                }
                values
            }
            (true, rows) => {
                let all = converted(path, &name, dtype, data)?;
                let at = |r: usize, c: usize| all[c * whole[1] + rows.at(r)];
                let row = |r: usize| (0..columns).map(move |c| at(r, c));
                (0..shape[0]).flat_map(row).collect()
            }
        };
        let short = name.strip_prefix(prefix).unwrap_or(&name).to_owned();
        self.files.finite(&name, &values)?;
        self.files.taken.extend([name, short]);
        let offset = offset(self.config.style.family, role);
        if offset != 0.0 {
            values.iter_mut().for_each(|x| *x += offset);
        }
        Ok(values)
    }

    fn finish(self) -> Result<(), LmError> {
        self.files.finish()
    }
}

impl SafetensorsFiles<'_> {
    /// An error if there are tensors that nobody took and that are no second copies or tables.
    fn finish(self) -> Result<(), LmError> {
        for (path, part) in &self.parts {
            for name in part.names() {
                if !self.taken.contains(name) && !is_left_over(name) {
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
    format!("{}.weight", crate::families::name(role, NormPlaces::Before))
}
