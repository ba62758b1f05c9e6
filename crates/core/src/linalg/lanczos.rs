use rand::SeedableRng;
use rand::rngs::StdRng;

use super::basis::{Basis, Block, WIDTH};
use super::svd::{Sides, WHAT};
use super::{LinalgError, symmetric_eigen};
use crate::matrix::RowMatrix;

/// Restarts after which what is found is given as it is.
const RESTARTS: usize = 100;
/// Eigenvalues this close, as many as a block is wide, may stand for more of them: a start of so many
/// columns sees no more copies of one eigenvalue.
const CLOSE: f64 = 1e-3;
/// Blocks after which a search for more of them has shown what there is.
const SEARCH: usize = 8;

/// A thick-restart block Lanczos method on the smaller Gram matrix G of an operator, every block kept
/// orthogonal to all before.
pub(super) struct Lanczos<'a> {
    sides: &'a Sides<'a>,
    rank: usize,
    most: usize,
    tolerance: f64,
    basis: Basis,
    /// `Q^T G Q` for the columns Q of the basis.
    projected: RowMatrix<f64>,
    /// The largest entry met of it: the size of G.
    scale: f64,
    rng: StdRng,
    products: usize,
}

/// What the basis says about the spectrum of G.
struct Ritz {
    /// Leading eigenvalues, decreasing.
    values: Vec<f64>,
    /// Their vectors in the basis, width x values.
    vectors: RowMatrix<f64>,
    /// The residual of the worst of the first `rank` over what is allowed.
    distance: f64,
}

impl<'a> Lanczos<'a> {
    /// For `rank` vectors, with at most `most` columns in the basis.
    pub fn new(sides: &'a Sides<'a>, rank: usize, most: usize, tolerance: f64, seed: u64) -> Self {
        Self {
            sides,
            rank,
            most,
            tolerance,
            basis: Basis::new(sides.smaller),
            projected: RowMatrix::zeros(most + WIDTH, most + WIDTH),
            scale: 0.0,
            rng: StdRng::seed_from_u64(seed),
            products: 0,
        }
    }

    /// The leading eigenvectors, n x rank, and the number of columns multiplied by G.
    pub fn run(mut self) -> Result<(RowMatrix<f64>, usize), LinalgError> {
        let mut next = self.random_block();
        let mut check_at = self.rank + WIDTH;
        let mut last_check: Option<(usize, f64)> = None;
        // The eigenvalues when the search for more copies of them began.
        let mut searched: Option<Vec<f64>> = None;
        let mut restarts = 0;
        let mut restarted = true;
        loop {
            self.basis.push(next);
            next = self.extend(restarted)?;
            restarted = false;
            let width = self.basis.width();
            let exhausted = !next.live.contains(&true);
            let full = width + WIDTH > self.most;
            if width < check_at && !full && !exhausted {
                continue;
            }
            let ritz = self.ritz(&next)?;
            let there = ritz.distance <= 1.0;
            let settled = there && (!self.hides_more(&ritz) || ritz.agrees(searched.as_deref()));
            if exhausted || settled || restarts == RESTARTS {
                let vectors = self.basis.combine(&ritz.leading(self.rank));
                return Ok((vectors, self.products));
            }
            let kept = if there {
                searched = Some(ritz.values[..self.rank].to_vec());
                self.restart(&ritz, self.rank);
                next = self.random_block();
                self.basis.width()
            } else if full {
                self.restart(&ritz, self.rank + self.rank / 2 + WIDTH);
                self.basis.width()
            } else {
                width
            };
            let now = (width, ritz.distance);
            let blocks = if there {
                SEARCH
            } else {
                blocks_to_go(last_check, now)
            };
            check_at = kept + blocks * WIDTH;
            (restarted, last_check) = (kept < width, (kept == width).then_some(now));
            restarts += usize::from(restarted);
        }
    }

    /// A random block orthogonal to the basis.
    fn random_block(&mut self) -> Block {
        let mut start = self.basis.random(&mut self.rng);
        for _ in 0..2 {
            self.basis.project(0, &mut start);
        }
        self.basis.orthonormalise(start, 0.0, &mut self.rng)
    }

    /// Multiplies the last block by G, writes down its components in the basis, and makes the rest of
    /// it the next block.
    fn extend(&mut self, restarted: bool) -> Result<Block, LinalgError> {
        let width = self.basis.width();
        let column = width - WIDTH;
        let mut w = match self.basis.last() {
            Some(last) => self.sides.gram(last),
            None => return Err(WHAT),
        };
        self.products += WIDTH;
        // All there is in exact arithmetic lies along the last two blocks, or after a restart along
        // all; the second pass takes off what rounding has brought back.
        let first = if restarted {
            0
        } else {
            (width / WIDTH).saturating_sub(2)
        };
        let mut components = vec![[0.0; WIDTH]; width];
        for first in [first, 0] {
            let some = self.basis.project(first, &mut w);
            let all = components[first * WIDTH..].iter_mut();
            all.zip(&some)
                .for_each(|(x, y)| x.iter_mut().zip(y).for_each(|(x, y)| *x += y));
        }
        for (a, row) in components.iter().enumerate() {
            for (c, &x) in row.iter().enumerate() {
                if !x.is_finite() {
                    return Err(WHAT);
                }
                self.scale = self.scale.max(x.abs());
                let half = if a < column {
                    x
                } else {
                    (x + components[column + c][a - column]) / 2.0
                };
                self.projected.row_mut(a)[column + c] = half;
                self.projected.row_mut(column + c)[a] = half;
            }
        }
        Ok(self.basis.orthonormalise(w, self.scale, &mut self.rng))
    }

    fn ritz(&self, next: &Block) -> Result<Ritz, LinalgError> {
        let width = self.basis.width();
        let live: Vec<usize> = (0..width).filter(|&c| self.basis.live()[c]).collect();
        let n = live.len();
        let projected = RowMatrix::from_fn(n, n, |i, j| self.projected.get(live[i], live[j]));
        let eigen = symmetric_eigen(projected.view())?;
        let mut vectors = RowMatrix::zeros(width, n);
        for (i, &c) in live.iter().enumerate() {
            (0..n).for_each(|k| vectors.row_mut(c)[k] = eigen.vectors.get(k, i));
        }
        let values = eigen.values;
        let largest = values.first().map_or(0.0, |x| x.max(0.0));
        let mut distance = if n < self.rank { f64::INFINITY } else { 0.0 };
        for (k, value) in values.iter().take(self.rank).enumerate() {
            // G z = value z + (next block) (factor) (the last components of z).
            let last = |c: usize| vectors.get(width - WIDTH + c, k);
            let rest = next.factor.iter().map(|row| {
                let rows = row.iter().enumerate();
                rows.map(|(c, x)| x * last(c)).sum::<f64>().powi(2)
            });
            let size = rest.sum::<f64>().sqrt();
            // A residual r of G is r / s of the singular triplet; values that are 0 have none.
            let share = (value.max(0.0) / largest).sqrt().max(self.tolerance);
            let allowed = (self.tolerance * share).max(1e-15) * largest;
            if size > 0.0 {
                distance = f64::max(distance, size / allowed);
            }
        }
        Ok(Ritz {
            values,
            vectors,
            distance,
        })
    }

    /// Whether there are as many eigenvalues in one place as a block can see there.
    fn hides_more(&self, ritz: &Ritz) -> bool {
        let floor = 1e-14 * ritz.values[0];
        ritz.values[..self.rank].windows(WIDTH).any(|some| {
            let (first, last) = (some[0], some[WIDTH - 1]);
            first > floor && last >= first * (1.0 - CLOSE)
        })
    }

    /// Keeps only the leading vectors, in whole blocks.
    fn restart(&mut self, ritz: &Ritz, least: usize) {
        let keep = least.next_multiple_of(WIDTH);
        let there = keep.min(ritz.values.len());
        let vectors = self.basis.combine(&ritz.leading(keep));
        let mut basis = Basis::new(self.sides.smaller);
        for first in (0..keep).step_by(WIDTH) {
            let mut columns = RowMatrix::zeros(vectors.nrows(), WIDTH);
            for (i, row) in vectors.rows().enumerate() {
                columns
                    .row_mut(i)
                    .copy_from_slice(&row[first..first + WIDTH]);
            }
            basis.push(Block {
                columns,
                factor: [[0.0; WIDTH]; WIDTH],
                live: std::array::from_fn(|c| first + c < there),
            });
        }
        self.basis = basis;
        self.projected.data_mut().fill(0.0);
        for k in 0..there {
            self.projected.row_mut(k)[k] = ritz.values[k];
        }
    }
}

impl Ritz {
    /// The first `k` vectors; zeros where there are fewer.
    fn leading(&self, k: usize) -> RowMatrix<f64> {
        let n = self.vectors.ncols();
        RowMatrix::from_fn(self.vectors.nrows(), k, |i, j| {
            if j < n { self.vectors.get(i, j) } else { 0.0 }
        })
    }

    fn agrees(&self, before: Option<&[f64]>) -> bool {
        let close = |(x, y): (&f64, &f64)| (x - y).abs() <= 1e-7 * self.values[0];
        before.is_some_and(|before| before.iter().zip(&self.values).all(close))
    }
}

/// How many blocks to add before the next look, if the logarithm of the distance falls as it did.
fn blocks_to_go(before: Option<(usize, f64)>, now: (usize, f64)) -> usize {
    const MOST: usize = 4;
    let Some(before) = before.filter(|before| before.1 > now.1 && before.1.is_finite()) else {
        return MOST;
    };
    let rate = (before.1 / now.1).ln() / (now.0 - before.0) as f64;
    let columns = now.1.max(1.0).ln() / rate;
    ((0.9 * columns / WIDTH as f64).ceil() as usize).clamp(1, MOST)
}
