use lawvere_core::stoch::{self, StochError};
use lawvere_core::{RowMatrix, SparseRows, sum};
use lawvere_observe::Observation;

use crate::{GeometryError, Supports, Vocabulary};

/// How far from 1 a context's probabilities, or the weights, may sum before it is an error rather
/// than rounding.
const TOLERANCE: f64 = 1e-9;

/// Contexts with their weights pi and sparse next-token laws p: a Markov kernel on finitely many
/// contexts.
#[derive(Debug, Clone, PartialEq)]
pub struct ContextLaws {
    /// Which tokens have a positive probability.
    pub supports: Supports,
    /// Contexts x tokens, the pattern of `supports.rows`; every row sums to 1.
    pub laws: SparseRows<f64>,
    /// The weight of every context; they sum to 1.
    pub weights: Vec<f64>,
}

impl ContextLaws {
    /// Laws from their sparse rows, contexts x tokens, and the contexts' weights. Sums are brought to
    /// 1 in f64. O(entries).
    ///
    /// # Errors
    /// What [`Supports::from_rows`] refuses; probabilities that are not positive, weights that are
    /// not positive, or sums further than 1e-9 from 1; another number of weights than of contexts.
    pub fn new(laws: SparseRows<f64>, weights: Vec<f64>) -> Result<Self, GeometryError> {
        let supports = Supports::from_rows(laws.map(|_, _| 1.0))?;
        Self::with(supports, laws, weights)
    }

    /// Laws of a dense matrix V x m of probabilities, zeros off the supports.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_dense(matrix: &RowMatrix<f64>, weights: Vec<f64>) -> Result<Self, GeometryError> {
        let mut laws = SparseRows::new(matrix.nrows());
        for context in 0..matrix.ncols() {
            let entries = (0..matrix.nrows()).map(|v| (v as u32, matrix.get(v, context)));
            let pushed = laws.push_row(entries.filter(|(_, p)| *p != 0.0));
            debug_assert!(pushed.is_ok());
        }
        Self::new(laws, weights)
    }

    /// The laws of an Observation of kind *contexts*.
    ///
    /// # Errors
    /// An Observation of positions.
    pub fn of(observation: &Observation, vocabulary: Vocabulary) -> Result<Self, GeometryError> {
        let supports = Supports::over(observation, vocabulary)?;
        let laws = observation.laws();
        let laws = supports.rows.map(|k, _| laws.values()[k]);
        Self::with(supports, laws, observation.weights.clone())
    }

    fn with(
        supports: Supports,
        mut laws: SparseRows<f64>,
        mut weights: Vec<f64>,
    ) -> Result<Self, GeometryError> {
        let shape = || lawvere_core::ShapeError::new("weights", laws.nrows(), weights.len());
        if weights.len() != laws.nrows() {
            return Err(shape().into());
        }
        let mut totals = Vec::with_capacity(laws.nnz());
        for (context, (tokens, law)) in laws.rows().enumerate() {
            let off = |p: &f64| !(p.is_finite() && *p > 0.0 && *p <= 1.0 + TOLERANCE);
            if let Some(k) = law.iter().position(off) {
                return Err(GeometryError::Probability {
                    token: tokens[k] as usize,
                    context,
                    value: law[k],
                });
            }
            let total = one(law).map_err(|source| GeometryError::Law {
                what: "next-token probabilities",
                context,
                source,
            })?;
            totals.resize(totals.len() + law.len(), total);
        }
        laws = laws.map(|k, p| p / totals[k]);
        if let Some(index) = weights.iter().position(|w| !(w.is_finite() && *w > 0.0)) {
            return Err(GeometryError::Weight {
                context: index,
                value: weights[index],
            });
        }
        let total = one(&weights).map_err(GeometryError::Weights)?;
        weights.iter_mut().for_each(|w| *w /= total);
        Ok(Self {
            supports,
            laws,
            weights,
        })
    }

    /// H: the empirical conditional entropy, nats.
    pub fn entropy(&self) -> f64 {
        sum(self
            .laws
            .rows()
            .zip(&self.weights)
            .map(|((_, law), weight)| weight * stoch::entropy(law.iter().copied())))
    }
}

fn one(values: &[f64]) -> Result<f64, StochError> {
    let total = sum(values.iter().copied());
    if (total - 1.0).abs() > TOLERANCE {
        return Err(StochError::Total {
            total,
            tolerance: TOLERANCE,
        });
    }
    Ok(total)
}
