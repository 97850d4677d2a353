//! JWE (RFC 7516), compact, `ECDH-ES` with `A256GCM` on P-256 and nothing else.
//!
//! ```text
//! Z   = ECDH(ephemeral private, recipient's public)
//! CEK = Concat KDF(Z, "A256GCM", apu, apv, 256 bits)          (RFC 7518, section 4.6)
//! A256GCM(CEK, 12 random bytes, plaintext; AAD = the header as it is written)
//! ```
//!
//! Every message has an ephemeral key of its own, and so a content key of its own.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardless_contract::Entropy;
use p256::ecdh::diffie_hellman;
use ring::digest::{self, SHA256};
use serde_json::json;
use zeroize::Zeroizing;

use super::json::Members;
use super::jwk::{coordinates, draw, is_kid, point};
use super::jws::decoded;
use super::{MAX_HEADER_BYTES, MAX_MESSAGE_BYTES, PublicKey, Refused, SealError, SecretKey};

/// The one way to agree on a key: ECDH with an ephemeral key, direct.
pub const ALGORITHM: &str = "ECDH-ES";

/// The one way to encrypt.
pub const ENCRYPTION: &str = "A256GCM";

/// What may stand in a header. No compression, no extension, no key but the ephemeral one.
const MEMBERS: [&str; 8] = ["alg", "enc", "kid", "epk", "typ", "cty", "apu", "apv"];

/// What may stand in the ephemeral key.
const EPHEMERAL_MEMBERS: [&str; 4] = ["kty", "crv", "x", "y"];

/// How many bytes each party's name may have.
const MAX_PARTY_BYTES: usize = 128;

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// A message that is read and not opened yet.
#[derive(Debug)]
pub struct Unopened<'a> {
    header: Header,
    /// The header as it came: what is authenticated beside the text.
    protected: &'a str,
    nonce: [u8; NONCE_BYTES],
    /// The ciphertext, with the tag behind it.
    ciphertext: Vec<u8>,
}

#[derive(Debug)]
struct Header {
    kid: Option<String>,
    typ: Option<String>,
    cty: Option<String>,
    ephemeral: p256::PublicKey,
    apu: Vec<u8>,
    apv: Vec<u8>,
}

impl<'a> Unopened<'a> {
    /// Reads a compact message of at most [`MAX_MESSAGE_BYTES`].
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn parse(compact: &'a str) -> Result<Self, Refused> {
        if compact.len() > MAX_MESSAGE_BYTES {
            return Err(Refused);
        }
        let mut parts = compact.split('.');
        let mut next = || parts.next().ok_or(Refused);
        let (protected, encrypted_key, nonce, ciphertext, tag) =
            (next()?, next()?, next()?, next()?, next()?);
        // The key is agreed on, so none is sent.
        if parts.next().is_some() || !encrypted_key.is_empty() {
            return Err(Refused);
        }
        let nonce = decoded(nonce, NONCE_BYTES)?;
        let tag = decoded(tag, TAG_BYTES)?;
        if tag.len() != TAG_BYTES {
            return Err(Refused);
        }
        let mut ciphertext = decoded(ciphertext, MAX_MESSAGE_BYTES)?;
        ciphertext.extend(tag);
        Ok(Self {
            header: Header::parse(&decoded(protected, MAX_HEADER_BYTES)?)?,
            protected,
            nonce: nonce.try_into().map_err(|_| Refused)?,
            ciphertext,
        })
    }

    /// The name of the key that it is sealed to.
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// What it says it is.
    pub fn typ(&self) -> Option<&str> {
        self.header.typ.as_deref()
    }

    /// What it says is in it.
    pub fn cty(&self) -> Option<&str> {
        self.header.cty.as_deref()
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn open(&self, key: &SecretKey) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let public = key.public();
        if !public.usage().seals() || self.kid().is_some_and(|kid| kid != public.kid()) {
            return Err(Refused);
        }
        let content_key = agreed_key(
            &key.secret,
            &self.header.ephemeral,
            &self.header.apu,
            &self.header.apv,
        );
        let payload = Payload {
            msg: &self.ciphertext,
            aad: self.protected.as_bytes(),
        };
        cipher(&content_key)
            .decrypt(&Nonce::from(self.nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| Refused)
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let mut members = Members::parse(bytes, &MEMBERS)?;
        if members.text("alg")? != ALGORITHM || members.text("enc")? != ENCRYPTION {
            return Err(Refused);
        }
        let ephemeral = members.object("epk", &EPHEMERAL_MEMBERS)?;
        if ephemeral.text("kty")? != "EC" || ephemeral.text("crv")? != "P-256" {
            return Err(Refused);
        }
        let text = |name: &str| Ok(members.optional_text(name)?.map(str::to_owned));
        let party = |name: &str| {
            let text = members.optional_text(name)?.unwrap_or_default();
            decoded(text, MAX_PARTY_BYTES)
        };
        let kid = text("kid")?;
        if kid.as_deref().is_some_and(|kid| !is_kid(kid)) {
            return Err(Refused);
        }
        Ok(Self {
            kid,
            typ: text("typ")?,
            cty: text("cty")?,
            ephemeral: point(ephemeral.text("x")?, ephemeral.text("y")?).map_err(|_| Refused)?,
            apu: party("apu")?,
            apv: party("apv")?,
        })
    }
}

/// Seals a text to a key, with a new ephemeral key.
///
/// # Errors
///
/// [`SealError`] without randomness, for a key that nothing may be sealed to, and for a text that
/// is too long.
pub fn seal(
    plaintext: &[u8],
    typ: &str,
    cty: Option<&str>,
    to: &PublicKey,
    entropy: &dyn Entropy,
) -> Result<String, SealError> {
    if !to.usage().seals() {
        return Err(SealError::Key);
    }
    let ephemeral = draw(entropy)?;
    let mut nonce = [0; NONCE_BYTES];
    entropy.fill(&mut nonce).map_err(|_| SealError::Entropy)?;
    let (x, y) = coordinates(&ephemeral.public_key());
    let mut header = json!({
        "alg": ALGORITHM, "enc": ENCRYPTION, "kid": to.kid(), "typ": typ,
        "epk": {"kty": "EC", "crv": "P-256", "x": x, "y": y},
    });
    if let (Some(cty), Some(members)) = (cty, header.as_object_mut()) {
        members.insert("cty".to_owned(), cty.into());
    }
    let mut message = URL_SAFE_NO_PAD.encode(header.to_string());
    let payload = Payload {
        msg: plaintext,
        aad: message.as_bytes(),
    };
    let content_key = agreed_key(&ephemeral, &to.point, &[], &[]);
    let sealed = cipher(&content_key)
        .encrypt(&Nonce::from(nonce), payload)
        .map_err(|_| SealError::TooLong)?;
    let (ciphertext, tag) = sealed
        .len()
        .checked_sub(TAG_BYTES)
        .and_then(|length| sealed.split_at_checked(length))
        .ok_or(SealError::TooLong)?;
    message.push_str("..");
    URL_SAFE_NO_PAD.encode_string(nonce, &mut message);
    for part in [ciphertext, tag] {
        message.push('.');
        URL_SAFE_NO_PAD.encode_string(part, &mut message);
    }
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(SealError::TooLong);
    }
    Ok(message)
}

fn cipher(key: &Zeroizing<[u8; KEY_BYTES]>) -> Aes256Gcm {
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(**key))
}

/// The content key that both sides come to.
fn agreed_key(
    ours: &p256::SecretKey,
    theirs: &p256::PublicKey,
    apu: &[u8],
    apv: &[u8],
) -> Zeroizing<[u8; KEY_BYTES]> {
    let shared = diffie_hellman(ours.to_nonzero_scalar(), theirs.as_affine());
    concat_kdf(shared.raw_secret_bytes(), ENCRYPTION, apu, apv, 256)
}

/// `SHA-256(1 ‖ Z ‖ |alg| ‖ alg ‖ |apu| ‖ apu ‖ |apv| ‖ apv ‖ bits)`, every length four bytes,
/// big-endian: the Concat KDF of NIST SP 800-56A, one round of it, as RFC 7518 section 4.6.2 fills
/// it. A shorter key is the beginning of it.
fn concat_kdf(
    z: &[u8],
    algorithm: &str,
    apu: &[u8],
    apv: &[u8],
    bits: u32,
) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut hash = digest::Context::new(&SHA256);
    hash.update(&1_u32.to_be_bytes());
    hash.update(z);
    for part in [algorithm.as_bytes(), apu, apv] {
        // No part is longer than a header, so its length always fits.
        hash.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.update(&bits.to_be_bytes());
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    for (to, from) in key.iter_mut().zip(hash.finish().as_ref()) {
        *to = *from;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7518, appendix C: Alice's ephemeral key, Bob's key, and what they come to.
    #[test]
    fn the_concat_kdf_gives_the_numbers_of_rfc_7518() {
        let alice = SecretKey::read(
            r#"{"kty":"EC","crv":"P-256","x":"gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0",
               "y":"SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps",
               "d":"0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo"}"#,
        )
        .unwrap();
        let bob = SecretKey::read(
            r#"{"kty":"EC","crv":"P-256","x":"weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
               "y":"e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck",
               "d":"VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw"}"#,
        )
        .unwrap();
        let z: [u8; 32] = [
            158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49,
            110, 163, 218, 128, 106, 72, 246, 218, 167, 121, 140, 254, 144, 196,
        ];
        for (ours, theirs) in [(&alice, &bob), (&bob, &alice)] {
            let shared = diffie_hellman(
                ours.secret.to_nonzero_scalar(),
                theirs.public().point.as_affine(),
            );
            assert_eq!(shared.raw_secret_bytes().as_slice(), z);
        }
        let key = concat_kdf(&z, "A128GCM", b"Alice", b"Bob", 128);
        assert_eq!(
            URL_SAFE_NO_PAD.encode(key.first_chunk::<16>().unwrap()),
            "VqqN6vgjbSBcIijNcacQGg"
        );
    }
}
