//! Words and contexts as a model has them, made ready for products.

use std::sync::OnceLock;

use lawvere_core::linalg::{matmul, symmetric_eigenvalues};
use lawvere_core::stoch::entropy;
use lawvere_core::{RowMatrix, ShapeError, sum};
use serde::Serialize;

use crate::{GeometryError, Supports};

/// A model's words and contexts: the two factors of its logits `W H^T + b 1^T`.
#[derive(Debug, Clone, Copy)]
pub struct Embeddings<'a> {
    /// W, V x d: the head's rows of the supports' tokens, in their order.
    pub words: &'a RowMatrix<f32>,
    /// b: V values, where the head has a bias.
    pub bias: Option<&'a [f32]>,
    /// H, m x d: what the head reads after each context.
    pub states: &'a RowMatrix<f32>,
}

/// How many dimensions the rows of a matrix fill.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ranks {
    /// Singular values above `max(rows, columns)` times the resolution of f32 times the largest.
    pub numerical: usize,
    /// `|A|_F^2 / |A|_op^2`.
    pub stable: f64,
    /// The exponential of the entropy of the singular values, as shares of their sum.
    ///
    /// *Source:* Roy, Vetterli, *The effective rank* (2007).
    pub effective: f64,
}

impl Embeddings<'_> {
    /// Whether shapes fit the supports'.
    pub(crate) fn check(&self, supports: &Supports) -> Result<(), GeometryError> {
        self.check_against(supports.vocabulary(), supports.contexts())
    }

    pub(crate) fn check_against(
        &self,
        vocabulary: usize,
        contexts: usize,
    ) -> Result<(), GeometryError> {
        let d = self.states.ncols();
        let shape = |m: &RowMatrix<f32>| format!("{} x {}", m.nrows(), m.ncols());
        if self.states.nrows() != contexts || d == 0 {
            let expected = format!("{contexts} x d, d at least 1");
            return Err(ShapeError::new("states", expected, shape(self.states)).into());
        }
        if (self.words.nrows(), self.words.ncols()) != (vocabulary, d) {
            let expected = format!("{vocabulary} x {d}");
            return Err(ShapeError::new("words", expected, shape(self.words)).into());
        }
        match self.bias.filter(|bias| bias.len() != vocabulary) {
            Some(bias) => Err(ShapeError::new("bias", vocabulary, bias.len()).into()),
            None => Ok(()),
        }
    }
}

/// Rows centred on their mean, in f64. With a bias there is one column more: the bias of words, 1 of
/// states, so that logits are products in any case.
#[derive(Debug)]
pub(crate) struct Centred {
    pub rows: RowMatrix<f64>,
    pub mean: Vec<f64>,
    /// Columns without that of the bias.
    pub dim: usize,
    gram: OnceLock<RowMatrix<f64>>,
    gram_norms: OnceLock<(f64, f64)>,
}

impl Centred {
    pub fn words(words: &RowMatrix<f32>, bias: Option<&[f32]>) -> Result<Self, GeometryError> {
        Self::new("words", words, bias.is_some(), |i| {
            bias.map_or(0.0, |b| b[i])
        })
    }

    pub fn states(states: &RowMatrix<f32>, bias: bool) -> Result<Self, GeometryError> {
        Self::new("states", states, bias, |_| 1.0)
    }

    fn new(
        what: &'static str,
        matrix: &RowMatrix<f32>,
        further: bool,
        last: impl Fn(usize) -> f32,
    ) -> Result<Self, GeometryError> {
        let (n, d) = (matrix.nrows(), matrix.ncols());
        let columns = d + usize::from(further);
        let mut rows = RowMatrix::zeros(n, columns);
        for (i, row) in matrix.rows().enumerate() {
            let out = rows.row_mut(i);
            out.iter_mut()
                .zip(row)
                .for_each(|(o, &x)| *o = f64::from(x));
            if further {
                out[d] = f64::from(last(i));
            }
        }
        crate::check_shape(what, &rows, n, columns)?;
        let mean = row_mean(&rows);
        rows.data_mut()
            .chunks_mut(columns)
            .for_each(|row| row.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m));
        Ok(Self {
            rows,
            mean,
            dim: d,
            gram: OnceLock::new(),
            gram_norms: OnceLock::new(),
        })
    }

    /// Whether there is a column for the bias.
    pub fn biased(&self) -> bool {
        self.rows.ncols() > self.dim
    }

    /// `rows^T rows`, computed when it is first asked for.
    fn gram(&self) -> &RowMatrix<f64> {
        self.gram.get_or_init(|| {
            let columns = self.rows.ncols();
            let mut gram = RowMatrix::zeros(columns, columns);
            let rows = self.rows.view();
            matmul(gram.view_mut(), rows.transpose(), rows);
            gram
        })
    }

    /// Rows of length 1, without the column of the bias; rows of zeros stay so.
    pub fn unit_rows(&self) -> RowMatrix<f64> {
        let mut out = RowMatrix::zeros(self.rows.nrows(), self.dim);
        for (i, row) in self.rows.rows().enumerate() {
            let norm = sum(row[..self.dim].iter().map(|x| x * x)).sqrt();
            if norm > 0.0 {
                let pairs = out.row_mut(i).iter_mut().zip(row);
                pairs.for_each(|(o, x)| *o = x / norm);
            }
        }
        out
    }

    pub fn count(&self) -> f64 {
        self.rows.nrows() as f64
    }

    /// Entry (a, b) of the Gram matrix of the rows as they were before centring.
    fn raw_gram(&self, a: usize, b: usize) -> f64 {
        self.gram().get(a, b) + self.count() * self.mean[a] * self.mean[b]
    }

    /// The Frobenius norms of the Gram matrices of all rows, raw and centred: `|A A^T|_F = |A^T A|_F`.
    pub fn gram_norms(&self) -> (f64, f64) {
        *self.gram_norms.get_or_init(|| {
            let norm = |entry: &dyn Fn(usize, usize) -> f64| {
                let pairs = (0..self.dim).flat_map(|a| (0..self.dim).map(move |b| (a, b)));
                sum(pairs.map(|(a, b)| entry(a, b).powi(2))).sqrt()
            };
            (
                norm(&|a, b| self.raw_gram(a, b)),
                norm(&|a, b| self.gram().get(a, b)),
            )
        })
    }

    /// `|A|_F` of the rows as they were before centring.
    pub fn raw_norm(&self) -> f64 {
        sum((0..self.dim).map(|a| self.raw_gram(a, a))).sqrt()
    }

    /// `|W H^T|_F^2` of these words, centred, and states: raw and centred.
    pub fn logit_energies(&self, states: &Self) -> (f64, f64) {
        let e = self.gram().ncols();
        let with = |entry: &dyn Fn(usize, usize) -> f64| {
            let pairs = (0..e).flat_map(|a| (0..e).map(move |b| (a, b)));
            sum(pairs.map(|(a, b)| self.gram().get(a, b) * entry(a, b))).max(0.0)
        };
        (
            with(&|a, b| states.raw_gram(a, b)),
            with(&|a, b| states.gram().get(a, b)),
        )
    }

    /// Ranks of the rows as they were before centring.
    pub fn ranks(&self) -> Result<Ranks, GeometryError> {
        let d = self.dim;
        let gram = RowMatrix::from_fn(d, d, |a, b| self.raw_gram(a, b));
        let squares = symmetric_eigenvalues(gram.view())?;
        let values: Vec<f64> = squares.iter().map(|x| x.max(0.0).sqrt()).collect();
        let largest = values.first().copied().unwrap_or(0.0);
        let longer = self.rows.nrows().max(d) as f64;
        let least = longer * f64::from(f32::EPSILON) * largest;
        let above: Vec<f64> = values.into_iter().filter(|s| *s > least).collect();
        let total = sum(above.iter().copied());
        Ok(Ranks {
            numerical: above.len(),
            stable: match largest > 0.0 {
                true => sum(squares.iter().map(|x| x.max(0.0))) / (largest * largest),
                false => 0.0,
            },
            effective: match total > 0.0 {
                true => entropy(above.iter().map(|s| s / total)).exp(),
                false => 0.0,
            },
        })
    }
}

fn row_mean(rows: &RowMatrix<f64>) -> Vec<f64> {
    let mut mean = vec![0.0; rows.ncols()];
    for row in rows.rows() {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += x);
    }
    let n = rows.nrows() as f64;
    mean.iter_mut().for_each(|m| *m /= n);
    mean
}
