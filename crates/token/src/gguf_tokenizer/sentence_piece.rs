//! SentencePiece BPE (`tokenizer.ggml.model = llama`).

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence as Normalizers};
use tokenizers::{Tokenizer as HfTokenizer, TokenizerBuilder};

use super::{Vocabulary, one_each};
use crate::TokenError;
use crate::gguf::Gguf;
use crate::tokenizer::finish;

/// What stands for a space.
const SPACE: &str = "\u{2581}";

/// Trying every cut of a token costs the square of its length; pieces have some tens of bytes.
const LONGEST_TOKEN: usize = 1024;
/// The longest list of merges: so many bytes, and so many for each byte of the tokens. A vocabulary in
/// use has some ten merges a token.
const MERGE_BYTES: usize = 64 << 20;
const MERGE_BYTES_PER_BYTE: usize = 64;

/// llama.cpp merges those neighbours in a text whose token together has the highest score, the leftmost
/// of equals; here that is a list of merges by decreasing score. The two agree where no two tokens
/// have the same score, as in the vocabularies that SentencePiece trains.
pub(super) fn build(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<HfTokenizer, TokenError> {
    for byte in 0..=u8::MAX {
        let token = format!("<0x{byte:02X}>");
        if !vocabulary.ids.contains_key(&token) {
            return Err(gguf.error(format!(
                "tokenizer.ggml.tokens lacks the byte token {token}; vocabularies without all 256 are not supported"
            )));
        }
    }
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary.ids.clone(), merges(gguf, vocabulary)?)
        .byte_fallback(true)
        .build()
        .map_err(|e| gguf.error(format!("its tokens do not make a vocabulary: {e}")))?;
    let prefix = gguf.bool("tokenizer.ggml.add_space_prefix")?;
    let prefix = prefix.unwrap_or(true);

    let wrong = |e: Box<dyn std::error::Error + Send + Sync>| TokenError::Encode(e.to_string());
    let escape = Replace::new(" ", SPACE).map_err(wrong)?;
    let unescape = Replace::new(SPACE, " ").map_err(wrong)?;
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    let mut decoders: Vec<DecoderWrapper> = vec![
        unescape.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    if prefix {
        normalizers.push(Prepend::new(SPACE.into()).into());
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    normalizers.push(escape.into());
    let built = TokenizerBuilder::default()
        .with_model(bpe.into())
        .with_normalizer(Some(Normalizers::new(normalizers).into()))
        .with_pre_tokenizer(None)
        .with_post_processor(None)
        .with_decoder(Some(Decoders::new(decoders).into()))
        .build();
    finish(built)
}

/// Every way to make a token of two others, best first.
fn merges(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Vec<(String, String)>, TokenError> {
    let key = "tokenizer.ggml.scores";
    let scores = one_each(gguf, key, vocabulary.tokens.len())?;
    let mut found = Vec::new();
    let bytes: usize = vocabulary.tokens.iter().map(String::len).sum();
    let mut left_over = MERGE_BYTES.saturating_add(bytes.saturating_mul(MERGE_BYTES_PER_BYTE));
    for (id, (token, &score)) in vocabulary.tokens.iter().zip(scores).enumerate() {
        if !score.is_finite() {
            return Err(gguf.error(format!(
                "`{key}` gives the token {id} the score {score}; scores should be finite"
            )));
        }
        if token.len() > LONGEST_TOKEN {
            return Err(gguf.error(format!(
                "tokenizer.ggml.tokens: the token {id} has {} bytes; at most {LONGEST_TOKEN} are supported",
                token.len()
            )));
        }
        for (cut, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(cut);
            if vocabulary.ids.contains_key(left) && vocabulary.ids.contains_key(right) {
                left_over = left_over.checked_sub(token.len()).ok_or_else(|| {
                    gguf.error(
                        "tokenizer.ggml.tokens: its tokens can be made of one another in too many ways to be a trained vocabulary",
                    )
                })?;
                found.push((score, (left.to_owned(), right.to_owned())));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    Ok(found.into_iter().map(|(_, merge)| merge).collect())
}
