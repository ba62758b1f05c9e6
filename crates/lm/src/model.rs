//! A language model as a Markov kernel that factors through its states.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use lawvere_core::{
    ContextBatch, Factored, HeadRef, KernelError, Layer, LogProbs, NextToken, ReadoutNorm,
    RowMatrix,
};
use lawvere_token::gguf::Gguf;
use lawvere_token::{Tokenizer, sha256_of_file};

use crate::decoder::{Decoder, Tokens};
use crate::error::LmError;
use crate::forest::{PrefixForest, WayMemory};
use crate::gguf::GgufTensors;
use crate::precision::Precision;
use crate::product::{Device, Products};
use crate::safetensors::{DecoderTensors, SafetensorsFiles};
use crate::train::{Architecture, Input, Parameters};
use crate::untrained::{self, Redrawn};
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
pub struct LanguageModel {
    path: PathBuf,
    tokenizer: Option<Tokenizer>,
    architecture: Architecture,
    network: Network,
    document_end: Option<u32>,
    eos: Vec<u32>,
    identity: String,
    origin: Origin,
    /// The seed of weights that are not the checkpoint's own.
    redraw: Option<u64>,
    precision: Precision,
}

impl fmt::Debug for LanguageModel {
    /// What it is; not its weights.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanguageModel")
            .field("path", &self.path)
            .field("architecture", &self.architecture)
            .field("identity", &self.identity)
            .field("origin", &self.origin)
            .field("redraw", &self.redraw)
            .field("precision", &self.precision)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Network {
    Decoder(Box<Decoder>),
    /// An LSTM or a perceptron, computed by the code that trains it.
    Small {
        parameters: Parameters<f32>,
        head: usize,
    },
}

/// Tokens taken through a network together.
const TOKENS_AT_ONCE: usize = 1024;
/// Rows whose states are held while their laws are handed out.
const ROWS_AT_ONCE: usize = 8192;

impl LanguageModel {
    /// Opens a `.gguf` file, a Hugging Face checkpoint folder, or `hf:ORG/NAME[@REVISION]` out of the hub's cache
    /// ([`lawvere_token::resolve`]). Weights become float32: 4 bytes a
    /// parameter, and a decoder's head is kept twice ([`bytes`](Self::bytes)).
    ///
    /// # Errors
    /// Files that are missing, truncated or inconsistent; an architecture or tokenizer that is not
    /// supported; a tokenizer with more tokens than the model.
    pub fn open(path: &Path) -> Result<Self, LmError> {
        Self::open_in(path, Precision::F32)
    }

    /// As [`open`](Self::open), a decoder's products in `precision`. In bfloat16 weights take 2 bytes a parameter, and a
    /// decoder's head 6; [`identity`](Self::identity) is not that of the checkpoint in float32.
    ///
    /// # Errors
    /// As [`open`](Self::open); a precision that is not the network's: LSTMs and perceptrons are float32.
    pub fn open_in(path: &Path, precision: Precision) -> Result<Self, LmError> {
        Self::open_on(path, precision, Device::Cpu)
    }

    /// As [`open_in`](Self::open_in), the products of a decoder's blocks on `device`.
    ///
    /// # Errors
    /// As [`open_in`](Self::open_in); a device that is not there or that the program was built without; another precision
    /// than float32 on another device than the processor.
    pub fn open_on(path: &Path, precision: Precision, device: Device) -> Result<Self, LmError> {
        let products = Products::new(precision, device, path)?;
        let mut model = Self::with_products(path, None, &products)?;
        if (precision, device) != Default::default() && model.decoder().is_none() {
            return Err(LmError::checkpoint(
                path,
                "LSTMs, perceptrons and features are computed in f32 on the cpu only",
            ));
        }
        if precision != Precision::F32 {
            let identity = format!("{precision} {}", model.identity);
            model.identity = lawvere_token::sha256_hex(identity.as_bytes());
            model.precision = precision;
        }
        Ok(model)
    }

    /// The network that a checkpoint's was before it was trained: its architecture and tokenizer, with
    /// every weight drawn anew from `seed`, the control against which what training made is seen.
    ///
    /// A decoder's matrices are independent normal values, of the deviation that `config.json` names
    /// `initializer_range`, or 0.02, the family's, where it is not stated (as in a GGUF file); its norms
    /// are 1. Other networks begin as `lawvere train` begins them. The weights depend on seed, shapes and
    /// deviation alone, not on the format or the threads; [`identity`](Self::identity) is never that of
    /// the checkpoint, whose own weights are hashed but not read.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn untrained(path: &Path, seed: u64) -> Result<Self, LmError> {
        let products = Products::new(Precision::F32, Device::Cpu, path)?;
        Self::with_products(path, Some(seed), &products)
    }

    pub(crate) fn with_products(
        path: &Path,
        redraw: Option<u64>,
        products: &Products,
    ) -> Result<Self, LmError> {
        let path = &lawvere_token::resolve(path)?;
        let mut model = if path.is_dir() {
            Self::open_folder(path, redraw, products)?
        } else {
            Self::open_gguf(path, redraw, products)?
        };
        if let Some(seed) = redraw {
            model.origin.name += &untrained::note(seed);
            model.origin.storage.clear();
            model.identity = untrained::identity(&model.identity, seed);
        }
        let limit = model.architecture.vocab_size();
        match &model.tokenizer {
            Some(t) if t.vocab_size() > limit => Err(LmError::TokenizerMismatch {
                path: path.to_owned(),
                tokenizer: t.vocab_size(),
                model: limit,
            }),
            _ => Ok(model),
        }
    }

    fn open_gguf(path: &Path, redraw: Option<u64>, products: &Products) -> Result<Self, LmError> {
        let gguf = Gguf::open(path)?;
        let config = crate::gguf::config(&gguf)?;
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        let weights = match redraw {
            None => Weights::load(&config, products, GgufTensors::new(&gguf, &config))?,
            Some(seed) => Weights::load(&config, products, Redrawn::new(seed, None))?,
        };
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
            architecture: Architecture::Decoder(config.clone()),
            network: Network::Decoder(Box::new(Decoder::new(config, weights, products.clone()))),
            document_end: None,
            eos: crate::gguf::eos(&gguf)?,
            identity: sha256_of_file(path).map_err(|e| LmError::io(path, e))?,
            origin,
            redraw,
            precision: Precision::F32,
        })
    }

    fn open_folder(path: &Path, redraw: Option<u64>, products: &Products) -> Result<Self, LmError> {
        let (architecture, document_end) = crate::safetensors::architecture(path)?;
        let files = crate::safetensors::files(path)?;
        let maps = crate::safetensors::map_all(files)?;
        let tensors = SafetensorsFiles::new(path, &maps)?;
        let origin = Origin {
            name: file_name(path),
            storage: tensors.storage(),
            chat_template: crate::safetensors::has_chat_template(path),
        };
        let network = match &architecture {
            Architecture::Decoder(config) => {
                let weights = match redraw {
                    None => Weights::load(config, products, DecoderTensors::new(tensors, config))?,
                    Some(seed) => {
                        let deviation = crate::safetensors::initializer_range(path)?;
                        Weights::load(config, products, Redrawn::new(seed, deviation))?
                    }
                };
                Network::Decoder(Box::new(Decoder::new(
                    config.clone(),
                    weights,
                    products.clone(),
                )))
            }
            small => {
                let network = small.network::<f32>();
                let specs = network.specs();
                Network::Small {
                    parameters: match redraw {
                        None => tensors.parameters(&specs)?,
                        Some(seed) => Parameters::begin(&specs, seed),
                    },
                    head: network.head(),
                }
            }
        };
        let mut hashes = String::new();
        let config_file = path.join("config.json");
        for file in maps.iter().map(|(file, _)| file).chain([&config_file]) {
            hashes += &sha256_of_file(file).map_err(|e| LmError::io(file, e))?;
        }
        let has_tokenizer = path.join("tokenizer.json").exists();
        let vocab_size = architecture.vocab_size();
        let mut eos = crate::safetensors::eos(path)?;
        eos.retain(|&token| (token as usize) < vocab_size);
        eos.extend(document_end.filter(|end| !eos.contains(end)));
        Ok(Self {
            path: path.to_owned(),
            tokenizer: has_tokenizer.then(|| Tokenizer::open(path)).transpose()?,
            architecture,
            network,
            document_end,
            eos,
            identity: lawvere_token::sha256_hex(hashes.as_bytes()),
            origin,
            redraw,
            precision: Precision::F32,
        })
    }

    /// Where the checkpoint is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the checkpoint is, whether its weights are not its own, and its precision if it is not float32, for people.
    pub fn label(&self) -> String {
        let note = self.redraw.map_or_else(String::new, untrained::note);
        format!("{}{note}{}", self.path.display(), self.precision.note())
    }

    /// What its products are computed in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The network's shape.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The dimension of a state.
    pub fn hidden_size(&self) -> usize {
        self.head().dim()
    }

    /// The longest window it reads, in tokens, its beginning-of-text token counted.
    pub fn context_length(&self) -> usize {
        match &self.architecture {
            Architecture::Decoder(config) => config.context_length,
            _ => usize::MAX,
        }
    }

    /// The token put before every window, if the checkpoint's own configuration adds one.
    pub fn bos(&self) -> Option<u32> {
        match &self.architecture {
            Architecture::Decoder(config) => config.bos,
            _ => None,
        }
    }

    /// The token that ends every document, if the model was trained with one: then the end of a
    /// document is an outcome of its laws.
    pub fn document_end(&self) -> Option<u32> {
        self.document_end
    }

    /// The tokens that end a text, as the checkpoint's own configuration and a model trained here have
    /// them; where there are none, texts end only at their longest.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// The checkpoint's tokenizer; a folder without `tokenizer.json` has none.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// The SHA-256 of the checkpoint file; of a folder, that of its files' concatenated hashes
    /// (weights, then `config.json`). Of [`untrained`](Self::untrained) weights that of their making.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// What the checkpoint says of itself.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The norm before the head, with which other layers can be read out, where there is one.
    pub fn readout_norm(&self) -> Option<&ReadoutNorm> {
        match &self.network {
            Network::Decoder(decoder) => Some(&decoder.weights.final_norm),
            Network::Small { .. } => None,
        }
    }

    /// Multiply-adds of one token's way to the head's input, attention scores left out.
    pub fn multiply_adds_per_token(&self) -> usize {
        let (embedding, head) = match &self.architecture {
            Architecture::Decoder(c) => (
                c.vocab_size * c.hidden_size,
                if c.tied_head {
                    0
                } else {
                    c.vocab_size * c.hidden_size
                },
            ),
            Architecture::Lstm(c) => (
                c.vocab_size * c.embedding_size,
                c.vocab_size * c.hidden_size,
            ),
            Architecture::Mlp(c) => (
                c.vocab_size * c.embedding_size,
                c.vocab_size * c.hidden_sizes.last().unwrap_or(&0),
            ),
            Architecture::Features(c) => (c.contexts * c.dim, c.vocab_size * c.dim),
        };
        self.architecture.parameters() - embedding - head
    }

    /// Memory of the weights as they are computed with: in their precision, and of a decoder the head both as rows in
    /// float32 and laid out for products, the embedding in float32.
    pub fn bytes(&self) -> usize {
        let parameters = self.architecture.parameters();
        let Some(decoder) = self.decoder() else {
            return 4 * parameters;
        };
        let head = self.vocab_size() * self.hidden_size();
        let rows = if decoder.config.tied_head {
            head
        } else {
            2 * head
        };
        let each = match self.precision {
            Precision::F32 => 4,
            Precision::Bf16(_) => 2,
        };
        4 * rows + each * (head + parameters - rows)
    }

    /// Multiply-adds of one token's attention, on average over a text of so many tokens: its scores and
    /// the sum of what it sees, in all blocks.
    pub fn attention_multiply_adds(&self, tokens: usize) -> usize {
        match &self.architecture {
            Architecture::Decoder(c) => c.layers * c.heads * c.head_dim * (tokens + 1),
            _ => 0,
        }
    }

    /// What is wrong with some of `contexts` for this model, if anything.
    pub(crate) fn check(
        &self,
        contexts: &ContextBatch,
        windows: Range<usize>,
    ) -> Result<(), KernelError> {
        let (vocab_size, limit) = (self.vocab_size(), self.context_length());
        let bos = usize::from(self.bos().is_some());
        for (index, window) in windows.map(|i| (i, contexts.window(i))) {
            // Tokens after the last position asked for cannot change what is read there.
            let read = window.positions.last().map_or(0, |&p| p as usize);
            let length = read + bos;
            if length > limit {
                return Err(KernelError::WindowExceeded {
                    window: index,
                    length,
                    limit,
                });
            }
            let mut tokens = window.tokens[..read].iter();
            if let Some(&token) = tokens.find(|&&t| t as usize >= vocab_size) {
                return Err(KernelError::TokenOutOfRange {
                    window: index,
                    token,
                    vocab_size,
                });
            }
            if bos == 0 && window.positions.first() == Some(&0) {
                return Err(KernelError::EmptyContext { window: index });
            }
        }
        Ok(())
    }

    /// Hands the states of the rows of `windows` to `take`, stretch after stretch: which rows, the
    /// layer, the states. Layers increase within a stretch. Returns the number of tokens forwarded.
    ///
    /// In a decoder each distinct prefix of the windows goes through once.
    pub(crate) fn for_each_stretch<E: From<KernelError>>(
        &self,
        contexts: &ContextBatch,
        windows: Range<usize>,
        layers: &[usize],
        mut take: impl FnMut(&StretchRows, usize, RowMatrix<f32>) -> Result<(), E>,
    ) -> Result<usize, E> {
        self.check(contexts, windows.clone())?;
        let rows: usize = windows
            .clone()
            .map(|i| contexts.window(i).positions.len())
            .sum();
        let tokens: usize = windows
            .clone()
            .map(|i| contexts.window(i).tokens.len())
            .sum();
        // Prefixes are numbered in 32 bits.
        if rows.max(tokens) >= u32::MAX as usize {
            return Err(E::from(KernelError::Other(
                format!(
                    "{tokens} tokens and {rows} rows at once; ask for fewer than 2^32 at a time"
                )
                .into(),
            )));
        }
        match &self.network {
            Network::Decoder(decoder) => {
                let forest = PrefixForest::new(contexts, windows, self.bos());
                let mut order: Vec<u32> = (0..forest.rows.len() as u32).collect();
                order.sort_unstable_by_key(|&row| (forest.rows[row as usize], row));
                let mut memory = WayMemory::new(decoder.config.layers, decoder.layout());
                let mut workspace = decoder.workspace();
                let mut left = order.as_slice();
                for first in (0..forest.len()).step_by(TOKENS_AT_ONCE) {
                    let nodes = first..forest.len().min(first + TOKENS_AT_ONCE);
                    let node = |row: &u32| forest.rows[*row as usize] as usize;
                    let (here, rest) =
                        left.split_at(left.partition_point(|row| node(row) < nodes.end));
                    left = rest;
                    let mut rows = StretchRows::default();
                    let mut keep = Vec::new();
                    for same in here.chunk_by(|a, b| node(a) == node(b)) {
                        keep.push(node(&same[0]) - first);
                        rows.push(same.iter().map(|&row| row as usize));
                    }
                    memory.advance(&forest, &nodes);
                    let tokens = Tokens {
                        tokens: &forest.tokens[nodes.clone()],
                        positions: &forest.positions[nodes],
                        keep: &keep,
                    };
                    let mut taken = Ok(());
                    decoder.forward(
                        &mut workspace,
                        &tokens,
                        &mut memory,
                        layers,
                        |layer, states| {
                            if taken.is_ok() {
                                taken = take(&rows, layer, states);
                            }
                        },
                    )?;
                    taken?;
                }
                Ok(forest.len())
            }
            Network::Small { parameters, .. } => {
                let mut forwarded = 0;
                for batch in small_batches(contexts, windows) {
                    let mut network = self.architecture.network::<f32>();
                    let input = Input {
                        tokens: &batch.tokens,
                        windows: &batch.windows,
                    };
                    network.forward(parameters, input);
                    let states = network.states(parameters, network.layers());
                    let kept = RowMatrix::from_fn(batch.keep.len(), states.ncols(), |i, k| {
                        states.get(batch.keep[i], k)
                    });
                    let mut rows = StretchRows::default();
                    (0..batch.keep.len()).for_each(|i| rows.push([batch.first_row + i]));
                    take(&rows, 0, kept)?;
                    forwarded += batch.tokens.len();
                }
                Ok(forwarded)
            }
        }
    }

    pub(crate) fn decoder(&self) -> Option<&Decoder> {
        match &self.network {
            Network::Decoder(decoder) => Some(decoder),
            Network::Small { .. } => None,
        }
    }
}

/// Which rows of an answer each state of a stretch is for.
#[derive(Debug, Default)]
pub(crate) struct StretchRows {
    rows: Vec<usize>,
    ends: Vec<usize>,
}

impl StretchRows {
    fn push(&mut self, rows: impl IntoIterator<Item = usize>) {
        self.rows.extend(rows);
        self.ends.push(self.rows.len());
    }

    /// For each state its rows, counted from the first of the windows.
    pub fn iter(&self) -> impl Iterator<Item = &[usize]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.rows[start..end])
    }
}

/// Windows side by side, for a network that shares nothing between them.
#[derive(Default)]
struct SmallBatch {
    tokens: Vec<u32>,
    windows: Vec<usize>,
    keep: Vec<usize>,
    first_row: usize,
}

fn small_batches(contexts: &ContextBatch, windows: Range<usize>) -> Vec<SmallBatch> {
    let mut batches: Vec<SmallBatch> = Vec::new();
    let mut row = 0;
    for window in windows.map(|i| contexts.window(i)) {
        let Some(&read) = window.positions.last() else {
            continue;
        };
        let tokens = &window.tokens[..read as usize];
        let full = |b: &SmallBatch| b.tokens.len() + tokens.len() > TOKENS_AT_ONCE;
        if batches.last().is_none_or(full) {
            batches.push(SmallBatch {
                first_row: row,
                ..SmallBatch::default()
            });
        }
        if let Some(batch) = batches.last_mut() {
            let start = batch.tokens.len();
            batch.tokens.extend_from_slice(tokens);
            batch.windows.push(tokens.len());
            let positions = window.positions.iter();
            batch
                .keep
                .extend(positions.map(|&p| start + p as usize - 1));
        }
        row += window.positions.len();
    }
    batches
}

/// A NaN among logits is in the softmax's denominator, and so in every log-probability of its row.
pub(crate) fn check_finite(log_probs: &RowMatrix<f32>) -> Result<(), KernelError> {
    match log_probs
        .rows()
        .any(|row| row.first().is_some_and(|x| x.is_nan()))
    {
        true => Err(KernelError::NotFinite),
        false => Ok(()),
    }
}

/// A name for a checkpoint that has none of its own: the hub's, or its file's or folder's.
fn file_name(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if let Some(name) = lawvere_token::name_in_cache(&path) {
        return name;
    }
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

impl NextToken for LanguageModel {
    fn vocab_size(&self) -> usize {
        self.architecture.vocab_size()
    }

    fn log_probs(
        &self,
        contexts: &ContextBatch,
        visit: &mut dyn FnMut(usize, LogProbs) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let (last, d) = (self.last_layer().0, self.hidden_size());
        let mut first_row = 0;
        let mut start = 0;
        while start < contexts.len() {
            // Stretches come as prefixes are shared, laws go out in order: in between, the states of
            // some thousand rows are held.
            let (mut end, mut rows) = (start, 0);
            while end < contexts.len() && (end == start || rows < ROWS_AT_ONCE) {
                rows += contexts.window(end).positions.len();
                end += 1;
            }
            let mut states = RowMatrix::zeros(rows, d);
            self.for_each_stretch(contexts, start..end, &[last], |rows, _, kept| {
                for (i, rows) in rows.iter().enumerate() {
                    for &row in rows {
                        states.row_mut(row).copy_from_slice(kept.row(i));
                    }
                }
                Ok::<(), KernelError>(())
            })?;
            self.head()
                .for_each_log_prob_block::<KernelError>(&states, |block| {
                    check_finite(block.log_probs)?;
                    let log_probs = LogProbs::Dense(block.log_probs.clone());
                    visit(first_row + block.first_row, log_probs)
                })?;
            first_row += rows;
            start = end;
        }
        Ok(())
    }
}

impl Factored for LanguageModel {
    /// LSTMs and perceptrons show one layer only, the head's input.
    fn last_layer(&self) -> Layer {
        match &self.architecture {
            Architecture::Decoder(config) => Layer(config.layers),
            _ => Layer(0),
        }
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
        let d = self.hidden_size();
        let mut states: Vec<RowMatrix<f32>> = layers
            .iter()
            .map(|_| RowMatrix::zeros(contexts.rows(), d))
            .collect();
        self.for_each_stretch(contexts, 0..contexts.len(), &wanted, |rows, layer, kept| {
            for (slot, _) in states.iter_mut().zip(layers).filter(|(_, l)| l.0 == layer) {
                for (i, rows) in rows.iter().enumerate() {
                    for &row in rows {
                        slot.row_mut(row).copy_from_slice(kept.row(i));
                    }
                }
            }
            Ok::<(), KernelError>(())
        })?;
        Ok(states)
    }

    fn head(&self) -> HeadRef<'_> {
        HeadRef {
            weight: match &self.network {
                Network::Decoder(decoder) => decoder.head().view(),
                Network::Small { parameters, head } => parameters.0[*head].values.view(),
            },
            bias: None,
            soft_cap: match &self.architecture {
                Architecture::Decoder(config) => config.style.logit_soft_cap,
                _ => None,
            },
            packed: self.decoder().map(|decoder| &decoder.head),
        }
    }
}
