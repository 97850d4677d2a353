//! A webhook makes the gateway look; what it says is never believed.
//!
//! A customer agrees on the provider's page and closes the browser, so nobody comes back to our
//! return address. The provider's webhook is what tells us. The sandbox signs it as Datatrans does
//! (HMAC-SHA-256 over time and body), and it is handed to the gateway twice:
//!
//! - with one byte changed: the signature does not fit, it is refused, and nothing happens;
//! - as it was sent: it is stored, and the gateway reads the transaction from the provider. The
//!   method is linked from that read, not from the webhook's body.
//!
//! The clock of this program stands still, so nothing falls due by itself: only the webhook can
//! have caused the look.
//!
//! ```text
//! cargo run --example webhook
//! ```

#![expect(clippy::print_stdout, reason = "it shows what happens")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cardless::config::{Environment, Settings};
use cardless::error::Code;
use cardless::gateway::{Gateway, RequestKey};
use cardless::message::{LinkRequest, SetupStatus};
use cardless::store::{SqliteStore, Threads};
use cardless::vault::KeyRing;
use cardless_contract::{Clock, SystemClock, SystemEntropy, Timestamp};
use cardless_sandbox::{Addresses, OutgoingWebhook, Provider, Sandbox, print_settings};
use cardless_transport::HttpClient as _;
use http::{HeaderMap, HeaderName, HeaderValue};

/// How long a call to the sandbox may take, and how long this program waits for the look.
const DEADLINE: Duration = Duration::from_secs(10);

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let clock: Arc<dyn Clock> = Arc::new(Still(SystemClock::default().now()));
    let sandbox = Sandbox::new(clock.clone());
    let gateway = gateway(&sandbox, clock)?;
    let resolver = gateway.clone();
    tokio::spawn(async move { resolver.run(std::future::pending()).await });

    let setup = agree_and_leave(&gateway, &sandbox).await?;
    let webhook = sandbox
        .take_webhooks()
        .pop()
        .ok_or("the sandbox sent no webhook")?;
    let asked_before = sandbox.requests(Some(Provider::Aduno)).len();

    let mut changed = webhook.body.to_vec();
    *changed.last_mut().ok_or("the webhook is empty")? ^= 1;
    let refused = gateway
        .notification("aduno", &headers(&webhook)?, &changed.into())
        .await;
    let code = refused.err().map(|error| error.code());
    ensure(
        code == Some(Code::NotificationRefused),
        "a changed webhook is refused",
    )?;
    let asked = sandbox.requests(Some(Provider::Aduno)).len();
    ensure(asked == asked_before, "a changed webhook makes nobody look")?;
    println!("one byte changed: refused, and nobody looked");

    gateway
        .notification("aduno", &headers(&webhook)?, &webhook.body)
        .await?;
    let method = tokio::time::timeout(DEADLINE, linked(&gateway, &setup)).await??;
    let asked = sandbox.requests(Some(Provider::Aduno)).len();
    ensure(asked > asked_before, "the provider was asked")?;
    println!("as it was sent: accepted, the provider was asked, and {method} is linked");
    Ok(())
}

/// A customer agrees on the page, and the browser never comes back.
async fn agree_and_leave(gateway: &Gateway, sandbox: &Sandbox) -> Result<String> {
    let request = LinkRequest {
        account: "customer-a".to_owned(),
        provider: "aduno".to_owned(),
        return_url: "https://shop.example/thanks".to_owned(),
        language: None,
        amount: None,
        reference: None,
        capture: None,
    };
    let setup = gateway
        .link(&RequestKey::new("billing", "link-a")?, &request)
        .await?
        .body;
    let page = setup.redirect_url.ok_or("the setup has no page")?;
    let approve = http::Request::post(page).body(Bytes::from_static(b"decision=approve"))?;
    sandbox
        .provider(Provider::Aduno)
        .client(DEADLINE)
        .send(approve)
        .await?;
    let setup = gateway.setup(&setup.id).await?;
    ensure(
        setup.status == SetupStatus::AwaitingCustomer,
        "we do not know it yet",
    )?;
    Ok(setup.id)
}

/// The setup's payment method, once the resolver has looked.
async fn linked(gateway: &Gateway, setup: &str) -> Result<String> {
    loop {
        if let Some(method) = gateway.setup(setup).await?.payment_method {
            return Ok(method);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn gateway(sandbox: &Sandbox, clock: Arc<dyn Clock>) -> Result<Gateway> {
    let text = print_settings(&Addresses::default());
    let settings = Settings::parse(Path::new("sandbox"), &text, &Environment::default())?;
    let config = settings.provider("aduno")?.ok_or("no settings for aduno")?;
    let client = Arc::new(sandbox.provider(Provider::Aduno).client(DEADLINE));
    let provider = cardless_aduno::Aduno::new(config, client, clock.clone())?;
    Ok(Gateway::builder()
        .store(Arc::new(SqliteStore::open(
            "sqlite::memory:",
            Threads::Own,
        )?))
        .keys(KeyRing::parse(&KeyRing::generate(&SystemEntropy)?)?)
        .clock(clock)
        .provider(Arc::new(provider))
        .build()?)
}

fn headers(webhook: &OutgoingWebhook) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &webhook.headers {
        headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    Ok(headers)
}

fn ensure(holds: bool, what: &str) -> Result {
    if holds {
        Ok(())
    } else {
        Err(format!("not true: {what}").into())
    }
}

/// A clock that stands still.
#[derive(Debug)]
struct Still(Timestamp);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        self.0
    }
}
