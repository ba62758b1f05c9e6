//! Real vectors: the few kernels that training and softmaxes spend their time in, written so that
//! the compiler vectorises them, with sums whose order is written down.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use pulp::Arch;

use crate::linalg::Scalar;

/// `f32` or `f64`: what networks are computed in, and what their gradients are checked in.
pub trait Real:
    Scalar
    + Copy
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
    + 'static
{
    /// The nearest value.
    fn of(x: f64) -> Self;
    /// The same value.
    fn to_f64(self) -> f64;
    /// `e^x`; in f32 within 2 units in the last place, 0 below -87.3.
    fn exp(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The hyperbolic tangent; in f32 within 4 units in the last place.
    fn tanh(self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    /// Without branches or calls, so that loops over it vectorise: `x = n log 2 + r`, a Taylor
    /// polynomial in `r`, and `2^n` written into the exponent.
    #[inline(always)]
    fn exp(self) -> Self {
        // Adding it rounds to a whole number, which is then in the low bits.
        const ROUND: f32 = 12_582_912.0;
        const LOG2_HIGH: f32 = 0.693_359_4;
        const LOG2_LOW: f32 = -2.121_944_4e-4;
        let x = self.clamp(-87.3, 88.7);
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = x - n * LOG2_HIGH - n * LOG2_LOW;
        let mut p = 1.0 / 5040.0;
        p = p * r + 1.0 / 720.0;
        p = p * r + 1.0 / 120.0;
        p = p * r + 1.0 / 24.0;
        p = p * r + 1.0 / 6.0;
        p = p * r + 0.5;
        p = p * r + 1.0;
        p = p * r + 1.0;
        // 2^n in two factors, because n may be 128.
        let bits = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
        let half = bits >> 1;
        let power = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
        let value = p * power(half) * power(bits - half);
        if self < -87.3 { 0.0 } else { value }
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }

    /// Near 0, where `1 - 2 / (e^2x + 1)` cancels, by its series.
    #[inline(always)]
    fn tanh(self) -> Self {
        let far = 1.0 - 2.0 / (Real::exp(self + self) + 1.0);
        let s = self * self;
        let series = 62.0 / 2835.0;
        let series = series * s - 17.0 / 315.0;
        let series = series * s + 2.0 / 15.0;
        let series = series * s - 1.0 / 3.0;
        let near = self + self * s * series;
        if self.abs() < 0.25 { near } else { far }
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
}

/// Runs `f` compiled for the widest vectors this machine has. Worth it for loops over some
/// thousand values; `f` should call nothing that is not inlined.
#[inline]
pub fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(f)
}

/// Sums run in so many lanes, on every machine.
const LANES: usize = 16;

#[inline(always)]
fn fold_lanes<T: Real>(mut lanes: [T; LANES], op: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for k in 0..width {
            lanes[k] = op(lanes[k], lanes[k + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// `sum_i a_i b_i` over the shorter length, in a fixed order.
#[inline(always)]
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let n = a.len().min(b.len());
    let (a_chunks, a_rest) = a[..n].as_chunks::<LANES>();
    let (b_chunks, b_rest) = b[..n].as_chunks::<LANES>();
    let mut lanes = [T::default(); LANES];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for k in 0..LANES {
            lanes[k] += x[k] * y[k];
        }
    }
    let rest: T = a_rest.iter().zip(b_rest).map(|(&x, &y)| x * y).sum();
    fold_lanes(lanes, |a, b| a + b) + rest
}

/// `sum_i a_i`, in a fixed order.
#[inline(always)]
pub fn total<T: Real>(a: &[T]) -> T {
    let (chunks, rest) = a.as_chunks::<LANES>();
    let mut lanes = [T::default(); LANES];
    for x in chunks {
        for k in 0..LANES {
            lanes[k] += x[k];
        }
    }
    fold_lanes(lanes, |a, b| a + b) + rest.iter().copied().sum::<T>()
}

/// `sum_i a_i^2` in a fixed order: stretches of 512 in the type itself, those in f64.
#[inline(always)]
pub fn sum_of_squares<T: Real>(a: &[T]) -> f64 {
    let mut total = 0.0;
    for stretch in a.chunks(512) {
        total += dot(stretch, stretch).to_f64();
    }
    total
}

/// The largest entry, minus infinity of none.
#[inline(always)]
pub fn maximum<T: Real>(a: &[T]) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    let (chunks, rest) = a.as_chunks::<LANES>();
    let mut lanes = [T::of(f64::NEG_INFINITY); LANES];
    for x in chunks {
        for k in 0..LANES {
            lanes[k] = larger(lanes[k], x[k]);
        }
    }
    rest.iter()
        .fold(fold_lanes(lanes, larger), |m, &x| larger(m, x))
}

/// Replaces every entry by `exp(entry - shift)` and returns their sum.
#[inline(always)]
pub fn exp_shifted<T: Real>(a: &mut [T], shift: T) -> T {
    a.iter_mut().for_each(|x| *x = (*x - shift).exp());
    total(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_exact_to_two_units_in_the_last_place() {
        let mut x = -87.2f32;
        let mut worst = 0.0f64;
        while x < 88.6 {
            let exact = f64::from(x).exp();
            let error = (f64::from(Real::exp(x)) - exact).abs() / exact;
            worst = worst.max(error / f64::from(f32::EPSILON));
            x += 0.001_37;
        }
        assert!(worst < 2.0, "{worst}");
        assert_eq!(Real::exp(0.0f32), 1.0);
        assert_eq!(Real::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Real::exp(-100.0f32), 0.0);
        assert!(Real::exp(f32::NAN).is_nan());
        assert!(Real::exp(1000.0f32).is_finite());
    }

    #[test]
    fn the_hyperbolic_tangent_keeps_its_digits_near_zero() {
        let mut x = 1e-6f32;
        while x < 20.0 {
            for x in [x, -x] {
                let exact = f64::from(x).tanh();
                let error = (f64::from(Real::tanh(x)) - exact).abs() / exact.abs();
                assert!(error < 4.0 * f64::from(f32::EPSILON), "{x}: {error}");
            }
            x *= 1.003;
        }
        assert_eq!(Real::tanh(0.0f32), 0.0);
        assert_eq!(Real::tanh(f32::INFINITY), 1.0);
        assert_eq!(Real::tanh(f32::NEG_INFINITY), -1.0);
    }

    #[test]
    fn sums_and_maxima_see_every_entry() {
        for n in [0usize, 1, 15, 16, 17, 100] {
            let a: Vec<f64> = (0..n).map(|i| (i as f64 - 40.0) / 7.0).collect();
            let b: Vec<f64> = (0..n).map(|i| 1.0 / (i + 1) as f64).collect();
            let exact: f64 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
            assert!(
                (vectorised(
                    #[inline(always)]
                    || dot(&a, &b)
                ) - exact)
                    .abs()
                    < 1e-12
            );
            assert!((total(&a) - a.iter().sum::<f64>()).abs() < 1e-12);
            let squares: f64 = a.iter().map(|x| x * x).sum();
            assert!((sum_of_squares(&a) - squares).abs() < 1e-10);
            let max = a.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(maximum(&a), max);
        }
    }
}
