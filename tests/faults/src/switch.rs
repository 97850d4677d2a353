//! A process that can die at any await: everything it asks of the store or the network goes
//! through a switch, and once the switch is off nothing comes back.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cardless::store::{
    AccountCounts, AccountRow, AuditFilter, AuditHeadRow, AuditRow, BlockerRow, Change,
    ClientKeyRow, ClientRow, ClockSeen, DeadEventRow, DeliveryRow, Due, DueRow, ErasureRow,
    EventRow, GenerationRow, HeldTopicRow, KeyRow, LastAnswerRow, MerchantRow, MethodRow,
    OldHandles, OperationRow, OperationType, PaymentFilter, PaymentRow, PaymentState, RecordRow,
    ResolutionRow, RotationRow, SealedColumn, SealedRow, SetupRow, Store, StoreError, StoredColumn,
    StoredValue, TokenRow,
};
use cardless_contract::Timestamp;
use tokio::sync::Notify;

use crate::random::Random;
use crate::seam::Seam;

/// One process's life.
#[derive(Debug, Clone)]
pub(crate) struct Switch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    died: Notify,
}

#[derive(Debug)]
struct State {
    /// How many boundaries are left before the process dies; `None` for one that lives on.
    left: Option<u32>,
    dead: bool,
    /// How many of the next writes and reads fail.
    write_errors: u32,
    read_errors: u32,
    /// How many boundaries of the store are left before it stands still, and for how long.
    pause: Option<(u32, Duration)>,
    random: Random,
    /// What has really befallen it.
    befallen: Befallen,
}

/// How often a store has failed, and how often a process stood still.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Befallen {
    pub(crate) writes_failed: u64,
    pub(crate) reads_failed: u64,
    pub(crate) pauses: u64,
}

impl Switch {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State {
                left: None,
                dead: false,
                write_errors: 0,
                read_errors: 0,
                pause: None,
                random: Random::new(seed),
                befallen: Befallen::default(),
            }),
            died: Notify::new(),
        }))
    }

    /// The process dies at the boundary after `boundaries` more.
    pub(crate) fn die_after(&self, boundaries: u32) {
        self.lock().left = Some(boundaries);
    }

    /// The process dies now.
    pub(crate) fn die(&self) {
        self.lock().dead = true;
        self.0.died.notify_waiters();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Returns once the process is dead.
    pub(crate) async fn died(&self) {
        loop {
            let died = self.0.died.notified();
            if self.is_dead() {
                return;
            }
            died.await;
        }
    }

    /// The next writes fail, as on a full disk.
    pub(crate) fn fail_writes(&self, writes: u32) {
        self.lock().write_errors = writes;
    }

    /// The next reads fail, as of a disk with errors.
    pub(crate) fn fail_reads(&self, reads: u32) {
        self.lock().read_errors = reads;
    }

    /// After so many more boundaries of the store whoever stands there waits for so long.
    pub(crate) fn pause(&self, boundaries: u32, time: Duration) {
        self.lock().pause = Some((boundaries, time));
    }

    pub(crate) fn befallen(&self) -> Befallen {
        self.lock().befallen
    }

    fn fails_write(&self) -> bool {
        let mut state = self.lock();
        let fails = state.write_errors > 0;
        state.write_errors = state.write_errors.saturating_sub(1);
        state.befallen.writes_failed += u64::from(fails);
        fails
    }

    fn fails_read(&self) -> bool {
        let mut state = self.lock();
        let fails = state.read_errors > 0;
        state.read_errors = state.read_errors.saturating_sub(1);
        state.befallen.reads_failed += u64::from(fails);
        fails
    }

    /// A boundary: lets others run for a while; never returns in a dead process.
    pub(crate) async fn boundary(&self) {
        let turns = {
            let mut state = self.lock();
            match state.left {
                Some(0) => state.dead = true,
                Some(left) => state.left = Some(left - 1),
                None => {}
            }
            state.random.below_u32(3)
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        if self.is_dead() {
            self.0.died.notify_waiters();
            std::future::pending::<()>().await;
        }
    }

    /// A boundary of the store, where a process can also stand still. One that has stood still
    /// before it sends is caught by the deadline of its mark; in between nothing is asked.
    async fn store_boundary(&self) {
        let pause = {
            let mut state = self.lock();
            match state.pause {
                Some((0, time)) => {
                    state.pause = None;
                    state.befallen.pauses += 1;
                    Some(time)
                }
                Some((left, time)) => {
                    state.pause = Some((left - 1, time));
                    None
                }
                None => None,
            }
        };
        if let Some(time) = pause {
            tokio::time::sleep(time).await;
        }
        self.boundary().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process's connection to the store.
pub(crate) struct Disk {
    pub(crate) switch: Switch,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) seam: Seam,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

type Answer<T> = Result<T, StoreError>;

macro_rules! through {
    ($self:ident, $($call:tt)+) => {{
        $self.switch.store_boundary().await;
        if $self.switch.fails_read() {
            return Err(StoreError::Unavailable("the disk can't be read".into()));
        }
        $self.store.$($call)+.await
    }};
}

#[async_trait]
impl Store for Disk {
    async fn apply(&self, batch: Vec<Change>) -> Answer<()> {
        self.switch.store_boundary().await;
        if self.switch.fails_write() {
            return Err(StoreError::Unavailable("the disk is full".into()));
        }
        let durable = batch.clone();
        let result = self.store.apply(batch).await;
        if result.is_ok() {
            self.seam.durable(&durable);
        }
        self.switch.store_boundary().await;
        result
    }

    async fn account(&self, account: &str) -> Answer<Option<AccountRow>> {
        through!(self, account(account))
    }

    async fn record(&self, id: &str) -> Answer<Option<RecordRow>> {
        through!(self, record(id))
    }

    async fn method(&self, id: &str) -> Answer<Option<MethodRow>> {
        through!(self, method(id))
    }

    async fn methods(&self, account: &str) -> Answer<Vec<MethodRow>> {
        through!(self, methods(account))
    }

    async fn method_by_handle(&self, name: &str, at: Timestamp) -> Answer<Option<MethodRow>> {
        through!(self, method_by_handle(name, at))
    }

    async fn methods_linked_by(
        &self,
        linked_by: Timestamp,
        after: &str,
        limit: u32,
    ) -> Answer<Vec<MethodRow>> {
        through!(self, methods_linked_by(linked_by, after, limit))
    }

    async fn tokens(&self, after: &str, limit: u32) -> Answer<Vec<TokenRow>> {
        through!(self, tokens(after, limit))
    }

    async fn count_methods(&self) -> Answer<u64> {
        through!(self, count_methods())
    }

    async fn latest_linked(&self) -> Answer<Option<Timestamp>> {
        through!(self, latest_linked())
    }

    async fn old_handles(&self, at: Timestamp) -> Answer<OldHandles> {
        through!(self, old_handles(at))
    }

    async fn setup(&self, id: &str) -> Answer<Option<SetupRow>> {
        through!(self, setup(id))
    }

    async fn setup_by_reference(&self, provider: &str, id: &str) -> Answer<Option<SetupRow>> {
        through!(self, setup_by_reference(provider, id))
    }

    async fn payment(&self, id: &str) -> Answer<Option<PaymentRow>> {
        through!(self, payment(id))
    }

    async fn payment_by_reservation(&self, provider: &str, id: &str) -> Answer<Option<PaymentRow>> {
        through!(self, payment_by_reservation(provider, id))
    }

    async fn payment_by_object(
        &self,
        provider: &str,
        id: &str,
        kind: Option<OperationType>,
    ) -> Answer<Option<PaymentRow>> {
        through!(self, payment_by_object(provider, id, kind))
    }

    async fn payments(&self, filter: &PaymentFilter) -> Answer<Vec<PaymentRow>> {
        through!(self, payments(filter))
    }

    async fn count_payments(&self, account: &str) -> Answer<(u64, u64)> {
        through!(self, count_payments(account))
    }

    async fn payments_with_reservation(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Answer<Vec<PaymentRow>> {
        through!(self, payments_with_reservation(after, limit))
    }

    async fn count_without_reservation(&self) -> Answer<Vec<(PaymentState, Option<String>, u64)>> {
        through!(self, count_without_reservation())
    }

    async fn count_parked(&self) -> Answer<(u64, u64)> {
        through!(self, count_parked())
    }

    async fn resolutions(&self, payment: &str) -> Answer<Vec<ResolutionRow>> {
        through!(self, resolutions(payment))
    }

    async fn operation(&self, id: &str) -> Answer<Option<OperationRow>> {
        through!(self, operation(id))
    }

    async fn operations(&self, payment: &str) -> Answer<Vec<OperationRow>> {
        through!(self, operations(payment))
    }

    async fn has_webhook(&self, provider: &str, event: &str) -> Answer<bool> {
        through!(self, has_webhook(provider, event))
    }

    async fn key(&self, client: &str, key: &[u8]) -> Answer<Option<KeyRow>> {
        through!(self, key(client, key))
    }

    async fn due(&self, now: Timestamp, without: &[String], limit: u32) -> Answer<Vec<DueRow>> {
        through!(self, due(now, without, limit))
    }

    async fn open(&self, after: Option<&str>, limit: u32) -> Answer<Vec<Due>> {
        through!(self, open(after, limit))
    }

    async fn merchant(&self, provider: &str) -> Answer<Option<MerchantRow>> {
        through!(self, merchant(provider))
    }

    async fn latest_sent(&self) -> Answer<Option<Timestamp>> {
        through!(self, latest_sent())
    }

    async fn clock_seen(&self) -> Answer<Option<ClockSeen>> {
        through!(self, clock_seen())
    }

    async fn latest_step(&self) -> Answer<i64> {
        through!(self, latest_step())
    }

    async fn stepped_ahead(&self, since: Timestamp, until: Timestamp) -> Answer<Duration> {
        through!(self, stepped_ahead(since, until))
    }

    async fn count_open_at(&self, provider: &str, merchant: &str) -> Answer<u64> {
        through!(self, count_open_at(provider, merchant))
    }

    async fn count_states(&self) -> Answer<Vec<(PaymentState, u64)>> {
        through!(self, count_states())
    }

    async fn client_with_key(&self, kid: &str) -> Answer<Option<(ClientRow, Vec<ClientKeyRow>)>> {
        through!(self, client_with_key(kid))
    }

    async fn client_keys(&self) -> Answer<Vec<ClientKeyRow>> {
        through!(self, client_keys())
    }

    async fn exchange_generations(&self, limit: u32) -> Answer<Vec<(String, Timestamp)>> {
        through!(self, exchange_generations(limit))
    }

    async fn clients(&self) -> Answer<Vec<ClientRow>> {
        through!(self, clients())
    }

    async fn client_by_hash(&self, hash: &[u8], at: Timestamp) -> Answer<Option<ClientRow>> {
        through!(self, client_by_hash(hash, at))
    }

    async fn event(&self, id: &str) -> Answer<Option<(i64, EventRow)>> {
        through!(self, event(id))
    }

    async fn events(&self, after: i64, limit: u32) -> Answer<Vec<(i64, EventRow)>> {
        through!(self, events(after, limit))
    }

    async fn delivery(&self) -> Answer<DeliveryRow> {
        through!(self, delivery())
    }

    async fn held_topics(&self) -> Answer<Vec<HeldTopicRow>> {
        through!(self, held_topics())
    }

    async fn next_event(&self, after: i64) -> Answer<Option<(i64, EventRow)>> {
        through!(self, next_event(after))
    }

    async fn next_of_topic(&self, topic: &str, after: i64, until: i64) -> Answer<Option<i64>> {
        through!(self, next_of_topic(topic, after, until))
    }

    async fn last_answer(&self, object: &str) -> Answer<Option<LastAnswerRow>> {
        through!(self, last_answer(object))
    }

    async fn dead_events(&self, limit: u32) -> Answer<Vec<(DeadEventRow, EventRow)>> {
        through!(self, dead_events(limit))
    }

    async fn count_undelivered(&self) -> Answer<(u64, u64)> {
        through!(self, count_undelivered())
    }

    async fn rotations(&self, limit: u32) -> Answer<Vec<RotationRow>> {
        through!(self, rotations(limit))
    }

    async fn erasure(&self, id: &str) -> Answer<Option<ErasureRow>> {
        through!(self, erasure(id))
    }

    async fn erasures(&self, subject: &[u8]) -> Answer<Vec<ErasureRow>> {
        through!(self, erasures(subject))
    }

    async fn blockers(&self, account: &str, limit: u32) -> Answer<Vec<BlockerRow>> {
        through!(self, blockers(account, limit))
    }

    async fn account_counts(&self, account: &str) -> Answer<AccountCounts> {
        through!(self, account_counts(account))
    }

    async fn revoked_by_provider(&self, account: &str) -> Answer<Vec<(String, u64)>> {
        through!(self, revoked_by_provider(account))
    }

    async fn setups(&self, account: &str, after: &str, limit: u32) -> Answer<Vec<SetupRow>> {
        through!(self, setups(account, after, limit))
    }

    async fn events_of(
        &self,
        account: &str,
        after: i64,
        limit: u32,
    ) -> Answer<Vec<(i64, EventRow)>> {
        through!(self, events_of(account, after, limit))
    }

    async fn scrub(&self) -> Answer<bool> {
        through!(self, scrub())
    }

    async fn audit_head(&self) -> Answer<Option<AuditHeadRow>> {
        through!(self, audit_head())
    }

    async fn audit_after(&self, after: i64, limit: u32) -> Answer<Vec<AuditRow>> {
        through!(self, audit_after(after, limit))
    }

    async fn audit_before(&self, filter: &AuditFilter) -> Answer<Vec<AuditRow>> {
        through!(self, audit_before(filter))
    }

    async fn generations(&self) -> Answer<Vec<GenerationRow>> {
        through!(self, generations())
    }

    async fn sealed(
        &self,
        column: SealedColumn,
        generation: &str,
        after: i64,
        limit: u32,
    ) -> Answer<Vec<SealedRow>> {
        through!(self, sealed(column, generation, after, limit))
    }

    async fn count_sealed(&self) -> Answer<Vec<(SealedColumn, String, u64)>> {
        through!(self, count_sealed())
    }

    async fn columns(&self) -> Answer<Vec<StoredColumn>> {
        through!(self, columns())
    }

    async fn own_columns(&self) -> Answer<Vec<StoredColumn>> {
        through!(self, own_columns())
    }

    async fn values(
        &self,
        column: &StoredColumn,
        after: i64,
        limit: u32,
    ) -> Answer<Vec<StoredValue>> {
        through!(self, values(column, after, limit))
    }
}
