use std::time::Instant;

use faer::{MatMut, MatRef};
use lawvere_core::linalg::{
    LinalgError, matmul, symmetric_eigen, symmetric_eigenvalues, symmetric_product,
};
use lawvere_core::{RowMatrix, sum};
use serde::Serialize;

use crate::margin::{MarginSet, for_rows};
use crate::near_filter::{NearFilter, mirror};
use crate::reduction::Reduction;
use crate::{Answer, GeometryError, Supports};

/// How [`max_margin`] solves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaxMarginOptions {
    /// The certified relative gap at which it stops.
    pub tolerance: f64,
    /// Iterations at most; what is then reached is returned with its certificate.
    pub max_iterations: usize,
    /// The largest reduced problem, distinct tokens times distinct contexts, that is solved.
    pub size_limit: usize,
}

impl Default for MaxMarginOptions {
    fn default() -> Self {
        Self {
            tolerance: 1e-7,
            max_iterations: 20_000,
            size_limit: 30_000_000,
        }
    }
}

/// What [`max_margin`] tells on its way, at every certificate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaxMarginProgress {
    /// Iterations made.
    pub iteration: usize,
    /// The relative gap certified so far.
    pub relative_gap: f64,
}

/// The max-margin logits of a support matrix, with a proof of how good they are.
#[derive(Debug, Clone, Serialize)]
pub struct MaxMargin {
    /// The nuclear norm of [`logits`](Self::logits), which are feasible: an upper bound of the optimum.
    pub value: f64,
    /// The value of [`dual`](Self::dual): a lower bound of the optimum.
    pub lower_bound: f64,
    /// `(value - lower_bound) / value`; 0 for value 0.
    pub relative_gap: f64,
    /// Whether the gap asked for was reached.
    pub converged: bool,
    /// Iterations made.
    pub iterations: usize,
    /// Wall time.
    pub seconds: f64,
    /// Singular values of the thresholded iterate that are not 0.
    pub rank: usize,
    /// The nuclear norm of the proxy S~ = (I - 11^T/V) S without its full columns, which is feasible
    /// too.
    pub proxy_value: f64,
    /// Whether the proxy S~ is itself a solution: yes if its singular vectors make a dual certificate; no if one
    /// would have to be of this form and is not, or a point of smaller nuclear norm was found.
    pub proxy_optimal: Answer,
    /// V.
    pub vocabulary: usize,
    /// m.
    pub contexts: usize,
    /// Tokens that follow different contexts.
    pub reduced_tokens: usize,
    /// Contexts with different supports, full ones left out.
    pub reduced_contexts: usize,
    /// Singular values of the logits, decreasing; those of merged rows and columns, further ones are 0.
    pub singular_values: Vec<f64>,
    #[serde(skip)]
    reduction: Reduction,
    #[serde(skip)]
    primal: RowMatrix<f64>,
    #[serde(skip)]
    dual: RowMatrix<f64>,
}

impl MaxMargin {
    /// The logits, V x m: constant on every support, at least 1 less off it, columns summing to 0.
    pub fn logits(&self) -> RowMatrix<f64> {
        self.reduction.expand(&self.primal)
    }

    /// The logits in the weighted coordinates of the reduction, context-major.
    pub(crate) fn weighted(&self) -> &RowMatrix<f64> {
        &self.primal
    }

    /// The dual point G, V x m: columns summing to 0, at most 0 off the supports, of operator norm 1;
    /// `<G,S>` is the lower bound.
    pub fn dual(&self) -> RowMatrix<f64> {
        self.reduction.expand(&self.dual)
    }
}

/// Iterations between certificates.
const CERTIFY_EVERY: usize = 10;
const RHO_CHANGES: usize = 20;
const OVER_RELAXATION: f64 = 1.8;
/// Singular values of the proxy below this fraction of the largest are 0: its entries are whole
/// numbers up to the scale, so true ones are far larger.
const RANK_TOLERANCE: f64 = 1e-10;

/// The max-margin logits `L^mm = argmin |L|_*` subject to `L_zj = L_z'j` for z, z' in S_j and
/// `L_zj - L_vj >= 1` for v not in S_j: the direction of the logits that next-token training drives to.
///
/// Solved by the alternating direction method of multipliers on the [reduced](MaxMargin) problem of
/// r distinct tokens and c distinct contexts; every tenth iteration gives a feasible point and a
/// dual feasible point, whose values bound the optimum from both sides. It depends on supports only.
/// Cost: an eigendecomposition of size min(r, c) and products of `r c min(r, c)` an iteration.
///
/// *Source:* arXiv 2408.15417, section 3 (NTP-SVM); Boyd, Parikh, Chu, Peleato, Eckstein,
/// *Distributed optimization and statistical learning via the ADMM* (2011).
///
/// # Errors
/// A vocabulary of one token; a reduced problem above the limit; options out of range.
pub fn max_margin(
    supports: &Supports,
    options: &MaxMarginOptions,
    on_progress: &mut dyn FnMut(MaxMarginProgress),
) -> Result<MaxMargin, GeometryError> {
    let start = Instant::now();
    check(supports, options)?;
    let reduction = Reduction::new(supports, options.size_limit)?;
    let (r, c) = (reduction.tokens(), reduction.contexts());
    let mut out = MaxMargin {
        value: 0.0,
        lower_bound: 0.0,
        relative_gap: 0.0,
        converged: true,
        iterations: 0,
        seconds: 0.0,
        rank: 0,
        proxy_value: 0.0,
        proxy_optimal: Answer::Yes,
        vocabulary: supports.vocabulary(),
        contexts: supports.contexts(),
        reduced_tokens: r,
        reduced_contexts: c,
        singular_values: Vec::new(),
        primal: RowMatrix::zeros(c, r),
        dual: RowMatrix::zeros(c, r),
        reduction,
    };
    if c > 0 {
        solve(&mut out, options, on_progress)?;
    }
    out.seconds = start.elapsed().as_secs_f64();
    Ok(out)
}

fn check(supports: &Supports, options: &MaxMarginOptions) -> Result<(), GeometryError> {
    if supports.vocabulary() < 2 {
        return Err(GeometryError::Argument {
            what: "the support matrix",
            problem: "it has one token only, from which nothing can be told apart; at least two are needed".into(),
        });
    }
    if !(options.tolerance > 0.0 && options.tolerance < 1.0) {
        return Err(GeometryError::Argument {
            what: "tolerance",
            problem: format!(
                "it is {}; a relative gap is more than 0 and less than 1",
                options.tolerance
            ),
        });
    }
    if options.max_iterations == 0 {
        return Err(GeometryError::Argument {
            what: "max iterations",
            problem: "it is 0; the first certificate takes at least one".into(),
        });
    }
    Ok(())
}

fn solve(
    out: &mut MaxMargin,
    options: &MaxMarginOptions,
    on_progress: &mut dyn FnMut(MaxMarginProgress),
) -> Result<(), GeometryError> {
    let reduction = out.reduction.clone();
    let mut set = MarginSet::new(&reduction);
    let mut z = reduction.proxy();
    let proxy = Proxy::new(&z)?;
    out.proxy_value = sum(proxy.singular_values.iter().copied());
    out.singular_values.clone_from(&proxy.singular_values);
    out.value = out.proxy_value;
    out.primal = z.clone();
    let test = proxy.test(&reduction);
    let mut rho = 0.5 * (proxy.rank as f64).sqrt() / norm(&z);
    // The proxy's own candidate for a certificate starts the dual.
    let mut u = proxy.polar.clone();
    let (lower, size) = (set.dual(&mut u), operator_norm(&u)?);
    if lower > 0.0 {
        out.lower_bound = lower / size;
        u.data_mut().iter_mut().for_each(|u| *u /= size);
        out.dual = u;
    }
    out.rank = proxy.rank;
    if test == Answer::Yes && gap(out) <= options.tolerance {
        out.relative_gap = gap(out);
        return Ok(());
    }
    let mut u = proxy.polar;
    u.data_mut().iter_mut().for_each(|u| *u /= -rho);

    let mut changes = 0;
    let mut low = RowMatrix::zeros(z.nrows(), z.ncols());
    let mut threshold = Threshold::default();
    out.converged = false;
    while out.iterations < options.max_iterations {
        out.iterations += 1;
        subtract(&mut low, &z, &u);
        out.rank = threshold.apply(&mut low, 1.0 / rho)?;
        let last = out.iterations == options.max_iterations;
        if !out.iterations.is_multiple_of(CERTIFY_EVERY) && !last {
            set.step(&mut z, &mut u, &low, OVER_RELAXATION);
            continue;
        }
        let old = z.clone();
        set.step(&mut z, &mut u, &low, OVER_RELAXATION);
        certify(out, &set, &z, &u, options.tolerance)?;
        if last || gap(out) <= options.tolerance {
            settle(out)?;
        }
        out.relative_gap = gap(out);
        on_progress(MaxMarginProgress {
            iteration: out.iterations,
            relative_gap: out.relative_gap,
        });
        if out.relative_gap <= options.tolerance {
            out.converged = true;
            break;
        }
        let primal = distance(&low, &z) / norm(&z);
        let dual = distance(&z, &old) / norm(&u);
        if changes < RHO_CHANGES && (primal > 2.0 * dual || dual > 2.0 * primal) {
            let factor = if primal > dual { 2.0 } else { 0.5 };
            rho *= factor;
            u.data_mut().iter_mut().for_each(|u| *u /= factor);
            changes += 1;
        }
    }
    out.proxy_optimal = match test {
        // Equal values prove nothing; a feasible point that is better by more than rounding does.
        Answer::Undecided if out.value < out.proxy_value * (1.0 - 1e-9) => Answer::No,
        test => test,
    };
    Ok(())
}

fn gap(out: &MaxMargin) -> f64 {
    if out.value == 0.0 {
        return 0.0;
    }
    ((out.value - out.lower_bound) / out.value).max(0.0)
}

/// Takes over what is better than what is known: the feasible `z` above, the multiplier below.
///
/// The value above is an estimate, without singular values, unless that might end the search.
fn certify(
    out: &mut MaxMargin,
    set: &MarginSet<'_>,
    z: &RowMatrix<f64>,
    u: &RowMatrix<f64>,
    tolerance: f64,
) -> Result<(), GeometryError> {
    let mut y = u.clone();
    let mut feasible = z.clone();
    let (dual, estimate) = rayon::join(
        || {
            y.data_mut().iter_mut().for_each(|y| *y = -*y);
            let value = set.dual(&mut y);
            operator_norm(&y).map(|size| (value / size, size))
        },
        || {
            set.centre(&mut feasible);
            nuclear_norm_estimate(&feasible)
        },
    );
    let ((lower, size), estimate) = (dual?, estimate?);
    if lower > out.lower_bound {
        out.lower_bound = lower;
        y.data_mut().iter_mut().for_each(|y| *y /= size);
        out.dual = y;
    }
    let (mut value, mut values) = (estimate.value, Vec::new());
    if value - estimate.error - out.lower_bound <= tolerance * value {
        values = singular_values(&feasible)?;
        value = sum(values.iter().copied());
    }
    if value < out.value {
        out.value = value;
        out.primal = feasible;
        out.singular_values = values;
    }
    Ok(())
}

/// Replaces an estimate of the value by the value.
fn settle(out: &mut MaxMargin) -> Result<(), GeometryError> {
    if out.singular_values.is_empty() {
        out.singular_values = singular_values(&out.primal)?;
        out.value = sum(out.singular_values.iter().copied());
    }
    Ok(())
}

/// What the singular value decomposition of the proxy says.
struct Proxy {
    singular_values: Vec<f64>,
    rank: usize,
    /// `U V^T`, context-major as all weighted matrices.
    polar: RowMatrix<f64>,
}

impl Proxy {
    fn new(proxy: &RowMatrix<f64>) -> Result<Self, GeometryError> {
        let svd = proxy.view().thin_svd().map_err(|_| SVD)?;
        let singular_values: Vec<f64> = svd.S().column_vector().iter().copied().collect();
        let largest = singular_values.first().copied().unwrap_or(0.0);
        let rank = singular_values
            .iter()
            .filter(|&&s| s > RANK_TOLERANCE * largest)
            .count();
        let mut polar = RowMatrix::zeros(proxy.nrows(), proxy.ncols());
        let (u, v) = (svd.U().subcols(0, rank), svd.V().subcols(0, rank));
        matmul(polar.view_mut(), u, v.transpose());
        Ok(Self {
            singular_values,
            rank,
            polar,
        })
    }

    /// Optimal if `U V^T` is at most 0 off the supports. The converse holds where the singular
    /// vectors span all that a subgradient may live in: there `U V^T` is the only candidate.
    fn test(&self, reduction: &Reduction) -> Answer {
        const SIGN_TOLERANCE: f64 = 1e-9;
        let mut entries = reduction.inside.data().iter().zip(self.polar.data());
        if entries.all(|(inside, &x)| *inside || x <= SIGN_TOLERANCE) {
            return Answer::Yes;
        }
        let only = (reduction.tokens() - 1).min(reduction.contexts());
        match self.rank == only {
            true => Answer::No,
            false => Answer::Undecided,
        }
    }
}

const SVD: LinalgError = LinalgError("singular value decomposition");

/// Singular values, decreasing.
pub(crate) fn singular_values(x: &RowMatrix<f64>) -> Result<Vec<f64>, LinalgError> {
    x.view().singular_values().map_err(|_| SVD)
}

/// The largest singular value, from the smaller Gram matrix: there its relative error is that of
/// rounding.
pub(crate) fn operator_norm(x: &RowMatrix<f64>) -> Result<f64, LinalgError> {
    let squares = symmetric_eigenvalues(smaller_gram(tall(x)).view())?;
    Ok(squares.first().copied().unwrap_or(0.0).max(0.0).sqrt())
}

/// A nuclear norm from the eigenvalues of the smaller Gram matrix, several times faster than from the
/// singular values.
pub(crate) struct NuclearNormEstimate {
    pub value: f64,
    /// What rounding may have added: it makes small singular values of 0.
    pub error: f64,
}

pub(crate) fn nuclear_norm_estimate(
    x: &RowMatrix<f64>,
) -> Result<NuclearNormEstimate, LinalgError> {
    let squares = symmetric_eigenvalues(smaller_gram(tall(x)).view())?;
    let side = squares.len() as f64;
    let largest = squares.first().copied().unwrap_or(0.0).max(0.0).sqrt();
    Ok(NuclearNormEstimate {
        value: sum(squares.iter().map(|s| s.max(0.0).sqrt())),
        error: side * (side * f64::EPSILON).sqrt() * largest,
    })
}

/// The matrix or its transpose, whichever has at least as many rows as columns.
fn tall(x: &RowMatrix<f64>) -> MatRef<'_, f64> {
    match x.ncols() <= x.nrows() {
        true => x.view(),
        false => x.view().transpose(),
    }
}

/// The lower half of `X^T X`.
fn smaller_gram(tall: MatRef<'_, f64>) -> RowMatrix<f64> {
    let mut gram = RowMatrix::zeros(tall.ncols(), tall.ncols());
    symmetric_product(gram.view_mut(), tall.transpose());
    gram
}

/// Soft thresholding of singular values, with the room it works in.
#[derive(Default)]
pub(crate) struct Threshold {
    room: Vec<f64>,
    near: NearFilter,
}

/// Sides of Gram matrices from which on filters of near ones are cheaper.
const LARGE: usize = 256;

impl Threshold {
    /// Replaces `x = sum_k s_k a_k b_k^T` by `sum_k max(s_k - threshold, 0) a_k b_k^T`, the proximal
    /// point of the nuclear norm, and returns the number of terms left.
    ///
    /// From the eigenvectors of the smaller Gram matrix: a singular value near the threshold loses
    /// digits only if it is some 1e-8 of the largest. Those of a large matrix serve some further ones
    /// that are [near](NearFilter).
    pub fn apply(&mut self, x: &mut RowMatrix<f64>, threshold: f64) -> Result<usize, LinalgError> {
        let (rows, columns) = (x.nrows(), x.ncols());
        let mut gram = smaller_gram(tall(x));
        let side = gram.nrows();
        if side >= LARGE {
            mirror(&mut gram);
            if let Some((filter, rank)) = self.near.filter(&gram, threshold) {
                self.multiply(x, &filter);
                return Ok(rank);
            }
        }
        let eigen = symmetric_eigen(gram.view())?;
        let above = |value: &f64| value.max(0.0).sqrt() > threshold;
        let rank = eigen.values.iter().take_while(|v| above(v)).count();
        let kept = eigen.values[..rank].iter();
        let factors: Vec<f64> = kept.map(|v| 1.0 - threshold / v.sqrt()).collect();
        if side >= LARGE && 2 * rank > side {
            self.near.learn(&eigen.vectors);
        }
        let mut basis = eigen.vectors.into_data();
        basis.truncate(rank * side);
        if 2 * rank <= side {
            let vectors = MatRef::from_row_major_slice(&basis, rank, side);
            let long = rows.max(columns);
            self.room.resize(long * rank, 0.0);
            let (mut half, mut all) = match columns <= rows {
                true => (
                    MatMut::from_row_major_slice_mut(&mut self.room, long, rank),
                    x.view_mut(),
                ),
                false => (
                    MatMut::from_column_major_slice_mut(&mut self.room, long, rank),
                    x.view_mut().transpose_mut(),
                ),
            };
            matmul(half.as_mut(), all.as_ref(), vectors.transpose());
            for (k, factor) in factors.iter().enumerate() {
                half.as_mut()
                    .col_mut(k)
                    .iter_mut()
                    .for_each(|h| *h *= factor);
            }
            matmul(all.as_mut(), half.as_ref(), vectors);
        } else {
            // The filter `sum_k (1 - threshold / s_k) b_k b_k^T`.
            for (vector, factor) in basis.chunks_mut(side).zip(&factors) {
                let root = factor.sqrt();
                vector.iter_mut().for_each(|v| *v *= root);
            }
            let vectors = MatRef::from_row_major_slice(&basis, rank, side);
            let mut filter = gram;
            symmetric_product(filter.view_mut(), vectors.transpose());
            mirror(&mut filter);
            self.multiply(x, &filter);
        }
        Ok(rank)
    }

    /// Multiplies `x` by a symmetric matrix on its shorter side.
    fn multiply(&mut self, x: &mut RowMatrix<f64>, filter: &RowMatrix<f64>) {
        let (rows, columns) = (x.nrows(), x.ncols());
        self.room.resize(rows * columns, 0.0);
        let out = MatMut::from_row_major_slice_mut(&mut self.room, rows, columns);
        match columns <= rows {
            true => matmul(out, x.view(), filter.view()),
            false => matmul(out, filter.view(), x.view()),
        }
        x.data_mut().copy_from_slice(&self.room);
    }
}

/// `out = x - y`.
pub(crate) fn subtract(out: &mut RowMatrix<f64>, x: &RowMatrix<f64>, y: &RowMatrix<f64>) {
    let mut rows: Vec<_> = x.rows().zip(y.rows()).collect();
    for_rows(out, &mut rows, |_, out, (x, y)| {
        let terms = out.iter_mut().zip(&**x).zip(&**y);
        terms.for_each(|((out, x), y)| *out = x - y);
    });
}

pub(crate) fn norm(x: &RowMatrix<f64>) -> f64 {
    sum(x.data().iter().map(|x| x * x)).sqrt()
}

pub(crate) fn distance(x: &RowMatrix<f64>, y: &RowMatrix<f64>) -> f64 {
    let terms = x.data().iter().zip(y.data());
    sum(terms.map(|(x, y)| (x - y) * (x - y))).sqrt()
}
