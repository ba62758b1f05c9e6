use std::collections::HashMap;
use std::path::Path;

use ahash::AHashMap;
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{
    DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    Tokenizer as HfTokenizer, TokenizerBuilder, TokenizerImpl,
};

use crate::TokenError;
use crate::file::sha256_hex;
use crate::gguf::Gguf;
use crate::gguf_tokenizer;

/// Text to token ids and back, with an identity.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: HfTokenizer,
    vocab_size: usize,
    identity: String,
}

impl Tokenizer {
    /// The tokenizer of a file: a GGUF checkpoint, a `tokenizer.json`, or a folder that holds one, or `hf:ORG/NAME` (see
    /// [`resolve`](crate::resolve)).
    ///
    /// # Errors
    /// An unreadable or damaged file, a kind of tokenizer that is not supported.
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let path = &crate::resolve(path)?;
        if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
        {
            return Self::from_gguf(&Gguf::open(path)?);
        }
        let file = if path.is_dir() {
            path.join("tokenizer.json")
        } else {
            path.to_owned()
        };
        let text = std::fs::read_to_string(&file).map_err(|e| TokenError::io(&file, e))?;
        Self::from_json(&text).map_err(|e| match e {
            TokenError::Json { what, .. } => TokenError::Json { path: file, what },
            other => other,
        })
    }

    /// The tokenizer inside a GGUF file: the same ids as llama.cpp gives with special tokens read
    /// as text.
    ///
    /// # Errors
    /// A kind of tokenizer that is not supported, fields that are missing or do not fit together.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, TokenError> {
        Ok(Self::new(gguf_tokenizer::rebuild(gguf)?))
    }

    /// A tokenizer from the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// Text that is not a tokenizer's description.
    pub fn from_json(text: &str) -> Result<Self, TokenError> {
        let wrong = |what: String| TokenError::Json {
            path: "tokenizer.json".into(),
            what,
        };
        // The parser behind `tokenizers` 0.23 panics on text that is not JSON at all.
        let json: Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if let Some(merge) = misfit(&json["model"]) {
            return Err(wrong(format!("the merge {merge} makes no token")));
        }
        if let Some((token, id)) = far_id(&json) {
            return Err(wrong(format!(
                "the token {token:?} has the id {id}; ids up to {MOST_IDS} are read"
            )));
        }
        text.parse::<HfTokenizer>()
            .map(Self::new)
            .map_err(|e| wrong(e.to_string()))
    }

    /// White-space-separated words of `texts`, numbered by decreasing frequency, equally frequent
    /// ones alphabetically. Words outside the vocabulary cannot be encoded.
    ///
    /// # Errors
    /// Texts without a word.
    pub fn words<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, TokenError> {
        let mut counts: HashMap<&str, u64> = HashMap::new();
        texts
            .flat_map(str::split_whitespace)
            .for_each(|w| *counts.entry(w).or_default() += 1);
        Self::by_frequency(counts)
    }

    /// Words numbered by decreasing frequency, as [`words`](Self::words) does, for who has counted them.
    ///
    /// # Errors
    /// As [`of_words`](Self::of_words).
    pub fn by_frequency<W: AsRef<str>>(
        counts: impl IntoIterator<Item = (W, u64)>,
    ) -> Result<Self, TokenError> {
        let mut words: Vec<(W, u64)> = counts.into_iter().collect();
        words.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.as_ref().cmp(b.0.as_ref())));
        let words: Vec<W> = words.into_iter().map(|(word, _)| word).collect();
        Self::of_words(&words)
    }

    /// White-space-separated words; a word's id is its place in `words`. Words outside the
    /// vocabulary cannot be encoded.
    ///
    /// # Errors
    /// No words, a word that is there twice, that is empty or that holds white space.
    pub fn of_words(words: &[impl AsRef<str>]) -> Result<Self, TokenError> {
        if words.is_empty() {
            return Err(TokenError::NoWords);
        }
        let mut vocab: AHashMap<String, u32> = AHashMap::with_capacity(words.len());
        for (word, id) in words.iter().map(AsRef::as_ref).zip(0..) {
            let one_word = word.split_whitespace().eq([word]);
            if !one_word || vocab.insert(word.to_owned(), id).is_some() {
                return Err(TokenError::Word {
                    word: word.to_owned(),
                });
            }
        }
        let model = WordLevel::builder()
            .vocab(vocab)
            .build()
            .map_err(|e| TokenError::Encode(e.to_string()))?;
        let built = TokenizerBuilder::default()
            .with_model(model.into())
            .with_normalizer(None)
            .with_pre_tokenizer(Some(WhitespaceSplit.into()))
            .with_post_processor(None)
            .with_decoder(None)
            .build();
        finish(built).map(Self::new)
    }

    /// The 256 bytes, each its own token, with its value as its id.
    ///
    /// # Errors
    /// None in practice: the description is fixed.
    pub fn bytes() -> Result<Self, TokenError> {
        let vocab: AHashMap<String, u32> = (0..=u8::MAX)
            .map(|b| (byte_symbol(b).to_string(), u32::from(b)))
            .collect();
        let model = BPE::builder()
            .vocab_and_merges(vocab, Vec::new())
            .build()
            .map_err(|e| TokenError::Encode(e.to_string()))?;
        let byte_level = ByteLevel::new(false, false, false);
        let built = TokenizerBuilder::default()
            .with_model(model.into())
            .with_normalizer(None)
            .with_pre_tokenizer(Some(byte_level.into()))
            .with_post_processor(None)
            .with_decoder(Some(byte_level.into()))
            .build();
        finish(built).map(Self::new)
    }

    fn new(mut inner: HfTokenizer) -> Self {
        inner.set_encode_special_tokens(true);
        let _ = inner.with_truncation(None);
        inner.with_padding(None);
        // Ids may have gaps, so the number of outcomes is the largest id plus one.
        let largest = inner.get_vocab(true).into_values().max();
        let identity = sha256_hex(serde_json::to_string(&inner).unwrap_or_default().as_bytes());
        Self {
            inner,
            vocab_size: largest.map_or(0, |id| id as usize + 1),
            identity,
        }
    }

    /// The token ids of `text`; nothing is added before or after.
    ///
    /// # Errors
    /// A word outside a word-level vocabulary.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenError> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| encode_error(&*e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// [`encode`](Self::encode) of many texts, in parallel.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_batch(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>, TokenError> {
        let encodings = self
            .inner
            .encode_batch_fast(texts.to_vec(), false)
            .map_err(|e| encode_error(&*e))?;
        Ok(encodings.iter().map(|e| e.get_ids().to_vec()).collect())
    }

    /// The text of `ids`; bytes that are not UTF-8 (a character cut in two) become U+FFFD.
    ///
    /// # Errors
    /// What the decoder refuses.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenError> {
        self.inner
            .decode(ids, false)
            .map_err(|e| TokenError::Decode(e.to_string()))
    }

    /// How many bytes of text a token stands for inside a text; a piece of a character counts its own, as
    /// far as the decoder shows it.
    ///
    /// # Errors
    /// What the decoder refuses.
    pub fn text_bytes(&self, id: u32) -> Result<usize, TokenError> {
        // A token at the beginning may lose its space, and a piece of a character becomes one U+FFFD.
        let bytes = |ids: &[u32]| -> Result<usize, TokenError> {
            let text = self.decode(ids)?;
            let pieces = text.matches('\u{fffd}').count();
            Ok(text.len() - 2 * pieces)
        };
        Ok(bytes(&[id, id])?.saturating_sub(bytes(&[id])?))
    }

    /// The token as it stands in the vocabulary; `None` for an id outside it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token as it stands in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// One more than the largest token id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The SHA-256 of the tokenizer's complete description.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The description, a `tokenizer.json`.
    ///
    /// # Errors
    /// A tokenizer that cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, TokenError> {
        serde_json::to_string(&self.inner).map_err(|e| TokenError::Json {
            path: "tokenizer.json".into(),
            what: e.to_string(),
        })
    }
}

/// The first merge whose two parts together are not in the vocabulary; `tokenizers` 0.23 panics on
/// some of those.
fn misfit(model: &Value) -> Option<&Value> {
    let vocab = model["vocab"].as_object()?;
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or("");
    model["merges"].as_array()?.iter().find(|merge| {
        let parts = match merge {
            Value::String(merge) if merge.starts_with("#version") => return false,
            Value::String(merge) => merge.split_once(' '),
            _ => merge[0].as_str().zip(merge[1].as_str()),
        };
        let whole =
            parts.and_then(|(left, right)| Some([left, right.get(prefix.len()..)?].concat()));
        whole.is_none_or(|whole| !vocab.contains_key(&whole))
    })
}

/// The largest id that is read: ids may have gaps, but what is as long as the largest id (a law, a list of all tokens, which
/// `tokenizers` 0.23 goes through when it writes a description) must fit.
const MOST_IDS: u64 = 1 << 24;

/// The first token whose id is larger.
fn far_id(json: &Value) -> Option<(&str, &Value)> {
    let own = json["model"]["vocab"].as_object().into_iter().flatten();
    let own = own.map(|(token, id)| (token.as_str(), id));
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let added = added.map(|token| (token["content"].as_str().unwrap_or(""), &token["id"]));
    own.chain(added)
        .find(|(_, id)| id.as_f64().is_some_and(|id| id > MOST_IDS as f64))
}

fn encode_error(e: &(dyn std::error::Error + Send + Sync)) -> TokenError {
    let what = e.to_string();
    if what.contains("[UNK]") || what.contains("unk") {
        return TokenError::Encode("it holds a word that is not in the word vocabulary".into());
    }
    TokenError::Encode(what)
}

type Parts = TokenizerImpl<
    ModelWrapper,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

pub(crate) fn finish(
    built: Result<Parts, Box<dyn std::error::Error + Send + Sync>>,
) -> Result<HfTokenizer, TokenError> {
    built
        .map(HfTokenizer::from)
        .map_err(|e| TokenError::Encode(e.to_string()))
}

/// The printable character that byte-level tokenizers write for a byte: itself where it is
/// printable Latin-1, the next free character from U+0100 on otherwise.
fn byte_symbol(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let earlier = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(0x100 + earlier).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_their_own_ids_and_come_back() {
        let bytes = Tokenizer::bytes().unwrap();
        let text = "a\u{0}\n é🙂\u{7f}";
        let ids: Vec<u32> = text.bytes().map(u32::from).collect();
        assert_eq!(bytes.encode(text).unwrap(), ids);
        assert_eq!(bytes.decode(&ids).unwrap(), text);
        assert_eq!(bytes.vocab_size(), 256);
    }

    #[test]
    fn special_tokens_of_a_tokenizer_json_are_text_in_a_corpus() {
        let json = Tokenizer::bytes().unwrap().to_json().unwrap();
        let mut json: Value = serde_json::from_str(&json).unwrap();
        json["added_tokens"] = serde_json::json!([{
            "id": 256, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        }]);
        json["post_processor"] = serde_json::json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}}
        });
        let tokenizer = Tokenizer::from_json(&json.to_string()).unwrap();
        let bytes: Vec<u32> = "a<s>b".bytes().map(u32::from).collect();
        assert_eq!(tokenizer.encode("a<s>b").unwrap(), bytes);
        assert_eq!(tokenizer.encode_batch(&["a<s>b"]).unwrap(), [bytes]);
        assert_eq!(tokenizer.vocab_size(), 257);
    }

    #[test]
    fn a_tokenizer_is_known_by_its_description() {
        let words = Tokenizer::words(["b a b"].into_iter()).unwrap();
        let again = Tokenizer::from_json(&words.to_json().unwrap()).unwrap();
        assert_eq!(words.identity(), again.identity());
        assert_eq!(again.encode("a b").unwrap(), [1, 0]);
        assert_ne!(
            words.identity(),
            Tokenizer::words(["a"].into_iter()).unwrap().identity()
        );
    }

    #[test]
    fn words_given_in_order_have_their_places_as_ids() {
        let words = Tokenizer::of_words(&["b", "a", "."]).unwrap();
        assert_eq!(words.encode("a . b").unwrap(), [1, 2, 0]);
        assert_eq!(words.decode(&[1, 2, 0]).unwrap(), "a . b");
        for bad in [vec![], vec!["a", "b", "a"], vec!["a b"], vec![""]] {
            assert!(Tokenizer::of_words(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_word_outside_the_vocabulary_is_an_error() {
        let words = Tokenizer::words(["b a b"].into_iter()).unwrap();
        assert!(
            words
                .encode("c")
                .unwrap_err()
                .to_string()
                .contains("word vocabulary")
        );
        assert!(matches!(
            Tokenizer::words([" "].into_iter()),
            Err(TokenError::NoWords)
        ));
    }

    #[test]
    fn what_is_no_tokenizer_is_refused_by_name() {
        for text in ["{}", "{", "", "null", "[1", "{\"model\": \"\\ud800\"}"] {
            assert!(Tokenizer::from_json(text).is_err(), "{text}");
        }
        let mut json: Value =
            serde_json::from_str(&Tokenizer::bytes().unwrap().to_json().unwrap()).unwrap();
        for merge in [
            serde_json::json!(["\u{100}", "\u{100}"]),
            "a b".into(),
            "ab".into(),
            1.into(),
        ] {
            json["model"]["merges"] = serde_json::json!([merge]);
            let error = Tokenizer::from_json(&json.to_string()).unwrap_err();
            assert!(error.to_string().contains("makes no token"), "{error}");
        }
        json["model"]["vocab"]["ab"] = 256.into();
        json["model"]["merges"] = serde_json::json!([["a", "b"]]);
        let merged = Tokenizer::from_json(&json.to_string()).unwrap();
        assert_eq!(merged.encode("abb").unwrap(), [256, u32::from(b'b')]);
        json["model"]["vocab"]["far"] = 4_000_000_000u64.into();
        let error = Tokenizer::from_json(&json.to_string()).unwrap_err();
        assert!(
            error.to_string().contains("\"far\" has the id 4000000000"),
            "{error}"
        );
        json["model"]["vocab"]["far"] = 257.into();
        json["added_tokens"] = serde_json::json!([{"id": 1e15, "content": "<s>"}]);
        let error = Tokenizer::from_json(&json.to_string()).unwrap_err();
        assert!(error.to_string().contains("\"<s>\" has the id"), "{error}");
        let missing = Tokenizer::open(Path::new("no/such/tokenizer.json")).unwrap_err();
        assert!(missing.to_string().contains("no/such/tokenizer.json"));
    }
}
