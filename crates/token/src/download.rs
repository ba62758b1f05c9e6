//! Checkpoints fetched from the Hugging Face hub into its cache.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde_json::Value;

use crate::error::TokenError;
use crate::file::sha256_of_file;
use crate::hub::{Fetching, HubName, whole};

/// Files of a checkpoint that are small, those of weights left out. `config.json` alone must be there.
const SMALL: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];
const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Where checkpoints come from and go to.
#[derive(Debug)]
pub(crate) struct Hub {
    /// Another hub than the one that everybody means.
    pub endpoint: Option<String>,
    pub cache: PathBuf,
    pub token: Option<String>,
}

impl Hub {
    /// As the hub's own tools have it: `HF_ENDPOINT`, and the token in `HF_TOKEN` or beside the cache.
    pub fn from_environment(cache: PathBuf) -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            endpoint: set("HF_ENDPOINT"),
            token: set("HF_TOKEN").or_else(|| Cache::new(cache.clone()).token()),
            cache,
        }
    }

    /// Fetches what of a checkpoint the cache lacks, and lets its revision stand in the cache when all is there.
    pub fn fetch(
        &self,
        name: &HubName,
        on_progress: &mut dyn FnMut(Fetching<'_>),
    ) -> Result<(), TokenError> {
        let mut api = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_token(self.token.clone())
            .with_user_agent("lawvere", env!("CARGO_PKG_VERSION"))
            .with_retries(3);
        if let Some(endpoint) = &self.endpoint {
            api = api.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        let api = api.build().map_err(|e| name.error(e.to_string()))?;
        let repo = |revision: &str| {
            Repo::with_revision(name.checkpoint.clone(), RepoType::Model, revision.into())
        };
        let named = repo(&name.revision);
        let info = api.repo(named.clone()).info();
        let info = info.map_err(|e| self.failed(name, &e))?;
        if !is_hash(&info.sha) {
            return Err(name.error(format!("its commit is {:?}, which is no hash", info.sha)));
        }
        let folder = self.cache.join(name.folder_name());
        // All files of one commit, whatever the branch does meanwhile.
        let fetching = Fetcher {
            hub: self,
            name,
            repo: api.repo(repo(&info.sha)),
            api: &api,
            commit: folder.join("snapshots").join(&info.sha),
            offered: info.siblings.into_iter().map(|s| s.rfilename).collect(),
            on_progress: RefCell::new(on_progress),
        };
        if !fetching.offers("config.json") {
            return Err(
                name.error("it holds no config.json, so it is no checkpoint of transformers")
            );
        }
        for file in SMALL.into_iter().filter(|file| fetching.offers(file)) {
            fetching.file(file)?;
        }
        fetching.weights()?;
        if !whole(&fetching.commit) {
            return Err(name.error(format!(
                "what was fetched into {} is no whole checkpoint",
                fetching.commit.display()
            )));
        }
        let held = Cache::new(self.cache.clone()).repo(named);
        held.create_ref(&info.sha)
            .map_err(|e| TokenError::io(&self.cache, e))
    }

    fn failed(&self, name: &HubName, error: &ApiError) -> TokenError {
        let hub = self.endpoint.as_deref().unwrap_or("the hub");
        let status = match error {
            ApiError::RequestError(e) => match **e {
                ureq::Error::StatusCode(status) => Some(status),
                _ => None,
            },
            _ => None,
        };
        name.error(match status {
            Some(401 | 403) => format!(
                "{hub} does not let us have it (or there is none of this name); if it is gated, accept its terms there and set HF_TOKEN"
            ),
            Some(404) => format!(
                "{hub} has no checkpoint {} with the revision {}",
                name.checkpoint, name.revision
            ),
            _ => format!(
                "it could not be fetched from {hub}: {error}; what came so far is kept, and taken up again by the next try. Without a network, {}",
                name.advice()
            ),
        })
    }
}

struct Fetcher<'a, 'b> {
    hub: &'a Hub,
    name: &'a HubName,
    api: &'a Api,
    repo: ApiRepo,
    /// The folder of the commit in the cache.
    commit: PathBuf,
    /// The names of the checkpoint's files.
    offered: Vec<String>,
    on_progress: RefCell<&'b mut dyn FnMut(Fetching<'_>)>,
}

fn is_hash(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl Fetcher<'_, '_> {
    fn offers(&self, file: &str) -> bool {
        self.offered.iter().any(|offered| offered == file)
    }

    /// Fetches the file of weights, or the index and all files that it names.
    fn weights(&self) -> Result<(), TokenError> {
        if self.offers(WHOLE) {
            return self.file(WHOLE).map(drop);
        }
        if !self.offers(INDEX) {
            return Err(self.name.error(format!(
                "it holds neither {WHOLE} nor {INDEX}; of weights in other forms fetch a GGUF file, and give its path"
            )));
        }
        let index = self.file(INDEX)?;
        let text = std::fs::read_to_string(&index).map_err(|e| TokenError::io(&index, e))?;
        let index: Value = serde_json::from_str(&text).unwrap_or_default();
        let map = index["weight_map"].as_object();
        let shards = map.into_iter().flat_map(|map| map.values());
        let shards: BTreeSet<&str> = shards.filter_map(Value::as_str).collect();
        for shard in shards {
            if !self.offers(shard) {
                let what = format!("its {INDEX} names {shard}, which it does not hold");
                return Err(self.name.error(what));
            }
            self.file(shard)?;
        }
        Ok(())
    }

    /// The place of a file in the cache, where it is put if it is not there yet.
    fn file(&self, file: &str) -> Result<PathBuf, TokenError> {
        let held = self.commit.join(file);
        if held.is_file() {
            return Ok(held);
        }
        let failed = |e| self.hub.failed(self.name, &e);
        let metadata = self.api.metadata(&self.repo.url(file)).map_err(failed)?;
        // The name that the cache gives to the content: of large files the SHA-256, of others git's.
        let etag = metadata.etag();
        if !is_hash(etag) {
            return Err(self.name.error(format!(
                "the server names the content of {file} {etag:?}, which is no hash"
            )));
        }
        let told = Told {
            on_progress: &self.on_progress,
            file: file.to_owned(),
            done: 0,
            total: metadata.size() as u64,
        };
        let path = self
            .repo
            .download_with_progress(file, told)
            .map_err(failed)?;
        self.check(file, &path, metadata.size() as u64, etag)?;
        Ok(path)
    }

    /// Takes a file that is not what was promised out of the cache again.
    fn check(&self, file: &str, path: &Path, size: u64, etag: &str) -> Result<(), TokenError> {
        let found = path.metadata().map_err(|e| TokenError::io(path, e))?.len();
        let hash = match etag.len() {
            64 => Some(sha256_of_file(path).map_err(|e| TokenError::io(path, e))?),
            _ => None,
        };
        let right = found == size && hash.as_ref().is_none_or(|hash| hash == etag);
        if right {
            return Ok(());
        }
        let content = path.canonicalize();
        let _ = std::fs::remove_file(path);
        let _ = content.map(std::fs::remove_file);
        Err(self.name.error(format!(
            "{file} came with {found} bytes of {size}{}; it was thrown away, try again",
            match hash {
                Some(hash) if hash != etag => format!(" and the SHA-256 {hash} instead of {etag}"),
                _ => String::new(),
            }
        )))
    }
}

struct Told<'a, 'b> {
    on_progress: &'a RefCell<&'b mut dyn FnMut(Fetching<'_>)>,
    file: String,
    done: u64,
    total: u64,
}

impl Progress for Told<'_, '_> {
    fn init(&mut self, size: usize, _: &str) {
        (self.done, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        (self.on_progress.borrow_mut())(Fetching {
            file: &self.file,
            done: self.done,
            total: self.total,
        });
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::sha256_hex;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A hub on this machine: files by name, and what was asked of it.
    #[derive(Clone, Default)]
    struct Served {
        files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
        asked: Arc<Mutex<Vec<(String, u64)>>>,
        /// Files whose connection is cut after so many bytes.
        cut: Arc<Mutex<HashMap<String, usize>>>,
        /// Files that are named by another hash than theirs.
        wrong: Arc<Mutex<Vec<String>>>,
    }

    impl Served {
        fn put(&self, name: &str, bytes: &[u8]) {
            self.files.lock().unwrap().insert(name.into(), bytes.into());
        }

        fn start(&self) -> String {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let served = self.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let served = served.clone();
                    std::thread::spawn(move || served.answer(stream.unwrap()));
                }
            });
            format!("http://{address}/")
        }

        fn answer(&self, stream: TcpStream) -> Option<()> {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
                let path = line.split(' ').nth(1)?.to_owned();
                let mut from = None;
                loop {
                    let mut header = String::new();
                    reader.read_line(&mut header).ok()?;
                    if header.trim().is_empty() {
                        break;
                    }
                    if let Some(range) = header.to_lowercase().strip_prefix("range: bytes=") {
                        from = range
                            .trim()
                            .split_once('-')
                            .map(|(a, b)| (a.parse::<usize>().unwrap(), b.parse::<usize>().ok()));
                    }
                }
                let mut out = &stream;
                if path.starts_with("/api/models/some/model/revision/main") {
                    let files = self.files.lock().unwrap();
                    let names = files.keys().map(|n| serde_json::json!({"rfilename": n}));
                    let info =
                        serde_json::json!({"sha": COMMIT, "siblings": names.collect::<Vec<_>>()});
                    let info = info.to_string();
                    write!(out, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{info}", info.len()).ok()?;
                    continue;
                }
                let name = path
                    .strip_prefix(&format!("/some/model/resolve/{COMMIT}/"))
                    .map(str::to_owned);
                let content = name
                    .as_ref()
                    .and_then(|n| self.files.lock().unwrap().get(n).cloned());
                let (Some(name), Some(content)) = (name, content) else {
                    write!(out, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").ok()?;
                    continue;
                };
                let (start, last) = from.unwrap_or((0, None));
                let end = last.map_or(content.len(), |l| (l + 1).min(content.len()));
                if last.is_none() {
                    self.asked
                        .lock()
                        .unwrap()
                        .push((name.clone(), start as u64));
                }
                let mut hash = sha256_hex(&content);
                if self.wrong.lock().unwrap().contains(&name) {
                    hash = sha256_hex(b"something else");
                }
                write!(
                    out,
                    "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\ncontent-range: bytes {start}-{}/{}\r\netag: \"{hash}\"\r\nx-repo-commit: {COMMIT}\r\n\r\n",
                    end - start,
                    end.max(1) - 1,
                    content.len()
                ).ok()?;
                let cut = self
                    .cut
                    .lock()
                    .unwrap()
                    .get(&name)
                    .copied()
                    .filter(|_| last.is_none());
                match cut {
                    Some(cut) if start + cut < end => {
                        out.write_all(&content[start..start + cut]).ok()?;
                        stream.shutdown(std::net::Shutdown::Both).ok()?;
                        return None;
                    }
                    _ => out.write_all(&content[start..end]).ok()?,
                }
            }
        }
    }

    fn name() -> HubName {
        HubName::parse("some/model").unwrap()
    }

    fn shards(served: &Served) -> Vec<u8> {
        let weights: Vec<u8> = (0..300_000u32).map(|i| (i * 31 % 251) as u8).collect();
        served.put("config.json", b"{}");
        served.put("tokenizer.json", b"{\"a\": 1}");
        served.put("README.md", b"not asked for");
        served.put(
            "model.safetensors.index.json",
            br#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#,
        );
        served.put("m-1.safetensors", &weights);
        served.put("m-2.safetensors", &weights[..1000]);
        weights
    }

    #[test]
    fn a_checkpoint_is_fetched_once_and_taken_up_where_it_broke_off() {
        let (served, folder) = (Served::default(), tempfile::tempdir().unwrap());
        let weights = shards(&served);
        let hub = Hub {
            endpoint: Some(served.start()),
            cache: folder.path().to_owned(),
            token: None,
        };
        // Each connection brings a little of the first shard: four tries are not enough.
        served
            .cut
            .lock()
            .unwrap()
            .insert("m-1.safetensors".into(), 50_000);
        let mut seen = Vec::new();
        let told = hub.fetch(&name(), &mut |f| {
            seen.push((f.file.to_owned(), f.done, f.total))
        });
        let told = told.unwrap_err().to_string();
        assert!(told.contains("taken up again"), "{told}");
        assert!(crate::hub::in_cache("some/model", folder.path()).is_err());
        served.cut.lock().unwrap().clear();
        served.asked.lock().unwrap().clear();
        hub.fetch(&name(), &mut |f| {
            seen.push((f.file.to_owned(), f.done, f.total))
        })
        .unwrap();
        let found = crate::hub::in_cache("some/model", folder.path()).unwrap();
        assert!(found.ends_with(COMMIT) && whole(&found));
        assert_eq!(
            std::fs::read(found.join("m-1.safetensors")).unwrap(),
            weights
        );
        assert!(!found.join("README.md").exists());
        let asked = served.asked.lock().unwrap().clone();
        let (first, from) = asked[0].clone();
        assert_eq!(first, "m-1.safetensors");
        assert!(from >= 150_000, "{asked:?}");
        assert!(
            seen.iter()
                .any(|s| *s == ("m-1.safetensors".to_owned(), 300_000, 300_000))
        );
        // What is there is not asked for again.
        served.asked.lock().unwrap().clear();
        hub.fetch(&name(), &mut |_| ()).unwrap();
        assert!(served.asked.lock().unwrap().is_empty());
    }

    #[test]
    fn content_of_another_hash_is_thrown_away() {
        let (served, folder) = (Served::default(), tempfile::tempdir().unwrap());
        shards(&served);
        served.wrong.lock().unwrap().push("m-2.safetensors".into());
        let hub = Hub {
            endpoint: Some(served.start()),
            cache: folder.path().to_owned(),
            token: None,
        };
        let told = hub.fetch(&name(), &mut |_| ()).unwrap_err().to_string();
        assert!(
            told.contains("m-2.safetensors") && told.contains("SHA-256"),
            "{told}"
        );
        assert!(crate::hub::in_cache("some/model", folder.path()).is_err());
        served.wrong.lock().unwrap().clear();
        hub.fetch(&name(), &mut |_| ()).unwrap();
        assert!(crate::hub::in_cache("some/model", folder.path()).is_ok());
    }

    #[test]
    fn what_cannot_be_fetched_is_told() {
        let (served, folder) = (Served::default(), tempfile::tempdir().unwrap());
        let fetch = |endpoint: String, text: &str| {
            let hub = Hub {
                endpoint: Some(endpoint),
                cache: folder.path().to_owned(),
                token: None,
            };
            hub.fetch(&HubName::parse(text).unwrap(), &mut |_| ())
                .unwrap_err()
                .to_string()
        };
        let endpoint = served.start();
        let told = fetch(endpoint.clone(), "some/other@v1");
        assert!(
            told.contains("no checkpoint some/other with the revision v1"),
            "{told}"
        );
        assert!(fetch(endpoint.clone(), "some/model").contains("no config.json"));
        served.put("config.json", b"{}");
        assert!(fetch(endpoint.clone(), "some/model").contains("neither model.safetensors"));
        served.put(
            "model.safetensors.index.json",
            br#"{"weight_map": {"a": "../../m.safetensors"}}"#,
        );
        assert!(fetch(endpoint, "some/model").contains("does not hold"));
        let told = fetch("http://127.0.0.1:9/".into(), "some/model");
        assert!(
            told.contains("Without a network") && told.contains("hf download some/model"),
            "{told}"
        );
    }
}
