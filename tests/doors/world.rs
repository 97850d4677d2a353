use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use cardless::config::{Environment, Settings};
use cardless::gateway::{Gateway, RequestKey};
use cardless::message::{Amount, Capture, Initiator, LinkRequest, PayRequest, Payment, Setup};
use cardless::serve::router;
use cardless::store::{SqliteStore, Threads};
use cardless::vault::KeyRing;
use cardless_aduno::Aduno;
use cardless_contract::{Clock, PaymentProvider, SystemEntropy, Timestamp, async_trait};
use cardless_paypal::PayPal;
use cardless_postfinance::PostFinance;
use cardless_sandbox::{
    Addresses, Deliver, Fault, Provider, Sandbox, WebhookRoute, print_settings,
};
use cardless_testkit::lines::Lines;
use cardless_testkit::overheard::Overheard;
use cardless_transport::{HttpClient, InProcessClient, Request, Response, SendError};
use rusqlite::types::Value;
use tower::ServiceExt as _;

use crate::certificates;
use crate::webhook::Webhook;

/// How long a client waits for a stalled answer, in tokio's paused time.
const DEADLINE: Duration = Duration::from_secs(20);

/// Where the service is reached; nothing listens there.
const PUBLIC_URL: &str = "http://127.0.0.1:8080";

/// The account that everything belongs to.
pub(crate) const ACCOUNT: &str = "acct-7";

/// Long enough that a token which is a number is not found by chance.
const FIRST_ID: u64 = 7_351_406_000;

#[derive(Debug)]
struct Morning;

impl Clock for Morning {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_795_000_000)
    }
}

/// The service's router over the gateway, the three adapters and the sandbox, on one thread, with
/// its store in a file that the test can read beside it.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) gateway: Gateway,
    pub(crate) wire: Wire,
    pub(crate) lines: Lines,
    pub(crate) router: Router,
    database: rusqlite::Connection,
    _folder: tempfile::TempDir,
    keys: std::cell::Cell<u32>,
    heard: Overheard,
}

impl Drop for World {
    fn drop(&mut self) {
        for request in self.sandbox.requests(None) {
            self.heard.sent(&request.path, &request.body);
        }
        self.heard
            .judge("the lines of the test", &self.lines.text());
    }
}

/// What the router answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::on(Threads::Caller)
    }

    /// The same with a store that runs where it is said.
    pub(crate) fn on(threads: Threads) -> Self {
        let heard = Overheard::default();
        heard.settings(&print_settings(&Addresses::default()));
        let sandbox = Sandbox::new(Arc::new(Morning)).with_first_id(FIRST_ID);
        for provider in Provider::ALL {
            sandbox.route_webhooks(&WebhookRoute {
                provider,
                url: Some(format!("{PUBLIC_URL}/webhooks/{}", provider.name())),
                deliver: Deliver::Now,
            });
        }
        let clock: Arc<dyn Clock> = Arc::new(sandbox.clock());
        let wire = Wire::default();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.db");
        let store = SqliteStore::open(&format!("sqlite:{}", file.display()), threads);
        let keys = KeyRing::generate(&SystemEntropy).unwrap();
        heard.settings(&keys);
        let mut builder = Gateway::builder()
            .public_url(PUBLIC_URL)
            .store(Arc::new(store.unwrap()))
            .keys(KeyRing::parse(&keys).unwrap())
            .clock(Arc::clone(&clock));
        for provider in adapters(&sandbox, &wire, &clock) {
            builder = builder.provider(provider);
        }
        let gateway = builder.build().unwrap();
        Self {
            router: router(gateway.clone()),
            database: rusqlite::Connection::open(file).unwrap(),
            sandbox,
            gateway,
            wire,
            lines: Lines::default(),
            _folder: folder,
            keys: std::cell::Cell::new(0),
            heard,
        }
    }

    pub(crate) fn key(&self) -> RequestKey {
        self.keys.set(self.keys.get() + 1);
        RequestKey::new("shop", format!("key-{}", self.keys.get())).unwrap()
    }

    pub(crate) async fn begin(&self, provider: Provider) -> Setup {
        let request = LinkRequest {
            account: ACCOUNT.to_owned(),
            provider: provider.name().to_owned(),
            return_url: "https://shop.example/back".to_owned(),
            language: None,
            amount: None,
            reference: None,
            capture: None,
        };
        self.gateway.link(&self.key(), &request).await.unwrap().body
    }

    /// The customer approves on the hosted page; the browser does not come back.
    pub(crate) async fn approve(&self, provider: Provider, setup: &Setup) {
        let form = http::Request::post(setup.redirect_url.as_deref().unwrap())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from_static(b"decision=approve"));
        let browser = self.sandbox.provider(provider).client(DEADLINE);
        let answer = browser.send(form.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 303);
    }

    /// Links a method and gives its handle.
    pub(crate) async fn link(&self, provider: Provider) -> String {
        let setup = self.begin(provider).await;
        self.approve(provider, &setup).await;
        let setup = self.gateway.complete_link(&setup.id).await.unwrap();
        setup.payment_method.unwrap()
    }

    /// A charge that is taken at once.
    pub(crate) async fn pay(&self, method: &str, minor: i64) -> Payment {
        self.charge(method, minor, Capture::Automatic).await
    }

    pub(crate) async fn charge(&self, method: &str, minor: i64, capture: Capture) -> Payment {
        let key = self.key();
        let request = PayRequest {
            account: ACCOUNT.to_owned(),
            payment_method: Some(method.to_owned()),
            amount: Amount::new("CHF", minor),
            reference: format!("invoice-{}", self.keys.get()),
            capture,
            initiator: Initiator::Merchant,
            return_url: None,
            description: None,
        };
        self.gateway.pay(&key, &request).await.unwrap().body
    }

    /// Lets a fault befall the next call of this kind.
    pub(crate) fn inject(&self, provider: Provider, operation: &str, fault: &str) {
        let fault: Fault = serde_json::from_value(serde_json::json!({
            "provider": provider.name(), "operation": operation, "times": 1, "fault": fault,
        }))
        .unwrap();
        self.sandbox.inject(fault).unwrap();
    }

    /// The webhooks that wait, as they would be posted.
    pub(crate) fn webhooks(&self) -> Vec<Webhook> {
        self.sandbox
            .take_webhooks()
            .into_iter()
            .map(Webhook::from)
            .collect()
    }

    /// Brings a webhook to its door.
    pub(crate) async fn bring(&self, webhook: &Webhook) -> Answer {
        let mut request = http::Request::builder()
            .method(webhook.method.clone())
            .uri(&webhook.path)
            .body(Body::from(webhook.body.clone()))
            .unwrap();
        request.headers_mut().clone_from(&webhook.headers);
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        Answer {
            status,
            text: String::from_utf8(body.unwrap().to_vec()).unwrap(),
        }
    }

    /// Lets the resolver look at what is due, or was woken.
    pub(crate) async fn resolve(&self) {
        self.gateway.run(tokio::time::sleep(DEADLINE)).await;
    }

    /// Every row of every table, as text.
    pub(crate) fn rows(&self) -> BTreeMap<String, Vec<String>> {
        let mut statement = self
            .database
            .prepare_cached("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            .unwrap();
        let names = statement.query_map([], |row| row.get::<_, String>(0));
        let names: Vec<String> = names.unwrap().map(Result::unwrap).collect();
        names
            .into_iter()
            .map(|name| {
                let rows = self.rows_of(&name);
                (name, rows)
            })
            .collect()
    }

    fn rows_of(&self, table: &str) -> Vec<String> {
        let query = format!("SELECT * FROM {table}");
        let mut statement = self.database.prepare_cached(&query).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            let values = (0..columns).map(|column| row.get::<_, Value>(column));
            values.collect::<Result<Vec<Value>, _>>()
        });
        let mut rows: Vec<String> = rows
            .unwrap()
            .map(|row| format!("{:?}", row.unwrap()))
            .collect();
        rows.sort();
        rows
    }
}

fn adapters(
    sandbox: &Sandbox,
    wire: &Wire,
    clock: &Arc<dyn Clock>,
) -> [Arc<dyn PaymentProvider>; 3] {
    let text = print_settings(&Addresses::default());
    let roots = format!("webhook_roots = \"\"\"\n{}", certificates::root_pem());
    let text = text.replace("webhook_roots = \"\"\"\n", &roots);
    let settings = Settings::parse(Path::new("test"), &text, &Environment::default()).unwrap();
    let tap = |provider: Provider| {
        let inner = sandbox.provider(provider).client(DEADLINE);
        let wire = wire.clone();
        Arc::new(Tap { inner, wire })
    };
    let config = settings.provider("paypal").unwrap().unwrap();
    let paypal = PayPal::new(config, tap(Provider::PayPal), clock.clone()).unwrap();
    let config = settings.provider("postfinance").unwrap().unwrap();
    let postfinance = PostFinance::new(config, tap(Provider::PostFinance), clock.clone()).unwrap();
    let config = settings.provider("aduno").unwrap().unwrap();
    let aduno = Aduno::new(config, tap(Provider::Aduno), clock.clone()).unwrap();
    [Arc::new(paypal), Arc::new(postfinance), Arc::new(aduno)]
}

/// What the adapters ask for, and files that a test lays beside the sandbox's.
#[derive(Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    requests: Vec<String>,
    files: BTreeMap<String, Bytes>,
}

impl Wire {
    /// Methods and paths, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.0.lock().unwrap().requests.clone()
    }

    /// Answers this path with a file.
    pub(crate) fn lay(&self, path: &str, file: impl Into<Bytes>) {
        let mut asked = self.0.lock().unwrap();
        asked.files.insert(path.to_owned(), file.into());
    }
}

struct Tap {
    inner: InProcessClient,
    wire: Wire,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

#[async_trait]
impl HttpClient for Tap {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        let path = request.uri().path().to_owned();
        let file = {
            let mut asked = self.wire.0.lock().unwrap();
            asked.requests.push(format!("{} {path}", request.method()));
            asked.files.get(&path).cloned()
        };
        // Others go first, as over a network.
        tokio::task::yield_now().await;
        let answer = match file {
            Some(file) => Ok(Response::new(file)),
            None => self.inner.send(request).await,
        };
        tokio::task::yield_now().await;
        answer
    }
}
