//! Files of token ids.

use std::fs;
use std::io::Read;

use lawvere_token::map_file;
use safetensors::{Dtype, SafeTensors};

use super::options::File;
use super::reader::{BATCH_TOKENS, Reading};
use super::stream::{Hash, Stream, shown};
use crate::TextError;

/// Token ids as they come, cut into documents.
struct Documents<'a, 'b> {
    reading: &'a mut Reading<'b>,
    path: &'a std::path::Path,
    batch: Vec<u32>,
    /// Tokens of the document begun.
    begun: u64,
    /// Tokens seen, ends of documents included.
    position: u64,
}

impl<'a, 'b> Documents<'a, 'b> {
    fn new(reading: &'a mut Reading<'b>, path: &'a std::path::Path) -> Self {
        Self {
            reading,
            path,
            batch: Vec::with_capacity(BATCH_TOKENS),
            begun: 0,
            position: 0,
        }
    }

    fn add(&mut self, ids: impl Iterator<Item = i64>) -> Result<(), TextError> {
        let vocab_size = self.reading.vocab_size;
        let end = self.reading.options.end_token.map(i64::from);
        for id in ids {
            if Some(id) == end {
                self.end_document()?;
            } else {
                match u32::try_from(id)
                    .ok()
                    .filter(|&id| (id as usize) < vocab_size)
                {
                    Some(token) => self.batch.push(token),
                    None => {
                        return Err(TextError::TokenOutsideVocabulary {
                            path: self.path.to_owned(),
                            token: id,
                            position: self.position,
                            vocab_size,
                        });
                    }
                }
                self.begun += 1;
                if self.batch.len() == BATCH_TOKENS {
                    self.flush()?;
                }
            }
            self.position += 1;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TextError> {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_TOKENS));
        self.reading.tokens(batch)
    }

    /// A document without a token is none.
    fn end_document(&mut self) -> Result<(), TextError> {
        if self.begun == 0 {
            return Ok(());
        }
        self.begun = 0;
        self.flush()?;
        self.reading.end_of_tokens()
    }
}

/// Little-endian ids of 32 or 16 bits.
pub(super) fn raw(
    reading: &mut Reading<'_>,
    stream: &mut Stream,
    wide: bool,
) -> Result<(), TextError> {
    let width = if wide { 4 } else { 2 };
    let path = stream.path().to_owned();
    let mut documents = Documents::new(reading, &path);
    let mut buffer = vec![0; 1 << 20];
    let mut filled = 0;
    loop {
        let read = stream
            .read(&mut buffer[filled..])
            .map_err(|e| stream.failed(e))?;
        filled += read;
        let whole = filled / width * width;
        let (ids, rest) = buffer[..filled].split_at(whole);
        if wide {
            let ids = ids.as_chunks::<4>().0.iter();
            documents.add(ids.map(|&b| i64::from(u32::from_le_bytes(b))))?;
        } else {
            let ids = ids.as_chunks::<2>().0.iter();
            documents.add(ids.map(|&b| i64::from(u16::from_le_bytes(b))))?;
        }
        let left = rest.len();
        buffer.copy_within(whole..filled, 0);
        filled = left;
        if read == 0 {
            break;
        }
    }
    if filled > 0 {
        return Err(TextError::Shape {
            path,
            problem: format!(
                "its size is no multiple of {width} bytes, as token ids of {} bits take",
                8 * width
            ),
        });
    }
    documents.end_document()
}

/// A one-dimensional array of ids.
pub(super) fn safetensors(reading: &mut Reading<'_>, file: &File) -> Result<Hash, TextError> {
    let path = shown(file);
    let wrong = |problem: String| TextError::Shape {
        path: path.clone(),
        problem,
    };
    if file.path.is_none() {
        return Err(wrong(
            "safetensors cannot be read from it; name the file".into(),
        ));
    }
    // An empty file cannot be mapped.
    let size = fs::metadata(&path)
        .map_err(|e| TextError::reading(&path, e))?
        .len();
    if size == 0 {
        return Err(wrong("it is empty".into()));
    }
    let map = map_file(&path).map_err(|e| TextError::reading(&path, e))?;
    let tensors =
        SafeTensors::deserialize(&map).map_err(|e| wrong(format!("no safetensors file: {e}")))?;
    let names: Vec<String> = {
        let mut names: Vec<String> = tensors
            .names()
            .into_iter()
            .map(ToString::to_string)
            .collect();
        names.sort();
        names
    };
    let name = match (&reading.options.field, &names[..]) {
        (Some(field), _) => field.clone(),
        (None, [only]) => only.clone(),
        (None, _) => "tokens".into(),
    };
    let Ok(tensor) = tensors.tensor(&name) else {
        return Err(TextError::NoField {
            path: path.clone(),
            line: None,
            what: "tensor",
            field: name,
            found: names,
        });
    };
    if tensor.shape().len() != 1 {
        return Err(wrong(format!(
            "tensor `{name}` has shape {:?}; token ids are an array of one dimension",
            tensor.shape()
        )));
    }
    let data = tensor.data();
    let mut documents = Documents::new(reading, &path);
    let eight = || data.as_chunks::<8>().0.iter();
    let four = || data.as_chunks::<4>().0.iter();
    let two = || data.as_chunks::<2>().0.iter();
    match tensor.dtype() {
        Dtype::U8 => documents.add(data.iter().map(|&b| i64::from(b)))?,
        Dtype::U16 => documents.add(two().map(|&b| i64::from(u16::from_le_bytes(b))))?,
        Dtype::I16 => documents.add(two().map(|&b| i64::from(i16::from_le_bytes(b))))?,
        Dtype::U32 => documents.add(four().map(|&b| i64::from(u32::from_le_bytes(b))))?,
        Dtype::I32 => documents.add(four().map(|&b| i64::from(i32::from_le_bytes(b))))?,
        Dtype::I64 => documents.add(eight().map(|&b| i64::from_le_bytes(b)))?,
        Dtype::U64 => documents.add(eight().map(|&b| u64::from_le_bytes(b) as i64))?,
        other => {
            return Err(wrong(format!(
                "tensor `{name}` is {other:?}; token ids are integers"
            )));
        }
    }
    documents.end_document()?;
    Hash::of_file(&path)
}
