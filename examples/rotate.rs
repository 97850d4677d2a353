//! The keys are rotated while payments go on, and the old one is destroyed.
//!
//! Everything at rest is sealed under a generation of a key-encryption key, which lives in a key
//! file and never in the database. A rotation makes a new generation and seals every record anew
//! under it, in batches; whoever charges meanwhile notices nothing. Once nothing needs the old
//! generation it can be destroyed, and whatever a backup holds under it stays shut for good.
//!
//! On the command line this is `cardless rotate keys` and `rotate keys --destroy-retired`. Here the
//! store is in memory, the key file is in a temporary folder, and the provider is Aduno as the
//! sandbox imitates it.
//!
//! ```text
//! cargo run --example rotate
//! ```

#![expect(clippy::print_stdout, reason = "it shows what happens")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cardless::config::{Environment, Settings};
use cardless::gateway::{Gateway, RequestKey};
use cardless::message::{Amount, Capture, Initiator, LinkRequest, PayRequest, PaymentStatus};
use cardless::store::{SqliteStore, Threads};
use cardless::vault::{Custody as _, KeyFile, KeyRing};
use cardless_contract::{SystemClock, SystemEntropy};
use cardless_sandbox::{Addresses, Provider, Sandbox, print_settings};
use cardless_transport::HttpClient as _;

/// How long a call to the sandbox may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How many customers there are, and how many records a batch has.
const CUSTOMERS: u32 = 6;
const BATCH: u32 = 4;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let folder = tempfile::tempdir()?;
    let key_file = folder.path().join("cardless.keys");
    write_private(&key_file, &KeyRing::generate(&SystemEntropy)?)?;
    let sandbox = Sandbox::new(Arc::new(SystemClock::default()));
    let gateway = gateway(&sandbox, &key_file)?;
    for customer in 0..CUSTOMERS {
        link(&gateway, &sandbox, customer).await?;
    }
    let old = gateway.keys().await?.generations.swap_remove(0);
    println!("{} seals {} values", old.id, old.sealed);

    // A batch, then a charge: whatever is sealed by then, the charge finds its token.
    let mut rotation = gateway.rotate_keys().await?;
    for customer in 0.. {
        let more = rotation.step(BATCH).await?;
        pay(&gateway, customer % CUSTOMERS, customer).await?;
        println!(
            "{} of {} are sealed anew",
            rotation.done(),
            rotation.total()
        );
        if !more {
            break;
        }
    }
    let rotated = rotation.finish().await?;
    ensure(
        rotated.retired.contains(&old.id),
        "nothing needs the old key",
    )?;

    let destroyed = gateway.destroy_retired().await?;
    println!(
        "{} is destroyed: none of {} values needs it",
        old.id, destroyed.counted
    );
    ensure(destroyed.refused == 1, "a record under it does not open")?;
    let kept = KeyFile::new(&key_file).read()?;
    ensure(!kept.contains(&old.id), "the key file does not hold it")?;
    pay(&gateway, 0, u32::MAX).await?;
    println!("and the charges go on");
    Ok(())
}

/// The parts, put together. The key ring remembers where it was read, so it can be rotated.
fn gateway(sandbox: &Sandbox, key_file: &Path) -> Result<Gateway> {
    let clock = Arc::new(SystemClock::default());
    let text = print_settings(&Addresses::default());
    let settings = Settings::parse(Path::new("sandbox"), &text, &Environment::default())?;
    let config = settings.provider("aduno")?.ok_or("no settings for aduno")?;
    let client = Arc::new(sandbox.provider(Provider::Aduno).client(DEADLINE));
    let provider = cardless_aduno::Aduno::new(config, client, clock)?;
    let store = SqliteStore::open("sqlite::memory:", Threads::Own)?;
    Ok(Gateway::builder()
        .store(Arc::new(store))
        .keys(KeyRing::load(key_file)?)
        .provider(Arc::new(provider))
        .build()?)
}

/// Links a payment method; the customer presses "approve" on the sandbox's page.
async fn link(gateway: &Gateway, sandbox: &Sandbox, customer: u32) -> Result {
    let request = LinkRequest {
        account: format!("customer-{customer}"),
        provider: "aduno".to_owned(),
        return_url: "https://shop.example/thanks".to_owned(),
        language: None,
        amount: None,
        reference: None,
        capture: None,
    };
    let key = RequestKey::new("billing", format!("link-{customer}"))?;
    let setup = gateway.link(&key, &request).await?.body;
    let page = setup.redirect_url.ok_or("the setup has no page")?;
    let approve = http::Request::post(page).body(Bytes::from_static(b"decision=approve"))?;
    let browser = sandbox.provider(Provider::Aduno).client(DEADLINE);
    browser.send(approve).await?;
    gateway.complete_link(&setup.id).await?;
    Ok(())
}

async fn pay(gateway: &Gateway, customer: u32, number: u32) -> Result {
    let request = PayRequest {
        account: format!("customer-{customer}"),
        payment_method: None,
        amount: Amount::new("CHF", 4990),
        reference: format!("invoice-{number}"),
        capture: Capture::Automatic,
        initiator: Initiator::Merchant,
        return_url: None,
        description: None,
    };
    let key = RequestKey::new("billing", format!("invoice-{number}"))?;
    let payment = gateway.pay(&key, &request).await?.body;
    ensure(
        payment.status == PaymentStatus::Captured,
        "the money is taken",
    )
}

/// A key file that others can read is refused.
fn write_private(path: &Path, text: &str) -> Result {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    Ok(options.open(path)?.write_all(text.as_bytes())?)
}

fn ensure(holds: bool, what: &str) -> Result {
    if holds {
        Ok(())
    } else {
        Err(format!("not true: {what}").into())
    }
}
