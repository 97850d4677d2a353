//! One charge, in one process.
//!
//! A gateway needs a store, keys and at least one provider. Here the store is in memory, the keys
//! are new, and the provider is Aduno as the sandbox imitates it: nothing listens and nothing
//! leaves the process. A program in production reads its settings and calls
//! `cardless::registry::providers` instead, as `link_and_charge` does.
//!
//! What happens is the same everywhere: the customer agrees on the provider's page, the provider's
//! token is sealed and a handle (`pm_…`) stands for it, and the handle is charged. The last step
//! sends the charge again under the same key, and shows that it takes nothing twice.
//!
//! ```text
//! cargo run --example quickstart
//! ```

#![expect(clippy::print_stdout, reason = "it shows what happens")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cardless::config::{Environment, Settings};
use cardless::gateway::{Gateway, RequestKey};
use cardless::message::{
    Amount, Capture, Initiator, LinkRequest, PayRequest, PaymentStatus, SetupStatus,
};
use cardless::store::{SqliteStore, Threads};
use cardless::vault::KeyRing;
use cardless_contract::{SystemClock, SystemEntropy};
use cardless_sandbox::{Addresses, EntryKind, Provider, Sandbox, print_settings};
use cardless_transport::HttpClient as _;

/// How long a call to the sandbox may take.
const DEADLINE: Duration = Duration::from_secs(10);

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let sandbox = Sandbox::new(Arc::new(SystemClock::default()));
    let gateway = gateway(&sandbox)?;
    let method = link(&gateway, &sandbox).await?;
    println!("linked   {method}");

    let charge = PayRequest {
        account: "customer-a".to_owned(),
        payment_method: Some(method),
        amount: Amount::new("CHF", 4990),
        reference: "invoice-a".to_owned(),
        capture: Capture::Automatic,
        initiator: Initiator::Merchant,
        return_url: None,
        description: None,
    };
    let key = RequestKey::new("billing", "invoice-a")?;
    let payment = gateway.pay(&key, &charge).await?.body;
    println!(
        "charged  {} {} as {}",
        payment.id, payment.captured, payment.reference
    );
    ensure(
        payment.status == PaymentStatus::Captured,
        "the money is taken",
    )?;

    let again = gateway.pay(&key, &charge).await?.body;
    ensure(again == payment, "the same key gives the same answer")?;
    let taken = sandbox
        .ledger()
        .into_iter()
        .filter(|entry| entry.kind == EntryKind::Capture);
    ensure(taken.count() == 1, "the money is taken once")?;
    println!("repeated the charge under its key: nothing was taken twice");
    Ok(())
}

/// The parts, put together.
fn gateway(sandbox: &Sandbox) -> Result<Gateway> {
    let clock = Arc::new(SystemClock::default());
    let text = print_settings(&Addresses::default());
    let settings = Settings::parse(Path::new("sandbox"), &text, &Environment::default())?;
    let config = settings.provider("aduno")?.ok_or("no settings for aduno")?;
    let client = Arc::new(sandbox.provider(Provider::Aduno).client(DEADLINE));
    let provider = cardless_aduno::Aduno::new(config, client, clock)?;
    Ok(Gateway::builder()
        .store(Arc::new(SqliteStore::open(
            "sqlite::memory:",
            Threads::Own,
        )?))
        .keys(KeyRing::parse(&KeyRing::generate(&SystemEntropy)?)?)
        .provider(Arc::new(provider))
        .build()?)
}

/// Links a payment method; the customer presses "approve" on the sandbox's page.
async fn link(gateway: &Gateway, sandbox: &Sandbox) -> Result<String> {
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

    let setup = gateway.complete_link(&setup.id).await?;
    ensure(
        setup.status == SetupStatus::Completed,
        "the method is linked",
    )?;
    setup
        .payment_method
        .ok_or_else(|| "the setup has no method".into())
}

fn ensure(holds: bool, what: &str) -> Result {
    if holds {
        Ok(())
    } else {
        Err(format!("not true: {what}").into())
    }
}
