use std::path::{Path, PathBuf};

use lawvere_core::{RowMatrix, sum};
use lawvere_geometry::{
    MaxMargin, MaxMarginOptions, MaxMarginProgress, Verification, finite_logits, max_margin, verify,
};
use serde::Serialize;

use super::source::{Given, LawSource, SupportSource};
use crate::arrays::{MatrixFile, check_matrix_destinations, room, write_dense};
use crate::origin::Origin;
use crate::{Event, RunError};

/// Where the matrices of a max-margin solution are written; both are V x m.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaxMarginFiles {
    /// L^mm.
    pub logits: Option<PathBuf>,
    /// The dual certificate G.
    pub dual: Option<PathBuf>,
}

/// [`MaxMargin`] with what it rests on.
#[derive(Debug, Clone, Serialize)]
pub struct SolvedMaxMargin {
    /// The solution.
    #[serde(flatten)]
    pub solution: MaxMargin,
    /// What it rests on.
    pub source: Origin,
}

/// Solves the max-margin problem of a support matrix, and writes the solution and its certificate.
///
/// # Errors
/// What reading the source, solving ([`max_margin`]) or writing meets.
pub fn solve_max_margin(
    source: &SupportSource,
    options: &MaxMarginOptions,
    files: &MaxMarginFiles,
    on_event: &mut dyn FnMut(Event),
) -> Result<SolvedMaxMargin, RunError> {
    let both = [&files.logits, &files.dual];
    check_matrix_destinations(&both, &source.files(), false)?;
    let Given {
        what: supports,
        origin,
    } = source.read(on_event)?;
    let (vocabulary, contexts) = (supports.vocabulary(), supports.contexts());
    if let Some(path) = both.into_iter().flatten().next() {
        check_room(path, vocabulary, contexts)?;
    }
    on_event(Event::Part(format!(
        "max-margin logits of {vocabulary} tokens x {contexts} contexts"
    )));
    // A bar counts digits of the gap: from 1 down to the tolerance.
    let digits = |gap: f64| (-20.0 * gap.clamp(1e-300, 1.0).log10()) as usize;
    let total = digits(options.tolerance);
    let mut on_progress = |p: MaxMarginProgress| {
        on_event(Event::Progress {
            done: digits(p.relative_gap).min(total),
            total,
        });
    };
    let solution = max_margin(&supports, options, &mut on_progress).map_err(|e| origin.error(e))?;
    if !solution.converged {
        on_event(Event::Warning(format!(
            "the relative gap is {:.1e} after {} iterations, not {:.1e} as asked; the value and the lower bound are proved all the same",
            solution.relative_gap, solution.iterations, options.tolerance
        )));
    }
    if let Some(path) = &files.logits {
        write_dense(path, "logits", &solution.logits())?;
    }
    if let Some(path) = &files.dual {
        write_dense(path, "dual", &solution.dual())?;
    }
    Ok(SolvedMaxMargin {
        solution,
        source: origin,
    })
}

/// [`Verification`] with what it rests on.
#[derive(Debug, Clone, Serialize)]
pub struct VerifiedFiles {
    /// What was found.
    #[serde(flatten)]
    pub verification: Verification,
    /// The supports.
    pub source: Origin,
    /// The logits, and the dual point.
    pub checked: Origin,
}

/// Holds logits (V x m), and a dual point if one is given, against the max-margin problem of supports.
///
/// # Errors
/// What reading meets; matrices of another shape than the supports', NaN.
pub fn verify_files(
    source: &SupportSource,
    logits: &Path,
    dual: Option<&Path>,
    on_event: &mut dyn FnMut(Event),
) -> Result<VerifiedFiles, RunError> {
    let Given {
        what: supports,
        origin,
    } = source.read(on_event)?;
    let read = |path: &Path| -> Result<RowMatrix<f64>, RunError> {
        let matrix = MatrixFile::read(path)?.matrix.into_dense(path)?;
        let shape = (supports.vocabulary(), supports.contexts());
        let found = (matrix.nrows(), matrix.ncols());
        let (wanted, of) = (shape.0 * shape.1, (found.1, found.0) == shape);
        let hint = match of && wanted > 0 && shape.0 != shape.1 {
            true => "; it is transposed: save matrix.T",
            false => "",
        };
        let entries = matrix.data().iter();
        if let Some(k) = entries
            .clone()
            .position(|x| x.is_nan() || x.abs() > LARGEST)
        {
            return Err(RunError::Input {
                path: path.to_owned(),
                what: format!(
                    "the entry at row {}, column {} (counted from 0) is {}; entries are at most {LARGEST:e} in absolute value",
                    k / found.1,
                    k % found.1,
                    matrix.data()[k]
                ),
            });
        }
        match found == shape {
            true => Ok(matrix),
            false => Err(RunError::Input {
                path: path.to_owned(),
                what: format!(
                    "{} x {}; the supports are {} tokens x {} contexts{hint}",
                    found.0, found.1, shape.0, shape.1
                ),
            }),
        }
    };
    let matrices = (read(logits)?, dual.map(read).transpose()?);
    on_event(Event::Part("singular values".into()));
    let paths: Vec<&Path> = std::iter::once(logits).chain(dual).collect();
    let checked = Origin::files("matrix", &paths)?;
    let verification = verify(&supports, &matrices.0, matrices.1.as_ref());
    let verification = verification.map_err(|e| checked.error(e))?;
    Ok(VerifiedFiles {
        verification,
        source: origin,
        checked,
    })
}

/// Squares of larger entries overflow.
const LARGEST: f64 = 1e140;

/// The finite part L^in in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FinitePart {
    /// V.
    pub vocabulary: usize,
    /// m.
    pub contexts: usize,
    /// H: the empirical conditional entropy, nats.
    pub entropy: f64,
    /// The Frobenius norm of L^in, nats.
    pub norm: f64,
    /// The largest entry of L^in, nats.
    pub largest: f64,
    /// The smallest entry of L^in, nats.
    pub smallest: f64,
    /// What it rests on.
    pub source: Origin,
}

/// Works out L^in, to which the finite part of trained logits tends, and writes it, V x m.
///
/// # Errors
/// What reading the source or writing meets.
pub fn finite_part_of(
    source: &LawSource,
    out: Option<&Path>,
    on_event: &mut dyn FnMut(Event),
) -> Result<FinitePart, RunError> {
    let place = out.map(Path::to_path_buf);
    check_matrix_destinations(&[&place], &source.files(), false)?;
    let Given { what: laws, origin } = source.read(on_event)?;
    let (vocabulary, contexts) = (laws.supports.vocabulary(), laws.supports.contexts());
    let path = origin.paths.first().map_or(Path::new(""), PathBuf::as_path);
    check_room(out.unwrap_or(path), vocabulary, contexts)?;
    let logits = finite_logits(&laws);
    if let Some(path) = out {
        write_dense(path, "logits", &logits)?;
    }
    let entries = logits.data();
    Ok(FinitePart {
        vocabulary,
        contexts,
        entropy: laws.entropy(),
        norm: sum(entries.iter().map(|x| x * x)).sqrt(),
        largest: entries.iter().copied().fold(0.0, f64::max),
        smallest: entries.iter().copied().fold(0.0, f64::min),
        source: origin,
    })
}

/// Refuses dense matrices V x m that would not fit.
pub(super) fn check_room(path: &Path, vocabulary: usize, contexts: usize) -> Result<(), RunError> {
    let bytes = (vocabulary as u64).saturating_mul(contexts as u64);
    room(bytes.saturating_mul(8)).map_err(|what| RunError::Input {
        path: path.to_owned(),
        what: format!("as a dense matrix {vocabulary} x {contexts} {what}"),
    })
}
