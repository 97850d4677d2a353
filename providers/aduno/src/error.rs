use cardless_contract::{Delivery, ErrorKind, ProviderCode, ProviderError, ProviderName};
use http::StatusCode;

use crate::wire;

/// Why a call brought no answer of the wanted type.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There was no answer, or none that can be understood.
    Broken(ProviderError),
    /// The provider answered with an error, which may be a decline.
    Refused(Refusal),
}

/// An answer that is not a 2xx: its status, its code, and what its text adds to the code. The text
/// itself is dropped, since it can quote what was sent.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: Option<String>,
    about: About,
}

/// What the text of an `INVALID_PROPERTY` is about. There it is a domain answer, not a bug
/// (`providers/aduno.md` §10.2, "Caution").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Amount,
    Alias,
    Currency,
    Other,
}

/// Codes of errors (`providers/aduno.md` §10.2). `Refused` is said of those that stand for a
/// request that was not carried out; the others leave it open.
const ERRORS: &[(&str, ErrorKind, Delivery)] = &[
    // The first use of the refno may well have moved money.
    ("DUPLICATE_REFNO", ErrorKind::Conflict, Delivery::Unknown),
    ("DUPLICATED_REFNO", ErrorKind::Conflict, Delivery::Unknown),
    (WRONG_STATUS, ErrorKind::Conflict, Delivery::Refused),
    (
        "TRANSACTION_NOT_FOUND",
        ErrorKind::NotFound,
        Delivery::Refused,
    ),
    (
        INVALID_PROPERTY,
        ErrorKind::InvalidRequest,
        Delivery::Refused,
    ),
    (
        "UNRECOGNIZED_PROPERTY",
        ErrorKind::InvalidRequest,
        Delivery::Refused,
    ),
    (
        "INVALID_JSON_PAYLOAD",
        ErrorKind::InvalidRequest,
        Delivery::Refused,
    ),
    (
        "INVALID_HEADER",
        ErrorKind::InvalidRequest,
        Delivery::Refused,
    ),
    ("CLIENT_ERROR", ErrorKind::InvalidRequest, Delivery::Refused),
    (
        "ILLEGAL_ARGUMENT",
        ErrorKind::InvalidRequest,
        Delivery::Refused,
    ),
    (
        "INVALID_PLAIN_VALUE",
        ErrorKind::InvalidRequest,
        Delivery::Refused,
    ),
    (
        "INVALID_EXPIRATION",
        ErrorKind::InvalidRequest,
        Delivery::Refused,
    ),
    (
        "MAX_REQUESTS_PER_CALL_EXCEEDED",
        ErrorKind::InvalidRequest,
        Delivery::Refused,
    ),
    ("UNAUTHORIZED", ErrorKind::Authentication, Delivery::Refused),
    ("FORBIDDEN", ErrorKind::Permission, Delivery::Refused),
    (
        "SERVICE_NOT_ALLOWED",
        ErrorKind::Permission,
        Delivery::Refused,
    ),
    (
        "DELETE_NOT_ALLOWED",
        ErrorKind::Permission,
        Delivery::Refused,
    ),
    (
        "INVALID_SIGN",
        ErrorKind::MerchantAccount,
        Delivery::Refused,
    ),
    (
        "INVALID_SETUP",
        ErrorKind::MerchantAccount,
        Delivery::Refused,
    ),
    (
        "INVALID_CONFIGURATION",
        ErrorKind::MerchantAccount,
        Delivery::Refused,
    ),
    (
        "UNSUPPORTED_PAYMENT_METHOD",
        ErrorKind::MerchantAccount,
        Delivery::Refused,
    ),
    (
        "NOT_SUPPORTED_BY_THIRD_PARTY",
        ErrorKind::MerchantAccount,
        Delivery::Refused,
    ),
    (
        "INVALID_STATE",
        ErrorKind::MerchantAccount,
        Delivery::Refused,
    ),
    (
        "INVALID_TOKEN",
        ErrorKind::MerchantAccount,
        Delivery::Refused,
    ),
    (
        "COULD_NOT_DECRYPT_TOKEN",
        ErrorKind::MerchantAccount,
        Delivery::Refused,
    ),
    (
        "COULD_NOT_OBTAIN_NETWORK_TOKEN",
        ErrorKind::MerchantAccount,
        Delivery::Refused,
    ),
    (
        "COULD_NOT_DELETE_NETWORK_TOKEN",
        ErrorKind::MerchantAccount,
        Delivery::Refused,
    ),
    (
        "THIRD_PARTY_ERROR",
        ErrorKind::ProviderFailed,
        Delivery::Unknown,
    ),
    ("SCHEME_ERROR", ErrorKind::ProviderFailed, Delivery::Unknown),
    ("ISSUER_ERROR", ErrorKind::ProviderFailed, Delivery::Unknown),
    ("SERVER_ERROR", ErrorKind::ProviderFailed, Delivery::Unknown),
    (
        "INTERNAL_ERROR",
        ErrorKind::ProviderFailed,
        Delivery::Unknown,
    ),
    (
        "UNKNOWN_ERROR",
        ErrorKind::ProviderFailed,
        Delivery::Unknown,
    ),
];

const WRONG_STATUS: &str = "INVALID_TRANSACTION_STATUS";
const INVALID_PROPERTY: &str = "INVALID_PROPERTY";

impl Refusal {
    /// Reads an answer that is not a 2xx. Its body may be HTML (`providers/aduno.md` §2): then
    /// there is no code, and nothing is known but the status.
    pub(crate) fn new(status: StatusCode, body: &[u8]) -> Self {
        let body: wire::ErrorBody = serde_json::from_slice(body).unwrap_or_default();
        let detail = body.error;
        let about = detail
            .as_ref()
            .and_then(|detail| detail.message.as_deref())
            .map_or(About::Other, About::of);
        Self {
            status,
            code: detail.and_then(|detail| detail.code),
            about,
        }
    }

    /// The code, if this is an answer that the fact sheet documents for it: a code in a body of
    /// 400, 401, 403 or 404.
    pub(crate) fn documented_code(&self) -> Option<&str> {
        let documented = matches!(self.status.as_u16(), 400 | 401 | 403 | 404);
        self.code.as_deref().filter(|_| documented)
    }

    /// Whether the transaction's status does not allow what was asked. It comes as 400 and as
    /// 409; a 409 without this code is a first request that is still running (§8).
    pub(crate) fn is_wrong_status(&self) -> bool {
        matches!(self.status.as_u16(), 400 | 409) && self.code.as_deref() == Some(WRONG_STATUS)
    }

    /// Whether the card's alias is what the provider found invalid.
    pub(crate) fn is_about_the_alias(&self) -> bool {
        self.documented_code() == Some(INVALID_PROPERTY) && self.about == About::Alias
    }

    /// Whether the credentials are what the provider refused.
    pub(crate) fn is_about_credentials(&self) -> bool {
        matches!(self.status.as_u16(), 401 | 403)
            || matches!(self.documented_code(), Some("UNAUTHORIZED" | "FORBIDDEN"))
    }

    /// Whether the password is what the provider refused, before it did anything: by the documented
    /// code only. Another answer of 401 may be a gateway's on the way, and says nothing of what was
    /// done.
    pub(crate) fn is_wrong_password(&self) -> bool {
        self.meaning() == (ErrorKind::Authentication, Delivery::Refused)
    }

    /// The same as an error of the contract.
    pub(crate) fn into_error(self, provider: &ProviderName) -> ProviderError {
        let (kind, delivery) = self.meaning();
        let error = ProviderError::new(provider.clone(), kind, delivery);
        match &self.code {
            Some(code) => error.with_code(ProviderCode::new(code)),
            None => error,
        }
    }

    fn meaning(&self) -> (ErrorKind, Delivery) {
        if self.is_wrong_status() {
            return (ErrorKind::Conflict, Delivery::Refused);
        }
        let known = self
            .documented_code()
            .and_then(|code| ERRORS.iter().find(|(name, _, _)| *name == code));
        match known {
            Some((name, _, delivery)) if *name == INVALID_PROPERTY => {
                (self.about.kind(), *delivery)
            }
            Some((_, kind, delivery)) => (*kind, *delivery),
            None => (kind_by_status(self.status), Delivery::Unknown),
        }
    }
}

impl About {
    fn of(message: &str) -> Self {
        let message = message.to_ascii_lowercase();
        // Not the wish for an alias, `option.createAlias`: that is the merchant's set-up.
        if message.contains("card.alias") {
            Self::Alias
        } else if message.contains("currency") {
            Self::Currency
        } else if message.contains("amount") {
            Self::Amount
        } else {
            Self::Other
        }
    }

    const fn kind(self) -> ErrorKind {
        match self {
            Self::Amount => ErrorKind::AmountRefused,
            // A currency that is not enabled for the merchant (§4).
            Self::Currency => ErrorKind::MerchantAccount,
            Self::Alias | Self::Other => ErrorKind::InvalidRequest,
        }
    }
}

impl Failure {
    /// The same as an error of the contract.
    pub(crate) fn into_error(self, provider: &ProviderName) -> ProviderError {
        match self {
            Self::Broken(error) => error,
            Self::Refused(refusal) => refusal.into_error(provider),
        }
    }
}

/// What an answer without a documented code is about. A 422 is a key that was used with other
/// bytes (§8): what became of those bytes stays open.
fn kind_by_status(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        401 => ErrorKind::Authentication,
        403 => ErrorKind::Permission,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        422 => ErrorKind::RepeatRefused,
        429 => ErrorKind::RateLimited,
        500..=599 => ErrorKind::ProviderFailed,
        _ => ErrorKind::UnreadableAnswer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str) -> (ErrorKind, Delivery) {
        let status = StatusCode::from_u16(status).unwrap();
        Refusal::new(status, body.as_bytes()).meaning()
    }

    fn coded(status: u16, code: &str, message: &str) -> (ErrorKind, Delivery) {
        error(
            status,
            &format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#),
        )
    }

    #[test]
    fn each_code_has_its_kind_and_delivery() {
        for (code, kind, delivery) in ERRORS {
            assert_eq!(coded(400, code, "text"), (*kind, *delivery), "{code}");
        }
    }

    #[test]
    fn an_alias_that_may_not_be_made_is_no_dead_alias() {
        for (message, is_dead) in [
            ("authorize.card.alias", true),
            ("init.card.alias", true),
            ("init.option.createAlias", false),
            ("alias feature not active", false),
        ] {
            let body =
                format!(r#"{{"error":{{"code":"INVALID_PROPERTY","message":"{message}"}}}}"#);
            let refusal = Refusal::new(StatusCode::BAD_REQUEST, body.as_bytes());
            assert_eq!(refusal.is_about_the_alias(), is_dead, "{message}");
        }
    }

    #[test]
    fn the_text_refines_an_invalid_property_only() {
        use Delivery::Refused;
        assert_eq!(
            coded(400, "INVALID_PROPERTY", "credit.amount"),
            (ErrorKind::AmountRefused, Refused)
        );
        assert_eq!(
            coded(400, "INVALID_PROPERTY", "exceeded authorization amount"),
            (ErrorKind::AmountRefused, Refused)
        );
        assert_eq!(
            coded(400, "INVALID_PROPERTY", "authorize.currency"),
            (ErrorKind::MerchantAccount, Refused)
        );
        assert_eq!(
            coded(400, "CLIENT_ERROR", "credit.amount"),
            (ErrorKind::InvalidRequest, Refused)
        );
    }

    #[test]
    fn a_409_is_told_apart_by_its_code() {
        assert_eq!(
            coded(409, "INVALID_TRANSACTION_STATUS", ""),
            (ErrorKind::Conflict, Delivery::Refused)
        );
        for body in [
            "",
            "{}",
            r#"{"error":{"code":"IN_PROGRESS"}}"#,
            r#"{"error":{"code":"DECLINED"}}"#,
        ] {
            assert_eq!(
                error(409, body),
                (ErrorKind::Conflict, Delivery::Unknown),
                "{body}"
            );
        }
    }

    #[test]
    fn nothing_undocumented_is_refused() {
        for (status, kind) in [
            (400, ErrorKind::UnreadableAnswer),
            (401, ErrorKind::Authentication),
            (403, ErrorKind::Permission),
            (404, ErrorKind::NotFound),
            (408, ErrorKind::UnreadableAnswer),
            (409, ErrorKind::Conflict),
            (422, ErrorKind::RepeatRefused),
            (429, ErrorKind::RateLimited),
            (500, ErrorKind::ProviderFailed),
            (502, ErrorKind::ProviderFailed),
            (301, ErrorKind::UnreadableAnswer),
        ] {
            for body in [
                "",
                "<html>canary</html>",
                r#"{"error":{"code":"NEVER_SEEN"}}"#,
                r#"{"error":7}"#,
            ] {
                assert_eq!(
                    error(status, body),
                    (kind, Delivery::Unknown),
                    "{status} {body}"
                );
            }
        }
        // A code of the table under a status that the sheet does not give for it.
        for status in [408, 422, 429, 500] {
            assert_eq!(
                coded(status, "INVALID_PROPERTY", "x").1,
                Delivery::Unknown,
                "{status}"
            );
        }
    }

    #[test]
    fn an_error_quotes_code_only() {
        let name = ProviderName::new("aduno").unwrap();
        let body = br#"{"error":{"code":"DUPLICATE_REFNO","message":"canary alias"}}"#;
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, body);
        assert!(!format!("{refusal:?}").contains("canary"));
        let error = refusal.into_error(&name);
        assert_eq!(error.code().unwrap().as_str(), "DUPLICATE_REFNO");
        assert!(!format!("{error} {error:?}").contains("canary"));
        let body = br#"{"error":{"code":"the canary 4242424242424242","message":""}}"#;
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, body);
        let error = refusal.into_error(&name);
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
