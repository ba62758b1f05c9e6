//! Times the truncated singular value decomposition of a centred support matrix; the arrays are those
//! that `benchmarks/concepts.py make` writes.
//!
//!     concepts FOLDER TOKENS RANK TOLERANCE [SEED]
//!
//! Prints one line of JSON, and leaves the vectors in FOLDER as `tokens.f64` and `contexts.f64` (row
//! after row).

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use lawvere_core::linalg::{RowCentered, truncated_svd};
use lawvere_core::{RowMatrix, SparseRows};

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: concepts FOLDER TOKENS RANK TOLERANCE [SEED]";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, tokens, rank, tolerance, seed @ ..] = arguments.as_slice() else {
        return Err(usage.into());
    };
    let folder = Path::new(folder);
    let seed = seed.first().map_or(Ok(0), |seed| seed.parse())?;
    let pointers = std::fs::read(folder.join("indptr.u64"))?;
    let indices = std::fs::read(folder.join("indices.u32"))?;
    let pointers: Vec<u64> = pointers
        .as_chunks()
        .0
        .iter()
        .map(|&b| u64::from_le_bytes(b))
        .collect();
    let indices: Vec<u32> = indices
        .as_chunks()
        .0
        .iter()
        .map(|&b| u32::from_le_bytes(b))
        .collect();
    let ones = vec![1.0; indices.len()];
    let supports = SparseRows::from_parts(tokens.parse()?, pointers, indices, ones)?;

    let start = Instant::now();
    let centred = RowCentered::new(&supports);
    let laid_out = start.elapsed().as_secs_f64();
    let svd = truncated_svd(&centred, rank.parse()?, tolerance.parse()?, seed)?;
    let seconds = start.elapsed().as_secs_f64();

    write(&folder.join("contexts.f64"), &svd.u)?;
    write(&folder.join("tokens.f64"), &svd.v)?;
    let largest = svd.singular_values.first().copied().unwrap_or(0.0);
    println!(
        "{}",
        serde_json::json!({
            "who": format!("lawvere, tolerance {tolerance}"),
            "seconds": seconds,
            "seconds_laid_out": laid_out,
            "products": svd.products,
            "converged": svd.converged,
            "residual": svd.residual / largest,
            "peak_mib": peak_mib(),
            "singular_values": svd.singular_values,
        })
    );
    Ok(())
}

fn write(path: &Path, matrix: &RowMatrix<f64>) -> std::io::Result<()> {
    let bytes: Vec<u8> = matrix.data().iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(path, bytes)
}

/// The largest resident size so far, where the system tells it.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim()
        .trim_end_matches("kB")
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib / 1024)
}
