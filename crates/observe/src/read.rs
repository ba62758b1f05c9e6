//! Observations from files, whoever wrote them; nothing in them is trusted.

use std::path::{Component, Path};

use lawvere_core::{ReadoutNorm, RowMatrix, SparseRows, sum};
use lawvere_token::{Tokenizer, sha256_of_file};

use crate::ObserveError;
use crate::arrays::ArrayFile;
use crate::observation::{BlockSplit, Head, Info, Kind, Observation, Rows, States};
use crate::positions::Positions;
use crate::write::{
    CONTEXTS_FILE, HEAD_FILE, INFO_FILE, STATES_PREFIX, TOKENIZER_FILE, is_part, names,
};

impl Observation {
    /// Reads the folder of an Observation and checks everything in it.
    ///
    /// # Errors
    /// Files that are missing, damaged (checksum) or inconsistent, each named with what is wrong.
    pub fn open(folder: &Path) -> Result<Self, ObserveError> {
        let info = read_info(folder)?;
        for (name, hash) in &info.files {
            let path = folder.join(name);
            if !path.exists() {
                return Err(ObserveError::malformed(
                    &path,
                    "observation.json lists this file, but it is missing",
                ));
            }
            if let Some(hash) = hash {
                let found = sha256_of_file(&path).map_err(|e| ObserveError::io(&path, e))?;
                if found != *hash {
                    return Err(ObserveError::Checksum { path });
                }
            }
        }
        // A file of arrays that is not listed would be left out without a word.
        let unlisted = |n: &&String| n.ends_with(".safetensors") && !info.files.contains_key(*n);
        if let Some(name) = names(folder)?.iter().filter(|n| is_part(n)).find(unlisted) {
            return Err(ObserveError::malformed(
                &folder.join(INFO_FILE),
                format!("`files` does not list {name}, which is in the folder"),
            ));
        }
        let file = ArrayFile::open(&folder.join(CONTEXTS_FILE))?;
        let counts = read_counts(&file, info.vocab_size)?;
        let rows = counts.nrows();
        let contexts = match info.kind {
            Kind::Contexts => read_contexts(&file, rows, info.vocab_size)?,
            Kind::Positions => Rows::Positions(read_positions(&file, &counts, info.vocab_size)?),
        };
        let weights = read_weights(&file, &counts)?;
        let blocks = read_blocks(&file, &counts)?;
        let states = read_states(folder, &info, rows)?;
        let head = read_head(folder, &info, states.as_ref())?;
        let tokenizer = read_tokenizer(&folder.join(TOKENIZER_FILE))?;
        Ok(Self {
            info,
            contexts,
            counts,
            weights,
            blocks,
            states,
            head,
            tokenizer,
            exact: None,
        })
    }
}

fn read_info(folder: &Path) -> Result<Info, ObserveError> {
    let path = folder.join(INFO_FILE);
    if !folder.is_dir() {
        let what = if folder.exists() {
            "a file; an observation is a folder"
        } else {
            "no such folder"
        };
        return Err(ObserveError::malformed(folder, what));
    }
    let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            ObserveError::malformed(&path, "missing, so this is no complete observation")
        }
        _ => ObserveError::io(&path, e),
    })?;
    let wrong = |what: String| ObserveError::malformed(&path, what);
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| wrong(format!("not readable as JSON: {e}")))?;
    let schema = value
        .get("schema")
        .and_then(|s| s.as_str())
        .unwrap_or("missing");
    if schema != Info::SCHEMA {
        return Err(wrong(format!(
            "its schema is `{schema}`; this version reads `{}`",
            Info::SCHEMA
        )));
    }
    let info: Info = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
    if info.vocab_size == 0 || info.vocab_size >= u32::MAX as usize {
        return Err(wrong(format!("vocab_size is {}", info.vocab_size)));
    }
    let is_name = |n: &str| {
        Path::new(n)
            .components()
            .eq([Component::Normal(n.as_ref())])
    };
    if let Some(name) = info.files.keys().find(|n| !is_name(n)) {
        return Err(wrong(format!(
            "`{name}` is not the name of a file in the folder"
        )));
    }
    Ok(info)
}

fn read_counts(file: &ArrayFile, vocab_size: usize) -> Result<SparseRows<u64>, ObserveError> {
    let (indptr, _) = file.integers("counts.indptr")?;
    let (tokens, _) = file.indices("counts.tokens", vocab_size + 1)?;
    let (values, _) = file.integers("counts.values")?;
    if values.contains(&0) {
        return Err(file.error("`counts.values` holds a 0; only tokens that occurred are listed"));
    }
    let total = values
        .iter()
        .try_fold(0u64, |total, &v| total.checked_add(v));
    if total.is_none() {
        return Err(file.error("`counts.values` add up to more than a 64-bit number holds"));
    }
    let counts = SparseRows::from_parts(vocab_size + 1, indptr, tokens, values)
        .map_err(|e| file.error(format!("counts: {e}")))?;
    if counts.nrows() == 0 {
        return Err(file.error("it has no rows"));
    }
    if let Some(row) = counts.rows().position(|(tokens, _)| tokens.is_empty()) {
        return Err(file.error(format!(
            "row {row} has no next token: an empty support is no law"
        )));
    }
    Ok(counts)
}

fn read_contexts(file: &ArrayFile, rows: usize, vocab_size: usize) -> Result<Rows, ObserveError> {
    let (tokens, shape) = file.indices("contexts", vocab_size)?;
    match shape[..] {
        [m, order] if m == rows => Ok(Rows::Contexts { order, tokens }),
        _ => Err(file.error(format!(
            "`contexts` has shape {shape:?}; it should be [{rows}, order]"
        ))),
    }
}

fn read_positions(
    file: &ArrayFile,
    counts: &SparseRows<u64>,
    vocab_size: usize,
) -> Result<Positions, ObserveError> {
    let any = u32::MAX as usize;
    let positions = Positions {
        tokens: file.indices("tokens", vocab_size)?.0,
        window_offsets: file.integers("window_offsets")?.0,
        window: file.indices("position.window", any)?.0,
        prefix_length: file.indices("position.prefix_length", any)?.0,
        document: file.indices("position.document", any)?.0,
        next: file.indices("position.next", vocab_size + 1)?.0,
    };
    let (found, rows) = (positions.next.len(), counts.nrows());
    if found != rows {
        return Err(file.error(format!(
            "{found} positions do not match {rows} rows of counts"
        )));
    }
    if let Some(problem) = positions.problem() {
        return Err(file.error(problem));
    }
    let once = |(row, next): (&[u32], &u32)| row == [*next];
    let followed = counts
        .rows()
        .map(|(tokens, _)| tokens)
        .zip(&positions.next)
        .position(|p| !once(p));
    match followed.or_else(|| counts.values().iter().position(|&c| c != 1)) {
        Some(row) => Err(file.error(format!(
            "the counts of position {row} are not one occurrence of its `position.next`"
        ))),
        None => Ok(positions),
    }
}

/// The weights, or each row's share of the counts where the file has none.
fn read_weights(file: &ArrayFile, counts: &SparseRows<u64>) -> Result<Vec<f64>, ObserveError> {
    let rows = counts.nrows();
    let mut weights = if file.has("weights")? {
        file.vector("weights", rows)?
    } else {
        counts
            .rows()
            .map(|(_, values)| values.iter().sum::<u64>() as f64)
            .collect()
    };
    let total = sum(weights.iter().copied());
    if weights.iter().any(|&w| w <= 0.0) {
        return Err(file.error("`weights` must be positive"));
    }
    if file.has("weights")? && (total - 1.0).abs() > 1e-9 {
        return Err(file.error(format!(
            "`weights` sum to {total}; they must sum to 1 within 1e-9"
        )));
    }
    weights.iter_mut().for_each(|w| *w /= total);
    Ok(weights)
}

fn read_blocks(
    file: &ArrayFile,
    counts: &SparseRows<u64>,
) -> Result<Option<BlockSplit>, ObserveError> {
    if !file.has("blocks.indptr")? {
        return Ok(None);
    }
    let (indptr, _) = file.integers("blocks.indptr")?;
    let (parts, _) = file.indices("blocks.count", u32::MAX as usize)?;
    // Far more blocks than a bootstrap needs; beyond, a hostile file could ask for any memory.
    let (blocks, _) = file.indices("blocks.block", parts.len().max(1 << 20))?;
    let wrong = || file.error("the arrays `blocks.*` do not break the counts down");
    let fits = indptr.len() == counts.nnz() + 1
        && indptr.first() == Some(&0)
        && indptr.windows(2).all(|w| w[0] <= w[1])
        && indptr.last() == Some(&(parts.len() as u64))
        && blocks.len() == parts.len();
    if !fits {
        return Err(wrong());
    }
    for (pair, &count) in indptr.windows(2).zip(counts.values()) {
        let total: u64 = parts[pair[0] as usize..pair[1] as usize]
            .iter()
            .map(|&c| u64::from(c))
            .sum();
        if total != count {
            return Err(wrong());
        }
    }
    Ok(Some(BlockSplit {
        indptr,
        blocks,
        counts: parts,
    }))
}

fn read_states(folder: &Path, info: &Info, rows: usize) -> Result<Option<States>, ObserveError> {
    let names: Vec<&String> = info
        .files
        .keys()
        .filter(|n| n.starts_with(STATES_PREFIX) && n.ends_with(".safetensors"))
        .collect();
    let mut layers: Vec<(usize, Vec<f32>, usize)> = Vec::new();
    for (shard, name) in names.iter().enumerate() {
        let file = ArrayFile::open(&folder.join(name))?;
        let mut found = Vec::new();
        for tensor in file.tensors()?.names() {
            let layer = tensor
                .strip_prefix("layer.")
                .and_then(|l| l.parse::<usize>().ok());
            let layer = layer.filter(|l| *tensor == format!("layer.{l}"));
            found.push(layer.ok_or_else(|| {
                file.error(format!("the array `{tensor}` is not named layer.<number>"))
            })?);
        }
        if found.is_empty() {
            return Err(file.error("it holds no array layer.<number>"));
        }
        found.sort_unstable();
        if shard > 0 && found != layers.iter().map(|(l, ..)| *l).collect::<Vec<_>>() {
            return Err(file.error("it holds other layers than the files of states before it"));
        }
        for (i, layer) in found.into_iter().enumerate() {
            let part = file.matrix(&format!("layer.{layer}"))?;
            match layers.get_mut(i) {
                None => layers.push((layer, part.data().to_vec(), part.ncols())),
                Some((_, data, width)) if *width == part.ncols() => data.extend(part.data()),
                Some((_, _, width)) => {
                    let width = *width;
                    return Err(file.error(format!(
                        "layer.{layer} has {} columns, elsewhere {width}",
                        part.ncols()
                    )));
                }
            }
        }
    }
    if layers.is_empty() {
        return Ok(None);
    }
    let layers = layers
        .into_iter()
        .map(
            |(layer, data, width)| match RowMatrix::from_vec(data, rows, width) {
                Ok(matrix) => Ok((layer, matrix)),
                Err(e) => Err(ObserveError::malformed(
                    &folder.join(names[0]),
                    format!("layer.{layer} does not have a state for each of the {rows} rows: {e}"),
                )),
            },
        )
        .collect::<Result<Vec<_>, _>>()?;
    let states = States::new(layers);
    states
        .map(Some)
        .map_err(|e| ObserveError::malformed(&folder.join(names[0]), e.to_string()))
}

fn read_head(
    folder: &Path,
    info: &Info,
    states: Option<&States>,
) -> Result<Option<Head>, ObserveError> {
    if !info.files.contains_key(HEAD_FILE) {
        return Ok(None);
    }
    let file = ArrayFile::open(&folder.join(HEAD_FILE))?;
    let weight = file.matrix("weight")?;
    if weight.nrows() != info.vocab_size {
        return Err(file.error(format!(
            "`weight` has {} rows; the vocabulary has {} tokens",
            weight.nrows(),
            info.vocab_size
        )));
    }
    if let Some(states) = states
        .map(States::last)
        .filter(|(_, s)| s.ncols() != weight.ncols())
    {
        return Err(file.error(format!(
            "`weight` has {} columns; the states have {}",
            weight.ncols(),
            states.1.ncols()
        )));
    }
    let narrow = |name: &str, length: usize| -> Result<Option<Vec<f32>>, ObserveError> {
        if !file.has(name)? {
            return Ok(None);
        }
        Ok(Some(
            file.vector(name, length)?
                .into_iter()
                .map(|x| x as f32)
                .collect(),
        ))
    };
    let bias = narrow("bias", info.vocab_size)?;
    let norm = narrow("norm.weight", weight.ncols())?;
    let norm = match (norm, info.norm_eps) {
        (None, _) => None,
        (Some(weight), Some(eps)) if eps.is_finite() && eps >= 0.0 => Some(ReadoutNorm {
            bias: narrow("norm.bias", weight.len())?,
            weight,
            centred: info.norm_centred,
            eps,
        }),
        (Some(_), _) => {
            return Err(ObserveError::malformed(
                &folder.join(INFO_FILE),
                "the head has a norm, so `norm_eps` must be a number that is not negative",
            ));
        }
    };
    if info.soft_cap.is_some_and(|c| !(c.is_finite() && c > 0.0)) {
        return Err(ObserveError::malformed(
            &folder.join(INFO_FILE),
            "`soft_cap` must be positive",
        ));
    }
    Ok(Some(Head {
        weight,
        bias,
        soft_cap: info.soft_cap,
        norm,
    }))
}

fn read_tokenizer(path: &Path) -> Result<Option<Tokenizer>, ObserveError> {
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(Tokenizer::open(path)?))
}
