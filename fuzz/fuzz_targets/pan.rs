#![no_main]
#![forbid(unsafe_code)]
//! The card-number net.

use cardless::pan::{Scan, find, find_in_url, withhold};
use libfuzzer_sys::fuzz_target;

/// Longer texts take more than one window of a scan, whose ends have tests of their own.
const ONE_WINDOW: usize = 32 * 1024;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let hit = find(&text);
    assert!(hit.is_none() || find_in_url(&text).is_some());
    let left = withhold(&text);
    assert_eq!(find(&left), None, "{left:?}");
    assert_eq!(hit.is_none(), left == text);

    let mut found = 0;
    let mut scan = Scan::new(data);
    while let Some(findings) = scan.step().unwrap() {
        found += findings.len();
    }
    assert_eq!(usize::try_from(scan.bytes()), Ok(data.len()));
    // The scan reads some bytes that are no UTF-8 as separators, so only a clean text compares.
    if data.len() <= ONE_WINDOW && std::str::from_utf8(data).is_ok() && hit.is_some() {
        assert!(found > 0, "{text:?}");
    }
});
