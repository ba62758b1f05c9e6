//! Observations to files.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use lawvere_core::{HeadRef, ReadoutNorm, RowMatrix, SparseRows};
use lawvere_token::disk::write_file;
use lawvere_token::sha256_of_file;

use crate::ObserveError;
use crate::arrays::{Array, write_arrays};
use crate::observation::{BlockSplit, Info, Observation, Rows};

pub(crate) const INFO_FILE: &str = "observation.json";
pub(crate) const CONTEXTS_FILE: &str = "contexts.safetensors";
pub(crate) const HEAD_FILE: &str = "head.safetensors";
pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";
pub(crate) const STATES_PREFIX: &str = "states";
/// What an unfinished Observation is to become; removed when it is finished.
pub(crate) const PLAN_FILE: &str = "plan.sha256";

/// The name of the `shard`-th file of states.
pub(crate) fn states_file(shard: usize) -> String {
    format!("{STATES_PREFIX}-{shard:05}.safetensors")
}

/// Whether a file of this name may be part of an Observation.
pub(crate) fn is_part(name: &str) -> bool {
    [
        INFO_FILE,
        CONTEXTS_FILE,
        HEAD_FILE,
        TOKENIZER_FILE,
        PLAN_FILE,
    ]
    .contains(&name)
        || (name.starts_with(STATES_PREFIX) && name.ends_with(".safetensors"))
}

/// The names in a folder.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, ObserveError> {
    let failed = |e| ObserveError::io(folder, e);
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let name = |e: std::io::Result<std::fs::DirEntry>| {
        e.map(|e| e.file_name().to_string_lossy().into_owned())
            .map_err(failed)
    };
    entries.map(name).collect()
}

/// Writes the rows, their counts and their weights.
pub(crate) fn write_contexts(
    folder: &Path,
    contexts: &Rows,
    counts: &SparseRows<u64>,
    weights: &[f64],
    blocks: Option<&BlockSplit>,
) -> Result<(), ObserveError> {
    let mut arrays = vec![
        Array::u64s("counts.indptr", counts.indptr()),
        Array::u32s("counts.tokens", &[counts.nnz()], counts.indices()),
        Array::u64s("counts.values", counts.values()),
        Array::doubles("weights", weights),
    ];
    match contexts {
        Rows::Contexts { order, tokens } => {
            arrays.push(Array::u32s("contexts", &[counts.nrows(), *order], tokens));
        }
        Rows::Positions(p) => {
            arrays.push(Array::u32s("tokens", &[p.tokens.len()], &p.tokens));
            arrays.push(Array::u64s("window_offsets", &p.window_offsets));
            for (name, data) in [
                ("position.window", &p.window),
                ("position.prefix_length", &p.prefix_length),
                ("position.document", &p.document),
                ("position.next", &p.next),
            ] {
                arrays.push(Array::u32s(name, &[data.len()], data));
            }
        }
    }
    if let Some(split) = blocks {
        arrays.push(Array::u64s("blocks.indptr", &split.indptr));
        arrays.push(Array::u32s(
            "blocks.block",
            &[split.blocks.len()],
            &split.blocks,
        ));
        arrays.push(Array::u32s(
            "blocks.count",
            &[split.counts.len()],
            &split.counts,
        ));
    }
    write_arrays(&folder.join(CONTEXTS_FILE), &arrays)
}

/// Writes the states of consecutive rows.
pub(crate) fn write_states(
    folder: &Path,
    shard: usize,
    layers: &[(usize, &RowMatrix<f32>)],
) -> Result<(), ObserveError> {
    let arrays: Vec<Array<'_>> = layers
        .iter()
        .map(|(l, m)| Array::floats(format!("layer.{l}"), &[m.nrows(), m.ncols()], m.data()))
        .collect();
    write_arrays(&folder.join(states_file(shard)), &arrays)
}

/// Writes the head and the norm before it.
pub(crate) fn write_head(
    folder: &Path,
    head: HeadRef<'_>,
    norm: Option<&ReadoutNorm>,
) -> Result<(), ObserveError> {
    let weight = RowMatrix::from_fn(head.vocab_size(), head.dim(), |i, j| head.weight[(i, j)]);
    let mut arrays = vec![Array::floats(
        "weight",
        &[weight.nrows(), weight.ncols()],
        weight.data(),
    )];
    if let Some(bias) = head.bias {
        arrays.push(Array::floats("bias", &[bias.len()], bias));
    }
    if let Some(norm) = norm {
        arrays.push(Array::floats(
            "norm.weight",
            &[norm.weight.len()],
            &norm.weight,
        ));
        if let Some(bias) = &norm.bias {
            arrays.push(Array::floats("norm.bias", &[bias.len()], bias));
        }
    }
    write_arrays(&folder.join(HEAD_FILE), &arrays)
}

/// Writes `observation.json` last, with the checksums of everything else in the folder.
pub(crate) fn write_info(folder: &Path, info: &Info) -> Result<Info, ObserveError> {
    let mut info = info.clone();
    info.files = BTreeMap::new();
    for name in names(folder)? {
        if name.ends_with(".safetensors") || name == TOKENIZER_FILE {
            let path = folder.join(&name);
            let hash = sha256_of_file(&path).map_err(|e| ObserveError::io(&path, e))?;
            info.files.insert(name, Some(hash));
        }
    }
    let path = folder.join(INFO_FILE);
    write_file(&path, |out| {
        serde_json::to_writer_pretty(&mut *out, &info)?;
        out.write_all(b"\n")
    })
    .map_err(|e| ObserveError::io(&path, e))?;
    Ok(info)
}

impl Observation {
    /// Whether an Observation may be written at `destination`: nothing is there, or an empty folder, or
    /// an Observation and nothing beside it.
    ///
    /// # Errors
    /// Anything else is there.
    pub fn check_destination(destination: &Path) -> Result<(), ObserveError> {
        check_destination(destination)
    }

    /// Writes the Observation as the folder `destination`, beside its final place and renamed.
    ///
    /// # Errors
    /// A destination that holds something else; what writing meets; laws in the place of counts.
    pub fn save(&self, destination: &Path) -> Result<(), ObserveError> {
        if self.exact.is_some() {
            return Err(ObserveError::Option(
                "an observation that is judged by given laws holds no counts to save".into(),
            ));
        }
        Self::check_destination(destination)?;
        let destination = &lawvere_token::disk::resolve(destination);
        let parent = lawvere_token::disk::parent(destination);
        let failed = |e| ObserveError::io(destination, e);
        std::fs::create_dir_all(&parent).map_err(failed)?;
        let written = lawvere_token::disk::temporary_folder(&parent).map_err(failed)?;
        let folder = written.path();
        write_contexts(
            folder,
            &self.contexts,
            &self.counts,
            &self.weights,
            self.blocks.as_ref(),
        )?;
        if let Some(states) = &self.states {
            write_states(folder, 0, &states.layers().collect::<Vec<_>>())?;
        }
        if let Some(head) = &self.head {
            write_head(folder, head.view(), head.norm.as_ref())?;
        }
        if let Some(tokenizer) = &self.tokenizer {
            write_tokenizer(folder, &tokenizer.to_json()?)?;
        }
        write_info(folder, &self.info)?;
        lawvere_token::disk::publish_folder(folder, destination).map_err(failed)?;
        // It has been renamed: there is nothing left to remove.
        let _ = written.keep();
        Ok(())
    }
}

pub(crate) fn write_tokenizer(folder: &Path, json: &str) -> Result<(), ObserveError> {
    let path = folder.join(TOKENIZER_FILE);
    write_file(&path, |out| out.write_all(json.as_bytes())).map_err(|e| ObserveError::io(&path, e))
}

/// Refuses a destination that holds anything but an Observation.
pub(crate) fn check_destination(destination: &Path) -> Result<(), ObserveError> {
    let refused = |what: String| {
        Err(ObserveError::Destination {
            path: destination.to_owned(),
            what,
        })
    };
    if !destination.exists() {
        return Ok(());
    }
    if !destination.is_dir() {
        return refused("a file of that name is there".into());
    }
    let names = names(destination)?;
    if !names.is_empty() && !names.iter().any(|n| n == INFO_FILE) {
        return refused("the folder there is not an observation".into());
    }
    match names.iter().find(|n| !is_part(n)) {
        Some(name) => refused(format!(
            "the folder holds {name}, which is not part of an observation, and is not replaced"
        )),
        None => Ok(()),
    }
}
