//! The sealed exchange from outside: numbers of the RFCs, the Wycheproof files, hostile
//! messages, and whole calls by the library's own client.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "helpers of tests fail by panicking"
)]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

mod calls;
mod clients;
mod dice;
mod foreign;
mod forge;
mod hostile;
mod interop;
mod keys;
mod properties;
mod rfc;
mod stale;
mod world;
mod wycheproof;
