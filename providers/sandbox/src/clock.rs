use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cardless_contract::{Clock, Timestamp};

/// The clock that the three providers share: a base clock, moved forward by what
/// `POST /clock` asked for. Clones are the same clock, so that a service in the same process can
/// run on it.
#[derive(Debug, Clone)]
pub struct SandboxClock {
    base: Arc<dyn Clock>,
    ahead_millis: Arc<AtomicI64>,
}

impl SandboxClock {
    /// A clock that shows what `base` shows.
    pub fn new(base: Arc<dyn Clock>) -> Self {
        Self {
            base,
            ahead_millis: Arc::default(),
        }
    }

    /// Moves the clock forward. Only the sandbox calls it, since its dialects must hear of it.
    pub(crate) fn advance(&self, by: Duration) {
        let ahead = Timestamp::from_millis(self.ahead_millis.load(Ordering::SeqCst)).plus(by);
        self.ahead_millis.store(ahead.millis(), Ordering::SeqCst);
    }

    /// Shows the base clock again.
    pub(crate) fn reset(&self) {
        self.ahead_millis.store(0, Ordering::SeqCst);
    }
}

impl Clock for SandboxClock {
    fn now(&self) -> Timestamp {
        let ahead = self.ahead_millis.load(Ordering::SeqCst);
        Timestamp::from_millis(self.base.now().millis().saturating_add(ahead))
    }
}
