//! The Wright omega function over vectors.

use crate::vector::vectorised;

/// Replaces every `u` by `omega(u)`, the solution of `w + log w = u`.
///
/// The relative error is a few units in the last place for `u >= 0`, and about `|u| 2^-53` below, where
/// omega is `e^u` and rounding `u` costs as much; 0 where it is below the smallest normal number, NaN for
/// NaN. Without branches or calls, so that it runs in the machine's widest vectors.
///
/// *Source:* Corless, Jeffrey, *The Wright omega function* (2002); the iteration is that of
/// Fritsch, Shafer, Crowley, *Algorithm 443* (1973), of order four.
pub fn wright_omega(values: &mut [f64]) {
    vectorised(
        #[inline(always)]
        || {
            for u in values.iter_mut() {
                *u = omega(*u);
            }
        },
    );
}

#[inline(always)]
fn omega(u: f64) -> f64 {
    // Below this, w = e^u to the last digit; above the guess for large u is the better one.
    const SMALL: f64 = -40.0;
    let small = exp(u);
    let guess = if u > 1.0 {
        u - ln(u.max(1.0))
    } else {
        let x = exp(u.max(SMALL));
        x / (1.0 + x)
    };
    let mut w = guess;
    for _ in 0..3 {
        let rest = u.max(SMALL) - w - ln(w);
        let one = 1.0 + w;
        let q = 2.0 * one * (one + 2.0 / 3.0 * rest);
        w *= 1.0 + rest / one * (q - rest) / (q - 2.0 * rest);
    }
    let w = if u < SMALL { small } else { w };
    if u.is_nan() { u } else { w }
}

/// `e^x` within 2 units in the last place; 0 below -708, and the value at 709 above that.
#[inline(always)]
fn exp(x: f64) -> f64 {
    // Adding it rounds to a whole number, which is then in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const LOG2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LOG2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let clamped = x.clamp(-708.0, 709.0);
    let shifted = clamped * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LOG2_HIGH - n * LOG2_LOW;
    // Taylor's series: |r| <= log(2) / 2, so the thirteenth term is below 1e-16.
    let mut p = 1.0 / 6_227_020_800.0;
    p = p * r + 1.0 / 479_001_600.0;
    p = p * r + 1.0 / 39_916_800.0;
    p = p * r + 1.0 / 3_628_800.0;
    p = p * r + 1.0 / 362_880.0;
    p = p * r + 1.0 / 40_320.0;
    p = p * r + 1.0 / 5_040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    let value = f64::from_bits(p.to_bits().wrapping_add(exponent << 52));
    if x < -708.0 { 0.0 } else { value }
}

/// `log x` of a positive normal number within 2 units in the last place.
#[inline(always)]
fn ln(x: f64) -> f64 {
    const LOG2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LOG2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const MANTISSA: u64 = (1 << 52) - 1;
    const HALF_ROOT: u64 = 0x3FE6_A09E_667F_3BCD;
    // x = 2^n m with m between the roots of 1/2 and 2.
    let shifted = x.to_bits().wrapping_sub(HALF_ROOT);
    let n = ((shifted as i64) >> 52) as f64;
    let m = f64::from_bits((shifted & MANTISSA).wrapping_add(HALF_ROOT));
    let s = (m - 1.0) / (m + 1.0);
    let t = s * s;
    // log m = 2 atanh(s) = 2 (s + s^3/3 + s^5/5 + ...), t at most 0.0295.
    let mut p = 1.0 / 23.0;
    p = p * t + 1.0 / 21.0;
    p = p * t + 1.0 / 19.0;
    p = p * t + 1.0 / 17.0;
    p = p * t + 1.0 / 15.0;
    p = p * t + 1.0 / 13.0;
    p = p * t + 1.0 / 11.0;
    p = p * t + 1.0 / 9.0;
    p = p * t + 1.0 / 7.0;
    p = p * t + 1.0 / 5.0;
    p = p * t + 1.0 / 3.0;
    n * LOG2_HIGH + (2.0 * s + (2.0 * s * t * p + n * LOG2_LOW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn omega_solves_its_equation_everywhere() {
        let mut points: Vec<f64> = (-7_000..70_000)
            .map(|k| f64::from(k) * 0.1 + 0.01)
            .collect();
        points.extend((1..400).map(|k| 1.0 + 1.0 / f64::from(k)));
        points.extend([1e6, 1e12, 1e20]);
        let mut values = points.clone();
        wright_omega(&mut values);
        for (&u, &w) in points.iter().zip(&values) {
            if u < -40.0 {
                assert!((w / u.exp() - 1.0).abs() < 1e-13, "{u}: {w}");
            } else {
                // The derivative of w + log w is 1 + 1/w.
                let error = (w + w.ln() - u) / (1.0 + 1.0 / w) / w;
                assert!(
                    error.abs() < 4e-15 * (1.0 + u.abs() / w).min(50.0),
                    "{u}: {w} {error:e}"
                );
            }
        }
        let mut known = [1.0, 0.0, -800.0, f64::NAN];
        wright_omega(&mut known);
        assert!((known[0] - 1.0).abs() < 1e-15);
        assert!((known[1] - 0.567_143_290_409_784).abs() < 1e-15);
        assert_eq!(known[2], 0.0);
        assert!(known[3].is_nan());
    }

    #[test]
    fn exponentials_and_logarithms_are_those_of_the_system() {
        for k in -70_000..70_000 {
            let x = f64::from(k) * 0.01;
            assert!(
                (exp(x) / x.exp() - 1.0).abs() < 5e-16 || x.exp() < 1e-307,
                "{x}"
            );
            let y = x.exp();
            if y > 1e-300 && y < 1e300 {
                assert!(
                    (ln(y) - y.ln()).abs() <= 5e-16 * y.ln().abs().max(1.0),
                    "{y}"
                );
            }
        }
    }
}
