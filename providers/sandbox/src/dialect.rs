use bytes::Bytes;
use cardless_contract::{Money, Timestamp};
use cardless_transport::Response;
use http::{HeaderMap, Method};

use crate::ledger::{Entry, EntryKind, Ledger};

/// One provider's language and state: a pure machine from a request to an answer. It never
/// sleeps, never sends and never reads a clock of its own.
pub(crate) trait Dialect: Send + std::fmt::Debug {
    /// Answers one request, and changes the state.
    fn answer(&mut self, call: &Call, world: &mut World<'_>) -> Response;

    /// The clock has moved: conclude what was pending, expire what has lapsed.
    fn tick(&mut self, world: &mut World<'_>);

    /// The customer's bank takes back what a payment took. Answers whether there is such a payment
    /// and this provider shows it.
    fn take_back(&mut self, object: &str, world: &mut World<'_>) -> bool;

    /// Forgets everything.
    fn reset(&mut self);
}

/// One request, as a dialect sees it.
#[derive(Debug)]
pub(crate) struct Call {
    /// The method.
    pub(crate) method: Method,
    /// The path, as sent (percent-encoded), without the query.
    pub(crate) path: String,
    /// The query as sent, without the question mark; empty if there is none.
    pub(crate) query: String,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
    /// What an injected fault wants of this call.
    pub(crate) mode: Mode,
}

/// What an injected fault wants of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing; behave.
    Normal,
    /// Answer with the decline that the fact sheet gives for this call.
    Decline,
    /// Accept, stay pending, and succeed once the clock has moved by [`PENDING_SECONDS`].
    Pending,
}

/// How long a call with [`Mode::Pending`] stays pending, in seconds of the sandbox's clock.
pub(crate) const PENDING_SECONDS: u64 = 60;

/// What a dialect may touch beside its own state.
#[derive(Debug)]
pub(crate) struct World<'a> {
    /// The provider's word in the ledger.
    pub(crate) provider: &'static str,
    /// The sandbox's clock.
    pub(crate) now: Timestamp,
    /// The address that this provider is reached at, without a slash at the end, as
    /// `http://127.0.0.1:9101`.
    pub(crate) base: &'a str,
    /// Where webhooks go if the request names no address: what `POST /webhooks` has set.
    pub(crate) webhook_url: Option<&'a str>,
    /// Every movement that took place.
    pub(crate) ledger: &'a mut Ledger,
    /// Webhooks to send, in order.
    pub(crate) webhooks: &'a mut Vec<OutgoingWebhook>,
    /// A counter for ids: no two calls give the same number, and the same run gives the same ones.
    pub(crate) ids: &'a mut u64,
}

/// A signed webhook that is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingWebhook {
    /// Where it goes.
    pub url: String,
    /// Its headers, signature included.
    pub headers: Vec<(String, String)>,
    /// Its body, byte for byte.
    pub body: Bytes,
}

impl World<'_> {
    /// Writes a movement into the ledger.
    pub(crate) fn record(&mut self, kind: EntryKind, amount: Money, object: &str) {
        self.ledger.record(Entry {
            provider: self.provider,
            kind,
            amount,
            object: object.to_owned(),
            at: self.now,
        });
    }

    /// The next number for an id.
    pub(crate) fn next_id(&mut self) -> u64 {
        *self.ids += 1;
        *self.ids
    }
}
