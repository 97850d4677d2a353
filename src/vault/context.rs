//! Where a record belongs, as canonical bytes.

use super::VaultError;

/// Where a record belongs. All fields are required encryption context: they are given again at
/// opening, authenticated with the record, and not stored in it. A record that is moved to another
/// row, account or purpose does not open there.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The account's pseudonym.
    pub account: &'a str,
    /// The provider's name; `-` for a record that belongs to none.
    pub provider: &'a str,
    /// The merchant at the provider (space, merchant id, client id hash); `-` for none.
    pub merchant: &'a str,
    /// The record's own id.
    pub record: &'a str,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a sealed record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A provider's payment method token.
    Token,
    /// The caller's own id of an account.
    Account,
    /// An address that a customer is sent to.
    Redirect,
    /// A stored answer.
    Answer,
}

/// The version of the context's own shape. Another set of keys needs another one.
const SCHEMA: &str = "1";

/// The longest value of one key.
const MAX_VALUE_BYTES: usize = 1024;

impl Context<'_> {
    /// The canonical bytes of the AWS Encryption SDK's message format ("Key-Value Pairs"): the
    /// count, then each key and value behind its length, sorted by key. All lengths are two bytes,
    /// big-endian.
    pub(super) fn to_bytes(self) -> Result<Vec<u8>, VaultError> {
        // Sorted by key, as the format wants it; a test holds the order.
        let pairs = [
            ("account", self.account),
            ("merchant", self.merchant),
            ("provider", self.provider),
            ("purpose", self.purpose.as_str()),
            ("record", self.record),
            ("schema", SCHEMA),
        ];
        let mut bytes = Vec::with_capacity(pairs.iter().map(|(k, v)| k.len() + v.len() + 4).sum());
        bytes.extend(two_bytes(pairs.len())?);
        for (key, value) in pairs {
            if value.len() > MAX_VALUE_BYTES {
                return Err(VaultError::TooLong);
            }
            bytes.extend(two_bytes(key.len())?);
            bytes.extend(key.as_bytes());
            bytes.extend(two_bytes(value.len())?);
            bytes.extend(value.as_bytes());
        }
        Ok(bytes)
    }
}

impl Purpose {
    /// The word that stands in the context. Changing one makes every record of it unreadable.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Account => "account",
            Self::Redirect => "redirect",
            Self::Answer => "answer",
        }
    }
}

fn two_bytes(length: usize) -> Result<[u8; 2], VaultError> {
    u16::try_from(length)
        .map(u16::to_be_bytes)
        .map_err(|_| VaultError::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context<'_> = Context {
        account: "a",
        provider: "paypal",
        merchant: "-",
        record: "pm_x",
        purpose: Purpose::Token,
    };

    #[test]
    fn the_bytes_are_those_of_the_message_format() {
        let expected: &[u8] = b"\x00\x06\
            \x00\x07account\x00\x01a\
            \x00\x08merchant\x00\x01-\
            \x00\x08provider\x00\x06paypal\
            \x00\x07purpose\x00\x05token\
            \x00\x06record\x00\x04pm_x\
            \x00\x06schema\x00\x011";
        assert_eq!(CONTEXT.to_bytes().unwrap(), expected);
    }

    #[test]
    fn a_value_that_is_too_long_is_refused() {
        let long = "x".repeat(MAX_VALUE_BYTES + 1);
        let context = Context {
            record: &long,
            ..CONTEXT
        };
        assert!(matches!(context.to_bytes(), Err(VaultError::TooLong)));
    }
}
