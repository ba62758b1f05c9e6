use std::fs;
use std::path::Path;

use lawvere_token::disk::resolve;
use serde::Serialize;

use crate::build::{no_memory, sorted};
use crate::open::{check_values, map_shard, open_description};
use crate::pages::Pages;
use crate::shard::{Arrays, MappedArrays, ShardInfo, SymbolSlice, Symbols};
use crate::store::{
    is_left_over, is_ours, names, shard_file, shard_number, write_info, write_shard,
};
use crate::{TextError, TextSpace};

/// What [`TextSpace::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Whether nothing is wrong.
    pub sound: bool,
    /// The shards in order.
    pub shards: Vec<ShardState>,
    /// Files of runs that were killed, which the index does not name.
    pub left_over: Vec<String>,
}

/// What is wrong with a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShardState {
    /// Its file in the index's folder.
    pub file: String,
    /// What is wrong; `None` if nothing is.
    pub problem: Option<String>,
    /// Whether it is derived data alone, which [`TextSpace::repair`] makes again from the text.
    pub repairable: bool,
}

impl TextSpace {
    /// Checks an index from the ground up: checksums, values, and that suffix arrays and common prefixes are those of
    /// the text, by sorting it again. As long and as much memory as building takes.
    ///
    /// # Errors
    /// No index, one of another schema, a `space.json` or `tokenizer.json` that is damaged: without these nothing
    /// can be said. What is wrong with shards is the answer, not an error.
    pub fn verify(
        folder: &Path,
        on_stage: &mut dyn FnMut(&str),
    ) -> Result<Verification, TextError> {
        let (info, _) = open_description(folder)?;
        let mut shards = Vec::with_capacity(info.shards.len());
        for shard in &info.shards {
            on_stage(&format!("verifying {}", shard.file));
            let (problem, repairable) = match examined(folder, shard, info.vocab_size) {
                Ok(()) => (None, false),
                Err((problem, repairable)) => (Some(problem), repairable),
            };
            shards.push(ShardState {
                file: shard.file.clone(),
                problem,
                repairable,
            });
        }
        let named = |name: &String| info.shards.iter().any(|s| s.file == *name);
        let left_over: Vec<String> = names(folder)?
            .into_iter()
            .filter(|name| is_left_over(name) || (shard_number(name).is_some() && !named(name)))
            .collect();
        Ok(Verification {
            sound: left_over.is_empty() && shards.iter().all(|s| s.problem.is_none()),
            shards,
            left_over,
        })
    }

    /// Makes an index sound again: suffix arrays and common prefixes that are damaged are sorted again from the
    /// text, files of killed runs are removed. What was found before is returned.
    ///
    /// # Errors
    /// As [`verify`](Self::verify); a shard whose text is damaged or missing, which only the corpus can bring back;
    /// whatever writing meets.
    pub fn repair(
        folder: &Path,
        on_stage: &mut dyn FnMut(&str),
    ) -> Result<Verification, TextError> {
        let folder = &resolve(folder);
        let found = Self::verify(folder, on_stage)?;
        let (mut info, _) = open_description(folder)?;
        for (number, state) in found.shards.iter().enumerate() {
            let Some(problem) = &state.problem else {
                continue;
            };
            let path = folder.join(&state.file);
            if !state.repairable {
                return Err(TextError::index(&path, problem.clone()));
            }
            on_stage(&format!("sorting {} again", state.file));
            let shard = &info.shards[number];
            let arrays = again(&map_shard(&path, shard)?)?;
            let file = shard_number(&state.file).unwrap_or(number);
            debug_assert_eq!(shard_file(file), state.file);
            info.shards[number] = write_shard(folder, file, shard, arrays.view())?;
            // A file at a time, so that a run that is killed leaves the rest to be repaired.
            write_info(folder, &mut info)?;
        }
        for name in found.left_over.iter().filter(|name| is_ours(name)) {
            let path = folder.join(name);
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            removed.map_err(|e| TextError::writing(&path, e))?;
        }
        Ok(found)
    }
}

/// Whether a shard is sound; otherwise what is wrong, and whether it can be made again.
fn examined(folder: &Path, shard: &ShardInfo, vocab_size: u64) -> Result<(), (String, bool)> {
    let path = folder.join(&shard.file);
    let arrays = map_shard(&path, shard).map_err(|e| match e {
        TextError::Index { problem, .. } => (problem, false),
        other => (other.to_string(), false),
    })?;
    let damaged = arrays.damaged(shard);
    if !damaged.is_empty() {
        let derived = damaged
            .iter()
            .all(|name| ["suffix_array", "lcp"].contains(name));
        return Err((format!("damaged: {}", damaged.join(", ")), derived));
    }
    let view = arrays.view();
    check_values(&view, vocab_size).map_err(|problem| (problem, false))?;
    let anew = again(&arrays).map_err(|e| (e.to_string(), false))?;
    match *anew.suffix_array == *view.suffix_array && *anew.lcp == *view.lcp {
        true => Ok(()),
        false => Err(("its suffix array is not that of its text".into(), true)),
    }
}

/// The arrays of a shard, derived from its text.
fn again(arrays: &MappedArrays) -> Result<Arrays, TextError> {
    let view = arrays.view();
    let symbols = match view.symbols {
        SymbolSlice::Narrow(s) => Symbols::Narrow(Pages::copied(s).map_err(no_memory)?),
        SymbolSlice::Wide(s) => Symbols::Wide(Pages::copied(s).map_err(no_memory)?),
    };
    let (starts, ids) = (view.document_starts.to_vec(), view.token_ids.to_vec());
    sorted(symbols, starts, ids, &mut |_| {})
}
