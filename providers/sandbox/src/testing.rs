use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cardless_contract::{Clock, Currency, Money, Timestamp};
use cardless_transport::{Reply, Request, Response};
use http::Method;

use crate::dialect::{Call, Dialect, Mode, OutgoingWebhook, PENDING_SECONDS, World};
use crate::{EntryKind, Sandbox};

/// A provider of one call: `POST /v1/charge` takes a franc and sends a webhook.
#[derive(Debug, Default)]
struct OneCall {
    pending: Vec<(Timestamp, String)>,
}

/// A clock that stands still.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }
}

/// A sandbox whose providers know `POST /v1/charge` and nothing else, on a clock that stands still.
pub(crate) fn sandbox() -> Sandbox {
    Sandbox::with_dialects(
        Arc::new(Still),
        Box::<OneCall>::default(),
        Box::<OneCall>::default(),
        Box::<OneCall>::default(),
    )
}

/// A request to a path of the sandbox.
pub(crate) fn call(method: &str, path: &str) -> Request {
    http::Request::builder()
        .method(method)
        .uri(format!("http://127.0.0.1:9101{path}"))
        .body(Bytes::from_static(b"{}"))
        .unwrap()
}

/// A reply in one word.
pub(crate) fn word(reply: &Reply) -> String {
    match reply {
        Reply::Answer(response) => response.status().as_u16().to_string(),
        Reply::Refuse => "refuse".to_owned(),
        Reply::Stall => "stall".to_owned(),
        Reply::Drop => "drop".to_owned(),
        Reply::HalfBody(_) => "half".to_owned(),
    }
}

/// The objects in the ledger.
pub(crate) fn ledger_objects(sandbox: &Sandbox) -> Vec<String> {
    let entries = sandbox.ledger().into_iter();
    entries.map(|entry| entry.object).collect()
}

impl Dialect for OneCall {
    fn answer(&mut self, call: &Call, world: &mut World<'_>) -> Response {
        if (&call.method, call.path.as_str()) != (&Method::POST, "/v1/charge") {
            return answer(404, "not found");
        }
        let object = format!("object-{}", world.next_id());
        match call.mode {
            Mode::Normal => {
                charge(world, &object);
                answer(200, &object)
            }
            Mode::Decline => answer(402, "declined"),
            Mode::Pending => {
                let due = world.now.plus(Duration::from_secs(PENDING_SECONDS));
                self.pending.push((due, object));
                answer(202, "pending")
            }
        }
    }

    fn tick(&mut self, world: &mut World<'_>) {
        self.pending.retain(|(due, object)| {
            let waits = world.now < *due;
            if !waits {
                charge(world, object);
            }
            waits
        });
    }

    fn take_back(&mut self, object: &str, _: &mut World<'_>) -> bool {
        object == "object-1"
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

fn charge(world: &mut World<'_>, object: &str) {
    let franc = Money::new(Currency::from_code("CHF").unwrap(), 100).unwrap();
    world.record(EntryKind::Capture, franc, object);
    if let Some(url) = world.webhook_url {
        world.webhooks.push(OutgoingWebhook {
            url: url.to_owned(),
            headers: vec![("x-signature".to_owned(), "signed".to_owned())],
            body: Bytes::copy_from_slice(object.as_bytes()),
        });
    }
}

fn answer(status: u16, body: &str) -> Response {
    http::Response::builder()
        .status(status)
        .body(Bytes::copy_from_slice(body.as_bytes()))
        .unwrap()
}
