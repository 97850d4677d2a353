//! Canaries appear nowhere: not in a log line, not in an error or a panic, not in the database's
//! bytes, not in what the program prints.
//!
//! `within` runs a whole life in this process, where the wire can be tapped and a call can be made
//! to panic; `program` runs the program itself, with every verb, kills and crashes. Both plant
//! secrets, look for each in every form that `canary` knows, and print what they looked through
//! (`cargo test --test secrecy -- --nocapture`). The finder is judged first. `thief` has the database
//! file alone, and tries what can be done with it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it looked through"
)]

mod canary;
mod keys;
mod program;
mod stand;
mod thief;
mod wire;
mod within;
