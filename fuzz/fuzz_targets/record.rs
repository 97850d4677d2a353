#![no_main]
#![forbid(unsafe_code)]
//! A sealed record: nothing opens but what was sealed, as it was sealed.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cardless::vault::{Context, KeyRing, Purpose, Vault};
use cardless_contract::SystemEntropy;
use libfuzzer_sys::fuzz_target;

const CONTEXT: Context<'_> = Context {
    account: "abcdefghijklmnopabcdefghijklmnop",
    provider: "paypal",
    merchant: "sandbox-client",
    record: "pm_abcdefghijklmnopabcd",
    purpose: Purpose::Token,
};

/// Sealed under the key below; `seeds/record` has it too.
const SEALED: &str = concat!(
    "AgR4iQWiYCCF1u+jl4vwht89+7k64Ji7gIqZZcb11EEH/XoAAAABAAhjYXJkbGVzcwAsa2VrX2FiY2RlZmdoaWpr",
    "bG1ub3BhYmNkAAAAgAAAAAxcehaenao/s22QOb4AMAY8Tpa+kp/BEdbU0OCMSS4CtJ/3nmbiyWbQW1Bu60Stkqv6",
    "Hma00S+XNQZZs/C2NQIAEAAA7B/e5X/55SeBMxtJSdi+JkrWAPVtPTEMD/W1iYZjDVFTK6PZ3T3MXbeQnI7r4aOc",
    "/////wAAAAEAAAAAAAAAAAAAAAEAAAAVmaojNh83o67CE3Mzqf7zKE7Eqr9yk8CKRM4IPLXWU6Aku2opJg==",
);

static RECORD: LazyLock<Vec<u8>> = LazyLock::new(|| STANDARD.decode(SEALED).unwrap());
static VAULT: LazyLock<Vault> = LazyLock::new(|| {
    let key = URL_SAFE_NO_PAD.encode(b"the wrapping key of the tests 01");
    let root = URL_SAFE_NO_PAD.encode([7; 32]);
    let text = format!(
        "version = 1\n[[generation]]\nid = \"kek_abcdefghijklmnopabcd\"\nstate = \"active\"\n\
         created_at = \"2026-11-23T16:25:04Z\"\nkey = \"{key}\"\n[hashes]\nroot = \"{root}\"\n"
    );
    Vault::new(KeyRing::parse(&text).unwrap(), Arc::new(SystemEntropy))
});

fuzz_target!(|data: &[u8]| {
    if let Ok(opened) = VAULT.open(&CONTEXT, data) {
        assert_eq!(data, RECORD.as_slice());
        assert_eq!(opened.as_slice(), b"canary-provider-token");
    }
});
