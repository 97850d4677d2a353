use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const HTTP_DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// Where the time comes from. Nothing in the workspace reads the system clock past this trait, so
/// that a test, the fault simulation and the sandbox can move it.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// The same, and how far the clock was moved on purpose until then, as if that time had passed: a test
    /// does that, and it is no jump. A real clock is not moved.
    fn shows(&self) -> (Timestamp, Duration) {
        (self.now(), Duration::ZERO)
    }
}

/// Where random bytes come from. Injected, so that a simulation can be repeated from its seed.
pub trait Entropy: fmt::Debug + Send + Sync + 'static {
    /// Fills `bytes` with random bytes that are fit for keys and identifiers.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] when the source gives none; nothing may then be made from `bytes`.
    fn fill(&self, bytes: &mut [u8]) -> std::result::Result<(), EntropyError>;
}

/// The source of randomness failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the source of randomness failed")]
pub struct EntropyError;

/// A moment in UTC, in whole milliseconds since 1970-01-01T00:00:00Z.
///
/// Written as RFC 3339, as `2026-11-23T16:25:04.120Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From seconds since the Unix epoch; saturates.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment moved forward; saturates.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis_of(by)))
    }

    /// This moment moved back; saturates.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis_of(by)))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339, with any offset; fractions beyond milliseconds are cut.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        Self::of(moment)
    }

    /// Reads the one form that a `Date` of HTTP is written in (RFC 9110 §5.6.7).
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let moment = PrimitiveDateTime::parse(text, HTTP_DATE).ok()?;
        Self::of(moment.assume_utc())
    }

    fn of(moment: OffsetDateTime) -> Option<Self> {
        i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000))
            .ok()
            .map(Self)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|moment| moment.format(&Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).ok_or_else(|| de::Error::custom("not an RFC 3339 timestamp"))
    }
}

/// The machine's clock, moved by a fixed offset (zero outside of development builds).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock {
    offset_millis: i64,
}

impl SystemClock {
    /// A clock that is ahead of the machine's by `seconds` (behind it, if negative).
    pub const fn with_offset_seconds(seconds: i64) -> Self {
        Self {
            offset_millis: seconds.saturating_mul(1000),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let nanos = OffsetDateTime::now_utc().unix_timestamp_nanos();
        let millis = i64::try_from(nanos.div_euclid(1_000_000)).unwrap_or(i64::MAX);
        Timestamp(millis.saturating_add(self.offset_millis))
    }
}

/// The operating system's random source, through ring.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> std::result::Result<(), EntropyError> {
        use ring::rand::SecureRandom as _;
        ring::rand::SystemRandom::new()
            .fill(bytes)
            .map_err(|_| EntropyError)
    }
}

fn millis_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_rfc3339() {
        let moment = Timestamp::from_millis(1_764_000_000_120);
        assert_eq!(moment.to_string(), "2025-11-24T16:00:00.12Z");
        assert_eq!(
            Timestamp::parse_rfc3339("2025-11-24T17:00:00.12+01:00"),
            Some(moment)
        );
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn reads_the_dates_of_http() {
        let read = Timestamp::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(read, Timestamp::parse_rfc3339("1994-11-06T08:49:37Z"));
        for bad in ["", "yesterday", "Sun, 06 Nov 1994 08:49:37", "784111777"] {
            assert_eq!(Timestamp::parse_http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn differences_never_go_below_zero() {
        let early = Timestamp::from_seconds(10);
        let late = early.plus(Duration::from_secs(5));
        assert_eq!(late.since(early), Duration::from_secs(5));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
