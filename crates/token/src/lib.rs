//! Tokenizers: a Hugging Face `tokenizer.json`, the one inside a GGUF file, white-space words, bytes.
//!
//! Every kind becomes the same [`Tokenizer`], whose [`identity`](Tokenizer::identity) is a hash of
//! its complete description: two texts may be compared only if their tokenizers' identities agree.
//! Strings that look like special tokens (`<|endoftext|>`) are text in a corpus, never control tokens.
//!
//! ```
//! use lawvere_token::Tokenizer;
//!
//! let words = Tokenizer::words(["the cat sat", "the dog sat"].into_iter()).unwrap();
//! let ids = words.encode("the dog").unwrap();
//! assert_eq!(ids, [1, 3]); // by decreasing frequency, then alphabetically: sat, the, cat, dog
//! assert_eq!(words.decode(&ids).unwrap(), "the dog");
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod disk;
#[cfg(feature = "download")]
mod download;
mod error;
mod file;
pub mod gguf;
mod gguf_tokenizer;
mod hub;
mod tokenizer;

pub use error::TokenError;
pub use file::{hex, map_file, sha256_hex, sha256_of_file};
pub use gguf_tokenizer::gguf_bos;
pub use hub::{Fetching, fetch, name_in_cache, resolve};
pub use memmap2::Mmap;
pub use tokenizer::Tokenizer;
