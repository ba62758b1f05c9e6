//! In-support equations on logits `W h_j` of given context embeddings, solved with the least norm.

use lawvere_core::{RowMatrix, SparseRows, sum};
use rayon::prelude::*;

use crate::least_norm::{LeastNorm, Limits, ROUNDING, axpy, dot, norm};

/// The in-support equations: logits of every support equal given ones up to a constant. Logits are
/// those of the entries of supports of more than one token, context after context.
pub(crate) struct Equations<'a> {
    embeddings: &'a RowMatrix<f64>,
    vocabulary: usize,
    /// Where the entries of each context begin.
    starts: Vec<usize>,
    token: Vec<u32>,
    context: Vec<u32>,
    /// Centred on each support.
    target: Vec<f64>,
    /// The entries of each token: where they begin, and their numbers.
    token_starts: Vec<usize>,
    of_token: Vec<usize>,
}

/// Entries that one thread takes at least.
const GRAIN: usize = 256;

impl<'a> Equations<'a> {
    /// With the values of `target` on the pattern of the supports.
    pub fn new(target: &SparseRows<f64>, embeddings: &'a RowMatrix<f64>) -> Self {
        let mut out = Self {
            embeddings,
            vocabulary: target.ncols(),
            starts: vec![0],
            token: Vec::new(),
            context: Vec::new(),
            target: Vec::new(),
            token_starts: vec![0; target.ncols() + 1],
            of_token: Vec::new(),
        };
        for (j, (tokens, values)) in target.rows().enumerate() {
            if tokens.len() > 1 {
                out.token.extend(tokens);
                out.context.resize(out.token.len(), j as u32);
                out.target.extend(values);
                out.starts.push(out.token.len());
            }
        }
        let mut centred = std::mem::take(&mut out.target);
        out.centre(&mut centred);
        out.target = centred;
        for &v in &out.token {
            out.token_starts[v as usize + 1] += 1;
        }
        for v in 0..out.vocabulary {
            out.token_starts[v + 1] += out.token_starts[v];
        }
        let mut free = out.token_starts.clone();
        out.of_token = vec![0; out.token.len()];
        for (entry, &v) in out.token.iter().enumerate() {
            out.of_token[free[v as usize]] = entry;
            free[v as usize] += 1;
        }
        out
    }

    /// The norm of the values asked for.
    pub fn target_norm(&self) -> f64 {
        norm(&self.target)
    }
}

impl Equations<'_> {
    fn logits(&self, weights: &RowMatrix<f64>) -> Vec<f64> {
        let entries = (0..self.token.len()).into_par_iter().with_min_len(GRAIN);
        let mut out: Vec<f64> = entries
            .map(|entry| {
                let w = weights.row(self.token[entry] as usize);
                let h = self.embeddings.row(self.context[entry] as usize);
                lawvere_core::vector::dot(w, h)
            })
            .collect();
        self.centre(&mut out);
        out
    }

    /// What weights leave of the values asked for.
    fn rest(&self, weights: &RowMatrix<f64>) -> Vec<f64> {
        let mut rest = self.target.clone();
        axpy(&mut rest, -1.0, &self.logits(weights));
        rest
    }

    fn adjoint(&self, y: &[f64]) -> RowMatrix<f64> {
        // Centred already but for rounding, which no weights could answer.
        let mut y = y.to_vec();
        self.centre(&mut y);
        let k = self.embeddings.ncols();
        let mut out = RowMatrix::zeros(self.vocabulary, k);
        if k > 0 {
            let rows = out.data_mut().par_chunks_mut(k).with_min_len(16);
            rows.enumerate().for_each(|(v, row)| {
                for &entry in &self.of_token[self.token_starts[v]..self.token_starts[v + 1]] {
                    let h = self.embeddings.row(self.context[entry] as usize);
                    row.iter_mut().zip(h).for_each(|(o, h)| *o += y[entry] * h);
                }
            });
        }
        out
    }

    fn centre(&self, y: &mut [f64]) {
        for bounds in self.starts.windows(2) {
            let part = &mut y[bounds[0]..bounds[1]];
            let mean = sum(part.iter().copied()) / part.len() as f64;
            part.iter_mut().for_each(|y| *y -= mean);
        }
    }

    /// Weights of least norm among those that come closest to the equations.
    ///
    /// Conjugate gradients on the least-squares problem. The weights are `A^T y` for a y kept beside
    /// them, and any y proves that weights that meet the equations have a norm of at least
    /// `<y,t> / |A^T y|`; where none do, the residual is such a y that makes the bound grow without limit.
    pub fn solve(&self, limits: &Limits, on_progress: &mut dyn FnMut(&LeastNorm)) -> LeastNorm {
        let mut out = LeastNorm::new((self.vocabulary, self.embeddings.ncols()));
        let largest = maximum(&self.target).max(f64::MIN_POSITIVE);
        let size = norm(self.embeddings.data());
        let mut rest = self.target.clone();
        let mut multiplier = vec![0.0; rest.len()];
        let mut direction = multiplier.clone();
        let mut step = out.weights.clone();
        // Gradients: where directions began, and at the last step.
        let (mut start, mut before) = (f64::INFINITY, f64::INFINITY);
        loop {
            let mut pulled = self.adjoint(&rest);
            let mut violation = maximum(&rest) / largest;
            if out.iterations > 0 && violation <= limits.violation {
                // The recurrence drifts from what the weights leave, and that is what they are judged by.
                let left = self.rest(&out.weights);
                violation = maximum(&left) / largest;
                if violation > limits.violation {
                    (pulled, rest) = (self.adjoint(&left), left);
                    start = f64::INFINITY;
                }
            }
            let gradient = norm(pulled.data());
            let pulls = [
                (&multiplier, norm(self.adjoint(&multiplier).data())),
                (&rest, gradient),
            ];
            for (y, pull) in pulls {
                let value = dot(y, &self.target);
                if value > 0.0 {
                    let rounding = ROUNDING * size * norm(y);
                    out.lower_bound = out.lower_bound.max(value / (pull + rounding));
                }
            }
            out.displacement = norm(&rest);
            out.violation = violation;
            out.value = (violation <= limits.violation).then(|| norm(out.weights.data()));
            on_progress(&out);
            // Of a gradient that may be rounding nothing can be gained: these are the closest weights.
            let closest = gradient <= ROUNDING * size * out.displacement;
            if out.judge(limits) || closest || out.iterations >= limits.iterations {
                return out;
            }
            out.iterations += 1;
            // Directions begin anew where the gradient is small beside the one they began with: the rounding of their
            // first steps would lead from there on.
            let anew = gradient <= 1e-8 * start || start.is_infinite();
            let beta = match anew {
                true => 0.0,
                false => (gradient / before).powi(2),
            };
            if anew {
                start = gradient;
            }
            before = gradient;
            let terms = direction.iter_mut().zip(&rest);
            terms.for_each(|(d, r)| *d = r + beta * *d);
            let terms = step.data_mut().iter_mut().zip(pulled.data());
            terms.for_each(|(s, p)| *s = p + beta * *s);
            let image = self.logits(&step);
            let t = gradient * gradient / dot(&image, &image);
            let mut left = rest.clone();
            axpy(&mut left, -t, &image);
            // What is left grows by rounding alone.
            let grown = norm(&left) / out.displacement;
            if grown.is_nan() || grown > 1.0 + 1e-9 {
                if anew {
                    return out;
                }
                start = f64::INFINITY;
                continue;
            }
            rest = left;
            axpy(out.weights.data_mut(), t, step.data());
            axpy(&mut multiplier, t, &direction);
        }
    }
}

fn maximum(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |a, x| a.max(x.abs()))
}
