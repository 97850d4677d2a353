use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardless_transport::Request;
use http::{HeaderMap, Method};
use serde_json::Value;

/// What the fact sheets demand and the published documents do not say: how a request is
/// authenticated, and which requests carry a key.
pub(super) fn rules(provider: &str, request: &Request) -> Vec<String> {
    let mut faults = match provider {
        "postfinance" => postfinance(request),
        "paypal" => paypal(request),
        _ => aduno(request),
    };
    if request
        .uri()
        .query()
        .is_some_and(|query| query.contains('#'))
    {
        faults.push("a fragment in the address".to_owned());
    }
    if !request.body().is_empty() && one(request.headers(), "content-type").is_none() {
        faults.push("a body without a content type".to_owned());
    }
    faults
}

/// `providers/postfinance.md` §1.2: a JWT that names this very method, path and query.
fn postfinance(request: &Request) -> Vec<String> {
    let Some(claims) = bearer(request.headers()).and_then(claims) else {
        return vec!["no JWT that can be read".to_owned()];
    };
    let path = request.uri().path_and_query().map(ToString::to_string);
    let mut faults = Vec::new();
    if claims.get("requestPath").and_then(Value::as_str) != path.as_deref() {
        faults.push("the JWT's requestPath is not that of the request".to_owned());
    }
    if claims.get("requestMethod").and_then(Value::as_str) != Some(request.method().as_str()) {
        faults.push("the JWT's requestMethod is not that of the request".to_owned());
    }
    if !claims.get("sub").is_some_and(Value::is_string) {
        faults.push("the JWT's sub is not text".to_owned());
    }
    if !claims.get("iat").is_some_and(Value::is_i64) {
        faults.push("the JWT's iat is not a number of seconds".to_owned());
    }
    faults
}

/// `providers/paypal.md` §2 and §3.
fn paypal(request: &Request) -> Vec<String> {
    let path = request.uri().path();
    let mut faults = Vec::new();
    let token_call = path == "/v1/oauth2/token";
    let authorized = if token_call {
        basic(request.headers())
    } else {
        bearer(request.headers()).is_some()
    };
    if !authorized {
        faults.push("not authenticated as documented".to_owned());
    }
    let keyed = path.starts_with("/v2/") || path.starts_with("/v3/");
    let key = one(request.headers(), "paypal-request-id");
    if keyed && request.method() == Method::POST && key.is_none() {
        faults.push("a POST without PayPal-Request-Id".to_owned());
    }
    if key.is_some_and(|key| key.is_empty() || key.len() > 108) {
        faults.push("a PayPal-Request-Id that is not 1 to 108 characters".to_owned());
    }
    for never in ["paypal-mock-response", "paypal-auth-assertion"] {
        if request.headers().contains_key(never) {
            faults.push(format!("the header {never}, which is never sent"));
        }
    }
    faults
}

/// `providers/aduno.md` §2 and §8.
fn aduno(request: &Request) -> Vec<String> {
    let mut faults = Vec::new();
    if !basic(request.headers()) {
        faults.push("not authenticated as documented".to_owned());
    }
    let key = one(request.headers(), "idempotency-key");
    if key.is_some() != (request.method() == Method::POST) {
        faults.push("an Idempotency-Key belongs on every POST and nowhere else".to_owned());
    }
    faults
}

fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    one(headers, "authorization")?.strip_prefix("Bearer ")
}

fn basic(headers: &HeaderMap) -> bool {
    one(headers, "authorization").is_some_and(|value| value.starts_with("Basic "))
}

/// A header's value if it stands exactly once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values
        .next()
        .is_none()
        .then(|| first.to_str().ok())
        .flatten()
}
