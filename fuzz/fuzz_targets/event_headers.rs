#![no_main]
#![forbid(unsafe_code)]
//! Headers and body of an event, as who receives it verifies them: nothing made up does.

use std::sync::LazyLock;

use cardless::webhook::SigningSecrets;
use cardless_contract::{Clock as _, Secrets};
use libfuzzer_sys::fuzz_target;

static SECRETS: LazyLock<SigningSecrets> = LazyLock::new(|| {
    let secret = "whsec_Y2FuYXJ5LXNpZ25pbmctc2VjcmV0LWNhbmFyeQ==".to_owned();
    SigningSecrets::new(&Secrets::new(vec![secret]).unwrap()).unwrap()
});

fuzz_target!(|data: &[u8]| {
    let (headers, body) = cardless_fuzz::message(data);
    let now = cardless_fuzz::Noon.now();
    assert!(SECRETS.verify(&headers, &body, now).is_err());
});
