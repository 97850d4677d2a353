use std::time::Duration;

use bytes::Bytes;
use cardless_transport::{Reply, Request, Response};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::server::{Doors, Respond};
use crate::webhooks::is_deliverable;
use crate::{Fault, FaultKind, Provider, Sandbox, WebhookRoute};

/// The control port: what a test or a person asks of the sandbox itself.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    sandbox: Sandbox,
    doors: Doors,
}

/// The furthest that one call moves the clock, in seconds (ten years).
const MAX_ADVANCE_SECONDS: u64 = 10 * 366 * 24 * 60 * 60;

/// What `GET /` answers.
const HELP: &str = "\
The control port of the cardless sandbox. Bodies and answers are JSON.

GET  /ledger                     every money movement that really took place
GET  /requests?provider=paypal   every request that arrived (the latest 10,000)
POST /faults                     {provider, operation?, times?, fault}
                                 operation: method and path prefix, as \"POST /v2/checkout/orders\";
                                 a segment * stands for any one segment
                                 fault: refuse drop_before stall execute_then_drop
                                 execute_then_500 half_body decline pending
POST /clock                      {advance_seconds}
POST /webhooks                   {provider, url?, deliver}  deliver: now twice reversed never
POST /reversals                  {provider, object}  the customer's bank takes back what it took
                                 object: as in the ledger; paypal alone
POST /reset                      forgets everything

Providers: paypal, postfinance, aduno.
";

/// A control call that can't be done: status, code, and a sentence.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_seconds: u64,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Reversal {
    provider: Provider,
    object: String,
}

impl Control {
    pub(crate) const fn new(sandbox: Sandbox, doors: Doors) -> Self {
        Self { sandbox, doors }
    }

    async fn answer(&self, request: &Request) -> Result<Response, Problem> {
        let (path, body) = (request.uri().path(), request.body());
        let get = matches!(*request.method(), Method::GET | Method::HEAD);
        match (path, get, *request.method() == Method::POST) {
            ("/", true, _) => Ok(text(HELP)),
            ("/ledger", true, _) => Ok(self.ledger(wanted(request)?)),
            ("/requests", true, _) => Ok(data(&self.sandbox.requests(wanted(request)?))),
            ("/faults", _, true) => self.fault(read(body)?).await,
            ("/clock", _, true) => self.advance(&read(body)?),
            ("/webhooks", _, true) => self.route(&read(body)?),
            ("/reversals", _, true) => self.take_back(&read(body)?),
            ("/reset", _, true) => self.reset().await,
            (
                "/" | "/ledger" | "/requests" | "/faults" | "/clock" | "/webhooks" | "/reversals"
                | "/reset",
                ..,
            ) => Err(Problem::method()),
            _ => Err(Problem::path()),
        }
    }

    fn ledger(&self, provider: Option<Provider>) -> Response {
        let mut entries = self.sandbox.ledger();
        if let Some(provider) = provider {
            entries.retain(|entry| entry.provider == provider.name());
        }
        data(&entries)
    }

    /// A closed port is the business of the listener, not of the calls that reach it.
    async fn fault(&self, fault: Fault) -> Result<Response, Problem> {
        if fault.fault == FaultKind::Refuse {
            fault.check().map_err(Problem::fault)?;
            self.doors.close(fault.provider, fault.times).await;
        } else {
            self.sandbox.inject(fault.clone()).map_err(Problem::fault)?;
        }
        Ok(json_answer(&json!(fault)))
    }

    fn advance(&self, advance: &Advance) -> Result<Response, Problem> {
        if advance.advance_seconds > MAX_ADVANCE_SECONDS {
            return Err(Problem::invalid(format!(
                "advance_seconds is at most {MAX_ADVANCE_SECONDS}"
            )));
        }
        let now = self
            .sandbox
            .advance(Duration::from_secs(advance.advance_seconds));
        Ok(json_answer(&json!({ "now": now })))
    }

    fn route(&self, route: &WebhookRoute) -> Result<Response, Problem> {
        if route.url.as_deref().is_some_and(|url| !is_deliverable(url)) {
            return Err(Problem::invalid(
                "url must be an http or https address on loopback".to_owned(),
            ));
        }
        self.sandbox.route_webhooks(route);
        Ok(json_answer(&json!(route)))
    }

    fn take_back(&self, reversal: &Reversal) -> Result<Response, Problem> {
        if self.sandbox.take_back(reversal.provider, &reversal.object) {
            return Ok(json_answer(&json!(reversal)));
        }
        Err(Problem::invalid(
            "object must be a payment at paypal that took money, as the ledger calls it".to_owned(),
        ))
    }

    async fn reset(&self) -> Result<Response, Problem> {
        self.sandbox.reset();
        for provider in Provider::ALL {
            self.doors.open(provider).await;
        }
        Ok(json_answer(&json!({})))
    }
}

impl Respond for Control {
    async fn respond(&self, request: Request) -> Reply {
        let answer = self.answer(&request).await;
        Reply::Answer(answer.unwrap_or_else(|problem| problem.response()))
    }
}

impl Problem {
    fn invalid(detail: String) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            code: "invalid_request",
            detail,
        }
    }

    fn fault(error: crate::FaultError) -> Self {
        Self::invalid(error.to_string())
    }

    fn path() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: "not_found",
            detail: "no such path; GET / lists them".to_owned(),
        }
    }

    fn method() -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            code: "method_not_allowed",
            detail: "another method; GET / lists them".to_owned(),
        }
    }

    fn response(&self) -> Response {
        let mut response = json_answer(&json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        }));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        }
        response
    }
}

/// Reads a JSON body: 400 if it is no JSON, 422 if it is not what the call takes.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let value: Value = serde_json::from_slice(body).map_err(|error| Problem {
        status: StatusCode::BAD_REQUEST,
        code: "invalid_json",
        detail: error.to_string(),
    })?;
    serde_json::from_value(value).map_err(|error| Problem::invalid(error.to_string()))
}

/// The provider that a query asks for, if any.
fn wanted(request: &Request) -> Result<Option<Provider>, Problem> {
    let query = request.uri().query().unwrap_or_default();
    let mut provider = None;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if name != "provider" {
            return Err(Problem::invalid(format!("unknown parameter `{name}`")));
        }
        let named: Result<Provider, _> = value.parse();
        provider = Some(named.map_err(|error| Problem::invalid(error.to_string()))?);
    }
    Ok(provider)
}

fn data(items: &impl serde::Serialize) -> Response {
    json_answer(&json!({ "data": items }))
}

fn json_answer(value: &Value) -> Response {
    let mut response = Response::new(Bytes::from(value.to_string()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(body: &'static str) -> Response {
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{call, sandbox};

    async fn ask(sandbox: &Sandbox, method: &str, path: &str, body: &str) -> (u16, Value) {
        let control = Control::new(sandbox.clone(), Doors::default());
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .body(Bytes::copy_from_slice(body.as_bytes()))
            .unwrap();
        let Reply::Answer(response) = control.respond(request).await else {
            panic!("control always answers");
        };
        let value = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
        (response.status().as_u16(), value)
    }

    #[tokio::test]
    async fn ledger_and_requests_are_listed() {
        let sandbox = sandbox();
        sandbox.serve_call(Provider::PayPal, call("POST", "/v1/charge"));
        let (status, ledger) = ask(&sandbox, "GET", "/ledger", "").await;
        assert_eq!(status, 200);
        assert_eq!(
            ledger,
            json!({"data": [{
                "provider": "paypal",
                "kind": "capture",
                "amount": {"currency": "CHF", "minor": 100},
                "object": "object-1",
                "at": "2027-01-15T08:00:00Z",
            }]})
        );
        let (_, requests) = ask(&sandbox, "GET", "/requests?provider=paypal", "").await;
        assert_eq!(requests["data"][0]["method"], "POST");
        assert_eq!(requests["data"][0]["body"], "{}");
        let (_, none) = ask(&sandbox, "GET", "/requests?provider=aduno", "").await;
        assert_eq!(none, json!({"data": []}));
    }

    #[tokio::test]
    async fn clock_faults_webhooks_and_reset_answer_json() {
        let sandbox = sandbox();
        for (path, body) in [
            ("/clock", r#"{"advance_seconds":60}"#),
            (
                "/faults",
                r#"{"provider":"aduno","operation":"POST /v1/charge","times":2,"fault":"execute_then_500"}"#,
            ),
            ("/faults", r#"{"provider":"aduno","fault":"stall"}"#),
            (
                "/webhooks",
                r#"{"provider":"postfinance","url":"http://127.0.0.1:1/","deliver":"twice"}"#,
            ),
            (
                "/webhooks",
                r#"{"provider":"postfinance","deliver":"never"}"#,
            ),
            ("/reset", ""),
        ] {
            let (status, answer) = ask(&sandbox, "POST", path, body).await;
            assert_eq!(status, 200, "{path} {body}");
            assert!(answer.is_object(), "{path} {answer}");
        }
    }

    #[tokio::test]
    async fn mistakes_are_named() {
        let sandbox = sandbox();
        for (method, path, body, status, word) in [
            ("GET", "/nowhere", "", 404, "no such path"),
            ("DELETE", "/ledger", "", 405, "method"),
            ("GET", "/faults", "", 405, "method"),
            (
                "GET",
                "/requests?provider=stripe",
                "",
                422,
                "paypal, postfinance or aduno",
            ),
            ("GET", "/requests?since=1", "", 422, "since"),
            ("POST", "/faults", "{", 400, "EOF"),
            ("POST", "/faults", "{}", 422, "provider"),
            (
                "POST",
                "/faults",
                r#"{"provider":"stripe","fault":"stall"}"#,
                422,
                "stripe",
            ),
            (
                "POST",
                "/faults",
                r#"{"provider":"paypal","fault":"melt"}"#,
                422,
                "melt",
            ),
            (
                "POST",
                "/faults",
                r#"{"provider":"paypal","fault":"stall","when":1}"#,
                422,
                "when",
            ),
            (
                "POST",
                "/faults",
                r#"{"provider":"paypal","fault":"stall","times":0}"#,
                422,
                "times",
            ),
            (
                "POST",
                "/faults",
                r#"{"provider":"paypal","fault":"refuse","times":0}"#,
                422,
                "times",
            ),
            (
                "POST",
                "/faults",
                r#"{"provider":"paypal","fault":"stall","operation":"/v2"}"#,
                422,
                "operation",
            ),
            ("POST", "/clock", r#"{"advance_seconds":-1}"#, 422, "-1"),
            (
                "POST",
                "/clock",
                r#"{"advance_seconds":99999999999}"#,
                422,
                "at most",
            ),
            (
                "POST",
                "/webhooks",
                r#"{"provider":"paypal","deliver":"later"}"#,
                422,
                "later",
            ),
            (
                "POST",
                "/webhooks",
                r#"{"provider":"paypal","deliver":"now","url":"https://pay.example/"}"#,
                422,
                "loopback",
            ),
        ] {
            let (found, answer) = ask(&sandbox, method, path, body).await;
            assert_eq!(found, status, "{method} {path} {body}");
            let detail = answer["detail"].as_str().unwrap();
            assert!(detail.contains(word), "{detail}");
        }
    }
}
