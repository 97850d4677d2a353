use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, de};

/// The provider's payment method token: a PayPal payment token, a PostFinance token id, a
/// Datatrans alias. Whoever holds it and the merchant's credentials can charge the customer, so it
/// is sealed at rest and exposed in an adapter's `mapping.rs` only.
#[derive(Clone)]
pub struct ProviderToken(SecretString);

/// Why a token that came from elsewhere is none of the provider's. It quotes nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenFault {
    /// It has not the shape of the provider's tokens.
    Shape,
    /// It has the shape of another kind of token of the provider, which the settings don't work with.
    OtherKind,
    /// It is of an old kind that shows digits of the card's number, or stands in their place.
    RevealsDigits,
}

/// An address that a customer is sent to. PostFinance's holds a security token
/// (`providers/postfinance.md` §2.3), so it is shown to that customer and to nobody else.
#[derive(Clone)]
pub struct RedirectUrl(SecretString);

/// One or more live values of a secret setting: the first is used, all are accepted.
///
/// Read from a string or a list of strings; empty ones are refused.
#[derive(Clone)]
pub struct Secrets(Vec<SecretString>);

impl ProviderToken {
    /// The longest token that any provider documents (PayPal, 255).
    pub const MAX_BYTES: usize = 255;

    /// Wraps a token as the provider gave it. `None` if it is empty, longer than
    /// [`ProviderToken::MAX_BYTES`] or not visible ASCII. The provider's own shape is checked by
    /// its adapter.
    pub fn new(token: impl Into<String>) -> Option<Self> {
        let token = token.into();
        let fits = (1..=Self::MAX_BYTES).contains(&token.len());
        let visible = token.bytes().all(|byte| byte.is_ascii_graphic());
        (fits && visible).then(|| Self(token.into()))
    }

    /// The token itself. Called where a request is built and where a record is sealed.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl RedirectUrl {
    /// The longest address that is passed on.
    pub const MAX_BYTES: usize = 4000;

    /// Wraps an address that the adapter has checked: scheme, host, length.
    pub fn new(url: impl Into<String>) -> Option<Self> {
        let url = url.into();
        (!url.is_empty() && url.len() <= Self::MAX_BYTES).then(|| Self(url.into()))
    }

    /// The address itself, for the caller's answer.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl Secrets {
    /// How many values may be live at once.
    pub const MAX_VALUES: usize = 8;

    /// From values; `None` if there is none, one is empty, or there are more than
    /// [`Secrets::MAX_VALUES`].
    pub fn new(values: Vec<String>) -> Option<Self> {
        let usable = (1..=Self::MAX_VALUES).contains(&values.len())
            && values.iter().all(|value| !value.is_empty());
        usable.then(|| Self(values.into_iter().map(SecretString::from).collect()))
    }

    /// The value to use.
    pub fn first(&self) -> &str {
        self.0.first().map_or("", |value| value.expose_secret())
    }

    /// All values to accept, the one in use first.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|value| value.expose_secret())
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrMore {
            One(String),
            More(Vec<String>),
        }
        let values = match OneOrMore::deserialize(deserializer).map_err(told)? {
            OneOrMore::One(value) => vec![value],
            OneOrMore::More(values) => values,
        };
        Self::new(values).ok_or_else(|| {
            de::Error::custom(format_args!(
                "expected 1 to {} secrets, none of them empty",
                Self::MAX_VALUES
            ))
        })
    }
}

/// The error of a value that is neither, without the value: a secret must not come back in it. One
/// that is not there keeps its own words, which name it.
fn told<E: de::Error>(error: E) -> E {
    if error.to_string().starts_with("missing field ") {
        return error;
    }
    E::custom(
        "expected a secret: text, { env = \"NAME\" }, { file = \"PATH\" }, or a list of these",
    )
}

macro_rules! redacted {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    )*};
}
redacted!(ProviderToken, RedirectUrl, Secrets);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let token = ProviderToken::new("canary-token").unwrap();
        let url = RedirectUrl::new("https://pay.example/?securityToken=canary").unwrap();
        let secrets: Secrets = serde_json::from_str(r#"["canary-1","canary-2"]"#).unwrap();
        for text in [
            format!("{token:?}"),
            format!("{url:?}"),
            format!("{secrets:?}"),
        ] {
            assert!(!text.contains("canary"), "{text}");
        }
        assert_eq!(secrets.all().collect::<Vec<_>>(), ["canary-1", "canary-2"]);
    }

    #[test]
    fn a_bad_secret_is_not_quoted() {
        for bad in [r#"{"canary":1}"#, r#"["canary",""]"#, r#""""#, "[]"] {
            let error = serde_json::from_str::<Secrets>(bad)
                .unwrap_err()
                .to_string();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn tokens_are_visible_ascii_of_bounded_length() {
        for bad in [
            String::new(),
            "a b".into(),
            "ü".into(),
            "x".repeat(256),
            "a\n".into(),
        ] {
            assert!(ProviderToken::new(bad).is_none());
        }
        assert!(ProviderToken::new("x".repeat(255)).is_some());
    }
}
