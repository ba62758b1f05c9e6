//! Numbers as the bytes of a file.

use half::{bf16, f16};

use super::Precision;

/// The types of numbers that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    Bf16,
    F32,
    F64,
}

impl Scalar {
    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    pub fn precision(self) -> Precision {
        match self {
            Self::F16 | Self::Bf16 | Self::F32 => Precision::Single,
            _ => Precision::Double,
        }
    }
}

/// Numbers of one type, one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers<'a> {
    pub scalar: Scalar,
    pub big_endian: bool,
    pub bytes: &'a [u8],
}

/// Calls `$read` on each number of a type, its bytes put in order.
macro_rules! each {
    ($self:expr, $type:ty, $read:expr) => {{
        let bytes = $self.bytes.as_chunks().0.iter();
        if $self.big_endian {
            bytes.map(|b| $read(<$type>::from_be_bytes(*b))).collect()
        } else {
            bytes.map(|b| $read(<$type>::from_le_bytes(*b))).collect()
        }
    }};
}

impl Numbers<'_> {
    /// As f64. Whole numbers beyond 2^53 are rounded.
    pub fn floats(&self) -> Vec<f64> {
        match self.scalar {
            Scalar::Bool => each!(self, u8, |x| f64::from(u8::from(x != 0))),
            Scalar::I8 => each!(self, i8, f64::from),
            Scalar::I16 => each!(self, i16, f64::from),
            Scalar::I32 => each!(self, i32, f64::from),
            Scalar::I64 => each!(self, i64, |x| x as f64),
            Scalar::U8 => each!(self, u8, f64::from),
            Scalar::U16 => each!(self, u16, f64::from),
            Scalar::U32 => each!(self, u32, f64::from),
            Scalar::U64 => each!(self, u64, |x| x as f64),
            Scalar::F16 => each!(self, f16, f64::from),
            Scalar::Bf16 => each!(self, bf16, f64::from),
            Scalar::F32 => each!(self, f32, f64::from),
            Scalar::F64 => each!(self, f64, |x| x),
        }
    }

    /// As whole numbers that are not negative.
    pub fn whole(&self) -> Result<Vec<u64>, String> {
        let numbers: Vec<Option<u64>> = match self.scalar {
            Scalar::I8 => each!(self, i8, |x| u64::try_from(x).ok()),
            Scalar::I16 => each!(self, i16, |x| u64::try_from(x).ok()),
            Scalar::I32 => each!(self, i32, |x| u64::try_from(x).ok()),
            Scalar::I64 => each!(self, i64, |x| u64::try_from(x).ok()),
            Scalar::U8 => each!(self, u8, |x| Some(u64::from(x))),
            Scalar::U16 => each!(self, u16, |x| Some(u64::from(x))),
            Scalar::U32 => each!(self, u32, |x| Some(u64::from(x))),
            Scalar::U64 => each!(self, u64, Some),
            other => return Err(format!("it holds {other:?}; it should hold whole numbers")),
        };
        let negative = || {
            let place = numbers.iter().position(Option::is_none).unwrap_or(0);
            format!("it is negative at place {place} (counted from 0)")
        };
        numbers
            .iter()
            .copied()
            .collect::<Option<_>>()
            .ok_or_else(negative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_either_byte_order() {
        let read = |scalar, big_endian, bytes: &[u8]| {
            let numbers = Numbers {
                scalar,
                big_endian,
                bytes,
            };
            numbers.floats()
        };
        assert_eq!(read(Scalar::I16, false, &[0xfe, 0xff, 1, 0]), [-2.0, 1.0]);
        assert_eq!(read(Scalar::I16, true, &[0xff, 0xfe, 0, 1]), [-2.0, 1.0]);
        assert_eq!(read(Scalar::F32, true, &1.5f32.to_be_bytes()), [1.5]);
        assert_eq!(read(Scalar::F16, false, &[0, 0x3e]), [1.5]);
        assert_eq!(read(Scalar::Bf16, false, &[0xc0, 0x3f]), [1.5]);
        assert_eq!(read(Scalar::Bool, false, &[0, 1, 2]), [0.0, 1.0, 1.0]);
    }

    #[test]
    fn an_index_that_is_negative_or_a_fraction_is_refused() {
        let whole = |scalar, bytes: &[u8]| {
            let numbers = Numbers {
                scalar,
                big_endian: false,
                bytes,
            };
            numbers.whole()
        };
        assert_eq!(whole(Scalar::I8, &[3, 127]), Ok(vec![3, 127]));
        assert!(
            whole(Scalar::I8, &[3, 255])
                .unwrap_err()
                .contains("place 1")
        );
        assert!(whole(Scalar::F64, &[0; 8]).unwrap_err().contains("whole"));
    }
}
