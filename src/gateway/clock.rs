//! The machine's clock can jump: set by a person, by a time service after a wrong start, or because
//! the machine slept. Windows and proofs are reckoned by it, so a jump is noticed and reckoned with.

use std::time::Duration;

use cardless_contract::Timestamp;
use tokio::time::Instant;

use super::Inner;
use super::audit::{Actor, AuditAction, AuditObject};
use crate::error::Causes;
use crate::store::{Change, StoreError, Subject};

/// What a jump is, and not the ordinary work of a time service, which moves a clock slowly.
const STEP: Duration = Duration::from_secs(5);

/// Compares the clock with one that only ever goes on.
pub(super) struct ClockWatch {
    /// What both showed at the last look; `None` before the first.
    last: Option<(Timestamp, Instant)>,
}

impl ClockWatch {
    pub(super) const fn new() -> Self {
        Self { last: None }
    }

    /// Reckons with a jump since the last look, or, at the first, with what was sent at a time that
    /// is still to come. A failure is logged, and the next look tries again.
    pub(super) async fn look(&mut self, inner: &Inner) {
        let (wall, steady) = (inner.journal.now(), Instant::now());
        let expected = match self.last {
            Some((then, at)) => then.plus(steady.duration_since(at)),
            None => match inner.journal.store().latest_sent().await {
                Ok(latest) => latest.map_or(wall, |latest| latest.max(wall)),
                Err(error) => {
                    tracing::error!(error = %Causes(&error), "the clock");
                    return;
                }
            },
        };
        let off = wall.since(expected).max(expected.since(wall));
        if off < STEP {
            self.last = Some((wall, steady));
            return;
        }
        let millis = wall.millis().saturating_sub(expected.millis());
        let actor = Actor::system();
        let line = inner
            .audit(actor, AuditAction::ClockStep, AuditObject::none())
            .detail("seconds", millis.div_euclid(1000));
        let batch = vec![Change::StepClock { at: wall, millis }, line.change()];
        match inner.journal.write(batch).await {
            Ok(()) => tracing::error!(
                seconds = millis.div_euclid(1000),
                "the clock has jumped, or the machine has slept; what is open was reckoned anew"
            ),
            // Another process was faster.
            Err(StoreError::Conflict(Subject::Clock)) => {}
            Err(error) => {
                tracing::error!(error = %Causes(&error), "a jump of the clock is not reckoned with yet");
                return;
            }
        }
        self.last = Some((wall, steady));
    }
}
