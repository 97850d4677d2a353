//! JSON with exact numbers: amounts are digits, never floats, on the way in and on the way out.

use cardless_contract::{Currency, Money, Timestamp};
use serde_json::value::RawValue;

/// A JSON value whose numbers are their digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json {
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Builds an object member by member.
#[derive(Debug, Default)]
pub(super) struct Object(Vec<(String, Json)>);

impl Object {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn put(mut self, name: &str, value: impl Into<Json>) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// Leaves the member out if there is no value: PostFinance's schema knows no null.
    pub(super) fn maybe(self, name: &str, value: Option<impl Into<Json>>) -> Self {
        match value {
            Some(value) => self.put(name, value),
            None => self,
        }
    }
}

impl Json {
    pub(super) fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    /// The value at a path as `transaction.id`.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |value, name| match value {
            Self::Object(members) => members
                .iter()
                .find(|(member, _)| member == name)
                .map(|(_, value)| value),
            Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) => None,
        })
    }

    /// The value as a search compares it.
    pub(super) fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Object(_) => self.to_text(),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(digits) => out.push_str(digits),
            Self::Text(text) => write_text(text, out),
            Self::List(items) => write_list(items, out),
            Self::Object(members) => write_object(members, out),
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn write_list(items: &[Json], out: &mut String) {
    out.push('[');
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        item.write(out);
    }
    out.push(']');
}

fn write_object(members: &[(String, Json)], out: &mut String) {
    out.push('{');
    for (place, (name, value)) in members.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        write_text(name, out);
        out.push(':');
        value.write(out);
    }
    out.push('}');
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Json {
    fn from(value: i64) -> Self {
        Self::Number(value.to_string())
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Json {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Timestamp> for Json {
    fn from(value: Timestamp) -> Self {
        Self::Text(value.to_string())
    }
}

impl From<Object> for Json {
    fn from(value: Object) -> Self {
        Self::Object(value.0)
    }
}

impl<T: Into<Json>> From<Vec<T>> for Json {
    fn from(value: Vec<T>) -> Self {
        Self::List(value.into_iter().map(Into::into).collect())
    }
}

/// A signed amount in minor units, as digits in major units.
pub(super) fn amount(currency: Currency, minor: i64) -> Json {
    let sign = if minor < 0 { "-" } else { "" };
    let digits = money(currency, minor.saturating_abs())
        .to_decimal(currency.exponent())
        .unwrap_or_else(|_| "0".to_owned());
    Json::Number(format!("{sign}{digits}"))
}

/// An amount of zero or more as money.
pub(super) fn money(currency: Currency, minor: i64) -> Money {
    Money::new(currency, minor).unwrap_or(Money::zero(currency))
}

/// Reads digits in major units as signed minor units; `None` if they can't be expressed exactly.
pub(super) fn minor(currency: Currency, raw: &RawValue) -> Option<i64> {
    let text = raw.get();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let minor = Money::from_decimal(currency, digits).ok()?.minor();
    Some(if negative {
        minor.saturating_neg()
    } else {
        minor
    })
}
