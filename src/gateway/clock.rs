//! The machine's clock can jump: set by a person, by a time service after a wrong start, or because
//! the machine slept. Windows and proofs are reckoned by it, so a jump is noticed and reckoned with.

use std::time::Duration;

use cardless_contract::Timestamp;
use tokio::time::Instant;

use super::audit::{Actor, AuditAction, AuditObject};
use super::{COMMIT_WITHIN, Gateway, Inner, MAX_SKEW, stored};
use crate::error::{Causes, Error};
use crate::journal::{Journal, LEASE};
use crate::store::{Change, StoreError, Subject};

/// What a jump is, and not the ordinary work of a time service, which moves a clock slowly.
const STEP: Duration = Duration::from_secs(5);

/// Older than any window of a provider's key.
const BEYOND_ALL_WINDOWS: Duration = Duration::from_secs(400 * 24 * 3600);

/// For how long nobody may have looked at the clock before one that says so is doubted.
const LONG_SILENCE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long a customer may take where no provider is at hand that says it.
const ANY_CUSTOMER: Duration = Duration::from_secs(24 * 3600);

/// How often it is remembered what the clock shows: a step back while nobody is at work is known by
/// that alone where nothing was sent for long.
const SEE_EVERY: Duration = Duration::from_secs(60);

/// Compares the clock with one that only ever goes on.
pub(super) struct ClockWatch {
    /// What both showed at the last look; `None` before the first.
    last: Option<(Timestamp, Instant)>,
    /// When whoever was at something as the clock was put back, or as this began, is done with it.
    settled_at: Option<Instant>,
    /// When it was last made sure that what the clock shows is remembered.
    seen_at: Option<Instant>,
}

impl ClockWatch {
    pub(super) const fn new() -> Self {
        Self {
            last: None,
            settled_at: None,
            seen_at: None,
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
                inner.reckon_at_start(wall).await?;
                // Another process may be at something, whatever the clock says.
                self.settled_at = Some(steady + LEASE + MAX_SKEW);
            }
        }
        self.last = Some((wall, steady));
        if self.seen_at.is_none_or(|at| steady - at >= SEE_EVERY) {
            inner.see_clock(wall).await?;
            self.seen_at = Some(steady);
        }
        if self.settled_at.is_some_and(|at| at <= steady) {
            inner.limit_waits(wall, Leases::Cut).await?;
            self.settled_at = None;
        }
        Ok(())
    }
}

/// What becomes of leases beyond the longest that there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leases {
    /// Their workers may be alive: they were given by a clock that was ahead, a moment ago.
    Kept,
    /// Whoever had them is done.
    Cut,
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

    /// One back that nobody saw: it is at least as long as what was sent or seen lies ahead, and nobody
    /// knows how much longer. So nothing that is open is within any window.
    fn guessed(at: Timestamp, latest: Timestamp) -> Self {
        Self {
            sent_by: at.minus(BEYOND_ALL_WINDOWS),
            accepted_by: at.minus(COMMIT_WITHIN + MAX_SKEW),
            ..Self::seen(at, latest)
        }
    }
}

impl Gateway {
    /// Reckons with a jump of the clock that nobody saw, before anything is accepted: for whoever accepts
    /// while [`Gateway::run`] starts.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`](crate::error::Code::StoreUnavailable).
    pub async fn look_at_clock(&self) -> Result<(), Error> {
        self.inner.look_at_clock().await
    }
}

impl Inner {
    /// Reckons with a jump that nobody saw, before anything that was sent is judged by its age: for
    /// whoever drives without [`Gateway::run`].
    pub(super) async fn look_at_clock(&self) -> Result<(), Error> {
        let wall = self.journal.now();
        self.reckon_at_start(wall).await.map_err(stored)?;
        self.see_clock(wall).await.map_err(stored)
    }

    async fn reckon_at_start(&self, wall: Timestamp) -> Result<(), StoreError> {
        self.reckon_with_silence(wall).await?;
        self.reckon_with_what_is_ahead(wall).await
    }

    /// What was sent, or seen, at a time that is still to come tells of a clock that was ahead, or that
    /// is behind now; and by a clock that was ahead something may wait, whether anything was sent or not.
    async fn reckon_with_what_is_ahead(&self, wall: Timestamp) -> Result<(), StoreError> {
        let store = self.journal.store();
        let latest = store.latest_sent().await?.max(store.clock_seen().await?);
        if let Some(latest) = latest.filter(|latest| latest.since(wall) > MAX_SKEW) {
            self.step_clock(Jump::guessed(wall, latest)).await?;
        }
        self.limit_waits(wall, Leases::Kept).await
    }

    async fn limit_waits(&self, wall: Timestamp, leases: Leases) -> Result<(), StoreError> {
        let parts = self.live.parts();
        let windows = parts.providers.values();
        let longest = windows.map(|provider| provider.capabilities().customer_window);
        let longest = longest.max().unwrap_or(ANY_CUSTOMER);
        let limit = Journal::limit_waits(wall, MAX_SKEW, longest, leases == Leases::Cut);
        self.journal.write(vec![limit]).await
    }

    /// Where nobody has looked at the clock for long, it may have gone ahead meanwhile. What else was
    /// written says nothing of that: it may have been written by a clock that is ahead.
    async fn reckon_with_silence(&self, wall: Timestamp) -> Result<(), StoreError> {
        let seen = self.journal.store().clock_seen().await?;
        match seen.filter(|&seen| wall.since(seen) > LONG_SILENCE) {
            Some(seen) => self.step_clock(Jump::seen(wall, seen)).await,
            None => Ok(()),
        }
    }

    /// Remembers what the clock shows, if that has not been done for long or it shows less than before.
    async fn see_clock(&self, wall: Timestamp) -> Result<(), StoreError> {
        let seen = self.journal.store().clock_seen().await?;
        if seen.is_some_and(|seen| seen <= wall && wall.since(seen) < SEE_EVERY / 2) {
            return Ok(());
        }
        self.journal.write(vec![Change::SeeClock(wall)]).await
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
