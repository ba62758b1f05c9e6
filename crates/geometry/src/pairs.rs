//! Neural collapse over pairs of classes: C^2 d work, rows of pairs at a time.

use lawvere_core::RowMatrix;
use lawvere_core::linalg::matmul;
use lawvere_core::vector::dot;
use rayon::prelude::*;

use crate::spread::Moments;

/// What pairs of class means tell.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PairMoments {
    /// `(s_c^2 + s_c'^2) / (2 |m_c - m_c'|^2)` over pairs of classes that vary.
    pub cdnv: Moments,
    /// Its logarithm; only where it is not 0.
    pub log_cdnv: Moments,
    /// It once more over `|m_c - m_c'|^2`.
    pub cdnv_squared: Moments,
    /// Cosines of the means.
    pub cosines: Moments,
    /// `log 1 / |u_c - u_c'|` of the unit means u.
    pub log_inverse_distances: Moments,
    /// Pairs whose means are one and the same point, which are left out.
    pub coinciding: u64,
}

/// Squared distances below this share of the squared norms are rounding: f32 states that differ at all
/// lie further apart.
const COINCIDE: f64 = 1e-20;
/// A normalised variance below this counts as this in geometric means.
const COLLAPSED: f64 = 1e-6;
/// Below this share a squared distance taken from inner products has lost too many digits.
const CANCELLED: f64 = 1e-4;
const ROWS: usize = 256;

/// All pairs of the rows of `means` (C x d), of which those marked in `varies` have `variances`.
pub(crate) fn pairs(means: &RowMatrix<f64>, variances: &[f64], varies: &[bool]) -> PairMoments {
    let count = means.nrows();
    let squares: Vec<f64> = means.rows().map(|row| dot(row, row)).collect();
    let mut all = PairMoments::default();
    for first in (0..count).step_by(ROWS) {
        let rows = ROWS.min(count - first);
        let block = means.view().subrows(first, rows);
        let later = means.view().subrows(first, count - first);
        let mut inner = RowMatrix::zeros(rows, count - first);
        matmul(inner.view_mut(), block, later.transpose());
        let found: Vec<PairMoments> = inner
            .data()
            .par_chunks(count - first)
            .enumerate()
            .map(|(i, inner)| {
                let of = first + i;
                let mut row = PairRow::default();
                for (other, &inner) in (first..count).zip(inner).skip(i + 1) {
                    let (a, b) = (squares[of], squares[other]);
                    row.push(
                        (a, b, inner),
                        || (means.row(of), means.row(other)),
                        (varies[of] && varies[other])
                            .then(|| 0.5 * (variances[of] + variances[other])),
                    );
                }
                row.moments()
            })
            .collect();
        all = found.into_iter().fold(all, PairMoments::with);
    }
    all
}

#[derive(Default)]
struct PairRow {
    cdnv: Vec<f64>,
    log_cdnv: Vec<f64>,
    cdnv_squared: Vec<f64>,
    cosines: Vec<f64>,
    log_inverse_distances: Vec<f64>,
    coinciding: u64,
}

impl PairRow {
    fn push<'a>(
        &mut self,
        (a, b, inner): (f64, f64, f64),
        rows: impl Fn() -> (&'a [f64], &'a [f64]),
        variance: Option<f64>,
    ) {
        let mut distance = a + b - 2.0 * inner;
        if distance < CANCELLED * (a + b) {
            let (x, y) = rows();
            distance = x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum();
        }
        if distance <= COINCIDE * (a + b) {
            self.coinciding += 1;
            return;
        }
        if let Some(variance) = variance {
            let cdnv = variance / distance;
            self.cdnv.push(cdnv);
            self.cdnv_squared.push(cdnv / distance);
            self.log_cdnv.push(cdnv.max(COLLAPSED).ln());
        }
        let norms = (a * b).sqrt();
        // A class at the centre of all has no direction.
        if norms == 0.0 {
            return;
        }
        let cosine = inner / norms;
        let mut apart = 2.0 - 2.0 * cosine;
        if apart < CANCELLED {
            let (x, y) = rows();
            let (a, b) = (a.sqrt(), b.sqrt());
            let terms = x.iter().zip(y).map(|(x, y)| (x / a - y / b).powi(2));
            apart = terms.sum();
        }
        self.cosines.push(cosine);
        if apart > COINCIDE {
            self.log_inverse_distances.push(-0.5 * apart.ln());
        }
    }

    fn moments(&self) -> PairMoments {
        PairMoments {
            cdnv: Moments::of(&self.cdnv),
            log_cdnv: Moments::of(&self.log_cdnv),
            cdnv_squared: Moments::of(&self.cdnv_squared),
            cosines: Moments::of(&self.cosines),
            log_inverse_distances: Moments::of(&self.log_inverse_distances),
            coinciding: self.coinciding,
        }
    }
}

impl PairMoments {
    fn with(self, other: Self) -> Self {
        Self {
            cdnv: self.cdnv.with(other.cdnv),
            log_cdnv: self.log_cdnv.with(other.log_cdnv),
            cdnv_squared: self.cdnv_squared.with(other.cdnv_squared),
            cosines: self.cosines.with(other.cosines),
            log_inverse_distances: self.log_inverse_distances.with(other.log_inverse_distances),
            coinciding: self.coinciding + other.coinciding,
        }
    }
}
