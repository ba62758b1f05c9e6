use std::collections::BTreeMap;
use std::path::PathBuf;

use lawvere_lm::train::Architecture;
use lawvere_lm::{LanguageModel, Precision};
use lawvere_token::Tokenizer;
use serde::Serialize;

use super::last_layer;
use crate::{RunError, peak_memory};

/// What is known of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelInfo {
    /// Where it is.
    pub path: PathBuf,
    /// The name in its metadata, or of its file.
    pub name: String,
    /// The SHA-256 of its file, or of its files' hashes.
    pub identity: String,
    /// The network's shape.
    pub architecture: Architecture,
    /// The number of weights.
    pub parameters: usize,
    /// The number of the last layer, the head's input.
    pub last_layer: usize,
    /// The dimension of a state.
    pub hidden_size: usize,
    /// How tensors are stored, and how many of each kind.
    pub storage: BTreeMap<String, usize>,
    /// What products are computed in.
    pub precision: Precision,
    /// Bytes of the weights as they are computed with, a decoder's head twice.
    pub weight_bytes: usize,
    /// The largest resident memory of the process that opened it, bytes, where the system tells.
    pub peak_memory: Option<u64>,
    /// The longest text it reads at once, in tokens; none for networks without a limit.
    pub context_length: Option<usize>,
    /// The token put before every text.
    pub bos: Option<NamedToken>,
    /// The tokens that end a text.
    pub eos: Vec<NamedToken>,
    /// The token that ends documents, if the model was trained with document ends as outcomes.
    pub document_end: Option<u32>,
    /// Whether the checkpoint carries a chat template.
    pub chat_template: bool,
    /// The tokenizer, where there is one.
    pub tokenizer: Option<TokenizerInfo>,
}

/// A token's id, and the token where a tokenizer knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct NamedToken {
    pub id: u32,
    pub token: Option<String>,
}

/// What is known of a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenizerInfo {
    /// The kind of its model, as in a `tokenizer.json`: BPE, Unigram, WordLevel, WordPiece.
    pub kind: String,
    /// One more than the largest token id.
    pub vocab_size: usize,
    /// The SHA-256 of its description.
    pub identity: String,
}

impl TokenizerInfo {
    /// Of a tokenizer.
    ///
    /// # Errors
    /// A tokenizer that cannot be described.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self, RunError> {
        let described: serde_json::Value =
            serde_json::from_str(&tokenizer.to_json()?).unwrap_or_default();
        Ok(Self {
            kind: described["model"]["type"]
                .as_str()
                .unwrap_or("unnamed")
                .to_owned(),
            vocab_size: tokenizer.vocab_size(),
            identity: tokenizer.identity().to_owned(),
        })
    }
}

impl ModelInfo {
    /// Of an open model.
    ///
    /// # Errors
    /// A tokenizer that cannot be described.
    pub fn of(model: &LanguageModel) -> Result<Self, RunError> {
        let named = |id: u32| NamedToken {
            id,
            token: model.tokenizer().and_then(|t| t.token(id)),
        };
        let parameters = model.architecture().parameters();
        let origin = model.origin();
        Ok(Self {
            path: model.path().to_owned(),
            name: origin.name.clone(),
            identity: model.identity().to_owned(),
            architecture: model.architecture().clone(),
            parameters,
            last_layer: last_layer(model),
            hidden_size: model.hidden_size(),
            storage: origin.storage.clone(),
            precision: model.precision(),
            weight_bytes: model.bytes(),
            peak_memory: peak_memory(),
            context_length: Some(model.context_length()).filter(|&length| length < usize::MAX),
            bos: model.bos().map(named),
            eos: model.eos().iter().copied().map(named).collect(),
            document_end: model.document_end(),
            chat_template: origin.chat_template,
            tokenizer: model.tokenizer().map(TokenizerInfo::of).transpose()?,
        })
    }
}
