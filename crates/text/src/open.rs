use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use lawvere_token::{Tokenizer, map_file, sha256_hex};
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};

use crate::space::{MappedArrays, SPACE_SCHEMA, SpaceInfo, Storage, SymbolSlice, View};
use crate::store::{ARRAYS_FILE, INFO_FILE, TOKENIZER_FILE};
use crate::{TextError, TextSpace};

impl TextSpace {
    /// Opens an index that [`save`](Self::save) wrote; its arrays stay on the disk, mapped.
    ///
    /// Everything is checked once: the checksums, the shapes, and that every value lies in its
    /// range. O(N), one reading of the file.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another schema, each with its path; arrays that do
    /// not fit together.
    pub fn open(folder: &Path) -> Result<Self, TextError> {
        let info_path = folder.join(INFO_FILE);
        let info = read_info(&info_path)?;

        let path = folder.join(TOKENIZER_FILE);
        let bytes = fs::read(&path).map_err(|e| missing(&path, e))?;
        check_digest(&path, &info, TOKENIZER_FILE, &bytes)?;
        let text = String::from_utf8(bytes).map_err(|_| TextError::index(&path, "not UTF-8"))?;
        let tokenizer =
            Tokenizer::from_json(&text).map_err(|e| TextError::index(&path, e.to_string()))?;
        if tokenizer.identity() != info.tokenizer_identity
            || tokenizer.vocab_size() as u64 != info.vocab_size
        {
            let problem = "this is not the tokenizer that space.json names";
            return Err(TextError::index(&path, problem));
        }

        let path = folder.join(ARRAYS_FILE);
        let map = map_file(&path).map_err(|e| missing(&path, e))?;
        check_digest(&path, &info, ARRAYS_FILE, &map)?;
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|e| TextError::index(&path, e.to_string()))?;
        let locate = |name, dtype, length| {
            locate(&metadata, header, name, dtype, length).map_err(|p| TextError::index(&path, p))
        };
        let symbols = info
            .tokens
            .checked_add(info.documents)
            .filter(|&n| n < 1 << 31);
        let (n, wide) = match (symbols, info.symbol_bits) {
            (Some(n), 16) => (n as usize, false),
            (Some(n), 32) => (n as usize, true),
            (None, _) => return Err(TextError::index(&info_path, "too many tokens")),
            (_, bits) => {
                let problem = format!("symbols of {bits} bits; 16 and 32 are known");
                return Err(TextError::index(&info_path, problem));
            }
        };
        let symbol_type = if wide { Dtype::U32 } else { Dtype::U16 };
        let arrays = MappedArrays {
            wide,
            symbols: locate("symbols", symbol_type, Some(n))?,
            suffix_array: locate("suffix_array", Dtype::U32, Some(n))?,
            lcp: locate("lcp", Dtype::U32, Some(n))?,
            document_starts: locate("document_starts", Dtype::U64, Some(info.documents as usize))?,
            token_ids: locate("token_ids", Dtype::U32, None)?,
            map,
        };
        check_aligned(&arrays).map_err(|p| TextError::index(&path, p))?;
        check_values(&arrays.view(), info.vocab_size).map_err(|p| TextError::index(&path, p))?;
        Ok(Self {
            info,
            tokenizer,
            storage: Storage::Mapped(arrays),
            unigrams: OnceLock::new(),
        })
    }
}

fn read_info(path: &Path) -> Result<SpaceInfo, TextError> {
    let text = fs::read(path).map_err(|e| missing(path, e))?;
    let value: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|e| TextError::index(path, format!("not readable as JSON: {e}")))?;
    // The schema first: another one is likely to miss other fields too.
    match value.get("schema").and_then(serde_json::Value::as_str) {
        Some(SPACE_SCHEMA) => {}
        Some(other) => {
            let problem = format!("schema {other:?}; this version reads {SPACE_SCHEMA:?}");
            return Err(TextError::index(path, problem));
        }
        None => return Err(TextError::index(path, "no schema: not an index of Lawvere")),
    }
    serde_json::from_value(value).map_err(|e| TextError::index(path, e.to_string()))
}

fn missing(path: &Path, error: io::Error) -> TextError {
    match error.kind() {
        io::ErrorKind::NotFound => TextError::index(path, "missing, so this is no complete index"),
        _ => TextError::Unreadable {
            path: path.to_owned(),
            source: error,
        },
    }
}

fn check_digest(path: &Path, info: &SpaceInfo, name: &str, bytes: &[u8]) -> Result<(), TextError> {
    match info.files.get(name) {
        None => Err(TextError::index(
            path,
            format!("{INFO_FILE} names no checksum for it"),
        )),
        Some(wanted) if *wanted == sha256_hex(bytes) => Ok(()),
        Some(_) => {
            let problem = format!(
                "damaged or truncated: its SHA-256 over {} bytes is not the one in {INFO_FILE}",
                bytes.len()
            );
            Err(TextError::index(path, problem))
        }
    }
}

/// The bytes of a vector in the file.
fn locate(
    metadata: &Metadata,
    header: usize,
    name: &str,
    dtype: Dtype,
    length: Option<usize>,
) -> Result<Range<usize>, String> {
    let info = metadata
        .info(name)
        .ok_or_else(|| format!("no tensor `{name}`"))?;
    let expected = length.map_or("n".to_owned(), |n| n.to_string());
    match info.shape[..] {
        [n] if info.dtype == dtype && length.is_none_or(|wanted| wanted == n) => {}
        _ => {
            return Err(format!(
                "tensor `{name}` is {:?} of shape {:?}, not {dtype:?} of shape [{expected}]",
                info.dtype, info.shape
            ));
        }
    }
    // Eight bytes of header length come before the header.
    let at = |offset: usize| offset.checked_add(header)?.checked_add(8);
    let (start, end) = info.data_offsets;
    at(start)
        .zip(at(end))
        .map(|(start, end)| start..end)
        .ok_or_else(|| "absurd offsets".into())
}

fn check_aligned(arrays: &MappedArrays) -> Result<(), String> {
    fn aligned<T: bytemuck::Pod>(arrays: &MappedArrays, range: &Range<usize>) -> bool {
        let bytes = arrays.map.get(range.clone());
        bytes.is_some_and(|b| bytemuck::try_cast_slice::<u8, T>(b).is_ok())
    }
    let words = [&arrays.suffix_array, &arrays.lcp, &arrays.token_ids];
    let symbols = if arrays.wide {
        aligned::<u32>(arrays, &arrays.symbols)
    } else {
        aligned::<u16>(arrays, &arrays.symbols)
    };
    let rest = words.iter().all(|r| aligned::<u32>(arrays, r))
        && aligned::<u64>(arrays, &arrays.document_starts);
    if symbols && rest {
        Ok(())
    } else {
        Err("a tensor is not aligned".into())
    }
}

/// Whether every value lies in its range, so that no query can read out of bounds. (Whether the
/// suffix array is sorted is left to the checksum: an unsorted one gives wrong counts, no panic.)
fn check_values(view: &View<'_>, vocab_size: u64) -> Result<(), String> {
    let n = view.len() as u64;
    let ids = view.token_ids;
    if ids.windows(2).any(|p| p[0] >= p[1]) || ids.iter().any(|&id| u64::from(id) >= vocab_size) {
        return Err("token_ids do not increase within the vocabulary".into());
    }
    let (mut largest, mut ends) = (0, 0);
    let mut scan = |symbol: u32| {
        largest = largest.max(symbol);
        ends += usize::from(symbol == 0);
    };
    match view.symbols {
        SymbolSlice::Narrow(s) => s.iter().for_each(|&x| scan(x.into())),
        SymbolSlice::Wide(s) => s.iter().for_each(|&x| scan(x)),
    }
    if largest as usize > ids.len() {
        return Err(format!(
            "a symbol is {largest}, but token_ids name {}",
            ids.len()
        ));
    }
    let starts = view.document_starts;
    let follows_an_end = |&p: &u64| p < n && view.symbols.get((p as usize).wrapping_sub(1)) == 0;
    let cut_in_order = starts.first() == Some(&0)
        && starts.windows(2).all(|p| p[0] < p[1])
        && starts.iter().all(follows_an_end)
        && view.symbols.get(view.len().wrapping_sub(1)) == 0
        && ends == starts.len();
    if !cut_in_order {
        return Err("document_starts do not stand where documents end".into());
    }
    let fits = |(&position, &common): (&u32, &u32)| u64::from(position) + u64::from(common) < n;
    if view.lcp.first() != Some(&0) || !view.suffix_array.par_iter().zip(view.lcp).all(fits) {
        return Err("suffix_array or lcp points beyond the text".into());
    }
    Ok(())
}
