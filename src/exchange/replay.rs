//! When a message is stale, and for how long its `jti` must be remembered.

use std::time::Duration;

use cardless_contract::Timestamp;

use super::Refused;

/// The longest time between `iat` and `exp`.
pub const MAX_LIFETIME: Duration = Duration::from_secs(120);

/// How far `iat` may lie ahead of our clock. Nothing is added to `exp`: its two minutes are room
/// enough for a clock that is behind.
pub const MAX_AHEAD: Duration = Duration::from_secs(60);

/// The longest `jti`, in bytes.
pub const MAX_JTI_BYTES: usize = 128;

/// How long a `jti` is remembered after its message has lapsed. Processes whose clocks lie further
/// apart than this could take a message twice.
pub const REMEMBER_AFTER: Duration = Duration::from_secs(10 * 60);

/// When a message was made, when it lapses, and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// `iat`, in seconds.
    pub issued_at: i64,
    /// `exp`, in seconds.
    pub expires_at: i64,
}

impl Window {
    /// A window that begins now.
    pub fn from(now: Timestamp) -> Self {
        Self {
            issued_at: now.seconds(),
            expires_at: now.plus(MAX_LIFETIME).seconds(),
        }
    }

    /// Whether a message may be taken at this moment.
    ///
    /// # Errors
    ///
    /// [`Refused`] if it is stale, lives too long, or comes from the future.
    pub fn check(&self, now: Timestamp) -> Result<(), Refused> {
        let lifetime = self.expires_at.checked_sub(self.issued_at).ok_or(Refused)?;
        let longest = i64::try_from(MAX_LIFETIME.as_secs()).unwrap_or(i64::MAX);
        let in_time = self.issued_at <= now.plus(MAX_AHEAD).seconds()
            && now.seconds() < self.expires_at
            && (1..=longest).contains(&lifetime);
        in_time.then_some(()).ok_or(Refused)
    }

    /// Until when its `jti` must be remembered.
    pub fn remember_until(&self) -> Timestamp {
        Timestamp::from_seconds(self.expires_at).plus(REMEMBER_AFTER)
    }
}

/// Whether text can be a `jti`: 1 to [`MAX_JTI_BYTES`] visible ASCII characters.
pub(super) fn is_jti(text: &str) -> bool {
    (1..=MAX_JTI_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_between_iat_and_exp_only() {
        let now = Timestamp::from_seconds(1_000_000);
        let check = |issued_at: i64, expires_at: i64| {
            let window = Window {
                issued_at: now.seconds() + issued_at,
                expires_at: now.seconds() + expires_at,
            };
            window.check(now).is_ok()
        };
        for (issued_at, expires_at) in [(0, 1), (0, 120), (60, 180), (-119, 1), (-60, 60)] {
            assert!(check(issued_at, expires_at), "{issued_at} {expires_at}");
        }
        for (issued_at, expires_at) in [
            (0, 0),
            (-1, 0),
            (-120, -1),
            (0, 121),
            (-100, 21),
            (61, 100),
            (10, 5),
            (-600, 60),
        ] {
            assert!(!check(issued_at, expires_at), "{issued_at} {expires_at}");
        }
    }

    #[test]
    fn no_number_overflows() {
        let now = Timestamp::from_seconds(1_000_000);
        for (issued_at, expires_at) in [
            (i64::MIN, i64::MAX),
            (i64::MAX, i64::MIN),
            (i64::MIN, i64::MIN),
            (i64::MAX, i64::MAX),
        ] {
            let window = Window {
                issued_at,
                expires_at,
            };
            assert_eq!(window.check(now), Err(Refused));
        }
    }
}
