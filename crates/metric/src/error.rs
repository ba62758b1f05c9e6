use lawvere_core::TropicalError;
use thiserror::Error;

/// Why texts do not form a space, or a question cannot be answered on one.
#[derive(Debug, Clone, PartialEq, Error)]
#[allow(missing_docs)]
pub enum MetricError {
    #[error("{texts} texts do not match {probabilities} log-probabilities")]
    Lengths { texts: usize, probabilities: usize },
    #[error("text {text} names text {parent} as its prefix; a prefix comes before its extensions")]
    Parent { text: usize, parent: usize },
    #[error("text {text} extends its prefix with log-probability {value}; it should be at most 0")]
    LogProbability { text: usize, value: f64 },
    #[error("the two spaces do not hold the same texts in the same order")]
    DifferentTexts,
    #[error("there is no text; a space has at least one")]
    NoTexts,
    #[error("text {0} is there twice; the texts of a space are all different")]
    Twice(String),
    #[error("text {0} is named twice; name each text once")]
    Repeated(String),
    #[error("there is no text {index}; there are {texts}, counted from 0")]
    NoText { index: usize, texts: usize },
    #[error(
        "{texts} texts are too many for a matrix of all distances (at most {limit}); a forest of prefixes of any size is held as covering pairs: use order \"prefix\""
    )]
    TooLarge { texts: usize, limit: usize },
    #[error("edge {place}: {problem}")]
    Edge { place: usize, problem: String },
    #[error("the order goes in a circle: {}; a text cannot extend itself by way of others", texts.join(" -> "))]
    Circle { texts: Vec<String> },
    #[error("distances of {texts} texts should be {texts} x {texts}, found {rows} x {columns}")]
    Shape {
        texts: usize,
        rows: usize,
        columns: usize,
    },
    #[error("the distance of text {text} to itself is {value}; it should be 0")]
    Diagonal { text: usize, value: f64 },
    #[error(
        "the distance from {from} to {to} is {distance}; distances are at least 0, as probabilities are at most 1"
    )]
    NegativeDistance {
        from: String,
        to: String,
        distance: f64,
    },
    #[error(
        "d({a}, {c}) = {direct} is more than {steps}, the way by {b}; the triangle inequality is broken (the closure mends it)",
        a = texts[0], b = texts[1], c = texts[2]
    )]
    Triangle {
        texts: [String; 3],
        direct: f64,
        steps: f64,
    },
    #[error(
        "{what} needs a potential, f with d(a, b) = f(b) - f(a), and this space has none: ways around disagree by {by} nats at {from} and {to}"
    )]
    NoPotential {
        what: &'static str,
        from: String,
        to: String,
        by: f64,
    },
    #[error("{what} has {found} entries; one a text is needed, {expected}")]
    VectorLength {
        what: &'static str,
        expected: usize,
        found: usize,
    },
    #[error("{what} is {value} at {text}; it should be {wanted}")]
    VectorEntry {
        what: &'static str,
        text: String,
        value: f64,
        wanted: &'static str,
    },
    #[error("{what} is not in {polyhedron}: its condition for {from} and {to} is missed by {by}")]
    Outside {
        what: &'static str,
        polyhedron: &'static str,
        from: String,
        to: String,
        by: f64,
    },
    #[error("{what} takes up to {limit} texts by enumeration, found {texts}; {instead}")]
    TooMany {
        what: &'static str,
        texts: usize,
        limit: usize,
        instead: &'static str,
    },
    #[error("the order has more than {limit} cuts; ask for the completions of single vectors")]
    Cuts { limit: usize },
    #[error("{argument} is {value}; it should be {wanted}")]
    Argument {
        argument: &'static str,
        value: f64,
        wanted: &'static str,
    },
    #[error(
        "{word} is not below {text} with a probability above 0, so it cannot take part in its approximation; in order \"prefix\" only prefixes are"
    )]
    NotBelow { word: String, text: String },
    #[error(transparent)]
    Tropical(#[from] TropicalError),
}
