#![no_main]
#![forbid(unsafe_code)]
//! See `cardless_fuzz::tokens`.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| cardless_fuzz::tokens(data));
