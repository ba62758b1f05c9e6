use lawvere_core::EReal;
use lawvere_metric::{
    Boltzmann, Isbell, Isometry, MetricError, Missed, Polyhedron, Projection, Ray, TOLERANCE, dual,
    extended, yoneda_isometry,
};
use serde::Serialize;

use super::{Order, TextSet};
use crate::RunError;

/// What a space is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// Texts.
    pub texts: usize,
    /// How they are ordered.
    pub order: Order,
    /// Covering pairs of the effective order.
    pub covers: usize,
    /// `language model`, or `directed metric` where chains disagree.
    pub level: &'static str,
    /// Chains that disagree.
    pub breach: Option<String>,
    /// Whether there is a potential, f with d(a, b) = f(b) - f(a).
    pub potential: bool,
    /// Why there is none.
    pub no_potential: Option<String>,
    /// How exactly the Yoneda embeddings keep distances; of forests beyond a matrix of distances it is not measured.
    pub isometry: Option<Isometry>,
}

/// Looks at a space.
///
/// # Errors
/// None on a space that was read.
pub fn check(set: &TextSet) -> Result<Checked, RunError> {
    let Some(space) = &set.space else {
        let (forest, _) = forest(set)?;
        let covers = (0..forest.len()).filter(|&t| forest.effective_parent(t).is_some());
        return Ok(Checked {
            texts: forest.len(),
            order: set.order,
            covers: covers.count(),
            level: "language model",
            breach: None,
            potential: true,
            no_potential: None,
            isometry: None,
        });
    };
    let potential = space.potential("a decomposition");
    let breach = space.breach().map(ToString::to_string);
    Ok(Checked {
        texts: space.len(),
        order: set.order,
        covers: space.covers().count(),
        level: match breach {
            None => "language model",
            Some(_) => "directed metric",
        },
        breach,
        potential: potential.is_ok(),
        no_potential: potential.err().map(|e| e.to_string()),
        isometry: Some(yoneda_isometry(space.distances())?),
    })
}

/// Distances between two texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Distances {
    /// The names of the two.
    pub texts: [String; 2],
    /// d(a, b) = -log Pr(b|a), nats.
    pub distance: Option<EReal>,
    /// d(b, a).
    pub back: Option<EReal>,
    /// Pr(b|a).
    pub probability: f64,
}

/// The distances between two texts, both ways.
///
/// # Errors
/// Texts that there are not; too many texts for a matrix.
pub fn distance(set: &TextSet, a: &str, b: &str) -> Result<Distances, RunError> {
    let space = set.explicit()?;
    let (i, j) = (set.find(a)?, set.find(b)?);
    Ok(Distances {
        texts: [i, j].map(|k| set.names[k].clone()),
        distance: EReal::new(space.d(i, j)),
        back: EReal::new(space.d(j, i)),
        probability: (-space.d(i, j)).exp(),
    })
}

/// A text as a vector of distances.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Embedded {
    /// Its name.
    pub text: String,
    /// Y(a) = d(-, a).
    #[serde(serialize_with = "extended::list")]
    pub yoneda: Vec<f64>,
    /// Y^(a) = d(a, -).
    #[serde(serialize_with = "extended::list")]
    pub co_yoneda: Vec<f64>,
}

/// The Yoneda and co-Yoneda images of a text.
///
/// # Errors
/// As [`distance`].
pub fn embed(set: &TextSet, text: &str) -> Result<Embedded, RunError> {
    let space = set.explicit()?;
    let k = set.find(text)?;
    Ok(Embedded {
        text: set.names[k].clone(),
        yoneda: space.yoneda(k),
        co_yoneda: space.co_yoneda(k),
    })
}

/// The nearest points of P(L) to a vector, of forests of any size.
///
/// # Errors
/// A vector that does not fit.
pub fn project(set: &TextSet, x: &[f64]) -> Result<Projection, RunError> {
    if let Some(space) = &set.space {
        return Ok(space.project(x)?);
    }
    let (forest, order) = forest(set)?;
    let x = in_order(set, order, x)?;
    let (below, above) = (forest.project_below(&x)?, forest.project_above(&x)?);
    Ok(Projection {
        distance: lawvere_metric::funk_distance(&below, &x),
        below: TextSet::of_forest(order, &below),
        above: TextSet::of_forest(order, &above),
    })
}

/// Where a vector stands to P(L), and what spans it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spanned {
    /// Whether it is in P(L).
    pub member: bool,
    /// The condition that it misses most.
    pub missed: Option<Missed>,
    /// The smallest set of texts whose images span it, with their coordinates.
    pub generators: Vec<Coordinate>,
}

/// A coordinate of a vector.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Coordinate {
    /// The text.
    pub text: String,
    /// The coordinate.
    pub value: Option<EReal>,
}

/// Membership in P(L), coordinates and minimal generators.
///
/// # Errors
/// A vector that does not fit; too many texts for a matrix.
pub fn span(set: &TextSet, x: &[f64]) -> Result<Spanned, RunError> {
    let space = set.explicit()?;
    let missed = space.missed(Polyhedron::P, x, TOLERANCE)?;
    let generators = match missed {
        None => space.generators(x)?,
        Some(_) => Vec::new(),
    };
    let coordinate = |k: usize| Coordinate {
        text: set.names[k].clone(),
        value: EReal::new(x[k]),
    };
    Ok(Spanned {
        member: missed.is_none(),
        missed,
        generators: generators.into_iter().map(coordinate).collect(),
    })
}

/// The number of extremal rays; decimal strings, because of forests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RayCount {
    /// All of them.
    pub count: String,
    /// Those of Yoneda images.
    pub principal: String,
}

/// How many extremal rays Q(L) has.
///
/// # Errors
/// Too many texts to enumerate, and no forest.
pub fn count_rays(set: &TextSet) -> Result<RayCount, RunError> {
    let count = match (&set.forest, &set.space) {
        (Some((forest, _)), _) => forest.count_rays().to_string(),
        (None, _) => set.explicit()?.count_rays()?.to_string(),
    };
    Ok(RayCount {
        count,
        principal: set.names.len().to_string(),
    })
}

/// The extremal rays of Q(L).
///
/// # Errors
/// Too many texts to enumerate.
pub fn rays(set: &TextSet) -> Result<Vec<Ray>, RunError> {
    Ok(set.explicit()?.extremal_rays()?)
}

/// A point of Q(L) as a sum of rays.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decomposed {
    /// Weight by weight.
    pub parts: Vec<WeightedSet>,
    /// The potential in whose coordinates the rays are sets.
    pub potential: Vec<f64>,
}

/// A weight and the connected lower set whose ray it weighs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightedSet {
    /// The weight.
    pub weight: f64,
    /// The texts, increasing.
    pub texts: Vec<usize>,
    /// Their names.
    pub names: Vec<String>,
}

/// The canonical decomposition of a point of Q(L), of forests of any size.
///
/// # Errors
/// A vector that does not fit or is not in Q(L); no potential.
pub fn decompose(set: &TextSet, z: &[f64]) -> Result<Decomposed, RunError> {
    let (found, order) = match &set.space {
        Some(space) => (space.decompose(z)?, None),
        None => {
            let (forest, order) = forest(set)?;
            let z = in_order(set, order, z)?;
            (forest.decompose(&z)?, Some(order))
        }
    };
    let own = |k: usize| order.map_or(k, |order| order[k]);
    let part = |i: usize| {
        let mut texts: Vec<usize> = found.members(i).into_iter().map(own).collect();
        texts.sort_unstable();
        WeightedSet {
            weight: found.parts[i].weight,
            names: texts.iter().map(|&k| set.names[k].clone()).collect(),
            texts,
        }
    };
    Ok(Decomposed {
        parts: (0..found.parts.len()).map(part).collect(),
        potential: match order {
            None => found.potential.clone(),
            Some(order) => TextSet::of_forest(order, &found.potential),
        },
    })
}

/// The two extensions of a vector from some texts to all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Extensions {
    /// The texts that it is given on.
    pub texts: Vec<String>,
    /// `i_!`, the greatest.
    #[serde(serialize_with = "extended::list")]
    pub greatest: Vec<f64>,
    /// `i_*`, the least.
    #[serde(serialize_with = "extended::list")]
    pub least: Vec<f64>,
}

/// The Kan extensions of a vector on `texts`.
///
/// # Errors
/// Texts that there are not; a vector that does not fit, or is not in the polyhedron of those texts.
pub fn extend(set: &TextSet, texts: &[String], x: &[f64]) -> Result<Extensions, RunError> {
    let space = set.explicit()?;
    let chosen: Vec<usize> = texts
        .iter()
        .map(|t| set.find(t))
        .collect::<Result<_, _>>()?;
    let part = space.restricted(&chosen)?;
    if let Some(Missed { from, to, by }) = part.missed(Polyhedron::P, x, TOLERANCE)? {
        return Err(MetricError::Outside {
            what: "the vector",
            polyhedron: "P of the chosen texts",
            from: part.names()[from].clone(),
            to: part.names()[to].clone(),
            by,
        }
        .into());
    }
    Ok(Extensions {
        greatest: space.greatest_extension(&chosen, x)?,
        least: space.least_extension(&chosen, x)?,
        texts: chosen.into_iter().map(|i| set.names[i].clone()).collect(),
    })
}

/// A text out of its parts, at several temperatures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Approximated {
    /// The text.
    pub text: String,
    /// Its parts.
    pub parts: Vec<String>,
    /// The approximations.
    pub temperatures: Vec<Boltzmann>,
}

/// The Boltzmann approximation of a text by some texts below it; by all others below it where none are named.
///
/// # Errors
/// Texts that there are not, or not below; a temperature below 0.
pub fn boltzmann(
    set: &TextSet,
    text: &str,
    parts: &[String],
    temperatures: &[f64],
) -> Result<Approximated, RunError> {
    let space = set.explicit()?;
    let k = set.find(text)?;
    let parts: Vec<usize> = match parts {
        [] => (0..space.len()).filter(|&i| space.extends(i, k)).collect(),
        some => some.iter().map(|t| set.find(t)).collect::<Result<_, _>>()?,
    };
    if parts.is_empty() {
        return Err(RunError::Usage(format!(
            "no text is below {:?}, which could take part in its approximation",
            set.names[k]
        )));
    }
    let at = |&t: &f64| space.boltzmann(k, &parts, t);
    Ok(Approximated {
        text: set.names[k].clone(),
        temperatures: temperatures.iter().map(at).collect::<Result<_, _>>()?,
        parts: parts.into_iter().map(|i| set.names[i].clone()).collect(),
    })
}

/// Isbell's conjugate and completion of a vector.
///
/// # Errors
/// A vector that does not fit; too many texts for a matrix.
pub fn isbell(set: &TextSet, x: &[f64]) -> Result<Isbell, RunError> {
    Ok(set.explicit()?.complete(x)?)
}

/// The points of the Isbell completion of a space with a potential f, up to adding constants: one a cut, `-f` on its texts
/// and infinite off them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Completion {
    /// f.
    pub potential: Vec<f64>,
    /// The cuts that hold a text.
    pub cuts: Vec<Cut>,
}

/// A cut of Dedekind and MacNeille: all that is below everything that is above it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Its texts, increasing.
    pub texts: Vec<usize>,
    /// Their names.
    pub names: Vec<String>,
    /// The text that it is all below of, if it is the image of one.
    pub principal: Option<usize>,
}

/// The most cuts that are listed.
const MOST_CUTS: usize = 10_000;

/// All points of the Isbell completion, by cuts.
///
/// # Errors
/// No potential; more than 10,000 cuts; too many texts for a matrix.
pub fn completion(set: &TextSet) -> Result<Completion, RunError> {
    let space = set.explicit()?;
    let potential = space.potential("listing the completion's points by cuts")?;
    let cut = |texts: Vec<usize>| {
        let above_all = |&k: &usize| texts.iter().all(|&i| space.d(i, k) < f64::INFINITY);
        Cut {
            principal: texts.iter().copied().find(above_all),
            names: texts.iter().map(|&i| set.names[i].clone()).collect(),
            texts,
        }
    };
    Ok(Completion {
        cuts: space.cuts(MOST_CUTS)?.into_iter().map(cut).collect(),
        potential,
    })
}

/// A vector on the other side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dual {
    /// `-x`.
    #[serde(serialize_with = "extended::list")]
    pub dual: Vec<f64>,
    /// Whether x is in P(L).
    pub member: bool,
    /// Whether `-x` is in P^(L): the same.
    pub dual_member: bool,
}

/// The image of a vector under duality.
///
/// # Errors
/// A vector that does not fit; too many texts for a matrix.
pub fn dualise(set: &TextSet, x: &[f64]) -> Result<Dual, RunError> {
    let space = set.explicit()?;
    let turned = dual(x);
    Ok(Dual {
        member: space.missed(Polyhedron::P, x, TOLERANCE)?.is_none(),
        dual_member: space.missed(Polyhedron::CoP, &turned, TOLERANCE)?.is_none(),
        dual: turned,
    })
}

/// The magnitude at a scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Magnitude {
    /// t.
    pub t: f64,
    /// The magnitude of t d.
    pub magnitude: f64,
}

/// Magnitudes at several scales, of forests of any size.
///
/// # Errors
/// A scale that is not positive.
pub fn magnitude(set: &TextSet, scales: &[f64]) -> Result<Vec<Magnitude>, RunError> {
    let at = |&t: &f64| {
        let magnitude = match &set.space {
            Some(space) => space.magnitude(t)?,
            None => forest(set)?.0.magnitude(t)?,
        };
        Ok(Magnitude { t, magnitude })
    };
    scales.iter().map(at).collect()
}

fn forest(set: &TextSet) -> Result<(&lawvere_metric::PrefixForest, &[usize]), RunError> {
    match &set.forest {
        Some((forest, order)) => Ok((forest, order)),
        None => Err(MetricError::NoTexts.into()),
    }
}

fn in_order(set: &TextSet, order: &[usize], x: &[f64]) -> Result<Vec<f64>, RunError> {
    if x.len() != set.names.len() {
        return Err(MetricError::VectorLength {
            what: "the vector",
            expected: set.names.len(),
            found: x.len(),
        }
        .into());
    }
    Ok(TextSet::to_forest(order, x))
}
