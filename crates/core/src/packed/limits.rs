//! What a machine allows products at most: by its instructions and by its memory.

use std::hint::black_box;
use std::time::Instant;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::Bf16Kernel;
use super::Format;
use crate::buffer::Buffer;
use crate::vector::vectorised;

/// Sums that do not wait for each other: more than any processor has under way at once.
pub(super) const SUMS: usize = 12;
/// Steps of a run, a few milliseconds.
const STEPS: usize = 1 << 20;

/// Floating-point operations a second of the instructions that products in `format` are made of, with everything in
/// registers, on all threads of the current pool: what no product can surpass. The best of runs of some
/// milliseconds for `seconds`, five at least.
///
/// # Panics
/// If the machine does not have the format's instructions ([`Bf16Kernel::available`](super::Bf16Kernel::available)).
pub fn instruction_rate(format: Format, seconds: f64) -> f64 {
    let operations = || match format {
        #[cfg(target_arch = "x86_64")]
        Format::Bf16(Bf16Kernel::Avx512) => super::bf16::dot_products_alone(STEPS),
        #[cfg(target_arch = "x86_64")]
        Format::Bf16(Bf16Kernel::Amx) => super::amx::products_alone(STEPS / 16),
        _ => Arch::new().dispatch(MultiplyAdds),
    };
    best_rate(seconds, || {
        let each = rayon::broadcast(|_| operations());
        each.iter().sum::<usize>() as f64
    })
}

/// Bytes a second at which the threads of the current pool read `bytes` of memory straight through, with which a
/// product of one row with a matrix of that size ends at best. The best of readings for `seconds`, five at least.
pub fn read_rate(bytes: usize, seconds: f64) -> f64 {
    let mut memory = Buffer::zeros((bytes / size_of::<f32>()).max(1));
    // Pages that were never written to are not there yet.
    memory
        .par_chunks_mut(1 << 18)
        .for_each(|part| part.fill(1.0));
    let parts = memory.len().div_ceil(4 * rayon::current_num_threads());
    best_rate(seconds, || {
        let sums = memory.par_chunks(parts).map(|part| {
            vectorised(
                #[inline(always)]
                || {
                    // As many sums as take each value when it comes.
                    let mut sums = [0.0f32; 64];
                    for values in part.as_chunks::<64>().0 {
                        for k in 0..64 {
                            sums[k] += values[k];
                        }
                    }
                    sums.iter().sum::<f32>()
                },
            )
        });
        black_box(sums.sum::<f32>());
        size_of_val(&memory[..]) as f64
    })
}

/// The most that `run` does in a second.
fn best_rate(seconds: f64, mut run: impl FnMut() -> f64) -> f64 {
    let (mut best, mut runs, start) = (0.0f64, 0, Instant::now());
    while runs < 5 || start.elapsed().as_secs_f64() < seconds {
        let begin = Instant::now();
        let done = run();
        best = best.max(done / begin.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

/// Multiply-adds of float32 vectors.
struct MultiplyAdds;

impl WithSimd for MultiplyAdds {
    /// Operations done.
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let half = simd.splat_f32s(black_box(0.5));
        // Each another number, so that none is another's sum.
        let mut sums = [half; SUMS];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = simd.splat_f32s(black_box(i as f32));
        }
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, half, half);
            }
        }
        for sum in sums {
            black_box(simd.reduce_sum_f32s(sum));
        }
        2 * STEPS * SUMS * S::F32_LANES
    }
}
