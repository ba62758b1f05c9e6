//! A point of Q(L) as a sum of extremal rays, by its level sets.

use serde::Serialize;

use crate::rays::Sets;
use crate::{MetricError, PrefixForest, Space};

/// A part of a canonical decomposition: a weight times the ray of a connected lower set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// Its weight, positive; 0 or infinite where a float cannot hold it.
    #[serde(serialize_with = "crate::extended::one")]
    pub weight: f64,
    /// The logarithm of its weight.
    pub log_weight: f64,
    /// The parts whose sets it is made of, beside its own texts.
    pub parts: Vec<usize>,
    /// The texts that are in none of those.
    pub texts: Vec<usize>,
}

/// `z = Σ weight x ray`, the ray of a connected lower set S being exp f on S and 0 off it: at most n parts, whose sets are
/// disjoint or one within the other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decomposition {
    /// f, the potential in whose coordinates `z exp(-f)` the parts are sets.
    pub potential: Vec<f64>,
    /// The parts, smaller sets before those they are within.
    pub parts: Vec<Part>,
}

/// Rounding of a level, as a share of the logarithms that it is the difference of.
const ROUNDING: f64 = 1e-13;

impl Decomposition {
    /// The connected lower set of a part, increasing.
    pub fn members(&self, part: usize) -> Vec<usize> {
        let (mut out, mut stack) = (Vec::new(), vec![part]);
        while let Some(part) = stack.pop().and_then(|i| self.parts.get(i)) {
            out.extend(&part.texts);
            stack.extend(&part.parts);
        }
        out.sort_unstable();
        out
    }

    /// The point that it decomposes. O(n + parts).
    pub fn point(&self) -> Vec<f64> {
        // Logarithms of levels: sums of weights from the outermost part inwards.
        let mut levels = vec![f64::NEG_INFINITY; self.potential.len()];
        let mut above = vec![f64::NEG_INFINITY; self.parts.len()];
        for (i, part) in self.parts.iter().enumerate().rev() {
            let (low, high) = match above[i] < part.log_weight {
                true => (above[i], part.log_weight),
                false => (part.log_weight, above[i]),
            };
            let level = high + (low - high).exp().ln_1p();
            part.parts.iter().for_each(|&inner| above[inner] = level);
            part.texts.iter().for_each(|&text| levels[text] = level);
        }
        let terms = levels.iter().zip(&self.potential);
        terms.map(|(u, f)| (u + f).exp()).collect()
    }
}

impl Space {
    /// The canonical decomposition of a point of Q(L): its level sets in the coordinates of a potential, split into
    /// connected parts. O(n log n + covers).
    ///
    /// # Errors
    /// A vector of another length, with NaN, infinite or negative entries, or outside of Q(L); no potential.
    ///
    /// *Source:* Gaubert, Vlassopoulos (arXiv 2405.12264); the layers of Stanley, *Two poset polytopes* (1986).
    pub fn decompose(&self, z: &[f64]) -> Result<Decomposition, MetricError> {
        let potential = self.potential("a decomposition")?;
        self.require_in(crate::Polyhedron::Q, "the vector", z)?;
        let below = (0..self.len())
            .map(|j| self.covered_by(j).to_vec())
            .collect();
        Ok(by_levels(
            z,
            potential,
            below,
            self.sorted().iter().rev().copied(),
        ))
    }
}

impl PrefixForest {
    /// As [`Space::decompose`], for a forest of any size: O(n log n), O(n) memory.
    ///
    /// # Errors
    /// As there.
    pub fn decompose(&self, z: &[f64]) -> Result<Decomposition, MetricError> {
        self.require_cone(z)?;
        let below = |text| self.effective_parent(text).into_iter().collect();
        let below = (0..self.len()).map(below).collect();
        Ok(by_levels(z, self.potential(), below, (0..self.len()).rev()))
    }
}

/// The merge tree of the level sets of `z exp(-f)`: texts come in by decreasing level, and join the parts next to them.
/// `below` has the covering pairs, `top_down` every text before all that it extends.
fn by_levels(
    z: &[f64],
    potential: Vec<f64>,
    below: Vec<Vec<usize>>,
    top_down: impl Iterator<Item = usize>,
) -> Decomposition {
    let n = z.len();
    // As logarithms: levels may be further apart than floats reach.
    let level = |(z, f): (&f64, &f64)| z.ln() - f;
    let mut levels: Vec<f64> = z.iter().zip(&potential).map(level).collect();
    // In the cone a text's level is at least that of those above it; what rounding took is given back.
    for j in top_down {
        for &i in &below[j] {
            levels[i] = levels[i].max(levels[j]);
        }
    }
    let mut order: Vec<usize> = (0..n).filter(|&i| levels[i] > f64::NEG_INFINITY).collect();
    order.sort_by(|&a, &b| levels[b].total_cmp(&levels[a]));
    // Levels that rounding alone keeps apart are one, or each would be a part of its own.
    let mut same = f64::INFINITY;
    for &text in &order {
        let size = z[text].ln().abs() + potential[text].abs();
        if same - levels[text] > ROUNDING * (10.0 + size) {
            same = levels[text];
        }
        levels[text] = same;
    }
    order.sort_by(|&a, &b| levels[b].total_cmp(&levels[a]).then(a.cmp(&b)));
    let mut above: Vec<Vec<usize>> = vec![Vec::new(); n];
    for (j, lower) in below.iter().enumerate() {
        lower.iter().for_each(|&i| above[i].push(j));
    }
    let mut growing = Growing {
        sets: Sets::new(n),
        sinces: vec![f64::NAN; n],
        texts: vec![Vec::new(); n],
        inner: vec![Vec::new(); n],
        parts: Vec::new(),
    };
    for &text in &order {
        growing.add(text, levels[text]);
        for &other in below[text].iter().chain(&above[text]) {
            growing.join(other, text, levels[text]);
        }
    }
    let mut roots: Vec<usize> = order.iter().map(|&i| growing.sets.root(i)).collect();
    roots.sort_unstable();
    roots.dedup();
    for root in roots {
        growing.end(root, f64::NEG_INFINITY);
    }
    let mut parts = growing.parts;
    for part in &mut parts {
        part.texts.sort_unstable();
    }
    Decomposition { potential, parts }
}

/// Connected sets that grow as the level falls, each known by its root.
struct Growing {
    sets: Sets,
    /// The level that a set is at since its last part ended; NaN of a text that is in none yet.
    sinces: Vec<f64>,
    /// The texts that came since.
    texts: Vec<Vec<usize>>,
    /// The part that ended last, or those of the sets that were joined.
    inner: Vec<Vec<usize>>,
    parts: Vec<Part>,
}

impl Growing {
    fn add(&mut self, text: usize, level: f64) {
        self.sinces[text] = level;
        self.texts[text].push(text);
    }

    /// Joins the sets of two texts, the second of which is in; the first may not be yet.
    fn join(&mut self, other: usize, text: usize, level: f64) {
        let (root, here) = (self.sets.root(other), self.sets.root(text));
        if self.sinces[root].is_nan() || root == here {
            return;
        }
        self.end(root, level);
        self.end(here, level);
        // The larger list takes the smaller one in.
        let (small, large) = match self.texts[root].len() < self.texts[here].len() {
            true => (root, here),
            false => (here, root),
        };
        let moved = std::mem::take(&mut self.texts[small]);
        self.texts[large].extend(moved);
        let moved = std::mem::take(&mut self.inner[small]);
        self.inner[large].extend(moved);
        self.sets.join(small, large);
        self.sinces[large] = level;
    }

    /// A part ends where the level falls below that at which it came to be.
    fn end(&mut self, root: usize, level: f64) {
        let since = self.sinces[root];
        if since > level {
            // log(e^since - e^level), however near they are.
            let log_weight = since + (-(level - since).exp_m1()).ln();
            self.parts.push(Part {
                weight: log_weight.exp(),
                log_weight,
                parts: std::mem::take(&mut self.inner[root]),
                texts: std::mem::take(&mut self.texts[root]),
            });
            self.inner[root].push(self.parts.len() - 1);
        }
    }
}
