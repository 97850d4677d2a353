use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use cardless::client::Client;
use cardless::config::{Environment, Settings};
use cardless::gateway::{Gateway, Role};
use cardless::registry;
use cardless::serve::{router, serve};
use cardless::store::{SqliteStore, Threads};
use cardless::vault::KeyRing;
use cardless_contract::{Clock, SystemEntropy, Timestamp};
use cardless_sandbox::{Addresses, Deliver, Provider, Running, Sandbox, Servers, WebhookRoute};
use cardless_testkit::overheard::Overheard;
use cardless_transport::{HttpClient, Response};
use http::{HeaderMap, Method, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The three providers, as callers write them.
pub(crate) const ALL: [&str; 3] = ["postfinance", "paypal", "aduno"];

/// Long enough that a token which is a number is not found by chance.
pub(crate) const FIRST_ID: u64 = 7_351_406_000;

/// The account that pays.
pub(crate) const ACCOUNT: &str = "acct-7";

/// A clock that stands still: nothing falls due unless the sandbox's clock is moved.
#[derive(Debug)]
struct Morning;

impl Clock for Morning {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_795_000_000)
    }
}

/// The service and the three providers, each behind a socket, and a billing service's key.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) servers: Running,
    pub(crate) gateway: Gateway,
    /// Where the service is.
    pub(crate) base: String,
    http: Arc<dyn HttpClient>,
    api_key: String,
    service: JoinHandle<std::io::Result<()>>,
    keys: Cell<u32>,
    heard: Overheard,
}

impl Drop for World {
    fn drop(&mut self) {
        self.service.abort();
        for request in self.sandbox.requests(None) {
            self.heard.sent(&request.path, &request.body);
        }
    }
}

impl World {
    /// The resolver does not run, and no webhook is delivered.
    pub(crate) async fn new() -> Self {
        Self::with_public_url(None).await
    }

    /// The same, with an address of another for what providers and browsers are told.
    pub(crate) async fn with_public_url(public_url: Option<&str>) -> Self {
        Self::with(public_url, "").await
    }

    /// The same, with more settings.
    pub(crate) async fn with(public_url: Option<&str>, more: &str) -> Self {
        let heard = Overheard::default();
        let sandbox = Sandbox::new(Arc::new(Morning)).with_first_id(FIRST_ID);
        let servers = Servers::start(sandbox.clone(), Addresses::free())
            .await
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let public_url = public_url.map_or_else(|| base.clone(), str::to_owned);
        let text = cardless_sandbox::print_settings(servers.addresses()) + more;
        heard.settings(&text);
        let settings = Settings::parse("cardless.toml".as_ref(), &text, &Environment::default());
        let settings = settings.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(sandbox.clock());
        let keys = KeyRing::generate(&SystemEntropy).unwrap();
        heard.settings(&keys);
        let store = SqliteStore::open("sqlite::memory:", Threads::Caller).unwrap();
        let mut builder = Gateway::builder()
            .public_url(&public_url)
            .store(Arc::new(store))
            .keys(KeyRing::parse(&keys).unwrap())
            .clock(Arc::clone(&clock));
        for provider in registry::providers(&settings, &clock).unwrap() {
            builder = builder.provider(provider);
        }
        let builder = registry::events(&settings, builder).unwrap();
        let gateway = builder.build().unwrap();
        let api_key = gateway.add_client("shop", Role::Billing).await.unwrap();
        heard.plant("an API key", &api_key);
        let service = serve(listener, router(gateway.clone()), std::future::pending());
        let world = Self {
            sandbox,
            servers,
            http: registry::client(&settings).unwrap(),
            service: tokio::spawn(service),
            gateway,
            base,
            api_key,
            keys: Cell::new(0),
            heard,
        };
        world.deliver(&public_url, Deliver::Never);
        world
    }

    /// The billing service, through the library's own client.
    pub(crate) fn client(&self) -> Client {
        let http = Arc::clone(&self.http);
        Client::new(&self.base, self.api_key.clone(), http).unwrap()
    }

    /// Says how webhooks are delivered, and where the service is for those who are not told.
    pub(crate) fn deliver(&self, public_url: &str, deliver: Deliver) {
        for name in ALL {
            self.sandbox.route_webhooks(&WebhookRoute {
                provider: provider(name),
                url: Some(format!("{public_url}/webhooks/{name}")),
                deliver,
            });
        }
    }

    /// One that was not used before.
    pub(crate) fn key(&self) -> String {
        self.keys.set(self.keys.get() + 1);
        format!("key-{}", self.keys.get())
    }

    /// A request to any address.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
    ) -> Response {
        let mut request = http::Request::builder().method(method).uri(url);
        *request.headers_mut().unwrap() = headers;
        let request = request.body(body.into()).unwrap();
        self.http.send(request).await.unwrap()
    }

    /// A call of the billing service.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: impl Into<Bytes>,
    ) -> Response {
        let mut headers = HeaderMap::new();
        let bearer = format!("Bearer {}", self.api_key);
        headers.insert(header::AUTHORIZATION, bearer.parse().unwrap());
        headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        headers.insert("idempotency-key", key.parse().unwrap());
        let url = format!("{}{path}", self.base);
        self.send(method, &url, headers, body).await
    }

    /// A `POST` with a key of its own, and what came back: status and body.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let key = self.key();
        let answer = self.call(Method::POST, path, &key, body.to_string()).await;
        (answer.status().as_u16(), json_of(&answer))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.call(Method::GET, path, "-", "").await;
        assert_eq!(answer.status(), 200, "{path}: {:?}", answer.body());
        json_of(&answer)
    }

    /// Presses a button of a hosted page and follows the browser to the service; gives where the
    /// service sends it.
    pub(crate) async fn press(&self, page: &str, button: &str) -> String {
        let back: http::Uri = self.decide(page, button).await.parse().unwrap();
        let back = format!("{}{}", self.base, back.path_and_query().unwrap());
        let answer = self.send(Method::GET, &back, HeaderMap::new(), "").await;
        location(&answer)
    }

    /// Presses a button of a hosted page and stays there; gives where the browser would go.
    pub(crate) async fn decide(&self, page: &str, button: &str) -> String {
        let form = "application/x-www-form-urlencoded".parse().unwrap();
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, form)]);
        let decision = format!("decision={button}");
        location(&self.send(Method::POST, page, headers, decision).await)
    }

    /// Begins to link a method of the account.
    pub(crate) async fn begin(&self, provider: &str) -> Value {
        let request = json!({
            "account": ACCOUNT, "provider": provider, "return_url": "https://shop.example/back",
        });
        let (status, setup) = self.post("/v1/setups", &request).await;
        assert_eq!(status, 201, "{setup}");
        setup
    }

    /// Links a method of the account and gives its handle.
    pub(crate) async fn link(&self, provider: &str) -> String {
        let setup = self.begin(provider).await;
        let id = setup["id"].as_str().unwrap();
        let back = self
            .press(setup["redirect_url"].as_str().unwrap(), "approve")
            .await;
        let wanted = format!("https://shop.example/back?setup={id}&status=completed");
        assert_eq!(back, wanted, "{provider}");
        let setup = self.get(&format!("/v1/setups/{id}")).await;
        setup["payment_method"].as_str().unwrap().to_owned()
    }

    /// Charges the account.
    pub(crate) async fn pay(&self, minor: i64, capture: &str) -> (u16, Value) {
        let reference = format!("invoice {}", self.keys.get());
        self.post("/v1/payments", &charge(minor, capture, &reference))
            .await
    }

    /// The ledger of the sandbox's control port: kinds and amounts, in order.
    pub(crate) async fn ledger(&self) -> Vec<(String, i64)> {
        let url = format!("http://{}/ledger", self.servers.addresses().control);
        let answer = self.send(Method::GET, &url, HeaderMap::new(), "").await;
        let ledger = json_of(&answer);
        let entry = |entry: &Value| {
            let kind = entry["kind"].as_str().unwrap().to_owned();
            (kind, entry["amount"]["minor"].as_i64().unwrap())
        };
        ledger["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(entry)
            .collect()
    }

    /// Lets a fault befall the next call of this kind.
    pub(crate) fn inject(&self, provider: &str, operation: &str, fault: &str) {
        let fault = json!({
            "provider": provider, "operation": operation, "times": 1, "fault": fault,
        });
        let fault = serde_json::from_value(fault).unwrap();
        self.sandbox.inject(fault).unwrap();
    }
}

pub(crate) fn provider(name: &str) -> Provider {
    serde_json::from_value(json!(name)).unwrap()
}

pub(crate) fn charge(minor: i64, capture: &str, reference: &str) -> Value {
    json!({
        "account": ACCOUNT,
        "amount": { "currency": "CHF", "minor": minor },
        "reference": reference,
        "capture": capture,
        "initiator": "merchant",
    })
}

pub(crate) fn json_of(answer: &Response) -> Value {
    serde_json::from_slice(answer.body()).unwrap_or_default()
}

fn location(answer: &Response) -> String {
    assert_eq!(answer.status(), 303, "{:?}", answer.body());
    let location = answer.headers()[header::LOCATION].to_str();
    location.unwrap().to_owned()
}
