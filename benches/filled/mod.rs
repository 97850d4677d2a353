//! An installation whose store is filled with records, each a sealed token, and the program that works
//! on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use cardless::gateway::Gateway;
use cardless::store::{AccountRow, Change, RecordRow, SqliteStore, Store, Threads};
use cardless::vault::{Context, KeyRing, Purpose, Vault};
use cardless_contract::{SystemEntropy, Timestamp};

/// How many accounts the records belong to.
const ACCOUNTS: u64 = 1000;

/// How many records a transaction fills the store with.
const FILL_BATCH: u64 = 10_000;

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

pub(crate) fn program(place: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cardless"));
    command
        .current_dir(place)
        .args(arguments)
        .stdout(Stdio::null());
    command
}

pub(crate) fn database(place: &Path) -> PathBuf {
    place.join("cardless.db")
}

pub(crate) fn open(place: &Path) -> Result<Arc<dyn Store>> {
    let url = format!("sqlite:{}", database(place).display());
    Ok(Arc::new(SqliteStore::open(&url, Threads::Own)?))
}

pub(crate) fn keys(place: &Path) -> Result<KeyRing> {
    Ok(KeyRing::load(&place.join("cardless.keys"))?)
}

fn account(number: u64) -> String {
    format!("abcdefghijklmnopabcdefgh{:08}", number % ACCOUNTS)
}

fn record(number: u64) -> String {
    format!("rec_abcdefghijkl{number:08}")
}

pub(crate) fn context<'a>(account: &'a str, record: &'a str) -> Context<'a> {
    Context {
        account,
        provider: "paypal",
        merchant: "sandbox-client",
        record,
        purpose: Purpose::Token,
    }
}

/// A token as long as PayPal's are.
pub(crate) fn token(number: u64) -> String {
    format!("8kk{number:08}45qqzz")
}

pub(crate) async fn fill(place: &Path, records: u64) -> Result {
    let store = open(place)?;
    let gateway = Gateway::builder()
        .store(Arc::clone(&store))
        .keys(keys(place)?);
    gateway.build()?.open_keys().await?;
    let vault = Arc::new(Vault::new(keys(place)?, Arc::new(SystemEntropy)));
    let mut accounts = Vec::new();
    for number in 0..ACCOUNTS {
        let account = account(number);
        let context = Context {
            provider: "-",
            merchant: "-",
            purpose: Purpose::Account,
            ..context(&account, "account")
        };
        let sealed = vault.seal(&context, account.as_bytes())?;
        accounts.push(Change::EnsureAccount(AccountRow {
            account,
            sealed_id: sealed.bytes,
            generation: sealed.generation,
            restricted: false,
            created_at: Timestamp::from_seconds(1),
        }));
    }
    store.apply(accounts).await?;
    let mut from = 0;
    while from < records {
        let to = records.min(from + FILL_BATCH);
        let vault = Arc::clone(&vault);
        let batch = tokio::task::spawn_blocking(move || {
            (from..to)
                .map(|number| insert(&vault, number))
                .collect::<Result<Vec<_>>>()
        });
        store.apply(batch.await??).await?;
        from = to;
    }
    Ok(())
}

fn insert(vault: &Vault, number: u64) -> Result<Change> {
    let (account, id) = (account(number), record(number));
    let sealed = vault.seal(&context(&account, &id), token(number).as_bytes())?;
    Ok(Change::InsertRecord(RecordRow {
        id,
        account,
        provider: "paypal".to_owned(),
        merchant: "sandbox-client".to_owned(),
        generation: sealed.generation,
        sealed: sealed.bytes,
        created_at: Timestamp::from_seconds(1),
    }))
}

pub(crate) fn ensure(holds: bool, what: &str) -> Result {
    if holds {
        Ok(())
    } else {
        Err(format!("not true: {what}").into())
    }
}
