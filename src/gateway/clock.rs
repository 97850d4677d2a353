//! The machine's clock can jump: set by a person, by a time service after a wrong start, or because
//! the machine slept. Windows and proofs are reckoned by it, so a jump is noticed and reckoned with.

use std::time::Duration;

use cardless_contract::Timestamp;
use tokio::time::Instant;

use super::audit::{Actor, AuditAction, AuditObject};
use super::{COMMIT_WITHIN, Inner, MAX_SKEW, stored};
use crate::error::{Causes, Error};
use crate::journal::{Journal, LEASE};
use crate::store::{Change, StoreError, Subject};

/// What a jump is, and not the ordinary work of a time service, which moves a clock slowly.
const STEP: Duration = Duration::from_secs(5);

/// Older than any window of a provider's key.
const BEYOND_ALL_WINDOWS: Duration = Duration::from_secs(400 * 24 * 3600);

/// For how long nothing may be written before a clock that says so is doubted.
const LONG_SILENCE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Compares the clock with one that only ever goes on.
pub(super) struct ClockWatch {
    /// What both showed at the last look; `None` before the first.
    last: Option<(Timestamp, Instant)>,
    /// When whoever was at something as the clock was put back is done with it.
    settled_at: Option<Instant>,
}

impl ClockWatch {
    pub(super) const fn new() -> Self {
        Self {
            last: None,
            settled_at: None,
        }
    }

    /// Reckons with a jump since the last look, or, at the first, with one that what is stored tells
    /// of. Answers whether that was done: a failure is logged, and the next look tries again.
    pub(super) async fn look(&mut self, inner: &Inner) -> bool {
        let reckoned = self.reckon(inner).await;
        if let Err(error) = &reckoned {
            tracing::error!(error = %Causes(error), "a jump of the clock is not reckoned with yet");
        }
        reckoned.is_ok()
    }

    async fn reckon(&mut self, inner: &Inner) -> Result<(), StoreError> {
        let (wall, steady) = (inner.journal.now(), Instant::now());
        match self.last {
            Some((then, at)) => {
                let expected = then.plus(steady.duration_since(at));
                if wall.since(expected).max(expected.since(wall)) >= STEP {
                    inner.step_clock(Jump::seen(wall, expected)).await?;
                    self.settled_at = Some(steady + LEASE + MAX_SKEW);
                }
            }
            None => {
                inner.reckon_with_what_is_ahead(wall).await?;
                inner.reckon_with_silence(wall).await?;
            }
        }
        self.last = Some((wall, steady));
        if self.settled_at.is_some_and(|at| at <= steady) {
            inner.limit_waits(wall).await?;
            self.settled_at = None;
        }
        Ok(())
    }
}

/// A jump of the clock.
struct Jump {
    /// The clock after it.
    at: Timestamp,
    /// How far it went ahead; negative for back.
    millis: i64,
    /// What is open was first sent, and accepted, at these times at the latest.
    sent_by: Timestamp,
    accepted_by: Timestamp,
}

impl Jump {
    /// One that was seen: it is as long as it is.
    const fn seen(at: Timestamp, expected: Timestamp) -> Self {
        Self {
            at,
            millis: at.millis().saturating_sub(expected.millis()),
            sent_by: at,
            accepted_by: at,
        }
    }

    /// One back that nobody saw: it is at least as long as what was sent lies ahead, and nobody knows
    /// how much longer. So nothing that is open is within any window.
    fn guessed(at: Timestamp, latest: Timestamp) -> Self {
        Self {
            sent_by: at.minus(BEYOND_ALL_WINDOWS),
            accepted_by: at.minus(COMMIT_WITHIN + MAX_SKEW),
            ..Self::seen(at, latest)
        }
    }
}

impl Inner {
    /// Reckons with what was sent at a time that is still to come, before anything that was sent is
    /// judged by its age: for whoever drives without [`Gateway::run`](super::Gateway::run).
    pub(super) async fn look_at_clock(&self) -> Result<(), Error> {
        let wall = self.journal.now();
        self.reckon_with_what_is_ahead(wall).await.map_err(stored)
    }

    /// What was sent at a time that is still to come was sent by a clock that was ahead; and by such a
    /// clock something may wait, whether anything was sent or not.
    async fn reckon_with_what_is_ahead(&self, wall: Timestamp) -> Result<(), StoreError> {
        let latest = self.journal.store().latest_sent().await?;
        if let Some(latest) = latest.filter(|latest| latest.since(wall) > MAX_SKEW) {
            self.step_clock(Jump::guessed(wall, latest)).await?;
        }
        self.limit_waits(wall).await
    }

    async fn limit_waits(&self, wall: Timestamp) -> Result<(), StoreError> {
        let limit = Journal::limit_waits(wall, MAX_SKEW);
        self.journal.write(vec![limit]).await
    }

    /// Where nothing was written for long, the clock may have gone ahead while nobody looked.
    async fn reckon_with_silence(&self, wall: Timestamp) -> Result<(), StoreError> {
        let newest = self.journal.store().newest(wall).await?;
        match newest.filter(|&newest| wall.since(newest) > LONG_SILENCE) {
            Some(newest) => self.step_clock(Jump::seen(wall, newest)).await,
            None => Ok(()),
        }
    }

    async fn step_clock(&self, jump: Jump) -> Result<(), StoreError> {
        let seconds = jump.millis.div_euclid(1000);
        let actor = Actor::system();
        let line = self
            .audit(actor, AuditAction::ClockStep, AuditObject::none())
            .detail("seconds", seconds);
        let step = Change::StepClock {
            at: jump.at,
            millis: jump.millis,
            sent_by: jump.sent_by,
            accepted_by: jump.accepted_by,
        };
        let batch = vec![step, line.change()];
        match self.journal.write(batch).await {
            Ok(()) => {
                tracing::error!(
                    seconds,
                    "the clock has jumped, or the machine has slept, or the service was away for long; what is open was reckoned anew"
                );
                Ok(())
            }
            // Another process was faster.
            Err(StoreError::Conflict(Subject::Clock)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
