//! SQLite: the embedded store. WAL, synchronous FULL, one writer, group commit.
//!
//! With [`Threads::Own`] one thread owns the writing connection. It takes every batch that waits,
//! puts each in a savepoint of its own, and commits them all with one sync; a batch that fails
//! takes only itself back. With [`Threads::Caller`] everything runs on the caller's thread, in
//! order, for a simulation that must be repeatable.

mod apply;
mod audit;
mod client;
mod clock;
mod erasure;
mod exchange;
mod generation;
mod handle;
mod merchant;
mod read;
mod rotation;
mod schema;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use cardless_contract::Timestamp;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::oneshot;

use super::{
    AccountCounts, AccountRow, AuditFilter, AuditHeadRow, AuditRow, BlockerRow, Change,
    ClientKeyRow, ClientRow, ClockSeen, DeadEventRow, DeliveryRow, Due, DueRow, ErasureRow,
    EventRow, GenerationRow, HeldTopicRow, KeyRow, LastAnswerRow, MerchantRow, MethodRow,
    OldHandles, OperationRow, OperationType, PaymentFilter, PaymentRow, PaymentState, RecordRow,
    ResolutionRow, Result, RotationRow, SealedColumn, SealedRow, SetupRow, Store, StoreError,
    StoredColumn, StoredValue, TokenRow,
};

/// The schema's steps, in order. A file's `user_version` says how many it has taken.
const MIGRATIONS: &[&str] = &[
    include_str!("0001_initial.sql"),
    include_str!("0002_event_delivery.sql"),
    include_str!("0003_resolve.sql"),
    include_str!("0004_rotations.sql"),
    include_str!("0005_handles.sql"),
    include_str!("0006_api_keys.sql"),
    include_str!("0007_audit.sql"),
    include_str!("0008_event_topics.sql"),
    include_str!("0009_generations.sql"),
    include_str!("0010_erasure.sql"),
    include_str!("0011_exchange.sql"),
    include_str!("0012_last_answers.sql"),
    include_str!("0013_merchants.sql"),
    include_str!("0014_clock_steps.sql"),
    include_str!("0015_client_key_macs.sql"),
    include_str!("0016_merchant_modes.sql"),
    include_str!("0017_returned_told.sql"),
    include_str!("0018_clock_seen.sql"),
    include_str!("0019_payments_by_state.sql"),
    include_str!("0020_samples.sql"),
    include_str!("0021_may_be_ahead.sql"),
    include_str!("0022_tried.sql"),
    include_str!("0023_unconfirmed.sql"),
];

/// How long a writer waits for another process's short transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How many batches one commit takes at most.
const MAX_GROUP: usize = 256;

/// How many connections answer questions.
const READERS: usize = 2;

/// How many prepared statements a connection keeps.
const STATEMENT_CACHE: usize = 128;

/// How much room must be there before a write is tried again after one that failed, in bytes.
const ROOM_BYTES: u32 = 64 * 1024;

/// Where the database's work runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// On threads of its own, one for writing.
    Own,
    /// On the caller's thread: for a simulation, and for a database in memory.
    Caller,
}

/// The embedded store.
#[derive(Debug)]
pub struct SqliteStore {
    driver: Driver,
}

enum Driver {
    Inline(Mutex<Connection>),
    Threads(Workers),
}

/// The threads that own the connections. Dropping it lets them finish and waits for them: the last
/// connection that closes writes the WAL back into the database.
struct Workers {
    writer: Option<Sender<WriteJob>>,
    readers: Option<Sender<ReadJob>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.writer.take());
        drop(self.readers.take());
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing more to write.
            drop(thread.join());
        }
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inline(_) => "Inline",
            Self::Threads(_) => "Threads",
        })
    }
}

/// The version of SQLite that is linked.
pub(super) fn engine_version() -> &'static str {
    rusqlite::version()
}

struct WriteJob {
    batch: Vec<Change>,
    reply: oneshot::Sender<Result<()>>,
}

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

impl SqliteStore {
    /// Opens the database at `url` (`sqlite:cardless.db`, or `sqlite::memory:`), makes it if need
    /// be (readable by its owner only), and brings its schema up to date.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`], whose source says what SQLite or the file system said.
    pub fn open(url: &str, threads: Threads) -> Result<Self> {
        let path = url
            .strip_prefix("sqlite:")
            .ok_or_else(|| unavailable("the address of an SQLite store begins with `sqlite:`"))?;
        let place = if path == ":memory:" {
            None
        } else {
            Some(PathBuf::from(path))
        };
        let mut connection = connect(place.as_deref())?;
        migrate(&mut connection)?;
        let driver = match (place, threads) {
            (Some(path), Threads::Own) => start_threads(connection, &path)?,
            (_, Threads::Caller) | (None, Threads::Own) => Driver::Inline(Mutex::new(connection)),
        };
        Ok(Self { driver })
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match &self.driver {
            Driver::Inline(connection) => {
                question(&connection.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Driver::Threads(Workers { readers, .. }) => {
                let (reply, answer) = oneshot::channel();
                let job: ReadJob = Box::new(move |connection| {
                    // Whoever asked may have gone; then nobody needs the answer.
                    drop(reply.send(question(connection)));
                });
                hand(readers.as_ref(), job)?;
                answer
                    .await
                    .map_err(|_| unavailable("the store has stopped"))?
            }
        }
    }
}

fn start_threads(writing: Connection, path: &Path) -> Result<Driver> {
    let (writer, batches) = channel();
    let (readers, questions) = channel::<ReadJob>();
    let mut workers = Workers {
        writer: Some(writer),
        readers: Some(readers),
        threads: Vec::new(),
    };
    workers.start("cardless-store-writer", move || {
        write_batches(writing, &batches);
    })?;
    let questions = Arc::new(Mutex::new(questions));
    for _ in 0..READERS {
        let connection = connect(Some(path))?;
        let questions = Arc::clone(&questions);
        workers.start("cardless-store-reader", move || {
            answer_questions(&connection, &questions);
        })?;
    }
    Ok(Driver::Threads(workers))
}

impl Workers {
    fn start(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let started = thread::Builder::new().name(name.to_owned()).spawn(work);
        let thread = started.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        self.threads.push(thread);
        Ok(())
    }
}

/// Hands work to a thread that owns a connection.
fn hand<T>(to: Option<&Sender<T>>, work: T) -> Result<()> {
    to.and_then(|to| to.send(work).ok())
        .ok_or_else(|| unavailable("the store has stopped"))
}

fn answer_questions(connection: &Connection, questions: &Mutex<Receiver<ReadJob>>) {
    loop {
        let job = questions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        match job {
            Ok(job) => job(connection),
            Err(_) => return,
        }
    }
}

fn write_batches(mut connection: Connection, batches: &Receiver<WriteJob>) {
    let mut trusted = true;
    while let Ok(first) = batches.recv() {
        let mut group = vec![first];
        while group.len() < MAX_GROUP {
            match batches.try_recv() {
                Ok(job) => group.push(job),
                Err(_) => break,
            }
        }
        if !trusted {
            if let Err(error) = overwrite(&mut connection) {
                refuse(group, &error);
                continue;
            }
            tracing::info!("the database takes writes again");
        }
        trusted = write_group(&mut connection, group);
    }
}

/// Applies every batch of a group and commits once. Nobody is answered before the commit is on
/// disk; if the commit fails, every batch has failed. Answers whether the database can be trusted
/// to take the next one.
fn write_group(connection: &mut Connection, group: Vec<WriteJob>) -> bool {
    let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => {
            // Another process writes for too long; nothing of ours was begun.
            refuse(group, &error);
            return true;
        }
    };
    let mut results = Vec::with_capacity(group.len());
    for job in &group {
        results.push(apply::apply_in_savepoint(&transaction, &job.batch));
        if transaction.is_autocommit() {
            // SQLite has taken back the whole group (a full disk): what follows would be
            // committed by itself and then be called a failure.
            drop(transaction);
            return write_failed(connection, group, &rusqlite::Error::InvalidQuery);
        }
    }
    match transaction.commit() {
        Ok(()) => {
            for (job, result) in group.into_iter().zip(results) {
                drop(job.reply.send(result));
            }
            true
        }
        Err(error) => write_failed(connection, group, &error),
    }
}

/// Refuses a group, once what it may have left behind is gone if that can be done now.
fn write_failed(
    connection: &mut Connection,
    group: Vec<WriteJob>,
    error: &rusqlite::Error,
) -> bool {
    let overwritten = overwrite(connection);
    tracing::error!(
        %error,
        takes_writes_again = overwritten.is_ok(),
        "the database did not take a write: look at its disk"
    );
    refuse(group, error);
    overwritten.is_ok()
}

fn refuse(group: Vec<WriteJob>, error: &rusqlite::Error) {
    let text = error.to_string();
    for job in group {
        drop(job.reply.send(Err(unavailable(&text))));
    }
}

/// Commits something that means nothing, and that needs as much room as an ordinary group.
///
/// A commit that fails at its sync has already written its frames into the WAL, with the mark of a
/// commit. This connection forgets them, but whoever opens the database after a crash would take
/// them for committed: a request that was refused would be carried out after all. The next commit
/// writes over them; this makes sure that there is one, before anything is answered.
fn overwrite(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(&format!(
        "CREATE TABLE room (bytes BLOB); INSERT INTO room VALUES (zeroblob({ROOM_BYTES}));
         DROP TABLE room;"
    ))?;
    transaction.commit()
}

fn connect(path: Option<&Path>) -> Result<Connection> {
    let connection = match path {
        None => Connection::open_in_memory(),
        Some(path) => {
            create_private(path)?;
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            Connection::open_with_flags(path, flags)
        }
    }
    .map_err(database)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(database)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA secure_delete = ON; PRAGMA trusted_schema = OFF;",
        )
        .map_err(database)?;
    Ok(connection)
}

/// SQLite makes its files readable by everybody; so the file is made before it opens it. The WAL
/// and shared-memory files take the mode of the database.
fn create_private(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    // Never opened if it is there: closing any descriptor of the file drops the POSIX locks of this
    // process's other connections, and the next program that closes the database deletes the WAL.
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::Unavailable(Box::new(error))),
    }
}

fn migrate(connection: &mut Connection) -> Result<()> {
    if steps_taken(connection)? == MIGRATIONS.len() {
        // Nothing to write: whoever only reads need not wait for a writer.
        return Ok(());
    }
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(database)?;
    let taken = steps_taken(&transaction)?;
    if taken > MIGRATIONS.len() {
        return Err(unavailable(
            "the database was written by a newer cardless; use that one",
        ));
    }
    for step in MIGRATIONS.iter().skip(taken) {
        transaction.execute_batch(step).map_err(database)?;
    }
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    transaction
        .pragma_update(None, "user_version", known)
        .map_err(database)?;
    transaction.commit().map_err(database)
}

/// How many of the schema's steps the database has taken.
fn steps_taken(connection: &Connection) -> Result<usize> {
    let taken: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(database)?;
    usize::try_from(taken).map_err(|_| StoreError::Unreadable("user_version"))
}

/// An error of SQLite as one of ours; a violated CHECK is a ceiling.
fn database(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error().map(|inner| inner.extended_code) {
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_CHECK) => StoreError::Limit,
        _ => StoreError::Unavailable(Box::new(error)),
    }
}

fn unavailable(text: &str) -> StoreError {
    StoreError::Unavailable(text.to_owned().into())
}

#[async_trait]
impl Store for SqliteStore {
    async fn apply(&self, batch: Vec<Change>) -> Result<()> {
        match &self.driver {
            Driver::Inline(connection) => {
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                let transaction = connection
                    .transaction_with_behavior(TransactionBehavior::Immediate)
                    .map_err(database)?;
                apply::apply(&transaction, &batch)?;
                let committed = transaction.commit();
                if committed.is_err() {
                    // If this fails as well, the error below is all that can be said.
                    drop(overwrite(&mut connection));
                }
                committed.map_err(database)
            }
            Driver::Threads(Workers { writer, .. }) => {
                let (reply, answer) = oneshot::channel();
                hand(writer.as_ref(), WriteJob { batch, reply })?;
                answer
                    .await
                    .map_err(|_| unavailable("the store has stopped"))?
            }
        }
    }

    async fn account(&self, account: &str) -> Result<Option<AccountRow>> {
        let account = account.to_owned();
        self.read(move |connection| read::account(connection, &account))
            .await
    }

    async fn record(&self, id: &str) -> Result<Option<RecordRow>> {
        let id = id.to_owned();
        self.read(move |connection| read::record(connection, &id))
            .await
    }

    async fn method(&self, id: &str) -> Result<Option<MethodRow>> {
        let id = id.to_owned();
        self.read(move |connection| read::method(connection, &id))
            .await
    }

    async fn methods(&self, account: &str) -> Result<Vec<MethodRow>> {
        let account = account.to_owned();
        self.read(move |connection| read::methods(connection, &account))
            .await
    }

    async fn method_by_handle(&self, name: &str, at: Timestamp) -> Result<Option<MethodRow>> {
        let name = name.to_owned();
        self.read(move |connection| handle::method(connection, &name, at))
            .await
    }

    async fn methods_linked_by(
        &self,
        linked_by: Timestamp,
        after: &str,
        limit: u32,
    ) -> Result<Vec<MethodRow>> {
        let after = after.to_owned();
        self.read(move |connection| handle::linked_by(connection, linked_by, &after, limit))
            .await
    }

    async fn tokens(&self, after: &str, limit: u32) -> Result<Vec<TokenRow>> {
        let after = after.to_owned();
        self.read(move |connection| handle::tokens(connection, &after, limit))
            .await
    }

    async fn count_methods(&self) -> Result<u64> {
        self.read(handle::count_methods).await
    }

    async fn latest_linked(&self) -> Result<Option<Timestamp>> {
        self.read(handle::latest_linked).await
    }

    async fn old_handles(&self, at: Timestamp) -> Result<OldHandles> {
        self.read(move |connection| handle::old_handles(connection, at))
            .await
    }

    async fn setup(&self, id: &str) -> Result<Option<SetupRow>> {
        let id = id.to_owned();
        self.read(move |connection| read::setup(connection, &id))
            .await
    }

    async fn setup_by_reference(
        &self,
        provider: &str,
        reference: &str,
    ) -> Result<Option<SetupRow>> {
        let key = (provider.to_owned(), reference.to_owned());
        self.read(move |connection| read::setup_by_reference(connection, &key.0, &key.1))
            .await
    }

    async fn payment(&self, id: &str) -> Result<Option<PaymentRow>> {
        let id = id.to_owned();
        self.read(move |connection| read::payment(connection, &id))
            .await
    }

    async fn payment_by_reservation(
        &self,
        provider: &str,
        reservation: &str,
    ) -> Result<Option<PaymentRow>> {
        let key = (provider.to_owned(), reservation.to_owned());
        self.read(move |connection| read::payment_by_reservation(connection, &key.0, &key.1))
            .await
    }

    async fn payment_by_object(
        &self,
        provider: &str,
        object: &str,
        kind: Option<OperationType>,
    ) -> Result<Option<PaymentRow>> {
        let key = (provider.to_owned(), object.to_owned());
        self.read(move |connection| read::payment_by_object(connection, &key.0, &key.1, kind))
            .await
    }

    async fn payments(&self, filter: &PaymentFilter) -> Result<Vec<PaymentRow>> {
        let filter = filter.clone();
        self.read(move |connection| read::payments(connection, &filter))
            .await
    }

    async fn count_payments(&self, account: &str) -> Result<(u64, u64)> {
        let account = account.to_owned();
        self.read(move |connection| read::count_payments(connection, &account))
            .await
    }

    async fn payments_with_reservation(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<PaymentRow>> {
        let after = after.unwrap_or("").to_owned();
        self.read(move |connection| read::payments_with_reservation(connection, &after, limit))
            .await
    }

    async fn count_without_reservation(&self) -> Result<Vec<(PaymentState, Option<String>, u64)>> {
        self.read(read::count_without_reservation).await
    }

    async fn count_parked(&self) -> Result<(u64, u64)> {
        self.read(read::count_parked).await
    }

    async fn resolutions(&self, payment: &str) -> Result<Vec<ResolutionRow>> {
        let payment = payment.to_owned();
        self.read(move |connection| read::resolutions(connection, &payment))
            .await
    }

    async fn operation(&self, id: &str) -> Result<Option<OperationRow>> {
        let id = id.to_owned();
        self.read(move |connection| read::operation(connection, &id))
            .await
    }

    async fn operations(&self, payment: &str) -> Result<Vec<OperationRow>> {
        let payment = payment.to_owned();
        self.read(move |connection| read::operations(connection, &payment))
            .await
    }

    async fn key(&self, client: &str, key: &[u8]) -> Result<Option<KeyRow>> {
        let name = (client.to_owned(), key.to_vec());
        self.read(move |connection| read::key(connection, &name.0, &name.1))
            .await
    }

    async fn has_webhook(&self, provider: &str, event: &str) -> Result<bool> {
        let name = (provider.to_owned(), event.to_owned());
        self.read(move |connection| read::has_webhook(connection, &name.0, &name.1))
            .await
    }

    async fn due(&self, now: Timestamp, without: &[String], limit: u32) -> Result<Vec<DueRow>> {
        let without = serde_json::Value::from(without).to_string();
        self.read(move |connection| read::due(connection, now, &without, limit))
            .await
    }

    async fn open(&self, after: Option<&str>, limit: u32) -> Result<Vec<Due>> {
        let after = after.unwrap_or("").to_owned();
        self.read(move |connection| read::open(connection, &after, limit))
            .await
    }

    async fn merchant(&self, provider: &str) -> Result<Option<MerchantRow>> {
        let provider = provider.to_owned();
        self.read(move |connection| read::merchant(connection, &provider))
            .await
    }

    async fn count_open_at(&self, provider: &str, merchant: &str) -> Result<u64> {
        let merchant = merchant.to_owned();
        let provider = provider.to_owned();
        self.read(move |connection| read::count_open_at(connection, &provider, &merchant))
            .await
    }

    async fn latest_sent(&self) -> Result<Option<Timestamp>> {
        self.read(clock::latest_sent).await
    }

    async fn clock_seen(&self) -> Result<Option<ClockSeen>> {
        self.read(clock::seen).await
    }

    async fn latest_step(&self) -> Result<i64> {
        self.read(clock::latest_step).await
    }

    async fn stepped_ahead(&self, since: Timestamp, until: Timestamp) -> Result<Duration> {
        self.read(move |connection| clock::stepped_ahead(connection, since, until))
            .await
    }

    async fn count_states(&self) -> Result<Vec<(PaymentState, u64)>> {
        self.read(read::count_states).await
    }

    async fn clients(&self) -> Result<Vec<ClientRow>> {
        self.read(client::clients).await
    }

    async fn client_by_hash(&self, hash: &[u8], at: Timestamp) -> Result<Option<ClientRow>> {
        let hash = hash.to_vec();
        self.read(move |connection| client::by_hash(connection, &hash, at))
            .await
    }

    async fn client_with_key(&self, kid: &str) -> Result<Option<(ClientRow, Vec<ClientKeyRow>)>> {
        let kid = kid.to_owned();
        self.read(move |connection| exchange::client_with_key(connection, &kid))
            .await
    }

    async fn client_keys(&self) -> Result<Vec<ClientKeyRow>> {
        self.read(exchange::client_keys).await
    }

    async fn exchange_generations(&self, limit: u32) -> Result<Vec<(String, Timestamp)>> {
        self.read(move |connection| exchange::generations(connection, limit))
            .await
    }

    async fn event(&self, id: &str) -> Result<Option<(i64, EventRow)>> {
        let id = id.to_owned();
        self.read(move |connection| read::event(connection, &id))
            .await
    }

    async fn events(&self, after: i64, limit: u32) -> Result<Vec<(i64, EventRow)>> {
        self.read(move |connection| read::events(connection, after, limit))
            .await
    }

    async fn delivery(&self) -> Result<DeliveryRow> {
        self.read(read::delivery).await
    }

    async fn held_topics(&self) -> Result<Vec<HeldTopicRow>> {
        self.read(read::held_topics).await
    }

    async fn next_event(&self, after: i64) -> Result<Option<(i64, EventRow)>> {
        self.read(move |connection| read::next_event(connection, after))
            .await
    }

    async fn next_of_topic(&self, topic: &str, after: i64, until: i64) -> Result<Option<i64>> {
        let topic = topic.to_owned();
        self.read(move |connection| read::next_of_topic(connection, &topic, after, until))
            .await
    }

    async fn last_answer(&self, object: &str) -> Result<Option<LastAnswerRow>> {
        let object = object.to_owned();
        self.read(move |connection| read::last_answer(connection, &object))
            .await
    }

    async fn dead_events(&self, limit: u32) -> Result<Vec<(DeadEventRow, EventRow)>> {
        self.read(move |connection| read::dead_events(connection, limit))
            .await
    }

    async fn count_undelivered(&self) -> Result<(u64, u64)> {
        self.read(read::count_undelivered).await
    }

    async fn rotations(&self, limit: u32) -> Result<Vec<RotationRow>> {
        self.read(move |connection| rotation::rotations(connection, limit))
            .await
    }

    async fn erasure(&self, id: &str) -> Result<Option<ErasureRow>> {
        let id = id.to_owned();
        self.read(move |connection| erasure::erasure(connection, &id))
            .await
    }

    async fn erasures(&self, subject: &[u8]) -> Result<Vec<ErasureRow>> {
        let subject = subject.to_vec();
        self.read(move |connection| erasure::erasures(connection, &subject))
            .await
    }

    async fn blockers(&self, account: &str, limit: u32) -> Result<Vec<BlockerRow>> {
        let account = account.to_owned();
        self.read(move |connection| erasure::blockers(connection, &account, limit))
            .await
    }

    async fn account_counts(&self, account: &str) -> Result<AccountCounts> {
        let account = account.to_owned();
        self.read(move |connection| erasure::counts(connection, &account))
            .await
    }

    async fn revoked_by_provider(&self, account: &str) -> Result<Vec<(String, u64)>> {
        let account = account.to_owned();
        self.read(move |connection| erasure::revoked_by_provider(connection, &account))
            .await
    }

    async fn setups(&self, account: &str, after: &str, limit: u32) -> Result<Vec<SetupRow>> {
        let place = (account.to_owned(), after.to_owned());
        self.read(move |connection| erasure::setups(connection, &place.0, &place.1, limit))
            .await
    }

    async fn events_of(
        &self,
        account: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, EventRow)>> {
        let account = account.to_owned();
        self.read(move |connection| erasure::events(connection, &account, after, limit))
            .await
    }

    async fn scrub(&self) -> Result<bool> {
        self.read(erasure::scrub).await
    }

    async fn audit_head(&self) -> Result<Option<AuditHeadRow>> {
        self.read(audit::head).await
    }

    async fn audit_after(&self, after: i64, limit: u32) -> Result<Vec<AuditRow>> {
        self.read(move |connection| audit::after(connection, after, limit))
            .await
    }

    async fn audit_before(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>> {
        let filter = filter.clone();
        self.read(move |connection| audit::before(connection, &filter))
            .await
    }

    async fn generations(&self) -> Result<Vec<GenerationRow>> {
        self.read(generation::generations).await
    }

    async fn sealed(
        &self,
        column: SealedColumn,
        generation: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<SealedRow>> {
        let by = generation.to_owned();
        self.read(move |connection| generation::sealed(connection, column, &by, after, limit))
            .await
    }

    async fn count_sealed(&self) -> Result<Vec<(SealedColumn, String, u64)>> {
        self.read(generation::count_sealed).await
    }

    async fn columns(&self) -> Result<Vec<StoredColumn>> {
        self.read(schema::columns).await
    }

    async fn own_columns(&self) -> Result<Vec<StoredColumn>> {
        self.read(schema::own_columns).await
    }

    async fn values(
        &self,
        column: &StoredColumn,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredValue>> {
        let column = column.clone();
        self.read(move |connection| schema::values(connection, &column, after, limit))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How the log is kept, and how often it is synced.
    fn settings(connection: &Connection) -> (String, i64) {
        let ask = |name: &str| connection.prepare(&format!("PRAGMA {name}")).unwrap();
        let mode = ask("journal_mode").query_row([], |row| row.get(0));
        let synchronous = ask("synchronous").query_row([], |row| row.get(0));
        (mode.unwrap(), synchronous.unwrap())
    }

    /// What a kill can't show, since the kernel keeps what was written: each commit is on disk.
    #[test]
    fn the_connection_that_writes_syncs_each_commit() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("x.db");
        // 2 is FULL: the WAL is synced at each commit; NORMAL, 1, would sync it at a checkpoint only.
        let durable = ("wal".to_owned(), 2);
        // What is known to be less is seen to be.
        let plain = Connection::open(folder.path().join("plain.db")).unwrap();
        plain.execute_batch("PRAGMA synchronous = NORMAL;").unwrap();
        assert_eq!(settings(&plain), ("delete".to_owned(), 1));

        // The schema is made by the connection that writes from then on.
        let url = format!("sqlite:{}", path.display());
        let store = SqliteStore::open(&url, Threads::Caller).unwrap();
        let Driver::Inline(connection) = &store.driver else {
            panic!("{store:?}");
        };
        assert_eq!(settings(&connection.lock().unwrap()), durable);
        // And one that a second process opens on the same file.
        assert_eq!(settings(&connect(Some(&path)).unwrap()), durable);
    }
}
