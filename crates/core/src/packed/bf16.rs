//! Products with matrices in bfloat16: their layout, the ways to multiply them, and one of these ways.

use half::bf16;

use crate::vector::vectorised;
#[cfg(target_arch = "x86_64")]
use {
    super::{MOST_ROWS, Product, VECTORS, limits::SUMS},
    std::arch::x86_64::{
        __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_reduce_add_ps,
        _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    },
    std::hint::black_box,
};

/// Outputs in a panel of [`Bf16Kernel::Avx512`].
pub(super) const WIDTH: usize = super::VECTORS * 16;
/// Outputs in a panel and rows in a block of [`Bf16Kernel::Amx`]: two tiles of 16 each way.
pub(super) const TILES_WIDTH: usize = 32;
pub(super) const TILES_ROWS: usize = 32;
/// Sums have a multiple of so many terms, the inputs of a tile.
pub(super) const STEP: usize = 32;

/// How products with matrices in bfloat16 are computed. Sums are in float32 in each; where rows are rounded too,
/// a product's relative error is some 2^-9 of the root of the sum of its terms' squares, and about 0.7 of that where
/// they are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bf16Kernel {
    /// On every machine: weights become float32 again in the registers and are multiplied as float32. Rows are not
    /// rounded. What is gained is memory, and its bandwidth.
    Float32,
    /// The dot products of AVX-512 BF16 (`vdpbf16ps`), two terms at a time. Rows are rounded to bfloat16.
    Avx512,
    /// The tiles of AMX (`tdpbf16ps`), 32 terms at a time. Rows are rounded to bfloat16.
    Amx,
}

impl Bf16Kernel {
    /// The ways that this machine has.
    pub fn available() -> Vec<Self> {
        let all = [Self::Float32, Self::Avx512, Self::Amx];
        all.into_iter().filter(|kernel| kernel.is_here()).collect()
    }

    /// The one whose instructions do most in a cycle: AMX, then AVX-512 BF16. Cores of Intel start one `vdpbf16ps` every second cycle, where they
    /// start two multiply-adds of float32 in each: half the rate, so there float32 goes first.
    pub fn best() -> Self {
        let here = Self::available();
        let slower = |kernel: &Self| *kernel == Self::Avx512 && is_intel();
        let faster = here.into_iter().rfind(|kernel| !slower(kernel));
        faster.unwrap_or(Self::Float32)
    }

    #[cfg(target_arch = "x86_64")]
    fn is_here(self) -> bool {
        match self {
            Self::Float32 => true,
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
            }
            Self::Amx => super::amx::is_here(),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_here(self) -> bool {
        self == Self::Float32
    }
}

/// A leaf of what the processor says of itself.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, unused_unsafe)]
pub(super) fn cpuid(leaf: u32) -> std::arch::x86_64::CpuidResult {
    // SAFETY: every processor of this architecture has the instruction; in older Rust its function is unsafe.
    unsafe { std::arch::x86_64::__cpuid_count(leaf, 0) }
}

#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    let vendor = cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes) == [*b"Genu", *b"ineI", *b"ntel"]
}

#[cfg(not(target_arch = "x86_64"))]
fn is_intel() -> bool {
    false
}

/// Two values in a word, the first in its lower half.
#[inline(always)]
pub(super) fn pair(values: [f32; 2]) -> f32 {
    let [low, high] = values.map(|x| u32::from(bf16::from_f32(x).to_bits()));
    f32::from_bits(high << 16 | low)
}

/// Rounds values, two a word.
pub(super) fn round(values: &[f32], out: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (out, values) in out.iter_mut().zip(values.as_chunks().0) {
                *out = pair(*values);
            }
        },
    );
}

/// Writes or adds a block's sums, `width` a row, to `out[i][column ..]`, as far as it goes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn store(sums: &[f32], width: usize, out: &mut [&mut [f32]], column: usize, add: bool) {
    for (out, sums) in out.iter_mut().zip(sums.chunks_exact(width)) {
        let end = out.len().min(column + width);
        let both = out[column..end].iter_mut().zip(sums);
        if add {
            both.for_each(|(out, sum)| *out += sum);
        } else {
            both.for_each(|(out, sum)| *out = *sum);
        }
    }
}

/// Dot products of AVX-512 BF16 with everything in registers; the number of operations.
///
/// # Panics
/// If the machine has none.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub(super) fn dot_products_alone(steps: usize) -> usize {
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn run(steps: usize) -> usize {
        // SAFETY: both are 64 bytes, and every value of them is one of the other.
        let halves = |x: __m512i| -> __m512bh { unsafe { std::mem::transmute(x) } };
        // A half twice over.
        let half = halves(_mm512_set1_epi32(black_box(0x3f00_3f00)));
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = _mm512_set1_ps(black_box(i as f32));
        }
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, half, half);
            }
        }
        for sum in sums {
            black_box(_mm512_reduce_add_ps(sum));
        }
        // Two products and two sums in each of 16 lanes.
        4 * 16 * SUMS * steps
    }
    assert!(Bf16Kernel::Avx512.is_here(), "AVX-512 BF16");
    // SAFETY: the machine has the instructions.
    unsafe { run(steps) }
}

/// A product by AVX-512 BF16.
///
/// # Panics
/// If the machine has none.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub(super) fn by_avx512(product: Product<'_, '_>) {
    assert!(Bf16Kernel::Avx512.is_here(), "AVX-512 BF16");
    // SAFETY: the machine has the instructions.
    unsafe { avx512(product) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn avx512(product: Product<'_, '_>) {
    let first_row = product.first_row();
    for step in product.steps() {
        let (weights, _) = product.matrix.stretch(&step).as_chunks();
        let words = step.depth.start / 2..step.depth.end / 2;
        for block in &product.rows.blocks[step.blocks] {
            let mut values = [&[][..]; MOST_ROWS];
            for (values, row) in values.iter_mut().zip(block.clone()) {
                *values = &product.rows.rounded(row)[words.clone()];
            }
            let mut sums = [0.0; MOST_ROWS * WIDTH];
            macro_rules! of_rows {
                ($($rows:literal)*) => {
                    match block.len() {
                        $($rows => dot_products::<$rows>(weights, &values, &mut sums),)*
                        _ => {}
                    }
                };
            }
            of_rows!(1 2 3 4 5 6 7 8);
            let out = &mut product.out[block.start - first_row..block.end - first_row];
            let add = product.add || step.depth.start > 0;
            store(&sums, WIDTH, out, step.column, add);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
#[allow(unsafe_code)]
fn dot_products<const ROWS: usize>(
    weights: &[[f32; WIDTH]],
    values: &[&[f32]; MOST_ROWS],
    out: &mut [f32; MOST_ROWS * WIDTH],
) {
    // SAFETY: both are 64 bytes, and every value of them is one of the other.
    let halves = |x: __m512i| -> __m512bh { unsafe { std::mem::transmute(x) } };
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    let values: [&[f32]; ROWS] = std::array::from_fn(|i| &values[i][..weights.len()]);
    for (k, weights) in weights.iter().enumerate() {
        let weights: [__m512bh; VECTORS] = std::array::from_fn(|j| {
            // SAFETY: 16 words from word 16 j on lie within the 48 of the panel.
            halves(unsafe { _mm512_loadu_si512(weights.as_ptr().add(16 * j).cast()) })
        });
        for (sums, values) in sums.iter_mut().zip(&values) {
            let both = halves(_mm512_set1_epi32(values[k].to_bits() as i32));
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = _mm512_dpbf16_ps(*sum, weights, both);
            }
        }
    }
    let vectors = sums.iter().flatten();
    for (out, sum) in out.as_chunks_mut::<16>().0.iter_mut().zip(vectors) {
        // SAFETY: `out` has room for 16 values.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), *sum) }
    }
}
