//! PostFinance Checkout, Web Service API 2.0: a stateful imitation at wire level
//! (`providers/postfinance.md`).
//!
//! Held for real: the JWT over path and query, the `Space` header, the states of transactions,
//! completions, voids, refunds and tokens, optimistic locks, `externalId`s, ceilings, signed
//! webhooks. Amounts are digits, never floats. No operation takes a card number.

mod access;
mod constants;
mod json;
mod model;
mod operation;
mod payment;
mod search;
mod token;
mod webhook;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use cardless_transport::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;

use crate::dialect::{Call, Dialect, World};

use constants::AUTHENTICATION_KEY_RAW;
pub use constants::{
    AUTHENTICATION_KEY, BASE_PATH, SPACE_ID, USER_ID, WEBHOOK_KEY_ID, WEBHOOK_PUBLIC_KEY,
};
use json::{Json, Object};
use model::{
    Charge, Completion, Listener, Refund, Token, TokenVersion, Transaction, Void, WebhookUrl,
};
use search::Query;
use webhook::Event;

/// Where payment pages are, under the sandbox's address.
const PAGE_PATH: &str = "/s/405/payment/transaction/pay/";

/// The first id that is given, so that ids look like numbers of an installation in use.
const FIRST_ID: u64 = 10_000;

/// How many results a search gives if it does not say (§3.7), and at most.
const DEFAULT_LIMIT: usize = 10;
const MAX_LIMIT: usize = 100;

/// The largest offset; beyond it a search answers 416 (§3.7).
const MAX_OFFSET: usize = 10_000;

/// The provider's state.
#[derive(Debug)]
pub(crate) struct PostFinance {
    /// How long a new transaction waits for its payer.
    open_for: Duration,
    transactions: BTreeMap<i64, Transaction>,
    completions: BTreeMap<i64, Completion>,
    voids: BTreeMap<i64, Void>,
    refunds: BTreeMap<i64, Refund>,
    tokens: BTreeMap<i64, Token>,
    versions: BTreeMap<i64, TokenVersion>,
    charges: BTreeMap<i64, Charge>,
    urls: BTreeMap<i64, WebhookUrl>,
    listeners: BTreeMap<i64, Listener>,
    events: Vec<Event>,
}

impl Default for PostFinance {
    fn default() -> Self {
        Self::open_for(model::OPEN)
    }
}

/// An answer before it is bytes.
#[derive(Debug)]
enum Reply {
    Json(u16, Json),
    Text(String),
    Empty,
}

/// A refusal, as `RestApiErrorResponse` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fault {
    status: u16,
    code: &'static str,
    message: &'static str,
}

type Answer = Result<Reply, Fault>;

impl Fault {
    const fn new(status: u16, code: &'static str, message: &'static str) -> Self {
        Self {
            status,
            code,
            message,
        }
    }

    const fn not_found() -> Self {
        Self::new(404, "not_found", "There is no such object in this space.")
    }

    const fn invalid(message: &'static str) -> Self {
        Self::new(400, "invalid_request", message)
    }

    const fn unprocessable(message: &'static str) -> Self {
        Self::new(422, "unprocessable", message)
    }

    const fn conflict() -> Self {
        Self::new(409, "conflict", "The version is not the present one.")
    }
}

impl Dialect for PostFinance {
    fn answer(&mut self, call: &Call, world: &mut World<'_>) -> Response {
        let response = if let Some(id) = call.path.strip_prefix(PAGE_PATH) {
            self.page(id, call, world)
        } else {
            let answer = self.api(call, world);
            render(answer, world)
        };
        self.deliver(world);
        response
    }

    fn tick(&mut self, world: &mut World<'_>) {
        self.conclude_payments(world);
        self.conclude_operations(world);
        self.deliver(world);
    }

    /// No read here shows it, as far as is known.
    fn take_back(&mut self, _: &str, _: &mut World<'_>) -> bool {
        false
    }

    fn reset(&mut self) {
        *self = Self::open_for(self.open_for);
    }
}

impl PostFinance {
    /// Nothing has happened yet, and a transaction waits so long for its payer.
    pub(crate) const fn open_for(open_for: Duration) -> Self {
        Self {
            open_for,
            transactions: BTreeMap::new(),
            completions: BTreeMap::new(),
            voids: BTreeMap::new(),
            refunds: BTreeMap::new(),
            tokens: BTreeMap::new(),
            versions: BTreeMap::new(),
            charges: BTreeMap::new(),
            urls: BTreeMap::new(),
            listeners: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    fn api(&mut self, call: &Call, world: &mut World<'_>) -> Answer {
        let path = call
            .path
            .strip_prefix(BASE_PATH)
            .and_then(|path| path.strip_prefix('/'));
        let segments: Vec<&str> = path.ok_or(Fault::not_found())?.split('/').collect();
        match segments.as_slice() {
            ["webhooks", "encryption-keys", id] if call.method == Method::GET => {
                // Open to anybody, with or without a JWT (§4.3).
                access::check_types(call, true)?;
                encryption_key(id)
            }
            ["spaces", id] if call.method == Method::GET => {
                access::check_token(call, world.now)?;
                access::check_types(call, false)?;
                space(id)
            }
            _ => {
                access::check_token(call, world.now)?;
                access::check_types(call, answers_text(&segments))?;
                access::check_space(call)?;
                self.in_space(&segments, call, world)
            }
        }
    }

    fn in_space(&mut self, segments: &[&str], call: &Call, world: &mut World<'_>) -> Answer {
        match (call.method.as_str(), segments) {
            ("GET", ["payment" | "webhooks", .., "search"]) => self.search(segments, call),
            ("POST", ["payment", "transactions"]) => self.create_transaction(call, world),
            ("GET", ["payment", "transactions", "completions" | "voids"]) => {
                self.search(segments, call)
            }
            ("GET", ["payment", "transactions", "completions", id]) => {
                found(self.completions.get(&number(id)?).map(Completion::show))
            }
            ("GET", ["payment", "transactions", "voids", id]) => found(
                self.voids
                    .get(&number(id)?)
                    .map(|void| self.show_void(void)),
            ),
            (method, ["payment", "transactions", id, rest @ ..]) => {
                self.one_transaction(method, number(id)?, rest, call, world)
            }
            ("POST", ["payment", "refunds"]) => self.create_refund(call, world),
            ("GET", ["payment", "refunds", id]) => found(
                self.refunds
                    .get(&number(id)?)
                    .map(|refund| self.show_refund(refund)),
            ),
            ("POST", ["payment", "refunds", id, verb]) => {
                self.mark_refund(number(id)?, verb, world)
            }
            ("POST", ["payment", "tokens"]) => self.create_token(call, world),
            (method, ["payment", "tokens", id, rest @ ..]) => {
                self.one_token(method, number(id)?, rest, call, world)
            }
            ("GET", ["payment", "token-versions", id]) => found(
                self.versions
                    .get(&number(id)?)
                    .map(|version| self.show_version(version)),
            ),
            ("GET", ["payment", "charge-attempts", id]) => found(self.attempt(number(id)?)),
            (method, ["webhooks", "urls", rest @ ..]) => {
                self.webhook_url(method, rest, call, world)
            }
            (method, ["webhooks", "listeners", rest @ ..]) => {
                self.listener(method, rest, call, world)
            }
            ("GET", ["payment", _]) => self.search(segments, call),
            _ => Err(Fault::not_found()),
        }
    }

    /// A search, or a plain list: the same objects, narrowed by what the query says.
    fn search(&self, segments: &[&str], call: &Call) -> Answer {
        let searched = segments.last() == Some(&"search");
        let kind = segments.iter().rev().find(|segment| **segment != "search");
        let mut objects = self.collection(kind.copied().unwrap_or_default())?;
        let parameters = Parameters::read(call)?;
        objects.retain(|object| parameters.keep(object));
        if parameters.descending {
            objects.reverse();
        }
        let rest = objects.len().saturating_sub(parameters.offset);
        let page: Vec<Json> = objects
            .into_iter()
            .skip(parameters.offset)
            .take(parameters.limit)
            .collect();
        let mut body = Object::new()
            .put("hasMore", rest > parameters.limit)
            .put("limit", length(parameters.limit));
        if searched {
            body = body.put("offset", length(parameters.offset));
        }
        Ok(Reply::Json(200, body.put("data", page).into()))
    }

    fn collection(&self, kind: &str) -> Result<Vec<Json>, Fault> {
        Ok(match kind {
            "transactions" => self.transactions.values().map(|it| self.show(it)).collect(),
            "completions" => self.completions.values().map(Completion::show).collect(),
            "voids" => self.voids.values().map(|it| self.show_void(it)).collect(),
            "refunds" => self
                .refunds
                .values()
                .map(|it| self.show_refund(it))
                .collect(),
            "tokens" => self.tokens.values().map(Token::show).collect(),
            "token-versions" => self
                .versions
                .values()
                .map(|it| self.show_version(it))
                .collect(),
            "charge-attempts" => self
                .charges
                .values()
                .filter_map(|it| self.attempt(it.attempt))
                .collect(),
            "urls" => self.urls.values().map(WebhookUrl::show).collect(),
            "listeners" => self
                .listeners
                .values()
                .map(|it| self.show_listener(it))
                .collect(),
            _ => return Err(Fault::not_found()),
        })
    }

    fn show(&self, transaction: &Transaction) -> Json {
        transaction.show(transaction.token.and_then(|id| self.tokens.get(&id)))
    }

    fn show_id(&self, transaction: i64) -> Option<Json> {
        self.transactions
            .get(&transaction)
            .map(|transaction| self.show(transaction))
    }

    fn show_void(&self, void: &Void) -> Json {
        void.show(self.show_id(void.transaction))
    }

    fn show_refund(&self, refund: &Refund) -> Json {
        refund.show(self.show_id(refund.transaction))
    }

    fn show_version(&self, version: &TokenVersion) -> Json {
        version.show(self.tokens.get(&version.token))
    }

    fn show_listener(&self, listener: &Listener) -> Json {
        listener.show(self.urls.get(&listener.url))
    }

    fn show_charge(&self, charge: &Charge) -> Json {
        charge.show(self.show_id(charge.transaction))
    }

    fn attempt(&self, id: i64) -> Option<Json> {
        let charge = self.charges.values().find(|charge| charge.attempt == id)?;
        Some(charge.show_attempt(self.show_charge(charge)))
    }
}

/// What a search asks for.
struct Parameters {
    query: Query,
    limit: usize,
    offset: usize,
    after: Option<i64>,
    before: Option<i64>,
    descending: bool,
}

impl Parameters {
    fn read(call: &Call) -> Result<Self, Fault> {
        let mut read = Self {
            query: Query::All(Vec::new()),
            limit: DEFAULT_LIMIT,
            offset: 0,
            after: None,
            before: None,
            descending: false,
        };
        for (name, value) in url::form_urlencoded::parse(call.query.as_bytes()) {
            read.set(&name, &value)
                .ok_or(Fault::invalid("A query parameter can't be read."))?;
        }
        if !(1..=MAX_LIMIT).contains(&read.limit) {
            return Err(Fault::invalid("limit must be 1 to 100."));
        }
        if read.offset > MAX_OFFSET {
            return Err(Fault::new(416, "offset_too_large", "Page by id instead."));
        }
        Ok(read)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "query" => self.query = Query::parse(value)?,
            "limit" => self.limit = value.parse().ok()?,
            "offset" => self.offset = value.parse().ok()?,
            "after" => self.after = Some(value.parse().ok()?),
            "before" => self.before = Some(value.parse().ok()?),
            "order" => self.descending = value.ends_with("DESC"),
            _ => {}
        }
        Some(())
    }

    fn keep(&self, object: &Json) -> bool {
        let id: i64 = object
            .at("id")
            .and_then(|id| id.plain().parse().ok())
            .unwrap_or(0);
        self.after.is_none_or(|after| id > after)
            && self.before.is_none_or(|before| id < before)
            && self.query.fits(object)
    }
}

/// The next id.
fn next_id(world: &mut World<'_>) -> i64 {
    i64::try_from(FIRST_ID.saturating_add(world.next_id())).unwrap_or(i64::MAX)
}

fn number(text: &str) -> Result<i64, Fault> {
    text.parse()
        .map_err(|_| Fault::invalid("An id must be a number."))
}

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn found(object: Option<Json>) -> Answer {
    object
        .map(|object| Reply::Json(200, object))
        .ok_or(Fault::not_found())
}

/// Reads a body. Members that the sandbox has no use for are accepted and dropped.
fn body<T: DeserializeOwned>(call: &Call) -> Result<T, Fault> {
    serde_json::from_slice(&call.body).map_err(|_| Fault::invalid("The body can't be read."))
}

/// A word of an enumeration, or a bad request.
fn one_of(value: Option<String>, words: &[&str]) -> Result<Option<String>, Fault> {
    match value {
        Some(value) if !words.contains(&value.as_str()) => {
            Err(Fault::invalid("A value is not one of its enumeration."))
        }
        value => Ok(value),
    }
}

fn answers_text(segments: &[&str]) -> bool {
    segments.last().is_some_and(|last| last.ends_with("-url"))
}

fn encryption_key(id: &str) -> Answer {
    if id == WEBHOOK_KEY_ID {
        Ok(Reply::Text(WEBHOOK_PUBLIC_KEY.trim().to_owned()))
    } else {
        Err(Fault::not_found())
    }
}

fn space(id: &str) -> Answer {
    if number(id)? != SPACE_ID {
        return Err(Fault::not_found());
    }
    let body = Object::new()
        .put("id", SPACE_ID)
        .put("name", "Sandbox")
        .put("version", 1_i64)
        .put("state", "ACTIVE")
        .put("active", true)
        .put("primaryCurrency", "CHF")
        .put("requestLimit", 10_000_i64)
        .put("timeZone", "Europe/Zurich");
    Ok(Reply::Json(200, body.into()))
}

fn render(answer: Answer, world: &mut World<'_>) -> Response {
    match answer {
        Ok(Reply::Json(status, json)) => typed(status, "application/json", json.to_text()),
        Ok(Reply::Text(text)) => typed(200, "text/plain", text),
        Ok(Reply::Empty) => typed(204, "", String::new()),
        Err(fault) => {
            let body = Object::new()
                .put("date", world.now)
                .put("id", format!("sandbox-{}", next_id(world)))
                .put("code", fault.code)
                .put("message", fault.message);
            typed(fault.status, "application/json", Json::from(body).to_text())
        }
    }
}

fn typed(status: u16, kind: &'static str, body: String) -> Response {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !kind.is_empty() {
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    response
}

#[cfg(test)]
mod tests;
