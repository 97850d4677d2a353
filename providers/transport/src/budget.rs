use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cardless_contract::Timestamp;

/// How often something may be asked for within a time, whoever causes it: a sender of webhooks can
/// make up any number of names for keys and objects.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    within: Duration,
    times: Mutex<VecDeque<Timestamp>>,
}

impl Budget {
    /// At most `most` within any stretch of this length.
    pub const fn new(most: usize, within: Duration) -> Self {
        Self {
            most,
            within,
            times: Mutex::new(VecDeque::new()),
        }
    }

    /// Whether one more may be asked for now; counts it if so. What was counted by a clock that was
    /// ahead is over.
    pub fn take(&self, now: Timestamp) -> bool {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        while times
            .front()
            .is_some_and(|first| *first > now || now.since(*first) >= self.within)
        {
            times.pop_front();
        }
        let allowed = times.len() < self.most;
        if allowed {
            times.push_back(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_most_within_the_time() {
        let budget = Budget::new(2, Duration::from_secs(60));
        let take = |seconds| budget.take(Timestamp::from_seconds(seconds));
        assert!(take(100) && take(130) && !take(159));
        assert!(take(160) && !take(189) && take(190));
        // A clock that was put back holds nothing up.
        assert!(take(10) && take(11) && !take(12));
    }
}
