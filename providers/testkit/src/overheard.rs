//! Secrets that no line of the log may hold while a test runs: everything that this process logs is
//! heard, at every level, whichever test it comes from.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;

use crate::lines::Lines;

/// A secret shorter than this is too likely to appear by chance.
const SHORTEST: usize = 8;

/// Settings and members of the key file that hold a secret.
pub const SECRET_SETTINGS: [&str; 6] = [
    "client_secret",
    "authentication_key",
    "password",
    "webhook_key",
    "key",
    "root",
];

/// Members of a request in which a provider's token is sent.
const TOKEN_MEMBERS: [&str; 4] = ["alias", "vault_id", "billing_agreement_id", "token"];

/// Paths that go on with a provider's token.
const TOKEN_PATHS: [&str; 4] = [
    "/v1/aliases/",
    "/v3/vault/payment-tokens/",
    "/v1/billing-agreements/agreements/",
    "/payment/tokens/",
];

/// What must not come out: what each is, and how it reads.
#[derive(Debug, Default)]
pub struct Canaries(Mutex<BTreeSet<(&'static str, String)>>);

/// Hears the process's log from when it is made, and fails the test, when it goes, if a line holds
/// one of the secrets that it was told of by then.
#[derive(Debug)]
pub struct Overheard {
    from: usize,
    canaries: Canaries,
}

/// What this process has logged since the first [`Overheard`]. Where a test listens for itself on a
/// thread of its own, that test judges.
fn heard() -> &'static Lines {
    static HEARD: OnceLock<Lines> = OnceLock::new();
    HEARD.get_or_init(|| {
        let lines = Lines::default();
        tracing::subscriber::set_global_default(lines.clone()).unwrap();
        lines
    })
}

impl Default for Overheard {
    fn default() -> Self {
        Self {
            from: heard().len(),
            canaries: Canaries::default(),
        }
    }
}

impl Deref for Overheard {
    type Target = Canaries;

    fn deref(&self) -> &Canaries {
        &self.canaries
    }
}

impl Canaries {
    /// This is a secret. What is shorter than eight bytes is not looked for.
    pub fn plant(&self, what: &'static str, text: &str) {
        if text.len() >= SHORTEST {
            let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            secrets.insert((what, text.to_owned()));
        }
    }

    /// The secrets of settings or of a key file.
    pub fn settings(&self, text: &str) {
        for line in text.lines() {
            if let Some((name, value)) = line.split_once(" = ")
                && SECRET_SETTINGS.contains(&name)
            {
                self.plant("a setting or a key", value.trim_matches('"'));
            }
        }
    }

    /// The tokens in what a provider was sent: path and body.
    pub fn sent(&self, path: &str, body: &str) {
        for start in TOKEN_PATHS {
            if let Some((_, rest)) = path.split_once(start) {
                let token = rest.split('/').next().unwrap_or(rest);
                if token != "search" {
                    self.plant("a provider's token", token);
                }
            }
        }
        if let Ok(body) = serde_json::from_str(body) {
            self.members(&body);
        }
    }

    fn members(&self, value: &Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let is_token = TOKEN_MEMBERS.contains(&name.as_str());
                    if is_token && (member.is_string() || member.is_number()) {
                        let token = member.to_string();
                        self.plant("a provider's token", token.trim_matches('"'));
                    }
                    self.members(member);
                }
            }
            Value::Array(members) => members.iter().for_each(|member| self.members(member)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Fails if a text, say a process's log, holds a secret.
    pub fn judge(&self, place: &str, text: &str) {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (what, secret) in &*secrets {
            let before = text.split_once(secret.as_str());
            let line = before.map(|(before, _)| before.lines().count());
            assert!(
                line.is_none(),
                "{what} is in {place}, line {line:?}: {secret}"
            );
        }
    }
}

impl Drop for Overheard {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.judge("the log", &heard().since(self.from));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Whether the log of this life was found to hold a secret.
    fn fails(live: impl FnOnce(&Overheard)) -> bool {
        let overheard = Overheard::default();
        live(&overheard);
        catch_unwind(AssertUnwindSafe(|| drop(overheard))).is_err()
    }

    #[test]
    fn a_line_with_a_secret_fails_whoever_logs_it_at_whatever_level() {
        for (secret, body) in [
            ("token-one-1", r#"{"card":{"alias":"token-one-1"}}"#),
            ("7351406001", r#"[{"token":7351406001}]"#),
        ] {
            assert!(fails(|heard| {
                heard.sent("/v1/transactions/authorize", body);
                tracing::trace!(?secret, "a line");
            }));
        }
        assert!(fails(|heard| {
            let thread = std::thread::spawn(|| {
                let span = tracing::trace_span!("a span", path = "/a/token-two-2");
                drop(span.entered());
            });
            thread.join().unwrap();
            heard.sent("/v1/aliases/token-two-2", "");
        }));
        assert!(fails(|heard| {
            heard.settings("[providers.aduno]\npassword = \"planted-password\"\n");
            tracing::error!("refused: planted-password");
        }));
    }

    #[test]
    fn what_was_logged_before_and_what_is_no_secret_is_let_be() {
        tracing::info!("token-three-3");
        assert!(!fails(|heard| {
            heard.sent("/v1/aliases/token-four-4", r#"{"refno":"an order"}"#);
            heard.settings("merchant_id = \"1100000000\"\n");
            tracing::info!("an order of 1100000000");
        }));
        assert!(!fails(|heard| {
            heard.plant("short", "1100000");
            tracing::info!("1100000");
        }));
    }
}
