//! The resolver: open intents → ask the provider → conclude or park.

use std::sync::Arc;
use std::time::Duration;

use cardless_contract::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use super::clock::Watching;
use super::deliver::Courier;
use super::drive::Drive;
use super::events::KEEP_EVENTS;
use super::keys::KeyWatch;
use super::rights::Asks;
use super::running::Running;
use super::{Gateway, Inner, stored};
use crate::error::{Causes, Error};
use crate::journal::{Leased, Reload};
use crate::store::{
    Change, Due, DueRow, ErasureRow, OperationRow, OperationState, PaymentRow, PaymentState,
    SetupRow, SetupState, Step, StoreError, Subject,
};

/// How often the resolver looks for what is due, if nobody wakes it.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// How long a caller's key is kept (`API`: 400 days).
const KEEP_KEYS: Duration = Duration::from_secs(400 * 24 * 3600);

/// How long a webhook's event id is kept, well beyond the four days in which PayPal's are accepted
/// (`providers/paypal.md` §8.4).
const KEEP_WEBHOOKS: Duration = Duration::from_secs(90 * 24 * 3600);

/// What is kept for a time only: table, its column that counts, and for how long. Events beyond
/// theirs stay until they are delivered, or dismissed by a person.
pub(crate) const KEPT: [(&str, &str, Duration); 4] = [
    ("request_keys", "created_at", KEEP_KEYS),
    ("last_answers", "at", KEEP_KEYS),
    ("clock_steps", "at", KEEP_KEYS),
    ("webhooks", "received_at", KEEP_WEBHOOKS),
];

/// How long a jump of the clock ahead may be put right before what has ended by it is forgotten.
const DOUBT: Duration = Duration::from_secs(6 * 24 * 3600);

/// How often old keys, webhooks, handles and events are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// How many of each are forgotten at once.
const FORGET_AT_ONCE: u32 = 1000;

/// How many objects one look takes; of each provider, where it is about what is due.
pub(super) const BATCH: u32 = 100;

/// How often, and for how long each time, a browser that came back waits for another worker that
/// looks at the same object: 5 s in all.
const MOMENTS: u32 = 50;
const MOMENT: Duration = Duration::from_millis(100);

/// How long a shutdown waits for what is being driven.
const GRACE: Duration = Duration::from_secs(30);

/// What a reconcile did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReconcileReport {
    /// Open payments, operations, setups and revocations that were looked at.
    pub looked_at: u64,
    /// Of these: concluded now.
    pub concluded: u64,
    /// Of these: still open.
    pub still_open: u64,
    /// Of these: left alone, since another worker drives them under its lease.
    pub leased: u64,
    /// When the last of those leases ends; then they can be looked at whoever had them.
    pub leased_until: Option<Timestamp>,
    /// Of these: a person must look, at them or at the payment that a setup waits for.
    pub parked: u64,
    /// Of these: could not be looked at; the log says why.
    pub errors: u64,
}

/// How an object stands after it was driven.
pub(super) enum Standing {
    Concluded,
    Open,
    Parked,
    /// Another worker has it until then.
    Leased(Timestamp),
}

/// What came of the wish to drive an object.
enum Taken<T> {
    /// It is leased.
    Yes(T),
    /// It is gone.
    Gone,
    /// Somebody else has it until then.
    Leased(Timestamp),
}

impl Gateway {
    /// Drives everything that is due, and delivers events, until `shutdown` ends; then finishes what
    /// it has begun. It must be spawned: without it, an unknown outcome stays unknown.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        tokio::pin!(shutdown);
        let mut running = Running::default();
        let courier = Courier::start(&self.inner);
        let mut keys = KeyWatch::new();
        // By the clock that only goes on: one that is put back holds nothing up.
        let mut forget_at = Instant::now();
        let mut elsewhere = Vec::new();
        self.inner.watch_clock().await;
        let watching = Watching::start(&self.inner);
        'looks: loop {
            keys.look(&self.inner).await;
            self.inner.flush_refusals(false).await;
            // By a clock that nobody has reckoned with, nothing is judged.
            if self.inner.clock_is_steady() {
                if Instant::now() >= forget_at {
                    self.inner.forget().await;
                    forget_at = Instant::now() + FORGET_EVERY;
                }
                if self.inner.hold_proofs().await {
                    running.wait_for(self.inner.due(&mut elsewhere).await);
                }
            }
            let next_look = tokio::time::sleep(INTERVAL);
            tokio::pin!(next_look);
            // What is due begins as others end; where all of a full look have begun, the next follows.
            while running.begin(&self.inner) {
                tokio::select! {
                    // In this order: the same schedule in a simulation takes the same way each time.
                    biased;
                    () = &mut shutdown => break 'looks,
                    () = self.inner.wake.notified() => break,
                    () = running.one_ends() => {}
                    () = &mut next_look => break,
                }
            }
        }
        drop(watching);
        let rest = async {
            courier.finish().await;
            self.inner.flush_refusals(true).await;
            running.all_end().await;
        };
        if tokio::time::timeout(GRACE, rest).await.is_err() {
            tracing::warn!("stopped before everything that was begun had ended; it goes on later");
        }
    }

    /// Drives every open object once, due or not.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::StoreUnavailable`].
    pub async fn reconcile(&self) -> Result<ReconcileReport, Error> {
        self.inner.look_at_clock().await?;
        let mut report = ReconcileReport::default();
        let mut after: Option<String> = None;
        loop {
            let page = self
                .inner
                .journal
                .store()
                .open(after.as_deref(), BATCH)
                .await
                .map_err(stored)?;
            let Some(last) = page.last() else {
                return Ok(report);
            };
            after = Some(last.id().to_owned());
            for due in page {
                report.looked_at += 1;
                match self.inner.clone().drive(due.clone()).await {
                    Ok(Standing::Concluded) => report.concluded += 1,
                    Ok(Standing::Open) => report.still_open += 1,
                    Ok(Standing::Parked) => report.parked += 1,
                    Ok(Standing::Leased(until)) => {
                        report.leased += 1;
                        report.leased_until = report.leased_until.max(Some(until));
                    }
                    Err(error) => {
                        tracing::error!(
                            object = due.id(),
                            error = %Causes(&error),
                            "reconcile"
                        );
                        report.errors += 1;
                    }
                }
            }
        }
    }
}

impl Inner {
    /// Forgets callers' keys, webhooks, events, and replaced handles and API keys, whose time is
    /// over. A failure is logged; the next round does it.
    async fn forget(&self) {
        if let Err(error) = self.forget_what_has_ended().await {
            tracing::warn!(error = %Causes(&error), "what has ended was not forgotten");
        }
    }

    /// By a clock that is far ahead a caller's key would be old, and a repeat of its call a new one:
    /// what has ended is reckoned without the jumps ahead that somebody may still put right.
    async fn forget_what_has_ended(&self) -> Result<(), StoreError> {
        let now = self.journal.now();
        let store = self.journal.store();
        let in_doubt = store.stepped_ahead(now.minus(DOUBT), now).await?;
        let now = now.minus(in_doubt);
        let forget = Change::Forget {
            keys_before: now.minus(KEEP_KEYS),
            webhooks_before: now.minus(KEEP_WEBHOOKS),
            ended_by: now,
            events_before: now.minus(KEEP_EVENTS),
            undelivered: self.live.parts().delivery.is_none(),
            limit: FORGET_AT_ONCE,
        };
        self.journal.write(vec![forget]).await
    }

    /// What is due, but for providers that are asked elsewhere by those in force. A failure is logged,
    /// and the next look tries again.
    async fn due(&self, elsewhere: &mut Vec<String>) -> Vec<DueRow> {
        let due = self.due_here(elsewhere).await;
        due.unwrap_or_else(|error| {
            tracing::error!(error = %Causes(&error), "the store does not say what is due");
            Vec::new()
        })
    }

    async fn due_here(&self, elsewhere: &mut Vec<String>) -> Result<Vec<DueRow>, StoreError> {
        let found = self.elsewhere().await?;
        if *elsewhere != found {
            if !found.is_empty() {
                tracing::error!(
                    providers = ?found,
                    "other settings are in force for these providers: nothing of theirs is driven here until a reload"
                );
            }
            *elsewhere = found;
        }
        let now = self.journal.now();
        self.journal.store().due(now, elsewhere, BATCH).await
    }

    pub(super) async fn drive(self: Arc<Self>, due: Due) -> Result<Standing, Error> {
        match due {
            Due::Payment(id) => {
                let row = match self.take::<PaymentRow>(&id).await? {
                    Taken::Yes(row) => row,
                    Taken::Gone => return Ok(Standing::Concluded),
                    Taken::Leased(until) => return Ok(Standing::Leased(until)),
                };
                Ok(payment_standing(&Drive::spawn(&self, row, false).await?))
            }
            Due::Operation(id) => {
                let row = match self.take::<OperationRow>(&id).await? {
                    Taken::Yes(row) => row,
                    Taken::Gone => return Ok(Standing::Concluded),
                    Taken::Leased(until) => return Ok(Standing::Leased(until)),
                };
                Ok(operation_standing(&self.drive_operation(row).await?))
            }
            Due::Setup(id) => {
                let row = match self.take::<SetupRow>(&id).await? {
                    Taken::Yes(row) => row,
                    Taken::Gone => return Ok(Standing::Concluded),
                    Taken::Leased(until) => return Ok(Standing::Leased(until)),
                };
                let row = self.drive_setup(row).await?;
                Ok(match (row.next_at, row.state) {
                    (Some(_), _) => Standing::Open,
                    // It waits with its payment.
                    (None, SetupState::AwaitingCustomer) => Standing::Parked,
                    (None, _) => Standing::Concluded,
                })
            }
            Due::Erasure(id) => self.drive_due_erasure(&id, Asks::Here).await,
            Due::Revocation(id) => {
                let revoked = self.drive_revocation(&id).await?;
                Ok(if revoked {
                    Standing::Concluded
                } else {
                    Standing::Open
                })
            }
        }
    }

    /// The same, for one of many that are driven at once: what holds up an erasure has a place of its own.
    pub(super) async fn drive_in_its_place(self: Arc<Self>, due: Due) -> Result<Standing, Error> {
        match due {
            Due::Erasure(id) => self.drive_due_erasure(&id, Asks::InItsPlace).await,
            other @ (Due::Payment(_) | Due::Operation(_) | Due::Setup(_) | Due::Revocation(_)) => {
                self.drive(other).await
            }
        }
    }

    async fn drive_due_erasure(self: Arc<Self>, id: &str, asks: Asks) -> Result<Standing, Error> {
        let row = match self.take::<ErasureRow>(id).await? {
            Taken::Yes(row) => row,
            Taken::Gone => return Ok(Standing::Concluded),
            Taken::Leased(until) => return Ok(Standing::Leased(until)),
        };
        let row = self.drive_erasure(row, asks).await?;
        Ok(if row.next_at.is_some() {
            Standing::Open
        } else {
            Standing::Concluded
        })
    }

    /// The row, leased, unless somebody else has it.
    async fn take<T: Leased + Reload>(&self, id: &str) -> Result<Taken<T>, Error> {
        let store = self.journal.store();
        let Some(row) = T::reload(store, id).await.map_err(stored)? else {
            return Ok(Taken::Gone);
        };
        if let Some(leased) = self.lease(&row).await.map_err(stored)? {
            return Ok(Taken::Yes(leased));
        }
        // Somebody was faster, and may be done with it already.
        let row = T::reload(store, id).await.map_err(stored)?;
        let now = self.journal.now();
        Ok(row.map_or(Taken::Gone, |row| Taken::Leased(row.lease_until().max(now))))
    }

    /// Drives a payment now, if nobody else does; answers how it stands.
    pub(super) async fn look_now(self: &Arc<Self>, row: PaymentRow) -> Result<PaymentRow, Error> {
        match self.lease_in_a_moment(row).await? {
            Ok(leased) => Drive::spawn(self, leased, false).await,
            Err(row) => Ok(row),
        }
    }

    /// Leases a row; if another worker has it (a webhook's look), waits a moment for it to end.
    /// `Err` is the row as it stands when that takes too long, or is not this process's to look at.
    pub(super) async fn lease_in_a_moment<T: Leased + Reload>(
        &self,
        row: T,
    ) -> Result<Result<T, T>, Error> {
        let mut present = row;
        for _ in 0..MOMENTS {
            match self.lease(&present).await {
                Ok(Some(leased)) => return Ok(Ok(leased)),
                Ok(None) => {}
                // Whoever has the settings that are in force looks at it.
                Err(StoreError::Conflict(Subject::Merchant)) => break,
                Err(error) => return Err(stored(error)),
            }
            tokio::time::sleep(MOMENT).await;
            let found = T::reload(self.journal.store(), present.id()).await;
            present = found.map_err(stored)?.unwrap_or(present);
        }
        Ok(Err(present))
    }
}

fn payment_standing(row: &PaymentRow) -> Standing {
    match (row.state, row.step) {
        (PaymentState::Parked, _) => Standing::Parked,
        (_, Step::Settled) => Standing::Concluded,
        _ => Standing::Open,
    }
}

fn operation_standing(row: &OperationRow) -> Standing {
    match row.state {
        OperationState::Parked => Standing::Parked,
        OperationState::Succeeded | OperationState::Failed => Standing::Concluded,
        OperationState::Pending | OperationState::Unknown => Standing::Open,
    }
}
