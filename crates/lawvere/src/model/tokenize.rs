use std::path::Path;

use lawvere_token::Tokenizer;
use serde::Serialize;

use super::{Content, Passage};
use crate::{Event, RunError};

/// A text as a tokenizer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tokenized {
    /// The number of tokens.
    pub count: usize,
    /// Token ids.
    pub ids: Vec<u32>,
    /// The tokens as they stand in the vocabulary.
    pub tokens: Vec<String>,
    /// Whether the ids, decoded, are the text again.
    pub round_trip: bool,
}

/// The tokenizer of a checkpoint (its weights are not read) or of a `tokenizer.json`.
///
/// # Errors
/// A folder without `tokenizer.json`, [`Tokenizer::open`].
pub fn open_tokenizer(path: &Path, on_event: &mut dyn FnMut(Event)) -> Result<Tokenizer, RunError> {
    super::fetch_model(path, on_event)?;
    let path = &lawvere_token::resolve(path)?;
    if path.is_dir() && !path.join("tokenizer.json").exists() {
        return Err(RunError::NoTokenizer {
            path: path.to_owned(),
        });
    }
    Ok(Tokenizer::open(path)?)
}

/// The tokens of a text; nothing is added before or after. Ids in the place of a text are decoded
/// first.
///
/// # Errors
/// A text that the tokenizer has no tokens for.
pub fn tokenize(tokenizer: &Tokenizer, passage: &Passage) -> Result<Tokenized, RunError> {
    let text = match &passage.content {
        Content::Text(text) => text,
        Content::Tokens(ids) => &tokenizer.decode(ids)?,
    };
    let ids = tokenizer.encode(text).map_err(|e| passage.place.error(e))?;
    let token = |&id: &u32| tokenizer.token(id).unwrap_or_default();
    Ok(Tokenized {
        count: ids.len(),
        tokens: ids.iter().map(token).collect(),
        round_trip: tokenizer.decode(&ids)? == *text,
        ids,
    })
}
