use faer::Mat;
use lawvere_core::linalg::{LinalgError, RowCentered, matmul, truncated_svd};
use lawvere_core::{RowMatrix, sum};

use crate::{GeometryError, Supports};

/// The geometry that the theory predicts: a singular value decomposition `U diag(s) V^T` of the logits
/// whose direction training tends to, whole or its leading part.
///
/// Words are to have the Gram matrix `U diag(s) U^T`, contexts `V diag(s) V^T`, up to scale.
///
/// *Source:* arXiv 2408.15417, section 4.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// Left singular vectors, tokens x k: orthonormal columns, each of sum 0.
    pub words: RowMatrix<f64>,
    /// Singular values, decreasing, positive.
    pub singular_values: Vec<f64>,
    /// Right singular vectors, contexts x k: orthonormal columns.
    pub contexts: RowMatrix<f64>,
    /// The sum of the squares of all singular values, of which those here may be the leading ones.
    pub energy: f64,
}

/// Singular values below this share of the largest are rounding.
const NEGLIGIBLE: f64 = 1e-12;
/// How exact the singular triplets of the proxy are, relative to the largest singular value.
const TOLERANCE: f64 = 1e-4;

impl Prediction {
    /// The prediction of logits, V x m: exactly, of the max-margin logits. Their columns are centred
    /// first, to which a softmax is blind. O(V m min(V, m)).
    ///
    /// # Errors
    /// NaN or infinite entries; logits that vanish once centred (all supports full), which predict
    /// nothing.
    pub fn from_logits(logits: &RowMatrix<f64>) -> Result<Self, GeometryError> {
        let (vocabulary, contexts) = (logits.nrows(), logits.ncols());
        crate::check_shape("logits", logits, vocabulary, contexts)?;
        let mean: Vec<f64> = (0..contexts)
            .map(|j| sum((0..vocabulary).map(|v| logits.get(v, j))) / vocabulary as f64)
            .collect();
        let centred = Mat::from_fn(vocabulary, contexts, |v, j| logits.get(v, j) - mean[j]);
        let svd = centred
            .thin_svd()
            .map_err(|_| LinalgError("singular value decomposition"))?;
        let all: Vec<f64> = svd.S().column_vector().iter().copied().collect();
        Self::new(svd.U().as_ref(), all, svd.V().as_ref(), None)
    }

    /// The prediction of the proxy `S~`, of which the `rank` leading singular triplets are found; S
    /// stays sparse. Cost: that of [`truncated_svd`].
    ///
    /// # Errors
    /// A rank of 0, supports that are all full.
    pub fn from_proxy(supports: &Supports, rank: usize, seed: u64) -> Result<Self, GeometryError> {
        if rank == 0 {
            return Err(GeometryError::Argument {
                what: "rank",
                problem: "it is 0; a prediction has at least one singular vector".into(),
            });
        }
        let svd = truncated_svd(&RowCentered::new(&supports.rows), rank, TOLERANCE, seed)?;
        let energy = proxy_energy(supports);
        Self::new(
            svd.v.view(),
            svd.singular_values,
            svd.u.view(),
            Some(energy),
        )
    }

    fn new(
        words: faer::MatRef<'_, f64>,
        mut singular_values: Vec<f64>,
        contexts: faer::MatRef<'_, f64>,
        energy: Option<f64>,
    ) -> Result<Self, GeometryError> {
        let energy = energy.unwrap_or_else(|| sum(singular_values.iter().map(|s| s * s)));
        let largest = singular_values.first().copied().unwrap_or(0.0);
        // Supports that are all full leave nothing but rounding; others have entries of order 1.
        if largest <= NEGLIGIBLE {
            return Err(GeometryError::Argument {
                what: "prediction",
                problem: "the logits that training tends to vanish, as every token follows every context: there is no geometry to compare with".into(),
            });
        }
        singular_values.retain(|s| *s > NEGLIGIBLE * largest);
        let k = singular_values.len();
        Ok(Self {
            words: RowMatrix::from_fn(words.nrows(), k, |i, j| words[(i, j)]),
            contexts: RowMatrix::from_fn(contexts.nrows(), k, |i, j| contexts[(i, j)]),
            singular_values,
            energy,
        })
    }

    /// `U diag(s) U^T`, V x V: the words' Gram matrix, up to scale. O(V^2 k).
    pub fn word_gram(&self) -> RowMatrix<f64> {
        self.gram(&self.words)
    }

    /// `V diag(s) V^T`, m x m: the contexts'. O(m^2 k).
    pub fn context_gram(&self) -> RowMatrix<f64> {
        self.gram(&self.contexts)
    }

    fn gram(&self, vectors: &RowMatrix<f64>) -> RowMatrix<f64> {
        let n = vectors.nrows();
        let scaled = RowMatrix::from_fn(n, self.rank(), |i, k| {
            vectors.get(i, k) * self.singular_values[k].sqrt()
        });
        let mut out = RowMatrix::zeros(n, n);
        matmul(out.view_mut(), scaled.view(), scaled.view().transpose());
        out
    }

    /// Whether the prediction is one for these supports.
    pub(crate) fn check(&self, supports: &Supports) -> Result<(), GeometryError> {
        let k = self.rank();
        crate::check_shape("predicted words", &self.words, supports.vocabulary(), k)?;
        crate::check_shape("predicted contexts", &self.contexts, supports.contexts(), k)
    }

    /// k: the number of singular triplets.
    pub fn rank(&self) -> usize {
        self.singular_values.len()
    }

    /// The share of [`energy`](Self::energy) in the triplets that are here; 1 of a whole decomposition.
    pub fn captured(&self) -> f64 {
        sum(self.singular_values.iter().map(|s| s * s)) / self.energy
    }
}

/// `|S~|_F^2`.
pub(crate) fn proxy_energy(supports: &Supports) -> f64 {
    let vocabulary = supports.vocabulary() as f64;
    sum(supports.rows.rows().map(|(support, _)| {
        let size = support.len() as f64;
        size * (1.0 - size / vocabulary)
    }))
}
