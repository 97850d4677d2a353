//! Datatrans' JSON, as far as it is sent and read.
//!
//! Types of answers are an allow-list (`providers/aduno.md` §9.4): what they have no member for,
//! masked numbers, fingerprints, scheme tokens, names, addresses, is dropped unread. Types that
//! hold an alias or an expiry date have no `Debug`.

use cardless_contract::Timestamp;
use serde::{Deserialize, Serialize};

/// How many digits the id of a transaction has (§4).
const TRANSACTION_ID_DIGITS: usize = 18;

/// How many characters an alias of the current format has (§6.1).
const ALIAS_BYTES: usize = 32;

/// The id of a transaction, of the one shape that the provider gives out. It is safe in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TransactionId<'a>(&'a str);

/// An alias of the current format. Every other format is refused: the legacy ones hold the first
/// six and last four digits of the card's number, or stand for a security code.
#[derive(Clone, Copy)]
pub(crate) struct Alias<'a>(&'a str);

impl<'a> TransactionId<'a> {
    pub(crate) fn new(text: &'a str) -> Option<Self> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        (text.len() == TRANSACTION_ID_DIGITS && digits).then_some(Self(text))
    }

    pub(crate) const fn as_str(self) -> &'a str {
        self.0
    }
}

impl<'a> Alias<'a> {
    pub(crate) fn new(text: &'a str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        (text.len() == ALIAS_BYTES && text.bytes().all(allowed)).then_some(Self(text))
    }

    pub(crate) const fn expose(self) -> &'a str {
        self.0
    }
}

/// `POST /v1/transactions`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Init<'a> {
    pub(crate) currency: &'static str,
    pub(crate) refno: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<i64>,
    pub(crate) auto_settle: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payment_methods: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) language: Option<&'static str>,
    pub(crate) option: InitOption,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) card: Option<Card<'a>>,
    pub(crate) redirect: Redirect<'a>,
    pub(crate) webhook: Webhook<'a>,
}

/// Wishes of an init.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InitOption {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) create_alias: Option<bool>,
    pub(crate) store_customer_data: bool,
}

/// Where the browser goes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Redirect<'a> {
    pub(crate) success_url: &'a str,
    pub(crate) cancel_url: &'a str,
    pub(crate) error_url: &'a str,
    pub(crate) method: &'static str,
}

/// Where webhooks go.
#[derive(Serialize)]
pub(crate) struct Webhook<'a> {
    pub(crate) url: &'a str,
}

/// A card by its alias.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Card<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) alias: &'a str,
    pub(crate) expiry_month: &'a str,
    pub(crate) expiry_year: &'a str,
}

/// `POST /v1/transactions/authorize`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Authorize<'a> {
    pub(crate) currency: &'static str,
    pub(crate) refno: &'a str,
    pub(crate) amount: i64,
    pub(crate) auto_settle: bool,
    pub(crate) card: Card<'a>,
}

/// The body of a settle and of a credit.
#[derive(Serialize)]
pub(crate) struct Movement<'a> {
    pub(crate) amount: i64,
    pub(crate) currency: &'static str,
    pub(crate) refno: &'a str,
}

/// The body of a cancel: an empty object, and nothing else (§3).
#[derive(Serialize)]
pub(crate) struct Cancel {}

/// `PATCH /v1/aliases/{alias}`, two digits each, in memory only.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Expiry {
    pub(crate) expiry_month: String,
    pub(crate) expiry_year: String,
}

/// The answer to an init, an authorize and a credit.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Started {
    pub(crate) transaction_id: String,
    #[serde(default)]
    pub(crate) acquirer_authorization_code: Option<serde::de::IgnoredAny>,
}

/// What may stand in the answer to a settle, a cancel, and a change of an alias: nothing is read
/// of it, but an error is none of it.
#[derive(Deserialize)]
pub(crate) struct Accepted {
    // Without `default`, so that only an object is one: `[]` is not.
    pub(crate) error: Option<serde::de::IgnoredAny>,
}

/// The status of a transaction, and the body of a webhook.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) transaction_id: String,
    #[serde(default)]
    pub(crate) merchant_id: Option<String>,
    #[serde(default, rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) currency: Option<String>,
    #[serde(default)]
    pub(crate) refno: Option<String>,
    #[serde(default)]
    pub(crate) detail: Option<Detail>,
    #[serde(default)]
    pub(crate) history: Option<Vec<Action>>,
    #[serde(default)]
    pub(crate) card: Option<StatusCard>,
    /// When the answer was made, by the provider's clock: its `Date`.
    #[serde(skip)]
    pub(crate) made_at: Option<Timestamp>,
}

/// What was done.
#[derive(Default, Deserialize)]
pub(crate) struct Detail {
    #[serde(default)]
    pub(crate) init: Option<Begun>,
    #[serde(default)]
    pub(crate) authorize: Option<Amount>,
    #[serde(default)]
    pub(crate) settle: Option<Amount>,
    #[serde(default)]
    pub(crate) credit: Option<Amount>,
    #[serde(default)]
    pub(crate) fail: Option<Fail>,
}

/// Until when the customer may begin.
#[derive(Deserialize)]
pub(crate) struct Begun {
    #[serde(default)]
    pub(crate) expires: Option<String>,
}

/// An amount in the currency's smallest unit.
#[derive(Deserialize)]
pub(crate) struct Amount {
    #[serde(default)]
    pub(crate) amount: Option<i64>,
}

/// Why a transaction failed; its message is free text and dropped.
#[derive(Deserialize)]
pub(crate) struct Fail {
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

/// One entry of the history; the address it came from is dropped.
#[derive(Deserialize)]
pub(crate) struct Action {
    #[serde(default)]
    pub(crate) action: Option<String>,
    #[serde(default)]
    pub(crate) amount: Option<i64>,
    #[serde(default)]
    pub(crate) success: Option<bool>,
}

/// What a registration left: the alias, the expiry date in memory, and whether it is a wallet's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusCard {
    #[serde(default)]
    pub(crate) alias: Option<String>,
    #[serde(default)]
    pub(crate) expiry_month: Option<String>,
    #[serde(default)]
    pub(crate) expiry_year: Option<String>,
    #[serde(default)]
    pub(crate) wallet_indicator: Option<serde::de::IgnoredAny>,
}

/// `GET /v1/aliases/{alias}`.
#[derive(Deserialize)]
pub(crate) struct AliasInfo {
    #[serde(default)]
    pub(crate) card: Option<AliasCard>,
}

/// Its card, of which the expiry date alone is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AliasCard {
    #[serde(default)]
    pub(crate) expiry_month: Option<String>,
    #[serde(default)]
    pub(crate) expiry_year: Option<String>,
}

/// An error, or a decline.
#[derive(Default, Deserialize)]
pub(crate) struct ErrorBody {
    #[serde(default)]
    pub(crate) error: Option<ErrorDetail>,
}

/// Its code, and a text that is looked at to refine the code and then dropped.
#[derive(Deserialize)]
pub(crate) struct ErrorDetail {
    #[serde(default)]
    pub(crate) code: Option<String>,
    #[serde(default)]
    pub(crate) message: Option<String>,
}

impl Expiry {
    /// The expiry date, if both parts are two digits.
    pub(crate) fn new(month: Option<String>, year: Option<String>) -> Option<Self> {
        let two_digits =
            |text: &String| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        Some(Self {
            expiry_month: month.filter(two_digits)?,
            expiry_year: year.filter(two_digits)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_has_one_shape() {
        assert!(Alias::new("7LHXscqwAAEAAAGQnJCjw96fy0pzAPTN").is_some());
        assert!(Alias::new("AAABcH0BrE-s3kgAESIAAWdCRyMPAGv_").is_some());
        for other in [
            "",
            "7LHXscqwAAEAAAGQnJCjw96fy0pzAPT",
            "7LHXscqwAAEAAAGQnJCjw96fy0pzAPTNN",
            "7LHXscqwAAEAAAGQnJCjw96fy0pzAPT/",
            "7LHXscqwAAEAAAGQnJCjw96fy0pzAP%2e",
            "424242SKMPRI4242",
            "70119122433810042000",
            "ABCDEFGHIJKLMNOPQRSTUVWX",
        ] {
            assert!(Alias::new(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_transaction_id_is_18_digits() {
        assert!(TransactionId::new("260101120000000001").is_some());
        for other in [
            "",
            "26010112000000000",
            "2601011200000000011",
            "26010112000000000x",
        ] {
            assert!(TransactionId::new(other).is_none(), "{other}");
        }
    }

    #[test]
    fn no_null_and_no_unknown_member_is_sent() {
        let body = Init {
            currency: "CHF",
            refno: "reg",
            amount: None,
            auto_settle: true,
            payment_methods: None,
            language: None,
            option: InitOption {
                create_alias: None,
                store_customer_data: false,
            },
            card: None,
            redirect: Redirect {
                success_url: "a",
                cancel_url: "a",
                error_url: "a",
                method: "GET",
            },
            webhook: Webhook { url: "b" },
        };
        assert_eq!(
            serde_json::to_string(&body).unwrap(),
            r#"{"currency":"CHF","refno":"reg","autoSettle":true,"option":{"storeCustomerData":false},"redirect":{"successUrl":"a","cancelUrl":"a","errorUrl":"a","method":"GET"},"webhook":{"url":"b"}}"#
        );
        assert_eq!(serde_json::to_string(&Cancel {}).unwrap(), "{}");
    }
}
