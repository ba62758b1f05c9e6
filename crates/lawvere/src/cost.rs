//! What a run takes: estimated before, measured after.

use std::time::Instant;

use lawvere_core::{Buffer, Format, PackedMatrix, PackedRows, RowMatrix};

/// Floating-point operations a second of the engine's matrix product, on the current threads: on
/// average and at best, over `seconds` of products of rows x inputs x outputs, five at least.
pub(crate) fn product_rate(
    (rows, inputs, outputs): (usize, usize, usize),
    format: Format,
    seconds: f64,
) -> (f64, f64) {
    let weight = PackedMatrix::in_format(RowMatrix::zeros(outputs, inputs).view(), format);
    let mut left = PackedRows::in_format(format);
    left.fill(rows, inputs, |_, row| row.fill(0.0));
    let mut out = Buffer::zeros(rows * outputs);
    let once = 2.0 * (rows * inputs * outputs) as f64;
    weight.multiply(&left, &mut out);
    let (mut total, mut best, mut rounds) = (0.0, f64::INFINITY, 0);
    while rounds < 5 || total < seconds {
        let start = Instant::now();
        weight.multiply(&left, &mut out);
        let taken = start.elapsed().as_secs_f64();
        total += taken;
        best = best.min(taken);
        rounds += 1;
    }
    (once * f64::from(rounds) / total, once / best)
}

/// Operations a second for products of a small decoder's shape, for estimates. Takes some 30 ms.
pub(crate) fn operations_per_second() -> f64 {
    product_rate((256, 576, 1536), Format::F32, 0.03).0
}

/// Memory that can still be had, in bytes; `None` where the system does not tell.
pub(crate) fn available_memory() -> Option<u64> {
    kibibytes("/proc/meminfo", "MemAvailable:")
}

/// The largest resident memory of this process so far, in bytes; `None` where the system does not tell.
pub fn peak_memory() -> Option<u64> {
    kibibytes("/proc/self/status", "VmHWM:")
}

fn kibibytes(file: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|l| l.starts_with(field))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}
