//! Everything that comes out: log lines at every level, and errors in every way in which they can
//! be printed. And what must not stand in it.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cardless::error::{Causes, Error};
use cardless_transport::Request;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span;

/// Members of a provider's answer that hold a secret.
const SECRET_MEMBERS: [&str; 5] = [
    "access_token",
    "alias",
    "vault_id",
    "securityToken",
    "secret",
];

/// Members of the settings and the key ring that hold a secret.
const SECRET_SETTINGS: [&str; 6] = [
    "client_secret",
    "authentication_key",
    "password",
    "webhook_key",
    "key",
    "root",
];

/// A secret shorter than this is too likely to appear by chance.
const SHORTEST: usize = 6;

/// What has come out, and what is secret. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Output(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lines: String,
    secrets: BTreeSet<(&'static str, String)>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

impl Output {
    /// Keeps an error, in every way in which it can be printed.
    pub(crate) fn error(&self, error: &Error) {
        let field = error.field_path().unwrap_or_default();
        let text = format!("{error}\n{error:?}\n{}\n{field}\n", Causes(error));
        self.lock().lines.push_str(&text);
    }

    /// Something must not come out.
    pub(crate) fn secret(&self, what: &'static str, text: &str) {
        if text.len() >= SHORTEST {
            self.lock().secrets.insert((what, text.to_owned()));
        }
    }

    /// The secrets of settings or of a key ring.
    pub(crate) fn secret_settings(&self, text: &str) {
        for line in text.lines() {
            if let Some((name, value)) = line.split_once(" = ")
                && SECRET_SETTINGS.contains(&name)
            {
                self.secret("a setting", value.trim_matches('"'));
            }
        }
    }

    /// The credentials of a request. Of a signed one the first part says enough: it is in all.
    pub(crate) fn learn_request(&self, request: &Request) {
        let value = request.headers().get("authorization");
        let text = value.and_then(|value| value.to_str().ok());
        if let Some((_, credentials)) = text.and_then(|text| text.split_once(' ')) {
            let first = credentials.split('.').next().unwrap_or(credentials);
            self.secret("an Authorization header", first);
        }
    }

    /// The secrets of an answer.
    pub(crate) fn learn_answer(&self, path: &str, body: &[u8]) {
        if path.contains("/search") {
            return;
        }
        if let Ok(answer) = serde_json::from_slice(body) {
            self.learn_members(&answer);
        }
    }

    fn learn_members(&self, value: &Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let secret = SECRET_MEMBERS
                        .into_iter()
                        .find(|secret| *secret == name.as_str());
                    if let (Some(name), Some(text)) = (secret, member.as_str()) {
                        self.secret(name, text);
                    }
                    self.learn_members(member);
                }
            }
            Value::Array(members) => {
                for member in members {
                    self.learn_members(member);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// What has come out so far.
    pub(crate) fn text(&self) -> String {
        self.lock().lines.clone()
    }

    /// What must not have come out: what it is, and how it reads.
    pub(crate) fn secrets(&self) -> BTreeSet<(&'static str, String)> {
        self.lock().secrets.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl tracing::Subscriber for Output {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span.record(&mut self.clone());
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
        self.lock().lines.push('\n');
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl Visit for Output {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A text has room for every line.
        write!(self.lock().lines, "{field}={value:?} ").ok();
    }
}
