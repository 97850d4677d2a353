//! Aduno: the Datatrans JSON API, stateful and at wire level (`providers/aduno.md`).
//!
//! Basic credentials are checked, idempotency keys are kept for 60 minutes with the exact bytes
//! that came under them, holds and pages lapse, settled becomes transmitted, and a webhook is
//! signed. No operation takes or gives a card number.

mod alias;
mod customer;
mod fields;
mod payment;
#[cfg(test)]
mod tests;
mod transaction;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cardless_contract::Timestamp;
use cardless_transport::Response;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::dialect::{Call, Dialect, Mode, PENDING_SECONDS, World};
use crate::page;

use self::alias::CardAlias;
use self::transaction::Transaction;

/// The one merchant id that the sandbox knows.
pub const MERCHANT_ID: &str = "1100000000";

/// Its server-to-server password.
pub const PASSWORD: &str = "sandbox-password";

/// The key that webhooks are signed with, in hexadecimal.
pub const WEBHOOK_KEY: &str = "636172646c6573732d73616e64626f782d6164756e6f2d776562686f6f6b2d31";

/// How long an idempotency key is kept (`providers/aduno.md` §8).
const KEY_WINDOW: Duration = Duration::from_secs(60 * 60);

/// The provider's state.
#[derive(Debug)]
pub(crate) struct Aduno {
    transactions: BTreeMap<String, Transaction>,
    aliases: BTreeMap<String, CardAlias>,
    keys: BTreeMap<String, Kept>,
    running: Vec<Running>,
}

/// A request that came under an idempotency key.
#[derive(Debug)]
struct Kept {
    at: Timestamp,
    path: String,
    body: Bytes,
    /// `None` while the first request is still running.
    answer: Option<Response>,
}

/// A request that is accepted and not carried out yet.
#[derive(Debug)]
struct Running {
    due: Timestamp,
    key: Option<String>,
    path: String,
    body: Bytes,
}

/// A refusal: `{"error":{"code","message"}}`, and the transaction's id if there is one.
#[derive(Debug)]
struct Refused {
    status: u16,
    code: &'static str,
    message: String,
    transaction: Option<String>,
}

type Answer = Result<Response, Refused>;

impl Default for Aduno {
    fn default() -> Self {
        Self {
            transactions: BTreeMap::new(),
            aliases: alias::published(),
            keys: BTreeMap::new(),
            running: Vec::new(),
        }
    }
}

impl Dialect for Aduno {
    fn answer(&mut self, call: &Call, world: &mut World<'_>) -> Response {
        self.tick(world);
        let segments: Vec<&str> = call.path.trim_matches('/').split('/').collect();
        match segments.as_slice() {
            ["upp", "check"] => return page::html(200, "ok".to_owned()),
            ["v1", "start", id] => return self.customer(id, call, world),
            _ => {}
        }
        if !authenticated(call) {
            return Refused::with_status(401, "UNAUTHORIZED", "bad credentials").response();
        }
        if call.method == Method::POST {
            return self.keyed(call, world);
        }
        self.route(
            call.method.as_str(),
            &call.path,
            &call.body,
            call.mode,
            world,
        )
    }

    fn tick(&mut self, world: &mut World<'_>) {
        let now = world.now;
        self.keys.retain(|_, kept| now.since(kept.at) < KEY_WINDOW);
        let (due, running): (Vec<_>, Vec<_>) = self
            .running
            .drain(..)
            .partition(|running| running.due <= now);
        self.running = running;
        for request in due {
            let answer = self.route("POST", &request.path, &request.body, Mode::Normal, world);
            if let Some(kept) = request.key.and_then(|key| self.keys.get_mut(&key)) {
                kept.answer = Some(answer);
            }
        }
        self.conclude_challenges(world);
        self.conclude_credits(world);
        for transaction in self.transactions.values_mut() {
            transaction.lapse(now);
        }
    }

    /// No read here shows it, as far as is known.
    fn take_back(&mut self, _: &str, _: &mut World<'_>) -> bool {
        false
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Aduno {
    /// A POST: a repeat under a key gets the first answer, if its bytes are the same.
    fn keyed(&mut self, call: &Call, world: &mut World<'_>) -> Response {
        let key = call
            .headers
            .get("idempotency-key")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        if let Some(kept) = key.as_ref().and_then(|key| self.keys.get(key)) {
            return kept.repeat(call);
        }
        let answer = if call.mode == Mode::Pending && stays_in_flight(&call.path) {
            self.running.push(Running {
                due: world.now.plus(Duration::from_secs(PENDING_SECONDS)),
                key: key.clone(),
                path: call.path.clone(),
                body: call.body.clone(),
            });
            None
        } else {
            Some(self.route("POST", &call.path, &call.body, call.mode, world))
        };
        let response = answer.clone().unwrap_or_else(still_running);
        if let Some(key) = key {
            let kept = Kept {
                at: world.now,
                path: call.path.clone(),
                body: call.body.clone(),
                answer,
            };
            self.keys.insert(key, kept);
        }
        response
    }

    fn route(
        &mut self,
        method: &str,
        path: &str,
        body: &Bytes,
        mode: Mode,
        world: &mut World<'_>,
    ) -> Response {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let answer = match (method, segments.as_slice()) {
            ("POST", ["v1", "transactions"]) => self.init(body, mode, world),
            ("POST", ["v1", "transactions", "authorize"]) => self.authorize(body, mode, world),
            ("POST", ["v1", "transactions", "validate"]) => self.validate(body, mode, world),
            ("POST", ["v1", "transactions", "screen" | "secureFields"]) => Err(Refused::new(
                "UNSUPPORTED_PAYMENT_METHOD",
                "not in the sandbox",
            )),
            ("POST", ["v1", "transactions", id, "authorize"]) => self.finish(id, body, mode, world),
            ("POST", ["v1", "transactions", id, "settle"]) => self.settle(id, body, mode, world),
            ("POST", ["v1", "transactions", id, "cancel"]) => self.cancel(id, body, mode, world),
            ("POST", ["v1", "transactions", id, "credit"]) => self.credit(id, body, mode, world),
            ("POST", ["v1", "transactions", id, "increase"]) => {
                self.increase(id, body, mode, world)
            }
            ("GET", ["v1", "transactions", id]) => self.status(id),
            // Operations that take or give card numbers do not exist here.
            ("POST", ["v1", "aliases", "tokenize" | "detokenize"]) => Err(Refused::with_status(
                403,
                "SERVICE_NOT_ALLOWED",
                "no card numbers here",
            )),
            ("POST", ["v1", "aliases"]) => self.convert_alias(body, world),
            ("GET", ["v1", "aliases", alias]) => self.alias_info(alias),
            ("PATCH", ["v1", "aliases", alias]) => self.patch_alias(alias, body),
            ("DELETE", ["v1", "aliases", alias]) => self.delete_alias(alias),
            _ => return page::html(404, "<html><h1>404</h1></html>".to_owned()),
        };
        answer.unwrap_or_else(|refused| refused.response())
    }
}

impl Kept {
    fn repeat(&self, call: &Call) -> Response {
        if self.path != call.path || self.body != call.body {
            let refused =
                Refused::with_status(422, "CLIENT_ERROR", "idempotency key with another body");
            return refused.response();
        }
        self.answer.clone().unwrap_or_else(still_running)
    }
}

impl Refused {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self::with_status(400, code, message)
    }

    fn with_status(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            transaction: None,
        }
    }

    fn wrong_status(message: &str) -> Self {
        Self::new("INVALID_TRANSACTION_STATUS", message)
    }

    fn of(mut self, transaction: &str) -> Self {
        self.transaction = Some(transaction.to_owned());
        self
    }

    fn response(self) -> Response {
        let mut body = json!({"error": {"code": self.code, "message": self.message}});
        if let (Some(id), Value::Object(members)) = (self.transaction, &mut body) {
            members.insert("transactionId".to_owned(), Value::String(id));
        }
        json_answer(self.status, &body)
    }
}

fn authenticated(call: &Call) -> bool {
    let expected = format!(
        "Basic {}",
        STANDARD.encode(format!("{MERCHANT_ID}:{PASSWORD}"))
    );
    call.headers
        .get(AUTHORIZATION)
        .is_some_and(|value| value.as_bytes() == expected.as_bytes())
}

/// How a pending call shows. A visit and a credit have a status for it; everything else is in
/// flight, and a repeat under its key is told to wait (`providers/aduno.md` §8).
fn stays_in_flight(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    path != "/v1/transactions" && !path.ends_with("/credit")
}

fn still_running() -> Response {
    Refused::with_status(409, "CLIENT_ERROR", "the first request is still running").response()
}

/// The decline that a fault asks for.
fn declined(mode: Mode) -> Result<(), Refused> {
    match mode {
        Mode::Decline => Err(Refused::new("DECLINED", "declined")),
        Mode::Normal | Mode::Pending => Ok(()),
    }
}

fn json_answer(status: u16, body: &Value) -> Response {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json;charset=UTF-8"),
    );
    response
}

fn no_content() -> Response {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
