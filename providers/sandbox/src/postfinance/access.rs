//! Who may call: the JWT of each request, the `Space` header, and what is accepted in return.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardless_contract::Timestamp;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ring::hmac;
use serde::Deserialize;

use super::{AUTHENTICATION_KEY_RAW, Fault, SPACE_ID, USER_ID};
use crate::dialect::Call;

/// How far `iat` may be from the sandbox's clock. Undocumented in API 2.0; this is v1's
/// (`providers/postfinance.md` §1.2).
const TOLERANCE: Duration = Duration::from_secs(10 * 60);

/// The `ver` of a JWT's header (`providers/postfinance.md` §1.2).
const TOKEN_VERSION: u32 = 1;

#[derive(Deserialize)]
struct Header {
    alg: String,
    ver: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    sub: String,
    iat: i64,
    request_path: String,
    request_method: String,
}

/// Checks the JWT: signature, user, path with query, method, age.
pub(super) fn check_token(call: &Call, now: Timestamp) -> Result<(), Fault> {
    let claims = claims(call).ok_or_else(|| Fault::new(401, "unauthorized", "No valid JWT."))?;
    let path = if call.query.is_empty() {
        call.path.clone()
    } else {
        format!("{}?{}", call.path, call.query)
    };
    let issued = Timestamp::from_seconds(claims.iat);
    let age = now.since(issued).max(issued.since(now));
    let fits = claims.sub == USER_ID
        && claims.request_path == path
        && claims.request_method == call.method.as_str()
        && age <= TOLERANCE;
    if fits {
        Ok(())
    } else {
        Err(Fault::new(
            401,
            "unauthorized",
            "The JWT does not fit this request.",
        ))
    }
}

/// Checks the `Space` header: missing is a bad request, another space a missing role.
pub(super) fn check_space(call: &Call) -> Result<(), Fault> {
    let space = call
        .headers
        .get("space")
        .and_then(|value| value.to_str().ok());
    match space.map(str::parse::<i64>) {
        Some(Ok(SPACE_ID)) => Ok(()),
        Some(Ok(_)) => Err(Fault::new(
            403,
            "permission_denied",
            "No role in this space.",
        )),
        Some(Err(_)) | None => Err(Fault::new(
            400,
            "missing_header",
            "The Space header is required.",
        )),
    }
}

/// Checks `Accept` against what the endpoint answers with, and the body's type.
pub(super) fn check_types(call: &Call, answers_text: bool) -> Result<(), Fault> {
    let wanted = if answers_text {
        "text/plain"
    } else {
        "application/json"
    };
    if let Some(accept) = call
        .headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        && !accept.contains(wanted)
        && !accept.contains("*/*")
    {
        return Err(Fault::new(
            406,
            "not_acceptable",
            "The endpoint answers otherwise.",
        ));
    }
    let json = call
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/json"));
    if !call.body.is_empty() && !json {
        return Err(Fault::new(
            415,
            "unsupported_media_type",
            "The body must be JSON.",
        ));
    }
    Ok(())
}

fn claims(call: &Call) -> Option<Claims> {
    let value = call.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let token = value.strip_prefix("Bearer ")?;
    let (signed, tag) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header: Header = serde_json::from_slice(&decoded(header)?).ok()?;
    if header.alg != "HS256" || header.ver != TOKEN_VERSION {
        return None;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, AUTHENTICATION_KEY_RAW);
    hmac::verify(&key, signed.as_bytes(), &decoded(tag)?).ok()?;
    serde_json::from_slice(&decoded(claims)?).ok()
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
