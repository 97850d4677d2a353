//! A client that has no API key: it speaks to the service by sealed messages only.
//!
//! Each call is a signed JWT inside an encrypted one. Nothing between client and service, a proxy or
//! a log of it, can read or change a call, or send it again; and the client takes no answer but the
//! service's own, to this very call.
//!
//! The client makes its pairs and hands over their public halves, which an operator registers:
//! `cardless client add till --sealed --public-key till-keys.json`. Then it charges, and the answer
//! is lost on the way. So it asks for the answer: the same call under the same key, in a new
//! message, since no message counts twice. The money is taken once.
//!
//! Here the service is its router without a socket, and the provider is Aduno as the sandbox
//! imitates it: nothing listens and nothing leaves the process.
//!
//! ```text
//! cargo run --example exchange
//! ```

#![expect(clippy::print_stdout, reason = "it shows what happens")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use cardless::config::{Environment, Settings};
use cardless::exchange::{Client, ClientParts, ExchangeError, SecretKey, Usage};
use cardless::gateway::{Gateway, RequestKey, Role};
use cardless::message::{Amount, Capture, Initiator, LinkRequest, PayRequest, PaymentStatus};
use cardless::serve::router;
use cardless::store::{SqliteStore, Threads};
use cardless::vault::KeyRing;
use cardless_contract::{Delivery, ErrorKind, SystemClock, SystemEntropy};
use cardless_sandbox::{Addresses, EntryKind, Provider, Sandbox, print_settings};
use cardless_transport::{HttpClient, Request, Response, SendError};
use serde_json::json;
use tower::ServiceExt as _;

/// Where the service is, and what messages are addressed to.
const SERVICE: &str = "https://pay.example";

/// The client's name.
const NAME: &str = "till";

/// How long a call to the sandbox may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The longest answer of the service that is read.
const MAX_ANSWER_BYTES: usize = cardless::exchange::MAX_MESSAGE_BYTES;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let sandbox = Sandbox::new(Arc::new(SystemClock::default()));
    let gateway = gateway(&sandbox)?;
    link(&gateway, &sandbox).await?;

    let (pairs, public) = pairs()?;
    let role = Role::Billing;
    for key in gateway.add_sealed_client(NAME, role, &public).await? {
        println!("registered {} ({})", key.kid, key.r#use);
    }
    let way = Arc::new(Way::to(router(gateway)));
    let client = client(pairs, Arc::clone(&way))?;

    let charge = PayRequest {
        account: "customer-a".to_owned(),
        payment_method: None, // the account's default
        amount: Amount::new("CHF", 4990),
        reference: "invoice-a".to_owned(),
        capture: Capture::Automatic,
        initiator: Initiator::Merchant,
        return_url: None,
        description: None,
    };
    way.lose_next.store(true, Ordering::SeqCst);
    let lost = client.pay("invoice-a", &charge).await;
    ensure(
        matches!(lost, Err(ExchangeError::Send(_))),
        "the answer is lost",
    )?;
    println!("charged, and the answer was lost: nobody here knows what became of it");

    let payment = client.pay("invoice-a", &charge).await?.body;
    ensure(
        payment.status == PaymentStatus::Captured,
        "the money is taken",
    )?;
    println!("asked    {} {} is taken", payment.id, payment.captured);
    let taken = sandbox.ledger();
    let taken = taken
        .iter()
        .filter(|entry| entry.kind == EntryKind::Capture);
    ensure(taken.count() == 1, "the money is taken once")?;
    println!("the same call under the same key: nothing was taken twice");
    Ok(())
}

/// The client's pairs, one that signs and one that answers are sealed to, and their public halves
/// as a JWK set. The private halves never leave the client.
fn pairs() -> Result<(Vec<SecretKey>, String)> {
    let signing = SecretKey::generate(Usage::Sign, &SystemEntropy)?;
    let receiving = SecretKey::generate(Usage::Seal, &SystemEntropy)?;
    let public = json!({"keys": [signing.public().to_jwk(), receiving.public().to_jwk()]});
    Ok((vec![signing, receiving], public.to_string()))
}

/// The client, which fetches the service's keys at its first call.
fn client(pairs: Vec<SecretKey>, way: Arc<Way>) -> Result<Client> {
    Ok(Client::new(ClientParts {
        name: NAME.to_owned(),
        base_url: SERVICE.to_owned(),
        service: SERVICE.to_owned(),
        keys: pairs,
        http: way,
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(SystemEntropy),
    })?)
}

/// The way to the service, on which an answer can be lost. In production it is
/// `cardless::registry::client`, over TLS.
#[derive(Debug)]
struct Way {
    service: Router,
    lose_next: AtomicBool,
}

impl Way {
    fn to(service: Router) -> Self {
        Self {
            service,
            lose_next: AtomicBool::new(false),
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Way {
    async fn send(&self, request: Request) -> std::result::Result<Response, SendError> {
        let is_call = request.uri().path() == "/v1/exchange";
        let Ok(response) = self.service.clone().oneshot(request.map(Body::from)).await;
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, MAX_ANSWER_BYTES).await;
        match body {
            Ok(body) if !(is_call && self.lose_next.swap(false, Ordering::SeqCst)) => {
                Ok(Response::from_parts(parts, body))
            }
            _ => Err(SendError::new(Delivery::Unknown, ErrorKind::Interrupted)),
        }
    }
}

/// The parts of the service, put together.
fn gateway(sandbox: &Sandbox) -> Result<Gateway> {
    let clock = Arc::new(SystemClock::default());
    let text = print_settings(&Addresses::default());
    let settings = Settings::parse(Path::new("sandbox"), &text, &Environment::default())?;
    let config = settings.provider("aduno")?.ok_or("no settings for aduno")?;
    let client = Arc::new(sandbox.provider(Provider::Aduno).client(DEADLINE));
    let provider = cardless_aduno::Aduno::new(config, client, clock)?;
    let store = SqliteStore::open("sqlite::memory:", Threads::Own)?;
    Ok(Gateway::builder()
        .public_url(SERVICE)
        .store(Arc::new(store))
        .keys(KeyRing::parse(&KeyRing::generate(&SystemEntropy)?)?)
        .provider(Arc::new(provider))
        .build()?)
}

/// Links a payment method of the account; `quickstart` shows the steps.
async fn link(gateway: &Gateway, sandbox: &Sandbox) -> Result {
    let request = LinkRequest {
        account: "customer-a".to_owned(),
        provider: "aduno".to_owned(),
        return_url: "https://shop.example/thanks".to_owned(),
        language: None,
        amount: None,
        reference: None,
        capture: None,
    };
    let key = RequestKey::new("billing", "link-a")?;
    let setup = gateway.link(&key, &request).await?.body;
    let page = setup.redirect_url.ok_or("the setup has no page")?;
    let approve = http::Request::post(page).body(Bytes::from_static(b"decision=approve"))?;
    let browser = sandbox.provider(Provider::Aduno).client(DEADLINE);
    browser.send(approve).await?;
    gateway.complete_link(&setup.id).await?;
    Ok(())
}

fn ensure(holds: bool, what: &str) -> Result {
    if holds {
        Ok(())
    } else {
        Err(format!("not true: {what}").into())
    }
}
