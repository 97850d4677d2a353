#![no_main]
#![forbid(unsafe_code)]
//! A key file: whatever is wrong with it, the error quotes nothing.

use cardless::vault::KeyRing;
use libfuzzer_sys::fuzz_target;

/// A word that no message of ours has.
const SECRET: &str = "zqxjzqxjzqxj";

fuzz_target!(|text: &str| {
    let text = format!("{text}{SECRET}");
    if let Err(error) = KeyRing::parse(&text) {
        assert!(!error.to_string().contains(SECRET));
    }
});
