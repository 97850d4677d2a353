//! The machine's clock can jump: set by a person, by a time service after a wrong start, or because
//! the machine slept. Windows and proofs are reckoned by it, so a jump is noticed and reckoned with.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cardless_contract::{Clock, Timestamp};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::audit::{Actor, AuditAction, AuditObject};
use super::resolve::INTERVAL;
use super::{COMMIT_WITHIN, Gateway, Inner, MAX_SKEW, stored};
use crate::error::{Causes, Error};
use crate::journal::{Journal, LEASE, Leased, Reload};
use crate::store::{Change, ClockSeen, StoreError, Subject};

/// What a jump is, and not the ordinary work of a time service, which moves a clock slowly.
const STEP: Duration = Duration::from_secs(5);

/// Older than any window of a provider's key.
const BEYOND_ALL_WINDOWS: Duration = Duration::from_secs(400 * 24 * 3600);

/// For how long nobody may have looked at the clock before one that says so is doubted.
const LONG_SILENCE: Duration = Duration::from_secs(30 * 24 * 3600);

/// For how long nobody may have looked at the clock before a service that starts doubts how old things
/// are: longer than a restart takes.
const SHORT_SILENCE: Duration = Duration::from_secs(120);

/// How long a customer may take where no provider is at hand that says it.
const ANY_CUSTOMER: Duration = Duration::from_secs(24 * 3600);

/// How often it is remembered what the clock shows: a step back while nobody is at work is known by
/// that alone where nothing was sent for long.
const SEE_EVERY: Duration = Duration::from_secs(60);

/// Compares the clock with one that only ever goes on.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    shown: Mutex<Shown>,
    /// One reckons at a time.
    rounds: tokio::sync::Mutex<Rounds>,
}

/// What both clocks show.
#[derive(Debug, Clone, Copy)]
struct Look {
    wall: Timestamp,
    /// How far that was moved on purpose.
    moved: Duration,
    steady: Instant,
}

impl Look {
    fn at(clock: &dyn Clock) -> Self {
        let (wall, moved) = clock.shows();
        Self {
            wall,
            moved,
            steady: Instant::now(),
        }
    }

    /// What the clock would show without its jump since an earlier look, if it has jumped.
    fn jumped_from(self, then: Self) -> Option<Timestamp> {
        let passed = self.steady.duration_since(then.steady);
        let moved = self.moved.saturating_sub(then.moved);
        let expected = then.wall.plus(passed).plus(moved);
        let off = self.wall.since(expected).max(expected.since(self.wall));
        (off >= STEP).then_some(expected)
    }
}

#[derive(Debug, Default)]
struct Shown {
    /// What both showed at the last look; `None` before the first.
    last: Option<Look>,
    steps: u64,
    /// By how much the clock may be ahead, since nobody had looked for long.
    may_be_ahead: Duration,
}

#[derive(Debug, Default)]
struct Rounds {
    /// When whoever was at something as the clock was put back, or as this began, is done with it.
    settled_at: Option<Instant>,
    /// When it was last made sure that what the clock shows is remembered.
    seen_at: Option<Instant>,
    /// The latest step in the store that this process has reckoned with, or has seen to be another's.
    known: i64,
}

/// How many jumps were reckoned with. Times that were read before the last one say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps(u64);

impl ClockWatch {
    /// What of this time is certain: an answer proves nothing before it.
    pub(super) fn certain(&self, wall: Timestamp) -> Timestamp {
        wall.minus(self.shown().may_be_ahead)
    }

    pub(super) fn steps(&self) -> Steps {
        Steps(self.shown().steps)
    }

    /// Nothing that is open is older than its certain time: rows that were read before say nothing.
    fn held(&self) {
        let mut shown = self.shown();
        shown.may_be_ahead = Duration::ZERO;
        shown.steps += 1;
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By how much a clock may be ahead that nobody has looked at since it was seen.
fn may_be_ahead(seen: ClockSeen, wall: Timestamp) -> Duration {
    let silence = wall.since(seen.at);
    if silence > SHORT_SILENCE {
        seen.may_be_ahead.max(silence)
    } else {
        seen.may_be_ahead
    }
}

/// Looks at the clock all the time, whatever else goes on, until it is dropped.
#[expect(dead_code, reason = "dropped, it ends")]
pub(super) struct Watching(JoinSet<()>);

impl Watching {
    pub(super) fn start(inner: &Arc<Inner>) -> Self {
        let inner = Arc::clone(inner);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                inner.watch_clock().await;
            }
        });
        Self(tasks)
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
    /// Looks at the clock. A failure is logged, and the next look tries again.
    pub(super) async fn watch_clock(&self) {
        if let Err(error) = self.reckon().await {
            tracing::error!(error = %Causes(&error), "a jump of the clock is not reckoned with yet");
        }
    }

    /// Reckons with a jump since the last look, or, at the first, with one that what is stored tells of:
    /// before anything that was sent is judged by its age.
    pub(super) async fn look_at_clock(&self) -> Result<(), Error> {
        self.reckon().await.map_err(stored)
    }

    /// Whether nothing is to be reckoned with.
    pub(super) fn clock_is_steady(&self) -> bool {
        let last = self.clock.shown().last;
        last.is_some_and(|last| self.look().jumped_from(last).is_none())
    }

    fn look(&self) -> Look {
        Look::at(self.journal.clock().as_ref())
    }

    /// Whether the clock has jumped since so many steps, so that times which were read then say nothing.
    /// It is reckoned with now if nobody has.
    pub(super) async fn has_stepped(&self, since: Steps) -> Result<bool, Error> {
        Ok(self.reckoned_steps().await? != since)
    }

    async fn reckoned_steps(&self) -> Result<Steps, Error> {
        if !self.clock_is_steady() {
            self.look_at_clock().await?;
        }
        Ok(self.clock.steps())
    }

    /// A leased row, and the jumps that its times are reckoned with: these are counted before it is read.
    /// `None` if somebody else has it now.
    pub(super) async fn reckoned<T: Leased + Reload>(
        &self,
        row: &T,
    ) -> Result<Option<(T, Steps)>, Error> {
        let steps = self.reckoned_steps().await?;
        let present = T::reload(self.journal.store(), row.id()).await;
        let held = |present: &T| present.lease_until() == row.lease_until();
        let present = present.map_err(stored)?.filter(held);
        Ok(present.map(|row| (row, steps)))
    }

    /// A machine that starts may show a time that is ahead, and nothing stored tells of it. So after a
    /// silence, what was sent before it is asked about for as long as if it had left now. Answers
    /// whether that is done.
    pub(super) async fn hold_proofs(&self) -> bool {
        if self.clock.shown().may_be_ahead.is_zero() {
            return true;
        }
        let hold = Change::HoldProofs(self.journal.now());
        if let Err(error) = self.journal.write(vec![hold]).await {
            tracing::error!(error = %Causes(&error), "what was sent before is not looked at yet");
            return false;
        }
        self.clock.held();
        true
    }

    async fn reckon(&self) -> Result<(), StoreError> {
        let mut rounds = self.clock.rounds.lock().await;
        let store = self.journal.store();
        let look = self.look();
        let (wall, steady) = (look.wall, look.steady);
        let last = self.clock.shown().last;
        let mut since = None;
        let stepped = match last {
            Some(last) => match look.jumped_from(last) {
                Some(expected) => {
                    let jump = Jump::seen(wall, expected);
                    self.step_clock(jump, rounds.known).await?;
                    true
                }
                None => false,
            },
            None => {
                let seen = store.clock_seen().await?;
                since = seen;
                let ahead = seen.map_or(Duration::ZERO, |seen| may_be_ahead(seen, wall));
                let (silence, ahead_of_us) = self.reckon_at_start(wall).await?;
                // A step forward has put off what is proven; one back has not.
                self.clock.shown().may_be_ahead = if silence { Duration::ZERO } else { ahead };
                silence || ahead_of_us
            }
        };
        if stepped || last.is_none() {
            // Another process may be at something, whatever the clock says.
            rounds.settled_at = Some(steady + LEASE + MAX_SKEW);
            rounds.known = store.latest_step().await?;
        }
        {
            let mut shown = self.clock.shown();
            shown.last = Some(look);
            shown.steps += u64::from(stepped);
        }
        if rounds.seen_at.is_none_or(|at| steady - at >= SEE_EVERY) {
            rounds.known = store.latest_step().await?;
            // The first look has done so.
            let looked = last.is_some();
            if looked
                && self
                    .step_back_from_what_is_ahead(wall, rounds.known)
                    .await?
            {
                // It went ahead and back between two looks.
                self.clock.shown().steps += 1;
                rounds.settled_at = Some(steady + LEASE + MAX_SKEW);
            }
            if looked {
                // Where nothing was sent, something may still wait, or be leased, by a clock that was
                // ahead for a moment.
                self.limit_waits(wall, Leases::Kept).await?;
                rounds.settled_at.get_or_insert(steady + LEASE + MAX_SKEW);
            }
            self.see_clock(wall, since, last.is_none()).await?;
            rounds.seen_at = Some(steady);
        }
        if rounds.settled_at.is_some_and(|at| at <= steady) {
            self.limit_waits(wall, Leases::Cut).await?;
            rounds.settled_at = None;
        }
        Ok(())
    }

    /// Answers whether there was a long silence, and whether something lay ahead, to reckon with.
    async fn reckon_at_start(&self, wall: Timestamp) -> Result<(bool, bool), StoreError> {
        let known = self.journal.store().latest_step().await?;
        let silence = self.reckon_with_silence(wall, known).await?;
        let ahead = self.reckon_with_what_is_ahead(wall, known).await?;
        Ok((silence, ahead))
    }

    /// What was sent, or seen, at a time that is still to come tells of a clock that was ahead, or that
    /// is behind now; and by a clock that was ahead something may wait, whether anything was sent or not.
    async fn reckon_with_what_is_ahead(
        &self,
        wall: Timestamp,
        known: i64,
    ) -> Result<bool, StoreError> {
        let ahead = self.step_back_from_what_is_ahead(wall, known).await?;
        self.limit_waits(wall, Leases::Kept).await?;
        Ok(ahead)
    }

    async fn step_back_from_what_is_ahead(
        &self,
        wall: Timestamp,
        known: i64,
    ) -> Result<bool, StoreError> {
        let store = self.journal.store();
        let seen = store.clock_seen().await?.map(|seen| seen.at);
        let latest = store.latest_sent().await?.max(seen);
        // This process may have stood still since it looked: what others have sent since is not ahead.
        let wall = wall.max(self.journal.now());
        let ahead = latest.filter(|latest| latest.since(wall) > MAX_SKEW);
        if let Some(latest) = ahead {
            self.step_clock(Jump::guessed(wall, latest), known).await?;
        }
        Ok(ahead.is_some())
    }

    async fn limit_waits(&self, wall: Timestamp, leases: Leases) -> Result<(), StoreError> {
        // This process may have stood still since it looked: what others have put off since is in time.
        let wall = wall.max(self.journal.now());
        let parts = self.live.parts();
        let windows = parts.providers.values();
        let longest = windows.map(|provider| provider.capabilities().customer_window);
        let longest = longest.max().unwrap_or(ANY_CUSTOMER);
        let limit = Journal::limit_waits(wall, MAX_SKEW, longest, leases == Leases::Cut);
        self.journal.write(vec![limit]).await
    }

    /// Where nobody has looked at the clock for long, it may have gone ahead meanwhile. What else was
    /// written says nothing of that: it may have been written by a clock that is ahead.
    async fn reckon_with_silence(&self, wall: Timestamp, known: i64) -> Result<bool, StoreError> {
        let seen = self.journal.store().clock_seen().await?;
        let long = seen.filter(|seen| wall.since(seen.at) > LONG_SILENCE);
        if let Some(seen) = long {
            self.step_clock(Jump::seen(wall, seen.at), known).await?;
        }
        Ok(long.is_some())
    }

    /// Remembers what the clock shows, if that has not been done for long or it shows less than before.
    /// How far it may be ahead is told once: a service may have held what is open since.
    async fn see_clock(
        &self,
        wall: Timestamp,
        since: Option<ClockSeen>,
        first: bool,
    ) -> Result<(), StoreError> {
        let ahead = self.clock.shown().may_be_ahead;
        let now = ClockSeen {
            at: wall,
            may_be_ahead: if first { ahead } else { Duration::ZERO },
        };
        let seen = self.journal.store().clock_seen().await?;
        let is_known = |seen: ClockSeen| {
            let lately = seen.at <= wall && wall.since(seen.at) < SEE_EVERY / 2;
            lately && seen.may_be_ahead >= now.may_be_ahead
        };
        if seen.is_some_and(is_known) {
            return Ok(());
        }
        let see = Change::SeeClock { seen: now, since };
        self.journal.write(vec![see]).await
    }

    /// Reckons with a jump, unless another process has done so since the step that is `known`.
    async fn step_clock(&self, jump: Jump, known: i64) -> Result<(), StoreError> {
        let seconds = jump.millis.div_euclid(1000);
        // This process may have stood still since it looked: what others have sent since is not dated
        // back.
        let at = if jump.millis < 0 {
            jump.at.max(self.journal.now())
        } else {
            jump.at
        };
        let actor = Actor::system();
        let line = self
            .audit(actor, AuditAction::ClockStep, AuditObject::none())
            .detail("seconds", seconds);
        let step = Change::StepClock {
            at,
            millis: jump.millis,
            sent_by: jump.sent_by,
            accepted_by: jump.accepted_by,
            known,
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
