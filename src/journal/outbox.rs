//! The outbox's way out: which event is next, who sends it, and when one is given up.
//!
//! Events of one topic (a payment with its captures, voids and refunds, a setup, a method) leave in
//! the order of their sequence: nobody takes the next one before the one before it is acknowledged
//! or dead. A topic whose event was not acknowledged is held, and the others pass it; while
//! [`MAX_HELD_TOPICS`] are held, nothing new begins, since then the receiver is away. One worker
//! sends one event at a time, under a lease. A worker that dies between sending and marking leaves
//! a lease that ends, and the event is sent again: at least once, never "exactly once".

use std::time::Duration;

use cardless_contract::Timestamp;

use super::Journal;
use crate::store::{Change, DeadEventRow, DeliveryRow, EventRow, HeldTopicRow, StoreError};

/// How long one worker has an event, longer than an attempt and the writes around it.
const DELIVERY_LEASE: Duration = Duration::from_secs(60);

/// How many topics are held at most. Of a receiver that is away this many events use up their
/// attempts; all others wait untried.
pub(crate) const MAX_HELD_TOPICS: usize = 16;

/// How long after a failed attempt the next one is made. After the last pause and one more attempt
/// the event is dead, nearly 16 hours after the first: a receiver that is away for a night loses no
/// event.
const PAUSES: [Duration; 10] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_mins(30),
    Duration::from_hours(1),
    Duration::from_hours(2),
    LONGEST_PAUSE,
    LONGEST_PAUSE,
    LONGEST_PAUSE,
];

/// The longest of them.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_hours(4);

/// An event that this worker is to send.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    row: DeliveryRow,
    /// Its place in its topic, and the attempts before this one.
    held: HeldTopicRow,
    /// The event.
    pub(crate) event: EventRow,
}

/// What becomes of an event that was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is sent again then, and its topic waits.
    Again(Timestamp),
    /// It is given up, and the next one of its topic has its turn.
    Dead,
    /// Another worker has taken it over.
    Lost,
}

impl Turn {
    /// Which attempt this is, from 1.
    pub(crate) const fn attempt(&self) -> u32 {
        self.held.attempts.saturating_add(1)
    }
}

impl Journal {
    /// The next event, leased: of the held ones that are due the one that waits longest, else the
    /// next one whose topic is not held. `None` if there is none, or another worker delivers.
    pub(crate) async fn take_turn(&self) -> Result<Option<Turn>, StoreError> {
        let now = self.now();
        let row = self.store().delivery().await?;
        if row.lease_until > now {
            return Ok(None);
        }
        let Some((held, event)) = self.next_to_send(&row, now).await? else {
            return Ok(None);
        };
        let mut leased = row;
        leased.lease_until = now.plus(DELIVERY_LEASE);
        if !self.write_delivery(leased.clone(), Vec::new()).await? {
            return Ok(None);
        }
        leased.version += 1;
        Ok(Some(Turn {
            row: leased,
            held,
            event,
        }))
    }

    async fn next_to_send(
        &self,
        row: &DeliveryRow,
        now: Timestamp,
    ) -> Result<Option<(HeldTopicRow, EventRow)>, StoreError> {
        let held = self.store().held_topics().await?;
        let due = held.iter().filter(|held| held.next_at <= now);
        if let Some(due) = due.min_by_key(|held| (held.next_at, held.sequence)) {
            let event = self.store().events(due.sequence - 1, 1).await?;
            let event = event.into_iter().next().map(|(_, event)| event);
            return Ok(event.map(|event| (due.clone(), event)));
        }
        if held.iter().filter(|held| holds_up(held)).count() >= MAX_HELD_TOPICS {
            return Ok(None);
        }
        let next = self.store().next_event(row.delivered).await?;
        Ok(next.map(|(sequence, event)| {
            let fresh = HeldTopicRow {
                topic: event.topic.clone(),
                sequence,
                attempts: 0,
                next_at: now,
            };
            (fresh, event)
        }))
    }

    /// The event was acknowledged. False if another worker has taken it over meanwhile.
    pub(crate) async fn acknowledged(&self, turn: &Turn) -> Result<bool, StoreError> {
        let batch = vec![self.passed(turn).await?];
        self.write_delivery(given_back(turn), batch).await
    }

    /// The event was not acknowledged: it is sent again later, or given up.
    pub(crate) async fn not_acknowledged(&self, turn: &Turn) -> Result<Fate, StoreError> {
        let now = self.now();
        let tried = usize::try_from(turn.held.attempts).unwrap_or(usize::MAX);
        let (batch, fate) = match PAUSES.get(tried) {
            Some(&pause) => {
                let again = HeldTopicRow {
                    attempts: turn.attempt(),
                    next_at: now.plus(pause),
                    ..turn.held.clone()
                };
                let at = again.next_at;
                (vec![Change::HoldTopic(again)], Fate::Again(at))
            }
            None => {
                let dead = Change::InsertDeadEvent(DeadEventRow {
                    sequence: turn.held.sequence,
                    attempts: turn.attempt(),
                    dead_at: now,
                });
                (vec![self.passed(turn).await?, dead], Fate::Dead)
            }
        };
        let written = self.write_delivery(given_back(turn), batch).await?;
        Ok(if written { fate } else { Fate::Lost })
    }

    /// Sends a dead event again, by itself: what its topic has told since was delivered after it.
    /// `told` says so in the same transaction. False if it is not dead.
    pub(crate) async fn send_again(
        &self,
        sequence: i64,
        event: &EventRow,
        told: Change,
    ) -> Result<bool, StoreError> {
        let alone = Change::HoldTopic(HeldTopicRow {
            topic: event.id.clone(),
            sequence,
            attempts: 0,
            next_at: self.now(),
        });
        self.unless_conflict(vec![Change::DeleteDeadEvent(sequence), alone, told])
            .await
    }

    /// Takes a dead event off the list; `told` says so in the same transaction. False if it is not
    /// dead.
    pub(crate) async fn dismiss(&self, sequence: i64, told: Change) -> Result<bool, StoreError> {
        self.unless_conflict(vec![Change::DeleteDeadEvent(sequence), told])
            .await
    }

    /// What becomes of the turn's topic once its event is done with: the next one that was passed
    /// while it was held has its turn, or the topic is no longer behind.
    async fn passed(&self, turn: &Turn) -> Result<Change, StoreError> {
        let topic = &turn.held.topic;
        let until = given_back(turn).delivered;
        let next = self
            .store()
            .next_of_topic(topic, turn.held.sequence, until)
            .await?;
        Ok(match next {
            Some(sequence) => Change::HoldTopic(HeldTopicRow {
                topic: topic.clone(),
                sequence,
                attempts: 0,
                next_at: self.now(),
            }),
            None => Change::ReleaseTopic(topic.clone()),
        })
    }

    /// Writes the delivery's row, if its version still holds.
    async fn write_delivery(
        &self,
        row: DeliveryRow,
        mut batch: Vec<Change>,
    ) -> Result<bool, StoreError> {
        batch.insert(0, Change::UpdateDelivery(row));
        self.unless_conflict(batch).await
    }

    async fn unless_conflict(&self, batch: Vec<Change>) -> Result<bool, StoreError> {
        match self.write(batch).await {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether events of its topic wait behind it; one that a person sends again stands alone.
fn holds_up(held: &HeldTopicRow) -> bool {
    !held.topic.starts_with(super::EVENT_PREFIX)
}

/// The delivery's row once the turn is over, without its lease.
fn given_back(turn: &Turn) -> DeliveryRow {
    DeliveryRow {
        delivered: turn.row.delivered.max(turn.held.sequence),
        lease_until: Timestamp::from_millis(0),
        version: turn.row.version,
    }
}
