#![no_main]
#![forbid(unsafe_code)]
//! The body of a webhook of postfinance, once its signature is good.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    cardless_fuzz::check_body(cardless_postfinance::decode_notification(data));
});
