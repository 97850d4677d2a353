//! Errors as answers: RFC 9457 problem details. The only file that knows which HTTP status an
//! error has.

use std::error::Error as StdError;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::error::{Code, Error, Whose};

/// The media type of every error.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// What stands before the code in a problem's `type`.
const TYPE_PREFIX: &str = "urn:cardless:problem:";

/// After how many seconds a caller may ask again when something was busy or away.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// An answer that says what went wrong.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    field: Option<String>,
    challenge: bool,
}

/// The body of an error.
#[derive(Debug, Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl Problem {
    /// No route has this path. 404.
    pub(crate) fn no_route() -> Self {
        let detail = "There is nothing at this address; see /openapi.json.";
        Self::of_http(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// The route has no such method. 405.
    pub(crate) fn method_not_allowed() -> Self {
        let detail = "This address does not take this method; see the `Allow` header.";
        Self::of_http(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// The body is larger than is read. 413.
    pub(crate) fn too_large(limit_bytes: usize) -> Self {
        let detail = format!("The body is larger than {limit_bytes} bytes.");
        Self::of_http(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    /// The body did not arrive in time. 408.
    pub(crate) fn too_slow() -> Self {
        let detail = "The body did not arrive in time; send it again, whole.";
        Self::of_http(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
    }

    /// The body broke off. 400.
    pub(crate) fn broken_body() -> Self {
        let detail = "The body broke off; send it again, whole.";
        Self::of_http(StatusCode::BAD_REQUEST, "broken_body", detail)
    }

    /// The body is no JSON by its content type. 415.
    pub(crate) fn not_json() -> Self {
        let detail = "Send the body as JSON, with `Content-Type: application/json`.";
        Self::of_http(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            detail,
        )
    }

    /// The body is no sealed message by its content type. 415.
    pub(crate) fn not_sealed() -> Self {
        let detail = "Send a sealed message, with `Content-Type: application/jose`.";
        Self::of_http(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            detail,
        )
    }

    /// The body is not JSON, whatever its content type says. 422.
    pub(crate) fn malformed_body() -> Self {
        let detail = "The body is not valid JSON.";
        Self::of_http(StatusCode::UNPROCESSABLE_ENTITY, "malformed_body", detail)
    }

    fn of_http(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self {
            status,
            code,
            title,
            detail: detail.into(),
            field: None,
            challenge: false,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        log(&error);
        let code = error.code();
        Self {
            status: status(code),
            code: code.as_str(),
            title: title(code),
            detail: error.message().to_owned(),
            field: error.field_path().map(str::to_owned),
            challenge: code == Code::Unauthenticated,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: format!("{TYPE_PREFIX}{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            field: self.field.as_deref(),
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE || self.code == Code::InProgress.as_str()
        {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}

/// The status of every code.
const fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidField
        | Code::InvalidAmount
        | Code::UnsupportedCurrency
        | Code::CardNumber
        | Code::IdempotencyKey
        | Code::IdempotencyMismatch
        | Code::AmountExceedsRemaining
        | Code::NotSupported => StatusCode::UNPROCESSABLE_ENTITY,
        Code::InProgress | Code::OutcomeUnknown | Code::InvalidState | Code::AccountRestricted => {
            StatusCode::CONFLICT
        }
        Code::AccountErased => StatusCode::GONE,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::EventGone => StatusCode::GONE,
        Code::Unauthenticated | Code::NotificationRefused | Code::ExchangeRefused => {
            StatusCode::UNAUTHORIZED
        }
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::ProviderUnavailable | Code::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::ProviderRefused => StatusCode::BAD_GATEWAY,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A short sentence for every code, the same each time.
const fn title(code: Code) -> &'static str {
    match code {
        Code::InvalidField => "A field is missing or not valid",
        Code::InvalidAmount => "The amount is not valid",
        Code::UnsupportedCurrency => "The currency is not supported",
        Code::CardNumber => "A card number must not be sent here",
        Code::IdempotencyKey => "The Idempotency-Key is missing or not valid",
        Code::IdempotencyMismatch => "The Idempotency-Key was used for another request",
        Code::AmountExceedsRemaining => "The amount is more than what is left",
        Code::NotSupported => "The provider does not support this",
        Code::InProgress => "Something of this is still being worked on",
        Code::OutcomeUnknown => "An earlier payment under this reference is still open",
        Code::InvalidState => "The present state does not allow this",
        Code::AccountRestricted => "The account is restricted",
        Code::AccountErased => "The account is erased",
        Code::NotFound => "Not found",
        Code::EventGone => "The event is not kept",
        Code::Unauthenticated => "The API key is missing or not valid",
        Code::Forbidden => "The client's role does not allow this",
        Code::NotificationRefused => "The notification does not verify",
        Code::ExchangeRefused => "The sealed message is refused",
        Code::ProviderUnavailable => "The provider could not be reached",
        Code::ProviderRefused => "The provider refused the request",
        Code::StoreUnavailable => "The store is not available",
        Code::Internal => "Something is wrong on our side",
    }
}

/// The log's half of an error: what lies behind it. A caller's own mistake is not worth a line.
fn log(error: &Error) {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    let code = error.code().as_str();
    match error.code().whose() {
        Whose::Ours => tracing::error!(code, source, "{error}"),
        Whose::Provider | Whose::Sender => tracing::warn!(code, source, "{error}"),
        Whose::Caller => {}
    }
}
