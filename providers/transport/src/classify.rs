use cardless_contract::{Delivery, ErrorKind};

use crate::SendError;

/// How far a request got that reqwest could not bring to an answer.
///
/// Only a failed connect (name, route, refused, TLS handshake, connect deadline) proves that
/// nothing left. `is_request` proves nothing: a connection that breaks after the request was
/// written gives it too.
pub(crate) fn send_failure(error: reqwest::Error) -> SendError {
    let failure = if error.is_connect() {
        SendError::new(Delivery::NotSent, ErrorKind::Unreachable)
    } else if error.is_builder() {
        // The request could not even be put together.
        SendError::new(Delivery::NotSent, ErrorKind::Internal)
    } else {
        SendError::new(Delivery::Unknown, ErrorKind::Interrupted)
    };
    failure.with_source(without_address(error))
}

/// The answer began and did not end.
pub(crate) fn body_failure(error: reqwest::Error) -> SendError {
    SendError::new(Delivery::Unknown, ErrorKind::Interrupted).with_source(without_address(error))
}

/// The total deadline passed. A connection may have been there for some of it.
pub(crate) fn deadline() -> SendError {
    SendError::new(Delivery::Unknown, ErrorKind::Interrupted)
        .with_source("no whole answer before the deadline")
}

/// The answer is larger than anything a provider says.
pub(crate) fn oversized() -> SendError {
    SendError::new(Delivery::Unknown, ErrorKind::UnreadableAnswer)
        .with_source("the answer is larger than the limit")
}

/// An address can hold a token or a query, so no error carries one.
fn without_address(error: reqwest::Error) -> reqwest::Error {
    error.without_url()
}
