//! Vectors of extended reals in JSON: infinities are the strings "inf" and "-inf".

use lawvere_core::EReal;
use serde::{Serialize, Serializer};

/// For `#[serde(serialize_with)]`.
///
/// # Errors
/// What the serializer meets.
pub fn list<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
    let values: Vec<Option<EReal>> = values.iter().map(|&x| EReal::new(x)).collect();
    values.serialize(serializer)
}

/// The same of a single number.
///
/// # Errors
/// What the serializer meets.
pub fn one<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    EReal::new(*value).serialize(serializer)
}
