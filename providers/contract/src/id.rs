use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Text is no identifier of its type: empty, too long, or with a character outside its alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {0}")]
pub struct IdError(&'static str);

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $alphabet:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The longest one, in bytes.
            pub const MAX_BYTES: usize = $max;

            /// Checks length and alphabet.
            ///
            /// # Errors
            ///
            /// [`IdError`], which does not quote the text.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                let alphabet: fn(u8) -> bool = $alphabet;
                let fits = (1..=Self::MAX_BYTES).contains(&text.len());
                if fits && text.bytes().all(alphabet) { Ok(Self(text)) } else { Err(IdError($what)) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    };
}

identifier!(
    /// A provider's name as callers write it: `postfinance`, `paypal`, `aduno`, or your own.
    ProviderName, "provider name", 32,
    |byte| byte.is_ascii_lowercase() || byte == b'_'
);

identifier!(
    /// What a provider sees as our reference for one intent or operation. At most 20 characters,
    /// the narrowest of the three (`providers/aduno.md` §4, `refno`). Derived from our own id,
    /// which is letters only, so it can never pass for a card number.
    Reference, "reference", 20,
    |byte| byte.is_ascii_alphanumeric() || byte == b'-'
);

identifier!(
    /// What a provider sees in place of the account: an opaque pseudonym.
    CustomerReference, "customer reference", 64,
    |byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
);

identifier!(
    /// Names one step of one intent to the provider. Made from intent and step, never from worker
    /// or attempt: whoever sends the step again sends this key again. An adapter that needs
    /// several requests for one step derives a key for each with [`IdempotencyKey::with`].
    IdempotencyKey, "idempotency key", 64,
    |byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
);

identifier!(
    /// The provider's object for a payment: a PayPal order, a PostFinance transaction, a
    /// Datatrans transaction.
    ReservationId, "reservation id", 128,
    |byte| byte.is_ascii_graphic()
);

identifier!(
    /// A provider's object within a payment: an authorization, a capture, a refund, a completion.
    ObjectId, "object id", 128,
    |byte| byte.is_ascii_graphic()
);

identifier!(
    /// What a setup is called at the provider while the customer is on the way: a PayPal setup
    /// token or agreement token, a PostFinance or Datatrans transaction.
    SetupReference, "setup reference", 128,
    |byte| byte.is_ascii_graphic()
);

/// A provider's own code for a decline or an error, as `INSTRUMENT_DECLINED`.
///
/// Only what looks like a code is kept: anything else could quote a customer's data, and reads
/// `unrecognized`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ProviderCode(String);

impl ProviderCode {
    /// The longest code that is kept, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Keeps `text` if it is 1 to 64 of `A-Z a-z 0-9 _ . -` and has no run of 12 or more digits.
    pub fn new(text: &str) -> Self {
        let in_alphabet =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let fits = (1..=Self::MAX_BYTES).contains(&text.len());
        if fits && digits < 12 && text.bytes().all(in_alphabet) {
            Self(text.to_owned())
        } else {
            Self("unrecognized".to_owned())
        }
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProviderCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ProviderCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl IdempotencyKey {
    /// The key of a further request within the same step. `suffix` is a constant of the adapter,
    /// at most [`IdempotencyKey::MAX_SUFFIX_BYTES`] letters; anything else is left out of it.
    #[must_use]
    pub fn with(&self, suffix: &str) -> Self {
        let suffix = suffix.bytes().filter(u8::is_ascii_alphanumeric);
        let suffix: String = suffix
            .take(Self::MAX_SUFFIX_BYTES)
            .map(char::from)
            .collect();
        Self(format!("{}-{suffix}", self.0))
    }

    /// The longest suffix. PayPal takes keys of 108 characters (`providers/paypal.md` §3).
    pub const MAX_SUFFIX_BYTES: usize = 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_hold_their_alphabet_and_length() {
        assert!(Reference::new("abcdefghijklmnopabcd").is_ok());
        assert!(Reference::new("abcdefghijklmnopabcde").is_err());
        assert!(Reference::new("").is_err());
        assert!(Reference::new("a_b").is_err());
        assert!(ReservationId::new("a b").is_err());
        assert!(ProviderName::new("PayPal").is_err());
    }

    #[test]
    fn an_error_does_not_quote_the_text() {
        let error = Reference::new("canary canary").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }

    #[test]
    fn codes_that_could_carry_data_are_dropped() {
        assert_eq!(
            ProviderCode::new("INSTRUMENT_DECLINED").as_str(),
            "INSTRUMENT_DECLINED"
        );
        for text in [
            "",
            "a b",
            "4242424242424242",
            "4242-4242-4242-4242",
            "x@y",
            &"A".repeat(65),
        ] {
            assert_eq!(ProviderCode::new(text).as_str(), "unrecognized", "{text}");
        }
    }

    #[test]
    fn further_keys_of_a_step_differ_and_repeat() {
        let key = IdempotencyKey::new("abc-reserve").unwrap();
        assert_eq!(key.with("o"), key.with("o"));
        assert_ne!(key.with("o"), key.with("c"));
        assert_eq!(key.with("o").as_str(), "abc-reserve-o");
    }
}
