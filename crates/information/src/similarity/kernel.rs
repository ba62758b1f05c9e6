use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::InformationError;

/// A positive semidefinite similarity of laws.
///
/// `exp(-beta TV^2)` is not among them: it is not positive semidefinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SimilarityKernel {
    /// `sum sqrt(p q)`.
    Bhattacharyya,
    /// `exp(-beta H^2)`, H the Hellinger distance; of a model exact to about beta times 1e-6.
    Hellinger(f64),
    /// `sum p q`.
    ExpectedLikelihood,
    /// `log 2 - JS`, nats.
    JensenShannon,
    /// `exp(-beta JS)`.
    ExpJensenShannon(f64),
}

impl SimilarityKernel {
    /// All of them, with this beta.
    pub fn all(beta: f64) -> [Self; 5] {
        [
            Self::Bhattacharyya,
            Self::Hellinger(beta),
            Self::ExpectedLikelihood,
            Self::JensenShannon,
            Self::ExpJensenShannon(beta),
        ]
    }

    pub(super) fn needs_divergence(self) -> bool {
        matches!(self, Self::JensenShannon | Self::ExpJensenShannon(_))
    }

    /// The kernel, from the overlap `sum sqrt(pq)` (or `sum pq`) or the Jensen-Shannon divergence.
    pub(super) fn of(self, value: f64) -> f64 {
        match self {
            Self::Bhattacharyya | Self::ExpectedLikelihood => value,
            Self::Hellinger(beta) => (-beta * (1.0 - value).max(0.0)).exp(),
            Self::JensenShannon => (2f64.ln() - value).max(0.0),
            Self::ExpJensenShannon(beta) => (-beta * value).exp(),
        }
    }
}

impl FromStr for SimilarityKernel {
    type Err = InformationError;

    /// `bhattacharyya`, `hellinger`, `expected-likelihood`, `jensen-shannon`, `exp-jensen-shannon`; beta,
    /// 1 unless it is named, after a colon.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || {
            InformationError::argument(
                "similarity",
                format!(
                    "`{text}` is not known; known are bhattacharyya, hellinger[:BETA], expected-likelihood, jensen-shannon and exp-jensen-shannon[:BETA]"
                ),
            )
        };
        let (name, beta) = match text.split_once(':') {
            Some((name, beta)) => (name, Some(beta.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        let kernel = match (name, beta) {
            ("bhattacharyya", None) => Self::Bhattacharyya,
            ("hellinger", beta) => Self::Hellinger(beta.unwrap_or(1.0)),
            ("expected-likelihood", None) => Self::ExpectedLikelihood,
            ("jensen-shannon", None) => Self::JensenShannon,
            ("exp-jensen-shannon", beta) => Self::ExpJensenShannon(beta.unwrap_or(1.0)),
            _ => return Err(unknown()),
        };
        check_beta(kernel)?;
        Ok(kernel)
    }
}

pub(super) fn check_beta(kernel: SimilarityKernel) -> Result<(), InformationError> {
    match kernel {
        SimilarityKernel::Hellinger(beta) | SimilarityKernel::ExpJensenShannon(beta)
            if !(beta > 0.0 && beta.is_finite()) =>
        {
            Err(InformationError::argument(
                "beta",
                format!("{beta}: it must be a number above 0"),
            ))
        }
        _ => Ok(()),
    }
}

impl fmt::Display for SimilarityKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bhattacharyya => f.write_str("bhattacharyya"),
            Self::Hellinger(beta) => write!(f, "hellinger (beta {beta})"),
            Self::ExpectedLikelihood => f.write_str("expected likelihood"),
            Self::JensenShannon => f.write_str("jensen-shannon"),
            Self::ExpJensenShannon(beta) => write!(f, "exp jensen-shannon (beta {beta})"),
        }
    }
}

impl Serialize for SimilarityKernel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
