//! Bodies and queries as our types: every way of being wrong is an answer that names the field.

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::error::{Code, Error};

/// The longest name of an unknown field that an answer repeats, in characters.
const MAX_QUOTED_CHARS: usize = 64;

/// Reads a JSON body. Card numbers are looked for in the whole of it before anything else is.
pub(crate) fn decode_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<T, Problem> {
    if !is_json(headers) {
        return Err(Problem::not_json());
    }
    let value: Value = serde_json::from_slice(body).map_err(|_| Problem::malformed_body())?;
    super::net::check_value(&value, "")?;
    refuse_lists(&value, "")?;
    // From the bytes, not from the value: a value has forgotten members that came twice.
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json).map_err(|error| field_error(&error).into())
}

/// Reads a query of text members, each at most once.
pub(crate) fn decode_query<T: DeserializeOwned>(query: Option<&str>) -> Result<T, Problem> {
    let mut members = Map::new();
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let value = Value::String(value.into_owned());
        if members.insert(name.to_string(), value).is_some() {
            let message = "This stands twice in the query.";
            return Err(Error::field(Code::InvalidField, shortened(&name), message).into());
        }
    }
    serde_path_to_error::deserialize(Value::Object(members))
        .map_err(|error| field_error(&error).into())
}

/// No request has a list in it, and serde would read one as an object without names.
fn refuse_lists(value: &Value, path: &str) -> Result<(), Error> {
    match value {
        Value::Array(_) => {
            let message = "Expected no list.";
            Err(if path.is_empty() {
                Error::new(Code::InvalidField, message)
            } else {
                Error::field(Code::InvalidField, shortened(path), message)
            })
        }
        Value::Object(members) => members.iter().try_for_each(|(name, member)| {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            refuse_lists(member, &path)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// Our words for an error of serde, whose own can quote a value.
fn field_error(error: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let path = error.path().to_string();
    let path = if path == "." { String::new() } else { path };
    let (path, message) = explain(path, &error.inner().to_string());
    if path.is_empty() {
        return Error::new(Code::InvalidField, message);
    }
    // Of members that stand twice, the net has seen the last only.
    match super::net::check_text(&path, "") {
        Ok(()) => Error::field(Code::InvalidField, shortened(&path), message),
        Err(card_number) => card_number,
    }
}

/// The field that is at fault, and what is wrong with it.
fn explain(path: String, error: &str) -> (String, String) {
    if error.starts_with("unknown field ") {
        return (path, "There is no such field here.".to_owned());
    }
    if let Some(name) = quoted_after(error, "missing field ") {
        let path = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        return (path, "This field is required.".to_owned());
    }
    if let Some(name) = quoted_after(error, "duplicate field ") {
        let path = if path.is_empty() {
            name.to_owned()
        } else {
            path
        };
        return (path, "This field stands twice.".to_owned());
    }
    let expected = error
        .rsplit_once(", expected ")
        .map(|(_, expected)| without_place(expected));
    match expected {
        Some(expected) => (path, format!("Expected {}.", in_plain_words(expected))),
        None => (path, "This is not valid.".to_owned()),
    }
}

/// What JSON calls what serde calls by the names of our types.
fn in_plain_words(expected: &str) -> &str {
    match expected {
        "i64" | "u64" | "u32" => "a whole number, without quotes, point and exponent",
        name if name.starts_with("struct ") => "an object",
        other => other,
    }
}

/// Cuts serde_json's ` at line 1 column 2`.
fn without_place(text: &str) -> &str {
    text.split_once(" at line ").map_or(text, |(text, _)| text)
}

fn quoted_after<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message
        .strip_prefix(prefix)?
        .strip_prefix('`')?
        .split_once('`')
        .map(|(name, _)| name)
}

fn shortened(name: &str) -> String {
    name.chars().take(MAX_QUOTED_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Outer {
        name: String,
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Inner {
        minor: i64,
    }

    fn fault(body: &str) -> (String, String) {
        let mut json = serde_json::Deserializer::from_str(body);
        let error = serde_path_to_error::deserialize::<_, Outer>(&mut json).unwrap_err();
        let error = field_error(&error);
        (
            error.field_path().unwrap_or_default().to_owned(),
            error.message().to_owned(),
        )
    }

    #[test]
    fn a_fault_names_its_field_and_quotes_no_value() {
        for (body, field) in [
            (r#"{"inner":{"minor":1}}"#, "name"),
            (r#"{"name":"a","inner":{}}"#, "inner.minor"),
            (r#"{"name":"a","inner":{"minor":"canary"}}"#, "inner.minor"),
            (r#"{"name":"a","inner":{"minor":1.5}}"#, "inner.minor"),
            (r#"{"name":"a","inner":{"minor":1,"x":1}}"#, "inner.x"),
            (r#"{"name":"a","name":"canary"}"#, "name"),
            (r#"{"name":"a","other":"canary"}"#, "other"),
            (r#"{"name":{"canary":1}}"#, "name"),
        ] {
            let (found, message) = fault(body);
            assert_eq!(found, field, "{body}");
            assert!(!message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn a_fault_is_told_in_the_words_of_json() {
        for (body, words) in [
            ("null", "Expected an object."),
            (r#"{"name":"a","inner":5}"#, "Expected an object."),
            (
                r#"{"name":"a","inner":{"minor":1.5}}"#,
                "Expected a whole number, without quotes, point and exponent.",
            ),
            (r#"{"name":5}"#, "Expected a string."),
        ] {
            assert_eq!(fault(body).1, words, "{body}");
        }
    }

    #[test]
    fn a_query_member_stands_once() {
        assert!(decode_query::<Outer>(Some("name=a")).is_ok());
        assert!(decode_query::<Outer>(Some("name=a&name=b")).is_err());
        assert!(decode_query::<Outer>(Some("nome=a")).is_err());
        assert!(decode_query::<Outer>(None).is_err());
    }
}
