//! Checkpoints by their names on the Hugging Face hub, found in the cache that its own tools fill.

use std::path::{Path, PathBuf};

use crate::error::TokenError;

/// Where a checkpoint is: `hf:ORG/NAME` or `hf:ORG/NAME@REVISION` is its folder in the cache of the Hugging Face hub, any other
/// path is itself. The cache is `HF_HUB_CACHE`, `HF_HOME/hub`, or `~/.cache/huggingface/hub`, the first that is set; the
/// revision is `main` unless another branch, tag or commit is named. Nothing is downloaded ([`fetch`] does that).
///
/// # Errors
/// A name of another form; a checkpoint or a revision that the cache does not hold.
pub fn resolve(path: &Path) -> Result<PathBuf, TokenError> {
    match hub_name(path) {
        None => Ok(path.to_owned()),
        Some(name) => in_cache(name, &cache()),
    }
}

/// How far a file of a checkpoint has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetching<'a> {
    /// Its name.
    pub file: &'a str,
    /// Bytes that are there.
    pub done: u64,
    /// Of so many.
    pub total: u64,
}

/// Sees that the checkpoint of a path `hf:ORG/NAME[@REVISION]` is in the cache: with the feature `download` it is fetched from
/// the hub (`HF_ENDPOINT`, with the token in `HF_TOKEN`) if it is not, unless `HF_HUB_OFFLINE` is set. Weights are
/// safetensors; a file that broke off is taken up again, and one whose SHA-256 is not the hub's is thrown away. Other
/// paths are left alone, and so is a checkpoint that is there.
///
/// # Errors
/// A name of another form; a checkpoint that neither the cache nor the hub holds, or that cannot be reached.
#[cfg_attr(not(feature = "download"), allow(unused_variables))]
pub fn fetch(path: &Path, on_progress: &mut dyn FnMut(Fetching<'_>)) -> Result<(), TokenError> {
    let Some(text) = hub_name(path) else {
        return Ok(());
    };
    let cache = cache();
    let held = in_cache(text, &cache);
    #[cfg(feature = "download")]
    if !held.as_ref().is_ok_and(|folder| whole(folder)) && !offline() {
        let hub = crate::download::Hub::from_environment(cache);
        return hub.fetch(&HubName::parse(text)?, on_progress);
    }
    held.map(drop)
}

fn hub_name(path: &Path) -> Option<&str> {
    path.to_str().and_then(|text| text.strip_prefix("hf:"))
}

#[cfg(feature = "download")]
fn offline() -> bool {
    let set = std::env::var("HF_HUB_OFFLINE").unwrap_or_default();
    ["1", "ON", "YES", "TRUE"].contains(&set.to_uppercase().as_str())
}

/// Whether a folder holds a configuration and all weights that it speaks of.
#[cfg(feature = "download")]
pub(crate) fn whole(folder: &Path) -> bool {
    let there = |file: &str| folder.join(file).is_file();
    let index = std::fs::read_to_string(folder.join("model.safetensors.index.json"));
    let index = index.ok().and_then(|text| serde_json::from_str(&text).ok());
    let shards = |index: serde_json::Value| {
        let map = index["weight_map"].as_object().cloned();
        map.is_some_and(|map| map.values().all(|v| v.as_str().is_some_and(there)))
    };
    there("config.json") && (there("model.safetensors") || index.is_some_and(shards))
}

fn cache() -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let home = || set("HOME").unwrap_or_default().join(".cache/huggingface");
    set("HF_HUB_CACHE").unwrap_or_else(|| set("HF_HOME").unwrap_or_else(home).join("hub"))
}

/// A checkpoint's name on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HubName {
    /// As it was written.
    text: String,
    /// `ORG/NAME`.
    pub checkpoint: String,
    pub revision: String,
}

impl HubName {
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let (checkpoint, revision) = text.split_once('@').unwrap_or((text, "main"));
        let name = Self {
            text: text.to_owned(),
            checkpoint: checkpoint.to_owned(),
            revision: revision.to_owned(),
        };
        let parts: Vec<&str> = checkpoint.split('/').collect();
        if parts.len() == 2 && parts.iter().all(|p| plain(p)) && revision.split('/').all(plain) {
            return Ok(name);
        }
        Err(name
            .error("a checkpoint is named hf:ORGANISATION/NAME, or hf:ORGANISATION/NAME@REVISION"))
    }

    /// The name of its folder in the cache.
    pub fn folder_name(&self) -> String {
        format!("models--{}", self.checkpoint.replace('/', "--"))
    }

    pub fn error(&self, what: impl Into<String>) -> TokenError {
        TokenError::Hub {
            name: self.text.clone(),
            what: what.into(),
        }
    }

    /// What to do about a checkpoint that is not there.
    pub fn advice(&self) -> String {
        let revision = match self.revision.as_str() {
            "main" => String::new(),
            other => format!(" --revision {other}"),
        };
        let build = match cfg!(feature = "download") {
            true => "",
            false => " (or with a lawvere that is built with --features download)",
        };
        format!(
            "fetch it with `hf download {}{revision}` where there is a network{build}, or give the path of a folder or a GGUF file",
            self.checkpoint
        )
    }
}

/// `ORG/NAME` of a checkpoint whose folder lies in a Hugging Face cache; `None` of any other path.
pub fn name_in_cache(folder: &Path) -> Option<String> {
    let snapshots = folder.parent()?;
    if snapshots.file_name()? != "snapshots" {
        return None;
    }
    let name = snapshots.parent()?.file_name()?.to_str()?;
    Some(name.strip_prefix("models--")?.replacen("--", "/", 1))
}

fn plain(part: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !part.is_empty() && !part.starts_with('.') && part.chars().all(fine)
}

pub(crate) fn in_cache(name: &str, cache: &Path) -> Result<PathBuf, TokenError> {
    let name = HubName::parse(name)?;
    let (folder, revision) = (cache.join(name.folder_name()), &name.revision);
    if !folder.is_dir() {
        return Err(name.error(format!(
            "it is not in the cache {}; {}",
            cache.display(),
            name.advice()
        )));
    }
    // A branch or a tag is a file that holds a commit; a commit is a folder.
    let commit = match std::fs::read_to_string(folder.join("refs").join(revision)) {
        Ok(commit) => commit.trim().to_owned(),
        Err(_) => revision.clone(),
    };
    let snapshot = folder.join("snapshots").join(&commit);
    if plain(&commit) && snapshot.is_dir() {
        return Ok(snapshot);
    }
    let mut held: Vec<String> = std::fs::read_dir(folder.join("refs"))
        .map(|all| {
            let names = all
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned());
            names.collect()
        })
        .unwrap_or_default();
    held.sort();
    Err(name.error(format!(
        "the cache {} does not hold its revision {revision} (it has: {}); {}",
        cache.display(),
        if held.is_empty() {
            "none".into()
        } else {
            held.join(", ")
        },
        name.advice()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn revisions_lead_to_their_snapshots() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("models--some--model");
        write(&folder.join("refs/main"), "abc\n");
        write(&folder.join("refs/v1"), "def");
        write(&folder.join("snapshots/abc/config.json"), "{}");
        let found = |name: &str| in_cache(name, cache.path());
        assert_eq!(found("some/model").unwrap(), folder.join("snapshots/abc"));
        assert_eq!(
            found("some/model@abc").unwrap(),
            folder.join("snapshots/abc")
        );
        let name = name_in_cache(&found("some/model").unwrap());
        assert_eq!(name.as_deref(), Some("some/model"));
        assert_eq!(name_in_cache(Path::new("snapshots/abc")), None);
        assert_eq!(name_in_cache(&folder), None);
        let told = |name: &str| found(name).unwrap_err().to_string();
        assert!(
            told("some/model@v1").contains("main, v1"),
            "{}",
            told("some/model@v1")
        );
        assert!(told("some/other").contains("hf download some/other`"));
        assert!(told("some/model@v9").contains("--revision v9"));
        for bad in [
            "model",
            "a/b/c",
            "../x/y",
            "a/..",
            "a/b@../../etc",
            "a/b@",
            "/a",
            "",
        ] {
            assert!(told(bad).contains("hf:ORGANISATION/NAME"), "{bad}");
        }
    }

    #[test]
    fn other_paths_are_themselves() {
        assert_eq!(resolve(Path::new("a/hf:b")).unwrap(), Path::new("a/hf:b"));
    }
}
