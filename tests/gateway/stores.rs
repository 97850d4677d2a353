//! The store itself: compare-and-set, ceilings, group commit, files.

use std::sync::Arc;
use std::time::Duration;

use cardless::gateway::COUNTED_FOR;
use cardless::message::{LinkRequest, PayRequest, PaymentStatus};
use cardless::store::{
    Change, GenerationRow, GenerationState, LastAnswerRow, MerchantRow, PaymentRow, SealedColumn,
    SealedText, SqliteStore, Store, StoreError, Subject, Threads, WebhookRow,
};
use cardless::vault::{Context, KeyRing, Purpose, Vault};
use cardless_contract::{SystemEntropy, Timestamp};

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

/// What is open is counted in the transaction that would part from it.
#[tokio::test(start_paused = true)]
async fn a_merchant_changes_only_while_nothing_is_open_there() {
    let world = World::new(Shape::TwoCalls);
    let row = |merchant: &str, mode: Option<&str>| MerchantRow {
        provider: "fake".to_owned(),
        merchant: merchant.to_owned(),
        mode: mode.map(str::to_owned),
        since: Timestamp::from_seconds(1),
    };
    let set = |merchant: &str, mode| vec![Change::SetMerchant(row(merchant, mode))];
    let require = |merchant: &str, mode: &str| {
        vec![Change::RequireMerchant {
            provider: "fake".to_owned(),
            merchant: merchant.to_owned(),
            mode: mode.to_owned(),
        }]
    };
    let refused = |result| matches!(result, Err(StoreError::Conflict(Subject::Merchant)));
    let store = &world.store;
    store.apply(require("any", "way")).await.unwrap();
    a_payment(&world).await;
    store.apply(set("shop", None)).await.unwrap();
    store.apply(require("shop", "any way")).await.unwrap();
    store.apply(set("shop", Some("one way"))).await.unwrap();
    store.apply(set("shop", Some("one way"))).await.unwrap();
    store.apply(require("shop", "one way")).await.unwrap();
    for (merchant, mode) in [("another", "one way"), ("shop", "another way")] {
        assert!(refused(store.apply(require(merchant, mode)).await));
        assert!(refused(store.apply(set(merchant, Some(mode))).await));
    }
    assert_eq!(
        store.merchant("fake").await.unwrap(),
        Some(row("shop", Some("one way")))
    );
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

/// What of the schema holds bytes that are no seal: keyed hashes, and a client's public key.
const HASHES: [&str; 12] = [
    "audit_head.last",
    "audit_head.mac",
    "audit_lines.mac",
    "client_keys.mac",
    "client_keys.point",
    "clients.key_hash",
    "erasures.subject",
    "exchange_messages.jti",
    "old_api_keys.key_hash",
    "payments.body_mac",
    "request_keys.digest",
    "request_keys.key",
];

/// What of it is sealed and never sealed anew: what shows that a key is gone must stay under that key.
const SAMPLES: [&str; 1] = ["generations.sample"];

#[tokio::test]
async fn every_column_of_bytes_is_swept_or_a_hash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let url = format!("sqlite:{}", path.display());
    drop(SqliteStore::open(&url, Threads::Caller).unwrap());
    let database = rusqlite::Connection::open(&path).unwrap();
    let mut known: Vec<&str> = SealedColumn::ALL.map(SealedColumn::as_str).to_vec();
    known.extend(HASHES);
    known.extend(SAMPLES);
    known.sort_unstable();
    assert_eq!(byte_columns(&database), known);
    // The finder finds one that nobody knows of.
    database
        .execute_batch("CREATE TABLE strange (canary BLOB) STRICT")
        .unwrap();
    assert!(byte_columns(&database).contains(&"strange.canary".to_owned()));
}

/// The columns of the schema that hold bytes, as `table.column`, sorted.
fn byte_columns(database: &rusqlite::Connection) -> Vec<String> {
    let sql = "SELECT t.name || '.' || c.name FROM sqlite_master t, pragma_table_info(t.name) c
               WHERE t.type = 'table' AND c.type NOT IN ('TEXT', 'INTEGER', 'REAL')
                 AND t.name NOT LIKE 'sqlite_%' ORDER BY 1";
    let mut statement = database.prepare(sql).unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

/// The schema's steps before addresses named their generation.
fn before_generations() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/sqlite");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut steps: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    steps.retain(|path| path.extension().is_some_and(|kind| kind == "sql"));
    steps.sort();
    let steps = steps.into_iter();
    let before = steps.take_while(|path| !path.to_str().unwrap().ends_with("_generations.sql"));
    before
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

#[tokio::test]
async fn what_was_sealed_before_generations_were_kept_names_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let keys = KeyRing::generate(&SystemEntropy).unwrap();
    let keys = KeyRing::parse(&keys).unwrap();
    let active = keys.active_id().to_owned();
    let vault = Vault::new(keys, Arc::new(SystemEntropy));
    let context = Context {
        account: "a",
        provider: "fake",
        merchant: "-",
        record: "set_a",
        purpose: Purpose::Redirect,
    };
    let sealed = vault.seal(&context, b"https://pay.example/").unwrap().bytes;
    let database = rusqlite::Connection::open(&path).unwrap();
    let steps = before_generations();
    database.execute_batch(&steps.concat()).unwrap();
    database
        .pragma_update(None, "user_version", u32::try_from(steps.len()).unwrap())
        .unwrap();
    database
        .execute(
            "INSERT INTO accounts VALUES ('a', ?1, ?2, 0, 0)",
            rusqlite::params![sealed, active],
        )
        .unwrap();
    database
        .execute(
            "INSERT INTO setups (account, id, provider, state, return_url, redirect, expires_at,
                 attempts, lease_until, created_at, version)
             VALUES ('a', 'set_a', 'fake', 'awaiting_customer', 'x', ?1, 0, 0, 0, 0, 0),
                    ('a', 'set_b', 'fake', 'completed', 'x', NULL, 0, 0, 0, 0, 0)",
            [&sealed],
        )
        .unwrap();
    drop(database);

    let url = format!("sqlite:{}", path.display());
    let store = SqliteStore::open(&url, Threads::Caller).unwrap();
    let redirect = store.setup("set_a").await.unwrap().unwrap().redirect;
    let expected = SealedText {
        generation: active.clone(),
        bytes: sealed,
    };
    assert_eq!(redirect, Some(expected));
    assert_eq!(store.setup("set_b").await.unwrap().unwrap().redirect, None);
    // What there is counts as used once the keys are known.
    let row = GenerationRow {
        id: active,
        state: GenerationState::Active,
        uses: 0,
        created_at: Timestamp::from_seconds(1),
        retired_at: None,
        destroyed_at: None,
        tried: false,
        sample: None,
    };
    for _ in 0..2 {
        let adopt = vec![Change::AdoptGenerations(vec![row.clone()])];
        store.apply(adopt).await.unwrap();
        let known = store.generations().await.unwrap();
        assert_eq!(
            known,
            [GenerationRow {
                uses: 2,
                ..row.clone()
            }]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_about_an_account_that_is_gone_is_not_kept() {
    let world = World::new(Shape::TwoCalls);
    let payment = a_payment(&world).await;
    let answer = |account: &str, object: &str| LastAnswerRow {
        account: account.to_owned(),
        object: object.to_owned(),
        said: "interrupted".to_owned(),
        code: None,
        correlation: None,
        at: Timestamp::from_seconds(1),
    };
    for (account, kept) in [(payment.account.as_str(), true), ("gone", false)] {
        let row = answer(account, &format!("about-{account}"));
        let object = row.object.clone();
        let batch = vec![Change::KeepAnswer(row)];
        world.store.apply(batch).await.unwrap();
        let found = world.store.last_answer(&object).await.unwrap();
        assert_eq!(found.is_some(), kept, "{account}");
    }
}

/// Somebody who can write to the database points rows at another account's token.
#[tokio::test(start_paused = true)]
async fn a_row_that_is_pointed_at_another_accounts_token_charges_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let url = format!("sqlite:{}", path.display());
    let world = World::on(Arc::new(SqliteStore::open(&url, Threads::Caller).unwrap()));
    let mine = world.linked().await;
    let request = LinkRequest {
        account: "a-2".to_owned(),
        ..link_request()
    };
    let setup = world.gateway.link(&world.key(), &request).await.unwrap();
    world.fake.end_setup("linked");
    let setup = world.gateway.complete_link(&setup.body.id).await.unwrap();
    let theirs = setup.payment_method.unwrap();
    let database = rusqlite::Connection::open(&path).unwrap();
    // The control: as they are, each charges its own.
    assert_eq!(
        world.pay(&charge("r-0")).await.status,
        PaymentStatus::Captured
    );
    let taken = world.fake.state.lock().unwrap().ledger.len();
    let of = |method: &str| -> (String, String) {
        let sql = "SELECT record, account FROM payment_methods WHERE id = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        database.query_row(sql, [method], read).unwrap()
    };
    let point = |method: &str, (record, account): &(String, String)| {
        let sql =
            "UPDATE payment_methods SET record = ?1, account = ?2, is_default = 0 WHERE id = ?3";
        assert_eq!(database.execute(sql, [record, account, method]).unwrap(), 1);
    };
    let (a, b) = (of(&mine), of(&theirs));
    for (number, (method, pointed, whole)) in [
        // My method at their record; their method as one of mine.
        (&mine, (b.0.clone(), a.1.clone()), &a),
        (&theirs, (b.0.clone(), a.1.clone()), &b),
    ]
    .into_iter()
    .enumerate()
    {
        point(method, &pointed);
        let request = PayRequest {
            payment_method: Some(method.clone()),
            ..charge(&format!("r-{}", number + 1))
        };
        let paid = world.pay(&request).await;
        assert_eq!(paid.status, PaymentStatus::Failed, "{method}");
        world.run_minutes(30).await;
        assert_eq!(world.fake.state.lock().unwrap().ledger.len(), taken);
        point(method, whole);
    }
    let whole = PayRequest {
        payment_method: Some(mine),
        ..charge("r-9")
    };
    assert_eq!(world.pay(&whole).await.status, PaymentStatus::Captured);
}

/// Whoever asks for metrics makes nothing be counted over and over.
#[tokio::test(start_paused = true)]
async fn payments_are_counted_for_metrics_once_in_a_while() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let captured = async || {
        let text = world.gateway.metrics().await.unwrap();
        let line = text.lines().find(|line| line.contains("\"captured\""));
        line.map(|line| line.rsplit(' ').next().unwrap().to_owned())
    };
    world.pay(&charge("r-1")).await;
    assert_eq!(captured().await.as_deref(), Some("1"));
    world.pay(&charge("r-2")).await;
    tokio::time::advance(COUNTED_FOR - Duration::from_millis(1)).await;
    assert_eq!(captured().await.as_deref(), Some("1"));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(captured().await.as_deref(), Some("2"));
}
