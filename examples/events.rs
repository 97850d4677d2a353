//! A consumer of events: it verifies each one, and deals with each once.
//!
//! The gateway tells a billing service what has become true, by Standard Webhooks. An event can
//! come more than once, since an answer can be lost on the way; so a consumer has three duties:
//!
//! 1. verify the signature over the bytes as they came, before anything in them is read;
//! 2. keep the `webhook-id` in the same transaction as what it does about the event, and do nothing
//!    for an id that it has;
//! 3. answer 2xx only then. Whatever else it answers, the event comes again.
//!
//! Here the consumer loses its first answer, so that the first event comes twice; a message that
//! somebody forged and one that somebody plays again an hour later are refused. What it has dealt
//! with is the same as what `Gateway::events` tells, which is what a consumer reads after it was
//! away for too long.
//!
//! The billing service of this program is in the same process. Yours listens on https: hand its
//! headers and the body's bytes to the same function.
//!
//! ```text
//! cargo run --example events
//! ```

#![expect(clippy::print_stdout, reason = "it shows what happens")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cardless::config::{Environment, Settings};
use cardless::gateway::{Gateway, MAX_EVENTS, RequestKey};
use cardless::message::{Amount, Capture, Event, Initiator, LinkRequest, PayRequest};
use cardless::store::{SqliteStore, Threads};
use cardless::vault::KeyRing;
use cardless::webhook::{SigningSecrets, VerifyError};
use cardless_contract::{Clock, Secrets, SystemClock, SystemEntropy};
use cardless_sandbox::{Addresses, Provider, Sandbox, print_settings};
use cardless_transport::{HttpClient, InProcessClient, InProcessServer, Reply, Request, Response};
use http::{HeaderMap, StatusCode};

/// How long a call to the sandbox or to the billing service may take, and how long this program
/// waits for the events.
const DEADLINE: Duration = Duration::from_secs(20);

/// Known to the gateway's `[events]` settings and to the billing service; yours is random and
/// stands in neither's source.
const SECRET: &str = "whsec_ZXhhbXBsZS1zZWNyZXQtb2YtMzItYnl0ZXMtLS0tLS0=";

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let sandbox = Sandbox::new(clock.clone());
    let secrets = Secrets::new(vec![SECRET.to_owned()]).ok_or("no secret")?;
    let billing = Arc::new(Billing::new(SigningSecrets::new(&secrets)?, clock.clone()));
    let gateway = gateway(&sandbox, clock, &secrets, &billing)?;
    let worker = gateway.clone();
    tokio::spawn(async move { worker.run(std::future::pending()).await });

    link_and_charge(&gateway, &sandbox).await?;
    let events = gateway.events(None, MAX_EVENTS).await?.data;
    tokio::time::timeout(DEADLINE, billing.has_got(events.len() + 1)).await?;
    ensure(
        billing.dealt_with() == events,
        "each event was dealt with once",
    )?;
    ensure(billing.came() > events.len(), "one of them came twice")?;

    let (headers, body) = billing.last().ok_or("nothing came")?;
    let forged = String::from_utf8(body.to_vec())?.replace("customer-a", "customer-b");
    let answer = billing.deal_with(&headers, forged.as_bytes(), 0);
    ensure(
        answer == Err(VerifyError::Signature),
        "a forged one is refused",
    )?;
    let answer = billing.deal_with(&headers, &body, 3600);
    ensure(answer == Err(VerifyError::Stale), "an old one is refused")?;
    println!("a forged message and an old one: refused");
    Ok(())
}

/// A billing service.
#[derive(Debug)]
struct Billing {
    secrets: SigningSecrets,
    clock: Arc<dyn Clock>,
    books: Mutex<Books>,
}

/// What it keeps. In yours, `seen` is a table with the id as its key.
#[derive(Debug, Default)]
struct Books {
    seen: BTreeSet<String>,
    dealt_with: Vec<Event>,
    came: usize,
    last: Option<(HeaderMap, Bytes)>,
}

impl Billing {
    fn new(secrets: SigningSecrets, clock: Arc<dyn Clock>) -> Self {
        Self {
            secrets,
            clock,
            books: Mutex::default(),
        }
    }

    /// The whole of a consumer: verify, look whether it is new, deal with it. `later` moves its
    /// clock, in seconds.
    fn deal_with(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        later: u64,
    ) -> std::result::Result<(), VerifyError> {
        let now = self.clock.now().plus(Duration::from_secs(later));
        let id = self.secrets.verify(headers, body, now)?;
        // It is signed, so it is the gateway's own JSON.
        let event: Event = serde_json::from_slice(body).map_err(|_| VerifyError::Header)?;
        let mut books = self.books();
        if books.seen.insert(id.to_owned()) {
            println!(
                "{} for {}",
                event.kind,
                event.data.account.as_deref().unwrap_or("-")
            );
            books.dealt_with.push(event);
        } else {
            println!("{} again: nothing to do", event.kind);
        }
        Ok(())
    }

    async fn has_got(&self, messages: usize) {
        while self.books().came < messages {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn dealt_with(&self) -> Vec<Event> {
        self.books().dealt_with.clone()
    }

    fn came(&self) -> usize {
        self.books().came
    }

    fn last(&self) -> Option<(HeaderMap, Bytes)> {
        self.books().last.clone()
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InProcessServer for Billing {
    /// Its HTTP side. The first answer is lost.
    fn serve(&self, request: Request) -> Reply {
        let (parts, body) = request.into_parts();
        let dealt_with = self.deal_with(&parts.headers, &body, 0);
        let mut books = self.books();
        books.came += 1;
        books.last = Some((parts.headers, body));
        if books.came == 1 {
            return Reply::Drop;
        }
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = match dealt_with {
            Ok(()) => StatusCode::NO_CONTENT,
            Err(_) => StatusCode::UNAUTHORIZED,
        };
        Reply::Answer(answer)
    }
}

/// Two events: a method is linked, and a charge is taken.
async fn link_and_charge(gateway: &Gateway, sandbox: &Sandbox) -> Result {
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
    let request = PayRequest {
        account: "customer-a".to_owned(),
        payment_method: None,
        amount: Amount::new("CHF", 4990),
        reference: "invoice-17".to_owned(),
        capture: Capture::Automatic,
        initiator: Initiator::Merchant,
        return_url: None,
        description: None,
    };
    gateway
        .pay(&RequestKey::new("billing", "invoice-17")?, &request)
        .await?;
    Ok(())
}

fn gateway(
    sandbox: &Sandbox,
    clock: Arc<dyn Clock>,
    secrets: &Secrets,
    billing: &Arc<Billing>,
) -> Result<Gateway> {
    let text = print_settings(&Addresses::default());
    let settings = Settings::parse(Path::new("sandbox"), &text, &Environment::default())?;
    let config = settings.provider("aduno")?.ok_or("no settings for aduno")?;
    let client = Arc::new(sandbox.provider(Provider::Aduno).client(DEADLINE));
    let provider = cardless_aduno::Aduno::new(config, client, clock.clone())?;
    let to_billing = InProcessClient::new(billing.clone(), DEADLINE);
    let builder = Gateway::builder()
        .store(Arc::new(SqliteStore::open(
            "sqlite::memory:",
            Threads::Own,
        )?))
        .keys(KeyRing::parse(&KeyRing::generate(&SystemEntropy)?)?)
        .clock(clock)
        .provider(Arc::new(provider))
        .deliver_events(
            "https://billing.example/events",
            secrets,
            Arc::new(to_billing),
        )?;
    Ok(builder.build()?)
}

fn ensure(holds: bool, what: &str) -> Result {
    if holds {
        Ok(())
    } else {
        Err(format!("not true: {what}").into())
    }
}
