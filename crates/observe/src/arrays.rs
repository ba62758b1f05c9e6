//! Arrays in safetensors files: any integer or float type in, one type out.

use std::path::{Path, PathBuf};

use lawvere_core::RowMatrix;
use lawvere_token::{Mmap, map_file};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::ObserveError;

/// One mapped safetensors file.
pub(crate) struct ArrayFile {
    path: PathBuf,
    map: Mmap,
}

impl ArrayFile {
    pub fn open(path: &Path) -> Result<Self, ObserveError> {
        let map = map_file(path).map_err(|e| ObserveError::io(path, e))?;
        let file = Self {
            path: path.to_owned(),
            map,
        };
        file.tensors()?;
        Ok(file)
    }

    pub fn error(&self, what: impl Into<String>) -> ObserveError {
        ObserveError::malformed(&self.path, what)
    }

    pub fn tensors(&self) -> Result<SafeTensors<'_>, ObserveError> {
        SafeTensors::deserialize(&self.map).map_err(|e| {
            self.error(format!(
                "not a usable safetensors file (is it truncated?): {e}"
            ))
        })
    }

    pub fn has(&self, name: &str) -> Result<bool, ObserveError> {
        Ok(self.tensors()?.tensor(name).is_ok())
    }

    fn with<T>(
        &self,
        name: &str,
        read: impl FnOnce(TensorView<'_>) -> Result<T, ObserveError>,
    ) -> Result<T, ObserveError> {
        let tensors = self.tensors()?;
        let tensor = tensors
            .tensor(name)
            .map_err(|_| self.error(format!("the array `{name}` is missing")))?;
        read(tensor)
    }

    /// An array of whole numbers that are not negative, with its shape.
    pub fn integers(&self, name: &str) -> Result<(Vec<u64>, Vec<usize>), ObserveError> {
        self.with(name, |tensor| {
            let data = tensor.data();
            let values: Vec<i128> = match tensor.dtype() {
                Dtype::U16 => words(data, |b| u16::from_le_bytes(b).into()),
                Dtype::I32 => words(data, |b| i32::from_le_bytes(b).into()),
                Dtype::U32 => words(data, |b| u32::from_le_bytes(b).into()),
                Dtype::I64 => words(data, |b| i64::from_le_bytes(b).into()),
                Dtype::U64 => words(data, |b| u64::from_le_bytes(b).into()),
                other => {
                    return Err(
                        self.error(format!("`{name}` is {other:?}; it should hold integers"))
                    );
                }
            };
            let numbers = values
                .iter()
                .map(|&v| u64::try_from(v))
                .collect::<Result<_, _>>();
            let numbers =
                numbers.map_err(|_| self.error(format!("`{name}` holds a negative number")))?;
            Ok((numbers, tensor.shape().to_vec()))
        })
    }

    /// An array of whole numbers below `limit`.
    pub fn indices(
        &self,
        name: &str,
        limit: usize,
    ) -> Result<(Vec<u32>, Vec<usize>), ObserveError> {
        let (values, shape) = self.integers(name)?;
        let limit = limit.min(u32::MAX as usize) as u64;
        match values.iter().find(|&&v| v >= limit) {
            Some(v) => Err(self.error(format!("`{name}` holds {v}, which is not below {limit}"))),
            None => Ok((values.iter().map(|&v| v as u32).collect(), shape)),
        }
    }

    /// A vector of finite numbers.
    pub fn vector(&self, name: &str, length: usize) -> Result<Vec<f64>, ObserveError> {
        self.with(name, |tensor| {
            let data = tensor.data();
            let values: Vec<f64> = match tensor.dtype() {
                Dtype::F32 => words(data, |b| f32::from_le_bytes(b).into()),
                Dtype::F64 => words(data, f64::from_le_bytes),
                other => {
                    return Err(
                        self.error(format!("`{name}` is {other:?}; it should be F32 or F64"))
                    );
                }
            };
            if tensor.shape() != [length] {
                return Err(self.error(format!(
                    "`{name}` has shape {:?}; it should be [{length}]",
                    tensor.shape()
                )));
            }
            match values.iter().find(|v| !v.is_finite()) {
                Some(v) => Err(self.error(format!("`{name}` holds the value {v}"))),
                None => Ok(values),
            }
        })
    }

    /// A float32 matrix of finite numbers.
    pub fn matrix(&self, name: &str) -> Result<RowMatrix<f32>, ObserveError> {
        self.with(name, |tensor| {
            let &[nrows, ncols] = tensor.shape() else {
                return Err(self.error(format!(
                    "`{name}` has shape {:?}; it should have two dimensions",
                    tensor.shape()
                )));
            };
            if ncols == 0 {
                return Err(self.error(format!("`{name}` has no columns")));
            }
            if tensor.dtype() != Dtype::F32 {
                return Err(self.error(format!(
                    "`{name}` is {:?}; states and heads are stored as F32",
                    tensor.dtype()
                )));
            }
            let values: Vec<f32> = words(tensor.data(), f32::from_le_bytes);
            if let Some(k) = values.iter().position(|v| !v.is_finite()) {
                return Err(self.error(format!(
                    "`{name}` holds the value {} at row {}, column {}",
                    values[k],
                    k / ncols,
                    k % ncols
                )));
            }
            Ok(RowMatrix::from_vec(values, nrows, ncols)?)
        })
    }
}

fn words<const N: usize, T>(data: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks().0.iter().map(|b| read(*b)).collect()
}

/// An array to be written.
pub(crate) struct Array<'a> {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: &'a [u8],
}

impl<'a> Array<'a> {
    pub fn floats(name: impl Into<String>, shape: &[usize], data: &'a [f32]) -> Self {
        Self::new(name, Dtype::F32, shape, bytemuck::cast_slice(data))
    }

    pub fn doubles(name: impl Into<String>, data: &'a [f64]) -> Self {
        Self::new(name, Dtype::F64, &[data.len()], bytemuck::cast_slice(data))
    }

    pub fn u32s(name: impl Into<String>, shape: &[usize], data: &'a [u32]) -> Self {
        Self::new(name, Dtype::U32, shape, bytemuck::cast_slice(data))
    }

    pub fn u64s(name: impl Into<String>, data: &'a [u64]) -> Self {
        Self::new(name, Dtype::U64, &[data.len()], bytemuck::cast_slice(data))
    }

    fn new(name: impl Into<String>, dtype: Dtype, shape: &[usize], bytes: &'a [u8]) -> Self {
        Self {
            name: name.into(),
            dtype,
            shape: shape.to_vec(),
            bytes,
        }
    }
}

/// Writes arrays as one safetensors file, beside and renamed.
pub(crate) fn write_arrays(path: &Path, arrays: &[Array<'_>]) -> Result<(), ObserveError> {
    let views = arrays
        .iter()
        .map(|a| TensorView::new(a.dtype, a.shape.clone(), a.bytes).map(|view| (&a.name, view)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| ObserveError::malformed(path, e.to_string()))?;
    let bytes = safetensors::serialize(views, None)
        .map_err(|e| ObserveError::malformed(path, e.to_string()))?;
    lawvere_token::disk::write_file(path, |out| std::io::Write::write_all(out, &bytes))
        .map_err(|e| ObserveError::io(path, e))
}
