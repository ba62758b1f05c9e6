//! The tokenizer that a GGUF file carries in its metadata.

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{Tokenizer as HfTokenizer, TokenizerBuilder};

use crate::TokenError;
use crate::gguf::Gguf;
use crate::tokenizer::finish;

const SUPPORTED: &str =
    "byte-level BPE (tokenizer.ggml.model = gpt2) with tokenizer.ggml.pre = smollm";

/// Rebuilds the tokenizer; the ids are those of llama.cpp with special tokens read as text.
///
/// Control tokens are in the vocabulary but not matched in text. The vocabulary of SmolLM2 lacks
/// 21 of the 256 bytes (some control characters, bytes that UTF-8 never or hardly uses); as in
/// llama.cpp they vanish, although the file names an unknown token.
pub(crate) fn rebuild(gguf: &Gguf) -> Result<HfTokenizer, TokenError> {
    let model = gguf.string("tokenizer.ggml.model")?;
    let pre = gguf.string("tokenizer.ggml.pre").unwrap_or("missing");
    if (model, pre) != ("gpt2", "smollm") {
        return Err(TokenError::UnsupportedTokenizer {
            path: gguf.path().to_owned(),
            found: format!("tokenizer.ggml.model = {model}, tokenizer.ggml.pre = {pre}"),
            supported: SUPPORTED,
        });
    }
    let tokens = gguf.strings("tokenizer.ggml.tokens")?;
    let vocab: ahash::AHashMap<String, u32> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), id as u32))
        .collect();
    if vocab.len() != tokens.len() {
        return Err(gguf.error("tokenizer.ggml.tokens names a token twice"));
    }
    let merges = gguf
        .strings("tokenizer.ggml.merges")?
        .iter()
        .map(|merge| {
            merge
                .split_once(' ')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| gguf.error("tokenizer.ggml.merges holds an entry that is not two tokens"))?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .build()
        .map_err(|e| gguf.error(format!("its merges do not fit its tokens: {e}")))?;
    let byte_level = ByteLevel::new(false, true, true);
    let steps = vec![
        PreTokenizerWrapper::Digits(Digits::new(true)),
        PreTokenizerWrapper::ByteLevel(byte_level),
    ];
    let built = TokenizerBuilder::default()
        .with_model(bpe.into())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(Sequence::new(steps).into()))
        .with_post_processor(None)
        .with_decoder(Some(byte_level.into()))
        .build();
    finish(built)
}
