//! Time: tokio's paused time is everybody's, and each process reads it off a clock of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use cardless_contract::{Clock, Timestamp};
use tokio::time::Instant;

/// When every schedule begins.
const BEGIN: Timestamp = Timestamp::from_seconds(1_795_000_000);

/// True time: it moves as tokio's does, so that whoever waits for an answer grows older by it.
#[derive(Debug)]
pub(crate) struct TrueTime(Instant);

impl TrueTime {
    /// From now on, which is the schedule's beginning.
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TrueTime {
    fn now(&self) -> Timestamp {
        BEGIN.plus(self.0.elapsed())
    }
}

/// A process's clock: true time, and by how much it is off. It can be set forth and back.
#[derive(Debug, Clone)]
pub(crate) struct ProcessClock {
    clock: Arc<dyn Clock>,
    off_millis: Arc<AtomicI64>,
}

impl ProcessClock {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            off_millis: Arc::default(),
        }
    }

    /// From now on it is off by so many seconds.
    pub(crate) fn set_off(&self, seconds: i64) {
        self.off_millis
            .store(seconds.saturating_mul(1000), Ordering::SeqCst);
    }
}

impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        let off = self.off_millis.load(Ordering::SeqCst);
        Timestamp::from_millis(self.clock.now().millis().saturating_add(off))
    }
}
