//! JSON in which infinite numbers keep their value.

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// Pretty-printed JSON in which infinities are the strings `"inf"` and `"-inf"` (serde_json alone
/// writes `null`). What is not a number at all is `null`, as an absent value is.
///
/// # Errors
/// A value that cannot be written as JSON, such as a map with compound keys.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&Faithful(value))
}

/// JSON that may stand inside an HTML `<script>` element.
pub(crate) fn script_json(value: &serde_json::Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// Serialises as what it holds does, infinities as strings. Around a value, a serializer, or the
/// state of one.
struct Faithful<T>(T);

impl<T: Serialize + ?Sized> Serialize for Faithful<&T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Faithful(serializer))
    }
}

macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $name(self, $($arg: $type),*) -> Result<Self::Ok, Self::Error> {
            self.0.$name($($arg),*)
        })*
    };
}

macro_rules! forward_compound {
    ($($name:ident($($arg:ident: $type:ty),*) -> $compound:ident;)*) => {
        $(fn $name(self, $($arg: $type),*) -> Result<Self::$compound, Self::Error> {
            self.0.$name($($arg),*).map(Faithful)
        })*
    };
}

impl<S: Serializer> Serializer for Faithful<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Faithful<S::SerializeSeq>;
    type SerializeTuple = Faithful<S::SerializeTuple>;
    type SerializeTupleStruct = Faithful<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Faithful<S::SerializeTupleVariant>;
    type SerializeMap = Faithful<S::SerializeMap>;
    type SerializeStruct = Faithful<S::SerializeStruct>;
    type SerializeStructVariant = Faithful<S::SerializeStructVariant>;

    fn serialize_f64(self, x: f64) -> Result<S::Ok, S::Error> {
        match x {
            f64::INFINITY => self.0.serialize_str("inf"),
            f64::NEG_INFINITY => self.0.serialize_str("-inf"),
            x if x.is_nan() => self.0.serialize_none(),
            x => self.0.serialize_f64(x),
        }
    }

    fn serialize_f32(self, x: f32) -> Result<S::Ok, S::Error> {
        if x.is_finite() {
            self.0.serialize_f32(x)
        } else {
            self.serialize_f64(f64::from(x))
        }
    }

    forward! {
        serialize_bool(v: bool);
        serialize_i8(v: i8);
        serialize_i16(v: i16);
        serialize_i32(v: i32);
        serialize_i64(v: i64);
        serialize_u8(v: u8);
        serialize_u16(v: u16);
        serialize_u32(v: u32);
        serialize_u64(v: u64);
        serialize_char(v: char);
        serialize_str(v: &str);
        serialize_bytes(v: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    fn serialize_some<T: Serialize + ?Sized>(self, v: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_some(&Faithful(v))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        v: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_struct(name, &Faithful(v))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        v: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0
            .serialize_newtype_variant(name, index, variant, &Faithful(v))
    }

    forward_compound! {
        serialize_seq(len: Option<usize>) -> SerializeSeq;
        serialize_tuple(len: usize) -> SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeTupleVariant;
        serialize_map(len: Option<usize>) -> SerializeMap;
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeStructVariant;
    }
}

macro_rules! parts {
    ($($compound:ident::$name:ident;)*) => {
        $(impl<S: $compound> $compound for Faithful<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $name<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), S::Error> {
                self.0.$name(&Faithful(v))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        })*
    };
}

macro_rules! named_parts {
    ($($compound:ident;)*) => {
        $(impl<S: $compound> $compound for Faithful<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                v: &T,
            ) -> Result<(), S::Error> {
                self.0.serialize_field(name, &Faithful(v))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        })*
    };
}

parts! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

named_parts! {
    SerializeStruct;
    SerializeStructVariant;
}

impl<S: SerializeMap> SerializeMap for Faithful<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.0.serialize_key(&Faithful(key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.0.serialize_value(&Faithful(value))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn infinities_are_strings_at_every_depth() {
        let value = BTreeMap::from([(
            7u32,
            (vec![Some(f64::INFINITY), None], f64::NEG_INFINITY, 1.5),
        )]);
        let json: serde_json::Value = serde_json::from_str(&to_json(&value).unwrap()).unwrap();
        assert_eq!(json, serde_json::json!({"7": [["inf", null], "-inf", 1.5]}));
    }

    #[test]
    fn no_script_can_be_closed_from_within() {
        let hostile = serde_json::json!("</script><!-- & \u{2028}");
        let safe = script_json(&hostile);
        assert!(!safe.contains(['<', '>', '&', '\u{2028}']));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&safe).unwrap(),
            hostile
        );
    }
}
