use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use lawvere_token::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::options::{CorpusOptions, File, Format, files};
use super::stream::{Hash, Stream, shown};
use super::{DocumentUnit, columns, json, tokens};
use crate::TextError;

/// Texts are handed on in batches of about this many bytes.
const BATCH_BYTES: usize = 8 << 20;
/// Token ids are handed on in batches of this many.
pub(super) const BATCH_TOKENS: usize = 1 << 21;

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its path; `standard input` for that.
    pub path: PathBuf,
    /// Its number of bytes, packed as it is.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: String,
}

/// A piece of a corpus.
pub(crate) enum Batch {
    /// Whole documents, one after the other, and where each ends.
    Texts { text: String, ends: Vec<usize> },
    /// Token ids that go on with the document begun.
    Tokens(Vec<u32>),
    /// The document of token ids ends here.
    EndOfDocument,
    /// The corpus ends here.
    End,
}

/// The documents of a batch of texts.
pub(crate) fn documents<'a>(text: &'a str, ends: &'a [usize]) -> impl Iterator<Item = &'a str> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends).map(|(start, &end)| &text[start..end])
}

/// What is known of a corpus once it has been read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub sources: Vec<SourceFile>,
    pub documents: u64,
    /// Stretches of bytes replaced by U+FFFD.
    pub replacements: u64,
}

impl Summary {
    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.sources.iter().map(|s| s.bytes).sum()
    }

    /// The identity of the corpus.
    pub fn identity(&self) -> String {
        identity(self.sources.iter().filter_map(SourceFile::digest))
    }
}

impl SourceFile {
    /// The bytes of its SHA-256.
    pub(crate) fn digest(&self) -> Option<Vec<u8>> {
        bytes_of_hex(&self.sha256)
    }
}

/// The bytes that hexadecimal digits stand for.
pub(crate) fn bytes_of_hex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let pair = |pair: &[u8; 2]| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    };
    if rest.is_empty() {
        pairs.iter().map(pair).collect()
    } else {
        None
    }
}

/// What a corpus is known by: the SHA-256 of the SHA-256 digests of its files, in order.
pub(crate) fn identity(digests: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut all = Sha256::new();
    for digest in digests {
        all.update(digest);
    }
    hex(&all.finalize())
}

/// The files of a corpus, to be read from beginning to end in bounded memory.
#[derive(Debug, Clone)]
pub struct CorpusReader {
    pub(crate) options: CorpusOptions,
    /// Of each path that was given.
    files: Vec<Vec<File>>,
}

impl CorpusReader {
    /// Looks the paths up; nothing is read.
    ///
    /// # Errors
    /// No path; a path that is not there, a pattern that matches nothing, a folder without a corpus's files.
    pub fn open(options: CorpusOptions) -> Result<Self, TextError> {
        if options.paths.is_empty() {
            return Err(TextError::NoPaths);
        }
        let of = |path: &PathBuf| files(path, &options);
        let files = options.paths.iter().map(of).collect::<Result<_, _>>()?;
        Ok(Self { options, files })
    }

    /// Where the corpus is and how it is cut.
    pub fn options(&self) -> &CorpusOptions {
        &self.options
    }

    /// The identity of the corpus without reading its documents; `None` with standard input.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn identity(&self) -> Result<Option<String>, TextError> {
        if self.options.reads_standard_input() {
            return Ok(None);
        }
        let mut digests = Vec::new();
        for path in self.files.iter().flatten().filter_map(|f| f.path.as_ref()) {
            let mut file = fs::File::open(path).map_err(|e| TextError::reading(path, e))?;
            let mut digest = Sha256::new();
            std::io::copy(&mut file, &mut digest).map_err(|e| TextError::reading(path, e))?;
            digests.push(digest.finalize());
        }
        Ok(Some(identity(digests)))
    }

    /// Whether its files hold token ids rather than text.
    pub fn holds_tokens(&self) -> bool {
        self.files.iter().flatten().any(|f| f.format.is_tokens())
    }

    /// Reads everything, a batch at a time; ids of tokens are below `vocab_size`.
    pub(crate) fn read(
        &self,
        vocab_size: usize,
        emit: &mut dyn FnMut(Batch) -> Result<(), TextError>,
    ) -> Result<Summary, TextError> {
        let mut reading = Reading {
            options: &self.options,
            vocab_size,
            emit,
            text: String::new(),
            ends: Vec::new(),
            summary: Summary::default(),
            hashes: Vec::new(),
        };
        for (path, files) in self.options.paths.iter().zip(&self.files) {
            let before = reading.summary.documents;
            for file in files {
                reading.file(file)?;
            }
            if reading.summary.documents == before {
                return Err(TextError::Empty { path: path.clone() });
            }
        }
        reading.flush()?;
        (reading.emit)(Batch::End)?;
        let (mut summary, hashes) = (reading.summary, reading.hashes);
        for (path, hash) in hashes {
            let (bytes, digest) = hash.wait().map_err(|e| TextError::reading(&path, e))?;
            summary.sources.push(SourceFile {
                path,
                bytes,
                sha256: hex(&digest),
            });
        }
        Ok(summary)
    }
}

/// A corpus while it is read.
pub(super) struct Reading<'a> {
    pub options: &'a CorpusOptions,
    pub vocab_size: usize,
    emit: &'a mut dyn FnMut(Batch) -> Result<(), TextError>,
    text: String,
    ends: Vec<usize>,
    summary: Summary,
    /// Of the files read, in order.
    hashes: Vec<(PathBuf, Hash)>,
}

/// Where in a file bytes stand, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub path: &'a Path,
    /// From 1; of the file as a whole without.
    pub line: Option<u64>,
    /// Of the first byte, in the unpacked file; not known of columns.
    pub offset: Option<u64>,
}

impl Reading<'_> {
    fn file(&mut self, file: &File) -> Result<(), TextError> {
        let hash = match file.format {
            Format::Parquet => columns::parquet(self, file)?,
            Format::Safetensors => tokens::safetensors(self, file)?,
            format => {
                let mut stream = Stream::open(file)?;
                match format {
                    Format::Jsonl => json::lines(self, &mut stream)?,
                    Format::Csv => columns::separated(self, &mut stream, b',')?,
                    Format::Tsv => columns::separated(self, &mut stream, b'\t')?,
                    Format::U16 | Format::U32 => {
                        // Of `.bin`, the vocabulary says how wide its tokens are.
                        let wide = match file.any_width {
                            true => self.vocab_size > 1 << 16,
                            false => format == Format::U32,
                        };
                        tokens::raw(self, &mut stream, wide)?;
                    }
                    _ => match self.options.documents {
                        DocumentUnit::Line => self.lines(&mut stream)?,
                        DocumentUnit::File => self.whole(&mut stream)?,
                    },
                }
                stream.finish()?
            }
        };
        self.hashes.push((shown(file), hash));
        Ok(())
    }

    /// A document; one of white space alone is none.
    pub fn document(&mut self, document: &str) -> Result<(), TextError> {
        if document.trim().is_empty() {
            return Ok(());
        }
        self.text.push_str(document);
        self.ends.push(self.text.len());
        self.summary.documents += 1;
        match self.text.len() >= BATCH_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Token ids that go on with a document.
    pub fn tokens(&mut self, ids: Vec<u32>) -> Result<(), TextError> {
        self.flush()?;
        (self.emit)(Batch::Tokens(ids))
    }

    /// The end of a document of token ids.
    pub fn end_of_tokens(&mut self) -> Result<(), TextError> {
        self.summary.documents += 1;
        (self.emit)(Batch::EndOfDocument)
    }

    fn flush(&mut self) -> Result<(), TextError> {
        if self.ends.is_empty() {
            return Ok(());
        }
        let (text, ends) = (
            std::mem::take(&mut self.text),
            std::mem::take(&mut self.ends),
        );
        (self.emit)(Batch::Texts { text, ends })
    }

    /// Bytes as text.
    ///
    /// # Errors
    /// A NUL; what is not UTF-8, unless such bytes are to be replaced.
    pub fn decode<'b>(
        &mut self,
        bytes: &'b [u8],
        place: Place<'_>,
    ) -> Result<Cow<'b, str>, TextError> {
        let path = || place.path.to_owned();
        let at = |offset: usize| match (place.offset, place.line) {
            (Some(before), _) => format!("byte {}", before + offset as u64),
            (None, Some(line)) => format!("line {line}: byte {offset} of the document"),
            (None, None) => format!("byte {offset}"),
        };
        if let Some(offset) = memchr::memchr(0, bytes) {
            return Err(TextError::Binary {
                path: path(),
                at: at(offset),
            });
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(_) if self.options.lossy => {
                let chunks = bytes.utf8_chunks();
                self.summary.replacements +=
                    chunks.filter(|c| !c.invalid().is_empty()).count() as u64;
                Ok(String::from_utf8_lossy(bytes))
            }
            Err(e) => Err(TextError::NotUtf8 {
                path: path(),
                at: at(e.valid_up_to()),
                byte: bytes.get(e.valid_up_to()).copied().unwrap_or_default(),
            }),
        }
    }

    /// A document a line.
    fn lines(&mut self, stream: &mut Stream) -> Result<(), TextError> {
        for_each_line(stream, self.options.longest_document, &mut |place, line| {
            let text = self.decode(line, place)?;
            self.document(&text)
        })
    }

    /// The file as one document.
    fn whole(&mut self, stream: &mut Stream) -> Result<(), TextError> {
        let bytes = stream.all(self.options.longest_document)?;
        let place = Place {
            path: stream.path(),
            line: None,
            offset: Some(0),
        };
        let text = self.decode(&bytes, place)?;
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text);
        match text.contains("\r\n") {
            true => self.document(&text.replace("\r\n", "\n")),
            false => self.document(text),
        }
    }
}

/// The lines of a file without their ends and the file's byte order mark; blank ones too.
pub(super) fn for_each_line(
    stream: &mut Stream,
    limit: usize,
    visit: &mut impl FnMut(Place<'_>, &[u8]) -> Result<(), TextError>,
) -> Result<(), TextError> {
    let (mut line, mut offset, mut number) = (Vec::new(), 0, 1);
    while stream.line(&mut line, limit, number)? {
        let mut content: &[u8] = &line;
        content = content.strip_suffix(b"\n").unwrap_or(content);
        content = content.strip_suffix(b"\r").unwrap_or(content);
        let mut start = offset;
        if number == 1 && content.starts_with(&[0xEF, 0xBB, 0xBF]) {
            content = &content[3..];
            start += 3;
        }
        let place = Place {
            path: stream.path(),
            line: Some(number),
            offset: Some(start),
        };
        visit(place, content)?;
        offset += line.len() as u64;
        number += 1;
        line.clear();
    }
    Ok(())
}
