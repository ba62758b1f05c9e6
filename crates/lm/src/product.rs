//! Products with a decoder's weights, by the processor or by a device that candle reaches.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use candle_core::Tensor;
use faer::MatRef;
use lawvere_core::{Buffer, Format, KernelError, PackedMatrix, PackedRows};
use serde::{Serialize, Serializer};

use crate::error::LmError;
use crate::precision::Precision;

/// Where the products with a decoder's blocks are computed. The rest (norms, attention, the head) is the processor's.
///
/// Written `cpu`, `cuda`, `cuda:1` (the second one) and `metal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// This machine's processor, by kernels of our own.
    #[default]
    Cpu,
    /// A graphics card of NVIDIA, by its number, through candle: the feature `cuda`. The path through candle is tested on
    /// candle's own processor device; no card has run it yet.
    Cuda(usize),
    /// Apple's graphics, through candle: the feature `metal`. As untested as the other.
    Metal,
}

impl Device {
    /// Candle's name for it, where it is candle's.
    fn open(self, path: &Path) -> Result<Option<candle_core::Device>, LmError> {
        let (feature, built, opened) = match self {
            Self::Cpu => return Ok(None),
            Self::Cuda(number) => (
                "cuda",
                cfg!(feature = "cuda"),
                candle_core::Device::new_cuda(number),
            ),
            Self::Metal => (
                "metal",
                cfg!(feature = "metal"),
                candle_core::Device::new_metal(0),
            ),
        };
        match opened {
            Ok(device) => Ok(Some(device)),
            Err(_) if !built => Err(LmError::checkpoint(
                path,
                format!(
                    "it cannot be computed on {self}: this program was built without the feature `{feature}`"
                ),
            )),
            Err(e) => Err(LmError::checkpoint(
                path,
                format!("it cannot be computed on {self}: {e}"),
            )),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("cuda:").map(str::parse);
        match (text, number) {
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            ("metal", _) => Ok(Self::Metal),
            (_, Some(Ok(number))) => Ok(Self::Cuda(number)),
            _ => Err(format!(
                "`{text}` is no device; cpu, cuda, cuda:NUMBER and metal are"
            )),
        }
    }
}

/// How a decoder's products are computed.
#[derive(Debug, Clone)]
pub(crate) struct Products {
    /// Of matrices that stay with the processor.
    pub format: Format,
    /// Where the blocks' matrices are, if not there.
    pub device: Option<candle_core::Device>,
}

impl Products {
    pub fn new(precision: Precision, device: Device, path: &Path) -> Result<Self, LmError> {
        if precision != Precision::F32 && device != Device::Cpu {
            return Err(LmError::checkpoint(
                path,
                format!("{precision} is computed on the cpu only; on {device} take f32"),
            ));
        }
        Ok(Self {
            format: precision.format(),
            device: device.open(path)?,
        })
    }

    /// Lays out a matrix of a block, outputs x inputs.
    pub fn matrix(&self, weight: MatRef<'_, f32>) -> Result<Matrix, KernelError> {
        let Some(device) = &self.device else {
            return Ok(Matrix::Host(PackedMatrix::in_format(weight, self.format)));
        };
        let (outputs, inputs) = (weight.nrows(), weight.ncols());
        let values: Vec<f32> = weight
            .row_iter()
            .flat_map(|row| row.iter())
            .copied()
            .collect();
        let weight = Tensor::from_vec(values, (outputs, inputs), device);
        Ok(Matrix::Device(weight.map_err(failed)?))
    }

    /// No rows.
    pub fn rows(&self) -> Rows {
        match self.device {
            None => Rows::Host(PackedRows::in_format(self.format)),
            Some(_) => Rows::Device {
                count: 0,
                values: Buffer::default(),
            },
        }
    }
}

fn failed(error: candle_core::Error) -> KernelError {
    KernelError::Other(error.into())
}

/// A matrix where its products are computed, outputs x inputs.
#[derive(Debug)]
pub(crate) enum Matrix {
    Host(PackedMatrix),
    Device(Tensor),
}

/// Rows to be multiplied, as the matrices of the same [`Products`] read them.
#[derive(Debug)]
pub(crate) enum Rows {
    Host(PackedRows),
    Device { count: usize, values: Buffer },
}

impl Matrix {
    pub fn inputs(&self) -> usize {
        match self {
            Self::Host(matrix) => matrix.inputs(),
            Self::Device(weight) => weight.dims().last().copied().unwrap_or(0),
        }
    }

    /// `out = X W^T`, or with `add` `out += X W^T`.
    pub fn multiply(&self, rows: &Rows, out: &mut [f32], add: bool) -> Result<(), KernelError> {
        match (self, rows) {
            (Self::Host(matrix), Rows::Host(rows)) if add => matrix.multiply_add(rows, out),
            (Self::Host(matrix), Rows::Host(rows)) => matrix.multiply(rows, out),
            (Self::Device(weight), Rows::Device { count, values }) => {
                let product = by_candle(weight, values, *count).map_err(failed)?;
                let both = out.iter_mut().zip(product);
                match add {
                    true => both.for_each(|(out, x)| *out += x),
                    false => both.for_each(|(out, x)| *out = x),
                }
            }
            _ => {
                return Err(KernelError::Other(
                    "rows and matrices of different devices".into(),
                ));
            }
        }
        Ok(())
    }
}

fn by_candle(weight: &Tensor, rows: &[f32], count: usize) -> candle_core::Result<Vec<f32>> {
    let rows = Tensor::from_slice(rows, (count, weight.dim(1)?), weight.device())?;
    rows.matmul(&weight.t()?)?.flatten_all()?.to_vec1()
}

impl Rows {
    /// As [`PackedRows::fill`].
    pub fn fill(&mut self, count: usize, inputs: usize, write: impl Fn(usize, &mut [f32]) + Sync) {
        match self {
            Self::Host(rows) => rows.fill(count, inputs, write),
            Self::Device {
                count: held,
                values,
            } => {
                *held = count;
                values.fit(count * inputs);
                let rows = values.chunks_exact_mut(inputs.max(1)).enumerate();
                rows.for_each(|(i, row)| write(i, row));
            }
        }
    }

    /// Takes in a matrix's values, row by row.
    pub fn copy(&mut self, count: usize, inputs: usize, rows: &[f32]) {
        self.fill(count, inputs, |i, row| {
            row.copy_from_slice(&rows[i * inputs..(i + 1) * inputs]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LanguageModel;
    use lawvere_core::{ContextBatch, Factored, Layer};

    /// Candle's own processor device stands for its others: the same tensors, the same calls.
    #[test]
    fn products_through_candle_give_the_states_of_our_own() {
        let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/families");
        for family in ["gpt2", "gpt-neox", "llama3", "gemma3", "olmo2"] {
            let path = families.join(family);
            let products = Products {
                format: Format::F32,
                device: Some(candle_core::Device::Cpu),
            };
            let ours = LanguageModel::open(&path).unwrap();
            let theirs = LanguageModel::with_products(&path, None, &products).unwrap();
            let mut contexts = ContextBatch::new();
            contexts
                .push(&(1..30).collect::<Vec<u32>>(), &[1, 7, 29])
                .unwrap();
            let layers: Vec<Layer> = (0..=ours.last_layer().0).map(Layer).collect();
            let states = ours.encode(&contexts, &layers).unwrap();
            let same = theirs.encode(&contexts, &layers).unwrap();
            for (a, b) in states.iter().zip(&same) {
                let most = a.data().iter().fold(0.0f32, |m, x| m.max(x.abs()));
                for (a, b) in a.data().iter().zip(b.data()) {
                    assert!((a - b).abs() < 1e-5 * most, "{family}");
                }
            }
            let blocks = &theirs.decoder().unwrap().weights.blocks;
            assert!(matches!(blocks[0].qkv.matrix, Matrix::Device(_)));
        }
    }

    #[test]
    fn devices_are_read_and_what_is_missing_is_told() {
        for text in ["cpu", "cuda", "cuda:2", "metal"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        assert!("gpu".parse::<Device>().unwrap_err().contains("metal are"));
        let path = Path::new("x");
        let told = Products::new(Precision::bf16(), Device::Metal, path).unwrap_err();
        assert!(told.to_string().contains("take f32"), "{told}");
        if !cfg!(feature = "cuda") {
            let told = Products::new(Precision::F32, Device::Cuda(0), path).unwrap_err();
            assert!(
                told.to_string().contains("without the feature `cuda`"),
                "{told}"
            );
        }
    }
}
