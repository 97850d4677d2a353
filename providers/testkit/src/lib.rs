//! What holds every adapter to the contract: judges made from the providers' published documents,
//! stubs that speak each provider's dialect, and one suite of cases over
//! [`PaymentProvider`](cardless_contract::PaymentProvider).
//!
//! Invariants:
//!
//! - This crate names no adapter and no sandbox; what joins them lives in `tests/contract`.
//! - Nothing here leaves the machine: judges read files, stubs listen on loopback.
//! - A case fails by a panic, as tests do.
#![expect(
    clippy::unwrap_used,
    reason = "this crate is test code, and a panic fails the test"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is not expected fails the case"
)]

pub mod call;
pub mod cases;
pub mod declared;
pub mod judge;
pub mod lines;
pub mod opinion;
pub mod overheard;
pub mod shared;
pub mod stub;
