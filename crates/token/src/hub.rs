//! Checkpoints by their names on the Hugging Face hub, found in the cache that its own tools fill.

use std::path::{Path, PathBuf};

use crate::error::TokenError;

/// Where a checkpoint is: `hf:ORG/NAME` or `hf:ORG/NAME@REVISION` is its folder in the cache of the Hugging Face hub, any other
/// path is itself. The cache is `HF_HUB_CACHE`, `HF_HOME/hub`, or `~/.cache/huggingface/hub`, the first that is set; the
/// revision is `main` unless another branch, tag or commit is named. Nothing is downloaded.
///
/// # Errors
/// A name of another form; a checkpoint or a revision that the cache does not hold.
pub fn resolve(path: &Path) -> Result<PathBuf, TokenError> {
    match path.to_str().and_then(|text| text.strip_prefix("hf:")) {
        None => Ok(path.to_owned()),
        Some(name) => in_cache(name, &cache()),
    }
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

fn in_cache(name: &str, cache: &Path) -> Result<PathBuf, TokenError> {
    let error = |what: String| TokenError::Hub {
        name: name.to_owned(),
        what,
    };
    let (checkpoint, revision) = name.split_once('@').unwrap_or((name, "main"));
    let plain = |part: &str| {
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(fine)
    };
    let parts: Vec<&str> = checkpoint.split('/').collect();
    if !(parts.len() == 2 && parts.iter().all(|p| plain(p)) && revision.split('/').all(plain)) {
        return Err(error(
            "a checkpoint is named hf:ORGANISATION/NAME, or hf:ORGANISATION/NAME@REVISION".into(),
        ));
    }
    let folder = cache.join(format!("models--{}--{}", parts[0], parts[1]));
    let fetch = match revision {
        "main" => format!("hf download {checkpoint}"),
        other => format!("hf download {checkpoint} --revision {other}"),
    };
    if !folder.is_dir() {
        return Err(error(format!(
            "it is not in the cache {}; fetch it with `{fetch}` where there is a network, or give the path of a folder or a GGUF file",
            cache.display()
        )));
    }
    // A branch or a tag is a file that holds a commit; a commit is a folder.
    let commit = match std::fs::read_to_string(folder.join("refs").join(revision)) {
        Ok(commit) => commit.trim().to_owned(),
        Err(_) => revision.to_owned(),
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
    Err(error(format!(
        "the cache {} does not hold its revision {revision} (it has: {}); fetch it with `{fetch}`",
        cache.display(),
        if held.is_empty() {
            "none".into()
        } else {
            held.join(", ")
        }
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
