//! `training.json`: how a network came to be, and how good it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lawvere_lm::train::Training;
use lawvere_observe::Observation;
use lawvere_token::sha256_of_file;
use serde::{Deserialize, Serialize};

use super::along::Along;
use crate::RunError;

pub(crate) const RECORD: &str = "training.json";
pub(crate) const STATE: &str = "state.safetensors";
pub(crate) const OBSERVATION: &str = "observation";
pub(crate) const MEASURES: &str = "measures.jsonl";
/// The folder of checkpoints on the way, one folder each.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// Files of a trained model's folder.
pub(crate) const FILES: [&str; 9] = [
    RECORD,
    STATE,
    MEASURES,
    OBSERVATION,
    CHECKPOINTS,
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// `training.json`: how a network came to be, and how good it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// [`SCHEMA`](Self::SCHEMA).
    pub schema: String,
    /// The version of Lawvere.
    pub tool_version: String,
    /// The command that reproduces the run.
    pub command: String,
    /// What random choices started from.
    pub seed: u64,
    /// Threads; the weights do not depend on them.
    pub threads: usize,
    /// The SHA-256 of architecture, settings and data.
    pub run_sha256: String,
    /// The SHA-256 of the tokenizer.
    pub tokenizer_sha256: String,
    /// The SHA-256 of every file beside this one; the observation of unconstrained features has its own.
    pub files: BTreeMap<String, String>,
    /// What was learned from, in words.
    pub source: String,
    /// The network, in words.
    pub network: String,
    /// Its weights.
    pub parameters: usize,
    /// How it was trained, in words.
    pub settings: String,
    /// All settings of the training.
    pub training: Training,
    /// Tokens read in all steps (contexts' tokens for soft labels).
    pub tokens: u64,
    /// The loss before each step, nats: cross-entropy and ridge penalty.
    pub losses: Vec<f64>,
    /// Seconds of all steps, those before an interruption left out.
    pub seconds: f64,
    /// The largest resident memory of the process, bytes, where the system tells.
    pub peak_memory: Option<u64>,
    /// The network on documents it did not learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOut>,
    /// What it was held against along the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub along: Option<Along>,
    /// Steps after which a checkpoint was kept ([`checkpoint_folder`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<u64>,
}

/// The folder of the checkpoint after `step` steps, in that of a trained model.
pub fn checkpoint_folder(model: &Path, step: u64) -> PathBuf {
    model.join(CHECKPOINTS).join(format!("step-{step}"))
}

impl TrainingRecord {
    /// The version of the format.
    pub const SCHEMA: &str = "lawvere-training/1";

    /// The record in a checkpoint's folder, if the checkpoint was trained here.
    pub fn beside(model: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(model.join(RECORD)).ok()?;
        let record: Self = serde_json::from_str(&text).ok()?;
        (record.schema == Self::SCHEMA).then_some(record)
    }
}

/// A network on documents it did not learn from, read from their boundaries on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Documents.
    pub documents: usize,
    /// Symbols predicted: tokens and ends of documents.
    pub symbols: usize,
    /// Cross-entropy, nats a symbol.
    pub loss: f64,
    /// Its standard error, documents taken as independent.
    pub loss_error: f64,
    /// The same of k_true, where the language is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<ExactLoss>,
}

/// What the exact kernel of a language makes of the same documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExactLoss {
    /// The entropy rate of the language: no kernel has a smaller cross-entropy. Nats a symbol.
    pub entropy_rate: f64,
    /// k_true's cross-entropy on these documents, given the whole prefix.
    pub loss: f64,
    /// The network's cross-entropy minus k_true's: an estimate of KL(k_true || k_model) a symbol.
    pub gap: f64,
    /// Its standard error, documents taken as independent.
    pub gap_error: f64,
}

/// The hashes of a checkpoint's files in a folder.
pub(crate) fn hashes(folder: &Path) -> Result<BTreeMap<String, String>, RunError> {
    let files = FILES
        .iter()
        .filter(|name| ![RECORD, STATE, OBSERVATION, CHECKPOINTS].contains(*name));
    files
        .map(|name| (name, folder.join(name)))
        .filter(|(_, path)| path.exists())
        .map(|(name, path)| match sha256_of_file(&path) {
            Ok(hash) => Ok(((*name).to_owned(), hash)),
            Err(source) => Err(RunError::Io { path, source }),
        })
        .collect()
}

/// The record of a finished run with this identity and tokenizer, whose files are as they were left and which
/// kept `checkpoints`.
pub(crate) fn finished(
    out: &Path,
    run: &str,
    tokenizer: &str,
    checkpoints: &[u64],
) -> Option<TrainingRecord> {
    let record = TrainingRecord::beside(out)?;
    let observation = out.join(OBSERVATION);
    let whole = match observation.exists() {
        true => Observation::open(&observation).is_ok(),
        false => !record.files.is_empty() && hashes(out).ok()? == record.files,
    };
    let kept = |step: &u64| checkpoint_folder(out, *step).is_dir();
    let whole = whole && checkpoints.iter().all(kept);
    let same = record.run_sha256 == run && record.tokenizer_sha256 == tokenizer;
    (whole && same).then_some(record)
}
