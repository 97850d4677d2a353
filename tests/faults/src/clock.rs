//! Time: tokio's paused time is everybody's; the machine's clock may be off, and each process reads it
//! a little off.

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

/// A clock, and by how much it is off. It can be set forth and back.
///
/// That of the machine is true time, and may be off by weeks; that of a process is the machine's, and
/// off by some seconds.
#[derive(Debug, Clone)]
pub(crate) struct OffClock {
    clock: Arc<dyn Clock>,
    off_millis: Arc<AtomicI64>,
}

impl OffClock {
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

    /// Whether it is off.
    pub(crate) fn is_off(&self) -> bool {
        self.off_millis.load(Ordering::SeqCst) != 0
    }
}

impl Clock for OffClock {
    fn now(&self) -> Timestamp {
        let off = self.off_millis.load(Ordering::SeqCst);
        Timestamp::from_millis(self.clock.now().millis().saturating_add(off))
    }
}
