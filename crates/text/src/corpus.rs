use std::fs;
use std::path::{Path, PathBuf};

use lawvere_token::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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

/// Plain text, cut into documents.
///
/// The text is held once, as one string, with a position for each document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    text: String,
    ends: Vec<usize>,
    paths: Vec<PathBuf>,
    unit: Option<DocumentUnit>,
    lossy: bool,
    replacements: u64,
    bytes: u64,
    identity: String,
}

impl Corpus {
    /// Reads files, and folders' files with the extension `.txt`, sorted by name (a folder inside
    /// a folder is not entered).
    ///
    /// A byte order mark at the start of a file is skipped, `\r` before `\n` is cut, blank
    /// documents are left out. With `lossy`, bytes that are not UTF-8 become U+FFFD. Memory: the
    /// text, and one file more while it is read.
    ///
    /// # Errors
    /// No path; a file that is missing, unreadable, binary (it has a NUL byte) or, unless `lossy`,
    /// not UTF-8; a file, or a whole folder, without text. Each names the path, and the offset of
    /// the first bad byte.
    pub fn read(paths: &[PathBuf], unit: DocumentUnit, lossy: bool) -> Result<Self, TextError> {
        if paths.is_empty() {
            return Err(TextError::NoPaths);
        }
        let mut builder = Builder::default();
        for path in paths {
            let before = builder.ends.len();
            let metadata = fs::metadata(path).map_err(|e| TextError::reading(path, e))?;
            let files = if metadata.is_dir() {
                text_files(path)?
            } else {
                vec![path.clone()]
            };
            for file in files {
                builder.add_file(&file, unit, lossy)?;
            }
            if builder.ends.len() == before {
                return Err(TextError::Empty { path: path.clone() });
            }
        }
        Ok(builder.finish(paths.to_vec(), Some(unit), lossy))
    }

    /// A corpus of texts in memory, one document each; blank ones are left out.
    ///
    /// # Errors
    /// No document with text.
    pub fn from_documents<T: AsRef<str>>(
        documents: impl IntoIterator<Item = T>,
    ) -> Result<Self, TextError> {
        let mut builder = Builder::default();
        for document in documents {
            let document = document.as_ref();
            builder.add_bytes(document.as_bytes());
            builder.add_document(document);
        }
        if builder.ends.is_empty() {
            return Err(TextError::NoDocuments);
        }
        Ok(builder.finish(Vec::new(), None, false))
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
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.text[start..end])
    }

    /// The paths that were asked for; none for texts from memory.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// What counts as a document; `None` for texts from memory.
    pub fn unit(&self) -> Option<DocumentUnit> {
        self.unit
    }

    /// Whether bytes that are not UTF-8 were to be replaced.
    pub fn lossy(&self) -> bool {
        self.lossy
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

#[derive(Default)]
struct Builder {
    text: String,
    ends: Vec<usize>,
    digests: Sha256,
    bytes: u64,
    replacements: u64,
}

impl Builder {
    fn add_bytes(&mut self, bytes: &[u8]) {
        self.digests.update(Sha256::digest(bytes));
        self.bytes += bytes.len() as u64;
    }

    fn add_document(&mut self, document: &str) {
        if !document.trim().is_empty() {
            self.text.push_str(document);
            self.ends.push(self.text.len());
        }
    }

    fn add_file(&mut self, path: &Path, unit: DocumentUnit, lossy: bool) -> Result<(), TextError> {
        let bytes = fs::read(path).map_err(|e| TextError::reading(path, e))?;
        self.add_bytes(&bytes);
        if let Some(offset) = bytes.iter().position(|&b| b == 0) {
            return Err(TextError::Binary {
                path: path.to_owned(),
                offset,
            });
        }
        let replaced;
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(_) if lossy => {
                self.replacements += bytes
                    .utf8_chunks()
                    .filter(|c| !c.invalid().is_empty())
                    .count() as u64;
                replaced = String::from_utf8_lossy(&bytes);
                &replaced
            }
            Err(e) => {
                let offset = e.valid_up_to();
                let byte = bytes.get(offset).copied().unwrap_or_default();
                return Err(TextError::NotUtf8 {
                    path: path.to_owned(),
                    offset,
                    byte,
                });
            }
        };
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        match unit {
            // `lines` cuts `\r` only before `\n`, so not at the end of the file.
            DocumentUnit::Line => {
                text.lines()
                    .for_each(|l| self.add_document(l.strip_suffix('\r').unwrap_or(l)));
            }
            DocumentUnit::File if text.contains("\r\n") => {
                self.add_document(&text.replace("\r\n", "\n"));
            }
            DocumentUnit::File => self.add_document(text),
        }
        Ok(())
    }

    fn finish(self, paths: Vec<PathBuf>, unit: Option<DocumentUnit>, lossy: bool) -> Corpus {
        Corpus {
            text: self.text,
            ends: self.ends,
            paths,
            unit,
            lossy,
            replacements: self.replacements,
            bytes: self.bytes,
            identity: hex(&self.digests.finalize()),
        }
    }
}

fn text_files(folder: &Path) -> Result<Vec<PathBuf>, TextError> {
    let failed = |e| TextError::reading(folder, e);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|e| e == "txt") && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(TextError::NoTextFiles {
            path: folder.to_owned(),
        });
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn read_lines(path: PathBuf) -> Result<Corpus, TextError> {
        Corpus::read(&[path], DocumentUnit::Line, false)
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
        let whole = Corpus::read(&[path], DocumentUnit::File, false).unwrap();
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
            matches!(
                error,
                TextError::NotUtf8 {
                    offset: 12,
                    byte: 0xE9,
                    ..
                }
            ),
            "{error}"
        );
        assert!(
            error.to_string().contains("latin.txt: byte 12 (0xE9)"),
            "{error}"
        );
        let corpus = Corpus::read(&[path], DocumentUnit::Line, true).unwrap();
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
        let none = Corpus::read(&[], DocumentUnit::Line, false);
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
