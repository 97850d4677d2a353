//! Whether what an adapter declares is what it does: its table of calls against the requests that
//! really left.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use cardless_contract::{Credential, ProviderCall, ProviderPlace, Stage, call_of};
use cardless_transport::{HttpClient, Request, Response, SendError};
use http::{HeaderMap, header};
use serde_json::Value;

/// Headers that say how a request is written, or who sends it, and hold nothing else.
const WRITING: [&str; 6] = [
    "accept",
    "authorization",
    "content-length",
    "content-type",
    "prefer",
    "user-agent",
];

/// What stands in for a member that no type reads.
const MARK: &str = "canary-of-a-member-that-nobody-declared";

/// A request, and what it was made for.
#[derive(Debug, Clone)]
pub struct Left {
    /// The method of the trait that was called.
    pub stage: Stage,
    /// The request.
    pub request: Request,
}

/// What was seen of a table so far.
#[derive(Debug)]
pub struct Declared {
    calls: &'static [ProviderCall],
    /// The path that the API's address has.
    base: String,
    reached: BTreeSet<(&'static str, &'static str, Stage)>,
    sent: BTreeSet<(&'static str, &'static str, String)>,
    faults: BTreeSet<String>,
}

impl Declared {
    /// A table, of an adapter that reaches these places.
    pub fn new(calls: &'static [ProviderCall], places: &[ProviderPlace]) -> Self {
        Self {
            calls,
            base: places
                .iter()
                .map(|place| place.path.clone())
                .collect::<String>(),
            reached: BTreeSet::new(),
            sent: BTreeSet::new(),
            faults: BTreeSet::new(),
        }
    }

    /// Compares a request with the table.
    pub fn see(&mut self, left: &Left) {
        let request = &left.request;
        let method = request.method().as_str();
        let path = request.uri().path();
        let Some(call) = path
            .strip_prefix(self.base.as_str())
            .and_then(|path| call_of(self.calls, method, path))
        else {
            self.faults
                .insert(format!("{method} {path} is no call of the table"));
            return;
        };
        let name = (call.method, call.path);
        // An access token is asked for whenever one is needed.
        let stage = if call.stages == [Stage::Access] {
            Stage::Access
        } else {
            left.stage
        };
        self.reached.insert((name.0, name.1, stage));
        if !call.stages.contains(&stage) {
            self.fault(call, format!("was made to {}", stage.as_str()));
        }
        if !shows(call.credential, request.headers()) {
            self.fault(call, "shows another credential".to_owned());
        }
        let declared = call.sends();
        for field in sends(call, request) {
            if !declared.contains(&field) {
                self.fault(call, format!("sends {field}"));
            }
            self.sent.insert((name.0, name.1, field));
        }
    }

    /// What was not declared, and what was declared and not seen.
    pub fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.faults.iter().cloned().collect();
        for call in self.calls {
            let at = |what: String| format!("{} {} {what}", call.method, call.path);
            for &stage in call.stages {
                if !self.reached.contains(&(call.method, call.path, stage)) {
                    faults.push(at(format!("was never made to {}", stage.as_str())));
                }
            }
            for field in call.sends() {
                if !self.sent.contains(&(call.method, call.path, field.clone())) {
                    faults.push(at(format!("never sent {field}")));
                }
            }
        }
        faults
    }

    fn fault(&mut self, call: &ProviderCall, what: String) {
        self.faults
            .insert(format!("{} {} {what}", call.method, call.path));
    }
}

fn shows(credential: Credential, headers: &HeaderMap) -> bool {
    let shown = headers.get(header::AUTHORIZATION);
    let begins =
        |with: &str| shown.is_some_and(|value| value.as_bytes().starts_with(with.as_bytes()));
    match credential {
        Credential::None => shown.is_none(),
        Credential::Basic => begins("Basic "),
        // A JWT begins with the base64 of `{"`.
        Credential::SignedToken => begins("Bearer eyJ"),
        Credential::AccessToken => begins("Bearer ") && !begins("Bearer eyJ"),
    }
}

/// Everything that a request carries, named as [`ProviderCall::sends`] names it.
fn sends(call: &ProviderCall, request: &Request) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    fields.extend(call.path_name().map(|name| format!("path {name}")));
    let query = request.uri().query().unwrap_or_default();
    for (name, _) in url::form_urlencoded::parse(query.as_bytes()) {
        fields.insert(format!("query {name}"));
    }
    for name in request.headers().keys() {
        if !WRITING.contains(&name.as_str()) {
            fields.insert(format!("header {name}"));
        }
    }
    match serde_json::from_slice::<Value>(request.body()) {
        Ok(body) => members(&body, "", &mut fields),
        Err(_) => {
            let form = url::form_urlencoded::parse(request.body());
            fields.extend(form.map(|(name, _)| name.into_owned()));
        }
    }
    fields
}

fn members(value: &Value, path: &str, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                members(value, &below(path, name), fields);
            }
        }
        Value::Array(list) => {
            for value in list {
                members(value, &format!("{path}[]"), fields);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            fields.insert(path.to_owned());
        }
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Passes answers on with every member that the table does not declare replaced by what no field
/// of any type takes. An adapter that reads one can't read the answer.
#[derive(Debug)]
pub struct Spoiler {
    inner: Arc<dyn HttpClient>,
    calls: &'static [ProviderCall],
    base: String,
    spoiled: Arc<Mutex<BTreeSet<String>>>,
}

impl Spoiler {
    /// Spoils the answers of `inner` by a table, whose paths lie below `base`, and keeps the names
    /// of what it replaced in `spoiled`.
    pub fn new(
        inner: Arc<dyn HttpClient>,
        calls: &'static [ProviderCall],
        base: &str,
        spoiled: Arc<Mutex<BTreeSet<String>>>,
    ) -> Self {
        Self {
            inner,
            calls,
            base: base.to_owned(),
            spoiled,
        }
    }

    fn spoil(&self, call: &ProviderCall, response: &Response) -> Option<Bytes> {
        let mut body = serde_json::from_slice::<Value>(response.body()).ok()?;
        let declared = if response.status().is_success() {
            (call.reads)()
        } else {
            (call.reads_of_a_refusal)()
        };
        let mut spoiled = self.spoiled.lock().unwrap_or_else(PoisonError::into_inner);
        replace(&mut body, "", &declared, &mut spoiled);
        Some(Bytes::from(body.to_string()))
    }
}

fn replace(value: &mut Value, path: &str, declared: &[String], spoiled: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let path = below(path, name);
                if is_declared(&path, declared) {
                    replace(value, &path, declared, spoiled);
                } else {
                    *value = serde_json::json!({ MARK: [MARK] });
                    spoiled.insert(path);
                }
            }
        }
        Value::Array(list) => {
            for value in list {
                replace(value, &format!("{path}[]"), declared, spoiled);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a member is a declared field, or on the way to one.
fn is_declared(path: &str, declared: &[String]) -> bool {
    declared.iter().any(|field| {
        let rest = field.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

#[async_trait]
impl HttpClient for Spoiler {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let mut response = self.inner.send(request).await?;
        let path = path.strip_prefix(self.base.as_str()).unwrap_or(&path);
        let call = call_of(self.calls, method.as_str(), path);
        if let Some(body) = call.and_then(|call| self.spoil(call, &response)) {
            *response.body_mut() = body;
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKE: ProviderCall = ProviderCall {
        headers: &["request-id"],
        body: &["amount.value", "items[].name"],
        ..ProviderCall::new(
            "POST",
            "/orders/{id}/take",
            &[Stage::Capture],
            Credential::Basic,
        )
    };

    fn taken(change: impl FnOnce(&mut Request)) -> Left {
        let mut request = http::Request::post("http://127.0.0.1:1/v2/orders/5O1/take")
            .header("authorization", "Basic eA==")
            .header("request-id", "1")
            .header("accept", "application/json")
            .body(Bytes::from_static(
                br#"{"amount":{"value":"1"},"items":[{"name":"a"}]}"#,
            ))
            .unwrap();
        change(&mut request);
        Left {
            stage: Stage::Capture,
            request,
        }
    }

    fn faults(calls: &'static [ProviderCall], left: &[Left]) -> Vec<String> {
        let mut declared = Declared {
            base: "/v2".to_owned(),
            ..Declared::new(calls, &[])
        };
        for left in left {
            declared.see(left);
        }
        declared.faults()
    }

    #[test]
    fn what_is_declared_and_seen_has_no_fault() {
        assert_eq!(faults(&[TAKE], &[taken(|_| {})]), [""; 0]);
    }

    #[test]
    fn each_way_of_being_wrong_is_told() {
        const NONE: &[ProviderCall] = &[];
        const MORE: &[ProviderCall] = &[ProviderCall {
            query: &["page"],
            body: &["amount.value", "items[].name", "note"],
            ..TAKE
        }];
        const LESS: &[ProviderCall] = &[ProviderCall {
            headers: &[],
            body: &["amount.value"],
            ..TAKE
        }];
        const OTHER: &[ProviderCall] = &[ProviderCall {
            stages: &[Stage::Void],
            credential: Credential::SignedToken,
            ..TAKE
        }];
        let right = || [taken(|_| {})];
        assert_eq!(
            faults(NONE, &right()),
            ["POST /v2/orders/5O1/take is no call of the table"]
        );
        let take = "POST /orders/{id}/take";
        assert_eq!(
            faults(MORE, &right()),
            [
                format!("{take} never sent query page"),
                format!("{take} never sent note")
            ]
        );
        assert_eq!(
            faults(LESS, &right()),
            [
                format!("{take} sends header request-id"),
                format!("{take} sends items[].name")
            ]
        );
        assert_eq!(
            faults(OTHER, &right()),
            [
                format!("{take} shows another credential"),
                format!("{take} was made to capture"),
                format!("{take} was never made to void"),
            ]
        );
        let card = taken(|request| {
            *request.body_mut() = Bytes::from_static(br#"{"card":{"number":"4"}}"#)
        });
        assert_eq!(
            faults(&[TAKE], &[taken(|_| {}), card]),
            [format!("{take} sends card.number")]
        );
    }

    #[test]
    fn only_what_is_not_declared_is_spoiled() {
        let mut value = serde_json::json!({
            "id": "1", "units": [{"amount": {"value": "1", "scale": 2}}], "idea": 1,
        });
        let declared = ["id".to_owned(), "units[].amount.value".to_owned()];
        let mut spoiled = BTreeSet::new();
        replace(&mut value, "", &declared, &mut spoiled);
        let spoiled: Vec<String> = spoiled.into_iter().collect();
        assert_eq!(spoiled, ["idea", "units[].amount.scale"]);
        assert_eq!(value["units"][0]["amount"]["value"], "1");
        assert!(value["idea"].is_object());
    }
}
