//! A language model as a Markov kernel that factors through its states.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lawvere_core::{
    ContextBatch, Factored, HeadRef, KernelError, Layer, LogProbs, NextToken, ReadoutNorm,
    RowMatrix,
};
use lawvere_token::gguf::Gguf;
use lawvere_token::{Tokenizer, sha256_of_file};

use crate::config::DecoderConfig;
use crate::decoder::{Batch, Decoder};
use crate::error::LmError;
use crate::gguf::GgufTensors;
use crate::safetensors::SafetensorsFiles;
use crate::weights::Weights;

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Origin {
    /// The name in its metadata, or of its file.
    pub name: String,
    /// How its weights are stored, with the number of tensors of each kind.
    pub storage: BTreeMap<String, usize>,
    /// Whether it carries a chat template: it was tuned on conversations.
    pub chat_template: bool,
}

/// A checkpoint, loaded: tokenizer, decoder, head.
#[derive(Debug)]
pub struct LanguageModel {
    path: PathBuf,
    tokenizer: Option<Tokenizer>,
    decoder: Decoder,
    identity: String,
    origin: Origin,
}

/// Sequences are taken through the decoder side by side until they hold this many tokens.
const TOKENS_AT_ONCE: usize = 1024;

impl LanguageModel {
    /// Opens a `.gguf` file or a Hugging Face checkpoint folder. Weights become float32: 4 bytes a
    /// parameter.
    ///
    /// # Errors
    /// Files that are missing, truncated or inconsistent; an architecture or tokenizer that is not
    /// supported; a tokenizer with more tokens than the model.
    pub fn open(path: &Path) -> Result<Self, LmError> {
        let model = if path.is_dir() {
            Self::open_folder(path)?
        } else {
            Self::open_gguf(path)?
        };
        let limit = model.decoder.config.vocab_size;
        match &model.tokenizer {
            Some(t) if t.vocab_size() > limit => Err(LmError::TokenizerMismatch {
                path: path.to_owned(),
                tokenizer: t.vocab_size(),
                model: limit,
            }),
            _ => Ok(model),
        }
    }

    fn open_gguf(path: &Path) -> Result<Self, LmError> {
        let gguf = Gguf::open(path)?;
        let config = crate::gguf::config(&gguf)?;
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        let weights = Weights::load(&config, GgufTensors::new(&gguf, &config))?;
        let origin = Origin {
            name: gguf
                .string("general.name")
                .map_or_else(|_| file_name(path), str::to_owned),
            storage: crate::gguf::storage(&gguf),
            chat_template: gguf.metadata().contains_key("tokenizer.chat_template"),
        };
        Ok(Self {
            path: path.to_owned(),
            tokenizer: Some(tokenizer),
            decoder: Decoder::new(config, weights),
            identity: sha256_of_file(path).map_err(|e| LmError::io(path, e))?,
            origin,
        })
    }

    fn open_folder(path: &Path) -> Result<Self, LmError> {
        let config = crate::safetensors::config(path)?;
        let files = crate::safetensors::files(path)?;
        let maps = crate::safetensors::map_all(files)?;
        let tensors = SafetensorsFiles::new(path, &maps)?;
        let origin = Origin {
            name: file_name(path),
            storage: tensors.storage(),
            chat_template: crate::safetensors::has_chat_template(path),
        };
        let weights = Weights::load(&config, tensors)?;
        let mut hashes = String::new();
        let config_file = path.join("config.json");
        for file in maps.iter().map(|(file, _)| file).chain([&config_file]) {
            hashes += &sha256_of_file(file).map_err(|e| LmError::io(file, e))?;
        }
        let has_tokenizer = path.join("tokenizer.json").exists();
        Ok(Self {
            path: path.to_owned(),
            tokenizer: has_tokenizer.then(|| Tokenizer::open(path)).transpose()?,
            decoder: Decoder::new(config, weights),
            identity: lawvere_token::sha256_hex(hashes.as_bytes()),
            origin,
        })
    }

    /// Where the checkpoint is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The decoder's shape.
    pub fn config(&self) -> &DecoderConfig {
        &self.decoder.config
    }

    /// The checkpoint's tokenizer; a folder without `tokenizer.json` has none.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// The SHA-256 of the checkpoint file; of a folder, that of its files' concatenated hashes
    /// (weights, then `config.json`).
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// What the checkpoint says of itself.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The norm before the head, with which other layers can be read out.
    pub fn readout_norm(&self) -> &ReadoutNorm {
        &self.decoder.weights.final_norm
    }

    /// Multiply-adds of one token's way through the blocks, attention scores left out.
    pub fn multiply_adds_per_token(&self) -> usize {
        let config = self.config();
        let embeddings = config.vocab_size * config.hidden_size;
        config.parameters() - embeddings * if config.tied_head { 1 } else { 2 }
    }

    fn batches(&self, contexts: &ContextBatch) -> Result<Vec<Batch>, KernelError> {
        let config = self.config();
        let bos = usize::from(config.bos.is_some());
        let mut batches: Vec<Batch> = Vec::new();
        for (index, window) in contexts.windows().enumerate() {
            // Tokens after the last position asked for cannot change what is read there.
            let read = window.positions.last().map_or(0, |&p| p as usize);
            let tokens = &window.tokens[..read];
            let length = read + bos;
            if length > config.context_length {
                return Err(KernelError::WindowExceeded {
                    window: index,
                    length,
                    limit: config.context_length,
                });
            }
            if let Some(&token) = tokens.iter().find(|&&t| t as usize >= config.vocab_size) {
                let vocab_size = config.vocab_size;
                return Err(KernelError::TokenOutOfRange {
                    window: index,
                    token,
                    vocab_size,
                });
            }
            if bos == 0 && window.positions.first() == Some(&0) {
                return Err(KernelError::EmptyContext { window: index });
            }
            if window.positions.is_empty() {
                continue;
            }
            let full = |b: &Batch| b.tokens.len() + length > TOKENS_AT_ONCE;
            if batches.last().is_none_or(full) {
                batches.push(Batch {
                    tokens: Vec::new(),
                    windows: Vec::new(),
                    keep: Vec::new(),
                });
            }
            let Some(batch) = batches.last_mut() else {
                continue;
            };
            let start = batch.tokens.len() + bos;
            batch.tokens.extend(config.bos);
            batch.tokens.extend_from_slice(tokens);
            batch.windows.push(length);
            batch
                .keep
                .extend(window.positions.iter().map(|&p| start + p as usize - 1));
        }
        Ok(batches)
    }
}

fn file_name(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

impl NextToken for LanguageModel {
    fn vocab_size(&self) -> usize {
        self.config().vocab_size
    }

    fn log_probs(
        &self,
        contexts: &ContextBatch,
        visit: &mut dyn FnMut(usize, LogProbs) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let mut first = 0;
        for batch in self.batches(contexts)? {
            let mut states = None;
            self.decoder
                .forward(&batch, &[self.last_layer().0], |_, s| states = Some(s))?;
            let Some(states) = states else { continue };
            self.head()
                .for_each_log_prob_block::<KernelError>(&states, |block| {
                    visit(
                        first + block.first_row,
                        LogProbs::Dense(block.log_probs.clone()),
                    )
                })?;
            first += states.nrows();
        }
        Ok(())
    }
}

impl Factored for LanguageModel {
    fn last_layer(&self) -> Layer {
        Layer(self.config().layers)
    }

    fn encode(
        &self,
        contexts: &ContextBatch,
        layers: &[Layer],
    ) -> Result<Vec<RowMatrix<f32>>, KernelError> {
        let last = self.last_layer().0;
        if let Some(unknown) = layers.iter().find(|l| l.0 > last) {
            return Err(KernelError::UnknownLayer {
                layer: unknown.0,
                last,
            });
        }
        let mut wanted: Vec<usize> = layers.iter().map(|l| l.0).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let d = self.config().hidden_size;
        let mut states: Vec<RowMatrix<f32>> = layers
            .iter()
            .map(|_| RowMatrix::zeros(contexts.rows(), d))
            .collect();
        let mut first = 0;
        for batch in self.batches(contexts)? {
            let rows = batch.keep.len();
            self.decoder.forward(&batch, &wanted, |layer, kept| {
                for (slot, _) in states.iter_mut().zip(layers).filter(|(_, l)| l.0 == layer) {
                    slot.data_mut()[first * d..(first + rows) * d].copy_from_slice(kept.data());
                }
            })?;
            first += rows;
        }
        Ok(states)
    }

    fn head(&self) -> HeadRef<'_> {
        HeadRef {
            weight: self.decoder.head().view(),
            bias: None,
            soft_cap: None,
        }
    }
}
