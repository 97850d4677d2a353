use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use http::Method;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Provider;

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The port is closed, whatever the operation: nothing is sent.
    Refuse,
    /// The request arrives, nothing is executed, the connection breaks without an answer.
    DropBefore,
    /// The request arrives, nothing is executed, no answer comes.
    Stall,
    /// The call is executed, the connection breaks without an answer.
    ExecuteThenDrop,
    /// The call is executed, the answer is a 500.
    #[serde(rename = "execute_then_500")]
    ExecuteThen500,
    /// The call is executed, the connection breaks in the middle of the answer's body.
    HalfBody,
    /// The provider declines, as the fact sheet says for that call.
    Decline,
    /// The provider keeps it pending, and succeeds once the clock has moved by 60 s.
    Pending,
}

/// A fault and the calls that it befalls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// At which provider.
    pub provider: Provider,
    /// Which calls; every call if absent. [`FaultKind::Refuse`] ignores it.
    #[serde(default)]
    pub operation: Option<Operation>,
    /// How many calls, 1 to [`Fault::MAX_TIMES`]; one if absent.
    #[serde(default = "once")]
    pub times: u32,
    /// What goes wrong.
    pub fault: FaultKind,
}

/// A method and a path prefix, as `POST /v2/checkout/orders`. A segment `*` stands for any one
/// segment, as in `POST /v2/checkout/orders/*/capture`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    method: Method,
    prefix: String,
}

/// A fault that can't be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The operation is not a method and a path.
    #[error("an operation is a method and a path prefix, as \"POST /v2/checkout/orders\"")]
    Operation,
    /// The count is zero or too large.
    #[error("times is 1 to {}", Fault::MAX_TIMES)]
    Times,
    /// Too many faults wait for their calls.
    #[error(
        "more than {} faults are waiting; POST /reset forgets them",
        Faults::MAX_WAITING
    )]
    TooMany,
}

/// The faults that wait for their calls, in the order in which they were set.
#[derive(Debug, Default)]
pub(crate) struct Faults(VecDeque<Fault>);

impl Fault {
    /// The most calls that one fault befalls.
    pub const MAX_TIMES: u32 = 10_000;

    /// Whether it can be set.
    pub(crate) fn check(&self) -> Result<(), FaultError> {
        if (1..=Self::MAX_TIMES).contains(&self.times) {
            Ok(())
        } else {
            Err(FaultError::Times)
        }
    }

    fn befalls(&self, provider: Provider, method: &Method, path: &str) -> bool {
        self.provider == provider
            && (self.fault == FaultKind::Refuse
                || self
                    .operation
                    .as_ref()
                    .is_none_or(|operation| operation.matches(method, path)))
    }
}

impl Operation {
    /// Whether a call with this method and path is one of these.
    pub fn matches(&self, method: &Method, path: &str) -> bool {
        if self.method != *method {
            return false;
        }
        let mut wanted = self.prefix.split('/').peekable();
        let mut found = path.split('/');
        while let Some(pattern) = wanted.next() {
            let Some(segment) = found.next() else {
                return false;
            };
            let fits = match wanted.peek() {
                Some(_) => segment == pattern,
                None => segment.starts_with(pattern),
            };
            if !fits && pattern != "*" {
                return false;
            }
        }
        true
    }
}

impl Faults {
    /// The most faults that wait at once.
    pub(crate) const MAX_WAITING: usize = 1000;

    /// Sets a fault behind those that wait already.
    pub(crate) fn set(&mut self, fault: Fault) -> Result<(), FaultError> {
        fault.check()?;
        if self.0.len() >= Self::MAX_WAITING {
            return Err(FaultError::TooMany);
        }
        self.0.push_back(fault);
        Ok(())
    }

    /// What befalls this call, and counts it. A closed port comes before anything else, since the
    /// other faults need a request that arrives.
    pub(crate) fn take(
        &mut self,
        provider: Provider,
        method: &Method,
        path: &str,
    ) -> Option<FaultKind> {
        let befalls = |fault: &&mut Fault| fault.befalls(provider, method, path);
        let refused = |fault: &&mut Fault| befalls(fault) && fault.fault == FaultKind::Refuse;
        let kind = if let Some(fault) = self.0.iter_mut().find(refused) {
            count(fault)
        } else {
            count(self.0.iter_mut().find(befalls)?)
        };
        self.0.retain(|fault| fault.times > 0);
        Some(kind)
    }

    /// Those that have not befallen all their calls yet.
    pub(crate) fn waiting(&self) -> Vec<Fault> {
        self.0.iter().cloned().collect()
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl FromStr for Operation {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (method, prefix) = text.split_once(' ').ok_or(FaultError::Operation)?;
        let method: Method = method.parse().map_err(|_| FaultError::Operation)?;
        let plain = !prefix.contains(|character: char| {
            character.is_whitespace() || matches!(character, '?' | '#')
        });
        // A method in small letters would match nothing and go unnoticed.
        let capitals = method
            .as_str()
            .bytes()
            .all(|byte| byte.is_ascii_uppercase());
        if prefix.starts_with('/') && plain && capitals {
            let prefix = prefix.to_owned();
            Ok(Self { method, prefix })
        } else {
            Err(FaultError::Operation)
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.prefix)
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Operation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

const fn once() -> u32 {
    1
}

fn count(fault: &mut Fault) -> FaultKind {
    fault.times = fault.times.saturating_sub(1);
    fault.fault
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(operation: &str, times: u32, fault: FaultKind) -> Fault {
        Fault {
            provider: Provider::PayPal,
            operation: Some(operation.parse().unwrap()),
            times,
            fault,
        }
    }

    #[test]
    fn operations_match_by_method_and_prefix() {
        for (operation, path, expected) in [
            ("POST /v2/checkout/orders", "/v2/checkout/orders", true),
            (
                "POST /v2/checkout/orders",
                "/v2/checkout/orders/5O/capture",
                true,
            ),
            ("POST /v2/checkout/orders/", "/v2/checkout/orders", false),
            ("POST /v2/checkout/orders/", "/v2/checkout/orders/5O", true),
            ("POST /v2/check", "/v2/checkout/orders", true),
            (
                "POST /v2/checkout/orders/*/capture",
                "/v2/checkout/orders/5O/capture",
                true,
            ),
            (
                "POST /v2/checkout/orders/*/capture",
                "/v2/checkout/orders/5O/authorize",
                false,
            ),
            (
                "POST /v2/checkout/orders/*/capture",
                "/v2/checkout/orders/5O",
                false,
            ),
            ("GET /v2/checkout/orders", "/v2/checkout/orders", false),
            ("POST /", "/anything", true),
        ] {
            let operation: Operation = operation.parse().unwrap();
            assert_eq!(
                operation.matches(&Method::POST, path),
                expected,
                "{operation} {path}"
            );
        }
    }

    #[test]
    fn operations_that_match_nothing_are_refused() {
        for bad in [
            "",
            "POST",
            "/v2",
            "post /v2",
            "POST v2",
            "POST  /v2",
            "POST /v2?a",
            "P(ST /",
        ] {
            assert_eq!(
                bad.parse::<Operation>(),
                Err(FaultError::Operation),
                "{bad}"
            );
        }
    }

    #[test]
    fn faults_are_counted_in_order_and_a_closed_port_comes_first() {
        let mut faults = Faults::default();
        faults
            .set(fault("POST /a", 2, FaultKind::DropBefore))
            .unwrap();
        faults.set(fault("POST /a", 1, FaultKind::Stall)).unwrap();
        faults.set(fault("GET /b", 1, FaultKind::Refuse)).unwrap();
        let mut take = || faults.take(Provider::PayPal, &Method::POST, "/a");
        assert_eq!(take(), Some(FaultKind::Refuse));
        assert_eq!(take(), Some(FaultKind::DropBefore));
        assert_eq!(take(), Some(FaultKind::DropBefore));
        assert_eq!(take(), Some(FaultKind::Stall));
        assert_eq!(take(), None);
    }

    #[test]
    fn another_provider_or_call_is_untouched() {
        let mut faults = Faults::default();
        faults.set(fault("POST /a", 1, FaultKind::Decline)).unwrap();
        assert_eq!(faults.take(Provider::Aduno, &Method::POST, "/a"), None);
        assert_eq!(faults.take(Provider::PayPal, &Method::POST, "/b"), None);
        assert_eq!(
            faults.take(Provider::PayPal, &Method::POST, "/a"),
            Some(FaultKind::Decline)
        );
    }

    #[test]
    fn counts_are_bounded() {
        for times in [0, Fault::MAX_TIMES + 1] {
            let set = Faults::default().set(fault("POST /a", times, FaultKind::Stall));
            assert_eq!(set, Err(FaultError::Times));
        }
    }
}
