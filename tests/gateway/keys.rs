//! The keys are rotated while payments go on: every record opens afterwards, names the new
//! generation, and none is lost; what is destroyed opens nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cardless::error::{Causes, Code, Error};
use cardless::gateway::{Gateway, KeyGeneration, KeysRotated, MAX_USES, WARN_AGE};
use cardless::message::*;
use cardless::store::{
    AccountRow, Change, GenerationRow, GenerationState, ResealedRow, SealedColumn, SealedRow,
    SqliteStore, Store, StoreError, Subject, Threads,
};
use cardless::vault::{Context, Custody, KeyFileError, KeyRing, Purpose, Vault, VaultError};
use cardless_contract::{Clock as _, SystemEntropy};
use zeroize::Zeroizing;

use crate::fake::Shape;
use crate::world::*;

/// Accounts with a method each, setups that wait for their customer, and payments that do.
async fn filled(world: &World, accounts: usize) {
    for number in 0..accounts {
        let account = format!("a-{number}");
        link(&world.gateway, world, &account).await;
        let page = LinkRequest {
            account: account.clone(),
            amount: Some(Amount::new("CHF", 4990)),
            reference: Some(format!("first-{number}")),
            ..link_request()
        };
        world.gateway.link(&world.key(), &page).await.unwrap();
    }
}

/// A database file, and a backup of it.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn store(&self, name: &str) -> Arc<SqliteStore> {
        let url = format!("sqlite:{}", self.0.path().join(name).display());
        Arc::new(SqliteStore::open(&url, Threads::Caller).unwrap())
    }

    /// What somebody does who writes to the file behind everybody's back.
    pub(crate) fn execute(&self, sql: &str) {
        self.file().execute_batch(sql).unwrap();
    }

    /// A connection of somebody else's.
    pub(crate) fn file(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.0.path().join("x.db")).unwrap()
    }

    fn back_up(&self) {
        let path = |name| self.0.path().join(name);
        let file = rusqlite::Connection::open(path("x.db")).unwrap();
        let backup = path("backup.db");
        file.execute("VACUUM INTO ?1", [backup.to_str().unwrap()])
            .unwrap();
    }
}

async fn link(gateway: &Gateway, world: &World, account: &str) -> String {
    let request = LinkRequest {
        account: account.to_owned(),
        ..link_request()
    };
    let setup = gateway.link(&world.key(), &request).await.unwrap().body;
    world.fake.end_setup("linked");
    let setup = gateway.complete_link(&setup.id).await.unwrap();
    world.fake.end_setup("done");
    setup.payment_method.unwrap()
}

async fn rotate(gateway: &Gateway, limit: u32) -> KeysRotated {
    let mut rotation = gateway.rotate_keys().await.unwrap();
    while rotation.step(limit).await.unwrap() {}
    rotation.finish().await.unwrap()
}

/// What opens, by column, row and generation. Everything must.
async fn plaintexts(world: &World) -> BTreeMap<(&'static str, String), (String, Vec<u8>)> {
    let opened = opened(world, world.store.as_ref()).await.into_iter();
    opened
        .map(|(place, (generation, opened))| (place, (generation, opened.unwrap())))
        .collect()
}

/// Everything sealed in a store, by column and row: under which generation, and what it opens to with
/// the keys as they are kept now, each in its own context.
async fn opened(
    world: &World,
    store: &dyn Store,
) -> BTreeMap<(&'static str, String), (String, Result<Vec<u8>, VaultError>)> {
    let keys = KeyRing::from_custody(world.keys.clone()).unwrap();
    let vault = Vault::new(keys, Arc::new(SystemEntropy));
    let mut found = BTreeMap::new();
    for (column, generation, count) in store.count_sealed().await.unwrap() {
        let rows = store.sealed(column, &generation, 0, 10_000).await.unwrap();
        assert_eq!(number(rows.len()), count);
        for row in rows {
            let opened = vault.open(&context(column, &row), &row.bytes);
            found.insert(
                (column.as_str(), row.id.clone()),
                (generation.clone(), opened.map(|opened| opened.to_vec())),
            );
        }
    }
    found
}

/// Where a sealed value belongs.
fn context(column: SealedColumn, row: &SealedRow) -> Context<'_> {
    Context {
        account: &row.account,
        provider: if row.provider.is_empty() {
            "-"
        } else {
            &row.provider
        },
        merchant: if row.merchant.is_empty() {
            "-"
        } else {
            &row.merchant
        },
        record: match column {
            SealedColumn::Account => "account",
            SealedColumn::Record | SealedColumn::SetupRedirect | SealedColumn::PaymentRedirect => {
                &row.id
            }
        },
        purpose: match column {
            SealedColumn::Record => Purpose::Token,
            SealedColumn::Account => Purpose::Account,
            SealedColumn::SetupRedirect | SealedColumn::PaymentRedirect => Purpose::Redirect,
        },
    }
}

/// What the store keeps of a generation to prove its end.
async fn sample(world: &World, place: usize) -> Option<Vec<u8>> {
    world.store.generations().await.unwrap()[place]
        .sample
        .clone()
}

/// Opens a sample with the keys as they are kept now.
fn open_sample(world: &World, sample: &[u8]) -> Result<Vec<u8>, VaultError> {
    let keys = KeyRing::from_custody(world.keys.clone()).unwrap();
    let context = Context {
        account: "-",
        provider: "-",
        merchant: "-",
        record: "sample",
        purpose: Purpose::Answer,
    };
    let opened = Vault::new(keys, Arc::new(SystemEntropy)).open(&context, sample);
    opened.map(|opened| opened.to_vec())
}

fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap()
}

fn message(error: &Error) -> String {
    Causes(error).to_string()
}

#[tokio::test(start_paused = true)]
async fn after_a_rotation_everything_opens_under_the_new_generation() {
    let world = World::new(Shape::Page);
    filled(&world, 5).await;
    let before = plaintexts(&world).await;
    let columns: BTreeSet<_> = before.keys().map(|(column, _)| *column).collect();
    assert_eq!(columns.len(), SealedColumn::ALL.len(), "{columns:?}");
    let old = world.gateway.keys().await.unwrap().generations[0]
        .id
        .clone();

    let rotated = rotate(&world.gateway, 3).await;

    let after = plaintexts(&world).await;
    assert_eq!(rotated.resealed, number(before.len()));
    assert_eq!((rotated.unopened, rotated.resumed), (0, false));
    assert_eq!(rotated.retired, std::slice::from_ref(&old));
    assert_ne!(rotated.generation, old);
    let texts = |found: &BTreeMap<(&'static str, String), (String, Vec<u8>)>| {
        let pairs = found
            .iter()
            .map(|(key, value)| (key.clone(), value.1.clone()));
        pairs.collect::<BTreeMap<_, _>>()
    };
    assert_eq!(texts(&before), texts(&after));
    for (generation, _) in after.values() {
        assert_eq!(*generation, rotated.generation);
    }
    let report = world.gateway.keys().await.unwrap();
    let states: Vec<_> = report.generations.iter().map(|found| found.state).collect();
    assert_eq!(states, ["active", "retiring"]);
    assert_eq!(report.generations[0].sealed, number(before.len()));
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_knows_nothing_of_the_rotation_charges_and_links_on() {
    let world = World::new(Shape::TwoCalls);
    filled(&world, 2).await;
    let other = world.another_worker();
    other.open_keys().await.unwrap();
    let mut rotation = world.gateway.rotate_keys().await.unwrap();
    let mut turn = 0;
    loop {
        let paid = other
            .pay(
                &world.key(),
                &PayRequest {
                    account: "a-1".to_owned(),
                    ..charge(&format!("during-{turn}"))
                },
            )
            .await
            .unwrap();
        assert_eq!(paid.body.status, PaymentStatus::Captured);
        link(&other, &world, &format!("new-{turn}")).await;
        turn += 1;
        if !rotation.step(2).await.unwrap() {
            break;
        }
    }
    let rotated = rotation.finish().await.unwrap();
    for (_, generation, _) in world.store.count_sealed().await.unwrap() {
        assert_eq!(generation, rotated.generation);
    }
    assert_eq!(plaintexts(&world).await.len(), 6 + 2 * turn);
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_rotation_goes_on_where_it_was() {
    let world = World::new(Shape::Page);
    filled(&world, 6).await;
    let all = number(plaintexts(&world).await.len());
    let mut generations = BTreeSet::new();
    let mut done = 0;
    for killed_after in 0..4 {
        let mut rotation = world.another_worker().rotate_keys().await.unwrap();
        assert_eq!(rotation.is_resumed(), killed_after > 0);
        assert!(rotation.done() >= done);
        for _ in 0..killed_after {
            rotation.step(2).await.unwrap();
        }
        done = rotation.done();
        generations.insert(rotation.generation().to_owned());
    }
    let rotated = rotate(&world.gateway, 2).await;
    generations.insert(rotated.generation.clone());
    assert!(rotated.resumed);
    assert_eq!(generations.len(), 1, "it is one rotation");
    assert!(rotated.resealed < all, "what was done is not done again");
    assert_eq!(number(plaintexts(&world).await.len()), all);
    let rotations = world.gateway.rotations().await.unwrap();
    assert_eq!(rotations.len(), 1);
    assert_eq!((rotations[0].done, rotations[0].total), (all, all));
}

#[tokio::test(start_paused = true)]
async fn of_two_rotations_one_is_refused() {
    let world = World::new(Shape::TwoCalls);
    filled(&world, 4).await;
    let other = world.another_worker();
    let mut first = world.gateway.rotate_keys().await.unwrap();
    // While the first one lives, the second is refused as soon as it has seen that.
    let (second, _) = tokio::join!(other.rotate_keys(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in 0..3 {
            first.step(1).await.unwrap();
        }
    });
    let refused = second.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
    assert!(refused.message().contains("rotate status"), "{refused}");
    // Once nothing is heard of it any more it is taken over, and can write nothing.
    let mut second = other.rotate_keys().await.unwrap();
    assert!(second.is_resumed());
    let mut results = Vec::new();
    for _ in 0..4 {
        results.push(first.step(1).await);
        second.step(1).await.unwrap();
    }
    assert!(results.iter().any(Result::is_err), "{results:?}");
    let rotated = second.finish().await.unwrap();
    assert_eq!(rotated.retired.len(), 1);
    assert_eq!(plaintexts(&world).await.len(), 12);
}

/// Keys that another process rotates from beginning to end just when they are read.
#[derive(Debug)]
struct Overtaken {
    keys: Arc<Pocket>,
    by: Mutex<Option<Gateway>>,
}

impl Custody for Overtaken {
    fn name(&self) -> String {
        self.keys.name()
    }

    fn fingerprint(&self) -> Result<[u8; 32], KeyFileError> {
        self.keys.fingerprint()
    }

    fn read(&self) -> Result<Zeroizing<String>, KeyFileError> {
        if let Some(other) = self.by.lock().unwrap().take() {
            let rotating = std::thread::spawn(move || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_time().build().unwrap();
                runtime.block_on(rotate(&other, 100))
            });
            rotating.join().unwrap();
        }
        self.keys.read()
    }

    fn replace(&self, present: &str, text: &str) -> Result<(), KeyFileError> {
        self.keys.replace(present, text)
    }

    fn as_kept(&self, text: &str) -> Result<Zeroizing<String>, KeyFileError> {
        self.keys.as_kept(text)
    }

    fn remark(&self) -> Option<String> {
        self.keys.remark()
    }
}

/// A rotation retires only what it has seen sealing, so that a sample of each is kept, once.
#[tokio::test(start_paused = true)]
async fn a_rotation_that_is_overtaken_by_a_whole_one_begins_anew() {
    let world = World::new(Shape::TwoCalls);
    filled(&world, 2).await;
    let overtaken = Arc::new(Overtaken {
        keys: world.keys.clone(),
        by: Mutex::default(),
    });
    let keys = KeyRing::from_custody(overtaken.clone()).unwrap();
    let slow = world.builder().keys(keys).build().unwrap();
    slow.open_keys().await.unwrap();
    *overtaken.by.lock().unwrap() = Some(world.another_worker());
    let first = world.gateway.keys().await.unwrap().generations[0].clone();

    let rotated = rotate(&slow, 100).await;

    assert!(!rotated.resumed);
    let rows = world.store.generations().await.unwrap();
    let states: Vec<_> = rows.iter().map(|row| row.state.as_str()).collect();
    assert_eq!(states, ["active", "retiring", "retiring"]);
    assert_eq!(rows[0].id, rotated.generation);
    for row in &rows[1..] {
        let kept = row.sample.as_ref().unwrap();
        open_sample(&world, kept).unwrap();
    }
    let retired = rows.iter().find(|row| row.id == first.id).unwrap();
    assert_eq!(retired.uses, first.uses + 1, "one sample is made of it");
    for (generation, _) in plaintexts(&world).await.values() {
        assert_eq!(*generation, rotated.generation);
    }
    let ids = KeyRing::from_custody(world.keys.clone()).unwrap();
    assert_eq!(ids.active_id(), rotated.generation);
    assert_eq!(ids.generation_ids().count(), 3);
    let destroyed = world.gateway.destroy_retired().await.unwrap();
    assert_eq!((destroyed.generations.len(), destroyed.refused), (2, 2));
    assert!(destroyed.untried.is_empty(), "{destroyed:?}");
}

/// The same in the store by itself.
#[tokio::test(start_paused = true)]
async fn the_store_retires_no_generation_but_the_one_that_is_named() {
    let world = World::new(Shape::TwoCalls);
    filled(&world, 1).await;
    rotate(&world.gateway, 100).await;
    let before = world.store.generations().await.unwrap();
    for retires in [before[1].id.as_str(), "kek_unknown"] {
        let activate = Change::ActivateGeneration {
            row: GenerationRow {
                id: "kek_new".to_owned(),
                ..before[0].clone()
            },
            retires: retires.to_owned(),
            at: cardless_contract::Timestamp::from_seconds(1),
        };
        let refused = world.store.apply(vec![activate]).await;
        assert!(
            matches!(refused, Err(StoreError::Conflict(Subject::Generation))),
            "{refused:?}"
        );
    }
    assert_eq!(world.store.generations().await.unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_needed_is_not_destroyed() {
    let world = World::new(Shape::TwoCalls);
    filled(&world, 3).await;
    let nothing = world.gateway.destroy_retired().await.unwrap();
    assert!(nothing.generations.is_empty());
    let mut rotation = world.gateway.rotate_keys().await.unwrap();
    let unfinished = world.gateway.destroy_retired().await.unwrap_err();
    assert_eq!(unfinished.code(), Code::InvalidState);
    assert!(unfinished.message().contains("unfinished"), "{unfinished}");
    while rotation.step(100).await.unwrap() {}
    let rotated = rotation.finish().await.unwrap();

    // A row that is put back under the old generation, behind everybody's back.
    let row = world
        .store
        .sealed(SealedColumn::Record, &rotated.generation, 0, 1);
    let row = row.await.unwrap().remove(0);
    let old = rotated.retired[0].clone();
    let back = Change::Reseal {
        column: SealedColumn::Record,
        from: rotated.generation.clone(),
        to: old.clone(),
        rows: Vec::new(),
    };
    let refused = world.store.apply(vec![back]).await;
    assert!(matches!(
        refused,
        Err(StoreError::Conflict(Subject::Generation))
    ));
    assert!(world.keys.text().contains(&old));

    let destroyed = world.gateway.destroy_retired().await.unwrap();
    assert_eq!(destroyed.generations, std::slice::from_ref(&old));
    assert_eq!(destroyed.refused, 1);
    assert_eq!(destroyed.counted, 9);
    assert!(!world.keys.text().contains(&old));
    assert_eq!(plaintexts(&world).await.len(), 9);
    assert!(!row.bytes.is_empty());
    let generations = world.store.generations().await.unwrap();
    assert_eq!(generations[1].state, GenerationState::Destroyed);
    assert!(generations[1].destroyed_at.is_some());
    // Once more has nothing to do.
    let again = world.gateway.destroy_retired().await.unwrap();
    assert!(again.generations.is_empty());
}

/// Nothing is destroyed that something stands under, though the rotation is finished: a row of before it,
/// put back by somebody who writes to the file.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_needed_again_after_its_rotation_is_not_destroyed() {
    let files = Files::new();
    let world = World::on(files.store("x.db"));
    filled(&world, 1).await;
    files.execute("CREATE TABLE before_it AS SELECT * FROM records");
    let old = rotate(&world.gateway, 3).await.retired.remove(0);
    files.execute(PUT_BACK);
    let refused = world.gateway.destroy_retired().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
    let says = format!("{old} seals 1 of records.sealed");
    assert!(refused.message().contains(&says), "{refused}");
    assert!(world.gateway.key_file_without_retired().await.is_err());
    assert!(world.keys.text().contains(&old));
    assert_eq!(
        world.store.generations().await.unwrap()[1].state,
        GenerationState::Retiring
    );
    // Sealed anew it may go.
    rotate(&world.gateway, 3).await;
    let destroyed = world.gateway.destroy_retired().await.unwrap();
    assert_eq!((destroyed.generations.len(), destroyed.refused), (2, 2));
}

/// The records as they were before a rotation, under the key of that time.
const PUT_BACK: &str = "UPDATE records SET (sealed, generation) =
    (SELECT b.sealed, b.generation FROM before_it b WHERE b.id = records.id)";

/// A row that comes between the count and the mark: the store counts again in the mark's transaction.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_needed_since_the_count_is_not_destroyed() {
    let files = Files::new();
    let world = World::on(files.store("x.db"));
    filled(&world, 1).await;
    files.execute("CREATE TABLE before_it AS SELECT * FROM records");
    let old = rotate(&world.gateway, 3).await.retired.remove(0);
    // A missing sample is written behind the count, and with it comes the row.
    files.execute(&format!(
        "UPDATE generations SET sample = NULL;
         CREATE TRIGGER race AFTER UPDATE OF sample ON generations BEGIN {PUT_BACK}; END"
    ));
    let refused = world.gateway.destroy_retired().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
    assert!(
        refused
            .message()
            .contains("needed after all; nothing was destroyed"),
        "{refused}"
    );
    assert!(world.keys.text().contains(&old));
    assert_eq!(
        world.store.generations().await.unwrap()[1].state,
        GenerationState::Retiring
    );
    assert_eq!(plaintexts(&world).await.len(), 3, "all of it opens");
}

/// What is new is sealed under the active generation or not written.
#[tokio::test(start_paused = true)]
async fn the_store_takes_nothing_new_that_is_sealed_under_an_older_generation() {
    let world = World::new(Shape::Page);
    world.linked().await;
    let payment = world.pay(&present("r-1")).await;
    let setup = world.gateway.link(&world.key(), &link_request()).await;
    let setup = setup.unwrap().body;
    let mut payment = world.store.payment(&payment.id).await.unwrap().unwrap();
    let mut setup = world.store.setup(&setup.id).await.unwrap().unwrap();
    assert!(payment.redirect.is_some() && setup.redirect.is_some());
    let rotation = world.gateway.rotate_keys().await.unwrap();
    payment.id = "pay_aaaaaaaaaaaaaaaaaaaa".to_owned();
    setup.id = "set_aaaaaaaaaaaaaaaaaaaa".to_owned();
    for change in [Change::InsertPayment(payment), Change::InsertSetup(setup)] {
        let refused = world.store.apply(vec![change]).await;
        assert!(
            matches!(refused, Err(StoreError::Conflict(Subject::Generation))),
            "{refused:?}"
        );
    }
    drop(rotation);
}

/// The same in the store by itself, for each column of which something is left.
#[tokio::test(start_paused = true)]
async fn the_store_marks_no_generation_that_something_is_sealed_under() {
    let world = World::new(Shape::Page);
    filled(&world, 1).await;
    let mut rotation = world.gateway.rotate_keys().await.unwrap();
    let generations = world.store.generations().await.unwrap();
    let [to, from] = [&generations[0].id, &generations[1].id];
    for column in SealedColumn::ALL {
        let mark = Change::MarkDestroyed(from.clone());
        let refused = world.store.apply(vec![mark]).await;
        assert!(
            matches!(refused, Err(StoreError::Conflict(Subject::Generation))),
            "{column:?} {refused:?}"
        );
        let rows = world.store.sealed(column, from, 0, 100).await.unwrap();
        assert!(!rows.is_empty(), "{column:?}");
        let rows = rows.into_iter().map(|row| ResealedRow {
            place: row.place,
            id: row.id,
            bytes: row.bytes,
        });
        let resealed = Change::Reseal {
            column,
            from: from.clone(),
            to: to.clone(),
            rows: rows.collect(),
        };
        world.store.apply(vec![resealed]).await.unwrap();
    }
    let mark = Change::MarkDestroyed(from.clone());
    world.store.apply(vec![mark]).await.unwrap();
    while rotation.step(100).await.unwrap() {}
}

#[tokio::test(start_paused = true)]
async fn a_seal_that_comes_too_late_is_not_kept() {
    let world = World::new(Shape::TwoCalls);
    filled(&world, 1).await;
    let old = world.gateway.keys().await.unwrap().generations[0]
        .id
        .clone();
    let account = |generation: &str| {
        Change::EnsureAccount(AccountRow {
            account: "late".to_owned(),
            sealed_id: vec![1],
            generation: generation.to_owned(),
            restricted: false,
            created_at: cardless_contract::Timestamp::from_seconds(1),
        })
    };
    let rotated = rotate(&world.gateway, 10).await;
    let late = world.store.apply(vec![account(&old)]).await;
    assert!(matches!(
        late,
        Err(StoreError::Conflict(Subject::Generation))
    ));
    world
        .store
        .apply(vec![account(&rotated.generation)])
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_nothing_is_sealed_until_the_keys_are_rotated() {
    let world = World::new(Shape::TwoCalls);
    filled(&world, 1).await;
    let report = world.gateway.keys().await.unwrap();
    let active = report.generations[0].clone();
    assert!((1..=256).contains(&active.uses), "{}", active.uses);
    let reserve = |uses| Change::ReserveUses {
        generation: active.id.clone(),
        uses,
        limit: MAX_USES,
    };
    let rest = MAX_USES - active.uses;
    let beyond = world.store.apply(vec![reserve(rest + 1)]).await;
    assert!(matches!(
        beyond,
        Err(StoreError::Conflict(Subject::Generation))
    ));
    world.store.apply(vec![reserve(rest)]).await.unwrap();
    let report = world.gateway.keys().await.unwrap();
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);

    let other = world.another_worker();
    let refused = other.link(&world.key(), &link_request()).await.unwrap_err();
    assert!(
        refused.message().contains("cardless rotate keys"),
        "{refused}"
    );
    rotate(&world.gateway, 100).await;
    other.link(&world.key(), &link_request()).await.unwrap();
    assert!(world.gateway.open_keys().await.unwrap().is_empty());

    world.clock.forward(WARN_AGE);
    let warnings = world.gateway.open_keys().await.unwrap();
    assert!(warnings[0].contains("90 days old"), "{warnings:?}");
    let metrics = world.gateway.metrics().await.unwrap();
    assert!(
        metrics.contains("cardless_kek_uses{generation=\"kek_"),
        "{metrics}"
    );
    assert!(
        metrics.contains("cardless_kek_age_seconds{generation=\"kek_"),
        "{metrics}"
    );
}

/// Whoever can write to the database can make a key look younger there, and not in the key file.
#[tokio::test(start_paused = true)]
async fn a_key_is_as_old_as_its_file_says_whatever_the_database_says() {
    let files = Files::new();
    let world = World::on(files.store("x.db"));
    filled(&world, 1).await;
    rotate(&world.gateway, 3).await;
    world.clock.forward(WARN_AGE);
    let now = world.clock.now().millis();
    files.execute(&format!("UPDATE generations SET created_at = {now}"));

    let report = world.gateway.keys().await.unwrap();
    assert!(report.warnings[0].contains("90 days old"), "{report:?}");
    let warnings = world.gateway.open_keys().await.unwrap();
    assert_eq!(warnings, report.warnings);
    let metrics = world.gateway.metrics().await.unwrap();
    let age = metrics
        .lines()
        .find(|line| line.starts_with("cardless_kek_age_seconds{"))
        .and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    assert!(age >= Some(WARN_AGE.as_secs()), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_loses_at_most_a_block_of_uses_and_counts_none_too_few() {
    let world = World::new(Shape::TwoCalls);
    let mut sealed = 0;
    for number in 0..5 {
        // A process that seals a little and dies.
        let worker = world.another_worker();
        for account in 0..3 {
            link(&worker, &world, &format!("a-{number}-{account}")).await;
        }
        sealed += 3 * 3;
        let uses = world.gateway.keys().await.unwrap().generations[0].uses;
        assert!(uses >= sealed, "{uses} counted, {sealed} sealed");
        assert!(uses <= 256 * (number + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_mounted_secret_is_rotated_by_a_person() {
    let world = World::new(Shape::TwoCalls);
    filled(&world, 2).await;
    world.keys.mounted.store(true, Ordering::Relaxed);
    let refused = world.gateway.rotate_keys().await.unwrap_err();
    assert!(
        message(&refused).contains("can't be written"),
        "{}",
        message(&refused)
    );
    let text = world.gateway.next_key_file().await.unwrap();
    world.keys.put(&text);
    let rotated = rotate(&world.gateway, 3).await;
    assert!(text.contains(&rotated.generation));

    assert!(world.gateway.destroy_retired().await.is_err());
    let text = world.gateway.key_file_without_retired().await.unwrap();
    world.keys.put(&text);
    let destroyed = world.gateway.destroy_retired().await.unwrap();
    // The key was gone already; a sample was sealed while it was here.
    assert_eq!((destroyed.generations.len(), destroyed.refused), (1, 1));
    assert!(destroyed.untried.is_empty(), "{destroyed:?}");
    assert_eq!(plaintexts(&world).await.len(), 6);
}

/// A secret is laid out as whoever has mounted it likes: trimmed, without the words at its head, or with
/// more lines at its end. It holds the same keys.
#[tokio::test(start_paused = true)]
async fn a_mounted_secret_that_is_laid_out_otherwise_is_proven_destroyed() {
    let trimmed: fn(&str) -> String = |text| text.trim_end().to_owned();
    let bare: fn(&str) -> String = |text| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.collect::<Vec<_>>().join("\n")
    };
    let longer: fn(&str) -> String = |text| format!("{text}\n\n");
    for laid_out in [trimmed, bare, longer] {
        let world = World::new(Shape::TwoCalls);
        filled(&world, 1).await;
        world.keys.mounted.store(true, Ordering::Relaxed);
        let text = world.gateway.next_key_file().await.unwrap();
        world.keys.put(&laid_out(&text));
        rotate(&world.gateway, 3).await;
        // The old key is still there, and only a person can take it out.
        let refused = world.gateway.destroy_retired().await.unwrap_err();
        assert!(
            message(&refused).contains("can't be written"),
            "{}",
            message(&refused)
        );

        let text = world.gateway.key_file_without_retired().await.unwrap();
        world.keys.put(&laid_out(&text));
        let destroyed = world.gateway.destroy_retired().await.unwrap();
        assert_eq!((destroyed.generations.len(), destroyed.refused), (1, 1));
        // And where nothing is retired, nothing has to be written.
        let again = world.gateway.destroy_retired().await.unwrap();
        assert!(again.generations.is_empty(), "{again:?}");
        assert_eq!(plaintexts(&world).await.len(), 3);
    }
}

/// The place still says `next` of a generation that seals since: that one is not taken for unused.
#[tokio::test(start_paused = true)]
async fn a_mounted_secret_is_rotated_again_before_anything_is_destroyed() {
    let world = World::new(Shape::TwoCalls);
    filled(&world, 1).await;
    world.keys.mounted.store(true, Ordering::Relaxed);
    let mut generations = BTreeSet::new();
    for _ in 0..3 {
        let text = world.gateway.next_key_file().await.unwrap();
        world.keys.put(&text);
        assert!(generations.insert(rotate(&world.gateway, 3).await.generation));
    }
    let text = world.gateway.key_file_without_retired().await.unwrap();
    world.keys.put(&text);
    let destroyed = world.gateway.destroy_retired().await.unwrap();
    assert_eq!(
        (destroyed.generations.len(), destroyed.refused),
        (3, 3),
        "{destroyed:?}"
    );
    assert_eq!(plaintexts(&world).await.len(), 3);
}

/// What is kept of a generation to prove its end opens as long as its key is here, and says nothing.
#[tokio::test(start_paused = true)]
async fn a_sample_of_what_retires_is_kept_opens_and_holds_nothing_secret() {
    let world = World::new(Shape::TwoCalls);
    filled(&world, 1).await;
    assert!(sample(&world, 0).await.is_none(), "it seals still");
    let uses = world.gateway.keys().await.unwrap().generations[0].uses;
    rotate(&world.gateway, 3).await;
    let kept = sample(&world, 1).await.unwrap();
    assert_eq!(*open_sample(&world, &kept).unwrap(), *b"cardless sample");
    let retired = world.gateway.keys().await.unwrap().generations[1].clone();
    assert_eq!(retired.uses, uses + 1, "it counts as a use");
    world.gateway.destroy_retired().await.unwrap();
    assert_eq!(sample(&world, 1).await.unwrap(), kept);
    assert!(open_sample(&world, &kept).is_err());
}

/// A run that was interrupted between taking the key away and proving it.
#[tokio::test(start_paused = true)]
async fn a_destruction_that_was_interrupted_is_proven_by_the_next() {
    let world = World::new(Shape::TwoCalls);
    filled(&world, 1).await;
    let old = rotate(&world.gateway, 3).await.retired.remove(0);
    let mark = Change::MarkDestroyed(old.clone());
    world.store.apply(vec![mark]).await.unwrap();
    let unproven = async |present: bool| {
        let report = world.another_worker().keys().await.unwrap();
        let shown = &report.generations[1];
        assert_eq!((shown.state, shown.present), ("destroyed", present));
        assert_eq!((shown.destroyed_at, shown.tried), (None, None));
        let [warning] = &report.warnings[..] else {
            panic!("{:?}", report.warnings);
        };
        assert!(
            warning.contains(&old) && warning.contains("--destroy-retired"),
            "{warning}"
        );
    };
    unproven(true).await;
    let text = world.gateway.key_file_without_retired().await.unwrap();
    world.keys.put(&text);
    unproven(false).await;
    let destroyed = world.another_worker().destroy_retired().await.unwrap();
    assert_eq!((destroyed.generations, destroyed.refused), (vec![old], 1));
    assert!(destroyed.untried.is_empty());
    let report = world.gateway.keys().await.unwrap();
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
}

/// A generation whose key went before samples were kept, and one whose sample somebody has spoilt: there
/// is nothing to try, and no proof is claimed.
#[tokio::test(start_paused = true)]
async fn where_no_sample_can_be_tried_none_is_claimed() {
    for spoilt in ["NULL", "x'00'", "(SELECT sealed FROM records LIMIT 1)"] {
        let files = Files::new();
        let world = World::on(files.store("x.db"));
        filled(&world, 1).await;
        let old = rotate(&world.gateway, 3).await.retired.remove(0);
        let text = world.gateway.key_file_without_retired().await.unwrap();
        world.keys.put(&text);
        let sql = format!("UPDATE generations SET sample = {spoilt} WHERE id = '{old}'");
        files.execute(&sql);
        let destroyed = world.gateway.destroy_retired().await.unwrap();
        assert_eq!(
            destroyed.generations,
            std::slice::from_ref(&old),
            "{spoilt}"
        );
        assert_eq!((destroyed.refused, destroyed.untried), (0, vec![old]));
        let shown = world.gateway.keys().await.unwrap().generations;
        assert_eq!((shown[0].tried, shown[1].tried), (None, Some(false)));
    }
}

/// Of generations that were destroyed by an earlier version, nobody wrote down whether anything was tried.
#[tokio::test(start_paused = true)]
async fn a_destruction_of_before_it_was_written_down_is_not_called_tried() {
    let files = Files::new();
    let world = World::on(files.store("x.db"));
    filled(&world, 1).await;
    rotate(&world.gateway, 3).await;
    world.gateway.destroy_retired().await.unwrap();
    let tried = async || world.gateway.keys().await.unwrap().generations[1].tried;
    assert_eq!(tried().await, Some(true));
    files.execute(
        "ALTER TABLE generations DROP COLUMN tried;
         ALTER TABLE erasures DROP COLUMN unconfirmed;
         PRAGMA user_version = 21",
    );
    drop(files.store("x.db"));
    let upgraded = world.builder().store(files.store("x.db")).build().unwrap();
    let shown = upgraded.keys().await.unwrap().generations;
    assert_eq!(shown[1].tried, Some(false));
}

/// As long as the key is here, a sample that is missing or that does not open is made anew: what is
/// refused afterwards did open before.
#[tokio::test(start_paused = true)]
async fn a_sample_that_does_not_open_is_made_anew_while_the_key_is_here() {
    let files = Files::new();
    let world = World::on(files.store("x.db"));
    filled(&world, 1).await;
    files.execute("CREATE TABLE before_it AS SELECT * FROM records");
    rotate(&world.gateway, 3).await;
    // One is a whole record of that generation, from elsewhere.
    for spoilt in ["NULL", "x'00'", "(SELECT sealed FROM before_it)"] {
        files.execute(&format!(
            "UPDATE generations SET sample = {spoilt} WHERE state = 'retiring'"
        ));
        world.gateway.key_file_without_retired().await.unwrap();
        let kept = sample(&world, 1).await.unwrap();
        open_sample(&world, &kept).unwrap();
    }
    let destroyed = world.gateway.destroy_retired().await.unwrap();
    assert_eq!(destroyed.refused, 1);
}

/// A database from before a rotation does not know the generation that the keys have since: it has
/// sealed what may stand in other backups, so it is shown, and destroyed with the others.
#[tokio::test(start_paused = true)]
async fn a_generation_that_only_the_keys_know_is_shown_and_destroyed() {
    let files = Files::new();
    let world = World::on(files.store("x.db"));
    filled(&world, 1).await;
    files.back_up();
    let lost = rotate(&world.gateway, 3).await.generation;

    let restored = world
        .builder()
        .store(files.store("backup.db"))
        .build()
        .unwrap();
    restored.open_keys().await.unwrap();
    let shown = restored.keys().await.unwrap().generations;
    let stray = shown.iter().find(|one| one.id == lost).unwrap();
    assert_eq!(
        (stray.state, stray.sealed, stray.present),
        ("retiring", 0, true)
    );
    let kept = rotate(&restored, 3).await.generation;
    assert_ne!(kept, lost);
    let destroyed = restored.destroy_retired().await.unwrap();
    assert!(destroyed.generations.contains(&lost), "{destroyed:?}");
    let ids = KeyRing::from_custody(world.keys.clone()).unwrap();
    assert_eq!(ids.generation_ids().collect::<Vec<_>>(), [kept.as_str()]);
}

/// An older copy of the keys is none that a row can have taken, by naming what was destroyed since: the
/// others would not open any more.
#[tokio::test(start_paused = true)]
async fn an_older_copy_of_the_keys_is_refused_whatever_a_row_names() {
    let files = Files::new();
    let world = World::on(files.store("x.db"));
    let charged = async |reference: &str, account: &str| {
        let request = PayRequest {
            account: account.to_owned(),
            ..charge(reference)
        };
        world.pay(&request).await.status
    };
    link(&world.gateway, &world, "back").await;
    files.execute("CREATE TABLE before_it AS SELECT * FROM records");
    link(&world.gateway, &world, "other").await;
    rotate(&world.gateway, 3).await;
    let older = world.keys.text();
    world.gateway.destroy_retired().await.unwrap();
    rotate(&world.gateway, 3).await;
    let latest = world.keys.text();
    world.keys.put(&older);
    files.execute(&format!(
        "{PUT_BACK} WHERE id IN (SELECT id FROM before_it)"
    ));
    assert_eq!(charged("r-1", "back").await, PaymentStatus::Failed);
    assert_eq!(charged("r-2", "other").await, PaymentStatus::Captured);
    world.run_minutes(2).await;
    world.gateway.ready().await.unwrap();
    assert_eq!(charged("r-3", "other").await, PaymentStatus::Captured);
    link(&world.gateway, &world, "third").await;
    world.keys.put(&latest);
    world.run_minutes(2).await;
    link(&world.gateway, &world, "fourth").await;
}

/// A worker that has missed a rotation, and the end of what seals there, follows as soon as it is asked.
#[tokio::test(start_paused = true)]
async fn a_worker_that_missed_a_rotation_and_a_destruction_opens_on() {
    let world = World::new(Shape::Page);
    filled(&world, 2).await;
    let setup = world.gateway.link(&world.key(), &link_request()).await;
    let setup = setup.unwrap().body;
    let others = [(); 3].map(|()| world.another_worker());
    for other in &others {
        other.open_keys().await.unwrap();
    }
    let keys = world.gateway.keys().await.unwrap();
    rotate(&world.gateway, 100).await;
    world.gateway.destroy_retired().await.unwrap();
    assert!(!world.keys.text().contains(&keys.generations[0].id));

    let [first, second, third] = &others;
    let paid = first.pay(&world.key(), &charge("r-1")).await.unwrap().body;
    assert_eq!(paid.status, PaymentStatus::Captured);
    let page = second.setup(&setup.id).await.unwrap().redirect_url;
    assert_eq!(page, setup.redirect_url);
    let read = third.payment(&paid.id).await.unwrap();
    assert_eq!(read.account, "a-1");
}

/// A copy of the keys that brings a destroyed generation back is no way around its end.
#[tokio::test(start_paused = true)]
async fn a_destroyed_generation_that_comes_back_is_destroyed_again() {
    let world = World::new(Shape::TwoCalls);
    filled(&world, 1).await;
    rotate(&world.gateway, 3).await;
    let copy = world.keys.text();
    let first = world.gateway.destroy_retired().await.unwrap().generations;
    assert_eq!(
        world
            .gateway
            .destroy_retired()
            .await
            .unwrap()
            .generations
            .len(),
        0
    );
    world.keys.put(&copy);
    let back = world.another_worker();
    let warned = back.open_keys().await.unwrap();
    assert!(warned[0].contains("back among the keys"), "{warned:?}");
    let report = back.keys().await.unwrap();
    let is_back = |one: &&KeyGeneration| one.is_back();
    assert_eq!(report.generations.iter().filter(is_back).count(), 1);
    assert_eq!(report.warnings, warned);
    let again = world.gateway.destroy_retired().await.unwrap();
    assert_eq!((again.generations, again.refused), (first, 1));
    assert_eq!(world.gateway.keys().await.unwrap().warnings, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_generation_that_was_kept_but_not_named_is_taken_up() {
    let world = World::new(Shape::TwoCalls);
    filled(&world, 1).await;
    // What a rotation leaves that dies between key file and store.
    let text = world.gateway.next_key_file().await.unwrap();
    world.keys.put(&text);
    let rotated = rotate(&world.gateway, 3).await;
    assert!(text.contains(&rotated.generation));
    let ids = KeyRing::from_custody(world.keys.clone()).unwrap();
    assert_eq!(ids.generation_ids().count(), 2);
    assert_eq!(ids.active_id(), rotated.generation);
}

#[tokio::test(start_paused = true)]
async fn a_backup_from_before_a_destroyed_generation_opens_nothing() {
    let files = Files::new();
    let world = World::on(files.store("x.db"));
    filled(&world, 2).await;
    let setup = world
        .gateway
        .link(&world.key(), &link_request())
        .await
        .unwrap();
    let sealed = plaintexts(&world).await.len();
    files.back_up();
    let restored = |store: Arc<dyn Store>| world.builder().store(store).build().unwrap();
    let backup = files.store("backup.db");
    let before = opened(&world, backup.as_ref()).await;
    assert_eq!(before.len(), sealed);
    for (place, (_, opened)) in &before {
        assert!(opened.is_ok(), "{place:?}");
    }

    // Before the generation is destroyed the backup is good.
    let early = restored(files.store("backup.db"));
    early.open_keys().await.unwrap();
    assert_eq!(early.setup(&setup.body.id).await.unwrap(), setup.body);

    rotate(&world.gateway, 3).await;
    world.gateway.destroy_retired().await.unwrap();
    let late = restored(files.store("backup.db"));
    let refused = late.open_keys().await.unwrap_err();
    assert!(
        message(&refused).contains("can't be opened any more"),
        "{}",
        message(&refused)
    );
    assert!(late.setup(&setup.body.id).await.is_err());
    assert!(late.link(&world.key(), &link_request()).await.is_err());
    assert!(late.rotate_keys().await.is_err());
    // Not one record of it opens with any key that is left.
    let after = opened(&world, backup.as_ref()).await;
    assert!(after.keys().eq(before.keys()));
    for (place, (_, opened)) in &after {
        assert_eq!(*opened, Err(VaultError::Opaque), "{place:?}");
    }
    // The store of today is as good as ever.
    assert_eq!(
        world.gateway.setup(&setup.body.id).await.unwrap(),
        setup.body
    );
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_another_installation_are_refused() {
    let world = World::new(Shape::TwoCalls);
    filled(&world, 1).await;
    let foreign = KeyRing::generate(&SystemEntropy).unwrap();
    let strange = world.builder().keys(KeyRing::parse(&foreign).unwrap());
    let strange = strange.build().unwrap();
    assert!(strange.open_keys().await.is_err());
    assert!(strange.link(&world.key(), &link_request()).await.is_err());
    // Exchanged under a running service, they are not taken either.
    world.keys.put(&foreign);
    assert!(world.gateway.rotate_keys().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn keys_given_as_text_seal_and_are_not_rotated() {
    let world = World::new(Shape::TwoCalls);
    let text = world.keys.text();
    let gateway = world.builder().keys(KeyRing::parse(&text).unwrap());
    let gateway = gateway.build().unwrap();
    link(&gateway, &world, "a-1").await;
    let refused = gateway.rotate_keys().await.unwrap_err();
    assert!(
        message(&refused).contains("KeyRing::load"),
        "{}",
        message(&refused)
    );
}

#[tokio::test(start_paused = true)]
async fn a_record_that_does_not_open_is_counted_and_its_key_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let url = format!("sqlite:{}", path.display());
    let world = World::on(Arc::new(SqliteStore::open(&url, Threads::Caller).unwrap()));
    filled(&world, 3).await;
    let database = rusqlite::Connection::open(&path).unwrap();
    let damage = "UPDATE records SET sealed = substr(sealed, 1, length(sealed) - 1)
                  WHERE rowid = (SELECT min(rowid) FROM records)";
    assert_eq!(database.execute(damage, []).unwrap(), 1);

    let rotated = rotate(&world.gateway, 2).await;

    assert_eq!((rotated.unopened, rotated.unopened_ids.len()), (1, 1));
    assert_eq!(rotated.resealed, 8);
    assert!(rotated.retired.is_empty());
    let refused = world.gateway.destroy_retired().await.unwrap_err();
    assert!(
        refused.message().contains("seals 1 of records.sealed"),
        "{refused}"
    );
    assert!(
        refused.message().contains("nothing was destroyed"),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_backup_from_the_midst_of_a_rotation_is_refused_once_the_old_key_is_gone() {
    let files = Files::new();
    let world = World::on(files.store("x.db"));
    filled(&world, 4).await;
    let mut rotation = world.gateway.rotate_keys().await.unwrap();
    assert!(rotation.step(1).await.unwrap());
    files.back_up();
    while rotation.step(3).await.unwrap() {}
    rotation.finish().await.unwrap();
    let restored = || {
        world
            .builder()
            .store(files.store("backup.db"))
            .build()
            .unwrap()
    };
    restored().open_keys().await.unwrap();
    world.gateway.destroy_retired().await.unwrap();
    let refused = restored().open_keys().await.unwrap_err();
    assert!(
        message(&refused).contains("which the key file lacks"),
        "{}",
        message(&refused)
    );
    world.gateway.open_keys().await.unwrap();
}
