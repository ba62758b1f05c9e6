//! Corpora: where they are, how they are read and cut into documents.

mod columns;
mod json;
mod options;
mod reader;
mod stream;
mod tokens;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use options::{CorpusOptions, Format, ReadingInfo};
pub(crate) use reader::{Batch, Summary, bytes_of_hex, documents, identity};
pub use reader::{CorpusReader, SourceFile};

use crate::TextError;

/// What counts as one document: no context and no occurrence crosses its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DocumentUnit {
    /// Every line that is not blank.
    Line,
    /// Every file.
    File,
}

/// Text in memory, cut into documents.
///
/// It is held once, as one string, with a position for each document. Corpora that are larger than that
/// are indexed as they are read, by [`TextSpace::build_at`](crate::TextSpace::build_at).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    text: String,
    ends: Vec<usize>,
    bytes: u64,
    identity: String,
    replacements: u64,
    /// None of texts from memory.
    options: Option<CorpusOptions>,
    sources: Vec<SourceFile>,
}

impl Corpus {
    /// Reads a corpus of text into memory: files, folders' files and those that patterns match, plain or in
    /// any [`Format`] of text; see [`CorpusOptions`].
    ///
    /// A byte order mark at the start of a file is skipped, `\r` before `\n` is cut, blank
    /// documents are left out. With `lossy`, bytes that are not UTF-8 become U+FFFD. Memory: the text.
    ///
    /// # Errors
    /// No path; a file that is missing, unreadable, damaged, binary (it has a NUL byte) or, unless `lossy`,
    /// not UTF-8; one without the field; a path without text. Each names the path, and the line or byte.
    pub fn read(options: &CorpusOptions) -> Result<Self, TextError> {
        let reader = CorpusReader::open(options.clone())?;
        if reader.holds_tokens() {
            return Err(TextError::Option {
                option: "format",
                problem: "files of token ids can be indexed, but hold no text".into(),
            });
        }
        let (mut text, mut ends) = (String::new(), Vec::new());
        let summary = reader.read(0, &mut |batch| {
            if let Batch::Texts {
                text: more,
                ends: more_ends,
            } = batch
            {
                let before = text.len();
                text.push_str(&more);
                ends.extend(more_ends.into_iter().map(|end| before + end));
            }
            Ok(())
        })?;
        Ok(Self {
            text,
            ends,
            bytes: summary.bytes(),
            identity: summary.identity(),
            replacements: summary.replacements,
            options: Some(options.clone()),
            sources: summary.sources,
        })
    }

    /// A corpus of texts in memory, one document each; blank ones are left out.
    ///
    /// # Errors
    /// No document with text.
    pub fn from_documents<T: AsRef<str>>(
        documents: impl IntoIterator<Item = T>,
    ) -> Result<Self, TextError> {
        let (mut text, mut ends) = (String::new(), Vec::new());
        let (mut bytes, mut digests) = (0, Vec::new());
        for document in documents {
            let document = document.as_ref();
            bytes += document.len() as u64;
            digests.push(Sha256::digest(document.as_bytes()));
            if !document.trim().is_empty() {
                text.push_str(document);
                ends.push(text.len());
            }
        }
        if ends.is_empty() {
            return Err(TextError::NoDocuments);
        }
        Ok(Self {
            text,
            ends,
            bytes,
            identity: identity(digests),
            replacements: 0,
            options: None,
            sources: Vec::new(),
        })
    }

    /// The number of documents.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no document; never, for a corpus that could be made.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The documents in order.
    pub fn documents(&self) -> impl Iterator<Item = &str> {
        documents(&self.text, &self.ends)
    }

    /// Where it was read; `None` for texts from memory.
    pub fn options(&self) -> Option<&CorpusOptions> {
        self.options.as_ref()
    }

    /// The files it was read from, in order; none for texts from memory.
    pub fn sources(&self) -> &[SourceFile] {
        &self.sources
    }

    /// How many stretches of bytes were replaced by U+FFFD.
    pub fn replacements(&self) -> u64 {
        self.replacements
    }

    /// The number of bytes in all files, or in all texts from memory.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the corpus is known by: the SHA-256 of its files' SHA-256 digests (32 bytes each, in
    /// order). It depends on contents, not on names, nor on how they are cut into documents.
    pub fn identity(&self) -> &str {
        &self.identity
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn read_lines(path: PathBuf) -> Result<Corpus, TextError> {
        Corpus::read(&CorpusOptions::new([path]))
    }

    fn options(path: PathBuf, documents: DocumentUnit, lossy: bool) -> CorpusOptions {
        CorpusOptions {
            documents,
            lossy,
            ..CorpusOptions::new([path])
        }
    }

    fn documents(corpus: &Corpus) -> Vec<&str> {
        corpus.documents().collect()
    }

    #[test]
    fn lines_are_documents_without_bom_carriage_returns_and_blanks() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(
            &folder,
            "a.txt",
            b"\xEF\xBB\xBFone two\r\n\r\n  \nthree\n\nfour",
        );
        let corpus = read_lines(path.clone()).unwrap();
        assert_eq!(documents(&corpus), ["one two", "three", "four"]);
        assert_eq!((corpus.len(), corpus.bytes()), (3, 28));
        let whole = Corpus::read(&options(path, DocumentUnit::File, false)).unwrap();
        assert_eq!(documents(&whole), ["one two\n\n  \nthree\n\nfour"]);
        assert_eq!(whole.identity(), corpus.identity());
    }

    #[test]
    fn a_folder_is_its_text_files_by_name() {
        let folder = tempfile::tempdir().unwrap();
        file(&folder, "b.txt", b"second");
        file(&folder, "a.txt", b"first\n");
        file(&folder, "c.txt", b"");
        file(&folder, "0.md", b"no");
        fs::create_dir(folder.path().join("d.txt")).unwrap();
        let corpus = read_lines(folder.path().to_owned()).unwrap();
        assert_eq!(documents(&corpus), ["first", "second"]);
    }

    #[test]
    fn the_first_byte_that_is_not_utf8_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, "latin.txt", b"caf\xC3\xA9 or caf\xE9\n\xFF");
        let error = read_lines(path.clone()).unwrap_err();
        assert!(
            error.to_string().contains("latin.txt: byte 12 (0xE9)"),
            "{error}"
        );
        let corpus = Corpus::read(&options(path, DocumentUnit::Line, true)).unwrap();
        assert_eq!(documents(&corpus), ["café or caf\u{FFFD}", "\u{FFFD}"]);
        assert_eq!(corpus.replacements(), 2);
    }

    #[test]
    fn bad_inputs_are_one_line_that_names_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let cases = [
            (folder.path().join("none.txt"), "no such file"),
            (
                file(&folder, "blank.txt", b" \n\r\n\t\n"),
                "empty: no document with text",
            ),
            (
                file(&folder, "image.png", b"\x89PNG\0\0"),
                "looks binary: byte 4 is NUL",
            ),
        ];
        for (path, wanted) in cases {
            let error = read_lines(path.clone()).unwrap_err().to_string();
            assert!(error.contains(wanted) && !error.contains('\n'), "{error}");
            assert!(error.starts_with(&path.display().to_string()), "{error}");
        }
        let bare = tempfile::tempdir().unwrap();
        let error = read_lines(bare.path().to_owned()).unwrap_err();
        assert!(matches!(error, TextError::NoTextFiles { .. }), "{error}");
        let none = Corpus::read(&CorpusOptions::new(Vec::<PathBuf>::new()));
        assert!(matches!(none, Err(TextError::NoPaths)));
        let blank = Corpus::from_documents([" "]);
        assert!(matches!(blank, Err(TextError::NoDocuments)));
    }

    #[cfg(unix)]
    #[test]
    fn an_unreadable_path_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, "file", b"text").join("below-a-file.txt");
        let error = read_lines(path).unwrap_err();
        assert!(matches!(error, TextError::Unreadable { .. }), "{error}");
    }
}
