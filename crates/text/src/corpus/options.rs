use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DocumentUnit;
use crate::TextError;

/// What the files of a corpus are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Plain text in UTF-8, a document a line or a file.
    Text,
    /// JSON Lines: an object a line, of which one field is a document.
    Jsonl,
    /// Comma-separated values with a header, of which one column holds the documents.
    Csv,
    /// The same, separated by tabs.
    Tsv,
    /// A Parquet file with a column of strings.
    Parquet,
    /// Token ids, little-endian, one after the other, of 16 bits.
    U16,
    /// The same of 32 bits.
    U32,
    /// A one-dimensional array of token ids in a safetensors file.
    Safetensors,
}

impl Format {
    /// All there are, with their names.
    pub const NAMES: [(&'static str, Self); 8] = [
        ("text", Self::Text),
        ("jsonl", Self::Jsonl),
        ("csv", Self::Csv),
        ("tsv", Self::Tsv),
        ("parquet", Self::Parquet),
        ("u16", Self::U16),
        ("u32", Self::U32),
        ("safetensors", Self::Safetensors),
    ];

    /// Whether its documents are token ids already.
    pub fn is_tokens(self) -> bool {
        matches!(self, Self::U16 | Self::U32 | Self::Safetensors)
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, format)| *format).ok_or_else(|| {
            let known: Vec<&str> = Self::NAMES.iter().map(|(known, _)| *known).collect();
            format!("`{name}` is none of {}", known.join(", "))
        })
    }
}

/// How the files of a corpus were read: what decides, beside their contents, which documents it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingInfo {
    /// What counted as a document of plain text.
    pub documents: DocumentUnit,
    /// What the files were said to be.
    pub format: Option<Format>,
    /// The field, column or tensor that was asked for.
    pub field: Option<String>,
    /// Whether bytes that are not UTF-8 were to be replaced.
    pub lossy: bool,
    /// The token that ended documents in files of tokens.
    pub end_token: Option<u32>,
}

/// Where a corpus is and how it is cut into documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorpusOptions {
    /// Files, folders, patterns with `*`, `?` and `**`, or `-` for standard input.
    ///
    /// Of a folder the files in it (not those of folders inside it) are read whose names end in `.txt`,
    /// `.jsonl`, `.ndjson`, `.csv`, `.tsv` or `.parquet`, all but the last also with `.gz` or `.zst`, sorted by
    /// name. A pattern stands for the files it matches, sorted by path.
    pub paths: Vec<PathBuf>,
    /// What all files are; without it what their names say, and plain text where these say nothing.
    pub format: Option<Format>,
    /// The field, column or tensor that holds the documents: `text` without it, and the only tensor.
    pub field: Option<String>,
    /// What counts as a document of plain text.
    pub documents: DocumentUnit,
    /// Replace bytes that are not UTF-8 by U+FFFD rather than refuse them.
    pub lossy: bool,
    /// Bytes that a document, and a line of a file, may have. It bounds the memory that reading takes.
    pub longest_document: usize,
    /// In files of tokens: the token that ends a document, which is not kept. Without one a file is one
    /// document.
    pub end_token: Option<u32>,
}

impl CorpusOptions {
    /// Documents of up to 256 MiB.
    pub const LONGEST_DOCUMENT: usize = 256 << 20;

    /// These paths, a document a line of plain text, everything else by the files' names.
    pub fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self {
            paths: paths.into_iter().map(Into::into).collect(),
            format: None,
            field: None,
            documents: DocumentUnit::Line,
            lossy: false,
            longest_document: Self::LONGEST_DOCUMENT,
            end_token: None,
        }
    }

    /// Whether standard input is one of the paths: it can be read only once.
    pub fn reads_standard_input(&self) -> bool {
        self.paths.iter().any(|p| p.as_os_str() == "-")
    }

    /// What of this decides on the documents.
    pub fn reading(&self) -> ReadingInfo {
        ReadingInfo {
            documents: self.documents,
            format: self.format,
            field: self.field.clone(),
            lossy: self.lossy,
            end_token: self.end_token,
        }
    }

    /// The name of the field or column.
    pub(super) fn field(&self) -> &str {
        self.field.as_deref().unwrap_or("text")
    }
}

/// One file of a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// `None` is standard input.
    pub path: Option<PathBuf>,
    pub format: Format,
    /// A `.bin`, which holds as many bits a token as the vocabulary asks for.
    pub any_width: bool,
}

/// The files that one of the paths stands for.
pub(super) fn files(path: &Path, options: &CorpusOptions) -> Result<Vec<File>, TextError> {
    let format = |by_name: Option<Format>| options.format.or(by_name).unwrap_or(Format::Text);
    if path.as_os_str() == "-" {
        return Ok(vec![File {
            path: None,
            format: format(None),
            any_width: false,
        }]);
    }
    let file = |path: PathBuf| File {
        format: format(by_name(&path)),
        any_width: options.format.is_none() && has_extension(&path, "bin"),
        path: Some(path),
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            let in_folder = text_files(path)?;
            Ok(in_folder.into_iter().map(file).collect())
        }
        Ok(_) => Ok(vec![file(path.to_owned())]),
        Err(_) if is_pattern(path) => Ok(matching(path)?.into_iter().map(file).collect()),
        Err(e) => Err(TextError::reading(path, e)),
    }
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    let extension = path.extension();
    extension.is_some_and(|e| e.eq_ignore_ascii_case(wanted))
}

/// What a file's name says of it.
fn by_name(path: &Path) -> Option<Format> {
    let packed = ["gz", "zst"].iter().any(|e| has_extension(path, e));
    let stem = PathBuf::from(path.file_stem().unwrap_or_default());
    let path = if packed { &stem } else { path };
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "txt" => Format::Text,
        "jsonl" | "ndjson" => Format::Jsonl,
        "csv" => Format::Csv,
        "tsv" => Format::Tsv,
        "parquet" => Format::Parquet,
        "bin" | "u16" => Format::U16,
        "u32" => Format::U32,
        "safetensors" => Format::Safetensors,
        _ => return None,
    })
}

/// Whether it can stand for several files.
fn is_pattern(path: &Path) -> bool {
    path.to_str().is_some_and(|p| p.contains(['*', '?', '[']))
}

fn matching(pattern: &Path) -> Result<Vec<PathBuf>, TextError> {
    let wrong = |problem: String| TextError::Pattern {
        path: pattern.to_owned(),
        problem,
    };
    let text = pattern.to_str().unwrap_or_default();
    let mut found = Vec::new();
    for path in glob::glob(text).map_err(|e| wrong(e.to_string()))? {
        let path = path.map_err(|e| {
            let path = e.path().to_owned();
            TextError::reading(&path, e.into())
        })?;
        if path.is_file() {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(wrong("no file matches".into()));
    }
    found.sort();
    Ok(found)
}

fn text_files(folder: &Path) -> Result<Vec<PathBuf>, TextError> {
    let failed = |e| TextError::reading(folder, e);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if by_name(&path).is_some_and(|f| !f.is_tokens()) && path.is_file() {
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
