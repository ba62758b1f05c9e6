//! One tensor of a safetensors file.

use std::io::{self, Write};

use lawvere_core::RowMatrix;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::numbers::{Numbers, Scalar};
use super::{check_vector, room, two_dimensions};

/// Whether a file begins as a safetensors file: eight bytes of length, and JSON.
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{')
}

pub(super) fn matrix(bytes: &[u8], name: Option<&str>) -> Result<RowMatrix<f64>, String> {
    with(bytes, name, |shape, numbers| {
        let (nrows, ncols) = two_dimensions(shape)?;
        let size = (nrows as u64).saturating_mul(ncols as u64);
        room(size.saturating_mul(8))?;
        RowMatrix::from_vec(numbers.floats(), nrows, ncols).map_err(|e| e.to_string())
    })
}

pub(super) fn vector(bytes: &[u8], name: Option<&str>) -> Result<Vec<f64>, String> {
    with(bytes, name, |shape, numbers| {
        check_vector(shape)?;
        Ok(numbers.floats())
    })
}

fn with<T>(
    bytes: &[u8],
    name: Option<&str>,
    read: impl FnOnce(&[usize], Numbers<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let tensors = SafeTensors::deserialize(bytes)
        .map_err(|e| format!("not a usable safetensors file (is it truncated?): {e}"))?;
    let mut names = tensors.names();
    names.sort_unstable();
    let name = match (name, names.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, names) => {
            return Err(format!(
                "it holds the tensors {}; choose one with FILE.safetensors:NAME",
                names.join(", ")
            ));
        }
    };
    let tensor = tensors.tensor(name).map_err(|_| {
        format!(
            "no tensor is called `{name}`; it holds {}",
            names.join(", ")
        )
    })?;
    let scalar = match tensor.dtype() {
        Dtype::BOOL => Scalar::Bool,
        Dtype::I8 => Scalar::I8,
        Dtype::I16 => Scalar::I16,
        Dtype::I32 => Scalar::I32,
        Dtype::I64 => Scalar::I64,
        Dtype::U8 => Scalar::U8,
        Dtype::U16 => Scalar::U16,
        Dtype::U32 => Scalar::U32,
        Dtype::U64 => Scalar::U64,
        Dtype::F16 => Scalar::F16,
        Dtype::BF16 => Scalar::Bf16,
        Dtype::F32 => Scalar::F32,
        Dtype::F64 => Scalar::F64,
        other => {
            return Err(format!(
                "the tensor `{name}` is {other:?}; a matrix holds BOOL, integers, F16, BF16, F32 or F64"
            ));
        }
    };
    let numbers = Numbers {
        scalar,
        big_endian: false,
        bytes: tensor.data(),
    };
    read(tensor.shape(), numbers).map_err(|e| format!("the tensor `{name}`: {e}"))
}

pub(super) fn write(
    out: &mut impl Write,
    name: &str,
    shape: &[usize],
    data: &[f64],
) -> io::Result<()> {
    let bytes = bytemuck::cast_slice(data);
    let view = TensorView::new(Dtype::F64, shape.to_vec(), bytes).map_err(io::Error::other)?;
    let file = safetensors::serialize([(name, view)], None).map_err(io::Error::other)?;
    out.write_all(&file)
}
