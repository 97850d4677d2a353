#![no_main]
#![forbid(unsafe_code)]
//! Headers and body of a webhook at each of the three doors: nothing made up verifies.

use std::sync::{Arc, LazyLock};

use cardless_contract::{PaymentProvider, RawNotification};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

static ADAPTERS: LazyLock<[Arc<dyn PaymentProvider>; 3]> = LazyLock::new(cardless_fuzz::adapters);
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());

fuzz_target!(|data: &[u8]| {
    let (headers, body) = cardless_fuzz::message(data);
    let delivery = RawNotification {
        headers: &headers,
        body: &body,
    };
    for adapter in ADAPTERS.iter() {
        let verified = RUNTIME.block_on(adapter.verify_notification(&delivery));
        assert!(verified.is_err(), "{}", adapter.name());
    }
});
