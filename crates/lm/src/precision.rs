//! What a decoder's products are computed in.

use std::fmt;
use std::str::FromStr;

use lawvere_core::{Bf16Kernel, Format};
use serde::{Serialize, Serializer};

/// What a decoder's matrices are held and multiplied in. States between them, norms, softmaxes and sums are float32
/// in any case, and so are the embeddings and the head that lenses look at.
///
/// Written `f32`; `bf16`, by the machine's own way; or `bf16-float32`, `bf16-avx512` and `bf16-amx`, by that way,
/// which results can be repeated with on another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// float32.
    #[default]
    F32,
    /// bfloat16: half the memory. Log-probabilities of SmolLM2-135M are one or two hundredths of a nat from those in
    /// float32; ways differ in the last digits.
    Bf16(Bf16Kernel),
}

const WAYS: [(&str, Bf16Kernel); 3] = [
    ("bf16-float32", Bf16Kernel::Float32),
    ("bf16-avx512", Bf16Kernel::Avx512),
    ("bf16-amx", Bf16Kernel::Amx),
];

impl Precision {
    /// bfloat16 by the machine's own way ([`Bf16Kernel::best`]).
    pub fn bf16() -> Self {
        Self::Bf16(Bf16Kernel::best())
    }

    /// How matrices are laid out for it.
    pub fn format(self) -> Format {
        match self {
            Self::F32 => Format::F32,
            Self::Bf16(kernel) => Format::Bf16(kernel),
        }
    }

    /// What tells a model in this precision from the same in float32, in names for people.
    pub(crate) fn note(self) -> String {
        match self {
            Self::F32 => String::new(),
            other => format!(" ({other})"),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = |kernel| WAYS.iter().find(|(_, way)| *way == kernel);
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16(kernel) => way(*kernel).map_or("bf16", |(name, _)| name),
        })
    }
}

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let here = Bf16Kernel::available();
        let way = WAYS.iter().find(|(name, _)| *name == text);
        match (text, way) {
            ("f32", _) => Ok(Self::F32),
            ("bf16", _) => Ok(Self::bf16()),
            (_, Some((_, kernel))) if here.contains(kernel) => Ok(Self::Bf16(*kernel)),
            _ => {
                let ways = WAYS.iter().filter(|(_, kernel)| here.contains(kernel));
                let ways: Vec<&str> = ways.map(|(name, _)| *name).collect();
                let what = match way {
                    Some(_) => "needs a processor of another kind",
                    None => "is no precision",
                };
                Err(format!(
                    "`{text}` {what}; there are f32, bf16 and, on this one, {}",
                    ways.join(", ")
                ))
            }
        }
    }
}
