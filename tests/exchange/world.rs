//! A service with a sealed client, Aduno as the sandbox has it, and a clock that stands where it is
//! put; all in one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use cardless::config::{Environment, Settings};
use cardless::exchange::{Client, ClientParts, SecretKey};
use cardless::gateway::{Gateway, RequestKey, Role};
use cardless::message::LinkRequest;
use cardless::serve::router;
use cardless::store::{SqliteStore, Store, Threads};
use cardless::vault::KeyRing;
use cardless_contract::{Clock, Entropy as _, SystemEntropy, Timestamp};
use cardless_sandbox::{Addresses, Provider, Sandbox, print_settings};
use cardless_testkit::overheard::Overheard;
use cardless_transport::{HttpClient, Request, Response, SendError};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::forge;

pub(crate) const SERVICE: &str = "https://pay.example";
pub(crate) const NAME: &str = "shop";
pub(crate) const ACCOUNT: &str = "customer-a";

/// When everything happens.
const MORNING: i64 = 1_795_000_000;

const DEADLINE: Duration = Duration::from_secs(10);

/// A clock that is moved by hand.
#[derive(Debug, Clone)]
pub(crate) struct Hands(Arc<AtomicI64>);

impl Hands {
    pub(crate) fn morning() -> Self {
        Self(Arc::new(AtomicI64::new(MORNING)))
    }

    pub(crate) fn forward(&self, by: Duration) {
        let seconds = i64::try_from(by.as_secs()).unwrap();
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn back(&self, by: Duration) {
        let by = i64::try_from(by.as_secs()).unwrap();
        self.0.fetch_sub(by, Ordering::SeqCst);
    }

    pub(crate) fn seconds(&self) -> i64 {
        self.now().seconds()
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) sandbox: Sandbox,
    pub(crate) router: Router,
    pub(crate) clock: Hands,
    heard: Overheard,
}

impl Drop for World {
    fn drop(&mut self) {
        for request in self.sandbox.requests(None) {
            self.heard.sent(&request.path, &request.body);
        }
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let store = Arc::new(SqliteStore::open("sqlite::memory:", Threads::Caller).unwrap());
        let keys = KeyRing::generate(&SystemEntropy).unwrap();
        let world = Self::on(store, &keys, Hands::morning());
        let keys = json!({"keys": [
            forge::jwk(&forge::pair("sign"), &json!({"kid": "sign", "use": "sig"})),
            forge::jwk(&forge::pair("receive"), &json!({"kid": "receive", "use": "enc"})),
        ]});
        let keys = keys.to_string();
        let added = world.gateway.add_sealed_client(NAME, Role::Billing, &keys);
        added.await.unwrap();
        world
    }

    /// Another process on the same store.
    pub(crate) fn on(store: Arc<dyn Store>, keys: &str, clock: Hands) -> Self {
        let heard = Overheard::default();
        let sandbox = Sandbox::new(Arc::new(clock.clone()));
        heard.settings(keys);
        let text = print_settings(&Addresses::default());
        heard.settings(&text);
        let settings = Settings::parse("sandbox".as_ref(), &text, &Environment::default()).unwrap();
        let config = settings.provider("aduno").unwrap().unwrap();
        let client = Arc::new(sandbox.provider(Provider::Aduno).client(DEADLINE));
        let aduno = cardless_aduno::Aduno::new(config, client, Arc::new(clock.clone())).unwrap();
        let gateway = Gateway::builder()
            .public_url(SERVICE)
            .store(Arc::clone(&store))
            .keys(KeyRing::parse(keys).unwrap())
            .clock(Arc::new(clock.clone()))
            .provider(Arc::new(aduno))
            .build()
            .unwrap();
        Self {
            router: router(gateway.clone()),
            gateway,
            store,
            sandbox,
            clock,
            heard,
        }
    }

    /// The client, by the library.
    pub(crate) fn client(&self) -> Client {
        self.client_with(&["sign", "receive"])
    }

    /// A client of that name with these pairs, the signing one first.
    pub(crate) fn client_with(&self, keys: &[&str]) -> Client {
        let keys = keys.iter().map(|kid| secret(kid)).collect();
        Client::new(ClientParts {
            name: NAME.to_owned(),
            base_url: SERVICE.to_owned(),
            service: SERVICE.to_owned(),
            keys,
            http: Arc::new(Direct(self.router.clone())),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(SystemEntropy),
        })
        .unwrap()
    }

    /// The service's key that messages are sealed to: `kid` and point.
    pub(crate) async fn service_key(&self) -> (String, p256::PublicKey) {
        let keys = self.gateway.exchange_keys().await.unwrap();
        let key = keys["keys"].as_array().unwrap().iter();
        let key = key.clone().find(|key| key["use"] == "enc").unwrap();
        let of = |name: &str| forge::unb64(key[name].as_str().unwrap());
        let point = [vec![4], of("x"), of("y")].concat();
        (
            key["kid"].as_str().unwrap().to_owned(),
            p256::PublicKey::from_sec1_bytes(&point).unwrap(),
        )
    }

    /// Posts a body to the exchange; gives status, content type and body.
    pub(crate) async fn post(&self, body: impl Into<Body>) -> (StatusCode, String, String) {
        let request = axum::http::Request::builder()
            .method(Method::POST)
            .uri("/v1/exchange")
            .header(header::CONTENT_TYPE, "application/jose")
            .body(body.into())
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
        let (status, kind) = (response.status(), kind.to_owned());
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        let body = String::from_utf8(body.unwrap().to_vec()).unwrap();
        (status, kind, body)
    }

    /// Links a method of the account, by the gateway.
    pub(crate) async fn link(&self) {
        let request = LinkRequest {
            account: ACCOUNT.to_owned(),
            provider: "aduno".to_owned(),
            return_url: "https://shop.example/thanks".to_owned(),
            language: None,
            amount: None,
            reference: None,
            capture: None,
        };
        let key = RequestKey::new("test", "link").unwrap();
        let setup = self.gateway.link(&key, &request).await.unwrap().body;
        let approve = http::Request::post(setup.redirect_url.unwrap());
        let approve = approve
            .body(Bytes::from_static(b"decision=approve"))
            .unwrap();
        let browser = self.sandbox.provider(Provider::Aduno).client(DEADLINE);
        browser.send(approve).await.unwrap();
        self.gateway.complete_link(&setup.id).await.unwrap();
    }

    /// How many messages are remembered as taken: counted by taking them again.
    pub(crate) async fn count_payments(&self) -> u64 {
        let states = self.store.count_states().await.unwrap();
        states.iter().map(|(_, count)| count).sum()
    }
}

/// A pair of the client by its name; `sign…` signs, `receive…` receives, others do both.
pub(crate) fn secret(kid: &str) -> SecretKey {
    let mut more = json!({ "kid": kid });
    if kid.starts_with("sign") {
        more["use"] = "sig".into();
    }
    if kid.starts_with("receive") {
        more["use"] = "enc".into();
    }
    SecretKey::read(&forge::private_jwk(&forge::pair(kid), &more).to_string()).unwrap()
}

/// The public half of the same, as JWK.
pub(crate) fn public(kid: &str) -> Value {
    secret(kid).public().to_jwk()
}

pub(crate) fn unique() -> String {
    let mut bytes = [0; 12];
    SystemEntropy.fill(&mut bytes).unwrap();
    forge::b64(bytes)
}

/// A client of the router, without a socket.
#[derive(Debug)]
pub(crate) struct Direct(pub(crate) Router);

#[async_trait::async_trait]
impl HttpClient for Direct {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        let response = self
            .0
            .clone()
            .oneshot(request.map(Body::from))
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Ok(Response::from_parts(parts, body))
    }
}
