//! JWS (RFC 7515), compact, `ES256` and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use serde_json::json;

use super::json::Members;
use super::jwk::is_kid;
use super::{MAX_HEADER_BYTES, PublicKey, Refused, SealError, SecretKey};

/// The one algorithm: ECDSA on P-256 with SHA-256.
pub const ALGORITHM: &str = "ES256";

/// What may stand in a header. A key, or an address of one, never may.
const MEMBERS: [&str; 3] = ["alg", "kid", "typ"];

/// A message that is read and not verified yet.
#[derive(Debug)]
pub struct Unverified<'a> {
    kid: Option<String>,
    typ: Option<String>,
    /// Header and payload as they came: what is signed.
    signed: &'a str,
    payload: Vec<u8>,
    signature: Signature,
}

impl<'a> Unverified<'a> {
    /// Reads a compact message.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn parse(compact: &'a str) -> Result<Self, Refused> {
        let (signed, signature) = compact.rsplit_once('.').ok_or(Refused)?;
        let (header, payload) = signed.split_once('.').ok_or(Refused)?;
        let header = decoded(header, MAX_HEADER_BYTES)?;
        let header = Members::parse(&header, &MEMBERS)?;
        if header.text("alg")? != ALGORITHM {
            return Err(Refused);
        }
        let kid = header.optional_text("kid")?;
        if kid.is_some_and(|kid| !is_kid(kid)) {
            return Err(Refused);
        }
        let signature = decoded(signature, 64)?;
        Ok(Self {
            kid: kid.map(str::to_owned),
            typ: header.optional_text("typ")?.map(str::to_owned),
            signed,
            payload: decoded(payload, usize::MAX)?,
            // Two numbers of 32 bytes, neither of them zero nor as large as the curve's order.
            signature: Signature::from_slice(&signature).map_err(|_| Refused)?,
        })
    }

    /// The name of the key that it claims to be signed with.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What it says it is.
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// The payload, if the signature is this key's and the key may sign.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn verify(self, key: &PublicKey) -> Result<Vec<u8>, Refused> {
        if !key.usage().signs() || self.kid().is_some_and(|kid| kid != key.kid()) {
            return Err(Refused);
        }
        VerifyingKey::from(&key.point)
            .verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| Refused)?;
        Ok(self.payload)
    }
}

/// Signs a payload. The nonce is derived (RFC 6979), so no bad randomness can give the key away.
///
/// # Errors
///
/// [`SealError::Key`] if the key may not sign.
pub fn sign(payload: &[u8], typ: &str, key: &SecretKey) -> Result<String, SealError> {
    if !key.public().usage().signs() {
        return Err(SealError::Key);
    }
    let header = json!({"alg": ALGORITHM, "kid": key.public().kid(), "typ": typ});
    let mut message = URL_SAFE_NO_PAD.encode(header.to_string());
    message.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut message);
    let signature: Signature = SigningKey::from(&key.secret).sign(message.as_bytes());
    message.push('.');
    URL_SAFE_NO_PAD.encode_string(signature.to_bytes(), &mut message);
    Ok(message)
}

/// Base64url as RFC 7515 writes it: no padding, no line breaks, no bits to spare.
pub(super) fn decoded(text: &str, max_bytes: usize) -> Result<Vec<u8>, Refused> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Refused)?;
    (bytes.len() <= max_bytes).then_some(bytes).ok_or(Refused)
}
