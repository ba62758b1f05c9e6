//! Thin layers over `faer`: products, spectra; and the truncated singular value decomposition.

mod band;
mod basis;
mod correlation;
mod eigen;
mod lanczos;
mod operator;
mod product;
mod row_centered;
mod row_gram;
mod subspace;
mod svd;

pub use correlation::{pearson, spearman};
pub use eigen::{SymmetricEigen, symmetric_eigen, symmetric_eigenvalues};
pub use operator::LinearOperator;
pub use product::{lower_product, matmul, matmul_add, symmetric_product};
pub use row_centered::RowCentered;
pub use row_gram::RowGram;
pub use subspace::{CentredKernel, ColumnSpace, cross, singular_values};
pub use svd::{TruncatedSvd, truncated_svd};

use thiserror::Error;

/// A decomposition that did not come out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the {0} did not converge; the matrix may hold NaN or infinite entries")]
pub struct LinalgError(pub &'static str);

/// A real scalar that `faer` multiplies.
pub trait Scalar: faer::traits::ComplexField {
    /// 1.
    const ONE: Self;
}

impl Scalar for f32 {
    const ONE: Self = 1.0;
}

impl Scalar for f64 {
    const ONE: Self = 1.0;
}
