//! Calls that were refused for who called, counted for the audit log: a line for the first of a
//! kind at once, and one a minute for those that follow, so that nobody fills the log by knocking.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cardless_contract::Timestamp;

use super::audit::{Actor, AuditAction, AuditObject, AuditOutcome, Origin};
use super::clients::Role;
use super::{Gateway, Inner};
use crate::error::Causes;

/// For how long refusals of one kind are counted into one line.
const WINDOW: Duration = Duration::from_secs(60);

/// How many kinds are counted apart; further ones are counted together.
const MAX_KINDS: usize = 256;

/// Why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    NoKey,
    UnknownKey,
    RevokedKey,
    Role,
}

/// What refusals are counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    why: Why,
    client: String,
    role: Option<&'static str>,
    origin: Origin,
}

/// Refusals since the last line about their kind.
#[derive(Debug, Clone, Copy)]
struct Counted {
    since: Timestamp,
    count: u64,
}

/// What is counted at present. It is in memory: what a process that dies has counted within the
/// minute is lost.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<Kind, Counted>>);

impl Refusals {
    /// Counts one; how many a line must tell of now, if any.
    fn count(&self, kind: &Kind, now: Timestamp) -> Option<u64> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(present) = counted.get_mut(kind) else {
            if counted.len() < MAX_KINDS {
                counted.insert(
                    kind.clone(),
                    Counted {
                        since: now,
                        count: 0,
                    },
                );
                return Some(1);
            }
            if let Some(mut any) = counted.first_entry() {
                any.get_mut().count += 1;
            }
            return None;
        };
        present.count += 1;
        if !is_over(present.since, now) {
            return None;
        }
        let count = std::mem::take(&mut present.count);
        present.since = now;
        Some(count)
    }

    /// What is to be told of kinds whose minute is over, or of all.
    fn take(&self, now: Timestamp, all: bool) -> Vec<(Kind, u64)> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut over = Vec::new();
        counted.retain(|kind, present| {
            let ends = all || is_over(present.since, now);
            if ends && present.count > 0 {
                over.push((kind.clone(), present.count));
            }
            !ends
        });
        over
    }
}

/// Whether the time in which a kind is counted is over, or began by a clock that was ahead.
fn is_over(since: Timestamp, now: Timestamp) -> bool {
    since > now || now.since(since) >= WINDOW
}

impl Gateway {
    /// A call came without a live API key; `api_key` is what it showed.
    pub async fn login_refused(&self, api_key: Option<&str>, origin: Origin) {
        let (why, client) = match api_key {
            None => (Why::NoKey, String::new()),
            Some(key) => match self.holder_of(key).await {
                Some(name) => (Why::RevokedKey, name),
                None => (Why::UnknownKey, String::new()),
            },
        };
        let role = None;
        let kind = Kind {
            why,
            client,
            role,
            origin,
        };
        self.inner.refused(kind).await;
    }

    /// A call came from a client whose role does not allow it.
    pub async fn call_refused(&self, client: &str, role: Role, origin: Origin) {
        let kind = Kind {
            why: Why::Role,
            client: client.to_owned(),
            role: Some(role.as_str()),
            origin,
        };
        self.inner.refused(kind).await;
    }
}

impl Inner {
    async fn refused(&self, kind: Kind) {
        let now = self.journal.now();
        if let Some(count) = self.refusals.count(&kind, now) {
            self.tell_refusals(kind, count).await;
        }
    }

    /// Writes what was counted, once its minute is over; all of it at the end.
    pub(super) async fn flush_refusals(&self, all: bool) {
        for (kind, count) in self.refusals.take(self.journal.now(), all) {
            self.tell_refusals(kind, count).await;
        }
    }

    async fn tell_refusals(&self, kind: Kind, count: u64) {
        let action = match kind.why {
            Why::NoKey | Why::UnknownKey | Why::RevokedKey => AuditAction::LoginRefused,
            Why::Role => AuditAction::CallRefused,
        };
        let object = match kind.client.as_str() {
            "" => AuditObject::none(),
            name => AuditObject::client(name),
        };
        let mut line = self
            .audit(Actor::unknown(kind.origin), action, object)
            .outcome(AuditOutcome::Refused)
            .detail("why", kind.why.as_str())
            .detail("calls", count);
        if let Some(role) = kind.role {
            line = line.detail("role", role);
        }
        if let Err(error) = line.write().await {
            let action = action.as_str();
            tracing::error!(action, error = %Causes(&error), "refusals were not audited");
        }
    }
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NoKey => "no_key",
            Self::UnknownKey => "unknown_key",
            Self::RevokedKey => "revoked_key",
            Self::Role => "role",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(client: &str) -> Kind {
        Kind {
            why: Why::RevokedKey,
            client: client.to_owned(),
            role: None,
            origin: Origin::Http,
        }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_rest_of_the_minute_together() {
        let refusals = Refusals::default();
        let at = Timestamp::from_seconds;
        assert_eq!(refusals.count(&kind("a"), at(0)), Some(1));
        assert_eq!(refusals.count(&kind("b"), at(1)), Some(1));
        for second in 1..60 {
            assert_eq!(refusals.count(&kind("a"), at(second)), None);
        }
        assert_eq!(refusals.take(at(59), false), []);
        assert_eq!(refusals.count(&kind("a"), at(60)), Some(60));
        assert_eq!(refusals.count(&kind("a"), at(61)), None);
        assert_eq!(refusals.take(at(120), false), [(kind("a"), 1)]);
        assert_eq!(refusals.take(at(500), true), []);
    }

    #[test]
    fn a_clock_that_is_put_back_ends_the_minute() {
        let refusals = Refusals::default();
        let at = Timestamp::from_seconds;
        assert_eq!(refusals.count(&kind("a"), at(100_000)), Some(1));
        assert_eq!(refusals.count(&kind("a"), at(100_001)), None);
        assert_eq!(refusals.count(&kind("a"), at(5)), Some(2));
        assert_eq!(refusals.count(&kind("b"), at(100_000)), Some(1));
        assert_eq!(refusals.count(&kind("b"), at(100_001)), None);
        assert_eq!(refusals.take(at(6), false), [(kind("b"), 1)]);
    }

    #[test]
    fn knocking_in_many_names_is_bounded_and_counted() {
        let refusals = Refusals::default();
        let at = Timestamp::from_seconds(0);
        let told = (0..1000u64)
            .filter_map(|name| refusals.count(&kind(&name.to_string()), at))
            .sum::<u64>();
        let rest: u64 = refusals.take(at, true).iter().map(|(_, count)| count).sum();
        assert_eq!(told + rest, 1000);
        assert_eq!(told, u64::try_from(MAX_KINDS).unwrap());
    }
}
