//! What a run takes: estimated before, measured after.

use std::time::Instant;

use lawvere_core::RowMatrix;
use lawvere_core::linalg::matmul;

/// Floating-point operations a second of this machine's float32 matrix product, on the current
/// threads, for products of a small decoder's shape. Takes some 30 ms.
pub(crate) fn operations_per_second() -> f64 {
    const SHAPE: (usize, usize, usize) = (256, 576, 1536);
    let a = RowMatrix::<f32>::zeros(SHAPE.0, SHAPE.1);
    let b = RowMatrix::<f32>::zeros(SHAPE.2, SHAPE.1);
    let mut out = RowMatrix::<f32>::zeros(SHAPE.0, SHAPE.2);
    let once = 2.0 * (SHAPE.0 * SHAPE.1 * SHAPE.2) as f64;
    matmul(out.view_mut(), a.view(), b.view().transpose());
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 3 || start.elapsed().as_secs_f64() < 0.03 {
        matmul(out.view_mut(), a.view(), b.view().transpose());
        rounds += 1;
    }
    once * f64::from(rounds) / start.elapsed().as_secs_f64()
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
