//! The tensors of a network, by name, and how they begin.

use lawvere_core::RowMatrix;
use lawvere_core::vector::Real;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

/// How a tensor begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Start {
    /// Independent normal entries of this standard deviation.
    Normal(f64),
    Ones,
    Zeros,
}

/// One tensor as it is computed with: a matrix, or a vector as a matrix of one row. In files it is
/// its parts, consecutive rows under names of their own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor<T> {
    pub parts: Vec<Part>,
    pub values: RowMatrix<T>,
}

/// The name and shape of a tensor in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub name: String,
    pub shape: Vec<usize>,
}

/// A tensor before it has values.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub parts: Vec<Part>,
    pub start: Start,
}

impl Spec {
    /// A matrix made of named parts, rows x columns each.
    pub fn stacked(parts: &[(String, usize)], columns: usize, start: Start) -> Self {
        let part = |(name, rows): &(String, usize)| Part {
            name: name.clone(),
            shape: vec![*rows, columns],
        };
        Self {
            parts: parts.iter().map(part).collect(),
            start,
        }
    }

    pub fn matrix(name: impl Into<String>, rows: usize, columns: usize, start: Start) -> Self {
        Self::stacked(&[(name.into(), rows)], columns, start)
    }

    pub fn vector(name: impl Into<String>, length: usize, start: Start) -> Self {
        let part = Part {
            name: name.into(),
            shape: vec![length],
        };
        Self {
            parts: vec![part],
            start,
        }
    }

    pub fn dimensions(&self) -> (usize, usize) {
        match self.parts[0].shape[..] {
            [length] => (1, length),
            [_, columns] => (self.parts.iter().map(|p| p.shape[0]).sum(), columns),
            _ => (0, 0),
        }
    }
}

/// All tensors of a network, in the order of its [`Spec`]s. Gradients and the moments of an
/// optimiser have the same form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameters<T>(pub Vec<Tensor<T>>);

impl<T: Real> Parameters<T> {
    /// Tensors as their specifications begin; normal entries are drawn in order from `seed`.
    pub fn begin(specs: &[Spec], seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let tensor = |spec: &Spec| {
            let (rows, columns) = spec.dimensions();
            let values = RowMatrix::from_fn(rows, columns, |_, _| match spec.start {
                Start::Ones => T::of(1.0),
                Start::Zeros => T::of(0.0),
                Start::Normal(deviation) => {
                    let normal: f64 = StandardNormal.sample(&mut rng);
                    T::of(deviation * normal)
                }
            });
            Tensor {
                parts: spec.parts.clone(),
                values,
            }
        };
        Self(specs.iter().map(tensor).collect())
    }

    /// Zeros of the same form.
    pub fn zeros_like(&self) -> Self {
        let zeros = |t: &Tensor<T>| Tensor {
            parts: t.parts.clone(),
            values: RowMatrix::zeros(t.values.nrows(), t.values.ncols()),
        };
        Self(self.0.iter().map(zeros).collect())
    }

    /// Every named part with its shape and values, in order.
    pub fn parts(&self) -> impl Iterator<Item = (&Part, &[T])> {
        self.0.iter().flat_map(|tensor| {
            let mut start = 0;
            tensor.parts.iter().map(move |part| {
                let length: usize = part.shape.iter().product();
                start += length;
                (part, &tensor.values.data()[start - length..start])
            })
        })
    }

    /// As [`parts`](Self::parts), to write.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = (&Part, &mut [T])> {
        self.0.iter_mut().flat_map(|tensor| {
            let mut rest = tensor.values.data_mut();
            tensor.parts.iter().map(move |part| {
                let length: usize = part.shape.iter().product();
                let (values, after) = std::mem::take(&mut rest).split_at_mut(length);
                rest = after;
                (part, values)
            })
        })
    }
}
