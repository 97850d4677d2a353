//! The outbox's way out: which event is next, who sends it, and when one is given up.
//!
//! Events leave in the order of their sequence, one at a time. A worker takes the next one under a
//! lease, and nobody takes the one after it before this one is acknowledged or dead. A worker that
//! dies between sending and marking leaves a lease that ends, and the event is sent again: at least
//! once, never "exactly once".

use std::time::Duration;

use cardless_contract::Timestamp;

use super::Journal;
use crate::store::{Change, DeadEventRow, DeliveryRow, EventRow, StoreError};

/// How long one worker has an event, longer than an attempt and the writes around it.
const DELIVERY_LEASE: Duration = Duration::from_secs(60);

/// How long after a failed attempt the next one is made. After the last pause and one more attempt
/// the event is dead, nearly 16 hours after the first. What waits behind it waits as long:
/// a receiver that is away for a night loses no event, one that refuses a single event for good
/// holds up the rest for that time.
const PAUSES: [Duration; 10] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(3600),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(4 * 3600),
    Duration::from_secs(4 * 3600),
    Duration::from_secs(4 * 3600),
];

/// An event that this worker is to send.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    row: DeliveryRow,
    sequence: i64,
    /// The event.
    pub(crate) event: EventRow,
}

/// What becomes of an event that was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is sent again then.
    Again(Timestamp),
    /// It is given up, and the next one's turn comes.
    Dead,
    /// Another worker has taken it over.
    Lost,
}

impl Turn {
    /// Which attempt this is, from 1.
    pub(crate) const fn attempt(&self) -> u32 {
        self.row.attempts.saturating_add(1)
    }
}

impl Journal {
    /// The next event, leased. `None` if there is none, it is not due yet, or another worker has it.
    pub(crate) async fn take_turn(&self) -> Result<Option<Turn>, StoreError> {
        let now = self.now();
        let row = self.store().delivery().await?;
        if row.lease_until > now || row.next_at > now {
            return Ok(None);
        }
        let next = self.store().events(row.delivered, 1).await?;
        let Some((sequence, event)) = next.into_iter().next() else {
            return Ok(None);
        };
        let mut leased = row.clone();
        leased.lease_until = now.plus(DELIVERY_LEASE);
        if !self.write_delivery(leased.clone(), Vec::new()).await? {
            return Ok(None);
        }
        leased.version += 1;
        Ok(Some(Turn {
            row: leased,
            sequence,
            event,
        }))
    }

    /// The event was acknowledged. False if another worker has taken it over meanwhile.
    pub(crate) async fn acknowledged(&self, turn: &Turn) -> Result<bool, StoreError> {
        self.write_delivery(passed(turn), Vec::new()).await
    }

    /// The event was not acknowledged: it is sent again later, or given up.
    pub(crate) async fn not_acknowledged(&self, turn: &Turn) -> Result<Fate, StoreError> {
        let now = self.now();
        let tried = usize::try_from(turn.row.attempts).unwrap_or(usize::MAX);
        let (row, batch, fate) = match PAUSES.get(tried) {
            Some(&pause) => {
                let mut row = turn.row.clone();
                row.attempts = turn.attempt();
                row.next_at = now.plus(pause);
                row.lease_until = Timestamp::from_millis(0);
                (row, Vec::new(), Fate::Again(now.plus(pause)))
            }
            None => {
                let dead = Change::InsertDeadEvent(DeadEventRow {
                    sequence: turn.sequence,
                    attempts: turn.attempt(),
                    dead_at: now,
                });
                (passed(turn), vec![dead], Fate::Dead)
            }
        };
        let written = self.write_delivery(row, batch).await?;
        Ok(if written { fate } else { Fate::Lost })
    }

    /// Writes the delivery's row, if its version still holds.
    async fn write_delivery(
        &self,
        row: DeliveryRow,
        mut batch: Vec<Change>,
    ) -> Result<bool, StoreError> {
        batch.insert(0, Change::UpdateDelivery(row));
        match self.write(batch).await {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The row once the turn's event is done with.
fn passed(turn: &Turn) -> DeliveryRow {
    DeliveryRow {
        delivered: turn.sequence,
        attempts: 0,
        next_at: Timestamp::from_millis(0),
        lease_until: Timestamp::from_millis(0),
        version: turn.row.version,
    }
}
