//! Numbers as people read them.

use std::f64::consts::LN_2;

/// Keeps the groups of a number on one line.
const THIN_SPACE: char = '\u{202f}';
const MINUS: &str = "\u{2212}";

/// Three significant figures, with a true minus sign and spaces in big numbers.
pub(crate) fn figure(x: f64) -> String {
    let sign = if x < 0.0 { MINUS } else { "" };
    if x.is_nan() {
        return "undefined".into();
    }
    if x.is_infinite() {
        return format!("{sign}∞");
    }
    if x == 0.0 {
        return "0".into();
    }
    // The exponent after rounding: 999.6 has four digits before the point.
    let scientific = format!("{:.2e}", x.abs());
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(3..15) => {
            let value = scientific.parse::<f64>().unwrap_or(x.abs());
            format!("{sign}{}", count(value.round() as u64))
        }
        Ok(e @ -3..3) => format!("{sign}{:.*}", (2 - e) as usize, x.abs()),
        Ok(e) => format!("{sign}{mantissa} × 10{}", superscript(e)),
        Err(_) => scientific,
    }
}

fn superscript(x: i32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    x.to_string()
        .chars()
        .map(|c| match c.to_digit(10) {
            Some(d) => DIGITS[d as usize],
            None => '⁻',
        })
        .collect()
}

/// A whole number, in groups of three.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(THIN_SPACE);
        }
        out.push(digit);
    }
    out
}

/// [`count`] of a `usize`.
pub(crate) fn size(n: usize) -> String {
    count(n as u64)
}

/// A value with its standard error, to two digits of the error; the value alone if there is none.
pub(crate) fn with_error(value: f64, error: Option<f64>) -> String {
    let Some(error) = error.filter(|e| e.is_finite() && value.is_finite()) else {
        return figure(value);
    };
    if error <= 0.0 {
        return format!("{} ± 0", figure(value));
    }
    match decimals(error) {
        Some(decimals) => format!("{} ± {error:.decimals$}", fixed(value, decimals)),
        None => format!("{} ± {}", figure(value), figure(error)),
    }
}

/// The decimals that two digits of a standard error take; none where they would be too many.
fn decimals(error: f64) -> Option<usize> {
    let decimals = 1 - error.log10().floor() as i32;
    (error > 0.0 && error.is_finite() && (0..=6).contains(&decimals)).then_some(decimals as usize)
}

/// A value to as many digits as one with this standard error is shown.
pub(crate) fn as_sure(value: f64, error: Option<f64>) -> String {
    match error.and_then(decimals) {
        Some(decimals) => fixed(value, decimals),
        None => figure(value),
    }
}

/// A value with a set number of decimals.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return figure(value);
    }
    let digits = format!("{:.decimals$}", value.abs());
    let zero = digits.chars().all(|c| c == '0' || c == '.');
    if value < 0.0 && !zero {
        format!("{MINUS}{digits}")
    } else {
        digits
    }
}

/// A cosine, to two decimals.
pub(crate) fn cosine(x: f64) -> String {
    fixed(x, 2)
}

/// A signed value: `+0.12`.
pub(crate) fn signed(x: f64) -> String {
    if x > 0.0 {
        format!("+{}", figure(x))
    } else {
        figure(x)
    }
}

/// Nats in bits.
pub(crate) fn bits(nats: f64) -> f64 {
    nats / LN_2
}

/// `2.08 nats (3 bits)`.
pub(crate) fn nats_and_bits(nats: f64, error: Option<f64>) -> String {
    format!(
        "{} nats ({} bits)",
        with_error(nats, error),
        figure(bits(nats))
    )
}

/// A share as a percentage.
pub(crate) fn percent(part: f64, whole: f64) -> String {
    if whole <= 0.0 {
        return "0%".into();
    }
    let share = 100.0 * part / whole;
    let rounds_up = (99.95..100.0).contains(&share);
    if rounds_up {
        "over 99.9%".into()
    } else {
        format!("{}%", figure(share))
    }
}

/// The factor `exp(nats)`: how many times as likely.
pub(crate) fn factor(nats: f64) -> String {
    figure(nats.exp())
}

/// Seconds.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 90.0 {
        return format!("{} s", figure(seconds));
    }
    format!(
        "{} min {} s",
        count((seconds / 60.0) as u64),
        (seconds % 60.0) as u64
    )
}

/// Bytes.
pub(crate) fn bytes(n: u64) -> String {
    let x = n as f64;
    match n {
        0..1_000 => format!("{n} bytes"),
        1_000..1_000_000 => format!("{} kB", figure(x / 1e3)),
        1_000_000..1_000_000_000 => format!("{} MB", figure(x / 1e6)),
        _ => format!("{} GB", figure(x / 1e9)),
    }
}

/// `1 token`, `2 tokens`.
pub(crate) fn plural(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", size(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_significant_figures_are_shown() {
        assert_eq!(figure(0.41234), "0.412");
        assert_eq!(figure(-1.005), "−1.00");
        assert_eq!(figure(999.6), "1000");
        assert_eq!(figure(123_456.0), "123\u{202f}000");
        assert_eq!(figure(1.5e-9), "1.50 × 10⁻⁹");
        assert_eq!(figure(0.0), "0");
        assert_eq!(figure(f64::NEG_INFINITY), "−∞");
        assert_eq!(figure(f64::NAN), "undefined");
        assert_eq!(figure(1e300), "1.00 × 10³⁰⁰");
    }

    #[test]
    fn an_error_decides_the_decimals() {
        assert_eq!(with_error(2.34567, Some(0.0123)), "2.346 ± 0.012");
        assert_eq!(with_error(2.34567, None), "2.35");
        assert_eq!(with_error(f64::INFINITY, Some(0.1)), "∞");
        assert_eq!(with_error(-0.00001, Some(0.3)), "0.00 ± 0.30");
    }

    #[test]
    fn a_value_takes_the_digits_of_another_with_an_error() {
        assert_eq!(as_sure(2.5, Some(0.0123)), "2.500");
        assert_eq!(as_sure(-0.0004, Some(0.0123)), "0.000");
        assert_eq!(as_sure(2.5, Some(0.0)), "2.50");
        assert_eq!(as_sure(f64::INFINITY, Some(0.1)), "∞");
    }

    #[test]
    fn shares_never_round_to_all() {
        assert_eq!(percent(1.0, 4.0), "25.0%");
        assert_eq!(percent(9_999.9, 10_000.0), "over 99.9%");
        assert_eq!(percent(0.0, 0.0), "0%");
    }
}
