//! One array in the format of `numpy.save`.

use std::io::{self, Write};

use npyz::{DType, Endianness, NpyHeader, Order, TypeChar, WriteOptions, WriterBuilder};

use super::numbers::{Numbers, Scalar};

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// The longest header read, as in numpy; that of a matrix has some 120 bytes.
const LONGEST_HEADER: usize = 10_000;
/// With the magic, the version and the header's length.
pub(super) const LONGEST_BEGINNING: usize = LONGEST_HEADER + 12;

/// What the header of an array says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub shape: Vec<usize>,
    pub fortran: bool,
    pub kind: Kind,
    big_endian: bool,
    /// Bytes before the numbers.
    pub length: usize,
}

/// What an array holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Numbers(Scalar),
    /// Byte strings, of so many bytes.
    Bytes(usize),
    /// Strings, of so many code points of four bytes.
    Text(usize),
}

impl Header {
    /// The header of an array of `total` bytes, header and all; `beginning` are its first bytes,
    /// [`LONGEST_BEGINNING`] of them if there are as many.
    pub fn parse(beginning: &[u8], total: u64) -> Result<Self, String> {
        let rest = beginning
            .strip_prefix(MAGIC)
            .ok_or("not an array of numpy: it does not begin as .npy files do")?;
        let cut = "truncated: it ends within its header";
        let (prefix, size) = match rest {
            [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([*a, *b]))),
            [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([*a, *b, *c, *d]) as usize),
            [1..=3, ..] | [] => return Err(cut.into()),
            [version, ..] => {
                return Err(format!(
                    "version {version} of the .npy format; versions 1 to 3 are read"
                ));
            }
        };
        if size > LONGEST_HEADER {
            return Err(format!(
                "its header claims {size} bytes; the header of a matrix has some 120, and {LONGEST_HEADER} at most"
            ));
        }
        let text = beginning.get(prefix..prefix + size).ok_or(cut)?;
        check_text(text)?;
        let header = NpyHeader::from_reader(&beginning[..prefix + size])
            .map_err(|e| format!("its header cannot be read: {e}"))?;
        let (kind, big_endian) = kind(&header)?;
        let shape = header.shape().iter().map(|&n| usize::try_from(n));
        let shape = shape
            .collect::<Result<Vec<usize>, _>>()
            .map_err(|e| format!("its shape is beyond this machine: {e}"))?;
        let header = Self {
            fortran: header.order() == Order::Fortran,
            shape,
            kind,
            big_endian,
            length: prefix + size,
        };
        let promised = header.promised_bytes();
        let found = total.saturating_sub(header.length as u64);
        match promised {
            Some(promised) if promised as u64 == found => Ok(header),
            promised => Err(format!(
                "its header promises the shape {:?}, {} bytes, and {found} follow; the file is truncated or its header wrong",
                header.shape,
                promised.map_or("too many".into(), |p| p.to_string())
            )),
        }
    }

    /// The numbers among the bytes of the whole array.
    pub fn numbers<'a>(&self, bytes: &'a [u8]) -> Result<Numbers<'a>, String> {
        match self.kind {
            Kind::Numbers(scalar) => Ok(Numbers {
                scalar,
                big_endian: self.big_endian,
                bytes: bytes.get(self.length..).unwrap_or_default(),
            }),
            Kind::Bytes(_) | Kind::Text(_) => Err("it holds text; it should hold numbers".into()),
        }
    }

    /// The one string of an array without dimensions.
    pub fn text(&self, bytes: &[u8]) -> Option<String> {
        let bytes = bytes.get(self.length..).unwrap_or_default();
        let characters: Vec<char> = match self.kind {
            Kind::Bytes(_) if self.shape.is_empty() => bytes.iter().map(|&b| b.into()).collect(),
            Kind::Text(_) if self.shape.is_empty() => {
                let points = Numbers {
                    scalar: Scalar::U32,
                    big_endian: self.big_endian,
                    bytes,
                };
                let points = points.whole().ok()?;
                let character = |p: u64| char::from_u32(u32::try_from(p).ok()?);
                points.into_iter().map(character).collect::<Option<_>>()?
            }
            _ => return None,
        };
        let text: String = characters.into_iter().collect();
        Some(text.trim_end_matches('\0').to_owned())
    }

    fn promised_bytes(&self) -> Option<usize> {
        let item = match self.kind {
            Kind::Numbers(scalar) => scalar.size(),
            Kind::Bytes(n) => n,
            Kind::Text(n) => n.checked_mul(4)?,
        };
        let product = self.shape.iter().try_fold(item, |a, &n| a.checked_mul(n))?;
        Some(product)
    }
}

/// Refuses what a parser of headers should not be given: deep nesting, and a shape whose product
/// would not fit a machine word.
fn check_text(text: &[u8]) -> Result<(), String> {
    const DEEPEST: usize = 4;
    let mut depth = 0usize;
    for byte in text {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err("its header is nested deeper than that of a matrix".into());
        }
    }
    const DIGITS: usize = 18;
    let text = String::from_utf8_lossy(text);
    let beyond = text.split("shape").skip(1).any(|shape| {
        let shape = shape.split(')').next().unwrap_or_default();
        shape.bytes().filter(u8::is_ascii_alphanumeric).count() > DIGITS
    });
    match beyond {
        true => Err("its header promises a shape beyond any file".into()),
        false => Ok(()),
    }
}

fn kind(header: &NpyHeader) -> Result<(Kind, bool), String> {
    let numbers = "numbers: bool, integers, float16, float32 or float64";
    let dtype = match header.dtype() {
        DType::Plain(dtype) => dtype,
        other if other.uses_pickled_array() => return Err(pickled()),
        other => {
            return Err(format!(
                "its entries are records ({}); a matrix holds {numbers}",
                other.descr()
            ));
        }
    };
    use Scalar::*;
    let scalar = match (dtype.type_char(), dtype.size_field()) {
        (TypeChar::Bool, 1) => Kind::Numbers(Bool),
        (TypeChar::Int, 1) => Kind::Numbers(I8),
        (TypeChar::Int, 2) => Kind::Numbers(I16),
        (TypeChar::Int, 4) => Kind::Numbers(I32),
        (TypeChar::Int, 8) => Kind::Numbers(I64),
        (TypeChar::Uint, 1) => Kind::Numbers(U8),
        (TypeChar::Uint, 2) => Kind::Numbers(U16),
        (TypeChar::Uint, 4) => Kind::Numbers(U32),
        (TypeChar::Uint, 8) => Kind::Numbers(U64),
        (TypeChar::Float, 2) => Kind::Numbers(F16),
        (TypeChar::Float, 4) => Kind::Numbers(F32),
        (TypeChar::Float, 8) => Kind::Numbers(F64),
        (TypeChar::ByteStr, n) => Kind::Bytes(n as usize),
        (TypeChar::UnicodeStr, n) => Kind::Text(n as usize),
        (TypeChar::Object, _) => return Err(pickled()),
        _ => {
            return Err(format!(
                "its entries are of type {dtype}; a matrix holds {numbers}"
            ));
        }
    };
    Ok((scalar, dtype.endianness() == Endianness::Big))
}

fn pickled() -> String {
    "its entries are Python objects (a pickle), which are never read; save numbers, such as \
     array.astype(float)"
        .into()
}

/// Writes the header of an array with entries of this type, such as `<f8`.
pub(super) fn write_header(out: &mut impl Write, dtype: &str, shape: &[usize]) -> io::Result<()> {
    let dtype = dtype.parse().map_err(io::Error::other)?;
    let shape: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
    let options = WriteOptions::new_header_only();
    let options = options.dtype(DType::new_scalar(dtype)).shape(&shape);
    options.writer(out).write_header_only()?;
    Ok(())
}
