//! Products of every shape and format, against sums in float64.

use super::*;
use crate::matrix::RowMatrix;

fn matrix(rows: usize, columns: usize, seed: usize) -> RowMatrix<f32> {
    RowMatrix::from_fn(rows, columns, |i, j| {
        ((i * 31 + j * 17 + seed * 7) % 101) as f32 / 50.0 - 1.0
    })
}

fn exact(x: &RowMatrix<f32>, w: &RowMatrix<f32>, i: usize, j: usize) -> f64 {
    let products = x.row(i).iter().zip(w.row(j));
    products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn formats() -> impl Iterator<Item = Format> {
    let kernels = Bf16Kernel::available().into_iter().map(Format::Bf16);
    [Format::F32].into_iter().chain(kernels)
}

fn round(x: &RowMatrix<f32>) -> RowMatrix<f32> {
    RowMatrix::from_fn(x.nrows(), x.ncols(), |i, k| {
        half::bf16::from_f32(x.get(i, k)).to_f32()
    })
}

/// The product once, and once more added to it.
fn products(x: &RowMatrix<f32>, w: &RowMatrix<f32>, format: Format) -> [RowMatrix<f32>; 2] {
    let mut packed = PackedRows::in_format(format);
    // What a buffer held before has no part in the next product.
    packed.fill(x.nrows(), x.ncols() + 40, |_, row| row.fill(f32::NAN));
    packed.copy(x.nrows(), x.ncols(), x.data());
    let matrix = PackedMatrix::in_format(w.view(), format);
    let mut out = RowMatrix::from_fn(x.nrows(), w.nrows(), |_, _| f32::NAN);
    matrix.multiply(&packed, out.data_mut());
    let once = out.clone();
    matrix.multiply_add(&packed, out.data_mut());
    [once, out]
}

#[test]
fn products_of_every_shape_and_format_are_the_sums_they_should_be() {
    for format in formats() {
        for (rows, outputs, inputs) in [
            (1, 1, 1),
            (3, 5, 0),
            (1, 100, 7),
            (1, 600, 577),
            (5, 33, 193),
            (13, 31, 384),
            (15, 64, 200),
            (29, 70, 1),
            (31, 64, 576),
            (300, 95, 577),
            (9, 100, 1200),
        ] {
            let (mut x, mut w) = (matrix(rows, inputs, 1), matrix(outputs, inputs, 2));
            let [once, twice] = products(&x, &w, format);
            if format == Format::Bf16(Bf16Kernel::Float32) {
                // Nothing but the weights is rounded.
                let [same, _] = products(&x, &round(&w), Format::F32);
                assert_eq!(same.data(), once.data());
            }
            if format != Format::F32 {
                w = round(&w);
            }
            if format.rows().1 {
                x = round(&x);
            }
            let tolerance = 1e-6 * (1.0 + inputs as f64);
            for i in 0..rows {
                for j in 0..outputs {
                    let exact = exact(&x, &w, i, j);
                    let [once, twice] = [&once, &twice].map(|m| f64::from(m.get(i, j)));
                    assert!((once - exact).abs() < tolerance, "{format:?}");
                    assert!((twice - 2.0 * exact).abs() < 2.0 * tolerance, "{format:?}");
                }
            }
        }
    }
}

#[test]
fn a_row_multiplied_alone_or_among_others_on_any_threads_is_the_same() {
    for format in formats() {
        rows_are_the_same_alone_or_among_others(format);
    }
}

fn rows_are_the_same_alone_or_among_others(format: Format) {
    let (x, w) = (matrix(100, 700, 1), matrix(90, 700, 2));
    let packed_w = PackedMatrix::in_format(w.view(), format);
    let product = |x: &RowMatrix<f32>, threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let mut out = RowMatrix::zeros(x.nrows(), 90);
        pool.install(|| {
            let mut rows = PackedRows::in_format(format);
            rows.copy(x.nrows(), x.ncols(), x.data());
            packed_w.multiply(&rows, out.data_mut());
        });
        out
    };
    let together = product(&x, 3);
    assert_eq!(together.data(), product(&x, 1).data());
    for i in [0, 13, 99] {
        let alone = RowMatrix::from_fn(1, 700, |_, k| x.get(i, k));
        assert_eq!(product(&alone, 2).row(0), together.row(i));
    }
}

#[test]
fn limits_are_those_of_a_machine() {
    for format in formats() {
        let limit = instruction_rate(format, 0.0);
        // From a processor of long ago to one of years to come.
        assert!(limit > 1e8 && limit < 1e16, "{format:?}: {limit}");
    }
    let memory = read_rate(4 << 20, 0.0);
    assert!(memory > 1e7 && memory < 1e14, "{memory}");
}
