use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use lawvere_token::{Tokenizer, map_file, sha256_hex};
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};

use crate::shard::{MappedArrays, Shard, ShardInfo, Storage, SymbolSlice, View};
use crate::space::{SPACE_SCHEMA, SpaceInfo};
use crate::store::{HEADER, INFO_FILE, TOKENIZER_FILE, checksum};
use crate::{TextError, TextSpace};

impl TextSpace {
    /// Opens an index that [`save`](Self::save) or [`build_at`](Self::build_at) wrote; its arrays stay on the disk,
    /// mapped.
    ///
    /// Everything is checked once: the checksums, the shapes, and that every value lies in its
    /// range. O(N), one reading of the files, on all threads.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another schema, each with its path; arrays that do
    /// not fit together.
    pub fn open(folder: &Path) -> Result<Self, TextError> {
        let (info, tokenizer) = open_description(folder)?;
        let shards = info.shards.iter().map(|shard| {
            let path = folder.join(&shard.file);
            let arrays = map_shard(&path, shard)?;
            let wrong = |problem| TextError::index(&path, problem);
            check_sums(&arrays, shard).map_err(wrong)?;
            check_values(&arrays.view(), info.vocab_size).map_err(wrong)?;
            Ok(Shard::new(shard.clone(), Storage::Mapped(arrays)))
        });
        let shards = shards.collect::<Result<_, TextError>>()?;
        Ok(Self::new(info, tokenizer, shards))
    }

    /// One that this process has just written, and need not read again.
    pub(crate) fn written(
        folder: &Path,
        info: SpaceInfo,
        tokenizer: Tokenizer,
    ) -> Result<Self, TextError> {
        let open = |shard: &ShardInfo| {
            let arrays = map_shard(&folder.join(&shard.file), shard)?;
            Ok(Shard::new(shard.clone(), Storage::Mapped(arrays)))
        };
        let shards = info.shards.iter().map(open);
        let shards = shards.collect::<Result<_, TextError>>()?;
        Ok(Self::new(info, tokenizer, shards))
    }

    /// What the index in `folder` says of itself; its shards are not looked at.
    ///
    /// # Errors
    /// As [`open`](Self::open), of `space.json` and `tokenizer.json`.
    pub fn describe(folder: &Path) -> Result<SpaceInfo, TextError> {
        Ok(open_description(folder)?.0)
    }
}

/// What an index says of itself, and its tokenizer.
pub(crate) fn open_description(folder: &Path) -> Result<(SpaceInfo, Tokenizer), TextError> {
    let info_path = folder.join(INFO_FILE);
    let info = read_info(&info_path)?;
    let path = folder.join(TOKENIZER_FILE);
    let bytes = fs::read(&path).map_err(|e| missing(&path, e))?;
    if sha256_hex(&bytes) != info.tokenizer_checksum {
        return Err(TextError::index(&path, damaged(bytes.len())));
    }
    let text = String::from_utf8(bytes).map_err(|_| TextError::index(&path, "not UTF-8"))?;
    let tokenizer =
        Tokenizer::from_json(&text).map_err(|e| TextError::index(&path, e.to_string()))?;
    if tokenizer.identity() != info.tokenizer_identity
        || tokenizer.vocab_size() as u64 != info.vocab_size
    {
        let problem = "this is not the tokenizer that space.json names";
        return Err(TextError::index(&path, problem));
    }
    let total = |of: fn(&ShardInfo) -> u64| info.shards.iter().map(of).sum::<u64>();
    if total(|s| s.tokens) != info.tokens || total(|s| s.documents) != info.documents {
        return Err(TextError::index(&info_path, "its shards do not add up"));
    }
    Ok((info, tokenizer))
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
    let info: SpaceInfo =
        serde_json::from_value(value).map_err(|e| TextError::index(path, e.to_string()))?;
    if info.own_checksum() != info.checksum {
        return Err(TextError::index(
            path,
            "damaged or edited: its checksum is another",
        ));
    }
    Ok(info)
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

fn damaged(bytes: usize) -> String {
    format!("damaged or truncated: the checksum of its {bytes} bytes is not the one in {INFO_FILE}")
}

/// Maps a shard's file and finds its arrays; their values are not looked at.
pub(crate) fn map_shard(path: &Path, shard: &ShardInfo) -> Result<MappedArrays, TextError> {
    let wrong = |problem: String| TextError::index(path, problem);
    let size = fs::metadata(path).map_err(|e| missing(path, e))?.len();
    if size == 0 {
        return Err(wrong(damaged(0)));
    }
    let map = map_file(path).map_err(|e| missing(path, e))?;
    let symbols = shard.tokens.checked_add(shard.documents);
    let symbols = symbols.filter(|&n| n < 1 << 31);
    let (n, wide) = match (symbols, shard.symbol_bits) {
        (Some(n), 16) => (n as usize, false),
        (Some(n), 32) => (n as usize, true),
        (None, _) => return Err(wrong(format!("too many tokens in {INFO_FILE}"))),
        (_, bits) => {
            return Err(wrong(format!(
                "symbols of {bits} bits in {INFO_FILE}; 16 and 32 are known"
            )));
        }
    };
    // The header's own checksum first: what it says of the rest is then believed.
    let length = map.first_chunk().map(|&b| u64::from_le_bytes(b) as usize);
    let header = length.and_then(|n| map.get(..n.checked_add(8)?));
    let known = header.map(checksum).zip(shard.checksums.get(HEADER));
    if known.is_none_or(|(found, wanted)| found != *wanted) {
        return Err(wrong(damaged(map.len())));
    }
    let (header, metadata) = SafeTensors::read_metadata(&map)
        .map_err(|e| wrong(format!("damaged or truncated: {e}")))?;
    let locate =
        |name, dtype, length| locate(&metadata, header, name, dtype, length).map_err(wrong);
    let symbol_type = if wide { Dtype::U32 } else { Dtype::U16 };
    let arrays = MappedArrays {
        wide,
        symbols: locate("symbols", symbol_type, Some(n))?,
        suffix_array: locate("suffix_array", Dtype::U32, Some(n))?,
        lcp: locate("lcp", Dtype::U8, Some(n))?,
        document_starts: locate(
            "document_starts",
            Dtype::U32,
            Some(shard.documents as usize),
        )?,
        token_ids: locate("token_ids", Dtype::U32, None)?,
        map,
    };
    let all = arrays.all();
    let whole = all
        .iter()
        .all(|(_, range)| arrays.map.get(range.clone()).is_some());
    if !whole {
        return Err(wrong(damaged(arrays.map.len())));
    }
    check_aligned(&arrays).map_err(wrong)?;
    Ok(arrays)
}

impl MappedArrays {
    /// The arrays by name.
    pub(crate) fn all(&self) -> [(&'static str, Range<usize>); 5] {
        [
            ("symbols", self.symbols.clone()),
            ("suffix_array", self.suffix_array.clone()),
            ("lcp", self.lcp.clone()),
            ("document_starts", self.document_starts.clone()),
            ("token_ids", self.token_ids.clone()),
        ]
    }

    /// The arrays whose checksums are others than those in `space.json`.
    pub(crate) fn damaged(&self, shard: &ShardInfo) -> Vec<&'static str> {
        let all = self.all();
        let bad = all.par_iter().filter(|(name, range)| {
            let found = self.map.get(range.clone()).map(checksum);
            found.as_ref() != shard.checksums.get(*name)
        });
        bad.map(|(name, _)| *name).collect()
    }
}

fn check_sums(arrays: &MappedArrays, shard: &ShardInfo) -> Result<(), String> {
    match &arrays.damaged(shard)[..] {
        [] => Ok(()),
        bad => Err(format!(
            "damaged: the checksum of {} is not the one in {INFO_FILE}",
            bad.join(", ")
        )),
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
    let words = [
        &arrays.suffix_array,
        &arrays.document_starts,
        &arrays.token_ids,
    ];
    let symbols = if arrays.wide {
        aligned::<u32>(arrays, &arrays.symbols)
    } else {
        aligned::<u16>(arrays, &arrays.symbols)
    };
    if symbols && words.iter().all(|r| aligned::<u32>(arrays, r)) {
        Ok(())
    } else {
        Err("a tensor is not aligned".into())
    }
}

/// Whether every value lies in its range, so that no query can read out of bounds. (Whether the
/// suffix array is sorted is left to the checksum: an unsorted one gives wrong counts, no panic.)
pub(crate) fn check_values(view: &View<'_>, vocab_size: u64) -> Result<(), String> {
    let n = view.len() as u64;
    let ids = view.token_ids;
    if ids.windows(2).any(|p| p[0] >= p[1]) || ids.iter().any(|&id| u64::from(id) >= vocab_size) {
        return Err("token_ids do not increase within the vocabulary".into());
    }
    let both = |a: (u32, usize), b: (u32, usize)| (a.0.max(b.0), a.1 + b.1);
    let seen = |symbol: u32| (symbol, usize::from(symbol == 0));
    let (largest, ends) = match view.symbols {
        SymbolSlice::Narrow(s) => s
            .par_iter()
            .map(|&x| seen(x.into()))
            .reduce(Default::default, both),
        SymbolSlice::Wide(s) => s
            .par_iter()
            .map(|&x| seen(x))
            .reduce(Default::default, both),
    };
    if largest as usize > ids.len() {
        return Err(format!(
            "a symbol is {largest}, but token_ids name {}",
            ids.len()
        ));
    }
    let starts = view.document_starts;
    let follows_an_end =
        |&p: &u32| u64::from(p) < n && view.symbols.get((p as usize).wrapping_sub(1)) == 0;
    let cut_in_order = starts.first() == Some(&0)
        && starts.windows(2).all(|p| p[0] < p[1])
        && starts.iter().all(follows_an_end)
        && view.symbols.get(view.len().wrapping_sub(1)) == 0
        && ends == starts.len();
    if !cut_in_order {
        return Err("document_starts do not stand where documents end".into());
    }
    let fits = |(&position, &common): (&u32, &u8)| u64::from(position) + u64::from(common) < n;
    if view.lcp.first() != Some(&0) || !view.suffix_array.par_iter().zip(view.lcp).all(fits) {
        return Err("suffix_array or lcp points beyond the text".into());
    }
    Ok(())
}
