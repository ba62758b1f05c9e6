//! The polyhedra of a space: which vectors are in them, and the nearest ones of those that are not.

use lawvere_core::RowMatrix;
use lawvere_core::TropicalMatrix;
use lawvere_core::tropical::{hom, plus};
use serde::Serialize;

use crate::{MetricError, Space, funk_distance};

/// The polyhedra of a space with n texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Polyhedron {
    /// `P(L) = {x : x_i <= x_j + d_ij}`, the (min, +) span of the Yoneda images.
    P,
    /// `P^(L) = {y : y_j <= y_i + d_ij}`, that of the co-Yoneda images.
    CoP,
    /// `Q(L) = {z >= 0 : z_i >= Pr(a_j | a_i) z_j}`: P(L) through `z = exp(-x)`.
    Q,
}

impl Polyhedron {
    /// Its name in the paper.
    pub fn name(self) -> &'static str {
        match self {
            Self::P => "P",
            Self::CoP => "P^",
            Self::Q => "Q",
        }
    }
}

/// A condition of a polyhedron that a vector misses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Missed {
    /// The lower text of the pair.
    pub from: usize,
    /// The upper one.
    pub to: usize,
    /// By how much: nats, in Q a difference of coordinates.
    #[serde(serialize_with = "crate::extended::one")]
    pub by: f64,
}

/// A vector's nearest points of P(L), and how far it is from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Projection {
    /// `d ⊗ x`, the greatest point of P(L) below x.
    #[serde(serialize_with = "crate::extended::list")]
    pub below: Vec<f64>,
    /// `y_j = max_i hom(d_ij, x_i)`, the least point above x.
    #[serde(serialize_with = "crate::extended::list")]
    pub above: Vec<f64>,
    /// `max_ij (x_i - x_j - d_ij)`: 0 in P(L), and for finite x the Hilbert distance to P(L), which both points
    /// realise. `+inf` where an infinite entry misses.
    #[serde(serialize_with = "crate::extended::one")]
    pub distance: f64,
}

impl Space {
    /// `Y(a_k) = d(-, a_k)`, column k.
    pub fn yoneda(&self, k: usize) -> Vec<f64> {
        (0..self.len()).map(|i| self.d(i, k)).collect()
    }

    /// `Y^(a_k) = d(a_k, -)`, row k.
    pub fn co_yoneda(&self, k: usize) -> Vec<f64> {
        self.distances().row(k).to_vec()
    }

    /// The condition of a polyhedron that a vector misses most; none if it is in it, up to `tolerance`, which is relative to
    /// the coordinates (to 1 nat where those are smaller; in Q, a cone, to whatever they are). O(n^2).
    ///
    /// # Errors
    /// A vector of another length or with NaN; one with an entry below 0 or infinite, for Q.
    pub fn missed(
        &self,
        polyhedron: Polyhedron,
        x: &[f64],
        tolerance: f64,
    ) -> Result<Option<Missed>, MetricError> {
        self.require_vector("the vector", x)?;
        if let (Polyhedron::Q, Some(text)) = (
            polyhedron,
            x.iter().position(|z| !(z.is_finite() && *z >= 0.0)),
        ) {
            return Err(MetricError::VectorEntry {
                what: "the vector",
                text: self.names()[text].clone(),
                value: x[text],
                wanted: "finite and at least 0 in Q",
            });
        }
        let mut worst: Option<Missed> = None;
        for from in 0..self.len() {
            for (to, &d) in self.distances().row(from).iter().enumerate() {
                let size = |x: f64| if x.is_finite() { x.abs() } else { 0.0 };
                let nats = size(x[from]).max(size(x[to])).max(1.0);
                let (by, unit) = match polyhedron {
                    Polyhedron::P => (hom(plus(x[to], d), x[from]), nats),
                    Polyhedron::CoP => (hom(plus(x[from], d), x[to]), nats),
                    Polyhedron::Q => {
                        let asked = (-d).exp() * x[to];
                        (asked - x[from], asked)
                    }
                };
                if by > tolerance * unit && worst.is_none_or(|w| by > w.by) {
                    worst = Some(Missed { from, to, by });
                }
            }
        }
        Ok(worst)
    }

    /// The nearest points of P(L) to a vector. O(n^2).
    ///
    /// # Errors
    /// A vector of another length or with NaN.
    pub fn project(&self, x: &[f64]) -> Result<Projection, MetricError> {
        self.require_vector("the vector", x)?;
        let below = self.distances().times(x)?;
        let column = TropicalMatrix::new(
            RowMatrix::from_vec(x.to_vec(), x.len(), 1)
                .map_err(lawvere_core::TropicalError::from)?,
        )?;
        let above = self
            .distances()
            .residual(&column)?
            .entries()
            .data()
            .to_vec();
        // Of a vector without a finite entry the maximum is -inf, and it is in P(L).
        let distance = funk_distance(&below, x).max(0.0);
        Ok(Projection {
            below,
            above,
            distance,
        })
    }

    /// The only smallest set of texts whose Yoneda images span a point x of P(L): `x = min_k (x_k + Y(a_k))` over them,
    /// with the coordinates x_k. O(n^2).
    ///
    /// # Errors
    /// A vector of another length or with NaN, or outside of P(L).
    pub fn generators(&self, x: &[f64]) -> Result<Vec<usize>, MetricError> {
        self.require_in(Polyhedron::P, "the vector", x)?;
        let needed = |&k: &usize| {
            let others = (0..self.len()).filter(|&j| j != k);
            let by_others = others.map(|j| plus(self.d(k, j), x[j]));
            x[k] + crate::TOLERANCE < by_others.fold(f64::INFINITY, f64::min)
        };
        let plain = |&k: &usize| x[k] < f64::INFINITY;
        Ok((0..self.len()).filter(plain).filter(needed).collect())
    }

    pub(crate) fn require_in(
        &self,
        polyhedron: Polyhedron,
        what: &'static str,
        x: &[f64],
    ) -> Result<(), MetricError> {
        match self.missed(polyhedron, x, crate::TOLERANCE)? {
            None => Ok(()),
            Some(Missed { from, to, by }) => Err(MetricError::Outside {
                what,
                polyhedron: polyhedron.name(),
                from: self.names()[from].clone(),
                to: self.names()[to].clone(),
                by,
            }),
        }
    }
}
