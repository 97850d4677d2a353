//! The three providers on loopback: stateful, wire-level, for development and tests.
#![allow(dead_code, unused_imports)]

pub mod aduno;
mod dialect;
mod ledger;
mod page;
mod paypal;
mod postfinance;

pub use dialect::OutgoingWebhook;
pub use ledger::{Entry, EntryKind, Ledger};
