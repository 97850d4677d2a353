//! What a client needs to speak to the imitation: fixed test material.
#![allow(
    unreachable_pub,
    reason = "the crate's root decides what is shown outside"
)]

/// The only space.
pub const SPACE_ID: i64 = 405;

/// The only application user.
pub const USER_ID: &str = "512";

/// The application user's authentication key, as bytes.
pub(super) const AUTHENTICATION_KEY_RAW: &[u8] = b"cardless-sandbox-postfinance-key";

/// The application user's authentication key, as settings hold it: base64.
pub const AUTHENTICATION_KEY: &str = "Y2FyZGxlc3Mtc2FuZGJveC1wb3N0ZmluYW5jZS1rZXk=";

/// Where the API begins, under the sandbox's address.
pub const BASE_PATH: &str = "/api/v2.0";

/// The id of the key that signs webhooks.
pub const WEBHOOK_KEY_ID: &str = "5b1c9a52-7f0e-4a9d-8c3b-2d6e4f708192";

/// The public half of the key that signs webhooks: base64 of a DER SubjectPublicKeyInfo.
pub const WEBHOOK_PUBLIC_KEY: &str = include_str!("material/webhook-key.spki.base64");
