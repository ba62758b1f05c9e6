//! Extended reals: the one place where infinities are added and subtracted.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of `[-inf, +inf]`; never NaN.
///
/// Addition and difference follow the conventions under which `P(L)` and `Q(L)` are lattices
/// (Lawvere's `[-inf, +inf]` as a closed category): `+inf` absorbs in sums, and
/// [`hom`](Self::hom) is right adjoint to addition.
///
/// In JSON an infinite value is the string `"inf"` or `"-inf"`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct EReal(f64);

impl EReal {
    /// `+inf`: no path, no extension.
    pub const INFINITY: Self = Self(f64::INFINITY);
    /// `-inf`.
    pub const NEG_INFINITY: Self = Self(f64::NEG_INFINITY);
    /// 0, the unit of addition.
    pub const ZERO: Self = Self(0.0);

    /// The extended real with this value; `None` for NaN.
    pub fn new(value: f64) -> Option<Self> {
        (!value.is_nan()).then_some(Self(value))
    }

    /// The value as a float.
    #[inline]
    pub fn get(self) -> f64 {
        self.0
    }

    /// `self + other`, where `(+inf) + (-inf) = +inf`.
    #[inline]
    pub fn plus(self, other: Self) -> Self {
        Self(plus(self.0, other.0))
    }

    /// The internal hom `other - self`: `-inf` whenever `self = +inf` or `other = -inf`.
    ///
    /// For all `t`: `t + self >= other` if and only if `t >= self.hom(other)`.
    #[inline]
    pub fn hom(self, other: Self) -> Self {
        Self(hom(self.0, other.0))
    }
}

/// [`EReal::plus`] on floats known not to be NaN.
#[inline]
pub fn plus(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else {
        a + b
    }
}

/// [`EReal::hom`] on floats known not to be NaN.
#[inline]
pub fn hom(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else {
        b - a
    }
}

impl std::ops::Neg for EReal {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Eq for EReal {}

impl PartialOrd for EReal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EReal {
    fn cmp(&self, other: &Self) -> Ordering {
        // NaN cannot be constructed, and -0.0 must equal 0.0 here as it does in `PartialEq`.
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal)
    }
}

impl fmt::Display for EReal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for EReal {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            f64::INFINITY => s.serialize_str("inf"),
            f64::NEG_INFINITY => s.serialize_str("-inf"),
            x => s.serialize_f64(x),
        }
    }
}

impl<'de> Deserialize<'de> for EReal {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct ERealVisitor;
        impl Visitor<'_> for ERealVisitor {
            type Value = EReal;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, \"inf\" or \"-inf\"")
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<EReal, E> {
                EReal::new(v).ok_or_else(|| E::custom("NaN is not an extended real"))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<EReal, E> {
                self.visit_f64(v as f64)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<EReal, E> {
                self.visit_f64(v as f64)
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<EReal, E> {
                match v {
                    "inf" => Ok(EReal::INFINITY),
                    "-inf" => Ok(EReal::NEG_INFINITY),
                    _ => Err(E::invalid_value(de::Unexpected::Str(v), &self)),
                }
            }
        }
        d.deserialize_any(ERealVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extended() -> impl Strategy<Value = EReal> {
        prop_oneof![
            Just(EReal::INFINITY),
            Just(EReal::NEG_INFINITY),
            (-8i32..8).prop_map(|x| EReal(f64::from(x))),
        ]
    }

    proptest! {
        #[test]
        fn hom_is_right_adjoint_to_plus(t in extended(), a in extended(), b in extended()) {
            prop_assert_eq!(t.plus(a) >= b, t >= a.hom(b));
        }

        #[test]
        fn hom_reverses_under_negation(a in extended(), b in extended()) {
            prop_assert_eq!(a.hom(b), (-b).hom(-a));
        }

        #[test]
        fn plus_is_associative(a in extended(), b in extended(), c in extended()) {
            prop_assert_eq!(a.plus(b).plus(c), a.plus(b.plus(c)));
        }

        #[test]
        fn json_keeps_every_value(a in extended()) {
            let text = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(serde_json::from_str::<EReal>(&text).unwrap(), a);
        }
    }

    #[test]
    fn nan_is_refused() {
        assert_eq!(EReal::new(f64::NAN), None);
        assert_eq!(serde_json::to_string(&EReal::INFINITY).unwrap(), "\"inf\"");
        assert!(serde_json::from_str::<EReal>("null").is_err());
    }
}
