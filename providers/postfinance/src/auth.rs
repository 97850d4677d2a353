use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cardless_contract::Timestamp;
use http::Method;
use ring::hmac;
use serde::Serialize;

use crate::config::ConfigError;

/// The JOSE header, byte for byte (`providers/postfinance.md` §1.2).
const JOSE_HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT","ver":1}"#;

/// Makes the JWT that each request carries.
pub(crate) struct Signer {
    user: String,
    key: hmac::Key,
}

/// What a JWT says, in the order of the test vectors.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Claims<'a> {
    sub: &'a str,
    iat: i64,
    request_path: &'a str,
    request_method: &'a str,
}

impl Signer {
    /// The signer of an application user, by the base64 of its authentication key.
    pub(crate) fn new(user: &str, key: &str) -> Result<Self, ConfigError> {
        let raw = STANDARD
            .decode(key.trim())
            .map_err(|_| bad_key("is not base64"))?;
        if raw.is_empty() {
            return Err(bad_key("is empty"));
        }
        Ok(Self {
            user: user.to_owned(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &raw),
        })
    }

    /// The JWT of one request: `b64(header).b64(claims).b64(HMAC-SHA256(key, header.claims))`.
    ///
    /// `path` is path and query exactly as they are sent; `at` is the moment of sending, in whole
    /// seconds.
    pub(crate) fn token(
        &self,
        method: &Method,
        path: &str,
        at: Timestamp,
    ) -> serde_json::Result<String> {
        let claims = serde_json::to_vec(&Claims {
            sub: &self.user,
            iat: at.seconds(),
            request_path: path,
            request_method: method.as_str(),
        })?;
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(JOSE_HEADER),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let tag = hmac::sign(&self.key, signed.as_bytes());
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)))
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

const fn bad_key(problem: &'static str) -> ConfigError {
    ConfigError::new("authentication_key", problem)
}
