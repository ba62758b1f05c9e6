//! The tile instructions on machines that lack them, one at a time as they are met, so that the code that uses them is
//! tested everywhere: a handler of the signal that an unknown instruction raises does what the manual says it does.
#![allow(clippy::unwrap_used, static_mut_refs)]

use std::sync::Mutex;

use super::*;
use crate::packed::{Bf16Kernel, Format, PackedMatrix, PackedRows};
use crate::{RowMatrix, packed::Product};

type Tile = [[u32; 16]; 16];

static mut TILES: [Tile; 8] = [[[0; 16]; 16]; 8];
static mut CONFIGURED: bool = false;
/// One test at a time has the tiles above.
static ALONE: Mutex<()> = Mutex::new(());

/// The two values of a word.
fn halves(word: u32) -> [f32; 2] {
    [word << 16, word & 0xffff_0000].map(f32::from_bits)
}

/// Carries out the instruction at the program counter, which is none of ours if it is no tile instruction: then the
/// process ends as it would have.
extern "C" fn on_illegal(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system hands the interrupted registers over; the addresses are those of the instruction's operands;
    // `ALONE` keeps other threads off the tiles.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let by_number = [
            libc::REG_RAX,
            libc::REG_RCX,
            libc::REG_RDX,
            libc::REG_RBX,
            libc::REG_RSP,
            libc::REG_RBP,
            libc::REG_RSI,
            libc::REG_RDI,
            libc::REG_R8,
            libc::REG_R9,
            libc::REG_R10,
            libc::REG_R11,
            libc::REG_R12,
            libc::REG_R13,
            libc::REG_R14,
            libc::REG_R15,
        ];
        let value = |number: u8| registers[by_number[usize::from(number)] as usize];
        let code = registers[libc::REG_RIP as usize] as *const u8;
        let byte = |i: usize| *code.add(i);
        // VEX with three bytes, map 0F 38, W 0, 128 bits.
        if byte(0) != 0xc4 || byte(1) & 0x1f != 2 || byte(2) & 0x84 != 0 {
            libc::abort();
        }
        let (not_x, not_b) = (byte(1) >> 6 & 1, byte(1) >> 5 & 1);
        let (third, prefix, operation) = (!byte(2) >> 3 & 15, byte(2) & 3, byte(3));
        let (kind, reg, rm) = (byte(4) >> 6, byte(4) >> 3 & 7, byte(4) & 7);
        let mut length = 5;
        let (mut base, mut index, mut scale) = (rm | (1 - not_b) << 3, None, 0);
        if kind != 3 && rm == 4 {
            let sib = byte(5);
            length += 1;
            base = sib & 7 | (1 - not_b) << 3;
            let number = sib >> 3 & 7 | (1 - not_x) << 3;
            index = (number != 4).then_some(number);
            scale = sib >> 6;
            if kind == 0 && sib & 7 == 5 {
                libc::abort();
            }
        } else if kind == 0 && rm == 5 {
            libc::abort();
        }
        let offset = match kind {
            0 | 3 => 0,
            1 => i64::from(byte(length) as i8),
            _ => i64::from(code.add(length).cast::<i32>().read_unaligned()),
        };
        length += [0, 1, 4, 0][usize::from(kind)];
        let start = value(base) + offset;
        let stride = index.map_or(0, |number| value(number) << scale);
        let row_at = |row: usize| (start + stride * row as i64) as *mut [u32; 16];
        let tile = &mut TILES[usize::from(reg)];
        match (operation, prefix, kind) {
            (0x49, 0, 3) => CONFIGURED = false,
            (0x49, 0, _) => {
                let given = &*(start as *const Configuration);
                // Tests use the one configuration there is.
                let all = given.rows[..8] == [16; 8] && given.row_bytes[..8] == [64; 8];
                if given.palette != 1 || given.start_row != 0 || !all {
                    libc::abort();
                }
                CONFIGURED = true;
                TILES = [[[0; 16]; 16]; 8];
            }
            _ if !CONFIGURED => libc::abort(),
            (0x49, 3, 3) => *tile = [[0; 16]; 16],
            (0x4b, 3, 0..3) => (0..16).for_each(|row| tile[row] = row_at(row).read_unaligned()),
            (0x4b, 2, 0..3) => (0..16).for_each(|row| row_at(row).write_unaligned(tile[row])),
            (0x5c, 2, 3) => {
                let (left, right) = (TILES[usize::from(rm)], TILES[usize::from(third)]);
                for m in 0..16 {
                    for (k, word) in left[m].into_iter().enumerate() {
                        for n in 0..16 {
                            let (a, b) = (halves(word), halves(right[k][n]));
                            let sum = f32::from_bits(TILES[usize::from(reg)][m][n]);
                            let sum = sum + a[0] * b[0] + a[1] * b[1];
                            TILES[usize::from(reg)][m][n] = sum.to_bits();
                        }
                    }
                }
            }
            _ => libc::abort(),
        }
        registers[libc::REG_RIP as usize] += length as i64;
    }
}

/// Runs `f` where tile instructions work: those of the machine if it has them and lets us, else the ones above.
fn with_tiles(f: impl FnOnce()) {
    if is_here() {
        return f();
    }
    let alone = ALONE.lock().unwrap();
    // SAFETY: the handler has the signature that its flag asks for.
    unsafe {
        // A machine whose tiles this process may not use still takes their configuration itself.
        CONFIGURED = has_tiles();
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_illegal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        let mut before = std::mem::zeroed();
        assert_eq!(libc::sigaction(libc::SIGILL, &action, &mut before), 0);
        f();
        assert_eq!(
            libc::sigaction(libc::SIGILL, &before, std::ptr::null_mut()),
            0
        );
    }
    drop(alone);
}

#[test]
fn the_tiles_prove_right() {
    with_tiles(|| assert!(proves_right()));
}

#[test]
fn tiles_can_be_multiplied_alone() {
    with_tiles(|| assert_eq!(Tiles::with(|tiles| tiles.turn(3)), 3 * 2 * 32 * 32 * 32));
}

#[test]
fn products_by_tiles_are_the_sums_they_should_be() {
    for (rows, outputs, inputs) in [(1, 1, 1), (33, 70, 577), (64, 32, 1200), (300, 95, 31)] {
        let of = |n: usize, seed: usize| {
            RowMatrix::from_fn(n, inputs, |i, k| {
                ((i * 31 + k * 17 + seed) % 101) as f32 / 8.0 - 6.0
            })
        };
        // Eighths up to 6 are exact in bfloat16, and so is every product in float32.
        let (x, w) = (of(rows, 7), of(outputs, 14));
        let format = Format::Bf16(Bf16Kernel::Amx);
        let matrix = PackedMatrix::in_format(w.view(), format);
        let mut packed = PackedRows::in_format(format);
        packed.copy(rows, inputs, x.data());
        let mut out = RowMatrix::from_fn(rows, outputs, |_, _| f32::NAN);
        for add in [false, true] {
            with_tiles(|| {
                let mut parts: Vec<&mut [f32]> = out.data_mut().chunks_exact_mut(outputs).collect();
                let product = Product {
                    matrix: &matrix,
                    rows: &packed,
                    blocks: 0..packed.blocks().len(),
                    panels: 0..matrix.panels(),
                    out: &mut parts,
                    add,
                };
                Tiles::with(|tiles| by_tiles(tiles, product));
            });
            let times = if add { 2.0 } else { 1.0 };
            for i in 0..rows {
                for j in 0..outputs {
                    let terms = x.row(i).iter().zip(w.row(j));
                    let exact: f64 = terms.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    assert_eq!(
                        f64::from(out.get(i, j)),
                        times * exact,
                        "{rows} {outputs} {inputs} {i} {j}"
                    );
                }
            }
        }
    }
}
