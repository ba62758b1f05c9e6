use std::fs;
use std::io::{self, Write};
use std::path::Path;

use lawvere_token::disk::{parent, publish_folder, resolve, temporary_folder, write_file};
use lawvere_token::{Tokenizer, sha256_hex};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use crate::build::{BuildOptions, build_shards};
use crate::shard::{ShardInfo, SymbolSlice, View};
use crate::space::{Checksums, SpaceInfo};
use crate::{CorpusReader, TextError, TextSpace};

pub(crate) const INFO_FILE: &str = "space.json";
pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";
/// What a checksum of a file's first bytes, before its arrays, is listed under.
pub(crate) const HEADER: &str = "header";

/// The file of the shard with this number.
pub(crate) fn shard_file(number: usize) -> String {
    format!("shard-{number:05}.safetensors")
}

/// The number of a shard by the name of its file.
pub(crate) fn shard_number(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("shard-")?.strip_suffix(".safetensors")?;
    digits.parse().ok()
}

/// Whether a file of this name in an index's folder is the index's, or left of a run that was killed.
pub(crate) fn is_ours(name: &str) -> bool {
    // The arrays of an index of the first schema.
    let old = name == "space.safetensors";
    old || name == INFO_FILE
        || name == TOKENIZER_FILE
        || shard_number(name).is_some()
        || is_left_over(name)
}

/// Whether it is what a killed run leaves.
pub(crate) fn is_left_over(name: &str) -> bool {
    name.starts_with(".lawvere-")
}

impl TextSpace {
    /// Writes the index as the folder `destination`: `space.json` ([`SpaceInfo`](crate::SpaceInfo)),
    /// `tokenizer.json`, and for each shard a `shard-00000.safetensors` with `symbols` (u16 or u32, N),
    /// `suffix_array` (u32, N), `lcp` (u8, N; 255 stands for 255 and more), `document_starts` (u32, one a document)
    /// and `token_ids` (u32: the token id of symbol k is entry k - 1).
    ///
    /// It is written beside its final place and renamed into it when it is complete and on the
    /// disk. An index already there is moved aside first and deleted last: a run that is killed
    /// leaves the old index or the new one, at worst under a name that begins with
    /// `.lawvere-`, and never a half-written one under the final name.
    ///
    /// # Errors
    /// As [`check_destination`](Self::check_destination); whatever writing meets, with the path.
    pub fn save(&self, destination: &Path) -> Result<(), TextError> {
        write_index(destination, &mut |folder| {
            let mut info = self.info.clone();
            info.shards.clear();
            for shard in &self.shards {
                let number = info.shards.len();
                info.shards
                    .push(write_shard(folder, number, &shard.info, shard.view())?);
            }
            write_rest(folder, &self.tokenizer, &mut info)
        })
    }

    /// Indexes a corpus into the folder `destination`, in bounded memory: it is read, tokenized and sorted shard by
    /// shard, and every shard is written and forgotten before the next one is begun. As [`save`](Self::save), it
    /// leaves nothing half-written under the final name.
    ///
    /// Memory: a shard while it is sorted (see [`BuildOptions`]), and a few batches of documents.
    ///
    /// # Errors
    /// What reading the corpus meets; as [`build`](Self::build) and [`save`](Self::save).
    pub fn build_at(
        destination: &Path,
        reader: &CorpusReader,
        tokenizer: &Tokenizer,
        options: &BuildOptions,
        on_stage: &mut dyn FnMut(&str),
    ) -> Result<Self, TextError> {
        let mut info = SpaceInfo::empty(tokenizer);
        write_index(destination, &mut |folder| {
            add_shards(folder, &mut info, reader, tokenizer, options, on_stage)?;
            write_rest(folder, tokenizer, &mut info)
        })?;
        Self::written(destination, info, tokenizer.clone())
    }

    /// Adds a corpus to the index in `folder`, as one or more shards behind those it has, which stay as they are.
    /// It is read with the index's own tokenizer.
    ///
    /// The new shards are written beside the old ones, and count from the moment that `space.json` is replaced: a run
    /// that is killed leaves the index as it was, and at worst files that it does not name
    /// ([`repair`](Self::repair) removes them).
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`build_at`](Self::build_at).
    pub fn append(
        folder: &Path,
        reader: &CorpusReader,
        options: &BuildOptions,
        on_stage: &mut dyn FnMut(&str),
    ) -> Result<Self, TextError> {
        on_stage("opening the index");
        let folder = resolve(folder);
        let space = Self::open(&folder)?;
        let mut info = space.info.clone();
        let tokenizer = &space.tokenizer;
        let added = add_shards(&folder, &mut info, reader, tokenizer, options, on_stage)
            .and_then(|()| write_info(&folder, &mut info));
        if let Err(error) = added {
            // The index is as it was, and so should its folder be.
            let named = |name: &String| space.info.shards.iter().any(|s| s.file == *name);
            let new = |name: &String| shard_number(name).is_some() && !named(name);
            for name in names(&folder).into_iter().flatten().filter(new) {
                let _ = fs::remove_file(folder.join(name));
            }
            return Err(error);
        }
        let tokenizer = space.tokenizer.clone();
        drop(space);
        Self::written(&folder, info, tokenizer)
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
        let names = names(destination)?;
        match names.iter().find(|name| !is_ours(name)) {
            Some(name) => refused(format!(
                "the folder holds {name}, which is not part of an index, and is not replaced"
            )),
            None if names.is_empty() || names.iter().any(|name| name == INFO_FILE) => Ok(()),
            None => refused(format!("the folder is not an index (no {INFO_FILE})")),
        }
    }
}

/// The names in a folder.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, TextError> {
    let failed = |e| TextError::reading(folder, e);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Writes an index beside its place and moves it there.
fn write_index(
    destination: &Path,
    write: &mut dyn FnMut(&Path) -> Result<(), TextError>,
) -> Result<(), TextError> {
    TextSpace::check_destination(destination)?;
    let destination = resolve(destination);
    let parent = parent(&destination);
    let failed = |e| TextError::writing(&destination, e);
    fs::create_dir_all(&parent).map_err(failed)?;
    let written = temporary_folder(&parent).map_err(failed)?;
    write(written.path()).map_err(|error| match error {
        // The folder that is written has a name of no interest.
        TextError::Write { source, .. } => TextError::writing(&destination, source),
        other => other,
    })?;
    publish_folder(written.path(), &destination).map_err(failed)?;
    // It has been renamed: there is nothing left to remove.
    let _ = written.keep();
    Ok(())
}

/// Builds the shards of a corpus into `folder`, and `info` takes them in.
fn add_shards(
    folder: &Path,
    info: &mut SpaceInfo,
    reader: &CorpusReader,
    tokenizer: &Tokenizer,
    options: &BuildOptions,
    on_stage: &mut dyn FnMut(&str),
) -> Result<(), TextError> {
    let mut shards = std::mem::take(&mut info.shards);
    let mut keep = |shard: ShardInfo, arrays: crate::shard::Arrays| {
        let numbers = shards
            .iter()
            .filter_map(|s: &ShardInfo| shard_number(&s.file));
        let number = numbers.max().map_or(0, |n| n + 1);
        shards.push(write_shard(folder, number, &shard, arrays.view())?);
        Ok(())
    };
    let built = build_shards(reader, tokenizer, options, on_stage, &mut keep)?;
    info.shards = shards;
    info.add(&built, reader);
    Ok(())
}

/// Everything but the shards.
fn write_rest(folder: &Path, tokenizer: &Tokenizer, info: &mut SpaceInfo) -> Result<(), TextError> {
    let text = tokenizer.to_json()?;
    let path = folder.join(TOKENIZER_FILE);
    write_file(&path, |out| out.write_all(text.as_bytes()))
        .map_err(|e| TextError::writing(&path, e))?;
    info.tokenizer_checksum = sha256_hex(text.as_bytes());
    write_info(folder, info)
}

/// `space.json`, with its own checksum.
pub(crate) fn write_info(folder: &Path, info: &mut SpaceInfo) -> Result<(), TextError> {
    info.checksum = info.own_checksum();
    let path = folder.join(INFO_FILE);
    write_file(&path, |out| {
        serde_json::to_writer_pretty(&mut *out, &*info)?;
        out.write_all(b"\n")
    })
    .map_err(|e| TextError::writing(&path, e))
}

/// Writes a shard's file, and says what is in it.
pub(crate) fn write_shard(
    folder: &Path,
    number: usize,
    info: &ShardInfo,
    view: View<'_>,
) -> Result<ShardInfo, TextError> {
    let mut info = ShardInfo {
        file: shard_file(number),
        ..info.clone()
    };
    let path = folder.join(&info.file);
    write_file(&path, |out| {
        info.checksums = write_arrays(view, out)?;
        Ok(())
    })
    .map_err(|e| TextError::writing(&path, e))?;
    Ok(info)
}

/// The hash of an array, on all threads.
pub(crate) fn checksum(bytes: &[u8]) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update_rayon(bytes);
    hash.finalize().to_hex().to_string()
}

/// Writes the arrays as safetensors and returns the hashes of what was written, array by array.
///
/// By hand, because the library would want them all in one piece. Wider types
/// come first and the header is padded to 8 bytes, so every array is aligned in a mapped file.
fn write_arrays(view: View<'_>, out: &mut (impl Write + Send)) -> io::Result<Checksums> {
    let (symbols_dtype, symbols): (_, &[u8]) = match view.symbols {
        SymbolSlice::Narrow(s) => ("U16", bytemuck::cast_slice(s)),
        SymbolSlice::Wide(s) => ("U32", bytemuck::cast_slice(s)),
    };
    let n = view.len();
    let tensors: [(&str, &str, usize, &[u8]); 5] = [
        (
            "document_starts",
            "U32",
            view.document_starts.len(),
            bytemuck::cast_slice(view.document_starts),
        ),
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
        ("lcp", "U8", n, view.lcp),
    ];
    let mut header = Map::new();
    let mut offset = 0;
    for (name, dtype, length, bytes) in tensors {
        let end = offset + bytes.len();
        let entry = json!({"dtype": dtype, "shape": [length], "data_offsets": [offset, end]});
        header.insert(name.to_owned(), entry);
        offset = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut first = (text.len() as u64).to_le_bytes().to_vec();
    first.extend(text);
    let parts: Vec<(&str, &[u8])> = std::iter::once((HEADER, &first[..]))
        .chain(tensors.iter().map(|(name, .., bytes)| (*name, *bytes)))
        .collect();
    // Hashed on one thread while the other writes.
    let (hashes, written) = rayon::join(
        || {
            let hash = |(name, bytes): &(&str, &[u8])| (name.to_string(), checksum(bytes));
            parts.par_iter().map(hash).collect()
        },
        || parts.iter().try_for_each(|(_, bytes)| out.write_all(bytes)),
    );
    written?;
    Ok(hashes)
}
