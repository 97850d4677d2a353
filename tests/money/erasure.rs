//! Erasure at each provider, with lost replies and restarts, and what is left of a person in the
//! database's files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cardless::gateway::{Actor, AuditQuery};
use cardless::message::{Capture, ErasureStatus, PaymentStatus, RefundRequest};
use cardless::vault::{Context, KeyRing, Purpose, Vault};
use cardless_contract::SystemEntropy;
use cardless_sandbox::EntryKind;
use tempfile::TempDir;

use crate::world::{ALL, World};
use crate::{LOSSES, step};

const ACCOUNT: &str = "acct-7";

/// Longer than a lease.
const LEASE: Duration = Duration::from_secs(200);

/// What a person can be known by, planted in every text that a caller can give.
const REFERENCE: &str = "canary-reference-mrs-smith";
const DESCRIPTION: &str = "canary description of mrs smith";

/// The bytes of the database, its log and its index.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// In which files a piece of bytes stands.
fn found(folder: &Path, piece: &[u8]) -> Vec<String> {
    let holds = |bytes: &[u8]| bytes.windows(piece.len()).any(|window| window == piece);
    let of = files(folder).into_iter();
    of.filter(|(_, bytes)| holds(bytes))
        .map(|(name, _)| name)
        .collect()
}

/// The account's only token, opened with the keys, and its sealed bytes.
async fn token(world: &World, method: &str) -> (String, Vec<u8>) {
    let row = world.store.method(method).await.unwrap().unwrap();
    let record = world
        .store
        .record(&row.record.unwrap())
        .await
        .unwrap()
        .unwrap();
    let keys = KeyRing::parse(&world.key_file).unwrap();
    let vault = Vault::new(keys, Arc::new(SystemEntropy));
    let context = Context {
        account: &record.account,
        provider: &record.provider,
        merchant: &record.merchant,
        record: &record.id,
        purpose: Purpose::Token,
    };
    let token = vault.open_token(&context, &record.sealed).unwrap();
    (token.expose().to_owned(), record.sealed)
}

#[tokio::test(start_paused = true)]
async fn an_erasure_ends_at_every_provider_after_every_loss_and_leaves_no_bytes() {
    for provider in ALL {
        for loss in LOSSES {
            erased(provider, loss).await;
        }
    }
}

async fn erased(provider: &str, loss: &str) {
    let what = format!("{provider}: {loss}");
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("x.db").display());
    let mut world = World::on(&url);
    let method = world.link(provider).await;
    let mut request = World::charge(&method, 4990, REFERENCE);
    request.description = Some(DESCRIPTION.to_owned());
    request.return_url = Some("https://shop.example/canary-return".to_owned());
    let payment = world.pay(&request).await;
    assert_eq!(payment.status, PaymentStatus::Captured, "{what}");
    let held = World::charge(&method, 1000, "canary-held");
    let held = world
        .pay(&cardless::message::PayRequest {
            capture: Capture::Manual,
            ..held
        })
        .await;
    assert_eq!(held.status, PaymentStatus::Authorized, "{what}");
    let (secret, sealed) = token(&world, &method).await;
    let row = world.store.payment(&payment.id).await.unwrap().unwrap();
    let sealed_id = world
        .store
        .account(&row.account)
        .await
        .unwrap()
        .unwrap()
        .sealed_id;
    let texts = [
        REFERENCE.as_bytes(),
        DESCRIPTION.as_bytes(),
        b"canary-return",
        b"shop.example/back",
        b"canary-held",
        row.account.as_bytes(),
        sealed.as_slice(),
        sealed_id.as_slice(),
    ];
    // The finder finds what is there.
    for text in texts {
        assert!(!found(folder.path(), text).is_empty(), "{what}: {text:?}");
    }

    for _ in 0..2 {
        world.inject(provider, step(provider, "revoke"), loss);
    }
    let gateway = world.gateway.acting_as(Actor::command_line("ann"));
    let begun = gateway.erase(&world.key(), ACCOUNT).await.unwrap();
    assert!(begun.open, "{what}: {:?}", begun.body);
    // Another process goes on with it, and a third.
    for _ in 0..3 {
        world.restart();
        world.pass(LEASE).await;
        world.gateway.reconcile().await.unwrap();
    }
    let open = world.gateway.erasure(ACCOUNT).await.unwrap().body;
    assert_eq!(open.revoked.len(), 1, "{what}: {open:?}");
    assert_eq!(open.waiting_for.len(), 1, "{what}: {open:?}");
    assert_eq!(open.waiting_for[0].id, held.id, "{what}");
    let void = cardless::message::VoidRequest {
        account: ACCOUNT.to_owned(),
    };
    world
        .gateway
        .void(&world.key(), &held.id, &void)
        .await
        .unwrap();
    world.settle().await;

    let receipt = world.gateway.erasure(ACCOUNT).await.unwrap().body;
    assert_eq!(receipt.status, ErasureStatus::Erased, "{what}: {receipt:?}");
    assert_eq!(receipt.id, begun.body.id, "{what}");
    assert_eq!(receipt.revoked[0].provider.as_str(), provider);
    assert_eq!(receipt.revoked[0].payment_methods, 1, "{what}");
    assert_eq!(receipt.kept.unwrap().payments, 2, "{what}");
    // The token is gone at the provider: nothing can be charged with it again.
    let again = World::charge(&method, 100, "again");
    assert!(
        world.gateway.pay(&world.key(), &again).await.is_err(),
        "{what}"
    );
    assert_eq!(world.moved(EntryKind::Capture), [4990], "{what}");
    let books = world.gateway.payment(&payment.id).await.unwrap();
    assert_eq!(
        (books.captured.minor(), books.account.as_str()),
        (4990, "(erased)")
    );

    // While the store is open still: neither in the database nor in its log.
    for text in texts
        .into_iter()
        .chain([secret.as_bytes(), ACCOUNT.as_bytes()])
    {
        let left = found(folder.path(), text);
        assert!(
            left.is_empty(),
            "{what}: {left:?}: {}",
            String::from_utf8_lossy(text)
        );
    }
    let report = world.gateway.verify_audit(None, |_| {}).await.unwrap();
    assert!(report.is_whole(), "{what}: {report:?}");
    let query = AuditQuery {
        account: Some(ACCOUNT.to_owned()),
        limit: 10,
        ..AuditQuery::default()
    };
    let lines = world.gateway.audit_lines(&query).await.unwrap().data;
    // Each look at how far it is, and the erasure itself.
    let (looks, asked): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line.action == "account.show");
    assert_eq!((looks.len(), asked.len()), (2, 1), "{what}");
    assert_eq!(asked[0].actor, "ann", "{what}");
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_tells_after_an_erasure_is_booked() {
    for provider in ALL {
        let world = World::new();
        let method = world.link(provider).await;
        let payment = world.pay(&World::charge(&method, 4990, "r-1")).await;
        // A refund that is sent and whose reply is lost: the erasure waits for the truth.
        world.inject(provider, step(provider, "refund"), "execute_then_drop");
        let refund = RefundRequest {
            account: ACCOUNT.to_owned(),
            amount: None,
        };
        let refund = world
            .gateway
            .refund(&world.key(), &payment.id, &refund)
            .await
            .unwrap();
        assert!(refund.open, "{provider}");
        assert!(
            world
                .gateway
                .erase(&world.key(), ACCOUNT)
                .await
                .unwrap()
                .open,
            "{provider}"
        );
        world.settle().await;
        let receipt = world.gateway.erasure(ACCOUNT).await.unwrap().body;
        assert_eq!(receipt.status, ErasureStatus::Erased, "{provider}");
        let books = world.gateway.payment(&payment.id).await.unwrap();
        assert_eq!(books.refunded.minor(), 4990, "{provider}");
        assert_eq!(world.moved(EntryKind::Refund), [4990], "{provider}");
        let verified = world.gateway.verify().await.unwrap();
        assert!(verified.is_clean(), "{provider}: {verified:?}");
    }
}
