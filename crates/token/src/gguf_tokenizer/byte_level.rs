//! Byte-level BPE (`tokenizer.ggml.model = gpt2`).

use ahash::AHashSet;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{Tokenizer as HfTokenizer, TokenizerBuilder};

use super::Vocabulary;
use crate::TokenError;
use crate::gguf::Gguf;
use crate::tokenizer::finish;

const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
// The models' own regexes say (?i:'s|...), by which 'ſ would be a contraction too; llama.cpp says this.
const LLAMA_3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
// The model's own regex tells upper from lower case in every script, llama.cpp's in ASCII: any other letter is both.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?(?:(?=\p{L})[^a-z])*(?:(?=\p{L})[^A-Z])+|[^\r\n\p{L}\p{N}]?(?:(?=\p{L})[^a-z])+(?:(?=\p{L})[^A-Z])*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEFAULT: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", "[0-9][0-9][0-9]"];

/// How a text is cut before its pieces are merged.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Pre {
    Default,
    Gpt2,
    SmolLm,
    Llama3,
    Dbrx,
    Qwen2,
    Tekken,
}

impl Pre {
    /// By the name of a pre-tokenizer or one of its aliases in llama.cpp; "missing" if it has none.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "missing" | "" | "default" => Self::Default,
            "gpt-2" | "phi-2" | "mpt" | "olmo" | "exaone4" => Self::Gpt2,
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" => {
                Self::SmolLm
            }
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "pixtral" => Self::Llama3,
            "dbrx" | "smaug-bpe" => Self::Dbrx,
            "qwen2" | "deepseek-r1-qwen" | "megrez" | "stablelm2" => Self::Qwen2,
            "tekken" => Self::Tekken,
            _ => return None,
        })
    }

    /// Whether texts begin with a special token unless the file says otherwise.
    pub fn adds_bos(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    /// Whether a piece that is a token stays whole, whatever the merges would make of it.
    fn ignores_merges(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    fn steps(self) -> Result<Vec<PreTokenizerWrapper>, TokenError> {
        let words = ByteLevel::new(false, true, true).into();
        let bytes = ByteLevel::new(false, true, false).into();
        let regexes: &[&str] = match self {
            Self::Gpt2 => return Ok(vec![words]),
            Self::SmolLm => return Ok(vec![Digits::new(true).into(), words]),
            Self::Default => &DEFAULT,
            Self::Llama3 | Self::Dbrx => &[LLAMA_3],
            Self::Qwen2 => &[QWEN_2],
            Self::Tekken => &[TEKKEN],
        };
        let splits = regexes.iter().map(|regex| {
            let pattern = SplitPattern::Regex((*regex).into());
            Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map(PreTokenizerWrapper::from)
                .map_err(|e| TokenError::Encode(e.to_string()))
        });
        splits.chain([Ok(bytes)]).collect()
    }
}

pub(super) fn build(
    gguf: &Gguf,
    vocabulary: &Vocabulary,
    pre: Pre,
) -> Result<HfTokenizer, TokenError> {
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary.ids.clone(), merges(gguf, vocabulary)?)
        .ignore_merges(pre.ignores_merges())
        .build()
        .map_err(|e| gguf.error(format!("its merges do not fit its tokens: {e}")))?;
    let built = TokenizerBuilder::default()
        .with_model(bpe.into())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(Sequence::new(pre.steps()?).into()))
        .with_post_processor(None)
        .with_decoder(Some(ByteLevel::new(false, true, true).into()))
        .build();
    finish(built)
}

/// The merges in order, each once. `tokenizers` 0.23 panics on parts longer together than any token
/// and lets the later of two equal merges win.
fn merges(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Vec<(String, String)>, TokenError> {
    let mut seen = AHashSet::new();
    let mut merges = Vec::new();
    for merge in gguf.strings("tokenizer.ggml.merges")? {
        let Some((left, right)) = merge.split_once(' ') else {
            return Err(gguf.error(format!(
                "tokenizer.ggml.merges holds the entry {merge:?}, which is not two tokens with a space between"
            )));
        };
        let whole = [left, right].concat();
        if let Some(part) = [left, right, &whole]
            .into_iter()
            .find(|part| !vocabulary.ids.contains_key(*part))
        {
            return Err(gguf.error(format!(
                "its merges do not fit its tokens: the merge {merge:?} needs the token {part:?}"
            )));
        }
        if seen.insert(merge) {
            merges.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(merges)
}
