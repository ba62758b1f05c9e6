//! The max-margin constraints on logits `W h_j` of given context embeddings.

use lawvere_core::linalg::{LinalgError, matmul};
use lawvere_core::{RowMatrix, sum};

use crate::active::Margins;
use crate::least_norm::{Constraints, Nearness, norm};
use crate::reduction::Reduction;

/// Context embeddings in coordinates of their span, scaled to a root mean square norm of 1.
#[derive(Debug, Clone)]
pub(crate) struct Embeddings {
    /// m x k, orthogonal columns.
    pub rows: RowMatrix<f64>,
    /// k x d: `rows = states basis^T / scale`, with orthonormal rows.
    basis: RowMatrix<f64>,
    /// The root mean square norm of the states; 1 if they are all 0.
    pub scale: f64,
}

impl Embeddings {
    /// From the singular value decomposition of the states, m x d. Directions whose singular value is
    /// rounding only are left out: logits along them would be noise.
    pub fn new(states: &RowMatrix<f64>) -> Result<Self, LinalgError> {
        let (m, d) = (states.nrows(), states.ncols());
        let svd = states.view().thin_svd();
        let svd = svd.map_err(|_| LinalgError("singular value decomposition"))?;
        let s: Vec<f64> = svd.S().column_vector().iter().copied().collect();
        let largest = s.first().copied().unwrap_or(0.0);
        let floor = largest * f64::EPSILON * m.max(d) as f64;
        let k = s.iter().take_while(|&&s| s > floor).count();
        let scale = match largest > 0.0 {
            true => (sum(s[..k].iter().map(|s| s * s)) / m as f64).sqrt(),
            false => 1.0,
        };
        Ok(Self {
            rows: RowMatrix::from_fn(m, k, |j, i| svd.U()[(j, i)] * s[i] / scale),
            basis: RowMatrix::from_fn(k, d, |i, c| svd.V()[(c, i)]),
            scale,
        })
    }

    pub fn rank(&self) -> usize {
        self.rows.ncols()
    }

    /// Weights in the coordinates of the span as weights on the states, of the same logits.
    pub fn expand(&self, weights: &RowMatrix<f64>) -> RowMatrix<f64> {
        let mut out = RowMatrix::zeros(weights.nrows(), self.basis.ncols());
        matmul(out.view_mut(), weights.view(), self.basis.view());
        out.data_mut().iter_mut().for_each(|w| *w /= self.scale);
        out
    }
}

/// The max-margin constraints on logits `W h_j`; every context is kept, because equal supports may have
/// different embeddings, and equal tokens are merged.
pub(crate) struct EmbeddedMargins<'a> {
    margins: Margins<'a>,
    embeddings: &'a RowMatrix<f64>,
}

impl<'a> EmbeddedMargins<'a> {
    pub fn new(reduction: &'a Reduction, embeddings: &'a RowMatrix<f64>) -> Self {
        Self {
            margins: Margins::new(reduction),
            embeddings,
        }
    }

    /// `y^T embeddings`.
    fn gather(&self, y: &RowMatrix<f64>, embeddings: &RowMatrix<f64>) -> RowMatrix<f64> {
        let mut out = RowMatrix::zeros(y.ncols(), embeddings.ncols());
        matmul(out.view_mut(), y.view().transpose(), embeddings.view());
        out
    }
}

impl Constraints for EmbeddedMargins<'_> {
    fn shape(&self) -> (usize, usize) {
        (self.margins.tokens(), self.embeddings.ncols())
    }

    fn size(&self) -> f64 {
        norm(self.embeddings.data())
    }

    fn logits(&self, weights: &RowMatrix<f64>) -> Vec<f64> {
        let mut out = RowMatrix::zeros(self.embeddings.nrows(), weights.nrows());
        let words = weights.view().transpose();
        matmul(out.view_mut(), self.embeddings.view(), words);
        out.into_data()
    }

    fn adjoint(&self, y: &[f64]) -> RowMatrix<f64> {
        self.gather(&self.margins.matrix(y), self.embeddings)
    }

    fn residual(&mut self, x: &mut [f64]) {
        self.margins.residual(x);
    }

    fn derivative(&self, y: &mut [f64]) {
        self.margins.derivative(y);
    }

    fn equations(&self, y: &mut [f64]) {
        self.margins.equations(y);
    }

    fn spectrum(&self) -> Vec<f64> {
        let mut out = vec![0.0; self.embeddings.ncols()];
        for row in self.embeddings.rows() {
            out.iter_mut().zip(row).for_each(|(o, h)| *o += h * h);
        }
        out
    }

    fn diagonal(&self) -> RowMatrix<f64> {
        let mut squares = self.embeddings.clone();
        squares.data_mut().iter_mut().for_each(|h| *h *= *h);
        self.gather(&self.margins.shares(), &squares)
    }

    fn multiplier(&self, g: &mut [f64]) -> f64 {
        self.margins.multiplier(g)
    }

    fn nearness(&self, x: &[f64]) -> Option<Nearness> {
        self.margins.nearness(x)
    }
}
