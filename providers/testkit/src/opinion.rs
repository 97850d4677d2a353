//! Second opinions: other implementations, in other languages, that are asked where they are there.

use std::process::Command;

/// Set to `1` where a missing one is a failure and not a reason to skip.
pub const REQUIRED: &str = "CARDLESS_REQUIRE_INTEROP";

/// The program that `variable` names, else `program`, if `probe` succeeds with it: it has `library`
/// then. Otherwise the test is named as skipped, or fails where second opinions are required.
#[expect(
    clippy::print_stdout,
    reason = "a test that is skipped says so by name"
)]
pub fn found(program: &str, variable: &str, probe: &[&str], library: &str) -> Option<String> {
    let program = std::env::var(variable).unwrap_or_else(|_| program.to_owned());
    let probed = Command::new(&program).args(probe).output();
    if probed.is_ok_and(|output| output.status.success()) {
        return Some(program);
    }
    let required = std::env::var(REQUIRED).is_ok_and(|value| value == "1");
    assert!(
        !required,
        "{program} has no {library}, and it is required here"
    );
    let test = std::thread::current();
    let test = test.name().unwrap_or("a second opinion").to_owned();
    println!("skipped: {test} ({program} has no {library})");
    None
}

/// The same for Python (`CARDLESS_PYTHON`, else `python3`).
pub fn python(probe: &[&str], library: &str) -> Option<String> {
    found("python3", "CARDLESS_PYTHON", probe, library)
}
