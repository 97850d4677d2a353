//! A tap on the wire to a provider: it keeps the secrets that pass.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use cardless_contract::async_trait;
use cardless_transport::{HttpClient, InProcessClient, SendError};
use http::{Request, Response};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::canary::Canaries;

/// Members of a provider's answer that hold a secret.
const SECRET_MEMBERS: [&str; 5] = [
    "access_token",
    "alias",
    "vault_id",
    "securityToken",
    "secret",
];

/// Paths whose answers name a token by `id`: PayPal's payment tokens, PostFinance's tokens.
const TOKEN_PATHS: [&str; 2] = ["/v3/vault/payment-tokens", "/payment/tokens"];

/// What a panic says that was asked for.
pub(crate) const PLANTED_PANIC: &str = "a panic that was planted";

/// What the wire carried that nobody else may see: what it is, and how it reads.
#[derive(Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<Canaries>>);

impl Wire {
    pub(crate) fn keep(&self, what: &str, secret: &str) {
        self.0.lock().unwrap().plant(what, secret);
    }

    pub(crate) fn canaries(&self) -> Canaries {
        self.0.lock().unwrap().clone()
    }

    /// Keeps the secrets of an answer.
    fn keep_answer(&self, path: &str, body: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<Value>(body) else {
            return;
        };
        if TOKEN_PATHS.iter().any(|start| path.contains(start)) {
            self.keep_id("a provider token", &answer);
        }
        self.keep_members(&answer);
    }

    fn keep_members(&self, value: &Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if SECRET_MEMBERS.contains(&name.as_str())
                        && let Some(text) = member.as_str()
                    {
                        self.keep(name, text);
                    }
                    if name == "token" {
                        self.keep_id("a provider token", member);
                    }
                    self.keep_members(member);
                }
            }
            Value::Array(members) => members.iter().for_each(|member| self.keep_members(member)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn keep_id(&self, what: &str, value: &Value) {
        match value.get("id") {
            Some(Value::String(id)) => self.keep(what, id),
            Some(Value::Number(id)) => self.keep(what, &id.to_string()),
            _ => {}
        }
    }
}

/// A provider's client that keeps the secrets that pass.
pub(crate) struct Tap {
    pub(crate) inner: InProcessClient,
    pub(crate) wire: Wire,
    /// The next request ends in a panic, with all that it holds in scope.
    pub(crate) panics: Arc<AtomicBool>,
}

/// An adapter's `Debug` shows its client, and this one holds the whole sandbox.
impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

#[async_trait]
impl HttpClient for Tap {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, SendError> {
        let path = request.uri().path().to_owned();
        if let Some(value) = request.headers().get("authorization") {
            let value = value.to_str().unwrap();
            let (_, credentials) = value.split_once(' ').unwrap();
            self.wire.keep("an Authorization header", credentials);
        }
        assert!(
            !self.panics.swap(false, Ordering::Relaxed),
            "{PLANTED_PANIC}"
        );
        let answer = self.inner.send(request).await?;
        self.wire.keep_answer(&path, answer.body());
        Ok(answer)
    }
}

/// The service's router as the other side of a client.
#[derive(Debug)]
pub(crate) struct Door(pub(crate) Router);

#[async_trait]
impl HttpClient for Door {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, SendError> {
        let answer = self
            .0
            .clone()
            .oneshot(request.map(Body::from))
            .await
            .unwrap();
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Ok(Response::from_parts(parts, body))
    }
}
