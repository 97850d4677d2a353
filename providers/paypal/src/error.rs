//! PayPal's error body → what follows (`providers/paypal.md` §9, §10).

use cardless_contract::{
    Decline, DeclineCategory as Category, Delivery, ErrorKind, ProviderCode, ProviderError,
    ProviderName, RetryAdvice as Retry,
};
use http::StatusCode;

use crate::wire::{ErrorBody, Link};

/// An answer outside of 2xx.
pub(crate) struct Failure {
    pub(crate) verdict: Verdict,
    code: Option<ProviderCode>,
    correlation: Option<ProviderCode>,
    /// May hold a `payer-action` link.
    pub(crate) links: Vec<Link>,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A decline: an outcome, not an error.
    Declined(Category, Retry, Gone),
    /// The customer must act.
    CustomerAction,
    /// Somebody, perhaps an earlier send of ours, has done it already: read the object.
    AlreadyDone,
    /// An error.
    Error(ErrorKind, Delivery),
}

impl Verdict {
    /// Whether something may have been done.
    const fn leaves_open(self) -> bool {
        matches!(self, Self::AlreadyDone | Self::Error(_, Delivery::Unknown))
    }
}

/// Whether the token is unusable from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    Yes,
    No,
}

/// The issues of a token that is not there any more (§10).
const UNKNOWN_TOKEN: [&str; 5] = [
    "AGREEMENT_ALREADY_CANCELLED",
    "BILLING_AGREEMENT_NOT_FOUND",
    "TOKEN_ID_NOT_FOUND",
    "TOKEN_EXPIRED",
    "IDENTIFIER_NOT_FOUND",
];

impl Failure {
    /// Reads an answer. A body that can't be read (HTML, empty, OAuth style) is decided by status.
    pub(crate) fn read(status: StatusCode, body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<ErrorBody>(body) else {
            return Self {
                verdict: by_status(status, None),
                code: None,
                correlation: None,
                links: Vec::new(),
            };
        };
        let issues: Vec<&str> = body
            .details
            .iter()
            .filter_map(|d| d.issue.as_deref())
            .collect();
        for issue in &issues {
            tracing::debug!(issue = %ProviderCode::new(issue), status = status.as_u16(), "refused");
        }
        let codes = || issues.iter().copied().chain(body.name.as_deref());
        let (code, verdict) = match by_codes(status, &issues, body.name.as_deref()) {
            Some((code, verdict)) => (Some(code), verdict),
            None => (codes().next(), by_status(status, body.name.as_deref())),
        };
        Self {
            verdict,
            code: code.map(ProviderCode::new),
            correlation: body.debug_id.as_deref().map(ProviderCode::new),
            links: body.links,
        }
    }

    /// Whether the first known issue is `code`.
    pub(crate) fn is(&self, code: &str) -> bool {
        self.code.as_ref().is_some_and(|own| own.as_str() == code)
    }

    /// The decline, if it is one.
    pub(crate) fn decline(&self) -> Option<Decline> {
        match self.verdict {
            Verdict::Declined(category, retry, gone) => Some(Decline {
                category,
                retry,
                provider_code: self.code(),
                method_gone: gone == Gone::Yes,
            }),
            Verdict::CustomerAction | Verdict::AlreadyDone | Verdict::Error(..) => None,
        }
    }

    /// Whether the token itself is what PayPal does not know any more. An account that is locked
    /// is none of it: the token lives on.
    pub(crate) fn is_unknown_token(&self) -> bool {
        let is_gone = |code: &ProviderCode| UNKNOWN_TOKEN.contains(&code.as_str());
        matches!(self.verdict, Verdict::Declined(..)) && self.code.as_ref().is_some_and(is_gone)
    }

    /// The decline of a charge that only the customer could have saved.
    pub(crate) fn customer_needed(&self) -> Decline {
        Decline {
            category: Category::AuthenticationRequired,
            retry: Retry::NewMethod,
            provider_code: self.code(),
            method_gone: false,
        }
    }

    /// The same as an error, where no outcome fits.
    pub(crate) fn into_error(self, provider: &ProviderName) -> ProviderError {
        let (kind, delivery) = match self.verdict {
            Verdict::Error(kind, delivery) => (kind, delivery),
            Verdict::AlreadyDone => (ErrorKind::Conflict, Delivery::Unknown),
            Verdict::Declined(..) | Verdict::CustomerAction => {
                (ErrorKind::Conflict, Delivery::Refused)
            }
        };
        let mut error = ProviderError::new(provider.clone(), kind, delivery);
        if let Some(code) = self.code {
            error = error.with_code(code);
        }
        if let Some(id) = self.correlation {
            error = error.with_correlation(id);
        }
        error
    }

    fn code(&self) -> ProviderCode {
        self.code.clone().unwrap_or_else(|| ProviderCode::new(""))
    }
}

/// What the codes decide, and which of them did: the first known one, but one that leaves the
/// outcome open comes before all that close it. The name stands for an issue only where there is
/// none (the v1 agreements API).
fn by_codes<'a>(
    status: StatusCode,
    issues: &[&'a str],
    name: Option<&'a str>,
) -> Option<(&'a str, Verdict)> {
    let name = name.filter(|_| issues.is_empty());
    let codes = issues.iter().copied().chain(name);
    let known: Vec<(&str, Verdict)> = codes
        .filter(|code| may_decide(status, code))
        .filter_map(|code| by_issue(code).map(|verdict| (code, verdict)))
        .collect();
    let open = known.iter().find(|(_, verdict)| verdict.leaves_open());
    open.or(known.first()).copied()
}

/// Whether a code weighs more than the status: with the statuses of the table of §9 that stand for
/// a refusal. Never with 409, 429, 5xx and the others, which say nothing of what was done; with
/// 401 only the one that speaks of the merchant account (§2).
fn may_decide(status: StatusCode, code: &str) -> bool {
    match status.as_u16() {
        401 => code == "INVALID_ACCOUNT_STATUS",
        status => matches!(status, 400 | 403 | 404 | 415 | 422),
    }
}

/// The table of §9. Without its `name` a 4xx may come from a gateway on the way: unknown.
fn by_status(status: StatusCode, name: Option<&str>) -> Verdict {
    use Delivery::{Refused, Unknown};
    let (kind, delivery) = match (status.as_u16(), name) {
        (400, Some("INVALID_REQUEST")) => (ErrorKind::InvalidRequest, Refused),
        // The body of a 401 has two shapes, so its status alone decides (§2).
        (401, _) => (ErrorKind::Authentication, Refused),
        (403, Some("NOT_AUTHORIZED")) => (ErrorKind::Permission, Refused),
        (404, Some("RESOURCE_NOT_FOUND" | "INVALID_RESOURCE_ID")) => (ErrorKind::NotFound, Refused),
        (415, Some("UNSUPPORTED_MEDIA_TYPE")) => (ErrorKind::InvalidRequest, Refused),
        (403, _) => (ErrorKind::Permission, Unknown),
        (409 | 422, _) => (ErrorKind::Conflict, Unknown),
        (429, _) => (ErrorKind::RateLimited, Unknown),
        (400 | 415, _) => (ErrorKind::InvalidRequest, Unknown),
        _ if status.is_server_error() => (ErrorKind::ProviderFailed, Unknown),
        _ => (ErrorKind::UnreadableAnswer, Unknown),
    };
    Verdict::Error(kind, delivery)
}

/// The table of §10. `None`: not in it.
fn by_issue(issue: &str) -> Option<Verdict> {
    by_decline(issue)
        .or_else(|| by_state(issue))
        .or_else(|| by_fault(issue))
}

/// The issues that are declines.
fn by_decline(issue: &str) -> Option<Verdict> {
    let (category, retry, gone) = match issue {
        "INSTRUMENT_DECLINED" => (Category::ProviderRefused, Retry::Later, Gone::No),
        "REDIRECT_PAYER_FOR_ALTERNATE_FUNDING" => {
            (Category::ProviderRefused, Retry::NewMethod, Gone::No)
        }
        "PAYER_CANNOT_PAY" | "DOMESTIC_TRANSACTION_REQUIRED" | "DECLINED_DUE_TO_RELATED_TXN" => {
            (Category::ProviderRefused, Retry::NewMethod, Gone::No)
        }
        "TRANSACTION_REFUSED" => (Category::SuspectedFraud, Retry::NewMethod, Gone::No),
        "TRANSACTION_BLOCKED_BY_PAYEE" | "PAYEE_BLOCKED_TRANSACTION" => {
            (Category::SuspectedFraud, Retry::Never, Gone::No)
        }
        "COMPLIANCE_VIOLATION" => (Category::ProviderRefused, Retry::Never, Gone::No),
        "PAYER_ACCOUNT_RESTRICTED" | "PAYER_ACCOUNT_LOCKED_OR_CLOSED" => {
            (Category::InvalidMethod, Retry::NewMethod, Gone::Yes)
        }
        "TRANSACTION_LIMIT_EXCEEDED" | "MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED" => {
            (Category::LimitExceeded, Retry::Later, Gone::No)
        }
        "CARD_EXPIRED" | "REFERENCED_CARD_EXPIRED" | "INVALID_EXPIRY_DATE" => {
            (Category::Expired, Retry::NewMethod, Gone::Yes)
        }
        "PAYMENT_SOURCE_DECLINED_BY_PROCESSOR"
        | "PAYMENT_SOURCE_CANNOT_BE_USED"
        | "PAYMENT_SOURCE_INFO_CANNOT_BE_VERIFIED" => {
            (Category::InvalidMethod, Retry::NewMethod, Gone::No)
        }
        gone if UNKNOWN_TOKEN.contains(&gone) => {
            (Category::InvalidMethod, Retry::NewMethod, Gone::Yes)
        }
        _ => return None,
    };
    Some(Verdict::Declined(category, retry, gone))
}

/// The issues that speak of the object's state.
fn by_state(issue: &str) -> Option<Verdict> {
    use Delivery::{Refused, Unknown};
    Some(match issue {
        "PAYER_ACTION_REQUIRED" | "CONSENT_NEEDED" | "ORDER_NOT_APPROVED" => {
            Verdict::CustomerAction
        }
        "ORDER_ALREADY_CAPTURED"
        | "ORDER_ALREADY_AUTHORIZED"
        | "ORDER_COMPLETED_OR_VOIDED"
        | "AUTHORIZATION_ALREADY_CAPTURED"
        | "PREVIOUSLY_CAPTURED"
        | "PREVIOUSLY_VOIDED"
        | "CAPTURE_FULLY_REFUNDED" => Verdict::AlreadyDone,
        "DUPLICATE_INVOICE_ID"
        | "ORDER_COMPLETION_IN_PROGRESS"
        | "ORDER_IS_PENDING_APPROVAL"
        | "PREVIOUS_REQUEST_IN_PROGRESS" => Verdict::Error(ErrorKind::Conflict, Unknown),
        "ORDER_EXPIRED"
        | "AUTHORIZATION_EXPIRED"
        | "AUTHORIZATION_VOIDED"
        | "AUTHORIZATION_DENIED"
        | "PENDING_CAPTURE"
        | "TRANSACTION_DISPUTED"
        | "REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK"
        | "PARTIAL_REFUND_NOT_ALLOWED"
        | "REFUND_TIME_LIMIT_EXCEEDED"
        | "REFUND_NOT_ALLOWED"
        | "MAX_NUMBER_OF_REFUNDS_EXCEEDED" => Verdict::Error(ErrorKind::Conflict, Refused),
        "MAX_CAPTURE_AMOUNT_EXCEEDED"
        | "MAX_CAPTURE_COUNT_EXCEEDED"
        | "AUTH_CAPTURE_CURRENCY_MISMATCH"
        | "REFUND_AMOUNT_EXCEEDED"
        | "REFUND_CAPTURE_CURRENCY_MISMATCH" => Verdict::Error(ErrorKind::AmountRefused, Refused),
        _ => return None,
    })
}

/// The issues that speak of our account, or of a bug of ours.
fn by_fault(issue: &str) -> Option<Verdict> {
    let kind = match issue {
        "TRANSACTION_RECEIVING_LIMIT_EXCEEDED"
        | "PAYEE_ACCOUNT_RESTRICTED"
        | "PAYEE_ACCOUNT_LOCKED_OR_CLOSED"
        | "PAYEE_ACCOUNT_INVALID"
        | "INVALID_ACCOUNT_STATUS"
        | "REFUND_FAILED_INSUFFICIENT_FUNDS" => ErrorKind::MerchantAccount,
        "NOT_ELIGIBLE_FOR_TOKEN_PROCESSING"
        | "NOT_ENABLED_TO_VAULT_PAYMENT_SOURCE"
        | "AUTH_CAPTURE_NOT_ENABLED"
        | "NOT_ENABLED_FOR_CARD_PROCESSING"
        | "PERMISSION_DENIED"
        // The v1 agreements API answers it where the feature is off (§5.7).
        | "REFUSED_MARK_REF_TXN_NOT_ENABLED" => ErrorKind::Permission,
        "INVALID_RESOURCE_ID" => ErrorKind::NotFound,
        "MISMATCHED_VAULT_ID_TO_PAYMENT_SOURCE"
        | "BILLING_AGREEMENT_ID_MISMATCH"
        | "PREFERRED_PAYMENT_SOURCE_MISMATCH"
        | "PAYPAL_REQUEST_ID_REQUIRED"
        | "MISSING_REQUIRED_PARAMETER"
        | "AMOUNT_MISMATCH"
        | "ACTION_DOES_NOT_MATCH_INTENT"
        | "INCOMPATIBLE_PARAMETER_VALUE"
        | "MALFORMED_REQUEST_JSON" => ErrorKind::InvalidRequest,
        _ if has_prefix(issue, &["INVALID_", "DECIMAL", "CANNOT_BE_"]) => ErrorKind::InvalidRequest,
        _ => return None,
    };
    Some(Verdict::Error(kind, Delivery::Refused))
}

fn has_prefix(issue: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| issue.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Failure {
        Failure::read(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    fn issue(status: u16, issue: &str) -> Verdict {
        read(
            status,
            &format!(r#"{{"name":"UNPROCESSABLE_ENTITY","details":[{{"issue":"{issue}"}}]}}"#),
        )
        .verdict
    }

    #[test]
    fn statuses_follow_the_table() {
        use Delivery::{Refused, Unknown};
        for (status, body, kind, delivery) in [
            (
                400,
                r#"{"name":"INVALID_REQUEST"}"#,
                ErrorKind::InvalidRequest,
                Refused,
            ),
            (400, "<html>", ErrorKind::InvalidRequest, Unknown),
            (
                401,
                r#"{"error":"invalid_token"}"#,
                ErrorKind::Authentication,
                Refused,
            ),
            (
                403,
                r#"{"name":"NOT_AUTHORIZED"}"#,
                ErrorKind::Permission,
                Refused,
            ),
            (
                404,
                r#"{"name":"RESOURCE_NOT_FOUND"}"#,
                ErrorKind::NotFound,
                Refused,
            ),
            (404, "<html>", ErrorKind::UnreadableAnswer, Unknown),
            (405, "{}", ErrorKind::UnreadableAnswer, Unknown),
            (
                409,
                r#"{"name":"RESOURCE_CONFLICT"}"#,
                ErrorKind::Conflict,
                Unknown,
            ),
            (429, "", ErrorKind::RateLimited, Unknown),
            (
                500,
                r#"{"details":[{"issue":"INVALID_X"}]}"#,
                ErrorKind::ProviderFailed,
                Unknown,
            ),
            (503, "<html>", ErrorKind::ProviderFailed, Unknown),
            (302, "", ErrorKind::UnreadableAnswer, Unknown),
        ] {
            assert_eq!(
                read(status, body).verdict,
                Verdict::Error(kind, delivery),
                "{status} {body}"
            );
        }
    }

    #[test]
    fn issues_follow_the_table() {
        assert_eq!(
            issue(422, "INSTRUMENT_DECLINED"),
            Verdict::Declined(Category::ProviderRefused, Retry::Later, Gone::No)
        );
        assert_eq!(
            issue(422, "TOKEN_ID_NOT_FOUND"),
            Verdict::Declined(Category::InvalidMethod, Retry::NewMethod, Gone::Yes)
        );
        assert_eq!(
            issue(422, "COMPLIANCE_VIOLATION"),
            Verdict::Declined(Category::ProviderRefused, Retry::Never, Gone::No)
        );
        assert_eq!(issue(422, "PAYER_ACTION_REQUIRED"), Verdict::CustomerAction);
        assert_eq!(issue(422, "ORDER_ALREADY_CAPTURED"), Verdict::AlreadyDone);
        for (word, kind, delivery) in [
            (
                "DUPLICATE_INVOICE_ID",
                ErrorKind::Conflict,
                Delivery::Unknown,
            ),
            (
                "PREVIOUS_REQUEST_IN_PROGRESS",
                ErrorKind::Conflict,
                Delivery::Unknown,
            ),
            ("A_NEW_WORD", ErrorKind::Conflict, Delivery::Unknown),
            (
                "REFUND_AMOUNT_EXCEEDED",
                ErrorKind::AmountRefused,
                Delivery::Refused,
            ),
            (
                "INVALID_ACCOUNT_STATUS",
                ErrorKind::MerchantAccount,
                Delivery::Refused,
            ),
            (
                "INVALID_CURRENCY_CODE",
                ErrorKind::InvalidRequest,
                Delivery::Refused,
            ),
            (
                "DECIMALS_NOT_SUPPORTED",
                ErrorKind::InvalidRequest,
                Delivery::Refused,
            ),
        ] {
            assert_eq!(issue(422, word), Verdict::Error(kind, delivery), "{word}");
        }
    }

    #[test]
    fn the_first_known_issue_decides() {
        let body = r#"{"name":"X","debug_id":"f1","details":[{"issue":"NEW"},{"issue":"PAYER_CANNOT_PAY"}]}"#;
        let failure = read(422, body);
        assert!(failure.is("PAYER_CANNOT_PAY"));
        let decline = failure.decline().unwrap();
        assert_eq!(decline.provider_code.as_str(), "PAYER_CANNOT_PAY");
    }

    #[test]
    fn an_issue_that_leaves_it_open_weighs_more_than_one_that_closes() {
        for (open, verdict) in [
            ("ORDER_ALREADY_CAPTURED", Verdict::AlreadyDone),
            (
                "DUPLICATE_INVOICE_ID",
                Verdict::Error(ErrorKind::Conflict, Delivery::Unknown),
            ),
        ] {
            for closing in ["INSTRUMENT_DECLINED", "INVALID_STRING_LENGTH"] {
                let body =
                    format!(r#"{{"details":[{{"issue":"{closing}"}},{{"issue":"{open}"}}]}}"#);
                let failure = read(422, &body);
                assert_eq!(failure.verdict, verdict, "{closing} {open}");
                assert!(failure.is(open));
            }
        }
    }

    #[test]
    fn a_name_does_not_speak_for_an_unknown_issue() {
        let unknown = Verdict::Error(ErrorKind::Conflict, Delivery::Unknown);
        let body = r#"{"name":"INVALID_SOMETHING","details":[{"issue":"A_NEW_WORD"}]}"#;
        assert_eq!(read(422, body).verdict, unknown);
        let alone = read(422, r#"{"name":"AGREEMENT_ALREADY_CANCELLED"}"#);
        assert!(alone.decline().is_some_and(|decline| decline.method_gone));
    }

    #[test]
    fn a_documented_issue_under_another_status_proves_nothing() {
        for status in [402, 405, 406, 408, 409, 410, 413, 425, 429, 451, 500, 503] {
            for code in ["INSTRUMENT_DECLINED", "INVALID_REQUEST", "ORDER_EXPIRED"] {
                let Verdict::Error(_, delivery) = issue(status, code) else {
                    panic!("{status} {code}");
                };
                assert_eq!(delivery, Delivery::Unknown, "{status} {code}");
            }
        }
    }

    #[test]
    fn an_error_names_issue_and_debug_id_and_quotes_nothing() {
        let body = r#"{"name":"X","message":"canary","debug_id":"90957fca61718","details":[{"issue":"NEW","value":"canary","description":"canary"}]}"#;
        let name = ProviderName::new("paypal").unwrap();
        let error = read(422, body).into_error(&name);
        let text = format!("{error} {error:?}");
        assert!(text.contains("NEW") && text.contains("90957fca61718") && !text.contains("canary"));
    }
}
