//! JSON as the profile takes it: objects whose members stand once each, and nothing deep.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::Refused;

/// How deep objects and lists may stand in each other.
const MAX_DEPTH: u32 = 16;

/// An object's members, each of them known by name.
#[derive(Debug)]
pub(super) struct Members(Map<String, Value>);

impl Members {
    /// Reads an object that has no members but those `allowed`, each at most once.
    pub(super) fn parse(bytes: &[u8], allowed: &[&str]) -> Result<Self, Refused> {
        let Value::Object(members) = strict(bytes)? else {
            return Err(Refused);
        };
        Self::of(members, allowed)
    }

    /// The same of an object that has been read.
    pub(super) fn of(members: Map<String, Value>, allowed: &[&str]) -> Result<Self, Refused> {
        let known = members.keys().all(|name| allowed.contains(&name.as_str()));
        known.then_some(Self(members)).ok_or(Refused)
    }

    /// A text, if the member is there.
    pub(super) fn optional_text(&self, name: &str) -> Result<Option<&str>, Refused> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refused),
        }
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<&str, Refused> {
        self.optional_text(name)?.ok_or(Refused)
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str) -> Result<i64, Refused> {
        self.0.get(name).and_then(Value::as_i64).ok_or(Refused)
    }

    /// An object within.
    pub(super) fn object(&mut self, name: &str, allowed: &[&str]) -> Result<Self, Refused> {
        match self.0.remove(name) {
            Some(Value::Object(members)) => Self::of(members, allowed),
            _ => Err(Refused),
        }
    }

    /// Whether the member is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A member as it is.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }
}

/// Reads one JSON value and nothing after it. A member that stands twice is refused at any depth:
/// readers disagree about which of the two counts. So is a number that is not whole: nothing of ours
/// is one, and no amount is ever read as a float.
pub(crate) fn strict(bytes: &[u8]) -> Result<Value, Refused> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }
        .deserialize(&mut json)
        .map_err(|_| Refused)?;
    json.end().map_err(|_| Refused)?;
    Ok(value)
}

/// Builds a value, `depth` objects and lists down.
struct Strict {
    depth: u32,
}

impl Strict {
    fn deeper<E: Error>(&self) -> Result<Self, E> {
        let depth = self.depth.saturating_add(1);
        if depth > MAX_DEPTH {
            return Err(E::custom("too deep"));
        }
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.deeper()?)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = items.next_key::<String>()? {
            let value = items.next_value_seed(self.deeper()?)?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stands_twice_is_refused_at_any_depth() {
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"[{"a":1,"\u0061":2}]"#,
        ] {
            assert_eq!(strict(bad.as_bytes()), Err(Refused), "{bad}");
        }
        assert!(strict(br#"{"a":{"b":1},"c":{"b":2}}"#).is_ok());
    }

    #[test]
    fn what_is_deep_or_followed_by_something_is_refused() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(strict(nested(16).as_bytes()).is_ok());
        assert_eq!(strict(nested(18).as_bytes()), Err(Refused));
        assert_eq!(strict(nested(100_000).as_bytes()), Err(Refused));
        for bad in ["", "{} {}", "{}x", "{\"a\":01}", "nul", "\u{feff}{}"] {
            assert_eq!(strict(bad.as_bytes()), Err(Refused), "{bad}");
        }
        assert_eq!(strict(&[0x22, 0xff, 0x22]), Err(Refused));
    }

    #[test]
    fn a_number_that_is_not_whole_is_refused() {
        for bad in ["1.5", "1e3", r#"{"req":{"amount":{"minor":4990.0}}}"#] {
            assert_eq!(strict(bad.as_bytes()), Err(Refused), "{bad}");
        }
    }

    #[test]
    fn unknown_members_and_other_kinds_are_refused() {
        let known = &["a", "b"][..];
        assert!(Members::parse(br#"{"a":"x"}"#, known).is_ok());
        for bad in [r#"{"c":1}"#, r#"["x"]"#, r#""a""#, "null"] {
            assert!(Members::parse(bad.as_bytes(), known).is_err(), "{bad}");
        }
        let members = Members::parse(br#"{"a":1,"b":"1"}"#, known).unwrap();
        assert_eq!(members.text("a"), Err(Refused));
        assert_eq!(members.number("a"), Ok(1));
        assert_eq!(members.number("b"), Err(Refused));
        assert_eq!(members.optional_text("c"), Ok(None));
    }
}
