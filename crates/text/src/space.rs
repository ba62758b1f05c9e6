use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use lawvere_token::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::corpus::{ReadingInfo, SourceFile};
use crate::query::NextCounts;
use crate::shard::{Shard, ShardInfo};

/// The schema of `space.json`.
pub const SPACE_SCHEMA: &str = "lawvere-text-space/2";

/// What an index rests on: the contents of `space.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceInfo {
    /// [`SPACE_SCHEMA`].
    pub schema: String,
    /// The version of Lawvere that built it, or last appended to it.
    pub tool_version: String,
    /// The number of tokens, document ends not counted.
    pub tokens: u64,
    /// The number of documents.
    pub documents: u64,
    /// The number of bytes of the corpus, as its files are.
    pub bytes: u64,
    /// The tokenizer's number of tokens.
    pub vocab_size: u64,
    /// The tokenizer's identity.
    pub tokenizer_identity: String,
    /// The paths of the corpus, as they were given.
    pub corpus_paths: Vec<PathBuf>,
    /// The identity of the corpus.
    pub corpus_identity: String,
    /// How it was read; `None` for texts from memory, and where appended parts differ.
    pub reading: Option<ReadingInfo>,
    /// Every file that was read, in order.
    pub sources: Vec<SourceFile>,
    /// The suffix arrays, in the order of the corpus.
    pub shards: Vec<ShardInfo>,
    /// The SHA-256 of `tokenizer.json`; empty as long as the index is only in memory.
    pub tokenizer_checksum: String,
    /// The BLAKE3 hash of all this, in compact JSON with an empty checksum; empty in memory.
    pub checksum: String,
}

/// The index of a corpus: suffix arrays of its tokens, with which every count of a text and every
/// next-token law of the data, k_data, is a few binary searches.
///
/// Token ids that occur are numbered from 1 in increasing order (*symbols*), and symbol 0 follows
/// every document. The corpus is cut between documents into *shards* of fewer than 2^31 symbols each; counts
/// add over them, so that nothing depends on where it is cut. With N symbols in all an index holds the symbols,
/// the suffix arrays and the lengths of common prefixes, clipped at document ends and at 255: 7 or 9 bytes a
/// symbol, in memory after [`build`](Self::build), mapped from files after [`open`](Self::open); and half a
/// byte more in memory once a question has been asked.
///
/// *Source:* Nong, Zhang, Chan, *Two efficient algorithms for linear time suffix array
/// construction* (2011), in Grebnov's `libsais`; Karkkainen, Manzini, Puglisi, *Permuted
/// longest-common-prefix array* (2009).
#[derive(Debug)]
pub struct TextSpace {
    pub(crate) info: SpaceInfo,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) shards: Vec<Shard>,
    /// What follows the empty text: asked for often, and long.
    pub(crate) unigrams: OnceLock<NextCounts>,
    /// The tokens that occur in any shard, increasing.
    token_ids: OnceLock<Vec<u32>>,
}

impl TextSpace {
    pub(crate) fn new(info: SpaceInfo, tokenizer: Tokenizer, shards: Vec<Shard>) -> Self {
        Self {
            info,
            tokenizer,
            shards,
            unigrams: OnceLock::new(),
            token_ids: OnceLock::new(),
        }
    }

    /// What the index rests on.
    pub fn info(&self) -> &SpaceInfo {
        &self.info
    }

    /// The tokenizer of the corpus.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokenizer's number of tokens; the end of a document is the outcome with this index.
    pub fn vocab_size(&self) -> usize {
        self.info.vocab_size as usize
    }

    /// The number of tokens, document ends not counted.
    pub fn tokens(&self) -> u64 {
        self.info.tokens
    }

    /// The number of documents.
    pub fn documents(&self) -> usize {
        self.info.documents as usize
    }

    /// The tokens that occur, increasing.
    pub fn token_ids(&self) -> &[u32] {
        self.token_ids.get_or_init(|| {
            let all = self.shards.iter().flat_map(|s| s.view().token_ids);
            let mut ids: Vec<u32> = all.copied().collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        })
    }

    /// The shard that document `i` is in, and its number there.
    pub(crate) fn shard_of(&self, mut i: usize) -> Option<(&Shard, usize)> {
        for shard in &self.shards {
            match i.checked_sub(shard.documents()) {
                None => return Some((shard, i)),
                Some(rest) => i = rest,
            }
        }
        None
    }

    /// The tokens of document `i`; `None` beyond the last. O(its length).
    pub fn document_tokens(&self, i: usize) -> Option<Vec<u32>> {
        let (shard, i) = self.shard_of(i)?;
        let view = shard.view();
        let tokens = view
            .document(i)?
            .filter_map(|p| view.token_of(view.symbols.get(p)));
        Some(tokens.collect())
    }

    /// The numbers of tokens of all documents, in order.
    pub(crate) fn document_lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.shards.iter().flat_map(|shard| {
            let view = shard.view();
            let of = move |i| view.document(i).map_or(0, |d| d.len());
            (0..shard.documents()).map(of)
        })
    }

    /// The number of tokens of the longest document. O(documents).
    pub fn longest_document(&self) -> usize {
        self.document_lengths().max().unwrap_or(0)
    }
}

impl SpaceInfo {
    /// The hash of everything but the checksum itself.
    pub(crate) fn own_checksum(&self) -> String {
        let blank = Self {
            checksum: String::new(),
            ..self.clone()
        };
        let text = serde_json::to_vec(&blank).unwrap_or_default();
        blake3::hash(&text).to_hex().to_string()
    }
}

/// Hashes by the name of what is hashed.
pub(crate) type Checksums = BTreeMap<String, String>;
