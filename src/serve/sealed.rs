//! What a sealed message asks for, as a request to the handlers that the plain API has.
//!
//! `acct` says whose the call is, and must be right: it is compared with every account that the
//! path, the query and the body name, and with the owner of each object in the path.

use axum::Router;
use axum::body::Body;
use axum::extract::Request as HttpRequest;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tower::ServiceExt as _;

use super::auth::{Access, Caller};
use super::net::{self, IDEMPOTENCY_KEY};
use super::{Problem, Service, gate, routes};
use crate::account::Handle;
use crate::error::{Code, Error};
use crate::exchange::Request;
use crate::gateway::Gateway;

/// What is said of an answer that no sealed message can carry.
const TOO_LARGE: &str = "The answer is larger than a sealed answer may be (512 KiB), or broke off. An \
                         operator gets an account's export by `cardless account export`.";

/// The longest address that a message may ask for, in bytes.
const MAX_TARGET_BYTES: usize = 2048;

/// The routes that a sealed message can ask for: all that a client with an API key can, but the
/// report on the scope, which is no account's.
pub(super) fn inside(service: &Service) -> Router {
    let service = service.clone();
    let mut router = Router::new();
    for route in routes::all() {
        if !matches!(route.access, Access::Open | Access::Evidence) {
            let access = route.access;
            let gateway = service.gateway.clone();
            let handler = route.handler.route_layer(middleware::from_fn(
                move |request: HttpRequest, next: Next| {
                    admit(gateway.clone(), access, request, next)
                },
            ));
            router = router.route(route.path, handler);
        }
    }
    router
        .fallback(|| async { Problem::no_route() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .with_state(service)
}

/// Runs the call that a message asks for; gives what the plain API would answer.
pub(super) async fn dispatch(
    service: &Service,
    caller: &Caller,
    request: &Request,
) -> (StatusCode, Option<Value>) {
    let response = match prepare(service, caller, request).await {
        Ok(request) => {
            let Ok(response) = service.inside().clone().oneshot(request).await;
            response
        }
        Err(error) => Problem::from(error).into_response(),
    };
    let (parts, body) = response.into_parts();
    match gate::whole_answer(body).await {
        Some(bytes) => (parts.status, serde_json::from_slice(&bytes).ok()),
        None => {
            let problem = Problem::from(Error::new(Code::NotSupported, TOO_LARGE)).into_response();
            let status = problem.status();
            let bytes = gate::whole_answer(problem.into_body()).await;
            (
                status,
                bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
            )
        }
    }
}

/// Lets in whom the message has proven to be.
async fn admit(gateway: Gateway, access: Access, request: HttpRequest, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>();
    if caller.is_some_and(|caller| access.allows(caller.role)) {
        return next.run(request).await;
    }
    if let Some(caller) = caller {
        gateway
            .call_refused(&caller.name, caller.role, caller.origin)
            .await;
    }
    let message = "This client's role does not allow this call.";
    Problem::from(Error::new(Code::Forbidden, message)).into_response()
}

async fn prepare(
    service: &Service,
    caller: &Caller,
    request: &Request,
) -> Result<HttpRequest, Error> {
    // What is no method and no address can hold a number all the same.
    let (method, target) =
        target(&request.op).or_else(|error| net::check_text(&request.op, "op").and(Err(error)))?;
    let mut http = HttpRequest::builder().method(method).uri(target.clone());
    if let Some(key) = &request.idempotency_key {
        let key = HeaderValue::from_str(key).map_err(|_| {
            let message = "idempotency_key is 1 to 255 visible ASCII characters.";
            Error::field(Code::IdempotencyKey, "idempotency_key", message)
        })?;
        http = http.header(IDEMPOTENCY_KEY, key);
    }
    let body = match &request.body {
        None => Body::empty(),
        Some(body) => {
            http = http.header(header::CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        }
    };
    let mut http = http
        .extension(caller.clone())
        .body(body)
        .map_err(|error| Error::field(Code::InvalidField, "op", BAD_OP).with_source(error))?;
    let (parts, body) = http.into_parts();
    net::check_parts(&parts)?;
    http = HttpRequest::from_parts(parts, body);
    check_account(service.gateway(), request, &target).await?;
    Ok(http)
}

const BAD_OP: &str = "op is a method, a space, and a path of this API with its query, as \
                      `POST /v1/payments`.";

/// The method and the address of `op`.
fn target(op: &str) -> Result<(Method, Uri), Error> {
    let bad = || Error::field(Code::InvalidField, "op", BAD_OP);
    let (method, target) = op.split_once(' ').ok_or_else(bad)?;
    if !target.starts_with("/v1/") || target.len() > MAX_TARGET_BYTES {
        return Err(bad());
    }
    Ok((
        method.parse().map_err(|_| bad())?,
        target.parse().map_err(|_| bad())?,
    ))
}

/// Holds `acct` against what the call is about.
async fn check_account(gateway: &Gateway, request: &Request, target: &Uri) -> Result<(), Error> {
    let fault = |message: &str| Error::field(Code::InvalidField, "acct", message);
    let named = named_accounts(target, request.body.as_ref());
    let handles = handles(target);
    let Some(account) = &request.account else {
        if named.is_empty() && handles.is_empty() {
            return Ok(());
        }
        return Err(fault(
            "acct is required: the account that the call is about.",
        ));
    };
    if named.is_empty() && handles.is_empty() {
        return Err(fault("This call is about no account; leave acct out."));
    }
    if named.iter().any(|name| name != account) {
        return Err(fault("acct is not the account that the call is about."));
    }
    for handle in handles {
        // The same answer as for an object that there never was.
        if !gateway.belongs(&handle, account).await? {
            return Err(Error::not_found("object"));
        }
    }
    Ok(())
}

/// Every account that a call names: in its path, in its query, in its body.
fn named_accounts(target: &Uri, body: Option<&Value>) -> Vec<String> {
    let mut named = Vec::new();
    let mut segments = target.path().split('/');
    while let Some(segment) = segments.next() {
        if segment == "accounts" {
            named.extend(segments.next().map(decoded));
        }
    }
    let query = target.query().unwrap_or_default();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if name == "account" {
            named.push(value.into_owned());
        }
    }
    if let Some(account) = body.and_then(|body| body.get("account")) {
        // What is no text is no account either, and is refused where the body is read.
        named.push(account.as_str().unwrap_or_default().to_owned());
    }
    named
}

/// Our objects in the path.
fn handles(target: &Uri) -> Vec<Handle> {
    let segments = target.path().split('/');
    segments
        .filter_map(|segment| Handle::parse(&decoded(segment)))
        .collect()
}

fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_account_that_a_call_names_is_found() {
        let named =
            |target: &str, body: Value| named_accounts(&target.parse().unwrap(), Some(&body));
        assert_eq!(named("/v1/payments", json!({"account": "a"})), ["a"]);
        assert_eq!(
            named("/v1/payments?account=a&account=b", json!({})),
            ["a", "b"]
        );
        assert_eq!(
            named("/v1/accounts/%61/payment-methods", json!(null)),
            ["a"]
        );
        assert_eq!(named("/v1/payments", json!({"account": 1})), [""]);
        assert!(named("/v1/events?after=x", json!({})).is_empty());
    }

    #[test]
    fn an_op_is_a_method_and_a_path_of_the_api() {
        assert!(target("POST /v1/payments").is_ok());
        assert!(target("GET /v1/payments?account=a").is_ok());
        for bad in [
            "",
            "POST",
            "/v1/payments",
            "POST  /v1/payments",
            "POST http://other/v1/payments",
            "POST /healthz",
            "GET /v1/a b",
            "G T /v1/a",
        ] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }
}
