//! What a message says: a request to the service, or its answer.

use std::fmt;

use serde_json::{Value, json};

use super::Refused;
use super::json::Members;
use super::replay::{Window, is_jti};

/// The claims of a request.
const REQUEST: [&str; 9] = [
    "iss",
    "aud",
    "iat",
    "exp",
    "jti",
    "op",
    "acct",
    "idempotency_key",
    "req",
];

/// The claims of an answer.
const ANSWER: [&str; 8] = [
    "iss", "aud", "iat", "exp", "jti", "status", "res", "req_hash",
];

/// A request. Its `Debug` shows neither account nor body.
#[derive(Clone, PartialEq)]
pub struct Request {
    /// `iss`: the client's name.
    pub client: String,
    /// `aud`: the service's public address.
    pub service: String,
    /// `iat` and `exp`.
    pub window: Window,
    /// `jti`: the message's name, used once.
    pub jti: String,
    /// `op`: method, a space, and the path with its query.
    pub op: String,
    /// `acct`: the account that it is about.
    pub account: Option<String>,
    /// `idempotency_key`.
    pub idempotency_key: Option<String>,
    /// `req`: the body.
    pub body: Option<Value>,
}

/// An answer. Its `Debug` does not show the body.
#[derive(Clone, PartialEq)]
pub struct Answer {
    /// `iss`: the service's public address.
    pub service: String,
    /// `aud`: the client's name.
    pub client: String,
    /// `iat` and `exp`.
    pub window: Window,
    /// `jti`.
    pub jti: String,
    /// `status`: the HTTP status that the plain API would answer.
    pub status: u16,
    /// `res`: the body.
    pub body: Option<Value>,
    /// `req_hash`: which request it answers.
    pub request_hash: String,
}

impl Request {
    /// Reads verified claims.
    ///
    /// # Errors
    ///
    /// [`Refused`] for a missing, unknown or doubled claim, and for one of another type.
    pub fn parse(claims: &[u8]) -> Result<Self, Refused> {
        let mut claims = Members::parse(claims, &REQUEST)?;
        let optional = |name: &str| Ok(claims.optional_text(name)?.map(str::to_owned));
        Ok(Self {
            client: claims.text("iss")?.to_owned(),
            service: claims.text("aud")?.to_owned(),
            window: window(&claims)?,
            jti: jti(&claims)?,
            op: claims.text("op")?.to_owned(),
            account: optional("acct")?,
            idempotency_key: optional("idempotency_key")?,
            body: claims.take("req"),
        })
    }

    /// The claims as they are signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut claims = json!({
            "iss": self.client, "aud": self.service, "jti": self.jti, "op": self.op,
            "iat": self.window.issued_at, "exp": self.window.expires_at,
        });
        add(&mut claims, "acct", self.account.clone().map(Value::String));
        let key = self.idempotency_key.clone().map(Value::String);
        add(&mut claims, "idempotency_key", key);
        add(&mut claims, "req", self.body.clone());
        claims.to_string().into_bytes()
    }
}

impl Answer {
    /// Reads verified claims.
    ///
    /// # Errors
    ///
    /// [`Refused`], as for a request.
    pub fn parse(claims: &[u8]) -> Result<Self, Refused> {
        let mut claims = Members::parse(claims, &ANSWER)?;
        Ok(Self {
            service: claims.text("iss")?.to_owned(),
            client: claims.text("aud")?.to_owned(),
            window: window(&claims)?,
            jti: jti(&claims)?,
            status: u16::try_from(claims.number("status")?).map_err(|_| Refused)?,
            request_hash: claims.text("req_hash")?.to_owned(),
            body: claims.take("res"),
        })
    }

    /// The claims as they are signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut claims = json!({
            "iss": self.service, "aud": self.client, "jti": self.jti, "status": self.status,
            "iat": self.window.issued_at, "exp": self.window.expires_at,
            "req_hash": self.request_hash,
        });
        add(&mut claims, "res", self.body.clone());
        claims.to_string().into_bytes()
    }
}

fn window(claims: &Members) -> Result<Window, Refused> {
    Ok(Window {
        issued_at: claims.number("iat")?,
        expires_at: claims.number("exp")?,
    })
}

fn jti(claims: &Members) -> Result<String, Refused> {
    let text = claims.text("jti")?;
    is_jti(text).then(|| text.to_owned()).ok_or(Refused)
}

fn add(claims: &mut Value, name: &str, value: Option<Value>) {
    if let (Some(members), Some(value)) = (claims.as_object_mut(), value) {
        members.insert(name.to_owned(), value);
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("client", &self.client)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
