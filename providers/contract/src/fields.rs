use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// What `serde_json` calls a number that is kept as it stands.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// The fields that the type reads out of a JSON document, as `purchase_units[].amount.value`: from
/// the type itself, so that no list can differ from it. What it has no field for it drops unread.
///
/// An enum or a map is one field, whatever is in it.
pub fn fields_of<T: DeserializeOwned>() -> Vec<String> {
    let mut fields = Vec::new();
    // A type that refuses what stands in for a value has named its fields by then.
    drop(T::deserialize(Reader {
        path: String::new(),
        fields: &mut fields,
    }));
    fields.sort_unstable();
    fields.dedup();
    fields
}

/// Gives a type whatever it asks for, and notes where.
struct Reader<'a> {
    path: String,
    fields: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn note(self) {
        if !self.path.is_empty() {
            self.fields.push(self.path);
        }
    }
}

/// Why a type took nothing.
#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the type asks for what has no stand-in")
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! leaves {
    ($($method:ident => $visit:ident($($value:expr)?)),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            self.note();
            visitor.$visit($($value)?)
        })*
    };
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Refused;

    leaves! {
        deserialize_any => visit_unit(),
        deserialize_bool => visit_bool(false),
        deserialize_i64 => visit_i64(0),
        deserialize_u64 => visit_u64(0),
        deserialize_str => visit_str(""),
        deserialize_string => visit_str(""),
        deserialize_ignored_any => visit_unit(),
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_seq(One(Some(Reader {
            path: format!("{}[]", self.path),
            fields: self.fields,
        })))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        if name != RAW_VALUE {
            return visitor.visit_newtype_struct(self);
        }
        self.note();
        let number = std::iter::once((RAW_VALUE, "0"));
        visitor.visit_map(de::value::MapDeserializer::new(number))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_map(Each {
            names: fields.iter(),
            name: "",
            reader: self,
        })
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct map enum identifier
    }
}

/// A list of one.
struct One<'a>(Option<Reader<'a>>);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        let reader = self.0.take();
        reader.map(|reader| seed.deserialize(reader)).transpose()
    }
}

/// Every field of a struct, one after the other.
struct Each<'a> {
    names: std::slice::Iter<'static, &'static str>,
    name: &'static str,
    reader: Reader<'a>,
}

impl<'de> MapAccess<'de> for Each<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refused> {
        let Some(name) = self.names.next() else {
            return Ok(None);
        };
        self.name = name;
        seed.deserialize(de::value::StrDeserializer::new(name))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let path = if self.reader.path.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}.{}", self.reader.path, self.name)
        };
        seed.deserialize(Reader {
            path,
            fields: self.reader.fields,
        })
    }
}

#[cfg(test)]
#[expect(dead_code, reason = "what is read is not looked at")]
mod tests {
    use secrecy::SecretString;
    use serde::Deserialize;
    use serde::de::IgnoredAny;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Order {
        id: String,
        #[serde(default, rename = "type")]
        kind: Option<String>,
        paid_amount: Option<Box<RawValue>>,
        #[serde(default)]
        units: Vec<Unit>,
        secret: SecretString,
        card: Option<IgnoredAny>,
        life: Option<u64>,
        after: bool,
    }

    #[derive(Deserialize)]
    struct Unit {
        amount: Option<Amount>,
        #[serde(default)]
        ids: Vec<i64>,
    }

    #[derive(Deserialize)]
    struct Amount {
        value: String,
        scale: i64,
    }

    #[test]
    fn a_type_names_what_it_reads() {
        assert_eq!(
            fields_of::<Order>(),
            [
                "after",
                "card",
                "id",
                "life",
                "paidAmount",
                "secret",
                "type",
                "units[].amount.scale",
                "units[].amount.value",
                "units[].ids[]",
            ]
        );
        assert_eq!(fields_of::<Vec<Amount>>(), ["[].scale", "[].value"]);
        assert!(fields_of::<String>().is_empty());
    }
}
