use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cardless_contract::{Clock, Timestamp};
use cardless_transport::{Reply, Request, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::aduno::Aduno;
use crate::dialect::{Call, Dialect, Mode, World};
use crate::fault::Faults;
use crate::paypal::PayPal;
use crate::postfinance::PostFinance;
use crate::requests::RequestLog;
use crate::webhooks::WebhookQueue;
use crate::{
    Addresses, Deliver, Entry, Fault, FaultError, FaultKind, Ledger, OutgoingWebhook,
    ProviderHandle, RecordedRequest, SandboxClock, WebhookRoute,
};

/// One of the three providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// PayPal.
    PayPal,
    /// PostFinance.
    PostFinance,
    /// Aduno, at Datatrans.
    Aduno,
}

/// The three providers, their ledger and their faults. Clones are the same sandbox.
///
/// Deterministic: the same calls in the same order, on the same clock, give the same answers.
#[derive(Debug, Clone)]
pub struct Sandbox {
    clock: SandboxClock,
    state: Arc<Mutex<State>>,
    /// Told when a webhook comes to wait.
    webhooks_wait: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    paypal: Channel,
    postfinance: Channel,
    aduno: Channel,
    ledger: Ledger,
    requests: RequestLog,
    faults: Faults,
    webhooks: WebhookQueue,
    ids: u64,
    /// The second at which the dialects last heard of the clock.
    ticked_at_seconds: i64,
}

/// What belongs to one provider alone.
#[derive(Debug)]
struct Channel {
    dialect: Box<dyn Dialect>,
    base: String,
    webhook_url: Option<String>,
    deliver: Deliver,
}

impl Provider {
    /// All three, in the order of their default ports.
    pub const ALL: [Self; 3] = [Self::PayPal, Self::PostFinance, Self::Aduno];

    /// The name that settings, ledger and control use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PayPal => "paypal",
            Self::PostFinance => "postfinance",
            Self::Aduno => "aduno",
        }
    }
}

impl Sandbox {
    /// A sandbox in which nothing has happened yet, on the default ports' addresses and `base`'s
    /// time.
    pub fn new(base: Arc<dyn Clock>) -> Self {
        Self::with_dialects(
            base,
            Box::new(PayPal::default()),
            Box::new(PostFinance::default()),
            Box::new(Aduno::default()),
        )
    }

    pub(crate) fn with_dialects(
        base: Arc<dyn Clock>,
        paypal: Box<dyn Dialect>,
        postfinance: Box<dyn Dialect>,
        aduno: Box<dyn Dialect>,
    ) -> Self {
        let clock = SandboxClock::new(base);
        let addresses = Addresses::default();
        let state = State {
            paypal: Channel::new(paypal, addresses.paypal),
            postfinance: Channel::new(postfinance, addresses.postfinance),
            aduno: Channel::new(aduno, addresses.aduno),
            ledger: Ledger::default(),
            requests: RequestLog::default(),
            faults: Faults::default(),
            webhooks: WebhookQueue::default(),
            ids: 0,
            ticked_at_seconds: clock.now().seconds(),
        };
        Self {
            clock,
            state: Arc::new(Mutex::new(state)),
            webhooks_wait: watch::Sender::default(),
        }
    }

    /// The same sandbox, whose ids count on from `id`: a service that keeps its store while the
    /// sandbox starts anew then never meets an id twice.
    #[must_use]
    pub fn with_first_id(self, id: u64) -> Self {
        self.lock().ids = id;
        self
    }

    /// The same sandbox before anything has happened at PostFinance, whose transactions wait so long
    /// for their payers. The real one gives each transaction a time of its own and promises none.
    #[must_use]
    pub fn with_postfinance_open_for(self, time: Duration) -> Self {
        self.lock().postfinance.dialect = Box::new(PostFinance::open_for(time));
        self
    }

    /// The clock that all three share. A service in the same process can run on it.
    pub fn clock(&self) -> SandboxClock {
        self.clock.clone()
    }

    /// One provider, for an [`InProcessClient`](cardless_transport::InProcessClient).
    pub fn provider(&self, provider: Provider) -> ProviderHandle {
        ProviderHandle::new(self.clone(), provider)
    }

    /// What becomes of a request to `provider`: an answer, or what a fault makes of it.
    pub fn serve_call(&self, provider: Provider, request: Request) -> Reply {
        let now = self.clock.now();
        let mut state = self.lock();
        state.tick(now);
        let reply = state.serve(provider, request, now);
        self.announce_webhooks(state);
        reply
    }

    /// Every money movement that really took place, in order.
    pub fn ledger(&self) -> Vec<Entry> {
        self.lock().ledger.entries().to_vec()
    }

    /// Every request that arrived (the latest 10,000), of one provider or of all.
    pub fn requests(&self, provider: Option<Provider>) -> Vec<RecordedRequest> {
        self.lock().requests.of(provider)
    }

    /// Sets a fault behind those that wait already. With [`FaultKind::Refuse`], use
    /// [`Running::refuse`](crate::Running::refuse) if the sandbox serves sockets: here it holds for
    /// in-process clients.
    ///
    /// # Errors
    ///
    /// [`FaultError`].
    pub fn inject(&self, fault: Fault) -> Result<(), FaultError> {
        self.lock().faults.set(fault)
    }

    /// Moves the clock of all three forward, and concludes what falls due.
    pub fn advance(&self, by: Duration) -> Timestamp {
        self.clock.advance(by);
        self.tick();
        self.clock.now()
    }

    /// Concludes what has fallen due by the clock. Every call does this too, once for each second;
    /// it matters where the base clock moves and nobody calls.
    pub fn tick(&self) {
        let now = self.clock.now();
        let mut state = self.lock();
        state.tick_all(now);
        self.announce_webhooks(state);
    }

    /// The customer's bank takes back what a payment took; `object` is what the ledger calls it. No
    /// call of ours moves it, so it is not in the ledger. Answers whether there is such a payment
    /// and its provider shows it: PayPal alone.
    pub fn take_back(&self, provider: Provider, object: &str) -> bool {
        let now = self.clock.now();
        let mut state = self.lock();
        let done = state.within(provider, now, |dialect, world| {
            dialect.take_back(object, world)
        });
        self.announce_webhooks(state);
        done
    }

    /// Says where a provider's webhooks go, and how; it holds for those to come.
    pub fn route_webhooks(&self, route: &WebhookRoute) {
        let mut state = self.lock();
        let channel = state.channel(route.provider);
        channel.deliver = route.deliver;
        if let Some(url) = &route.url {
            channel.webhook_url = Some(url.clone());
        }
    }

    /// Takes the webhooks that wait, in the order in which they are to be delivered.
    pub fn take_webhooks(&self) -> Vec<OutgoingWebhook> {
        self.lock().webhooks.take(None)
    }

    /// The faults that wait for their calls; `times` is how many are left.
    pub fn waiting_faults(&self) -> Vec<Fault> {
        self.lock().faults.waiting()
    }

    /// Calls off every fault that has not befallen a call yet.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// Forgets everything: objects, ledger, requests, faults, webhooks and their routes, and the
    /// clock's advance. Only ids count on, so that none is given twice.
    pub fn reset(&self) {
        let mut state = self.lock();
        self.clock.reset();
        let now = self.clock.now();
        state.forget(now);
    }

    /// Tells a provider the address that it is reached at, without a slash at the end.
    pub fn set_base(&self, provider: Provider, base: String) {
        self.lock().channel(provider).base = base;
    }

    /// The address that a provider is reached at.
    pub fn base(&self, provider: Provider) -> String {
        self.lock().channel(provider).base.clone()
    }

    /// Takes the webhooks of one provider.
    pub(crate) fn take_webhooks_of(&self, provider: Provider) -> Vec<OutgoingWebhook> {
        self.lock().webhooks.take(Some(provider))
    }

    /// Changes whenever a webhook comes to wait.
    pub(crate) fn webhooks_wait(&self) -> watch::Receiver<()> {
        self.webhooks_wait.subscribe()
    }

    /// Whether webhooks of a provider wait that are to be reversed.
    pub(crate) fn gathers(&self, provider: Provider) -> bool {
        self.lock().webhooks.gathers(provider)
    }

    /// Tells those who post webhooks, once the lock is free.
    fn announce_webhooks(&self, state: MutexGuard<'_, State>) {
        let waiting = !state.webhooks.is_empty();
        drop(state);
        if waiting {
            self.webhooks_wait.send_replace(());
        }
    }

    /// A panic in a dialect must not take the ledger with it, so a poisoned lock is used on.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn serve(&mut self, provider: Provider, request: Request, now: Timestamp) -> Reply {
        let fault = self
            .faults
            .take(provider, request.method(), request.uri().path());
        if fault == Some(FaultKind::Refuse) {
            return Reply::Refuse;
        }
        self.requests.record(provider, now, &request);
        let Some(fault) = fault else {
            return Reply::Answer(self.answer(provider, request, Mode::Normal, now));
        };
        match fault {
            FaultKind::Refuse | FaultKind::DropBefore => Reply::Drop,
            FaultKind::Stall => Reply::Stall,
            FaultKind::ExecuteThenDrop => {
                self.answer(provider, request, Mode::Normal, now);
                Reply::Drop
            }
            FaultKind::ExecuteThen500 => {
                self.answer(provider, request, Mode::Normal, now);
                Reply::Answer(server_error())
            }
            FaultKind::HalfBody => {
                Reply::HalfBody(self.answer(provider, request, Mode::Normal, now))
            }
            FaultKind::Decline => Reply::Answer(self.answer(provider, request, Mode::Decline, now)),
            FaultKind::Pending => Reply::Answer(self.answer(provider, request, Mode::Pending, now)),
        }
    }

    fn answer(
        &mut self,
        provider: Provider,
        request: Request,
        mode: Mode,
        now: Timestamp,
    ) -> Response {
        let (parts, body) = request.into_parts();
        let call = Call {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers,
            body,
            mode,
        };
        self.within(provider, now, |dialect, world| dialect.answer(&call, world))
    }

    /// Tells the dialects of the time, once for each second.
    fn tick(&mut self, now: Timestamp) {
        if now.seconds() != self.ticked_at_seconds {
            self.tick_all(now);
        }
    }

    fn tick_all(&mut self, now: Timestamp) {
        self.ticked_at_seconds = now.seconds();
        for provider in Provider::ALL {
            self.within(provider, now, |dialect, world| dialect.tick(world));
        }
    }

    /// Lets a dialect act in its world, and queues the webhooks that come of it.
    fn within<T>(
        &mut self,
        provider: Provider,
        now: Timestamp,
        act: impl FnOnce(&mut dyn Dialect, &mut World<'_>) -> T,
    ) -> T {
        let channel = match provider {
            Provider::PayPal => &mut self.paypal,
            Provider::PostFinance => &mut self.postfinance,
            Provider::Aduno => &mut self.aduno,
        };
        let mut webhooks = Vec::new();
        let mut world = World {
            provider: provider.name(),
            now,
            base: &channel.base,
            webhook_url: channel.webhook_url.as_deref(),
            ledger: &mut self.ledger,
            webhooks: &mut webhooks,
            ids: &mut self.ids,
        };
        let result = act(channel.dialect.as_mut(), &mut world);
        for webhook in webhooks {
            self.webhooks.push(provider, channel.deliver, webhook);
        }
        result
    }

    fn channel(&mut self, provider: Provider) -> &mut Channel {
        match provider {
            Provider::PayPal => &mut self.paypal,
            Provider::PostFinance => &mut self.postfinance,
            Provider::Aduno => &mut self.aduno,
        }
    }

    fn forget(&mut self, now: Timestamp) {
        for provider in Provider::ALL {
            let channel = self.channel(provider);
            channel.dialect.reset();
            channel.webhook_url = None;
            channel.deliver = Deliver::default();
        }
        self.ledger.clear();
        self.requests.clear();
        self.faults.clear();
        self.webhooks.clear();
        self.ticked_at_seconds = now.seconds();
    }
}

impl Channel {
    fn new(dialect: Box<dyn Dialect>, address: SocketAddr) -> Self {
        Self {
            dialect,
            base: format!("http://{address}"),
            webhook_url: None,
            deliver: Deliver::default(),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a provider is paypal, postfinance or aduno")]
pub struct UnknownProvider;

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(name: &str) -> Result<Self, UnknownProvider> {
        let named = |provider: &Self| provider.name() == name;
        Self::ALL.into_iter().find(named).ok_or(UnknownProvider)
    }
}

fn server_error() -> Response {
    let mut response = Response::new(Bytes::from_static(b"internal server error\n"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain"),
    );
    response
}

#[cfg(test)]
mod tests {
    use cardless_contract::Delivery;
    use cardless_transport::HttpClient as _;

    use super::*;
    use crate::testing::{self, call, ledger_objects, sandbox};

    fn inject(sandbox: &Sandbox, fault: FaultKind, times: u32) {
        sandbox
            .inject(Fault {
                provider: Provider::PayPal,
                operation: Some("POST /v1/charge".parse().unwrap()),
                times,
                fault,
            })
            .unwrap();
    }

    #[test]
    fn each_fault_does_what_it_says() {
        for (fault, reply, executed) in [
            (FaultKind::Refuse, "refuse", false),
            (FaultKind::DropBefore, "drop", false),
            (FaultKind::Stall, "stall", false),
            (FaultKind::ExecuteThenDrop, "drop", true),
            (FaultKind::ExecuteThen500, "500", true),
            (FaultKind::HalfBody, "half", true),
            (FaultKind::Decline, "402", false),
            (FaultKind::Pending, "202", false),
        ] {
            let sandbox = sandbox();
            inject(&sandbox, fault, 1);
            let first = sandbox.serve_call(Provider::PayPal, call("POST", "/v1/charge"));
            assert_eq!(testing::word(&first), reply, "{fault:?}");
            assert_eq!(sandbox.ledger().len(), usize::from(executed), "{fault:?}");
            let arrived = usize::from(fault != FaultKind::Refuse);
            assert_eq!(sandbox.requests(None).len(), arrived, "{fault:?}");

            let second = sandbox.serve_call(Provider::PayPal, call("POST", "/v1/charge"));
            assert_eq!(testing::word(&second), "200", "{fault:?}");
        }
    }

    #[test]
    fn what_is_pending_succeeds_once_the_clock_moves() {
        let sandbox = sandbox();
        inject(&sandbox, FaultKind::Pending, 1);
        sandbox.serve_call(Provider::PayPal, call("POST", "/v1/charge"));
        sandbox.advance(Duration::from_secs(59));
        assert_eq!(sandbox.ledger().len(), 0);
        sandbox.advance(Duration::from_secs(1));
        assert_eq!(sandbox.ledger().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_in_process_client_counts_refusals_exactly() {
        let sandbox = sandbox();
        inject(&sandbox, FaultKind::Refuse, 3);
        let client = sandbox
            .provider(Provider::PayPal)
            .client(Duration::from_secs(30));
        for _ in 0..3 {
            let error = client.send(call("POST", "/v1/charge")).await.unwrap_err();
            assert_eq!(error.delivery(), Delivery::NotSent);
        }
        assert!(client.send(call("POST", "/v1/charge")).await.is_ok());
        assert_eq!(sandbox.ledger().len(), 1);
    }

    #[test]
    fn webhooks_follow_the_route() {
        let sandbox = sandbox();
        sandbox.route_webhooks(&WebhookRoute {
            provider: Provider::PayPal,
            url: Some("http://127.0.0.1:1/hook".to_owned()),
            deliver: Deliver::Reversed,
        });
        for _ in 0..2 {
            sandbox.serve_call(Provider::PayPal, call("POST", "/v1/charge"));
        }
        let bodies: Vec<_> = sandbox
            .take_webhooks()
            .into_iter()
            .map(|w| w.body)
            .collect();
        let charged: Vec<_> = ledger_objects(&sandbox)
            .into_iter()
            .map(Bytes::from)
            .collect();
        assert_eq!(bodies, charged.into_iter().rev().collect::<Vec<_>>());
    }

    #[test]
    fn requests_are_shown_without_credentials() {
        let sandbox = sandbox();
        let mut request = call("POST", "/v1/charge?a=b");
        let headers = request.headers_mut();
        headers.insert("authorization", "Bearer canary".parse().unwrap());
        headers.insert("cookie", "canary".parse().unwrap());
        headers.append("x-kept", "1".parse().unwrap());
        headers.append("x-kept", "2".parse().unwrap());
        sandbox.serve_call(Provider::Aduno, request);
        let shown = sandbox.requests(Some(Provider::Aduno));
        assert_eq!(sandbox.requests(Some(Provider::PayPal)), []);
        let shown = shown.first().unwrap();
        assert_eq!(
            (shown.path.as_str(), shown.query.as_deref()),
            ("/v1/charge", Some("a=b"))
        );
        assert_eq!(shown.headers["x-kept"], "1, 2");
        assert!(!format!("{shown:?}").contains("canary"));
    }

    #[test]
    fn reset_forgets_all_but_the_count_of_ids() {
        let sandbox = sandbox();
        sandbox.serve_call(Provider::PayPal, call("POST", "/v1/charge"));
        let first = ledger_objects(&sandbox);
        inject(&sandbox, FaultKind::Stall, 5);
        let start = sandbox.clock().now();
        sandbox.advance(Duration::from_secs(1000));
        sandbox.reset();
        assert_eq!(sandbox.clock().now(), start);
        assert!(sandbox.requests(None).is_empty() && sandbox.ledger().is_empty());
        let reply = sandbox.serve_call(Provider::PayPal, call("POST", "/v1/charge"));
        assert_eq!(testing::word(&reply), "200");
        assert_ne!(ledger_objects(&sandbox), first);
    }

    #[test]
    fn two_runs_are_alike() {
        let run = || {
            let sandbox = sandbox();
            for _ in 0..3 {
                sandbox.serve_call(Provider::PayPal, call("POST", "/v1/charge"));
                sandbox.advance(Duration::from_secs(1));
            }
            sandbox.ledger()
        };
        assert_eq!(run(), run());
    }
}
