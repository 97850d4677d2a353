//! A report's signature: a MAC under the audit key, over the report without it.
//!
//! ```text
//! canonical = the JSON with members sorted by name, without white space and without `signature`
//! digest    = SHA-256(canonical)
//! mac       = HMAC-SHA-256(audit key, "cardless scope report 1\0" ‖ canonical)
//! ```
//!
//! Whoever has the key file can make one; whoever has only the database can't. `digest` needs no
//! key: it is what a person notes elsewhere.

use serde::Serialize;
use serde_json::Value;

use super::Report;
use super::sources::{hexadecimal, sha256};
use crate::error::{Code, Error};
use crate::gateway::Gateway;

/// How a report is signed.
const ALGORITHM: &str = "HMAC-SHA-256, audit key";

/// The member that is not signed.
pub(super) const MEMBER: &str = "signature";

/// What shows that a report is as it was made, here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// How: `HMAC-SHA-256`, under the audit key.
    pub algorithm: &'static str,
    /// SHA-256 of the canonical report, in hexadecimal.
    pub digest: String,
    /// The MAC, in hexadecimal.
    pub mac: String,
}

impl Default for Signature {
    fn default() -> Self {
        Self {
            algorithm: ALGORITHM,
            digest: String::new(),
            mac: String::new(),
        }
    }
}

impl Signature {
    /// Signs a report.
    ///
    /// # Errors
    ///
    /// [`Code::Internal`] if it can't be written.
    pub(super) fn of(gateway: &Gateway, report: &Report) -> Result<Self, Error> {
        let report = serde_json::to_value(report).map_err(|error| {
            Error::new(Code::Internal, "A report can't be written.").with_source(error)
        })?;
        let canonical = canonical(&report);
        Ok(Self {
            digest: sha256(canonical.as_bytes()),
            mac: hexadecimal(&gateway.evidence_mac(canonical.as_bytes())),
            ..Self::default()
        })
    }
}

/// Whether a report, as it was read, is as it was made by this installation.
pub(super) fn is_genuine(gateway: &Gateway, report: &Value) -> bool {
    let member = |name: &str| report.get(MEMBER)?.get(name)?.as_str();
    let canonical = canonical(report);
    let as_said = member("algorithm") == Some(ALGORITHM)
        && member("digest") == Some(sha256(canonical.as_bytes()).as_str());
    let mac = member("mac").and_then(bytes);
    as_said && mac.is_some_and(|mac| gateway.is_evidence_mac(canonical.as_bytes(), &mac))
}

/// The bytes that are signed.
pub(super) fn canonical(report: &Value) -> String {
    let mut text = String::new();
    put(report, true, &mut text);
    text
}

fn put(value: &Value, outermost: bool, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members
                .iter()
                .filter(|(name, _)| !(outermost && *name == MEMBER))
                .collect();
            members.sort_by_key(|(name, _)| name.as_str());
            text.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                put(member, false, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                put(item, false, text);
            }
            text.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
    }
}

/// The bytes of hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let pairs = digits.chunks(2);
    let parse = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(parse).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_members_does_not_count_and_the_signature_is_left_out() {
        let report: Value = serde_json::from_str(
            r#"{"b":[1,{"z":null,"a":"\u00e9\n"}],"signature":{"mac":"x"},"a":true}"#,
        )
        .unwrap();
        assert_eq!(
            canonical(&report),
            r#"{"a":true,"b":[1,{"a":"é\n","z":null}]}"#
        );
        let inner = json!({"a": {"signature": 1}});
        assert_eq!(canonical(&inner), r#"{"a":{"signature":1}}"#);
    }

    #[test]
    fn only_pairs_of_hexadecimal_digits_are_bytes() {
        assert_eq!(bytes("00ffA0"), Some(vec![0, 255, 160]));
        for bad in ["0", "0g", "+1", "é"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
