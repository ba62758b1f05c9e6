//! Times of min-plus products and closures of a dense matrix, and what the processor's vectors allow: one addition and
//! one comparison a lane and cycle. `cargo run --release --example min_plus -- N [FOLDER]`; with a folder, the matrix is read
//! from `FOLDER/a.f32` and what comes of it is written there, for a peer to compare.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use lawvere_core::RowMatrix;
use lawvere_core::tropical::{MinPlusFloat, min_plus_product, min_plus_star};
use pulp::{Arch, Simd, WithSimd};

/// Additions and comparisons of values that stay in registers: as many a second as there can be.
struct Peak<T> {
    seed: T,
    steps: usize,
}

const ROWS: usize = 6;
const VECTORS: usize = 4;

macro_rules! peak {
    ($float:ident, $splat:ident, $add:ident, $less:ident, $select:ident) => {
        impl WithSimd for Peak<$float> {
            type Output = usize;

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) -> usize {
                let mut least = [[simd.$splat(1e30); VECTORS]; ROWS];
                let mut a = [simd.$splat(self.seed); ROWS];
                let b = [simd.$splat(self.seed); VECTORS];
                for _ in 0..self.steps {
                    for i in 0..ROWS {
                        for j in 0..VECTORS {
                            let sum = simd.$add(a[i], b[j]);
                            let below = simd.$less(sum, least[i][j]);
                            least[i][j] = simd.$select(below, sum, least[i][j]);
                        }
                    }
                    a = black_box(a);
                }
                black_box(least);
                size_of_val(&least) / size_of::<$float>() * self.steps
            }
        }
    };
}

peak!(f32, splat_f32s, add_f32s, less_than_f32s, select_f32s);
peak!(f64, splat_f64s, add_f64s, less_than_f64s, select_f64s);

/// Terms a second, on all threads.
fn peak<T: Copy + Send + Sync>(seed: T) -> f64
where
    Peak<T>: WithSimd<Output = usize>,
{
    let steps = 20_000_000;
    let start = Instant::now();
    let terms = rayon::broadcast(|_| Arch::new().dispatch(Peak { seed, steps }));
    terms.iter().sum::<usize>() as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let n: usize = args.get(1).map_or(2048, |n| n.parse().unwrap());
    let folder = args.get(2).map(Path::new);
    let single = match folder {
        Some(folder) => {
            let bytes = std::fs::read(folder.join("a.f32")).unwrap();
            let values = bytes.as_chunks::<4>().0.iter();
            RowMatrix::from_vec(values.map(|b| f32::from_le_bytes(*b)).collect(), n, n).unwrap()
        }
        None => {
            let mut state = 1u64;
            RowMatrix::from_fn(n, n, |_, _| {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (state >> 40) as f32 / (1 << 24) as f32
            })
        }
    };
    let double = single.map(f64::from);
    let product = timed("f32", &single, peak(0.5f32));
    timed("f64", &double, peak(0.5f64));
    if let Some(folder) = folder {
        let bytes: Vec<u8> = product
            .data()
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        std::fs::write(folder.join("product.f32"), bytes).unwrap();
    }
}

fn timed<T: MinPlusFloat>(name: &str, a: &RowMatrix<T>, peak: f64) -> RowMatrix<T> {
    let n = a.nrows();
    let seconds = |f: &dyn Fn()| {
        let mut all: Vec<f64> = (0..5)
            .map(|_| {
                let start = Instant::now();
                f();
                start.elapsed().as_secs_f64()
            })
            .collect();
        all.sort_by(f64::total_cmp);
        all[2]
    };
    let product = seconds(&|| {
        black_box(min_plus_product(a, a).unwrap());
    });
    let star = seconds(&|| {
        black_box(min_plus_star(a).unwrap());
    });
    let rate = (n * n * n) as f64 / product;
    println!(
        "{name}: product of {n} x {n} in {product:.4} s, {:.1}e9 terms/s, {:.0} % of {:.1}e9 in registers; star in {star:.4} s, {:.2} products",
        rate / 1e9,
        100.0 * rate / peak,
        peak / 1e9,
        star / product
    );
    min_plus_product(a, a).unwrap()
}
