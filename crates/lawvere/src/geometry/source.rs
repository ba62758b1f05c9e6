//! Where supports and laws come from: files of matrices, an observation, an index, a corpus.

use std::path::{Path, PathBuf};

use lawvere_core::{SparseRows, sum};
use lawvere_geometry::{ContextLaws, GeometryError, Supports, Vocabulary};
use lawvere_observe::{ContextPlan, Layers, Observation, Observer};
use lawvere_text::{CorpusOptions, TextSpace};

use crate::arrays::{MatrixFile, Precision, read_extra, read_vector};
use crate::origin::Origin;
use crate::{Event, RunError, TokenizerChoice};

/// Contexts with the counts of what follows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextSource {
    /// Where they are read.
    pub place: ContextPlace,
    /// Which tokens are rows of the matrices.
    pub vocabulary: Vocabulary,
}

/// Where contexts are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextPlace {
    /// The folder of an observation of kind contexts.
    Observation(PathBuf),
    /// The folder of an index.
    Index(PathBuf, ContextPlan),
    /// A corpus, indexed in memory.
    Corpus {
        /// Where it is.
        corpus: CorpusOptions,
        /// How it becomes tokens.
        tokenizer: TokenizerChoice,
        /// Which contexts.
        plan: ContextPlan,
    },
}

/// Where a support matrix comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SupportSource {
    /// A file of zeros and ones, V x m.
    Matrix(PathBuf),
    /// Contexts.
    Contexts(ContextSource),
}

/// Where next-token laws come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LawSource {
    /// A file of probabilities, V x m, and one of the contexts' m weights. Without that, the array
    /// `weights` beside a sparse matrix, as `lawvere geometry supports --laws` leaves it, or else all
    /// contexts weigh the same.
    Matrix(PathBuf, Option<PathBuf>),
    /// Contexts.
    Contexts(ContextSource),
}

/// Something with what it rests on.
#[derive(Debug, Clone)]
pub struct Given<T> {
    /// It.
    pub what: T,
    /// What it rests on.
    pub origin: Origin,
}

impl Origin {
    /// The error of a computation on it, with the file it is about.
    pub(crate) fn error(&self, error: GeometryError) -> RunError {
        // What is wrong with an option is not wrong with a file.
        const DATA: [&str; 5] = [
            "the support matrix",
            "the laws",
            "states",
            "prediction",
            "the untrained observation",
        ];
        let option = matches!(error, GeometryError::Argument { what, .. } if !DATA.contains(&what));
        match (&error, self.paths.first()) {
            (_, None) => error.into(),
            _ if option => error.into(),
            (GeometryError::TooLarge { .. }, Some(path)) => RunError::Input {
                path: path.clone(),
                what: format!(
                    "{error} (--size-limit raises the limit; `lawvere geometry concepts` takes the proxy)"
                ),
            },
            (_, Some(path)) => RunError::Input {
                path: path.clone(),
                what: error.to_string(),
            },
        }
    }
}

impl ContextSource {
    /// The contexts, as an Observation in memory.
    ///
    /// # Errors
    /// What opening the observation or the index, reading the corpus or choosing contexts meets; an
    /// observation of positions.
    pub fn read(&self, on_event: &mut dyn FnMut(Event)) -> Result<Given<Observation>, RunError> {
        let of_space = |space: &TextSpace, plan: &ContextPlan| -> Result<_, RunError> {
            let draft = Observer::new(space, None, &Layers::Last)?.contexts(plan)?;
            Ok(Observation::of_corpus(&draft, space))
        };
        let (what, kind, paths) = match &self.place {
            ContextPlace::Observation(path) => {
                let what = Observation::open(path)?;
                let origin = Origin::of_observation(path, &what)?;
                return match Supports::over(&what, self.vocabulary) {
                    Ok(_) => Ok(Given { what, origin }),
                    Err(error) => Err(origin.error(error)),
                };
            }
            ContextPlace::Index(path, plan) => {
                let space = TextSpace::open(path)?;
                (of_space(&space, plan)?, "index", vec![path.clone()])
            }
            ContextPlace::Corpus {
                corpus,
                tokenizer,
                plan,
            } => {
                let space = crate::index::space(corpus, tokenizer, on_event)?;
                (of_space(&space, plan)?, "corpus", corpus.paths.clone())
            }
        };
        let mut origin = Origin::files(kind, &[])?;
        origin.paths = paths;
        origin.rests_on(&what);
        Ok(Given { what, origin })
    }
}

impl SupportSource {
    /// The files of matrices that are read.
    pub(crate) fn files(&self) -> Vec<&Path> {
        match self {
            Self::Matrix(path) => vec![path],
            Self::Contexts(_) => Vec::new(),
        }
    }

    /// The support matrix.
    ///
    /// # Errors
    /// What reading meets; entries other than 0 and 1, contexts without a next token.
    pub fn read(&self, on_event: &mut dyn FnMut(Event)) -> Result<Given<Supports>, RunError> {
        match self {
            Self::Matrix(path) => {
                let columns = MatrixFile::read(path)?.matrix.into_columns();
                let origin = Origin::files("matrix", &[path])?;
                match Supports::from_rows(columns) {
                    Ok(what) => Ok(Given { what, origin }),
                    Err(error) => Err(origin.error(error)),
                }
            }
            Self::Contexts(source) => {
                let Given { what, origin } = source.read(on_event)?;
                match Supports::over(&what, source.vocabulary) {
                    Ok(what) => Ok(Given { what, origin }),
                    Err(error) => Err(origin.error(error)),
                }
            }
        }
    }
}

impl LawSource {
    /// The files of matrices that are read.
    pub(crate) fn files(&self) -> Vec<&Path> {
        match self {
            Self::Matrix(path, weights) => std::iter::once(path)
                .chain(weights)
                .map(PathBuf::as_path)
                .collect(),
            Self::Contexts(_) => Vec::new(),
        }
    }

    /// The laws and weights.
    ///
    /// # Errors
    /// What reading meets; columns or weights that are no distributions.
    pub fn read(&self, on_event: &mut dyn FnMut(Event)) -> Result<Given<ContextLaws>, RunError> {
        let (laws, origin) = match self {
            Self::Contexts(source) => {
                let Given { what, origin } = source.read(on_event)?;
                (ContextLaws::of(&what, source.vocabulary), origin)
            }
            Self::Matrix(path, weights) => {
                let file = MatrixFile::read(path)?;
                let mut laws = file.matrix.into_columns();
                if file.precision == Precision::Single {
                    laws = brought_to_one(&laws);
                }
                let mut files = vec![path.as_path()];
                let weights = match weights {
                    Some(path) => {
                        files.push(path);
                        let (mut weights, precision) = read_vector(path)?;
                        if weights.len() != laws.nrows() {
                            return Err(RunError::Input {
                                path: path.clone(),
                                what: format!(
                                    "{} weights; the probabilities have {} contexts",
                                    weights.len(),
                                    laws.nrows()
                                ),
                            });
                        }
                        if precision == Precision::Single {
                            bring_to_one(&mut weights);
                        }
                        weights
                    }
                    None => match read_extra(path, "weights")? {
                        Some(weights) => weights,
                        None => vec![1.0 / laws.nrows().max(1) as f64; laws.nrows()],
                    },
                };
                let origin = Origin::files("matrix", &files)?;
                (ContextLaws::new(laws, weights), origin)
            }
        };
        match laws {
            Ok(what) => Ok(Given { what, origin }),
            Err(error @ (GeometryError::Weight { .. } | GeometryError::Weights(_))) => {
                Err(match origin.paths.get(1) {
                    Some(path) => RunError::Input {
                        path: path.clone(),
                        what: error.to_string(),
                    },
                    None => origin.error(error),
                })
            }
            Err(error) => Err(origin.error(error)),
        }
    }
}

/// How far from 1 a law in single precision may sum.
const SINGLE: f64 = 1e-6;

fn brought_to_one(laws: &SparseRows<f64>) -> SparseRows<f64> {
    let mut scale = Vec::with_capacity(laws.nnz());
    for (_, law) in laws.rows() {
        let mut law = law.to_vec();
        bring_to_one(&mut law);
        scale.extend(law);
    }
    laws.map(|k, _| scale[k])
}

/// Divides by the sum if it is 1 up to the rounding of float32; any other sum is for others to refuse.
fn bring_to_one(law: &mut [f64]) {
    let total = sum(law.iter().copied());
    if (total - 1.0).abs() <= SINGLE {
        law.iter_mut().for_each(|p| *p /= total);
    }
}
