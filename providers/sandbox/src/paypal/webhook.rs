//! Webhooks: management, events, signatures (`providers/paypal.md` §8).

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cardless_transport::Response;
use http::{HeaderValue, Method, header};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::reply::{self, Problem, Reply, link};
use super::{Ask, PayPal};
use crate::dialect::{OutgoingWebhook, World};

/// The root that webhook certificates lead to; test material.
pub const ROOT_PEM: &str = include_str!("material/root.pem");
/// The id of the webhook whose address `POST /webhooks` of the sandbox's control sets.
pub const WEBHOOK_ID: &str = "WHSANDBOXCARDLESS";
/// The name of the one certificate.
pub const CERTIFICATE_ID: &str = "CERT-cardless-sandbox";

const LEAF_PEM: &str = include_str!("material/leaf.pem");
const SIGNER: &str = include_str!("material/signer.pkcs8.b64");

/// How many events are kept for the list.
const MAX_EVENTS: usize = 1000;

/// A webhook that a client has registered.
#[derive(Debug)]
pub(crate) struct Hook {
    id: String,
    url: String,
    events: Vec<String>,
}

impl Hook {
    fn show(&self, base: &str) -> Value {
        let own = format!("{base}/v1/notifications/webhooks/{}", self.id);
        let events: Vec<Value> = self
            .events
            .iter()
            .map(|name| json!({"name": name}))
            .collect();
        json!({"id": self.id, "url": self.url, "event_types": events,
            "links": [link("self", &own, "GET"), link("delete", &own, "DELETE")]})
    }

    fn wants(&self, event: &str) -> bool {
        self.events.iter().any(|name| name == "*" || name == event)
    }
}

/// What is asked of the signature check; the event as it was received.
#[derive(Deserialize)]
struct Verification<'a> {
    auth_algo: &'a str,
    transmission_id: &'a str,
    transmission_sig: &'a str,
    transmission_time: &'a str,
    webhook_id: &'a str,
    #[serde(borrow)]
    webhook_event: &'a RawValue,
}

impl PayPal {
    pub(super) fn route_webhooks(
        &mut self,
        rest: &[&str],
        ask: &Ask<'_>,
        world: &mut World<'_>,
    ) -> Result<Reply, Problem> {
        let base = world.base;
        match (&ask.call.method, rest) {
            (&Method::POST, ["webhooks"]) => self.create_hook(ask, world),
            (&Method::GET, ["webhooks"]) => {
                let all: Vec<Value> = self.hooks.values().map(|hook| hook.show(base)).collect();
                Ok(Reply::json(200, json!({"webhooks": all})))
            }
            (&Method::GET, ["webhooks", id]) => {
                let hook = self.hooks.get(*id).ok_or(Problem::not_found())?;
                Ok(Reply::json(200, hook.show(base)))
            }
            (&Method::DELETE, ["webhooks", id]) => {
                self.hooks.remove(*id).ok_or(Problem::not_found())?;
                Ok(Reply::Empty(204))
            }
            (&Method::POST, ["verify-webhook-signature"]) => verification(ask),
            (&Method::GET, ["webhooks-events"]) => {
                let events = json!({"events": self.events, "count": self.events.len()});
                Ok(Reply::json(200, events))
            }
            (&Method::GET, ["webhooks-events", id]) => {
                self.event(id).map(|event| Reply::json(200, event))
            }
            (&Method::POST, ["webhooks-events", id, "resend"]) => {
                let event = self.event(id)?;
                self.deliver(&event, world);
                Ok(Reply::json(202, event))
            }
            _ => Err(Problem::not_found()),
        }
    }

    fn create_hook(&mut self, ask: &Ask<'_>, world: &mut World<'_>) -> Result<Reply, Problem> {
        let url = ask.text("/url").ok_or(Problem::missing())?;
        let events = ask.body.get("event_types").and_then(Value::as_array);
        let events = events.ok_or(Problem::missing())?;
        let name = |event: &Value| event.get("name").and_then(Value::as_str).map(str::to_owned);
        let hook = Hook {
            id: reply::id("WHK", world.next_id()),
            url: url.to_owned(),
            events: events.iter().filter_map(name).collect(),
        };
        let shown = hook.show(world.base);
        self.hooks.insert(hook.id.clone(), hook);
        Ok(Reply::json(201, shown))
    }

    fn event(&self, id: &str) -> Result<Value, Problem> {
        let mut all = self.events.iter();
        let is = |event: &&Value| event.get("id").and_then(Value::as_str) == Some(id);
        all.find(is).cloned().ok_or(Problem::not_found())
    }

    /// Writes an event and sends it to everybody who wants it.
    pub(super) fn emit(
        &mut self,
        name: &'static str,
        resource_type: &'static str,
        resource: Value,
        world: &mut World<'_>,
    ) {
        let id = reply::id("WH-", world.next_id());
        let own = format!("{}/v1/notifications/webhooks-events/{id}", world.base);
        let event = json!({
            "id": id, "event_version": "1.0", "create_time": reply::time(world.now),
            "resource_type": resource_type, "resource_version": "2.0", "event_type": name,
            "summary": "An event of the sandbox.", "resource": resource,
            "links": [link("self", &own, "GET"), link("resend", &format!("{own}/resend"), "POST")],
        });
        self.deliver(&event, world);
        if self.events.len() < MAX_EVENTS {
            self.events.push(event);
        }
    }

    fn deliver(&self, event: &Value, world: &mut World<'_>) {
        let name = event
            .get("event_type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mut targets: Vec<(String, String)> = self
            .hooks
            .values()
            .filter(|hook| hook.wants(name))
            .map(|hook| (hook.url.clone(), hook.id.clone()))
            .collect();
        targets.extend(
            world
                .webhook_url
                .map(|url| (url.to_owned(), WEBHOOK_ID.to_owned())),
        );
        let body = Bytes::from(event.to_string());
        for (url, webhook_id) in targets {
            if let Some(headers) = headers(&webhook_id, &body, world) {
                let body = body.clone();
                world.webhooks.push(OutgoingWebhook { url, headers, body });
            }
        }
    }
}

/// The file that `PAYPAL-CERT-URL` names.
pub(super) fn certificate(id: &str) -> Reply {
    if id != CERTIFICATE_ID {
        return Problem::not_found().into();
    }
    let mut response = Response::new(Bytes::from_static(LEAF_PEM.as_bytes()));
    let kind = HeaderValue::from_static("application/x-pem-file");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Reply::whole(response)
}

fn headers(webhook_id: &str, body: &[u8], world: &mut World<'_>) -> Option<Vec<(String, String)>> {
    let number = world.next_id();
    let id = format!(
        "{:08x}-0000-4000-8000-{:012x}",
        number >> 48,
        number & 0xffff_ffff_ffff
    );
    let time = reply::time(world.now);
    let signature = sign(&message(&id, &time, webhook_id, body))?;
    let address = format!("{}/v1/notifications/certs/{CERTIFICATE_ID}", world.base);
    let pairs = [
        ("Paypal-Transmission-Id", id),
        ("Paypal-Transmission-Time", time),
        ("Paypal-Transmission-Sig", signature),
        ("Paypal-Cert-Url", address),
        ("Paypal-Auth-Algo", "SHA256withRSA".to_owned()),
        ("Paypal-Auth-Version", "v2".to_owned()),
        ("Content-Type", "application/json".to_owned()),
    ];
    Some(
        pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

/// `id|time|webhook id|crc32 in decimal`.
fn message(id: &str, time: &str, webhook_id: &str, body: &[u8]) -> String {
    format!("{id}|{time}|{webhook_id}|{}", crc32fast::hash(body))
}

/// RSASSA-PKCS1-v1_5 with SHA-256, in base64. The same message has the same signature.
fn sign(message: &str) -> Option<String> {
    static KEY: OnceLock<Option<RsaKeyPair>> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let der = STANDARD.decode(SIGNER.trim()).ok()?;
        RsaKeyPair::from_pkcs8(&der).ok()
    });
    let key = key.as_ref()?;
    let mut signature = vec![0; key.public().modulus_len()];
    let random = SystemRandom::new();
    key.sign(
        &RSA_PKCS1_SHA256,
        &random,
        message.as_bytes(),
        &mut signature,
    )
    .ok()?;
    Some(STANDARD.encode(signature))
}

/// PayPal's own check of a delivery.
fn verification(ask: &Ask<'_>) -> Result<Reply, Problem> {
    let asked: Verification<'_> = serde_json::from_slice(&ask.call.body)
        .map_err(|_| Problem::issue(400, "MISSING_REQUIRED_PARAMETER"))?;
    let body = asked.webhook_event.get().as_bytes();
    let message = message(
        asked.transmission_id,
        asked.transmission_time,
        asked.webhook_id,
        body,
    );
    let good = asked.auth_algo == "SHA256withRSA"
        && sign(&message).is_some_and(|signature| signature == asked.transmission_sig);
    let status = if good { "SUCCESS" } else { "FAILURE" };
    Ok(Reply::json(200, json!({"verification_status": status})))
}
