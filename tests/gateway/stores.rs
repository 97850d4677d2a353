//! The store itself: compare-and-set, ceilings, group commit, files.

use std::sync::Arc;

use cardless::store::{
    Change, PaymentRow, SqliteStore, Store, StoreError, Subject, Threads, WebhookRow,
};
use cardless_contract::Timestamp;

use crate::fake::Shape;
use crate::world::*;

async fn a_payment(world: &World) -> PaymentRow {
    world.linked().await;
    let payment = world.pay(&hold("r-1")).await;
    world.store.payment(&payment.id).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_old_version_is_a_conflict() {
    let world = World::new(Shape::TwoCalls);
    let row = a_payment(&world).await;
    world
        .store
        .apply(vec![Change::UpdatePayment(row.clone())])
        .await
        .unwrap();
    let again = world.store.apply(vec![Change::UpdatePayment(row)]).await;
    assert!(matches!(again, Err(StoreError::Conflict(Subject::Payment))));
}

#[tokio::test(start_paused = true)]
async fn the_ceilings_are_constraints() {
    let world = World::new(Shape::TwoCalls);
    let row = a_payment(&world).await;
    for change in [
        |row: &mut PaymentRow| row.reserved_capture = row.authorized + 1,
        |row: &mut PaymentRow| row.reserved_refund = row.captured + 1,
        |row: &mut PaymentRow| row.reserved_capture = -1,
        |row: &mut PaymentRow| row.refunded = -1,
    ] {
        let mut broken = row.clone();
        change(&mut broken);
        let result = world.store.apply(vec![Change::UpdatePayment(broken)]).await;
        assert!(matches!(result, Err(StoreError::Limit)));
    }
    let mut fits = row.clone();
    fits.reserved_capture = row.authorized;
    world
        .store
        .apply(vec![Change::UpdatePayment(fits)])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_batch_that_fails_takes_back_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("x.db").display());
    let store = Arc::new(SqliteStore::open(&url, Threads::Own).unwrap());
    let webhook = |event: String| {
        Change::InsertWebhook(WebhookRow {
            provider: "fake".to_owned(),
            event,
            received_at: Timestamp::from_seconds(1),
        })
    };
    store
        .apply(vec![webhook("taken".to_owned())])
        .await
        .unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..200 {
        let store = Arc::clone(&store);
        let mut batch = vec![webhook(format!("e-{number}"))];
        if number % 3 == 0 {
            batch.push(webhook("taken".to_owned()));
        }
        calls.spawn(async move { (number, store.apply(batch).await) });
    }
    while let Some(done) = calls.join_next().await {
        let (number, result) = done.unwrap();
        assert_eq!(result.is_err(), number % 3 == 0);
        let again = store.apply(vec![webhook(format!("e-{number}"))]).await;
        assert_eq!(again.is_ok(), number % 3 == 0, "{number}");
    }
}

#[tokio::test]
async fn a_file_is_private_migrated_once_and_refused_when_newer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let url = format!("sqlite:{}", path.display());
    std::fs::write(&path, b"").unwrap();
    std::fs::remove_file(&path).unwrap();
    for _ in 0..2 {
        let store = SqliteStore::open(&url, Threads::Own).unwrap();
        assert!(store.payment("pay_x").await.unwrap().is_none());
    }
    #[cfg(unix)]
    for name in ["x.db", "x.db-wal", "x.db-shm"] {
        use std::os::unix::fs::PermissionsExt as _;
        if let Ok(about) = std::fs::metadata(folder.path().join(name)) {
            assert_eq!(about.permissions().mode() & 0o777, 0o600, "{name}");
        }
    }
    let database = rusqlite::Connection::open(&path).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    assert!(matches!(
        SqliteStore::open(&url, Threads::Caller),
        Err(StoreError::Unavailable(_))
    ));
    assert!(SqliteStore::open("postgres://x", Threads::Caller).is_err());
}

#[tokio::test]
async fn an_empty_file_becomes_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    std::fs::write(&path, b"").unwrap();
    let url = format!("sqlite:{}", path.display());
    let store = SqliteStore::open(&url, Threads::Caller).unwrap();
    assert!(store.count_states().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_account_with_more_methods_than_a_page_keeps_its_default() {
    let world = World::new(Shape::TwoCalls);
    let mut last = String::new();
    for _ in 0..102 {
        last = world.linked().await;
    }
    let update = cardless::message::MethodUpdate {
        account: "a-1".to_owned(),
        default: true,
    };
    world.gateway.set_default(&last, &update).await.unwrap();
    let payment = world.pay(&charge("r-1")).await;
    assert_eq!(payment.payment_method.as_deref(), Some(last.as_str()));
    world.linked().await;
}
