//! What holds every adapter to the contract: judges made from the providers' published documents,
//! stubs that speak each provider's dialect, and one suite of cases over
//! [`PaymentProvider`](cardless_contract::PaymentProvider).
//!
//! Invariants:
//!
//! - This crate names no adapter and no sandbox; what joins them lives in `tests/contract`.
//! - Nothing here leaves the machine: judges read files, stubs listen on loopback.

pub mod judge;
