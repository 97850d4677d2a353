//! A vault with known keys, and a sample to damage.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardless::vault::{Context, KeyRing, Purpose, Vault};
use cardless_contract::SystemEntropy;

pub(crate) const KEY: [u8; 32] = *b"the wrapping key of the tests 01";
pub(crate) const OTHER_KEY: [u8; 32] = *b"the wrapping key of the tests 02";
pub(crate) const KEY_NAME: &str = "kek_abcdefghijklmnopabcd";
pub(crate) const OTHER_KEY_NAME: &str = "kek_ponmlkjihgfedcbaponm";

pub(crate) const PLAINTEXT: &[u8] = b"canary-provider-token";

pub(crate) const CONTEXT: Context<'_> = Context {
    account: "abcdefghijklmnopabcdefghijklmnop",
    provider: "paypal",
    merchant: "sandbox-client",
    record: "pm_abcdefghijklmnopabcd",
    purpose: Purpose::Token,
};

pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn generation(id: &str, state: &str, key: &[u8]) -> String {
    let key = base64url(key);
    format!(
        "[[generation]]\nid = \"{id}\"\nstate = \"{state}\"\n\
         created_at = \"2026-11-23T16:25:04Z\"\nkey = \"{key}\"\n"
    )
}

/// A key file's text with these generations.
pub(crate) fn key_file(generations: &[String]) -> String {
    let root = base64url(&[7; 32]);
    format!(
        "version = 1\n{}[hashes]\nroot = \"{root}\"\n",
        generations.concat()
    )
}

pub(crate) fn vault_of(text: &str) -> Vault {
    Vault::new(KeyRing::parse(text).unwrap(), Arc::new(SystemEntropy))
}

pub(crate) fn vault() -> Vault {
    vault_of(&key_file(&[generation(KEY_NAME, "active", &KEY)]))
}

pub(crate) fn sample(vault: &Vault) -> Vec<u8> {
    vault.seal(&CONTEXT, PLAINTEXT).unwrap().bytes
}
