use std::path::{Path, PathBuf};

use lawvere_observe::Observation;
use lawvere_token::sha256_of_file;
use serde::Serialize;

use crate::RunError;

/// What a result rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// `matrix`, `observation`, `space`, `index`, `corpus` or `model`.
    pub kind: &'static str,
    /// The files or the folder.
    pub paths: Vec<PathBuf>,
    /// The SHA-256 of each file of a matrix or a space, and of the JSON that describes an observation or an index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sha256: Vec<String>,
    /// The SHA-256 of the file that texts were read from, the last of the paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub texts_sha256: Option<String>,
    /// How contexts were chosen, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
    /// The corpus's hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corpus_sha256: Option<String>,
    /// The tokenizer's hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer_sha256: Option<String>,
    /// The hash of the model that was observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_sha256: Option<String>,
}

impl Origin {
    /// Files by their hashes; `FILE.safetensors:NAME` by that of the file.
    pub(crate) fn files(kind: &'static str, paths: &[&Path]) -> Result<Self, RunError> {
        Ok(Self {
            kind,
            paths: paths.iter().map(|p| p.to_path_buf()).collect(),
            sha256: paths.iter().map(|p| hash(p)).collect::<Result<_, _>>()?,
            texts_sha256: None,
            choice: None,
            corpus_sha256: None,
            tokenizer_sha256: None,
            model_sha256: None,
        })
    }

    /// Adds the file that texts were read from.
    pub(crate) fn with_texts(&mut self, path: &Path) -> Result<(), RunError> {
        self.paths.push(path.to_path_buf());
        self.texts_sha256 = Some(hash(path)?);
        Ok(())
    }

    /// A folder of an observation.
    pub(crate) fn of_observation(path: &Path, what: &Observation) -> Result<Self, RunError> {
        let mut origin = Self::files("observation", &[&path.join("observation.json")])?;
        origin.paths = vec![path.to_path_buf()];
        origin.rests_on(what);
        Ok(origin)
    }

    /// Adds what an observation says of its corpus, tokenizer and model.
    pub(crate) fn rests_on(&mut self, observation: &Observation) {
        if let Some(provenance) = &observation.info.provenance {
            self.choice = Some(provenance.choice.clone());
            self.corpus_sha256 = Some(provenance.corpus_sha256.clone());
            self.tokenizer_sha256 = Some(provenance.tokenizer_sha256.clone());
            self.model_sha256.clone_from(&provenance.model_sha256);
        }
    }
}

fn hash(path: &Path) -> Result<String, RunError> {
    let text = path.to_string_lossy();
    let file = match text.rfind(".safetensors:") {
        Some(at) if !path.exists() => text[..at + ".safetensors".len()].into(),
        _ => path.to_path_buf(),
    };
    sha256_of_file(&file).map_err(|source| RunError::Io { path: file, source })
}
