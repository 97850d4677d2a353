//! Browsers that come back to us: how often one makes us ask its provider.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cardless_contract::Timestamp;

/// How long after a look that a browser has caused it causes no other one at the same object.
const BETWEEN_LOOKS: Duration = Duration::from_secs(3);

/// How many objects are remembered. All of them are forgotten after [`BETWEEN_LOOKS`].
const MAX_REMEMBERED: usize = 10_000;

/// When browsers have caused looks, by the object.
#[derive(Debug, Default)]
pub(super) struct Returns(Mutex<HashMap<String, Timestamp>>);

impl Returns {
    /// Whether a browser may cause a look at an object now. If it may, it has.
    pub(super) fn may_look(&self, object: &str, now: Timestamp) -> bool {
        let is_recent = |at: &Timestamp| *at <= now && now.since(*at) < BETWEEN_LOOKS;
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.get(object).is_some_and(is_recent) {
            return false;
        }
        if looks.len() >= MAX_REMEMBERED {
            looks.retain(|_, at| is_recent(at));
        }
        if looks.len() < MAX_REMEMBERED {
            looks.insert(object.to_owned(), now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn one_look_at_a_time_for_each_object() {
        let returns = Returns::default();
        assert!(returns.may_look("pay_a", at(100)));
        assert!(!returns.may_look("pay_a", at(102)));
        assert!(returns.may_look("pay_b", at(102)));
        assert!(returns.may_look("pay_a", at(103)));
        assert!(!returns.may_look("pay_a", at(105)));
        // A clock that was set back holds nobody up.
        assert!(returns.may_look("pay_a", at(50)));
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let returns = Returns::default();
        for number in 0..MAX_REMEMBERED + 10 {
            assert!(returns.may_look(&number.to_string(), at(100)));
        }
        assert_eq!(returns.0.lock().unwrap().len(), MAX_REMEMBERED);
        assert!(returns.may_look("later", at(103)));
        assert_eq!(returns.0.lock().unwrap().len(), 1);
    }
}
