//! Products with matrices in bfloat16 by the tile registers of AMX.
//!
//! Rust's functions for them are not stable, so the instructions are written out. A tile is 16 rows of 64 bytes.
//! Two tiles of rows and two of weights make four tiles of sums, which are all eight that there are.
//!
//! *Source:* Intel, *64 and IA-32 Architectures Software Developer's Manual*, volume 1, chapter 18; Linux,
//! `Documentation/arch/x86/xstate.rst`.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::_xgetbv;
use std::sync::OnceLock;

use super::Product;
use super::bf16::{STEP, TILES_ROWS, TILES_WIDTH, cpuid, store};

/// Bytes in a row of a tile.
const TILE_ROW: usize = 64;

/// Whether the processor has the tiles, the system lets this process use them, and a product of theirs is right.
pub(super) fn is_here() -> bool {
    static HERE: OnceLock<bool> = OnceLock::new();
    *HERE.get_or_init(|| has_tiles() && may_use_tiles() && proves_right())
}

fn has_tiles() -> bool {
    /// TILE and BF16 in leaf 7.
    const FEATURES: u32 = 1 << 24 | 1 << 22;
    /// The state of the tiles' configuration and of their data, which the system keeps.
    const STATE: u64 = 1 << 17 | 1 << 18;
    #[target_feature(enable = "xsave")]
    fn state() -> u64 {
        // SAFETY: register 0 is there where the feature is.
        unsafe { _xgetbv(0) }
    }
    is_x86_feature_detected!("xsave")
        && is_x86_feature_detected!("avx512f")
        && cpuid(7).edx & FEATURES == FEATURES
        // SAFETY: the feature was found.
        && unsafe { state() } & STATE == STATE
}

/// Linux keeps room for a process's tiles once it has asked.
#[cfg(target_os = "linux")]
fn may_use_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: asks the system for leave to use a register; no memory is passed.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
}

/// A product of small whole numbers, which has no rounding: a machine on which it comes out otherwise (an emulator
/// that lacks something) goes without.
fn proves_right() -> bool {
    const PAIRS: usize = STEP;
    let value = |i: usize, k: usize| ((i * 7 + k * 3) % 9) as f32 - 4.0;
    let pair = |i: usize, k: usize| super::bf16::pair([value(i, 2 * k), value(i, 2 * k + 1)]);
    let rows: Vec<f32> = (0..TILES_ROWS * PAIRS)
        .map(|n| pair(n / PAIRS, n % PAIRS))
        .collect();
    let weights: Vec<f32> = (0..PAIRS * TILES_WIDTH)
        .map(|n| pair(n % TILES_WIDTH + 5, n / TILES_WIDTH))
        .collect();
    let mut sums = [0.0; TILES_ROWS * TILES_WIDTH];
    Tiles::with(|tiles| tiles.multiply(&rows, PAIRS, &weights, &mut sums));
    sums.iter().enumerate().all(|(n, sum)| {
        let (i, j) = (n / TILES_WIDTH, n % TILES_WIDTH + 5);
        let terms = (0..2 * PAIRS).map(|k| value(i, k) * value(j, k));
        *sum == terms.sum::<f32>()
    })
}

/// Products of tiles with everything in registers; the number of operations.
///
/// # Panics
/// If the machine has none.
pub(super) fn products_alone(steps: usize) -> usize {
    assert!(is_here(), "AMX");
    Tiles::with(|tiles| tiles.turn(steps))
}

/// A product by AMX.
///
/// # Panics
/// If the machine has none.
pub(super) fn multiply(product: Product<'_, '_>) {
    assert!(is_here(), "AMX");
    Tiles::with(|tiles| by_tiles(tiles, product));
}

fn by_tiles(tiles: &Tiles, product: Product<'_, '_>) {
    let (matrix, first_row) = (product.matrix, product.first_row());
    let words = matrix.format.depth(matrix.inputs) / 2;
    let mut sums = [0.0; TILES_ROWS * TILES_WIDTH];
    for step in product.steps() {
        let weights = matrix.stretch(&step);
        for block in &product.rows.blocks[step.blocks] {
            let from = block.start * words + step.depth.start / 2;
            // Beyond the last row the buffer has room: sums of what lies there are not written out.
            let rows = &product.rows.data.room()[from..];
            tiles.multiply(rows, words, weights, &mut sums);
            let out = &mut product.out[block.start - first_row..block.end - first_row];
            let add = product.add || step.depth.start > 0;
            store(&sums, TILES_WIDTH, out, step.column, add);
        }
    }
}

/// The tile registers of this thread, configured.
struct Tiles(());

/// What `ldtilecfg` reads: palette 1, all eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    fn with<R>(f: impl FnOnce(&Self) -> R) -> R {
        let mut configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        configuration.row_bytes[..8].fill(TILE_ROW as u16);
        configuration.rows[..8].fill(16);
        // SAFETY: the machine has the instruction (`is_here`, or a test that supplies it) and it reads 64 bytes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly))
        }
        let result = f(&Self(()));
        // SAFETY: as above; it touches no memory.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
        result
    }

    /// Products of the same tiles, which hold whatever the configuration left in them (zeros), and the
    /// operations of them: as many as of 32 rows and outputs, 32 terms deep.
    fn turn(&self, steps: usize) -> usize {
        if steps > 0 {
            // SAFETY: the tiles are configured; no memory is touched.
            unsafe {
                asm!(
                    "2:",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "dec {steps}",
                    "jnz 2b",
                    steps = inout(reg) steps => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, nomem),
                );
            }
        }
        steps * 2 * TILES_ROWS * TILES_WIDTH * STEP
    }

    /// Sums of 32 rows, `words` apart, with a panel's 32 outputs, as deep as `weights` goes.
    fn multiply(
        &self,
        rows: &[f32],
        words: usize,
        weights: &[f32],
        sums: &mut [f32; TILES_ROWS * TILES_WIDTH],
    ) {
        /// Words of a tile's row.
        const TILE_WORDS: usize = TILE_ROW / 4;
        let depth = weights.len() / (TILES_WIDTH * TILE_WORDS);
        assert!(rows.len() >= (TILES_ROWS - 1) * words + depth * TILE_WORDS && depth > 0);
        // SAFETY: the tiles are configured. Each step reads 16 words of 32 rows, which were counted above, and 16 x 32
        // words of weights; the four tiles of sums are 32 x 32 words. Nobody else uses the tile registers.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm6, [{weights} + {across}]",
                "tileloadd tmm7, [{weights} + {across} + 64]",
                "tileloadd tmm4, [{above} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{below} + {row}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {weights}, 2048",
                "add {above}, 64",
                "add {below}, 64",
                "dec {depth}",
                "jnz 2b",
                "tilestored [{sums} + {across}], tmm0",
                "tilestored [{sums} + {across} + 64], tmm1",
                "tilestored [{sums} + {across} + 2048], tmm2",
                "tilestored [{sums} + {across} + 2112], tmm3",
                weights = inout(reg) weights.as_ptr() => _,
                above = inout(reg) rows.as_ptr() => _,
                below = inout(reg) rows.as_ptr().add(16 * words) => _,
                depth = inout(reg) depth => _,
                sums = in(reg) sums.as_mut_ptr(),
                across = in(reg) TILES_WIDTH * 4,
                row = in(reg) words * 4,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
#[path = "amx_emulated.rs"]
mod emulated;
