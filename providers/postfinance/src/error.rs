use cardless_contract::{Delivery, ErrorKind, ProviderCode, ProviderError, ProviderName};
use cardless_transport::{Response, SendError};
use http::StatusCode;

use crate::wire::ErrorBody;

/// A request that brought no object, with the status that it brought instead.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Option<StatusCode>,
    error: ProviderError,
}

impl Failure {
    /// A request that was never built.
    pub(crate) fn internal(provider: &ProviderName, what: &'static str) -> Self {
        let error = ProviderError::new(provider.clone(), ErrorKind::Internal, Delivery::NotSent);
        Self {
            status: None,
            error: error.with_source(what),
        }
    }

    /// A request without an answer. One that is not the first was sent before, with another key.
    pub(crate) fn unanswered(provider: &ProviderName, error: SendError, first: bool) -> Self {
        let error = error.into_provider_error(provider);
        Self {
            status: None,
            error: if first { error } else { error.after_a_send() },
        }
    }

    /// A 2xx that can't be read. `what` quotes nothing of the answer.
    pub(crate) fn unreadable(provider: &ProviderName, what: String) -> Self {
        Self {
            status: None,
            error: unreadable(provider).with_source(what),
        }
    }

    /// An answer other than 2xx, by the table of `providers/postfinance.md` §5.1.
    pub(crate) fn refused(provider: &ProviderName, response: &Response) -> Self {
        let status = response.status();
        let body = read_body(response.body());
        let (kind, documented) = meaning(status);
        // A page of some proxy under a documented status says nothing about our request.
        let delivery = match (documented, &body) {
            (true, Body::Empty | Body::Error(_)) => Delivery::Refused,
            (true | false, _) => Delivery::Unknown,
        };
        let mut error = ProviderError::new(provider.clone(), kind, delivery);
        if let Body::Error(body) = body {
            if let Some(code) = body.code {
                error = error.with_code(ProviderCode::new(&code));
            }
            if let Some(id) = body.id {
                error = error.with_correlation(ProviderCode::new(&id));
            }
        }
        Self {
            status: Some(status),
            error,
        }
    }

    /// Whether the provider refused the request for this reason, with a readable answer.
    pub(crate) fn is(&self, kind: ErrorKind) -> bool {
        self.error.kind() == kind && self.error.delivery() == Delivery::Refused
    }

    /// The provider refused it for what it means (422).
    pub(crate) fn is_unprocessable(&self) -> bool {
        self.status == Some(StatusCode::UNPROCESSABLE_ENTITY)
            && self.error.delivery() == Delivery::Refused
    }

    /// Somebody else changed or is changing the object (409).
    pub(crate) fn is_conflict(&self) -> bool {
        self.status == Some(StatusCode::CONFLICT)
    }

    /// The same failure under a kind that a further read has made clear.
    pub(crate) fn with_kind(self, kind: ErrorKind) -> ProviderError {
        rebuilt(self.error, kind, None)
    }

    /// The same failure, of a read that came before the request that matters.
    pub(crate) fn before_a_send(self) -> ProviderError {
        let kind = self.error.kind();
        rebuilt(self.error, kind, Some(Delivery::NotSent))
    }

    /// The same failure, of a request that followed the one that matters.
    pub(crate) fn after_a_send(self) -> ProviderError {
        self.error.after_a_send()
    }
}

impl From<Failure> for ProviderError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// An answer that can't be read or does not fit the question.
pub(crate) fn unreadable(provider: &ProviderName) -> ProviderError {
    ProviderError::new(
        provider.clone(),
        ErrorKind::UnreadableAnswer,
        Delivery::Unknown,
    )
}

enum Body {
    Empty,
    Error(ErrorBody),
    Other,
}

fn read_body(bytes: &[u8]) -> Body {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Body::Empty;
    }
    serde_json::from_slice(bytes).map_or(Body::Other, Body::Error)
}

/// What a status means, and whether the fact sheet documents it as "nothing was done".
///
/// 409 and 429 are documented, but do not say that nothing was done before.
fn meaning(status: StatusCode) -> (ErrorKind, bool) {
    match status.as_u16() {
        400 | 406 | 413 | 415 | 416 | 422 => (ErrorKind::InvalidRequest, true),
        401 => (ErrorKind::Authentication, true),
        403 => (ErrorKind::Permission, true),
        404 => (ErrorKind::NotFound, true),
        409 => (ErrorKind::Conflict, false),
        429 => (ErrorKind::RateLimited, false),
        500..=599 => (ErrorKind::ProviderFailed, false),
        _ => (ErrorKind::UnreadableAnswer, false),
    }
}

fn rebuilt(error: ProviderError, kind: ErrorKind, delivery: Option<Delivery>) -> ProviderError {
    let delivery = delivery.unwrap_or_else(|| error.delivery());
    let mut new = ProviderError::new(error.provider().clone(), kind, delivery);
    if let Some(code) = error.code() {
        new = new.with_code(code.clone());
    }
    if let Some(id) = error.correlation() {
        new = new.with_correlation(id.clone());
    }
    new.with_source(error)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn failure(status: u16, body: &'static str) -> Failure {
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        Failure::refused(&ProviderName::new("postfinance").unwrap(), &response)
    }

    #[test]
    fn the_table_of_the_fact_sheet() {
        for (status, kind, delivery) in [
            (400, ErrorKind::InvalidRequest, Delivery::Refused),
            (401, ErrorKind::Authentication, Delivery::Refused),
            (403, ErrorKind::Permission, Delivery::Refused),
            (404, ErrorKind::NotFound, Delivery::Refused),
            (406, ErrorKind::InvalidRequest, Delivery::Refused),
            (409, ErrorKind::Conflict, Delivery::Unknown),
            (413, ErrorKind::InvalidRequest, Delivery::Refused),
            (415, ErrorKind::InvalidRequest, Delivery::Refused),
            (416, ErrorKind::InvalidRequest, Delivery::Refused),
            (422, ErrorKind::InvalidRequest, Delivery::Refused),
            (429, ErrorKind::RateLimited, Delivery::Unknown),
            (500, ErrorKind::ProviderFailed, Delivery::Unknown),
            (503, ErrorKind::ProviderFailed, Delivery::Unknown),
            (405, ErrorKind::UnreadableAnswer, Delivery::Unknown),
            (418, ErrorKind::UnreadableAnswer, Delivery::Unknown),
            (442, ErrorKind::UnreadableAnswer, Delivery::Unknown),
            (302, ErrorKind::UnreadableAnswer, Delivery::Unknown),
        ] {
            for body in ["", r#"{"code":"some_code","id":"17"}"#] {
                let failure = failure(status, body);
                assert_eq!(failure.error.kind(), kind, "{status}");
                assert_eq!(failure.error.delivery(), delivery, "{status}");
            }
        }
    }

    #[test]
    fn a_page_of_a_proxy_proves_nothing() {
        for body in ["<html>403</html>", "[]", "\"no\"", "{", "{\"code\":1}"] {
            assert_eq!(
                failure(403, body).error.delivery(),
                Delivery::Unknown,
                "{body}"
            );
        }
    }

    #[test]
    fn code_and_correlation_are_kept_and_texts_are_not() {
        let body = r#"{"code":"c_1","id":"i-1","message":"canary","errors":{"token":"canary"}}"#;
        let error = ProviderError::from(failure(422, body));
        assert_eq!(error.code().unwrap().as_str(), "c_1");
        assert_eq!(error.correlation().unwrap().as_str(), "i-1");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }

    #[test]
    fn delivery_follows_the_request_that_matters() {
        let error = failure(503, "").before_a_send();
        assert_eq!(error.delivery(), Delivery::NotSent);
        let error = failure(404, "").after_a_send();
        assert_eq!(error.delivery(), Delivery::Unknown);
        let error = failure(422, "").with_kind(ErrorKind::AmountRefused);
        assert_eq!(error.delivery(), Delivery::Refused);
        assert_eq!(error.kind(), ErrorKind::AmountRefused);
    }
}
