//! A gateway over the three adapters over the sandbox, in one process, on one thread.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cardless::gateway::{Gateway, RequestKey};
use cardless::message::{Amount, Capture, Initiator, LinkRequest, PayRequest, Payment, Setup};
use cardless::store::{SqliteStore, Store, Threads};
use cardless::vault::KeyRing;
use cardless_contract::{Clock, PaymentProvider, SystemEntropy, Timestamp};
use cardless_sandbox::{
    Addresses, Entry, EntryKind, Fault, Provider, RecordedRequest, Sandbox, print_settings,
};
use cardless_testkit::overheard::Overheard;
use cardless_transport::{HttpClient, InProcessClient, Request, Response, SendError};
use http::Method;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a client waits for a stalled answer, in tokio's paused time.
const DEADLINE: Duration = Duration::from_secs(20);

/// Long enough that a token which is a number is not found by chance.
const FIRST_ID: u64 = 7_351_406_000;

/// A clock that goes on as tokio's paused time does. One that a test moved by itself would be a clock
/// that jumps.
#[derive(Debug)]
struct Morning(Instant);

impl Clock for Morning {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_795_000_000).plus(self.0.elapsed())
    }
}

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) gateway: Gateway,
    pub(crate) nap: Arc<Nap>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) key_file: String,
    url: String,
    order_flow: &'static str,
    keys: std::cell::Cell<u32>,
    heard: Overheard,
}

impl Drop for World {
    fn drop(&mut self) {
        self.heard.settings(&self.key_file);
        self.heard.settings(&print_settings(&Addresses::default()));
        for request in self.sandbox.requests(None) {
            self.heard.sent(&request.path, &request.body);
        }
    }
}

/// Where the whole process falls asleep, and what wakes it.
#[derive(Debug, Default)]
pub(crate) struct Nap {
    path: Mutex<Option<&'static str>>,
    over: Notify,
    /// The paths of all requests, slept after or not.
    asked: Mutex<Vec<String>>,
}

impl Nap {
    /// The next request to a path that starts like this is the last thing before sleep.
    pub(crate) fn after(&self, path: &'static str) {
        *self.path.lock().unwrap() = Some(path);
    }

    pub(crate) fn was_asked(&self, path: &str) -> bool {
        let asked = self.asked.lock().unwrap();
        asked.iter().any(|asked| asked.starts_with(path))
    }

    pub(crate) fn wake(&self) {
        self.over.notify_one();
    }
}

/// A client whose caller can fall asleep before it learns the answer.
#[derive(Debug)]
struct Sleeper {
    client: InProcessClient,
    nap: Arc<Nap>,
}

#[cardless_contract::async_trait]
impl HttpClient for Sleeper {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        let path = request.uri().path().to_owned();
        self.nap.asked.lock().unwrap().push(path.clone());
        let answer = self.client.send(request).await;
        let sleeps = {
            let mut start = self.nap.path.lock().unwrap();
            start.take_if(|start| path.starts_with(*start)).is_some()
        };
        if sleeps {
            self.nap.over.notified().await;
        }
        answer
    }
}

pub(crate) const ALL: [&str; 3] = ["postfinance", "paypal", "aduno"];

impl World {
    pub(crate) fn new() -> Self {
        Self::on("sqlite::memory:")
    }

    /// On a store of the test's own.
    pub(crate) fn on(url: &str) -> Self {
        Self::with(url, "two_calls")
    }

    /// PayPal is given the token with the order.
    pub(crate) fn one_call() -> Self {
        Self::with("sqlite::memory:", "one_call")
    }

    fn with(url: &str, order_flow: &'static str) -> Self {
        let heard = Overheard::default();
        let sandbox = Sandbox::new(Arc::new(Morning(Instant::now()))).with_first_id(FIRST_ID);
        let key_file = KeyRing::generate(&SystemEntropy).unwrap().to_string();
        let nap = Arc::new(Nap::default());
        let (store, gateway) = process(&sandbox, &nap, url, &key_file, order_flow);
        Self {
            sandbox,
            gateway,
            nap,
            store,
            key_file,
            url: url.to_owned(),
            order_flow,
            keys: std::cell::Cell::new(0),
            heard,
        }
    }

    /// The process ends, and another begins on the same file.
    pub(crate) fn restart(&mut self) {
        let (store, gateway) = process(
            &self.sandbox,
            &self.nap,
            &self.url,
            &self.key_file,
            self.order_flow,
        );
        self.gateway = gateway;
        self.store = store;
    }

    pub(crate) fn key(&self) -> RequestKey {
        self.keys.set(self.keys.get() + 1);
        RequestKey::new("test", format!("key-{}", self.keys.get())).unwrap()
    }

    pub(crate) fn sandbox_provider(name: &str) -> Provider {
        match name {
            "paypal" => Provider::PayPal,
            "postfinance" => Provider::PostFinance,
            _ => Provider::Aduno,
        }
    }

    pub(crate) async fn begin(&self, provider: &str, amount: Option<i64>) -> Setup {
        let request = LinkRequest {
            account: "acct-7".into(),
            provider: provider.into(),
            return_url: "https://shop.example/back".into(),
            language: None,
            amount: amount.map(|minor| Amount::new("CHF", minor)),
            reference: amount.map(|_| "first-1".into()),
            capture: None,
        };
        let answer = self.gateway.link(&self.key(), &request).await.unwrap();
        answer.body
    }

    /// PostFinance, as its back office works with it.
    pub(crate) fn back_office(&self) -> cardless_postfinance::PostFinance {
        let settings: toml::Table = print_settings(&Addresses::default()).parse().unwrap();
        let postfinance = settings["providers"]["postfinance"].clone();
        let client = self.sandbox.provider(Provider::PostFinance);
        cardless_postfinance::PostFinance::new(
            postfinance.try_into().unwrap(),
            Arc::new(client.client(DEADLINE)),
            Arc::new(self.sandbox.clock()),
        )
        .unwrap()
    }

    /// Brings the webhooks that wait and hold this text.
    pub(crate) async fn bring(&self, provider: &str, text: &str) -> usize {
        let holds = |body: &Bytes| String::from_utf8_lossy(body).contains(text);
        let mut brought = 0;
        for webhook in self.sandbox.take_webhooks() {
            if !holds(&webhook.body) {
                continue;
            }
            let mut headers = http::HeaderMap::new();
            for (name, value) in &webhook.headers {
                let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, value.parse().unwrap());
            }
            let told = self.gateway.notification(provider, &headers, &webhook.body);
            told.await.unwrap();
            brought += 1;
        }
        brought
    }

    /// Presses a button on a hosted page and follows the browser back to us.
    pub(crate) async fn decide(&self, provider: &str, page: &str, decision: &str) -> String {
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(page)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(format!("decision={decision}")))
            .unwrap();
        let client = self
            .sandbox
            .provider(Self::sandbox_provider(provider))
            .client(DEADLINE);
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.status(), 303, "{:?}", answer.body());
        let location = answer.headers()["location"].to_str().unwrap();
        let back = location
            .strip_prefix("http://127.0.0.1:8080/return/")
            .unwrap();
        self.gateway.returned(back).await.unwrap().location
    }

    /// The latest way back that a provider was told, as what follows `/return/`.
    pub(crate) fn way_back(&self) -> String {
        const RETURN: &str = "http://127.0.0.1:8080/return/";
        let requests = self.sandbox.requests(None);
        let mut told = requests.iter().rev().filter_map(|request| {
            let (_, after) = request.body.split_once(RETURN)?;
            let end = after.find(['"', '?', '&'])?;
            Some(after.get(..end)?.to_owned())
        });
        told.next().unwrap()
    }

    pub(crate) async fn link(&self, provider: &str) -> String {
        let setup = self.begin(provider, None).await;
        self.decide(provider, setup.redirect_url.as_deref().unwrap(), "approve")
            .await;
        let setup = self.gateway.setup(&setup.id).await.unwrap();
        setup
            .payment_method
            .unwrap_or_else(|| panic!("{provider}: {:?}", setup.status))
    }

    pub(crate) fn charge(method: &str, minor: i64, reference: &str) -> PayRequest {
        PayRequest {
            account: "acct-7".into(),
            payment_method: Some(method.into()),
            amount: Amount::new("CHF", minor),
            reference: reference.into(),
            capture: Capture::Automatic,
            initiator: Initiator::Merchant,
            return_url: None,
            description: Some("Monthly plan".into()),
        }
    }

    pub(crate) async fn pay(&self, request: &PayRequest) -> Payment {
        self.gateway.pay(&self.key(), request).await.unwrap().body
    }

    /// Time passes, and the sandbox concludes what falls due.
    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
        self.sandbox.tick();
    }

    /// Lets the clock run and the resolver ask until nothing is open.
    pub(crate) async fn settle(&self) {
        for _ in 0..40 {
            let report = self.gateway.reconcile().await.unwrap();
            if report.still_open + report.leased == 0 {
                assert_eq!(report.errors, 0);
                return;
            }
            self.pass(Duration::from_secs(20)).await;
        }
        panic!("still open: {:?}", self.gateway.reconcile().await);
    }

    pub(crate) fn inject(&self, provider: &str, operation: &str, fault: &str) {
        let fault: Fault = serde_json::from_value(serde_json::json!({
            "provider": provider, "operation": operation, "times": 1, "fault": fault,
        }))
        .unwrap();
        self.sandbox.inject(fault).unwrap();
    }

    /// The requests to an operation, in the words of the sandbox's faults.
    fn sent(&self, operation: &str) -> Vec<RecordedRequest> {
        let (method, path) = operation.split_once(' ').unwrap();
        let is_of = |one: &RecordedRequest| one.method == method && one.path.starts_with(path);
        let requests = self.sandbox.requests(None);
        requests.into_iter().filter(is_of).collect()
    }

    pub(crate) fn count_sent(&self, operation: &str) -> usize {
        self.sent(operation).len()
    }

    /// By which ids PayPal was asked for this, and how often.
    pub(crate) fn paypal_request_ids(&self, operation: &str) -> (BTreeSet<String>, usize) {
        let sent = self.sent(operation);
        let id = |one: &RecordedRequest| one.headers["paypal-request-id"].clone();
        (sent.iter().map(id).collect(), sent.len())
    }

    pub(crate) fn moved(&self, kind: EntryKind) -> Vec<i64> {
        let of_kind = |entry: &Entry| (entry.kind == kind).then(|| entry.amount.minor());
        self.sandbox.ledger().iter().filter_map(of_kind).collect()
    }
}

/// A process over the sandbox and a store.
fn process(
    sandbox: &Sandbox,
    nap: &Arc<Nap>,
    url: &str,
    key_file: &str,
    order_flow: &str,
) -> (Arc<dyn Store>, Gateway) {
    let mut settings: toml::Table = print_settings(&Addresses::default()).parse().unwrap();
    let paypal = settings["providers"]["paypal"].as_table_mut().unwrap();
    paypal.insert("order_flow".into(), order_flow.into());
    let table = |name: &str| settings["providers"][name].clone();
    let clock: Arc<dyn Clock> = Arc::new(sandbox.clock());
    let client = |provider| -> Arc<Sleeper> {
        Arc::new(Sleeper {
            client: sandbox.provider(provider).client(DEADLINE),
            nap: Arc::clone(nap),
        })
    };
    let providers: [Arc<dyn PaymentProvider>; 3] = [
        Arc::new(
            cardless_paypal::PayPal::new(
                table("paypal").try_into().unwrap(),
                client(Provider::PayPal),
                Arc::clone(&clock),
            )
            .unwrap(),
        ),
        Arc::new(
            cardless_postfinance::PostFinance::new(
                table("postfinance").try_into().unwrap(),
                client(Provider::PostFinance),
                Arc::clone(&clock),
            )
            .unwrap(),
        ),
        Arc::new(
            cardless_aduno::Aduno::new(
                table("aduno").try_into().unwrap(),
                client(Provider::Aduno),
                Arc::clone(&clock),
            )
            .unwrap(),
        ),
    ];
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(url, Threads::Caller).unwrap());
    let mut builder = Gateway::builder()
        .store(Arc::clone(&store))
        .keys(KeyRing::parse(key_file).unwrap())
        .clock(Arc::clone(&clock));
    for provider in providers {
        builder = builder.provider(provider);
    }
    (store, builder.build().unwrap())
}
