use std::io::Write;
use std::path::{Path, PathBuf};

use lawvere_geometry as lens;
use lawvere_geometry::{
    ContextLaws, MaxMarginOptions, PathOptions, PathProgress, finite_logits, max_margin,
};
use lawvere_token::disk::{parent, publish_folder, resolve, temporary_folder, write_file};
use serde::Serialize;
use serde_json::json;

use super::solve::check_room;
use super::source::{Given, LawSource};
use crate::arrays::write_dense;
use crate::origin::Origin;
use crate::{Event, RunError};

const RECORD: &str = "path.json";
const SCHEMA: &str = "lawvere-path/1";
const FINITE: &str = "finite.npy";
const MAX_MARGIN: &str = "max-margin.npy";

/// A regularisation path with what it rests on.
#[derive(Debug, Clone, Serialize)]
pub struct SolvedPath {
    /// The path.
    #[serde(flatten)]
    pub path: lens::Path,
    /// How near to the optimum the max-margin logits are that the path is compared with.
    pub max_margin_gap: Option<f64>,
    /// What it rests on.
    pub source: Origin,
}

/// Solves the regularisation path of next-token laws, and writes it.
///
/// With `with_max_margin` the direction and the rates are compared with those of the max-margin logits,
/// which are solved first. In the folder `out` are then `path.json`, `logits-00.npy` and so on for each
/// penalty, `finite.npy` (L^in) and `max-margin.npy` (L^mm), all V x m.
///
/// # Errors
/// What reading the source, solving ([`lens::path`](lens::path())) or writing meets; laws that are
/// all uniform over all tokens, which no penalty changes; a destination that holds something else.
pub fn solve_path(
    source: &LawSource,
    options: &PathOptions,
    with_max_margin: bool,
    out: Option<&Path>,
    on_event: &mut dyn FnMut(Event),
) -> Result<SolvedPath, RunError> {
    if let Some(out) = out {
        check_folder(out)?;
    }
    let Given { what: laws, origin } = source.read(on_event)?;
    if uniform(&laws) {
        let path = origin.paths.first().cloned().unwrap_or_default();
        return Err(RunError::Input {
            path,
            what: "every context is followed by every token with the same probability: logits of 0 are best at every penalty, and there is no path".into(),
        });
    }
    let (vocabulary, contexts) = (laws.supports.vocabulary(), laws.supports.contexts());
    if let Some(out) = out {
        check_room(out, vocabulary, contexts)?;
    }
    let solved = match with_max_margin {
        false => None,
        true => {
            on_event(Event::Part(format!(
                "max-margin logits of {vocabulary} tokens x {contexts} contexts"
            )));
            let options = MaxMarginOptions {
                size_limit: options.size_limit,
                ..MaxMarginOptions::default()
            };
            let solved = max_margin(&laws.supports, &options, &mut |_| {});
            let solved = solved.map_err(|e| origin.error(e))?;
            // The path is held against them as a whole matrix.
            let place = origin.paths.first().map_or(Path::new(""), PathBuf::as_path);
            check_room(place, vocabulary, contexts)?;
            Some(solved)
        }
    };
    on_event(Event::Part("regularisation path".into()));
    let mut on_progress = |p: PathProgress| {
        on_event(Event::Progress {
            done: p.points,
            total: p.total,
        });
    };
    let path = lens::path(&laws, solved.as_ref(), options, &mut on_progress);
    let path = path.map_err(|e| origin.error(e))?;
    let short = path.points.iter().filter(|p| !p.converged).count();
    if short > 0 {
        on_event(Event::Warning(format!(
            "{short} of {} points did not reach the gap of {:.1e} in {} iterations; the gaps told are exact all the same",
            path.points.len(),
            options.tolerance,
            options.max_iterations
        )));
    }
    let found = SolvedPath {
        path,
        max_margin_gap: solved.as_ref().map(|s| s.relative_gap),
        source: origin,
    };
    if let Some(out) = out {
        let folder = temporary_folder(&parent(out)).map_err(|e| io(out, e))?;
        write(&found, &laws, solved.as_ref(), folder.path())?;
        publish_folder(folder.path(), &resolve(out)).map_err(|e| io(out, e))?;
    }
    Ok(found)
}

fn io(path: &Path, source: std::io::Error) -> RunError {
    RunError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Whether all laws are uniform over all tokens.
fn uniform(laws: &ContextLaws) -> bool {
    let share = 1.0 / laws.supports.vocabulary() as f64;
    let full = laws.laws.nnz() == laws.supports.vocabulary() * laws.supports.contexts();
    full && laws.laws.values().iter().all(|p| (p - share).abs() < 1e-12)
}

fn write(
    found: &SolvedPath,
    laws: &ContextLaws,
    solved: Option<&lens::MaxMargin>,
    folder: &Path,
) -> Result<(), RunError> {
    write_dense(&folder.join(FINITE), "logits", &finite_logits(laws))?;
    if let Some(solved) = solved {
        write_dense(&folder.join(MAX_MARGIN), "logits", &solved.logits())?;
    }
    let mut names = Vec::new();
    for point in 0..found.path.points.len() {
        if let Some(logits) = found.path.logits(point) {
            let name = format!("logits-{point:02}.npy");
            write_dense(&folder.join(&name), "logits", &logits)?;
            names.push(name);
        }
    }
    let mut record = json!({"schema": SCHEMA, "logits": names});
    if let (Some(record), serde_json::Value::Object(fields)) =
        (record.as_object_mut(), json!(found))
    {
        record.extend(fields);
    }
    let place: PathBuf = folder.join(RECORD);
    write_file(&place, |file| writeln!(file, "{record:#}")).map_err(|e| io(&place, e))
}

/// Refuses a place for a path that holds anything else.
fn check_folder(out: &Path) -> Result<(), RunError> {
    let refused = |what: &str| Err(RunError::Usage(format!("{}: {what}", out.display())));
    if !parent(out).is_dir() {
        return refused("the folder it is to be made in does not exist");
    }
    if !out.exists() {
        return Ok(());
    }
    let Ok(entries) = std::fs::read_dir(out) else {
        return refused("a file of that name is there; choose the name of a folder");
    };
    let names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    let record = || {
        let text = std::fs::read_to_string(out.join(RECORD)).ok()?;
        let record: serde_json::Value = serde_json::from_str(&text).ok()?;
        (record["schema"] == SCHEMA).then_some(record)
    };
    if names.is_empty() {
        return Ok(());
    }
    let Some(record) = record() else {
        return refused("the folder is not empty and holds no path; choose another name");
    };
    let logits: Vec<&str> = record["logits"]
        .as_array()
        .map(|names| names.iter().filter_map(|n| n.as_str()).collect())
        .unwrap_or_default();
    let ours = |name: &String| {
        [RECORD, FINITE, MAX_MARGIN].contains(&name.as_str()) || logits.contains(&name.as_str())
    };
    match names.iter().find(|name| !ours(name)) {
        None => Ok(()),
        Some(name) => refused(&format!(
            "the folder holds {name}, which is not part of a path, and is not replaced; choose another name"
        )),
    }
}
