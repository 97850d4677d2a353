//! Standard Webhooks (<https://www.standardwebhooks.com>): how an event proves, on its way to the
//! billing service, that it is ours and is not an old one that somebody plays again.
//!
//! Three headers go with the body: `webhook-id` (the event's id, the same at each attempt),
//! `webhook-timestamp` (the attempt's time, in seconds) and `webhook-signature`, which is
//!
//! ```text
//! "v1," + base64(HMAC-SHA-256(secret, id + "." + timestamp + "." + body))
//! ```
//!
//! once for each live secret, separated by spaces: a receiver that knows either of two secrets
//! accepts it, so they can be changed with an overlap. [`SigningSecrets::verify`] is the receiver's
//! half.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cardless_contract::{Secrets, Timestamp};
use http::{HeaderMap, Uri, header};
use ring::hmac;
use url::Url;

use crate::protected::is_protected;

/// The header with the event's id.
pub const ID_HEADER: &str = "webhook-id";

/// The header with the time of the attempt, in seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";

/// The header with the signatures.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// How far the time of a message may lie from the receiver's own.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// What a signing secret begins with; base64 follows.
const SECRET_PREFIX: &str = "whsec_";

/// How many bytes a signing secret has, by the standard.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What a signature of the standard's symmetric scheme begins with.
const SIGNATURE_PREFIX: &str = "v1,";

/// The longest address of a receiver, in bytes.
const MAX_URL_BYTES: usize = 2000;

/// The most signatures of one message that are looked at.
const MAX_SIGNATURES: usize = 16;

/// The live secrets that messages are signed with, and accepted by.
#[derive(Clone)]
pub struct SigningSecrets(Vec<hmac::Key>);

/// Where events go, and what they are signed with.
#[derive(Clone)]
pub struct Endpoint {
    url: Uri,
    secrets: SigningSecrets,
}

/// Why there is no [`Endpoint`]. It quotes neither the address nor a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The address can't be used.
    #[error(
        "is no https address (http on loopback only) of at most 2000 bytes without user info and fragment"
    )]
    Url,
    /// A secret can't be used.
    #[error("is not `whsec_` and the base64 of 24 to 64 bytes")]
    Secret,
}

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header is missing or malformed.
    #[error("a header of Standard Webhooks is missing or malformed")]
    Header,
    /// The time lies further from the receiver's than [`TOLERANCE`].
    #[error("the message is too old, or from the future")]
    Stale,
    /// No signature fits.
    #[error("no signature fits")]
    Signature,
}

impl SigningSecrets {
    /// From secrets as settings have them, each `whsec_…`.
    ///
    /// # Errors
    ///
    /// [`EndpointError::Secret`].
    pub fn new(secrets: &Secrets) -> Result<Self, EndpointError> {
        let keys: Result<Vec<hmac::Key>, EndpointError> = secrets.all().map(signing_key).collect();
        keys.map(Self)
    }

    /// The value of [`SIGNATURE_HEADER`]: one signature for each secret.
    pub fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let signed = signed_bytes(id, &seconds.to_string(), body);
        let signature = |key| {
            let tag = hmac::sign(key, &signed);
            format!("{SIGNATURE_PREFIX}{}", STANDARD.encode(tag.as_ref()))
        };
        let signatures: Vec<String> = self.0.iter().map(signature).collect();
        signatures.join(" ")
    }

    /// The id of a message, if it is from somebody who knows one of the secrets and is not stale at
    /// `now`. Messages can come more than once: whoever keeps the ids deals with each event once.
    ///
    /// # Errors
    ///
    /// [`VerifyError`].
    pub fn verify<'a>(
        &self,
        headers: &'a HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<&'a str, VerifyError> {
        let id = only(headers, ID_HEADER)?;
        let timestamp = only(headers, TIMESTAMP_HEADER)?;
        let seconds: i64 = timestamp.parse().map_err(|_| VerifyError::Header)?;
        let at = Timestamp::from_seconds(seconds);
        if now.since(at).max(at.since(now)) > TOLERANCE {
            return Err(VerifyError::Stale);
        }
        let signed = signed_bytes(id, timestamp, body);
        let signatures = only(headers, SIGNATURE_HEADER)?.split(' ');
        let fits = |signature: &str| {
            let tag = signature.strip_prefix(SIGNATURE_PREFIX);
            let tag = tag.and_then(|tag| STANDARD.decode(tag).ok());
            tag.is_some_and(|tag| {
                let mut keys = self.0.iter();
                keys.any(|key| hmac::verify(key, &signed, &tag).is_ok())
            })
        };
        if signatures.take(MAX_SIGNATURES).any(fits) {
            Ok(id)
        } else {
            Err(VerifyError::Signature)
        }
    }
}

impl Endpoint {
    /// A receiver at `url`: https, or http on loopback.
    ///
    /// # Errors
    ///
    /// [`EndpointError`].
    pub fn new(url: &str, secrets: &Secrets) -> Result<Self, EndpointError> {
        Ok(Self {
            url: address(url).ok_or(EndpointError::Url)?,
            secrets: SigningSecrets::new(secrets)?,
        })
    }

    /// The request that brings an event there. `None` for an id that no header can carry.
    pub(crate) fn request(
        &self,
        id: &str,
        now: Timestamp,
        body: Bytes,
    ) -> Option<http::Request<Bytes>> {
        let seconds = now.seconds();
        http::Request::post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(ID_HEADER, id)
            .header(TIMESTAMP_HEADER, seconds)
            .header(SIGNATURE_HEADER, self.secrets.sign(id, seconds, &body))
            .body(body)
            .ok()
    }
}

impl fmt::Debug for SigningSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecrets(…)")
    }
}

impl fmt::Debug for Endpoint {
    /// Not the address: its path or query can be a secret of the receiver's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endpoint(…)")
    }
}

fn signing_key(secret: &str) -> Result<hmac::Key, EndpointError> {
    let bytes = secret
        .strip_prefix(SECRET_PREFIX)
        .and_then(|text| STANDARD.decode(text).ok())
        .map(zeroize::Zeroizing::new)
        .filter(|bytes| SECRET_BYTES.contains(&bytes.len()))
        .ok_or(EndpointError::Secret)?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// What is signed: `id.timestamp.body`.
fn signed_bytes(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat()
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, VerifyError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| VerifyError::Header),
        (Some(_), Some(_)) | (None, _) => Err(VerifyError::Header),
    }
}

fn address(text: &str) -> Option<Uri> {
    let url = Url::parse(text)
        .ok()
        .filter(|_| text.len() <= MAX_URL_BYTES)?;
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (is_protected(&url) && bare).then(|| Uri::try_from(url.as_str()).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    // Computed with Python's hmac and base64, from the bytes 0 to 23 and from
    // `another-key-of-32-bytes-for-test`.
    const FIRST: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    const SECOND: &str = "whsec_YW5vdGhlci1rZXktb2YtMzItYnl0ZXMtZm9yLXRlc3Q=";
    const ID: &str = "evt_abcdefghijklmnop";
    const BODY: &[u8] = br#"{"type":"payment.captured"}"#;
    const AT: i64 = 1_795_000_000;
    const BY_FIRST: &str = "v1,1QtIEbF7dyFQ2GPJ6wWKDv0Fl1lyNdM1+uRrd8sU7AA=";
    const BY_SECOND: &str = "v1,TtcWJx5a9UwFGg52uadKKbPLRrJaGzWktRgbO0CAdTY=";

    fn secrets(texts: &[&str]) -> SigningSecrets {
        SigningSecrets::new(&settings(texts)).unwrap()
    }

    fn settings(texts: &[&str]) -> Secrets {
        Secrets::new(texts.iter().map(|&text| text.to_owned()).collect()).unwrap()
    }

    fn headers(id: &str, at: &str, signature: &str) -> HeaderMap {
        let pairs = [
            (ID_HEADER, id),
            (TIMESTAMP_HEADER, at),
            (SIGNATURE_HEADER, signature),
        ];
        let pairs = pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        HeaderMap::<http::HeaderValue>::from_iter(
            pairs.map(|(name, value): (http::HeaderName, http::HeaderValue)| (name, value)),
        )
    }

    #[test]
    fn the_signature_is_the_standards_own() {
        // The example that the standard's reference implementations are tested with.
        let published = secrets(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        assert_eq!(
            published.sign(id, 1_614_265_330, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(secrets(&[FIRST]).sign(ID, AT, BODY), BY_FIRST);
        assert_eq!(secrets(&[SECOND]).sign(ID, AT, BODY), BY_SECOND);
    }

    #[test]
    fn two_live_secrets_give_two_signatures_and_either_is_accepted() {
        let both = secrets(&[FIRST, SECOND]).sign(ID, AT, BODY);
        assert_eq!(both, format!("{BY_FIRST} {BY_SECOND}"));
        let headers = headers(ID, &AT.to_string(), &both);
        let now = Timestamp::from_seconds(AT);
        for known in [&[FIRST][..], &[SECOND], &[SECOND, FIRST]] {
            assert_eq!(secrets(known).verify(&headers, BODY, now), Ok(ID));
        }
    }

    #[test]
    fn nothing_else_verifies() {
        use VerifyError::{Header, Signature, Stale};
        let (at, now) = (AT.to_string(), Timestamp::from_seconds(AT));
        let known = secrets(&[FIRST]);
        let other_version = BY_FIRST.replace("v1,", "v1a,");
        for (name, headers, expected) in [
            ("other_id", headers("evt_b", &at, BY_FIRST), Signature),
            ("other_time", headers(ID, "1795000001", BY_FIRST), Signature),
            ("other_secret", headers(ID, &at, BY_SECOND), Signature),
            ("other_version", headers(ID, &at, &other_version), Signature),
            ("no_base64", headers(ID, &at, "v1,!"), Signature),
            ("empty_signature", headers(ID, &at, ""), Signature),
            ("empty_tag", headers(ID, &at, "v1,"), Signature),
            ("no_number", headers(ID, "now", BY_FIRST), Header),
            ("no_headers", HeaderMap::new(), Header),
            (
                "beyond_time",
                headers(ID, "9223372036854775807", BY_FIRST),
                Stale,
            ),
        ] {
            assert_eq!(known.verify(&headers, BODY, now), Err(expected), "{name}");
        }
        let mut twice = headers(ID, &at, BY_FIRST);
        assert_eq!(known.verify(&twice, BODY, now), Ok(ID));
        assert_eq!(known.verify(&twice, b"{}", now), Err(Signature));
        twice.append(ID_HEADER, "evt_b".parse().unwrap());
        assert_eq!(known.verify(&twice, BODY, now), Err(Header));
    }

    #[test]
    fn what_is_stale_is_refused_on_both_sides() {
        let headers = headers(ID, &AT.to_string(), BY_FIRST);
        let known = secrets(&[FIRST]);
        for (off, expected) in [
            (-301, Err(VerifyError::Stale)),
            (-300, Ok(ID)),
            (300, Ok(ID)),
            (301, Err(VerifyError::Stale)),
        ] {
            let now = Timestamp::from_seconds(AT + off);
            assert_eq!(known.verify(&headers, BODY, now), expected, "{off}");
        }
    }

    #[test]
    fn addresses_and_secrets_are_checked_and_never_shown() {
        for good in [
            "https://billing.example/hooks?key=canary",
            "https://billing.example:8443/",
            "http://127.0.0.1:9000/hooks",
            "http://[::1]:9000/",
            "http://localhost/",
        ] {
            let endpoint = Endpoint::new(good, &settings(&[FIRST, SECOND])).unwrap();
            assert_eq!(format!("{endpoint:?}"), "Endpoint(…)");
        }
        for bad in [
            "http://billing.example/",
            "https://user@billing.example/",
            "https://billing.example/#part",
            "ftp://127.0.0.1/",
            "billing.example",
            "http://localhost.example/",
            &format!("https://billing.example/{}", "x".repeat(MAX_URL_BYTES)),
        ] {
            let error = Endpoint::new(bad, &settings(&[FIRST])).unwrap_err();
            assert_eq!(error, EndpointError::Url, "{bad}");
        }
        for bad in [
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRY=",
            "whsec_canary!",
            "whsec_",
        ] {
            let error = SigningSecrets::new(&settings(&[FIRST, bad])).unwrap_err();
            assert_eq!(error, EndpointError::Secret, "{bad}");
        }
        assert_eq!(format!("{:?}", secrets(&[FIRST])), "SigningSecrets(…)");
    }
}
