//! The GGUF container: metadata and tensor directory, read without trusting a single number in it.
//!
//! `candle` reads GGUF too, but divides by the file's alignment and multiplies its dimensions
//! unchecked; here every length is held against the bytes that are really there before it is used.
//!
//! *Source:* the GGUF specification, versions 2 and 3 (little-endian).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::TokenError;
use crate::file::map_file;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    Numbers(Vec<f64>),
    /// An array of arrays, whose content nothing here needs.
    Nested,
}

/// One tensor's entry in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Sizes, slowest dimension first, as in numpy; their product fits in a `usize`.
    pub shape: Vec<usize>,
    /// The ggml type number.
    pub dtype: u32,
    /// Where the data begin in the file.
    pub offset: usize,
}

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    map: Mmap,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
}

const DEFAULT_ALIGNMENT: u64 = 32;
/// The format asks for a multiple of 8; no alignment in use is near the upper end.
const ALIGNMENTS: std::ops::RangeInclusive<u64> = 8..=1 << 20;
const MOST_DIMENSIONS: u32 = 4;
const DEEPEST_NESTING: u32 = 3;

impl Gguf {
    /// Opens a file and reads its metadata and tensor directory; tensor data are only mapped.
    ///
    /// # Errors
    /// An unreadable file; a file that is not GGUF 2 or 3, is truncated, or names sizes that its
    /// bytes do not bear out.
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let map = map_file(path).map_err(|e| TokenError::io(path, e))?;
        let (metadata, tensors) = parse(&map).map_err(|what| TokenError::Gguf {
            path: path.to_owned(),
            what,
        })?;
        Ok(Self {
            path: path.to_owned(),
            map,
            metadata,
            tensors,
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All metadata.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// The file's size in bytes.
    pub fn size(&self) -> usize {
        self.map.len()
    }

    /// An error about this file.
    pub fn error(&self, what: impl Into<String>) -> TokenError {
        TokenError::Gguf {
            path: self.path.clone(),
            what: what.into(),
        }
    }

    /// `length` bytes of tensor data.
    ///
    /// # Errors
    /// Data that would end beyond the file.
    pub fn data(&self, name: &str, info: &TensorInfo, length: usize) -> Result<&[u8], TokenError> {
        let end = info.offset.checked_add(length);
        end.and_then(|end| self.map.get(info.offset..end)).ok_or_else(|| {
            self.error(format!(
                "tensor `{name}` needs {length} bytes at offset {}, but the file ends at {}; is it truncated?",
                info.offset,
                self.map.len()
            ))
        })
    }

    fn wrong_type(&self, key: &str, wanted: &str) -> TokenError {
        let state = match self.metadata.get(key) {
            None => "is missing".into(),
            Some(Value::Unsigned(x)) => format!("is {x}"),
            Some(Value::Signed(x)) => format!("is {x}"),
            Some(Value::Float(x)) => format!("is {x:?}"),
            Some(Value::Bool(x)) => format!("is {x}"),
            Some(Value::String(_)) => "is a string".into(),
            Some(Value::Strings(_)) => "is an array of strings".into(),
            Some(Value::Numbers(_)) => "is an array of numbers".into(),
            Some(Value::Nested) => "is an array of arrays".into(),
        };
        self.error(format!("the field `{key}` {state}; it should be {wanted}"))
    }

    /// A field that must be a string.
    ///
    /// # Errors
    /// A missing field or one of another type.
    pub fn string(&self, key: &str) -> Result<&str, TokenError> {
        match self.metadata.get(key) {
            Some(Value::String(s)) => Ok(s),
            _ => Err(self.wrong_type(key, "a string")),
        }
    }

    /// A field that must be an array of strings.
    ///
    /// # Errors
    /// A missing field or one of another type.
    pub fn strings(&self, key: &str) -> Result<&[String], TokenError> {
        match self.metadata.get(key) {
            Some(Value::Strings(s)) => Ok(s),
            _ => Err(self.wrong_type(key, "an array of strings")),
        }
    }

    /// A field that must be an array of numbers.
    ///
    /// # Errors
    /// A missing field or one of another type.
    pub fn numbers(&self, key: &str) -> Result<&[f64], TokenError> {
        match self.metadata.get(key) {
            Some(Value::Numbers(x)) => Ok(x),
            _ => Err(self.wrong_type(key, "an array of numbers")),
        }
    }

    /// A field that must be a whole number; `None` if it is missing.
    ///
    /// # Errors
    /// A field of another type.
    pub fn integer(&self, key: &str) -> Result<Option<u64>, TokenError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(x)) => Ok(Some(*x)),
            Some(Value::Signed(x)) if *x >= 0 => Ok(Some(*x as u64)),
            Some(_) => Err(self.wrong_type(key, "a whole number of at least 0")),
        }
    }

    /// A field that must be a number; `None` if it is missing.
    ///
    /// # Errors
    /// A field of another type.
    pub fn float(&self, key: &str) -> Result<Option<f64>, TokenError> {
        match self.metadata.get(key) {
            Some(Value::Float(x)) => Ok(Some(*x)),
            _ => Ok(self.integer(key)?.map(|x| x as f64)),
        }
    }

    /// A field that must be true or false; `None` if it is missing.
    ///
    /// # Errors
    /// A field of another type.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, TokenError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(x)) => Ok(Some(*x)),
            Some(_) => Err(self.wrong_type(key, "true or false")),
        }
    }
}

type Parsed = (BTreeMap<String, Value>, BTreeMap<String, TensorInfo>);

fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(4, "the magic number")? != b"GGUF" {
        return Err("it does not begin with the letters GGUF".into());
    }
    let version = reader.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(format!(
            "version {version:#x} is not supported; versions 2 and 3 (little-endian) are"
        ));
    }
    let tensor_count = reader.count(24, "the number of tensors")?;
    let field_count = reader.count(13, "the number of metadata fields")?;
    let mut metadata = BTreeMap::new();
    for _ in 0..field_count {
        let key = reader.string("a metadata key")?;
        let kind = reader.u32(&key)?;
        let value = reader.value(kind, &key, 0)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(format!("the metadata field `{key}` occurs twice"));
        }
    }
    let mut tensors = BTreeMap::new();
    for _ in 0..tensor_count {
        let (name, info) = reader.tensor_info()?;
        if tensors.insert(name.clone(), info).is_some() {
            return Err(format!("the tensor `{name}` occurs twice"));
        }
    }
    let alignment = match metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(Value::Unsigned(a)) if a.is_power_of_two() && ALIGNMENTS.contains(a) => *a,
        Some(other) => {
            return Err(format!(
                "general.alignment is {other:?}; it should be a power of two from {} to {}",
                ALIGNMENTS.start(),
                ALIGNMENTS.end()
            ));
        }
    };
    let data_start = reader.at.next_multiple_of(alignment as usize);
    for (name, info) in &mut tensors {
        if info.offset % alignment as usize != 0 {
            return Err(format!(
                "the data of tensor `{name}` begin at {}, not a multiple of the alignment {alignment}",
                info.offset
            ));
        }
        info.offset = data_start
            .checked_add(info.offset)
            .filter(|&offset| offset <= bytes.len())
            .ok_or_else(|| {
                format!("the data of tensor `{name}` would begin beyond the end of the file; is it truncated?")
            })?;
    }
    Ok((metadata, tensors))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8], String> {
        let end = self
            .at
            .checked_add(length)
            .filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| {
            format!(
                "the file ends within {what} (at byte {}); is it truncated?",
                self.bytes.len()
            )
        })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A number of things that take at least `least` bytes each.
    fn count(&mut self, least: usize, what: &str) -> Result<usize, String> {
        let count = self.u64(what)?;
        let room = ((self.bytes.len() - self.at) / least) as u64;
        if count > room {
            return Err(format!(
                "{what} is {count}, more than the rest of the file can hold; is it truncated?"
            ));
        }
        Ok(count as usize)
    }

    fn string(&mut self, what: &str) -> Result<String, String> {
        let length = self.count(1, what)?;
        let bytes = self.take(length, what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| format!("{what} is not valid UTF-8"))
    }

    fn value(&mut self, kind: u32, key: &str, depth: u32) -> Result<Value, String> {
        Ok(match kind {
            7 => match self.take(1, key)?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(format!("`{key}` is a boolean with value {other}")),
            },
            8 => Value::String(self.string(key)?),
            9 => self.array_value(key, depth)?,
            1 => Value::Signed(i8::from_le_bytes(self.array(key)?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array(key)?).into()),
            5 => Value::Signed(i32::from_le_bytes(self.array(key)?).into()),
            11 => Value::Signed(i64::from_le_bytes(self.array(key)?)),
            0 => Value::Unsigned(self.array::<1>(key)?[0].into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array(key)?).into()),
            4 => Value::Unsigned(self.u32(key)?.into()),
            10 => Value::Unsigned(self.u64(key)?),
            6 => Value::Float(f32::from_le_bytes(self.array(key)?).into()),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            other => return Err(format!("`{key}` has the unknown type {other}")),
        })
    }

    fn array_value(&mut self, key: &str, depth: u32) -> Result<Value, String> {
        let kind = self.u32(key)?;
        let what = format!("the length of `{key}`");
        match kind {
            8 => {
                let count = self.count(8, &what)?;
                (0..count)
                    .map(|_| self.string(key))
                    .collect::<Result<_, _>>()
                    .map(Value::Strings)
            }
            9 => {
                if depth >= DEEPEST_NESTING {
                    return Err(format!(
                        "`{key}` nests arrays deeper than {DEEPEST_NESTING}"
                    ));
                }
                let count = self.count(12, &what)?;
                for _ in 0..count {
                    self.array_value(key, depth + 1)?;
                }
                Ok(Value::Nested)
            }
            _ => {
                let count = self.count(1, &what)?;
                let mut numbers = Vec::new();
                for _ in 0..count {
                    numbers.push(match self.value(kind, key, depth)? {
                        Value::Unsigned(x) => x as f64,
                        Value::Signed(x) => x as f64,
                        Value::Float(x) => x,
                        Value::Bool(x) => f64::from(u8::from(x)),
                        _ => return Err(format!("`{key}` has the unknown element type {kind}")),
                    });
                }
                Ok(Value::Numbers(numbers))
            }
        }
    }

    fn tensor_info(&mut self) -> Result<(String, TensorInfo), String> {
        let name = self.string("a tensor's name")?;
        let dimensions = self.u32(&name)?;
        if dimensions > MOST_DIMENSIONS {
            return Err(format!(
                "tensor `{name}` has {dimensions} dimensions; at most {MOST_DIMENSIONS} are used"
            ));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64(&name)? as usize);
        }
        shape.reverse();
        // Half of the address space leaves room for the byte sizes computed from the product.
        shape
            .iter()
            .try_fold(1usize, |total, &size| total.checked_mul(size))
            .filter(|&total| total <= usize::MAX / 16)
            .ok_or_else(|| format!("tensor `{name}` has the absurd shape {shape:?}"))?;
        let dtype = self.u32(&name)?;
        let offset = self.u64(&name)? as usize;
        Ok((
            name,
            TensorInfo {
                shape,
                dtype,
                offset,
            },
        ))
    }
}
