use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use cardless::gateway::{Gateway, Role};
use cardless::serve::router;
use cardless::store::{SqliteStore, Threads};
use cardless::vault::KeyRing;
use cardless_contract::SystemEntropy;
use cardless_testkit::overheard::Overheard;
use serde_json::Value;
use tower::ServiceExt as _;

/// A number that passes for a card number: a published test number.
pub(crate) const CARD: &str = "4242424242424242";

/// A service with three clients and no provider.
pub(crate) struct Desk {
    pub(crate) router: Router,
    pub(crate) gateway: Gateway,
    pub(crate) billing: String,
    pub(crate) operator: String,
    pub(crate) auditor: String,
    heard: Overheard,
}

impl Drop for Desk {
    fn drop(&mut self) {
        for api_key in [&self.billing, &self.operator, &self.auditor] {
            self.heard.plant("an API key", api_key);
        }
        self.heard.plant("a card number", CARD);
    }
}

/// An answer of the router.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

pub(crate) fn gateway() -> Gateway {
    let keys = KeyRing::generate(&SystemEntropy).unwrap();
    Gateway::builder()
        .public_url("http://127.0.0.1:8080")
        .store(Arc::new(
            SqliteStore::open("sqlite::memory:", Threads::Caller).unwrap(),
        ))
        .entropy(Arc::new(SystemEntropy))
        .keys(KeyRing::parse(&keys).unwrap())
        .build()
        .unwrap()
}

impl Desk {
    pub(crate) async fn new() -> Self {
        let heard = Overheard::default();
        let gateway = gateway();
        Self {
            heard,
            billing: gateway.add_client("shop", Role::Billing).await.unwrap(),
            operator: gateway.add_client("desk", Role::Operator).await.unwrap(),
            auditor: gateway.add_client("audit", Role::Auditor).await.unwrap(),
            router: router(gateway.clone()),
            gateway,
        }
    }

    /// A call by the billing client, with a key and a content type.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(self.request(Method::POST, path).body(body.into()).unwrap())
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).body(Body::empty()).unwrap())
            .await
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> axum::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.billing))
            .header("content-type", "application/json")
            .header("idempotency-key", "key-a")
    }

    /// The report on the scope, by a client with this API key.
    pub(crate) async fn scope(&self, api_key: &str, accept: &str) -> Answer {
        let request = Request::get("/v1/scope")
            .header("authorization", format!("Bearer {api_key}"))
            .header("accept", accept);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The code and field of a problem, after a look at the rest of it.
    pub(crate) fn problem(&self, status: u16) -> (String, String) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("cache-control"), "no-store");
        let problem = self.json();
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(problem["status"], status);
        assert_eq!(
            text("type"),
            format!("urn:cardless:problem:{}", text("code"))
        );
        assert!(!text("title").is_empty() && !text("detail").is_empty());
        (text("code"), text("field"))
    }
}

pub(crate) fn payment() -> Value {
    serde_json::json!({
        "account": "acct-a",
        "amount": { "currency": "CHF", "minor": 4990 },
        "reference": "inv-a",
        "capture": "automatic",
        "initiator": "merchant",
    })
}
