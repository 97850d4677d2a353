//! Adapters before the sandbox, in process: no socket, and a clock that the case moves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cardless_contract::{PaymentProvider, RedirectUrl, Timestamp, async_trait};
use cardless_sandbox::{
    Addresses, Deliver, EntryKind, Fault as Injected, FaultKind, Sandbox, WebhookRoute,
    print_settings,
};
use cardless_testkit::call::{WEBHOOK_URL, moment};
use cardless_testkit::cases::sandbox::{Decision, Delivered, Fault, Fixture, Kind, Movement, Step};
use cardless_testkit::judge::{Fault as JudgedFault, Judge, JudgedClient};
use cardless_testkit::overheard::Overheard;
use cardless_transport::{HttpClient, Request};
use http::{HeaderMap, HeaderName, HeaderValue};
use toml::Table;

use crate::adapters::Adapter;

/// How long an adapter waits for a stalled answer, in seconds of a time that stands still.
const DEADLINE_SECONDS: u64 = 30;

/// Long enough that a token which is a number is not found by chance.
const FIRST_ID: u64 = 7_351_406_000;

pub(crate) struct Sandboxed {
    adapter: Adapter,
    sandbox: Sandbox,
    client: JudgedClient,
    provider: Box<dyn PaymentProvider>,
    heard: Overheard,
}

impl Drop for Sandboxed {
    fn drop(&mut self) {
        for request in self.sandbox.requests(None) {
            self.heard.sent(&request.path, &request.body);
        }
    }
}

pub(crate) fn postfinance() -> Sandboxed {
    Sandboxed::new(Adapter::PostFinance)
}

pub(crate) fn paypal_vault() -> Sandboxed {
    Sandboxed::new(Adapter::PayPalVault)
}

pub(crate) fn paypal_agreement() -> Sandboxed {
    Sandboxed::new(Adapter::PayPalAgreement)
}

pub(crate) fn paypal_one_call() -> Sandboxed {
    Sandboxed::new(Adapter::PayPalOneCall)
}

pub(crate) fn aduno() -> Sandboxed {
    Sandboxed::new(Adapter::Aduno)
}

#[derive(Debug)]
struct Still;

impl cardless_contract::Clock for Still {
    fn now(&self) -> Timestamp {
        moment()
    }
}

impl Sandboxed {
    pub(crate) fn new(adapter: Adapter) -> Self {
        let heard = Overheard::default();
        heard.settings(&print_settings(&Addresses::default()));
        let sandbox = Sandbox::new(Arc::new(Still)).with_first_id(FIRST_ID);
        let name = adapter.provider();
        sandbox.route_webhooks(&WebhookRoute {
            provider: name,
            url: Some(WEBHOOK_URL.to_owned()),
            deliver: Deliver::Now,
        });
        let wire = sandbox
            .provider(name)
            .client(Duration::from_secs(DEADLINE_SECONDS));
        let client = JudgedClient::new(Arc::new(wire), Judge::for_provider(name.name()), true);
        let provider = adapter.build(
            &sandbox.base(name),
            Arc::new(client.clone()),
            Arc::new(sandbox.clock()),
        );
        Self {
            adapter,
            sandbox,
            client,
            provider,
            heard,
        }
    }

    /// Another adapter of the same settings before the same sandbox.
    pub(crate) fn another(&self) -> Box<dyn PaymentProvider> {
        let client = Arc::new(self.client.clone());
        let clock = Arc::new(self.sandbox.clock());
        let base = self.sandbox.base(self.adapter.provider());
        self.adapter.build(&base, client, clock)
    }

    /// Another adapter with more settings, which sends through what `outside` makes of the client.
    pub(crate) fn another_through(
        &self,
        more: &Table,
        outside: impl FnOnce(Arc<dyn HttpClient>) -> Arc<dyn HttpClient>,
    ) -> Box<dyn PaymentProvider> {
        let client = outside(Arc::new(self.client.clone()));
        let clock = Arc::new(self.sandbox.clock());
        let base = self.sandbox.base(self.adapter.provider());
        self.adapter.build_with(more, &base, client, clock)
    }

    fn browser(&self) -> impl HttpClient {
        let deadline = Duration::from_secs(DEADLINE_SECONDS);
        self.sandbox
            .provider(self.adapter.provider())
            .client(deadline)
    }
}

#[async_trait]
impl Fixture for Sandboxed {
    fn provider(&self) -> &dyn PaymentProvider {
        self.provider.as_ref()
    }

    fn stranger(&self) -> Box<dyn PaymentProvider> {
        let name = self.adapter.provider();
        let client = Arc::new(self.client.clone());
        let clock = Arc::new(self.sandbox.clock());
        self.adapter
            .build_stranger(&self.sandbox.base(name), client, clock)
    }

    async fn decide(&self, page: &RedirectUrl, decision: Decision) {
        let decision = match decision {
            Decision::Approve => "decision=approve",
            Decision::Decline => "decision=decline",
            Decision::Abandon => "decision=abandon",
        };
        let shown = http::Request::get(page.expose())
            .body(Bytes::new())
            .unwrap();
        let shown = self.browser().send(shown).await.unwrap();
        assert_eq!(shown.status(), 200, "the hosted page");
        let decided = http::Request::post(page.expose())
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(Bytes::from_static(decision.as_bytes()))
            .unwrap();
        let decided = self.browser().send(decided).await.unwrap();
        assert_eq!(decided.status(), 303, "the decision");
    }

    fn inject(&self, step: Step, fault: Fault) {
        let name = self.adapter.provider();
        let agreements = self.adapter == Adapter::PayPalAgreement;
        // In one call the order's creation holds the amount, and the commit captures the hold.
        let captures = self.adapter == Adapter::PayPalOneCall && step == Step::Commit;
        let step = if captures { Step::Capture } else { step };
        let operation = step.operation(name.name(), agreements).parse().unwrap();
        let fault = match fault {
            Fault::Refuse => FaultKind::Refuse,
            Fault::DropBefore => FaultKind::DropBefore,
            Fault::Stall => FaultKind::Stall,
            Fault::ExecuteThenDrop => FaultKind::ExecuteThenDrop,
            Fault::ExecuteThen500 => FaultKind::ExecuteThen500,
            Fault::HalfBody => FaultKind::HalfBody,
            Fault::Decline => FaultKind::Decline,
            Fault::Pending => FaultKind::Pending,
        };
        let injected = Injected {
            provider: name,
            operation: Some(operation),
            times: 1,
            fault,
        };
        self.sandbox.inject(injected).unwrap();
    }

    fn advance(&self, by: Duration) {
        self.sandbox.advance(by);
    }

    fn movements(&self) -> Vec<Movement> {
        let kind = |kind| match kind {
            EntryKind::Authorize => Kind::Authorize,
            EntryKind::Capture => Kind::Capture,
            EntryKind::Void => Kind::Void,
            EntryKind::Refund => Kind::Refund,
        };
        let entries = self.sandbox.ledger().into_iter();
        entries
            .map(|entry| Movement {
                kind: kind(entry.kind),
                amount: entry.amount,
            })
            .collect()
    }

    fn deliveries(&self) -> Vec<Delivered> {
        let headers = |list: Vec<(String, String)>| -> HeaderMap {
            list.into_iter()
                .map(|(name, value)| {
                    let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                    (name, HeaderValue::from_str(&value).unwrap())
                })
                .collect()
        };
        let sent = self.sandbox.take_webhooks().into_iter();
        sent.map(|webhook| Delivered {
            headers: headers(webhook.headers),
            body: webhook.body,
        })
        .collect()
    }

    fn sent(&self) -> Vec<Request> {
        self.client.sent()
    }

    fn faults(&self) -> Vec<JudgedFault> {
        self.client.faults()
    }
}
