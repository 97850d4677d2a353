//! `rotate keys` in a process that dies at any boundary: whoever goes on finds every record, and
//! seals all of them under one generation.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cardless::gateway::{Gateway, KeysRotated};
use cardless::store::{AccountRow, Change, RecordRow, SealedColumn, SqliteStore, Store, Threads};
use cardless::vault::{Context, Custody, KeyFileError, KeyRing, Purpose, Vault};
use cardless_contract::{SystemClock, SystemEntropy, Timestamp};
use cardless_sandbox::Sandbox;
use zeroize::Zeroizing;

use crate::clock::OffClock;
use crate::seam::Seam;
use crate::switch::{Disk, Switch};
use crate::world::Broken;

/// How many records there are, each with an account of its own.
const RECORDS: usize = 5;

/// More boundaries than one rotation has.
const MAX_BOUNDARIES: u32 = 500;

/// The keys, which outlive a process.
#[derive(Debug)]
struct Pocket(Mutex<String>);

impl Pocket {
    fn text(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Custody for Pocket {
    fn name(&self) -> String {
        "the pocket".to_owned()
    }

    fn fingerprint(&self) -> Result<[u8; 32], KeyFileError> {
        let mut fingerprint = [0; 32];
        for (at, byte) in self.text().bytes().enumerate() {
            if let Some(place) = fingerprint.get_mut(at % 32) {
                *place = byte.wrapping_add(u8::rotate_left(*place, 3));
            }
        }
        Ok(fingerprint)
    }

    fn read(&self) -> Result<Zeroizing<String>, KeyFileError> {
        Ok(Zeroizing::new(self.text()))
    }

    fn replace(&self, present: &str, text: &str) -> Result<(), KeyFileError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *held != present {
            return Err(KeyFileError("the pocket has changed".to_owned()));
        }
        text.clone_into(&mut held);
        Ok(())
    }

    fn as_kept(&self, text: &str) -> Result<Zeroizing<String>, KeyFileError> {
        Ok(Zeroizing::new(text.to_owned()))
    }

    fn remark(&self) -> Option<String> {
        None
    }
}

fn context<'a>(column: SealedColumn, account: &'a str, record: &'a str) -> Context<'a> {
    let token = column == SealedColumn::Record;
    Context {
        account,
        provider: if token { "paypal" } else { "-" },
        merchant: if token { "m" } else { "-" },
        record: if token { record } else { "account" },
        purpose: if token {
            Purpose::Token
        } else {
            Purpose::Account
        },
    }
}

fn vault(keys: &Arc<Pocket>) -> Result<Vault, Broken> {
    let keys: Arc<dyn Custody> = keys.clone();
    let ring = KeyRing::from_custody(keys)?;
    Ok(Vault::new(ring, Arc::new(SystemEntropy)))
}

async fn fill(store: &dyn Store, keys: &Arc<Pocket>) -> Result<(), Broken> {
    let vault = vault(keys)?;
    let at = Timestamp::from_seconds(1);
    let mut batch = Vec::new();
    for number in 0..RECORDS {
        let (account, id) = (format!("a{number}"), format!("rec_{number}"));
        let sealed = vault.seal(
            &context(SealedColumn::Account, &account, ""),
            account.as_bytes(),
        )?;
        batch.push(Change::EnsureAccount(AccountRow {
            account: account.clone(),
            sealed_id: sealed.bytes,
            generation: sealed.generation,
            restricted: false,
            created_at: at,
        }));
        let sealed = vault.seal(&context(SealedColumn::Record, &account, &id), id.as_bytes())?;
        batch.push(Change::InsertRecord(RecordRow {
            id,
            account,
            provider: "paypal".to_owned(),
            merchant: "m".to_owned(),
            generation: sealed.generation,
            sealed: sealed.bytes,
            created_at: at,
        }));
    }
    Ok(store.apply(batch).await?)
}

fn gateway(store: Arc<dyn Store>, keys: &Arc<Pocket>) -> Result<Gateway, Broken> {
    let keys: Arc<dyn Custody> = keys.clone();
    let builder = Gateway::builder()
        .store(store)
        .keys(KeyRing::from_custody(keys)?);
    Ok(builder.build()?)
}

async fn rotate(gateway: Gateway) -> Result<KeysRotated, Broken> {
    let mut rotation = gateway.rotate_keys().await?;
    while rotation.step(2).await? {}
    Ok(rotation.finish().await?)
}

/// Everything opens, under one generation that seals; answers how many generations there are.
async fn judge(store: &dyn Store, keys: &Arc<Pocket>) -> Result<usize, Broken> {
    let vault = vault(keys)?;
    let mut opened = 0;
    for (column, generation, _) in store.count_sealed().await? {
        if generation != vault.active_id() {
            return Err(format!("{column:?} is under {generation}").into());
        }
        for row in store.sealed(column, &generation, 0, 100).await? {
            let text = vault.open(&context(column, &row.account, &row.id), &row.bytes)?;
            if *text != row.id.as_bytes() {
                return Err(format!("{} holds something else", row.id).into());
            }
            opened += 1;
        }
    }
    if opened != 2 * RECORDS {
        return Err(format!("{opened} records are left").into());
    }
    Ok(store.generations().await?.len())
}

/// Lets a rotation die behind so many boundaries, and another one go on. True if it died.
async fn killed_at(boundaries: u32) -> Result<bool, Broken> {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open("sqlite::memory:", Threads::Caller)?);
    let text = KeyRing::generate(&SystemEntropy)?.to_string();
    let keys = Arc::new(Pocket(Mutex::new(text)));
    gateway(Arc::clone(&store), &keys)?.open_keys().await?;
    fill(store.as_ref(), &keys).await?;
    let switch = Switch::new(u64::from(boundaries));
    switch.die_after(boundaries);
    let sandbox = Sandbox::new(Arc::new(SystemClock::default()));
    let disk = Disk {
        switch: switch.clone(),
        store: Arc::clone(&store),
        seam: Seam::new(
            Arc::clone(&store),
            OffClock::new(Arc::new(sandbox.clock())),
            vault(&keys)?,
        ),
    };
    let first = rotate(gateway(Arc::new(disk), &keys)?);
    // A dead process answers nothing, for ever.
    let died = tokio::time::timeout(Duration::from_secs(3600), first)
        .await
        .is_err();
    let second = gateway(Arc::clone(&store), &keys)?;
    if died {
        rotate(second.clone()).await?;
    }
    let generations = judge(store.as_ref(), &keys).await?;
    // One that died before it had begun left nothing; one that died after its end left another.
    if !(2..=3).contains(&generations) {
        return Err(format!("{generations} generations").into());
    }
    second.destroy_retired().await?;
    judge(store.as_ref(), &keys).await?;
    Ok(died)
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_dies_anywhere_goes_on_and_loses_nothing() {
    let mut boundaries = 0;
    while killed_at(boundaries)
        .await
        .unwrap_or_else(|error| panic!("killed at boundary {boundaries}: {error}"))
    {
        boundaries += 1;
        assert!(boundaries < MAX_BOUNDARIES, "a rotation never ends");
    }
    assert!(boundaries > 20, "only {boundaries} boundaries");
}
