//! The card-number net before the service: methods, paths, queries, `Idempotency-Key` and bodies, before
//! anything else reads them. A hit is refused; nothing of it is stored, logged or repeated.

use std::borrow::Cow;

use axum::http::HeaderMap;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::error::{Code, Error};
use crate::pan;

/// The header that names a request.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Numbers in a body are looked at from this many digits on; the shortest card number has 12.
const MIN_DIGITS: usize = 12;

/// Looks through what stands before the body.
///
/// # Errors
///
/// [`Code::CardNumber`], and [`Code::NotFound`] for a path that is not UTF-8 once it is decoded.
pub(crate) fn check_parts(parts: &Parts) -> Result<(), Error> {
    check_text(parts.method.as_str(), "method")?;
    let path = percent_decode_str(parts.uri.path()).decode_utf8();
    check_text(&path.map_err(|_| Error::not_found("address"))?, "path")?;
    for (name, value) in url::form_urlencoded::parse(query(parts).as_bytes()) {
        // A member's name is checked first: afterwards it may be named as the field.
        check_text(&name, "query")?;
        check_text(&value, &name)?;
    }
    // Once more as a whole, so that a number is not hidden by being cut into members.
    let decoded: Cow<'_, str> = percent_decode_str(query(parts)).decode_utf8_lossy();
    check_text(&decoded, "query")?;
    check_key(&parts.headers)
}

/// Looks through every text, name and long number of a JSON value; `path` is where it stands.
///
/// # Errors
///
/// [`Code::CardNumber`] with the field's path.
pub(crate) fn check_value(value: &Value, path: &str) -> Result<(), Error> {
    match value {
        Value::String(text) => check_text(text, path),
        Value::Number(number) => check_number(&number.to_string(), path),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| check_value(item, &format!("{path}[{index}]"))),
        Value::Object(members) => members.iter().try_for_each(|(name, member)| {
            check_text(name, path)?;
            check_value(member, &joined(path, name))
        }),
        Value::Null | Value::Bool(_) => Ok(()),
    }
}

fn query(parts: &Parts) -> &str {
    parts.uri.query().unwrap_or_default()
}

fn check_key(headers: &HeaderMap) -> Result<(), Error> {
    for value in headers.get_all(IDEMPOTENCY_KEY) {
        check_text(
            &String::from_utf8_lossy(value.as_bytes()),
            "Idempotency-Key",
        )?;
    }
    Ok(())
}

fn check_number(digits: &str, path: &str) -> Result<(), Error> {
    let long = digits.bytes().filter(u8::is_ascii_digit).count() >= MIN_DIGITS;
    if long {
        check_text(digits, path)
    } else {
        Ok(())
    }
}

pub(crate) fn check_text(text: &str, path: &str) -> Result<(), Error> {
    let Some(hit) = pan::find(text) else {
        return Ok(());
    };
    pan::alarm(hit, if path.is_empty() { "body" } else { path });
    let message = "This holds a number that passes for a card number. Never send card data here; \
                   the customer enters it at the provider.";
    Err(if path.is_empty() {
        Error::new(Code::CardNumber, message)
    } else {
        Error::field(Code::CardNumber, path, message)
    })
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}
