//! Opening a file of numbers, whatever it is.

use std::path::{Path, PathBuf};

use lawvere_token::{Mmap, map_file};

use super::{npy, npz, tensors};
use crate::RunError;

/// What a matrix file can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatrixFormat {
    /// `numpy.save`.
    Npy,
    /// `scipy.sparse.save_npz`, `numpy.savez`.
    Npz,
    /// safetensors.
    Safetensors,
}

impl MatrixFormat {
    /// By the ending of a file's name.
    pub fn of_name(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "npy" => Some(Self::Npy),
            "npz" => Some(Self::Npz),
            "safetensors" => Some(Self::Safetensors),
            _ => None,
        }
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(npy::MAGIC) {
            Some(Self::Npy)
        } else if npz::MAGICS.iter().any(|m| bytes.starts_with(m)) {
            Some(Self::Npz)
        } else if tensors::begins(bytes) {
            Some(Self::Safetensors)
        } else {
            None
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Npy => ".npy",
            Self::Npz => ".npz",
            Self::Safetensors => ".safetensors",
        }
    }
}

/// A file whose kind is known.
pub(super) struct Opened {
    path: PathBuf,
    pub tensor: Option<String>,
    pub format: MatrixFormat,
    pub map: Mmap,
}

impl Opened {
    pub fn new(given: &Path) -> Result<Self, RunError> {
        let (path, tensor) = place(given);
        let map = map_file(&path).map_err(|source| RunError::Io {
            path: path.clone(),
            source,
        })?;
        let input = |what: String| RunError::Input {
            path: path.clone(),
            what,
        };
        let (named, found) = (MatrixFormat::of_name(&path), MatrixFormat::of_bytes(&map));
        let format = match (named, found) {
            (None, Some(found)) => found,
            (Some(named), Some(found)) if named == found => named,
            (Some(named), Some(found)) => {
                return Err(input(format!(
                    "its name ends in {}, but it is an {} file; rename it",
                    named.ending(),
                    found.ending()
                )));
            }
            (Some(named), None) => {
                return Err(input(format!(
                    "not a {} file: it does not begin as one does",
                    named.ending()
                )));
            }
            (None, None) => {
                return Err(input(
                    "not a matrix file; .npy, .npz and .safetensors are read".into(),
                ));
            }
        };
        if tensor.is_some() && format != MatrixFormat::Safetensors {
            return Err(input("only a .safetensors file has tensors by name".into()));
        }
        Ok(Self {
            path,
            tensor,
            format,
            map,
        })
    }

    pub fn error(&self, what: String) -> RunError {
        RunError::Input {
            path: self.path.clone(),
            what,
        }
    }
}

/// `FILE.safetensors:NAME` as a path and a name, unless a file is called so.
fn place(given: &Path) -> (PathBuf, Option<String>) {
    const ENDING: &str = ".safetensors:";
    let whole = || (given.to_owned(), None);
    if given.exists() {
        return whole();
    }
    let Some(text) = given.to_str() else {
        return whole();
    };
    match text.rfind(ENDING) {
        Some(at) => {
            let (path, name) = text.split_at(at + ENDING.len() - 1);
            (path.into(), Some(name[1..].to_owned()))
        }
        None => whole(),
    }
}
