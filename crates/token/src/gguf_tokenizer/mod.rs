//! The tokenizer that a GGUF file carries in its metadata; the ids are those of llama.cpp with
//! special tokens read as text and nothing added before or after.
//!
//! *Source:* llama.cpp, `llama-vocab.cpp`.

mod byte_level;
mod sentence_piece;

use ahash::{AHashMap, AHashSet};
use tokenizers::{AddedToken, Tokenizer as HfTokenizer};

use crate::TokenError;
use crate::gguf::Gguf;
use byte_level::Pre;

const SUPPORTED: &str = "byte-level BPE (tokenizer.ggml.model = gpt2) with tokenizer.ggml.pre = gpt-2, default, llama-bpe, dbrx, smollm, qwen2, tekken or an alias of these, and SentencePiece BPE (tokenizer.ggml.model = llama)";

/// Tokens that llama.cpp takes for control tokens whatever type the file gives them.
const ENDS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// The same for fill-in-the-middle tokens, each kind only if the file does not name its token.
const FILL_IN: [(&str, &[&str]); 6] = [
    (
        "pre",
        &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
    ),
    (
        "suf",
        &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
    ),
    (
        "mid",
        &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
    ),
    (
        "pad",
        &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    ),
    (
        "rep",
        &[
            "<|fim_repo|>",
            "<|repo_name|>",
            "<fim-repo>",
            "<REPO>",
            "<reponame>",
        ],
    ),
    ("sep", &["<|file_sep|>"]),
];

/// The type number of a token that is found in every text before anything else.
const USER_DEFINED: f64 = 4.0;

#[derive(Clone, Copy)]
enum Kind {
    ByteLevel(Pre),
    SentencePiece,
}

fn kind(gguf: &Gguf) -> Result<Kind, TokenError> {
    let model = gguf.string("tokenizer.ggml.model")?;
    let key = "tokenizer.ggml.pre";
    let pre = match gguf.metadata().contains_key(key) {
        true => gguf.string(key)?,
        false => "missing",
    };
    let supported = match model {
        "llama" => Some(Kind::SentencePiece),
        "gpt2" => Pre::named(pre).map(Kind::ByteLevel),
        _ => None,
    };
    supported.ok_or_else(|| TokenError::UnsupportedTokenizer {
        path: gguf.path().to_owned(),
        found: format!("tokenizer.ggml.model = {model}, tokenizer.ggml.pre = {pre}"),
        supported: SUPPORTED,
    })
}

/// The token that a GGUF file asks for before every text, if any; where the file does not say
/// whether it does, what llama.cpp does with its kind of tokenizer.
///
/// # Errors
/// A kind of tokenizer that is not supported; a file that asks for the token without naming it.
pub fn gguf_bos(gguf: &Gguf) -> Result<Option<u32>, TokenError> {
    let kind = kind(gguf)?;
    let by_default = match kind {
        Kind::ByteLevel(pre) => pre.adds_bos(),
        Kind::SentencePiece => true,
    };
    let adds = gguf.bool("tokenizer.ggml.add_bos_token")?;
    if !adds.unwrap_or(by_default) {
        return Ok(None);
    }
    let key = "tokenizer.ggml.bos_token_id";
    match (gguf.integer(key)?, kind) {
        (Some(id), _) => u32::try_from(id)
            .map(Some)
            .map_err(|_| gguf.error(format!("`{key}` is {id}, which is no token id"))),
        (None, Kind::SentencePiece) => Ok(Some(1)),
        (None, Kind::ByteLevel(_)) => Err(gguf.error(format!(
            "it asks for a token before every text, but the field `{key}` is missing"
        ))),
    }
}

/// Rebuilds the tokenizer.
///
/// Control tokens are in the vocabulary but not matched in text; user-defined tokens are. A
/// byte-level vocabulary may lack bytes (that of SmolLM2 lacks 21); as in llama.cpp they vanish.
/// Where user-defined tokens overlap in a text the leftmost wins, in llama.cpp the longest.
pub(crate) fn rebuild(gguf: &Gguf) -> Result<HfTokenizer, TokenError> {
    let kind = kind(gguf)?;
    let vocabulary = Vocabulary::read(gguf)?;
    let mut built = match kind {
        Kind::ByteLevel(pre) => byte_level::build(gguf, &vocabulary, pre)?,
        Kind::SentencePiece => sentence_piece::build(gguf, &vocabulary)?,
    };
    let matched = vocabulary
        .user_defined
        .iter()
        .map(|token| AddedToken::from(token.as_str(), false).normalized(false));
    built.add_tokens(matched).map_err(|e| {
        gguf.error(format!(
            "its user-defined tokens cannot be searched for: {e}"
        ))
    })?;
    Ok(built)
}

struct Vocabulary {
    tokens: Vec<String>,
    ids: AHashMap<String, u32>,
    user_defined: Vec<String>,
}

impl Vocabulary {
    fn read(gguf: &Gguf) -> Result<Self, TokenError> {
        let mut tokens = gguf.strings("tokenizer.ggml.tokens")?.to_vec();
        if tokens.is_empty() {
            return Err(gguf.error("tokenizer.ggml.tokens is empty"));
        }
        let mut ids: AHashMap<String, u32> = AHashMap::with_capacity(tokens.len());
        for (token, id) in tokens.iter_mut().zip(0..) {
            if token.is_empty() {
                *token = format!("[EMPTY_{id}]");
            }
            if let Some(first) = ids.insert(token.clone(), id) {
                return Err(gguf.error(format!(
                    "tokenizer.ggml.tokens names a token twice: {token:?} has the ids {first} and {id}"
                )));
            }
        }
        let user_defined = user_defined(gguf, &tokens)?;
        Ok(Self {
            tokens,
            ids,
            user_defined,
        })
    }
}

fn user_defined(gguf: &Gguf, tokens: &[String]) -> Result<Vec<String>, TokenError> {
    let key = "tokenizer.ggml.token_type";
    if !gguf.metadata().contains_key(key) {
        return Ok(Vec::new());
    }
    let types = one_each(gguf, key, tokens.len())?;
    let mut control: AHashSet<&str> = ENDS.into_iter().collect();
    for (role, names) in FILL_IN {
        let key = format!("tokenizer.ggml.fim_{role}_token_id");
        if !gguf.metadata().contains_key(&key) {
            control.extend(names);
        }
    }
    let matched = tokens
        .iter()
        .zip(types)
        .filter(|(token, kind)| **kind == USER_DEFINED && !control.contains(token.as_str()));
    Ok(matched.map(|(token, _)| token.clone()).collect())
}

/// An array with one number for every token.
fn one_each<'a>(gguf: &'a Gguf, key: &str, tokens: usize) -> Result<&'a [f64], TokenError> {
    let numbers = gguf.numbers(key)?;
    if numbers.len() != tokens {
        return Err(gguf.error(format!(
            "`{key}` holds {} numbers for {tokens} tokens; it should hold one for each",
            numbers.len()
        )));
    }
    Ok(numbers)
}
