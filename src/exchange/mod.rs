//! The sealed exchange with clients, profile `gw-jwe-1`: a signed JWT inside an encrypted one.
//!
//! ```text
//! JWE  {"alg":"ECDH-ES","enc":"A256GCM","kid":…,"epk":…,"typ":"JWT","cty":"JWT"}
//!  └─ JWS  {"alg":"ES256","kid":…,"typ":"JWT"}
//!      └─ {"iss","aud","iat","exp","jti","op","acct","idempotency_key","req"}     to the service
//!         {"iss","aud","iat","exp","jti","status","res","req_hash"}               and its answer
//! ```
//!
//! Everything is on P-256. There is no choice of algorithm: what is not exactly this is refused, by
//! one error for all reasons, so that an answer tells nothing about keys or texts. No key and no
//! address of a key is ever taken from a message; `kid` names one that is registered.
//!
//! - `iss` and `aud` are the client's name and the service's `public_url`, and the other way round
//!   in an answer. `exp` is at most [`MAX_LIFETIME`] after `iat`; `jti` counts once ([`replay`]).
//! - `op` is method and path with query (`POST /v1/payments`), `req` the body that the plain API
//!   takes, `acct` the account that it is about, `idempotency_key` what the header of that name is
//!   in the plain API, required where that is.
//! - `status` and `res` are what the plain API would answer, `req_hash` the base64url SHA-256 of
//!   the request as it was sent: an answer fits one request.
//!
//! A client signs with one key and receives under another, or uses one for both (no `use` in its
//! JWK). [`Client`] is the client's half. [`transfer`] is another use of the same primitives: files
//! of provider tokens.
//!
//! What is absent: nothing here knows the store, the vault or the gateway.

mod claims;
mod client;
mod json;
pub mod jwe;
mod jwk;
pub mod jws;
pub mod replay;
pub mod transfer;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardless_contract::Entropy;
use zeroize::Zeroizing;

pub(crate) use json::strict;

pub use claims::{Answer, Request};
pub use client::{Call, Client, ClientParts, ExchangeError};
pub use jwk::{KeyError, MAX_KEYS, MAX_KEYS_BYTES, MAX_KID_BYTES, PublicKey, SecretKey, Usage};
pub use replay::MAX_LIFETIME;

/// The longest message, in bytes (1 MiB). As a request the service reads no longer body than any
/// other of it (64 KiB); an answer can be a list.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// The longest header, in bytes, once it is decoded.
pub const MAX_HEADER_BYTES: usize = 1024;

/// The media type of a message.
pub const MEDIA_TYPE: &str = "application/jose";

/// What both layers say they are, if they say it, and what the outer one must say is in it.
const JWT: &str = "JWT";

/// A message is refused. One error for every reason, so that it tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed message is refused")]
pub struct Refused;

/// Why nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There were no random bytes.
    #[error("the source of randomness failed")]
    Entropy,
    /// The text is longer than a message may be.
    #[error("the text is too long for a sealed message")]
    TooLong,
    /// The key is not for this: one that only signs, or only receives.
    #[error("the key may not be used for this")]
    Key,
}

/// A message of the profile that has been read; next it is opened.
#[derive(Debug)]
pub struct Received<'a> {
    message: jwe::Unopened<'a>,
    kid: String,
}

/// A message that has been opened; next its signature is verified.
#[derive(Debug)]
pub struct Opened {
    signed: Zeroizing<String>,
    kid: String,
}

impl<'a> Received<'a> {
    /// Reads a compact message and holds its header against the profile.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn parse(compact: &'a str) -> Result<Self, Refused> {
        let message = jwe::Unopened::parse(compact)?;
        let kid = message.kid().ok_or(Refused)?.to_owned();
        let is_nested = message.cty() == Some(JWT) && is_jwt(message.typ());
        is_nested.then_some(Self { message, kid }).ok_or(Refused)
    }

    /// The name of the key that it is sealed to.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn open(&self, key: &SecretKey) -> Result<Opened, Refused> {
        let bytes = self.message.open(key)?;
        let signed = std::str::from_utf8(&bytes).map_err(|_| Refused)?;
        let inner = jws::Unverified::parse(signed)?;
        let kid = inner.kid().ok_or(Refused)?.to_owned();
        if !is_jwt(inner.typ()) {
            return Err(Refused);
        }
        Ok(Opened {
            signed: Zeroizing::new(signed.to_owned()),
            kid,
        })
    }
}

impl Opened {
    /// The name of the key that it claims to be signed with.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The claims, if the signature is this key's.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn verify(&self, key: &PublicKey) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let claims = jws::Unverified::parse(&self.signed)?.verify(key)?;
        Ok(Zeroizing::new(claims))
    }
}

/// Signs claims and seals them: a message of the profile.
///
/// # Errors
///
/// [`SealError`].
pub fn seal(
    claims: &[u8],
    signer: &SecretKey,
    to: &PublicKey,
    entropy: &dyn Entropy,
) -> Result<String, SealError> {
    let signed = Zeroizing::new(jws::sign(claims, JWT, signer)?);
    jwe::seal(signed.as_bytes(), JWT, Some(JWT), to, entropy)
}

/// What an answer says of its request: the base64url SHA-256 of the message as it was sent.
pub fn request_hash(message: &str) -> String {
    URL_SAFE_NO_PAD.encode(ring::digest::digest(
        &ring::digest::SHA256,
        message.as_bytes(),
    ))
}

/// `typ` may be left out (RFC 7519, section 5.1); what it says otherwise is something else.
fn is_jwt(typ: Option<&str>) -> bool {
    typ.is_none_or(|typ| typ == JWT)
}
