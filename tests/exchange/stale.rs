//! A client whose copy of the service's keys has grown old, because nothing was called for months.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cardless::exchange::{Call, Client, ClientParts, ExchangeError, Received, SecretKey, Usage};
use cardless::message::{Amount, Capture, Initiator, PayRequest, PaymentStatus};
use cardless_contract::SystemEntropy;
use cardless_transport::{HttpClient, Request, Response, SendError};
use http::StatusCode;
use serde_json::{Value, json};

use crate::world::{ACCOUNT, Direct, NAME, SERVICE, World, secret};

const DAY: Duration = Duration::from_secs(86_400);

const KEYS: &str = "/.well-known/jwks.json";
const EXCHANGE: &str = "/v1/exchange";

fn charge(reference: &str) -> PayRequest {
    PayRequest {
        account: ACCOUNT.to_owned(),
        payment_method: None,
        amount: Amount::new("CHF", 4990),
        reference: reference.to_owned(),
        capture: Capture::Automatic,
        initiator: Initiator::Merchant,
        return_url: None,
        description: None,
    }
}

/// The service has keys that it does not know yet, and does not open the old ones any more.
async fn months_later(world: &World) {
    world.clock.forward(100 * DAY);
    drop(world.service_key().await);
    world.clock.forward(40 * DAY);
}

#[tokio::test]
async fn a_call_goes_through_although_the_service_has_other_keys() {
    let world = World::new().await;
    world.link().await;
    let (client, paths) = counting(&world, Direct(world.router.clone()));
    client.pay("key-a", &charge("invoice-a")).await.unwrap();
    assert_eq!(paths.take(), [KEYS, EXCHANGE]);
    months_later(&world).await;

    let paid = client.pay("key-b", &charge("invoice-b")).await.unwrap();
    assert_eq!(paths.take(), [EXCHANGE, KEYS, EXCHANGE]);
    let again = client.pay("key-b", &charge("invoice-b")).await.unwrap();
    assert_eq!(again.body, paid.body);
    assert_eq!(paths.take(), [EXCHANGE]);
    assert_eq!(world.count_payments().await, 2);
}

#[tokio::test]
async fn a_refusal_for_another_reason_is_not_answered_by_a_repeat() {
    let world = World::new().await;
    let (client, paths) = counting(&world, Direct(world.router.clone()));
    let refused = client.pay("key-a", &charge("invoice-a")).await;
    assert!(is_problem(&refused, 404), "{refused:?}");
    assert_eq!(paths.take(), [KEYS, EXCHANGE]);
    world.gateway.revoke_client_key(NAME, "sign").await.unwrap();
    let refused = client.pay("key-a", &charge("invoice-a")).await;
    assert!(is_unsealed(&refused, 401), "{refused:?}");
    assert_eq!(paths.take(), [EXCHANGE, KEYS]);
}

#[tokio::test]
async fn given_keys_are_not_fetched_after_a_refusal_either() {
    let world = World::new().await;
    let keys = world.gateway.exchange_keys().await.unwrap().to_string();
    let (client, paths) = counting(&world, Direct(world.router.clone()));
    let client = client.with_service_keys(&keys).unwrap();
    months_later(&world).await;
    let refused = client.pay("key-a", &charge("invoice-a")).await;
    assert!(is_unsealed(&refused, 401), "{refused:?}");
    assert_eq!(paths.take(), [EXCHANGE]);
}

/// Whatever it is told, it sends a call twice at most, by two messages under one key.
#[tokio::test]
async fn a_service_that_always_has_other_keys_is_asked_twice() {
    let world = World::new().await;
    let fickle = Arc::new(Fickle::default());
    let (client, paths) = counting(&world, Fickles(Arc::clone(&fickle)));
    let call = Call {
        op: "POST /v1/payments",
        account: Some(ACCOUNT),
        idempotency_key: Some("key-a"),
    };
    let refused = client
        .call::<_, Value>(&call, Some(&charge("invoice-a")))
        .await;
    assert!(is_unsealed(&refused, 401), "{refused:?}");
    assert_eq!(paths.take(), [KEYS, EXCHANGE, KEYS, EXCHANGE]);
    let requests = fickle.requests.lock().unwrap();
    let [first, second] = requests.as_slice() else {
        unreachable!("{requests:?}")
    };
    assert_ne!(first.jti, second.jti);
    assert_eq!(first.idempotency_key.as_deref(), Some("key-a"));
    assert_eq!(first.idempotency_key, second.idempotency_key);
    assert_eq!((&first.op, &first.body), (&second.op, &second.body));
}

fn is_problem<T>(result: &Result<T, ExchangeError>, status: u16) -> bool {
    matches!(result, Err(ExchangeError::Problem(problem)) if problem.status == status)
}

fn is_unsealed<T>(result: &Result<T, ExchangeError>, status: u16) -> bool {
    matches!(result, Err(ExchangeError::Unsealed(problem)) if problem.status == status)
}

/// Lets the call through, and answers in plain that it was refused.
#[derive(Debug)]
struct Liar(Direct);

#[async_trait::async_trait]
impl HttpClient for Liar {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        let is_call = request.uri().path() == EXCHANGE;
        let honest = self.0.send(request).await?;
        if !is_call {
            return Ok(honest);
        }
        let problem = json!({"status": 409, "code": "invalid_state", "title": "", "detail": ""});
        let mut response = Response::new(Bytes::from(problem.to_string()));
        *response.status_mut() = StatusCode::CONFLICT;
        Ok(response)
    }
}

#[tokio::test]
async fn a_refusal_that_is_not_sealed_proves_nothing() {
    let world = World::new().await;
    world.link().await;
    let (client, _) = counting(&world, Liar(Direct(world.router.clone())));
    let result = client.pay("key-a", &charge("invoice-a")).await;
    // It was carried out, and the same again under the same key tells.
    assert!(is_unsealed(&result, 409), "{result:?}");
    assert!(result.unwrap_err().to_string().contains("proves nothing"));
    assert_eq!(world.count_payments().await, 1);
    let (client, _) = counting(&world, Direct(world.router.clone()));
    let paid = client.pay("key-a", &charge("invoice-a")).await.unwrap();
    assert_eq!(paid.body.status, PaymentStatus::Captured);
    assert_eq!(world.count_payments().await, 1);
    // What is sealed and says no is a refusal.
    let refused = client.pay("key-a", &charge("invoice-b")).await;
    let is_refusal = matches!(&refused, Err(ExchangeError::Problem(no)) if no.is_refusal());
    assert!(is_refusal, "{refused:?}");
}

#[tokio::test]
async fn keys_are_fetched_from_nowhere_that_others_can_change() {
    let world = World::new().await;
    for (base_url, is_trusted) in [
        ("http://pay.example", false),
        ("http://127.0.0.1.example", false),
        ("http://[::2]:8080", false),
        ("https://pay.example", true),
        ("http://127.0.0.9:8080", true),
        ("http://localhost:8080", true),
        ("http://[::1]:8080", true),
    ] {
        let client = Client::new(ClientParts {
            name: NAME.to_owned(),
            base_url: base_url.to_owned(),
            service: SERVICE.to_owned(),
            keys: vec![secret("sign"), secret("receive")],
            http: Arc::new(Direct(world.router.clone())),
            clock: Arc::new(world.clock.clone()),
            entropy: Arc::new(SystemEntropy),
        });
        let fetched = client.unwrap().fetch_keys().await;
        assert_eq!(fetched.is_ok(), is_trusted, "{base_url}: {fetched:?}");
    }
}

/// A client of the world's, and which paths it asks for.
fn counting(world: &World, http: impl HttpClient) -> (Client, Arc<Paths>) {
    let paths = Arc::new(Paths::default());
    let client = Client::new(ClientParts {
        name: NAME.to_owned(),
        base_url: SERVICE.to_owned(),
        service: SERVICE.to_owned(),
        keys: vec![secret("sign"), secret("receive")],
        http: Arc::new(Counting(Arc::clone(&paths), http)),
        clock: Arc::new(world.clock.clone()),
        entropy: Arc::new(SystemEntropy),
    });
    (client.unwrap(), paths)
}

#[derive(Debug, Default)]
struct Paths(Mutex<Vec<String>>);

impl Paths {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[derive(Debug)]
struct Counting<C>(Arc<Paths>, C);

#[async_trait::async_trait]
impl<C: HttpClient> HttpClient for Counting<C> {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        let path = request.uri().path().to_owned();
        self.0.0.lock().unwrap().push(path);
        self.1.send(request).await
    }
}

/// Publishes another key whenever it is asked, and refuses every message.
#[derive(Debug, Default)]
struct Fickle {
    key: Mutex<Option<SecretKey>>,
    requests: Mutex<Vec<cardless::exchange::Request>>,
}

#[derive(Debug)]
struct Fickles(Arc<Fickle>);

#[async_trait::async_trait]
impl HttpClient for Fickles {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        let mut key = self.0.key.lock().unwrap();
        if request.uri().path() == KEYS {
            let new = SecretKey::generate(Usage::Seal, &SystemEntropy).unwrap();
            let set = json!({"keys": [new.public().to_jwk()]}).to_string();
            *key = Some(new);
            return Ok(Response::new(Bytes::from(set)));
        }
        let message = std::str::from_utf8(request.body()).unwrap();
        let received = Received::parse(message).unwrap();
        let opened = received.open(key.as_ref().unwrap()).unwrap();
        let claims = opened.verify(secret("sign").public()).unwrap();
        let request = cardless::exchange::Request::parse(&claims).unwrap();
        self.0.requests.lock().unwrap().push(request);
        let problem = json!({"status": 401, "code": "exchange_refused", "title": "", "detail": ""});
        let mut response = Response::new(Bytes::from(problem.to_string()));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        Ok(response)
    }
}
