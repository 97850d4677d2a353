//! PayPal: a stateful imitation at wire level (`providers/paypal.md`).
//!
//! It speaks Orders v2, Payments v2, Payment Method Tokens v3, billing agreements v1 and the
//! webhooks API. Where the sheet is silent (its marks U), this file and its neighbours decide:
//!
//! - a request id is kept per method and path; a failed request is not kept;
//! - another body under the same id is 422 everywhere;
//! - captures stay within 100 % of an authorization, as where PSD2 holds;
//! - an agreement that is completed again answers with the first one;
//! - what a bank takes back reads as `REFUNDED`, without a refund;
//! - a customer who declines leaves a setup or an order as it was, as far as the API shows.

mod orders;
mod payments;
mod reply;
#[cfg(test)]
mod tests;
mod vault;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cardless_contract::Timestamp;
use cardless_transport::Response;
use http::{Method, header};
use serde_json::{Value, json};

use crate::dialect::{Call, Dialect, Mode, World};
use orders::Order;
use reply::{Problem, Reply};
use vault::{Agreement, AgreementToken, SetupToken, VaultToken};
use webhook::Hook;

pub use webhook::{CERTIFICATE_ID, ROOT_PEM, WEBHOOK_ID};

/// The only client id that is accepted.
pub const CLIENT_ID: &str = "sandbox-client";
/// The only client secret that is accepted.
pub const CLIENT_SECRET: &str = "sandbox-secret";

/// How long an access token lives, in seconds (9 h).
const ACCESS_TOKEN_SECONDS: u64 = 32_400;
/// How long a request id is kept: orders, payments, vault (`providers/paypal.md` §3).
const ORDERS_WINDOW: Duration = Duration::from_secs(6 * 3600);
const PAYMENTS_WINDOW: Duration = Duration::from_secs(45 * 24 * 3600);
const VAULT_WINDOW: Duration = Duration::from_secs(3 * 3600);
/// How often expired request ids and access tokens are swept out; they end on time without it.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
/// The longest `PayPal-Request-Id`.
const MAX_REQUEST_ID_BYTES: usize = 108;

/// The provider's state.
#[derive(Debug, Default)]
pub(crate) struct PayPal {
    access_tokens: BTreeMap<String, Timestamp>,
    orders: BTreeMap<String, Order>,
    /// Which order was captured under an invoice id.
    invoices: BTreeMap<String, String>,
    /// Which order an authorization, capture or refund belongs to.
    owners: BTreeMap<String, String>,
    setup_tokens: BTreeMap<String, SetupToken>,
    vault: BTreeMap<String, VaultToken>,
    /// Payment tokens that were deleted: deleting them again is done.
    deleted: BTreeSet<String>,
    agreement_tokens: BTreeMap<String, AgreementToken>,
    agreements: BTreeMap<String, Agreement>,
    hooks: BTreeMap<String, Hook>,
    events: Vec<Value>,
    replays: BTreeMap<String, Replay>,
    /// Orders that time alone may still change, so that a tick need not look at all of them.
    restless: BTreeSet<String>,
    /// When what has expired is swept out next.
    next_sweep: Option<Timestamp>,
}

/// A request that was carried out under an id.
#[derive(Debug)]
struct Replay {
    body: Bytes,
    target: Target,
    until: Timestamp,
}

/// What a repeat shows, in its latest state.
#[derive(Debug, Clone)]
enum Target {
    Order(String),
    Authorization(String),
    Capture(String),
    Refund(String),
    SetupToken(String),
    PaymentToken(String),
    AgreementToken(String),
    Agreement(String),
}

/// One request on its way through the API, with what most of its handlers need.
struct Ask<'a> {
    call: &'a Call,
    body: Value,
    full: bool,
}

impl Dialect for PayPal {
    fn answer(&mut self, call: &Call, world: &mut World<'_>) -> Response {
        let reply = self.route_public(call, world);
        let reply = reply.unwrap_or_else(|| self.route_private(call, world));
        reply.into_response(world.next_id())
    }

    fn tick(&mut self, world: &mut World<'_>) {
        self.tick_orders(world);
        self.tick_vault(world.now);
        if self.next_sweep.is_none_or(|at| at <= world.now) {
            self.next_sweep = Some(world.now.plus(SWEEP_INTERVAL));
            self.replays.retain(|_, replay| world.now < replay.until);
            self.access_tokens.retain(|_, until| world.now < *until);
        }
    }

    fn take_back(&mut self, object: &str, world: &mut World<'_>) -> bool {
        self.reverse_order(object, world)
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

impl PayPal {
    /// What needs no access token: the token request, certificates, and the customer's pages.
    fn route_public(&mut self, call: &Call, world: &mut World<'_>) -> Option<Reply> {
        let segments = segments(&call.path);
        match (&call.method, segments.as_slice()) {
            (&Method::POST, ["v1", "oauth2", "token"]) => Some(self.access_token(call, world)),
            (&Method::GET, ["v1", "notifications", "certs", id]) => Some(webhook::certificate(id)),
            (_, ["agreements", "approve"]) => Some(self.approve_setup(call, world)),
            (_, ["checkoutnow"]) => Some(self.approve_order(call, world)),
            _ => None,
        }
    }

    fn route_private(&mut self, call: &Call, world: &mut World<'_>) -> Reply {
        if let Err(problem) = self.check_bearer(call, world.now) {
            return problem.into();
        }
        let body = match parse_body(call) {
            Ok(body) => body,
            Err(problem) => return problem.into(),
        };
        let full = header_text(call, "prefer").is_some_and(|text| text == "return=representation");
        let ask = Ask { call, body, full };
        match self.replayed(&ask, world) {
            Ok(Some(reply)) => return reply,
            Ok(None) => {}
            Err(problem) => return problem.into(),
        }
        let (reply, target) = match self.route(&ask, world) {
            Ok(done) => done,
            Err(problem) => return problem.into(),
        };
        if let Some(target) = target {
            self.remember(&ask, target, world.now);
        }
        reply
    }

    fn route(
        &mut self,
        ask: &Ask<'_>,
        world: &mut World<'_>,
    ) -> Result<(Reply, Option<Target>), Problem> {
        let path = segments(&ask.call.path);
        match path.as_slice() {
            ["v2", "checkout", "orders", rest @ ..] => self.route_orders(rest, ask, world),
            ["v2", "payments", rest @ ..] => self.route_payments(rest, ask, world),
            ["v3", "vault", rest @ ..] => self.route_vault(rest, ask, world),
            ["v1", "billing-agreements", rest @ ..] => self.route_agreements(rest, ask, world),
            ["v1", "notifications", rest @ ..] => self
                .route_webhooks(rest, ask, world)
                .map(|reply| (reply, None)),
            _ => Err(Problem::not_found()),
        }
    }

    fn access_token(&mut self, call: &Call, world: &mut World<'_>) -> Reply {
        let expected = format!(
            "Basic {}",
            STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}"))
        );
        let given = header_text(call, header::AUTHORIZATION.as_str());
        if call.mode == Mode::Decline || given != Some(expected.as_str()) {
            let text = "Client Authentication failed";
            return Reply::json(
                401,
                json!({"error": "invalid_client", "error_description": text}),
            );
        }
        let grant = url::form_urlencoded::parse(&call.body)
            .find(|(name, _)| name == "grant_type")
            .map(|(_, value)| value.into_owned());
        if grant.as_deref() != Some("client_credentials") {
            let text = "grant_type is missing or not supported";
            return Reply::json(
                400,
                json!({"error": "unsupported_grant_type", "error_description": text}),
            );
        }
        let value = reply::id("A21AA", world.next_id());
        let until = world.now.plus(Duration::from_secs(ACCESS_TOKEN_SECONDS));
        self.access_tokens.insert(value.clone(), until);
        Reply::json(
            200,
            json!({
                "scope": "https://uri.paypal.com/services/payments/payment \
                          https://uri.paypal.com/services/vault/payment-tokens/readwrite",
                "access_token": value, "token_type": "Bearer", "app_id": "APP-SANDBOX",
                "expires_in": ACCESS_TOKEN_SECONDS, "nonce": reply::time(world.now),
            }),
        )
    }

    fn check_bearer(&self, call: &Call, now: Timestamp) -> Result<(), Problem> {
        let Some(given) = header_text(call, header::AUTHORIZATION.as_str()) else {
            return Err(Problem::named(401, "AUTHENTICATION_FAILURE", None));
        };
        let token = given.strip_prefix("Bearer ").unwrap_or_default();
        if self
            .access_tokens
            .get(token)
            .is_some_and(|until| now < *until)
        {
            return Ok(());
        }
        Err(Problem::named(401, "AUTHENTICATION_FAILURE", None))
    }

    /// The latest state of what was made under this request's id. Another body is refused.
    fn replayed(&self, ask: &Ask<'_>, world: &World<'_>) -> Result<Option<Reply>, Problem> {
        let Some(name) = replay_name(ask.call)? else {
            return Ok(None);
        };
        let Some(replay) = self
            .replays
            .get(&name)
            .filter(|replay| world.now < replay.until)
        else {
            return Ok(None);
        };
        if !is_same_body(&replay.body, &ask.call.body) {
            return Err(Problem::issue(422, "PAYPAL_REQUEST_ID_PREVIOUSLY_USED"));
        }
        let full = ask.full || !ask.call.path.starts_with("/v2/");
        Ok(self
            .show(&replay.target, full, world)
            .map(|body| Reply::json(200, body)))
    }

    fn show(&self, target: &Target, full: bool, world: &World<'_>) -> Option<Value> {
        match target {
            Target::Order(id) => self
                .orders
                .get(id)
                .map(|order| order.show(full, world.base)),
            Target::Authorization(id) => self.show_authorization(id, world.base),
            Target::Capture(id) => self.show_capture(id, world.base),
            Target::Refund(id) => self.show_refund(id, world.base),
            Target::SetupToken(id) => self.setup_tokens.get(id).map(|t| t.show(world.base)),
            Target::PaymentToken(id) => self.vault.get(id).map(|t| t.show(world.base)),
            Target::AgreementToken(id) => self.agreement_tokens.get(id).map(|t| t.show(world.base)),
            Target::Agreement(id) => self.agreements.get(id).map(Agreement::show),
        }
    }

    fn remember(&mut self, ask: &Ask<'_>, target: Target, now: Timestamp) {
        let Ok(Some(name)) = replay_name(ask.call) else {
            return;
        };
        let window = if ask.call.path.starts_with("/v2/checkout/") {
            ORDERS_WINDOW
        } else if ask.call.path.starts_with("/v2/payments/") {
            PAYMENTS_WINDOW
        } else {
            VAULT_WINDOW
        };
        let replay = Replay {
            body: ask.call.body.clone(),
            target,
            until: now.plus(window),
        };
        self.replays.insert(name, replay);
    }
}

impl Ask<'_> {
    /// Text at a JSON pointer of the body.
    fn text(&self, pointer: &str) -> Option<&str> {
        self.body.pointer(pointer).and_then(Value::as_str)
    }

    /// One parameter of the query.
    fn parameter(&self, name: &str) -> Option<String> {
        parameter(&self.call.query, name)
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

fn segments(path: &str) -> Vec<&str> {
    path.trim_matches('/').split('/').collect()
}

fn header_text<'a>(call: &'a Call, name: &str) -> Option<&'a str> {
    call.headers.get(name).and_then(|value| value.to_str().ok())
}

/// The body as JSON; an empty one is null.
fn parse_body(call: &Call) -> Result<Value, Problem> {
    if call.body.is_empty() {
        return Ok(Value::Null);
    }
    let kind = header_text(call, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    if !kind.starts_with("application/json") {
        return Err(Problem::named(415, "UNSUPPORTED_MEDIA_TYPE", None));
    }
    serde_json::from_slice(&call.body)
        .map_err(|_| Problem::named(400, "INVALID_REQUEST", Some("MALFORMED_REQUEST_JSON")))
}

/// Under what a request's id is kept; `None` without one.
fn replay_name(call: &Call) -> Result<Option<String>, Problem> {
    let Some(id) = header_text(call, "paypal-request-id") else {
        return Ok(None);
    };
    if call.method != Method::POST {
        return Ok(None);
    }
    if !(1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) {
        return Err(Problem::named(
            400,
            "INVALID_REQUEST",
            Some("INVALID_STRING_LENGTH"),
        ));
    }
    Ok(Some(format!("{} {id}", call.path)))
}

fn is_same_body(first: &Bytes, second: &Bytes) -> bool {
    let parse = |body: &Bytes| serde_json::from_slice::<Value>(body).unwrap_or_default();
    first == second || parse(first) == parse(second)
}
