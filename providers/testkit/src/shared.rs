//! What others have published, in a folder beside the workspace: documents, and vectors of tests.

use std::path::{Path, PathBuf};

/// Set to `1` where a missing file is a failure and not a reason to skip.
pub const REQUIRED: &str = "CARDLESS_REQUIRE_SHARED";

/// The content of a file in the folder that `CARDLESS_SHARED` names, else in `../shared` beside the
/// workspace. If it is not there, the test is named as skipped, or fails where it is required.
#[expect(
    clippy::print_stdout,
    reason = "a test that is skipped says so by name"
)]
pub fn file(path: &str) -> Option<Vec<u8>> {
    let read = std::fs::read(folder().join(path));
    if let Ok(bytes) = read {
        return Some(bytes);
    }
    let required = std::env::var(REQUIRED).is_ok_and(|value| value == "1");
    assert!(!required, "{path} is not there, and it is required here");
    let test = std::thread::current();
    let test = test.name().unwrap_or("a test").to_owned();
    println!("skipped: {test} ({path} is not in the shared folder)");
    None
}

/// The same for a file of JSON.
pub fn json(path: &str) -> Option<serde_json::Value> {
    file(path).map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

fn folder() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    std::env::var_os("CARDLESS_SHARED").map_or(beside, PathBuf::from)
}
