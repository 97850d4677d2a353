//! The vault from outside: records round, damaged, moved and by another implementation; key files.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

mod common;
mod interop;
mod keys;
mod records;
