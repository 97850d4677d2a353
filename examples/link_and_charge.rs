//! Link, charge and give back a part, at all three providers.
//!
//! The sandbox listens on free ports of loopback and stands for PostFinance, PayPal and Aduno. The
//! settings are the ones that `cardless sandbox --print-settings` prints, so everything from here
//! to the sockets is what runs in production. The store and the keys are thrown away at the end.
//!
//! The customer's browser is played by a few lines: it posts the form of the provider's page,
//! follows the redirect to our return address, and would go on to the shop from there. Where an
//! answer is still open, the gateway is told to ask now; a service has `Gateway::run` for that.
//!
//! At the end the sandbox's ledger is compared with what the gateway said.
//!
//! ```text
//! cargo run --example link_and_charge
//! ```

#![expect(clippy::print_stdout, reason = "it shows what happens")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cardless::config::{Environment, Settings};
use cardless::gateway::{Gateway, RequestKey};
use cardless::message::{
    Amount, Capture, Initiator, LinkRequest, OperationStatus, PayRequest, PaymentStatus,
    RefundRequest,
};
use cardless::registry;
use cardless::store::{SqliteStore, Threads};
use cardless::vault::KeyRing;
use cardless_contract::{Clock, SystemClock, SystemEntropy};
use cardless_sandbox::{Addresses, EntryKind, Sandbox, Servers, print_settings};
use cardless_transport::HttpClient;

/// What a customer owes, and what is given back, in rappen.
const CHARGE: i64 = 4990;
const REFUND: i64 = 500;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let sandbox = Sandbox::new(clock.clone());
    let running = Servers::start(sandbox.clone(), Addresses::free()).await?;
    let text = print_settings(running.addresses());
    let settings = Settings::parse(Path::new("sandbox"), &text, &Environment::default())?;
    let mut builder = Gateway::builder()
        .store(Arc::new(SqliteStore::open(
            "sqlite::memory:",
            Threads::Own,
        )?))
        .keys(KeyRing::parse(&KeyRing::generate(&SystemEntropy)?)?)
        .clock(clock.clone());
    for provider in registry::providers(&settings, &clock)? {
        builder = builder.provider(provider);
    }
    let gateway = builder.build()?;
    let browser = registry::client(&settings)?;

    for provider in ["postfinance", "paypal", "aduno"] {
        link(&gateway, browser.as_ref(), provider).await?;
        let payment = charge(&gateway, provider).await?;
        refund(&gateway, provider, &payment).await?;
    }
    running.shutdown().await;
    compare(&sandbox)
}

/// The customer agrees on the provider's page and comes back.
async fn link(gateway: &Gateway, browser: &dyn HttpClient, provider: &str) -> Result {
    let request = LinkRequest {
        account: account(provider),
        provider: provider.to_owned(),
        return_url: "https://shop.example/thanks".to_owned(),
        language: Some("de".to_owned()),
        amount: None,
        reference: None,
        capture: None,
    };
    let setup = gateway.link(&key("link", provider)?, &request).await?.body;
    let page = setup.redirect_url.ok_or("the setup has no page")?;
    let form = http::Request::post(page)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Bytes::from_static(b"decision=approve"))?;
    let answer = browser.send(form).await?;
    let back = answer
        .headers()
        .get("location")
        .ok_or("the page leads nowhere")?
        .to_str()?;
    let back = url::Url::parse(back)?;
    let state = back
        .path()
        .strip_prefix("/return/")
        .ok_or("the page leads elsewhere")?;
    let shop = gateway.returned(state).await?.location;
    println!(
        "{provider:<12} linked; the browser goes on to {}",
        shop.split('?').next().unwrap_or_default()
    );
    Ok(())
}

/// Charges the account's default method, with the customer away.
async fn charge(gateway: &Gateway, provider: &str) -> Result<String> {
    let request = PayRequest {
        account: account(provider),
        payment_method: None,
        amount: Amount::new("CHF", CHARGE),
        reference: "invoice-a".to_owned(),
        capture: Capture::Automatic,
        initiator: Initiator::Merchant,
        return_url: None,
        description: Some("Subscription, November".to_owned()),
    };
    let mut payment = gateway.pay(&key("charge", provider)?, &request).await?.body;
    if payment.status.is_open() {
        gateway.reconcile().await?;
        payment = gateway.payment(&payment.id).await?;
    }
    println!(
        "{provider:<12} charged {}: {:?}",
        payment.captured, payment.status
    );
    ensure(
        payment.status == PaymentStatus::Captured,
        "the money is taken",
    )?;
    Ok(payment.id)
}

/// Gives a part back.
async fn refund(gateway: &Gateway, provider: &str, payment: &str) -> Result {
    let request = RefundRequest {
        account: account(provider),
        amount: Some(Amount::new("CHF", REFUND)),
    };
    let mut refund = gateway
        .refund(&key("refund", provider)?, payment, &request)
        .await?
        .body;
    if refund.status.is_open() {
        gateway.reconcile().await?;
        refund = gateway.refund_by_id(&refund.id).await?;
    }
    println!(
        "{provider:<12} gave back {}: {:?}",
        refund.amount, refund.status
    );
    ensure(
        refund.status == OperationStatus::Succeeded,
        "the money is given back",
    )
}

/// The ledger knows what really moved.
fn compare(sandbox: &Sandbox) -> Result {
    let ledger = sandbox.ledger();
    for (kind, minor) in [(EntryKind::Capture, CHARGE), (EntryKind::Refund, REFUND)] {
        let amounts: Vec<i64> = ledger
            .iter()
            .filter(|entry| entry.kind == kind)
            .map(|entry| entry.amount.minor())
            .collect();
        ensure(
            amounts == [minor; 3],
            "each provider moved what the gateway said, once",
        )?;
    }
    println!("the sandbox's ledger agrees, to the cent");
    Ok(())
}

fn account(provider: &str) -> String {
    format!("customer-at-{provider}")
}

fn key(step: &str, provider: &str) -> Result<RequestKey> {
    Ok(RequestKey::new("billing", format!("{step}-{provider}"))?)
}

fn ensure(holds: bool, what: &str) -> Result {
    if holds {
        Ok(())
    } else {
        Err(format!("not true: {what}").into())
    }
}
