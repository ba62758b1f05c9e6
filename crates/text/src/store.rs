use std::fs;
use std::io::{self, Write};
use std::path::Path;

use lawvere_token::disk::{parent, publish_folder, resolve, temporary_folder, write_file};
use lawvere_token::{hex, sha256_hex};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::space::{SymbolSlice, View};
use crate::{TextError, TextSpace};

pub(crate) const INFO_FILE: &str = "space.json";
pub(crate) const ARRAYS_FILE: &str = "space.safetensors";
pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";
const FILES: [&str; 3] = [INFO_FILE, ARRAYS_FILE, TOKENIZER_FILE];

impl TextSpace {
    /// Writes the index as the folder `destination`: `space.json` ([`SpaceInfo`](crate::SpaceInfo)),
    /// `tokenizer.json`, and `space.safetensors` with `symbols` (u16 or u32, N), `suffix_array` and
    /// `lcp` (u32, N), `document_starts` (u64, one a document) and `token_ids` (u32: the token id
    /// of symbol k is entry k - 1).
    ///
    /// It is written beside its final place and renamed into it when it is complete and on the
    /// disk. An index already there is moved aside first and deleted last: a run that is killed
    /// leaves the old index or the new one, at worst under a name that begins with
    /// `.lawvere-`, and never a half-written one under the final name.
    ///
    /// # Errors
    /// As [`check_destination`](Self::check_destination); whatever writing meets, with the path.
    pub fn save(&self, destination: &Path) -> Result<(), TextError> {
        Self::check_destination(destination)?;
        let destination = resolve(destination);
        let parent = parent(&destination);
        fs::create_dir_all(&parent).map_err(|e| TextError::writing(&parent, e))?;
        let written = temporary_folder(&parent).map_err(|e| TextError::writing(&parent, e))?;
        self.write_files(written.path())?;
        publish_folder(written.path(), &destination)
            .map_err(|e| TextError::writing(&destination, e))?;
        // It has been renamed: there is nothing left to remove.
        let _ = written.keep();
        Ok(())
    }

    /// Whether an index may be written at `destination`: nothing is there, or an empty folder, or
    /// an index and nothing beside it. To be asked before a long build.
    ///
    /// # Errors
    /// Anything else is there, or it cannot be looked at.
    pub fn check_destination(destination: &Path) -> Result<(), TextError> {
        let refused = |problem: String| {
            Err(TextError::Destination {
                path: destination.to_owned(),
                problem,
            })
        };
        match fs::metadata(destination) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(TextError::reading(destination, e)),
            Ok(metadata) if !metadata.is_dir() => {
                return refused("a file of that name is there".into());
            }
            Ok(_) => {}
        }
        let failed = |e| TextError::reading(destination, e);
        let mut names = Vec::new();
        for entry in fs::read_dir(destination).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        let foreign = names
            .iter()
            .find(|name| FILES.iter().all(|file| *name != file));
        match foreign {
            Some(name) => refused(format!(
                "the folder holds {}, which is not part of an index, and is not replaced",
                name.display()
            )),
            None if names.is_empty() || names.iter().any(|name| name == INFO_FILE) => Ok(()),
            None => refused(format!("the folder is not an index (no {INFO_FILE})")),
        }
    }

    fn write_files(&self, folder: &Path) -> Result<(), TextError> {
        let tokenizer = self.tokenizer.to_json()?;
        let path = folder.join(TOKENIZER_FILE);
        write_file(&path, |out| out.write_all(tokenizer.as_bytes()))
            .map_err(|e| TextError::writing(&path, e))?;
        let mut arrays_digest = String::new();
        let path = folder.join(ARRAYS_FILE);
        write_file(&path, |out| {
            arrays_digest = write_arrays(self.view(), out)?;
            Ok(())
        })
        .map_err(|e| TextError::writing(&path, e))?;
        let mut info = self.info.clone();
        info.files = [
            (ARRAYS_FILE.to_owned(), arrays_digest),
            (TOKENIZER_FILE.to_owned(), sha256_hex(tokenizer.as_bytes())),
        ]
        .into();
        let path = folder.join(INFO_FILE);
        write_file(&path, |out| {
            serde_json::to_writer_pretty(&mut *out, &info)?;
            out.write_all(b"\n")
        })
        .map_err(|e| TextError::writing(&path, e))
    }
}

/// Writes the arrays as safetensors and returns the SHA-256 of what was written.
///
/// By hand, because the file is then hashed while it is written, and read once less. Wider types
/// come first and the header is padded to 8 bytes, so every array is aligned in a mapped file.
fn write_arrays(view: View<'_>, out: &mut impl Write) -> io::Result<String> {
    let (symbols_dtype, symbols): (_, &[u8]) = match view.symbols {
        SymbolSlice::Narrow(s) => ("U16", bytemuck::cast_slice(s)),
        SymbolSlice::Wide(s) => ("U32", bytemuck::cast_slice(s)),
    };
    let n = view.len();
    let tensors: [(&str, &str, usize, &[u8]); 5] = [
        (
            "document_starts",
            "U64",
            view.document_starts.len(),
            bytemuck::cast_slice(view.document_starts),
        ),
        ("lcp", "U32", n, bytemuck::cast_slice(view.lcp)),
        (
            "suffix_array",
            "U32",
            n,
            bytemuck::cast_slice(view.suffix_array),
        ),
        (
            "token_ids",
            "U32",
            view.token_ids.len(),
            bytemuck::cast_slice(view.token_ids),
        ),
        ("symbols", symbols_dtype, n, symbols),
    ];
    let mut header = Map::new();
    let mut offset = 0;
    for (name, dtype, length, bytes) in tensors {
        let end = offset + bytes.len();
        let entry = json!({"dtype": dtype, "shape": [length], "data_offsets": [offset, end]});
        header.insert(name.to_owned(), entry);
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut hash = Sha256::new();
    let length = (header.len() as u64).to_le_bytes();
    let arrays = tensors.iter().map(|(.., bytes)| *bytes);
    for bytes in [&length[..], &header].into_iter().chain(arrays) {
        // In pieces, so that a piece is still in the cache when it is written.
        for piece in bytes.chunks(1 << 18) {
            hash.update(piece);
            out.write_all(piece)?;
        }
    }
    Ok(hex(&hash.finalize()))
}
