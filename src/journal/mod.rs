//! The journal: what we mean to do, before it is done, and what became of it.
//!
//! A row is changed by compare-and-set only. Whoever drives an object holds a lease on it; the
//! lease keeps workers out of each other's way, the version is the fence. If a row has changed
//! under its driver but the lease still holds (a webhook has asked for a look), the change is made
//! again on the new row; if the lease is another's, the driver's observation is dropped, since the
//! other one asks the provider itself.

pub(crate) mod audit;
pub(crate) mod outbox;
pub(crate) mod state;

use std::sync::Arc;
use std::time::Duration;

use cardless_contract::{Clock, Entropy, Timestamp};

use crate::store::{
    Change, ErasureRow, EventRow, OperationRow, PaymentRow, SetupRow, Store, StoreError, Subject,
};

/// How long one worker may drive an object before another takes over, longer than the longest
/// chain of calls within one drive; and so how long the object of a killed process waits.
///
/// Money does not depend on it: the model (`tests/model`) lets workers sleep beyond their leases, and
/// holds, since what is marked as sent leaves within `RESEND_WITHIN` of its mark or not at all. But
/// what a worker learns after its lease is dropped, and where a provider shows nothing by our own
/// reference, a reservation's id that was dropped is lost: the payment fails with `hold_may_remain`.
/// A drive can take 170 s: a reserve and a commit, each with 10 s to leave, and at Aduno five requests
/// of at most 30 s between them. To renew the lease with each step would save the time of one of the two
/// only, and a lease that is renewed no longer says by its end alone whose it is, which is how a
/// driver tells a look that was asked for from a worker that took over.
pub(crate) const LEASE: Duration = Duration::from_secs(180);

/// What an event's id begins with.
pub(crate) const EVENT_PREFIX: &str = "evt_";

/// How many bytes an event's id is made from; each is two letters of it.
const EVENT_ID_BYTES: usize = 10;

/// How often a change is made again on a row that has changed meanwhile.
const MAX_REPEATS: u32 = 64;

/// Writes intents and outcomes.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    chain: audit::Chain,
}

/// What became of a change.
#[derive(Debug)]
pub(crate) enum Written<T> {
    /// It is durable; this is the row now.
    Yes(T),
    /// Somebody else drives the object now; this is the row as it stands.
    Lost(T),
}

/// A row that is driven under a lease.
pub(crate) trait Leased: Clone + Send + Sync {
    /// What a conflict about the row itself names.
    const SUBJECT: Subject;

    /// The object's id.
    fn id(&self) -> &str;
    /// The provider that is asked about it; `None` if any may be.
    fn provider(&self) -> Option<&str>;
    /// Until when it is leased.
    fn lease_until(&self) -> Timestamp;
    /// Leases it, or gives the lease back with [`Timestamp`] zero.
    fn set_lease(&mut self, until: Timestamp);
    /// When it is to be looked at.
    fn next_at(&self) -> Option<Timestamp>;
    /// Sets when it is to be looked at.
    fn set_next_at(&mut self, at: Option<Timestamp>);
    /// Counts a change.
    fn bump(&mut self);
    /// The change that writes it.
    fn update(&self) -> Change;
}

impl Journal {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        chain: audit::Chain,
    ) -> Self {
        Self {
            store,
            clock,
            entropy,
            chain,
        }
    }

    /// Now, by the injected clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The clock itself, for who must look at it later.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// The store, for reading.
    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Writes a batch as it is: new objects, or changes that nobody drives.
    pub(crate) async fn write(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        self.store.apply(batch).await
    }

    /// Takes the lease of a row that nobody holds, if what is `required` holds too. `None` if somebody
    /// was faster.
    pub(crate) async fn lease<T: Leased>(
        &self,
        row: &T,
        required: Vec<Change>,
    ) -> Result<Option<T>, StoreError> {
        let now = self.now();
        if row.lease_until() > now {
            return Ok(None);
        }
        let mut leased = row.clone();
        lease_row(&mut leased, now);
        let batch = [leased.update()].into_iter().chain(required);
        match self.store.apply(batch.collect()).await {
            Ok(()) => {
                leased.bump();
                Ok(Some(leased))
            }
            Err(error @ StoreError::Conflict(Subject::Merchant)) => Err(error),
            Err(StoreError::Conflict(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes a leased row, together with what `change` adds to the batch. Called again on the
    /// new row if the row has changed under the lease, so `change` must only look at its argument.
    /// A conflict about anything else in the batch is the caller's.
    pub(crate) async fn change<T: Leased + Reload>(
        &self,
        row: &T,
        mut change: impl FnMut(&mut T) -> Vec<Change> + Send,
    ) -> Result<Written<T>, StoreError> {
        let lease = row.lease_until();
        let mut present = row.clone();
        for _ in 0..MAX_REPEATS {
            // Once the lease is over, it can't be told from the lease's own end: one look too many.
            let is_over = self.now() >= lease;
            let woken = present.next_at().filter(|&at| at < lease || is_over);
            let mut changed = present.clone();
            let mut batch = change(&mut changed);
            if let Some(woken) = woken {
                // Somebody has asked for a look while this was driven; the wish is kept.
                let next = changed.next_at().map_or(woken, |at| at.min(woken));
                changed.set_next_at(Some(next));
            }
            batch.insert(0, changed.update());
            match self.store.apply(batch).await {
                Ok(()) => {
                    changed.bump();
                    return Ok(Written::Yes(changed));
                }
                Err(StoreError::Conflict(subject)) if subject == T::SUBJECT => {}
                // Something else in the batch; the same batch would fail again.
                Err(error) => return Err(error),
            }
            present = T::reload(self.store(), row.id()).await?.unwrap_or(present);
            if present.lease_until() != lease {
                return Ok(Written::Lost(present));
            }
        }
        Err(StoreError::Conflict(T::SUBJECT))
    }

    /// Lets nothing wait for longer than it can have to by a clock that is right, but for `slack`;
    /// customers have `customer_window` at the most. Leases are limited too if nobody can be at
    /// anything under one from before.
    pub(crate) fn limit_waits(
        now: Timestamp,
        slack: Duration,
        customer_window: Duration,
        cut_leases: bool,
    ) -> Change {
        let by = |longest: Duration| now.plus(longest).plus(slack);
        Change::LimitWaits {
            leases_by: cut_leases.then(|| by(LEASE)),
            open_by: by(state::LONGEST_PAUSE),
            customers_by: by(customer_window),
            ended_by: by(state::BETWEEN_LOOKS_AT_A_HOLD),
            events_by: by(outbox::LONGEST_PAUSE),
        }
    }

    /// An event about an object, for the batch that makes it true.
    pub(crate) fn event(&self, account: &str, kind: String, object: &str) -> Change {
        Change::InsertEvent(self.event_of(account, kind, object, object))
    }

    /// An event about a capture, void or refund: a part of what its payment's events tell.
    pub(crate) fn operation_event(&self, row: &OperationRow, end: &str) -> Change {
        let kind = format!("{}.{end}", row.kind.as_str());
        Change::InsertEvent(self.event_of(&row.account, kind, &row.id, &row.payment))
    }

    /// An event about an object whose handle replaces another.
    pub(crate) fn event_replacing(
        &self,
        account: &str,
        kind: String,
        object: &str,
        replaces: Option<String>,
    ) -> Change {
        Change::InsertEvent(EventRow {
            replaces,
            ..self.event_of(account, kind, object, object)
        })
    }

    fn event_of(&self, account: &str, kind: String, object: &str, topic: &str) -> EventRow {
        let at = self.now();
        let mut bytes = [0; EVENT_ID_BYTES];
        if self.entropy.fill(&mut bytes).is_err() {
            // An event is never lost for want of a random id: what it says names it well enough.
            let said = format!("{kind} {object} {at}");
            let digest = ring::digest::digest(&ring::digest::SHA256, said.as_bytes());
            for (byte, hashed) in bytes.iter_mut().zip(digest.as_ref()) {
                *byte = *hashed;
            }
        }
        EventRow {
            id: format!("{EVENT_PREFIX}{}", crate::letters::letters(&bytes)),
            account: account.to_owned(),
            kind,
            object: object.to_owned(),
            replaces: None,
            topic: topic.to_owned(),
            at,
        }
    }
}

/// Whether a text is an event's id by its form.
pub(crate) fn is_event_id(text: &str) -> bool {
    let letters = text.strip_prefix(EVENT_PREFIX).unwrap_or_default();
    crate::letters::are_letters(letters, 2 * EVENT_ID_BYTES)
}

/// Leases a row in memory: if its driver dies, it is looked at when the lease ends.
pub(crate) fn lease_row<T: Leased>(row: &mut T, now: Timestamp) {
    let until = now.plus(LEASE);
    row.set_lease(until);
    row.set_next_at(Some(until));
}

/// Gives the lease back and says when to look next.
pub(crate) fn release_row<T: Leased>(row: &mut T, next_at: Option<Timestamp>) {
    row.set_lease(Timestamp::from_millis(0));
    row.set_next_at(next_at);
}

/// Reads a row again.
#[cardless_contract::async_trait]
pub(crate) trait Reload: Sized {
    /// The row as it stands.
    async fn reload(store: &dyn Store, id: &str) -> Result<Option<Self>, StoreError>;
}

macro_rules! leased {
    ($row:ty, $read:ident, $update:path, $subject:expr, $provider:expr) => {
        impl Leased for $row {
            const SUBJECT: Subject = $subject;

            fn id(&self) -> &str {
                &self.id
            }

            fn provider(&self) -> Option<&str> {
                let provider: fn(&Self) -> Option<&str> = $provider;
                provider(self)
            }

            fn lease_until(&self) -> Timestamp {
                self.lease_until
            }

            fn set_lease(&mut self, until: Timestamp) {
                self.lease_until = until;
            }

            fn next_at(&self) -> Option<Timestamp> {
                self.next_at
            }

            fn set_next_at(&mut self, at: Option<Timestamp>) {
                self.next_at = at;
            }

            fn bump(&mut self) {
                self.version += 1;
            }

            fn update(&self) -> Change {
                $update(self.clone())
            }
        }

        #[cardless_contract::async_trait]
        impl Reload for $row {
            async fn reload(store: &dyn Store, id: &str) -> Result<Option<Self>, StoreError> {
                store.$read(id).await
            }
        }
    };
}
leased!(
    PaymentRow,
    payment,
    Change::UpdatePayment,
    Subject::Payment,
    |row| Some(&row.provider)
);
leased!(
    OperationRow,
    operation,
    Change::UpdateOperation,
    Subject::Operation,
    |row| Some(&row.provider)
);
leased!(
    ErasureRow,
    erasure,
    Change::UpdateErasure,
    Subject::Erasure,
    |_| None
);
leased!(
    SetupRow,
    setup,
    Change::UpdateSetup,
    Subject::Setup,
    |row| Some(&row.provider)
);

#[cfg(all(test, feature = "sqlite"))]
mod tests;
