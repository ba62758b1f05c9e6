use serde::{Serialize, Serializer};

/// What was proved; serialises as `true`, `false` or `"undecided"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is so: what shows it was found.
    Yes,
    /// It is not: a proof was found.
    No,
    /// Neither was proved.
    Undecided,
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Yes => serializer.serialize_bool(true),
            Self::No => serializer.serialize_bool(false),
            Self::Undecided => serializer.serialize_str("undecided"),
        }
    }
}
