//! A million records, sealed anew by `cardless rotate keys`: how long it takes, and what share that
//! is of the limits that were measured in the same run.
//!
//! ```text
//! cargo bench --bench rotate                    # a million records; a few minutes, 3 GB of disk
//! cargo bench --bench rotate -- --load          # without the rotation alone
//! cargo bench --bench rotate -- --records 50000 --kill 5
//! ```
//!
//! 1. A store is filled with records, each a sealed token.
//! 2. Two floors, without which no rotation can be faster: opening and sealing in memory on all
//!    cores, and reading and writing the same bytes in SQLite in the same batches.
//! 3. The program rotates the keys, alone.
//! 4. A backup is made. The program rotates them again while this process charges at the sandbox as
//!    fast as it can, and is killed three times (SIGKILL), anywhere, and started again. No payment
//!    may see an error.
//! 5. `--destroy-retired`; then every record is opened, and must hold what it held.
//! 6. The backup is put in the place of the database: the program refuses it, and not one record of
//!    it opens.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

mod filled;

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cardless::config::{Environment, Settings};
use cardless::gateway::{Gateway, RESEAL_BATCH, RequestKey};
use cardless::message::{Amount, Capture, Initiator, LinkRequest, PayRequest, PaymentStatus};
use cardless::store::{SealedColumn, SqliteStore, Store, Threads};
use cardless::vault::Vault;
use cardless_contract::{Entropy as _, SystemClock, SystemEntropy};
use cardless_sandbox::{Addresses, Provider, Sandbox, print_settings};
use cardless_transport::HttpClient as _;
use rusqlite::Connection;

use filled::{Result, context, database, ensure, fill, keys, open, program, token};

/// What is asked for on the command line.
struct Options {
    records: u64,
    /// How often the rotation beside payments is killed.
    kills: usize,
    /// Only the rotation beside payments.
    load_only: bool,
}

const RECORDS: u64 = 1_000_000;
const KILLS: usize = 3;

/// Where a rotation is killed, in thousandths of the records: not so late that it is over by then.
const KILLED_BY: u64 = 900;

/// How many records the cryptographic floor is measured with.
const SAMPLE: u32 = 200_000;

/// The backup's file.
const BACKUP: &str = "backup.db";

/// How long a call to the sandbox may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the payments saw.
#[derive(Debug, Default)]
struct Load {
    millis: Vec<u128>,
    errors: Vec<String>,
}

#[tokio::main]
async fn main() -> Result {
    let Options {
        records,
        kills,
        load_only,
    } = Options::read(std::env::args().skip(1))?;
    let folder = tempfile::tempdir()?;
    let place = folder.path();
    let init = program(place, &["init"]).status()?;
    ensure(init.success(), "the keys are made")?;
    println!("{records} records, {} cores", cores());

    let began = Instant::now();
    fill(place, records).await?;
    println!("filled the store in {} s", began.elapsed().as_secs());
    let crypto = crypto_floor(place, records)?;
    let sqlite = sqlite_floor(place)?;
    println!(
        "floor: open and seal in memory, all cores   {} ms",
        crypto.as_millis()
    );
    println!(
        "floor: the same bytes through SQLite alone  {} ms",
        sqlite.as_millis()
    );

    let report = |what: &str, took| report(what, records, took, crypto, sqlite);
    if !load_only {
        report("rotate keys, alone", rotate_alone(place)?);
        destroy(place)?;
    }
    back_up(place)?;
    let (beside, load) = rotate_beside(place, records, kills).await?;
    let what = format!("rotate keys, beside payments, killed {kills} times");
    report(&what, beside);
    load.print(beside)?;
    destroy(place)?;
    open_all(place, records).await?;
    open_backup(place, records).await
}

impl Options {
    fn read(mut given: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            records: RECORDS,
            kills: KILLS,
            load_only: false,
        };
        while let Some(argument) = given.next() {
            let mut number = || given.next().ok_or("a number is missing");
            match argument.as_str() {
                // Cargo adds this one.
                "--bench" => {}
                "--load" => options.load_only = true,
                "--records" => options.records = number()?.parse()?,
                "--kill" => options.kills = number()?.parse()?,
                strange => return Err(format!("{strange} is not known here").into()),
            }
        }
        ensure(options.records > 0, "there is a record")?;
        Ok(options)
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Opens and seals in memory on all cores, with nothing around it.
fn crypto_floor(place: &Path, records: u64) -> Result<Duration> {
    let vault = Vault::new(keys(place)?, Arc::new(SystemEntropy));
    let connection = Connection::open(database(place))?;
    let mut statement = connection.prepare("SELECT account, id, sealed FROM records LIMIT ?1")?;
    let rows = statement.query_map([SAMPLE], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows: Vec<(String, String, Vec<u8>)> = rows.collect::<rusqlite::Result<_>>()?;
    let share = rows.len().div_ceil(cores());
    let began = Instant::now();
    std::thread::scope(|scope| {
        let parts: Vec<_> = rows
            .chunks(share)
            .map(|part| scope.spawn(|| seal_anew(&vault, part)))
            .collect();
        for part in parts {
            part.join().map_err(|_| "a thread broke off")??;
        }
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    })?;
    let nanos = began.elapsed().as_nanos() * u128::from(records) / u128::try_from(rows.len())?;
    Ok(Duration::from_nanos(u64::try_from(nanos)?))
}

fn seal_anew(vault: &Vault, rows: &[(String, String, Vec<u8>)]) -> Result {
    for (account, id, sealed) in rows {
        let context = context(account, id);
        let opened = vault.open(&context, sealed)?;
        vault.seal(&context, &opened)?;
    }
    Ok(())
}

/// Reads and writes the same bytes in the same batches, on a copy, on one thread.
fn sqlite_floor(place: &Path) -> Result<Duration> {
    let copy = place.join("copy.db");
    let source = Connection::open(database(place))?;
    source.execute(
        "VACUUM INTO ?1",
        [copy.to_str().ok_or("a path that is no text")?],
    )?;
    let mut connection = Connection::open(&copy)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA secure_delete = ON;",
    )?;
    let old: String =
        connection.query_row("SELECT generation FROM records LIMIT 1", [], |row| {
            row.get(0)
        })?;
    let new = old.replace("kek_", "kex_");
    let began = Instant::now();
    loop {
        let transaction = connection.transaction()?;
        let rows: Vec<(i64, Vec<u8>)> = transaction
            .prepare_cached("SELECT rowid, sealed FROM records WHERE generation = ?1 LIMIT ?2")?
            .query_map(rusqlite::params![old, RESEAL_BATCH], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        if rows.is_empty() {
            break;
        }
        let mut update = transaction
            .prepare_cached("UPDATE records SET sealed = ?1, generation = ?2 WHERE rowid = ?3")?;
        for (place, sealed) in &rows {
            update.execute(rusqlite::params![sealed, new, place])?;
        }
        drop(update);
        transaction.commit()?;
    }
    let took = began.elapsed();
    drop(connection);
    std::fs::remove_file(copy)?;
    Ok(took)
}

fn rotate_alone(place: &Path) -> Result<Duration> {
    let began = Instant::now();
    let status = program(place, &["rotate", "keys"]).status()?;
    ensure(status.success(), "the keys are rotated")?;
    Ok(began.elapsed())
}

fn destroy(place: &Path) -> Result {
    let status = program(place, &["rotate", "keys", "--destroy-retired"]).status()?;
    ensure(status.success(), "the retired keys are destroyed")
}

/// Where the rotation is killed each time: records that are done by then, in their order.
fn kills_at(records: u64, kills: usize) -> Result<Vec<u64>> {
    let mut drawn = vec![0; kills * size_of::<u32>()];
    SystemEntropy.fill(&mut drawn)?;
    let (numbers, _) = drawn.as_chunks();
    let thousandth = |bytes: &[u8; 4]| u64::from(u32::from_be_bytes(*bytes)) % KILLED_BY;
    let mut at: Vec<u64> = numbers
        .iter()
        .map(|bytes| records * thousandth(bytes) / 1000)
        .collect();
    at.sort_unstable();
    Ok(at)
}

/// Rotates and is killed, anywhere, while this process charges.
async fn rotate_beside(place: &Path, records: u64, kills: usize) -> Result<(Duration, Load)> {
    let (gateway, method) = paying(place).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(charge(gateway.clone(), method, Arc::clone(&stop)));
    let began = Instant::now();
    let (mut done, mut waited) = (0, Duration::ZERO);
    for wanted in kills_at(records, kills)? {
        let mut child = program(place, &["rotate", "keys"]).spawn()?;
        let started = Instant::now();
        done = until_done(&gateway, &mut child, done + 1).await?;
        waited += started.elapsed();
        done = until_done(&gateway, &mut child, wanted.max(done)).await?;
        child.kill()?;
        child.wait()?;
        println!(
            "killed after {} ms with {done} records done",
            began.elapsed().as_millis()
        );
    }
    let mut last = program(place, &["rotate", "keys"]).spawn()?;
    let started = Instant::now();
    until_done(&gateway, &mut last, done + 1).await?;
    waited += started.elapsed();
    println!(
        "of all that {} ms until each had begun: whoever goes on waits until the killed one's lease has ended",
        waited.as_millis()
    );
    while last.try_wait()?.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = began.elapsed();
    ensure(last.wait()?.success(), "the last rotation ends")?;
    stop.store(true, Ordering::Relaxed);
    Ok((took, load.await??))
}

async fn until_done(gateway: &Gateway, child: &mut Child, wanted: u64) -> Result<u64> {
    loop {
        let rotations = gateway.rotations().await?;
        let present = rotations.first().filter(|found| found.ended_at.is_none());
        if let Some(found) = present.filter(|found| found.done >= wanted) {
            return Ok(found.done);
        }
        ensure(
            child.try_wait()?.is_none(),
            "the rotation is killed before it ends",
        )?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A gateway over the sandbox on the same store, and a method to charge.
async fn paying(place: &Path) -> Result<(Gateway, String)> {
    let sandbox = Sandbox::new(Arc::new(SystemClock::default()));
    let text = print_settings(&Addresses::default());
    let settings = Settings::parse(Path::new("sandbox"), &text, &Environment::default())?;
    let config = settings.provider("aduno")?.ok_or("no settings for aduno")?;
    let client = Arc::new(sandbox.provider(Provider::Aduno).client(DEADLINE));
    let clock = Arc::new(SystemClock::default());
    let provider = cardless_aduno::Aduno::new(config, client.clone(), clock)?;
    let gateway = Gateway::builder()
        .store(open(place)?)
        .keys(keys(place)?)
        .provider(Arc::new(provider))
        .build()?;
    let request = LinkRequest {
        account: "payer".to_owned(),
        provider: "aduno".to_owned(),
        return_url: "https://shop.example/thanks".to_owned(),
        language: None,
        amount: None,
        reference: None,
        capture: None,
    };
    let key = RequestKey::new("bench", "link")?;
    let setup = gateway.link(&key, &request).await?.body;
    let page = setup.redirect_url.ok_or("the setup has no page")?;
    let approve = http::Request::post(page).body(Bytes::from_static(b"decision=approve"))?;
    client.send(approve).await?;
    let setup = gateway.complete_link(&setup.id).await?;
    let method = setup.payment_method.ok_or("the setup has no method")?;
    Ok((gateway, method))
}

/// Charges one after the other; each is an insert, several updates and four calls.
async fn charge(gateway: Gateway, method: String, stop: Arc<AtomicBool>) -> Result<Load> {
    let mut load = Load::default();
    while !stop.load(Ordering::Relaxed) {
        let number = load.millis.len();
        let request = PayRequest {
            account: "payer".to_owned(),
            payment_method: Some(method.clone()),
            amount: Amount::new("CHF", 100),
            reference: format!("invoice {number}"),
            capture: Capture::Automatic,
            initiator: Initiator::Merchant,
            return_url: None,
            description: None,
        };
        let key = RequestKey::new("bench", format!("pay-{number}"))?;
        let began = Instant::now();
        match gateway.pay(&key, &request).await {
            Ok(paid) if paid.body.status == PaymentStatus::Captured => {}
            Ok(paid) => load.errors.push(format!("{:?}", paid.body.status)),
            Err(error) => load
                .errors
                .push(cardless::error::Causes(&error).to_string()),
        }
        load.millis.push(began.elapsed().as_millis());
    }
    Ok(load)
}

fn back_up(place: &Path) -> Result {
    let backup = place.join(BACKUP);
    let backup = backup.to_str().ok_or("a path that is no text")?;
    Connection::open(database(place))?.execute("VACUUM INTO ?1", [backup])?;
    Ok(())
}

/// The program refuses the backup with the keys of today, and no record of it opens.
async fn open_backup(place: &Path, records: u64) -> Result {
    let refused = program(place, &["rotate", "keys"])
        .env("CARDLESS__STORE__URL", format!("sqlite:{BACKUP}"))
        .stderr(Stdio::piped())
        .output()?;
    let said = String::from_utf8(refused.stderr)?;
    let gone = said.contains("can't be opened any more");
    ensure(
        gone && !refused.status.success(),
        "the program refuses the backup",
    )?;
    println!("a backup from before the rotation: {}", said.trim());
    let url = format!("sqlite:{}", place.join(BACKUP).display());
    let store = SqliteStore::open(&url, Threads::Own)?;
    let vault = Vault::new(keys(place)?, Arc::new(SystemEntropy));
    let mut unopened = 0;
    for (column, generation, _) in store.count_sealed().await? {
        let mut after = 0;
        loop {
            let rows = store.sealed(column, &generation, after, 10_000).await?;
            let Some(last) = rows.last() else { break };
            after = last.place;
            for row in rows.iter().filter(|row| row.provider == "paypal") {
                let opened = vault.open(&context(&row.account, &row.id), &row.bytes);
                ensure(opened.is_err(), "no record of the backup opens")?;
                unopened += 1;
            }
        }
    }
    ensure(unopened == records, "the backup has every record")?;
    println!("none of its {unopened} records opens");
    Ok(())
}

/// Every record opens, and holds what it held.
async fn open_all(place: &Path, records: u64) -> Result {
    let store = open(place)?;
    let vault = Vault::new(keys(place)?, Arc::new(SystemEntropy));
    let active = vault.active_id();
    let (mut after, mut found) = (0, 0);
    loop {
        let rows = store.sealed(SealedColumn::Record, &active, after, 10_000);
        let rows = rows.await?;
        let Some(last) = rows.last() else { break };
        after = last.place;
        for row in rows.iter().filter(|row| row.provider == "paypal") {
            let opened = vault.open(&context(&row.account, &row.id), &row.bytes)?;
            ensure(
                *opened == token(found).as_bytes(),
                "a record holds what it held",
            )?;
            found += 1;
        }
    }
    ensure(found == records, "no record is lost")?;
    println!("all {found} records open under the last generation, and hold what they held");
    Ok(())
}

impl Load {
    fn print(mut self, within: Duration) -> Result {
        self.millis.sort_unstable();
        let count = self.millis.len();
        let at = |percent: usize| self.millis.get(count.saturating_sub(1) * percent / 100);
        println!(
            "{count} payments meanwhile ({} a second), {} errors; p50 {} ms, p99 {} ms, longest {} ms",
            per_second(u64::try_from(count)?, within),
            self.errors.len(),
            at(50).unwrap_or(&0),
            at(99).unwrap_or(&0),
            at(100).unwrap_or(&0)
        );
        ensure(
            self.errors.is_empty(),
            &format!("no payment sees an error: {:?}", self.errors.first()),
        )
    }
}

fn per_second(count: u64, within: Duration) -> u128 {
    u128::from(count) * 1000 / within.as_millis().max(1)
}

fn report(what: &str, records: u64, took: Duration, crypto: Duration, sqlite: Duration) {
    let millis = took.as_millis().max(1);
    let slower = crypto.max(sqlite).as_millis().max(1);
    println!(
        "{what}: {millis} ms, {} records a second; {}% of the cryptographic limit, {}% of SQLite's; {}.{:02} x the slower \
         floor",
        per_second(records, took),
        crypto.as_millis() * 100 / millis,
        sqlite.as_millis() * 100 / millis,
        millis / slower,
        millis * 100 / slower % 100
    );
}
