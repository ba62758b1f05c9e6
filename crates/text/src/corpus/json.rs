//! JSON Lines.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::reader::{Reading, for_each_line};
use super::stream::Stream;
use crate::TextError;

/// An object a line; its field is a document. Blank lines, null and blank strings are none.
pub(super) fn lines(reading: &mut Reading<'_>, stream: &mut Stream) -> Result<(), TextError> {
    let (field, limit) = (
        reading.options.field().to_owned(),
        reading.options.longest_document,
    );
    for_each_line(stream, limit, &mut |place, line| {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let number = place.line.unwrap_or(0);
        let wrong = |problem: String| TextError::Record {
            path: place.path.to_owned(),
            line: number,
            problem,
        };
        let text = reading.decode(line, place)?;
        let mut json = serde_json::Deserializer::from_str(&text);
        let found = Field(&field).deserialize(&mut json);
        let found = found.and_then(|value| json.end().map(|()| value));
        match found.map_err(|e| wrong(format!("not an object of JSON Lines: {e}")))? {
            Some(Value::String(document)) => reading.document(&document),
            Some(Value::Null) => Ok(()),
            Some(other) => Err(wrong(format!(
                "field `{field}` is {}, not a string",
                kind(&other)
            ))),
            None => {
                let all: Result<serde_json::Map<String, Value>, _> = serde_json::from_str(&text);
                Err(TextError::NoField {
                    path: place.path.to_owned(),
                    line: Some(number),
                    what: "field",
                    field: field.clone(),
                    found: all.unwrap_or_default().keys().cloned().collect(),
                })
            }
        }
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The value of one field of an object; the others are passed over.
struct Field<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
