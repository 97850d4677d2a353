#![no_main]
#![forbid(unsafe_code)]
//! A settings file.

use std::path::Path;

use cardless::config::{Environment, Settings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let parsed = Settings::parse(Path::new("fuzz"), text, &Environment::default());
    match parsed {
        Ok(settings) => {
            for name in settings.provider_names() {
                // Decoding may fail; it must only not break.
                drop(settings.provider::<cardless_paypal::Config>(name));
                drop(settings.provider::<cardless_postfinance::Config>(name));
                drop(settings.provider::<cardless_aduno::Config>(name));
            }
            drop(settings.events());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
