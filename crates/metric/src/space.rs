//! Explicit spaces of texts: a poset, probabilities of extension, and the distances made of them.

use lawvere_core::{RowMatrix, TropicalMatrix};

use crate::MetricError;

/// A covering pair of a poset of texts: `to` extends `from`, with nothing in between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    /// The shorter text.
    pub from: usize,
    /// The longer one.
    pub to: usize,
    /// `Pr(to|from)`, from 0 to 1.
    pub probability: f64,
}

/// Two chains between the same texts whose probabilities differ: what keeps a directed metric from being a
/// probabilistic language model.
#[derive(Debug, Clone, PartialEq)]
pub struct Breach {
    /// The names of the lower text, of one in between and of the upper text.
    pub texts: [String; 3],
    /// `Pr` of the upper text given the lower one.
    pub direct: f64,
    /// The product of the two steps by way of the text in between.
    pub steps: f64,
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c] = &self.texts;
        write!(
            f,
            "Pr({c} | {a}) is {} one way and {} by way of {b}; a language model has Pr(c|a) = Pr(c|b) Pr(b|a)",
            self.direct, self.steps
        )
    }
}

/// A finite space of texts with the directed metric `d(a, b) = -log Pr(b|a)` in nats, `+inf` where b does not extend a.
///
/// There are two levels. A *directed metric* has `d(a, a) = 0` and `d(a, c) <= d(a, b) + d(b, c)`, and no two texts at
/// finite distance both ways. A *probabilistic language model* has equality wherever b is between a and c. Both are
/// checked when a space is made; [`breach`](Self::breach) tells what keeps it from the second.
///
/// Memory: n x n. For a forest of prefixes of any size see [`PrefixForest`](crate::PrefixForest).
///
/// *Source:* Gaubert, Vlassopoulos (arXiv 2405.12264), section 2; Lawvere (1973).
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    names: Vec<String>,
    distances: TropicalMatrix,
    /// Every text after all that it extends.
    sorted: Vec<usize>,
    /// By text, those that it covers: d-essential pairs, shortest distances.
    below: Vec<Vec<usize>>,
    breach: Option<Breach>,
}

/// How far two numbers that should be equal may be apart, in nats.
pub const TOLERANCE: f64 = 1e-9;

impl Space {
    /// The most texts that are held as a matrix of distances.
    pub const LIMIT: usize = 8192;

    /// The space of a poset by its covering pairs; distances go along the most probable chain.
    ///
    /// O(n edges).
    ///
    /// # Errors
    /// As [`from_steps`](Self::from_steps); a probability outside of `[0, 1]`.
    pub fn from_edges(names: Vec<String>, edges: &[Edge]) -> Result<Self, MetricError> {
        let mut steps = Vec::with_capacity(edges.len());
        for (place, edge) in edges.iter().enumerate() {
            let name = |i: usize| names.get(i).map_or("a text", String::as_str);
            let (a, b, p) = (name(edge.from), name(edge.to), edge.probability);
            if !(0.0..=1.0).contains(&p) {
                let problem = format!("Pr({b} | {a}) is {p}; a probability is from 0 to 1");
                return Err(MetricError::Edge { place, problem });
            }
            steps.push((edge.from, edge.to, -p.ln() + 0.0));
        }
        Self::from_steps(names, &steps)
    }

    /// The same with distances, `(from, to, -log Pr(to|from))` in nats, for probabilities that are too small for a float.
    ///
    /// O(n steps).
    ///
    /// # Errors
    /// Texts of equal names; a step of a text that there is not, from a text to itself, given twice, or of a distance
    /// below 0 or NaN; steps that go in a circle; more texts than [`LIMIT`](Self::LIMIT).
    pub fn from_steps(
        names: Vec<String>,
        steps: &[(usize, usize, f64)],
    ) -> Result<Self, MetricError> {
        let n = check_names(&names)?;
        let mut above: Vec<Vec<(usize, f64)>> = vec![Vec::new(); n];
        for (place, &(from, to, distance)) in steps.iter().enumerate() {
            let wrong = |problem: String| Err(MetricError::Edge { place, problem });
            if let Some(index) = [from, to].into_iter().find(|&i| i >= n) {
                return wrong(format!(
                    "it names text {index}, but there are {n} (from 0 on)"
                ));
            }
            let (a, b) = (&names[from], &names[to]);
            if from == to {
                return wrong(format!("it leads from {a} to itself"));
            }
            if distance.is_nan() || distance < 0.0 {
                return wrong(format!(
                    "the distance from {a} to {b} is {distance}; it is at least 0"
                ));
            }
            if above[from].iter().any(|&(other, _)| other == to) {
                return wrong(format!("the pair {a}, {b} is given twice"));
            }
            above[from].push((to, distance));
        }
        let sorted = sorted(&above).map_err(|circle| MetricError::Circle {
            texts: circle.into_iter().map(|i| names[i].clone()).collect(),
        })?;
        let mut rank = vec![0; n];
        sorted.iter().enumerate().for_each(|(k, &i)| rank[i] = k);
        let mut entries = RowMatrix::from_fn(n, n, |_, _| f64::INFINITY);
        let mut breach = None;
        for &source in &sorted {
            // Which texts are above the source, and by which text they were reached first.
            let mut by: Vec<Option<usize>> = vec![None; n];
            by[source] = Some(source);
            let row = entries.row_mut(source);
            row[source] = 0.0;
            for &i in &sorted[rank[source]..] {
                if by[i].is_none() {
                    continue;
                }
                for &(j, step) in &above[i] {
                    let distance = row[i] + step;
                    if let Some(before) = by[j] {
                        let same = row[j] == distance || (row[j] - distance).abs() <= TOLERANCE;
                        if !same && breach.is_none() {
                            let texts = [source, i, j].map(|t| names[t].clone());
                            let (direct, steps) = ((-row[j]).exp(), (-distance).exp());
                            breach = Some(Breach {
                                texts,
                                direct,
                                steps,
                            });
                        }
                        by[j] = Some(if distance < row[j] { i } else { before });
                    } else {
                        by[j] = Some(i);
                    }
                    row[j] = row[j].min(distance);
                }
            }
        }
        let mut below = vec![Vec::new(); n];
        for &i in &sorted {
            let steps = above[i].iter().filter(|(_, step)| *step < f64::INFINITY);
            steps.for_each(|&(j, _)| below[j].push(i));
        }
        let distances = TropicalMatrix::new(entries)?;
        Ok(Self::finished(names, distances, sorted, &below, breach))
    }

    /// The space with these distances, n x n: `d[i][j]` from text i to text j, in nats.
    ///
    /// O(n^3).
    ///
    /// # Errors
    /// Another shape; a distance below 0 (a probability above 1) or other than 0 from a text to itself; a triangle that
    /// is broken; two texts at finite distance both ways; equal names, too many texts.
    pub fn from_distances(
        names: Vec<String>,
        distances: TropicalMatrix,
    ) -> Result<Self, MetricError> {
        let n = check_names(&names)?;
        check_square(n, &distances)?;
        let twice = distances.product(&distances)?;
        for i in 0..n {
            for j in 0..n {
                if distances.get(i, j) - twice.get(i, j) > TOLERANCE {
                    let through = |k: usize| distances.get(i, k) + distances.get(k, j);
                    let k = (0..n).min_by(|&a, &b| through(a).total_cmp(&through(b)));
                    let k = k.unwrap_or(i);
                    return Err(MetricError::Triangle {
                        texts: [i, k, j].map(|t| names[t].clone()),
                        direct: distances.get(i, j),
                        steps: through(k),
                    });
                }
            }
        }
        Self::of_closed(names, distances)
    }

    /// The space of the lengths of shortest ways: what becomes of distances whose triangles are broken.
    ///
    /// This mends triangles only. It makes no language model of distances that disagree along chains, and circles
    /// stay an error. O(n^3).
    ///
    /// # Errors
    /// As [`from_distances`](Self::from_distances), but for broken triangles.
    pub fn closure(names: Vec<String>, distances: &TropicalMatrix) -> Result<Self, MetricError> {
        let n = check_names(&names)?;
        check_square(n, distances)?;
        Self::of_closed(names, distances.kleene_star()?)
    }

    fn of_closed(names: Vec<String>, distances: TropicalMatrix) -> Result<Self, MetricError> {
        let n = names.len();
        let above: Vec<Vec<(usize, f64)>> = (0..n)
            .map(|i| {
                let row = distances.row(i).iter().copied().enumerate();
                row.filter(|&(j, x)| j != i && x < f64::INFINITY).collect()
            })
            .collect();
        for (i, row) in above.iter().enumerate() {
            for &(j, back) in row {
                if distances.get(j, i) < f64::INFINITY {
                    let texts = vec![names[i].clone(), names[j].clone()];
                    return Err(MetricError::Circle { texts });
                }
                if back < 0.0 {
                    return Err(MetricError::NegativeDistance {
                        from: names[i].clone(),
                        to: names[j].clone(),
                        distance: back,
                    });
                }
            }
        }
        let sorted = sorted(&above).map_err(|circle| MetricError::Circle {
            texts: circle.into_iter().map(|i| names[i].clone()).collect(),
        })?;
        let mut breach = None;
        'all: for (a, row) in above.iter().enumerate() {
            for &(b, first) in row {
                for &(c, second) in &above[b] {
                    let direct = distances.get(a, c);
                    if (direct - first - second).abs() > TOLERANCE {
                        breach = Some(Breach {
                            texts: [a, b, c].map(|t| names[t].clone()),
                            direct: (-direct).exp(),
                            steps: (-first - second).exp(),
                        });
                        break 'all;
                    }
                }
            }
        }
        let mut below = vec![Vec::new(); n];
        for &i in &sorted {
            above[i].iter().for_each(|&(j, _)| below[j].push(i));
        }
        Ok(Self::finished(names, distances, sorted, &below, breach))
    }

    /// `below` holds, by text, texts below it, those from which no shorter way leads by another of them among them.
    fn finished(
        names: Vec<String>,
        distances: TropicalMatrix,
        sorted: Vec<usize>,
        below: &[Vec<usize>],
        breach: Option<Breach>,
    ) -> Self {
        let step = |i: usize, j: usize| distances.get(i, j);
        let essential = |(j, below): (usize, &Vec<usize>)| {
            let by =
                |i: usize, k: usize| i != k && step(i, k) + step(k, j) <= step(i, j) + TOLERANCE;
            let direct = |&&i: &&usize| !below.iter().any(|&k| by(i, k));
            below.iter().filter(direct).copied().collect()
        };
        let below = below.iter().enumerate().map(essential).collect();
        Self {
            names,
            distances,
            sorted,
            below,
            breach,
        }
    }

    /// The number of texts.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// What the texts are called.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// All distances, n x n: column k is the Yoneda image of text k, row k its co-Yoneda image.
    pub fn distances(&self) -> &TropicalMatrix {
        &self.distances
    }

    /// `d(a_i, a_j)` in nats.
    #[inline]
    pub fn d(&self, i: usize, j: usize) -> f64 {
        self.distances.get(i, j)
    }

    /// Whether `a_j` extends `a_i` and is another, with a probability that is not 0: the *effective order*.
    #[inline]
    pub fn extends(&self, i: usize, j: usize) -> bool {
        i != j && self.d(i, j) < f64::INFINITY
    }

    /// The texts, every one after all that it extends.
    pub fn sorted(&self) -> &[usize] {
        &self.sorted
    }

    /// The texts that `a_j` covers in the effective order; in a metric that is no language model, those from which
    /// the distance is shorter than by way of any other.
    pub fn covered_by(&self, j: usize) -> &[usize] {
        &self.below[j]
    }

    /// The covering pairs (lower, upper) of all texts.
    pub fn covers(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let all = self.below.iter().enumerate();
        all.flat_map(|(j, below)| below.iter().map(move |&i| (i, j)))
    }

    /// What keeps the space from being a probabilistic language model; none if it is one.
    pub fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    /// Whether a vector has an entry for every text, and none is NaN.
    pub(crate) fn require_vector(&self, what: &'static str, x: &[f64]) -> Result<(), MetricError> {
        if x.len() != self.len() {
            return Err(MetricError::VectorLength {
                what,
                expected: self.len(),
                found: x.len(),
            });
        }
        match x.iter().position(|x| x.is_nan()) {
            Some(place) => Err(MetricError::VectorEntry {
                what,
                text: self.names[place].clone(),
                value: x[place],
                wanted: "a number, or infinite",
            }),
            None => Ok(()),
        }
    }

    /// The texts of a subset, each once.
    pub(crate) fn require_texts(&self, texts: &[usize]) -> Result<(), MetricError> {
        let mut seen = vec![false; self.len()];
        for &i in texts {
            match seen.get_mut(i) {
                None => {
                    return Err(MetricError::NoText {
                        index: i,
                        texts: self.len(),
                    });
                }
                Some(true) => return Err(MetricError::Repeated(self.names[i].clone())),
                Some(seen) => *seen = true,
            }
        }
        Ok(())
    }
}

fn check_names(names: &[String]) -> Result<usize, MetricError> {
    let mut all: Vec<&String> = names.iter().collect();
    all.sort_unstable();
    if let Some(pair) = all.windows(2).find(|p| p[0] == p[1]) {
        return Err(MetricError::Twice(pair[0].clone()));
    }
    match names.len() {
        0 => Err(MetricError::NoTexts),
        n if n > Space::LIMIT => Err(MetricError::TooLarge {
            texts: n,
            limit: Space::LIMIT,
        }),
        n => Ok(n),
    }
}

fn check_square(n: usize, distances: &TropicalMatrix) -> Result<(), MetricError> {
    if (distances.nrows(), distances.ncols()) != (n, n) {
        return Err(MetricError::Shape {
            texts: n,
            rows: distances.nrows(),
            columns: distances.ncols(),
        });
    }
    match (0..n).find(|&i| distances.get(i, i) != 0.0) {
        Some(text) => Err(MetricError::Diagonal {
            text,
            value: distances.get(text, text),
        }),
        None => Ok(()),
    }
}

/// Every text after all below it; otherwise a circle.
fn sorted(above: &[Vec<(usize, f64)>]) -> Result<Vec<usize>, Vec<usize>> {
    let n = above.len();
    let mut waiting = vec![0usize; n];
    above.iter().flatten().for_each(|&(j, _)| waiting[j] += 1);
    let mut out: Vec<usize> = (0..n).filter(|&i| waiting[i] == 0).collect();
    let mut next = 0;
    while let Some(&i) = out.get(next) {
        next += 1;
        for &(j, _) in &above[i] {
            waiting[j] -= 1;
            if waiting[j] == 0 {
                out.push(j);
            }
        }
    }
    if out.len() == n {
        return Ok(out);
    }
    // Each text that still waits has one below it that waits: going down ends in a circle.
    let below =
        |j: usize| (0..n).find(|&i| waiting[i] > 0 && above[i].iter().any(|&(k, _)| k == j));
    let mut path: Vec<usize> = (0..n).filter(|&i| waiting[i] > 0).take(1).collect();
    while let Some(i) = path.last().and_then(|&j| below(j)) {
        if let Some(first) = path.iter().position(|&p| p == i) {
            path.drain(..first);
            break;
        }
        path.push(i);
    }
    path.reverse();
    Err(path)
}
