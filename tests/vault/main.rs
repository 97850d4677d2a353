//! The vault from outside: records round, damaged, moved and by another implementation; key files.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod common;
mod interop;
mod keys;
mod records;
